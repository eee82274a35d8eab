//! The hostile requests of T25, as raw bytes over a real socket: I17.
//!
//! Each case is a request that a web page, a rebound name or a curious local program can cause. The
//! router behind the guard counts what reaches it and answers with a canary: both must stay unseen.

use super::{BODY_BYTES_MAX, Door, guard};
use axum::Router;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const TOKEN: &str = "3f0c6b6a7b1d4b0f9a57";
const CANARY: &str = "canary-in-the-store";
const JSON: &str = "Content-Type: application/json";

struct Door17 {
    port: u16,
    reached: Arc<AtomicUsize>,
}

impl Door17 {
    async fn open() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let bound = listener.local_addr().expect("it is bound");
        let reached = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&reached);
        let router = Router::new().fallback(move || {
            count.fetch_add(1, Ordering::SeqCst);
            async { CANARY }
        });
        let door = Door::tcp(bound, TOKEN);
        let router = router.layer(axum::middleware::from_fn_with_state(door, guard));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self {
            port: bound.port(),
            reached,
        }
    }

    /// The status and the whole answer to `request`, in which `PORT` and `TOKEN` are filled in.
    async fn ask(&self, request: &str) -> (u16, String) {
        let request = request
            .replace("PORT", &self.port.to_string())
            .replace("TOKEN", TOKEN);
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))
            .await
            .expect("the door is open");
        stream
            .write_all(request.as_bytes())
            .await
            .expect("it listens");
        stream.shutdown().await.expect("it listens");
        let mut answer = Vec::new();
        // A connection reset after the answer is an answer too.
        let _ = stream.read_to_end(&mut answer).await;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let status = answer
            .split(' ')
            .nth(1)
            .and_then(|code| code.parse().ok())
            .unwrap_or(0);
        (status, answer)
    }
}

fn request(line: &str, headers: &[&str]) -> String {
    format!(
        "{line} HTTP/1.1\r\n{}\r\nConnection: close\r\n\r\n",
        headers.join("\r\n")
    )
}

const HOST: &str = "Host: 127.0.0.1:PORT";
const AUTH: &str = "Authorization: Bearer TOKEN";
const POST: &str = "POST /v1/memories";
const LIST: &str = "GET /v1/memories";

/// Requests with a valid token but a wrong `Host`: what a rebound name looks like from inside.
fn rebound() -> Vec<String> {
    let hosts = [
        "Host: evil.example",
        "Host: evil.example:PORT",
        "Host: 127.0.0.1.nip.io:PORT",
        "Host: localhost.evil.example:PORT",
        "Host: 127.0.0.1",
        "Host: localhost",
        "Host: 127.0.0.1:1",
        "Host: 0.0.0.0:PORT",
        "Host: [::]:PORT",
        "Host: 127.1:PORT",
        "Host: 2130706433:PORT",
        "Host: 0x7f000001:PORT",
        "Host: 127.0.0.2:PORT",
        "Host: user@127.0.0.1:PORT",
        "Host: 127.0.0.1:PORT.evil.example",
        "Host: localhost.:PORT",
        "Host: [::ffff:127.0.0.1]:PORT",
        "Host: ",
    ];
    let mut cases: Vec<String> = hosts
        .iter()
        .map(|host| request(LIST, &[host, AUTH]))
        .collect();
    cases.push(request(LIST, &[AUTH]));
    cases.push(request(LIST, &[HOST, "Host: evil.example", AUTH]));
    cases.push(request(
        "GET http://evil.example/v1/memories",
        &[HOST, AUTH],
    ));
    cases.push(format!("GET /v1/memories HTTP/1.0\r\n{AUTH}\r\n\r\n"));
    cases
}

/// Requests with a valid token and host that a page of another origin made.
fn cross_origin() -> Vec<String> {
    let origins = [
        "Origin: http://evil.example",
        "Origin: https://evil.example:PORT",
        "Origin: null",
        "Origin: https://127.0.0.1:PORT",
        "Origin: http://127.0.0.1",
        "Origin: http://127.0.0.1:1",
        "Origin: http://localhost:PORT.evil.example",
        "Origin: file://",
        "Origin: ",
        "Sec-Fetch-Site: cross-site",
        "Sec-Fetch-Site: same-site",
    ];
    let mut cases: Vec<String> = origins
        .iter()
        .map(|origin| request(POST, &[HOST, AUTH, JSON, origin]))
        .collect();
    let own = "Origin: http://127.0.0.1:PORT";
    cases.push(request(
        LIST,
        &[HOST, AUTH, own, "Origin: http://evil.example"],
    ));
    cases.push(request(
        "OPTIONS /v1/memories",
        &[
            HOST,
            "Origin: http://evil.example",
            "Access-Control-Request-Method: POST",
        ],
    ));
    cases
}

/// Requests of the right host and origin without the right token.
fn unauthorised() -> Vec<String> {
    let tokens = [
        "X-Nothing: here",
        "Authorization: Bearer ",
        "Authorization: Bearer wrong",
        "Authorization: Basic TOKEN",
        "Authorization: TOKEN",
        "Authorization: Bearer TOKENTOKEN",
        "Cookie: token=TOKEN",
    ];
    let mut cases: Vec<String> = tokens
        .iter()
        .map(|token| request(LIST, &[HOST, token]))
        .collect();
    cases.push(request("GET /v1/memories?token=TOKEN", &[HOST]));
    cases.push(request(LIST, &[HOST, AUTH, "Authorization: Bearer wrong"]));
    cases.push(request("POST /healthz", &[HOST, JSON]));
    cases.push(request("GET /healthz/../v1/memories", &[HOST]));
    cases.push(request("GET /metrics", &[HOST]));
    cases.push(request("POST /mcp", &[HOST, JSON]));
    cases
}

/// Authorised requests whose bodies a form or a script could send without asking, or too long.
fn bodies() -> Vec<(u16, String)> {
    let kinds = [
        "Content-Type: text/plain",
        "Content-Type: application/x-www-form-urlencoded",
        "Content-Type: multipart/form-data; boundary=x",
        "Content-Type: text/plain; application/json",
        "X-Nothing: here",
    ];
    let mut cases: Vec<(u16, String)> = kinds
        .iter()
        .map(|kind| (415, request(POST, &[HOST, AUTH, kind])))
        .collect();
    let two = request(POST, &[HOST, AUTH, JSON, "Content-Type: text/plain"]);
    cases.push((415, two));
    let long = format!("Content-Length: {}", BODY_BYTES_MAX + 1);
    cases.push((413, request(POST, &[HOST, AUTH, JSON, &long])));
    cases
}

#[tokio::test]
async fn i17_no_hostile_request_changes_or_reveals_anything() {
    let door = Door17::open().await;
    let mut cases: Vec<(u16, String)> = Vec::new();
    cases.extend(rebound().into_iter().map(|request| (403, request)));
    cases.extend(cross_origin().into_iter().map(|request| (403, request)));
    cases.extend(unauthorised().into_iter().map(|request| (401, request)));
    cases.extend(bodies());
    assert!(
        cases.len() >= 40,
        "the matrix has only {} cases",
        cases.len()
    );
    for (expected, request) in &cases {
        let (status, answer) = door.ask(request).await;
        // 400 is hyper's own refusal of what is no HTTP: it never reached the guard.
        assert!(
            status == *expected || status == 400,
            "{status} instead of {expected}: {request}"
        );
        assert!(!answer.contains(CANARY), "revealed: {request}");
        assert!(
            !answer.to_lowercase().contains("access-control"),
            "CORS: {request}"
        );
    }
    assert_eq!(
        door.reached.load(Ordering::SeqCst),
        0,
        "a hostile request reached the router"
    );
}

#[tokio::test]
async fn i17_honest_requests_pass_by_each_name_of_the_loopback() {
    let door = Door17::open().await;
    let honest = [
        request(LIST, &[HOST, AUTH]),
        request(LIST, &["Host: localhost:PORT", AUTH]),
        request(
            LIST,
            &["Host: LOCALHOST:PORT", "Authorization: bearer TOKEN"],
        ),
        request(
            LIST,
            &["Host: [::1]:PORT", AUTH, "Origin: http://[::1]:PORT"],
        ),
        request(
            LIST,
            &[
                HOST,
                AUTH,
                "Origin: http://localhost:PORT",
                "Sec-Fetch-Site: none",
            ],
        ),
        request(
            POST,
            &[HOST, AUTH, "Content-Type: application/json; charset=utf-8"],
        ),
        request("DELETE /v1/memories/00", &[HOST, AUTH]),
        request("GET /healthz", &[HOST]),
    ];
    for request in &honest {
        let (status, answer) = door.ask(request).await;
        assert_eq!(status, 200, "{request}\n{answer}");
    }
    assert_eq!(door.reached.load(Ordering::SeqCst), honest.len());
}

#[test]
fn a_door_open_to_the_network_is_named_by_literal_addresses_only() {
    let bound = "0.0.0.0:27470".parse().expect("an address");
    for (name, own) in [
        ("192.168.1.7:27470", true),
        ("[fd00::1]:27470", true),
        ("localhost:27470", true),
        ("0.0.0.0:27470", false),
        ("192.168.1.7:80", false),
        ("hive.example:27470", false),
    ] {
        assert_eq!(super::is_own(bound, name), own, "{name}");
    }
}

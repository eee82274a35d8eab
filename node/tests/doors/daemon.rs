//! A node in a home of its own, and the ways to it.

use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Output, Stdio};
use tempfile::TempDir;

/// A running `aquifer up`, killed at the end of its test.
pub(crate) struct Daemon {
    pub(crate) home: TempDir,
    pub(crate) status: Value,
    child: Child,
}

/// What a command answered.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) exit: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Said {
    /// The JSON of stdout.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|fault| panic!("{fault}: {self:?}"))
    }

    /// The JSON of stdout, of a command that succeeded.
    pub(crate) fn data(&self) -> Value {
        assert_eq!(self.exit, 0, "{self:?}");
        self.json()["data"].clone()
    }
}

/// `aquifer`, with no terminal, no colours and nobody's settings.
pub(crate) fn aquifer() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_aquifer"));
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        if name.starts_with("AQUIFER_") || name.starts_with("CLAUDE") || name.starts_with("CODEX") {
            command.env_remove(name);
        }
    }
    command.env("NO_COLOR", "1").stdin(Stdio::null());
    command
}

/// Flags that keep a node to this machine and to free ports.
pub(crate) const HERE: [&str; 7] = [
    "--region",
    "eu",
    "--api",
    "127.0.0.1:0",
    "--listen",
    "/ip4/127.0.0.1/tcp/0",
    "--no-mdns",
];

impl Daemon {
    /// Starts a node and waits until it answers.
    pub(crate) fn up() -> Self {
        let home = tempfile::tempdir().expect("a folder");
        let mut child = aquifer()
            .args(["up", "--json", "--quiet", "--home"])
            .arg(home.path())
            .args(HERE)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let mut line = String::new();
        let out = child.stdout.take().expect("it is piped");
        BufReader::new(out)
            .read_line(&mut line)
            .expect("it says something");
        let said: Value = serde_json::from_str(&line).expect("it says JSON");
        assert_eq!(said["ok"], true, "{line}");
        Self {
            home,
            status: said["data"].clone(),
            child,
        }
    }

    /// Runs a verb against this node.
    pub(crate) fn run(&self, arguments: &[&str]) -> Said {
        self.run_with(arguments, b"")
    }

    /// Runs a verb against this node with something on stdin.
    pub(crate) fn run_with(&self, arguments: &[&str], stdin: &[u8]) -> Said {
        let mut command = aquifer();
        command.args(arguments).arg("--home").arg(self.home.path());
        said(command, stdin)
    }

    /// Sends one HTTP request over TCP; the status, the headers and the body of the answer.
    pub(crate) fn ask(&self, line: &str, token: Option<&str>, body: Option<&str>) -> Answer {
        let api = self.status["api"].as_str().expect("an address");
        let mut request = format!("{line} HTTP/1.1\r\nHost: {api}\r\nConnection: close\r\n");
        if let Some(token) = token {
            request += &format!("Authorization: Bearer {token}\r\n");
        }
        if let Some(body) = body {
            let length = body.len();
            request += &format!("Content-Type: application/json\r\nContent-Length: {length}\r\n");
        }
        request += "\r\n";
        request += body.unwrap_or_default();
        let mut stream = TcpStream::connect(api).expect("the API listens");
        stream.write_all(request.as_bytes()).expect("it listens");
        let mut answer = String::new();
        stream
            .read_to_string(&mut answer)
            .expect("it answers in text");
        Answer::read(&answer)
    }

    /// What every request over TCP bears.
    pub(crate) fn token(&self) -> String {
        let token = std::fs::read_to_string(self.home.path().join("api.token"));
        token.expect("the owner can read it").trim().to_owned()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a command to its end.
pub(crate) fn said(mut command: Command, stdin: &[u8]) -> Said {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().expect("the binary starts");
    // A command that reads no stdin may have ended already.
    let _ = child.stdin.take().expect("it is piped").write_all(stdin);
    let Output {
        status,
        stdout,
        stderr,
    } = child.wait_with_output().expect("it ends");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("it speaks UTF-8");
    Said {
        exit: status.code().unwrap_or(-1),
        out: text(stdout),
        err: text(stderr),
    }
}

/// An answer of HTTP.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    fn read(answer: &str) -> Self {
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
        let status = head
            .split(' ')
            .nth(1)
            .and_then(|code| code.parse().ok())
            .expect("a status");
        let head = head.to_lowercase();
        let chunked = head.contains("transfer-encoding: chunked");
        let body = if chunked {
            unchunked(body)
        } else {
            body.to_owned()
        };
        Self { status, head, body }
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|fault| panic!("{fault}: {self:?}"))
    }
}

fn unchunked(mut body: &str) -> String {
    let mut out = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).expect("a size");
        if size == 0 {
            break;
        }
        out += &rest[..size];
        body = &rest[size + 2..];
    }
    out
}

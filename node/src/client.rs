//! The client of the daemon on this machine: what the command line speaks through.
//!
//! One request, one connection: over the Unix socket of the node's home, or over TCP with the
//! home's token where there is no such socket. Requests and answers are the types of `api`; a
//! refusal comes back as the [`Problem`] that the daemon met, a daemon that is not there as
//! `daemon_unreachable` (exit 4). Answers are bounded, and so is the time they may take.
//!
//! Not here: what the routes are (`surface`), how answers are printed (`cli`).

mod agents;
mod lines;
mod models;
mod swarm;
mod tasks;

use crate::api::{
    Explain, Explained, Finding, Forget, Forgotten, Found, Invite, Invited, List, Listed,
    MemoryView, NewTopic, PolicyView, Problem, Recall, Recalled, Remember, Remembered, Status,
    TopicView, VersionView,
};
use crate::home::Home;
use crate::surface::problem::problem_of;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{AUTHORIZATION, CONNECTION, CONTENT_TYPE, HOST, UPGRADE};
use hyper::upgrade::Upgraded;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::{Display, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

pub use lines::Lines;

/// The longest answer that is read, in bytes: 128 MiB, a thousand of the longest memories.
const ANSWER_BYTES_MAX: usize = 128 * 1024 * 1024;

/// How long a daemon may take beyond what it was asked to wait.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the daemon waits for receipts when the request does not say, in milliseconds.
const WAIT_MS: u64 = 10_000;

/// A way to a daemon.
#[derive(Clone, Debug)]
pub struct Client {
    way: Way,
}

#[derive(Clone, Debug)]
enum Way {
    #[cfg(unix)]
    Socket(PathBuf),
    Tcp {
        api_file: PathBuf,
        token_file: PathBuf,
    },
}

impl Client {
    /// The way to the daemon of `home`: its socket, or TCP where there is none.
    #[must_use]
    pub fn of(home: &Home) -> Self {
        #[cfg(unix)]
        return Self {
            way: Way::Socket(home.socket()),
        };
        #[cfg(not(unix))]
        Self::over_tcp(home)
    }

    /// The way to the daemon of `home` over TCP, with the address and token it has left there.
    #[must_use]
    pub fn over_tcp(home: &Home) -> Self {
        Self {
            way: Way::Tcp {
                api_file: home.api_file(),
                token_file: home.token_file(),
            },
        }
    }

    /// Remembers something.
    ///
    /// # Errors
    /// Whatever the daemon refuses; `daemon_unreachable`, `timeout`. So for every call below.
    pub async fn remember(&self, request: &Remember) -> Result<Remembered, Problem> {
        let wait = request.wait_ms.unwrap_or(WAIT_MS);
        self.waiting(wait, Method::POST, "/v1/memories", request)
            .await
    }

    /// Remembers up to [`crate::api::BATCH_MAX`] memories of one topic, all or none.
    ///
    /// # Errors
    /// As [`Client::remember`].
    pub async fn remember_many(&self, requests: &[Remember]) -> Result<Vec<Remembered>, Problem> {
        self.waiting(WAIT_MS, Method::POST, "/v1/memories:batch", &requests)
            .await
    }

    /// Finds memories.
    ///
    /// # Errors
    /// As [`Client::remember`].
    pub async fn recall(&self, request: &Recall) -> Result<Recalled, Problem> {
        let wait = request.wait_ms.unwrap_or(0);
        self.waiting(wait, Method::POST, "/v1/search", request)
            .await
    }

    /// One memory, by its id or a unique prefix of it.
    ///
    /// # Errors
    /// As [`Client::remember`]; `not_found`.
    pub async fn get(&self, id: &str) -> Result<MemoryView, Problem> {
        self.ask(&format!("/v1/memories/{}", encoded(id))).await
    }

    /// A page of memories, newest first.
    ///
    /// # Errors
    /// As [`Client::remember`].
    pub async fn list(&self, list: &List) -> Result<Listed, Problem> {
        self.ask(&format!("/v1/memories?{}", query(list))).await
    }

    /// The versions of a memory.
    ///
    /// # Errors
    /// As [`Client::remember`]; `not_found`.
    pub async fn history(&self, id: &str) -> Result<Vec<VersionView>, Problem> {
        self.ask(&format!("/v1/memories/{}/history", encoded(id)))
            .await
    }

    /// Forgets memories for good.
    ///
    /// # Errors
    /// As [`Client::remember`].
    pub async fn forget(&self, request: &Forget) -> Result<Forgotten, Problem> {
        let wait = request.wait_ms.unwrap_or(WAIT_MS);
        self.waiting(wait, Method::POST, "/v1/forget", request)
            .await
    }

    /// Every topic that the node knows.
    ///
    /// # Errors
    /// As [`Client::remember`].
    pub async fn topics(&self) -> Result<Vec<TopicView>, Problem> {
        self.ask("/v1/topics").await
    }

    /// Founds a topic.
    ///
    /// # Errors
    /// As [`Client::remember`].
    pub async fn topic_create(&self, request: &NewTopic) -> Result<TopicView, Problem> {
        self.waiting(0, Method::POST, "/v1/topics", request).await
    }

    /// A topic and its law.
    ///
    /// # Errors
    /// As [`Client::remember`]; `not_found`.
    pub async fn topic(&self, name: &str) -> Result<TopicView, Problem> {
        self.ask(&format!("/v1/topics/{}/policy", encoded(name)))
            .await
    }

    /// Gives a topic a new law.
    ///
    /// # Errors
    /// As [`Client::remember`].
    pub async fn policy_set(&self, name: &str, law: &PolicyView) -> Result<TopicView, Problem> {
        let path = format!("/v1/topics/{}/policy", encoded(name));
        self.waiting(0, Method::PUT, &path, law).await
    }

    /// Whether data of a topic may go somewhere.
    ///
    /// # Errors
    /// As [`Client::remember`].
    pub async fn explain(&self, request: &Explain) -> Result<Explained, Problem> {
        self.waiting(0, Method::POST, "/v1/policy:explain", request)
            .await
    }

    /// The node's status.
    ///
    /// # Errors
    /// As [`Client::remember`].
    pub async fn status(&self) -> Result<Status, Problem> {
        self.ask("/v1/status").await
    }

    /// Where a node listens, or who holds a topic.
    ///
    /// # Errors
    /// As [`Client::remember`]; `not_found` if nobody knows.
    pub async fn find(&self, what: &str) -> Result<Found, Problem> {
        self.ask(&format!("/v1/find?what={}", encoded(what))).await
    }

    /// What is wrong with the node.
    ///
    /// # Errors
    /// As [`Client::remember`].
    pub async fn doctor(&self) -> Result<Vec<Finding>, Problem> {
        self.ask("/v1/doctor").await
    }

    /// A ticket for one more machine.
    ///
    /// # Errors
    /// As [`Client::remember`].
    pub async fn invite(&self, request: &Invite) -> Result<Invited, Problem> {
        self.waiting(0, Method::POST, "/v1/invites", request).await
    }

    /// Tells the node to stop. It answers before it has.
    ///
    /// # Errors
    /// As [`Client::remember`].
    pub async fn stop(&self) -> Result<(), Problem> {
        let _: serde_json::Value = self.waiting(0, Method::POST, "/v1/stop", &()).await?;
        Ok(())
    }

    /// What happens from now on, as the lines of a stream of server-sent events.
    ///
    /// # Errors
    /// As [`Client::remember`].
    pub async fn events(&self, topic: Option<&str>) -> Result<Lines, Problem> {
        let query = topic
            .map(|topic| format!("?topic={}", encoded(topic)))
            .unwrap_or_default();
        self.lines(&format!("/v1/events{query}")).await
    }

    /// Every memory that `list` selects, one JSON object a line.
    ///
    /// # Errors
    /// As [`Client::remember`].
    pub async fn export(&self, list: &List) -> Result<Lines, Problem> {
        self.lines(&format!("/v1/export?{}", query(list))).await
    }

    /// A connection that speaks MCP, one JSON-RPC message a line.
    ///
    /// # Errors
    /// As [`Client::remember`].
    pub async fn mcp(&self) -> Result<TokioIo<Upgraded>, Problem> {
        let request = request(Method::GET, "/v1/mcp/stream")
            .header(CONNECTION, "upgrade")
            .header(UPGRADE, "aquifer-mcp");
        let response = self.send(request, Bytes::new()).await?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(refused(response).await);
        }
        hyper::upgrade::on(response)
            .await
            .map(TokioIo::new)
            .map_err(|cause| broken(&cause))
    }

    async fn ask<A: DeserializeOwned>(&self, path: &str) -> Result<A, Problem> {
        let request = request(Method::GET, path);
        within(PATIENCE, self.answer(request, Bytes::new())).await
    }

    /// Sends `body` and waits `wait_ms` longer than for anything else.
    async fn waiting<A: DeserializeOwned>(
        &self,
        wait_ms: u64,
        method: Method,
        path: &str,
        body: &(impl Serialize + Sync),
    ) -> Result<A, Problem> {
        let body = serde_json::to_vec(body).expect("a request is JSON");
        let request = request(method, path).header(CONTENT_TYPE, "application/json");
        let patience = PATIENCE.saturating_add(Duration::from_millis(wait_ms));
        within(patience, self.answer(request, body.into())).await
    }

    async fn answer<A: DeserializeOwned>(
        &self,
        request: hyper::http::request::Builder,
        body: Bytes,
    ) -> Result<A, Problem> {
        let response = self.send(request, body).await?;
        if !response.status().is_success() {
            return Err(refused(response).await);
        }
        let bytes = collect(response.into_body()).await?;
        serde_json::from_slice(&bytes).map_err(|fault| {
            let hint = "are `aquifer` and its daemon of one version? restart the daemon";
            let message = format!("the daemon's answer cannot be read: {fault}");
            Problem::new("daemon_answered_badly", 1, message, hint)
        })
    }

    async fn lines(&self, path: &str) -> Result<Lines, Problem> {
        let request = request(Method::GET, path);
        let response = within(PATIENCE, self.send(request, Bytes::new())).await?;
        if !response.status().is_success() {
            return Err(refused(response).await);
        }
        Ok(Lines::of(response.into_body()))
    }

    async fn send(
        &self,
        request: hyper::http::request::Builder,
        body: Bytes,
    ) -> Result<Response<Incoming>, Problem> {
        match &self.way {
            #[cfg(unix)]
            Way::Socket(path) => {
                let stream = tokio::net::UnixStream::connect(path).await;
                let stream = stream.map_err(|_| unreachable(&path.display()))?;
                exchange(stream, request.header(HOST, "localhost"), body).await
            }
            Way::Tcp {
                api_file,
                token_file,
            } => {
                let api = left_behind(api_file).await?;
                let token = left_behind(token_file).await?;
                let stream = TcpStream::connect(&api)
                    .await
                    .map_err(|_| unreachable(&api))?;
                let request = request
                    .header(HOST, api)
                    .header(AUTHORIZATION, format!("Bearer {token}"));
                exchange(stream, request, body).await
            }
        }
    }
}

fn request(method: Method, path: &str) -> hyper::http::request::Builder {
    Request::builder().method(method).uri(path)
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: hyper::http::request::Builder,
    body: Bytes,
) -> Result<Response<Incoming>, Problem> {
    let request = request
        .body(Full::new(body))
        .map_err(|cause| broken(&cause))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|cause| broken(&cause))?;
    tokio::spawn(connection.with_upgrades());
    sender
        .send_request(request)
        .await
        .map_err(|cause| broken(&cause))
}

async fn within<T>(
    patience: Duration,
    call: impl Future<Output = Result<T, Problem>>,
) -> Result<T, Problem> {
    tokio::time::timeout(patience, call)
        .await
        .unwrap_or_else(|_| {
            let message = format!("no answer within {} s", patience.as_secs());
            Err(Problem::new(
                "timeout",
                124,
                message,
                "`aquifer doctor` may know why",
            ))
        })
}

async fn collect(body: Incoming) -> Result<Bytes, Problem> {
    Limited::new(body, ANSWER_BYTES_MAX)
        .collect()
        .await
        .map(http_body_util::Collected::to_bytes)
        .map_err(|cause| broken(&cause))
}

async fn refused(response: Response<Incoming>) -> Problem {
    let status = response.status().as_u16();
    match collect(response.into_body()).await {
        Ok(body) => problem_of(status, &body),
        Err(problem) => problem,
    }
}

async fn left_behind(file: &Path) -> Result<String, Problem> {
    let text = tokio::fs::read_to_string(file).await;
    text.map(|text| text.trim().to_owned())
        .map_err(|_| unreachable(&file.display()))
}

fn unreachable(place: &dyn Display) -> Problem {
    Problem::new(
        "daemon_unreachable",
        4,
        format!("no daemon answers at {place}"),
        "start it with `aquifer up --detach`, or say which with --home",
    )
}

fn broken(cause: &dyn Display) -> Problem {
    let message = format!("the daemon broke off: {cause}");
    Problem::new(
        "daemon_unreachable",
        4,
        message,
        "`aquifer status` says whether it still runs",
    )
}

fn query(list: &List) -> String {
    let mut pairs: Vec<(&str, String)> = Vec::new();
    pairs.extend(list.topic.iter().map(|topic| ("topic", topic.clone())));
    pairs.extend(list.tags.iter().map(|tag| ("tag", tag.clone())));
    pairs.extend(list.since.map(|since| ("since", since.to_string())));
    pairs.extend(list.limit.map(|limit| ("limit", limit.to_string())));
    pairs.extend(list.cursor.iter().map(|cursor| ("cursor", cursor.clone())));
    let pairs: Vec<String> = pairs
        .into_iter()
        .map(|(name, value)| format!("{name}={}", encoded(&value)))
        .collect();
    pairs.join("&")
}

/// Percent-encodes all but the unreserved characters of RFC 3986.
fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_with_slashes_is_one_segment_of_a_path() {
        assert_eq!(
            encoded("org/eu/personal data"),
            "org%2Feu%2Fpersonal%20data"
        );
        assert_eq!(encoded("é?&="), "%C3%A9%3F%26%3D");
    }

    #[tokio::test]
    async fn a_daemon_that_is_not_there_is_exit_4_and_says_how_to_start_it() {
        let empty = tempfile::tempdir().expect("a folder");
        let home = Home::at(Some(empty.path().to_owned()));
        for client in [Client::of(&home), Client::over_tcp(&home)] {
            let problem = client.status().await.expect_err("nobody is there");
            assert_eq!(
                (problem.code.as_str(), problem.exit),
                ("daemon_unreachable", 4)
            );
            assert!(problem.hint.contains("aquifer up"));
        }
    }
}

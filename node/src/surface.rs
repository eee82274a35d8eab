//! The doors of a node on its own machine: HTTP `/v1` and the Model Context Protocol.
//!
//! [`Doors::open`] binds both listeners, so that a port taken is known before anything else
//! happens; [`Doors::serve`] answers until it is told to stop. Every request goes through the guard
//! (`door`), then to a handler that translates it to one call of [`Memory`] and its answer back:
//! nothing is decided here. The routes and their description are one list (`openapi`).
//!
//! axum and rmcp are named in this folder and nowhere else.

mod agents;
mod door;
mod listen;
mod mcp;
mod memories;
mod models;
mod openapi;
mod operations;
pub(crate) mod problem;
mod tasks;
mod topics;

use crate::api::Problem;
use crate::memory::Memory;
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{Method, Uri};
use axum::middleware::from_fn_with_state;
use door::Door;
use problem::{BODY_BYTES_MAX, Refusal};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// How long requests that run may still take once the doors close.
const CLOSING: Duration = Duration::from_secs(3);

/// How many agents may speak MCP over a stream at once.
const STREAMS_MAX: usize = 64;

/// Where the doors are.
#[derive(Clone, Debug)]
pub struct Place {
    /// The address of the TCP listener; port 0 for any free one.
    pub api: SocketAddr,
    /// Whether `api` may be an address that other machines can reach.
    pub insecure: bool,
    /// The path of the Unix socket. Its folder must be its owner's alone.
    pub socket: PathBuf,
    /// What every request over TCP bears.
    pub token: String,
}

/// The doors, bound and not yet answering.
#[derive(Debug)]
pub struct Doors {
    tcp: tokio::net::TcpListener,
    #[cfg(unix)]
    socket: listen::OwnerOnly,
    bound: SocketAddr,
    token: String,
    stop: CancellationToken,
}

/// What every handler is given.
#[derive(Clone)]
struct App {
    memory: Memory,
    stop: CancellationToken,
    streams: Arc<Semaphore>,
    document: Arc<str>,
    mcp: mcp::transport::Http,
}

impl Doors {
    /// Binds both listeners. Connections that arrive wait until [`Doors::serve`].
    ///
    /// # Errors
    /// `insecure_api` when other machines could reach the address and nobody said that they may,
    /// `port_taken`, `api_unavailable` or `socket_unavailable` when a listener cannot be bound.
    pub async fn open(place: Place) -> Result<Self, Problem> {
        if !place.api.ip().is_loopback() && !place.insecure {
            return Err(Problem::new(
                "insecure_api",
                2,
                format!(
                    "{} can be reached by other machines, over plain HTTP",
                    place.api
                ),
                "use 127.0.0.1, or add --insecure if a proxy with TLS stands before it",
            ));
        }
        let tcp = listen::tcp(place.api).await?;
        let bound = tcp.local_addr().map_err(|cause| {
            Problem::new(
                "api_unavailable",
                1,
                format!("the API has no address: {cause}"),
                "",
            )
        })?;
        Ok(Self {
            tcp,
            #[cfg(unix)]
            socket: listen::OwnerOnly::bind(&place.socket)?,
            bound,
            token: place.token,
            stop: CancellationToken::new(),
        })
    }

    /// The address of the TCP listener.
    #[must_use]
    pub fn api(&self) -> SocketAddr {
        self.bound
    }

    /// Cancel it to close the doors; a client that asks to stop cancels it too.
    #[must_use]
    pub fn stop(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Answers until [`Doors::stop`] is cancelled, and then for at most three seconds more.
    pub async fn serve(self, memory: Memory) {
        let app = router(memory, self.bound, &self.stop);
        let guarded = |door| app.clone().layer(from_fn_with_state(door, door::guard));
        let tcp = axum::serve(self.tcp, guarded(Door::tcp(self.bound, &self.token)))
            .with_graceful_shutdown(self.stop.clone().cancelled_owned());
        #[cfg(unix)]
        let served = async {
            let socket = axum::serve(self.socket, guarded(Door::Socket))
                .with_graceful_shutdown(self.stop.clone().cancelled_owned());
            tokio::join!(tcp.into_future(), socket.into_future())
        };
        #[cfg(not(unix))]
        let served = tcp.into_future();
        let late = async {
            self.stop.cancelled().await;
            tokio::time::sleep(CLOSING).await;
        };
        tokio::select! {
            _ = served => {}
            () = late => tracing::info!("requests that still ran were cut off"),
        }
    }
}

/// Every route, without a guard.
fn router(memory: Memory, bound: SocketAddr, stop: &CancellationToken) -> Router {
    let (routes, document) = openapi::routes();
    let app = App {
        mcp: mcp::transport::http(memory.clone(), bound, stop),
        memory,
        stop: stop.clone(),
        streams: Arc::new(Semaphore::new(STREAMS_MAX)),
        document: document.into(),
    };
    routes
        .fallback(no_such_route)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(app)
}

async fn no_such_route(uri: Uri) -> Refusal {
    let hint = "see /openapi.json for what there is";
    Problem::new(
        "no_such_route",
        3,
        format!("there is no {}", uri.path()),
        hint,
    )
    .into()
}

async fn method_not_allowed(method: Method, uri: Uri) -> Refusal {
    let message = format!("{} takes no {method}", uri.path());
    let hint = "see /openapi.json for what it takes";
    Problem::new("method_not_allowed", 2, message, hint).into()
}

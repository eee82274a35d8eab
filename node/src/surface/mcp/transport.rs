//! How MCP's bytes arrive: `POST /mcp`, and a stream that `aquifer mcp` carries to stdin and stdout.
//!
//! `/mcp` is the Streamable HTTP transport without sessions, so that any node behind a balancer
//! answers any request. The stream is an HTTP/1.1 upgrade (RFC 9110 §7.8) to lines of JSON-RPC, the
//! stdio transport as it is: the shim copies bytes and knows nothing of MCP, so that a client of any
//! revision is served by the daemon's one implementation.

use super::Agent;
use crate::api::Problem;
use crate::memory::Memory;
use crate::surface::App;
use crate::surface::problem::{BODY_BYTES_MAX, ProblemDetails, Refusal};
use axum::extract::{Request, State};
use axum::http::header::{CONNECTION, UPGRADE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use rmcp::ServiceExt;
use rmcp::transport::async_rw::AsyncRwTransport;
use rmcp::transport::streamable_http_server::session::never::NeverSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;

/// What `aquifer mcp` asks the connection to become.
pub(crate) const PROTOCOL: &str = "aquifer-mcp";

/// The Streamable HTTP service.
pub(in crate::surface) type Http = StreamableHttpService<Agent, NeverSessionManager>;

/// The service at `/mcp` of a door bound to `bound`.
pub(in crate::surface) fn http(
    memory: Memory,
    bound: SocketAddr,
    stop: &CancellationToken,
) -> Http {
    let port = bound.port();
    let origins = ["127.0.0.1", "localhost", "[::1]"].map(|host| format!("http://{host}:{port}"));
    let config = StreamableHttpServerConfig::default()
        .with_legacy_session_mode(false)
        .with_json_response(true)
        .with_max_request_body_bytes(BODY_BYTES_MAX)
        .with_allowed_origins(origins)
        .enforce_origin_validation()
        .with_cancellation_token(stop.child_token());
    // The guard has checked Host; it alone knows which names a door open to the network has.
    let config = if bound.ip().is_loopback() {
        config
    } else {
        config.disable_allowed_hosts()
    };
    let agent = Agent::new(memory);
    Http::new(
        move || Ok(agent.clone()),
        Arc::new(NeverSessionManager::default()),
        config,
    )
}

/// The Model Context Protocol, Streamable HTTP transport, without sessions.
#[utoipa::path(post, path = "/mcp", tag = "agents",
    request_body(content_type = "application/json", description = "A JSON-RPC message"),
    responses(
    (status = 200, content_type = "application/json", description = "A JSON-RPC response"),
    (status = 202, description = "A notification was taken"),
))]
pub(in crate::surface) async fn post(
    State(app): State<App>,
    request: Request,
) -> impl IntoResponse {
    app.mcp.handle(request).await
}

/// The Model Context Protocol, stdio transport, over an upgraded connection.
#[utoipa::path(get, path = "/v1/mcp/stream", tag = "agents",
    params(("upgrade" = String, Header, description = "`aquifer-mcp`")), responses(
    (status = 101, description = "From here on, one JSON-RPC message a line, both ways"),
    (status = "default", body = ProblemDetails, content_type = "application/problem+json"),
))]
pub(in crate::surface) async fn stream(
    State(app): State<App>,
    mut request: Request,
) -> Result<impl IntoResponse, Refusal> {
    let upgrade = request.extensions_mut().remove::<OnUpgrade>();
    let (true, Some(upgrade)) = (is_wanted(request.headers()), upgrade) else {
        let hint = "`aquifer mcp` does this; over HTTP use POST /mcp";
        let message = format!("this route needs `Upgrade: {PROTOCOL}`");
        return Err(Problem::new("upgrade_required", 2, message, hint).into());
    };
    let permit = Arc::clone(&app.streams).try_acquire_owned().map_err(|_| {
        let hint = "end an agent that is no longer used";
        Problem::new("busy", 1, "too many agents are connected", hint)
    })?;
    tokio::spawn(converse(upgrade, Agent::new(app.memory), app.stop, permit));
    Ok((
        StatusCode::SWITCHING_PROTOCOLS,
        [(CONNECTION, "upgrade"), (UPGRADE, PROTOCOL)],
    ))
}

fn is_wanted(headers: &HeaderMap) -> bool {
    headers
        .get(UPGRADE)
        .is_some_and(|wanted| wanted.as_bytes() == PROTOCOL.as_bytes())
}

async fn converse(
    upgrade: OnUpgrade,
    agent: Agent,
    stop: CancellationToken,
    _permit: OwnedSemaphorePermit,
) {
    let upgraded = match upgrade.await {
        Ok(upgraded) => upgraded,
        Err(cause) => return tracing::debug!(%cause, "an agent left before it spoke"),
    };
    let (read, write) = tokio::io::split(TokioIo::new(upgraded));
    let transport = AsyncRwTransport::new_server(read, write).with_max_line_length(BODY_BYTES_MAX);
    // A child: the end of one conversation must not stop the node.
    match agent.serve_with_ct(transport, stop.child_token()).await {
        Ok(conversation) => {
            let _ = conversation.waiting().await;
        }
        Err(cause) => tracing::debug!(%cause, "an agent spoke no MCP"),
    }
}

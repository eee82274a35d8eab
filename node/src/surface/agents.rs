//! WASM agents over HTTP: `/v1/agents`.
//!
//! An agent is named by its name, or by `name@` and the beginning of its publisher's key.

use super::App;
use super::problem::{Body, ProblemDetails, Refusal};
use crate::api::{
    AgentView, Deploy, Invoke, Invoked, LogLine, MoveAgent, ReceiptView, Verified, VerifyAgent,
};
use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use serde::Deserialize;

/// Every agent that this node knows.
#[utoipa::path(get, path = "/v1/agents", tag = "wasm", responses(
    (status = 200, body = Vec<AgentView>),
    (status = "default", body = ProblemDetails, content_type = "application/problem+json"),
))]
pub(super) async fn all(State(app): State<App>) -> Result<Json<Vec<AgentView>>, Refusal> {
    Ok(Json(app.memory.agents().await?))
}

/// Deploy an agent.
#[utoipa::path(post, path = "/v1/agents", tag = "wasm", request_body = Deploy, responses(
    (status = 201, body = AgentView, description = "It lives where it is to, or the wait was over"),
    (status = "default", body = ProblemDetails, content_type = "application/problem+json"),
))]
pub(super) async fn deploy(
    State(app): State<App>,
    Body(request): Body<Deploy>,
) -> Result<impl IntoResponse, Refusal> {
    let agent = app.memory.agent_deploy(request).await?;
    Ok((StatusCode::CREATED, Json(agent)))
}

/// One agent.
#[utoipa::path(get, path = "/v1/agents/{name}", tag = "wasm",
    params(("name" = String, Path, description = "Its name")), responses(
    (status = 200, body = AgentView),
    (status = "default", body = ProblemDetails, content_type = "application/problem+json"),
))]
pub(super) async fn one(
    State(app): State<App>,
    Path(name): Path<String>,
) -> Result<Json<AgentView>, Refusal> {
    Ok(Json(app.memory.agent_named(&name).await?))
}

/// Give an agent another module or other grants; its state goes on, or all is as it was.
#[utoipa::path(put, path = "/v1/agents/{name}", tag = "wasm", request_body = Deploy,
    params(("name" = String, Path, description = "Its name")), responses(
    (status = 200, body = AgentView),
    (status = "default", body = ProblemDetails, content_type = "application/problem+json"),
))]
pub(super) async fn upgrade(
    State(app): State<App>,
    Path(name): Path<String>,
    Body(request): Body<Deploy>,
) -> Result<Json<AgentView>, Refusal> {
    Ok(Json(app.memory.agent_upgrade(&name, request).await?))
}

/// Stop an agent for good.
#[utoipa::path(delete, path = "/v1/agents/{name}", tag = "wasm",
    params(("name" = String, Path, description = "Its name")), responses(
    (status = 200, body = AgentView),
    (status = "default", body = ProblemDetails, content_type = "application/problem+json"),
))]
pub(super) async fn stop(
    State(app): State<App>,
    Path(name): Path<String>,
) -> Result<Json<AgentView>, Refusal> {
    Ok(Json(app.memory.agent_stop(&name).await?))
}

/// Let another node host an agent, with the state it has.
#[utoipa::path(post, path = "/v1/agents/{name}/move", tag = "wasm", request_body = MoveAgent,
    params(("name" = String, Path, description = "Its name")), responses(
    (status = 200, body = AgentView),
    (status = "default", body = ProblemDetails, content_type = "application/problem+json"),
))]
pub(super) async fn moves(
    State(app): State<App>,
    Path(name): Path<String>,
    Body(request): Body<MoveAgent>,
) -> Result<Json<AgentView>, Refusal> {
    Ok(Json(app.memory.agent_move(&name, request).await?))
}

/// Say something to an agent, and wait for its answer unless it is a message.
#[utoipa::path(post, path = "/v1/agents/{name}/invoke", tag = "wasm", request_body = Invoke,
    params(("name" = String, Path, description = "Its name")), responses(
    (status = 200, body = Invoked),
    (status = "default", body = ProblemDetails, content_type = "application/problem+json"),
))]
pub(super) async fn invoke(
    State(app): State<App>,
    Path(name): Path<String>,
    Body(request): Body<Invoke>,
) -> Result<Json<Invoked>, Refusal> {
    Ok(Json(app.memory.agent_invoke(&name, request).await?))
}

/// How much of the past is wanted.
#[derive(Deserialize)]
pub(super) struct Last {
    last: Option<usize>,
}

/// What an agent logged in its last steps on this node.
#[utoipa::path(get, path = "/v1/agents/{name}/logs", tag = "wasm", params(
    ("name" = String, Path, description = "Its name"),
    ("last" = Option<usize>, Query, description = "How many lines; 50 if absent"),
), responses(
    (status = 200, body = Vec<LogLine>),
    (status = "default", body = ProblemDetails, content_type = "application/problem+json"),
))]
pub(super) async fn logs(
    State(app): State<App>,
    Path(name): Path<String>,
    Query(Last { last }): Query<Last>,
) -> Result<Json<Vec<LogLine>>, Refusal> {
    Ok(Json(app.memory.agent_logs(&name, last).await?))
}

/// The receipts of an agent's last steps on this node.
#[utoipa::path(get, path = "/v1/agents/{name}/receipts", tag = "wasm", params(
    ("name" = String, Path, description = "Its name"),
    ("last" = Option<usize>, Query, description = "How many; 50 if absent"),
), responses(
    (status = 200, body = Vec<ReceiptView>),
    (status = "default", body = ProblemDetails, content_type = "application/problem+json"),
))]
pub(super) async fn receipts(
    State(app): State<App>,
    Path(name): Path<String>,
    Query(Last { last }): Query<Last>,
) -> Result<Json<Vec<ReceiptView>>, Refusal> {
    Ok(Json(app.memory.agent_receipts(&name, last).await?))
}

/// Take an agent's last steps again on another engine.
#[utoipa::path(post, path = "/v1/agents/{name}/verify", tag = "wasm", request_body = VerifyAgent,
    params(("name" = String, Path, description = "Its name")), responses(
    (status = 200, body = Verified),
    (status = "default", body = ProblemDetails, content_type = "application/problem+json"),
))]
pub(super) async fn verify(
    State(app): State<App>,
    Path(name): Path<String>,
    Body(request): Body<VerifyAgent>,
) -> Result<Json<Verified>, Refusal> {
    Ok(Json(app.memory.agent_verify(&name, request).await?))
}

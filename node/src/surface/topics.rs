//! Topics and their law over HTTP: `/v1/topics`, `/v1/policy:explain`.
//!
//! A topic's name has slashes; in a path they are percent-encoded: `/v1/topics/acme%2Fapi/policy`.

use super::App;
use super::problem::{Body, ProblemDetails, Refusal};
use crate::api::{Explain, Explained, NewTopic, PolicyView, TopicView};
use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;

/// Every topic that this node knows.
#[utoipa::path(get, path = "/v1/topics", tag = "topics", responses(
    (status = 200, body = Vec<TopicView>),
    (status = "default", body = ProblemDetails, content_type = "application/problem+json"),
))]
pub(super) async fn all(State(app): State<App>) -> Result<Json<Vec<TopicView>>, Refusal> {
    Ok(Json(app.memory.topics().await?))
}

/// Found a topic with a law.
#[utoipa::path(post, path = "/v1/topics", tag = "topics", request_body = NewTopic, responses(
    (status = 201, body = TopicView),
    (status = "default", body = ProblemDetails, content_type = "application/problem+json"),
))]
pub(super) async fn create(
    State(app): State<App>,
    Body(request): Body<NewTopic>,
) -> Result<impl IntoResponse, Refusal> {
    let topic = app
        .memory
        .topic_create(&request.name, request.policy)
        .await?;
    Ok((StatusCode::CREATED, Json(topic)))
}

/// A topic and the law in force in it.
#[utoipa::path(get, path = "/v1/topics/{topic}/policy", tag = "topics",
    params(("topic" = String, Path, description = "Its name, slashes percent-encoded")),
    responses(
    (status = 200, body = TopicView),
    (status = "default", body = ProblemDetails, content_type = "application/problem+json"),
))]
pub(super) async fn policy(
    State(app): State<App>,
    Path(topic): Path<String>,
) -> Result<Json<TopicView>, Refusal> {
    Ok(Json(app.memory.topic(&topic).await?))
}

/// Give a topic a new law; only its founder can.
#[utoipa::path(put, path = "/v1/topics/{topic}/policy", tag = "topics",
    request_body = PolicyView,
    params(("topic" = String, Path, description = "Its name, slashes percent-encoded")),
    responses(
    (status = 200, body = TopicView),
    (status = "default", body = ProblemDetails, content_type = "application/problem+json"),
))]
pub(super) async fn policy_set(
    State(app): State<App>,
    Path(topic): Path<String>,
    Body(policy): Body<PolicyView>,
) -> Result<Json<TopicView>, Refusal> {
    Ok(Json(app.memory.policy_set(&topic, policy).await?))
}

/// Whether data of a topic may go to a region or a node, and the rule that says so.
#[utoipa::path(post, path = "/v1/policy:explain", tag = "topics", request_body = Explain,
    responses(
    (status = 200, body = Explained, description = "`allowed` is the answer; no is no failure"),
    (status = "default", body = ProblemDetails, content_type = "application/problem+json"),
))]
pub(super) async fn explain(
    State(app): State<App>,
    Body(request): Body<Explain>,
) -> Result<Json<Explained>, Refusal> {
    Ok(Json(app.memory.explain(&request.topic, &request.to).await?))
}

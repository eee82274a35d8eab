//! Tasks over HTTP: `/v1/tasks`.
//!
//! A task is named by its id, or by the first four digits of it or more.

use super::App;
use super::problem::{Body, ProblemDetails, Refusal};
use crate::api::{SubmitTask, TaskView, WaitTask};
use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use serde::Deserialize;

/// Tasks, if nobody says how many.
const LISTED: usize = 100;

/// Which tasks are wanted.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Which {
    topic: Option<String>,
    limit: Option<usize>,
}

/// The tasks that this node knows, the newest first.
#[utoipa::path(get, path = "/v1/tasks", tag = "tasks", params(
    ("topic" = Option<String>, Query, description = "Only in this topic and those below it"),
    ("limit" = Option<usize>, Query, description = "How many; 100 if absent"),
), responses(
    (status = 200, body = Vec<TaskView>),
    (status = "default", body = ProblemDetails, content_type = "application/problem+json"),
))]
pub(super) async fn all(
    State(app): State<App>,
    Query(which): Query<Which>,
) -> Result<Json<Vec<TaskView>>, Refusal> {
    let limit = which.limit.unwrap_or(LISTED);
    Ok(Json(app.memory.tasks(which.topic.as_deref(), limit).await?))
}

/// Ask for a program to be run by a node that may and can.
#[utoipa::path(post, path = "/v1/tasks", tag = "tasks", request_body = SubmitTask, responses(
    (status = 201, body = TaskView, description = "It is asked for, and may wait"),
    (status = "default", body = ProblemDetails, content_type = "application/problem+json"),
))]
pub(super) async fn submit(
    State(app): State<App>,
    Body(request): Body<SubmitTask>,
) -> Result<impl IntoResponse, Refusal> {
    let task = app.memory.task_submit(request).await?;
    Ok((StatusCode::CREATED, Json(task)))
}

/// One task, and what came of it.
#[utoipa::path(get, path = "/v1/tasks/{id}", tag = "tasks",
    params(("id" = String, Path, description = "Its id, or the beginning of it")), responses(
    (status = 200, body = TaskView),
    (status = "default", body = ProblemDetails, content_type = "application/problem+json"),
))]
pub(super) async fn one(
    State(app): State<App>,
    Path(id): Path<String>,
) -> Result<Json<TaskView>, Refusal> {
    Ok(Json(app.memory.task(&id).await?))
}

/// One task once it is over, or when the wait is.
#[utoipa::path(post, path = "/v1/tasks/{id}/wait", tag = "tasks", request_body = WaitTask,
    params(("id" = String, Path, description = "Its id, or the beginning of it")), responses(
    (status = 200, body = TaskView),
    (status = "default", body = ProblemDetails, content_type = "application/problem+json"),
))]
pub(super) async fn wait(
    State(app): State<App>,
    Path(id): Path<String>,
    Body(request): Body<WaitTask>,
) -> Result<Json<TaskView>, Refusal> {
    Ok(Json(app.memory.task_wait(&id, request.wait_ms).await?))
}

/// Say that a task is not wanted any more.
#[utoipa::path(delete, path = "/v1/tasks/{id}", tag = "tasks",
    params(("id" = String, Path, description = "Its id, or the beginning of it")), responses(
    (status = 200, body = TaskView),
    (status = "default", body = ProblemDetails, content_type = "application/problem+json"),
))]
pub(super) async fn cancel(
    State(app): State<App>,
    Path(id): Path<String>,
) -> Result<Json<TaskView>, Refusal> {
    Ok(Json(app.memory.task_cancel(&id).await?))
}

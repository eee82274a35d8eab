//! Models over HTTP: `/v1/models`.
//!
//! What takes its time (a push of a file of this machine, a pull, a check) answers with lines of JSON:
//! `{"progress":…}` again and again, then one of `pushed`, `pulled`, `checked` or `problem`. A client
//! that goes away calls it off. A file may also be sent as the body of a `PUT`, whose answer comes once
//! it is stored; its length must be said, and it is hashed and written as it arrives.

use super::App;
use super::problem::{Body, ProblemDetails, Refusal};
use crate::amount;
use crate::api::{
    AskModel, ModelLine, ModelProgress, ModelView, Problem, PushModel, PushedModel, RemovedModel,
};
use crate::memory::models::{Content, Seen};
use axum::Json;
use axum::body::{Body as Stream, BodyDataStream};
use axum::extract::{Path, Query, State};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::{Buf as _, Bytes};
use futures_util::{StreamExt as _, stream};
use serde::Deserialize;
use std::convert::Infallible;
use std::io::{self, Read};
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

/// Lines that wait to be read; more are left out.
const LINES_WAITING_MAX: usize = 16;
/// Pieces of a body that wait to be written.
const PIECES_WAITING_MAX: usize = 16;

/// Where models are looked for.
#[derive(Debug, Default, Deserialize)]
pub(super) struct In {
    topic: Option<String>,
}

/// The models that this node's records tell of.
#[utoipa::path(get, path = "/v1/models", tag = "models", params(
    ("topic" = Option<String>, Query, description = "Only in this topic and those below it"),
), responses(
    (status = 200, body = Vec<ModelView>),
    (status = "default", body = ProblemDetails, content_type = "application/problem+json"),
))]
pub(super) async fn list(
    State(app): State<App>,
    Query(within): Query<In>,
) -> Result<Json<Vec<ModelView>>, Refusal> {
    Ok(Json(app.memory.model_list(within.topic.as_deref()).await?))
}

/// One model.
#[utoipa::path(get, path = "/v1/models/{name}", tag = "models", params(
    ("name" = String, Path, description = "`NAME` or `NAME:TAG`"),
    ("topic" = Option<String>, Query, description = "`models` if absent"),
), responses(
    (status = 200, body = ModelView),
    (status = "default", body = ProblemDetails, content_type = "application/problem+json"),
))]
pub(super) async fn show(
    State(app): State<App>,
    Path(name): Path<String>,
    Query(within): Query<In>,
) -> Result<Json<ModelView>, Refusal> {
    let topic = within.topic;
    let shown = app.memory.model_show(&AskModel { name, topic }).await?;
    Ok(Json(shown))
}

/// Remove a model: its manifest is erased everywhere, and its holders remove its content.
#[utoipa::path(delete, path = "/v1/models/{name}", tag = "models", params(
    ("name" = String, Path, description = "`NAME` or `NAME:TAG`"),
    ("topic" = Option<String>, Query, description = "`models` if absent"),
), responses(
    (status = 200, body = RemovedModel),
    (status = "default", body = ProblemDetails, content_type = "application/problem+json"),
))]
pub(super) async fn remove(
    State(app): State<App>,
    Path(name): Path<String>,
    Query(within): Query<In>,
) -> Result<Json<RemovedModel>, Refusal> {
    let topic = within.topic;
    let removed = app.memory.model_remove(&AskModel { name, topic }).await?;
    Ok(Json(removed))
}

/// Publish a file of the node's machine as a model, or as a new version of one.
#[utoipa::path(post, path = "/v1/models", tag = "models", request_body = PushModel, responses(
    (status = 200, body = ModelLine, content_type = "application/jsonl",
        description = "Lines of progress, then `pushed` or `problem`"),
    (status = "default", body = ProblemDetails, content_type = "application/problem+json"),
))]
pub(super) async fn push(State(app): State<App>, Body(request): Body<PushModel>) -> Response {
    lines(move |seen, stop| async move {
        let pushed = app.memory.model_push(request, Content::File, seen, stop);
        line_of(
            pushed
                .await
                .map(|pushed| ModelLine::Pushed(Box::new(pushed))),
        )
    })
}

/// Fetch a model's content to this node, if the law lets it rest here.
#[utoipa::path(post, path = "/v1/models:pull", tag = "models", request_body = AskModel, responses(
    (status = 200, body = ModelLine, content_type = "application/jsonl",
        description = "Lines of progress, then `pulled` or `problem`"),
    (status = "default", body = ProblemDetails, content_type = "application/problem+json"),
))]
pub(super) async fn pull(State(app): State<App>, Body(request): Body<AskModel>) -> Response {
    lines(move |seen, stop| async move {
        let pulled = app.memory.model_pull(&request, seen, stop).await;
        line_of(pulled.map(|model| ModelLine::Pulled(Box::new(model))))
    })
}

/// Prove every byte of a model that is here, and ask the other holders what they have.
#[utoipa::path(post, path = "/v1/models:check", tag = "models", request_body = AskModel, responses(
    (status = 200, body = ModelLine, content_type = "application/jsonl",
        description = "Lines of progress, then `checked` or `problem`"),
    (status = "default", body = ProblemDetails, content_type = "application/problem+json"),
))]
pub(super) async fn check(State(app): State<App>, Body(request): Body<AskModel>) -> Response {
    lines(move |seen, _| async move {
        let checked = app.memory.model_check(&request, seen).await;
        line_of(checked.map(|checked| ModelLine::Checked(Box::new(checked))))
    })
}

/// What is said of a file that comes as a body.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct About {
    topic: Option<String>,
    licence: String,
    purpose: String,
    gpu: Option<String>,
    ram: Option<String>,
    regions: String,
    update: bool,
}

/// Publish the body of this request as a model, or as a new version of one.
#[utoipa::path(put, path = "/v1/models/{name}", tag = "models", params(
    ("name" = String, Path, description = "`NAME` or `NAME:TAG`"),
    ("topic" = Option<String>, Query, description = "`models` if absent"),
    ("licence" = Option<String>, Query, description = "An SPDX expression or a word"),
    ("purpose" = Option<String>, Query, description = "What it is for"),
    ("gpu" = Option<String>, Query, description = "GPU memory it needs, such as 8GiB"),
    ("ram" = Option<String>, Query, description = "Main memory it needs"),
    ("regions" = Option<String>, Query, description = "Regions it may be in, with commas between"),
    ("update" = Option<bool>, Query, description = "It is a new version of that model"),
), request_body(content = String, content_type = "application/octet-stream",
    description = "The file; its Content-Length must be said"), responses(
    (status = 201, body = PushedModel),
    (status = "default", body = ProblemDetails, content_type = "application/problem+json"),
))]
pub(super) async fn put(
    State(app): State<App>,
    Path(name): Path<String>,
    Query(about): Query<About>,
    headers: HeaderMap,
    body: Stream,
) -> Result<impl IntoResponse, Refusal> {
    let said = headers
        .get(CONTENT_LENGTH)
        .and_then(|said| said.to_str().ok());
    let bytes = said.and_then(|said| said.parse().ok()).ok_or_else(|| {
        let hint = "send a Content-Length, or push a file by its path";
        Problem::new("no_length", 2, "the length of the body is not said", hint)
    })?;
    let need = |text: Option<String>| text.as_deref().map_or(Ok(0), amount::read);
    let regions = about.regions.split(',').filter(|region| !region.is_empty());
    let request = PushModel {
        path: String::new(),
        name,
        topic: about.topic,
        licence: about.licence,
        purpose: about.purpose,
        gpu_bytes: need(about.gpu)?,
        ram_bytes: need(about.ram)?,
        regions: regions.map(str::to_owned).collect(),
        update: about.update,
        agent: None,
    };
    let from = Box::new(Arriving::of(body.into_data_stream()));
    let content = Content::Stream { bytes, from };
    let stop = CancellationToken::new();
    // Whoever goes away calls it off.
    let _guard = stop.clone().drop_guard();
    let pushed = app
        .memory
        .model_push(request, content, Arc::new(|_| {}), stop)
        .await?;
    Ok((StatusCode::CREATED, Json(pushed)))
}

/// A body, read by a thread that may wait for it.
struct Arriving {
    pieces: mpsc::Receiver<Bytes>,
    rest: Bytes,
}

impl Arriving {
    fn of(mut body: BodyDataStream) -> Self {
        let (sender, pieces) = mpsc::channel(PIECES_WAITING_MAX);
        // It ends with the body or with the reader. A body that broke off is too short, and that shows.
        tokio::spawn(async move {
            while let Some(Ok(piece)) = body.next().await {
                if sender.send(piece).await.is_err() {
                    return;
                }
            }
        });
        let rest = Bytes::new();
        Self { pieces, rest }
    }
}

impl Read for Arriving {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.rest.is_empty() {
            match self.pieces.blocking_recv() {
                Some(piece) => self.rest = piece,
                None => return Ok(0),
            }
        }
        let count = self.rest.len().min(into.len());
        self.rest.copy_to_slice(&mut into[..count]);
        Ok(count)
    }
}

fn line_of(done: Result<ModelLine, Problem>) -> ModelLine {
    done.unwrap_or_else(ModelLine::Problem)
}

struct Lines {
    progress: mpsc::Receiver<ModelProgress>,
    task: Option<JoinHandle<ModelLine>>,
    _called_off: DropGuard,
}

/// An answer that says how far `work` is, and then what came of it.
fn lines<F>(work: impl FnOnce(Arc<Seen>, CancellationToken) -> F) -> Response
where
    F: Future<Output = ModelLine> + Send + 'static,
{
    let (sender, progress) = mpsc::channel(LINES_WAITING_MAX);
    let stop = CancellationToken::new();
    let seen: Arc<Seen> = Arc::new(move |now| {
        // Whoever reads slowly gets fewer.
        let _ = sender.try_send(now);
    });
    let state = Lines {
        progress,
        task: Some(tokio::spawn(work(seen, stop.clone()))),
        _called_off: stop.drop_guard(),
    };
    let lines = stream::unfold(state, |mut state| async move {
        let task = state.task.as_mut()?;
        let line = tokio::select! {
            biased;
            Some(now) = state.progress.recv() => ModelLine::Progress(now),
            done = task => {
                state.task = None;
                let broken = |_| Problem::new("internal", 1, "the work broke off", "");
                line_of(done.map_err(broken))
            }
        };
        let mut text = serde_json::to_vec(&line).expect("a line is JSON");
        text.push(b'\n');
        Some((Ok::<_, Infallible>(Bytes::from(text)), state))
    });
    let kind = [(CONTENT_TYPE, "application/jsonl")];
    (kind, Stream::from_stream(lines)).into_response()
}

//! The node itself over HTTP: status, peers, doctor, invites, events, health, metrics, stop.

use super::App;
use super::problem::{Body, ProblemDetails, Refusal};
use crate::api::{
    Finding, Found, Graph, Happening, Invite, Invited, PeerView, Ping, Pinged, Status,
};
use axum::Json;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{Html, IntoResponse};
use futures_util::stream::{self, Stream};
use serde::Deserialize;
use std::convert::Infallible;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

/// This node: who it is, where it listens, whom it knows, what it holds.
#[utoipa::path(get, path = "/v1/status", tag = "node", responses(
    (status = 200, body = Status),
    (status = "default", body = ProblemDetails, content_type = "application/problem+json"),
))]
pub(super) async fn status(State(app): State<App>) -> Result<Json<Status>, Refusal> {
    Ok(Json(app.memory.status().await?))
}

/// Connected peers, nearest first, and then the members that are not connected.
#[utoipa::path(get, path = "/v1/peers", tag = "node", responses(
    (status = 200, body = Vec<PeerView>),
    (status = "default", body = ProblemDetails, content_type = "application/problem+json"),
))]
pub(super) async fn peers(State(app): State<App>) -> Result<Json<Vec<PeerView>>, Refusal> {
    Ok(Json(app.memory.peers().await?))
}

/// The members of the hive and who is connected to whom, as this node and its peers see it.
#[utoipa::path(get, path = "/v1/graph", tag = "node", responses(
    (status = 200, body = Graph),
    (status = "default", body = ProblemDetails, content_type = "application/problem+json"),
))]
pub(super) async fn graph(State(app): State<App>) -> Result<Json<Graph>, Refusal> {
    Ok(Json(app.memory.graph().await?))
}

/// The same as one page, without scripts or anything of another origin.
#[utoipa::path(get, path = "/graph", tag = "node", responses(
    (status = 200, body = String, content_type = "text/html"),
    (status = "default", body = ProblemDetails, content_type = "application/problem+json"),
))]
pub(super) async fn graph_page(State(app): State<App>) -> Result<Html<String>, Refusal> {
    Ok(Html(crate::graph::page(&app.memory.graph().await?)))
}

/// Ask a node whether it is there, and how far it is.
#[utoipa::path(post, path = "/v1/ping", tag = "node", request_body = Ping, responses(
    (status = 200, body = Pinged),
    (status = "default", body = ProblemDetails, content_type = "application/problem+json"),
))]
pub(super) async fn ping(
    State(app): State<App>,
    Body(request): Body<Ping>,
) -> Result<Json<Pinged>, Refusal> {
    Ok(Json(app.memory.ping(request).await?))
}

/// What to look for.
#[derive(Deserialize)]
pub(super) struct What {
    what: String,
}

/// Where a node listens, or who holds a topic: peers, manifests, then the directories.
#[utoipa::path(get, path = "/v1/find", tag = "node", params(
    ("what" = String, Query, description = "A node's peer id, or a topic whose holders are wanted"),
), responses(
    (status = 200, body = Found),
    (status = "default", body = ProblemDetails, content_type = "application/problem+json"),
))]
pub(super) async fn find(
    State(app): State<App>,
    Query(What { what }): Query<What>,
) -> Result<Json<Found>, Refusal> {
    Ok(Json(app.memory.find(&what).await?))
}

/// What is wrong, if anything, and what to do about it.
#[utoipa::path(get, path = "/v1/doctor", tag = "node", responses(
    (status = 200, body = Vec<Finding>),
    (status = "default", body = ProblemDetails, content_type = "application/problem+json"),
))]
pub(super) async fn doctor(State(app): State<App>) -> Result<Json<Vec<Finding>>, Refusal> {
    Ok(Json(app.memory.doctor().await?))
}

/// A ticket with which one more machine can join.
#[utoipa::path(post, path = "/v1/invites", tag = "node", request_body = Invite, responses(
    (status = 201, body = Invited),
    (status = "default", body = ProblemDetails, content_type = "application/problem+json"),
))]
pub(super) async fn invite(
    State(app): State<App>,
    Body(request): Body<Invite>,
) -> Result<impl IntoResponse, Refusal> {
    Ok((StatusCode::CREATED, Json(app.memory.invite(request).await?)))
}

/// End this node, once what it does now is done.
#[utoipa::path(post, path = "/v1/stop", tag = "node", responses(
    (status = 202, description = "It is stopping"),
    (status = "default", body = ProblemDetails, content_type = "application/problem+json"),
))]
pub(super) async fn stop(State(app): State<App>) -> impl IntoResponse {
    app.stop.cancel();
    (
        StatusCode::ACCEPTED,
        Json(serde_json::json!({ "stopping": true })),
    )
}

/// Which events are wanted.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Wanted {
    topic: Option<String>,
}

/// What happens from now on, as server-sent events.
///
/// `event` is the happening's name and `data` its JSON. A reader that falls behind loses the oldest
/// and gets one `lagged` event that says how many.
#[utoipa::path(get, path = "/v1/events", tag = "node", params(
    ("topic" = Option<String>, Query, description = "Only of this topic and those below it"),
), responses(
    (status = 200, body = Happening, content_type = "text/event-stream"),
    (status = "default", body = ProblemDetails, content_type = "application/problem+json"),
))]
pub(super) async fn events(
    State(app): State<App>,
    Query(wanted): Query<Wanted>,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let feed = app.memory.watch();
    let stop = app.stop.clone();
    let events = stream::unfold(
        (feed, wanted, stop),
        |(mut feed, wanted, stop)| async move {
            let event = tokio::select! {
                event = next_event(&mut feed, &wanted) => event,
                () = stop.cancelled() => None,
            };
            event.map(|event| (Ok(event), (feed, wanted, stop)))
        },
    );
    Sse::new(events).keep_alive(KeepAlive::default())
}

async fn next_event(feed: &mut Receiver<Happening>, wanted: &Wanted) -> Option<Event> {
    loop {
        match feed.recv().await {
            Ok(happening) if wanted.covers(&happening) => {
                let data = serde_json::to_value(&happening).expect("a happening is JSON");
                let name = data["event"].as_str().unwrap_or("happening").to_owned();
                return Some(Event::default().event(name).data(data.to_string()));
            }
            Ok(_) => {}
            Err(RecvError::Lagged(missed)) => {
                let data = serde_json::json!({ "event": "lagged", "missed": missed });
                return Some(Event::default().event("lagged").data(data.to_string()));
            }
            Err(RecvError::Closed) => return None,
        }
    }
}

impl Wanted {
    fn covers(&self, happening: &Happening) -> bool {
        let Some(wanted) = &self.topic else {
            return true;
        };
        let topic = match happening {
            Happening::Memory { memory, .. } => &memory.topic,
            Happening::Forgotten { topic, .. }
            | Happening::Law { topic }
            | Happening::Denied { topic, .. } => topic,
            _ => return false,
        };
        topic
            .strip_prefix(wanted.as_str())
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

/// Whether the process answers. The one request that needs no token.
#[utoipa::path(get, path = "/healthz", tag = "node", responses(
    (status = 200, body = String, content_type = "text/plain"),
))]
pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

/// Whether the node can remember and recall now: its driver answers and its index has caught up.
#[utoipa::path(get, path = "/readyz", tag = "node", responses(
    (status = 200, body = String, content_type = "text/plain"),
    (status = 503, body = String, content_type = "text/plain"),
))]
pub(super) async fn readyz(State(app): State<App>) -> (StatusCode, &'static str) {
    match app.memory.status().await {
        Ok(status) if status.index_ready => (StatusCode::OK, "ready\n"),
        Ok(_) => (
            StatusCode::SERVICE_UNAVAILABLE,
            "the recall index is catching up\n",
        ),
        Err(_) => (
            StatusCode::SERVICE_UNAVAILABLE,
            "the node does not answer\n",
        ),
    }
}

/// Figures for Prometheus.
#[utoipa::path(get, path = "/metrics", tag = "node", responses(
    (status = 200, body = String, content_type = "text/plain"),
))]
pub(super) async fn metrics(State(app): State<App>) -> impl IntoResponse {
    (
        [(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")],
        app.memory.metrics(),
    )
}

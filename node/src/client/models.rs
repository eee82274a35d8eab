//! What a client asks about models.

use super::{Client, Lines, encoded, refused, request, within};
use crate::api::{AskModel, ModelLine, ModelProgress, ModelView, Problem, RemovedModel};
use bytes::Bytes;
use hyper::Method;
use hyper::header::CONTENT_TYPE;
use serde::Serialize;

impl Client {
    /// The models of a topic and those below it, or of all topics.
    ///
    /// # Errors
    /// As [`Client::remember`].
    pub async fn models(&self, topic: Option<&str>) -> Result<Vec<ModelView>, Problem> {
        self.ask(&format!("/v1/models{}", in_topic(topic))).await
    }

    /// One model.
    ///
    /// # Errors
    /// As [`Client::remember`]; `not_found`.
    pub async fn model(&self, asked: &AskModel) -> Result<ModelView, Problem> {
        self.ask(&path_of(asked)).await
    }

    /// All counters of the node, in the Prometheus text format.
    ///
    /// # Errors
    /// As [`Client::remember`].
    pub async fn metrics(&self) -> Result<String, Problem> {
        let answer = self.send(request(Method::GET, "/metrics"), Bytes::new());
        let response = within(super::PATIENCE, answer).await?;
        if !response.status().is_success() {
            return Err(refused(response).await);
        }
        let text = super::collect(response.into_body()).await?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    /// Removes a model.
    ///
    /// # Errors
    /// As [`Client::remember`]; `not_found`.
    pub async fn model_remove(&self, asked: &AskModel) -> Result<RemovedModel, Problem> {
        let request = request(Method::DELETE, &path_of(asked));
        within(super::PATIENCE, self.answer(request, Bytes::new())).await
    }

    /// Does what takes its time (`/v1/models`, `/v1/models:pull`, `/v1/models:check`): tells `seen` how
    /// far it is, and gives what came of it. It may take as long as it takes.
    ///
    /// # Errors
    /// As [`Client::remember`], and what the work failed of.
    pub async fn model_work(
        &self,
        path: &str,
        body: &(impl Serialize + Sync),
        mut seen: impl FnMut(&ModelProgress),
    ) -> Result<ModelLine, Problem> {
        let body = serde_json::to_vec(body).expect("a request is JSON");
        let request = request(Method::POST, path).header(CONTENT_TYPE, "application/json");
        let response = within(super::PATIENCE, self.send(request, body.into())).await?;
        if !response.status().is_success() {
            return Err(refused(response).await);
        }
        let mut lines = Lines::of(response.into_body());
        while let Some(line) = lines.next().await? {
            match serde_json::from_str(&line).map_err(|_| unreadable())? {
                ModelLine::Progress(now) => seen(&now),
                ModelLine::Problem(problem) => return Err(problem),
                done => return Ok(done),
            }
        }
        Err(unreadable())
    }
}

fn unreadable() -> Problem {
    let message = "the daemon's answer ends too early or cannot be read";
    let hint = "are `aquifer` and its daemon of one version? restart the daemon";
    Problem::new("daemon_answered_badly", 1, message, hint)
}

fn in_topic(topic: Option<&str>) -> String {
    let query = topic.map(|topic| format!("?topic={}", encoded(topic)));
    query.unwrap_or_default()
}

fn path_of(asked: &AskModel) -> String {
    let topic = in_topic(asked.topic.as_deref());
    format!("/v1/models/{}{topic}", encoded(&asked.name))
}

//! What a client asks about tasks.

use super::{Client, WAIT_MS, encoded};
use crate::api::{Problem, SubmitTask, TaskView, WaitTask};
use hyper::Method;

impl Client {
    /// The newest tasks that the node knows, at and below `topic` if one is named.
    ///
    /// # Errors
    /// As [`Client::remember`]. So for every call below; `not_found` where one task is named.
    pub async fn tasks(&self, topic: Option<&str>, limit: usize) -> Result<Vec<TaskView>, Problem> {
        let topic = topic.map(|topic| format!("&topic={}", encoded(topic)));
        let path = format!("/v1/tasks?limit={limit}{}", topic.unwrap_or_default());
        self.ask(&path).await
    }

    /// Asks for a program to be run.
    ///
    /// # Errors
    /// As above; `bad_task`, `task_too_big`.
    pub async fn task_submit(&self, request: &SubmitTask) -> Result<TaskView, Problem> {
        self.waiting(WAIT_MS, Method::POST, "/v1/tasks", request)
            .await
    }

    /// One task.
    ///
    /// # Errors
    /// As above.
    pub async fn task(&self, id: &str) -> Result<TaskView, Problem> {
        self.ask(&format!("/v1/tasks/{}", encoded(id))).await
    }

    /// One task once it is over, or when `wait_ms` milliseconds have passed.
    ///
    /// # Errors
    /// As above.
    pub async fn task_wait(&self, id: &str, wait_ms: u64) -> Result<TaskView, Problem> {
        let request = WaitTask {
            wait_ms: Some(wait_ms),
        };
        let path = format!("/v1/tasks/{}/wait", encoded(id));
        self.waiting(wait_ms, Method::POST, &path, &request).await
    }

    /// Says that a task is not wanted any more.
    ///
    /// # Errors
    /// As above; `not_authorised`, `already_over`.
    pub async fn task_cancel(&self, id: &str) -> Result<TaskView, Problem> {
        let path = format!("/v1/tasks/{}", encoded(id));
        self.waiting(WAIT_MS, Method::DELETE, &path, &()).await
    }
}

//! What a client asks about WASM agents.

use super::{Client, WAIT_MS, encoded};
use crate::api::{
    AgentView, Deploy, Invoke, Invoked, LogLine, MoveAgent, Problem, ReceiptView, Verified,
    VerifyAgent,
};
use hyper::Method;

/// Taking very many steps again may take so long, in milliseconds.
const VERIFY_MS: u64 = 600_000;

impl Client {
    /// Every agent that the node knows.
    ///
    /// # Errors
    /// As [`Client::remember`]. So for every call below; `not_found` where one agent is named.
    pub async fn agents(&self) -> Result<Vec<AgentView>, Problem> {
        self.ask("/v1/agents").await
    }

    /// One agent.
    ///
    /// # Errors
    /// As above.
    pub async fn agent(&self, name: &str) -> Result<AgentView, Problem> {
        self.ask(&format!("/v1/agents/{}", encoded(name))).await
    }

    /// Deploys an agent.
    ///
    /// # Errors
    /// As above.
    pub async fn agent_deploy(&self, request: &Deploy) -> Result<AgentView, Problem> {
        let wait = request.wait_ms.unwrap_or(WAIT_MS);
        self.waiting(wait, Method::POST, "/v1/agents", request)
            .await
    }

    /// Gives an agent another module.
    ///
    /// # Errors
    /// As above; `upgrade_rolled_back`.
    pub async fn agent_upgrade(&self, name: &str, request: &Deploy) -> Result<AgentView, Problem> {
        let wait = request.wait_ms.unwrap_or(WAIT_MS);
        let path = format!("/v1/agents/{}", encoded(name));
        self.waiting(wait, Method::PUT, &path, request).await
    }

    /// Stops an agent.
    ///
    /// # Errors
    /// As above.
    pub async fn agent_stop(&self, name: &str) -> Result<AgentView, Problem> {
        let path = format!("/v1/agents/{}", encoded(name));
        self.waiting(WAIT_MS, Method::DELETE, &path, &()).await
    }

    /// Lets another node host an agent.
    ///
    /// # Errors
    /// As above.
    pub async fn agent_move(&self, name: &str, request: &MoveAgent) -> Result<AgentView, Problem> {
        let wait = request.wait_ms.unwrap_or(WAIT_MS);
        let path = format!("/v1/agents/{}/move", encoded(name));
        self.waiting(wait, Method::POST, &path, request).await
    }

    /// Says something to an agent.
    ///
    /// # Errors
    /// As above; `agent_failed`, `timeout`.
    pub async fn agent_invoke(&self, name: &str, request: &Invoke) -> Result<Invoked, Problem> {
        let wait = request.wait_ms.unwrap_or(WAIT_MS);
        let path = format!("/v1/agents/{}/invoke", encoded(name));
        self.waiting(wait, Method::POST, &path, request).await
    }

    /// What an agent logged.
    ///
    /// # Errors
    /// As above.
    pub async fn agent_logs(&self, name: &str, last: usize) -> Result<Vec<LogLine>, Problem> {
        self.ask(&format!("/v1/agents/{}/logs?last={last}", encoded(name)))
            .await
    }

    /// The receipts of an agent's steps.
    ///
    /// # Errors
    /// As above.
    pub async fn agent_receipts(
        &self,
        name: &str,
        last: usize,
    ) -> Result<Vec<ReceiptView>, Problem> {
        self.ask(&format!(
            "/v1/agents/{}/receipts?last={last}",
            encoded(name)
        ))
        .await
    }

    /// Takes an agent's steps again.
    ///
    /// # Errors
    /// As above.
    pub async fn agent_verify(
        &self,
        name: &str,
        request: &VerifyAgent,
    ) -> Result<Verified, Problem> {
        let path = format!("/v1/agents/{}/verify", encoded(name));
        self.waiting(VERIFY_MS, Method::POST, &path, request).await
    }
}

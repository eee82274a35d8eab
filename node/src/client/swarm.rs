//! What a client asks about the swarm around its node.

use super::{Client, WAIT_MS};
use crate::api::{Graph, PeerView, Ping, Pinged, Problem};
use hyper::Method;

impl Client {
    /// The nodes it is connected to, and the members that it is not connected to.
    ///
    /// # Errors
    /// As [`Client::remember`].
    pub async fn peers(&self) -> Result<Vec<PeerView>, Problem> {
        self.ask("/v1/peers").await
    }

    /// Who is connected to whom.
    ///
    /// # Errors
    /// As [`Client::remember`].
    pub async fn graph(&self) -> Result<Graph, Problem> {
        self.ask("/v1/graph").await
    }

    /// Asks a node whether it is there.
    ///
    /// # Errors
    /// As [`Client::remember`]; `not_found`, `not_connected`.
    pub async fn ping(&self, request: &Ping) -> Result<Pinged, Problem> {
        let each = request.wait_ms.unwrap_or(WAIT_MS);
        let wait = each.saturating_mul(request.count.unwrap_or(1) as u64);
        self.waiting(wait, Method::POST, "/v1/ping", request).await
    }
}

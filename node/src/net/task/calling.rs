//! Calls, carried between the node and libp2p: `/aquifer/ask/1`.
//!
//! A call goes only to a peer that is up, so libp2p never dials for it. An answer that finds its asker
//! gone is dropped.

use std::time::Duration;

use libp2p::request_response::{Event, Message};
use tokio::time::Instant;

use super::Task;
use crate::net::calls::{self, Answered, CALL_PATIENCE_MAX, CallPeer, QUESTION_BYTES_MAX, Reply};
use crate::net::{NodeKey, translate};

impl Task {
    /// Asks a peer, or says at once why not.
    pub(super) fn call(
        &mut self,
        to: &NodeKey,
        request: Vec<u8>,
        patience: Duration,
        reply: Reply,
    ) {
        let length = request.len();
        let up = |peer| self.peers.get(&peer).is_some_and(|entry| entry.is_mutual());
        let peer = translate::peer_of(to).filter(|peer| up(*peer));
        let refusal = match peer {
            _ if length > QUESTION_BYTES_MAX => CallPeer::TooLong { length },
            Some(peer) if self.calls.has_room(&peer) => {
                let until = Instant::now() + patience.min(CALL_PATIENCE_MAX);
                let id = self
                    .swarm
                    .behaviour_mut()
                    .ask
                    .inner_mut()
                    .send_request(&peer, request);
                return self.calls.sent(id, peer, until, reply);
            }
            Some(_) => CallPeer::Busy,
            None => CallPeer::NotUp,
        };
        let _ = reply.send(Err(refusal));
    }

    /// What became of a call, ours or a peer's.
    pub(super) fn observe_call(&mut self, event: calls::Event) {
        match event {
            Event::Message {
                peer,
                message:
                    Message::Request {
                        request, channel, ..
                    },
                ..
            } => {
                let Some(key) = self.peers.get(&peer).map(|entry| entry.key) else {
                    return;
                };
                if let Err(channel) = self.calls.take(key, request, channel) {
                    let _ = self
                        .swarm
                        .behaviour_mut()
                        .ask
                        .inner_mut()
                        .send_response(channel, Vec::new());
                }
            }
            Event::Message {
                message:
                    Message::Response {
                        request_id,
                        response,
                    },
                ..
            } => self.calls.answered(request_id, response),
            Event::OutboundFailure {
                request_id, error, ..
            } => self.calls.failed(request_id, &error),
            Event::InboundFailure { peer, error, .. } => {
                tracing::debug!(%peer, %error, "a question was not answered");
            }
            Event::ResponseSent { .. } => {}
        }
    }

    /// Sends what the node answered.
    pub(super) fn answer_call(&mut self, answered: Answered) {
        let Answered {
            channel, answer, ..
        } = answered;
        let _ = self
            .swarm
            .behaviour_mut()
            .ask
            .inner_mut()
            .send_response(channel, answer);
    }
}

//! One-off questions to an address: dial if need be, one admission request, the raw answer.
//!
//! This is how an invite is redeemed before the node is anybody's member. A question waits first
//! for its connection, then for its answer; both waits are bounded by libp2p's own timeouts, and
//! the number of questions by `ASKS_MAX`.

use std::collections::HashMap;

use libp2p::request_response::{OutboundFailure, OutboundRequestId};
use libp2p::swarm::ConnectionId;
use tokio::sync::oneshot;

use super::ADMIT_BYTES_MAX;

/// Questions under way at one time.
const ASKS_MAX: usize = 16;

/// Why a question got no answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AskPeer {
    /// The address is no multiaddr.
    #[error("not a multiaddr: {addr}")]
    MalformedAddr {
        /// The address.
        addr: String,
    },
    /// The request is longer than `ADMIT_BYTES_MAX`.
    #[error("the request has {length} bytes, at most {ADMIT_BYTES_MAX} are allowed")]
    TooLong {
        /// Its length, bytes.
        length: usize,
    },
    /// Too many questions are under way; ask again later.
    #[error("too many questions are under way")]
    Busy,
    /// No connection could be made.
    #[error("cannot reach {addr}: {why}")]
    Unreachable {
        /// The address.
        addr: String,
        /// libp2p's reason.
        why: String,
    },
    /// Something answers there, but it is no Aquifer node.
    #[error("{addr} does not speak Aquifer's admission protocol")]
    Unsupported {
        /// The address.
        addr: String,
    },
    /// The peer took the question and gave no answer in time, or hung up.
    #[error("no answer from {addr}: {why}")]
    NoAnswer {
        /// The address.
        addr: String,
        /// libp2p's reason.
        why: String,
    },
}

/// Where an answer goes.
pub(super) type Reply = oneshot::Sender<Result<Vec<u8>, AskPeer>>;

/// A question and whom to tell.
pub(super) struct Question {
    /// The address as the asker wrote it.
    pub(super) addr: String,
    /// What to send.
    pub(super) request: Vec<u8>,
    /// Who waits.
    pub(super) reply: Reply,
}

impl Question {
    /// Tells the asker; one that no longer waits is no concern of ours.
    pub(super) fn answer(self, answer: Result<Vec<u8>, AskPeer>) {
        let _ = self.reply.send(answer);
    }
}

/// Questions under way.
#[derive(Default)]
pub(super) struct Asks {
    dialling: HashMap<ConnectionId, Question>,
    waiting: HashMap<OutboundRequestId, Question>,
}

impl Asks {
    /// Whether one more question may start.
    pub(super) fn has_room(&self) -> bool {
        self.dialling.len() + self.waiting.len() < ASKS_MAX
    }

    /// The question waits for this dial.
    pub(super) fn dialled(&mut self, id: ConnectionId, question: Question) {
        self.dialling.insert(id, question);
    }

    /// The dial succeeded: the question to send now, if one waited for it.
    pub(super) fn connected(&mut self, id: ConnectionId) -> Option<Question> {
        self.dialling.remove(&id)
    }

    /// The dial failed.
    pub(super) fn unreachable(&mut self, id: ConnectionId, why: &dyn std::error::Error) {
        if let Some(question) = self.dialling.remove(&id) {
            let error = AskPeer::Unreachable {
                addr: question.addr.clone(),
                why: why.to_string(),
            };
            question.answer(Err(error));
        }
    }

    /// The question was sent.
    pub(super) fn sent(&mut self, id: OutboundRequestId, question: Question) {
        self.waiting.insert(id, question);
    }

    /// The answer came. False if the request was none of ours.
    pub(super) fn answered(&mut self, id: OutboundRequestId, answer: &[u8]) -> bool {
        let Some(question) = self.waiting.remove(&id) else {
            return false;
        };
        question.answer(Ok(answer.to_vec()));
        true
    }

    /// No answer will come. False if the request was none of ours.
    pub(super) fn failed(&mut self, id: OutboundRequestId, why: &OutboundFailure) -> bool {
        let Some(question) = self.waiting.remove(&id) else {
            return false;
        };
        let addr = question.addr.clone();
        question.answer(Err(match why {
            OutboundFailure::UnsupportedProtocols => AskPeer::Unsupported { addr },
            OutboundFailure::DialFailure => AskPeer::Unreachable {
                addr,
                why: why.to_string(),
            },
            other => AskPeer::NoAnswer {
                addr,
                why: other.to_string(),
            },
        }));
        true
    }
}

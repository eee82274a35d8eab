//! `/aquifer/ask/1`: one question, one answer, between two nodes that admitted each other. And
//! `/aquifer/edge/1`: one word of a device at the edge, one reply.
//!
//! One request and one response per stream, each a 4-byte big-endian length and that many bytes: at
//! most 128 KiB asked and 256 KiB answered, and at the edge 208 KiB each. The bytes are opaque here. A
//! call out waits at most as long as its asker gave it; a call in goes to the node through a bounded channel of its own, past the
//! driver, because answering is reading. Whoever is overloaded says so at once: an answer of no bytes.
//!
//! Bounds: eight calls under way with one peer and 64 in all, each way. Not here: what is asked
//! (`ask`), who may be told what (`memory`).

use std::collections::HashMap;
use std::io;
use std::time::Duration;

use libp2p::futures::future::BoxFuture;
use libp2p::futures::stream::FuturesUnordered;
use libp2p::futures::{
    AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, FutureExt as _, StreamExt as _,
};
use libp2p::request_response::{
    self, Codec, OutboundFailure, OutboundRequestId, ProtocolSupport, ResponseChannel,
};
use libp2p::{PeerId, StreamProtocol};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::NodeKey;

/// The protocol's name on the wire.
pub(super) const ASK_PROTOCOL: StreamProtocol = StreamProtocol::new("/aquifer/ask/1");

/// The protocol of devices at the edge. They ask and the node answers, never the other way.
const EDGE_PROTOCOL: StreamProtocol = StreamProtocol::new("/aquifer/edge/1");

/// Longest word of a device and longest reply to it, bytes.
pub const EDGE_BYTES_MAX: usize = 208 * 1024;

/// How long a word may take, from its first byte to the end of its reply: some links are slow.
const EDGE_TIMEOUT: Duration = Duration::from_secs(60);

/// Longest question, bytes.
pub const QUESTION_BYTES_MAX: usize = 128 * 1024;

/// Longest answer, bytes.
pub const ANSWER_BYTES_MAX: usize = 256 * 1024;

/// Longest that a call may be waited for.
pub const CALL_PATIENCE_MAX: Duration = Duration::from_secs(5);

/// Calls under way at one time, all peers together; so many out and so many in.
pub const CALLS_MAX: usize = 64;

/// Of these, with one peer.
const CALLS_PER_PEER_MAX: usize = 8;

const _: () = assert!(CALLS_PER_PEER_MAX <= CALLS_MAX && QUESTION_BYTES_MAX < ANSWER_BYTES_MAX);

/// The exchange as a behaviour; it stands behind the gate.
pub(super) type Behaviour = request_response::Behaviour<CallCodec>;

/// Its events, all in raw bytes.
pub(super) type Event = request_response::Event<Vec<u8>, Vec<u8>>;

/// Where an answer goes.
pub(super) type Reply = oneshot::Sender<Result<Vec<u8>, CallPeer>>;

/// A behaviour that asks and answers, with the limits above.
pub(super) fn behaviour() -> Behaviour {
    let config = request_response::Config::default()
        .with_request_timeout(CALL_PATIENCE_MAX)
        // Both ways share this: ours and the peer's.
        .with_max_concurrent_streams(2 * CALLS_PER_PEER_MAX);
    let codec = CallCodec {
        asked_max: QUESTION_BYTES_MAX,
        answered_max: ANSWER_BYTES_MAX,
    };
    let protocols = [(ASK_PROTOCOL, ProtocolSupport::Full)];
    request_response::Behaviour::with_codec(codec, protocols, config)
}

/// A behaviour that answers devices at the edge, with the limits above.
pub(super) fn edge_behaviour() -> Behaviour {
    let config = request_response::Config::default()
        .with_request_timeout(EDGE_TIMEOUT)
        .with_max_concurrent_streams(CALLS_PER_PEER_MAX);
    let codec = CallCodec {
        asked_max: EDGE_BYTES_MAX,
        answered_max: EDGE_BYTES_MAX,
    };
    let protocols = [(EDGE_PROTOCOL, ProtocolSupport::Inbound)];
    request_response::Behaviour::with_codec(codec, protocols, config)
}

/// Who it is that calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Callers {
    /// Nodes that ask.
    Nodes,
    /// Devices at the edge.
    Devices,
}

/// A question of an admitted peer, or a word of a device, for the node to answer.
#[derive(Debug)]
pub struct Called {
    /// Who asks, as authenticated by the transport.
    pub from: NodeKey,
    /// What.
    pub request: Vec<u8>,
    /// Where the answer goes, of at most as many bytes as the protocol carries. Dropping it refuses.
    pub reply: oneshot::Sender<Vec<u8>>,
}

/// Why a call got no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallPeer {
    /// The peer is not connected, or one side has not admitted the other.
    #[error("it is not connected")]
    NotUp,
    /// The question is longer than `QUESTION_BYTES_MAX`.
    #[error("the question has {length} bytes, at most {QUESTION_BYTES_MAX} are allowed")]
    TooLong {
        /// Its length, bytes.
        length: usize,
    },
    /// Too many calls are under way, here.
    #[error("too many calls are under way on this node")]
    Busy,
    /// The peer is overloaded and says so.
    #[error("it is overloaded")]
    PeerBusy,
    /// The peer does not speak this protocol.
    #[error("it does not answer questions: its version is older")]
    Unsupported,
    /// No answer came in time.
    #[error("it did not answer in time")]
    Late,
    /// The peer hung up.
    #[error("it broke off: {why}")]
    Broken {
        /// libp2p's reason.
        why: String,
    },
}

struct Waiting {
    peer: PeerId,
    until: Instant,
    reply: Reply,
}

/// One answer of the node, on its way to the peer that asked.
pub(super) struct Answered {
    from: NodeKey,
    /// Where to.
    pub(super) channel: ResponseChannel<Vec<u8>>,
    /// What.
    pub(super) answer: Vec<u8>,
}

/// Calls under way, out and in.
#[derive(Default)]
pub(super) struct Calls {
    waiting: HashMap<OutboundRequestId, Waiting>,
    answering: FuturesUnordered<BoxFuture<'static, Answered>>,
    answering_to: HashMap<NodeKey, usize>,
    node: Option<mpsc::Sender<Called>>,
}

impl Calls {
    /// From now on the node answers, through this channel.
    pub(super) fn answered_by(&mut self, node: mpsc::Sender<Called>) {
        self.node = Some(node);
    }

    /// Whether one more call to `peer` may start.
    pub(super) fn has_room(&self, peer: &PeerId) -> bool {
        let with = |waiting: &&Waiting| waiting.peer == *peer;
        self.waiting.len() < CALLS_MAX
            && self.waiting.values().filter(with).count() < CALLS_PER_PEER_MAX
    }

    /// The call was sent.
    pub(super) fn sent(
        &mut self,
        id: OutboundRequestId,
        peer: PeerId,
        until: Instant,
        reply: Reply,
    ) {
        self.waiting.insert(id, Waiting { peer, until, reply });
    }

    /// The answer to a call of ours came. One that came too late is nobody's.
    pub(super) fn answered(&mut self, id: OutboundRequestId, answer: Vec<u8>) {
        let answer = match answer.is_empty() {
            true => Err(CallPeer::PeerBusy),
            false => Ok(answer),
        };
        self.end(id, answer);
    }

    /// No answer will come.
    pub(super) fn failed(&mut self, id: OutboundRequestId, why: &OutboundFailure) {
        let why = match why {
            OutboundFailure::UnsupportedProtocols => CallPeer::Unsupported,
            OutboundFailure::Timeout => CallPeer::Late,
            OutboundFailure::DialFailure => CallPeer::NotUp,
            other => CallPeer::Broken {
                why: other.to_string(),
            },
        };
        self.end(id, Err(why));
    }

    /// Ends the calls whose time is over.
    pub(super) fn expire(&mut self, now: Instant) {
        let late = self
            .waiting
            .extract_if(|_, waiting| waiting.until <= now || waiting.reply.is_closed());
        for (_, waiting) in late {
            // An asker that no longer waits is no concern of ours.
            let _ = waiting.reply.send(Err(CallPeer::Late));
        }
    }

    fn end(&mut self, id: OutboundRequestId, answer: Result<Vec<u8>, CallPeer>) {
        if let Some(waiting) = self.waiting.remove(&id) {
            let _ = waiting.reply.send(answer);
        }
    }

    /// Hands a peer's question to the node. Where it cannot be, the channel comes back, to be refused.
    pub(super) fn take(
        &mut self,
        from: NodeKey,
        request: Vec<u8>,
        channel: ResponseChannel<Vec<u8>>,
    ) -> Result<(), ResponseChannel<Vec<u8>>> {
        let of_peer = self.answering_to.get(&from).copied().unwrap_or(0);
        let (reply, answer) = oneshot::channel();
        let called = Called {
            from,
            request,
            reply,
        };
        let full = self.answering.len() >= CALLS_MAX || of_peer >= CALLS_PER_PEER_MAX;
        let node = self.node.as_ref().filter(|_| !full);
        if node.is_none_or(|node| node.try_send(called).is_err()) {
            return Err(channel);
        }
        *self.answering_to.entry(from).or_default() += 1;
        let answered = async move {
            let answer = answer.await.unwrap_or_default();
            Answered {
                from,
                channel,
                answer,
            }
        };
        self.answering.push(answered.boxed());
        Ok(())
    }

    /// The next answer that the node has made; `None` at once if it is asked for none.
    pub(super) async fn next_answer(&mut self) -> Option<Answered> {
        let answered = self.answering.next().await?;
        if let Some(count) = self.answering_to.get_mut(&answered.from) {
            *count -= 1;
            if *count == 0 {
                self.answering_to.remove(&answered.from);
            }
        }
        Some(answered)
    }
}

/// Length-prefixed bytes, both ways, and the longest each way.
#[derive(Clone)]
pub(super) struct CallCodec {
    asked_max: usize,
    answered_max: usize,
}

impl Codec for CallCodec {
    type Protocol = StreamProtocol;
    type Request = Vec<u8>;
    type Response = Vec<u8>;

    async fn read_request<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Vec<u8>>
    where
        T: AsyncRead + Unpin + Send,
    {
        read_bounded(io, self.asked_max).await
    }

    async fn read_response<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Vec<u8>>
    where
        T: AsyncRead + Unpin + Send,
    {
        read_bounded(io, self.answered_max).await
    }

    async fn write_request<T>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        request: Vec<u8>,
    ) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        write_bounded(io, &request, self.asked_max).await
    }

    async fn write_response<T>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        response: Vec<u8>,
    ) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        write_bounded(io, &response, self.answered_max).await
    }
}

fn too_long(kind: io::ErrorKind) -> io::Error {
    io::Error::new(kind, "question or answer too long")
}

/// A longer length is an error before anything is allocated.
async fn read_bounded<T: AsyncRead + Unpin + Send>(io: &mut T, most: usize) -> io::Result<Vec<u8>> {
    let mut prefix = [0; 4];
    io.read_exact(&mut prefix).await?;
    let length = u32::from_be_bytes(prefix) as usize;
    if length > most {
        return Err(too_long(io::ErrorKind::InvalidData));
    }
    let mut bytes = vec![0; length];
    io.read_exact(&mut bytes).await?;
    Ok(bytes)
}

async fn write_bounded<T: AsyncWrite + Unpin + Send>(
    io: &mut T,
    bytes: &[u8],
    most: usize,
) -> io::Result<()> {
    if bytes.len() > most {
        return Err(too_long(io::ErrorKind::InvalidInput));
    }
    let length = u32::try_from(bytes.len()).expect("checked above");
    io.write_all(&length.to_be_bytes()).await?;
    io.write_all(bytes).await?;
    io.flush().await
}

#[cfg(test)]
mod tests {
    use libp2p::futures::io::Cursor;

    use super::*;

    #[tokio::test]
    async fn the_longest_message_passes_and_one_byte_more_does_not() {
        let longest = vec![5; QUESTION_BYTES_MAX];
        let mut wire = Cursor::new(Vec::new());
        write_bounded(&mut wire, &longest, QUESTION_BYTES_MAX)
            .await
            .expect("the longest legal question");
        wire.set_position(0);
        let read = read_bounded(&mut wire, QUESTION_BYTES_MAX).await;
        assert_eq!(longest, read.expect("reads back"));
        let error = write_bounded(&mut wire, &[5; 9], 8).await.expect_err("no");
        assert_eq!(io::ErrorKind::InvalidInput, error.kind());
    }

    #[tokio::test]
    async fn a_lying_length_is_refused_before_anything_is_allocated() {
        for (claimed, most) in [
            (u32::MAX, ANSWER_BYTES_MAX),
            (QUESTION_BYTES_MAX as u32 + 1, QUESTION_BYTES_MAX),
        ] {
            let mut wire = Cursor::new(claimed.to_be_bytes().to_vec());
            let error = read_bounded(&mut wire, most).await.expect_err("refused");
            assert_eq!(io::ErrorKind::InvalidData, error.kind());
        }
    }
}

//! `/aquifer/blob/1`: streams of bytes between two admitted peers, opened by whoever asks.
//!
//! The streams stand behind the same gate as those of frames, and are opaque here: the node is handed
//! those that peers open, and asks for those it wants. Not here: what is said on them (`blob`), who
//! may be told what (`memory`).

use std::time::Duration;

use libp2p::StreamProtocol;
use libp2p_stream::{Control, IncomingStreams};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tokio_util::compat::FuturesAsyncReadCompatExt as _;

use super::task::Task;
use super::{CallPeer, NodeKey, translate};

/// The protocol's name on the wire.
pub(super) const BLOB_PROTOCOL: StreamProtocol = StreamProtocol::new("/aquifer/blob/1");

/// Streams that peers may have open at one time, all peers together; so many may wait to be taken.
pub const BLOB_STREAMS_MAX: usize = 16;

/// How long a stream may take to open.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);

/// Both ways, in order, until either side closes it.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// A stream of bytes to a peer.
pub type BlobStream = Box<dyn Duplex>;

/// Where an opened stream goes.
pub(super) type Opened = oneshot::Sender<Result<BlobStream, CallPeer>>;

/// A stream that a peer opened.
pub struct BlobPeer {
    /// The peer, as authenticated by the transport.
    pub from: NodeKey,
    /// The stream.
    pub stream: BlobStream,
}

impl std::fmt::Debug for BlobPeer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BlobPeer").finish_non_exhaustive()
    }
}

/// What the network task needs for them.
pub(super) struct Blobs {
    control: Control,
    /// Streams that peers opened.
    pub(super) incoming: IncomingStreams,
    node: Option<mpsc::Sender<BlobPeer>>,
}

impl Blobs {
    /// Registers the protocol with `control`, the handle of a fresh stream behaviour.
    pub(super) fn new(mut control: Control) -> Self {
        let incoming = control
            .accept(BLOB_PROTOCOL)
            .expect("registered once per swarm");
        Self {
            control,
            incoming,
            node: None,
        }
    }

    /// From now on the node answers, through this channel.
    pub(super) fn answered_by(&mut self, node: mpsc::Sender<BlobPeer>) {
        self.node = Some(node);
    }
}

impl Task {
    /// Opens a stream to a peer, or says at once why not.
    pub(super) fn open_blob(&self, to: &NodeKey, reply: Opened) {
        let peer = translate::peer_of(to).filter(|peer| self.is_mutual(peer));
        let Some(peer) = peer else {
            let _ = reply.send(Err(CallPeer::NotUp));
            return;
        };
        let mut control = self.blobs.control.clone();
        // Ends by itself, in time: whoever asked waits no longer.
        tokio::spawn(async move {
            let opened = timeout(OPEN_TIMEOUT, control.open_stream(peer, BLOB_PROTOCOL)).await;
            let stream = match opened {
                Ok(Ok(stream)) => Ok(Box::new(stream.compat()) as BlobStream),
                Ok(Err(libp2p_stream::OpenStreamError::UnsupportedProtocol(_))) => {
                    Err(CallPeer::Unsupported)
                }
                Ok(Err(error)) => Err(CallPeer::Broken {
                    why: error.to_string(),
                }),
                Err(_) => Err(CallPeer::Late),
            };
            let _ = reply.send(stream);
        });
    }

    /// A peer opened a stream: the node gets it, if both have admitted each other and there is room.
    pub(super) fn blob_opened(&self, peer: libp2p::PeerId, stream: libp2p::Stream) {
        let key = self.mutual_key(&peer);
        if let (Some(from), Some(node)) = (key, &self.blobs.node) {
            let stream = Box::new(stream.compat());
            // Without room it is dropped, and the peer sees it end.
            let _ = node.try_send(BlobPeer { from, stream });
        }
    }
}

//! The network of a node: peers in, opaque frames both ways.
//!
//! `start` takes a key, addresses and a `Judge`, and runs one task that owns libp2p. The node
//! sends it commands and receives events; both channels are bounded and belong to the node. A
//! connection is nothing until both ends have admitted each other over `/aquifer/admit/1`: until
//! then a peer sees identify, ping and that one protocol, and no frame flows. Delivery is
//! best-effort by design: a frame to a peer that is not up, or whose queue is full, is dropped and
//! counted, and the node's anti-entropy heals it.
//!
//! What is not here: what a hello, an answer or a frame means. No rule of the domain, no store, no
//! clock of the core. libp2p appears in this file's submodules and nowhere else in the workspace.

mod admission;
mod admit;
mod asks;
mod behaviour;
mod blobs;
mod bucket;
mod calls;
mod dialing;
mod directory;
mod door;
mod gated;
mod gossip;
#[cfg(feature = "live")]
pub mod live;
mod reach;
mod report;
mod scope;
mod streams;
mod task;
#[cfg(test)]
mod tests;
mod translate;

use std::fmt;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use libp2p::Multiaddr;
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub use admit::ADMIT_BYTES_MAX;
pub use asks::AskPeer;
pub use blobs::{BLOB_STREAMS_MAX, BlobPeer, BlobStream, Duplex};
pub use calls::{
    ANSWER_BYTES_MAX, CALL_PATIENCE_MAX, CALLS_MAX, CallPeer, Called, Callers, EDGE_BYTES_MAX,
    QUESTION_BYTES_MAX,
};
pub use dialing::ADDRESSES_PER_PEER_MAX;
pub use directory::{CheckEntry, DirectorySettings, ENTRY_LIFE_MAX, Errand, GoodEntry, Shared};
pub use reach::{ReachSettings, RelayUse};
pub use report::{MeshLine, NetSnapshot, PeerLine};
pub use streams::{FRAME_BYTES_MAX, QUEUE_BYTES_MAX, QUEUE_FRAMES_MAX, ReadFrame};

/// An Ed25519 public key. It is a peer's name here; libp2p's `PeerId` is its 1:1 view.
pub type NodeKey = [u8; 32];

/// How a node takes part in the network.
pub struct NetSettings {
    /// Ed25519 seed: the node's identity.
    pub secret: [u8; 32],
    /// Multiaddrs to listen on; port 0 picks a free one.
    pub listen: Vec<String>,
    /// Multiaddrs to stay connected to; may be `/dnsaddr`, with or without `/p2p`.
    pub seeds: Vec<String>,
    /// Whether to find and dial nodes on the local network.
    pub mdns: bool,
    /// The regional meshes this node takes part in, widest first; the first three are.
    pub meshes: Vec<MeshSettings>,
    /// What identify tells strangers about our software.
    pub agent_version: String,
    /// Most established connections, all peers together.
    pub connections_max: u32,
    /// Most established connections to one peer; at least 2 are always allowed.
    pub per_peer_max: u32,
    /// No new connection while the process holds more memory than this, bytes.
    pub memory_max_bytes: Option<usize>,
    /// The directories, if the node takes part in them.
    pub directory: Option<DirectorySettings>,
    /// How the node is reached from outside its own network.
    pub reach: ReachSettings,
}

/// One regional mesh.
#[derive(Debug, Clone)]
pub struct MeshSettings {
    /// The region, as the judge names it among a peer's domains.
    pub region: String,
    /// Its protocol's name on the wire, the same on every node of the mesh.
    pub protocol: String,
    /// Keys the names of its topics and messages, the same on every node of the mesh.
    pub key: [u8; 32],
}

/// What the node makes of a message of a mesh.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GossipVerdict {
    /// Pass it on.
    Accept,
    /// Let it end here.
    Ignore,
    /// Let it end here, and think worse of whoever passed it on.
    Reject,
}

/// The node's verdict on one admission request.
pub struct Judgement {
    /// Admit the peer. A `false` never takes back an earlier `true`: that is `NetCommand::Expel`.
    pub admit: bool,
    /// Travels back to the peer; at most `ADMIT_BYTES_MAX` bytes.
    pub answer: Vec<u8>,
    /// What the peer is inside of, with us: names of regions that both certificates lie in, from
    /// the top down. What is regional is offered to it only in these.
    pub domains: Vec<String>,
    /// It is a seed: one inside our region may relay for us and prove our addresses.
    pub seed: bool,
    /// It is a device at the edge: it is offered `/aquifer/edge/1` and nothing else.
    pub device: bool,
}

/// How the node judges strangers, by key and request. On the network task: it must not block.
pub type Judge = Box<dyn FnMut(NodeKey, &[u8]) -> Judgement + Send>;

/// Reads a peer's answer to our hello: `Ok` if it admits us, else why not. Called like `Judge`.
pub type ReadAnswer = Box<dyn FnMut(NodeKey, &[u8]) -> Result<(), String> + Send>;

/// What the node tells the network to do.
pub enum NetCommand {
    /// Our hello, sent now and on every new connection. Until it is set we only answer.
    SetHello(Vec<u8>),
    /// Queue a frame of at most `FRAME_BYTES_MAX` bytes; dropped and counted if that cannot be.
    Send {
        /// The receiver.
        to: NodeKey,
        /// The bytes.
        frame: Bytes,
    },
    /// Say a frame to all of a mesh. While nobody listens there yet, it goes to some of its members
    /// directly.
    Publish {
        /// The mesh's region.
        mesh: String,
        /// Messages of one lane take one way and may wait for each other.
        lane: u64,
        /// The bytes.
        frame: Bytes,
    },
    /// The verdict on a `NetEvent::Gossip`, within twelve seconds.
    Judged {
        /// Which.
        ticket: u64,
        /// The verdict.
        verdict: GossipVerdict,
    },
    /// Dial an address once; a failure is reported as `NetEvent::Trouble`.
    Dial {
        /// A multiaddr.
        addr: String,
    },
    /// Stay connected to a member. Replaces what was known of it; an empty list forgets it.
    Know {
        /// The member.
        peer: NodeKey,
        /// Its multiaddrs; the first `ADDRESSES_PER_PEER_MAX` are kept.
        addrs: Vec<String>,
    },
    /// Dial an address if need be, make one admission request there, return the raw answer.
    Ask {
        /// A multiaddr.
        addr: String,
        /// The request, at most `ADMIT_BYTES_MAX` bytes.
        request: Vec<u8>,
        /// Where the answer goes.
        reply: oneshot::Sender<Result<Vec<u8>, AskPeer>>,
    },
    /// Ask a peer that is up one question over `/aquifer/ask/1`.
    Call {
        /// The peer.
        to: NodeKey,
        /// The question, at most `QUESTION_BYTES_MAX` bytes.
        request: Vec<u8>,
        /// How long to wait, at most `CALL_PATIENCE_MAX`.
        patience: Duration,
        /// Where the answer goes.
        reply: oneshot::Sender<Result<Vec<u8>, CallPeer>>,
    },
    /// From now on what these ask goes to this channel; until then they are refused.
    AnswerCalls {
        /// Whose calls.
        of: Callers,
        /// Where to; it should have room for `CALLS_MAX`.
        node: mpsc::Sender<Called>,
    },
    /// Open a stream of `/aquifer/blob/1` to a peer that is up.
    OpenBlob {
        /// The peer.
        to: NodeKey,
        /// Where the stream goes.
        reply: oneshot::Sender<Result<BlobStream, CallPeer>>,
    },
    /// From now on streams that peers open go to this channel; until then they are dropped.
    ServeBlobs {
        /// Where to; it should have room for `BLOB_STREAMS_MAX`.
        node: mpsc::Sender<BlobPeer>,
    },
    /// Take back our admission, stop all frames at once, and close the connections.
    Expel {
        /// The peer.
        peer: NodeKey,
    },
    /// We are a seed from now on: relay and dial back for others.
    Serve,
    /// Do something in the directories.
    Directory(Errand),
    /// Report the present state.
    Snapshot {
        /// Where the report goes.
        reply: oneshot::Sender<NetSnapshot>,
    },
}

/// What the network tells the node. Of one peer, events come in order: `Up`, frames, `Down`.
#[derive(Debug)]
pub enum NetEvent {
    /// We can be dialled here.
    Listening {
        /// A multiaddr that ends in our own `/p2p` part.
        addr: String,
    },
    /// The peer and we admitted each other: frames may flow.
    Up {
        /// The peer.
        peer: NodeKey,
        /// Its end of the connection.
        addr: String,
    },
    /// The last admitted connection to the peer is gone.
    Down {
        /// The peer.
        peer: NodeKey,
    },
    /// A frame arrived.
    Frame {
        /// The sender, as authenticated by the transport.
        from: NodeKey,
        /// The bytes.
        frame: Bytes,
    },
    /// A frame came in a mesh, and waits for `NetCommand::Judged`.
    Gossip {
        /// The mesh's region.
        mesh: String,
        /// The peer that passed it on.
        from: NodeKey,
        /// To answer by.
        ticket: u64,
        /// The bytes.
        frame: Bytes,
    },
    /// The smoothed round trip to a peer has changed by more than a fifth, or is first known.
    Rtt {
        /// The peer.
        peer: NodeKey,
        /// The round trip.
        rtt: Duration,
    },
    /// A peer refused us or was refused.
    Refused {
        /// The peer.
        peer: NodeKey,
        /// For a person to read.
        why: String,
    },
    /// Something failed that the node survives.
    Trouble(Trouble),
}

/// A failure the network survives.
#[derive(Debug, Error)]
pub enum Trouble {
    /// A command named an address that is no multiaddr.
    #[error("not a multiaddr: {addr}")]
    MalformedAddr {
        /// The address.
        addr: String,
    },
    /// A dial the node asked for failed.
    #[error("cannot reach {addr}: {why}")]
    Unreachable {
        /// The address.
        addr: String,
        /// libp2p's reason.
        why: String,
    },
    /// We no longer listen on these addresses.
    #[error("listener lost: {addrs:?}: {why}")]
    ListenerLost {
        /// The addresses.
        addrs: Vec<String>,
        /// The operating system's reason.
        why: String,
    },
    /// A connection could not be accepted, or was refused unread. Told once a minute at most, counted
    /// always.
    #[error("not accepted: {why}")]
    Accept {
        /// The operating system's reason, or the door's.
        why: String,
    },
    /// A peer broke the frame protocol; its connections were closed.
    #[error("a peer broke the frame protocol")]
    BadFrame {
        /// The peer.
        peer: NodeKey,
        /// How.
        #[source]
        source: ReadFrame,
    },
    /// The hello given to us is longer than `ADMIT_BYTES_MAX`; the former one stays.
    #[error("the hello has {length} bytes, at most {ADMIT_BYTES_MAX} are allowed")]
    HelloTooLong {
        /// Its length, bytes.
        length: usize,
    },
}

/// Why the network did not start.
#[derive(Debug, Error)]
pub enum StartNet {
    /// A listen or seed address is no multiaddr, or of a kind we do not speak.
    #[error("not a usable multiaddr: {addr}")]
    MalformedAddr {
        /// The address.
        addr: String,
    },
    /// Another process (or this one) already listens there.
    #[error("address in use: {addr}")]
    AddressInUse {
        /// The address.
        addr: String,
    },
    /// The operating system refused the address for another reason.
    #[error("cannot listen on {addr}")]
    Listen {
        /// The address.
        addr: String,
        /// Its reason.
        #[source]
        source: io::Error,
    },
    /// Sockets or identity for the transports could not be made (mDNS binds one too).
    #[error("cannot set up the transports")]
    Transport(#[source] io::Error),
}

/// A running network.
pub struct NetHandle {
    key: NodeKey,
    listen: Vec<String>,
    task: JoinHandle<()>,
}

impl NetHandle {
    /// Our own name.
    pub fn key(&self) -> NodeKey {
        self.key
    }

    /// Where we could be dialled when the network had started, each ending in our `/p2p` part.
    pub fn listening(&self) -> &[String] {
        &self.listen
    }

    /// Waits until the network has closed its connections and ended, after `stop` was cancelled,
    /// the command channel closed or the event receiver was dropped. A QUIC port may stay bound for
    /// a moment longer, while the last packets drain.
    pub async fn stopped(self) {
        if let Err(error) = self.task.await
            && error.is_panic()
        {
            std::panic::resume_unwind(error.into_panic());
        }
    }
}

impl fmt::Debug for NetHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NetHandle")
            .field("listen", &self.listen)
            .finish_non_exhaustive()
    }
}

/// Starts the network: binds every listen address, then dials the seeds and serves commands until
/// `stop` is cancelled.
///
/// # Errors
/// `StartNet`: an address that is malformed, in use or refused, or transports that cannot be made.
/// Nothing is left running then.
pub async fn start(
    mut settings: NetSettings,
    judge: Judge,
    read_answer: ReadAnswer,
    commands: mpsc::Receiver<NetCommand>,
    events: mpsc::Sender<NetEvent>,
    stop: CancellationToken,
) -> Result<NetHandle, StartNet> {
    let seeds = parse_all(&settings.seeds)?;
    let listen = parse_all(&settings.listen)?;
    let keypair = translate::keypair(settings.secret);
    let local = keypair.public().to_peer_id();
    let key = translate::key_of(&local).expect("our own identity is Ed25519");
    let scope = scope::Scope::of(listen.iter().chain(&seeds));
    let (swarm, control) =
        behaviour::swarm(&keypair, &settings, scope).map_err(StartNet::Transport)?;
    let verdicts = task::Verdicts { judge, read_answer };
    let meshes = gossip::Meshes::new(&settings.meshes);
    let wires = task::Wires {
        commands,
        events,
        stop,
    };
    let strangers_max = (settings.connections_max / 4).max(16) as usize;
    let mut task = task::Task::new(
        (swarm, control),
        meshes,
        verdicts,
        wires,
        seeds,
        strangers_max,
    );
    let ledger = settings.directory.take().map(|directory| {
        directory::ledger::Ledger::new(local, directory.region, directory.check, scope)
    });
    task.keep_books(ledger, scope);
    task.mind_reach(&settings.reach)?;
    task.listen(&listen).await?;
    let listen = task.listening().to_vec();
    Ok(NetHandle {
        key,
        listen,
        task: tokio::spawn(task.run()),
    })
}

/// The multibase-free text form of a node key, as it stands after `/p2p/` in an address; `None`
/// where the 32 bytes are no Ed25519 public key.
pub fn peer_name(key: &NodeKey) -> Option<String> {
    translate::peer_of(key).map(|peer| peer.to_base58())
}

/// The node key an address names in its last `/p2p` part, if it names one.
pub fn key_in(addr: &str) -> Option<NodeKey> {
    translate::key_of(&translate::peer_in(&addr.parse().ok()?)?)
}

/// The relay an address leads through, if it leads through one.
pub fn relay_in(addr: &str) -> Option<NodeKey> {
    scope::relay_of(&addr.parse().ok()?)
}

fn parse_all(addrs: &[String]) -> Result<Vec<Multiaddr>, StartNet> {
    let parse = |addr: &String| {
        addr.parse()
            .map_err(|_| StartNet::MalformedAddr { addr: addr.clone() })
    };
    addrs.iter().map(parse).collect()
}

//! What the network says of itself when it is asked: peers, meshes, and what was let fall.
//!
//! A report is a moment; events are the course of things.

use super::NodeKey;

/// The state of the network at one moment.
#[derive(Debug, Clone, Default)]
pub struct NetSnapshot {
    /// Where we can be dialled, each ending in our `/p2p` part.
    pub listen: Vec<String>,
    /// Connected peers, by key.
    pub peers: Vec<PeerLine>,
    /// Members and neighbours that are dialled when they are not connected.
    pub peers_known: usize,
    /// Of these, those that could not be dialled, and how often in a row.
    pub failing: Vec<(NodeKey, u32)>,
    /// Connections that are not admitted (yet).
    pub strangers: usize,
    /// Frames dropped because their peer was not up.
    pub dropped_not_up: u64,
    /// Incoming connections that a limit, a failed handshake or garbage ended.
    pub incoming_failed: u64,
    /// Entries and provider records kept in the directories.
    pub directory_kept: usize,
    /// Entries and provider records that others wanted kept, and that were bad or too many.
    pub directory_refused: u64,
    /// Addresses at which we are proved to be reached, or said to be by the operator.
    pub external: Vec<String>,
    /// Relays at which we keep a place.
    pub relays: Vec<NodeKey>,
    /// The meshes this node takes part in.
    pub meshes: Vec<MeshLine>,
}

/// One mesh.
#[derive(Debug, Clone, Default)]
pub struct MeshLine {
    /// Its region.
    pub region: String,
    /// Peers inside the region that are up.
    pub peers: usize,
    /// Peers that messages are passed to, on average over its shards.
    pub degree: f64,
    /// Messages heard, said, said directly because nobody listened, and let fall unjudged.
    pub heard: u64,
    /// Messages said here.
    pub said: u64,
    /// Of those, sent directly, because nobody listened in the mesh yet.
    pub direct: u64,
    /// Messages that found no room to wait for a verdict.
    pub overflowed: u64,
    /// Connections made anew because the peer had gone dumb.
    pub remedies: u64,
}

/// One connected peer.
#[derive(Debug, Clone)]
pub struct PeerLine {
    /// The peer.
    pub key: NodeKey,
    /// Its end of the connection, an admitted one if there is one.
    pub addr: String,
    /// Smoothed round trip, milliseconds.
    pub rtt_ms: Option<f64>,
    /// Whether the connection leads through a relay.
    pub relayed: bool,
    /// Whether it dialled us.
    pub inbound: bool,
    /// Whether frames may flow.
    pub admitted: bool,
    /// The regions that it and we lie in, from the top down, as last judged.
    pub domains: Vec<String>,
    /// Frames waiting to be sent.
    pub queued: usize,
    /// Frames dropped since it connected.
    pub dropped: u64,
    /// Bytes of whole frames received since it connected.
    pub bytes_in: u64,
    /// Bytes of whole frames sent since it connected.
    pub bytes_out: u64,
}

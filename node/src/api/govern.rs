//! Requests and answers about topics, laws, members and this node itself.

use super::{HeldModel, NodeName};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// A topic's law, as written and shown.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct PolicyView {
    /// Regions in which data may rest, and all below them; absent for anywhere.
    pub allowed_regions: Option<Vec<String>>,
    /// A region that must hold a copy.
    pub required_region: Option<String>,
    /// Whether data may leave the top-level region of its home; true if absent.
    pub cross_border_allowed: Option<bool>,
    /// Whether bodies must be encrypted. Refused until encryption exists.
    pub encryption_required: Option<bool>,
    /// How many seconds bodies are kept; for ever if absent.
    pub retention_seconds: Option<u64>,
    /// How many nodes hold it; all that may if absent.
    pub copies: Option<u16>,
    /// Nodes (peer ids) that may hold and read it; all members if absent.
    pub readers: Option<Vec<String>>,
    /// Nodes (peer ids) that may write to it; all members if absent.
    pub writers: Option<Vec<String>>,
    /// The longest body in bytes.
    pub body_bytes_max: Option<u32>,
}

/// Found a topic.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NewTopic {
    /// Its name: words divided by `/`.
    pub name: String,
    /// Its law.
    pub policy: PolicyView,
}

/// Ask whether data of a topic may go somewhere.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Explain {
    /// The topic.
    pub topic: String,
    /// A region or a peer id.
    pub to: String,
}

/// A topic.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct TopicView {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: String,
    /// The law in force, inherited rules included.
    pub policy: PolicyView,
    /// How many policies govern it so far.
    pub epoch: u64,
    /// Who founded it. More than one: two nodes founded it before they met, and the law is what both allow.
    pub founders: Vec<String>,
    /// Whether this node may hold it, and if not the rule that forbids it.
    pub held: bool,
    /// The rule that forbids holding it here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    /// Memories held here.
    pub memories: usize,
    /// Nodes that are to hold it.
    pub holders: Vec<NodeName>,
}

/// Whether data of a topic may go somewhere, and why.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Explained {
    /// The topic.
    pub topic: String,
    /// The region or node asked about.
    pub to: String,
    /// The answer.
    pub allowed: bool,
    /// A stable name of the rule: `region`, `border`, `encryption`, `scope`, `keyring`, `expired`,
    /// `unknown_topic`, `unknown_member` or `allowed`.
    pub rule: String,
    /// The rule in words.
    pub reason: String,
    /// The law that was asked.
    pub policy: PolicyView,
    /// Nodes that hold it now.
    pub holders: Vec<NodeName>,
}

/// This node.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Status {
    /// Its peer id.
    pub node_id: String,
    /// Its certified region.
    pub region: String,
    /// The hive's root key, in hexadecimal.
    pub hive: String,
    /// Roles.
    pub roles: Vec<String>,
    /// The address of the HTTP API, such as `127.0.0.1:27470`.
    pub api: String,
    /// Multiaddrs at which others can dial it.
    pub listen: Vec<String>,
    /// Connected and admitted peers.
    pub peers: Vec<PeerView>,
    /// Members that are not connected, and when each last was.
    #[serde(default)]
    pub away: Vec<NodeName>,
    /// Addresses at which this node is proved to be reached from outside.
    #[serde(default)]
    pub external: Vec<String>,
    /// Relays at which it keeps a place, because nobody could dial it else.
    #[serde(default)]
    pub relays: Vec<String>,
    /// Known topics.
    pub topics: Vec<TopicView>,
    /// Memories held here.
    pub memories: usize,
    /// WebAssembly agents that live here.
    #[serde(default)]
    pub agents: u64,
    /// Models of which there is something here.
    #[serde(default)]
    pub models: Vec<HeldModel>,
    /// Bytes of GPU memory that this node says it has.
    #[serde(default)]
    pub gpu_bytes: u64,
    /// Whether the recall index has caught up with the log.
    pub index_ready: bool,
    /// Bytes of the store on disk.
    pub store_bytes: u64,
    /// The store, and the disk it is on.
    #[serde(default)]
    pub store: StoreView,
    /// The software's version.
    pub version: String,
    /// Up since.
    pub up_since: u64,
    /// The certificate lapses then.
    pub certificate_until: u64,
    /// Counts of everything that was refused, by rule.
    pub denials: BTreeMap<String, u64>,
    /// Its home folder.
    pub home: String,
}

/// A node's store, and the disk it is on.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct StoreView {
    /// Its engine: `redb` or `sled`.
    pub engine: String,
    /// How long the disk takes to make a write durable: the median of the last ones, in milliseconds.
    pub commit_ms: Option<f64>,
    /// Whether that is so long that people notice.
    pub slow: bool,
    /// Whether the disk is so full that nothing new is taken.
    pub read_only: bool,
    /// Free bytes on the disk, if they can be known.
    pub free_bytes: Option<u64>,
}

/// A connected peer.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct PeerView {
    /// Its peer id.
    pub node: String,
    /// Its certified region.
    pub region: String,
    /// The regions that it and this node lie in, from the top down.
    #[serde(default)]
    pub domains: Vec<String>,
    /// The address of the connection.
    pub addr: String,
    /// Smoothed round trip in milliseconds, once measured.
    pub rtt_ms: Option<f64>,
    /// Bytes received from it.
    pub bytes_in: u64,
    /// Bytes sent to it.
    pub bytes_out: u64,
    /// Frames that found its queue full; anti-entropy made up for them.
    pub dropped: u64,
    /// Whether it is connected.
    #[serde(default)]
    pub up: bool,
    /// Its certified roles, where they are known.
    #[serde(default)]
    pub roles: Vec<String>,
    /// Whether the connection goes through a relay; absent without a connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relayed: Option<bool>,
    /// When it was last connected; absent if it is now or never was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_seen: Option<u64>,
    /// Topics that both hold and whose logs are known to be equal.
    #[serde(default)]
    pub agrees: Vec<String>,
    /// Topics that both are to hold and that are not known to be equal.
    #[serde(default)]
    pub differs: Vec<String>,
    /// Bytes of GPU memory that it says it has.
    #[serde(default)]
    pub gpu_bytes: u64,
    /// Models that it says are there: `blake3:` and half of the hash of each, or the name where this
    /// node knows it.
    #[serde(default)]
    pub models: Vec<String>,
    /// Topics whose tasks it says it runs.
    #[serde(default)]
    pub tasks: Vec<String>,
}

/// Ask for a ticket.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Invite {
    /// The region the newcomer will be in; this node's own if absent.
    pub region: Option<String>,
    /// Topics it may take part in, and those below them; every topic if absent.
    pub topics: Option<Vec<String>>,
    /// Roles it may have.
    pub roles: Vec<String>,
    /// How long the ticket is good, in seconds; 900 if absent.
    pub ttl_seconds: Option<u64>,
}

/// A ticket.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Invited {
    /// What the newcomer hands to `aquifer join`: good once, until `expires_at`.
    pub ticket: String,
    /// The region it is for.
    pub region: String,
    /// Topics it is for; every topic if absent.
    pub topics: Option<Vec<String>>,
    /// When it lapses.
    pub expires_at: u64,
}

/// What was looked for, and what was found.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Found {
    /// `node`, or `topic` where its holders were looked for.
    pub kind: String,
    /// The nodes found. A hint: only a node that is dialled and shows its certificate is one.
    pub nodes: Vec<FoundNode>,
    /// The steps tried, in order.
    pub tried: Vec<Tried>,
}

/// One node found.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct FoundNode {
    /// Its peer id.
    pub node: String,
    /// Its certified region; `?` if it is not known here.
    pub region: String,
    /// Which step found it.
    pub via: String,
    /// Where it is said to listen: multiaddrs.
    pub addresses: Vec<String>,
}

/// One step of a search.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Tried {
    /// Where was looked.
    pub step: String,
    /// What came of it.
    pub outcome: String,
}

//! Requests and answers about the swarm: who did not answer, round trips, and the whole as a graph.

use super::NodeName;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A node whose knowledge an answer lacks, and why.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema, PartialEq, Eq)]
pub struct Missing {
    /// The node.
    #[serde(flatten)]
    pub node: NodeName,
    /// Why, for a person to read.
    #[serde(default)]
    pub why: String,
}

/// Ask a node whether it is there.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Ping {
    /// A peer id, its last four characters or more, or a region that has one other node.
    pub node: String,
    /// How often, 1 to 100; 4 if absent.
    pub count: Option<usize>,
    /// How long to wait for each answer, in milliseconds; 5,000 at most and if absent.
    pub wait_ms: Option<u64>,
}

/// What came of a [`Ping`].
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Pinged {
    /// The node.
    pub node: String,
    /// Its region.
    pub region: String,
    /// `direct` or `relayed`.
    pub path: String,
    /// The address of the connection.
    pub addr: String,
    /// Questions sent.
    pub sent: usize,
    /// Questions answered.
    pub answered: usize,
    /// Least round trip in milliseconds: from our door to its answer, through both programs.
    pub min_ms: f64,
    /// Mean round trip in milliseconds.
    pub avg_ms: f64,
    /// 99th percentile of the round trips, in milliseconds: the longest of fewer than a hundred.
    pub p99_ms: f64,
    /// Each round trip in milliseconds, in the order in which they were made.
    pub rtts_ms: Vec<f64>,
}

/// The swarm as seen from this node, and as its peers see it.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct Graph {
    /// This node.
    pub here: String,
    /// When, in milliseconds since the Unix epoch.
    pub at: u64,
    /// Members of the hive, by region and then by peer id.
    pub nodes: Vec<GraphNode>,
    /// Connections between them.
    pub links: Vec<GraphLink>,
    /// Peers that were asked for theirs, this node included.
    pub asked: usize,
    /// Of these, those that answered.
    pub answered: usize,
}

/// A member of the hive.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct GraphNode {
    /// Its peer id.
    pub node: String,
    /// Its region.
    pub region: String,
    /// Its roles.
    pub roles: Vec<String>,
    /// Whether somebody who was asked is connected to it.
    pub up: bool,
    /// When this node was last connected to it; absent if it is now or never was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_seen: Option<u64>,
}

/// A connection between two members.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct GraphLink {
    /// One end.
    pub a: String,
    /// The other; of the two ids the greater.
    pub b: String,
    /// Round trip in milliseconds, the least that either end has told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rtt_ms: Option<f64>,
    /// Whether it goes through a relay.
    pub relayed: bool,
}

//! Models: what is said of them, and what can be asked.

use super::{Durable, NodeName, Problem};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Publish a file as a model, or a new version of one.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PushModel {
    /// The file's path on the node's own machine; the body of the request if that is a stream.
    pub path: String,
    /// `NAME` or `NAME:TAG`.
    pub name: String,
    /// The topic; `models` if absent. A topic that does not exist is founded, kept in this node's region.
    pub topic: Option<String>,
    /// The licence: an SPDX expression or a word.
    pub licence: String,
    /// What the model is for.
    pub purpose: String,
    /// Bytes of GPU memory it needs.
    pub gpu_bytes: u64,
    /// Bytes of main memory it needs.
    pub ram_bytes: u64,
    /// Regions it may be in, fewer than its topic's; all of those if empty.
    pub regions: Vec<String>,
    /// It is a new version of the model of that name, which must exist; else it must not.
    pub update: bool,
    /// On behalf of which named agent of this node.
    pub agent: Option<String>,
}

/// Name a model.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AskModel {
    /// `NAME` or `NAME:TAG`.
    pub name: String,
    /// The topic; `models` if absent.
    pub topic: Option<String>,
}

/// A model, as the newest manifest of its name says.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ModelView {
    /// `NAME:TAG`.
    pub name: String,
    /// Its topic, whose law holds for it.
    pub topic: String,
    /// The memory that is its manifest.
    pub id: String,
    /// The BLAKE3 hash of its content, in hexadecimal.
    pub blob: String,
    /// Its length, in bytes.
    pub bytes: u64,
    /// Its licence; empty if nothing is said.
    pub licence: String,
    /// What it is for; empty if nothing is said.
    pub purpose: String,
    /// Bytes of GPU memory it needs.
    pub gpu_bytes: u64,
    /// Bytes of main memory it needs.
    pub ram_bytes: u64,
    /// Regions it may be in, where they are fewer than its topic's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub regions: Vec<String>,
    /// The agent that published it.
    pub publisher: String,
    /// The node that signed that.
    pub node: String,
    /// When.
    pub published_at: u64,
    /// Whether all of it is here.
    pub held: bool,
    /// Whether this node is to hold it.
    pub wanted: bool,
    /// The file, where all of it is here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// How its fetch goes, or went last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fetch: Option<FetchView>,
    /// Other contents that somebody published under the same name and nobody has reconciled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conflicts: Vec<String>,
}

/// How a fetch goes, or went.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct FetchView {
    /// Whether it is under way.
    pub running: bool,
    /// Bytes that were here and proved when it began.
    pub had_bytes: u64,
    /// Bytes that are here and proved.
    pub done_bytes: u64,
    /// Bytes of the whole.
    pub total_bytes: u64,
    /// Bytes that came though they were here already.
    pub again_bytes: u64,
    /// Bytes that came, with their proofs.
    pub wire_bytes: u64,
    /// New bytes a second since it began.
    pub bytes_per_second: u64,
    /// Bytes by the node they came from.
    pub from: Vec<GivenView>,
    /// Nodes that are asked no more, and why.
    pub dropped: Vec<DroppedView>,
    /// Why it does not go on, if it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
}

/// How much a node gave.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct GivenView {
    /// Its peer id.
    pub node: String,
    /// New bytes of it.
    pub bytes: u64,
}

/// A node that is asked no more.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct DroppedView {
    /// Its peer id.
    pub node: String,
    /// Why.
    pub why: String,
}

/// What came of a push.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct PushedModel {
    /// The model.
    pub model: ModelView,
    /// Whether the topic was founded by this call.
    pub topic_founded: bool,
    /// How durable its manifest is.
    pub durable: Durable,
    /// How long hashing and storing took, in milliseconds, and how many bytes that is a second.
    pub stored_ms: u64,
    /// See `stored_ms`.
    pub bytes_per_second: u64,
}

/// What a check found.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct CheckedModel {
    /// The model.
    pub model: ModelView,
    /// Bytes here that were read and proved.
    pub proved_bytes: u64,
    /// Bytes here that are not those of the model. They are fetched again, if this node is to hold it.
    pub damaged_bytes: u64,
    /// What the other nodes say that are to hold it, or could.
    pub holders: Vec<HolderView>,
}

/// What a node says of a model.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct HolderView {
    /// The node.
    pub node: NodeName,
    /// Whether it says that all of it is there.
    pub holds: bool,
    /// Why not, or why that is not known; empty if it holds it.
    pub why: String,
}

/// What came of a removal.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct RemovedModel {
    /// The manifests that are erased, for good and everywhere.
    pub ids: Vec<String>,
    /// Bytes that became free here. Other holders remove theirs once the erasure reaches them.
    pub freed_bytes: u64,
    /// Who confirmed the erasure.
    pub durable: Durable,
}

/// One line of an answer that takes its time: how far it is, again and again, then what came of it.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ModelLine {
    /// How far it is.
    Progress(ModelProgress),
    /// A push is done.
    Pushed(Box<PushedModel>),
    /// A pull is done.
    Pulled(Box<ModelView>),
    /// A check is done.
    Checked(Box<CheckedModel>),
    /// It failed.
    Problem(Problem),
}

/// How far something is.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ModelProgress {
    /// `storing`, `fetching` or `checking`.
    pub stage: String,
    /// Bytes done.
    pub done_bytes: u64,
    /// Bytes in all; 0 if that is not known.
    pub total_bytes: u64,
}

/// A model that a node holds, for `status`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct HeldModel {
    /// `NAME:TAG`.
    pub name: String,
    /// Its topic.
    pub topic: String,
    /// Its length, in bytes.
    pub bytes: u64,
    /// How many of them are here.
    pub here_bytes: u64,
}

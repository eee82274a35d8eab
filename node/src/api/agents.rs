//! Requests and answers about WASM agents. Bytes are base64 (RFC 4648, with padding).

use super::NodeName;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

/// The topic that an agent lives in when none is named.
pub const DEFAULT_HOME: &str = "agents";

/// What an agent may do and use. What is absent is as it was, or the usual.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct Grants {
    /// What it may ask of its host (`publish`, `remember`, …); all but `infer` if absent.
    pub imports: Option<Vec<String>>,
    /// Topics on which it may speak: these and all below them.
    pub publishes: Option<Vec<String>>,
    /// Topics that wake it: these and all below them.
    pub follows: Option<Vec<String>>,
    /// What the keys begin with under which it may remember.
    pub remembers: Option<Vec<String>>,
    /// Fuel of one wake: about one for an instruction.
    pub fuel: Option<u64>,
    /// Calls of the host in one wake.
    pub calls: Option<u32>,
    /// Bytes that it says, remembers, writes and logs in one wake.
    pub bytes: Option<u32>,
    /// Wakes in a minute.
    pub wakes_per_minute: Option<u32>,
    /// Things said and remembered in a minute.
    pub messages_per_minute: Option<u32>,
    /// Their bytes.
    pub bytes_per_minute: Option<u32>,
    /// Bytes of keys and values of its own.
    pub kv_bytes: Option<u32>,
    /// It is not woken after this.
    pub expires_at: Option<u64>,
    /// How many holders must agree on each of its steps: `2of3`.
    pub attest: Option<String>,
}

/// Deploy an agent, or upgrade one.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Deploy {
    /// What it is called: up to 64 letters, digits, `-`, `_` or `.`.
    pub name: String,
    /// The topic it lives in; `agents` if absent. An upgrade stays where it is.
    pub topic: Option<String>,
    /// The module, base64.
    pub module: String,
    /// What it may do.
    pub grants: Grants,
    /// How many agents of this kind; 1 if absent. An upgrade keeps the number.
    pub agents: Option<u32>,
    /// How many nodes host it; 1 if absent. An upgrade keeps them.
    pub copies: Option<u8>,
    /// Only nodes of this region host it.
    pub region: Option<String>,
    /// Bytes of GPU memory that its hosts must have.
    pub gpu_bytes: Option<u64>,
    /// BLAKE3 of models that its hosts must have, in hexadecimal.
    pub models: Vec<String>,
    /// On behalf of which named agent of this node; the node's own key if absent.
    pub publisher: Option<String>,
    /// How long to wait until it lives where it is to, in milliseconds; 10,000 if absent.
    pub wait_ms: Option<u64>,
}

/// Change which nodes host an agent.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MoveAgent {
    /// The node that is to host it from now on: a peer id, or its last characters.
    pub to: String,
    /// Begin anew there, without the state: its host is gone for good.
    pub force: bool,
    /// How long to wait, in milliseconds; 10,000 if absent.
    pub wait_ms: Option<u64>,
}

/// An agent as it is shown.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct AgentView {
    /// What it is called.
    pub name: String,
    /// The key of its first copy.
    pub id: String,
    /// Who published it.
    pub publisher: String,
    /// The topic it lives in.
    pub topic: String,
    /// BLAKE3 of its module.
    pub module: String,
    /// Which order of its publisher this is.
    pub version: u64,
    /// How many there are.
    pub agents: u32,
    /// `running`, `starting`, `stopped`, `failed`, or `rolled back`: an upgrade failed, and it goes on as
    /// it was.
    pub state: String,
    /// Where they are hosted, and what came of the order there.
    pub hosts: Vec<Hosted>,
    /// What it may do.
    pub grants: Grants,
    /// Steps that its hosts do not agree on.
    pub disputes: Vec<DisputeView>,
    /// What is known if it lives on this node.
    pub here: Option<AgentHere>,
}

impl AgentView {
    /// Whether all hosts have said what came of the order.
    pub fn is_settled(&self) -> bool {
        let mut hosts = self.hosts.iter();
        hosts.all(|host| host.settled || host.failed.is_some())
    }
}

/// A node that hosts an agent.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Hosted {
    /// The node.
    #[serde(flatten)]
    pub node: NodeName,
    /// Whether it has carried the order out.
    pub settled: bool,
    /// Why it could not; all is as it was before the order.
    pub failed: Option<String>,
    /// Whether it is the one that wakes the agent now.
    pub active: bool,
    /// Whether it signed for a step that comes to something else: nobody follows it any more.
    pub quarantined: bool,
}

/// A step that two hosts do not agree on: each signed for what it came to.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct DisputeView {
    /// What differs.
    pub what: String,
    /// The node that disputes it.
    pub by: String,
    /// What is disputed.
    pub theirs: ReceiptView,
    /// What the step came to at the other node; absent if to nothing.
    pub ours: Option<ReceiptView>,
}

/// An agent that lives on this node.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct AgentHere {
    /// Steps that its first copy has taken, ever.
    pub steps: u64,
    /// Steps of all copies since the node started.
    pub steps_since_start: u64,
    /// Wakes that came to nothing since the node started.
    pub failures: u64,
    /// Why the last one did.
    pub failed: Option<String>,
    /// When one last woke.
    pub woke_at: Option<u64>,
    /// What it last said how it is: 0 is well.
    pub health: Option<Health>,
}

/// How an agent says it is.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Health {
    /// 0 is well.
    pub code: i32,
    /// In words.
    pub words: String,
}

/// Invoke an agent and wait for what it says.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Invoke {
    /// What for, as JSON; it reaches the agent as CBOR. Numbers are whole.
    pub input: Option<Value>,
    /// Instead: the bytes themselves, base64.
    pub bytes: Option<String>,
    /// Which copy; the first if absent.
    pub copy: Option<u32>,
    /// Do not wait: it is a message, and nobody answers.
    pub send: bool,
    /// How long to wait for the answer, in milliseconds; 10,000 if absent.
    pub wait_ms: Option<u64>,
}

/// What an agent answered.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Invoked {
    /// By what the invocation is known.
    pub input: String,
    /// Which step it was; absent if it was a message.
    pub step: Option<u64>,
    /// What it said, base64; absent if nothing.
    pub bytes: Option<String>,
    /// The same as JSON, if it has such a form.
    pub said: Option<Value>,
}

/// A line that an agent logged.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct LogLine {
    /// When.
    pub at: u64,
    /// The agent's key.
    pub agent: String,
    /// In which step.
    pub step: u64,
    /// `error`, `warn`, `info`, `debug` or `trace`.
    pub level: String,
    /// The line.
    pub line: String,
}

/// What a node answers for when it says that an agent took a step. Hashes are hexadecimal.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ReceiptView {
    /// The agent's key.
    pub agent: String,
    /// Which step.
    pub step: u64,
    /// The time of the input.
    pub at: u64,
    /// `message`, `publication`, `timer` or `invocation`.
    pub cause: String,
    /// What the guest returned.
    pub code: i32,
    /// How many things were to be done.
    pub effects: usize,
    /// Of the receipt.
    pub receipt: String,
    /// Of the manifest, and so of the module.
    pub kind: String,
    /// Of the state before.
    pub before: String,
    /// Of the state after.
    pub after: String,
    /// The node that signed for it.
    pub node: String,
}

/// Take an agent's last steps again.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct VerifyAgent {
    /// How many of the last; 1,000 if absent.
    pub steps: Option<usize>,
    /// `wasmtime`, `wasmi` or `kernel`; `wasmi` if absent.
    pub engine: Option<String>,
}

/// What came of that.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Verified {
    /// The engine they were taken on.
    pub engine: String,
    /// How many steps were taken again.
    pub checked: usize,
    /// How many came to the same.
    pub equal: usize,
    /// How many did not.
    pub different: usize,
    /// The first that did not.
    pub findings: Vec<Doubt>,
}

/// A step that came to something else.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Doubt {
    /// The agent's key.
    pub agent: String,
    /// Which step.
    pub step: u64,
    /// The node that signed for it.
    pub node: String,
    /// What differs.
    pub what: String,
}

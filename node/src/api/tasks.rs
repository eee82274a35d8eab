//! Requests and answers about tasks. Bytes are base64 (RFC 4648, with padding).

use super::NodeName;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The topic of a task when none is named.
pub const DEFAULT_TASKS: &str = "tasks";

/// Ask for a program to be run by a node that can.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct SubmitTask {
    /// The topic, whose law says where it may run; `tasks` if absent.
    pub topic: Option<String>,
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// Variables, as NAME=VALUE.
    pub env: Vec<String>,
    /// Files that it finds in `/in`.
    pub files: Vec<TaskFile>,
    /// What it reads from stdin, base64.
    pub stdin: Option<String>,
    /// Folders and files of the machine that it sees, read-only; programs and libraries if absent.
    pub sees: Option<Vec<String>>,
    /// What it may use; what is absent is the usual.
    pub budget: TaskBudget,
    /// What the node that runs it must have.
    pub needs: TaskNeeds,
}

/// A file that comes with a task.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct TaskFile {
    /// What it is called in `/in`.
    pub name: String,
    /// Its bytes, base64.
    pub bytes: String,
    /// Whether it is a program.
    pub program: bool,
}

/// What a task may use.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct TaskBudget {
    /// Time, in milliseconds; 10,000 if absent.
    pub wall_ms: Option<u64>,
    /// Time of processors, in milliseconds; what its time and its processors come to if absent.
    pub cpu_ms: Option<u64>,
    /// Processors at once, in thousandths; 1,000 if absent.
    pub cores: Option<u32>,
    /// Bytes of memory of all its processes together; 256 MiB if absent. The node must have so much.
    pub memory_bytes: Option<u64>,
    /// Processes and threads at once; 64 if absent.
    pub pids: Option<u32>,
    /// Bytes of output; 1 MiB if absent. Of that, 48 KiB are told.
    pub output_bytes: Option<u64>,
    /// Bytes of files that it makes; 64 MiB if absent.
    pub scratch_bytes: Option<u64>,
}

/// What a node that runs a task must have.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct TaskNeeds {
    /// Bytes of GPU memory.
    pub gpu_bytes: u64,
    /// Bytes of memory.
    pub ram_bytes: u64,
    /// Models that must be there: the BLAKE3 of each in hexadecimal, or `TOPIC/NAME` as this node knows it.
    pub models: Vec<String>,
}

/// Wait for a task.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct WaitTask {
    /// How long, in milliseconds; 10,000 if absent.
    pub wait_ms: Option<u64>,
}

/// A task as it is shown.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct TaskView {
    /// The record that asks for it, in hexadecimal.
    pub id: String,
    /// The topic.
    pub topic: String,
    /// `waiting`, `running`, `ended`, `refused` (every node that may and can refused it), `cancelled`, or
    /// `given up`: it was claimed three times and nothing came of it.
    pub state: String,
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// The job's hash.
    pub job: String,
    /// The node where it was asked for.
    pub asked_by: NodeName,
    /// For whom.
    pub author: String,
    /// When.
    pub asked_at: u64,
    /// How long it may last, in milliseconds.
    pub wall_ms: u64,
    /// What the node that runs it must have; models by their hashes.
    pub needs: TaskNeeds,
    /// Who claimed it.
    pub attempts: Vec<AttemptView>,
    /// Why nobody runs it, if nobody does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// What came of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<OutcomeView>,
}

impl TaskView {
    /// Whether nothing will come of it any more.
    pub fn is_over(&self) -> bool {
        !matches!(self.state.as_str(), "waiting" | "running")
    }
}

/// A time in which a task was one node's.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct AttemptView {
    /// Whose.
    pub node: NodeName,
    /// From when.
    pub from: u64,
    /// Until when the node counts as running it, if nothing more is heard.
    pub until: u64,
    /// Why it left the task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left: Option<String>,
}

/// What came of a task.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct OutcomeView {
    /// The node that ran it, or cancelled it.
    pub node: NodeName,
    /// When it said so.
    pub at: u64,
    /// `exited`, `signalled`, `over_time`, `over_cpu`, `over_memory`, `over_output`, `stopped`, `refused` or
    /// `cancelled`.
    pub ended: String,
    /// The exit code or the signal, where there is one.
    pub number: u8,
    /// Why it was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    /// The hash of what the job made, before its outputs were cut.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub product: Option<String>,
    /// What it said.
    pub stdout: SaidView,
    /// What it said on the side.
    pub stderr: SaidView,
    /// What it used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<UsageView>,
}

/// What a task said on one stream.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct SaidView {
    /// As text; what is no UTF-8 in it is replaced.
    pub text: String,
    /// The bytes, base64, if they are no UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base64: Option<String>,
    /// How many bytes are here.
    pub bytes: usize,
    /// Whether there were more.
    pub cut: bool,
}

/// What a task used.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct UsageView {
    /// Time, in microseconds.
    pub wall_us: u64,
    /// Time until its first instruction, in microseconds.
    pub setup_us: u64,
    /// Time of processors, in microseconds.
    pub cpu_us: u64,
    /// Most memory at once, in bytes.
    pub memory_peak_bytes: u64,
    /// How often it was refused a process.
    pub pids_refused: u64,
}

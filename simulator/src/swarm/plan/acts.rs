//! The parts of a plan about what agents do: how they are grouped, and behaviours.

use super::ParseSwarm;
use super::parts::{say_span, span};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Clusters, meshes of clusters, and all.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Hierarchy {
    /// Agents of a cluster.
    pub cluster: u32,
    /// Agents of a mesh.
    pub mesh: u32,
    /// How many stand by for each head.
    pub standby: u32,
    /// How often agents report to their cluster.
    #[serde(deserialize_with = "span", serialize_with = "say_span")]
    pub cluster_every: Duration,
    /// How often clusters report to their mesh.
    #[serde(deserialize_with = "span", serialize_with = "say_span")]
    pub mesh_every: Duration,
    /// How often meshes report to all.
    #[serde(deserialize_with = "span", serialize_with = "say_span")]
    pub global_every: Duration,
    /// How often the head of all takes a checkpoint.
    #[serde(deserialize_with = "span", serialize_with = "say_span")]
    pub checkpoint_every: Duration,
    /// How long behaviours are simulated.
    #[serde(deserialize_with = "span", serialize_with = "say_span")]
    pub horizon: Duration,
}

impl Default for Hierarchy {
    fn default() -> Self {
        Self {
            cluster: 32,
            mesh: 4_096,
            standby: 1,
            cluster_every: Duration::from_secs(2),
            mesh_every: Duration::from_secs(60),
            global_every: Duration::from_secs(3_600),
            checkpoint_every: Duration::from_secs(21_600),
            horizon: Duration::from_secs(600),
        }
    }
}

/// Something that agents do together.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Behaviour {
    /// They report what they see, up to the top.
    Gather(GatherPlan),
    /// They ask for what others remember.
    Recall(RecallPlan),
    /// They follow signals.
    Signals(SignalsPlan),
    /// They do tasks, and vote.
    Tasks(TasksPlan),
}

/// There is nothing to choose.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct GatherPlan {}

/// Questions after memories.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct RecallPlan {
    /// How many memories there are, made one after the other over the whole run.
    pub memories: u32,
    /// How many keep each.
    pub copies: u32,
    /// How long an answer is, in bytes.
    pub bytes: u32,
    /// How many questions.
    pub count: u32,
    /// How many a second.
    pub rate: f64,
    /// When the first.
    #[serde(deserialize_with = "span", serialize_with = "say_span")]
    pub from: Duration,
}

impl Default for RecallPlan {
    fn default() -> Self {
        Self {
            memories: 10_000,
            copies: 3,
            bytes: 1_024,
            count: 10_000,
            rate: 100.0,
            from: Duration::from_secs(120),
        }
    }
}

/// Places, and how signals lead to them.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct SignalsPlan {
    /// How many places there are.
    pub places: u32,
    /// Between two steps of an agent.
    #[serde(deserialize_with = "span", serialize_with = "say_span")]
    pub step: Duration,
    /// Of a million steps, so many lead to any place.
    pub random: u32,
    /// In a period of its cluster a signal loses one part in so many.
    pub fades: u32,
}

impl Default for SignalsPlan {
    fn default() -> Self {
        Self {
            places: 12,
            step: Duration::from_secs(2),
            random: 50_000,
            fades: 8,
        }
    }
}

/// Work that is handed out.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct TasksPlan {
    /// How many tasks.
    pub count: u32,
    /// How many a second, among all.
    pub rate: f64,
    /// When the first.
    #[serde(deserialize_with = "span", serialize_with = "say_span")]
    pub from: Duration,
    /// How many are asked at once.
    pub asks: u32,
    /// How many must come to one result.
    pub agree: u32,
    /// How long the work takes, on average.
    #[serde(deserialize_with = "span", serialize_with = "say_span")]
    pub work: Duration,
    /// After how long another is asked.
    #[serde(deserialize_with = "span", serialize_with = "say_span")]
    pub lease: Duration,
    /// Of a million agents, so many come to a wrong result.
    pub faulty: u32,
}

impl Default for TasksPlan {
    fn default() -> Self {
        Self {
            count: 5_000,
            rate: 20.0,
            from: Duration::from_secs(10),
            asks: 3,
            agree: 2,
            work: Duration::from_secs(2),
            lease: Duration::from_secs(10),
            faulty: 0,
        }
    }
}

/// The keys of a hierarchy, and of each kind of behaviour.
pub(super) const HIERARCHY: [&str; 8] = [
    "cluster",
    "mesh",
    "standby",
    "cluster_every",
    "mesh_every",
    "global_every",
    "checkpoint_every",
    "horizon",
];
pub(super) const KINDS: [(&str, &[&str]); 4] = [
    ("gather", &["kind"]),
    (
        "recall",
        &[
            "kind", "memories", "copies", "bytes", "count", "rate", "from",
        ],
    ),
    ("signals", &["kind", "places", "step", "random", "fades"]),
    (
        "tasks",
        &[
            "kind", "count", "rate", "from", "asks", "agree", "work", "lease", "faulty",
        ],
    ),
];

/// Whether what is asked can be.
pub(super) fn check(
    plan: &Hierarchy,
    behaviours: &[Behaviour],
    agents: u64,
) -> Result<(), ParseSwarm> {
    let fail = |key, why: &str| {
        let why = why.to_owned();
        Err(ParseSwarm::Impossible { key, why })
    };
    if behaviours.is_empty() {
        return Ok(());
    }
    if agents > 1 << 22 {
        return fail("behaviour", "up to 4194304 agents");
    }
    if !(2..=4_096).contains(&plan.cluster)
        || !plan.mesh.is_multiple_of(plan.cluster)
        || plan.mesh == 0
    {
        return fail(
            "hierarchy",
            "`cluster` is 2 to 4096, and `mesh` a multiple of it",
        );
    }
    if plan.mesh / plan.cluster > 1 << 16
        || agents / u64::from(plan.mesh) > 1 << 16
        || plan.standby > 3
    {
        return fail(
            "hierarchy",
            "up to 65536 groups in each, and 3 on `standby`",
        );
    }
    let every = [
        plan.cluster_every,
        plan.mesh_every,
        plan.global_every,
        plan.checkpoint_every,
    ];
    if every[0] < Duration::from_secs(1)
        || !every.is_sorted()
        || every[3] > Duration::from_secs(864_000)
    {
        return fail(
            "hierarchy",
            "`cluster_every` is a second or more, and each level no quicker than the one below",
        );
    }
    let lasts = Duration::from_secs(10)..=Duration::from_secs(864_000);
    if !lasts.contains(&plan.horizon) {
        return fail("hierarchy", "`horizon` is ten seconds to ten days");
    }
    let rates = |rate: f64, count: u32, most: u32| {
        (1e-6..=1e6).contains(&rate) && (1..=most).contains(&count)
    };
    let steps = Duration::from_millis(100)..=Duration::from_secs(3_600);
    let spans = Duration::from_millis(10)..=Duration::from_secs(86_400);
    for behaviour in behaviours {
        match behaviour {
            Behaviour::Gather(_) => {}
            Behaviour::Recall(plan) => {
                if !rates(plan.rate, plan.count, 500_000)
                    || plan.memories == 0
                    || !(1..=16).contains(&plan.copies)
                {
                    return fail(
                        "behaviour",
                        "recall: `count` up to 500000, `rate` above 0, some `memories`, 1 to 16 `copies`",
                    );
                }
            }
            Behaviour::Signals(plan) => {
                if !(2..=127).contains(&plan.places)
                    || plan.fades < 2
                    || !steps.contains(&plan.step)
                {
                    return fail(
                        "behaviour",
                        "signals: 2 to 127 `places`, `fades` above 1, `step` of 100ms to an hour",
                    );
                }
            }
            Behaviour::Tasks(plan) => {
                if !rates(plan.rate, plan.count, 16_000)
                    || plan.agree == 0
                    || plan.asks < plan.agree
                    || plan.asks > 16
                {
                    return fail(
                        "behaviour",
                        "tasks: `count` up to 16000, `rate` above 0, `agree` up to `asks` up to 16",
                    );
                }
                if plan.work < Duration::from_millis(1)
                    || plan.work > Duration::from_secs(86_400)
                    || !spans.contains(&plan.lease)
                {
                    return fail(
                        "behaviour",
                        "tasks: `work` takes a millisecond to a day, a `lease` 10ms to a day",
                    );
                }
            }
        }
    }
    Ok(())
}

//! What the operator says of tasks: whose are run here, and how many at once.
//!
//! A node runs programs of others only if its operator says so, topic by topic, and if it is able to hold
//! them: the runner is tried when the node starts, and where it refuses, the node does not start.

use crate::api::Problem;
use aquifer_protocol::certificate::role;
use aquifer_protocol::placement::{ram_entry, task_entry};
use aquifer_protocol::{HiveId, Member, TopicName};
use aquifer_runner::Runner;
use aquifer_runner::process::{Process, Settings};
use aquifer_runner::stage::Stage;
use std::sync::Arc;

/// Most topics whose tasks one node runs: they stand in its manifest.
pub const TOPICS_MAX: usize = 16;
/// Most jobs at once.
pub const AT_ONCE_MAX: usize = 64;

/// A runner that any thread may use.
pub type AnyRunner = Arc<dyn Runner + Send + Sync>;

/// What the operator says.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct TaskSettings {
    /// The topics whose tasks are run here; none for none.
    pub topics: Vec<TopicName>,
    /// How many at once.
    pub at_once: usize,
    /// Whether those that agents ask for are, too.
    pub from_agents: bool,
}

impl TaskSettings {
    /// Reads what flags and files say.
    ///
    /// # Errors
    /// `bad_topic`, or `bad_config` for more than a node may say.
    pub fn read(
        topics: &[String],
        at_once: Option<usize>,
        from_agents: bool,
    ) -> Result<Self, Problem> {
        let bad = |message: String, hint: &str| Problem::new("bad_config", 2, message, hint);
        let names = topics.iter().map(|name| name.trim());
        let names = names.filter(|name| !name.is_empty());
        let mut topics: Vec<TopicName> = names
            .map(crate::memory::topic_name)
            .collect::<Result<_, _>>()?;
        topics.sort();
        topics.dedup();
        if let Some(own) = topics.iter().find(|topic| topic.is_reserved()) {
            let message = format!("`{own}` is the hive's own topic and has no tasks");
            return Err(bad(message, "for example: --tasks acme/builds"));
        }
        if topics.len() > TOPICS_MAX {
            let message = format!(
                "{} topics are more than the {TOPICS_MAX} whose tasks one node runs",
                topics.len()
            );
            return Err(bad(message, "name fewer with --tasks"));
        }
        let at_once = at_once.unwrap_or(1);
        if !(1..=AT_ONCE_MAX).contains(&at_once) {
            let message = format!("{at_once} tasks at once cannot be");
            return Err(bad(
                message,
                &format!("give 1 to {AT_ONCE_MAX} with --tasks-at-once"),
            ));
        }
        Ok(Self {
            topics,
            at_once,
            from_agents,
        })
    }

    /// Whether tasks are run here at all.
    pub fn runs_any(&self) -> bool {
        !self.topics.is_empty()
    }

    /// The member that this node is, if it may run what it is to run.
    ///
    /// # Errors
    /// `no_role` if its certificate does not say that it runs agents and models.
    pub(crate) fn may_run(&self, me: Member) -> Result<Member, Problem> {
        if !self.runs_any() || me.grant().roles & role::COMPUTE != 0 {
            return Ok(me);
        }
        Err(Problem::new(
            "no_role",
            5,
            "this node is to run tasks, and its certificate has not the role compute",
            "join with a ticket of `aquifer invite --role compute`, or start without --tasks",
        ))
    }

    /// How a manifest says so: the topics, and the memory of this machine.
    pub fn entries(&self, hive: &HiveId) -> Vec<String> {
        if !self.runs_any() {
            return Vec::new();
        }
        let topics = self.topics.iter().map(|topic| task_entry(&topic.id(hive)));
        let ram = ram_bytes().map(ram_entry);
        topics.chain(ram).collect()
    }
}

/// The runner of this machine, tried out.
///
/// # Errors
/// `runner_refused`: why it cannot run jobs, and what would help.
pub async fn runner() -> Result<AnyRunner, Problem> {
    tried(Process::new(Settings::usual(Stage::this()))).await
}

async fn tried(process: Process) -> Result<AnyRunner, Problem> {
    let probe = move || process.probe().map(|_| process);
    let probed = tokio::task::spawn_blocking(probe).await;
    match probed {
        Ok(Ok(process)) => Ok(Arc::new(process)),
        Ok(Err(refusal)) => Err(Problem::new(
            "runner_refused",
            6,
            format!("this machine cannot run tasks: {}", refusal.why),
            format!("{}; or start without --tasks", refusal.hint),
        )),
        Err(why) => Err(Problem::new("internal", 1, why.to_string(), "")),
    }
}

/// Bytes of memory that this machine says it has, where it says so.
fn ram_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1 << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn where_no_job_can_be_held_there_is_no_runner_and_it_is_said_why() {
        let not_a_stage = Stage("/bin/false".into());
        let refused = tried(Process::new(Settings::usual(not_a_stage))).await;
        let Err(problem) = refused else {
            panic!("a program that is no stage runs no jobs");
        };
        assert_eq!(("runner_refused", 6), (problem.code.as_str(), problem.exit));
        assert!(
            problem.hint.ends_with("or start without --tasks"),
            "{problem:?}"
        );
    }

    #[test]
    fn topics_are_read_once_each_and_bad_ones_are_named() {
        let read = |topics: &[&str], at_once| {
            let topics: Vec<String> = topics.iter().map(|name| (*name).to_owned()).collect();
            TaskSettings::read(&topics, at_once, false)
        };
        let settings = read(&["b", "a", "", "b"], None).expect("good");
        let names: Vec<String> = settings.topics.iter().map(ToString::to_string).collect();
        assert_eq!(
            (vec!["a".to_owned(), "b".to_owned()], 1),
            (names, settings.at_once)
        );
        let entries = settings.entries(&HiveId([1; 32]));
        assert_eq!(
            2,
            entries
                .iter()
                .filter(|entry| entry.starts_with("tasks:"))
                .count()
        );
        let none = read(&[], None).expect("good");
        assert!(!none.runs_any() && none.entries(&HiveId([1; 32])).is_empty());
        for (topics, at_once, code) in [
            (&["aquifer/hive"][..], None, "bad_config"),
            (&["not a topic"], None, "bad_topic"),
            (&["a"], Some(0), "bad_config"),
            (&["a"], Some(65), "bad_config"),
        ] {
            assert_eq!(code, read(topics, at_once).expect_err("refused").code);
        }
        let many: Vec<String> = (0..17).map(|n| format!("t{n}")).collect();
        assert_eq!(
            "bad_config",
            TaskSettings::read(&many, None, false)
                .expect_err("too many")
                .code
        );
    }
}

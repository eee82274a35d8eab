//! The ledger: all tasks that this node has heard of, as sets of facts.
//!
//! It is filled by whoever reads records (the agents' thread, which reads them all) and asked by the keeper
//! and the API. What jobs are and what they said is not kept here: that stays in records, under the law and
//! erasable, and is read when it is wanted.
//!
//! Not here: what facts come to (`rules`).

use super::agents::Wish;
use super::note::{MODELS_MAX, Needs, TaskNote};
use super::rules::{Asked, Fact, Task};
use aquifer_protocol::{Record, RecordId, Stamp, TopicId};
use aquifer_runner::job::Job;
use aquifer_runner::serve::Answer;
use std::collections::BTreeMap;

/// Most tasks that are kept; beyond that the oldest that have ended are let go of first.
const TASKS_MAX: usize = 16_384;
/// How many are let go of at once.
const LET_GO: usize = TASKS_MAX / 16;

/// The tasks.
#[derive(Default, Debug)]
pub struct Ledger {
    tasks: BTreeMap<(TopicId, RecordId), Task>,
    latest: Stamp,
}

impl Ledger {
    /// Takes in what a record says. Whether that was news about a task.
    pub fn hear(&mut self, record: &Record) -> bool {
        if let Some(Wish { job, needs, .. }) = Wish::of(record) {
            return self.asked(record, &job, &needs, true);
        }
        let Some(note) = TaskNote::of(record) else {
            return false;
        };
        let (header, id) = (record.header(), record.id());
        self.latest = self.latest.max(header.stamp);
        let (task, fact) = match note {
            TaskNote::Asked { job, needs } => {
                let Ok(job) = Job::open(&job) else {
                    return false;
                };
                if needs.models.len() > MODELS_MAX {
                    return false;
                }
                return self.asked(record, &job, &needs, false);
            }
            TaskNote::Claimed { task, until } => (task, Fact::Claimed { until }),
            TaskNote::Left { task, again, why } => {
                let why = super::note::short(&why);
                (task, Fact::Left { again, why })
            }
            TaskNote::Ended { task, answer, .. } => {
                let job = match answer {
                    Answer::Ran(outcome) => Some(outcome.job),
                    _ => None,
                };
                (task, Fact::Ended { job })
            }
            TaskNote::Cancelled { task } => (task, Fact::Cancelled),
        };
        let at = (header.stamp, id);
        self.task(header.topic, task).join(at, header.writer, fact)
    }

    /// The record asks for a task. Whether that is news.
    fn asked(&mut self, record: &Record, job: &Job, needs: &Needs, by_agent: bool) -> bool {
        let header = record.header();
        self.latest = self.latest.max(header.stamp);
        let budget = &job.request().budget;
        let asked = Asked {
            topic: header.topic,
            writer: header.writer,
            author: header.author,
            by_agent,
            at: header.stamp,
            job: job.hash(),
            wall_ms: budget.wall_ms,
            needs: needs.placed(budget.memory_bytes),
        };
        let task = self.task(header.topic, record.id());
        let is_news = task.asked.is_none();
        task.asked = Some(asked);
        is_news
    }

    fn task(&mut self, topic: TopicId, id: RecordId) -> &mut Task {
        if self.tasks.len() >= TASKS_MAX && !self.tasks.contains_key(&(topic, id)) {
            self.lets_go();
        }
        self.tasks.entry((topic, id)).or_default()
    }

    fn lets_go(&mut self) {
        let mut all: Vec<_> = self
            .tasks
            .iter()
            .map(|(key, task)| {
                let at = task.asked.as_ref().map_or(Stamp::ZERO, |asked| asked.at);
                (task.asked.is_some() && task.end().is_none(), at, *key)
            })
            .collect();
        all.sort_unstable();
        for (_, _, key) in all.into_iter().take(LET_GO) {
            self.tasks.remove(&key);
        }
    }

    /// The latest stamp that was heard: a hybrid clock is not behind it.
    pub fn latest(&self) -> Stamp {
        self.latest
    }

    /// All tasks that somebody asked for.
    pub fn tasks(&self) -> impl Iterator<Item = (&RecordId, &Asked, &Task)> {
        let all = self.tasks.iter();
        all.filter_map(|((_, id), task)| Some((id, task.asked.as_ref()?, task)))
    }

    /// One task.
    pub fn get(&self, topic: TopicId, id: &RecordId) -> Option<&Task> {
        self.tasks.get(&(topic, *id))
    }
}

//! The keeper: claims tasks, runs them, and says what came of them, as the rules tell it.
//!
//! It knows no rule. It looks at every task of the topics that are run here whenever something was heard or
//! a time has come, does what [`rules`](super::rules) say, and lets each job run on a thread of its own.
//! A claim is durable before its job begins. When the node stops, jobs are stopped and nothing is said: what
//! was claimed is over when the claim is, or when this node is back.
//!
//! Not here: which nodes may and can (`memory::tasks`), what a job may do (`aquifer_runner`).

use super::agents::told;
use super::note::{TaskNote, short};
use super::rules::{Act, LEASE_MS, Mine, Standing};
use super::settings::AnyRunner;
use crate::api::Problem;
use crate::memory::Memory;
use crate::view::View;
use aquifer_protocol::{AgentId, Body, NodeId, RecordId, TopicId, TopicName};
use aquifer_runner::Stop;
use aquifer_runner::outcome::Ended;
use aquifer_runner::serve::{Answer, serve};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// The longest sleep: members come and go, and so does the law.
const SLEEP_MAX: Duration = Duration::from_secs(2);
/// The shortest.
const SLEEP_MIN: Duration = Duration::from_millis(10);
/// How long it is waited after the node could not write.
const RETRY: Duration = Duration::from_secs(1);
/// How long jobs may take to stop when the node does.
const CLOSING: Duration = Duration::from_secs(5);

/// A task, by its topic and its record.
type Key = (TopicId, RecordId);

/// Who runs tasks here.
pub(crate) struct Keeper {
    memory: Memory,
    me: NodeId,
    runner: AnyRunner,
    running: BTreeMap<Key, Running>,
    done: mpsc::Receiver<(Key, Answer)>,
    doing: mpsc::Sender<(Key, Answer)>,
}

/// A job that runs here, or has just run.
struct Running {
    mine: Mine,
    stop: Stop,
    /// Nobody wants to hear what comes of it any more.
    dropped: bool,
    /// What came of it, if it is not said yet.
    answer: Option<Answer>,
}

/// Something to be done about a task.
struct Due {
    key: Key,
    act: Act,
}

impl Keeper {
    /// One that runs nothing yet.
    pub(crate) fn new(memory: Memory, runner: AnyRunner) -> Self {
        let at_once = memory.parts().tasks.settings().at_once;
        let (doing, done) = mpsc::channel(at_once.max(1));
        Self {
            me: memory.view().me.node(),
            memory,
            runner,
            running: BTreeMap::new(),
            done,
            doing,
        }
    }

    /// Does so until the node stops.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let tasks = self.memory.parts().tasks.clone();
        let mut news = tasks.changes();
        let mut stirs = self.memory.parts().observed.stirs();
        loop {
            news.mark_unchanged();
            stirs.mark_unchanged();
            let wait = match self.beat().await {
                Ok(wait) => wait.clamp(SLEEP_MIN, SLEEP_MAX),
                Err(problem) => {
                    tracing::warn!(target: "aquifer::tasks", %problem, "tasks wait");
                    RETRY
                }
            };
            tokio::select! {
                () = stop.cancelled() => break,
                Some((key, answer)) = self.done.recv() => self.ran(key, answer),
                changed = news.changed() => if changed.is_err() { break },
                changed = stirs.changed() => if changed.is_err() { break },
                () = tokio::time::sleep(wait) => {}
            }
        }
        self.closes().await;
        tasks.have_ended();
    }

    /// Stops what runs, and waits until nothing of it is left.
    async fn closes(&mut self) {
        self.running.values().for_each(|job| job.stop.stop());
        let all = async {
            while self.running.values().any(|job| job.answer.is_none()) {
                let Some((key, answer)) = self.done.recv().await else {
                    return;
                };
                self.ran(key, answer);
            }
        };
        if tokio::time::timeout(CLOSING, all).await.is_err() {
            tracing::warn!(target: "aquifer::tasks", "a job did not stop in time; it ends with this process");
        }
    }

    fn ran(&mut self, key: Key, answer: Answer) {
        if let Some(job) = self.running.get_mut(&key) {
            job.answer = Some(answer);
        }
    }

    /// Does what is due. How long there is nothing more to do, if nothing is heard.
    async fn beat(&mut self) -> Result<Duration, Problem> {
        if !self.memory.parts().tasks.is_ready() {
            return Ok(SLEEP_MAX);
        }
        let ended: Vec<Key> = self
            .running
            .iter()
            .filter_map(|(key, job)| job.answer.is_some().then_some(*key))
            .collect();
        for key in ended {
            self.says(key).await?;
        }
        let view = self.memory.view();
        let now = self.now();
        let mut next = u64::MAX;
        let mut due = self.due(&view, now, &mut next);
        due.sort_by_key(|due| match due.act {
            Act::Claim(_, order) => Some(order),
            _ => None,
        });
        for Due { key, act } in due {
            match act {
                Act::Rest(_) => {}
                Act::Drop => self.drops(key, "another node has it, or it has ended"),
                Act::Leave => {
                    let why = "the node was started anew".to_owned();
                    self.write(key, |task| TaskNote::Left {
                        task,
                        again: true,
                        why,
                    })
                    .await?;
                }
                Act::Renew(until) => {
                    self.write(key, |task| TaskNote::Claimed { task, until })
                        .await?;
                    next = next.min(now + LEASE_MS / 2);
                }
                Act::Claim(until, _) if self.has_room() => {
                    self.claims(&view, key, until).await?;
                    next = next.min(now + LEASE_MS / 2);
                }
                // The next in the row may have room.
                Act::Claim(..) => {}
            }
        }
        Ok(Duration::from_millis(next.saturating_sub(self.now())))
    }

    /// What the rules say of each task. `next` becomes the time at which they say more.
    fn due(&self, view: &View, now: u64, next: &mut u64) -> Vec<Due> {
        let tasks = &self.memory.parts().tasks;
        let hive = view.law.hive();
        let topics = tasks.settings().topics.iter().map(|name| name.id(hive));
        // Who may run a topic's tasks is the same for all of them.
        let topics = topics.map(|topic| (topic, self.memory.runners(view, topic)));
        let topics: BTreeMap<TopicId, Vec<NodeId>> = topics.collect();
        let from_agents = tasks.settings().from_agents;
        tasks.with(|ledger| {
            let mut all = Vec::new();
            for (id, asked, task) in ledger.tasks() {
                let key = (asked.topic, *id);
                let mine = self.running.get(&key);
                let Some(runners) = topics.get(&asked.topic) else {
                    continue;
                };
                let is_asked = from_agents || !asked.by_agent;
                if !is_asked || mine.is_some_and(|job| job.dropped) {
                    continue;
                }
                if mine.is_none() && task.end().is_some() {
                    continue;
                }
                let able = runners.clone();
                let able = self.memory.with_needs(view, able, &asked.needs);
                let mine = mine.map(|job| job.mine);
                let act = task.next(id, &self.me, &able, now, mine);
                if let Act::Rest(Some(at)) = act {
                    *next = (*next).min(at);
                }
                all.push(Due { key, act });
            }
            all
        })
    }

    fn has_room(&self) -> bool {
        self.running.len() < self.memory.parts().tasks.settings().at_once
    }

    /// Claims a task and begins it.
    async fn claims(&mut self, view: &View, key: Key, until: u64) -> Result<(), Problem> {
        // Another may have claimed it while this node wrote about other tasks.
        let now = self.now();
        let waits = self.memory.parts().tasks.with(|ledger| {
            let task = ledger.get(key.0, &key.1);
            task.is_some_and(|task| task.standing(now) == Standing::Waiting)
        });
        if !waits {
            return Ok(());
        }
        // Without its content there is nothing to run: it was forgotten, or its time is over.
        let Some(job) = self.memory.job_of(view, &key.1)? else {
            return Ok(());
        };
        let written = self.write(key, |task| TaskNote::Claimed { task, until });
        let Some(claim) = written.await? else {
            return Ok(());
        };
        let stop = Stop::default();
        let running = Running {
            mine: Mine { claim },
            stop: stop.clone(),
            dropped: false,
            answer: None,
        };
        self.running.insert(key, running);
        let (runner, doing) = (self.runner.clone(), self.doing.clone());
        let work = tokio::task::spawn_blocking(move || serve(&*runner, &job, &stop));
        tracing::info!(target: "aquifer::tasks", task = %key.1, runner = self.runner.name(), "begun");
        self.memory.parts().observed.count("tasks_begun", "");
        tokio::spawn(async move {
            let answer = match work.await {
                Ok(bytes) => Answer::open(&bytes),
                Err(why) => Some(Answer::Failed(why.to_string())),
            };
            let answer = answer.unwrap_or_else(|| Answer::Failed("it gave no answer".to_owned()));
            // The keeper may have gone.
            let _ = doing.send((key, answer)).await;
        });
        Ok(())
    }

    /// Says what came of a job, if it is still to be heard.
    async fn says(&mut self, key: Key) -> Result<(), Problem> {
        let Some(job) = self.running.get(&key) else {
            return Ok(());
        };
        let (now, me) = (self.now(), self.me);
        let may = self.memory.parts().tasks.with(|ledger| {
            let task = ledger.get(key.0, &key.1);
            task.is_some_and(|task| task.may_end(&me, now))
        });
        let answer = job.answer.clone();
        match answer {
            Some(answer) if may && !job.dropped && !is_stopped(&answer) => {
                let told = self.told(key, &answer)?;
                let note = self.note(key, answer);
                let beside = told.filter(|_| matches!(note, TaskNote::Ended { .. }));
                self.write_beside(key, |_| note, beside).await?;
            }
            _ => {
                tracing::info!(target: "aquifer::tasks", task = %key.1, "what came of it counts no more")
            }
        }
        self.running.remove(&key);
        Ok(())
    }

    /// What is said of an answer. What cannot run here may run elsewhere, if there is another node.
    fn note(&self, key: Key, answer: Answer) -> TaskNote {
        let task = key.1;
        let why = match &answer {
            Answer::Refused(why) | Answer::Failed(why) => short(why),
            Answer::Ran(_) | Answer::NoJob(_) => return TaskNote::ended(task, answer),
        };
        let view = self.memory.view();
        let is_last = self.memory.parts().tasks.with(|ledger| {
            let known = ledger.get(key.0, &task)?;
            let able = self
                .memory
                .able_to_run(&view, key.0, &known.asked.as_ref()?.needs);
            let mut others = able.iter().filter(|node| **node != self.me);
            Some(others.all(|node| known.declined(node)))
        });
        match is_last {
            Some(false) => TaskNote::Left {
                task,
                again: false,
                why,
            },
            _ => TaskNote::ended(task, answer),
        }
    }

    /// What the agent that asked for a task is told of it, if an agent did.
    fn told(&self, key: Key, answer: &Answer) -> Result<Option<Body>, Problem> {
        let by_agent = self.memory.parts().tasks.with(|ledger| {
            let asked = ledger.get(key.0, &key.1)?.asked.as_ref()?;
            Some(asked.by_agent)
        });
        if by_agent != Some(true) {
            return Ok(None);
        }
        let wish = self.memory.wish_of(&self.memory.view(), &key.1)?;
        Ok(wish.and_then(|wish| told(key.1, &wish.key, answer)))
    }

    async fn write(
        &mut self,
        key: Key,
        note: impl FnOnce(RecordId) -> TaskNote,
    ) -> Result<Option<RecordId>, Problem> {
        self.write_beside(key, note, None).await
    }

    /// Writes a note about a task; its record. None if the law does not let this node write there any more:
    /// then it runs nothing of it.
    async fn write_beside(
        &mut self,
        key: Key,
        note: impl FnOnce(RecordId) -> TaskNote,
        beside: Option<Body>,
    ) -> Result<Option<RecordId>, Problem> {
        let view = self.memory.view();
        let Some(topic) = view.law.topic(key.0).map(|law| law.name.clone()) else {
            self.drops(key, "its topic is not known any more");
            return Ok(None);
        };
        match self.tell(&topic, &note(key.1), beside).await {
            Ok(record) => Ok(Some(record)),
            Err(problem) if problem.exit == 6 => {
                self.drops(key, &problem.message);
                Ok(None)
            }
            Err(problem) => Err(problem),
        }
    }

    async fn tell(
        &self,
        topic: &TopicName,
        note: &TaskNote,
        beside: Option<Body>,
    ) -> Result<RecordId, Problem> {
        let author = AgentId(self.me.0);
        self.memory.write_task(topic, author, note, beside).await
    }

    fn drops(&mut self, key: Key, why: &str) {
        if let Some(job) = self.running.get_mut(&key) {
            tracing::info!(target: "aquifer::tasks", task = %key.1, why, "stopped");
            job.dropped = true;
            job.stop.stop();
        }
    }

    fn now(&self) -> u64 {
        let parts = self.memory.parts();
        parts.tasks.now(parts.helm.now())
    }
}

/// Whether it was stopped from here: then nothing came of it.
fn is_stopped(answer: &Answer) -> bool {
    matches!(answer, Answer::Ran(outcome) if outcome.ended == Ended::Stopped)
}

//! Tasks as they are asked for and asked about.
//!
//! A task is one record of its topic; who may run it, the topic's law and the members' manifests say.
//! What is shown is read anew each time from the ledger, for what was said, and from the records, for what
//! the job is and what came of it.
//!
//! Not here: running them (`crate::tasks`).

mod show;

use super::{Memory, refused, topic_name, unexpected, unreadable};
use crate::api::{DEFAULT_TASKS, Problem, SubmitTask, TaskNeeds, TaskView};
use crate::tasks::agents::Wish;
use crate::tasks::note::{JOB_BYTES_MAX, MODELS_MAX, Needs, TaskNote};
use crate::tasks::rules::Standing;
use crate::view::View;
use aquifer_protocol::certificate::role;
use aquifer_protocol::placement::{self, capable, task_entry};
use aquifer_protocol::{
    AgentId, Body, Command, Durability, NodeId, Op, RecordId, Reply, Subject, TopicId, TopicName,
    decide, log,
};
use aquifer_runner::job::{Budget, Job, Placed, Request, USUAL_SIGHTS};
use data_encoding::{BASE64, HEXLOWER_PERMISSIVE};
pub(crate) use show::ended;
use std::time::Duration;

const WAIT_MS: u64 = 10_000;
/// Most tasks that are listed at once.
const LISTED_MAX: usize = 1_000;

#[expect(clippy::unused_async, reason = "a door need not know which calls wait")]
impl Memory {
    /// Asks for a program to be run by a node that may and can.
    ///
    /// # Errors
    /// `bad_task` for what is no job, `task_too_big` for one that does not fit into a record, `bad_model`,
    /// `bad_topic`, `policy_refused`, and whatever keeps the node from writing.
    pub async fn task_submit(&self, asked: SubmitTask) -> Result<TaskView, Problem> {
        let topic = topic_name(asked.topic.as_deref().unwrap_or(DEFAULT_TASKS))?;
        let needs = self.needs(&asked.needs)?;
        let job = job(asked)?;
        let len = job.bytes().len();
        if len > JOB_BYTES_MAX {
            let message = format!(
                "the task is {len} bytes with its files and its input; a record of a topic takes {JOB_BYTES_MAX}"
            );
            let hint = "leave large files out, or let the program be on the machines that run it";
            return Err(Problem::new("task_too_big", 2, message, hint));
        }
        let note = TaskNote::Asked {
            job: job.bytes().to_vec().into(),
            needs,
        };
        let author = AgentId(self.view().me.node().0);
        let id = self.write_task(&topic, author, &note, None).await?;
        self.shown_task(&self.view(), topic.id(self.view().law.hive()), &id)?
            .ok_or_else(|| no_task(&id.to_string()))
    }

    /// Tasks, the newest first: at and below `topic`, if one is named.
    ///
    /// # Errors
    /// `bad_topic`, or if the store cannot be read.
    pub async fn tasks(&self, topic: Option<&str>, limit: usize) -> Result<Vec<TaskView>, Problem> {
        let within = topic.map(topic_name).transpose()?;
        let view = self.view();
        let readable = view.readable(within.as_ref());
        let mut ids: Vec<_> = self.inner.tasks.with(|ledger| {
            let of_topic = ledger
                .tasks()
                .filter(|(_, asked, _)| readable.contains(&asked.topic));
            of_topic
                .map(|(id, asked, _)| (asked.at, *id, asked.topic))
                .collect()
        });
        ids.sort_unstable_by(|a, b| b.cmp(a));
        let mut shown = Vec::new();
        for (_, id, topic) in ids {
            if shown.len() >= limit.min(LISTED_MAX) {
                break;
            }
            shown.extend(self.shown_task(&view, topic, &id)?);
        }
        Ok(shown)
    }

    /// The task called `id`, or the only one that begins so.
    ///
    /// # Errors
    /// `not_found`, `ambiguous_id`.
    pub async fn task(&self, id: &str) -> Result<TaskView, Problem> {
        let view = self.view();
        let (topic, found) = self.find_task(&view, id)?;
        self.shown_task(&view, topic, &found)?
            .ok_or_else(|| no_task(id))
    }

    /// The same once it is over, or when `wait_ms` have passed.
    ///
    /// # Errors
    /// As [`Memory::task`].
    pub async fn task_wait(&self, id: &str, wait_ms: Option<u64>) -> Result<TaskView, Problem> {
        let mut news = self.inner.tasks.changes();
        let wait = Duration::from_millis(wait_ms.unwrap_or(WAIT_MS));
        let deadline = tokio::time::sleep(wait);
        tokio::pin!(deadline);
        loop {
            news.mark_unchanged();
            let task = self.task(id).await?;
            if task.is_over() {
                return Ok(task);
            }
            tokio::select! {
                () = &mut deadline => return self.task(id).await,
                _ = news.changed() => {}
                // That it is given up is a matter of time alone.
                () = tokio::time::sleep(Duration::from_secs(1)) => {}
            }
        }
    }

    /// Says that a task is not wanted any more: who runs it stops, and nobody begins it.
    ///
    /// # Errors
    /// As [`Memory::task`]; `not_authorised` on another node than that which asked for it; `already_over`.
    pub async fn task_cancel(&self, id: &str) -> Result<TaskView, Problem> {
        let view = self.view();
        let (topic, found) = self.find_task(&view, id)?;
        let now = self.task_now();
        let known = self.inner.tasks.with(|ledger| {
            let task = ledger.get(topic, &found)?;
            Some((task.asked.clone()?, task.standing(now)))
        });
        let (asked, standing) = known.ok_or_else(|| no_task(id))?;
        if asked.writer != view.me.node() {
            let message = format!(
                "task {found} was asked for on node {}",
                crate::names::node(&asked.writer)
            );
            let hint = "cancel it there";
            return Err(Problem::new("not_authorised", 5, message, hint));
        }
        if let Standing::Ended(..) | Standing::GivenUp = standing {
            let message = format!("task {found} is over already");
            return Err(Problem::new(
                "already_over",
                1,
                message,
                "see `aquifer task show`",
            ));
        }
        let name = topic_name(&view.topic_name(topic))?;
        let note = TaskNote::Cancelled { task: found };
        self.write_task(&name, asked.author, &note, None).await?;
        self.shown_task(&self.view(), topic, &found)?
            .ok_or_else(|| no_task(id))
    }

    /// Writes a note about a task, and what else is to be said in the same commit, and hears it at once.
    pub(crate) async fn write_task(
        &self,
        topic: &TopicName,
        author: AgentId,
        note: &TaskNote,
        beside: Option<Body>,
    ) -> Result<RecordId, Problem> {
        self.found_if_new(&self.view(), topic).await?;
        let command = Command::Write {
            topic: topic.clone(),
            author,
            bodies: [note.body()].into_iter().chain(beside).collect(),
            durability: Durability::Local,
        };
        let ids = match self.inner.helm.ask(command).await? {
            Reply::Written { ids, .. } => ids,
            Reply::Refused(why) => return Err(refused(&why)),
            _ => return Err(unexpected()),
        };
        let id = *ids.first().ok_or_else(unexpected)?;
        let written = log::record_by_id(&self.view().snapshot, &id).map_err(unreadable)?;
        if let Some(record) = written {
            self.inner.tasks.hears(&record);
        }
        Ok(id)
    }

    /// The nodes that may run a task of `topic` and say that they can: they hold it and may write there, are
    /// to run agents and models, run the topic's tasks, and have what is needed.
    pub(crate) fn able_to_run(
        &self,
        view: &View,
        topic: TopicId,
        needs: &placement::Needs,
    ) -> Vec<NodeId> {
        self.with_needs(view, self.runners(view, topic), needs)
    }

    /// Those of `runners` that say they have what is needed.
    pub(crate) fn with_needs(
        &self,
        view: &View,
        mut runners: Vec<NodeId>,
        needs: &placement::Needs,
    ) -> Vec<NodeId> {
        runners.retain(|node| {
            let known = view.law.member(node);
            known.is_some_and(|known| capable(&known.manifest, needs))
        });
        runners
    }

    /// The nodes that may run tasks of `topic` and say that they do, whatever a task needs.
    pub(crate) fn runners(&self, view: &View, topic: TopicId) -> Vec<NodeId> {
        let Ok(label) = view.law.label(topic) else {
            return Vec::new();
        };
        let entry = task_entry(&topic);
        let mut runners = view.holders(topic);
        runners.retain(|node| {
            let Some(known) = view.law.member(node) else {
                return false;
            };
            let member = &known.member;
            let subject = Subject {
                member,
                at: view.now,
            };
            member.grant().roles & role::COMPUTE != 0
                && known.manifest.models.contains(&entry)
                && decide(Op::Publish, label, subject, label.epoch).is_ok()
        });
        runners
    }

    /// The bytes of the job of a task; none if its record has no content any more.
    pub(crate) fn job_of(&self, view: &View, id: &RecordId) -> Result<Option<Vec<u8>>, Problem> {
        let record = log::record_by_id(&view.snapshot, id).map_err(unreadable)?;
        Ok(record.and_then(|record| match TaskNote::of(&record) {
            Some(TaskNote::Asked { job, .. }) => Some(job.into()),
            Some(_) => None,
            None => Wish::of(&record).map(|wish| wish.job.bytes().to_vec()),
        }))
    }

    /// What an agent asked for; none if its record has no content any more.
    pub(crate) fn wish_of(&self, view: &View, id: &RecordId) -> Result<Option<Wish>, Problem> {
        let record = log::record_by_id(&view.snapshot, id).map_err(unreadable)?;
        Ok(record.and_then(|record| Wish::of(&record)))
    }

    fn task_now(&self) -> u64 {
        self.inner.tasks.now(self.inner.helm.now())
    }

    fn find_task(&self, view: &View, text: &str) -> Result<(TopicId, RecordId), Problem> {
        let digits = text.trim().to_ascii_lowercase();
        let is_id =
            (4..=64).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_hexdigit());
        if !is_id {
            let hint = "give the id that `aquifer task submit` printed, or its first eight digits";
            let message = format!("`{text}` is not the id of a task");
            return Err(Problem::new("bad_id", 2, message, hint));
        }
        let found: Vec<_> = self.inner.tasks.with(|ledger| {
            let fits = ledger
                .tasks()
                .filter(|(id, ..)| id.to_string().starts_with(&digits));
            fits.map(|(id, asked, _)| (asked.topic, *id))
                .take(2)
                .collect()
        });
        match &found[..] {
            [one] => match view.may_read(one.0) {
                Ok(()) => Ok(*one),
                Err(denial) => Err(super::denied(&denial)),
            },
            [] => Err(no_task(text)),
            _ => {
                let message = format!("several tasks begin with {digits}");
                Err(Problem::new("ambiguous_id", 2, message, "give more digits"))
            }
        }
    }

    fn needs(&self, asked: &TaskNeeds) -> Result<Needs, Problem> {
        if asked.models.len() > MODELS_MAX {
            let message = format!("a task cannot need more than {MODELS_MAX} models");
            return Err(Problem::new("bad_model", 2, message, "name fewer"));
        }
        let hash = |name: &String| {
            let digits = HEXLOWER_PERMISSIVE.decode(name.as_bytes()).ok();
            let hash: Option<[u8; 32]> = digits.and_then(|bytes| bytes.try_into().ok());
            hash.or_else(|| self.model_hash(name)).ok_or_else(|| {
                let hint = "give its 64 hexadecimal digits, or TOPIC/NAME as `aquifer model list` shows them";
                let message = format!("no model `{name}` is known here");
                Problem::new("bad_model", 2, message, hint)
            })
        };
        let models = asked.models.iter().map(|name| hash(name).map(Into::into));
        Ok(Needs {
            gpu_bytes: asked.gpu_bytes,
            ram_bytes: asked.ram_bytes,
            models: models.collect::<Result<_, _>>()?,
        })
    }
}

fn no_task(text: &str) -> Problem {
    Problem::new(
        "not_found",
        3,
        format!("there is no task {text} here"),
        "list what there is with `aquifer task list`",
    )
}

/// The job that is asked for.
///
/// # Errors
/// `bad_task` for what is none.
pub(crate) fn job(asked: SubmitTask) -> Result<Job, Problem> {
    let bad = |why: String| Problem::new("bad_task", 2, why, "see `aquifer help task submit`");
    let bytes = |what: &str, text: &str| {
        let decoded = BASE64.decode(text.as_bytes());
        decoded.map_err(|why| bad(format!("{what} is not base64: {why}")))
    };
    let mut env = Vec::new();
    for variable in asked.env {
        match variable.split_once('=') {
            Some((name, value)) => env.push((name.to_owned(), value.to_owned())),
            None => return Err(bad(format!("`{variable}` is not NAME=VALUE"))),
        }
    }
    let mut files = Vec::new();
    for file in &asked.files {
        let content = bytes(&format!("the file {}", file.name), &file.bytes)?;
        files.push(Placed::of(&file.name, content, file.program));
    }
    let stdin = asked.stdin.as_deref().unwrap_or_default();
    let (usual, budget) = (Budget::USUAL, asked.budget);
    let wall_ms = budget.wall_ms.unwrap_or(usual.wall_ms);
    let cores = budget.cores.unwrap_or(usual.cores);
    let all = wall_ms.saturating_mul(cores.max(1_000).into()) / 1_000;
    let request = Request {
        argv: asked.argv,
        env,
        files,
        stdin: bytes("stdin", stdin)?,
        sees: asked
            .sees
            .unwrap_or_else(|| USUAL_SIGHTS.map(str::to_owned).to_vec()),
        budget: Budget {
            wall_ms,
            cpu_ms: budget.cpu_ms.unwrap_or(all),
            cores,
            memory_bytes: budget.memory_bytes.unwrap_or(usual.memory_bytes),
            pids: budget.pids.unwrap_or(usual.pids),
            output_bytes: budget.output_bytes.unwrap_or(usual.output_bytes),
            scratch_bytes: budget.scratch_bytes.unwrap_or(usual.scratch_bytes),
        },
    };
    Job::of(request).map_err(|why| bad(why.to_string()))
}

//! Tasks as they are shown: how they stand, why nobody runs them, what came of them.

use super::super::{Memory, unreadable};
use crate::api::{AttemptView, OutcomeView, Problem, SaidView, TaskNeeds, TaskView, UsageView};
use crate::names;
use crate::tasks::note::TaskNote;
use crate::tasks::rules::{Asked, At, Fact, Standing, Task};
use crate::view::View;
use aquifer_protocol::body::Manifest;
use aquifer_protocol::placement::{self, capable, task_entry};
use aquifer_protocol::{NodeId, RecordId, TopicId, log};
use aquifer_runner::job::Job;
use aquifer_runner::outcome::{Ended, Outcome, Over, Said};
use aquifer_runner::serve::Answer;
use data_encoding::{BASE64, HEXLOWER};

impl Memory {
    /// A task as it stands; none if it is not known, or has no content any more.
    pub(super) fn shown_task(
        &self,
        view: &View,
        topic: TopicId,
        id: &RecordId,
    ) -> Result<Option<TaskView>, Problem> {
        let known = self
            .inner
            .tasks
            .with(|ledger| ledger.get(topic, id).cloned());
        let Some((task, asked)) = known.and_then(|task| Some((task.clone(), task.asked?))) else {
            return Ok(None);
        };
        let job = self
            .job_of(view, id)?
            .and_then(|bytes| Job::open(&bytes).ok());
        let Some(job) = job else {
            return Ok(None);
        };
        let standing = task.standing(self.task_now());
        let outcome = match &standing {
            Standing::Ended(at, by, fact) => Some(self.outcome(view, at, by, fact)?),
            _ => None,
        };
        let state = match (&standing, &outcome) {
            (Standing::Waiting, _) => "waiting",
            (Standing::Running(_), _) => "running",
            (Standing::GivenUp, _) => "given up",
            (Standing::Ended(_, _, Fact::Cancelled), _) => "cancelled",
            (_, Some(outcome)) if outcome.refused.is_some() => "refused",
            (Standing::Ended(..), _) => "ended",
        };
        let attempts = task.terms().into_iter().map(|term| AttemptView {
            node: self.name_node(&term.by),
            from: term.from,
            until: term.until,
            left: term.left.map(|(_, why)| why),
        });
        let why = matches!(standing, Standing::Waiting).then(|| self.why(view, &task, &asked));
        Ok(Some(TaskView {
            id: id.to_string(),
            topic: view.topic_name(asked.topic),
            state: state.to_owned(),
            argv: job.request().argv.clone(),
            job: HEXLOWER.encode(&asked.job),
            asked_by: self.name_node(&asked.writer),
            author: names::agent(&asked.author),
            asked_at: asked.at.time().millis(),
            wall_ms: asked.wall_ms,
            needs: TaskNeeds {
                gpu_bytes: asked.needs.gpu_bytes,
                ram_bytes: asked.needs.ram_bytes,
                models: asked
                    .needs
                    .models
                    .iter()
                    .map(|hash| HEXLOWER.encode(hash))
                    .collect(),
            },
            attempts: attempts.collect(),
            why,
            outcome,
        }))
    }

    /// Why nobody runs it now.
    fn why(&self, view: &View, task: &Task, asked: &Asked) -> String {
        let topic = view.topic_name(asked.topic);
        let runners = self.runners(view, asked.topic);
        if runners.is_empty() {
            let says = |node: &NodeId| {
                let known = view.law.member(node);
                known.is_some_and(|known| known.manifest.models.contains(&task_entry(&asked.topic)))
            };
            let outside = view.law.members().filter(|(node, _)| says(node)).count();
            return match outside {
                0 => format!("no node runs tasks of `{topic}`: start one with --tasks {topic}"),
                some => format!(
                    "of the {some} nodes that run tasks of `{topic}` none may: it does not hold the topic by its law, may not write there, or has not the role compute"
                ),
            };
        }
        let manifests = runners.iter().filter_map(|node| view.law.member(node));
        let manifests: Vec<&Manifest> = manifests.map(|known| &known.manifest).collect();
        let mut unmet: Vec<String> = each(&asked.needs)
            .into_iter()
            .filter(|(_, need)| !manifests.iter().any(|has| capable(has, need)))
            .map(|(what, _)| what)
            .collect();
        if !unmet.is_empty() {
            let unmet = unmet.join(", ");
            return match runners.len() {
                1 => format!("the one node that runs tasks of `{topic}` has not {unmet}"),
                count => {
                    format!("none of the {count} nodes that run tasks of `{topic}` has {unmet}")
                }
            };
        }
        let able = self.able_to_run(view, asked.topic, &asked.needs);
        if able.is_empty() {
            unmet.extend(each(&asked.needs).into_iter().map(|(what, _)| what));
            return format!(
                "no node that runs tasks of `{topic}` has all of {}",
                unmet.join(", ")
            );
        }
        let declined = able.iter().filter(|node| task.declined(node)).count();
        match able.len() - declined {
            0 => format!("all {declined} nodes that may and can run it have refused it"),
            left => format!(
                "{left} of {} nodes that may and can run it have not refused it, and none has claimed it: they are busy, or not connected",
                able.len()
            ),
        }
    }

    fn outcome(
        &self,
        view: &View,
        (at, id): &At,
        by: &NodeId,
        fact: &Fact,
    ) -> Result<OutcomeView, Problem> {
        let mut shown = OutcomeView {
            node: self.name_node(by),
            at: at.time().millis(),
            ended: "cancelled".to_owned(),
            number: 0,
            refused: None,
            product: None,
            stdout: SaidView::default(),
            stderr: SaidView::default(),
            usage: None,
        };
        if *fact == Fact::Cancelled {
            return Ok(shown);
        }
        let record = log::record_by_id(&view.snapshot, id).map_err(unreadable)?;
        match record.and_then(|record| TaskNote::of(&record)) {
            Some(TaskNote::Ended {
                product, answer, ..
            }) => match answer {
                Answer::Ran(outcome) => {
                    shown.product = Some(HEXLOWER.encode(&*product));
                    fill(&mut shown, &outcome);
                }
                Answer::NoJob(why) | Answer::Refused(why) | Answer::Failed(why) => {
                    shown.ended = "refused".to_owned();
                    shown.refused = Some(why);
                }
            },
            // It was forgotten, or kept no longer.
            _ => shown.ended = "forgotten".to_owned(),
        }
        Ok(shown)
    }

    /// The topics whose tasks the node that `manifest` describes runs, as far as they are known here.
    pub(crate) fn name_tasks(&self, view: &View, manifest: &Manifest) -> Vec<String> {
        let topics = view
            .law
            .topics()
            .filter(|(id, _)| manifest.models.contains(&task_entry(id)));
        let mut names: Vec<String> = topics.map(|(_, law)| law.name.to_string()).collect();
        names.sort();
        names
    }
}

/// Each thing that is needed, by itself.
fn each(needs: &placement::Needs) -> Vec<(String, placement::Needs)> {
    let none = placement::Needs::default;
    let gpu = placement::Needs {
        gpu_bytes: needs.gpu_bytes,
        ..none()
    };
    let ram = placement::Needs {
        ram_bytes: needs.ram_bytes,
        ..none()
    };
    let mut all = Vec::new();
    if needs.gpu_bytes > 0 {
        all.push((format!("gpu {}", amount(needs.gpu_bytes)), gpu));
    }
    if needs.ram_bytes > 0 {
        all.push((format!("ram {}", amount(needs.ram_bytes)), ram));
    }
    all.extend(needs.models.iter().map(|hash| {
        let model = placement::Needs {
            models: vec![*hash],
            ..none()
        };
        (format!("model {}", &HEXLOWER.encode(hash)[..12]), model)
    }));
    all
}

/// Bytes as `--needs` takes them.
fn amount(bytes: u64) -> String {
    let units = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    let unit = units
        .iter()
        .find(|(size, _)| bytes >= *size && bytes.is_multiple_of(*size));
    unit.map_or_else(
        || bytes.to_string(),
        |(size, name)| format!("{}{name}", bytes / size),
    )
}

fn fill(shown: &mut OutcomeView, outcome: &Outcome) {
    let (how, number) = ended(outcome.ended);
    shown.ended = how.to_owned();
    shown.number = number;
    shown.stdout = said(&outcome.stdout);
    shown.stderr = said(&outcome.stderr);
    let usage = &outcome.usage;
    shown.usage = Some(UsageView {
        wall_us: usage.wall_us,
        setup_us: usage.setup_us,
        cpu_us: usage.cpu_us,
        memory_peak_bytes: usage.memory_peak_bytes,
        pids_refused: usage.pids_refused,
    });
}

/// How a job ended, in a word and a number.
pub(crate) fn ended(ended: Ended) -> (&'static str, u8) {
    match ended {
        Ended::Exited(code) => ("exited", code),
        Ended::Signalled(signal) => ("signalled", signal),
        Ended::Over(Over::Wall) => ("over_time", 0),
        Ended::Over(Over::Cpu) => ("over_cpu", 0),
        Ended::Over(Over::Memory) => ("over_memory", 0),
        Ended::Over(Over::Output) => ("over_output", 0),
        Ended::Stopped => ("stopped", 0),
    }
}

fn said(said: &Said) -> SaidView {
    let text = std::str::from_utf8(&said.bytes);
    SaidView {
        text: String::from_utf8_lossy(&said.bytes).into_owned(),
        base64: text.is_err().then(|| BASE64.encode(&said.bytes)),
        bytes: said.bytes.len(),
        cut: said.is_cut,
    }
}

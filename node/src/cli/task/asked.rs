//! `task submit`, `list`, `show`, `wait`, `cancel`: tasks that other nodes may run.
//!
//! `wait` prints what the program said as `task run` does and ends with its exit code; 6 if every node that
//! may and can refused it, 124 if its time or the wait was over.
//!
//! Not here: which node runs it (`crate::tasks`).

use super::{Context, RunFlags};
use crate::amount;
use crate::api::{Problem, SaidView, SubmitTask, TaskBudget, TaskFile, TaskNeeds, TaskView};
use crate::cli::human::{self, Paint, ago, one_line, safe, short};
use crate::cli::output::{Answer, Format};
use aquifer_runner::job::{Job, USUAL_SIGHTS};
use clap::Args;
use data_encoding::BASE64;
use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

#[derive(Debug, Args)]
pub(in crate::cli) struct SubmitFlags {
    /// The topic, whose law says where it may run [default: tasks]
    #[arg(short, long)]
    topic: Option<String>,
    /// What the node must have: gpu=8GiB,ram=16GiB,model=NAME or its hash
    #[arg(long, value_name = "NEED", value_delimiter = ',')]
    needs: Vec<String>,
    /// Wait so long for what comes of it, and print it as `task wait` does
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    wait: Option<Duration>,
    #[command(flatten)]
    run: RunFlags,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct ListFlags {
    /// Only in this topic and those below it
    #[arg(short, long)]
    topic: Option<String>,
    /// How many
    #[arg(short = 'n', long, default_value_t = 50)]
    last: usize,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct WaitFlags {
    /// Its id, or the first digits of it
    id: String,
    /// How long
    #[arg(long = "for", value_name = "TIME", default_value = "1h", value_parser = humantime::parse_duration)]
    patience: Duration,
}

pub(super) async fn submit(
    context: &Context,
    name: &str,
    flags: SubmitFlags,
) -> Result<u8, Problem> {
    let needs = needs(&flags.needs)?;
    let job = super::job(flags.run)?;
    let task = context
        .client
        .task_submit(&request(&job, flags.topic, needs))
        .await?;
    match flags.wait {
        None => {
            let answer = one(context.output.paint(), &task);
            Ok(context.output.answer(name, answer))
        }
        Some(patience) => {
            let asked = format!("task {} in {}", short(&task.id), task.topic);
            context.output.say(&asked);
            let id = task.id;
            wait(context, name, WaitFlags { id, patience }).await
        }
    }
}

pub(super) async fn wait(context: &Context, name: &str, flags: WaitFlags) -> Result<u8, Problem> {
    let wait_ms = u64::try_from(flags.patience.as_millis()).unwrap_or(u64::MAX);
    let task = context.client.task_wait(&flags.id, wait_ms).await?;
    if !task.is_over() {
        let message = format!("task {} is {} still", short(&task.id), task.state);
        let why = task
            .why
            .unwrap_or_else(|| "see `aquifer task show`".to_owned());
        return Err(Problem::new("timeout", 124, message, why));
    }
    let exit = exit(&task);
    if context.output.format != Format::Human {
        let ids = [task.id.clone()];
        let answer = Answer::new(&task, "").ids(ids).exit(exit);
        return Ok(context.output.answer(name, answer));
    }
    if let Some(outcome) = &task.outcome {
        // A reader that has gone away has all that it wants.
        let (mut out, mut err) = (std::io::stdout(), std::io::stderr());
        let _ = out.write_all(&shown(&outcome.stdout, out.is_terminal()));
        let _ = out.flush();
        let _ = err.write_all(&shown(&outcome.stderr, err.is_terminal()));
    }
    context.output.say(&told(&task));
    Ok(exit)
}

pub(super) async fn list(context: &Context, flags: ListFlags) -> Result<Answer, Problem> {
    let asked = context.client.tasks(flags.topic.as_deref(), flags.last);
    let (tasks, paint) = (asked.await?, context.output.paint());
    let rows: Vec<Vec<String>> = tasks.iter().map(|task| row(paint, task)).collect();
    let heading = ["task", "state", "topic", "node", "asked", "command"];
    let table = match tasks.is_empty() {
        true => paint.dim("no tasks: ask for one with `aquifer task submit -- COMMAND`"),
        false => human::table(paint, &heading, &rows),
    };
    let ids: Vec<String> = tasks.iter().map(|task| task.id.clone()).collect();
    Ok(Answer::new(&tasks, table).ids(ids))
}

fn row(paint: Paint, task: &TaskView) -> Vec<String> {
    let by = task.outcome.as_ref().map(|outcome| &outcome.node);
    let by = by.or_else(|| task.attempts.last().map(|last| &last.node));
    vec![
        short(&task.id),
        state(paint, task),
        task.topic.clone(),
        by.map_or_else(|| "-".to_owned(), |node| short(&node.node)),
        ago(task.asked_at),
        one_line(&task.argv.join(" "), 40),
    ]
}

/// One task, for people.
pub(super) fn one(paint: Paint, task: &TaskView) -> Answer {
    let id = paint.bold(&short(&task.id));
    let mut shown = format!("{id} {} in {}\n", state(paint, task), task.topic);
    let mut row = |what: &str, value: String| shown += &format!("  {what:<9} {value}\n");
    row("id", task.id.clone());
    row("command", one_line(&task.argv.join(" "), 90));
    let by = format!("{} {}", task.asked_by.region, short(&task.asked_by.node));
    row("asked", format!("{} on {by}", ago(task.asked_at)));
    let needs = needed(&task.needs);
    if !needs.is_empty() {
        row("needs", needs);
    }
    for attempt in &task.attempts {
        let node = format!("{} {}", attempt.node.region, short(&attempt.node.node));
        let left = attempt.left.as_deref().map(|why| one_line(why, 60));
        let left = left.map_or_else(String::new, |why| {
            format!(", left it: {}", paint.warn(&why))
        });
        row("claimed", format!("by {node} {}{left}", ago(attempt.from)));
    }
    if let Some(why) = &task.why {
        row("waits", paint.warn(&safe(why)));
    }
    if task.is_over() {
        row("came to", told(task).replace('\n', "\n            "));
    }
    if let Some(outcome) = &task.outcome {
        for (what, said) in [("stdout", &outcome.stdout), ("stderr", &outcome.stderr)] {
            if said.bytes > 0 {
                row(
                    what,
                    safe(&said.text).trim_end().replace('\n', "\n            "),
                );
            }
        }
    }
    Answer::new(task, shown).ids([task.id.clone()])
}

fn state(paint: Paint, task: &TaskView) -> String {
    let is_good = task
        .outcome
        .as_ref()
        .is_some_and(|outcome| (outcome.ended.as_str(), outcome.number) == ("exited", 0));
    match task.state.as_str() {
        "ended" if is_good => paint.good("ended"),
        "ended" | "refused" | "given up" => paint.bad(&task.state),
        "running" => paint.good("running"),
        other => paint.dim(other),
    }
}

fn needed(needs: &TaskNeeds) -> String {
    let amounts = [("gpu", needs.gpu_bytes), ("ram", needs.ram_bytes)];
    let amounts = amounts.iter().filter(|(_, bytes)| *bytes > 0);
    let amounts = amounts.map(|(what, bytes)| format!("{what} {}", human::bytes(*bytes)));
    let models = needs
        .models
        .iter()
        .map(|hash| format!("model {}", short(hash)));
    amounts.chain(models).collect::<Vec<_>>().join(", ")
}

/// A line about what came of a task.
fn told(task: &TaskView) -> String {
    let Some(outcome) = &task.outcome else {
        return "it was claimed three times and nothing came of it: nobody tries again".to_owned();
    };
    let how = match outcome.ended.as_str() {
        "exited" => format!("exited with {}", outcome.number),
        "signalled" => format!("was ended by signal {}", outcome.number),
        "over_time" => "was stopped: its time was over".to_owned(),
        "over_cpu" => "was stopped: too much time of processors".to_owned(),
        "over_memory" => "was stopped: too much memory".to_owned(),
        "over_output" => "was stopped: too much output".to_owned(),
        "refused" => format!(
            "was refused: {}",
            outcome.refused.as_deref().unwrap_or_default()
        ),
        "cancelled" => "was cancelled".to_owned(),
        other => format!("has {other}"),
    };
    let on = format!("{} {}", outcome.node.region, short(&outcome.node.node));
    let mut text = format!("the task {how}");
    if let Some(usage) = &outcome.usage {
        text += &format!(
            " after {:.1} ms on {on}; {:.1} ms of processors, {} at most",
            usage.wall_us as f64 / 1e3,
            usage.cpu_us as f64 / 1e3,
            human::bytes(usage.memory_peak_bytes),
        );
    } else {
        text += &format!(" on {on}");
    }
    if outcome.stdout.cut || outcome.stderr.cut {
        text += "; its output is cut";
    }
    if let Some(product) = &outcome.product {
        text += &format!("\nproduct {product}");
    }
    text
}

fn exit(task: &TaskView) -> u8 {
    let ended = task
        .outcome
        .as_ref()
        .map(|outcome| (outcome.ended.as_str(), outcome.number));
    match ended {
        Some(("exited", 0)) => 0,
        Some(("over_time", _)) => 124,
        Some(("refused", _)) => 6,
        _ => 1,
    }
}

/// What a program of another node said: byte for byte, but nothing that drives a terminal.
fn shown(said: &SaidView, is_terminal: bool) -> Vec<u8> {
    if is_terminal {
        return safe(&said.text).into_bytes();
    }
    let raw = said
        .base64
        .as_ref()
        .and_then(|text| BASE64.decode(text.as_bytes()).ok());
    raw.unwrap_or_else(|| said.text.clone().into_bytes())
}

/// The request for a job.
fn request(job: &Job, topic: Option<String>, needs: TaskNeeds) -> SubmitTask {
    let asked = job.request();
    let env = asked
        .env
        .iter()
        .map(|(name, value)| format!("{name}={value}"));
    let files = asked.files.iter().map(|file| TaskFile {
        name: file.name.clone(),
        bytes: BASE64.encode(&file.bytes),
        program: file.is_program,
    });
    let budget = &asked.budget;
    let is_usual = asked.sees == USUAL_SIGHTS;
    SubmitTask {
        topic,
        argv: asked.argv.clone(),
        env: env.collect(),
        files: files.collect(),
        stdin: (!asked.stdin.is_empty()).then(|| BASE64.encode(&asked.stdin)),
        sees: (!is_usual).then(|| asked.sees.clone()),
        budget: TaskBudget {
            wall_ms: Some(budget.wall_ms),
            cpu_ms: Some(budget.cpu_ms),
            cores: Some(budget.cores),
            memory_bytes: Some(budget.memory_bytes),
            pids: Some(budget.pids),
            output_bytes: Some(budget.output_bytes),
            scratch_bytes: Some(budget.scratch_bytes),
        },
        needs,
    }
}

fn needs(given: &[String]) -> Result<TaskNeeds, Problem> {
    let mut needs = TaskNeeds::default();
    for need in given {
        match need.split_once('=') {
            Some(("gpu", bytes)) => needs.gpu_bytes = amount::read(bytes)?,
            Some(("ram", bytes)) => needs.ram_bytes = amount::read(bytes)?,
            Some(("model", name)) if !name.is_empty() => needs.models.push(name.to_owned()),
            _ => {
                let message = format!("`{need}` is not a need");
                let hint = "for example: --needs gpu=8GiB,ram=16GiB,model=llama-3-8b:q4";
                return Err(Problem::new("bad_need", 2, message, hint));
            }
        }
    }
    Ok(needs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn needs_are_amounts_and_models() {
        let given = |text: &str| text.split(',').map(str::to_owned).collect::<Vec<_>>();
        let read = needs(&given("gpu=8GiB,ram=512MiB,model=a:b,model=c")).expect("good");
        assert_eq!((8 << 30, 512 << 20), (read.gpu_bytes, read.ram_bytes));
        assert_eq!(["a:b", "c"], read.models[..]);
        for bad in ["gpu", "gpu=much", "disk=1GiB", "model="] {
            assert_eq!(2, needs(&given(bad)).expect_err(bad).exit);
        }
    }
}

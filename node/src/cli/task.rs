//! `task`: programs that are not WASM, shut in and on a budget.
//!
//! With `task run` a job runs as a process below this one, and no daemon is asked. For people, what it says comes out as it
//! is, stdout on stdout and stderr on stderr, and a line about it on stderr; `--json` prints the outcome.
//! The exit code is 0 if the job's was, 124 if its time ran out, 1 if it ended in any other way, 2 if there
//! can be no such job, 3 if there is no such program, 6 if this machine does not run it.
//!
//! Not here: tasks that other nodes run (`asked`), how a job is shut in (`aquifer_runner`).

mod asked;

use super::Context;
use super::human::{bytes, table};
use super::output::{Answer, Format};
use crate::api::Problem;
use crate::memory::ended;
use aquifer_runner::ability::{Ability, Refusal};
use aquifer_runner::job::{Budget, Job, Placed, Request, USUAL_SIGHTS};
use aquifer_runner::microvm::MicroVm;
use aquifer_runner::outcome::{Ended, Outcome, Over, Said};
use aquifer_runner::process::{Process, Settings};
use aquifer_runner::stage::Stage;
use aquifer_runner::{RunFailure, Runner, Stop};
use clap::{Args, Subcommand};
use core::time::Duration;
use data_encoding::HEXLOWER;
use serde_json::{Value, json};
use std::io::Write;
use std::path::{Path, PathBuf};

#[derive(Debug, Subcommand)]
pub(super) enum TaskVerb {
    /// Run a program; it sees this machine's programs and libraries, its files in /in, and no network
    Run(RunFlags),
    /// Show which runners work here, and how firmly they hold a job to its budget
    Probe,
    /// Ask for a program to be run by a node that may and can
    Submit(asked::SubmitFlags),
    /// List tasks, newest first
    List(asked::ListFlags),
    /// Show a task: who ran it and what came of it, or why nobody runs it
    Show {
        /// Its id, or the first digits of it
        id: String,
    },
    /// Wait for a task and print what it said, with the exit code of `task run`
    Wait(asked::WaitFlags),
    /// Stop a task, on the node that asked for it
    Cancel {
        /// Its id, or the first digits of it
        id: String,
    },
}

#[derive(Debug, Args)]
pub(super) struct RunFlags {
    /// Most memory of all its processes together
    #[arg(long, value_name = "SIZE", default_value = "256MiB", value_parser = size)]
    memory: u64,
    /// How long it may last
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = humantime::parse_duration)]
    time: Duration,
    /// Processors at once: 0.5 is half of one
    #[arg(long, value_name = "CORES", default_value = "1", value_parser = cores)]
    cpu: u32,
    /// Time of processors; if it is not said, what its time and processors come to
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    cpu_time: Option<Duration>,
    /// Most processes and threads at once
    #[arg(long, default_value_t = Budget::USUAL.pids)]
    pids: u32,
    /// Most output, stdout and stderr together
    #[arg(long, value_name = "SIZE", default_value = "1MiB", value_parser = size)]
    output_limit: u64,
    /// Most bytes of files that it makes
    #[arg(long, value_name = "SIZE", default_value = "64MiB", value_parser = size)]
    scratch: u64,
    /// What it reads from stdin
    #[arg(long, value_name = "FILE")]
    stdin: Option<PathBuf>,
    /// A file that it finds in /in, read-only; may be said again
    #[arg(long, value_name = "FILE")]
    file: Vec<PathBuf>,
    /// A folder or file of this machine that it sees at the same path, read-only; may be said again
    #[arg(long, value_name = "PATH")]
    see: Vec<String>,
    /// A variable, as NAME=VALUE, or NAME for what it is here; there are no others; may be said again
    #[arg(long, value_name = "NAME[=VALUE]")]
    env: Vec<String>,
    /// The program and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
}

impl TaskVerb {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Run(_) => "task run",
            Self::Probe => "task probe",
            Self::Submit(_) => "task submit",
            Self::List(_) => "task list",
            Self::Show { .. } => "task show",
            Self::Wait(_) => "task wait",
            Self::Cancel { .. } => "task cancel",
        }
    }
}

pub(super) async fn task(context: &Context, verb: TaskVerb) -> Result<u8, Problem> {
    let name = verb.name();
    match verb {
        TaskVerb::Run(flags) => run(context, name, flags).await,
        TaskVerb::Probe => {
            let answer = blocking(probe).await?;
            Ok(context.output.answer(name, answer))
        }
        TaskVerb::Submit(flags) => asked::submit(context, name, flags).await,
        TaskVerb::Wait(flags) => asked::wait(context, name, flags).await,
        TaskVerb::List(flags) => {
            let answer = asked::list(context, flags).await?;
            Ok(context.output.answer(name, answer))
        }
        TaskVerb::Show { id } => {
            let task = context.client.task(&id).await?;
            let answer = asked::one(context.output.paint(), &task);
            Ok(context.output.answer(name, answer))
        }
        TaskVerb::Cancel { id } => {
            let task = context.client.task_cancel(&id).await?;
            let answer = asked::one(context.output.paint(), &task);
            Ok(context.output.answer(name, answer))
        }
    }
}

/// Does what blocks where that holds nobody up.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Problem> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|why| Problem::new("internal", 1, why.to_string(), ""))
}

async fn run(context: &Context, name: &str, flags: RunFlags) -> Result<u8, Problem> {
    let mut settings = Settings::usual(Stage::this());
    // Who runs this owns what he names, so it is for him to show.
    settings.shows.extend(flags.see.iter().cloned());
    settings.most = Budget::MOST;
    let job = job(flags)?;
    let hash = HEXLOWER.encode(&job.hash());
    let work = move || Process::new(settings).run(&job, &Stop::default());
    let outcome = blocking(work).await?.map_err(|why| problem(&why))?;
    if context.output.format != Format::Human {
        let answer = Answer::new(&data(&outcome), "").ids([hash]);
        let answer = answer.exit(exit(outcome.ended));
        return Ok(context.output.answer(name, answer));
    }
    // A reader that has gone away has all that it wants.
    let _ = std::io::stdout().write_all(&outcome.stdout.bytes);
    let _ = std::io::stdout().flush();
    let _ = std::io::stderr().write_all(&outcome.stderr.bytes);
    context.output.say(&told(&outcome));
    Ok(exit(outcome.ended))
}

fn job(flags: RunFlags) -> Result<Job, Problem> {
    let usage = |message: String| Problem::new("usage", 2, message, "see `aquifer help task run`");
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let wall_ms = millis(flags.time);
    let all = wall_ms.saturating_mul(flags.cpu.max(1_000).into()) / 1_000;
    let mut sees: Vec<String> = USUAL_SIGHTS.map(str::to_owned).to_vec();
    sees.extend(flags.see);
    let mut env = Vec::new();
    for variable in &flags.env {
        let (name, value) = match variable.split_once('=') {
            Some((name, value)) => (name, value.to_owned()),
            None => match std::env::var(variable) {
                Ok(value) => (variable.as_str(), value),
                Err(why) => return Err(usage(format!("--env {variable}: {why}"))),
            },
        };
        env.push((name.to_owned(), value));
    }
    let request = Request {
        argv: flags.command,
        env,
        files: flags
            .file
            .iter()
            .map(|path| placed(path))
            .collect::<Result<_, _>>()?,
        stdin: flags.stdin.as_deref().map_or(Ok(vec![]), read)?,
        sees,
        budget: Budget {
            wall_ms,
            cpu_ms: flags.cpu_time.map_or(all, millis),
            cores: flags.cpu,
            memory_bytes: flags.memory,
            pids: flags.pids,
            output_bytes: flags.output_limit,
            scratch_bytes: flags.scratch,
        },
    };
    Job::of(request).map_err(|why| usage(why.to_string()))
}

fn read(path: &Path) -> Result<Vec<u8>, Problem> {
    std::fs::read(path).map_err(|why| {
        let message = format!("cannot read {}: {why}", path.display());
        Problem::new("no_such_file", 3, message, "")
    })
}

/// A file as it comes with a job: a program, if anybody may execute it here.
fn placed(path: &Path) -> Result<Placed, Problem> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    Ok(Placed::of(name, read(path)?, is_program(path)))
}

#[cfg(unix)]
fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).is_ok_and(|about| about.permissions().mode() & 0o111 != 0)
}

#[cfg(not(unix))]
fn is_program(_: &Path) -> bool {
    true
}

/// A size such as `256MiB`, `1GB` or `4096`, in bytes.
fn size(text: &str) -> Result<u64, String> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| "a size is like 256MiB")?;
    let unit: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "ki" | "kib" => 1 << 10,
        "m" | "mi" | "mib" => 1 << 20,
        "g" | "gi" | "gib" => 1 << 30,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        _ => return Err("a size is in B, KiB, MiB, GiB, kB, MB or GB".to_owned()),
    };
    number
        .checked_mul(unit)
        .ok_or_else(|| "that is more than there is".to_owned())
}

/// Processors such as `2` or `0.5`, in thousandths.
fn cores(text: &str) -> Result<u32, String> {
    let cores: f64 = text.parse().map_err(|_| "processors are like 2 or 0.5")?;
    match (0.01..=1_024.0).contains(&cores) {
        true => Ok((cores * 1_000.0).round() as u32),
        false => Err("there are from 0.01 to 1024 processors".to_owned()),
    }
}

fn exit(ended: Ended) -> u8 {
    match ended {
        Ended::Exited(0) => 0,
        Ended::Over(Over::Wall) => 124,
        _ => 1,
    }
}

fn problem(why: &RunFailure) -> Problem {
    let message = why.to_string();
    match why {
        RunFailure::Refused(refusal) => {
            Problem::new("runner_refused", 6, message, refusal.hint.clone())
        }
        RunFailure::NoStart { .. } => {
            let hint =
                "a job sees /usr, /bin, /lib and /in; --see PATH shows more, --file puts into /in";
            Problem::new("no_such_program", 3, message, hint)
        }
        RunFailure::Stage { .. } => {
            Problem::new("runner_failed", 1, message, "see `aquifer task probe`")
        }
    }
}

fn data(outcome: &Outcome) -> Value {
    let (how, number) = ended(outcome.ended);
    let said = |said: &Said| {
        json!({
            "text": String::from_utf8_lossy(&said.bytes),
            "bytes": said.bytes.len(),
            "cut": said.is_cut,
        })
    };
    json!({
        "job": HEXLOWER.encode(&outcome.job),
        "runner": outcome.runner,
        "ended": how,
        "number": number,
        "product": HEXLOWER.encode(&outcome.product()),
        "stdout": said(&outcome.stdout),
        "stderr": said(&outcome.stderr),
        "usage": {
            "wall_us": outcome.usage.wall_us,
            "setup_us": outcome.usage.setup_us,
            "cpu_us": outcome.usage.cpu_us,
            "memory_peak_bytes": outcome.usage.memory_peak_bytes,
            "pids_refused": outcome.usage.pids_refused,
        },
    })
}

/// A line about the outcome.
fn told(outcome: &Outcome) -> String {
    let how = match outcome.ended {
        Ended::Exited(code) => format!("exited with {code}"),
        Ended::Signalled(signal) => format!("was ended by signal {signal}"),
        Ended::Over(Over::Wall) => "was stopped: its time was over".to_owned(),
        Ended::Over(Over::Cpu) => "was stopped: too much time of processors".to_owned(),
        Ended::Over(Over::Memory) => "was stopped: too much memory".to_owned(),
        Ended::Over(Over::Output) => "was stopped: too much output".to_owned(),
        Ended::Stopped => "was stopped".to_owned(),
    };
    let usage = &outcome.usage;
    let is_cut = outcome.stdout.is_cut || outcome.stderr.is_cut;
    let mut cut = if is_cut { "; its output is cut" } else { "" }.to_owned();
    if usage.pids_refused > 0 {
        cut += &format!("; {} times it was refused a process", usage.pids_refused);
    }
    format!(
        "the job {how} after {:.1} ms; {:.1} ms of processors, {} at most{cut}\nproduct {}",
        usage.wall_us as f64 / 1e3,
        usage.cpu_us as f64 / 1e3,
        bytes(usage.memory_peak_bytes),
        HEXLOWER.encode(&outcome.product()),
    )
}

fn probe() -> Answer {
    let process = Process::new(Settings::usual(Stage::this()));
    let microvm = MicroVm::new(Stage::this());
    let runners: [&dyn Runner; 2] = [&process, &microvm];
    let mut rows = Vec::new();
    let mut notes = Vec::new();
    let mut all = Vec::new();
    for runner in runners {
        let found = runner.probe();
        rows.extend(lines(runner.name(), &found));
        let said = match &found {
            Ok(ability) => [vec![ability.walls.join(", ")], ability.notes.clone()].concat(),
            Err(refusal) => vec![refusal.hint.clone()],
        };
        let said = said.iter().map(|note| format!("{}: {note}", runner.name()));
        notes.extend(said);
        all.push(found_data(runner.name(), &found));
    }
    let paint = super::human::Paint::of(false);
    let human = table(paint, &["RUNNER", "WHAT", "HELD", "BY"], &rows);
    Answer::new(&all, format!("{human}\n{}", notes.join("\n")))
}

fn lines(name: &str, found: &Result<Ability, Refusal>) -> Vec<Vec<String>> {
    let row = |what: &str, held: &str, by: &str| [name, what, held, by].map(str::to_owned).to_vec();
    match found {
        Err(refusal) => vec![row("runs jobs", "no", &refusal.why)],
        Ok(ability) => {
            let took = format!("a trial took {:.1} ms", ability.trial_us as f64 / 1e3);
            let mut rows = vec![row("runs jobs", "yes", &took)];
            let limits = ability.limits.iter();
            rows.extend(limits.map(|limit| row(limit.what, limit.held.word(), &limit.by)));
            rows
        }
    }
}

fn found_data(name: &str, found: &Result<Ability, Refusal>) -> Value {
    match found {
        Err(refusal) => json!({
            "runner": name, "runs": false, "why": refusal.why, "hint": refusal.hint,
        }),
        Ok(ability) => json!({
            "runner": name,
            "runs": true,
            "trial_us": ability.trial_us,
            "walls": ability.walls,
            "limits": ability.limits.iter().map(|limit| json!({
                "what": limit.what, "held": limit.held.word(), "by": limit.by,
            })).collect::<Vec<_>>(),
            "notes": ability.notes,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_processors_are_read() {
        assert_eq!(size("256MiB"), Ok(256 << 20));
        assert_eq!(size("1 GB"), Ok(1_000_000_000));
        assert_eq!(size("17"), Ok(17));
        for text in [
            "",
            "MiB",
            "1 PiB",
            "99999999999999999999",
            "18446744073709551615k",
        ] {
            assert!(size(text).is_err(), "{text}");
        }
        assert_eq!(cores("0.5"), Ok(500));
        for text in ["0", "-1", "NaN", "inf", "many"] {
            assert!(cores(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_exit_code_says_what_became_of_the_job() {
        assert_eq!(exit(Ended::Exited(0)), 0);
        assert_eq!(exit(Ended::Exited(7)), 1);
        assert_eq!(exit(Ended::Signalled(9)), 1);
        assert_eq!(exit(Ended::Over(Over::Wall)), 124);
        assert_eq!(exit(Ended::Over(Over::Memory)), 1);
    }
}

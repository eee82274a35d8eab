//! `bench agents`: how many WASM agents this machine can host, and how quickly they wake.
//!
//! No daemon is asked and none is disturbed: the trial has a journal of its own, which is removed after it.
//!
//! Not here: what is tried and how (`aquifer_wasm::trial`).

use super::Context;
use super::output::Answer;
use crate::api::Problem;
use aquifer_wasm::engine::Engine;
use aquifer_wasm::engine::interpreter::Interpreter;
use aquifer_wasm::engine::jit::Jit;
use aquifer_wasm::sleepers::HostFailure;
use aquifer_wasm::trial::{self, Found, Phase, Plan};
use clap::{Args, Subcommand, ValueEnum};
use core::time::Duration;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use std::path::PathBuf;

/// The agent that is tried: the example that takes readings and says what is odd.
const SENSOR: &[u8] = include_bytes!("../../../wasm-agent/guest/modules/sensor.wasm");

#[derive(Debug, Subcommand)]
pub(super) enum BenchVerb {
    /// Host many WASM agents, and wake one in a hundred of them each second
    Agents(BenchFlags),
}

#[derive(Debug, Args)]
pub(super) struct BenchFlags {
    /// How many agents
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=50_000_000))]
    agents: u32,
    /// For how many seconds they are woken
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// What runs them
    #[arg(long, value_enum, default_value = "wasmtime")]
    engine: Which,
    /// Whether each step is durable alone, or up to 1,024 together
    #[arg(long, value_enum, default_value = "batch")]
    durable: Durable,
    /// Where the journal lies meanwhile: on the disk that is to be tried
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Which {
    /// Compiles.
    Wasmtime,
    /// Interprets.
    Wasmi,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Durable {
    /// Each step by itself.
    Step,
    /// Up to 1,024 at once.
    Batch,
}

pub(super) async fn agents(context: &Context, flags: BenchFlags) -> Result<Answer, Problem> {
    let bar = match context.output.quiet {
        true => ProgressBar::hidden(),
        false => ProgressBar::new(0),
    };
    let work = tokio::task::spawn_blocking(move || tries(&flags, &bar));
    work.await
        .map_err(|why| problem(&format!("the trial was stopped: {why}")))?
}

fn tries(flags: &BenchFlags, bar: &ProgressBar) -> Result<Answer, Problem> {
    let engine: Box<dyn Engine> = match flags.engine {
        Which::Wasmtime => Box::new(Jit::new().map_err(|why| problem(&why.to_string()))?),
        Which::Wasmi => Box::new(Interpreter::new()),
    };
    let dir = flags.dir.clone().unwrap_or_else(std::env::temp_dir);
    let folder = dir.join(format!("aquifer-bench-{}", std::process::id()));
    let made = std::fs::create_dir_all(&folder);
    made.map_err(|why| problem(&format!("cannot make {}: {why}", folder.display())))?;
    let plan = Plan {
        agents: flags.agents,
        lasts: Duration::from_secs(flags.seconds),
        each: flags.durable == Durable::Step,
    };
    let mut watch = |phase| show(bar, plan, phase);
    let path = folder.join("agents");
    let found = trial::run(plan, SENSOR, engine.as_ref(), &path, &mut watch);
    bar.finish_and_clear();
    // What cannot be removed is in the system's folder for what may go.
    let _ = std::fs::remove_dir_all(&folder);
    let found = found.map_err(|why| match why {
        HostFailure::Journal(why) => Problem::new(
            "disk",
            1,
            why.to_string(),
            "name another folder with --dir DIR",
        ),
        why => problem(&why.to_string()),
    })?;
    Ok(told(plan, engine.name(), &found))
}

fn told(plan: Plan, engine: &str, found: &Found) -> Answer {
    let data = json!({
        "agents": plan.agents,
        "seconds": plan.lasts.as_secs(),
        "engine": engine,
        "durable": if plan.each { "step" } else { "batch" },
        "wakes": found.wakes,
        "wakes_per_second_per_core": found.wakes_per_second_per_core.round(),
        "instantiate_p50_us": rounded(found.instantiate_p50_us),
        "instantiate_p99_us": rounded(found.instantiate_p99_us),
        "wake_p99_us": rounded(found.wake_p99_us),
        "bytes_per_idle_agent": rounded(found.bytes_per_idle_agent),
        "journal_bytes_per_agent": rounded(found.journal_bytes_per_agent),
        "rss_bytes": found.rss_bytes,
    });
    let mib = found.rss_bytes as f64 / f64::from(1 << 20);
    let human = format!(
        "{} agents on {engine}, {} of them woken in {} s\n\
         wakes            {:.0} a second on one core, with receipts, durable\n\
         a wake           99 of 100 within {:.0} us, from due to durable\n\
         a fresh instance {:.2} us, 99 of 100 within {:.2} us\n\
         asleep           {:.0} bytes of memory and {:.0} of the journal for each\n\
         memory           {mib:.0} MiB in all",
        plan.agents,
        found.wakes,
        plan.lasts.as_secs(),
        found.wakes_per_second_per_core,
        found.wake_p99_us,
        found.instantiate_p50_us,
        found.instantiate_p99_us,
        found.bytes_per_idle_agent,
        found.journal_bytes_per_agent,
    );
    Answer::new(&data, human)
}

fn show(bar: &ProgressBar, plan: Plan, phase: Phase) {
    let (length, position, what) = match phase {
        Phase::Settling(agents) => (plan.agents.into(), agents.into(), "agents settle"),
        Phase::Waking(since) => (
            plan.lasts.as_millis() as u64,
            since.as_millis() as u64,
            "one in a hundred wakes each second",
        ),
        Phase::FlatOut => (1, 0, "one core does what it can"),
    };
    // indicatif draws on stderr, and only if that is a terminal.
    let style = ProgressStyle::with_template("{bar:30} {percent:>3}%  {msg}  {eta} left");
    if bar.length() != Some(length) {
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.set_length(length);
        bar.reset_eta();
    }
    bar.set_message(what);
    bar.set_position(position);
}

fn rounded(number: f64) -> f64 {
    (number * 100.0).round() / 100.0
}

fn problem(why: &str) -> Problem {
    Problem::new("bench", 1, why.to_owned(), "")
}

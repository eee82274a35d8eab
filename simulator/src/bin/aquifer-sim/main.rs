//! The binary: runs plans, storms and single seeds, and prints what they found.
//!
//! Exit codes: 0 all is well, 1 something else (a void storm, a file that cannot be read), 2 usage,
//! 3 something happened that must not, 4 something that must happen did not.
//!
//! Not here: anything that decides what happens in a run.

mod compare;
mod machine;
mod storms;
mod swarms;
mod sweep;
mod verify;

use anyhow::{Context as _, bail};
use aquifer_simulator::scenario::plan::SHIPPED;
use aquifer_simulator::swarm;
use aquifer_simulator::swarm::analytic::analytic;
use aquifer_simulator::swarm::plan::Tier;
use aquifer_simulator::swarm::run::{Engine, How};
use aquifer_simulator::{Outcome, Plan, parallel};
use clap::{CommandFactory as _, Parser, Subcommand};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use swarms::{Found, RunSwarm};
use sweep::{RunSweep, Sweep};

/// Runs whole hives of real replicas on simulated disks and networks, from one seed.
#[derive(Parser)]
#[command(name = "aquifer-sim", version)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Run a plan: a shipped one by name, or a TOML file
    Run {
        /// A shipped plan (see `plans`), or a path
        plan: String,
        /// Decides what the plan leaves open
        #[arg(long, default_value = "1", value_parser = number)]
        seed: u64,
        /// Of a swarm: how many agents, instead of what the plan says
        #[arg(long)]
        agents: Option<u64>,
        /// Of a swarm: how much is kept of an agent, instead of what the plan says
        #[arg(long, value_enum)]
        tier: Option<TierName>,
        /// Of a swarm: which engine; both do the same
        #[arg(long, value_enum, default_value_t = EngineName::Epoch)]
        engine: EngineName,
        /// Of a swarm: how many threads, at most one for each region
        #[arg(long, default_value_t = 1)]
        threads: usize,
        /// Of a swarm: into how many partitions a thread sorts; chosen by size if 0
        #[arg(long, default_value_t = 0)]
        partitions: usize,
        /// Of a swarm: a folder for the report, as `report.html` and `summary.json`
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
        /// Of a swarm: without the tier beside it at sizes where both can be run, a few seconds
        #[arg(long)]
        alone: bool,
        /// Print the report as JSON
        #[arg(long)]
        json: bool,
    },
    /// Run many seeds, each with everything drawn
    Storm {
        /// How many
        #[arg(long, default_value_t = 100)]
        seeds: u64,
        /// The first
        #[arg(long, default_value = "0", value_parser = number)]
        from: u64,
        /// How many at a time
        #[arg(long, default_value_t = 2)]
        threads: usize,
        /// Print the summary as JSON
        #[arg(long)]
        json: bool,
        /// Plant a bug, to see whether it is found
        #[cfg(mutant)]
        #[arg(long)]
        mutant: Option<String>,
    },
    /// Run one seed of a storm again
    Replay {
        /// Which
        #[arg(long, value_parser = number)]
        seed: u64,
        /// Print a line for everything that happens
        #[arg(long)]
        trace: bool,
        /// Plant a bug, as in the storm that found it
        #[cfg(mutant)]
        #[arg(long)]
        mutant: Option<String>,
    },
    /// List the shipped plans
    Plans,
    /// Print all that a plan of a swarm says, with what it leaves out
    Explain {
        /// A shipped plan, or a path
        plan: String,
    },
    /// Run a plan of a swarm with one of its keys at some values
    Sweep {
        /// A shipped plan, or a path
        plan: String,
        /// The key, with dots: `mesh.degree`, `workload.0.bytes`
        #[arg(long)]
        key: String,
        /// Its values
        #[arg(long, value_delimiter = ',', required = true)]
        values: Vec<String>,
        /// How many seeds for each
        #[arg(long, default_value_t = 3)]
        seeds: u64,
        /// How many agents, instead of what the plan says
        #[arg(long)]
        agents: Option<u64>,
        /// How many threads
        #[arg(long, default_value_t = 1)]
        threads: usize,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Print what differs between two reports of swarms
    Compare {
        /// A folder that `run --out` wrote, or its summary.json
        first: PathBuf,
        /// Another
        second: PathBuf,
    },
    /// Run a swarm by both engines, in one thread and two and in many partitions: is it one?
    Verify {
        /// A path, or the name of a plan that comes along
        plan: String,
        /// Decides everything the plan leaves open
        #[arg(long, default_value = "1", value_parser = number)]
        seed: u64,
        /// So many agents instead of the plan's
        #[arg(long)]
        agents: Option<u64>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Print completions for a shell
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
}

fn main() -> ExitCode {
    match act(Cli::parse().verb) {
        Ok(Outcome::Green) => ExitCode::SUCCESS,
        Ok(Outcome::Void) => ExitCode::from(1),
        Ok(Outcome::Safety) => ExitCode::from(3),
        Ok(Outcome::Liveness) => ExitCode::from(4),
        Err(error) => {
            eprintln!("aquifer-sim: {error:#}");
            // A plan that cannot be meant is a mistake of usage; a file that cannot be read is not.
            ExitCode::from(if error.is::<Usage>() { 2 } else { 1 })
        }
    }
}

/// A mistake in what was asked.
#[derive(Debug)]
struct Usage(String);

impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

fn act(verb: Verb) -> anyhow::Result<Outcome> {
    match verb {
        Verb::Run {
            plan: name,
            seed,
            agents,
            tier,
            engine,
            threads,
            partitions,
            out,
            alone,
            json,
        } => {
            let text = text(&name)?;
            let plan = match read(&name, &text)? {
                AnyPlan::Storm(plan) => plan,
                AnyPlan::Swarm(mut plan) => {
                    plan.agents = agents.unwrap_or(plan.agents);
                    plan.tier = tier.map_or(plan.tier, Tier::from);
                    if plan.tier == Tier::Analytic {
                        return fitted(&name, &plan, seed, json);
                    }
                    let (name, text) = (&name, &text);
                    let found = Found {
                        name,
                        text,
                        plan: *plan,
                        alone,
                    };
                    let engine = engine.into();
                    let how = How {
                        engine,
                        threads,
                        partitions,
                        records: false,
                    };
                    return run_swarm(&found, seed, how, out.as_deref(), json);
                }
            };
            let report = parallel::run(plan.scenario(seed));
            if json {
                println!("{}", storms::pretty(&report));
            } else {
                storms::tell(&report);
                if !report.violations.is_empty() {
                    println!("aquifer-sim run {name} --seed {seed:#x}");
                }
            }
            Ok(report.outcome())
        }
        Verb::Verify {
            plan: name,
            seed,
            agents,
            json,
        } => {
            let text = text(&name)?;
            let AnyPlan::Swarm(mut plan) = read(&name, &text)? else {
                return Err(
                    Usage(format!("`{name}` is a storm; give a plan with `agents`")).into(),
                );
            };
            plan.agents = agents.unwrap_or(plan.agents);
            verify::verify(&plan, seed, json).map_err(|why| Usage(format!("{name}: {why}")).into())
        }
        Verb::Storm {
            seeds,
            from,
            threads,
            json,
            #[cfg(mutant)]
            mutant,
        } => {
            #[cfg(mutant)]
            plant(mutant.as_deref())?;
            Ok(storms::storm(from, seeds, threads, json))
        }
        Verb::Replay {
            seed,
            trace,
            #[cfg(mutant)]
            mutant,
        } => {
            #[cfg(mutant)]
            plant(mutant.as_deref())?;
            Ok(storms::replay(seed, trace))
        }
        Verb::Plans => {
            for (name, text) in shipped() {
                let (kind, about) = match read(name, text)? {
                    AnyPlan::Storm(plan) => ("storm", plan.about),
                    AnyPlan::Swarm(plan) => ("swarm", plan.about),
                };
                println!("{name:<10} {kind}  {about}");
            }
            Ok(Outcome::Green)
        }
        Verb::Explain { plan: name } => match read(&name, &text(&name)?)? {
            AnyPlan::Swarm(plan) => {
                print!("{}", toml::to_string(&plan)?);
                Ok(Outcome::Green)
            }
            AnyPlan::Storm(_) => bail!(Usage(format!(
                "`{name}` is a storm: what it leaves out is drawn from the seed; `replay --trace` shows it"
            ))),
        },
        Verb::Sweep {
            plan,
            key,
            values,
            seeds,
            agents,
            threads,
            json,
        } => {
            let text = text(&plan)?;
            if let AnyPlan::Storm(_) = read(&plan, &text)? {
                bail!(Usage(format!("`{plan}` is a storm: all of it is drawn")));
            }
            let how = How {
                threads,
                ..How::default()
            };
            let what = Sweep {
                name: &plan,
                text: &text,
                key: &key,
                values: &values,
                seeds,
                agents,
            };
            let (text, verdict) = match sweep::sweep(&what, how, json) {
                Err(why @ (RunSweep::Key(_) | RunSweep::Value { .. })) => {
                    bail!(Usage(why.to_string()))
                }
                other => other?,
            };
            let _ = std::io::stdout().write_all(text.as_bytes());
            Ok(verdict)
        }
        Verb::Compare { first, second } => {
            let text = compare::compare(&first, &second)?;
            let _ = std::io::stdout().write_all(text.as_bytes());
            Ok(Outcome::Green)
        }
        Verb::Completions { shell } => {
            let mut command = Cli::command();
            clap_complete::generate(shell, &mut command, "aquifer-sim", &mut std::io::stdout());
            Ok(Outcome::Green)
        }
    }
}

/// A seed: decimal, or hexadecimal after `0x`.
fn number(text: &str) -> Result<u64, std::num::ParseIntError> {
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    }
}

/// A plan of either kind. Whoever names agents means a swarm.
enum AnyPlan {
    Storm(Plan),
    Swarm(Box<swarm::plan::Plan>),
}

/// All plans that come with the simulator.
fn shipped() -> impl Iterator<Item = &'static (&'static str, &'static str)> {
    SHIPPED.iter().chain(&swarm::plan::SHIPPED)
}

/// The text of a plan: a shipped one, or of a file.
fn text(plan: &str) -> anyhow::Result<String> {
    match shipped().find(|(name, _)| *name == plan) {
        Some((_, text)) => Ok((*text).to_owned()),
        None if !plan.contains(['.', '/']) => {
            let names: Vec<&str> = shipped().map(|(name, _)| *name).collect();
            let names = names.join(", ");
            bail!(Usage(format!(
                "there is no plan `{plan}`; give a path, or one of: {names}"
            )));
        }
        None => std::fs::read_to_string(plan).with_context(|| format!("cannot read {plan}")),
    }
}

fn read(name: &str, text: &str) -> anyhow::Result<AnyPlan> {
    let usage = |why: String| anyhow::Error::new(Usage(format!("{name}: {why}")));
    match swarm::plan::Plan::is_meant(text) {
        true => swarm::plan::Plan::parse(text)
            .map(|plan| AnyPlan::Swarm(Box::new(plan)))
            .map_err(|why| usage(why.to_string())),
        false => Plan::parse(text)
            .map(AnyPlan::Storm)
            .map_err(|why| usage(why.to_string())),
    }
}

fn run_swarm(
    found: &Found<'_>,
    seed: u64,
    how: How,
    out: Option<&Path>,
    json: bool,
) -> anyhow::Result<Outcome> {
    let report = match swarms::swarm(found, seed, how, out) {
        Err(RunSwarm::Plan(why)) => bail!(Usage(format!("{}: {why}", found.name))),
        other => other?,
    };
    let mut text = match json {
        true => storms::pretty(&report) + "\n",
        false => swarms::tell(&report),
    };
    if let Some(out) = out.filter(|_| !json) {
        let page = out.join("report.html");
        text.push_str(&format!("page        {}\n", page.display()));
    }
    // Whoever stops reading has read enough.
    let _ = std::io::stdout().write_all(text.as_bytes());
    if !report.violations.is_empty() {
        let (name, agents) = (found.name, found.plan.agents);
        eprintln!("aquifer-sim run {name} --seed {seed:#x} --agents {agents}");
    }
    Ok(report.verdict())
}

/// What a law says that is fitted to smaller runs.
fn fitted(name: &str, plan: &swarm::plan::Plan, seed: u64, json: bool) -> anyhow::Result<Outcome> {
    plan.check()
        .map_err(|why| Usage(format!("{name}: {why}")))?;
    let said = analytic(plan, seed, &|_| true).map_err(|why| Usage(format!("{name}: {why}")))?;
    let text = match json {
        true => storms::pretty(&said) + "\n",
        false => swarms::tell_fitted(&said),
    };
    let _ = std::io::stdout().write_all(text.as_bytes());
    Ok(Outcome::Green)
}

/// How much is kept of an agent.
#[derive(Clone, Copy, clap::ValueEnum)]
enum TierName {
    Full,
    Compact,
    Planet,
    Analytic,
}

impl From<TierName> for Tier {
    fn from(name: TierName) -> Self {
        match name {
            TierName::Full => Self::Full,
            TierName::Compact => Self::Compact,
            TierName::Planet => Self::Planet,
            TierName::Analytic => Self::Analytic,
        }
    }
}

/// Which engine runs a swarm.
#[derive(Clone, Copy, clap::ValueEnum)]
enum EngineName {
    Epoch,
    Heap,
}

impl From<EngineName> for Engine {
    fn from(name: EngineName) -> Self {
        match name {
            EngineName::Epoch => Self::Epoch,
            EngineName::Heap => Self::Heap,
        }
    }
}

#[cfg(mutant)]
fn plant(name: Option<&str>) -> anyhow::Result<()> {
    use aquifer_protocol::mutant::{NAMES, plant};
    let Some(name) = name else { return Ok(()) };
    let Some((_, mutant)) = NAMES.iter().find(|(known, _)| *known == name) else {
        let known: Vec<&str> = NAMES.iter().map(|(known, _)| *known).collect();
        bail!(Usage(format!(
            "there is no mutant `{name}`; there are: {}",
            known.join(", ")
        )));
    };
    plant(*mutant);
    Ok(())
}

//! `aquifer-live`: the simulator beside live nodes, on seeds that it was not fitted to.
//!
//! `aquifer-live [--agents 50,100,200] [--seeds N] [--messages N] [--lookups N] [--kinds small,judged,idontwant]
//! [--json FILE]` plays every size and kind with every seed in real time, fits the one free parameter
//! to the first half of the seeds and prints how alike both are on the other half; `--messages 0` and
//! `--lookups 0` leave out one or the other. It wants a machine
//! that does nothing else: a run in which what had arrived lay unread for long is void. Ends with 1 if
//! a measure is beyond its limit, 2 where it was called wrongly, 3 where too many runs were void.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use aquifer_node::net::live::{lookups::Tale, play};
use aquifer_tests::live::calibration::{Trial, fit, with};
use aquifer_tests::live::lookups::{self, Searches};
use aquifer_tests::live::score::{Row, Spread, compare};
use aquifer_tests::live::{KINDS, Kind, of_live, of_model, plan, scene};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

const USAGE: &str = "usage: aquifer-live [--agents N,N,…] [--seeds N] [--messages N] [--lookups N] \
                     [--kinds small,judged,idontwant] [--json FILE]";

/// The longest that one in a hundred may lie unread: more, and the machine is measured.
const LAG_MAX: Duration = Duration::from_millis(3);

struct Wanted {
    agents: Vec<u32>,
    seeds: u64,
    messages: u32,
    lookups: u64,
    kinds: Vec<Kind>,
    json: Option<PathBuf>,
}

/// One table.
#[derive(serde::Serialize)]
struct Table {
    of: String,
    rows: Vec<Row>,
}

#[tokio::main(worker_threads = 2)]
async fn main() -> ExitCode {
    let Some(wanted) = read(std::env::args().skip(1)) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    tokio::select! {
        ended = show(&wanted) => ended,
        _ = tokio::signal::ctrl_c() => ExitCode::from(130),
    }
}

fn read(mut words: impl Iterator<Item = String>) -> Option<Wanted> {
    let mut wanted = Wanted {
        agents: vec![50, 100, 200],
        seeds: 10,
        messages: 100,
        lookups: 100,
        kinds: KINDS.to_vec(),
        json: None,
    };
    while let Some(word) = words.next() {
        let value = words.next()?;
        match word.as_str() {
            "--agents" => wanted.agents = list(&value, |text| text.parse().ok())?,
            "--seeds" => wanted.seeds = value.parse().ok().filter(|seeds| *seeds >= 2)?,
            "--messages" => wanted.messages = value.parse().ok()?,
            "--lookups" => wanted.lookups = value.parse().ok()?,
            "--kinds" => {
                wanted.kinds = list(&value, |text| {
                    KINDS.into_iter().find(|kind| kind.name == text)
                })?
            }
            "--json" => wanted.json = Some(value.into()),
            _ => return None,
        }
    }
    let legal = wanted
        .agents
        .iter()
        .all(|agents| (20..=400).contains(agents));
    legal.then_some(wanted)
}

fn list<T>(text: &str, read: impl Fn(&str) -> Option<T>) -> Option<Vec<T>> {
    text.split(',').map(read).collect()
}

async fn show(wanted: &Wanted) -> ExitCode {
    let tale = Tale::default();
    tracing_subscriber::registry().with(tale.clone()).init();
    let (fitted, held, void) = trials(wanted).await;
    let plays = wanted.messages > 0;
    if plays && (fitted.is_empty() || held.is_empty() || void * 4 > fitted.len() + held.len()) {
        eprintln!("{void} runs were void: this machine had other things to do");
        return ExitCode::from(3);
    }
    let mut tables = Vec::new();
    if plays {
        spread(wanted, (&fitted, &held, void), &mut tables);
    }
    for agents in wanted.agents.iter().filter(|_| wanted.lookups > 0) {
        let (mut live, mut model) = (Searches::default(), Searches::default());
        for seed in 0..wanted.seeds {
            eprintln!("lookups among {agents}, seed {seed}");
            live.add(&lookups::live(*agents, wanted.lookups, seed, &tale).await);
            model.add(&lookups::model(*agents, wanted.lookups, seed));
        }
        let of = format!("{agents} nodes, lookups");
        tables.push(told(of, lookups::compare(&live, &model)));
    }
    if let Some(path) = &wanted.json {
        let text = serde_json::to_string_pretty(&tables).expect("numbers and words");
        if let Err(why) = std::fs::write(path, text) {
            eprintln!("cannot write {}: {why}", path.display());
            return ExitCode::FAILURE;
        }
    }
    let all = tables.iter().flat_map(|table| &table.rows);
    match all.clone().all(Row::holds) {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

/// Fits, and compares what was held out.
fn spread(
    wanted: &Wanted,
    (fitted, held, void): (&[Trial], &[Trial], usize),
    tables: &mut Vec<Table>,
) {
    let processing = fit(fitted).expect("a legal plan");
    println!(
        "fitted to {} runs: an agent needs {processing:?} for a message; {void} runs void\n",
        fitted.len()
    );
    for kind in &wanted.kinds {
        for agents in &wanted.agents {
            let (mut live, mut model) = (Spread::default(), Spread::default());
            let is_it = |trial: &&Trial| trial.agents == *agents && trial.kind == *kind;
            for trial in held.iter().filter(is_it) {
                live.add(trial.live.clone());
                let plan = with(&trial.plan, processing);
                model.add(of_model(&plan, trial.seed).expect("a legal plan"));
            }
            if !live.messages.is_empty() {
                let of = format!("{agents} nodes, {} messages of {} B", kind.name, kind.bytes);
                tables.push(told(of, compare(&live, &model)));
            }
        }
    }
}

/// Plays all; the first half of the seeds is for fitting, the other is held out.
async fn trials(wanted: &Wanted) -> (Vec<Trial>, Vec<Trial>, usize) {
    let (mut fitted, mut held, mut void) = (Vec::new(), Vec::new(), 0);
    let seeds = if wanted.messages > 0 { wanted.seeds } else { 0 };
    for seed in 1..=seeds {
        for kind in wanted.kinds.iter().copied() {
            for agents in wanted.agents.iter().copied() {
                let plan = plan(agents.into(), wanted.messages, kind);
                let seen = play(&scene(&plan, seed).expect("a legal plan")).await;
                let [half, most] = seen.lag;
                let name = kind.name;
                eprintln!("{agents} nodes, {name}, seed {seed}: lag p50 {half:?}, p99 {most:?}");
                if most > LAG_MAX {
                    void += 1;
                    continue;
                }
                let live = of_live(&seen);
                let trial = Trial {
                    agents,
                    kind,
                    plan,
                    seed,
                    live,
                };
                match seed <= wanted.seeds / 2 {
                    true => fitted.push(trial),
                    false => held.push(trial),
                }
            }
        }
    }
    (fitted, held, void)
}

fn told(of: String, rows: Vec<Row>) -> Table {
    println!("{of}");
    let number = |value: Option<f64>| value.map_or(String::new(), |value| format!("{value:.2}"));
    for row in &rows {
        let verdict = if row.holds() { "" } else { "  BEYOND" };
        println!(
            "  {:<36}{:>10}{:>10}{:>9.4} of {:.4}{verdict}",
            row.measure,
            number(row.live),
            number(row.model),
            row.apart,
            row.limit
        );
    }
    println!();
    Table { of, rows }
}

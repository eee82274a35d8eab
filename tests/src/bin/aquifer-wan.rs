//! `aquifer-wan`: the stories of the swarm on an emulated WAN, at full size, for people.
//!
//! `aquifer-wan [SCENARIO…] [--small] [--seed N] [--json FILE] [--keep]` runs all scenarios or those
//! named, each on a swarm of its own, and prints what was measured. It ends with 1 if one was not
//! green, and with 3 if this machine or user may not make a WAN. `--keep` leaves homes and logs behind
//! (`AQUIFER_LOG` says what is logged). `aquifer-wan node` is the other side: a node that stdin
//! commands (see `aquifer_tests::wan::talk`).

use aquifer_tests::wan::report::Report;
use aquifer_tests::wan::scenario::{self, NAMES, Size};
use aquifer_tests::wan::swarm::{Map, Swarm};
use aquifer_tests::wan::{micros, node, void};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

const USAGE: &str = "usage: aquifer-wan [SCENARIO…] [--small] [--seed N] [--json FILE] [--keep]";

struct Wanted {
    names: Vec<&'static str>,
    size: Size,
    seed: u64,
    json: Option<PathBuf>,
    keep: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments == ["node"] {
        return match node::run().await {
            Ok(()) => ExitCode::SUCCESS,
            Err(why) => {
                eprintln!("the node's door failed: {why}");
                ExitCode::FAILURE
            }
        };
    }
    let Some(wanted) = read(arguments) else {
        eprintln!("{USAGE}\nscenarios: {}", NAMES.join(", "));
        return ExitCode::from(2);
    };
    tokio::select! {
        ended = show(wanted) => ended,
        // What was made is taken down on the way out.
        _ = tokio::signal::ctrl_c() => ExitCode::from(130),
    }
}

fn read(arguments: Vec<String>) -> Option<Wanted> {
    let mut wanted = Wanted {
        names: Vec::new(),
        size: Size::full(),
        seed: micros(),
        json: None,
        keep: false,
    };
    let mut words = arguments.into_iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--small" => wanted.size = Size::gate(),
            "--seed" => wanted.seed = words.next()?.parse().ok()?,
            "--keep" => wanted.keep = true,
            "--json" => wanted.json = Some(words.next()?.into()),
            name => wanted
                .names
                .push(NAMES.iter().find(|known| **known == name)?),
        }
    }
    if wanted.names.is_empty() {
        wanted.names = NAMES.to_vec();
    }
    Some(wanted)
}

async fn show(wanted: Wanted) -> ExitCode {
    let program = std::env::current_exe().expect("this program is a file");
    println!("seed {}", wanted.seed);
    let mut reports = Vec::new();
    for name in wanted.names {
        let (program, size, seed) = (program.clone(), wanted.size, wanted.seed);
        let one = one(name, program, size, seed, wanted.keep);
        let ran = tokio::spawn(one).await;
        let report = ran.unwrap_or_else(|panic| {
            let mut report = Report::of(name);
            report.demand(false, format!("it broke off: {panic}"));
            Some(report)
        });
        let Some(report) = report else {
            return ExitCode::from(3);
        };
        println!("\n{report}");
        reports.push(report);
    }
    if let Some(file) = wanted.json {
        let text = serde_json::to_string_pretty(&reports).expect("plain data");
        std::fs::write(&file, text + "\n").expect("the file can be written");
    }
    let green = |report: &Report| report.broken.is_empty() && report.void.is_empty();
    ExitCode::from(u8::from(!reports.iter().all(green)))
}

/// Nothing if this machine or user may not make a WAN.
async fn one(
    name: &'static str,
    program: PathBuf,
    size: Size,
    seed: u64,
    keep: bool,
) -> Option<Report> {
    let map = Map::of_the_world(size.each);
    let swarm = Swarm::raise(&program, map, seed).await;
    let mut swarm = void::or_void(name, swarm)?;
    if keep {
        swarm.keeps_homes();
    }
    scenario::run(name, &Arc::new(swarm), &size).await
}

//! `aquifer-fleet`: many nodes on one machine; one writes, and all are to have it.
//!
//! `aquifer-fleet [--nodes N] [--records N] [--regions N] [--idle SECONDS] [--patience SECONDS]
//! [--json [FILE]]` prints what was measured, progress on stderr, and ends with 1 if a node lacks a
//! record or ended. `--json` alone prints JSON instead. Bytes are counted at the loopback device: to
//! count this run's alone, give it one: `unshare -rn sh -c 'ip link set lo up; exec aquifer-fleet …'`.
//! `aquifer-fleet node WORDS…` is the other side: `aquifer WORDS…`, until stdin ends.

use aquifer_tests::crowd::spread::{self, Size};
use aquifer_tests::crowd::{self, REGIONS};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

const USAGE: &str = "usage: aquifer-fleet [--nodes N] [--records N] [--regions N] \
                     [--idle SECONDS] [--patience SECONDS] [--json [FILE]]";

struct Wanted {
    size: Size,
    json: Option<Option<PathBuf>>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|word| word == "node") {
        let code = crowd::node(arguments.split_off(1)).await;
        // Ends even while a thread waits for stdin.
        std::process::exit(code.into());
    }
    let Some(wanted) = read(arguments) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    tokio::select! {
        ended = show(wanted) => ended,
        // What was started is killed on the way out.
        _ = tokio::signal::ctrl_c() => ExitCode::from(130),
    }
}

fn read(arguments: Vec<String>) -> Option<Wanted> {
    let mut size = Size {
        nodes: 50,
        records: 1_000,
        regions: 1,
        idle: Duration::from_secs(10),
        patience: Duration::from_secs(300),
    };
    let mut json = None;
    let mut words = arguments.into_iter().peekable();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--nodes" => size.nodes = words.next()?.parse().ok()?,
            "--records" => size.records = words.next()?.parse().ok()?,
            "--regions" => size.regions = words.next()?.parse().ok()?,
            "--idle" => size.idle = Duration::from_secs(words.next()?.parse().ok()?),
            "--patience" => size.patience = Duration::from_secs(words.next()?.parse().ok()?),
            "--json" => json = Some(words.next_if(|w| !w.starts_with("--")).map(Into::into)),
            _ => return None,
        }
    }
    let fits = size.nodes >= 2 && size.records >= 1 && (1..=REGIONS.len()).contains(&size.regions);
    (fits && size.regions <= size.nodes).then_some(Wanted { size, json })
}

async fn show(wanted: Wanted) -> ExitCode {
    let program = std::env::current_exe().expect("this program is a file");
    let measured = match spread::run(&program, wanted.size, |line| eprintln!("{line}")).await {
        Ok(measured) => measured,
        Err(why) => {
            eprintln!("{why}");
            return ExitCode::FAILURE;
        }
    };
    let text = serde_json::to_string_pretty(&measured).expect("plain data");
    match &wanted.json {
        Some(None) => println!("{text}"),
        file => {
            println!("{measured}");
            if let Some(Some(file)) = file {
                std::fs::write(file, text + "\n").expect("the file can be written");
            }
        }
    }
    ExitCode::from(u8::from(!measured.report.broken.is_empty()))
}

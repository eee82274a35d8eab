//! `aquifer-models`: a model published at one of five nodes, one of them killed in the middle, one
//! outside the regions.
//!
//! `aquifer-models` prints what was measured as JSON, progress on stderr; the model has
//! `AQUIFER_MODEL_MIB` MiB (1,024 if it is not set). It ends with 1 if a node lacks a byte or one
//! leaked. `aquifer-models node WORDS…` is the other side: `aquifer WORDS…`, until stdin ends.

use aquifer_tests::crowd;
use aquifer_tests::models::{Size, run};
use std::process::ExitCode;
use std::time::Duration;

#[tokio::main]
async fn main() -> ExitCode {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|word| word == "node") {
        let code = crowd::node(arguments.split_off(1)).await;
        // Ends even while a thread waits for stdin.
        std::process::exit(code.into());
    }
    let mib = std::env::var("AQUIFER_MODEL_MIB").ok();
    let size = Size {
        mib: mib.and_then(|mib| mib.parse().ok()).unwrap_or(1_024),
        patience: Duration::from_secs(900),
    };
    let program = std::env::current_exe().expect("this program has a path");
    tokio::select! {
        ended = show(&program, size) => ended,
        // What was started is killed on the way out.
        _ = tokio::signal::ctrl_c() => ExitCode::from(130),
    }
}

async fn show(program: &std::path::Path, size: Size) -> ExitCode {
    match run(program, size, |line| eprintln!("{line}")).await {
        Ok(report) => {
            println!(
                "{}",
                serde_json::to_string_pretty(&report).expect("a report is JSON")
            );
            let whole = report
                .transfers
                .iter()
                .all(|transfer| transfer.proved_bytes == report.bytes);
            let leaked = report.leaked_files > 0 || report.leaked_bytes > 0;
            ExitCode::from(u8::from(!whole || leaked))
        }
        Err(broken) => {
            eprintln!("{broken}");
            ExitCode::FAILURE
        }
    }
}

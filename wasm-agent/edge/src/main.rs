//! The binary: `aquifer-edge VERB`.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(aquifer_edge::cli::run(std::env::args_os().skip(1)))
}

//! A device of the tests: the command line of `aquifer-edge`, as a process that can be killed.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(aquifer_edge::cli::run(std::env::args_os().skip(1)))
}

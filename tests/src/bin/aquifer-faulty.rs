//! A machine whose memory fails: the command line of `aquifer`, on engines of which one sees a bit that is wrong.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(aquifer_tests::faulty::run(std::env::args_os()))
}

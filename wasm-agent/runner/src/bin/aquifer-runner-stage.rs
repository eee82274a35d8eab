//! The stage as a program of its own, for those who embed the runner in a binary that cannot be one, and
//! for the tests.

use std::ffi::OsString;

fn main() {
    let arguments = std::env::args_os().skip(1);
    let all = std::iter::once(OsString::from(aquifer_runner::stage::NAME)).chain(arguments);
    let code = aquifer_runner::stage::entered(all).expect("it is called a stage");
    std::process::exit(code.into());
}

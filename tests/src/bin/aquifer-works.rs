//! `aquifer-works`: a node that runs tasks, for stories, and the stages of its jobs.
//!
//! `aquifer-works node WORDS…` is `aquifer WORDS…` until stdin ends.

use aquifer_runner::stage;
use aquifer_tests::crowd;

fn main() {
    // Before anything else: a stage must have one thread.
    let stage = stage::entered(std::env::args_os());
    let code = stage.unwrap_or_else(|| {
        let words = std::env::args().skip(2).collect();
        let runtime = tokio::runtime::Runtime::new().expect("this system starts threads");
        runtime.block_on(crowd::node(words))
    });
    // Ends even while a thread waits for stdin.
    std::process::exit(code.into());
}

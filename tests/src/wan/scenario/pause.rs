//! I16, a node stands still (SIGSTOP) while others write; let go on, it catches up by itself.

use super::Size;
use crate::wan::report::Report;
use crate::wan::swarm::{OPEN, Swarm};
use crate::wan::talk::Ask;
use std::time::{Duration, Instant};

/// Writes while it stands still.
const WRITES: usize = 20;

/// A node that does not answer for so long stands still.
const SILENCE: Duration = Duration::from_millis(300);

/// Stops the last node of America.
pub async fn run(swarm: &Swarm, size: &Size) -> Report {
    let mut report = Report::of("pause: a node stands still, and catches up without a restart");
    let writer = swarm.of_region("eu")[0];
    let paused = *swarm.of_region("us").last().expect("the map has us");
    let held = swarm.digests(&[writer], OPEN).await[0]
        .clone()
        .map_or(0, |(_, held)| held);
    let process = swarm.at(paused);
    process.freeze();
    // Spread over all of the pause: what is sent at its beginning waits in the node's own sockets.
    let pace = size.pause / u32::try_from(WRITES).expect("a small number");
    for number in 0..WRITES {
        let text = format!("pause {number} while one stands still");
        swarm.remembers(writer, OPEN, &text).await;
        tokio::time::sleep(pace).await;
    }
    let silent = tokio::time::timeout(SILENCE, process.ask(Ask::Status))
        .await
        .is_err();
    report.bit(silent, "the node answered while it stood still");
    process.thaw();
    let thawed = Instant::now();
    swarm.agree(&[writer, paused], OPEN, held + WRITES).await;
    report.figure("go on to equal digests", vec![thawed.elapsed()]);
    report.fact("stood still", format!("{} s", size.pause.as_secs()));
    report.fact("writes meanwhile", WRITES);
    report.demand(
        swarm.at(paused).pid() == process.pid(),
        "it is another process",
    );
    report
}

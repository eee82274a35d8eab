//! I2, a region is cut off while both sides write; healed, all hold the same.

use super::Size;
use crate::wan::report::Report;
use crate::wan::swarm::{OPEN, Swarm, until};
use std::time::{Duration, Instant};

/// A pause between two writes of one side.
const PACE: Duration = Duration::from_millis(40);

/// Cuts Europe off from the rest, writes on both sides, heals.
pub async fn run(swarm: &Swarm, size: &Size) -> Report {
    let mut report = Report::of("partition: a region cut off, writes on both sides, then healed");
    let all: Vec<usize> = (0..swarm.places().len()).collect();
    let (eu, us) = (swarm.of_region("eu"), swarm.of_region("us"));
    let held = swarm.digests(&eu[..1], OPEN).await[0]
        .clone()
        .map_or(0, |(_, held)| held);
    let before = swarm.tally();
    swarm.cut("eu", "us");
    swarm.cut("eu", "ap");
    let (here, there) = tokio::join!(
        writes(swarm, eu[0], size.cut, "in europe"),
        writes(swarm, us[0], size.cut, "in america"),
    );
    let digests = swarm.digests(&[eu[0], us[0]], OPEN).await;
    report.bit(
        digests[0] != digests[1],
        "both sides held the same while they were apart",
    );
    let cut = swarm.tally().cut - before.cut;
    swarm.heal();
    let healed = Instant::now();
    swarm.agree(&all, OPEN, held + here + there).await;
    let took = healed.elapsed();
    report.figure("heal to equal digests everywhere", vec![took]);
    report.fact("cut lasted", format!("{} s", size.cut.as_secs()));
    report.fact(
        "writes acknowledged in europe, in america",
        format!("{here}, {there}"),
    );
    report.fact("packets stopped by the cut", cut);
    report.bit(here > 0 && there > 0, "one side did not write");
    report.bit(cut > 0, "the cut stopped no packet");
    let took = until("a write crosses again", || async {
        swarm
            .everyone_recalls(us[0], OPEN, "after the partition")
            .await;
        true
    })
    .await;
    report.figure("the next write to recallable everywhere", vec![took]);
    report
}

/// Writes one after the other for so long; how many were acknowledged.
async fn writes(swarm: &Swarm, number: usize, lasts: Duration, what: &str) -> usize {
    let began = Instant::now();
    let mut written = 0;
    while began.elapsed() < lasts {
        swarm
            .remembers(number, OPEN, &format!("partition {written} {what}"))
            .await;
        written += 1;
        tokio::time::sleep(PACE).await;
    }
    written
}

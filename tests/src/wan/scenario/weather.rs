//! I16, bad weather: loss, jitter, reordering and little bandwidth everywhere, and a road that leads
//! one way only. Writes from every region arrive in every region all the same.

use super::Size;
use crate::wan::report::Report;
use crate::wan::roads::Line;
use crate::wan::swarm::{OPEN, Swarm};
use std::time::{Duration, Instant};

/// What the roads are like: one packet of ten is lost, one of twenty held back.
fn storm(line: &mut Line) {
    line.jitter = Duration::from_millis(30);
    line.loss_permille = 100;
    line.reorder_permille = 50;
    line.bytes_per_second = Some(32 * 1024);
}

/// Writes from all regions in a storm, with Europe unheard in Asia.
pub async fn run(swarm: &Swarm, size: &Size) -> Report {
    let mut report =
        Report::of("weather: loss, jitter, reordering, little bandwidth, a one-way road");
    let all: Vec<usize> = (0..swarm.places().len()).collect();
    let held = swarm.digests(&all[..1], OPEN).await[0]
        .clone()
        .map_or(0, |(_, held)| held);
    let before = swarm.tally();
    swarm.change_roads(storm);
    swarm.cut_one_way("eu", "ap");
    let began = Instant::now();
    for number in 0..size.writes {
        for writer in &all {
            let filler = "a long word about the weather ".repeat(30);
            let text = format!("weather {number} at {writer}: {filler}");
            swarm.remembers(*writer, OPEN, &text).await;
        }
    }
    report.figure("all writes acknowledged after", vec![began.elapsed()]);
    swarm
        .agree(&all, OPEN, held + all.len() * size.writes)
        .await;
    report.figure(
        "equal digests everywhere after, in the storm",
        vec![began.elapsed()],
    );
    let after = swarm.tally();
    swarm.heal();
    swarm.change_roads(|line| *line = Line::of(line.delay.as_millis() as u64, 10));
    report.fact("writes", all.len() * size.writes);
    let (lost, late) = (after.lost - before.lost, after.reordered - before.reordered);
    let (cut, full) = (after.cut - before.cut, after.overflowed - before.overflowed);
    report.fact("packets", after.packets - before.packets);
    report.fact(
        "lost, reordered, cut, too many",
        format!("{lost}, {late}, {cut}, {full}"),
    );
    report.bit(lost > 0, "no packet was lost");
    report.bit(late > 0, "no packet was overtaken");
    report.bit(cut > 0, "the one-way cut stopped no packet");
    report
}

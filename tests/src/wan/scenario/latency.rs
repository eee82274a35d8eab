//! How long a write takes until it can be recalled: here, in the region, and across the world.
//!
//! Beside it what the network and the disk charge for less: a round trip of one datagram on the same
//! roads, and one `fdatasync` on the same disk.

use super::Size;
use crate::wan::report::{Report, fdatasyncs};
use crate::wan::swarm::{OPEN, Swarm};
use crate::wan::talk::{Ask, Said};
use std::collections::BTreeMap;
use std::time::Duration;

/// Writes from the first node of each region, one after the other.
pub async fn run(swarm: &Swarm, size: &Size) -> Report {
    let mut report = Report::of("latency: from the start of a write to its first recall elsewhere");
    report.figure(
        "one fdatasync of 4 KiB on the same disk",
        fdatasyncs(swarm.disk(), 50),
    );
    let firsts: Vec<usize> = regions(swarm)
        .iter()
        .map(|r| swarm.of_region(r)[0])
        .collect();
    for (from, to) in pairs(swarm) {
        let (names, set) = (names(swarm, from, to), swarm.round_trip(from, to));
        let trips = ping(swarm, from, to, size.pings).await;
        let quick = trips.iter().any(|trip| *trip < set);
        report.bit(
            !quick,
            format!("{names}: a datagram was back sooner than the roads allow"),
        );
        report.figure(
            &format!("round trip {names}, set to {} ms", set.as_millis()),
            trips,
        );
    }
    let mut acks = Vec::new();
    let mut spread = BTreeMap::<_, Vec<Duration>>::new();
    for source in &firsts {
        let sibling = swarm
            .of_region(swarm.places()[*source].region)
            .get(1)
            .copied();
        let others: Vec<usize> = firsts.iter().copied().filter(|i| i != source).collect();
        let others: Vec<usize> = sibling.into_iter().chain(others).collect();
        for number in 0..size.writes {
            let text = format!("latency {number} from {}", swarm.places()[*source].name);
            let (written, took) = swarm.spreads(*source, &others, OPEN, &text).await;
            acks.push(Duration::from_micros(written.ended - written.began));
            for (other, took) in others.iter().zip(took) {
                let pair = (*source.min(other), *source.max(other));
                spread.entry(pair).or_default().push(took);
            }
        }
    }
    report.figure("write to acknowledged (local)", acks);
    for ((from, to), took) in spread {
        let what = format!("write to recallable, {}", names(swarm, from, to));
        report.figure(&what, took);
    }
    let tally = swarm.tally();
    report.fact(
        "packets carried, lost, reordered",
        format!("{}, {}, {}", tally.packets, tally.lost, tally.reordered),
    );
    report.bit(tally.lost > 0, "no packet was lost");
    report
}

/// Round trips of datagrams between two places.
pub async fn ping(swarm: &Swarm, from: usize, to: usize, count: u32) -> Vec<Duration> {
    let to = swarm.places()[to].address;
    match swarm.at(from).ask(Ask::Ping { to, count }).await {
        Ok(Said::Pinged(trips)) => trips.into_iter().map(Duration::from_micros).collect(),
        other => panic!("no ping: {other:?}"),
    }
}

fn regions(swarm: &Swarm) -> Vec<&'static str> {
    let mut regions: Vec<&str> = swarm.places().iter().map(|place| place.region).collect();
    regions.dedup();
    regions
}

/// One pair of nodes inside each region that has two, and one for each two regions.
fn pairs(swarm: &Swarm) -> Vec<(usize, usize)> {
    let regions: Vec<Vec<usize>> = regions(swarm).iter().map(|r| swarm.of_region(r)).collect();
    let mut pairs = Vec::new();
    for (at, region) in regions.iter().enumerate() {
        pairs.extend(region.get(1).map(|second| (region[0], *second)));
        pairs.extend(regions[at + 1..].iter().map(|other| (region[0], other[0])));
    }
    pairs
}

fn names(swarm: &Swarm, from: usize, to: usize) -> String {
    let (from, to) = (swarm.places()[from].region, swarm.places()[to].region);
    if from == to {
        format!("inside {from}")
    } else {
        format!("{from}-{to}")
    }
}

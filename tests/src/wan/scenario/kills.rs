//! I1, nodes are killed (`kill -9`) at random moments while they write, at last all at once: nothing
//! that was acknowledged is lost.
//!
//! Acknowledged is what `remember` returned to the writer. A write whose node died first may be there
//! or not; only that nobody said it was counts.

use super::Size;
use crate::wan::process::Unanswered;
use crate::wan::report::Report;
use crate::wan::swarm::{OPEN, Swarm, note};
use crate::wan::talk::{Ask, Said};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// Writers at each node.
const WRITERS: usize = 2;

/// A node is killed so long after the last one was up again, at most.
const LULL_MS: u64 = 400;

/// Ids asked after in one go.
const BATCH: usize = 500;

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    in_flight: Vec<AtomicUsize>,
}

/// What one writer saw.
#[derive(Debug, Default)]
struct Log {
    acknowledged: Vec<String>,
    unknown: usize,
    refused: usize,
}

/// Kills and restarts nodes, drawn from all, and then all of them.
pub async fn run(swarm: &Arc<Swarm>, size: &Size) -> Report {
    let mut report = Report::of("kills: nodes killed at random moments while they write");
    let all: Vec<usize> = (0..swarm.places().len()).collect();
    let shared = Arc::new(Shared {
        stop: AtomicBool::new(false),
        in_flight: all.iter().map(|_| AtomicUsize::new(0)).collect(),
    });
    let mut writers = JoinSet::new();
    for number in &all {
        for writer in 0..WRITERS {
            writers.spawn(writes(swarm.clone(), *number, writer, shared.clone()));
        }
    }
    let (mut in_flight, mut back) = (0, Vec::new());
    for _ in 0..size.kills {
        tokio::time::sleep(Duration::from_millis(swarm.draw(LULL_MS))).await;
        let victim = usize::try_from(swarm.draw(all.len() as u64)).expect("a small number");
        in_flight += usize::from(shared.in_flight[victim].load(Ordering::SeqCst) > 0);
        swarm.kills(victim).await;
        let began = Instant::now();
        swarm.restarts(victim).await;
        back.push(began.elapsed());
    }
    in_flight += power_cut(swarm, &all, &shared).await;
    shared.stop.store(true, Ordering::SeqCst);
    let mut log = Log::default();
    while let Some(one) = writers.join_next().await {
        let one = one.expect("no panic");
        log.acknowledged.extend(one.acknowledged);
        log.unknown += one.unknown;
        log.refused += one.refused;
    }
    let stopped = Instant::now();
    swarm.agree(&all, OPEN, log.acknowledged.len()).await;
    report.figure("restart to up", back);
    report.figure(
        "last kill to equal digests everywhere",
        vec![stopped.elapsed()],
    );
    let mut lost = 0;
    for number in &all {
        for ids in log.acknowledged.chunks(BATCH) {
            match swarm.at(*number).ask(Ask::Missing(ids.to_vec())).await {
                Ok(Said::Missing(ids)) => lost += ids.len(),
                other => panic!("no answer: {other:?}"),
            }
        }
    }
    report.fact(
        "kills (the last of all nodes), with a write in flight",
        format!("{}, {in_flight}", size.kills + 1),
    );
    report.fact("writes acknowledged", log.acknowledged.len());
    report.fact("writes that died with their node", log.unknown);
    report.fact("writes refused", log.refused);
    report.fact("acknowledged writes missing at some node", lost);
    report.demand(lost == 0, format!("{lost} acknowledged writes are lost"));
    report.bit(in_flight > 0, "no kill hit a write in flight");
    report.bit(log.unknown > 0, "no write died with its node");
    report
}

/// Kills all nodes at once, as when the power goes, and starts them again. Whether a write was in
/// flight.
async fn power_cut(swarm: &Arc<Swarm>, all: &[usize], shared: &Shared) -> usize {
    let mut dying = JoinSet::new();
    let in_flight = shared
        .in_flight
        .iter()
        .any(|count| count.load(Ordering::SeqCst) > 0);
    for number in all {
        let (swarm, number) = (swarm.clone(), *number);
        dying.spawn(async move { swarm.kills(number).await });
    }
    while let Some(dead) = dying.join_next().await {
        dead.expect("no panic");
    }
    for number in all {
        swarm.restarts(*number).await;
    }
    usize::from(in_flight)
}

async fn writes(swarm: Arc<Swarm>, number: usize, writer: usize, shared: Arc<Shared>) -> Log {
    let mut log = Log::default();
    let mut count = 0;
    while !shared.stop.load(Ordering::SeqCst) {
        let Some(process) = swarm.places()[number].process() else {
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        let text = format!("kills: entry {count} of writer {writer} at node {number}");
        count += 1;
        shared.in_flight[number].fetch_add(1, Ordering::SeqCst);
        let written = process.remember(note(OPEN, &text)).await;
        shared.in_flight[number].fetch_sub(1, Ordering::SeqCst);
        match written {
            Ok(written) => log.acknowledged.push(written.remembered.id),
            Err(Unanswered::Gone) => log.unknown += 1,
            Err(Unanswered::Refused(_)) => log.refused += 1,
        }
    }
    log
}

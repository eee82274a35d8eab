//! Parallel: many seeds beside each other.
//!
//! Here and in [`crew`] are the only threads. Each run is single-threaded and knows of no other; results are put
//! into the order of their seeds, so the sum does not depend on the number of threads. A panic of the
//! core is a finding of its seed, not the end of the storm.
//!
//! Not here: what a run does (`world`).

pub mod crew;

use crate::check::Violation;
use crate::report::Report;
use crate::scenario::Scenario;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};

/// Runs `count` seeds from `first` on, on `threads` threads. Calls `done` after each run.
pub fn storm(
    first: u64,
    count: u64,
    threads: usize,
    done: &(dyn Fn(&Report) + Sync),
) -> Vec<Report> {
    let next = AtomicU64::new(0);
    let work = || {
        let mut reports = Vec::new();
        loop {
            let offset = next.fetch_add(1, Ordering::Relaxed);
            if offset >= count {
                return reports;
            }
            let report = run(Scenario::draw(first.wrapping_add(offset)));
            done(&report);
            reports.push((offset, report));
        }
    };
    let mut all: Vec<(u64, Report)> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads.max(1)).map(|_| scope.spawn(work)).collect();
        let join = |thread: std::thread::ScopedJoinHandle<'_, Vec<(u64, Report)>>| {
            thread.join().expect("panics of a run are caught inside it")
        };
        threads.into_iter().flat_map(join).collect()
    });
    all.sort_by_key(|(offset, _)| *offset);
    all.into_iter().map(|(_, report)| report).collect()
}

/// Runs a scenario; a panic is a violation.
pub fn run(scenario: Scenario) -> Report {
    let (seed, replicas) = (scenario.seed, scenario.sites.len());
    catch_unwind(AssertUnwindSafe(|| crate::run(scenario))).unwrap_or_else(|panic| {
        let said = panic.downcast_ref::<String>().map(String::as_str);
        let said = said
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("no message");
        let violations = vec![Violation::Panicked {
            what: format!("panicked: {said}"),
        }];
        Report {
            seed,
            replicas,
            violations,
            ..Report::default()
        }
    })
}

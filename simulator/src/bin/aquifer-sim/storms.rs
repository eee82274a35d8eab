//! Running storms, and saying what they found.

use aquifer_simulator::{Outcome, Report, Scenario, Summary, World, parallel};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use std::io::IsTerminal as _;
use std::time::Instant;

/// Runs so many seeds, and says what they found.
pub(crate) fn storm(from: u64, seeds: u64, threads: usize, json: bool) -> Outcome {
    let bar = ProgressBar::with_draw_target(Some(seeds), ProgressDrawTarget::stderr());
    if !std::io::stderr().is_terminal() {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    let style = "{bar:30} {pos}/{len} seeds, {per_sec}, {eta} left";
    bar.set_style(ProgressStyle::with_template(style).expect("a template"));
    // Panics of the core are findings; their place is said beside them.
    let began = Instant::now();
    let reports = parallel::storm(from, seeds, threads, &|report| {
        bar.inc(1);
        if !report.violations.is_empty() {
            bar.suspend(|| eprintln!("aquifer-sim replay --seed {:#x}", report.seed));
        }
    });
    bar.finish_and_clear();
    let took = began.elapsed();
    let sum = Summary::of(reports);
    if json {
        println!("{}", pretty(&sum));
        return sum.outcome();
    }
    let pace = sum.seeds as f64 / took.as_secs_f64();
    let speed = sum.seconds as f64 / took.as_secs_f64();
    println!(
        "{} seeds in {:.1} s: {pace:.1} seeds/s on {threads} threads, {speed:.0} times real time",
        sum.seeds,
        took.as_secs_f64(),
    );
    println!(
        "{} writes done, {} happenings, {} seeds void",
        sum.done, sum.happenings, sum.void
    );
    println!("faults that bit: {}", plain(&sum.faults));
    println!("events: {}", plain(&sum.events));
    println!("digest {}", hex(&sum.digest));
    println!("{} seeds violated something", sum.failed.len());
    for report in &sum.failed {
        println!("aquifer-sim replay --seed {:#x}", report.seed);
        for violation in report.violations.iter().take(3) {
            println!("    {violation}");
        }
    }
    sum.outcome()
}

fn plain(counts: &impl Serialize) -> String {
    serde_json::to_string(counts).expect("counts have text keys")
}

/// A report as JSON.
pub(crate) fn pretty(report: &impl Serialize) -> String {
    serde_json::to_string_pretty(report).expect("a report has text keys")
}

/// Runs one seed again, line by line if `trace`.
pub(crate) fn replay(seed: u64, trace: bool) -> Outcome {
    let scenario = Scenario::draw(seed);
    if trace {
        let mut world = World::new(scenario.clone());
        println!("{:?}", scenario.rates);
        for (i, site) in scenario.sites.iter().enumerate() {
            let id = world.nodes[i].keys.node();
            println!("n{i} {id:?} {} {site:?}", site.region);
        }
        for change in &scenario.changes {
            println!(
                "{:?} {}: {change:?}",
                world.topic(change.topic.as_str()),
                change.topic
            );
        }
        world.traced(Box::new(|line| println!("{line}")));
        world.run();
        tell(&world.report);
        return world.report.outcome();
    }
    let report = parallel::run(scenario);
    tell(&report);
    report.outcome()
}

/// A report in text.
pub(crate) fn tell(report: &Report) {
    println!(
        "seed {:#x}: {:?}; {} replicas, {} s, {} happenings, {} packets, settled after {:?} ms",
        report.seed,
        report.outcome(),
        report.replicas,
        report.seconds,
        report.happenings,
        report.packets,
        report.settled_ms,
    );
    let (done, refused, unknown) = (report.done, report.refused, report.unknown);
    println!("operations: {done} done, {refused} refused, {unknown} unknown");
    println!("faults that bit: {:?}", report.faults);
    println!("events: {:?}", report.events);
    println!("digest {}", hex(&report.digest));
    for violation in &report.violations {
        println!("VIOLATION {violation}");
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

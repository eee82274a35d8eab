//! Running a swarm: progress, cost, and a page of text.

use crate::machine::Meter;
use aquifer_simulator::parallel::crew::Progress;
use aquifer_simulator::swarm::plan::{ParseSwarm, Plan};
use aquifer_simulator::swarm::report::Report;
use aquifer_simulator::swarm::run::{How, prepare};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal as _;

/// Runs `plan`.
pub(crate) fn swarm(plan: &Plan, seed: u64, how: How) -> Result<Report, ParseSwarm> {
    let horizon = plan.horizon.as_millis() as u64;
    let bar = ProgressBar::with_draw_target(Some(horizon), ProgressDrawTarget::hidden());
    if std::io::stderr().is_terminal() {
        bar.set_draw_target(ProgressDrawTarget::stderr());
    }
    let style = "{bar:30} {pos}/{len} ms simulated, {msg}, {eta} left";
    bar.set_style(ProgressStyle::with_template(style).expect("a template"));
    let watch = |progress: Progress| {
        bar.set_position(progress.at / 1_000);
        bar.set_message(format!("{} events on their way", progress.held));
        true
    };
    let mut meter = Meter::begin();
    let prepared = prepare(plan, seed, how)?;
    meter.ready();
    let outcome = prepared.run(&watch);
    let cost = meter.cost();
    bar.finish_and_clear();
    let (names, _) = plan.matrix()?;
    Ok(Report::of(plan, seed, &names, &outcome, cost, true))
}

/// The report in text.
pub(crate) fn tell(report: &Report) {
    let ms = |time: Option<u64>| time.map_or_else(|| "-".to_owned(), |ms| format!("{ms} ms"));
    let Report {
        agents,
        tier,
        messages,
        seed,
        ..
    } = report;
    println!("{agents} agents, {tier} tier, {messages} messages, seed {seed:#x}");
    let [p50, p99] = [report.p50_ms, report.p99_ms].map(ms);
    println!(
        "reached     {:.4} %, half within {p50}, 99 % within {p99}",
        report.reached * 100.0
    );
    println!(
        "duplicates  {:.2} for each delivery; {:.2} % of deliveries were asked for",
        report.duplicates_per_delivery,
        report.answered * 100.0
    );
    println!(
        "WAN         {:.0} B for each delivery",
        report.wan_bytes_per_delivery
    );
    let policy = &report.policy;
    println!(
        "policy      {} asked, {} denied, {} accepted against the law (below {:.1e} with 95 %)",
        policy.checked, policy.attempted, policy.accepted, policy.bound
    );
    let cost = &report.cost;
    println!(
        "speed       {} events, {:.1} ns each; {:.2} s of processor in {:.2} s, {:.2} s to get ready",
        report.events, report.ns_per_event, cost.cpu_seconds, cost.wall_seconds, cost.setup_seconds
    );
    if let (Some(rss), Some(each)) = (cost.rss_bytes, report.bytes_per_agent) {
        println!(
            "memory      {} MiB at most, {each:.0} B for each agent",
            rss >> 20
        );
    }
    for (region, [p50, p99]) in &report.regions {
        println!(
            "  {region:<14} half within {}, 99 % within {}",
            ms(*p50),
            ms(*p99)
        );
    }
    for violation in &report.violations {
        println!("VIOLATION {violation}");
    }
    println!("digest      {}", report.digest);
}

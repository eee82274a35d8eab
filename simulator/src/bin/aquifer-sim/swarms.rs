//! Running a swarm: progress, cost, and a page of text.

use crate::machine::Meter;
use crate::storms;
use aquifer_simulator::parallel::crew::Progress;
use aquifer_simulator::swarm::agreement::agreement;
use aquifer_simulator::swarm::analytic::{Analytic, Law};
use aquifer_simulator::swarm::page::page;
use aquifer_simulator::swarm::plan::{ParseSwarm, Plan, Tier};
use aquifer_simulator::swarm::planet::QUANTA;
use aquifer_simulator::swarm::report::Report;
use aquifer_simulator::swarm::resources::Need;
use aquifer_simulator::swarm::run::{How, lookups, planet, prepare};
use aquifer_simulator::swarm::society::behave;
use aquifer_simulator::swarm::tally::DELAYS;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// A plan of a swarm, as it was found.
pub(crate) struct Found<'a> {
    pub(crate) name: &'a str,
    pub(crate) text: &'a str,
    pub(crate) plan: Plan,
    /// Whether it is run without the neighbouring tier beside it.
    pub(crate) alone: bool,
}

/// Runs a plan. A first Ctrl-C ends it where it is, with a report of what there is by then. What is to
/// be written to `out`, its report and a page, is written there.
pub(crate) fn swarm(
    found: &Found<'_>,
    seed: u64,
    how: How,
    out: Option<&Path>,
) -> Result<Report, RunSwarm> {
    let plan = &found.plan;
    let messages: u32 = plan.workload.iter().map(|workload| workload.count).sum();
    let horizon = match plan.tier {
        Tier::Full | Tier::Compact => plan.horizon,
        Tier::Planet | Tier::Analytic => plan.quantum * QUANTA as u32 * messages,
    };
    let bar = ProgressBar::with_draw_target(
        Some(horizon.as_millis() as u64),
        ProgressDrawTarget::hidden(),
    );
    if std::io::stderr().is_terminal() {
        bar.set_draw_target(ProgressDrawTarget::stderr());
    }
    let style = "{bar:30} {pos}/{len} ms simulated, {msg}, {eta} left";
    bar.set_style(ProgressStyle::with_template(style).expect("a template"));
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = stop.clone();
    // Without it, Ctrl-C ends the process at once: that is no harm.
    let _ = ctrlc::set_handler(move || {
        if stopped.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
    });
    let said = Mutex::new(Instant::now());
    let watch = |progress: Progress| {
        tell_log(&said, &progress, horizon);
        bar.set_position(progress.at / 1_000);
        bar.set_message(format!("{} events on their way", progress.held));
        !stop.load(Ordering::Relaxed)
    };
    let mut meter = Meter::begin();
    let outcome = match plan.tier {
        Tier::Full | Tier::Compact => {
            let prepared = prepare(plan, seed, how)?;
            meter.ready();
            prepared.run(&watch)
        }
        Tier::Planet | Tier::Analytic => planet(plan, seed, &watch)?,
    };
    let cost = meter.cost();
    bar.finish_and_clear();
    let (names, _) = plan.matrix().map_err(ParseSwarm::from)?;
    let whole = !stop.load(Ordering::Relaxed);
    let mut report = Report::of(plan, seed, &names, &outcome, cost, whole);
    (report.lookups, report.provided) = lookups(plan, seed)?;
    // A second bar, from the beginning for each behaviour.
    let lasts = plan.hierarchy.horizon;
    bar.reset();
    bar.set_length(lasts.as_millis() as u64);
    let doing = |progress: Progress| {
        tell_log(&said, &progress, lasts);
        bar.set_position(progress.at / 1_000);
        bar.set_message(format!("{} events on their way", progress.held));
        !stop.load(Ordering::Relaxed)
    };
    report.behaviours = behave(plan, seed, how.engine, &doing)?;
    bar.finish_and_clear();
    if whole && !found.alone {
        // At such sizes a plan may ask for what cannot be: that is no fault of the run.
        match agreement(plan, seed) {
            Ok(agreement) => report.agreement = agreement,
            Err(why) => eprintln!("aquifer-sim: no tiers beside each other: {why}"),
        }
    }
    if let Some(out) = out {
        write(
            out,
            found,
            &report,
            &page(found.name, found.text, &report, &outcome.tally),
        )?;
    }
    Ok(report)
}

/// How often a log is told how far a run is.
const LOG_EVERY: Duration = Duration::from_secs(60);

/// Where nobody sees a bar, a line now and then.
fn tell_log(said: &Mutex<Instant>, progress: &Progress, horizon: Duration) {
    let Ok(mut said) = said.try_lock() else {
        return;
    };
    if said.elapsed() < LOG_EVERY || std::io::stderr().is_terminal() {
        return;
    }
    *said = Instant::now();
    let (at, all) = (progress.at / 1_000, horizon.as_millis());
    eprintln!(
        "{at} of {all} ms simulated, {} events on their way",
        progress.held
    );
}

/// What the fitted law says, in text.
pub(crate) fn tell_fitted(said: &Analytic) -> String {
    let mut text = format!(
        "{} agents, analytic tier: FITTED to {} messages at each of {} sizes up to {}, not simulated\n",
        said.agents,
        said.messages,
        said.runs.len(),
        said.runs.last().copied().unwrap_or(0),
    );
    for (what, law) in [("half", said.p50_ms), ("99 %", said.p99_ms)] {
        let Law {
            base,
            per_decade,
            value,
            interval: [low, high],
        } = law;
        text.push_str(&format!(
            "{what} within {value:.0} ms; 95 of 100 messages between {low:.0} and {high:.0} ms  ({base:.1} + {per_decade:.1} ms for each tenfold)\n"
        ));
    }
    text
}

/// Why a run gave no report.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunSwarm {
    /// The plan cannot be run.
    #[error(transparent)]
    Plan(#[from] ParseSwarm),
    /// The report cannot be written.
    #[error("write {}: {source}", path.display())]
    Write {
        path: PathBuf,
        source: std::io::Error,
    },
}

fn write(out: &Path, found: &Found<'_>, report: &Report, page: &str) -> Result<(), RunSwarm> {
    let put = |path: PathBuf, text: &str| {
        std::fs::write(&path, text).map_err(|source| RunSwarm::Write { path, source })
    };
    std::fs::create_dir_all(out).map_err(|source| RunSwarm::Write {
        path: out.to_owned(),
        source,
    })?;
    put(out.join("plan.toml"), found.text)?;
    put(out.join("summary.json"), &storms::pretty(report))?;
    put(out.join("report.html"), page)
}

/// The report in text.
pub(crate) fn tell(report: &Report) -> String {
    let mut text = String::new();
    let mut say = |line: String| {
        text.push_str(&line);
        text.push('\n');
    };
    let ms = |time: Option<u64>| match time {
        None => "-".to_owned(),
        Some(most) if most as usize == DELAYS - 1 => format!("more than {most} ms"),
        Some(ms) => format!("{ms} ms"),
    };
    let Report {
        agents,
        tier,
        messages,
        seed,
        ..
    } = report;
    say(format!(
        "{agents} agents, {} tier, {messages} messages, seed {seed:#x}",
        tier.name()
    ));
    let [p50, p99] = [report.p50_ms, report.p99_ms].map(ms);
    say(format!(
        "reached     {:.4} %, half within {p50}, 99 % within {p99}",
        report.reached * 100.0
    ));
    say(format!(
        "duplicates  {:.2} for each delivery; {:.2} % of deliveries were asked for",
        report.duplicates_per_delivery,
        report.answered * 100.0
    ));
    if let Some(settled) = report.settled {
        say(format!(
            "settled     who is here at the end has {:.4} % of what it should; {} departures, {:.2} % of deliveries to those who had been away",
            settled * 100.0,
            report.departures,
            report.late * 100.0
        ));
    }
    for mended in &report.convergence {
        let last = mended
            .last_ms
            .map_or_else(String::new, |ms| format!(", the last after {ms} ms"));
        say(format!(
            "convergence after {}: {} arrivals, half within {:.0} ms, 99 % within {:.0} ms{last}",
            mended.after, mended.arrivals, mended.p50_ms, mended.p99_ms
        ));
    }
    let [again, cut] = report.lost;
    if again + cut + report.unsaid > 0 {
        say(format!(
            "lost        {again} sent again, {cut} between regions that were cut off, {} messages never published",
            report.unsaid
        ));
    }
    if report.silenced > 0 {
        say(format!(
            "silence     {} times a mesh peer was put out for it",
            report.silenced
        ));
    }
    if let Some(harm) = &report.harm {
        let (arrivals, [half, most]) = harm.eclipsed;
        let ([judged, dropped], [again, passed]) = (harm.spam, harm.replays);
        say(format!(
            "harm        {arrivals} deliveries to the eclipsed, half within {}, 99 % within {}; {judged} pieces of spam judged, {dropped} dropped unseen; {again} old messages came again, {passed} passed on",
            ms(half),
            ms(most)
        ));
    }
    if report.relayed.count > 0 {
        let all: u64 = report.sent.values().flatten().map(|sent| sent.count).sum();
        say(format!(
            "relays      {:.2} % of all that was sent went through one",
            report.relayed.count as f64 / all.max(1) as f64 * 100.0
        ));
    }
    say(format!(
        "WAN         {:.2} B for each delivery",
        report.wan_bytes_per_delivery
    ));
    if let Some(did) = &report.replicas {
        say(format!(
            "replicas    {} inputs handled and committed, {} records kept, {} letters; the law said no {} times",
            did.beats, did.kept, did.letters, did.denied
        ));
    }
    let policy = &report.policy;
    say(format!(
        "policy      {} asked, {} denied, {} of them sent all the same, {} accepted against the law (below {:.1e} with 95 %)",
        policy.checked, policy.denied, policy.attempted, policy.accepted, policy.bound
    ));
    let cost = &report.cost;
    say(format!(
        "speed       {} events, {:.1} ns each; {:.2} s of processor in {:.2} s, {:.2} s to get ready",
        report.events, report.ns_per_event, cost.cpu_seconds, cost.wall_seconds, cost.setup_seconds
    ));
    if let (Some(rss), Some(each)) = (cost.rss_bytes, report.bytes_per_agent) {
        say(format!(
            "memory      {} MiB at most, {each:.0} B for each agent",
            rss >> 20
        ));
    }
    for (region, [p50, p99]) in &report.regions {
        say(format!(
            "  {region:<14} half within {}, 99 % within {}",
            ms(*p50),
            ms(*p99)
        ));
    }
    if !report.whole {
        say("INTERRUPTED: this is what there was by then".to_owned());
    }
    if let Some(lookups) = &report.lookups {
        say(format!(
            "lookups     {} of {} found the nearest, in {:.2} hops and {:.1} questions; half within {:.0} ms, 99 % within {:.0} ms",
            lookups.found,
            lookups.count,
            lookups.hops,
            lookups.asked,
            lookups.p50_ms,
            lookups.p99_ms
        ));
    }
    if let Some(provided) = &report.provided {
        let ([half, most], [soon, late]) = (provided.provide_ms, provided.find_ms);
        say(format!(
            "provided    {} of {} found, in {:.2} hops; to provide takes half {half:.0} ms, 99 % {most:.0} ms, to find {soon:.0} and {late:.0} ms",
            provided.found, provided.count, provided.hops
        ));
    }
    if !report.resources.is_empty() {
        say("resources, by arithmetic from what was measured".to_owned());
    }
    for need in &report.resources {
        let Need {
            name,
            unit,
            stated,
            needed,
        } = need;
        let enough = if need.is_met() { "" } else { ": NOT ENOUGH" };
        say(format!(
            "  {name:<24} {needed:>10.2} of {stated:>8.0} {unit}{enough}"
        ));
    }
    for done in &report.behaviours {
        let (name, lines) = done.lines();
        say(format!("{name}, {} events", done.events));
        lines
            .iter()
            .for_each(|(what, said)| say(format!("  {what:<20} {said}")));
    }
    for agreement in &report.agreement {
        let ([half, half_here], [most, most_here]) = (agreement.p50_ms, agreement.p99_ms);
        let ([below, above], [copies, copies_here]) =
            (agreement.tiers.map(Tier::name), agreement.duplicates);
        say(format!(
            "agreement   at {} agents the {below} tier says {half} and {most} ms and {copies:.2} duplicates, the {above} one {half_here} and {most_here} and {copies_here:.2}",
            agreement.agents
        ));
    }
    for violation in &report.violations {
        say(format!("VIOLATION {violation}"));
    }
    say(format!("digest      {}", report.digest));
    text
}

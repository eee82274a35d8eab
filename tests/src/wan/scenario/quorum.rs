//! I1, a write that two regions must hold: what it costs, and what is said when one is cut off.

use super::Size;
use super::latency::ping;
use crate::wan::report::Report;
use crate::wan::swarm::{Swarm, note, until};
use aquifer_node::api::{PolicyView, Remember};
use std::time::{Duration, Instant};

const TOPIC: &str = "pair";

/// How long a writer waits for a region that is cut off.
const PATIENCE_MS: u64 = 1_500;

/// A topic that one node in Europe and one in America hold; `quorum:2` is both.
pub async fn run(swarm: &Swarm, size: &Size) -> Report {
    let mut report =
        Report::of("quorum: durable in two regions, and what is said when one is cut off");
    let (eu, us) = (swarm.of_region("eu")[0], swarm.of_region("us")[0]);
    let readers = vec![swarm.at(eu).node.clone(), swarm.at(us).node.clone()];
    let policy = PolicyView {
        readers: Some(readers.clone()),
        ..PolicyView::default()
    };
    swarm.governs(eu, TOPIC, policy).await;
    swarm.spreads(eu, &[us], TOPIC, "the two have met").await;
    report.figure(
        "round trip of a datagram, eu-us",
        ping(swarm, eu, us, size.pings).await,
    );
    let (mut near, mut far) = (Vec::new(), Vec::new());
    for number in 0..size.writes {
        let written = swarm.remembers(eu, TOPIC, &format!("local {number}")).await;
        near.push(Duration::from_micros(written.ended - written.began));
        let began = Instant::now();
        let written = swarm
            .at(eu)
            .remember(both(&format!("quorum {number}"), 20_000))
            .await;
        let durable = written.expect("it is written").remembered.durable;
        far.push(began.elapsed());
        report.demand(
            durable.met,
            format!("quorum write {number} was not met: {durable:?}"),
        );
    }
    report.figure("write to acknowledged, local", near);
    report.figure("write to acknowledged, quorum:2 over eu-us", far);

    let before = swarm.tally().cut;
    swarm.cut("eu", "us");
    let began = Instant::now();
    let written = swarm
        .at(eu)
        .remember(both("while america is away", PATIENCE_MS))
        .await;
    let durable = written.expect("the write stays").remembered.durable;
    report.figure("cut off: the writer is told after", vec![began.elapsed()]);
    let nodes = |names: &[aquifer_node::api::NodeName]| -> Vec<String> {
        names.iter().map(|name| name.node.clone()).collect()
    };
    report.fact("cut off: met", durable.met);
    report.fact("cut off: holders", regions(&durable.holders));
    report.fact("cut off: missing", regions(&durable.missing));
    report.demand(!durable.met, "a quorum was met that could not be");
    report.demand(
        nodes(&durable.holders) == readers[..1],
        format!("holders: {durable:?}"),
    );
    report.demand(
        nodes(&durable.missing) == readers[1..],
        format!("missing: {durable:?}"),
    );
    report.bit(swarm.tally().cut > before, "the cut stopped no packet");

    let mut waits = swarm.awaits(us, TOPIC, "while america is away").await;
    swarm.heal();
    let healed = Instant::now();
    swarm.recalled_at(us, &mut waits).await;
    report.figure(
        "heal to the write being recalled there",
        vec![healed.elapsed()],
    );
    until("a quorum is met again", || async {
        let written = swarm.at(eu).remember(both("healed", 20_000)).await;
        written.is_ok_and(|written| written.remembered.durable.met)
    })
    .await;
    report.figure("heal to the next quorum:2 met", vec![healed.elapsed()]);
    report
}

fn both(text: &str, wait_ms: u64) -> Remember {
    Remember {
        durability: Some("quorum:2".into()),
        wait_ms: Some(wait_ms),
        ..note(TOPIC, text)
    }
}

fn regions(names: &[aquifer_node::api::NodeName]) -> String {
    let regions: Vec<&str> = names.iter().map(|name| name.region.as_str()).collect();
    regions.join(", ")
}

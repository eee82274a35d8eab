//! The full tier: a swarm of the product's own replicas.

use aquifer_simulator::parallel::crew::Watch;
use aquifer_simulator::swarm::plan::Plan;
use aquifer_simulator::swarm::run::{Engine, How, Outcome, run};

const ALL: Watch<'static> = &|_| true;

fn outcome(text: &str, seed: u64, how: How) -> Outcome {
    let plan = Plan::parse(text).unwrap_or_else(|why| panic!("{text}: {why}"));
    run(&plan, seed, how, ALL).expect("it can be run")
}

/// An open topic and one that must stay in Europe, over links that lose.
const LAWFUL: &str = r#"
tier = "full"
agents = 240
shape = "regional"
horizon = "16s"
[latency]
loss = 20000
[mesh]
validate = "1500us"
[[workload]]
from = "4s"
count = 6
rate = 5
bytes = 300
[[workload]]
topic = "eu/only"
law = ["eu"]
from = "4s"
count = 4
rate = 3
bytes = 300
"#;

/// I20, of replicas: one digest over {heap, epoch} × partitions.
#[test]
fn every_way_to_run_replicas_gives_one_digest() {
    let how = |engine, partitions| How {
        engine,
        partitions,
        ..How::default()
    };
    let one = outcome(LAWFUL, 1, how(Engine::Heap, 0));
    assert!(one.ran.events > 50_000, "{} events", one.ran.events);
    for partitions in [1, 64, 1_024] {
        let other = outcome(LAWFUL, 1, how(Engine::Epoch, partitions));
        assert_eq!(one.ran, other.ran, "{partitions} partitions");
        assert_eq!(one.replicas, other.replicas, "{partitions} partitions");
    }
    let other = outcome(LAWFUL, 2, How::default());
    assert_ne!(one.ran.digest, other.ran.digest);
}

/// The same where agents leave and come back, and a continent is cut off, with many messages on their way.
#[test]
fn every_way_to_run_replicas_that_come_and_go_gives_one_digest() {
    let text = "tier = \"full\"\nagents = 120\nshape = \"regional\"\nhorizon = \"60s\"\n\
                [churn]\nsession = \"40s\"\naway = \"5s\"\n\
                [[partition]]\nregions = [\"eu\"]\nfrom = \"20s\"\nlasts = \"15s\"\n\
                [[workload]]\nfrom = \"5s\"\ncount = 150\nrate = 5\nbytes = 200\n";
    let how = |engine| How {
        engine,
        ..How::default()
    };
    let one = outcome(text, 1, how(Engine::Heap));
    let other = outcome(text, 1, how(Engine::Epoch));
    assert_eq!(None, one.ran.digest.first_difference(&other.ran.digest));
    assert_eq!((one.ran, one.replicas), (other.ran, other.replicas));
}

/// Replicas know no oracle, and the oracle knows no replica.
#[test]
fn replicas_keep_what_the_law_lets_them_have_and_nothing_else() {
    for shape in ["flat", "regional"] {
        let text = LAWFUL.replace("\"regional\"", &format!("\"{shape}\""));
        let outcome = outcome(&text, 3, How::default());
        let replicas = outcome.replicas.expect("the full tier");
        // Eight regions of 30: six messages for all, and four for the two that are European.
        assert_eq!(6 * 240 + 4 * 60, replicas.kept, "{shape}");
        assert_eq!(outcome.reachable, outcome.tally.firsts(), "{shape}");
        assert_eq!(0, outcome.tally.accepted, "{shape}");
    }
}

/// Nothing but the replicas' own anti-entropy brings back what was said while one was away, or on the
/// other side.
#[test]
fn replicas_catch_up_after_absences_and_partitions() {
    let text = r#"
tier = "full"
agents = 160
horizon = "100s"
shape = "regional"
[latency]
matrix = """
ms,eu,us
eu,2,40
us,40,2
"""
[churn]
session = "40s"
away = "5s"
[[partition]]
regions = ["eu"]
from = "30s"
lasts = "30s"
[[workload]]
from = "5s"
count = 30
rate = 0.5
bytes = 200
"#;
    let outcome = outcome(text, 4, How::default());
    assert!(
        outcome.tally.departures > 100,
        "{:?}",
        outcome.tally.departures
    );
    assert!(outcome.tally.cut > 0 && outcome.tally.due > 1_000);
    assert_eq!(0, outcome.tally.lacking, "of {}", outcome.tally.due);
}

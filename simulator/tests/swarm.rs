//! A swarm is one, however it is run: engines, threads and partitions change the time it takes.

use aquifer_simulator::parallel::crew::Watch;
use aquifer_simulator::swarm::event::Kind;
use aquifer_simulator::swarm::plan::Plan;
use aquifer_simulator::swarm::run::{Engine, How, Outcome, planet, prepare, run};
use aquifer_simulator::swarm::tally::quantile;

const ALL: Watch<'static> = &|_| true;

fn plan(text: &str) -> Plan {
    Plan::parse(text).unwrap_or_else(|why| panic!("{text}: {why}"))
}

fn outcome(plan: &Plan, seed: u64, how: How) -> Outcome {
    run(plan, seed, how, ALL).expect("it can be run")
}

/// Everything that agents do, in one small swarm.
const LIVELY: &str = r#"
agents = 1500
horizon = "6s"
[latency]
loss = 20000
[mesh]
validate = "1500us"
dont_want = 1000
[[workload]]
count = 12
rate = 5
[[workload]]
topic = "eu/only"
law = ["eu"]
count = 6
rate = 3
"#;

fn hows() -> Vec<How> {
    let mut hows = vec![How {
        engine: Engine::Heap,
        ..How::default()
    }];
    for threads in [1, 2, 5] {
        for partitions in [1, 64, 1_024] {
            let engine = Engine::Epoch;
            hows.push(How {
                engine,
                threads,
                partitions,
                records: false,
            });
        }
    }
    hows
}

/// I20: one digest over {heap, epoch} × threads × partitions.
#[test]
fn every_way_to_run_a_swarm_gives_one_digest() {
    for text in [LIVELY.to_owned(), format!("shape = \"regional\"{LIVELY}")] {
        let plan = plan(&text);
        let one = outcome(&plan, 1, hows()[0]);
        assert!(one.ran.events > 50_000, "{} events", one.ran.events);
        for how in hows() {
            let other = outcome(&plan, 1, how);
            let parted = one.ran.digest.first_difference(&other.ran.digest);
            assert_eq!(None, parted, "{how:?}");
            assert_eq!(one.ran, other.ran, "{how:?}");
            assert_eq!(one.tally.all_delays(), other.tally.all_delays(), "{how:?}");
            assert_eq!(one.tally.duplicates, other.tally.duplicates, "{how:?}");
        }
        let other = outcome(&plan, 2, How::default());
        assert_ne!(one.ran.digest.to_string(), other.ran.digest.to_string());
    }
}

#[test]
fn a_flat_push_reaches_everyone_with_two_fewer_duplicates_than_links() {
    let plan = plan("agents = 20000\nhorizon = \"3s\"\n[mesh]\nheartbeat = \"0s\"\ndont_want = 0");
    let outcome = outcome(&plan, 3, How::default());
    assert_eq!(outcome.reachable, outcome.tally.firsts());
    let copies = outcome.tally.duplicates as f64 / outcome.reachable as f64;
    assert!((copies - 6.0).abs() < 0.01, "{copies} duplicates for each");
    assert_eq!(0, outcome.tally.accepted);
}

#[test]
fn a_law_is_kept_in_every_shape() {
    for shape in ["flat", "regional"] {
        let plan = plan(&format!("shape = \"{shape}\"{LIVELY}"));
        let outcome = outcome(&plan, 4, How::default());
        let reached = outcome.tally.firsts() as f64 / outcome.reachable as f64;
        assert!(reached > 0.99, "{shape}: {reached}");
        assert_eq!(0, outcome.tally.accepted, "{shape}");
        assert!(outcome.tally.checked > outcome.tally.firsts());
        assert!(
            outcome.tally.denied > 0,
            "{shape}: the law was never needed"
        );
    }
}

#[test]
fn meshes_keep_their_degree() {
    let plan = plan("agents = 5000\nhorizon = \"20s\"");
    let degrees = outcome(&plan, 5, How::default()).tally.degrees;
    let all: u64 = degrees.iter().sum();
    let within: u64 = degrees[6..=12].iter().sum();
    assert!(
        all >= 5_000 * 18 && within as f64 > 0.99 * all as f64,
        "{degrees:?}"
    );
}

/// What the tier below says of as many agents, the tier above says too.
#[test]
fn the_planet_agrees_with_the_compact_tier_where_both_can_be_run() {
    for agents in [10_000, 40_000] {
        let text = format!(
            "agents = {agents}\nlinks = 8\nhorizon = \"20s\"\nquantum = \"2ms\"\n\
             [mesh]\nhigh = 8\nheartbeat = \"0s\"\ndont_want = 0\n\
             [[workload]]\ncount = 16\n"
        );
        let plan = plan(&text);
        let compact = outcome(&plan, 7, How::default()).tally;
        let planet = planet(&plan, 7, ALL).expect("it can be run").tally;
        assert_eq!(compact.firsts(), planet.firsts(), "all, in both");
        for part in [0.5, 0.9, 0.99] {
            let at = |delays: Vec<u64>| quantile(&delays, part).expect("some") as f64;
            let (below, above) = (at(compact.all_delays()), at(planet.all_delays()));
            let apart = (above / below - 1.0).abs();
            assert!(apart < 0.04, "{agents}, {part}: {below} against {above} ms");
        }
        // The planet has no links that are left out for being double.
        let apart = planet.duplicates as f64 / compact.duplicates as f64 - 1.0;
        assert!(apart.abs() < 0.001, "{apart}");
    }
}

/// I3: who sends without asking the law is refused at every door.
#[test]
fn what_violators_send_is_taken_by_nobody() {
    let adversary = "[adversary]\nviolators = 100000\n";
    let plan = plan(&format!("{LIVELY}{adversary}"));
    let tally = outcome(&plan, 6, How::default()).tally;
    assert!(tally.attempted > 1_000, "{} tries", tally.attempted);
    assert_eq!(0, tally.accepted);
}

/// A fifth of all keep to themselves what they should pass on: the others reach each other all the
/// same, and some only by asking.
#[test]
fn censors_hold_nothing_up() {
    let honest = outcome(&plan("agents = 5000"), 7, How::default());
    let censored = plan("agents = 5000\n[adversary]\ncensors = 200000");
    let censored = outcome(&censored, 7, How::default());
    let reached = censored.tally.firsts() as f64 / censored.reachable as f64;
    assert!(reached > 0.999, "{reached}");
    assert!(censored.tally.duplicates < honest.tally.duplicates);
    let asked = |outcome: &Outcome| outcome.tally.answered as f64 / outcome.tally.firsts() as f64;
    assert!(asked(&censored) > asked(&honest));
}

/// Agents that stay twenty seconds and are away ten, and a region that is cut off: whoever is back has
/// what it missed, by asking.
const RESTLESS: &str = r#"
agents = 3000
horizon = "120s"
reach = 0.999
[mesh]
memory = "110s"
sync = "5s"
[churn]
session = "20s"
away = "10s"
crashes = 300000
notice = "5s"
[[partition]]
regions = ["eu"]
from = "30s"
lasts = "20s"
[[workload]]
count = 40
rate = 0.5
from = "5s"
"#;

#[test]
fn whoever_comes_back_has_what_it_missed() {
    let outcome_of = |text: &str| outcome(&plan(text), 8, How::default()).tally;
    let tally = outcome_of(RESTLESS);
    assert!(tally.departures > 5_000 && tally.late > 5_000 && tally.cut > 1_000);
    let lacks =
        |tally: &aquifer_simulator::swarm::tally::Tally| tally.lacking as f64 / tally.due as f64;
    assert!(
        tally.due > 10_000 && lacks(&tally) < 0.001,
        "{}",
        lacks(&tally)
    );
    // Without asking they do not have it: the test can fail.
    let silent = outcome_of(&RESTLESS.replace("sync = \"5s\"", "sync = \"0s\""));
    assert!(lacks(&silent) > lacks(&tally), "{}", lacks(&silent));
}

#[test]
fn a_restless_swarm_is_one_however_it_is_run() {
    let plan = plan(&RESTLESS.replace("\"120s\"", "\"40s\""));
    let one = outcome(&plan, 9, hows()[0]);
    for how in [hows()[1], hows()[5], hows()[9]] {
        assert_eq!(one.ran, outcome(&plan, 9, how).ran, "{how:?}");
    }
}

/// Two agents of three fall silent at once. Their peers put them out, and messages go round again.
#[test]
fn scores_win_a_mesh_back_from_those_who_fall_silent() {
    let text = r#"
agents = 2000
horizon = "50s"
links = 30
[mesh]
lazy = 1
scores = SCORES
[adversary]
censors = 667000
from = "10s"
[[workload]]
count = 400
rate = 10
from = "5s"
"#;
    let of = |scores: &str| {
        let plan = plan(&text.replace("SCORES", scores));
        outcome(&plan, 10, How::default()).tally
    };
    let (with, without) = (of("true"), of("false"));
    assert!(with.silenced > 1_000 && without.silenced == 0);
    let p99 = |tally: &aquifer_simulator::swarm::tally::Tally| quantile(&tally.all_delays(), 0.9);
    assert!(
        p99(&with) < p99(&without),
        "{:?} {:?}",
        p99(&with),
        p99(&without)
    );
    assert!(
        with.answered < without.answered,
        "{} {}",
        with.answered,
        without.answered
    );
}

/// 10 Mbit/s take 13 ms for each copy of 16 KiB: seven copies leave one after the other.
#[test]
fn a_narrow_uplink_takes_its_time() {
    let half = |uplink: u32| {
        let text = format!(
            "agents = 2000\n[latency]\nuplink = {uplink}\n[mesh]\nheartbeat = \"0s\"\n[[workload]]\nbytes = 16384"
        );
        let outcome = outcome(&plan(&text), 12, How::default());
        assert_eq!(outcome.reachable, outcome.tally.firsts());
        quantile(&outcome.tally.all_delays(), 0.5).expect("some")
    };
    let (free, wide, narrow) = (half(0), half(1_000_000), half(10_000));
    assert!(
        wide <= free + 9 && narrow > free + 60,
        "{free}, {wide}, {narrow}"
    );
}

/// Near peers answer sooner: what live nodes showed, and the model had not.
#[test]
fn meshes_that_form_in_a_hurry_are_made_of_shorter_links() {
    let half = |linking: &str| {
        let text = format!(
            "agents = 4000\n[mesh]\nlinking = \"{linking}\"\nlow = 5\ndegree = 6\n[[workload]]\ncount = 8\n"
        );
        let outcome = outcome(&plan(&text), 11, How::default());
        quantile(&outcome.tally.all_delays(), 0.5).expect("some") as f64
    };
    let (hurried, patient) = (half("1s"), half("10m"));
    assert!(hurried < 0.95 * patient, "{hurried} against {patient} ms");
}

/// Two runs that are not one are bisected to the epoch in which they part, and that says how.
#[test]
fn runs_that_part_say_where_and_how() {
    let text = |from| format!("agents = 300\nhorizon = \"2s\"\n[[workload]]\nfrom = \"{from}\"\n");
    let prepared = |from| prepare(&plan(&text(from)), 1, How::default()).expect("it can be run");
    let digests = ["1s", "1001ms"].map(|from| prepared(from).run(ALL).ran.digest);
    let parted = digests[0]
        .first_difference(&digests[1])
        .expect("they differ");
    let [one, other] = ["1s", "1001ms"].map(|from| prepared(from).watched(parted as u64));
    let only: Vec<_> = one.iter().filter(|seen| !other.contains(seen)).collect();
    // In the one it is published in that epoch, in the other later.
    assert_eq!(1, only.len(), "{only:?}");
    assert_eq!((1_000_000, Kind::Timer), (only[0].at, only[0].event.kind()));
    assert!(other.len() < one.len());
    let same = prepared("1s").watched(parted as u64);
    assert_eq!(one, same);
}

//! Stories: what a hive does, told once each. The name of a test is its specification.

use aquifer_protocol::{Durability, RecordId};
use aquifer_simulator::disk::Ending;
use aquifer_simulator::engine::Index;
use aquifer_simulator::report::Fault;
use aquifer_simulator::scenario::Rates;
use aquifer_simulator::{Outcome, Plan, Rule, Scenario, World};
use core::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

/// A hive on a clean sheet, told in verbs.
struct Story(World);

impl Story {
    fn of(scenario: Scenario) -> Self {
        let mut world = World::new(scenario);
        world.run_for(3 * SECOND);
        Self(world)
    }

    fn remembers(&mut self, node: Index, topic: &str, text: &str) -> RecordId {
        self.asks_to_remember(node, topic, text);
        *self.0.ledger.memories.last().expect("it was answered")
    }

    fn asks_to_remember(&mut self, node: Index, topic: &str, text: &str) {
        self.0.remember(node, topic, text, Durability::Local);
        self.0.run_for(Duration::from_millis(5));
    }

    fn erases(&mut self, node: Index, id: RecordId) {
        self.0.erase(node, id, Durability::Local);
        self.0.run_for(Duration::from_millis(5));
    }

    /// All is well again, and every check holds.
    #[track_caller]
    fn settles(&mut self) {
        self.0.heal();
        assert!(self.0.settle(), "{:?}", self.0.report.violations);
        self.0.finish();
        assert!(
            self.0.report.violations.is_empty(),
            "{:?}",
            self.0.report.violations
        );
    }

    fn texts(&self, node: Index, topic: &str) -> Vec<String> {
        let mut texts = self.0.nodes[node].texts(self.0.topic(topic));
        texts.sort();
        texts
    }
}

#[test]
fn what_one_remembers_all_three_have() {
    let mut story = Story::of(Scenario::quiet(1, &["eu"; 3]).with_topic("t", 0, Rule::open()));
    story.remembers(0, "t", "tea at four");
    story.remembers(2, "t", "the key is under the mat");
    story.settles();
    for node in 0..3 {
        assert_eq!(
            story.texts(node, "t"),
            ["tea at four", "the key is under the mat"]
        );
    }
}

#[test]
fn both_sides_of_a_partition_write_and_it_heals() {
    let mut story = Story::of(Scenario::quiet(2, &["eu"; 4]).with_topic("t", 0, Rule::open()));
    story.0.partition(&[0, 1], 60 * SECOND);
    story.remembers(0, "t", "left");
    story.remembers(3, "t", "right");
    story.0.run_for(20 * SECOND);
    assert_eq!(story.texts(1, "t"), ["left"]);
    assert_eq!(story.texts(2, "t"), ["right"]);
    story.settles();
    for node in 0..4 {
        assert_eq!(story.texts(node, "t"), ["left", "right"]);
    }
    assert!(story.0.report.faults[&Fault::Partition] > 0);
}

#[test]
fn a_crash_before_the_commit_loses_nothing_that_was_answered() {
    let mut story = Story::of(Scenario::quiet(3, &["eu"; 2]).with_topic("t", 0, Rule::open()));
    story.remembers(0, "t", "answered");
    for ending in [Ending::CutBefore, Ending::CutAfter] {
        let said = format!("{ending:?}");
        story.0.nodes[0].doom = Some(ending);
        story.asks_to_remember(0, "t", &said);
        story.0.run_for(20 * SECOND);
    }
    assert_eq!(
        story.0.ledger.memories.len(),
        1,
        "nobody was told that the others are written"
    );
    story.settles();
    for node in 0..2 {
        assert_eq!(
            story.texts(node, "t"),
            ["CutAfter", "answered"],
            "the unknown may be there"
        );
    }
}

/// I3, with a positive control: the same search finds the canary where it may be.
#[test]
fn a_canary_of_a_european_topic_is_never_in_america() {
    let regions = ["eu/fr", "eu/de", "us", "us"];
    let scenario = Scenario::quiet(4, &regions).with_topic("t", 0, Rule::within(&["eu"]));
    let mut story = Story::of(scenario);
    story.remembers(0, "t", "canary-in-the-mine");
    story.asks_to_remember(2, "t", "canary-abroad");
    story.settles();
    for (node, region) in regions.iter().enumerate() {
        let found = story.0.nodes[node].disk.contains(b"canary-in-the-mine");
        assert_eq!(found, region.starts_with("eu"), "n{node} in {region}");
        assert!(
            !story.0.nodes[node].disk.contains(b"canary-abroad"),
            "it was refused"
        );
    }
}

#[test]
fn a_node_that_slept_through_a_change_of_law_forgets_the_topic() {
    let scenario = Scenario::quiet(5, &["eu", "eu", "us"])
        .with_topic("t", 0, Rule::open())
        .with_law(10 * SECOND, "t", 0, Rule::within(&["eu"]));
    let mut story = Story::of(scenario);
    story.remembers(0, "t", "canary-once-abroad");
    story.0.run_for(SECOND);
    assert_eq!(story.texts(2, "t").len(), 1);
    story.0.crash(2, Ending::CutBefore);
    story.0.run_for(12 * SECOND);
    story.settles();
    assert!(!story.0.nodes[2].disk.contains(b"canary-once-abroad"));
    assert_eq!(story.texts(1, "t").len(), 1);
}

#[test]
fn an_erasure_wins_over_copies_that_come_late() {
    let mut story = Story::of(Scenario::quiet(6, &["eu"; 3]).with_topic("t", 0, Rule::open()));
    // Node 2 is alone when the memory is written and erased; node 1 has the tombstone first.
    story.0.partition(&[2], 8 * SECOND);
    let secret = story.remembers(0, "t", "a secret");
    story.remembers(0, "t", "no secret");
    story.0.run_for(SECOND);
    story.erases(1, secret);
    story.settles();
    for node in 0..3 {
        assert_eq!(story.texts(node, "t"), ["no secret"]);
        assert!(
            story.0.nodes[node].has(&secret),
            "the header still verifies"
        );
        assert!(!story.0.nodes[node].disk.contains(b"a secret"));
    }
}

#[test]
fn retention_removes_bodies_everywhere() {
    let rule = Rule::open().kept_for(20);
    let mut story = Story::of(Scenario::quiet(7, &["eu"; 3]).with_topic("t", 0, rule));
    story.remembers(1, "t", "short-lived");
    story.0.run_for(5 * SECOND);
    assert_eq!(story.texts(2, "t"), ["short-lived"]);
    story.0.run_for(60 * SECOND);
    for node in 0..3 {
        assert!(story.texts(node, "t").is_empty());
    }
    story.settles();
}

/// I8: a traitor shows two histories of one log to two halves of the hive.
#[test]
fn a_forked_log_is_cut_at_one_place_everywhere() {
    let mut scenario = Scenario::quiet(8, &["eu"; 5]).with_topic("t", 0, Rule::open());
    scenario.sites[4].traitor = true;
    let mut story = Story::of(scenario);
    story
        .0
        .remember(4, "t", "so far so good", Durability::Local);
    story.0.run_for(SECOND);
    story.0.betray(4);
    story.settles();
    let cuts: Vec<Vec<u64>> = (0..4)
        .map(|node| {
            let replica = story.0.nodes[node].replica.as_ref().expect("up");
            let topic = story.0.topic("t");
            replica
                .logs()
                .of_topic(topic)
                .filter_map(|(_, state)| state.fork)
                .collect()
        })
        .collect();
    assert_eq!(cuts[0].len(), 1, "the log is cut: {cuts:?}");
    assert!(cuts.iter().all(|cut| *cut == cuts[0]), "{cuts:?}");
}

#[test]
fn a_corrupt_record_is_fetched_again_from_a_peer() {
    let mut story = Story::of(Scenario::quiet(9, &["eu"; 3]).with_topic("t", 0, Rule::open()));
    let id = story.remembers(0, "t", "written in sand");
    story.0.run_for(SECOND);
    // The body's own bytes: the record still parses, and does not match its hash.
    story.0.spoil(1, id, b"sand");
    assert!(story.texts(1, "t").is_empty());
    story.settles();
    assert_eq!(story.texts(1, "t"), ["written in sand"]);
    assert!(story.0.report.events["repaired"] > 0);
}

#[test]
fn one_seed_has_one_digest() {
    let digest = |seed| {
        let mut scenario = Scenario::draw(seed);
        scenario.sites.truncate(5);
        scenario
            .sites
            .iter_mut()
            .for_each(|site| site.traitor = false);
        scenario.changes.clear();
        let scenario = scenario.with_topic("t", 0, Rule::open());
        aquifer_simulator::run(scenario).digest
    };
    assert_eq!(digest(11), digest(11));
    assert_ne!(digest(11), digest(12));
}

#[test]
fn a_storm_bites_and_the_smoke_plan_is_calm() {
    let smoke = include_str!("../plans/smoke.toml");
    let report = aquifer_simulator::run(Plan::parse(smoke).expect("shipped").scenario(3));
    assert_eq!(report.outcome(), Outcome::Green, "{:?}", report.violations);
    assert!(report.faults.is_empty() && report.done > 0);

    let mut scenario = Scenario::quiet(13, &["eu"; 3]).with_topic("t", 0, Rule::open());
    scenario.rates = Rates {
        loss: 100,
        crash: 40,
        duplicate: 100,
        ..Rates::default()
    };
    scenario.operations = 40;
    scenario.storm = 30 * SECOND;
    let report = aquifer_simulator::run(scenario);
    assert_eq!(report.outcome(), Outcome::Green, "{:?}", report.violations);
    for fault in [Fault::Loss, Fault::Duplicate, Fault::CrashBefore] {
        assert!(
            report.faults.contains_key(&fault),
            "{fault:?} never bit: {:?}",
            report.faults
        );
    }
}

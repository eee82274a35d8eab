//! Erasing: what is forgotten stays forgotten, in whatever order things arrive (I5, T18).

use crate::hive::*;
use aquifer_protocol::{Event, Policy, Record};
use core::time::Duration;

const YEAR: Duration = Duration::from_secs(365 * 86_400);

/// How often a node asks for records in five rounds in which nothing happens.
fn asks_at_rest(hive: &mut Hive) -> usize {
    hive.rounds(2);
    hive.carried = Traffic::default();
    hive.rounds(5);
    hive.carried.count_of("Wants")
}

#[test]
fn an_erasure_reaches_every_node_and_leaves_the_header() {
    let mut hive = Hive::of(&["eu", "eu", "eu"], "notes", Policy::open());
    let id = hive.remembers(0, "notes", "a secret");
    hive.rounds(1);
    hive.erases(2, id);
    hive.rounds(1);
    for i in 0..3 {
        assert_eq!(hive.text(i, id), None, "node {i}");
        assert!(
            hive.records(i, "notes").iter().any(|r| r.id() == id),
            "the chain stays whole"
        );
        let told = hive.events(i);
        assert!(
            told.iter()
                .any(|e| matches!(e, Event::Erased { ids, .. } if ids == &[id]))
        );
    }
    hive.agree("notes", &[0, 1, 2]);
    assert_eq!(
        asks_at_rest(&mut hive),
        0,
        "nobody misses what is meant to be gone"
    );
}

#[test]
fn a_tombstone_that_comes_before_its_target_waits_for_it() {
    let mut hive = Hive::of(&["eu", "eu"], "notes", Policy::open());
    let writer = hive.puppet("eu");
    hive.connects(0, writer);
    hive.introduces(writer, 0);
    hive.rounds(1);
    let topic = hive.topic("notes");
    let target = hive.signs_text(writer, Place::first(topic, 1), "never to be seen");
    let tomb = hive.signs(writer, Place::first(topic, 2), &erase(&[target.id()]));
    hive.says(writer, 0, records(topic, vec![tomb]));
    hive.says(writer, 0, records(topic, vec![target.clone()]));
    hive.rounds(2);
    for i in 0..2 {
        assert!(hive.texts(i, "notes").is_empty(), "node {i}");
        assert!(
            hive.records(i, "notes")
                .iter()
                .any(|r| r.id() == target.id())
        );
    }
    assert_eq!(asks_at_rest(&mut hive), 0);
}

#[test]
fn a_revision_written_while_its_memory_is_erased_elsewhere_goes_with_it() {
    let mut hive = Hive::of(&["eu", "eu"], "notes", Policy::open());
    let id = hive.remembers(0, "notes", "first");
    hive.disconnects(0, 1);
    hive.erases(0, id);
    let revision = hive.revises(1, "notes", id, "second");
    assert_eq!(hive.text(1, revision).as_deref(), Some("second"));
    hive.connects(0, 1);
    hive.rounds(2);
    let newcomer = hive.adds("eu");
    hive.connects(0, newcomer);
    hive.rounds(2);
    for i in [0, 1, newcomer] {
        assert!(
            hive.texts(i, "notes").is_empty(),
            "node {i}: {:?}",
            hive.texts(i, "notes")
        );
    }
    hive.agree("notes", &[0, 1, newcomer]);
    assert_eq!(asks_at_rest(&mut hive), 0);
}

/// The core takes the revision of a memory that is gone (the doors refuse it); it must not leave
/// every later node asking for its body for ever.
#[test]
fn a_revision_of_what_is_already_erased_shows_nothing_and_nobody_asks_for_it() {
    let mut hive = Hive::of(&["eu", "eu"], "notes", Policy::open());
    let id = hive.remembers(0, "notes", "first");
    hive.erases(0, id);
    hive.rounds(1);
    let author = hive.nodes[1].keys.clone();
    let body = aquifer_protocol::body::Revision {
        of: id,
        replaces: vec![id],
        memory: aquifer_protocol::body::Memory::of("too late"),
    };
    hive.tries(1, "notes", vec![aquifer_protocol::Body::Revision(body)]);
    drop(author);
    let newcomer = hive.adds("eu");
    hive.connects(0, newcomer);
    hive.rounds(2);
    assert!(
        [0, 1, newcomer]
            .iter()
            .all(|i| hive.texts(*i, "notes").is_empty())
    );
    assert_eq!(asks_at_rest(&mut hive), 0);
}

/// T18: a disk of a year ago comes back.
#[test]
fn nothing_returns_with_a_peer_that_was_away_for_a_year() {
    let mut hive = Hive::of(&["eu", "eu", "eu"], "notes", Policy::open());
    let id = hive.remembers(0, "notes", "a secret");
    let revision = hive.revises(0, "notes", id, "the same secret, in other words");
    hive.rounds(1);
    let old = hive.stops(2);
    hive.erases(0, id);
    hive.passes(YEAR);
    hive.starts(2, old, 9);
    assert_eq!(
        hive.text(2, id).as_deref(),
        Some("a secret"),
        "the old disk still has it"
    );
    hive.connects(1, 2);
    hive.connects(0, 2);
    hive.rounds(2);
    for i in 0..3 {
        assert_eq!(
            (hive.text(i, id), hive.text(i, revision)),
            (None, None),
            "node {i}"
        );
    }
    hive.agree("notes", &[0, 1, 2]);
}

#[test]
fn an_erasure_has_no_power_outside_its_topic() {
    let mut hive = Hive::of(&["eu", "eu"], "notes", Policy::open());
    hive.founds(0, "other", Policy::open());
    let kept = hive.remembers(0, "other", "kept");
    hive.writes(1, "notes", vec![erase(&[kept])]);
    hive.rounds(2);
    assert!((0..2).all(|i| hive.text(i, kept).as_deref() == Some("kept")));
}

/// The same record again and again, in a topic where it is erased: still once, still gone (T2).
#[test]
fn a_hundred_redeliveries_bring_nothing_back() {
    let mut hive = Hive::of(&["eu"], "notes", Policy::open());
    let liar = hive.puppet("eu");
    hive.connects(0, liar);
    hive.introduces(liar, 0);
    let topic = hive.topic("notes");
    let target: Record = hive.signs_text(liar, Place::first(topic, 1), "again");
    hive.says(liar, 0, records(topic, vec![target.clone()]));
    assert!(hive.text(0, target.id()).is_some());
    hive.erases(0, target.id());
    let before = hive.summary(0, "notes");
    hive.events(0);
    for _ in 0..100 {
        hive.says(liar, 0, records(topic, vec![target.clone()]));
    }
    assert_eq!(hive.text(0, target.id()), None);
    assert_eq!(hive.summary(0, "notes"), before);
    assert!(hive.events(0).is_empty());
}

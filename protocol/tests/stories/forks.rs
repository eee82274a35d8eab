//! Forks: two records at one place, by a liar or by a copied disk (I8, T4, T29).

use crate::hive::*;
use aquifer_protocol::body::{Body, Link, Memory};
use aquifer_protocol::{Event, MemStore, Policy, Record};
use std::collections::BTreeSet;

/// A line of three nodes, and a puppet known to all of them.
fn line() -> (Hive, Index) {
    let mut hive = Hive::default();
    let nodes = [hive.adds("eu"), hive.adds("eu"), hive.adds("eu")];
    hive.founds(0, "notes", Policy::open());
    hive.connects(nodes[0], nodes[1]);
    hive.connects(nodes[1], nodes[2]);
    let liar = hive.puppet("eu");
    hive.connects(0, liar);
    hive.introduces(liar, 0);
    hive.rounds(3);
    (hive, liar)
}

fn cuts(hive: &mut Hive, i: Index) -> Vec<u64> {
    let events = hive.events(i).into_iter();
    let cut = |event| match event {
        Event::Cut { fork, .. } => Some(fork),
        _ => None,
    };
    events.filter_map(cut).collect()
}

#[test]
fn a_fork_shown_to_two_halves_ends_the_log_at_one_place_everywhere() {
    let (mut hive, liar) = line();
    let topic = hive.topic("notes");
    hive.connects(2, liar);
    hive.disconnects(1, 2);
    let stem = hive.signs_text(liar, Place::first(topic, 1), "said to all");
    let mut halves = Vec::new();
    for half in ["left", "right"] {
        let one = hive.signs_text(liar, Place::after(&stem), half);
        let two = hive.signs_text(liar, Place::after(&one), &format!("{half}, and on"));
        halves.push(vec![stem.clone(), one, two]);
    }
    hive.says(liar, 0, records(topic, halves[0].clone()));
    hive.says(liar, 2, records(topic, halves[1].clone()));
    assert_eq!(hive.texts(1, "notes").len(), 3, "the left half's view");
    hive.disconnects(0, liar);
    hive.disconnects(2, liar);
    hive.connects(1, 2);
    hive.rounds(4);
    hive.agree("notes", &[0, 1, 2]);
    assert_eq!(
        hive.texts(0, "notes"),
        BTreeSet::from(["said to all".to_owned()])
    );
    for i in 0..3 {
        let forks: Vec<_> = hive
            .logs(i, "notes")
            .iter()
            .filter_map(|(_, s)| s.fork)
            .collect();
        assert_eq!(forks, [1], "node {i}");
        assert_eq!(cuts(&mut hive, i), [1], "node {i} says so once");
    }
}

/// A node that never held any of the log gets the proof too, and a log cut stays cut.
#[test]
fn a_proof_spreads_to_nodes_that_come_later_and_survives_a_restart() {
    let (mut hive, liar) = line();
    let topic = hive.topic("notes");
    let (one, other) = (
        hive.signs_text(liar, Place::first(topic, 1), "one"),
        hive.signs_text(liar, Place::first(topic, 1), "other"),
    );
    hive.says(liar, 0, records(topic, vec![one.clone()]));
    hive.says(liar, 0, records(topic, vec![other]));
    hive.rounds(2);
    let newcomer = hive.adds("eu");
    hive.connects(newcomer, 2);
    hive.rounds(2);
    hive.restarts(newcomer, |_| {});
    hive.says(liar, 0, records(topic, vec![one]));
    hive.rounds(2);
    hive.agree("notes", &[0, 1, 2, newcomer]);
    assert!(hive.texts(newcomer, "notes").is_empty());
    let forked =
        |i: Index, hive: &Hive| hive.logs(i, "notes").iter().any(|(_, s)| s.fork == Some(0));
    assert!([0, 1, 2, newcomer].iter().all(|i| forked(*i, &hive)));
}

#[test]
fn an_earlier_fork_found_later_moves_the_cut_down() {
    let (mut hive, liar) = line();
    let topic = hive.topic("notes");
    let mut run = vec![hive.signs_text(liar, Place::first(topic, 1), "0")];
    for seq in 1..5 {
        let last = run[seq - 1].clone();
        run.push(hive.signs_text(liar, Place::after(&last), &seq.to_string()));
    }
    hive.says(liar, 0, records(topic, run.clone()));
    for seq in [3, 1] {
        let lie = hive.signs_text(liar, Place::after(&run[seq - 1]), "another");
        hive.says(liar, 0, records(topic, vec![lie]));
        hive.rounds(2);
        hive.agree("notes", &[0, 1, 2]);
        assert_eq!(hive.texts(2, "notes").len(), seq);
    }
}

/// One disk, two machines. What both have acknowledged is there in the end, on every node, and both
/// go on writing without another fork.
#[test]
fn a_copied_disk_started_twice_loses_no_memory_and_forks_no_longer() {
    let mut hive = Hive::default();
    let (a, c) = (hive.adds("eu"), hive.adds("eu"));
    hive.founds(a, "notes", Policy::open());
    hive.connects(a, c);
    hive.remembers(a, "notes", "before the copy");
    hive.rounds(1);
    hive.disconnects(a, c);
    let twin = hive.clones(a);
    for (i, who) in [(a, "the original"), (twin, "the copy")] {
        for n in 0..3 {
            hive.remembers(i, "notes", &format!("{n} of {who}"));
        }
    }
    // They are one node to everyone else, so they come one after the other.
    for _ in 0..3 {
        for i in [a, twin] {
            hive.connects(i, c);
            hive.rounds(3);
            hive.disconnects(i, c);
        }
    }
    assert_eq!(
        hive.texts(c, "notes").len(),
        7,
        "{:?}",
        hive.texts(c, "notes")
    );
    hive.agree("notes", &[a, twin, c]);
    hive.events(c);
    for (i, who) in [(a, "the original"), (twin, "the copy")] {
        hive.remembers(i, "notes", &format!("later, by {who}"));
    }
    for i in [a, twin, a] {
        hive.connects(i, c);
        hive.rounds(2);
        hive.disconnects(i, c);
    }
    hive.agree("notes", &[a, twin, c]);
    assert_eq!(hive.texts(c, "notes").len(), 9);
    assert_eq!(cuts(&mut hive, c), [0; 0], "no fork any more");
}

/// The same with an erasure and a link among what was written after the copy.
#[test]
fn an_erasure_and_a_link_survive_the_cut_of_a_copied_disks_log() {
    let mut hive = Hive::default();
    let (a, c) = (hive.adds("eu"), hive.adds("eu"));
    hive.founds(a, "notes", Policy::open());
    hive.connects(a, c);
    let secret = hive.remembers(a, "notes", "a secret");
    let plain = hive.remembers(a, "notes", "plain");
    let other = hive.remembers(a, "notes", "other");
    hive.rounds(1);
    hive.disconnects(a, c);
    let twin = hive.clones(a);
    hive.remembers(twin, "notes", "by the copy");
    hive.erases(a, secret);
    let link = Link {
        from: plain,
        to: other,
        relation: "explains".into(),
    };
    hive.writes(a, "notes", vec![Body::Link(link)]);
    for i in [twin, a, twin, a] {
        hive.connects(i, c);
        hive.rounds(3);
        hive.disconnects(i, c);
    }
    for i in [a, c] {
        assert_eq!(
            hive.text(i, secret),
            None,
            "node {i} still shows what was erased"
        );
        let links = |r: &Record| r.header().kind == aquifer_protocol::Kind::LINK;
        assert!(
            hive.records(i, "notes").iter().any(links),
            "node {i} lost the link"
        );
    }
}

/// T29: a backup is put back: the node writes on, and forks nothing.
#[test]
fn a_restored_backup_meets_its_own_later_log_and_writes_to_a_new_one() {
    let mut hive = Hive::of(&["eu", "eu"], "notes", Policy::open());
    hive.remembers(0, "notes", "in the backup");
    let backup: MemStore = hive.replica(0).store().clone();
    hive.remembers(0, "notes", "after the backup");
    hive.rounds(1);
    hive.stops(0);
    hive.starts(0, backup, 5);
    hive.connects(0, 1);
    hive.writes(
        0,
        "notes",
        vec![Body::Memory(Memory::of("after the restore"))],
    );
    hive.rounds(2);
    hive.agree("notes", &[0, 1]);
    assert_eq!(
        hive.texts(0, "notes").len(),
        3,
        "{:?}",
        hive.texts(0, "notes")
    );
    assert_eq!(
        cuts(&mut hive, 1),
        [0; 0],
        "nothing was forked in the topic"
    );
}

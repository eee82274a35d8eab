//! Disks: what a restart brings back, and what becomes of bytes that rot (I1, I18).

use crate::hive::*;
use aquifer_protocol::replica::SCHEMA;
use aquifer_protocol::store::Store as _;
use aquifer_protocol::{
    Batch, Event, HiveId, Keys, MemStore, OpenReplica, Policy, Replica, Seed, Settings, Table,
    TopicName,
};

#[test]
fn a_replica_that_is_opened_again_has_the_same_logs_and_the_same_law() {
    let mut hive = Hive::of(&["eu", "us"], "notes", within(&["eu", "us"]));
    hive.amends(0, "notes", within(&["eu", "us", "ap"]));
    hive.founds(0, "notes/deep", within(&["eu"]));
    let id = hive.remembers(1, "notes", "kept");
    hive.erases(0, id);
    hive.rounds(2);
    let topics = ["notes", "notes/deep"];
    let facts = |hive: &mut Hive| {
        let law = hive.replica(0).law().clone();
        let topics = topics.map(|t| (hive.summary(0, t), law.named(&name(t)).cloned()));
        let members: Vec<_> = law
            .members()
            .map(|(node, known)| (*node, known.member.clone()))
            .collect();
        format!("{topics:?} {members:?} {:?}", hive.logs(0, "notes"))
    };
    let before = facts(&mut hive);
    let store = hive.stops(0);
    let settings = Settings {
        hive: hive.id(),
        member: Some(hive.nodes[0].member.clone()),
        erases: true,
    };
    let keys = hive.nodes[0].keys.clone();
    hive.starts(0, store, 4);
    assert_eq!(facts(&mut hive), before);
    // And without another word: opened, not announced.
    let store = hive.stops(0);
    let again =
        Replica::open(keys, settings, store, Seed::from_number(5), hive.now).expect("whole");
    assert_eq!(again.law().topics().count(), 2);
}

#[test]
fn a_store_of_another_version_node_or_hive_is_not_opened_and_not_touched() {
    let mut hive = Hive::of(&["eu"], "notes", Policy::open());
    hive.remembers(0, "notes", "kept");
    let mut store = hive.stops(0);
    let keys = hive.nodes[0].keys.clone();
    let open = |keys: &Keys, hive: HiveId, store: &MemStore| {
        let now = aquifer_protocol::Time::from_millis(1_790_000_000_000);
        let seed = Seed::from_number(1);
        Replica::open(keys.clone(), Settings::new(hive), store.clone(), seed, now).err()
    };
    let (id, other) = (hive.id(), Keys::from_secret(&[99; 32]));
    assert_eq!(open(&keys, id, &store), None);
    assert_eq!(open(&other, id, &store), Some(OpenReplica::WrongOwner));
    assert_eq!(
        open(&keys, HiveId([3; 32]), &store),
        Some(OpenReplica::WrongOwner)
    );
    for (bytes, found) in [
        ((SCHEMA + 1).to_be_bytes().to_vec(), SCHEMA + 1),
        (vec![1], 0),
    ] {
        let mut batch = Batch::default();
        batch.put(Table::Meta, &b"schema"[..], bytes);
        store.apply(batch).expect("memory");
        assert_eq!(open(&keys, id, &store), Some(OpenReplica::Schema { found }));
    }
}

#[test]
fn a_record_that_rots_on_disk_is_found_when_served_and_comes_back_from_a_peer() {
    let mut hive = Hive::of(&["eu", "eu"], "notes", Policy::open());
    let ids: Vec<_> = (0..3)
        .map(|n| hive.remembers(0, "notes", &format!("memory {n}")))
        .collect();
    hive.rounds(1);
    let number = hive.logs(1, "notes")[0].1.number;
    hive.restarts(1, |store| rot(store, number, 1));
    assert!(hive.records(1, "notes").len() < 3, "it is not served");
    // A newcomer that only knows the node with the bad disk asks for it.
    let newcomer = hive.adds("eu");
    hive.connects(1, newcomer);
    hive.rounds(1);
    assert!(
        hive.nodes[1]
            .events
            .iter()
            .any(|e| matches!(e, Event::Corrupt { .. }))
    );
    hive.rounds(8);
    assert!(
        hive.nodes[1]
            .events
            .iter()
            .any(|e| matches!(e, Event::Repaired { .. }))
    );
    hive.agree("notes", &[0, 1, newcomer]);
    assert!(ids.iter().all(|id| hive.text(newcomer, *id).is_some()));
}

/// I3, I18: the law is folded from the disk at every start. A policy that rotted must not leave the
/// wider one before it in force.
#[test]
fn a_law_that_rots_on_disk_comes_back_from_a_peer_by_itself() {
    let mut hive = Hive::of(&["eu", "eu"], "notes", within(&["eu", "us"]));
    hive.amends(0, "notes", within(&["eu"]));
    hive.rounds(1);
    let hive_topic = TopicName::hive();
    let founder = hive.nodes[0].keys.node();
    let of_hive = hive.logs(1, hive_topic.as_str());
    let state = of_hive
        .iter()
        .find(|(key, _)| key.writer == founder)
        .expect("there")
        .1;
    let narrow = hive
        .replica(0)
        .law()
        .named(&name("notes"))
        .expect("known")
        .policy()
        .clone();
    hive.restarts(1, |store| rot(store, state.number, state.height - 1));
    hive.rounds(6);
    let found = hive
        .replica(1)
        .law()
        .named(&name("notes"))
        .expect("known")
        .policy()
        .clone();
    assert_eq!(found, narrow);
}

/// A body that had not arrived before a restart is still missed after it.
#[test]
fn a_body_that_a_peer_withheld_is_fetched_from_another_even_after_a_restart() {
    for restarts in [false, true] {
        let mut hive = Hive::of(&["eu", "eu"], "notes", Policy::open());
        hive.disconnects(0, 1);
        let id = hive.remembers(0, "notes", "the whole of it");
        let liar = hive.puppet("eu");
        hive.connects(liar, 1);
        let record = hive.records(0, "notes")[0].without_body();
        hive.says(liar, 1, records(hive.topic("notes"), vec![record]));
        hive.disconnects(liar, 1);
        assert_eq!(hive.text(1, id), None);
        if restarts {
            hive.restarts(1, |_| {});
        }
        hive.connects(0, 1);
        hive.rounds(4);
        assert_eq!(
            hive.text(1, id).as_deref(),
            Some("the whole of it"),
            "restarts: {restarts}"
        );
    }
}

#[test]
fn retention_goes_on_behind_a_record_that_rotted() {
    let mut policy = Policy::open();
    policy.location.retention = Some(3_600);
    let mut hive = Hive::of(&["eu"], "notes", policy);
    for n in 0..3 {
        hive.remembers(0, "notes", &format!("memory {n}"));
    }
    let number = hive.logs(0, "notes")[0].1.number;
    hive.restarts(0, |store| rot(store, number, 0));
    hive.passes(4_000 * SECOND);
    hive.rounds(2);
    assert!(
        hive.texts(0, "notes").is_empty(),
        "{:?}",
        hive.texts(0, "notes")
    );
}

/// A record that rots before its time is up is fetched again, and its time still comes.
#[test]
fn a_record_that_is_mended_before_its_time_still_expires() {
    let mut policy = Policy::open();
    policy.location.retention = Some(3_600);
    let mut hive = Hive::of(&["eu", "eu"], "notes", policy);
    let id = hive.remembers(0, "notes", "kept for an hour");
    hive.rounds(1);
    let number = hive.logs(1, "notes")[0].1.number;
    hive.disconnects(0, 1);
    hive.restarts(1, |store| rot(store, number, 0));
    hive.passes(60 * SECOND);
    hive.connects(0, 1);
    hive.rounds(10);
    assert_eq!(
        hive.text(1, id).as_deref(),
        Some("kept for an hour"),
        "mended"
    );
    hive.passes(3_600 * SECOND);
    hive.rounds(5);
    assert!(
        (0..2).all(|i| hive.text(i, id).is_none()),
        "its hour is over"
    );
}

//! Receipts: what a write waits for, and what it is told when that does not come (I1).

use crate::hive::*;
use aquifer_protocol::body::Memory;
use aquifer_protocol::event::{Durable, Refusal};
use aquifer_protocol::receipt::{Held, Receipts};
use aquifer_protocol::{AgentId, Body, Command, Durability, Message, Policy, Reply};
use core::time::Duration;

const PATIENCE: Duration = Duration::from_secs(5);

fn memory(text: &str) -> Vec<Body> {
    vec![Body::Memory(Memory::of(text))]
}

fn durable(hive: &Hive, node: Index, id: aquifer_protocol::CommandId) -> Option<Durable> {
    match hive.reply(node, id)? {
        Reply::Written { durable, .. } => Some(durable.clone()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_quorum_is_met_by_the_receipts_of_others() {
    let mut hive = Hive::of(&["eu", "eu", "eu"], "notes", Policy::open());
    let quorum = Durability::Quorum {
        nodes: 3,
        patience: PATIENCE,
    };
    let command = hive.write(0, "notes", memory("on three disks"), quorum);
    let id = hive.commands(0, command);
    let done = durable(&hive, 0, id).expect("answered without waiting");
    assert!(
        done.met && done.holders.len() == 3 && done.missing.is_empty(),
        "{done:?}"
    );
}

#[test]
fn a_quorum_that_is_missed_says_what_is_durable_and_where_and_the_write_stays() {
    let mut hive = Hive::of(&["eu", "eu", "eu"], "notes", Policy::open());
    hive.disconnects(0, 2);
    hive.disconnects(1, 2);
    let quorum = Durability::Quorum {
        nodes: 3,
        patience: PATIENCE,
    };
    let command = hive.write(0, "notes", memory("on two disks"), quorum);
    let id = hive.commands(0, command);
    assert_eq!(durable(&hive, 0, id), None, "it waits");
    hive.passes(PATIENCE);
    let done = durable(&hive, 0, id).expect("its patience is over");
    let node = |i: Index| hive.nodes[i].keys.node();
    assert!(!done.met);
    assert_eq!(done.missing, [node(2)]);
    let mut expected = vec![node(0), node(1)];
    expected.sort_unstable();
    assert_eq!(done.holders, expected);
    hive.connects(0, 2);
    hive.rounds(1);
    hive.agree("notes", &[0, 1, 2]);
}

#[test]
fn a_receipt_that_arrives_by_another_way_counts_when_it_comes() {
    let mut hive = Hive::of(&["eu", "eu"], "notes", Policy::open());
    hive.disconnects(0, 1);
    let quorum = Durability::Quorum {
        nodes: 2,
        patience: 20 * PATIENCE,
    };
    let command = hive.write(0, "notes", memory("waits for a peer"), quorum);
    let id = hive.commands(0, command);
    hive.passes(PATIENCE);
    assert_eq!(durable(&hive, 0, id), None);
    hive.connects(0, 1);
    assert!(durable(&hive, 0, id).is_some_and(|done| done.met));
}

#[test]
fn nodes_of_another_region_do_not_count_for_a_region() {
    let mut hive = Hive::of(&["eu", "us", "eu/fr"], "notes", Policy::open());
    hive.disconnects(0, 2);
    hive.disconnects(1, 2);
    let region = Durability::Region {
        nodes: 2,
        patience: 4 * PATIENCE,
    };
    let command = hive.write(0, "notes", memory("twice in eu"), region);
    let id = hive.commands(0, command);
    assert_eq!(durable(&hive, 0, id), None, "us is no part of eu");
    hive.connects(0, 2);
    assert!(durable(&hive, 0, id).is_some_and(|done| done.met));
}

#[test]
fn more_copies_than_the_law_allows_is_refused_at_once() {
    let mut policy = Policy::open();
    policy.copies = Some(2);
    let mut hive = Hive::of(&["eu", "eu", "eu"], "notes", policy);
    let quorum = Durability::Quorum {
        nodes: 3,
        patience: PATIENCE,
    };
    let command = hive.write(0, "notes", memory("too many"), quorum);
    let id = hive.commands(0, command);
    let reply = hive.reply(0, id).expect("at once");
    assert!(
        matches!(
            reply,
            Reply::Refused(Refusal::TooManyCopies {
                asked: 3,
                allowed: 2,
                ..
            })
        ),
        "{reply:?}"
    );
}

#[test]
fn an_erasure_is_confirmed_by_every_holder() {
    let mut hive = Hive::of(&["eu", "eu", "eu"], "notes", Policy::open());
    let memory = hive.remembers(0, "notes", "to be forgotten");
    let author = AgentId(hive.nodes[1].keys.public());
    let durability = Durability::Holders { patience: PATIENCE };
    let id = hive.commands(
        1,
        Command::Erase {
            ids: vec![memory],
            author,
            durability,
        },
    );
    let done = durable(&hive, 1, id).expect("answered");
    assert!(done.met && done.holders.len() == 3, "{done:?}");
    assert!((0..3).all(|i| hive.text(i, memory).is_none()));
}

/// A receipt names the record it ends with. One for another history of the log (a second machine
/// with a copy of our store) proves nothing about ours.
#[test]
fn a_receipt_for_another_history_of_our_log_does_not_count() {
    let mut hive = Hive::of(&["eu"], "notes", Policy::open());
    let holder = hive.puppet("eu");
    hive.connects(0, holder);
    hive.introduces(holder, 0);
    let quorum = Durability::Quorum {
        nodes: 2,
        patience: PATIENCE,
    };
    let command = hive.write(0, "notes", memory("ours"), quorum);
    let id = hive.commands(0, command);
    let (key, state) = hive.logs(0, "notes")[0];
    let keys = hive.nodes[holder].keys.clone();
    let receipt = |tip| {
        let held = Held {
            key,
            height: state.height,
            tip,
        };
        Message::Receipts(Receipts::sign(&keys, vec![held]))
    };
    hive.says(holder, 0, receipt(aquifer_protocol::RecordId([9; 32])));
    assert_eq!(durable(&hive, 0, id), None, "it holds another record");
    hive.says(holder, 0, receipt(state.tip));
    assert!(durable(&hive, 0, id).is_some_and(|done| done.met));
}

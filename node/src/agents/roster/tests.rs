//! Nodes that read the same notes, in whatever order, know of the same agents, modules and disputes.

use super::*;
use crate::agents::note::Order;
use aquifer_protocol::Keys;
use aquifer_wasm::abi::{Cause, Imports, Wakeup};
use aquifer_wasm::kind::Kind;
use aquifer_wasm::manifest::{Budget, Granted, Manifest, Rate};
use aquifer_wasm::receipt::{Batch, Receipt};
use aquifer_wasm::wake::Step;
use proptest::prelude::*;
use std::sync::Arc;

fn order(publisher: u8, name: &str, version: u64, agents: u32) -> Note {
    let keys = Keys::from_secret(&[publisher; 32]);
    let manifest = Manifest {
        name: name.into(),
        module: *blake3::hash(b"module").as_bytes(),
        imports: Imports::USUAL,
        publishes: vec![],
        follows: vec![],
        remembers: vec![],
        budget: Budget::USUAL,
        rate: Rate::USUAL,
        kv_bytes: 0,
        not_after: u64::MAX,
        attest: None,
    };
    let manifest = Granted::sign(&keys, manifest).as_bytes().to_vec().into();
    let hosts = vec![NodeId([agents as u8; 32])];
    Note::order(
        &keys,
        &Order {
            manifest,
            version,
            agents,
            hosts,
            leaving: None,
        },
    )
}

fn source(topic: u8) -> Source {
    Source {
        topic: TopicId([topic; 32]),
        writer: NodeId([1; 32]),
        at: 5,
    }
}

fn of(notes: &[(u8, Note)]) -> Roster {
    let mut roster = Roster::default();
    notes
        .iter()
        .for_each(|(topic, note)| roster.join(source(*topic), note.clone()));
    roster
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Nodes hear notes of one topic in different orders, and agree.
    #[test]
    fn orders_count_alike_however_they_are_read(
        drafts in proptest::collection::vec((1_u8..3, 0_u64..4, 0_u32..3), 1..12),
        shuffle in any::<prop::sample::Index>(),
    ) {
        let mut notes: Vec<(u8, Note)> = drafts
            .iter()
            .map(|(publisher, version, agents)| (7, order(*publisher, "a", *version, *agents)))
            .collect();
        let one = of(&notes);
        let by = shuffle.index(notes.len());
        notes.rotate_left(by);
        notes.reverse();
        let other = of(&notes);
        prop_assert_eq!(one.orders, other.orders);
        prop_assert_eq!(one.keys, other.keys);
    }
}

#[test]
fn an_order_counts_only_under_its_publishers_signature() {
    let Note::Ordered {
        order: bytes,
        signature,
    } = order(1, "a", 1, 1)
    else {
        unreachable!("it is an order")
    };
    assert!(Signed::open(&bytes, &signature).is_some());
    for place in 0..bytes.len() {
        let mut bad = bytes.to_vec();
        bad[place] ^= 1;
        assert!(Signed::open(&bad, &signature).is_none(), "{place}");
    }
    let Note::Ordered {
        signature: stranger,
        ..
    } = order(2, "a", 1, 1)
    else {
        unreachable!("it is an order")
    };
    assert!(Signed::open(&bytes, &stranger).is_none());
}

#[test]
fn an_agent_is_not_taken_to_another_home_while_it_lives() {
    let roster = of(&[(7, order(1, "a", 1, 1)), (8, order(1, "a", 2, 1))]);
    let name = (Keys::from_secret(&[1; 32]).public(), "a".to_owned());
    assert_eq!(
        Some(TopicId([7; 32])),
        roster.order_of(&name).map(|placed| placed.topic)
    );
    let stopped = [(7, order(1, "a", 1, 0)), (8, order(1, "a", 2, 1))];
    let roster = of(&stopped);
    assert_eq!(
        Some(TopicId([8; 32])),
        roster.order_of(&name).map(|placed| placed.topic)
    );
}

#[test]
fn a_module_is_there_once_all_its_parts_are() {
    let module: Vec<u8> = (0..40_000_u32).map(|n| n as u8).collect();
    let hash = *blake3::hash(&module).as_bytes();
    let mut roster = Roster::default();
    let parts = Note::parts(&module);
    assert_eq!(2, parts.len());
    for note in parts.into_iter().rev() {
        assert_eq!(None, roster.module(&hash));
        roster.join(source(7), note);
    }
    assert_eq!(Some(module), roster.module(&hash));
}

/// What `node` signed for of one step of an agent: it left this state.
fn signed(node: u8, state: u8) -> Vec<u8> {
    let keys = Keys::from_secret(&[node; 32]);
    let Note::Ordered { order, .. } = order(1, "a", 1, 1) else {
        unreachable!("it is an order")
    };
    let order: Order = minicbor::decode(&order).expect("it is");
    let kind = Kind::open(&order.manifest, b"module".to_vec(), 0).expect("its module");
    let step = Step {
        agent: kind.granted().agent(0),
        seq: 4,
        wakeup: Wakeup {
            cause: Cause::Message,
            from: None,
            topic: String::new(),
            stamp: 5,
            body: vec![],
        },
        before: vec![0],
        answers: vec![],
        effects: vec![],
        after: vec![state],
        code: 0,
    };
    let receipt = Receipt::of(&step, kind.hash());
    let proof = Batch::sign(&keys, &[receipt]).proof(0).expect("one");
    let kind = Arc::new(kind);
    Entry {
        kind,
        step,
        receipt,
        proof,
    }
    .to_bytes()
}

/// A dispute may be read before the module that it is about.
#[test]
fn a_dispute_waits_for_its_module() {
    let name = (Keys::from_secret(&[1; 32]).public(), "a".to_owned());
    let entry = Entry::read(&signed(3, 1)).expect("it is one");
    let note = Note::Disputed {
        theirs: entry.to_bytes_bare().into(),
        ours: None,
        what: "the state".into(),
    };
    let mut roster = Roster::default();
    roster.join(source(7), note.clone());
    assert!(roster.disputes(&name).is_empty());
    for part in Note::parts(b"module") {
        roster.join(source(7), part);
    }
    assert_eq!(entry, roster.disputes(&name)[0].theirs);
    roster.join(source(7), note);
    assert_eq!(1, roster.disputes(&name).len());
}

#[test]
fn who_alone_signed_for_something_else_is_outvoted_by_hosts_and_by_nobody_else() {
    let node = |number: u8| NodeId(Keys::from_secret(&[number; 32]).public());
    let name = (Keys::from_secret(&[1; 32]).public(), "a".to_owned());
    let (mut roster, hosts) = (Roster::default(), [node(2), node(3), node(4)]);
    let mut says = |by: u8, theirs: Vec<u8>, ours: Vec<u8>| {
        let note = Note::Disputed {
            theirs: theirs.into(),
            ours: Some(ours.into()),
            what: "the state".into(),
        };
        let writer = node(by);
        roster.join(
            Source {
                writer,
                ..source(7)
            },
            note,
        );
        roster.is_outvoted(&name, &node(2), (&hosts, 2))
    };
    assert_eq!(None, says(2, signed(3, 1), signed(2, 0)), "one against one");
    assert_eq!(None, says(5, signed(2, 0), signed(5, 1)), "no host");
    assert_eq!(None, says(4, signed(2, 0), signed(5, 1)), "not its own");
    assert_eq!(None, says(4, signed(2, 0), signed(4, 0)), "no difference");
    assert_eq!(Some(5), says(4, signed(2, 0), signed(4, 1)));
    assert_eq!(3, roster.disputes(&name).len());
    assert!(roster.has_testified(
        &name,
        &node(4),
        &roster.disputes(&name)[0].ours.clone().expect("some")
    ));
    assert_eq!(None, roster.is_outvoted(&name, &node(3), (&hosts, 2)));
}

/// Whoever disputes all the time leaves no less room for others, and is heard of what it said last.
#[test]
fn of_each_that_disputes_the_last_few_are_remembered() {
    let mut roster = Roster::default();
    let name = (Keys::from_secret(&[1; 32]).public(), "a".to_owned());
    for (by, at) in (0..40).map(|at| (2, at)).chain([(3, 7)]) {
        let note = Note::Disputed {
            theirs: signed(9, at as u8).into(),
            ours: None,
            what: String::new(),
        };
        let writer = NodeId([by; 32]);
        let source = Source {
            writer,
            at,
            ..source(7)
        };
        roster.join(source, note.clone());
        roster.join(source, note);
    }
    let mut known: Vec<u64> = roster.disputes(&name).iter().map(|one| one.at).collect();
    known.sort_unstable();
    assert_eq!(vec![7, 36, 37, 38, 39], known);
}

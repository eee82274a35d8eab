//! Laws of the fold of a memory: a join semilattice over records, and heads that every node agrees on.
//!
//! Histories are drawn: several writers, revisions that replace any earlier versions, stamps in any
//! order, bodies that are gone. Not here: records on a disk or a wire (`protocol`).

use aquifer_crdt::memory::Fold;
use aquifer_protocol::body::{Memory, Revision};
use aquifer_protocol::record::{Header, LogId};
use aquifer_protocol::{AgentId, Body, Keys, Record, RecordId, Stamp, TopicId};
use proptest::prelude::*;
use std::collections::BTreeSet;

/// One revision to be: by which writer, when, replacing which of the versions before it (as bits).
type Draft = (u8, u64, u32);

fn sign(writer: u8, seq: u64, stamp: u64, body: &Body) -> Record {
    let keys = Keys::from_secret(&[writer + 1; 32]);
    let (kind, bytes) = body.to_bytes().expect("short");
    let header = Header {
        version: 1,
        topic: TopicId([3; 32]),
        writer: keys.node(),
        log: LogId(1),
        seq,
        prev: RecordId([0; 32]),
        stamp: Stamp::from_bits(stamp),
        kind,
        author: AgentId([writer; 32]),
        policy_epoch: 1,
        cap_hash: [0; 32],
        body_len: 0,
        body_hash: [0; 32],
    };
    Record::author(&keys, header, [seq as u8; 16], &bytes).expect("short")
}

/// A memory and its revisions, in the order in which they were written.
fn history(drafts: &[Draft]) -> Vec<Record> {
    let mut records = vec![sign(0, 0, 500, &Body::Memory(Memory::of("version 0")))];
    for (n, (writer, stamp, replaced)) in drafts.iter().enumerate() {
        let chosen = |i: &usize| replaced & (1 << i) != 0;
        let replaces = (0..records.len())
            .filter(chosen)
            .map(|i| records[i].id())
            .collect();
        let revision = Revision {
            of: records[0].id(),
            replaces,
            memory: Memory::of(format!("version {}", n + 1)),
        };
        let body = Body::Revision(revision);
        records.push(sign(*writer, n as u64 + 1, *stamp, &body));
    }
    records
}

fn fold<'a>(id: RecordId, records: impl IntoIterator<Item = &'a Record>) -> Fold {
    let mut fold = Fold::new(id);
    records.into_iter().for_each(|record| fold.join(record));
    fold
}

fn ids(heads: &[&aquifer_crdt::memory::Version]) -> Vec<RecordId> {
    heads.iter().map(|version| version.record.id()).collect()
}

/// Drafts, and the same records' indices in some order with repetitions that leaves none out.
fn shuffled() -> impl Strategy<Value = (Vec<Draft>, Vec<usize>)> {
    let draft = (0u8..3, 0u64..1_000, any::<u32>());
    proptest::collection::vec(draft, 0..8).prop_flat_map(|drafts| {
        let all = drafts.len() + 1;
        let again = proptest::collection::vec(0..all, 0..10);
        let order = again.prop_map(move |again| (0..all).chain(again).collect::<Vec<_>>());
        (Just(drafts), order.prop_shuffle())
    })
}

proptest! {
    /// I2, I10: any order, any number of times, and in two parts that are joined either way round.
    #[test]
    fn a_memory_is_the_same_whatever_the_order_and_repetition((drafts, order) in shuffled()) {
        let records = history(&drafts);
        let id = records[0].id();
        let written = fold(id, &records);
        let heard = fold(id, order.iter().map(|i| &records[*i]));
        prop_assert_eq!(&heard, &written);
        let (left, right) = order.split_at(order.len() / 2);
        let there_and_back = fold(id, right.iter().chain(left).map(|i| &records[*i]));
        prop_assert_eq!(&there_and_back, &written);
        prop_assert_eq!(written.versions().count(), records.len());
    }

    /// A head is what nobody replaced; the first is the latest; only a memory in which every version
    /// is replaced by another shows nothing.
    #[test]
    fn heads_are_what_nobody_replaced_latest_first((drafts, _) in shuffled()) {
        let records = history(&drafts);
        let folded = fold(records[0].id(), &records);
        let replaced: BTreeSet<RecordId> =
            folded.versions().flat_map(|version| version.replaces.iter().copied()).collect();
        let expected: BTreeSet<RecordId> =
            records.iter().map(Record::id).filter(|id| !replaced.contains(id)).collect();
        let heads = folded.heads();
        prop_assert_eq!(ids(&heads).into_iter().collect::<BTreeSet<_>>(), expected);
        let place = |r: &Record| (r.header().stamp, r.id());
        prop_assert!(heads.windows(2).all(|two| place(&two[0].record) > place(&two[1].record)));
        // A revision replaces only what was there before it, so the last one written is a head.
        prop_assert!(ids(&heads).contains(&records.last().expect("one at least").id()));
    }

    /// What was shown at a time is what a node would have shown that had heard only that much.
    #[test]
    fn as_of_a_stamp_is_the_fold_of_what_was_stamped_by_then((drafts, _) in shuffled(), at in 0u64..1_000) {
        let records = history(&drafts);
        let id = records[0].id();
        let at = Stamp::from_bits(at);
        let then = fold(id, records.iter().filter(|r| r.header().stamp <= at));
        prop_assert_eq!(ids(&fold(id, &records).heads_at(at)), ids(&then.heads()));
    }

    /// I5: copies without a body, before or after whole ones, change nothing; a memory all of whose
    /// bodies are gone shows nothing, and never a version that had been replaced.
    #[test]
    fn bodies_that_are_gone_add_nothing_and_hide_nothing(
        (drafts, order) in shuffled(), gone in any::<u32>(),
    ) {
        let records = history(&drafts);
        let id = records[0].id();
        let whole = fold(id, &records);
        let bare: Vec<Record> = records.iter().map(Record::without_body).collect();
        let mixed = order.iter().flat_map(|i| {
            let (one, other) = (&records[*i], &bare[*i]);
            if gone & (1 << i) == 0 { [one, other] } else { [other, one] }
        });
        prop_assert_eq!(fold(id, mixed), whole);
        let erased = fold(id, order.iter().map(|i| &bare[*i]));
        prop_assert_eq!(erased.heads(), Vec::<&aquifer_crdt::memory::Version>::new());
        let partly: Vec<&Record> = order
            .iter()
            .map(|i| if gone & (1 << i) == 0 { &records[*i] } else { &bare[*i] })
            .collect();
        let one = fold(id, partly.iter().copied());
        let other = fold(id, partly.iter().rev().copied());
        prop_assert_eq!(ids(&one.heads()), ids(&other.heads()));
        let shown = one.heads().into_iter().map(|version| version.record.id());
        let bodies: BTreeSet<RecordId> = partly.iter().filter(|r| r.carried().is_some()).map(|r| r.id()).collect();
        prop_assert!(shown.into_iter().all(|id| bodies.contains(&id)));
    }

    /// Records of other memories change nothing.
    #[test]
    fn another_memorys_records_are_no_versions_of_this_one((drafts, _) in shuffled(), n in 1u64..50) {
        let records = history(&drafts);
        let id = records[0].id();
        let other = sign(2, 900 + n, n, &Body::Memory(Memory::of("another")));
        let theirs = Revision { of: other.id(), replaces: vec![id], memory: Memory::of("its revision") };
        let theirs = sign(1, 950 + n, n, &Body::Revision(theirs));
        let all = records.iter().chain([&other, &theirs]);
        prop_assert_eq!(fold(id, all), fold(id, &records));
    }
}

//! Catching up: how nodes that differ become equal, and what that costs on the wire.

use crate::hive::*;
use aquifer_protocol::body::{Body, Memory};
use aquifer_protocol::{Event, Policy, Record, RecordId};
use proptest::prelude::*;

/// I16: a newcomer gets everything from one peer, in as many messages as it takes, whether messages
/// travel as bytes or are handed over.
#[test]
fn a_newcomer_catches_up_over_many_messages() {
    for as_frames in [true, false] {
        let mut hive = Hive::default();
        hive.as_frames = as_frames;
        let (a, b) = (hive.adds("eu"), hive.adds("eu"));
        hive.founds(a, "notes", Policy::open());
        for batch in 0..12 {
            let texts = (0..250).map(|i| format!("memory {batch}/{i}"));
            let bodies = texts.map(|text| Body::Memory(Memory::of(text))).collect();
            hive.writes(a, "notes", bodies);
        }
        hive.connects(a, b);
        hive.agree("notes", &[a, b]);
        assert_eq!(hive.texts(b, "notes").len(), 3_000);
        let messages = hive.carried.count_of("Records");
        assert!(messages >= 3, "3,000 records in {messages} messages");
        let content: usize = hive.records(a, "notes").iter().map(Record::wire_len).sum();
        let wire: usize = hive.carried.talk() + hive.carried.bytes_of(&["Records"]);
        println!("catch-up of 3,000 records: {wire} B for {content} B of records");
        assert!(
            wire as f64 <= 1.2 * content as f64,
            "{wire} B for {content} B"
        );
        let heard = hive.events(b);
        let synced = |e: &Event| matches!(e, Event::InSync { .. });
        assert!(heard.iter().any(synced), "and both know that they agree");
    }
}

#[test]
fn records_of_the_largest_size_travel_too() {
    let mut hive = Hive::of(&["eu", "eu"], "notes", Policy::open());
    hive.disconnects(0, 1);
    let most = aquifer_protocol::limits::TEXT_BYTES_MAX;
    for i in 0..40 {
        hive.remembers(0, "notes", &format!("{i:0>most$}"));
    }
    hive.connects(0, 1);
    hive.agree("notes", &[0, 1]);
    assert_eq!(hive.texts(1, "notes").len(), 40);
}

/// `logs` logs of one topic on A and B, `differing` of them a record longer on A. Returns what
/// making them equal took in bytes besides the records, and how many messages.
fn talk(logs: u64, differing: u64) -> (usize, usize) {
    let mut hive = Hive::default();
    let (a, b) = (hive.adds("eu"), hive.adds("eu"));
    let writer = hive.puppet("eu");
    hive.founds(a, "notes", Policy::open());
    hive.connects(a, b);
    hive.connects(a, writer);
    hive.introduces(writer, a);
    hive.rounds(2);
    let topic = hive.topic("notes");
    let firsts: Vec<Record> = (0..logs)
        .map(|log| hive.signs_text(writer, Place::first(topic, log), &format!("first of {log}")))
        .collect();
    for run in &firsts {
        hive.says(writer, a, records(topic, vec![run.clone()]));
    }
    hive.agree("notes", &[a, b]);
    hive.disconnects(a, b);
    for first in &firsts[..differing as usize] {
        let second = hive.signs_text(writer, Place::after(first), "second");
        hive.says(writer, a, records(topic, vec![second]));
    }
    hive.disconnects(a, writer);
    hive.carried = Traffic::default();
    hive.connects(a, b);
    hive.agree("notes", &[a, b]);
    assert_eq!(hive.records(b, "notes").len() as u64, logs + differing);
    let count = hive.carried.by_name.values().map(|(count, _)| count).sum();
    println!(
        "{logs} logs, {differing} differ: {:?}",
        hive.carried.by_name
    );
    (hive.carried.talk(), count)
}

/// DESIGN §10: what a difference costs beyond the records themselves.
#[test]
fn two_nodes_with_many_logs_pay_for_what_differs_and_not_for_what_they_share() {
    for (logs, differing) in [(200, 20), (1_000, 1), (1_000, 100), (1_000, 1_000)] {
        let (bytes, messages) = talk(logs, differing);
        let each = bytes as f64 / differing as f64;
        println!(
            "{logs} logs, {differing} differ: {bytes} B beyond the records in {messages} messages, {each:.0} B per differing log"
        );
        let most = 4_096 + 640 * differing as usize;
        assert!(
            bytes <= most,
            "{bytes} B for {differing} differing logs of {logs}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// I2, I10: any parts of any logs in any order, any number of times, to two nodes; once they
    /// meet, they are equal, and nothing was applied twice.
    #[test]
    fn whatever_the_order_and_the_repetition_nodes_that_meet_are_equal(
        parts in proptest::collection::vec((0u64..3, 0usize..6, 1usize..6, any::<bool>()), 0..30),
    ) {
        let mut hive = Hive::default();
        let (a, b) = (hive.adds("eu"), hive.adds("eu"));
        let writer = hive.puppet("eu");
        hive.founds(a, "notes", Policy::open());
        hive.connects(a, b);
        for node in [a, b] {
            hive.connects(node, writer);
        }
        hive.introduces(writer, a);
        hive.rounds(2);
        hive.disconnects(a, b);
        let topic = hive.topic("notes");
        let logs: Vec<Vec<Record>> = (0..3u64).map(|log| chain(&hive, writer, topic, log)).collect();
        for (log, from, len, to_a) in parts {
            let until = (from + len).min(6);
            let run = logs[log as usize][from.min(until)..until].to_vec();
            if !run.is_empty() {
                hive.says(writer, if to_a { a } else { b }, records(topic, run));
            }
        }
        hive.connects(a, b);
        hive.rounds(2);
        hive.agree("notes", &[a, b]);
        for node in [a, b] {
            let mut ids: Vec<RecordId> = Vec::new();
            for event in hive.events(node) {
                if let Event::Accepted { record, .. } = event {
                    ids.push(record.id());
                }
            }
            let count = ids.len();
            ids.sort_unstable();
            ids.dedup();
            prop_assert_eq!(ids.len(), count, "a record was applied twice on node {}", node);
        }
    }
}

fn chain(hive: &Hive, writer: Index, topic: aquifer_protocol::TopicId, log: u64) -> Vec<Record> {
    let mut run = vec![hive.signs_text(writer, Place::first(topic, log), "0")];
    for seq in 1..6 {
        let last = run.last().expect("there is one").clone();
        run.push(hive.signs_text(writer, Place::after(&last), &format!("{log}.{seq}")));
    }
    run
}

//! Catching up: how nodes that differ become equal, and what that costs on the wire.

use crate::hive::*;
use aquifer_protocol::body::{Body, Memory};
use aquifer_protocol::{Event, Message, Policy, Record, RecordId};
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

/// Two nodes that hold the same logs of one topic, and a writer of all of them.
struct Library {
    hive: Hive,
    nodes: [Index; 2],
    writer: Index,
    tips: Vec<Record>,
}

impl Library {
    fn of(logs: u64) -> Self {
        let mut hive = Hive::default();
        let nodes = [hive.adds("eu"), hive.adds("eu")];
        let writer = hive.puppet("eu");
        hive.founds(nodes[0], "notes", Policy::open());
        hive.connects(nodes[0], nodes[1]);
        hive.connects(nodes[0], writer);
        hive.introduces(writer, nodes[0]);
        hive.rounds(2);
        let topic = hive.topic("notes");
        let tips: Vec<Record> = (0..logs)
            .map(|log| hive.signs_text(writer, Place::first(topic, log), &format!("of {log}")))
            .collect();
        hive.disconnects(nodes[0], writer);
        let mut library = Self {
            hive,
            nodes,
            writer,
            tips,
        };
        let all = library.tips.clone();
        library.gives(nodes[0], &all);
        library.hive.rounds(1);
        library.hive.agree("notes", &nodes);
        library.hive.disconnects(nodes[0], nodes[1]);
        library
    }

    fn gives(&mut self, to: Index, records: &[Record]) {
        let topic = self.hive.topic("notes");
        self.hive.connects(to, self.writer);
        for some in records.chunks(500) {
            let runs = some.iter().map(|record| vec![record.clone()]).collect();
            self.hive
                .says(self.writer, to, Message::Records { topic, runs });
        }
        self.hive.disconnects(to, self.writer);
    }

    /// One record more in each of these logs, on one of the two.
    fn grows(&mut self, to: Index, logs: impl Iterator<Item = usize>) {
        let mut more = Vec::new();
        for log in logs {
            let next = Place::after(&self.tips[log]);
            self.tips[log] = self.hive.signs_text(self.writer, next, "more");
            more.push(self.tips[log].clone());
        }
        self.gives(to, &more);
    }

    /// What it takes to make the two equal again, beyond the records: bytes and messages.
    fn talks(&mut self) -> (usize, usize) {
        let [a, b] = self.nodes;
        self.hive.carried = Traffic::default();
        self.hive.connects(a, b);
        self.hive.agree("notes", &[a, b]);
        let carried = &self.hive.carried;
        println!("{:?}", carried.by_name);
        let count = carried.by_name.values().map(|(count, _)| count).sum();
        let bytes = carried.beside_records();
        self.hive.disconnects(a, b);
        (bytes, count)
    }
}

/// DESIGN §10: what a difference costs beyond the records themselves, framing and all.
#[track_caller]
fn within_the_price(what: &str, (bytes, messages): (usize, usize), differing: usize) {
    let each = bytes as f64 / differing as f64;
    println!("{what}: {bytes} B beyond the records in {messages} messages, {each:.0} B per log");
    let most = 2_048 + 60 * differing;
    assert!(bytes <= most, "{what}: {bytes} B, the price is {most} B");
}

#[test]
fn a_difference_among_ten_thousand_logs_costs_what_differs_and_not_what_is_shared() {
    let mut library = Library::of(10_000);
    let [a, b] = library.nodes;
    within_the_price("none of 10,000 differs", library.talks(), 1);
    for differing in [1, 10, 100, 1_000] {
        let spread = move |i: usize| i * 7 + differing;
        library.grows(a, (0..differing).map(spread));
        let what = format!("A is ahead in {differing} of 10,000 logs");
        within_the_price(&what, library.talks(), differing);
        library.grows(b, (0..differing).map(spread));
        let what = format!("B is ahead in {differing} of 10,000 logs");
        within_the_price(&what, library.talks(), differing);
        library.grows(a, (0..differing).step_by(2).map(spread));
        library.grows(b, (1..differing).step_by(2).map(spread));
        let what = format!("each is ahead in half of {differing} of 10,000 logs");
        within_the_price(&what, library.talks(), differing);
    }
}

#[test]
fn a_thousand_logs_of_which_every_one_differs_cost_so_much_each() {
    let mut library = Library::of(1_000);
    let [a, b] = library.nodes;
    for node in [a, b] {
        library.grows(node, 0..1_000);
        let what = format!("node {node} is ahead in 1,000 of 1,000 logs");
        within_the_price(&what, library.talks(), 1_000);
    }
    let newcomer = library.hive.adds("eu");
    library.nodes = [newcomer, a];
    within_the_price("a newcomer lacks all of 1,000 logs", library.talks(), 1_000);
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

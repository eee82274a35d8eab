//! Compatibility: the byte formats are frozen, and this is what holds them.
//!
//! `vectors/formats-1.json` has one example of everything that is hashed, signed, stored or sent,
//! made from fixed keys. Today's encoder must give the same bytes, and today's decoder must read in
//! them what they say. A vector is never edited: a new format gets a new file beside this one.
//!
//! `AQUIFER_BLESS=1 cargo test -p aquifer-tests --test compatibility` writes the file where it is
//! missing. Not here: hostile bytes (`protocol/tests/stories/garbage.rs`).

use aquifer_protocol::body::Memory;
use aquifer_protocol::certificate::role;
use aquifer_protocol::identity::{Seed, digest};
use aquifer_protocol::log::{self, Logs};
use aquifer_protocol::policy::Keyring;
use aquifer_protocol::record::NO_RECORD;
use aquifer_protocol::riblt::{Sketch, SumKey};
use aquifer_protocol::store::Store as _;
use aquifer_protocol::sync::{self, Coded};
use aquifer_protocol::{
    AgentId, Body, Chain, Kind, LogId, MemStore, Message, Policy, Record, Replica, Settings, Table,
    Time,
};
use aquifer_tests::repository;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

#[path = "compatibility/examples.rs"]
mod examples;
use examples::*;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Vector {
    what: String,
    hex: String,
}

type Vectors = BTreeMap<String, Vector>;

fn file() -> PathBuf {
    repository().join("tests/vectors/formats-1.json")
}

fn frozen() -> Vectors {
    let text = std::fs::read_to_string(file()).expect("the vectors are there");
    serde_json::from_str(&text).expect("the vectors are JSON")
}

/// The frozen bytes called `name`.
fn bytes(name: &str) -> Vec<u8> {
    unhex(
        &frozen()
            .get(name)
            .unwrap_or_else(|| panic!("no vector {name}"))
            .hex,
    )
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let digit = |at| u8::from_str_radix(&text[at..at + 2], 16).expect("hexadecimal digits");
    (0..text.len()).step_by(2).map(digit).collect()
}

/// What is wrong with `frozen`, if `today` is what the encoder gives.
fn differences(frozen: &Vectors, today: &Vectors) -> Vec<String> {
    let names: BTreeSet<&String> = frozen.keys().chain(today.keys()).collect();
    let wrong = |name: &&&String| frozen.get(**name) != today.get(**name);
    names
        .iter()
        .filter(wrong)
        .map(|name| (**name).clone())
        .collect()
}

fn entries(table: Table) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut found = Vec::new();
    store()
        .range(table, &[], None, &mut |key, value| {
            found.push((key.to_vec(), value.to_vec()));
            true
        })
        .expect("memory");
    found
}

/// The header's bytes: what the record's id is the hash of. They are the envelope's payload, between
/// the COSE headers and the signature.
fn header_bytes(record: &Record) -> Vec<u8> {
    let envelope = record.envelope();
    let sizes =
        (0..envelope.len()).flat_map(|from| (from..=envelope.len()).map(move |to| from..to));
    let is_header = |range: &std::ops::Range<usize>| {
        range.len() > 150 && digest("aquifer/rec/1", &[&envelope[range.clone()]]) == record.id().0
    };
    let found = sizes.into_iter().find(is_header);
    envelope[found.expect("an envelope holds its header")].to_vec()
}

fn today() -> Vectors {
    let mut all = Vectors::new();
    let mut add = |name: String, what: &str, bytes: &[u8]| {
        let vector = Vector {
            what: what.to_owned(),
            hex: hex(bytes),
        };
        assert!(
            all.insert(name.clone(), vector).is_none(),
            "two vectors {name}"
        );
    };
    let [first, second] = run().try_into().expect("two");
    add(
        "header".into(),
        "the payload of `envelope`, a minicbor array",
        &header_bytes(&first),
    );
    add(
        "envelope".into(),
        "COSE_Sign1 of `header`",
        first.envelope(),
    );
    add(
        "carried body".into(),
        "16 bytes of salt, then the body of `envelope`",
        first.carried().expect("whole"),
    );
    add(
        "second envelope".into(),
        "the record after `envelope` in its log",
        second.envelope(),
    );
    add(
        "record id".into(),
        "BLAKE3 of `aquifer/rec/1`, 0, `header`",
        first.id().as_bytes(),
    );
    add(
        "topic id".into(),
        "BLAKE3 of `aquifer/topic/1`, 0, hive, `acme/notes`",
        topic().as_bytes(),
    );
    add(
        "chain".into(),
        "certificates: root, authority of eu, node in eu/fr",
        &chain().to_bytes(),
    );
    add(
        "cap hash".into(),
        "BLAKE3 of `aquifer/chain/1`, 0, `chain`",
        &member().cap_hash(),
    );
    for (name, body) in bodies() {
        let (kind, bytes) = body.to_bytes().expect("within limits");
        add(
            format!("body: {name}"),
            &format!("the body of a record of kind {}", kind.0),
            &bytes,
        );
    }
    for (name, message) in messages() {
        add(format!("message: {name}"), "a frame", &message.to_bytes());
    }
    let cells: Vec<u8> = cells().iter().flat_map(|cell| cell.to_bytes()).collect();
    add(
        "cells".into(),
        "8 coded cells of 20 entries under a key of 0x88: sum, weighted sum, check",
        &cells,
    );
    let coded = Coded::of(&Logs::load(&store()).expect("memory"), topic(), 5);
    let gauge: Vec<u8> = coded
        .gauge
        .0
        .iter()
        .flat_map(|sum| sum.to_be_bytes())
        .collect();
    add(
        "gauge".into(),
        "of the one log of `stored log` under nonce 5",
        &gauge,
    );
    let mut sketch = coded.sketch;
    let cell = sketch.cells(1)[0].to_bytes();
    add(
        "coded log".into(),
        "the one cell of the one log of `stored log` under nonce 5",
        &cell,
    );
    let short = sync::short_hash(&key(), 5).to_be_bytes();
    add(
        "short hash".into(),
        "of the log of `envelope` under nonce 5",
        &short,
    );
    let (digest, _) = sync::summary(&Logs::load(&store()).expect("memory"), topic());
    add(
        "summary digest".into(),
        "of the one log of `stored log`",
        &digest,
    );
    for table in Table::ALL {
        for (n, (key, value)) in entries(table).into_iter().enumerate() {
            let name = format!("store: {table:?} {n}");
            add(format!("{name} key"), "a key of that table", &key);
            add(format!("{name} value"), "its value", &value);
        }
    }
    all
}

// Encoding.

#[test]
fn todays_encoder_gives_the_frozen_bytes() {
    let today = today();
    if std::env::var("AQUIFER_BLESS").is_ok_and(|value| value == "1") && !file().exists() {
        let text = serde_json::to_string_pretty(&today).expect("JSON");
        std::fs::write(file(), text + "\n").expect("written");
    }
    assert_eq!(differences(&frozen(), &today), Vec::<String>::new());
}

/// The comparison above can fail: on every changed digit, on a vector too many and one too few.
#[test]
fn every_changed_byte_of_a_vector_is_told() {
    let good = today();
    for (name, vector) in &good {
        for at in 0..vector.hex.len() {
            let digit = if &vector.hex[at..=at] == "0" {
                "1"
            } else {
                "0"
            };
            let (mut bad, mut only) = (Vectors::new(), Vectors::new());
            only.insert(name.clone(), vector.clone());
            bad.insert(name.clone(), vector.clone());
            bad.get_mut(name)
                .expect("there")
                .hex
                .replace_range(at..=at, digit);
            assert_eq!(differences(&bad, &only), [name.as_str()]);
        }
        let mut fewer = good.clone();
        fewer.remove(name);
        assert_eq!(differences(&fewer, &good), [name.as_str()]);
        assert_eq!(differences(&good, &fewer), [name.as_str()]);
    }
}

// Decoding.

#[test]
fn a_record_of_the_first_format_opens_to_what_it_says() {
    let (envelope, body) = (bytes("envelope"), bytes("carried body"));
    let record = Record::open(&envelope.into(), Some(&body.into())).expect("good");
    let header = record.header();
    assert_eq!(record.id().0.to_vec(), bytes("record id"));
    assert_eq!(
        digest("aquifer/rec/1", &[&bytes("header")]).to_vec(),
        bytes("record id")
    );
    assert_eq!(header.topic.0.to_vec(), bytes("topic id"));
    assert_eq!(header.cap_hash.to_vec(), bytes("cap hash"));
    assert_eq!(header.writer, node().node());
    assert_eq!(
        (header.version, header.seq, header.kind),
        (1, 0, Kind::MEMORY)
    );
    assert_eq!(
        (header.log, header.prev),
        (LogId(0x0102_0304_0506_0708), NO_RECORD)
    );
    assert_eq!(header.stamp.time(), Time::from_millis(1_790_000_000_000));
    assert_eq!(
        (header.author, header.policy_epoch),
        (AgentId([0x66; 32]), 1)
    );
    let body = Body::open(header.kind, &record.body().expect("whole"));
    assert_eq!(body, Ok(Body::Memory(Memory::of("first"))));
    let second = Record::open(&bytes("second envelope").into(), None).expect("a header alone");
    assert_eq!(
        (second.header().prev, second.header().seq),
        (record.id(), 1)
    );
}

#[test]
fn bodies_of_the_first_format_open_to_what_they_say() {
    for (name, body) in bodies() {
        let (kind, _) = body.to_bytes().expect("within limits");
        assert_eq!(
            Body::open(kind, &bytes(&format!("body: {name}"))),
            Ok(body),
            "{name}"
        );
    }
    let Ok(Body::Founding(founding)) = Body::open(Kind(11), &bytes("body: founding, every rule"))
    else {
        panic!("not a founding");
    };
    let Policy {
        location,
        copies,
        readers,
        writers,
        body_bytes_max,
    } = founding.policy;
    assert_eq!(location.allowed_regions.to_string(), "[eu, us/ca]");
    assert_eq!(
        location.required_region.map(|r| r.to_string()).as_deref(),
        Some("eu/fr")
    );
    assert!(!location.cross_border_allowed && location.encryption_required);
    assert_eq!(
        (location.retention, copies, body_bytes_max),
        (Some(86_400), Some(3), 4_096)
    );
    assert!(readers.contains(&[0x55; 32]) && !readers.contains(&[0x66; 32]));
    assert_eq!(writers, Keyring::Members);
}

#[test]
fn a_chain_of_the_first_format_opens_to_what_it_says() {
    let member = Chain::open(&bytes("chain"), &hive()).expect("good");
    assert_eq!(
        (member.node(), member.region().as_str()),
        (node().node(), "eu/fr")
    );
    assert_eq!(member.cap_hash().to_vec(), bytes("cap hash"));
    assert!(member.covers(&notes()) && !member.covers(&"other".parse().expect("legal")));
    assert_eq!(role::names(member.grant().roles), ["seed", "index"]);
    assert!(member.valid_at(Time::from_millis(1_700_000_000_000)));
    assert!(!member.valid_at(Time::from_millis(1_900_000_000_001)));
}

#[test]
fn messages_of_the_first_format_open_to_what_they_say() {
    for (name, message) in messages() {
        let frame = bytes(&format!("message: {name}"));
        let opened = Message::open(&frame).expect("good");
        assert_eq!(opened.to_bytes(), frame, "{name}");
        match (opened, message) {
            // What a run's last signature vouches for is marked so; its content is compared.
            (Message::Records { runs: a, .. }, Message::Records { runs: b, .. }) => {
                let ids = |runs: &[Vec<Record>]| -> Vec<_> {
                    runs.concat().iter().map(|r| (r.id(), r.body())).collect()
                };
                assert_eq!(ids(&a), ids(&b));
            }
            (opened, message) => assert_eq!(opened, message, "{name}"),
        }
    }
}

#[test]
fn a_store_of_the_first_format_is_read_as_it_was_written() {
    let mut store = MemStore::default();
    let mut batch = aquifer_protocol::Batch::default();
    for table in Table::ALL {
        for n in 0.. {
            let name = format!("store: {table:?} {n}");
            if !frozen().contains_key(&format!("{name} key")) {
                break;
            }
            batch.put(
                table,
                bytes(&format!("{name} key")),
                bytes(&format!("{name} value")),
            );
        }
    }
    store.apply(batch).expect("memory");
    let logs = Logs::load(&store).expect("readable");
    assert_eq!(logs.get(&key()), Some(&state()));
    let [first, second] = run().try_into().expect("two");
    let erased = log::record_by_id(&store, &first.id())
        .expect("whole")
        .expect("there");
    assert_eq!((erased.id(), erased.body()), (first.id(), None));
    assert_eq!(log::record_at(&store, 5, 1), Ok(Some(second)));
    let settings = Settings {
        hive: hive(),
        member: Some(member()),
        erases: true,
    };
    let now = Time::from_millis(1_790_000_000_000);
    let seed = Seed::from_number(2);
    let replica = Replica::open(node(), settings, store, seed, now).expect("its own store");
    assert_eq!(
        sync::summary(replica.logs(), topic()).0.to_vec(),
        bytes("summary digest")
    );
}

#[test]
fn cells_of_the_first_format_still_decode_to_their_entries() {
    let (first, rest) = entries_coded()
        .split_first()
        .map(|(a, b)| (*a, b.to_vec()))
        .expect("20");
    let Message::Cells { cells, .. } = Message::open(&bytes("message: cells")).expect("good")
    else {
        panic!("not cells");
    };
    let found = Sketch::of(SumKey([0x88; 32]), rest)
        .decode(&cells)
        .expect("one difference in 8 cells");
    assert_eq!(found, BTreeMap::from([(first.0, first.1 as i64)]));
}

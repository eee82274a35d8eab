//! Compatibility of the directory: keys and node records are frozen, beside the formats of the core.
//!
//! As in `compatibility.rs`, a vector is never edited. `AQUIFER_BLESS=1` writes the file where it is
//! missing.

use aquifer_protocol::directory::{NodeRecord, node_key, topic_key};
use aquifer_protocol::{HiveId, Keys, Time, TopicName};
use aquifer_tests::repository;
use std::collections::BTreeMap;

type Vectors = BTreeMap<String, String>;

const NOW: Time = Time::from_millis(1_700_000_000_000);

fn keys() -> Keys {
    Keys::from_secret(&[7; 32])
}

fn hive() -> HiveId {
    HiveId(Keys::from_secret(&[1; 32]).public())
}

fn record() -> NodeRecord {
    let addresses = [
        "/ip4/192.0.2.7/udp/27471/quic-v1",
        "/dns4/a.example/tcp/27471",
    ];
    let addresses = addresses.map(str::to_owned);
    let region = "eu/fr".parse().expect("legal");
    NodeRecord::new(keys().node(), hive(), region, &addresses, NOW)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let digit = |at| u8::from_str_radix(&text[at..at + 2], 16).expect("hexadecimal digits");
    (0..text.len()).step_by(2).map(digit).collect()
}

fn today() -> Vectors {
    let topic: TopicName = "acme/notes".parse().expect("legal");
    let entries = [
        ("node key", node_key(&keys().node()).to_vec()),
        ("node record", record().sign(&keys())),
        ("topic key", topic_key(&hive(), &topic.id(&hive())).to_vec()),
    ];
    entries
        .map(|(name, bytes)| (name.to_owned(), hex(&bytes)))
        .into()
}

fn frozen() -> Vectors {
    let file = repository().join("tests/vectors/directory-1.json");
    if std::env::var_os("AQUIFER_BLESS").is_some() && !file.exists() {
        let text = serde_json::to_string_pretty(&today()).expect("JSON");
        std::fs::write(&file, text + "\n").expect("written");
    }
    let text = std::fs::read_to_string(&file).expect("the vectors are there");
    serde_json::from_str(&text).expect("the vectors are JSON")
}

#[test]
fn todays_encoder_gives_the_frozen_bytes_of_the_directory() {
    assert_eq!(frozen(), today());
}

#[test]
fn todays_decoder_reads_the_frozen_node_record() {
    let vectors = frozen();
    let (key, bytes) = (unhex(&vectors["node key"]), unhex(&vectors["node record"]));
    assert_eq!(Ok(record()), NodeRecord::open(&bytes, &key, &hive(), NOW));
}

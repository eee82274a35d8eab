//! Questions between nodes: their bytes are frozen, as those of the core are (`compatibility.rs`).
//!
//! `vectors/ask-1.json` has one example of every message of `/aquifer/ask/1`. Today's encoder must give
//! the same bytes, and today's decoder must read in them what they say. A vector is never edited.
//!
//! `AQUIFER_BLESS=1 cargo test -p aquifer-tests --test questions` writes the file where it is missing.

use aquifer_node::ask::{
    Answer, Best, Carried, Found, Kept, Neighbour, Question, Sought, Tally, Vector,
};
use aquifer_protocol::{NodeId, RecordId, TopicId};
use aquifer_tests::repository;
use std::collections::BTreeMap;

fn sought() -> Sought {
    Sought {
        topics: vec![TopicId([7; 32])],
        terms: vec!["databas".into(), "port".into()],
        vector: Some(Vector {
            embedder: "hash-256/1".into(),
            values: vec![1, 255, 0, 127].into(),
        }),
        tags: vec!["ops".into()],
        author: Some([3; 32]),
        kind: Some(2),
        since_ms: Some(1_700_000_000_000),
        until_ms: Some(1_800_000_000_000),
        as_of_ms: None,
        valid_at_ms: Some(1_750_000_000_000),
    }
}

fn tally() -> Tally {
    Tally {
        documents: 120,
        length: 2_400,
        terms: vec![9, 40],
    }
}

fn kept() -> Kept {
    Kept {
        topic: TopicId([8; 32]),
        rule: "region".into(),
        reason: "`hr` may rest only in eu; us is not inside (rule: allowed_regions)".into(),
    }
}

fn carried(byte: u8) -> Carried {
    Carried {
        envelope: vec![byte; 4].into(),
        body: vec![byte; 20].into(),
    }
}

fn questions() -> BTreeMap<&'static str, Question> {
    let best = Best {
        mode: 0,
        tally: tally(),
        limit: 8,
        skip: 2,
    };
    BTreeMap::from([
        ("ping", Question::Ping(0x0102_0304_0506_0708)),
        ("peers", Question::Peers),
        ("count", Question::Count(sought())),
        ("newest", Question::Count(Sought::default())),
        ("search", Question::Search(sought(), best)),
    ])
}

fn answers() -> BTreeMap<&'static str, Answer> {
    let neighbour = |rtt_us, relayed| Neighbour {
        node: NodeId([5; 32]),
        region: "eu/fr".into(),
        rtt_us,
        relayed,
    };
    let found = Found {
        id: RecordId([6; 32]),
        shown: carried(1),
        conflicts: vec![carried(2)],
        created_ms: 1_700_000_000_000,
        frequencies: vec![0, 3],
        length: 21,
        cosine: 0.5,
    };
    let refused = (
        "unknown_question",
        "questions of type 99 are not known here",
    );
    BTreeMap::from([
        (
            "refused",
            Answer::Refused(refused.0.into(), refused.1.into()),
        ),
        ("pong", Answer::Pong(0x0102_0304_0506_0708)),
        (
            "peers told",
            Answer::Peers(vec![neighbour(Some(1_250), false), neighbour(None, true)]),
        ),
        (
            "counted",
            Answer::Counted(vec![(TopicId([7; 32]), tally())], vec![kept()]),
        ),
        ("found", Answer::Found(vec![found], true, vec![kept()])),
    ])
}

fn today() -> BTreeMap<String, String> {
    let hex = |bytes: Vec<u8>| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    let asked = questions()
        .into_iter()
        .map(|(name, q)| (name, q.to_bytes()));
    let told = answers().into_iter().map(|(name, a)| (name, a.to_bytes()));
    asked
        .chain(told)
        .map(|(name, bytes)| (name.to_owned(), hex(bytes)))
        .collect()
}

fn frozen() -> BTreeMap<String, String> {
    let file = repository().join("tests/vectors/ask-1.json");
    if !file.exists() && std::env::var_os("AQUIFER_BLESS").is_some() {
        let text = serde_json::to_string_pretty(&today()).expect("JSON");
        std::fs::write(&file, text + "\n").expect("writes");
    }
    let text = std::fs::read_to_string(file).expect("the vectors are there");
    serde_json::from_str(&text).expect("the vectors are JSON")
}

fn bytes(name: &str) -> Vec<u8> {
    let text = &frozen()[name];
    let digit = |at| u8::from_str_radix(&text[at..at + 2], 16).expect("hexadecimal digits");
    (0..text.len()).step_by(2).map(digit).collect()
}

#[test]
fn todays_encoder_gives_the_frozen_bytes() {
    assert_eq!(today(), frozen());
}

#[test]
fn todays_decoder_reads_what_the_frozen_bytes_say() {
    for (name, question) in questions() {
        assert_eq!(Question::open(&bytes(name)), Ok(question), "{name}");
    }
    for (name, answer) in answers() {
        assert_eq!(Answer::open(&bytes(name)), Ok(answer), "{name}");
    }
}

#[test]
fn a_frozen_message_with_one_byte_more_or_less_is_no_message() {
    for name in questions().keys() {
        let whole = bytes(name);
        assert!(Question::open(&whole[..whole.len() - 1]).is_err(), "{name}");
        assert!(
            Question::open(&[&whole[..], &[0]].concat()).is_err(),
            "{name}"
        );
    }
}

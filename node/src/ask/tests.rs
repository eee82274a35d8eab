//! Questions and answers go there and back, and what strangers say breaks nothing.

use super::*;
use proptest::prelude::*;

fn sought() -> Sought {
    Sought {
        topics: vec![TopicId([7; 32])],
        terms: vec!["databas".into(), "port".into()],
        vector: Some(Vector {
            embedder: "hash-256/1".into(),
            values: vec![1, 255, 0].into(),
        }),
        tags: vec!["ops".into()],
        since_ms: Some(5),
        ..Sought::default()
    }
}

#[test]
fn messages_come_back_as_they_were() {
    let best = Best {
        mode: 0,
        tally: Tally {
            documents: 9,
            length: 90,
            terms: vec![1, 2],
        },
        limit: 8,
        skip: 0,
    };
    for question in [
        Question::Ping(7),
        Question::Peers,
        Question::Count(sought()),
        Question::Search(sought(), best),
    ] {
        assert_eq!(Question::open(&question.to_bytes()), Ok(question));
    }
    let answer = Answer::Refused("region".into(), "not here".into());
    assert_eq!(Answer::open(&answer.to_bytes()), Ok(answer));
}

#[test]
fn what_a_later_version_asks_is_told_apart_from_rubbish() {
    assert_eq!(
        Question::open(&[0x82, 2, 0x80]),
        Err(OpenMessage::Version(2))
    );
    let later = [0x82, 1, 0x82, 0x18, 99, 0x80];
    assert_eq!(Question::open(&later), Err(OpenMessage::Unknown(99)));
    for rubbish in [&b""[..], b"\x82\x01", b"hello", &[0xff; 40]] {
        assert_eq!(Question::open(rubbish), Err(OpenMessage::Malformed));
    }
    let mut trailing = Question::Ping(7).to_bytes();
    trailing.push(0);
    assert_eq!(Question::open(&trailing), Err(OpenMessage::Malformed));
}

#[test]
fn bounds_hold_at_the_door() {
    let mut many = sought();
    many.topics = vec![TopicId([1; 32]); TOPICS_PER_QUESTION_MAX + 1];
    let bytes = Question::Count(many).to_bytes();
    assert_eq!(Question::open(&bytes), Err(OpenMessage::Malformed));
    let mut long = sought();
    long.terms = vec!["x".repeat(TERM_BYTES_MAX + 1)];
    let bytes = Question::Count(long).to_bytes();
    assert_eq!(Question::open(&bytes), Err(OpenMessage::Malformed));
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), at in 0..60usize, byte in any::<u8>()) {
        let _ = Question::open(&bytes);
        let _ = Answer::open(&bytes);
        let mut near = Question::Count(sought()).to_bytes();
        let at = at % near.len();
        near[at] = byte;
        if let Ok(question) = Question::open(&near) {
            prop_assert_eq!(question.to_bytes(), near);
        }
    }
}

//! Garbage: real frames of every type, changed at random, by the ten thousand (I6, I7).

use crate::hive::*;
use aquifer_protocol::identity::Seed;
use aquifer_protocol::receipt::{Held, Receipts};
use aquifer_protocol::riblt::{Sketch, SumKey};
use aquifer_protocol::sync::{GAUGES, Gauge};
use aquifer_protocol::wire::{CodedWant, Item, Proof, Told, Want};
use aquifer_protocol::{Event, Input, LogId, Message, Policy, RecordId, Stamp};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};

/// Changed frames per type of message.
const FRAMES: u32 = 10_000;

/// A node and a liar that may write, and one honest frame of every type that it may send.
fn frames() -> (Hive, Index, Vec<Message>) {
    let mut hive = Hive::of(&["eu"], "notes", Policy::open());
    let liar = hive.puppet("eu");
    hive.connects(0, liar);
    hive.introduces(liar, 0);
    for n in 0..5 {
        hive.remembers(0, "notes", &format!("memory {n}"));
    }
    let topic = hive.topic("notes");
    let (key, state) = hive.logs(0, "notes")[0];
    let first = hive.signs_text(liar, Place::first(topic, 1), "a");
    let second = hive.signs_text(liar, Place::after(&first), "b");
    let other = hive.signs_text(liar, Place::first(topic, 2), "c");
    let fork = hive.signs_text(liar, Place::first(topic, 2), "d");
    let proof = Proof::new(&other, &fork).expect("two at one place");
    let items = (0..3)
        .map(|log| Item {
            writer: key.writer,
            log: LogId(log),
            height: 4,
            tip: RecordId([1; 32]),
            fork: None,
        })
        .collect();
    let cells = Sketch::of(SumKey([5; 32]), [(1, 77), (2, 78)])
        .cells(8)
        .to_vec();
    let wants = vec![
        Want {
            writer: key.writer,
            log: key.log,
            from: 0,
            until: 5
        };
        3
    ];
    let held = vec![Held {
        key,
        height: state.height,
        tip: state.tip,
    }];
    let messages = vec![
        Message::Summary {
            topic,
            digest: [3; 16],
            logs: 4,
            clock: Stamp::at(hive.now),
        },
        Message::Items {
            topic,
            items,
            whole: true,
        },
        Message::Cells {
            topic,
            nonce: 5,
            start: 0,
            gauge: Some(Box::new(Gauge([1; GAUGES]))),
            cells,
        },
        Message::MoreCells {
            topic,
            nonce: 5,
            start: 32,
            count: 8,
        },
        Message::WantItems {
            topic,
            nonce: 5,
            hashes: vec![1, 2, 3 << 40],
        },
        Message::Wants { topic, wants },
        Message::Records {
            topic,
            runs: vec![vec![first, second]],
        },
        Message::Receipts(Receipts::sign(&hive.nodes[liar].keys, held)),
        Message::Proofs {
            topic,
            proofs: vec![proof],
        },
        Message::Agreed {
            topic,
            digest: [3; 16],
        },
        Message::WantCoded {
            topic,
            nonce: 5,
            wants: vec![CodedWant {
                short: 1,
                from: 0,
                until: 500,
            }],
        },
        Message::Told {
            topic,
            nonce: 5,
            told: vec![Told {
                short: 1,
                height: 500,
            }],
        },
        Message::MoreWaits,
        Message::GoOn,
    ];
    (hive, liar, messages)
}

/// One to four changes: a flipped bit, another byte, a number at its end, a cut, a piece put in.
fn change(rng: &mut ChaCha8Rng, bytes: &mut Vec<u8>) {
    for _ in 0..rng.next_u32() % 4 + 1 {
        if bytes.is_empty() {
            return;
        }
        let at = rng.next_u32() as usize % bytes.len();
        match rng.next_u32() % 6 {
            0 => bytes[at] ^= 1 << (rng.next_u32() % 8),
            1 => bytes[at] = rng.next_u32() as u8,
            2 => bytes.truncate(at),
            3 => bytes.insert(
                at,
                [0x1b, 0x5b, 0x9b, 0x9f, 0xff, 0xf6][rng.next_u32() as usize % 6],
            ),
            4 => {
                let end = (at + 9).min(bytes.len());
                bytes[at..end].fill(0xff);
                bytes[at] = 0x1b;
            }
            _ => {
                let piece = bytes[at..(at + 40).min(bytes.len())].to_vec();
                let to = rng.next_u32() as usize % bytes.len();
                bytes.splice(to..to, piece);
            }
        }
    }
}

#[test]
fn ten_thousand_changed_frames_of_every_type_end_in_an_answer_and_leave_nothing() {
    let (mut hive, liar, messages) = frames();
    let from = hive.nodes[liar].keys.node();
    let mut rng = ChaCha8Rng::from_seed(Seed::from_number(3).0);
    let whole: Vec<Vec<u8>> = messages.iter().map(Message::to_bytes).collect();
    for bytes in &whole {
        let again = Message::open(bytes).map(|message| message.to_bytes());
        assert_eq!(again.as_ref(), Ok(bytes), "the seed of the storm is honest");
    }
    let before = format!("{:?}", hive.replica(0)).len();
    let mut bad = 0;
    for bytes in &whole {
        for _ in 0..FRAMES / 250 {
            let storm = (0..250).map(|_| {
                let mut bytes = bytes.clone();
                change(&mut rng, &mut bytes);
                Input::Frame {
                    from,
                    bytes: bytes.into(),
                }
            });
            let storm = storm.collect();
            hive.beats(0, storm);
            hive.settles();
            let told = hive.events(0);
            bad += told
                .iter()
                .filter(|e| matches!(e, Event::BadFrame { .. }))
                .count();
        }
    }
    let good = whole.len() * FRAMES as usize - bad;
    println!(
        "{} changed frames: {bad} refused at the door, {good} still a message",
        bad + good
    );
    assert!(
        good > 1_000,
        "some must pass the door to try what is behind it"
    );
    assert!(bad > 10_000);
    hive.nodes[liar].heard.clear();
    hive.rounds(3);
    let after = format!("{:?}", hive.replica(0)).len();
    println!("state before and after, as text: {before} and {after} B");
    assert!(
        after < before + 200_000,
        "{before} B of state became {after} B"
    );
    let id = hive.remembers(0, "notes", "written afterwards");
    let friend = hive.adds("eu");
    hive.connects(0, friend);
    hive.rounds(2);
    hive.agree("notes", &[0, friend]);
    assert!(hive.text(friend, id).is_some());
}

/// I7: lengths that lie are caught before anything is allocated for them.
#[test]
fn a_frame_that_promises_more_than_it_holds_is_refused() {
    let (_, _, messages) = frames();
    for message in &messages {
        let bytes = message.to_bytes();
        for at in 0..bytes.len() {
            assert!(
                Message::open(&bytes[..at]).is_err(),
                "cut at {at}: {message:?}"
            );
            let mut longer = bytes.clone();
            longer.insert(at, 0);
            let _ = Message::open(&longer);
            for head in [0x5b, 0x7b, 0x9b, 0xbb] {
                let mut lie = bytes[..at].to_vec();
                lie.push(head);
                lie.extend([0x00, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
                // Inside a digest it is a digest still; nowhere is it believed.
                let open = Message::open(&lie);
                assert!(
                    open.is_err() || at + 9 == bytes.len(),
                    "a lie at {at}: {message:?}"
                );
            }
        }
        let mut more = bytes;
        more.push(0);
        assert!(
            Message::open(&more).is_err(),
            "a byte too many: {message:?}"
        );
    }
    let oversize = vec![0x83; aquifer_protocol::limits::FRAME_BYTES_MAX + 1];
    assert!(Message::open(&oversize).is_err());
}

/// T6: a tower of arrays, which a decoder must not climb by calling itself.
#[test]
fn a_frame_nested_without_end_overflows_nothing() {
    for kind in 1..=16u8 {
        for opening in [0x81, 0x9f, 0xa1, 0xbf, 0xd8] {
            let mut bytes = vec![0x84, 1, kind];
            bytes.resize(aquifer_protocol::limits::FRAME_BYTES_MAX, opening);
            let _ = Message::open(&bytes);
        }
    }
}

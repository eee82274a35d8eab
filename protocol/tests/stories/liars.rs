//! Liars: members that say what an honest node never says. Nothing they say ends the process, makes
//! it grow without bound, or takes what the law does not give them (I3, I4, I6, I7, I13).

use crate::hive::*;

use aquifer_protocol::receipt::{Held, Receipts};
use aquifer_protocol::wire::{CodedWant, Item, Proof, Told, Want};
use aquifer_protocol::{Event, LogId, Message, NodeId, Policy, Record, RecordId, Stamp, TopicId};

/// One node with a topic and three memories, and a liar in `region` that it is connected to.
fn with_liar(region: &str, policy: Policy) -> (Hive, Index, TopicId) {
    let mut hive = Hive::of(&["eu"], "notes", policy);
    let liar = hive.puppet(region);
    hive.connects(0, liar);
    hive.introduces(liar, 0);
    for n in 0..3 {
        hive.remembers(0, "notes", &format!("memory {n}"));
    }
    hive.nodes[liar].heard.clear();
    hive.events(0);
    let topic = hive.topic("notes");
    (hive, liar, topic)
}

fn honest_work_goes_on(hive: &mut Hive) {
    let id = hive.remembers(0, "notes", "written afterwards");
    let friend = hive.adds("eu");
    hive.connects(0, friend);
    hive.rounds(3);
    hive.agree("notes", &[0, friend]);
    assert!(hive.text(friend, id).is_some());
}

fn item(writer: NodeId, log: u64, height: u64, fork: Option<u64>) -> Item {
    Item {
        writer,
        log: LogId(log),
        height,
        tip: RecordId([9; 32]),
        fork,
    }
}

fn items(topic: TopicId, items: Vec<Item>) -> Message {
    Message::Items {
        topic,
        items,
        whole: false,
    }
}

/// I3: every message about a topic that a member in another region can send gets a denial that is
/// counted, and not one record, item or cell.
#[test]
fn an_outsider_gets_no_record_whatever_it_asks_and_each_try_is_counted() {
    let (mut hive, liar, topic) = with_liar("us", within(&["eu"]));
    let (key, state) = hive.logs(0, "notes")[0];
    let (digest, logs) = hive.summary(0, "notes");
    let clock = Stamp::at(hive.now);
    let want = Want {
        writer: key.writer,
        log: key.log,
        from: 0,
        until: state.height,
    };
    let mine = hive.signs_text(liar, Place::first(topic, 1), "smuggled");
    let again = hive.signs_text(liar, Place::first(topic, 1), "smuggled twice");
    let proof = Proof::new(&mine, &again).expect("two at one place");
    let hashes = vec![aquifer_protocol::sync::short_hash(&key, 5)];
    let asks = [
        Message::Summary {
            topic,
            digest: [0; 16],
            logs: 900,
            clock,
        },
        Message::Summary {
            topic,
            digest: [0; 16],
            logs: 0,
            clock,
        },
        Message::Summary {
            topic,
            digest,
            logs,
            clock,
        },
        Message::Items {
            topic,
            items: vec![],
            whole: true,
        },
        Message::Cells {
            topic,
            nonce: 5,
            start: 0,
            gauge: None,
            cells: vec![],
        },
        Message::MoreCells {
            topic,
            nonce: 5,
            start: 0,
            count: 8,
        },
        Message::MoreCells {
            topic,
            nonce: 5,
            start: u64::MAX,
            count: 8,
        },
        Message::WantItems {
            topic,
            nonce: 5,
            hashes: hashes.clone(),
        },
        Message::Wants {
            topic,
            wants: vec![want],
        },
        Message::WantCoded {
            topic,
            nonce: 5,
            wants: vec![CodedWant {
                short: hashes[0],
                from: 0,
                until: state.height,
            }],
        },
        Message::Told {
            topic,
            nonce: 5,
            told: vec![Told {
                short: hashes[0],
                height: 9,
            }],
        },
        records(topic, vec![mine]),
        Message::Agreed { topic, digest },
        Message::Proofs {
            topic,
            proofs: vec![proof],
        },
    ];
    for ask in asks {
        hive.says(liar, 0, ask.clone());
        let told = hive.events(0);
        let denied = |e: &&Event| matches!(e, Event::Denied { topic: of, .. } if *of == topic);
        assert_eq!(told.iter().filter(denied).count(), 1, "{ask:?}: {told:?}");
        assert_eq!(hive.nodes[liar].heard, [], "after {ask:?}");
    }
    hive.rounds(3);
    let about = |m: &&Message| format!("{m:?}").contains(&format!("{topic:?}"));
    let heard = &hive.nodes[liar].heard;
    assert_eq!(heard.iter().filter(about).count(), 0, "{heard:?}");
    assert_eq!(hive.logs(0, "notes").len(), 1, "and it wrote nothing");
}

#[test]
fn a_message_of_a_later_version_is_passed_over() {
    let (mut hive, liar, _) = with_liar("eu", Policy::open());
    for kind in 16..=255u8 {
        let bytes = vec![0x83, 1, 0x18, kind, 0];
        let bytes = if kind < 24 {
            vec![0x83, 1, kind, 0]
        } else {
            bytes
        };
        hive.sends_bytes(liar, 0, bytes);
    }
    assert!(hive.events(0).is_empty() && hive.nodes[liar].heard.is_empty());
    hive.sends_bytes(liar, 0, vec![0x83, 2, 1, 0]);
    assert!(
        matches!(hive.events(0)[..], [Event::BadFrame { .. }]),
        "another wire version is told"
    );
    honest_work_goes_on(&mut hive);
}

/// Heights, forks and places at the end of the numbers.
#[test]
fn items_with_the_highest_heights_end_nothing() {
    let (mut hive, liar, topic) = with_liar("eu", Policy::open());
    let (key, state) = hive.logs(0, "notes")[0];
    for height in [u64::MAX, u64::MAX - 1, state.height] {
        let lie = Item {
            height,
            ..item(key.writer, key.log.0, 0, None)
        };
        hive.says(liar, 0, items(topic, vec![lie]));
    }
    honest_work_goes_on(&mut hive);
}

#[test]
fn items_with_the_highest_fork_end_nothing() {
    let (mut hive, liar, topic) = with_liar("eu", Policy::open());
    let (key, _) = hive.logs(0, "notes")[0];
    for (writer, log) in [(key.writer, key.log.0), (NodeId([5; 32]), 1)] {
        for height in [0, 3, u64::MAX] {
            hive.says(
                liar,
                0,
                items(topic, vec![item(writer, log, height, Some(u64::MAX))]),
            );
        }
    }
    honest_work_goes_on(&mut hive);
}

#[test]
fn a_record_at_the_last_place_of_a_log_ends_nothing() {
    let (mut hive, liar, topic) = with_liar("eu", Policy::open());
    let place = Place {
        seq: u64::MAX,
        ..Place::first(topic, 1)
    };
    let (one, other) = (
        hive.signs_text(liar, place, "one"),
        hive.signs_text(liar, place, "other"),
    );
    hive.says(liar, 0, records(topic, vec![one.clone()]));
    let proof = Proof::new(&one, &other).expect("two at one place");
    hive.says(
        liar,
        0,
        Message::Proofs {
            topic,
            proofs: vec![proof],
        },
    );
    // Coded cells, too, have a place for the fork.
    hive.says(
        liar,
        0,
        Message::MoreCells {
            topic,
            nonce: 1,
            start: 0,
            count: 8,
        },
    );
    hive.rounds(1);
    honest_work_goes_on(&mut hive);
}

#[test]
fn wants_without_sense_get_nothing() {
    let (mut hive, liar, topic) = with_liar("eu", Policy::open());
    let (key, _) = hive.logs(0, "notes")[0];
    let want = |from, until| Want {
        writer: key.writer,
        log: key.log,
        from,
        until,
    };
    let wants = vec![
        want(u64::MAX, 0),
        want(3, 1),
        want(u64::MAX, u64::MAX),
        want(3, u64::MAX),
    ];
    hive.says(liar, 0, Message::Wants { topic, wants });
    assert_eq!(hive.nodes[liar].heard, []);
    hive.says(
        liar,
        0,
        Message::Wants {
            topic,
            wants: vec![want(0, u64::MAX); 4_096],
        },
    );
    let Some(Message::Records { runs, .. }) = hive.nodes[liar].heard.first() else {
        panic!("{:?}", hive.nodes[liar].heard);
    };
    let served: usize = runs.iter().map(Vec::len).sum();
    assert!(served <= aquifer_protocol::limits::RECORDS_PER_MESSAGE_MAX);
}

/// I6: forks of logs that no member writes are nobody's business, and cost nothing.
#[test]
fn proofs_against_writers_that_nobody_certified_are_not_kept() {
    let (mut hive, liar, topic) = with_liar("eu", Policy::open());
    let before = hive.logs(0, "notes");
    let honest = hive.nodes[liar].keys.clone();
    for n in 0..50 {
        hive.nodes[liar].keys = Keys::from_secret(&[100 + n; 32]);
        let (one, other) = (
            stray(&hive, liar, topic, "one"),
            stray(&hive, liar, topic, "other"),
        );
        let proof = Proof::new(&one, &other).expect("two at one place");
        hive.nodes[liar].keys = honest.clone();
        hive.says(
            liar,
            0,
            Message::Proofs {
                topic,
                proofs: vec![proof],
            },
        );
    }
    assert_eq!(hive.logs(0, "notes"), before);
}

/// A record signed by whatever key the puppet has now.
fn stray(hive: &Hive, liar: Index, topic: TopicId, text: &str) -> Record {
    let like = hive.signs_text(liar, Place::first(topic, 1), text);
    let mut header = like.header().clone();
    header.writer = hive.nodes[liar].keys.node();
    Record::author(
        &hive.nodes[liar].keys,
        header,
        [3; 16],
        &like.body().expect("there"),
    )
    .expect("short")
}

/// A proof is judged by the topic of its records, not by the one that its message names.
#[test]
fn a_proof_for_a_topic_that_the_sender_may_not_have_is_not_taken() {
    let (mut hive, liar, topic) = with_liar("us", within(&["eu"]));
    hive.founds(0, "open", Policy::open());
    let (one, other) = (
        hive.signs_text(liar, Place::first(topic, 1), "one"),
        hive.signs_text(liar, Place::first(topic, 1), "other"),
    );
    let proofs = vec![Proof::new(&one, &other).expect("two at one place")];
    let open = hive.topic("open");
    hive.says(
        liar,
        0,
        Message::Proofs {
            topic: open,
            proofs,
        },
    );
    assert_eq!(hive.logs(0, "notes").len(), 1);
}

/// I6: what a peer claims to have costs no more than what it may claim at once.
#[test]
fn a_flood_of_logs_that_do_not_exist_is_forgotten() {
    let (mut hive, liar, topic) = with_liar("eu", Policy::open());
    let size = |hive: &Hive| format!("{:?}", hive.replica(0)).len();
    let before = size(&hive);
    let flood = |hive: &mut Hive, messages: u64| {
        for n in 0..messages {
            let lies = (0..1_000)
                .map(|i| item(NodeId([7; 32]), n * 1_000 + i, 9, None))
                .collect();
            hive.says(liar, 0, items(topic, lies));
        }
    };
    flood(&mut hive, 10);
    let ten = size(&hive) - before;
    flood(&mut hive, 90);
    let hundred = size(&hive) - before;
    println!("state that 10 and 100 messages of 1,000 false items leave: {ten} and {hundred}");
    hive.nodes[liar].heard.clear();
    hive.rounds(2);
    assert!(size(&hive) < before + ten, "it is forgotten");
    assert!(hundred < 5 * ten, "100,000 claims are kept at once");
}

/// A peer that says "your own log is longer than you think" must not make us open a log per word.
#[test]
fn a_liar_about_our_own_log_does_not_make_us_open_ever_more() {
    let (mut hive, liar, topic) = with_liar("eu", Policy::open());
    for n in 0..100 {
        let own = hive.logs(0, "notes");
        let newest = own.last().expect("one at least").0;
        let lies = own
            .iter()
            .map(|(key, _)| item(key.writer, key.log.0, 1_000, None))
            .collect();
        hive.says(liar, 0, items(topic, lies));
        hive.remembers(0, "notes", &format!("after lie {n} about {newest:?}"));
    }
    let logs = hive.logs(0, "notes").len();
    assert!(logs < 20, "{logs} logs after 100 lies");
}

/// I3, T16: what is missing here is asked of those who may have it, and of nobody else.
#[test]
fn a_missing_body_is_not_asked_of_an_outsider() {
    let (mut hive, insider, topic) = with_liar("eu", within(&["eu"]));
    let outsider = hive.puppet("us");
    let record = hive
        .signs_text(insider, Place::first(topic, 1), "withheld")
        .without_body();
    hive.says(insider, 0, records(topic, vec![record]));
    hive.connects(0, outsider);
    hive.rounds(20);
    let asked = |hive: &Hive, i: Index| {
        let heard = hive.nodes[i].heard.iter();
        heard
            .filter(|m| matches!(m, Message::Wants { topic: of, .. } if *of == topic))
            .count()
    };
    assert!(asked(&hive, insider) > 0, "it is missed");
    assert_eq!(asked(&hive, outsider), 0);
}

/// A body that another signed, a header that another wrote, a topic that is another's (T1, T2).
#[test]
fn what_is_signed_for_one_place_is_good_at_no_other() {
    let (mut hive, liar, topic) = with_liar("eu", Policy::open());
    hive.founds(0, "other", Policy::open());
    let elsewhere = hive.topic("other");
    let before = format!("{:?}", (hive.logs(0, "notes"), hive.logs(0, "other")));
    let good = hive.signs_text(liar, Place::first(topic, 1), "good");
    let mut forged = good.header().clone();
    forged.topic = elsewhere;
    let body = good.body().expect("there");
    // In another's name: signed by the liar, said to be by node 0.
    forged.writer = hive.nodes[0].keys.node();
    let stolen = Record::author(&hive.nodes[liar].keys, forged, [1; 16], &body).expect("short");
    let message = Message::Records {
        topic: elsewhere,
        runs: vec![vec![stolen]],
    };
    hive.sends_bytes(liar, 0, message.to_bytes());
    // The same bytes under another topic's name.
    let replayed = Message::Records {
        topic: elsewhere,
        runs: vec![vec![good]],
    };
    hive.sends_bytes(liar, 0, replayed.to_bytes());
    let bad = hive
        .events(0)
        .iter()
        .filter(|e| matches!(e, Event::BadFrame { .. }))
        .count();
    assert_eq!(bad, 2);
    assert_eq!(
        format!("{:?}", (hive.logs(0, "notes"), hive.logs(0, "other"))),
        before
    );
}

/// A receipt in another's name is no receipt, and a flood of good ones leaves nothing behind.
#[test]
fn receipts_that_nobody_waits_for_leave_nothing() {
    let (mut hive, liar, _) = with_liar("eu", Policy::open());
    let (key, state) = hive.logs(0, "notes")[0];
    let before = format!("{:?}", hive.replica(0)).len();
    let held = vec![
        Held {
            key,
            height: state.height,
            tip: state.tip
        };
        4_096
    ];
    for _ in 0..10 {
        let receipts = Receipts::sign(&hive.nodes[liar].keys, held.clone());
        hive.says(liar, 0, Message::Receipts(receipts));
    }
    assert_eq!(format!("{:?}", hive.replica(0)).len(), before);
}

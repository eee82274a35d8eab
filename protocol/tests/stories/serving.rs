//! Serving: how records go to a peer that wants many.

use crate::hive::*;
use aquifer_protocol::limits::{RECORDS_AHEAD, TEXT_BYTES_MAX};
use aquifer_protocol::wire::Want;
use aquifer_protocol::{Message, Policy};

fn is_records(message: &Message) -> bool {
    matches!(message, Message::Records { .. })
}

/// A peer that does not say that it holds what came is sent a few messages and no more; one that does
/// gets everything that it asked for once, in order, without asking again.
#[test]
fn a_long_log_is_sent_a_few_messages_ahead_of_what_the_peer_holds() {
    let mut hive = Hive::of(&["eu"], "notes", Policy::open());
    for i in 0..150 {
        hive.remembers(0, "notes", &format!("{i:0>TEXT_BYTES_MAX$}"));
    }
    let reader = hive.puppet("eu");
    hive.connects(0, reader);
    hive.introduces(reader, 0);
    hive.nodes[reader].heard.clear();
    let (key, state) = hive.logs(0, "notes")[0];
    let want = Want {
        writer: key.writer,
        log: key.log,
        from: 0,
        until: u64::MAX,
    };
    let (topic, wants) = (hive.topic("notes"), vec![want]);
    hive.says(reader, 0, Message::Wants { topic, wants });
    let sent = hive.nodes[reader].heard.iter();
    assert_eq!(sent.filter(|m| is_records(m)).count(), RECORDS_AHEAD);
    let mut turns = 0;
    while hive.nodes[reader].heard.contains(&Message::MoreWaits) {
        let heard = &mut hive.nodes[reader].heard;
        let at = heard.iter().position(|m| *m == Message::MoreWaits);
        heard.remove(at.expect("just seen"));
        hive.says(reader, 0, Message::GoOn);
        turns += 1;
        assert!(turns < 100, "it ends");
    }
    let mut next = 0;
    for message in &hive.nodes[reader].heard {
        if let Message::Records { runs, .. } = message {
            for record in runs.iter().flatten() {
                assert_eq!(record.header().seq, next);
                next += 1;
            }
        }
    }
    assert_eq!(next, state.height);
}

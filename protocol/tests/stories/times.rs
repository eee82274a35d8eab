//! Times: stamps of the future, clocks that are wrong (I9).

use crate::hive::*;
use aquifer_protocol::event::{Refusal, RejectRecord};
use aquifer_protocol::limits::FUTURE_MAX;
use aquifer_protocol::{Durability, Event, Message, Policy, Reply, Stamp, Time, TopicName, Wake};
use core::time::Duration;

const MINUTE: Duration = Duration::from_secs(60);

/// Two nodes, and a puppet whose certificate both know.
fn with_writer() -> (Hive, Index) {
    let mut hive = Hive::of(&["eu", "eu"], "notes", Policy::open());
    let writer = hive.puppet("eu");
    hive.connects(0, writer);
    hive.introduces(writer, 0);
    hive.rounds(2);
    hive.events(0);
    (hive, writer)
}

#[test]
fn a_record_from_the_future_is_parked_and_applied_when_its_time_comes() {
    let (mut hive, writer) = with_writer();
    let topic = hive.topic("notes");
    let stamp = Stamp::at(hive.now + 5 * MINUTE);
    let early = hive.signs_text(writer, Place::first(topic, 1).at(stamp), "tomorrow's news");
    hive.says(writer, 0, records(topic, vec![early.clone()]));
    let told = hive.events(0);
    let until = told.iter().find_map(|event| match event {
        Event::Rejected {
            why: RejectRecord::Future { until },
            ..
        } => Some(*until),
        _ => None,
    });
    let until = until.expect("it says until when");
    assert!(hive.text(0, early.id()).is_none());
    let wakes: Vec<_> = hive.replica(0).next_deadline().into_iter().collect();
    assert!(wakes.iter().all(|(at, _)| *at <= until), "{wakes:?}");
    hive.passes(3 * MINUTE);
    assert!(
        hive.text(0, early.id()).is_none(),
        "it never wins before its time"
    );
    let wake = hive.replica(0).next_deadline().expect("there is one");
    assert!(wake.0 <= until || wake.1 != Wake::Parked);
    hive.passes(2 * MINUTE);
    assert_eq!(hive.text(0, early.id()).as_deref(), Some("tomorrow's news"));
    hive.rounds(2);
    hive.agree("notes", &[0, 1]);
}

/// The limit is in milliseconds and time in microseconds: a stamp in the limit's own millisecond.
#[test]
fn a_stamp_just_past_the_limit_is_parked_like_any_other() {
    let (mut hive, writer) = with_writer();
    let topic = hive.topic("notes");
    hive.passes(Duration::from_micros(500));
    let limit = Stamp::at(hive.now + FUTURE_MAX);
    let stamp = Stamp::from_bits(limit.bits() + 1);
    let early = hive.signs_text(writer, Place::first(topic, 1).at(stamp), "a tick too early");
    hive.says(writer, 0, records(topic, vec![early.clone()]));
    assert!(hive.text(0, early.id()).is_none());
    hive.passes(SECOND);
    assert!(hive.text(0, early.id()).is_some());
}

#[test]
fn a_stamp_at_the_end_of_time_does_nothing_and_drags_no_clock() {
    let (mut hive, writer) = with_writer();
    let topic = hive.topic("notes");
    let years = Stamp::at(hive.now + Duration::from_secs(10 * 365 * 86_400));
    for (log, stamp) in [(1, years), (2, Stamp::from_bits(u64::MAX))] {
        let lie = hive.signs_text(writer, Place::first(topic, log).at(stamp), "wins for ever?");
        hive.says(writer, 0, records(topic, vec![lie]));
    }
    hive.rounds(10);
    assert!(hive.texts(0, "notes").is_empty());
    let id = hive.remembers(0, "notes", "written at the right time");
    let written = hive.records(0, "notes").into_iter().find(|r| r.id() == id);
    let stamp = written.expect("there").header().stamp;
    assert!(stamp.time() <= hive.now + FUTURE_MAX, "{stamp}");
}

#[test]
fn a_node_whose_clock_is_ahead_writes_nothing_until_it_is_right() {
    let mut hive = Hive::default();
    let nodes = [hive.adds("eu"), hive.adds("eu"), hive.adds("eu")];
    hive.founds(0, "notes", Policy::open());
    hive.connects(0, 1);
    hive.connects(1, 2);
    hive.connects(0, 2);
    hive.rounds(2);
    hive.nodes[2].ahead = 5 * MINUTE;
    hive.rounds(4);
    let command = hive.write(2, "notes", vec![], Durability::Local);
    let id = hive.commands(2, command);
    let refused = hive.reply(2, id).expect("answered").clone();
    let Reply::Refused(Refusal::ClockAhead { ahead }) = refused else {
        panic!("{refused:?}");
    };
    assert!(ahead >= 4 * MINUTE && ahead <= 6 * MINUTE, "{ahead:?}");
    let skewed = |e: &Event| matches!(e, Event::ClockSkew { .. });
    assert!(
        nodes
            .iter()
            .all(|i| hive.nodes[*i].events.iter().any(skewed))
    );
    hive.remembers(0, "notes", "the others write on");
    hive.passes(5 * MINUTE);
    hive.nodes[2].ahead = Duration::ZERO;
    hive.passes(5 * MINUTE);
    hive.rounds(4);
    hive.remembers(2, "notes", "set right");
    hive.agree("notes", &nodes);
}

#[test]
fn one_liar_about_the_time_among_two_peers_stops_no_writes() {
    let (mut hive, writer) = with_writer();
    let topic = TopicName::hive().id(&hive.id());
    let clock = Stamp::at(Time::ZERO);
    let lie = Message::Summary {
        topic,
        digest: [0; 16],
        logs: 0,
        clock,
    };
    hive.says(writer, 0, lie);
    hive.remembers(0, "notes", "written all the same");
}

/// A clock that was ahead before a restart: the log is not continued with a stamp in the past, and
/// no write waits for the time to come.
#[test]
fn a_node_that_wrote_in_the_future_goes_on_in_a_new_log() {
    let mut hive = Hive::of(&["eu", "eu"], "notes", Policy::open());
    hive.disconnects(0, 1);
    hive.nodes[0].ahead = 60 * MINUTE;
    hive.remembers(0, "notes", "written with a clock that was wrong");
    let store = hive.stops(0);
    hive.nodes[0].ahead = Duration::ZERO;
    hive.starts(0, store, 77);
    hive.remembers(0, "notes", "written with a clock that is right");
    hive.connects(0, 1);
    hive.rounds(2);
    let right = "written with a clock that is right".to_owned();
    assert!(hive.texts(1, "notes").contains(&right));
    hive.passes(60 * MINUTE);
    hive.rounds(2);
    hive.agree("notes", &[0, 1]);
    assert_eq!(hive.texts(1, "notes").len(), 2);
}

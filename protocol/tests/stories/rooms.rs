//! Room: a disk that is full, and a disk that never gives back what it was given (T30, I18).

use crate::hive::*;
use aquifer_protocol::body::Memory;
use aquifer_protocol::event::RejectRecord;
use aquifer_protocol::{Body, Denial, Event, Input, MemStore, Policy, Refusal, Reply};

impl Hive {
    fn runs_full(&mut self, i: Index, full: bool) {
        self.beats(i, vec![Input::Room { full }]);
        self.settles();
    }

    fn refused(&mut self, i: Index, topic: &str, text: &str) -> Refusal {
        match self.tries(i, topic, vec![Body::Memory(Memory::of(text))]) {
            Reply::Refused(why) => why,
            other => panic!("it was not refused: {other:?}"),
        }
    }
}

#[test]
fn a_full_node_takes_nothing_new_still_forgets_and_catches_up_when_there_is_room() {
    let mut hive = Hive::of(&["eu", "eu"], "notes", Policy::open());
    let secret = hive.remembers(1, "notes", "a secret");
    hive.rounds(1);
    hive.runs_full(1, true);
    assert_eq!(hive.refused(1, "notes", "no room"), Refusal::DiskFull);
    assert_eq!(hive.text(1, secret).as_deref(), Some("a secret"));
    hive.erases(1, secret);
    assert_eq!(hive.text(0, secret), None, "forgetting works, and spreads");
    hive.events(1);
    let id = hive.remembers(0, "notes", "written elsewhere");
    hive.carried = Traffic::default();
    hive.rounds(3);
    assert_eq!(hive.text(1, id), None);
    assert!(hive.events(1).iter().any(|event| matches!(
        event,
        Event::Rejected {
            why: RejectRecord::NoRoom,
            ..
        }
    )));
    assert_eq!(
        hive.carried.count_of("Wants"),
        0,
        "it does not ask for what it cannot keep"
    );
    hive.runs_full(1, false);
    hive.rounds(1);
    assert_eq!(hive.text(1, id).as_deref(), Some("written elsewhere"));
    hive.remembers(1, "notes", "and writes on");
    hive.rounds(1);
    hive.agree("notes", &[0, 1]);
}

/// The law and erasures are small, and without them a full node would go on showing what it must not.
#[test]
fn a_full_node_still_hears_of_laws_and_erasures() {
    let mut hive = Hive::of(&["eu", "us"], "notes", Policy::open());
    let id = hive.remembers(0, "notes", "to be erased");
    hive.remembers(0, "notes", "to be withdrawn");
    hive.rounds(1);
    hive.runs_full(1, true);
    hive.erases(0, id);
    assert_eq!(hive.text(1, id), None);
    hive.amends(0, "notes", within(&["eu"]));
    hive.rounds(1);
    assert!(hive.texts(1, "notes").is_empty());
}

#[test]
fn a_store_that_gives_no_bytes_back_holds_open_topics_only() {
    let mut hive = Hive::of(&["eu", "eu"], "open", Policy::open());
    let sticky = hive.adds("eu");
    hive.stops(sticky);
    hive.starts_on(sticky, MemStore::default(), 9, false);
    hive.connects(0, sticky);
    hive.founds(0, "kept/in", within(&["eu"]));
    let mut fleeting = Policy::open();
    fleeting.location.retention = Some(3_600);
    hive.founds(0, "fleeting", fleeting);
    for topic in ["open", "kept/in", "fleeting"] {
        hive.remembers(0, topic, topic);
    }
    hive.rounds(2);
    hive.agree("open", &[0, sticky]);
    for topic in ["kept/in", "fleeting"] {
        let id = hive.topic(topic);
        let denial = Denial::Engine { topic: name(topic) };
        assert_eq!(hive.replica(sticky).may_hold(id), Err(denial.clone()));
        assert!(hive.records(sticky, topic).is_empty(), "{topic}");
        let refused = hive.refused(sticky, topic, "from here");
        assert_eq!(refused, Refusal::Denied(denial));
    }
    // It governs like any other: a law is not the data it is about.
    hive.founds(sticky, "elsewhere", within(&["eu"]));
    // And a topic that becomes restricted leaves it.
    hive.amends(0, "open", within(&["eu"]));
    hive.rounds(1);
    assert!(hive.records(sticky, "open").is_empty());
    assert!(hive.events(sticky).iter().any(|event| matches!(
        event,
        Event::Withdrawn {
            denial: Denial::Engine { .. },
            ..
        }
    )));
}

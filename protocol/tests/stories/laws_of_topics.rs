//! Laws of topics: how they spread, meet and narrow, and what they do to data (I3).

use crate::hive::*;
use aquifer_protocol::event::Refusal;
use aquifer_protocol::{Denial, Event, Input, Policy, Reply, TopicName};
use std::collections::BTreeSet;

/// A node that hears of a topic's data before it knows the topic's law says nothing and keeps
/// nothing; once the law is there, the data follows by itself.
#[test]
fn data_waits_for_its_law() {
    let mut hive = Hive::default();
    let (a, b) = (hive.adds("eu"), hive.adds("eu"));
    let early = hive.puppet("eu");
    hive.founds(a, "notes", Policy::open());
    hive.remembers(a, "notes", "lawful");
    let topic = hive.topic("notes");
    let record = hive.records(a, "notes")[0].clone();
    hive.connects(early, b);
    hive.nodes[early].heard.clear();
    let (digest, logs) = hive.summary(a, "notes");
    let clock = aquifer_protocol::Stamp::at(hive.now);
    hive.says(
        early,
        b,
        aquifer_protocol::Message::Summary {
            topic,
            digest,
            logs,
            clock,
        },
    );
    hive.says(early, b, records(topic, vec![record]));
    assert!(
        hive.nodes[early].heard.is_empty(),
        "{:?}",
        hive.nodes[early].heard
    );
    assert!(hive.logs(b, "notes").is_empty());
    hive.connects(a, b);
    hive.rounds(1);
    hive.agree("notes", &[a, b]);
    assert!(hive.texts(b, "notes").contains("lawful"));
}

#[test]
fn three_founders_that_had_not_met_narrow_each_other() {
    let mut hive = Hive::default();
    let nodes = [hive.adds("eu"), hive.adds("eu/fr"), hive.adds("us")];
    let policies = [
        within(&["eu", "us"]),
        within(&["eu", "ap"]),
        within(&["eu/fr", "us", "eu/de"]),
    ];
    for (i, policy) in nodes.iter().zip(policies) {
        hive.founds(*i, "notes", policy);
        hive.remembers(*i, "notes", &format!("by {i}"));
        hive.passes(SECOND);
    }
    for (a, b) in [(0, 1), (1, 2), (0, 2)] {
        hive.connects(a, b);
    }
    hive.rounds(4);
    for i in nodes {
        let law = hive
            .replica(i)
            .law()
            .named(&name("notes"))
            .expect("known")
            .clone();
        let allowed = law.policy().location.allowed_regions.to_string();
        assert_eq!(allowed, "[eu/de, eu/fr]", "node {i}");
        assert_eq!(law.founders.len(), 3);
    }
    assert_eq!(
        hive.texts(0, "notes"),
        BTreeSet::new(),
        "eu itself is no longer allowed"
    );
    assert_eq!(hive.texts(2, "notes"), BTreeSet::new());
    assert!(hive.texts(1, "notes").contains("by 1"));
}

/// Nodes whose policies all let all of them in keep every memory, whatever law it was written under.
#[test]
fn what_two_founders_wrote_before_they_met_is_kept_where_both_allow_it() {
    let mut hive = Hive::default();
    let nodes = [hive.adds("eu"), hive.adds("us")];
    for (i, regions) in [(0, ["eu", "us", "ap"]), (1, ["eu", "us", "af"])] {
        hive.founds(i, "notes", within(&regions));
        hive.remembers(i, "notes", &format!("by {i}"));
        hive.passes(SECOND);
    }
    hive.connects(0, 1);
    hive.rounds(4);
    hive.agree("notes", &nodes);
    assert_eq!(hive.texts(0, "notes").len(), 2);
}

/// A policy of a topic above, made before all else and heard of last, counts before what was written
/// meanwhile: epochs mean other laws than they did. What some law lets its writer write stays, also
/// where the one in force does not.
#[test]
fn what_any_law_allowed_stays_when_an_older_policy_turns_up() {
    let mut hive = Hive::default();
    let (far, us, eu) = (hive.adds("eu"), hive.adds("us"), hive.adds("eu"));
    hive.founds(far, "org", within(&["eu"]));
    hive.passes(SECOND);
    hive.amends(far, "org", within(&["eu", "us"]));
    hive.passes(SECOND);
    hive.connects(us, eu);
    hive.founds(us, "org/notes", Policy::open());
    hive.remembers(us, "org/notes", "a canary");
    hive.rounds(1);
    hive.amends(far, "org", within(&["eu"]));
    hive.connects(far, eu);
    hive.rounds(2);
    hive.agree("org/notes", &[far, eu]);
    assert!(hive.texts(far, "org/notes").contains("a canary"));
    assert_eq!(hive.logs(us, "org/notes"), [], "the law now excludes it");
}

/// Where no law ever let its writer write a record, it is out again on all who had it, and they agree
/// with those who never took it.
#[test]
fn what_no_law_allowed_is_out_when_an_older_policy_turns_up() {
    let mut hive = Hive::default();
    let (far, us, eu) = (hive.adds("eu"), hive.adds("us"), hive.adds("eu"));
    hive.founds(far, "org", within(&["eu"]));
    hive.passes(SECOND);
    hive.connects(us, eu);
    hive.founds(us, "org/notes", Policy::open());
    let id = hive.remembers(us, "org/notes", "a canary");
    hive.remembers(eu, "org/notes", "lawful");
    hive.rounds(1);
    assert!(hive.text(eu, id).is_some());
    hive.events(eu);
    hive.connects(far, eu);
    hive.rounds(2);
    let outlawed =
        |event: &Event| matches!(event, Event::Outlawed { from: 0, ids, .. } if *ids == [id]);
    assert_eq!(
        1,
        hive.events(eu)
            .iter()
            .filter(|event| outlawed(event))
            .count()
    );
    hive.agree("org/notes", &[far, eu]);
    assert_eq!(
        hive.texts(far, "org/notes"),
        BTreeSet::from(["lawful".into()])
    );
    assert_eq!(hive.logs(us, "org/notes"), []);
    hive.remembers(eu, "org/notes", "and on it goes");
    hive.rounds(1);
    hive.agree("org/notes", &[far, eu]);
    hive.restarts(eu, |_| {});
    hive.agree("org/notes", &[far, eu]);
}

/// Two policies that come in one message: what the second allows is not gone because of the first.
#[test]
fn a_law_that_is_replaced_in_the_beat_in_which_it_comes_takes_nothing() {
    let mut hive = Hive::default();
    let (far, us) = (hive.adds("eu"), hive.adds("us"));
    hive.founds(far, "org", within(&["eu"]));
    hive.passes(SECOND);
    hive.amends(far, "org", within(&["eu", "us"]));
    hive.passes(SECOND);
    hive.founds(us, "org/notes", Policy::open());
    hive.remembers(us, "org/notes", "a canary");
    hive.events(us);
    hive.connects(far, us);
    hive.rounds(2);
    let gone = |event: &Event| matches!(event, Event::Withdrawn { .. } | Event::Outlawed { .. });
    let events = hive.events(us);
    assert!(!events.iter().any(gone), "{events:?}");
    hive.agree("org/notes", &[far, us]);
    assert!(hive.texts(far, "org/notes").contains("a canary"));
}

/// A writer whose logs are all shortened by a late law writes what is still lawful once more, in a log
/// that nobody has seen.
#[test]
fn own_logs_that_a_late_law_shortens_are_written_anew_in_none_of_them() {
    let mut hive = Hive::default();
    let (far, near, peer) = (hive.adds("eu"), hive.adds("eu"), hive.adds("eu"));
    let mut short = Policy::open();
    short.body_bytes_max = 1_000;
    hive.founds(far, "org", short);
    hive.passes(SECOND);
    hive.connects(near, peer);
    hive.founds(near, "org/notes", Policy::open());
    let long = "long ".repeat(400);
    for life in 0..2 {
        hive.remembers(near, "org/notes", &format!("first of {life}"));
        hive.remembers(near, "org/notes", &format!("{life} {long}"));
        hive.remembers(near, "org/notes", &format!("last of {life}"));
        hive.rounds(1);
        // A restart on a disk that has forgotten which log is its own: it opens another.
        let before = hive.logs(near, "org/notes").len();
        hive.restarts(near, |store| {
            let mut batch = aquifer_protocol::Batch::default();
            batch.remove(aquifer_protocol::Table::Meta, &b"log"[..]);
            aquifer_protocol::Store::apply(store, batch).expect("memory");
        });
        assert_eq!(life + 1, before);
    }
    hive.rounds(2);
    hive.connects(far, near);
    hive.connects(far, peer);
    hive.rounds(4);
    hive.agree("org/notes", &[far, near, peer]);
    let kept = hive.texts(far, "org/notes");
    for life in 0..2 {
        for part in ["first", "last"] {
            assert!(kept.contains(&format!("{part} of {life}")), "{kept:?}");
        }
    }
    assert_eq!(4, kept.len(), "{kept:?}");
    let forks = hive.logs(near, "org/notes");
    assert!(
        forks.iter().all(|(_, state)| state.fork.is_none()),
        "{forks:?}"
    );
}

#[test]
fn a_law_that_narrows_takes_the_data_from_those_it_excludes() {
    let mut hive = Hive::of(&["eu", "us", "eu/fr"], "notes", within(&["eu", "us"]));
    let id = hive.remembers(1, "notes", "a canary");
    hive.rounds(1);
    assert!((0..3).all(|i| hive.text(i, id).is_some()));
    hive.amends(0, "notes", within(&["eu"]));
    hive.rounds(2);
    assert_eq!(hive.logs(1, "notes"), []);
    let left = format!("{:?}", hive.replica(1).store());
    assert!(!left.contains("a canary"), "a byte of it is left");
    assert!(
        format!("{:?}", hive.replica(0).store()).contains("a canary"),
        "a control"
    );
    let told = hive.events(1);
    let gone = |e: &Event| {
        matches!(
            e,
            Event::Withdrawn {
                denial: Denial::Region { .. },
                ..
            }
        )
    };
    assert_eq!(told.iter().filter(|e| gone(e)).count(), 1);
    let reply = hive.tries(1, "notes", vec![]);
    assert!(
        matches!(
            reply,
            Reply::Refused(Refusal::Denied(Denial::Region { .. }))
        ),
        "{reply:?}"
    );
    for i in [0, 2] {
        assert_eq!(
            hive.text(i, id).as_deref(),
            Some("a canary"),
            "node {i} keeps it"
        );
    }
    hive.amends(0, "notes", within(&["eu", "us"]));
    hive.rounds(2);
    hive.agree("notes", &[0, 1, 2]);
    hive.remembers(1, "notes", "back again");
    hive.rounds(1);
    hive.agree("notes", &[0, 1, 2]);
    assert!(
        hive.logs(0, "notes")
            .iter()
            .all(|(_, state)| state.fork.is_none())
    );
}

#[test]
fn a_parents_law_narrows_its_children_and_a_child_may_not_widen_it() {
    let mut hive = Hive::of(&["eu", "us"], "org", within(&["eu", "us"]));
    hive.founds(0, "org/hr", within(&["eu", "us"]));
    hive.remembers(0, "org/hr", "salaries");
    hive.rounds(1);
    assert_eq!(hive.texts(1, "org/hr").len(), 1);
    hive.amends(0, "org", within(&["eu"]));
    hive.rounds(1);
    assert_eq!(
        hive.logs(1, "org/hr"),
        [],
        "the child's data goes with its parent's law"
    );
    let command = aquifer_protocol::Command::Govern {
        topic: name("org/wide"),
        policy: Policy::open(),
        expect: aquifer_protocol::Expect::New,
    };
    let id = hive.commands(0, command);
    let reply = hive.reply(0, id).expect("answered");
    assert!(
        matches!(
            reply,
            Reply::Refused(Refusal::Denied(Denial::Widens { .. }))
        ),
        "{reply:?}"
    );
}

#[test]
fn a_body_past_its_retention_is_gone_on_every_node_and_nobody_asks_for_it() {
    let mut policy = Policy::open();
    policy.location.retention = Some(3_600);
    let mut hive = Hive::of(&["eu", "eu"], "notes", policy);
    let old = hive.remembers(0, "notes", "old");
    hive.rounds(1);
    hive.passes(1_800 * SECOND);
    let young = hive.remembers(1, "notes", "young");
    hive.passes(1_800 * SECOND);
    hive.passes(30 * SECOND);
    for i in 0..2 {
        assert_eq!(hive.text(i, old), None, "node {i}");
        assert_eq!(hive.text(i, young).as_deref(), Some("young"));
    }
    let newcomer = hive.adds("eu");
    hive.connects(0, newcomer);
    hive.rounds(2);
    hive.carried = Traffic::default();
    hive.rounds(5);
    assert_eq!(hive.carried.count_of("Wants"), 0);
    hive.agree("notes", &[0, 1, newcomer]);
}

/// A policy that lets nobody leave its home keeps the topic inside, whoever else is a member.
#[test]
fn a_topic_that_may_not_cross_its_border_stays_at_home() {
    let mut policy = Policy::open();
    policy.location.cross_border_allowed = false;
    let mut hive = Hive::of(&["eu/de", "us", "eu/fr"], "notes", policy);
    hive.remembers(0, "notes", "at home");
    hive.rounds(2);
    assert_eq!(hive.texts(2, "notes").len(), 1);
    assert_eq!(hive.logs(1, "notes"), []);
}

/// The hive's own topic reaches a member in any region, and a policy for it is refused.
#[test]
fn nobody_governs_the_hives_own_topic() {
    let mut hive = Hive::of(&["eu", "us"], "notes", within(&["eu"]));
    hive.agree(TopicName::hive().as_str(), &[0, 1]);
    for topic in ["aquifer/hive", "aquifer/x", "aquifer"] {
        let command = aquifer_protocol::Command::Govern {
            topic: name(topic),
            policy: within(&[]),
            expect: aquifer_protocol::Expect::New,
        };
        let id = hive.commands(0, command);
        let reply = hive.reply(0, id).expect("answered");
        assert!(
            matches!(
                reply,
                Reply::Refused(Refusal::Denied(Denial::Reserved { .. }))
            ),
            "{reply:?}"
        );
    }
}

/// I3: what was asked for under one law and leaves under the next, in one beat, leaves by the next.
#[test]
fn an_answer_and_a_law_in_one_beat_go_by_the_law() {
    for narrows in [false, true] {
        let mut hive = Hive::of(&["eu"], "notes", Policy::open());
        let reader = hive.puppet("us");
        hive.connects(0, reader);
        hive.introduces(reader, 0);
        hive.remembers(0, "notes", "for whoever may have it");
        hive.nodes[reader].heard.clear();
        let topic = hive.topic("notes");
        let (key, state) = hive.logs(0, "notes")[0];
        let want = aquifer_protocol::wire::Want {
            writer: key.writer,
            log: key.log,
            from: 0,
            until: state.height,
        };
        let from = hive.nodes[reader].keys.node();
        let wants = vec![want];
        let message = aquifer_protocol::Message::Wants { topic, wants };
        let mut inputs = vec![Input::Message { from, message }];
        if narrows {
            let command = aquifer_protocol::Command::Govern {
                topic: name("notes"),
                policy: within(&["eu"]),
                expect: aquifer_protocol::Expect::Known,
            };
            let id = aquifer_protocol::event::CommandId(9_999);
            inputs.push(Input::Command { id, command });
        }
        hive.beats(0, inputs);
        hive.settles();
        let told = hive.nodes[reader].heard.iter().any(|message| {
            matches!(message, aquifer_protocol::Message::Records { topic: of, .. } if *of == topic)
        });
        assert_eq!(!narrows, told, "narrows: {narrows}");
    }
}

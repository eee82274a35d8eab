//! Powers: what a member's certificate and a founder's word are good for, and no further (I3, I13).

use crate::hive::*;
use aquifer_protocol::body::{Body, Founding};
use aquifer_protocol::event::RejectRecord;
use aquifer_protocol::{Denial, Event, Policy, TopicName};

/// I13: a certificate for some topics gives no power over others, not even the power to narrow.
#[test]
fn a_member_of_one_topic_founds_no_other() {
    let mut hive = Hive::of(&["eu", "eu"], "hr", Policy::open());
    let id = hive.remembers(0, "hr", "salaries");
    hive.rounds(1);
    let liar = hive.puppet_with("eu", |grant| grant.topics = Some(vec![name("lunch")]));
    hive.connects(0, liar);
    let topic = TopicName::hive().id(&hive.id());
    let hello = hive.signs(
        liar,
        Place::first(topic, 0),
        &Body::Manifest(hive.manifest(liar)),
    );
    let founding = Founding {
        topic: name("hr"),
        version: 1,
        replaces: None,
        policy: within(&[]),
    };
    let coup = hive.signs(liar, Place::after(&hello), &Body::Founding(founding));
    hive.says(liar, 0, records(topic, vec![hello, coup.clone()]));
    hive.rounds(2);
    assert!(
        (0..2).all(|i| hive.text(i, id).is_some()),
        "the coup emptied the topic"
    );
    let told = hive.events(0);
    let refused = |e: &Event| match e {
        Event::Rejected { id, why, .. } => {
            *id == coup.id() && matches!(why, RejectRecord::Denied(Denial::Scope { .. }))
        }
        _ => false,
    };
    assert!(told.iter().any(refused), "{told:?}");
}

/// A founder that lies about its own law: once the wider of its policies is proved forked, who held
/// by it holds no more.
#[test]
fn a_widening_that_is_cut_off_as_forked_takes_the_data_back() {
    let mut hive = Hive::default();
    let (eu, us) = (hive.adds("eu"), hive.adds("us"));
    let founder = hive.puppet("eu");
    hive.connects(eu, us);
    hive.connects(eu, founder);
    let topic = TopicName::hive().id(&hive.id());
    let law = |version, policy| {
        Body::Founding(Founding {
            topic: name("notes"),
            version,
            replaces: None,
            policy,
        })
    };
    let hello = hive.signs(
        founder,
        Place::first(topic, 0),
        &Body::Manifest(hive.manifest(founder)),
    );
    let narrow = hive.signs(founder, Place::after(&hello), &law(1, within(&["eu"])));
    let wide = hive.signs(
        founder,
        Place::after(&narrow),
        &law(2, within(&["eu", "us"])),
    );
    let other = hive.signs(
        founder,
        Place::after(&narrow),
        &law(2, within(&["eu", "ap"])),
    );
    hive.says(founder, eu, records(topic, vec![hello, narrow, wide]));
    hive.rounds(2);
    hive.remembers(eu, "notes", "a canary");
    hive.rounds(1);
    assert_eq!(hive.texts(us, "notes").len(), 1);
    hive.says(founder, eu, records(topic, vec![other]));
    hive.rounds(3);
    let law = hive
        .replica(us)
        .law()
        .named(&name("notes"))
        .expect("known")
        .clone();
    assert_eq!(law.policy().location.allowed_regions.to_string(), "[eu]");
    assert_eq!(hive.logs(us, "notes"), []);
    assert_eq!(hive.texts(eu, "notes").len(), 1);
}

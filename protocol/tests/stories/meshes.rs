//! Meshes: news travels by region, crosses once, and goes nowhere that the law does not let it.

use crate::forgery::records;
use crate::hive::*;
use aquifer_protocol::body::Memory;
use aquifer_protocol::{Body, Durability, Grant, Input, Message, Policy, TopicName};
use core::time::Duration;

/// A hive whose nodes are connected in a line.
fn line(regions: &[&str], policy: Policy) -> Hive {
    let mut hive = Hive::default();
    for region in regions {
        hive.adds(region);
    }
    hive.founds(0, "notes", policy);
    for i in 1..regions.len() {
        hive.connects(i - 1, i);
    }
    hive.rounds(4);
    hive.carried = Traffic::default();
    hive
}

fn knows(hive: &Hive, node: Index, text: &str) -> bool {
    hive.texts(node, "notes").iter().any(|known| known == text)
}

/// I16: the writer need not be connected to everyone, and nobody waits for a round of sync.
#[test]
fn news_reaches_all_of_a_region_from_neighbour_to_neighbour() {
    let mut hive = line(&["eu", "eu/fr", "eu/de", "eu"], within(&["eu"]));
    hive.remembers(0, "notes", "hear this");
    assert!((0..4).all(|i| knows(&hive, i, "hear this")));
    assert_eq!(hive.carried.count_of("Records"), 0, "nothing was pushed");
    assert_eq!(hive.carried.gossip, 3, "once over every link");
    hive.agree("notes", &[0, 1, 2, 3]);
}

/// I3: the mesh of `eu` has members that the law of this topic excludes, so it travels in none of it.
#[test]
fn a_topic_of_two_countries_travels_in_each_and_over_a_bridge() {
    let regions = ["eu/fr", "eu/fr", "eu/de", "eu/de", "eu/es"];
    let mut hive = Hive::of(&regions, "notes", within(&["eu/fr", "eu/de"]));
    let spy = hive.puppet("eu/es");
    (0..4).for_each(|i| hive.connects(spy, i));
    hive.nodes[spy].heard.clear();
    hive.carried = Traffic::default();
    hive.remembers(0, "notes", "between friends");
    assert!((0..4).all(|i| knows(&hive, i, "between friends")));
    assert!(hive.texts(4, "notes").is_empty());
    let topic = format!("{:?}", hive.topic("notes"));
    let about = |m: &&Message| format!("{m:?}").contains(&topic);
    assert_eq!(hive.nodes[spy].heard.iter().filter(about).count(), 0);
    assert_eq!(hive.carried.count_of("Records"), 1, "it crossed once");
}

#[test]
fn news_crosses_once_between_each_pair_of_regions() {
    let regions = ["eu", "eu", "eu", "us", "us", "us", "ap", "ap", "ap"];
    let mut hive = Hive::of(&regions, "notes", Policy::open());
    for writer in [0, 4, 8] {
        hive.carried = Traffic::default();
        let text = format!("from {writer}");
        hive.remembers(writer, "notes", &text);
        assert!((0..9).all(|i| knows(&hive, i, &text)), "without a round");
        assert_eq!(hive.carried.count_of("Records"), 2, "one for each sea");
        hive.passes(Duration::from_secs(1));
        assert_eq!(hive.carried.count_of("Records"), 2, "nor later");
    }
    hive.agree("notes", &[0, 1, 2, 3, 4, 5, 6, 7, 8]);
}

/// The first bridge has lost the other side, and does not know it is the only one to have done so.
#[test]
fn where_the_first_bridge_fails_the_second_sees_to_it() {
    let regions = ["eu", "eu", "eu", "us", "us"];
    for lost in 0..3 {
        let mut hive = Hive::of(&regions, "notes", Policy::open());
        for far in [3, 4] {
            hive.disconnects(lost, far);
        }
        hive.remembers(lost, "notes", "by whatever way");
        hive.passes(Duration::from_secs(1));
        assert!((0..5).all(|i| knows(&hive, i, "by whatever way")), "{lost}");
    }
}

/// I3: a member says in a wider mesh what may not be heard there. It ends at the first honest node.
#[test]
fn what_is_said_in_the_wrong_mesh_goes_nowhere() {
    let regions = ["eu/fr", "eu/fr", "eu/es"];
    let mut hive = Hive::of(&regions, "notes", within(&["eu/fr"]));
    let liar = hive.puppet("eu/fr");
    hive.connects(liar, 0);
    hive.introduces(liar, 0);
    hive.rounds(1);
    let spy = hive.puppet("eu/es");
    hive.connects(spy, 0);
    let topic = hive.topic("notes");
    let record = hive.signs_text(liar, Place::first(topic, 1), "a secret of France");
    let said = || records(topic, vec![record.clone()]);
    hive.nodes[spy].heard.clear();
    hive.gossips(liar, 0, "eu", said());
    let about = |m: &&Message| format!("{m:?}").contains("a secret of France");
    assert_eq!(hive.nodes[spy].heard.iter().filter(about).count(), 0);
    assert!(!knows(&hive, 0, "a secret of France"), "nor is it kept");
    hive.gossips(liar, 0, "eu/fr", said());
    assert!(
        (0..2).all(|i| knows(&hive, i, "a secret of France")),
        "in its mesh it is"
    );
    assert_eq!(hive.nodes[spy].heard.iter().filter(about).count(), 0);
}

#[test]
fn who_has_missed_something_passes_on_what_it_hears_and_fetches_the_rest() {
    let mut hive = line(&["eu", "eu", "eu"], within(&["eu"]));
    hive.disconnects(0, 1);
    hive.remembers(0, "notes", "first");
    hive.connects(0, 1);
    let again = |hive: &Hive| (1..3).all(|i| knows(hive, i, "first"));
    assert!(again(&hive), "sync sees to it at once");
    hive.remembers(0, "notes", "second");
    assert!((1..3).all(|i| knows(&hive, i, "second")));
    hive.agree("notes", &[0, 1, 2]);
}

/// Whoever passed a record on may lack what comes before it as much as we do. Its writer does not.
#[test]
fn what_is_missing_before_a_record_is_asked_of_its_writer() {
    let mut hive = Hive::of(&["eu"; 2], "notes", within(&["eu"]));
    let (writer, forwarder) = (hive.puppet("eu"), hive.puppet("eu"));
    for puppet in [writer, forwarder] {
        hive.connects(0, puppet);
        hive.introduces(puppet, 0);
    }
    let first = hive.signs_text(writer, Place::first(hive.topic("notes"), 1), "first");
    let second = hive.signs_text(writer, Place::after(&first), "second");
    hive.nodes[writer].heard.clear();
    hive.nodes[forwarder].heard.clear();
    hive.gossips(
        forwarder,
        0,
        "eu",
        records(hive.topic("notes"), vec![second]),
    );
    let asks = |i: Index| {
        let ask = |m: &&Message| matches!(m, Message::Wants { .. });
        hive.nodes[i].heard.iter().filter(ask).count()
    };
    assert_eq!((asks(writer), asks(forwarder)), (1, 0));
}

/// A promise that others kept holds nothing up: what was heard meanwhile is asked for all the same.
#[test]
fn what_came_another_way_than_promised_does_not_hold_up_the_rest() {
    let mut hive = Hive::of(&["eu"; 2], "notes", within(&["eu"]));
    let (writer, forwarder) = (hive.puppet("eu"), hive.puppet("eu"));
    for puppet in [writer, forwarder] {
        hive.connects(0, puppet);
        hive.introduces(puppet, 0);
    }
    let notes = hive.topic("notes");
    let mut log = vec![hive.signs_text(writer, Place::first(notes, 1), "0")];
    for number in 1..4 {
        let place = Place::after(&log[number - 1]);
        log.push(hive.signs_text(writer, place, &number.to_string()));
    }
    hive.nodes[writer].heard.clear();
    let asks = |hive: &Hive| {
        let ask = |m: &&Message| matches!(m, Message::Wants { .. });
        hive.nodes[writer].heard.iter().filter(ask).count()
    };
    let stretch = |from: usize, until: usize| records(notes, log[from..until].to_vec());
    hive.gossips(forwarder, 0, "eu", stretch(1, 2));
    hive.gossips(forwarder, 0, "eu", stretch(0, 2));
    hive.gossips(forwarder, 0, "eu", stretch(3, 4));
    assert_eq!(1, asks(&hive), "the writer has promised, and has time");
    hive.says(writer, 0, stretch(0, 2));
    assert_eq!(2, asks(&hive), "it has said all it was asked for");
}

/// What is too long for one message is said in a few.
#[test]
fn a_stretch_is_said_in_a_few_messages() {
    let mut hive = line(&["eu", "eu", "eu"], within(&["eu"]));
    let bodies = (0..20).map(|i| Body::Memory(Memory::of(format!("{i:04000}"))));
    hive.writes(0, "notes", bodies.collect());
    hive.agree("notes", &[0, 1, 2]);
    assert_eq!(hive.texts(2, "notes").len(), 20);
    assert_eq!(hive.carried.gossip, 6, "three messages over each link");
    assert_eq!(
        hive.carried.bytes_of(&["Wants"]),
        0,
        "and nothing is asked for"
    );
}

/// What is too long to be said is announced; who hears of it fetches it, and only then says it on.
#[test]
fn a_long_stretch_is_announced_and_pulled() {
    let mut hive = line(&["eu", "eu", "eu"], within(&["eu"]));
    let bodies = (0..40).map(|i| Body::Memory(Memory::of(format!("{i:04000}"))));
    hive.writes(0, "notes", bodies.collect());
    hive.agree("notes", &[0, 1, 2]);
    assert_eq!(hive.texts(2, "notes").len(), 40);
    assert_eq!(hive.carried.gossip, 2, "one announcement over each link");
    let once = 40 * 4_000..40 * 4_500;
    let bytes = hive.carried.bytes_of(&["Records"]);
    assert!(once.contains(&(bytes / 2)), "each pulled it once: {bytes}");
}

/// Whoever is certified for some topics only is in no mesh, since a mesh asks nobody; it is told.
#[test]
fn a_member_for_some_topics_takes_part_in_no_mesh_and_misses_nothing() {
    let mut hive = Hive::of(&["eu", "eu"], "notes", within(&["eu"]));
    let only = |grant: &mut Grant| grant.topics = Some(vec![name("notes")]);
    let narrow = hive.adds_with("eu", only);
    let spy = hive.puppet_with("eu", only);
    for i in [narrow, spy] {
        hive.connects(0, i);
        hive.connects(1, i);
    }
    hive.rounds(2);
    hive.founds(0, "other", within(&["eu"]));
    hive.nodes[spy].heard.clear();
    hive.remembers(1, "notes", "for both");
    hive.remembers(narrow, "notes", "from the third");
    hive.remembers(1, "other", "not for all");
    for text in ["for both", "from the third"] {
        assert!(
            [0, 1, narrow].iter().all(|i| knows(&hive, *i, text)),
            "{text}"
        );
    }
    let leaks = |m: &&Message| format!("{m:?}").contains("not for all");
    assert_eq!(hive.nodes[spy].heard.iter().filter(leaks).count(), 0);
}

/// I6, I7: whatever is said in a mesh is judged once, and what no honest node says is rejected.
#[test]
fn nonsense_in_a_mesh_is_judged_and_ends_there() {
    let mut hive = Hive::of(&["eu", "eu"], "notes", within(&["eu"]));
    let liar = hive.puppet("eu");
    hive.connects(liar, 0);
    hive.introduces(liar, 0);
    let before = hive.carried.gossip;
    let hive_topic = TopicName::hive().id(&hive.id());
    let nonsense = [
        Message::Wants {
            topic: hive_topic,
            wants: vec![],
        },
        Message::Records {
            topic: hive.topic("notes"),
            runs: vec![],
        },
        Message::Records {
            topic: hive.topic("unheard-of"),
            runs: vec![],
        },
        Message::MoreCells {
            topic: hive.topic("notes"),
            nonce: 1,
            start: 2,
            count: 1,
        },
    ];
    for message in nonsense {
        hive.gossips(liar, 0, "eu", message);
    }
    let mut bad = hive.signs_text(liar, Place::first(hive.topic("notes"), 1), "x");
    bad = hive.signs_text(liar, Place::after(&bad), "has no beginning");
    hive.gossips(liar, 0, "eu", records(hive.topic("notes"), vec![bad]));
    // Only the last may go on: it is ahead, and good for who has what comes before it.
    assert!(
        hive.carried.gossip - before <= 2,
        "{}",
        hive.carried.gossip - before
    );
    let node = hive.nodes[liar].keys.node();
    let garbage = Input::Gossip {
        mesh: "eu".parse().expect("legal"),
        from: node,
        ticket: aquifer_protocol::Ticket(u64::MAX),
        bytes: vec![0xff; 40].into(),
    };
    let mut replica = hive.nodes[0].replica.take().expect("it runs");
    replica.handle(hive.now, garbage);
    replica.commit().expect("memory does not fail");
    let mut out = core::iter::from_fn(|| replica.poll_output());
    assert!(out.any(|output| matches!(
        output,
        aquifer_protocol::Output::Verdict {
            verdict: aquifer_protocol::Verdict::Reject,
            ..
        }
    )));
}

/// A mesh forgets what it had. Whoever says old news again costs one message, and not one on every link.
#[test]
fn old_news_said_again_ends_with_whoever_knows_it() {
    let mut hive = line(&["eu", "eu", "eu", "eu"], within(&["eu"]));
    hive.remembers(0, "notes", "hear this");
    let topic = hive.topic("notes");
    let said = hive.records(0, "notes");
    let (key, state) = hive.logs(0, "notes")[0];
    let (items, whole) = (vec![aquifer_protocol::sync::item(&key, &state)], false);
    let news = [
        records(topic, said),
        Message::Items {
            topic,
            items,
            whole,
        },
    ];
    let again = |hive: &mut Hive| {
        hive.nodes.iter_mut().for_each(|node| node.seen.clear());
        hive.carried = Traffic::default();
        news.iter()
            .for_each(|said| hive.gossips(1, 2, "eu", said.clone()));
        hive.carried.gossip
    };
    hive.passes(Duration::from_secs(30));
    assert_eq!(again(&mut hive), 2, "others may not know it yet");
    hive.passes(Duration::from_secs(60));
    assert_eq!(again(&mut hive), 0);
    hive.remembers(3, "notes", "and this");
    assert!(knows(&hive, 0, "and this"));
}

/// I1: a receipt is asked for, of a few, and then of all; who is asked before it has the record
/// answers when it has.
#[test]
fn receipts_are_asked_of_a_few_first_and_of_all_when_that_is_not_enough() {
    let mut hive = Hive::of(&["eu"; 6], "notes", within(&["eu"]));
    hive.carried = Traffic::default();
    let quorum = Durability::Quorum {
        nodes: 2,
        patience: Duration::from_secs(9),
    };
    let command = hive.write(
        0,
        "notes",
        vec![Body::Memory(Memory::of("on two disks"))],
        quorum,
    );
    let id = hive.commands(0, command);
    assert!(hive.reply(0, id).is_some(), "met at once");
    assert_eq!(hive.carried.count_of("WantReceipts"), 4, "needed and two");
    hive.remembers(0, "notes", "durable here is enough");
    assert_eq!(hive.carried.count_of("WantReceipts"), 4, "nobody is asked");
    let silent = hive.puppet("eu");
    hive.connects(0, silent);
    hive.introduces(silent, 0);
    let all = Durability::Quorum {
        nodes: 7,
        patience: Duration::from_secs(9),
    };
    let command = hive.write(
        0,
        "notes",
        vec![Body::Memory(Memory::of("everywhere"))],
        all,
    );
    let id = hive.commands(0, command);
    let asks = |hive: &Hive| {
        let ask = |m: &&Message| matches!(m, Message::WantReceipts { .. });
        hive.nodes[silent].heard.iter().filter(ask).count()
    };
    assert_eq!((asks(&hive), hive.reply(0, id).is_some()), (1, false));
    hive.passes(Duration::from_secs(1));
    assert_eq!(asks(&hive), 2, "a request may be lost: it is asked again");
}

//! Nodes that ask each other, on loopback: swarm recall, its coverage, its law; ping, peers and graph.

use aquifer_node::Up;
use aquifer_node::api::{Coverage, Ping, PolicyView, Recall, Recalled};
use aquifer_node::ask::{Answer, Question, Sought};
use aquifer_node::driver::{Passing, Tap};
use aquifer_protocol::{NodeId, TopicId};
use aquifer_tests::fleet::{Fleet, Runner, files_with, until};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(5);

async fn creates(by: &Runner, topic: &str, policy: PolicyView) {
    by.memory()
        .topic_create(topic, policy)
        .await
        .expect("creates");
}

fn copies(regions: &[&str], copies: u16) -> PolicyView {
    PolicyView {
        allowed_regions: Some(regions.iter().map(|r| (*r).to_owned()).collect()),
        copies: Some(copies),
        ..PolicyView::default()
    }
}

async fn asks(node: &Runner, scope: &str, topic: &str, query: &str) -> Recalled {
    let asked = Recall {
        query: query.into(),
        topic: Some(topic.into()),
        scope: Some(scope.into()),
        wait_ms: Some(4_000),
        ..Recall::default()
    };
    node.memory().recall(asked).await.expect("recalls")
}

fn texts(recalled: &Recalled) -> Vec<&str> {
    let results = recalled.results.iter();
    results.map(|hit| hit.memory.text.as_str()).collect()
}

async fn id(node: &Runner) -> NodeId {
    let status = node.memory().status().await.expect("up");
    aquifer_node::names::parse_node(&status.node_id).expect("a node")
}

async fn topic_id(node: &Runner, topic: &str) -> TopicId {
    let shown = node.memory().topic(topic).await.expect("known");
    TopicId::from_hex(&shown.id).expect("an id")
}

/// Whom the law names to hold `topic`, by the names of a fleet.
async fn holders(by: &Runner, topic: &str) -> Vec<String> {
    let shown = by.memory().topic(topic).await.expect("known");
    shown
        .holders
        .into_iter()
        .map(|holder| holder.node)
        .collect()
}

/// Waits until `node` knows the topic's law and all of `members` are members to it.
async fn learns(node: &Runner, topic: &str, members: usize) {
    until(&format!("{} learns {topic}", node.name), || async {
        let peers = node.memory().peers().await.expect("up").len();
        node.memory().topic(topic).await.is_ok() && peers + 1 >= members
    })
    .await;
}

/// A node that may read a topic and does not hold it recalls it all the same, as one that holds it
/// does, and keeps nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_holds_nothing_recalls_what_the_holders_know_and_keeps_no_byte() {
    let fleet = Fleet::default();
    let a = fleet.founds("a", "eu").await;
    let mut nodes = vec![a];
    for name in ["b", "c", "d"] {
        let node = fleet.joins(name, &nodes[0], "eu").await;
        nodes.push(node);
    }
    for node in &nodes {
        node.meets(3).await;
    }
    creates(&nodes[0], "plans", copies(&["eu"], 1)).await;
    for node in &nodes {
        learns(node, "plans", 4).await;
        // Placement is a function of the members one has heard of.
        until("it places the topic as the first does", || async {
            holders(node, "plans").await == holders(&nodes[0], "plans").await
        })
        .await;
    }
    let canary = "the orchard is planted with quince";
    let said = [
        canary,
        "the harvest of pears is in autumn",
        "quince jam needs sugar",
    ];
    for text in said {
        nodes[0].remembers("plans", text).await;
    }
    let named = holders(&nodes[0], "plans").await;
    assert_eq!(named.len(), 1);
    // Neither the writer, who keeps what it wrote, nor the holder.
    let mut names = BTreeMap::new();
    for node in &nodes {
        names.insert(
            node.name.clone(),
            node.memory().status().await.expect("up").node_id,
        );
    }
    let is_reader = |node: &&Runner| node.name != "a" && names[&node.name] != named[0];
    let reader = nodes.iter().find(is_reader).expect("four nodes, two hold");
    if names["a"] != named[0] {
        let holder = nodes
            .iter()
            .find(|n| names[&n.name] == named[0])
            .expect("one");
        for text in said {
            holder.comes_to_recall("plans", text, text).await;
        }
    }
    let holder = nodes
        .iter()
        .find(|n| names[&n.name] == named[0])
        .expect("one");
    assert!(
        texts(&asks(reader, "local", "plans", "quince orchard").await).is_empty(),
        "the reader must hold nothing, or the test is void"
    );
    let far = asks(reader, "auto", "plans", "quince orchard").await;
    let near = asks(holder, "local", "plans", "quince orchard").await;
    assert_eq!(texts(&far), texts(&near));
    assert_eq!(texts(&far)[0], canary);
    for (far, near) in far.results.iter().zip(&near.results) {
        assert!((far.score - near.score).abs() < 1e-6, "{far:?} {near:?}");
        assert_eq!(far.memory.id, near.memory.id);
        assert_eq!(far.memory.author, near.memory.author);
        assert_eq!(far.memory.node, near.memory.node);
        assert_eq!(far.memory.created_at, near.memory.created_at);
    }
    assert_eq!((far.coverage.asked, far.coverage.answered), (2, 2));
    let newest = asks(reader, "auto", "plans", "").await;
    assert_eq!(
        texts(&newest),
        texts(&asks(holder, "local", "plans", "").await)
    );
    assert!(texts(&asks(reader, "local", "plans", "quince").await).is_empty());
    let (reader, holder) = (reader.name.clone(), holder.name.clone());
    for node in nodes {
        node.stops().await;
    }
    assert_eq!(files_with(&fleet.home(&reader), canary), 0);
    assert!(
        files_with(&fleet.home(&holder), canary) > 0,
        "the search must be able to find it"
    );
}

/// What does not fit one answer comes in several, and in the same order.
#[tokio::test(flavor = "multi_thread")]
async fn long_memories_come_in_several_answers() {
    let fleet = Fleet::default();
    let a = fleet.founds("a", "eu").await;
    let b = fleet.joins("b", &a, "eu").await;
    for node in [&a, &b] {
        node.meets(1).await;
    }
    // Until a has heard of b's membership it takes itself for the holder of everything.
    creates(&a, "everyone", PolicyView::default()).await;
    until("a knows both members", || async {
        holders(&a, "everyone").await.len() == 2
    })
    .await;
    // A topic that b may read and that a alone holds: of two nodes, the law names one.
    let mut topic = None;
    let a_name = a.memory().status().await.expect("up").node_id;
    for number in 0..64 {
        let name = format!("long-{number}");
        creates(&a, &name, copies(&["eu"], 1)).await;
        if holders(&a, &name).await == [a_name.clone()] {
            topic = Some(name);
            break;
        }
    }
    let topic = topic.expect("one of 64 topics falls to a");
    for number in 0..12 {
        let text = format!("orchard {number} {}", "quince pear ".repeat(3_500));
        a.remembers(&topic, &text).await;
    }
    learns(&b, &topic, 2).await;
    // Until it has heard of a's membership, b takes itself for the holder.
    until("b knows who holds it", || async {
        holders(&b, &topic).await == [a_name.clone()]
    })
    .await;
    let asked = |scope: &str| Recall {
        query: "quince".into(),
        topic: Some(topic.clone()),
        scope: Some(scope.into()),
        k: Some(12),
        wait_ms: Some(5_000),
        ..Recall::default()
    };
    let far = b.memory().recall(asked("auto")).await.expect("recalls");
    let near = a.memory().recall(asked("local")).await.expect("recalls");
    assert_eq!(near.results.len(), 12);
    assert_eq!(texts(&far), texts(&near));
    let bytes: usize = texts(&far).iter().map(|text| text.len()).sum();
    assert!(
        bytes > 256 * 1024,
        "it would fit one answer: the test is void"
    );
    assert!(far.coverage.missing.is_empty(), "{:?}", far.coverage);
}

/// A node that is down is missing and named, and the rest is an answer.
#[tokio::test(flavor = "multi_thread")]
async fn a_partial_answer_says_whom_it_lacks() {
    let fleet = Fleet::default();
    let a = fleet.founds("a", "eu").await;
    let b = fleet.joins("b", &a, "eu").await;
    let c = fleet.joins("c", &a, "eu").await;
    for node in [&a, &b, &c] {
        node.meets(2).await;
    }
    a.creates("team", &["eu"]).await;
    a.remembers("team", "the database port is 5433").await;
    for node in [&b, &c] {
        node.comes_to_recall("team", "port", "the database port is 5433")
            .await;
    }
    let all = asks(&b, "swarm", "team", "port").await;
    assert_eq!(
        all.coverage,
        Coverage {
            asked: 3,
            answered: 3,
            missing: vec![]
        }
    );
    assert_eq!(
        texts(&all),
        ["the database port is 5433"],
        "three copies are one memory"
    );
    let gone = c.memory().status().await.expect("up").node_id;
    c.stops().await;
    until("b sees that c is gone", || async {
        b.memory().status().await.is_ok_and(|s| s.peers.len() == 1)
    })
    .await;
    let part = asks(&b, "swarm", "team", "port").await;
    assert_eq!(texts(&part), ["the database port is 5433"]);
    assert_eq!((part.coverage.asked, part.coverage.answered), (3, 2));
    assert_eq!(part.coverage.missing[0].node.node, gone);
    assert_eq!(part.coverage.missing[0].why, "it is not connected");
    let refused = b
        .memory()
        .recall(Recall {
            scope: Some("galaxy".into()),
            ..Recall::default()
        })
        .await
        .expect_err("no such scope");
    assert_eq!((refused.code.as_str(), refused.exit), ("bad_scope", 2));
}

/// I3: the asked node judges the asker by its own law. A member in a region that the topic may not be
/// in gets the rule and not one byte, though it puts the question past its own law.
#[tokio::test(flavor = "multi_thread")]
async fn an_asker_outside_the_law_gets_the_rule_and_no_byte() {
    let canary = "canary-55d042b87f3a9c1e";
    let fleet = Fleet::default();
    let seen: Arc<Mutex<BTreeMap<NodeId, (usize, usize)>>> = Arc::default();
    let counts = seen.clone();
    let tap = Tap::new(move |passing, bytes| {
        let Passing::Sent { to } = passing else {
            return;
        };
        let holds = bytes
            .windows(canary.len())
            .any(|window| window == canary.as_bytes());
        let mut counts = counts.lock().unwrap();
        let (all, with) = counts.entry(*to).or_default();
        *all += 1;
        *with += usize::from(holds);
    });
    let up = Up {
        region: Some("eu".into()),
        tap: Some(tap),
        ..fleet.flags("a")
    };
    let a = fleet.starts("a", up).await.expect("founds");
    let b = fleet.joins("b", &a, "eu/fr").await;
    let c = fleet.joins("c", &a, "us").await;
    creates(&a, "hr", copies(&["eu"], 1)).await;
    a.remembers("hr", canary).await;
    for node in [&b, &c] {
        learns(node, "hr", 2).await;
    }
    let (a_id, b_id, c_id) = (id(&a).await, id(&b).await, id(&c).await);
    let topic = topic_id(&a, "hr").await;
    let sought = Sought {
        topics: vec![topic],
        terms: vec![],
        ..Sought::default()
    };
    let best = aquifer_node::ask::Best {
        mode: 0,
        tally: Default::default(),
        limit: 8,
        skip: 0,
    };
    let search = Question::Search(sought.clone(), best);
    let found = b.memory().put(a_id, &search, PATIENCE).await.expect("told");
    let Answer::Found(hits, false, kept) = found else {
        panic!("{found:?}")
    };
    assert!(kept.is_empty() && hits.len() == 1, "the positive control");
    for question in [search, Question::Count(sought)] {
        let answer = c
            .memory()
            .put(a_id, &question, PATIENCE)
            .await
            .expect("answers");
        let kept = match answer {
            Answer::Found(hits, false, kept) if hits.is_empty() => kept,
            Answer::Counted(counts, kept) if counts.is_empty() => kept,
            other => panic!("{other:?}"),
        };
        assert_eq!((kept[0].topic, kept[0].rule.as_str()), (topic, "region"));
        assert!(
            kept[0].reason.contains("allowed_regions"),
            "{}",
            kept[0].reason
        );
    }
    // Its own law refuses before anything is asked.
    let refused = c
        .tries_to_recall("hr", "canary")
        .await
        .expect_err("outside");
    assert_eq!((refused.code.as_str(), refused.exit), ("policy_refused", 6));
    let denials = a.memory().status().await.expect("up").denials;
    assert!(denials["region"] >= 2, "{denials:?}");
    c.stops().await;
    b.stops().await;
    let seen = seen.lock().unwrap();
    assert!(seen[&c_id].0 > 0 && seen[&c_id].1 == 0, "{seen:?}");
    assert!(seen[&b_id].1 > 0, "the tap must be able to see it");
    assert_eq!(files_with(&fleet.home("c"), canary), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn ping_peers_and_graph_know_every_node_and_link() {
    let fleet = Fleet::default();
    let a = fleet.founds("a", "eu").await;
    let b = fleet.joins("b", &a, "eu/fr").await;
    let c = fleet.joins("c", &a, "us").await;
    for node in [&a, &b, &c] {
        node.meets(2).await;
    }
    a.creates("team", &["eu"]).await;
    a.remembers("team", "hello").await;
    b.comes_to_recall("team", "hello", "hello").await;
    let ping = |node: &str| Ping {
        node: node.into(),
        count: Some(5),
        wait_ms: None,
    };
    let name = b.memory().status().await.expect("up").node_id;
    for called in [&name[..], &name[name.len() - 8..], "eu/fr"] {
        let pinged = a.memory().ping(ping(called)).await.expect(called);
        assert_eq!((&pinged.node, pinged.answered), (&name, 5));
        assert_eq!((&pinged.path[..], &pinged.region[..]), ("direct", "eu/fr"));
        assert!(pinged.min_ms <= pinged.avg_ms && pinged.avg_ms <= pinged.p99_ms);
        assert!(pinged.min_ms > 0.0, "{pinged:?}");
    }
    let unknown = a.memory().ping(ping("nobody99")).await.expect_err("nobody");
    assert_eq!(unknown.exit, 3);
    until("all agree", || async {
        let peers = a.memory().peers().await.expect("up");
        peers.iter().any(|p| p.node == name && p.agrees == ["team"])
    })
    .await;
    let peers = a.memory().peers().await.expect("up");
    let us = peers.iter().find(|peer| peer.region == "us").expect("c");
    assert!(
        us.up && us.relayed == Some(false) && us.agrees.is_empty(),
        "{us:?}"
    );
    assert!(us.roles.contains(&"pod-host".to_owned()), "{us:?}");
    let graph = a.memory().graph().await.expect("up");
    assert_eq!((graph.nodes.len(), graph.links.len()), (3, 3), "{graph:?}");
    assert_eq!((graph.asked, graph.answered), (3, 3));
    assert!(graph.nodes.iter().all(|node| node.up));
    let gone = c.memory().status().await.expect("up").node_id;
    c.stops().await;
    until("a sees that c is gone", || async {
        let peers = a.memory().peers().await.expect("up");
        peers
            .iter()
            .any(|peer| peer.node == gone && !peer.up && peer.last_seen.is_some())
    })
    .await;
    until("nobody is linked to it", || async {
        let graph = a.memory().graph().await.expect("up");
        let down = graph.nodes.iter().any(|node| node.node == gone && !node.up);
        down && graph.links.len() == 1
    })
    .await;
    let away = a.memory().ping(ping(&gone)).await.expect_err("away");
    assert_eq!((away.code.as_str(), away.exit), ("not_connected", 4));
}

/// Strangers and rubbish get nothing from the door that answers.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_question_is_refused_by_name() {
    let fleet = Fleet::default();
    let a = fleet.founds("a", "eu").await;
    let b = fleet.joins("b", &a, "eu").await;
    b.meets(1).await;
    let a_id = id(&a).await;
    let many = Sought {
        topics: vec![TopicId([1; 32]); 300],
        ..Sought::default()
    };
    let refused = b.memory().put(a_id, &Question::Count(many), PATIENCE).await;
    let refused = refused.expect_err("too many topics");
    assert_eq!(refused.code, "peer_refused");
    assert!(refused.message.contains("malformed"), "{}", refused.message);
    let answer = b.memory().put(a_id, &Question::Ping(9), PATIENCE).await;
    assert_eq!(answer, Ok(Answer::Pong(9)), "and goes on answering");
    let unknown = b
        .memory()
        .put(NodeId([9; 32]), &Question::Ping(9), PATIENCE)
        .await;
    assert_eq!(unknown.expect_err("nobody").code, "not_connected");
}

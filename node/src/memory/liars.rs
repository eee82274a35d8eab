//! Liars: a member of the hive that answers questions with what is not so. Its answers are taken apart
//! here, one lie at a time; a hit that is true comes through beside them.

use super::Memory;
use crate::api::{Invite, PolicyView, Recall, Remember};
use crate::ask::{Answer, Found, Question};
use crate::home::Home;
use crate::net::{CALLS_MAX, Callers, NetCommand};
use crate::{Node, Up, names, start};
use aquifer_protocol::{NodeId, RecordId};
use std::path::Path;
use std::time::Duration;
use tokio::sync::mpsc;

const PATIENCE: Duration = Duration::from_secs(30);

fn flags(home: &Path, name: &str) -> Up {
    Up {
        home: Some(Home::at(Some(home.join(name)))),
        api: Some("127.0.0.1:0".into()),
        listen: vec!["/ip4/127.0.0.1/udp/0/quic-v1".into()],
        no_mdns: true,
        ..Up::default()
    }
}

async fn until<F: Future<Output = bool>>(what: &str, condition: impl Fn() -> F) {
    let holds = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let waited = tokio::time::timeout(PATIENCE, holds).await;
    assert!(waited.is_ok(), "it never came true that {what}");
}

async fn node_id(memory: &Memory) -> NodeId {
    let status = memory.status().await.expect("up");
    names::parse_node(&status.node_id).expect("a node")
}

/// A founder that holds alone what the other node may read: two topics of one copy.
async fn two_nodes(home: &Path) -> (Node, Node, [String; 2]) {
    let up = Up {
        region: Some("eu".into()),
        ..flags(home, "a")
    };
    let a = start(up).await.expect("founds");
    let ticket = a.memory().invite(Invite::default()).await.expect("invites");
    let up = Up {
        ticket: Some(ticket.ticket),
        ..flags(home, "b")
    };
    let b = start(up).await.expect("joins");
    until("they meet", || async {
        b.memory()
            .peers()
            .await
            .is_ok_and(|peers| peers.iter().any(|peer| peer.up))
            && a.memory()
                .peers()
                .await
                .is_ok_and(|peers| !peers.is_empty())
    })
    .await;
    // Until a has heard of b's membership it takes itself for the holder of everything.
    a.memory()
        .topic_create("everyone", PolicyView::default())
        .await
        .expect("creates");
    until("a knows both members", || async {
        let shown = a.memory().topic("everyone").await;
        shown.is_ok_and(|topic| topic.holders.len() == 2)
    })
    .await;
    let me = names::node(&node_id(&a.memory()).await);
    let mut held = Vec::new();
    for number in 0..128 {
        let policy = PolicyView {
            copies: Some(1),
            ..PolicyView::default()
        };
        let name = format!("t{number}");
        let topic = a
            .memory()
            .topic_create(&name, policy)
            .await
            .expect("creates");
        if topic.holders.len() == 1 && topic.holders[0].node == me {
            held.push(name);
        }
        if held.len() == 2 {
            break;
        }
    }
    let topics: [String; 2] = held.try_into().expect("two of 128 topics fall to a");
    for (topic, text) in [
        (&topics[0], "quince grows in the orchard"),
        (&topics[0], "pears grow in the orchard"),
        (&topics[1], "quince of another topic"),
    ] {
        let asked = Remember {
            text: text.into(),
            topic: Some(topic.clone()),
            ..Remember::default()
        };
        a.memory().remember(asked).await.expect("remembers");
    }
    until("b knows the topics", || async {
        b.memory().topic(&topics[0]).await.is_ok() && b.memory().topic(&topics[1]).await.is_ok()
    })
    .await;
    (a, b, topics)
}

/// What becomes of the honest hits of an answer.
type Lie = fn(&mut Vec<Found>, &Found);

/// From now on `a` lies to whoever searches.
async fn lies(a: &Node, foreign: Found, lie: Lie) {
    let (node, mut called) = mpsc::channel(CALLS_MAX);
    let memory = a.memory();
    let command = NetCommand::AnswerCalls {
        of: Callers::Nodes,
        node,
    };
    memory.parts().net.send(command).await.expect("runs");
    // Commands are taken in order: once this is answered, nobody honest answers any more.
    memory.net().await.expect("runs");
    tokio::spawn(async move {
        while let Some(call) = called.recv().await {
            let from = NodeId(call.from);
            let mut answer = memory.answer(from, &call.request).await;
            match &mut answer {
                Answer::Found(hits, ..) => lie(hits, &foreign),
                Answer::Counted(counts, _) => {
                    for (_, tally) in counts {
                        (tally.documents, tally.length) = (u64::MAX, 0);
                        tally.terms.fill(u64::MAX);
                    }
                }
                _ => {}
            }
            let _ = call.reply.send(answer.to_bytes());
        }
    });
}

async fn recalls(b: &Node, topic: &str) -> Vec<String> {
    let asked = Recall {
        query: "quince orchard".into(),
        topic: Some(topic.into()),
        wait_ms: Some(5_000),
        ..Recall::default()
    };
    let found = b.memory().recall(asked).await.expect("recalls").results;
    for hit in &found {
        assert!((0.0..=1.0).contains(&hit.score), "{hit:?}");
    }
    found.into_iter().map(|hit| hit.memory.text).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_liar_says_counts_only_as_far_as_its_writer_signed_it() {
    let home = tempfile::tempdir().expect("a folder");
    let (a, b, topics) = two_nodes(home.path()).await;
    let honest = ["quince grows in the orchard", "pears grow in the orchard"];
    assert_eq!(
        recalls(&b, &topics[0]).await,
        honest,
        "the positive control"
    );
    let other = b.memory().topic(&topics[1]).await.expect("known");
    let sought = crate::ask::Sought {
        topics: vec![aquifer_protocol::TopicId::from_hex(&other.id).expect("an id")],
        ..Default::default()
    };
    let best = crate::ask::Best {
        mode: 0,
        tally: crate::ask::Tally::default(),
        limit: 8,
        skip: 0,
    };
    let (a_id, question) = (node_id(&a.memory()).await, Question::Search(sought, best));
    let answer = b.memory().put(a_id, &question, PATIENCE).await;
    let Ok(Answer::Found(foreign, ..)) = answer else {
        panic!("{answer:?}")
    };
    let cases: [(&str, Lie, &[&str]); 6] = [
        ("nothing", |_, _| {}, &honest),
        (
            "another text under a signed header",
            |hits, _| {
                let last = hits[0].shown.body.len() - 1;
                hits[0].shown.body[last] ^= 1;
            },
            &honest[1..],
        ),
        (
            "a header that nobody signed",
            |hits, _| {
                let last = hits[0].shown.envelope.len() - 1;
                hits[0].shown.envelope[last] ^= 1;
            },
            &honest[1..],
        ),
        (
            "that it is another memory",
            |hits, _| hits[0].id = RecordId([9; 32]),
            &honest[1..],
        ),
        (
            "a memory of a topic that nobody asked about",
            |hits, foreign| hits.push(foreign.clone()),
            &honest,
        ),
        (
            "impossible numbers",
            |hits, _| {
                for hit in hits {
                    hit.cosine = f32::NAN;
                    hit.length = u32::MAX;
                    hit.frequencies = vec![u32::MAX; 4_000];
                }
            },
            &honest,
        ),
    ];
    for (what, lie, left) in cases {
        lies(&a, foreign[0].clone(), lie).await;
        let mut texts = recalls(&b, &topics[0]).await;
        let mut left = left.to_vec();
        texts.sort();
        left.sort_unstable();
        assert_eq!(texts, left, "it said {what}");
    }
    b.stop().await;
    a.stop().await;
}

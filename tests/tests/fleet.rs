//! Real nodes on loopback: join, write, recall, law, restart.

use aquifer_node::Up;
use aquifer_node::api::{Forget, PolicyView, Recall, Remember, Tried};
use aquifer_node::driver::{Passing, Tap};
use aquifer_node::names;
use aquifer_protocol::{Keys, NodeId};
use aquifer_tests::fleet::{Fleet, files_with, until};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

#[tokio::test(flavor = "multi_thread")]
async fn what_one_machine_remembers_the_other_recalls_both_ways() {
    let fleet = Fleet::default();
    let a = fleet.founds("a", "eu").await;
    a.creates("notes", &["eu"]).await;
    a.remembers("notes", "the database port is 5433").await;
    let b = fleet.joins("b", &a, "eu").await;
    b.comes_to_recall("notes", "database port", "the database port is 5433")
        .await;
    b.remembers("notes", "the staging cluster has seven nodes")
        .await;
    a.comes_to_recall("notes", "staging", "the staging cluster has seven nodes")
        .await;
    a.stops().await;
    assert_eq!(
        b.recalls("notes", "port").await,
        ["the database port is 5433"],
        "a memory does not need the machine it came from"
    );
}

/// I3: a third node, in another region, learns that the topic exists and which rule forbids it, and
/// not one byte of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_outside_the_law_gets_the_rule_and_no_byte() {
    let canary = "canary-7f3a9c1e55d042b8";
    let fleet = Fleet::default();
    let heard: Arc<Mutex<BTreeMap<&str, usize>>> = Arc::default();
    let counts = heard.clone();
    let tap = |who: &'static str| {
        let counts = counts.clone();
        Tap::new(move |passing, frame| {
            let Passing::Heard { .. } = passing else {
                return;
            };
            let mut windows = frame.windows(canary.len());
            let holds = windows.any(|window| window == canary.as_bytes());
            *counts.lock().unwrap().entry(who).or_default() += usize::from(holds);
        })
    };
    let a = fleet.founds("a", "eu").await;
    let (b, c) = (a.invites("eu/fr").await, a.invites("us").await);
    let joins = |name, ticket| {
        let up = Up {
            ticket: Some(ticket),
            tap: Some(tap(name)),
            ..fleet.flags(name)
        };
        fleet.starts(name, up)
    };
    let b = joins("b", b).await.expect("joins");
    let c = joins("c", c).await.expect("joins");
    a.creates("hr", &["eu"]).await;
    a.creates("open", &["eu", "us"]).await;
    a.remembers("hr", canary).await;
    b.comes_to_recall("hr", canary, canary).await;
    a.remembers("open", "everyone may know").await;
    c.comes_to_recall("open", "everyone", "everyone may know")
        .await;
    let refused = c.tries_to_recall("hr", canary).await.expect_err("outside");
    assert_eq!((refused.code.as_str(), refused.exit), ("policy_refused", 6));
    assert!(
        refused.message.contains("allowed_regions"),
        "{}",
        refused.message
    );
    let refused = c
        .tries_to_remember("hr", "smuggled")
        .await
        .expect_err("outside");
    assert_eq!(refused.exit, 6);
    let explained = a.memory().explain("hr", "us").await.expect("known");
    assert!(
        !explained.allowed && explained.rule == "region",
        "{explained:?}"
    );
    assert!(
        a.memory()
            .explain("hr", "eu/fr")
            .await
            .expect("known")
            .allowed
    );
    c.stops().await;
    b.stops().await;
    let heard = heard.lock().unwrap();
    assert_eq!(
        heard.get("c"),
        Some(&0),
        "frames came to c, none with the canary"
    );
    assert!(heard["b"] > 0, "the tap must be able to see it");
    assert_eq!(files_with(&fleet.home("c"), canary), 0);
    assert!(
        files_with(&fleet.home("b"), canary) > 0,
        "the search must be able to find it"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn forgetting_reaches_the_other_node_and_is_receipted() {
    let fleet = Fleet::default();
    let a = fleet.founds("a", "eu").await;
    let b = fleet.joins("b", &a, "eu").await;
    let id = a.remembers("notes", "a secret to forget").await.id;
    b.comes_to_recall("notes", "secret", "a secret to forget")
        .await;
    let asked = Forget {
        ids: vec![id.clone()],
        receipts: true,
        ..Forget::default()
    };
    let done = a.memory().forget(asked).await.expect("forgets");
    assert!(done.durable.met, "{:?}", done.durable);
    assert_eq!(done.durable.holders.len(), 2);
    until("b forgets", || async {
        b.recalls("notes", "secret").await.is_empty()
    })
    .await;
    assert_eq!(b.memory().get(&[id]).await.expect_err("gone").exit, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quorum_that_cannot_be_reached_says_what_is_durable_and_where() {
    let fleet = Fleet::default();
    let a = fleet.founds("a", "eu").await;
    let write = |k: &str| Remember {
        text: format!("durable at {k}"),
        durability: Some(k.into()),
        wait_ms: Some(500),
        ..Remember::default()
    };
    let alone = a
        .memory()
        .remember(write("quorum:2"))
        .await
        .expect("written here");
    assert!(!alone.durable.met && alone.durable.holders.len() == 1);
    let b = fleet.joins("b", &a, "eu").await;
    b.comes_to_recall("notes", "durable", "durable at quorum:2")
        .await;
    let mut again = write("region:2");
    again.wait_ms = Some(20_000);
    let both = a.memory().remember(again).await.expect("written");
    assert!(both.durable.met, "{:?}", both.durable);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_restarts_carries_on_with_its_memory_and_its_peers() {
    let fleet = Fleet::default();
    let a = fleet.founds("a", "eu").await;
    let b = fleet.joins("b", &a, "eu").await;
    a.remembers("notes", "before the restart").await;
    b.comes_to_recall("notes", "restart", "before the restart")
        .await;
    b.stops().await;
    a.remembers("notes", "while it was away").await;
    let b = fleet
        .starts("b", fleet.flags("b"))
        .await
        .expect("carries on");
    b.comes_to_recall("notes", "restart", "before the restart")
        .await;
    b.comes_to_recall("notes", "away", "while it was away")
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revision_shows_on_the_other_side_and_as_of_shows_what_was() {
    let fleet = Fleet::default();
    let a = fleet.founds("a", "eu").await;
    let b = fleet.joins("b", &a, "eu").await;
    let first = a.remembers("notes", "the port is 5432").await;
    b.comes_to_recall("notes", "port", "the port is 5432").await;
    let before = a
        .memory()
        .get(std::slice::from_ref(&first.id))
        .await
        .expect("there")[0]
        .updated_at;
    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    let revision = Remember {
        text: "the port is 5433".into(),
        topic: Some("notes".into()),
        revises: Some(first.id.clone()),
        ..Remember::default()
    };
    a.memory().remember(revision).await.expect("revised");
    b.comes_to_recall("notes", "port", "the port is 5433").await;
    assert_eq!(b.recalls("notes", "port").await, ["the port is 5433"]);
    let then = Recall {
        query: "port".into(),
        topic: Some("notes".into()),
        as_of: Some(before),
        ..Recall::default()
    };
    let then = b.memory().recall(then).await.expect("recalls").results;
    assert_eq!(then[0].memory.text, "the port is 5432");
    assert_eq!(b.memory().history(&first.id).await.expect("there").len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_tickets_and_bad_laws_are_refused_with_their_codes() {
    let fleet = Fleet::default();
    let a = fleet.founds("a", "eu").await;
    let other = fleet.founds("other", "eu").await;
    let ticket = a.invites("eu").await;
    let try_join = |name: &'static str, ticket: &str| {
        fleet.starts(
            name,
            Up {
                ticket: Some(ticket.to_owned()),
                ..fleet.flags(name)
            },
        )
    };
    let code = |r: Result<_, aquifer_node::api::Problem>| r.map(|_| ()).expect_err("refused").code;
    assert_eq!(
        code(try_join("x", "aqf1nonsense").await),
        "ticket_malformed"
    );
    let b = try_join("b", &ticket).await.expect("good");
    assert_eq!(code(try_join("c", &ticket).await), "ticket_used");
    let foreign = other.invites("eu").await;
    b.stops().await;
    assert_eq!(code(try_join("b", &foreign).await), "wrong_hive");
    assert_eq!(
        code(fleet.starts("a", fleet.flags("a")).await),
        "home_locked"
    );
    let encrypted = PolicyView {
        encryption_required: Some(true),
        ..PolicyView::default()
    };
    let refused = a
        .memory()
        .topic_create("sealed", encrypted)
        .await
        .expect_err("not yet");
    assert_eq!(
        (refused.code.as_str(), refused.exit),
        ("encryption_unavailable", 6)
    );
    a.creates("org", &["eu"]).await;
    let wider = PolicyView {
        allowed_regions: Some(vec!["us".into()]),
        ..PolicyView::default()
    };
    assert_eq!(
        a.memory()
            .topic_create("org/us", wider)
            .await
            .expect_err("wider")
            .exit,
        6
    );
    let long = "x".repeat(50_000);
    let refused = a
        .tries_to_remember("org", &long)
        .await
        .expect_err("too long");
    assert!(refused.message.contains("49152"), "{}", refused.message);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_and_the_holders_of_an_open_topic_are_found_and_of_a_restricted_one_nobody_is_told()
{
    let fleet = Fleet::default();
    let a = fleet.founds("a", "eu").await;
    let b = fleet.joins("b", &a, "eu/fr").await;
    let status = a.memory().status().await.expect("runs");
    until("the node is found", async || {
        b.memory().find(&status.node_id).await.is_ok()
    })
    .await;
    let found = b.memory().find(&status.node_id).await.expect("found");
    assert_eq!(
        ("node", status.node_id.as_str()),
        (found.kind.as_str(), found.nodes[0].node.as_str())
    );

    let open = PolicyView::default();
    a.memory()
        .topic_create("open", open)
        .await
        .expect("creates");
    a.creates("hr", &["eu"]).await;
    until(
        "the region's directory lists a holder of the open topic",
        async || {
            let found = b.memory().find("open").await;
            found.is_ok_and(|found| {
                let listed = |tried: &&Tried| tried.step == "directory of the region";
                let step = found.tried.iter().find(listed).expect("it was asked");
                step.outcome.ends_with(" found") && step.outcome != "0 found"
            })
        },
    )
    .await;
    let found = b.memory().find("hr").await.expect("its members are known");
    assert!(
        found.tried[1].outcome.contains("restricted"),
        "{:?}",
        found.tried
    );

    let nobody = names::node(&NodeId(Keys::from_secret(&[9; 32]).public()));
    let missing = b.memory().find(&nobody).await.expect_err("nobody");
    assert_eq!(("not_found", 3), (missing.code.as_str(), missing.exit));
    assert!(
        missing.message.contains("directory of the hive"),
        "{}",
        missing.message
    );

    b.stops().await;
    until(
        "the founder knows who is away, and since when",
        async || {
            let away = a.memory().status().await.expect("runs").away;
            away.len() == 1 && away[0].last_seen.is_some()
        },
    )
    .await;
}

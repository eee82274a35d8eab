//! A node whose store engine gives no bytes back, among others: what it holds, and what it says of
//! the rest.

use aquifer_node::Up;
use aquifer_node::api::PolicyView;
use aquifer_tests::fleet::{Fleet, files_with};

#[tokio::test(flavor = "multi_thread")]
async fn a_node_on_sled_holds_what_restricts_nothing_and_says_what_to_do_about_the_rest() {
    let canary = "canary-5d01c0a9b7e64f32";
    let fleet = Fleet::default();
    let a = fleet.founds("a", "eu").await;
    let up = Up {
        ticket: Some(a.invites("eu").await),
        store: Some("sled".into()),
        ..fleet.flags("b")
    };
    let b = fleet.starts("b", up).await.expect("joins");
    a.memory()
        .topic_create("open", PolicyView::default())
        .await
        .expect("created");
    a.remembers("open", "everyone may know").await;
    a.creates("hr", &["eu"]).await;
    a.remembers("hr", canary).await;
    b.comes_to_recall("open", "everyone", "everyone may know")
        .await;
    b.remembers("open", "and b writes").await;
    a.comes_to_recall("open", "writes", "and b writes").await;
    let refused = b
        .tries_to_recall("hr", canary)
        .await
        .expect_err("restricted");
    assert_eq!(
        (refused.code.as_str(), refused.exit),
        ("store_engine", 6),
        "{refused:?}"
    );
    // A topic that nobody made yet would be kept in this node's region: not even founded here.
    let refused = b
        .tries_to_remember("mine", "a note")
        .await
        .expect_err("restricted");
    assert_eq!(
        (refused.code.as_str(), refused.exit),
        ("store_engine", 6),
        "{refused:?}"
    );
    assert!(
        refused.hint.contains("aquifer topic create"),
        "{}",
        refused.hint
    );
    let topics = b.memory().topics().await.expect("known");
    assert!(
        topics.iter().all(|topic| topic.name != "mine"),
        "{topics:?}"
    );
    let held: Vec<_> = topics
        .iter()
        .filter(|topic| topic.held)
        .map(|topic| &topic.name)
        .collect();
    assert_eq!(held, ["open"]);
    let me = b.memory().status().await.expect("up");
    assert_eq!(me.store.engine, "sled");
    let explained = b.memory().explain("hr", &me.node_id).await.expect("known");
    assert_eq!(
        (explained.allowed, explained.rule.as_str()),
        (false, "store_engine")
    );
    let findings = b.memory().doctor().await.expect("up");
    assert!(
        findings
            .iter()
            .any(|f| f.check == "store" && f.level == "warning"),
        "{findings:?}"
    );
    b.stops().await;
    assert_eq!(files_with(&fleet.home("b"), canary), 0);
    let other = Up {
        store: Some("redb".into()),
        ..fleet.flags("b")
    };
    let refused = fleet.starts("b", other).await.expect_err("another engine");
    assert_eq!((refused.code.as_str(), refused.exit), ("store_engine", 2));
    let b = fleet
        .starts("b", fleet.flags("b"))
        .await
        .expect("carries on");
    b.comes_to_recall("open", "writes", "and b writes").await;
}

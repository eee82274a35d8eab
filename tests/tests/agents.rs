//! WASM agents on real nodes: deployed, woken, asked, upgraded, stopped; and what they did is checked.

use aquifer_node::Up;
use aquifer_node::api::{
    AgentView, Deploy, Grants, Invite, Invoke, List, MoveAgent, Problem, VerifyAgent,
};
use aquifer_tests::fleet::{Fleet, Runner, until};
use serde_json::{Value, json};

fn module(name: &str) -> String {
    let path = format!(
        "{}/../wasm-agent/guest/modules/{name}.wasm",
        env!("CARGO_MANIFEST_DIR")
    );
    data_encoding::BASE64.encode(&std::fs::read(path).expect("a committed module"))
}

fn sensor() -> Deploy {
    Deploy {
        name: "sensor".into(),
        topic: Some("plant/agents".into()),
        module: module("sensor"),
        grants: Grants {
            publishes: Some(vec!["alerts".into()]),
            remembers: Some(vec!["sensor".into()]),
            ..Grants::default()
        },
        ..Deploy::default()
    }
}

async fn deploys(node: &Runner, asked: Deploy) -> AgentView {
    node.memory().agent_deploy(asked).await.expect("deploys")
}

async fn tries(node: &Runner, agent: &str, input: Value, send: bool) -> Result<Value, Problem> {
    let input = Some(input);
    let asked = Invoke {
        input,
        send,
        ..Invoke::default()
    };
    let invoked = node.memory().agent_invoke(agent, asked).await?;
    Ok(invoked.said.unwrap_or_default())
}

async fn texts(node: &Runner, topic: &str) -> Vec<String> {
    let asked = List {
        topic: Some(topic.into()),
        ..List::default()
    };
    let listed = node.memory().list(asked).await;
    let memories = listed.map(|listed| listed.memories).unwrap_or_default();
    memories.into_iter().map(|memory| memory.text).collect()
}

async fn steps(node: &Runner, agent: &str) -> u64 {
    let shown = node.memory().agent_named(agent).await.expect("known");
    shown.here.map_or(0, |here| here.steps)
}

/// Readings of one peer: the first thirty-two are summarised, the one far off is an alert.
#[tokio::test(flavor = "multi_thread")]
async fn a_sensor_summarises_alerts_and_goes_on_after_a_restart() {
    let fleet = Fleet::default();
    let a = fleet.founds("a", "eu").await;
    let shown = deploys(&a, sensor()).await;
    assert_eq!(("running", 1), (shown.state.as_str(), shown.agents));
    for reading in 0..32 {
        tries(&a, "sensor", json!(20 + reading % 3), true)
            .await
            .expect("sent");
    }
    until("it has taken all readings", || async {
        steps(&a, "sensor").await == 32
    })
    .await;
    until("it remembers", || async {
        !texts(&a, "plant/agents").await.is_empty()
    })
    .await;
    tries(&a, "sensor", json!(400), true).await.expect("sent");
    until("it says so", || async {
        texts(&a, "alerts").await.len() == 1
    })
    .await;
    let before = tries(&a, "sensor", json!(0), false).await.expect("answers");

    let verified = a
        .memory()
        .agent_verify("sensor", VerifyAgent::default())
        .await
        .expect("checked");
    assert_eq!(
        (34, 34, 0),
        (verified.checked, verified.equal, verified.different)
    );
    a.stops().await;
    let a = fleet.founds("a", "eu").await;
    until("it lives here again", || async {
        a.memory()
            .agent_named("sensor")
            .await
            .is_ok_and(|agent| agent.here.is_some())
    })
    .await;
    assert_eq!(34, steps(&a, "sensor").await, "no input was taken on twice");
    assert_eq!(
        before,
        tries(&a, "sensor", json!(0), false).await.expect("answers")
    );
    assert_eq!(
        1,
        texts(&a, "alerts").await.len(),
        "and no effect was done twice"
    );
    a.stops().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_keeps_the_state_or_changes_nothing() {
    let fleet = Fleet::default();
    let a = fleet.founds("a", "eu").await;
    deploys(&a, sensor()).await;
    let again = a
        .memory()
        .agent_deploy(sensor())
        .await
        .expect_err("it is there");
    assert_eq!("agent_exists", again.code);
    tries(&a, "sensor", json!(21), true).await.expect("sent");
    until("it has a state", || async {
        steps(&a, "sensor").await == 1
    })
    .await;
    let before = tries(&a, "sensor", json!(0), false).await.expect("answers");
    // The forager has a state of another form and refuses this one.
    let other = Deploy {
        module: module("forager"),
        ..Deploy::default()
    };
    let refused = a
        .memory()
        .agent_upgrade("sensor", other)
        .await
        .expect_err("refuses");
    assert_eq!("upgrade_rolled_back", refused.code, "{refused:?}");
    assert_eq!(
        before,
        tries(&a, "sensor", json!(0), false).await.expect("answers")
    );
    let narrower = Deploy {
        module: module("sensor"),
        grants: Grants {
            publishes: Some(vec!["alerts/loud".into()]),
            ..Grants::default()
        },
        ..Deploy::default()
    };
    let upgraded = a.memory().agent_upgrade("sensor", narrower).await;
    let shown = upgraded.expect("takes its state").grants;
    assert_eq!(Some(vec!["alerts/loud".to_owned()]), shown.publishes);
    assert_eq!(
        Some(vec!["sensor".to_owned()]),
        shown.remembers,
        "what is not named stays"
    );
    let stopped = a.memory().agent_stop("sensor").await.expect("stops");
    assert_eq!(
        ("stopped", None),
        (stopped.state.as_str(), stopped.here.map(|_| ()))
    );
    let gone = tries(&a, "sensor", json!(1), false)
        .await
        .expect_err("stopped");
    assert_eq!("not_found", gone.code);
    deploys(&a, sensor()).await;
    assert_eq!(
        0,
        steps(&a, "sensor").await,
        "another agent, with a state of its own"
    );
    a.stops().await;
}

/// The law of the home says where an agent may live; who invokes it may be elsewhere in the hive.
#[tokio::test(flavor = "multi_thread")]
async fn an_agent_is_invoked_from_another_node_and_the_law_says_where_it_lives() {
    let fleet = Fleet::default();
    let a = fleet.founds("a", "eu").await;
    a.creates("plant/agents", &["eu"]).await;
    let (b, c) = (
        fleet.joins("b", &a, "eu").await,
        fleet.joins("c", &a, "us").await,
    );
    deploys(&a, sensor()).await;
    until("b has heard of it", || async {
        b.memory().agent_named("sensor").await.is_ok()
    })
    .await;
    tries(&b, "sensor", json!(1), false).await.expect("answers");
    let logs = b
        .memory()
        .agent_logs("sensor", None)
        .await
        .expect_err("not here");
    assert_eq!("not_here", logs.code);
    let unknown = tries(&c, "sensor", json!(1), false)
        .await
        .expect_err("outside");
    assert_eq!("not_found", unknown.code, "c holds nothing of the topic");
    let asked = Deploy {
        name: "other".into(),
        region: Some("us".into()),
        ..sensor()
    };
    let refused = a
        .memory()
        .agent_deploy(asked)
        .await
        .expect_err("no node may");
    assert_eq!(("no_host", 6), (refused.code.as_str(), refused.exit));
    let refused = c
        .memory()
        .agent_deploy(sensor())
        .await
        .expect_err("outside");
    assert_eq!(6, refused.exit, "{refused:?}");
    for node in [c, b, a] {
        node.stops().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_people_remember_wakes_who_follows_and_bad_modules_are_refused() {
    let fleet = Fleet::default();
    let a = fleet.founds("a", "eu").await;
    let bad = Deploy {
        module: data_encoding::BASE64.encode(b"\0asm"),
        ..sensor()
    };
    assert_eq!(
        "bad_module",
        a.memory()
            .agent_deploy(bad)
            .await
            .expect_err("no module")
            .code
    );
    let grants = Grants {
        imports: Some(vec!["fork".into()]),
        ..Grants::default()
    };
    let beyond = Grants {
        fuel: Some(10_000_001),
        ..Grants::default()
    };
    for (grants, hint) in [(grants, "publish, "), (beyond, "fuel=10000000,")] {
        let bad = Deploy { grants, ..sensor() };
        let refused = a.memory().agent_deploy(bad).await.expect_err("beyond");
        assert_eq!(("bad_grant", 2), (refused.code.as_str(), refused.exit));
        assert!(refused.hint.contains(hint), "{refused:?}");
    }
    let echo = Deploy {
        name: "echo".into(),
        module: module("echo"),
        grants: Grants {
            follows: Some(vec!["news".into()]),
            publishes: Some(vec!["news".into()]),
            ..Grants::default()
        },
        ..Deploy::default()
    };
    a.remembers("news", "what was before does not wake it")
        .await;
    deploys(&a, echo).await;
    a.remembers("news", "the forecast is rain").await;
    a.remembers("other", "nobody follows this").await;
    until("it woke", || async { steps(&a, "echo").await > 0 }).await;
    a.remembers("news/deep", "and what is below").await;
    until("it woke again", || async { steps(&a, "echo").await > 1 }).await;
    assert_eq!(2, steps(&a, "echo").await);
    let receipts = a.memory().agent_receipts("echo", None).await.expect("here");
    let causes: Vec<&str> = receipts.iter().map(|one| one.cause.as_str()).collect();
    assert_eq!(["publication", "publication"], causes[..]);
    a.stops().await;
}

/// A node that may host agents.
async fn joins_to_host(fleet: &Fleet, name: &str, issuer: &Runner) -> Runner {
    let asked = Invite {
        region: Some("eu".into()),
        roles: vec!["pod-host".into(), "compute".into()],
        ..Invite::default()
    };
    let ticket = issuer
        .memory()
        .invite(asked)
        .await
        .expect("may invite")
        .ticket;
    let up = Up {
        ticket: Some(ticket),
        ..fleet.flags(name)
    };
    fleet.starts(name, up).await.expect("joins")
}

async fn active(node: &Runner, agent: &str) -> Option<String> {
    let shown = node.memory().agent_named(agent).await.ok()?;
    let host = shown.hosts.into_iter().find(|host| host.active)?;
    Some(host.node.node)
}

/// Three hosts, of which the one that wakes the agent dies: another goes on with the state it had, and
/// nothing that was taken on is lost or done twice.
#[tokio::test(flavor = "multi_thread")]
async fn when_its_host_dies_another_wakes_the_agent() {
    let fleet = Fleet::default();
    let a = fleet.founds("a", "eu").await;
    a.creates("plant/agents", &["eu"]).await;
    a.creates("alerts", &["eu"]).await;
    let b = joins_to_host(&fleet, "b", &a).await;
    let c = joins_to_host(&fleet, "c", &a).await;
    until("all are known", || async {
        a.memory().peers().await.is_ok_and(|peers| peers.len() == 2)
    })
    .await;
    let asked = Deploy {
        copies: Some(3),
        ..sensor()
    };
    // The others' manifests are on their way at first.
    until("three may host it", || async {
        a.memory().agent_deploy(asked.clone()).await.is_ok()
    })
    .await;
    until("all have heard of it, and one wakes it", || async {
        let known = active(&b, "sensor").await.is_some() && active(&c, "sensor").await.is_some();
        known && active(&a, "sensor").await.is_some()
    })
    .await;
    let holder = active(&a, "sensor").await.expect("one does");
    let (mut held, mut others) = (None, Vec::new());
    for node in [a, b, c] {
        match node.memory().status().await.expect("runs").node_id == holder {
            true => held = Some(node),
            false => others.push(node),
        }
    }
    let (held, [b, c]) = (held.expect("one of the three"), &others[..]) else {
        panic!("three nodes");
    };
    for reading in 0..31 {
        tries(b, "sensor", json!(20 + reading % 3), true)
            .await
            .expect("sent");
    }
    until("all have taken all readings", || async {
        let both = steps(b, "sensor").await == 31 && steps(c, "sensor").await == 31;
        both && steps(&held, "sensor").await == 31
    })
    .await;
    let name = held.name.clone();
    held.stops().await;
    // The thirty-second reading completes a summary, the next is an alert.
    tries(b, "sensor", json!(21), true).await.expect("sent");
    tries(b, "sensor", json!(400), true).await.expect("sent");
    until("another goes on", || async {
        steps(c, "sensor").await >= 33 && steps(b, "sensor").await >= 33
    })
    .await;
    assert_ne!(Some(holder), active(b, "sensor").await);
    until("it says so", || async {
        texts(b, "alerts").await.len() == 1
    })
    .await;
    until("it remembers", || async {
        !texts(b, "plant/agents").await.is_empty()
    })
    .await;
    // The first comes back, and follows.
    let back = fleet.founds(&name, "eu").await;
    until("the first follows", || async {
        steps(&back, "sensor").await >= 33
    })
    .await;
    until("it has what was said", || async {
        texts(&back, "alerts").await.len() == 1
    })
    .await;
    back.stops().await;
    for node in others {
        node.stops().await;
    }
}

/// One host hands an agent over to another, with its state; three attest each other's steps.
#[tokio::test(flavor = "multi_thread")]
async fn an_agent_moves_with_its_state_and_hosts_attest_each_others_steps() {
    let fleet = Fleet::default();
    let a = fleet.founds("a", "eu").await;
    a.creates("plant/agents", &["eu"]).await;
    let b = joins_to_host(&fleet, "b", &a).await;
    let c = joins_to_host(&fleet, "c", &a).await;
    deploys(&a, sensor()).await;
    for reading in 0..5 {
        tries(&a, "sensor", json!(20 + reading), true)
            .await
            .expect("sent");
    }
    until("it has a state", || async {
        steps(&a, "sensor").await == 5
    })
    .await;
    let before = tries(&a, "sensor", json!(0), false).await.expect("answers");
    let to = b.memory().status().await.expect("runs").node_id;
    until("b may host it", || async {
        let asked = MoveAgent {
            to: to.clone(),
            ..MoveAgent::default()
        };
        match a.memory().agent_move("sensor", asked).await {
            Ok(_) => true,
            Err(problem) => problem.code == "already_there",
        }
    })
    .await;
    until("b wakes it", || async {
        active(&b, "sensor").await.as_ref() == Some(&to) && steps(&b, "sensor").await == 6
    })
    .await;
    until("a has let go", || async {
        a.memory()
            .agent_named("sensor")
            .await
            .is_ok_and(|agent| agent.here.is_none())
    })
    .await;
    assert_eq!(
        before,
        tries(&a, "sensor", json!(0), false).await.expect("answers")
    );
    assert_eq!(7, steps(&b, "sensor").await);

    let grants = Grants {
        attest: Some("2of3".into()),
        ..sensor().grants
    };
    let asked = Deploy {
        name: "attested".into(),
        grants,
        ..sensor()
    };
    until("three may host it", || async {
        a.memory().agent_deploy(asked.clone()).await.is_ok()
    })
    .await;
    until("c has heard of it", || async {
        c.memory().agent_named("attested").await.is_ok()
    })
    .await;
    for reading in 0..4 {
        tries(&c, "attested", json!(reading), true)
            .await
            .expect("sent");
    }
    tries(&c, "attested", json!(0), false)
        .await
        .expect("answers: two agree");
    for node in [&a, &b, &c] {
        until("it has signed for its own", || async {
            let receipts = node
                .memory()
                .agent_receipts("attested", None)
                .await
                .expect("here");
            receipts.len() == 5
        })
        .await;
        let receipts = node
            .memory()
            .agent_receipts("attested", None)
            .await
            .expect("here");
        let own = node.memory().status().await.expect("runs").node_id;
        assert!(receipts.iter().all(|receipt| receipt.node == own));
        let shown = node.memory().agent_named("attested").await.expect("known");
        assert!(shown.disputes.is_empty() && shown.hosts.iter().all(|host| !host.quarantined));
    }
    for node in [a, b, c] {
        node.stops().await;
    }
}

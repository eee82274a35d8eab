//! Hosts that attest each other's steps, of which one lies: three real nodes, each in a process of its own, and
//! in one of them a bit of the guests' memory is wrong. It signs, with its true key, for what is not so.

use aquifer_node::Up;
use aquifer_node::api::{Deploy, Grants, Invoke, List, MemoryView};
use aquifer_tests::faulty::{Fault, Place};
use aquifer_tests::fleet::{Fleet, Runner, until};
use aquifer_tests::troupe::{Machine, Troupe, hosts};
use serde_json::{Value, json};
use std::path::Path;

/// What everybody measures, all the time; the highest bit of its last byte is 0.
const ORDINARY: u64 = 100;
/// What that becomes where the bit reads 1.
const FALSE: &str = "228";
/// So many readings before any can be a spike.
const WARM_UP: u64 = 8;

fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_aquifer-faulty"))
}

fn sensor(name: &str, attest: Option<&str>) -> Deploy {
    let module = format!(
        "{}/../wasm-agent/guest/modules/sensor.wasm",
        env!("CARGO_MANIFEST_DIR")
    );
    let module = std::fs::read(module).expect("a committed module");
    Deploy {
        name: name.into(),
        topic: Some("plant/agents".into()),
        module: data_encoding::BASE64.encode(&module),
        grants: Grants {
            publishes: Some(vec!["alerts".into()]),
            remembers: Some(vec!["sensor".into()]),
            attest: attest.map(Into::into),
            ..Grants::default()
        },
        ..Deploy::default()
    }
}

/// Readings and spikes, and of the one that measures: mean, mean deviation and readings.
async fn state(machine: &Machine, agent: &str) -> Vec<Value> {
    let said = machine.asks(agent, 0).await;
    [
        &said[0],
        &said[1],
        &said[2][0][1],
        &said[2][0][2],
        &said[2][0][3],
    ]
    .into_iter()
    .cloned()
    .collect()
}

async fn alerts(machine: &Machine) -> Vec<MemoryView> {
    let asked = List {
        topic: Some("alerts".into()),
        ..List::default()
    };
    let listed = machine.client.list(&asked).await;
    listed.map(|listed| listed.memories).unwrap_or_default()
}

/// The one dispute by `by`: who lied, and both receipts.
fn dispute(shown: &Value, by: &str) -> (String, Value, Value) {
    let all = shown["disputes"].as_array().expect("a list").iter();
    let mut by = all.filter(|dispute| dispute["by"] == by);
    let one = by.next().expect("it testified");
    assert!(by.next().is_none(), "once: {shown}");
    let (theirs, ours) = (one["theirs"].clone(), one["ours"].clone());
    assert_eq!(theirs["step"], ours["step"]);
    assert_eq!(theirs["before"], ours["before"]);
    assert_ne!(theirs["receipt"], ours["receipt"]);
    assert_eq!(one["by"], ours["node"]);
    let liar = theirs["node"].as_str().expect("a node").to_owned();
    (liar, theirs, ours)
}

fn show(machine: &Machine, verb: &str, agent: &str) -> Value {
    let ended = machine.says(&["agent", verb, agent, "--json"]);
    assert_eq!(0, ended.exit, "{}", ended.said);
    ended.data()
}

/// The one that wakes the agent lies: from the thirteenth wake on a reading of 100 is 228 to its guests. That is
/// a spike, which a sensor says so of; but nobody else comes to it, and so nobody is told.
#[tokio::test(flavor = "multi_thread")]
async fn a_holder_that_lies_is_found_and_another_goes_on_with_what_is_so() {
    let troupe = Troupe::with(program(), "wakes:12").await;
    let Troupe { a, b, l, .. } = &troupe;
    troupe.holds(l, &sensor("attested", Some("2of3"))).await;
    for _ in 0..12 {
        a.measures("attested", ORDINARY).await;
    }
    for machine in troupe.all() {
        until("it has taken all readings", || async {
            machine.steps("attested").await == 12
        })
        .await;
        assert!(
            machine
                .shown("attested")
                .await
                .expect("known")
                .disputes
                .is_empty()
        );
    }

    a.measures("attested", ORDINARY).await;
    for machine in [a, b] {
        until(
            "l is in quarantine, and another has taken the step",
            || async {
                let found = machine.quarantined("attested").await == [l.node.clone()];
                let goes_on = machine
                    .active("attested")
                    .await
                    .is_some_and(|host| host != l.node);
                found && goes_on && machine.steps("attested").await == 13
            },
        )
        .await;
    }
    until("both testify, and l knows", || async {
        let testified = b
            .shown("attested")
            .await
            .is_some_and(|shown| shown.disputes.len() == 2);
        testified && l.quarantined("attested").await == [l.node.clone()]
    })
    .await;
    let mean = json!(ORDINARY * 256);
    let sound = [json!(13), json!(0), mean.clone(), json!(0), json!(13)];
    assert_eq!(sound.to_vec(), state(b, "attested").await);
    // The next spike is a true one: it is said once.
    a.measures("attested", 400).await;
    until("it says so", || async { !alerts(b).await.is_empty() }).await;
    let said = alerts(b).await;
    assert_eq!(1, said.len(), "{said:?}");
    assert!(
        said[0].text.contains(", 400, ") && !said[0].text.contains(FALSE),
        "{said:?}"
    );

    // What an operator sees, wherever he asks.
    for machine in [a, b, l] {
        let shown = show(machine, "show", "attested");
        for by in [&a.node, &b.node] {
            let (liar, theirs, ours) = dispute(&shown, by);
            assert_eq!((&l.node, &json!(12)), (&liar, &theirs["step"]));
            assert_ne!(theirs["after"], ours["after"]);
            assert_eq!(
                (json!(1), json!(0)),
                (theirs["effects"].clone(), ours["effects"].clone())
            );
        }
        let ended = machine.says(&["agent", "show", "attested", "-o", "human"]);
        let (_, theirs, ours) = dispute(&shown, &a.node);
        for receipt in [theirs, ours] {
            let receipt = receipt["receipt"].as_str().expect("text");
            assert!(ended.said.contains(&receipt[..12]), "{}", ended.said);
        }
        assert!(ended.said.contains("quarantined"), "{}", ended.said);
    }
    let (_, theirs, ours) = dispute(&show(a, "show", "attested"), &a.node);
    let signed = |machine: &Machine| {
        let receipts = show(machine, "receipts", "attested");
        let mut of_it = receipts.as_array().cloned().unwrap_or_default().into_iter();
        let one = of_it.find(|receipt| receipt["step"] == 12)?;
        assert_eq!(json!(machine.node), one["node"]);
        Some(one["receipt"].clone())
    };
    assert_eq!(Some(theirs["receipt"].clone()), signed(l));
    // One of them may have been given the whole after that.
    let sound: Vec<Value> = [a, b].into_iter().filter_map(signed).collect();
    assert!(
        !sound.is_empty() && sound.iter().all(|one| *one == ours["receipt"]),
        "{sound:?}"
    );
    for machine in [a, b] {
        let verified = show(machine, "verify", "attested");
        assert_eq!(json!(0), verified["different"], "{verified}");
    }
    let verified = l.says(&["agent", "verify", "attested", "--json"]);
    let (exit, verified) = (verified.exit, verified.data());
    assert_eq!((1, &json!(1)), (exit, &verified["different"]), "{verified}");
    assert_eq!(json!(12), verified["findings"][0]["step"]);
    let critical = |machine: &Machine| {
        let found = machine.says(&["doctor", "--json"]).data();
        let mut found = found.as_array().cloned().unwrap_or_default().into_iter();
        found.any(|one| one["check"] == "agents" && one["level"] == "critical")
    };
    assert!(critical(l) && !critical(a), "who failed is told so");

    // Where nobody attests, the same lie is told to all.
    l.deploys(&sensor("alone", None)).await;
    until("a has heard of it", || async {
        a.shown("alone").await.is_some()
    })
    .await;
    for reading in [[200; WARM_UP as usize].as_slice(), &[ORDINARY]].concat() {
        a.measures("alone", reading).await;
    }
    let is_false = |alert: &MemoryView| alert.text.contains(FALSE);
    until("a false alert", || async {
        alerts(b).await.iter().any(is_false)
    })
    .await;
    for alert in alerts(b).await.iter().filter(|alert| is_false(alert)) {
        assert!(alert.tags.contains(&"agent:alone".into()), "{alert:?}");
    }

    // The publisher gives its seat to another, and nobody is in quarantine any more.
    let d = troupe.grows().await;
    until("l's seat is d's", || async {
        let moved = l.says(&["agent", "move", "attested", "--to", &d.node, "--json"]);
        moved.exit == 0 || moved.said.contains("already_there")
    })
    .await;
    for machine in [a, b, &d] {
        until("d has what the others have", || async {
            let shown = machine.shown("attested").await;
            let hosts: Vec<_> = shown.map_or_else(Vec::new, |shown| shown.hosts);
            let sound = hosts
                .iter()
                .all(|host| !host.quarantined && host.node.node != l.node);
            hosts.len() == 3 && sound && machine.steps("attested").await >= 15
        })
        .await;
    }
    until("l has let go", || async {
        l.shown("attested")
            .await
            .is_some_and(|shown| shown.here.is_none())
    })
    .await;
    let said = state(&d, "attested").await;
    assert_eq!((json!(14), json!(1)), (said[0].clone(), said[1].clone()));
    d.stops().await;
    troupe.stops().await;
}

/// One that stands by lies: from the fourth check on it comes to another state, and signs for that. Two of
/// three agree, so the agent goes on; all are shown who does not.
#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_lies_holds_up_nothing_and_is_shown() {
    let troupe = Troupe::with(program(), "checks:3").await;
    let Troupe { a, b, l, .. } = &troupe;
    troupe.holds(a, &sensor("attested", Some("2of3"))).await;
    b.measures("attested", ORDINARY).await;
    for machine in troupe.all() {
        until("it takes the first", || async {
            machine.steps("attested").await == 1
        })
        .await;
    }
    for _ in 0..WARM_UP + 1 {
        b.measures("attested", ORDINARY).await;
    }
    b.measures("attested", 400).await;
    for machine in [a, b] {
        until("two agree on all", || async {
            machine.steps("attested").await == WARM_UP + 3
        })
        .await;
    }
    until("what they agree on is done", || async {
        alerts(b).await.len() == 1
    })
    .await;
    for machine in troupe.all() {
        until("it knows who does not agree", || async {
            machine.quarantined("attested").await == [l.node.clone()]
        })
        .await;
    }
    assert_eq!(
        Some(a.node.clone()),
        b.active("attested").await,
        "a holds it all the time"
    );
    for machine in troupe.all() {
        let shown = show(machine, "show", "attested");
        // The liar accused the holder, and each of the others testified.
        let (accused, theirs, ours) = dispute(&shown, &l.node);
        assert_eq!(a.node, accused);
        assert_ne!(theirs["after"], ours["after"]);
        for by in [&a.node, &b.node] {
            let (liar, lie, truth) = dispute(&shown, by);
            assert_eq!(l.node, liar);
            assert_eq!(ours["receipt"], lie["receipt"]);
            assert_eq!(theirs["receipt"], truth["receipt"]);
        }
    }
    let taken = l.steps("attested").await;
    assert!(
        taken < WARM_UP + 3,
        "it took what it agreed with, and no more"
    );
    let said = state(a, "attested").await;
    assert_eq!(
        (json!(WARM_UP + 3), json!(1)),
        (said[0].clone(), said[1].clone())
    );
    troupe.stops().await;
}

async fn runs(fleet: &Fleet, name: &str, issuer: &Runner, fault: &Fault) -> Runner {
    let invited = issuer.memory().invite(hosts()).await.expect("may invite");
    let up = Up {
        ticket: Some(invited.ticket),
        engines: Some(fault.engines()),
        ..fleet.flags(name)
    };
    fleet.starts(name, up).await.expect("joins")
}

/// A bit that is wrong once accuses nobody: what differs is taken once more before anything is said.
#[tokio::test(flavor = "multi_thread")]
async fn a_fault_that_passes_accuses_nobody() {
    let (fleet, fault) = (Fleet::default(), || Fault::new(Place::State, 3..4));
    // One of the two stands by, whoever wakes it.
    let faults = [fault(), fault()];
    let a = fleet.founds("a", "eu").await;
    a.creates("plant/agents", &["eu"]).await;
    let b = runs(&fleet, "b", &a, &faults[0]).await;
    let c = runs(&fleet, "c", &a, &faults[1]).await;
    let asked = sensor("attested", Some("2of3"));
    until("three may host it", || async {
        a.memory().agent_deploy(asked.clone()).await.is_ok()
    })
    .await;
    for (readings, steps) in [(1, 1), (6, 7)] {
        for _ in 0..readings {
            let sent = Invoke {
                input: Some(json!(ORDINARY)),
                send: true,
                ..Invoke::default()
            };
            let sent = a.memory().agent_invoke("attested", sent).await;
            sent.expect("sent");
        }
        for node in [&a, &b, &c] {
            until("it has taken all", || async {
                let shown = node.memory().agent_named("attested").await;
                let here = shown.ok().and_then(|shown| shown.here);
                here.is_some_and(|here| here.steps == steps)
            })
            .await;
        }
    }
    for node in [&a, &b, &c] {
        let shown = node.memory().agent_named("attested").await.expect("known");
        assert!(shown.disputes.is_empty() && shown.hosts.iter().all(|host| !host.quarantined));
    }
    let harm: u64 = faults.iter().map(Fault::harm).sum();
    assert!(harm > 0, "there was a fault");
    for node in [c, b, a] {
        node.stops().await;
    }
}

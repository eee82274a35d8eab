//! Tasks on real nodes: asked for on one, run by another that can, ended once, though nodes are killed.

use aquifer_node::api::{
    Deploy, Grants, Invoke, List, PolicyView, SubmitTask, TaskBudget, TaskNeeds, TaskView,
};
use aquifer_tests::fleet::until;
use aquifer_tests::works::{Node, Works, processes_with};
use std::collections::BTreeSet;

const PROGRAM: &str = env!("CARGO_BIN_EXE_aquifer-works");
const TOPIC: &str = "acme/builds";
const RUNS: [&str; 2] = ["--tasks", TOPIC];
const COMPUTE: [&str; 2] = ["pod-host", "compute"];

fn shell(line: &str) -> SubmitTask {
    SubmitTask {
        topic: Some(TOPIC.into()),
        argv: ["sh", "-c", line].map(str::to_owned).into(),
        budget: TaskBudget {
            wall_ms: Some(60_000),
            memory_bytes: Some(64 << 20),
            ..TaskBudget::default()
        },
        ..SubmitTask::default()
    }
}

fn gpu(bytes: u64) -> TaskNeeds {
    TaskNeeds {
        gpu_bytes: bytes,
        ..TaskNeeds::default()
    }
}

/// Waits until all of `nodes` say that the task is over; what they say.
async fn over(nodes: &[&Node], task: &str) -> Vec<TaskView> {
    let mut all = Vec::new();
    for node in nodes {
        let what = format!("{} says that {task} is over", node.name);
        until(&what, || async {
            node.knows(task).await.is_ok_and(|task| task.is_over())
        })
        .await;
        all.push(node.knows(task).await.expect("it is known"));
    }
    all
}

async fn meets(node: &Node, count: usize) {
    until(&format!("{} meets {count}", node.name), || async {
        let peers = node.client.peers().await.unwrap_or_default();
        peers.iter().filter(|peer| peer.up).count() >= count
    })
    .await;
}

/// Waits until this node knows that so many others run tasks of the topic.
async fn runners(node: &Node, count: usize) {
    until(
        &format!("{} knows {count} that run tasks", node.name),
        || async {
            let peers = node.client.peers().await.unwrap_or_default();
            let runs = peers.iter().filter(|peer| peer.tasks == [TOPIC]);
            runs.count() == count
        },
    )
    .await;
}

/// Who runs it now, as `node` knows.
async fn claimant(node: &Node, task: &str) -> Option<String> {
    let task = node
        .knows(task)
        .await
        .ok()
        .filter(|task| task.state == "running")?;
    Some(task.attempts.last()?.node.node.clone())
}

/// Asked for on A, a task runs on B, which alone has what it needs, and all read the same of it. One that
/// needs what nobody has waits and says so; one that goes over its budget ends so; long output is cut.
#[tokio::test(flavor = "multi_thread")]
async fn a_task_runs_where_there_is_what_it_needs_and_all_read_what_came_of_it() {
    let Some(works) = Works::here(PROGRAM, "tasks-needs") else {
        return;
    };
    let a = works.founds("a", "eu", &[]);
    a.creates(TOPIC, &["eu"]).await;
    let early = a.submits(&shell("true")).await;
    let shown = a.knows(&early).await.expect("known");
    assert_eq!("waiting", shown.state);
    assert!(
        shown
            .why
            .expect("a reason")
            .starts_with("no node runs tasks of")
    );

    let with_gpu = ["--tasks", TOPIC, "--gpu", "8GiB"];
    let b = works
        .joins("b", (&a, "eu", &COMPUTE), &with_gpu)
        .await
        .expect("joins");
    let c = works
        .joins("c", (&a, "eu", &COMPUTE), &RUNS)
        .await
        .expect("joins");
    runners(&a, 2).await;
    let all = over(&[&a], &early).await;
    assert_eq!(
        "ended", all[0].state,
        "what waited was run when somebody came who could"
    );

    let asked = SubmitTask {
        needs: gpu(8 << 30),
        stdin: Some(data_encoding::BASE64.encode(b"words")),
        ..shell("cat; echo \" and $GREETING\"; echo oops >&2; exit 3")
    };
    let asked = SubmitTask {
        env: vec!["GREETING=hello".into()],
        ..asked
    };
    let task = a.submits(&asked).await;
    let seen = over(&[&a, &b, &c], &task).await;
    for seen in &seen {
        let outcome = seen.outcome.as_ref().expect("it ended");
        assert_eq!(
            ("ended", b.id.as_str()),
            (seen.state.as_str(), outcome.node.node.as_str())
        );
        assert_eq!(("exited", 3), (outcome.ended.as_str(), outcome.number));
        assert_eq!("words and hello\n", outcome.stdout.text);
        assert_eq!("oops\n", outcome.stderr.text);
        assert_eq!(1, seen.attempts.len());
        let first = seen
            .outcome
            .as_ref()
            .and_then(|outcome| outcome.product.as_ref());
        assert_eq!(first, outcome.product.as_ref());
    }

    let much = SubmitTask {
        needs: gpu(64 << 30),
        ..shell("true")
    };
    let waits = a.submits(&much).await;
    let over_time = SubmitTask {
        budget: TaskBudget {
            wall_ms: Some(300),
            ..shell("").budget
        },
        ..shell("echo begun; sleep 30")
    };
    let late = a.submits(&over_time).await;
    let long = a.submits(&shell("head -c 200000 /dev/zero")).await;
    let missing = SubmitTask {
        argv: vec!["no-such-program".into()],
        ..shell("")
    };
    let missing = a.submits(&missing).await;
    let ended = over(&[&a], &late)
        .await
        .remove(0)
        .outcome
        .expect("it ended");
    assert_eq!(
        ("over_time", "begun\n"),
        (ended.ended.as_str(), ended.stdout.text.as_str())
    );
    let cut = over(&[&a], &long)
        .await
        .remove(0)
        .outcome
        .expect("it ended")
        .stdout;
    assert_eq!((48 << 10, true), (cut.bytes, cut.cut));
    // The first that tried says so and lets the other try; the last says that nobody can.
    let refused = over(&[&a], &missing).await.remove(0);
    assert_eq!("refused", refused.state);
    // Claims that crossed are attempts too.
    let tried: BTreeSet<&str> = refused
        .attempts
        .iter()
        .map(|one| one.node.node.as_str())
        .collect();
    assert_eq!(BTreeSet::from([b.id.as_str(), c.id.as_str()]), tried);
    let why = refused
        .outcome
        .and_then(|outcome| outcome.refused)
        .expect("a reason");
    assert!(why.contains("no-such-program"), "{why}");
    let shown = a.knows(&waits).await.expect("known");
    assert_eq!(("waiting", 0), (shown.state.as_str(), shown.attempts.len()));
    let why = shown.why.expect("a reason");
    assert!(why.contains("gpu 64GiB"), "{why}");

    let big = SubmitTask {
        stdin: Some(data_encoding::BASE64.encode(&[0; 50_000])),
        ..shell("cat")
    };
    let refused = a.client.task_submit(&big).await.expect_err("too big");
    assert_eq!("task_too_big", refused.code);
    let listed = c.client.tasks(Some("acme"), 100).await.expect("lists");
    assert_eq!(6, listed.len());
    for node in [c, b, a] {
        node.stops().await;
    }
}

/// The node that runs a task is killed in the middle of it: another takes it up, and one outcome counts for
/// all, also for the one that comes back.
#[tokio::test(flavor = "multi_thread")]
async fn when_the_node_that_runs_a_task_is_killed_another_finishes_it() {
    let Some(works) = Works::here(PROGRAM, "tasks-killed") else {
        return;
    };
    let a = works.founds("a", "eu", &[]);
    a.creates(TOPIC, &["eu"]).await;
    let b = works
        .joins("b", (&a, "eu", &COMPUTE), &RUNS)
        .await
        .expect("joins");
    let c = works
        .joins("c", (&a, "eu", &COMPUTE), &RUNS)
        .await
        .expect("joins");
    runners(&a, 2).await;
    let word = format!("4.{}", std::process::id());
    let task = a.submits(&shell(&format!("sleep {word}; echo done"))).await;
    until("it runs", || async { claimant(&a, &task).await.is_some() }).await;
    let runs = claimant(&a, &task).await.expect("it runs");
    let (killed, other) = match runs == b.id {
        true => (b, c),
        false => (c, b),
    };
    let name = killed.name.clone();
    killed.is_killed();
    until("nothing of it is left", || async {
        processes_with(&word) == 0
    })
    .await;
    let seen = over(&[&a, &other], &task).await;
    let back = works.again(&name, &RUNS);
    let seen: Vec<TaskView> = [seen, over(&[&back], &task).await].concat();
    for seen in &seen {
        let outcome = seen.outcome.as_ref().expect("it ended");
        assert_eq!(
            ("ended", other.id.as_str()),
            (seen.state.as_str(), outcome.node.node.as_str())
        );
        assert_eq!("done\n", outcome.stdout.text);
        let tried: Vec<&str> = seen
            .attempts
            .iter()
            .map(|one| one.node.node.as_str())
            .collect();
        assert_eq!([runs.as_str(), &other.id], tried[..]);
    }
    for node in [back, other, a] {
        node.stops().await;
    }
}

/// A task is cancelled by who asked for it, and nothing of it is left. A node that stops takes its job along,
/// and when it is back says that it had left the task, and does it.
#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_task_is_stopped_and_a_node_that_comes_back_begins_anew() {
    let Some(works) = Works::here(PROGRAM, "tasks-cancelled") else {
        return;
    };
    let a = works.founds("a", "eu", &[]);
    a.creates(TOPIC, &["eu"]).await;
    let b = works
        .joins("b", (&a, "eu", &COMPUTE), &RUNS)
        .await
        .expect("joins");
    runners(&a, 1).await;
    let word = format!("41.{}", std::process::id());
    let task = a.submits(&shell(&format!("sleep {word}"))).await;
    until("it runs", || async { processes_with(&word) > 0 }).await;
    let refused = b.client.task_cancel(&task).await.expect_err("not of b");
    assert_eq!(("not_authorised", 5), (refused.code.as_str(), refused.exit));
    let shown = a.client.task_cancel(&task[..12]).await.expect("cancels");
    assert_eq!("cancelled", shown.state);
    until("nothing of it is left", || async {
        processes_with(&word) == 0
    })
    .await;
    over(&[&b], &task).await;
    let again = a.client.task_cancel(&task).await.expect_err("over");
    assert_eq!("already_over", again.code);

    let word = format!("3.{}", std::process::id());
    let task = a.submits(&shell(&format!("sleep {word}; echo done"))).await;
    until("it runs", || async { processes_with(&word) > 0 }).await;
    b.stops().await;
    assert_eq!(
        0,
        processes_with(&word),
        "a node that stops leaves nothing running"
    );
    let b = works.again("b", &RUNS);
    meets(&a, 1).await;
    let seen = over(&[&a, &b], &task).await;
    for seen in seen {
        assert_eq!("done\n", seen.outcome.expect("it ended").stdout.text);
        let left: Vec<_> = seen.attempts.iter().map(|one| one.left.is_some()).collect();
        assert_eq!([true, false], left[..]);
    }
    for node in [b, a] {
        node.stops().await;
    }
}

/// The law of the topic says where its tasks may run. Whoever has not the role runs none.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_outside_of_the_law_runs_nothing() {
    let Some(works) = Works::here(PROGRAM, "tasks-law") else {
        return;
    };
    let a = works.founds("a", "eu", &[]);
    a.creates(TOPIC, &["eu"]).await;
    let b = works
        .joins("b", (&a, "us", &COMPUTE), &RUNS)
        .await
        .expect("joins");
    let refused = works.joins("c", (&a, "eu", &["pod-host"]), &RUNS).await;
    let refused = refused.expect_err("it has not the role");
    assert!(refused.contains("no_role"), "{refused}");
    runners(&a, 1).await;
    meets(&b, 1).await;
    let task = a.submits(&shell("echo done")).await;
    let shown = a.knows(&task).await.expect("known");
    let why = shown.why.expect("a reason");
    assert!(why.starts_with("of the 1 nodes that run tasks"), "{why}");
    let unknown = b
        .knows(&task)
        .await
        .expect_err("it holds nothing of the topic");
    assert_eq!("not_found", unknown.code);
    let wider = PolicyView {
        allowed_regions: Some(vec!["eu".into(), "us".into()]),
        ..PolicyView::default()
    };
    a.client.policy_set(TOPIC, &wider).await.expect("sets");
    let seen = over(&[&a, &b], &task).await;
    for seen in seen {
        let outcome = seen.outcome.expect("it ended");
        assert_eq!(
            (b.id.as_str(), "done\n"),
            (outcome.node.node.as_str(), outcome.stdout.text.as_str())
        );
    }
    for node in [b, a] {
        node.stops().await;
    }
}

/// An agent in a few lines of text: invoked, it asks for a task; what it hears on the topic it says again on
/// another, word for word. Its input is `[kind, from, topic, stamp, body]`.
const CLERK: &str = r#"(module
    (import "mva1" "publish" (func $publish (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 1 1)
    (global (export "MVA_STATE") i32 (i32.const 1024))
    (global (export "MVA_INBOX") i32 (i32.const 4096))
    (data (i32.const 0) "acme/builds") (data (i32.const 16) "heard")
    (data (i32.const 32) "REQUEST")
    (func (export "mva_abi") (result i32) (i32.const 1))
    (func (export "handle") (param $at i32) (param $len i32) (result i32) (local $end i32)
        (local.set $end (i32.add (local.get $at) (local.get $len)))
        (if (i32.eq (i32.load8_u (i32.add (local.get $at) (i32.const 1))) (i32.const 3))
            (then (return (call $publish
                (i32.const 0) (i32.const 11) (i32.const 32) (i32.const LENGTH)))))
        ;; Past the array's head, the kind, 34 bytes of whom it is from, 12 of the topic and 9 of the time.
        (local.set $at (i32.add (local.get $at) (i32.const 57)))
        ;; The body's head: two bytes, or three.
        (local.set $at (i32.add (local.get $at)
            (i32.sub (i32.load8_u (local.get $at)) (i32.const 86))))
        (call $publish (i32.const 16) (i32.const 5)
            (local.get $at) (i32.sub (local.get $end) (local.get $at)))))"#;

/// `{"task": {"argv": ["sh", "-c", "echo $((6*7))"]}, "key": 7}` in CBOR.
fn wish() -> Vec<u8> {
    let text = |text: &str| [&[0x60 + text.len() as u8], text.as_bytes()].concat();
    let argv = [text("sh"), text("-c"), text("echo $((6*7))")].concat();
    [
        vec![0xa2],
        text("task"),
        vec![0xa1],
        text("argv"),
        vec![0x83],
        argv,
        text("key"),
        vec![7],
    ]
    .concat()
}

/// What a WASM agent on A cannot do is done by B, whose operator lets agents ask, and the agent hears of it.
#[tokio::test(flavor = "multi_thread")]
async fn an_agent_asks_for_a_task_and_hears_what_came_of_it() {
    let Some(works) = Works::here(PROGRAM, "tasks-agents") else {
        return;
    };
    let a = works.founds("a", "eu", &[]);
    a.creates(TOPIC, &["eu"]).await;
    a.creates("heard", &["eu"]).await;
    let b = works
        .joins("b", (&a, "eu", &COMPUTE), &RUNS)
        .await
        .expect("joins");
    runners(&a, 1).await;
    let wish = wish();
    let words: String = wish.iter().map(|byte| format!("\\{byte:02x}")).collect();
    let module = CLERK
        .replace("REQUEST", &words)
        .replace("LENGTH", &wish.len().to_string());
    let module = wat::parse_str(module).expect("good text");
    let topics = |names: &[&str]| Some(names.iter().map(|name| (*name).to_owned()).collect());
    let clerk = Deploy {
        name: "clerk".into(),
        topic: Some("acme/agents".into()),
        module: data_encoding::BASE64.encode(&module),
        grants: Grants {
            publishes: topics(&[TOPIC, "heard"]),
            follows: topics(&[TOPIC]),
            ..Grants::default()
        },
        ..Deploy::default()
    };
    a.client.agent_deploy(&clerk).await.expect("deploys");
    a.client
        .agent_invoke("clerk", &Invoke::default())
        .await
        .expect("it asks");
    let asked = || async { a.client.tasks(Some(TOPIC), 10).await.unwrap_or_default() };
    until("b knows of it", || async {
        let tasks = b.client.tasks(Some(TOPIC), 10).await.unwrap_or_default();
        tasks.len() == 1
    })
    .await;
    // B runs what people ask for, and has not said that agents may ask.
    let other = a.submits(&shell("true")).await;
    over(&[&a], &other).await;
    let waits = asked()
        .await
        .into_iter()
        .find(|task| task.id != other)
        .expect("asked for");
    assert_eq!(("waiting", 0), (waits.state.as_str(), waits.attempts.len()));
    b.stops().await;
    let b = works.again("b", &["--tasks", TOPIC, "--tasks-from-agents"]);
    let seen = over(&[&a, &b], &waits.id).await;
    for seen in seen {
        assert_eq!("42\n", seen.outcome.expect("it ended").stdout.text);
    }
    let heard = List {
        topic: Some("heard".into()),
        ..List::default()
    };
    until("the agent has heard of it", || async {
        let listed = a.client.list(&heard).await;
        listed.is_ok_and(|listed| !listed.memories.is_empty())
    })
    .await;
    let heard = a.client.list(&heard).await.expect("lists").memories;
    let text = &heard[0].text;
    for part in [
        "\"key\": 7",
        "\"ended\": \"exited\"",
        "\"stdout\": \"42",
        &waits.id,
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert_eq!(1, heard.len(), "once, and nothing of what it said itself");
    for node in [b, a] {
        node.stops().await;
    }
}

//! Devices at the edge: a real gateway on loopback, and devices as processes that lose their power.

use aquifer_node::api::{Forget, List, MemoryView, Remember};
use aquifer_protocol::admit::Ticket;
use aquifer_tests::device::{Device, Running};
use aquifer_tests::fleet::{Fleet, Runner, until};
use serde_json::Value;
use std::collections::BTreeSet;
use std::net::UdpSocket;
use std::path::PathBuf;

/// Readings of a peer before one can be a spike, and the most that a sensor is fed here.
const WARM_UP: i64 = 8;

/// Ordinary readings first, and then only spikes, each farther off than the one before.
fn reading(number: i64) -> i64 {
    match number <= WARM_UP {
        true => 20,
        false => number * 1_000_000,
    }
}

fn free_port() -> u16 {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
    socket.local_addr().expect("bound").port()
}

/// Starts, or starts again, a gateway that is always found at `port`.
async fn gateway(fleet: &Fleet, port: u16) -> Runner {
    let up = aquifer_node::Up {
        region: Some("eu".into()),
        listen: vec![format!("/ip4/127.0.0.1/udp/{port}/quic-v1")],
        ..fleet.flags("gateway")
    };
    fleet.starts("gateway", up).await.expect("starts")
}

fn device(fleet: &Fleet, name: &str, module: &'static str, flags: &[&str]) -> Device {
    Device {
        program: PathBuf::from(env!("CARGO_BIN_EXE_aquifer-device")),
        home: fleet.home(name),
        module,
        flags: flags.iter().map(|flag| (*flag).to_owned()).collect(),
    }
}

fn sensor(fleet: &Fleet, name: &str, ticket: &str) -> Device {
    let flags = [
        "--gateway",
        ticket,
        "--topics",
        "alerts,sensor",
        "--no-beat",
    ];
    device(fleet, name, "sensor.wasm", &flags)
}

async fn all(node: &Runner, topic: &str) -> Vec<MemoryView> {
    let asked = List {
        topic: Some(topic.into()),
        limit: Some(1_000),
        ..List::default()
    };
    node.memory().list(asked).await.expect("may list").memories
}

/// The readings that alerts are about: the second of each `[peer, reading, mean, deviation]`.
async fn alerted(node: &Runner) -> Vec<i64> {
    let alerts = all(node, "alerts").await;
    let second = |alert: &MemoryView| alert.text.split(", ").nth(1)?.parse().ok();
    let mut readings: Vec<i64> = alerts.iter().filter_map(second).collect();
    readings.sort_unstable();
    readings
}

fn spikes(through: i64) -> Vec<i64> {
    (WARM_UP + 1..=through).map(reading).collect()
}

fn feeds(device: &mut Running, numbers: std::ops::RangeInclusive<i64>) {
    numbers.for_each(|number| device.feed(&format!("#{number} {}", reading(number))));
}

/// Thirty readings while the gateway is away, and the device loses its power twice in the middle. Then the
/// gateway comes: every effect of every reading is in its memory, once. And once it stays, if what is
/// acknowledged is said again: to the same gateway, to one that has started anew, and to one that has lost
/// its ledger.
#[tokio::test(flavor = "multi_thread")]
async fn thirty_readings_survive_an_absent_gateway_and_a_pulled_plug_and_arrive_once() {
    let (fleet, port) = (Fleet::default(), free_port());
    let node = gateway(&fleet, port).await;
    let ticket = node.invites("eu/fr").await;
    node.creates("alerts", &["eu"]).await;
    node.stops().await;

    let sensor = sensor(&fleet, "sensor", &ticket);
    let mut device = sensor.runs(&[]);
    feeds(&mut device, 1..=12);
    device.has_taken("10");
    device.loses_power();
    // What was not said to be safe is said again, and some that was.
    let mut device = sensor.runs(&[]);
    feeds(&mut device, 8..=22);
    device.has_taken("20");
    device.loses_power();
    let mut device = sensor.runs(&[]);
    feeds(&mut device, 19..=30);
    device.has_taken("30");
    let status = sensor.says("status");
    assert_eq!(true, status["running"]);
    assert_eq!(30, status["agent"]["steps"], "{status}");
    assert_eq!(22, status["queue"]["steps"], "{status}");
    assert_eq!(Value::Null, status["contact"]["last"], "{status}");
    device.loses_power();
    let lost_answer = sensor.copied_to(&fleet.home("lost-answer"));
    let lost_again = sensor.copied_to(&fleet.home("lost-again"));

    let node = gateway(&fleet, port).await;
    let mut device = sensor.runs(&["--drain"]);
    device.input_ends();
    assert_eq!(0, device.ends(), "{:?}", device.told());
    assert_eq!(spikes(30), alerted(&node).await);
    let status = sensor.says("status");
    assert_eq!(0, status["queue"]["steps"], "{status}");
    assert_eq!(0, status["queue"]["refused"], "{status}");
    let alert = all(&node, "alerts").await.pop().expect("there are some");
    assert_eq!("sensor", alert.metadata["agent"]);
    assert_eq!(
        Some("0"),
        alert.metadata.get("place").map(|place| &place[..1])
    );
    assert_eq!("eu", alert.region, "the gateway wrote it");

    // The device never heard that it was acknowledged, and the gateway has started anew.
    node.stops().await;
    let node = gateway(&fleet, port).await;
    let mut device = lost_answer.runs(&["--drain"]);
    device.input_ends();
    assert_eq!(0, device.ends(), "{:?}", device.told());
    assert_eq!(spikes(30), alerted(&node).await);

    // The gateway had committed and lost its power before it wrote its ledger.
    node.stops().await;
    std::fs::remove_dir_all(fleet.home("gateway").join("edge")).expect("it has a ledger");
    let node = gateway(&fleet, port).await;
    let mut device = lost_again.runs(&["--drain"]);
    device.input_ends();
    assert_eq!(0, device.ends(), "{:?}", device.told());
    assert_eq!(spikes(30), alerted(&node).await);
    node.stops().await;
}

/// I3: what a device may not write in its region is refused with the rule, stays refused, and holds up
/// nothing behind it.
#[tokio::test(flavor = "multi_thread")]
async fn a_device_outside_of_the_law_is_refused_with_the_rule_and_goes_on() {
    let (fleet, port) = (Fleet::default(), free_port());
    let node = gateway(&fleet, port).await;
    node.creates("alerts", &["eu"]).await;
    node.creates("sensor", &["eu", "us"]).await;
    let sensor = sensor(&fleet, "sensor", &node.invites("us").await);
    let mut device = sensor.runs(&["--drain"]);
    feeds(&mut device, 1..=32);
    device.input_ends();
    assert_eq!(7, device.ends(), "{:?}", device.told());
    let refused = device.tells("a refusal", |event| event["event"] == "refused");
    assert_eq!(
        ("alerts", "region"),
        (
            refused["topic"].as_str().expect("text"),
            refused["code"].as_str().expect("text"),
        )
    );
    let reason = refused["reason"].as_str().expect("text");
    assert!(reason.contains("allowed_regions"), "{reason}");
    assert!(all(&node, "alerts").await.is_empty());
    // The summary is of the same step as the last alert.
    let summaries = all(&node, "sensor").await;
    assert_eq!(1, summaries.len());
    assert!(
        summaries[0].text.ends_with("after 32 readings"),
        "{summaries:?}"
    );
    let status = sensor.says("status");
    assert_eq!(24, status["queue"]["refused"], "{status}");
    assert_eq!(0, status["queue"]["steps"], "{status}");
    let last = sensor.says("queue")["refused"][0].clone();
    assert_eq!("region", last["code"]);
    node.stops().await;
}

/// A message to an agent wakes it once, though the device loses its power between hearing it and saying so.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_said_to_an_agent_wakes_it_once() {
    let (fleet, port) = (Fleet::default(), free_port());
    let node = gateway(&fleet, port).await;
    let ticket = node.invites("eu").await;
    let echo = device(
        &fleet,
        "echo",
        "echo.wasm",
        &["--gateway", &ticket, "--no-beat"],
    );
    let mut running = echo.runs(&[]);
    let started = running.tells("that it started", |event| event["event"] == "started");
    let inbox = format!("inbox/{}", started["agent"].as_str().expect("text"));
    node.remembers(&inbox, "hello").await;
    running.tells("news", |event| event["event"] == "news");
    // It answers whoever said it: here, the node itself.
    let replies = || async {
        let topics = node.memory().topics().await.expect("may");
        let other = topics
            .iter()
            .find(|topic| topic.name.starts_with("inbox/") && topic.name != inbox);
        other.map_or(0, |topic| topic.memories)
    };
    until("the echo comes back", || async { replies().await == 1 }).await;
    // As if it had heard and not yet kept how far.
    running.loses_power();
    std::fs::remove_file(echo.home.join("state.cbor")).expect("it has heard something");
    running = echo.runs(&[]);
    node.remembers(&inbox, "again").await;
    until("the second echo comes back", || async {
        replies().await == 2
    })
    .await;
    let status = echo.says("status");
    assert_eq!(2, status["agent"]["steps"], "{status}");
    running.loses_power();
    node.stops().await;
}

/// What is said on a topic that an agent follows wakes it with the same bytes, if the law lets the device
/// have it; what was said before it came, does not.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_hears_its_tasks_and_nothing_that_the_law_keeps_from_it() {
    let (fleet, port) = (Fleet::default(), free_port());
    let node = gateway(&fleet, port).await;
    node.creates("tasks", &["eu", "us"]).await;
    node.creates("tasks/private", &["eu"]).await;
    node.creates("results", &["eu", "us"]).await;
    // `[h'0N', h'83181e0a14']`: a name, and `[30, 10, 20]` in bytes.
    let task = |number: u8| format!("8241{number:02x}4583181e0a14");
    let says = async |topic: &str, number: u8| {
        let asked = Remember {
            text: format!("task {number}"),
            topic: Some(topic.into()),
            metadata: [("data".to_owned(), task(number))].into(),
            ..Remember::default()
        };
        node.memory().remember(asked).await.expect("remembers")
    };
    says("tasks", 1).await;
    let ticket = node.invites("us").await;
    let flags = [
        "--gateway",
        &ticket,
        "--topics",
        "results,agreed",
        "--follow",
        "tasks",
        "--no-beat",
    ];
    let worker = device(&fleet, "worker", "worker.wasm", &flags);
    let running = worker.runs(&[]);
    running.tells("that the gateway is there", |event| {
        event["event"] == "online"
    });
    until("it has looked once", || async {
        worker.says("status")["contact"]["words"] != 0
    })
    .await;
    says("tasks/private", 2).await;
    says("tasks", 3).await;
    until("the result comes", || async {
        !all(&node, "results").await.is_empty()
    })
    .await;
    let results = all(&node, "results").await;
    let texts: Vec<&str> = results.iter().map(|result| result.text.as_str()).collect();
    assert_eq!(vec!["[h'03', 20]"], texts);
    assert_eq!(1, worker.says("status")["agent"]["steps"]);
    drop(running);
    node.stops().await;
}

/// What was done and then forgotten is not done again, if the device says it again.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_forgotten_does_not_come_back() {
    let (fleet, port) = (Fleet::default(), free_port());
    let node = gateway(&fleet, port).await;
    let sensor = sensor(&fleet, "sensor", &node.invites("eu").await);
    node.stops().await;
    let mut device = sensor.runs(&[]);
    feeds(&mut device, 1..=12);
    device.has_taken("12");
    device.loses_power();
    let lost_answer = sensor.copied_to(&fleet.home("lost-answer"));
    let node = gateway(&fleet, port).await;
    let drains = |of: &Device| {
        let mut device = of.runs(&["--drain"]);
        device.input_ends();
        assert_eq!(0, device.ends(), "{:?}", device.told());
    };
    drains(&sensor);
    assert_eq!(spikes(12), alerted(&node).await);
    let forgets = Forget {
        topic: Some("alerts".into()),
        ..Forget::default()
    };
    node.memory().forget(forgets).await.expect("may");
    drains(&lost_answer);
    assert_eq!(Vec::<i64>::new(), alerted(&node).await);
    node.stops().await;
}

/// A device that has lost its gateway hands its queue to a neighbour that has it; the receipt is the
/// gateway's own, and what the neighbour carried arrives once.
#[tokio::test(flavor = "multi_thread")]
async fn a_neighbour_with_a_gateway_carries_for_one_without() {
    let (fleet, port, meet) = (Fleet::default(), free_port(), free_port());
    let node = gateway(&fleet, port).await;
    let beat = format!("239.255.71.71:{meet}@127.0.0.1");
    let flags = |ticket: &str| -> Vec<String> {
        let flags = [
            "--gateway",
            ticket,
            "--topics",
            "alerts,sensor",
            "--beat",
            &beat,
        ];
        flags.map(str::to_owned).to_vec()
    };
    let of = |name: &str, ticket: &str| Device {
        flags: flags(ticket),
        ..sensor(&fleet, name, "")
    };
    let near = of("near", &node.invites("eu").await);
    let far = of("far", &node.invites("eu").await);
    // It becomes a member, and then the gateway is out of its reach.
    let mut device = far.runs(&["--drain"]);
    device.feed("20");
    device.tells("that the gateway is there", |event| {
        event["event"] == "online"
    });
    device.loses_power();
    let mut moved = Ticket::parse(&node.invites("eu").await).expect("a ticket");
    moved.addresses = vec![format!("/ip4/127.0.0.1/udp/{}/quic-v1", free_port())];
    let far = Device {
        flags: flags(&moved.to_text()),
        ..far
    };
    let carrier = near.runs(&[]);
    carrier.tells("that the gateway is there", |event| {
        event["event"] == "online"
    });
    let mut device = far.runs(&["--drain"]);
    feeds(&mut device, 1..=30);
    device.input_ends();
    assert_eq!(0, device.ends(), "{:?}", device.told());
    assert_eq!(spikes(30), alerted(&node).await);
    let sources: BTreeSet<_> = all(&node, "alerts")
        .await
        .into_iter()
        .map(|a| a.source)
        .collect();
    let name = far.says("status")["device"]
        .as_str()
        .expect("text")
        .to_owned();
    let expected = BTreeSet::from([Some(format!("edge:{name}"))]);
    assert_eq!(expected, sources, "it is taken for whose it is");
    assert!(
        carrier
            .told()
            .iter()
            .any(|event| event["event"] == "carried")
    );
    assert_eq!(1, far.says("status")["contact"]["carried_by_others"]);
    drop(carrier);
    node.stops().await;
}

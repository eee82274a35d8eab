//! Gossip under load: many nodes, all connected to all, more messages than a heartbeat can name.
//!
//! With stock settings a sender's IHAVE grows past what the receiver takes, and the receiver ends its
//! stream without a word. The sender writes on into nothing: from then on this direction of the
//! connection is dumb, which shows as soon as a mesh needs it. The small run holds that ours stays
//! whole. The full run (`AQUIFER_LOAD=full cargo nextest run --release --profile full -p aquifer-node
//! under_load --no-capture`) prints both side by side, with the streams that were killed.

use std::sync::atomic::AtomicU64;

use libp2p::futures::StreamExt;
use libp2p::gossipsub::{
    self, IdentTopic, MessageAcceptance, MessageAuthenticity, MessageId, ValidationMode,
};
use libp2p::swarm::SwarmEvent;
use libp2p::{Multiaddr, Swarm, SwarmBuilder, noise, tcp, yamux};
use tokio::sync::{Notify, watch};

use tracing::field::Field;
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

use super::*;
use crate::net::gossip;

#[derive(Clone, Copy)]
struct Load {
    nodes: usize,
    per_second: u32,
    seconds: u64,
    /// Nodes that leave after the load.
    leavers: usize,
    probes: u32,
    /// Places in a mesh, where it is not as many as the settings say.
    degree: Option<usize>,
}

/// How a run ended.
#[derive(Debug)]
struct Outcome {
    /// Of all messages, by all receivers, the part that arrived, in thousandths.
    arrived: u64,
    /// Receivers by how many probes they heard.
    deaf: usize,
    all_probes: usize,
    receivers: usize,
    /// Streams that a receiver has ended.
    killed: u64,
}

/// Streams that gossipsub has ended in this process. It tells its log and nobody else.
static KILLED: AtomicU64 = AtomicU64::new(0);

/// Reads that log.
struct Deaths;

impl<S: Subscriber> Layer<S> for Deaths {
    // What it says of messages is not even formatted.
    fn enabled(&self, about: &Metadata<'_>, _: Context<'_, S>) -> bool {
        about.target() == "libp2p_gossipsub::handler" && about.fields().len() == 1
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        event.record(&mut |_: &Field, said: &dyn fmt::Debug| {
            if format!("{said:?}").starts_with("Failed to read from inbound stream") {
                KILLED.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
}

fn ours() -> gossipsub::Config {
    gossip::config("/aquifer/test/load".to_owned(), [7; 32]).expect("legal")
}

/// Stock settings, but for ids of 32 bytes over content, so that both arms carry the same.
fn stock() -> gossipsub::Config {
    gossipsub::ConfigBuilder::default()
        .validation_mode(ValidationMode::Anonymous)
        .validate_messages()
        .message_id_fn(|message| MessageId::new(blake3::hash(&message.data).as_bytes()))
        .build()
        .expect("legal")
}

fn swarm(config: gossipsub::Config) -> Swarm<gossipsub::Behaviour> {
    SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(
            tcp::Config::default().nodelay(true),
            noise::Config::new,
            yamux::Config::default,
        )
        .expect("transport")
        .with_behaviour(|_| {
            gossipsub::Behaviour::new(MessageAuthenticity::Anonymous, config).expect("legal")
        })
        .expect("behaviour")
        .with_swarm_config(|c| c.with_idle_connection_timeout(Duration::from_secs(600)))
        .build()
}

/// The same settings for meshes of another size.
fn with_degree(config: gossipsub::Config, degree: Option<usize>) -> gossipsub::Config {
    let Some(degree) = degree else {
        return config;
    };
    gossipsub::ConfigBuilder::from(config)
        .mesh_n(degree)
        .mesh_n_low(degree / 2)
        .mesh_n_high(degree + 1)
        .mesh_outbound_min(degree / 2)
        .build()
        .expect("legal")
}

/// Runs one node until `stop`: says what it is told to, accepts what it hears, and counts.
async fn serve(
    mut swarm: Swarm<gossipsub::Behaviour>,
    mut say: mpsc::Receiver<Vec<u8>>,
    heard: watch::Sender<(u64, u32)>,
    stop: Arc<Notify>,
) {
    let topic = IdentTopic::new("load");
    loop {
        tokio::select! {
            () = stop.notified() => return,
            Some(bytes) = say.recv() => {
                let _ = swarm.behaviour_mut().publish(topic.clone(), bytes);
            }
            event = swarm.select_next_some() => {
                if let SwarmEvent::Behaviour(gossipsub::Event::Message {
                    propagation_source, message_id, message,
                }) = event {
                    let probe = message.data.starts_with(b"probe");
                    heard.send_modify(|(bulk, probes)| {
                        *bulk += u64::from(!probe);
                        *probes += u32::from(probe);
                    });
                    swarm.behaviour_mut().report_message_validation_result(
                        &message_id, &propagation_source, MessageAcceptance::Accept,
                    );
                }
            }
        }
    }
}

async fn run(load: Load, config: fn() -> gossipsub::Config) -> Outcome {
    let topic = IdentTopic::new("load");
    let killed = KILLED.load(Ordering::Relaxed);
    let (mut says, mut hears) = (Vec::new(), Vec::new());
    let mut addrs: Vec<Multiaddr> = Vec::new();
    let stop = Arc::new(Notify::new());
    let mut tasks = Vec::new();
    for _ in 0..load.nodes {
        let mut swarm = swarm(with_degree(config(), load.degree));
        swarm.behaviour_mut().subscribe(&topic).expect("subscribes");
        swarm
            .listen_on(TCP.parse().expect("legal"))
            .expect("listens");
        let addr = loop {
            if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
                break address;
            }
        };
        for other in &addrs {
            swarm.dial(other.clone()).expect("dials");
        }
        addrs.push(addr);
        let (say, sayings) = mpsc::channel(4096);
        let (heard, count) = watch::channel((0, 0));
        says.push(say);
        hears.push(count);
        tasks.push(tokio::spawn(serve(swarm, sayings, heard, stop.clone())));
    }
    // Connections and meshes form.
    sleep(Duration::from_secs(3)).await;
    let mut tick = tokio::time::interval(Duration::from_secs(1) / load.per_second);
    let total = u64::from(load.per_second) * load.seconds;
    for number in 0..total {
        tick.tick().await;
        let mut bytes = vec![b'm'; 300];
        bytes[..8].copy_from_slice(&number.to_be_bytes());
        let at = usize::try_from(number).expect("small") % load.nodes;
        says[at].send(bytes).await.expect("runs");
    }
    let counts = || -> Vec<(u64, u32)> { hears.iter().map(|count| *count.borrow()).collect() };
    sleep(Duration::from_secs(5)).await;
    let bulk: u64 = counts().iter().map(|(bulk, _)| bulk).sum();
    for task in &tasks[load.nodes - load.leavers..] {
        task.abort();
    }
    // Those who stay find new neighbours.
    sleep(Duration::from_secs(5)).await;
    for number in 0..load.probes {
        let bytes = format!("probe {number}").into_bytes();
        says[0].send(bytes).await.expect("runs");
        sleep(Duration::from_millis(100)).await;
    }
    // The last may come by way of a heartbeat or two.
    sleep(Duration::from_secs(4)).await;
    let counts = counts();
    let killed = KILLED.load(Ordering::Relaxed) - killed;
    for task in &tasks {
        task.abort();
    }
    let receivers = &counts[1..load.nodes - load.leavers];
    let due = total * (load.nodes as u64 - 1);
    Outcome {
        arrived: bulk * 1_000 / due,
        deaf: receivers.iter().filter(|(_, probes)| *probes == 0).count(),
        all_probes: receivers.iter().filter(|(_, p)| *p == load.probes).count(),
        receivers: receivers.len(),
        killed,
    }
}

/// I16: more peers than a mesh has places, and more messages than an IHAVE may name.
#[tokio::test(flavor = "multi_thread")]
async fn under_load_nobody_falls_silent() {
    let _ = tracing_subscriber::registry().with(Deaths).try_init();
    let small = Load {
        nodes: 14,
        per_second: 60,
        seconds: 4,
        leavers: 4,
        probes: 5,
        degree: None,
    };
    let full = Load {
        nodes: 20,
        per_second: 250,
        seconds: 15,
        leavers: 8,
        probes: 20,
        degree: None,
    };
    let narrow = Load {
        nodes: 7,
        per_second: 400,
        leavers: 0,
        degree: Some(2),
        ..full
    };
    if is_full() {
        for (shape, load) in [("20, D = 6", full), ("7, D = 2", narrow)] {
            for (name, config) in [("stock", stock as fn() -> _), ("ours", ours)] {
                for _ in 0..3 {
                    let outcome = run(load, config).await;
                    println!("{shape}, {name:6} {outcome:?}");
                    if name == "ours" {
                        assert_eq!(outcome.receivers, outcome.all_probes, "{outcome:?}");
                        assert_eq!(0, outcome.killed, "{outcome:?}");
                    }
                }
            }
        }
        return;
    }
    let outcome = run(small, ours).await;
    assert!(
        outcome.arrived > 900,
        "most of the load itself: {outcome:?}"
    );
    assert_eq!(0, outcome.deaf, "{outcome:?}");
    assert_eq!(outcome.receivers, outcome.all_probes, "{outcome:?}");
    assert_eq!(0, outcome.killed, "{outcome:?}");
}

//! Every known way to hurt a libp2p node, replayed against ours while two members talk.
//!
//! One story for each class of advisory. In each, an honest pair sends frames there and back the
//! whole time; every one must arrive. The process must live, its memory must stay within
//! `GROWTH_MAX_BYTES` (the enemies' own memory counts too: they live in it), and its tables within
//! their limits. One line is printed for each class. The gate sends `GATE` frames of each class;
//! `AQUIFER_LOAD=full cargo nextest run --release -p aquifer-node advisories --no-capture` sends
//! ten thousand and says what it costs the pair.
//!
//! Not replayed: a QUIC handshake with a bad certificate (GHSA-5hq8-qhww-jm7q), for which no library
//! here lets go of its own certificate; `tests/floors.toml` holds the version that mends it.

mod members;
mod raw;
mod strangers;

use libp2p::StreamProtocol;

use super::*;
use raw::Victim;

/// Frames of one class in the gate, and at full size.
const GATE: usize = 200;
const FULL: usize = 10_000;

/// What a class may add to the memory of the process, bytes.
const GROWTH_MAX_BYTES: u64 = 64 << 20;

/// Round trips of the pair while nothing happens, and at least while something does.
const CALM_TRIPS: usize = 200;
const HOT_TRIPS: usize = 50;

const MESH: StreamProtocol = StreamProtocol::new("/aquifer/test/mesh/eu/1.1.0");
const REGION_TABLE: StreamProtocol = StreamProtocol::new("/aquifer/h1/kad/eu/1");
const HIVE_TABLE: StreamProtocol = StreamProtocol::new("/aquifer/h1/kad/global/1");
const HOP: StreamProtocol = StreamProtocol::new("/libp2p/circuit/relay/0.2.0/hop");
const DIAL_BACK: StreamProtocol = StreamProtocol::new("/libp2p/autonat/2/dial-request");

fn is_full() -> bool {
    std::env::var("AQUIFER_LOAD").is_ok_and(|size| size == "full")
}

fn frames() -> usize {
    if is_full() { FULL } else { GATE }
}

/// What this process holds in memory, bytes; `None` where the system does not say.
fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// A node that offers all it can, and a member that talks with it.
struct House {
    node: Side,
    friend: Side,
    victim: Victim,
    trips: u64,
}

impl House {
    async fn stands() -> Self {
        let settings = NetSettings {
            listen: vec![QUIC.to_owned(), TCP.to_owned()],
            directory: Some(DirectorySettings {
                hive: "h1".to_owned(),
                region: "eu".to_owned(),
                check: Box::new(|_, _| None),
            }),
            reach: ReachSettings {
                internet: true,
                serve: true,
                relay: RelayUse::Never,
                external: vec!["/ip6/::1/tcp/9".to_owned()],
            },
            ..settings(1, QUIC, &[])
        };
        let mut node = Side::silent(settings, 1024).await;
        node.tell(NetCommand::SetHello(b"seed".to_vec())).await;
        let listens = |kind: &str| {
            let addrs = node.handle.listening().iter();
            let found = addrs.clone().find(|addr| addr.contains(kind));
            found.expect("listens on both").clone()
        };
        let victim = Victim {
            key: node.key,
            quic: listens("/quic-v1"),
            tcp: listens("/127.0.0.1/tcp/"),
        };
        let mut friend = Side::friend(2, QUIC, &[&victim.quic]).await;
        node.until_up(friend.key).await;
        friend.until_up(node.key).await;
        let (_, none) = mpsc::channel(1);
        let events = std::mem::replace(&mut node.events, none);
        tokio::spawn(answer(node.commands.clone(), events));
        Self {
            node,
            friend,
            victim,
            trips: 0,
        }
    }

    /// A frame there and back.
    async fn trip(&mut self) -> Duration {
        self.trips += 1;
        let said = Bytes::from([b"trip ", &self.trips.to_be_bytes()[..]].concat());
        let start = tokio::time::Instant::now();
        self.friend
            .tell(NetCommand::Send {
                to: self.node.key,
                frame: said.clone(),
            })
            .await;
        self.friend
            .until(|event| match event {
                NetEvent::Frame { frame, .. } => (*frame == said).then_some(()),
                NetEvent::Down { .. } => panic!("the honest pair was torn apart"),
                _ => None,
            })
            .await;
        start.elapsed()
    }

    /// The node under attack, and the pair beside it: all frames arrive, memory and tables stay.
    /// `attack` tells how many frames it sent.
    async fn endures(
        &mut self,
        class: &str,
        attack: impl Future<Output = usize> + Send + 'static,
    ) -> NetSnapshot {
        let mut calm = Vec::new();
        for _ in 0..CALM_TRIPS {
            calm.push(self.trip().await);
            sleep(Duration::from_millis(2)).await;
        }
        let before = resident();
        let mut peak = before;
        let attack = tokio::spawn(attack);
        let mut hot = Vec::new();
        while !attack.is_finished() || hot.len() < HOT_TRIPS {
            hot.push(self.trip().await);
            if hot.len() % 16 == 0 {
                peak = peak.max(resident());
            }
            sleep(Duration::from_millis(2)).await;
        }
        let frames = attack.await.expect("the enemy ends");
        let grown = peak
            .max(resident())
            .zip(before)
            .map(|(peak, before)| peak - before);
        report(class, frames, (&mut calm, &mut hot), grown);
        assert!(
            grown.is_none_or(|bytes| bytes < GROWTH_MAX_BYTES),
            "{class}: {grown:?} bytes more"
        );
        let state = self.node.snapshot().await;
        assert!(
            state.peers.len() <= 64,
            "{class}: {} peers",
            state.peers.len()
        );
        assert!(
            state.strangers <= 64,
            "{class}: {} strangers",
            state.strangers
        );
        assert_eq!(0, state.directory_kept, "{class}: nothing of it was good");
        state
    }
}

/// Sends trips back where they came from, and lets gossip end.
async fn answer(commands: mpsc::Sender<NetCommand>, mut events: mpsc::Receiver<NetEvent>) {
    while let Some(event) = events.recv().await {
        let command = match event {
            NetEvent::Frame { from: to, frame } if frame.starts_with(b"trip ") => {
                NetCommand::Send { to, frame }
            }
            NetEvent::Gossip { ticket, .. } => NetCommand::Judged {
                ticket,
                verdict: GossipVerdict::Ignore,
            },
            _ => continue,
        };
        if commands.send(command).await.is_err() {
            return;
        }
    }
}

fn report(
    class: &str,
    frames: usize,
    (calm, hot): (&mut [Duration], &mut [Duration]),
    grown: Option<u64>,
) {
    let mut at = |percent: usize| {
        [&mut *calm, &mut *hot].map(|trips| {
            trips.sort_unstable();
            trips[(trips.len() * percent / 100).min(trips.len() - 1)].as_secs_f64() * 1e3
        })
    };
    let ([p50, p50_hot], [p99, p99_hot]) = (at(50), at(99));
    let memory = match grown {
        Some(bytes) => format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20)),
        None => "VOID (this system does not say)".to_owned(),
    };
    println!(
        "{class}: {frames} frames; round trip p50 {p50:.2} -> {p50_hot:.2} ms, p99 {p99:.2} -> \
         {p99_hot:.2} ms, ratio {:.1} over {} trips; memory +{memory}",
        p99_hot / p99,
        hot.len(),
    );
}

//! Every known way to hurt a libp2p node, replayed against ours while two members talk.
//!
//! One story for each class of advisory. In each, an honest pair sends frames there and back the
//! whole time; every one must arrive. The process must live, its memory must stay within
//! `GROWTH_MAX_BYTES`, and its tables within their limits. The gate sends `GATE` frames of each class
//! from within the process. At full size,
//! `AQUIFER_LOAD=full cargo nextest run --release --profile full -p aquifer-node advisories --no-capture`,
//! a process of the lowest priority sends ten thousand, at the rate of the class and then as fast as
//! it can (`flood`), and one line for each says what it costs the pair: a round trip under attack
//! against one before it, over two thousand of either at least. A pause counts as all the round trips
//! that would have met it. Frames are counted where the enemy hands them to its own stack: what the
//! node leaves on the wire is among them.
//!
//! Not replayed: what only a resolver's answer or a relay's operator can send, and fragments of QUIC
//! streams out of order (RUSTSEC-2026-0185), for which a QUIC of our own would be needed;
//! `tests/floors.toml` holds the versions that mend them.

mod flood;
mod members;
mod quic;
mod raw;
mod strangers;

use libp2p::StreamProtocol;

use super::*;
use flood::{Attack, Flood};
use raw::Victim;

/// Frames of one class in the gate, and at full size.
const GATE: usize = 200;
const FULL: usize = 10_000;

/// At full size, frames a second, and connections a second: ten thousand a minute.
const FRAMES_RATE: u32 = 1_000;
const CONNECTS_RATE: u32 = 10_000 / 60;

/// What a class may add to the memory of the process, bytes.
const GROWTH_MAX_BYTES: u64 = 64 << 20;

/// From one round trip of the pair to the next, if it takes no time.
const APART: Duration = Duration::from_millis(2);

const MESH: StreamProtocol = StreamProtocol::new("/aquifer/test/mesh/eu/1.1.0");
const REGION_TABLE: StreamProtocol = StreamProtocol::new("/aquifer/h1/kad/eu/1");
const HIVE_TABLE: StreamProtocol = StreamProtocol::new("/aquifer/h1/kad/global/1");
const HOP: StreamProtocol = StreamProtocol::new("/libp2p/circuit/relay/0.2.0/hop");
const DIAL_BACK: StreamProtocol = StreamProtocol::new("/libp2p/autonat/2/dial-request");

/// Round trips of the pair before an attack, and at least during one.
fn trips() -> (usize, usize) {
    if is_full() { (2_000, 3_000) } else { (50, 50) }
}

/// What this process holds in memory, bytes; `None` where the system does not say.
fn resident(line: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|text| text.strip_prefix(line))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// What it holds now; from here on its peak is measured.
fn mark_memory() -> Option<u64> {
    std::fs::write("/proc/self/clear_refs", "5").ok()?;
    resident("VmRSS:")
}

/// A class of hostile frames.
#[derive(Clone, Copy)]
struct Class {
    name: &'static str,
    /// Frames a second at full size, before as many as can be; `None` if it has a pace of its own.
    rate: Option<u32>,
    /// Its enemy speaks gossip, and is to be understood before it begins.
    gossips: bool,
}

impl Class {
    const fn new(name: &'static str, rate: Option<u32>) -> Self {
        let gossips = false;
        Self {
            name,
            rate,
            gossips,
        }
    }

    const fn gossip(name: &'static str) -> Self {
        Self {
            name,
            rate: Some(FRAMES_RATE),
            gossips: true,
        }
    }
}

/// The node endures an attack of this class. What is left standing, unless this process is the enemy.
async fn endures<F>(
    class: Class,
    attack: impl Fn(Victim, Flood) -> F,
) -> Option<(House, NetSnapshot)>
where
    F: Future<Output = (usize, Duration)> + Send + 'static,
{
    if let Some((victim, flood)) = flood::ordered() {
        flood::said(attack(victim, flood).await);
        return None;
    }
    let mut house = House::stands().await;
    if !is_full() {
        let victim = house.victim.clone();
        let begins = || Attack::here(GATE, |flood| attack(victim, flood));
        let state = house.endures(class, None, begins).await;
        return Some((house, state));
    }
    // The story that calls is where the attack is written.
    let place = std::any::type_name_of_val(&attack);
    let test = place.split("::{{closure}}").next().expect("a part");
    let (_, test) = test.split_once("::").expect("a crate");
    if let Some(rate) = class.rate {
        let victim = house.victim.clone();
        let begins = || Attack::elsewhere(test, &victim, FULL, Some(rate));
        house.endures(class, Some(rate), begins).await;
    }
    let victim = house.victim.clone();
    let begins = || Attack::elsewhere(test, &victim, FULL, None);
    let state = house.endures(class, None, begins).await;
    Some((house, state))
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

    /// What so many round trips take.
    async fn trips(&mut self, least: usize) -> Vec<Duration> {
        let mut took = Vec::new();
        for _ in 0..least {
            took.push(self.trip().await);
            sleep(APART).await;
        }
        took
    }

    /// The node under attack, and the pair beside it: all frames arrive, memory and tables stay.
    async fn endures(
        &mut self,
        class: Class,
        rate: Option<u32>,
        begins: impl FnOnce() -> Attack,
    ) -> NetSnapshot {
        let name = class.name;
        let (calm, hot) = trips();
        let calm = self.trips(calm).await;
        let heard = self.node.snapshot().await.meshes[0].heard;
        let before = mark_memory();
        let mut attack = begins();
        while class.gossips && self.node.snapshot().await.meshes[0].heard == heard {
            sleep(Duration::from_millis(10)).await;
        }
        attack.begin().await;
        let mut hot = self.trips(hot).await;
        attack.end().await;
        while !attack.is_over() {
            hot.extend(self.trips(1).await);
        }
        let grown = resident("VmHWM:")
            .zip(before)
            .map(|(peak, before)| peak.saturating_sub(before));
        let sent = attack.outcome().await;
        report(name, rate, sent, (calm, hot), grown);
        assert!(
            grown.is_none_or(|bytes| bytes < GROWTH_MAX_BYTES),
            "{name}: {grown:?} bytes more"
        );
        let state = self.node.snapshot().await;
        let (peers, strangers) = (state.peers.len(), state.strangers);
        assert!(peers <= 64, "{name}: {peers} peers");
        assert!(strangers <= 64, "{name}: {strangers} strangers");
        assert_eq!(0, state.directory_kept, "{name}: nothing of it was good");
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

/// What the pair met: a trip that took long was met by all that would have begun meanwhile.
fn met(took: &[Duration]) -> Vec<Duration> {
    let mut met = Vec::with_capacity(took.len());
    for took in took {
        let mut left = *took;
        met.push(left);
        while left > APART {
            left -= APART;
            met.push(left);
        }
    }
    met.sort_unstable();
    met
}

fn report(
    class: &str,
    rate: Option<u32>,
    (frames, time): (usize, Duration),
    (calm, hot): (Vec<Duration>, Vec<Duration>),
    grown: Option<u64>,
) {
    let [calm_met, hot_met] = [met(&calm), met(&hot)];
    let at = |met: &[Duration], percent: usize| {
        met[(met.len() * percent / 100).min(met.len() - 1)].as_secs_f64() * 1e3
    };
    let (p99, p99_hot) = (at(&calm_met, 99), at(&hot_met, 99));
    let memory = match grown {
        Some(bytes) => format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20)),
        None => "VOID (this system does not say)".to_owned(),
    };
    let how = rate.map_or("all it can", |_| "paced");
    println!(
        "| {class} | {frames} | {how}: {:.0}/s | {:.2} -> {:.2} ms | {p99:.2} -> {p99_hot:.2} ms | \
         {:.1} | {:.0} ms | {} and {} trips | +{memory} |",
        frames as f64 / time.as_secs_f64(),
        at(&calm_met, 50),
        at(&hot_met, 50),
        p99_hot / p99,
        at(&hot_met, 100),
        calm.len(),
        hot.len(),
    );
}

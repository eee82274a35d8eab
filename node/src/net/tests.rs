//! Real nodes on 127.0.0.1: a house where every test can start sides, let them meet and watch.
//!
//! A wait ends only by the event it waits for; `PATIENCE` merely turns a hang into a failure.

mod advisories;
mod calling;
mod devices;
mod directory;
mod hostile;
mod lasting;
mod load;
mod meeting;
mod meshes;
mod reach;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::*;

const PATIENCE: Duration = Duration::from_secs(90);
const QUIC: &str = "/ip4/127.0.0.1/udp/0/quic-v1";
const TCP: &str = "/ip4/127.0.0.1/tcp/0";

/// Whether tests that have a full size are to run at it.
fn is_full() -> bool {
    std::env::var("AQUIFER_LOAD").is_ok_and(|size| size == "full")
}

/// One node under test.
struct Side {
    key: NodeKey,
    addr: String,
    commands: mpsc::Sender<NetCommand>,
    events: mpsc::Receiver<NetEvent>,
    stop: CancellationToken,
    handle: NetHandle,
    /// Who is up, by the events taken so far: two peers may come up in either order, and a wait for
    /// one must not swallow the other.
    up: BTreeSet<NodeKey>,
    /// While set, its judge refuses everyone.
    strict: Arc<AtomicBool>,
    /// Requests its judge has refused.
    turned_away: Arc<AtomicUsize>,
}

fn settings(name: u8, listen: &str, seeds: &[&str]) -> NetSettings {
    NetSettings {
        secret: [name; 32],
        listen: vec![listen.to_owned()],
        seeds: seeds.iter().map(|seed| (*seed).to_owned()).collect(),
        mdns: false,
        meshes: vec![MeshSettings {
            region: "eu".to_owned(),
            protocol: "/aquifer/test/mesh/eu".to_owned(),
            key: [9; 32],
        }],
        agent_version: "test".to_owned(),
        connections_max: 64,
        per_peer_max: 3,
        memory_max_bytes: None,
        directory: None,
        reach: ReachSettings::default(),
    }
}

/// Admits whoever says "friend" (inside eu), "foreigner" (elsewhere) or "device", unless `strict`; redeems
/// invites without admitting.
fn judge(strict: Arc<AtomicBool>, turned_away: Arc<AtomicUsize>) -> Judge {
    Box::new(move |_, request| {
        let known = matches!(request, b"friend" | b"seed" | b"foreigner" | b"device");
        let friend = known && !strict.load(Ordering::SeqCst);
        let domains = (request != b"foreigner").then(|| "eu".to_owned());
        let answer = match request.strip_prefix(b"invite ") {
            Some(code) => [b"certificate for ", code].concat(),
            None if friend => b"welcome".to_vec(),
            None => {
                turned_away.fetch_add(1, Ordering::SeqCst);
                b"go away".to_vec()
            }
        };
        Judgement {
            admit: friend,
            answer,
            domains: domains.into_iter().collect(),
            // A foreigner may well be a seed, of its own region.
            seed: matches!(request, b"seed" | b"foreigner"),
            device: request == b"device",
        }
    })
}

fn read_answer() -> ReadAnswer {
    Box::new(|_, answer| match answer {
        b"welcome" => Ok(()),
        other => Err(String::from_utf8_lossy(other).into_owned()),
    })
}

impl Side {
    /// A node that says "friend" to everyone it meets.
    async fn friend(name: u8, listen: &str, seeds: &[&str]) -> Self {
        let side = Self::silent(settings(name, listen, seeds), 256).await;
        side.tell(NetCommand::SetHello(b"friend".to_vec())).await;
        side
    }

    /// A node that has no hello yet, with room for `room` events.
    async fn silent(settings: NetSettings, room: usize) -> Self {
        Self::start(settings, room).await.expect("starts")
    }

    /// A friend in the place of one that has just ended, as soon as its sockets are free.
    async fn heir(name: u8, place: &str, seeds: &[&str]) -> Self {
        loop {
            match Self::start(settings(name, place, seeds), 256).await {
                Err(StartNet::AddressInUse { .. }) => sleep(Duration::from_millis(20)).await,
                other => {
                    let side = other.expect("starts");
                    side.tell(NetCommand::SetHello(b"friend".to_vec())).await;
                    return side;
                }
            }
        }
    }

    async fn start(settings: NetSettings, room: usize) -> Result<Self, StartNet> {
        let (commands, orders) = mpsc::channel(64);
        let (reports, events) = mpsc::channel(room);
        let stop = CancellationToken::new();
        let strict = Arc::new(AtomicBool::new(false));
        let turned_away = Arc::new(AtomicUsize::new(0));
        let judge = judge(strict.clone(), turned_away.clone());
        let handle = start(
            settings,
            judge,
            read_answer(),
            orders,
            reports,
            stop.clone(),
        )
        .await?;
        let addr = handle.listening().first().cloned().unwrap_or_default();
        Ok(Self {
            key: handle.key(),
            addr,
            commands,
            events,
            up: BTreeSet::new(),
            stop,
            handle,
            strict,
            turned_away,
        })
    }

    async fn tell(&self, command: NetCommand) {
        self.commands.send(command).await.expect("the network runs");
    }

    async fn send(&self, to: &Self, frame: &'static [u8]) {
        self.tell(NetCommand::Send {
            to: to.key,
            frame: Bytes::from_static(frame),
        })
        .await;
    }

    /// The next event, round trips left out: they come when they come.
    async fn event(&mut self) -> NetEvent {
        loop {
            let event = timeout(PATIENCE, self.events.recv());
            let event = event.await.expect("no hang").expect("the network runs");
            match &event {
                NetEvent::Rtt { .. } => continue,
                NetEvent::Up { peer, .. } => _ = self.up.insert(*peer),
                NetEvent::Down { peer } => _ = self.up.remove(peer),
                _ => {}
            }
            return event;
        }
    }

    /// Waits for the event that `wanted` picks, passing over others.
    async fn until<T>(&mut self, wanted: impl Fn(&NetEvent) -> Option<T>) -> T {
        loop {
            if let Some(found) = wanted(&self.event().await) {
                return found;
            }
        }
    }

    async fn until_up(&mut self, peer: NodeKey) {
        while !self.up.contains(&peer) {
            self.event().await;
        }
    }

    async fn until_down(&mut self, peer: NodeKey) {
        self.until(|event| matches!(event, NetEvent::Down { peer: p } if *p == peer).then_some(()))
            .await;
    }

    /// The next frame and its sender.
    async fn frame(&mut self) -> (NodeKey, Bytes) {
        self.until(|event| match event {
            NetEvent::Frame { from, frame } => Some((*from, frame.clone())),
            _ => None,
        })
        .await
    }

    /// Why the next refusal happened.
    async fn refusal(&mut self) -> (NodeKey, String) {
        self.until(|event| match event {
            NetEvent::Refused { peer, why } => Some((*peer, why.clone())),
            _ => None,
        })
        .await
    }

    async fn snapshot(&self) -> NetSnapshot {
        let (reply, answer) = oneshot::channel();
        self.tell(NetCommand::Snapshot { reply }).await;
        answer.await.expect("the network runs")
    }

    async fn ask(&self, addr: &str, request: &[u8]) -> Result<Vec<u8>, AskPeer> {
        let (reply, answer) = oneshot::channel();
        let (addr, request) = (addr.to_owned(), request.to_vec());
        self.tell(NetCommand::Ask {
            addr,
            request,
            reply,
        })
        .await;
        timeout(PATIENCE, answer)
            .await
            .expect("bounded")
            .expect("the network runs")
    }

    async fn end(self) {
        self.stop.cancel();
        timeout(PATIENCE, self.handle.stopped())
            .await
            .expect("ends");
    }
}

/// Two friends that are up on both sides; the second dialled the first.
async fn friends(listen: &str) -> (Side, Side) {
    let mut one = Side::friend(1, listen, &[]).await;
    let mut two = Side::friend(2, listen, &[&one.addr]).await;
    one.until_up(two.key).await;
    two.until_up(one.key).await;
    (one, two)
}

/// Both can still send to each other.
async fn assert_they_talk(one: &mut Side, two: &mut Side) {
    one.send(two, b"still there?").await;
    assert_eq!((one.key, Bytes::from("still there?")), two.frame().await);
    two.send(one, b"still here").await;
    assert_eq!((two.key, Bytes::from("still here")), one.frame().await);
}

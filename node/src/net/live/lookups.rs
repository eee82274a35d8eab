//! Live lookups: Kademlia's tables filled by whoever comes by first, and who told of whom.
//!
//! libp2p says how many were asked, not who told of them; its log does, so a [`Tale`] has to listen to
//! the log of the process. For that, one lookup is made at a time.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use libp2p::futures::StreamExt;
use libp2p::kad::{self, GetClosestPeersOk, Mode, QueryResult, store::MemoryStore};
use libp2p::swarm::SwarmEvent;
use libp2p::{PeerId, StreamProtocol, Swarm};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tracing::field::{Field, Visit};
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use super::roads::{Roads, Town};
use super::{ROOM, address, lock, on_roads};

/// A connection that nobody uses ends after this time.
const IDLE: Duration = Duration::from_secs(1);

const TARGET: &str = "libp2p_kad::behaviour";

/// What one lookup took.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Took {
    /// From whoever told of it to the nearest that was found: how many were asked, one after the other.
    pub hops: usize,
    /// The same, until all that were found had been told of.
    pub all_hops: usize,
    /// Questions.
    pub asked: usize,
    /// How many were found.
    pub found: usize,
}

/// Who told of whom, as the log has it: a layer for the subscriber of the process.
#[derive(Clone, Default)]
pub struct Tale(Arc<Mutex<Vec<(String, String)>>>);

impl Tale {
    /// All that was told since the last time, in order: by whom, and of whom.
    fn take(&self) -> Vec<(String, String)> {
        std::mem::take(&mut *lock(&self.0))
    }
}

impl<S: Subscriber> Layer<S> for Tale {
    fn enabled(&self, about: &Metadata<'_>, _: Context<'_, S>) -> bool {
        about.target() == TARGET
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if event.metadata().fields().field("source").is_none() {
            return;
        }
        let mut read = Telling::default();
        event.record(&mut read);
        // `KadPeer { node_id: PeerId("…"), … }`
        let of = read.of.split('"').nth(1).unwrap_or_default().to_owned();
        lock(&self.0).push((read.by, of));
    }
}

#[derive(Default)]
struct Telling {
    by: String,
    of: String,
}

impl Visit for Telling {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        match field.name() {
            "source" => self.by = format!("{value:?}"),
            "peer" => self.of = format!("{value:?}"),
            _ => {}
        }
    }
}

type Table = kad::Behaviour<MemoryStore>;
type Question = (Vec<u8>, oneshot::Sender<(Vec<PeerId>, Vec<PeerId>, usize)>);

/// Makes lookups among `nodes` nodes: by whom and of which key, one after the other. In `order` each node
/// hears of the others; `way` is how long the way between two is.
///
/// # Panics
/// If no subscriber with this tale is there to listen to the log, or a caller is no node.
pub async fn lookups(
    nodes: u32,
    callers: &[(u32, [u8; 32])],
    order: impl Fn(u32) -> Vec<u32>,
    way: impl Fn(u32, u32) -> Duration + Send + Sync + 'static,
    tale: &Tale,
) -> Vec<Took> {
    let town = Town::new(Box::new(move |a, b| Some(way(a, b))));
    let swarms: Vec<Swarm<Table>> = (0..nodes).map(|node| swarm(town.roads(node))).collect();
    let peers: Vec<PeerId> = swarms.iter().map(|swarm| *swarm.local_peer_id()).collect();
    let (mut tasks, mut asks) = (JoinSet::new(), Vec::new());
    for (node, mut swarm) in (0..nodes).zip(swarms) {
        swarm.listen_on(address(node)).expect("listens");
        for other in order(node).into_iter().filter(|other| *other != node) {
            let table = swarm.behaviour_mut();
            table.add_address(&peers[other as usize], address(other));
        }
        let (ask, asked) = mpsc::channel(ROOM);
        asks.push(ask);
        tasks.spawn(answer(swarm, asked));
    }
    let mut took = Vec::new();
    for (caller, key) in callers {
        tale.take();
        let (reply, answer) = oneshot::channel();
        let asked = asks[*caller as usize].send((key.to_vec(), reply)).await;
        asked.expect("it runs until the end");
        let (known, found, asked) = answer.await.expect("it answers");
        let hops = hops(&known, &tale.take());
        let far = |peer: &PeerId| *hops.get(&peer.to_string()).expect("somebody told of it");
        took.push(Took {
            hops: found.first().map_or(0, far),
            all_hops: found.iter().map(far).max().unwrap_or(0),
            asked,
            found: found.len(),
        });
    }
    tasks.shutdown().await;
    took
}

/// How far away each one was when it was first told of.
fn hops(known: &[PeerId], tale: &[(String, String)]) -> HashMap<String, usize> {
    let mut hops: HashMap<String, usize> = known.iter().map(|peer| (peer.to_string(), 1)).collect();
    for (by, of) in tale {
        let far = hops.get(by).map_or(1, |hops| hops + 1);
        hops.entry(of.clone()).or_insert(far);
    }
    hops
}

fn swarm(roads: Roads) -> Swarm<Table> {
    let table = |local: PeerId| {
        let mut config = kad::Config::new(StreamProtocol::new("/aquifer/live/kad/1"));
        config.set_kbucket_inserts(kad::BucketInserts::Manual);
        config.set_periodic_bootstrap_interval(None);
        let mut table = kad::Behaviour::with_config(local, MemoryStore::new(local), config);
        table.set_mode(Some(Mode::Server));
        table
    };
    on_roads(roads, IDLE, table)
}

/// Runs a node, which makes a lookup when it is asked to.
async fn answer(mut swarm: Swarm<Table>, mut asked: mpsc::Receiver<Question>) {
    let mut open = None;
    loop {
        tokio::select! {
            Some((key, reply)) = asked.recv() => {
                let table = swarm.behaviour_mut();
                let target = kad::KBucketKey::new(key.clone());
                let known: Vec<PeerId> = table
                    .get_closest_local_peers(&target)
                    .map(|peer| *peer.preimage())
                    .take(20)
                    .collect();
                table.get_closest_peers(key);
                open = Some((known, reply));
            }
            event = swarm.select_next_some() => {
                let SwarmEvent::Behaviour(kad::Event::OutboundQueryProgressed {
                    result: QueryResult::GetClosestPeers(Ok(GetClosestPeersOk { peers, .. })),
                    stats,
                    ..
                }) = event else { continue };
                let found = peers.iter().map(|peer| peer.peer_id).collect();
                if let Some((known, reply)) = open.take() {
                    let _ = reply.send((known, found, stats.num_requests() as usize));
                }
            }
        }
    }
}

//! Live meshes for the simulator to be measured by: many libp2p nodes in one process, with our settings.
//!
//! A [`Scene`] says who is linked to whom, how long the ways are and who says what when; [`play`] lets
//! real swarms do it, over `roads` that only delay, and gives back what they [`Seen`]. Gossipsub, its
//! queues, yamux, Noise and the scheduler are the real ones. Left out of a node: admission and the gate
//! (all are admitted), scores, the core.
//!
//! Copies are counted where gossipsub names a message: it does that once for every copy it receives.
//!
//! Only with the feature `live`. Not here: what the simulator says of the same scene (`aquifer-tests`).

pub mod lookups;
mod roads;

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use libp2p::core::upgrade::Version;
use libp2p::futures::StreamExt;
use libp2p::gossipsub::{
    self, ConfigBuilder, IdentTopic, Message, MessageAcceptance, MessageAuthenticity, MessageId,
};
use libp2p::swarm::{NetworkBehaviour, SwarmEvent};
use libp2p::{Multiaddr, PeerId, Swarm, SwarmBuilder, Transport, noise, yamux};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::sleep_until;

use super::gossip;
use roads::{Lags, Roads, Town};

/// What may wait for a node: sayings, lookups, connections.
const ROOM: usize = 1_024;

/// What is to happen. Times are from the beginning of the play.
#[derive(Clone, Debug)]
pub struct Scene {
    /// When each node comes to life: its heart beats every second from then on.
    pub born: Vec<Duration>,
    /// Who is linked to whom.
    pub links: Vec<Link>,
    /// What is said, in the order of the numbers.
    pub sayings: Vec<Saying>,
    /// How the meshes are set.
    pub mesh: MeshShape,
    /// How long each node takes to judge a message.
    pub validate: Duration,
    /// From when on meshes are looked at, once a second.
    pub looks: Duration,
    /// When it ends.
    pub ends: Duration,
}

/// A link between two nodes.
#[derive(Clone, Copy, Debug)]
pub struct Link {
    /// Who makes it, and to whom.
    pub ends: (u32, u32),
    /// How long the way is, one way.
    pub way: Duration,
    /// When it is made.
    pub at: Duration,
}

/// A message.
#[derive(Clone, Copy, Debug)]
pub struct Saying {
    /// When it is said.
    pub at: Duration,
    /// By whom.
    pub by: u32,
    /// Its length, bytes: at least 8.
    pub bytes: usize,
}

/// Gossipsub's D, D_low, D_high, D_out and D_lazy.
#[derive(Clone, Copy, Debug)]
pub struct MeshShape {
    /// Wanted links in a mesh.
    pub degree: usize,
    /// Fewer are filled up.
    pub low: usize,
    /// From so many on they are cut down.
    pub high: usize,
    /// At least so many that the node made itself.
    pub outbound: usize,
    /// To how many outside the mesh a heartbeat announces.
    pub lazy: usize,
    /// Whether it goes by libp2p's protocol name, and so speaks version 1.2 and says what it does not
    /// want (IDONTWANT, from 1,000 bytes on).
    pub stock: bool,
}

/// What was seen.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// First arrivals, by message: at which node, how long after it was said.
    pub arrivals: Vec<Vec<(u32, Duration)>>,
    /// Copies that came, first ones among them.
    pub copies: u64,
    /// Nodes by links in the mesh, each second.
    pub degrees: Vec<u64>,
    /// How long what had arrived waited to be read: half of all no longer than the first, 99 in 100 no
    /// longer than the second. It is this machine and no network.
    pub lag: [Duration; 2],
}

/// What all nodes of a play write down.
struct Book {
    said: Vec<Mutex<Option<Instant>>>,
    first: Vec<Mutex<Vec<(u32, Instant)>>>,
    copies: AtomicU64,
    degrees: Mutex<Vec<u64>>,
}

impl Book {
    /// A message is named at `node`: by whoever says it, and for every copy that comes.
    fn named(&self, node: u32, heard: &mut [bool], message: &Message, by: &[Saying]) {
        let Some(number) = number_of(&message.data) else {
            return;
        };
        let now = Instant::now();
        if std::mem::replace(&mut heard[number], true) {
            self.copies.fetch_add(1, Ordering::Relaxed);
        } else if by[number].by == node {
            *lock(&self.said[number]) = Some(now);
        } else {
            self.copies.fetch_add(1, Ordering::Relaxed);
            lock(&self.first[number]).push((node, now));
        }
    }

    fn seen(&self, lags: &Lags) -> Seen {
        let of = |number: usize| {
            let (said, first) = (*lock(&self.said[number]), &self.first[number]);
            let since = |at: Instant| said.map_or(Duration::ZERO, |said| at.duration_since(said));
            let mut all: Vec<_> = lock(first).iter().map(|(n, at)| (*n, since(*at))).collect();
            all.sort_unstable();
            all
        };
        Seen {
            arrivals: (0..self.said.len()).map(of).collect(),
            copies: self.copies.load(Ordering::Relaxed),
            degrees: lock(&self.degrees).clone(),
            lag: [0.5, 0.99].map(|part| lags.quantile(part)),
        }
    }
}

fn lock<T>(what: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    what.lock().unwrap_or_else(PoisonError::into_inner)
}

fn number_of(data: &[u8]) -> Option<usize> {
    let (number, _) = data.split_first_chunk::<8>()?;
    usize::try_from(u64::from_le_bytes(*number)).ok()
}

/// Lets it happen. Takes as long as the scene says.
///
/// # Panics
/// If the scene names nodes that are not in it.
pub async fn play(scene: &Scene) -> Seen {
    let count = scene.sayings.len();
    let book = Arc::new(Book {
        said: (0..count).map(|_| Mutex::default()).collect(),
        first: (0..count).map(|_| Mutex::default()).collect(),
        copies: AtomicU64::new(0),
        degrees: Mutex::new(vec![0; 65]),
    });
    let both = |link: &Link| {
        let (a, b) = link.ends;
        [((a, b), link.way), ((b, a), link.way)]
    };
    let ways: HashMap<(u32, u32), Duration> = scene.links.iter().flat_map(both).collect();
    let town = Town::new(Box::new(move |a, b| ways.get(&(a, b)).copied()));
    let began = Instant::now();
    let (mut nodes, mut tells) = (JoinSet::new(), Vec::new());
    for node in 0..u32::try_from(scene.born.len()).expect("few nodes") {
        let (tell, told) = mpsc::channel(ROOM);
        tells.push(tell);
        let (scene, book, roads) = (scene.clone(), book.clone(), town.roads(node));
        nodes.spawn(live(node, scene, began, roads, book, told));
    }
    for (number, saying) in scene.sayings.iter().enumerate() {
        sleep_until((began + saying.at).into()).await;
        let mut bytes = vec![0; saying.bytes.max(8)];
        bytes[..8].copy_from_slice(&(number as u64).to_le_bytes());
        // It listens until it is ended below.
        let _ = tells[saying.by as usize].send(bytes).await;
    }
    sleep_until((began + scene.ends).into()).await;
    nodes.shutdown().await;
    book.seen(town.lags())
}

/// One node, until it is ended.
async fn live(
    node: u32,
    scene: Scene,
    began: Instant,
    roads: Roads,
    book: Arc<Book>,
    mut told: mpsc::Receiver<Vec<u8>>,
) {
    sleep_until((began + scene.born[node as usize]).into()).await;
    let topic = IdentTopic::new("live");
    let mut swarm = swarm(node, &scene, roads, book.clone());
    swarm.behaviour_mut().subscribe(&topic).expect("subscribes");
    swarm.listen_on(address(node)).expect("listens");
    let mut dials: Vec<Link> = scene.links.clone();
    dials.retain(|link| link.ends.0 == node);
    dials.sort_by_key(|link| std::cmp::Reverse(link.at));
    // All take as long to judge, so the first of them is the next.
    let mut judged = VecDeque::<(Instant, MessageId, PeerId)>::new();
    let mut look = began + scene.looks;
    loop {
        let dial = dials.last().map(|link| began + link.at);
        let next = judged.front().map(|(due, ..)| *due);
        tokio::select! {
            () = sleep_until(dial.unwrap_or(began).into()), if dial.is_some() => {
                let link = dials.pop().expect("there is one");
                swarm.dial(address(link.ends.1)).expect("dials");
            }
            Some(bytes) = told.recv() => {
                // Fails where there is nobody to tell it to, which shows in what arrives.
                let _ = swarm.behaviour_mut().publish(topic.clone(), bytes);
            }
            () = sleep_until(look.into()) => {
                look += Duration::from_secs(1);
                let degree = swarm.behaviour().mesh_peers(&topic.hash()).count();
                lock(&book.degrees)[degree.min(64)] += 1;
            }
            () = sleep_until(next.unwrap_or(began).into()), if next.is_some() => {
                let (_, id, source) = judged.pop_front().expect("there is one");
                accept(&mut swarm, &id, &source);
            }
            event = swarm.select_next_some() => {
                let SwarmEvent::Behaviour(gossipsub::Event::Message {
                    propagation_source, message_id, ..
                }) = event else { continue };
                if scene.validate.is_zero() {
                    accept(&mut swarm, &message_id, &propagation_source);
                } else {
                    // Timers are a millisecond apart and round up: as long as wanted on the average.
                    let due = Instant::now() + scene.validate - Duration::from_micros(500);
                    judged.push_back((due, message_id, propagation_source));
                }
            }
        }
    }
}

fn accept(swarm: &mut Swarm<gossipsub::Behaviour>, id: &MessageId, source: &PeerId) {
    let verdict = MessageAcceptance::Accept;
    swarm
        .behaviour_mut()
        .report_message_validation_result(id, source, verdict);
}

fn address(node: u32) -> Multiaddr {
    format!("/memory/{}", u64::from(node) + 1)
        .parse()
        .expect("legal")
}

fn swarm(node: u32, scene: &Scene, roads: Roads, book: Arc<Book>) -> Swarm<gossipsub::Behaviour> {
    let mut ours = ConfigBuilder::default();
    gossip::settings(&mut ours, [7; 32]);
    if !scene.mesh.stock {
        ours.protocol_id_prefix("/aquifer/live");
    }
    let (named, sayings) = (ours.build().expect("legal"), scene.sayings.clone());
    let heard = Mutex::new(vec![false; sayings.len()]);
    let config = ours
        .message_id_fn(move |message| {
            book.named(node, &mut lock(&heard), message, &sayings);
            named.message_id(message)
        })
        .mesh_n(scene.mesh.degree)
        .mesh_n_low(scene.mesh.low)
        .mesh_n_high(scene.mesh.high)
        .mesh_outbound_min(scene.mesh.outbound)
        .gossip_lazy(scene.mesh.lazy)
        .build()
        .expect("legal");
    let gossip = gossipsub::Behaviour::new(MessageAuthenticity::Anonymous, config).expect("legal");
    on_roads(roads, Duration::from_secs(3_600), |_| gossip)
}

/// A swarm that knows only these roads; a connection ends when it was of no use for so long.
fn on_roads<B: NetworkBehaviour>(
    roads: Roads,
    idle: Duration,
    behaviour: impl FnOnce(PeerId) -> B,
) -> Swarm<B> {
    SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_other_transport(|key| {
            let noise = noise::Config::new(key).expect("a key");
            roads
                .upgrade(Version::V1Lazy)
                .authenticate(noise)
                .multiplex(yamux::Config::default())
        })
        .expect("a transport")
        .with_behaviour(|key| behaviour(key.public().to_peer_id()))
        .expect("a behaviour")
        .with_swarm_config(|config| config.with_idle_connection_timeout(idle))
        .build()
}

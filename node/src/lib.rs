//! # node
//!
//! The driver of the core and the world around it: a store, a network, a recall index and the doors.
//! [`start`] composes them; [`memory::Memory`] is the one handle that every door translates to.
//!
//! In reading order: [`driver`] the beat · [`memory`] the API · [`view`] what a reader sees ·
//! [`store`] and [`net`] the outside · [`admission`] who is let in · [`surface`] and [`cli`] the doors.

pub mod admission;
pub mod agents;
pub mod amount;
pub mod api;
pub mod ask;
pub mod blob;
pub mod cli;
pub mod client;
pub mod clock;
pub mod config;
pub mod discovery;
mod doctor;
pub mod driver;
pub mod graph;
pub mod home;
pub mod indexer;
pub mod keys;
pub mod memory;
pub mod model;
pub mod moment;
pub mod names;
pub mod neighbours;
pub mod net;
pub mod observer;
pub mod recall;
pub mod store;
pub mod surface;
pub mod tasks;
pub mod ticket;
pub mod view;

mod member;

use crate::admission::Admission;
use crate::api::Problem;
use crate::clock::Clock;
use crate::config::{Config, Settings};
use crate::driver::{Helm, Rigging};
use crate::home::{Home, HomeLock};
use crate::indexer::Indexer;
use crate::memory::{Inner, Memory};
use crate::net::{MeshSettings, NetCommand, NetEvent, NetHandle};
use crate::observer::{Observed, Observer};
use crate::store::{NodeStore, Room};
use crate::tasks::Tasks;
use aquifer_protocol::certificate::role;
use aquifer_protocol::{HiveId, Keys, Member, OpenReplica, Replica};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

pub use config::Up;

const CHANNEL: usize = 1_024;

/// A running node.
#[derive(Debug)]
pub struct Node {
    memory: Memory,
    home: Home,
    token: String,
    settings: Settings,
    helm: Helm,
    net: NetHandle,
    stop: CancellationToken,
    _lock: HomeLock,
}

/// Starts a node: founds a hive in a new home, or joins one by ticket, or carries on.
///
/// # Errors
/// `home_locked`, `port_taken`, `store_newer`, `ticket_*`, `wrong_hive`, `bad_config`,
/// `unknown_region` and whatever else keeps it from starting; each says what to do.
pub async fn start(up: Up) -> Result<Node, Problem> {
    let home = up.home.clone().unwrap_or_else(|| Home::at(None));
    home.create()?;
    let lock = home.lock()?;
    let settings = Settings::resolve(&up, &Config::read(&home)?)?;
    let token = load_token(&home)?;
    let keys = keys::identity(&home)?;
    let clock = Arc::new(Clock::shifted(up.clock_shift_ms));
    let plan = member::Plan::of(&home, &keys, &up, &settings, &clock)?;
    let runner = match settings.tasks.runs_any() {
        true => Some(tasks::settings::runner().await?),
        false => None,
    };
    let tasks = Tasks::new(settings.tasks.clone(), settings.tasks.entries(&plan.hive()));
    let opened = NodeStore::open(&home, settings.store)?;
    let stop = CancellationToken::new();
    let admission = Admission::open(
        plan.hive(),
        plan.region().clone(),
        home.clone(),
        keys::Issuer::of(&home, &keys)?,
        clock.clone(),
    )?;
    let (net_commands, commands) = mpsc::channel(CHANNEL);
    let (events_in, events) = mpsc::channel(CHANNEL);
    let channels = NetChannels {
        commands,
        events: events_in,
        stop: stop.clone(),
    };
    let seeds = member::seeds(&home, &settings, &plan)?;
    let check = discovery::check(plan.hive(), clock.clone());
    let directory = net::DirectorySettings {
        hive: discovery::short(&plan.hive()),
        region: plan.region().top().to_string(),
        check,
    };
    let places = Places {
        seeds,
        meshes: member::meshes(&plan),
        directory,
    };
    let net = start_net(&keys, &settings, &admission, places, channels).await?;
    let joined = plan.join(&home, &net_commands).await;
    let me = match joined.and_then(|me| settings.tasks.may_run(me)) {
        Ok(me) => me,
        Err(problem) => {
            stop.cancel();
            net.stopped().await;
            return Err(problem);
        }
    };
    let hello = Admission::hello(me.chain());
    let _ = net_commands.send(NetCommand::SetHello(hello)).await;
    let observed = Observed::default();
    if let Some(aside) = &opened.put_aside {
        observed.trouble(format!(
            "the store was corrupt and was put aside as {}; this node rebuilds its records from peers",
            aside.display()
        ));
    }
    let health = opened.store.health();
    let shelf = blob::shelf::Shelf::open(&home, settings.disk_reserve_bytes)
        .map_err(|e| home.trouble("open the folder of blobs", &e))?;
    let room = Room::of(&home, settings.disk_reserve_bytes, health.clone());
    let engine = opened.store.kind();
    let open = {
        let (keys, clock) = (keys.clone(), clock.clone());
        move |store, me: &Member| open_replica(&keys, me, store, &clock)
    };
    let replica = open(opened.store, &me)?;
    let view = driver::first_view(&replica, clock.now()).expect("this node has a certificate");
    let thread =
        |e: std::io::Error| Problem::new("no_thread", 1, format!("cannot start a thread: {e}"), "");
    let indexer = Indexer::start(view.clone()).map_err(thread)?;
    let observer = Observer {
        observed: observed.clone(),
        indexer: indexer.clone(),
    };
    if me.grant().roles & role::SEED != 0 {
        let _ = net_commands.send(NetCommand::Serve).await;
    }
    let rigging = Rigging {
        replica,
        open: Box::new(open),
        room,
        clock: clock.clone(),
        admission: admission.clone(),
        net: net_commands.clone(),
        events,
        observer,
        stop: stop.clone(),
        tap: up.tap.clone(),
    };
    let helm = driver::start(rigging, view).map_err(thread)?;
    let (agents, errands) = agents::way();
    let memory = Memory::new(Inner {
        agents,
        helm: helm.clone(),
        indexer,
        observed: observed.clone(),
        health,
        engine,
        home: home.clone(),
        admission,
        net: net_commands.clone(),
        api: settings.api.to_string().into(),
        up_since: clock.now().millis(),
        models: memory::models::Models::of(Arc::new(shelf), up.tap.clone()),
        gpu_bytes: settings.gpu_bytes,
        tasks: tasks.clone(),
    });
    let engines = up.engines.clone().unwrap_or_default();
    let infer = settings.infer.clone();
    agents::start(memory.clone(), errands, infer, stop.clone(), engines)?;
    let (calls, called) = mpsc::channel(net::CALLS_MAX);
    let _ = net_commands
        .send(NetCommand::AnswerCalls {
            of: net::Callers::Nodes,
            node: calls,
        })
        .await;
    let (devices, heard) = mpsc::channel(net::CALLS_MAX);
    let _ = net_commands
        .send(NetCommand::AnswerCalls {
            of: net::Callers::Devices,
            node: devices,
        })
        .await;
    let gateway = memory::edge::Gateway::new(memory.clone(), keys.clone());
    tokio::spawn(gateway.answer_devices(heard, stop.clone()));
    tokio::spawn(
        memory
            .clone()
            .answer_calls(called, up.tap.clone(), stop.clone()),
    );
    let (blobs, opened) = mpsc::channel(net::BLOB_STREAMS_MAX);
    let _ = net_commands
        .send(NetCommand::ServeBlobs { node: blobs })
        .await;
    let giver = Arc::new(memory.clone());
    tokio::spawn(blob::serve::serve(giver, opened, stop.clone()));
    let offer = member::Offer {
        gpu_bytes: settings.gpu_bytes,
        models: memory.model_entries(),
    };
    member::announce(&helm, &me, net.listening(), Some(offer), clock.now()).await?;
    tokio::spawn(memory.clone().keep_models(stop.clone()));
    match runner {
        Some(runner) => drop(tokio::spawn(
            tasks::Keeper::new(memory.clone(), runner).run(stop.clone()),
        )),
        None => tasks.have_ended(),
    }
    tokio::spawn(neighbours::keep(neighbours::Keeper {
        helm: helm.clone(),
        observed: observed.clone(),
        net: net_commands.clone(),
        max_peers: settings.max_peers,
        stop: stop.clone(),
    }));
    tokio::spawn(discovery::keep(discovery::Finder {
        keys,
        helm: helm.clone(),
        observed,
        net: net_commands.clone(),
        stop: stop.clone(),
    }));
    tokio::spawn(member::keep_renewed(
        home.clone(),
        helm.clone(),
        net_commands,
        stop.clone(),
    ));
    Ok(Node {
        memory,
        home,
        token,
        settings,
        helm,
        net,
        stop,
        _lock: lock,
    })
}

impl Node {
    /// The one API.
    pub fn memory(&self) -> Memory {
        self.memory.clone()
    }

    /// Everything the node owns is there.
    pub fn home(&self) -> &Home {
        &self.home
    }

    /// The token of the HTTP API.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// The address at which the API is to be served.
    pub fn api_wanted(&self) -> SocketAddr {
        self.settings.api
    }

    /// Whether somebody asked for that address; else another port will do.
    pub fn api_chosen(&self) -> bool {
        self.settings.api_chosen
    }

    /// Remembers the address at which the API is really served.
    pub fn set_api(&self, api: SocketAddr) {
        self.memory.set_api(api.to_string());
    }

    /// Cancelled when the node is to stop, or has failed.
    pub fn stopping(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Waits until the node has failed, and says why.
    pub async fn failed(&self) -> Problem {
        self.helm.failure().await
    }

    /// Stops the node. What was acknowledged is on disk already.
    pub async fn stop(self) {
        self.stop.cancel();
        self.net.stopped().await;
        self.memory.parts().agents.ended().await;
        self.memory.parts().tasks.ended().await;
        self.helm.ended().await;
    }
}

struct NetChannels {
    commands: mpsc::Receiver<NetCommand>,
    events: mpsc::Sender<NetEvent>,
    stop: CancellationToken,
}

/// Where a node looks for others, and where it meets them.
struct Places {
    seeds: Vec<String>,
    meshes: Vec<MeshSettings>,
    directory: net::DirectorySettings,
}

async fn start_net(
    keys: &Keys,
    settings: &Settings,
    admission: &Admission,
    places: Places,
    channels: NetChannels,
) -> Result<NetHandle, Problem> {
    // A port that nobody asked for by name may be another one if it is taken.
    let listen = if settings.listen_chosen || ports_free() {
        settings.listen.clone()
    } else {
        config::listen_on(0)
    };
    let settings = net::NetSettings {
        secret: keys.secret(),
        listen,
        seeds: places.seeds,
        mdns: settings.mdns,
        meshes: places.meshes,
        agent_version: concat!("aquifer/", env!("CARGO_PKG_VERSION")).to_owned(),
        connections_max: settings.connections_max,
        // One more than two nodes that dial each other at once make, for a dial back or a circuit.
        per_peer_max: 4,
        memory_max_bytes: Some(settings.memory_max_bytes),
        directory: Some(places.directory),
        reach: settings.reach.clone(),
    };
    let (judge, read) = (admission.judge(), Admission::read_answer());
    net::start(
        settings,
        judge,
        read,
        channels.commands,
        channels.events,
        channels.stop,
    )
    .await
    .map_err(|why| no_net(&why))
}

fn ports_free() -> bool {
    let address = (std::net::Ipv4Addr::UNSPECIFIED, config::SWARM_PORT);
    std::net::UdpSocket::bind(address).is_ok() && std::net::TcpListener::bind(address).is_ok()
}

fn no_net(why: &net::StartNet) -> Problem {
    let problem = |code, exit, hint| Problem::new(code, exit, why.to_string(), hint);
    match why {
        net::StartNet::AddressInUse { .. } => problem(
            "port_taken",
            1,
            "another program listens there: give another port with --listen, or port 0 for any free one",
        ),
        net::StartNet::MalformedAddr { .. } => problem(
            "bad_address",
            2,
            "for example: --listen /ip4/0.0.0.0/udp/27471/quic-v1",
        ),
        net::StartNet::Listen { .. } | net::StartNet::Transport(_) => problem(
            "no_network",
            1,
            "check the address and this machine's network",
        ),
    }
}

fn open_replica(
    keys: &Keys,
    me: &Member,
    store: NodeStore,
    clock: &Clock,
) -> Result<Replica<NodeStore>, Problem> {
    let settings = aquifer_protocol::Settings {
        hive: HiveId(me.grant().hive.0),
        member: Some(me.clone()),
        erases: store.erases(),
    };
    Replica::open(keys.clone(), settings, store, clock::seed(), clock.now()).map_err(
        |why| match why {
            OpenReplica::Schema { found } => store::newer(&format!("schema {found}")),
            OpenReplica::WrongOwner => Problem::new(
                "wrong_hive",
                5,
                "the store in this home belongs to another node or hive",
                "give this node a home of its own with --home",
            ),
            OpenReplica::Store(failure) => Problem::new(
                "store_failed",
                1,
                failure.to_string(),
                "check the disk, then start again: the store is checked and rebuilt from peers",
            ),
        },
    )
}

/// The token of the HTTP API: 32 random bytes in hexadecimal, for this machine's owner only.
fn load_token(home: &Home) -> Result<String, Problem> {
    if let Some(bytes) = home.read("api.token", 65)?
        && let Ok(token) = String::from_utf8(bytes)
        && token.trim().len() == 64
    {
        return Ok(token.trim().to_owned());
    }
    let token = data_encoding::HEXLOWER.encode(&clock::entropy::<32>());
    home.write("api.token", token.as_bytes())?;
    Ok(token)
}

//! The network task. Owns libp2p; decides nothing.
//!
//! One loop, few arms, each cancel-safe, each synchronous once woken: nothing is awaited inside a
//! handler, so the swarm is always polled. Verdicts come from the node's `Judge`, bookkeeping is in
//! `admission`, `dialing` and `asks`; this file carries facts between them and libp2p. Backpressure
//! instead of loss: while the node is slow to take events, frames are left unread on the wire
//! first, and only then is the swarm itself left unpolled. Commands are always served, so the node
//! and the network cannot wait for each other.
//!
//! What libp2p reports is translated in `task/observe.rs`; binding is in `task/listening.rs`.

mod calling;
mod devices;
mod errands;
mod listening;
mod meshes;
mod observe;
mod outbox;
mod reaching;

use std::collections::HashMap;
use std::time::Duration;

use libp2p::futures::StreamExt;
use libp2p::request_response::OutboundRequestId;
use libp2p::swarm::ConnectionId;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::{Multiaddr, PeerId, Swarm};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use super::admission::Peers;
use super::asks::{Asks, Question};
use super::behaviour::Behaviour;
use super::blobs::Blobs;
use super::calls::{Callers, Calls};
use super::dialing::Dialing;
use super::directory::ledger::Ledger;
use super::gossip::Meshes;
use super::reach::standing::Standing;
use super::scope::Scope;
use super::streams::{Heard, Streams};
use super::{
    ADMIT_BYTES_MAX, AskPeer, Judge, NetCommand, NetEvent, NetSnapshot, NodeKey, ReadAnswer,
    Trouble, translate,
};
use outbox::Outbox;

/// How often dials, grace and owed hellos are looked at.
const BEAT: Duration = Duration::from_millis(250);

/// How long we wait at the end for connections to close in good order.
const LEAVE_WAIT: Duration = Duration::from_secs(1);

/// Dials the node asked for that may be under way; more are refused as trouble.
const DIALS_ASKED_MAX: usize = 64;

/// How the node judges.
pub(super) struct Verdicts {
    pub(super) judge: Judge,
    pub(super) read_answer: ReadAnswer,
}

/// The task's ends of the channels to the node.
pub(super) struct Wires {
    pub(super) commands: mpsc::Receiver<NetCommand>,
    pub(super) events: mpsc::Sender<NetEvent>,
    pub(super) stop: CancellationToken,
}

/// Everything the network task owns.
pub(super) struct Task {
    swarm: Swarm<Behaviour>,
    streams: Streams,
    pub(super) blobs: Blobs,
    meshes: Meshes,
    verdicts: Verdicts,
    wires: Wires,
    outbox: Outbox,
    peers: Peers,
    dialing: Dialing,
    asks: Asks,
    calls: Calls,
    devices: Calls,
    hello: Option<Vec<u8>>,
    hellos: HashMap<OutboundRequestId, PeerId>,
    dials_asked: HashMap<ConnectionId, String>,
    listen: Vec<String>,
    strangers_max: usize,
    dropped_not_up: u64,
    incoming_failed: u64,
    accept_told: Option<Instant>,
    ledger: Option<Ledger>,
    scope: Scope,
    standing: Standing,
}

impl Task {
    /// A task that listens nowhere yet.
    pub(super) fn new(
        (swarm, control): (Swarm<Behaviour>, libp2p_stream::Control),
        meshes: Meshes,
        verdicts: Verdicts,
        wires: Wires,
        seeds: Vec<Multiaddr>,
        strangers_max: usize,
    ) -> Self {
        let (standing, scope) = reaching::unknown();
        Self {
            swarm,
            blobs: Blobs::new(control.clone()),
            streams: Streams::new(control),
            meshes,
            verdicts,
            wires,
            outbox: Outbox::default(),
            peers: Peers::default(),
            dialing: Dialing::new(seeds, Instant::now()),
            asks: Asks::default(),
            calls: Calls::default(),
            devices: Calls::default(),
            hello: None,
            hellos: HashMap::new(),
            dials_asked: HashMap::new(),
            listen: Vec::new(),
            strangers_max,
            dropped_not_up: 0,
            incoming_failed: 0,
            accept_told: None,
            ledger: None,
            scope,
            standing,
        }
    }

    /// Serves until told to stop, then closes every connection.
    pub(super) async fn run(mut self) {
        let mut beat = interval(BEAT);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let events = self.wires.events.clone();
        loop {
            let hungry = self.outbox.is_hungry();
            let calm = self.outbox.is_calm();
            tokio::select! {
                () = self.wires.stop.cancelled() => break,
                permit = events.reserve(), if !self.outbox.is_empty() => {
                    let Ok(permit) = permit else { break };
                    permit.send(self.outbox.pop().expect("guarded: not empty"));
                }
                command = self.wires.commands.recv() => match command {
                    Some(command) => self.apply(command),
                    None => break,
                },
                event = self.swarm.select_next_some(), if calm => self.observe(event),
                Some((peer, stream)) = self.streams.incoming.next() => {
                    self.peers.opened(peer, stream, &self.streams);
                }
                Some((peer, stream)) = self.blobs.incoming.next() => self.blob_opened(peer, stream),
                Some(heard) = self.streams.heard.recv(), if hungry => self.hear(heard),
                Some(answered) = self.calls.next_answer() => self.answer_call(answered),
                Some(answered) = self.devices.next_answer() => self.answer_device(answered),
                now = beat.tick() => self.beat(now),
            }
        }
        self.leave().await;
    }

    async fn leave(mut self) {
        for peer in self.peers.ids() {
            let _ = self.swarm.disconnect_peer_id(peer);
        }
        let quiet = async {
            while self
                .swarm
                .network_info()
                .connection_counters()
                .num_established()
                > 0
            {
                self.swarm.select_next_some().await;
            }
        };
        // A connection that does not close in time is cut.
        let _ = timeout(LEAVE_WAIT, quiet).await;
    }

    /// A command becomes one or two libp2p calls. A local failure becomes an event.
    fn apply(&mut self, command: NetCommand) {
        match command {
            NetCommand::SetHello(hello) => self.set_hello(hello),
            NetCommand::Send { to, frame } => {
                let peer = translate::peer_of(&to).and_then(|peer| self.peers.get(&peer));
                match peer.and_then(|peer| peer.writer()) {
                    Some(writer) => {
                        writer.send(frame);
                    }
                    None => self.dropped_not_up += 1,
                }
            }
            NetCommand::Publish { mesh, lane, frame } => self.publish(&mesh, lane, frame),
            NetCommand::Judged { ticket, verdict } => self.judged(ticket, verdict),
            NetCommand::Dial { addr } => self.dial_once(addr),
            NetCommand::Know { peer, addrs } => self.know(&peer, addrs),
            NetCommand::Ask {
                addr,
                request,
                reply,
            } => {
                self.ask(Question {
                    addr,
                    request,
                    reply,
                });
            }
            NetCommand::Call {
                to,
                request,
                patience,
                reply,
            } => self.call(&to, request, patience, reply),
            NetCommand::AnswerCalls { of, node } => match of {
                Callers::Nodes => self.calls.answered_by(node),
                Callers::Devices => self.devices.answered_by(node),
            },
            NetCommand::OpenBlob { to, reply } => self.open_blob(&to, reply),
            NetCommand::ServeBlobs { node } => self.blobs.answered_by(node),
            NetCommand::Expel { peer } => self.expel(&peer),
            NetCommand::Serve => self.serve(),
            NetCommand::Directory(errand) => self.run_errand(errand),
            NetCommand::Snapshot { reply } => {
                let _ = reply.send(self.snapshot());
            }
        }
    }

    fn set_hello(&mut self, hello: Vec<u8>) {
        if hello.len() > ADMIT_BYTES_MAX {
            let length = hello.len();
            self.outbox
                .push(NetEvent::Trouble(Trouble::HelloTooLong { length }));
            return;
        }
        self.hello = Some(hello);
        for peer in self.peers.ids() {
            self.greet(peer);
        }
    }

    /// Sends our hello, if we have one.
    fn greet(&mut self, peer: PeerId) {
        let Some(hello) = self.hello.clone() else {
            return;
        };
        if let Some(entry) = self.peers.get_mut(&peer) {
            entry.hello_due = false;
            let id = self.swarm.behaviour_mut().admit.send_request(&peer, hello);
            self.hellos.insert(id, peer);
        }
    }

    fn dial_once(&mut self, addr: String) {
        let Ok(parsed) = addr.parse::<Multiaddr>() else {
            self.outbox
                .push(NetEvent::Trouble(Trouble::MalformedAddr { addr }));
            return;
        };
        let peer = translate::peer_in(&parsed);
        if peer.is_some_and(|peer| self.swarm.is_connected(&peer)) {
            return;
        }
        if self.dials_asked.len() >= DIALS_ASKED_MAX {
            let why = "too many dials are under way".to_owned();
            self.outbox
                .push(NetEvent::Trouble(Trouble::Unreachable { addr, why }));
            return;
        }
        let opts = options(parsed, PeerCondition::DisconnectedAndNotDialing);
        self.dials_asked.insert(opts.connection_id(), addr);
        self.dial(opts);
    }

    fn know(&mut self, peer: &NodeKey, addrs: Vec<String>) {
        let Some(peer) = translate::peer_of(peer) else {
            return;
        };
        let mut parsed = Vec::new();
        for addr in addrs {
            match addr.parse() {
                Ok(addr) => parsed.push(addr),
                Err(_) => self
                    .outbox
                    .push(NetEvent::Trouble(Trouble::MalformedAddr { addr })),
            }
        }
        if peer != *self.swarm.local_peer_id() {
            self.dialing.know(peer, parsed, Instant::now());
            self.list_peer(peer);
        }
    }

    fn ask(&mut self, question: Question) {
        let length = question.request.len();
        if length > ADMIT_BYTES_MAX {
            return question.answer(Err(AskPeer::TooLong { length }));
        }
        if !self.asks.has_room() {
            return question.answer(Err(AskPeer::Busy));
        }
        let Ok(addr) = question.addr.parse::<Multiaddr>() else {
            let addr = question.addr.clone();
            return question.answer(Err(AskPeer::MalformedAddr { addr }));
        };
        match translate::peer_in(&addr).filter(|peer| self.swarm.is_connected(peer)) {
            Some(peer) => self.send_question(peer, question),
            None => {
                let opts = options(addr, PeerCondition::Always);
                self.asks.dialled(opts.connection_id(), question);
                self.dial(opts);
            }
        }
    }

    fn send_question(&mut self, peer: PeerId, mut question: Question) {
        let request = std::mem::take(&mut question.request);
        let id = self
            .swarm
            .behaviour_mut()
            .admit
            .send_request(&peer, request);
        self.asks.sent(id, question);
    }

    fn expel(&mut self, key: &NodeKey) {
        let Some(peer) = translate::peer_of(key) else {
            return;
        };
        self.dialing.forget(peer);
        self.swarm.behaviour_mut().revoke(peer);
        self.outbox.drop_frames_of(key);
        if self.peers.get_mut(&peer).is_some_and(|entry| entry.expel()) {
            self.outbox.push(NetEvent::Down { peer: *key });
        }
        let _ = self.swarm.disconnect_peer_id(peer);
    }

    /// A dial that fails before it starts is treated as one that failed later.
    fn dial(&mut self, opts: DialOpts) {
        let id = opts.connection_id();
        if let Err(error) = self.swarm.dial(opts) {
            self.dial_failed(id, &error);
        }
    }

    /// What a reader read, if its session still runs.
    fn hear(&mut self, heard: Heard) {
        let Some(entry) = self.peers.get(&heard.from) else {
            return;
        };
        if entry.session() != Some(heard.session) {
            return;
        }
        let key = entry.key;
        match heard.frame {
            Ok(frame) => self.outbox.push(NetEvent::Frame { from: key, frame }),
            Err(source) => {
                self.outbox
                    .push(NetEvent::Trouble(Trouble::BadFrame { peer: key, source }));
                let _ = self.swarm.disconnect_peer_id(heard.from);
            }
        }
    }

    /// What is due by time alone.
    fn beat(&mut self, now: Instant) {
        self.calls.expire(now);
        let swarm = &self.swarm;
        for opts in self.dialing.due(now, |peer| swarm.is_connected(peer)) {
            self.dial(opts);
        }
        for dead in self.peers.outlived(now) {
            self.swarm.close_connection(dead);
        }
        for id in self.unsought(now) {
            self.swarm.close_connection(id);
        }
        for (peer, id) in self.peers.overdue(now) {
            if self.swarm.close_connection(id)
                && let Some(entry) = self.peers.get(&peer)
            {
                let why = entry.why_not().to_owned();
                self.outbox.push(NetEvent::Refused {
                    peer: entry.key,
                    why,
                });
            }
        }
        self.watch_meshes(now);
        let owed: Vec<PeerId> = self
            .peers
            .iter_mut()
            .filter_map(|(peer, entry)| entry.hello_due.then_some(*peer))
            .collect();
        for peer in owed {
            self.greet(peer);
        }
        self.beat_reach(now);
    }

    /// Connections of ours that nothing here needs any more.
    fn unsought(&self, now: Instant) -> Vec<ConnectionId> {
        let is_relay = |peer: &PeerId| self.standing.relays().any(|relay| relay == peer);
        let seeks = |peer: &PeerId| self.dialing.seeks(peer) || is_relay(peer);
        self.peers.unsought(now, seeks)
    }

    /// Whether this peer and we have admitted each other.
    pub(super) fn is_mutual(&self, peer: &PeerId) -> bool {
        self.mutual_key(peer).is_some()
    }

    /// The name of a peer, if it and we have admitted each other.
    pub(super) fn mutual_key(&self, peer: &PeerId) -> Option<NodeKey> {
        let entry = self.peers.get(peer)?;
        entry.is_mutual().then_some(entry.key)
    }

    fn snapshot(&mut self) -> NetSnapshot {
        NetSnapshot {
            listen: self.listen.clone(),
            peers: self.peers.lines(),
            peers_known: self.dialing.peers_known(),
            failing: self.failing(),
            strangers: self.peers.waiting().0,
            dropped_not_up: self.dropped_not_up,
            incoming_failed: self.incoming_failed,
            meshes: self.mesh_lines(),
            directory_kept: self.swarm.behaviour_mut().directory.kept(),
            external: self
                .standing
                .addresses()
                .iter()
                .map(Multiaddr::to_string)
                .collect(),
            relays: self
                .standing
                .relays()
                .filter_map(translate::key_of)
                .collect(),
            directory_refused: self.ledger.as_ref().map_or(0, |ledger| ledger.refused),
        }
    }
}

/// A dial of one address, to the peer it names if it names one.
fn options(addr: Multiaddr, condition: PeerCondition) -> DialOpts {
    match translate::peer_in(&addr) {
        Some(peer) => DialOpts::peer_id(peer)
            .condition(condition)
            .addresses(vec![addr])
            .build(),
        None => DialOpts::unknown_peer_id().address(addr).build(),
    }
}

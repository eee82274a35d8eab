//! What libp2p reports, translated: each event becomes bookkeeping, a libp2p call or an event for
//! the node. An event we do not know is traced, never fatal.

use std::error::Error;
use std::time::Duration;

use libp2p::core::ConnectedPoint;
use libp2p::request_response::{self, Message, OutboundFailure, ResponseChannel};
use libp2p::swarm::{ConnectionId, DialError, ListenError, SwarmEvent};
use libp2p::{Multiaddr, PeerId, mdns, ping};
use tokio::time::Instant;

use super::Task;
use crate::net::admission::{End, Left, Peer};
use crate::net::behaviour::BehaviourEvent;
use crate::net::door::TooFast;
use crate::net::{NetEvent, Trouble, admit, translate};

/// The node is told that accepting fails at most this often.
const ACCEPT_TOLD_EVERY: Duration = Duration::from_secs(60);

impl Task {
    /// Routes one event of the swarm.
    pub(super) fn observe(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::Behaviour(BehaviourEvent::Admit(event)) => self.observe_admit(event),
            SwarmEvent::Behaviour(BehaviourEvent::Ask(event)) => self.observe_call(event),
            SwarmEvent::Behaviour(BehaviourEvent::Edge(event)) => self.observe_device(event),
            SwarmEvent::Behaviour(BehaviourEvent::Ping(event)) => self.observe_ping(event),
            SwarmEvent::Behaviour(BehaviourEvent::Mdns(event)) => self.observe_mdns(event),
            SwarmEvent::Behaviour(BehaviourEvent::Mesh0(event)) => self.observe_mesh(0, event),
            SwarmEvent::Behaviour(BehaviourEvent::Mesh1(event)) => self.observe_mesh(1, event),
            SwarmEvent::Behaviour(BehaviourEvent::Mesh2(event)) => self.observe_mesh(2, event),
            SwarmEvent::Behaviour(BehaviourEvent::Directory(event)) => {
                self.observe_directory(event);
            }
            SwarmEvent::Behaviour(BehaviourEvent::Reach(event)) => self.observe_reach(&event),
            SwarmEvent::ExternalAddrConfirmed { address } => self.proved(&address),
            SwarmEvent::ExternalAddrExpired { address } => self.disproved(&address),
            SwarmEvent::ConnectionEstablished {
                peer_id,
                connection_id,
                endpoint,
                ..
            } => {
                self.connected(peer_id, connection_id, &endpoint);
            }
            SwarmEvent::ConnectionClosed {
                peer_id,
                connection_id,
                cause,
                ..
            } => {
                tracing::debug!(%peer_id, ?cause, "connection closed");
                if let Left::Down(peer) = self.peers.leave(&peer_id, connection_id) {
                    self.dialing.vanished(peer_id, Instant::now());
                    self.outbox.push(NetEvent::Down { peer });
                }
            }
            SwarmEvent::OutgoingConnectionError {
                connection_id,
                error,
                ..
            } => {
                self.dial_failed(connection_id, &error);
            }
            SwarmEvent::IncomingConnectionError { error, .. } => match too_fast(&error) {
                Some(knocks) => self.not_accepted(knocks, Instant::now()),
                None => {
                    tracing::debug!(%error, "incoming connection failed");
                    self.incoming_failed += 1;
                }
            },
            SwarmEvent::NewListenAddr { address, .. } => {
                self.listens_at(&address);
                let addr = self.dialable(address);
                if !self.listen.contains(&addr) {
                    self.listen.push(addr.clone());
                    self.outbox.push(NetEvent::Listening { addr });
                }
            }
            SwarmEvent::ExpiredListenAddr { address, .. } => {
                let addr = self.dialable(address);
                self.listen.retain(|known| *known != addr);
                self.dialing.world_changed(Instant::now());
            }
            SwarmEvent::ListenerClosed { listener_id, .. } if self.lost_place(listener_id) => {}
            SwarmEvent::ListenerClosed {
                addresses, reason, ..
            } => {
                let addrs: Vec<String> = addresses.iter().map(Multiaddr::to_string).collect();
                let why = reason
                    .err()
                    .map_or_else(|| "closed".to_owned(), |e| e.to_string());
                self.outbox
                    .push(NetEvent::Trouble(Trouble::ListenerLost { addrs, why }));
            }
            SwarmEvent::ListenerError { error, .. } => self.not_accepted(&error, Instant::now()),
            other => tracing::trace!(?other, "swarm"),
        }
    }

    /// Accepting failed, or was refused at the door. Anyone can bring that about, so it is always
    /// counted and seldom told.
    fn not_accepted(&mut self, error: &dyn Error, now: Instant) {
        self.incoming_failed += 1;
        let since = |told: Instant| now.duration_since(told);
        if self
            .accept_told
            .is_none_or(|told| since(told) >= ACCEPT_TOLD_EVERY)
        {
            self.accept_told = Some(now);
            let why = error.to_string();
            self.outbox.push(NetEvent::Trouble(Trouble::Accept { why }));
        }
    }

    /// The address with our own name at its end.
    pub(super) fn dialable(&self, addr: Multiaddr) -> String {
        let local = *self.swarm.local_peer_id();
        addr.with_p2p(local).unwrap_or_else(|addr| addr).to_string()
    }

    fn connected(&mut self, peer: PeerId, id: ConnectionId, endpoint: &ConnectedPoint) {
        let Some(key) = translate::key_of(&peer) else {
            self.swarm.close_connection(id);
            return;
        };
        let now = Instant::now();
        self.peers.join(peer, key, id, End::of(endpoint), now);
        self.dialing.reached(id, peer);
        self.dials_asked.remove(&id);
        self.greet(peer);
        if let Some(question) = self.asks.connected(id) {
            self.send_question(peer, question);
        }
        // A crowd of strangers makes room for newcomers from its own midst.
        let (strangers, oldest) = self.peers.waiting();
        if strangers > self.strangers_max
            && let Some(oldest) = oldest
        {
            self.swarm.close_connection(oldest);
        }
    }

    /// A dial failed: ours, the node's, or a question's. Others libp2p made for itself.
    pub(super) fn dial_failed(&mut self, id: ConnectionId, error: &DialError) {
        tracing::debug!(%error, "dial failed");
        self.dialing
            .failed(id, matches!(error, DialError::LocalPeerId { .. }));
        self.asks.unreachable(id, error);
        let asked = self.dials_asked.remove(&id);
        let already = matches!(error, DialError::DialPeerConditionFalse(_));
        if let Some(addr) = asked.filter(|_| !already) {
            let why = error.to_string();
            self.outbox
                .push(NetEvent::Trouble(Trouble::Unreachable { addr, why }));
        }
    }

    fn observe_admit(&mut self, event: admit::Event) {
        use request_response::Event;
        match event {
            Event::Message {
                peer,
                message:
                    Message::Request {
                        request, channel, ..
                    },
                ..
            } => {
                self.judge(peer, &request, channel);
            }
            Event::Message {
                peer,
                message:
                    Message::Response {
                        request_id,
                        response,
                    },
                ..
            } => {
                if !self.asks.answered(request_id, &response)
                    && self.hellos.remove(&request_id).is_some()
                {
                    self.read_answer(peer, &response);
                }
            }
            Event::OutboundFailure {
                peer,
                connection_id,
                request_id,
                error,
            } => {
                if !self.asks.failed(request_id, &error)
                    && self.hellos.remove(&request_id).is_some()
                {
                    self.hello_failed(peer, connection_id, &error);
                }
            }
            Event::InboundFailure { peer, error, .. } => {
                tracing::debug!(%peer, %error, "admission request failed");
            }
            Event::ResponseSent { .. } => {}
        }
    }

    /// A peer asks: the node judges. Our yes opens our ears before the answer leaves.
    fn judge(&mut self, peer: PeerId, request: &[u8], channel: ResponseChannel<Vec<u8>>) {
        let Some(entry) = self.peers.get_mut(&peer) else {
            return;
        };
        let key = entry.key;
        if !entry.may_ask(Instant::now()) {
            let why = "too many admission requests".to_owned();
            self.outbox.push(NetEvent::Refused { peer: key, why });
            let _ = self.swarm.disconnect_peer_id(peer);
            return;
        }
        let verdict = (self.verdicts.judge)(key, request);
        if verdict.admit && verdict.device {
            entry.admit_device();
            self.swarm.behaviour_mut().attach_device(peer);
            self.settle(peer);
        } else if verdict.admit {
            let meshes = self.meshes.slots_in(&verdict.domains);
            entry.admit(verdict.domains, verdict.seed);
            self.swarm.behaviour_mut().attach(peer, &meshes);
            self.attach_directory(peer);
            self.attach_reach(peer);
            self.settle(peer);
        }
        // The peer may have hung up meanwhile; that is its loss.
        let _ = self
            .swarm
            .behaviour_mut()
            .admit
            .send_response(channel, verdict.answer);
    }

    /// A peer answered our hello.
    fn read_answer(&mut self, peer: PeerId, answer: &[u8]) {
        let Some(entry) = self.peers.get_mut(&peer) else {
            return;
        };
        match (self.verdicts.read_answer)(entry.key, answer) {
            Ok(()) => {
                entry.admitted_us();
                self.settle(peer);
            }
            Err(why) => self.outbox.push(NetEvent::Refused {
                peer: entry.key,
                why,
            }),
        }
    }

    /// Speaks to a peer that both verdicts admit, on every connection they cover.
    fn settle(&mut self, peer: PeerId) {
        match self.peers.get(&peer) {
            Some(entry) if entry.is_device_let_in() => {
                return self.swarm.behaviour_mut().open_device(peer);
            }
            Some(entry) if entry.is_mutual() => {}
            _ => return,
        }
        self.swarm.behaviour_mut().open(peer);
        if let Some((key, addr)) = self.peers.settle(peer, &self.streams) {
            self.dialing.admitted(peer);
            self.dialing.world_changed(Instant::now());
            self.list_peer(peer);
            self.outbox.push(NetEvent::Up { peer: key, addr });
            let known = self.peers.get_mut(&peer).and_then(Peer::rtt_news);
            if let Some(rtt) = known {
                self.outbox.push(NetEvent::Rtt { peer: key, rtt });
            }
        }
    }

    fn hello_failed(&mut self, peer: PeerId, id: ConnectionId, error: &OutboundFailure) {
        let Some(entry) = self.peers.get_mut(&peer) else {
            return;
        };
        if matches!(error, OutboundFailure::UnsupportedProtocols) {
            let why = "it does not speak Aquifer's admission protocol".to_owned();
            self.outbox.push(NetEvent::Refused {
                peer: entry.key,
                why,
            });
        } else if entry.hello_failed(id) {
            self.swarm.close_connection(id);
        }
    }

    fn observe_ping(&mut self, event: ping::Event) {
        let rtt = match event.result {
            Ok(rtt) => Some(rtt),
            Err(ping::Failure::Unsupported) => return,
            Err(_) => None,
        };
        let Some(entry) = self.peers.get_mut(&event.peer) else {
            return;
        };
        let dead = entry.pinged(event.connection, rtt);
        if let Some(rtt) = entry.rtt_news() {
            let peer = entry.key;
            self.outbox.push(NetEvent::Rtt { peer, rtt });
        }
        if dead {
            self.swarm.close_connection(event.connection);
        }
    }

    fn observe_mdns(&mut self, event: mdns::Event) {
        let now = Instant::now();
        match event {
            mdns::Event::Discovered(found) => {
                found
                    .into_iter()
                    .for_each(|(peer, addr)| self.dialing.found(peer, addr, now));
            }
            mdns::Event::Expired(lost) => {
                lost.iter()
                    .for_each(|(peer, addr)| self.dialing.lost(*peer, addr));
            }
        }
    }
}

/// Whether it was refused at the door, and why.
fn too_fast(error: &ListenError) -> Option<&TooFast> {
    match error {
        ListenError::Denied { cause } => cause.downcast_ref(),
        _ => None,
    }
}

//! The gate: a behaviour that strangers cannot see.
//!
//! `Gated<B>` wraps any behaviour. Every connection starts empty: it offers none of `B`'s
//! protocols and `B` does not know that it exists. Once the node has judged the peer, `attach`
//! hands `B`'s real handler to the live connection (we listen); once the peer has judged us too,
//! `open` lets the handler speak. No reconnect is needed. `revoke` takes the handler away again.
//!
//! Two traps of such a wrapper, both handled here. Stock behaviours assert on the connection
//! counts they are told, so `other_established` and `remaining_established` are rewritten to
//! count attached connections only, by connection id; a revoked connection keeps counting until
//! it closes. And `NotifyHandler::Any` may pick a connection that is not attached, so it is
//! rewritten to one that is.
//!
//! The handler's half is in `gated/handler.rs`, how fast it is heard in `gated/pace.rs`. Who is
//! admitted is not decided here.

mod handler;
mod pace;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet, VecDeque};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use libp2p::core::transport::PortUse;
use libp2p::core::{ConnectedPoint, Endpoint};
use libp2p::swarm::behaviour::{ConnectionEstablished, FromSwarm};
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, NetworkBehaviour, NotifyHandler, THandler, THandlerInEvent,
    THandlerOutEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId};

use super::dialing::ADDRESSES_PER_PEER_MAX;
use super::scope::Scope;
use handler::{GatedHandler, Order};

/// Addresses of ours that peers may claim, in this time.
const CANDIDATES_MAX: usize = 64;
const CANDIDATES_EVERY: Duration = Duration::from_secs(3_600);

/// A behaviour seen by admitted peers only.
pub(super) struct Gated<B: NetworkBehaviour> {
    inner: B,
    links: HashMap<ConnectionId, Link>,
    orders: VecDeque<(PeerId, ConnectionId, Order<THandler<B>>)>,
    waker: Option<Waker>,
    /// Where `B` may have us dial.
    scope: Option<Scope>,
    /// Addresses that peers claim to see us at, as far as `B` was told of them, and since when.
    candidates: (HashSet<Multiaddr>, Instant),
}

/// What the gate knows of one connection.
struct Link {
    peer: PeerId,
    end: End,
    point: Option<ConnectedPoint>,
    stage: Stage,
}

/// How the connection came about: what `B` needs to make its handler.
enum End {
    Inbound {
        local: Multiaddr,
        remote: Multiaddr,
    },
    Outbound {
        address: Multiaddr,
        role: Endpoint,
        port: PortUse,
    },
}

/// How far a connection has come. Every stage but the first is known to `B`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Stranger,
    Listening,
    Open,
    Revoked,
}

impl Link {
    /// Whether `B` was told of this connection and must be told of its end.
    fn is_known(&self) -> bool {
        self.stage != Stage::Stranger
    }

    /// Whether `B` may use this connection.
    fn is_usable(&self) -> bool {
        matches!(self.stage, Stage::Listening | Stage::Open)
    }
}

impl<B: NetworkBehaviour> Gated<B> {
    /// Wraps `inner`; nobody is admitted.
    pub(super) fn new(inner: B) -> Self {
        Self {
            inner,
            links: HashMap::new(),
            orders: VecDeque::new(),
            waker: None,
            scope: None,
            candidates: (HashSet::new(), Instant::now()),
        }
    }

    /// Of the addresses at which `B` wants peers dialled, keeps those in `scope`: it may have them
    /// from others.
    pub(super) fn within(mut self, scope: Scope) -> Self {
        self.scope = Some(scope);
        self
    }

    /// What is behind the gate.
    pub(super) fn inner(&mut self) -> &mut B {
        &mut self.inner
    }

    /// Our verdict on the peer is yes: offer it `B`'s protocols on every connection it has now.
    pub(super) fn attach(&mut self, peer: PeerId) {
        let strangers = |link: &Link| link.peer == peer && link.stage == Stage::Stranger;
        let ids: Vec<ConnectionId> = self
            .links
            .iter()
            .filter(|(_, link)| strangers(link))
            .map(|(id, _)| *id)
            .collect();
        for id in ids {
            self.attach_one(peer, id);
        }
        self.wake();
    }

    fn attach_one(&mut self, peer: PeerId, id: ConnectionId) {
        let other_established = self.count(&peer);
        let Some(link) = self.links.get_mut(&id) else {
            return;
        };
        // Not yet established: `B` may hear of a connection only after it stands.
        let Some(endpoint) = link.point.clone() else {
            return;
        };
        let made = match &link.end {
            End::Inbound { local, remote } => self
                .inner
                .handle_established_inbound_connection(id, peer, local, remote),
            End::Outbound {
                address,
                role,
                port,
            } => self
                .inner
                .handle_established_outbound_connection(id, peer, address, *role, *port),
        };
        let Ok(handler) = made else { return };
        link.stage = Stage::Listening;
        self.orders
            .push_back((peer, id, Order::Attach(Box::new(handler))));
        self.inner
            .on_swarm_event(FromSwarm::ConnectionEstablished(ConnectionEstablished {
                peer_id: peer,
                connection_id: id,
                endpoint: &endpoint,
                failed_addresses: &[],
                other_established,
            }));
    }

    /// The peer's verdict on us is yes too: `B` may speak on every attached connection.
    pub(super) fn open(&mut self, peer: PeerId) {
        for (id, link) in &mut self.links {
            if link.peer == peer && link.stage == Stage::Listening {
                link.stage = Stage::Open;
                self.orders.push_back((peer, *id, Order::Open));
            }
        }
        self.wake();
    }

    /// Takes `B`'s handlers away from the peer. `B` still learns when the connections close.
    pub(super) fn revoke(&mut self, peer: PeerId) {
        for (id, link) in &mut self.links {
            if link.peer == peer && link.is_usable() {
                link.stage = Stage::Revoked;
                self.orders.push_back((peer, *id, Order::Revoke));
            }
        }
        self.wake();
    }

    /// The behaviour itself, to hand it work. What it says is routed as ever.
    pub(super) fn inner_mut(&mut self) -> &mut B {
        self.wake();
        &mut self.inner
    }

    /// Whether `B` may hear that somebody claims to see us at `addr`. Strangers may claim what they
    /// like and stock behaviours forget nothing, so there is room for few in an hour.
    fn hears_of(&mut self, addr: &Multiaddr) -> bool {
        let (heard, since) = &mut self.candidates;
        if since.elapsed() >= CANDIDATES_EVERY {
            heard.clear();
            *since = Instant::now();
        }
        heard.contains(addr) || (heard.len() < CANDIDATES_MAX && heard.insert(addr.clone()))
    }

    /// Connections of the peer that `B` knows of.
    fn count(&self, peer: &PeerId) -> usize {
        self.links
            .values()
            .filter(|link| link.peer == *peer && link.is_known())
            .count()
    }

    /// The connection a message of `B` goes to; `None` if no attached one is left.
    fn route(&self, peer: &PeerId, wanted: NotifyHandler) -> Option<ConnectionId> {
        match wanted {
            NotifyHandler::One(id) => self.links.get(&id).filter(|l| l.is_usable()).map(|_| id),
            NotifyHandler::Any => self
                .links
                .iter()
                .find(|(_, link)| link.peer == *peer && link.is_usable())
                .map(|(id, _)| *id),
        }
    }

    fn admit_stranger(&mut self, id: ConnectionId, peer: PeerId, end: End) {
        self.links.insert(
            id,
            Link {
                peer,
                end,
                point: None,
                stage: Stage::Stranger,
            },
        );
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl<B: NetworkBehaviour> NetworkBehaviour for Gated<B> {
    type ConnectionHandler = GatedHandler<THandler<B>>;
    type ToSwarm = B::ToSwarm;

    fn handle_pending_inbound_connection(
        &mut self,
        id: ConnectionId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        self.inner
            .handle_pending_inbound_connection(id, local, remote)
    }

    fn handle_established_inbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        let end = End::Inbound {
            local: local.clone(),
            remote: remote.clone(),
        };
        self.admit_stranger(id, peer, end);
        Ok(GatedHandler::empty())
    }

    fn handle_pending_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: Option<PeerId>,
        addresses: &[Multiaddr],
        role: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        let mut found = self
            .inner
            .handle_pending_outbound_connection(id, peer, addresses, role)?;
        if let Some(scope) = self.scope {
            found.retain(|addr| scope.allows(addr));
            found.truncate(ADDRESSES_PER_PEER_MAX);
        }
        Ok(found)
    }

    fn handle_established_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        role: Endpoint,
        port: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.admit_stranger(
            id,
            peer,
            End::Outbound {
                address: address.clone(),
                role,
                port,
            },
        );
        Ok(GatedHandler::empty())
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(established) => {
                if let Some(link) = self.links.get_mut(&established.connection_id) {
                    link.point = Some(established.endpoint.clone());
                }
            }
            FromSwarm::ConnectionClosed(mut closed) => {
                let link = self.links.remove(&closed.connection_id);
                if link.is_some_and(|link| link.is_known()) {
                    closed.remaining_established = self.count(&closed.peer_id);
                    self.inner
                        .on_swarm_event(FromSwarm::ConnectionClosed(closed));
                }
            }
            FromSwarm::AddressChange(change) => {
                let Some(link) = self.links.get_mut(&change.connection_id) else {
                    return;
                };
                link.point = Some(change.new.clone());
                if link.is_known() {
                    self.inner.on_swarm_event(FromSwarm::AddressChange(change));
                }
            }
            // A later behaviour may deny what this one already counted.
            FromSwarm::DialFailure(failure) => {
                self.links.remove(&failure.connection_id);
                self.inner.on_swarm_event(FromSwarm::DialFailure(failure));
            }
            FromSwarm::ListenFailure(failure) => {
                self.links.remove(&failure.connection_id);
                self.inner.on_swarm_event(FromSwarm::ListenFailure(failure));
            }
            FromSwarm::NewExternalAddrCandidate(claim) if !self.hears_of(claim.addr) => {}
            other => self.inner.on_swarm_event(other),
        }
    }

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        id: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        // What a revoked handler said on its way out is not heard.
        if self.links.get(&id).is_some_and(Link::is_usable) {
            self.inner.on_connection_handler_event(peer, id, event);
        }
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        self.waker = Some(cx.waker().clone());
        loop {
            if let Some((peer_id, id, event)) = self.orders.pop_front() {
                let handler = NotifyHandler::One(id);
                return Poll::Ready(ToSwarm::NotifyHandler {
                    peer_id,
                    handler,
                    event,
                });
            }
            return match std::task::ready!(self.inner.poll(cx)) {
                ToSwarm::NotifyHandler {
                    peer_id,
                    handler,
                    event,
                } => {
                    let Some(id) = self.route(&peer_id, handler) else {
                        continue;
                    };
                    let handler = NotifyHandler::One(id);
                    let event = Order::Inner(event);
                    Poll::Ready(ToSwarm::NotifyHandler {
                        peer_id,
                        handler,
                        event,
                    })
                }
                other => Poll::Ready(other.map_in(Order::Inner)),
            };
        }
    }
}

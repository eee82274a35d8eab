//! The gate's bookkeeping, against an inner behaviour that asserts as strictly as stock ones do.

use libp2p::core::upgrade::DeniedUpgrade;
use libp2p::futures::task::noop_waker_ref;
use libp2p::swarm::behaviour::ConnectionClosed;
use libp2p::swarm::handler::ConnectionEvent;
use libp2p::swarm::{ConnectionHandler, ConnectionHandlerEvent, SubstreamProtocol};

use super::*;
use crate::net::translate;

/// Counts connections as gossipsub does, and panics where gossipsub would.
#[derive(Default)]
struct Strict {
    counted: HashMap<PeerId, usize>,
    says: VecDeque<(PeerId, NotifyHandler)>,
    heard: usize,
}

impl NetworkBehaviour for Strict {
    type ConnectionHandler = Mute;
    type ToSwarm = ();

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<Mute, ConnectionDenied> {
        Ok(Mute)
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<Mute, ConnectionDenied> {
        Ok(Mute)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(e) => {
                let counted = self.counted.entry(e.peer_id).or_default();
                assert_eq!(*counted, e.other_established);
                *counted += 1;
            }
            FromSwarm::ConnectionClosed(e) => {
                let counted = self.counted.get_mut(&e.peer_id).expect("was established");
                *counted -= 1;
                assert_eq!(*counted, e.remaining_established);
            }
            _ => {}
        }
    }

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, (): ()) {
        self.heard += 1;
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<(), ()>> {
        match self.says.pop_front() {
            Some((peer_id, handler)) => Poll::Ready(ToSwarm::NotifyHandler {
                peer_id,
                handler,
                event: (),
            }),
            None => Poll::Pending,
        }
    }
}

/// A handler that offers nothing and does nothing.
struct Mute;

impl ConnectionHandler for Mute {
    type FromBehaviour = ();
    type ToBehaviour = ();
    type InboundProtocol = DeniedUpgrade;
    type OutboundProtocol = DeniedUpgrade;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = ();

    fn listen_protocol(&self) -> SubstreamProtocol<DeniedUpgrade> {
        SubstreamProtocol::new(DeniedUpgrade, ())
    }

    fn on_behaviour_event(&mut self, (): ()) {}

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ConnectionHandlerEvent<DeniedUpgrade, (), ()>> {
        Poll::Pending
    }

    fn on_connection_event(&mut self, _: ConnectionEvent<'_, DeniedUpgrade, DeniedUpgrade>) {}
}

fn peer() -> PeerId {
    translate::keypair([1; 32]).public().to_peer_id()
}

fn point() -> ConnectedPoint {
    let addr: Multiaddr = "/memory/1".parse().expect("legal");
    ConnectedPoint::Listener {
        local_addr: addr.clone(),
        send_back_addr: addr,
    }
}

fn id(number: usize) -> ConnectionId {
    ConnectionId::new_unchecked(number)
}

/// The swarm reports a connection, with its own count of all connections.
fn establish(gate: &mut Gated<Strict>, number: usize, other_established: usize) {
    let addr: Multiaddr = "/memory/1".parse().expect("legal");
    gate.handle_established_inbound_connection(id(number), peer(), &addr, &addr)
        .expect("open");
    gate.on_swarm_event(FromSwarm::ConnectionEstablished(ConnectionEstablished {
        peer_id: peer(),
        connection_id: id(number),
        endpoint: &point(),
        failed_addresses: &[],
        other_established,
    }));
}

fn close(gate: &mut Gated<Strict>, number: usize, remaining_established: usize) {
    gate.on_swarm_event(FromSwarm::ConnectionClosed(ConnectionClosed {
        peer_id: peer(),
        connection_id: id(number),
        endpoint: &point(),
        cause: None,
        remaining_established,
    }));
}

/// Everything the gate now tells handlers, as (connection, order) names.
fn orders(gate: &mut Gated<Strict>) -> Vec<(ConnectionId, String)> {
    let mut seen = Vec::new();
    let mut cx = Context::from_waker(noop_waker_ref());
    while let Poll::Ready(event) = gate.poll(&mut cx) {
        match event {
            ToSwarm::NotifyHandler {
                handler: NotifyHandler::One(id),
                event,
                ..
            } => {
                seen.push((id, format!("{event:?}")));
            }
            _ => panic!("orders go to one connection each"),
        }
    }
    seen
}

#[test]
fn the_inner_behaviour_counts_admitted_connections_only() {
    let mut gate = Gated::new(Strict::default());
    establish(&mut gate, 1, 0);
    establish(&mut gate, 2, 1);
    assert!(gate.inner.counted.is_empty(), "it knows no stranger");
    close(&mut gate, 1, 1);
    gate.attach(peer());
    assert_eq!(Some(&1), gate.inner.counted.get(&peer()));
    establish(&mut gate, 3, 1);
    gate.attach(peer());
    establish(&mut gate, 4, 2);
    assert_eq!(Some(&2), gate.inner.counted.get(&peer()));
    close(&mut gate, 2, 2);
    close(&mut gate, 3, 1);
    close(&mut gate, 4, 0);
    assert_eq!(Some(&0), gate.inner.counted.get(&peer()));
}

#[test]
fn a_revoked_connection_counts_until_it_closes_and_is_not_heard() {
    let mut gate = Gated::new(Strict::default());
    establish(&mut gate, 1, 0);
    gate.attach(peer());
    gate.on_connection_handler_event(peer(), id(1), ());
    gate.revoke(peer());
    gate.on_connection_handler_event(peer(), id(1), ());
    assert_eq!(1, gate.inner.heard);
    // Admitted again on a new connection before the old one is gone.
    establish(&mut gate, 2, 1);
    gate.attach(peer());
    assert_eq!(Some(&2), gate.inner.counted.get(&peer()));
    close(&mut gate, 1, 1);
    close(&mut gate, 2, 0);
}

#[test]
fn a_message_to_any_connection_goes_to_an_admitted_one_or_nowhere() {
    let mut gate = Gated::new(Strict::default());
    establish(&mut gate, 1, 0);
    gate.inner.says.push_back((peer(), NotifyHandler::Any));
    gate.inner
        .says
        .push_back((peer(), NotifyHandler::One(id(1))));
    assert!(orders(&mut gate).is_empty(), "a stranger is told nothing");

    gate.attach(peer());
    gate.open(peer());
    for stranger in 2..20 {
        establish(&mut gate, stranger, stranger - 1);
    }
    gate.inner.says.push_back((peer(), NotifyHandler::Any));
    let told = orders(&mut gate);
    let names: Vec<&str> = told.iter().map(|(_, name)| name.as_str()).collect();
    assert_eq!(vec!["Attach", "Open", "Inner"], names);
    assert!(told.iter().all(|(to, _)| *to == id(1)));

    gate.revoke(peer());
    gate.inner.says.push_back((peer(), NotifyHandler::Any));
    assert_eq!(vec![(id(1), "Revoke".to_owned())], orders(&mut gate));
}

/// A handler that has something to report whenever it is asked.
struct Babbler;

impl ConnectionHandler for Babbler {
    type FromBehaviour = ();
    type ToBehaviour = ();
    type InboundProtocol = DeniedUpgrade;
    type OutboundProtocol = DeniedUpgrade;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = ();

    fn listen_protocol(&self) -> SubstreamProtocol<DeniedUpgrade> {
        SubstreamProtocol::new(DeniedUpgrade, ())
    }

    fn on_behaviour_event(&mut self, (): ()) {}

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ConnectionHandlerEvent<DeniedUpgrade, (), ()>> {
        Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(()))
    }

    fn on_connection_event(&mut self, _: ConnectionEvent<'_, DeniedUpgrade, DeniedUpgrade>) {}
}

#[tokio::test]
async fn a_peer_that_gives_work_without_end_is_made_to_wait_and_heard_again() {
    let mut handler = GatedHandler::empty();
    handler.on_behaviour_event(Order::Attach(Box::new(Babbler)));
    handler.on_behaviour_event(Order::Open);
    let mut cx = Context::from_waker(noop_waker_ref());
    let reports = |handler: &mut GatedHandler<Babbler>, cx: &mut Context<'_>| {
        let most = 1_000_000;
        (0..most).find(|_| handler.poll(cx).is_pending())
    };
    let burst = reports(&mut handler, &mut cx).expect("it is made to wait");
    assert!(burst >= 250, "{burst}: not before it has said a burst");
    let next = std::future::poll_fn(|cx| handler.poll(cx));
    let event = tokio::time::timeout(Duration::from_secs(60), next).await;
    assert!(
        matches!(event, Ok(ConnectionHandlerEvent::NotifyBehaviour(()))),
        "heard again"
    );
}

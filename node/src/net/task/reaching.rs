//! Our reach, carried between libp2p and what is known of it: proved addresses, places at relays,
//! and second connections that are not needed.

use libp2p::core::transport::ListenerId;
use libp2p::{Multiaddr, PeerId};
use tokio::time::Instant;

use super::Task;
use crate::net::reach::{Bonds, ReachEvent, ReachSettings, standing::Standing};
use crate::net::scope::{Scope, is_circuit};
use crate::net::{NetEvent, NodeKey, StartNet, translate};

impl Task {
    /// Minds our reach from now on.
    ///
    /// # Errors
    /// `StartNet::MalformedAddr` for an external address that is none.
    pub(in crate::net) fn mind_reach(&mut self, settings: &ReachSettings) -> Result<(), StartNet> {
        self.standing = Standing::new(settings);
        for text in &settings.external {
            let malformed = |_| StartNet::MalformedAddr { addr: text.clone() };
            let addr: Multiaddr = text.parse().map_err(malformed)?;
            self.swarm.add_external_address(addr.clone());
            self.proved(&addr);
        }
        Ok(())
    }

    /// What the behaviours of reach report is for the log: what counts comes as addresses.
    #[expect(clippy::unused_self, reason = "one of a family")]
    pub(super) fn observe_reach(&self, event: &ReachEvent) {
        tracing::debug!(?event, "reach");
    }

    /// Our yes: what concerns the peer is offered to it.
    pub(super) fn attach_reach(&mut self, peer: PeerId) {
        let seed = self.peers.get(&peer).is_some_and(|entry| entry.is_seed());
        let inside = self
            .peers
            .get(&peer)
            .is_some_and(|entry| !entry.domains().is_empty());
        let serve = self.standing.serves();
        let bonds = Bonds {
            seed,
            inside,
            serve,
        };
        self.swarm.behaviour_mut().reach.attach(peer, bonds);
    }

    /// A seed knows its own addresses from where it listens: nobody else could relay to it.
    pub(super) fn listens_at(&mut self, addr: &Multiaddr) {
        let scope = self.scope;
        if self.standing.serves() && !is_circuit(addr) && scope.allows(addr) {
            self.swarm.add_external_address(addr.clone());
        }
        self.dialing.world_changed(Instant::now());
    }

    /// We are a seed from now on.
    pub(super) fn serve(&mut self) {
        self.standing.serve();
        self.swarm
            .behaviour_mut()
            .reach
            .serve(self.standing.serves());
        for text in self.listen.clone() {
            if let Ok(addr) = text.parse() {
                self.listens_at(&addr);
            }
        }
        for peer in self.peers.ids() {
            if self.peers.get(&peer).is_some_and(|entry| entry.is_mutual()) {
                self.attach_reach(peer);
                self.swarm.behaviour_mut().reach.open(peer);
            }
        }
    }

    /// Members that cannot be dialled, and how often in a row they could not.
    pub(super) fn failing(&self) -> Vec<(NodeKey, u32)> {
        let failing = self.dialing.failing().into_iter();
        let apart = failing.filter(|(peer, _)| !self.swarm.is_connected(peer));
        apart
            .filter_map(|(peer, count)| Some((translate::key_of(&peer)?, count)))
            .collect()
    }

    /// An address of ours was proved.
    pub(super) fn proved(&mut self, addr: &Multiaddr) {
        if is_circuit(addr) || !self.standing.proved(addr) {
            return;
        }
        let addr = self.dialable(addr.clone());
        if !self.listen.contains(&addr) {
            self.listen.push(addr.clone());
        }
        self.outbox.push(NetEvent::Listening { addr });
    }

    /// An address of ours is proved no longer.
    pub(super) fn disproved(&mut self, addr: &Multiaddr) {
        self.standing.disproved(addr);
    }

    /// A listener has ended; true if it was a place at a relay, whose loss is no trouble.
    pub(super) fn lost_place(&mut self, listener: ListenerId) -> bool {
        self.standing.lost(listener, Instant::now())
    }

    /// Takes and gives up places at relays, and lets go of connections that are not needed.
    pub(super) fn beat_reach(&mut self, now: Instant) {
        let seeds = self.seeds_of_region();
        for (relay, addr) in self.standing.due(now, &seeds) {
            match self.swarm.listen_on(addr) {
                Ok(listener) => self.standing.asked(listener, relay),
                Err(error) => {
                    tracing::debug!(%relay, %error, "no place at a relay");
                    self.standing.failed(relay, now);
                }
            }
        }
        for listener in self.standing.surplus() {
            self.swarm.remove_listener(listener);
        }
        for id in self.peers.spare(now) {
            self.swarm.close_connection(id);
        }
    }

    /// Admitted seeds of our own top-level region that we are connected to directly, and where each
    /// listens; the nearest first.
    fn seeds_of_region(&self) -> Vec<(PeerId, Multiaddr)> {
        let mut near: Vec<_> = self
            .peers
            .iter()
            .filter(|(_, entry)| entry.is_seed() && !entry.domains().is_empty())
            .filter(|(_, entry)| entry.is_direct())
            .filter_map(|(peer, entry)| {
                let known = self.dialing.addresses_of(peer).into_iter();
                let usable = |addr: &Multiaddr| self.scope.allows(addr) && !is_circuit(addr);
                let addr = entry.dialled().chain(known).find(usable)?;
                Some((entry.rtt(), *peer, addr))
            })
            .collect();
        near.sort_by_key(|(rtt, peer, _)| (rtt.is_none(), *rtt, *peer));
        near.into_iter()
            .map(|(_, peer, addr)| (peer, addr))
            .collect()
    }
}

/// Where nothing else is said: no reach beyond what we listen on.
pub(super) fn unknown() -> (Standing, Scope) {
    (Standing::new(&ReachSettings::default()), Scope::Network)
}

//! Errands of the node in the directories, carried between the node and libp2p.
//!
//! Only facts move here: who is admitted and where it listens goes into the tables, what the tables
//! report goes to the ledger, which judges it.

use libp2p::kad;
use libp2p::{Multiaddr, PeerId};

use super::Task;
use crate::net::directory::ledger::Ledger;
use crate::net::directory::{DirectoryEvent, Errand, Shared};
use crate::net::scope::Scope;

impl Task {
    /// Keeps the books of the directories from now on.
    pub(in crate::net) fn keep_books(&mut self, ledger: Option<Ledger>, scope: Scope) {
        self.ledger = ledger;
        self.scope = scope;
    }

    /// Does an errand. Without directories it is dropped, and whoever waits for its answer sees that.
    pub(super) fn run_errand(&mut self, errand: Errand) {
        if let Some(ledger) = &mut self.ledger {
            ledger.start(&mut self.swarm.behaviour_mut().directory, errand);
        }
    }

    /// Routes what the directories report.
    pub(super) fn observe_directory(&mut self, event: DirectoryEvent) {
        let (shared, event): (Shared, kad::Event) = match event {
            DirectoryEvent::Hive(event) => (Shared::Hive, event),
            DirectoryEvent::Region(event) => (Shared::Region, event),
        };
        if let Some(ledger) = &mut self.ledger {
            ledger.observe(&mut self.swarm.behaviour_mut().directory, shared, event);
        }
    }

    /// Whether an admitted peer is inside our region.
    pub(super) fn is_inside(&self, peer: &PeerId) -> bool {
        let (ledger, entry) = (self.ledger.as_ref(), self.peers.get(peer));
        ledger
            .zip(entry)
            .is_some_and(|(ledger, entry)| ledger.is_inside(entry.domains()))
    }

    /// Our yes: the peer may see the directories that it is inside of.
    pub(super) fn attach_directory(&mut self, peer: PeerId) {
        let inside = self.is_inside(&peer);
        self.swarm.behaviour_mut().directory.attach(peer, inside);
    }

    /// Lists a peer that both verdicts admit, where the node says it listens and where we reached it.
    pub(super) fn list_peer(&mut self, peer: PeerId) {
        let Some(entry) = self.peers.get(&peer).filter(|entry| entry.is_mutual()) else {
            return;
        };
        let known = self.dialing.addresses_of(&peer).into_iter();
        let addrs: Vec<Multiaddr> = entry
            .dialled()
            .chain(known)
            .filter(|addr| self.scope.allows(addr))
            .collect();
        let inside = self.is_inside(&peer);
        self.swarm
            .behaviour_mut()
            .directory
            .list(peer, inside, &addrs);
    }
}

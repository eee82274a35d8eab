//! Formation: which links are in the meshes that a run begins with.
//!
//! Links come up one after the other. As long as an agent's mesh has fewer than D_low, it takes in
//! whoever comes, and the other end agrees. So a link is in the mesh if it is among the first D_low of
//! either end: that is rust-libp2p's `handle_received_subscriptions`. Heartbeats see to the rest. Since
//! a near peer answers sooner, meshes that form in a hurry are made of shorter links.
//!
//! Without heartbeats nobody would mend it, so each agent then begins with D links: they come in pairs
//! that both ends number alike but for the last bit.
//!
//! Not here: what heartbeats do (`heart`).

use super::churn::AWAY;
use super::{Gossip, Shard};
use crate::swarm::draw::Purpose;

/// After how many ways over a new link its two ends hear what the other subscribes to: the one that
/// made it, and the other. Noise takes two and three ways until they can speak, agreeing on a stream
/// two more, and then they say it.
const HANDSHAKE: [u32; 2] = [6, 5];

impl Gossip {
    /// When the link between two agents is made, in microseconds from when the first is.
    pub fn made_at(&self, agent: u32, peer: u32) -> u32 {
        let (a, b) = (agent.min(peer).into(), agent.max(peer).into());
        self.draws.below(self.mesh.linking, Purpose::Meeting, a, b)
    }

    /// When an agent hears over one of its links what its peer subscribes to.
    fn hears_at(&self, agent: u32, slot: u8, peer: u32) -> u32 {
        let place = |agent: u32| (agent.into(), self.geography.region(agent.into()));
        let way = self.geography.way(place(agent), place(peer)) as u32;
        let ways = HANDSHAKE[usize::from(slot % 2)];
        self.made_at(agent, peer).saturating_add(ways * way)
    }

    /// Until when each agent of a shard takes in whoever comes.
    pub fn welcomes(&self, shard: &Shard) -> Vec<u32> {
        let mut met = Vec::new();
        let until = |agent: u32| {
            met.clear();
            let peers = (0..self.links).filter_map(|slot| Some((slot, shard.link(agent, slot)?.0)));
            met.extend(peers.map(|(slot, peer)| self.hears_at(agent, slot, peer)));
            match (self.mesh.low as usize).checked_sub(1) {
                Some(last) if last < met.len() => *met.select_nth_unstable(last).1,
                Some(_) => u32::MAX,
                None => 0,
            }
        };
        shard.agents().map(until).collect()
    }

    /// Forms the meshes of a shard, where `welcome` says until when an agent takes in whoever comes.
    pub fn forms(&self, shard: &mut Shard, welcome: impl Fn(u32) -> u32) {
        for agent in shard.agents() {
            if self.churn.is_some() {
                let links =
                    (0..self.links).filter_map(|slot| Some((slot, shard.link(agent, slot)?.0)));
                let away = links.filter(|(_, peer)| self.begins_away(*peer));
                let down = away.map(|(slot, _)| 1 << slot).sum();
                let place = shard.place(agent);
                shard.down[place] = down;
                if self.begins_away(agent) {
                    shard.since[place] = AWAY;
                    continue;
                }
            }
            let own = welcome(agent);
            let joined = |(slot, peer): (u8, u32)| {
                let is_in = match self.mesh.heartbeat {
                    0 => u32::from(slot) < self.mesh.degree / 2 * 2,
                    _ => {
                        let theirs = self.hears_at(peer, slot ^ 1, agent);
                        self.hears_at(agent, slot, peer) <= own || theirs <= welcome(peer)
                    }
                };
                u32::from(is_in) << slot
            };
            let links = (0..self.links).filter_map(|slot| Some((slot, shard.link(agent, slot)?.0)));
            let mesh: u32 = links.map(joined).sum();
            let place = shard.place(agent);
            let down = shard.down.get(place).copied().unwrap_or(0);
            shard.meshes[place] = mesh & !down;
        }
    }
}

//! The heartbeat: who is in an agent's mesh, and what it offers to those who are not.
//!
//! Once in a heartbeat, at a moment of its own, an agent fills its mesh up or cuts it down, and names
//! the messages of the last heartbeats to some of its other peers. A peer that was put out of the mesh
//! is not taken in again for a minute or two, and answers a graft in that time with a prune.
//!
//! Not here: scores, which need a peer that does harm.

use super::shard::{OFFERED, Slots};
use super::{Event, Gossip, Out, Shard, Way, timer};
use crate::swarm::draw::{Purpose, scaled};
use crate::swarm::event::Kind;

/// Between two shifts of the links that may not come back, in microseconds.
const BACKOFF: u64 = 60_000_000;

impl Gossip {
    /// Whether a link is in the mesh from the beginning; both its ends find the same. Heartbeats see to
    /// the rest: they begin with the wanted number of links on the average. Without them each agent has
    /// that number, for nobody would mend it: links come in pairs that both ends number alike but for
    /// the last bit.
    pub(super) fn begins_in_mesh(&self, agent: u32, slot: u8, peer: u32) -> bool {
        if self.mesh.heartbeat == 0 {
            return u32::from(slot) < self.mesh.degree / 2 * 2;
        }
        let (a, b) = (agent.min(peer).into(), agent.max(peer).into());
        let drawn = self.draws.below(self.links.into(), Purpose::Graph, a, b);
        drawn < self.mesh.degree
    }

    pub(super) fn beats<O: Out>(&self, shard: &mut Shard, agent: u32, way: &mut Way<'_, O>) -> u64 {
        let beat = way.at / self.mesh.heartbeat;
        way.plan(agent, timer::HEARTBEAT, 0, self.mesh.heartbeat);
        if beat.is_multiple_of(BACKOFF.div_ceil(self.mesh.heartbeat)) {
            let place = shard.place(agent);
            let [this, _] = shard.backoff[place];
            shard.backoff[place] = [0, this];
        }
        let changed = self.mends(shard, agent, beat, way);
        let offered = self.announces(shard, agent, beat, way);
        let degree = shard.mesh(agent).count();
        shard.tally.degrees[degree] += 1;
        u64::from(changed) << 32 | offered << 8 | degree as u64
    }

    /// Fills the mesh up, or cuts it down, to the wanted degree.
    fn mends<O: Out>(&self, shard: &mut Shard, agent: u32, beat: u64, way: &mut Way<'_, O>) -> u32 {
        let place = shard.place(agent);
        let mesh = shard.meshes[place];
        let degree = mesh.count_ones();
        let [this, before] = shard.backoff[place];
        let (from, count, kind) = if degree < self.mesh.low {
            let others = shard.linked(agent) & !mesh & !this & !before;
            (others, self.mesh.degree - degree, Kind::Graft)
        } else if degree > self.mesh.high {
            (mesh, degree - self.mesh.degree, Kind::Prune)
        } else {
            return 0;
        };
        let picked = self.pick(from, count, agent, beat << 1);
        shard.meshes[place] ^= picked;
        if kind == Kind::Prune {
            shard.backoff[place][0] |= picked;
        }
        for slot in Slots(picked) {
            way.send(shard, agent, slot, kind, 0);
        }
        picked
    }

    /// Names what it has had lately to some outside the mesh. How many messages that were.
    fn announces<O: Out>(
        &self,
        shard: &mut Shard,
        agent: u32,
        beat: u64,
        way: &mut Way<'_, O>,
    ) -> u64 {
        let ask_anew = beat.is_multiple_of(OFFERED as u64);
        let (oldest, newest) = self.alive(way.at);
        let others = shard.linked(agent) & !shard.meshes[shard.place(agent)];
        let told = self.pick(others, self.mesh.lazy, agent, beat << 1 | 1);
        let mut named = 0;
        for word in 0..self.words {
            let alive = alive_bits(word, self.words, oldest, newest);
            let mut offered = shard.turns(agent, word, alive, ask_anew);
            while offered != 0 {
                let bit = word as u32 * 64 + offered.trailing_zeros();
                offered &= offered - 1;
                // The one message of those alive that has this bit.
                let round = 64 * self.words as u32;
                let message = oldest + (bit + round - oldest % round) % round;
                named += 1;
                for slot in Slots(told) {
                    way.send(shard, agent, slot, Kind::IHave, message);
                }
            }
        }
        named
    }

    /// The messages that are remembered: from the first up to but not including the second.
    fn alive(&self, at: u64) -> (u32, u32) {
        let until = self.messages.partition_point(|message| message.at <= at);
        let since = at.saturating_sub(self.memory);
        let from = self.messages[..until].partition_point(|message| message.at < since);
        (from as u32, until as u32)
    }

    /// So many of the links in `from`, each as likely.
    fn pick(&self, from: u32, count: u32, agent: u32, about: u64) -> u32 {
        let (mut left, mut picked) = (from, 0);
        for number in 0..u64::from(count.min(from.count_ones())) {
            let drawn = self
                .draws
                .bits(Purpose::Pick, agent.into(), about << 8 | number);
            let skip = scaled(drawn, left.count_ones());
            let slot = Slots(left).nth(skip as usize).expect("fewer are skipped");
            left ^= 1 << slot;
            picked |= 1 << slot;
        }
        picked
    }

    pub(super) fn offered<O: Out>(
        &self,
        shard: &mut Shard,
        event: Event,
        way: &mut Way<'_, O>,
    ) -> u64 {
        let (agent, message) = (event.agent(), event.message());
        let wants = !shard.has(agent, message) && shard.wants(agent, message);
        if wants {
            way.send(shard, agent, event.slot(), Kind::IWant, message);
        }
        u64::from(wants)
    }

    pub(super) fn asked<O: Out>(
        &self,
        shard: &mut Shard,
        event: Event,
        way: &mut Way<'_, O>,
    ) -> u64 {
        let tells = !self.is_one(self.censors, Purpose::Censor, event.agent());
        let has = tells && shard.has(event.agent(), event.message());
        if has {
            way.send(
                shard,
                event.agent(),
                event.slot(),
                Kind::Answer,
                event.message(),
            );
        }
        u64::from(has)
    }

    pub(super) fn grafted<O: Out>(
        &self,
        shard: &mut Shard,
        event: Event,
        way: &mut Way<'_, O>,
    ) -> u64 {
        let (agent, slot) = (event.agent(), event.slot());
        let (place, link) = (shard.place(agent), 1 << slot);
        let [this, before] = shard.backoff[place];
        let mesh = shard.meshes[place];
        let too_soon = (this | before) & link != 0;
        if too_soon || (mesh & link == 0 && mesh.count_ones() >= self.mesh.high) {
            shard.meshes[place] &= !link;
            shard.backoff[place][0] |= link;
            way.send(shard, agent, slot, Kind::Prune, 0);
            return 5;
        }
        shard.meshes[place] |= link;
        6
    }

    pub(super) fn pruned(&self, shard: &mut Shard, event: Event) -> u64 {
        let (place, link) = (shard.place(event.agent()), 1 << event.slot());
        shard.meshes[place] &= !link;
        shard.backoff[place][0] |= link;
        7
    }
}

/// The bits of one word that stand for messages from `oldest` up to but not including `newest`.
fn alive_bits(word: usize, words: usize, oldest: u32, newest: u32) -> u64 {
    let round = 64 * words as u32;
    let alive = |bit: &u32| {
        let bit = word as u32 * 64 + bit;
        oldest + (bit + round - oldest % round) % round < newest
    };
    (0..64).filter(alive).map(|bit| 1 << bit).sum()
}

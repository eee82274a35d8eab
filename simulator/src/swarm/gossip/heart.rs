//! The heartbeat: who is in an agent's mesh, and what it offers to those who are not.
//!
//! Once in a heartbeat, at a moment of its own, an agent fills its mesh up or cuts it down, and names
//! the messages of the last heartbeats to some of its other peers. A peer that was put out of the mesh
//! is not taken in again for a minute or two, and answers a graft in that time with a prune.
//!
//! Of scores there is what costs a peer its place: silence.

use super::shard::{OFFERED, Slots, WORD};
use super::{Event, Gossip, Out, Shard, Way, timer};
use crate::swarm::draw::{Purpose, scaled};
use crate::swarm::event::Kind;

/// Links that an agent made itself: of a pair, the one that leads where its bijection maps.
pub(super) const OWN: u32 = 0x5555_5555;

/// How long mesh peers are watched, in microseconds, and after how many arrivals in that time one that
/// brought none of them is put out: the product's (`node/src/net/gossip/score.rs`).
const PACE_SPAN: u64 = 10_000_000;
const PACE_MIN: u32 = 60;

/// Between two shifts of the links that may not come back, in microseconds.
const BACKOFF: u64 = 60_000_000;

impl Gossip {
    pub(super) fn beats<O: Out>(&self, shard: &mut Shard, agent: u32, way: &mut Way<'_, O>) -> u64 {
        let beat = way.at / self.mesh.heartbeat;
        way.plan(agent, timer::HEARTBEAT, 0, self.mesh.heartbeat);
        if beat.is_multiple_of(BACKOFF.div_ceil(self.mesh.heartbeat)) {
            let place = shard.place(agent);
            let [this, _] = shard.backoff[place];
            shard.backoff[place] = [0, this];
        }
        if self.mesh.scores && beat.is_multiple_of(PACE_SPAN.div_ceil(self.mesh.heartbeat)) {
            self.drops_silent(shard, agent, way);
        }
        let changed = self.mends(shard, agent, beat, way);
        let offered = self.announces(shard, agent, beat, way);
        let degree = shard.mesh(agent).count();
        let counts = self.messages.first().is_none_or(|first| first.at <= way.at);
        shard.tally.degrees[degree] += u64::from(counts);
        u64::from(changed) << 32 | offered << 8 | degree as u64
    }

    /// Fills the mesh up or cuts it down to the wanted degree, and sees to it that some of it are links
    /// that the agent made itself: others cannot take those by coming first.
    fn mends<O: Out>(&self, shard: &mut Shard, agent: u32, beat: u64, way: &mut Way<'_, O>) -> u32 {
        let place = shard.place(agent);
        let mesh = shard.meshes[place];
        let degree = mesh.count_ones();
        let [this, before] = shard.backoff[place];
        let outside = shard.linked(agent) & !mesh & !this & !before;
        let (mut grafted, mut pruned) = (0, 0);
        if degree < self.mesh.low {
            grafted = self.pick(outside, self.mesh.degree - degree, agent, beat << 2);
        } else if degree >= self.mesh.high {
            let own = self.pick(mesh & OWN, self.mesh.outbound, agent, beat << 2 | 1);
            let count = degree - self.mesh.degree;
            pruned = self.pick(mesh & !own, count, agent, beat << 2);
        }
        let own = ((mesh | grafted) & OWN & !pruned).count_ones();
        if (mesh | grafted).count_ones() >= self.mesh.low && own < self.mesh.outbound {
            let from = outside & OWN & !grafted;
            let needed = self.mesh.outbound - own;
            grafted |= self.pick(from, needed, agent, beat << 2 | 2);
        }
        shard.meshes[place] = (mesh | grafted) & !pruned;
        shard.backoff[place][0] |= pruned;
        for (slots, kind) in [(grafted, Kind::Graft), (pruned, Kind::Prune)] {
            way.send_late(shard, (agent, slots), kind, 0, 0);
        }
        grafted | pruned
    }

    /// Puts those out of the mesh that were in it for a whole span and brought nothing, where there was
    /// something to bring (P3 of GossipSub 1.1, as the product sets it).
    fn drops_silent<O: Out>(&self, shard: &mut Shard, agent: u32, way: &mut Way<'_, O>) {
        let place = shard.place(agent);
        let mesh = shard.meshes[place];
        let pace = &mut shard.pace[place];
        let silent = match pace.heard >= PACE_MIN {
            true => mesh & pace.stood & !pace.spoke,
            false => 0,
        };
        pace.stood = mesh & !silent;
        (pace.spoke, pace.heard) = (0, 0);
        shard.tally.silenced += u64::from(silent.count_ones());
        self.puts_out(shard, agent, silent, way);
    }

    /// Puts peers out of an agent's mesh, not to come back for a while.
    pub(super) fn puts_out<O: Out>(
        &self,
        shard: &mut Shard,
        agent: u32,
        slots: u32,
        way: &mut Way<'_, O>,
    ) {
        let place = shard.place(agent);
        shard.meshes[place] &= !slots;
        shard.backoff[place][0] |= slots;
        way.send_late(shard, (agent, slots), Kind::Prune, 0, 0);
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
        // D_lazy, or a quarter of them (the specification's gossip factor).
        let count = self.mesh.lazy.max(others.count_ones() / 4);
        let told = self.pick(others, count, agent, beat << 2 | 3);
        let mut named = 0;
        for word in 0..self.words {
            let alive = alive_bits(word, self.words, oldest, newest);
            let mut offered = shard.turns(agent, word, alive, ask_anew);
            while offered != 0 {
                let bit = word as u32 * WORD + offered.trailing_zeros();
                offered &= offered - 1;
                // The one message of those alive that has this bit.
                let message = oldest + (bit.wrapping_sub(oldest) & (WORD * self.words as u32 - 1));
                named += 1;
                way.send_late(shard, (agent, told), Kind::IHave, message, 0);
            }
        }
        named
    }

    /// The messages that are remembered: from the first up to but not including the second.
    pub(super) fn alive(&self, at: u64) -> (u32, u32) {
        let until = self.messages.partition_point(|message| message.at <= at);
        let since = at.saturating_sub(self.memory);
        let from = self.messages[..until].partition_point(|message| message.at < since);
        (from as u32, until as u32)
    }

    /// So many of the links in `from`, each as likely.
    pub(super) fn pick(&self, from: u32, count: u32, agent: u32, about: u64) -> u32 {
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
        let fresh = way.at <= self.messages[message as usize].at + self.memory;
        let wants = fresh && !shard.has(agent, message) && shard.wants(agent, message);
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
        let tells = !self.is_censor(event.agent(), way.at);
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
        let full = mesh.count_ones() >= self.mesh.high && link & OWN == 0;
        if mesh & link == 0 && (too_soon || full) {
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

/// The bits of one word that stand for messages from `oldest` up to but not including `newest`. There are
/// a power of two of them in all words.
fn alive_bits(word: usize, words: usize, oldest: u32, newest: u32) -> u8 {
    let (first, round) = (word as u32 * WORD, WORD * words as u32);
    let alive = |bit: u32| ((first + bit).wrapping_sub(oldest) & (round - 1)) < newest - oldest;
    (0..WORD).fold(0, |bits, bit| bits | u8::from(alive(bit)) << bit)
}

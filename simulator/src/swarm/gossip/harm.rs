//! Harm: eclipses, spam and old messages said again.
//!
//! Who is **eclipsed** has an attacker at the other end of every link that others made to it: nothing comes
//! over those, and what it says there goes nowhere. Its own links are left to it, which is what D_out is
//! for. **Spam** is what everyone who gets it judges and throws away; with scores, four cost a peer its
//! place in the mesh and twenty its hearing, as in the product. A **replay** is a message said again to all
//! peers when the mesh has forgotten it.
//!
//! Not here: censors and those who send without asking the law (`gossip`), silence (`heart`).

use super::heart::OWN;
use super::shard::Slots;
use super::{Event, FRAME_BYTES, Gossip, Out, Shard, Way, churn, timer};
use crate::swarm::draw::Purpose;
use crate::swarm::event::Kind;

/// How many of a million agents do which harm.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Harm {
    /// Are eclipsed.
    pub eclipsed: u32,
    /// Send spam.
    pub spammers: u32,
    /// Between two pieces of it, in microseconds.
    pub spam_every: u64,
    /// Say every message once more.
    pub replayers: u32,
}

/// The number of a message that is none.
pub(super) const SPAM: u32 = churn::ALL - 1;

/// Bytes of a piece of spam.
const SPAM_BYTES: u64 = 1_024;

/// So much longer than meshes remember a message its replay is held back, in microseconds.
const REPLAY_AFTER: u64 = 5_000_000;

/// Bad messages that cost a peer its place, and its hearing.
const PLACE: u8 = 4;
const HEARING: u8 = 20;

fn is_own(slot: u8) -> bool {
    OWN >> slot & 1 == 1
}

impl Gossip {
    /// Whether an attacker sits in the middle of a link.
    #[inline]
    pub(super) fn is_severed(&self, (agent, slot): (u32, u8), (peer, reverse): (u32, u8)) -> bool {
        let is = |agent: u32| self.is_one(self.harm.eclipsed, Purpose::Eclipse, agent);
        slot < self.links && (!is_own(slot) && is(agent) || !is_own(reverse) && is(peer))
    }

    /// Whether two agents that are linked speak through a relay.
    #[inline]
    pub(super) fn is_relayed(&self, agent: u32, peer: u32) -> bool {
        let [behind, punched] = self.nat;
        let is = |agent: u32| self.is_one(behind, Purpose::Nat, agent);
        is(agent) && is(peer) && {
            let (a, b) = (agent.min(peer).into(), agent.max(peer).into());
            self.draws.below(1_000_000, Purpose::Punch, a, b) >= punched
        }
    }

    /// Whether meshes have forgotten a message by now.
    #[inline]
    pub(super) fn is_forgotten(&self, message: u32, at: u64) -> bool {
        at > self.messages[message as usize].at + self.memory
    }

    pub(super) fn spams_first<O: Out>(&self, shard: &Shard, out: &mut O) {
        if self.harm.spammers == 0 {
            return;
        }
        for agent in shard.agents() {
            if self.is_one(self.harm.spammers, Purpose::Spam, agent) {
                let every = self.harm.spam_every.min(u64::from(u32::MAX)) as u32;
                let at = self.draws.below(every, Purpose::Spam, agent.into(), 1);
                out.send(at.into(), Event::new(agent, timer::SPAM, Kind::Timer, 0));
            }
        }
    }

    pub(super) fn spams<O: Out>(&self, shard: &mut Shard, agent: u32, way: &mut Way<'_, O>) -> u64 {
        way.plan(agent, timer::SPAM, 0, self.harm.spam_every);
        if shard.is_away(agent) {
            return 16;
        }
        for slot in Slots(shard.linked(agent)) {
            if let Some((peer, reverse)) = self.end_of(shard, (agent, way.home), slot) {
                let to = (peer, reverse, self.geography.region(peer.into()));
                let what = (Kind::Copy, FRAME_BYTES + SPAM_BYTES);
                way.carry(shard, (agent, slot), to, what, SPAM, 0);
            }
        }
        17
    }

    /// Spam arrives: it is judged, unless its sender has lost its hearing.
    pub(super) fn spammed<O: Out>(
        &self,
        shard: &mut Shard,
        event: Event,
        way: &mut Way<'_, O>,
    ) -> u64 {
        let (agent, slot) = (event.agent(), event.slot());
        if !self.mesh.scores || slot >= self.links {
            shard.tally.spam[0] += 1;
            return 18;
        }
        let place = shard.place(agent);
        let strikes = &mut shard.strikes[place][usize::from(slot)];
        if *strikes >= HEARING {
            shard.tally.spam[1] += 1;
            return 19;
        }
        *strikes += 1;
        let loses_its_place = *strikes == PLACE;
        shard.tally.spam[0] += 1;
        if loses_its_place && shard.meshes[place] >> slot & 1 == 1 {
            self.puts_out(shard, agent, 1 << slot, way);
        }
        20 + u64::from(loses_its_place)
    }

    /// One that replays keeps a message in mind.
    pub(super) fn remembers_to_replay<O: Out>(
        &self,
        agent: u32,
        message: u32,
        way: &mut Way<'_, O>,
    ) {
        if self.is_one(self.harm.replayers, Purpose::Replay, agent)
            && !self.is_forgotten(message, way.at)
        {
            let at = self.messages[message as usize].at + self.memory + REPLAY_AFTER;
            way.plan(agent, timer::REPLAY, message, at - way.at);
        }
    }

    pub(super) fn replays<O: Out>(
        &self,
        shard: &mut Shard,
        agent: u32,
        message: u32,
        way: &mut Way<'_, O>,
    ) -> u64 {
        let all = shard.linked(agent);
        way.copies(shard, agent, all, message);
        all.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::swarm::draw::Draws;
    use crate::swarm::gossip::is_one;

    #[test]
    fn as_many_are_drawn_as_were_asked_for() {
        for purpose in [
            Purpose::Eclipse,
            Purpose::Spam,
            Purpose::Replay,
            Purpose::Nat,
            Purpose::Censor,
        ] {
            let drawn = |seed| {
                let draws = Draws::new(seed);
                (0..10_000)
                    .filter(|agent| is_one(draws, 10_000, purpose, *agent))
                    .count()
            };
            let counts: Vec<usize> = (0..50).map(drawn).collect();
            let mean = counts.iter().sum::<usize>() as f64 / 50.0;
            assert!((mean - 100.0).abs() < 6.0, "{purpose:?}: {mean} {counts:?}");
        }
    }
}

//! Minded: what differs where every agent is a replica of the product (the full tier).
//!
//! The mesh is the same; what goes into it, and what may go on, its replica says. A record counts as
//! delivered when the replica keeps it, whichever way it came. What replicas say to each other directly
//! are letters: events like others, whose number lies above those of all messages.
//!
//! Not here: what replicas do (`replicas`).

use super::churn::ALL;
use super::{Event, FRAME_BYTES, Gossip, Out, Shard, Way, timer};
use crate::swarm::draw::Purpose;
use crate::swarm::event::Kind;
use crate::swarm::replicas::{LETTERS_AHEAD, Reaction, Replicas};
use aquifer_protocol::Message;

impl Gossip {
    /// Most messages of a run with replicas: the numbers above are for letters.
    pub const MINDED_MESSAGES_MAX: usize = (ALL - LETTERS_AHEAD) as usize;

    pub(super) fn topic_of(&self, message: u32) -> usize {
        self.messages[message as usize].topic as usize
    }

    /// Links come up: everybody greets everybody.
    pub(super) fn introduces<O: Out>(&self, shard: &mut Shard, out: &mut O) {
        let Some(mut replicas) = shard.replicas.take() else {
            return;
        };
        let slots = self.links + self.geography.regions() as u8;
        for agent in shard.agents() {
            let home = self.geography.region(agent.into());
            let mut way = Way {
                model: self,
                home,
                at: 0,
                out: &mut *out,
            };
            for slot in 0..slots {
                let Some((peer, _)) = self.minded_end(shard, (agent, home), slot) else {
                    continue;
                };
                replicas.links(agent, slot, peer);
                if !self.begins_away(agent) && !self.begins_away(peer) {
                    let reaction = replicas.peer_up((agent, 0), peer);
                    self.reacts(shard, &mut replicas, agent, reaction, &mut way);
                }
            }
        }
        shard.replicas = Some(replicas);
    }

    /// The other end of a link, if there is such a link: also of those that only bridges have.
    fn minded_end(
        &self,
        shard: &Shard,
        (agent, home): (u32, usize),
        slot: u8,
    ) -> Option<(u32, u8)> {
        if slot < self.links {
            return shard.link(agent, slot);
        }
        let bridge = self.bridge(agent)?;
        let region = usize::from(slot - self.links);
        if region == home {
            // The bridges of one region know each other.
            let other = self.geography.bounds[home] as u32 + (1 - bridge);
            return Some((other, slot));
        }
        self.has_bridges(region)
            .then(|| self.end_of(shard, (agent, home), slot))
            .flatten()
    }

    /// An agent remembers something. `None` if agents have no minds.
    pub(super) fn writes<O: Out>(
        &self,
        shard: &mut Shard,
        agent: u32,
        message: u32,
        way: &mut Way<'_, O>,
    ) -> Option<u64> {
        let about = self.messages[message as usize];
        let write = |replicas: &mut Replicas| {
            replicas.writes((agent, way.at), message, about.topic as usize, about.bytes)
        };
        let reaction = shard.replicas.as_deref_mut().map(write)?;
        shard.tally.audience += about.audience;
        Some(self.minds(shard, agent, reaction, way))
    }

    /// An agent judges what it heard over a link. `None` if agents have no minds.
    pub(super) fn judges<O: Out>(
        &self,
        shard: &mut Shard,
        (agent, slot): (u32, u8),
        message: u32,
        way: &mut Way<'_, O>,
    ) -> Option<u64> {
        let topic = self.topic_of(message);
        let hear = |replicas: &mut Replicas| {
            replicas.hears((agent, way.at), (message, topic), way.home, slot)
        };
        let reaction = shard.replicas.as_deref_mut().map(hear)?;
        Some(self.minds(shard, agent, reaction, way))
    }

    /// An old message arrives that meshes have forgotten.
    pub(super) fn judges_again<O: Out>(
        &self,
        shard: &mut Shard,
        event: Event,
        way: &mut Way<'_, O>,
    ) -> u64 {
        let (agent, slot, message) = (event.agent(), event.slot(), event.message());
        self.judges(shard, (agent, slot), message, way)
            .unwrap_or(12)
    }

    /// A letter arrives, here or at one who is away. `None` if it is none.
    pub(super) fn reads<O: Out>(
        &self,
        shard: &mut Shard,
        event: Event,
        way: &mut Way<'_, O>,
    ) -> Option<u64> {
        let (agent, slot) = (event.agent(), event.slot());
        let number = event.message().checked_sub(self.messages.len() as u32)?;
        let away = shard.is_away(agent);
        let replicas = shard.replicas.as_deref_mut()?;
        let letter = replicas.collects(agent, slot, number)?;
        if away {
            return Some(13);
        }
        let reaction = replicas.reads((agent, way.at), slot, letter);
        Some(self.minds(shard, agent, reaction, way))
    }

    /// A replica's timer goes off.
    pub(super) fn wakes<O: Out>(&self, shard: &mut Shard, agent: u32, way: &mut Way<'_, O>) -> u64 {
        let wake = |replicas: &mut Replicas| replicas.wakes(agent, way.at);
        match shard.replicas.as_deref_mut().and_then(wake) {
            Some(reaction) => self.minds(shard, agent, reaction, way),
            None => 14,
        }
    }

    /// A peer is up again, or is gone.
    pub(super) fn meets<O: Out>(
        &self,
        shard: &mut Shard,
        (agent, slot): (u32, u8),
        is_up: bool,
        way: &mut Way<'_, O>,
    ) {
        let Some((peer, _)) = self.end_of(shard, (agent, way.home), slot) else {
            return;
        };
        let meet = |replicas: &mut Replicas| match is_up {
            true => replicas.peer_up((agent, way.at), peer),
            false => replicas.peer_down((agent, way.at), slot),
        };
        if let Some(reaction) = shard.replicas.as_deref_mut().map(meet) {
            self.minds(shard, agent, reaction, way);
        }
    }

    fn minds<O: Out>(
        &self,
        shard: &mut Shard,
        agent: u32,
        reaction: Reaction,
        way: &mut Way<'_, O>,
    ) -> u64 {
        let Some(mut replicas) = shard.replicas.take() else {
            return 0;
        };
        let effect = self.reacts(shard, &mut replicas, agent, reaction, way);
        shard.replicas = Some(replicas);
        effect
    }

    /// Does what a replica said.
    fn reacts<O: Out>(
        &self,
        shard: &mut Shard,
        replicas: &mut Replicas,
        agent: u32,
        mut reaction: Reaction,
        way: &mut Way<'_, O>,
    ) -> u64 {
        let effect = reaction.effect();
        let censors = self.is_one(self.censors, Purpose::Censor, agent);
        let censored = self.is_censor(agent, way.at);
        for message in reaction.taken.iter().copied() {
            let lawful = self.messages[message as usize].lawful >> way.home & 1;
            shard.tally.accepted += 1 - u64::from(lawful);
            if !censors {
                self.delivered(shard, (agent, way.home), message, way.at);
            }
        }
        for message in reaction.published.iter().copied() {
            // What meshes have forgotten has no bit of its own any more.
            let forgotten = self.is_forgotten(message, way.at);
            if !censored && !forgotten && shard.learns(agent, message) {
                self.publishes(shard, agent, message, way);
            }
        }
        for (message, accepted) in reaction.judged.iter().copied() {
            let known = shard.judged(agent, message);
            if accepted && self.is_forgotten(message, way.at) {
                self.revives(shard, agent, message, known, way);
            } else if accepted {
                self.passes_on(shard, agent, message, (known, 0), way);
            }
        }
        for (slot, letter) in reaction.letters.drain(..).filter(|_| !censored) {
            self.posts(shard, replicas, (agent, slot), letter, way);
        }
        if let Some(at) = reaction.wake {
            way.out
                .send(at, Event::new(agent, timer::WAKE, Kind::Timer, 0));
        }
        replicas.done(reaction);
        effect
    }

    /// An old message goes round once more: it is no news, and is not offered.
    fn revives<O: Out>(
        &self,
        shard: &mut Shard,
        agent: u32,
        message: u32,
        known: u32,
        way: &mut Way<'_, O>,
    ) {
        shard.tally.replays[1] += 1;
        let mesh = shard.meshes[shard.place(agent)];
        way.copies(shard, agent, mesh & !known, message);
    }

    fn posts<O: Out>(
        &self,
        shard: &mut Shard,
        replicas: &mut Replicas,
        (agent, slot): (u32, u8),
        letter: Message,
        way: &mut Way<'_, O>,
    ) {
        let Some((peer, reverse)) = self.minded_end(shard, (agent, way.home), slot) else {
            return;
        };
        let bytes = FRAME_BYTES + letter.encoded_len() as u64;
        let to = (peer, reverse);
        let number = replicas.posts((agent, slot), to, letter);
        let (what, message) = ((Kind::Answer, bytes), self.messages.len() as u32 + number);
        let to = (peer, reverse, self.geography.region(peer.into()));
        if !way.carry(shard, (agent, slot), to, what, message, 0) {
            replicas.collects(peer, reverse, number);
        }
    }
}

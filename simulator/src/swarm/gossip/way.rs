//! The way: where an agent's things go, and how long they take.
//!
//! Whoever sends asks the law first. Then it takes the length of the link and the time that the agent needs
//! for a message; what is lost comes a round trip and a timer later; where uplinks have an end, one thing
//! leaves after the other; and between regions that are cut off from each other nothing arrives.

use super::shard::Slots;
use super::{Event, FRAME_BYTES, Gossip, Out, Shard};
use crate::swarm::draw::{Purpose, scaled};
use crate::swarm::event::Kind;

/// What is sent again waits for a round trip and this.
const RESEND_AFTER: u64 = 25_000;

/// Bytes of one id.
const ID_BYTES: u64 = 22;

/// Where an agent's things go, at one moment.
pub(super) struct Way<'a, O> {
    pub(super) model: &'a Gossip,
    /// The agent's region.
    pub(super) home: usize,
    pub(super) at: u64,
    pub(super) out: &'a mut O,
}

impl<O: Out> Way<'_, O> {
    /// Sends a message over some links: what a swarm does most, so the compiler is to see all of it at once.
    #[inline]
    pub(super) fn copies(&mut self, shard: &mut Shard, agent: u32, slots: u32, message: u32) {
        self.sends(shard, (agent, slots), Kind::Copy, message, 0);
    }

    /// Sends something over a link. Draws the processing time and losses.
    pub(super) fn send(
        &mut self,
        shard: &mut Shard,
        agent: u32,
        slot: u8,
        kind: Kind,
        message: u32,
    ) {
        self.send_late(shard, (agent, 1 << slot), kind, message, 0);
    }

    /// Sends something over some links, and it takes so much longer.
    pub(super) fn send_late(
        &mut self,
        shard: &mut Shard,
        links: (u32, u32),
        kind: Kind,
        message: u32,
        late: u64,
    ) {
        self.sends(shard, links, kind, message, late);
    }

    #[inline(always)]
    fn sends(
        &mut self,
        shard: &mut Shard,
        (agent, slots): (u32, u32),
        kind: Kind,
        message: u32,
        late: u64,
    ) {
        let (model, home) = (self.model, self.home);
        let asks = matches!(
            kind,
            Kind::Copy | Kind::Answer | Kind::IHave | Kind::IDontWant
        ) && !model.is_one(model.violators, Purpose::Violator, agent);
        let bytes = match kind {
            Kind::Copy | Kind::Answer => u64::from(model.messages[message as usize].bytes),
            Kind::IHave | Kind::IWant | Kind::IDontWant => ID_BYTES,
            _ => 0,
        };
        let what = (kind, FRAME_BYTES + bytes);
        for slot in Slots(slots) {
            let Some((peer, reverse)) = model.end_of(shard, (agent, home), slot) else {
                continue;
            };
            let region = model.geography.region(peer.into());
            if !asks || model.allows(shard, region, message) {
                let to = (peer, reverse, region);
                self.carry(shard, (agent, slot), to, what, message, late);
            }
        }
    }

    /// Takes so many bytes from one end of a link to the other, in a region. False if they are lost for
    /// ever.
    #[inline(always)]
    pub(super) fn carry(
        &mut self,
        shard: &mut Shard,
        (agent, slot): (u32, u8),
        (peer, reverse, region): (u32, u8, usize),
        (kind, bytes): (Kind, u64),
        message: u32,
        late: u64,
    ) -> bool {
        let (model, home) = (self.model, self.home);
        let about = u64::from(message) << 8 | u64::from(slot) << 3 | kind as u64;
        let way = model
            .geography
            .way((agent.into(), home), (peer.into(), region));
        let mut takes = way + model.geography.processing(agent.into(), about) + late;
        shard.tally.send(kind, (home, region), bytes);
        if model.is_hindered {
            let link = ((agent, slot), (peer, reverse, region));
            match self.hindered(shard, link, (about, bytes), way) {
                Some(longer) => takes += longer,
                None => return false,
            }
        }
        self.out
            .send(self.at + takes, Event::new(peer, reverse, kind, message));
        true
    }

    /// How much longer something takes for losses, slow uplinks and relays on a `way`; `None` if it does
    /// not arrive.
    fn hindered(
        &mut self,
        shard: &mut Shard,
        ((agent, slot), (peer, reverse, region)): ((u32, u8), (u32, u8, usize)),
        (about, bytes): (u64, u64),
        way: u64,
    ) -> Option<u64> {
        let (model, home) = (self.model, self.home);
        let mut longer = 0;
        if model.loss > 0 {
            let pair = u64::from(agent) << 5 | u64::from(slot);
            let drawn = model.draws.bits(Purpose::Loss, pair, about ^ self.at << 27);
            if scaled(drawn, 1_000_000) < model.loss {
                shard.tally.lost += 1;
                longer += 2 * way + RESEND_AFTER;
            }
        }
        if let Some(lasts) = (bytes * 8_000).checked_div(model.uplink) {
            // One thing after the other: it leaves when all before it have.
            let place = shard.place(agent);
            let leaves = shard.uplink[place].max(self.at);
            shard.uplink[place] = leaves + lasts;
            longer += leaves + lasts - self.at;
        }
        if model.is_cut(self.at, home, region) {
            shard.tally.cut += 1;
            return None;
        }
        if model.harm.eclipsed > 0 && model.is_severed((agent, slot), (peer, reverse)) {
            return None;
        }
        if model.nat[0] > 0 && model.is_relayed(agent, peer) {
            // Through a relay in the region of whoever listens.
            longer +=
                model.geography.inside(region) + model.geography.processing(peer.into(), about);
            shard.tally.relayed.count += 1;
            shard.tally.relayed.bytes += bytes;
        }
        Some(longer)
    }

    /// Plans something for the agent itself.
    #[inline]
    pub(super) fn plan(&mut self, agent: u32, timer: u8, message: u32, delay: u64) {
        self.out.send(
            self.at + delay,
            Event::new(agent, timer, Kind::Timer, message),
        );
    }
}

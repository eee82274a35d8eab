//! GossipSub for millions: what an agent does with a message, and what it costs.
//!
//! After the specification of GossipSub 1.1 and 1.2, as rust-libp2p does it: pushes along the mesh once
//! the application has judged a message, not to peers whose copy came meanwhile; IDONTWANT for large
//! ones; IHAVE to some outside the mesh at each heartbeat, and IWANT for what is missing. An agent is a
//! row of columns: its links, which of them are in its mesh, which messages it has. With `Shape::Regional`
//! two bridges a region lead to each other region that may have a message; the second of them only
//! announces, and later.
//!
//! Losses do not lose: streams repeat what was lost, a round trip and a timer later.
//!
//! Not here: the mesh and the heartbeat (`heart`), who is linked to whom (`graph`), when (`engine`).

mod bridges;
pub mod churn;
mod formation;
mod harm;
mod heart;
mod minded;
mod shard;
mod way;

use super::draw::{Draws, Purpose, scaled};
use super::engine::{Event, Model, Out};
use super::event::Kind;
use super::geography::Geography;
use super::graph::{Graph, Shape};
use bridges::STAND_IN_AFTER;
use churn::{Churn, Cut};
pub use harm::Harm;
use harm::SPAM;
pub use shard::Shard;
use way::Way;

/// A message of the run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Message {
    /// When it is published, in microseconds.
    pub at: u64,
    /// By whom.
    pub publisher: u32,
    /// About which topic, by the number of its workload.
    pub topic: u32,
    /// Its length, in bytes.
    pub bytes: u32,
    /// How many agents beside the publisher are to have it.
    pub audience: u64,
    /// The regions that may have it, a bit each: the answer of the product's own policy.
    pub allowed: u16,
    /// The same, as another judge has it.
    pub lawful: u16,
}

/// How the mesh is set. Times in microseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mesh {
    /// Wanted links in a mesh, and from where to where they may be.
    pub degree: u32,
    /// Fewer are filled up.
    pub low: u32,
    /// From so many on they are cut down.
    pub high: u32,
    /// At least so many of them are links that the agent made itself.
    pub outbound: u32,
    /// To how many outside the mesh a heartbeat announces; 0 for none.
    pub lazy: u32,
    /// Between two heartbeats; 0 for none.
    pub heartbeat: u64,
    /// Whether a publisher sends to all its peers.
    pub flood: bool,
    /// Whether peers that bring nothing lose their place.
    pub scores: bool,
    /// Within what time links are made.
    pub linking: u32,
    /// How long the application takes to judge a message; 0 for no time.
    pub validate: u64,
    /// Messages of so many bytes and more are announced as not wanted again; 0 for none.
    pub dont_want: u32,
}

/// The rules of a run, and what all agents know.
#[derive(Debug)]
pub struct Gossip {
    /// Where agents are.
    pub geography: Geography,
    /// Who is linked to whom.
    pub graph: Graph,
    /// Whether bridges lead from region to region.
    pub shape: Shape,
    /// Links of an agent, the bridges not among them.
    pub links: u8,
    /// How the mesh is set.
    pub mesh: Mesh,
    /// The messages, in the order of their numbers.
    pub messages: Vec<Message>,
    /// How many words of eight bits an agent has for messages: a power of two.
    pub words: usize,
    /// How long an agent remembers a message, in microseconds.
    pub memory: u64,
    /// Of a million things sent, so many are lost.
    pub loss: u32,
    /// What an agent can send in a second, in kilobits; 0 for no limit.
    pub uplink: u64,
    /// Agents that come and go, if any do.
    pub churn: Option<Churn>,
    /// When which regions are cut off.
    pub cuts: Vec<Cut>,
    /// Between two times that an agent asks a peer for what it missed, in microseconds; 0 for never.
    pub sync: u64,
    /// Of a million agents, so many pass nothing on.
    pub censors: u32,
    /// From when on they do not, in microseconds.
    pub censors_from: u64,
    /// Of a million agents, so many send without asking the law.
    pub violators: u32,
    /// Other harm that agents do.
    pub harm: Harm,
    /// Of a million agents, so many are behind a NAT, and of a million pairs that are, so many get through.
    pub nat: [u32; 2],
    /// Whether anything can delay or stop what is sent, beside the way itself.
    pub is_hindered: bool,
    /// Whether every agent is a replica of the product.
    pub minded: bool,
    /// Whether first arrivals are written down one by one.
    pub records: bool,
    /// All chance.
    pub draws: Draws,
}

/// A first arrival, written down.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Arrival {
    /// Of which message.
    pub message: u32,
    /// At which agent.
    pub agent: u32,
    /// So many microseconds after it was published.
    pub micros: u64,
}

/// What an agent plans for itself: the slot of its timers.
mod timer {
    pub(super) const HEARTBEAT: u8 = 0;
    pub(super) const JUDGED: u8 = 1;
    pub(super) const PUBLISH: u8 = 2;
    pub(super) const STAND_IN: u8 = 3;
    pub(super) const COMES: u8 = 4;
    pub(super) const GOES: u8 = 5;
    pub(super) const SYNC: u8 = 6;
    pub(super) const WAKE: u8 = 7;
    pub(super) const SPAM: u8 = 8;
    pub(super) const REPLAY: u8 = 9;
}

/// Bytes of what surrounds one thing sent.
pub(super) const FRAME_BYTES: u64 = 40;

impl Model for Gossip {
    type Shard = Shard;

    fn begin(&self, shard: &mut Shard, out: &mut impl Out) {
        for (number, message) in (0..).zip(&self.messages) {
            if shard.has_agent(message.publisher) {
                let event = Event::new(message.publisher, timer::PUBLISH, Kind::Timer, number);
                out.send(message.at, event);
            }
        }
        if self.mesh.heartbeat > 0 {
            for agent in shard.agents() {
                let phase = self.draws.bits(Purpose::Heartbeat, agent.into(), 0);
                let at = phase % self.mesh.heartbeat;
                out.send(at, Event::new(agent, timer::HEARTBEAT, Kind::Timer, 0));
            }
        }
        if self.churn.is_some() {
            shard.agents().for_each(|agent| self.enters(agent, out));
        }
        self.introduces(shard, out);
        self.spams_first(shard, out);
        if self.sync > 0 {
            for agent in shard.agents() {
                let at = self.draws.bits(Purpose::Sync, agent.into(), 0) % self.sync;
                out.send(at, Event::new(agent, timer::SYNC, Kind::Timer, 0));
            }
        }
    }

    fn foresee(&self, shard: &mut Shard, events: &[Event]) -> u64 {
        shard.glance(events)
    }

    #[inline]
    fn handle(&self, shard: &mut Shard, at: u64, event: Event, out: &mut impl Out) -> u64 {
        let (agent, slot, message) = (event.agent(), event.slot(), event.message());
        let mut way = Way {
            model: self,
            home: self.geography.region(agent.into()),
            at,
            out,
        };
        if event.kind() == Kind::Answer
            && let Some(effect) = self.reads(shard, event, &mut way)
        {
            return effect;
        }
        if shard.is_away(agent) {
            return self.misses(shard, event, &mut way);
        }
        match event.kind() {
            Kind::Copy if message == SPAM => self.spammed(shard, event, &mut way),
            Kind::Copy | Kind::Answer => self.arrives(shard, event, &mut way),
            Kind::Timer => match slot {
                timer::HEARTBEAT => self.beats(shard, agent, &mut way),
                timer::JUDGED => self.pushes(shard, agent, message, &mut way),
                timer::PUBLISH => self.published(shard, agent, message, &mut way),
                timer::STAND_IN => self.stands_in(shard, agent, message, &mut way),
                timer::GOES => self.goes(shard, agent, &mut way),
                timer::COMES => self.comes(shard, agent, &mut way),
                timer::WAKE => self.wakes(shard, agent, &mut way),
                timer::SPAM => self.spams(shard, agent, &mut way),
                timer::REPLAY => self.replays(shard, agent, message, &mut way),
                _ => self.syncs(shard, agent, &mut way),
            },
            Kind::IHave => self.offered(shard, event, &mut way),
            Kind::IWant if message == churn::ALL => self.offers_all(shard, event, &mut way),
            Kind::IWant => self.asked(shard, event, &mut way),
            Kind::IDontWant => u64::from(shard.is_unwanted_by(agent, message, slot)),
            Kind::Graft if message > 0 => self.greeted(shard, event, &mut way),
            Kind::Graft => self.grafted(shard, event, &mut way),
            Kind::Prune if message > 0 => self.left(shard, event, &mut way),
            Kind::Prune => self.pruned(shard, event),
        }
    }
}

impl Gossip {
    /// The other end of a link of an agent at `home`, and which of its links that is.
    #[inline]
    fn end_of(&self, shard: &Shard, (agent, home): (u32, usize), slot: u8) -> Option<(u32, u8)> {
        if slot < self.links {
            return shard.link(agent, slot);
        }
        // From bridge to bridge: link `links + r` leads to region r.
        let bridge = agent - self.geography.bounds[home] as u32;
        let region = usize::from(slot - self.links);
        let peer = self.geography.bounds[region] as u32 + bridge;
        Some((peer, self.links + home as u8))
    }

    /// Whether an agent is one of so many in a million, drawn for this.
    #[inline]
    fn is_one(&self, million: u32, purpose: Purpose, agent: u32) -> bool {
        is_one(self.draws, million, purpose, agent)
    }

    /// Whether an agent passes nothing on, now.
    #[inline]
    fn is_censor(&self, agent: u32, at: u64) -> bool {
        at >= self.censors_from && self.is_one(self.censors, Purpose::Censor, agent)
    }

    /// Something happens to an agent that is away: nothing, but that its timers go on. What it was to
    /// publish is never said, and counted.
    fn misses<O: Out>(&self, shard: &mut Shard, event: Event, way: &mut Way<'_, O>) -> u64 {
        let (agent, message) = (event.agent(), event.message());
        match (event.kind(), event.slot()) {
            (Kind::Timer, timer::COMES) => return self.comes(shard, agent, way),
            (Kind::Timer, timer::HEARTBEAT) => {
                way.plan(agent, timer::HEARTBEAT, 0, self.mesh.heartbeat);
            }
            (Kind::Timer, timer::SYNC) => way.plan(agent, timer::SYNC, 0, self.sync),
            (Kind::Timer, timer::WAKE) => shard.sleeps(agent),
            (Kind::Timer, timer::SPAM) => _ = self.spams(shard, agent, way),
            (Kind::Timer, timer::JUDGED) => _ = shard.judged(agent, message),
            (Kind::Timer, timer::PUBLISH) => shard.tally.unsaid.push(message),
            _ => {}
        }
        11
    }

    /// Whether the law lets the agents of a region have a message.
    #[inline]
    fn allows(&self, shard: &mut Shard, region: usize, message: u32) -> bool {
        let allowed = self.messages[message as usize].allowed >> region & 1 == 1;
        shard.tally.checked += 1;
        shard.tally.denied += u64::from(!allowed);
        allowed
    }

    /// A message arrives.
    #[inline]
    fn arrives<O: Out>(&self, shard: &mut Shard, event: Event, way: &mut Way<'_, O>) -> u64 {
        let (agent, slot, message) = (event.agent(), event.slot(), event.message());
        let about = &self.messages[message as usize];
        let region = way.home;
        // The door asks too, whoever sent it.
        if !self.allows(shard, region, message) {
            shard.tally.attempted += 1;
            return 3;
        }
        shard.tally.accepted += u64::from(about.lawful >> region & 1 == 0);
        // Older than what is remembered: it may have been here, and what holds a memory knows.
        if self.is_forgotten(message, way.at) {
            shard.tally.replays[0] += 1;
            // It may be judged once more, but has no bit of its own that would say that it was.
            return match self.minded {
                true => self.judges_again(shard, event, way),
                false => 12,
            };
        }
        shard.hears(agent, slot);
        // What those have who mean harm is no delivery, and what a mind has not kept is none yet.
        let counts = !self.is_one(self.censors, Purpose::Censor, agent);
        if !shard.learns(agent, message) {
            shard.tally.duplicates += u64::from(counts);
            shard.is_known_to(agent, message, slot);
            return 1;
        }
        self.remembers_to_replay(agent, message, way);
        if counts && shard.replicas.is_none() {
            shard.tally.answered += u64::from(event.kind() == Kind::Answer);
            self.delivered(shard, (agent, region), message, way.at);
        }
        if self.mesh.validate == 0 && shard.replicas.is_none() {
            self.passes_on(shard, agent, message, (1 << slot, 0), way);
            return 2;
        }
        shard.waits(agent, message, slot);
        if self.mesh.dont_want > 0 && about.bytes >= self.mesh.dont_want {
            let others = shard.meshes[shard.place(agent)] & !(1 << slot);
            way.send_late(shard, (agent, others), Kind::IDontWant, message, 0);
        }
        if self.mesh.validate == 0 {
            return self.pushes(shard, agent, message, way);
        }
        way.plan(agent, timer::JUDGED, message, self.mesh.validate);
        2
    }

    /// Counts a first arrival.
    fn delivered(&self, shard: &mut Shard, (agent, region): (u32, usize), message: u32, at: u64) {
        let published = self.messages[message as usize].at;
        if shard.came_after(agent, published) {
            shard.tally.late += 1;
            shard.catches_up(agent, at);
            return;
        }
        let publisher = self.messages[message as usize].publisher;
        let there = self.geography.region(publisher.into());
        for (number, cut) in self.cuts.iter().enumerate() {
            if cut.parts(region, there) && cut.is_on(published) && at >= cut.until {
                shard.tally.mends(number, at - cut.until);
            }
        }
        let micros = at - published;
        shard.tally.first(region, message, micros);
        if self.is_one(self.harm.eclipsed, Purpose::Eclipse, agent) {
            shard.tally.eclipsed_first(micros);
        }
        if self.records {
            shard.tally.arrivals.push(Arrival {
                message,
                agent,
                micros,
            });
        }
    }

    fn published<O: Out>(
        &self,
        shard: &mut Shard,
        agent: u32,
        message: u32,
        way: &mut Way<'_, O>,
    ) -> u64 {
        if !self.allows(shard, self.geography.region(agent.into()), message) {
            return 3;
        }
        if let Some(effect) = self.writes(shard, agent, message, way) {
            return effect;
        }
        shard.learns(agent, message);
        shard.tally.audience += self.messages[message as usize].audience;
        self.publishes(shard, agent, message, way);
        2
    }

    /// Says to the mesh what is new here.
    fn publishes<O: Out>(&self, shard: &mut Shard, agent: u32, message: u32, way: &mut Way<'_, O>) {
        // Where the mesh is too small, others are told as well.
        let mesh = shard.meshes[shard.place(agent)];
        let missing = self.mesh.degree.saturating_sub(mesh.count_ones());
        let others = shard.linked(agent) & !mesh;
        let extra = match self.mesh.flood {
            true => others,
            false => self.pick(others, missing, agent, 1 << 50 | u64::from(message)),
        };
        self.passes_on(shard, agent, message, (0, extra), way);
    }

    /// The application has judged it: on it goes.
    fn pushes<O: Out>(
        &self,
        shard: &mut Shard,
        agent: u32,
        message: u32,
        way: &mut Way<'_, O>,
    ) -> u64 {
        if let Some(slot) = shard.came_over(agent, message)
            && let Some(effect) = self.judges(shard, (agent, slot), message, way)
        {
            return effect;
        }
        let known = shard.judged(agent, message);
        self.passes_on(shard, agent, message, (known, 0), way);
        u64::from(known)
    }

    /// Sends it to all of the mesh but those in `known`, to the `extra` ones, and over the bridges.
    #[inline]
    fn passes_on<O: Out>(
        &self,
        shard: &mut Shard,
        agent: u32,
        message: u32,
        (known, extra): (u32, u32),
        way: &mut Way<'_, O>,
    ) {
        if known != 0 && self.is_censor(agent, way.at) {
            return;
        }
        shard.offers(agent, message);
        let mesh = shard.meshes[shard.place(agent)];
        way.copies(shard, agent, (mesh | extra) & !known, message);
        // What came over a bridge goes over no other: its own region sees to them.
        if known >> self.links == 0 && shard.replicas.is_none() {
            match self.bridge(agent) {
                Some(0) => self.crosses(shard, agent, message, Kind::Copy, way),
                Some(_) => way.plan(agent, timer::STAND_IN, message, STAND_IN_AFTER),
                None => {}
            }
        }
    }
}

/// Whether an agent is one of so many in a million, drawn for this.
#[inline]
pub fn is_one(draws: Draws, million: u32, purpose: Purpose, agent: u32) -> bool {
    million > 0 && scaled(draws.bits(purpose, agent.into(), 0), 1_000_000) < million
}

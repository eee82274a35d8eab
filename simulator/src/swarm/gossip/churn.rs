//! Churn: agents leave and come back, and regions are cut off.
//!
//! One that leaves says so, and its peers put it out of their meshes; one that crashes is noticed after
//! a while. One that comes back greets the peers of its links. Whoever is up answers, takes it into its
//! mesh if that has room, and the first to answer is asked for all that was missed: the product's
//! anti-entropy, as offers of what is remembered. The same is done with a drawn peer once in a while,
//! where the plan asks for it.
//!
//! What is sent between regions that are cut off from each other is lost.
//!
//! Not here: how long sessions are (`sessions`). Left out: bridges never leave, as seeds do not.

use super::shard::Slots;
use super::{Event, Gossip, Out, Shard, Way, timer};
use crate::swarm::draw::{Draws, Purpose, scaled};
use crate::swarm::event::{Kind, MESSAGES_MAX};
use crate::swarm::sessions::Spans;
use aquifer_protocol::limits::SYNC_EVERY;

/// Who leaves, for how long, and how others notice.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Churn {
    /// How long agents stay.
    pub session: Spans,
    /// How long they are away.
    pub away: Spans,
    /// Of a million departures, so many are crashes.
    pub crashes: u32,
    /// After how long a crash is noticed, in microseconds.
    pub notice: u64,
}

/// A time in which some regions are cut off from the others, in microseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cut {
    /// The regions on one side, a bit each.
    pub regions: u16,
    /// From when.
    pub from: u64,
    /// Until when.
    pub until: u64,
}

impl Churn {
    /// Whether an agent is one of those who are away at any time.
    pub fn begins_away(&self, draws: Draws, agent: u32) -> bool {
        let (here, away) = (self.session.median, self.away.median);
        let drawn = draws.bits(Purpose::Session, agent.into(), 0);
        ((u128::from(drawn) * u128::from(here + away)) >> 64) as u64 >= here
    }
}

impl Cut {
    /// Whether two regions are on different sides.
    #[inline]
    pub fn parts(&self, home: usize, abroad: usize) -> bool {
        (self.regions >> home ^ self.regions >> abroad) & 1 == 1
    }

    /// Whether it is under way.
    #[inline]
    pub fn is_on(&self, at: u64) -> bool {
        self.from <= at && at < self.until
    }
}

/// What a `Graft` or `Prune` says beside its usual meaning, which is 0.
const GREETING: u32 = 1;
const ANSWER: u32 = 2;
const FAREWELL: u32 = 1;

/// An `IWant` for all that its sender does not have.
pub(super) const ALL: u32 = MESSAGES_MAX - 1;

/// After this time nobody should lack anything, or after two chances to ask for it, in microseconds.
const SETTLING: u64 = 10_000_000;

/// No span is shorter, in microseconds.
const SPAN_MIN: u64 = 1_000_000;

impl Gossip {
    /// Whether an agent is away when the run begins: as many are as are at any time.
    pub fn begins_away(&self, agent: u32) -> bool {
        let churn = self.churn.filter(|_| self.bridge(agent).is_none());
        churn.is_some_and(|churn| churn.begins_away(self.draws, agent))
    }

    /// Plans an agent's first departure or return: somewhere in the span that it is in.
    pub(super) fn enters<O: Out>(&self, agent: u32, out: &mut O) {
        let Some(churn) = self.churn.filter(|_| self.bridge(agent).is_none()) else {
            return;
        };
        let away = self.begins_away(agent);
        let spans = if away { churn.away } else { churn.session };
        let drawn = |count| self.draws.bits(Purpose::Session, agent.into(), count);
        let part = u128::from(spans.of(drawn(1))) * u128::from(drawn(2));
        let at = ((part >> 64) as u64).max(SPAN_MIN);
        let timer = if away { timer::COMES } else { timer::GOES };
        out.send(at, Event::new(agent, timer, Kind::Timer, 0));
    }

    pub(super) fn goes<O: Out>(&self, shard: &mut Shard, agent: u32, way: &mut Way<'_, O>) -> u64 {
        let Some(churn) = self.churn else { return 0 };
        let place = shard.place(agent);
        shard.tally.departures += 1;
        let peers = shard.linked(agent);
        for slot in Slots(peers) {
            self.meets(shard, (agent, slot), false, way);
        }
        shard.meshes[place] = 0;
        shard.since[place] = AWAY;
        let at = way.at;
        let drawn = |count| {
            self.draws
                .bits(Purpose::Session, agent.into(), at << 2 | count)
        };
        let crashes = scaled(drawn(0), 1_000_000) < churn.crashes;
        let unnoticed = if crashes { churn.notice } else { 0 };
        way.send_late(shard, (agent, peers), Kind::Prune, FAREWELL, unnoticed);
        // Nobody is back before it was noticed that it was gone.
        let span = churn.away.of(drawn(1)).max(SPAN_MIN + unnoticed);
        way.plan(agent, timer::COMES, 0, span);
        u64::from(peers) << 1 | u64::from(crashes)
    }

    pub(super) fn comes<O: Out>(&self, shard: &mut Shard, agent: u32, way: &mut Way<'_, O>) -> u64 {
        let Some(churn) = self.churn else { return 0 };
        let place = shard.place(agent);
        shard.since[place] = moment(way.at) | FRESH;
        shard.down[place] = 0;
        let all = shard.linked(agent);
        shard.down[place] = all;
        way.send_late(shard, (agent, all), Kind::Graft, GREETING, 0);
        let drawn = self
            .draws
            .bits(Purpose::Session, agent.into(), way.at << 2 | 3);
        way.plan(agent, timer::GOES, 0, churn.session.of(drawn).max(SPAN_MIN));
        all.into()
    }

    /// A `Graft` that says more than that: a peer is up.
    pub(super) fn greeted<O: Out>(
        &self,
        shard: &mut Shard,
        event: Event,
        way: &mut Way<'_, O>,
    ) -> u64 {
        let (agent, slot) = (event.agent(), event.slot());
        let (place, link) = (shard.place(agent), 1 << slot);
        let answers = event.message() == ANSWER;
        self.meets(shard, (agent, slot), true, way);
        if answers && shard.since[place] & FRESH != 0 {
            shard.since[place] ^= FRESH;
            // Replicas ask each other by themselves.
            if !self.minded {
                way.send(shard, agent, slot, Kind::IWant, ALL);
            }
        }
        shard.down[place] &= !link;
        if !answers {
            way.send(shard, agent, slot, Kind::Graft, ANSWER);
        }
        let [this, before] = shard.backoff[place];
        let welcome = shard.meshes[place].count_ones() < self.mesh.low;
        if welcome && (this | before) & link == 0 {
            shard.meshes[place] |= link;
            way.send(shard, agent, slot, Kind::Graft, 0);
        }
        8 + u64::from(welcome)
    }

    /// A `Prune` that says more than that: a peer is gone.
    pub(super) fn left<O: Out>(
        &self,
        shard: &mut Shard,
        event: Event,
        way: &mut Way<'_, O>,
    ) -> u64 {
        let (place, link) = (shard.place(event.agent()), 1 << event.slot());
        self.meets(shard, (event.agent(), event.slot()), false, way);
        shard.meshes[place] &= !link;
        shard.down[place] |= link;
        10
    }

    /// Asks one of its peers for all that it does not have.
    pub(super) fn syncs<O: Out>(&self, shard: &mut Shard, agent: u32, way: &mut Way<'_, O>) -> u64 {
        way.plan(agent, timer::SYNC, 0, self.sync);
        let peers = shard.linked(agent);
        let picked = self.pick(peers, 1, agent, 1 << 51 | way.at);
        way.send_late(shard, (agent, picked), Kind::IWant, ALL, 0);
        picked.into()
    }

    /// Offers a peer all that is remembered.
    pub(super) fn offers_all<O: Out>(
        &self,
        shard: &mut Shard,
        event: Event,
        way: &mut Way<'_, O>,
    ) -> u64 {
        let (oldest, newest) = self.alive(way.at);
        let mut named = 0;
        for message in oldest..newest {
            if shard.has(event.agent(), message) {
                named += 1;
                way.send(shard, event.agent(), event.slot(), Kind::IHave, message);
            }
        }
        named
    }

    /// Of the agents of a shard that have been here for a while, and the messages that they may have and
    /// that are remembered and not quite new, the `unsaid` not among them: how many there are in all, and
    /// how many they lack.
    pub fn lacking(&self, shard: &Shard, at: u64, unsaid: &[u32]) -> (u64, u64) {
        // Replicas forget nothing, and ask by their own clock.
        let (sync, oldest) = match self.minded {
            true => (SYNC_EVERY.as_micros() as u64, 0),
            false => (self.sync, self.alive(at).0),
        };
        let grace = SETTLING.max(2 * sync);
        let settled = at.saturating_sub(grace);
        let until = self
            .messages
            .partition_point(|message| message.at <= settled) as u32;
        let said: Vec<u32> = (oldest..until)
            .filter(|message| !unsaid.contains(message))
            .collect();
        let (mut due, mut lacks) = (0, 0);
        let harmless = |agent: &u32| !self.is_one(self.censors, Purpose::Censor, *agent);
        for agent in shard.agents().filter(harmless) {
            if shard.is_away(agent) || shard.came_after(agent, settled) {
                continue;
            }
            let region = self.geography.region(agent.into());
            for message in said.iter().copied() {
                if self.messages[message as usize].allowed >> region & 1 == 1 {
                    due += 1;
                    let has = match shard.replicas() {
                        Some(replicas) => replicas.has(agent, (message, self.topic_of(message))),
                        None => shard.has(agent, message),
                    };
                    lacks += u64::from(!has);
                }
            }
        }
        (due, lacks)
    }

    /// Whether two regions are cut off from each other.
    #[inline]
    pub(super) fn is_cut(&self, at: u64, home: usize, abroad: usize) -> bool {
        let mut cuts = self.cuts.iter();
        cuts.any(|cut| cut.is_on(at) && cut.parts(home, abroad))
    }
}

/// Since when an agent is here, where it is not.
pub(super) const AWAY: u32 = u32::MAX;

/// It has not asked anybody yet what it missed.
pub(super) const FRESH: u32 = 1 << 31;

/// A time in milliseconds, as agents keep it.
pub(super) fn moment(at: u64) -> u32 {
    (at / 1_000).min(u64::from(FRESH) - 2) as u32
}

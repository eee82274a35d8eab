//! Signals: agents find the best place by what others leave behind (stigmergy).
//!
//! Each agent goes to a place at every step: mostly to one where the signal of its cluster is strong, now and
//! then to any. What it finds there it adds to the signal, as much as the place is good; signals fade. The
//! head of a cluster adds up what it is told and says once in a period how the signals stand; meshes mix
//! those of their clusters. Nobody knows which place is best, nor that it is another from half-time on.
//!
//! After Grassé 1959, and Dorigo and Stützle 2004 (the share of a place grows with the square of its signal).

use super::{Presence, Society};
use crate::swarm::draw::{Purpose, scaled};
use crate::swarm::engine::{Event, Model, Out};
use crate::swarm::event::Kind;
use crate::swarm::plan::SignalsPlan;
use serde::Serialize;

/// What came of it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Led {
    /// Of all steps that were not random, the part that led to the best place: in each tenth of the run.
    pub at_the_best: Vec<f64>,
    /// How long until nine in ten steps that were not random led there, in seconds: from the beginning, and
    /// from when another became the best.
    pub found_seconds: [Option<f64>; 2],
    /// Steps.
    pub steps: u64,
    /// Things sent and their bytes: inside clusters, inside meshes, beyond.
    pub sent: [(u64, u64); 3],
}

/// The model.
#[derive(Debug)]
pub struct Signals {
    society: Society,
    plan: SignalsPlan,
}

/// The state of all agents.
pub struct Shard {
    presence: Presence,
    /// What the head of each cluster adds up: cluster by cluster, a number for each place.
    sums: Vec<u32>,
    /// How the signals stood in this period and the two before, as they were said: what is read is never
    /// what is written in the same epoch.
    said: [Vec<u32>; 3],
    /// How the signals of each mesh stand on average, as its head said last; 0 where it has not yet.
    mixed: Vec<u32>,
    /// Steps that led to the best place and steps in all, by period of clusters, random ones not among them.
    steps: Vec<[u64; 2]>,
    random: u64,
}

/// Timers: a step, a period of a cluster's head, and one of a mesh's.
const STEP: u8 = 0;
const TURN: u8 = 1;
const MIX: u8 = 2;

const DEPOSIT: u64 = 16;
/// What the best place adds, and others.
const BEST: u32 = 1_024;
const OTHER: u32 = 128;

impl Signals {
    /// For these agents.
    pub fn new(society: Society, plan: SignalsPlan) -> Self {
        Self { society, plan }
    }

    /// Before anything has happened.
    pub fn shard(&self) -> Shard {
        let places = self.society.groups()[0] * self.plan.places as usize;
        let periods = self.horizon() / self.society.every(0) + 1;
        Shard {
            presence: self.society.presence(),
            sums: vec![1; places],
            said: std::array::from_fn(|_| vec![1; places]),
            mixed: vec![0; self.society.groups()[1] * self.plan.places as usize],
            steps: vec![[0; 2]; periods as usize],
            random: 0,
        }
    }

    fn horizon(&self) -> u64 {
        self.society.plan.horizon.as_micros() as u64
    }

    /// What came of it.
    pub fn ended(&self, shard: Shard) -> Led {
        let part = |[best, all]: [u64; 2]| best as f64 / all.max(1) as f64;
        let tenth = shard.steps.len().div_ceil(10);
        let sum = |some: &[[u64; 2]]| some.iter().fold([0; 2], |[a, b], [x, y]| [a + x, b + y]);
        let half = shard.steps.len() / 2;
        let seconds = self.society.every(0) as f64 / 1e6;
        let found = |some: &[[u64; 2]]| {
            let found = some
                .iter()
                .position(|steps| steps[1] > 0 && part(*steps) >= 0.9);
            found.map(|periods| periods as f64 * seconds)
        };
        Led {
            at_the_best: shard
                .steps
                .chunks(tenth)
                .map(|some| part(sum(some)))
                .collect(),
            found_seconds: [found(&shard.steps[..half]), found(&shard.steps[half..])],
            steps: sum(&shard.steps)[1] + shard.random,
            sent: shard.presence.sent,
        }
    }

    /// The best place at a time.
    fn best(&self, at: u64) -> u32 {
        let draws = self.society.draws;
        let first = draws.below(self.plan.places, Purpose::Home, 0, 0);
        match at < self.horizon() / 2 {
            true => first,
            false => (first + self.plan.places / 2) % self.plan.places,
        }
    }

    fn row(&self, cluster: u32) -> std::ops::Range<usize> {
        let places = self.plan.places as usize;
        cluster as usize * places..(cluster as usize + 1) * places
    }

    fn steps(&self, shard: &mut Shard, agent: u32, at: u64, out: &mut impl Out) -> u64 {
        let step = self.plan.step.as_micros() as u64;
        out.send(at + step, Event::new(agent, STEP, Kind::Timer, 0));
        if shard.presence.is_away(agent) {
            return 1;
        }
        let draws = self.society.draws;
        let bits = draws.bits(Purpose::Pick, agent.into(), at);
        let random = scaled(bits, 1_000_000) < self.plan.random;
        let bits = draws.bits(Purpose::Pick, agent.into(), at | 1 << 60);
        let cluster = self.society.cluster_of(agent);
        let period = (at / self.society.every(0)) as usize;
        let place = if random {
            scaled(bits, self.plan.places)
        } else {
            // What was said in the period before: nobody hears more, whoever is simulated first.
            let signals = &shard.said[(period + 2) % 3][self.row(cluster)];
            let weight = |signal: &u32| u64::from(*signal) * u64::from(*signal);
            let all: u64 = signals.iter().map(weight).sum();
            let mut drawn = ((u128::from(bits) * u128::from(all)) >> 64) as u64;
            let found = signals.iter().position(|signal| {
                let here = drawn < weight(signal);
                drawn = drawn.wrapping_sub(weight(signal));
                here
            });
            found.unwrap_or(0) as u32
        };
        let best = self.best(at) == place;
        if random {
            shard.random += 1;
        } else {
            let last = shard.steps.len() - 1;
            let [led, all] = &mut shard.steps[period.min(last)];
            (*led, *all) = (*led + u64::from(best), *all + 1);
        }
        let head = self.society.head(0, cluster, 0);
        let adds = if best { BEST } else { OTHER };
        let event = Event::new(head, 0, Kind::Copy, place << 12 | adds);
        self.society
            .send(&mut shard.presence, at, (agent, head), event, DEPOSIT, out);
        2 + u64::from(place)
    }

    /// The head of a cluster says how its signals stand, and they fade.
    fn turns(&self, shard: &mut Shard, head: u32, at: u64, out: &mut impl Out) -> u64 {
        let every = self.society.every(0);
        out.send(at + every, Event::new(head, TURN, Kind::Timer, 0));
        let cluster = self.society.cluster_of(head);
        let row = self.row(cluster);
        let period = (at / every) as usize;
        if shard.presence.is_away(head) {
            let before: Vec<u32> = shard.said[(period + 2) % 3][row.clone()].to_vec();
            shard.said[period % 3][row].copy_from_slice(&before);
            return 3;
        }
        let members = self.society.members(cluster).len() as u64;
        let places = u64::from(self.plan.places);
        let said = &mut shard.said[period % 3][row.clone()];
        // The first turn after a mesh has spoken.
        let spoken = |at: u64| at.saturating_sub(every / 2) / self.society.every(1);
        let mixes = spoken(at) != spoken(at - every.min(at));
        let mesh = self.society.mesh_of(cluster) as usize * places as usize;
        let mixed = &shard.mixed[mesh..mesh + places as usize];
        for ((said, sum), mixed) in said.iter_mut().zip(&mut shard.sums[row]).zip(mixed) {
            *sum -= (*sum / self.plan.fades).min(*sum - 1);
            if mixes && *mixed > 0 {
                *sum = ((u64::from(*sum) + u64::from(*mixed)) / 2) as u32;
            }
            *sum = (*sum).max(1);
            *said = *sum;
        }
        // To all of the cluster, in one message each.
        shard.presence.sent[0].0 += members;
        shard.presence.sent[0].1 += members * (super::FRAME + 4 * places);
        4
    }

    /// The head of a mesh says how the signals of its clusters stand on average. They are mixed with it,
    /// half and half, in their next turn.
    fn mixes(&self, shard: &mut Shard, head: u32, at: u64, out: &mut impl Out) -> u64 {
        out.send(
            at + self.society.every(1),
            Event::new(head, MIX, Kind::Timer, 0),
        );
        if shard.presence.is_away(head) {
            return 5;
        }
        let mesh = self.society.mesh_of(self.society.cluster_of(head));
        let clusters = self.society.meshes[mesh as usize]..self.society.meshes[mesh as usize + 1];
        let (count, places) = (clusters.len() as u64, self.plan.places as usize);
        let said = &shard.said[((at / self.society.every(0)) as usize + 2) % 3];
        for place in 0..places {
            let signal = |cluster: u32| u64::from(said[self.row(cluster).start + place]);
            let sum: u64 = clusters.clone().map(signal).sum();
            shard.mixed[mesh as usize * places + place] = (sum / count).max(1) as u32;
        }
        let bytes = super::FRAME + 4 * places as u64;
        shard.presence.sent[1].0 += 2 * count;
        shard.presence.sent[1].1 += 2 * count * bytes;
        6
    }
}

impl Model for Signals {
    type Shard = Shard;

    fn begin(&self, shard: &mut Shard, out: &mut impl Out) {
        self.society.enters(&shard.presence, out);
        let draws = self.society.draws;
        for agent in self.society.agents() {
            let step = self.plan.step.as_micros() as u32;
            let phase = draws.below(step, Purpose::Heartbeat, agent.into(), 0);
            out.send(phase.into(), Event::new(agent, STEP, Kind::Timer, 0));
        }
        let [clusters, meshes] = self.society.groups();
        for cluster in 0..clusters as u32 {
            let head = self.society.head(0, cluster, 0);
            out.send(
                self.society.every(0),
                Event::new(head, TURN, Kind::Timer, 0),
            );
        }
        for mesh in 0..meshes as u32 {
            // Not in an epoch in which its clusters add up.
            let head = self.society.head(1, mesh, 0);
            let at = self.society.every(1) + self.society.every(0) / 2;
            out.send(at, Event::new(head, MIX, Kind::Timer, 0));
        }
    }

    fn handle(&self, shard: &mut Shard, at: u64, event: Event, out: &mut impl Out) -> u64 {
        if self.society.moves(&mut shard.presence, at, event, out) {
            return 40;
        }
        let agent = event.agent();
        match (event.kind(), event.slot()) {
            (Kind::Timer, STEP) => self.steps(shard, agent, at, out),
            (Kind::Timer, TURN) => self.turns(shard, agent, at, out),
            (Kind::Timer, _) => self.mixes(shard, agent, at, out),
            _ if shard.presence.is_away(agent) => {
                shard.presence.lost += 1;
                41
            }
            _ => {
                let (place, adds) = (event.message() >> 12, event.message() & 0xfff);
                let row = self.row(self.society.cluster_of(agent));
                let signal = &mut shard.sums[row][place as usize];
                *signal = signal.saturating_add(adds).min(1 << 24);
                u64::from(*signal)
            }
        }
    }
}

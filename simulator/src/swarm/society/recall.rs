//! Recall: somebody remembers something, and others ask for it.
//!
//! Memories are made all the time, each by an agent that keeps it, as do some others that are drawn. Who asks
//! asks the head of its cluster; a head that knows no holder asks the head above. A head knows what has
//! reached it by the reports of [`gather`](super::gather)'s hierarchy: after a period of each level. Whoever
//! knows a holder passes the question on, and the holder answers. Where a head or a holder is away, the next
//! is asked; who hears nothing asks again.

use super::{Presence, Society};
use crate::swarm::draw::Purpose;
use crate::swarm::engine::{Event, Model, Out};
use crate::swarm::event::Kind;
use crate::swarm::plan::RecallPlan;
use crate::swarm::tally::quantile;
use serde::Serialize;

/// What came of it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Recalled {
    /// Questions.
    pub asked: u64,
    /// Of those, how many were answered: by the first try, and in all.
    pub answered: [u64; 2],
    /// Who knew a holder, of those that were answered: the head of the cluster, of the mesh, of all.
    pub known_by: [u64; 3],
    /// Questions whose memory no head could have heard of yet, and that were not answered.
    pub too_fresh: u64,
    /// From the question to the answer, half of them and 99 in 100, in milliseconds.
    pub p50_ms: Option<u64>,
    /// See above.
    pub p99_ms: Option<u64>,
    /// Things sent for each question.
    pub sent_per_question: f64,
    /// Things sent and their bytes: inside clusters, inside meshes, beyond.
    pub sent: [(u64, u64); 3],
}

/// One question.
#[derive(Clone, Copy, Debug)]
struct Question {
    asker: u32,
    memory: u32,
    at: u64,
}

/// The model.
#[derive(Debug)]
pub struct Recall {
    society: Society,
    plan: RecallPlan,
    questions: Vec<Question>,
}

/// The state of all agents.
pub struct Shard {
    presence: Presence,
    /// Which try each question is at; `DONE` once it is answered.
    tries: Vec<u8>,
    /// Answers by delay, in milliseconds.
    delays: Vec<u64>,
    done: Recalled,
}

const DONE: u8 = u8::MAX;
const TRIES: u8 = 3;
const DELAYS: usize = 16_384;
/// How long an answer is waited for, in microseconds.
const PATIENCE: u64 = 1_500_000;
const ASK: u64 = 48;

/// Timers: a question comes up, and its patience ends (from this slot on, by try).
const ASKS: u8 = 0;
const WAITED: u8 = 1;

impl Recall {
    /// For these agents.
    pub fn new(society: Society, plan: RecallPlan) -> Self {
        let apart = 1_000_000.0 / plan.rate;
        let draw = |number: u32, part| {
            society
                .draws
                .below(society.agents().end, Purpose::Lookup, number.into(), part)
        };
        let horizon = society.plan.horizon.as_micros() as u64;
        let question = |number: u32| {
            let at = plan.from.as_micros() as u64 + (f64::from(number) * apart) as u64;
            // After what is there by then.
            let all = u128::from(plan.memories) * u128::from(at.min(horizon));
            let made = (all / u128::from(horizon.max(1))) as u32;
            Question {
                asker: draw(number, 0),
                memory: society
                    .draws
                    .below(made.max(1), Purpose::Lookup, number.into(), 1),
                at,
            }
        };
        Self {
            questions: (0..plan.count).map(question).collect(),
            plan,
            society,
        }
    }

    /// Before anything has happened.
    pub fn shard(&self) -> Shard {
        Shard {
            presence: self.society.presence(),
            tries: vec![0; self.questions.len()],
            delays: vec![0; DELAYS],
            done: Recalled::default(),
        }
    }

    /// What came of it.
    pub fn ended(&self, shard: Shard) -> Recalled {
        let sent = shard.presence.sent;
        let [p50_ms, p99_ms] = [0.5, 0.99].map(|part| quantile(&shard.delays, part));
        let all: u64 = sent.iter().map(|(count, _)| count).sum();
        Recalled {
            p50_ms,
            p99_ms,
            sent,
            sent_per_question: all as f64 / shard.done.asked.max(1) as f64,
            ..shard.done
        }
    }

    /// When a memory is made, in microseconds: one after the other, over the whole run.
    fn made_at(&self, memory: u32) -> u64 {
        let horizon = self.society.plan.horizon.as_micros() as u64;
        (u128::from(horizon) * u128::from(memory) / u128::from(self.plan.memories)) as u64
    }

    /// Who keeps a memory: one that is drawn, and others at even distances, so that none is drawn twice.
    fn holder(&self, memory: u32, which: u32) -> u32 {
        let all = u64::from(self.society.agents().end);
        let drawn = self
            .society
            .draws
            .below(all as u32, Purpose::Contact, memory.into(), 0);
        ((u64::from(drawn) + all * u64::from(which) / u64::from(self.copies())) % all) as u32
    }

    fn copies(&self) -> u32 {
        self.plan.copies.min(self.society.agents().end)
    }

    /// Which of a memory's holders the head of a level knows, from the one on that is to be tried.
    fn known(
        &self,
        level: usize,
        agent: u32,
        question: Question,
        tried: u8,
        at: u64,
    ) -> Option<u32> {
        let society = &self.society;
        let reports: u64 = (0..=level).map(|level| society.every(level)).sum();
        if at < self.made_at(question.memory) + reports {
            return None;
        }
        let own = society.cluster_of(agent);
        let mesh = society.mesh_of(own);
        let near = |holder: &u32| match level {
            0 => society.cluster_of(*holder) == own,
            1 => society.mesh_of(society.cluster_of(*holder)) == mesh,
            _ => true,
        };
        let holders = (0..self.copies()).map(|which| {
            self.holder(
                question.memory,
                (which + u32::from(tried)) % self.plan.copies,
            )
        });
        holders.into_iter().find(near)
    }

    fn asks(&self, shard: &mut Shard, event: Event, at: u64, out: &mut impl Out) -> u64 {
        let number = event.message();
        let question = self.questions[number as usize];
        if shard.presence.is_away(question.asker) {
            return 1;
        }
        shard.done.asked += 1;
        self.tries(shard, number, at, out)
    }

    fn tries(&self, shard: &mut Shard, number: u32, at: u64, out: &mut impl Out) -> u64 {
        let question = self.questions[number as usize];
        let tried = shard.tries[number as usize];
        let cluster = self.society.cluster_of(question.asker);
        let head = self.society.head(0, cluster, 0);
        let event = Event::new(head, tried << 2, Kind::IWant, number);
        self.society.send(
            &mut shard.presence,
            at,
            (question.asker, head),
            event,
            ASK,
            out,
        );
        out.send(
            at + PATIENCE,
            Event::new(question.asker, WAITED + tried, Kind::Timer, number),
        );
        2
    }

    /// A question reaches a head: its slot says which try it is, and of which level the head is.
    fn asked(&self, shard: &mut Shard, event: Event, at: u64, out: &mut impl Out) -> u64 {
        let (head, number) = (event.agent(), event.message());
        let (tried, level) = (event.slot() >> 2, usize::from(event.slot() & 3));
        let question = self.questions[number as usize];
        if let Some(holder) = self.known(level, head, question, tried, at) {
            let event = Event::new(holder, tried << 2 | level as u8, Kind::Copy, number);
            self.society
                .send(&mut shard.presence, at, (head, holder), event, ASK, out);
            return 3;
        }
        if level == 2 {
            return 4;
        }
        let above = level + 1;
        let group = match above {
            1 => self.society.mesh_of(self.society.cluster_of(head)),
            _ => 0,
        };
        let heads = self.society.heads(above, group);
        let next = self.society.head(above, group, u32::from(tried) % heads);
        let event = Event::new(next, tried << 2 | above as u8, Kind::IWant, number);
        self.society
            .send(&mut shard.presence, at, (head, next), event, ASK, out);
        5
    }

    /// A head is away: whoever asked it finds that out when it does not connect, and asks the next.
    fn knocks(&self, shard: &mut Shard, event: Event, at: u64, out: &mut impl Out) -> u64 {
        let (agent, level) = (event.agent(), usize::from(event.slot() & 3));
        let cluster = self.society.cluster_of(agent);
        let group = [cluster, self.society.mesh_of(cluster), 0][level];
        let mut heads = 0..self.society.heads(level, group);
        let me = heads.find(|by| self.society.head(level, group, *by) == agent);
        if me.is_none_or(|me| me + 1 >= self.society.heads(level, group)) {
            shard.presence.lost += 1;
            return 11;
        }
        let next = self.society.head(level, group, me.unwrap_or(0) + 1);
        let event = Event::new(next, event.slot(), Kind::IWant, event.message());
        self.society
            .send(&mut shard.presence, at, (agent, next), event, ASK, out);
        12
    }

    /// A holder is away: the next is asked.
    fn next_holder(&self, shard: &mut Shard, event: Event, at: u64, out: &mut impl Out) -> u64 {
        let (agent, number) = (event.agent(), event.message());
        let memory = self.questions[number as usize].memory;
        let mut holders = 0..self.copies();
        let me = holders.find(|which| self.holder(memory, *which) == agent);
        let Some(which) = me.filter(|which| which + 1 < self.copies()) else {
            shard.presence.lost += 1;
            return 13;
        };
        let next = self.holder(memory, which + 1);
        let event = Event::new(next, event.slot(), Kind::Copy, number);
        self.society
            .send(&mut shard.presence, at, (agent, next), event, ASK, out);
        14
    }

    /// The question reaches a holder, which answers.
    fn found(&self, shard: &mut Shard, event: Event, at: u64, out: &mut impl Out) -> u64 {
        let (holder, number) = (event.agent(), event.message());
        let asker = self.questions[number as usize].asker;
        let answer = Event::new(asker, event.slot(), Kind::Answer, number);
        let bytes = u64::from(self.plan.bytes);
        self.society
            .send(&mut shard.presence, at, (holder, asker), answer, bytes, out);
        6
    }

    fn answered(&self, shard: &mut Shard, event: Event, at: u64) -> u64 {
        let (number, tried) = (event.message() as usize, event.slot() >> 2);
        if std::mem::replace(&mut shard.tries[number], DONE) == DONE {
            return 7;
        }
        let done = &mut shard.done;
        done.answered[0] += u64::from(tried == 0);
        done.answered[1] += 1;
        done.known_by[usize::from(event.slot() & 3)] += 1;
        let millis = (at - self.questions[number].at) / 1_000;
        shard.delays[(millis as usize).min(DELAYS - 1)] += 1;
        8 + millis
    }

    /// Patience ends: it asks again, or gives up.
    fn waited(&self, shard: &mut Shard, event: Event, at: u64, out: &mut impl Out) -> u64 {
        let number = event.message();
        let tries = &mut shard.tries[number as usize];
        if *tries == DONE {
            return 9;
        }
        *tries += 1;
        if *tries < TRIES {
            return self.tries(shard, number, at, out);
        }
        let reports: u64 = (0..3).map(|level| self.society.every(level)).sum();
        let made = self.made_at(self.questions[number as usize].memory);
        let fresh = at - PATIENCE < made + reports;
        shard.done.too_fresh += u64::from(fresh);
        10
    }
}

impl Model for Recall {
    type Shard = Shard;

    fn begin(&self, shard: &mut Shard, out: &mut impl Out) {
        self.society.enters(&shard.presence, out);
        for (number, question) in (0..).zip(&self.questions) {
            out.send(
                question.at,
                Event::new(question.asker, ASKS, Kind::Timer, number),
            );
        }
    }

    fn handle(&self, shard: &mut Shard, at: u64, event: Event, out: &mut impl Out) -> u64 {
        if self.society.moves(&mut shard.presence, at, event, out) {
            return 40;
        }
        if shard.presence.is_away(event.agent()) {
            return match event.kind() {
                Kind::IWant => self.knocks(shard, event, at, out),
                Kind::Copy => self.next_holder(shard, event, at, out),
                _ => 41,
            };
        }
        match event.kind() {
            Kind::Timer if event.slot() == ASKS => self.asks(shard, event, at, out),
            Kind::Timer => self.waited(shard, event, at, out),
            Kind::IWant => self.asked(shard, event, at, out),
            Kind::Copy => self.found(shard, event, at, out),
            _ => self.answered(shard, event, at),
        }
    }
}

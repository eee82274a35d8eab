//! Gathering: what all agents see, added up cluster by cluster, mesh by mesh, and for all; with a
//! checkpoint now and then.
//!
//! Map and reduce: each agent reports to the head of its cluster, heads report the sum of what they have
//! lately heard to the head of the next level, each at its own pace. A sum is how many are in it, when what
//! they say was so on average and at the oldest. Whoever gets no answer says it to the next that stands by.
//! So a group may for a while have two who speak for it, after an absence or on two sides of a partition: the
//! level above counts the word of one only, whoever speaks for more, and fences the other off.

use super::{Presence, Society};
use crate::swarm::draw::Purpose;
use crate::swarm::engine::{Event, Model, Out};
use crate::swarm::event::Kind;
use serde::Serialize;

/// Levels at which something is reported: to clusters, to meshes, to all.
const LEVELS: usize = 3;

/// The timer of the head of all; the reports of a level have its number.
const LOOKS: u8 = 3;

/// Bytes of a report and of its answer.
const REPORT: u64 = 64;
const ANSWER: u64 = 8;

/// A report is counted for so many periods.
const PERIODS: u64 = 3;

/// How long an answer is waited for, in microseconds.
const PATIENCE: u64 = 1_500_000;

/// The timers after which a report that was not answered goes to the next: from this slot on, by level.
const WAITED: u8 = 4;

/// What came of it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Gathered {
    /// Clusters, and meshes of them.
    pub groups: [usize; 2],
    /// How often the head of all looked at what it had.
    pub looks: u64,
    /// As many as were in the sum, as a part of those that were here, on average and at the least; from the
    /// first look on at which it could be whole, and none if there was no such look. In the sum are also some
    /// that have left since they reported.
    pub coverage: Option<[f64; 2]>,
    /// How old the sum was, on average and its oldest part at most, in seconds: at heads of clusters, of
    /// meshes, and of all.
    pub age_seconds: [[f64; 2]; LEVELS],
    /// Reports at each level.
    pub reports: [u64; LEVELS],
    /// Times that another took over as head of a group, and reports of a head that was none any more.
    pub takeovers: u64,
    /// See above.
    pub fenced: u64,
    /// Checkpoints that were taken.
    pub checkpoints: u64,
    /// Things sent and their bytes: inside clusters, inside meshes, beyond.
    pub sent: [(u64, u64); 3],
}

/// A sum of what agents see.
#[derive(Clone, Copy, Default, Debug)]
struct Sum {
    count: u64,
    /// The sum of when, and the oldest of it, in milliseconds.
    when: u64,
    oldest: u64,
}

impl Sum {
    fn add(&mut self, other: Self) {
        self.oldest = match self.count {
            0 => other.oldest,
            _ => self.oldest.min(other.oldest),
        };
        self.count += other.count;
        self.when += other.when;
    }
}

/// What a head has of one of its children.
#[derive(Clone, Copy, Default, Debug)]
struct Heard {
    sum: Sum,
    /// When it came, in milliseconds; 0 for never.
    at: u64,
    /// Who speaks for the child.
    holder: u32,
}

/// What a child knows of whom it reports to.
#[derive(Clone, Copy, Default, Debug)]
struct Knows {
    /// Which of those that may be the head it has tried.
    head: u32,
    /// When it reported last, and when it was answered, in milliseconds.
    asked: u64,
    answered: u64,
}

/// The model.
#[derive(Debug)]
pub struct Gather {
    society: Society,
}

/// The state of all agents.
pub struct Shard {
    presence: Presence,
    /// By level, by who stands by, by child.
    heard: [Vec<Vec<Heard>>; LEVELS],
    /// By level, by who speaks for the child, by child.
    knows: [Vec<Vec<Knows>>; LEVELS],
    /// What was said last and before, in the same order.
    said: [Vec<Vec<[Sum; 2]>>; LEVELS],
    done: Gathered,
    /// Looks at each level, the sum of how old what they saw was, and the oldest, in milliseconds.
    ages: [[u64; 3]; LEVELS],
    coverage: Vec<f64>,
}

impl Gather {
    /// For these agents.
    pub fn new(society: Society) -> Self {
        Self { society }
    }

    /// Before anything has happened.
    pub fn shard(&self) -> Shard {
        let stand = self.society.plan.standby as usize + 1;
        let [clusters, meshes] = self.society.groups();
        let children = [self.society.agents().len(), clusters, meshes];
        Shard {
            presence: self.society.presence(),
            heard: children.map(|count| vec![vec![Heard::default(); count]; stand]),
            knows: children.map(|count| vec![vec![Knows::default(); count]; stand]),
            said: children.map(|count| vec![vec![<[Sum; 2]>::default(); count]; stand]),
            done: Gathered {
                groups: [clusters, meshes],
                ..Gathered::default()
            },
            ages: Default::default(),
            coverage: Vec::new(),
        }
    }

    /// What came of it.
    pub fn ended(&self, shard: Shard) -> Gathered {
        let looks = shard.coverage.len().max(1) as f64;
        let least = shard.coverage.iter().copied().reduce(f64::min);
        let seconds = |[looks, sum, oldest]: [u64; 3]| {
            [sum as f64 / looks.max(1) as f64, oldest as f64].map(|millis| millis / 1_000.0)
        };
        Gathered {
            coverage: least.map(|least| [shard.coverage.iter().sum::<f64>() / looks, least]),
            age_seconds: shard.ages.map(seconds),
            sent: shard.presence.sent,
            ..shard.done
        }
    }

    /// The child of `level` for which an agent may speak, and as which of those who may.
    fn speaks_for(&self, level: usize, agent: u32) -> Option<(u32, u32)> {
        let society = &self.society;
        if level == 0 {
            return Some((agent, 0));
        }
        let (group, below) = (self.group_led(level - 1, agent), level - 1);
        let heads = 0..society.heads(below, group);
        heads
            .map(|by| (group, by))
            .find(|(_, by)| society.head(below, group, *by) == agent)
    }

    /// The group of a level that an agent belongs to.
    fn group_led(&self, level: usize, agent: u32) -> u32 {
        let cluster = self.society.cluster_of(agent);
        match level {
            0 => cluster,
            1 => self.society.mesh_of(cluster),
            _ => 0,
        }
    }

    /// The group that a child of a level is in.
    fn group_of(&self, level: usize, child: u32) -> u32 {
        match level {
            0 => self.society.cluster_of(child),
            1 => self.society.mesh_of(child),
            _ => 0,
        }
    }

    /// The children of a group.
    fn children(&self, level: usize, group: u32) -> std::ops::Range<u32> {
        let society = &self.society;
        match level {
            0 => society.members(group),
            1 => society.meshes[group as usize]..society.meshes[group as usize + 1],
            _ => 0..society.meshes.len() as u32 - 1,
        }
    }

    /// What a head has heard lately.
    fn sum(&self, shard: &Shard, level: usize, (group, by): (u32, u32), at: u64) -> Sum {
        let since = at / 1_000 - (PERIODS * self.society.every(level) / 1_000).min(at / 1_000);
        let mut sum = Sum::default();
        for child in self.children(level, group) {
            let heard = &shard.heard[level][by as usize][child as usize];
            if heard.at > since {
                sum.add(heard.sum);
            }
        }
        sum
    }

    /// It is time for an agent to report at a level.
    fn reports(
        &self,
        shard: &mut Shard,
        agent: u32,
        level: usize,
        at: u64,
        out: &mut impl Out,
    ) -> u64 {
        let every = self.society.every(level);
        out.send(at + every, Event::new(agent, level as u8, Kind::Timer, 0));
        let Some((child, by)) = self
            .speaks_for(level, agent)
            .filter(|_| !shard.presence.is_away(agent))
        else {
            return 1;
        };
        let now = at / 1_000;
        let sum = match level.checked_sub(1) {
            None => {
                let (count, when, oldest) = (1, now, now);
                Sum {
                    count,
                    when,
                    oldest,
                }
            }
            Some(below) => self.sum(shard, below, (child, by), at),
        };
        if sum.count == 0 {
            return 2;
        }
        if let Some(below) = level.checked_sub(1) {
            shard.aged(below, sum, now);
        }
        let turn = (at / every) as usize % 2;
        shard.said[level][by as usize][child as usize][turn] = sum;
        shard.knows[level][by as usize][child as usize].head = 0;
        shard.done.reports[level] += 1;
        self.says(shard, (agent, level), (child, by, turn as u32), at, out);
        3 + sum.count
    }

    /// Says to whom it believes is the head what it has written down, and waits for the answer.
    fn says(
        &self,
        shard: &mut Shard,
        (agent, level): (u32, usize),
        (child, by, turn): (u32, u32, u32),
        at: u64,
        out: &mut impl Out,
    ) {
        let group = self.group_of(level, child);
        let knows = &mut shard.knows[level][by as usize][child as usize];
        knows.asked = at / 1_000;
        let head = self.society.head(level, group, knows.head);
        let local = child - self.children(level, group).start;
        let what = local << 3 | by << 1 | turn;
        let event = Event::new(head, level as u8, Kind::Copy, what);
        self.society
            .send(&mut shard.presence, at, (agent, head), event, REPORT, out);
        let waited = WAITED + level as u8;
        out.send(at + PATIENCE, Event::new(agent, waited, Kind::Timer, what));
    }

    /// It has waited for an answer. If there was none, it turns to the next that stands by.
    fn waited(&self, shard: &mut Shard, event: Event, at: u64, out: &mut impl Out) -> u64 {
        let (agent, level) = (event.agent(), usize::from(event.slot() - WAITED));
        let (by, turn) = (event.message() >> 1 & 3, event.message() & 1);
        let speaks = self.speaks_for(level, agent);
        let Some((child, _)) = speaks.filter(|_| !shard.presence.is_away(agent)) else {
            return 4;
        };
        let heads = self.society.heads(level, self.group_of(level, child));
        let knows = &mut shard.knows[level][by as usize][child as usize];
        if knows.answered >= knows.asked {
            return 5;
        }
        // Once round, and then not before the next report is due.
        if knows.head + 1 < heads {
            knows.head += 1;
            self.says(shard, (agent, level), (child, by, turn), at, out);
        }
        6
    }

    /// A report reaches a head.
    fn heard(&self, shard: &mut Shard, event: Event, at: u64, out: &mut impl Out) -> u64 {
        let (agent, level) = (event.agent(), usize::from(event.slot()));
        let (local, by, turn) = (
            event.message() >> 3,
            event.message() >> 1 & 3,
            event.message() & 1,
        );
        let group = self.group_led(level, agent);
        let mut heads = 0..self.society.heads(level, group);
        let Some(me) = heads.find(|by| self.society.head(level, group, *by) == agent) else {
            return 10;
        };
        let child = self.children(level, group).start + local;
        let sender = match level {
            0 => child,
            _ => self.society.head(level - 1, child, by),
        };
        let now = at / 1_000;
        let sum = shard.said[level][by as usize][child as usize][turn as usize];
        let heard = &mut shard.heard[level][me as usize][child as usize];
        let other = level > 0 && heard.at > 0 && heard.holder != by;
        let lately = heard.at + 3 * self.society.every(level) / 2_000 > now;
        let fenced = other && lately && heard.sum.count >= sum.count;
        shard.done.fenced += u64::from(fenced);
        shard.done.takeovers += u64::from(other && !fenced);
        if !fenced {
            *heard = Heard {
                sum,
                at: now,
                holder: by,
            };
        }
        let yes = Event::new(sender, level as u8, Kind::Answer, by);
        self.society
            .send(&mut shard.presence, at, (agent, sender), yes, ANSWER, out);
        12 + u64::from(fenced)
    }

    /// An agent is answered.
    fn answered(&self, shard: &mut Shard, event: Event, at: u64) -> u64 {
        let (level, by) = (usize::from(event.slot()), event.message() as usize);
        if let Some((child, _)) = self.speaks_for(level, event.agent()) {
            shard.knows[level][by][child as usize].answered = at / 1_000;
        }
        20
    }

    /// The head of all looks at what it has.
    fn looks(&self, shard: &mut Shard, agent: u32, at: u64, out: &mut impl Out) -> u64 {
        let every = self.society.every(2);
        out.send(at + every, Event::new(agent, LOOKS, Kind::Timer, 0));
        let mut heads = 0..self.society.heads(2, 0);
        let me = heads.find(|by| self.society.head(2, 0, *by) == agent);
        let Some(me) = me.filter(|_| !shard.presence.is_away(agent)) else {
            return 30;
        };
        let sum = self.sum(shard, 2, (0, me), at);
        // Who stands by looks only where more than half believe in it.
        if sum.count == 0 || me > 0 && 2 * sum.count < u64::from(self.society.agents().end) {
            return 31;
        }
        let now = at / 1_000;
        shard.done.looks += 1;
        shard.aged(2, sum, now);
        // What comes from below takes a period of each level, one after the other.
        let first: u64 = (0..LEVELS).map(|level| self.society.every(level)).sum();
        if at > 2 * first {
            shard
                .coverage
                .push(sum.count as f64 / shard.presence.here.max(1) as f64);
        }
        let checkpoint = self.society.every(3);
        shard.done.checkpoints += u64::from(at / checkpoint != (at - every.min(at)) / checkpoint);
        32 + sum.count
    }
}

impl Shard {
    fn aged(&mut self, level: usize, sum: Sum, now: u64) {
        if let Some(mean) = sum.when.checked_div(sum.count) {
            let [looks, age, oldest] = &mut self.ages[level];
            *looks += 1;
            *age += now - mean;
            *oldest = (now - sum.oldest).max(*oldest);
        }
    }
}

impl Model for Gather {
    type Shard = Shard;

    fn begin(&self, shard: &mut Shard, out: &mut impl Out) {
        self.society.enters(&shard.presence, out);
        for agent in self.society.agents() {
            for level in (0..LEVELS).filter(|level| self.speaks_for(*level, agent).is_some()) {
                let millis = (self.society.every(level) / 1_000) as u32;
                let draws = self.society.draws;
                let phase = draws.below(millis, Purpose::Heartbeat, agent.into(), level as u64);
                out.send(
                    u64::from(phase) * 1_000,
                    Event::new(agent, level as u8, Kind::Timer, 0),
                );
            }
            let heads = 0..self.society.heads(2, 0);
            if heads
                .into_iter()
                .any(|by| self.society.head(2, 0, by) == agent)
            {
                out.send(
                    self.society.every(2),
                    Event::new(agent, LOOKS, Kind::Timer, 0),
                );
            }
        }
    }

    fn handle(&self, shard: &mut Shard, at: u64, event: Event, out: &mut impl Out) -> u64 {
        if self.society.moves(&mut shard.presence, at, event, out) {
            return 40;
        }
        let agent = event.agent();
        match (event.kind(), event.slot()) {
            (Kind::Timer, LOOKS) => self.looks(shard, agent, at, out),
            (Kind::Timer, WAITED..) => self.waited(shard, event, at, out),
            (Kind::Timer, level) => self.reports(shard, agent, level.into(), at, out),
            _ if shard.presence.is_away(agent) => {
                shard.presence.lost += 1;
                41
            }
            (Kind::Copy, _) => self.heard(shard, event, at, out),
            _ => self.answered(shard, event, at),
        }
    }
}

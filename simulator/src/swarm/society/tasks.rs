//! Tasks: work that is handed out, handed on, and believed when enough have come to the same result.
//!
//! Tasks come up in clusters. The head gives each to as many agents as are to agree, each under a lease; whoever
//! does not answer in time loses it, and another gets it (handoff). Some agents are faulty and come to a
//! result that is wrong, all to the same wrong one, which is the worst they can do. A result is believed once
//! as many as the plan says have come to it; where they disagree, one more is asked. The list of tasks is a
//! topic that all of a cluster keep: where the head is away, the next that stands by goes on with it.
//!
//! Who does the work twice does no harm: a result counts once for each agent (idempotent by task and agent).

use super::{Presence, Society};
use crate::swarm::draw::{Purpose, scaled};
use crate::swarm::engine::{Event, Model, Out};
use crate::swarm::event::Kind;
use crate::swarm::plan::TasksPlan;
use crate::swarm::tally::quantile;
use serde::Serialize;

/// What came of it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Did {
    /// Tasks.
    pub tasks: u64,
    /// Of those, how many were decided: rightly, and wrongly.
    pub decided: [u64; 2],
    /// Of those, how many were never decided.
    pub open: u64,
    /// Times that a lease ran out and another agent got the task.
    pub handoffs: u64,
    /// Times that another head took over, since the one before was away.
    pub handovers: u64,
    /// Times that one more was asked, since results disagreed.
    pub disputes: u64,
    /// Results for each task that was decided.
    pub results_per_task: f64,
    /// From when it came up until it was decided, half of them and 99 in 100, in milliseconds.
    pub p50_ms: Option<u64>,
    /// See above.
    pub p99_ms: Option<u64>,
    /// Things sent and their bytes: inside clusters, inside meshes, beyond.
    pub sent: [(u64, u64); 3],
}

/// The model.
#[derive(Debug)]
pub struct Tasks {
    society: Society,
    plan: TasksPlan,
}

/// What the head knows of a task.
#[derive(Clone, Copy, Default, Debug)]
struct Task {
    /// Whose turn it is to be asked, in the order of the cluster from a drawn one on.
    asked: u32,
    /// Who has not answered, and who has, in that order.
    waiting: u64,
    voted: u64,
    results: u8,
    right: u8,
    wrong: u8,
    is_decided: bool,
    /// Which of those who may be the head sees to it.
    by: u8,
    /// That one has yet to hear of it.
    is_handed_over: bool,
}

/// The state of all agents.
pub struct Shard {
    presence: Presence,
    tasks: Vec<Task>,
    delays: Vec<u64>,
    results: u64,
    done: Did,
}

/// Timers: a task comes up at a head, an agent has done it, a lease runs out; from these slots on, by which
/// of those who may be the head sees to it.
const COMES_UP: u8 = 0;
const WORKED: u8 = 4;
const LEASE: u8 = 8;
/// Most agents that are asked about one task.
const ASKED_MAX: u32 = 32;
const DELAYS: usize = 65_536;
const TASK: u64 = 256;
const RESULT: u64 = 128;
/// How many bits of an event's message say which of those asked it is.
const NTH_BITS: u32 = 5;

impl Tasks {
    /// For these agents.
    pub fn new(society: Society, plan: TasksPlan) -> Self {
        Self { society, plan }
    }

    /// Before anything has happened.
    pub fn shard(&self) -> Shard {
        Shard {
            presence: self.society.presence(),
            tasks: vec![Task::default(); self.plan.count as usize],
            delays: vec![0; DELAYS],
            results: 0,
            done: Did {
                tasks: self.plan.count.into(),
                ..Did::default()
            },
        }
    }

    /// What came of it.
    pub fn ended(&self, shard: Shard) -> Did {
        let [p50_ms, p99_ms] = [0.5, 0.99].map(|part| quantile(&shard.delays, part));
        let decided: u64 = shard.done.decided.iter().sum();
        Did {
            open: shard.done.tasks - decided,
            results_per_task: shard.results as f64 / decided.max(1) as f64,
            p50_ms,
            p99_ms,
            sent: shard.presence.sent,
            ..shard.done
        }
    }

    fn comes_up_at(&self, task: u32) -> u64 {
        self.plan.from.as_micros() as u64 + (f64::from(task) * 1_000_000.0 / self.plan.rate) as u64
    }

    fn cluster(&self, task: u32) -> u32 {
        let clusters = self.society.groups()[0] as u32;
        self.society
            .draws
            .below(clusters, Purpose::Home, task.into(), 2)
    }

    /// Who is the `nth` to be asked about a task: a member of its cluster, from a drawn one on.
    fn worker(&self, task: u32, nth: u32) -> u32 {
        let members = self.society.members(self.cluster(task));
        let count = members.len() as u32;
        let first = self
            .society
            .draws
            .below(count, Purpose::Pick, task.into(), 3);
        members.start + (first + nth) % count
    }

    fn is_faulty(&self, agent: u32) -> bool {
        let bits = self.society.draws.bits(Purpose::Censor, agent.into(), 4);
        scaled(bits, 1_000_000) < self.plan.faulty
    }

    /// Asks the next one about a task, if there is one that was not asked.
    fn asks(&self, shard: &mut Shard, (task, by): (u32, u8), at: u64, out: &mut impl Out) -> bool {
        let it = &mut shard.tasks[task as usize];
        let count = ASKED_MAX.min(self.society.members(self.cluster(task)).len() as u32);
        // The next in turn who has not answered and is not waited for.
        let mut turn = (0..count).map(|more| (it.asked + more) % count);
        let Some(nth) = turn.find(|nth| (it.waiting | it.voted) >> nth & 1 == 0) else {
            return false;
        };
        it.asked = nth + 1;
        it.waiting |= 1 << nth;
        let (head, worker) = (self.head(task, by), self.worker(task, nth));
        let number = task << NTH_BITS | nth;
        let event = Event::new(worker, by, Kind::Copy, number);
        self.society
            .send(&mut shard.presence, at, (head, worker), event, TASK, out);
        let lease = self.plan.lease.as_micros() as u64;
        out.send(
            at + lease,
            Event::new(head, LEASE + by, Kind::Timer, number),
        );
        true
    }

    /// A task reaches an agent, which goes to work.
    fn works(&self, event: Event, at: u64, out: &mut impl Out) -> u64 {
        let millis = self.plan.work.as_millis() as u32;
        let drawn = self.society.draws.below(
            millis,
            Purpose::Processing,
            event.agent().into(),
            event.message().into(),
        );
        let takes = 1_000 * (u64::from(millis / 2) + u64::from(drawn)).max(2);
        out.send(
            at + takes,
            Event::new(
                event.agent(),
                WORKED + event.slot(),
                Kind::Timer,
                event.message(),
            ),
        );
        2
    }

    /// An agent has come to a result: it is for whoever asked.
    fn worked(&self, shard: &mut Shard, event: Event, at: u64, out: &mut impl Out) -> u64 {
        let (agent, number, by) = (event.agent(), event.message(), event.slot() - WORKED);
        let head = self.head(number >> NTH_BITS, by);
        let kind = if self.is_faulty(agent) {
            Kind::Prune
        } else {
            Kind::Answer
        };
        let result = Event::new(head, by, kind, number);
        self.society
            .send(&mut shard.presence, at, (agent, head), result, RESULT, out);
        3
    }

    /// A result reaches the head.
    fn counts(&self, shard: &mut Shard, event: Event, at: u64, out: &mut impl Out) -> u64 {
        let (task, nth) = (
            event.message() >> NTH_BITS,
            event.message() & ((1 << NTH_BITS) - 1),
        );
        let it = &mut shard.tasks[task as usize];
        // What comes after its lease, or twice, is no vote; nor is one after the decision.
        if it.is_decided || it.by != event.slot() || it.waiting >> nth & 1 == 0 {
            return 4;
        }
        it.waiting &= !(1 << nth);
        it.voted |= 1 << nth;
        it.results += 1;
        let right = event.kind() == Kind::Answer;
        *(if right { &mut it.right } else { &mut it.wrong }) += 1;
        let votes = if right { it.right } else { it.wrong };
        if u32::from(votes) >= self.plan.agree {
            it.is_decided = true;
            shard.results += u64::from(it.results);
            shard.done.decided[usize::from(!right)] += 1;
            let millis = (at - self.comes_up_at(task)) / 1_000;
            shard.delays[(millis as usize).min(DELAYS - 1)] += 1;
            return 5 + u64::from(right);
        }
        // All that were asked have answered, and it is not decided: they disagree.
        if it.waiting == 0 {
            shard.done.disputes += u64::from(self.asks(shard, (task, event.slot()), at, out));
        }
        7
    }

    fn lease_ends(&self, shard: &mut Shard, event: Event, at: u64, out: &mut impl Out) -> u64 {
        let (task, nth) = (
            event.message() >> NTH_BITS,
            event.message() & ((1 << NTH_BITS) - 1),
        );
        let it = &mut shard.tasks[task as usize];
        let by = event.slot() - LEASE;
        if it.is_decided || it.by != by || it.waiting >> nth & 1 == 0 {
            return 8;
        }
        it.waiting &= !(1 << nth);
        shard.done.handoffs += u64::from(self.asks(shard, (task, by), at, out));
        9
    }

    /// A head is away that should see to a task: after a lease the next that stands by does, and whoever
    /// was asked before is not waited for any more.
    fn hands_over(&self, shard: &mut Shard, task: u32, by: u8, at: u64, out: &mut impl Out) {
        let it = &mut shard.tasks[task as usize];
        if it.is_decided || it.by != by || it.is_handed_over {
            return;
        }
        let heads = self.society.heads(0, self.cluster(task)) as u8;
        (it.by, it.waiting, it.is_handed_over) = ((by + 1) % heads, 0, true);
        shard.done.handovers += u64::from(it.by != by);
        let next = Event::new(self.head(task, it.by), COMES_UP + it.by, Kind::Timer, task);
        out.send(at + self.plan.lease.as_micros() as u64, next);
    }

    fn head(&self, task: u32, by: u8) -> u32 {
        self.society.head(0, self.cluster(task), by.into())
    }
}

impl Model for Tasks {
    type Shard = Shard;

    fn begin(&self, shard: &mut Shard, out: &mut impl Out) {
        self.society.enters(&shard.presence, out);
        for task in 0..self.plan.count {
            let head = self.society.head(0, self.cluster(task), 0);
            out.send(
                self.comes_up_at(task),
                Event::new(head, COMES_UP, Kind::Timer, task),
            );
        }
    }

    fn handle(&self, shard: &mut Shard, at: u64, event: Event, out: &mut impl Out) -> u64 {
        if self.society.moves(&mut shard.presence, at, event, out) {
            return 40;
        }
        let (kind, slot) = (event.kind(), event.slot());
        if shard.presence.is_away(event.agent()) {
            // Work that was begun is lost.
            match (kind, slot) {
                (Kind::Timer, LEASE..) => {
                    let task = event.message() >> NTH_BITS;
                    self.hands_over(shard, task, slot - LEASE, at, out);
                }
                (Kind::Timer, WORKED..) => {}
                (Kind::Timer, _) => {
                    shard.tasks[event.message() as usize].is_handed_over = false;
                    self.hands_over(shard, event.message(), slot, at, out);
                }
                _ => shard.presence.lost += 1,
            }
            return 41;
        }
        match (kind, slot) {
            (Kind::Timer, LEASE..) => self.lease_ends(shard, event, at, out),
            (Kind::Timer, WORKED..) => self.worked(shard, event, at, out),
            (Kind::Timer, by) => {
                let task = event.message();
                shard.tasks[task as usize].is_handed_over = false;
                (0..self.plan.asks).for_each(|_| _ = self.asks(shard, (task, by), at, out));
                1
            }
            (Kind::Copy, _) => self.works(event, at, out),
            _ => self.counts(shard, event, at, out),
        }
    }
}

//! The epoch engine: one range of agents, one epoch after the other.
//!
//! An epoch's events are spread over bins of neighbouring agents, and partitions of many bins are sorted
//! and handled one after the other, so that the state which a partition needs fits into the cache. Events
//! are numbers whose order is the canonical one (`event`), so the same events in another number of
//! partitions come out in the same order. What is sent goes into the ring, or to the worker that owns the
//! agent.
//!
//! Not here: who runs the workers, and what they hand each other when (`parallel`).

use super::digest::Seen;
use super::ring::Ring;
use super::{Clockwork, Event, Model, Out, Ran};

/// No more events than this are one partition.
const FEW: usize = 512;

/// Where a bin has more, its partition is not almost sorted.
const CROWD: u32 = 24;

/// Who owns which agents: worker `i` has those from `bounds[i]` up to but not including `bounds[i+1]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Owners {
    /// One more than there are workers.
    pub bounds: Vec<u32>,
}

impl Owners {
    /// How many there are.
    pub fn count(&self) -> usize {
        self.bounds.len() - 1
    }

    /// Whose an agent is.
    #[inline]
    pub fn of(&self, agent: u32) -> usize {
        self.bounds[1..self.bounds.len() - 1]
            .iter()
            .filter(|bound| agent >= **bound)
            .count()
    }
}

/// Events for agents of another worker, with their epochs.
pub type Parcel = Vec<(u64, Event)>;

/// A range of agents and what is to happen to them.
pub struct Worker<'a, M: Model> {
    model: &'a M,
    shard: M::Shard,
    lines: Lines<'a>,
    partitions: Partitions,
    ran: Ran,
}

impl<'a, M: Model> Worker<'a, M> {
    /// Worker `me` of `owners`, which has `shard`, before anything has happened.
    pub fn new(
        model: &'a M,
        shard: M::Shard,
        clockwork: Clockwork,
        owners: &'a Owners,
        me: usize,
        partitions: usize,
    ) -> Self {
        let own = (owners.bounds[me], owners.bounds[me + 1]);
        Self {
            model,
            shard,
            lines: Lines {
                clockwork,
                owners,
                own,
                ring: Ring::new(),
                parcels: vec![Parcel::new(); owners.count()],
                closed: 0,
                window: 0,
            },
            partitions: Partitions::of(own.0, own.1, partitions),
            ran: Ran::default(),
        }
    }

    /// The state of its agents, and where they may say what shall happen first.
    pub fn before(&mut self) -> (&mut M::Shard, &mut (impl Out + use<'a, M>)) {
        (&mut self.shard, &mut self.lines)
    }

    /// What another worker sent.
    pub fn receive(&mut self, parcel: &mut Parcel) {
        for (epoch, event) in parcel.drain(..) {
            self.lines.ring.push(epoch, event.0);
        }
    }

    /// What is to be handed to worker `to`, left empty.
    pub fn parcel(&mut self, to: usize) -> &mut Parcel {
        &mut self.lines.parcels[to]
    }

    /// How many events are on their way to its agents, as far as it knows.
    pub fn held(&self) -> u64 {
        self.lines.ring.held()
    }

    /// Handles all epochs up to but not including `until`, in which nothing of another worker can
    /// arrive any more.
    pub fn window(&mut self, until: u64) {
        self.lines.window = until;
        for epoch in self.lines.closed..until {
            self.epoch(epoch);
        }
    }

    fn epoch(&mut self, epoch: u64) {
        self.lines.closed = epoch + 1;
        let parts = self.partitions.take(&mut self.lines.ring, epoch);
        if parts == 0 {
            return;
        }
        let began = epoch << self.lines.clockwork.epoch_log;
        let mut seen = Seen::default();
        let mut agent = u32::MAX;
        for part in 0..parts {
            let events = self.partitions.sorted(part);
            self.ran.events += events.len() as u64;
            std::hint::black_box(self.model.foresee(&mut self.shard, events));
            for event in events.iter().copied() {
                if event.agent() != agent {
                    agent = event.agent();
                    seen.agent(agent, epoch);
                }
                let at = began + event.offset();
                let event = event.timeless();
                let effect = self
                    .model
                    .handle(&mut self.shard, at, event, &mut self.lines);
                seen.event(event.0, at, effect);
            }
        }
        self.ran.digest.close(epoch, seen.ended());
    }

    /// What it has done, and the state of its agents.
    pub fn ended(self) -> (Ran, M::Shard) {
        (self.ran, self.shard)
    }
}

/// Where events go.
struct Lines<'a> {
    clockwork: Clockwork,
    owners: &'a Owners,
    own: (u32, u32),
    ring: Ring,
    parcels: Vec<Parcel>,
    /// The first epoch that has not begun.
    closed: u64,
    /// The first epoch that is not in this window.
    window: u64,
}

impl Out for Lines<'_> {
    #[inline(always)]
    fn send(&mut self, at: u64, event: Event) {
        let epoch = self.clockwork.epoch_of(at);
        let event = event.at_offset(self.clockwork.offset_of(at));
        assert!(epoch >= self.closed, "an event at {at} comes too soon");
        if event.agent() >= self.own.0 && event.agent() < self.own.1 {
            self.ring.push(epoch, event.0);
        } else {
            assert!(
                epoch >= self.window,
                "an event at {at} comes too soon for another worker"
            );
            self.parcels[self.owners.of(event.agent())].push((epoch, event));
        }
    }
}

/// The events of one epoch, by partition.
struct Partitions {
    first: u32,
    agents: u64,
    /// Agents of one partition: a power of two.
    agents_log: u32,
    /// Bins of one partition in this epoch: a power of two.
    bins_log: u32,
    /// Whether some bin has many.
    crowded: bool,
    /// Where each bin begins, and where the last one ends.
    starts: Vec<u32>,
    events: Vec<Event>,
}

impl Partitions {
    fn of(first: u32, until: u32, count: usize) -> Self {
        let agents = u64::from(until - first);
        let each = agents.div_ceil(count.max(1) as u64).max(1);
        Self {
            first,
            agents,
            agents_log: each.next_power_of_two().ilog2(),
            bins_log: 0,
            crowded: false,
            starts: Vec::new(),
            events: Vec::new(),
        }
    }

    /// Takes the events of `epoch`. Returns in how many partitions they are.
    ///
    /// They are spread over more bins than there are events: that leaves next to nothing to sort.
    fn take(&mut self, ring: &mut Ring, epoch: u64) -> usize {
        let count: usize = ring.next().map(<[u64]>::len).sum();
        if count == 0 {
            ring.pass(epoch);
            return 0;
        }
        let agents_log = match count <= FEW {
            true => u64::BITS - 1,
            false => self.agents_log,
        };
        let each = (self.agents / count as u64).max(1).ilog2();
        let bin_log = each.min(agents_log);
        self.bins_log = agents_log - bin_log;
        let first = self.first;
        let bin = |event: u64| ((Event(event).agent() - first) >> bin_log) as usize;
        let bins = (self.agents >> bin_log) as usize + 1;
        self.starts.clear();
        self.starts.resize(bins + 1, 0);
        for events in ring.next() {
            for event in events {
                self.starts[bin(*event)] += 1;
            }
        }
        let mut sum = 0;
        let mut most = 0;
        for start in &mut self.starts {
            most = most.max(*start);
            sum += std::mem::replace(start, sum);
        }
        self.crowded = most > CROWD;
        self.events.resize(count.max(self.events.len()), Event(0));
        for events in ring.next() {
            for event in events {
                let next = &mut self.starts[bin(*event)];
                self.events[*next as usize] = Event(*event);
                *next += 1;
            }
        }
        ring.pass(epoch);
        // Each start has moved on to the start of the next.
        self.starts.rotate_right(1);
        self.starts[0] = 0;
        bins.div_ceil(1 << self.bins_log)
    }

    fn sorted(&mut self, part: usize) -> &[Event] {
        let first = part << self.bins_log;
        let last = (first + (1 << self.bins_log)).min(self.starts.len() - 1);
        let starts = &self.starts[first..=last];
        let (from, until) = (starts[0], starts[starts.len() - 1]);
        let events = &mut self.events[from as usize..until as usize];
        match self.crowded {
            true => events.sort_unstable(),
            false => settle(events),
        }
        events
    }
}

/// Sorts by insertion what is almost sorted.
fn settle(events: &mut [Event]) {
    for next in 1..events.len() {
        let event = events[next];
        let mut place = next;
        while place > 0 && events[place - 1] > event {
            events[place] = events[place - 1];
            place -= 1;
        }
        events[place] = event;
    }
}

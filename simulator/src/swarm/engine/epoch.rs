//! The epoch engine: one range of agents, one epoch after the other.
//!
//! An epoch's events are spread over partitions of neighbouring agents, so that the state which a
//! partition needs fits into the cache, and each partition is sorted: events are numbers whose order
//! is the canonical one (`event`). What is sent goes into the ring, or to the worker that owns the
//! agent. The same events in another number of partitions come out in the same order.
//!
//! Not here: who runs the workers, and what they hand each other when (`parallel`).

use super::digest::Seen;
use super::ring::Ring;
use super::{Clockwork, Event, Model, Out, Ran};

/// Fewer events than this are sorted as they are.
const FEW: usize = 512;

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
    #[inline]
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
    /// Agents of one partition: a power of two.
    agents_log: u32,
    starts: Vec<u32>,
    events: Vec<Event>,
    loaded: Vec<Event>,
    split: bool,
}

impl Partitions {
    fn of(first: u32, until: u32, count: usize) -> Self {
        let agents = u64::from(until - first)
            .div_ceil(count.max(1) as u64)
            .max(1);
        let agents_log = agents.next_power_of_two().ilog2();
        let count = (u64::from(until - first) >> agents_log) as usize + 1;
        Self {
            first,
            agents_log,
            starts: vec![0; count + 1],
            events: Vec::new(),
            loaded: Vec::new(),
            split: false,
        }
    }

    /// Takes the events of `epoch`. Returns in how many partitions they are.
    fn take(&mut self, ring: &mut Ring, epoch: u64) -> usize {
        let count: usize = ring.next().map(<[u64]>::len).sum();
        let partitions = self.starts.len() - 1;
        self.split = count > FEW && partitions > 1;
        if !self.split {
            self.loaded.clear();
            let events = ring.next().flatten().map(|event| Event(*event));
            self.loaded.extend(events);
            ring.pass(epoch);
            return usize::from(count > 0);
        }
        let (first, log) = (self.first, self.agents_log);
        let part = |event: Event| ((event.agent() - first) >> log) as usize;
        self.starts.fill(0);
        for event in ring.next().flatten() {
            self.starts[part(Event(*event))] += 1;
        }
        let mut sum = 0;
        for start in &mut self.starts {
            sum += std::mem::replace(start, sum);
        }
        self.events.resize(count.max(self.events.len()), Event(0));
        for event in ring.next().flatten() {
            let event = Event(*event);
            let next = &mut self.starts[part(event)];
            self.events[*next as usize] = event;
            *next += 1;
        }
        ring.pass(epoch);
        // Each start has moved on to the start of the next.
        self.starts.rotate_right(1);
        self.starts[0] = 0;
        partitions
    }

    fn sorted(&mut self, part: usize) -> &[Event] {
        let events = if self.split {
            let (from, until) = (self.starts[part], self.starts[part + 1]);
            &mut self.events[from as usize..until as usize]
        } else {
            &mut self.loaded[..]
        };
        events.sort_unstable();
        events
    }
}

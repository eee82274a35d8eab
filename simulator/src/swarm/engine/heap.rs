//! The heap engine: one event at a time, from a binary heap. The oracle.
//!
//! Simple enough to be believed, and in the tree for ever: what the epoch engine does in partitions and
//! threads has to have this engine's digest.
//!
//! Not here: speed.

use super::digest::Seen;
use super::{Clockwork, Event, Model, Out, Ran};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

/// What is to happen, the soonest first.
pub struct Heap {
    clockwork: Clockwork,
    queue: BinaryHeap<Reverse<(u64, Event)>>,
    closed: u64,
}

impl Out for Heap {
    fn send(&mut self, at: u64, event: Event) {
        let epoch = self.clockwork.epoch_of(at);
        assert!(epoch >= self.closed, "an event at {at} comes too soon");
        self.queue.push(Reverse((at, event)));
    }
}

impl Heap {
    /// Nothing planned.
    pub fn new(clockwork: Clockwork) -> Self {
        Self {
            clockwork,
            queue: BinaryHeap::new(),
            closed: 0,
        }
    }

    /// How many events are on their way.
    pub fn held(&self) -> u64 {
        self.queue.len() as u64
    }

    /// Handles all epochs up to but not including `until`; all agents are in `shard`.
    pub fn window<M: Model>(&mut self, model: &M, shard: &mut M::Shard, until: u64, ran: &mut Ran) {
        while self.closed < until {
            let epoch = self.closed;
            self.closed = epoch + 1;
            let end = self.closed << self.clockwork.epoch_log;
            let mut happened: BTreeMap<u32, Vec<(u64, Event, u64)>> = BTreeMap::new();
            while let Some(Reverse((at, event))) = self.queue.peek().copied()
                && at < end
            {
                self.queue.pop();
                let effect = model.handle(shard, at, event, self);
                happened
                    .entry(event.agent())
                    .or_default()
                    .push((at, event, effect));
                ran.events += 1;
            }
            let mut seen = Seen::default();
            for (agent, events) in happened {
                seen.agent(agent, epoch);
                for (at, event, effect) in events {
                    seen.event(event.0, at, effect);
                }
            }
            ran.digest.close(epoch, seen.ended());
        }
    }
}

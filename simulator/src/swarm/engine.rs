//! The engine: what happens next, for millions.
//!
//! Time is cut into **epochs** no longer than the quickest thing that one event can bring about in
//! another agent (conservative lookahead: Chandy and Misra 1979; windows after YAWNS, Nicol 1993). So
//! all events of an epoch are known when it begins, agents do not touch each other inside it, and the
//! only order that matters is that of one agent's events. A ring of append-only buckets takes the
//! place of a priority queue: an epoch's bucket is split by agent, each part sorted into canonical
//! order and handled. There is no pop, hence no chain of cache misses.
//!
//! [`heap`] does the same one event at a time from a binary heap. It is ten times slower, and stays as
//! the oracle: both must give one [`Digest`], whatever the partitions and threads.
//!
//! Not here: threads (`parallel`), what an event does (`gossip`).

pub mod digest;
pub mod epoch;
pub mod heap;
mod ring;
pub mod watched;

use super::event::EPOCH_MAX;
pub use super::event::Event;
pub use digest::Digest;

/// What is simulated: agents that are told of events, and tell others.
pub trait Model: Sync {
    /// The state of a range of agents. A thread owns it, whole.
    type Shard: Send;

    /// Says what shall happen first to the agents of `shard`.
    fn begin(&self, shard: &mut Self::Shard, out: &mut impl Out);

    /// These events come next. What they will need may be read now, all at once: reads that do not
    /// wait for each other take a tenth of the time. Changes nothing; what it returns is not looked at.
    fn foresee(&self, _shard: &mut Self::Shard, _events: &[Event]) -> u64 {
        0
    }

    /// `event` happens to one of the agents of `shard`, `at` microseconds after the beginning. Returns
    /// a number that says what came of it, for the digest.
    fn handle(&self, shard: &mut Self::Shard, at: u64, event: Event, out: &mut impl Out) -> u64;
}

/// Takes what is to happen.
pub trait Out {
    /// `event` shall happen `at` microseconds after the beginning.
    ///
    /// # Panics
    /// If that is before the end of the epoch, or, for an agent of another thread, before the end of
    /// the window: then the lookahead was a lie, and so would be every result.
    fn send(&mut self, at: u64, event: Event);
}

/// How time is cut.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Clockwork {
    /// The logarithm of the length of an epoch, in microseconds.
    pub epoch_log: u32,
    /// Nothing happens from here on, in microseconds.
    pub horizon: u64,
}

impl Clockwork {
    /// Epochs as long as `lookahead` microseconds allow.
    ///
    /// # Panics
    /// If `lookahead` is 0: then nothing can be simulated.
    pub fn new(lookahead: u64, horizon: u64) -> Self {
        assert!(lookahead > 0, "an event that takes no time has no epoch");
        Self {
            epoch_log: lookahead.min(EPOCH_MAX).ilog2(),
            horizon,
        }
    }

    /// The epoch in which a moment lies.
    pub fn epoch_of(&self, at: u64) -> u64 {
        at >> self.epoch_log
    }

    /// The first epoch in which nothing happens any more.
    pub fn end(&self) -> u64 {
        self.horizon.div_ceil(1 << self.epoch_log)
    }

    fn offset_of(&self, at: u64) -> u64 {
        at & ((1 << self.epoch_log) - 1)
    }
}

/// What an engine has done.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Ran {
    /// Events that happened.
    pub events: u64,
    /// What happened, in 128 bits, three ways.
    pub digest: Digest,
}

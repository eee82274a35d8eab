//! A model that is watched: what happens in one epoch is written down.
//!
//! Two runs that should be one and are not are bisected by their digests to the first epoch in which they
//! differ. Run once more and watched, each says what happened in it.

use super::{Clockwork, Event, Model, Out};
use std::sync::Mutex;

/// Something that happened: when, what, and what came of it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Happened {
    /// To whom.
    pub agent: u32,
    /// So many microseconds after the beginning.
    pub at: u64,
    /// What.
    pub event: Event,
    /// What the model says came of it.
    pub effect: u64,
}

/// A model, and what is written down of it.
pub struct Watched<'a, M> {
    model: &'a M,
    clockwork: Clockwork,
    epoch: u64,
    seen: Mutex<Vec<Happened>>,
}

impl<'a, M: Model> Watched<'a, M> {
    /// Watches `epoch` of a run of `model`.
    pub fn new(model: &'a M, clockwork: Clockwork, epoch: u64) -> Self {
        Self {
            model,
            clockwork,
            epoch,
            seen: Mutex::default(),
        }
    }

    /// What happened, agent by agent.
    ///
    /// # Panics
    /// If a thread of the run did.
    pub fn seen(self) -> Vec<Happened> {
        let mut seen = self.seen.into_inner().expect("no thread panicked");
        seen.sort_by_key(|happened| (happened.agent, happened.at));
        seen
    }
}

impl<M: Model> Model for Watched<'_, M> {
    type Shard = M::Shard;

    fn begin(&self, shard: &mut M::Shard, out: &mut impl Out) {
        self.model.begin(shard, out);
    }

    fn handle(&self, shard: &mut M::Shard, at: u64, event: Event, out: &mut impl Out) -> u64 {
        let effect = self.model.handle(shard, at, event, out);
        if self.clockwork.epoch_of(at) == self.epoch {
            let agent = event.agent();
            let happened = Happened {
                agent,
                at,
                event,
                effect,
            };
            self.seen.lock().expect("no thread panicked").push(happened);
        }
        effect
    }
}

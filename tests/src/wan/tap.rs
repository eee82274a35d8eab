//! The tap: counts canaries in what a node says and hears, where it is not encrypted.
//!
//! All that this crate knows of [`Tap`] is here, so that a new shape of it is a change of a line.

use super::canary::Masked;
use aquifer_node::driver::{Passing, Tap};
use aquifer_node::names;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Frames that passed, and the canaries in them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Passed {
    /// Frames.
    pub frames: u64,
    /// Canaries in them.
    pub canaries: u64,
}

/// What passed, by its way: `to PEER`, `to all of MESH`, `from PEER`.
pub type Passings = BTreeMap<String, Passed>;

/// Counts for as long as the node runs. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Counter {
    masked: Arc<Masked>,
    passed: Arc<Mutex<Passings>>,
}

impl Counter {
    /// A counter of `masked`.
    #[must_use]
    pub fn new(masked: Masked) -> Self {
        Self {
            masked: Arc::new(masked),
            passed: Arc::default(),
        }
    }

    /// The tap to start a node with.
    #[must_use]
    pub fn tap(&self) -> Tap {
        let counter = self.clone();
        Tap::new(move |passing, frame| {
            let way = match passing {
                Passing::Sent { to } => format!("to {}", names::node(to)),
                Passing::Published { mesh } => format!("to all of {mesh}"),
                Passing::Heard { from } => format!("from {}", names::node(from)),
            };
            counter.see(&way, frame);
        })
    }

    /// What passed so far.
    #[must_use]
    pub fn passed(&self) -> Passings {
        self.passings().clone()
    }

    fn see(&self, whither: &str, frame: &[u8]) {
        let canaries = self.masked.count(frame);
        let mut passings = self.passings();
        let passed = passings.entry(whither.to_owned()).or_default();
        passed.frames += 1;
        passed.canaries += canaries;
    }

    fn passings(&self) -> MutexGuard<'_, Passings> {
        self.passed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

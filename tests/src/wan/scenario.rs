//! The stories that a swarm on a WAN has to stand, at two sizes: for the gate, and to be shown.
//!
//! Each takes a swarm, does something to it, and returns a [`Report`]: what it measured, which
//! invariants were broken, and whether the fault bit. None looks at how nodes replicate: only at
//! what they answer, store and say.

pub mod kills;
pub mod latency;
pub mod partition;
pub mod pause;
pub mod quorum;
pub mod residency;
pub mod weather;

use super::report::Report;
use super::swarm::Swarm;
use std::sync::Arc;
use std::time::Duration;

/// How much of it.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Nodes in each region.
    pub each: usize,
    /// Writes from each region, of which each is waited for everywhere.
    pub writes: usize,
    /// Pings of each pair of regions.
    pub pings: u32,
    /// How long a region is cut off.
    pub cut: Duration,
    /// How many nodes are killed.
    pub kills: usize,
    /// How long a node stands still.
    pub pause: Duration,
}

impl Size {
    /// Small enough for the gate.
    #[must_use]
    pub fn gate() -> Self {
        Self {
            each: 2,
            writes: 4,
            pings: 5,
            cut: Duration::from_secs(8),
            kills: 4,
            pause: Duration::from_secs(4),
        }
    }

    /// Large enough to be shown.
    #[must_use]
    pub fn full() -> Self {
        Self {
            each: 2,
            writes: 100,
            pings: 50,
            cut: Duration::from_secs(60),
            kills: 30,
            pause: Duration::from_secs(45),
        }
    }
}

/// The names of all scenarios, in the order in which they are shown.
pub const NAMES: &[&str] = &[
    "latency",
    "quorum",
    "residency",
    "partition",
    "pause",
    "weather",
    "kills",
];

/// Runs the scenario called `name`; nothing if there is none.
pub async fn run(name: &str, swarm: &Arc<Swarm>, size: &Size) -> Option<Report> {
    Some(match name {
        "latency" => latency::run(swarm, size).await,
        "quorum" => quorum::run(swarm, size).await,
        "residency" => residency::run(swarm).await,
        "partition" => partition::run(swarm, size).await,
        "pause" => pause::run(swarm, size).await,
        "weather" => weather::run(swarm, size).await,
        "kills" => kills::run(swarm, size).await,
        _ => return None,
    })
}

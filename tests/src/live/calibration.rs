//! Calibration: how long an agent needs for a message, found on some seeds to be used on others.
//!
//! That is the one thing about a live node that the simulator is told and does not compute. Everything
//! else stands in the plan.

use std::time::Duration;

use aquifer_simulator::swarm::plan::{ParseSwarm, Plan};

use super::score::{Spread, ks};
use super::{Kind, of_model};

/// Means that are tried, in microseconds, and how wide they are spread, in hundredths of the mean.
const MEANS: [u64; 12] = [
    50, 100, 150, 200, 300, 400, 500, 600, 800, 1_000, 1_400, 2_000,
];
const WIDTHS: [u64; 2] = [20, 160];

/// A live run: its plan, its seed, and what was seen.
#[derive(Clone, Debug)]
pub struct Trial {
    /// How many nodes.
    pub agents: u32,
    /// Messages of which kind.
    pub kind: Kind,
    /// What was to happen.
    pub plan: Plan,
    /// What decided the rest.
    pub seed: u64,
    /// What was seen.
    pub live: Spread,
}

/// The least and the most that an agent needs, so that delays are most like those of the trials: the
/// least mean Kolmogorov–Smirnov distance of all delays.
///
/// # Errors
/// If a trial's plan asks for what cannot be.
///
/// # Panics
/// If there are no trials.
pub fn fit(trials: &[Trial]) -> Result<[Duration; 2], ParseSwarm> {
    let mut best: Option<(f64, [Duration; 2])> = None;
    for mean in MEANS {
        for width in WIDTHS {
            let half = mean * width / 200;
            let bounds = [mean - half, mean + half].map(Duration::from_micros);
            let mut apart = 0.0;
            for trial in trials {
                let model = of_model(&with(&trial.plan, bounds), trial.seed)?;
                apart += ks(&trial.live.pooled(), &model.pooled());
            }
            if best.is_none_or(|(least, _)| apart < least) {
                best = Some((apart, bounds));
            }
        }
    }
    Ok(best.expect("there are trials").1)
}

/// The plan with this processing time.
#[must_use]
pub fn with(plan: &Plan, processing: [Duration; 2]) -> Plan {
    let mut plan = plan.clone();
    plan.latency.processing = processing;
    plan
}

//! The analytic tier: a law fitted to runs, for sizes that nobody ran. Never simulated, always said so.
//!
//! News spreads in a random graph at a steady pace and then fills it up, so the time until a part of
//! all have it grows with the logarithm of their number: `a + b · log10 N` (van der Hofstad 2017, on
//! first-passage percolation). It is fitted by least squares to single messages of the planet tier at
//! several sizes, and what is said for another size has the interval in which 95 of 100 single messages
//! should lie.
//!
//! Not here: runs (`run`).

use super::agreement::sized;
use super::plan::{ParseSwarm, Plan};
use super::run::planet;
use super::tally::quantile;
use crate::parallel::crew::Watch;
use serde::Serialize;

/// Sizes that are run, and messages at each.
pub const SIZES: [u64; 6] = [16_384, 49_152, 147_456, 442_368, 1_327_104, 3_981_312];
const MESSAGES: u32 = 16;

/// What is said of a size.
#[derive(Clone, Debug, Serialize)]
pub struct Analytic {
    /// Always `analytic`.
    pub tier: &'static str,
    /// Always: these are no results of a simulation.
    pub fitted: bool,
    /// How many agents it is said of.
    pub agents: u64,
    /// From publication to half of all.
    pub p50_ms: Law,
    /// The same, to 99 in 100.
    pub p99_ms: Law,
    /// The sizes that were run for it, and how many messages at each.
    pub runs: Vec<u64>,
    /// Messages at each size.
    pub messages: u32,
}

/// A straight line over the logarithm of the number of agents, and what it says of one number.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Law {
    /// At one agent, milliseconds.
    pub base: f64,
    /// More for each tenfold number.
    pub per_decade: f64,
    /// What it says.
    pub value: f64,
    /// Between which two 95 of 100 single messages should lie.
    pub interval: [f64; 2],
}

/// Runs the plan at several sizes and says what that means for its own.
///
/// # Errors
/// If the plan cannot be run at these sizes.
pub fn analytic(plan: &Plan, seed: u64, watch: Watch<'_>) -> Result<Analytic, ParseSwarm> {
    let (mut halves, mut tails) = (Vec::new(), Vec::new());
    for agents in SIZES {
        let outcome = planet(&sized(plan, agents, MESSAGES), seed, watch)?;
        let size = (agents as f64).log10();
        for delays in &outcome.tally.followed {
            let within = |part| quantile(delays, part).unwrap_or(0) as f64;
            halves.push((size, within(0.5)));
            tails.push((size, within(0.99)));
        }
    }
    let at = (plan.agents as f64).log10();
    Ok(Analytic {
        tier: "analytic",
        fitted: true,
        agents: plan.agents,
        p50_ms: Law::fit(&halves, at),
        p99_ms: Law::fit(&tails, at),
        runs: SIZES.to_vec(),
        messages: MESSAGES,
    })
}

/// Of Student's distribution with as many degrees of freedom as there are messages here, or more.
const STUDENT_95: f64 = 1.987;

impl Law {
    /// Least squares, and what the line says `at` a place.
    fn fit(points: &[(f64, f64)], at: f64) -> Self {
        let count = points.len() as f64;
        let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
        let (x, y) = (mean(|point| point.0), mean(|point| point.1));
        let spread: f64 = points.iter().map(|point| (point.0 - x).powi(2)).sum();
        let together: f64 = points
            .iter()
            .map(|point| (point.0 - x) * (point.1 - y))
            .sum();
        let per_decade = together / spread;
        let base = y - per_decade * x;
        let off = |point: &(f64, f64)| (point.1 - base - per_decade * point.0).powi(2);
        let variance = points.iter().map(off).sum::<f64>() / (count - 2.0);
        let value = base + per_decade * at;
        let single = variance * (1.0 + 1.0 / count + (at - x).powi(2) / spread);
        let reach = STUDENT_95 * single.sqrt();
        Self {
            base,
            per_decade,
            value,
            interval: [value - reach, value + reach],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_found_and_its_interval_widens_away_from_what_was_run() {
        let points: Vec<(f64, f64)> = (0..100)
            .map(|i| {
                (
                    4.0 + f64::from(i % 4),
                    50.0 + 30.0 * f64::from(i % 4) + f64::from(i % 5),
                )
            })
            .collect();
        let near = Law::fit(&points, 6.0);
        assert!((near.per_decade - 30.0).abs() < 0.5, "{near:?}");
        assert!((near.value - 112.0).abs() < 1.0, "{near:?}");
        let far = Law::fit(&points, 10.0);
        let wide = |law: Law| law.interval[1] - law.interval[0];
        assert!(wide(far) > wide(near) && wide(near) > 4.0, "{far:?}");
    }
}

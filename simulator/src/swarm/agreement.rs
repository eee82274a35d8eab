//! Agreement: what the planet tier says, beside what the compact tier says of as many agents.
//!
//! A tier that keeps less may be believed where the one that keeps more cannot go only if they say the
//! same where both can. So a run of the planet tier brings this table with it.
//!
//! Not here: what a tier is (`gossip`, `planet`), larger sizes by extrapolation (`analytic`).

use super::plan::{MeshPlan, ParseSwarm, Plan};
use super::run::{How, Outcome, planet, run};
use super::tally::quantile;
use serde::Serialize;
use std::time::Duration;

/// Sizes at which both tiers are run, and messages of each.
pub const SIZES: [u64; 2] = [20_000, 100_000];
const MESSAGES: u32 = 16;

/// Both tiers at one size: the compact one first.
#[derive(Clone, Debug, Serialize)]
pub struct Agreement {
    /// How many agents.
    pub agents: u64,
    /// Half of all had the message within so many milliseconds, all messages together.
    pub p50_ms: [u64; 2],
    /// The same, 99 in 100.
    pub p99_ms: [u64; 2],
    /// Duplicates for each delivery.
    pub duplicates: [f64; 2],
}

impl Agreement {
    /// By how much the planet's times are off, as a part of the compact tier's: the largest.
    pub fn apart(&self) -> f64 {
        let off = |[below, above]: [u64; 2]| (above as f64 / below.max(1) as f64 - 1.0).abs();
        off(self.p50_ms).max(off(self.p99_ms))
    }
}

/// Runs both tiers, with the meshes of the planet: no heartbeats, and all links in them.
///
/// # Errors
/// If the plan cannot be run at these sizes.
pub fn agreement(plan: &Plan, seed: u64) -> Result<Vec<Agreement>, ParseSwarm> {
    SIZES.iter().map(|agents| at(plan, *agents, seed)).collect()
}

fn at(plan: &Plan, agents: u64, seed: u64) -> Result<Agreement, ParseSwarm> {
    let links = u32::from(plan.links);
    let mut both = sized(plan, agents, MESSAGES);
    both.mesh = MeshPlan {
        degree: links,
        low: 1,
        high: links,
        heartbeat: Duration::ZERO,
        validate: Duration::ZERO,
        dont_want: 0,
        ..plan.mesh.clone()
    };
    // One message after the other, as on the planet.
    let seconds = Duration::from_millis((plan.quantum * 255).as_millis() as u64 + 1_000);
    both.workload[0].rate = 1.0 / seconds.as_secs_f64();
    both.horizon = both.workload[0].from + seconds * (MESSAGES + 1);
    let compact = run(&both, seed, How::default(), &|_| true)?;
    let planet = planet(&both, seed, &|_| true)?;
    let time = |part| [&compact, &planet].map(|outcome| within(outcome, part));
    let duplicates =
        |outcome: &Outcome| outcome.tally.duplicates as f64 / outcome.tally.firsts().max(1) as f64;
    Ok(Agreement {
        agents,
        p50_ms: time(0.5),
        p99_ms: time(0.99),
        duplicates: [duplicates(&compact), duplicates(&planet)],
    })
}

fn within(outcome: &Outcome, part: f64) -> u64 {
    quantile(&outcome.tally.all_delays(), part).unwrap_or(0)
}

/// The plan with so many agents, and so many messages of its first workload.
pub(super) fn sized(plan: &Plan, agents: u64, messages: u32) -> Plan {
    let mut sized = plan.clone();
    sized.agents = agents;
    sized.workload.truncate(1);
    sized.workload[0].count = messages;
    sized
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_planet_agrees_with_the_tier_below() {
        let plan = Plan::parse("tier = \"planet\"\nagents = 9_000_000\nlinks = 8").expect("legal");
        let agreement = at(&plan, 20_000, 3).expect("it can be run");
        assert!(agreement.apart() < 0.04, "{agreement:?}");
        let [compact, planet] = agreement.duplicates;
        assert!(
            (compact - 6.0).abs() < 0.01 && (planet - 6.0).abs() < 0.01,
            "{agreement:?}"
        );
    }
}

//! Agreement: what a tier says, beside what the tier below says of as many agents.
//!
//! A tier that keeps less may be believed where the one that keeps more cannot go only if they say the
//! same where both can. So a run of the compact tier brings along what the product's replicas do in the
//! same plan, a run of the full tier what the compact one would have said, and a run of the planet tier
//! what the compact one says of smaller planets.
//!
//! Not here: what a tier is (`gossip`, `planet`), larger sizes by extrapolation (`analytic`).

use super::plan::{Adversary, ChurnPlan, MeshPlan, ParseSwarm, Plan, Tier};
use super::run::{How, Outcome, planet, run};
use super::tally::quantile;
use aquifer_protocol::limits::GOSSIP_BYTES_MAX;
use serde::Serialize;
use std::time::Duration;

/// Sizes at which the compact and the planet tier are run, and messages of each.
pub const SIZES: [u64; 2] = [20_000, 100_000];
const MESSAGES: u32 = 16;

/// Sizes at which the full and the compact tier are run, and messages of each.
pub const REPLICAS: [u64; 2] = [500, 2_000];
const WRITTEN: u32 = 8;

/// Both tiers at one size: the one that keeps more first.
#[derive(Clone, Debug, Serialize)]
pub struct Agreement {
    /// Which tiers.
    pub tiers: [Tier; 2],
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
    fn of(tiers: [Tier; 2], agents: u64, outcomes: &[Outcome; 2]) -> Self {
        let time = |part| outcomes.each_ref().map(|outcome| within(outcome, part));
        let each = |outcome: &Outcome| {
            outcome.tally.duplicates as f64 / outcome.tally.firsts().max(1) as f64
        };
        Self {
            tiers,
            agents,
            p50_ms: time(0.5),
            p99_ms: time(0.99),
            duplicates: outcomes.each_ref().map(each),
        }
    }

    /// By how much the second's times are off, as a part of the first's: the largest.
    pub fn apart(&self) -> f64 {
        let off = |[below, above]: [u64; 2]| (above as f64 / below.max(1) as f64 - 1.0).abs();
        off(self.p50_ms).max(off(self.p99_ms))
    }
}

/// Runs a plan's tier and its neighbour, where both can be run.
///
/// # Errors
/// If the plan cannot be run at these sizes.
pub fn agreement(plan: &Plan, seed: u64) -> Result<Vec<Agreement>, ParseSwarm> {
    match plan.tier {
        Tier::Full | Tier::Compact => {
            let sizes = REPLICAS.iter().filter(|agents| **agents <= plan.agents);
            sizes
                .map(|agents| with_replicas(plan, *agents, seed))
                .collect()
        }
        Tier::Planet => SIZES
            .iter()
            .map(|agents| of_planet(plan, *agents, seed))
            .collect(),
        Tier::Analytic => Ok(Vec::new()),
    }
}

/// The plan with the product's replicas, and without. What agents do when all are up: replicas need a
/// moment to have met, and what an agent missed is asked for by another rule in each tier.
fn with_replicas(plan: &Plan, agents: u64, seed: u64) -> Result<Agreement, ParseSwarm> {
    let mut both = sized(plan, agents, WRITTEN);
    both.churn = ChurnPlan::default();
    both.partition.clear();
    both.adversary = Adversary::default();
    (both.mesh.sync, both.skew) = (Duration::ZERO, Duration::ZERO);
    let workload = &mut both.workload[0];
    (workload.from, workload.rate) = (Duration::from_secs(4), 2.0);
    workload.bytes = workload.bytes.clamp(16, GOSSIP_BYTES_MAX as u32 / 2);
    both.horizon = Duration::from_secs(12);
    let tiers = [Tier::Full, Tier::Compact];
    let ran = tiers.map(|tier| {
        both.tier = tier;
        run(&both, seed, How::default(), &|_| true)
    });
    let [full, compact] = ran;
    Ok(Agreement::of(tiers, agents, &[full?, compact?]))
}

/// With the meshes of the planet: no heartbeats, and all links in them.
fn of_planet(plan: &Plan, agents: u64, seed: u64) -> Result<Agreement, ParseSwarm> {
    let links = u32::from(plan.links);
    let mut both = sized(plan, agents, MESSAGES);
    both.mesh = MeshPlan {
        degree: links,
        low: 1,
        high: links,
        heartbeat: Duration::ZERO,
        scores: false,
        validate: Duration::ZERO,
        dont_want: 0,
        ..plan.mesh.clone()
    };
    // One message after the other, as on the planet.
    let seconds = Duration::from_millis((plan.quantum * 255).as_millis() as u64 + 1_000);
    both.workload[0].rate = 1.0 / seconds.as_secs_f64();
    both.horizon = both.workload[0].from + seconds * (MESSAGES + 1);
    both.tier = Tier::Compact;
    let compact = run(&both, seed, How::default(), &|_| true)?;
    let planet = planet(&both, seed, &|_| true)?;
    let tiers = [Tier::Compact, Tier::Planet];
    Ok(Agreement::of(tiers, agents, &[compact, planet]))
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
        let agreement = of_planet(&plan, 20_000, 3).expect("it can be run");
        assert!(agreement.apart() < 0.04, "{agreement:?}");
        let [compact, planet] = agreement.duplicates;
        assert!(
            (compact - 6.0).abs() < 0.01 && (planet - 6.0).abs() < 0.01,
            "{agreement:?}"
        );
    }

    /// Replicas that judge, keep and pass on by the product's own rules spread news as the columns say.
    #[test]
    fn the_compact_tier_agrees_with_replicas() {
        for shape in ["flat", "regional"] {
            let text = format!("shape = \"{shape}\"\n[mesh]\nvalidate = \"2ms\"\ndont_want = 0");
            let plan = Plan::parse(&text).expect("legal");
            let agreement = with_replicas(&plan, 400, 3).expect("it can be run");
            assert!(agreement.apart() < 0.1, "{shape}: {agreement:?}");
            let [full, compact] = agreement.duplicates;
            assert!((full - compact).abs() < 0.15, "{shape}: {agreement:?}");
        }
    }
}

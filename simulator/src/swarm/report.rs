//! What a run of a swarm says: one flat object that scripts can rely on.
//!
//! Not here: counting (`tally`), the clock and the memory of the machine, which the binary measures.

use super::agreement::Agreement;
use super::event::Kind;
use super::kademlia::{Lookups, Provided};
use super::plan::{Plan, Tier};
use super::replicas::Counts;
use super::resources::Need;
use super::run::Outcome;
use super::society::Done;
use super::tally::{Sent, Tally, quantile, step_ms};
use crate::report::Outcome as Verdict;
use serde::Serialize;
use std::collections::BTreeMap;

/// What the machine took for it.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Cost {
    /// Of all threads together.
    pub cpu_seconds: f64,
    /// By the clock on the wall.
    pub wall_seconds: f64,
    /// Of the processor time, what went by before anything happened: placing and linking agents.
    pub setup_seconds: f64,
    /// The most that the process held, where the system says so.
    pub rss_bytes: Option<u64>,
}

/// What a run says.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// What the plan is for.
    pub about: String,
    /// How much was kept of each agent.
    pub tier: Tier,
    /// Decides all that the plan leaves open.
    pub seed: u64,
    /// How many agents.
    pub agents: u64,
    /// How many messages were published.
    pub messages: u64,
    /// Events that happened.
    pub events: u64,
    /// What the machine took.
    #[serde(flatten)]
    pub cost: Cost,
    /// Of processor time, once all agents were in their place.
    pub ns_per_event: f64,
    /// The most that the process held, by agent.
    pub bytes_per_agent: Option<f64>,
    /// The part of those that may have a message which had it in the end.
    pub reached: f64,
    /// Where agents come and go or are cut off: of what those who have been here for a while are to have
    /// at the end, the part that they have. It, and not `reached`, must be as much as the plan asks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub settled: Option<f64>,
    /// First arrivals at agents that had been away, as a part of all; they have no delays.
    pub late: f64,
    /// Departures.
    pub departures: u64,
    /// How soon all is well again: after each time that regions were cut off, what was said meanwhile; and
    /// after absences, what was missed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub convergence: Vec<Convergence>,
    /// Things lost: sent again, and for ever since regions were cut off.
    pub lost: [u64; 2],
    /// Peers put out of a mesh for their silence.
    pub silenced: u64,
    /// Messages not published, since whoever was to was away.
    pub unsaid: u64,
    /// What those who mean harm have reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub harm: Option<HarmDone>,
    /// What went through relays, since both ends are behind a NAT.
    pub relayed: Sent,
    /// From a message's publication to half of those who had it, all messages together.
    pub p50_ms: Option<u64>,
    /// The same, to 99 in 100.
    pub p99_ms: Option<u64>,
    /// The regions, in the order of the matrix.
    #[serde(skip)]
    pub region_names: Vec<String>,
    /// The same, by region.
    pub regions: BTreeMap<String, [Option<u64>; 2]>,
    /// Arrivals at one who had it, for each first arrival.
    pub duplicates_per_delivery: f64,
    /// First arrivals because it was asked for, as a part of all.
    pub answered: f64,
    /// What was sent, by kind: inside regions and between them.
    pub sent: BTreeMap<&'static str, [Sent; 2]>,
    /// Bytes between regions, for each first arrival.
    pub wan_bytes_per_delivery: f64,
    /// Agents by links in the mesh, over all heartbeats.
    pub degrees: Vec<u64>,
    /// How often the law was asked.
    pub policy: Policy,
    /// What must not have happened, or must have and did not.
    pub violations: Vec<String>,
    /// Lookups in the directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lookups: Option<Lookups>,
    /// What was provided in it, and found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provided: Option<Provided>,
    /// What the plan's machines have, and what its agents need of it: arithmetic, from what was measured.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<Need>,
    /// What agents did together.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub behaviours: Vec<Done>,
    /// What replicas did, in the full tier.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replicas: Option<Counts>,
    /// Beside the neighbouring tier, where both can be run.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub agreement: Vec<Agreement>,
    /// The same run has the same.
    pub digest: String,
    /// Whether it was run to its end.
    pub whole: bool,
}

/// How soon those who had been cut off, or away, had what they had missed.
#[derive(Clone, Debug, Serialize)]
pub struct Convergence {
    /// After what.
    pub after: String,
    /// First arrivals of what was missed.
    pub arrivals: u64,
    /// Half of it and 99 in 100 had arrived within so many milliseconds (an eighth more or less).
    pub p50_ms: f64,
    /// See above.
    pub p99_ms: f64,
    /// The last of it, where that was seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_ms: Option<u64>,
}

impl Convergence {
    fn of(plan: &Plan, tally: &Tally) -> Vec<Self> {
        let one = |after: String, steps: &[u64], last_ms: Option<u64>| {
            let within = |part| Some(step_ms(quantile(steps, part)? as usize + 1));
            Some(Self {
                after,
                arrivals: steps.iter().sum(),
                p50_ms: within(0.5)?,
                p99_ms: within(0.99)?,
                last_ms,
            })
        };
        let cuts = plan.partition.iter().zip(&tally.mended);
        let cuts = cuts.map(|(cut, (steps, last))| {
            let name = format!("{} was cut off for {:?}", cut.regions.join(", "), cut.lasts);
            one(name, steps, Some(*last))
        });
        let away = one("absences".to_owned(), &tally.caught_up, None);
        cuts.chain([away]).flatten().collect()
    }
}

/// What eclipses, spam and replays came to.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct HarmDone {
    /// First arrivals at those who are eclipsed; half and 99 in 100 of them came within so many
    /// milliseconds.
    pub eclipsed: (u64, [Option<u64>; 2]),
    /// Pieces of spam that were judged, and that were dropped unseen.
    pub spam: [u64; 2],
    /// Old messages that arrived again, and how often one of them was passed on.
    pub replays: [u64; 2],
}

impl HarmDone {
    fn of(plan: &Plan, tally: &Tally) -> Option<Self> {
        let harm = &plan.adversary;
        (harm.eclipsed + harm.spammers + harm.replayers > 0).then(|| Self {
            eclipsed: (
                tally.eclipsed.iter().sum(),
                [0.5, 0.99].map(|part| quantile(&tally.eclipsed, part)),
            ),
            spam: tally.spam,
            replays: tally.replays,
        })
    }
}

/// How often the law was asked, and what came of it.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Policy {
    /// Questions.
    pub checked: u64,
    /// Of those, how often the answer was no.
    pub denied: u64,
    /// Of those, what somebody had sent all the same.
    pub attempted: u64,
    /// Messages that an agent took and, as another judge has it, must not: 0.
    pub accepted: u64,
    /// With 95 % confidence, no more than this part of all questions are answered wrongly (3/n).
    pub bound: f64,
}

const KINDS: [(&str, Kind); 8] = [
    ("copy", Kind::Copy),
    ("answer", Kind::Answer),
    ("ihave", Kind::IHave),
    ("iwant", Kind::IWant),
    ("idontwant", Kind::IDontWant),
    ("graft", Kind::Graft),
    ("prune", Kind::Prune),
    ("timer", Kind::Timer),
];

impl Report {
    /// What `outcome` of a `plan` says, at this `cost`; `whole` if it was run to its end.
    pub fn of(
        plan: &Plan,
        seed: u64,
        names: &[String],
        outcome: &Outcome,
        cost: Cost,
        whole: bool,
    ) -> Self {
        let tally = &outcome.tally;
        let delays = tally.all_delays();
        let firsts = tally.firsts();
        let each = |count: u64| count as f64 / firsts.max(1) as f64;
        let two = |delays: &[u64]| [0.5, 0.99].map(|part| quantile(delays, part));
        let sent = KINDS.iter().filter(|(_, kind)| *kind != Kind::Timer);
        let wan: u64 = tally.sent.iter().map(|[_, abroad]| abroad.bytes).sum();
        let all = firsts + tally.late;
        let reached = all as f64 / outcome.reachable.max(1) as f64;
        let settled = (tally.due > 0).then(|| 1.0 - tally.lacking as f64 / tally.due as f64);
        let [p50_ms, p99_ms] = two(&delays);
        let mut violations = Vec::new();
        if tally.accepted > 0 {
            violations.push(format!(
                "safety: {} messages where the law forbids them",
                tally.accepted
            ));
        }
        // Where agents come and go or are cut off, and nobody had time to settle, nothing can be said.
        let troubled = !plan.churn.session.is_zero() || !plan.partition.is_empty();
        let reaches = match settled {
            None if troubled => 1.0,
            settled => settled.unwrap_or(reached),
        };
        if whole && reaches < plan.reach {
            violations.push(format!(
                "liveness: {reaches:.6} of those who may were reached, not {}",
                plan.reach
            ));
        }
        Self {
            about: plan.about.clone(),
            region_names: names.to_vec(),
            tier: plan.tier,
            seed,
            agents: plan.agents,
            messages: plan
                .workload
                .iter()
                .map(|workload| u64::from(workload.count))
                .sum(),
            events: outcome.ran.events,
            cost,
            ns_per_event: (cost.cpu_seconds - cost.setup_seconds) * 1e9
                / outcome.ran.events.max(1) as f64,
            bytes_per_agent: cost
                .rss_bytes
                .map(|bytes| bytes as f64 / plan.agents as f64),
            reached,
            settled,
            late: tally.late as f64 / all.max(1) as f64,
            departures: tally.departures,
            convergence: Convergence::of(plan, tally),
            lost: [tally.lost, tally.cut],
            silenced: tally.silenced,
            unsaid: tally.unsaid.len() as u64,
            harm: HarmDone::of(plan, tally),
            relayed: tally.relayed,
            p50_ms,
            p99_ms,
            regions: names
                .iter()
                .cloned()
                .zip(tally.delays.iter().map(|d| two(d)))
                .collect(),
            duplicates_per_delivery: each(tally.duplicates),
            answered: each(tally.answered),
            sent: sent
                .map(|(name, kind)| (*name, tally.sent[*kind as usize]))
                .collect(),
            wan_bytes_per_delivery: each(wan),
            degrees: tally.degrees.to_vec(),
            policy: Policy {
                checked: tally.checked,
                denied: tally.denied,
                attempted: tally.attempted,
                accepted: tally.accepted,
                bound: 3.0 / tally.checked.max(1) as f64,
            },
            violations,
            lookups: None,
            provided: None,
            resources: plan.resources.as_ref().map_or_else(Vec::new, |resources| {
                let bytes = plan.workload.first().map_or(0, |workload| workload.bytes);
                resources.needs(plan.agents, names.len(), each(tally.duplicates), bytes)
            }),
            behaviours: Vec::new(),
            replicas: outcome.replicas,
            agreement: Vec::new(),
            digest: outcome.ran.digest.to_string(),
            whole,
        }
    }

    /// How it ended.
    pub fn verdict(&self) -> Verdict {
        let is = |kind: &str| self.violations.iter().any(|said| said.starts_with(kind));
        match (is("safety"), is("liveness")) {
            (true, _) => Verdict::Safety,
            (_, true) => Verdict::Liveness,
            _ if !self.whole => Verdict::Void,
            _ => Verdict::Green,
        }
    }
}

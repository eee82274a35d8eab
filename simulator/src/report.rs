//! The report: what happened in a run, what went wrong in it, and its digest.
//!
//! Faults are counted where they bit: a packet really lost, a commit really cut off. A storm in which
//! nothing bit is void, not green. The digest is BLAKE3 over everything that any replica let out, in
//! order: one seed has one digest, in every process and build.
//!
//! Not here: finding violations (`check`), printing (the binary).

use crate::check::Violation;
use serde::{Serialize, Serializer};
use std::collections::BTreeMap;

/// What can go wrong in the world.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// A packet was lost.
    Loss,
    /// A packet arrived twice.
    Duplicate,
    /// A packet overtook another.
    Reorder,
    /// A partition swallowed a packet.
    Partition,
    /// A link that is deaf in one direction swallowed a packet.
    OneWay,
    /// A packet was held up on a slow link.
    Clog,
    /// A node crashed before its commit was durable.
    CrashBefore,
    /// A node crashed when its commit was durable, before it could say so.
    CrashAfter,
    /// A disk refused a commit.
    Refused,
    /// A node lost its disk.
    DiskLost,
    /// A bit of a stored record flipped.
    Rot,
    /// Something was written under a clock that is wrong.
    Skew,
    /// A traitor signed two records at one place.
    Fork,
    /// A traitor sent bytes that were changed.
    Garble,
    /// A traitor asked for what it may not have.
    Curious,
    /// A traitor sent again what somebody had said long ago.
    Replay,
    /// A traitor wrote a record that is stamped in the future.
    Future,
}

/// How a run ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Faults bit, and all was well.
    Green,
    /// Nothing that was to go wrong did: the run shows nothing.
    Void,
    /// Something happened that must not.
    Safety,
    /// Something that must happen did not.
    Liveness,
}

/// What happened in a run.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// How many nodes.
    pub replicas: usize,
    /// How often each fault bit.
    pub faults: BTreeMap<Fault, u64>,
    /// How often each kind of event was seen.
    pub events: BTreeMap<&'static str, u64>,
    /// How many happenings there were.
    pub happenings: u64,
    /// How many packets were sent.
    pub packets: u64,
    /// Operations that were answered as done.
    pub done: u64,
    /// Operations that were refused.
    pub refused: u64,
    /// Operations whose fate nobody was told: neither done nor not done.
    pub unknown: u64,
    /// Seconds of the world's time.
    pub seconds: u64,
    /// How long it took until all was well again, in milliseconds of the world's time.
    pub settled_ms: Option<u64>,
    /// What must not be.
    pub violations: Vec<Violation>,
    /// Whether anything was to go wrong.
    pub calm: bool,
    /// Over everything that any replica let out.
    #[serde(serialize_with = "hex")]
    pub digest: [u8; 32],
}

fn hex<S: Serializer>(digest: &[u8; 32], to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(blake3::Hash::from_bytes(*digest).to_hex().as_str())
}

impl Report {
    /// A fault bit.
    pub fn bite(&mut self, fault: Fault) {
        *self.faults.entry(fault).or_default() += 1;
    }

    /// Something was seen.
    pub fn saw(&mut self, event: &'static str) {
        *self.events.entry(event).or_default() += 1;
    }

    /// How the run ended.
    pub fn outcome(&self) -> Outcome {
        if self
            .violations
            .iter()
            .any(|violation| !violation.is_liveness())
        {
            Outcome::Safety
        } else if !self.violations.is_empty() {
            Outcome::Liveness
        } else if !self.calm && self.faults.is_empty() {
            Outcome::Void
        } else {
            Outcome::Green
        }
    }
}

/// What happened in many runs.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Summary {
    /// How many runs.
    pub seeds: u64,
    /// Of them, those in which nothing bit.
    pub void: u64,
    /// How often each fault bit.
    pub faults: BTreeMap<Fault, u64>,
    /// How often each kind of event was seen.
    pub events: BTreeMap<&'static str, u64>,
    /// How many happenings there were.
    pub happenings: u64,
    /// Operations that were answered as done.
    pub done: u64,
    /// Seconds of the worlds' time.
    pub seconds: u64,
    /// The runs in which something was violated.
    pub failed: Vec<Report>,
    /// Over the digests of all runs, in order of their seeds.
    #[serde(serialize_with = "hex")]
    pub digest: [u8; 32],
}

impl Summary {
    /// Sums up reports, which must be in order of their seeds.
    pub fn of(reports: Vec<Report>) -> Self {
        let mut sum = Self::default();
        let mut hasher = blake3::Hasher::new();
        for report in reports {
            sum.seeds += 1;
            sum.void += u64::from(report.outcome() == Outcome::Void);
            sum.happenings += report.happenings;
            sum.done += report.done;
            sum.seconds += report.seconds;
            for (fault, count) in &report.faults {
                *sum.faults.entry(*fault).or_default() += count;
            }
            for (event, count) in &report.events {
                *sum.events.entry(*event).or_default() += count;
            }
            hasher.update(&report.digest);
            if !report.violations.is_empty() {
                sum.failed.push(report);
            }
        }
        sum.digest = *hasher.finalize().as_bytes();
        sum
    }

    /// How the worst run ended.
    pub fn outcome(&self) -> Outcome {
        let ended = |outcome| self.failed.iter().any(|report| report.outcome() == outcome);
        if ended(Outcome::Safety) {
            Outcome::Safety
        } else if ended(Outcome::Liveness) {
            Outcome::Liveness
        } else if self.faults.is_empty() {
            Outcome::Void
        } else {
            Outcome::Green
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_in_which_nothing_bit_is_void_unless_nothing_was_meant_to() {
        let mut report = Report::default();
        assert_eq!(report.outcome(), Outcome::Void);
        report.bite(Fault::Loss);
        assert_eq!(report.outcome(), Outcome::Green);
        assert_eq!(
            Report {
                calm: true,
                ..Report::default()
            }
            .outcome(),
            Outcome::Green
        );
        report
            .violations
            .push(Violation::Stuck { what: "x".into() });
        assert_eq!(report.outcome(), Outcome::Liveness);
        report
            .violations
            .push(Violation::Panicked { what: "x".into() });
        assert_eq!(report.outcome(), Outcome::Safety);
        let sum = Summary::of(vec![report, Report::default()]);
        assert_eq!(
            (sum.outcome(), sum.void, sum.failed.len()),
            (Outcome::Safety, 1, 1)
        );
    }
}

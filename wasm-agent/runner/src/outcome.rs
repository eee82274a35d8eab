//! Outcomes: what came of a job.
//!
//! Its **product** is what the job made: how it ended and what it said. Of a program that depends on
//! nothing but its job, every runner makes the same product, and [`Outcome::product`] is its hash: what a
//! receipt names and what holders compare. What it used is told beside it and differs each time.
//!
//! Not here: who signs for it.

use aquifer_protocol::identity::digest;
use minicbor::{Decode, Encode};

const DOMAIN: &str = "aquifer/job-product/1";

/// What came of a job.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(array)]
pub struct Outcome {
    /// The hash of the job.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub job: [u8; 32],
    /// Which runner: `process`.
    #[n(1)]
    pub runner: String,
    /// How it ended.
    #[n(2)]
    pub ended: Ended,
    /// What it said on stdout, up to its budget.
    #[n(3)]
    pub stdout: Said,
    /// What it said on stderr, up to its budget.
    #[n(4)]
    pub stderr: Said,
    /// What it used.
    #[n(5)]
    pub usage: Usage,
}

/// How a job ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
pub enum Ended {
    /// Its first process returned this code.
    #[n(0)]
    Exited(#[n(0)] u8),
    /// Its first process was ended by this signal.
    #[n(1)]
    Signalled(#[n(0)] u8),
    /// It went over its budget and was stopped.
    #[n(2)]
    Over(#[n(0)] Over),
    /// Who ran it stopped it.
    #[n(3)]
    Stopped,
}

/// The part of a budget that was gone over.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(index_only)]
pub enum Over {
    /// It lasted too long.
    #[n(0)]
    Wall,
    /// It used too much time of processors.
    #[n(1)]
    Cpu,
    /// It used too much memory.
    #[n(2)]
    Memory,
    /// It said too much.
    #[n(3)]
    Output,
}

/// What was said on one stream.
#[derive(Clone, PartialEq, Eq, Debug, Default, Encode, Decode)]
#[cbor(array)]
pub struct Said {
    /// The bytes that were kept.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub bytes: Vec<u8>,
    /// Whether there were more.
    #[n(1)]
    pub is_cut: bool,
}

/// What a job used.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Encode, Decode)]
#[cbor(array)]
pub struct Usage {
    /// Time from its first instruction to its last, in microseconds.
    #[n(0)]
    pub wall_us: u64,
    /// Time until its first instruction, in microseconds: what the runner needed to shut it in.
    #[n(1)]
    pub setup_us: u64,
    /// Time of processors, in microseconds. Of a job that was stopped and was in no control group, what
    /// its processes had waited for.
    #[n(2)]
    pub cpu_us: u64,
    /// Most memory at once, in bytes: as its control group counted it, or, without one, as it was seen
    /// every few milliseconds.
    #[n(3)]
    pub memory_peak_bytes: u64,
    /// How often it was refused a process; 0 where nobody counts.
    #[n(4)]
    pub pids_refused: u64,
}

/// Why bytes are not an outcome: they are not the canonical encoding of one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the outcome is malformed")]
pub struct RefuseOutcome;

impl Outcome {
    /// Its canonical encoding.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        minicbor::to_vec(self).expect("a vector takes any encoding")
    }

    /// The outcome that these bytes are the canonical encoding of.
    ///
    /// # Errors
    /// They are none.
    pub fn open(bytes: &[u8]) -> Result<Self, RefuseOutcome> {
        let outcome: Self = minicbor::decode(bytes).map_err(|_| RefuseOutcome)?;
        match outcome.to_bytes() == bytes {
            true => Ok(outcome),
            false => Err(RefuseOutcome),
        }
    }

    /// The hash of what the job made: of the job, how it ended and what it said.
    #[must_use]
    pub fn product(&self) -> [u8; 32] {
        let made = (self.ended, &self.stdout, &self.stderr);
        let made = minicbor::to_vec(made).expect("a vector takes any encoding");
        digest(DOMAIN, &[&self.job, &made])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome() -> Outcome {
        Outcome {
            job: [7; 32],
            runner: "process".into(),
            ended: Ended::Over(Over::Output),
            stdout: Said {
                bytes: b"out".to_vec(),
                is_cut: true,
            },
            stderr: Said::default(),
            usage: Usage::default(),
        }
    }

    #[test]
    fn an_outcome_goes_through_its_bytes() {
        let bytes = outcome().to_bytes();
        assert_eq!(Outcome::open(&bytes), Ok(outcome()));
        assert_eq!(
            Outcome::open(&[bytes.as_slice(), &[0]].concat()),
            Err(RefuseOutcome)
        );
        assert_eq!(Outcome::open(&bytes[1..]), Err(RefuseOutcome));
    }

    #[test]
    fn a_product_is_what_was_made_and_not_what_it_cost() {
        let one = outcome();
        let mut dearer = outcome();
        dearer.usage.cpu_us = 9;
        dearer.runner = "microvm".into();
        assert_eq!(one.product(), dearer.product());
        for change in [
            |o: &mut Outcome| o.job[0] = 0,
            |o: &mut Outcome| o.ended = Ended::Exited(0),
            |o: &mut Outcome| o.stdout.bytes.clear(),
            |o: &mut Outcome| o.stderr.is_cut = true,
        ] {
            let mut other = outcome();
            change(&mut other);
            assert_ne!(one.product(), other.product());
        }
    }
}

//! The second tier: what a WASM agent cannot do runs beside it, as a **job** under a **runner**.
//!
//! A [`job`] is a program with its files, its input and its budget, as one canonical value. A
//! [`Runner`] says what it can hold a job to (an [`ability`]) or refuses with a reason, and runs jobs
//! one call each; what came of one is an [`outcome`]. There are two runners: [`process`] shuts a
//! program into namespaces, behind a filter of system calls and a control group; [`microvm`] says what
//! virtual machines this machine could carry, and refuses to run what it cannot.
//!
//! A process is made ready by a [`stage`]: the same binary, started anew, which shuts itself in before
//! it becomes the job. A program that uses the process runner begins its `main` with [`stage::entered`].
//!
//! In the order to read them: [`job`], [`outcome`], [`ability`], [`process`], [`stage`], [`serve()`].
//!
//! Not here: which jobs there are and who may ask for them (the node).

pub mod ability;
pub mod job;
pub mod limits;
pub mod microvm;
pub mod outcome;
pub mod process;
pub mod serve;
pub mod stage;

use ability::{Ability, Refusal};
use job::Job;
use outcome::Outcome;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

pub use serve::serve;

/// Something that runs jobs.
pub trait Runner {
    /// What it is called: `process`, `microvm`.
    fn name(&self) -> &'static str;

    /// Tries, here and now, whether it can run a job, and says what it holds one to.
    ///
    /// # Errors
    /// Why it cannot, and what would help.
    fn probe(&self) -> Result<Ability, Refusal>;

    /// Runs `job` to its end, or to the end of its budget, or until `stop` says so. Blocks meanwhile.
    /// When it returns, nothing of the job is left.
    ///
    /// # Errors
    /// When there is no outcome: it was refused, or the runner itself failed.
    fn run(&self, job: &Job, stop: &Stop) -> Result<Outcome, RunFailure>;
}

/// A handle to stop a job with, from any thread.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Stops whatever runs with this handle, now or later.
    pub fn stop(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether it was asked to stop.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Why a job has no outcome.
#[derive(Debug, thiserror::Error)]
pub enum RunFailure {
    /// This machine, or who runs it, does not run it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The program is not there, or is none.
    #[error("cannot start {program}: {why}")]
    NoStart {
        /// The job's `argv[0]`.
        program: String,
        /// What the system said.
        why: String,
    },
    /// The runner's own stage broke off.
    #[error("the runner failed to {step}: {why}")]
    Stage {
        /// What it was at.
        step: String,
        /// What the system said.
        why: String,
    },
}

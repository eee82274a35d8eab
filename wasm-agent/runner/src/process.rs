//! The process runner: a job is a process of this machine, shut in.
//!
//! It has a user, mounts, processes, a network, message queues, names and control groups of its own; it
//! sees of the machine what it named and the machine shows, read-only; it has no network, no
//! capabilities and a list of system calls. It is a process of the same kernel all the same: a hole in
//! the kernel is a way out, and what it times it can learn. For what must be held better there are
//! virtual machines.
//!
//! In control groups memory, processes and processors are held by the kernel. Where none can be made
//! (an ordinary user on most machines), limits of processes are hard, and a [`stage`](crate::stage)
//! watches the rest; the [`Ability`] says which.
//!
//! Linux only. Not here: how a process is shut in (`stage`).

#[cfg(target_os = "linux")]
mod attend;
#[cfg(target_os = "linux")]
mod group;
#[cfg(target_os = "linux")]
mod trial;

use crate::ability::{Ability, Refusal};
use crate::job::{Budget, Job, USUAL_SIGHTS};
use crate::outcome::Outcome;
use crate::stage::Stage;
use crate::{RunFailure, Runner, Stop};

/// The user and group that a job sees itself as.
pub const USER: u32 = 1_000;

/// What the machine's owner says of jobs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    /// What stages are started from.
    pub stage: Stage,
    /// What jobs may see of this machine. A job that wants more is refused.
    pub shows: Vec<String>,
    /// The most that a job may use. One that asks for more is refused.
    pub most: Budget,
    /// Who jobs are on this machine, if the runner is root: a user and group that own nothing.
    pub nobody: u32,
    /// Whether to make control groups, if that is possible.
    pub groups: bool,
}

impl Settings {
    /// What is usual: programs and libraries are shown, an hour and four gibibytes are the most.
    #[must_use]
    pub fn usual(stage: Stage) -> Self {
        Self {
            stage,
            shows: USUAL_SIGHTS.map(str::to_owned).to_vec(),
            most: Budget {
                wall_ms: 3_600_000,
                cpu_ms: 4 * 3_600_000,
                cores: 4_000,
                memory_bytes: 4 << 30,
                pids: 1_024,
                scratch_bytes: 4 << 30,
                ..Budget::MOST
            },
            nobody: 65_534,
            groups: true,
        }
    }
}

/// Runs jobs as processes.
#[derive(Clone, Debug)]
pub struct Process {
    settings: Settings,
}

impl Process {
    /// A runner with these settings.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self { settings }
    }

    /// Whether this machine's owner lets `job` run.
    ///
    /// # Errors
    /// Why not.
    pub fn allows(&self, job: &Job) -> Result<(), Refusal> {
        let request = job.request();
        if let Some(path) = request
            .sees
            .iter()
            .find(|path| !self.settings.shows.contains(path))
        {
            let shown = self.settings.shows.join(" ");
            return Err(Refusal::new(
                format!("this machine does not show {path}"),
                format!("it shows {shown}"),
            ));
        }
        match request.budget.exceeds(&self.settings.most) {
            Some(what) => Err(Refusal::new(
                format!("this machine does not give a job that much {what}"),
                "ask for less, or another machine",
            )),
            None => Ok(()),
        }
    }
}

impl Runner for Process {
    fn name(&self) -> &'static str {
        "process"
    }

    #[cfg(target_os = "linux")]
    fn probe(&self) -> Result<Ability, Refusal> {
        trial::probe(self)
    }

    #[cfg(target_os = "linux")]
    fn run(&self, job: &Job, stop: &Stop) -> Result<Outcome, RunFailure> {
        self.allows(job)?;
        attend::run(&self.settings, job, stop)
    }

    #[cfg(not(target_os = "linux"))]
    fn probe(&self) -> Result<Ability, Refusal> {
        Err(Refusal::new(
            "this system has no namespaces",
            "run jobs on a Linux machine",
        ))
    }

    #[cfg(not(target_os = "linux"))]
    fn run(&self, job: &Job, _: &Stop) -> Result<Outcome, RunFailure> {
        self.allows(job)?;
        Err(self
            .probe()
            .expect_err("there is no ability on this system")
            .into())
    }
}

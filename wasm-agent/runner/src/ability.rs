//! Abilities: what a runner can hold a job to on this machine, as it found when it tried.
//!
//! A limit is **hard** when the kernel enforces it whatever the job does, **watched** when the runner
//! looks every few milliseconds and stops a job that went over, and **absent** when nobody does. Which it
//! is, and by what, is said for each: a machine without control groups runs jobs, and does not pretend.
//!
//! Not here: how it is found out (`process`, `microvm`).

/// What a runner can do here.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ability {
    /// What each limit is held by.
    pub limits: Vec<Limit>,
    /// What keeps a job in, in words: `user namespace`, `seccomp`.
    pub walls: Vec<String>,
    /// How long the trial took from the call to its end, in microseconds.
    pub trial_us: u64,
    /// What else is to be known.
    pub notes: Vec<String>,
}

/// How one part of a budget is held.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Limit {
    /// Which: `memory`, `pids`.
    pub what: &'static str,
    /// How firmly.
    pub held: Held,
    /// By what: `cgroup v2 memory.max`.
    pub by: String,
}

/// How firmly a limit is held.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Held {
    /// By the kernel, whatever the job does.
    Hard,
    /// By the runner, which looks every few milliseconds.
    Watched,
    /// Not at all.
    Absent,
}

impl Held {
    /// The word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Hard => "hard",
            Self::Watched => "watched",
            Self::Absent => "absent",
        }
    }
}

/// Why a runner does not run here, or does not run this.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{why}")]
pub struct Refusal {
    /// What is in the way.
    pub why: String,
    /// What would help.
    pub hint: String,
}

impl Refusal {
    /// A refusal.
    pub fn new(why: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            why: why.into(),
            hint: hint.into(),
        }
    }
}

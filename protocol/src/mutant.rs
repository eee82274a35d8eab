//! Planted bugs, to measure whether the simulator's checkers find bugs.
//!
//! Compiled only with `--cfg mutant`, and even then each is off until a simulation switches it on.
//! The product contains none of this.

use std::sync::atomic::{AtomicU32, Ordering};

/// Where a bug can be planted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Mutant {
    /// Outputs leave before the store transaction is durable.
    AckBeforeFsync = 1,
    /// A request for records is answered without asking the law.
    ServeWithoutPolicy = 2,
    /// A body that is named by a tombstone is stored all the same.
    TombstoneIgnored = 4,
    /// A topic travels in the mesh of the top-level region, whatever its law.
    MeshTooWide = 8,
    /// Bodies are kept past their retention.
    RetentionIgnored = 16,
    /// What a node holds stays when a new law forbids it there.
    LawForgotten = 32,
    /// A log whose writer forked it is not cut.
    ForkUncut = 64,
    /// Nothing is read back to see what the disk has changed.
    ScrubSleeps = 128,
    /// Nobody compares with anybody, but when they meet.
    SyncSleeps = 256,
    /// Who erases a memory leaves its revisions.
    RevisionsSurvive = 512,
    /// A record from the future is taken at once.
    FutureTaken = 1_024,
}

/// Their names on the command line.
pub const NAMES: [(&str, Mutant); 11] = [
    ("ack-before-fsync", Mutant::AckBeforeFsync),
    ("serve-without-policy", Mutant::ServeWithoutPolicy),
    ("tombstone-ignored", Mutant::TombstoneIgnored),
    ("mesh-too-wide", Mutant::MeshTooWide),
    ("retention-ignored", Mutant::RetentionIgnored),
    ("law-forgotten", Mutant::LawForgotten),
    ("fork-uncut", Mutant::ForkUncut),
    ("scrub-sleeps", Mutant::ScrubSleeps),
    ("sync-sleeps", Mutant::SyncSleeps),
    ("revisions-survive", Mutant::RevisionsSurvive),
    ("future-taken", Mutant::FutureTaken),
];

static PLANTED: AtomicU32 = AtomicU32::new(0);

/// Plants `mutant` for the rest of the process.
pub fn plant(mutant: Mutant) {
    PLANTED.fetch_or(mutant as u32, Ordering::Relaxed);
}

/// True if `mutant` is planted.
pub fn planted(mutant: Mutant) -> bool {
    PLANTED.load(Ordering::Relaxed) & mutant as u32 != 0
}

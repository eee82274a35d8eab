//! Forking, in a process that has one thread.
//!
//! This is the one `unsafe` call of a stage. What makes it unsound elsewhere, a second thread that held a
//! lock, is looked for before each.
//!
//! Not here: what either process does then.

use super::talk::{At, Broke};
use nix::unistd::{ForkResult, Pid};

/// Forks: gives the child's number to the parent, and nothing to the child.
///
/// # Errors
/// If there are other threads, or the system refuses.
#[allow(unsafe_code, reason = "a process becomes two; see docs/decisions/0012")]
pub(super) fn fork() -> Result<Option<Pid>, Broke> {
    let threads = std::fs::read_dir("/proc/self/task").at("count its threads")?;
    if threads.count() != 1 {
        return Err("it has other threads").at("fork");
    }
    // SAFETY: there is no other thread (counted above, and nothing in a stage starts one), so the
    // child's memory is consistent and no lock is held by a thread that it lacks.
    let forked = unsafe { nix::unistd::fork() };
    match forked.at("fork")? {
        ForkResult::Parent { child } => Ok(Some(child)),
        ForkResult::Child => Ok(None),
    }
}

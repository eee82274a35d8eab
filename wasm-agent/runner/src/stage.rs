//! Stages: how a process becomes a job.
//!
//! The runner starts a stage (this binary anew, or `aquifer-runner-stage`), gives it a socket as stdin and
//! puts it into a control group. The stage goes apart into namespaces of its own, has its user mapped by
//! the runner, and forks the first process of the new process namespace, which builds the new root and
//! forks once more. That one gives up every right, puts on the filter of system calls and becomes the
//! job. Three processes, since a process cannot move itself into a process namespace, and since the first
//! one there reaps, reports and, when it ends, takes all the others with it.
//!
//! In the order they come: `talk` (what is said on the socket), `apart`, `room`, `first`, `shed` and
//! `filter`; `fork` holds the one `unsafe` call of all this, `census` looks where no control group does.
//!
//! Not here: the runner's side (`process`).

use std::ffi::OsString;
use std::path::PathBuf;

#[cfg(target_os = "linux")]
mod apart;
#[cfg(target_os = "linux")]
pub(crate) mod census;
#[cfg(target_os = "linux")]
mod filter;
#[cfg(target_os = "linux")]
mod first;
#[cfg(target_os = "linux")]
mod fork;
#[cfg(target_os = "linux")]
mod room;
#[cfg(target_os = "linux")]
mod shed;
#[cfg(target_os = "linux")]
pub(crate) mod talk;

/// What a stage is called, as its `argv[0]`.
pub const NAME: &str = "aquifer-runner-stage";

/// The argument that asks for a job.
#[cfg(target_os = "linux")]
pub(crate) const JOB: &str = "job";
/// The argument that asks for a trial of virtual machines.
pub(crate) const GUEST: &str = "guest";

/// The binary that stages are started from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stage(pub PathBuf);

impl Stage {
    /// This very binary, whose `main` begins with [`entered`].
    #[must_use]
    pub fn this() -> Self {
        Self("/proc/self/exe".into())
    }
}

/// Plays a stage's part if this process was started as one, and gives the code to end with. To be called
/// first thing in `main`, before there is a second thread.
pub fn entered(arguments: impl IntoIterator<Item = OsString>) -> Option<u8> {
    let mut arguments = arguments.into_iter();
    let is_stage = arguments.next().is_some_and(|name| name == NAME);
    is_stage.then(|| play(&arguments.next().unwrap_or_default()))
}

#[cfg(target_os = "linux")]
fn play(part: &std::ffi::OsStr) -> u8 {
    match part.to_str() {
        Some(JOB) => apart::play(),
        Some(GUEST) => crate::microvm::play(),
        _ => {
            eprintln!("{NAME} is started by a runner, with a socket as stdin");
            2
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn play(_: &std::ffi::OsStr) -> u8 {
    eprintln!("{NAME}: there are no stages on this system");
    2
}

//! Shedding: what a process gives up before it becomes the job.
//!
//! In this order, since each step needs what a later one takes: limits, the streams, every capability
//! (also those it could get back), the hope of new ones, most system calls. Then the job's program is
//! executed.
//!
//! Not here: which calls are left (`filter`).

use super::filter;
use super::talk::{At, Broke, Part};
use crate::limits::OPEN_FILES;
use nix::sys::resource::{Resource, setrlimit};
use nix::unistd::{dup2_stdin, setsid};
use rustix::thread::{CapabilitySet, CapabilitySets};
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// What a job finds in its environment if it does not say otherwise.
const ENV: [(&str, &str); 2] = [
    ("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"),
    ("HOME", "/tmp"),
];

/// Becomes the job; returns only what was in the way.
pub(super) fn become_job(part: &Part, stdin: &File) -> Broke {
    match shed(part, stdin) {
        Ok(()) => execute(part),
        Err(broke) => broke,
    }
}

fn shed(part: &Part, stdin: &File) -> Result<(), Broke> {
    setsid().at("lead a session")?;
    dup2_stdin(stdin).at("take its stdin")?;
    limit(part)?;
    let filter = filter::compile().at("compile the filter")?;
    drop_capabilities().at("give up capabilities")?;
    rustix::thread::set_no_new_privs(true).at("give up new privileges")?;
    seccompiler::apply_filter(&filter).at("put on the filter")
}

fn limit(part: &Part) -> Result<(), Broke> {
    let budget = &part.request.budget;
    // The first process of the namespace and its parent are the same user's. A control group is to refuse
    // before this does, since it counts how often.
    let spare = if part.is_watching { 0 } else { 8 };
    let pids = u64::from(budget.pids) + 2 + spare;
    let mut limits = vec![
        (Resource::RLIMIT_CORE, 0),
        (Resource::RLIMIT_CPU, budget.cpu_ms.div_ceil(1_000) + 1),
        (Resource::RLIMIT_FSIZE, budget.scratch_bytes),
        (Resource::RLIMIT_MEMLOCK, 0),
        (Resource::RLIMIT_MSGQUEUE, 0),
        (Resource::RLIMIT_NOFILE, OPEN_FILES),
        (Resource::RLIMIT_NPROC, pids),
    ];
    if part.is_watching {
        // A process at once goes no further than the census lets all of them go in a while. Programs map
        // far more than they use, so what is mapped has more room.
        limits.push((Resource::RLIMIT_DATA, budget.memory_bytes));
        let mapped = budget
            .memory_bytes
            .saturating_mul(4)
            .saturating_add(1 << 30);
        limits.push((Resource::RLIMIT_AS, mapped));
    }
    for (resource, most) in limits {
        setrlimit(resource, most, most).at(&format!("set {resource:?}"))?;
    }
    Ok(())
}

fn drop_capabilities() -> rustix::io::Result<()> {
    rustix::thread::clear_ambient_capability_set()?;
    for number in 0..64 {
        let one = CapabilitySet::from_bits_retain(1 << number);
        match rustix::thread::remove_capability_from_bounding_set(one) {
            Ok(()) => {}
            // There is none of this number, nor of any above.
            Err(rustix::io::Errno::INVAL) => break,
            Err(why) => return Err(why),
        }
    }
    let none = CapabilitySets {
        effective: CapabilitySet::empty(),
        permitted: CapabilitySet::empty(),
        inheritable: CapabilitySet::empty(),
    };
    rustix::thread::set_capabilities(None, none)
}

fn execute(part: &Part) -> Broke {
    let request = &part.request;
    let mut command = Command::new(&request.argv[0]);
    command.args(&request.argv[1..]).env_clear().envs(ENV);
    command.envs(request.env.iter().map(|(name, value)| (name, value)));
    Broke {
        step: "execute it".to_owned(),
        why: command.exec().to_string(),
    }
}

//! The trial of the process runner: a job of one `true`, and what it was held by.
//!
//! What an ability says was seen: the trial's stage went through every step that any job's does.

use super::{Process, group::Group};
use crate::ability::{Ability, Held, Limit, Refusal};
use crate::job::{Budget, Job, Request};
use crate::limits::TICK;
use crate::outcome::Ended;
use crate::{RunFailure, Runner, Stop};
use nix::unistd::geteuid;
use std::time::Instant;

const WALLS: [&str; 11] = [
    "user namespace",
    "mount namespace",
    "process namespace",
    "network namespace, empty",
    "ipc namespace",
    "uts namespace",
    "cgroup namespace",
    "new root, read-only",
    "no capabilities",
    "no new privileges",
    "seccomp allow list",
];

/// Runs the trial.
pub(super) fn probe(process: &Process) -> Result<Ability, Refusal> {
    let settings = &process.settings;
    let job = Job::of(Request {
        argv: vec!["true".to_owned()],
        env: vec![],
        files: vec![],
        stdin: vec![],
        sees: settings.shows.clone(),
        budget: Budget::USUAL,
    });
    let job = job.map_err(|why| {
        let hint = "see that jobs are shown absolute paths, and few";
        Refusal::new(format!("this runner's settings are odd: {why}"), hint)
    })?;
    let began = Instant::now();
    let outcome = process.run(&job, &Stop::default()).map_err(refusal)?;
    let trial_us = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
    if outcome.ended != Ended::Exited(0) {
        return Err(Refusal::new(
            format!("the trial did not end well: {:?}", outcome.ended),
            String::from_utf8_lossy(&outcome.stderr.bytes),
        ));
    }
    let mut notes = vec![match geteuid().is_root() {
        true => format!("jobs are user {} of this machine", settings.nobody),
        false => {
            "jobs are the runner's own user outside their namespace, and keep its groups".to_owned()
        }
    }];
    let group = match settings.groups {
        true => Group::make(&Budget::USUAL).map_err(|why| why.to_string()),
        false => Err("control groups are not wanted".to_owned()),
    };
    let limits = match &group {
        Ok(group) => held_by_group(group),
        Err(why) => {
            notes.push(format!(
                "{why}; a job's memory and processor time are watched"
            ));
            held_without()
        }
    };
    Ok(Ability {
        limits,
        walls: WALLS.map(str::to_owned).to_vec(),
        trial_us,
        notes,
    })
}

fn refusal(why: RunFailure) -> Refusal {
    match why {
        RunFailure::Refused(refusal) => refusal,
        RunFailure::NoStart { .. } => Refusal::new(
            format!("the trial found no program: {why}"),
            "show jobs a folder with programs: /usr, /bin, /lib, /lib64",
        ),
        RunFailure::Stage { .. } => Refusal::new(
            why.to_string(),
            "see README.md of the runner for what it needs",
        ),
    }
}

fn limit(what: &'static str, held: Held, by: impl Into<String>) -> Limit {
    let by = by.into();
    Limit { what, held, by }
}

fn look(file: &str) -> String {
    format!("{file}, looked at every {} ms", TICK.as_millis())
}

/// What is held alike with and without a group.
fn always() -> [Limit; 3] {
    [
        limit("wall", Held::Watched, look("the clock")),
        limit("output", Held::Hard, "the runner reads no more"),
        limit("scratch", Held::Hard, "the size of a tmpfs"),
    ]
}

fn held_by_group(group: &Group) -> Vec<Limit> {
    let (memory, pids, cores) = group.names();
    let mut limits = vec![
        limit("memory", Held::Hard, memory),
        limit("pids", Held::Hard, pids),
        match cores {
            Some(by) => limit("cores", Held::Hard, by),
            None => limit("cores", Held::Absent, "no cpu controller"),
        },
        limit("cpu", Held::Watched, look("the group's usage")),
    ];
    limits.extend(always());
    limits
}

fn held_without() -> Vec<Limit> {
    let memory = "RLIMIT_DATA of each process is hard, of all together";
    let mut limits = vec![
        limit("memory", Held::Watched, look(memory)),
        limit("pids", Held::Hard, "RLIMIT_NPROC of the user namespace"),
        limit("cores", Held::Absent, "no control group"),
        limit("cpu", Held::Watched, look("/proc of the namespace")),
    ];
    limits.extend(always());
    limits
}

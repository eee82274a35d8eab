//! What a run might leave: processes, mounts, control groups. There must be none.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

/// A variable that no other run has.
pub(crate) type Mark = (String, String);

static COUNT: AtomicU32 = AtomicU32::new(0);

/// A new mark.
pub(crate) fn mark() -> Mark {
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let value = format!("{}-{count}", std::process::id());
    ("AQUIFER_TEST_MARK".to_owned(), value)
}

/// The mounts of this process.
pub(crate) fn mounts() -> String {
    fs::read_to_string("/proc/self/mountinfo").expect("Linux tells its mounts")
}

/// Fails if anything of the run with this mark is there.
#[track_caller]
pub(crate) fn assert_none(mark: &Mark, before: &str) {
    assert_eq!(mounts(), before, "a mount was left");
    assert_eq!(marked(mark), Vec::<u32>::new(), "a process was left");
    assert_eq!(below(), Vec::<u32>::new(), "a stage was left");
    assert_eq!(groups(), Vec::<PathBuf>::new(), "a control group was left");
}

fn pids() -> Vec<u32> {
    let entries = fs::read_dir("/proc").expect("Linux has a /proc");
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

/// Processes that have the mark in their environment.
pub(crate) fn marked(mark: &Mark) -> Vec<u32> {
    let needle = format!("{}={}\0", mark.0, mark.1).into_bytes();
    let has = |pid: &u32| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.windows(needle.len()).any(|part| part == needle)
    };
    pids().into_iter().filter(has).collect()
}

/// Processes below this one.
fn below() -> Vec<u32> {
    let parents: Vec<(u32, u32)> = pids()
        .into_iter()
        .filter_map(|pid| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            let rest = stat.rsplit_once(')')?.1;
            Some((pid, rest.split_whitespace().nth(1)?.parse().ok()?))
        })
        .collect();
    let mut family = BTreeSet::from([std::process::id()]);
    loop {
        let more: Vec<u32> = parents
            .iter()
            .filter(|(pid, parent)| family.contains(parent) && !family.contains(pid))
            .map(|(pid, _)| *pid)
            .collect();
        if more.is_empty() {
            family.remove(&std::process::id());
            return family.into_iter().collect();
        }
        family.extend(more);
    }
}

/// Control groups that a runner in this process made.
pub(crate) fn groups() -> Vec<PathBuf> {
    groups_of(std::process::id())
}

/// Control groups that a runner in the process `pid` made.
pub(crate) fn groups_of(pid: u32) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::from("/sys/fs/cgroup")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            let name = entry.file_name().to_string_lossy().into_owned();
            match name.starts_with(&format!("aquifer-job-{pid}-")) {
                true => found.push(entry.path()),
                false => folders.push(entry.path()),
            }
        }
    }
    found
}

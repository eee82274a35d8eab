//! Control groups: memory, processes and processors of a job, held by the kernel.
//!
//! Version 2 wherever it has the controllers, else version 1. A group is made beside or above the
//! runner's own, wherever on the way to the root that is allowed: in version 2 a group that holds
//! processes cannot give controllers to groups below it. Groups are named after their runner's process, so
//! that those of a runner that was killed are found and removed by the next.
//!
//! Not here: what is watched where there are none (`stage/census`).

use crate::job::Budget;
use crate::limits::{GRACE, SQUEEZED, TICK};
use std::cell::Cell;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// What groups of ours are called, before the number of their runner's process.
const NAME: &str = "aquifer-job-";
/// The processes of a stage that are not the job's.
const STAGE_PIDS: u32 = 2;
const PERIOD_US: u64 = 100_000;

static COUNT: AtomicU64 = AtomicU64::new(0);

/// A group of one job; removed when dropped.
#[derive(Debug)]
pub(super) struct Group {
    version: Version,
    memory_bytes: u64,
    squeeze: Cell<Squeeze>,
}

/// Since when a job's memory is full. The kernel kills for want of memory when nothing can be given back;
/// as long as there is a page of the program's own file to be taken and read again, a job may instead
/// go on for ever, at a thousandth of its speed.
#[derive(Clone, Copy, Debug)]
struct Squeeze {
    looked: Instant,
    hits: u64,
    since: Option<Instant>,
}

#[derive(Debug)]
enum Version {
    Two(PathBuf),
    One {
        memory: PathBuf,
        pids: PathBuf,
        cpu: Option<PathBuf>,
        cpuacct: PathBuf,
    },
}

/// What a group tells of its job.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Reading {
    /// Time of processors, in microseconds.
    pub(super) cpu_us: u64,
    /// Most memory at once, in bytes.
    pub(super) memory_peak_bytes: u64,
    /// Whether somebody was killed for want of memory, or ought to be.
    pub(super) is_out_of_memory: bool,
    /// How often a process was refused.
    pub(super) pids_refused: u64,
}

/// Why there is no group.
#[derive(Debug, thiserror::Error)]
#[error("no control group: {0}")]
pub(super) struct NoGroup(String);

impl Group {
    /// A group for a job with this budget.
    pub(super) fn make(budget: &Budget) -> Result<Self, NoGroup> {
        let table = read("/proc/self/mountinfo").map_err(|why| NoGroup(why.to_string()))?;
        let own = read("/proc/self/cgroup").map_err(|why| NoGroup(why.to_string()))?;
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{NAME}{}-{count}", std::process::id());
        let second = Self::two(&table, &own, &name, budget);
        second.or_else(|two| {
            Self::one(&table, &own, &name, budget)
                .map_err(|one| NoGroup(format!("version 2: {two}; version 1: {one}")))
        })
    }

    fn two(table: &str, own: &str, name: &str, budget: &Budget) -> Result<Self, String> {
        let (root, path) = home(table, own, None)?;
        let mut refused = format!("nothing at {}", root.display());
        for above in path
            .ancestors()
            .take_while(|above| above.starts_with(&root))
        {
            match make_in(above, name, true) {
                Ok(dir) => {
                    let group = Self::of(Version::Two(dir), budget);
                    match group.limit(budget) {
                        Ok(()) => return Ok(group),
                        Err(why) => refused = why.to_string(),
                    }
                }
                Err(why) => refused = format!("{}: {why}", above.display()),
            }
        }
        Err(refused)
    }

    fn one(table: &str, own: &str, name: &str, budget: &Budget) -> Result<Self, String> {
        let make = |controller| {
            let (_, path) = home(table, own, Some(controller))?;
            make_in(&path, name, false).map_err(|why| format!("{}: {why}", path.display()))
        };
        let version = Version::One {
            memory: make("memory")?,
            pids: PathBuf::new(),
            cpu: make("cpu").ok(),
            cpuacct: PathBuf::new(),
        };
        let mut group = Self::of(version, budget);
        // Whatever was made is removed with the group if one of them cannot be.
        if let Version::One { pids, cpuacct, .. } = &mut group.version {
            *pids = make("pids")?;
            *cpuacct = make("cpuacct")?;
        }
        group.limit(budget).map_err(|why| why.to_string())?;
        Ok(group)
    }

    fn of(version: Version, budget: &Budget) -> Self {
        Self {
            version,
            memory_bytes: budget.memory_bytes,
            squeeze: Cell::new(Squeeze {
                looked: Instant::now(),
                hits: 0,
                since: None,
            }),
        }
    }

    fn limit(&self, budget: &Budget) -> io::Result<()> {
        let memory = budget.memory_bytes.to_string();
        let most = (budget.pids + STAGE_PIDS).to_string();
        let quota = u64::from(budget.cores) * PERIOD_US / 1_000;
        match &self.version {
            Version::Two(dir) => {
                write(dir, "memory.max", &memory)?;
                // A kernel without swap has no file for it.
                let _ = write(dir, "memory.swap.max", "0");
                write(dir, "pids.max", &most)?;
                // Without this controller the share of processors is not held, and nothing else.
                let _ = write(dir, "cpu.max", &format!("{quota} {PERIOD_US}"));
            }
            Version::One {
                memory: dir,
                pids,
                cpu,
                ..
            } => {
                write(dir, "memory.limit_in_bytes", &memory)?;
                let _ = write(dir, "memory.memsw.limit_in_bytes", &memory);
                write(pids, "pids.max", &most)?;
                if let Some(cpu) = cpu {
                    let _ = write(cpu, "cpu.cfs_period_us", &PERIOD_US.to_string());
                    let _ = write(cpu, "cpu.cfs_quota_us", &quota.to_string());
                }
            }
        }
        Ok(())
    }

    /// Takes a process in, and whatever it starts from now on.
    pub(super) fn add(&self, pid: u32) -> io::Result<()> {
        self.folders()
            .iter()
            .try_for_each(|dir| write(dir, "cgroup.procs", &pid.to_string()))
    }

    /// What the job used up to now.
    pub(super) fn read(&self) -> Reading {
        match &self.version {
            Version::Two(dir) => Reading {
                cpu_us: entry(&dir.join("cpu.stat"), "usage_usec"),
                memory_peak_bytes: number(&dir.join("memory.peak")),
                is_out_of_memory: entry(&dir.join("memory.events"), "oom_kill") > 0
                    || self.is_squeezed(),
                pids_refused: entry(&dir.join("pids.events"), "max"),
            },
            Version::One {
                memory,
                pids,
                cpuacct,
                ..
            } => Reading {
                cpu_us: number(&cpuacct.join("cpuacct.usage")) / 1_000,
                memory_peak_bytes: number(&memory.join("memory.max_usage_in_bytes")),
                is_out_of_memory: entry(&memory.join("memory.oom_control"), "oom_kill") > 0
                    || self.is_squeezed(),
                pids_refused: entry(&pids.join("pids.events"), "max"),
            },
        }
    }

    /// Whether the job has for some time wanted more than it may have, while nearly all that it has is
    /// memory that no file holds. Looked at now and then.
    fn is_squeezed(&self) -> bool {
        let mut squeeze = self.squeeze.get();
        let now = Instant::now();
        if now - squeeze.looked < 4 * TICK {
            return false;
        }
        let (hits, held) = match &self.version {
            Version::Two(dir) => {
                let stat = dir.join("memory.stat");
                let held = entry(&stat, "anon") + entry(&stat, "shmem");
                (entry(&dir.join("memory.events"), "max"), held)
            }
            Version::One { memory, .. } => {
                let stat = memory.join("memory.stat");
                let held = entry(&stat, "rss") + entry(&stat, "shmem");
                (number(&memory.join("memory.failcnt")), held)
            }
        };
        let is_full = hits > squeeze.hits && held > self.memory_bytes / 32 * 31;
        squeeze.since = is_full.then(|| squeeze.since.unwrap_or(now));
        (squeeze.looked, squeeze.hits) = (now, hits);
        self.squeeze.set(squeeze);
        squeeze.since.is_some_and(|since| now - since > SQUEEZED)
    }

    /// Kills all in it at once, where the kernel can do that.
    pub(super) fn kill(&self) {
        if let Version::Two(dir) = &self.version {
            // Kernels before 5.14 have no such file; the runner kills the stage besides.
            let _ = write(dir, "cgroup.kill", "1");
        }
    }

    /// What holds memory, processes and the share of processors, each by its name; nothing for the last
    /// where it is not held.
    pub(super) fn names(&self) -> (String, String, Option<String>) {
        match &self.version {
            Version::Two(dir) => (
                "cgroup v2 memory.max".to_owned(),
                "cgroup v2 pids.max".to_owned(),
                dir.join("cpu.max")
                    .exists()
                    .then(|| "cgroup v2 cpu.max".to_owned()),
            ),
            Version::One { cpu, .. } => (
                "cgroup v1 memory.limit_in_bytes".to_owned(),
                "cgroup v1 pids.max".to_owned(),
                cpu.as_ref()
                    .filter(|cpu| cpu.join("cpu.cfs_quota_us").exists())
                    .map(|_| "cgroup v1 cpu.cfs_quota_us".to_owned()),
            ),
        }
    }

    fn folders(&self) -> Vec<&Path> {
        let all = match &self.version {
            Version::Two(dir) => vec![Some(dir)],
            Version::One {
                memory,
                pids,
                cpu,
                cpuacct,
            } => vec![Some(memory), Some(pids), cpu.as_ref(), Some(cpuacct)],
        };
        let mut all: Vec<&Path> = all.into_iter().flatten().map(PathBuf::as_path).collect();
        all.retain(|dir| !dir.as_os_str().is_empty());
        // Controllers that are mounted together share a folder.
        all.dedup();
        all
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Who was killed may take a moment to be gone.
        let until = Instant::now() + GRACE;
        for dir in self.folders() {
            while fs::remove_dir(dir).is_err_and(|why| why.kind() != io::ErrorKind::NotFound) {
                if Instant::now() > until {
                    break;
                }
                sleep(Duration::from_millis(1));
            }
        }
    }
}

/// Makes a group in `above`, with controllers if they have to be given, and clears away those whose
/// runner is gone.
fn make_in(above: &Path, name: &str, has_to_give: bool) -> io::Result<PathBuf> {
    sweep(above);
    let dir = above.join(name);
    match fs::create_dir(&dir) {
        // Controllers that are mounted together share a folder.
        Err(why) if why.kind() == io::ErrorKind::AlreadyExists => {}
        made => made?,
    }
    let has = |controller: &str| dir.join(format!("{controller}.max")).exists();
    for controller in ["memory", "pids", "cpu"] {
        if has_to_give && !has(controller) {
            // Each by itself, as one that is not there fails all.
            let _ = write(above, "cgroup.subtree_control", &format!("+{controller}"));
        }
    }
    if has_to_give && !(has("memory") && has("pids")) {
        fs::remove_dir(&dir)?;
        return Err(io::Error::other("it gives no memory and pids controllers"));
    }
    Ok(dir)
}

/// Removes groups that a runner which is no more has left. Those in use cannot be removed.
fn sweep(above: &Path) {
    let Ok(entries) = fs::read_dir(above) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some(runner) = name.to_str().and_then(|name| name.strip_prefix(NAME)) else {
            continue;
        };
        let pid = runner.split('-').next().unwrap_or_default();
        if !Path::new("/proc").join(pid).exists() {
            let _ = fs::remove_dir(entry.path());
        }
    }
}

/// Where a hierarchy is mounted, and the folder of this process in it: of `controller` in version 1, of
/// version 2 if there is none.
fn home(table: &str, own: &str, controller: Option<&str>) -> Result<(PathBuf, PathBuf), String> {
    let kind = if controller.is_some() {
        "cgroup"
    } else {
        "cgroup2"
    };
    let mount = table.lines().find_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        let mut after = after.split(' ');
        let is_kind = after.next() == Some(kind);
        let has = |name: &str| {
            after
                .nth(1)
                .is_some_and(|all| all.split(',').any(|a| a == name))
        };
        let mut before = before.split(' ').skip(3);
        (is_kind && controller.is_none_or(has)).then_some((before.next()?, before.next()?))
    });
    let name = controller.unwrap_or("version 2");
    let (from, mount) = mount.ok_or_else(|| format!("{name} is not mounted"))?;
    let path = own.lines().find_map(|line| {
        let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
        let is_it = match controller {
            None => controllers.is_empty(),
            Some(name) => controllers.split(',').any(|one| one == name),
        };
        is_it.then_some(path)
    });
    let path = path.ok_or_else(|| format!("this process is in no group of {name}"))?;
    // A container's mount may begin below the root of the hierarchy.
    let below = path
        .strip_prefix(from.trim_end_matches('/'))
        .unwrap_or(path);
    let root = PathBuf::from(mount);
    let dir = root.join(below.trim_start_matches('/'));
    Ok((root, dir))
}

fn read(path: impl AsRef<Path>) -> io::Result<String> {
    fs::read_to_string(path)
}

fn write(dir: &Path, file: &str, text: &str) -> io::Result<()> {
    fs::write(dir.join(file), text)
        .map_err(|why| io::Error::new(why.kind(), format!("{}/{file}: {why}", dir.display())))
}

/// The number that a file holds; 0 if it holds none.
fn number(path: &Path) -> u64 {
    read(path)
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(0)
}

/// The number after `name` in a file of names and numbers; 0 if there is none.
fn entry(path: &Path, name: &str) -> u64 {
    let text = read(path).unwrap_or_default();
    let found = text.lines().find_map(|line| {
        let (key, value) = line.split_once(' ')?;
        (key == name).then(|| value.trim().parse().ok())?
    });
    found.unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
30 24 0:26 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
31 24 0:27 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:9 - cgroup cgroup rw,cpu,cpuacct
32 24 0:28 /docker/x /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw,nsdelegate";

    #[test]
    fn the_own_group_is_found_in_either_version() {
        let own = "8:cpu,cpuacct:/\n4:memory:/a/b\n0::/docker/x/y";
        let found = |controller| home(TABLE, own, controller).map(|(_, path)| path);
        let path = |text: &str| Ok(PathBuf::from(text));
        assert_eq!(found(Some("memory")), path("/sys/fs/cgroup/memory/a/b"));
        assert_eq!(found(Some("cpuacct")), path("/sys/fs/cgroup/cpu,cpuacct/"));
        assert_eq!(found(None), path("/sys/fs/cgroup/unified/y"));
        assert!(found(Some("pids")).is_err());
    }
}

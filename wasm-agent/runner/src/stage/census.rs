//! A census: what all processes of a job use together, as the `/proc` of their namespace tells.
//!
//! Taken every few milliseconds where no control group holds memory and processor time. A page that two
//! processes share after a fork counts for both: a job is rather stopped too early than too late. Memory
//! that is mapped by nobody any more but still in a shared mapping is not seen; the limits on addresses
//! and data (`shed`) bound that.
//!
//! Not here: what is done about it (`first`).

use nix::unistd::{SysconfVar, sysconf};
use std::fs;

/// What is used.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Census {
    /// Memory that is no file's, now.
    pub(super) memory_bytes: u64,
    /// Time of processors, ever, in microseconds.
    pub(super) cpu_us: u64,
}

/// Time of processors of one process and of all that it waited for, in microseconds, from its start to
/// its end: it may have ended, if it was not waited for.
pub(crate) fn cpu_us(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    ticks_of(&stat) * tick_us()
}

fn tick_us() -> u64 {
    let ticks = sysconf(SysconfVar::CLK_TCK).ok().flatten().unwrap_or(100);
    1_000_000 / u64::try_from(ticks).unwrap_or(100).max(1)
}

/// Counts. Who ends meanwhile is not counted.
pub(super) fn take() -> Census {
    let tick_us = tick_us();
    let mut census = Census::default();
    let Ok(processes) = fs::read_dir("/proc") else {
        return census;
    };
    for process in processes.flatten() {
        let name = process.file_name();
        if !name
            .to_string_lossy()
            .starts_with(|c: char| c.is_ascii_digit())
        {
            continue;
        }
        let text = |file| fs::read_to_string(process.path().join(file)).unwrap_or_default();
        census.memory_bytes += memory(&text("status"));
        census.cpu_us += ticks_of(&text("stat")) * tick_us;
    }
    census
}

/// Bytes in memory that no file holds, as `/proc/PID/status` says.
fn memory(status: &str) -> u64 {
    let kilobytes = |line: &str| {
        let rest = line
            .strip_prefix("RssAnon:")
            .or_else(|| line.strip_prefix("RssShmem:"))?;
        rest.trim().strip_suffix(" kB")?.parse::<u64>().ok()
    };
    status.lines().filter_map(kilobytes).sum::<u64>() * 1_024
}

/// Ticks of a process and of the children that it waited for, as `/proc/PID/stat` says. The name in it
/// may hold anything, so what counts comes after its last bracket.
fn ticks_of(stat: &str) -> u64 {
    let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let times = rest.split_whitespace().skip(11).take(4);
    times.filter_map(|time| time.parse::<u64>().ok()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_proc_says_is_read_whatever_a_process_calls_itself() {
        let stat = "7 (a) R) 1 2) S 1 7 7 0 -1 4194304 90 0 0 0 3 4 5 6 20 0 1 0 22 33";
        assert_eq!(ticks_of(stat), 3 + 4 + 5 + 6);
        assert_eq!(ticks_of("nonsense"), 0);
        let status =
            "Name:\tx\nVmRSS:\t 9 kB\nRssAnon:\t 100 kB\nRssFile:\t 5 kB\nRssShmem:\t 28 kB\n";
        assert_eq!(memory(status), 128 * 1_024);
    }

    #[test]
    fn who_counts_is_counted() {
        let census = take();
        assert!(census.memory_bytes > 100_000, "{census:?}");
    }
}

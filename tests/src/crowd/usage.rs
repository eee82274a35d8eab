//! Usage: what the kernel says that processes and the loopback device took, by `/proc`.

use serde::Serialize;
use std::time::Duration;

/// The unit of times in `/proc/PID/stat`: a hundredth of a second, on every Linux (`USER_HZ`).
const TICK: Duration = Duration::from_millis(10);

/// Fields of `/proc/PID/stat` between the closing bracket of the name and `utime`.
const BEFORE_UTIME: usize = 11;

/// Memory of one process, in KiB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// Resident now: `VmRSS`.
    pub resident: u64,
    /// The most that ever was resident: `VmHWM`.
    pub peak: u64,
    /// Of `resident`, what is not shared with a file: `RssAnon`.
    pub own: u64,
}

/// The memory of process `pid`; nothing if it is gone or this is no Linux.
#[must_use]
pub fn memory(pid: u32) -> Option<Memory> {
    memory_in(&std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?)
}

fn memory_in(status: &str) -> Option<Memory> {
    let field = |name: &str| {
        let mut lines = status.lines();
        let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        value.trim().strip_suffix("kB")?.trim().parse().ok()
    };
    Some(Memory {
        resident: field("VmRSS")?,
        peak: field("VmHWM")?,
        own: field("RssAnon")?,
    })
}

/// Processor time that all threads of process `pid` took so far, of users and of the kernel.
#[must_use]
pub fn processor(pid: u32) -> Option<Duration> {
    processor_in(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

fn processor_in(stat: &str) -> Option<Duration> {
    // The name may hold anything, brackets and spaces too.
    let (_, fields) = stat.rsplit_once(')')?;
    let times = fields.split_whitespace().skip(BEFORE_UTIME).take(2);
    let ticks: Option<u32> = times.map(|field| field.parse::<u32>().ok()).sum();
    ticks.map(|ticks| TICK * ticks)
}

/// Bytes that passed the loopback device of this network namespace so far, all headers included.
#[must_use]
pub fn loopback() -> Option<u64> {
    loopback_in(&std::fs::read_to_string("/proc/self/net/dev").ok()?)
}

fn loopback_in(dev: &str) -> Option<u64> {
    let mut lines = dev.lines();
    let counts = lines.find_map(|line| line.trim().strip_prefix("lo:"))?;
    counts.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_files_are_read_and_others_are_not() {
        let status = "Name:\tx\nVmHWM:\t  900 kB\nVmRSS:\t  800 kB\nRssAnon:\t 70 kB\n";
        let memory = Memory {
            resident: 800,
            peak: 900,
            own: 70,
        };
        assert_eq!(Some(memory), memory_in(status));
        assert_eq!(None, memory_in("VmRSS: 800 kB"));
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4 10 0 0 0 25 17 0 0 20 0 5 0 99";
        assert_eq!(Some(Duration::from_millis(420)), processor_in(stat));
        assert_eq!(None, processor_in("7 (a"));
        let dev = "Inter-| Receive\n face |bytes\n    lo: 1234 9 0 0\n  eth0: 5 5 5\n";
        assert_eq!(Some(1_234), loopback_in(dev));
        assert_eq!(None, loopback_in("eth0: 5"));
    }
}

//! What the machine has spent so far.

use aquifer_simulator::swarm::report::Cost;
use rustix::time::{ClockId, clock_gettime};
use std::time::Instant;

/// Counts from here on.
pub(crate) struct Meter {
    began: Instant,
    cpu: f64,
    setup: f64,
}

impl Meter {
    pub(crate) fn begin() -> Self {
        Self {
            began: Instant::now(),
            cpu: cpu_seconds(),
            setup: 0.0,
        }
    }

    /// What was spent so far was for getting ready.
    pub(crate) fn ready(&mut self) {
        self.setup = cpu_seconds() - self.cpu;
    }

    /// What was spent since.
    pub(crate) fn cost(&self) -> Cost {
        Cost {
            cpu_seconds: cpu_seconds() - self.cpu,
            setup_seconds: self.setup,
            wall_seconds: self.began.elapsed().as_secs_f64(),
            rss_bytes: most_resident(),
        }
    }
}

/// Processor time of this process, all threads together.
fn cpu_seconds() -> f64 {
    let spent = clock_gettime(ClockId::ProcessCPUTime);
    spent.tv_sec as f64 + spent.tv_nsec as f64 / 1e9
}

/// The most that it ever held in memory, where the system says so.
fn most_resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

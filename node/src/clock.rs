//! The only place that reads the operating system's clock and entropy.
//!
//! The core wants a time that never goes back and does not jump with every correction, so the wall
//! clock is read once and carried on by the monotonic one. It is anchored anew only when the wall
//! clock has run well ahead (a suspended laptop wakes), never when it steps back.

use aquifer_protocol::{Seed, Time};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How far the wall clock may run ahead before it is believed.
const DRIFT_MAX: Duration = Duration::from_secs(1);

/// A clock that never goes back.
#[derive(Debug)]
pub struct Clock {
    anchor: Mutex<(Time, Instant)>,
    /// By how many milliseconds it is wrong, on purpose.
    shift_ms: i64,
}

impl Clock {
    /// Anchored now.
    pub fn start() -> Self {
        Self::shifted(0)
    }

    /// Anchored now, for a machine whose clock is `shift_ms` milliseconds ahead of this one's: for
    /// tests. No flag and no file can set it.
    pub fn shifted(shift_ms: i64) -> Self {
        Self {
            anchor: Mutex::new((shifted(wall(), shift_ms), Instant::now())),
            shift_ms,
        }
    }

    /// The time now.
    pub fn now(&self) -> Time {
        let mut anchor = self.anchor.lock().unwrap_or_else(PoisonError::into_inner);
        let carried = anchor.0 + anchor.1.elapsed();
        let wall = shifted(wall(), self.shift_ms);
        if wall > carried + DRIFT_MAX {
            *anchor = (wall, Instant::now());
            return wall;
        }
        carried
    }
}

fn shifted(time: Time, shift_ms: i64) -> Time {
    Time::from_millis(time.millis().saturating_add_signed(shift_ms))
}

/// What `work` comes to, and how long it took.
pub fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let begun = Instant::now();
    let done = work();
    (done, begun.elapsed())
}

/// Milliseconds since this machine was booted, those it slept through included: by this hosts keep
/// their word to each other.
pub fn boot_ms() -> u64 {
    #[cfg(target_os = "linux")]
    let clock = rustix::time::ClockId::Boottime;
    #[cfg(not(target_os = "linux"))]
    let clock = rustix::time::ClockId::Monotonic;
    let now = rustix::time::clock_gettime(clock);
    now.tv_sec as u64 * 1_000 + now.tv_nsec as u64 / 1_000_000
}

/// How long something takes.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Begins now.
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Since it began.
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }

    /// What is left of `patience`.
    pub fn left(&self, patience: Duration) -> Duration {
        patience.saturating_sub(self.elapsed())
    }
}

/// What the wall clock says.
pub fn wall() -> Time {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Time::ZERO + since
}

/// `N` bytes of the operating system's entropy.
///
/// # Panics
/// If the operating system has none to give: no key could be made then.
pub fn entropy<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the operating system gives entropy");
    bytes
}

/// A seed for one run of a replica.
pub fn seed() -> Seed {
    Seed(entropy())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_never_goes_back_and_stays_near_the_wall() {
        let clock = Clock::start();
        let mut last = clock.now();
        for _ in 0..1_000 {
            let now = clock.now();
            assert!(now >= last);
            last = now;
        }
        assert!(wall().since(last) < DRIFT_MAX * 2);
    }
}

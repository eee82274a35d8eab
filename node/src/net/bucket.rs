//! A leaky bucket: so much at once, and then so much a second.
//!
//! Kept as one instant, the one at which all that was taken would have been, at the rate allowed
//! (the virtual scheduling form of GCRA, ITU-T I.371). It needs no timer and forgets nothing.
//!
//! Not here: who is held to it (`gated/pace`, `door`), and the turns of a writer, which keep the
//! core's own time.

use std::time::Duration;

use tokio::time::Instant;

/// What a bucket allows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rate {
    /// From one to the next, on the average.
    pub(super) apart: Duration,
    /// So many may come at once after a silence.
    pub(super) burst: u32,
}

/// What has been taken, at one rate.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Bucket {
    spent: Option<Instant>,
}

impl Bucket {
    /// When the next may be taken; `None` if now.
    pub(super) fn due(&self, rate: Rate, now: Instant) -> Option<Instant> {
        let due = self.spent? - rate.apart * (rate.burst - 1);
        (due > now).then_some(due)
    }

    /// One is taken.
    pub(super) fn take(&mut self, rate: Rate, now: Instant) {
        self.spent = Some(self.spent.map_or(now, |spent| spent.max(now)) + rate.apart);
    }

    /// Nothing that was taken counts any more: the same as a new one.
    pub(super) fn is_idle(&self, now: Instant) -> bool {
        self.spent.is_none_or(|spent| spent <= now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate {
        apart: Duration::from_micros(250),
        burst: 250,
    };

    #[test]
    fn a_burst_passes_at_once_and_the_rest_at_the_rate() {
        let start = Instant::now();
        let mut bucket = Bucket::default();
        let mut taken = 0;
        for tick in 0..10_000 {
            let now = start + Duration::from_millis(1) * tick;
            while bucket.due(RATE, now).is_none() {
                bucket.take(RATE, now);
                taken += 1;
            }
            if tick == 0 {
                assert_eq!(RATE.burst, taken);
            }
        }
        assert_eq!(RATE.burst + 4 * 9_999, taken, "four in a millisecond");
    }

    #[test]
    fn who_is_slow_never_waits_and_gains_nothing_by_it() {
        let start = Instant::now();
        let mut bucket = Bucket::default();
        for second in 0..100 {
            let now = start + Duration::from_secs(1) * second;
            assert!(bucket.is_idle(now));
            assert_eq!(None, bucket.due(RATE, now));
            bucket.take(RATE, now);
            assert!(!bucket.is_idle(now));
        }
        let now = start + Duration::from_secs(1_000);
        let burst = (0..).take_while(|_| {
            let may = bucket.due(RATE, now).is_none();
            bucket.take(RATE, now);
            may
        });
        assert_eq!(RATE.burst as usize, burst.count());
    }
}

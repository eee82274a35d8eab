//! How fast one connection may give a behaviour work.
//!
//! What a handler reports is handled by the one task that all connections share, so a peer that says
//! little things without end (a gossip of prunes, a hundred thousand a second) would make every other
//! wait. A connection that has reported a burst is read only as fast as this allows; the rest stays
//! on the wire, where flow control holds the peer. Nothing is lost by it, and an honest peer, which
//! sends a message for each that it has heard, is far below.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// From one report to the next, on the average: 4,000 a second.
const APART: Duration = Duration::from_micros(250);

/// Reports that may come at once after a silence.
pub(super) const BURST: u32 = 250;

/// When the next report of a connection is due, and who waits for it.
#[derive(Default)]
pub(super) struct Pace {
    /// When all that was reported would have been, at the pace allowed.
    spent: Option<Instant>,
    wait: Option<Pin<Box<Sleep>>>,
}

impl Pace {
    /// Ready if something may be reported; if not, wakes when it may.
    pub(super) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(due) = self.due(Instant::now()) {
            let wait = self.wait.get_or_insert_with(|| Box::pin(sleep_until(due)));
            if wait.deadline() != due {
                wait.as_mut().reset(due);
            }
            ready!(wait.as_mut().poll(cx));
        }
        Poll::Ready(())
    }

    /// When the next may be reported; `None` if now.
    fn due(&self, now: Instant) -> Option<Instant> {
        let due = self.spent? - APART * (BURST - 1);
        (due > now).then_some(due)
    }

    /// Something is reported.
    pub(super) fn report(&mut self, now: Instant) {
        self.spent = Some(self.spent.map_or(now, |spent| spent.max(now)) + APART);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_at_once_and_the_rest_at_the_pace() {
        let start = Instant::now();
        let mut pace = Pace::default();
        let mut reported = 0;
        for tick in 0..10_000 {
            let now = start + Duration::from_millis(1) * tick;
            while pace.due(now).is_none() {
                pace.report(now);
                reported += 1;
            }
            if tick == 0 {
                assert_eq!(BURST, reported);
            }
        }
        assert_eq!(BURST + 4 * 9_999, reported, "four in a millisecond");
    }

    #[test]
    fn who_is_slow_never_waits_and_gains_nothing_by_it() {
        let start = Instant::now();
        let mut pace = Pace::default();
        for second in 0..100 {
            let now = start + Duration::from_secs(1) * second;
            assert_eq!(None, pace.due(now));
            pace.report(now);
        }
        let now = start + Duration::from_secs(1_000);
        let burst = (0..).take_while(|_| {
            let may = pace.due(now).is_none();
            pace.report(now);
            may
        });
        assert_eq!(BURST as usize, burst.count());
    }
}

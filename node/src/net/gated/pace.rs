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

use crate::net::bucket::{Bucket, Rate};

/// 4,000 reports a second.
const REPORTS: Rate = Rate {
    apart: Duration::from_micros(250),
    burst: 250,
};

/// When the next report of a connection is due, and who waits for it.
#[derive(Default)]
pub(super) struct Pace {
    reported: Bucket,
    wait: Option<Pin<Box<Sleep>>>,
}

impl Pace {
    /// Ready if something may be reported; if not, wakes when it may.
    pub(super) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(due) = self.reported.due(REPORTS, Instant::now()) {
            let wait = self.wait.get_or_insert_with(|| Box::pin(sleep_until(due)));
            if wait.deadline() != due {
                wait.as_mut().reset(due);
            }
            ready!(wait.as_mut().poll(cx));
        }
        Poll::Ready(())
    }

    /// Something is reported.
    pub(super) fn report(&mut self, now: Instant) {
        self.reported.take(REPORTS, now);
    }
}

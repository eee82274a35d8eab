//! The slices of one fetch: which wait, and which are under way with somebody.

use crate::clock::Stopwatch;
use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// A slice that somebody owes for so long may be asked of one more, once nothing else waits.
const OWED_TOO_LONG: Duration = Duration::from_secs(3);
/// To so many a slice is asked of at once.
const ASKED_MAX: u8 = 2;

/// What is left to fetch. Holders draw from it at the same time.
pub(super) struct Queue {
    work: Mutex<Work>,
    changed: Notify,
}

#[derive(Default)]
struct Work {
    waiting: VecDeque<Range<u64>>,
    owed: BTreeMap<u64, Owed>,
    settled: u64,
}

struct Owed {
    groups: Range<u64>,
    since: Stopwatch,
    asked: u8,
}

impl Queue {
    /// These slices, in this order.
    pub(super) fn of(slices: Vec<Range<u64>>) -> Self {
        let work = Work {
            waiting: slices.into(),
            ..Work::default()
        };
        Self {
            work: Mutex::new(work),
            changed: Notify::new(),
        }
    }

    /// The next slice to ask for; `mine` are those under way with the asker.
    pub(super) fn take(&self, mine: &VecDeque<Range<u64>>) -> Option<Range<u64>> {
        let mut work = self.work();
        if let Some(groups) = work.waiting.pop_front() {
            let owed = Owed {
                groups: groups.clone(),
                since: Stopwatch::start(),
                asked: 1,
            };
            work.owed.insert(groups.start, owed);
            return Some(groups);
        }
        let late = |owed: &&mut Owed| {
            owed.asked < ASKED_MAX
                && owed.since.elapsed() >= OWED_TOO_LONG
                && !mine.contains(&owed.groups)
        };
        let owed = work.owed.values_mut().find(late)?;
        owed.asked += 1;
        Some(owed.groups.clone())
    }

    /// A slice did not come from one that owed it.
    pub(super) fn back(&self, groups: Range<u64>) {
        let mut work = self.work();
        if let Some(owed) = work.owed.get_mut(&groups.start) {
            owed.asked -= 1;
            if owed.asked == 0 {
                work.owed.remove(&groups.start);
                work.waiting.push_front(groups);
            }
        }
        drop(work);
        self.changed.notify_waiters();
    }

    /// A slice is here.
    pub(super) fn done(&self, groups: &Range<u64>) {
        let mut work = self.work();
        work.owed.remove(&groups.start);
        work.settled += 1;
        let over = work.waiting.is_empty() && work.owed.is_empty();
        drop(work);
        if over {
            self.changed.notify_waiters();
        }
    }

    /// How many times a slice came.
    pub(super) fn settled(&self) -> u64 {
        self.work().settled
    }

    /// Whether every slice is here.
    pub(super) fn is_done(&self) -> bool {
        let work = self.work();
        work.waiting.is_empty() && work.owed.is_empty()
    }

    /// Waits until a slice came back, or all are here. What happens before the wait begins is missed:
    /// wait for a time, and look.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    fn work(&self) -> MutexGuard<'_, Work> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_is_owed_by_one_and_comes_back_if_that_one_fails() {
        let queue = Queue::of(vec![0..64, 64..70]);
        let mine = VecDeque::new();
        assert_eq!(queue.take(&mine), Some(0..64));
        assert_eq!(queue.take(&mine), Some(64..70));
        assert_eq!(queue.take(&mine), None, "not late yet");
        queue.back(0..64);
        assert_eq!(queue.take(&mine), Some(0..64));
        queue.done(&(0..64));
        queue.back(0..64);
        assert_eq!(queue.take(&mine), None, "what came does not come back");
        assert!(!queue.is_done());
        queue.done(&(64..70));
        assert!(queue.is_done() && queue.settled() == 2);
    }
}

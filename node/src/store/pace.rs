//! Pace: how long the disk takes to make a batch durable, and whether it has room.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A disk that takes longer than this for half of its commits is slow: people notice.
const SLOW_COMMIT: Duration = Duration::from_millis(200);
/// So many commits are looked back on.
const COMMITS: usize = 32;

/// How a node's store is doing. Cheap to clone; what the driver notes, readers see.
#[derive(Clone, Debug, Default)]
pub struct Health(Arc<Mutex<Noted>>);

#[derive(Debug, Default)]
struct Noted {
    last: VecDeque<Duration>,
    full: bool,
    free_bytes: Option<u64>,
}

/// What is known of the disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pace {
    /// The median time of the last commits; none if nothing was written yet.
    pub commit: Option<Duration>,
    /// Whether that is too long.
    pub slow: bool,
    /// Whether the node takes no new records for want of room.
    pub full: bool,
    /// Free bytes where the home is, if that is known.
    pub free_bytes: Option<u64>,
}

impl Health {
    /// How the store is doing now.
    pub fn pace(&self) -> Pace {
        let noted = self.noted();
        let mut last: Vec<Duration> = noted.last.iter().copied().collect();
        last.sort_unstable();
        let commit = last.get(last.len() / 2).copied();
        Pace {
            commit,
            slow: commit.is_some_and(|median| median > SLOW_COMMIT),
            full: noted.full,
            free_bytes: noted.free_bytes,
        }
    }

    /// A commit took so long.
    pub(super) fn committed(&self, took: Duration) {
        let mut noted = self.noted();
        if noted.last.len() >= COMMITS {
            noted.last.pop_front();
        }
        noted.last.push_back(took);
    }

    /// The disk has room, or not.
    pub(crate) fn has_room(&self, full: bool, free_bytes: Option<u64>) {
        let mut noted = self.noted();
        noted.full = full;
        noted.free_bytes = free_bytes;
    }

    fn noted(&self) -> MutexGuard<'_, Noted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_slow_when_half_of_its_last_commits_are() {
        let health = Health::default();
        assert_eq!(health.pace().commit, None);
        health.committed(Duration::from_secs(3));
        assert!(health.pace().slow);
        (0..COMMITS).for_each(|_| health.committed(Duration::from_millis(1)));
        let pace = health.pace();
        assert!(!pace.slow && pace.commit == Some(Duration::from_millis(1)));
    }
}

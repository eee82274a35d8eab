//! Room: whether the disk has any, and a little kept back for forgetting.
//!
//! When less is free than the reserve, the node takes no new records: what it has must stay
//! readable, and erasable. A file in the home holds some bytes for that; it is given up when even
//! those are needed, and made again when there is room. T30.

use super::Health;
use crate::home::Home;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

/// How often the file system is asked.
pub(crate) const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The file that is kept back, and the most it takes.
const RESERVE_FILE: &str = "store.reserve";
const RESERVE_BYTES_MAX: u64 = 1 << 20;

/// The room on the disk of a home.
#[derive(Debug)]
pub(crate) struct Room {
    home: PathBuf,
    reserve: PathBuf,
    /// Below so many free bytes there is too little; 0 if that is not looked at.
    low_bytes: u64,
    full: bool,
    health: Health,
}

impl Room {
    /// Of the disk that `home` is on; too little is less than `low_bytes`.
    pub(crate) fn of(home: &Home, low_bytes: u64, health: Health) -> Self {
        let mut room = Self {
            home: home.path().to_owned(),
            reserve: home.file(RESERVE_FILE),
            low_bytes,
            full: false,
            health,
        };
        room.look();
        room
    }

    /// Whether there is too little.
    pub(crate) fn is_full(&self) -> bool {
        self.full
    }

    /// Looks again. True if the answer has changed.
    pub(crate) fn look(&mut self) -> bool {
        let Some(free) = free_bytes(&self.home) else {
            // Not to be known here: what a write finds decides.
            let changed = std::mem::take(&mut self.full);
            self.health.has_room(false, None);
            return changed;
        };
        let before = self.full;
        let kept = self.reserve.exists();
        // A quarter more to come back than to stop, and the reserve too: no flapping.
        let enough =
            self.low_bytes + self.low_bytes / 4 + if kept { 0 } else { self.reserve_bytes() };
        self.full = if before {
            free < enough
        } else {
            free < self.low_bytes
        };
        if !self.full && !kept && free >= enough {
            self.keep_back();
        }
        if self.full && kept && free < self.reserve_bytes() {
            self.give_up();
        }
        self.health.has_room(self.full, Some(free));
        self.full != before
    }

    /// A write found no room at all.
    pub(crate) fn ran_out(&mut self) {
        self.full = true;
        self.give_up();
        self.health.has_room(true, free_bytes(&self.home));
    }

    fn reserve_bytes(&self) -> u64 {
        RESERVE_BYTES_MAX.min(self.low_bytes / 8)
    }

    /// Real bytes, not a hole: only those are there when they are needed.
    fn keep_back(&self) {
        let write = || -> std::io::Result<()> {
            let mut file = std::fs::File::create(&self.reserve)?;
            let block = [0x5a; 64 << 10];
            let mut left = self.reserve_bytes();
            while left > 0 {
                let some = left.min(block.len() as u64);
                file.write_all(&block[..some as usize])?;
                left -= some;
            }
            file.sync_all()
        };
        if write().is_err() {
            self.give_up();
        }
    }

    fn give_up(&self) {
        let _ = std::fs::remove_file(&self.reserve);
    }
}

/// The bytes that may still be written where `path` is; none if that is not known here.
#[cfg(unix)]
pub(crate) fn free_bytes(path: &std::path::Path) -> Option<u64> {
    let found = rustix::fs::statvfs(path).ok()?;
    Some(found.f_bavail.saturating_mul(found.f_frsize))
}

#[cfg(not(unix))]
pub(crate) fn free_bytes(_: &std::path::Path) -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_full_below_the_reserve_and_well_again_above_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let home = Home::at(Some(folder.path().to_owned()));
        let free = free_bytes(folder.path()).expect("known here");
        let mut room = Room::of(&home, 8 << 10, Health::default());
        assert!(!room.is_full() && home.file(RESERVE_FILE).exists());
        room.low_bytes = free.saturating_mul(2);
        assert!(room.look() && room.is_full(), "less is free than that");
        room.low_bytes = 8 << 10;
        assert!(room.look() && !room.is_full());
        room.ran_out();
        assert!(room.is_full() && !home.file(RESERVE_FILE).exists());
        assert!(room.look() && home.file(RESERVE_FILE).exists());
    }
}

//! sled behind the core's `Store`: selectable, for topics that restrict nothing.
//!
//! One tree holds every table, each under a byte of its own, so that a batch is one sled batch, which
//! sled recovers whole or not at all. sled itself only asks the kernel to start writing
//! (`sync_file_range`), and leaves large values unsynced: an fdatasync of its file, and of any new
//! file for a large value, comes before a batch counts as done.
//!
//! sled has no snapshots. Each commit leaves behind what it overwrote, chained from the generation
//! before it to the one it made. A reader of an old generation looks along that chain first, so it
//! sees one commit and never a mixture; the chain goes with the last reader that needs it.

use super::engine::{Engine, OpenEngine, Reader, failure, guarded, no_room, read_only};
use super::room::free_bytes;
use aquifer_protocol::{Batch, Store, StoreFailure, Table};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock, Weak};

const CACHE_BYTES: u64 = 16 << 20;
/// How often sled's own thread moves live data out of old segments.
const TIDY_EVERY_MS: u64 = 500;
/// Room for some segments of its log (512 KiB each): with less it is not written to.
const ROOM_BYTES: u64 = 4 << 20;
/// A reader that is so many commits behind is told to begin anew: more than the recall index can be
/// (`indexer::QUEUE`).
const GENERATIONS_MAX: usize = 16_384;
/// How many entries a scan reads between two moments at which a commit may pass.
const STRETCH: usize = 256;

/// An open sled database.
pub(super) struct SledEngine {
    pages: Arc<Pages>,
    newest: Arc<Generation>,
    /// The generations that some reader may still hold, oldest first.
    older: VecDeque<Weak<Generation>>,
    files: Files,
    /// Whether the last batch was turned away before the engine saw it.
    unharmed: bool,
}

struct Pages {
    db: sled::Db,
    /// Held while a batch changes the tree and leaves behind what it overwrote.
    gate: RwLock<()>,
}

/// One commit. What the next one overwrote is added when it comes.
#[derive(Default)]
struct Generation {
    after: RwLock<After>,
}

#[derive(Default)]
enum After {
    /// No commit came after it.
    #[default]
    Nothing,
    /// The values that the next commit changed, as they were, and that commit.
    Commit(BTreeMap<Vec<u8>, Option<Bytes>>, Arc<Generation>),
    /// Too many.
    TooMany,
}

/// The store as of one commit.
struct Seen {
    pages: Arc<Pages>,
    at: Arc<Generation>,
}

fn key_in(table: Table, key: &[u8]) -> Vec<u8> {
    [&[table as u8], key].concat()
}

impl SledEngine {
    /// Opens the database in the folder `path`, or makes it.
    pub(super) fn open(path: &Path) -> Result<Self, OpenEngine> {
        let db = sled::Config::new()
            .path(path)
            .cache_capacity(CACHE_BYTES)
            .flush_every_ms(Some(TIDY_EVERY_MS))
            .open()?;
        let files = Files::open(path).map_err(OpenEngine::Io)?;
        let gate = RwLock::new(());
        Ok(Self {
            pages: Arc::new(Pages { db, gate }),
            newest: Arc::default(),
            older: VecDeque::new(),
            files,
            unharmed: false,
        })
    }

    fn write(&mut self, batch: &Batch) -> Result<(), sled::Error> {
        let mut overwritten = BTreeMap::new();
        let mut changes = sled::Batch::default();
        for (table, key, value) in batch.iter() {
            let key = key_in(table, key);
            let before = self.pages.db.get(&key)?;
            overwritten.insert(key.clone(), before.map(|v| Bytes::copy_from_slice(&v)));
            match value {
                Some(value) => changes.insert(key, value.as_ref()),
                None => changes.remove(key),
            }
        }
        let next = Arc::new(Generation::default());
        {
            let _passing = self
                .pages
                .gate
                .write()
                .unwrap_or_else(PoisonError::into_inner);
            self.newest
                .becomes(After::Commit(overwritten, next.clone()));
            self.pages.db.apply_batch(changes)?;
        }
        self.pages.db.flush()?;
        self.files.sync()?;
        self.older.push_back(Arc::downgrade(&self.newest));
        self.newest = next;
        while self
            .older
            .front()
            .is_some_and(|old| old.strong_count() == 0)
        {
            self.older.pop_front();
        }
        if self.older.len() > GENERATIONS_MAX
            && let Some(oldest) = self.older.pop_front().and_then(|old| old.upgrade())
        {
            oldest.becomes(After::TooMany);
        }
        Ok(())
    }
}

impl Generation {
    fn becomes(&self, after: After) {
        *self.after.write().unwrap_or_else(PoisonError::into_inner) = after;
    }
}

impl Engine for SledEngine {
    fn reader(&self) -> Result<Reader, StoreFailure> {
        let (pages, at) = (self.pages.clone(), self.newest.clone());
        Ok(Arc::new(Seen { pages, at }))
    }

    fn apply(&mut self, batch: &Batch) -> Result<(), StoreFailure> {
        // sled does not survive a write that finds no room, so it is not tried where there is little.
        let needed = ROOM_BYTES + 4 * batch_bytes(batch);
        self.unharmed = free_bytes(&self.files.folder).is_some_and(|free| free < needed);
        if self.unharmed {
            return Err(StoreFailure {
                full: true,
                ..failure("commit", "there is too little room on the disk")
            });
        }
        // sled panics where other engines return an error.
        let done = catch_unwind(AssertUnwindSafe(|| self.write(batch)));
        match done {
            Ok(done) => done.map_err(|e| failed("commit", &e)),
            Err(_) => Err(failure("commit", "sled gave up")),
        }
    }

    fn is_unharmed(&self) -> bool {
        self.unharmed
    }

    fn compact(&mut self) -> Result<bool, StoreFailure> {
        Ok(false)
    }
}

impl Seen {
    /// What later commits overwrote of the keys from `from` to below `until`, as this one left it.
    fn overwritten(
        &self,
        from: &[u8],
        until: &[u8],
    ) -> Result<BTreeMap<Vec<u8>, Option<Bytes>>, StoreFailure> {
        let mut found = BTreeMap::new();
        let mut at = self.at.clone();
        loop {
            let next = match &*at.after.read().unwrap_or_else(PoisonError::into_inner) {
                After::Nothing => return Ok(found),
                After::TooMany => {
                    return Err(failure(
                        "read",
                        "the reader took longer than the store keeps old values",
                    ));
                }
                After::Commit(before, next) => {
                    for (key, value) in before.range(from.to_vec()..until.to_vec()) {
                        found.entry(key.clone()).or_insert_with(|| value.clone());
                    }
                    next.clone()
                }
            };
            at = next;
        }
    }

    /// Up to a stretch of entries from `from` to below `until`, and where to go on.
    fn stretch(&self, from: &[u8], until: &[u8]) -> Result<Stretch, StoreFailure> {
        let _still = self
            .pages
            .gate
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        let mut entries = BTreeMap::new();
        let mut last = Vec::new();
        for entry in self.pages.db.range(from..until).take(STRETCH) {
            let (key, value) = entry.map_err(|e| failed("read", &e))?;
            last = key.to_vec();
            entries.insert(last.clone(), Bytes::copy_from_slice(&value));
        }
        // Beyond the last entry of a full stretch nothing is known yet.
        let next = (entries.len() == STRETCH).then(|| [&last, &[0][..]].concat());
        let end = next.as_deref().unwrap_or(until);
        for (key, value) in self.overwritten(from, end)? {
            match value {
                Some(value) => entries.insert(key, value),
                None => entries.remove(&key),
            };
        }
        Ok((entries, next))
    }
}

type Stretch = (BTreeMap<Vec<u8>, Bytes>, Option<Vec<u8>>);

impl Store for Seen {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StoreFailure> {
        let key = key_in(table, key);
        let _still = self
            .pages
            .gate
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        let end = [&key, &[0][..]].concat();
        if let Some(overwritten) = self.overwritten(&key, &end)?.remove(&key) {
            return Ok(overwritten);
        }
        guarded(|| {
            let found = self.pages.db.get(&key).map_err(|e| failed("read", &e))?;
            Ok(found.map(|value| Bytes::copy_from_slice(&value)))
        })
    }

    fn range(
        &self,
        table: Table,
        from: &[u8],
        until: Option<&[u8]>,
        visit: &mut dyn FnMut(&[u8], Bytes) -> bool,
    ) -> Result<(), StoreFailure> {
        let mut from = key_in(table, from);
        let until = match until {
            Some(until) => key_in(table, until),
            None => vec![table as u8 + 1],
        };
        while from < until {
            let (entries, next) = guarded(|| self.stretch(&from, &until))?;
            for (key, value) in entries {
                if !visit(&key[1..], value) {
                    return Ok(());
                }
            }
            let Some(next) = next else { break };
            from = next;
        }
        Ok(())
    }

    fn apply(&mut self, _: Batch) -> Result<(), StoreFailure> {
        Err(read_only())
    }
}

fn batch_bytes(batch: &Batch) -> u64 {
    let bytes = batch
        .iter()
        .map(|(_, key, value)| key.len() + value.map_or(0, Bytes::len));
    bytes.sum::<usize>() as u64
}

fn failed(operation: &'static str, error: &sled::Error) -> StoreFailure {
    let full = matches!(error, sled::Error::Io(e) if no_room(e));
    StoreFailure {
        full,
        ..failure(operation, error)
    }
}

impl From<sled::Error> for OpenEngine {
    fn from(e: sled::Error) -> Self {
        match e {
            // sled has no kind of its own for this.
            sled::Error::Io(e) if e.to_string().contains("could not acquire lock") => Self::Locked,
            sled::Error::Io(e) if e.kind() != io::ErrorKind::InvalidData => Self::Io(e),
            sled::Error::Unsupported(why) => Self::Version(why),
            e => Self::Corrupt(e.to_string()),
        }
    }
}

/// sled's files, to be made durable where sled does not.
struct Files {
    folder: PathBuf,
    log: File,
    blobs: PathBuf,
    synced: BTreeSet<OsString>,
}

impl Files {
    fn open(path: &Path) -> io::Result<Self> {
        let blobs = path.join("blobs");
        let mut files = Self {
            log: File::open(path.join("db"))?,
            folder: path.to_owned(),
            blobs,
            synced: BTreeSet::new(),
        };
        files.sync()?;
        File::open(path)?.sync_all()?;
        Ok(files)
    }

    fn sync(&mut self) -> io::Result<()> {
        // A failed fsync is never taken for a full disk, whatever the kernel calls it.
        self.sync_all()
            .map_err(|e| io::Error::other(format!("fdatasync failed: {e}")))
    }

    fn sync_all(&mut self) -> io::Result<()> {
        let mut there = BTreeSet::new();
        for entry in std::fs::read_dir(&self.blobs)? {
            let name = entry?.file_name();
            if !self.synced.contains(&name) {
                match File::open(self.blobs.join(&name)) {
                    Ok(blob) => blob.sync_all()?,
                    // Tidied away meanwhile: nothing needs it any more.
                    Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                    Err(e) => return Err(e),
                }
            }
            there.insert(name);
        }
        if there != self.synced {
            File::open(&self.blobs)?.sync_all()?;
            self.synced = there;
        }
        self.log.sync_data()
    }
}

//! The store on disk: redb behind the core's `Store`.
//!
//! Every batch is one redb transaction with immediate durability, so a batch that returned would
//! survive a power cut. Readers take [`Snapshot`]s, which a commit never stalls. What redb finds
//! corrupt is not served and not deleted: the file is put aside and the store begins anew, to be
//! rebuilt from peers.
//!
//! Not here: what the bytes mean (`protocol::log`); that records match their hashes is checked there.

use crate::api::Problem;
use crate::home::Home;
use aquifer_protocol::{Batch, Store, StoreFailure, Table};
use bytes::Bytes;
use redb::{Database, DatabaseError, ReadOnlyTable, ReadableDatabase as _, TableDefinition};
use std::path::PathBuf;
use std::sync::Arc;

type Entries = ReadOnlyTable<&'static [u8], &'static [u8]>;

const CACHE_BYTES: usize = 16 << 20;

fn definition(table: Table) -> TableDefinition<'static, &'static [u8], &'static [u8]> {
    TableDefinition::new(match table {
        Table::Meta => "meta",
        Table::Logs => "logs",
        Table::Records => "records",
        Table::Ids => "ids",
        Table::Tombstones => "tombstones",
        Table::Proofs => "proofs",
        Table::Related => "related",
    })
}

/// A node's store.
#[derive(Debug)]
pub struct RedbStore {
    db: Arc<Database>,
    /// The tables as of the last commit: reading between commits opens nothing.
    current: Snapshot,
    /// Set once a write has failed: after that nothing may be acknowledged (I18).
    failed: Option<StoreFailure>,
}

/// The store as it was after one commit.
#[derive(Clone)]
pub struct Snapshot {
    tables: Arc<Vec<Entries>>,
}

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Snapshot")
    }
}

/// A store that was opened, and what had to be put aside for it.
#[derive(Debug)]
pub struct Opened {
    /// The store.
    pub store: RedbStore,
    /// Where a corrupt store was put.
    pub put_aside: Option<PathBuf>,
}

impl RedbStore {
    /// Opens the store of `home`, or makes it. A corrupt one is put aside, never deleted.
    pub fn open(home: &Home) -> Result<Opened, Problem> {
        let path = home.file("store.redb");
        let suspect = home.file("store.suspect");
        let check = suspect.exists();
        // The home is locked by us, so whoever has the file open is a reader of a node that has just
        // been stopped in this process: it lets go in a moment.
        let mut opened = open_at(&path, check);
        for _ in 0..40 {
            if !matches!(opened, Err(OpenAt::Locked)) {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
            opened = open_at(&path, check);
        }
        match opened {
            Ok(store) => {
                let _ = std::fs::remove_file(&suspect);
                Ok(Opened {
                    store,
                    put_aside: None,
                })
            }
            Err(OpenAt::Locked) => Err(Problem::new(
                "home_locked",
                1,
                format!("another process has {} open", path.display()),
                "stop it, or give this node a home of its own with --home",
            )),
            Err(OpenAt::Version(version)) => Err(newer(&format!("redb file format {version}"))),
            Err(OpenAt::Io(e)) => Err(home.trouble("open the store", &e)),
            Err(OpenAt::Corrupt(why)) => {
                let aside = free_name(home);
                std::fs::rename(&path, &aside)
                    .map_err(|e| home.trouble("put the store aside", &e))?;
                tracing::error!(target: "aquifer::store", %why, aside = %aside.display(),
                    "the store is corrupt; it was put aside and is rebuilt from peers");
                let store = open_at(&path, false).map_err(|e| {
                    Problem::new(
                        "store_failed",
                        1,
                        format!("cannot make a new store: {e:?}"),
                        "",
                    )
                })?;
                let _ = std::fs::remove_file(&suspect);
                Ok(Opened {
                    store,
                    put_aside: Some(aside),
                })
            }
        }
    }

    /// The store as it is now, for a reader.
    pub fn snapshot(&self) -> Snapshot {
        self.current.clone()
    }

    fn write(&self, batch: &Batch) -> Result<(), redb::Error> {
        let transaction = self.db.begin_write()?;
        let mut changes = batch.iter().peekable();
        while let Some((table, ..)) = changes.peek().copied() {
            let mut open = transaction.open_table(definition(table))?;
            while let Some((_, key, value)) = changes.next_if(|(of, ..)| *of == table) {
                match value {
                    Some(value) => open.insert(key.as_ref(), value.as_ref())?,
                    None => open.remove(key.as_ref())?,
                };
            }
        }
        transaction.commit()?;
        Ok(())
    }
}

impl Snapshot {
    fn of(db: &Database) -> Result<Self, redb::Error> {
        let transaction = db.begin_read()?;
        let open = |table: &Table| transaction.open_table(definition(*table));
        let tables = Table::ALL.iter().map(open).collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            tables: Arc::new(tables),
        })
    }

    fn table(&self, table: Table) -> &Entries {
        // `Table::ALL` is in the order of the tables' numbers.
        &self.tables[table as usize]
    }
}

impl Store for Snapshot {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StoreFailure> {
        let found = self
            .table(table)
            .get(key)
            .map_err(|e| failure("read", &e))?;
        Ok(found.map(|value| Bytes::copy_from_slice(value.value())))
    }

    fn range(
        &self,
        table: Table,
        from: &[u8],
        until: Option<&[u8]>,
        visit: &mut dyn FnMut(&[u8], Bytes) -> bool,
    ) -> Result<(), StoreFailure> {
        if until.is_some_and(|until| until <= from) {
            return Ok(());
        }
        let table = self.table(table);
        let entries = match until {
            Some(until) => table.range(from..until),
            None => table.range(from..),
        };
        for entry in entries.map_err(|e| failure("read", &e))? {
            let (key, value) = entry.map_err(|e| failure("read", &e))?;
            if !visit(key.value(), Bytes::copy_from_slice(value.value())) {
                break;
            }
        }
        Ok(())
    }

    fn apply(&mut self, _: Batch) -> Result<(), StoreFailure> {
        Err(StoreFailure {
            operation: "write",
            detail: "a snapshot cannot be written to".into(),
        })
    }
}

impl Store for RedbStore {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StoreFailure> {
        self.current.get(table, key)
    }

    fn range(
        &self,
        table: Table,
        from: &[u8],
        until: Option<&[u8]>,
        visit: &mut dyn FnMut(&[u8], Bytes) -> bool,
    ) -> Result<(), StoreFailure> {
        self.current.range(table, from, until, visit)
    }

    fn apply(&mut self, batch: Batch) -> Result<(), StoreFailure> {
        if let Some(failure) = &self.failed {
            return Err(failure.clone());
        }
        let done = self.write(&batch).and_then(|()| Snapshot::of(&self.db));
        match done {
            Ok(current) => {
                self.current = current;
                Ok(())
            }
            Err(e) => {
                // Whether the batch is on disk is unknown now, and another fsync would not tell.
                let failure = failure("commit", &e);
                self.failed = Some(failure.clone());
                Err(failure)
            }
        }
    }
}

#[derive(Debug)]
enum OpenAt {
    Locked,
    Version(u8),
    Io(std::io::Error),
    Corrupt(String),
}

impl From<redb::Error> for OpenAt {
    fn from(e: redb::Error) -> Self {
        match e {
            redb::Error::DatabaseAlreadyOpen => Self::Locked,
            redb::Error::UpgradeRequired(version) => Self::Version(version),
            // redb calls a file of another kind invalid data.
            redb::Error::Io(e) if e.kind() != std::io::ErrorKind::InvalidData => Self::Io(e),
            e => Self::Corrupt(e.to_string()),
        }
    }
}

fn open_at(path: &std::path::Path, check: bool) -> Result<RedbStore, OpenAt> {
    // redb asserts on some corruptions; a node must come up all the same.
    let opened = std::panic::catch_unwind(|| open_and_check(path, check));
    opened.unwrap_or_else(|_| Err(OpenAt::Corrupt("redb gave up on it".into())))
}

fn open_and_check(path: &std::path::Path, check: bool) -> Result<RedbStore, OpenAt> {
    let from = |e: DatabaseError| OpenAt::from(redb::Error::from(e));
    let mut db = Database::builder()
        .set_cache_size(CACHE_BYTES)
        .create(path)
        .map_err(from)?;
    if check && !db.check_integrity().map_err(from)? {
        tracing::warn!(target: "aquifer::store", "redb repaired the store");
    }
    // A store that has its tables is not written to before its schema has been read: one of a newer
    // version must stay as it is.
    let current = match Snapshot::of(&db) {
        Ok(current) => current,
        Err(redb::Error::TableDoesNotExist(_)) => {
            make_tables(&db)?;
            Snapshot::of(&db)?
        }
        Err(why) => return Err(why.into()),
    };
    // Reading where the logs stand touches every page that opening the replica needs.
    aquifer_protocol::log::Logs::load(&current).map_err(|e| OpenAt::Corrupt(e.to_string()))?;
    Ok(RedbStore {
        db: Arc::new(db),
        current,
        failed: None,
    })
}

fn make_tables(db: &Database) -> Result<(), redb::Error> {
    let transaction = db.begin_write()?;
    for table in Table::ALL {
        transaction.open_table(definition(table))?;
    }
    transaction.commit()?;
    Ok(())
}

fn free_name(home: &Home) -> PathBuf {
    let names = (1u32..).map(|n| home.file(&format!("store.corrupt-{n}.redb")));
    names
        .into_iter()
        .find(|path| !path.exists())
        .expect("some number is free")
}

fn failure(operation: &'static str, error: &(impl std::fmt::Display + ?Sized)) -> StoreFailure {
    StoreFailure {
        operation,
        detail: error.to_string(),
    }
}

/// The problem that the store was written by a newer version.
pub fn newer(what: &str) -> Problem {
    Problem::new(
        "store_newer",
        1,
        format!("the store was written by another version of aquifer ({what})"),
        "install that version or a later one; nothing was changed",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn home() -> (tempfile::TempDir, Home) {
        let folder = tempfile::tempdir().expect("a folder");
        let home = Home::at(Some(folder.path().to_owned()));
        (folder, home)
    }

    fn batch(key: &'static str, value: &'static str) -> Batch {
        let mut batch = Batch::default();
        batch.put(Table::Meta, key, value);
        batch
    }

    #[test]
    fn what_was_applied_is_there_after_a_restart_and_snapshots_do_not_move() {
        let (_folder, home) = home();
        let mut store = RedbStore::open(&home).expect("made").store;
        store.apply(batch("a", "1")).expect("durable");
        let then = store.snapshot();
        store.apply(batch("a", "2")).expect("durable");
        assert_eq!(then.get(Table::Meta, b"a"), Ok(Some("1".into())));
        drop((store, then));
        let store = RedbStore::open(&home).expect("there").store;
        assert_eq!(store.get(Table::Meta, b"a"), Ok(Some("2".into())));
        let mut seen = Vec::new();
        let mut visit = |key: &[u8], _| {
            seen.push(key.to_vec());
            true
        };
        store
            .range(Table::Meta, b"a", Some(b"b"), &mut visit)
            .expect("read");
        assert_eq!(seen, [b"a"]);
    }

    /// I18: a store that is not what was written is put aside, and the node comes up empty.
    #[test]
    fn a_corrupt_store_is_put_aside_and_kept() {
        let (_folder, home) = home();
        let mut store = RedbStore::open(&home).expect("made").store;
        store.apply(batch("a", "1")).expect("durable");
        drop(store);
        let path = home.file("store.redb");
        let mut bytes = std::fs::read(&path).expect("there");
        bytes[..4096].fill(0x5a);
        std::fs::write(&path, &bytes).expect("written");
        let opened = RedbStore::open(&home).expect("comes up");
        let aside = opened.put_aside.expect("put aside");
        assert_eq!(std::fs::read(aside).expect("kept"), bytes);
        assert_eq!(opened.store.get(Table::Meta, b"a"), Ok(None));
    }
}

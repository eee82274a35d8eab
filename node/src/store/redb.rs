//! redb behind the core's `Store`: the engine of every home that asks for no other.
//!
//! A batch is one redb transaction with immediate durability. Readers keep the tables open as of
//! one commit, so they open nothing and a commit never stalls them.

use super::engine::{Engine, OpenEngine, Reader, failure, guarded, no_room, read_only};
use aquifer_protocol::{Batch, Store, StoreFailure, Table};
use bytes::Bytes;
use redb::backends::FileBackend;
use redb::{
    BackendError, Database, DatabaseError, ReadOnlyTable, ReadableDatabase as _, StorageBackend,
    TableDefinition,
};
use std::fs::OpenOptions;
use std::io;
use std::ops::Bound;
use std::path::Path;
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

/// An open redb database.
pub(super) struct RedbEngine {
    db: Database,
}

/// The tables as they were after one commit, by their numbers.
struct Tables(Vec<Entries>);

impl RedbEngine {
    /// Opens the database at `path`, or makes it; `check` reads it whole first.
    pub(super) fn open(path: &Path, check: bool) -> Result<Self, OpenEngine> {
        let from = |e: DatabaseError| OpenEngine::from(redb::Error::from(e));
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let file = options.open(path).map_err(OpenEngine::Io)?;
        let backend = FaultNaming(FileBackend::new(file).map_err(from)?);
        let mut db = Database::builder()
            .set_cache_size(CACHE_BYTES)
            .create_with_backend(backend)
            .map_err(from)?;
        if check && !db.check_integrity().map_err(from)? {
            tracing::warn!(target: "aquifer::store", "redb repaired the store");
        }
        // A store that has its tables is not written to before its schema has been read: one of a
        // newer version must stay as it is.
        match Tables::of(&db) {
            Err(redb::Error::TableDoesNotExist(_)) => make_tables(&db)?,
            found => drop(found?),
        }
        Ok(Self { db })
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

impl Engine for RedbEngine {
    fn reader(&self) -> Result<Reader, StoreFailure> {
        let tables = Tables::of(&self.db).map_err(|e| failed("read", &e))?;
        Ok(Arc::new(tables))
    }

    fn apply(&mut self, batch: &Batch) -> Result<(), StoreFailure> {
        self.write(batch).map_err(|e| failed("commit", &e))
    }

    /// Moves what is live together and cuts the file.
    fn compact(&mut self) -> Result<bool, StoreFailure> {
        self.db.compact().map_err(|e| failure("compact", &e))
    }
}

impl Tables {
    fn of(db: &Database) -> Result<Self, redb::Error> {
        let transaction = db.begin_read()?;
        let open = |table: &Table| transaction.open_table(definition(*table));
        let tables = Table::ALL.iter().map(open).collect::<Result<_, _>>()?;
        Ok(Self(tables))
    }

    fn table(&self, table: Table) -> &Entries {
        // `Table::ALL` is in the order of the tables' numbers.
        &self.0[table as usize]
    }
}

impl Store for Tables {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StoreFailure> {
        guarded(|| {
            let found = self.table(table).get(key);
            let found = found.map_err(|e| failure("read", &e))?;
            Ok(found.map(|value| Bytes::copy_from_slice(value.value())))
        })
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
        let mut entries = guarded(|| {
            let entries = match until {
                Some(until) => self.table(table).range(from..until),
                None => self.table(table).range(from..),
            };
            entries.map_err(|e| failure("read", &e))
        })?;
        let mut next = || {
            guarded(|| match entries.next() {
                Some(entry) => entry.map(Some).map_err(|e| failure("read", &e)),
                None => Ok(None),
            })
        };
        while let Some((key, value)) = next()? {
            if !visit(key.value(), Bytes::copy_from_slice(value.value())) {
                break;
            }
        }
        Ok(())
    }

    fn apply(&mut self, _: Batch) -> Result<(), StoreFailure> {
        Err(read_only())
    }
}

fn failed(operation: &'static str, error: &redb::Error) -> StoreFailure {
    let full = matches!(error, redb::Error::Io(e) if no_room(e));
    StoreFailure {
        full,
        ..failure(operation, error)
    }
}

fn make_tables(db: &Database) -> Result<(), redb::Error> {
    let transaction = db.begin_write()?;
    for table in Table::ALL {
        transaction.open_table(definition(table))?;
    }
    transaction.commit()?;
    Ok(())
}

impl From<redb::Error> for OpenEngine {
    fn from(e: redb::Error) -> Self {
        match e {
            redb::Error::DatabaseAlreadyOpen => Self::Locked,
            redb::Error::UpgradeRequired(version) => {
                Self::Version(format!("redb file format {version}"))
            }
            // redb calls a file of another kind invalid data, and one that was cut short an
            // unexpected end.
            redb::Error::Io(e)
                if !matches!(
                    e.kind(),
                    io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof
                ) =>
            {
                Self::Io(e)
            }
            e => Self::Corrupt(e.to_string()),
        }
    }
}

/// A file whose failed fsync is never mistaken for a full disk. After a failed fsync the kernel may
/// have dropped what was to be written, so nothing read back from it proves anything; a write that
/// found no room changed nothing.
#[derive(Debug)]
struct FaultNaming(FileBackend);

impl StorageBackend for FaultNaming {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        let synced = self.0.sync_data();
        synced.map_err(|e| io::Error::other(format!("fdatasync failed: {e}")))
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.0.close()
    }

    fn try_lock_range(&self, from: Bound<u64>, until: Bound<u64>) -> Result<bool, BackendError> {
        self.0.try_lock_range(from, until)
    }

    fn try_lock_shared_range(
        &self,
        from: Bound<u64>,
        until: Bound<u64>,
    ) -> Result<bool, BackendError> {
        self.0.try_lock_shared_range(from, until)
    }

    fn lock_range(&self, from: Bound<u64>, until: Bound<u64>) -> Result<(), BackendError> {
        self.0.lock_range(from, until)
    }

    fn lock_shared_range(&self, from: Bound<u64>, until: Bound<u64>) -> Result<(), BackendError> {
        self.0.lock_shared_range(from, until)
    }

    fn unlock_range(&self, from: Bound<u64>, until: Bound<u64>) -> Result<(), BackendError> {
        self.0.unlock_range(from, until)
    }

    fn query_lock_range(&self, from: Bound<u64>, until: Bound<u64>) -> Result<bool, BackendError> {
        self.0.query_lock_range(from, until)
    }
}

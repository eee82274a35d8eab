//! The store: the core's only seam to the world.
//!
//! An ordered map of bytes per [`Table`], read at will and changed by atomic, durable batches. The
//! core works over it through [`Staged`], which shows the changes of the current beat before they
//! are committed, so that `handle` never waits for a disk and nothing leaves before `commit`.
//!
//! Not here: engines (`node/src/store.rs`, `simulator/src/disk.rs`), what the bytes mean (`shelf`).

use bytes::Bytes;
use core::ops::Bound;
use std::collections::BTreeMap;

/// One ordered map of a store. The numbers are part of the disk format.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum Table {
    /// Single values: the schema's version, what a node must not forget.
    Meta = 0,
    /// Topic, writer, log → where the log stands.
    Logs = 1,
    /// Log number, seq → the record.
    Records = 2,
    /// First 16 bytes of a record's id → log number, seq.
    Ids = 3,
    /// Topic, erased record's id → the erase record's id. Permanent.
    Tombstones = 4,
    /// Log number → the two records that prove a fork.
    Proofs = 5,
    /// A memory's id, a record's id → nothing: revisions and links of a memory.
    Related = 6,
}

impl Table {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 7] = [
        Self::Meta,
        Self::Logs,
        Self::Records,
        Self::Ids,
        Self::Tombstones,
        Self::Proofs,
        Self::Related,
    ];
}

/// The store failed. The node stops: to go on would be to answer from unknown durable state (I18).
/// Only where there was no room for a write may a driver open the store anew and go on from there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the store failed to {operation}: {detail}")]
pub struct StoreFailure {
    /// What was being done.
    pub operation: &'static str,
    /// What the engine said.
    pub detail: String,
    /// Whether a write found no room (`ENOSPC`, `EDQUOT`): nothing was acknowledged, and what was
    /// durable before still is.
    pub full: bool,
}

/// Changes that take effect together: `None` removes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// By the tables' numbers.
    tables: [Changes; Table::ALL.len()],
}

type Changes = BTreeMap<Bytes, Option<Bytes>>;

impl Batch {
    /// Sets a value.
    pub fn put(&mut self, table: Table, key: impl Into<Bytes>, value: impl Into<Bytes>) {
        self.tables[table as usize].insert(key.into(), Some(value.into()));
    }

    /// Removes a value, if it is there.
    pub fn remove(&mut self, table: Table, key: impl Into<Bytes>) {
        self.tables[table as usize].insert(key.into(), None);
    }

    /// True if there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.tables.iter().all(BTreeMap::is_empty)
    }

    /// How many keys it changes.
    pub fn len(&self) -> usize {
        self.tables.iter().map(BTreeMap::len).sum()
    }

    /// The changes, in order of table and key.
    pub fn iter(&self) -> impl Iterator<Item = (Table, &Bytes, Option<&Bytes>)> {
        Table::ALL.into_iter().flat_map(|table| {
            let changes = self.tables[table as usize].iter();
            changes.map(move |(key, value)| (table, key, value.as_ref()))
        })
    }
}

/// What the core asks of durable storage. Keys are ordered bytewise.
pub trait Store {
    /// The value at `key`.
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StoreFailure>;

    /// Calls `visit` with entries whose keys are at least `from` and, if given, below `until`, in
    /// order, until it returns false.
    fn range(
        &self,
        table: Table,
        from: &[u8],
        until: Option<&[u8]>,
        visit: &mut dyn FnMut(&[u8], Bytes) -> bool,
    ) -> Result<(), StoreFailure>;

    /// Applies all of `batch` or none of it, and returns once it would survive a power cut.
    /// A read-only snapshot fails.
    fn apply(&mut self, batch: Batch) -> Result<(), StoreFailure>;
}

/// A store in memory.
#[derive(Clone, Debug, Default)]
pub struct MemStore {
    tables: BTreeMap<Table, BTreeMap<Bytes, Bytes>>,
}

impl Store for MemStore {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StoreFailure> {
        Ok(self.tables.get(&table).and_then(|t| t.get(key)).cloned())
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
        let Some(entries) = self.tables.get(&table) else {
            return Ok(());
        };
        for (key, value) in entries.range(Bytes::copy_from_slice(from)..) {
            if until.is_some_and(|until| key.as_ref() >= until) || !visit(key, value.clone()) {
                break;
            }
        }
        Ok(())
    }

    fn apply(&mut self, batch: Batch) -> Result<(), StoreFailure> {
        for (table, changes) in Table::ALL.into_iter().zip(batch.tables) {
            for (key, value) in changes {
                let entries = self.tables.entry(table).or_default();
                match value {
                    Some(value) => entries.insert(key, value),
                    None => entries.remove(&key),
                };
            }
        }
        Ok(())
    }
}

/// A store seen through the changes of the current beat. [`Staged::flush`] makes them durable.
///
/// A read that fails is remembered and answered as absent; the next flush reports it, and the node
/// stops before anything based on it has left.
#[derive(Debug)]
pub struct Staged<S> {
    store: S,
    batch: Batch,
    failed: core::cell::RefCell<Option<StoreFailure>>,
}

impl<S: Store> Staged<S> {
    /// Nothing staged yet.
    pub fn new(store: S) -> Self {
        Self {
            store,
            batch: Batch::default(),
            failed: core::cell::RefCell::new(None),
        }
    }

    /// The store below, as of the last flush.
    pub fn store(&self) -> &S {
        &self.store
    }

    /// The store below.
    pub fn into_store(self) -> S {
        self.store
    }

    /// True if nothing waits for a flush.
    pub fn is_clean(&self) -> bool {
        self.batch.is_empty()
    }

    /// The value at `key`, staged or stored.
    pub fn get(&self, table: Table, key: &[u8]) -> Option<Bytes> {
        if let Some(staged) = self.batch.tables[table as usize].get(key) {
            return staged.clone();
        }
        self.note(self.store.get(table, key)).flatten()
    }

    /// Entries from `from` to below `until`, at most `limit` of them, staged ones among them.
    pub fn range(
        &self,
        table: Table,
        from: &[u8],
        until: &[u8],
        limit: usize,
    ) -> Vec<(Bytes, Bytes)> {
        let mut merged: BTreeMap<Bytes, Bytes> = BTreeMap::new();
        let staged: Vec<_> = self.batch.tables[table as usize]
            .range::<[u8], _>((Bound::Included(from), Bound::Excluded(until)))
            .collect();
        // Staged removals hide stored entries, so that many more may be needed.
        let wanted = limit.saturating_add(staged.len());
        let read = self
            .store
            .range(table, from, Some(until), &mut |key, value| {
                merged.insert(Bytes::copy_from_slice(key), value);
                merged.len() < wanted
            });
        self.note(read);
        for (key, value) in staged {
            match value {
                Some(value) => merged.insert(key.clone(), value.clone()),
                None => merged.remove(key),
            };
        }
        merged.into_iter().take(limit).collect()
    }

    /// Stages a value.
    pub fn put(&mut self, table: Table, key: impl Into<Bytes>, value: impl Into<Bytes>) {
        self.batch.put(table, key, value);
    }

    /// Stages a removal.
    pub fn remove(&mut self, table: Table, key: impl Into<Bytes>) {
        self.batch.remove(table, key);
    }

    /// Makes what is staged durable.
    pub fn flush(&mut self) -> Result<(), StoreFailure> {
        if let Some(failure) = self.failed.take() {
            return Err(failure);
        }
        if self.batch.is_empty() {
            return Ok(());
        }
        self.store.apply(core::mem::take(&mut self.batch))
    }

    fn note<T>(&self, read: Result<T, StoreFailure>) -> Option<T> {
        match read {
            Ok(value) => Some(value),
            Err(failure) => {
                self.failed.borrow_mut().get_or_insert(failure);
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn staged_changes_are_seen_at_once_and_kept_only_by_a_flush() {
        let mut staged = Staged::new(MemStore::default());
        staged.put(Table::Meta, &b"a"[..], &b"1"[..]);
        staged.put(Table::Meta, &b"b"[..], &b"2"[..]);
        assert_eq!(staged.store().get(Table::Meta, b"a"), Ok(None));
        staged.flush().expect("memory");
        staged.remove(Table::Meta, &b"a"[..]);
        staged.put(Table::Meta, &b"c"[..], &b"3"[..]);
        assert_eq!(staged.get(Table::Meta, b"a"), None);
        let keys: Vec<_> = staged
            .range(Table::Meta, b"", b"z", 9)
            .into_iter()
            .map(|e| e.0)
            .collect();
        assert_eq!(keys, ["b", "c"]);
        assert_eq!(staged.range(Table::Meta, b"", b"z", 1).len(), 1);
        let store = staged.into_store();
        assert_eq!(store.get(Table::Meta, b"a"), Ok(Some(Bytes::from("1"))));
    }
}

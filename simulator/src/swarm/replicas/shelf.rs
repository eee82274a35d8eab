//! A shelf: a store in memory, over one that many read.
//!
//! What all replicas of a hive begin with lies in one place; each keeps what it wrote itself, and what it
//! removed.

use aquifer_protocol::{Batch, MemStore, Store, StoreFailure, Table};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A replica's store.
#[derive(Clone, Debug, Default)]
pub(super) struct Shelf {
    shared: Arc<MemStore>,
    own: MemStore,
    /// What of the shared store is gone here.
    gone: BTreeSet<(Table, Bytes)>,
}

impl Shelf {
    /// Over what all read, with nothing written yet.
    pub(super) fn over(shared: Arc<MemStore>) -> Self {
        Self {
            shared,
            ..Self::default()
        }
    }

    /// Over nothing.
    pub(super) fn holding(own: MemStore) -> Self {
        Self {
            own,
            ..Self::default()
        }
    }
}

impl Store for Shelf {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StoreFailure> {
        if let Some(own) = self.own.get(table, key)? {
            return Ok(Some(own));
        }
        let shared = self.shared.get(table, key)?;
        let is_gone = || self.gone.contains(&(table, Bytes::copy_from_slice(key)));
        Ok(shared.filter(|_| self.gone.is_empty() || !is_gone()))
    }

    fn range(
        &self,
        table: Table,
        from: &[u8],
        until: Option<&[u8]>,
        visit: &mut dyn FnMut(&[u8], Bytes) -> bool,
    ) -> Result<(), StoreFailure> {
        let mut all = BTreeMap::new();
        for store in [&*self.shared, &self.own] {
            store.range(table, from, until, &mut |key, value| {
                all.insert(Bytes::copy_from_slice(key), value);
                true
            })?;
        }
        for (key, value) in all {
            let kept = self.gone.is_empty()
                || self.own.get(table, &key)?.is_some()
                || !self.gone.contains(&(table, key.clone()));
            if kept && !visit(&key, value) {
                break;
            }
        }
        Ok(())
    }

    fn apply(&mut self, batch: Batch) -> Result<(), StoreFailure> {
        for (table, key, value) in batch.iter() {
            let place = (table, key.clone());
            if value.is_none() && self.shared.get(table, key)?.is_some() {
                self.gone.insert(place);
            }
        }
        self.own.apply(batch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(changes: &[(&'static str, Option<&'static str>)]) -> Batch {
        let mut batch = Batch::default();
        for (key, value) in changes {
            match value {
                Some(value) => batch.put(Table::Meta, *key, *value),
                None => batch.remove(Table::Meta, *key),
            }
        }
        batch
    }

    #[test]
    fn what_is_written_or_removed_on_one_shelf_changes_nothing_on_another() {
        let mut shared = MemStore::default();
        shared
            .apply(batch(&[("a", Some("1")), ("b", Some("2"))]))
            .expect("memory");
        let shared = Arc::new(shared);
        let (mut one, other) = (Shelf::over(shared.clone()), Shelf::over(shared));
        one.apply(batch(&[("a", None), ("b", Some("3")), ("c", Some("4"))]))
            .expect("memory");
        let all = |shelf: &Shelf| {
            let mut all = Vec::new();
            let read = shelf.range(Table::Meta, b"", None, &mut |key, value| {
                all.push((key.to_vec(), value.to_vec()));
                true
            });
            read.expect("memory");
            for (key, value) in &all {
                let got = shelf.get(Table::Meta, key).expect("memory");
                assert_eq!(got.as_deref(), Some(&value[..]));
            }
            String::from_utf8(all.into_iter().flat_map(|(k, v)| [k, v].concat()).collect())
                .expect("text")
        };
        assert_eq!(("b3c4".into(), "a1b2".into()), (all(&one), all(&other)));
        assert_eq!(None, one.get(Table::Meta, b"a").expect("memory"));
        one.apply(batch(&[("a", Some("5"))])).expect("memory");
        assert_eq!("a5b3c4", all(&one));
    }
}

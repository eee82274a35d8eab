//! What every store engine must do, asked of each of them in the same words: redb, sled, the store
//! in memory, and the simulator's disk.
//!
//! Not here: what a node does around its engine (`node/src/store/tests.rs`), disks that fail
//! (`faults.rs`), how fast each is (`node/benches/store.rs`).

#[path = "engines/killed.rs"]
mod killed;

use aquifer_node::home::Home;
use aquifer_node::store::{EngineKind, NodeStore};
use aquifer_protocol::{Batch, MemStore, Store, StoreFailure, Table};
use aquifer_simulator::disk::Disk;
use bytes::Bytes;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::path::Path;
use tempfile::TempDir;

/// A store that can be closed and opened again, and that readers can keep a moment of.
trait Engine: Store + Sized {
    /// Whatever keeps the data while the store is closed.
    type Shelf;
    type Reader: Store;
    fn shelf() -> Self::Shelf;
    fn open(shelf: &Self::Shelf) -> Self;
    fn reader(&self) -> Self::Reader;
}

struct Redb(NodeStore);
struct Sled(NodeStore);

fn open(folder: &Path, kind: EngineKind) -> NodeStore {
    let home = Home::at(Some(folder.to_owned()));
    let opened = NodeStore::open(&home, Some(kind)).expect("opens");
    assert_eq!(opened.put_aside, None);
    opened.store
}

macro_rules! on_disk {
    ($engine:ident) => {
        impl Store for $engine {
            fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StoreFailure> {
                self.0.get(table, key)
            }
            fn range(
                &self,
                table: Table,
                from: &[u8],
                until: Option<&[u8]>,
                visit: &mut dyn FnMut(&[u8], Bytes) -> bool,
            ) -> Result<(), StoreFailure> {
                self.0.range(table, from, until, visit)
            }
            fn apply(&mut self, batch: Batch) -> Result<(), StoreFailure> {
                self.0.apply(batch)
            }
        }
        impl Engine for $engine {
            type Shelf = TempDir;
            type Reader = aquifer_node::store::Snapshot;
            fn shelf() -> TempDir {
                tempfile::tempdir().expect("a folder")
            }
            fn open(shelf: &TempDir) -> Self {
                Self(open(shelf.path(), EngineKind::$engine))
            }
            fn reader(&self) -> Self::Reader {
                self.0.snapshot()
            }
        }
    };
}
on_disk!(Redb);
on_disk!(Sled);

/// It lasts as long as its handles do.
impl Engine for Disk {
    type Shelf = Self;
    type Reader = MemStore;
    fn shelf() -> Self {
        Self::default()
    }
    fn open(shelf: &Self) -> Self {
        shelf.clone()
    }
    fn reader(&self) -> MemStore {
        copy(self)
    }
}

/// It lasts as long as itself, so it is never closed here.
#[derive(Clone, Default)]
struct Memory(std::rc::Rc<std::cell::RefCell<MemStore>>);

impl Store for Memory {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StoreFailure> {
        self.0.borrow().get(table, key)
    }
    fn range(
        &self,
        table: Table,
        from: &[u8],
        until: Option<&[u8]>,
        visit: &mut dyn FnMut(&[u8], Bytes) -> bool,
    ) -> Result<(), StoreFailure> {
        self.0.borrow().range(table, from, until, visit)
    }
    fn apply(&mut self, batch: Batch) -> Result<(), StoreFailure> {
        self.0.borrow_mut().apply(batch)
    }
}

impl Engine for Memory {
    type Shelf = Self;
    type Reader = MemStore;
    fn shelf() -> Self {
        Self::default()
    }
    fn open(shelf: &Self) -> Self {
        shelf.clone()
    }
    fn reader(&self) -> MemStore {
        self.0.borrow().clone()
    }
}

fn copy(store: &impl Store) -> MemStore {
    let mut copy = MemStore::default();
    let mut batch = Batch::default();
    for (table, key, value) in everything(store) {
        batch.put(table, key, value);
    }
    copy.apply(batch).expect("memory");
    copy
}

type Entry = (Table, Vec<u8>, Vec<u8>);

fn range(store: &impl Store, table: Table, from: &[u8], until: Option<&[u8]>) -> Vec<Entry> {
    let mut seen = Vec::new();
    let mut visit = |key: &[u8], value: Bytes| {
        seen.push((table, key.to_vec(), value.to_vec()));
        true
    };
    store
        .range(table, from, until, &mut visit)
        .expect("readable");
    seen
}

fn everything(store: &impl Store) -> Vec<Entry> {
    let all = Table::ALL.into_iter();
    all.flat_map(|table| range(store, table, &[], None))
        .collect()
}

fn put(table: Table, entries: &[(&str, &str)]) -> Batch {
    let mut batch = Batch::default();
    for (key, value) in entries {
        batch.put(table, key.as_bytes().to_vec(), value.as_bytes().to_vec());
    }
    batch
}

fn keys(entries: &[Entry]) -> Vec<&str> {
    let text = |entry: &'_ Entry| std::str::from_utf8(&entry.1).map(|_| ()).expect("text");
    entries.iter().for_each(text);
    entries
        .iter()
        .map(|e| std::str::from_utf8(&e.1).expect("text"))
        .collect()
}

fn keys_are_ordered_bytewise_and_bounds_hold<E: Engine>() {
    let shelf = E::shelf();
    let mut store = E::open(&shelf);
    let batch = put(
        Table::Records,
        &[("b", "2"), ("a", "1"), ("aa", "3"), ("c", ""), ("", "0")],
    );
    store.apply(batch).expect("durable");
    store
        .apply(put(Table::Ids, &[("a", "another table")]))
        .expect("durable");
    assert_eq!(
        keys(&range(&store, Table::Records, b"", None)),
        ["", "a", "aa", "b", "c"]
    );
    assert_eq!(
        keys(&range(&store, Table::Records, b"a", Some(b"b"))),
        ["a", "aa"]
    );
    assert_eq!(
        keys(&range(&store, Table::Records, b"a\0", Some(b"c"))),
        ["aa", "b"]
    );
    assert!(range(&store, Table::Records, b"b", Some(b"b")).is_empty());
    assert!(
        range(&store, Table::Records, b"c", Some(b"a")).is_empty(),
        "the wrong way round"
    );
    assert!(range(&store, Table::Proofs, b"", None).is_empty());
    let mut seen = 0;
    let mut twice = |_: &[u8], _| {
        seen += 1;
        seen < 2
    };
    store
        .range(Table::Records, b"", None, &mut twice)
        .expect("readable");
    assert_eq!(seen, 2, "it stops when it is told");
    let high = [255u8; 40];
    let mut batch = Batch::default();
    batch.put(Table::Related, high.to_vec(), &b""[..]);
    store.apply(batch).expect("durable");
    assert_eq!(range(&store, Table::Related, &high, None).len(), 1);
    assert_eq!(
        store.get(Table::Related, &high),
        Ok(Some(Bytes::new())),
        "empty is not absent"
    );
}

fn what_is_removed_is_gone_and_what_is_not_there_can_be_removed<E: Engine>() {
    let shelf = E::shelf();
    let mut store = E::open(&shelf);
    store
        .apply(put(Table::Meta, &[("a", "1"), ("b", "2")]))
        .expect("durable");
    let mut batch = Batch::default();
    batch.remove(Table::Meta, &b"a"[..]);
    batch.remove(Table::Meta, &b"never"[..]);
    batch.put(Table::Meta, &b"b"[..], &b"3"[..]);
    store.apply(batch).expect("durable");
    assert_eq!(store.get(Table::Meta, b"a"), Ok(None));
    assert_eq!(store.get(Table::Meta, b"b"), Ok(Some("3".into())));
    store
        .apply(Batch::default())
        .expect("nothing is done at once");
    assert_eq!(everything(&store).len(), 1);
}

/// A reader that began before a commit judges by what was there then, however many come.
fn a_reader_sees_one_moment_and_no_other<E: Engine>() {
    let shelf = E::shelf();
    let mut store = E::open(&shelf);
    let name = |i: usize| format!("{i:05}");
    let mut batch = Batch::default();
    for i in 0..2_000 {
        batch.put(Table::Records, name(i), "old");
    }
    store.apply(batch).expect("durable");
    let before = store.reader();
    let then = everything(&before);
    for round in 0..3 {
        let mut batch = Batch::default();
        for i in (0..2_000).skip(round).step_by(3) {
            if i % 2 == 0 {
                batch.remove(Table::Records, name(i));
            } else {
                batch.put(Table::Records, name(i), format!("new {round}"));
            }
            batch.put(Table::Records, format!("{i:05}+"), "between");
        }
        store.apply(batch).expect("durable");
        assert_eq!(everything(&before), then, "after commit {round}");
        assert_eq!(before.get(Table::Records, b"00000"), Ok(Some("old".into())));
        assert_eq!(before.get(Table::Records, b"00000+"), Ok(None));
    }
    assert_ne!(everything(&store), then);
    assert_eq!(everything(&store.reader()), everything(&store));
}

fn a_snapshot_cannot_be_written_to<E: Engine>() {
    let store = E::open(&E::shelf());
    assert!(
        store
            .reader()
            .apply(put(Table::Meta, &[("a", "1")]))
            .is_err()
    );
}

fn large_values_and_large_batches_are_kept_over_a_restart<E: Engine>() {
    let shelf = E::shelf();
    let mut store = E::open(&shelf);
    let value = |i: usize| -> Vec<u8> { (0..80_000).map(|n| (n * 31 + i * 7) as u8).collect() };
    for round in 0..4 {
        let mut batch = Batch::default();
        for i in round * 8..round * 8 + 8 {
            batch.put(Table::Records, vec![i as u8], value(i));
        }
        for i in 0..3_000u32 {
            batch.put(
                Table::Ids,
                [round as u8]
                    .iter()
                    .copied()
                    .chain(i.to_be_bytes())
                    .collect::<Vec<u8>>(),
                vec![7; 40],
            );
        }
        store.apply(batch).expect("durable");
    }
    let before = everything(&store);
    drop(store);
    let store = E::open(&shelf);
    assert_eq!(before.len(), 32 + 12_000);
    assert!(everything(&store) == before, "the same after a restart");
    assert_eq!(
        store
            .get(Table::Records, &[9])
            .expect("readable")
            .as_deref(),
        Some(&value(9)[..])
    );
}

/// Any but `Logs`: what lies there is read when a store is opened, and must make sense.
const TABLES: [Table; 6] = [
    Table::Meta,
    Table::Records,
    Table::Ids,
    Table::Tombstones,
    Table::Proofs,
    Table::Related,
];

type Change = (u8, u8, Option<u8>);

fn changes() -> impl Strategy<Value = Vec<Vec<Change>>> {
    let change = (0u8..6, 0u8..24, proptest::option::of(any::<u8>()));
    proptest::collection::vec(proptest::collection::vec(change, 0..12), 1..12)
}

/// Any batches, with restarts between them, come to what they come to in a plain ordered map; and a
/// reader taken halfway sees what the map was then.
fn it_is_an_ordered_map<E: Engine>(batches: &[Vec<Change>]) {
    let shelf = E::shelf();
    let mut store = E::open(&shelf);
    let mut model: BTreeMap<(Table, Vec<u8>), Vec<u8>> = BTreeMap::new();
    let list = |model: &BTreeMap<(Table, Vec<u8>), Vec<u8>>| -> Vec<Entry> {
        model
            .iter()
            .map(|((t, k), v)| (*t, k.clone(), v.clone()))
            .collect()
    };
    let mut halfway = None;
    for (i, changes) in batches.iter().enumerate() {
        let mut batch = Batch::default();
        for (table, key, value) in changes {
            let (table, key) = (TABLES[*table as usize], vec![*key / 5, *key % 5]);
            match value {
                Some(value) => batch.put(table, key.clone(), vec![*value; *value as usize]),
                None => batch.remove(table, key.clone()),
            }
            match value {
                Some(value) => model.insert((table, key), vec![*value; *value as usize]),
                None => model.remove(&(table, key)),
            };
        }
        store.apply(batch).expect("durable");
        assert_eq!(everything(&store), list(&model));
        if i == batches.len() / 2 {
            halfway = Some((store.reader(), list(&model)));
        }
    }
    let (reader, then) = halfway.expect("there is a middle");
    assert_eq!(everything(&reader), then);
    drop(reader);
    drop(store);
    assert_eq!(everything(&E::open(&shelf)), list(&model));
}

macro_rules! every_engine {
    ($($engine:ident in $module:ident),*) => {$(
        mod $module {
            use super::*;

            #[test]
            fn keys_are_ordered_bytewise_and_bounds_hold() {
                super::keys_are_ordered_bytewise_and_bounds_hold::<$engine>();
            }

            #[test]
            fn what_is_removed_is_gone_and_what_is_not_there_can_be_removed() {
                super::what_is_removed_is_gone_and_what_is_not_there_can_be_removed::<$engine>();
            }

            #[test]
            fn a_reader_sees_one_moment_and_no_other() {
                super::a_reader_sees_one_moment_and_no_other::<$engine>();
            }

            #[test]
            fn large_values_and_large_batches_are_kept_over_a_restart() {
                super::large_values_and_large_batches_are_kept_over_a_restart::<$engine>();
            }

            proptest! {
                #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(12) })]
                #[test]
                fn it_is_an_ordered_map(batches in changes()) {
                    super::it_is_an_ordered_map::<$engine>(&batches);
                }
            }
        }
    )*};
}
every_engine!(Redb in redb, Sled in sled, Memory in memory, Disk in simulated);

#[test]
fn snapshots_of_a_node_cannot_be_written_to() {
    a_snapshot_cannot_be_written_to::<Redb>();
    a_snapshot_cannot_be_written_to::<Sled>();
}

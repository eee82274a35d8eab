//! The disk: a `Store` that fails as disks do.
//!
//! A disk survives its node: the replica holds one handle, the world another. What a replica has
//! staged and not committed is lost with it; a commit can be armed to fail, either before the batch
//! became durable or after; a stored record can rot, bit by bit. Batches are never torn, because
//! every engine behind the seam promises that (its own tests hold it to that).
//!
//! Not here: when disks fail (`world::faults`).

use aquifer_protocol::{Batch, MemStore, Store, StoreFailure, Table};
use bytes::Bytes;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;

const MARK: &[u8] = b"canary-";

/// How the next commit ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ending {
    /// The power fails before the batch is durable.
    CutBefore,
    /// The power fails when the batch is durable, before anyone is told.
    CutAfter,
    /// The disk refuses the write, and says so.
    Refused,
}

/// A handle on a disk. Clones are handles on the same disk.
#[derive(Clone, Debug, Default)]
pub struct Disk(Rc<RefCell<Platter>>);

#[derive(Debug, Default)]
struct Platter {
    kept: MemStore,
    armed: Option<Ending>,
    /// Keys of records written since the checkers looked last.
    written: Vec<Bytes>,
}

impl Disk {
    /// The next commit ends like this.
    pub fn arm(&self, ending: Ending) {
        self.0.borrow_mut().armed = Some(ending);
    }

    /// Takes back what was armed, if it has not gone off.
    pub fn disarm(&self) -> Option<Ending> {
        self.0.borrow_mut().armed.take()
    }

    /// The places of records that were written since this was asked last.
    pub fn take_written(&self) -> Vec<Bytes> {
        std::mem::take(&mut self.0.borrow_mut().written)
    }

    /// Flips `bit` (counted round the value's length) of a stored value. False if there is none.
    pub fn rot(&self, table: Table, key: &[u8], bit: u64) -> bool {
        let mut platter = self.0.borrow_mut();
        let Ok(Some(value)) = platter.kept.get(table, key) else {
            return false;
        };
        let mut value = value.to_vec();
        if value.is_empty() {
            return false;
        }
        let bit = (bit % (value.len() as u64 * 8)) as usize;
        value[bit / 8] ^= 1 << (bit % 8);
        let mut batch = Batch::default();
        batch.put(table, key.to_vec(), value);
        platter.kept.apply(batch).is_ok()
    }

    /// Whether `needle` lies anywhere in any key or value: the search for canaries.
    pub fn contains(&self, needle: &[u8]) -> bool {
        let platter = self.0.borrow();
        let holds = |bytes: &[u8]| bytes.windows(needle.len()).any(|window| window == needle);
        Table::ALL.iter().any(|table| {
            let mut found = false;
            let read = platter.kept.range(*table, &[], None, &mut |key, value| {
                found = holds(key) || holds(&value);
                !found
            });
            found && read.is_ok()
        })
    }

    /// Every canary on it: `canary-` and 32 digits, wherever in any value.
    pub fn canaries(&self) -> BTreeSet<String> {
        let platter = self.0.borrow();
        let mut found = BTreeSet::new();
        for table in Table::ALL {
            let read = platter.kept.range(table, &[], None, &mut |_, value| {
                let mut rest = &value[..];
                while let Some(at) = rest.windows(MARK.len()).position(|w| w == MARK) {
                    let end = rest.len().min(at + MARK.len() + 32);
                    found.insert(String::from_utf8_lossy(&rest[at..end]).into_owned());
                    rest = &rest[end..];
                }
                true
            });
            read.expect("memory can be read");
        }
        found
    }

    /// BLAKE3 of everything on it.
    pub fn digest(&self) -> blake3::Hash {
        let platter = self.0.borrow();
        let mut hasher = blake3::Hasher::new();
        for table in Table::ALL {
            let read = platter.kept.range(table, &[], None, &mut |key, value| {
                hasher.update(&(key.len() as u64).to_le_bytes()).update(key);
                hasher
                    .update(&(value.len() as u64).to_le_bytes())
                    .update(&value);
                true
            });
            read.expect("memory can be read");
            hasher.update(&[table as u8]);
        }
        hasher.finalize()
    }
}

impl Store for Disk {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StoreFailure> {
        self.0.borrow().kept.get(table, key)
    }

    fn range(
        &self,
        table: Table,
        from: &[u8],
        until: Option<&[u8]>,
        visit: &mut dyn FnMut(&[u8], Bytes) -> bool,
    ) -> Result<(), StoreFailure> {
        self.0.borrow().kept.range(table, from, until, visit)
    }

    fn apply(&mut self, batch: Batch) -> Result<(), StoreFailure> {
        let mut platter = self.0.borrow_mut();
        let ending = platter.armed.take();
        if matches!(ending, None | Some(Ending::CutAfter)) {
            let records = batch
                .iter()
                .filter(|(table, _, value)| *table == Table::Records && value.is_some());
            let keys: Vec<Bytes> = records.map(|(_, key, _)| key.clone()).collect();
            platter.written.extend(keys);
            platter.kept.apply(batch)?;
        }
        match ending {
            None => Ok(()),
            Some(ending) => Err(StoreFailure {
                operation: "apply a batch",
                detail: format!("{ending:?}"),
                full: false,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(key: &'static str) -> Batch {
        let mut batch = Batch::default();
        batch.put(Table::Records, key, "a canary sings");
        batch
    }

    #[test]
    fn a_commit_that_is_cut_off_is_whole_or_was_never_there() {
        let mut disk = Disk::default();
        let world = disk.clone();
        for (ending, kept) in [
            (Ending::CutBefore, false),
            (Ending::CutAfter, true),
            (Ending::Refused, false),
        ] {
            let key = if kept { "after" } else { "before" };
            world.arm(ending);
            assert!(disk.apply(batch(key)).is_err());
            assert_eq!(
                world.get(Table::Records, key.as_bytes()).unwrap().is_some(),
                kept
            );
            assert_eq!(world.disarm(), None, "it went off");
        }
        assert_eq!(world.take_written(), ["after"]);
    }

    #[test]
    fn a_canary_is_found_and_rot_changes_one_bit() {
        let mut disk = Disk::default();
        disk.apply(batch("k")).unwrap();
        assert!(disk.contains(b"canary") && !disk.contains(b"parrot"));
        let before = disk.digest();
        assert!(disk.rot(Table::Records, b"k", 9) && !disk.rot(Table::Records, b"x", 9));
        assert_ne!(disk.digest(), before);
        assert!(disk.rot(Table::Records, b"k", 9));
        assert_eq!(disk.digest(), before);
    }
}

//! A memory as users see it: the fold of its first record and all revisions of it.
//!
//! Versions that no other version replaces stand side by side. One of them is shown, the latest by
//! stamp; the others are returned as a conflict, with their signers, never silently dropped. The fold
//! is a join semilattice: records in any order, any number of times, give the same memory (I2, I10).
//!
//! Not here: finding the records (`protocol::log`), searching them (`node/src/recall.rs`).

use aquifer_protocol::body::{Body, Memory};
use aquifer_protocol::{Kind, Record, RecordId, Stamp};
use std::collections::{BTreeMap, BTreeSet};

/// One version of a memory.
#[derive(Clone, PartialEq, Debug)]
pub struct Version {
    /// The record that holds it.
    pub record: Record,
    /// Its content; absent once erased or expired.
    pub content: Option<Memory>,
    /// The versions it replaces.
    pub replaces: Vec<RecordId>,
}

/// All versions of one memory that are known here.
#[derive(Clone, PartialEq, Debug)]
pub struct Fold {
    id: RecordId,
    versions: BTreeMap<(Stamp, RecordId), Version>,
}

impl Fold {
    /// Nothing known yet of the memory `id`.
    pub fn new(id: RecordId) -> Self {
        Self {
            id,
            versions: BTreeMap::new(),
        }
    }

    /// Takes a record in; one that is no version of this memory changes nothing.
    pub fn join(&mut self, record: &Record) {
        let header = record.header();
        let body = record.body().map(|bytes| Body::open(header.kind, &bytes));
        let (content, replaces) = match (header.kind, body) {
            (Kind::MEMORY, Some(Ok(Body::Memory(memory)))) if record.id() == self.id => {
                (Some(memory), Vec::new())
            }
            (Kind::MEMORY, None) if record.id() == self.id => (None, Vec::new()),
            (Kind::REVISION, Some(Ok(Body::Revision(revision)))) if revision.of == self.id => {
                (Some(revision.memory), revision.replaces)
            }
            // A revision without its body does not say what it replaces, and shows nothing.
            _ => return,
        };
        let version = Version {
            record: record.clone(),
            content,
            replaces,
        };
        let place = (header.stamp, record.id());
        // A copy with its body knows more than one without.
        let known = self
            .versions
            .get(&place)
            .is_some_and(|v| v.content.is_some());
        if !known {
            self.versions.insert(place, version);
        }
    }

    /// All versions, oldest first.
    pub fn versions(&self) -> impl Iterator<Item = &Version> {
        self.versions.values()
    }

    /// The versions that no other one replaces and that still have content, latest first. The first
    /// is the one to show; more than one is a conflict.
    pub fn heads(&self) -> Vec<&Version> {
        self.heads_at(Stamp::from_bits(u64::MAX))
    }

    /// The heads as they were at `stamp`.
    pub fn heads_at(&self, stamp: Stamp) -> Vec<&Version> {
        let then = || {
            self.versions
                .range(..=(stamp, RecordId([255; 32])))
                .map(|(_, v)| v)
        };
        let replaced: BTreeSet<RecordId> = then()
            .flat_map(|version| version.replaces.iter().copied())
            .collect();
        let mut heads: Vec<_> = then()
            .filter(|v| v.content.is_some() && !replaced.contains(&v.record.id()))
            .collect();
        heads.reverse();
        heads
    }
}

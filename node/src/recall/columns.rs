//! Columns: what is known of each memory beside its words, and who may see it.
//!
//! One row per slot, in two arrays: the gate every question passes (topic, time), small enough to
//! scan for each, and the rest. Filters are answered by that scan: no index to keep true.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::names::Names;
use super::score::Hit;
use super::{Entry, Filter};

/// Tags kept of one memory.
pub(super) const TAGS: usize = 64;
/// A version that no later one has replaced.
pub(super) const CURRENT: u64 = u64::MAX;

/// The rows of all slots.
#[derive(Debug, Default)]
pub(super) struct Columns {
    gates: Vec<Gate>,
    rows: Vec<Row>,
    topics: Names<[u8; 32]>,
    authors: Names<[u8; 32]>,
    tags: Names<Arc<str>>,
}

#[derive(Debug)]
struct Gate {
    topic: u32,
    length: u32,
    version_ms: u64,
    superseded_ms: u64,
}

#[derive(Debug)]
struct Row {
    id: [u8; 32],
    author: u32,
    kind: u8,
    importance: f32,
    tags: Box<[u32]>,
    created_ms: u64,
    valid_from_ms: u64,
    valid_until_ms: u64,
}

/// The slots one question may look at.
pub(super) struct Scope {
    /// By slot.
    sight: Vec<Sight>,
    /// Slots that pass the whole filter, ascending.
    pub(super) matching: Vec<u32>,
    /// How many slots are readable, and their tokens: the collection statistics are about.
    pub(super) documents: u64,
    pub(super) length: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Sight {
    Hidden,
    /// In a topic the asker may read and of the time asked for: it counts in statistics.
    Readable,
    /// And it passes the rest of the filter: it may be an answer.
    Matching,
}

impl Scope {
    pub(super) fn reads(&self, slot: u32) -> bool {
        self.sight[slot as usize] != Sight::Hidden
    }

    pub(super) fn matches(&self, slot: u32) -> bool {
        self.sight[slot as usize] == Sight::Matching
    }
}

impl Columns {
    /// Adds a row in the next slot; it is current until [`Self::supersede`]d.
    pub(super) fn push(&mut self, entry: &Entry<'_>, length: u32) {
        self.gates.push(Gate {
            topic: self.topics.take(&entry.topic),
            length,
            version_ms: entry.version_ms,
            superseded_ms: CURRENT,
        });
        let distinct: BTreeSet<&str> = entry.tags.iter().map(|tag| &**tag).take(TAGS).collect();
        let tags = distinct
            .into_iter()
            .map(|tag| self.tags.take(tag))
            .collect();
        self.rows.push(Row {
            id: entry.id,
            author: self.authors.take(&entry.author),
            kind: entry.kind,
            importance: super::score::within(entry.importance),
            tags,
            created_ms: entry.created_ms,
            valid_from_ms: entry.valid_from_ms.unwrap_or(0),
            valid_until_ms: entry.valid_until_ms.unwrap_or(u64::MAX),
        });
    }

    /// Takes a row out; the last takes its slot.
    pub(super) fn swap_remove(&mut self, slot: u32) {
        let gate = self.gates.swap_remove(slot as usize);
        let row = self.rows.swap_remove(slot as usize);
        self.topics.release(gate.topic);
        self.authors.release(row.author);
        for tag in row.tags {
            self.tags.release(tag);
        }
    }

    /// From when on a slot's version is no longer the current one; [`CURRENT`] for never.
    pub(super) fn supersede(&mut self, slot: u32, at_ms: u64) {
        self.gates[slot as usize].superseded_ms = at_ms;
    }

    /// The memory and version in a slot, if there is such a slot.
    pub(super) fn key(&self, slot: u32) -> Option<([u8; 32], u64)> {
        Some((
            self.rows.get(slot as usize)?.id,
            self.gates[slot as usize].version_ms,
        ))
    }

    /// The number of a slot's topic, below [`Self::topics`].
    pub(super) fn topic(&self, slot: u32) -> usize {
        self.gates[slot as usize].topic as usize
    }

    /// The topics by number.
    pub(super) fn topics(&self) -> impl Iterator<Item = Option<[u8; 32]>> {
        (0..self.topics.bound() as u32).map(|number| self.topics.name(number).copied())
    }

    pub(super) fn length(&self, slot: u32) -> u32 {
        self.gates[slot as usize].length
    }

    /// Slots in use.
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// A hit for a slot, not yet scored.
    pub(super) fn hit(&self, slot: u32) -> Hit {
        let (gate, row) = (&self.gates[slot as usize], &self.rows[slot as usize]);
        Hit {
            id: row.id,
            version_ms: gate.version_ms,
            created_ms: row.created_ms,
            importance: row.importance,
            score: 0.0,
            lexical: 0.0,
            semantic: 0.0,
            frequencies: Vec::new(),
            length: gate.length,
        }
    }

    /// What orders two slots of equal score: newer first, then the id. Never the slot.
    pub(super) fn newer(&self, a: u32, b: u32) -> std::cmp::Ordering {
        let (a, b) = (&self.rows[a as usize], &self.rows[b as usize]);
        b.created_ms.cmp(&a.created_ms).then(a.id.cmp(&b.id))
    }

    /// Which slots a filter lets through. A topic not named is not readable, and nothing in it
    /// shows, not even as a change of another score.
    pub(super) fn scope(&self, filter: &Filter) -> Scope {
        let mut allowed = vec![false; self.topics.bound()];
        for topic in filter
            .topics
            .iter()
            .filter_map(|topic| self.topics.find(topic))
        {
            allowed[topic as usize] = true;
        }
        let wanted = self.wanted(filter);
        let mut scope = Scope {
            sight: vec![Sight::Hidden; self.gates.len()],
            matching: Vec::new(),
            documents: 0,
            length: 0,
        };
        for (slot, gate) in self.gates.iter().enumerate() {
            let of_its_time = match filter.as_of_ms {
                None => gate.superseded_ms == CURRENT,
                Some(at) => gate.version_ms <= at && at < gate.superseded_ms,
            };
            if !of_its_time || !allowed[gate.topic as usize] {
                continue;
            }
            scope.documents += 1;
            scope.length += u64::from(gate.length);
            scope.sight[slot] = match &wanted {
                Some(wanted) if wanted.has(&self.rows[slot]) => {
                    scope.matching.push(slot as u32);
                    Sight::Matching
                }
                _ => Sight::Readable,
            };
        }
        scope
    }

    /// The filter in this index's numbers; `None` if it names a tag or author that nothing here has.
    fn wanted(&self, filter: &Filter) -> Option<Wanted> {
        let tags = filter
            .tags
            .iter()
            .map(|tag| self.tags.find(&**tag))
            .collect::<Option<_>>()?;
        let author = match &filter.author {
            Some(author) => Some(self.authors.find(author)?),
            None => None,
        };
        let all = filter.tags.is_empty()
            && author.is_none()
            && filter.kind.is_none()
            && filter.since_ms.is_none()
            && filter.until_ms.is_none()
            && filter.valid_at_ms.is_none()
            && filter.after.is_none();
        Some(Wanted {
            all,
            tags,
            author,
            kind: filter.kind,
            since_ms: filter.since_ms.unwrap_or(0),
            until_ms: filter.until_ms.unwrap_or(u64::MAX),
            valid_at_ms: filter.valid_at_ms,
            after: filter.after,
        })
    }

    /// Bytes held, near enough.
    pub(super) fn memory_bytes(&self) -> usize {
        let tags: usize = self.rows.iter().map(|row| size_of_val(&*row.tags)).sum();
        let names: usize = self.tags.iter().map(|tag| tag.len() + 16).sum();
        self.gates.capacity() * size_of::<Gate>()
            + self.rows.capacity() * size_of::<Row>()
            + tags
            + names
            + self.topics.memory_bytes()
            + self.authors.memory_bytes()
            + self.tags.memory_bytes()
    }
}

struct Wanted {
    /// The filter asks for nothing beyond topics and time.
    all: bool,
    tags: Vec<u32>,
    author: Option<u32>,
    kind: Option<u8>,
    since_ms: u64,
    until_ms: u64,
    valid_at_ms: Option<u64>,
    after: Option<(u64, [u8; 32])>,
}

impl Wanted {
    fn has(&self, row: &Row) -> bool {
        self.all
            || (self.author.is_none_or(|author| author == row.author)
                && self.kind.is_none_or(|kind| kind == row.kind)
                && self.since_ms <= row.created_ms
                && row.created_ms <= self.until_ms
                && self
                    .valid_at_ms
                    .is_none_or(|at| row.valid_from_ms <= at && at < row.valid_until_ms)
                && self.after.is_none_or(|(ms, id)| {
                    row.created_ms < ms || (row.created_ms == ms && row.id > id)
                })
                && self.tags.iter().all(|tag| row.tags.contains(tag)))
    }
}

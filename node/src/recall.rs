//! Recall: the index over this node's memories.
//!
//! Derived and rebuildable: it holds nothing that the records do not, and is never a source of
//! truth. It lives in memory, so erasing a memory leaves nothing of it on disk. Given the same
//! memories it gives the same answers, in whatever order they came in.
//!
//! Two rankings look at each memory: BM25 over stemmed words (`text.rs`, `postings.rs`) and the
//! cosine of hashed spelling (`vector.rs`); `score.rs` makes one of the two. Before either looks, the
//! filter decides what the asker may read (`columns.rs`): what lies outside is not found, not
//! counted, and moves no score.
//!
//! Not here: sockets, files, a clock, threads, the law (the caller passes the topics it allowed), and
//! the text itself (the caller reads it from the record, with its provenance).

mod columns;
mod names;
mod postings;
#[cfg(test)]
mod quality;
mod query;
#[cfg(test)]
mod reference;
mod score;
#[cfg(test)]
mod stories;
#[cfg(test)]
mod swarm;
mod text;
mod union;
mod vector;

use std::collections::{BTreeMap, BTreeSet};

use columns::{CURRENT, Columns, Scope};
use postings::Postings;
pub use query::Query;
use score::{Bm25, FLOOR};
pub use score::{Hit, Mode, Statistics, TermCount, rank};
use text::{TEXT_BYTES, Words};
pub use union::Union;
pub use vector::EMBEDDER;
use vector::{Embedding, Vectors};

/// The most hits one search gives.
pub const MAX_HITS: usize = 1_000;
/// The most versions kept of one memory; of more, the oldest go.
pub const MAX_VERSIONS: usize = 1_024;
/// The most versions an index holds, over all memories.
pub const MAX_ENTRIES: usize = postings::MAX_SLOTS;

/// One version of one memory, to be indexed.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a> {
    /// The memory; the same for all its versions.
    pub id: [u8; 32],
    /// When this version was written, in ms since 1970. The latest version is the current one.
    pub version_ms: u64,
    /// The topic, whose policy decides who reads it.
    pub topic: [u8; 32],
    /// Who wrote it.
    pub author: [u8; 32],
    /// Episodic, semantic, procedural; compared, not understood.
    pub kind: u8,
    /// Compared exactly; the first 64 are kept.
    pub tags: &'a [String],
    /// When the memory was first made, in ms since 1970; the same for all its versions.
    pub created_ms: u64,
    /// From when what it says is true; `None` for always before.
    pub valid_from_ms: Option<u64>,
    /// Until when, exclusive; `None` for ever after.
    pub valid_until_ms: Option<u64>,
    /// 0 to 1; orders memories that match equally well.
    pub importance: f32,
    /// The first 64 KiB are searchable.
    pub text: &'a str,
}

/// What an asker may see and wants to see. The default allows nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// The topics the asker may read: the permission. Nothing outside shows in any way.
    pub topics: BTreeSet<[u8; 32]>,
    /// Tags that must all be there.
    pub tags: Vec<String>,
    /// Only this author's.
    pub author: Option<[u8; 32]>,
    /// Only this kind.
    pub kind: Option<u8>,
    /// Made at or after, in ms since 1970.
    pub since_ms: Option<u64>,
    /// Made at or before, in ms since 1970.
    pub until_ms: Option<u64>,
    /// What was known at this instant: the version current then. `None` for the current one.
    pub as_of_ms: Option<u64>,
    /// Only what its author says was true at this instant. `None` for all.
    pub valid_at_ms: Option<u64>,
    /// Only what comes after this memory (when made, id) in the order of newest first: the next page.
    pub after: Option<(u64, [u8; 32])>,
}

/// Why [`Index::insert`] refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InsertError {
    /// The index holds all the versions it can.
    #[error("the index is full at {limit} versions")]
    Full {
        /// [`MAX_ENTRIES`].
        limit: usize,
    },
}

/// The index. Slots are dense, and every part has one row per slot.
#[derive(Debug, Default)]
pub struct Index {
    slots: BTreeMap<([u8; 32], u64), u32>,
    memories: usize,
    columns: Columns,
    postings: Postings,
    vectors: Vectors,
}

impl Index {
    /// Indexes one version of a memory. The latest version supersedes the earlier ones, which stay
    /// for `as_of`; versions may come in any order. The same version again replaces itself.
    ///
    /// # Errors
    /// [`InsertError::Full`], and then nothing has changed.
    pub fn insert(&mut self, entry: &Entry<'_>) -> Result<(), InsertError> {
        let key = (entry.id, entry.version_ms);
        if self.columns.len() >= MAX_ENTRIES && !self.slots.contains_key(&key) {
            return Err(InsertError::Full { limit: MAX_ENTRIES });
        }
        self.remove_version(key);
        let words = Words::of(entry.text, TEXT_BYTES);
        let terms = words.terms();
        let slot = self.columns.len() as u32;
        self.columns.push(entry, words.len() as u32);
        self.postings.push(&terms);
        self.vectors.push(&Embedding::of(&terms));
        self.slots.insert(key, slot);
        self.link(key, slot);
        self.drop_oldest(entry.id);
        Ok(())
    }

    /// Erases a memory: all its versions, and every trace of them. A term that no other memory has
    /// leaves the dictionary. Returns whether there was anything.
    pub fn remove(&mut self, id: &[u8; 32]) -> bool {
        let versions: Vec<_> = self
            .slots
            .range(versions_of(*id))
            .map(|(&key, _)| key)
            .collect();
        for &key in &versions {
            self.remove_version(key);
        }
        !versions.is_empty()
    }

    /// The best `k` (at most [`MAX_HITS`]) memories for a query, best first: by score, then newer,
    /// then id. A blank query gives the newest; one without any word gives nothing.
    pub fn search(&self, query: &str, filter: &Filter, mode: Mode, k: usize) -> Vec<Hit> {
        self.find(&Query::of(query), filter, mode, None, k)
    }

    /// The same for a query made ready, scored by `statistics` where they are given: those of a whole
    /// swarm, say. Without them, by what this index holds.
    pub fn find(
        &self,
        query: &Query,
        filter: &Filter,
        mode: Mode,
        statistics: Option<&Statistics>,
        k: usize,
    ) -> Vec<Hit> {
        let k = k.min(MAX_HITS);
        let scope = self.columns.scope(filter);
        if query.is_newest() {
            return self.newest(scope, k);
        }
        let own = || self.count(query.terms(), &scope);
        let statistics = statistics.map_or_else(own, Statistics::clone);
        let bm25 = Bm25::new(&statistics);
        let embedding = &query.embedding;
        let sums = match mode {
            Mode::Semantic => vec![0.0; self.columns.len()],
            Mode::Hybrid | Mode::Lexical => self.sums(&statistics, &bm25, &scope),
        };
        let wide = (4 * k).max(128);
        let mut candidates = match mode {
            Mode::Semantic => Vec::new(),
            Mode::Hybrid | Mode::Lexical => self.best_by_words(&sums, &scope, wide),
        };
        if mode != Mode::Lexical {
            candidates.extend(self.best_by_spelling(embedding, &scope, wide));
            candidates.sort_unstable();
            candidates.dedup();
        }
        let mut hits: Vec<(Hit, u32)> = Vec::with_capacity(candidates.len());
        for slot in candidates {
            let mut hit = self.columns.hit(slot);
            hit.lexical = bm25.normalised(sums[slot as usize]);
            if mode != Mode::Lexical {
                hit.semantic = score::within(self.vectors.cosine(slot, embedding));
            }
            hit.score = score::fuse(mode, hit.lexical, hit.semantic, hit.importance);
            hits.push((hit, slot));
        }
        hits.sort_unstable_by(|(a, _), (b, _)| score::order(a, b));
        hits.truncate(k);
        let with_counts = |(hit, slot)| self.with_frequencies(hit, slot, &statistics);
        hits.into_iter().map(with_counts).collect()
    }

    /// What a swarm's asker needs to score this node's hits beside other nodes': see [`rank`]. Only
    /// memories the filter lets the asker read are counted.
    pub fn statistics(&self, query: &str, filter: &Filter) -> Statistics {
        self.count(Query::of(query).terms(), &self.columns.scope(filter))
    }

    /// The same for each topic by itself, for a [`Union`]. A topic of which nothing is held is absent.
    pub fn statistics_by_topic(
        &self,
        query: &Query,
        filter: &Filter,
    ) -> BTreeMap<[u8; 32], Statistics> {
        let scope = self.columns.scope(filter);
        let topics: Vec<_> = self.columns.topics().collect();
        let mut counts = vec![Statistics::of(query.terms()); topics.len()];
        for slot in (0..self.columns.len() as u32).filter(|slot| scope.reads(*slot)) {
            let count = &mut counts[self.columns.topic(slot)];
            count.documents += 1;
            count.length += u64::from(self.columns.length(slot));
        }
        for (at, term) in query.terms().iter().enumerate() {
            let Some(number) = self.postings.find(term) else {
                continue;
            };
            let postings = self.postings.list(number);
            for posting in postings.filter(|posting| scope.reads(posting.slot)) {
                counts[self.columns.topic(posting.slot)].terms[at].documents += 1;
            }
        }
        let held = topics.into_iter().zip(counts);
        held.filter(|(_, count)| count.documents > 0)
            .filter_map(|(topic, count)| Some((topic?, count)))
            .collect()
    }

    /// How many memories are held.
    pub fn len(&self) -> usize {
        self.memories
    }

    /// Whether no memory is held.
    pub fn is_empty(&self) -> bool {
        self.memories == 0
    }

    /// How many versions are held, over all memories.
    pub fn versions(&self) -> usize {
        self.columns.len()
    }

    /// How many distinct terms the dictionary has.
    pub fn terms(&self) -> usize {
        self.postings.terms()
    }

    /// Heap bytes held, near enough: an allocator's own overhead is not counted.
    pub fn memory_bytes(&self) -> usize {
        // A B-tree's nodes are about two thirds full.
        self.slots.len() * size_of::<(([u8; 32], u64), u32)>() * 3 / 2
            + self.columns.memory_bytes()
            + self.postings.memory_bytes()
            + self.vectors.memory_bytes()
    }

    /// Sets when a new version and the one before it are superseded.
    fn link(&mut self, key: ([u8; 32], u64), slot: u32) {
        let (id, version_ms) = key;
        let later = version_ms
            .checked_add(1)
            .map(|after| (id, after)..=(id, u64::MAX));
        let next = later.and_then(|later| self.slots.range(later).next());
        let superseded_ms = next.map_or(CURRENT, |(&(_, version_ms), _)| version_ms);
        self.columns.supersede(slot, superseded_ms);
        match self.slots.range((id, 0)..key).next_back() {
            Some((_, &earlier)) => self.columns.supersede(earlier, version_ms),
            None if next.is_none() => self.memories += 1,
            None => {}
        }
    }

    /// Takes one version out of every part. The version before it, if any, still names this one as
    /// its successor: callers take the oldest first, or put this one back.
    fn remove_version(&mut self, key: ([u8; 32], u64)) {
        let Some(slot) = self.slots.remove(&key) else {
            return;
        };
        if self.slots.range(versions_of(key.0)).next().is_none() {
            self.memories -= 1;
        }
        self.columns.swap_remove(slot);
        self.postings.swap_remove(slot);
        self.vectors.swap_remove(slot);
        if let Some(moved) = self.columns.key(slot) {
            self.slots.insert(moved, slot);
        }
    }

    fn drop_oldest(&mut self, id: [u8; 32]) {
        let held = self
            .slots
            .range(versions_of(id))
            .take(MAX_VERSIONS + 1)
            .count();
        if held > MAX_VERSIONS {
            let oldest = self
                .slots
                .range(versions_of(id))
                .next()
                .map(|(&key, _)| key);
            self.remove_version(oldest.expect("more than none are held"));
        }
    }

    fn newest(&self, mut scope: Scope, k: usize) -> Vec<Hit> {
        let found = &mut scope.matching;
        keep_first(found, k, |&a, &b| self.columns.newer(a, b));
        found.sort_unstable_by(|&a, &b| self.columns.newer(a, b));
        found.iter().map(|&slot| self.columns.hit(slot)).collect()
    }

    fn count(&self, terms: &[String], scope: &Scope) -> Statistics {
        let everything = scope.documents == self.columns.len() as u64;
        let count = |term: &String| {
            let documents = self.postings.find(term).map_or(0, |number| {
                let list = self.postings.list(number);
                if everything {
                    list.len()
                } else {
                    list.filter(|posting| scope.reads(posting.slot)).count()
                }
            });
            TermCount {
                term: term.clone(),
                documents: documents as u64,
            }
        };
        let terms = terms.iter().map(count).collect();
        Statistics {
            terms,
            documents: scope.documents,
            length: scope.length,
        }
    }

    /// The BM25 sum of every matching slot, by slot. Terms are added in the query's order, so equal
    /// texts have equal sums.
    fn sums(&self, statistics: &Statistics, bm25: &Bm25, scope: &Scope) -> Vec<f32> {
        let mut sums = vec![0.0; self.columns.len()];
        for (term, &idf) in statistics.terms.iter().zip(&bm25.idf) {
            let Some(number) = self.postings.find(&term.term) else {
                continue;
            };
            for posting in self.postings.list(number) {
                if scope.matches(posting.slot) {
                    let length = self.columns.length(posting.slot);
                    sums[posting.slot as usize] += bm25.term(idf, posting.frequency, length);
                }
            }
        }
        sums
    }

    fn best_by_words(&self, sums: &[f32], scope: &Scope, n: usize) -> Vec<u32> {
        let found = scope
            .matching
            .iter()
            .map(|&slot| (sums[slot as usize], slot));
        self.best(found.filter(|&(sum, _)| sum > 0.0).collect(), n)
    }

    fn best_by_spelling(&self, query: &Embedding, scope: &Scope, n: usize) -> Vec<u32> {
        let near = self.vectors.shortlist(query, &scope.matching).into_iter();
        let found = near.map(|slot| (self.vectors.cosine(slot, query), slot));
        self.best(found.filter(|&(cosine, _)| cosine >= FLOOR).collect(), n)
    }

    fn best(&self, mut scored: Vec<(f32, u32)>, n: usize) -> Vec<u32> {
        keep_first(&mut scored, n, |(a_score, a), (b_score, b)| {
            b_score
                .total_cmp(a_score)
                .then_with(|| self.columns.newer(*a, *b))
        });
        scored.into_iter().map(|(_, slot)| slot).collect()
    }

    fn with_frequencies(&self, mut hit: Hit, slot: u32, statistics: &Statistics) -> Hit {
        let frequency = |term: &TermCount| {
            self.postings
                .find(&term.term)
                .map_or(0, |term| self.postings.frequency(slot, term))
        };
        hit.frequencies = statistics.terms.iter().map(frequency).collect();
        hit
    }
}

fn versions_of(id: [u8; 32]) -> std::ops::RangeInclusive<([u8; 32], u64)> {
    (id, 0)..=(id, u64::MAX)
}

/// Keeps the first `n` by `order`, themselves unsorted.
fn keep_first<T>(
    items: &mut Vec<T>,
    n: usize,
    mut order: impl FnMut(&T, &T) -> std::cmp::Ordering,
) {
    if n < items.len() {
        if n > 0 {
            items.select_nth_unstable_by(n - 1, &mut order);
        }
        items.truncate(n);
    }
}

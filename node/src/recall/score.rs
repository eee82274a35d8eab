//! Scores: BM25, and how the two rankings become one.
//!
//! Lexical is BM25 (Robertson & Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond",
//! 2009; k1 = 1.2, b = 0.75) divided by the most any text could reach for this query, so it is 0 to
//! 1, means the same on every node, and falls when the query has words nobody wrote. Semantic is the
//! cosine, negative as 0. They are fused on these scores, never on ranks: reciprocal-rank fusion
//! measured worse than BM25 alone.
//!
//! A hit carries the counts its score was made of. So the asker of a swarm makes one [`Statistics`] of
//! all nodes' (`union.rs`) and calls [`rank`] on their hits: scores made with each node's own
//! statistics do not compare.

use std::cmp::Ordering;
use std::collections::BTreeMap;

const K1: f32 = 1.2;
const B: f32 = 0.75;
/// How much of a hybrid score is lexical; the rest is semantic. Chosen on the set in `quality.rs`.
const LEXICAL: f32 = 0.7;
/// How much of the final score is the author's own word of importance: enough to order equals.
const IMPORTANCE: f32 = 0.02;
/// A cosine below this finds nothing on its own: it is three deviations of what chance gives in 256
/// dimensions.
pub(super) const FLOOR: f32 = 0.2;

/// Which rankings to use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// Both, fused.
    #[default]
    Hybrid,
    /// BM25 alone.
    Lexical,
    /// The cosine alone.
    Semantic,
}

/// One memory found, with what its score was made of.
#[derive(Debug, Clone, PartialEq)]
pub struct Hit {
    /// The memory.
    pub id: [u8; 32],
    /// Which version of it: the instant it was written, in ms since 1970.
    pub version_ms: u64,
    /// When the memory was first made, in ms since 1970.
    pub created_ms: u64,
    /// The author's own word, 0 to 1.
    pub importance: f32,
    /// 0 to 1; 0 for an empty query.
    pub score: f32,
    /// The lexical part before weighing, 0 to 1; 0 in [`Mode::Semantic`].
    pub lexical: f32,
    /// The semantic part before weighing, 0 to 1; 0 in [`Mode::Lexical`].
    pub semantic: f32,
    /// How often each term of [`Statistics::terms`] occurs in it, in that order.
    pub frequencies: Vec<u32>,
    /// How many tokens it has.
    pub length: u32,
}

/// What BM25 must know of a collection to score a query in it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Statistics {
    /// The query's terms, in order of appearance, at most 64.
    pub terms: Vec<TermCount>,
    /// How many memories the asker may read.
    pub documents: u64,
    /// Tokens in all of them.
    pub length: u64,
}

/// In how many memories a term occurs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TermCount {
    /// The stem.
    pub term: String,
    /// Document frequency among the memories the asker may read.
    pub documents: u64,
}

impl Statistics {
    /// Adds the statistics of another collection for the same query. Its terms are matched by name;
    /// terms this side did not ask for are ignored. What is in both counts twice: of copies, see
    /// [`super::Union`].
    pub fn merge(&mut self, other: &Self) {
        self.documents = self.documents.saturating_add(other.documents);
        self.length = self.length.saturating_add(other.length);
        for term in &mut self.terms {
            if let Some(same) = other.terms.iter().find(|theirs| theirs.term == term.term) {
                term.documents = term.documents.saturating_add(same.documents);
            }
        }
    }
}

/// BM25 made ready for one query in one collection.
pub(super) struct Bm25 {
    /// Inverse document frequency of each term of the query.
    pub(super) idf: Vec<f32>,
    ceiling: f32,
    per_token: f32,
}

impl Bm25 {
    pub(super) fn new(statistics: &Statistics) -> Self {
        let documents = statistics.documents as f32;
        let idf = |term: &TermCount| {
            let holders = term.documents.min(statistics.documents) as f32;
            (1.0 + (documents - holders + 0.5) / (holders + 0.5)).ln()
        };
        let idf: Vec<f32> = statistics.terms.iter().map(idf).collect();
        let ceiling = (K1 + 1.0) * idf.iter().sum::<f32>();
        let average = statistics.length as f32 / documents.max(1.0);
        Self {
            idf,
            ceiling,
            per_token: K1 * B / average.max(1.0),
        }
    }

    /// What one term adds to a document's sum.
    pub(super) fn term(&self, idf: f32, frequency: u32, length: u32) -> f32 {
        let frequency = frequency as f32;
        let norm = K1 * (1.0 - B) + self.per_token * length as f32;
        idf * frequency * (K1 + 1.0) / (frequency + norm)
    }

    /// The sum, as a share of the most any document could have.
    pub(super) fn normalised(&self, sum: f32) -> f32 {
        if self.ceiling > 0.0 {
            (sum / self.ceiling).clamp(0.0, 1.0)
        } else {
            0.0
        }
    }

    fn whole(&self, frequencies: &[u32], length: u32) -> f32 {
        let terms = self.idf.iter().zip(frequencies);
        let sum = terms
            .filter(|&(_, &frequency)| frequency > 0)
            .fold(0.0, |sum, (&idf, &f)| sum + self.term(idf, f, length));
        self.normalised(sum)
    }
}

/// The final score, 0 to 1.
pub(super) fn fuse(mode: Mode, lexical: f32, semantic: f32, importance: f32) -> f32 {
    let relevance = match mode {
        Mode::Hybrid => LEXICAL * lexical + (1.0 - LEXICAL) * semantic,
        Mode::Lexical => lexical,
        Mode::Semantic => semantic,
    };
    (1.0 - IMPORTANCE) * relevance + IMPORTANCE * importance
}

/// The order of answers: score, then newer, then id. Total, and free of any storage order.
pub(super) fn order(a: &Hit, b: &Hit) -> Ordering {
    b.score
        .total_cmp(&a.score)
        .then(b.created_ms.cmp(&a.created_ms))
        .then(a.id.cmp(&b.id))
        .then(b.version_ms.cmp(&a.version_ms))
}

/// Scores the union of several nodes' hits by their merged statistics: the best `k`, best first, one
/// per memory (its latest version). On one node's hits and statistics it changes nothing.
pub fn rank(hits: Vec<Hit>, statistics: &Statistics, mode: Mode, k: usize) -> Vec<Hit> {
    let bm25 = Bm25::new(statistics);
    let mut best: BTreeMap<[u8; 32], Hit> = BTreeMap::new();
    for mut hit in hits {
        // A peer's numbers: out of range means nothing here.
        hit.semantic = within(hit.semantic);
        hit.importance = within(hit.importance);
        hit.lexical = match mode {
            Mode::Semantic => 0.0,
            Mode::Hybrid | Mode::Lexical => bm25.whole(&hit.frequencies, hit.length),
        };
        if !statistics.terms.is_empty() {
            hit.score = fuse(mode, hit.lexical, hit.semantic, hit.importance);
        }
        let newer = best.get(&hit.id).is_none_or(|known| {
            hit.version_ms
                .cmp(&known.version_ms)
                .then(order(known, &hit))
                == Ordering::Greater
        });
        if newer {
            best.insert(hit.id, hit);
        }
    }
    let mut ranked: Vec<Hit> = best.into_values().collect();
    ranked.sort_unstable_by(order);
    ranked.truncate(k);
    ranked
}

/// A number of 0 to 1; anything else is 0 or 1, whichever is nearer, and NaN is 0.
pub(super) fn within(number: f32) -> f32 {
    if number.is_nan() {
        0.0
    } else {
        number.clamp(0.0, 1.0)
    }
}

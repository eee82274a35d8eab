//! The union: one set of statistics for what several nodes hold.
//!
//! Scores made with each node's own statistics do not compare, so the asker of a swarm gathers all
//! statistics first and has every node score by their union. Whoever holds a topic holds all of it,
//! so of the copies of one topic the fullest counts, once; topics add up.

use std::collections::BTreeMap;

use super::score::{Statistics, TermCount};

/// Statistics of several topics, told by several nodes.
#[derive(Debug, Clone, Default)]
pub struct Union {
    terms: Vec<String>,
    topics: BTreeMap<[u8; 32], Statistics>,
}

impl Union {
    /// Of nothing yet, for a query of these terms.
    pub fn new(terms: &[String]) -> Self {
        Self {
            terms: terms.to_vec(),
            topics: BTreeMap::new(),
        }
    }

    /// One more node's statistics of a topic, for the same terms in the same order.
    pub fn add(&mut self, topic: [u8; 32], told: &Statistics) {
        let empty = || Statistics::of(&self.terms);
        let known = self.topics.entry(topic).or_insert_with(empty);
        known.documents = known.documents.max(told.documents);
        known.length = known.length.max(told.length);
        for (known, told) in known.terms.iter_mut().zip(&told.terms) {
            known.documents = known.documents.max(told.documents);
        }
    }

    /// The statistics of all topics together.
    pub fn total(&self) -> Statistics {
        let mut total = Statistics::of(&self.terms);
        for topic in self.topics.values() {
            total.merge(topic);
        }
        total
    }
}

impl Statistics {
    /// Of nothing, for these terms.
    pub(super) fn of(terms: &[String]) -> Self {
        let none = |term: &String| TermCount {
            term: term.clone(),
            documents: 0,
        };
        Self {
            terms: terms.iter().map(none).collect(),
            documents: 0,
            length: 0,
        }
    }
}

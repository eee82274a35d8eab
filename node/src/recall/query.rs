//! A query made ready: its terms and its vector, which is all that a ranking looks at.
//!
//! It is made from text here, or from the parts that another node sent, and both rank alike. Not here:
//! how words are found (`text.rs`) and embedded (`vector.rs`).

use super::text::{QUERY_BYTES, QUERY_TERMS, Words};
use super::vector::{DIMENSIONS, Embedding};

/// A query, ready to be looked up.
#[derive(Debug, Clone, PartialEq)]
pub struct Query {
    terms: Vec<String>,
    pub(super) embedding: Embedding,
    newest: bool,
}

impl Query {
    /// The query that `text` is. Blank text asks for the newest.
    pub fn of(text: &str) -> Self {
        let words = Words::of(text, QUERY_BYTES);
        Self {
            terms: words.query(),
            embedding: Embedding::of(&words.terms()),
            newest: text.trim().is_empty(),
        }
    }

    /// The query of another node: stemmed terms, and a vector of this node's own embedder if it has
    /// one. Without terms it asks for the newest. Terms beyond the bound and vectors of another size
    /// are left out.
    pub fn from_parts(mut terms: Vec<String>, values: Option<&[u8]>) -> Self {
        terms.truncate(QUERY_TERMS);
        let newest = terms.is_empty();
        let values = values.and_then(|values| values.first_chunk::<DIMENSIONS>());
        let none = || Embedding::of(&[]);
        Self {
            terms,
            embedding: values.map_or_else(none, Embedding::from_bytes),
            newest,
        }
    }

    /// The stemmed terms, in order of appearance.
    pub fn terms(&self) -> &[String] {
        &self.terms
    }

    /// The vector, one signed byte a dimension.
    pub fn values(&self) -> Vec<u8> {
        self.embedding.to_bytes()
    }

    /// Whether it asks for the newest.
    pub fn is_newest(&self) -> bool {
        self.newest
    }

    /// Whether it has words at all. One that has none, and is not blank, finds nothing.
    pub fn is_void(&self) -> bool {
        self.terms.is_empty() && !self.newest
    }
}

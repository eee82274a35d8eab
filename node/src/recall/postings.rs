//! Postings: for each term, the documents it occurs in.
//!
//! A posting is one `u32`: 26 bits of slot, 6 bits of term frequency (BM25 saturates long before
//! 63). Lists are unsorted and each slot knows where its postings stand, so taking a document out is
//! a swap-remove per term: erasure is immediate and exact, there are no tombstones to compact, and
//! document frequencies are list lengths. A term whose last posting goes leaves the dictionary.
//! Slots are dense: the last document moves into the hole.

use std::sync::Arc;

use super::names::Names;
use super::text::Term;

const FREQUENCY_BITS: u32 = 6;
const MAX_FREQUENCY: u32 = (1 << FREQUENCY_BITS) - 1;
/// How many slots a posting can name.
pub(super) const MAX_SLOTS: usize = 1 << (32 - FREQUENCY_BITS);

/// The dictionary, a list per term, and the links back.
#[derive(Debug, Default)]
pub(super) struct Postings {
    names: Names<Arc<str>>,
    lists: Vec<Vec<u32>>,
    links: Vec<Box<[Link]>>,
}

/// Where one document's posting stands in one term's list. A document's links sort by term.
#[derive(Clone, Copy, Debug)]
struct Link {
    term: u32,
    at: u32,
}

/// What a posting says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Posting {
    /// Which document.
    pub(super) slot: u32,
    /// How often the term occurs there, 1 to 63.
    pub(super) frequency: u32,
}

impl Posting {
    fn pack(self) -> u32 {
        (self.slot << FREQUENCY_BITS) | self.frequency
    }

    fn unpack(packed: u32) -> Self {
        Self {
            slot: packed >> FREQUENCY_BITS,
            frequency: packed & MAX_FREQUENCY,
        }
    }
}

impl Postings {
    /// Adds a document in the next slot. The caller keeps slots under [`MAX_SLOTS`].
    pub(super) fn push(&mut self, terms: &[Term<'_>]) {
        let slot = self.links.len() as u32;
        let mut links = Vec::with_capacity(terms.len());
        for term in terms {
            let number = self.names.take(term.text);
            if self.lists.len() < self.names.bound() {
                self.lists.push(Vec::new());
            }
            let list = &mut self.lists[number as usize];
            links.push(Link {
                term: number,
                at: list.len() as u32,
            });
            list.push(
                Posting {
                    slot,
                    frequency: term.count.min(MAX_FREQUENCY),
                }
                .pack(),
            );
        }
        links.sort_unstable_by_key(|link| link.term);
        self.links.push(links.into_boxed_slice());
    }

    /// Takes a document out; the last document takes its slot.
    pub(super) fn swap_remove(&mut self, slot: u32) {
        for link in std::mem::take(&mut self.links[slot as usize]) {
            let list = &mut self.lists[link.term as usize];
            list.swap_remove(link.at as usize);
            if let Some(&moved) = list.get(link.at as usize) {
                let links = &mut self.links[Posting::unpack(moved).slot as usize];
                let found = links.binary_search_by_key(&link.term, |link| link.term);
                links[found.expect("a posting is linked from its document")].at = link.at;
            }
            if self.names.release(link.term) {
                *list = Vec::new();
            } else if list.len() * 4 < list.capacity() {
                list.shrink_to(list.len() * 2);
            }
        }
        self.links.swap_remove(slot as usize);
        let Some(moved) = self.links.get(slot as usize) else {
            return;
        };
        for link in moved {
            let posting = &mut self.lists[link.term as usize][link.at as usize];
            *posting = Posting {
                slot,
                ..Posting::unpack(*posting)
            }
            .pack();
        }
    }

    /// The number of a term, if any document has it.
    pub(super) fn find(&self, term: &str) -> Option<u32> {
        self.names.find(term)
    }

    /// The documents of a term, in no order.
    pub(super) fn list(&self, term: u32) -> impl ExactSizeIterator<Item = Posting> {
        self.lists[term as usize]
            .iter()
            .map(|&packed| Posting::unpack(packed))
    }

    /// How often a document has a term; 0 if not at all.
    pub(super) fn frequency(&self, slot: u32, term: u32) -> u32 {
        let links = &self.links[slot as usize];
        links
            .binary_search_by_key(&term, |link| link.term)
            .map_or(0, |found| {
                Posting::unpack(self.lists[term as usize][links[found].at as usize]).frequency
            })
    }

    /// Distinct terms held.
    pub(super) fn terms(&self) -> usize {
        self.names.len()
    }

    /// Bytes held, near enough.
    pub(super) fn memory_bytes(&self) -> usize {
        // An `Arc<str>` has two counters before its bytes.
        let words: usize = self.names.iter().map(|name| name.len() + 16).sum();
        let lists: usize = self
            .lists
            .iter()
            .map(|list| list.capacity() * size_of::<u32>())
            .sum();
        let links: usize = self.links.iter().map(|links| size_of_val(&**links)).sum();
        words
            + self.names.memory_bytes()
            + lists
            + self.lists.capacity() * size_of::<Vec<u32>>()
            + links
            + self.links.capacity() * size_of::<Box<[Link]>>()
    }
}

#[cfg(test)]
mod tests {
    use super::super::text::{TEXT_BYTES, Words};
    use super::*;

    fn with(texts: &[&str]) -> Postings {
        let mut postings = Postings::default();
        for text in texts {
            postings.push(&Words::of(text, TEXT_BYTES).terms());
        }
        postings
    }

    fn documents(postings: &Postings, term: &str) -> Vec<(u32, u32)> {
        let number = postings.find(term).expect("the term is held");
        let mut found: Vec<_> = postings
            .list(number)
            .map(|p| (p.slot, p.frequency))
            .collect();
        found.sort_unstable();
        found
    }

    #[test]
    fn the_last_document_moves_into_the_hole() {
        let mut postings = with(&["red tea", "red red wine", "green tea tea"]);
        postings.swap_remove(0);
        assert_eq!(documents(&postings, "tea"), [(0, 2)]);
        assert_eq!(documents(&postings, "red"), [(1, 2)]);
        assert_eq!(documents(&postings, "green"), [(0, 1)]);
        let red = postings.find("red").expect("held");
        assert_eq!(
            (postings.frequency(1, red), postings.frequency(0, red)),
            (2, 0)
        );
    }

    #[test]
    fn a_term_leaves_with_its_last_document() {
        let mut postings = with(&["zanzibar tea", "tea"]);
        postings.swap_remove(0);
        assert_eq!(postings.find("zanzibar"), None);
        assert_eq!(postings.terms(), 1);
        postings.swap_remove(0);
        assert_eq!(postings.terms(), 0);
    }

    #[test]
    fn frequencies_saturate() {
        assert_eq!(
            documents(&with(&["tea ".repeat(500).as_str()]), "tea"),
            [(0, MAX_FREQUENCY)]
        );
    }
}

//! The company: what the hosts of one agent say to each other.
//!
//! The one that holds the agent sends every step to the others, who take it too; what a step is to do
//! waits until enough of them have it. One that has fallen behind, or whose past does not count, is given
//! the whole of the agents.
//!
//! Not here: who holds (`lease`), what is done on this side with what was said (`host/standing`).

use super::lease::{Lease, Reach};
use super::roster::Name;
use crate::ask::{PART_BYTES_MAX, Part};
use aquifer_protocol::NodeId;
use aquifer_protocol::canonical::encodes_to;
use aquifer_wasm::sleepers::Owed;
use minicbor::bytes::{ByteArray, ByteVec};
use minicbor::{Decode, Encode};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Bytes of steps that a holder keeps for those that are behind, and of one word.
const WINDOW_BYTES: usize = 8 << 20;
const WORD_BYTES: usize = 100 << 10;
/// The longest word: the whole of very many agents.
const WHOLE_BYTES: usize = 64 << 20;

/// Something that one host says to another.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(array)]
pub struct Word {
    /// Of whose agents it speaks: the publisher,
    #[n(0)]
    pub publisher: ByteArray<32>,
    /// and the name.
    #[n(1)]
    pub name: String,
    /// In which term.
    #[n(2)]
    pub term: u64,
    /// What it says.
    #[n(3)]
    pub says: Says,
}

/// What a word says.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub enum Says {
    /// Vote for me: I am as far as this.
    #[n(0)]
    Vote(#[n(0)] Reach),
    /// I hold it, and these steps are new.
    #[n(1)]
    Hold {
        /// How far I was when I was chosen.
        #[n(0)]
        from: Reach,
        /// How many steps come before these.
        #[n(1)]
        before: u64,
        /// The steps.
        #[n(2)]
        steps: Vec<Sent>,
        /// So many of all steps are done with.
        #[n(3)]
        done: u64,
        /// Instead of steps: all that is known of the agents.
        #[n(4)]
        whole: Option<ByteVec>,
    },
}

/// A step as it is sent.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(array)]
pub struct Sent {
    /// Which copy took it.
    #[n(0)]
    pub copy: u32,
    /// The id of its input.
    #[n(1)]
    pub input: ByteArray<16>,
    /// The step; with its receipt and proof, if others are to attest it.
    #[n(2)]
    pub step: ByteVec,
}

/// What is said to that.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(array)]
pub struct Said {
    /// The latest term that is known there.
    #[n(0)]
    pub term: u64,
    /// Whether it votes so; or how many steps it has, if they are the holder's.
    #[n(1)]
    pub says: Reply,
}

/// What a reply says.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub enum Reply {
    /// Whether it votes so.
    #[n(0)]
    Voted(#[n(0)] bool),
    /// How many of the holder's steps it has; none if its own are others, or it doubts one.
    #[n(1)]
    Has(#[n(0)] Option<u64>),
}

/// The company of this node in one agent.
#[derive(Debug)]
pub struct Company {
    /// Who holds it.
    pub lease: Lease,
    /// The last steps, by how many come before each.
    window: VecDeque<(u64, Sent)>,
    bytes: usize,
    /// What steps are to do, which do not count yet; and whether it may have been done before.
    pub held: VecDeque<(u64, Owed, bool)>,
    /// Steps taken elsewhere that are not done with there.
    pub undone: VecDeque<(u64, u32, u32)>,
    /// So many are done with.
    pub done: u64,
    /// Hosts that have not answered yet.
    pub busy: BTreeSet<NodeId>,
    /// Whether there is something new to say.
    pub news: bool,
    /// Whether it was said that all hosts have what the former had.
    pub handed: bool,
}

impl Company {
    /// A company that has said nothing yet.
    pub fn new(lease: Lease) -> Self {
        Self {
            lease,
            window: VecDeque::new(),
            bytes: 0,
            held: VecDeque::new(),
            undone: VecDeque::new(),
            done: 0,
            busy: BTreeSet::new(),
            news: false,
            handed: false,
        }
    }

    /// A step was taken here, which others are to take; so many came before it.
    pub fn took(&mut self, before: u64, sent: Sent) {
        self.bytes += sent.step.len();
        self.window.push_back((before, sent));
        while self.bytes > WINDOW_BYTES {
            let oldest = self.window.pop_front();
            self.bytes -= oldest.map_or(0, |(_, sent)| sent.step.len());
        }
        self.news = true;
    }

    /// Forgets what was taken: another holds it now.
    pub fn forgets(&mut self) {
        self.window.clear();
        self.held.clear();
        (self.bytes, self.news) = (0, false);
    }

    /// What is to be said to another host, of so many steps here; none if it must be given the whole.
    pub fn says_to(&self, to: &NodeId, steps: u64) -> Option<Says> {
        let from = self.lease.chosen_at()?;
        let before = match self.lease.heard_of(to) {
            // It has said nothing yet: it is told that we hold it, and says how far it is.
            None => steps,
            // Its steps are not ours.
            Some(None) => return None,
            Some(Some(has)) => has,
        };
        let first = self.window.front().map_or(steps, |(before, _)| *before);
        if before < first || before > steps {
            return None;
        }
        let mut bytes = 0;
        let after = self.window.iter().filter(|(place, _)| *place >= before);
        let some = after.take_while(|(_, sent)| {
            let fits = bytes == 0 || bytes + sent.step.len() <= WORD_BYTES;
            bytes += sent.step.len();
            fits
        });
        Some(Says::Hold {
            from,
            before,
            steps: some.map(|(_, sent)| sent.clone()).collect(),
            done: self.done,
            whole: None,
        })
    }
}

impl Word {
    /// A word about an agent.
    pub fn about(name: &Name, term: u64, says: Says) -> Self {
        Self {
            publisher: name.0.into(),
            name: name.1.clone(),
            term,
            says,
        }
    }

    /// Whose agent it is about.
    pub fn name(&self) -> Name {
        (self.publisher.into(), self.name.clone())
    }

    /// The parts in which it is sent.
    pub fn parts(&self, of: u64) -> Vec<Part> {
        let bytes = minicbor::to_vec(self).expect("a vector takes any encoding");
        let count = bytes.len().div_ceil(PART_BYTES_MAX) as u32;
        let parts = (0..).zip(bytes.chunks(PART_BYTES_MAX));
        parts
            .map(|(number, bytes)| Part {
                of,
                number,
                count,
                bytes: bytes.to_vec().into(),
            })
            .collect()
    }

    /// What was said, if it is canonical. A peer made the bytes.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let word: Self = minicbor::decode(bytes).ok()?;
        encodes_to(&word, bytes).then_some(word)
    }
}

/// Words that have not come whole yet: one of each peer.
#[derive(Debug, Default)]
pub struct Parts(BTreeMap<NodeId, (u64, Vec<u8>, u32)>);

impl Parts {
    /// One more part of a word: all of it, once the last has come in turn.
    pub fn join(&mut self, from: NodeId, part: &Part) -> Option<Vec<u8>> {
        if part.number == 0 {
            self.0.insert(from, (part.of, Vec::new(), 0));
        }
        let (of, bytes, next) = self.0.get_mut(&from)?;
        let fits = bytes.len() + part.bytes.len() <= WHOLE_BYTES;
        if *of != part.of || *next != part.number || !fits {
            self.0.remove(&from);
            return None;
        }
        bytes.extend_from_slice(&part.bytes);
        *next += 1;
        let is_last = *next == part.count;
        is_last.then(|| self.0.remove(&from).map(|(_, bytes, _)| bytes))?
    }
}

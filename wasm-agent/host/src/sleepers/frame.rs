//! Frames: what the journal of sleepers says.
//!
//! Not here: what follows from it (`sleepers`), how it is kept whole (`journal`).

use crate::desk::Effect;
use crate::journal::Journal;
use minicbor::bytes::{ByteArray, ByteVec};
use minicbor::{Decode, Encode};
use std::borrow::Cow;

/// Something that happened, or that is so since the journal was written anew.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub(super) enum Frame<'a> {
    /// Agents of one kind came to live here.
    #[n(0)]
    Hosted {
        #[cbor(n(0), with = "minicbor::bytes")]
        manifest: Cow<'a, [u8]>,
        #[cbor(n(1), with = "minicbor::bytes")]
        module: Cow<'a, [u8]>,
        #[n(2)]
        copies: u32,
    },
    /// An input was taken on: it will be handled, once.
    #[n(1)]
    Delivered {
        #[n(0)]
        number: u64,
        #[n(1)]
        agent: u32,
        #[n(2)]
        id: ByteArray<16>,
        #[cbor(n(3), with = "minicbor::bytes")]
        wakeup: Cow<'a, [u8]>,
    },
    /// It was handled later: all that came of it.
    #[n(2)]
    Stepped {
        #[n(0)]
        number: u64,
        #[n(1)]
        effects: Cow<'a, [Effect]>,
        #[cbor(n(2), with = "minicbor::bytes")]
        after: Cow<'a, [u8]>,
        #[n(3)]
        code: i32,
    },
    /// It came to nothing, and is not tried again.
    #[n(3)]
    Failed {
        #[n(0)]
        number: u64,
        #[n(1)]
        why: String,
    },
    /// What a step was to do was done.
    #[n(4)]
    Done {
        #[n(0)]
        agent: u32,
        #[n(1)]
        seq: u32,
    },
    /// An agent as it was when the journal was written anew.
    #[n(5)]
    Slept {
        #[n(0)]
        agent: u32,
        #[n(1)]
        seq: u32,
        #[n(2)]
        wake_at: u64,
        #[cbor(n(3), with = "minicbor::bytes")]
        state: Cow<'a, [u8]>,
        #[n(4)]
        kept: Vec<(ByteVec, ByteVec)>,
    },
    /// What a step was still to do when the journal was written anew.
    #[n(6)]
    Owed {
        #[n(0)]
        agent: u32,
        #[n(1)]
        seq: u32,
        #[n(2)]
        effects: Cow<'a, [Effect]>,
        #[n(3)]
        input: ByteArray<16>,
        #[n(4)]
        stamp: u64,
    },
    /// The number of the next input when the journal was written anew, and ids of some that were taken on
    /// before.
    #[n(7)]
    Known {
        #[n(0)]
        next: u64,
        #[n(1)]
        ids: Vec<ByteArray<16>>,
    },
    /// Agents of one kind do not live here any more; their numbers stay taken.
    #[n(8)]
    Stopped {
        #[n(0)]
        first: u32,
    },
    /// An agent took a step on an input that is not written down: at once, or following another node.
    #[n(10)]
    Followed {
        #[n(0)]
        agent: u32,
        #[n(1)]
        id: ByteArray<16>,
        #[n(2)]
        stamp: u64,
        #[n(3)]
        effects: Cow<'a, [Effect]>,
        #[cbor(n(4), with = "minicbor::bytes")]
        after: Cow<'a, [u8]>,
        /// Whether it was a timer that woke it.
        #[n(5)]
        timer: bool,
    },
    /// All that was known of the agents of one kind is forgotten: what they are elsewhere comes next.
    #[n(11)]
    Emptied {
        #[n(0)]
        first: u32,
    },
    /// Agents of one kind go on with another module.
    #[n(9)]
    Upgraded {
        #[n(0)]
        first: u32,
        #[cbor(n(1), with = "minicbor::bytes")]
        manifest: Cow<'a, [u8]>,
        #[cbor(n(2), with = "minicbor::bytes")]
        module: Cow<'a, [u8]>,
    },
}

impl Frame<'_> {
    /// Gathers it in a journal.
    pub(super) fn append(&self, to: &mut Journal) {
        to.append_with(|bytes| self.encode_to(bytes));
    }

    pub(super) fn encode_to(&self, bytes: &mut Vec<u8>) {
        minicbor::encode(self, bytes).expect("a vector takes any encoding");
    }

    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        minicbor::decode(bytes).ok()
    }
}

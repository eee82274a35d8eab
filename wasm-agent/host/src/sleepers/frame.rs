//! Frames: what the journal of sleepers says.
//!
//! Not here: what follows from it (`sleepers`), how it is kept whole (`journal`).

use crate::desk::Effect;
use minicbor::bytes::{ByteArray, ByteVec};
use minicbor::{Decode, Encode};

/// Something that happened, or that is so since the journal was written anew.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub(super) enum Frame {
    /// Agents of one kind came to live here.
    #[n(0)]
    Hosted {
        #[n(0)]
        manifest: ByteVec,
        #[n(1)]
        module: ByteVec,
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
        #[n(3)]
        wakeup: ByteVec,
    },
    /// It was handled: all that came of it.
    #[n(2)]
    Stepped {
        #[n(0)]
        number: u64,
        #[n(1)]
        effects: Vec<Effect>,
        #[n(2)]
        after: ByteVec,
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
        #[n(3)]
        state: ByteVec,
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
        effects: Vec<Effect>,
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
    /// An agent took a step elsewhere, and follows.
    #[n(10)]
    Followed {
        #[n(0)]
        agent: u32,
        #[n(1)]
        id: ByteArray<16>,
        #[n(2)]
        stamp: u64,
        #[n(3)]
        effects: Vec<Effect>,
        #[n(4)]
        after: ByteVec,
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
        #[n(1)]
        manifest: ByteVec,
        #[n(2)]
        module: ByteVec,
    },
}

impl Frame {
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        minicbor::to_vec(self).expect("a vector takes any encoding")
    }

    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        minicbor::decode(bytes).ok()
    }
}

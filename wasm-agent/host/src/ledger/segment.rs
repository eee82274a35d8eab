//! Segments: what a file of the ledger says.
//!
//! Three kinds of frames. A kind, before the first step of it; the signature of a batch; and the steps of
//! that batch, so many as it says. A batch whose steps are not all there was torn at the end of the file
//! when the power went, and counts for nothing: what follows it is another batch. Receipts and the tree
//! over them are not written down; they follow from the steps.
//!
//! Not here: which segments there are and how many (`ledger`), what a frame lies in (`journal`).

use super::entry::{Entry, step_from_bytes};
use super::{Kind, LedgerFailure};
use crate::abi::{ANSWERS_MAX, BYTES_MAX, CALLS_MAX, INBOX_MAX, STATE_MAX};
use crate::journal::{Journal, Magic, PAYLOAD_MAX};
use crate::receipt::{BATCH_MAX, Batch, Receipt};
use crate::wake::Step;
use minicbor::bytes::{ByteArray, ByteVec};
use minicbor::{Decode, Encode};
use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;

/// What a segment begins with.
pub(super) const MAGIC: &Magic = b"AQLEDGR2";

/// Most bytes of a step, encoded.
pub(super) const STEP_MAX: usize = PAYLOAD_MAX - Frame::AROUND as usize;

/// More than an answer or a state has around its bytes; an effect pays for that itself.
const HEAD_MAX: usize = 8;

const _: () = assert!(
    ANSWERS_MAX
        + BYTES_MAX as usize
        + (CALLS_MAX as usize + 8) * HEAD_MAX
        + INBOX_MAX
        + 2 * STATE_MAX
        <= STEP_MAX,
    "whatever an agent does has room in a frame"
);

/// What a segment says.
#[derive(Encode, Decode)]
pub(super) enum Frame {
    /// Steps may be of this kind from here on. Kinds are counted from 0.
    #[n(0)]
    Kind {
        #[n(0)]
        manifest: ByteVec,
        #[n(1)]
        module: ByteVec,
    },
    /// A node signed for the steps that follow.
    #[n(1)]
    Batch {
        #[n(0)]
        node: ByteArray<32>,
        #[n(1)]
        signature: ByteArray<64>,
        #[n(2)]
        count: u32,
    },
    /// One of them.
    #[n(2)]
    Step {
        #[n(0)]
        kind: u32,
        #[n(1)]
        step: ByteVec,
    },
}

impl Frame {
    /// More than a frame has around its longest part.
    pub(super) const AROUND: u64 = 160;

    pub(super) fn of_kind(kind: &Kind) -> Self {
        Self::Kind {
            manifest: kind.granted().as_bytes().to_vec().into(),
            module: kind.module().to_vec().into(),
        }
    }

    pub(super) fn of_batch(batch: &Batch) -> Self {
        Self::Batch {
            node: batch.node.into(),
            signature: batch.signature.into(),
            count: batch.count() as u32,
        }
    }

    /// More bytes than a kind has, in its frame.
    pub(super) fn kind_len(kind: &Kind) -> u64 {
        (kind.granted().as_bytes().len() + kind.module().len()) as u64 + Self::AROUND
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        minicbor::to_vec(self).expect("a vector takes any encoding")
    }

    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        minicbor::decode(bytes).ok()
    }

    /// The hash of the kind that it names, if it does and the kind counts.
    pub(super) fn kind(&self) -> Option<[u8; 32]> {
        self.opened().map(|kind| kind.hash())
    }

    fn opened(&self) -> Option<Kind> {
        let Self::Kind { manifest, module } = self else {
            return None;
        };
        // What has run out since was granted when the steps were taken.
        Kind::open(manifest, module.to_vec(), 0).ok()
    }
}

/// A segment that was read, all of it.
#[derive(Default)]
pub(super) struct Segment {
    kinds: Vec<Arc<Kind>>,
    batches: Vec<Signed>,
    nonsense: Option<&'static str>,
}

/// A batch as it is kept.
struct Signed {
    node: [u8; 32],
    signature: [u8; 64],
    count: usize,
    steps: Vec<(u32, ByteVec)>,
}

impl Segment {
    pub(super) fn read(path: &Path) -> Result<Self, LedgerFailure> {
        let mut segment = Self::default();
        Journal::read(MAGIC, path, |payload| segment.take(payload))?;
        match segment.nonsense {
            Some(what) => Err(super::nonsense(path, what)),
            None => Ok(segment),
        }
    }

    fn take(&mut self, payload: &[u8]) {
        let Some(frame) = Frame::read(payload) else {
            self.nonsense = Some("a frame that is none");
            return;
        };
        if let Some(kind) = frame.opened() {
            self.kinds.push(Arc::new(kind));
            return;
        }
        match frame {
            Frame::Kind { .. } => self.nonsense = Some("a kind that does not count"),
            Frame::Batch {
                node,
                signature,
                count,
            } => self.batches.push(Signed {
                node: node.into(),
                signature: signature.into(),
                count: count as usize,
                steps: Vec::new(),
            }),
            Frame::Step { kind, step } => match self.batches.last_mut() {
                Some(batch) if batch.steps.len() < batch.count => batch.steps.push((kind, step)),
                _ => self.nonsense = Some("a step that nobody signed for"),
            },
        }
    }

    /// Puts entries before those that are `found`, the last first, until there are `n`.
    pub(super) fn last(
        &self,
        n: usize,
        of: &dyn Fn(&Kind, &Step) -> bool,
        found: &mut VecDeque<Entry>,
    ) -> Result<(), &'static str> {
        let whole = |batch: &&Signed| batch.steps.len() == batch.count;
        for batch in self.batches.iter().filter(whole).rev() {
            if found.len() == n {
                break;
            }
            let steps = self.steps(batch)?;
            if !steps.iter().any(|(kind, step)| of(kind, step)) {
                continue;
            }
            if !(1..=BATCH_MAX).contains(&steps.len()) {
                return Err("a batch of no size");
            }
            let receipts = steps.iter();
            let receipts: Vec<_> = receipts
                .map(|(kind, step)| Receipt::of(step, kind.hash()))
                .collect();
            let tree = Batch::signed(batch.node, batch.signature, &receipts);
            for (place, (kind, step)) in steps.into_iter().enumerate().rev() {
                if found.len() < n && of(&kind, &step) {
                    found.push_front(Entry {
                        kind,
                        step,
                        receipt: receipts[place],
                        proof: tree.proof(place).expect("the tree is over all of them"),
                    });
                }
            }
        }
        Ok(())
    }

    fn steps(&self, batch: &Signed) -> Result<Vec<(Arc<Kind>, Step)>, &'static str> {
        let step = |(kind, bytes): &(u32, ByteVec)| {
            let kind = self.kinds.get(*kind as usize);
            let kind = kind.ok_or("a step of no kind")?;
            let step = step_from_bytes(bytes).ok_or("a step that is none")?;
            Ok((kind.clone(), step))
        };
        batch.steps.iter().map(step).collect()
    }
}

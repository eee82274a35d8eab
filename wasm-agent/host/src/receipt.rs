//! Receipts: what a node answers for when it says that an agent took a step.
//!
//! A receipt names the kind of agent and, by their hashes, all that went into the step and came out of it. A
//! node signs for many at once: for the root of a Merkle tree over them (RFC 9162's hashing, with leaves
//! and inner nodes apart), of which each receipt carries its path. That what came out follows from what
//! went in, anybody can see by running the step again; that what went in was true, a receipt does not say.
//!
//! Not here: how a step is run again (`wake`).

use crate::desk::{Answer, Effect};
use crate::wake::Step;
use aquifer_protocol::identity::{Keys, Signature, digest, verify};
use std::sync::LazyLock;

const DOMAIN: &[u8] = b"aquifer/receipt/1";
/// What a leaf begins with, and a node above it (RFC 9162, 2.1.1).
const LEAF: u8 = 0;
const INNER: u8 = 1;
const ROOT: &str = "aquifer/agent-receipts/1";

/// Most receipts under one signature.
pub const BATCH_MAX: usize = 1_024;

/// What a step was, in hashes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Receipt {
    /// Of which kind the agent is: the hash of its manifest, which names its module.
    pub kind: [u8; 32],
    /// Whose step.
    pub agent: [u8; 32],
    /// The how-manieth.
    pub seq: u64,
    /// Of the input.
    pub input: [u8; 32],
    /// Of the state before.
    pub before: [u8; 32],
    /// Of what the world answered.
    pub answers: [u8; 32],
    /// Of what is to be done.
    pub effects: [u8; 32],
    /// Of the state after.
    pub after: [u8; 32],
    /// What `handle` returned.
    pub code: i32,
}

impl Receipt {
    /// The receipt of a step of an agent of `kind` ([`Kind::hash`](crate::kind::Kind::hash)).
    pub fn of(step: &Step, kind: [u8; 32]) -> Self {
        let mut hashing = Hashing(Vec::with_capacity(512));
        let state = "aquifer/agent-state/1";
        // Most steps have none of either.
        static NONE: LazyLock<[[u8; 32]; 2]> = LazyLock::new(|| {
            let mut hashing = Hashing(Vec::new());
            [hashing.answers(&[]), hashing.effects(&[])]
        });
        let [no_answers, no_effects] = *NONE;
        Self {
            kind,
            agent: step.agent,
            seq: step.seq,
            input: hashing.of("aquifer/agent-input/1", |to| encoded(&step.wakeup, to)),
            before: hashing.of(state, |to| to.extend(&step.before)),
            answers: match &step.answers[..] {
                [] => no_answers,
                some => hashing.answers(some),
            },
            effects: match &step.effects[..] {
                [] => no_effects,
                some => hashing.effects(some),
            },
            after: hashing.of(state, |to| to.extend(&step.after)),
            code: step.code,
        }
    }

    /// The first thing, in words, in which two receipts differ.
    pub fn differs(&self, other: &Self) -> Option<&'static str> {
        [
            ("the kind", self.kind == other.kind),
            ("the agent", self.agent == other.agent),
            ("the number of the step", self.seq == other.seq),
            ("the input", self.input == other.input),
            ("the state before", self.before == other.before),
            ("the answers", self.answers == other.answers),
            ("the effects", self.effects == other.effects),
            ("the state after", self.after == other.after),
            ("the code", self.code == other.code),
        ]
        .into_iter()
        .find_map(|(what, alike)| (!alike).then_some(what))
    }

    /// Its hash: a leaf of the tree.
    pub fn hash(&self) -> [u8; 32] {
        let (seq, code) = (self.seq.to_be_bytes(), self.code.to_be_bytes());
        let parts = [
            &[LEAF][..],
            DOMAIN,
            &[0],
            &seq,
            &code,
            &self.kind,
            &self.agent,
            &self.input,
            &self.before,
            &self.answers,
            &self.effects,
            &self.after,
        ];
        // Four blocks of the hash, and not a byte of a fifth.
        let (mut bytes, mut len) = ([0; 256], 0);
        for part in parts {
            bytes[len..len + part.len()].copy_from_slice(part);
            len += part.len();
        }
        *blake3::hash(&bytes[..len]).as_bytes()
    }
}

/// [`digest`] of what is put together in one buffer: for so few bytes, a hasher that takes parts costs more
/// than the hash.
struct Hashing(Vec<u8>);

impl Hashing {
    fn of(&mut self, domain: &str, writes: impl FnOnce(&mut Vec<u8>)) -> [u8; 32] {
        self.0.clear();
        self.0.extend(domain.as_bytes());
        self.0.push(0);
        writes(&mut self.0);
        *blake3::hash(&self.0).as_bytes()
    }

    fn answers(&mut self, all: &[Answer]) -> [u8; 32] {
        self.of("aquifer/agent-answers/1", |to| answers(all, to))
    }

    fn effects(&mut self, all: &[Effect]) -> [u8; 32] {
        self.of("aquifer/agent-effects/1", |to| encoded(&all, to))
    }
}

/// What the world answered, as one string of bytes: each its code or 0, its length and itself.
fn answers(answers: &[Answer], to: &mut Vec<u8>) {
    for answer in answers {
        let (code, bytes): (i32, &[u8]) = match answer {
            Ok(bytes) => (0, bytes),
            Err(code) => (*code as i32, &[]),
        };
        to.extend(code.to_be_bytes());
        to.extend((bytes.len() as u64).to_be_bytes());
        to.extend(bytes);
    }
}

fn encoded(value: &impl minicbor::Encode<()>, to: &mut Vec<u8>) {
    minicbor::encode(value, to).expect("a vector takes any encoding");
}

/// Receipts under one signature.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Batch {
    /// The key of the node that signed.
    pub node: [u8; 32],
    /// Its signature.
    pub signature: Signature,
    /// The tree, layer by layer: leaves first, the root last.
    layers: Vec<Vec<[u8; 32]>>,
}

/// What a receipt needs beside itself to be checked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Proof {
    /// Its place in the batch.
    pub place: usize,
    /// The node that signed.
    pub node: [u8; 32],
    /// Its signature, of the root.
    pub signature: Signature,
    /// How many receipts the batch has.
    pub count: usize,
    /// The hashes beside the way to the root, from below.
    pub path: Vec<[u8; 32]>,
}

impl Batch {
    /// Signs for some receipts.
    ///
    /// # Panics
    /// If there are none, or more than [`BATCH_MAX`].
    pub fn sign(keys: &Keys, receipts: &[Receipt]) -> Self {
        let mut batch = Self::signed(keys.public(), [0; 64], receipts);
        let root = batch.layers[batch.layers.len() - 1][0];
        batch.signature = keys.sign(&signed(&root, receipts.len()));
        batch
    }

    /// The batch of receipts for which `node` has signed before.
    ///
    /// # Panics
    /// If there are none, or more than [`BATCH_MAX`].
    pub(crate) fn signed(node: [u8; 32], signature: Signature, receipts: &[Receipt]) -> Self {
        assert!(
            (1..=BATCH_MAX).contains(&receipts.len()),
            "a batch has some receipts"
        );
        let leaves = receipts.iter().map(Receipt::hash);
        let mut layers = vec![leaves.collect::<Vec<_>>()];
        while layers[layers.len() - 1].len() > 1 {
            let below = &layers[layers.len() - 1];
            let above = below.chunks(2).map(|pair| match pair {
                [left, right] => inner(left, right),
                _ => pair[0],
            });
            let above = above.collect();
            layers.push(above);
        }
        Self {
            node,
            signature,
            layers,
        }
    }

    /// How many receipts there are.
    pub fn count(&self) -> usize {
        self.layers[0].len()
    }

    /// The proof of the receipt at `place`, if there is one.
    pub fn proof(&self, place: usize) -> Option<Proof> {
        let count = self.count();
        if place >= count {
            return None;
        }
        let beside =
            |(height, layer): (usize, &Vec<[u8; 32]>)| layer.get((place >> height) ^ 1).copied();
        let path = self.layers.iter().enumerate().filter_map(beside).collect();
        Some(Proof {
            place,
            node: self.node,
            signature: self.signature,
            count,
            path,
        })
    }
}

impl Proof {
    /// Whether the node that it names signed for `receipt`.
    pub fn holds(&self, receipt: &Receipt) -> bool {
        self.signed(receipt)
            .is_some_and(|signed| verify(&self.node, &signed, &self.signature))
    }

    /// What the node has signed if it signed for `receipt`: the same for all of a batch.
    pub(crate) fn signed(&self, receipt: &Receipt) -> Option<[u8; 32]> {
        if self.place >= self.count || self.count > BATCH_MAX {
            return None;
        }
        let (mut hash, mut place, mut width) = (receipt.hash(), self.place, self.count);
        let mut path = self.path.iter();
        while width > 1 {
            if place ^ 1 < width {
                let beside = path.next()?;
                hash = match place.is_multiple_of(2) {
                    true => inner(&hash, beside),
                    false => inner(beside, &hash),
                };
            }
            (place, width) = (place / 2, width.div_ceil(2));
        }
        path.next().is_none().then(|| signed(&hash, self.count))
    }
}

fn inner(left: &[u8; 32], right: &[u8; 32]) -> [u8; 32] {
    let mut bytes = [INNER; 65];
    bytes[1..33].copy_from_slice(left);
    bytes[33..].copy_from_slice(right);
    *blake3::hash(&bytes).as_bytes()
}

fn signed(root: &[u8; 32], count: usize) -> [u8; 32] {
    digest(ROOT, &[root, &(count as u64).to_be_bytes()])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receipt(seq: u64) -> Receipt {
        Receipt {
            kind: [1; 32],
            agent: [2; 32],
            seq,
            input: [3; 32],
            before: [4; 32],
            answers: [5; 32],
            effects: [6; 32],
            after: [7; 32],
            code: 0,
        }
    }

    /// The hash of a receipt is written down: it must not change when it is made in another way.
    #[test]
    fn a_receipt_has_the_hash_that_it_always_had() {
        let hashes = [1, 2, 3, 4, 5, 6, 7].map(|n| [n; 32]);
        let head = b"\0aquifer/receipt/1\0\0\0\0\0\0\0\0\x09\0\0\0\0";
        let whole = [&head[..], hashes.as_flattened()].concat();
        assert_eq!(*blake3::hash(&whole).as_bytes(), receipt(9).hash());
        let wakeup = crate::abi::Wakeup {
            cause: crate::abi::Cause::Timer,
            from: None,
            topic: "a".into(),
            stamp: 5,
            body: vec![1],
        };
        let step = Step {
            agent: [2; 32],
            seq: 9,
            before: vec![4],
            answers: vec![Ok(vec![8]), Err(crate::abi::Code::Bad)],
            effects: vec![Effect::Wake { after: 3 }],
            after: vec![],
            code: 6,
            wakeup,
        };
        let of = |what: &str, bytes: &[u8]| digest(what, &[bytes]);
        let answers = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 8, 255, 255, 255, 254];
        let answers = [&answers[..], &[0; 8]].concat();
        let by_hand = Receipt {
            kind: [1; 32],
            agent: [2; 32],
            seq: 9,
            input: of("aquifer/agent-input/1", &step.wakeup.to_bytes()),
            before: of("aquifer/agent-state/1", &[4]),
            answers: of("aquifer/agent-answers/1", &answers),
            effects: of("aquifer/agent-effects/1", &[0x81, 0x82, 5, 0x81, 3]),
            after: of("aquifer/agent-state/1", &[]),
            code: 6,
        };
        assert_eq!(by_hand, Receipt::of(&step, [1; 32]));
    }

    #[test]
    fn every_receipt_of_a_batch_is_proved_and_no_other_is() {
        let keys = Keys::from_secret(&[9; 32]);
        for count in [1, 2, 3, 4, 5, 7, 8, 31, 100] {
            let receipts: Vec<Receipt> = (0..count).map(receipt).collect();
            let batch = Batch::sign(&keys, &receipts);
            for (place, one) in receipts.iter().enumerate() {
                let proof = batch.proof(place).expect("it is in the batch");
                assert!(proof.holds(one), "{place} of {count}");
                assert!(!proof.holds(&receipt(count + 1)));
                let mut other = *one;
                other.after[31] ^= 1;
                assert!(!proof.holds(&other));
                let mut longer = proof.clone();
                longer.path.push([0; 32]);
                assert!(!longer.holds(one));
                let mut elsewhere = proof.clone();
                elsewhere.place ^= 1;
                assert!(!elsewhere.holds(one), "{place} of {count}");
            }
            assert_eq!(None, batch.proof(count as usize));
        }
    }
}

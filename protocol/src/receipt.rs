//! Receipts: a node's signed word that it holds logs durably, up to a height.
//!
//! A receipt for (log, height, tip) covers every record below the height, tombstones included, so it
//! is the acknowledgement of a write, the frontier of stability and the proof of an erasure. They
//! are signed in batches, after the commit that made them true.
//!
//! Not here: waiting for them (`replica::durability`).

use crate::identity::{Keys, NodeId, Signature, verify};
use crate::log::LogKey;
use crate::record::{LogId, RecordId, Seq};
use minicbor::{Decode, Encode};

const DOMAIN: &[u8] = b"aquifer/rcpt/1\0";

/// One log, held up to `height`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
pub struct Held {
    /// The log.
    #[n(0)]
    pub key: LogKey,
    /// How many of its records are durable here.
    #[n(1)]
    pub height: Seq,
    /// The last of them.
    #[n(2)]
    pub tip: RecordId,
}

/// A log, as far as a receipt is wanted for it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Encode, Decode)]
pub struct Reach {
    /// The writer.
    #[n(0)]
    pub writer: NodeId,
    /// Its log.
    #[n(1)]
    pub log: LogId,
    /// How many of its records.
    #[n(2)]
    pub height: Seq,
}

/// A batch of receipts under one signature.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct Receipts {
    /// The node that holds them.
    #[n(0)]
    pub holder: NodeId,
    /// What it holds.
    #[n(1)]
    pub held: Vec<Held>,
    #[cbor(n(2), with = "minicbor::bytes")]
    signature: Signature,
}

impl Receipts {
    /// Signs for `held`. Call it only once they are durable.
    pub fn sign(keys: &Keys, held: Vec<Held>) -> Self {
        let signature = keys.sign(&signed_bytes(&held));
        Self {
            holder: keys.node(),
            held,
            signature,
        }
    }

    /// True if the holder signed them.
    pub fn verify(&self) -> bool {
        verify(
            self.holder.as_bytes(),
            &signed_bytes(&self.held),
            &self.signature,
        )
    }
}

fn signed_bytes(held: &[Held]) -> Vec<u8> {
    let mut bytes = DOMAIN.to_vec();
    minicbor::encode(held, &mut bytes).expect("a vector takes any encoding");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::NO_RECORD;
    use crate::topic::TopicId;

    #[test]
    fn a_receipt_is_good_only_for_what_was_signed_by_its_holder() {
        let keys = Keys::from_secret(&[1; 32]);
        let key = LogKey {
            topic: TopicId([2; 32]),
            writer: NodeId([3; 32]),
            log: LogId(4),
        };
        let good = Receipts::sign(
            &keys,
            vec![Held {
                key,
                height: 5,
                tip: NO_RECORD,
            }],
        );
        assert!(good.verify());
        let mut higher = good.clone();
        higher.held[0].height = 6;
        assert!(!higher.verify());
        let mut other = good;
        other.holder = NodeId([9; 32]);
        assert!(!other.verify());
    }
}

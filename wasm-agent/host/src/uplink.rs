//! Uplink: what a device at the edge and its gateway say to each other.
//!
//! A device says two words over `/aquifer/edge/1`: *up*, with a parcel of what its agent did, and *down*,
//! to hear what is new. A parcel is signed by the device that made it and addressed to one gateway, so
//! another device may hand it over; the gateway's receipt is signed too, so the one that hands it back
//! cannot lie. Everything is `minicbor` in its one form: what is read must encode to the same bytes again.
//!
//! A parcel travels compressed if that makes it smaller by a sixteenth at least, and as it is if not.
//!
//! Not here: what becomes of a parcel (the gateway, `node/src/memory/edge.rs`), when there is one to send
//! (the device, `wasm-agent/edge`).

mod sealed;
#[cfg(test)]
mod tests;

use crate::manifest::{Granted, MANIFEST_MAX};
use aquifer_protocol::identity::Keys;
use minicbor::bytes::ByteVec;
use minicbor::{Decode, Encode};
use sealed::{Signed, canonical, encoded};

const PARCEL_DOMAIN: &str = "aquifer/edge-parcel/1";
const RECEIPT_DOMAIN: &str = "aquifer/edge-receipt/1";

/// The longest word and the longest reply, in bytes.
pub const WORD_BYTES_MAX: usize = 208 << 10;
/// The longest parcel before it is packed, in bytes.
pub const PARCEL_BYTES_MAX: usize = 168 << 10;
/// Steps are put into a parcel until it has so many bytes.
pub const PARCEL_BYTES_FILL: usize = 48 << 10;
/// The longest step, in bytes: one more than fills a parcel still fits it.
pub const STEP_BYTES_MAX: usize = 112 << 10;
/// The most steps of a parcel.
pub const STEPS_MAX: usize = 1_024;
/// The most deeds of a step.
pub const DEEDS_MAX: usize = 1_024;
/// The most refusals that a receipt tells of.
pub const REFUSALS_MAX: usize = 64;
/// The longest reason in a receipt, in bytes.
pub const REASON_BYTES_MAX: usize = 512;
/// The most items of news in one reply, and how many bytes they are filled up to.
pub const ITEMS_MAX: usize = 64;
/// See [`ITEMS_MAX`].
pub const ITEMS_BYTES_FILL: usize = 64 << 10;
/// The longest bookmark, in bytes.
pub const BOOKMARK_BYTES_MAX: usize = 48 << 10;
/// The code of a refusal that asks for the agent's manifest.
pub const UNKNOWN_AGENT: &str = "unknown_agent";
/// The most topics that an agent may follow.
pub const FOLLOWS_MAX: usize = 64;

const _: () = assert!(PARCEL_BYTES_FILL + STEP_BYTES_MAX + 1_024 <= PARCEL_BYTES_MAX);
const _: () = assert!(
    PARCEL_BYTES_MAX + aquifer_protocol::limits::CHAIN_BYTES_MAX + MANIFEST_MAX + 1_024
        <= WORD_BYTES_MAX,
    "a parcel that does not shrink, the chain of who made it and a manifest fit a word"
);
const _: () = assert!(
    ITEMS_BYTES_FILL + aquifer_protocol::limits::BODY_BYTES_MAX + BOOKMARK_BYTES_MAX + 1_024
        <= WORD_BYTES_MAX,
    "items filled to the brim, one more and a bookmark fit a reply"
);
const _: () = assert!(REFUSALS_MAX * (REASON_BYTES_MAX + 128) < WORD_BYTES_MAX);

/// What a device says.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub enum Word {
    /// This is what an agent did.
    #[n(0)]
    Up {
        /// The certificates of the device that made it, if that is another one; else nothing.
        #[n(0)]
        chain: ByteVec,
        /// A [`Parcel`], packed and signed.
        #[n(1)]
        parcel: ByteVec,
        /// The agent's manifest, as it was signed, until the gateway knows the agent; then nothing.
        #[n(2)]
        manifest: ByteVec,
    },
    /// What is there for this agent?
    #[n(1)]
    Down {
        /// Its key.
        #[cbor(n(0), with = "minicbor::bytes")]
        agent: [u8; 32],
        /// The topics that it follows: these and all below them.
        #[n(1)]
        follows: Vec<String>,
        /// Up to where it has heard: what the last reply said, or nothing.
        #[n(2)]
        bookmark: ByteVec,
    },
}

/// What the gateway says.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub enum Reply {
    /// It does not take this, now or later: a stable code, and why.
    #[n(0)]
    Refused(#[n(0)] String, #[n(1)] String),
    /// Nothing was lost and not all was done: say it again later.
    #[n(1)]
    Later(#[n(0)] String),
    /// A [`Receipt`], signed.
    #[n(2)]
    Taken(#[n(0)] ByteVec),
    /// What is there.
    #[n(3)]
    News {
        /// In the order in which they came to the gateway, topic by topic.
        #[n(0)]
        items: Vec<Item>,
        /// What to say the next time: that these are safe.
        #[n(1)]
        bookmark: ByteVec,
        /// There is more already.
        #[n(2)]
        more: bool,
    },
}

/// Something that was said to an agent, or on a topic that it follows.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct Item {
    /// What it is known by: whoever hears it twice does it once.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub id: [u8; 16],
    /// Whose words, by key.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub from: [u8; 32],
    /// On which topic; none if it is to this agent alone.
    #[n(2)]
    pub topic: String,
    /// When, in milliseconds since 1970.
    #[n(3)]
    pub stamp: u64,
    /// What.
    #[n(4)]
    pub body: ByteVec,
}

/// What an agent on a device did, step by step.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(array)]
pub struct Parcel {
    /// For which gateway: no other takes it, so nothing is done in two places.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub gateway: [u8; 32],
    /// On which device.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub device: [u8; 32],
    /// Whose steps.
    #[cbor(n(2), with = "minicbor::bytes")]
    pub agent: [u8; 32],
    /// What the agent is called.
    #[n(3)]
    pub name: String,
    /// In order, beginning with the first for which the device has no receipt.
    #[n(4)]
    pub steps: Vec<Step>,
}

/// One step, as far as others are to do something about it.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(array)]
pub struct Step {
    /// The how-manieth of this agent.
    #[n(0)]
    pub seq: u32,
    /// When, in milliseconds since 1970, by the device's clock.
    #[n(1)]
    pub stamp: u64,
    /// What is to be done, in order.
    #[n(2)]
    pub deeds: Vec<Deed>,
}

/// One thing to be done: known by agent, step and place.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(array)]
pub struct Deed {
    /// Its place in the step.
    #[n(0)]
    pub place: u16,
    /// The topic it belongs to.
    #[n(1)]
    pub topic: String,
    /// What.
    #[n(2)]
    pub what: What,
}

/// What an agent does to the world.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub enum What {
    /// It says something on the topic.
    #[n(0)]
    Said(#[n(0)] ByteVec),
    /// It remembers a text under a key.
    #[n(1)]
    Remembered(#[n(0)] String, #[n(1)] String),
    /// It says something to another agent.
    #[n(2)]
    Sent(
        #[cbor(n(0), with = "minicbor::bytes")] [u8; 32],
        #[n(1)] ByteVec,
    ),
    /// How it is: 0 is well; and in words.
    #[n(3)]
    Health(#[n(0)] i32, #[n(1)] String),
    /// A line of its log, and how grave it is: 0 is an error, 4 a trace.
    #[n(4)]
    Logged(#[n(0)] u8, #[n(1)] String),
}

/// Everything up to here is durable, or refused for good.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(array)]
pub struct Receipt {
    /// Whose steps.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub agent: [u8; 32],
    /// The last step.
    #[n(1)]
    pub through: u32,
    /// What was refused in the parcel that this answers, the first [`REFUSALS_MAX`] of it.
    #[n(2)]
    pub refused: Vec<Refusal>,
}

/// Something that is not done.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(array)]
pub struct Refusal {
    /// In which step,
    #[n(0)]
    pub seq: u32,
    /// at which place.
    #[n(1)]
    pub place: u16,
    /// On which topic it would have been.
    #[n(2)]
    pub topic: String,
    /// A stable name of the reason: of a rule of the law, mostly.
    #[n(3)]
    pub code: String,
    /// In words.
    #[n(4)]
    pub reason: String,
}

/// Why bytes are not what they should be. They may come from anybody.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum OpenUplink {
    /// Longer than may be.
    #[error("{len} bytes are more than may be")]
    TooLong {
        /// How long.
        len: usize,
    },
    /// Not the one form of anything known here: a later version's, perhaps.
    #[error("the message is malformed, or of a version that is not known here")]
    Malformed,
    /// Not signed by whose it is said to be.
    #[error("it is not signed by whose it is said to be")]
    Unsigned,
    /// Steps or deeds out of order, none, or too many.
    #[error("its steps are none, too many or out of order")]
    Order,
}

/// The key of the one agent that lives on a device under this manifest, if its publisher signed it. It is a
/// hash: no device can speak in the name of a person, or of an agent whose manifest it does not have.
pub fn agent_of(manifest: &[u8]) -> Option<[u8; 32]> {
    Some(Granted::read(manifest).ok()?.agent(0))
}

/// The topic on which an agent gets what is to it alone: the hive's law holds for it as for any other.
pub fn inbox_of(agent: &[u8; 32]) -> String {
    format!("inbox/{}", aquifer_protocol::AgentId(*agent))
}

impl OpenUplink {
    /// A stable name.
    pub fn code(self) -> &'static str {
        match self {
            Self::TooLong { .. } => "too_long",
            Self::Malformed => "malformed",
            Self::Unsigned => "unsigned",
            Self::Order => "out_of_order",
        }
    }
}

impl Word {
    /// As it travels.
    pub fn to_bytes(&self) -> Vec<u8> {
        encoded(self)
    }

    /// What a device said.
    ///
    /// # Errors
    /// Why it is none.
    pub fn open(bytes: &[u8]) -> Result<Self, OpenUplink> {
        let word = canonical(bytes, WORD_BYTES_MAX)?;
        match &word {
            Self::Down {
                follows, bookmark, ..
            } if follows.len() > FOLLOWS_MAX || bookmark.len() > BOOKMARK_BYTES_MAX => {
                Err(OpenUplink::TooLong { len: bytes.len() })
            }
            _ => Ok(word),
        }
    }
}

impl Reply {
    /// As it travels.
    pub fn to_bytes(&self) -> Vec<u8> {
        encoded(self)
    }

    /// What a gateway said.
    ///
    /// # Errors
    /// Why it is none.
    pub fn open(bytes: &[u8]) -> Result<Self, OpenUplink> {
        let reply = canonical(bytes, WORD_BYTES_MAX)?;
        match &reply {
            Self::News {
                items, bookmark, ..
            } if items.len() > ITEMS_MAX || bookmark.len() > BOOKMARK_BYTES_MAX => {
                Err(OpenUplink::TooLong { len: bytes.len() })
            }
            _ => Ok(reply),
        }
    }
}

impl Parcel {
    /// Packs and signs it. Returns the bytes, and how many there were before they were packed.
    pub fn seal(&self, keys: &Keys) -> (Vec<u8>, usize) {
        let raw = encoded(self);
        let len = raw.len();
        let packed = lz4_flex::block::compress(&raw);
        let (unpacked, bytes) = match packed.len() + len / 16 < len {
            true => (len as u32, packed),
            false => (0, raw),
        };
        (
            encoded(&Signed::new(PARCEL_DOMAIN, keys, unpacked, bytes)),
            len,
        )
    }

    /// Opens what `device` is said to have sealed. Nothing is unpacked before the signature is good.
    ///
    /// # Errors
    /// Why it does not count.
    pub fn open(bytes: &[u8], device: &[u8; 32]) -> Result<Self, OpenUplink> {
        let signed: Signed = canonical(bytes, WORD_BYTES_MAX)?;
        let raw = signed.open(PARCEL_DOMAIN, device, PARCEL_BYTES_MAX)?;
        let parcel: Self = canonical(&raw, PARCEL_BYTES_MAX)?;
        match parcel.device == *device && parcel.is_in_order() {
            true => Ok(parcel),
            false => Err(OpenUplink::Order),
        }
    }

    fn is_in_order(&self) -> bool {
        let steps = &self.steps;
        let deeds = |step: &Step| {
            (1..=DEEDS_MAX).contains(&step.deeds.len())
                && step.deeds.is_sorted_by(|a, b| a.place < b.place)
        };
        (1..=STEPS_MAX).contains(&steps.len())
            && steps.is_sorted_by(|a, b| a.seq < b.seq)
            && steps.iter().all(deeds)
    }
}

impl Step {
    /// Bytes that it takes in a parcel.
    pub fn bytes(&self) -> usize {
        encoded(self).len()
    }
}

impl Receipt {
    /// Signs it.
    pub fn seal(&self, keys: &Keys) -> Vec<u8> {
        encoded(&Signed::new(RECEIPT_DOMAIN, keys, 0, encoded(self)))
    }

    /// Opens what `gateway` is said to have signed.
    ///
    /// # Errors
    /// Why it does not count.
    pub fn open(bytes: &[u8], gateway: &[u8; 32]) -> Result<Self, OpenUplink> {
        let signed: Signed = canonical(bytes, WORD_BYTES_MAX)?;
        let raw = signed.open(RECEIPT_DOMAIN, gateway, WORD_BYTES_MAX)?;
        let receipt: Self = canonical(&raw, WORD_BYTES_MAX)?;
        match receipt.refused.len() <= REFUSALS_MAX {
            true => Ok(receipt),
            false => Err(OpenUplink::Order),
        }
    }
}

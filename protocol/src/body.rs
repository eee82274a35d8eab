//! Bodies: what a record of each kind says.
//!
//! Bodies are `minicbor` arrays, opened under the same rules as headers: bounded, fully consumed,
//! and equal to their own re-encoding. Kinds this version does not know are kept and forwarded
//! unread (I22).
//!
//! Not here: the fold from records to a memory as users see it (the `crdt` crate).

use crate::canonical::encodes_to;
use crate::certificate::{Chain, Member, OpenChain};
use crate::identity::HiveId;
use crate::limits::{
    ADDRESS_BYTES_MAX, ADDRESSES_MAX, BODY_BYTES_MAX, IDS_PER_BODY_MAX, LABEL_BYTES_MAX,
    METADATA_MAX, METADATA_VALUE_BYTES_MAX, TAGS_MAX, TEXT_BYTES_MAX,
};
use crate::policy::Policy;
use crate::record::RecordId;
use crate::topic::TopicName;
use minicbor::{Decode, Encode, bytes::ByteVec};
use std::collections::BTreeMap;

/// What a record is about; the header's `kind`. Unknown numbers are legal and kept.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Encode, Decode)]
#[cbor(transparent)]
pub struct Kind(#[n(0)] pub u8);

impl Kind {
    /// A new memory: [`Memory`].
    pub const MEMORY: Self = Self(1);
    /// A newer version of a memory: [`Revision`].
    pub const REVISION: Self = Self(2);
    /// A named link between two memories: [`Link`].
    pub const LINK: Self = Self(3);
    /// A permanent tombstone: [`Erase`].
    pub const ERASE: Self = Self(4);
    /// A member's certificate and abilities: [`Manifest`]. Only in the hive's own topic.
    pub const MANIFEST: Self = Self(9);
    /// A topic's policy: [`Founding`]. Only in the hive's own topic.
    pub const POLICY: Self = Self(11);

    /// What befalls the WASM agents of the topic: [`Body::Agent`]. The core carries it unread.
    pub const AGENT: Self = Self(14);

    /// True for what the law and erasure themselves are made of: it carries no one's data, and
    /// neither a tombstone nor retention removes it.
    pub fn is_permanent(self) -> bool {
        matches!(self, Self::ERASE | Self::MANIFEST | Self::POLICY)
    }
}

/// What an agent remembers.
#[derive(Clone, PartialEq, Debug, Encode, Decode)]
pub struct Memory {
    /// The text, at most [`TEXT_BYTES_MAX`] bytes.
    #[n(0)]
    pub text: String,
    /// 1 episodic, 2 semantic, 3 procedural.
    #[n(1)]
    pub class: u8,
    /// Labels to filter by.
    #[n(2)]
    pub tags: Vec<String>,
    /// Free entries.
    #[n(3)]
    pub metadata: BTreeMap<String, String>,
    /// 0 to 1,000.
    #[n(4)]
    pub importance: u16,
    /// True from then, in milliseconds since the Unix epoch.
    #[n(5)]
    pub valid_from: Option<u64>,
    /// True until then, in milliseconds since the Unix epoch.
    #[n(6)]
    pub valid_until: Option<u64>,
    /// Where it comes from: a URI or a word.
    #[n(7)]
    pub source: Option<String>,
    /// Trust tier: 0 self, 1 operator, 2 member, 3 guest, 4 web.
    #[n(8)]
    pub tier: u8,
    /// When it was made, if not when it was written (imports), in milliseconds since the Unix epoch.
    #[n(9)]
    pub created_at: Option<u64>,
}

impl Memory {
    /// A semantic memory of `text` and nothing else.
    pub fn of(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            class: 2,
            tags: Vec::new(),
            metadata: BTreeMap::new(),
            importance: 500,
            valid_from: None,
            valid_until: None,
            source: None,
            tier: 0,
            created_at: None,
        }
    }
}

/// A newer version of the memory `of`.
#[derive(Clone, PartialEq, Debug, Encode, Decode)]
pub struct Revision {
    /// The memory's first record.
    #[n(0)]
    pub of: RecordId,
    /// The versions it replaces. Versions nobody replaced stand side by side as a conflict.
    #[n(1)]
    pub replaces: Vec<RecordId>,
    /// The whole new content.
    #[n(2)]
    pub memory: Memory,
}

/// `from` stands in relation `relation` to `to`.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct Link {
    /// One memory.
    #[n(0)]
    pub from: RecordId,
    /// The other memory.
    #[n(1)]
    pub to: RecordId,
    /// How they are related.
    #[n(2)]
    pub relation: String,
}

/// These records, and every revision of them, are gone for good.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct Erase {
    /// The records erased.
    #[n(0)]
    pub ids: Vec<RecordId>,
}

/// A topic's policy, signed by whoever founded it. The chain is the founder's own log; `version`
/// rises with each change.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct Founding {
    /// The topic.
    #[n(0)]
    pub topic: TopicName,
    /// 1 for the first, then one more each time.
    #[n(1)]
    pub version: u64,
    /// The policy this one replaces.
    #[n(2)]
    pub replaces: Option<RecordId>,
    /// The law.
    #[n(3)]
    pub policy: Policy,
}

/// A member's certificate chain and what it offers. The signature over the record and the chain in
/// its body together introduce a writer to nodes that never met it.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct Manifest {
    /// The certificate chain.
    #[n(0)]
    pub chain: ByteVec,
    /// Multiaddrs at which the node listens.
    #[n(1)]
    pub addresses: Vec<String>,
    /// The software, such as `aquifer/0.1.0`.
    #[n(2)]
    pub agent: String,
    /// Bytes of storage it offers, 0 if it does not say.
    #[n(3)]
    pub storage_bytes: u64,
    /// Bytes of GPU memory, 0 for none.
    #[n(4)]
    pub gpu_bytes: u64,
    /// Names of models it runs.
    #[n(5)]
    pub models: Vec<String>,
    /// Since when it is up, in milliseconds since the Unix epoch.
    #[n(6)]
    pub up_since: u64,
}

impl Manifest {
    /// The member its chain makes of it.
    pub fn member(&self, hive: &HiveId) -> Result<Member, OpenChain> {
        Chain::open(&self.chain, hive)
    }
}

/// A body that this version can read.
#[derive(Clone, PartialEq, Debug)]
pub enum Body {
    /// [`Kind::MEMORY`].
    Memory(Memory),
    /// [`Kind::REVISION`].
    Revision(Revision),
    /// [`Kind::LINK`].
    Link(Link),
    /// [`Kind::ERASE`].
    Erase(Erase),
    /// [`Kind::POLICY`].
    Founding(Founding),
    /// [`Kind::MANIFEST`].
    Manifest(Manifest),
    /// [`Kind::AGENT`]: a note among the nodes that host a topic's agents, who know what it says.
    Agent(ByteVec),
    /// A kind of a later version, kept as it is.
    Unknown(Kind),
}

/// Why a body cannot be read or written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenBody {
    /// It is not the canonical encoding of its kind.
    #[error("the body is malformed")]
    Malformed,
    /// A part of it is longer than allowed.
    #[error("{part} is {len} long; the limit is {max}")]
    TooLong {
        /// Which part.
        part: &'static str,
        /// Its length.
        len: usize,
        /// The limit.
        max: usize,
    },
}

impl Body {
    /// Reads the body of a record of `kind`.
    pub fn open(kind: Kind, bytes: &[u8]) -> Result<Self, OpenBody> {
        let body = match kind {
            Kind::MEMORY => Self::Memory(parse(bytes)?),
            Kind::REVISION => Self::Revision(parse(bytes)?),
            Kind::LINK => Self::Link(parse(bytes)?),
            Kind::ERASE => Self::Erase(parse(bytes)?),
            Kind::POLICY => Self::Founding(parse(bytes)?),
            Kind::MANIFEST => Self::Manifest(parse(bytes)?),
            Kind::AGENT => Self::Agent(parse(bytes)?),
            _ => return Ok(Self::Unknown(kind)),
        };
        body.check()?;
        Ok(body)
    }

    /// The record's kind and its canonical bytes, if every part is within its limit.
    ///
    /// # Panics
    /// On [`Body::Unknown`]: this version has nothing to say in a kind it does not know.
    pub fn to_bytes(&self) -> Result<(Kind, Vec<u8>), OpenBody> {
        self.check()?;
        let (kind, bytes) = match self {
            Self::Memory(b) => (Kind::MEMORY, minicbor::to_vec(b)),
            Self::Revision(b) => (Kind::REVISION, minicbor::to_vec(b)),
            Self::Link(b) => (Kind::LINK, minicbor::to_vec(b)),
            Self::Erase(b) => (Kind::ERASE, minicbor::to_vec(b)),
            Self::Founding(b) => (Kind::POLICY, minicbor::to_vec(b)),
            Self::Manifest(b) => (Kind::MANIFEST, minicbor::to_vec(b)),
            Self::Agent(b) => (Kind::AGENT, minicbor::to_vec(b)),
            Self::Unknown(kind) => panic!("cannot write a body of unknown kind {kind:?}"),
        };
        let bytes = bytes.expect("a vector takes any encoding");
        at_most("the body", bytes.len(), BODY_BYTES_MAX)?;
        Ok((kind, bytes))
    }

    fn check(&self) -> Result<(), OpenBody> {
        match self {
            Self::Memory(memory) => check_memory(memory),
            Self::Revision(revision) => {
                at_most(
                    "the list of versions",
                    revision.replaces.len(),
                    IDS_PER_BODY_MAX,
                )?;
                check_memory(&revision.memory)
            }
            Self::Link(link) => at_most("the relation", link.relation.len(), LABEL_BYTES_MAX),
            Self::Erase(erase) => at_most("the list of ids", erase.ids.len(), IDS_PER_BODY_MAX),
            Self::Manifest(m) => {
                at_most("the list of addresses", m.addresses.len(), ADDRESSES_MAX)?;
                at_most("the list of models", m.models.len(), TAGS_MAX)?;
                at_most("the agent's name", m.agent.len(), LABEL_BYTES_MAX)?;
                m.models
                    .iter()
                    .try_for_each(|x| at_most("a model", x.len(), LABEL_BYTES_MAX))?;
                m.addresses
                    .iter()
                    .try_for_each(|a| at_most("an address", a.len(), ADDRESS_BYTES_MAX))
            }
            Self::Founding(_) | Self::Agent(_) | Self::Unknown(_) => Ok(()),
        }
    }
}

fn parse<'b, T: Decode<'b, ()> + Encode<()>>(bytes: &'b [u8]) -> Result<T, OpenBody> {
    let value: T = minicbor::decode(bytes).map_err(|_| OpenBody::Malformed)?;
    if encodes_to(&value, bytes) {
        Ok(value)
    } else {
        Err(OpenBody::Malformed)
    }
}

fn at_most(part: &'static str, len: usize, max: usize) -> Result<(), OpenBody> {
    if len <= max {
        Ok(())
    } else {
        Err(OpenBody::TooLong { part, len, max })
    }
}

fn check_memory(memory: &Memory) -> Result<(), OpenBody> {
    at_most("the text in bytes", memory.text.len(), TEXT_BYTES_MAX)?;
    at_most("the list of tags", memory.tags.len(), TAGS_MAX)?;
    at_most("the metadata", memory.metadata.len(), METADATA_MAX)?;
    memory
        .tags
        .iter()
        .try_for_each(|tag| at_most("a tag", tag.len(), LABEL_BYTES_MAX))?;
    for (key, value) in &memory.metadata {
        at_most("a metadata key", key.len(), LABEL_BYTES_MAX)?;
        at_most("a metadata value", value.len(), METADATA_VALUE_BYTES_MAX)?;
    }
    at_most(
        "the source",
        memory.source.as_ref().map_or(0, String::len),
        LABEL_BYTES_MAX,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// I7: whatever a body's bytes, reading them ends in an answer.
        #[test]
        fn hostile_bodies_never_panic(
            kind in 0u8..14,
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            let _ = Body::open(Kind(kind), &bytes);
        }

        #[test]
        fn what_is_written_can_be_read(text in ".{0,100}", tags in proptest::collection::vec("[a-z]{1,8}", 0..4)) {
            let mut memory = Memory::of(text);
            memory.tags = tags;
            memory.metadata.insert("k".into(), "v".into());
            let body = Body::Memory(memory);
            let (kind, bytes) = body.to_bytes().expect("within limits");
            prop_assert_eq!(Body::open(kind, &bytes), Ok(body));
        }
    }

    #[test]
    fn an_oversize_text_names_the_limit() {
        let body = Body::Memory(Memory::of("x".repeat(TEXT_BYTES_MAX + 1)));
        let said = body.to_bytes().expect_err("too long").to_string();
        assert!(said.contains(&TEXT_BYTES_MAX.to_string()), "{said}");
    }

    #[test]
    fn a_second_encoding_of_the_same_body_is_refused() {
        let (kind, bytes) = Body::Erase(Erase { ids: vec![] })
            .to_bytes()
            .expect("short");
        let mut longer = bytes.clone();
        longer.push(0);
        assert_eq!(Body::open(kind, &longer), Err(OpenBody::Malformed));
        assert_eq!(bytes, [0x81, 0x80]);
        assert_eq!(
            Body::open(kind, &[0x98, 0x01, 0x80]),
            Err(OpenBody::Malformed)
        );
    }
}

//! Ask: questions between admitted nodes and their answers, in their one byte form.
//!
//! A message is a `minicbor` array `[version, [type, [fields…]]]`, canonical: what is read must encode
//! to the same bytes again. A question of a type or a version that this node does not know is answered
//! with a refusal that says so. Spec: `docs/protocol.md` §7.
//!
//! Every memory found travels as the signed record it stands in, so its text, topic, author, writer
//! and stamp are checked by the asker and are not the answerer's word. Its counts are.
//!
//! Not here: how bytes travel (`net`), who is told what (`memory::answer`), what is asked when
//! (`memory::ask`).

use crate::recall::{Mode, Statistics, TermCount};
use aquifer_protocol::limits::{BODY_BYTES_MAX, ENVELOPE_BYTES_MAX};
use aquifer_protocol::{NodeId, RecordId, TopicId};
use minicbor::{Decode, Decoder, Encode, bytes::ByteVec};

/// The format: 1.
const VERSION: u8 = 1;

/// The most topics of one question.
pub const TOPICS_PER_QUESTION_MAX: usize = 256;
/// The most terms of one question, and the longest of them, in bytes.
pub const TERMS_MAX: usize = 64;
/// The longest term, in bytes.
pub const TERM_BYTES_MAX: usize = 64;
/// The most hits of one answer.
pub const HITS_PER_ANSWER_MAX: usize = 128;
/// The most versions in conflict that travel with a hit.
pub const CONFLICTS_PER_HIT_MAX: usize = 2;
/// The most peers of one answer.
pub const PEERS_PER_ANSWER_MAX: usize = 1_024;
/// Answers are filled up to so many bytes: one hit more still fits what the network carries.
pub const ANSWER_BYTES_FILL: usize = 180 * 1024;

/// The longest part of what hosts of an agent say, in bytes.
pub const PART_BYTES_MAX: usize = 120 * 1024;

const _: () = assert!(PART_BYTES_MAX + 64 < crate::net::QUESTION_BYTES_MAX);

/// Reasons why topics are kept are given until they reach so many bytes; the rules always are.
pub const REASONS_BYTES_FILL: usize = 44 * 1024;

/// The longest hit there can be, in bytes.
const HIT_BYTES_MAX: usize =
    (1 + CONFLICTS_PER_HIT_MAX) * (BODY_BYTES_MAX + ENVELOPE_BYTES_MAX + 64) + 512;

const _: () = assert!(
    if ANSWER_BYTES_FILL > HIT_BYTES_MAX {
        ANSWER_BYTES_FILL
    } else {
        HIT_BYTES_MAX
    } + REASONS_BYTES_FILL
        + TOPICS_PER_QUESTION_MAX * 64
        < crate::net::ANSWER_BYTES_MAX,
    "hits filled to the brim, or the longest alone, and a rule for every topic must fit an answer"
);
const _: () = assert!(
    TOPICS_PER_QUESTION_MAX * 34 + TERMS_MAX * (TERM_BYTES_MAX + 10) + 512
        < crate::net::QUESTION_BYTES_MAX,
    "the longest question without tags must fit"
);

/// What one node asks another.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub enum Question {
    /// Are you there? Answered by [`Answer::Pong`].
    #[n(1)]
    Ping(#[n(0)] u64),
    /// Who are your peers? Answered by [`Answer::Peers`].
    #[n(2)]
    Peers,
    /// What must be known of your collection to score this? Answered by [`Answer::Counted`].
    #[n(3)]
    Count(#[n(0)] Sought),
    /// What do you have that fits? Answered by [`Answer::Found`].
    #[n(4)]
    Search(#[n(0)] Sought, #[n(1)] Best),
    /// A part of what hosts of an agent say to each other. Answered by [`Answer::Agents`].
    #[n(5)]
    Agents(#[n(0)] Part),
}

/// A part of something that may be too long for one question.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Part {
    /// Of what: a number that the asker drew.
    #[n(0)]
    pub of: u64,
    /// Which part, counted from 0.
    #[n(1)]
    pub number: u32,
    /// How many there are.
    #[n(2)]
    pub count: u32,
    /// Its bytes, at most [`PART_BYTES_MAX`].
    #[n(3)]
    pub bytes: ByteVec,
}

/// What is looked for, and where.
#[derive(Clone, Debug, Default, PartialEq, Encode, Decode)]
pub struct Sought {
    /// The topics.
    #[n(0)]
    pub topics: Vec<TopicId>,
    /// Stemmed terms, in order of appearance; none asks for the newest.
    #[n(1)]
    pub terms: Vec<String>,
    /// The query as a vector.
    #[n(2)]
    pub vector: Option<Vector>,
    /// Labels that must all be there.
    #[n(3)]
    pub tags: Vec<String>,
    /// Only this author's.
    #[cbor(n(4), with = "minicbor::bytes")]
    pub author: Option<[u8; 32]>,
    /// Only this class.
    #[n(5)]
    pub kind: Option<u8>,
    /// Made at or after, in ms since 1970.
    #[n(6)]
    pub since_ms: Option<u64>,
    /// Made at or before, in ms since 1970.
    #[n(7)]
    pub until_ms: Option<u64>,
    /// As it stood then, in ms since 1970.
    #[n(8)]
    pub as_of_ms: Option<u64>,
    /// Only what its author says was true then, in ms since 1970.
    #[n(9)]
    pub valid_at_ms: Option<u64>,
}

/// A vector, and who made it. Vectors of different embedders are never compared.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct Vector {
    /// The embedder.
    #[n(0)]
    pub embedder: String,
    /// One signed byte a dimension; the length does not matter, only the direction.
    #[n(1)]
    pub values: ByteVec,
}

/// How to choose the best.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct Best {
    /// 0 hybrid, 1 lexical, 2 semantic.
    #[n(0)]
    pub mode: u8,
    /// The statistics to score by: those of all nodes asked, added up.
    #[n(1)]
    pub tally: Tally,
    /// How many, at most [`HITS_PER_ANSWER_MAX`].
    #[n(2)]
    pub limit: u16,
    /// How many of the best to leave out: the asker has them.
    #[n(3)]
    pub skip: u16,
}

/// Statistics of a collection, by the question's terms.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Tally {
    /// How many memories.
    #[n(0)]
    pub documents: u64,
    /// Tokens in all of them; over `documents` it is their average length.
    #[n(1)]
    pub length: u64,
    /// In how many each term occurs, in the order of the question's terms.
    #[n(2)]
    pub terms: Vec<u64>,
}

/// What the asked node says.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub enum Answer {
    /// It does not answer this: a stable code, and why.
    #[n(0)]
    Refused(#[n(0)] String, #[n(1)] String),
    /// The number of the ping.
    #[n(1)]
    Pong(#[n(0)] u64),
    /// Peers that it is connected to, members of the hive only.
    #[n(2)]
    Peers(#[n(0)] Vec<Neighbour>),
    /// Statistics by topic, and the topics that the law keeps from the asker.
    #[n(3)]
    Counted(#[n(0)] Vec<(TopicId, Tally)>, #[n(1)] Vec<Kept>),
    /// Hits, best first; whether there are more; the topics that the law keeps from the asker.
    #[n(4)]
    Found(#[n(0)] Vec<Found>, #[n(1)] bool, #[n(2)] Vec<Kept>),
    /// What a host says to that: nothing before it has all parts.
    #[n(5)]
    Agents(#[n(0)] ByteVec),
}

/// A topic that the law keeps from the asker.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Kept {
    /// The topic.
    #[n(0)]
    pub topic: TopicId,
    /// A stable name of the rule.
    #[n(1)]
    pub rule: String,
    /// The rule in words.
    #[n(2)]
    pub reason: String,
}

/// A peer of the answerer.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Neighbour {
    /// The peer.
    #[n(0)]
    pub node: NodeId,
    /// Its region, as the answerer knows it.
    #[n(1)]
    pub region: String,
    /// Round trip in microseconds, once measured.
    #[n(2)]
    pub rtt_us: Option<u64>,
    /// Whether the connection goes through a relay.
    #[n(3)]
    pub relayed: bool,
}

/// A memory found.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct Found {
    /// The memory: the id of its first record.
    #[n(0)]
    pub id: RecordId,
    /// The record of the version that is shown.
    #[n(1)]
    pub shown: Carried,
    /// Versions in conflict with it.
    #[n(2)]
    pub conflicts: Vec<Carried>,
    /// When the memory was first made, in ms since 1970, by the answerer's word.
    #[n(3)]
    pub created_ms: u64,
    /// How often each term of the question occurs in it.
    #[n(4)]
    pub frequencies: Vec<u32>,
    /// How many tokens it has.
    #[n(5)]
    pub length: u32,
    /// The cosine with the question's vector.
    #[n(6)]
    pub cosine: f32,
}

/// A record as it travels.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Carried {
    /// The signed envelope.
    #[n(0)]
    pub envelope: ByteVec,
    /// The body with its salt.
    #[n(1)]
    pub body: ByteVec,
}

/// Why bytes are no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenMessage {
    /// Another version of the format.
    #[error("version {0} of the question format is not known here")]
    Version(u8),
    /// A type that this version does not know.
    #[error("questions of type {0} are not known here")]
    Unknown(u32),
    /// Not the canonical encoding of a message, or beyond a bound.
    #[error("the message is malformed")]
    Malformed,
}

impl OpenMessage {
    /// A stable name.
    pub fn code(self) -> &'static str {
        match self {
            Self::Version(_) => "unknown_version",
            Self::Unknown(_) => "unknown_question",
            Self::Malformed => "malformed",
        }
    }
}

impl Question {
    /// Reads a question, and checks its bounds.
    ///
    /// # Errors
    /// [`OpenMessage`]; no bytes panic or allocate more than a few times their own length.
    pub fn open(bytes: &[u8]) -> Result<Self, OpenMessage> {
        let question: Self = open(bytes, 1..=5)?;
        let is_legal = match &question {
            Self::Ping(_) | Self::Peers => true,
            Self::Agents(part) => part.number < part.count && part.bytes.len() <= PART_BYTES_MAX,
            Self::Count(sought) => sought.is_legal(),
            Self::Search(sought, best) => {
                sought.is_legal()
                    && usize::from(best.limit) <= HITS_PER_ANSWER_MAX
                    && best.mode <= 2
                    && best.tally.terms.len() == sought.terms.len()
            }
        };
        is_legal.then_some(question).ok_or(OpenMessage::Malformed)
    }

    /// Its bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        to_bytes(self)
    }
}

impl Answer {
    /// Reads an answer, and checks its bounds.
    ///
    /// # Errors
    /// As [`Question::open`].
    pub fn open(bytes: &[u8]) -> Result<Self, OpenMessage> {
        let answer: Self = open(bytes, 0..=5)?;
        let is_legal = match &answer {
            Self::Refused(..) | Self::Pong(_) | Self::Agents(_) => true,
            Self::Peers(peers) => peers.len() <= PEERS_PER_ANSWER_MAX,
            Self::Counted(counts, kept) => {
                counts.len().max(kept.len()) <= TOPICS_PER_QUESTION_MAX
                    && counts
                        .iter()
                        .all(|(_, tally)| tally.terms.len() <= TERMS_MAX)
            }
            Self::Found(hits, _, kept) => {
                hits.len() <= HITS_PER_ANSWER_MAX && kept.len() <= TOPICS_PER_QUESTION_MAX
            }
        };
        is_legal.then_some(answer).ok_or(OpenMessage::Malformed)
    }

    /// Its bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        to_bytes(self)
    }
}

impl Sought {
    fn is_legal(&self) -> bool {
        self.topics.len() <= TOPICS_PER_QUESTION_MAX
            && self.terms.len() <= TERMS_MAX
            && self.terms.iter().all(|term| term.len() <= TERM_BYTES_MAX)
    }
}

impl Tally {
    /// The numbers of `statistics`.
    pub fn of(statistics: &Statistics) -> Self {
        Self {
            documents: statistics.documents,
            length: statistics.length,
            terms: statistics.terms.iter().map(|term| term.documents).collect(),
        }
    }

    /// These numbers as statistics for `terms`. A count beyond all memories is cut to that.
    pub fn about(&self, terms: &[String]) -> Statistics {
        let counts = self.terms.iter().copied().chain(std::iter::repeat(0));
        let count = |(term, documents): (&String, u64)| TermCount {
            term: term.clone(),
            documents: documents.min(self.documents),
        };
        Statistics {
            terms: terms.iter().zip(counts).map(count).collect(),
            documents: self.documents,
            length: self.length,
        }
    }
}

impl Best {
    /// The number of `mode` on the wire.
    pub fn number(mode: Mode) -> u8 {
        match mode {
            Mode::Hybrid => 0,
            Mode::Lexical => 1,
            Mode::Semantic => 2,
        }
    }

    /// The mode asked for.
    pub fn mode(&self) -> Mode {
        match self.mode {
            1 => Mode::Lexical,
            2 => Mode::Semantic,
            _ => Mode::Hybrid,
        }
    }
}

fn to_bytes(message: &impl Encode<()>) -> Vec<u8> {
    let mut bytes = vec![0x82, VERSION];
    minicbor::encode(message, &mut bytes).expect("a vector takes any encoding");
    bytes
}

fn open<M>(bytes: &[u8], types: std::ops::RangeInclusive<u32>) -> Result<M, OpenMessage>
where
    M: Encode<()> + for<'b> Decode<'b, ()>,
{
    let malformed = |_: minicbor::decode::Error| OpenMessage::Malformed;
    let mut decoder = Decoder::new(bytes);
    if decoder.array().map_err(malformed)? != Some(2) {
        return Err(OpenMessage::Malformed);
    }
    let version = decoder.u8().map_err(malformed)?;
    if version != VERSION {
        return Err(OpenMessage::Version(version));
    }
    let start = decoder.position();
    if decoder.array().map_err(malformed)? != Some(2) {
        return Err(OpenMessage::Malformed);
    }
    let kind = decoder.u32().map_err(malformed)?;
    if !types.contains(&kind) {
        return Err(OpenMessage::Unknown(kind));
    }
    decoder.set_position(start);
    let message: M = decoder.decode().map_err(malformed)?;
    if to_bytes(&message) == bytes {
        Ok(message)
    } else {
        Err(OpenMessage::Malformed)
    }
}

#[cfg(test)]
mod tests;

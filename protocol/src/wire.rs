//! The wire: messages between two admitted nodes, and their one byte form.
//!
//! A frame is a `minicbor` array `[version, type, …]`. [`Message::open`] is the door: it checks sizes
//! before it allocates and opens records on the way in, so that inside the core a message holds
//! nothing unchecked. A type this version does not know is [`Message::Unknown`], and is ignored.
//!
//! Not here: framing on a stream (`node/src/net/streams.rs`), what is said when (`replica`).

use crate::canonical::Counted;
use crate::identity::NodeId;
use crate::limits::{FRAME_BYTES_MAX, ITEMS_PER_MESSAGE_MAX, RECORDS_PER_MESSAGE_MAX};
use crate::log::LogKey;
use crate::receipt::{Reach, Receipts};
use crate::record::{LogId, OpenRecord, Record, RecordId, Seq};
use crate::riblt::Cell;
use crate::sync::Gauge;
use crate::time::Stamp;
use crate::topic::TopicId;
use minicbor::{Decode, Decoder, Encode, Encoder, encode::Write};
use parts::{list, read_proof, read_receipts, read_runs, write_record};

mod about;
mod packed;
mod parts;

const VERSION: u8 = 1;

/// Where a log stands with the sender.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Encode, Decode)]
pub struct Item {
    /// The writer.
    #[n(0)]
    pub writer: NodeId,
    /// Its log.
    #[n(1)]
    pub log: LogId,
    /// How many records the sender has of it.
    #[n(2)]
    pub height: Seq,
    /// The last of them.
    #[n(3)]
    pub tip: RecordId,
    /// Where the log is cut, if its writer forked it.
    #[n(4)]
    pub fork: Option<Seq>,
}

impl Item {
    /// The log, which lies in `topic`.
    pub(crate) fn key(&self, topic: TopicId) -> LogKey {
        LogKey {
            topic,
            writer: self.writer,
            log: self.log,
        }
    }
}

/// A stretch of a log that the sender would like to have: `from` up to but not including `until`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
pub struct Want {
    /// The writer.
    #[n(0)]
    pub writer: NodeId,
    /// Its log.
    #[n(1)]
    pub log: LogId,
    /// The first record.
    #[n(2)]
    pub from: Seq,
    /// The first record not wanted.
    #[n(3)]
    pub until: Seq,
}

/// A stretch of a log that the receiver of it has coded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CodedWant {
    /// The log's short hash in the reconciliation.
    pub short: u64,
    /// The first record.
    pub from: Seq,
    /// The first record not wanted.
    pub until: Seq,
}

/// How high the sender has a log that the receiver has coded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Told {
    /// The log's short hash in the reconciliation.
    pub short: u64,
    /// How many records the sender has of it.
    pub height: Seq,
}

/// Two records at one place of one log, each signed by its writer (I8).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Proof {
    /// One, the lower id first.
    pub one: Record,
    /// The other.
    pub other: Record,
}

/// What nodes say to each other.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Message {
    /// My logs of `topic` hash to `digest`. Compare, and answer only if yours differ.
    Summary {
        /// The topic.
        topic: TopicId,
        /// Hash of all items in order.
        digest: [u8; 16],
        /// How many logs I have.
        logs: u32,
        /// My clock, so that a node that is far off can tell.
        clock: Stamp,
    },
    /// Where my logs stand. `whole` if these are all of them.
    Items {
        /// The topic.
        topic: TopicId,
        /// Some or all of my items.
        items: Vec<Item>,
        /// All of them?
        whole: bool,
    },
    /// Coded cells of my items, from `start` on, under keys made of `nonce`.
    Cells {
        /// The topic.
        topic: TopicId,
        /// Names this reconciliation.
        nonce: u64,
        /// The first cell's number.
        start: u64,
        /// With the first cells: what tells how many more it will take.
        gauge: Option<Box<Gauge>>,
        /// The cells.
        cells: Vec<Cell>,
    },
    /// Send `count` cells of reconciliation `nonce` from `start` on; I could not decode what I have.
    MoreCells {
        /// The topic.
        topic: TopicId,
        /// Names the reconciliation.
        nonce: u64,
        /// The first cell wanted.
        start: u64,
        /// How many.
        count: u64,
    },
    /// Send the items whose short hashes under `nonce` are these.
    WantItems {
        /// The topic.
        topic: TopicId,
        /// Names the reconciliation.
        nonce: u64,
        /// 48-bit short hashes of logs.
        hashes: Vec<u64>,
    },
    /// Send these stretches of logs.
    Wants {
        /// The topic.
        topic: TopicId,
        /// The stretches.
        wants: Vec<Want>,
    },
    /// Stretches of logs, each opened by its last signature.
    Records {
        /// The topic.
        topic: TopicId,
        /// The stretches.
        runs: Vec<Vec<Record>>,
    },
    /// What I hold durably.
    Receipts(Receipts),
    /// These logs were forked by their writers.
    Proofs {
        /// The topic.
        topic: TopicId,
        /// The proofs.
        proofs: Vec<Proof>,
    },
    /// My logs of `topic` hash to `digest` too.
    Agreed {
        /// The topic.
        topic: TopicId,
        /// The digest we have in common.
        digest: [u8; 16],
    },
    /// Sign for these logs, as soon as you hold them so far.
    WantReceipts {
        /// The topic.
        topic: TopicId,
        /// The logs.
        reaches: Vec<Reach>,
    },
    /// Send these stretches of logs, named by their short hashes under `nonce`.
    WantCoded {
        /// The topic.
        topic: TopicId,
        /// Names the reconciliation.
        nonce: u64,
        /// The stretches.
        wants: Vec<CodedWant>,
    },
    /// I have these logs so high, named by their short hashes under `nonce`.
    Told {
        /// The topic.
        topic: TopicId,
        /// Names the reconciliation.
        nonce: u64,
        /// The logs.
        told: Vec<Told>,
    },
    /// More of what you want lies ready. Say [`Message::GoOn`] once you hold what came before this.
    MoreWaits,
    /// Send more of what I want.
    GoOn,
    /// A message of a later version.
    Unknown {
        /// Its type.
        kind: u8,
    },
}

/// Why a frame is not a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenMessage {
    /// Longer than a frame may be.
    #[error("the frame is {len} bytes long; the limit is {FRAME_BYTES_MAX}")]
    Oversized {
        /// Its length.
        len: usize,
    },
    /// Of a wire version this node does not speak.
    #[error("the frame is of wire version {version}; this node speaks {VERSION}")]
    Version {
        /// Its version.
        version: u8,
    },
    /// Not what its type promises.
    #[error("the frame is malformed")]
    Malformed,
    /// A record in it cannot be opened.
    #[error("a record in the frame cannot be opened: {why}")]
    Record {
        /// Why not.
        why: OpenRecord,
    },
    /// Receipts in it are not signed by their holder.
    #[error("receipts in the frame are not signed by their holder")]
    Receipts,
    /// A proof in it proves nothing.
    #[error("a proof in the frame proves nothing")]
    Proof,
}

type Parsed<T> = Result<T, OpenMessage>;

impl From<minicbor::decode::Error> for OpenMessage {
    fn from(_: minicbor::decode::Error) -> Self {
        Self::Malformed
    }
}

impl Message {
    /// The frame that carries it.
    ///
    /// # Panics
    /// On [`Message::Unknown`], which nobody sends.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut e = Encoder::new(Vec::with_capacity(self.encoded_len()));
        self.write(&mut e).expect("a vector takes any encoding");
        e.into_writer()
    }

    /// How many bytes [`Message::to_bytes`] makes, without making them. Panics as that does.
    pub fn encoded_len(&self) -> usize {
        let mut e = Encoder::new(Counted(0));
        self.write(&mut e).expect("counting takes any encoding");
        e.into_writer().0
    }

    fn write<W: Write>(&self, e: &mut Encoder<W>) -> Result<(), minicbor::encode::Error<W::Error>> {
        let mut head = |fields: u64, kind: u8| e.array(fields + 2)?.u8(VERSION)?.u8(kind)?.ok();
        match self {
            Self::Summary {
                topic,
                digest,
                logs,
                clock,
            } => {
                head(4, 1)?;
                e.encode(topic)?
                    .bytes(digest)?
                    .u32(*logs)?
                    .encode(clock)?
                    .ok()
            }
            Self::Items {
                topic,
                items,
                whole,
            } => {
                head(3, 2)?;
                e.encode(topic)?.encode(items)?.bool(*whole)?.ok()
            }
            Self::Cells {
                topic,
                nonce,
                start,
                gauge,
                cells,
            } => {
                head(5, 3)?;
                e.encode(topic)?.u64(*nonce)?.u64(*start)?;
                e.bytes(&packed::gauge(gauge.as_deref()))?;
                e.bytes(&packed::cells(cells))?.ok()
            }
            Self::MoreCells {
                topic,
                nonce,
                start,
                count,
            } => {
                head(4, 4)?;
                e.encode(topic)?.u64(*nonce)?.u64(*start)?;
                e.u64(*count)?.ok()
            }
            Self::WantItems {
                topic,
                nonce,
                hashes,
            } => {
                head(3, 5)?;
                e.encode(topic)?.u64(*nonce)?.encode(hashes)?.ok()
            }
            Self::Wants { topic, wants } => {
                head(2, 6)?;
                e.encode(topic)?.encode(wants)?.ok()
            }
            Self::Records { topic, runs } => {
                head(2, 7)?;
                e.encode(topic)?.array(runs.len() as u64)?;
                for run in runs {
                    e.array(run.len() as u64)?;
                    run.iter().try_for_each(|record| write_record(e, record))?;
                }
                Ok(())
            }
            Self::Receipts(receipts) => {
                head(1, 8)?;
                e.encode(receipts)?.ok()
            }
            Self::Proofs { topic, proofs } => {
                head(2, 9)?;
                e.encode(topic)?.array(proofs.len() as u64)?;
                for proof in proofs {
                    e.array(2)?;
                    write_record(e, &proof.one.without_body())?;
                    write_record(e, &proof.other.without_body())?;
                }
                Ok(())
            }
            Self::Agreed { topic, digest } => {
                head(2, 10)?;
                e.encode(topic)?.bytes(digest)?.ok()
            }
            Self::WantReceipts { topic, reaches } => {
                head(2, 11)?;
                e.encode(topic)?.encode(reaches)?.ok()
            }
            Self::WantCoded {
                topic,
                nonce,
                wants,
            } => {
                head(3, 12)?;
                e.encode(topic)?.u64(*nonce)?;
                e.bytes(&packed::wants(wants))?.ok()
            }
            Self::Told { topic, nonce, told } => {
                head(3, 13)?;
                e.encode(topic)?.u64(*nonce)?;
                e.bytes(&packed::told(told))?.ok()
            }
            Self::MoreWaits => head(0, 14),
            Self::GoOn => head(0, 15),
            Self::Unknown { kind } => panic!("nobody sends a message of unknown type {kind}"),
        }
    }

    /// Opens a frame that a peer sent: sizes, shape, records, signatures.
    pub fn open(bytes: &[u8]) -> Parsed<Self> {
        if bytes.len() > FRAME_BYTES_MAX {
            return Err(OpenMessage::Oversized { len: bytes.len() });
        }
        let mut d = Decoder::new(bytes);
        let fields = d.array()?.ok_or(OpenMessage::Malformed)?;
        let version = d.u8()?;
        if version != VERSION {
            return Err(OpenMessage::Version { version });
        }
        let kind = d.u8()?;
        let message = match (kind, fields) {
            (1, 6) => Self::Summary {
                topic: d.decode()?,
                digest: d.bytes()?.try_into().map_err(|_| OpenMessage::Malformed)?,
                logs: d.u32()?,
                clock: d.decode()?,
            },
            (2, 5) => Self::Items {
                topic: d.decode()?,
                items: list(&mut d, ITEMS_PER_MESSAGE_MAX, |d| Ok(d.decode()?))?,
                whole: d.bool()?,
            },
            (3, 7) => Self::Cells {
                topic: d.decode()?,
                nonce: d.u64()?,
                start: d.u64()?,
                gauge: packed::read_gauge(d.bytes()?)?.map(Box::new),
                cells: packed::read_cells(d.bytes()?)?,
            },
            (4, 6) => Self::MoreCells {
                topic: d.decode()?,
                nonce: d.u64()?,
                start: d.u64()?,
                count: d.u64()?,
            },
            (5, 5) => Self::WantItems {
                topic: d.decode()?,
                nonce: d.u64()?,
                hashes: list(&mut d, ITEMS_PER_MESSAGE_MAX, |d| Ok(d.u64()?))?,
            },
            (6, 4) => Self::Wants {
                topic: d.decode()?,
                wants: list(&mut d, ITEMS_PER_MESSAGE_MAX, |d| Ok(d.decode()?))?,
            },
            (7, 4) => {
                let topic = d.decode()?;
                Self::Records {
                    topic,
                    runs: read_runs(&mut d, topic)?,
                }
            }
            (8, 3) => Self::Receipts(read_receipts(&mut d)?),
            (9, 4) => {
                let topic = d.decode()?;
                Self::Proofs {
                    topic,
                    proofs: list(&mut d, RECORDS_PER_MESSAGE_MAX, read_proof)?,
                }
            }
            (10, 4) => Self::Agreed {
                topic: d.decode()?,
                digest: d.bytes()?.try_into().map_err(|_| OpenMessage::Malformed)?,
            },
            (11, 4) => Self::WantReceipts {
                topic: d.decode()?,
                reaches: list(&mut d, ITEMS_PER_MESSAGE_MAX, |d| Ok(d.decode()?))?,
            },
            (12, 5) => Self::WantCoded {
                topic: d.decode()?,
                nonce: d.u64()?,
                wants: packed::read_wants(d.bytes()?)?,
            },
            (13, 5) => Self::Told {
                topic: d.decode()?,
                nonce: d.u64()?,
                told: packed::read_told(d.bytes()?)?,
            },
            (14, 2) => Self::MoreWaits,
            (15, 2) => Self::GoOn,
            (1..=15, _) => return Err(OpenMessage::Malformed),
            (kind, _) => return Ok(Self::Unknown { kind }),
        };
        if d.position() == bytes.len() {
            Ok(message)
        } else {
            Err(OpenMessage::Malformed)
        }
    }
}

impl Proof {
    /// A proof from two signed records at one place, in the one order.
    pub fn new(a: &Record, b: &Record) -> Option<Self> {
        let place = |r: &Record| {
            let h = r.header();
            (h.topic, h.writer, h.log, h.seq)
        };
        let proves = a.id() != b.id() && place(a) == place(b);
        let (one, other) = if a.id() < b.id() { (a, b) } else { (b, a) };
        proves.then(|| Self {
            one: one.without_body(),
            other: other.without_body(),
        })
    }
}

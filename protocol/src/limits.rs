//! Every bound in the protocol. A number that limits something lives here or is a bug.
//!
//! Sizes that a peer controls are checked against these before anything is allocated, and the
//! relations between them are asserted when the crate is compiled.

use core::time::Duration;

/// The longest body of a record, in bytes. A memory's text is a little shorter: see [`TEXT_BYTES_MAX`].
pub const BODY_BYTES_MAX: usize = 64 << 10;
/// The longest text of a memory, in bytes of UTF-8.
pub const TEXT_BYTES_MAX: usize = 48 << 10;
/// The most tags of a memory.
pub const TAGS_MAX: usize = 64;
/// The longest tag, metadata key or source, in bytes.
pub const LABEL_BYTES_MAX: usize = 256;
/// The most metadata entries of a memory.
pub const METADATA_MAX: usize = 32;
/// The longest metadata value, in bytes.
pub const METADATA_VALUE_BYTES_MAX: usize = 256;
/// The most ids that one erase, link or revision names.
pub const IDS_PER_BODY_MAX: usize = 1_024;
/// The longest envelope (COSE_Sign1 with the header), in bytes.
pub const ENVELOPE_BYTES_MAX: usize = 512;
/// The longest frame between two nodes, in bytes.
pub const FRAME_BYTES_MAX: usize = 1 << 20;
/// How many bytes of records a message is filled up to.
pub const RECORDS_BYTES_PER_MESSAGE: usize = 512 << 10;
/// The most records in one message, and the farthest apart two signed ends of a segment may lie.
pub const RECORDS_PER_MESSAGE_MAX: usize = 1_024;
/// The most runs, items or wants in one message.
pub const ITEMS_PER_MESSAGE_MAX: usize = 4_096;
/// Up to this many logs a topic's items travel as a plain list; above, as coded cells.
pub const LIST_ITEMS_MAX: usize = 16;
/// The most coded cells of one reconciliation, before it falls back to the list.
pub const SYMBOLS_MAX: usize = 16_384;
/// The most coded cells in one message.
pub const SYMBOLS_PER_MESSAGE_MAX: usize = 4_096;
/// How many coded cells are sent unasked: enough for some ten differences.
pub const SYMBOLS_FIRST: usize = 24;
/// The most logs that are coded for talks under way, all topics and peers together.
pub const CODED_LOGS_MAX: usize = 262_144;
/// The most talks by coded cells that are remembered.
pub const CODINGS_MAX: usize = 64;
/// How many bytes of records a peer that turns out to lack them is given unasked.
pub const GIVEN_BYTES: usize = 64 << 10;
/// The most stretches of logs that wait to be sent to one peer.
pub const WANTS_QUEUED_MAX: usize = 16_384;
/// How many messages of records are on their way to a peer before it says that it holds the first:
/// 4 MiB, which fill a line of 200 Mbit/s and 150 ms.
pub const RECORDS_AHEAD: usize = 8;
/// The most topics a node knows.
pub const TOPICS_MAX: usize = 4_096;
/// The most logs a node keeps for one topic.
pub const LOGS_PER_TOPIC_MAX: usize = 65_536;
/// The most peers a replica speaks with at once.
pub const PEERS_MAX: usize = 1_024;
/// The longest topic name, in bytes.
pub const TOPIC_BYTES_MAX: usize = 128;
/// The most segments of a topic name or region path.
pub const PATH_SEGMENTS_MAX: usize = 8;
/// The longest region path, in bytes.
pub const REGION_BYTES_MAX: usize = 64;
/// The most regions that one rule lists.
pub const REGIONS_PER_RULE_MAX: usize = 64;
/// The most keys that one readers or writers list names.
pub const KEYS_PER_RULE_MAX: usize = 256;
/// The most certificates in a chain.
pub const CHAIN_DEPTH_MAX: usize = 8;
/// The longest certificate chain, in bytes.
pub const CHAIN_BYTES_MAX: usize = 8 << 10;
/// The most addresses of a manifest.
pub const ADDRESSES_MAX: usize = 16;
/// The longest address of a manifest, in bytes.
pub const ADDRESS_BYTES_MAX: usize = 256;
/// The longest node record in a directory, in bytes.
pub const NODE_RECORD_BYTES_MAX: usize = 5 << 10;
/// How long a node record may be good: it is signed anew well before.
pub const NODE_RECORD_LIFE_MAX: Duration = Duration::from_secs(3_600);
/// The most records parked because their time or their law has not come.
pub const PARKED_MAX: usize = 1_024;
/// The most commands that wait for receipts.
pub const AWAITING_MAX: usize = 4_096;
/// How many inputs a driver hands over before it commits.
pub const INPUTS_PER_BEAT: usize = 256;
/// A stamp farther ahead than this is parked until its time has come.
pub const FUTURE_MAX: Duration = Duration::from_secs(60);
/// How often a replica offers its summary to some of its peers.
pub const SYNC_EVERY: Duration = Duration::from_secs(10);
/// To how many peers it then offers it.
pub const SYNC_PEERS: usize = 2;
/// How long an unanswered request for records stands before another peer may be asked.
pub const WANT_PATIENCE: Duration = Duration::from_secs(5);
/// How long a peer that goes on delivering may take for a request.
pub const WANT_PATIENCE_MAX: Duration = Duration::from_secs(60);
/// How long a talk by coded cells is remembered.
pub const CODING_KEPT: Duration = Duration::from_secs(30);
/// How often a few records are read back.
pub const SCRUB_EVERY: Duration = Duration::from_secs(1);
/// How many records are read back each time.
pub const SCRUB_RECORDS: u64 = 64;
/// How many stretches of logs one peer may promise between two rounds of sync.
pub const PROMISES_PER_ROUND: usize = 16_384;
/// In how many meshes a node takes part: that of its top-level region and this many less one below.
pub const MESH_DEPTH_MAX: usize = 3;
/// The longest message that travels in a mesh, in bytes.
pub const GOSSIP_BYTES_MAX: usize = 32 << 10;
/// In up to so many messages a stretch of a log is said to a mesh; a longer one is announced and pulled.
pub const GOSSIP_MESSAGES_MAX: usize = 4;
/// How many turns to speak of its own writes a node has at once.
pub const SPEAK_BURST: u32 = 20;
/// For each peer that is connected it is given another so much later.
pub const SPEAK_PER_PEER: Duration = Duration::from_millis(2);
/// A turn is given no more often than once in the time of so many commits.
pub const SPEAK_COMMITS: u32 = 16;
/// But at least so often, however slow the disk.
pub const SPEAK_EVERY_MAX: Duration = Duration::from_secs(1);
/// How many nodes of a mesh carry a topic to another: the first sends, the second sees to it.
pub const BRIDGES: usize = 2;
/// How long the second bridge waits for the first.
pub const BRIDGE_PATIENCE: Duration = Duration::from_secs(1);
/// The most announcements whose verdict waits for the records they announce.
pub const VERDICTS_HELD_MAX: usize = 256;
/// How long a verdict may wait. A mesh forgets a message it has not judged after 12 s.
pub const VERDICT_PATIENCE: Duration = Duration::from_secs(8);
/// How long what is known already is passed on in a mesh all the same, for others may not know it.
pub const NEWS_FOR: Duration = Duration::from_secs(60);
/// How long a mesh must remember what it had: longer than anything in it is news.
pub const MESH_REMEMBERS: Duration = Duration::from_secs(120);
/// The most logs that one beat announces to a mesh; more are left to sync.
pub const ANNOUNCED_MAX: usize = 64;
/// How many nodes more than needed are asked for receipts at first.
pub const RECEIPT_SPARE: usize = 2;
/// How long after a request for receipts all who may have the records are asked (again).
pub const RECEIPT_PATIENCE: Duration = Duration::from_secs(1);
/// The most logs for which receipts are owed.
pub const RECEIPTS_OWED_MAX: usize = 4_096;
/// How often retention is enforced.
pub const RETENTION_EVERY: Duration = Duration::from_secs(30);

const _: () = assert!(TEXT_BYTES_MAX + TAGS_MAX * LABEL_BYTES_MAX <= BODY_BYTES_MAX);
const _: () = assert!(IDS_PER_BODY_MAX * 34 + 64 < BODY_BYTES_MAX);
const _: () = assert!(
    RECORDS_BYTES_PER_MESSAGE + BODY_BYTES_MAX + ENVELOPE_BYTES_MAX + 1_024 < FRAME_BYTES_MAX,
    "a message filled to the brim and one record more must fit a frame"
);
const _: () = assert!(ITEMS_PER_MESSAGE_MAX * 128 < FRAME_BYTES_MAX);
const _: () = assert!(SYMBOLS_PER_MESSAGE_MAX * 32 < FRAME_BYTES_MAX);
const _: () = assert!(SYMBOLS_FIRST <= SYMBOLS_PER_MESSAGE_MAX);
const _: () = assert!(LOGS_PER_TOPIC_MAX <= CODED_LOGS_MAX);
const _: () = assert!(GIVEN_BYTES <= RECORDS_BYTES_PER_MESSAGE);
const _: () = assert!(LIST_ITEMS_MAX <= ITEMS_PER_MESSAGE_MAX);
const _: () = assert!(ANNOUNCED_MAX * 128 < GOSSIP_BYTES_MAX && GOSSIP_BYTES_MAX < FRAME_BYTES_MAX);
const _: () = assert!(ANNOUNCED_MAX <= ITEMS_PER_MESSAGE_MAX);
const _: () = assert!(NEWS_FOR.as_secs() < MESH_REMEMBERS.as_secs());
const _: () = assert!(CHAIN_BYTES_MAX + ADDRESSES_MAX * ADDRESS_BYTES_MAX < BODY_BYTES_MAX);
const _: () = assert!(ADDRESSES_MAX * (ADDRESS_BYTES_MAX + 3) + 320 < NODE_RECORD_BYTES_MAX);

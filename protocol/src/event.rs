//! What goes into a replica and what comes out: inputs, outputs, commands, replies, events.
//!
//! [`Event`] is the one vocabulary of observation: telemetry, `watch`, the recall index, the
//! simulator's checkers and the tests all read it.
//!
//! Not here: the messages between nodes (`wire`).

use crate::body::{Body, Manifest};
use crate::certificate::Member;
use crate::decide::{Denial, Op};
use crate::identity::{AgentId, NodeId};
use crate::log::{CorruptRecord, LogKey};
use crate::policy::Policy;
use crate::record::{Record, RecordId, Seq};
use crate::region::Region;
use crate::time::Time;
use crate::topic::{TopicId, TopicName};
use crate::wire::{Message, OpenMessage};
use bytes::Bytes;
use core::time::Duration;

/// Correlates a command with its reply.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct CommandId(pub u64);

/// Correlates a message of a mesh with its verdict.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Ticket(pub u64);

/// What becomes of a message of a mesh.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It is good: pass it on.
    Accept,
    /// Let it end here, and think no worse of whoever passed it on.
    Ignore,
    /// No honest node passes this on.
    Reject,
}

/// What a driver hands to [`Replica::handle`](crate::Replica::handle).
#[derive(Clone, Debug)]
pub enum Input {
    /// Time has passed.
    Tick,
    /// A connection to an admitted peer is up.
    PeerUp {
        /// The peer, by the certificate it showed.
        member: Member,
    },
    /// The last connection to a peer is gone.
    PeerDown {
        /// The peer.
        peer: NodeId,
    },
    /// A peer sent bytes.
    Frame {
        /// The peer.
        from: NodeId,
        /// What it sent.
        bytes: Bytes,
    },
    /// A peer sent a message that is already open: drivers that share memory need not open it again.
    Message {
        /// The peer.
        from: NodeId,
        /// What it sent.
        message: Message,
    },
    /// A message came in a mesh. It is answered by [`Output::Verdict`], and goes no farther before.
    Gossip {
        /// The mesh.
        mesh: Region,
        /// The peer that passed it on; who made it is for the records in it to say.
        from: NodeId,
        /// To answer by.
        ticket: Ticket,
        /// The message.
        bytes: Bytes,
    },
    /// The same with a message that is open already.
    GossipMessage {
        /// The mesh.
        mesh: Region,
        /// The peer that passed it on.
        from: NodeId,
        /// To answer by.
        ticket: Ticket,
        /// The message.
        message: Message,
    },
    /// How far away a peer is.
    Distance {
        /// The peer.
        peer: NodeId,
        /// A smoothed round trip.
        rtt: Duration,
    },
    /// Someone on this node wants something done.
    Command {
        /// To find the reply by.
        id: CommandId,
        /// What.
        command: Command,
    },
    /// The disk has run low on room, or has room again.
    Room {
        /// Whether there is too little for anything but the law and erasures.
        full: bool,
    },
    /// How long a commit takes here lately: the best guess at what news cost elsewhere.
    Commits {
        /// The median of the last.
        take: Duration,
    },
}

/// What someone on this node wants done.
#[derive(Clone, Debug)]
pub enum Command {
    /// Write records to a topic, all or none.
    Write {
        /// The topic.
        topic: TopicName,
        /// For which agent.
        author: AgentId,
        /// One record each.
        bodies: Vec<Body>,
        /// When to call it done.
        durability: Durability,
    },
    /// Erase memories: permanent tombstones for them and all their revisions.
    Erase {
        /// The memories' ids.
        ids: Vec<RecordId>,
        /// For which agent.
        author: AgentId,
        /// When to call it done.
        durability: Durability,
    },
    /// Found a topic, or change the policy of a topic founded here.
    Govern {
        /// The topic.
        topic: TopicName,
        /// Its law.
        policy: Policy,
        /// Whether the topic must be new, must exist, or either.
        expect: Expect,
    },
    /// Compare a topic with every peer that is up; agreement shows as [`Event::InSync`].
    Refresh {
        /// The topic.
        topic: TopicName,
    },
    /// Tell the hive what this node is and offers.
    Announce {
        /// Its manifest; the chain in it becomes this node's certificate.
        manifest: Manifest,
    },
}

/// Whether a topic must be there before it is governed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Expect {
    /// It must be new.
    New,
    /// It must be there.
    Known,
}

/// When a write counts as done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Durability {
    /// Durable on this node.
    Local,
    /// Durable on `nodes` nodes, this one included.
    Quorum {
        /// How many.
        nodes: u16,
        /// How long to wait for their receipts.
        patience: Duration,
    },
    /// Durable on `nodes` nodes of the topic's required region, else of this node's top-level region.
    Region {
        /// How many.
        nodes: u16,
        /// How long to wait for their receipts.
        patience: Duration,
    },
    /// Durable on every node that is known to hold the topic.
    Holders {
        /// How long to wait for their receipts.
        patience: Duration,
    },
}

/// How durable a write is when it is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Durable {
    /// Whether what was asked for is reached. If not, the write stays and goes on spreading.
    pub met: bool,
    /// Nodes from which there is a signed receipt, and this one.
    pub holders: Vec<NodeId>,
    /// Nodes that are to hold the topic and have not answered.
    pub missing: Vec<NodeId>,
}

/// The answer to a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The records are durable here, and as far beyond as was asked or as `durable` says.
    Written {
        /// Their ids, in the order of the bodies.
        ids: Vec<RecordId>,
        /// How durable.
        durable: Durable,
    },
    /// The topic stands under its new law.
    Governed {
        /// The topic.
        topic: TopicId,
        /// The version of the founder's policy.
        version: u64,
    },
    /// The comparison is under way with these peers.
    Refreshing {
        /// Peers that were sent a summary.
        peers: Vec<NodeId>,
    },
    /// Nothing was done.
    Refused(Refusal),
}

/// Why a command was refused. Nothing was written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No such topic.
    #[error("there is no topic `{topic}` here")]
    NoTopic {
        /// Its name.
        topic: TopicName,
    },
    /// The topic is there already.
    #[error("there is a topic `{topic}` already")]
    TopicExists {
        /// Its name.
        topic: TopicName,
    },
    /// No such memory.
    #[error("there is no memory {id} here")]
    NoMemory {
        /// Its id.
        id: RecordId,
    },
    /// The law forbids it.
    #[error("{0}")]
    Denied(Denial),
    /// The body cannot be written.
    #[error("{0}")]
    Body(crate::body::OpenBody),
    /// More copies are asked for than the topic may have.
    #[error("{asked} copies were asked for; the policy of `{topic}` allows {allowed}")]
    TooManyCopies {
        /// The topic.
        topic: TopicName,
        /// How many were asked for.
        asked: u16,
        /// How many there may be.
        allowed: u16,
    },
    /// This node's clock is ahead of its peers'.
    #[error("this node's clock is {} s ahead of its peers'; set it right, then write", ahead.as_secs())]
    ClockAhead {
        /// By how much.
        ahead: Duration,
    },
    /// The disk has no room. What is there stays, and can be read and erased.
    #[error("the disk of this node is full: it takes no new records until there is room again")]
    DiskFull,
    /// Too many writes wait for receipts.
    #[error("too many writes wait for receipts; try again soon")]
    Busy,
    /// This node has no certificate yet.
    #[error("this node has no certificate in the hive yet")]
    NotAMember,
}

/// What a replica wants its driver to do.
#[derive(Clone, Debug)]
pub enum Output {
    /// Send a message to a peer that is up.
    Send {
        /// The peer.
        to: NodeId,
        /// What to send.
        message: Message,
    },
    /// Say a message to all of a mesh. To whom it goes is the driver's and the mesh's affair; the law
    /// lets every member of the mesh have it.
    Publish {
        /// The mesh.
        mesh: Region,
        /// What it is about.
        topic: TopicId,
        /// What to say.
        message: Message,
    },
    /// What becomes of a message of a mesh.
    Verdict {
        /// Which.
        ticket: Ticket,
        /// The verdict.
        verdict: Verdict,
    },
    /// Answer a command.
    Reply {
        /// Which.
        to: CommandId,
        /// The answer.
        reply: Reply,
    },
    /// Something worth knowing happened.
    Event(Event),
}

/// Everything worth knowing.
#[derive(Clone, Debug)]
pub enum Event {
    /// A record entered the state: written here, or received and found good.
    Accepted {
        /// The record, with its body if that is kept.
        record: Record,
        /// Who sent it; none if written here.
        from: Option<NodeId>,
    },
    /// A body that had been missing or corrupt is whole again.
    Repaired {
        /// The record, with its body.
        record: Record,
        /// Who sent it.
        from: NodeId,
    },
    /// Bodies are gone for good: erased, or past their retention.
    Erased {
        /// The topic.
        topic: TopicId,
        /// The records without a body now.
        ids: Vec<RecordId>,
    },
    /// Records are out of the state: their log was cut at a fork.
    Cut {
        /// The log.
        key: LogKey,
        /// From this seq on.
        fork: Seq,
        /// The records cut off.
        ids: Vec<RecordId>,
    },
    /// Records are out of the state: a policy that came to be known late leaves no law, past or present,
    /// under which their writer might have written the first of them.
    Outlawed {
        /// The log.
        key: LogKey,
        /// From this seq on.
        from: Seq,
        /// The records that are out.
        ids: Vec<RecordId>,
    },
    /// All of a topic was removed: the law no longer lets this node hold it.
    Withdrawn {
        /// The topic.
        topic: TopicId,
        /// Why.
        denial: Denial,
    },
    /// A record was turned away.
    Rejected {
        /// Who sent it.
        from: NodeId,
        /// The record.
        id: RecordId,
        /// Why.
        why: RejectRecord,
    },
    /// The law denied an operation.
    Denied {
        /// The operation.
        op: Op,
        /// The topic.
        topic: TopicId,
        /// To or for whom.
        subject: NodeId,
        /// Why.
        denial: Denial,
    },
    /// A frame could not be opened.
    BadFrame {
        /// Who sent it.
        from: NodeId,
        /// What is wrong with it.
        why: OpenMessage,
    },
    /// The law changed: topics founded or amended.
    LawChanged {
        /// Whose law.
        topics: Vec<TopicId>,
    },
    /// A member is known, or known better.
    MemberLearnt {
        /// The node.
        node: NodeId,
    },
    /// The logs of a topic equal a peer's.
    InSync {
        /// The topic.
        topic: TopicId,
        /// The peer.
        peer: NodeId,
    },
    /// The disk changed a record; it is fetched again from peers.
    Corrupt {
        /// The log.
        key: LogKey,
        /// What is wrong.
        why: CorruptRecord,
    },
    /// Somebody else writes to our log: this store was copied or restored. A new log is opened.
    OwnLogAhead {
        /// The log.
        key: LogKey,
    },
    /// A peer's clock and ours are far apart.
    ClockSkew {
        /// The peer.
        peer: NodeId,
        /// Positive if ours is ahead, in milliseconds.
        ahead_ms: i64,
    },
}

/// Why a record was turned away.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RejectRecord {
    /// The law forbids it.
    #[error("{0}")]
    Denied(Denial),
    /// Its writer's certificate is not known here yet.
    #[error("the writer's certificate is not known here")]
    UnknownWriter,
    /// Its stamp lies ahead; it is parked until then.
    #[error("its stamp lies ahead, at {until:?}")]
    Future {
        /// When it may be applied.
        until: Time,
    },
    /// Records before it are missing here.
    #[error("records before it are missing")]
    Gap,
    /// Its log is cut before it.
    #[error("its log was forked by its writer")]
    Forked,
    /// Its stamp lies before its predecessor's.
    #[error("its stamp lies before its predecessor's")]
    Backwards,
    /// Its body cannot be read.
    #[error("{0}")]
    Body(crate::body::OpenBody),
    /// There are too many logs in the topic, or too many parked records.
    #[error("a limit is reached")]
    Full,
    /// The disk has no room for it.
    #[error("the disk is full")]
    NoRoom,
    /// It says nothing the law can use.
    #[error("{0}")]
    Law(crate::law::LearnRecord),
}

//! News: what is said to an agent at the edge, and on the topics that it follows.
//!
//! The device shows a bookmark, which this node made: how far each log of each of those topics had come.
//! What lies behind it goes out, as far as the law lets the device have it, with a new bookmark; only when
//! the device shows that one is the old one forgotten, so what is lost on the way is said again. A topic is
//! heard from the moment it is first asked for; an agent's inbox, `inbox/…`, from its beginning.

use super::Memory;
use super::content;
use crate::view::View;
use aquifer_protocol::log::{self, LogKey, LogState, ReadRecord};
use aquifer_protocol::time::Time;
use aquifer_protocol::{
    AgentId, Body, Denial, Kind, Member, Op, Record, Subject, TopicId, TopicName, decide,
};
use aquifer_wasm::uplink::{
    BOOKMARK_BYTES_MAX, ITEMS_BYTES_FILL, ITEMS_MAX, Item, Reply, inbox_of,
};
use minicbor::{Decode, Encode};

/// The most records that are read for one reply.
const READ_MAX: usize = 1_024;

/// How far each log had come, by topic.
#[derive(Clone, Default, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(transparent)]
struct Bookmark(#[n(0)] Vec<Mark>);

#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(array)]
struct Mark {
    /// The beginning of the topic's id.
    #[n(0)]
    topic: u64,
    /// Logs, by a short name, and how many of their records were heard.
    #[n(1)]
    logs: Vec<(u64, u64)>,
}

/// What is gathered for one reply.
#[derive(Default)]
struct Gathered {
    items: Vec<Item>,
    bytes: usize,
    read: usize,
}

impl Gathered {
    fn is_full(&self) -> bool {
        self.items.len() >= ITEMS_MAX || self.bytes >= ITEMS_BYTES_FILL || self.read >= READ_MAX
    }
}

/// What is new to `agent` on `device` since `bookmark`.
pub(super) fn since(
    memory: &Memory,
    device: &Member,
    agent: AgentId,
    follows: &[String],
    bookmark: &[u8],
) -> Reply {
    let Some(old) = Bookmark::open(bookmark) else {
        let why = "the bookmark is none that this node made: begin without one";
        return Reply::Refused("bad_bookmark".to_owned(), why.to_owned());
    };
    let (view, now) = (memory.view(), memory.inner.helm.now());
    let inbox = inbox_of(&agent.0);
    let mut gathered = Gathered::default();
    let mut new = Bookmark::default();
    for (topic, name) in followed(&view, follows, &inbox) {
        if may_hear(&view, device, now, topic).is_err() {
            continue;
        }
        let private = name.as_str() == inbox;
        let heard = old.mark(topic);
        let from = Hearing {
            view: &view,
            agent,
            // What is to one agent alone does not say where it came from.
            topic: if private { "" } else { name.as_str() },
            heard,
            from_start: private || heard.is_some(),
        };
        match from.gather(topic, &mut gathered) {
            Ok(mark) => new.0.push(mark),
            Err(why) => return Reply::Later(format!("a record could not be read: {why}")),
        }
    }
    let bookmark = minicbor::to_vec(&new).expect("a vector takes any encoding");
    if bookmark.len() > BOOKMARK_BYTES_MAX {
        let why = "the topics that it follows are written by too many nodes: follow fewer";
        return Reply::Refused("too_many_logs".to_owned(), why.to_owned());
    }
    Reply::News {
        more: gathered.is_full(),
        items: gathered.items,
        bookmark: bookmark.into(),
    }
}

/// The topics that are followed and known, in one order.
fn followed(view: &View, follows: &[String], inbox: &str) -> Vec<(TopicId, TopicName)> {
    let names: Vec<TopicName> = follows
        .iter()
        .filter_map(|name| name.parse().ok())
        .collect();
    let wanted = |name: &TopicName| {
        let covered = names.iter().any(|above| above.covers(name));
        !name.is_reserved() && (covered || name.as_str() == inbox)
    };
    let topics = view.law.topics().filter(|(_, law)| wanted(&law.name));
    let mut topics: Vec<_> = topics.map(|(id, law)| (id, law.name.clone())).collect();
    topics.sort_by(|a, b| a.1.cmp(&b.1));
    topics
}

/// As for whoever asks: the device must be allowed to have it, and this node to show it.
fn may_hear(view: &View, device: &Member, at: Time, topic: TopicId) -> Result<(), Denial> {
    let label = view.law.label(topic)?;
    let subject = Subject { member: device, at };
    decide(Op::Serve, label, subject, label.epoch)?;
    view.may_read(topic)
}

/// One topic, and how far it was heard.
struct Hearing<'v> {
    view: &'v View,
    agent: AgentId,
    topic: &'v str,
    heard: Option<&'v Mark>,
    from_start: bool,
}

impl Hearing<'_> {
    /// Gathers what is new on it, and says how far it is heard then.
    fn gather(&self, topic: TopicId, into: &mut Gathered) -> Result<Mark, ReadRecord> {
        let mut logs = Vec::new();
        for (key, state) in log::logs_of(&self.view.snapshot, topic)? {
            let name = short(&key);
            let end = state.fork.unwrap_or(state.height).min(state.height);
            let heard = self.heard.and_then(|mark| mark.height(name));
            // A log that was not there before is new from its beginning.
            let from = heard.unwrap_or(if self.from_start { 0 } else { end });
            logs.push((name, self.read(&state, from.min(end), end, into)?));
        }
        Ok(Mark {
            topic: short_topic(topic),
            logs,
        })
    }

    /// Reads a log from one place on. Returns the place up to which it was read.
    fn read(
        &self,
        state: &LogState,
        from: u64,
        end: u64,
        into: &mut Gathered,
    ) -> Result<u64, ReadRecord> {
        for seq in from..end {
            if into.is_full() {
                return Ok(seq);
            }
            into.read += 1;
            let record = log::record_at(&self.view.snapshot, state.number, seq)?;
            if let Some(item) = record.and_then(|record| self.item(&record)) {
                into.bytes += item.body.len() + item.topic.len() + 96;
                into.items.push(item);
            }
        }
        Ok(end)
    }

    /// A record as news, if it is a memory by another that still says something.
    fn item(&self, record: &Record) -> Option<Item> {
        let header = record.header();
        let own = header.author == self.agent;
        if header.kind != Kind::MEMORY || own || self.view.is_buried(header.topic, &record.id()) {
            return None;
        }
        let Ok(Body::Memory(memory)) = Body::open(Kind::MEMORY, &record.body()?) else {
            return None;
        };
        Some(Item {
            id: log::id_key(&record.id()),
            from: header.author.0,
            topic: self.topic.to_owned(),
            stamp: header.stamp.time().millis(),
            body: content::bytes(&memory).into(),
        })
    }
}

impl Bookmark {
    /// One that this node made, or none yet.
    fn open(bytes: &[u8]) -> Option<Self> {
        match bytes {
            [] => Some(Self::default()),
            _ => minicbor::decode(bytes).ok(),
        }
    }

    fn mark(&self, topic: TopicId) -> Option<&Mark> {
        let topic = short_topic(topic);
        self.0.iter().find(|mark| mark.topic == topic)
    }
}

impl Mark {
    fn height(&self, log: u64) -> Option<u64> {
        let found = self.logs.iter().find(|(name, _)| *name == log);
        found.map(|(_, height)| *height)
    }
}

fn short_topic(topic: TopicId) -> u64 {
    let first = topic.as_bytes().first_chunk();
    u64::from_be_bytes(*first.expect("32 bytes hold 8"))
}

/// A log's writer draws its number at random: two that agree in all of it are not met.
fn short(key: &LogKey) -> u64 {
    let writer = key.writer.as_bytes().first_chunk();
    key.log.0 ^ u64::from_be_bytes(*writer.expect("32 bytes hold 8"))
}

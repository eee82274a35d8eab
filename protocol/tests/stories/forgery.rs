//! Forgery: records signed outside any replica, as a liar would, and bytes changed on a disk.

use crate::hive::*;
use aquifer_protocol::body::{Erase, Memory};
use aquifer_protocol::log;
use aquifer_protocol::record::Header;
use aquifer_protocol::{
    AgentId, Batch, Body, Kind, LogId, MemStore, Message, Record, RecordId, Seq, Stamp, Store as _,
    Table, TopicId, TopicName,
};

impl Hive {
    /// A record signed by a member, as a liar would: nothing but its form is right by itself.
    pub(crate) fn signs(&self, i: Index, place: Place<'_>, body: &Body) -> Record {
        let (kind, bytes) = body.to_bytes().expect("within limits");
        let member = &self.nodes[i].member;
        let header = Header {
            version: 1,
            topic: place.topic,
            writer: member.node(),
            log: LogId(place.log),
            seq: place.seq,
            prev: place.after.map_or(RecordId([0; 32]), Record::id),
            stamp: place.stamp.unwrap_or_else(|| Stamp::at(self.now)),
            kind,
            author: AgentId(member.node().0),
            policy_epoch: u64::from(kind == Kind::MEMORY),
            cap_hash: member.cap_hash(),
            body_len: 0,
            body_hash: [0; 32],
        };
        Record::author(&self.nodes[i].keys, header, [7; 16], &bytes).expect("short")
    }

    /// A memory at a place.
    pub(crate) fn signs_text(&self, i: Index, place: Place<'_>, text: &str) -> Record {
        self.signs(i, place, &Body::Memory(Memory::of(text)))
    }

    /// A puppet shows its certificate to all, by a manifest in a log of its own.
    pub(crate) fn introduces(&mut self, puppet: Index, to: Index) {
        let topic = TopicName::hive().id(&self.id());
        let body = Body::Manifest(self.manifest(puppet));
        let record = self.signs(puppet, Place::first(topic, 0), &body);
        self.says(puppet, to, records(topic, vec![record]));
    }
}
/// Where a record is to stand.
#[derive(Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) topic: TopicId,
    pub(crate) log: u64,
    pub(crate) seq: Seq,
    pub(crate) after: Option<&'a Record>,
    pub(crate) stamp: Option<Stamp>,
}

impl<'a> Place<'a> {
    pub(crate) fn first(topic: TopicId, log: u64) -> Self {
        Self {
            topic,
            log,
            seq: 0,
            after: None,
            stamp: None,
        }
    }

    pub(crate) fn after(record: &'a Record) -> Self {
        let header = record.header();
        let (topic, log, seq) = (header.topic, header.log.0, header.seq + 1);
        Self {
            topic,
            log,
            seq,
            after: Some(record),
            stamp: None,
        }
    }

    pub(crate) fn at(self, stamp: Stamp) -> Self {
        Self {
            stamp: Some(stamp),
            ..self
        }
    }
}

pub(crate) fn records(topic: TopicId, run: Vec<Record>) -> Message {
    Message::Records {
        topic,
        runs: vec![run],
    }
}

pub(crate) fn erase(ids: &[RecordId]) -> Body {
    Body::Erase(Erase { ids: ids.to_vec() })
}

/// Changes one byte of a stored record's body.
pub(crate) fn rot(store: &mut MemStore, number: u64, seq: Seq) {
    let place = log::record_key(number, seq).to_vec();
    let mut value = store
        .get(Table::Records, &place)
        .expect("memory")
        .expect("there")
        .to_vec();
    *value.last_mut().expect("not empty") ^= 1;
    let mut batch = Batch::default();
    batch.put(Table::Records, place, value);
    store.apply(batch).expect("memory");
}

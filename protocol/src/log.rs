//! Logs: one chain of records per topic, writer and log id, and where each stands.
//!
//! This file owns the disk layout of records. A log gets a short local number when it is first seen,
//! and its records lie under (number, seq), so that appending is the store's cheapest write. Every
//! record is checked against its id and its body's hash when it is read: disks lie (I18).
//!
//! Not here: whether a record may be appended (`replica::accept`), what it says (`body`).

use crate::identity::{NodeId, digest};
use crate::record::{LogId, NO_RECORD, OpenRecord, Record, RecordId, Seq};
use crate::store::{Staged, Store, StoreFailure, Table};
use crate::time::Stamp;
use crate::topic::TopicId;
use bytes::Bytes;
use core::ops::Bound;
use minicbor::data::Type;
use minicbor::{Decode, Decoder, Encode, Encoder};
use std::collections::BTreeMap;

/// Names a log.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Encode, Decode)]
pub struct LogKey {
    /// The topic.
    #[n(0)]
    pub topic: TopicId,
    /// The node that writes it.
    #[n(1)]
    pub writer: NodeId,
    /// Which of its logs.
    #[n(2)]
    pub log: LogId,
}

/// Where a log stands here.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
pub struct LogState {
    /// Its local number.
    #[n(0)]
    pub number: u64,
    /// How many records it has: the next seq.
    #[n(1)]
    pub height: Seq,
    /// Its last record.
    #[n(2)]
    pub tip: RecordId,
    /// The last record's stamp.
    #[n(3)]
    pub stamp: Stamp,
    /// The lowest seq at which its writer provably signed two records. The log ends there.
    #[n(4)]
    pub fork: Option<Seq>,
    /// Bodies below this seq have been removed by retention.
    #[n(5)]
    pub expired: Seq,
}

/// All logs of this node, in memory; [`Logs::load`] reads them back after a restart.
#[derive(Clone, Debug, Default)]
pub struct Logs {
    states: BTreeMap<LogKey, LogState>,
    /// How many of each topic.
    counts: BTreeMap<TopicId, usize>,
    next_number: u64,
}

/// Of everything that is stored for a record: its id covers neither the signature nor the flag.
fn checksum(id: &RecordId, signed: bool, envelope: &[u8], body: Option<&[u8]>) -> u64 {
    let flags = [u8::from(signed), u8::from(body.is_some())];
    let body = body.unwrap_or_default();
    let sum = digest("aquifer/stored/1", &[&id.0, &flags, envelope, body]);
    u64::from_be_bytes(*sum.first_chunk().expect("32 bytes hold 8"))
}

/// A stored record that cannot be trusted any more: the disk changed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("record {seq} of log {number} is corrupt on disk: {why}")]
pub struct CorruptRecord {
    /// The log's local number.
    pub number: u64,
    /// The record's place.
    pub seq: Seq,
    /// What is wrong with it.
    pub why: OpenRecord,
}

/// Why a record could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadRecord {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreFailure),
    /// The bytes are not what was written.
    #[error(transparent)]
    Corrupt(#[from] CorruptRecord),
}

impl LogKey {
    /// The log a record belongs to.
    pub fn of(record: &Record) -> Self {
        let header = record.header();
        Self {
            topic: header.topic,
            writer: header.writer,
            log: header.log,
        }
    }

    fn to_bytes(self) -> Bytes {
        let mut key = Vec::with_capacity(72);
        key.extend_from_slice(self.topic.as_bytes());
        key.extend_from_slice(self.writer.as_bytes());
        key.extend_from_slice(&self.log.0.to_be_bytes());
        key.into()
    }

    fn from_bytes(key: &[u8]) -> Option<Self> {
        let (topic, rest) = key.split_first_chunk::<32>()?;
        let (writer, rest) = rest.split_first_chunk::<32>()?;
        let log = u64::from_be_bytes(rest.try_into().ok()?);
        Some(Self {
            topic: TopicId(*topic),
            writer: NodeId(*writer),
            log: LogId(log),
        })
    }

    fn first(topic: TopicId) -> Self {
        Self {
            topic,
            writer: NodeId([0; 32]),
            log: LogId(0),
        }
    }

    fn last(topic: TopicId) -> Self {
        Self {
            topic,
            writer: NodeId([255; 32]),
            log: LogId(u64::MAX),
        }
    }
}

impl LogState {
    /// An empty log numbered `number`.
    pub fn empty(number: u64) -> Self {
        Self {
            number,
            height: 0,
            tip: NO_RECORD,
            stamp: Stamp::ZERO,
            fork: None,
            expired: 0,
        }
    }
}

impl Logs {
    /// Reads where every log stands.
    pub fn load(store: &impl Store) -> Result<Self, StoreFailure> {
        let mut logs = Self::default();
        let mut bad = None;
        store.range(Table::Logs, &[], None, &mut |key, value| {
            match (
                LogKey::from_bytes(key),
                minicbor::decode::<LogState>(&value),
            ) {
                (Some(key), Ok(state)) => {
                    logs.next_number = logs.next_number.max(state.number + 1);
                    logs.keep(key, state);
                }
                _ => {
                    bad = Some(StoreFailure {
                        full: false,
                        operation: "read the table of logs",
                        detail: "an entry is malformed".into(),
                    })
                }
            }
            bad.is_none()
        })?;
        bad.map_or(Ok(logs), Err)
    }

    /// Where `key` stands, if it is known.
    pub fn get(&self, key: &LogKey) -> Option<&LogState> {
        self.states.get(key)
    }

    /// Where `key` stands; an unknown log is empty and gets a number.
    pub fn get_or_new(&mut self, key: &LogKey) -> LogState {
        self.states.get(key).copied().unwrap_or_else(|| {
            self.next_number += 1;
            LogState::empty(self.next_number - 1)
        })
    }

    /// The logs of `topic`, in order of writer and log.
    pub fn of_topic(&self, topic: TopicId) -> impl Iterator<Item = (&LogKey, &LogState)> {
        self.states
            .range(LogKey::first(topic)..=LogKey::last(topic))
    }

    /// The first log at or after `key`, in order.
    pub fn next_from(&self, key: Option<&LogKey>) -> Option<(LogKey, LogState)> {
        let found = match key {
            Some(key) => self.states.range(key..).next(),
            None => self.states.iter().next(),
        };
        found.map(|(key, state)| (*key, *state))
    }

    /// The first log after `key`, in order.
    pub fn next_after(&self, key: &LogKey) -> Option<LogKey> {
        let after = (Bound::Excluded(key), Bound::Unbounded);
        self.states
            .range::<LogKey, _>(after)
            .next()
            .map(|(key, _)| *key)
    }

    /// Every log.
    pub fn iter(&self) -> impl Iterator<Item = (&LogKey, &LogState)> {
        self.states.iter()
    }

    /// Remembers where `key` stands, and stages it.
    pub fn set<S: Store>(&mut self, store: &mut Staged<S>, key: LogKey, state: LogState) {
        let mut bytes = Vec::with_capacity(128);
        minicbor::encode(state, &mut bytes).expect("a vector takes any encoding");
        store.put(Table::Logs, key.to_bytes(), bytes);
        self.keep(key, state);
    }

    fn keep(&mut self, key: LogKey, state: LogState) {
        if self.states.insert(key, state).is_none() {
            *self.counts.entry(key.topic).or_default() += 1;
        }
    }

    /// How many logs of `topic` there are.
    pub fn count(&self, topic: TopicId) -> usize {
        self.counts.get(&topic).copied().unwrap_or(0)
    }

    /// Forgets `key`, and stages that.
    pub fn remove<S: Store>(&mut self, store: &mut Staged<S>, key: &LogKey) {
        store.remove(Table::Logs, key.to_bytes());
        if self.states.remove(key).is_some()
            && let Some(count) = self.counts.get_mut(&key.topic)
        {
            *count -= 1;
        }
    }
}

/// The logs of `topic` in a store, in order of writer and log: for those who read beside the replica.
///
/// # Errors
/// If the store fails, or an entry is not what was written.
pub fn logs_of(
    store: &impl Store,
    topic: TopicId,
) -> Result<Vec<(LogKey, LogState)>, StoreFailure> {
    let from = LogKey::first(topic).to_bytes();
    let mut until = LogKey::last(topic).to_bytes().to_vec();
    until.push(0);
    let mut all = Vec::new();
    let mut malformed = false;
    store.range(Table::Logs, &from, Some(&until), &mut |key, value| {
        match (LogKey::from_bytes(key), minicbor::decode(&value)) {
            (Some(key), Ok(state)) => all.push((key, state)),
            _ => malformed = true,
        }
        !malformed
    })?;
    match malformed {
        false => Ok(all),
        true => Err(StoreFailure {
            full: false,
            operation: "read the table of logs",
            detail: "an entry is malformed".into(),
        }),
    }
}

/// The key of a record in [`Table::Records`].
pub fn record_key(number: u64, seq: Seq) -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&number.to_be_bytes());
    key[8..].copy_from_slice(&seq.to_be_bytes());
    key
}

/// The key of a record's id in [`Table::Ids`].
pub fn id_key(id: &RecordId) -> [u8; 16] {
    *id.0.first_chunk().expect("32 bytes hold 16")
}

/// Stages `record` at its place, with its id.
pub fn put_record<S: Store>(store: &mut Staged<S>, number: u64, record: &Record) {
    let place = Bytes::copy_from_slice(&record_key(number, record.header().seq));
    let id = Bytes::copy_from_slice(&id_key(&record.id()));
    let bytes = stored(record).expect("a vector takes any encoding");
    store.put(Table::Records, place.clone(), bytes);
    store.put(Table::Ids, id, place);
}

/// What is stored for a record: `[id, signed, envelope, body?, checksum]`.
fn stored(record: &Record) -> Result<Vec<u8>, minicbor::encode::Error<core::convert::Infallible>> {
    let (id, signed, envelope) = (record.id(), record.is_signed(), record.envelope());
    let body = record.carried().map(|body| &body[..]);
    let room = envelope.len() + body.map_or(0, <[u8]>::len) + 64;
    let mut e = Encoder::new(Vec::with_capacity(room));
    e.array(5)?.bytes(&id.0)?.bool(signed)?.bytes(envelope)?;
    match body {
        Some(body) => e.bytes(body)?,
        None => e.null()?,
    };
    e.u64(checksum(&id, signed, envelope, body))?;
    Ok(e.into_writer())
}

/// Stages the removal of `record` from its place.
pub fn remove_record<S: Store>(store: &mut Staged<S>, number: u64, seq: Seq, id: Option<RecordId>) {
    store.remove(Table::Records, record_key(number, seq).to_vec());
    if let Some(id) = id {
        store.remove(Table::Ids, id_key(&id).to_vec());
    }
}

/// Reads what [`put_record`] wrote, and checks it against its id and its body's hash.
pub fn read_stored(number: u64, seq: Seq, bytes: &Bytes) -> Result<Record, CorruptRecord> {
    let corrupt = |why| CorruptRecord { number, seq, why };
    parse_stored(bytes)
        .ok_or(OpenRecord::Malformed)
        .and_then(|(id, signed, envelope, body)| {
            Record::from_store(&envelope, body.as_ref(), signed, Some(id))
        })
        .map_err(corrupt)
}

/// Takes [`stored`] apart; none if that is not what was written.
fn parse_stored(bytes: &Bytes) -> Option<(RecordId, bool, Bytes, Option<Bytes>)> {
    let mut d = Decoder::new(bytes);
    if d.array().ok()? != Some(5) {
        return None;
    }
    let (id, signed): (RecordId, bool) = (d.decode().ok()?, d.bool().ok()?);
    let envelope = d.bytes().ok()?;
    let body = match d.datatype().ok()? {
        Type::Null => {
            d.null().ok()?;
            None
        }
        _ => Some(d.bytes().ok()?),
    };
    let good = d.u64().ok()? == checksum(&id, signed, envelope, body);
    // Both are parts of `bytes`, so nothing is copied.
    let part = |part| bytes.slice_ref(part);
    good.then(|| (id, signed, part(envelope), body.map(part)))
}

/// The record at `seq` of log `number`, checked.
pub fn record_at(store: &impl Store, number: u64, seq: Seq) -> Result<Option<Record>, ReadRecord> {
    match store.get(Table::Records, &record_key(number, seq))? {
        Some(bytes) => Ok(Some(read_stored(number, seq, &bytes)?)),
        None => Ok(None),
    }
}

/// Where the record called `id` lies: log number and seq.
pub fn place_of(store: &impl Store, id: &RecordId) -> Result<Option<(u64, Seq)>, StoreFailure> {
    Ok(store
        .get(Table::Ids, &id_key(id))?
        .and_then(|place| split_place(&place)))
}

/// Splits a record's key into log number and seq.
pub fn split_place(place: &[u8]) -> Option<(u64, Seq)> {
    let (number, seq) = place.split_first_chunk::<8>()?;
    Some((
        u64::from_be_bytes(*number),
        u64::from_be_bytes(seq.try_into().ok()?),
    ))
}

/// The record called `id`, checked.
pub fn record_by_id(store: &impl Store, id: &RecordId) -> Result<Option<Record>, ReadRecord> {
    let Some((number, seq)) = place_of(store, id)? else {
        return Ok(None);
    };
    Ok(record_at(store, number, seq)?.filter(|record| record.id() == *id))
}

/// The records that revise or link the memory `id`, oldest place first.
pub fn related(store: &impl Store, id: &RecordId) -> Result<Vec<RecordId>, StoreFailure> {
    let mut ids = Vec::new();
    let until = after(id);
    store.range(
        Table::Related,
        id.as_bytes(),
        until.as_deref(),
        &mut |key, _| {
            if let Some(id) = key.get(32..64).and_then(|id| id.try_into().ok()) {
                ids.push(RecordId(id));
            }
            true
        },
    )?;
    Ok(ids)
}

/// The key of a tombstone in [`Table::Tombstones`]. It names the topic, since an erasure has power in
/// its own topic only.
pub fn tombstone_key(topic: TopicId, id: &RecordId) -> Bytes {
    [&topic.0[..], &id.0[..]].concat().into()
}

/// The key under which `of` is related to `id` in [`Table::Related`].
pub fn related_key(id: &RecordId, of: &RecordId) -> Bytes {
    [&id.0[..], &of.0[..]].concat().into()
}

fn after(id: &RecordId) -> Option<Vec<u8>> {
    let mut key = id.0.to_vec();
    while let Some(last) = key.last_mut() {
        if *last < u8::MAX {
            *last += 1;
            return Some(key);
        }
        key.pop();
    }
    None
}

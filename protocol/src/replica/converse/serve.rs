//! Serve: records go to whoever wants them, in messages that fill a frame, a few ahead.
//!
//! What a peer wants is queued, a log and a stretch each, so that any number of short logs share
//! messages and a long one needs no further asking. Up to a measure of messages is on its way before
//! the peer says that it holds the first ([`Message::GoOn`]): a far line is filled, and a slow disk is
//! not buried. A run's last record always carries a signature that this node has checked.

use super::super::Replica;
use crate::identity::NodeId;
use crate::limits::{
    GIVEN_BYTES, RECORDS_AHEAD, RECORDS_BYTES_PER_MESSAGE, RECORDS_PER_MESSAGE_MAX, WANT_PATIENCE,
    WANTS_QUEUED_MAX,
};
use crate::log::{self, LogKey, LogState};
use crate::record::{Record, Seq};
use crate::store::{Store, Table};
use crate::time::Time;
use crate::topic::TopicId;
use crate::wire::{CodedWant, Message, Want};
use std::collections::BTreeMap;

/// What a peer wants and has not been sent.
#[derive(Debug, Default)]
pub(in crate::replica) struct Serving {
    /// Log and first record → the first record not wanted.
    queue: BTreeMap<(LogKey, Seq), Seq>,
    /// Messages on their way that the peer has not confirmed.
    ahead: usize,
    /// When the last of them was sent.
    last: Option<Time>,
}

/// Room in a message of records.
struct Room {
    bytes: usize,
    records: usize,
}

impl Room {
    fn is_full(&self) -> bool {
        self.bytes == 0 || self.records == 0
    }
}

/// A log of which a peer lacks records: where it stands here, and how high it is there.
pub(super) type Lacking = (LogKey, LogState, Seq);

impl<S: Store> Replica<S> {
    pub(super) fn on_wants(&mut self, from: NodeId, topic: TopicId, wants: &[Want]) {
        let named = wants.iter().map(|want| {
            let (writer, log) = (want.writer, want.log);
            (LogKey { topic, writer, log }, want.from, want.until)
        });
        self.queue(from, topic, named.collect());
    }

    pub(super) fn on_coded_wants(
        &mut self,
        from: NodeId,
        topic: TopicId,
        nonce: u64,
        wants: &[CodedWant],
    ) {
        let Some(coded) = self.codings.find(topic, nonce) else {
            return;
        };
        let named = wants
            .iter()
            .filter_map(|want| Some((coded.log(want.short)?, want.from, want.until)));
        let named = named.collect();
        self.queue(from, topic, named);
    }

    fn queue(&mut self, to: NodeId, topic: TopicId, wants: Vec<(LogKey, Seq, Seq)>) {
        let mut proofs = Vec::new();
        let now = self.now;
        for (key, from, until) in wants {
            let Some(state) = self.logs.get(&key).copied() else {
                continue;
            };
            if state.fork.is_some_and(|fork| until > fork) && proofs.len() < RECORDS_PER_MESSAGE_MAX
            {
                proofs.extend(self.proof_of(&key));
            }
            let until = until.min(state.height);
            let Some(peer) = self.peers.get_mut(&to) else {
                return;
            };
            let serving = &mut peer.serving;
            if serving
                .last
                .is_some_and(|at| now.since(at) >= WANT_PATIENCE)
            {
                // What was on its way is lost, or was for a talk that is long over.
                *serving = Serving::default();
            }
            if from < until && serving.queue.len() < WANTS_QUEUED_MAX {
                let slot = serving.queue.entry((key, from)).or_default();
                *slot = until.max(*slot);
            }
        }
        self.serve(to);
        self.tell(to, topic, Vec::new(), proofs);
    }

    /// The peer holds a message of records more.
    pub(super) fn on_go_on(&mut self, from: NodeId) {
        if let Some(peer) = self.peers.get_mut(&from) {
            peer.serving.ahead = peer.serving.ahead.saturating_sub(1);
            self.serve(from);
        }
    }

    /// Sends what is wanted, as far ahead as it may.
    fn serve(&mut self, to: NodeId) {
        let Some(peer) = self.peers.get_mut(&to) else {
            return;
        };
        let mut serving = core::mem::take(&mut peer.serving);
        while serving.ahead < RECORDS_AHEAD
            && let Some(((key, _), _)) = serving.queue.first_key_value()
        {
            let topic = key.topic;
            // The law may have changed since it was asked.
            if self.may_serve(topic, &to).is_err() {
                serving.queue.retain(|(key, _), _| key.topic != topic);
                continue;
            }
            let runs = self.fill(topic, &mut serving.queue);
            if !runs.is_empty() {
                self.send(to, Message::Records { topic, runs });
                if !serving.queue.is_empty() {
                    serving.ahead += 1;
                    serving.last = Some(self.now);
                    self.send(to, Message::MoreWaits);
                }
            }
        }
        if let Some(peer) = self.peers.get_mut(&to) {
            peer.serving = serving;
        }
    }

    /// Takes from the queue what fills a message about `topic`, which is the queue's first.
    fn fill(
        &mut self,
        topic: TopicId,
        queue: &mut BTreeMap<(LogKey, Seq), Seq>,
    ) -> Vec<Vec<Record>> {
        let mut room = Room {
            bytes: RECORDS_BYTES_PER_MESSAGE,
            records: RECORDS_PER_MESSAGE_MAX,
        };
        let mut runs = Vec::new();
        while !room.is_full()
            && let Some(entry) = queue.first_entry()
            && entry.key().0.topic == topic
        {
            let ((key, from), until) = entry.remove_entry();
            let Some(state) = self.logs.get(&key).copied() else {
                continue;
            };
            let until = until.min(state.height);
            let run = self.read_run(key, state, from, until, &mut room);
            let Some(last) = run.last() else { continue };
            let next = last.header().seq + 1;
            // If the message is not full, what is missing could not be read.
            if next < until && room.is_full() {
                queue.insert((key, next), until);
            }
            runs.push(run);
        }
        runs
    }

    /// Reads a stretch of a log, as much of it as there is room for and as can be vouched for.
    fn read_run(
        &mut self,
        key: LogKey,
        state: LogState,
        from: Seq,
        until: Seq,
        room: &mut Room,
    ) -> Vec<Record> {
        let mut run: Vec<Record> = Vec::new();
        for seq in from..until {
            if room.is_full() {
                break;
            }
            let Some(record) = self.read(key, state, seq) else {
                break;
            };
            room.bytes = room.bytes.saturating_sub(record.wire_len());
            room.records -= 1;
            run.push(record);
        }
        // The last record vouches for the run, so its own signature must be good.
        while run
            .last()
            .is_some_and(|last| !last.is_signed() && !last.check_signature())
        {
            run.pop();
        }
        run
    }

    /// Gives a peer records that it has shown to lack, up to a measure. Returns the logs of which it
    /// is to be told instead.
    pub(super) fn give(
        &mut self,
        to: NodeId,
        topic: TopicId,
        lacking: Vec<Lacking>,
    ) -> Vec<Lacking> {
        let mut room = Room {
            bytes: GIVEN_BYTES,
            records: RECORDS_PER_MESSAGE_MAX,
        };
        let (mut runs, mut rest) = (Vec::new(), Vec::new());
        for (key, state, from) in lacking {
            let few = state.height.saturating_sub(from) <= room.records as u64;
            if state.fork.is_none() && from < state.height && few && !room.is_full() {
                let run = self.read_run(key, state, from, state.height, &mut room);
                if run.len() as u64 == state.height - from {
                    runs.push(run);
                    continue;
                }
            }
            rest.push((key, state, from));
        }
        if !runs.is_empty() {
            self.send(to, Message::Records { topic, runs });
        }
        rest
    }

    /// Reads a stored record; one that the disk has changed is reported and fetched anew.
    fn read(&mut self, key: LogKey, state: LogState, seq: Seq) -> Option<Record> {
        let bytes = self
            .store
            .get(Table::Records, &log::record_key(state.number, seq))?;
        match log::read_stored(state.number, seq, &bytes) {
            // A tombstone or a retention that came since the record was stored has removed the body
            // from the store: what is read here is what may be served.
            Ok(record) => Some(record),
            Err(why) => {
                self.note_corrupt(key, seq, why);
                None
            }
        }
    }
}

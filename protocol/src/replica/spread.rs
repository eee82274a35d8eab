//! Spread: what leaves by itself once a beat is durable.
//!
//! Our own new records are pushed, logs that grew by others' records are announced, and their
//! writers get receipts. Everything else peers have to ask for.

use super::Replica;
use crate::identity::NodeId;
use crate::limits::{RECORDS_BYTES_PER_MESSAGE, RECORDS_PER_MESSAGE_MAX};
use crate::log::LogKey;
use crate::record::Record;
use crate::store::Store;
use crate::sync;
use crate::topic::TopicId;
use crate::wire::{Item, Message};
use std::collections::BTreeMap;

impl<S: Store> Replica<S> {
    /// After the commit: pushes what this node wrote, announces what else grew, owes receipts.
    pub(super) fn spread(&mut self) {
        let peers: Vec<NodeId> = self.peers.keys().copied().collect();
        for (topic, records) in core::mem::take(&mut self.beat.fresh) {
            let runs = runs_of(&records);
            for peer in &peers {
                if self.may_serve(topic, peer).is_ok() && self.places(topic, *peer) {
                    for run in &runs {
                        self.send(
                            *peer,
                            Message::Records {
                                topic,
                                runs: vec![run.clone()],
                            },
                        );
                    }
                }
            }
        }
        for (to, message) in self.receipts() {
            self.send(to, message);
        }
        let grown = core::mem::take(&mut self.beat.grown);
        let mut news: BTreeMap<(NodeId, TopicId), Vec<Item>> = Default::default();
        for (key, source) in &grown {
            let Some(state) = self.logs.get(key) else {
                continue;
            };
            let item = sync::item(key, state);
            for peer in peers.iter().filter(|p| *p != source && **p != key.writer) {
                if self.may_serve(key.topic, peer).is_ok() && self.places(key.topic, *peer) {
                    news.entry((*peer, key.topic)).or_default().push(item);
                }
            }
        }
        for ((peer, topic), items) in news {
            self.tell(peer, topic, items, Vec::new());
        }
    }
}

/// Cuts records into stretches of one log that fit a message each.
fn runs_of(records: &[Record]) -> Vec<Vec<Record>> {
    let mut runs: Vec<Vec<Record>> = Vec::new();
    let mut bytes = 0;
    for record in records {
        let follows = runs.last().and_then(|run| run.last()).is_some_and(|last| {
            LogKey::of(last) == LogKey::of(record) && last.id() == record.header().prev
        });
        let full = bytes >= RECORDS_BYTES_PER_MESSAGE
            || runs
                .last()
                .is_some_and(|run| run.len() >= RECORDS_PER_MESSAGE_MAX);
        if !follows || full {
            runs.push(Vec::new());
            bytes = 0;
        }
        bytes += record.wire_len();
        runs.last_mut().expect("just pushed").push(record.clone());
    }
    runs
}

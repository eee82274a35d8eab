//! Owing: receipts that peers asked for, given once what they asked about is durable here.
//!
//! A receipt costs a signature and its check, so it is given to who asks: to a writer that waits for
//! copies, not for every record to every writer. Who asks before the records have come is answered
//! when they have.

use super::Replica;
use crate::identity::NodeId;
use crate::limits::{ITEMS_PER_MESSAGE_MAX, RECEIPTS_OWED_MAX};
use crate::log::LogKey;
use crate::receipt::{Held, Reach, Receipts};
use crate::record::Seq;
use crate::store::Store;
use crate::topic::TopicId;
use crate::wire::Message;
use std::collections::BTreeMap;

/// Who waits for a receipt for which log, up to which height.
#[derive(Debug, Default)]
pub(super) struct Owing(BTreeMap<LogKey, BTreeMap<NodeId, Seq>>);

impl Owing {
    pub(super) fn forget(&mut self, peer: &NodeId) {
        self.0.retain(|_, askers| {
            askers.remove(peer);
            !askers.is_empty()
        });
    }
}

impl<S: Store> Replica<S> {
    pub(super) fn on_want_receipts(&mut self, from: NodeId, topic: TopicId, reaches: &[Reach]) {
        if !self.exchanges(topic, from) {
            return;
        }
        for reach in reaches {
            let key = LogKey {
                topic,
                writer: reach.writer,
                log: reach.log,
            };
            let full = self.owing.0.len() >= RECEIPTS_OWED_MAX;
            if !full || self.owing.0.contains_key(&key) {
                self.owing
                    .0
                    .entry(key)
                    .or_default()
                    .insert(from, reach.height);
            }
        }
    }

    /// Receipts that are due, after the commit that made them true.
    pub(super) fn pay_receipts(&mut self) {
        let mut due: BTreeMap<NodeId, Vec<Held>> = BTreeMap::new();
        let mut owing = core::mem::take(&mut self.owing);
        for (key, askers) in &mut owing.0 {
            let Some(state) = self.logs.get(key).copied() else {
                continue;
            };
            askers.retain(|asker, height| {
                if state.height < *height {
                    return true;
                }
                // The law is asked again: it may have changed since they asked.
                if self.may_serve(key.topic, asker).is_ok() {
                    let (key, height, tip) = (*key, state.height, state.tip);
                    due.entry(*asker)
                        .or_default()
                        .push(Held { key, height, tip });
                }
                false
            });
        }
        owing.0.retain(|_, askers| !askers.is_empty());
        self.owing = owing;
        for (to, held) in due {
            for held in held.chunks(ITEMS_PER_MESSAGE_MAX) {
                let receipts = Receipts::sign(&self.keys, held.to_vec());
                self.send(to, Message::Receipts(receipts));
            }
        }
    }
}

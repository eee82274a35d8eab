//! Fetch: logs that nobody here has heard of, asked for by their short hashes.
//!
//! A log that is known is asked of one peer at a time, by its name. One that is not has no name here
//! until its first record comes, so of a topic's unknown logs one peer at a time is asked; others
//! that have some too are offered a summary once that is over.

use super::super::Replica;
use super::{Peer, Wanted};
use crate::identity::NodeId;
use crate::limits::PROMISES_PER_ROUND;
use crate::log::LogKey;
use crate::record::Seq;
use crate::store::Store;
use crate::sync;
use crate::time::Time;
use crate::topic::TopicId;
use crate::wire::CodedWant;
use std::collections::BTreeMap;

/// Unknown logs of one topic that a peer was asked for.
#[derive(Debug)]
pub(in crate::replica) struct Fetching {
    nonce: u64,
    asked: Time,
    /// Short hash → how high.
    left: BTreeMap<u64, Seq>,
}

impl Fetching {
    fn is_promised(&self, now: Time, peer: &Peer) -> bool {
        !self.left.is_empty() && peer.has_time(self.asked, now)
    }
}

impl<S: Store> Replica<S> {
    /// Asks for logs that are unknown here, unless another peer has promised some of the topic's.
    pub(super) fn fetch(
        &mut self,
        from: NodeId,
        topic: TopicId,
        nonce: u64,
        mut logs: Vec<(u64, Seq)>,
    ) {
        if logs.is_empty() || !self.is_holder(topic) {
            return;
        }
        let now = self.now;
        let promised = |peer: &Peer| {
            let fetching = peer.fetching.get(&topic);
            fetching.is_some_and(|fetching| fetching.is_promised(now, peer))
        };
        let busy = self
            .peers
            .iter()
            .any(|(node, peer)| *node != from && promised(peer));
        let Some(peer) = self.peers.get_mut(&from) else {
            return;
        };
        if busy {
            peer.deferred.insert(topic);
            return;
        }
        logs.truncate(PROMISES_PER_ROUND.saturating_sub(peer.promised));
        peer.promised += logs.len();
        let want = |(short, until): &(u64, Seq)| CodedWant {
            short: *short,
            from: 0,
            until: *until,
        };
        let wants = logs.iter().map(want).collect();
        let left = logs.into_iter().collect();
        let asked = now;
        peer.fetching.insert(topic, Fetching { nonce, asked, left });
        self.ask_coded(from, topic, nonce, wants);
    }

    /// A run of a log that was unknown has come. True if it was asked for so.
    pub(super) fn fetched(&mut self, from: NodeId, key: LogKey) -> bool {
        let Some(peer) = self.peers.get_mut(&from) else {
            return false;
        };
        let Some(fetching) = peer.fetching.get_mut(&key.topic) else {
            return false;
        };
        let short = sync::short_hash(&key, fetching.nonce);
        let Some(until) = fetching.left.remove(&short) else {
            return false;
        };
        if fetching.left.is_empty() {
            peer.fetching.remove(&key.topic);
        }
        let height = self.logs.get(&key).map_or(0, |state| state.height);
        if (1..until).contains(&height) {
            // The rest follows by itself, and has a name now.
            let wanted = Wanted {
                peer: from,
                until,
                asked_until: until,
                asked: self.now,
                back: 0,
            };
            self.wanted.insert(key, wanted);
        }
        true
    }

    /// Whether `peer` has yet to send unknown logs of `topic`.
    pub(super) fn is_fetching(&self, topic: TopicId, peer: &NodeId) -> bool {
        let peer = self.peers.get(peer);
        peer.is_some_and(|peer| peer.fetching.contains_key(&topic))
    }

    /// Offers a summary to those that had to wait with their own.
    pub(super) fn resume_deferred(&mut self, topic: TopicId) {
        let waiting = self
            .peers
            .iter_mut()
            .filter_map(|(node, peer)| peer.deferred.remove(&topic).then_some(*node));
        let waiting: Vec<NodeId> = waiting.collect();
        for peer in waiting {
            self.offer(topic, peer);
        }
    }
}

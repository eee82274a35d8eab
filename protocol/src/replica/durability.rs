//! Durability: who waits for receipts.
//!
//! A write asked for `quorum` or `region` is answered when enough nodes have signed that they hold
//! it, or when its patience ends: then the answer says what is durable and where, and the write
//! stays. Receipts are asked for: at first of as many nodes as are needed and a few more, the nearest
//! first, and after a while of all. A receipt covers a log up to a height, so it also proves that a
//! tombstone is held.

use super::Replica;
use crate::event::{CommandId, Durability, Durable, Output, Reply};
use crate::identity::NodeId;
use crate::limits::{RECEIPT_PATIENCE, RECEIPT_SPARE};
use crate::log::LogKey;
use crate::receipt::{Held, Reach, Receipts};
use crate::record::{RecordId, Seq};
use crate::region::Region;
use crate::store::Store;
use crate::time::Time;
use crate::topic::TopicId;
use crate::wire::Message;
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

/// Commands that wait for receipts.
#[derive(Debug, Default)]
pub(super) struct Awaiting {
    commands: BTreeMap<CommandId, Waiting>,
}

#[derive(Debug)]
struct Waiting {
    ids: Vec<RecordId>,
    /// What must be held: each log up to its height.
    heights: BTreeMap<LogKey, Seq>,
    /// What each node has signed for, of those.
    held: BTreeMap<NodeId, BTreeSet<LogKey>>,
    /// How many nodes are needed; all the expected ones if none is said.
    needed: Option<usize>,
    /// In which region they must be.
    region: Option<Region>,
    expected: BTreeSet<NodeId>,
    until: Time,
    /// Who has been asked on the connection that is up now, and when all are to be asked.
    asked: BTreeSet<NodeId>,
    ask_all: Time,
}

impl Awaiting {
    pub(super) fn len(&self) -> usize {
        self.commands.len()
    }

    /// Topics in which somebody waits.
    pub(super) fn topics(&self) -> BTreeSet<TopicId> {
        let waiting = self.commands.values();
        let logs = waiting.flat_map(|waiting| waiting.heights.keys());
        logs.map(|key| key.topic).collect()
    }

    pub(super) fn next_deadline(&self) -> Option<Time> {
        let asks = self.commands.values().map(|waiting| waiting.ask_all);
        let ends = self.commands.values().map(|waiting| waiting.until);
        asks.chain(ends).min()
    }
}

impl Waiting {
    fn holders(&self) -> impl Iterator<Item = &NodeId> {
        self.held
            .iter()
            .filter(|(_, logs)| logs.len() == self.heights.len())
            .map(|(node, _)| node)
    }
}

impl<S: Store> Replica<S> {
    pub(super) fn wait_for_receipts(
        &mut self,
        id: CommandId,
        ids: Vec<RecordId>,
        heights: BTreeMap<LogKey, Seq>,
        durability: Durability,
    ) {
        let me = self.keys.node();
        let topics: BTreeSet<TopicId> = heights.keys().map(|key| key.topic).collect();
        let mut expected: BTreeSet<NodeId> = topics
            .iter()
            .flat_map(|topic| self.holders(*topic))
            .collect();
        expected.insert(me);
        let (needed, region, patience) = match durability {
            Durability::Local => (Some(1), None, Duration::ZERO),
            Durability::Quorum { nodes, patience } => (Some(nodes.into()), None, patience),
            Durability::Region { nodes, patience } => {
                let required = topics.iter().find_map(|topic| {
                    let label = self.law.label(*topic).ok()?;
                    label.policy.location.required_region.clone()
                });
                let own = self.me.as_ref().map(|me| me.region().top());
                (Some(nodes.into()), required.or(own), patience)
            }
            Durability::Holders { patience } => (None, None, patience),
        };
        let own_logs = heights.keys().copied().collect();
        let held = BTreeMap::from([(me, own_logs)]);
        let until = self.now + patience;
        let waiting = Waiting {
            ids,
            heights,
            held,
            needed,
            region,
            expected,
            until,
            asked: BTreeSet::new(),
            ask_all: self.now + RECEIPT_PATIENCE,
        };
        self.awaiting.commands.insert(id, waiting);
        self.settle(id);
        self.ask_receipts();
    }

    /// Asks peers for the receipts that commands wait for: the nearest first, all once that has not
    /// been enough for a while, and again then, since a request may be lost.
    pub(super) fn ask_receipts(&mut self) {
        let mut asks: BTreeMap<(NodeId, TopicId), BTreeSet<Reach>> = BTreeMap::new();
        let mut commands = core::mem::take(&mut self.awaiting.commands);
        for waiting in commands.values_mut() {
            let all = waiting.needed.is_none() || waiting.ask_all <= self.now;
            if waiting.ask_all <= self.now {
                waiting.ask_all = self.now + RECEIPT_PATIENCE;
                waiting.asked.clear();
            }
            // Who is gone is asked again when it is back.
            waiting.asked.retain(|node| self.peers.contains_key(node));
            let most = match waiting.needed {
                Some(needed) if !all => needed + RECEIPT_SPARE,
                _ => usize::MAX,
            };
            let room = most.saturating_sub(waiting.asked.len());
            for node in self.nearest(waiting).into_iter().take(room) {
                waiting.asked.insert(node);
                for (key, height) in &waiting.heights {
                    let reach = Reach {
                        writer: key.writer,
                        log: key.log,
                        height: *height,
                    };
                    asks.entry((node, key.topic)).or_default().insert(reach);
                }
            }
        }
        self.awaiting.commands = commands;
        for ((to, topic), reaches) in asks {
            if self.may_serve(topic, &to).is_ok() {
                let reaches = reaches.into_iter().collect();
                self.send(to, Message::WantReceipts { topic, reaches });
            }
        }
    }

    /// Peers whose receipts would count and that have not been asked, the nearest first.
    fn nearest(&self, waiting: &Waiting) -> Vec<NodeId> {
        let counts = |node: &NodeId| match &waiting.region {
            None => true,
            Some(region) => self.region_of(node).is_some_and(|at| region.covers(at)),
        };
        let holders: BTreeSet<&NodeId> = waiting.holders().collect();
        let fresh = |node: &&NodeId| !waiting.asked.contains(node) && !holders.contains(node);
        let up = self.peers.iter().filter(|(node, _)| fresh(node));
        let up = up.filter(|(node, _)| waiting.expected.contains(node) && counts(node));
        let far = Duration::MAX;
        let mut up: Vec<(Duration, NodeId)> = up
            .map(|(node, peer)| (peer.rtt.unwrap_or(far), *node))
            .collect();
        up.sort_unstable();
        up.into_iter().map(|(_, node)| node).collect()
    }

    pub(super) fn on_receipts(&mut self, from: NodeId, receipts: &Receipts) {
        // A node vouches for itself; what it passes on of others proves as much, but is not needed.
        if receipts.holder != from {
            return;
        }
        let awaited = |held: &&Held| {
            let mut waiting = self.awaiting.commands.values();
            waiting.any(|waiting| waiting.heights.contains_key(&held.key))
        };
        // A receipt ends with a record. For another history of our log, one that a copy of this
        // store wrote, it proves nothing.
        let ours = |held: &&Held| {
            let state = self.logs.get(&held.key);
            let last = held.height.checked_sub(1);
            let (Some(state), Some(last)) = (state, last) else {
                return false;
            };
            last < state.height && self.id_at(*state, last) == Some(held.tip)
        };
        let good = receipts.held.iter().filter(awaited).filter(ours);
        let held: Vec<Held> = good.copied().collect();
        let waiting: Vec<CommandId> = self.awaiting.commands.keys().copied().collect();
        for id in waiting {
            let Some(waiting) = self.awaiting.commands.get_mut(&id) else {
                continue;
            };
            for held in &held {
                if waiting
                    .heights
                    .get(&held.key)
                    .is_some_and(|height| held.height >= *height)
                {
                    waiting.held.entry(from).or_default().insert(held.key);
                }
            }
            self.settle(id);
        }
    }

    /// Answers commands whose patience is over.
    pub(super) fn on_impatience(&mut self) {
        let over: Vec<CommandId> = self
            .awaiting
            .commands
            .iter()
            .filter(|(_, waiting)| waiting.until <= self.now)
            .map(|(id, _)| *id)
            .collect();
        for id in over {
            self.answer_waiting(id, false);
        }
        if self
            .awaiting
            .commands
            .values()
            .any(|w| w.ask_all <= self.now)
        {
            self.ask_receipts();
        }
    }

    fn settle(&mut self, id: CommandId) {
        let Some(waiting) = self.awaiting.commands.get(&id) else {
            return;
        };
        let counts = |node: &&NodeId| match &waiting.region {
            None => true,
            Some(region) => self.region_of(node).is_some_and(|at| region.covers(at)),
        };
        let met = match waiting.needed {
            Some(needed) => waiting.holders().filter(counts).count() >= needed,
            None => waiting
                .expected
                .iter()
                .all(|node| waiting.holders().any(|n| n == node)),
        };
        if met {
            self.answer_waiting(id, true);
        }
    }

    fn answer_waiting(&mut self, id: CommandId, met: bool) {
        let Some(waiting) = self.awaiting.commands.remove(&id) else {
            return;
        };
        let holders: Vec<NodeId> = waiting.holders().copied().collect();
        let missing = waiting
            .expected
            .iter()
            .filter(|n| !holders.contains(n))
            .copied()
            .collect();
        let reply = Reply::Written {
            ids: waiting.ids,
            durable: Durable {
                met,
                holders,
                missing,
            },
        };
        self.beat.out.push(Output::Reply { to: id, reply });
    }

    fn region_of(&self, node: &NodeId) -> Option<&Region> {
        if let Some(me) = self.me.as_ref().filter(|me| me.node() == *node) {
            return Some(me.region());
        }
        self.law.member(node).map(|known| known.member.region())
    }
}

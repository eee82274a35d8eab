//! The ledger: what the agents were told, and what may have become of it.
//!
//! It is the client's side of the truth. A write that was answered is safe on certain nodes until
//! something takes it from them that the answer did not promise to survive: a lost disk, a law. A
//! write that was never answered is unknown: it may be there or not, and nothing is concluded.
//!
//! Not here: judging (`check`).

use crate::engine::Index;
use aquifer_protocol::{CommandId, RecordId, TopicId};
use std::collections::{BTreeMap, BTreeSet};

/// What was asked of a node.
#[derive(Clone, Debug)]
pub enum Intent {
    /// One record for each of these, in a topic.
    Write {
        /// The topic.
        topic: TopicId,
        /// What each record is.
        items: Vec<Item>,
        /// Of how many nodes it was asked.
        asked: usize,
    },
    /// A law: the change's place in the scenario.
    Govern {
        /// Which.
        change: usize,
    },
    /// Its own manifest.
    Announce,
}

/// What a record that was written is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Item {
    /// A memory with this text.
    Memory {
        /// The text, which nobody else has written.
        canary: String,
    },
    /// A revision of a memory.
    Revision {
        /// The memory.
        of: RecordId,
    },
    /// A link.
    Link,
    /// A tombstone.
    Erase,
}

/// A record that a node said is written.
#[derive(Clone, Debug)]
pub struct Written {
    /// Its topic.
    pub topic: TopicId,
    /// Who wrote it.
    pub node: Index,
    /// What it is.
    pub item: Item,
    /// Where it is durable, by the answer, and nothing has taken it away since.
    pub safe: BTreeSet<Index>,
}

/// Everything the agents know.
#[derive(Debug, Default)]
pub struct Ledger {
    /// What was answered.
    pub written: BTreeMap<RecordId, Written>,
    /// The ids of memories, in the order in which they were answered.
    pub memories: Vec<RecordId>,
    /// Laws that were answered as governing, by place in the scenario.
    pub governed: BTreeSet<usize>,
    /// Nodes whose disk was lost at some time.
    pub disks_lost: BTreeSet<Index>,
    /// Topics that a node removed, as the law told it.
    pub withdrawn: BTreeSet<(Index, TopicId)>,
    /// Records that a node was said to have while it was down, and had not: judged once it is up, for a law
    /// that came in the beat in which it crashed may have taken them away, unheard.
    pub owed: BTreeSet<(Index, TopicId, RecordId)>,
    /// Records that a disk changed, and in which topic.
    pub rotten: BTreeMap<(Index, RecordId), TopicId>,
    /// Texts that were to be written, answered or not, and to which topic.
    pub canaries: BTreeMap<String, TopicId>,
    pending: BTreeMap<CommandId, (Index, Intent)>,
}

impl Ledger {
    /// Something was asked.
    pub fn ask(&mut self, id: CommandId, node: Index, intent: Intent) {
        if let Intent::Write { topic, items, .. } = &intent {
            for item in items {
                if let Item::Memory { canary } = item {
                    self.canaries.insert(canary.clone(), *topic);
                }
            }
        }
        self.pending.insert(id, (node, intent));
    }

    /// It was answered: what had been asked?
    pub fn answered(&mut self, id: CommandId) -> Option<Intent> {
        self.pending.remove(&id).map(|(_, intent)| intent)
    }

    /// A node crashed: what it had not answered is unknown. Returns how much that is.
    pub fn forget_commands(&mut self, node: Index) -> u64 {
        let before = self.pending.len();
        self.pending.retain(|_, (at, _)| *at != node);
        (before - self.pending.len()) as u64
    }

    /// What is not answered at the end is unknown. Returns how much that is.
    pub fn forget_pending(&mut self) -> u64 {
        std::mem::take(&mut self.pending).len() as u64
    }

    /// A node's disk is gone: nothing is safe there any more.
    pub fn lose_disk(&mut self, node: Index) {
        self.disks_lost.insert(node);
        for written in self.written.values_mut() {
            written.safe.remove(&node);
        }
        self.rotten.retain(|(at, _), _| *at != node);
    }

    /// A node removed a topic because the law said so.
    pub fn withdraw(&mut self, node: Index, topic: TopicId) {
        self.withdrawn.insert((node, topic));
        for written in self.written.values_mut().filter(|w| w.topic == topic) {
            written.safe.remove(&node);
        }
        self.rotten
            .retain(|(at, _), of| *at != node || *of != topic);
    }

    /// A node took a record out because no law lets its writer have written it.
    pub fn outlaw(&mut self, node: Index, id: &RecordId) {
        if let Some(written) = self.written.get_mut(id) {
            written.safe.remove(&node);
        }
        self.rotten.remove(&(node, *id));
    }

    /// A node's copy rots; `good` has one that is whole.
    pub fn rot(&mut self, node: Index, id: RecordId, topic: TopicId, good: Index) {
        self.rotten.insert((node, id), topic);
        if let Some(written) = self.written.get_mut(&id)
            && written.safe.remove(&node)
        {
            written.safe.insert(good);
        }
    }

    /// A node's copy is whole again.
    pub fn repaired(&mut self, node: Index, id: RecordId) {
        self.rotten.remove(&(node, id));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_safe_somewhere_stops_being_so_only_by_losing_the_disk_or_by_law() {
        let mut ledger = Ledger::default();
        let (id, topic) = (RecordId([1; 32]), TopicId([2; 32]));
        let item = Item::Memory { canary: "c".into() };
        let safe = BTreeSet::from([0, 1, 2]);
        ledger.written.insert(
            id,
            Written {
                topic,
                node: 0,
                item,
                safe,
            },
        );
        ledger.rot(0, id, topic, 3);
        assert_eq!(ledger.written[&id].safe, BTreeSet::from([1, 2, 3]));
        ledger.lose_disk(1);
        ledger.withdraw(2, TopicId([9; 32]));
        ledger.withdraw(3, topic);
        assert_eq!(ledger.written[&id].safe, BTreeSet::from([2]));
    }

    #[test]
    fn what_a_crashed_node_did_not_answer_is_unknown() {
        let mut ledger = Ledger::default();
        ledger.ask(CommandId(1), 0, Intent::Announce);
        ledger.ask(CommandId(2), 1, Intent::Announce);
        assert_eq!(ledger.forget_commands(0), 1);
        assert!(ledger.answered(CommandId(1)).is_none());
        assert!(ledger.answered(CommandId(2)).is_some());
    }
}

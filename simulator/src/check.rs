//! Checks: what must hold after every beat, once healed, and at the end. One invariant per file.
//!
//! The names I1, I2, … are those of the invariants in the project's test plan. The judges share no
//! code with what they judge, beyond reading records from a disk.
//!
//! Not here: what the agents were told (`ledger`), the oracle of the laws (`scenario::rule`).

mod convergence;
mod durability;
mod equivocation;
mod erasure;
mod once;
mod placement;

use crate::engine::Index;
use crate::world::World;
use aquifer_protocol::limits::FUTURE_MAX;
use aquifer_protocol::{Event, Message, RecordId, Stamp, TopicId, event};
use serde::Serialize;

pub use equivocation::Evidence;
pub use erasure::GRACE as RETENTION_GRACE;

/// What must not be.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, thiserror::Error)]
#[serde(tag = "violation", rename_all = "snake_case")]
pub enum Violation {
    /// A write that was answered is not where it must be.
    #[error("I1: {topic}: {id}, answered as written, is missing at n{node}: {what}")]
    Lost {
        /// Its topic.
        topic: String,
        /// The record.
        id: String,
        /// Where it is missing.
        node: Index,
        /// What exactly.
        what: String,
    },
    /// Holders of a topic do not become equal.
    #[error("I2: {topic}: n{one} and n{other} differ: {what}")]
    Diverged {
        /// The topic.
        topic: String,
        /// One holder.
        one: Index,
        /// Another.
        other: Index,
        /// In what.
        what: String,
    },
    /// A body lies, or is sent, where the law forbids.
    #[error("I3: {topic}: n{node} {what}")]
    Misplaced {
        /// The topic.
        topic: String,
        /// Which node did wrong.
        node: Index,
        /// What it did.
        what: String,
    },
    /// A body that is erased or expired is still there, or there again.
    #[error("I5: {topic}: n{node} has the body of {id}: {what}")]
    Resurrected {
        /// The topic.
        topic: String,
        /// The record.
        id: String,
        /// Where it is.
        node: Index,
        /// Why it must not be.
        what: String,
    },
    /// A forked log is not cut as it must be, or one that is not forked is cut.
    #[error("I8: n{node}: {what}")]
    Cut {
        /// The node.
        node: Index,
        /// What is wrong.
        what: String,
    },
    /// A record from the future was accepted.
    #[error("I9: n{node} accepted {id}, stamped {ahead_ms} ms ahead")]
    Early {
        /// The node.
        node: Index,
        /// The record.
        id: String,
        /// By how much.
        ahead_ms: u64,
    },
    /// A record was applied twice, or redelivery changed something.
    #[error("I10: n{node}: {what}")]
    Twice {
        /// The node.
        node: Index,
        /// What is wrong.
        what: String,
    },
    /// An honest node sent bytes that another could not open.
    #[error("I22: n{node} could not open what n{from} sent: {what}")]
    Garbled {
        /// Who received it.
        node: Index,
        /// Who sent it.
        from: Index,
        /// Why not.
        what: String,
    },
    /// The core panicked, or a replica could not go on.
    #[error("I7: {what}")]
    Panicked {
        /// What it said.
        what: String,
    },
    /// The world does not become well.
    #[error("I16: {what}")]
    Stuck {
        /// What is missing.
        what: String,
    },
}

impl Violation {
    /// True if something that must happen did not; false if something happened that must not.
    pub fn is_liveness(&self) -> bool {
        matches!(self, Self::Diverged { .. } | Self::Stuck { .. })
    }
}

pub(crate) fn after_beat(world: &mut World, node: Index) {
    if world.nodes[node].site.traitor {
        world.nodes[node].disk.take_written();
        return;
    }
    for record in world.nodes[node].written() {
        placement::stored(world, node, &record);
        erasure::stored(world, node, &record);
    }
    placement::on_law(world, node);
}

pub(crate) fn after_start(world: &mut World, node: Index) {
    if !world.nodes[node].site.traitor {
        durability::restarted(world, node);
    }
}

pub(crate) fn on_event(world: &mut World, node: Index, event: &Event) {
    if world.nodes[node].site.traitor {
        return;
    }
    once::on_event(world, node, event);
    equivocation::on_event(world, node, event);
    match event {
        Event::Accepted { record, .. } => {
            let (stamp, local) = (record.header().stamp, world.clock(node));
            if stamp > Stamp::at(local + FUTURE_MAX) {
                let ahead_ms = stamp.time().since(local).as_millis() as u64;
                let id = record.id().to_string();
                world.violate(Violation::Early { node, id, ahead_ms });
            }
        }
        Event::BadFrame { from, why } => {
            let from = world.numbers.get(from).copied().unwrap_or(usize::MAX);
            if world
                .nodes
                .get(from)
                .is_none_or(|sender| !sender.site.traitor)
            {
                world.violate(Violation::Garbled {
                    node,
                    from,
                    what: why.to_string(),
                });
            }
        }
        Event::Withdrawn { topic, denial } => {
            placement::withdrew(world, node, *topic, &denial.to_string());
        }
        _ => {}
    }
}

pub(crate) fn on_send(world: &mut World, node: Index, to: Index, message: &Message) {
    if !world.nodes[node].site.traitor {
        placement::sent(world, node, to, message);
    }
}

pub(crate) fn on_written(
    world: &mut World,
    node: Index,
    topic: TopicId,
    ids: &[RecordId],
    durable: &event::Durable,
    asked: usize,
) {
    if !world.nodes[node].site.traitor {
        durability::answered(world, node, topic, ids, durable, asked);
    }
}

/// What keeps the world from being well: nothing, once it has settled.
pub(crate) fn unsettled(world: &mut World) -> Vec<Violation> {
    convergence::differences(world)
}

/// What must hold at the end.
pub(crate) fn finish(world: &mut World) {
    placement::finish(world);
    erasure::finish(world);
    durability::finish(world);
    equivocation::finish(world);
    once::finish(world);
}

/// A topic's name, for people.
fn called(world: &World, topic: TopicId) -> String {
    world
        .names
        .get(&topic)
        .map_or_else(|| topic.to_string(), ToString::to_string)
}

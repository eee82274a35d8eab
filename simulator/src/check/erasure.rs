//! I5, erased: where a tombstone is, its body is not, and does not come back; and what is past its
//! retention goes.
//!
//! Not here: whether tombstones reach everyone (`convergence`, `durability`: they are records).

use super::{Violation, called, convergence};
use crate::engine::Index;
use crate::ledger::Item;
use crate::world::World;
use aquifer_protocol::{Body, Kind, Record, RecordId, Store, Table, TopicId, log};
use core::time::Duration;
use std::collections::BTreeSet;

/// How long after its retention a body may still be there: the core looks every half minute, and
/// nodes that are equal may still owe each other a beat.
pub const GRACE: Duration = Duration::from_secs(40);

/// What tombstones name.
#[derive(Debug, Default)]
pub(super) struct Gone(BTreeSet<RecordId>);

impl Gone {
    /// Whether the body of `record` must be gone: it is named, or it revises what is named.
    pub(super) fn covers(&self, record: &Record, item: Option<&Item>) -> bool {
        let revises = |of: &RecordId| self.0.contains(of);
        self.0.contains(&record.id())
            || matches!(item, Some(Item::Revision { of }) if revises(of))
            || revised(record).is_some_and(|of| revises(&of))
    }
}

fn revised(record: &Record) -> Option<RecordId> {
    if record.header().kind != Kind::REVISION {
        return None;
    }
    match Body::open(Kind::REVISION, &record.body()?).ok()? {
        Body::Revision(revision) => Some(revision.of),
        _ => None,
    }
}

/// What the tombstones of `topic` name, on any honest holder. A tombstone outlives the record that set
/// it, if that was in a log that is cut.
pub(super) fn erased(world: &World, topic: TopicId) -> Gone {
    let mut gone = Gone::default();
    for node in convergence::holders(world, topic) {
        for record in world.nodes[node].records(topic).into_iter().flatten() {
            if record.header().kind == Kind::ERASE
                && let Some(bytes) = record.body()
                && let Ok(Body::Erase(erase)) = Body::open(Kind::ERASE, &bytes)
            {
                gone.0.extend(erase.ids);
            }
        }
        let (from, mut until) = (topic.0.to_vec(), topic.0.to_vec());
        until.extend([255; 33]);
        let set = &mut gone.0;
        let read =
            world.nodes[node]
                .disk
                .range(Table::Tombstones, &from, Some(&until), &mut |key, _| {
                    set.extend(
                        key.get(32..)
                            .and_then(|id| id.try_into().ok())
                            .map(RecordId),
                    );
                    true
                });
        read.expect("memory can be read");
    }
    gone
}

/// A record was stored: not with a body for which there is a tombstone.
pub(super) fn stored(world: &mut World, node: Index, record: &Record) {
    let header = record.header();
    if record.carried().is_none() || header.kind.is_permanent() {
        return;
    }
    let named = |id: &RecordId| {
        let key = log::tombstone_key(header.topic, id);
        matches!(
            world.nodes[node].disk.get(Table::Tombstones, &key),
            Ok(Some(_))
        )
    };
    if named(&record.id()) || revised(record).is_some_and(|of| named(&of)) {
        back(
            world,
            node,
            record,
            "there is a tombstone for it on the same disk",
        );
    }
}

/// At the end: no honest node has a body that any tombstone names, nor one long past its retention.
pub(super) fn finish(world: &mut World) {
    let topics: Vec<TopicId> = world.names.keys().copied().collect();
    for topic in topics {
        let gone = erased(world, topic);
        for node in world.honest() {
            let retention = retention(world, node, topic);
            let now = world.clock(node);
            for record in world.nodes[node].records(topic).into_iter().flatten() {
                let header = record.header();
                if record.carried().is_none() || header.kind.is_permanent() {
                    continue;
                }
                let age = now.since(header.stamp.time());
                if gone.covers(&record, None) {
                    back(world, node, &record, "a tombstone names it");
                } else if retention.is_some_and(|kept| age > kept + GRACE) {
                    back(world, node, &record, "it is long past its retention");
                }
            }
        }
    }
}

/// How long bodies are kept, by the rules that govern at the end.
fn retention(world: &World, node: Index, topic: TopicId) -> Option<Duration> {
    let law = world.nodes[node].replica.as_ref()?.law();
    let name = world.names.get(&topic)?;
    let lines = core::iter::once(name.clone()).chain(name.ancestors());
    let kept = lines.filter_map(|line| {
        law.named(&line)?
            .own
            .iter()
            .filter_map(|(.., f)| f.policy.location.retention)
            .min()
    });
    kept.min().map(Duration::from_secs)
}

fn back(world: &mut World, node: Index, record: &Record, what: &str) {
    let (topic, id) = (
        called(world, record.header().topic),
        record.id().to_string(),
    );
    world.violate(Violation::Resurrected {
        topic,
        id,
        node,
        what: what.to_owned(),
    });
}

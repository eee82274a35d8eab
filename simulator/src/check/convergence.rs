//! I2, converge: once healed, the holders of a topic have the same logs, cut alike, and the same
//! bodies.
//!
//! Not here: whether they have what was promised (`durability`).

use super::{Violation, called};
use crate::engine::Index;
use crate::world::World;
use aquifer_protocol::{RecordId, TopicId, log};
use core::time::Duration;
use std::collections::BTreeMap;

/// What keeps honest holders from being equal.
pub(super) fn differences(world: &mut World) -> Vec<Violation> {
    let down = world
        .honest()
        .find(|node| world.nodes[*node].replica.is_none());
    if let Some(node) = down {
        return vec![Violation::Stuck {
            what: format!("n{node} is not up"),
        }];
    }
    let topics: Vec<TopicId> = world.names.keys().copied().collect();
    let mut found = Vec::new();
    for topic in &topics {
        found.extend(summaries(world, *topic));
    }
    if found.is_empty() {
        for topic in &topics {
            found.extend(views(world, *topic));
        }
    }
    found
}

/// The honest nodes that are to hold `topic`.
pub(super) fn holders(world: &World, topic: TopicId) -> Vec<Index> {
    let holds = |node: &Index| {
        world.nodes[*node]
            .replica
            .as_ref()
            .is_some_and(|replica| replica.is_holder(topic))
    };
    world.honest().filter(holds).collect()
}

fn summaries(world: &mut World, topic: TopicId) -> Option<Violation> {
    let holders = holders(world, topic);
    let mut first: Option<(Index, ([u8; 16], u32))> = None;
    for other in holders {
        let summary = world.nodes[other].replica.as_mut()?.summary(topic);
        match first {
            None => first = Some((other, summary)),
            Some((one, expected)) if expected != summary => {
                let what = logs(world, topic, one, other);
                return Some(Violation::Diverged {
                    topic: called(world, topic),
                    one,
                    other,
                    what,
                });
            }
            Some(_) => {}
        }
    }
    None
}

/// The first log in which two nodes differ.
fn logs(world: &World, topic: TopicId, one: Index, other: Index) -> String {
    let states = |node: Index| -> BTreeMap<_, _> {
        let replica = world.nodes[node].replica.as_ref();
        let logs = replica.into_iter().flat_map(|r| r.logs().of_topic(topic));
        logs.map(|(key, s)| ((key.writer, key.log), (s.height, s.fork, s.tip)))
            .collect()
    };
    let (a, b) = (states(one), states(other));
    let differ = a
        .keys()
        .chain(b.keys())
        .find(|key| a.get(*key) != b.get(*key));
    differ.map_or_else(String::new, |key| {
        let writer = world.numbers.get(&key.0).copied();
        format!(
            "log {:x} of n{writer:?}: {:?} and {:?}",
            key.1.0,
            a.get(key),
            b.get(key)
        )
    })
}

/// Every record of a topic at a node: whether its body is there, if that may be compared. Or why one
/// cannot be read that another holder has whole.
fn view(world: &World, node: Index, topic: TopicId) -> Result<BTreeMap<RecordId, bool>, String> {
    let mut all = BTreeMap::new();
    for record in world.nodes[node].records(topic) {
        match record {
            Ok(record) if may_be_expired(world, topic, record.header().stamp.time()) => {}
            Ok(record) => {
                all.insert(record.id(), record.carried().is_some());
            }
            Err(why) => {
                let rotten = world.ledger.rotten.keys().filter(|(at, _)| *at == node);
                let mut mendable = rotten.filter(|(_, id)| {
                    holders(world, topic).into_iter().any(|other| {
                        let theirs = log::record_by_id(&world.nodes[other].disk, id);
                        other != node && matches!(theirs, Ok(Some(_)))
                    })
                });
                if mendable.next().is_some() {
                    return Err(why.to_string());
                }
            }
        }
    }
    Ok(all)
}

/// Whether retention may have removed the body of a record of that time, under any law that ever
/// was, by any clock that may be wrong.
pub(super) fn may_be_expired(world: &World, topic: TopicId, stamp: aquifer_protocol::Time) -> bool {
    let Some(name) = world.names.get(&topic) else {
        return false;
    };
    let changes = world
        .scenario
        .changes
        .iter()
        .filter(|change| change.topic.covers(name));
    let shortest = changes.filter_map(|change| change.rule.retention).min();
    let age = world.now().since(stamp) + Duration::from_secs(100);
    shortest.is_some_and(|seconds| age >= Duration::from_secs(seconds))
}

fn views(world: &World, topic: TopicId) -> Option<Violation> {
    let mut first: Option<(Index, BTreeMap<RecordId, bool>)> = None;
    for other in holders(world, topic) {
        let topic_name = || called(world, topic);
        let seen = match view(world, other, topic) {
            Ok(seen) => seen,
            Err(what) => {
                let one = other;
                return Some(Violation::Diverged {
                    topic: topic_name(),
                    one,
                    other,
                    what,
                });
            }
        };
        let Some((one, expected)) = &first else {
            first = Some((other, seen));
            continue;
        };
        let ids = expected.keys().chain(seen.keys());
        let unread = |node: Index, id: &RecordId| world.ledger.rotten.contains_key(&(node, *id));
        let differ = ids
            .into_iter()
            .find(|id| expected.get(id) != seen.get(id) && !unread(*one, id) && !unread(other, id));
        if let Some(id) = differ {
            let (ours, theirs) = (expected.get(id), seen.get(id));
            let what = format!("{id}: body {ours:?} and {theirs:?}");
            return Some(Violation::Diverged {
                topic: topic_name(),
                one: *one,
                other,
                what,
            });
        }
    }
    None
}

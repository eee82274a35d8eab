//! I10, once: a record is applied once, however often it arrives; and what is stored is what the
//! events say, folded naively.
//!
//! Not here: the order of a log (the core chains it).

use super::{Violation, convergence};
use crate::engine::Index;
use crate::world::World;
use aquifer_protocol::{Event, Input, LogKey, Message, Record, RecordId, TopicId};
use core::time::Duration;
use std::collections::BTreeSet;

pub(super) fn on_event(world: &mut World, node: Index, event: &Event) {
    let accepted = &mut world.nodes[node].accepted;
    match event {
        Event::Accepted { record, .. } => {
            let before = accepted.insert(record.id(), record.header().topic);
            if before.is_some() {
                let what = format!("accepted {} twice", record.id());
                world.violate(Violation::Twice { node, what });
            }
        }
        Event::Cut { ids, .. } | Event::Outlawed { ids, .. } => ids.iter().for_each(|id| {
            accepted.remove(id);
        }),
        Event::Withdrawn { topic, .. } => accepted.retain(|_, of| of != topic),
        _ => {}
    }
}

pub(super) fn finish(world: &mut World) {
    for node in world.honest() {
        folded(world, node);
    }
    let topics: Vec<TopicId> = world.names.keys().copied().collect();
    for topic in topics {
        redelivered(world, topic);
    }
}

/// What is stored is what was accepted, less what was cut and removed.
fn folded(world: &mut World, node: Index) {
    let it = &world.nodes[node];
    let Some(replica) = &it.replica else { return };
    let topics: BTreeSet<TopicId> = replica.logs().iter().map(|(key, _)| key.topic).collect();
    let stored: BTreeSet<RecordId> = topics
        .into_iter()
        .flat_map(|topic| {
            it.records(topic)
                .into_iter()
                .flatten()
                .map(|record| record.id())
        })
        .collect();
    // What rotted and nobody could mend is there, and cannot be read.
    let unread =
        |id: &&RecordId| world.ledger.rotten.contains_key(&(node, **id)) && !stored.contains(*id);
    let accepted: BTreeSet<RecordId> = it
        .accepted
        .keys()
        .filter(|id| !unread(id))
        .copied()
        .collect();
    if stored != accepted {
        let more = stored.difference(&accepted).next();
        let less = accepted.difference(&stored).next();
        let what =
            format!("stored and never accepted: {more:?}; accepted and not stored: {less:?}");
        world.violate(Violation::Twice { node, what });
    }
}

/// Everything one holder has is delivered to another once more: its disk does not change.
fn redelivered(world: &mut World, topic: TopicId) {
    let holders = convergence::holders(world, topic);
    let [one, other, ..] = holders[..] else {
        return;
    };
    let kept = |world: &World| {
        let records = world.nodes[other].records(topic).into_iter().flatten();
        let kept = records.map(|record| (record.id(), record.carried().is_some()));
        kept.collect::<Vec<_>>()
    };
    let mended = |world: &World| {
        ["erased", "repaired", "withdrawn"].map(|name| world.report.events.get(name).copied())
    };
    // Only what the other has already: what is new to it may rightly change it.
    let (before, seen) = (kept(world), mended(world));
    let had: BTreeSet<RecordId> = before.iter().map(|(id, _)| *id).collect();
    let mut runs: Vec<Vec<Record>> = Vec::new();
    let theirs = world.nodes[one].records(topic).into_iter().flatten();
    for record in theirs.filter(|record| had.contains(&record.id())) {
        match runs.last_mut() {
            Some(run)
                if run
                    .last()
                    .is_some_and(|l| LogKey::of(l) == LogKey::of(&record)) =>
            {
                run.push(record);
            }
            _ => runs.push(vec![record]),
        }
    }
    let from = world.nodes[one].keys.node();
    world.input(
        other,
        Input::Message {
            from,
            message: Message::Records { topic, runs },
        },
    );
    world.run_for(Duration::from_millis(100));
    // Retention, a repair or a law may come just now, and rightly changes the disk.
    let mut after = kept(world);
    after.retain(|(id, _)| had.contains(id));
    if after != before && mended(world) == seen {
        let what = format!("its records changed when n{one} delivered {topic} once more");
        world.violate(Violation::Twice { node: other, what });
    }
}

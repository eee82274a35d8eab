//! I8, equivocation: a log of which two histories were seen is cut, everywhere at the same place;
//! and no honest writer's log is ever cut, but where a law forbids what it wrote.
//!
//! Not here: that cuts agree at the end (`convergence`: a cut is part of where a log stands).

use super::{Violation, convergence};
use crate::engine::Index;
use crate::world::World;
use aquifer_protocol::{Event, LogKey, RecordId, Seq, TopicId};
use std::collections::BTreeMap;

/// What honest nodes have seen of every log.
#[derive(Debug, Default)]
pub struct Evidence {
    seen: BTreeMap<(LogKey, Seq), RecordId>,
    forked: BTreeMap<LogKey, Seq>,
}

pub(super) fn on_event(world: &mut World, node: Index, event: &Event) {
    match event {
        Event::Accepted { record, .. } => {
            let (key, seq) = (LogKey::of(record), record.header().seq);
            let first = *world
                .evidence
                .seen
                .entry((key, seq))
                .or_insert_with(|| record.id());
            if first != record.id() {
                let lowest = world.evidence.forked.entry(key).or_insert(seq);
                *lowest = seq.min(*lowest);
            }
        }
        Event::Cut { key, fork, .. } => {
            let writer = world.numbers.get(&key.writer).copied();
            let honest = writer.is_some_and(|writer| !world.nodes[writer].site.traitor);
            if honest {
                let what = format!(
                    "cut log {:x} of n{writer:?}, who is honest, at {fork}",
                    key.log.0
                );
                world.violate(Violation::Cut { node, what });
            }
        }
        Event::Outlawed { key, from, .. } => {
            let writer = world.numbers.get(&key.writer).copied();
            if !writer.is_some_and(|writer| is_forbidden(world, key.topic, writer)) {
                let what = format!(
                    "no law forbids what n{writer:?} wrote to log {:x} from {from} on",
                    key.log.0
                );
                world.violate(Violation::Cut { node, what });
            }
        }
        _ => {}
    }
}

/// Whether some law that was given to a topic, or to one above it, keeps a node from writing there.
fn is_forbidden(world: &World, topic: TopicId, writer: Index) -> bool {
    let region = world.nodes[writer].site.region.as_str();
    let given = (0..).zip(&world.scenario.changes);
    let mut given = given.filter(|(number, _)| world.ledger.governed.contains(number));
    let name = world.names.get(&topic);
    given.any(|(_, change)| {
        let governs = name.is_some_and(|name| change.topic.covers(name));
        governs && !change.rule.permits_writing(region)
    })
}

pub(super) fn finish(world: &mut World) {
    // A node that lost its disk took along what it alone had seen.
    if !world.ledger.disks_lost.is_empty() || !world.ledger.withdrawn.is_empty() {
        return;
    }
    let forked: Vec<(LogKey, Seq)> = world
        .evidence
        .forked
        .iter()
        .map(|(k, s)| (*k, *s))
        .collect();
    for (key, seq) in forked {
        for node in convergence::holders(world, key.topic) {
            let replica = world.nodes[node].replica.as_ref();
            let cut = replica
                .and_then(|r| r.logs().get(&key))
                .and_then(|state| state.fork);
            if cut.is_none_or(|cut| cut > seq) {
                let what = format!(
                    "log {:x} has two histories from {seq}; cut: {cut:?}",
                    key.log.0
                );
                world.violate(Violation::Cut { node, what });
            }
        }
    }
}

//! I1, durable: a write that was answered survives what its answer said it would.
//!
//! The answer names nodes. Until a node loses its disk or the law takes the topic from it, the record
//! is there, through every crash; and as long as it is safe anywhere, all holders have it at the end.
//! A write that was not answered is unknown, and never assumed absent.
//!
//! Not here: which nodes still vouch for a write (`ledger`).

use super::{Violation, called, convergence, erasure};
use crate::engine::Index;
use crate::world::World;
use aquifer_protocol::{RecordId, Replica, TopicId, event, log};

/// A write was answered: is it durable where the answer says?
pub(super) fn answered(
    world: &mut World,
    node: Index,
    topic: TopicId,
    ids: &[RecordId],
    durable: &event::Durable,
    asked: usize,
) {
    if durable.met && durable.holders.len() < asked {
        let what = format!(
            "it is met with {} holders of {asked}",
            durable.holders.len()
        );
        lost(world, topic, ids.first(), node, what);
    }
    let mut holders: Vec<Index> = durable
        .holders
        .iter()
        .filter_map(|id| world.numbers.get(id).copied())
        .collect();
    holders.push(node);
    for holder in holders {
        let excused = world.ledger.disks_lost.contains(&holder)
            || world.ledger.withdrawn.contains(&(holder, topic))
            || world.nodes[holder].site.traitor;
        let missing = ids.iter().find(|id| !world.nodes[holder].has(id));
        let owes = missing.filter(|_| !excused && world.nodes[holder].replica.is_none());
        if let Some(id) = owes {
            world.ledger.owed.insert((holder, topic, *id));
        } else if !excused && missing.is_some() {
            let what = format!("n{node} was told that it is durable there, and it is not");
            lost(world, topic, missing, holder, what);
        }
    }
}

/// A node came up again: has it what it had promised?
pub(super) fn restarted(world: &mut World, node: Index) {
    // A law that came in the beat in which it crashed may have taken a topic away, unheard.
    let topics: Vec<TopicId> = world.names.keys().copied().collect();
    for topic in topics {
        let replica = world.nodes[node].replica.as_ref();
        let forbids = |replica: &Replica<_>| {
            // A law of which a part cannot be read forbids everything, and takes nothing away.
            let law = replica.law();
            law.is_whole() && law.topic(topic).is_some() && replica.may_hold(topic).is_err()
        };
        if replica.is_some_and(forbids) {
            world.ledger.withdraw(node, topic);
        }
    }
    let promised = world
        .ledger
        .written
        .iter()
        .filter(|(_, w)| w.safe.contains(&node))
        .map(|(id, w)| (*id, w.topic));
    let owed = world.ledger.owed.iter().filter(|(by, ..)| *by == node);
    let owed = owed.map(|(_, topic, id)| (*id, *topic));
    let replica = world.nodes[node].replica.as_ref();
    let holds = |topic: &TopicId| replica.is_some_and(|r| r.may_hold(*topic).is_ok());
    let missing = promised.chain(owed).find(|(id, topic)| {
        holds(topic)
            && !world.nodes[node].has(id)
            && !world.ledger.rotten.contains_key(&(node, *id))
    });
    world.ledger.owed.retain(|(by, ..)| *by != node);
    if let Some((id, topic)) = missing {
        lost(
            world,
            topic,
            Some(&id),
            node,
            "it was there before the restart".into(),
        );
    }
}

/// At the end, all holders have every write that is safe anywhere, with its body unless that is
/// erased or expired.
pub(super) fn finish(world: &mut World) {
    let mut found = Vec::new();
    let topics: Vec<TopicId> = world.names.keys().copied().collect();
    for topic in topics {
        let gone = erasure::erased(world, topic);
        let holders = convergence::holders(world, topic);
        for (id, written) in world
            .ledger
            .written
            .iter()
            .filter(|(_, w)| w.topic == topic)
        {
            if written.safe.is_empty() {
                continue;
            }
            for node in &holders {
                let what = match log::record_by_id(&world.nodes[*node].disk, id) {
                    Ok(Some(record)) => {
                        let excused = record.carried().is_some()
                            || gone.covers(&record, Some(&written.item))
                            || convergence::may_be_expired(
                                world,
                                topic,
                                record.header().stamp.time(),
                            );
                        (!excused).then(|| "its body is gone".to_owned())
                    }
                    // Once found rotten, a record may be taken out until a peer has given it back.
                    Ok(None) if world.ledger.rotten.contains_key(&(*node, *id)) => None,
                    Ok(None) => Some(format!("safe at {:?}", written.safe)),
                    Err(_) if world.ledger.rotten.contains_key(&(*node, *id)) => None,
                    Err(why) => Some(why.to_string()),
                };
                found.extend(what.map(|what| (topic, *id, *node, what)));
            }
        }
    }
    for (topic, id, node, what) in found {
        lost(world, topic, Some(&id), node, what);
    }
}

fn lost(world: &mut World, topic: TopicId, id: Option<&RecordId>, node: Index, what: String) {
    let id = id.map_or_else(String::new, ToString::to_string);
    world.violate(Violation::Lost {
        topic: called(world, topic),
        id,
        node,
        what,
    });
}

//! I3, resident: no body lies on a disk, nor leaves for a node, where the law forbids it.
//!
//! A node is judged by the rules that it knows of: the oracle reads which of the scenario's rules a
//! node has heard of, and decides by the rule's own words and those of every topic above. A node that
//! knows no rule for a topic may have nothing of it.
//!
//! Not here: the oracle itself (`scenario::rule`).

use super::{Violation, called};
use crate::engine::Index;
use crate::scenario::rule::Rule;
use crate::world::World;
use aquifer_protocol::{Message, Record, TopicId};

/// The rules for `topic` of which `knower` has heard, its own and those of the topics above.
fn known(world: &World, knower: Index, topic: TopicId) -> Option<Vec<&Rule>> {
    let law = world.nodes[knower].replica.as_ref()?.law();
    law.topic(topic)?;
    let name = world.names.get(&topic)?;
    let lines = core::iter::once(name.clone()).chain(name.ancestors());
    let policies = lines.filter_map(|line| law.named(&line)?.own.last());
    let rules = policies.filter_map(|(.., founding)| {
        let tag = Rule::tag_of(&founding.policy)?;
        world
            .scenario
            .changes
            .get(tag as usize)
            .map(|change| &change.rule)
    });
    Some(rules.collect())
}

/// Whether `node` may have bodies of `topic`, by what `knower` knows.
fn permits(world: &World, knower: Index, topic: TopicId, node: Index) -> bool {
    if world
        .names
        .get(&topic)
        .is_some_and(|name| name.is_reserved())
    {
        return true;
    }
    let region = world.nodes[node].site.region.as_str();
    known(world, knower, topic).is_some_and(|rules| rules.iter().all(|r| r.permits(node, region)))
}

/// A record was stored.
pub(super) fn stored(world: &mut World, node: Index, record: &Record) {
    let topic = record.header().topic;
    // Stored in the beat before a crash, under a law of which a part cannot be read since.
    let whole = world.nodes[node]
        .replica
        .as_ref()
        .is_none_or(|replica| replica.law().is_whole());
    if whole && record.carried().is_some() && !permits(world, node, topic, node) {
        let what = format!("stored {}, which the law it knows forbids", record.id());
        world.violate(Violation::Misplaced {
            topic: called(world, topic),
            node,
            what,
        });
    }
}

/// The law that a node knows may have changed: is anything left of what it now forbids?
pub(super) fn on_law(world: &mut World, node: Index) {
    let it = &world.nodes[node];
    let Some(law) = it.replica.as_ref().map(|replica| replica.law()) else {
        return;
    };
    // In doubt a node closes its topics and removes nothing: it is judged once its law is mended.
    if !law.is_whole() {
        return;
    }
    let revision = law.revision() + 1;
    if it.judged == revision {
        return;
    }
    world.nodes[node].judged = revision;
    let topics: Vec<TopicId> = world.names.keys().copied().collect();
    for topic in topics {
        if permits(world, node, topic, node) {
            continue;
        }
        let left = world.nodes[node].records(topic);
        let bodies = left
            .iter()
            .flatten()
            .filter(|record| record.carried().is_some())
            .count();
        if bodies > 0 {
            let what = format!("learnt a law that forbids the topic and keeps {bodies} bodies");
            world.violate(Violation::Misplaced {
                topic: called(world, topic),
                node,
                what,
            });
        }
    }
}

/// A message leaves.
pub(super) fn sent(world: &mut World, node: Index, to: Index, message: &Message) {
    let Message::Records { topic, runs } = message else {
        return;
    };
    let bodies = runs
        .iter()
        .flatten()
        .any(|record| record.carried().is_some());
    if bodies && !permits(world, node, *topic, to) {
        let what = format!("sent bodies to n{to}, which the law it knows forbids");
        world.violate(Violation::Misplaced {
            topic: called(world, *topic),
            node,
            what,
        });
    }
}

/// A node removed a topic: was there ever a law that told it to?
pub(super) fn withdrew(world: &mut World, node: Index, topic: TopicId, why: &str) {
    let Some(name) = world.names.get(&topic) else {
        return;
    };
    let region = world.nodes[node].site.region.as_str();
    let rules = || {
        let changes = world.scenario.changes.iter();
        changes
            .filter(|change| change.topic.covers(name))
            .map(|change| &change.rule)
    };
    let forbidden = rules().any(|rule| !rule.permits(node, region));
    // Two required regions on one line leave no place at all.
    let mut required: Vec<&String> = rules().filter_map(|rule| rule.required.as_ref()).collect();
    required.dedup();
    if !forbidden && required.len() < 2 {
        let what = format!("removed the topic, which no law asked of it: {why}");
        world.violate(Violation::Misplaced {
            topic: called(world, topic),
            node,
            what,
        });
    }
}

/// At the end, every byte of every honest disk is searched for canaries of topics that may not be
/// there. That canaries are found where they may be is counted: the positive control.
pub(super) fn finish(world: &mut World) {
    for node in world.honest() {
        for canary in world.nodes[node].disk.canaries() {
            let Some(topic) = world.ledger.canaries.get(&canary).copied() else {
                continue;
            };
            if permits(world, node, topic, node) {
                world.report.saw("canary_found");
            } else {
                let what = format!("has {canary} on its disk");
                world.violate(Violation::Misplaced {
                    topic: called(world, topic),
                    node,
                    what,
                });
            }
        }
    }
}

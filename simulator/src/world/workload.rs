//! Workload: what agents ask of nodes, and the laws that founders make.
//!
//! Not here: what they were told (`ledger`).

use super::World;
use crate::engine::{Happening, Index};
use crate::ledger::{Intent, Item};
use aquifer_protocol::body::{Link, Memory, Revision};
use aquifer_protocol::{
    AgentId, Body, Command, CommandId, Durability, Expect, Input, RecordId, TopicId, TopicName,
};
use core::time::Duration;

impl World {
    /// Someone wants something of a node.
    pub(super) fn operate(&mut self) {
        let node = self.agents.index(self.nodes.len());
        let (what, durability) = (self.agents.below(100), self.draw_durability());
        let topics: Vec<TopicName> = self
            .scenario
            .changes
            .iter()
            .filter(|c| c.founds)
            .map(|c| c.topic.clone())
            .collect();
        if topics.is_empty() || self.nodes[node].replica.is_none() {
            return;
        }
        let topic = self.agents.pick(&topics).clone();
        let id = topic.id(&self.hive);
        let there = self
            .ledger
            .memories
            .iter()
            .filter(|m| self.ledger.written[*m].topic == id);
        let there: Vec<RecordId> = there.copied().collect();
        let target = (!there.is_empty()).then(|| *self.agents.pick(&there));
        match (what, target) {
            (0..15, Some(of)) => self.revise(node, &topic, of, durability),
            (15..22, Some(from)) => {
                let to = *self.agents.pick(&there);
                let body = Body::Link(Link {
                    from,
                    to,
                    relation: "about".into(),
                });
                self.write_bodies(node, &topic, vec![(body, Item::Link)], durability);
            }
            (22..37, Some(id)) => self.erase(node, id, durability),
            (37..50, _) => {
                let count = self.agents.between(2, 6);
                let bodies = (0..count).map(|_| self.draw_memory()).collect();
                self.write_bodies(node, &topic, bodies, durability);
            }
            _ => {
                let body = self.draw_memory();
                self.write_bodies(node, &topic, vec![body], durability);
            }
        };
    }

    fn draw_durability(&mut self) -> Durability {
        let patience = self.agents.millis(500, 15_000);
        let nodes = self.agents.between(2, 3) as u16;
        match self.agents.below(10) {
            0..=5 => Durability::Local,
            6 | 7 => Durability::Quorum { nodes, patience },
            8 => Durability::Region { nodes, patience },
            _ => Durability::Holders { patience },
        }
    }

    fn draw_memory(&mut self) -> (Body, Item) {
        let bits = (self.agents.bits(), self.agents.bits());
        let canary = format!("canary-{:016x}{:016x}", bits.0, bits.1);
        (
            Body::Memory(Memory::of(canary.clone())),
            Item::Memory { canary },
        )
    }

    /// An agent of `node` remembers `text`.
    ///
    /// # Panics
    /// If the topic's name is not one.
    pub fn remember(
        &mut self,
        node: Index,
        topic: &str,
        text: &str,
        durability: Durability,
    ) -> CommandId {
        let topic = topic.parse().expect("a topic's name");
        let item = Item::Memory {
            canary: text.to_owned(),
        };
        self.write_bodies(
            node,
            &topic,
            vec![(Body::Memory(Memory::of(text)), item)],
            durability,
        )
    }

    fn revise(&mut self, node: Index, topic: &TopicName, of: RecordId, durability: Durability) {
        let (body, _) = self.draw_memory();
        let Body::Memory(memory) = body else { return };
        let body = Body::Revision(Revision {
            of,
            replaces: vec![of],
            memory,
        });
        self.write_bodies(node, topic, vec![(body, Item::Revision { of })], durability);
    }

    /// An agent of `node` erases the memory `id`.
    pub fn erase(&mut self, node: Index, id: RecordId, durability: Durability) {
        let Some(topic) = self.ledger.written.get(&id).map(|written| written.topic) else {
            return;
        };
        let author = self.draw_author();
        let asked = asked(durability);
        let command = Command::Erase {
            ids: vec![id],
            author,
            durability,
        };
        self.command(
            node,
            command,
            Intent::Write {
                topic,
                items: vec![Item::Erase],
                asked,
            },
        );
    }

    fn write_bodies(
        &mut self,
        node: Index,
        topic: &TopicName,
        bodies: Vec<(Body, Item)>,
        durability: Durability,
    ) -> CommandId {
        let author = self.draw_author();
        let id: TopicId = topic.id(&self.hive);
        let (bodies, items) = bodies.into_iter().unzip();
        let command = Command::Write {
            topic: topic.clone(),
            author,
            bodies,
            durability,
        };
        self.command(
            node,
            command,
            Intent::Write {
                topic: id,
                items,
                asked: asked(durability),
            },
        )
    }

    fn draw_author(&mut self) -> AgentId {
        AgentId(self.agents.bytes32())
    }

    fn command(&mut self, node: Index, command: Command, intent: Intent) -> CommandId {
        let id = self.command_id();
        if self.nodes[node].replica.is_some() {
            self.ledger.ask(id, node, intent);
            self.line(|| format!("n{node} #{} {}", id.0, said(&command)));
            self.input(node, Input::Command { id, command });
        }
        id
    }

    /// A founder founds a topic or changes its law. A founder that is down tries again later.
    pub(super) fn govern(&mut self, change: usize) {
        let planned = self.scenario.changes[change].clone();
        let founder = planned.founder;
        if self.nodes[founder].replica.is_none() {
            let again = Duration::from_secs(3);
            return self.engine.plan_in(again, Happening::Govern { change });
        }
        let ids: Vec<_> = self.nodes.iter().map(|node| node.keys.node()).collect();
        let policy = planned.rule.policy(&ids);
        let expect = if planned.founds {
            Expect::New
        } else {
            Expect::Known
        };
        let command = Command::Govern {
            topic: planned.topic,
            policy,
            expect,
        };
        self.command(founder, command, Intent::Govern { change });
    }
}

fn asked(durability: Durability) -> usize {
    match durability {
        Durability::Quorum { nodes, .. } | Durability::Region { nodes, .. } => nodes.into(),
        Durability::Local | Durability::Holders { .. } => 1,
    }
}

fn said(command: &Command) -> String {
    match command {
        Command::Write {
            topic,
            bodies,
            durability,
            ..
        } => {
            format!("write {} to {topic}, {durability:?}", bodies.len())
        }
        Command::Erase {
            ids, durability, ..
        } => format!("erase {ids:?}, {durability:?}"),
        Command::Govern {
            topic,
            policy,
            expect,
        } => {
            format!("govern {topic} ({expect:?}): {policy:?}")
        }
        Command::Refresh { topic } => format!("refresh {topic}"),
        Command::Announce { .. } => "announce".to_owned(),
    }
}

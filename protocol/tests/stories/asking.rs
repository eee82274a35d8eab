//! Asking a hive's nodes for things, and looking at what they hold.

use crate::hive::*;
use aquifer_protocol::body::{Memory, Revision};
use aquifer_protocol::log::{self, LogKey, LogState};
use aquifer_protocol::{
    AgentId, Body, Command, CommandId, Durability, Event, Expect, Input, MemStore, Policy, Record,
    RecordId, Replica, Reply,
};
use std::collections::BTreeSet;

/// Asking.
impl Hive {
    pub(crate) fn commands(&mut self, i: Index, command: Command) -> CommandId {
        self.commands += 1;
        let id = CommandId(self.commands);
        self.beats(i, vec![Input::Command { id, command }]);
        self.settles();
        id
    }

    pub(crate) fn reply(&self, i: Index, id: CommandId) -> Option<&Reply> {
        self.nodes[i].replies.get(&id)
    }

    fn answered(&mut self, i: Index, command: Command) -> Reply {
        let id = self.commands(i, command);
        self.reply(i, id).expect("it is answered at once").clone()
    }

    pub(crate) fn founds(&mut self, i: Index, topic: &str, policy: Policy) {
        self.governs(i, topic, policy, Expect::New);
    }

    pub(crate) fn amends(&mut self, i: Index, topic: &str, policy: Policy) {
        self.governs(i, topic, policy, Expect::Known);
    }

    fn governs(&mut self, i: Index, topic: &str, policy: Policy, expect: Expect) {
        let command = Command::Govern {
            topic: name(topic),
            policy,
            expect,
        };
        let reply = self.answered(i, command);
        assert!(matches!(reply, Reply::Governed { .. }), "{reply:?}");
    }

    pub(crate) fn tries(&mut self, i: Index, topic: &str, bodies: Vec<Body>) -> Reply {
        let command = self.write(i, topic, bodies, Durability::Local);
        self.answered(i, command)
    }

    pub(crate) fn write(
        &self,
        i: Index,
        topic: &str,
        bodies: Vec<Body>,
        durability: Durability,
    ) -> Command {
        let author = AgentId(self.nodes[i].keys.public());
        Command::Write {
            topic: name(topic),
            author,
            bodies,
            durability,
        }
    }

    /// Writes and returns the records' ids.
    pub(crate) fn writes(&mut self, i: Index, topic: &str, bodies: Vec<Body>) -> Vec<RecordId> {
        match self.tries(i, topic, bodies) {
            Reply::Written { ids, .. } => ids,
            other => panic!("it was not written: {other:?}"),
        }
    }

    pub(crate) fn remembers(&mut self, i: Index, topic: &str, text: &str) -> RecordId {
        self.writes(i, topic, vec![Body::Memory(Memory::of(text))])[0]
    }

    pub(crate) fn revises(&mut self, i: Index, topic: &str, of: RecordId, text: &str) -> RecordId {
        let revision = Revision {
            of,
            replaces: vec![of],
            memory: Memory::of(text),
        };
        self.writes(i, topic, vec![Body::Revision(revision)])[0]
    }

    pub(crate) fn erases(&mut self, i: Index, id: RecordId) {
        let author = AgentId(self.nodes[i].keys.public());
        let command = Command::Erase {
            ids: vec![id],
            author,
            durability: Durability::Local,
        };
        let reply = self.answered(i, command);
        assert!(matches!(reply, Reply::Written { .. }), "{reply:?}");
    }
}

/// Looking.
impl Hive {
    pub(crate) fn replica(&self, i: Index) -> &Replica<MemStore> {
        self.nodes[i].replica.as_ref().expect("it runs")
    }

    pub(crate) fn summary(&mut self, i: Index, topic: &str) -> ([u8; 16], u32) {
        let topic = self.topic(topic);
        self.nodes[i]
            .replica
            .as_mut()
            .expect("it runs")
            .summary(topic)
    }

    #[track_caller]
    pub(crate) fn agree(&mut self, topic: &str, nodes: &[Index]) {
        let first = (self.summary(nodes[0], topic), self.texts(nodes[0], topic));
        for i in &nodes[1..] {
            let other = (self.summary(*i, topic), self.texts(*i, topic));
            assert_eq!(other, first, "node {i} and node {} on {topic}", nodes[0]);
        }
    }

    pub(crate) fn logs(&self, i: Index, topic: &str) -> Vec<(LogKey, LogState)> {
        let of = self.replica(i).logs().of_topic(self.topic(topic));
        of.map(|(key, state)| (*key, *state)).collect()
    }

    /// The records of a topic that a node can read.
    pub(crate) fn records(&self, i: Index, topic: &str) -> Vec<Record> {
        let store = self.replica(i).store();
        let mut found = Vec::new();
        for (_, state) in self.logs(i, topic) {
            let read = |seq| log::record_at(store, state.number, seq).ok().flatten();
            found.extend((0..state.height).filter_map(read));
        }
        found
    }

    /// The texts of a topic's memories and revisions that a node has bodies of.
    pub(crate) fn texts(&self, i: Index, topic: &str) -> BTreeSet<String> {
        self.records(i, topic).iter().filter_map(text_of).collect()
    }

    pub(crate) fn text(&self, i: Index, id: RecordId) -> Option<String> {
        let found = log::record_by_id(self.replica(i).store(), &id).expect("readable");
        text_of(&found?)
    }

    pub(crate) fn events(&mut self, i: Index) -> Vec<Event> {
        core::mem::take(&mut self.nodes[i].events)
    }
}

fn text_of(record: &Record) -> Option<String> {
    match Body::open(record.header().kind, &record.body()?) {
        Ok(Body::Memory(memory)) => Some(memory.text),
        Ok(Body::Revision(revision)) => Some(revision.memory.text),
        _ => None,
    }
}

//! Traitors: members that lie.
//!
//! A traitor runs the real core, and beside it does what its key lets it do: it signs two records at
//! one place and shows each to one half of its peers, asks for topics it may not have, repeats what
//! others said, sends bytes that were changed, stamps records with the future.
//!
//! Not here: telling what harm it did (`check`).

use super::World;
use crate::engine::Index;
use crate::network::Packet;
use crate::report::Fault;
use aquifer_protocol::body::{Kind, Memory};
use aquifer_protocol::log::{self, LogKey};
use aquifer_protocol::record::{Header, NO_RECORD};
use aquifer_protocol::wire::Want;
use aquifer_protocol::{
    AgentId, Body, LogId, Message, Record, RecordId, Region, Seq, Stamp, TopicId, TopicName,
};
use core::time::Duration;

/// How many messages traitors remember.
const HEARD_MAX: usize = 64;

impl World {
    pub(super) fn overhear(&mut self, message: &Message) {
        if self.heard.len() == HEARD_MAX {
            self.heard.pop_front();
        }
        self.heard.push_back(message.clone());
    }

    /// A traitor that is up does one thing.
    pub(super) fn attack(&mut self) {
        let traitors: Vec<Index> = (0..self.nodes.len())
            .filter(|i| self.scenario.sites[*i].traitor && self.nodes[*i].replica.is_some())
            .collect();
        if traitors.is_empty() {
            return;
        }
        let traitor = *self.lies.pick(&traitors);
        match self.lies.below(6) {
            what @ 0..=2 => {
                let log = if what == 1 {
                    self.own_log(traitor)
                } else {
                    LogId(self.lies.bits())
                };
                self.fork(traitor, log, what == 2);
            }
            3 => self.garble(traitor),
            4 => self.ask_for_all(traitor),
            _ => self.replay(traitor),
        }
    }

    /// A traitor shows two histories of a log, that it really writes, to its peers: half and half.
    pub fn betray(&mut self, traitor: Index) {
        let log = self.own_log(traitor);
        self.fork(traitor, log, false);
    }

    /// A topic that the traitor may write to.
    fn draw_topic(&mut self, traitor: Index) -> Option<TopicName> {
        let replica = self.nodes[traitor].replica.as_ref()?;
        let mine: Vec<TopicName> = self
            .names
            .iter()
            .filter(|(id, name)| !name.is_reserved() && replica.is_holder(**id))
            .map(|(_, name)| name.clone())
            .collect();
        (!mine.is_empty()).then(|| self.lies.pick(&mine).clone())
    }

    fn own_log(&mut self, traitor: Index) -> LogId {
        let me = self.nodes[traitor].keys.node();
        let Some(replica) = &self.nodes[traitor].replica else {
            return LogId(0);
        };
        let own: Vec<LogKey> = replica
            .logs()
            .iter()
            .map(|(key, _)| *key)
            .filter(|key| key.writer == me)
            .collect();
        if own.is_empty() {
            LogId(self.lies.bits())
        } else {
            self.lies.pick(&own).log
        }
    }

    /// Two histories of one log, or one stamped with the future, shown to peers one each.
    fn fork(&mut self, traitor: Index, log: LogId, future: bool) {
        let Some(topic) = self.draw_topic(traitor) else {
            return;
        };
        let topic = topic.id(&self.hive);
        let stem = self.stem(traitor, topic, log);
        let branches: Vec<Vec<Record>> = (0..if future { 1 } else { 2 })
            .map(|_| self.branch(traitor, topic, log, &stem, future))
            .collect();
        self.report
            .bite(if future { Fault::Future } else { Fault::Fork });
        self.line(|| {
            let tips: Vec<_> = branches
                .iter()
                .map(|b| b.iter().map(|r| r.id()).collect::<Vec<_>>())
                .collect();
            format!(
                "n{traitor} forks {topic:?}/{:x} after {}: {tips:?}",
                log.0,
                stem.len()
            )
        });
        let shift = self.lies.index(2);
        for (i, peer) in self.peers_of(traitor).into_iter().enumerate() {
            let branch = &branches[(i + shift) % branches.len()];
            let run = stem.iter().chain(branch).cloned().collect();
            self.lie(
                traitor,
                peer,
                Packet::Message(Message::Records {
                    topic,
                    runs: vec![run],
                }),
            );
        }
    }

    /// What of the log is told to everyone alike: what the traitor really wrote, less its end, or
    /// some new records.
    fn stem(&mut self, traitor: Index, topic: TopicId, log: LogId) -> Vec<Record> {
        let node = &self.nodes[traitor];
        let key = LogKey {
            topic,
            writer: node.keys.node(),
            log,
        };
        let state = node
            .replica
            .as_ref()
            .and_then(|replica| replica.logs().get(&key).copied());
        let Some(state) = state.filter(|state| state.height > 0) else {
            let len = self.lies.below(3);
            let mut stem: Vec<Record> = Vec::new();
            for _ in 0..len {
                let record = self.forge(traitor, topic, log, stem.last(), false);
                stem.push(record);
            }
            return stem;
        };
        let real = |seq| log::record_at(&node.disk, state.number, seq).ok().flatten();
        let end = self.lies.below(state.height);
        (0..end).map_while(real).collect()
    }

    fn branch(
        &mut self,
        traitor: Index,
        topic: TopicId,
        log: LogId,
        stem: &[Record],
        future: bool,
    ) -> Vec<Record> {
        let len = self.lies.between(1, 3);
        let mut branch: Vec<Record> = Vec::new();
        for _ in 0..len {
            let last = branch.last().or_else(|| stem.last()).cloned();
            branch.push(self.forge(traitor, topic, log, last.as_ref(), future));
        }
        branch
    }

    /// A record as the core would write it, by the traitor's own key, wherever it likes.
    fn forge(
        &mut self,
        traitor: Index,
        topic: TopicId,
        log: LogId,
        last: Option<&Record>,
        future: bool,
    ) -> Record {
        let far = if future {
            self.lies.millis(61_000, 400_000)
        } else {
            Duration::ZERO
        };
        let now = self.clock(traitor) + far;
        let canary = format!("lie-{:016x}", self.lies.bits());
        let body = Body::Memory(Memory::of(canary))
            .to_bytes()
            .expect("short")
            .1;
        let salt = *self.lies.bytes32().first_chunk().expect("32 hold 16");
        let node = &self.nodes[traitor];
        let law = node
            .replica
            .as_ref()
            .and_then(|replica| replica.law().topic(topic));
        let (seq, prev): (Seq, RecordId) =
            last.map_or((0, NO_RECORD), |last| (last.header().seq + 1, last.id()));
        let before = last.map_or(Stamp::ZERO, |last| last.header().stamp);
        let header = Header {
            version: 1,
            topic,
            writer: node.keys.node(),
            log,
            seq,
            prev,
            stamp: before.tick(now),
            kind: Kind::MEMORY,
            author: AgentId([7; 32]),
            policy_epoch: law.map_or(0, |law| law.epoch()),
            cap_hash: node.member.cap_hash(),
            body_len: 0,
            body_hash: [0; 32],
        };
        Record::author(&node.keys, header, salt, &body).expect("short")
    }

    fn garble(&mut self, traitor: Index) {
        if self.heard.is_empty() {
            return;
        }
        let which = self.lies.index(self.heard.len());
        let mut bytes = self.heard[which].to_bytes();
        match self.lies.below(4) {
            0 => bytes.truncate(self.lies.index(bytes.len())),
            1 => {
                let at = self.lies.index(bytes.len());
                bytes.insert(at, self.lies.bits() as u8);
            }
            _ => {
                for _ in 0..self.lies.between(1, 4) {
                    let at = self.lies.index(bytes.len());
                    bytes[at] ^= 1 << self.lies.below(8);
                }
            }
        }
        let peers = self.peers_of(traitor);
        if !peers.is_empty() {
            self.report.bite(Fault::Garble);
            let peer = *self.lies.pick(&peers);
            self.lie(traitor, peer, Packet::Frame(bytes.into()));
        }
    }

    /// Asks everyone for everything of every topic, whether it may have it or not.
    fn ask_for_all(&mut self, traitor: Index) {
        let topics: Vec<TopicId> = self.names.keys().copied().collect();
        self.report.bite(Fault::Curious);
        for peer in self.peers_of(traitor) {
            for topic in &topics {
                let Some(replica) = &self.nodes[peer].replica else {
                    continue;
                };
                // What logs there are is no secret to a traitor: it hears of them from its like.
                let wants: Vec<Want> = replica
                    .logs()
                    .of_topic(*topic)
                    .map(|(key, _)| Want {
                        writer: key.writer,
                        log: key.log,
                        from: 0,
                        until: Seq::MAX,
                    })
                    .collect();
                let message = Message::Wants {
                    topic: *topic,
                    wants,
                };
                self.lie(traitor, peer, Packet::Message(message));
            }
        }
    }

    fn replay(&mut self, traitor: Index) {
        let peers = self.peers_of(traitor);
        if self.heard.is_empty() || peers.is_empty() {
            return;
        }
        self.report.bite(Fault::Replay);
        for _ in 0..self.lies.between(1, 5) {
            let which = self.lies.index(self.heard.len());
            let (message, peer) = (self.heard[which].clone(), *self.lies.pick(&peers));
            // Said in a mesh, any mesh, or as if it were an answer.
            let meshes: Vec<Region> = self.nodes[traitor].site.region.line().collect();
            let packet = if self.lies.permille(500) {
                Packet::Gossip(self.lies.pick(&meshes).clone(), message)
            } else {
                Packet::Message(message)
            };
            self.lie(traitor, peer, packet);
        }
    }

    fn peers_of(&self, node: Index) -> Vec<Index> {
        (0..self.nodes.len())
            .filter(|peer| *peer != node && self.network.believes(node, *peer))
            .collect()
    }

    fn lie(&mut self, traitor: Index, peer: Index, packet: Packet) {
        self.post(traitor, peer, self.engine.now(), packet);
    }
}

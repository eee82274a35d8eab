//! Write: commands become records of this node's own log.
//!
//! All of a command is staged or none of it. The law is asked before the first record is signed, so
//! a refused command leaves no trace.

use super::Replica;
use crate::body::{Body, Erase, Founding, Kind, Manifest};
use crate::decide::{Denial, Op, Subject, decide, keepable};
use crate::event::{CommandId, Durability, Durable, Event, Expect, Refusal, Reply};
use crate::identity::AgentId;
use crate::limits::{AWAITING_MAX, IDS_PER_BODY_MAX};
use crate::log::{self, LogKey};
use crate::policy::Policy;
use crate::record::{Header, Record, RecordId, Seq};
use crate::store::Store;
use crate::time::Stamp;
use crate::topic::{TopicId, TopicName};
use rand_chacha::rand_core::Rng as _;
use std::collections::{BTreeMap, BTreeSet};

type Done = Result<Option<Reply>, Refusal>;

impl<S: Store> Replica<S> {
    pub(super) fn write(
        &mut self,
        id: CommandId,
        topic: &TopicName,
        author: AgentId,
        bodies: &[Body],
        durability: Durability,
    ) -> Done {
        let law = self.law.named(topic).ok_or_else(|| Refusal::NoTopic {
            topic: topic.clone(),
        })?;
        if let (Some(allowed), Durability::Quorum { nodes, .. } | Durability::Region { nodes, .. }) =
            (law.policy().copies, durability)
            && nodes > allowed
        {
            return Err(Refusal::TooManyCopies {
                topic: topic.clone(),
                asked: nodes,
                allowed,
            });
        }
        if durability != Durability::Local && self.awaiting.len() >= AWAITING_MAX {
            return Err(Refusal::Busy);
        }
        let topic = topic.id(self.law.hive());
        let ids = self.author(topic, author, bodies)?;
        self.answer(id, topic, ids, durability)
    }

    /// Signs and stages one record for each body.
    pub(super) fn author(
        &mut self,
        topic: TopicId,
        author: AgentId,
        bodies: &[Body],
    ) -> Result<Vec<RecordId>, Refusal> {
        let me = self.me.clone().ok_or(Refusal::NotAMember)?;
        if let Some(ahead) = self.clock_ahead() {
            return Err(Refusal::ClockAhead { ahead });
        }
        let label = self.law.label(topic).map_err(Refusal::Denied)?;
        let subject = Subject {
            member: &me,
            at: self.now,
        };
        // A writer keeps what it writes, so it must be allowed to hold it too.
        for op in [Op::Publish, Op::Store] {
            decide(op, label, subject, label.epoch).map_err(Refusal::Denied)?;
        }
        keepable(label, self.erases).map_err(Refusal::Denied)?;
        let policy_epoch = label.epoch;
        for body in bodies {
            if let Body::Revision(revision) = body
                && self.is_erased(topic, &revision.of)
            {
                return Err(Refusal::NoMemory { id: revision.of });
            }
        }
        let mut written = Vec::with_capacity(bodies.len());
        for body in bodies {
            let (kind, bytes) = body.to_bytes().map_err(Refusal::Body)?;
            if self.full && !kind.is_permanent() {
                return Err(Refusal::DiskFull);
            }
            let (len, max) = (bytes.len() as u32, label.policy.body_bytes_max);
            if len > max && kind != Kind::ERASE {
                let topic = label.topic.clone();
                return Err(Refusal::Denied(Denial::BodyLen { topic, len, max }));
            }
            written.push((kind, bytes));
        }
        let key = LogKey {
            topic,
            writer: me.node(),
            log: self.own,
        };
        let mut ids = Vec::with_capacity(bodies.len());
        for (body, (kind, bytes)) in bodies.iter().zip(written) {
            let state = self.logs.get_or_new(&key);
            self.clock = self.clock.tick(self.now);
            let header = Header {
                version: 1,
                topic,
                writer: key.writer,
                log: key.log,
                seq: state.height,
                prev: state.tip,
                stamp: self.clock,
                kind,
                author,
                policy_epoch,
                cap_hash: me.cap_hash(),
                body_len: 0,
                body_hash: [0; 32],
            };
            let mut salt = [0; 16];
            self.rng.fill_bytes(&mut salt);
            let record = Record::author(&self.keys, header, salt, &bytes)
                .expect("a body's own limit is the record's");
            ids.push(record.id());
            self.append(key, state, &record, Some(body), None);
            self.beat.fresh.entry(topic).or_default().push(record);
        }
        Ok(ids)
    }

    /// Answers a write at once, or keeps it until the receipts are there.
    fn answer(
        &mut self,
        id: CommandId,
        topic: TopicId,
        ids: Vec<RecordId>,
        durability: Durability,
    ) -> Done {
        let key = LogKey {
            topic,
            writer: self.keys.node(),
            log: self.own,
        };
        let height = self.logs.get(&key).map_or(0, |state| state.height);
        let heights = BTreeMap::from([(key, height)]);
        self.answer_heights(id, ids, heights, durability)
    }

    fn answer_heights(
        &mut self,
        id: CommandId,
        ids: Vec<RecordId>,
        heights: BTreeMap<LogKey, Seq>,
        durability: Durability,
    ) -> Done {
        if durability == Durability::Local {
            let durable = Durable {
                met: true,
                holders: vec![self.keys.node()],
                missing: vec![],
            };
            return Ok(Some(Reply::Written { ids, durable }));
        }
        self.wait_for_receipts(id, ids, heights, durability);
        Ok(None)
    }

    pub(super) fn erase(
        &mut self,
        id: CommandId,
        ids: &[RecordId],
        author: AgentId,
        durability: Durability,
    ) -> Done {
        if self.awaiting.len() >= AWAITING_MAX {
            return Err(Refusal::Busy);
        }
        let mut by_topic: BTreeMap<TopicId, BTreeSet<RecordId>> = BTreeMap::new();
        for memory in ids {
            let (topic, all) = self.versions_of(memory)?;
            by_topic.entry(topic).or_default().extend(all);
        }
        for topic in by_topic.keys() {
            let me = self.me.as_ref().ok_or(Refusal::NotAMember)?;
            let label = self.law.label(*topic).map_err(Refusal::Denied)?;
            let subject = Subject {
                member: me,
                at: self.now,
            };
            decide(Op::Publish, label, subject, label.epoch).map_err(Refusal::Denied)?;
        }
        let (mut tombs, mut heights) = (Vec::new(), BTreeMap::new());
        for (topic, ids) in by_topic {
            let ids: Vec<_> = ids.into_iter().collect();
            let bodies: Vec<_> = ids
                .chunks(IDS_PER_BODY_MAX)
                .map(|ids| Body::Erase(Erase { ids: ids.to_vec() }))
                .collect();
            tombs.extend(self.author(topic, author, &bodies)?);
            let key = LogKey {
                topic,
                writer: self.keys.node(),
                log: self.own,
            };
            heights.insert(key, self.logs.get(&key).map_or(0, |state| state.height));
        }
        self.answer_heights(id, tombs, heights, durability)
    }

    /// A memory's topic, its first record and all its revisions.
    fn versions_of(&self, memory: &RecordId) -> Result<(TopicId, Vec<RecordId>), Refusal> {
        let header = self
            .header_of(memory)
            .filter(|header| header.kind == Kind::MEMORY);
        let Some(header) = header else {
            return Err(Refusal::NoMemory { id: *memory });
        };
        let mut all = vec![*memory];
        for id in self.related_to(memory) {
            if self
                .header_of(&id)
                .is_some_and(|h| h.kind == Kind::REVISION)
            {
                all.push(id);
            }
        }
        Ok((header.topic, all))
    }

    pub(super) fn header_of(&self, id: &RecordId) -> Option<Header> {
        let place = self.store.get(crate::store::Table::Ids, &log::id_key(id))?;
        let (number, seq) = log::split_place(&place)?;
        let bytes = self
            .store
            .get(crate::store::Table::Records, &log::record_key(number, seq))?;
        let record = log::read_stored(number, seq, &bytes).ok()?;
        (record.id() == *id).then(|| record.header().clone())
    }

    pub(super) fn related_to(&self, id: &RecordId) -> Vec<RecordId> {
        let until = [&id.0[..], &[255; 33][..]].concat();
        self.store
            .range(
                crate::store::Table::Related,
                id.as_bytes(),
                &until,
                usize::MAX,
            )
            .iter()
            .filter_map(|(key, _)| key.get(32..64)?.try_into().ok().map(RecordId))
            .collect()
    }

    pub(super) fn govern(
        &mut self,
        topic: &TopicName,
        policy: Policy,
        expect: Expect,
    ) -> Result<Reply, Refusal> {
        let me = self.me.clone().ok_or(Refusal::NotAMember)?;
        let known = self.law.named(topic).is_some();
        match expect {
            Expect::New if self.full => return Err(Refusal::DiskFull),
            Expect::New if known => {
                return Err(Refusal::TopicExists {
                    topic: topic.clone(),
                });
            }
            Expect::Known if !known => {
                return Err(Refusal::NoTopic {
                    topic: topic.clone(),
                });
            }
            _ => {}
        }
        let version = self
            .law
            .may_found(topic, &policy, me.node())
            .map_err(Refusal::Denied)?;
        let node = me.node();
        if !me.covers(topic) {
            return Err(Refusal::Denied(Denial::Scope {
                topic: topic.clone(),
                node,
            }));
        }
        let replaces = self
            .law
            .named(topic)
            .and_then(|law| law.own.iter().find(|(by, ..)| *by == node))
            .map(|(_, id, _)| *id);
        let founding = Founding {
            topic: topic.clone(),
            version,
            replaces,
            policy,
        };
        self.author(
            self.hive_topic,
            AgentId(node.0),
            &[Body::Founding(founding)],
        )?;
        Ok(Reply::Governed {
            topic: topic.id(self.law.hive()),
            version,
        })
    }

    pub(super) fn announce(&mut self, manifest: Manifest) -> Result<Reply, Refusal> {
        let member = manifest
            .member(self.law.hive())
            .map_err(|_| Refusal::NotAMember)?;
        if member.node() != self.keys.node() {
            return Err(Refusal::NotAMember);
        }
        self.law.admit(&member);
        self.me = Some(member);
        let author = AgentId(self.keys.node().0);
        let ids = self.author(self.hive_topic, author, &[Body::Manifest(manifest)])?;
        let durable = Durable {
            met: true,
            holders: vec![self.keys.node()],
            missing: vec![],
        };
        Ok(Reply::Written { ids, durable })
    }

    /// Winds the hybrid clock past every stamp in the store, but never past the future limit: a
    /// stamp that far ahead must not drag this writer along (I9).
    pub(super) fn wind_clock(&mut self) {
        let limit = Stamp::at(self.now + crate::limits::FUTURE_MAX);
        let me = self.keys.node();
        let last = self
            .logs
            .iter()
            .map(|(_, state)| state.stamp)
            .filter(|s| *s <= limit)
            .max();
        self.clock = last.unwrap_or_default();
        // If our own log is stamped beyond that, our clock was wrong when we wrote it. The log
        // cannot take an earlier stamp, so what we write next goes to a new one.
        let stuck = self
            .logs
            .iter()
            .any(|(key, s)| key.writer == me && key.log == self.own && s.stamp > limit);
        if stuck {
            self.own = super::draw_log(&mut self.store, &mut self.rng);
        }
    }

    /// Opens a new log: ours was found ahead of itself elsewhere, so this store is a copy.
    pub(super) fn leave_own_log(&mut self, key: LogKey) {
        self.own = super::draw_log(&mut self.store, &mut self.rng);
        self.event(Event::OwnLogAhead { key });
    }
}

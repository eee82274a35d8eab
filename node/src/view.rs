//! The view: what a reader sees, beside the replica.
//!
//! After every commit the driver publishes the law and a snapshot of the store together, so that a
//! query judges records by the policy of the same moment, and no commit ever stalls a reader.

use crate::api::{MemoryView, VersionView};
use crate::names;
use crate::store::Snapshot;
use aquifer_crdt::memory::{Fold, Version};
use aquifer_protocol::body::Memory;
use aquifer_protocol::decide::keepable;
use aquifer_protocol::log::{self, ReadRecord};
use aquifer_protocol::placement;
use aquifer_protocol::time::{Stamp, Time};
use aquifer_protocol::{
    Denial, Kind, Law, Member, NodeId, Op, RecordId, Store as _, Subject, Table, TopicId,
    TopicName, decide,
};
use std::sync::Arc;

/// A moment of the node: its law and its store.
#[derive(Clone, Debug)]
pub struct View {
    /// Members and policies.
    pub law: Arc<Law>,
    /// The records.
    pub snapshot: Snapshot,
    /// This node.
    pub me: Member,
    /// When it was taken.
    pub now: Time,
}

impl View {
    /// Whether this node may show what it holds of `topic`. Its certificate may have lapsed offline:
    /// what was given to it lawfully it may go on reading.
    pub fn may_read(&self, topic: TopicId) -> Result<(), Denial> {
        let label = self.law.label(topic)?;
        let grant = self.me.grant();
        let at = Time::from_millis(self.now.millis().clamp(grant.not_before, grant.not_after));
        keepable(label, self.snapshot.erases())?;
        decide(
            Op::Egress,
            label,
            Subject {
                member: &self.me,
                at,
            },
            label.epoch,
        )
    }

    /// The topics at and below `name` that this node may show; all of them if none is named.
    pub fn readable(&self, name: Option<&TopicName>) -> Vec<TopicId> {
        self.law
            .topics()
            .filter(|(_, law)| name.is_none_or(|name| name.covers(&law.name)))
            .map(|(id, _)| id)
            .filter(|id| self.may_read(*id).is_ok())
            .collect()
    }

    /// The members that are to hold `topic`. Of their engines this node knows its own only.
    pub fn holders(&self, topic: TopicId) -> Vec<NodeId> {
        let Ok(label) = self.law.label(topic) else {
            return Vec::new();
        };
        let members = self.law.members().map(|(_, known)| &known.member);
        let mut holders = placement::holders(topic, label, members, self.now);
        if keepable(label, self.snapshot.erases()).is_err() {
            holders.retain(|node| *node != self.me.node());
        }
        holders
    }

    /// A topic's name, for people.
    pub fn topic_name(&self, topic: TopicId) -> String {
        self.law
            .topic(topic)
            .map_or_else(|| topic.to_string(), |law| law.name.to_string())
    }

    /// A node's region, if it is known.
    pub fn region_of(&self, node: &NodeId) -> String {
        let own = (*node == self.me.node()).then(|| self.me.region());
        let region = own.or_else(|| self.law.member(node).map(|known| known.member.region()));
        region.map_or_else(|| "?".to_owned(), ToString::to_string)
    }

    /// Ids of memories from `from` to `until`, at most `limit`.
    pub fn ids_between(
        &self,
        from: &RecordId,
        until: &RecordId,
        limit: usize,
    ) -> Result<Vec<RecordId>, ReadRecord> {
        let mut places = Vec::new();
        let (low, high) = (log::id_key(from), [&log::id_key(until)[..], &[0]].concat());
        self.snapshot
            .range(Table::Ids, &low, Some(&high), &mut |_, place| {
                places.extend(log::split_place(&place));
                places.len() < 64
            })?;
        let mut ids = Vec::new();
        for (number, seq) in places {
            let record = log::record_at(&self.snapshot, number, seq)?;
            let found = record.filter(|r| r.header().kind == Kind::MEMORY && r.carried().is_some());
            ids.extend(found.map(|record| record.id()));
        }
        ids.truncate(limit);
        Ok(ids)
    }

    /// All versions of the memory `id`; none if there is no such memory here.
    pub fn fold(&self, id: &RecordId) -> Result<Option<(TopicId, Fold)>, ReadRecord> {
        let Some(root) = log::record_by_id(&self.snapshot, id)? else {
            return Ok(None);
        };
        if root.header().kind != Kind::MEMORY {
            return Ok(None);
        }
        let mut fold = Fold::new(*id);
        fold.join(&root);
        for revision in log::related(&self.snapshot, id)? {
            if let Some(record) = log::record_by_id(&self.snapshot, &revision)? {
                fold.join(&record);
            }
        }
        Ok(Some((root.header().topic, fold)))
    }

    /// The memory `id` as it stands, or as it stood at `as_of`; none if it is not here or has no
    /// content.
    pub fn memory(
        &self,
        id: &RecordId,
        as_of: Option<u64>,
    ) -> Result<Option<MemoryView>, ReadRecord> {
        let Some((topic, fold)) = self.fold(id)? else {
            return Ok(None);
        };
        let upto = as_of.map_or(Stamp::from_bits(u64::MAX), |ms| {
            Stamp::from_bits(Stamp::at(Time::from_millis(ms)).bits() | 0xffff)
        });
        let heads = fold.heads_at(upto);
        let Some((shown, others)) = heads.split_first() else {
            return Ok(None);
        };
        let Some(content) = &shown.content else {
            return Ok(None);
        };
        let first = fold
            .versions()
            .next()
            .unwrap_or(shown)
            .record
            .header()
            .stamp;
        let mut view = self.show(id, topic, shown, content, first);
        view.conflicts = others.iter().map(|version| self.version(version)).collect();
        Ok(Some(view))
    }

    fn show(
        &self,
        id: &RecordId,
        topic: TopicId,
        version: &Version,
        memory: &Memory,
        first: Stamp,
    ) -> MemoryView {
        let header = version.record.header();
        MemoryView {
            id: id.to_string(),
            text: memory.text.clone(),
            topic: self.topic_name(topic),
            author: names::agent(&header.author),
            node: names::node(&header.writer),
            region: self.region_of(&header.writer),
            created_at: memory.created_at.unwrap_or_else(|| first.time().millis()),
            updated_at: header.stamp.time().millis(),
            kind: names::class(memory.class).to_owned(),
            tags: memory.tags.clone(),
            metadata: memory.metadata.clone(),
            source: memory.source.clone(),
            importance: f32::from(memory.importance) / 1_000.0,
            trust: names::trust(memory, header.writer == self.me.node()).to_owned(),
            valid_from: memory.valid_from,
            valid_until: memory.valid_until,
            conflicts: Vec::new(),
        }
    }

    /// One version of a memory, for people.
    pub fn version(&self, version: &Version) -> VersionView {
        let header = version.record.header();
        VersionView {
            version: version.record.id().to_string(),
            text: version.content.as_ref().map(|memory| memory.text.clone()),
            author: names::agent(&header.author),
            node: names::node(&header.writer),
            written_at: header.stamp.time().millis(),
            replaces: version.replaces.iter().map(ToString::to_string).collect(),
        }
    }
}

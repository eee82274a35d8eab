//! The catalogue: every model that this node's records tell of.
//!
//! Found through the index (manifests are memories with a tag), then read from the records themselves:
//! all versions, for two people may have changed one model at the same time, and a version that was
//! replaced a moment ago may still be in use.

use crate::blob::BlobHash;
use crate::indexer::Indexer;
use crate::model::{Manifest, ModelName, TAG};
use crate::recall::{Filter, MAX_HITS, Mode};
use crate::view::View;
use aquifer_protocol::log::ReadRecord;
use aquifer_protocol::{AgentId, NodeId, RecordId, TopicId};
use std::collections::BTreeSet;

/// What there is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Catalogue {
    pub(super) entries: Vec<Entry>,
}

/// One manifest and its versions.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(super) id: RecordId,
    pub(super) topic: TopicId,
    /// What it says now, newest first; several if nobody has reconciled them.
    pub(super) heads: Vec<Head>,
    /// What it said before, and when that was replaced, in milliseconds since the Unix epoch.
    pub(super) past: Vec<(BlobHash, u64)>,
}

/// What a manifest says, who said so and when.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    pub(super) manifest: Manifest,
    pub(super) author: AgentId,
    pub(super) node: NodeId,
    pub(super) at_ms: u64,
}

impl Catalogue {
    /// Reads it anew.
    pub(super) fn read(view: &View, indexer: &Indexer) -> Result<Self, ReadRecord> {
        let topics = view.readable(None).into_iter().map(|topic| topic.0);
        let mut filter = Filter {
            topics: topics.collect(),
            tags: vec![TAG.to_owned()],
            ..Filter::default()
        };
        let mut entries = Vec::new();
        loop {
            let hits = indexer.search("", &filter, Mode::Hybrid, MAX_HITS);
            for hit in &hits {
                entries.extend(Entry::read(view, &RecordId(hit.id))?);
            }
            match hits.last() {
                Some(last) if hits.len() == MAX_HITS => {
                    filter.after = Some((last.created_ms, last.id));
                }
                _ => return Ok(Self { entries }),
            }
        }
    }

    /// What is said of the model `name` in `topic`, newest first.
    pub(super) fn named(&self, topic: TopicId, name: &ModelName) -> Vec<(&Entry, &Head)> {
        let mut found: Vec<_> = self
            .heads()
            .filter(|(entry, head)| entry.topic == topic && head.manifest.name == *name)
            .collect();
        found.sort_by_key(|(entry, head)| std::cmp::Reverse((head.at_ms, entry.id)));
        found
    }

    /// What is said now that names `blob` in `topic`.
    pub(super) fn naming(
        &self,
        topic: TopicId,
        blob: &BlobHash,
    ) -> impl Iterator<Item = (&Entry, &Head)> {
        self.heads()
            .filter(move |(entry, head)| entry.topic == topic && head.manifest.blob == *blob)
    }

    /// Whether anything that is said now, or was, names `blob`.
    pub(super) fn names(&self, blob: &BlobHash) -> bool {
        self.entries
            .iter()
            .any(|entry| entry.blobs().any(|named| named == *blob))
    }

    /// Everything that is said now.
    pub(super) fn heads(&self) -> impl Iterator<Item = (&Entry, &Head)> {
        let of = |entry| Entry::heads(entry);
        self.entries.iter().flat_map(of)
    }
}

impl Entry {
    /// None for a memory that has no content any more, or is no manifest.
    pub(super) fn read(view: &View, id: &RecordId) -> Result<Option<Self>, ReadRecord> {
        let Some((topic, fold)) = view.fold(id)? else {
            return Ok(None);
        };
        let manifest = |content: &Option<aquifer_protocol::body::Memory>| {
            let content = content.as_ref()?;
            let tagged = content.tags.iter().any(|tag| tag == TAG);
            let read = tagged.then(|| Manifest::open(&content.text, &content.metadata))?;
            read.inspect_err(|why| {
                tracing::warn!(target: "aquifer::model::unreadable", %id, %why);
            })
            .ok()
        };
        let current = fold.heads();
        let mut heads: Vec<Head> = current
            .iter()
            .filter_map(|version| {
                let header = version.record.header();
                Some(Head {
                    manifest: manifest(&version.content)?,
                    author: header.author,
                    node: header.writer,
                    at_ms: header.stamp.time().millis(),
                })
            })
            .collect();
        heads.sort_by_key(|head| std::cmp::Reverse(head.at_ms));
        let is_head: BTreeSet<RecordId> = current.iter().map(|v| v.record.id()).collect();
        let old = fold
            .versions()
            .filter(|v| !is_head.contains(&v.record.id()));
        let past = old.filter_map(|version| {
            let by = fold
                .versions()
                .filter(|other| other.replaces.contains(&version.record.id()));
            let at = by.map(|other| other.record.header().stamp.time().millis());
            Some((manifest(&version.content)?.blob, at.min()?))
        });
        let past = past.collect();
        let (id, has_any) = (*id, !heads.is_empty());
        Ok(has_any.then_some(Self {
            id,
            topic,
            heads,
            past,
        }))
    }

    /// The contents it names or named.
    pub(super) fn blobs(&self) -> impl Iterator<Item = BlobHash> {
        let now = self.heads.iter().map(|head| head.manifest.blob);
        now.chain(self.past.iter().map(|(blob, _)| *blob))
    }

    fn heads(&self) -> impl Iterator<Item = (&Self, &Head)> {
        self.heads.iter().map(move |head| (self, head))
    }
}

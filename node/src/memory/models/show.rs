//! Models as they are shown.

use super::catalogue::{Entry, Head};
use super::law::may_keep_model;
use crate::api::{DroppedView, FetchView, GivenView, HeldModel, MemoryView, ModelView};
use crate::memory::Memory;
use crate::model::{Manifest, ModelName};
use crate::names;
use crate::view::View;
use aquifer_protocol::body::Manifest as NodeManifest;
use aquifer_protocol::placement::{is_model, model_entry};
use aquifer_protocol::{NodeId, Regions, TopicId};
use std::sync::atomic::Ordering;

impl Memory {
    /// The newest of `all`, which are of one name; the others are told as conflicts.
    pub(super) fn show_model(&self, view: &View, all: &[(&Entry, &Head)]) -> ModelView {
        let (entry, head) = all[0];
        let manifest = &head.manifest;
        let mut shown = self.show(view, entry.topic, manifest);
        shown.id = entry.id.to_string();
        shown.publisher = names::agent(&head.author);
        shown.node = names::node(&head.node);
        shown.published_at = head.at_ms;
        let others = all.iter().map(|(_, other)| other.manifest.blob);
        let mut others: Vec<_> = others.filter(|blob| *blob != manifest.blob).collect();
        others.sort_unstable();
        others.dedup();
        shown.conflicts = others.iter().map(ToString::to_string).collect();
        shown
    }

    /// A manifest that another node told.
    pub(super) fn show_manifest(
        &self,
        view: &View,
        topic: TopicId,
        manifest: &Manifest,
        memory: &MemoryView,
    ) -> ModelView {
        let mut shown = self.show(view, topic, manifest);
        shown.id.clone_from(&memory.id);
        shown.publisher.clone_from(&memory.author);
        shown.node.clone_from(&memory.node);
        shown.published_at = memory.updated_at;
        shown
    }

    fn show(&self, view: &View, topic: TopicId, manifest: &Manifest) -> ModelView {
        let models = &self.inner.models;
        let held = models.shelf.bytes_of(&manifest.blob) == Some(manifest.bytes);
        let path = held.then(|| models.shelf.path_of(&manifest.blob).display().to_string());
        let is_placed = view.holders(topic).contains(&view.me.node());
        ModelView {
            name: manifest.name.to_string(),
            topic: view.topic_name(topic),
            id: String::new(),
            blob: manifest.blob.to_string(),
            bytes: manifest.bytes,
            licence: manifest.licence.clone(),
            purpose: manifest.purpose.clone(),
            gpu_bytes: manifest.gpu_bytes,
            ram_bytes: manifest.ram_bytes,
            regions: match &manifest.regions {
                Regions::Anywhere => Vec::new(),
                Regions::Only(regions) => regions.iter().map(ToString::to_string).collect(),
            },
            publisher: String::new(),
            node: String::new(),
            published_at: 0,
            held,
            wanted: is_placed && may_keep_model(view, topic, manifest).is_ok(),
            path,
            fetch: self.show_fetch(manifest),
            conflicts: Vec::new(),
        }
    }

    fn show_fetch(&self, manifest: &Manifest) -> Option<FetchView> {
        let fetching = self.inner.models.fetching(&manifest.blob)?;
        let now = fetching.tracker.now();
        let given = |(node, bytes): (&NodeId, &u64)| GivenView {
            node: names::node(node),
            bytes: *bytes,
        };
        let dropped = |(node, why): &(NodeId, String)| DroppedView {
            node: names::node(node),
            why: why.clone(),
        };
        Some(FetchView {
            running: fetching.running,
            had_bytes: now.had_bytes,
            done_bytes: now.done_bytes,
            total_bytes: now.total_bytes,
            again_bytes: now.again_bytes,
            wire_bytes: now.wire_bytes,
            bytes_per_second: now.bytes_per_second(),
            from: now.from.iter().map(given).collect(),
            dropped: now.dropped.iter().map(dropped).collect(),
            failed: fetching.failed,
        })
    }

    /// The models of which there is something here, for `status`.
    pub(crate) fn held_models(&self) -> Vec<HeldModel> {
        let (view, models) = (self.view(), &self.inner.models);
        let catalogue = models.catalogue();
        let mut held: Vec<HeldModel> = catalogue
            .heads()
            .filter_map(|(entry, head)| {
                let manifest = &head.manifest;
                let whole = models.shelf.bytes_of(&manifest.blob);
                let part = || Some(models.fetching(&manifest.blob)?.tracker.now().done_bytes);
                let here_bytes = whole.or_else(part).filter(|bytes| *bytes > 0)?;
                Some(HeldModel {
                    name: manifest.name.to_string(),
                    topic: view.topic_name(entry.topic),
                    bytes: manifest.bytes,
                    here_bytes,
                })
            })
            .collect();
        held.sort_by(|a, b| (&a.topic, &a.name).cmp(&(&b.topic, &b.name)));
        held
    }

    /// The models that a node's manifest names, by the names this node knows for them.
    pub(crate) fn name_models(&self, manifest: &NodeManifest) -> Vec<String> {
        let (view, catalogue) = (self.view(), self.inner.models.catalogue());
        let name = |entry: &String| {
            let known = catalogue
                .heads()
                .find(|(_, head)| model_entry(&head.manifest.blob.0) == *entry);
            known.map_or_else(
                || entry.clone(),
                |(model, head)| format!("{}/{}", view.topic_name(model.topic), head.manifest.name),
            )
        };
        let models = manifest.models.iter().filter(|entry| is_model(entry));
        models.map(name).collect()
    }

    /// The hash of the model called `NAME` or `TOPIC/NAME`, as this node knows it: the newest that is.
    pub(crate) fn model_hash(&self, text: &str) -> Option<[u8; 32]> {
        let (topic, name) = match text.rsplit_once('/') {
            Some((topic, name)) => (Some(topic), name),
            None => (None, text),
        };
        let name = ModelName::read(name).ok()?;
        let (view, catalogue) = (self.view(), self.inner.models.catalogue());
        let named = catalogue.heads().filter(|(entry, head)| {
            let is_there = topic.is_none_or(|topic| view.topic_name(entry.topic) == topic);
            head.manifest.name == name && is_there
        });
        let newest = named.max_by_key(|(_, head)| head.at_ms);
        newest.map(|(_, head)| head.manifest.blob.0)
    }

    /// Bytes of models that left and came since the node started, in the Prometheus text format.
    pub(crate) fn model_metrics(&self) -> String {
        let models = &self.inner.models;
        let line = |name: &str, count: u64| {
            format!("# TYPE aquifer_{name}_total counter\naquifer_{name}_total {count}\n")
        };
        line("blob_bytes_sent", models.sent_bytes.load(Ordering::Relaxed))
            + &line(
                "blob_bytes_received",
                models.received_bytes.load(Ordering::Relaxed),
            )
    }
}

//! Keeping: what a node does about models unasked.
//!
//! Whenever records or the law change, and when peers come: the catalogue is read anew; what nobody
//! names any more, or a law keeps from here, is removed; what this node is to hold and lacks is
//! fetched, one at a time; and the node's manifest says which models are here. Everything is decided
//! anew in each round from what stands in the records, so a round that was cut off loses nothing.

use super::law::{may_keep, may_keep_model};
use super::{Catalogue, Wanted};
use crate::api::Recall;
use crate::blob::BlobHash;
use crate::clock::Stopwatch;
use crate::memory::{INDEX_PATIENCE, Memory};
use crate::model::{Manifest, TAG};
use crate::view::View;
use aquifer_protocol::limits::TAGS_MAX;
use aquifer_protocol::placement::model_entry;
use aquifer_protocol::{Command, TopicId};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Rounds are at least so far apart.
const APART: Duration = Duration::from_millis(500);
/// A round comes at least so often.
const IDLE: Duration = Duration::from_secs(60);
/// A fetch that failed is tried again after this time, or when a peer comes.
const AGAIN: Duration = Duration::from_secs(5);
/// Content that a newer version of its model replaced is kept so long, for whoever still uses it.
const REPLACED_KEPT_MS: u64 = 7 * 86_400_000;
/// How often it is asked whether what was pulled here, beyond placement, still has a name.
const PULLED_ASKED_EVERY: Duration = Duration::from_secs(600);

/// The fetch that is under way for the sake of placement.
struct Fetch {
    wanted: Wanted,
    stop: CancellationToken,
    task: JoinHandle<bool>,
}

#[derive(Default)]
struct Keeper {
    fetch: Option<Fetch>,
    failed: BTreeMap<BlobHash, Stopwatch>,
    asked: BTreeMap<BlobHash, Stopwatch>,
}

impl Memory {
    /// Does so until the node stops.
    pub(crate) async fn keep_models(self, stop: CancellationToken) {
        let mut changes = self.inner.observed.changes();
        let mut stirs = self.inner.observed.stirs();
        let mut keeper = Keeper::default();
        loop {
            keeper.round(&self, &stop).await;
            let is_stopping = tokio::select! {
                () = stop.cancelled() => true,
                () = tokio::time::sleep(APART) => false,
            };
            let wait = match (&keeper.fetch, keeper.failed.is_empty()) {
                (Some(_), _) => APART,
                (None, false) => AGAIN,
                (None, true) => IDLE,
            };
            let poked = self.inner.models.poke.notified();
            let over = is_stopping
                || tokio::select! {
                    () = stop.cancelled() => true,
                    changed = changes.changed() => changed.is_err(),
                    stirred = stirs.changed() => {
                        keeper.failed.clear();
                        stirred.is_err()
                    }
                    () = poked => false,
                    () = tokio::time::sleep(wait) => false,
                };
            if over {
                // What was proved of it stays.
                if let Some(fetch) = keeper.fetch.take() {
                    fetch.stop.cancel();
                    let _ = fetch.task.await;
                }
                return;
            }
        }
    }

    /// Reads the catalogue anew. Whether it has all that is committed.
    pub(super) async fn read_catalogue(&self) -> bool {
        let all = self.inner.indexer.caught_up(INDEX_PATIENCE).await;
        let view = self.view();
        match Catalogue::read(&view, &self.inner.indexer) {
            Ok(catalogue) => {
                self.inner.models.set_catalogue(catalogue);
                all
            }
            Err(why) => {
                tracing::warn!(target: "aquifer::model::catalogue", %why);
                false
            }
        }
    }

    /// Says in this node's manifest which models are here, if that is news.
    async fn advertise(&self, view: &View) {
        let known = view.law.member(&view.me.node());
        let Some(mut manifest) = known.map(|known| known.manifest.clone()) else {
            return;
        };
        let models = self.model_entries();
        if manifest.models != models {
            manifest.models = models;
            // Refused with a lapsed certificate: the next round says it again.
            let _ = self.inner.helm.ask(Command::Announce { manifest }).await;
        }
    }

    /// The models that are here, whole, as a node's manifest names them, and before them the topics whose
    /// tasks are run here.
    pub(crate) fn model_entries(&self) -> Vec<String> {
        let kept = self.inner.models.shelf.list().unwrap_or_default();
        let whole = kept.iter().filter(|kept| kept.bytes.is_some());
        let entries = whole.map(|kept| model_entry(&kept.name.0));
        let tasks = self.inner.tasks.entries().iter().cloned();
        tasks.chain(entries).take(TAGS_MAX).collect()
    }

    /// Whether some node that holds `topic` says that a model of it has this content: none if not all
    /// of them answered.
    async fn is_named_elsewhere(&self, topic: &str, blob: &BlobHash) -> Option<bool> {
        let found = self.ask_for_manifests(topic).await.ok()?;
        let named = found.results.iter().any(|hit| {
            Manifest::open(&hit.memory.text, &hit.memory.metadata)
                .is_ok_and(|manifest| manifest.blob == *blob)
        });
        (named || found.coverage.missing.is_empty()).then_some(named)
    }

    /// The manifests that the nodes which hold `topic` tell of, this one among them.
    pub(super) async fn ask_for_manifests(
        &self,
        topic: &str,
    ) -> Result<crate::api::Recalled, crate::api::Problem> {
        let asked = Recall {
            topic: Some(topic.to_owned()),
            tags: vec![TAG.to_owned()],
            k: Some(100),
            ..Recall::default()
        };
        self.recall(asked).await
    }
}

impl Keeper {
    async fn round(&mut self, memory: &Memory, stop: &CancellationToken) {
        let is_all = memory.read_catalogue().await;
        let (view, catalogue) = (memory.view(), memory.inner.models.catalogue());
        self.settle().await;
        let shelf = &memory.inner.models.shelf;
        let kept = match shelf.list() {
            Ok(kept) => kept,
            Err(error) => {
                tracing::warn!(target: "aquifer::blob::shelf", %error);
                return;
            }
        };
        let wanted = memory.wanted(&view, &catalogue);
        self.cancel_unwanted(&wanted);
        if is_all {
            for blob in &kept {
                self.remove_unless_due(memory, &view, &catalogue, &blob.name)
                    .await;
            }
        }
        memory.advertise(&view).await;
        if self.fetch.is_none() {
            self.begin(memory, wanted, stop);
        }
        memory.inner.models.forget_fetches(&catalogue);
    }

    /// Looks whether the fetch has ended, and how.
    async fn settle(&mut self) {
        if self
            .fetch
            .as_ref()
            .is_none_or(|fetch| !fetch.task.is_finished())
        {
            return;
        }
        let Some(fetch) = self.fetch.take() else {
            return;
        };
        let blob = fetch.wanted.manifest.blob;
        match fetch.task.await {
            Ok(true) => drop(self.failed.remove(&blob)),
            _ => drop(self.failed.insert(blob, Stopwatch::start())),
        }
    }

    fn cancel_unwanted(&mut self, wanted: &[Wanted]) {
        if let Some(fetch) = &self.fetch
            && !wanted
                .iter()
                .any(|other| other.manifest.blob == fetch.wanted.manifest.blob)
        {
            fetch.stop.cancel();
        }
        let is_wanted = |blob: &BlobHash| wanted.iter().any(|w| w.manifest.blob == *blob);
        self.failed.retain(|blob, _| is_wanted(blob));
    }

    fn begin(&mut self, memory: &Memory, wanted: Vec<Wanted>, stop: &CancellationToken) {
        let is_due = |wanted: &Wanted| {
            let failed = self.failed.get(&wanted.manifest.blob);
            failed.is_none_or(|since| since.elapsed() >= AGAIN)
        };
        let Some(wanted) = wanted.into_iter().find(is_due) else {
            return;
        };
        let (memory, stop) = (memory.clone(), stop.child_token());
        let task = {
            let (wanted, stop) = (wanted.clone(), stop.clone());
            tokio::spawn(async move {
                let fetched = memory.fetch_model(&wanted, &stop, &|_| {}).await;
                if let Err(problem) = &fetched {
                    tracing::info!(target: "aquifer::model::waits", model = %wanted.manifest.name, %problem);
                }
                memory.inner.models.poke.notify_one();
                fetched.is_ok()
            })
        };
        self.fetch = Some(Fetch { wanted, stop, task });
    }

    async fn remove_unless_due(
        &mut self,
        memory: &Memory,
        view: &View,
        catalogue: &Catalogue,
        blob: &BlobHash,
    ) {
        if self.is_due(memory, view, catalogue, blob).await {
            return;
        }
        match memory.inner.models.shelf.remove(blob) {
            Ok(0) => {}
            Ok(bytes) => {
                self.asked.remove(blob);
                tracing::info!(target: "aquifer::model::removed", %blob, bytes);
            }
            Err(error) => tracing::warn!(target: "aquifer::model::removed", %blob, %error),
        }
    }

    /// Whether a blob is to stay: a model names it that may be here, or it was pulled here for a topic
    /// whose law allows it and whose holders still name it.
    async fn is_due(
        &mut self,
        memory: &Memory,
        view: &View,
        catalogue: &Catalogue,
        blob: &BlobHash,
    ) -> bool {
        let now = memory.inner.helm.now().millis();
        let named = catalogue.heads().any(|(entry, head)| {
            head.manifest.blob == *blob && may_keep_model(view, entry.topic, &head.manifest).is_ok()
        });
        let was_named = || {
            catalogue.entries.iter().any(|entry| {
                let recent =
                    |(old, at): &(BlobHash, u64)| old == blob && now < at + REPLACED_KEPT_MS;
                entry.past.iter().any(recent) && may_keep(view, entry.topic).is_ok()
            })
        };
        if named || was_named() {
            return true;
        }
        let me = view.me.node();
        let topics = memory.inner.models.shelf.topics_of(blob);
        let foreign =
            |topic: &TopicId| may_keep(view, *topic).is_ok() && !view.holders(*topic).contains(&me);
        let pulled: Vec<TopicId> = topics
            .unwrap_or_default()
            .into_iter()
            .filter(foreign)
            .collect();
        if pulled.is_empty() {
            return false;
        }
        let asked = self.asked.get(blob);
        if asked.is_some_and(|since| since.elapsed() < PULLED_ASKED_EVERY) {
            return true;
        }
        self.asked.insert(*blob, Stopwatch::start());
        for topic in pulled {
            let named = memory
                .is_named_elsewhere(&view.topic_name(topic), blob)
                .await;
            if named != Some(false) {
                return true;
            }
        }
        false
    }
}

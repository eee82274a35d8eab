//! What a node remembers of its models between calls: the shelf, the catalogue, and how fetches go.

use super::law::{Source, may_keep_model};
use super::trouble::{called_off, no_holder, not_kept};
use super::{Catalogue, Wanted};
use crate::api::Problem;
use crate::blob::BlobHash;
use crate::blob::fetch::{FetchBlob, Order, PATIENCE, Progress, Tracker, fetch};
use crate::blob::shelf::Shelf;
use crate::driver::Tap;
use crate::memory::Memory;
use crate::names;
use crate::view::View;
use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// How often a fetch says how far it is.
const SAY_EVERY: Duration = Duration::from_millis(200);

/// What there is beside the records.
#[derive(Debug)]
pub(crate) struct Models {
    pub(super) shelf: Arc<Shelf>,
    catalogue: RwLock<Arc<Catalogue>>,
    fetches: Mutex<BTreeMap<BlobHash, Fetching>>,
    /// Asks the keeper to look.
    pub(super) poke: Notify,
    pub(super) tap: Option<Tap>,
    /// Bytes of slices, with their proofs, since the node started.
    pub(super) sent_bytes: AtomicU64,
    pub(super) received_bytes: AtomicU64,
}

/// A fetch that is under way, or the last of a blob.
#[derive(Clone, Debug)]
pub(super) struct Fetching {
    pub(super) tracker: Tracker,
    pub(super) running: bool,
    pub(super) failed: Option<String>,
}

impl Models {
    /// Of a shelf, with nothing known yet.
    pub(crate) fn of(shelf: Arc<Shelf>, tap: Option<Tap>) -> Self {
        Self {
            shelf,
            catalogue: RwLock::default(),
            fetches: Mutex::default(),
            poke: Notify::new(),
            tap,
            sent_bytes: AtomicU64::new(0),
            received_bytes: AtomicU64::new(0),
        }
    }

    /// The models there are, as they were when that was last looked at.
    pub(super) fn catalogue(&self) -> Arc<Catalogue> {
        let held = self.catalogue.read();
        held.unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set_catalogue(&self, catalogue: Catalogue) {
        let mut held = self
            .catalogue
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        *held = Arc::new(catalogue);
    }

    /// How the fetch of a blob goes, or went last.
    pub(super) fn fetching(&self, blob: &BlobHash) -> Option<Fetching> {
        self.fetches().get(blob).cloned()
    }

    /// Forgets how fetches went whose blobs nobody names any more.
    pub(super) fn forget_fetches(&self, catalogue: &Catalogue) {
        self.fetches()
            .retain(|blob, fetching| fetching.running || catalogue.names(blob));
    }

    /// Begins a fetch, unless one of the same blob is under way.
    fn begin(&self, order: Order) -> Option<Tracker> {
        let mut fetches = self.fetches();
        if fetches.get(&order.blob).is_some_and(|fetch| fetch.running) {
            return None;
        }
        let tracker = Tracker::of(order.bytes);
        let fetching = Fetching {
            tracker: tracker.clone(),
            running: true,
            failed: None,
        };
        fetches.insert(order.blob, fetching);
        Some(tracker)
    }

    fn end(&self, blob: &BlobHash, failed: Option<String>) {
        if let Some(fetching) = self.fetches().get_mut(blob) {
            (fetching.running, fetching.failed) = (false, failed);
        }
    }

    fn fetches(&self) -> MutexGuard<'_, BTreeMap<BlobHash, Fetching>> {
        self.fetches.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends a fetch however it ends, by being dropped too.
struct Running<'m> {
    models: &'m Models,
    blob: BlobHash,
    failed: Option<String>,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.models.end(&self.blob, self.failed.take());
    }
}

impl Wanted {
    /// What is to be fetched.
    pub(super) fn order(&self) -> Order {
        Order {
            topic: self.topic,
            blob: self.manifest.blob,
            bytes: self.manifest.bytes,
            patience: PATIENCE,
        }
    }
}

impl Memory {
    /// What this node is to hold and lacks.
    pub(super) fn wanted(&self, view: &View, catalogue: &Catalogue) -> Vec<Wanted> {
        let me = view.me.node();
        let mut placed = BTreeMap::new();
        let mut wanted = Vec::new();
        for (entry, head) in catalogue.heads() {
            let is_placed = placed
                .entry(entry.topic)
                .or_insert_with(|| view.holders(entry.topic).contains(&me));
            let manifest = &head.manifest;
            let is_due = *is_placed && may_keep_model(view, entry.topic, manifest).is_ok();
            if is_due && self.inner.models.shelf.bytes_of(&manifest.blob).is_none() {
                wanted.push(Wanted {
                    topic: entry.topic,
                    manifest: manifest.clone(),
                    publisher: head.node,
                });
            }
        }
        wanted
    }

    /// Whom to ask for it.
    pub(super) fn source(&self, wanted: &Wanted) -> Source {
        Source {
            memory: self.clone(),
            topic: wanted.topic,
            manifest: wanted.manifest.clone(),
            publisher: wanted.publisher,
        }
    }

    /// Fetches what is wanted, or waits for the fetch that is under way. `tell` is told how far it is.
    pub(super) async fn fetch_model(
        &self,
        wanted: &Wanted,
        stop: &CancellationToken,
        tell: &(dyn Fn(&Progress) + Send + Sync),
    ) -> Result<(), Problem> {
        let (models, order) = (&self.inner.models, wanted.order());
        loop {
            if models.shelf.bytes_of(&order.blob).is_some() {
                let noted = models.shelf.note_topic(&order.blob, order.topic);
                let trouble = |e| self.inner.home.trouble("note a model's topic", &e);
                return noted.map_err(trouble);
            }
            if let Some(tracker) = models.begin(order) {
                return self.run_fetch(wanted, tracker, stop, tell).await;
            }
            if let Some(other) = models.fetching(&order.blob) {
                tell(&other.tracker.now());
            }
            tokio::select! {
                () = stop.cancelled() => return Err(called_off()),
                () = tokio::time::sleep(SAY_EVERY) => {}
            }
        }
    }

    async fn run_fetch(
        &self,
        wanted: &Wanted,
        tracker: Tracker,
        stop: &CancellationToken,
        tell: &(dyn Fn(&Progress) + Send + Sync),
    ) -> Result<(), Problem> {
        let (models, order) = (&self.inner.models, wanted.order());
        let mut running = Running {
            models,
            blob: order.blob,
            failed: Some("it was called off".to_owned()),
        };
        let source = Arc::new(self.source(wanted));
        let (shelf, seen) = (models.shelf.clone(), tracker.clone());
        let job = fetch(shelf, order, source, tracker, stop.clone());
        tokio::pin!(job);
        let ended = loop {
            tokio::select! {
                ended = &mut job => break ended,
                () = tokio::time::sleep(SAY_EVERY) => tell(&seen.now()),
            }
        };
        tell(&seen.now());
        let problem = match ended {
            Ok(()) => {
                running.failed = None;
                return Ok(());
            }
            Err(FetchBlob::Keep(why)) => not_kept(&why),
            Err(FetchBlob::CalledOff) => called_off(),
            Err(FetchBlob::NoHolder { dropped }) => {
                let named = |(node, why): &(_, String)| (names::node(node), why.clone());
                no_holder(&wanted.manifest.name, dropped.iter().map(named).collect())
            }
        };
        running.failed = Some(problem.message.clone());
        Err(problem)
    }
}

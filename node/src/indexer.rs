//! The indexer: keeps the recall index in step with the log, on a thread of its own.
//!
//! The index is derived and lives in memory. It is filled from the store when the node starts and
//! then follows the driver's jobs; [`Indexer::caught_up`] lets a reader wait until it has seen
//! everything committed before the question was asked.

use crate::recall::{Entry, Filter, Hit, Index, Mode};
use crate::view::View;
use aquifer_crdt::memory::Fold;
use aquifer_protocol::body::{Body, Memory};
use aquifer_protocol::identity::digest;
use aquifer_protocol::log;
use aquifer_protocol::store::Store as _;
use aquifer_protocol::{AgentId, Kind, Record, RecordId, Table, TopicId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::watch;

mod queue;

use queue::Queue;

/// So many records are read between two looks at the queue while the index is filled.
const CHUNK: usize = 256;

/// What the driver tells the indexer.
#[derive(Debug)]
pub enum Job {
    /// A memory's version came in.
    Record(Record),
    /// One came in while many waited: it is read back from the store.
    Named(RecordId),
    /// Bodies are gone: look at these records again.
    Gone(Vec<RecordId>),
    /// A topic is gone.
    Withdrawn(TopicId),
}

impl Job {
    /// The same without its record.
    fn lightened(self) -> Self {
        match self {
            Self::Record(record) => Self::Named(record.id()),
            other => other,
        }
    }
}

/// The index and how far it is.
#[derive(Debug)]
pub struct Indexer {
    index: RwLock<Index>,
    /// Content hash → memory, to answer the same text with the same memory.
    known: Mutex<BTreeMap<[u8; 16], RecordId>>,
    queue: Arc<Queue>,
    promised: AtomicU64,
    done: watch::Sender<u64>,
    filled: watch::Sender<bool>,
}

/// What only the indexer's thread needs.
#[derive(Default)]
struct Bench {
    /// A revision's memory, to find it again when the revision's body is gone.
    revised: BTreeMap<RecordId, RecordId>,
    /// Each memory's topic, to empty a topic.
    topics: BTreeMap<TopicId, BTreeSet<RecordId>>,
}

impl Indexer {
    /// Starts the thread, which first reads what `view` holds.
    pub fn start(view: Arc<View>) -> std::io::Result<Arc<Self>> {
        let queue = Arc::new(Queue::default());
        let jobs = queue.clone();
        let indexer = Arc::new(Self {
            index: RwLock::default(),
            known: Mutex::default(),
            queue,
            promised: AtomicU64::new(0),
            done: watch::Sender::new(0),
            filled: watch::Sender::new(false),
        });
        // The thread holds the index weakly: when the node is gone, so is its queue, and it ends.
        let weak = Arc::downgrade(&indexer);
        std::thread::Builder::new()
            .name("indexer".into())
            .spawn(move || {
                let mut bench = Bench::default();
                if let Some(indexer) = weak.upgrade() {
                    indexer.fill(&view, &mut bench);
                }
                drop(view);
                while let Some((some, view)) = jobs.wait() {
                    let Some(indexer) = weak.upgrade() else { break };
                    indexer.work(some, &view, &mut bench);
                }
            })?;
        Ok(indexer)
    }

    /// Says that so many jobs will be submitted: who asks from now on waits for them. A writer that
    /// has its answer finds what it wrote, though the index is told after the answer has left.
    pub fn promise(&self, jobs: usize) {
        self.promised.fetch_add(jobs as u64, Ordering::AcqRel);
    }

    /// Hands over jobs that were promised. Waits while very many wait.
    pub async fn submit(&self, jobs: Vec<Job>, view: &Arc<View>) {
        self.queue.push(jobs, view).await;
    }

    /// Waits until everything promised so far is in the index, at most `patience`. False if it is
    /// not: an answer may then lack the latest.
    pub async fn caught_up(&self, patience: Duration) -> bool {
        let target = self.promised.load(Ordering::Acquire);
        let (mut done, mut filled) = (self.done.subscribe(), self.filled.subscribe());
        let both = async {
            let seen = done.wait_for(|done| *done >= target).await.is_ok();
            seen && filled.wait_for(|filled| *filled).await.is_ok()
        };
        tokio::time::timeout(patience, both).await.unwrap_or(false)
    }

    /// Whether the index has read the whole store.
    pub fn is_filled(&self) -> bool {
        *self.filled.borrow()
    }

    /// Searches; see [`Index::search`].
    pub fn search(&self, query: &str, filter: &Filter, mode: Mode, k: usize) -> Vec<Hit> {
        self.index
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .search(query, filter, mode, k)
    }

    /// How many memories match a filter.
    pub fn count(&self, filter: &Filter) -> usize {
        let index = self.index.read().unwrap_or_else(PoisonError::into_inner);
        usize::try_from(index.statistics("", filter).documents).unwrap_or(usize::MAX)
    }

    /// The memory that says the same under the same topic, author, kind and tags.
    pub fn same(&self, topic: TopicId, author: AgentId, memory: &Memory) -> Option<RecordId> {
        self.known().get(&content(topic, author, memory)).copied()
    }

    /// Remembers what a memory says, before the index has it.
    pub fn note(&self, record: &Record) {
        if let Some(Ok(Body::Memory(memory))) = record.body().map(|b| Body::open(Kind::MEMORY, &b))
        {
            let header = record.header();
            let key = content(header.topic, header.author, &memory);
            self.known().entry(key).or_insert_with(|| record.id());
        }
    }

    /// Forgets that a text was known, if it was known by this memory.
    pub fn unlearn(&self, topic: TopicId, author: AgentId, memory: &Memory) {
        self.known().remove(&content(topic, author, memory));
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<[u8; 16], RecordId>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fill(&self, view: &Arc<View>, bench: &mut Bench) {
        let mut from = Vec::new();
        loop {
            let mut chunk = Vec::with_capacity(CHUNK);
            let read = view
                .snapshot
                .range(Table::Records, &from, None, &mut |key, value| {
                    chunk.push((key.to_vec(), value));
                    chunk.len() < CHUNK
                });
            if let Err(why) = read {
                tracing::error!(target: "aquifer::recall", %why, "the index could not be filled");
                break;
            }
            let Some((last, _)) = chunk.last() else { break };
            from = [last.as_slice(), &[0]].concat();
            for (place, bytes) in &chunk {
                let Some((number, seq)) = log::split_place(place) else {
                    continue;
                };
                // A corrupt record is met, reported and repaired by the replica.
                let Ok(record) = log::read_stored(number, seq, bytes) else {
                    continue;
                };
                if record.header().kind == Kind::MEMORY {
                    self.note(&record);
                }
                self.take(&record, view, bench);
            }
            while let Some((some, view)) = self.queue.try_take() {
                self.work(some, &view, bench);
            }
        }
        self.filled.send_replace(true);
    }

    fn work(&self, jobs: Vec<Job>, view: &View, bench: &mut Bench) {
        let count = jobs.len() as u64;
        for job in jobs {
            self.work_at(job, view, bench);
        }
        self.done.send_modify(|done| *done += count);
    }

    fn work_at(&self, job: Job, view: &View, bench: &mut Bench) {
        match job {
            Job::Record(record) => {
                if record.header().kind == Kind::MEMORY {
                    self.note(&record);
                }
                self.take(&record, view, bench);
            }
            Job::Named(id) => match log::record_by_id(&view.snapshot, &id) {
                Ok(Some(record)) => self.work_at(Job::Record(record), view, bench),
                // Cut off or withdrawn since; the job that says so waits behind this one.
                Ok(None) => {}
                Err(why) => {
                    tracing::warn!(target: "aquifer::recall", %why, "a memory is not in the recall index");
                }
            },
            Job::Gone(ids) => {
                for id in ids {
                    let memory = bench.revised.remove(&id).unwrap_or(id);
                    self.reindex(&memory, view, bench);
                }
            }
            Job::Withdrawn(topic) => {
                let ids = bench.topics.remove(&topic).unwrap_or_default();
                let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
                for id in &ids {
                    index.remove(&id.0);
                }
                self.known().retain(|_, id| !ids.contains(id));
            }
        }
    }

    fn take(&self, record: &Record, view: &View, bench: &mut Bench) {
        let Some(bytes) = record.body() else { return };
        match Body::open(record.header().kind, &bytes) {
            Ok(Body::Memory(memory)) => {
                let topic = record.header().topic;
                bench.topics.entry(topic).or_default().insert(record.id());
                self.insert(
                    &record.id(),
                    record,
                    &memory,
                    record.header().stamp.time().millis(),
                );
                // Revisions may have come first.
                if log::related(&view.snapshot, &record.id()).is_ok_and(|ids| !ids.is_empty()) {
                    self.reindex(&record.id(), view, bench);
                }
            }
            Ok(Body::Revision(revision)) => {
                bench.revised.insert(record.id(), revision.of);
                self.reindex(&revision.of, view, bench);
            }
            _ => {}
        }
    }

    /// Puts a memory into the index as the store has it now, or takes it out.
    fn reindex(&self, id: &RecordId, view: &View, bench: &mut Bench) {
        self.index
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&id.0);
        let Ok(Some((topic, fold))) = view.fold(id) else {
            return;
        };
        let first = first_ms(&fold);
        let mut live = false;
        for version in fold.versions() {
            if let Some(memory) = &version.content {
                self.insert(id, &version.record, memory, first);
                live = true;
            }
        }
        let of_topic = bench.topics.entry(topic).or_default();
        if live {
            of_topic.insert(*id);
        } else {
            of_topic.remove(id);
            self.known().retain(|_, known| known != id);
        }
    }

    fn insert(&self, id: &RecordId, version: &Record, memory: &Memory, first: u64) {
        let header = version.header();
        let entry = Entry {
            id: id.0,
            version_ms: header.stamp.time().millis(),
            topic: header.topic.0,
            author: header.author.0,
            kind: memory.class,
            tags: &memory.tags,
            created_ms: memory.created_at.unwrap_or(first),
            valid_from_ms: memory.valid_from,
            valid_until_ms: memory.valid_until,
            importance: f32::from(memory.importance) / 1_000.0,
            text: &memory.text,
        };
        let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
        if let Err(why) = index.insert(&entry) {
            tracing::warn!(target: "aquifer::recall", %why, "a memory is not in the recall index");
        }
    }
}

impl Drop for Indexer {
    fn drop(&mut self) {
        self.queue.close();
    }
}

fn first_ms(fold: &Fold) -> u64 {
    fold.versions()
        .next()
        .map_or(0, |version| version.record.header().stamp.time().millis())
}

fn content(topic: TopicId, author: AgentId, memory: &Memory) -> [u8; 16] {
    let mut tags: Vec<&[u8]> = memory.tags.iter().map(String::as_bytes).collect();
    tags.sort_unstable();
    let tags = tags.join(&0);
    let parts: [&[u8]; 6] = [
        &topic.0,
        &author.0,
        &[memory.class],
        memory.text.as_bytes(),
        &[0],
        &tags,
    ];
    *digest("aquifer/content/1", &parts)
        .first_chunk()
        .expect("32 bytes hold 16")
}

//! Fetching: the end of `/aquifer/blob/1` that asks.
//!
//! Every holder that may be asked draws slices from one queue, so each gives as much as it can. A few
//! slices are under way with each, which fills the line, and no more, which bounds the memory. A slice
//! is proved before it counts: a holder that lies, is slow or goes away is dropped and named, and its
//! slices go back to the queue. Near the end, idle holders are asked for what a slow one still owes.
//! The law is asked before every request, here as at the other end.

mod queue;
#[cfg(test)]
mod tests;

use super::BlobHash;
use super::part::{AcceptSlice, Part};
use super::shelf::{KeepBlob, Shelf};
use super::tree::Shape;
use super::wire::{Reply, Request};
use crate::clock::Stopwatch;
use crate::net::BlobStream;
use aquifer_protocol::{NodeId, TopicId};
use queue::Queue;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// Holders that are asked at once.
const HOLDERS_MAX: usize = 4;
/// Slices under way with one holder: 4 MiB.
const WINDOW: usize = 4;
/// How long a holder may take for its next slice: it gives 52 KiB a second, or is dropped.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// How long a stream may take to be opened and answered for the first time.
const OPEN_PATIENCE: Duration = Duration::from_secs(10);
/// How often it is looked whether there are more holders.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// After so many slices the disk is looked at: 64 MiB.
const LOOK_FOR_ROOM_EVERY: u64 = 64;
/// A node that did not have it is asked again after this time: it may have fetched it itself.
const ASK_AGAIN: Duration = Duration::from_secs(5);
/// How often an idle holder looks whether another owes something for too long.
const GLANCE: Duration = Duration::from_millis(500);

/// What comes of an attempt to open a stream: why not, in words.
pub(crate) type Opening<'a> = Pin<Box<dyn Future<Output = Result<BlobStream, String>> + Send + 'a>>;

/// Whom to ask.
pub(crate) trait Holders: Send + Sync + 'static {
    /// Nodes that may be asked at this moment, best first.
    fn candidates(&self) -> Vec<NodeId>;
    /// Whether the law of this moment lets this node have it, and that node give it.
    fn allowed(&self, node: &NodeId) -> Result<(), String>;
    /// A stream to a node.
    fn open(&self, node: NodeId) -> Opening<'_>;
    /// Sees what came.
    fn got(&self, from: &NodeId, bytes: &[u8]);
}

/// What is to be fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Order {
    /// For whose sake.
    pub(crate) topic: TopicId,
    /// What.
    pub(crate) blob: BlobHash,
    /// How long it is, as its model's manifest says.
    pub(crate) bytes: u64,
    /// How long a holder may take for its next slice.
    pub(crate) patience: Duration,
}

/// How far a fetch is. Cheap to clone; all clones see the same.
#[derive(Clone, Debug)]
pub(crate) struct Tracker(Arc<Mutex<Progress>>);

/// How far a fetch is.
#[derive(Clone, Debug)]
pub(crate) struct Progress {
    /// Bytes of the blob.
    pub(crate) total_bytes: u64,
    /// Bytes that were here and proved when it began.
    pub(crate) had_bytes: u64,
    /// Bytes that are here and proved.
    pub(crate) done_bytes: u64,
    /// Bytes that came though they were here already.
    pub(crate) again_bytes: u64,
    /// Bytes that came, with their proofs.
    pub(crate) wire_bytes: u64,
    /// Bytes by whom they came from.
    pub(crate) from: BTreeMap<NodeId, u64>,
    /// Holders that are asked no more, and why.
    pub(crate) dropped: Vec<(NodeId, String)>,
    /// Since it began; and how long it took, once it ended.
    began: Stopwatch,
    took: Option<Duration>,
}

/// Why a blob was not fetched. What was proved of it stays.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchBlob {
    /// Nobody who may be asked gave it.
    #[error("no node that may give it has it within reach")]
    NoHolder {
        /// Who was asked, and what came of it.
        dropped: Vec<(NodeId, String)>,
    },
    /// It cannot be kept here.
    #[error(transparent)]
    Keep(#[from] KeepBlob),
    /// It was called off.
    #[error("it was called off")]
    CalledOff,
}

impl Order {
    fn request(self, first: u64, groups: u32) -> Request {
        Request {
            topic: self.topic,
            blob: self.blob,
            first,
            groups,
        }
    }
}

impl Tracker {
    /// Of a blob of `bytes` bytes, of which nothing is known yet.
    pub(crate) fn of(bytes: u64) -> Self {
        Self(Arc::new(Mutex::new(Progress {
            total_bytes: bytes,
            had_bytes: 0,
            done_bytes: 0,
            again_bytes: 0,
            wire_bytes: 0,
            from: BTreeMap::new(),
            dropped: Vec::new(),
            began: Stopwatch::start(),
            took: None,
        })))
    }

    /// As it stands.
    pub(crate) fn now(&self) -> Progress {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Progress> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Progress {
    /// New bytes a second since it began.
    pub(crate) fn bytes_per_second(&self) -> u64 {
        let seconds = self
            .took
            .unwrap_or_else(|| self.began.elapsed())
            .as_secs_f64();
        ((self.done_bytes - self.had_bytes) as f64 / seconds.max(0.001)) as u64
    }
}

/// Fetches a blob, or what is missing of it, and puts it on the shelf.
///
/// # Errors
/// [`FetchBlob`].
pub(crate) async fn fetch(
    shelf: Arc<Shelf>,
    order: Order,
    holders: Arc<dyn Holders>,
    tracker: Tracker,
    stop: CancellationToken,
) -> Result<(), FetchBlob> {
    let _hold = shelf.hold(order.blob);
    let part = {
        let shelf = shelf.clone();
        blocking(move || {
            shelf.note_topic(&order.blob, order.topic)?;
            shelf.part(order.blob, order.bytes)
        })
        .await?
    };
    let found = part.found_bytes;
    if part.spoilt_bytes > 0 {
        tracing::warn!(target: "aquifer::blob::spoilt", blob = %order.blob, bytes = part.spoilt_bytes,
            "a map claimed bytes that are not there: they are fetched again");
    }
    {
        let mut progress = tracker.lock();
        (progress.had_bytes, progress.done_bytes) = (found, found);
    }
    let job = Arc::new(Job {
        queue: Queue::of(part.missing()),
        part: Arc::new(part),
        order,
        shelf: shelf.clone(),
        holders,
        tracker: tracker.clone(),
    });
    let drawn = job.clone().draw_from_all(&stop).await;
    {
        let mut progress = tracker.lock();
        progress.took = Some(progress.began.elapsed());
    }
    drawn?;
    blocking(move || Ok(job.part.finish()?)).await?;
    Ok(())
}

/// Whether `node` says that it has the blob, whole; if not, why not, in words.
///
/// # Errors
/// Why not.
pub(crate) async fn has(holders: &dyn Holders, order: Order, node: NodeId) -> Result<(), String> {
    stream_to(holders, order, node).await.map(drop)
}

/// A stream to a holder that says it has the blob.
async fn stream_to(
    holders: &dyn Holders,
    order: Order,
    node: NodeId,
) -> Result<BlobStream, String> {
    holders.allowed(&node)?;
    let late = |_| "it did not answer in time".to_owned();
    let mut stream = timeout(OPEN_PATIENCE, holders.open(node))
        .await
        .map_err(late)??;
    let first = async {
        order.request(0, 0).write(&mut stream).await?;
        stream.flush().await?;
        Reply::read(&mut stream).await
    };
    let reply = timeout(OPEN_PATIENCE, first).await.map_err(late)?;
    match reply.map_err(|error| broken(&error))? {
        Reply::Here(bytes) if bytes == order.bytes => Ok(stream),
        Reply::Here(bytes) => Err(format!(
            "it has {bytes} bytes of that name, the manifest says {}",
            order.bytes
        )),
        Reply::Slice(_) => Err("it answered what was not asked".to_owned()),
        other => Err(refusal(&other)),
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, KeepBlob> + Send + 'static,
) -> Result<T, KeepBlob> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(_) => Err(KeepBlob::CalledOff),
    }
}

struct Job {
    queue: Queue,
    part: Arc<Part>,
    order: Order,
    shelf: Arc<Shelf>,
    holders: Arc<dyn Holders>,
    tracker: Tracker,
}

/// A slice that is being proved and written.
struct Proving {
    groups: Range<u64>,
    task: JoinHandle<Result<u64, AcceptSlice>>,
}

/// Why a holder is drawn from no more.
enum Ended {
    /// There is nothing left to ask for.
    Done,
    /// For a reason of its own, in words.
    Dropped(String),
    /// It has nothing to give now, and may have later.
    Later(String),
    /// This node cannot keep what it gives.
    Full(KeepBlob),
}

impl Job {
    async fn draw_from_all(self: Arc<Self>, stop: &CancellationToken) -> Result<(), FetchBlob> {
        let mut workers = JoinSet::new();
        // Holders that were asked; and since when, for one that may have it later.
        let mut asked: BTreeMap<NodeId, Option<Stopwatch>> = BTreeMap::new();
        loop {
            if self.queue.is_done() {
                return Ok(());
            }
            for node in self.holders.candidates() {
                let is_due = match asked.get(&node) {
                    None => true,
                    Some(since) => since.is_some_and(|since| since.elapsed() >= ASK_AGAIN),
                };
                if workers.len() < HOLDERS_MAX && is_due {
                    asked.insert(node, None);
                    let job = self.clone();
                    workers.spawn(async move { (node, job.draw(node).await) });
                }
            }
            if workers.is_empty() {
                let dropped = self.tracker.now().dropped;
                return Err(FetchBlob::NoHolder { dropped });
            }
            tokio::select! {
                () = stop.cancelled() => return Err(FetchBlob::CalledOff),
                // A worker that panicked is a bug, told by its panic; its slices are lost with it.
                Some(Ok((node, ended))) = workers.join_next() => {
                    if let Ended::Later(_) = &ended {
                        asked.insert(node, Some(Stopwatch::start()));
                    }
                    self.note(node, ended)?;
                }
                () = self.queue.changed() => {}
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
    }

    fn note(&self, node: NodeId, ended: Ended) -> Result<(), FetchBlob> {
        match ended {
            Ended::Done => {}
            Ended::Dropped(why) | Ended::Later(why) => {
                tracing::info!(target: "aquifer::blob::dropped", peer = ?node, blob = %self.order.blob, %why);
                let mut progress = self.tracker.lock();
                progress.dropped.retain(|(other, _)| *other != node);
                progress.dropped.push((node, why));
            }
            Ended::Full(why) => return Err(FetchBlob::Keep(why)),
        }
        Ok(())
    }

    /// Draws slices from one holder until there are none left or it fails.
    async fn draw(&self, node: NodeId) -> Ended {
        let mut mine = VecDeque::new();
        let ended = match stream_to(&*self.holders, self.order, node).await {
            Ok(stream) => self.draw_slices(node, stream, &mut mine).await,
            Err(why) => Ended::Later(why),
        };
        mine.into_iter().for_each(|groups| self.queue.back(groups));
        ended
    }

    /// `mine` is what is under way with this holder: asked for, or being proved.
    async fn draw_slices(
        &self,
        node: NodeId,
        mut stream: BlobStream,
        mine: &mut VecDeque<Range<u64>>,
    ) -> Ended {
        let mut proving: Option<Proving> = None;
        loop {
            let read = match self.ask_for_more(&node, &mut stream, mine).await {
                Err(ended) => Err(ended),
                Ok(()) => match mine.get(usize::from(proving.is_some())).cloned() {
                    None => Ok(None),
                    Some(groups) => {
                        let read = self.read_slice(&node, &mut stream).await;
                        read.map(|bytes| Some((groups, bytes)))
                    }
                },
            };
            // One is proved while the next is read; and it counts, whatever becomes of its holder.
            if let Some(before) = proving.take()
                && let Err(ended) = self.settle(&node, before, mine).await
            {
                return ended;
            }
            match read {
                Err(ended) => return ended,
                Ok(Some((groups, bytes))) => proving = Some(self.prove(groups, bytes)),
                Ok(None) if self.queue.is_done() => return Ended::Done,
                Ok(None) if mine.is_empty() => {
                    let _ = timeout(GLANCE, self.queue.changed()).await;
                }
                Ok(None) => {}
            }
        }
    }

    async fn ask_for_more(
        &self,
        node: &NodeId,
        stream: &mut BlobStream,
        mine: &mut VecDeque<Range<u64>>,
    ) -> Result<(), Ended> {
        let before = mine.len();
        while mine.len() < WINDOW {
            let Some(groups) = self.queue.take(mine) else {
                break;
            };
            let count = (groups.end - groups.start) as u32;
            let request = self.order.request(groups.start, count);
            mine.push_back(groups);
            self.holders.allowed(node).map_err(Ended::Dropped)?;
            request.write(stream).await.map_err(|e| gone(&e))?;
        }
        if mine.len() > before {
            stream.flush().await.map_err(|e| gone(&e))?;
        }
        Ok(())
    }

    async fn read_slice(&self, node: &NodeId, stream: &mut BlobStream) -> Result<Vec<u8>, Ended> {
        let patience = self.order.patience;
        let reply = timeout(patience, Reply::read(stream)).await.map_err(|_| {
            let seconds = patience.as_secs();
            Ended::Dropped(format!("it is slow: no slice within {seconds} s"))
        })?;
        match reply.map_err(|e| gone(&e))? {
            Reply::Slice(bytes) => {
                self.holders.got(node, &bytes);
                self.tracker.lock().wire_bytes += bytes.len() as u64;
                Ok(bytes)
            }
            Reply::Here(_) => Err(Ended::Dropped("it answered what was not asked".to_owned())),
            other => Err(Ended::Dropped(refusal(&other))),
        }
    }

    fn prove(&self, groups: Range<u64>, bytes: Vec<u8>) -> Proving {
        let (part, slice) = (self.part.clone(), groups.clone());
        let task = tokio::task::spawn_blocking(move || part.accept(&slice, &bytes));
        Proving { groups, task }
    }

    async fn settle(
        &self,
        node: &NodeId,
        proving: Proving,
        mine: &mut VecDeque<Range<u64>>,
    ) -> Result<(), Ended> {
        let groups = proving.groups;
        let Ok(accepted) = proving.task.await else {
            return Err(Ended::Full(KeepBlob::CalledOff));
        };
        let fresh = match accepted {
            Ok(fresh) => fresh,
            Err(AcceptSlice::Open(why)) => {
                return Err(Ended::Dropped(format!("it lies, or its disk does: {why}")));
            }
            Err(AcceptSlice::Write(error)) => return Err(Ended::Full(error.into())),
        };
        let span = Shape::of(self.order.bytes).span(&groups);
        mine.pop_front();
        {
            let mut progress = self.tracker.lock();
            progress.done_bytes += fresh;
            progress.again_bytes += (span.end - span.start) - fresh;
            *progress.from.entry(*node).or_default() += fresh;
        }
        self.queue.done(&groups);
        if self.queue.settled().is_multiple_of(LOOK_FOR_ROOM_EVERY) {
            let missing = self
                .order
                .bytes
                .saturating_sub(self.tracker.now().done_bytes);
            self.shelf.expect_room(missing).map_err(Ended::Full)?;
        }
        Ok(())
    }
}

fn gone(error: &io::Error) -> Ended {
    Ended::Dropped(broken(error))
}

fn broken(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::InvalidData => format!("it breaks the protocol: {error}"),
        _ => format!("the stream broke: {error}"),
    }
}

fn refusal(reply: &Reply) -> String {
    match reply {
        Reply::Denied(why) => format!("it may not give it: {why}"),
        Reply::Busy => "it is busy".to_owned(),
        _ => "it does not have it".to_owned(),
    }
}

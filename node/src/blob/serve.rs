//! Serving: the end of `/aquifer/blob/1` that answers.
//!
//! One stream is answered one request after the other, so a peer that does not read makes only itself
//! wait, and a stream holds one slice in memory at a time. The law is asked for every request: a
//! policy that narrows ends a transfer in the middle. Only whole blobs are given.

use super::BlobHash;
use super::files::Files;
use super::shelf::Shelf;
use super::tree::{self, Shape};
use super::wire::{Reply, Request};
use crate::net::{BLOB_STREAMS_MAX, BlobPeer, BlobStream};
use aquifer_protocol::{NodeId, TopicId};
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// Streams that one peer may have answered at once.
const STREAMS_PER_PEER_MAX: usize = 4;
/// How long a stream may be silent, and how long a slice may take to leave.
const PATIENCE: Duration = Duration::from_secs(60);

const _: () = assert!(STREAMS_PER_PEER_MAX <= BLOB_STREAMS_MAX);

/// Who may be given what, and from where.
pub(crate) trait Giver: Send + Sync + 'static {
    /// Whether `to` may be given a blob for the sake of `topic`, by the law of this moment.
    fn may_give(&self, to: &NodeId, topic: TopicId, blob: &BlobHash) -> Result<(), NotGiven>;
    /// The blobs.
    fn shelf(&self) -> &Arc<Shelf>;
    /// Sees what leaves.
    fn gave(&self, to: &NodeId, bytes: &[u8]);
}

/// Why a blob is not given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NotGiven {
    /// The law forbids it: the rule in words.
    Denied(String),
    /// No model of that topic names it.
    Unnamed,
}

/// Answers the streams that peers open, until the node stops.
pub(crate) async fn serve(
    giver: Arc<dyn Giver>,
    mut streams: mpsc::Receiver<BlobPeer>,
    stop: CancellationToken,
) {
    let open: Arc<Mutex<BTreeMap<NodeId, usize>>> = Arc::default();
    loop {
        let opened = tokio::select! {
            () = stop.cancelled() => return,
            opened = streams.recv() => opened,
        };
        let Some(BlobPeer { from, stream }) = opened else {
            return;
        };
        let from = NodeId(from);
        let Some(seat) = Seat::take(&open, from) else {
            // It sees the stream end, and may try again.
            continue;
        };
        let (giver, stop) = (giver.clone(), stop.clone());
        tokio::spawn(async move {
            let _seat = seat;
            let ended = tokio::select! {
                () = stop.cancelled() => return,
                ended = answer(&*giver, from, stream) => ended,
            };
            if let Err(error) = ended {
                tracing::debug!(target: "aquifer::blob::serve", peer = ?from, %error);
            }
        });
    }
}

/// A place among the streams that are answered.
struct Seat {
    open: Arc<Mutex<BTreeMap<NodeId, usize>>>,
    peer: NodeId,
}

impl Seat {
    fn take(open: &Arc<Mutex<BTreeMap<NodeId, usize>>>, peer: NodeId) -> Option<Self> {
        let mut counts = open.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = counts.values().sum();
        let of_peer = counts.entry(peer).or_default();
        if all >= BLOB_STREAMS_MAX || *of_peer >= STREAMS_PER_PEER_MAX {
            return None;
        }
        *of_peer += 1;
        drop(counts);
        let open = open.clone();
        Some(Self { open, peer })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut counts = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.peer) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.peer);
            }
        }
    }
}

/// Answers one stream until its other end closes it.
///
/// # Errors
/// The stream's, and `TimedOut` for a peer that is silent or does not read.
pub(crate) async fn answer(
    giver: &dyn Giver,
    to: NodeId,
    mut stream: BlobStream,
) -> io::Result<()> {
    let mut opened: Option<(BlobHash, Arc<(Shape, Files)>)> = None;
    loop {
        let request = timeout(PATIENCE, Request::read(&mut stream)).await;
        let Some(request) = request.map_err(|_| io::ErrorKind::TimedOut)?? else {
            return Ok(());
        };
        let reply = reply_to(giver, &to, request, &mut opened).await;
        if let Reply::Slice(bytes) = &reply {
            giver.gave(&to, bytes);
        }
        timeout(PATIENCE, reply.write(&mut stream))
            .await
            .map_err(|_| io::ErrorKind::TimedOut)??;
    }
}

async fn reply_to(
    giver: &dyn Giver,
    to: &NodeId,
    request: Request,
    opened: &mut Option<(BlobHash, Arc<(Shape, Files)>)>,
) -> Reply {
    let Request {
        topic,
        blob,
        first,
        groups,
    } = request;
    match giver.may_give(to, topic, &blob) {
        Ok(()) => {}
        Err(NotGiven::Denied(why)) => return Reply::Denied(why),
        Err(NotGiven::Unnamed) => return Reply::Absent,
    }
    if opened.as_ref().is_none_or(|(name, _)| *name != blob) {
        // Held open, it can be read to the end even if it is removed meanwhile; removing it ends the
        // right to it, which is asked above.
        *opened = giver
            .shelf()
            .read(&blob)
            .ok()
            .map(|files| (blob, Arc::new(files)));
    }
    let Some((_, files)) = opened else {
        return Reply::Absent;
    };
    let shape = files.0;
    if groups == 0 {
        return Reply::Here(shape.bytes());
    }
    let Some(end) = first.checked_add(groups.into()) else {
        return Reply::Absent;
    };
    if end > shape.groups() {
        return Reply::Absent;
    }
    let files = files.clone();
    let encode = move || tree::encode(shape, &(first..end), &files.1);
    match tokio::task::spawn_blocking(encode).await {
        Ok(Ok(bytes)) => Reply::Slice(bytes),
        Ok(Err(error)) => {
            tracing::warn!(target: "aquifer::blob::unreadable", %blob, %error);
            Reply::Absent
        }
        Err(_) => Reply::Busy,
    }
}

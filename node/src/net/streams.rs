//! `/aquifer/sync/1`: frames between two admitted peers.
//!
//! Each side opens one stream for the frames it sends, so a slow direction never holds up the
//! other. On the wire: the accepting side sends one byte (`READY`) once it will read; then the
//! opening side sends frames, each a 4-byte big-endian length and at most 1 MiB of bytes. The
//! ready byte is what makes the start lossless: a stream that fell between two chairs (the peer
//! restarted, or had not finished admitting us) is noticed before a frame is trusted to it.
//!
//! Sending is a bounded queue: when it is full the frame is dropped and counted, and anti-entropy
//! heals the loss. Receiving is backpressure: a reader waits for room in the node's event queue,
//! and flow control makes the peer wait in turn. Neither side reads what a frame says.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use libp2p::futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use libp2p::{PeerId, Stream, StreamProtocol};
use libp2p_stream::{Control, IncomingStreams};
use thiserror::Error;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

/// The protocol's name on the wire.
pub(super) const SYNC_PROTOCOL: StreamProtocol = StreamProtocol::new("/aquifer/sync/1");

/// Longest frame, bytes, without its length prefix.
pub const FRAME_BYTES_MAX: usize = 1 << 20;

/// Frames that may wait to be sent to one peer.
pub const QUEUE_FRAMES_MAX: usize = 64;

/// Bytes that may wait to be sent to one peer.
pub const QUEUE_BYTES_MAX: usize = 8 << 20;

/// Frames read but not yet taken by the swarm task, all peers together.
const HEARD_FRAMES_MAX: usize = 16;

/// Bytes of a frame allocated on the peer's word alone; the rest grows as it arrives.
const FRAME_TRUST_BYTES: usize = 64 * 1024;

/// A frame whose length has arrived must arrive whole within this time.
const FRAME_TIMEOUT: Duration = Duration::from_secs(60);

/// How long an opened stream may wait for its ready byte.
const READY_TIMEOUT: Duration = Duration::from_secs(10);

/// Pause before a failed stream is opened again: the first and the longest.
const REOPEN_FIRST: Duration = Duration::from_millis(100);
const REOPEN_LONGEST: Duration = Duration::from_secs(5);

/// Sent by the accepting side when it starts to read.
const READY: u8 = 1;

const _: () = assert!(FRAME_BYTES_MAX <= QUEUE_BYTES_MAX && FRAME_BYTES_MAX < u32::MAX as usize);

/// Everything the swarm task needs to speak and hear frames.
pub(super) struct Streams {
    control: Control,
    /// Streams that admitted peers opened; each waits to be given a reader.
    pub(super) incoming: IncomingStreams,
    /// What the readers read, in the order of each peer.
    pub(super) heard: mpsc::Receiver<Heard>,
    hearing: mpsc::Sender<Heard>,
}

/// What a reader reports.
pub(super) struct Heard {
    /// Who sent it.
    pub(super) from: PeerId,
    /// The session the reader belongs to; reports of a past session are void.
    pub(super) session: u64,
    /// The frame, or why no more will come from a peer that broke the protocol.
    pub(super) frame: Result<Bytes, ReadFrame>,
}

/// Why a frame could not be read.
#[derive(Debug, Error)]
pub enum ReadFrame {
    /// The peer announced more bytes than any frame may have.
    #[error("a frame of {claimed} bytes was announced, at most {FRAME_BYTES_MAX} are allowed")]
    TooLong {
        /// The announced length.
        claimed: usize,
    },
    /// The frame stopped arriving half way.
    #[error("a frame stopped arriving")]
    Stalled,
    /// The stream ended or failed.
    #[error("the frame stream failed")]
    Io(#[from] io::Error),
}

/// What passed between us and one peer since it connected.
#[derive(Debug, Default)]
pub(super) struct Meter {
    /// Frames dropped because the queue was full, or the session ended before their turn.
    pub(super) dropped: AtomicU64,
    /// Bytes received in whole frames, prefixes included.
    pub(super) bytes_in: AtomicU64,
    /// Bytes sent in whole frames, prefixes included.
    pub(super) bytes_out: AtomicU64,
}

/// A task that ends when its owner lets go of it.
pub(super) struct Reader {
    _task: AbortOnDrop,
}

/// The sending half of one peer: a bounded queue and the task that empties it.
pub(super) struct Writer {
    queue: mpsc::Sender<Bytes>,
    waiting: Arc<Waiting>,
    meter: Arc<Meter>,
    _task: AbortOnDrop,
}

/// What waits in one writer's queue, the frame being sent included.
#[derive(Debug, Default)]
struct Waiting {
    frames: AtomicUsize,
    bytes: AtomicUsize,
}

struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Streams {
    /// Registers the protocol with `control`, the handle of a fresh stream behaviour.
    pub(super) fn new(mut control: Control) -> Self {
        let incoming = control
            .accept(SYNC_PROTOCOL)
            .expect("registered once per swarm");
        let (hearing, heard) = mpsc::channel(HEARD_FRAMES_MAX);
        Self {
            control,
            incoming,
            heard,
            hearing,
        }
    }

    /// Starts to send to `peer`. Its connection must be open at the gate.
    pub(super) fn writer(&self, peer: PeerId, meter: Arc<Meter>) -> Writer {
        let (queue, frames) = mpsc::channel(QUEUE_FRAMES_MAX);
        let waiting = Arc::new(Waiting::default());
        let sending = Sending {
            frames,
            waiting: waiting.clone(),
            meter: meter.clone(),
        };
        let task = tokio::spawn(write_frames(self.control.clone(), peer, sending));
        Writer {
            queue,
            waiting,
            meter,
            _task: AbortOnDrop(task),
        }
    }

    /// Starts to read `stream`, opened by `peer`.
    pub(super) fn reader(
        &self,
        peer: PeerId,
        session: u64,
        stream: Stream,
        meter: Arc<Meter>,
    ) -> Reader {
        let hearing = self.hearing.clone();
        let task = tokio::spawn(async move {
            if let Err(error) = read_frames(peer, session, stream, &meter, &hearing).await {
                let _ = hearing
                    .send(Heard {
                        from: peer,
                        session,
                        frame: Err(error),
                    })
                    .await;
            }
        });
        Reader {
            _task: AbortOnDrop(task),
        }
    }
}

impl Writer {
    /// Queues a frame; a frame that finds no room is dropped and counted. True if queued.
    pub(super) fn send(&self, frame: Bytes) -> bool {
        let length = frame.len();
        let fits = length <= FRAME_BYTES_MAX
            && self.waiting.bytes.load(Ordering::Relaxed) + length <= QUEUE_BYTES_MAX;
        // Counted before it is queued, so that the writer never counts below zero.
        self.waiting.enter(length);
        if fits && self.queue.try_send(frame).is_ok() {
            return true;
        }
        self.waiting.leave(length);
        self.meter.dropped.fetch_add(1, Ordering::Relaxed);
        false
    }

    /// Frames waiting to be sent.
    pub(super) fn queued(&self) -> usize {
        self.waiting.frames.load(Ordering::Relaxed)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.meter
            .dropped
            .fetch_add(self.queued() as u64, Ordering::Relaxed);
    }
}

impl Waiting {
    fn enter(&self, length: usize) {
        self.frames.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(length, Ordering::Relaxed);
    }

    fn leave(&self, length: usize) {
        self.frames.fetch_sub(1, Ordering::Relaxed);
        self.bytes.fetch_sub(length, Ordering::Relaxed);
    }
}

/// The writer task's end of the queue.
struct Sending {
    frames: mpsc::Receiver<Bytes>,
    waiting: Arc<Waiting>,
    meter: Arc<Meter>,
}

/// Opens the stream, sends, and opens it again whenever it fails; ends with the queue.
async fn write_frames(mut control: Control, peer: PeerId, mut sending: Sending) {
    let mut pause = REOPEN_FIRST;
    let mut unsent = None;
    loop {
        let before = sending.meter.bytes_out.load(Ordering::Relaxed);
        let opened = timeout(READY_TIMEOUT, open(&mut control, peer)).await;
        let ended = match opened {
            Ok(Ok(stream)) => pump(stream, &mut sending, &mut unsent).await,
            Ok(Err(error)) => Err(error),
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        };
        match ended {
            Ok(()) => return,
            Err(error) => tracing::debug!(%peer, %error, "frame stream down"),
        }
        if sending.meter.bytes_out.load(Ordering::Relaxed) > before {
            pause = REOPEN_FIRST;
        }
        sleep(pause).await;
        pause = REOPEN_LONGEST.min(pause * 2);
    }
}

/// A stream whose other end has said that it reads.
async fn open(control: &mut Control, peer: PeerId) -> io::Result<Stream> {
    let mut stream = control
        .open_stream(peer, SYNC_PROTOCOL)
        .await
        .map_err(io::Error::other)?;
    let mut byte = [0];
    stream.read_exact(&mut byte).await?;
    if byte != [READY] {
        return Err(io::ErrorKind::InvalidData.into());
    }
    Ok(stream)
}

/// Sends until the queue ends (`Ok`) or the stream fails. `unsent` survives into the next stream.
async fn pump(stream: Stream, sending: &mut Sending, unsent: &mut Option<Bytes>) -> io::Result<()> {
    let (mut reading, mut writing) = stream.split();
    loop {
        let frame = match unsent.take() {
            Some(frame) => frame,
            None => match next(&mut sending.frames, &mut reading, &mut writing).await? {
                Some(frame) => frame,
                None => return writing.close().await,
            },
        };
        *unsent = Some(frame.clone());
        let length = u32::try_from(frame.len()).expect("checked when queued");
        writing.write_all(&length.to_be_bytes()).await?;
        writing.write_all(&frame).await?;
        *unsent = None;
        sending.waiting.leave(frame.len());
        sending
            .meter
            .bytes_out
            .fetch_add(u64::from(length) + 4, Ordering::Relaxed);
    }
}

/// The next frame to send. Flushes before it waits, and notices if the peer hangs up meanwhile.
async fn next(
    frames: &mut mpsc::Receiver<Bytes>,
    reading: &mut (impl AsyncRead + Unpin),
    writing: &mut (impl AsyncWrite + Unpin),
) -> io::Result<Option<Bytes>> {
    if let Ok(frame) = frames.try_recv() {
        return Ok(Some(frame));
    }
    writing.flush().await?;
    let mut byte = [0];
    tokio::select! {
        frame = frames.recv() => Ok(frame),
        // Nothing but the end may come back on this stream.
        _ = reading.read(&mut byte) => Err(io::ErrorKind::ConnectionReset.into()),
    }
}

/// Reads frames until the stream ends (`Ok`) or breaks the protocol.
async fn read_frames(
    from: PeerId,
    session: u64,
    mut stream: Stream,
    meter: &Meter,
    hearing: &mpsc::Sender<Heard>,
) -> Result<(), ReadFrame> {
    let ready = async {
        stream.write_all(&[READY]).await?;
        stream.flush().await
    };
    if ready.await.is_err() {
        return Ok(());
    }
    loop {
        let frame = match read_frame(&mut stream).await {
            // A peer that goes away is no offence: it will open another stream.
            Ok(None) | Err(ReadFrame::Io(_)) => return Ok(()),
            Ok(Some(frame)) => frame,
            Err(error) => return Err(error),
        };
        meter
            .bytes_in
            .fetch_add(frame.len() as u64 + 4, Ordering::Relaxed);
        if hearing
            .send(Heard {
                from,
                session,
                frame: Ok(frame),
            })
            .await
            .is_err()
        {
            return Ok(());
        }
    }
}

/// One frame; `None` at the end of the stream.
async fn read_frame(stream: &mut (impl AsyncRead + Unpin)) -> Result<Option<Bytes>, ReadFrame> {
    let mut prefix = [0; 4];
    match stream.read_exact(&mut prefix).await {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    let claimed = u32::from_be_bytes(prefix) as usize;
    if claimed > FRAME_BYTES_MAX {
        return Err(ReadFrame::TooLong { claimed });
    }
    let mut frame = Vec::with_capacity(claimed.min(FRAME_TRUST_BYTES));
    let mut body = stream.take(claimed as u64);
    let read = timeout(FRAME_TIMEOUT, body.read_to_end(&mut frame)).await;
    read.map_err(|_| ReadFrame::Stalled)??;
    if frame.len() < claimed {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
    }
    Ok(Some(frame.into()))
}

#[cfg(test)]
mod tests {
    use libp2p::futures::io::Cursor;

    use super::*;

    fn wire(parts: &[&[u8]]) -> Cursor<Vec<u8>> {
        Cursor::new(parts.concat())
    }

    #[tokio::test]
    async fn frames_are_read_in_order_until_the_stream_ends() {
        let mut wire = wire(&[&[0, 0, 0, 3], b"one", &[0, 0, 0, 0], &[0, 0, 0, 1], b"3"]);
        let mut seen = Vec::new();
        while let Some(frame) = read_frame(&mut wire).await.expect("well formed") {
            seen.push(frame);
        }
        assert_eq!(
            vec![Bytes::from("one"), Bytes::new(), Bytes::from("3")],
            seen
        );
    }

    #[tokio::test]
    async fn a_frame_longer_than_allowed_is_refused_by_its_length_alone() {
        let claimed = FRAME_BYTES_MAX + 1;
        let mut wire = wire(&[&u32::try_from(claimed).expect("small").to_be_bytes()]);
        let error = read_frame(&mut wire).await.expect_err("too long");
        assert!(matches!(error, ReadFrame::TooLong { claimed: c } if c == claimed));
    }

    #[tokio::test]
    async fn a_frame_cut_short_is_an_error_not_a_short_frame() {
        let mut wire = wire(&[&[0, 0, 0, 9], b"short"]);
        assert!(matches!(read_frame(&mut wire).await, Err(ReadFrame::Io(_))));
    }

    #[tokio::test]
    async fn a_full_queue_drops_and_counts() {
        let meter = Arc::new(Meter::default());
        let (queue, mut frames) = mpsc::channel(QUEUE_FRAMES_MAX);
        let task = AbortOnDrop(tokio::spawn(async {}));
        let waiting = Arc::new(Waiting::default());
        let writer = Writer {
            queue,
            waiting: waiting.clone(),
            meter: meter.clone(),
            _task: task,
        };
        for _ in 0..8 {
            assert!(writer.send(Bytes::from(vec![0; FRAME_BYTES_MAX])));
        }
        assert!(
            !writer.send(Bytes::from("one byte too many")),
            "the byte limit holds"
        );
        assert!(
            !writer.send(Bytes::from(vec![0; FRAME_BYTES_MAX + 1])),
            "no oversize frame"
        );
        assert_eq!(8, writer.queued());
        assert_eq!(2, meter.dropped.load(Ordering::Relaxed));

        while let Ok(frame) = frames.try_recv() {
            waiting.leave(frame.len());
        }
        for _ in 0..QUEUE_FRAMES_MAX {
            assert!(writer.send(Bytes::from("small")));
        }
        assert!(
            !writer.send(Bytes::from("one too many")),
            "the frame limit holds"
        );
        assert_eq!(3, meter.dropped.load(Ordering::Relaxed));

        drop(writer);
        let lost = 3 + QUEUE_FRAMES_MAX as u64;
        assert_eq!(
            lost,
            meter.dropped.load(Ordering::Relaxed),
            "the unsent count as dropped"
        );
    }
}

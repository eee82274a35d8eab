//! Roads: a transport inside one process that delays, and does nothing else.
//!
//! What is written at one end can be read at the other after the time that the way takes, in order. A
//! thread of its own hands it over, since timers of the runtime are a millisecond apart. How long it
//! then lies there until somebody reads it is written down: that is the machine's doing.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use libp2p::Multiaddr;
use libp2p::core::transport::{DialOpts, ListenerId, Transport, TransportError, TransportEvent};
use libp2p::futures::future::{Ready, ready};
use libp2p::futures::{AsyncRead, AsyncWrite};
use libp2p::multiaddr::Protocol;
use tokio::sync::mpsc;

use super::{ROOM, lock};

/// How long the way between two nodes is, if there is one: the same in both directions.
pub(super) type Way = Box<dyn Fn(u32, u32) -> Option<Duration> + Send + Sync>;

/// All roads of a play.
pub(super) struct Town(Arc<Map>);

struct Map {
    way: Way,
    doors: Mutex<HashMap<u32, mpsc::Sender<(u32, Pipe)>>>,
    post: Mutex<Post>,
    bell: Condvar,
    lags: Lags,
}

/// What is on its way.
#[derive(Default)]
struct Post {
    letters: BinaryHeap<Reverse<Letter>>,
    sent: u64,
    closed: bool,
}

struct Letter {
    due: Instant,
    number: u64,
    to: Arc<Mutex<Inbox>>,
    /// Nothing more comes if empty.
    bytes: Vec<u8>,
}

impl PartialEq for Letter {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl Eq for Letter {}

impl PartialOrd for Letter {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Letter {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.due, self.number).cmp(&(other.due, other.number))
    }
}

#[derive(Default)]
struct Inbox {
    arrived: VecDeque<(Instant, Vec<u8>)>,
    /// How much of the first was read.
    read: usize,
    closed: bool,
    waker: Option<Waker>,
}

/// How long what had arrived lay unread: a count for each `STEP`.
pub(super) struct Lags(Vec<AtomicU64>);

impl Lags {
    const STEP: Duration = Duration::from_micros(20);

    fn note(&self, lag: Duration) {
        let step = (lag.as_nanos() / Self::STEP.as_nanos()) as usize;
        self.0[step.min(self.0.len() - 1)].fetch_add(1, Ordering::Relaxed);
    }

    /// The time that `part` of 1 of all lay no longer than.
    pub(super) fn quantile(&self, part: f64) -> Duration {
        let counts: Vec<u64> = self.0.iter().map(|c| c.load(Ordering::Relaxed)).collect();
        let wanted = (counts.iter().sum::<u64>() as f64 * part).ceil() as u64;
        let mut sum = 0;
        let step = counts.iter().position(|count| {
            sum += count;
            sum >= wanted
        });
        Self::STEP * (step.unwrap_or(0) as u32 + 1)
    }
}

impl Town {
    /// Roads of these lengths.
    pub(super) fn new(way: Way) -> Self {
        let map = Arc::new(Map {
            way,
            doors: Mutex::default(),
            post: Mutex::default(),
            bell: Condvar::new(),
            lags: Lags((0..5_000).map(|_| AtomicU64::new(0)).collect()),
        });
        let carried = map.clone();
        std::thread::spawn(move || carried.carry());
        Self(map)
    }

    /// The roads that begin at `node`.
    pub(super) fn roads(&self, node: u32) -> Roads {
        Roads {
            map: self.0.clone(),
            node,
            door: None,
        }
    }

    pub(super) fn lags(&self) -> &Lags {
        &self.0.lags
    }
}

impl Drop for Town {
    fn drop(&mut self) {
        lock(&self.0.post).closed = true;
        self.0.bell.notify_all();
    }
}

impl Map {
    fn send(&self, to: &Arc<Mutex<Inbox>>, way: Duration, bytes: Vec<u8>) {
        let mut post = lock(&self.post);
        post.sent += 1;
        let letter = Letter {
            due: Instant::now() + way,
            number: post.sent,
            to: to.clone(),
            bytes,
        };
        let first = post
            .letters
            .peek()
            .is_none_or(|Reverse(next)| letter < *next);
        post.letters.push(Reverse(letter));
        drop(post);
        if first {
            self.bell.notify_one();
        }
    }

    /// Hands over what is due, until the town is gone.
    fn carry(&self) {
        let mut post = lock(&self.post);
        while !post.closed {
            let now = Instant::now();
            let Some(Reverse(next)) = post.letters.peek() else {
                post = self.bell.wait(post).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            if next.due > now {
                let wait = next.due - now;
                let waited = self.bell.wait_timeout(post, wait);
                post = waited.unwrap_or_else(PoisonError::into_inner).0;
                continue;
            }
            let Reverse(letter) = post.letters.pop().expect("it was seen");
            drop(post);
            let mut inbox = lock(&letter.to);
            match letter.bytes.is_empty() {
                true => inbox.closed = true,
                false => inbox.arrived.push_back((Instant::now(), letter.bytes)),
            }
            let waker = inbox.waker.take();
            drop(inbox);
            waker.into_iter().for_each(Waker::wake);
            post = lock(&self.post);
        }
    }
}

/// The roads of one node.
pub(super) struct Roads {
    map: Arc<Map>,
    node: u32,
    door: Option<Door>,
}

/// Where others come in.
struct Door {
    id: ListenerId,
    coming: mpsc::Receiver<(u32, Pipe)>,
    told: bool,
}

/// One end of a connection.
pub(super) struct Pipe {
    map: Arc<Map>,
    way: Duration,
    here: Arc<Mutex<Inbox>>,
    there: Arc<Mutex<Inbox>>,
}

fn node_at(addr: &Multiaddr) -> Option<u32> {
    match addr.iter().next()? {
        Protocol::Memory(port) => u32::try_from(port).ok()?.checked_sub(1),
        _ => None,
    }
}

fn address(node: u32) -> Multiaddr {
    Protocol::Memory(u64::from(node) + 1).into()
}

impl Transport for Roads {
    type Output = Pipe;
    type Error = io::Error;
    type ListenerUpgrade = Ready<io::Result<Pipe>>;
    type Dial = Ready<io::Result<Pipe>>;

    fn listen_on(
        &mut self,
        id: ListenerId,
        _: Multiaddr,
    ) -> Result<(), TransportError<Self::Error>> {
        let (door, coming) = mpsc::channel(ROOM);
        lock(&self.map.doors).insert(self.node, door);
        self.door = Some(Door {
            id,
            coming,
            told: false,
        });
        Ok(())
    }

    fn remove_listener(&mut self, _: ListenerId) -> bool {
        self.door.take().is_some()
    }

    fn dial(
        &mut self,
        addr: Multiaddr,
        _: DialOpts,
    ) -> Result<Self::Dial, TransportError<Self::Error>> {
        let nobody = || TransportError::Other(io::ErrorKind::ConnectionRefused.into());
        let to =
            node_at(&addr).ok_or_else(|| TransportError::MultiaddrNotSupported(addr.clone()))?;
        let way = (self.map.way)(self.node, to).ok_or_else(nobody)?;
        let door = lock(&self.map.doors).get(&to).cloned().ok_or_else(nobody)?;
        let (here, there) = (Arc::default(), Arc::default());
        let pipe = |here: &Arc<_>, there: &Arc<_>| Pipe {
            map: self.map.clone(),
            way,
            here: Arc::clone(here),
            there: Arc::clone(there),
        };
        let theirs = pipe(&there, &here);
        door.try_send((self.node, theirs)).map_err(|_| nobody())?;
        Ok(ready(Ok(pipe(&here, &there))))
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, Self::Error>> {
        let node = self.node;
        let Some(door) = &mut self.door else {
            return Poll::Pending;
        };
        let listener_id = door.id;
        if !std::mem::replace(&mut door.told, true) {
            return Poll::Ready(TransportEvent::NewAddress {
                listener_id,
                listen_addr: address(node),
            });
        }
        match std::task::ready!(door.coming.poll_recv(cx)) {
            Some((from, pipe)) => Poll::Ready(TransportEvent::Incoming {
                listener_id,
                upgrade: ready(Ok(pipe)),
                local_addr: address(node),
                send_back_addr: address(from),
            }),
            None => Poll::Pending,
        }
    }
}

impl AsyncRead for Pipe {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let mut inbox = lock(&self.here);
        let Some((since, bytes)) = inbox.arrived.front() else {
            if inbox.closed {
                return Poll::Ready(Ok(0));
            }
            inbox.waker = Some(cx.waker().clone());
            return Poll::Pending;
        };
        if inbox.read == 0 {
            self.map.lags.note(since.elapsed());
        }
        let left = &bytes[inbox.read..];
        let count = left.len().min(into.len());
        into[..count].copy_from_slice(&left[..count]);
        if count == left.len() {
            inbox.arrived.pop_front();
            inbox.read = 0;
        } else {
            inbox.read += count;
        }
        Poll::Ready(Ok(count))
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if !bytes.is_empty() {
            self.map.send(&self.there, self.way, bytes.to_vec());
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.map.send(&self.there, self.way, Vec::new());
        Poll::Ready(Ok(()))
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        self.map.send(&self.there, self.way, Vec::new());
    }
}

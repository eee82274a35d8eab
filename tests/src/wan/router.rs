//! The router: one thread that carries packets between TUN devices, each in its own time.
//!
//! It sleeps in `poll` until a device has packets or the first packet under way is due, to the
//! nanosecond as far as the kernel keeps it. What becomes of a packet is asked of the [`Roads`],
//! which others may change while it runs. Only IPv4 between known addresses is carried; the rest
//! (a kernel's router solicitations, say) is nobody's and is dropped.

use super::roads::{Roads, Tally};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::net::Ipv4Addr;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Packets taken from one device before the others have their turn.
const BATCH: usize = 64;

/// Packets under way at one time; more are dropped, as by a router that is out of memory.
const UNDER_WAY_MAX: usize = 200_000;

/// Longer than any packet of a device whose MTU is 1,400.
const PACKET_BYTES: usize = 2_048;

/// A running router. Dropped, it stops and gives its devices back to the system.
#[derive(Debug)]
pub struct Router {
    roads: Arc<Mutex<Roads>>,
    stop: Option<UnixStream>,
    thread: Option<JoinHandle<()>>,
}

impl Router {
    /// Starts to carry between `ends`, of which number `i` is node `i`.
    ///
    /// # Errors
    /// What the system says when it gives no socket or no thread.
    pub fn start(ends: Vec<(Ipv4Addr, File)>, roads: Roads) -> io::Result<Self> {
        let (stop, stopped) = UnixStream::pair()?;
        let roads = Arc::new(Mutex::new(roads));
        let table = Table {
            numbers: ends.iter().map(|(ip, _)| *ip).zip(0..).collect(),
            files: ends.into_iter().map(|(_, file)| file).collect(),
            roads: roads.clone(),
            under_way: BinaryHeap::new(),
            began: Instant::now(),
        };
        let builder = thread::Builder::new().name("wan-router".into());
        let thread = builder.spawn(move || table.run(&stopped))?;
        Ok(Self {
            roads,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// The roads, to look at or to change.
    pub fn roads(&self) -> MutexGuard<'_, Roads> {
        self.roads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What became of all packets so far.
    pub fn total(&self) -> Tally {
        self.roads().total()
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        // The other end reads as closed, and the thread ends.
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A packet under way, the earliest first.
type UnderWay = Reverse<(Duration, u64, usize, usize, Vec<u8>)>;

struct Table {
    numbers: BTreeMap<Ipv4Addr, usize>,
    files: Vec<File>,
    roads: Arc<Mutex<Roads>>,
    under_way: BinaryHeap<UnderWay>,
    began: Instant,
}

impl Table {
    fn run(mut self, stopped: &UnixStream) {
        loop {
            let Some(ready) = self.wait(stopped) else {
                return;
            };
            for node in ready {
                self.take(node);
            }
            self.give();
        }
    }

    /// The devices that have packets, as soon as one has or a packet is due. `None` at the end.
    fn wait(&self, stopped: &UnixStream) -> Option<Vec<usize>> {
        let due = self.under_way.peek().map(|Reverse((due, ..))| *due);
        let wait = due.map(|due| due.saturating_sub(self.began.elapsed()));
        let wait = wait.map(|wait| Timespec {
            tv_sec: i64::try_from(wait.as_secs()).expect("a short time"),
            tv_nsec: wait.subsec_nanos().into(),
        });
        let mut all: Vec<PollFd<'_>> = self
            .files
            .iter()
            .map(|file| PollFd::new(file, PollFlags::IN))
            .chain([PollFd::new(stopped, PollFlags::IN)])
            .collect();
        match poll(&mut all, wait.as_ref()) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => return Some(Vec::new()),
            Err(error) => panic!("poll failed: {error}"),
        }
        let is_ready = |fd: &PollFd<'_>| !fd.revents().is_empty();
        let (end, devices) = all.split_last()?;
        if is_ready(end) {
            return None;
        }
        let ready = devices.iter().enumerate();
        Some(
            ready
                .filter(|(_, fd)| is_ready(fd))
                .map(|(i, _)| i)
                .collect(),
        )
    }

    /// Takes what a node sent.
    fn take(&mut self, from: usize) {
        let mut buffer = [0; PACKET_BYTES];
        for _ in 0..BATCH {
            let Ok(length) = (&self.files[from]).read(&mut buffer) else {
                return;
            };
            let packet = &buffer[..length];
            let Some(to) = destination(packet).and_then(|ip| self.numbers.get(&ip).copied()) else {
                continue;
            };
            let now = self.began.elapsed();
            let mut roads = self.roads.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(passage) = roads.carry(now, from, to, length)
                && self.under_way.len() < UNDER_WAY_MAX
            {
                let packet = packet.to_vec();
                self.under_way
                    .push(Reverse((passage.due, passage.place, from, to, packet)));
            }
        }
    }

    /// Gives out what is due.
    fn give(&mut self) {
        let now = self.began.elapsed();
        while let Some(Reverse((due, ..))) = self.under_way.peek()
            && *due <= now
        {
            let Some(Reverse((_, place, from, to, packet))) = self.under_way.pop() else {
                return;
            };
            let mut roads = self.roads.lock().unwrap_or_else(PoisonError::into_inner);
            if roads.arrive(from, to, place) {
                // A device whose queue is full, or that is gone, loses it: so do real ones.
                let _ = (&self.files[to]).write(&packet);
            }
        }
    }
}

/// Where an IPv4 packet is to go (RFC 791).
fn destination(packet: &[u8]) -> Option<Ipv4Addr> {
    let is_ipv4 = packet.first().is_some_and(|byte| byte >> 4 == 4);
    let bytes: [u8; 4] = packet.get(16..20)?.try_into().ok()?;
    is_ipv4.then(|| bytes.into())
}

//! A crew: the workers of one run, a thread each, in step.
//!
//! Each has its own agents and runs a window of epochs alone; a window is no longer than the quickest
//! link between two workers' agents. Then they hand each other what they sent, and go on. Nothing else
//! passes between them, so what happens does not depend on how many there are.
//!
//! Not here: what a worker does in a window (`swarm::engine`).

use crate::swarm::engine::epoch::{Owners, Parcel, Worker};
use crate::swarm::engine::heap::Heap;
use crate::swarm::engine::{Clockwork, Model, Ran};
use crate::swarm::gossip::{Gossip, Shard};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Barrier, Mutex};

/// How a run is shared out.
#[derive(Clone, Debug)]
pub struct Crew {
    /// Who owns which agents.
    pub owners: Owners,
    /// Into how many partitions each worker sorts an epoch.
    pub partitions: usize,
    /// How many epochs pass between two meetings.
    pub window: u64,
}

/// How far a run is.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// Of the time to simulate, in microseconds.
    pub at: u64,
    /// Events on their way.
    pub held: u64,
}

/// Called now and then; false ends the run where it is.
pub type Watch<'a> = &'a (dyn Fn(Progress) -> bool + Sync);

/// The shards of all workers, made beside each other: first all links, then the meshes out of them.
pub fn shards(model: &Gossip, owners: &Owners) -> Vec<Shard> {
    let begins = model.mesh.heartbeat > 0;
    let pairs = owners.bounds.windows(2);
    let made = beside(pairs, |pair| {
        let shard = Shard::new(model, pair[0], pair[1]);
        let welcomes = match begins {
            true => model.welcomes(&shard),
            false => Vec::new(),
        };
        (shard, welcomes)
    });
    let (shards, welcomes): (Vec<Shard>, Vec<Vec<u32>>) = made.into_iter().unzip();
    let welcome = |agent: u32| {
        let found = owners.of(agent);
        let place = agent - owners.bounds[found];
        welcomes[found].get(place as usize).copied().unwrap_or(0)
    };
    beside(shards, |mut shard| {
        model.forms(&mut shard, welcome);
        shard
    })
}

/// Does `work` for each of `items`, a thread each.
fn beside<I: Send, T: Send>(
    items: impl IntoIterator<Item = I>,
    work: impl Fn(I) -> T + Sync,
) -> Vec<T> {
    let work = &work;
    std::thread::scope(|scope| {
        let begin = |item| scope.spawn(move || work(item));
        let threads: Vec<_> = items.into_iter().map(begin).collect();
        let made = threads.into_iter().map(|thread| thread.join());
        made.map(|made| made.expect("a worker does not panic"))
            .collect()
    })
}

/// Runs the epoch engine to the end. Returns what happened and the state of all agents.
///
/// # Panics
/// If there are not as many `shards` as owners.
pub fn epochs<M: Model>(
    model: &M,
    shards: Vec<M::Shard>,
    clockwork: Clockwork,
    crew: &Crew,
    watch: Watch<'_>,
) -> (Ran, Vec<M::Shard>) {
    let count = crew.owners.count();
    assert_eq!(count, shards.len(), "a shard for each owner");
    let post: Vec<Mutex<Parcel>> = (0..count * count).map(|_| Mutex::default()).collect();
    let held: Vec<AtomicU64> = (0..count).map(|_| AtomicU64::new(0)).collect();
    let (barrier, stop) = (Barrier::new(count), AtomicBool::new(false));
    let work = |me: usize, shard: M::Shard| {
        let (owners, partitions) = (&crew.owners, crew.partitions);
        let mut worker = Worker::new(model, shard, clockwork, owners, me, partitions);
        let (shard, out) = worker.before();
        model.begin(shard, out);
        let mut epoch = 0;
        loop {
            let mut sent = 0;
            for to in (0..count).filter(|to| *to != me) {
                let mut slot = post[me * count + to]
                    .lock()
                    .expect("no worker panics alone");
                sent += worker.parcel(to).len() as u64;
                std::mem::swap(&mut *slot, worker.parcel(to));
            }
            held[me].store(worker.held() + sent, Ordering::Relaxed);
            barrier.wait();
            let held: u64 = held.iter().map(|held| held.load(Ordering::Relaxed)).sum();
            for from in (0..count).filter(|from| *from != me) {
                let mut slot = post[from * count + me]
                    .lock()
                    .expect("no worker panics alone");
                worker.receive(&mut slot);
            }
            let at = epoch << clockwork.epoch_log;
            if me == 0 && !watch(Progress { at, held }) {
                stop.store(true, Ordering::Relaxed);
            }
            barrier.wait();
            if held == 0 || epoch == clockwork.end() || stop.load(Ordering::Relaxed) {
                return worker.ended();
            }
            epoch = (epoch + crew.window).min(clockwork.end());
            worker.window(epoch);
        }
    };
    let work = &work;
    let ended: Vec<(Ran, M::Shard)> = std::thread::scope(|scope| {
        let mut shards = shards.into_iter().enumerate();
        let (_, first) = shards.next().expect("there is a worker");
        let others: Vec<_> = shards
            .map(|(me, shard)| scope.spawn(move || work(me, shard)))
            .collect();
        let first = work(0, first);
        let others = others.into_iter().map(|thread| thread.join());
        std::iter::once(first)
            .chain(others.map(|ended| ended.expect("a worker does not panic")))
            .collect()
    });
    let (mut all, mut states) = (Ran::default(), Vec::new());
    for (ran, shard) in ended {
        all.events += ran.events;
        all.digest.add(&ran.digest);
        states.push(shard);
    }
    (all, states)
}

/// Runs the heap engine to the end: one thread, one shard, no partitions.
pub fn heap<M: Model>(
    model: &M,
    mut shard: M::Shard,
    clockwork: Clockwork,
    watch: Watch<'_>,
) -> (Ran, M::Shard) {
    let (mut heap, mut ran) = (Heap::new(clockwork), Ran::default());
    model.begin(&mut shard, &mut heap);
    for epoch in 0..=clockwork.end() {
        let at = epoch << clockwork.epoch_log;
        let held = heap.held();
        if held == 0 || !watch(Progress { at, held }) {
            break;
        }
        heap.window(model, &mut shard, epoch, &mut ran);
    }
    (ran, shard)
}

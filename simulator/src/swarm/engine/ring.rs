//! The ring: one bucket of events for each of the next epochs.
//!
//! A bucket is a list of chunks of 16 KiB, which are used again at once: what a run holds is
//! what is on its way, not what was at the busiest moment of each bucket. What lies beyond the ring
//! waits beside it until the ring has come near.
//!
//! Not here: the order of what comes out (`epoch`).

use crate::swarm::column::Column;
use prefetch_index::prefetch_index;
use std::collections::BTreeMap;

const CHUNK: usize = 2_048;

/// Events in a line of the cache.
const LINE: usize = 8;

/// Chunks that are allocated at once: four megabytes.
const SLAB: usize = 256;

/// Buckets: a power of two. With epochs of a millisecond, four seconds.
const BUCKETS: usize = 4_096;

/// Events by epoch, from the one that is handled on.
pub(super) struct Ring {
    /// Apart from the chunks that are full, so that all that a push needs stays in the cache.
    tails: Vec<Tail>,
    full: Vec<Vec<u32>>,
    slabs: Vec<Column<u64>>,
    /// Chunks that hold nothing.
    free: Vec<u32>,
    /// The first epoch that the ring holds.
    first: u64,
    /// What lies beyond, by epoch.
    beyond: BTreeMap<u64, Vec<u64>>,
    held: u64,
}

/// The chunk of a bucket that is being filled, and how full it is: full if there is none.
#[derive(Clone, Copy)]
struct Tail {
    chunk: u32,
    fill: u32,
}

const NONE: Tail = Tail {
    chunk: u32::MAX,
    fill: CHUNK as u32,
};

impl Ring {
    pub(super) fn new() -> Self {
        Self {
            tails: vec![NONE; BUCKETS],
            full: vec![Vec::new(); BUCKETS],
            slabs: Vec::new(),
            free: Vec::new(),
            first: 0,
            beyond: BTreeMap::new(),
            held: 0,
        }
    }

    /// How many events it holds.
    pub(super) fn held(&self) -> u64 {
        self.held
    }

    #[inline(always)]
    pub(super) fn push(&mut self, epoch: u64, event: u64) {
        self.held += 1;
        if epoch - self.first < BUCKETS as u64 {
            self.place(epoch, event);
        } else {
            self.beyond.entry(epoch).or_default().push(event);
        }
    }

    #[inline(always)]
    fn place(&mut self, epoch: u64, event: u64) {
        let bucket = epoch as usize % BUCKETS;
        if self.tails[bucket].fill == CHUNK as u32 {
            self.grow(bucket);
        }
        let tail = &mut self.tails[bucket];
        let place = tail.chunk as usize % SLAB * CHUNK + tail.fill as usize;
        tail.fill += 1;
        let slab = &mut self.slabs[tail.chunk as usize / SLAB];
        slab[place] = event;
        // Hundreds of chunks are being filled, more than the cache holds.
        prefetch_index(&slab[..], place + LINE);
    }

    /// Gives a bucket another chunk.
    #[cold]
    fn grow(&mut self, bucket: usize) {
        if self.free.is_empty() {
            let first = self.slabs.len() * SLAB;
            self.slabs.push(Column::zeroed(SLAB * CHUNK));
            self.free
                .extend((first..first + SLAB).rev().map(|chunk| chunk as u32));
        }
        let chunk = self.free.pop().expect("some were just made");
        let tail = std::mem::replace(&mut self.tails[bucket], Tail { chunk, fill: 0 });
        if tail.chunk != u32::MAX {
            self.full[bucket].push(tail.chunk);
        }
    }

    /// What the next epoch holds, chunk by chunk.
    pub(super) fn next(&self) -> impl Iterator<Item = &[u64]> {
        let bucket = self.first as usize % BUCKETS;
        let tail = self.tails[bucket];
        let full = self.full[bucket].iter().map(|chunk| (*chunk, CHUNK));
        let last = (tail.chunk != u32::MAX).then_some((tail.chunk, tail.fill as usize));
        full.chain(last).map(|(chunk, fill)| {
            let from = chunk as usize % SLAB * CHUNK;
            &self.slabs[chunk as usize / SLAB][from..from + fill]
        })
    }

    /// Lets go of the next epoch: the one after it is the next.
    ///
    /// # Panics
    /// If the next one is not `epoch`.
    pub(super) fn pass(&mut self, epoch: u64) {
        assert_eq!(self.first, epoch, "epochs are taken in order");
        let bucket = epoch as usize % BUCKETS;
        let tail = std::mem::replace(&mut self.tails[bucket], NONE);
        self.held -= (self.full[bucket].len() * CHUNK) as u64;
        self.free.append(&mut self.full[bucket]);
        if tail.chunk != u32::MAX {
            self.held -= u64::from(tail.fill);
            self.free.push(tail.chunk);
        }
        self.first += 1;
        let newest = self.first + BUCKETS as u64 - 1;
        for event in self.beyond.remove(&newest).unwrap_or_default() {
            self.place(newest, event);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(ring: &mut Ring, epoch: u64) -> Vec<u64> {
        let all = ring.next().flatten().copied().collect();
        ring.pass(epoch);
        all
    }

    fn pass(ring: &mut Ring, until: u64) {
        (ring.first..until).for_each(|epoch| assert!(taken(ring, epoch).is_empty()));
    }

    #[test]
    fn every_event_comes_out_in_its_epoch_and_once() {
        let mut ring = Ring::new();
        let far = BUCKETS as u64 + 7;
        for event in 0..5_000 {
            ring.push(3, event);
        }
        ring.push(far, 1);
        ring.push(4, 2);
        assert_eq!(5_002, ring.held());
        pass(&mut ring, 3);
        assert_eq!((0..5_000).collect::<Vec<_>>(), taken(&mut ring, 3));
        assert_eq!(vec![2], taken(&mut ring, 4));
        ring.push(far, 3);
        ring.push(2 * BUCKETS as u64 + 9, 4);
        pass(&mut ring, far);
        assert_eq!(vec![1, 3], taken(&mut ring, far));
        pass(&mut ring, 2 * BUCKETS as u64 + 9);
        assert_eq!(vec![4], taken(&mut ring, 2 * BUCKETS as u64 + 9));
        assert_eq!(0, ring.held());
    }

    #[test]
    fn chunks_are_used_again() {
        let mut ring = Ring::new();
        for epoch in 0..100 {
            (0..3 * CHUNK as u64).for_each(|event| ring.push(epoch, event));
            assert_eq!(3 * CHUNK, taken(&mut ring, epoch).len());
        }
        assert_eq!((1, SLAB), (ring.slabs.len(), ring.free.len()));
    }
}

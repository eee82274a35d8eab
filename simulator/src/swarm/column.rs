//! A column: one value for each of millions of agents, on huge pages where the system has them.
//!
//! Agents are visited in no order, so with pages of 4 KiB every visit waits for the page table too;
//! pages of 2 MiB take half of that time off. The memory is anonymous and begins as zeros.
//!
//! A column is read and written for every event, so it is a plain slice. Memory that can be one for as
//! long as anybody likes is never given back to the system, but to a pool, for the next column.
//!
//! Not here: what the values mean (`gossip/shard`, `planet`).

use bytemuck::{Pod, cast_slice_mut};
use memmap2::MmapMut;
use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, PoisonError};

/// Memory that no column uses.
static POOL: Mutex<Vec<&'static mut [u8]>> = Mutex::new(Vec::new());

/// A fixed number of values.
pub struct Column<T: Pod> {
    /// As many as the memory has room for; `count` of them are the column.
    room: &'static mut [T],
    count: usize,
}

impl<T: Pod> Column<T> {
    /// So many zeros.
    ///
    /// # Panics
    /// If the system has no memory for them.
    pub fn zeroed(count: usize) -> Self {
        if count == 0 {
            return Self {
                room: &mut [],
                count,
            };
        }
        let room = cast_slice_mut(memory(count * size_of::<T>(), size_of::<T>()));
        Self { room, count }
    }

    /// The memory it takes.
    pub fn bytes(&self) -> usize {
        self.count * size_of::<T>()
    }
}

/// So many zeros or some more, a whole number of `each`.
fn memory(bytes: usize, each: usize) -> &'static mut [u8] {
    let mut pool = POOL.lock().unwrap_or_else(PoisonError::into_inner);
    let fits = |free: &&'static mut [u8]| {
        (bytes..=2 * bytes).contains(&free.len()) && free.len().is_multiple_of(each)
    };
    if let Some(found) = pool.iter().position(fits) {
        let free = pool.swap_remove(found);
        drop(pool);
        free[..bytes].fill(0);
        return free;
    }
    drop(pool);
    let map =
        MmapMut::map_anon(bytes).unwrap_or_else(|why| panic!("no memory for {bytes} bytes: {why}"));
    // A wish: where there are no huge pages, small ones do.
    #[cfg(target_os = "linux")]
    let _ = map.advise(memmap2::Advice::HugePage);
    let map: &'static mut MmapMut = Box::leak(Box::new(map));
    &mut map[..]
}

impl<T: Pod> Drop for Column<T> {
    fn drop(&mut self) {
        let room = std::mem::take(&mut self.room);
        if !room.is_empty() {
            let mut pool = POOL.lock().unwrap_or_else(PoisonError::into_inner);
            pool.push(cast_slice_mut(room));
        }
    }
}

impl<T: Pod> Deref for Column<T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        &self.room[..self.count]
    }
}

impl<T: Pod> DerefMut for Column<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.room[..self.count]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_begins_as_zeros_and_keeps_what_it_is_given() {
        for _ in 0..3 {
            let mut column = Column::<[u64; 3]>::zeroed(100_000);
            assert_eq!((100_000, 2_400_000), (column.len(), column.bytes()));
            assert!(column.iter().all(|value| *value == [0; 3]));
            column[99_999] = [1, 2, 3];
            assert_eq!(Some(&[1, 2, 3]), column.last());
        }
        assert!(Column::<u8>::zeroed(0).is_empty());
    }
}

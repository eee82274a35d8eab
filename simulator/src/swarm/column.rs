//! A column: one value for each of millions of agents, on huge pages where the system has them.
//!
//! Agents are visited in no order, so with pages of 4 KiB every visit waits for the page table too;
//! pages of 2 MiB take half of that time off. The memory is anonymous and begins as zeros.
//!
//! Not here: what the values mean (`gossip/shard`, `planet`).

use bytemuck::{Pod, cast_slice, cast_slice_mut};
use memmap2::MmapMut;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

/// A fixed number of values.
pub struct Column<T> {
    map: Option<MmapMut>,
    bytes: usize,
    of: PhantomData<T>,
}

impl<T: Pod> Column<T> {
    /// So many zeros.
    ///
    /// # Panics
    /// If the system has no memory for them.
    pub fn zeroed(count: usize) -> Self {
        let bytes = count * size_of::<T>();
        let map = (bytes > 0).then(|| {
            let map = MmapMut::map_anon(bytes)
                .unwrap_or_else(|why| panic!("no memory for {bytes} bytes: {why}"));
            // A wish: where there are no huge pages, small ones do.
            #[cfg(target_os = "linux")]
            let _ = map.advise(memmap2::Advice::HugePage);
            map
        });
        Self {
            map,
            bytes,
            of: PhantomData,
        }
    }

    /// The memory it takes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl<T: Pod> Deref for Column<T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        self.map
            .as_ref()
            .map_or(&[], |map| cast_slice(&map[..self.bytes]))
    }
}

impl<T: Pod> DerefMut for Column<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [T] {
        match &mut self.map {
            Some(map) => cast_slice_mut(&mut map[..self.bytes]),
            None => &mut [],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_begins_as_zeros_and_keeps_what_it_is_given() {
        let mut column = Column::<[u64; 3]>::zeroed(100_000);
        assert_eq!((100_000, 2_400_000), (column.len(), column.bytes()));
        assert!(column.iter().all(|value| *value == [0; 3]));
        column[99_999] = [1, 2, 3];
        assert_eq!(Some(&[1, 2, 3]), column.last());
        assert!(Column::<u8>::zeroed(0).is_empty());
    }
}

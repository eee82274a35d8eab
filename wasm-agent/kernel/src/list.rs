//! Lists: arrays with a length, since the kernel allocates nothing.
//!
//! An array's size is a power of two, and an index is taken modulo it. So no access can fail and none
//! needs a path for failure; whether an index is below the length is asked where it comes from
//! outside.
//!
//! Not here: the sizes of the lists (`limits`).

/// Up to `N` entries, in a fixed place.
#[repr(C)]
pub(crate) struct List<T, const N: usize> {
    length: usize,
    entries: [T; N],
}

impl<T: Copy, const N: usize> List<T, N> {
    pub(crate) const fn new(filler: T) -> Self {
        const { assert!(N.is_power_of_two()) };
        Self {
            entries: [filler; N],
            length: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.length
    }

    pub(crate) fn get(&self, index: usize) -> T {
        self.entries[index % N]
    }

    pub(crate) fn at(&mut self, index: usize) -> &mut T {
        &mut self.entries[index % N]
    }

    /// The last entry: any one if there is none.
    pub(crate) fn last(&mut self) -> &mut T {
        self.at(self.length.wrapping_sub(1))
    }

    /// Appends an entry, and says whether there was room.
    pub(crate) fn push(&mut self, entry: T) -> bool {
        let room = self.length < N;
        if room {
            *self.at(self.length) = entry;
            self.length += 1;
        }
        room
    }

    /// Makes the list as long as this: of the entries that lie there.
    pub(crate) fn resize(&mut self, length: usize) {
        self.length = length;
    }
}

//! A sink: bytes put one after another into a slice, which may turn out to be too short.
//!
//! That it was too short is kept and told once, at the end: a writer of ten fields has one branch
//! for it instead of ten, which is a good part of a small module.
//!
//! Not here: what the bytes mean (`cbor`, `text`).

use crate::Error;

/// The `len` of a sink that was too short: nothing fits after it, and no slice has that length.
const FULL: usize = usize::MAX;

#[derive(Debug)]
pub(crate) struct Sink<'a> {
    out: &'a mut [u8],
    len: usize,
}

impl<'a> Sink<'a> {
    pub(crate) fn new(out: &'a mut [u8]) -> Self {
        Self { out, len: 0 }
    }

    pub(crate) fn put(&mut self, bytes: &[u8]) {
        let end = self.len.saturating_add(bytes.len());
        self.len = match self.out.get_mut(self.len..end) {
            Some(room) => {
                for (to, from) in room.iter_mut().zip(bytes) {
                    *to = *from;
                }
                end
            }
            None => FULL,
        };
    }

    pub(crate) fn push(&mut self, byte: u8) {
        self.put(&[byte]);
    }

    /// What was put.
    ///
    /// # Errors
    /// [`Error::TooLarge`] if it was more than the slice holds.
    pub(crate) fn done(&self) -> Result<&[u8], Error> {
        self.out.get(..self.len).ok_or(Error::TooLarge)
    }
}

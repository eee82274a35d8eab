//! The state: the one kilobyte that an agent keeps from wake to wake.
//!
//! Nothing else lasts. All other memory is wiped after a wake, so a sleeping agent costs its host the
//! bytes that are in use here and no more. The host writes the region before a wake and reads it after
//! one that commits.
//!
//! Not here: what does not fit, which goes to the key-value store ([`host::kv_put`](crate::host)).

use crate::Error;
use crate::cbor::{Reader, Writer};

/// The most bytes that a state may have.
pub const STATE_BYTES_MAX: usize = 1024;

/// A value that can be kept as the state.
pub trait Keep: Sized {
    /// The value before anything was kept. A constant, and filled in place by [`read`](Self::read),
    /// since moving large values about is most of what a careless module is made of.
    const EMPTY: Self;

    /// Reads the value back, into an empty one. Whoever calls it finishes the reader.
    fn read(&mut self, from: &mut Reader<'_>);

    /// Writes the value.
    fn write(&self, to: &mut Writer<'_>);
}

/// The region itself: `MVA_STATE` in the module.
#[derive(Clone, PartialEq, Eq, Debug)]
#[repr(C, align(4))]
pub struct State {
    /// How many bytes are in use, little-endian.
    len: [u8; 4],
    bytes: [u8; STATE_BYTES_MAX],
}

impl State {
    /// The state of an agent that never woke.
    pub const EMPTY: Self = Self {
        len: [0; 4],
        bytes: [0; STATE_BYTES_MAX],
    };

    /// Makes an empty `value` the one that was stored last; leaves it if none ever was.
    ///
    /// # Errors
    /// [`Error::BadArgument`] if what is there is not a `T`.
    pub fn load<T: Keep>(&self, value: &mut T) -> Result<(), Error> {
        let bytes = self.as_bytes();
        if bytes.is_empty() {
            return Ok(());
        }
        let mut reader = Reader::new(bytes);
        value.read(&mut reader);
        reader.finish()
    }

    /// Keeps `value`, in place of what was kept before.
    ///
    /// # Errors
    /// [`Error::TooLarge`] if it takes more than [`STATE_BYTES_MAX`]; refuse the wake then, for what
    /// was there before is gone.
    pub fn store<T: Keep>(&mut self, value: &T) -> Result<(), Error> {
        let mut writer = Writer::new(&mut self.bytes);
        value.write(&mut writer);
        let len = writer.done()?.len();
        self.len = (len as u32).to_le_bytes();
        Ok(())
    }

    /// The bytes in use.
    pub fn as_bytes(&self) -> &[u8] {
        let len = u32::from_le_bytes(self.len) as usize;
        self.bytes.get(..len).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(PartialEq, Debug)]
    struct Long(usize);

    impl Keep for Long {
        const EMPTY: Self = Self(0);
        fn read(&mut self, from: &mut Reader<'_>) {
            self.0 = from.bytes().len();
        }
        fn write(&self, to: &mut Writer<'_>) {
            to.bytes(&[1; 2048][..self.0]);
        }
    }

    #[test]
    fn a_value_is_kept_up_to_the_limit_and_not_beyond() {
        let mut state = State::EMPTY;
        let mut long = Long::EMPTY;
        assert_eq!(state.load(&mut long), Ok(()));
        assert_eq!(long, Long::EMPTY, "none was kept");
        state.store(&Long(1021)).unwrap();
        assert_eq!(state.as_bytes().len(), STATE_BYTES_MAX);
        assert_eq!(state.load(&mut long), Ok(()));
        assert_eq!(long, Long(1021));
        assert_eq!(state.store(&Long(1022)), Err(Error::TooLarge));
    }

    #[test]
    fn a_length_that_cannot_be_is_an_empty_state() {
        let mut state = State::EMPTY;
        state.len = [0xff; 4];
        assert_eq!(state.as_bytes(), &[] as &[u8]);
    }
}

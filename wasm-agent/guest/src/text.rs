//! Plain text for people and for memory, put together in a slice without `core::fmt`, which would be
//! larger than an agent.
//!
//! Not here: text within CBOR (`cbor`).

use crate::Error;
use crate::sink::Sink;

/// Puts pieces of text one after another. That the slice was too short is told by
/// [`done`](Self::done).
#[derive(Debug)]
pub struct Text<'a> {
    sink: Sink<'a>,
}

impl<'a> Text<'a> {
    /// An empty text in `out`.
    pub fn new(out: &'a mut [u8]) -> Self {
        Self {
            sink: Sink::new(out),
        }
    }

    /// Text as it is.
    pub fn text(&mut self, text: &str) -> &mut Self {
        self.sink.put(text.as_bytes());
        self
    }

    /// A number in decimal.
    pub fn int(&mut self, value: i64) -> &mut Self {
        if value < 0 {
            self.sink.push(b'-');
        }
        self.digits(value.unsigned_abs());
        self
    }

    /// Bytes in hexadecimal.
    pub fn hex(&mut self, bytes: &[u8]) -> &mut Self {
        for byte in bytes {
            for digit in [byte >> 4, byte & 15] {
                self.sink
                    .put(&[digit + if digit < 10 { b'0' } else { b'a' - 10 }]);
            }
        }
        self
    }

    /// The text, in UTF-8.
    ///
    /// # Errors
    /// [`Error::TooLarge`] if it was more than the slice holds.
    pub fn done(&self) -> Result<&[u8], Error> {
        self.sink.done()
    }

    /// At most 20 of them, from the first to the last.
    fn digits(&mut self, number: u64) {
        if number > 9 {
            self.digits(number / 10);
        }
        self.sink.push(b'0' + (number % 10) as u8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    #[test]
    fn numbers_are_as_the_standard_library_prints_them() {
        for value in [0, 7, -7, 10, 1234567890, i64::MIN, i64::MAX] {
            let mut room = [0; 20];
            let mut text = Text::new(&mut room);
            assert_eq!(text.int(value).done(), Ok(value.to_string().as_bytes()));
        }
    }

    #[test]
    fn pieces_follow_each_other() {
        let mut room = [0; 9];
        let mut text = Text::new(&mut room);
        text.text("id ").hex(&[0x0f, 0xa9]);
        assert_eq!(text.done(), Ok(&b"id 0fa9"[..]));
        assert_eq!(text.text("...").done(), Err(Error::TooLarge));
    }
}

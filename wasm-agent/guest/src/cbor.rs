//! CBOR (RFC 8949) in its canonical form, read from and written to slices.
//!
//! One value has one form: definite lengths, and every number in its shortest form. The reader
//! refuses any other. Nothing panics and nothing is allocated; what is read borrows from the input.
//!
//! Not here: floats and tags, which agents do without; the order of a map's keys, which is the
//! caller's to keep (bytewise by encoded key).

use crate::Error;
use crate::sink::Sink;

const UINT: u8 = 0;
const NEGATIVE: u8 = 1;
const BYTES: u8 = 2;
const TEXT: u8 = 3;
const ARRAY: u8 = 4;
const MAP: u8 = 5;
const TAG: u8 = 6;
const SIMPLE: u8 = 7;

const FALSE: u64 = 20;
const TRUE: u64 = 21;
const NULL: u64 = 22;

/// Reads values one after another.
///
/// That one of them was not what was asked for is told once, by [`finish`](Self::finish); from there
/// on everything reads as zero, false or empty. So read all that is wanted, then `finish()?`, and
/// only then act on it.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
    /// The major type of the last head.
    major: u8,
    broken: bool,
}

impl<'a> Reader<'a> {
    /// A reader at the start of `bytes`.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self {
            rest: bytes,
            major: 0,
            broken: false,
        }
    }

    /// An unsigned integer.
    pub fn uint(&mut self) -> u64 {
        self.expect(UINT)
    }

    /// An integer that has its place in 64 bits with its sign.
    pub fn int(&mut self) -> i64 {
        let magnitude = self.head() as i64;
        match self.major {
            UINT if magnitude >= 0 => magnitude,
            NEGATIVE if magnitude >= 0 => !magnitude,
            _ => self.fail() as i64,
        }
    }

    /// A byte string.
    pub fn bytes(&mut self) -> &'a [u8] {
        self.string(BYTES)
    }

    /// A text string, as it came: only [`text`](Self::text) checks that it is UTF-8, and the check is
    /// a good part of a small module.
    pub fn text_bytes(&mut self) -> &'a [u8] {
        self.string(TEXT)
    }

    /// A text string.
    pub fn text(&mut self) -> &'a str {
        let bytes = self.text_bytes();
        core::str::from_utf8(bytes).unwrap_or_else(|_| {
            self.fail();
            ""
        })
    }

    /// The start of an array: how many values follow, never more than there are bytes.
    pub fn array(&mut self) -> usize {
        let len = self.expect(ARRAY);
        self.count(len)
    }

    /// The start of an array of exactly `len` values.
    pub fn array_of(&mut self, len: usize) {
        if self.array() != len {
            self.fail();
        }
    }

    /// The start of a map: how many pairs of a key and a value follow, never more than there are
    /// bytes.
    pub fn map(&mut self) -> usize {
        let len = self.expect(MAP);
        self.count(len)
    }

    /// True or false.
    pub fn bool(&mut self) -> bool {
        match self.expect(SIMPLE) {
            TRUE => true,
            FALSE => false,
            _ => self.fail() > 0,
        }
    }

    /// Null.
    pub fn null(&mut self) {
        if self.expect(SIMPLE) != NULL {
            self.fail();
        }
    }

    /// Passes over one value, whatever it is, with all that is in it.
    pub fn skip(&mut self) {
        let mut left = 1;
        while left > 0 && !self.broken {
            let argument = self.head();
            left -= 1;
            match self.major {
                BYTES | TEXT => drop(self.take(argument)),
                ARRAY => left += self.count(argument),
                MAP => left += self.count(argument) * 2,
                TAG => drop(self.fail()),
                _ => {}
            }
        }
    }

    /// Everything was what was asked for, and nothing is left over.
    ///
    /// # Errors
    /// [`Error::BadArgument`] if something was of another type, not canonical or cut short.
    pub fn finish(&self) -> Result<(), Error> {
        if self.rest.is_empty() && !self.broken {
            Ok(())
        } else {
            Err(Error::BadArgument)
        }
    }

    // Many callers, and none of them in a hurry.
    #[cold]
    #[inline(never)]
    fn fail(&mut self) -> u64 {
        self.rest = &[];
        self.broken = true;
        0
    }

    fn expect(&mut self, major: u8) -> u64 {
        let argument = self.head();
        if self.major == major {
            argument
        } else {
            self.fail()
        }
    }

    /// The argument of what comes next, and in `self.major` what it is.
    fn head(&mut self) -> u64 {
        let first = self.byte() as u8;
        self.major = first >> 5;
        let low = first & 0x1f;
        if low < 24 {
            return low.into();
        }
        if low > 27 || self.major == SIMPLE {
            return self.fail();
        }
        let len = 1 << (low - 24);
        let mut argument = 0;
        for _ in 0..len {
            argument = argument << 8 | self.byte();
        }
        // A shorter form is within the first byte, or has half as many.
        if argument < 24 || argument >> (len * 4) == 0 {
            return self.fail();
        }
        argument
    }

    #[inline(never)]
    fn byte(&mut self) -> u64 {
        match self.rest.split_first() {
            Some((first, rest)) => {
                self.rest = rest;
                (*first).into()
            }
            None => self.fail(),
        }
    }

    /// Each value takes a byte at least: a loop over a count that was checked here is a short one.
    fn count(&mut self, len: u64) -> usize {
        if len > self.rest.len() as u64 {
            self.fail();
            return 0;
        }
        len as usize
    }

    fn string(&mut self, major: u8) -> &'a [u8] {
        let len = self.expect(major);
        self.take(len)
    }

    fn take(&mut self, len: u64) -> &'a [u8] {
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        match (self.rest.get(..len), self.rest.get(len..)) {
            (Some(taken), Some(rest)) => {
                self.rest = rest;
                taken
            }
            _ => {
                self.fail();
                &[]
            }
        }
    }
}

/// Writes values one after another. That the slice was too short is told by [`done`](Self::done).
#[derive(Debug)]
pub struct Writer<'a> {
    sink: Sink<'a>,
}

impl<'a> Writer<'a> {
    /// A writer to the start of `out`.
    pub fn new(out: &'a mut [u8]) -> Self {
        Self {
            sink: Sink::new(out),
        }
    }

    /// An unsigned integer.
    pub fn uint(&mut self, value: u64) -> &mut Self {
        self.head(UINT, value)
    }

    /// An integer.
    pub fn int(&mut self, value: i64) -> &mut Self {
        if value < 0 {
            self.head(NEGATIVE, !value as u64)
        } else {
            self.head(UINT, value as u64)
        }
    }

    /// A byte string.
    pub fn bytes(&mut self, value: &[u8]) -> &mut Self {
        self.head(BYTES, value.len() as u64).raw(value)
    }

    /// A text string.
    pub fn text(&mut self, value: &str) -> &mut Self {
        self.head(TEXT, value.len() as u64).raw(value.as_bytes())
    }

    /// The start of an array: the caller writes `len` values after it.
    pub fn array(&mut self, len: usize) -> &mut Self {
        self.head(ARRAY, len as u64)
    }

    /// The start of a map: the caller writes `len` keys, in their order, each with its value.
    pub fn map(&mut self, len: usize) -> &mut Self {
        self.head(MAP, len as u64)
    }

    /// True or false.
    pub fn bool(&mut self, value: bool) -> &mut Self {
        self.head(SIMPLE, if value { TRUE } else { FALSE })
    }

    /// Null.
    pub fn null(&mut self) -> &mut Self {
        self.head(SIMPLE, NULL)
    }

    /// Bytes that are canonical CBOR already.
    pub fn raw(&mut self, encoded: &[u8]) -> &mut Self {
        self.sink.put(encoded);
        self
    }

    /// All that was written.
    ///
    /// # Errors
    /// [`Error::TooLarge`] if it was more than the slice holds.
    pub fn done(&self) -> Result<&[u8], Error> {
        self.sink.done()
    }

    fn head(&mut self, major: u8, argument: u64) -> &mut Self {
        let major = major << 5;
        if argument < 24 {
            self.sink.push(major | argument as u8);
            return self;
        }
        // The longest form, and from there to half as many bytes as long as they are enough.
        let (mut low, mut len) = (27, 8);
        while low > 24 && argument >> (len * 4) == 0 {
            low -= 1;
            len /= 2;
        }
        self.sink.push(major | low);
        for at in (0..len).rev() {
            self.sink.push((argument >> (at * 8)) as u8);
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn written(
        write: impl for<'a, 'b> FnOnce(&'a mut Writer<'b>) -> &'a mut Writer<'b>,
    ) -> Vec<u8> {
        write(&mut Writer::new(&mut [0; 64]))
            .done()
            .unwrap()
            .to_vec()
    }

    /// One value, which is all there is.
    fn one<'a, T>(bytes: &'a [u8], read: impl FnOnce(&mut Reader<'a>) -> T) -> Result<T, Error> {
        let mut reader = Reader::new(bytes);
        let value = read(&mut reader);
        reader.finish().map(|()| value)
    }

    #[test]
    fn numbers_have_the_forms_of_the_rfc() {
        // RFC 8949, appendix A.
        for (value, bytes) in [
            (0, &[0x00][..]),
            (23, &[0x17]),
            (24, &[0x18, 24]),
            (100, &[0x18, 0x64]),
            (1000, &[0x19, 0x03, 0xe8]),
            (1_000_000, &[0x1a, 0, 0x0f, 0x42, 0x40]),
            (
                1_000_000_000_000,
                &[0x1b, 0, 0, 0, 0xe8, 0xd4, 0xa5, 0x10, 0],
            ),
            (-1, &[0x20]),
            (-10, &[0x29]),
            (-100, &[0x38, 0x63]),
            (-1000, &[0x39, 0x03, 0xe7]),
        ] {
            assert_eq!(written(|w| w.int(value)), bytes);
            assert_eq!(one(bytes, Reader::int), Ok(value));
        }
        for value in [
            i64::MIN,
            i64::MAX,
            -(1 << 32),
            1 << 32,
            255,
            256,
            65_535,
            65_536,
        ] {
            assert_eq!(one(&written(|w| w.int(value)), Reader::int), Ok(value));
        }
        let most = written(|w| w.uint(u64::MAX));
        assert_eq!(one(&most, Reader::uint), Ok(u64::MAX));
        assert!(
            one(&most, Reader::int).is_err(),
            "it has no place in an i64"
        );
    }

    #[test]
    fn what_was_written_is_read() {
        let bytes = written(|w| {
            w.array(4)
                .bytes(&[7; 30])
                .text("wake")
                .bool(true)
                .map(1)
                .text("k")
                .null()
        });
        let mut reader = Reader::new(&bytes);
        reader.array_of(4);
        assert_eq!(reader.bytes(), [7; 30]);
        assert_eq!(reader.text(), "wake");
        assert!(reader.bool());
        assert_eq!(reader.map(), 1);
        assert_eq!(reader.text_bytes(), b"k");
        reader.null();
        assert_eq!(reader.finish(), Ok(()));
        assert_eq!(one(&bytes, Reader::skip), Ok(()));
    }

    #[test]
    fn another_form_of_the_same_value_is_refused() {
        for bytes in [
            &[0x18, 23][..],
            &[0x19, 0, 0xff],
            &[0x1a, 0, 0, 0xff, 0xff],
            &[0x1b, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff],
            &[0x9f, 0xff],
            &[0x5f, 0xff],
            &[0xc0, 0x00],
            &[0xf9, 0, 0],
            &[0xfb, 0, 0, 0, 0, 0, 0, 0, 0],
            &[0xf8, 0xff],
            &[0x1c],
            &[0x19, 1],
            &[0x42, 1],
            &[0x82, 1],
            &[],
        ] {
            assert!(one(bytes, Reader::skip).is_err(), "{bytes:02x?}");
        }
        assert!(one(&[0x62, 0xc3, 0x28], Reader::text).is_err(), "not UTF-8");
        assert!(one(&[1, 2], Reader::uint).is_err(), "bytes left over");
        assert!(one(&[0x41, 2], Reader::uint).is_err(), "another type");
        assert!(one(&[0x02], Reader::bool).is_err(), "another type");
    }

    #[test]
    fn what_comes_after_a_mistake_reads_as_nothing() {
        let mut reader = Reader::new(&[0x61, b'a', 5, 0x82, 1, 2]);
        assert_eq!((reader.uint(), reader.uint(), reader.array()), (0, 0, 0));
        assert_eq!(reader.finish(), Err(Error::BadArgument));
    }

    #[test]
    fn no_bytes_make_the_reader_panic_or_stall() {
        let mut seed = 1u64;
        for _ in 0..20_000 {
            let mut bytes = [0; 24];
            for byte in &mut bytes {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                *byte = (seed >> 56) as u8;
            }
            let mut reader = Reader::new(&bytes);
            while !reader.rest.is_empty() {
                reader.skip();
            }
        }
        let countless = [0xbb, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
        assert_eq!(Reader::new(&countless).map(), 0);
    }

    #[test]
    fn a_slice_that_is_too_short_is_told_at_the_end() {
        let mut room = [0; 3];
        let mut writer = Writer::new(&mut room);
        writer.bytes(b"abc").uint(1);
        assert_eq!(
            writer.done(),
            Err(Error::TooLarge),
            "also if the last value had room"
        );
    }
}

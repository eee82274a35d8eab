//! Reader: a place in a module's bytes, and the few things that are read there.
//!
//! The parser, the validator and the running instance read with it: one decoder of LEB128 serves
//! all three. A failure is sticky: the first one is kept, and what is read after it is zero. So the
//! code that reads goes straight on, and only loops ask whether there is more. That spares an exit at
//! each of two hundred reads, a fifth of the kernel's size.
//!
//! Not here: what the numbers mean.

use crate::numeric::{cut, extend};
use crate::opcode::{I32, I64, NONE};
use crate::refused::{Refused, Why};

/// A place in a module's bytes, or the first failure.
pub(crate) struct Reader<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) at: usize,
    pub(crate) refused: Option<Refused>,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8], at: usize) -> Self {
        Self {
            bytes,
            at,
            refused: None,
        }
    }

    /// Keeps the failure if it is the first one; nothing is read from here on.
    #[inline(never)]
    pub(crate) fn refuse(&mut self, why: Why) {
        if self.refused.is_none() {
            let at = self.at as u32;
            self.refused = Some(Refused { why, at });
        }
        self.at = self.bytes.len();
    }

    #[inline(always)]
    pub(crate) fn require(&mut self, holds: bool, why: Why) {
        if !holds {
            self.refuse(why);
        }
    }

    /// Counts down, and says whether there is another entry: not after a failure.
    pub(crate) fn another(&self, left: &mut u32) -> bool {
        let another = *left > 0 && self.refused.is_none();
        *left = left.wrapping_sub(1);
        another
    }

    #[inline(never)]
    pub(crate) fn byte(&mut self) -> u8 {
        let Some(byte) = self.bytes.get(self.at) else {
            self.refuse(Why::Truncated);
            return 0;
        };
        self.at += 1;
        *byte
    }

    /// A byte that can be zero only: where later versions of WebAssembly have an index or flags.
    pub(crate) fn zero(&mut self) {
        let zero = self.byte() == 0;
        self.require(zero, Why::Unsupported);
    }

    /// An unsigned number of 32 bits (spec 5.2.2).
    #[inline(never)]
    pub(crate) fn number(&mut self) -> u32 {
        self.leb128(32, false) as u32
    }

    /// A number of `bits` bits in LEB128: of 32, or sign-extended to 64 if `signed`. It may be padded
    /// to the length of the longest number of its width, but no bit beyond its width may be set.
    #[inline(never)]
    pub(crate) fn leb128(&mut self, bits: u32, signed: bool) -> u64 {
        // Most numbers are small, and then both kinds are alike.
        if let Some(byte @ 0..0x40) = self.bytes.get(self.at) {
            self.at += 1;
            return u64::from(*byte);
        }
        let mut value = 0;
        let mut shift = 0;
        let mut byte;
        loop {
            byte = self.byte();
            value |= u64::from(byte & 0x7f) << shift;
            shift += 7;
            if byte < 0x80 || shift >= bits {
                break;
            }
        }
        let mut fits = byte < 0x80;
        if signed {
            // The tenth byte has one bit of 64, and its others repeat it.
            fits &= shift < 64 || byte == 0 || byte == 0x7f;
            if byte & 0x40 != 0 && shift < 64 {
                value |= u64::MAX << shift;
            }
            fits &= extend(value, bits) as u64 == value;
        } else {
            fits &= value >> bits == 0;
        }
        self.require(fits, Why::Number);
        value
    }

    #[inline(never)]
    pub(crate) fn take(&mut self, length: usize) -> &'a [u8] {
        let end = self.at.wrapping_add(length);
        let Some(taken) = self.bytes.get(self.at..end) else {
            self.refuse(Why::Truncated);
            return &[];
        };
        self.at = end;
        taken
    }

    /// A vector of bytes (spec 5.2.1).
    pub(crate) fn vector(&mut self) -> &'a [u8] {
        let length = self.number();
        self.take(length as usize)
    }

    #[inline(never)]
    pub(crate) fn name(&mut self) -> &'a [u8] {
        let name = self.vector();
        for byte in name {
            self.require(*byte < 0x80, Why::Name);
        }
        name
    }

    #[inline(never)]
    pub(crate) fn value_type(&mut self) -> u8 {
        let of = 0x80_u8.wrapping_sub(self.byte());
        self.require(of == I32 || of == I64, Why::Unsupported);
        of & 3
    }

    /// A block's type: of no result, or of one (spec 5.4.1).
    pub(crate) fn block_type(&mut self) -> u8 {
        if self.bytes.get(self.at) == Some(&0x40) {
            self.at += 1;
            NONE
        } else {
            self.value_type()
        }
    }

    /// The number of an `i32.const` or `i64.const`.
    #[inline(never)]
    pub(crate) fn literal(&mut self, of: u8) -> u64 {
        cut(self.leb128(if of == I32 { 32 } else { 64 }, true), of)
    }

    /// A constant expression of type `of` (spec 3.3.10): one number, since no global is imported.
    #[inline(never)]
    pub(crate) fn constant(&mut self, of: u8) -> u64 {
        let op = self.byte();
        self.require(op == 0x40 + of, Why::Type);
        let value = self.literal(of);
        let end = self.byte();
        self.require(end == 0x0b, Why::Unsupported);
        value
    }

    /// A minimum and a maximum (spec 5.3.7); `most` where none is given.
    pub(crate) fn range(&mut self, most: u32) -> (u32, u32) {
        let flag = self.byte();
        self.require(flag < 2, Why::Unsupported);
        let low = self.number();
        let high = if flag == 0 { most } else { self.number() };
        self.require(low <= high && high <= most, Why::Range);
        (low, high)
    }
}

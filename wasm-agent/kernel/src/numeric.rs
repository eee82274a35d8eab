//! Numeric instructions: arithmetic on `i32` and `i64` as one (spec 4.3.2).
//!
//! An `i32` is kept in a `u64` with an upper half of zero. So unsigned arithmetic is the same for
//! both widths, signed arithmetic is the same after sign extension, and the result is cut to its
//! width at the end.
//!
//! Not here: which operands there are (`opcode`).

use crate::opcode::{I32, I64, SHAPES};
use crate::trap::Trap;

/// What the numeric instruction `op` makes of `a` and `b`, or of `b` alone if it takes one operand.
pub(crate) fn numeric(op: u8, a: u64, b: u64) -> Result<u64, Trap> {
    let shape = SHAPES[usize::from(op)];
    let wide = shape >> 2 & 3 == I64;
    let bits = if wide { 64 } else { 32 };
    let (sa, sb) = (extend(a, bits), extend(b, bits));
    let count = (b & u64::from(bits - 1)) as u32;
    // Twice an i32 rotates like one.
    let round = if wide { a } else { a << 32 | a };
    // Both widths have the same order: 11 tests and comparisons, 18 of arithmetic.
    let nth = match op {
        0x45..=0x4f => op - 0x45,
        0x50..=0x5a => op - 0x50,
        0x67..=0x78 => op - 0x67 + 11,
        0x79..=0x8a => op - 0x79 + 11,
        _ => op,
    };
    let value = match nth {
        0 => u64::from(b == 0),
        1 | 2 => u64::from((a == b) ^ (nth == 2)),
        3..=10 => {
            // Less, greater, not greater, not less: each signed, then unsigned.
            let (low, high) = if matches!(nth, 5..=8) { (b, a) } else { (a, b) };
            let less = match nth % 2 {
                1 => extend(low, bits) < extend(high, bits),
                _ => low < high,
            };
            u64::from(less ^ (nth > 6))
        }
        11 => u64::from(b.leading_zeros() + bits - 64),
        12 => u64::from(b.trailing_zeros().min(bits)),
        13 => {
            let (mut rest, mut ones) = (b, 0);
            while rest != 0 {
                rest &= rest - 1;
                ones += 1;
            }
            ones
        }
        14 => a.wrapping_add(b),
        15 => a.wrapping_sub(b),
        16 => a.wrapping_mul(b),
        17..=20 if b == 0 => return Err(Trap::DivideByZero),
        17 | 19 => {
            let quotient = sa.checked_div(sb).unwrap_or(sa);
            // It is the least integer by minus one, and only then, that has no quotient.
            if nth == 19 {
                sa.wrapping_sub(quotient.wrapping_mul(sb)) as u64
            } else if quotient == sa && sb == -1 && sa != 0
                || extend(quotient as u64, bits) != quotient
            {
                return Err(Trap::Overflow);
            } else {
                quotient as u64
            }
        }
        18 | 20 => {
            let quotient = a.checked_div(b).unwrap_or(0);
            if nth == 18 {
                quotient
            } else {
                a - quotient * b
            }
        }
        21 => a & b,
        22 => a | b,
        23 => a ^ b,
        24 => a << count,
        25 => (sa >> count) as u64,
        26 => a >> count,
        27 => round.rotate_left(count),
        28 => round.rotate_right(count),
        0xc0..=0xc3 => extend(b, 8 << (op & 1)) as u64,
        0xac | 0xc4 => extend(b, 32) as u64,
        // Wrap, and extend without sign: the cut below is all.
        _ => b,
    };
    Ok(cut(value, shape & 3))
}

/// The lower `bits` of a value (1 to 64), sign-extended.
pub(crate) fn extend(value: u64, bits: u32) -> i64 {
    let shift = 64_u32.saturating_sub(bits);
    ((value << shift) as i64) >> shift
}

/// A value cut to the width of its type.
#[inline(never)]
pub(crate) fn cut(value: u64, of: u8) -> u64 {
    if of == I32 {
        value & u64::from(u32::MAX)
    } else {
        value
    }
}

//! Packed: what there is much of in a talk about differences, as one string of bytes each.
//!
//! Cells and gauges have fixed lengths. A short hash is six bytes; a height after it is a LEB128
//! number of the shortest form. What CBOR would add to each is as much again as they carry.

use super::{CodedWant, OpenMessage, Parsed, Told};
use crate::limits::{ITEMS_PER_MESSAGE_MAX, SYMBOLS_PER_MESSAGE_MAX};
use crate::record::Seq;
use crate::riblt::{CELL_BYTES, Cell};
use crate::sync::{GAUGES, Gauge};

const SHORT_BYTES: usize = 6;

pub(super) fn cells(cells: &[Cell]) -> Vec<u8> {
    cells.iter().flat_map(|cell| cell.to_bytes()).collect()
}

pub(super) fn read_cells(bytes: &[u8]) -> Parsed<Vec<Cell>> {
    let (cells, rest) = bytes.as_chunks::<CELL_BYTES>();
    if !rest.is_empty() || cells.len() > SYMBOLS_PER_MESSAGE_MAX {
        return Err(OpenMessage::Malformed);
    }
    let read = |bytes| Cell::from_bytes(bytes).ok_or(OpenMessage::Malformed);
    cells.iter().map(read).collect()
}

pub(super) fn gauge(gauge: Option<&Gauge>) -> Vec<u8> {
    let sums = gauge.iter().flat_map(|gauge| gauge.0);
    sums.flat_map(i16::to_be_bytes).collect()
}

pub(super) fn read_gauge(bytes: &[u8]) -> Parsed<Option<Gauge>> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let (sums, rest) = bytes.as_chunks::<2>();
    let sums: &[[u8; 2]; GAUGES] = sums.try_into().map_err(|_| OpenMessage::Malformed)?;
    if rest.is_empty() {
        Ok(Some(Gauge(sums.map(i16::from_be_bytes))))
    } else {
        Err(OpenMessage::Malformed)
    }
}

pub(super) fn wants(wants: &[CodedWant]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(wants.len() * (SHORT_BYTES + 2));
    for want in wants {
        put_short(&mut bytes, want.short);
        put_number(&mut bytes, want.from);
        put_number(&mut bytes, want.until.saturating_sub(want.from));
    }
    bytes
}

pub(super) fn read_wants(bytes: &[u8]) -> Parsed<Vec<CodedWant>> {
    read_all(bytes, |bytes| {
        let (short, from, more) = (take_short(bytes)?, take_number(bytes)?, take_number(bytes)?);
        let until = from.checked_add(more).ok_or(OpenMessage::Malformed)?;
        Ok(CodedWant { short, from, until })
    })
}

pub(super) fn told(told: &[Told]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(told.len() * (SHORT_BYTES + 1));
    for told in told {
        put_short(&mut bytes, told.short);
        put_number(&mut bytes, told.height);
    }
    bytes
}

pub(super) fn read_told(bytes: &[u8]) -> Parsed<Vec<Told>> {
    read_all(bytes, |bytes| {
        let (short, height) = (take_short(bytes)?, take_number(bytes)?);
        Ok(Told { short, height })
    })
}

fn read_all<T>(mut bytes: &[u8], mut read: impl FnMut(&mut &[u8]) -> Parsed<T>) -> Parsed<Vec<T>> {
    let mut all = Vec::new();
    while !bytes.is_empty() {
        if all.len() >= ITEMS_PER_MESSAGE_MAX {
            return Err(OpenMessage::Malformed);
        }
        all.push(read(&mut bytes)?);
    }
    Ok(all)
}

fn put_short(bytes: &mut Vec<u8>, short: u64) {
    bytes.extend_from_slice(&short.to_be_bytes()[8 - SHORT_BYTES..]);
}

fn take_short(bytes: &mut &[u8]) -> Parsed<u64> {
    let (short, rest) = bytes
        .split_first_chunk::<SHORT_BYTES>()
        .ok_or(OpenMessage::Malformed)?;
    *bytes = rest;
    let mut wide = [0; 8];
    wide[8 - SHORT_BYTES..].copy_from_slice(short);
    Ok(u64::from_be_bytes(wide))
}

/// Seven bits a byte, the lowest first, the high bit set on all but the last.
fn put_number(bytes: &mut Vec<u8>, mut number: Seq) {
    while number > 0x7f {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

fn take_number(bytes: &mut &[u8]) -> Parsed<Seq> {
    let mut number = 0;
    for place in 0..10 {
        let (byte, rest) = bytes.split_first().ok_or(OpenMessage::Malformed)?;
        *bytes = rest;
        let bits = u64::from(byte & 0x7f);
        // The tenth byte holds one bit, and a last byte of nothing is no shortest form.
        if (place == 9 && bits > 1) || (place > 0 && *byte == 0) {
            return Err(OpenMessage::Malformed);
        }
        number |= bits << (7 * place);
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(OpenMessage::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_packed_is_unpacked(
            all in proptest::collection::vec((0u64..1 << 48, any::<u64>(), any::<u64>()), 0..20),
        ) {
            let want = |(short, a, b): &(u64, u64, u64)| CodedWant {
                short: *short,
                from: *a.min(b),
                until: *a.max(b),
            };
            let asked: Vec<_> = all.iter().map(want).collect();
            prop_assert_eq!(read_wants(&wants(&asked)), Ok(asked));
            let say = |(short, height, _): &(u64, u64, u64)| Told { short: *short, height: *height };
            let said: Vec<_> = all.iter().map(say).collect();
            prop_assert_eq!(read_told(&told(&said)), Ok(said));
        }

        /// Nothing has two forms.
        #[test]
        fn what_opens_packs_to_the_same_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            if let Ok(told_) = read_told(&bytes) {
                prop_assert_eq!(told(&told_), bytes.clone());
            }
            if let Ok(asked) = read_wants(&bytes) {
                prop_assert_eq!(wants(&asked), bytes);
            }
        }
    }
}

//! A map of what is here: one bit for each group of a blob.

use std::ops::Range;

/// So many bits, all of them known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bits {
    bytes: Vec<u8>,
    len: u64,
}

impl Bits {
    /// `len` bits, none set.
    pub(crate) fn none(len: u64) -> Self {
        Self {
            bytes: vec![0; len.div_ceil(8) as usize],
            len,
        }
    }

    /// `len` bits, all set.
    pub(crate) fn all(len: u64) -> Self {
        let mut bits = Self::none(len);
        bits.set(0..len);
        bits
    }

    /// `len` bits from what a file holds: what it lacks is not set, what it has too many is ignored.
    pub(crate) fn read(mut bytes: Vec<u8>, len: u64) -> Self {
        bytes.resize(len.div_ceil(8) as usize, 0);
        if let Some(last) = bytes.last_mut()
            && !len.is_multiple_of(8)
        {
            *last &= (1 << (len % 8)) - 1;
        }
        Self { bytes, len }
    }

    /// As they lie in a file.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How many there are.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Whether bit `at` is set.
    pub(crate) fn has(&self, at: u64) -> bool {
        self.bytes[(at / 8) as usize] >> (at % 8) & 1 == 1
    }

    /// Sets some, and says how many of them were not.
    pub(crate) fn set(&mut self, range: Range<u64>) -> u64 {
        let mut fresh = 0;
        for at in range {
            fresh += u64::from(!self.has(at));
            self.bytes[(at / 8) as usize] |= 1 << (at % 8);
        }
        fresh
    }

    /// Whether any of these is set.
    pub(crate) fn any(&self, range: Range<u64>) -> bool {
        let mut at = range.start;
        while at < range.end {
            // A whole byte at once where there is one: trees ask this of long ranges.
            if at.is_multiple_of(8) && range.end - at >= 8 {
                if self.bytes[(at / 8) as usize] != 0 {
                    return true;
                }
                at += 8;
            } else if self.has(at) {
                return true;
            } else {
                at += 1;
            }
        }
        false
    }

    /// Whether all of these are set.
    pub(crate) fn whole(&self, mut range: Range<u64>) -> bool {
        range.all(|at| self.has(at))
    }

    /// How many are set.
    pub(crate) fn count(&self) -> u64 {
        self.bytes
            .iter()
            .map(|byte| u64::from(byte.count_ones()))
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_map_says_what_a_list_of_bits_says(
            len in 1u64..200,
            ranges in proptest::collection::vec((0u64..200, 0u64..40), 0..8),
            asked in (0u64..200, 0u64..200),
        ) {
            let mut bits = Bits::none(len);
            let mut plain = vec![false; len as usize];
            for (start, count) in ranges {
                let range = start.min(len)..(start + count).min(len);
                let fresh = range.clone().filter(|at| !plain[*at as usize]).count() as u64;
                range.clone().for_each(|at| plain[at as usize] = true);
                prop_assert_eq!(bits.set(range), fresh);
            }
            prop_assert_eq!(bits.count(), plain.iter().filter(|bit| **bit).count() as u64);
            let asked = asked.0.min(len)..asked.1.min(len);
            let of = |range: &Range<u64>| range.clone().map(|at| plain[at as usize]).collect::<Vec<_>>();
            prop_assert_eq!(bits.any(asked.clone()), of(&asked).contains(&true));
            prop_assert_eq!(bits.whole(asked.clone()), !of(&asked).contains(&false));
            prop_assert_eq!(Bits::read(bits.as_bytes().to_vec(), len), bits);
        }

        #[test]
        fn whatever_a_file_holds_is_a_map(bytes in proptest::collection::vec(any::<u8>(), 0..40), len in 1u64..200) {
            let bits = Bits::read(bytes, len);
            prop_assert!(bits.count() <= len && bits.len() == len);
        }
    }
}

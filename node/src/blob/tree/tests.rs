//! The tree against BLAKE3 itself, against `bao-tree`, and against whoever lies.

use super::*;
use proptest::prelude::*;
use std::cell::RefCell;

/// A blob and its tree in memory.
#[derive(Clone)]
pub(crate) struct InMemory {
    pub(crate) data: Vec<u8>,
    pub(crate) pairs: Vec<u8>,
}

impl Stored for InMemory {
    fn data(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        let from = self.data.get(offset as usize..).unwrap_or_default();
        let piece = from.get(..into.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        into.copy_from_slice(piece);
        Ok(())
    }

    fn pair(&self, place: u64) -> io::Result<[u8; 64]> {
        let from = self.pairs.get((place * 64) as usize..).unwrap_or_default();
        Ok(*from.first_chunk().ok_or(io::ErrorKind::UnexpectedEof)?)
    }
}

/// Bytes that repeat nowhere near a group's length.
pub(crate) fn noise(len: u64) -> Vec<u8> {
    let mut bytes = vec![0; len as usize];
    Hasher::new_derive_key("noise")
        .finalize_xof()
        .fill(&mut bytes);
    bytes
}

pub(crate) fn built(data: Vec<u8>) -> (BlobHash, Shape, InMemory) {
    let shape = Shape::of(data.len() as u64);
    let pairs = RefCell::new(vec![0; shape.tree_bytes() as usize]);
    let mut rest = &data[..];
    let mut read = |into: &mut [u8]| {
        let (piece, after) = rest.split_at(into.len());
        into.copy_from_slice(piece);
        rest = after;
        Ok(())
    };
    let mut put = |place: u64, bytes: &[u8]| {
        let at = (place * PAIR_BYTES) as usize;
        pairs.borrow_mut()[at..at + bytes.len()].copy_from_slice(bytes);
        Ok(())
    };
    let name = build(shape, &mut read, &mut put).expect("memory does not fail");
    let pairs = pairs.into_inner();
    (name, shape, InMemory { data, pairs })
}

/// Lengths around every edge: chunks, groups, slices, powers of two.
const LENGTHS: [u64; 14] = [
    0,
    1,
    1_024,
    GROUP_BYTES - 1,
    GROUP_BYTES,
    GROUP_BYTES + 1,
    2 * GROUP_BYTES,
    3 * GROUP_BYTES + 5,
    5 * GROUP_BYTES,
    SLICE_GROUPS * GROUP_BYTES - 1,
    SLICE_GROUPS * GROUP_BYTES,
    SLICE_GROUPS * GROUP_BYTES + 1,
    2 * SLICE_GROUPS * GROUP_BYTES + 7 * GROUP_BYTES + 3,
    5 * SLICE_GROUPS * GROUP_BYTES,
];

#[test]
fn the_root_is_the_hash_that_blake3_gives() {
    for len in LENGTHS {
        let data = noise(len);
        let expected = blake3::hash(&data);
        let (name, shape, stored) = built(data);
        assert_eq!(&name.0, expected.as_bytes(), "{len} bytes");
        let all = Bits::all(shape.groups());
        let mut bytes = 0;
        let good = check(&name, shape, &all, &stored, &mut |seen| bytes += seen);
        assert_eq!((good, bytes), (all, len), "{len} bytes");
    }
}

#[test]
fn every_slice_proves_itself_and_together_they_are_the_blob_and_its_tree() {
    for len in LENGTHS {
        let (name, shape, stored) = built(noise(len));
        let (mut data, mut pairs) = (Vec::new(), vec![0; stored.pairs.len()]);
        for first in (0..shape.groups()).step_by(SLICE_GROUPS as usize) {
            let groups = shape.slice(first);
            let encoded = encode(shape, &groups, &stored).expect("in memory");
            assert!(encoded.len() <= SLICE_BYTES_MAX);
            let slice = open(&name, shape, &groups, &encoded).expect("honest");
            data.extend(slice.data);
            for (place, run) in slice.pairs {
                let at = (place * PAIR_BYTES) as usize;
                pairs[at..at + run.len()].copy_from_slice(&run);
            }
        }
        assert_eq!((data, pairs), (stored.data, stored.pairs), "{len} bytes");
    }
}

#[test]
fn pairs_and_slices_are_byte_for_byte_those_of_bao_tree() {
    use bao_tree::io::outboard::PreOrderOutboard;
    use bao_tree::io::sync::encode_ranges_validated;
    use bao_tree::{BlockSize, ChunkNum, ChunkRanges};
    let groups_of_16 = BlockSize::from_chunk_log(4);
    for len in LENGTHS {
        let (name, shape, stored) = built(noise(len));
        let theirs =
            bao_tree::io::outboard::PreOrderMemOutboard::create(&stored.data, groups_of_16);
        assert_eq!(theirs.root.as_bytes(), &name.0);
        assert_eq!(theirs.data, stored.pairs, "the pairs of {len} bytes");
        for first in (0..shape.groups()).step_by(SLICE_GROUPS as usize) {
            let groups = shape.slice(first);
            let chunks = ChunkRanges::from(ChunkNum(groups.start * 16)..ChunkNum(groups.end * 16));
            let outboard = PreOrderOutboard {
                root: theirs.root,
                tree: theirs.tree,
                data: &theirs.data[..],
            };
            let mut encoded = Vec::new();
            encode_ranges_validated(&stored.data[..], outboard, &chunks, &mut encoded)
                .expect("in memory");
            let ours = encode(shape, &groups, &stored).expect("in memory");
            assert!(ours == encoded, "the slice at {first} of {len} bytes");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Whoever changes a byte, cuts a slice short, goes on after its end, or gives another slice for
    /// it is found out.
    #[test]
    fn a_slice_that_was_touched_proves_nothing(
        len in 1u64..(3 * SLICE_GROUPS * GROUP_BYTES),
        start in 0u64..1_000, count in 1u64..SLICE_GROUPS,
        at in any::<prop::sample::Index>(), bit in 0u8..8, cut in any::<prop::sample::Index>(),
    ) {
        let (name, shape, stored) = built(noise(len));
        let first = start % shape.groups();
        let groups = first..(first + count).min(shape.groups());
        let encoded = encode(shape, &groups, &stored).expect("in memory");
        prop_assert!(open(&name, shape, &groups, &encoded).is_ok());
        let mut touched = encoded.clone();
        touched[at.index(encoded.len())] ^= 1 << bit;
        prop_assert!(open(&name, shape, &groups, &touched).is_err());
        prop_assert!(open(&name, shape, &groups, &encoded[..cut.index(encoded.len())]).is_err());
        let longer = [&encoded[..], &[0]].concat();
        prop_assert!(open(&name, shape, &groups, &longer).is_err());
        // A length that lies is found out at the end of the blob, which nobody can give.
        let (last, other) = (shape.groups() - 1, Shape::of(len + GROUP_BYTES));
        let encoded = encode(shape, &(last..last + 1), &stored).expect("in memory");
        for last in [last..last + 1, last + 1..last + 2] {
            prop_assert!(open(&name, other, &last, &encoded).is_err());
        }
    }

    /// I7: whatever bytes come, reading them ends in an answer.
    #[test]
    fn hostile_slices_never_panic(
        len in 0u64..(1 << 44), start in any::<u64>(), bytes in proptest::collection::vec(any::<u8>(), 0..300),
    ) {
        let shape = Shape::of(len);
        let groups = shape.slice(start % shape.groups());
        let _ = open(&BlobHash([7; 32]), shape, &groups, &bytes);
    }

    /// A byte that rotted, in the blob or in its tree, spoils what lies under it and nothing else.
    #[test]
    fn damage_is_found_where_it_is(
        groups in 2u64..200, at in any::<prop::sample::Index>(), in_tree in any::<bool>(),
    ) {
        let (name, shape, mut stored) = built(noise(groups * GROUP_BYTES));
        let all = Bits::all(groups);
        let spoilt = if in_tree { &mut stored.pairs } else { &mut stored.data };
        let at = at.index(spoilt.len());
        spoilt[at] ^= 1;
        let good = check(&name, shape, &all, &stored, &mut |_| {});
        if in_tree {
            prop_assert!(good.count() < groups);
        } else {
            prop_assert_eq!(good.count(), groups - 1);
            prop_assert!(!good.has(at as u64 / GROUP_BYTES));
        }
    }
}

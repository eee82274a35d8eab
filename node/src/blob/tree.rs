//! The hash tree of a blob: BLAKE3's own, cut off at leaves of 16 KiB.
//!
//! A leaf is a group of sixteen BLAKE3 chunks; above it, each parent is the pair of its children's
//! chaining values, and the root of all is the blob's name. Pairs are kept in pre-order (a parent,
//! then all of its left side, then all of its right), which puts those of any subtree side by side.
//! A slice travels as the pairs and groups on the way down to it, in the same order, so whoever
//! knows the name and the length proves each part as it comes. Layout and encoding are those of
//! Bao with chunk groups of 2⁴ (`bao-tree`, which a test compares them with).
//!
//! Not here: files (`part`, `shelf`), who sends what to whom (`serve`, `fetch`).

use super::BlobHash;
use super::bits::Bits;
use blake3::Hasher;
use blake3::hazmat::{HasherExt as _, Mode, merge_subtrees_non_root, merge_subtrees_root};
use std::io;
use std::ops::Range;

/// Bytes of a group, but for the last of a blob.
pub(crate) const GROUP_BYTES: u64 = 16 << 10;
/// Bytes of a parent: two chaining values.
pub(crate) const PAIR_BYTES: u64 = 64;
/// The most groups of a slice: 1 MiB.
pub(crate) const SLICE_GROUPS: u64 = 64;
/// The longest encoding of a slice: its groups, the pairs between them, and those on the way to it.
pub(crate) const SLICE_BYTES_MAX: usize =
    (SLICE_GROUPS * GROUP_BYTES + (2 * SLICE_GROUPS + 2 * 64) * PAIR_BYTES) as usize;

type Value = [u8; 32];

/// What a blob's length says of its tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    bytes: u64,
}

/// A subtree: the groups below it, and where its own pair lies, counted in pairs.
#[derive(Clone, Copy)]
struct Node {
    first: u64,
    end: u64,
    place: u64,
}

/// Where the bytes of a blob and the pairs of its tree are read.
pub(crate) trait Stored {
    /// Fills `into` with the blob's bytes from `offset` on.
    fn data(&self, offset: u64, into: &mut [u8]) -> io::Result<()>;
    /// The pair at `place`.
    fn pair(&self, place: u64) -> io::Result<[u8; PAIR_BYTES as usize]>;
}

/// A slice that belongs to the blob, proved.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Verified {
    /// The bytes of its groups.
    pub(crate) data: Vec<u8>,
    /// Pairs that lie side by side, and where the first does, counted in pairs.
    pub(crate) pairs: Vec<(u64, Vec<u8>)>,
}

/// Why a slice does not belong to the blob.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum OpenSlice {
    /// It ends too early, or goes on too long.
    #[error("the slice from group {first} on has {len} bytes, not those it must have")]
    Length {
        /// Its first group.
        first: u64,
        /// Its length, bytes.
        len: usize,
    },
    /// A pair is not the one that its parent names.
    #[error("the tree above group {first} is not that of the blob")]
    Pair {
        /// The first group below it.
        first: u64,
    },
    /// The bytes are not those that the tree names.
    #[error("group {group} is not that of the blob")]
    Group {
        /// Which.
        group: u64,
    },
}

impl Shape {
    /// Of a blob of so many bytes.
    pub(crate) fn of(bytes: u64) -> Self {
        Self { bytes }
    }

    /// How long it is.
    pub(crate) fn bytes(self) -> u64 {
        self.bytes
    }

    /// How many groups it has; an empty blob has one, which is empty.
    pub(crate) fn groups(self) -> u64 {
        self.bytes.div_ceil(GROUP_BYTES).max(1)
    }

    /// How long the file of its pairs is, in bytes.
    pub(crate) fn tree_bytes(self) -> u64 {
        (self.groups() - 1) * PAIR_BYTES
    }

    /// Where groups lie, in bytes.
    pub(crate) fn span(self, groups: &Range<u64>) -> Range<u64> {
        let at = |group: u64| (group * GROUP_BYTES).min(self.bytes);
        at(groups.start)..at(groups.end)
    }

    /// The slice that begins with group `first`.
    pub(crate) fn slice(self, first: u64) -> Range<u64> {
        first..(first + SLICE_GROUPS).min(self.groups())
    }

    fn root(self) -> Node {
        let end = self.groups();
        Node {
            first: 0,
            end,
            place: 0,
        }
    }

    fn len_of(self, group: u64) -> usize {
        let span = self.span(&(group..group + 1));
        (span.end - span.start) as usize
    }
}

impl Node {
    fn groups(self) -> u64 {
        self.end - self.first
    }

    fn is_root(self, shape: Shape) -> bool {
        self.groups() == shape.groups()
    }

    /// Its two sides: as BLAKE3 has it, the left is the largest power of two that leaves a right.
    fn sides(self) -> (Self, Self) {
        let left = 1 << (self.groups() - 1).ilog2();
        let middle = self.first + left;
        (
            Self {
                first: self.first,
                end: middle,
                place: self.place + 1,
            },
            Self {
                first: middle,
                end: self.end,
                place: self.place + left,
            },
        )
    }
}

fn leaf(shape: Shape, group: u64, data: &[u8]) -> Value {
    if shape.groups() == 1 {
        return *blake3::hash(data).as_bytes();
    }
    Hasher::new()
        .set_input_offset(group * GROUP_BYTES)
        .update(data)
        .finalize_non_root()
}

fn above(pair: &[u8; PAIR_BYTES as usize], is_root: bool) -> Value {
    let (left, right) = halves(pair);
    if is_root {
        *merge_subtrees_root(left, right, Mode::Hash).as_bytes()
    } else {
        merge_subtrees_non_root(left, right, Mode::Hash)
    }
}

fn halves(pair: &[u8; PAIR_BYTES as usize]) -> (&Value, &Value) {
    let (left, right) = pair.split_at(32);
    let half = |side| <&Value>::try_from(side).expect("half of 64 bytes");
    (half(left), half(right))
}

fn joined(left: &Value, right: &Value) -> [u8; PAIR_BYTES as usize] {
    let mut pair = [0; PAIR_BYTES as usize];
    pair[..32].copy_from_slice(left);
    pair[32..].copy_from_slice(right);
    pair
}

// Building.

/// Hashes a blob of `shape` that `read` gives piece by piece, and puts the pairs of its tree where
/// they belong: `put(place, pairs)`, place counted in pairs.
///
/// # Errors
/// The first of `read` or `put`.
pub(crate) fn build(
    shape: Shape,
    read: &mut dyn FnMut(&mut [u8]) -> io::Result<()>,
    put: &mut dyn FnMut(u64, &[u8]) -> io::Result<()>,
) -> io::Result<BlobHash> {
    let mut block = vec![0; (SLICE_GROUPS * GROUP_BYTES).min(shape.bytes()) as usize];
    let mut builder = Builder {
        shape,
        block: &mut block,
        read,
        put,
    };
    builder.large(shape.root()).map(BlobHash)
}

struct Builder<'a> {
    shape: Shape,
    block: &'a mut Vec<u8>,
    read: &'a mut dyn FnMut(&mut [u8]) -> io::Result<()>,
    put: &'a mut dyn FnMut(u64, &[u8]) -> io::Result<()>,
}

impl Builder<'_> {
    /// A subtree of any size: its small subtrees one after the other, each read at once.
    fn large(&mut self, node: Node) -> io::Result<Value> {
        if node.groups() > SLICE_GROUPS {
            let (left, right) = node.sides();
            let pair = joined(&self.large(left)?, &self.large(right)?);
            (self.put)(node.place, &pair)?;
            return Ok(above(&pair, node.is_root(self.shape)));
        }
        let span = self.shape.span(&(node.first..node.end));
        let block = &mut self.block[..(span.end - span.start) as usize];
        (self.read)(block)?;
        let mut pairs = vec![0; ((node.groups() - 1) * PAIR_BYTES) as usize];
        let value = small(self.shape, node, node, block, &mut pairs);
        if !pairs.is_empty() {
            (self.put)(node.place, &pairs)?;
        }
        Ok(value)
    }
}

/// A subtree of `top`, whose bytes are `block` and whose pairs go to `pairs`.
fn small(shape: Shape, top: Node, node: Node, block: &[u8], pairs: &mut [u8]) -> Value {
    if node.groups() == 1 {
        let from = ((node.first - top.first) * GROUP_BYTES) as usize;
        let data = &block[from..from + shape.len_of(node.first)];
        return leaf(shape, node.first, data);
    }
    let (left, right) = node.sides();
    let pair = joined(
        &small(shape, top, left, block, pairs),
        &small(shape, top, right, block, pairs),
    );
    let at = ((node.place - top.place) * PAIR_BYTES) as usize;
    pairs[at..at + PAIR_BYTES as usize].copy_from_slice(&pair);
    above(&pair, node.is_root(shape))
}

// Slices.

/// The encoding of the slice `groups`, for one who knows the blob's name and length.
///
/// # Errors
/// The first of `from`.
pub(crate) fn encode(shape: Shape, groups: &Range<u64>, from: &impl Stored) -> io::Result<Vec<u8>> {
    let span = shape.span(groups);
    let mut out = Vec::with_capacity((span.end - span.start) as usize + 16_384);
    encode_below(shape, shape.root(), groups, from, &mut out)?;
    Ok(out)
}

fn encode_below(
    shape: Shape,
    node: Node,
    groups: &Range<u64>,
    from: &impl Stored,
    out: &mut Vec<u8>,
) -> io::Result<()> {
    if node.end <= groups.start || groups.end <= node.first {
        return Ok(());
    }
    if node.groups() == 1 {
        let at = out.len();
        out.resize(at + shape.len_of(node.first), 0);
        return from.data(node.first * GROUP_BYTES, &mut out[at..]);
    }
    out.extend_from_slice(&from.pair(node.place)?);
    let (left, right) = node.sides();
    encode_below(shape, left, groups, from, out)?;
    encode_below(shape, right, groups, from, out)
}

/// Proves that `bytes` are the encoding of the slice `groups` of the blob called `name`.
///
/// # Errors
/// [`OpenSlice`]: nothing of it is to be believed then.
pub(crate) fn open(
    name: &BlobHash,
    shape: Shape,
    groups: &Range<u64>,
    bytes: &[u8],
) -> Result<Verified, OpenSlice> {
    let span = shape.span(groups);
    let mut opener = Opener {
        shape,
        groups: groups.clone(),
        len: bytes.len(),
        rest: bytes,
        verified: Verified {
            data: Vec::with_capacity((span.end - span.start) as usize),
            pairs: Vec::new(),
        },
    };
    opener.below(shape.root(), &name.0)?;
    match opener.rest {
        [] => Ok(opener.verified),
        _ => Err(opener.wrong_length()),
    }
}

struct Opener<'b> {
    shape: Shape,
    groups: Range<u64>,
    len: usize,
    rest: &'b [u8],
    verified: Verified,
}

impl Opener<'_> {
    fn below(&mut self, node: Node, expected: &Value) -> Result<(), OpenSlice> {
        if node.end <= self.groups.start || self.groups.end <= node.first {
            return Ok(());
        }
        if node.groups() == 1 {
            let Some((data, rest)) = self.rest.split_at_checked(self.shape.len_of(node.first))
            else {
                return Err(self.wrong_length());
            };
            if leaf(self.shape, node.first, data) != *expected {
                return Err(OpenSlice::Group { group: node.first });
            }
            self.rest = rest;
            self.verified.data.extend_from_slice(data);
            return Ok(());
        }
        let Some((pair, rest)) = self.rest.split_first_chunk() else {
            return Err(self.wrong_length());
        };
        if above(pair, node.is_root(self.shape)) != *expected {
            return Err(OpenSlice::Pair { first: node.first });
        }
        self.rest = rest;
        self.keep(node.place, pair);
        let (values, sides) = (halves(pair), node.sides());
        self.below(sides.0, values.0)?;
        self.below(sides.1, values.1)
    }

    /// Pairs come in the order of their places, so those side by side come one after the other.
    fn keep(&mut self, place: u64, pair: &[u8]) {
        let next = |(first, run): &(u64, Vec<u8>)| first + run.len() as u64 / PAIR_BYTES;
        match self.verified.pairs.last_mut() {
            Some(last) if next(last) == place => last.1.extend_from_slice(pair),
            _ => self.verified.pairs.push((place, pair.to_vec())),
        }
    }

    fn wrong_length(&self) -> OpenSlice {
        let (first, len) = (self.groups.start, self.len);
        OpenSlice::Length { first, len }
    }
}

// Checking what is stored.

/// Which of the `claimed` groups are stored and belong to the blob called `name`. What cannot be
/// read does not. `seen` is told of each group that was looked at, with its bytes.
pub(crate) fn check(
    name: &BlobHash,
    shape: Shape,
    claimed: &Bits,
    from: &impl Stored,
    seen: &mut dyn FnMut(u64),
) -> Bits {
    let mut checker = Checker {
        shape,
        claimed,
        from,
        seen,
        good: Bits::none(shape.groups()),
        group: vec![0; GROUP_BYTES as usize],
    };
    checker.below(shape.root(), &name.0);
    checker.good
}

struct Checker<'a, S> {
    shape: Shape,
    claimed: &'a Bits,
    from: &'a S,
    seen: &'a mut dyn FnMut(u64),
    good: Bits,
    group: Vec<u8>,
}

impl<S: Stored> Checker<'_, S> {
    fn below(&mut self, node: Node, expected: &Value) {
        if !self.claimed.any(node.first..node.end) {
            return;
        }
        if node.groups() == 1 {
            let data = &mut self.group[..self.shape.len_of(node.first)];
            let read = self.from.data(node.first * GROUP_BYTES, data);
            if read.is_ok() && leaf(self.shape, node.first, data) == *expected {
                self.good.set(node.first..node.end);
            }
            (self.seen)(data.len() as u64);
            return;
        }
        let pair = self.from.pair(node.place).ok();
        let Some(pair) = pair.filter(|pair| above(pair, node.is_root(self.shape)) == *expected)
        else {
            return;
        };
        let (values, sides) = (halves(&pair), node.sides());
        self.below(sides.0, values.0);
        self.below(sides.1, values.1);
    }
}

#[cfg(test)]
pub(crate) mod tests;

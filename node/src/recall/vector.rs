//! Vectors: the built-in embedder and the scan for nearest neighbours.
//!
//! The embedder hashes features (Weinberger et al., "Feature Hashing for Large Scale Multitask
//! Learning", ICML 2009): each stemmed word, and its character 2- to 4-grams with its ends marked,
//! adds a signed weight to one of 256 dimensions. It needs no files, no network and no clock, and is
//! integer arithmetic throughout, so a text has the same vector on every machine. It knows spelling,
//! not meaning: it finds `databses` for `database`, not `car` for `automobile`.
//!
//! Vectors are held as int8 with the scale that makes them unit length. The scan is exact below
//! [`RESCORE`] candidates; above, the sign bits choose which to rescore. There is no graph index: a
//! permission filter comes first, and under one an exact scan is both faster and complete.

use super::text::Term;

/// The name of the built-in embedder; vectors of different names must never be compared.
pub const EMBEDDER: &str = "hash-256/1";

pub(super) const DIMENSIONS: usize = 256;
const SIGN_WORDS: usize = DIMENSIONS / 64;
/// Letters in the shortest and longest n-gram. Bigrams survive two swapped letters: on the set in
/// `quality.rs`, misspelt questions rank at 0.75 with 2 to 4 letters and 0.47 with 3 to 5.
const MIN: usize = 2;
const MAX: usize = 4;
/// How much longer than the feature of the word itself are those of its n-grams together.
const GRAMS: i32 = 4;
/// The fixed point of weights.
const ONE: i32 = 16;
/// How many of the nearest by sign bits are scored exactly. Of the ten nearest among 100,000 texts of
/// 25 words, 9.6 are among them; with half as many, 9.1.
pub(super) const RESCORE: usize = 8192;

/// One text's vector.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Embedding {
    values: [i8; DIMENSIONS],
    scale: f32,
}

/// The vectors of all slots.
#[derive(Debug, Default)]
pub(super) struct Vectors {
    values: Vec<[i8; DIMENSIONS]>,
    signs: Vec<[u64; SIGN_WORDS]>,
    scales: Vec<f32>,
}

impl Embedding {
    /// The vector of a text, from its terms. Stop-words count only when there is nothing else. A
    /// text with no terms has the zero vector, whose cosine with anything is 0.
    pub(super) fn of(terms: &[Term<'_>]) -> Self {
        let only_stops = terms.iter().all(|term| term.stop);
        let mut sums = [0i32; DIMENSIONS];
        for term in terms.iter().filter(|term| only_stops || !term.stop) {
            add_term(&mut sums, term);
        }
        Self::quantised(&sums)
    }

    /// Scales the largest value to 127. The scale of the result is one over its length, so the
    /// rounding costs direction only, never length.
    fn quantised(sums: &[i32; DIMENSIONS]) -> Self {
        let largest = sums
            .iter()
            .map(|sum| sum.unsigned_abs())
            .max()
            .unwrap_or(0)
            .max(1);
        let largest = i64::from(largest);
        let mut values = [0i8; DIMENSIONS];
        for (value, &sum) in values.iter_mut().zip(sums) {
            let scaled = 127 * i64::from(sum);
            let rounded = (2 * scaled + largest * scaled.signum()) / (2 * largest);
            *value = rounded as i8;
        }
        let scale = scale_of(&values);
        Self { values, scale }
    }

    /// One signed byte a dimension, as it travels.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        self.values
            .iter()
            .map(|value| value.cast_unsigned())
            .collect()
    }

    /// A vector as it travelled.
    pub(super) fn from_bytes(bytes: &[u8; DIMENSIONS]) -> Self {
        let values = bytes.map(u8::cast_signed);
        let scale = scale_of(&values);
        Self { values, scale }
    }

    fn signs(&self) -> [u64; SIGN_WORDS] {
        self.bits(|value| value > 0)
    }

    fn bits(&self, of: impl Fn(i8) -> bool) -> [u64; SIGN_WORDS] {
        let mut bits = [0; SIGN_WORDS];
        for (at, &value) in self.values.iter().enumerate() {
            bits[at / 64] |= u64::from(of(value)) << (at % 64);
        }
        bits
    }

    #[cfg(test)]
    pub(super) fn cosine(&self, other: &Self) -> f32 {
        dot(&self.values, &other.values) as f32 * self.scale * other.scale
    }
}

/// One over the length; 0 for the zero vector.
fn scale_of(values: &[i8; DIMENSIONS]) -> f32 {
    let squares = dot(values, values);
    if squares == 0 {
        0.0
    } else {
        1.0 / (squares as f32).sqrt()
    }
}

/// Adds a word and its n-grams. Repeats weigh by 1 + ln(count), in fixed point; a word's n-grams
/// share a fixed length, so that a long word weighs no more than a short one.
fn add_term(sums: &mut [i32; DIMENSIONS], term: &Term<'_>) {
    let weight = sublinear(term.count) * ONE;
    add(sums, Hash::of(b'w', term.text.as_bytes()), weight);
    let mut ends = [0u8; 72];
    let marked = &mut ends[..term.text.len() + 2];
    marked[0] = b'<';
    marked[1..=term.text.len()].copy_from_slice(term.text.as_bytes());
    marked[term.text.len() + 1] = b'>';
    let starts: Vec<usize> = char_starts(marked).collect();
    let letters = starts.len() - 1;
    let grams: usize = (MIN..=MAX).map(|n| (letters + 1).saturating_sub(n)).sum();
    if grams == 0 {
        return;
    }
    let each = weight * GRAMS * ((1 << 16) / grams as i32).isqrt() / 256;
    for first in 0..letters.saturating_sub(MIN - 1) {
        let mut hash = Hash::of(b'g', &marked[starts[first]..starts[first + MIN]]);
        add(sums, hash, each);
        for last in first + MIN + 1..=(first + MAX).min(letters) {
            hash = hash.and(&marked[starts[last - 1]..starts[last]]);
            add(sums, hash, each);
        }
    }
}

/// Where each character of UTF-8 text begins, and where the last ends.
fn char_starts(text: &[u8]) -> impl Iterator<Item = usize> {
    let inner = text
        .iter()
        .enumerate()
        .filter(|&(_, &byte)| byte & 0xC0 != 0x80);
    inner.map(|(at, _)| at).chain([text.len()])
}

/// 16 × (1 + ln count), by ln 2 × 16 ≈ 11 per doubling and a straight line between.
fn sublinear(count: u32) -> i32 {
    let doublings = count.max(1).ilog2();
    let over = u64::from(count.max(1) - (1 << doublings));
    (16 + 11 * doublings + ((11 * over) >> doublings) as u32) as i32
}

fn add(sums: &mut [i32; DIMENSIONS], hash: Hash, weight: i32) {
    let mixed = hash.mixed();
    let signed = if mixed >> 63 == 0 { weight } else { -weight };
    sums[(mixed as usize) % DIMENSIONS] += signed;
}

/// FNV-1a with the finaliser of MurmurHash3: small, seedless, the same everywhere.
#[derive(Clone, Copy)]
struct Hash(u64);

impl Hash {
    fn of(sort: u8, bytes: &[u8]) -> Self {
        Self(0xcbf2_9ce4_8422_2325).and(&[sort]).and(bytes)
    }

    fn and(self, bytes: &[u8]) -> Self {
        let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        Self(bytes.iter().fold(self.0, step))
    }

    fn mixed(self) -> u64 {
        let mut hash = self.0;
        hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
        hash ^ (hash >> 33)
    }
}

/// Sixteen lanes, each product exact in 16 bits (127² and below) and each sum in 32. Wrapping says
/// that nothing overflows, so the compiler uses vector instructions also where it checks.
fn dot(a: &[i8; DIMENSIONS], b: &[i8; DIMENSIONS]) -> i32 {
    let mut sums = [0i32; 16];
    for (a, b) in a.as_chunks::<16>().0.iter().zip(b.as_chunks::<16>().0) {
        for lane in 0..16 {
            let product = i16::from(a[lane]).wrapping_mul(i16::from(b[lane]));
            sums[lane] = sums[lane].wrapping_add(i32::from(product));
        }
    }
    sums.iter().fold(0, |all, &sum| all.wrapping_add(sum))
}

impl Vectors {
    /// Adds the vector of the next slot.
    pub(super) fn push(&mut self, embedding: &Embedding) {
        self.values.push(embedding.values);
        self.signs.push(embedding.signs());
        self.scales.push(embedding.scale);
    }

    /// Takes a vector out; the last takes its slot. A vector is personal data: it is overwritten,
    /// not left in spare capacity.
    pub(super) fn swap_remove(&mut self, slot: u32) {
        let last = self.values.len() - 1;
        self.values.swap(slot as usize, last);
        self.signs.swap(slot as usize, last);
        self.values[last] = std::hint::black_box([0; DIMENSIONS]);
        self.signs[last] = std::hint::black_box([0; SIGN_WORDS]);
        self.values.truncate(last);
        self.signs.truncate(last);
        self.scales.swap_remove(slot as usize);
        if last > 1024 && last * 4 < self.values.capacity() {
            self.values.shrink_to(last * 2);
            self.signs.shrink_to(last * 2);
            self.scales.shrink_to(last * 2);
        }
    }

    /// The cosine of a slot with a query, -1 to 1.
    pub(super) fn cosine(&self, slot: u32, query: &Embedding) -> f32 {
        let product = dot(&self.values[slot as usize], &query.values);
        product as f32 * self.scales[slot as usize] * query.scale
    }

    /// Those `among` the slots that may be nearest to the query: all, or above [`RESCORE`] at least
    /// that many by the fewest sign bits that differ in the dimensions the query uses. Ties at the
    /// border are all kept, so the answer depends on the vectors and not on their slots.
    pub(super) fn shortlist(&self, query: &Embedding, among: &[u32]) -> Vec<u32> {
        if among.len() <= RESCORE {
            return among.to_vec();
        }
        let signs = query.signs();
        let used = query.bits(|value| value != 0);
        let mut histogram = [0usize; DIMENSIONS + 1];
        let mut distances = Vec::with_capacity(among.len());
        for &slot in among {
            let distance = distance(&self.signs[slot as usize], &signs, &used);
            histogram[distance as usize] += 1;
            distances.push(distance);
        }
        let mut kept = 0;
        let within = |&count: &usize| {
            kept += count;
            kept >= RESCORE
        };
        let border = histogram.iter().position(within).unwrap_or(DIMENSIONS) as u16;
        let near = among
            .iter()
            .zip(distances)
            .filter(|&(_, distance)| distance <= border);
        near.map(|(&slot, _)| slot).collect()
    }

    /// Bytes held.
    pub(super) fn memory_bytes(&self) -> usize {
        self.values.capacity() * DIMENSIONS
            + self.signs.capacity() * DIMENSIONS / 8
            + self.scales.capacity() * size_of::<f32>()
    }
}

fn distance(a: &[u64; SIGN_WORDS], b: &[u64; SIGN_WORDS], used: &[u64; SIGN_WORDS]) -> u16 {
    let differ = (0..SIGN_WORDS).map(|at| ((a[at] ^ b[at]) & used[at]).count_ones());
    differ.sum::<u32>() as u16
}

#[cfg(test)]
mod tests {
    use super::super::text::{TEXT_BYTES, Words};
    use super::*;

    fn of(text: &str) -> Embedding {
        Embedding::of(&Words::of(text, TEXT_BYTES).terms())
    }

    fn held(texts: &[String]) -> Vectors {
        let mut vectors = Vectors::default();
        texts.iter().for_each(|text| vectors.push(&of(text)));
        vectors
    }

    #[test]
    fn a_text_has_the_same_vector_on_every_machine() {
        let vector = of("The production database listens on db_port 5433; Größe 数据");
        let digest = vector.values.iter().fold(0u64, |digest, &value| {
            digest
                .wrapping_mul(31)
                .wrapping_add(u64::from(value.unsigned_abs()) * 2)
                ^ u64::from(value < 0)
        });
        assert_eq!(
            digest, 5_557_122_922_562_257_216,
            "a change needs a new name: `EMBEDDER`"
        );
    }

    #[test]
    fn spelling_brings_words_near_and_chance_does_not() {
        assert!(of("database").cosine(&of("databses")) > 0.5);
        assert!(of("database").cosine(&of("orchard")).abs() < 0.2);
        let itself = of("database").cosine(&of("database"));
        assert!((itself - 1.0).abs() < 1e-6, "{itself}");
        assert_eq!(of("").cosine(&of("database")), 0.0);
    }

    #[test]
    fn repeats_weigh_less_and_less() {
        assert_eq!([1, 2, 3, 4, 1024].map(sublinear), [16, 27, 32, 38, 126]);
    }

    #[test]
    fn the_shortlist_keeps_nearly_all_of_the_ten_nearest() {
        let word =
            |number: usize| format!("{}{}", ["tal", "mor", "vin", "sek"][number % 4], number);
        let text = |number: usize| {
            [1, 3, 7, 31, 57]
                .map(|by| word(number * by % 997))
                .join(" ")
        };
        let texts: Vec<String> = (0..2 * RESCORE).map(text).collect();
        let vectors = held(&texts);
        let all: Vec<u32> = (0..texts.len() as u32).collect();
        let mut kept = 0;
        for query in (0..20).map(|number| of(&texts[number * 601][..12])) {
            let score = |slot: &u32| (vectors.cosine(*slot, &query), *slot);
            let mut nearest: Vec<(f32, u32)> = all.iter().map(score).collect();
            nearest.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
            let short = vectors.shortlist(&query, &all);
            assert!(short.len() >= RESCORE && short.len() < all.len());
            kept += nearest[..10]
                .iter()
                .filter(|(_, slot)| short.contains(slot))
                .count();
        }
        assert!(kept >= 195, "{kept} of 200");
    }

    #[test]
    fn the_last_vector_moves_into_the_hole() {
        let mut vectors = held(&["tea".to_owned(), "wine".to_owned()]);
        vectors.swap_remove(0);
        let wine = of("wine");
        assert!((vectors.cosine(0, &wine) - 1.0).abs() < 1e-6);
        assert_eq!(
            (
                vectors.values.len(),
                vectors.signs.len(),
                vectors.scales.len()
            ),
            (1, 1, 1)
        );
    }
}

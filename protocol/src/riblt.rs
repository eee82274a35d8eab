//! Rateless reconciliation: a sketch of many numbered values whose cells can go on for ever.
//!
//! After Yang, Gilad and Alizadeh, "Practical Rateless Set Reconciliation" (SIGCOMM 2024): an entry
//! takes part in coded cells at gaps that grow like the square root, so that about 1.35 cells per
//! difference suffice however many there are. There, cells are sums of a set's symbols, and an entry
//! that changed is two symbols. Here a cell is three *linear* sums over (number, value): of the
//! values, of value × number, and of value × check. Subtracting two sketches leaves the sums of the
//! differences, so that an entry whose value differs is one difference, its number is the quotient
//! of two sums, and its value on the other side is ours plus the difference (sparse recovery, as in
//! Ganguly, "Counting distinct items over update streams", 2007, with the paper's rateless places).
//!
//! Numbers and checks are keyed per session by the caller, so that nobody can choose entries that
//! cancel or collide. A wrong decoding costs another session; it cannot lose anything.
//!
//! Not here: what the entries stand for, and who sends how many cells (`sync`, `replica::converse`).

use std::collections::BTreeMap;

/// Entries' numbers have so many bits.
pub const NUMBER_BITS: u32 = 48;
/// Entries' values have so many bits, and are not zero: an absent entry is zero.
pub const VALUE_BITS: u32 = 60;
/// A cell's length on the wire, in bytes.
pub const CELL_BYTES: usize = 20;

/// The field of the second sum: a Mersenne prime above all values and numbers.
const P: u64 = (1 << 61) - 1;
/// The field of the third: the largest prime below 2^32.
const Q: u64 = 4_294_967_291;

/// Three sums over the entries that take part in it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Cell {
    /// Of the values, modulo 2^64.
    sum: i64,
    /// Of value × number, modulo 2^61 - 1.
    weighted: u64,
    /// Of value × check, modulo 2^32 - 5.
    check: u32,
}

impl Cell {
    /// Its bytes, big-endian.
    pub fn to_bytes(self) -> [u8; CELL_BYTES] {
        let mut bytes = [0; CELL_BYTES];
        bytes[..8].copy_from_slice(&self.sum.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.weighted.to_be_bytes());
        bytes[16..].copy_from_slice(&self.check.to_be_bytes());
        bytes
    }

    /// Reads what [`Cell::to_bytes`] wrote; none if a sum is outside its field.
    pub fn from_bytes(bytes: &[u8; CELL_BYTES]) -> Option<Self> {
        let (sum, rest) = bytes.split_first_chunk::<8>()?;
        let (weighted, check) = rest.split_first_chunk::<8>()?;
        let cell = Self {
            sum: i64::from_be_bytes(*sum),
            weighted: u64::from_be_bytes(*weighted),
            check: u32::from_be_bytes(check.try_into().ok()?),
        };
        (cell.weighted < P && u64::from(cell.check) < Q).then_some(cell)
    }

    /// What an entry adds to each of its cells. `value` may be a difference, so it has a sign.
    fn of(number: u64, value: i64, seal: u64) -> Self {
        Self {
            sum: value,
            weighted: product(residue(value, P), number),
            // Both are below 2^32.
            check: (residue(value, Q) * check_of(seal) % Q) as u32,
        }
    }

    fn add(&mut self, other: &Self) {
        self.sum = self.sum.wrapping_add(other.sum);
        self.weighted = (self.weighted + other.weighted) % P;
        self.check = ((u64::from(self.check) + u64::from(other.check)) % Q) as u32;
    }

    fn subtract(&mut self, other: &Self) {
        self.sum = self.sum.wrapping_sub(other.sum);
        self.weighted = (self.weighted + P - other.weighted) % P;
        self.check = ((u64::from(self.check) + Q - u64::from(other.check)) % Q) as u32;
    }

    /// The one entry it is made of, and its seal; none if there are several.
    fn alone(&self, key: &SumKey) -> Option<(u64, u64)> {
        if self.sum == 0 || self.sum.unsigned_abs() >> VALUE_BITS != 0 {
            return None;
        }
        let number = product(self.weighted, inverse(residue(self.sum, P)));
        if number >> NUMBER_BITS != 0 {
            return None;
        }
        let seal = key.seal(number);
        (Self::of(number, self.sum, seal) == *self).then_some((number, seal))
    }
}

/// The key of one session's checks.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SumKey(pub [u8; 32]);

impl core::fmt::Debug for SumKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("SumKey(..)")
    }
}

impl SumKey {
    /// 64 bits that belong to an entry's number: its check, and where its places begin.
    fn seal(&self, number: u64) -> u64 {
        let hash = blake3::keyed_hash(&self.0, &number.to_le_bytes());
        u64::from_le_bytes(*hash.as_bytes().first_chunk().expect("32 bytes hold 8"))
    }
}

fn check_of(seal: u64) -> u64 {
    (seal >> 32).clamp(1, Q - 1)
}

fn residue(value: i64, modulus: u64) -> u64 {
    let rest = value.unsigned_abs() % modulus;
    if value < 0 && rest > 0 {
        modulus - rest
    } else {
        rest
    }
}

/// A product in the field of [`P`]: what lies above bit 61 counts again from bit 0.
fn product(a: u64, b: u64) -> u64 {
    let wide = u128::from(a) * u128::from(b);
    ((wide as u64 & P) + (wide >> 61) as u64) % P
}

/// The inverse in the field of [`P`], by Fermat.
fn inverse(a: u64) -> u64 {
    let (mut power, mut left, mut result) = (a, P - 2, 1);
    while left > 0 {
        if left & 1 == 1 {
            result = product(result, power);
        }
        power = product(power, power);
        left >>= 1;
    }
    result
}

/// The coded cells in which one entry takes part: 0, then ever farther apart.
#[derive(Clone, Copy, Debug)]
struct Places {
    next: u64,
    state: u64,
}

impl Places {
    fn of(seal: u64) -> Self {
        Self {
            next: 0,
            state: seal | 1,
        }
    }

    /// The next place: the gap grows with the place, by a uniform draw under the square root.
    fn advance(&mut self) {
        // The generator and the mapping of the paper (§4.2): r = state / 2^64 is uniform, and the
        // gap is (place + 1.5) · ((1 - r)^-1/2 - 1), rounded up.
        self.state = self.state.wrapping_mul(0xda94_2042_e4dd_58b5);
        let high = self.state >> 32;
        // In integers, since floats of several machines might disagree: sqrt(2^32 / (2^32 - high)).
        let left = (1u64 << 32) - high;
        let root = (u128::from(1u64 << 32) << 64) / u128::from(left);
        let factor = root.isqrt(); // 2^32 · (1 - r)^-1/2
        let ahead = u128::from(2 * self.next + 3) * (factor - (1 << 32));
        let gap = (ahead >> 33) as u64 + 1;
        self.next = self.next.saturating_add(gap);
    }
}

/// A map from numbers to values, and as many of its cells as were asked for so far. Later cells
/// cost only the entries that take part in them.
#[derive(Clone, Debug)]
pub struct Sketch {
    key: SumKey,
    entries: Vec<(Cell, Places)>,
    cells: Vec<Cell>,
}

impl Sketch {
    /// Sketches `entries`: numbers below 2^48, values from 1 to below 2^60. Two entries of one
    /// number count as one with the sum of their values.
    pub fn of(key: SumKey, entries: impl IntoIterator<Item = (u64, u64)>) -> Self {
        let code = |(number, value): (u64, u64)| {
            let seal = key.seal(number);
            (Cell::of(number, value as i64, seal), Places::of(seal))
        };
        Self {
            key,
            entries: entries.into_iter().map(code).collect(),
            cells: Vec::new(),
        }
    }

    /// How many entries it has.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// True if it has none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Its first `count` cells. The caller bounds the count.
    pub fn cells(&mut self, count: usize) -> &[Cell] {
        if self.cells.len() < count {
            self.cells.resize(count, Cell::default());
            for (cell, places) in &mut self.entries {
                while let Ok(at) = usize::try_from(places.next)
                    && at < count
                {
                    self.cells[at].add(cell);
                    places.advance();
                }
            }
        }
        &self.cells[..count]
    }

    /// Decodes what the sketch whose first cells are `theirs` has more or less than this one: by
    /// number, their value minus ours. None if more cells are needed, or if these are not what an
    /// honest peer sends.
    pub fn decode(&mut self, theirs: &[Cell]) -> Option<BTreeMap<u64, i64>> {
        let mut cells = theirs.to_vec();
        for (cell, ours) in cells.iter_mut().zip(self.cells(theirs.len())) {
            cell.subtract(ours);
        }
        let mut found = BTreeMap::new();
        let mut queue: Vec<usize> = (0..cells.len()).collect();
        // Every number is peeled at most once, so hostile cells cannot keep this loop alive.
        while let Some(i) = queue.pop() {
            let cell = cells[i];
            let Some((number, seal)) = cell.alone(&self.key) else {
                continue;
            };
            if found.insert(number, cell.sum).is_some() {
                return None;
            }
            let mut places = Places::of(seal);
            while let Ok(at) = usize::try_from(places.next)
                && at < cells.len()
            {
                cells[at].subtract(&cell);
                queue.push(at);
                places.advance();
            }
        }
        cells
            .iter()
            .all(|cell| *cell == Cell::default())
            .then_some(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KEY: SumKey = SumKey([7; 32]);
    type Map = BTreeMap<u64, u64>;

    fn sketch(map: &Map) -> Sketch {
        Sketch::of(KEY, map.iter().map(|(number, value)| (*number, *value)))
    }

    /// Reconciles in small steps, and says how many cells that took.
    fn reconcile(theirs: &Map, ours: &Map) -> (BTreeMap<u64, i64>, usize) {
        let (mut theirs, mut ours) = (sketch(theirs), sketch(ours));
        let mut count = 8;
        loop {
            match ours.decode(theirs.cells(count)) {
                Some(found) => return (found, count),
                None => count += count / 8,
            }
            assert!(count < 1 << 20, "must end");
        }
    }

    fn maps(most: usize) -> impl Strategy<Value = Map> {
        proptest::collection::btree_map(0..1u64 << NUMBER_BITS, 1..1u64 << VALUE_BITS, 0..most)
    }

    proptest! {
        #[test]
        fn the_difference_is_exact(
            a in maps(60), b in maps(60), common in maps(200), other in 1..1u64 << VALUE_BITS,
        ) {
            let (mut theirs, mut ours) = (common.clone(), common.clone());
            theirs.extend(a);
            ours.extend(b);
            // Some that both have stand elsewhere.
            for number in common.keys().take(20) {
                theirs.insert(*number, other);
            }
            let (found, _) = reconcile(&theirs, &ours);
            let mut expected = BTreeMap::new();
            for number in theirs.keys().chain(ours.keys()) {
                let at = |map: &Map| map.get(number).map_or(0, |value| *value as i64);
                if at(&theirs) != at(&ours) {
                    expected.insert(*number, at(&theirs) - at(&ours));
                }
            }
            prop_assert_eq!(found, expected);
        }

        /// I7: any cells at all end in an answer.
        #[test]
        fn hostile_cells_never_hang(
            bytes in proptest::collection::vec(any::<[u8; CELL_BYTES]>(), 0..64),
        ) {
            let cells: Vec<_> = bytes.iter().filter_map(Cell::from_bytes).collect();
            let _ = sketch(&Map::from([(1, 1), (2, 2), (3, 3)])).decode(&cells);
        }

        #[test]
        fn a_cell_is_read_as_it_was_written(number in 0..1u64 << NUMBER_BITS, value in any::<i64>()) {
            let cell = Cell::of(number, value, KEY.seal(number));
            prop_assert_eq!(Cell::from_bytes(&cell.to_bytes()), Some(cell));
        }
    }

    #[test]
    fn a_sum_outside_its_field_is_refused() {
        let good = Cell::of(5, 9, KEY.seal(5)).to_bytes();
        let mut bad = good;
        bad[8..16].copy_from_slice(&P.to_be_bytes());
        assert_eq!(Cell::from_bytes(&bad), None);
        let mut bad = good;
        bad[16..].fill(255);
        assert_eq!(Cell::from_bytes(&bad), None);
    }

    /// The paper's figure, with room for the coarse steps in which we ask for more, and an entry
    /// that changed counts once.
    #[test]
    fn cells_per_difference_come_near_the_papers_1_35() {
        let spread = |i: u64| i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 16;
        let ours: Map = (0..5_000).map(|i| (spread(i), 5)).collect();
        let mut theirs = ours.clone();
        theirs.extend((0..1_000).map(|i| (spread(i), 6 + i)));
        let (found, cells) = reconcile(&theirs, &ours);
        assert_eq!(found.len(), 1_000);
        assert!(cells < 1_700, "{cells} cells for 1,000 differences");
    }
}

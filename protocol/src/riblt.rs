//! Rateless set reconciliation: invertible Bloom lookup table whose cells can go on for ever.
//!
//! After Yang, Gilad and Alizadeh, "Practical Rateless Set Reconciliation" (SIGCOMM 2024): symbol `i`
//! of a set takes part in coded cells at gaps that grow like the square root, so that about 1.35
//! cells per difference suffice however many there are. Checksums are keyed per session, so that
//! nobody can grind items that collide.
//!
//! Not here: what the symbols stand for, and who sends how many (`sync`).

use std::collections::BTreeSet;

/// One element: 128 bits that stand for an item.
pub type Symbol = u128;

/// A sum of some symbols of a set.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Cell {
    /// Exclusive or of the symbols.
    pub sum: Symbol,
    /// Exclusive or of their keyed checksums.
    pub check: u64,
    /// How many, with sign.
    pub count: i64,
}

/// The key of one session's checksums.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SumKey(pub [u8; 32]);

impl core::fmt::Debug for SumKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("SumKey(..)")
    }
}

impl SumKey {
    fn check(&self, symbol: Symbol) -> u64 {
        let hash = blake3::keyed_hash(&self.0, &symbol.to_le_bytes());
        u64::from_le_bytes(*hash.as_bytes().first_chunk().expect("32 bytes hold 8"))
    }
}

/// The coded cells in which one symbol takes part: 0, then ever farther apart.
struct Places {
    next: u64,
    state: u64,
}

impl Places {
    fn of(check: u64) -> Self {
        Self {
            next: 0,
            state: check | 1,
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

/// The first `count` coded cells of a set, from cell `start` on.
pub fn encode(symbols: &BTreeSet<Symbol>, key: &SumKey, start: u64, count: usize) -> Vec<Cell> {
    let mut cells = vec![Cell::default(); count];
    let end = start + count as u64;
    for &symbol in symbols {
        let check = key.check(symbol);
        let mut places = Places::of(check);
        while places.next < end {
            if let Some(i) = places.next.checked_sub(start) {
                apply(&mut cells[i as usize], symbol, check, 1);
            }
            places.advance();
        }
    }
    cells
}

fn apply(cell: &mut Cell, symbol: Symbol, check: u64, sign: i64) {
    cell.sum ^= symbol;
    cell.check ^= check;
    cell.count = cell.count.wrapping_add(sign);
}

/// What two sets differ by.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Difference {
    /// Symbols only in the set whose cells were received.
    pub theirs: BTreeSet<Symbol>,
    /// Symbols only in our own set.
    pub ours: BTreeSet<Symbol>,
}

/// Decodes the difference between our set and the one whose first cells are `theirs`. None if more
/// cells are needed, or if they are not what an honest peer sends.
pub fn decode(theirs: &[Cell], ours: &BTreeSet<Symbol>, key: &SumKey) -> Option<Difference> {
    let mut cells = encode(ours, key, 0, theirs.len());
    for (cell, their) in cells.iter_mut().zip(theirs) {
        cell.sum ^= their.sum;
        cell.check ^= their.check;
        cell.count = their.count.wrapping_sub(cell.count);
    }
    let mut found = Difference::default();
    let mut queue: Vec<usize> = (0..cells.len()).collect();
    // Every symbol is peeled at most once, so hostile cells cannot keep this loop alive.
    while let Some(i) = queue.pop() {
        let cell = cells[i];
        if !matches!(cell.count, 1 | -1) || key.check(cell.sum) != cell.check {
            continue;
        }
        let side = if cell.count == 1 {
            &mut found.theirs
        } else {
            &mut found.ours
        };
        if !side.insert(cell.sum) {
            return None;
        }
        let mut places = Places::of(cell.check);
        while let Ok(at) = usize::try_from(places.next)
            && at < cells.len()
        {
            apply(&mut cells[at], cell.sum, cell.check, -cell.count);
            queue.push(at);
            places.advance();
        }
    }
    cells
        .iter()
        .all(|cell| *cell == Cell::default())
        .then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KEY: SumKey = SumKey([7; 32]);

    /// Reconciles by doubling, and says how many cells that took.
    fn reconcile(a: &BTreeSet<Symbol>, b: &BTreeSet<Symbol>) -> (Difference, usize) {
        let mut cells = 8;
        loop {
            let received = encode(a, &KEY, 0, cells);
            match decode(&received, b, &KEY) {
                Some(found) => return (found, cells),
                None => cells += cells / 8,
            }
            assert!(cells < 1 << 20, "must end");
        }
    }

    proptest! {
        #[test]
        fn the_difference_is_exact(
            a in proptest::collection::btree_set(any::<u128>(), 0..60),
            b in proptest::collection::btree_set(any::<u128>(), 0..60),
            common in proptest::collection::btree_set(any::<u128>(), 0..200),
        ) {
            let left: BTreeSet<_> = a.union(&common).copied().collect();
            let right: BTreeSet<_> = b.union(&common).copied().collect();
            let (found, _) = reconcile(&left, &right);
            prop_assert_eq!(found.theirs, left.difference(&right).copied().collect());
            prop_assert_eq!(found.ours, right.difference(&left).copied().collect());
        }

        /// I7: any cells at all end in an answer.
        #[test]
        fn hostile_cells_never_hang(
            cells in proptest::collection::vec((any::<u128>(), any::<u64>(), -2i64..3), 0..64),
        ) {
            let cells: Vec<_> =
                cells.into_iter().map(|(sum, check, count)| Cell { sum, check, count }).collect();
            let _ = decode(&cells, &BTreeSet::from([1, 2, 3]), &KEY);
        }
    }

    /// The paper's figure, with room for the coarse steps in which we ask for more.
    #[test]
    fn cells_per_difference_come_near_the_papers_1_35() {
        let common: BTreeSet<Symbol> = (0..5_000u128)
            .map(|i| i.wrapping_mul(0x9e37_79b9))
            .collect();
        let mut more = common.clone();
        more.extend((0..1_000u128).map(|i| (i << 64) + 1));
        let (found, cells) = reconcile(&more, &common);
        assert_eq!(found.theirs.len(), 1_000);
        assert!(cells < 1_700, "{cells} cells for 1,000 differences");
    }
}

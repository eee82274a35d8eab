//! Chance, as an argument: dice that are thrown the same way again for the same seed.
//!
//! Each part of a simulation has dice of its own, so that one more throw in one part never shifts the
//! throws of another. All rates are in thousandths; there are no floating-point numbers, whose
//! rounding could differ between machines.
//!
//! Not here: which rates apply (`scenario`).

use aquifer_protocol::Seed;
use aquifer_protocol::identity::Rng;
use core::time::Duration;
use rand_chacha::rand_core::Rng as _;

/// Reproducible throws.
#[derive(Clone, Debug)]
pub struct Dice(Rng);

impl Dice {
    /// The dice of the part named `part`.
    pub fn new(seed: &Seed, part: &str) -> Self {
        Self(seed.child(part))
    }

    /// Below `n`.
    ///
    /// # Panics
    /// If `n` is 0.
    pub fn below(&mut self, n: u64) -> u64 {
        assert!(n > 0, "there is no number below 0");
        ((u128::from(self.0.next_u64()) * u128::from(n)) >> 64) as u64
    }

    /// From `low` to `high`, both included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low) + 1)
    }

    /// An index of a list of `len`.
    pub fn index(&mut self, len: usize) -> usize {
        self.below(len as u64) as usize
    }

    /// True `rate` times in a thousand.
    pub fn permille(&mut self, rate: u32) -> bool {
        self.below(1_000) < u64::from(rate)
    }

    /// One of a list that is not empty.
    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.index(of.len())]
    }

    /// A duration between two, both given in milliseconds.
    pub fn millis(&mut self, low: u64, high: u64) -> Duration {
        Duration::from_micros(self.between(low * 1_000, high * 1_000))
    }

    /// Any 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// Any 32 bytes.
    pub fn bytes32(&mut self) -> [u8; 32] {
        let mut bytes = [0; 32];
        self.0.fill_bytes(&mut bytes);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dice_of_one_part_are_thrown_the_same_way_again_and_stay_in_bounds() {
        let seed = Seed::from_number(7);
        let throw = |part| {
            let mut dice = Dice::new(&seed, part);
            (0..200).map(|_| dice.between(3, 9)).collect::<Vec<_>>()
        };
        assert_eq!(throw("a"), throw("a"));
        assert_ne!(throw("a"), throw("b"));
        assert!((3..=9).all(|n| throw("a").contains(&n)));
        assert!(throw("a").iter().all(|n| (3..=9).contains(n)));
        let mut dice = Dice::new(&seed, "c");
        assert!((0..500).all(|_| dice.permille(1_000)));
        assert!((0..500).all(|_| !dice.permille(0)));
    }
}

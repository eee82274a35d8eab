//! Chance by number: what is drawn depends on who draws, for what and for the how-manieth time.
//!
//! No draw changes the state of anything, so any thread may draw for any agent in any order and gets
//! what every other would get. The idea is Salmon et al., "Parallel random numbers: as easy as 1, 2, 3"
//! (SC 2011); the mixing is two full products folded in half, as in wyhash.
//!
//! Not here: dice that are thrown in turn (`chance`).

/// What is drawn, so that two draws for one agent are two.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u64)]
pub enum Purpose {
    /// Who is connected to whom.
    Graph = 1,
    /// How much longer than the least a link takes.
    Jitter = 2,
    /// How long an agent needs for a message.
    Processing = 3,
    /// At which moment of a second an agent's heart beats.
    Heartbeat = 4,
    /// Whom an agent picks in a heartbeat.
    Pick = 5,
    /// Whether a packet is lost.
    Loss = 6,
    /// Who publishes.
    Publish = 7,
    /// Who looks up what.
    Lookup = 8,
    /// An agent's key.
    Key = 9,
    /// Whom an agent knows.
    Contact = 10,
    /// Who does not answer.
    Stale = 11,
    /// Where an agent lives whose number says nothing of it.
    Home = 12,
    /// Who keeps to itself what it should pass on.
    Censor = 13,
    /// Who sends without asking the law.
    Violator = 14,
    /// When a link comes up.
    Meeting = 15,
    /// How long an agent stays or is away.
    Session = 16,
    /// When an agent first asks a peer for what it missed.
    Sync = 17,
    /// Who is eclipsed.
    Eclipse = 18,
    /// Who sends what is of no use.
    Spam = 19,
    /// Who says old messages again.
    Replay = 20,
    /// Who is behind a NAT.
    Nat = 21,
    /// Who gets through to whom all the same.
    Punch = 22,
    /// By how much a clock is wrong.
    Clock = 23,
    /// Who is missing from a table.
    Unknown = 24,
}

/// 2⁶⁴ over the golden ratio: an odd number whose multiples differ in many bits.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// All that a run draws.
#[derive(Clone, Copy, Debug)]
pub struct Draws {
    seed: u64,
}

/// Spreads every bit over all others.
#[inline]
pub(crate) fn mix(mut x: u64) -> u64 {
    x = (x ^ x >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
    x = (x ^ x >> 33).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    x ^ x >> 33
}

/// The two halves of a full product, one over the other.
#[inline]
fn folded(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

impl Draws {
    /// The draws of a run with this seed.
    pub fn new(seed: u64) -> Self {
        Self {
            seed: mix(seed ^ SPREAD),
        }
    }

    /// 64 bits.
    #[inline]
    pub fn bits(self, purpose: Purpose, who: u64, count: u64) -> u64 {
        // Spread first: the products of neighbours differ by a constant, and so would what is drawn.
        let about = folded(
            who.wrapping_mul(SPREAD) ^ self.seed,
            (purpose as u64) << 56 ^ 0x8bb8_4b93_962e_acc9,
        );
        folded(
            about ^ count.wrapping_mul(SPREAD),
            self.seed ^ 0x2d35_8dcc_aa6c_78a5,
        )
    }

    /// A number below `n`, each as likely, but for one part in 2³².
    #[inline]
    pub fn below(self, n: u32, purpose: Purpose, who: u64, count: u64) -> u32 {
        scaled(self.bits(purpose, who, count), n)
    }
}

/// The upper half of `bits`, as a number below `n`.
#[inline]
pub(crate) fn scaled(bits: u64, n: u32) -> u32 {
    (((bits >> 32) * u64::from(n)) >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_differ_by_seed_purpose_agent_and_count_and_by_nothing_else() {
        let of = |seed, purpose, who, count| Draws::new(seed).bits(purpose, who, count);
        let one = of(1, Purpose::Graph, 1, 1);
        assert_eq!(one, of(1, Purpose::Graph, 1, 1));
        for other in [
            of(2, Purpose::Graph, 1, 1),
            of(1, Purpose::Jitter, 1, 1),
            of(1, Purpose::Graph, 2, 1),
            of(1, Purpose::Graph, 1, 2),
        ] {
            assert_ne!(one, other);
            let flipped = (one ^ other).count_ones();
            assert!((10..54).contains(&flipped), "{flipped} bits");
        }
    }

    /// What is drawn next says nothing of what was drawn, nor one agent's draw of its neighbour's.
    #[test]
    fn neighbours_are_strangers() {
        for seed in 0..20 {
            let draws = Draws::new(seed);
            let of = |who, count| draws.bits(Purpose::Lookup, who, count);
            let (mut counts, mut agents) = ([0_u32; 16], [0_u32; 16]);
            for number in 0..16_000 {
                counts[(of(number, 1).wrapping_sub(of(number, 0)) >> 60) as usize] += 1;
                agents[(of(number + 1, 0) ^ of(number, 0)) as usize >> 60] += 1;
            }
            // The standard deviation is 31.
            for seen in [counts, agents] {
                let even = seen.iter().all(|count| (850..1_150).contains(count));
                assert!(even, "seed {seed}: {seen:?}");
            }
        }
    }

    #[test]
    fn small_numbers_are_equally_likely() {
        let draws = Draws::new(7);
        let mut seen = [0_u32; 10];
        for who in 0..100_000 {
            seen[draws.below(10, Purpose::Pick, who, 3) as usize] += 1;
        }
        // The standard deviation is 95.
        assert!(
            seen.iter().all(|count| (9_600..10_400).contains(count)),
            "{seen:?}"
        );
    }
}

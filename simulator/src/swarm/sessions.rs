//! Sessions: how long agents stay, and how long they are away.
//!
//! Log-normal laws, as churn in deployed DHTs is measured: in IPFS half of all sessions last two hours
//! at most and four in five eight (ProbeLab RFM2, 2022), which is a median and a spread of four. Drawn
//! in whole numbers, so that every machine draws the same.
//!
//! Not here: what agents do when they leave and come back (`gossip::churn`).

/// Quantiles of the normal law at the middles of 64 equal parts, in 2⁻¹⁶ of its 80th percentile; the
/// upper half, for the lower is its mirror.
const NORMAL: [i64; 32] = [
    1_525, 4_577, 7_637, 10_708, 13_796, 16_906, 20_043, 23_213, 26_422, 29_676, 32_983, 36_351,
    39_788, 43_305, 46_912, 50_623, 54_452, 58_418, 62_542, 66_849, 71_371, 76_148, 81_229, 86_683,
    92_599, 99_103, 106_385, 114_737, 124_669, 137_179, 154_759, 188_252,
];

/// 2 to the power of 2⁻¹, 2⁻², … 2⁻¹⁶, in 2⁻³⁰.
const ROOTS: [u64; 16] = [
    1_518_500_250,
    1_276_901_417,
    1_170_923_762,
    1_121_280_436,
    1_097_253_708,
    1_085_434_106,
    1_079_572_136,
    1_076_653_033,
    1_075_196_443,
    1_074_468_888,
    1_074_105_294,
    1_073_923_544,
    1_073_832_680,
    1_073_787_251,
    1_073_764_537,
    1_073_753_181,
];

const ONE: u64 = 1 << 30;

/// A log-normal law of spans of time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Spans {
    /// Half are no longer, in microseconds.
    pub median: u64,
    /// Four in five are no longer than so many times the median.
    pub spread: u32,
}

impl Spans {
    /// A span in microseconds, by 64 bits that were drawn for it.
    pub fn of(self, bits: u64) -> u64 {
        // Between two of the 64 quantiles: as far as the next six bits say.
        let (place, part) = ((bits >> 58) as i64, (bits >> 42 & 0xffff) as i64);
        let low = quantile(place);
        let high = quantile((place + 1).min(63));
        let z = low + (((high - low) * part) >> 16);
        let power = (z * i64::from(binary_log(self.spread))) >> 16;
        raised(self.median, power)
    }
}

fn quantile(place: i64) -> i64 {
    match place {
        32.. => NORMAL[place as usize - 32],
        _ => -NORMAL[31 - place as usize],
    }
}

/// The logarithm of a whole number to the base 2, in 2⁻¹⁶: by squaring.
fn binary_log(number: u32) -> u32 {
    let whole = number.max(1).ilog2();
    let mut rest = u64::from(number.max(1)) << 30 >> whole;
    let mut log = whole << 16;
    for bit in (0..16).rev() {
        rest = (rest * rest) >> 30;
        if rest >= 2 * ONE {
            rest >>= 1;
            log |= 1 << bit;
        }
    }
    log
}

/// `number` times 2 to a power in 2⁻¹⁶.
fn raised(number: u64, power: i64) -> u64 {
    let (whole, part) = (power >> 16, (power & 0xffff) as u32);
    let mut factor = ONE;
    for (root, bit) in ROOTS.iter().zip((0..16).rev()) {
        if part >> bit & 1 == 1 {
            factor = (factor * root) >> 30;
        }
    }
    let scaled = u128::from(number) * u128::from(factor);
    let shifted = match whole {
        0.. => scaled << whole.min(40),
        _ => scaled >> (-whole).min(120),
    };
    (shifted >> 30).min(u128::from(u64::MAX >> 8)) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::swarm::draw::{Draws, Purpose};

    #[test]
    fn logarithms_and_powers_are_those_of_the_books() {
        for number in [1, 2, 3, 4, 10, 1_000] {
            let log = f64::from(binary_log(number)) / 65_536.0;
            assert!((log - f64::from(number).log2()).abs() < 1e-4, "{number}");
        }
        for power in [-3.7_f64, -1.0, 0.0, 0.25, 5.5] {
            let raised = raised(1_000_000, (power * 65_536.0) as i64) as f64;
            let apart = raised / (1e6 * power.exp2()) - 1.0;
            assert!(apart.abs() < 1e-3, "{power}: {raised}");
        }
    }

    #[test]
    fn half_stay_two_hours_and_four_in_five_no_longer_than_eight() {
        let hour = 3_600_000_000;
        let spans = Spans {
            median: 2 * hour,
            spread: 4,
        };
        let draws = Draws::new(1);
        let mut all: Vec<u64> = (0..40_000)
            .map(|number| spans.of(draws.bits(Purpose::Session, number, 0)))
            .collect();
        all.sort_unstable();
        let at = |part: usize| all[all.len() * part / 100] as f64 / hour as f64;
        assert!((at(50) - 2.0).abs() < 0.1, "{}", at(50));
        assert!((at(80) - 8.0).abs() < 0.5, "{}", at(80));
        assert!((at(20) - 0.5).abs() < 0.05, "{}", at(20));
    }
}

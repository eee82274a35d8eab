//! Time, as an argument.
//!
//! The core reads no clock: every verb takes `now`, and drivers feed it so that it never goes back.
//! [`Stamp`] is a hybrid logical clock (Kulkarni et al. 2014, "Logical Physical Clocks"): 48 bits of
//! milliseconds above 16 bits of counter, so stamps of one writer rise even when its clock stands still.
//!
//! Not here: timers (`replica` keeps its deadlines), the operating system's clock (`node/src/clock.rs`).

use core::{fmt, time::Duration};
use minicbor::{Decode, Encode};

/// Microseconds since the Unix epoch, as this node's driver believes. Never decreases.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Time(u64);

impl Time {
    /// The Unix epoch.
    pub const ZERO: Self = Self(0);

    /// `micros` microseconds after the Unix epoch.
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// `millis` milliseconds after the Unix epoch.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis.saturating_mul(1_000))
    }

    /// Microseconds since the Unix epoch.
    pub const fn micros(self) -> u64 {
        self.0
    }

    /// Whole milliseconds since the Unix epoch.
    pub const fn millis(self) -> u64 {
        self.0 / 1_000
    }

    /// How long ago `earlier` was; zero if it lies ahead.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

impl core::ops::Add<Duration> for Time {
    type Output = Self;

    fn add(self, by: Duration) -> Self {
        let micros = u64::try_from(by.as_micros()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(micros))
    }
}

/// A hybrid logical clock reading: `milliseconds << 16 | counter`. Totally ordered.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Encode, Decode)]
#[cbor(transparent)]
pub struct Stamp(#[n(0)] u64);

impl Stamp {
    /// Below every stamp a clock can give.
    pub const ZERO: Self = Self(0);

    /// The first stamp of the millisecond in which `now` falls.
    pub const fn at(now: Time) -> Self {
        Self(now.millis() << 16)
    }

    /// From its 64-bit form, as in a header.
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// The 64-bit form.
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// The next stamp after `self` that is not behind `now`.
    #[must_use]
    pub fn tick(self, now: Time) -> Self {
        Self(self.0.saturating_add(1).max(Self::at(now).0))
    }

    /// The physical part, as a time.
    pub const fn time(self) -> Time {
        Time::from_millis(self.0 >> 16)
    }
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0 >> 16, self.0 & 0xffff)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// I9: stamps of one writer rise whatever its clock does.
        #[test]
        fn ticks_always_rise(clock in proptest::collection::vec(0u64..1 << 46, 1..50)) {
            let mut last = Stamp::ZERO;
            for micros in clock {
                let next = last.tick(Time::from_micros(micros));
                prop_assert!(next > last);
                prop_assert!(next >= Stamp::at(Time::from_micros(micros)));
                last = next;
            }
        }
    }

    #[test]
    fn a_stamp_keeps_the_millisecond() {
        let now = Time::from_millis(1_790_000_000_123);
        assert_eq!(Stamp::ZERO.tick(now).time(), now);
    }
}

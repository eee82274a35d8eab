//! The radio: when this device may use its link.
//!
//! Always, or in windows of a duty cycle, which begin at another moment on each device. After a failure it
//! waits, twice as long each time and a little at random, so that a crowd of devices does not come back at
//! once. A pure function of the time, which is an argument.

use crate::problem::Problem;

/// The first wait after a failure, and the longest, in milliseconds.
const WAIT_FIRST_MS: u64 = 500;
const WAIT_MAX_MS: u64 = 300_000;

/// The shortest cycle, in milliseconds.
const CYCLE_MIN_MS: u64 = 1_000;

/// How much of the time the radio may be up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Duty {
    /// In each time of so many milliseconds,
    pub every_ms: u64,
    /// it is up for so many.
    pub up_ms: u64,
}

impl Duty {
    /// Always.
    pub const ALWAYS: Self = Self {
        every_ms: CYCLE_MIN_MS,
        up_ms: CYCLE_MIN_MS,
    };

    /// Reads `60s/5s`: in each minute, five seconds. Units are `ms`, `s`, `m` and `h`.
    ///
    /// # Errors
    /// `bad_duty`.
    pub fn parse(text: &str) -> Result<Self, Problem> {
        let parts = text.split_once('/').and_then(|(every, up)| {
            let (every_ms, up_ms) = (duration_ms(every)?, duration_ms(up)?);
            let legal = every_ms >= CYCLE_MIN_MS && (1..=every_ms).contains(&up_ms);
            legal.then_some(Self { every_ms, up_ms })
        });
        parts.ok_or_else(|| {
            let message = format!("`{text}` is not a duty cycle");
            let hint = "for example: --duty 60s/5s, five seconds in each minute; a second at least";
            Problem::new("bad_duty", 2, message, hint)
        })
    }

    /// Whether it is always up.
    pub fn is_always(&self) -> bool {
        self.up_ms == self.every_ms
    }
}

/// So many milliseconds, as `90s`, `250ms`, `2m` or `1h`.
pub fn duration_ms(text: &str) -> Option<u64> {
    let digits = text
        .find(|letter: char| !letter.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = match unit {
        "ms" => 1,
        "s" | "" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(unit)
}

/// When the link may be used.
#[derive(Clone, Debug)]
pub struct Radio {
    duty: Duty,
    /// Where in the cycle this device's window begins.
    phase_ms: u64,
    failures: u32,
    /// Not before this.
    wait_until: u64,
}

impl Radio {
    /// A radio with a duty cycle; `lot` is anything that differs between devices.
    pub fn new(duty: Duty, lot: u64) -> Self {
        Self {
            duty,
            phase_ms: if duty.is_always() {
                0
            } else {
                lot % duty.every_ms
            },
            failures: 0,
            wait_until: 0,
        }
    }

    /// Whether it is up at `now`, whatever failed before.
    pub fn is_up(&self, now: u64) -> bool {
        (now + self.phase_ms) % self.duty.every_ms < self.duty.up_ms
    }

    /// Whether the link may be used at `now`.
    pub fn is_free(&self, now: u64) -> bool {
        self.is_up(now) && now >= self.wait_until
    }

    /// When to look again: the next window, or the end of the wait after a failure.
    pub fn next(&self, now: u64) -> u64 {
        let at = now.max(self.wait_until);
        match self.is_up(at) {
            true => at,
            false => at + self.duty.every_ms - (at + self.phase_ms) % self.duty.every_ms,
        }
    }

    /// The link worked.
    pub fn worked(&mut self) {
        self.failures = 0;
        self.wait_until = 0;
    }

    /// It did not, at `now`; `lot` is drawn at random.
    pub fn failed(&mut self, now: u64, lot: u64) {
        let doubled = WAIT_FIRST_MS << self.failures.min(16);
        let longest = doubled.min(WAIT_MAX_MS);
        self.failures = self.failures.saturating_add(1);
        self.wait_until = now + longest / 2 + lot % (longest / 2 + 1);
    }

    /// How often it has failed since it last worked.
    pub fn failures(&self) -> u32 {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duty_cycle_is_read_or_said_to_be_none() {
        let duty = Duty::parse("60s/5s").expect("good");
        assert_eq!((60_000, 5_000), (duty.every_ms, duty.up_ms));
        assert_eq!(3_600_000, Duty::parse("1h/250ms").expect("good").every_ms);
        for bad in [
            "",
            "60s",
            "5s/60s",
            "60s/0s",
            "10ms/5ms",
            "a/b",
            "60d/5s",
            "9999999999999999h/1s",
        ] {
            assert_eq!(2, Duty::parse(bad).expect_err(bad).exit);
        }
    }

    /// The link is used inside the windows only, and each window comes once in a cycle.
    #[test]
    fn the_radio_is_up_for_its_share_of_the_time() {
        let duty = Duty::parse("60s/5s").expect("good");
        for lot in [0, 7, 59_999, u64::MAX] {
            let radio = Radio::new(duty, lot);
            let up = (0..600_000).filter(|now| radio.is_up(*now)).count();
            assert_eq!(50_000, up);
            for now in (0..120_000).step_by(777) {
                let next = radio.next(now);
                assert!(radio.is_free(next) && next - now <= 60_000);
                assert!((now..next).all(|before| !radio.is_free(before)));
            }
        }
        let always = Radio::new(Duty::ALWAYS, 5);
        assert!((0..5_000).all(|now| always.is_free(now)));
    }

    #[test]
    fn it_waits_longer_after_each_failure_up_to_five_minutes() {
        let mut radio = Radio::new(Duty::ALWAYS, 0);
        let mut longest = 0;
        for failure in 0..40_u32 {
            radio.failed(1_000_000, u64::from(failure) * 7_919);
            let wait = radio.next(1_000_000) - 1_000_000;
            let most = (WAIT_FIRST_MS << failure.min(16)).min(WAIT_MAX_MS);
            assert!((most / 2..=most).contains(&wait), "{failure}: {wait}");
            longest = longest.max(wait);
        }
        assert!(longest > WAIT_MAX_MS / 2);
        radio.worked();
        assert_eq!(1_000_000, radio.next(1_000_000));
    }
}

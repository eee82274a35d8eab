//! The only place of this crate that reads the operating system's clock and entropy.

use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds since 1970. A device whose clock is wrong stamps what it does wrongly; nothing else
/// depends on it.
pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as u64)
}

/// `N` bytes of the operating system's entropy.
///
/// # Panics
/// If the operating system has none to give: no key could be made then.
pub fn entropy<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the operating system gives entropy");
    bytes
}

/// A number below `below`, drawn at random; 0 if that is 0.
pub fn drawn(below: u64) -> u64 {
    u64::from_be_bytes(entropy())
        .checked_rem(below)
        .unwrap_or(0)
}

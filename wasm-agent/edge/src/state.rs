//! State: what a device remembers of its contacts, beside the guest's journal.
//!
//! The bookmark of the way down, what was refused, and counters for whoever looks after the device. One
//! small file, written after what it speaks of is durable: an older one says a thing again, which is then
//! known, and never skips one.

use crate::home::Home;
use crate::problem::Problem;
use aquifer_wasm::uplink::Refusal;
use minicbor::{Decode, Encode};

const FILE: &str = "state.cbor";
const FILE_BYTES_MAX: u64 = 256 << 10;

/// Refusals that are remembered.
pub const REFUSALS_KEPT: usize = 16;

/// What a device remembers of its contacts. Times are in milliseconds since 1970.
#[derive(Clone, PartialEq, Eq, Default, Debug, Encode, Decode)]
#[cbor(array)]
pub struct State {
    /// Up to where it has heard, in the gateway's terms.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub bookmark: Vec<u8>,
    /// When the gateway last replied.
    #[n(1)]
    pub last_contact: Option<u64>,
    /// When it was last tried.
    #[n(2)]
    pub last_try: Option<u64>,
    /// Why that failed, if it did.
    #[n(3)]
    pub last_error: Option<String>,
    /// Deeds that were refused for good, all in all.
    #[n(4)]
    pub refused: u64,
    /// The last of them.
    #[n(5)]
    pub refusals: Vec<Refusal>,
    /// Words that were replied to.
    #[n(6)]
    pub words: u64,
    /// Connections made.
    #[n(7)]
    pub handshakes: u64,
    /// Bytes of datagrams sent.
    #[n(8)]
    pub bytes_up: u64,
    /// Bytes of datagrams received.
    #[n(9)]
    pub bytes_down: u64,
    /// Bytes of parcels before they were packed,
    #[n(10)]
    pub parcels_raw: u64,
    /// and as they were sent.
    #[n(11)]
    pub parcels_sent: u64,
    /// For how long there was a connection or one was tried, in milliseconds.
    #[n(12)]
    pub radio_ms: u64,
    /// For how long this device has run, in milliseconds.
    #[n(13)]
    pub run_ms: u64,
    /// Items of news that woke the guest.
    #[n(14)]
    pub news: u64,
    /// Inputs that came to nothing, and why the last did.
    #[n(15)]
    pub failed: u64,
    /// See `failed`.
    #[n(16)]
    pub last_failure: Option<String>,
    /// Parcels of others that this device handed over.
    #[n(17)]
    pub carried: u64,
    /// Parcels of its own that others handed over.
    #[n(18)]
    pub carried_by_others: u64,
    /// The gateway knows the agent: its manifest need not go along.
    #[n(19)]
    pub introduced: bool,
}

impl State {
    /// What this home remembers. A file that cannot be read is begun anew: what it held is said again.
    ///
    /// # Errors
    /// `io`.
    pub fn read(home: &Home) -> Result<Self, Problem> {
        let bytes = home.read(FILE, FILE_BYTES_MAX)?.unwrap_or_default();
        Ok(minicbor::decode(&bytes).unwrap_or_default())
    }

    /// Keeps it, durably.
    ///
    /// # Errors
    /// `io`.
    pub fn keep(&self, home: &Home) -> Result<(), Problem> {
        let bytes = minicbor::to_vec(self).expect("a vector takes any encoding");
        home.write(FILE, &bytes)
    }

    /// The gateway refused these. Those that it has told of before are not counted twice; the new ones
    /// come back.
    pub fn was_refused(&mut self, refusals: Vec<Refusal>) -> Vec<Refusal> {
        let known = |new: &Refusal| {
            let same = |old: &Refusal| (old.seq, old.place) == (new.seq, new.place);
            self.refusals.iter().any(same)
        };
        let new: Vec<Refusal> = refusals.into_iter().filter(|r| !known(r)).collect();
        self.refused += new.len() as u64;
        self.refusals.extend(new.iter().cloned());
        let surplus = self.refusals.len().saturating_sub(REFUSALS_KEPT);
        self.refusals.drain(..surplus);
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_kept_and_a_refusal_told_twice_counts_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let home = Home::at(folder.path().to_owned());
        assert_eq!(Ok(State::default()), State::read(&home));
        let refusal = |seq| Refusal {
            seq,
            place: 0,
            topic: "hr".into(),
            code: "region".into(),
            reason: "only in eu".into(),
        };
        let mut state = State::default();
        assert_eq!(1, state.was_refused(vec![refusal(1)]).len());
        assert_eq!(1, state.was_refused(vec![refusal(1), refusal(2)]).len());
        assert_eq!(2, state.refused);
        (3..40).for_each(|seq| drop(state.was_refused(vec![refusal(seq)])));
        assert_eq!(REFUSALS_KEPT, state.refusals.len());
        state.keep(&home).expect("room");
        assert_eq!(Ok(state), State::read(&home));
        home.write(FILE, b"noise").expect("room");
        assert_eq!(Ok(State::default()), State::read(&home));
    }
}

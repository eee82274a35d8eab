//! Scrub: finding what the disk has changed before it is needed (I18).
//!
//! A few records are read back every second, round and round. One that is not what was written is
//! reported and fetched again from a peer; so is a body that is missing without a reason, which also
//! brings back after a restart what was known to be missing before it.

use super::Replica;
use crate::event::Event;
use crate::limits::SCRUB_RECORDS;
use crate::log::{self, CorruptRecord, LogKey, LogState};
use crate::record::Seq;
use crate::store::{Store, Table};

impl<S: Store> Replica<S> {
    /// Reads the next few records, a log at a time.
    pub(super) fn scrub(&mut self) {
        #[cfg(mutant)]
        if crate::mutant::planted(crate::mutant::Mutant::ScrubSleeps) {
            return;
        }
        let mut left = SCRUB_RECORDS;
        for _ in 0..SCRUB_RECORDS {
            let at = self.scrubbed.take();
            let Some((key, state)) = self.logs.next_from(at.as_ref().map(|(key, _)| key)) else {
                return;
            };
            let first = at
                .filter(|(from, _)| *from == key)
                .map_or(0, |(_, seq)| seq);
            let until = state.height.min(first + left);
            for seq in first..until {
                self.scrub_record(key, state, seq);
            }
            left -= until.saturating_sub(first);
            self.scrubbed = if until < state.height {
                Some((key, until))
            } else {
                self.logs.next_after(&key).map(|next| (next, 0))
            };
            if left == 0 || self.scrubbed.is_none() {
                return;
            }
        }
    }

    fn scrub_record(&mut self, key: LogKey, state: LogState, seq: Seq) {
        let bytes = self
            .store
            .get(Table::Records, &log::record_key(state.number, seq));
        match bytes.map(|bytes| log::read_stored(state.number, seq, &bytes)) {
            Some(Err(why)) => self.note_corrupt(key, seq, why),
            Some(Ok(record)) if record.carried().is_some() || !self.keeps_body(&record) => {}
            Some(Ok(_)) | None => {
                self.repairs.insert((key, seq));
            }
        }
    }

    /// A record is not what was written: it is reported, and fetched again from a peer.
    pub(super) fn note_corrupt(&mut self, key: LogKey, seq: Seq, why: CorruptRecord) {
        if self.repairs.insert((key, seq)) {
            self.event(Event::Corrupt { key, why });
        }
    }
}

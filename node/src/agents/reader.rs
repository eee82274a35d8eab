//! The reader: what is new in the logs, from a cursor in each.
//!
//! Agents hear of the world as any reader does, by reading records that are durable here. A cursor is
//! kept for each log; what lies behind it was read, and after a restart is read no more.
//!
//! Not here: what is made of records (`host`).

use crate::view::View;
use aquifer_protocol::log::{self, LogState, ReadRecord};
use aquifer_protocol::{Record, Seq, Store as _, Table};
use minicbor::{Decode, Encode};
use std::collections::BTreeMap;

/// Where reading goes on, by the logs' numbers.
#[derive(Clone, PartialEq, Eq, Default, Debug, Encode, Decode)]
#[cbor(transparent)]
pub struct Cursors(#[n(0)] BTreeMap<u64, Seq>);

impl Cursors {
    /// Reads on: at most about `most` records, log by log. Whether there are more.
    ///
    /// # Errors
    /// If the store cannot be read. A record that is gone, or damaged, is passed over: damaged ones come
    /// again from peers, and are then behind the cursor.
    pub fn advance(
        &mut self,
        view: &View,
        most: usize,
        each: &mut dyn FnMut(Record),
    ) -> Result<bool, ReadRecord> {
        let mut longer = Vec::new();
        view.snapshot
            .range(Table::Logs, &[], None, &mut |_, value| {
                if let Ok(state) = minicbor::decode::<LogState>(&value)
                    && self.at(state.number) < state.height
                {
                    longer.push((state.number, state.height));
                }
                true
            })?;
        let mut left = most;
        for (number, height) in longer {
            while self.at(number) < height {
                let Some(rest) = left.checked_sub(1) else {
                    return Ok(true);
                };
                left = rest;
                let seq = self.at(number);
                self.0.insert(number, seq + 1);
                match log::record_at(&view.snapshot, number, seq) {
                    Ok(Some(record)) => each(record),
                    Ok(None) | Err(ReadRecord::Corrupt(_)) => {}
                    Err(why) => return Err(why),
                }
            }
        }
        Ok(false)
    }

    /// The place of the next record to read in a log.
    pub fn at(&self, log: u64) -> Seq {
        self.0.get(&log).copied().unwrap_or_default()
    }
}

//! Sync: how two nodes find out what each has of a topic that the other lacks.
//!
//! Everything synced is a log record, so what must be compared is where each log stands: an
//! [`Item`] of log, height and tip. Equal digests end it at once. Few logs are listed; many are
//! reconciled by coded cells (`riblt`), at about 60 bytes per log that differs. These functions are
//! pure; each returns what follows from a comparison.
//!
//! Not here: sending and serving (`replica::converse`), whether records are good (`replica::accept`).

use crate::identity::digest;
use crate::log::{LogKey, LogState, Logs};
use crate::riblt::{SumKey, Symbol};
use crate::topic::TopicId;
use crate::wire::Item;
use std::collections::{BTreeMap, BTreeSet};

/// What follows from comparing one of a peer's items with ours.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Both the same.
    Equal,
    /// The peer has records we lack.
    Behind,
    /// We have records the peer lacks.
    Ahead,
    /// The peer knows of a fork, or a lower one, that we do not.
    LacksOurProof,
    /// We know of a fork, or a lower one, that the peer does not.
    LacksTheirProof,
    /// Same height, other tip: somewhere below, the writer signed two records at one place.
    Diverged,
}

/// Our item for a log.
pub fn item(key: &LogKey, state: &LogState) -> Item {
    let LogState {
        height, tip, fork, ..
    } = *state;
    Item {
        writer: key.writer,
        log: key.log,
        height,
        tip,
        fork,
    }
}

/// Compares a peer's item with where the log stands here.
pub fn compare(ours: Option<&LogState>, theirs: &Item) -> Verdict {
    let Some(ours) = ours else {
        return match (theirs.height, theirs.fork) {
            (_, Some(_)) => Verdict::LacksOurProof,
            (0, None) => Verdict::Equal,
            _ => Verdict::Behind,
        };
    };
    match (ours.fork, theirs.fork) {
        (None, Some(_)) => return Verdict::LacksOurProof,
        (Some(_), None) => return Verdict::LacksTheirProof,
        (Some(a), Some(b)) if b < a => return Verdict::LacksOurProof,
        (Some(a), Some(b)) if a < b => return Verdict::LacksTheirProof,
        _ => {}
    }
    match theirs.height.cmp(&ours.height) {
        core::cmp::Ordering::Greater => Verdict::Behind,
        core::cmp::Ordering::Less => Verdict::Ahead,
        core::cmp::Ordering::Equal if theirs.tip == ours.tip => Verdict::Equal,
        core::cmp::Ordering::Equal => Verdict::Diverged,
    }
}

/// The hash of all of a topic's items in order, and how many there are. Empty logs do not count:
/// they say nothing.
pub fn summary(logs: &Logs, topic: TopicId) -> ([u8; 16], u32) {
    let mut bytes = Vec::new();
    let mut count = 0;
    for (key, state) in logs
        .of_topic(topic)
        .filter(|(_, s)| s.height > 0 || s.fork.is_some())
    {
        minicbor::encode(item(key, state), &mut bytes).expect("a vector takes any encoding");
        count += 1;
    }
    let hash = digest("aquifer/summary/1", &[topic.as_bytes(), &bytes]);
    (*hash.first_chunk().expect("32 bytes hold 16"), count)
}

/// The checksum key of the reconciliation of `topic` named `nonce`.
pub fn sum_key(topic: TopicId, nonce: u64) -> SumKey {
    SumKey(digest(
        "aquifer/cells/1",
        &[topic.as_bytes(), &nonce.to_be_bytes()],
    ))
}

/// A log's 48-bit short hash in a reconciliation.
pub fn short_hash(key: &LogKey, nonce: u64) -> u64 {
    let parts: [&[u8]; 3] = [
        &nonce.to_be_bytes(),
        &key.writer.0,
        &key.log.0.to_be_bytes(),
    ];
    u64::from_be_bytes(
        *digest("aquifer/short/1", &parts)
            .first_chunk()
            .expect("32 hold 8"),
    ) >> 16
}

/// Coded items: each log as 48 bits of hash, 32 of height, 48 of tip and fork.
#[derive(Clone, Debug, Default)]
pub struct Coded {
    /// What is reconciled.
    pub symbols: BTreeSet<Symbol>,
    /// Which log a short hash means here.
    pub logs: BTreeMap<u64, LogKey>,
}

impl Coded {
    /// Codes our items of `topic` for the reconciliation `nonce`.
    pub fn of(logs: &Logs, topic: TopicId, nonce: u64) -> Self {
        let mut coded = Self::default();
        for (key, state) in logs
            .of_topic(topic)
            .filter(|(_, s)| s.height > 0 || s.fork.is_some())
        {
            let short = short_hash(key, nonce);
            coded.logs.insert(short, *key);
            coded.symbols.insert(symbol(short, state));
        }
        coded
    }
}

fn symbol(short: u64, state: &LogState) -> Symbol {
    let fork = state.fork.map_or(0, |fork| fork.saturating_add(1));
    let parts: [&[u8]; 2] = [&state.tip.0, &fork.to_be_bytes()];
    let tip = digest("aquifer/tip/1", &parts);
    let tip = u64::from_be_bytes(*tip.first_chunk().expect("32 hold 8")) >> 16;
    let height = state.height.min(u64::from(u32::MAX));
    (u128::from(short) << 80) | (u128::from(height) << 48) | u128::from(tip)
}

/// Splits a symbol into a log's short hash and its height.
pub fn split(symbol: Symbol) -> (u64, u64) {
    (
        (symbol >> 80) as u64,
        (symbol >> 48) as u64 & u64::from(u32::MAX),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::NodeId;
    use crate::record::{LogId, NO_RECORD, RecordId};

    fn state(height: u64, tip: u8, fork: Option<u64>) -> LogState {
        LogState {
            height,
            tip: RecordId([tip; 32]),
            fork,
            ..LogState::empty(1)
        }
    }

    fn theirs(height: u64, tip: u8, fork: Option<u64>) -> Item {
        Item {
            writer: NodeId([1; 32]),
            log: LogId(2),
            height,
            tip: RecordId([tip; 32]),
            fork,
        }
    }

    #[test]
    fn every_pair_of_items_has_a_verdict_and_its_mirror() {
        use Verdict::*;
        let cases = [
            (state(3, 3, None), theirs(3, 3, None), Equal, Equal),
            (state(3, 3, None), theirs(5, 5, None), Behind, Ahead),
            (state(3, 3, None), theirs(3, 9, None), Diverged, Diverged),
            (
                state(2, 2, Some(2)),
                theirs(3, 9, None),
                LacksTheirProof,
                LacksOurProof,
            ),
            (state(2, 2, Some(2)), theirs(2, 2, Some(2)), Equal, Equal),
            (
                state(2, 2, Some(2)),
                theirs(1, 1, Some(1)),
                LacksOurProof,
                LacksTheirProof,
            ),
            (state(1, 1, Some(2)), theirs(2, 2, Some(2)), Behind, Ahead),
        ];
        for (ours, item, expected, mirrored) in cases {
            assert_eq!(compare(Some(&ours), &item), expected, "{ours:?} {item:?}");
            let back = Item {
                height: ours.height,
                tip: ours.tip,
                fork: ours.fork,
                ..item
            };
            let them = LogState {
                height: item.height,
                tip: item.tip,
                fork: item.fork,
                ..ours
            };
            assert_eq!(
                compare(Some(&them), &back),
                mirrored,
                "mirror of {ours:?} {item:?}"
            );
        }
        assert_eq!(compare(None, &theirs(0, 0, None)), Equal);
        assert_eq!(compare(None, &theirs(1, 1, None)), Behind);
    }

    #[test]
    fn a_symbol_keeps_the_log_and_the_height() {
        let key = LogKey {
            topic: TopicId([0; 32]),
            writer: NodeId([1; 32]),
            log: LogId(2),
        };
        let short = short_hash(&key, 7);
        let made = symbol(short, &state(77, 1, None));
        assert_eq!(split(made), (short, 77));
        assert_ne!(
            made,
            symbol(
                short,
                &LogState {
                    tip: NO_RECORD,
                    ..state(77, 1, None)
                }
            )
        );
    }
}

//! Sync: how two nodes find out what each has of a topic that the other lacks.
//!
//! Everything synced is a log record, so what must be compared is where each log stands: an
//! [`Item`] of log, height and tip. Equal digests end it at once. Few logs are listed; many are
//! reconciled by coded cells (`riblt`), at about 30 bytes per log that differs. These functions are
//! pure; each returns what follows from a comparison.
//!
//! Two logs of one topic that share a short hash, once in 2^17 talks about 65,536 logs, make one
//! wrong entry: then too much or too little is asked for. What is sent is checked all the same, and
//! the next talk draws another nonce, so nothing is lost and little is late.
//!
//! Not here: sending and serving (`replica::converse`), whether records are good (`replica::accept`).

use crate::identity::digest;
use crate::log::{LogKey, LogState, Logs};
use crate::record::Seq;
use crate::riblt::{Sketch, SumKey, VALUE_BITS};
use crate::topic::TopicId;
use crate::wire::Item;
use std::collections::BTreeMap;

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

/// The key of the reconciliation of `topic` named `nonce`.
fn sum_key(topic: TopicId, nonce: u64) -> SumKey {
    SumKey(digest(
        "aquifer/cells/1",
        &[topic.as_bytes(), &nonce.to_be_bytes()],
    ))
}

/// A log's 48-bit short hash in a reconciliation, and 64 bits more.
fn short_and_signs(key: &LogKey, nonce: u64) -> (u64, u64) {
    let parts: [&[u8]; 3] = [
        &nonce.to_be_bytes(),
        &key.writer.0,
        &key.log.0.to_be_bytes(),
    ];
    let (short, signs) = two(&digest("aquifer/short/1", &parts));
    // Zero stands for no log.
    ((short >> 16).max(1), signs)
}

/// A log's 48-bit short hash in a reconciliation.
pub fn short_hash(key: &LogKey, nonce: u64) -> u64 {
    short_and_signs(key, nonce).0
}

fn two(hash: &[u8; 32]) -> (u64, u64) {
    let at = |i: usize| u64::from_be_bytes(hash[i..i + 8].try_into().expect("eight"));
    (at(0), at(8))
}

/// Where a log stands, in 60 bits: 28 of height, 32 of a hash of tip and fork; and 64 bits more.
/// Never zero. Heights beyond 28 bits count as the highest: then only the hash differs, and the
/// whole item is asked for.
fn value_and_bits(state: &LogState, nonce: u64) -> (u64, u64) {
    let fork = state.fork.map_or(0, |fork| fork.saturating_add(1));
    let parts: [&[u8]; 3] = [&nonce.to_be_bytes(), &state.tip.0, &fork.to_be_bytes()];
    let (tip, bits) = two(&digest("aquifer/tip/1", &parts));
    (value_of(state.height, tip >> 32), bits)
}

fn value_of(height: Seq, tip: u64) -> u64 {
    ((height.min(HEIGHT_MAX) << TIP_BITS) | tip).max(1)
}

const TIP_BITS: u32 = 32;
const HEIGHT_MAX: Seq = (1 << (VALUE_BITS - TIP_BITS)) - 1;

/// How many logs differ, before it is known which: 64 sums over all logs of a random sign, for every
/// other state of a log. The mean square of their differences is half the number of logs that
/// differ (Alon, Matias and Szegedy 1996), to some 18 %, whether one side or both have them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Gauge(pub [i16; GAUGES]);

/// How many sums a [`Gauge`] has.
pub const GAUGES: usize = 64;

impl Gauge {
    fn add(&mut self, signs: u64, bits: u64) {
        for (i, sum) in self.0.iter_mut().enumerate() {
            let sign = ((signs >> i & 1) << 1) as i16 - 1;
            *sum = sum.wrapping_add(sign * (bits >> i & 1) as i16);
        }
    }

    /// About how many logs stand elsewhere with `other`.
    pub fn differing(&self, other: &Self) -> usize {
        let squares = self.0.iter().zip(&other.0).map(|(a, b)| {
            let apart = i64::from(a.wrapping_sub(*b));
            (apart * apart) as usize
        });
        squares.sum::<usize>() * 2 / GAUGES
    }
}

/// A topic's logs coded for one reconciliation, as they stood when it began.
#[derive(Clone, Debug)]
pub struct Coded {
    /// Which topic.
    pub topic: TopicId,
    /// Which reconciliation.
    pub nonce: u64,
    /// What is reconciled: short hash → where the log stands.
    pub sketch: Sketch,
    /// How many differ, roughly.
    pub gauge: Gauge,
    logs: BTreeMap<u64, (LogKey, u64)>,
}

impl Coded {
    /// Codes our logs of `topic` for the reconciliation `nonce`.
    pub fn of(logs: &Logs, topic: TopicId, nonce: u64) -> Self {
        let mut gauge = Gauge([0; GAUGES]);
        let mut coded = BTreeMap::new();
        let mut entries = Vec::new();
        for (key, state) in logs
            .of_topic(topic)
            .filter(|(_, s)| s.height > 0 || s.fork.is_some())
        {
            let (short, signs) = short_and_signs(key, nonce);
            let (value, bits) = value_and_bits(state, nonce);
            gauge.add(signs, bits);
            coded.insert(short, (*key, value));
            entries.push((short, value));
        }
        Self {
            topic,
            nonce,
            sketch: Sketch::of(sum_key(topic, nonce), entries),
            gauge,
            logs: coded,
        }
    }

    /// Which log a short hash means here.
    pub fn log(&self, short: u64) -> Option<LogKey> {
        self.logs.get(&short).map(|(key, _)| *key)
    }

    /// How high the peer has a log whose coded value is `apart` from ours: none if it has not got it.
    /// Nonsense, from two logs of one hash or from a liar, is taken for a log that we may ask about.
    pub fn their_height(&self, short: u64, apart: i64) -> Option<Seq> {
        let ours = self.logs.get(&short).map_or(0, |(_, value)| *value);
        let theirs = (ours as i64).wrapping_add(apart);
        (theirs != 0).then_some((theirs as u64 >> TIP_BITS).min(HEIGHT_MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::NodeId;
    use crate::record::{LogId, RecordId};

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

    fn logs_of(topic: TopicId, all: impl IntoIterator<Item = (u64, LogState)>) -> Logs {
        let mut logs = Logs::default();
        let mut store = crate::store::Staged::new(crate::store::MemStore::default());
        for (log, state) in all {
            let (writer, log) = (NodeId([1; 32]), LogId(log));
            logs.set(&mut store, LogKey { topic, writer, log }, state);
        }
        logs
    }

    #[test]
    fn a_difference_tells_the_log_and_the_peers_height() {
        let topic = TopicId([0; 32]);
        let (ours, theirs) = (
            logs_of(
                topic,
                [
                    (1, state(3, 3, None)),
                    (2, state(7, 7, None)),
                    (4, state(1, 1, None)),
                ],
            ),
            logs_of(
                topic,
                [
                    (1, state(3, 3, None)),
                    (2, state(77, 8, None)),
                    (5, state(9, 9, None)),
                ],
            ),
        );
        let (mut here, mut there) = (Coded::of(&ours, topic, 7), Coded::of(&theirs, topic, 7));
        let found = here
            .sketch
            .decode(there.sketch.cells(16))
            .expect("three in 16");
        let told: BTreeMap<_, _> = found
            .iter()
            .map(|(short, apart)| {
                let log = here.log(*short).or(there.log(*short)).map(|key| key.log.0);
                (log, here.their_height(*short, *apart))
            })
            .collect();
        let expected = [(Some(2), Some(77)), (Some(4), None), (Some(5), Some(9))];
        assert_eq!(told, BTreeMap::from(expected));
    }

    #[test]
    fn equal_heights_of_other_tips_or_forks_differ() {
        let value = |tip, fork| value_and_bits(&state(77, tip, fork), 7).0;
        assert_ne!(value(1, None), value(2, None));
        assert_ne!(value(1, None), value(1, Some(77)));
        assert_eq!(value(1, None) >> TIP_BITS, 77);
        assert_eq!(value_of(Seq::MAX, 5) >> TIP_BITS, HEIGHT_MAX);
    }

    #[test]
    fn the_gauge_tells_how_many_differ_whoever_has_them() {
        let topic = TopicId([0; 32]);
        let of = |shift: u64, count: u64| {
            let all = (0..5_000u64).map(|log| {
                let tip = digest(
                    "tip",
                    &[&(log / count * shift).to_be_bytes(), &log.to_be_bytes()],
                );
                let state = LogState {
                    tip: RecordId(tip),
                    ..state(5, 0, None)
                };
                (log, state)
            });
            Coded::of(&logs_of(topic, all), topic, 3).gauge
        };
        let fewer = Coded::of(
            &logs_of(
                topic,
                (0..4_000u64).map(|log| {
                    let tip = digest("tip", &[&0u64.to_be_bytes(), &log.to_be_bytes()]);
                    (
                        log,
                        LogState {
                            tip: RecordId(tip),
                            ..state(5, 0, None)
                        },
                    )
                }),
            ),
            topic,
            3,
        )
        .gauge;
        let all = of(0, 1);
        assert_eq!(all.differing(&all), 0);
        // Beyond the first 4,000, others' tips; or nothing at all.
        let changed = of(1, 4_000);
        for other in [changed, fewer] {
            let told = all.differing(&other);
            assert!((500..1_800).contains(&told), "{told} of 1,000");
        }
    }
}

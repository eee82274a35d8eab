//! Pace: how often this node speaks up for what it wrote itself.
//!
//! The first writes leave at once. Who writes on and on is held to a turn now and then, which carries all
//! that was written meanwhile: each turn costs every holder a beat, a commit and the way through the
//! mesh, whatever it carries. So turns are rarer the more there are who listen, and where commits take
//! long, here and so probably elsewhere. What somebody waits for receipts of is not held. The records are durable
//! while they wait, and whoever connects or syncs meanwhile is given them all the same.
//!
//! The rate is a leaky bucket in the form of one time stamp (GCRA, ITU-T I.371).

use crate::limits::{SPEAK_BURST, SPEAK_COMMITS, SPEAK_EVERY_MAX, SPEAK_PER_PEER};
use crate::record::Record;
use crate::time::Time;
use crate::topic::TopicId;
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

/// Own news, by topic, in the order written.
type Fresh = BTreeMap<TopicId, Vec<Record>>;

/// When this node may speak, and what it will then say.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// How long a commit takes by now.
    commit: Duration,
    every: Duration,
    /// When the turns taken so far are paid for.
    paid: Time,
    held: Fresh,
}

impl Pace {
    /// A commit takes so long by now.
    pub(super) fn commits(&mut self, take: Duration) {
        self.commit = take;
    }

    /// What is to be said now to so many `peers`, given what this beat wrote: all that is held and
    /// `fresh`, or nothing but what is in these topics in a `hurry`.
    pub(super) fn turn(
        &mut self,
        now: Time,
        fresh: Fresh,
        peers: usize,
        hurry: &BTreeSet<TopicId>,
    ) -> Fresh {
        let peers = u32::try_from(peers).unwrap_or(u32::MAX);
        let listened = SPEAK_PER_PEER.saturating_mul(peers);
        let committed = self.commit.saturating_mul(SPEAK_COMMITS);
        self.every = listened.max(committed).min(SPEAK_EVERY_MAX);
        for (topic, records) in fresh {
            self.held.entry(topic).or_default().extend(records);
        }
        let said: Fresh = match self.next_turn() <= now {
            true => core::mem::take(&mut self.held),
            false => self
                .held
                .extract_if(.., |topic, _| hurry.contains(topic))
                .collect(),
        };
        if !said.is_empty() {
            // Turns taken in a hurry never put off later ones for longer than an interval.
            self.paid = (self.paid.max(now) + self.every).min(now + self.every * SPEAK_BURST);
        }
        said
    }

    /// What `is_out` is not said any more.
    pub(super) fn forget(&mut self, topic: TopicId, is_out: impl Fn(&Record) -> bool) {
        if let Some(held) = self.held.get_mut(&topic) {
            held.retain(|record| !is_out(record));
            if held.is_empty() {
                self.held.remove(&topic);
            }
        }
    }

    /// When what is held may leave; `None` if nothing is.
    pub(super) fn next_deadline(&self) -> Option<Time> {
        (!self.held.is_empty()).then(|| self.next_turn())
    }

    /// The first moment at which no more than the burst is unpaid.
    fn next_turn(&self) -> Time {
        let burst = self.every * (SPEAK_BURST - 1);
        Time::ZERO + self.paid.since(Time::ZERO + burst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Keys;
    use crate::record::NO_RECORD;
    use crate::record::tests::header;

    const PEERS: usize = 50;
    const CALM: BTreeSet<TopicId> = BTreeSet::new();
    const EVERY: Duration = Duration::from_millis(100);

    fn fresh(number: u64) -> Fresh {
        let keys = Keys::from_secret(&[1; 32]);
        let header = header(&keys, number, NO_RECORD);
        let record = Record::author(&keys, header, [8; 16], b"news").expect("short");
        Fresh::from([(record.header().topic, vec![record])])
    }

    fn count(said: &Fresh) -> usize {
        said.values().map(Vec::len).sum()
    }

    #[test]
    fn the_first_leave_at_once_and_a_stream_in_turns_that_carry_all() {
        let mut pace = Pace::default();
        let start = Time::ZERO + Duration::from_secs(1_000);
        let (mut turns, mut said) = (0, 0);
        for ms in 0..1_000 {
            let now = start + Duration::from_millis(ms);
            let turn = count(&pace.turn(now, fresh(ms), PEERS, &CALM));
            if ms < u64::from(SPEAK_BURST) {
                assert_eq!(1, turn, "write {ms} leaves at once");
            }
            turns += usize::from(turn > 0);
            said += turn;
        }
        let due = pace.next_deadline().expect("some are held");
        said += count(&pace.turn(due, Fresh::new(), PEERS, &CALM));
        assert_eq!(1_000, said, "nothing is lost and nothing said twice");
        assert_eq!(None, pace.next_deadline());
        let most = SPEAK_BURST + (1_000 / EVERY.as_millis()) as u32;
        assert!(turns <= most as usize, "{turns} turns in a second");
    }

    #[test]
    fn what_is_held_waits_one_interval_at_most_and_not_at_all_in_a_hurry() {
        let mut pace = Pace::default();
        let now = Time::ZERO + Duration::from_secs(1_000);
        for number in 0..u64::from(SPEAK_BURST) {
            assert_eq!(1, count(&pace.turn(now, fresh(number), PEERS, &CALM)));
        }
        assert_eq!(0, count(&pace.turn(now, fresh(100), PEERS, &CALM)));
        let others = BTreeSet::from([TopicId([7; 32])]);
        let said = pace.turn(now, Fresh::new(), PEERS, &others);
        assert_eq!(0, count(&said), "who waits for another topic");
        assert_eq!(Some(now + EVERY), pace.next_deadline());
        for number in 0..50 {
            let topics: BTreeSet<TopicId> = fresh(0).into_keys().collect();
            assert!(count(&pace.turn(now, fresh(101 + number), PEERS, &topics)) > 0);
        }
        assert_eq!(0, count(&pace.turn(now, fresh(200), PEERS, &CALM)));
        assert_eq!(Some(now + EVERY), pace.next_deadline());
    }

    #[test]
    fn slow_commits_make_turns_rarer_within_bounds() {
        let mut pace = Pace::default();
        let mut held_for = |commit: Duration| {
            pace = Pace::default();
            pace.commits(commit);
            let now = Time::ZERO + Duration::from_secs(1_000);
            (0..=u64::from(SPEAK_BURST)).for_each(|n| drop(pace.turn(now, fresh(n), PEERS, &CALM)));
            pace.next_deadline().expect("one is held").since(now)
        };
        assert_eq!(EVERY, held_for(Duration::from_micros(300)));
        let ten = Duration::from_millis(10);
        assert_eq!(ten * SPEAK_COMMITS, held_for(ten));
        assert_eq!(SPEAK_EVERY_MAX, held_for(Duration::from_secs(9)));
    }

    #[test]
    fn the_burst_comes_back_with_quiet() {
        let mut pace = Pace::default();
        let mut now = Time::ZERO + Duration::from_secs(1_000);
        for _ in 0..2 {
            let at_once =
                (0..50).take_while(|n| count(&pace.turn(now, fresh(*n), PEERS, &CALM)) > 0);
            assert_eq!(SPEAK_BURST as usize, at_once.count());
            now = now + EVERY * (SPEAK_BURST + 1);
            pace.turn(now, Fresh::new(), PEERS, &CALM);
            now = now + EVERY * SPEAK_BURST;
        }
    }
}

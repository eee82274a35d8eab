//! Roads: what becomes of a packet between two places, as a function of time and chance.
//!
//! A [`Line`] is one direction between two regions, or inside one. Its bandwidth is shared by all
//! nodes that use it, like that of a leased line; a packet waits its turn in a queue of bounded
//! length. Packets of one pair of nodes keep their order, but for those that a lot holds back.
//! Everything is counted per ordered pair of nodes, so that a test can ask whether its fault bit.
//!
//! Time is an argument: since the start of the run. Not here: who moves the bytes (`router`).

use std::collections::{BTreeMap, BTreeSet};
use std::ops::AddAssign;
use std::time::Duration;

/// A packet that would wait longer than this for its turn is dropped: the length of the queue.
const QUEUE: Duration = Duration::from_millis(400);

/// What may leave at once after a pause, in bytes.
const BURST_BYTES: u64 = 16 * 1024;

/// A packet that is held back is late by a quarter of the way, and at least by this.
const HOLD_MIN: Duration = Duration::from_millis(3);

/// One direction between two regions, or inside one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Line {
    /// How long the way is.
    pub delay: Duration,
    /// The way is longer by a lot drawn from zero to this.
    pub jitter: Duration,
    /// How many of a thousand packets are lost.
    pub loss_permille: u16,
    /// How many of a thousand packets are held back so that later ones overtake them.
    pub reorder_permille: u16,
    /// The bandwidth, if it is bounded.
    pub bytes_per_second: Option<u64>,
}

impl Line {
    /// A line of `delay_ms` that loses `loss_permille` of a thousand packets.
    #[must_use]
    pub fn of(delay_ms: u64, loss_permille: u16) -> Self {
        Self {
            delay: Duration::from_millis(delay_ms),
            jitter: Duration::from_micros(delay_ms * 25),
            loss_permille,
            reorder_permille: 2,
            bytes_per_second: None,
        }
    }
}

/// One end of a cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    /// All nodes of a region, by its number.
    Region(usize),
    /// One node, by its number.
    Node(usize),
}

/// What became of the packets of one ordered pair of nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Tally {
    /// Packets that were given to the road.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Packets that arrived.
    pub arrived: u64,
    /// Lost by lot.
    pub lost: u64,
    /// Arrived after one that was sent later.
    pub reordered: u64,
    /// Stopped by a cut.
    pub cut: u64,
    /// Found the queue full.
    pub overflowed: u64,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.packets += other.packets;
        self.bytes += other.bytes;
        self.arrived += other.arrived;
        self.lost += other.lost;
        self.reordered += other.reordered;
        self.cut += other.cut;
        self.overflowed += other.overflowed;
    }
}

/// Chance from a seed: SplitMix64 (Steele, Lea, Flood 2014).
#[derive(Clone, Debug)]
pub struct Chance(u64);

impl Chance {
    /// Chance that always draws the same from the same `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`; 0 if `end` is 0.
    pub fn below(&mut self, end: u64) -> u64 {
        if end == 0 { 0 } else { self.bits() % end }
    }
}

/// A packet under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Passage {
    /// When it is to arrive.
    pub due: Duration,
    /// Its place among the packets of its pair.
    pub place: u64,
}

#[derive(Debug, Default)]
struct Pair {
    sent: u64,
    latest_due: Duration,
    latest_arrived: u64,
    tally: Tally,
}

/// All roads between the nodes of a run.
#[derive(Debug)]
pub struct Roads {
    region_of: Vec<usize>,
    lines: BTreeMap<(usize, usize), Line>,
    free_at: BTreeMap<(usize, usize), Duration>,
    cuts: BTreeSet<(End, End)>,
    pairs: BTreeMap<(usize, usize), Pair>,
    chance: Chance,
}

impl Roads {
    /// Roads between nodes of which number `i` is in region `region_of[i]`. A line that is never set
    /// carries everything at once.
    #[must_use]
    pub fn new(region_of: Vec<usize>, seed: u64) -> Self {
        Self {
            region_of,
            lines: BTreeMap::new(),
            free_at: BTreeMap::new(),
            cuts: BTreeSet::new(),
            pairs: BTreeMap::new(),
            chance: Chance::new(seed),
        }
    }

    /// Sets the line from region `from` to region `to`.
    pub fn set(&mut self, from: usize, to: usize, line: Line) {
        self.lines.insert((from, to), line);
    }

    /// Sets both directions.
    pub fn set_both(&mut self, a: usize, b: usize, line: Line) {
        self.set(a, b, line);
        self.set(b, a, line);
    }

    /// The line from region `from` to region `to`.
    #[must_use]
    pub fn line(&self, from: usize, to: usize) -> Line {
        self.lines.get(&(from, to)).copied().unwrap_or_default()
    }

    /// Changes every line that is set.
    pub fn change(&mut self, change: impl Fn(&mut Line)) {
        self.lines.values_mut().for_each(change);
    }

    /// From now on nothing gets from `from` to `to`, also nothing that is under way.
    pub fn cut(&mut self, from: End, to: End) {
        self.cuts.insert((from, to));
    }

    /// Cuts both directions.
    pub fn cut_both(&mut self, a: End, b: End) {
        self.cut(a, b);
        self.cut(b, a);
    }

    /// Takes all cuts back.
    pub fn heal(&mut self) {
        self.cuts.clear();
    }

    /// Takes a packet: when it arrives, or nothing if it does not.
    pub fn carry(
        &mut self,
        now: Duration,
        from: usize,
        to: usize,
        bytes: usize,
    ) -> Option<Passage> {
        let bytes = u64::try_from(bytes).expect("a packet is short");
        let is_cut = self.is_cut(from, to);
        let regions = (self.region_of[from], self.region_of[to]);
        let line = self.line(regions.0, regions.1);
        let pair = self.pairs.entry((from, to)).or_default();
        pair.sent += 1;
        pair.tally.packets += 1;
        pair.tally.bytes += bytes;
        if is_cut {
            pair.tally.cut += 1;
            return None;
        }
        if self.chance.below(1_000) < u64::from(line.loss_permille) {
            pair.tally.lost += 1;
            return None;
        }
        let mut leaves = now;
        if let Some(rate) = line.bytes_per_second {
            let time = |bytes: u64| Duration::from_nanos(bytes * 1_000_000_000 / rate.max(1));
            // The queue's end lies in the past after a pause: that much may leave at once.
            let free = self.free_at.entry(regions).or_default();
            let turn = (*free).max(now.saturating_sub(time(BURST_BYTES)));
            if turn > now + QUEUE {
                pair.tally.overflowed += 1;
                return None;
            }
            *free = turn + time(bytes);
            leaves = now.max(*free);
        }
        let jitter = u64::try_from(line.jitter.as_nanos()).expect("a short time");
        let mut due = leaves + line.delay + Duration::from_nanos(self.chance.below(jitter));
        if self.chance.below(1_000) < u64::from(line.reorder_permille) {
            due += HOLD_MIN.max(line.delay / 4);
        } else {
            due = due.max(pair.latest_due);
            pair.latest_due = due;
        }
        Some(Passage {
            due,
            place: pair.sent,
        })
    }

    /// Whether a packet whose time has come really arrives.
    pub fn arrive(&mut self, from: usize, to: usize, place: u64) -> bool {
        let is_cut = self.is_cut(from, to);
        let pair = self.pairs.entry((from, to)).or_default();
        if is_cut {
            pair.tally.cut += 1;
            return false;
        }
        pair.tally.arrived += 1;
        pair.tally.reordered += u64::from(place < pair.latest_arrived);
        pair.latest_arrived = pair.latest_arrived.max(place);
        true
    }

    /// What became of the packets from node `from` to node `to`.
    #[must_use]
    pub fn tally(&self, from: usize, to: usize) -> Tally {
        let pair = self.pairs.get(&(from, to));
        pair.map(|pair| pair.tally).unwrap_or_default()
    }

    /// What became of all packets.
    #[must_use]
    pub fn total(&self) -> Tally {
        let mut total = Tally::default();
        self.pairs.values().for_each(|pair| total += pair.tally);
        total
    }

    /// What became of the packets between regions, and inside them.
    #[must_use]
    pub fn by_region(&self) -> BTreeMap<(usize, usize), Tally> {
        let mut found = BTreeMap::<_, Tally>::new();
        for ((from, to), pair) in &self.pairs {
            let regions = (self.region_of[*from], self.region_of[*to]);
            *found.entry(regions).or_default() += pair.tally;
        }
        found
    }

    fn is_cut(&self, from: usize, to: usize) -> bool {
        let names = |node| [End::Node(node), End::Region(self.region_of[node])];
        let mut pairs = names(from)
            .into_iter()
            .flat_map(|from| names(to).map(|to| (from, to)));
        pairs.any(|pair| self.cuts.contains(&pair))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Two nodes in region 0, one in region 1, and a line between the regions.
    fn roads(line: Line) -> Roads {
        let mut roads = Roads::new(vec![0, 0, 1], 7);
        roads.set_both(0, 1, line);
        roads
    }

    /// Sends `count` packets of 1,000 bytes from node 0 to node 2, one a millisecond.
    fn stream(roads: &mut Roads, count: u32) -> Vec<(Duration, u64)> {
        let mut due: Vec<(Duration, u64)> = (0..count)
            .filter_map(|i| roads.carry(MS * i, 0, 2, 1_000))
            .map(|passage| (passage.due, passage.place))
            .collect();
        due.sort_unstable();
        due.retain(|(_, place)| roads.arrive(0, 2, *place));
        due
    }

    #[test]
    fn a_packet_takes_the_delay_and_at_most_the_jitter() {
        let line = Line {
            delay: MS * 40,
            jitter: MS * 2,
            ..Line::default()
        };
        let mut roads = roads(line);
        let passage = roads.carry(MS, 0, 2, 100).expect("carried");
        assert!(passage.due >= MS * 41 && passage.due < MS * 43);
        let near = roads.carry(MS, 0, 1, 100).expect("carried");
        assert_eq!(near.due, MS, "no line was set inside the region");
    }

    #[test]
    fn loss_and_reordering_come_as_often_as_asked_and_are_counted() {
        let line = Line {
            delay: MS * 40,
            loss_permille: 100,
            reorder_permille: 50,
            ..Line::default()
        };
        let mut roads = roads(line);
        let arrived = stream(&mut roads, 10_000);
        let tally = roads.tally(0, 2);
        assert_eq!(tally.packets, 10_000);
        assert_eq!(tally.bytes, 10_000_000);
        assert!((900..1_100).contains(&tally.lost), "{tally:?}");
        assert!((350..550).contains(&tally.reordered), "{tally:?}");
        assert_eq!(tally.arrived, 10_000 - tally.lost);
        assert_eq!(arrived.len() as u64, tally.arrived);
        assert_eq!(roads.tally(2, 0), Tally::default());
    }

    #[test]
    fn jitter_alone_keeps_the_order() {
        let line = Line {
            delay: MS * 40,
            jitter: MS * 30,
            ..Line::default()
        };
        let mut roads = roads(line);
        stream(&mut roads, 1_000);
        assert_eq!(roads.tally(0, 2).reordered, 0);
    }

    #[test]
    fn bandwidth_holds_over_time_and_a_full_queue_drops() {
        let line = Line {
            bytes_per_second: Some(100_000),
            ..Line::default()
        };
        let mut roads = roads(line);
        // A tenth fits: a megabyte a second into a hundred kilobytes.
        let arrived = stream(&mut roads, 2_000);
        let last = arrived.last().expect("some arrive").0;
        let rate = arrived.len() as f64 * 1_000.0 / last.as_secs_f64();
        assert!((80_000.0..115_000.0).contains(&rate), "{rate}");
        let tally = roads.tally(0, 2);
        assert!(tally.overflowed > 1_000, "{tally:?}");
        assert!(last < MS * 2_000 + QUEUE + MS * 20, "{last:?}");
    }

    #[test]
    fn a_cut_stops_one_direction_also_what_is_under_way_until_it_heals() {
        let mut roads = roads(Line::of(40, 0));
        let passage = roads.carry(MS, 0, 2, 100).expect("carried");
        roads.cut(End::Region(0), End::Node(2));
        assert!(!roads.arrive(0, 2, passage.place), "it was under way");
        assert!(roads.carry(MS, 0, 2, 100).is_none());
        assert!(roads.carry(MS, 1, 2, 100).is_none(), "all of the region");
        assert!(roads.carry(MS, 2, 0, 100).is_some(), "the other direction");
        assert_eq!(roads.tally(0, 2).cut, 2);
        roads.heal();
        assert!(roads.carry(MS, 0, 2, 100).is_some());
        assert_eq!(roads.total().cut, 3);
        assert_eq!(roads.by_region()[&(0, 1)].cut, 3);
    }
}

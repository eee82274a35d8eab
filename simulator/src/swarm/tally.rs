//! Tallies: what a run is asked about, counted where it happens and added up at the end.
//!
//! Counts only, so parts add up to the same whole in any order. Delays are counted by the millisecond.
//!
//! Not here: how it is told (`report`).

use super::event::Kind;
use super::gossip::Arrival;
use serde::Serialize;

/// Delays of so many milliseconds and more are counted as one.
pub const DELAYS: usize = 8_192;

/// Messages whose own delays are kept, from the first on.
pub const FOLLOWED: usize = 64;

/// Messages whose course is kept: how many had it how soon, in steps that grow.
pub const COURSES: usize = 4_096;

/// Steps of a course: eight to a doubling, from a millisecond on.
pub const STEPS: usize = 128;

/// Most links of a mesh that are counted apart.
pub const DEGREES: usize = 33;

/// What one thread has counted.
#[derive(Clone, Debug)]
pub struct Tally {
    /// First arrivals, by region of the agent and delay.
    pub delays: Vec<Vec<u64>>,
    /// First arrivals of the first messages, by delay.
    pub followed: Vec<Vec<u64>>,
    /// First arrivals of more messages, by steps of delay.
    pub courses: Vec<[u32; STEPS]>,
    /// Bytes sent from each region to each other one, row by row.
    pub flows: Vec<u64>,
    /// Arrivals of a message that the agent had.
    pub duplicates: u64,
    /// First arrivals because it was asked for.
    pub answered: u64,
    /// Things sent, and their bytes, by kind: inside a region and between regions.
    pub sent: [[Sent; 2]; 8],
    /// First arrivals one by one, where the run was asked to write them down.
    pub arrivals: Vec<Arrival>,
    /// Agents by links in the mesh, as they were at each heartbeat from the first message on.
    pub degrees: [u64; DEGREES],
    /// How often the law was asked.
    pub checked: u64,
    /// Of those, how often it forbade.
    pub denied: u64,
    /// Of those, how often it forbade what somebody had sent all the same.
    pub attempted: u64,
    /// How often an agent took what another judge says it must not: none, or the law has a hole.
    pub accepted: u64,
    /// Things lost on the way, and sent again.
    pub lost: u64,
    /// Things lost for ever, since their regions were cut off from each other.
    pub cut: u64,
    /// First arrivals at agents that were away when the message was published; no delays.
    pub late: u64,
    /// Agents that were to have the messages that were published.
    pub audience: u64,
    /// Messages due at the end to agents that had been here for a while, each for itself.
    pub due: u64,
    /// Of those, how many they lacked.
    pub lacking: u64,
    /// Messages that were not published, since whoever was to was away.
    pub unsaid: Vec<u32>,
    /// Departures.
    pub departures: u64,
    /// Peers put out of a mesh for their silence.
    pub silenced: u64,
    /// For each time that regions were cut off: first arrivals, after it, of what was said during it, by
    /// steps of time since; and the last of them, in milliseconds.
    pub mended: Vec<([u64; STEPS], u64)>,
    /// First arrivals at those who had been away, by steps of time since they came back.
    pub caught_up: [u64; STEPS],
    /// First arrivals at those who are eclipsed, by delay.
    pub eclipsed: Vec<u64>,
    /// What spammers sent: judged, and dropped unseen.
    pub spam: [u64; 2],
    /// Messages that arrived again when they were forgotten, and how often one of them was passed on.
    pub replays: [u64; 2],
    /// What went through relays.
    pub relayed: Sent,
}

/// A number of things and their bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Sent {
    /// How many.
    pub count: u64,
    /// How many bytes.
    pub bytes: u64,
}

impl Tally {
    /// Nothing counted, in so many regions.
    pub fn new(regions: usize, messages: usize) -> Self {
        Self {
            delays: vec![vec![0; DELAYS]; regions],
            followed: vec![vec![0; DELAYS]; messages.min(FOLLOWED)],
            courses: vec![[0; STEPS]; messages.min(COURSES)],
            flows: vec![0; regions * regions],
            duplicates: 0,
            answered: 0,
            sent: [[Sent::default(); 2]; 8],
            arrivals: Vec::new(),
            degrees: [0; DEGREES],
            checked: 0,
            denied: 0,
            attempted: 0,
            accepted: 0,
            lost: 0,
            cut: 0,
            late: 0,
            audience: 0,
            due: 0,
            lacking: 0,
            unsaid: Vec::new(),
            departures: 0,
            silenced: 0,
            mended: Vec::new(),
            caught_up: [0; STEPS],
            eclipsed: vec![0; DELAYS],
            spam: [0; 2],
            replays: [0; 2],
            relayed: Sent::default(),
        }
    }

    /// A message arrived at an agent of `region` that did not have it, so many microseconds after it
    /// was published.
    #[inline]
    pub fn first(&mut self, region: usize, message: u32, micros: u64) {
        self.first_many(region, message, micros, 1);
    }

    /// What was said while regions were cut off arrived, so long after the `cut`-th such time.
    pub fn mends(&mut self, cut: usize, micros: u64) {
        if self.mended.len() <= cut {
            self.mended.resize(cut + 1, ([0; STEPS], 0));
        }
        let (steps, last) = &mut self.mended[cut];
        steps[step(micros / 1_000)] += 1;
        *last = (*last).max(micros / 1_000);
    }

    /// It arrived at one who had been away, and is back since so long.
    pub fn catches_up(&mut self, millis: u64) {
        self.caught_up[step(millis)] += 1;
    }

    /// It arrived at one who is eclipsed.
    pub fn eclipsed_first(&mut self, micros: u64) {
        self.eclipsed[(micros / 1_000).min(DELAYS as u64 - 1) as usize] += 1;
    }

    /// It arrived at `count` agents at once.
    pub fn first_many(&mut self, region: usize, message: u32, micros: u64, count: u64) {
        let delay = (micros / 1_000).min(DELAYS as u64 - 1) as usize;
        self.delays[region][delay] += count;
        if let Some(delays) = self.followed.get_mut(message as usize) {
            delays[delay] += count;
        }
        if let Some(course) = self.courses.get_mut(message as usize) {
            let sum = &mut course[step(micros / 1_000)];
            *sum = sum.saturating_add(u32::try_from(count).unwrap_or(u32::MAX));
        }
    }

    /// Something was sent from a region to a region.
    #[inline]
    pub fn send(&mut self, kind: Kind, (home, region): (usize, usize), bytes: u64) {
        let abroad = home != region;
        let sent = &mut self.sent[kind as usize][usize::from(abroad)];
        sent.count += 1;
        sent.bytes += bytes;
        // No branch: which way something goes, nobody can foretell.
        self.flows[home * self.delays.len() + region] += bytes * u64::from(abroad);
    }

    /// Adds what another thread has counted.
    pub fn add(&mut self, other: &Self) {
        let sum = |ours: &mut Vec<u64>, theirs: &Vec<u64>| {
            ours.iter_mut().zip(theirs).for_each(|(a, b)| *a += b);
        };
        self.delays
            .iter_mut()
            .zip(&other.delays)
            .for_each(|(a, b)| sum(a, b));
        for (ours, theirs) in self.followed.iter_mut().zip(&other.followed) {
            ours.iter_mut().zip(theirs).for_each(|(a, b)| *a += b);
        }
        for (ours, theirs) in self.courses.iter_mut().zip(&other.courses) {
            ours.iter_mut().zip(theirs).for_each(|(a, b)| *a += b);
        }
        sum(&mut self.flows, &other.flows);
        for (ours, theirs) in self.sent.iter_mut().zip(&other.sent) {
            for (a, b) in ours.iter_mut().zip(theirs) {
                a.count += b.count;
                a.bytes += b.bytes;
            }
        }
        self.degrees
            .iter_mut()
            .zip(&other.degrees)
            .for_each(|(a, b)| *a += b);
        self.arrivals.extend_from_slice(&other.arrivals);
        self.duplicates += other.duplicates;
        self.answered += other.answered;
        self.checked += other.checked;
        self.denied += other.denied;
        self.attempted += other.attempted;
        self.accepted += other.accepted;
        self.lost += other.lost;
        self.cut += other.cut;
        self.late += other.late;
        self.audience += other.audience;
        self.due += other.due;
        self.lacking += other.lacking;
        self.unsaid.extend_from_slice(&other.unsaid);
        self.departures += other.departures;
        self.silenced += other.silenced;
        let most = self.mended.len().max(other.mended.len());
        self.mended.resize(most, ([0; STEPS], 0));
        for ((ours, last), (theirs, other)) in self.mended.iter_mut().zip(&other.mended) {
            ours.iter_mut().zip(theirs).for_each(|(a, b)| *a += b);
            *last = (*last).max(*other);
        }
        let caught_up = self.caught_up.iter_mut().zip(&other.caught_up);
        caught_up.for_each(|(a, b)| *a += b);
        sum(&mut self.eclipsed, &other.eclipsed);
        for (ours, theirs) in [
            (&mut self.spam, other.spam),
            (&mut self.replays, other.replays),
        ] {
            ours.iter_mut().zip(theirs).for_each(|(a, b)| *a += b);
        }
        self.relayed.count += other.relayed.count;
        self.relayed.bytes += other.relayed.bytes;
    }

    /// First arrivals, all regions together, by delay.
    pub fn all_delays(&self) -> Vec<u64> {
        let mut all = vec![0; DELAYS];
        for region in &self.delays {
            all.iter_mut()
                .zip(region)
                .for_each(|(sum, count)| *sum += count);
        }
        all
    }

    /// First arrivals.
    pub fn firsts(&self) -> u64 {
        self.delays.iter().flatten().sum()
    }
}

/// The step of a delay in milliseconds.
fn step(ms: u64) -> usize {
    let doublings = (ms + 1).ilog2();
    let eighth = ((ms + 1) << 3 >> doublings) & 7;
    (doublings as usize * 8 + eighth as usize).min(STEPS - 1)
}

/// The least delay, in milliseconds, of a step.
pub fn step_ms(step: usize) -> f64 {
    let (doublings, eighth) = (step / 8, step % 8);
    (1.0 + eighth as f64 / 8.0) * (1_u64 << doublings) as f64 - 1.0
}

/// The delay, in milliseconds, that `part` of 1 of all stay within; `None` if there are none.
pub fn quantile<T: Copy + Into<u64>>(delays: &[T], part: f64) -> Option<u64> {
    let all: u64 = delays.iter().map(|count| (*count).into()).sum();
    let wanted = ((all as f64 * part).ceil() as u64).max(1);
    let mut sum = 0;
    let found = delays.iter().position(|count| {
        sum += (*count).into();
        sum >= wanted
    });
    found.filter(|_| all > 0).map(|delay| delay as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_the_least_delay_within_which_so_many_arrived() {
        assert_eq!(None, quantile::<u64>(&[0, 0], 0.5));
        assert_eq!(Some(1), quantile(&[0_u64, 1, 0, 1], 0.5));
        assert_eq!(Some(3), quantile(&[0_u64, 1, 0, 1], 0.51));
        assert_eq!(Some(3), quantile(&[0_u32, 99, 0, 1], 1.0));
        assert_eq!(Some(1), quantile(&[0_u32, 99, 0, 1], 0.99));
    }

    #[test]
    fn tallies_of_threads_add_up() {
        let mut one = Tally::new(2, 1);
        let mut two = Tally::new(2, 1);
        one.first(0, 0, 4_500);
        two.first(1, 0, 4_999);
        two.first(1, 9, 1 << 40);
        two.send(Kind::Copy, (0, 1), 70);
        one.add(&two);
        assert_eq!((3, 1), (one.firsts(), one.all_delays()[DELAYS - 1]));
        assert_eq!((2, 2), (one.all_delays()[4], one.followed[0][4]));
        assert_eq!(
            Sent {
                count: 1,
                bytes: 70
            },
            one.sent[0][1]
        );
        assert_eq!(vec![0, 70, 0, 0], one.flows);
        assert_eq!(2, one.courses[0].iter().sum::<u32>());
    }

    #[test]
    fn steps_rise_with_delays_and_are_an_eighth_of_a_doubling_wide() {
        for ms in 0..20_000 {
            let step = step(ms);
            assert!(step_ms(step) <= ms as f64, "{ms}");
            assert!(step_ms(step + 1) > ms as f64 || step == STEPS - 1, "{ms}");
        }
    }
}

//! Tallies: what a run is asked about, counted where it happens and added up at the end.
//!
//! Counts only, so parts add up to the same whole in any order. Delays are counted by the millisecond.
//!
//! Not here: how it is told (`report`).

use super::event::Kind;
use serde::Serialize;

/// Delays of so many milliseconds and more are counted as one.
pub const DELAYS: usize = 8_192;

/// Messages whose own delays are kept, from the first on.
pub const FOLLOWED: usize = 64;

/// Most links of a mesh that are counted apart.
pub const DEGREES: usize = 33;

/// What one thread has counted.
#[derive(Clone, Debug)]
pub struct Tally {
    /// First arrivals, by region of the agent and delay.
    pub delays: Vec<Vec<u64>>,
    /// First arrivals of the first messages, by delay.
    pub followed: Vec<Vec<u64>>,
    /// Arrivals of a message that the agent had.
    pub duplicates: u64,
    /// First arrivals because it was asked for.
    pub answered: u64,
    /// Things sent, and their bytes, by kind: inside a region and between regions.
    pub sent: [[Sent; 2]; 8],
    /// Agents by links in the mesh, as they were at each heartbeat.
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
            duplicates: 0,
            answered: 0,
            sent: [[Sent::default(); 2]; 8],
            degrees: [0; DEGREES],
            checked: 0,
            denied: 0,
            attempted: 0,
            accepted: 0,
            lost: 0,
        }
    }

    /// A message arrived at an agent of `region` that did not have it, so many microseconds after it
    /// was published.
    #[inline]
    pub fn first(&mut self, region: usize, message: u32, micros: u64) {
        self.first_many(region, message, micros, 1);
    }

    /// It arrived at `count` agents at once.
    pub fn first_many(&mut self, region: usize, message: u32, micros: u64, count: u64) {
        let delay = (micros / 1_000).min(DELAYS as u64 - 1) as usize;
        self.delays[region][delay] += count;
        if let Some(delays) = self.followed.get_mut(message as usize) {
            delays[delay] += count;
        }
    }

    /// Something was sent.
    #[inline]
    pub fn send(&mut self, kind: Kind, abroad: bool, bytes: u64) {
        let sent = &mut self.sent[kind as usize][usize::from(abroad)];
        sent.count += 1;
        sent.bytes += bytes;
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
        self.duplicates += other.duplicates;
        self.answered += other.answered;
        self.checked += other.checked;
        self.denied += other.denied;
        self.attempted += other.attempted;
        self.accepted += other.accepted;
        self.lost += other.lost;
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
        two.send(Kind::Copy, true, 70);
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
    }
}

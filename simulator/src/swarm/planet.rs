//! The planet: one byte for each of up to eight thousand million agents.
//!
//! The byte says when a message arrives, in quanta of some milliseconds; time goes from quantum to
//! quantum, and each agent whose moment it is passes the message on along links that are computed
//! (`graph`). What is kept is what no link that was followed has bettered yet, so this is Dial's
//! shortest-path algorithm (1969) with the buckets left out: a block of agents knows the next quantum
//! at which anything happens in it, and is searched only then. A way is rounded to quanta up or down by
//! chance, so that many hops add no error of their own.
//!
//! The links of an agent are its mesh. There are no heartbeats, and one message at a time. Duplicates are
//! counted from what is sent, for their moments are not kept; and what is sent, in bytes, is counted with
//! the copy that would go back over the link that the first came over: one in as many as there are links.
//!
//! Not here: what it says (`report`), every event (`gossip`).

use super::column::Column;
use super::draw::{Draws, Purpose, scaled};
use super::engine::Digest;
use super::event::Kind;
use super::geography::Geography;
use super::graph::Bijection;
use super::tally::Tally;
use memchr::memchr_iter;

/// Agents that are searched at once.
const BLOCK_LOG: u32 = 14;

/// Messages on their way that are looked up at once: their reads do not wait for each other.
const BATCH: usize = 4_096;

/// The last quantum that a byte can tell: 0 stands for never.
pub const QUANTA: u64 = 254;

/// A message of the planet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Said {
    /// The how-manieth of the run.
    pub number: u32,
    /// The bytes of a copy.
    pub bytes: u64,
    /// The regions that may have it, a bit each: the answer of the product's own policy.
    pub allowed: u16,
    /// The same, as another judge has it.
    pub lawful: u16,
}

/// All agents, and one message.
pub struct Planet<'a> {
    geography: &'a Geography,
    ways: Vec<Bijection>,
    quantum: u32,
    draws: Draws,
    /// How early each agent has the message: 255 at once, 254 a quantum later; 0 if not at all.
    early: Column<u8>,
    /// The earliest that is still to come, by block.
    next: Vec<u8>,
    batch: Vec<u64>,
}

/// A message took longer than a byte can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the message was still spreading after {QUANTA} quanta of {quantum} µs; use a longer quantum"
)]
pub struct TooSlow {
    quantum: u32,
}

impl<'a> Planet<'a> {
    /// All agents of a geography, `links` each, an even number; `quantum` in microseconds.
    pub fn new(geography: &'a Geography, links: u8, quantum: u32, draws: Draws) -> Self {
        let agents = geography.agents();
        let blocks = (agents >> BLOCK_LOG) as usize + 1;
        let ways = (0..u64::from(links) / 2).map(|way| Bijection::new(agents, draws, way));
        Self {
            geography,
            ways: ways.collect(),
            quantum,
            draws,
            early: Column::zeroed(agents as usize),
            next: vec![0; blocks],
            batch: Vec::new(),
        }
    }

    /// Lets `publisher` publish a message, and counts. Calls `done` after each quantum; false ends it
    /// there. How many copies were sent.
    ///
    /// # Errors
    /// If the message still spreads when the quanta end.
    pub fn publish(
        &mut self,
        publisher: u64,
        message: Said,
        tally: &mut Tally,
        done: &mut dyn FnMut(u64) -> bool,
    ) -> Result<u64, TooSlow> {
        self.early.fill(0);
        self.next.fill(0);
        self.arrives(publisher, u8::MAX);
        let mut sent = 0;
        for quantum in 0..=QUANTA {
            sent += self.quantum(message, quantum, tally);
            if !done(quantum) {
                break;
            }
        }
        let late = self.count(publisher, message, sent, tally);
        match late {
            0 => Ok(sent),
            _ => Err(TooSlow {
                quantum: self.quantum,
            }),
        }
    }

    /// All whose moment it is pass the message on. How many copies that takes.
    fn quantum(&mut self, message: Said, quantum: u64, tally: &mut Tally) -> u64 {
        let now = u8::MAX - quantum as u8;
        let mut sent = 0;
        for block in 0..self.next.len() {
            if self.next[block] != now {
                continue;
            }
            let first = block << BLOCK_LOG;
            let end = (first + (1 << BLOCK_LOG)).min(self.early.len());
            // The column is read while what is found is noted: it changes only when that is settled.
            let early = &self.early[first..end];
            self.next[block] = latest_below(now, early);
            for place in memchr_iter(now, early) {
                let agent = (first + place) as u64;
                sent += spread(
                    (self.geography, &self.ways, self.draws, self.quantum),
                    (agent, now),
                    message,
                    (&mut self.batch, tally),
                );
            }
            if self.batch.len() >= BATCH {
                self.settle();
            }
        }
        self.settle();
        sent
    }

    /// Notes what is on its way, where it comes earlier than what is known.
    fn settle(&mut self) {
        let batch = std::mem::take(&mut self.batch);
        for some in batch.chunks(BATCH) {
            // First all is read, then all is compared: so the reads go on side by side.
            let read = some
                .iter()
                .fold(0, |sum, copy| sum ^ self.early[(copy >> 8) as usize]);
            std::hint::black_box(read);
            for copy in some {
                self.arrives(copy >> 8, *copy as u8);
            }
        }
        self.batch = batch;
        self.batch.clear();
    }

    #[inline]
    fn arrives(&mut self, agent: u64, early: u8) {
        let known = &mut self.early[agent as usize];
        if early > *known {
            *known = early;
            let next = &mut self.next[(agent >> BLOCK_LOG) as usize];
            *next = early.max(*next);
        }
    }

    /// The digest of who had it when.
    pub fn digest(&self) -> Digest {
        let agents = (0..).zip(self.early.iter());
        Digest::of(agents.map(|(agent, early)| (agent, u64::from(*early))))
    }

    /// Counts who had it when. How many had it at the last quantum, after which others might have.
    fn count(&self, publisher: u64, message: Said, sent: u64, tally: &mut Tally) -> u64 {
        let mut late = 0;
        let mut firsts = 0;
        for (region, bounds) in self.geography.bounds.windows(2).enumerate() {
            let mut by_early = [0_u64; 256];
            let agents = &self.early[bounds[0] as usize..bounds[1] as usize];
            for early in agents {
                by_early[usize::from(*early)] += 1;
            }
            if (bounds[0]..bounds[1]).contains(&publisher) {
                by_early[255] -= 1;
            }
            late += by_early[1];
            for (early, count) in by_early.iter().enumerate().skip(1) {
                let micros = (255 - early as u64) * u64::from(self.quantum);
                tally.first_many(region, message.number, micros, *count);
                firsts += count;
                tally.accepted += if message.lawful >> region & 1 == 0 {
                    *count
                } else {
                    0
                };
            }
        }
        // Each that has it sends to all its links but the one it came over.
        tally.duplicates += sent.saturating_sub(2 * firsts);
        late
    }
}

/// The largest of all bytes below `now`, lane by lane, as vector instructions like it.
fn latest_below(now: u8, early: &[u8]) -> u8 {
    const LANES: usize = 64;
    let (chunks, rest) = early.as_chunks::<LANES>();
    let below = |early: u8| if early < now { early } else { 0 };
    let mut most = [0; LANES];
    for chunk in chunks {
        for (most, early) in most.iter_mut().zip(chunk) {
            *most = below(*early).max(*most);
        }
    }
    let rest = rest.iter().map(|early| below(*early));
    most.into_iter().chain(rest).max().unwrap_or(0)
}

/// A copy on its way, in a word: to whom, and how early it comes.
fn packed(agent: u64, early: u8) -> u64 {
    agent << 8 | u64::from(early)
}

/// One agent passes the message on. How many copies that takes.
#[inline]
fn spread(
    (geography, ways, draws, quantum): (&Geography, &[Bijection], Draws, u32),
    (agent, now): (u64, u8),
    message: Said,
    (batch, tally): (&mut Vec<u64>, &mut Tally),
) -> u64 {
    let home = geography.region(agent);
    let mut sent = 0;
    for (slot, way) in ways.iter().enumerate() {
        for (turn, peer) in [way.map(agent), way.back(agent)].into_iter().enumerate() {
            let region = geography.region(peer);
            tally.checked += 1;
            if message.allowed >> region & 1 == 0 {
                tally.denied += 1;
                continue;
            }
            let count = u64::from(message.number) << 8 | (2 * slot + turn) as u64;
            // One draw for two things: the upper half for the one, the lower for the other.
            let drawn = draws.bits(Purpose::Processing, agent, count);
            let takes = geography.way((agent, home), (peer, region)) as u32
                + geography.processing_of(drawn) as u32;
            let up = scaled(drawn << 32, quantum);
            let quanta = ((takes + up) / quantum).clamp(1, 255) as u8;
            tally.send(Kind::Copy, (home, region), message.bytes);
            sent += 1;
            // What would come after the last quantum is noted at it, and then found to be too late.
            batch.push(packed(peer, now.saturating_sub(quanta).max(1)));
        }
    }
    sent
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::swarm::geography::read_matrix;

    fn geography(agents: u64) -> Geography {
        let matrix = read_matrix(",a,b\na,2,40\nb,40,2").expect("legal");
        Geography::new(agents, &[2.0, 1.0], matrix, 20, (200, 900), Draws::new(1))
    }

    fn said(allowed: u16) -> Said {
        Said {
            number: 0,
            bytes: 100,
            allowed,
            lawful: allowed,
        }
    }

    #[test]
    fn a_message_reaches_all_that_may_have_it_and_nobody_else() {
        let geography = geography(30_000);
        let mut planet = Planet::new(&geography, 8, 2_000, Draws::new(1));
        for (allowed, expected) in [(0b11, 29_999), (0b01, 19_999)] {
            let mut tally = Tally::new(2, 1);
            let sent = planet.publish(5, said(allowed), &mut tally, &mut |_| true);
            let sent = sent.expect("quick enough");
            let reached = tally.firsts();
            assert!(
                reached <= expected && reached as f64 > 0.999 * expected as f64,
                "{reached}"
            );
            assert_eq!(sent, tally.checked - tally.denied);
            assert_eq!((0, allowed == 1), (tally.accepted, tally.denied > 0));
        }
    }

    #[test]
    fn a_quantum_too_short_is_told_and_not_hidden() {
        let geography = geography(30_000);
        let mut planet = Planet::new(&geography, 8, 200, Draws::new(1));
        let mut tally = Tally::new(2, 1);
        let late = planet.publish(5, said(3), &mut tally, &mut |_| true);
        assert_eq!(Err(TooSlow { quantum: 200 }), late);
    }
}

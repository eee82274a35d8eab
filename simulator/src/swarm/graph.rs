//! The graph: who is connected to whom, computed and never stored.
//!
//! Links come in pairs, made by bijections of the agents of a region (or of all): agent `i` has on link
//! `2k` the agent that bijection `k` maps it to, and on link `2k+1` the one that is mapped to it. So
//! each agent has the same number of links, both ends know which of the other's links is theirs, and
//! no table is needed. A link to oneself, or a second one between two agents, is none. The union of
//! random bijections is, with overwhelming likelihood, connected and an expander (Friedman 2008).
//!
//! A bijection is four rounds of multiplying by an odd number and folding down the upper half, on the
//! next power of two; what falls outside is mapped again until it falls inside (cycle walking: Black
//! and Rogaway 2002).
//!
//! Not here: which links are in a mesh (`gossip`), how long they are (`geography`).

use super::draw::{Draws, Purpose};
use super::geography::Geography;
use serde::{Deserialize, Serialize};

/// Who may be linked to whom.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Shape {
    /// Anyone to anyone.
    Flat,
    /// Agents of one region to each other; bridges lead out (`gossip`).
    Regional,
}

/// One end of a link.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Link {
    /// The agent at the other end.
    pub peer: u32,
    /// Which of its links this is.
    pub reverse: u8,
}

/// The links of all agents.
#[derive(Clone, Debug)]
pub struct Graph {
    ranges: Vec<Range>,
    links: u8,
}

/// Agents that are linked among themselves.
#[derive(Clone, Debug)]
struct Range {
    first: u32,
    count: u32,
    ways: Vec<Bijection>,
}

impl Graph {
    /// `links` for each agent: an even number, as many as bijections give.
    ///
    /// # Panics
    /// If `links` is odd or 0.
    pub fn new(shape: Shape, links: u8, geography: &Geography, draws: Draws) -> Self {
        assert!(links > 0 && links.is_multiple_of(2), "links come in pairs");
        let bounds = match shape {
            Shape::Flat => vec![0, geography.agents()],
            Shape::Regional => geography.bounds.clone(),
        };
        let bounds: Vec<u32> = bounds.into_iter().map(|bound| bound as u32).collect();
        let range = |(number, pair): (usize, &[u32])| Range {
            first: pair[0],
            count: pair[1] - pair[0],
            ways: (0..u64::from(links) / 2)
                .map(|way| {
                    let count = u64::from(pair[1] - pair[0]);
                    Bijection::new(count, draws, (number as u64) << 8 | way)
                })
                .collect(),
        };
        Self {
            ranges: bounds.windows(2).enumerate().map(range).collect(),
            links,
        }
    }

    /// The links of `agent`, by number; `None` where there is none.
    pub fn links(&self, agent: u32, into: &mut Vec<Option<Link>>) {
        into.clear();
        let found = self
            .ranges
            .partition_point(|range| range.first + range.count <= agent);
        let range = &self.ranges[found];
        let place = u64::from(agent - range.first);
        for (way, number) in range.ways.iter().zip((0..self.links).step_by(2)) {
            for (peer, slot) in [(way.map(place), number), (way.back(place), number + 1)] {
                let link = Link {
                    peer: range.first + peer as u32,
                    reverse: slot ^ 1,
                };
                into.push((link.peer != agent).then_some(link));
            }
        }
        // Of two links between two agents both ends keep the same one: that of the first bijection,
        // and if that maps each to the other, the one that leads up.
        let rank = |slot: usize, peer: u32| (slot / 2, (slot.is_multiple_of(2)) == (agent > peer));
        for slot in 0..into.len() {
            let Some(link) = into[slot] else { continue };
            let mine = rank(slot, link.peer);
            let better = |(other, known): (usize, &Option<Link>)| {
                known.is_some_and(|known| known.peer == link.peer && rank(other, link.peer) < mine)
            };
            if into.iter().enumerate().any(better) {
                into[slot] = None;
            }
        }
    }
}

/// Rounds of a bijection.
const ROUNDS: usize = 4;

/// A mapping of `0..count` onto itself.
#[derive(Clone, Debug)]
pub(super) struct Bijection {
    count: u64,
    mask: u64,
    fold: u32,
    /// Odd factors, what undoes them, and what is added.
    rounds: [(u64, u64, u64); ROUNDS],
}

impl Bijection {
    pub(super) fn new(count: u64, draws: Draws, number: u64) -> Self {
        let bits = count.max(2).next_power_of_two().ilog2();
        let round = |round: usize| {
            let at = round as u64;
            let factor = draws.bits(Purpose::Graph, number, 2 * at) | 5;
            (
                factor,
                inverse(factor),
                draws.bits(Purpose::Graph, number, 2 * at + 1),
            )
        };
        Self {
            count,
            mask: (1 << bits) - 1,
            fold: bits.div_ceil(2),
            rounds: std::array::from_fn(round),
        }
    }

    #[inline]
    pub(super) fn map(&self, place: u64) -> u64 {
        let mut x = place;
        loop {
            for (factor, _, add) in &self.rounds {
                x = x.wrapping_mul(*factor).wrapping_add(*add) & self.mask;
                x ^= x >> self.fold;
            }
            if x < self.count {
                return x;
            }
        }
    }

    #[inline]
    pub(super) fn back(&self, place: u64) -> u64 {
        let mut x = place;
        loop {
            for (_, undo, add) in self.rounds.iter().rev() {
                // Folding at half the width or more undoes itself.
                x ^= x >> self.fold;
                x = x.wrapping_sub(*add).wrapping_mul(*undo) & self.mask;
            }
            if x < self.count {
                return x;
            }
        }
    }
}

/// What undoes multiplying by an odd number, modulo 2⁶⁴ (Newton's iteration).
fn inverse(odd: u64) -> u64 {
    let mut inverse = odd;
    for _ in 0..5 {
        inverse = inverse.wrapping_mul(2_u64.wrapping_sub(odd.wrapping_mul(inverse)));
    }
    inverse
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn geography(agents: u64, shares: &[f64]) -> Geography {
        let names = shares
            .iter()
            .enumerate()
            .map(|(i, _)| i.to_string())
            .collect();
        let ways = shares.iter().map(|_| vec![9_000; shares.len()]).collect();
        Geography::new(agents, shares, (names, ways), 0, (0, 0), Draws::new(1))
    }

    #[test]
    fn a_bijection_maps_everyone_to_someone_else_and_back() {
        for count in [1, 2, 3, 7, 64, 1_000, 4_097] {
            let way = Bijection::new(count, Draws::new(3), 5);
            let all: BTreeSet<u64> = (0..count).map(|place| way.map(place)).collect();
            assert_eq!(count as usize, all.len());
            assert!((0..count).all(|place| way.back(way.map(place)) == place));
        }
    }

    #[test]
    fn both_ends_of_a_link_know_it_and_no_two_agents_have_two() {
        let geography = geography(500, &[1.0]);
        let graph = Graph::new(Shape::Flat, 20, &geography, Draws::new(9));
        let mut all = Vec::new();
        for agent in 0..500 {
            let mut links = Vec::new();
            graph.links(agent, &mut links);
            assert_eq!(20, links.len());
            all.push(links);
        }
        let mut missing = 0;
        for (agent, links) in all.iter().enumerate() {
            let mut peers = BTreeSet::new();
            for (slot, link) in links.iter().enumerate() {
                let Some(link) = link else {
                    missing += 1;
                    continue;
                };
                assert!(peers.insert(link.peer));
                let other = all[link.peer as usize][usize::from(link.reverse)];
                let expected = Link {
                    peer: agent as u32,
                    reverse: slot as u8,
                };
                assert_eq!(Some(expected), other);
            }
        }
        assert!(missing < 500, "{missing} of 10000 links are none");
    }

    #[test]
    fn regional_links_stay_at_home() {
        let geography = geography(1_000, &[1.0, 3.0]);
        let graph = Graph::new(Shape::Regional, 8, &geography, Draws::new(2));
        let mut links = Vec::new();
        for agent in 0..1_000 {
            graph.links(agent, &mut links);
            let home = geography.region(agent.into());
            assert!(
                links
                    .iter()
                    .flatten()
                    .all(|link| geography.region(link.peer.into()) == home)
            );
        }
    }
}

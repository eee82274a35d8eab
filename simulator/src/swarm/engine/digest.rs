//! Digests: whether two runs were the same, and if not, where they parted.
//!
//! Three sums of one hash of each event and its effect. `events` adds them all, so it does not depend
//! on the order in which agents were served. `orders` adds one chain for each agent and epoch, so it
//! changes if two events of one agent change places. `epochs` keeps the first sum by epoch: two runs
//! that differ are bisected to the first epoch that does. All sums are modulo 2¹²⁸.

use crate::swarm::draw::mix;
use std::fmt;

/// What happened.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Digest {
    /// The sum over events.
    pub events: u128,
    /// The sum over the chains of agents.
    pub orders: u128,
    /// The sum over events, by epoch.
    pub epochs: Vec<u128>,
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:032x}",
            self.events.wrapping_add(self.orders.rotate_left(64))
        )
    }
}

impl Digest {
    /// The digest of a state: of each agent and what it has.
    pub fn of(agents: impl Iterator<Item = (u64, u64)>) -> Self {
        let sum = agents.fold(0_u128, |sum, (agent, has)| {
            sum.wrapping_add(strong(agent, has, 0))
        });
        Self {
            events: sum,
            ..Self::default()
        }
    }

    /// Adds what happened elsewhere in the same run.
    pub fn add(&mut self, other: &Self) {
        self.events = self.events.wrapping_add(other.events);
        self.orders = self.orders.wrapping_add(other.orders);
        let most = self.epochs.len().max(other.epochs.len());
        self.epochs.resize(most, 0);
        for (ours, theirs) in self.epochs.iter_mut().zip(&other.epochs) {
            *ours = ours.wrapping_add(*theirs);
        }
    }

    /// The first epoch in which this run and `other` differ.
    pub fn first_difference(&self, other: &Self) -> Option<usize> {
        let most = self.epochs.len().max(other.epochs.len());
        let at = |digest: &Self, epoch: usize| digest.epochs.get(epoch).copied().unwrap_or(0);
        (0..most).find(|epoch| at(self, *epoch) != at(other, *epoch))
    }

    /// What happened in `epoch`, all of it.
    pub(super) fn close(&mut self, epoch: u64, seen: Seen) {
        let epoch = epoch as usize;
        if seen.events == 0 && seen.orders == 0 {
            return;
        }
        if self.epochs.len() <= epoch {
            self.epochs.resize(epoch + 1, 0);
        }
        self.epochs[epoch] = self.epochs[epoch].wrapping_add(seen.events);
        self.events = self.events.wrapping_add(seen.events);
        self.orders = self.orders.wrapping_add(seen.orders);
    }
}

/// What happened so far in one epoch, agent after agent.
#[derive(Clone, Copy, Default)]
pub(super) struct Seen {
    events: u128,
    orders: u128,
    chain: u64,
}

impl Seen {
    /// The next event is another agent's.
    #[inline]
    pub(super) fn agent(&mut self, agent: u32, epoch: u64) {
        self.end_chain();
        self.chain = mix(u64::from(agent) << 32 ^ epoch) | 1;
    }

    /// Something happened to the agent.
    #[inline]
    pub(super) fn event(&mut self, event: u64, at: u64, effect: u64) {
        let hash = strong(event, at, effect);
        self.events = self.events.wrapping_add(hash);
        let folded = hash as u64 ^ (hash >> 64) as u64;
        self.chain = (self.chain ^ folded)
            .wrapping_mul(0x9fb2_1c65_1e98_df25)
            .rotate_left(29);
    }

    #[inline]
    fn end_chain(&mut self) {
        let twice = u128::from(self.chain) * u128::from(self.chain ^ 0xa076_1d64_78bd_642f);
        self.orders = self.orders.wrapping_add(twice);
        self.chain = 0;
    }

    /// The epoch is over.
    pub(super) fn ended(mut self) -> Self {
        self.end_chain();
        self
    }
}

/// A full product of two mixed words, as in wyhash: as many bits out as a sum of billions needs.
#[inline]
fn strong(event: u64, at: u64, effect: u64) -> u128 {
    let a = (event ^ 0xe703_7ed1_a0b4_28db).wrapping_mul(0x8ebc_6af0_9c88_c6e3);
    let b = (at ^ effect.rotate_left(40)).wrapping_mul(0x5899_65cc_7537_4cc3);
    let (a, b) = (a ^ a >> 32, b ^ b >> 29 ^ 0x1d8e_4e27_c47d_124f);
    u128::from(a) * u128::from(b | 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(agents: &[(u32, &[u64])]) -> Digest {
        let (mut digest, mut seen) = (Digest::default(), Seen::default());
        for (agent, events) in agents {
            seen.agent(*agent, 3);
            events.iter().for_each(|event| seen.event(*event, 5, 7));
        }
        digest.close(3, seen.ended());
        digest
    }

    #[test]
    fn the_order_of_agents_does_not_matter_and_that_of_their_events_does() {
        let one = run(&[(1, &[10, 11]), (2, &[20])]);
        assert_eq!(one, run(&[(2, &[20]), (1, &[10, 11])]));
        let other = run(&[(1, &[11, 10]), (2, &[20])]);
        assert_eq!(one.events, other.events);
        assert_ne!(one.orders, other.orders);
        assert_ne!(one.to_string(), other.to_string());
    }

    #[test]
    fn runs_that_differ_are_bisected_to_the_first_epoch_that_does() {
        let mut one = run(&[(1, &[10])]);
        let mut other = one.clone();
        assert_eq!(None, one.first_difference(&other));
        let later = |event| {
            let mut seen = Seen::default();
            seen.agent(1, 9);
            seen.event(event, 1, 1);
            seen.ended()
        };
        one.close(9, later(1));
        other.close(9, later(2));
        assert_eq!(Some(9), one.first_difference(&other));
        assert_eq!(Some(3), one.first_difference(&Digest::default()));
    }

    #[test]
    fn parts_of_a_run_add_up_to_the_whole() {
        let mut sum = run(&[(1, &[10, 11])]);
        sum.add(&run(&[(2, &[20])]));
        let whole = run(&[(1, &[10, 11]), (2, &[20])]);
        assert_eq!(whole, sum);
    }
}

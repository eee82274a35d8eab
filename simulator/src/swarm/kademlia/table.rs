//! Tables: who an agent knows, computed from the order of keys.
//!
//! Not here: whom a lookup asks (`kademlia`).

use super::{Kademlia, wide};
use crate::swarm::draw::{Purpose, scaled};

impl Kademlia<'_> {
    /// The key of an agent: keys rise with numbers.
    pub(super) fn key(&self, agent: u64) -> u64 {
        if let Some(key) = self.keys.get(agent as usize) {
            return *key;
        }
        let agents = u128::from(self.geography.agents());
        let apart = (1_u128 << 64) / agents;
        let start = (u128::from(agent) << 64) / agents;
        let drawn = u128::from(self.draws.bits(Purpose::Key, agent, 0));
        (start + ((drawn * apart) >> 64)) as u64
    }

    /// The first agent whose key is not below `key`.
    fn rank(&self, key: u64) -> u64 {
        if !self.keys.is_empty() {
            return self.keys.partition_point(|other| *other < key) as u64;
        }
        let agents = self.geography.agents();
        let near = wide(key, agents);
        let mut rank = near.saturating_sub(1);
        while rank < agents && self.key(rank) < key {
            rank += 1;
        }
        rank
    }

    /// The agents whose keys share the first `bits` of `key`: from and until.
    pub(super) fn prefix(&self, key: u64, bits: u32) -> (u64, u64) {
        let rest = u64::MAX.checked_shr(bits).unwrap_or(0);
        let (low, high) = (key & !rest, key | rest);
        let until = match high.checked_add(1) {
            Some(next) => self.rank(next),
            None => self.geography.agents(),
        };
        (self.rank(low), until)
    }

    /// The agent whose key is nearest to `target`.
    pub(super) fn nearest(&self, target: u64) -> u64 {
        // As long a prefix as still names somebody; of those the nearest.
        let mut bits = self.geography.agents().ilog2().saturating_sub(3);
        let mut range = self.prefix(target, bits);
        while range.1 - range.0 > 64 {
            bits += 1;
            let narrower = self.prefix(target, bits);
            if narrower.0 == narrower.1 {
                break;
            }
            range = narrower;
        }
        while range.0 == range.1 {
            bits -= 1;
            range = self.prefix(target, bits);
        }
        let distance = |agent: &u64| self.key(*agent) ^ target;
        (range.0..range.1).min_by_key(distance).expect("somebody")
    }

    /// The k contacts of `agent` that are closest to `target`, but for whoever asks.
    pub(super) fn closest(&self, agent: u64, target: u64, caller: u64, into: &mut Vec<u64>) {
        into.clear();
        let key = self.key(agent);
        let apart = key ^ target;
        // One more than wanted: whoever asks may be among them.
        let wanted = self.settings.k + 1;
        // Who differs from this agent where the target does is nearer to the target than all who do not,
        // the first difference first; who differs where the target does not is farther, the last first.
        let mut deepest = 64;
        for bits in 0..64 {
            let (from, until) = self.prefix(key, bits);
            if until - from <= 1 {
                deepest = bits;
                break;
            }
            if apart >> (63 - bits) & 1 == 1 && into.len() < wanted {
                self.bucket(agent, key, bits, into);
            }
        }
        for bits in (0..deepest).rev() {
            if into.len() >= wanted {
                break;
            }
            if apart >> (63 - bits) & 1 == 0 {
                self.bucket(agent, key, bits, into);
            }
        }
        into.retain(|contact| *contact != caller);
        into.sort_unstable_by_key(|contact| self.key(*contact) ^ target);
        into.truncate(self.settings.k);
    }

    /// The contacts of `agent` that share the first `bits` of its key and not the next.
    pub(super) fn bucket(&self, agent: u64, key: u64, bits: u32, into: &mut Vec<u64>) {
        let other = key ^ 1 << (63 - bits);
        let (from, until) = self.prefix(other, bits + 1);
        let count = until - from;
        let first = into.len();
        if count <= self.settings.k as u64 {
            into.extend((from..until).filter(|contact| !self.is_unknown(agent, *contact)));
            return;
        }
        // Whoever came by first: k of all, each as likely, none twice.
        let mut draw = 0;
        while into.len() - first < self.settings.k {
            let drawn = self
                .draws
                .bits(Purpose::Contact, agent, u64::from(bits) << 16 | draw);
            let contact = from + wide(drawn, count);
            if !into[first..].contains(&contact) {
                into.push(contact);
            }
            draw += 1;
        }
        if self.settings.unknown > 0 {
            let known = into.split_off(first);
            into.extend(
                known
                    .into_iter()
                    .filter(|contact| !self.is_unknown(agent, *contact)),
            );
        }
    }

    /// Whether a contact that has its place in an agent's table is missing there.
    fn is_unknown(&self, agent: u64, contact: u64) -> bool {
        let drawn = self.draws.bits(Purpose::Unknown, agent, contact);
        self.settings.unknown > 0 && scaled(drawn, 1_000_000) < self.settings.unknown
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::geography;
    use super::super::{Kademlia, Settings, wide};
    use crate::swarm::draw::{Draws, Purpose};

    #[test]
    fn keys_rise_and_prefixes_are_ranges() {
        let geography = geography(5_000);
        let kademlia = Kademlia::new(&geography, Settings::default(), Draws::new(3));
        let keys: Vec<u64> = (0..5_000).map(|agent| kademlia.key(agent)).collect();
        assert!(keys.is_sorted_by(|a, b| a < b));
        for (agent, bits) in [(0, 3), (77, 0), (4_999, 9), (2_500, 12)] {
            let key = keys[agent];
            let (from, until) = kademlia.prefix(key, bits);
            let shares = |other: &u64| bits == 0 || (other ^ key) >> (64 - bits) == 0;
            let expected: Vec<usize> = (0..5_000).filter(|i| shares(&keys[*i])).collect();
            assert_eq!(
                expected,
                (from as usize..until as usize).collect::<Vec<_>>()
            );
        }
    }

    #[test]
    fn a_bucket_holds_only_those_who_share_so_many_bits() {
        let geography = geography(100_000);
        let kademlia = Kademlia::new(&geography, Settings::default(), Draws::new(3));
        for agent in [0, 1_234, 99_999] {
            for bits in 0..20 {
                let mut contacts = Vec::new();
                kademlia.bucket(agent, kademlia.key(agent), bits, &mut contacts);
                assert!(contacts.len() <= 20);
                contacts.sort_unstable();
                assert!(contacts.is_sorted_by(|a, b| a < b), "none twice");
                let shared =
                    |other: &u64| (kademlia.key(*other) ^ kademlia.key(agent)).leading_zeros();
                assert!(contacts.iter().all(|other| shared(other) == bits));
            }
        }
    }

    #[test]
    fn the_closest_of_a_table_are_those_of_all_its_buckets() {
        let geography = geography(200);
        let kademlia = Kademlia::new(&geography, Settings::default(), Draws::new(3));
        let (mut known, mut all) = (0, 0);
        for number in 0..2_000 {
            let agent = wide(Draws::new(5).bits(Purpose::Lookup, number, 0), 200);
            let target = Draws::new(5).bits(Purpose::Lookup, number, 1);
            let (mut table, mut found) = (Vec::new(), Vec::new());
            for bits in 0..64 {
                kademlia.bucket(agent, kademlia.key(agent), bits, &mut table);
            }
            table.sort_unstable_by_key(|contact| kademlia.key(*contact) ^ target);
            table.dedup();
            kademlia.closest(agent, target, agent, &mut found);
            assert_eq!(table[..20], found);
            let nearest = kademlia.nearest(target);
            all += u32::from(nearest != agent);
            known += u32::from(found[0] == nearest);
        }
        // Of 100 in the farther half a table knows 20, of 50 in the next quarter 20, and so on.
        let part = f64::from(known) / f64::from(all);
        assert!((part - 0.43).abs() < 0.05, "{part}");
    }
}

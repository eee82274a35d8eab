//! Kademlia for as many as one likes: lookups over routing tables that are computed, never stored.
//!
//! Agents are numbered in the order of their keys, so a prefix of keys is a range of numbers. Where there
//! are many, keys lie evenly but for a draw each and none is kept. A bucket of an agent is such a range, and the contacts in it are drawn
//! from it: twenty at most, each as likely, always the same ones. So a table costs nothing, and a lookup
//! among eight thousand million costs what one among a thousand does but for some more hops. Lookups
//! are iterative as in the paper (Maymounkov and Mazières 2002): the closest known are asked, α at a
//! time, until the k closest have answered.
//!
//! The tables are ideal: what a table does not know or knows wrongly is a share of contacts that do
//! not answer (`stale`), and costs the time a caller waits for them.
//!
//! Not here: what is stored at whom (the product's `directory`), gossip.

use super::draw::{Draws, Purpose, scaled};
use super::geography::Geography;
use serde::Serialize;

/// How lookups are done.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Settings {
    /// Contacts of a bucket, and the closest that a lookup is for.
    pub k: usize,
    /// Asked at a time.
    pub alpha: usize,
    /// Asked at a time once so many answers in a row have brought nothing nearer: k in libp2p.
    pub stalled: usize,
    /// Of a million contacts, so many do not answer.
    pub stale: u32,
    /// How long they are waited for, in microseconds.
    pub timeout: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            k: 20,
            alpha: 3,
            stalled: 20,
            stale: 0,
            timeout: 5_000_000,
        }
    }
}

/// The directory of all agents.
#[derive(Clone, Debug)]
pub struct Kademlia<'a> {
    geography: &'a Geography,
    settings: Settings,
    draws: Draws,
    /// All keys in order, where there are few agents.
    keys: Vec<u64>,
}

/// Up to so many agents, keys are drawn one by one and kept: then halves of the hive are not as large as
/// each other, and that shows where a bucket holds most of a half.
const KEPT_KEYS: u64 = 1 << 16;

/// What a lookup took.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Lookup {
    /// From whoever told of it to the agent nearest to the key: how many were asked, one after the other.
    pub hops: u32,
    /// The same, until all of the k closest had been told of.
    pub all_hops: u32,
    /// Questions, answered or not.
    pub asked: u32,
    /// Until the k closest had answered, in microseconds.
    pub takes: u64,
    /// Whether the agent nearest to the key is among those found.
    pub found: bool,
}

/// What many lookups took.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Lookups {
    /// How many.
    pub count: u64,
    /// How many found the agent nearest to the key.
    pub found: u64,
    /// Hops to that agent, on the average.
    pub hops: f64,
    /// Lookups by the hops to the nearest that was found.
    pub by_hops: Vec<u64>,
    /// Lookups by the hops until all of the k closest had been told of.
    pub all_hops: Vec<u64>,
    /// Questions, on the average.
    pub asked: f64,
    /// Half of all took so many milliseconds at most.
    pub p50_ms: f64,
    /// 99 in 100 did.
    pub p99_ms: f64,
}

/// One that a lookup has been told of.
#[derive(Clone, Copy)]
struct Told {
    distance: u64,
    agent: u64,
    hops: u32,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    New,
    Asked,
    Answered,
    Silent,
}

impl<'a> Kademlia<'a> {
    /// Of all agents of a geography, which here are in order of their keys.
    pub fn new(geography: &'a Geography, settings: Settings, draws: Draws) -> Self {
        let few = geography.agents() <= KEPT_KEYS;
        let all = 0..if few { geography.agents() } else { 0 };
        let mut keys: Vec<u64> = all.map(|one| draws.bits(Purpose::Key, one, 0)).collect();
        keys.sort_unstable();
        Self {
            geography,
            settings,
            draws,
            keys,
        }
    }

    /// So many lookups, by agents and of keys that are drawn.
    pub fn lookups(&self, count: u64) -> Lookups {
        let mut times = Vec::new();
        let (mut found, mut hops, mut asked) = (0, 0, 0);
        let (mut by_hops, mut all_hops) = (vec![0; 16], vec![0; 16]);
        for number in 0..count {
            let lookup = self.lookup(number);
            times.push(lookup.takes);
            found += u64::from(lookup.found);
            hops += u64::from(lookup.hops);
            asked += u64::from(lookup.asked);
            by_hops[lookup.hops.min(15) as usize] += 1;
            all_hops[lookup.all_hops.min(15) as usize] += 1;
        }
        times.sort_unstable();
        let mean = |sum: u64| sum as f64 / count.max(1) as f64;
        let at = |part: f64| {
            let place = (times.len() as f64 * part) as usize;
            let time = times.get(place.min(times.len().saturating_sub(1)));
            time.copied().unwrap_or(0) as f64 / 1_000.0
        };
        Lookups {
            count,
            found,
            hops: mean(hops),
            by_hops,
            all_hops,
            asked: mean(asked),
            p50_ms: at(0.5),
            p99_ms: at(0.99),
        }
    }

    /// Lookup number `number`: of a key that is drawn, by an agent that is drawn.
    pub fn lookup(&self, number: u64) -> Lookup {
        let agents = self.geography.agents();
        let caller = wide(self.draws.bits(Purpose::Lookup, number, 0), agents);
        let target = self.draws.bits(Purpose::Lookup, number, 1);
        let mut told: Vec<Told> = Vec::with_capacity(256);
        let mut contacts = Vec::new();
        self.closest(caller, target, caller, &mut contacts);
        self.learn(&mut told, &contacts, target, 1);
        // How many answers in a row brought nothing nearer. As many as are asked at a time mean that
        // all of the closest are asked at once (the paper, §2.3).
        let mut in_vain = 0;
        // What is on its way: when it comes, and from whom.
        let mut waits: Vec<(u64, usize)> = Vec::new();
        let (mut now, mut lookup) = (0, Lookup::default());
        loop {
            let abreast = match in_vain >= self.settings.alpha {
                true => self.settings.stalled.max(self.settings.alpha),
                false => self.settings.alpha,
            };
            while waits.len() < abreast
                && let Some(next) = self.next(&told)
            {
                told[next].state = State::Asked;
                lookup.asked += 1;
                waits.push((now + self.round_trip(caller, told[next].agent), next));
            }
            let Some(soonest) = (0..waits.len()).min_by_key(|at| waits[*at]) else {
                break;
            };
            let (at, who) = waits.swap_remove(soonest);
            now = at;
            if self.is_stale(told[who].agent) {
                told[who].state = State::Silent;
                continue;
            }
            told[who].state = State::Answered;
            let (agent, hops) = (told[who].agent, told[who].hops);
            self.closest(agent, target, caller, &mut contacts);
            let nearer = self.learn(&mut told, &contacts, target, hops + 1);
            in_vain = if nearer { 0 } else { in_vain + 1 };
        }
        let mut found: Vec<&Told> = (told.iter())
            .filter(|one| one.state == State::Answered)
            .collect();
        found.sort_unstable_by_key(|one| one.distance);
        found.truncate(self.settings.k);
        lookup.takes = now;
        lookup.hops = found.first().map_or(0, |one| one.hops);
        lookup.all_hops = found.iter().map(|one| one.hops).max().unwrap_or(0);
        lookup.found = (found.first()).is_some_and(|one| one.agent == self.nearest(target));
        lookup
    }

    /// The next to be asked: the closest that has not been, unless the k closest have all answered.
    fn next(&self, told: &[Told]) -> Option<usize> {
        let mut alive: Vec<usize> = (0..told.len())
            .filter(|at| told[*at].state != State::Silent)
            .collect();
        alive.sort_unstable_by_key(|at| told[*at].distance);
        let answered = |at: &&usize| told[**at].state == State::Answered;
        let done = alive.iter().take_while(answered).count();
        if done >= self.settings.k {
            return None;
        }
        alive.into_iter().find(|at| told[*at].state == State::New)
    }

    /// Notes who was told of. Whether that brought the k closest nearer.
    fn learn(&self, told: &mut Vec<Told>, contacts: &[u64], target: u64, hops: u32) -> bool {
        let mut range: Vec<u64> = told.iter().map(|one| one.distance).collect();
        let mut nearer = range.len() < self.settings.k;
        let last = self.settings.k.min(range.len()).saturating_sub(1);
        let reach = match range.is_empty() {
            true => 0,
            false => *range.select_nth_unstable(last).1,
        };
        for agent in contacts {
            if told.iter().all(|one| one.agent != *agent) {
                nearer |= self.key(*agent) ^ target < reach;
                told.push(Told {
                    distance: self.key(*agent) ^ target,
                    agent: *agent,
                    hops,
                    state: State::New,
                });
            }
        }
        nearer
    }

    /// The key of an agent: keys rise with numbers.
    fn key(&self, agent: u64) -> u64 {
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
    fn prefix(&self, key: u64, bits: u32) -> (u64, u64) {
        let rest = u64::MAX.checked_shr(bits).unwrap_or(0);
        let (low, high) = (key & !rest, key | rest);
        let until = match high.checked_add(1) {
            Some(next) => self.rank(next),
            None => self.geography.agents(),
        };
        (self.rank(low), until)
    }

    /// The agent whose key is nearest to `target`.
    fn nearest(&self, target: u64) -> u64 {
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
    fn closest(&self, agent: u64, target: u64, caller: u64, into: &mut Vec<u64>) {
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
    fn bucket(&self, agent: u64, key: u64, bits: u32, into: &mut Vec<u64>) {
        let other = key ^ 1 << (63 - bits);
        let (from, until) = self.prefix(other, bits + 1);
        let count = until - from;
        if count <= self.settings.k as u64 {
            into.extend(from..until);
            return;
        }
        // Whoever came by first: k of all, each as likely, none twice.
        let first = into.len();
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
    }

    fn is_stale(&self, agent: u64) -> bool {
        let drawn = self.draws.bits(Purpose::Stale, agent, 0);
        self.settings.stale > 0 && scaled(drawn, 1_000_000) < self.settings.stale
    }

    /// Until `agent` has answered `caller`, or the caller has given up.
    fn round_trip(&self, caller: u64, agent: u64) -> u64 {
        if self.is_stale(agent) {
            return self.settings.timeout;
        }
        let ends = [caller, agent].map(|agent| (agent, self.region(agent)));
        2 * self.geography.way(ends[0], ends[1]) + self.geography.processing(agent, caller)
    }

    /// Where an agent lives: keys say nothing of it.
    fn region(&self, agent: u64) -> usize {
        let agents = self.geography.agents();
        let drawn = self.draws.bits(Purpose::Home, agent, 0);
        self.geography.region(wide(drawn, agents))
    }
}

/// 64 bits as a number below `n`.
fn wide(bits: u64, n: u64) -> u64 {
    ((u128::from(bits) * u128::from(n)) >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::swarm::geography::read_matrix;

    fn geography(agents: u64) -> Geography {
        let matrix = read_matrix(",a,b\na,2,40\nb,40,2").expect("legal");
        Geography::new(agents, &[1.0, 1.0], matrix, 20, (200, 900), Draws::new(1))
    }

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

    #[test]
    fn lookups_find_the_nearest_in_a_few_hops_more_for_more() {
        let mean = |agents: u64| {
            let geography = geography(agents);
            let kademlia = Kademlia::new(&geography, Settings::default(), Draws::new(3));
            let lookups: Vec<Lookup> = (0..200).map(|number| kademlia.lookup(number)).collect();
            assert!(lookups.iter().all(|lookup| lookup.found));
            lookups
                .iter()
                .map(|lookup| f64::from(lookup.hops))
                .sum::<f64>()
                / 200.0
        };
        let (few, many) = (mean(1_000), mean(1_000_000_000));
        assert!(
            few < 3.0 && many < 7.0 && few + 1.5 < many,
            "{few} and {many}"
        );
    }

    #[test]
    fn who_does_not_answer_costs_time_and_not_the_answer() {
        let geography = geography(20_000);
        let stale = Settings {
            stale: 100_000,
            ..Settings::default()
        };
        let [quick, slow] = [Settings::default(), stale].map(|settings| {
            let kademlia = Kademlia::new(&geography, settings, Draws::new(3));
            let lookups = (0..100).map(|number| kademlia.lookup(number));
            lookups.map(|lookup| lookup.takes).sum::<u64>() / 100
        });
        assert!(quick < 2_000_000 && slow > 2 * quick, "{quick} and {slow}");
    }
}

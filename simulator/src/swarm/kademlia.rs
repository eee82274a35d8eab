//! Kademlia for as many as one likes: lookups over routing tables that are computed, never stored.
//!
//! Agents are numbered in the order of their keys, so a prefix of keys is a range of numbers. Where there
//! are many, keys lie evenly but for a draw each and none is kept. A bucket of an agent is such a range, and the contacts in it are drawn
//! from it: twenty at most, each as likely, always the same ones. So a table costs nothing, and a lookup
//! among eight thousand million costs what one among a thousand does but for some more hops. Lookups
//! are iterative as in the paper (Maymounkov and Mazières 2002): the closest known are asked, α at a
//! time, until the k closest have answered.
//!
//! The tables are ideal but for a share of contacts that are missing from them (`unknown`), and one that do
//! not answer (`stale`) and cost the time a caller waits for them.
//!
//! A **provider record** says who has something, and lies at the k closest to its key: to provide is a
//! lookup and a word to each of those, to find ends with the first of them that answers.
//!
//! Not here: who is in a table (`table`), what the product stores (its `directory`), gossip.

mod table;

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
    /// Of a million contacts, so many are missing from a table in which they have a place.
    pub unknown: u32,
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
            unknown: 0,
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
    /// Whether it ended before, with an answer that was enough.
    pub stopped: bool,
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

/// What providing and finding took.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Provided {
    /// How many things.
    pub count: u64,
    /// How many were found.
    pub found: u64,
    /// Hops to the first who knew of them, on the average.
    pub hops: f64,
    /// At how many agents a record lay, on the average.
    pub holders: f64,
    /// Until a record lay at all of them: half of all took so many milliseconds, 99 in 100 so many.
    pub provide_ms: [f64; 2],
    /// Until somebody had told of it: the same.
    pub find_ms: [f64; 2],
}

/// Half of all take so many milliseconds at most, and 99 in 100 so many.
fn two(micros: &mut [u64]) -> [f64; 2] {
    micros.sort_unstable();
    [0.5, 0.99].map(|part| {
        let place = (micros.len() as f64 * part) as usize;
        let time = micros.get(place.min(micros.len().saturating_sub(1)));
        time.copied().unwrap_or(0) as f64 / 1_000.0
    })
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
        let mean = |sum: u64| sum as f64 / count.max(1) as f64;
        let [p50_ms, p99_ms] = two(&mut times);
        Lookups {
            count,
            found,
            hops: mean(hops),
            by_hops,
            all_hops,
            asked: mean(asked),
            p50_ms,
            p99_ms,
        }
    }

    /// Lookup number `number`: of a key that is drawn, by an agent that is drawn.
    pub fn lookup(&self, number: u64) -> Lookup {
        self.walk(self.caller(number, 0), self.target(number), |_| false)
            .0
    }

    fn caller(&self, number: u64, which: u64) -> u64 {
        let drawn = self.draws.bits(Purpose::Lookup, number, 2 * which);
        wide(drawn, self.geography.agents())
    }

    fn target(&self, number: u64) -> u64 {
        self.draws.bits(Purpose::Lookup, number, 1)
    }

    /// So many things are provided, each by an agent that is drawn, and looked for by another.
    pub fn provides(&self, count: u64) -> Provided {
        let (mut provided, mut took) = (Vec::new(), Vec::new());
        let (mut found, mut hops, mut holders) = (0, 0, 0);
        for number in 0..count {
            let target = self.target(number);
            let provider = self.caller(number, 0);
            let (lookup, closest) = self.walk(provider, target, |_| false);
            let told = closest
                .iter()
                .map(|holder| self.round_trip(provider, *holder));
            provided.push(lookup.takes + told.max().unwrap_or(0));
            holders += closest.len() as u64;
            let (find, _) = self.walk(self.caller(number, 1), target, |agent| {
                closest.contains(&agent)
            });
            if find.stopped {
                found += 1;
                hops += u64::from(find.hops);
                took.push(find.takes);
            }
        }
        let mean = |sum: u64, of: u64| sum as f64 / of.max(1) as f64;
        Provided {
            count,
            found,
            hops: mean(hops, found),
            holders: mean(holders, count),
            provide_ms: two(&mut provided),
            find_ms: two(&mut took),
        }
    }

    /// Asks for the closest to `target`, until they have all answered or one has that `stops` it. Returns
    /// what it took and the closest that answered.
    fn walk(&self, caller: u64, target: u64, stops: impl Fn(u64) -> bool) -> (Lookup, Vec<u64>) {
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
            if stops(agent) {
                let asked = lookup.asked;
                let stopped = Lookup {
                    hops,
                    asked,
                    takes: now,
                    stopped: true,
                    ..Lookup::default()
                };
                return (stopped, Vec::new());
            }
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
        let closest = found.iter().map(|one| one.agent).collect();
        (lookup, closest)
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
pub(super) mod tests {
    use super::*;
    use crate::swarm::geography::read_matrix;

    pub(super) fn geography(agents: u64) -> Geography {
        let matrix = read_matrix(",a,b\na,2,40\nb,40,2").expect("legal");
        Geography::new(agents, &[1.0, 1.0], matrix, 20, (200, 900), Draws::new(1))
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

    /// What is provided lies at the k closest, and whoever looks for it is told before it has asked them all.
    #[test]
    fn what_is_provided_is_found_in_fewer_hops_than_the_closest() {
        let geography = geography(20_000);
        let kademlia = Kademlia::new(&geography, Settings::default(), Draws::new(3));
        let provided = kademlia.provides(200);
        assert_eq!((200, 20.0), (provided.found, provided.holders));
        let lookups = kademlia.lookups(200);
        assert!(provided.hops <= lookups.hops, "{provided:?} {lookups:?}");
        assert!(provided.find_ms[0] < lookups.p50_ms && lookups.p50_ms < provided.provide_ms[0]);
    }

    #[test]
    fn who_is_missing_from_tables_costs_hops() {
        let geography = geography(20_000);
        let hops = |unknown| {
            let settings = Settings {
                unknown,
                ..Settings::default()
            };
            Kademlia::new(&geography, settings, Draws::new(3)).lookups(200)
        };
        let (all, some) = (hops(0), hops(400_000));
        assert!(some.hops > all.hops && some.found > 150, "{all:?} {some:?}");
    }
}

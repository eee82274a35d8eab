//! One at a time wakes an agent, and what counts stays, whatever is lost, late or crashes.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeSet;

/// A world of hosts whose words are lost, late and doubled, and whose clocks run apart by five per
/// cent; hosts crash and forget all but what is durable.
struct World {
    hosts: Vec<Lease>,
    /// What each has taken: who took it, of which term.
    steps: Vec<Vec<(u64, usize)>>,
    counted: Vec<(u64, usize)>,
    words: Vec<(usize, usize, Word)>,
    now: u64,
    /// What holders have done with their lease: term and place.
    failovers: BTreeSet<u64>,
}

#[derive(Clone)]
enum Word {
    Vote(u64, Reach),
    Voted(u64, bool),
    Hold(u64, Reach, Vec<(u64, usize)>, u64),
    Held(u64, u64, Option<u64>),
}

fn node(number: usize) -> NodeId {
    NodeId([number as u8 + 1; 32])
}

impl World {
    fn new(count: usize) -> Self {
        let names: Vec<NodeId> = (0..count).map(node).collect();
        let lease = |number| Lease::new((node(number), &names), 0, Durable::default(), 0);
        Self {
            hosts: (0..count).map(lease).collect(),
            steps: vec![Vec::new(); count],
            counted: Vec::new(),
            words: Vec::new(),
            now: 0,
            failovers: BTreeSet::new(),
        }
    }

    /// A host's own clock.
    fn clock(&self, host: usize) -> u64 {
        self.now * (98 + host as u64 % 5) / 100
    }

    fn others(&self, host: usize) -> impl Iterator<Item = usize> {
        (0..self.hosts.len()).filter(move |other| *other != host)
    }

    /// Some time passes at one host.
    fn beats(&mut self, host: usize) {
        let (clock, steps) = (self.clock(host), self.steps[host].len() as u64);
        if self.hosts[host].holds(clock) {
            // No two wake the agent at one time.
            let holders =
                (0..self.hosts.len()).filter(|other| self.hosts[*other].holds(self.clock(*other)));
            assert_eq!(1, holders.count(), "at {}", self.now);
            let term = self.hosts[host].durable.term;
            self.failovers.insert(term);
            self.steps[host].push((term, host));
        }
        match self.hosts[host].due(clock, steps) {
            Some(Say::Vote(term)) => {
                // It asks as one that is as far as it was before it asked.
                let reach = self.hosts[host].reach(steps);
                self.others(host)
                    .collect::<Vec<_>>()
                    .into_iter()
                    .for_each(|to| {
                        self.words.push((host, to, Word::Vote(term, reach)));
                    });
            }
            Some(Say::Hold(term)) => {
                let from = self.hosts[host].chosen_at().expect("it holds");
                for to in self.others(host).collect::<Vec<_>>() {
                    let all = self.steps[host].clone();
                    self.words
                        .push((host, to, Word::Hold(term, from, all, clock)));
                }
            }
            None => {}
        }
        self.counts(host);
    }

    /// What counts once counts for ever, and is of one mind.
    fn counts(&mut self, host: usize) {
        let steps = self.steps[host].len() as u64;
        let counted = self.hosts[host].counted(steps, 0) as usize;
        let both = counted.min(self.counted.len());
        assert_eq!(
            self.counted[..both],
            self.steps[host][..both],
            "at {}",
            self.now
        );
        if counted > self.counted.len() {
            self.counted = self.steps[host][..counted].to_vec();
        }
    }

    fn hears(&mut self, (from, to, word): (usize, usize, Word)) {
        let (clock, steps) = (self.clock(to), self.steps[to].len() as u64);
        let host = &mut self.hosts[to];
        match word {
            Word::Vote(term, reach) => {
                let granted = host.on_vote(node(from), term, reach, clock, steps);
                let term = if granted { term } else { host.durable.term };
                self.words.push((to, from, Word::Voted(term, granted)));
            }
            Word::Voted(term, granted) => host.on_voted(node(from), term, granted, steps),
            Word::Hold(term, reach, all, said) => {
                if !host.on_hold(node(from), term, clock) {
                    let term = host.durable.term;
                    self.words.push((to, from, Word::Held(term, 0, None)));
                    return;
                }
                if !host.fits(term, reach, steps) || all.len() < steps as usize {
                    // A word that was late says less than is known; else it is given the whole.
                    if host.durable.last != Some(term) {
                        self.steps[to] = all.clone();
                        host.is_whole(term);
                    }
                } else {
                    self.steps[to] = all.clone();
                }
                let has = Some(self.steps[to].len() as u64);
                self.words.push((to, from, Word::Held(term, said, has)));
            }
            Word::Held(term, said, has) => {
                host.on_held(node(from), term, said, has);
                self.counts(to);
            }
        }
    }

    fn crashes(&mut self, host: usize) {
        let names: Vec<NodeId> = (0..self.hosts.len()).map(node).collect();
        let durable = self.hosts[host].durable;
        self.hosts[host] = Lease::new((node(host), &names), 0, durable, self.clock(host));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn one_wakes_at_a_time_and_what_counts_stays(
        count in 2..6_usize,
        deeds in proptest::collection::vec((0..100_u8, any::<prop::sample::Index>()), 800..1_600),
    ) {
        let mut world = World::new(count);
        for (deed, which) in deeds {
            world.now += 40;
            match deed {
                0..=2 => world.crashes(which.index(count)),
                // A word is lost, or heard twice.
                3..=8 if !world.words.is_empty() => _ = world.words.remove(which.index(world.words.len())),
                9..=12 if !world.words.is_empty() => {
                    let word = world.words[which.index(world.words.len())].clone();
                    world.hears(word);
                }
                13..=70 if !world.words.is_empty() => {
                    let word = world.words.remove(which.index(world.words.len().min(8)));
                    world.hears(word);
                }
                _ => world.beats(which.index(count)),
            }
        }
        if std::env::var_os("SHOW").is_some() { eprintln!("{count} hosts: {} terms, {} count", world.failovers.len(), world.counted.len()); }
    }
}

#[test]
fn a_host_alone_holds_at_once_and_one_of_three_takes_over() {
    let mut alone = Lease::new((node(0), &[node(0)]), 0, Durable::default(), 7);
    assert_eq!(Some(Say::Hold(1)), alone.due(7, 0));
    assert!(alone.holds(1_000_000) && alone.counted(5, 0) == 5);

    let mut world = World::new(3);
    let run = |world: &mut World, until: u64, dead: Option<usize>| {
        while world.now < until {
            world.now += 10;
            for host in (0..3).filter(|host| Some(*host) != dead) {
                world.beats(host);
            }
            let words = std::mem::take(&mut world.words);
            for word in words {
                if Some(word.1) != dead && Some(word.0) != dead {
                    world.hears(word);
                }
            }
        }
    };
    run(&mut world, 2_000, None);
    assert!(
        world.hosts[0].holds(world.clock(0)),
        "the first holds it at the beginning"
    );
    let before = world.counted.len();
    assert!(before > 100);
    run(&mut world, 8_000, Some(0));
    assert!(world.hosts[1].holds(world.clock(1)), "the next takes over");
    assert!(world.counted.len() > before + 100);
    assert_eq!(2, world.failovers.len());
    run(&mut world, 12_000, None);
    assert!(!world.hosts[0].holds(world.clock(0)));
    assert!(
        world.steps[0].starts_with(&world.counted[..before]),
        "and the first has what counts"
    );
}

/// The first of three, which holds an agent whose steps two must attest.
fn holder() -> Lease {
    let names = [node(0), node(1), node(2)];
    let mut lease = Lease::new((node(0), &names), 2, Durable::default(), 0);
    assert_eq!(Some(Say::Vote(1)), lease.due(0, 0));
    lease.on_voted(node(1), 1, true, 0);
    assert_eq!(Some(Say::Hold(1)), lease.due(0, 0));
    lease
}

#[test]
fn who_was_given_the_whole_vouches_for_nothing_in_it() {
    let mut lease = holder();
    lease.on_held(node(1), 1, 0, None);
    lease.gives(&node(1), 7);
    lease.on_held(node(1), 1, 0, Some(9));
    assert_eq!(0, lease.counted(9, 0), "seven of them it did not take");
    let mut third = lease.clone();
    third.on_held(node(2), 1, 0, Some(5));
    assert_eq!(5, third.counted(9, 0), "the third vouches for five");
    third.on_held(node(2), 1, 0, Some(7));
    assert_eq!(7, third.counted(9, 0));
    assert_eq!(9, third.counted(9, 7), "and the rest it took itself");
    // There is nobody who could vouch for the seven: what two have is all that can be asked.
    lease.on_held(node(2), 1, 0, None);
    lease.gives(&node(2), 7);
    assert_eq!(9, lease.counted(9, 0));
    let mut plain = Lease {
        attests: false,
        ..holder()
    };
    plain.on_held(node(1), 1, 0, None);
    plain.gives(&node(1), 7);
    plain.on_held(node(1), 1, 0, Some(9));
    assert_eq!(
        9,
        plain.counted(9, 0),
        "where nobody attests, to have them is enough"
    );
}

#[test]
fn who_is_shunned_is_not_heard_and_who_shuns_itself_stands_by() {
    let mut lease = holder();
    lease.on_held(node(1), 1, 0, Some(4));
    assert!(lease.holds(100) && lease.counted(5, 0) == 4);
    lease.shuns(BTreeSet::from([node(1)]));
    assert_eq!(vec![node(2)], lease.others().collect::<Vec<_>>());
    assert!(!lease.holds(100), "it has not heard the third");
    lease.on_held(node(1), 9, 0, Some(5));
    assert_eq!((0, 1), (lease.counted(5, 0), lease.durable.term));
    lease.on_held(node(2), 1, 0, Some(5));
    assert!(lease.holds(100) && lease.counted(5, 0) == 5);

    let reach = |steps| Reach {
        last: Some(1),
        steps,
    };
    let mut other = Lease::new(
        (node(2), &[node(0), node(1), node(2)]),
        2,
        Durable::default(),
        0,
    );
    assert!(other.on_hold(node(0), 1, 0));
    other.shuns(BTreeSet::from([node(0)]));
    assert_eq!(None, other.holder());
    assert!(!other.on_hold(node(0), 2, 10) && !other.on_vote(node(0), 2, reach(9), 9_000, 0));
    assert!(
        !other.on_vote(node(1), 2, reach(9), 100, 0),
        "what it promised it keeps"
    );
    assert!(other.on_vote(node(1), 2, reach(9), 9_000, 0));

    lease.shuns(BTreeSet::from([node(0)]));
    assert!(!lease.holds(100) && lease.holder().is_none());
    assert_eq!(None, lease.due(1_000_000, 5));
    lease.shuns(BTreeSet::new());
    assert_eq!(
        Some(Say::Vote(2)),
        lease.due(1_000_000, 5),
        "until it is ordered anew"
    );
}

/// Who has nothing yet is told the steps from the first, in whatever term; who lost what it had, the whole.
#[test]
fn who_has_nothing_follows_any_holder_and_who_is_in_disorder_none() {
    let names = [node(0), node(1), node(2)];
    let chosen = Reach {
        last: Some(1),
        steps: 6,
    };
    let new = Lease::new((node(2), &names), 0, Durable::default(), 0);
    assert!(new.clone().fits(3, chosen, 0) && !new.clone().fits(3, chosen, 1));
    assert!(!new.clone().joining().fits(3, chosen, 0));
    let mut broken = new;
    broken.is_broken();
    let durable = minicbor::to_vec(broken.durable).expect("a vector takes it");
    let durable = minicbor::decode(&durable).expect("it was written so");
    let mut broken = Lease::new((node(2), &names), 0, durable, 0);
    assert!(!broken.fits(3, chosen, 0));
    assert_eq!(None, broken.due(1_000_000, 0), "and it cannot lead");
    broken.is_whole(3);
    assert!(broken.fits(3, chosen, 6) && broken.durable.broken.is_none());
    // As it was written before there was such a word.
    let old: Durable = minicbor::decode(&[0x83, 4, 0xf6, 2]).expect("it was good");
    assert_eq!((4, Some(2), None), (old.term, old.last, old.broken));
}

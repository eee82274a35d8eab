//! The lease: which of an agent's hosts wakes it.
//!
//! One at a time, by vote. A **term** begins when a host asks the others for their votes; whoever has a
//! majority **holds** the agent for as long as a majority hears of it. A host that was heard promises to
//! vote for nobody else for [`LEASE_MS`] of its own clock, and a holder counts its lease from before it
//! spoke, and a tenth shorter: so the old lease has ended before a new one can begin, though clocks drift
//! by some per cent. What was not acknowledged by a majority is done by nobody.
//!
//! After Ongaro & Ousterhout, "In Search of an Understandable Consensus Algorithm" (2014), with leader
//! leases (Ongaro 2014, §6.4.1). A pure state machine: time, in milliseconds since the machine was
//! booted, and what was heard are arguments. What [`Lease::durable`] says must be on disk before any
//! answer leaves.
//!
//! Not here: how words travel, what steps are (`host`).

use aquifer_protocol::NodeId;
use minicbor::{Decode, Encode};
use std::collections::BTreeMap;

/// For so long a host keeps its word, in milliseconds.
pub const LEASE_MS: u64 = 3_000;
/// A holder counts on so much of it.
const COUNTED_MS: u64 = LEASE_MS * 9 / 10;
/// How often a holder speaks.
pub const SPEAK_MS: u64 = 500;
/// How much longer each next host waits before it asks for votes.
const APART_MS: u64 = 600;
/// How long votes are waited for.
const VOTE_MS: u64 = 1_500;

/// What a host must not forget.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Encode, Decode)]
#[cbor(array)]
pub struct Durable {
    /// The latest term it has heard of.
    #[n(0)]
    pub term: u64,
    /// Whom it voted for in it.
    #[n(1)]
    pub voted: Option<NodeId>,
    /// Its steps are the first of those that the holder of this term had or took. None if they are in
    /// disorder: then it follows nobody until it is given the whole.
    #[n(2)]
    pub last: Option<u64>,
}

/// How far a host is: the later is newer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Encode, Decode)]
#[cbor(array)]
pub struct Reach {
    /// See [`Durable::last`].
    #[n(0)]
    pub last: Option<u64>,
    /// How many steps it has taken.
    #[n(1)]
    pub steps: u64,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Role {
    /// It stands by.
    Standing,
    /// It asks for votes, since then.
    Asking { since: u64, votes: Vec<NodeId> },
    /// It holds the agent.
    Holding(Held),
}

/// What a holder knows of the others.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Held {
    /// How far it was when it was chosen.
    from: Reach,
    spoke: Option<u64>,
    heard: BTreeMap<NodeId, Heard>,
}

/// What a holder last heard of another host.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Heard {
    /// When that was said which it answered to.
    said: u64,
    /// It has these steps, if its steps are the holder's.
    steps: Option<u64>,
}

/// One host's view.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Lease {
    me: NodeId,
    hosts: Vec<NodeId>,
    /// How many hosts must have a step before it counts, this one included.
    agree: usize,
    /// What must be on disk.
    pub durable: Durable,
    role: Role,
    /// Up to then it votes for nobody but the holder that it heard.
    promised: u64,
    /// Up to then it does not ask for votes itself.
    patient: u64,
    holder: Option<NodeId>,
}

/// What a host has to say now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Say {
    /// Ask all others for their votes in this term.
    Vote(u64),
    /// Tell all others that this is so, and what is new.
    Hold(u64),
}

impl Lease {
    /// A host that knows what `durable` says. It was started at `now`: it may have promised something
    /// before that, unless it never took part.
    pub fn new((me, hosts): (NodeId, &[NodeId]), agree: usize, durable: Durable, now: u64) -> Self {
        let rank = hosts.iter().position(|host| *host == me).unwrap_or(0) as u64;
        let fresh = durable == Durable::default();
        let promised = if fresh { now } else { now + LEASE_MS };
        Self {
            me,
            hosts: hosts.to_vec(),
            agree: agree.clamp(hosts.len() / 2 + 1, hosts.len().max(1)),
            durable,
            role: Role::Standing,
            promised,
            patient: promised + rank * APART_MS,
            holder: None,
        }
    }

    /// The others.
    pub fn others(&self) -> impl Iterator<Item = NodeId> {
        self.hosts.iter().copied().filter(|host| *host != self.me)
    }

    /// The host that holds the agent, as far as is known here.
    pub fn holder(&self) -> Option<NodeId> {
        match self.role {
            Role::Holding(_) => Some(self.me),
            _ => self.holder,
        }
    }

    /// Whether it may wake the agent now.
    pub fn holds(&self, now: u64) -> bool {
        let Role::Holding(held) = &self.role else {
            return false;
        };
        let mut said: Vec<u64> = held.heard.values().map(|heard| heard.said).collect();
        said.push(now);
        said.sort_unstable();
        let majority = self.hosts.len() / 2 + 1;
        let counted = said.len().checked_sub(majority).map(|place| said[place]);
        counted.is_some_and(|said| now < said + COUNTED_MS)
    }

    /// What it has to say now, if anything. If that is to ask for votes, `durable` has changed.
    pub fn due(&mut self, now: u64, steps: u64) -> Option<Say> {
        let term = self.durable.term;
        match &mut self.role {
            Role::Holding(held) => {
                let due = held.spoke.is_none_or(|spoke| now >= spoke + SPEAK_MS);
                due.then(|| {
                    held.spoke = Some(now);
                    Say::Hold(term)
                })
            }
            Role::Standing if now < self.patient => None,
            Role::Asking { since, .. } if now < *since + VOTE_MS => None,
            // Whoever is in disorder cannot lead.
            _ if self.durable.last.is_none() && steps > 0 => None,
            _ => {
                self.durable.term += 1;
                self.durable.voted = Some(self.me);
                self.holder = None;
                let votes = vec![self.me];
                self.role = Role::Asking { since: now, votes };
                self.counts(steps);
                match self.role {
                    Role::Holding(_) => self.due(now, steps),
                    _ => Some(Say::Vote(self.durable.term)),
                }
            }
        }
    }

    /// Somebody asks for a vote in `term`, being as far as `reach`. Whether it gets it; `durable` may have
    /// changed.
    pub fn on_vote(&mut self, from: NodeId, term: u64, reach: Reach, now: u64, steps: u64) -> bool {
        let promised = now < self.promised && self.holder != Some(from);
        let leads = self.holds(now);
        if term < self.durable.term || promised || leads || !self.hosts.contains(&from) {
            return false;
        }
        if term > self.durable.term {
            self.hears(term);
        }
        let free = self.durable.voted.is_none_or(|voted| voted == from);
        let grants = free && reach >= self.reach(steps) && !matches!(self.role, Role::Holding(_));
        if grants {
            self.durable.voted = Some(from);
            self.patient = now + LEASE_MS;
            self.role = Role::Standing;
        }
        grants
    }

    /// A vote came in.
    pub fn on_voted(&mut self, from: NodeId, term: u64, granted: bool, steps: u64) {
        if term > self.durable.term {
            return self.hears(term);
        }
        if let Role::Asking { votes, .. } = &mut self.role
            && term == self.durable.term
            && granted
            && !votes.contains(&from)
        {
            votes.push(from);
            self.counts(steps);
        }
    }

    fn counts(&mut self, steps: u64) {
        if let Role::Asking { votes, .. } = &self.role
            && votes.len() > self.hosts.len() / 2
        {
            let from = self.reach(steps);
            self.durable.last = Some(self.durable.term);
            self.role = Role::Holding(Held {
                from,
                spoke: None,
                heard: BTreeMap::new(),
            });
        }
    }

    /// A holder spoke. Whether it is to be followed; `durable` may have changed.
    pub fn on_hold(&mut self, from: NodeId, term: u64, now: u64) -> bool {
        if term < self.durable.term || !self.hosts.contains(&from) {
            return false;
        }
        if term > self.durable.term {
            self.hears(term);
        }
        if matches!(self.role, Role::Holding(_)) {
            // Two of one term cannot be; somebody lies.
            return false;
        }
        self.role = Role::Standing;
        self.holder = Some(from);
        let rank = self
            .hosts
            .iter()
            .position(|host| *host == self.me)
            .unwrap_or(0) as u64;
        self.promised = now + LEASE_MS;
        self.patient = self.promised + rank * APART_MS;
        true
    }

    /// Whether the holder of `term`, which was as far as `from` when it was chosen, may go on from this
    /// host's steps; then they are the first of its. `durable` may have changed.
    pub fn fits(&mut self, term: u64, from: Reach, steps: u64) -> bool {
        let here = self.durable.last;
        let same = here == Some(term);
        let before = here == from.last && steps <= from.steps && (here.is_some() || steps == 0);
        if before {
            self.durable.last = Some(term);
        }
        same || before
    }

    /// This host has all that the holder of `term` had when it sent it.
    pub fn is_whole(&mut self, term: u64) {
        self.durable.last = Some(term);
    }

    /// This host's steps may be in disorder, until [`Lease::is_whole`].
    pub fn is_broken(&mut self) {
        self.durable.last = None;
    }

    /// Another host answered to what was said at `said`: how many of the holder's steps it has, if its
    /// steps are the holder's at all.
    pub fn on_held(&mut self, from: NodeId, term: u64, said: u64, steps: Option<u64>) {
        if term > self.durable.term {
            return self.hears(term);
        }
        if let Role::Holding(held) = &mut self.role
            && term == self.durable.term
        {
            let known = held.heard.entry(from).or_insert(Heard { said, steps });
            known.said = known.said.max(said);
            known.steps = steps;
        }
    }

    /// How many of the holder's first steps count: so many hosts have them as must.
    pub fn counted(&self, steps: u64) -> u64 {
        let Role::Holding(held) = &self.role else {
            return 0;
        };
        let mut all: Vec<u64> = held
            .heard
            .values()
            .filter_map(|heard| heard.steps)
            .collect();
        all.push(steps);
        all.sort_unstable();
        let counted = all.len().checked_sub(self.agree).map(|place| all[place]);
        counted.unwrap_or(0).min(steps)
    }

    /// How far it was when it was chosen, if it holds the agent.
    pub fn chosen_at(&self) -> Option<Reach> {
        match &self.role {
            Role::Holding(held) => Some(held.from),
            _ => None,
        }
    }

    /// How far this host is, having taken so many steps.
    pub fn reach(&self, steps: u64) -> Reach {
        Reach {
            last: self.durable.last,
            steps,
        }
    }

    /// What another host was last heard to have.
    pub fn steps_of(&self, host: &NodeId) -> Option<u64> {
        match &self.role {
            Role::Holding(held) => held.heard.get(host)?.steps,
            _ => None,
        }
    }

    /// It gives up what it holds: it was found to be wrong.
    pub fn resigns(&mut self, now: u64) {
        self.role = Role::Standing;
        self.patient = now + 2 * LEASE_MS;
    }

    fn hears(&mut self, term: u64) {
        self.durable.term = term;
        self.durable.voted = None;
        self.role = Role::Standing;
    }
}

#[cfg(test)]
mod tests {
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
                let holders = (0..self.hosts.len())
                    .filter(|other| self.hosts[*other].holds(self.clock(*other)));
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
            let counted = self.hosts[host].counted(steps) as usize;
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
        assert!(alone.holds(1_000_000) && alone.counted(5) == 5);

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
}

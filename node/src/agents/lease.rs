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
//! Where steps are attested, a host that has one vouches for it: it has taken it again itself. Whoever was given
//! the whole of the agents has steps in it that it did not take, and vouches for none of those. Hosts that are
//! **shunned** signed for what is not so: what they say is not heard. A host that shuns itself stands by.
//!
//! Not here: how words travel, what steps are, who is shunned (`host`).

use aquifer_protocol::NodeId;
use minicbor::{Decode, Encode};
use std::collections::{BTreeMap, BTreeSet};

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
    /// Its steps are the first of those that the holder of this term had or took. None if it has had none, or
    /// they are in disorder: then it follows nobody until it is given the whole.
    #[n(2)]
    pub last: Option<u64>,
    /// Whether they are in disorder.
    #[n(3)]
    pub broken: Option<bool>,
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
    /// So many of them it was given, and did not take.
    given: u64,
}

/// One host's view.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Lease {
    me: NodeId,
    hosts: Vec<NodeId>,
    /// How many hosts must have a step before it counts, this one included.
    agree: usize,
    /// Whether it must have taken them itself.
    attests: bool,
    shunned: BTreeSet<NodeId>,
    /// What must be on disk.
    pub durable: Durable,
    role: Role,
    /// Up to then it votes for nobody but the holder that it heard.
    promised: u64,
    /// Up to then it does not ask for votes itself.
    patient: u64,
    holder: Option<NodeId>,
    /// It is new, and neither leads nor chooses who is new before it was given what the others have.
    joins: bool,
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
            attests: agree > 0,
            shunned: BTreeSet::new(),
            durable,
            role: Role::Standing,
            promised,
            patient: promised + rank * APART_MS,
            holder: None,
            joins: false,
        }
    }

    /// The same, of a host that is new among others which have hosted the agent before.
    #[must_use]
    pub fn joining(self) -> Self {
        Self {
            joins: true,
            ..self
        }
    }

    /// The others, but for those that are shunned.
    pub fn others(&self) -> impl Iterator<Item = NodeId> {
        let others = self.hosts.iter().copied();
        others.filter(|host| *host != self.me && !self.shunned.contains(host))
    }

    /// Shuns these hosts from now on, and no others. If this one is among them, it holds nothing any more.
    pub fn shuns(&mut self, shunned: BTreeSet<NodeId>) {
        self.shunned = shunned;
        if self.shunned.contains(&self.me) {
            self.role = Role::Standing;
        }
        self.holder = self.holder.filter(|host| !self.shunned.contains(host));
        if let Role::Holding(held) = &mut self.role {
            held.heard.retain(|host, _| !self.shunned.contains(host));
        }
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
        let (term, is_new) = (self.durable.term, self.is_new(steps));
        match &mut self.role {
            Role::Holding(held) => {
                let due = held.spoke.is_none_or(|spoke| now >= spoke + SPEAK_MS);
                due.then(|| {
                    held.spoke = Some(now);
                    Say::Hold(term)
                })
            }
            Role::Standing if now < self.patient || self.shunned.contains(&self.me) => None,
            Role::Asking { since, .. } if now < *since + VOTE_MS => None,
            // Whoever is in disorder cannot lead.
            _ if self.durable.last.is_none() && !is_new => None,
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
        if term < self.durable.term || promised || leads || !self.hears_of(&from) {
            return false;
        }
        if term > self.durable.term {
            self.hears(term);
        }
        let free = self.durable.voted.is_none_or(|voted| voted == from);
        let old = !self.joins || reach.last.is_some();
        let grants =
            free && old && reach >= self.reach(steps) && !matches!(self.role, Role::Holding(_));
        if grants {
            self.durable.voted = Some(from);
            self.patient = now + LEASE_MS;
            self.role = Role::Standing;
        }
        grants
    }

    /// A vote came in.
    pub fn on_voted(&mut self, from: NodeId, term: u64, granted: bool, steps: u64) {
        if !self.hears_of(&from) {
            return;
        }
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
        if term < self.durable.term || !self.hears_of(&from) {
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
        let before = here.is_some() && here == from.last && steps <= from.steps;
        // No steps at all are the first of any.
        let new = here.is_none() && self.is_new(steps);
        if before || new {
            self.durable.last = Some(term);
        }
        same || before || new
    }

    /// This host has all that the holder of `term` had when it sent it.
    pub fn is_whole(&mut self, term: u64) {
        self.durable.last = Some(term);
        self.durable.broken = None;
    }

    /// This host's steps may be in disorder, until [`Lease::is_whole`].
    pub fn is_broken(&mut self) {
        self.durable.last = None;
        self.durable.broken = Some(true);
    }

    /// Another host answered to what was said at `said`: how many of the holder's steps it has, if its
    /// steps are the holder's at all.
    pub fn on_held(&mut self, from: NodeId, term: u64, said: u64, steps: Option<u64>) {
        if !self.hears_of(&from) {
            return;
        }
        if term > self.durable.term {
            return self.hears(term);
        }
        if let Role::Holding(held) = &mut self.role
            && term == self.durable.term
        {
            let given = 0;
            let known = held
                .heard
                .entry(from)
                .or_insert(Heard { said, steps, given });
            known.said = known.said.max(said);
            known.steps = steps;
        }
    }

    /// Another host is given the whole, of so many steps.
    pub fn gives(&mut self, to: &NodeId, steps: u64) {
        if let Role::Holding(held) = &mut self.role
            && let Some(heard) = held.heard.get_mut(to)
        {
            heard.given = steps;
        }
    }

    /// How many of the holder's first steps count, of which `done` have counted before: so many hosts have
    /// them as must, and vouch for them. If every other was given those that have not counted, there is none
    /// left that could, and to have them is enough.
    pub fn counted(&self, steps: u64, done: u64) -> u64 {
        let Role::Holding(held) = &self.role else {
            return 0;
        };
        let vouches = |heard: &Heard| !self.attests || heard.given <= done;
        let was_given = |host| held.heard.get(&host).is_some_and(|heard| !vouches(heard));
        let none_left = self.others().all(was_given);
        let mut all: Vec<u64> = held
            .heard
            .values()
            .filter(|heard| none_left || vouches(heard))
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

    /// What another host said that it has of the holder's steps, if it has said anything.
    pub fn heard_of(&self, host: &NodeId) -> Option<Option<u64>> {
        match &self.role {
            Role::Holding(held) => Some(held.heard.get(host)?.steps),
            _ => None,
        }
    }

    /// Whether its hosts are these.
    pub fn is_among(&self, hosts: &[NodeId]) -> bool {
        self.hosts == hosts
    }

    /// Whether a host that has followed nobody, and has so many steps, has none because there were none.
    fn is_new(&self, steps: u64) -> bool {
        steps == 0 && !self.joins && self.durable.broken.is_none()
    }

    /// Whether it hears what this host says.
    fn hears_of(&self, host: &NodeId) -> bool {
        self.hosts.contains(host) && !self.shunned.contains(host)
    }

    fn hears(&mut self, term: u64) {
        self.durable.term = term;
        self.durable.voted = None;
        self.role = Role::Standing;
    }
}

#[cfg(test)]
mod tests;

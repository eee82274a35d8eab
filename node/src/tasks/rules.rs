//! Rules: who runs a task when, and which outcome counts.
//!
//! A task and all that was said of it are a set of **facts**, each at a place that all nodes agree on: its
//! writer's hybrid clock, then its record's id. What follows is a pure function of that set and of the time,
//! so nodes that have heard the same come to the same, in whatever order they heard it.
//!
//! A node **claims** a task for a while and says so again as long as it runs it, each time for as long as it
//! has run already (so that a long job costs few notes, and its loss is noticed in as much time again). The
//! first claim while there is no other begins a **term**. When a term is over and nothing came of it,
//! another may begin, by the node whose turn it is: those that may and can run the task stand in the order
//! of a hash, and each waits a little longer than the one before. Of several outcomes the first counts; it
//! must come from a node that had claimed the task, and before that claim was long over.
//!
//! A task may so be run twice, when claims cross or a claimant was only slow. It ends once.
//!
//! Not here: what notes look like (`note`), how jobs are run and claims written (`keeper`).

use aquifer_protocol::identity::digest;
use aquifer_protocol::{AgentId, NodeId, RecordId, Stamp, TopicId, placement};
use std::collections::BTreeMap;

/// How long the first claim of a term is good, in milliseconds.
pub const LEASE_MS: u64 = 10_000;
/// How much longer each next node waits before it claims a task.
pub const APART_MS: u64 = 1_000;
/// What could have been claimed for so long waits long.
const LONG_MS: u64 = 10 * APART_MS;
/// An outcome counts if it is no later than this after the claim.
pub const LATE_MS: u64 = LEASE_MS;
/// How much longer than the job's own time a term may last: to shut it in, and to say what came of it.
pub const SLACK_MS: u64 = 60_000;
/// After so many claims that came to nothing a task is given up.
pub const ATTEMPTS_MAX: usize = 3;
/// Most facts that are kept of one task: the first ones.
pub const FACTS_MAX: usize = 256;

/// The place of a fact among all of its task.
pub type At = (Stamp, RecordId);

/// What is asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Asked {
    /// The topic.
    pub topic: TopicId,
    /// The node that wrote it.
    pub writer: NodeId,
    /// For whom.
    pub author: AgentId,
    /// Whether it is an agent who asks.
    pub by_agent: bool,
    /// When.
    pub at: Stamp,
    /// The job's hash.
    pub job: [u8; 32],
    /// How long the job may last, in milliseconds.
    pub wall_ms: u64,
    /// What the node that runs it must have.
    pub needs: placement::Needs,
}

/// One thing that was said of a task.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fact {
    /// The writer runs it.
    Claimed {
        /// Until then, in milliseconds since 1970.
        until: u64,
    },
    /// The writer does not run it any more.
    Left {
        /// Whether it may try again.
        again: bool,
        /// Why.
        why: String,
    },
    /// What came of it.
    Ended {
        /// The hash of the job that was run; none if it could not be.
        job: Option<[u8; 32]>,
    },
    /// It is not wanted any more.
    Cancelled,
}

/// A task as a set of facts. Facts of it may be heard before it is.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Task {
    /// What is asked for, once that is heard.
    pub asked: Option<Asked>,
    facts: BTreeMap<At, (NodeId, Fact)>,
}

/// A time in which a task was one node's.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Term {
    /// Whose.
    pub by: NodeId,
    /// From when, in milliseconds since 1970, as all times here.
    pub from: u64,
    /// When it was last said.
    pub said: u64,
    /// Until when.
    pub until: u64,
    /// Why the node left the task before that, and whether it may try again.
    pub left: Option<(bool, String)>,
}

/// How a task stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Standing {
    /// Nobody runs it.
    Waiting,
    /// A node runs it, as far as is known.
    Running(Term),
    /// It has ended: by which fact, of which node.
    Ended(At, NodeId, Fact),
    /// So often claimed in vain that nobody tries any more.
    GivenUp,
}

/// A job that runs here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mine {
    /// The record of its first claim.
    pub claim: RecordId,
}

/// In which order a node takes tasks that it may claim: what waits long first, then what is its own turn,
/// then what others have left. Where the turn of several nodes has come, each goes by an order of its own:
/// if all took the oldest, their claims would cross.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Order(u8, u64);

/// What a node is to do about a task.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Act {
    /// Nothing; at this time there may be something.
    Rest(Option<u64>),
    /// Claim it until then, and run it; before others that may be claimed, if there are, by this order.
    Claim(u64, Order),
    /// Claim it until then and go on running it.
    Renew(u64),
    /// Say that it was left: this node claimed it and does not run it, for it was started anew.
    Leave,
    /// Stop running it and say nothing: another has it, or it has ended.
    Drop,
}

impl Term {
    /// Whether the task is its node's at that time.
    pub fn holds(&self, now: u64) -> bool {
        self.left.is_none() && now <= self.until
    }

    /// Whether it is over and came to nothing, and counts as an attempt.
    fn is_lost(&self, now: u64) -> bool {
        match &self.left {
            Some((again, _)) => *again,
            None => now > self.until,
        }
    }

    /// Until when a claim that was written at `at` makes it last. A claim is believed for no longer than a
    /// node that keeps the rules would say.
    fn last(&self, at: u64, until: u64, wall_ms: u64) -> u64 {
        let most = (at + LEASE_MS.max(at.saturating_sub(self.from)))
            .min(self.from.saturating_add(wall_ms).saturating_add(SLACK_MS));
        self.until.max(until.min(most))
    }
}

impl Task {
    /// Takes a fact in. Whether it is news.
    pub fn join(&mut self, at: At, by: NodeId, fact: Fact) -> bool {
        if self.facts.contains_key(&at) {
            return false;
        }
        self.facts.insert(at, (by, fact));
        if self.facts.len() > FACTS_MAX {
            return self.facts.pop_last().is_some_and(|(last, _)| last != at);
        }
        true
    }

    /// All that was said, in order.
    pub fn facts(&self) -> impl Iterator<Item = (&At, &NodeId, &Fact)> {
        self.facts.iter().map(|(at, (by, fact))| (at, by, fact))
    }

    /// Whether this record's fact is known.
    fn has(&self, record: &RecordId) -> bool {
        self.facts.keys().any(|(_, id)| id == record)
    }

    /// The fact that ends it, if one does: the first that counts.
    pub fn end(&self) -> Option<(At, NodeId, &Fact)> {
        let asked = self.asked.as_ref()?;
        let counts = |at: &At, by: &NodeId, fact: &Fact| match fact {
            Fact::Cancelled => *by == asked.writer,
            Fact::Ended { job } => {
                job.is_none_or(|job| job == asked.job) && self.had_claimed(at, by)
            }
            Fact::Claimed { .. } | Fact::Left { .. } => false,
        };
        let found = self.facts().find(|(at, by, fact)| counts(at, by, fact));
        found.map(|(at, by, fact)| (*at, *by, fact))
    }

    /// Whether `by` had claimed the task then, whoever else had.
    fn had_claimed(&self, at: &At, by: &NodeId) -> bool {
        let own = self.facts().filter(|(of, node, _)| *of < at && *node == by);
        let now = at.0.time().millis();
        self.fold(own)
            .last()
            .is_some_and(|term| term.left.is_none() && now <= term.until.saturating_add(LATE_MS))
    }

    /// Its terms, in order. Only the last can hold.
    pub fn terms(&self) -> Vec<Term> {
        self.fold(self.facts())
    }

    fn fold<'a>(&self, facts: impl Iterator<Item = (&'a At, &'a NodeId, &'a Fact)>) -> Vec<Term> {
        let wall_ms = self.asked.as_ref().map_or(0, |asked| asked.wall_ms);
        let mut terms: Vec<Term> = Vec::new();
        for ((stamp, _), by, fact) in facts {
            let at = stamp.time().millis();
            let held = terms.last_mut().filter(|term| term.holds(at));
            match (fact, held) {
                (Fact::Claimed { until }, Some(term)) if term.by == *by => {
                    term.until = term.last(at, *until, wall_ms);
                    term.said = at;
                }
                (Fact::Claimed { until }, None) => {
                    let mut term = Term {
                        by: *by,
                        from: at,
                        said: at,
                        until: at,
                        left: None,
                    };
                    term.until = term.last(at, *until, wall_ms);
                    terms.push(term);
                }
                (Fact::Left { again, why }, Some(term)) if term.by == *by => {
                    term.until = at;
                    term.left = Some((*again, why.clone()));
                }
                _ => {}
            }
        }
        terms
    }

    /// Whether this node has said that it cannot run it.
    pub fn declined(&self, node: &NodeId) -> bool {
        self.facts()
            .any(|(_, by, fact)| by == node && matches!(fact, Fact::Left { again: false, .. }))
    }

    /// How it stands.
    pub fn standing(&self, now: u64) -> Standing {
        if let Some((at, by, fact)) = self.end() {
            return Standing::Ended(at, by, fact.clone());
        }
        let terms = self.terms();
        match terms.last() {
            Some(term) if term.holds(now) => Standing::Running(term.clone()),
            Some(term) if lost(&terms, now) >= ATTEMPTS_MAX && now > term.until + LATE_MS => {
                Standing::GivenUp
            }
            _ => Standing::Waiting,
        }
    }

    /// What `me` is to do about the task called `id`, of which `able` may and can run it, and which `me`
    /// runs or not.
    pub fn next(
        &self,
        id: &RecordId,
        me: &NodeId,
        able: &[NodeId],
        now: u64,
        mine: Option<Mine>,
    ) -> Act {
        let Some(asked) = &self.asked else {
            return Act::Rest(None);
        };
        let running = mine.is_some();
        if self.end().is_some() {
            return if running { Act::Drop } else { Act::Rest(None) };
        }
        let terms = self.terms();
        let last = terms.last();
        let in_vain = lost(&terms, now) >= ATTEMPTS_MAX;
        if let Some(mine) = mine {
            return match last {
                // What this node says reaches it as what others say does.
                _ if !self.has(&mine.claim) => Act::Rest(Some(now + APART_MS)),
                Some(term) if term.holds(now) && term.by == *me => goes_on(term, asked, now),
                Some(term) if term.holds(now) => Act::Drop,
                _ if in_vain => Act::Drop,
                _ => Act::Renew(now + LEASE_MS),
            };
        }
        match last {
            Some(term) if term.holds(now) && term.by == *me => Act::Leave,
            Some(term) if term.holds(now) => Act::Rest(Some(term.until + 1)),
            _ if in_vain => Act::Rest(None),
            _ => self.turn(id, me, able, now, &terms),
        }
    }

    /// Whether it is the turn of `me` to claim it.
    fn turn(&self, id: &RecordId, me: &NodeId, able: &[NodeId], now: u64, terms: &[Term]) -> Act {
        let tried = |node: &NodeId| terms.iter().any(|term| term.by == *node);
        let rank = |node: &NodeId| {
            let weight = digest("aquifer/task-place/1", &[id.as_bytes(), node.as_bytes()]);
            (tried(node), weight)
        };
        // Where all have left it for good, one after the other tries again until one says so for all: when
        // their claims crossed, each left it to the others.
        let nobody = able.iter().all(|node| self.declined(node));
        let out = |node: &NodeId| self.declined(node) && !nobody;
        if out(me) || !able.contains(me) {
            return Act::Rest(None);
        }
        let own = rank(me);
        let before = able.iter().filter(|node| !out(node));
        let before = before.filter(|node| rank(node) < own).count() as u64;
        let asked = self
            .asked
            .as_ref()
            .map_or(0, |asked| asked.at.time().millis());
        let free = terms.last().map_or(asked, |term| term.until + APART_MS);
        match free.saturating_add(before * APART_MS) {
            due if due <= now => {
                let own = digest("aquifer/task-order/1", &[me.as_bytes(), id.as_bytes()]);
                let own = u64::from_be_bytes(*own.first_chunk().expect("a hash has 32 bytes"));
                let order = match before {
                    _ if now >= free + LONG_MS => Order(0, own),
                    0 => Order(1, free),
                    _ => Order(2, own),
                };
                Act::Claim(now + LEASE_MS, order)
            }
            due => Act::Rest(Some(due)),
        }
    }

    /// Whether an outcome that `by` says now would count as far as is known.
    pub fn may_end(&self, by: &NodeId, now: u64) -> bool {
        let at = (
            Stamp::at(aquifer_protocol::Time::from_millis(now + 1)),
            RecordId([0xff; 32]),
        );
        self.asked.is_some() && self.end().is_none() && self.had_claimed(&at, by)
    }
}

fn goes_on(term: &Term, asked: &Asked, now: u64) -> Act {
    let due = term.said + (term.until - term.said) / 2;
    if now < due {
        return Act::Rest(Some(due));
    }
    let until = now + LEASE_MS.max(now.saturating_sub(term.from));
    match term.last(now, until, asked.wall_ms) {
        // It may not be longer: the runner has stopped the job by then.
        last if last <= term.until => Act::Rest(Some(term.until + 1)),
        last => Act::Renew(last),
    }
}

fn lost(terms: &[Term], now: u64) -> usize {
    terms.iter().filter(|term| term.is_lost(now)).count()
}

#[cfg(test)]
mod tests;

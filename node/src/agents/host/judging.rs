//! Judging: whether hosts signed for what is so.
//!
//! Where hosts attest each other's steps, each takes them again, on an engine of its own. What comes to
//! something else is told to all in a note, with both entries, so that every node can judge for itself: it
//! takes them again too, and whoever signed for what is not so is in **quarantine** there. Hosts that find
//! the same testify, each once. A host that is told so by as many others as must agree doubts itself.
//!
//! A quarantine lasts until the publisher orders anew: then that is its word on who hosts the agent.
//!
//! Not here: what follows for the company (`lease`), what becomes of a step that is good (`following`).

use super::standing::Standing;
use super::{Here, Host};
use crate::agents::company::Sent;
use crate::agents::note::Note;
use crate::agents::roster::Name;
use aquifer_protocol::NodeId;
use aquifer_wasm::ledger::{Entry, Wrong};
use aquifer_wasm::receipt::Receipt;
use aquifer_wasm::wake::Step;
use std::collections::BTreeSet;

/// Why this node does not vouch for a step that another host signed for.
pub(super) enum Withheld {
    /// It is of a kind that does not live here yet.
    Later,
    /// It comes to something else, or is no step of this agent.
    No,
}

impl Standing {
    /// Hosts that are in quarantine under an order that was given at `since`. Whoever doubts itself accuses
    /// nobody else.
    pub(super) fn shunned(&self, name: &Name, since: u64, me: NodeId) -> BTreeSet<NodeId> {
        let all = self.quarantined.get(name).into_iter().flatten();
        let since = all.filter(|(_, at)| **at >= since);
        let shunned: BTreeSet<NodeId> = since.map(|(node, _)| *node).collect();
        match shunned.contains(&me) {
            true => BTreeSet::from([me]),
            false => shunned,
        }
    }

    /// Keeps out of an agent's company whoever is in quarantine.
    pub(super) fn shuns(&mut self, name: &Name, since: u64, me: NodeId) {
        let shunned = self.shunned(name, since, me);
        if let Some(company) = self.companies.get_mut(name) {
            company.lease.shuns(shunned);
            if company.lease.chosen_at().is_none() {
                company.forgets();
            }
        }
    }
}

impl Host {
    /// A step that another host signed for is taken again. If it comes to something else, all are told.
    pub(super) fn attests(
        &mut self,
        name: &Name,
        here: &Here,
        from: NodeId,
        sent: &Sent,
    ) -> Result<Step, Withheld> {
        let Some(entry) = Entry::read_of(&sent.step, &here.kind) else {
            return Err(Withheld::Later);
        };
        let agent = here.kind.granted().agent(sent.copy);
        if entry.proof.node != from.0 || entry.step.agent != agent {
            return Err(Withheld::No);
        }
        let Err(wrong) = self.checker.check(&entry) else {
            return Ok(entry.step);
        };
        if !wrong.is_proof() {
            tracing::warn!(target: "aquifer::agents", agent = %name.1, %wrong, "a host's step cannot be attested");
            return Err(Withheld::No);
        }
        let own = self.checker.again(&entry).ok();
        let again = own.as_ref().map(|step| Receipt::of(step, here.kind.hash()));
        if again == Some(entry.receipt) {
            tracing::warn!(target: "aquifer::agents", agent = %name.1, %wrong, "a step came to something else once, and not again: this machine may be failing");
            self.memory.parts().observed.count("agent_doubts", "");
            return Ok(entry.step);
        }
        let now = self.now();
        self.accuses(name, &entry, own, (&wrong, now));
        Err(Withheld::No)
    }

    /// Judges a dispute that was not judged here before. Whether there may be more.
    pub(super) fn judges(&mut self) -> bool {
        let judged = &self.standing.judged;
        let next = self.roster.disputed().find_map(|(name, disputes)| {
            let place = judged.get(name).copied().unwrap_or(0);
            Some((name.clone(), disputes.get(place)?.clone()))
        });
        let Some((name, dispute)) = next else {
            return false;
        };
        *self.standing.judged.entry(name.clone()).or_default() += 1;
        for entry in std::iter::once(&dispute.theirs).chain(&dispute.ours) {
            if let Err(wrong) = self.checker.check(entry)
                && wrong.is_proof()
            {
                let own = self.checker.again(entry).ok();
                self.accuses(&name, entry, own, (&wrong, dispute.at));
            }
        }
        if let Some(placed) = self.roster.order_of(&name) {
            let attest = placed.signed.granted.manifest.attest;
            let (hosts, agree) = (
                &placed.signed.order.hosts,
                attest.map(|attest| attest.agree),
            );
            let agree = agree.map_or(usize::MAX, usize::from);
            if let Some(at) = self.roster.is_outvoted(&name, &self.me, (hosts, agree)) {
                self.quarantines(&name, self.me, at);
            }
        }
        true
    }

    /// A node signed for what is not so, as it was told at `at`: it is in quarantine, and this node testifies
    /// if it hosts the agent too and has not said yet what that step comes to here.
    fn accuses(
        &mut self,
        name: &Name,
        entry: &Entry,
        own: Option<Step>,
        (wrong, at): (&Wrong, u64),
    ) {
        let node = NodeId(entry.proof.node);
        let since = self.roster.order_of(name).map_or(0, |placed| placed.since);
        let known = self.standing.quarantined.get(name);
        let known = known.and_then(|known| known.get(&node));
        let is_new = at >= since && known.is_none_or(|known| *known < since);
        self.quarantines(name, node, at);
        if !is_new {
            return;
        }
        tracing::warn!(target: "aquifer::agents", agent = %name.1, node = %crate::names::node(&node), %wrong, "a host is in quarantine: it signed for a step that is not so");
        self.memory.parts().observed.count("agent_quarantines", "");
        let testifies = node != self.me && !self.roster.has_testified(name, &self.me, entry);
        let here = self.families.get(name).filter(|_| testifies);
        if let Some(here) = here {
            let ours = own.map(|step| self.ledger.testify(&entry.kind, step));
            let note = Note::Disputed {
                theirs: entry.to_bytes().into(),
                ours: ours.map(|entry| entry.to_bytes().into()),
                what: wrong.to_string(),
            };
            self.outbox.push((here.doer.home.clone(), note));
        }
    }

    fn quarantines(&mut self, name: &Name, node: NodeId, at: u64) {
        let known = self.standing.quarantined.entry(name.clone()).or_default();
        let last = known.entry(node).or_default();
        *last = at.max(*last);
        if let Some(placed) = self.roster.order_of(name) {
            self.standing.shuns(name, placed.since, self.me);
        }
    }
}

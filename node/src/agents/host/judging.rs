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
use crate::agents::roster::{Dispute, Name};
use aquifer_protocol::NodeId;
use aquifer_protocol::limits::BODY_BYTES_MAX;
use aquifer_wasm::ledger::{Entry, Wrong};
use aquifer_wasm::receipt::Receipt;
use aquifer_wasm::wake::Step;
use std::collections::BTreeSet;

/// More bytes than a body has around a note.
const ROOM: usize = 16;

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
    /// The agents for which this node is in quarantine in its own eyes.
    pub(crate) fn doubts_itself(&self) -> Vec<String> {
        let told = self.standing.quarantined.iter();
        let own = told.filter(|(_, nodes)| nodes.contains_key(&self.me));
        let own = own.filter(|(name, _)| self.quarantined(name).contains(&self.me));
        own.map(|(name, _)| name.1.clone()).collect()
    }

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
        let Some((wrong, own)) = self.examines(name, &entry) else {
            return Ok(entry.step);
        };
        match wrong.is_proof() {
            true => self.accuses(name, &entry, own, (&wrong, self.now())),
            false => {
                tracing::warn!(target: "aquifer::agents", agent = %name.1, %wrong, "a host's step cannot be attested");
            }
        }
        Err(Withheld::No)
    }

    /// Takes a step again, and once more if it comes to something else: what is wrong with it, and what it
    /// comes to here.
    fn examines(&mut self, name: &Name, entry: &Entry) -> Option<(Wrong, Option<Step>)> {
        let wrong = self.checker.check(entry).err()?;
        if !wrong.is_proof() {
            return Some((wrong, None));
        }
        let own = self.checker.again(entry).ok();
        let again = own.as_ref();
        let again = again.map(|step| Receipt::of(step, entry.kind.hash()));
        if again != Some(entry.receipt) {
            return Some((wrong, own));
        }
        tracing::warn!(target: "aquifer::agents", agent = %name.1, %wrong, "a step came to something else once, and not again: this machine may be failing");
        self.memory.parts().observed.count("agent_doubts", "");
        None
    }

    /// Judges a dispute that was not judged here before. Whether there may be more.
    pub(super) fn judges(&mut self) -> bool {
        if !self.standing.disputed {
            return false;
        }
        let judged = &self.standing.judged;
        let next = self.roster.disputed().find_map(|(name, disputes)| {
            let judged = judged.get(name);
            let fresh = |one: &&Dispute| !judged.is_some_and(|all| all.contains(&one.id()));
            Some((name.clone(), disputes.iter().find(fresh)?.clone()))
        });
        let Some((name, dispute)) = next else {
            self.standing.disputed = false;
            return false;
        };
        let known: BTreeSet<_> = self
            .roster
            .disputes(&name)
            .iter()
            .map(Dispute::id)
            .collect();
        let judged = self.standing.judged.entry(name.clone()).or_default();
        judged.retain(|one| known.contains(one));
        judged.insert(dispute.id());
        let Some(placed) = self.roster.order_of(&name) else {
            return true;
        };
        let order = &placed.signed.order;
        let (hosts, all) = (order.hosts.clone(), order.company(false));
        let attest = placed.signed.granted.manifest.attest;
        for entry in std::iter::once(&dispute.theirs).chain(&dispute.ours) {
            // Of whoever is no host, or is in quarantine already, nothing follows.
            let node = NodeId(entry.proof.node);
            if all.contains(&node)
                && !self.quarantined(&name).contains(&node)
                && let Some((wrong, own)) = self.examines(&name, entry)
                && wrong.is_proof()
            {
                self.accuses(&name, entry, own, (&wrong, dispute.at));
            }
        }
        let agree = attest.map_or(usize::MAX, |attest| attest.agree.into());
        if let Some(at) = self.roster.is_outvoted(&name, &self.me, (&hosts, agree)) {
            self.quarantines(&name, self.me, at);
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
            // The module is a note of the topic. If even so a record has no room, who signed for what is told.
            let told = |ours: Option<&Entry>| Note::Disputed {
                theirs: entry.to_bytes_bare().into(),
                ours: ours.map(|entry| entry.to_bytes_bare().into()),
                what: wrong.to_string(),
            };
            let fits = |note: &Note| note.to_bytes().len() + ROOM <= BODY_BYTES_MAX;
            let note = Some(told(ours.as_ref())).filter(fits);
            match note.or_else(|| Some(told(None)).filter(fits)) {
                Some(note) => self.outbox.push((here.doer.home.clone(), note)),
                None => {
                    tracing::warn!(target: "aquifer::agents", agent = %name.1, "the disputed step is too long for a record: it is told to nobody");
                }
            }
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

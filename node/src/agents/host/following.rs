//! Following: what this node does with the steps that another host took.
//!
//! It takes them too; where others are to attest, it takes them by itself first, on another engine, and
//! signs for what they came to. What does not come to the same is told to all, with both receipts.

use super::{Here, Host};
use crate::agents::company::{Reply, Said, Says, Sent, Word};
use crate::agents::note::Note;
use crate::agents::roster::Name;
use crate::ask::Part;
use crate::clock;
use aquifer_protocol::NodeId;
use aquifer_wasm::engine::interpreter::Interpreter;
use aquifer_wasm::ledger::{Checker, Entry, Wrong};
use aquifer_wasm::wake::Step;

impl Host {
    /// What another host says. The answer, as it travels.
    pub(crate) fn hears(&mut self, from: NodeId, part: Part) -> Vec<u8> {
        let Some(bytes) = self.standing.parts.join(from, &part) else {
            return Vec::new();
        };
        let said = Word::read(&bytes).and_then(|word| self.answers(from, word));
        said.map_or_else(Vec::new, |said| {
            minicbor::to_vec(said).expect("a vector takes any encoding")
        })
    }

    fn answers(&mut self, from: NodeId, word: Word) -> Option<Said> {
        let name = word.name();
        if !self.may_host(&name, &from) {
            return None;
        }
        let (now, here) = (clock::boot_ms(), self.families.get(&name)?.clone());
        let steps = self.sleepers.taken(here.first).ok()?;
        let company = self.standing.companies.get_mut(&name)?;
        let quarantined = self.standing.quarantined.get(&name);
        if quarantined.is_some_and(|nodes| nodes.contains(&from)) {
            return None;
        }
        let says = match word.says {
            Says::Vote(reach) => {
                let granted = company.lease.on_vote(from, word.term, reach, now, steps);
                Reply::Voted(granted)
            }
            Says::Hold {
                from: chosen,
                before,
                steps: sent,
                done,
                whole,
            } => {
                let held = company.lease.chosen_at().is_some();
                if !company.lease.on_hold(from, word.term, now) {
                    let term = company.lease.durable.term;
                    self.standing.keeps(&self.memory).ok()?;
                    return Some(Said {
                        term,
                        says: Reply::Has(None),
                    });
                }
                if held {
                    company.forgets();
                }
                let has = match whole {
                    Some(whole) => self.takes_whole(&name, &here, word.term, &whole),
                    None if company.lease.fits(word.term, chosen, steps) => {
                        self.takes_steps(&name, &here, (from, before), &sent)
                    }
                    None => None,
                };
                self.done_with(&name, done, has)?;
                Reply::Has(has)
            }
        };
        self.sleepers.sync().ok()?;
        self.standing.keeps(&self.memory).ok()?;
        let term = self.standing.companies.get(&name)?.lease.durable.term;
        Some(Said { term, says })
    }

    /// Takes the whole of the agents. Until all of it is durable, they are in disorder, and said to be.
    fn takes_whole(&mut self, name: &Name, here: &Here, term: u64, whole: &[u8]) -> Option<u64> {
        self.standing.companies.get_mut(name)?.lease.is_broken();
        self.standing.keeps(&self.memory).ok()?;
        if let Err(why) = self.sleepers.restore(here.first, whole) {
            tracing::warn!(target: "aquifer::agents", agent = %name.1, %why, "the whole of an agent was refused");
            return None;
        }
        self.sleepers.sync().ok()?;
        let company = self.standing.companies.get_mut(name)?;
        company.lease.is_whole(term);
        company.undone.clear();
        self.sleepers.taken(here.first).ok()
    }

    /// Takes steps that were taken elsewhere. How many there are then; none if they do not follow.
    fn takes_steps(
        &mut self,
        name: &Name,
        here: &Here,
        (from, before): (NodeId, u64),
        sent: &[Sent],
    ) -> Option<u64> {
        let taken = self.sleepers.taken(here.first).ok()?;
        let known = taken.checked_sub(before);
        // Steps between are missing: how many there are here says from where to send.
        let Some(known) = known else {
            return Some(taken);
        };
        for (place, one) in (before..).zip(sent).skip(known as usize) {
            if one.copy >= here.agents {
                return None;
            }
            let step = match here.kind.granted().manifest.attest {
                None => Step::read(&one.step)?,
                Some(_) => self.attests(name, here, from, &one.step)?,
            };
            let agent = here.first + one.copy;
            if let Err(why) = self.sleepers.follow(agent, one.input.into(), &step) {
                tracing::warn!(target: "aquifer::agents", agent = %name.1, %why, "a step does not follow");
                self.standing.companies.get_mut(name)?.lease.is_broken();
                return None;
            }
            let company = self.standing.companies.get_mut(name)?;
            company
                .undone
                .push_back((place + 1, agent, step.seq as u32));
        }
        self.sleepers.taken(here.first).ok()
    }

    /// A step that another host signed for comes to the same here: then this node signs for it too. None if
    /// it does not, and all are told.
    fn attests(&mut self, name: &Name, here: &Here, from: NodeId, bytes: &[u8]) -> Option<Step> {
        let entry = Entry::read(bytes).filter(|entry| entry.proof.node == from.0)?;
        let engine = Interpreter::new();
        let mut checker = Checker::new(&engine);
        let wrong = checker.check(&entry).err();
        let own = match &wrong {
            None => Some(entry.step.clone()),
            Some(Wrong::Load(_)) => return None,
            Some(_) => checker.again(&entry).ok(),
        };
        if let Some(step) = &own {
            let steps = [(here.kind.clone(), step.clone())];
            self.ledger
                .append(&steps)
                .and_then(|()| self.ledger.sync())
                .ok()?;
        }
        let Some(wrong) = wrong else { return own };
        let ours = own.and_then(|step| {
            let last = self.ledger.last(1, &|agent| *agent == step.agent).ok()?;
            last.first().map(|entry| entry.to_bytes().into())
        });
        tracing::warn!(target: "aquifer::agents", agent = %name.1, %wrong, "a host's step is disputed");
        let quarantined = self.standing.quarantined.entry(name.clone()).or_default();
        if quarantined.insert(from) {
            let note = Note::Disputed {
                theirs: bytes.to_vec().into(),
                ours,
                what: wrong.to_string(),
            };
            self.outbox.push((here.doer.home.clone(), note));
        }
        None
    }

    /// Looks at what hosts dispute: whoever signed for a step that comes to something else here is
    /// followed and voted for no more.
    pub(super) fn judges(&mut self) {
        let engine = Interpreter::new();
        let mut checker = Checker::new(&engine);
        for name in self.families.keys() {
            let quarantined = self.standing.quarantined.entry(name.clone()).or_default();
            for dispute in self.roster.disputes(name) {
                let node = NodeId(dispute.theirs.proof.node);
                let wrong = checker.check(&dispute.theirs);
                if matches!(wrong, Err(Wrong::Differs(_) | Wrong::Receipt { .. })) {
                    quarantined.insert(node);
                }
            }
        }
    }

    /// So many steps are done with, where the agent is held.
    fn done_with(&mut self, name: &Name, done: u64, has: Option<u64>) -> Option<()> {
        let here = self.families.get(name)?;
        let company = self.standing.companies.get_mut(name)?;
        while let Some((place, agent, seq)) = company.undone.front().copied()
            && place <= done
        {
            company.undone.pop_front();
            self.sleepers.done(agent, seq);
        }
        company.done = done;
        // After a restart it is not known which step was at which place; but if all are done, these are.
        if has == Some(done) && company.undone.is_empty() {
            let owed = self.sleepers.owed();
            for owed in owed.iter().filter(|owed| here.has(owed.agent)) {
                self.sleepers.done(owed.agent, owed.seq);
            }
        }
        Some(())
    }
}

//! Following: what this node does with the steps that another host took.
//!
//! It takes them too; where others are to attest, it takes them by itself first, on another engine
//! (`judging`), and signs for what they came to.

use super::judging::Withheld;
use super::{Here, Host};
use crate::agents::company::{Reply, Said, Says, Sent, Word};
use crate::agents::roster::Name;
use crate::ask::Part;
use crate::clock;
use aquifer_protocol::NodeId;
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
        if self.quarantined(&name).contains(&from) {
            return None;
        }
        let company = self.standing.companies.get_mut(&name)?;
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
        let attest = here.kind.granted().manifest.attest.is_some();
        let (mut own, mut good) = (Vec::new(), true);
        for (place, one) in (before..).zip(sent).skip(known as usize) {
            if one.copy >= here.agents {
                good = false;
                break;
            }
            let step = match attest {
                false => Step::read(&one.step).ok_or(Withheld::No),
                true => self.attests(name, here, from, one),
            };
            let step = match step {
                Ok(step) => step,
                Err(Withheld::Later) => break,
                Err(Withheld::No) => {
                    good = false;
                    break;
                }
            };
            let agent = here.first + one.copy;
            // Whoever vouches for a step vouches for what it was taken on, as far as that is known.
            let own_input = self.sleepers.input(agent, one.input.into());
            if attest && own_input.is_some_and(|input| *input != step.wakeup) {
                tracing::warn!(target: "aquifer::agents", agent = %name.1, step = step.seq, "a step on an input that was another here");
                good = false;
                break;
            }
            if let Err(why) = self.sleepers.follow(agent, one.input.into(), &step) {
                tracing::warn!(target: "aquifer::agents", agent = %name.1, %why, "a step does not follow");
                self.standing.companies.get_mut(name)?.lease.is_broken();
                good = false;
                break;
            }
            let company = self.standing.companies.get_mut(name)?;
            company
                .undone
                .push_back((place + 1, agent, step.seq as u32));
            own.extend(attest.then(|| (here.kind.clone(), step)));
        }
        if !own.is_empty() {
            // This node signs for what it took, once that is durable, as for steps of its own.
            self.sleepers.sync().ok()?;
            self.ledger.append(&own).ok()?;
            self.ledger.sync().ok()?;
        }
        let taken = self.sleepers.taken(here.first).ok();
        taken.filter(|_| good)
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

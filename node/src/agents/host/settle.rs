//! Settling: orders are carried out.

use super::standing::Share;
use super::{Here, Host};
use crate::agents::note::Note;
use crate::agents::roster::{Name, Placed};
use crate::view::View;
use aquifer_wasm::kind::Kind;
use aquifer_wasm::manifest::Granted;
use aquifer_wasm::sleepers::Owed;

/// Who lives here of a family: the number of the first, what it may do and what it is.
type Lives = (u32, Granted, Vec<u8>);

/// What was made of an order: nothing failed, or why it did.
type Outcome = Option<String>;

impl Host {
    /// Carries out the orders that count.
    pub(super) fn settles(&mut self, view: &View) {
        let orders: Vec<(Name, Placed)> = self
            .roster
            .orders()
            .map(|(name, placed)| (name.clone(), placed.clone()))
            .collect();
        for (name, placed) in orders {
            let failed = self.roster.outcome(&placed.signed.id, &self.me).cloned();
            let outcome = self.settle(view, &name, &placed, failed.clone());
            if let (Some(outcome), None) = (outcome, &failed)
                && let Some(law) = view.law.topic(placed.topic)
            {
                let order = placed.signed.id.into();
                let note = Note::Settled {
                    order,
                    failed: outcome,
                };
                self.outbox.push((law.name.clone(), note));
            }
        }
        for (note, from) in std::mem::take(&mut self.unplaced) {
            self.input(note, from);
        }
        if !std::mem::replace(&mut self.begun, true) {
            // What was owed when the last process ended; where others share in it, whoever holds it does it.
            let shared = |owed: &Owed| {
                let family = self.families.of(owed.agent);
                family.is_some_and(|(name, _)| self.standing.companies.contains_key(name))
            };
            let owed = self.sleepers.owed();
            self.owed = owed
                .into_iter()
                .filter(|owed| !shared(owed))
                .map(|owed| (owed, true))
                .collect();
        }
    }

    /// Carries out one order. What came of it, if anything was to be done.
    fn settle(
        &mut self,
        view: &View,
        name: &Name,
        placed: &Placed,
        known: Option<Outcome>,
    ) -> Option<Outcome> {
        let (signed, now) = (&placed.signed, self.now());
        let there = self.sleepers.families().find(|family| {
            family.granted.publisher == name.0 && family.granted.manifest.name == name.1
        });
        let there =
            there.map(|family| (family.first, family.granted.clone(), family.module.to_vec()));
        let handed = self.roster.is_handed(&signed.id);
        let company = signed.order.company(handed);
        let mine = company.contains(&self.me) && signed.order.agents > 0;
        let lawful = view.may_read(placed.topic);
        let Some(module) = self.roster.module(&signed.granted.manifest.module) else {
            // Its module is still on its way; who lives here goes on.
            if let Some((first, granted, module)) = there {
                self.here(view, name, placed, (first, granted, module));
            }
            return None;
        };
        let order = (signed.granted.as_bytes(), &module[..]);
        let done = match there {
            Some((first, ..)) if !mine || lawful.is_err() => {
                self.families.remove(name);
                self.standing.companies.remove(name);
                self.sleepers.stop(first).map(|()| None)
            }
            None if !mine => return None,
            None => match lawful {
                Err(denial) => return Some(Some(denial.to_string())),
                Ok(()) => self
                    .sleepers
                    .host(order, signed.order.agents, now, &*self.engine)
                    .map(|first| Some((first, signed.granted.clone(), module))),
            },
            // An upgrade that failed is not tried again: who lives here goes on as before.
            Some(old) if old.1 == signed.granted || known.flatten().is_some() => {
                self.here(view, name, placed, old);
                return Some(None);
            }
            Some(old) => match self.sleepers.upgrade(old.0, order, now, &*self.engine) {
                Ok(()) => Ok(Some((old.0, signed.granted.clone(), module))),
                Err(why) => {
                    self.here(view, name, placed, old);
                    Err(why)
                }
            },
        };
        match done {
            Ok(Some(lives)) => {
                self.here(view, name, placed, lives);
                Some(None)
            }
            Ok(None) => Some(None),
            Err(why) => Some(Some(why.to_string())),
        }
    }

    /// Notes who lives here by an order.
    fn here(&mut self, view: &View, name: &Name, placed: &Placed, lives: Lives) {
        let (first, granted, module) = lives;
        let kind = Kind::new(granted, module).expect("they live here together");
        let here = Here::new(view, placed, first, kind);
        let old = self.families.remove(name);
        let Some(here) = here.map(|here| here.after(old)) else {
            return;
        };
        let order = &placed.signed.order;
        let handed = self.roster.is_handed(&placed.signed.id);
        let attest = placed.signed.granted.manifest.attest;
        let share = Share {
            me: self.me,
            hosts: order.company(handed),
            agree: attest.map_or(0, |attest| attest.agree.into()),
            steps: self.sleepers.taken(here.first).unwrap_or(0),
            is_handed: order.leaving.is_some_and(|node| node != self.me) && !handed,
        };
        let alone = self.standing.joins(name, &share);
        self.standing.shuns(name, placed.since, self.me);
        if alone {
            // It is this node's alone now: what may not have been done is.
            let owed = self.sleepers.owed().into_iter();
            let owed = owed.filter(|owed| here.has(owed.agent));
            self.owed.extend(owed.map(|owed| (owed, true)));
        }
        self.families.insert(name.clone(), here);
    }
}

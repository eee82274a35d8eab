//! Standing: this node's part in the agents that it hosts together with others.
//!
//! While it holds an agent it wakes it and sends its steps; else it takes the steps that it is sent, and
//! stands by with the same inputs. What must not be forgotten is on disk before anything is said.
//!
//! Not here: who is chosen (`lease`), what is said (`company`).

use super::{Here, Host};
use crate::agents::company::{Company, Parts, Reply, Said, Says, Sent, Word};
use crate::agents::lease::{Durable, LEASE_MS, Lease, Say};
use crate::agents::note::Note;
use crate::agents::roster::Name;
use crate::api::Problem;
use crate::ask::{Answer, Question};
use crate::clock;
use crate::memory::Memory;
use aquifer_protocol::{NodeId, Op, Subject, decide};
use aquifer_wasm::ledger::Appended;
use aquifer_wasm::sleepers::{Owed, Woken};
use aquifer_wasm::wake::Step;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::sync::mpsc;

/// Replies that wait to be heard.
const REPLIES: usize = 256;
const TERMS: &str = "agents/terms.cbor";

/// What this node has to do with other hosts.
pub(super) struct Standing {
    pub(super) companies: BTreeMap<Name, Company>,
    terms: BTreeMap<Name, Durable>,
    /// Hosts that signed for what is not so, and when that was last told.
    pub(super) quarantined: BTreeMap<Name, BTreeMap<NodeId, u64>>,
    /// Disputes that were judged, and whether there may be others.
    pub(super) judged: BTreeMap<Name, BTreeSet<(NodeId, u64, [u8; 32])>>,
    pub(super) disputed: bool,
    pub(super) parts: Parts,
    heard: mpsc::Receiver<Heard>,
    hear: mpsc::Sender<Heard>,
}

/// This node's share in an agent.
pub(super) struct Share {
    pub(super) me: NodeId,
    /// All hosts.
    pub(super) hosts: Vec<NodeId>,
    /// So many must have a step before it counts.
    pub(super) agree: usize,
    /// How many steps its agents have taken here,
    pub(super) steps: u64,
    /// and whether another hands them over.
    pub(super) is_handed: bool,
}

/// What came back to a word.
pub(super) struct Heard {
    of: Name,
    from: NodeId,
    /// When the word was said, by this node's own clock.
    at: u64,
    said: Option<Said>,
}

impl Standing {
    /// What this node promised in the life of its home.
    pub(super) fn open(memory: &Memory) -> Result<Self, Problem> {
        let terms = memory.parts().home.read(TERMS, 64 << 20)?;
        let terms = terms.and_then(|bytes| minicbor::decode::<Vec<(Name, Durable)>>(&bytes).ok());
        let (hear, heard) = mpsc::channel(REPLIES);
        Ok(Self {
            companies: BTreeMap::new(),
            terms: terms.unwrap_or_default().into_iter().collect(),
            quarantined: BTreeMap::new(),
            judged: BTreeMap::new(),
            disputed: false,
            parts: Parts::default(),
            heard,
            hear,
        })
    }

    /// Takes part in an agent's company, if it has one. Whether it had one and has none now.
    pub(super) fn joins(&mut self, name: &Name, share: &Share) -> bool {
        if share.hosts.len() < 2 {
            return self.companies.remove(name).is_some();
        }
        let known = self.companies.get(name);
        if known.is_some_and(|company| company.lease.is_among(&share.hosts)) {
            return false;
        }
        let mut durable = self.terms.get(name).copied().unwrap_or_default();
        let is_new = share.is_handed && durable.last.is_none() && share.steps == 0;
        if durable.term == 0 && share.steps > 0 {
            // It hosted the agent alone until now: its steps are those that count.
            durable.last = Some(0);
        }
        let (hosts, now) = ((share.me, &share.hosts[..]), clock::boot_ms());
        let lease = Lease::new(hosts, share.agree, durable, now);
        let lease = if is_new { lease.joining() } else { lease };
        self.companies.insert(name.clone(), Company::new(lease));
        false
    }

    /// Writes down what is promised, if that has changed.
    pub(super) fn keeps(&mut self, memory: &Memory) -> Result<(), Problem> {
        let now = self
            .companies
            .iter()
            .map(|(name, company)| (name, company.lease.durable));
        let changed: Vec<_> = now
            .filter(|(name, durable)| self.terms.get(*name) != Some(durable))
            .map(|(name, durable)| (name.clone(), durable))
            .collect();
        if changed.is_empty() {
            return Ok(());
        }
        self.terms.extend(changed);
        let terms: Vec<(&Name, &Durable)> = self.terms.iter().collect();
        let bytes = minicbor::to_vec(terms).expect("a vector takes any encoding");
        memory.parts().home.write(TERMS, &bytes)
    }

    /// The next reply, once there is one.
    pub(super) async fn reply(&mut self) -> Option<Heard> {
        self.heard.recv().await
    }
}

impl Host {
    /// Hears replies, lets rest what others hold, and says what is due.
    pub(super) fn stands(&mut self) -> Result<(), Problem> {
        while let Ok(heard) = self.standing.heard.try_recv() {
            self.on_reply(heard);
        }
        let now = clock::boot_ms();
        let mut words = Vec::new();
        for (name, here) in self.families.iter() {
            let company = self.standing.companies.get_mut(name);
            let rests = company
                .as_ref()
                .is_some_and(|company| !company.lease.holds(now));
            self.sleepers
                .rest(here.first, rests)
                .map_err(super::broken)?;
            let Some(company) = company else { continue };
            let steps = self.sleepers.taken(here.first).map_err(super::broken)?;
            let held = company.lease.chosen_at().is_some();
            let say = company.lease.due(now, steps);
            if !held && company.lease.chosen_at().is_some() {
                company.begins(steps, self.sleepers.owed(), here);
            }
            words.extend(speaks(name, company, say, steps));
        }
        self.standing.keeps(&self.memory)?;
        for (name, to, word) in words {
            let word = match word {
                Some(word) => word,
                None => self.whole(&name, &to)?,
            };
            self.sends(name, to, &word, now);
        }
        Ok(())
    }

    /// Whoever holds an agent that is handed over says when all have what it has.
    pub(super) fn hands_over(&mut self) {
        let view = self.memory.view();
        for (name, company) in &mut self.standing.companies {
            let (Some(placed), Some(here)) = (self.roster.order_of(name), self.families.get(name))
            else {
                continue;
            };
            let (order, steps) = (&placed.signed.order, self.sleepers.taken(here.first));
            let steps = steps.unwrap_or(u64::MAX);
            let has = |host: &NodeId| {
                *host == self.me || company.lease.heard_of(host) == Some(Some(steps))
            };
            let whole = company.held.is_empty() && order.hosts.iter().all(has);
            let handing = order.leaving.is_some() && company.lease.chosen_at().is_some();
            if handing
                && whole
                && !std::mem::replace(&mut company.handed, true)
                && let Some(law) = view.law.topic(placed.topic)
            {
                let order = placed.signed.id.into();
                self.outbox.push((law.name.clone(), Note::Handed { order }));
            }
        }
    }

    /// All that is known of an agent that this node holds, as a word to one host.
    fn whole(&mut self, name: &Name, to: &NodeId) -> Result<Word, Problem> {
        let here = self.families.get(name).expect("it speaks of its own");
        let company = self.standing.companies.get_mut(name);
        let company = company.expect("it speaks of its own");
        let whole = self.sleepers.whole(here.first).map_err(super::broken)?;
        let steps = self.sleepers.taken(here.first).map_err(super::broken)?;
        company.lease.gives(to, steps);
        let says = Says::Hold {
            from: company
                .lease
                .chosen_at()
                .unwrap_or_else(|| company.lease.reach(steps)),
            before: steps,
            steps: Vec::new(),
            done: company.done,
            whole: Some(whole.into()),
        };
        Ok(Word::about(name, company.lease.durable.term, says))
    }

    /// Sends a word to another host, if the law lets it know of the agent.
    fn sends(&mut self, of: Name, to: NodeId, word: &Word, at: u64) {
        let (hear, memory) = (self.standing.hear.clone(), self.memory.clone());
        let lawful = self.may_host(&of, &to);
        let parts = word.parts(u64::from_be_bytes(clock::entropy()));
        tokio::spawn(async move {
            let mut said = None;
            for part in parts.into_iter().filter(|_| lawful) {
                let patience = Duration::from_millis(LEASE_MS);
                let answer = memory.put(to, &Question::Agents(part), patience).await;
                let Ok(Answer::Agents(bytes)) = answer else {
                    break;
                };
                said = minicbor::decode(&bytes).ok();
            }
            let from = to;
            // Nobody hears it if the node is stopping.
            let _ = hear.send(Heard { of, from, at, said }).await;
        });
    }

    pub(super) fn may_host(&self, name: &Name, node: &NodeId) -> bool {
        let view = self.memory.view();
        let Some(here) = self.families.get(name) else {
            return false;
        };
        let (Ok(label), Some(known)) = (view.law.label(here.home), view.law.member(node)) else {
            return false;
        };
        let subject = Subject {
            member: &known.member,
            at: self.memory.parts().helm.now(),
        };
        decide(Op::Store, label, subject, label.epoch).is_ok()
    }

    pub(super) fn on_reply(&mut self, heard: Heard) {
        let Heard { of, from, at, said } = heard;
        let (Some(company), Some(here)) =
            (self.standing.companies.get_mut(&of), self.families.get(&of))
        else {
            return;
        };
        company.busy.remove(&from);
        let Some(Said { term, says }) = said else {
            return;
        };
        let steps = self.sleepers.taken(here.first).unwrap_or(0);
        let held = company.lease.chosen_at().is_some();
        let before = company.lease.heard_of(&from);
        match says {
            Reply::Voted(granted) => company.lease.on_voted(from, term, granted, steps),
            Reply::Has(has) => company.lease.on_held(from, term, at, has),
        }
        let holds = company.lease.chosen_at().is_some();
        if !held && holds {
            company.begins(steps, self.sleepers.owed(), here);
        } else if held && !holds {
            company.forgets();
        }
        // Whoever has more of it now than before is told on; whoever has not, when it is time to speak.
        let has = company.lease.heard_of(&from);
        if holds && has != before && has.is_some_and(|has| has != Some(steps)) {
            company.news = true;
        }
    }

    /// What steps are to do waits until enough hosts have them. What may be done now, with those that may
    /// have been done before marked.
    pub(super) fn counts(
        &mut self,
        woken: &[(Name, Woken)],
        fresh: Vec<Owed>,
        signed: &Appended,
    ) -> Result<Vec<(Owed, bool)>, Problem> {
        let mut now = Vec::new();
        let mut shared: BTreeMap<Name, Vec<(&Woken, &Step, usize)>> = BTreeMap::new();
        let taken = woken.iter().filter_map(|(name, woken)| {
            let step = woken.outcome.as_ref().ok()?;
            Some((name, woken, step))
        });
        for (place, (name, woken, step)) in taken.enumerate() {
            if self.standing.companies.contains_key(name) {
                let steps = shared.entry(name.clone()).or_default();
                steps.push((woken, step, place));
            }
        }
        let mut fresh: BTreeMap<(u32, u32), Owed> = fresh
            .into_iter()
            .map(|owed| ((owed.agent, owed.seq), owed))
            .collect();
        for (name, steps) in shared {
            let here = self.families.get(&name).expect("it woke here");
            let taken = self.sleepers.taken(here.first).map_err(super::broken)?;
            let before = taken - steps.len() as u64;
            let attest = here.kind.granted().manifest.attest.is_some();
            let company = self.standing.companies.get_mut(&name).expect("it has one");
            for (place, (woken, step, number)) in (before..).zip(steps) {
                // Whoever hosts it too has the module.
                let entry = attest.then(|| signed.entry(number, &here.kind, step));
                let bytes = match entry.flatten() {
                    Some(entry) => entry.to_bytes_bare(),
                    None => step.to_bytes(),
                };
                let sent = Sent {
                    copy: woken.agent - here.first,
                    input: woken.input.into(),
                    step: bytes.into(),
                };
                company.took(place, sent);
                let owed = fresh.remove(&(woken.agent, step.seq as u32));
                company
                    .held
                    .extend(owed.map(|owed| (place + 1, owed, false)));
            }
        }
        now.extend(fresh.into_values().map(|owed| (owed, false)));
        for (name, company) in &mut self.standing.companies {
            let Some(here) = self.families.get(name) else {
                continue;
            };
            let steps = self.sleepers.taken(here.first).map_err(super::broken)?;
            let counted = company.lease.counted(steps, company.done);
            while let Some((place, ..)) = company.held.front()
                && *place <= counted
            {
                now.extend(
                    company
                        .held
                        .pop_front()
                        .map(|(_, owed, again)| (owed, again)),
                );
            }
            if company.lease.chosen_at().is_some() && counted > company.done {
                company.done = counted;
                company.news = true;
            }
        }
        Ok(now)
    }
}

impl Company {
    /// This node holds it from now on: what may not have been done yet is held until its steps count.
    fn begins(&mut self, steps: u64, owed: Vec<Owed>, here: &Here) {
        self.forgets();
        let owed = owed.into_iter().filter(|owed| here.has(owed.agent));
        self.held = owed.map(|owed| (steps, owed, true)).collect();
        self.undone.clear();
        self.done = 0;
    }
}

/// What is to be said, and to whom; no word where the whole is to be sent.
fn speaks(
    name: &Name,
    company: &mut Company,
    say: Option<Say>,
    steps: u64,
) -> Vec<(Name, NodeId, Option<Word>)> {
    let term = company.lease.durable.term;
    let others: Vec<NodeId> = company.lease.others().collect();
    let mut words = Vec::new();
    if let Some(Say::Vote(term)) = say {
        let reach = company.lease.reach(steps);
        for to in &others {
            let word = Word::about(name, term, Says::Vote(reach));
            words.push((name.clone(), *to, Some(word)));
        }
        return words;
    }
    if company.lease.chosen_at().is_none() || !(say.is_some() || std::mem::take(&mut company.news))
    {
        return words;
    }
    for to in others {
        if company.busy.contains(&to) {
            // It is told as soon as it has answered.
            company.news = true;
            continue;
        }
        let says = company.says_to(&to, steps);
        company.busy.insert(to);
        words.push((
            name.clone(),
            to,
            says.map(|says| Word::about(name, term, says)),
        ));
    }
    words
}

//! The roster: which agents there are, as notes tell it.
//!
//! A pure fold: in whatever order notes are read, the same follows from them. Of a publisher's orders
//! for one name the highest counts; two of one version are told apart by their digests, so that all
//! nodes choose alike.
//!
//! Not here: how notes are read (`reader`), who carries orders out (`host`).

use super::note::{HOSTS_MAX, Note, PART_BYTES, Signed};
use aquifer_protocol::{NodeId, TopicId};
use aquifer_wasm::abi::MODULE_MAX;
use aquifer_wasm::ledger::Entry;
use minicbor::bytes::ByteVec;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Most copies of an agent whose keys are known by heart, so that others can write to them.
const KEYS_MAX: u32 = 1_024;
/// Most answers that are remembered for those that wait for them.
const ANSWERS_MAX: usize = 4_096;
/// Most orders of all publishers.
const ORDERS_MAX: usize = 65_536;
/// Most modules that are waited for or kept, of at most 64 KiB each.
const MODULES_MAX: usize = 1_024;

/// Disputes of one agent that are remembered: the last few of each that disputes, of so many.
const DISPUTES_EACH: usize = 4;
const DISPUTES_MAX: usize = DISPUTES_EACH * 2 * HOSTS_MAX;

/// Disputes that wait for a module.
const WAITING_MAX: usize = 64;

/// Whose agent, and what it is called.
pub type Name = ([u8; 32], String);

/// Which agents there are.
#[derive(Debug, Default)]
pub struct Roster {
    orders: BTreeMap<Name, Placed>,
    modules: BTreeMap<[u8; 32], BTreeMap<u8, Vec<u8>>>,
    /// What came of orders, by their digests and where.
    settled: BTreeMap<([u8; 32], NodeId), Option<String>>,
    /// Orders whose agents were handed over.
    handed: BTreeSet<[u8; 32]>,
    disputes: BTreeMap<Name, Vec<Dispute>>,
    /// Disputes of modules that are on their way.
    waiting: VecDeque<(Source, Note)>,
    answers: BTreeMap<[u8; 16], Answer>,
    answered: VecDeque<[u8; 16]>,
    keys: BTreeMap<[u8; 32], (Name, u32)>,
}

/// An order and where it was given.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Placed {
    /// The agent's home.
    pub topic: TopicId,
    /// What is wanted.
    pub signed: Signed,
    /// When it was written, in milliseconds since 1970.
    pub since: u64,
}

/// A step that two hosts do not agree on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Dispute {
    /// What one signed for.
    pub theirs: Entry,
    /// What it came to at the other, which signed for it too; none if it came to nothing.
    pub ours: Option<Entry>,
    /// The other.
    pub by: NodeId,
    /// What differs.
    pub what: String,
    /// When that was told, in milliseconds since 1970.
    pub at: u64,
}

/// What an agent said to an invocation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    /// Which step it was; none if it came to nothing.
    pub step: Option<u64>,
    /// What it said, or why it came to nothing.
    pub said: Option<Vec<u8>>,
}

/// Where a note was read.
#[derive(Clone, Copy, Debug)]
pub struct Source {
    /// The topic.
    pub topic: TopicId,
    /// The node that wrote it.
    pub writer: NodeId,
    /// When, in milliseconds since 1970.
    pub at: u64,
}

impl Dispute {
    /// By which it is known: who told it, when, and of which receipt.
    pub fn id(&self) -> (NodeId, u64, [u8; 32]) {
        (self.by, self.at, self.theirs.receipt.hash())
    }
}

impl Roster {
    /// Takes a note in. An input is no part of the roster.
    pub fn join(&mut self, source: Source, note: Note) {
        match note {
            Note::Module { hash, part, bytes } => self.part(hash.into(), part, bytes.into()),
            Note::Ordered { order, signature } => {
                if let Some(signed) = Signed::open(&order, &signature) {
                    self.order(source, signed);
                }
            }
            Note::Settled { order, failed } => {
                // It may be read before the order that it is of.
                if self.settled.len() < ORDERS_MAX {
                    self.settled.insert((order.into(), source.writer), failed);
                }
            }
            Note::Answered { input, step, said } => {
                let said = said.map(Vec::from);
                if self
                    .answers
                    .insert(input.into(), Answer { step, said })
                    .is_none()
                {
                    self.answered.push_back(input.into());
                }
                if self.answered.len() > ANSWERS_MAX {
                    let oldest = self.answered.pop_front();
                    oldest.map(|oldest| self.answers.remove(&oldest));
                }
            }
            Note::Handed { order } => {
                if self.handed.len() < ORDERS_MAX {
                    self.handed.insert(order.into());
                }
            }
            Note::Disputed { theirs, ours, what } => {
                let mut missing = false;
                self.dispute(source, (&theirs, ours.as_ref()), &what, &mut missing);
                if missing {
                    if self.waiting.len() >= WAITING_MAX {
                        self.waiting.pop_front();
                    }
                    let note = Note::Disputed { theirs, ours, what };
                    self.waiting.push_back((source, note));
                }
            }
            Note::Input { .. } => {}
        }
    }

    fn order(&mut self, source: Source, signed: Signed) {
        let name = (
            signed.granted.publisher,
            signed.granted.manifest.name.clone(),
        );
        let known = self.orders.get(&name);
        // An agent stays where it was first ordered: its home is not moved by an order elsewhere.
        let newer = known.is_none_or(|known| {
            let rank = |placed: &Signed| (placed.order.version, placed.id);
            (known.topic == source.topic || known.signed.order.agents == 0)
                && rank(&signed) > rank(&known.signed)
        });
        if !newer || (known.is_none() && self.orders.len() >= ORDERS_MAX) {
            return;
        }
        if let Some(old) = known {
            let old = old.signed.id;
            self.settled.retain(|(order, _), _| *order != old);
            self.keys.retain(|_, (of, _)| *of != name);
        }
        for copy in 0..signed.order.agents.min(KEYS_MAX) {
            let key = signed.granted.agent(copy);
            self.keys.insert(key, (name.clone(), copy));
        }
        let (topic, since) = (source.topic, source.at);
        self.orders.insert(
            name,
            Placed {
                topic,
                signed,
                since,
            },
        );
    }

    /// A dispute counts if both signatures hold, over one input and one state.
    fn dispute(
        &mut self,
        source: Source,
        (theirs, ours): (&[u8], Option<&ByteVec>),
        what: &str,
        missing: &mut bool,
    ) {
        let mut read = |bytes: &[u8]| {
            let bare = |hash: &[u8; 32]| {
                let module = self.module(hash);
                *missing |= module.is_none();
                module
            };
            Entry::read(bytes).or_else(|| Entry::read_bare(bytes, bare))
        };
        let (theirs, ours) = (read(theirs), ours.map(|bytes| read(bytes)));
        let Some(theirs) = theirs.filter(is_signed) else {
            return;
        };
        let same = |ours: &Entry| {
            let differ = theirs.receipt != ours.receipt && begins_alike(&theirs, ours);
            differ && is_signed(ours) && ours.proof.node == source.writer.0
        };
        let ours = ours.map(|ours| ours.filter(same));
        if ours == Some(None) {
            return;
        }
        let granted = theirs.kind.granted();
        let name = (granted.publisher, granted.manifest.name.clone());
        let known = self.disputes.entry(name).or_default();
        let dispute = Dispute {
            theirs,
            ours: ours.flatten(),
            by: source.writer,
            what: what.to_owned(),
            at: source.at,
        };
        if known.contains(&dispute) {
            return;
        }
        let own = known.iter().enumerate();
        let own = own.filter(|(_, other)| other.by == source.writer);
        let is_full = own.clone().count() >= DISPUTES_EACH;
        match own.min_by_key(|(_, other)| other.at) {
            Some((place, oldest)) if is_full && oldest.at < dispute.at => known[place] = dispute,
            _ if !is_full && known.len() < DISPUTES_MAX => known.push(dispute),
            _ => {}
        }
    }

    fn part(&mut self, hash: [u8; 32], part: u8, bytes: Vec<u8>) {
        let room = self.modules.len() < MODULES_MAX || self.modules.contains_key(&hash);
        let last = MODULE_MAX.div_ceil(PART_BYTES);
        if room && usize::from(part) < last && bytes.len() <= PART_BYTES {
            self.modules.entry(hash).or_default().insert(part, bytes);
        }
        if !self.waiting.is_empty() && self.module(&hash).is_some() {
            let waiting = std::mem::take(&mut self.waiting);
            let waiting = waiting.into_iter();
            waiting.for_each(|(source, note)| self.join(source, note));
        }
    }

    /// The module with this hash, if all of it is there.
    pub fn module(&self, hash: &[u8; 32]) -> Option<Vec<u8>> {
        let parts = self.modules.get(hash)?;
        let whole: Vec<u8> = parts.values().flatten().copied().collect();
        (blake3::hash(&whole).as_bytes() == hash).then_some(whole)
    }

    /// All orders that count.
    pub fn orders(&self) -> impl Iterator<Item = (&Name, &Placed)> {
        self.orders.iter()
    }

    /// The order that counts for one agent.
    pub fn order_of(&self, name: &Name) -> Option<&Placed> {
        self.orders.get(name)
    }

    /// What came of an order at a node: nothing yet, or well, or why not.
    pub fn outcome(&self, order: &[u8; 32], node: &NodeId) -> Option<&Option<String>> {
        self.settled.get(&(*order, *node))
    }

    /// Whether the agents of an order have been handed over.
    pub fn is_handed(&self, order: &[u8; 32]) -> bool {
        self.handed.contains(order)
    }

    /// Steps of an agent that its hosts do not agree on.
    pub fn disputes(&self, name: &Name) -> &[Dispute] {
        self.disputes.get(name).map_or(&[], Vec::as_slice)
    }

    /// The same of all agents that have any.
    pub fn disputed(&self) -> impl Iterator<Item = (&Name, &[Dispute])> {
        let all = self.disputes.iter();
        all.map(|(name, disputes)| (name, disputes.as_slice()))
    }

    /// Whether `node` has said what it finds of the step of an entry.
    pub fn has_testified(&self, name: &Name, node: &NodeId, entry: &Entry) -> bool {
        let mut disputes = self.disputes(name).iter();
        disputes.any(|dispute| dispute.by == *node && begins_alike(&dispute.theirs, entry))
    }

    /// Whether `node` signed for something else than so many other hosts did, all of them alike; and when that
    /// was last told.
    pub fn is_outvoted(
        &self,
        name: &Name,
        node: &NodeId,
        (hosts, agree): (&[NodeId], usize),
    ) -> Option<u64> {
        let disputes = self.disputes(name);
        let signed = disputes.iter().flat_map(|dispute| {
            let both = std::iter::once(&dispute.theirs).chain(&dispute.ours);
            both.map(|entry| (entry, dispute.at))
        });
        let own = signed
            .clone()
            .filter(|(entry, _)| entry.proof.node == node.0);
        let told = own.filter_map(|(own, at)| {
            let mut others: BTreeMap<[u8; 32], BTreeSet<[u8; 32]>> = BTreeMap::new();
            let differ = |entry: &Entry| begins_alike(entry, own) && entry.receipt != own.receipt;
            for (entry, _) in signed.clone().filter(|(entry, _)| differ(entry)) {
                if hosts.contains(&NodeId(entry.proof.node)) {
                    let alike = others.entry(entry.receipt.hash()).or_default();
                    alike.insert(entry.proof.node);
                }
            }
            others
                .values()
                .any(|nodes| nodes.len() >= agree)
                .then_some(at)
        });
        told.max()
    }

    /// What was answered to an invocation.
    pub fn answer(&self, input: &[u8; 16]) -> Option<&Answer> {
        self.answers.get(input)
    }

    /// Whose key it is, and of which copy.
    pub fn owner(&self, agent: &[u8; 32]) -> Option<&(Name, u32)> {
        self.keys.get(agent)
    }
}

/// Whether two receipts are of one step over one input and one state.
fn begins_alike(a: &Entry, b: &Entry) -> bool {
    let begins = |entry: &Entry| {
        let receipt = entry.receipt;
        (receipt.agent, receipt.seq, receipt.input, receipt.before)
    };
    begins(a) == begins(b)
}

fn is_signed(entry: &Entry) -> bool {
    entry.proof.holds(&entry.receipt)
}

#[cfg(test)]
mod tests;

//! The roster: which agents there are, as notes tell it.
//!
//! A pure fold: in whatever order notes are read, the same follows from them. Of a publisher's orders
//! for one name the highest counts; two of one version are told apart by their digests, so that all
//! nodes choose alike.
//!
//! Not here: how notes are read (`reader`), who carries orders out (`host`).

use super::note::{Note, PART_BYTES, Signed};
use aquifer_protocol::{NodeId, TopicId};
use aquifer_wasm::abi::MODULE_MAX;
use aquifer_wasm::ledger::Entry;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Most copies of an agent whose keys are known by heart, so that others can write to them.
const KEYS_MAX: u32 = 1_024;
/// Most answers that are remembered for those that wait for them.
const ANSWERS_MAX: usize = 4_096;
/// Most orders of all publishers.
const ORDERS_MAX: usize = 65_536;
/// Most modules that are waited for or kept, of at most 64 KiB each.
const MODULES_MAX: usize = 1_024;

/// Disputes of one agent that are remembered.
const DISPUTES_MAX: usize = 16;

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
                self.dispute(source, &theirs, ours.as_ref().map(|ours| &ours[..]), what)
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
    fn dispute(&mut self, source: Source, theirs: &[u8], ours: Option<&[u8]>, what: String) {
        let Some(theirs) = Entry::read(theirs).filter(is_signed) else {
            return;
        };
        let same = |ours: &Entry| {
            let (a, b) = (&theirs.receipt, &ours.receipt);
            let begins = (a.agent, a.seq, a.input, a.before) == (b.agent, b.seq, b.input, b.before);
            begins && a != b && is_signed(ours) && ours.proof.node == source.writer.0
        };
        let ours = ours.map(|bytes| Entry::read(bytes).filter(same));
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
            what,
        };
        if known.len() < DISPUTES_MAX && !known.contains(&dispute) {
            known.push(dispute);
        }
    }

    fn part(&mut self, hash: [u8; 32], part: u8, bytes: Vec<u8>) {
        let room = self.modules.len() < MODULES_MAX || self.modules.contains_key(&hash);
        let last = MODULE_MAX.div_ceil(PART_BYTES);
        if room && usize::from(part) < last && bytes.len() <= PART_BYTES {
            self.modules.entry(hash).or_default().insert(part, bytes);
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

    /// What was answered to an invocation.
    pub fn answer(&self, input: &[u8; 16]) -> Option<&Answer> {
        self.answers.get(input)
    }

    /// Whose key it is, and of which copy.
    pub fn owner(&self, agent: &[u8; 32]) -> Option<&(Name, u32)> {
        self.keys.get(agent)
    }
}

fn is_signed(entry: &Entry) -> bool {
    entry.proof.holds(&entry.receipt)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agents::note::Order;
    use aquifer_protocol::Keys;
    use aquifer_wasm::abi::Imports;
    use aquifer_wasm::manifest::{Budget, Granted, Manifest, Rate};
    use proptest::prelude::*;

    fn order(publisher: u8, name: &str, version: u64, agents: u32) -> Note {
        let keys = Keys::from_secret(&[publisher; 32]);
        let manifest = Manifest {
            name: name.into(),
            module: *blake3::hash(b"module").as_bytes(),
            imports: Imports::USUAL,
            publishes: vec![],
            follows: vec![],
            remembers: vec![],
            budget: Budget::USUAL,
            rate: Rate::USUAL,
            kv_bytes: 0,
            not_after: u64::MAX,
            attest: None,
        };
        let manifest = Granted::sign(&keys, manifest).as_bytes().to_vec().into();
        let hosts = vec![NodeId([agents as u8; 32])];
        Note::order(
            &keys,
            &Order {
                manifest,
                version,
                agents,
                hosts,
                leaving: None,
            },
        )
    }

    fn source(topic: u8) -> Source {
        Source {
            topic: TopicId([topic; 32]),
            writer: NodeId([1; 32]),
            at: 5,
        }
    }

    fn of(notes: &[(u8, Note)]) -> Roster {
        let mut roster = Roster::default();
        notes
            .iter()
            .for_each(|(topic, note)| roster.join(source(*topic), note.clone()));
        roster
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// Nodes hear notes of one topic in different orders, and agree.
        #[test]
        fn orders_count_alike_however_they_are_read(
            drafts in proptest::collection::vec((1_u8..3, 0_u64..4, 0_u32..3), 1..12),
            shuffle in any::<prop::sample::Index>(),
        ) {
            let mut notes: Vec<(u8, Note)> = drafts
                .iter()
                .map(|(publisher, version, agents)| (7, order(*publisher, "a", *version, *agents)))
                .collect();
            let one = of(&notes);
            let by = shuffle.index(notes.len());
            notes.rotate_left(by);
            notes.reverse();
            let other = of(&notes);
            prop_assert_eq!(one.orders, other.orders);
            prop_assert_eq!(one.keys, other.keys);
        }
    }

    #[test]
    fn an_order_counts_only_under_its_publishers_signature() {
        let Note::Ordered {
            order: bytes,
            signature,
        } = order(1, "a", 1, 1)
        else {
            unreachable!("it is an order")
        };
        assert!(Signed::open(&bytes, &signature).is_some());
        for place in 0..bytes.len() {
            let mut bad = bytes.to_vec();
            bad[place] ^= 1;
            assert!(Signed::open(&bad, &signature).is_none(), "{place}");
        }
        let Note::Ordered {
            signature: stranger,
            ..
        } = order(2, "a", 1, 1)
        else {
            unreachable!("it is an order")
        };
        assert!(Signed::open(&bytes, &stranger).is_none());
    }

    #[test]
    fn an_agent_is_not_taken_to_another_home_while_it_lives() {
        let roster = of(&[(7, order(1, "a", 1, 1)), (8, order(1, "a", 2, 1))]);
        let name = (Keys::from_secret(&[1; 32]).public(), "a".to_owned());
        assert_eq!(
            Some(TopicId([7; 32])),
            roster.order_of(&name).map(|placed| placed.topic)
        );
        let stopped = [(7, order(1, "a", 1, 0)), (8, order(1, "a", 2, 1))];
        let roster = of(&stopped);
        assert_eq!(
            Some(TopicId([8; 32])),
            roster.order_of(&name).map(|placed| placed.topic)
        );
    }

    #[test]
    fn a_module_is_there_once_all_its_parts_are() {
        let module: Vec<u8> = (0..40_000_u32).map(|n| n as u8).collect();
        let hash = *blake3::hash(&module).as_bytes();
        let mut roster = Roster::default();
        let parts = Note::parts(&module);
        assert_eq!(2, parts.len());
        for note in parts.into_iter().rev() {
            assert_eq!(None, roster.module(&hash));
            roster.join(source(7), note);
        }
        assert_eq!(Some(module), roster.module(&hash));
    }
}

//! Cells: two nodes with many logs of one topic find those that differ, at some bytes per difference.
//!
//! The node that opens sends coded cells of its logs; the other subtracts its own, asks for as many
//! more as the gauge says it will take, and decodes. Then it knows how high the opener has each log
//! that differs: what it lacks it wants, by short hash; what the opener lacks it gives, up to a
//! measure, and tells of the rest. Only a log that is forked, or as high and yet different, is asked
//! for by its whole item.

use super::super::Replica;
use crate::identity::NodeId;
use crate::limits::{
    CODED_LOGS_MAX, CODING_KEPT, CODINGS_MAX, ITEMS_PER_MESSAGE_MAX, SYMBOLS_FIRST, SYMBOLS_MAX,
    SYMBOLS_PER_MESSAGE_MAX,
};
use crate::log::Logs;
use crate::riblt::Cell;
use crate::store::Store;
use crate::sync::{self, Coded, Gauge, Verdict};
use crate::time::Time;
use crate::topic::TopicId;
use crate::wire::{CodedWant, Item, Message, Told};
use rand_chacha::rand_core::Rng as _;
use std::collections::{BTreeMap, VecDeque};

/// Topics coded for talks under way, ours and those that peers opened, oldest first.
#[derive(Debug, Default)]
pub(in crate::replica) struct Codings {
    all: VecDeque<Coding>,
}

#[derive(Debug)]
struct Coding {
    coded: Coded,
    /// What our logs hashed to, if we opened the talk.
    digest: Option<[u8; 16]>,
    born: Time,
}

impl Codings {
    /// Forgets talks that are over, or never will be.
    pub(in crate::replica) fn forget(&mut self, now: Time) {
        self.all
            .retain(|coding| now.since(coding.born) < CODING_KEPT);
    }

    pub(super) fn find(&mut self, topic: TopicId, nonce: u64) -> Option<&mut Coded> {
        let mut all = self.all.iter_mut().map(|coding| &mut coding.coded);
        all.find(|coded| coded.topic == topic && coded.nonce == nonce)
    }

    /// A talk that we opened with another peer while our logs stood as they do.
    fn opened(&self, topic: TopicId, digest: [u8; 16]) -> Option<u64> {
        let same = |c: &&Coding| c.coded.topic == topic && c.digest == Some(digest);
        Some(self.all.iter().find(same)?.coded.nonce)
    }

    fn begin(
        &mut self,
        logs: &Logs,
        (topic, nonce): (TopicId, u64),
        digest: Option<[u8; 16]>,
        born: Time,
    ) {
        let coded = Coded::of(logs, topic, nonce);
        let coding = Coding {
            coded,
            digest,
            born,
        };
        self.all.push_back(coding);
        let size = |all: &VecDeque<Coding>| -> usize {
            all.iter().map(|coding| coding.coded.sketch.len()).sum()
        };
        while self.all.len() > CODINGS_MAX
            || (self.all.len() > 1 && size(&self.all) > CODED_LOGS_MAX)
        {
            self.all.pop_front();
        }
    }
}

/// Cells of a peer's items, as far as they have come.
#[derive(Debug)]
pub(in crate::replica) struct Receiving {
    nonce: u64,
    gauge: Option<Box<Gauge>>,
    cells: Vec<Cell>,
    /// How many were asked for, in all.
    asked: usize,
}

/// How many cells to have in all, with `have` and about `differing` logs to find. First a little
/// less than it will take, since the last eighths cost a turn but too many cost bytes.
fn enough(have: usize, differing: usize) -> usize {
    let first = differing + differing / 4 + 8;
    first.max(have + have / 8 + 8)
}

impl<S: Store> Replica<S> {
    pub(super) fn open_cells(
        &mut self,
        to: NodeId,
        topic: TopicId,
        digest: [u8; 16],
        at_least: u32,
    ) {
        let nonce = match self.codings.opened(topic, digest) {
            Some(nonce) => nonce,
            None => {
                let nonce = self.rng.next_u64();
                let which = (topic, nonce);
                self.codings
                    .begin(&self.logs, which, Some(digest), self.now);
                nonce
            }
        };
        let count = enough(0, at_least as usize).max(SYMBOLS_FIRST);
        self.send_cells(to, topic, nonce, 0, count as u64);
    }

    /// Sends `count` cells from `start` on, in a talk that is remembered here.
    pub(super) fn send_cells(
        &mut self,
        to: NodeId,
        topic: TopicId,
        nonce: u64,
        start: u64,
        count: u64,
    ) {
        let sent = usize::try_from(start).unwrap_or(usize::MAX);
        if sent >= SYMBOLS_MAX {
            // Too much differs for cells to pay.
            return self.send_items(to, topic);
        }
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        let count = count.min(SYMBOLS_PER_MESSAGE_MAX).min(SYMBOLS_MAX - sent);
        let Some(coded) = self.codings.find(topic, nonce) else {
            return;
        };
        let gauge = (sent == 0).then(|| Box::new(coded.gauge));
        let cells = coded.sketch.cells(sent + count)[sent..].to_vec();
        let message = Message::Cells {
            topic,
            nonce,
            start,
            gauge,
            cells,
        };
        self.send(to, message);
    }

    pub(super) fn on_cells(
        &mut self,
        from: NodeId,
        topic: TopicId,
        nonce: u64,
        start: u64,
        gauge: Option<Box<Gauge>>,
        cells: Vec<Cell>,
    ) {
        let Some(peer) = self.peers.get_mut(&from) else {
            return;
        };
        if start == 0 {
            let asked = cells.len();
            let receiving = Receiving {
                nonce,
                gauge,
                cells: Vec::new(),
                asked,
            };
            peer.receiving.insert(topic, receiving);
        }
        let held: usize = peer.receiving.values().map(|got| got.cells.len()).sum();
        let Some(got) = peer.receiving.get_mut(&topic) else {
            return;
        };
        if got.nonce != nonce || got.cells.len() as u64 != start {
            // Left over from a talk that another has replaced.
            return;
        }
        if held + cells.len() > 4 * SYMBOLS_MAX {
            peer.receiving.remove(&topic);
            return;
        }
        got.cells.extend(cells);
        if got.cells.len() < got.asked {
            // As many as were asked for, or decoding would be tried at the pace of a liar.
            return;
        }
        if self.codings.find(topic, nonce).is_none() {
            let which = (topic, nonce);
            self.codings.begin(&self.logs, which, None, self.now);
        }
        let coded = self.codings.find(topic, nonce).expect("just begun");
        let Some(found) = coded.sketch.decode(&got.cells) else {
            let differing = got
                .gauge
                .as_ref()
                .map_or(0, |gauge| gauge.differing(&coded.gauge));
            let have = got.cells.len();
            let more = enough(have, differing).min(SYMBOLS_MAX) - have;
            got.asked = have + more.min(SYMBOLS_PER_MESSAGE_MAX);
            let ask = Message::MoreCells {
                topic,
                nonce,
                start: have as u64,
                count: more as u64,
            };
            if more == 0 {
                // Then each side lists what it has.
                peer.receiving.remove(&topic);
                self.send_items(from, topic);
            }
            return self.send(from, ask);
        };
        peer.receiving.remove(&topic);
        self.on_difference(from, topic, nonce, &found);
    }

    /// What follows once the difference is decoded: for each log, their coded value minus ours.
    fn on_difference(
        &mut self,
        from: NodeId,
        topic: TopicId,
        nonce: u64,
        found: &BTreeMap<u64, i64>,
    ) {
        let Some(coded) = self.codings.find(topic, nonce) else {
            return;
        };
        let (mut wanted, mut unknown) = (Vec::new(), Vec::new());
        let (mut items, mut lacking) = (Vec::new(), Vec::new());
        let mut shorts = BTreeMap::new();
        for (short, apart) in found {
            let theirs = coded.their_height(*short, *apart);
            let key = coded.log(*short);
            let ours = key.and_then(|key| Some((key, *self.logs.get(&key)?)));
            match (ours, theirs) {
                (None, None) => {}
                (None, Some(0)) => items.push(*short),
                (None, Some(height)) => unknown.push((*short, height)),
                (Some((key, state)), None) => lacking.push((key, state, 0)),
                (Some((key, state)), Some(height)) => {
                    let own = key.writer == self.keys.node() && key.log == self.own;
                    let ahead = height > state.height;
                    // Forks, equal heights and our own log need the whole item.
                    if state.fork.is_some() || height == state.height || (own && ahead) {
                        items.push(*short);
                    } else if ahead {
                        wanted.push((*short, key, height));
                    } else {
                        shorts.insert(key, *short);
                        lacking.push((key, state, height));
                    }
                }
            }
        }
        let wanted = wanted
            .into_iter()
            .filter_map(|(short, key, height)| {
                let want = self.want(from, key, height)?;
                let (from, until) = (want.from, want.until);
                Some(CodedWant { short, from, until })
            })
            .collect();
        self.ask_coded(from, topic, nonce, wanted);
        self.fetch(from, topic, nonce, unknown);
        for hashes in items.chunks(ITEMS_PER_MESSAGE_MAX) {
            let hashes = hashes.to_vec();
            let ask = Message::WantItems {
                topic,
                nonce,
                hashes,
            };
            self.send(from, ask);
        }
        let (mut told, mut untold) = (Vec::new(), Vec::new());
        for (key, state, _) in self.give(from, topic, lacking) {
            let height = state.height;
            match shorts.get(&key).copied() {
                Some(short) => told.push(Told { short, height }),
                // A log that it has not coded means nothing to it by a short hash.
                None => untold.push(sync::item(&key, &state)),
            }
        }
        for told in told.chunks(ITEMS_PER_MESSAGE_MAX) {
            let told = told.to_vec();
            self.send(from, Message::Told { topic, nonce, told });
        }
        self.tell(from, topic, untold, Vec::new());
    }

    pub(super) fn ask_coded(
        &mut self,
        to: NodeId,
        topic: TopicId,
        nonce: u64,
        wants: Vec<CodedWant>,
    ) {
        for wants in wants.chunks(ITEMS_PER_MESSAGE_MAX) {
            let wants = wants.to_vec();
            let ask = Message::WantCoded {
                topic,
                nonce,
                wants,
            };
            self.send(to, ask);
        }
    }

    pub(super) fn on_told(&mut self, from: NodeId, topic: TopicId, nonce: u64, told: &[Told]) {
        let (mut wants, mut proofs) = (Vec::new(), Vec::new());
        for Told { short, height } in told.iter().copied() {
            let coded = self.codings.find(topic, nonce);
            let Some(key) = coded.and_then(|coded| coded.log(short)) else {
                continue;
            };
            let state = self.logs.get(&key).copied();
            if state.is_some_and(|state| state.fork.is_some()) {
                proofs.extend(self.proof_of(&key));
            } else if key.writer == self.keys.node() && key.log == self.own {
                if state.is_none_or(|state| height > state.height) {
                    self.leave_own_log_at_the_word_of(from, key);
                    wants.extend(self.want(from, key, height).map(|want| (short, want)));
                }
            } else {
                wants.extend(self.want(from, key, height).map(|want| (short, want)));
            }
        }
        let coded = wants.into_iter().map(|(short, want)| CodedWant {
            short,
            from: want.from,
            until: want.until,
        });
        self.ask_coded(from, topic, nonce, coded.collect());
        self.tell(from, topic, Vec::new(), proofs);
    }

    pub(super) fn on_want_items(
        &mut self,
        from: NodeId,
        topic: TopicId,
        nonce: u64,
        hashes: &[u64],
    ) {
        let Some(coded) = self.codings.find(topic, nonce) else {
            return;
        };
        let items: Vec<Item> = hashes
            .iter()
            .filter_map(|short| coded.log(*short))
            .filter_map(|key| Some(sync::item(&key, self.logs.get(&key)?)))
            .filter(|item| sync::compare(None, item) != Verdict::Equal)
            .collect();
        self.tell(from, topic, items, Vec::new());
    }
}

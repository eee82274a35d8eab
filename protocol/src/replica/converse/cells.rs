//! Cells: two nodes with many logs of one topic find those that differ, at some bytes per difference.
//!
//! The node that saw a differing summary sends coded cells of its items; the other subtracts its own,
//! asks for more until it can decode, then wants what it lacks and tells what the sender lacks.

use super::super::Replica;
use crate::identity::NodeId;
use crate::limits::{ITEMS_PER_MESSAGE_MAX, SYMBOLS_MAX, SYMBOLS_PER_MESSAGE_MAX};
use crate::riblt::{self, Cell};
use crate::store::Store;
use crate::sync::{self, Coded, Verdict};
use crate::topic::TopicId;
use crate::wire::{Item, Message};
use rand_chacha::rand_core::Rng as _;

/// How many cells are sent unasked: enough for some twenty differences.
const FIRST: usize = 32;

/// Cells of a peer's items, as far as they have come.
#[derive(Debug)]
pub(in crate::replica) struct Receiving {
    nonce: u64,
    cells: Vec<Cell>,
}

impl<S: Store> Replica<S> {
    pub(super) fn open_cells(&mut self, to: NodeId, topic: TopicId) {
        let nonce = self.rng.next_u64();
        self.send_cells(to, topic, nonce, 0);
    }

    /// Sends cells from `start` on: as many as went before, so that a talk takes few turns.
    pub(super) fn send_cells(&mut self, to: NodeId, topic: TopicId, nonce: u64, start: u64) {
        let sent = usize::try_from(start).unwrap_or(usize::MAX);
        if sent >= SYMBOLS_MAX {
            // Too much differs for cells to pay.
            return self.send_items(to, topic);
        }
        let count = sent
            .clamp(FIRST, SYMBOLS_PER_MESSAGE_MAX)
            .min(SYMBOLS_MAX - sent);
        let coded = Coded::of(&self.logs, topic, nonce);
        let key = sync::sum_key(topic, nonce);
        let cells = riblt::encode(&coded.symbols, &key, start, count);
        self.send(
            to,
            Message::Cells {
                topic,
                nonce,
                start,
                cells,
            },
        );
    }

    pub(super) fn on_cells(
        &mut self,
        from: NodeId,
        topic: TopicId,
        nonce: u64,
        start: u64,
        cells: Vec<Cell>,
    ) {
        let Some(peer) = self.peers.get_mut(&from) else {
            return;
        };
        let got = peer.receiving.entry(topic).or_insert(Receiving {
            nonce,
            cells: Vec::new(),
        });
        if start == 0 {
            *got = Receiving {
                nonce,
                cells: Vec::new(),
            };
        }
        if got.nonce != nonce || got.cells.len() as u64 != start {
            // Left over from a talk that another has replaced.
            return;
        }
        if got.cells.len() > SYMBOLS_MAX {
            peer.receiving.remove(&topic);
            return;
        }
        got.cells.extend(cells);
        let coded = Coded::of(&self.logs, topic, nonce);
        let found = riblt::decode(&got.cells, &coded.symbols, &sync::sum_key(topic, nonce));
        let start = got.cells.len() as u64;
        let Some(found) = found else {
            return self.send(
                from,
                Message::MoreCells {
                    topic,
                    nonce,
                    start,
                },
            );
        };
        peer.receiving.remove(&topic);
        let mut unknown = Vec::new();
        let mut told = Vec::new();
        for symbol in &found.theirs {
            let (short, height) = sync::split(*symbol);
            let ours = coded
                .logs
                .get(&short)
                .and_then(|key| Some((*key, *self.logs.get(key)?)));
            match ours {
                // Where we have more, `tell_ours` says so; nothing need be asked.
                Some((_, state)) if state.fork.is_none() && state.height > height => {}
                // The symbol says what a want needs; forks and equal heights need the whole item.
                Some((key, state)) if state.fork.is_none() && state.height < height => {
                    told.push((key, height));
                }
                _ => unknown.push(short),
            }
        }
        let wants: Vec<_> = told
            .into_iter()
            .filter_map(|(key, height)| self.want(from, key, height))
            .collect();
        self.ask(from, topic, wants);
        for hashes in unknown.chunks(ITEMS_PER_MESSAGE_MAX) {
            self.send(
                from,
                Message::WantItems {
                    topic,
                    nonce,
                    hashes: hashes.to_vec(),
                },
            );
        }
        self.tell_ours(from, topic, &coded, &found);
    }

    /// Tells the sender of cells about logs that it lacks or has less of.
    fn tell_ours(&mut self, to: NodeId, topic: TopicId, coded: &Coded, found: &riblt::Difference) {
        let theirs: std::collections::BTreeMap<u64, u64> = found
            .theirs
            .iter()
            .map(|symbol| sync::split(*symbol))
            .collect();
        let items: Vec<Item> = found
            .ours
            .iter()
            .map(|symbol| sync::split(*symbol))
            .filter(|(short, height)| theirs.get(short).is_none_or(|their| their < height))
            .filter_map(|(short, _)| coded.logs.get(&short))
            .filter_map(|key| Some(sync::item(key, self.logs.get(key)?)))
            .collect();
        self.tell(to, topic, items, Vec::new());
    }

    pub(super) fn on_want_items(
        &mut self,
        from: NodeId,
        topic: TopicId,
        nonce: u64,
        hashes: &[u64],
    ) {
        let coded = Coded::of(&self.logs, topic, nonce);
        let items: Vec<Item> = hashes
            .iter()
            .filter_map(|short| coded.logs.get(short))
            .filter_map(|key| Some(sync::item(key, self.logs.get(key)?)))
            .filter(|item| sync::compare(None, item) != Verdict::Equal)
            .collect();
        self.tell(from, topic, items, Vec::new());
    }
}

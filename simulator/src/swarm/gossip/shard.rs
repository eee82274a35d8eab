//! The state of a range of agents, a column for each thing.
//!
//! Per agent: four bytes for each link, four for which of them are in the mesh, eight for who may not
//! come back to it yet, eight for the message it judges; and for each word of 64 messages eight for
//! which it has, eight for what it asked for and eight for each heartbeat that it still offers some of.
//!
//! Not here: what is done with it (`gossip`, `heart`).

use super::Gossip;
use crate::swarm::column::Column;
use crate::swarm::event::Event;
use crate::swarm::graph::Shape;
use crate::swarm::tally::Tally;
use bytemuck::{Pod, Zeroable};
use std::collections::BTreeMap;

/// Heartbeats for which a message is offered (`history_gossip`).
pub(super) const OFFERED: usize = 3;

const NO_LINK: u32 = u32::MAX;
const REVERSE_BITS: u32 = 5;

/// Agents of one thread.
pub struct Shard {
    first: u32,
    links_each: usize,
    words: usize,
    links: Column<u32>,
    pub(super) meshes: Column<u32>,
    /// Links that were put out of the mesh in this minute and in the one before.
    pub(super) backoff: Column<[u32; 2]>,
    seen: Column<u64>,
    offered: Column<[u64; OFFERED]>,
    wanted: Column<u64>,
    judging: Column<Judging>,
    /// What an agent judges beside the first, by agent and message.
    more: BTreeMap<(u32, u32), u32>,
    /// Room to note agents that do not have a message.
    without: Vec<u32>,
    /// What was counted.
    pub tally: Tally,
}

/// A message that the application judges, and over which links it came or was said to be known; no
/// message if that is none, for whoever has one has it over a link.
#[derive(Clone, Copy, Default, Pod, Zeroable)]
#[repr(C)]
struct Judging {
    message: u32,
    known: u32,
}

impl Shard {
    /// Agents from `first` up to but not including `until`, linked and in the meshes that a run begins
    /// with.
    pub fn new(model: &Gossip, first: u32, until: u32) -> Self {
        let (count, each) = ((until - first) as usize, usize::from(model.links));
        let mut links = Column::<u32>::zeroed(count * each);
        let mut meshes = Column::<u32>::zeroed(count);
        let mut found = Vec::new();
        let rows = links.chunks_exact_mut(each).zip(meshes.iter_mut());
        for (agent, (row, mesh)) in (first..until).zip(rows) {
            model.graph.links(agent, &mut found);
            for (slot, link) in found.iter().enumerate() {
                row[slot] = NO_LINK;
                if let Some(link) = link {
                    row[slot] = link.peer << REVERSE_BITS | u32::from(link.reverse);
                    *mesh |= u32::from(model.begins_in_mesh(agent, slot as u8, link.peer)) << slot;
                }
            }
        }
        // Bridges that stand in announce too.
        let gossips = model.mesh.heartbeat > 0 || model.shape == Shape::Regional;
        let (beating, words) = (count * usize::from(gossips), model.words);
        Self {
            first,
            links_each: each,
            words,
            links,
            meshes,
            backoff: Column::zeroed(beating),
            seen: Column::zeroed(count * words),
            offered: Column::zeroed(beating * words),
            wanted: Column::zeroed(beating * words),
            judging: Column::zeroed(count * usize::from(model.mesh.validate > 0)),
            more: BTreeMap::new(),
            without: Vec::new(),
            tally: Tally::new(model.geography.regions(), model.messages.len()),
        }
    }

    /// Whether an agent is one of these.
    pub fn has_agent(&self, agent: u32) -> bool {
        self.agents().contains(&agent)
    }

    /// All of them.
    pub fn agents(&self) -> std::ops::Range<u32> {
        self.first..self.first + self.meshes.len() as u32
    }

    /// The bytes that its columns take.
    pub fn bytes(&self) -> usize {
        let small = self.links.bytes() + self.meshes.bytes() + self.backoff.bytes();
        let large = self.seen.bytes() + self.offered.bytes() + self.wanted.bytes();
        small + large + self.judging.bytes()
    }

    #[inline]
    pub(super) fn place(&self, agent: u32) -> usize {
        (agent - self.first) as usize
    }

    #[inline]
    pub(super) fn link(&self, agent: u32, slot: u8) -> Option<(u32, u8)> {
        let link = self.links[self.place(agent) * self.links_each + usize::from(slot)];
        let reverse = link as u8 & ((1 << REVERSE_BITS) - 1);
        (link != NO_LINK).then_some((link >> REVERSE_BITS, reverse))
    }

    /// Which links lead somewhere.
    pub(super) fn linked(&self, agent: u32) -> u32 {
        let first = self.place(agent) * self.links_each;
        let links = &self.links[first..first + self.links_each];
        let bit = |(slot, link): (usize, &u32)| u32::from(*link != NO_LINK) << slot;
        links.iter().enumerate().map(bit).sum()
    }

    /// The links in an agent's mesh.
    #[inline]
    pub(super) fn mesh(&self, agent: u32) -> Slots {
        Slots(self.meshes[self.place(agent)])
    }

    #[inline]
    fn bit(&self, agent: u32, message: u32) -> (usize, u64) {
        let bit = message as usize % (64 * self.words);
        (self.place(agent) * self.words + bit / 64, 1 << (bit % 64))
    }

    /// Reads what these arrivals will need: whether the agents have the messages, and of those who do
    /// not the links. No read depends on another, and no branch on what was read.
    pub(super) fn glance(&mut self, events: &[Event]) -> u64 {
        let mut without = std::mem::take(&mut self.without);
        without.resize(events.len() + 1, 0);
        let mut count = 0;
        for event in events {
            let (word, bit) = self.bit(event.agent(), event.message());
            without[count] = event.agent();
            count += usize::from(self.seen[word] & bit == 0);
        }
        let mut read = 0;
        for agent in &without[..count] {
            let place = self.place(*agent);
            let first = place * self.links_each;
            let last = first + self.links_each - 1;
            read ^= self.meshes[place] ^ self.links[first] ^ self.links[last];
        }
        self.without = without;
        read.into()
    }

    /// The agent has a message from now on. True if it did not have it.
    #[inline]
    pub(super) fn learns(&mut self, agent: u32, message: u32) -> bool {
        let (word, bit) = self.bit(agent, message);
        let is_new = self.seen[word] & bit == 0;
        self.seen[word] |= bit;
        is_new
    }

    pub(super) fn has(&self, agent: u32, message: u32) -> bool {
        let (word, bit) = self.bit(agent, message);
        self.seen[word] & bit != 0
    }

    /// It offers the message from now on, for some heartbeats.
    #[inline]
    pub(super) fn offers(&mut self, agent: u32, message: u32) {
        if !self.offered.is_empty() {
            let (word, bit) = self.bit(agent, message);
            self.offered[word][0] |= bit;
        }
    }

    /// It asks for a message. True if it has not asked already.
    pub(super) fn wants(&mut self, agent: u32, message: u32) -> bool {
        let (word, bit) = self.bit(agent, message);
        let is_new = self.wanted[word] & bit == 0;
        self.wanted[word] |= bit;
        is_new
    }

    /// The application judges a message that came over `slot`.
    #[inline]
    pub(super) fn waits(&mut self, agent: u32, message: u32, slot: u8) {
        let known = self.more.remove(&(agent, message)).unwrap_or(0) | 1 << slot;
        let place = self.place(agent);
        let first = &mut self.judging[place];
        match first.known {
            0 => *first = Judging { message, known },
            _ => {
                self.more.insert((agent, message), known);
            }
        }
    }

    /// The peer at `slot` has a message, which the agent may be about to send it. True if it was.
    #[inline]
    pub(super) fn is_known_to(&mut self, agent: u32, message: u32, slot: u8) -> bool {
        let place = self.place(agent);
        let Some(first) = self.judging.get_mut(place) else {
            return false;
        };
        if first.known != 0 && first.message == message {
            first.known |= 1 << slot;
            return true;
        }
        if let Some(known) = self.more.get_mut(&(agent, message)) {
            *known |= 1 << slot;
            return true;
        }
        false
    }

    /// The application has judged a message. Over which links it is known.
    pub(super) fn judged(&mut self, agent: u32, message: u32) -> u32 {
        let place = self.place(agent);
        let first = &mut self.judging[place];
        if first.known != 0 && first.message == message {
            return std::mem::take(first).known;
        }
        self.more.remove(&(agent, message)).unwrap_or(0)
    }

    /// A heartbeat: forgets messages that are not `alive`, and takes what is offered in word `word`.
    pub(super) fn turns(&mut self, agent: u32, word: usize, alive: u64, ask_anew: bool) -> u64 {
        let place = self.place(agent) * self.words + word;
        self.seen[place] &= alive;
        if ask_anew {
            self.wanted[place] = 0;
        }
        let offered = self.offered[place].iter().fold(0, |all, some| all | some);
        self.offered[place].rotate_right(1);
        self.offered[place][0] = 0;
        offered & alive
    }
}

/// Links, one after the other.
#[derive(Clone, Copy)]
pub(super) struct Slots(pub(super) u32);

impl Iterator for Slots {
    type Item = u8;

    #[inline]
    fn next(&mut self) -> Option<u8> {
        let slot = self.0.trailing_zeros() as u8;
        self.0 &= self.0.wrapping_sub(1);
        (slot < 32).then_some(slot)
    }
}

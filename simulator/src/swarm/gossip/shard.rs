//! The state of a range of agents, a column for each thing.
//!
//! Per agent: four bytes for each link, four for which of them are in the mesh, eight for who may not
//! come back to it yet, eight for the message it judges; and for each word of eight messages one for
//! which it has, one for what it asked for and one for each heartbeat that it still offers some of.
//!
//! Not here: what is done with it (`gossip`, `heart`).

use super::Gossip;
use super::churn::{AWAY, FRESH, moment};
use crate::swarm::column::Column;
use crate::swarm::event::{Event, SLOTS_MAX};
use crate::swarm::graph::{Link, Shape};
use crate::swarm::replicas::Replicas;
use crate::swarm::tally::Tally;
use bytemuck::{Pod, Zeroable};
use std::collections::BTreeMap;

/// Heartbeats for which a message is offered (`history_gossip`): as many as the product's.
pub(super) const OFFERED: usize = 4;

/// Messages of one word: few, for most swarms have few at a time, and what is small stays in the cache.
pub(super) const WORD: u32 = u8::BITS;

const NO_LINK: u32 = u32::MAX;
const REVERSE_BITS: u32 = 5;

/// Agents of one thread.
pub struct Shard {
    first: u32,
    links_each: usize,
    words: usize,
    /// Bits of all words, less one: a message's bit are these of its number.
    bits: u32,
    links: Column<u32>,
    pub(super) meshes: Column<u32>,
    /// Links that were put out of the mesh in this minute and in the one before.
    pub(super) backoff: Column<[u32; 2]>,
    seen: Column<u8>,
    offered: Column<[u8; OFFERED]>,
    wanted: Column<u8>,
    judging: Column<Judging>,
    /// Since when each is here, in milliseconds; empty if all are always.
    pub(super) since: Column<u32>,
    /// Links whose other end is away, as far as it was noticed.
    pub(super) down: Column<u32>,
    pub(super) pace: Column<Pace>,
    /// Bad messages that came over each link; empty if nobody spams.
    pub(super) strikes: Column<[u8; SLOTS_MAX]>,
    /// Until when each is busy sending, in microseconds; empty if nobody ever is.
    pub(super) uplink: Column<u64>,
    /// What an agent judges beside the first, by agent and message.
    more: BTreeMap<(u32, u32), u32>,
    /// Room to note agents that do not have a message.
    without: Vec<u32>,
    /// The replicas of all agents, in the full tier.
    pub(super) replicas: Option<Box<Replicas>>,
    /// What was counted.
    pub tally: Tally,
}

/// A message that the application judges or has yet to get, and over which links it came or was said to
/// be known; no message if that is none, for whoever has one has it over a link.
#[derive(Clone, Copy, Default, Pod, Zeroable)]
#[repr(C)]
struct Judging {
    message: u32,
    known: u32,
}

/// What an agent heard over its links in this span.
#[derive(Clone, Copy, Default, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Pace {
    /// Links that brought something.
    pub(super) spoke: u32,
    /// Links that were in the mesh when the span began.
    pub(super) stood: u32,
    /// Arrivals.
    pub(super) heard: u32,
}

impl Shard {
    /// Agents from `first` up to but not including `until`, linked; their meshes are empty.
    pub fn new(model: &Gossip, first: u32, until: u32) -> Self {
        let (count, each) = ((until - first) as usize, usize::from(model.links));
        let mut links = Column::<u32>::zeroed(count * each);
        let mut found = Vec::new();
        for (agent, row) in (first..until).zip(links.chunks_exact_mut(each)) {
            model.graph.links(agent, &mut found);
            for (place, link) in row.iter_mut().zip(&found) {
                let joined = |link: &Link| link.peer << REVERSE_BITS | u32::from(link.reverse);
                *place = link.as_ref().map_or(NO_LINK, joined);
            }
        }
        // Bridges that stand in announce too.
        let gossips = model.mesh.heartbeat > 0 || model.shape == Shape::Regional;
        let (beating, words) = (count * usize::from(gossips), model.words);
        Self {
            first,
            links_each: each,
            words,
            bits: WORD * words as u32 - 1,
            links,
            meshes: Column::zeroed(count),
            backoff: Column::zeroed(beating),
            seen: Column::zeroed(count * words),
            offered: Column::zeroed(beating * words),
            wanted: Column::zeroed(beating * words),
            judging: Column::zeroed(count * usize::from(model.mesh.validate > 0 || model.minded)),
            since: Column::zeroed(count * usize::from(model.churn.is_some())),
            down: Column::zeroed(count * usize::from(model.churn.is_some())),
            pace: Column::zeroed(count * usize::from(model.mesh.scores)),
            strikes: Column::zeroed(
                count * usize::from(model.mesh.scores && model.harm.spammers > 0),
            ),
            uplink: Column::zeroed(count * usize::from(model.uplink > 0)),
            more: BTreeMap::new(),
            without: Vec::new(),
            replicas: None,
            tally: Tally::new(model.geography.regions(), model.messages.len()),
        }
    }

    /// Gives all agents minds of their own.
    pub fn minded(&mut self, replicas: Replicas) {
        self.replicas = Some(Box::new(replicas));
    }

    /// An agent that is away is not woken.
    pub(super) fn sleeps(&mut self, agent: u32) {
        if let Some(replicas) = self.replicas.as_deref_mut() {
            replicas.sleeps(agent);
        }
    }

    /// The replicas of its agents, in the full tier.
    pub fn replicas(&self) -> Option<&Replicas> {
        self.replicas.as_deref()
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
        let seldom = self.strikes.bytes()
            + self.since.bytes()
            + self.down.bytes()
            + self.pace.bytes()
            + self.uplink.bytes();
        small + large + self.judging.bytes() + seldom
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

    /// Whether an agent is away.
    #[inline]
    pub(super) fn is_away(&self, agent: u32) -> bool {
        let since = self.since.get(self.place(agent));
        since.is_some_and(|since| *since == AWAY)
    }

    /// Whether it was away at a time, or came back after it.
    #[inline]
    pub(super) fn came_after(&self, agent: u32, at: u64) -> bool {
        let since = self.since.get(self.place(agent));
        since.is_some_and(|since| since & !FRESH > moment(at))
    }

    /// One that had been away has something that it missed.
    pub(super) fn catches_up(&mut self, agent: u32, at: u64) {
        let since = self.since[self.place(agent)] & !FRESH;
        let millis = u64::from(moment(at).saturating_sub(since));
        self.tally.catches_up(millis);
    }

    /// Something came over a link.
    #[inline]
    pub(super) fn hears(&mut self, agent: u32, slot: u8) {
        let place = self.place(agent);
        if let Some(pace) = self.pace.get_mut(place) {
            pace.spoke |= 1 << slot;
            pace.heard += 1;
        }
    }

    /// Which links lead to somebody who is here.
    pub(super) fn linked(&self, agent: u32) -> u32 {
        let down = self.down.get(self.place(agent)).copied().unwrap_or(0);
        let first = self.place(agent) * self.links_each;
        let links = &self.links[first..first + self.links_each];
        let bit = |(slot, link): (usize, &u32)| u32::from(*link != NO_LINK) << slot;
        links.iter().enumerate().map(bit).sum::<u32>() & !down
    }

    /// The links in an agent's mesh.
    #[inline]
    pub(super) fn mesh(&self, agent: u32) -> Slots {
        Slots(self.meshes[self.place(agent)])
    }

    #[inline]
    fn bit(&self, agent: u32, message: u32) -> (usize, u8) {
        let bit = message & self.bits;
        let word = self.place(agent) * self.words + (bit / WORD) as usize;
        (word, 1 << (bit % WORD))
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
        let place = self.place(agent);
        let (first, known) = (&mut self.judging[place], 1 << slot);
        if first.known == 0 || first.message == message {
            let early = first.known | self.more.remove(&(agent, message)).unwrap_or(0);
            *first = Judging {
                message,
                known: early | known,
            };
        } else {
            *self.more.entry((agent, message)).or_insert(0) |= known;
        }
    }

    /// The peer at `slot` says that it has a message, before or after the agent has it. True if that
    /// may still save a copy.
    pub(super) fn is_unwanted_by(&mut self, agent: u32, message: u32, slot: u8) -> bool {
        let early = !self.judging.is_empty() && !self.has(agent, message);
        if early {
            self.waits(agent, message, slot);
        }
        early || self.is_known_to(agent, message, slot)
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

    /// Over which link a message came that the application judges.
    pub(super) fn came_over(&self, agent: u32, message: u32) -> Option<u8> {
        let first = self.judging.get(self.place(agent))?;
        let known = match first.known != 0 && first.message == message {
            true => first.known,
            false => *self.more.get(&(agent, message))?,
        };
        Some(known.trailing_zeros() as u8)
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
    pub(super) fn turns(&mut self, agent: u32, word: usize, alive: u8, ask_anew: bool) -> u8 {
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

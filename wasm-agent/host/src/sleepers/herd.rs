//! The herd: what a node holds of its agents, as the journal says it.
//!
//! Not here: when anything is written down (`sleepers`).

use super::frame::Frame;
use super::inside::{Kept, Used};
use super::{HostFailure, Owed};
use crate::abi::{Cause, Wakeup};
use crate::desk::{Effect, Quiet};
use crate::engine::Engine;
use crate::manifest::Granted;
use crate::profile::Profile;
use crate::wake::Agent;
use minicbor::bytes::ByteVec;
use smallvec::SmallVec;
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

/// Ids of inputs that are remembered, so that none is taken on twice.
const RECENT: usize = 65_536;

/// The number of inputs that nobody will ask for again.
pub(super) const NEVER: u64 = u64::MAX;

/// Ids in one frame.
pub(super) const IDS: usize = 1_024;

/// So many agents are tried before all go on with another module.
const TRIED: u32 = 1_000;

/// All agents of a node, and what is on its way to and from them.
#[derive(Default)]
pub(super) struct Herd {
    pub(super) kinds: Vec<Kind>,
    pub(super) slots: Vec<Slot>,
    /// Inputs that were taken on and are not handled, by number.
    pub(super) inbox: BTreeMap<u64, Input>,
    pub(super) next: u64,
    pub(super) recent: Recent,
    pub(super) timers: BTreeSet<(u64, u32)>,
    /// What is to be done, by agent and step.
    pub(super) owed: BTreeMap<(u32, u32), Due>,
}

/// What a step is to do.
pub(super) struct Due {
    /// The id of the input it was taken on.
    pub(super) input: [u8; 16],
    /// The time of that.
    pub(super) stamp: u64,
    pub(super) effects: Vec<Effect>,
}

/// Agents of one manifest.
pub(super) struct Kind {
    pub(super) granted: Granted,
    pub(super) agent: Agent,
    pub(super) module: Vec<u8>,
    pub(super) first: u32,
    pub(super) copies: u32,
    /// They do not live here any more.
    pub(super) ended: bool,
    /// They are woken elsewhere.
    pub(super) rests: bool,
}

/// What a manifest and a module come to on an engine.
pub(super) fn ready(
    (manifest, module): (&[u8], &[u8]),
    now: u64,
    engine: &dyn Engine,
) -> Result<(Granted, Agent), HostFailure> {
    let profile = Profile::of(module)?;
    let granted = Granted::open(manifest, &profile.hash, now)?;
    let agent = Agent {
        id: [0; 32],
        manifest: Arc::new(granted.manifest.clone()),
        loaded: engine.load(module, &profile)?,
    };
    Ok((granted, agent))
}

/// The bytes of a state. Most are so few that they lie with the rest of the agent: to look elsewhere in a
/// million of them costs more than to copy them.
pub(super) type State = SmallVec<[u8; 40]>;

/// An agent asleep.
#[derive(Default)]
pub(super) struct Slot {
    pub(super) state: State,
    pub(super) seq: u32,
    /// In milliseconds since 1970; never if 0.
    pub(super) wake_at: u64,
    /// In the last minute in which it was awake.
    pub(super) used: Used,
    /// Its own values, if it has any.
    pub(super) kept: Option<Arc<Kept>>,
}

impl Slot {
    /// Its own values, as they are written down.
    pub(super) fn values(&self) -> Vec<(ByteVec, ByteVec)> {
        let kept = self.kept.iter().flat_map(|kept| kept.iter());
        kept.map(|(key, value)| (key.clone().into(), value.clone().into()))
            .collect()
    }
}

/// An input and whose it is.
pub(super) struct Input {
    pub(super) id: [u8; 16],
    pub(super) agent: u32,
    pub(super) wakeup: Wakeup,
    /// Whether the journal has it.
    pub(super) written: bool,
}

impl Input {
    /// What the journal says of it.
    pub(super) fn delivered(&self, number: u64) -> Frame<'static> {
        Frame::Delivered {
            number,
            agent: self.agent,
            id: self.id.into(),
            wakeup: self.wakeup.to_bytes().into(),
        }
    }
}

/// The ids of the last inputs, and their numbers.
#[derive(Default)]
pub(super) struct Recent {
    all: HashMap<[u8; 16], u64>,
    pub(super) order: VecDeque<[u8; 16]>,
}

impl Recent {
    /// False if it is known: then it keeps the number that it has.
    pub(super) fn insert(&mut self, id: [u8; 16], number: u64) -> bool {
        let Entry::Vacant(place) = self.all.entry(id) else {
            return false;
        };
        place.insert(number);
        self.order.push_back(id);
        if self.order.len() > RECENT {
            let oldest = self.order.pop_front();
            oldest.map(|oldest| self.all.remove(&oldest));
        }
        true
    }
}

impl Herd {
    pub(super) fn settle(
        &mut self,
        (manifest, module): (&[u8], &[u8]),
        copies: u32,
        now: u64,
        engine: &dyn Engine,
    ) -> Result<u32, HostFailure> {
        let (granted, agent) = ready((manifest, module), now, engine)?;
        let first = self.slots.len() as u32;
        let count = first
            .checked_add(copies)
            .ok_or(HostFailure::Many { copies })?;
        self.slots.resize_with(count as usize, Slot::default);
        self.kinds.push(Kind {
            granted,
            agent,
            module: module.to_vec(),
            first,
            copies,
            ended: false,
            rests: false,
        });
        Ok(first)
    }

    /// Agents of the kind that begins at `first` do not live here any more. What their steps said is to
    /// be done still is.
    pub(super) fn stop(&mut self, first: u32) -> Result<(), HostFailure> {
        let kind = self.kind_mut(first)?;
        kind.ended = true;
        self.empties(first)
    }

    /// Forgets all that is known of the agents of a kind, but what their steps said is to be done.
    fn empties(&mut self, first: u32) -> Result<(), HostFailure> {
        let mut kinds = self.kinds.iter();
        let kind = kinds.find(|kind| kind.first == first);
        let kind = kind.ok_or(HostFailure::Nobody { agent: first })?;
        let agents = kind.first..kind.first + kind.copies;
        for agent in agents.clone() {
            let slot = std::mem::take(&mut self.slots[agent as usize]);
            self.timers.remove(&(slot.wake_at, agent));
        }
        self.inbox.retain(|_, input| !agents.contains(&input.agent));
        Ok(())
    }

    /// Forgets all that is known of the agents of a kind: they are as they are elsewhere.
    pub(super) fn forgets(&mut self, first: u32) -> Result<(), HostFailure> {
        self.empties(first)?;
        let agents = self.agents_of(first)?;
        self.owed.retain(|(agent, _), _| !agents.contains(agent));
        Ok(())
    }

    /// The numbers of the agents of the kind that begins at `first`.
    pub(super) fn agents_of(&self, first: u32) -> Result<std::ops::Range<u32>, HostFailure> {
        let mut kinds = self.kinds();
        let kind = kinds.find(|kind| kind.first == first);
        let kind = kind.ok_or(HostFailure::Nobody { agent: first })?;
        Ok(kind.first..kind.first + kind.copies)
    }

    /// Another node woke an agent: the step is taken here too, without waking it.
    pub(super) fn follows(
        &mut self,
        (id, agent): ([u8; 16], u32),
        (stamp, timer): (u64, bool),
        effects: &[Effect],
        after: &[u8],
    ) {
        if timer {
            let slot = &mut self.slots[agent as usize];
            let at = std::mem::take(&mut slot.wake_at);
            self.timers.remove(&(at, agent));
        }
        if let Some(number) = self.pending((id, agent)) {
            self.inbox.remove(&number);
        }
        self.recent.insert(id, NEVER);
        self.steps((id, agent), stamp, effects, after);
    }

    /// Whether an agent is woken elsewhere.
    pub(super) fn rests(&self, agent: u32) -> bool {
        self.kind(agent).is_ok_and(|kind| kind.rests)
    }

    /// Agents of the kind that begins at `first` go on with another module, if it takes their states:
    /// each of the first [`TRIED`] is woken by a timer in a world that is quiet, and nothing of that
    /// counts but that it ends well.
    pub(super) fn upgrade(
        &mut self,
        first: u32,
        bytes: (&[u8], &[u8]),
        now: u64,
        engine: &dyn Engine,
    ) -> Result<(), HostFailure> {
        let (granted, agent) = ready(bytes, now, engine)?;
        let kind = self.kind(first)?;
        if granted.publisher != kind.granted.publisher
            || granted.manifest.name != kind.granted.manifest.name
        {
            return Err(HostFailure::Stranger);
        }
        for number in first..first + kind.copies.min(TRIED) {
            let slot = &self.slots[number as usize];
            let one = Agent {
                id: self.id(number)?,
                ..agent.clone()
            };
            let wakeup = Wakeup {
                cause: Cause::Timer,
                from: None,
                topic: String::new(),
                stamp: now,
                body: Vec::new(),
            };
            one.wake(
                slot.seq.into(),
                slot.state.to_vec(),
                wakeup,
                Box::new(Quiet),
            )
            .map_err(|why| HostFailure::Upgrade { agent: number, why })?;
        }
        let kind = self.kind_mut(first)?;
        (kind.granted, kind.agent, kind.module) = (granted, agent, bytes.1.to_vec());
        Ok(())
    }

    pub(super) fn kind_mut(&mut self, first: u32) -> Result<&mut Kind, HostFailure> {
        let mut kinds = self.kinds.iter_mut();
        let found = kinds.find(|kind| kind.first == first && !kind.ended);
        found.ok_or(HostFailure::Nobody { agent: first })
    }

    /// All kinds that live here.
    pub(super) fn kinds(&self) -> impl Iterator<Item = &Kind> {
        self.kinds.iter().filter(|kind| !kind.ended)
    }

    pub(super) fn kind(&self, agent: u32) -> Result<&Kind, HostFailure> {
        let after = self.kinds.partition_point(|kind| kind.first <= agent);
        let kind = self.kinds[..after].last();
        kind.filter(|kind| agent - kind.first < kind.copies && !kind.ended)
            .ok_or(HostFailure::Nobody { agent })
    }

    pub(super) fn id(&self, agent: u32) -> Result<[u8; 32], HostFailure> {
        let kind = self.kind(agent)?;
        Ok(kind.granted.agent(agent - kind.first))
    }

    /// An agent, ready to be woken.
    ///
    /// # Panics
    /// If there is none.
    pub(super) fn agent(&self, agent: u32) -> Agent {
        let kind = self.kind(agent).expect("it lives here");
        Agent {
            id: kind.granted.agent(agent - kind.first),
            ..kind.agent.clone()
        }
    }

    /// The number of an input that was taken on and is not handled, if there is one with this id.
    pub(super) fn pending(&self, (id, agent): ([u8; 16], u32)) -> Option<u64> {
        let is = |input: &Input| input.id == id && input.agent == agent;
        let number = self.recent.all.get(&id).copied();
        let recent = number.filter(|number| self.inbox.get(number).is_some_and(is));
        // Nobody remembers the ids of so many.
        let walked = || self.inbox.iter().find(|(_, input)| is(input));
        let old = || walked().map(|(number, _)| *number);
        recent.or_else(|| (self.inbox.len() > RECENT).then(old).flatten())
    }

    /// The number of an input with this id. `None` if it was taken on before.
    pub(super) fn number(&mut self, id: [u8; 16]) -> Option<u64> {
        let number = self.next;
        let is_new = self.recent.insert(id, number);
        self.next += u64::from(is_new);
        is_new.then_some(number)
    }

    /// The number of an input with this id, though it may be known.
    pub(super) fn number_again(&mut self, id: [u8; 16]) -> u64 {
        let number = self.next;
        self.next += 1;
        if !self.recent.insert(id, number) {
            self.recent.all.insert(id, number);
        }
        number
    }

    pub(super) fn take_on(&mut self, number: u64, input: Input) {
        if input.wakeup.cause == Cause::Timer {
            let slot = &mut self.slots[input.agent as usize];
            let at = std::mem::take(&mut slot.wake_at);
            self.timers.remove(&(at, input.agent));
        }
        self.inbox.insert(number, input);
    }

    pub(super) fn next_timer(&self) -> Option<u64> {
        let mut timers = self.timers.iter();
        let next = timers.find(|(_, agent)| !self.rests(*agent));
        next.map(|(at, _)| *at)
    }

    /// Timers that are due at `now`.
    pub(super) fn due(&self, now: u64) -> Vec<(u64, u32)> {
        let due = self.timers.range(..=(now, u32::MAX)).copied();
        due.filter(|(_, agent)| !self.rests(*agent)).collect()
    }

    /// An agent has taken a step. True if something is to be done for it.
    pub(super) fn steps(
        &mut self,
        (input, agent): ([u8; 16], u32),
        stamp: u64,
        effects: &[Effect],
        after: &[u8],
    ) -> bool {
        let slot = &mut self.slots[agent as usize];
        if *slot.state != *after {
            slot.state = State::from_slice(after);
        }
        let seq = slot.seq;
        slot.seq += 1;
        let mut outward = Vec::new();
        for effect in effects {
            match effect {
                Effect::Keep { key, value } => {
                    let kept = Arc::make_mut(slot.kept.get_or_insert_default());
                    match value.is_empty() {
                        true => kept.remove(key),
                        false => kept.insert(key.clone(), value.clone()),
                    };
                }
                Effect::Wake { after } => {
                    let at = stamp.saturating_add((*after).into()).max(1);
                    self.timers.remove(&(slot.wake_at, agent));
                    self.timers.insert((at, agent));
                    slot.wake_at = at;
                }
                _ => outward.push(effect.clone()),
            }
        }
        let has = !outward.is_empty();
        if has {
            let effects = outward;
            let due = Due {
                input,
                stamp,
                effects,
            };
            self.owed.insert((agent, seq), due);
        }
        has
    }

    pub(super) fn owes(&self, (agent, seq): (u32, u32)) -> Option<Owed> {
        let due = self.owed.get(&(agent, seq))?;
        let after = self.kinds.partition_point(|kind| kind.first <= agent);
        let kind = self.kinds[..after].last()?;
        Some(Owed {
            agent,
            id: kind.granted.agent(agent - kind.first),
            seq,
            input: due.input,
            stamp: due.stamp,
            effects: due.effects.clone(),
        })
    }
}

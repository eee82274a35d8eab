//! The herd: what a node holds of its agents, as the journal says it.
//!
//! Not here: when anything is written down (`sleepers`).

use super::frame::Frame;
use super::inside::Kept;
use super::{HostFailure, Owed};
use crate::abi::{Cause, Wakeup};
use crate::desk::Effect;
use crate::engine::Engine;
use crate::manifest::Granted;
use crate::profile::Profile;
use crate::wake::Agent;
use aquifer_protocol::identity::digest;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// Ids of inputs that are remembered, so that none is taken on twice.
const RECENT: usize = 65_536;

/// Ids in one frame.
const IDS: usize = 1_024;

/// All agents of a node, and what is on its way to and from them.
#[derive(Default)]
pub(super) struct Herd {
    kinds: Vec<Kind>,
    pub(super) slots: Vec<Slot>,
    pub(super) kept: BTreeMap<u32, Arc<Kept>>,
    /// Inputs that were taken on and are not handled, by number.
    pub(super) inbox: BTreeMap<u64, Input>,
    next: u64,
    recent: Recent,
    timers: BTreeSet<(u64, u32)>,
    /// What is to be done, by agent and step, and since when.
    pub(super) owed: BTreeMap<(u32, u32), (u64, Vec<Effect>)>,
}

/// Agents of one manifest.
pub(super) struct Kind {
    pub(super) granted: Granted,
    agent: Agent,
    module: Vec<u8>,
    first: u32,
    copies: u32,
}

/// An agent asleep.
#[derive(Default)]
pub(super) struct Slot {
    pub(super) state: Box<[u8]>,
    pub(super) seq: u32,
    /// In milliseconds since 1970; never if 0.
    wake_at: u64,
}

/// An input and whose it is.
pub(super) struct Input {
    pub(super) agent: u32,
    pub(super) wakeup: Wakeup,
}

/// The ids of the last inputs.
#[derive(Default)]
struct Recent {
    all: BTreeSet<[u8; 16]>,
    order: VecDeque<[u8; 16]>,
}

impl Recent {
    /// False if it is known.
    fn insert(&mut self, id: [u8; 16]) -> bool {
        let is_new = self.all.insert(id);
        if is_new {
            self.order.push_back(id);
            if self.order.len() > RECENT {
                let oldest = self.order.pop_front();
                oldest.map(|oldest| self.all.remove(&oldest));
            }
        }
        is_new
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
        let profile = Profile::of(module)?;
        let granted = Granted::open(manifest, &profile.hash, now)?;
        let agent = Agent {
            id: [0; 32],
            manifest: Arc::new(granted.manifest.clone()),
            loaded: engine.load(module, &profile)?,
        };
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
        });
        Ok(first)
    }

    pub(super) fn kind(&self, agent: u32) -> Result<&Kind, HostFailure> {
        let after = self.kinds.partition_point(|kind| kind.first <= agent);
        let kind = self.kinds[..after].last();
        kind.filter(|kind| agent - kind.first < kind.copies)
            .ok_or(HostFailure::Nobody { agent })
    }

    pub(super) fn id(&self, agent: u32) -> Result<[u8; 32], HostFailure> {
        let kind = self.kind(agent)?;
        let copy = (agent - kind.first).to_be_bytes();
        Ok(digest("aquifer/agent/1", &[kind.granted.as_bytes(), &copy]))
    }

    /// An agent, ready to be woken.
    ///
    /// # Panics
    /// If there is none.
    pub(super) fn agent(&self, agent: u32) -> Agent {
        let kind = self.kind(agent).expect("it lives here");
        Agent {
            id: self.id(agent).expect("it lives here"),
            ..kind.agent.clone()
        }
    }

    /// The number of an input with this id. `None` if it was taken on before.
    pub(super) fn number(&mut self, id: [u8; 16]) -> Option<u64> {
        let number = self.next;
        let is_new = self.recent.insert(id);
        self.next += u64::from(is_new);
        is_new.then_some(number)
    }

    pub(super) fn take_on(&mut self, number: u64, input: Input) {
        if input.wakeup.cause == Cause::Timer {
            let slot = &mut self.slots[input.agent as usize];
            let at = std::mem::take(&mut slot.wake_at);
            self.timers.remove(&(at, input.agent));
        }
        self.inbox.insert(number, input);
    }

    /// Timers that are due at `now`.
    pub(super) fn due(&self, now: u64) -> Vec<(u64, u32)> {
        self.timers.range(..=(now, u32::MAX)).copied().collect()
    }

    /// An agent has taken a step. True if something is to be done for it.
    pub(super) fn steps(
        &mut self,
        agent: u32,
        stamp: u64,
        effects: &[Effect],
        after: &[u8],
    ) -> bool {
        let slot = &mut self.slots[agent as usize];
        if *slot.state != *after {
            slot.state = after.into();
        }
        let seq = slot.seq;
        slot.seq += 1;
        let mut outward = Vec::new();
        for effect in effects {
            match effect {
                Effect::Keep { key, value } => {
                    let kept = Arc::make_mut(self.kept.entry(agent).or_default());
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
            self.owed.insert((agent, seq), (stamp, outward));
        }
        has
    }

    pub(super) fn owes(&self, (agent, seq): (u32, u32)) -> Option<Owed> {
        let (stamp, effects) = self.owed.get(&(agent, seq))?.clone();
        Some(Owed {
            agent,
            id: self.id(agent).ok()?,
            seq,
            stamp,
            effects,
        })
    }

    /// What a frame of the journal says, once more.
    pub(super) fn replay(
        &mut self,
        payload: &[u8],
        engine: &dyn Engine,
    ) -> Result<(), HostFailure> {
        match Frame::read(payload).ok_or_else(|| nonsense("a frame that is none"))? {
            Frame::Hosted {
                manifest,
                module,
                copies,
            } => {
                // What has run out since still lives here; it is not woken.
                self.settle((&manifest, &module), copies, 0, engine)?;
            }
            Frame::Delivered {
                number,
                agent,
                id,
                wakeup,
            } => {
                self.kind(agent)?;
                id.map(|id| self.recent.insert(id.into()));
                self.next = number + 1;
                let wakeup = Wakeup::read(&wakeup).ok_or_else(|| nonsense("a bad input"))?;
                self.take_on(number, Input { agent, wakeup });
            }
            Frame::Stepped {
                number,
                effects,
                after,
                ..
            } => {
                let input = self.inbox.remove(&number);
                let Input { agent, wakeup } = input.ok_or_else(|| nonsense("a step of nothing"))?;
                self.steps(agent, wakeup.stamp, &effects, &after);
            }
            Frame::Failed { number, .. } => _ = self.inbox.remove(&number),
            Frame::Done { agent, seq } => _ = self.owed.remove(&(agent, seq)),
            Frame::Slept {
                agent,
                seq,
                wake_at,
                state,
                kept,
            } => {
                self.kind(agent)?;
                self.slots[agent as usize] = Slot {
                    state: state.to_vec().into(),
                    seq,
                    wake_at,
                };
                if wake_at > 0 {
                    self.timers.insert((wake_at, agent));
                }
                if !kept.is_empty() {
                    let kept = kept
                        .into_iter()
                        .map(|(key, value)| (key.into(), value.into()));
                    self.kept.insert(agent, Arc::new(kept.collect()));
                }
            }
            Frame::Owed {
                agent,
                seq,
                effects,
                stamp,
            } => {
                self.kind(agent)?;
                let stamp = stamp.unwrap_or_default();
                self.owed.insert((agent, seq), (stamp, effects));
            }
            Frame::Known { next, ids } => {
                self.next = next;
                ids.into_iter()
                    .for_each(|id| _ = self.recent.insert(id.into()));
            }
        }
        Ok(())
    }

    /// All that is so, in frames.
    pub(super) fn frames(&self) -> impl Iterator<Item = Frame> {
        let hosted = self.kinds.iter().map(|kind| Frame::Hosted {
            manifest: kind.granted.as_bytes().to_vec().into(),
            module: kind.module.clone().into(),
            copies: kind.copies,
        });
        let lived = (0_u32..).zip(&self.slots);
        let lived = lived.filter(|(agent, slot)| slot.seq > 0 || self.kept.contains_key(agent));
        let slept = lived.map(|(agent, slot)| {
            let kept = self.kept.get(&agent).map(|kept| kept.iter());
            let pair =
                |(key, value): (&Vec<u8>, &Vec<u8>)| (key.clone().into(), value.clone().into());
            Frame::Slept {
                agent,
                seq: slot.seq,
                wake_at: slot.wake_at,
                state: slot.state.to_vec().into(),
                kept: kept.into_iter().flatten().map(pair).collect(),
            }
        });
        let owed = self
            .owed
            .iter()
            .map(|(place, (stamp, effects))| Frame::Owed {
                agent: place.0,
                seq: place.1,
                effects: effects.clone(),
                stamp: Some(*stamp),
            });
        // Inputs keep their numbers; their ids are among those that are known, or forgotten.
        let inbox = self.inbox.iter().map(|(number, input)| Frame::Delivered {
            number: *number,
            agent: input.agent,
            id: None,
            wakeup: input.wakeup.to_bytes().into(),
        });
        let next = self.next;
        let recent: Vec<[u8; 16]> = self.recent.order.iter().copied().collect();
        let known = (0..recent.len().div_ceil(IDS).max(1)).map(move |part| {
            let ids = recent.iter().skip(part * IDS).take(IDS);
            Frame::Known {
                next,
                ids: ids.map(|id| (*id).into()).collect(),
            }
        });
        hosted.chain(slept).chain(owed).chain(inbox).chain(known)
    }
}

fn nonsense(what: &'static str) -> HostFailure {
    HostFailure::Nonsense { what }
}

//! Waking: the next input is handled.
//!
//! Each wake is tried with little fuel first. One that needs more goes to the slow lane, and its agent is
//! busy until it comes back: its next inputs wait, and nobody else does.
//!
//! Not here: what a wake is (`crate::wake`), when anything is durable (`sleepers`).

use super::frame::Frame;
use super::inside::{Inside, Used};
use super::{Sleepers, Woken};
use crate::desk::World;
use crate::engine::Trap;
use crate::lane::{Lane, Long, QUICK};
use crate::wake::{Failed, Step};
use std::collections::BTreeMap;

/// Wakes that take long.
#[derive(Default)]
pub(super) struct Slow {
    /// None until one does.
    lane: Option<Lane>,
    /// Agents that are in it, by number, with what they have used.
    busy: BTreeMap<u32, Used>,
}

impl Sleepers {
    /// Handles the next input, in a world that `outside` makes for the agent. `None` if there is none that
    /// has come to something by now.
    pub fn wake(&mut self, outside: impl Fn(u32) -> Box<dyn World>) -> Option<Woken> {
        while let Some(ended) = self.slow.lane.as_mut().and_then(Lane::ended) {
            let woken = self.ends(ended.ticket, ended.outcome);
            if woken.is_some() {
                return woken;
            }
        }
        loop {
            let (number, used) = self.ready()?;
            let input = self.herd.inbox.get(&number).expect("it is ready");
            let (agent, wakeup) = (input.agent, input.wakeup.clone());
            let one = self.herd.agent(agent);
            let slot = &self.herd.slots[agent as usize];
            let (seq, before) = (u64::from(slot.seq), slot.state.to_vec());
            let world = self.world(agent, used, outside(agent));
            let try_it = (seq, before.clone(), wakeup.clone());
            let outcome = one.wake_within(QUICK, try_it, world);
            let out = Err(Failed::Trapped(Trap::OutOfFuel { fuel: QUICK }));
            if outcome != out || one.fuel() <= QUICK {
                self.slow.busy.insert(agent, used);
                return self.ends(number, outcome);
            }
            let long = Long {
                ticket: number,
                world: self.world(agent, used, outside(agent)),
                agent: one,
                seq,
                before,
                wakeup,
            };
            let lane = match &mut self.slow.lane {
                Some(lane) => lane,
                none => none.insert(Lane::open().ok()?),
            };
            match lane.take(long) {
                Ok(()) => _ = self.slow.busy.insert(agent, used),
                // It is full: this one is tried again when others have had their turn.
                Err(_) => self.waiting.push_back(number),
            }
        }
    }

    /// How many wakes take long just now: [`Sleepers::wake`] says what came of each.
    pub fn slow(&self) -> usize {
        self.slow.lane.as_ref().map_or(0, Lane::inside)
    }

    /// What an agent finds when it wakes.
    fn world(&self, agent: u32, used: Used, outside: Box<dyn World>) -> Box<dyn World> {
        let kept = self.herd.kept.get(&agent).cloned().unwrap_or_default();
        let bytes = |(key, value): (&Vec<u8>, &Vec<u8>)| key.len() + value.len();
        Box::new(Inside {
            manifest: self.herd.agent(agent).manifest,
            bytes_kept: kept.iter().map(bytes).sum(),
            kept,
            used,
            outside,
        })
    }

    /// An input was handled. None if meanwhile it went with its agent, or the agent followed another node.
    fn ends(&mut self, number: u64, outcome: Result<Step, Failed>) -> Option<Woken> {
        let input = self.herd.inbox.get(&number)?;
        let (id, agent) = (input.id, input.agent);
        let (cause, stamp) = (input.wakeup.cause, input.wakeup.stamp);
        let mut used = self.slow.busy.remove(&agent)?;
        let slot = &self.herd.slots[agent as usize];
        let seq = slot.seq;
        if let Ok(step) = &outcome
            && (step.seq != u64::from(seq) || step.before != *slot.state)
        {
            self.queue.push_back(number);
            return None;
        }
        self.herd.inbox.remove(&number);
        let frame = match &outcome {
            Ok(step) => Frame::Stepped {
                number,
                effects: step.effects.clone(),
                after: step.after.clone().into(),
                code: step.code,
            },
            Err(why) => Frame::Failed {
                number,
                why: why.to_string(),
            },
        };
        self.journal.append(&frame.to_bytes());
        used.adds(outcome.as_ref().map_or(&[][..], |step| &step.effects));
        self.used.insert(agent, used);
        if let Ok(step) = &outcome {
            let input = (id, agent);
            if self.herd.steps(input, stamp, &step.effects, &step.after) {
                self.fresh.insert((agent, seq));
            }
        }
        Some(Woken {
            input: id,
            cause,
            agent,
            outcome,
        })
    }

    /// The next input whose agent may wake now.
    fn ready(&mut self) -> Option<(u64, Used)> {
        while let Some(number) = self.queue.pop_front() {
            // It may have gone with its agent.
            let Some(input) = self.herd.inbox.get(&number) else {
                continue;
            };
            let used = self.used.get(&input.agent).copied().unwrap_or_default();
            let used = used.at(self.now);
            let busy = self.slow.busy.contains_key(&input.agent);
            if busy || self.herd.rests(input.agent) {
                self.waiting.push_back(number);
                continue;
            }
            let rate = self.herd.kind(input.agent).ok()?.granted.manifest.rate;
            if used.wakes < rate.wakes {
                return Some((number, used));
            }
            self.waiting.push_back(number);
        }
        None
    }
}

//! Waking: the next input is handled.
//!
//! Each wake is tried with little fuel first. One that needs more goes to the slow lane, and one that may
//! ask a model to a lane of its own, at once; its agent is busy until it comes back: its next inputs wait,
//! and nobody else does.
//!
//! Not here: what a wake is (`crate::wake`), when anything is durable (`sleepers`).

use super::frame::Frame;
use super::inside::Inside;
use super::{Sleepers, Woken};
use crate::abi::Import;
use crate::desk::World;
use crate::engine::Trap;
use crate::lane::{Ended, Lane, Long, QUICK};
use crate::wake::{Agent, Failed, Handled, Step};
use std::collections::BTreeMap;

/// Wakes that take long.
#[derive(Default)]
pub(super) struct Slow {
    /// Of those that reckon, and of those that ask a model. None until one does.
    lanes: [Option<Lane>; 2],
    /// Agents that are in them, with the number of the input.
    busy: BTreeMap<u32, u64>,
}

const RECKONS: usize = 0;
const ASKS: usize = 1;

impl Slow {
    /// A wake that has ended, if one has.
    fn ended(&mut self) -> Option<Ended> {
        self.lanes.iter_mut().flatten().find_map(Lane::ended)
    }
}

impl Sleepers {
    /// Handles the next input, in a world that `outside` makes for the agent. `None` if there is none that
    /// has come to something by now.
    pub fn wake(&mut self, outside: impl Fn(u32) -> Box<dyn World>) -> Option<Woken> {
        while let Some(ended) = self.slow.ended() {
            let woken = self.comes_back(ended);
            if woken.is_some() {
                return woken;
            }
        }
        loop {
            let number = self.ready()?;
            let input = &self.herd.inbox[&number];
            let (agent, one) = (input.agent, self.herd.agent(input.agent));
            let slot = &self.herd.slots[agent as usize];
            let seq = u64::from(slot.seq);
            let world = self.world(&one, agent, outside(agent));
            let asks = one.manifest.imports.has(Import::Infer) && world.deliberates();
            if !asks {
                let outcome = one.handle(QUICK, (seq, &slot.state, &input.wakeup), world);
                let out = Err(Failed::Trapped(Trap::OutOfFuel { fuel: QUICK }));
                if outcome != out || one.fuel() <= QUICK {
                    return Some(self.ends(number, one.id, outcome));
                }
            }
            let long = Long {
                ticket: number,
                world: self.world(&one, agent, outside(agent)),
                agent: one,
                seq,
                before: slot.state.to_vec(),
                wakeup: input.wakeup.clone(),
            };
            let lane = match &mut self.slow.lanes[if asks { ASKS } else { RECKONS }] {
                Some(lane) => lane,
                none => none.insert(Lane::open().ok()?),
            };
            match lane.take(long) {
                Ok(()) => _ = self.slow.busy.insert(agent, number),
                // It is full: this one is tried again when others have had their turn.
                Err(_) => self.waiting.push_back(number),
            }
        }
    }

    /// How many wakes take long just now: [`Sleepers::wake`] says what came of each.
    pub fn slow(&self) -> usize {
        self.slow.lanes.iter().flatten().map(Lane::inside).sum()
    }

    /// What an agent finds when it wakes.
    fn world(&self, one: &Agent, agent: u32, outside: Box<dyn World>) -> Box<dyn World> {
        let slot = &self.herd.slots[agent as usize];
        let kept = slot.kept.clone();
        let bytes = |(key, value): (&Vec<u8>, &Vec<u8>)| key.len() + value.len();
        let all = kept.iter().flat_map(|kept| kept.iter());
        Box::new(Inside {
            manifest: one.manifest.clone(),
            bytes_kept: all.map(bytes).sum(),
            kept,
            used: slot.used.at(self.now),
            outside,
        })
    }

    /// A wake that took long has ended. None if its input went with its agent, or if the agent followed
    /// another node meanwhile: then what it came to does not count.
    fn comes_back(&mut self, ended: Ended) -> Option<Woken> {
        let Ended { ticket, outcome } = ended;
        self.slow.busy.retain(|_, number| *number != ticket);
        let input = self.herd.inbox.get(&ticket)?;
        let slot = &self.herd.slots[input.agent as usize];
        let id = self.herd.id(input.agent).ok()?;
        let handled = match outcome {
            Ok(step) if step.seq != u64::from(slot.seq) || *step.before != *slot.state => {
                self.queue.push_back(ticket);
                return None;
            }
            Ok(step) => Ok(Handled {
                answers: step.answers,
                effects: step.effects,
                after: step.after,
                code: step.code,
            }),
            Err(why) => Err(why),
        };
        Some(self.ends(ticket, id, handled))
    }

    /// An input was handled.
    fn ends(&mut self, number: u64, id: [u8; 32], outcome: Result<Handled, Failed>) -> Woken {
        let input = self.herd.inbox.remove(&number).expect("it is handled once");
        let agent = input.agent;
        let (cause, stamp) = (input.wakeup.cause, input.wakeup.stamp);
        if outcome.is_err() && !input.written {
            input.delivered(number).append(&mut self.journal);
        }
        let frame = match &outcome {
            Ok(handled) if input.written => Frame::Stepped {
                number,
                effects: (&handled.effects).into(),
                after: (&handled.after).into(),
                code: handled.code,
            },
            Ok(handled) => Frame::Followed {
                agent,
                id: input.id.into(),
                stamp,
                effects: (&handled.effects).into(),
                after: (&handled.after).into(),
                // Those are written down.
                timer: false,
            },
            Err(why) => Frame::Failed {
                number,
                why: why.to_string(),
            },
        };
        frame.append(&mut self.journal);
        let slot = &mut self.herd.slots[agent as usize];
        slot.used = slot.used.at(self.now);
        let effects = outcome.as_ref().map_or(&[][..], |handled| &handled.effects);
        slot.used.adds(effects);
        let seq = slot.seq;
        let outcome = outcome.map(|handled| {
            let before = self.herd.slots[agent as usize].state.to_vec();
            let Handled {
                answers,
                effects,
                after,
                code,
            } = handled;
            if self.herd.steps((input.id, agent), stamp, &effects, &after) {
                self.fresh.insert((agent, seq));
            }
            Step {
                agent: id,
                seq: seq.into(),
                wakeup: input.wakeup,
                before,
                answers,
                effects,
                after,
                code,
            }
        });
        Woken {
            input: input.id,
            cause,
            agent,
            outcome,
        }
    }

    /// The next input whose agent may wake now.
    fn ready(&mut self) -> Option<u64> {
        while let Some(number) = self.queue.pop_front() {
            // It may have gone with its agent.
            let Some(input) = self.herd.inbox.get(&number) else {
                continue;
            };
            let kind = self.herd.kind(input.agent).ok()?;
            let used = self.herd.slots[input.agent as usize].used.at(self.now);
            let most = kind.granted.manifest.rate.wakes;
            if !kind.rests && used.wakes < most && !self.slow.busy.contains_key(&input.agent) {
                return Some(number);
            }
            self.waiting.push_back(number);
        }
        None
    }
}

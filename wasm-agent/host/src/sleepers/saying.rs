//! Saying: what the journal says of the herd, read again and written anew.

use super::HostFailure;
use super::frame::Frame;
use super::herd::{Due, Herd, IDS, Input, Slot, ready};
use crate::abi::Wakeup;
use crate::engine::Engine;
use std::sync::Arc;

impl Herd {
    /// What a frame of the journal says, once more.
    pub(super) fn replay(
        &mut self,
        payload: &[u8],
        engine: &dyn Engine,
    ) -> Result<(), HostFailure> {
        let frame = Frame::read(payload).ok_or_else(|| nonsense("a frame that is none"))?;
        match frame {
            Frame::Hosted {
                manifest,
                module,
                copies,
            } => {
                // What has run out since still lives here; it is not woken.
                self.settle((&manifest, &module), copies, 0, engine)?;
            }
            Frame::Upgraded {
                first,
                manifest,
                module,
            } => {
                // It was tried before this was written.
                let (granted, agent) = ready((&manifest, &module), 0, engine)?;
                let kind = self.kind_mut(first)?;
                (kind.granted, kind.agent, kind.module) = (granted, agent, module.into());
            }
            frame => return self.apply(frame),
        }
        Ok(())
    }

    /// What a frame says that needs no engine.
    pub(super) fn apply(&mut self, frame: Frame) -> Result<(), HostFailure> {
        match frame {
            Frame::Hosted { .. } | Frame::Upgraded { .. } => {
                return Err(nonsense("a module where none can be"));
            }
            Frame::Delivered {
                number,
                agent,
                id,
                wakeup,
            } => {
                self.kind(agent)?;
                let id = id.into();
                self.recent.insert(id);
                self.next = number + 1;
                let wakeup = Wakeup::read(&wakeup).ok_or_else(|| nonsense("a bad input"))?;
                self.take_on(number, Input { id, agent, wakeup });
            }
            Frame::Stepped {
                number,
                effects,
                after,
                ..
            } => {
                let input = self.inbox.remove(&number);
                let input = input.ok_or_else(|| nonsense("a step of nothing"))?;
                let stamp = input.wakeup.stamp;
                self.steps((input.id, input.agent), stamp, &effects, &after);
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
                input,
                stamp,
                effects,
            } => {
                let due = Due {
                    input: input.into(),
                    stamp,
                    effects,
                };
                self.owed.insert((agent, seq), due);
            }
            Frame::Stopped { first } => self.stop(first)?,
            Frame::Emptied { first } => self.forgets(first)?,
            Frame::Followed {
                agent,
                id,
                stamp,
                timer,
                effects,
                after,
            } => {
                self.kind(agent)?;
                self.follows((id.into(), agent), (stamp, timer), &effects, &after);
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
        let owed = self.owed.iter().map(|((agent, seq), due)| Frame::Owed {
            agent: *agent,
            seq: *seq,
            input: due.input.into(),
            stamp: due.stamp,
            effects: due.effects.clone(),
        });
        // Inputs keep their numbers.
        let inbox = self.inbox.iter().map(|(number, input)| Frame::Delivered {
            number: *number,
            agent: input.agent,
            id: input.id.into(),
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
        let ended = self.kinds.iter().filter(|kind| kind.ended);
        let stopped = ended.map(|kind| Frame::Stopped { first: kind.first });
        let lives = hosted.chain(stopped);
        lives.chain(slept).chain(owed).chain(inbox).chain(known)
    }
}

fn nonsense(what: &'static str) -> HostFailure {
    HostFailure::Nonsense { what }
}

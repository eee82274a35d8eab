//! Saying: what the journal says of the herd, read again and written anew.

use super::HostFailure;
use super::frame::Frame;
use super::herd::{Due, Herd, IDS, Input, NEVER, Slot, State, ready};
use super::inside::Kept;
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
                (kind.granted, kind.agent, kind.module) = (granted, agent, module.into_owned());
            }
            frame => return self.apply(frame),
        }
        Ok(())
    }

    /// What a frame says that needs no engine.
    pub(super) fn apply(&mut self, frame: Frame<'_>) -> Result<(), HostFailure> {
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
                self.recent.insert(id, number);
                self.next = number + 1;
                let wakeup = Wakeup::read(&wakeup).ok_or_else(|| nonsense("a bad input"))?;
                let input = Input {
                    id,
                    agent,
                    wakeup,
                    written: true,
                };
                self.take_on(number, input);
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
                let kept = kept.into_iter();
                let kept: Kept = kept
                    .map(|(key, value)| (key.into(), value.into()))
                    .collect();
                self.slots[agent as usize] = Slot {
                    state: State::from_slice(&state),
                    seq,
                    wake_at,
                    kept: (!kept.is_empty()).then(|| Arc::new(kept)),
                    ..Slot::default()
                };
                if wake_at > 0 {
                    self.timers.insert((wake_at, agent));
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
                    effects: effects.into_owned(),
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
                    .for_each(|id| _ = self.recent.insert(id.into(), NEVER));
            }
        }
        Ok(())
    }

    /// All that is so, in frames.
    pub(super) fn frames(&self) -> impl Iterator<Item = Frame<'_>> {
        let hosted = self.kinds.iter().map(|kind| Frame::Hosted {
            manifest: kind.granted.as_bytes().into(),
            module: (&kind.module).into(),
            copies: kind.copies,
        });
        let lived = (0_u32..).zip(&self.slots);
        let lived = lived.filter(|(_, slot)| slot.seq > 0 || slot.kept.is_some());
        let slept = lived.map(|(agent, slot)| Frame::Slept {
            agent,
            seq: slot.seq,
            wake_at: slot.wake_at,
            state: (&*slot.state).into(),
            kept: slot.values(),
        });
        let owed = self.owed.iter().map(|((agent, seq), due)| Frame::Owed {
            agent: *agent,
            seq: *seq,
            input: due.input.into(),
            stamp: due.stamp,
            effects: (&due.effects).into(),
        });
        // Inputs keep their numbers.
        let inbox = self
            .inbox
            .iter()
            .map(|(number, input)| input.delivered(*number));
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

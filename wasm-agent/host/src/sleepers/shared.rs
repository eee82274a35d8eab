//! Shared: agents that several nodes host, of which one wakes them and the others follow.
//!
//! Whoever stands by takes on the same inputs and keeps them until the one that wakes says which step came
//! of each. A node that has fallen behind, or gone astray, is given the whole of them.
//!
//! Not here: which node wakes them (the node decides), how steps travel.

use super::frame::Frame;
use super::{HostFailure, Sleepers};
use crate::abi::{Cause, INBOX_MAX, STATE_MAX, Wakeup};
use crate::desk::Effect;
use crate::wake::Step;
use aquifer_protocol::canonical::encodes_to;
use minicbor::bytes::{ByteArray, ByteVec};
use minicbor::{Decode, Encode};

/// Why a step cannot be followed.
#[derive(Debug, thiserror::Error)]
pub enum FollowStep {
    /// The agent is not where the step begins.
    #[error("agent {agent} is at step {here} in another state; the step is {step}")]
    Astray {
        /// Its number.
        agent: u32,
        /// Its next step here.
        here: u32,
        /// The step.
        step: u64,
    },
    /// There is no such agent.
    #[error(transparent)]
    Host(#[from] HostFailure),
}

/// All that is known of the agents of a kind, by copy.
#[derive(Encode, Decode)]
#[cbor(array)]
struct Whole {
    #[n(0)]
    slept: Vec<Slept>,
    #[n(1)]
    inbox: Vec<Taken>,
    #[n(2)]
    owed: Vec<Due>,
}

#[derive(Encode, Decode)]
#[cbor(array)]
struct Slept {
    #[n(0)]
    copy: u32,
    #[n(1)]
    seq: u32,
    #[n(2)]
    wake_at: u64,
    #[n(3)]
    state: ByteVec,
    #[n(4)]
    kept: Vec<(ByteVec, ByteVec)>,
}

/// An input that was taken on.
#[derive(Encode, Decode)]
#[cbor(array)]
struct Taken {
    #[n(0)]
    copy: u32,
    #[n(1)]
    id: ByteArray<16>,
    #[n(2)]
    wakeup: ByteVec,
}

/// What a step is still to do.
#[derive(Encode, Decode)]
#[cbor(array)]
struct Due {
    #[n(0)]
    copy: u32,
    #[n(1)]
    seq: u32,
    #[n(2)]
    input: ByteArray<16>,
    #[n(3)]
    effects: Vec<Effect>,
    #[n(4)]
    stamp: u64,
}

impl Sleepers {
    /// Whether the agents of the kind that begins at `first` are woken elsewhere: here they take on inputs,
    /// and wake for none. So it is until the process ends.
    ///
    /// # Errors
    /// If no kind begins there.
    pub fn rest(&mut self, first: u32, rests: bool) -> Result<(), HostFailure> {
        self.herd.kind_mut(first)?.rests = rests;
        Ok(())
    }

    /// How many steps the agents of a kind have taken, all together.
    ///
    /// # Errors
    /// If no kind begins there.
    pub fn taken(&self, first: u32) -> Result<u64, HostFailure> {
        let agents = self.herd.agents_of(first)?;
        let slots = &self.herd.slots[agents.start as usize..agents.end as usize];
        Ok(slots.iter().map(|slot| u64::from(slot.seq)).sum())
    }

    /// What an agent is to wake to, of an input that was taken on here under `id` and is not handled.
    pub fn input(&self, agent: u32, id: [u8; 16]) -> Option<&Wakeup> {
        let number = self.herd.pending((id, agent))?;
        self.herd.inbox.get(&number).map(|input| &input.wakeup)
    }

    /// An agent took a step elsewhere, on the input that its source calls `id`: here it has too.
    ///
    /// # Errors
    /// If the step does not begin where the agent is.
    pub fn follow(&mut self, agent: u32, id: [u8; 16], step: &Step) -> Result<(), FollowStep> {
        self.herd.kind(agent)?;
        let slot = &self.herd.slots[agent as usize];
        if u64::from(slot.seq) != step.seq || *slot.state != *step.before {
            let (here, step) = (slot.seq, step.seq);
            return Err(FollowStep::Astray { agent, here, step });
        }
        let (stamp, timer) = (step.wakeup.stamp, step.wakeup.cause == Cause::Timer);
        let frame = Frame::Followed {
            agent,
            id: id.into(),
            stamp,
            timer,
            effects: (&step.effects).into(),
            after: (&step.after).into(),
        };
        frame.append(&mut self.journal);
        self.herd
            .follows((id, agent), (stamp, timer), &step.effects, &step.after);
        Ok(())
    }

    /// All that is known of the agents of the kind that begins at `first`.
    ///
    /// # Errors
    /// If no kind begins there.
    pub fn whole(&self, first: u32) -> Result<Vec<u8>, HostFailure> {
        let agents = self.herd.agents_of(first)?;
        let of = |agent: &u32| agents.contains(agent);
        let lived = agents.clone().zip(&self.herd.slots[first as usize..]);
        let lived = lived.filter(|(_, slot)| slot.seq > 0);
        let slept = lived.map(|(agent, slot)| Slept {
            copy: agent - first,
            seq: slot.seq,
            wake_at: slot.wake_at,
            state: slot.state.to_vec().into(),
            kept: slot.values(),
        });
        let inputs = self.herd.inbox.values().filter(|input| of(&input.agent));
        let inbox = inputs.map(|input| Taken {
            copy: input.agent - first,
            id: input.id.into(),
            wakeup: input.wakeup.to_bytes().into(),
        });
        let owed = self.herd.owed.iter().filter(|((agent, _), _)| of(agent));
        let owed = owed.map(|((agent, seq), due)| Due {
            copy: agent - first,
            seq: *seq,
            input: due.input.into(),
            stamp: due.stamp,
            effects: due.effects.clone(),
        });
        let whole = Whole {
            slept: slept.collect(),
            inbox: inbox.collect(),
            owed: owed.collect(),
        };
        Ok(minicbor::to_vec(whole).expect("a vector takes any encoding"))
    }

    /// Lets the agents of a kind be as they are elsewhere. It is not all or nothing: until
    /// [`Sleepers::sync`] has returned, they may be neither as they were nor as they are there.
    ///
    /// # Errors
    /// [`HostFailure::Nonsense`] if the bytes, which a stranger may have made, say what cannot be: nothing
    /// has changed then.
    pub fn restore(&mut self, first: u32, bytes: &[u8]) -> Result<(), HostFailure> {
        let copies = self.herd.agents_of(first)?.len() as u32;
        let whole: Option<Whole> = minicbor::decode(bytes).ok();
        let whole = whole.filter(|whole| encodes_to(whole, bytes) && whole.is_legal(copies));
        let what = "agents that cannot be";
        let whole = whole.ok_or(HostFailure::Nonsense { what })?;
        let slept = whole.slept.into_iter().map(|slept| Frame::Slept {
            agent: first + slept.copy,
            seq: slept.seq,
            wake_at: slept.wake_at,
            state: Vec::from(slept.state).into(),
            kept: slept.kept,
        });
        let owed = whole.owed.into_iter().map(|due| Frame::Owed {
            agent: first + due.copy,
            seq: due.seq,
            input: due.input,
            stamp: due.stamp,
            effects: due.effects.into(),
        });
        let frames = std::iter::once(Frame::Emptied { first })
            .chain(slept)
            .chain(owed);
        for frame in frames {
            frame.append(&mut self.journal);
            self.herd.apply(frame)?;
        }
        for taken in whole.inbox {
            let wakeup = Wakeup::read(&taken.wakeup).ok_or(HostFailure::Nonsense { what })?;
            self.takes_again(first + taken.copy, taken.id.into(), wakeup);
        }
        Ok(())
    }

    /// Takes on an input, though it may have been handled here in a past that does not count.
    fn takes_again(&mut self, agent: u32, id: [u8; 16], wakeup: Wakeup) {
        let number = self.herd.number_again(id);
        self.takes_on(number, (id, agent), wakeup);
    }
}

impl Whole {
    fn is_legal(&self, copies: u32) -> bool {
        let legal = |slept: &Slept| slept.copy < copies && slept.state.len() <= STATE_MAX;
        let taken = |taken: &Taken| {
            let fits = taken.copy < copies && taken.wakeup.len() <= INBOX_MAX;
            fits && Wakeup::read(&taken.wakeup).is_some()
        };
        self.slept.iter().all(legal)
            && self.inbox.iter().all(taken)
            && self.owed.iter().all(|due| due.copy < copies)
    }
}

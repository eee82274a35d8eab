//! Waking: one input, one fresh instance, one step or nothing.
//!
//! A step is all that a wake was and did: the input, the state before and after, what the world answered
//! and what is to be done. It says nothing of the engine, since engines agree; so another one, elsewhere,
//! can take the same step and compare ([`Agent::repeat`]).
//!
//! Not here: how a step is signed for (`receipt`).

use crate::abi::{Code, FUEL_MAX, Wakeup};
use crate::desk::{Answer, Desk, Effect, World};
use crate::engine::{Loaded, Trap};
use crate::manifest::Manifest;
use std::collections::VecDeque;
use std::sync::Arc;

/// A guest that is ready to be woken.
#[derive(Clone)]
pub struct Agent {
    /// Its key.
    pub id: [u8; 32],
    /// What it may do.
    pub manifest: Arc<Manifest>,
    /// What it is, on some engine.
    pub loaded: Arc<dyn Loaded>,
}

/// What came of a wake that ended well.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Step {
    /// Whose.
    pub agent: [u8; 32],
    /// The how-manieth of this agent.
    pub seq: u64,
    /// What it woke to.
    pub wakeup: Wakeup,
    /// Its state before.
    pub before: Vec<u8>,
    /// What the world answered it, in turn.
    pub answers: Vec<Answer>,
    /// What is to be done, in turn.
    pub effects: Vec<Effect>,
    /// Its state from now on.
    pub after: Vec<u8>,
    /// What `handle` returned: 0 or more.
    pub code: i32,
}

/// What `handle` came to, in one wake.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Handled {
    /// What the world answered, in turn.
    pub answers: Vec<Answer>,
    /// What is to be done, in turn.
    pub effects: Vec<Effect>,
    /// The state from now on.
    pub after: Vec<u8>,
    /// What it returned: 0 or more.
    pub code: i32,
}

/// Why a wake came to nothing: the state is the one before, and nothing is done.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Failed {
    /// The guest took it all back.
    #[error("the guest refused the input: it returned {code}")]
    Refused {
        /// What it returned.
        code: i32,
    },
    /// It may not be woken any more.
    #[error("the agent's manifest ran out at {not_after} ms since 1970")]
    Expired {
        /// When.
        not_after: u64,
    },
    /// The guest was stopped.
    #[error(transparent)]
    Trapped(#[from] Trap),
}

/// Where a step run again differs.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Differs {
    /// It came to nothing here.
    #[error("run again, the step comes to nothing: {0}")]
    Failed(#[from] Failed),
    /// It asks the world other things.
    #[error("run again, the step asks {asked} things where it had {had} answers")]
    Answers {
        /// How many it had.
        had: usize,
        /// How many it asked for.
        asked: usize,
    },
    /// It does other things.
    #[error("run again, the step does other things, the first at place {place}")]
    Effects {
        /// Of the first effect that differs.
        place: usize,
    },
    /// It leaves another state.
    #[error("run again, the step leaves another state")]
    State,
    /// It returns another number.
    #[error("run again, the step returns {found} where it returned {had}")]
    Code {
        /// What it returned.
        had: i32,
        /// What it returns.
        found: i32,
    },
}

impl Agent {
    /// Wakes it for the `seq`-th time.
    ///
    /// # Errors
    /// Why that came to nothing.
    pub fn wake(
        &self,
        seq: u64,
        before: Vec<u8>,
        wakeup: Wakeup,
        world: Box<dyn World>,
    ) -> Result<Step, Failed> {
        let Handled {
            answers,
            effects,
            after,
            code,
        } = self.handle(FUEL_MAX, (seq, &before, &wakeup), world)?;
        Ok(Step {
            agent: self.id,
            seq,
            wakeup,
            before,
            answers,
            effects,
            after,
            code,
        })
    }

    /// What it would come to if it was woken, with no more than so much fuel if its manifest gives more.
    ///
    /// # Errors
    /// Why it came to nothing. If the reason is [`Trap::OutOfFuel`] and [`Agent::fuel`] is more, it may be
    /// woken again to the same with more.
    pub fn handle(
        &self,
        fuel: u64,
        (seq, before, wakeup): (u64, &[u8], &Wakeup),
        world: Box<dyn World>,
    ) -> Result<Handled, Failed> {
        let not_after = self.manifest.not_after;
        if not_after < wakeup.stamp {
            return Err(Failed::Expired { not_after });
        }
        let desk = Desk::new(self.manifest.clone(), (&self.id, seq), wakeup, world);
        let (input, fuel) = (wakeup.to_bytes(), self.fuel().min(fuel));
        let (desk, ran) = self.loaded.run(before, &input, fuel, desk);
        let ran = ran?;
        if ran.code < 0 {
            return Err(Failed::Refused { code: ran.code });
        }
        Ok(Handled {
            answers: desk.answers,
            effects: desk.effects,
            after: ran.state,
            code: ran.code,
        })
    }

    /// Takes a step again, with the answers it had.
    ///
    /// # Errors
    /// Why that came to nothing.
    pub fn again(&self, step: &Step) -> Result<Step, Failed> {
        let world = Replay::of(step);
        self.wake(step.seq, step.before.clone(), step.wakeup.clone(), world)
    }

    /// The fuel that it has for one wake.
    pub fn fuel(&self) -> u64 {
        self.manifest.budget.fuel.min(FUEL_MAX)
    }

    /// Takes a step again, with the answers it had, and holds it against what it came to.
    ///
    /// # Errors
    /// Where they differ.
    pub fn repeat(&self, step: &Step) -> Result<(), Differs> {
        let input = (step.seq, &step.before[..], &step.wakeup);
        let again = self.handle(FUEL_MAX, input, Replay::of(step))?;
        if again.answers != step.answers {
            return Err(Differs::Answers {
                had: step.answers.len(),
                asked: again.answers.len(),
            });
        }
        let both = again.effects.iter().zip(&step.effects);
        let alike = both.take_while(|(a, b)| a == b).count();
        if alike < again.effects.len().max(step.effects.len()) {
            return Err(Differs::Effects { place: alike });
        }
        if again.after != step.after {
            return Err(Differs::State);
        }
        if again.code != step.code {
            let (had, found) = (step.code, again.code);
            return Err(Differs::Code { had, found });
        }
        Ok(())
    }
}

/// A world that answers as another did.
struct Replay(VecDeque<Answer>);

impl Replay {
    fn of(step: &Step) -> Box<dyn World> {
        Box::new(Self(step.answers.clone().into()))
    }

    fn next(&mut self) -> Answer {
        self.0.pop_front().unwrap_or(Err(Code::Unavailable))
    }
}

impl World for Replay {
    fn may(&mut self, _: &Effect) -> Result<(), Code> {
        self.next().map(|_| ())
    }

    fn recall(&mut self, _: &str) -> Answer {
        self.next()
    }

    fn kv_get(&mut self, _: &[u8]) -> Answer {
        self.next()
    }

    fn infer(&mut self, _: &str) -> Answer {
        self.next()
    }
}

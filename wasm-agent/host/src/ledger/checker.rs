//! Checking: whether a node did what it signed for.
//!
//! Four questions: did the node sign for this receipt; is the receipt of this step; is the step one of a
//! module that may be an agent, under its publisher's manifest (an [`Entry`] has no other); and does the
//! same come out when the step is taken again, here, on an engine of one's own. The answer to the last is
//! the module's; only that what went in was true nobody can check.
//!
//! Engines count fuel differently, so a step is taken again with more than it had: that it ended well is what
//! was signed for. If it is stopped here all the same, for want of fuel or of stack, that proves nothing.
//!
//! Not here: whose steps to check and what follows (the node).

use super::{Entry, Kind};
use crate::desk::Desk;
use crate::engine::{Engine, LoadModule, Loaded, Ran, Trap};
use crate::manifest::Manifest;
use crate::profile::{Profile, RefuseModule};
use crate::receipt::Receipt;
use crate::wake::{Agent, Differs, Failed, Step};
use aquifer_protocol::identity::{Signature, verify};
use std::collections::VecDeque;
use std::sync::Arc;

/// Modules that a checker keeps loaded, those that were asked for last.
const LOADED_MAX: usize = 64;

/// So many times the fuel of a step is given to take it again.
const FUEL_TIMES: u64 = 4;

/// An engine, and the modules that it has loaded.
pub struct Checker<'a> {
    engine: Held<'a>,
    loaded: VecDeque<Ready>,
    /// The last signature that was good: who signed, and what. Entries of one batch share it.
    signed: Option<([u8; 32], [u8; 32], Signature)>,
}

enum Held<'a> {
    Lent(&'a dyn Engine),
    Shared(Arc<dyn Engine>),
}

/// A module that is given more fuel than it is said to have.
struct Patient(Arc<dyn Loaded>);

struct Ready {
    kind: Arc<Kind>,
    manifest: Arc<Manifest>,
    loaded: Arc<dyn Loaded>,
}

/// What is wrong with an entry.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Wrong {
    /// The node that it names did not sign for the receipt.
    #[error("the node that the entry names did not sign for its receipt")]
    Proof,
    /// The receipt is of another step.
    #[error("the receipt and the step differ in: {what}")]
    Receipt {
        /// The first thing that differs.
        what: &'static str,
    },
    /// The module may not be an agent.
    #[error(transparent)]
    Module(#[from] RefuseModule),
    /// The engine here does not take the module: nothing is known of the step.
    #[error(transparent)]
    Load(#[from] LoadModule),
    /// The step comes to something else.
    #[error(transparent)]
    Differs(#[from] Differs),
}

impl Wrong {
    /// Whether it shows that the node which signed answers for what is not so, whoever looks: it signed, and
    /// the step comes to something else.
    pub fn is_proof(&self) -> bool {
        match self {
            Self::Receipt { .. } => true,
            Self::Differs(Differs::Failed(Failed::Trapped(why))) => {
                !matches!(why, Trap::OutOfFuel { .. } | Trap::Stack)
            }
            Self::Differs(_) => true,
            Self::Proof | Self::Module(_) | Self::Load(_) => false,
        }
    }
}

impl Checker<'static> {
    /// A checker that has loaded nothing, of an engine that it keeps.
    pub fn of(engine: Arc<dyn Engine>) -> Self {
        Self::with(Held::Shared(engine))
    }
}

impl<'a> Checker<'a> {
    /// A checker that has loaded nothing.
    pub fn new(engine: &'a dyn Engine) -> Self {
        Self::with(Held::Lent(engine))
    }

    fn with(engine: Held<'a>) -> Self {
        Self {
            engine,
            loaded: VecDeque::new(),
            signed: None,
        }
    }

    /// [`Entry::read`], but for the signature of a publisher whose manifest was checked here lately: of many
    /// entries of a few kinds, that would be what takes longest.
    pub fn read(&self, bytes: &[u8]) -> Option<Entry> {
        Entry::read_among(bytes, self.loaded.iter().map(|ready| &ready.kind))
    }

    /// Checks an entry, whoever it came from. It costs a wake, a signature if the last entry was of another
    /// batch, and the loading of a module that was not asked for lately.
    ///
    /// # Errors
    /// What is wrong. Of [`Wrong::Load`] the node that signed may be innocent.
    pub fn check(&mut self, entry: &Entry) -> Result<(), Wrong> {
        self.proves(entry)?;
        let receipt = Receipt::of(&entry.step, entry.kind.hash());
        if let Some(what) = receipt.differs(&entry.receipt) {
            return Err(Wrong::Receipt { what });
        }
        let agent = self.agent(entry)?;
        Ok(agent.repeat(&entry.step)?)
    }

    /// What the step of an entry comes to here.
    ///
    /// # Errors
    /// Why it comes to nothing, or cannot be taken at all.
    pub fn again(&mut self, entry: &Entry) -> Result<Step, Wrong> {
        let agent = self.agent(entry)?;
        Ok(agent.again(&entry.step).map_err(Differs::from)?)
    }

    fn proves(&mut self, entry: &Entry) -> Result<(), Wrong> {
        let proof = &entry.proof;
        let signed = proof.signed(&entry.receipt).ok_or(Wrong::Proof)?;
        let known = Some((proof.node, signed, proof.signature));
        if self.signed != known {
            if !verify(&proof.node, &signed, &proof.signature) {
                return Err(Wrong::Proof);
            }
            self.signed = known;
        }
        Ok(())
    }

    fn agent(&mut self, entry: &Entry) -> Result<Agent, Wrong> {
        let hash = entry.kind.hash();
        let mut loaded = self.loaded.iter();
        let place = loaded.position(|ready| ready.kind.hash() == hash);
        let ready = match place.and_then(|place| self.loaded.remove(place)) {
            Some(ready) => ready,
            None => {
                let profile = Profile::of(entry.kind.module())?;
                let engine = match &self.engine {
                    Held::Lent(engine) => *engine,
                    Held::Shared(engine) => &**engine,
                };
                let loaded = engine.load(entry.kind.module(), &profile)?;
                Ready {
                    kind: entry.kind.clone(),
                    manifest: Arc::new(entry.kind.granted().manifest.clone()),
                    loaded: Arc::new(Patient(loaded)),
                }
            }
        };
        let agent = Agent {
            id: entry.step.agent,
            manifest: ready.manifest.clone(),
            loaded: ready.loaded.clone(),
        };
        self.loaded.push_front(ready);
        self.loaded.truncate(LOADED_MAX);
        Ok(agent)
    }
}

impl Loaded for Patient {
    fn run(&self, state: &[u8], input: &[u8], fuel: u64, desk: Desk) -> (Desk, Result<Ran, Trap>) {
        let fuel = fuel.saturating_mul(FUEL_TIMES);
        self.0.run(state, input, fuel, desk)
    }

    fn start(&self, desk: Desk) -> Result<(), Trap> {
        self.0.start(desk)
    }
}

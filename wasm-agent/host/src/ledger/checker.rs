//! Checking: whether a node did what it signed for.
//!
//! Four questions: did the node sign for this receipt; is the receipt of this step; is the step one of a
//! module that may be an agent, under its publisher's manifest (an [`Entry`] has no other); and does the
//! same come out when the step is taken again, here, on an engine of one's own. The answer to the last is
//! the module's; only that what went in was true nobody can check.
//!
//! Not here: whose steps to check and what follows (the node).

use super::{Entry, Kind};
use crate::engine::{Engine, LoadModule, Loaded};
use crate::manifest::Manifest;
use crate::profile::{Profile, RefuseModule};
use crate::receipt::Receipt;
use crate::wake::{Agent, Differs, Step};
use aquifer_protocol::identity::{Signature, verify};
use std::collections::VecDeque;
use std::sync::Arc;

/// Modules that a checker keeps loaded, those that were asked for last.
const LOADED_MAX: usize = 64;

/// An engine, and the modules that it has loaded.
pub struct Checker<'a> {
    engine: &'a dyn Engine,
    loaded: VecDeque<Ready>,
    /// The last signature that was good: who signed, and what. Entries of one batch share it.
    signed: Option<([u8; 32], [u8; 32], Signature)>,
}

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

impl<'a> Checker<'a> {
    /// A checker that has loaded nothing.
    pub fn new(engine: &'a dyn Engine) -> Self {
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
                Ready {
                    kind: entry.kind.clone(),
                    manifest: Arc::new(entry.kind.granted().manifest.clone()),
                    loaded: self.engine.load(entry.kind.module(), &profile)?,
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

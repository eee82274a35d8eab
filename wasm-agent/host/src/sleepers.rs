//! Sleepers: the agents that live on a node, nearly all of them asleep.
//!
//! An agent asleep is its state, a number and perhaps a time to wake: a hundred bytes. An input is handled
//! once: the agent wakes, and what came of it (that input, its new state, what is to be done) is one frame
//! of the journal. Inputs that nobody has handled by the next [`Sleepers::sync`] are written down there.
//! Nobody is told before it; what is cut off before it, never was: the input is still there, or still with
//! its source. What a step is to do is handed out after that, until it is [`Sleepers::done`]: whoever does
//! it can be asked twice, with one number, and does it once.
//!
//! Not here: what is kept of each (`herd`), which inputs there are, and who does what steps say (the node).

mod frame;
mod herd;
mod inside;
mod saying;
mod shared;
mod waking;

use crate::abi::{Cause, INBOX_MAX, Wakeup};
use crate::desk::Effect;
use crate::engine::{Engine, LoadModule, Trap};
use crate::journal::{Journal, JournalFailure};
use crate::manifest::{Granted, RefuseManifest};
use crate::profile::RefuseModule;
use crate::wake::{Failed, Step};
use aquifer_protocol::identity::digest;
use frame::Frame;
use herd::{Herd, Input};
pub use shared::FollowStep;
use std::collections::{BTreeSet, VecDeque};
use std::path::Path;
use waking::Slow;

/// A journal is written anew when it is so many times as long as what is in it, and longer than the floor.
const GROWTH: u64 = 4;
const GROWTH_FLOOR: u64 = 64 << 20;

/// All agents that live here.
pub struct Sleepers {
    journal: Journal,
    herd: Herd,
    /// The latest moment that anybody spoke of, in milliseconds since 1970: whose minute it is.
    now: u64,
    /// Numbers of inputs that are next,
    queue: VecDeque<u64>,
    /// and of those whose agents have to wait for another minute.
    waiting: VecDeque<u64>,
    /// Inputs before this number are in the journal, or were handled.
    unwritten: u64,
    /// Steps that are not durable yet and have something done.
    fresh: BTreeSet<(u32, u32)>,
    /// Wakes that take long.
    slow: Slow,
    /// How long the journal was when it was last written anew.
    anew: u64,
}

/// Why agents cannot live here.
#[derive(Debug, thiserror::Error)]
pub enum HostFailure {
    /// The module is no agent.
    #[error(transparent)]
    Module(#[from] RefuseModule),
    /// The engine cannot load it.
    #[error(transparent)]
    Load(#[from] LoadModule),
    /// The manifest does not count.
    #[error(transparent)]
    Manifest(#[from] RefuseManifest),
    /// The journal failed.
    #[error(transparent)]
    Journal(#[from] JournalFailure),
    /// The journal says what cannot be.
    #[error("the journal of agents says what cannot be: {what}")]
    Nonsense {
        /// What it says.
        what: &'static str,
    },
    /// More agents than can be numbered.
    #[error("{copies} agents more are more than can live on one node")]
    Many {
        /// How many were to be hosted.
        copies: u32,
    },
    /// The engine cannot make an instance.
    #[error("no instance can be made: {why}")]
    Start {
        /// Why not.
        why: Trap,
    },
    /// The input has no room in an inbox.
    #[error("an input of {len} bytes; an inbox has {INBOX_MAX}")]
    Input {
        /// How long it is.
        len: usize,
    },
    /// There is no such agent.
    #[error("no agent {agent} lives here")]
    Nobody {
        /// Its number.
        agent: u32,
    },
    /// Another publisher, or another name: that is another agent.
    #[error("an agent goes on only with what its own publisher signed, under its own name")]
    Stranger,
    /// The new module does not take an agent's state.
    #[error("agent {agent} cannot go on with the new module: {why}")]
    Upgrade {
        /// Its number.
        agent: u32,
        /// What came of waking it.
        why: Failed,
    },
}

/// Agents of one manifest that live here.
#[derive(Clone, Copy, Debug)]
pub struct Family<'a> {
    /// The number of the first.
    pub first: u32,
    /// What they may do.
    pub granted: &'a Granted,
    /// What they are.
    pub module: &'a [u8],
}

/// What a step is to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Owed {
    /// Whose step, by number,
    pub agent: u32,
    /// and by key.
    pub id: [u8; 32],
    /// Which step: with the agent, the number by which whoever does it knows that it was done.
    pub seq: u32,
    /// The id of the input that it was a step on,
    pub input: [u8; 16],
    /// and its time, in milliseconds since 1970.
    pub stamp: u64,
    /// What.
    pub effects: Vec<Effect>,
}

/// What became of an input.
#[derive(Debug)]
pub struct Woken {
    /// Its id.
    pub input: [u8; 16],
    /// Why the agent woke.
    pub cause: Cause,
    /// Whose, by number.
    pub agent: u32,
    /// The step, or why it came to nothing.
    pub outcome: Result<Step, Failed>,
}

impl Sleepers {
    /// Those that live in a journal, on `engine`.
    ///
    /// # Errors
    /// If the journal cannot be read, or the engine cannot load what it names.
    pub fn open(path: &Path, engine: &dyn Engine) -> Result<Self, HostFailure> {
        let (mut herd, mut wrong) = (Herd::default(), None);
        let journal = Journal::open(path, |payload| {
            if wrong.is_none() {
                wrong = herd.replay(payload, engine).err();
            }
        })?;
        if let Some(wrong) = wrong {
            return Err(wrong);
        }
        Ok(Self {
            anew: journal.len(),
            journal,
            queue: herd.inbox.keys().copied().collect(),
            unwritten: herd.next,
            herd,
            now: 0,
            waiting: VecDeque::new(),
            fresh: BTreeSet::new(),
            slow: Slow::default(),
        })
    }

    /// Lets so many agents of one manifest live here. Returns the number of the first.
    ///
    /// # Errors
    /// If the manifest or the module does not count. `now` is in milliseconds since 1970.
    pub fn host(
        &mut self,
        (manifest, module): (&[u8], &[u8]),
        copies: u32,
        now: u64,
        engine: &dyn Engine,
    ) -> Result<u32, HostFailure> {
        let first = self.herd.settle((manifest, module), copies, now, engine)?;
        let (manifest, module) = (manifest.into(), module.into());
        let frame = Frame::Hosted {
            manifest,
            module,
            copies,
        };
        frame.append(&mut self.journal);
        Ok(first)
    }

    /// Agents of the kind that begins at `first` do not live here any more. What their steps said is to
    /// be done still is.
    ///
    /// # Errors
    /// If no kind begins there.
    pub fn stop(&mut self, first: u32) -> Result<(), HostFailure> {
        self.herd.stop(first)?;
        Frame::Stopped { first }.append(&mut self.journal);
        Ok(())
    }

    /// Agents of the kind that begins at `first` go on with another module, if it takes their states;
    /// else all is as it was. `now` is in milliseconds since 1970.
    ///
    /// # Errors
    /// If the manifest or the module does not count, is another publisher's, or goes wrong over a state.
    pub fn upgrade(
        &mut self,
        first: u32,
        (manifest, module): (&[u8], &[u8]),
        now: u64,
        engine: &dyn Engine,
    ) -> Result<(), HostFailure> {
        self.herd.upgrade(first, (manifest, module), now, engine)?;
        let (manifest, module) = (manifest.into(), module.into());
        let frame = Frame::Upgraded {
            first,
            manifest,
            module,
        };
        frame.append(&mut self.journal);
        Ok(())
    }

    /// All kinds of agents that live here.
    pub fn families(&self) -> impl Iterator<Item = Family<'_>> {
        self.herd.kinds().map(|kind| Family {
            first: kind.first,
            granted: &kind.granted,
            module: &kind.module,
        })
    }

    /// The kind that an agent is of.
    ///
    /// # Errors
    /// If there is no such agent.
    pub fn family(&self, agent: u32) -> Result<Family<'_>, HostFailure> {
        let kind = self.herd.kind(agent)?;
        Ok(Family {
            first: kind.first,
            granted: &kind.granted,
            module: &kind.module,
        })
    }

    /// How many agents live here.
    pub fn count(&self) -> usize {
        self.herd.slots.len()
    }

    /// The key of an agent: it follows from its manifest and which copy it is.
    ///
    /// # Errors
    /// If there is no such agent.
    pub fn id(&self, agent: u32) -> Result<[u8; 32], HostFailure> {
        self.herd.id(agent)
    }

    /// An agent's state, and how many steps it has taken.
    pub fn state(&self, agent: u32) -> Option<(&[u8], u32)> {
        let slot = self.herd.slots.get(agent as usize)?;
        Some((&slot.state, slot.seq))
    }

    /// How many inputs were taken on and are not handled.
    pub fn pending(&self) -> usize {
        self.herd.inbox.len()
    }

    /// Takes on an input that its source calls `id`. False if it was taken on before.
    ///
    /// It is safe once [`Sleepers::sync`] has returned.
    ///
    /// # Errors
    /// If there is no such agent, or the input is longer than an inbox.
    pub fn deliver(
        &mut self,
        agent: u32,
        id: [u8; 16],
        wakeup: Wakeup,
    ) -> Result<bool, HostFailure> {
        self.herd.kind(agent)?;
        let len = wakeup.encoded_len();
        if len > INBOX_MAX {
            return Err(HostFailure::Input { len });
        }
        let Some(number) = self.herd.number(id) else {
            return Ok(false);
        };
        self.now = self.now.max(wakeup.stamp);
        self.takes_on(number, (id, agent), wakeup);
        Ok(true)
    }

    /// An input is next. Most are handled before anybody syncs: only those that are not are written down.
    fn takes_on(&mut self, number: u64, (id, agent): ([u8; 16], u32), wakeup: Wakeup) {
        // A timer that has run out is none any more, whatever the agent asks for after that.
        let written = wakeup.cause == Cause::Timer;
        let input = Input {
            id,
            agent,
            wakeup,
            written,
        };
        if written {
            input.delivered(number).append(&mut self.journal);
        }
        self.herd.take_on(number, input);
        self.queue.push_back(number);
    }

    /// Writes down the inputs that nobody has handled.
    fn writes_inputs(&mut self) {
        for (number, input) in self.herd.inbox.range_mut(self.unwritten..) {
            if !std::mem::replace(&mut input.written, true) {
                input.delivered(*number).append(&mut self.journal);
            }
        }
        self.unwritten = self.herd.next;
    }

    /// When the next timer is due, in milliseconds since 1970.
    pub fn next_timer(&self) -> Option<u64> {
        self.herd.next_timer()
    }

    /// Takes on the timers that are due at `now`. Returns how many.
    pub fn tick(&mut self, now: u64) -> usize {
        let due = self.herd.due(now);
        for (at, agent) in &due {
            let seq = self.herd.slots[*agent as usize].seq.to_be_bytes();
            let parts = [&at.to_be_bytes()[..], &agent.to_be_bytes(), &seq];
            let id = digest("aquifer/agent-timer/1", &parts);
            let id = *id.first_chunk().expect("a hash has 32 bytes");
            let wakeup = Wakeup {
                cause: Cause::Timer,
                from: None,
                topic: String::new(),
                stamp: now,
                body: Vec::new(),
            };
            self.deliver(*agent, id, wakeup).expect("it has a timer");
        }
        self.now = self.now.max(now);
        // Those that have waited come first.
        self.waiting.append(&mut self.queue);
        std::mem::swap(&mut self.waiting, &mut self.queue);
        due.len()
    }

    /// Makes durable all that happened. Returns what is to be done now: it was not handed out before.
    ///
    /// # Errors
    /// If the disk fails: nothing that was not synced before may be relied on.
    pub fn sync(&mut self) -> Result<Vec<Owed>, HostFailure> {
        self.writes_inputs();
        self.journal.sync()?;
        if self.journal.len() > GROWTH_FLOOR.max(self.anew.saturating_mul(GROWTH)) {
            self.rewrite()?;
        }
        let fresh = std::mem::take(&mut self.fresh);
        let owed = fresh.into_iter().filter_map(|place| self.herd.owes(place));
        Ok(owed.collect())
    }

    /// All that durable steps have said is to be done and nobody has said was: after a restart, once more.
    pub fn owed(&self) -> Vec<Owed> {
        let places = self.herd.owed.keys();
        let durable = places.filter(|place| !self.fresh.contains(place));
        durable.filter_map(|place| self.herd.owes(*place)).collect()
    }

    /// What a step was to do was done.
    pub fn done(&mut self, agent: u32, seq: u32) {
        if self.herd.owed.remove(&(agent, seq)).is_some() {
            Frame::Done { agent, seq }.append(&mut self.journal);
        }
    }

    /// Bytes of the journal.
    pub fn journal_bytes(&self) -> u64 {
        self.journal.len()
    }

    /// Writes the journal anew, without its past.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn rewrite(&mut self) -> Result<(), HostFailure> {
        self.writes_inputs();
        self.journal.sync()?;
        let frames = self.herd.frames();
        let frames = frames.map(|frame| move |to: &mut Vec<u8>| frame.encode_to(to));
        self.journal.replace(frames)?;
        self.anew = self.journal.len();
        Ok(())
    }
}

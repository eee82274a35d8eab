//! The host: the beat of the agents that live here.
//!
//! Read what is new, carry out orders, wake whoever has an input, make it durable, sign for it, and only
//! then do what was to be done. A crash anywhere is made good by doing the rest again: inputs are known
//! by their ids, effects by their step.
//!
//! In `host/`: what is read (`hearing`), how orders are carried out (`settle`), who lives here by one
//! order (`family`), where several host (`standing`, `following`), and whether what they signed is so
//! (`judging`). Not here: what a wake is (`aquifer-wasm`), what effects become (`outward`).

mod family;
mod following;
mod hearing;
mod judging;
mod settle;
mod standing;

use super::Engines;
use super::infer::Model;
use super::note::Note;
use super::outlook::Outlook;
use super::outward::{Doer, Outward};
use super::reader::Cursors;
use super::roster::{Name, Roster};
use crate::api::Problem;
use crate::memory::Memory;
use crate::view::View;
use aquifer_protocol::{AgentId, NodeId, TopicName};
use aquifer_wasm::abi::Cause;
use aquifer_wasm::desk::Effect;
use aquifer_wasm::engine::Engine;
use aquifer_wasm::kind::Kind;
use aquifer_wasm::ledger::{Appended, Checker, Entry, Ledger};
use aquifer_wasm::sleepers::{Owed, Sleepers, Woken};
use family::Families;
pub(crate) use family::Here;
use standing::Standing;
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Wakes in one beat.
const WAKES_PER_BEAT: usize = 256;
/// Bytes of signed steps that are kept.
const LEDGER_BYTES: u64 = 256 << 20;
/// How long it is waited after the node could not write.
const RETRY: Duration = Duration::from_secs(2);
/// How often it is looked whether a wake that takes long has ended.
const SLOW: Duration = Duration::from_millis(5);
/// The longest sleep where others wait to hear of this node.
const TOGETHER: Duration = Duration::from_millis(100);
/// The longest sleep: the law may have changed.
const SLEEP_MAX: Duration = Duration::from_secs(5);
/// How long the place up to which inputs were read may be behind.
const KEEP_EVERY_MS: u64 = 1_000;
const CURSORS: &str = "agents/cursors.cbor";

/// Of which agent a note is, and when it was written, in milliseconds since 1970.
type From = ([u8; 32], u64);

/// The agents of this node.
pub(crate) struct Host {
    memory: Memory,
    me: NodeId,
    engine: Arc<dyn Engine>,
    model: Option<Arc<Model>>,
    sleepers: Sleepers,
    ledger: Ledger,
    /// Takes steps again that other hosts signed for.
    checker: Checker<'static>,
    /// The roster of all agents that this node has heard of.
    pub(crate) roster: Roster,
    /// Up to where notes have been read, since this process began,
    noted: Cursors,
    /// and inputs, ever; whether that is farther than what is kept, and since when it is.
    told: Cursors,
    told_more: bool,
    kept_at: u64,
    families: Families,
    unplaced: VecDeque<(Note, From)>,
    /// Notes that are to be written.
    outbox: Vec<(TopicName, Note)>,
    /// Steps that are owed from before a crash, or a write that failed.
    owed: Vec<(Owed, bool)>,
    standing: Standing,
    /// Whether orders are to be looked at, and whether they ever were.
    stirred: bool,
    begun: bool,
}

impl Host {
    /// What lives in this node's home.
    ///
    /// # Errors
    /// If the journal cannot be read.
    pub(super) fn open(
        memory: Memory,
        engines: Engines,
        model: Option<Model>,
    ) -> Result<Self, Problem> {
        let parts = memory.parts();
        let (home, me) = (parts.home.clone(), memory.view().me.node());
        let folder = home.file("agents");
        std::fs::create_dir_all(&folder)
            .map_err(|e| home.trouble("make the agents' folder", &e))?;
        let engine = engines.wakes;
        let mut sleepers = Sleepers::open(&folder.join("journal"), &*engine).map_err(broken)?;
        // Nobody wakes before orders were read.
        let all: Vec<u32> = sleepers.families().map(|family| family.first).collect();
        for first in all {
            sleepers.rest(first, true).map_err(broken)?;
        }
        let keys = crate::keys::identity(&home)?;
        let ledger = Ledger::open(&folder.join("steps"), keys, LEDGER_BYTES).map_err(broken)?;
        let told = home.read(CURSORS, 1 << 20)?;
        let told = told.and_then(|bytes| minicbor::decode(&bytes).ok());
        let told: Cursors = told.unwrap_or_default();
        Ok(Self {
            // Who lives here, and by whom they are woken, orders say.
            owed: Vec::new(),
            me,
            engine,
            model: model.map(Arc::new),
            sleepers,
            ledger,
            checker: Checker::of(engines.checks),
            roster: Roster::default(),
            noted: Cursors::default(),
            told,
            told_more: false,
            kept_at: 0,
            families: Families::default(),
            unplaced: VecDeque::new(),
            outbox: Vec::new(),
            standing: Standing::open(&memory)?,
            stirred: true,
            begun: false,
            memory,
        })
    }

    /// Beats until the node stops.
    pub(super) async fn run(
        mut self,
        mut errands: mpsc::Receiver<super::Errand>,
        stop: CancellationToken,
    ) {
        let mut news = self.memory.parts().observed.changes();
        loop {
            news.mark_unchanged();
            let wait = match self.beat().await {
                Ok(true) => Duration::ZERO,
                Ok(false) => self.until_timer(),
                Err(problem) => {
                    tracing::warn!(target: "aquifer::agents", %problem, "agents wait");
                    RETRY
                }
            };
            while let Ok(errand) = errands.try_recv() {
                errand(&mut self);
            }
            if wait.is_zero() && !stop.is_cancelled() {
                continue;
            }
            tokio::select! {
                () = stop.cancelled() => return,
                Some(errand) = errands.recv() => errand(&mut self),
                Some(heard) = self.standing.reply() => self.on_reply(heard),
                changed = news.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// One beat. Whether there is more to do at once.
    async fn beat(&mut self) -> Result<bool, Problem> {
        let view = self.memory.view();
        // Orders are read whole before any is carried out: a later one may stop what an earlier began.
        if self.reads_notes(&view)? {
            return Ok(true);
        }
        if std::mem::take(&mut self.stirred) {
            self.settles(&view);
        }
        let judged = self.judges();
        self.stands()?;
        let more = self.reads_inputs(&view)?;
        self.sleepers.tick(self.now());
        let woken = self.wakes(&view);
        let (fresh, signed) = self.durable(&woken)?;
        self.answers_failures(&woken);
        self.hands_over();
        let counted = self.counts(&woken, fresh, &signed)?;
        let mut now = std::mem::take(&mut self.owed);
        now.extend(counted);
        self.does(now).await?;
        // What is new goes to other hosts at once.
        self.stands()?;
        let busy = more || judged || !woken.is_empty();
        self.keeps_place(busy)?;
        Ok(busy)
    }

    /// Keeps up to where inputs were read, now and then: what is read again is known by its id.
    fn keeps_place(&mut self, busy: bool) -> Result<(), Problem> {
        let now = self.now();
        if self.told_more && (!busy || now > self.kept_at + KEEP_EVERY_MS) {
            let bytes = minicbor::to_vec(&self.told).expect("a vector takes any encoding");
            self.memory.parts().home.write(CURSORS, &bytes)?;
            (self.told_more, self.kept_at) = (false, now);
        }
        Ok(())
    }

    /// Wakes some that have an input.
    fn wakes(&mut self, view: &Arc<View>) -> Vec<(Name, Woken)> {
        let indexer = self.memory.parts().indexer.clone();
        let now = self.now();
        let mut all = Vec::new();
        while all.len() < WAKES_PER_BEAT {
            let families = &self.families;
            let woken = self.sleepers.wake(|agent| {
                let (_, here) = families
                    .of(agent)
                    .expect("whoever lives here is of a family");
                Box::new(Outlook {
                    view: view.clone(),
                    indexer: indexer.clone(),
                    home: here.home,
                    reads: here.reads.clone(),
                    model: self.model.clone(),
                    thought: Duration::ZERO,
                })
            });
            let Some(woken) = woken else { break };
            let name = self.families.woke(woken.agent, now, &woken.outcome);
            all.extend(name.map(|name| (name, woken)));
        }
        all
    }

    /// Makes what happened durable and signs for it. What is to be done now, and the signatures: of those that
    /// took a step, in turn.
    fn durable(&mut self, woken: &[(Name, Woken)]) -> Result<(Vec<Owed>, Appended), Problem> {
        let owed = self.sleepers.sync().map_err(broken)?;
        let steps = woken.iter().filter_map(|(name, woken)| {
            let here = self.families.get(name).expect("it woke here");
            let step = woken.outcome.as_ref().ok()?;
            Some((here.kind.clone(), step.clone()))
        });
        let steps: Vec<_> = steps.collect();
        let signed = self.ledger.append(&steps).map_err(broken)?;
        if !steps.is_empty() {
            self.ledger.sync().map_err(broken)?;
        }
        Ok((owed, signed))
    }

    /// Whoever invoked an agent is told if nothing came of it, or if it had nothing to say.
    fn answers_failures(&mut self, woken: &[(Name, Woken)]) {
        for (name, woken) in woken {
            let Some(here) = self.families.get(name) else {
                continue;
            };
            let (step, said) = match &woken.outcome {
                Ok(step) if !step.effects.iter().any(is_answer) => (Some(step.seq), None),
                Ok(_) => continue,
                Err(why) => (None, Some(why.to_string().into_bytes().into())),
            };
            if woken.cause == Cause::Invocation {
                let input = woken.input.into();
                let note = Note::Answered { input, step, said };
                self.outbox.push((here.doer.home.clone(), note));
            }
        }
    }

    /// Does what steps say is to be done, and says that it was. Some may have been done before.
    async fn does(&mut self, todo: Vec<(Owed, bool)>) -> Result<(), Problem> {
        let mut outward = Outward::default();
        for (owed, again) in &todo {
            let here = self.families.of(owed.agent);
            let doer = here.map(|(_, here)| here.doer.clone());
            if let Some(doer) = doer.or_else(|| self.doer_of(&owed.id)) {
                outward.add(&self.memory, &self.roster, &doer, owed, *again);
            }
        }
        for (topic, note) in &self.outbox {
            outward.note(topic.clone(), AgentId(self.me.0), note);
        }
        if !outward.is_empty() {
            match outward.write(&self.memory).await {
                Ok(refused) => refused.into_iter().for_each(|why| {
                    tracing::warn!(target: "aquifer::agents", %why, "not done");
                    self.memory.parts().observed.count("agent_refusals", "");
                }),
                Err(problem) => {
                    self.owed = todo.into_iter().map(|(owed, _)| (owed, true)).collect();
                    return Err(problem);
                }
            }
        }
        self.outbox.clear();
        for (owed, _) in &todo {
            self.sleepers.done(owed.agent, owed.seq);
        }
        Ok(())
    }

    /// Whose step it is, of an agent that has gone.
    fn doer_of(&self, agent: &[u8; 32]) -> Option<Doer> {
        let (name, _) = self.roster.owner(agent)?;
        let view = self.memory.view();
        let home = view
            .law
            .topic(self.roster.order_of(name)?.topic)?
            .name
            .clone();
        Some(Doer {
            name: name.1.clone(),
            home,
        })
    }

    fn now(&self) -> u64 {
        self.memory.parts().helm.now().millis()
    }

    fn until_timer(&self) -> Duration {
        let next = self.sleepers.next_timer();
        let timer = next.map(|at| Duration::from_millis(at.saturating_sub(self.now())));
        // Whoever is over its rate waits for another minute.
        let rated = (self.sleepers.pending() > 0).then_some(Duration::from_secs(1));
        if self.sleepers.slow() > 0 {
            return SLOW;
        }
        let shared = (!self.standing.companies.is_empty()).then_some(TOGETHER);
        let most = timer.unwrap_or(SLEEP_MAX);
        let most = most.min(rated.unwrap_or(most)).min(shared.unwrap_or(most));
        most.clamp(Duration::from_millis(1), SLEEP_MAX)
    }

    /// The agents of an order that live here.
    pub(crate) fn family(&self, name: &Name) -> Option<&Here> {
        self.families.get(name)
    }

    /// The host that wakes an agent now, as far as this node knows.
    pub(crate) fn holder(&self, name: &Name) -> Option<NodeId> {
        match self.standing.companies.get(name) {
            Some(company) => company.lease.holder(),
            None => {
                let order = &self.roster.order_of(name)?.signed.order;
                order
                    .hosts
                    .first()
                    .copied()
                    .filter(|_| order.hosts.len() == 1)
            }
        }
    }

    /// Hosts that signed for what is not so, since the order that counts was given.
    pub(crate) fn quarantined(&self, name: &Name) -> BTreeSet<NodeId> {
        let since = self.roster.order_of(name).map_or(0, |placed| placed.since);
        self.standing.shunned(name, since, self.me)
    }

    /// How many agents live here.
    pub(crate) fn count(&self) -> u64 {
        let families = self.families.iter();
        families.map(|(_, here)| u64::from(here.agents)).sum()
    }

    /// How many steps an agent has taken.
    pub(crate) fn seq(&self, agent: u32) -> u64 {
        self.sleepers.state(agent).map_or(0, |(_, seq)| seq.into())
    }

    /// The last signed steps of an order's agents, oldest first.
    ///
    /// # Errors
    /// If the disk fails.
    pub(crate) fn steps(&self, name: &Name, most: usize) -> Result<Vec<Entry>, Problem> {
        let Some(here) = self.families.get(name) else {
            return Ok(Vec::new());
        };
        // Of whatever manifest: the publisher and the name make the agent.
        let granted = here.kind.granted();
        let alike = |other: &Kind| {
            let other = other.granted();
            other.publisher == granted.publisher && other.manifest.name == granted.manifest.name
        };
        self.ledger.last_of_kinds(most, &alike).map_err(broken)
    }
}

fn is_answer(effect: &Effect) -> bool {
    matches!(effect, Effect::Answer { .. })
}

fn broken(why: impl std::error::Error) -> Problem {
    Problem::new(
        "agents_failed",
        1,
        why.to_string(),
        "check the disk; what was acknowledged is in the home's folder `agents`",
    )
}

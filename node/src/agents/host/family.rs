//! A family: the agents of one order that live here; and all families, found by name and by number.

use crate::agents::outward::Doer;
use crate::agents::roster::{Name, Placed};
use crate::view::View;
use aquifer_protocol::TopicId;
use aquifer_wasm::desk::Effect;
use aquifer_wasm::kind::Kind;
use aquifer_wasm::manifest::covers;
use aquifer_wasm::wake::{Failed, Step};
use std::collections::{BTreeMap, btree_map};
use std::sync::Arc;

/// All families that live here.
#[derive(Debug, Default)]
pub(super) struct Families {
    all: BTreeMap<Name, Here>,
    /// Whose the agents are that begin at a number.
    firsts: BTreeMap<u32, Name>,
}

impl Families {
    pub(super) fn get(&self, name: &Name) -> Option<&Here> {
        self.all.get(name)
    }

    pub(super) fn iter(&self) -> btree_map::Iter<'_, Name, Here> {
        self.all.iter()
    }

    pub(super) fn insert(&mut self, name: Name, here: Here) {
        self.remove(&name);
        self.firsts.insert(here.first, name.clone());
        self.all.insert(name, here);
    }

    pub(super) fn remove(&mut self, name: &Name) -> Option<Here> {
        let here = self.all.remove(name)?;
        self.firsts.remove(&here.first);
        Some(here)
    }

    /// The family that an agent is of.
    pub(super) fn of(&self, agent: u32) -> Option<(&Name, &Here)> {
        let name = self.firsts.range(..=agent).next_back()?.1;
        let here = self.all.get(name).filter(|here| here.has(agent))?;
        Some((name, here))
    }

    /// One of a family woke, by number. Whose it is.
    pub(super) fn woke(
        &mut self,
        agent: u32,
        now: u64,
        outcome: &Result<Step, Failed>,
    ) -> Option<Name> {
        let name = self.of(agent)?.0.clone();
        self.all.get_mut(&name)?.woke(now, outcome);
        Some(name)
    }
}

/// Agents of one order that live here.
#[derive(Clone, Debug)]
pub(crate) struct Here {
    /// The number of the first.
    pub(crate) first: u32,
    /// How many.
    pub(crate) agents: u32,
    /// What they are.
    pub(crate) kind: Arc<Kind>,
    pub(super) doer: Doer,
    pub(super) home: TopicId,
    /// What was published before is not for them.
    pub(super) since: u64,
    /// Topics that they may recall from.
    pub(super) reads: Arc<Vec<TopicId>>,
    /// What the last of them to say how it is said.
    pub(crate) health: Option<(i32, String)>,
    /// Steps and failures since this process began.
    pub(crate) steps: u64,
    /// Wakes that came to nothing.
    pub(crate) failures: u64,
    /// Why the last one did.
    pub(crate) failed: Option<String>,
    /// When one last woke, in milliseconds since 1970.
    pub(crate) woke: Option<u64>,
}

impl Here {
    /// The family of an order, as its kind lives here from the number `first` on.
    pub(super) fn new(view: &View, placed: &Placed, first: u32, kind: Kind) -> Option<Self> {
        let law = view.law.topic(placed.topic)?;
        let manifest = &kind.granted().manifest;
        let name = manifest.name.clone();
        let followed = view
            .law
            .topics()
            .filter(|(_, law)| covers(&manifest.follows, law.name.as_str()));
        let reads = followed
            .map(|(topic, _)| topic)
            .chain([placed.topic])
            .collect();
        Some(Self {
            first,
            agents: placed.signed.order.agents,
            doer: Doer {
                name,
                home: law.name.clone(),
            },
            home: placed.topic,
            since: placed.since,
            reads: Arc::new(reads),
            kind: Arc::new(kind),
            health: None,
            steps: 0,
            failures: 0,
            failed: None,
            woke: None,
        })
    }

    /// The same family after its order changed: what was counted stays.
    pub(super) fn after(self, old: Option<Self>) -> Self {
        let Some(old) = old else { return self };
        Self {
            since: old.since,
            health: old.health,
            steps: old.steps,
            failures: old.failures,
            failed: old.failed,
            woke: old.woke,
            ..self
        }
    }

    /// Whether an agent is one of them.
    pub(super) fn has(&self, agent: u32) -> bool {
        (self.first..self.first + self.agents).contains(&agent)
    }

    /// One of them woke.
    fn woke(&mut self, now: u64, outcome: &Result<Step, Failed>) {
        self.woke = Some(now);
        match outcome {
            Ok(step) => self.stepped(step),
            Err(why) => {
                self.failures += 1;
                self.failed = Some(why.to_string());
                let agent = &self.doer.name;
                tracing::warn!(target: "aquifer::agents", %agent, %why, "a wake came to nothing");
            }
        }
    }

    fn stepped(&mut self, step: &Step) {
        self.steps += 1;
        for effect in &step.effects {
            match effect {
                Effect::Health { code, words } => self.health = Some((*code, words.clone())),
                Effect::Log { level, line } => {
                    let agent = &self.doer.name;
                    tracing::debug!(target: "aquifer::agents::log", %agent, level, %line);
                }
                _ => {}
            }
        }
    }
}

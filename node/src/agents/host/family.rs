//! A family: the agents of one order that live here.

use crate::agents::outward::Doer;
use crate::agents::roster::Placed;
use crate::view::View;
use aquifer_protocol::TopicId;
use aquifer_wasm::desk::Effect;
use aquifer_wasm::kind::Kind;
use aquifer_wasm::manifest::covers;
use aquifer_wasm::wake::{Failed, Step};
use std::sync::Arc;

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
    pub(super) fn woke(&mut self, now: u64, outcome: &Result<Step, Failed>) {
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

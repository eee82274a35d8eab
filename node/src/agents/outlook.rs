//! The outlook: what a waking agent sees of its node, and what the law lets it do.
//!
//! It is one moment of the node, the same from the first call of a wake to the last.

use super::infer::{Model, PATIENCE};
use crate::clock::Stopwatch;
use crate::indexer::Indexer;
use crate::recall::{Filter, Mode};
use crate::view::View;
use aquifer_protocol::decide::keepable;
use aquifer_protocol::{Label, Op, RecordId, Subject, TopicId, TopicName, decide};
use aquifer_wasm::abi::Code;
use aquifer_wasm::desk::{Answer, Effect, World};
use std::sync::Arc;
use std::time::Duration;

/// The most texts of one answer.
const TEXTS_MAX: usize = 8;

/// The node, as one agent may see it.
pub(super) struct Outlook {
    pub(super) view: Arc<View>,
    pub(super) indexer: Arc<Indexer>,
    /// Where it lives.
    pub(super) home: TopicId,
    /// Topics it may recall from: its home, and what it follows.
    pub(super) reads: Arc<Vec<TopicId>>,
    /// What it may ask, if this node has one,
    pub(super) model: Option<Arc<Model>>,
    /// and for how long that has thought in this wake.
    pub(super) thought: Duration,
}

impl World for Outlook {
    fn may(&mut self, effect: &Effect) -> Result<(), Code> {
        match effect {
            Effect::Publish { topic, .. } => {
                let name: TopicName = topic.parse().map_err(|_| Code::Bad)?;
                if name.is_reserved() {
                    return Err(Code::Forbidden);
                }
                match self.view.law.named(&name) {
                    Some(law) => self.writes(law.label()),
                    // It will be founded, with the narrowest law there is.
                    None => Ok(()),
                }
            }
            Effect::Remember { .. } | Effect::Send { .. } | Effect::Answer { .. } => {
                let label = self.view.law.label(self.home);
                self.writes(label.map_err(|_| Code::Forbidden)?)
            }
            Effect::Keep { .. } | Effect::Wake { .. } => Ok(()),
            Effect::Log { .. } | Effect::Health { .. } => Ok(()),
        }
    }

    fn recall(&mut self, query: &str) -> Answer {
        let readable = self
            .reads
            .iter()
            .filter(|topic| self.view.may_read(**topic).is_ok());
        let filter = Filter {
            topics: readable.map(|topic| topic.0).collect(),
            ..Filter::default()
        };
        let hits = self.indexer.search(query, &filter, Mode::Hybrid, TEXTS_MAX);
        let texts = hits.iter().filter_map(|hit| {
            let memory = self.view.memory(&RecordId(hit.id), None).ok()??;
            Some(memory.text)
        });
        let texts: Vec<String> = texts.collect();
        Ok(minicbor::to_vec(texts).expect("a vector takes any encoding"))
    }

    fn kv_get(&mut self, _: &[u8]) -> Answer {
        Err(Code::NotFound)
    }

    fn infer(&mut self, prompt: &str) -> Answer {
        let model = self.model.as_ref().ok_or(Code::Unavailable)?;
        let left = PATIENCE.saturating_sub(self.thought);
        let watch = Stopwatch::start();
        let said = model.ask(prompt, left);
        self.thought += watch.elapsed();
        said
    }

    fn deliberates(&self) -> bool {
        self.model.is_some()
    }
}

impl Outlook {
    /// Whether this node may write what `label` is on: a writer keeps what it writes.
    fn writes(&self, label: Label<'_>) -> Result<(), Code> {
        let member = &self.view.me;
        let subject = Subject {
            member,
            at: self.view.now,
        };
        let may = |op| decide(op, label, subject, label.epoch);
        let all = may(Op::Publish).and_then(|()| may(Op::Store));
        all.and_then(|()| keepable(label, self.view.snapshot.erases()))
            .map_err(|_| Code::Forbidden)
    }
}

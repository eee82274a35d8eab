//! Recall: from a question to memories, with what they rest on.
//!
//! The topics a question may touch are settled by the law first; only then does the index look.
//! Coverage says which nodes are to hold those topics and which of them are known to have nothing
//! that this node lacks.

use super::{INDEX_PATIENCE, Memory, denied, not_found, topic_name, unreadable};
use crate::api::{Coverage, Hit, Problem, Recall, Recalled};
use crate::recall::{Filter, Mode};
use crate::view::View;
use crate::{keys, names};
use aquifer_protocol::time::Time;
use aquifer_protocol::{AgentId, Command, NodeId, RecordId, Reply, TopicId};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const K_DEFAULT: usize = 8;
const K_MAX: usize = 100;
const WAIT_MAX_MS: u64 = 60_000;

impl Memory {
    /// Finds memories.
    ///
    /// # Errors
    /// `not_found` if the topic is not known, `policy_refused` if the law keeps it from this node.
    pub async fn recall(&self, asked: Recall) -> Result<Recalled, Problem> {
        let mode = mode(asked.mode.as_deref())?;
        let wait = Duration::from_millis(asked.wait_ms.unwrap_or(0).min(WAIT_MAX_MS));
        let since = self.inner.helm.now();
        if !wait.is_zero() {
            self.wait_for_peers(asked.topic.as_deref(), since, wait)
                .await?;
        }
        let view = self.view();
        let topics = self.readable(&view, asked.topic.as_deref())?;
        let coverage = self.coverage(&view, &topics);
        let filter = Filter {
            topics,
            tags: asked.tags.clone(),
            author: asked
                .author
                .as_deref()
                .map(|a| self.author(a))
                .transpose()?
                .map(|a| a.0),
            kind: asked.kind.as_deref().map(names::parse_class).transpose()?,
            since_ms: asked.since,
            until_ms: asked.until.map(|until| until.saturating_sub(1)),
            as_of_ms: asked.as_of,
            valid_at_ms: Some(asked.as_of.unwrap_or_else(|| view.now.millis())),
            after: None,
        };
        self.inner.indexer.caught_up(INDEX_PATIENCE).await;
        // The index may be ahead of the view that was taken: take one that is not behind it.
        let view = self.view();
        let k = asked.k.unwrap_or(K_DEFAULT).clamp(1, K_MAX);
        let hits = self.inner.indexer.search(&asked.query, &filter, mode, k);
        let mut results = Vec::with_capacity(hits.len());
        let mut budget = asked.budget_tokens.map(|tokens| tokens.saturating_mul(4));
        for hit in hits {
            let Some(memory) = view
                .memory(&RecordId(hit.id), asked.as_of)
                .map_err(unreadable)?
            else {
                continue;
            };
            if let Some(left) = &mut budget {
                // About four bytes a token; the first result is given whatever its length.
                if memory.text.len() > *left && !results.is_empty() {
                    break;
                }
                *left = left.saturating_sub(memory.text.len());
            }
            results.push(Hit {
                score: hit.score,
                lexical: hit.lexical,
                semantic: hit.semantic,
                memory,
            });
        }
        Ok(Recalled { results, coverage })
    }

    /// The topics that a question about `topic` may touch.
    pub(super) fn readable(
        &self,
        view: &View,
        topic: Option<&str>,
    ) -> Result<BTreeSet<[u8; 32]>, Problem> {
        let name = topic.map(topic_name).transpose()?;
        if let Some(name) = &name {
            let known = view.law.named(name);
            if known.is_none() && view.readable(Some(name)).is_empty() {
                return Err(not_found(format!("there is no topic `{name}` here")));
            }
            if known.is_some() {
                view.may_read(name.id(view.law.hive()))
                    .map_err(|denial| denied(&denial))?;
            }
        }
        Ok(view
            .readable(name.as_ref())
            .into_iter()
            .map(|topic| topic.0)
            .collect())
    }

    fn author(&self, text: &str) -> Result<AgentId, Problem> {
        if let Some(agent) = names::parse_agent(text) {
            return Ok(agent);
        }
        if let Some(node) = names::parse_node(text) {
            return Ok(AgentId(node.0));
        }
        let named = keys::load(&self.inner.home, &format!("agents/{text}.key"))
            .ok()
            .flatten();
        match named {
            Some(keys) if !text.contains(['/', '\\']) => Ok(AgentId(keys.public())),
            _ => Err(not_found(format!(
                "`{text}` is neither an agent of this node nor a did:key"
            ))),
        }
    }

    /// Compares the topic with every holder that is up, and waits until they all agree or `wait` is
    /// over.
    async fn wait_for_peers(
        &self,
        topic: Option<&str>,
        since: Time,
        wait: Duration,
    ) -> Result<(), Problem> {
        let name = topic.map(topic_name).transpose()?;
        let until = since + wait;
        let mut agreements = self.inner.observed.agreements();
        let mut pending: BTreeMap<TopicId, Vec<NodeId>> = BTreeMap::new();
        let mut asked = BTreeSet::new();
        loop {
            let view = self.view();
            for topic in view.readable(name.as_ref()) {
                let Some(law) = view.law.topic(topic) else {
                    continue;
                };
                if asked.insert(topic) {
                    let refresh = Command::Refresh {
                        topic: law.name.clone(),
                    };
                    if let Reply::Refreshing { peers } = self.inner.helm.ask(refresh).await? {
                        pending.insert(topic, peers);
                    }
                }
            }
            let agreed = |topic: &TopicId, peer: &NodeId| {
                self.inner
                    .observed
                    .agreed(*topic, peer)
                    .is_some_and(|at| at >= since)
            };
            for (topic, peers) in &mut pending {
                peers.retain(|peer| !agreed(topic, peer));
            }
            if !asked.is_empty() && pending.values().all(Vec::is_empty) {
                return Ok(());
            }
            let left = until.since(self.inner.helm.now());
            if left.is_zero() {
                return Ok(());
            }
            // Something new may also be a topic's law: look again now and then.
            let nap = left.min(Duration::from_millis(50));
            let _ = tokio::time::timeout(nap, agreements.changed()).await;
        }
    }

    /// Which nodes are to hold these topics, and which of them agree with us.
    fn coverage(&self, view: &View, topics: &BTreeSet<[u8; 32]>) -> Coverage {
        let me = view.me.node();
        let mut asked = BTreeSet::from([me]);
        let mut missing = BTreeSet::new();
        for topic in topics {
            let topic = TopicId(*topic);
            for node in view.holders(topic) {
                asked.insert(node);
                if node != me && self.inner.observed.agreed(topic, &node).is_none() {
                    missing.insert(node);
                }
            }
        }
        Coverage {
            asked: asked.len(),
            answered: asked.len() - missing.len(),
            missing: missing.iter().map(|node| self.name_node(node)).collect(),
        }
    }
}

fn mode(text: Option<&str>) -> Result<Mode, Problem> {
    match text.unwrap_or("auto") {
        "auto" | "hybrid" => Ok(Mode::Hybrid),
        "lexical" => Ok(Mode::Lexical),
        "semantic" => Ok(Mode::Semantic),
        other => {
            let message = format!("`{other}` is not a way to recall");
            Err(Problem::new(
                "bad_mode",
                2,
                message,
                "give auto, lexical or semantic",
            ))
        }
    }
}

//! Recall: from a question to memories, with what they rest on.
//!
//! The topics a question may touch are settled by the law first; only then does the index look.
//! Topics that this node does not hold are asked of the nodes that do (`ask`), and so is everything when
//! the whole swarm is asked.
//!
//! Coverage has one meaning: of the nodes that are to hold those topics, how many have their knowledge
//! in the answer. This node has; a node whose logs are known to equal ours has; a node that answered
//! the question itself has.

use super::ask::{Asking, Gathered, Wanted};
use super::{INDEX_PATIENCE, Memory, denied, not_found, topic_name, unreadable};
use crate::api::{Coverage, Hit, MemoryView, Missing, Problem, Recall, Recalled};
use crate::ask::{Sought, Vector};
use crate::recall::{self, EMBEDDER, Filter, Mode, Query, Union};
use crate::view::View;
use crate::{keys, names};
use aquifer_protocol::time::Time;
use aquifer_protocol::{AgentId, Command, NodeId, RecordId, Reply, TopicId};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const K_DEFAULT: usize = 8;
const K_MAX: usize = 100;
const WAIT_MAX_MS: u64 = 60_000;
/// How long other nodes may take to answer when nobody says.
const ASK_PATIENCE_MS: u64 = 2_000;

/// Who is asked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// This node only.
    Local,
    /// Other nodes where this one does not hold the topic.
    Auto,
    /// Every node that is to hold what is asked about.
    Swarm,
}

impl Memory {
    /// Finds memories.
    ///
    /// # Errors
    /// `not_found` if the topic is not known, `policy_refused` if the law keeps it from this node.
    pub async fn recall(&self, asked: Recall) -> Result<Recalled, Problem> {
        let mode = mode(asked.mode.as_deref())?;
        let reach = reach(asked.scope.as_deref())?;
        let wait = Duration::from_millis(asked.wait_ms.unwrap_or(0).min(WAIT_MAX_MS));
        let since = self.inner.helm.now();
        if !wait.is_zero() && reach != Reach::Swarm {
            self.wait_for_peers(asked.topic.as_deref(), since, wait)
                .await?;
        }
        let view = self.view();
        let topics = self.readable(&view, asked.topic.as_deref())?;
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
        let query = Query::of(&asked.query);
        let holders = holders(&view, &filter.topics);
        let asking = self.asking(&view, &holders, reach);
        let mut gathered = Gathered::default();
        let hits = if asking.is_empty() || query.is_void() {
            self.inner.indexer.find(&query, &filter, mode, None, k)
        } else {
            let left = asked
                .wait_ms
                .map_or(ASK_PATIENCE_MS, |ms| ms.min(WAIT_MAX_MS));
            let spent = self.inner.helm.now().since(since);
            let left = Duration::from_millis(left).saturating_sub(spent);
            let mut union = Union::new(query.terms());
            for (topic, told) in self.inner.indexer.statistics_by_topic(&query, &filter) {
                union.add(topic, &told);
            }
            let wanted = Wanted {
                sought: sought(&query, &filter),
                mode,
                k,
            };
            gathered = self
                .gather(&view, asking.clone(), &wanted, &mut union, left)
                .await;
            let total = union.total();
            let here = self
                .inner
                .indexer
                .find(&query, &filter, mode, Some(&total), k);
            let all = here.into_iter().chain(std::mem::take(&mut gathered.hits));
            recall::rank(all.collect(), &total, mode, k)
        };
        let results = self.show_hits(&view, hits, &gathered, &asked)?;
        let coverage = self.coverage(&view, &holders, &asking, &gathered);
        Ok(Recalled { results, coverage })
    }

    /// The memories behind hits: this node's own copy where it has that version, else the answer's.
    fn show_hits(
        &self,
        view: &View,
        hits: Vec<recall::Hit>,
        gathered: &Gathered,
        asked: &Recall,
    ) -> Result<Vec<Hit>, Problem> {
        let mut results = Vec::with_capacity(hits.len());
        let mut budget = asked.budget_tokens.map(|tokens| tokens.saturating_mul(4));
        for hit in hits {
            let own = view
                .memory(&RecordId(hit.id), asked.as_of)
                .map_err(unreadable)?;
            let far = gathered.shown.get(&(hit.id, hit.version_ms));
            let is_newer = |far: &&MemoryView| {
                own.as_ref()
                    .is_none_or(|own| own.updated_at < far.updated_at)
            };
            let Some(memory) = far.filter(is_newer).cloned().or(own) else {
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
        Ok(results)
    }

    /// Whether this node has some of `topic`, though it need not be among those that are to hold it.
    fn has_some(&self, topic: TopicId) -> bool {
        let of_topic = Filter {
            topics: [topic.0].into(),
            ..Filter::default()
        };
        self.inner.indexer.count(&of_topic) > 0
    }

    /// Which nodes are to be asked about which topics.
    fn asking(&self, view: &View, holders: &Holders, reach: Reach) -> Asking {
        let me = view.me.node();
        let mut asking = Asking::new();
        for (topic, holders) in holders {
            let is_asked = match reach {
                Reach::Local => false,
                // Who wrote there and is not to hold it keeps it in step too, once it has met a holder.
                Reach::Auto => {
                    let agrees = |node| self.inner.observed.agreed(*topic, node).is_some();
                    let in_step = self.has_some(*topic) && holders.iter().any(agrees);
                    !holders.contains(&me) && !in_step
                }
                Reach::Swarm => true,
            };
            for node in holders.iter().filter(|node| is_asked && **node != me) {
                asking.entry(*node).or_default().push(*topic);
            }
        }
        asking
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
                let me = view.me.node();
                let held = || view.holders(topic).contains(&me) || self.has_some(topic);
                if asked.insert(topic) && held() {
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

    /// Which nodes are to hold these topics, and whose knowledge of them is in the answer.
    fn coverage(
        &self,
        view: &View,
        holders: &Holders,
        asking: &Asking,
        gathered: &Gathered,
    ) -> Coverage {
        let me = view.me.node();
        let mut asked = BTreeSet::from([me]);
        let mut missing = BTreeMap::new();
        for (topic, holders) in holders {
            for node in holders.iter().copied().filter(|node| *node != me) {
                asked.insert(node);
                let agrees = self.inner.observed.agreed(*topic, &node).is_some();
                if agrees || gathered.answered.contains(&(node, *topic)) {
                    continue;
                }
                let why = match gathered.failed.get(&node) {
                    Some(why) => why.clone(),
                    None if asking.contains_key(&node) => "it did not answer".to_owned(),
                    None if self.inner.observed.is_up(&node) => {
                        "it is not known to agree with this node".to_owned()
                    }
                    None => "it is not connected".to_owned(),
                };
                missing.entry(node).or_insert(why);
            }
        }
        let missing: Vec<Missing> = missing
            .into_iter()
            .map(|(node, why)| Missing {
                node: self.name_node(&node),
                why,
            })
            .collect();
        Coverage {
            asked: asked.len(),
            answered: asked.len() - missing.len(),
            missing,
        }
    }
}

/// Who is to hold each of the topics.
type Holders = BTreeMap<TopicId, Vec<NodeId>>;

fn holders(view: &View, topics: &BTreeSet<[u8; 32]>) -> Holders {
    let topics = topics.iter().map(|topic| TopicId(*topic));
    topics.map(|topic| (topic, view.holders(topic))).collect()
}

/// What the filter and the query ask of other nodes, but for the topics.
fn sought(query: &Query, filter: &Filter) -> Sought {
    let vector = (!query.is_newest()).then(|| Vector {
        embedder: EMBEDDER.to_owned(),
        values: query.values().into(),
    });
    Sought {
        topics: Vec::new(),
        terms: query.terms().to_vec(),
        vector,
        tags: filter.tags.clone(),
        author: filter.author,
        kind: filter.kind,
        since_ms: filter.since_ms,
        until_ms: filter.until_ms,
        as_of_ms: filter.as_of_ms,
        valid_at_ms: filter.valid_at_ms,
    }
}

fn reach(text: Option<&str>) -> Result<Reach, Problem> {
    match text.unwrap_or("auto") {
        "auto" => Ok(Reach::Auto),
        "local" => Ok(Reach::Local),
        "swarm" => Ok(Reach::Swarm),
        other => {
            let message = format!("`{other}` is not a scope");
            Err(Problem::new(
                "bad_scope",
                2,
                message,
                "give auto, local or swarm",
            ))
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

//! Memory: the one API. Every door is a thin translator over it.
//!
//! Writes go through the driver to the replica; reads take the published view and never wait for a
//! commit. What a reader may see, the law of that same view decides.
//!
//! Here: forget, get, list, history, watch. In `memory/`: remember, recall, and govern (topics,
//! policies, invitations, status). `ask` and `answer` speak with other nodes, `edge` with devices; `swarm`
//! is ping, peers and the graph, `tasks` the second tier.

mod agents;
mod answer;
mod ask;
pub(crate) mod edge;
mod govern;
#[cfg(test)]
mod liars;
pub mod models;
mod ordering;
mod recall;
mod refusal;
mod remember;
mod swarm;
mod tasks;

use crate::admission::Admission;
use crate::agents::Agents;
use crate::api::{
    Durable, Forget, Forgotten, Happening, List, Listed, MemoryView, NodeName, Problem, VersionView,
};
use crate::driver::Helm;
use crate::home::Home;
use crate::indexer::Indexer;
use crate::net::NetCommand;
use crate::observer::Observed;
use crate::recall::{Filter, MAX_HITS, Mode};
use crate::store::{EngineKind, Health};
use crate::tasks::Tasks;
use crate::view::View;
use crate::{keys, names};
use aquifer_protocol::log::ReadRecord;
use aquifer_protocol::{Command, Durability, NodeId, RecordId, Reply, TopicName};
use refusal::{denied, refused, unexpected};
pub use remember::BATCH_MAX;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
pub(crate) use tasks::{ended, job};
use tokio::sync::{broadcast, mpsc};

const PATIENCE_MS: u64 = 10_000;
/// How long a reader waits for the index to see what was committed before it asked.
const INDEX_PATIENCE: Duration = Duration::from_millis(500);
/// The node's memory. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Memory {
    inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) agents: Agents,
    pub(crate) helm: Helm,
    pub(crate) indexer: Arc<Indexer>,
    pub(crate) observed: Observed,
    pub(crate) health: Health,
    pub(crate) engine: EngineKind,
    pub(crate) home: Home,
    pub(crate) admission: Admission,
    pub(crate) net: mpsc::Sender<NetCommand>,
    pub(crate) api: Mutex<String>,
    pub(crate) up_since: u64,
    pub(crate) models: models::Models,
    pub(crate) gpu_bytes: u64,
    pub(crate) tasks: Tasks,
}

#[expect(clippy::unused_async, reason = "a door need not know which calls wait")]
impl Memory {
    pub(crate) fn new(inner: Inner) -> Self {
        Self {
            inner: Arc::new(inner),
        }
    }

    /// The memories called `ids`; an id may be cut to its first eight digits or more.
    ///
    /// # Errors
    /// `not_found` if one is missing or has no content any more, `policy_refused` if the law keeps
    /// it from this node.
    pub async fn get(&self, ids: &[String]) -> Result<Vec<MemoryView>, Problem> {
        let view = self.view();
        ids.iter()
            .map(|id| {
                let id = self.find_id(&view, id)?;
                let memory = view
                    .memory(&id, None)
                    .map_err(unreadable)?
                    .ok_or_else(|| no_memory(&id))?;
                self.may_show(&view, &id)?;
                Ok(memory)
            })
            .collect()
    }

    /// Memories, newest first, page by page.
    ///
    /// # Errors
    /// As [`Memory::recall`].
    pub async fn list(&self, asked: List) -> Result<Listed, Problem> {
        let view = self.view();
        let topics = self.readable(&view, asked.topic.as_deref())?;
        let limit = asked.limit.unwrap_or(50).clamp(1, 1_000);
        let cursor = asked.cursor.as_deref().map(read_cursor).transpose()?;
        self.inner.indexer.caught_up(INDEX_PATIENCE).await;
        let filter = Filter {
            topics,
            tags: asked.tags,
            since_ms: asked.since,
            after: cursor,
            ..Filter::default()
        };
        let hits = self.inner.indexer.search("", &filter, Mode::Hybrid, limit);
        let full = hits.len() == limit;
        let last = hits.last().filter(|_| full);
        let next_cursor = last.map(|hit| format!("{}:{}", hit.created_ms, RecordId(hit.id)));
        let mut memories = Vec::with_capacity(hits.len());
        for hit in &hits {
            let id = RecordId(hit.id);
            memories.extend(view.memory(&id, None).map_err(unreadable)?);
        }
        Ok(Listed {
            memories,
            next_cursor,
        })
    }

    /// All versions of a memory, oldest first.
    ///
    /// # Errors
    /// As [`Memory::get`].
    pub async fn history(&self, id: &str) -> Result<Vec<VersionView>, Problem> {
        let view = self.view();
        let id = self.find_id(&view, id)?;
        self.may_show(&view, &id)?;
        let (_, fold) = view
            .fold(&id)
            .map_err(unreadable)?
            .ok_or_else(|| no_memory(&id))?;
        Ok(fold
            .versions()
            .map(|version| view.version(version))
            .collect())
    }

    /// Forgets memories for good: a permanent tombstone, bodies removed here at once and on every
    /// other node as it hears of it.
    ///
    /// # Errors
    /// As [`Memory::get`].
    pub async fn forget(&self, asked: Forget) -> Result<Forgotten, Problem> {
        let view = self.view();
        let mut ids = Vec::new();
        for id in &asked.ids {
            ids.push(self.find_id(&view, id)?);
        }
        if let Some(topic) = &asked.topic {
            ids.extend(self.all_of(&view, topic).await?);
        }
        for id in &ids {
            self.may_show(&view, id)?;
        }
        let names = ids.iter().map(ToString::to_string).collect();
        let level = if asked.receipts { "holders" } else { "local" };
        if asked.dry_run || ids.is_empty() {
            return Ok(Forgotten {
                ids: names,
                dry_run: asked.dry_run,
                durable: self.local(level),
            });
        }
        let patience = Duration::from_millis(asked.wait_ms.unwrap_or(PATIENCE_MS));
        let durability = if asked.receipts {
            Durability::Holders { patience }
        } else {
            Durability::Local
        };
        let author = keys::agent(&self.inner.home, asked.agent.as_deref(), view.me.node())?;
        match self
            .inner
            .helm
            .ask(Command::Erase {
                ids,
                author,
                durability,
            })
            .await?
        {
            Reply::Written { durable, .. } => {
                let durable = self.durable(&durable, level);
                Ok(Forgotten {
                    ids: names,
                    dry_run: false,
                    durable,
                })
            }
            Reply::Refused(why) => Err(refused(&why)),
            _ => Err(unexpected()),
        }
    }

    async fn all_of(&self, view: &View, topic: &str) -> Result<Vec<RecordId>, Problem> {
        let name = topic_name(topic)?;
        self.readable(view, Some(topic))?;
        let only = name.id(view.law.hive());
        self.inner.indexer.caught_up(INDEX_PATIENCE).await;
        let mut filter = Filter {
            topics: [only.0].into(),
            ..Filter::default()
        };
        let mut ids = Vec::new();
        loop {
            let hits = self
                .inner
                .indexer
                .search("", &filter, Mode::Hybrid, MAX_HITS);
            ids.extend(hits.iter().map(|hit| RecordId(hit.id)));
            match hits.last() {
                Some(last) if hits.len() == MAX_HITS => {
                    filter.after = Some((last.created_ms, last.id));
                }
                _ => return Ok(ids),
            }
        }
    }

    /// What happens from now on.
    pub fn watch(&self) -> broadcast::Receiver<Happening> {
        self.inner.observed.watch()
    }

    /// All counters, in the Prometheus text format.
    pub fn metrics(&self) -> String {
        let mut text = self.inner.observed.metrics();
        let memories = self.inner.indexer.count(&self.all_readable(&self.view()));
        text.push_str(&format!(
            "# TYPE aquifer_memories gauge\naquifer_memories {memories}\n"
        ));
        text.push_str(&self.model_metrics());
        text
    }

    pub(crate) fn parts(&self) -> &Inner {
        &self.inner
    }

    pub(crate) fn view(&self) -> Arc<View> {
        self.inner.helm.view()
    }

    /// Remembers the address at which the API is really served.
    pub(crate) fn set_api(&self, api: String) {
        *self
            .inner
            .api
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = api;
    }

    fn all_readable(&self, view: &View) -> Filter {
        let topics = view
            .readable(None)
            .into_iter()
            .map(|topic| topic.0)
            .collect();
        Filter {
            topics,
            ..Filter::default()
        }
    }

    fn may_show(&self, view: &View, id: &RecordId) -> Result<(), Problem> {
        let Some((topic, _)) = view.fold(id).map_err(unreadable)? else {
            return Err(no_memory(id));
        };
        view.may_read(topic).map_err(|denial| denied(&denial))
    }

    /// The id that `text` is, or begins.
    fn find_id(&self, view: &View, text: &str) -> Result<RecordId, Problem> {
        let text = text.trim().to_ascii_lowercase();
        if text.len() == 64 || text.len() < 8 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return names::parse_record(&text);
        }
        let full =
            |filler: &str| RecordId::from_hex(&format!("{text}{}", filler.repeat(64 - text.len())));
        let (Some(from), Some(until)) = (full("0"), full("f")) else {
            return names::parse_record(&text);
        };
        let found = view.ids_between(&from, &until, 2).map_err(unreadable)?;
        match &found[..] {
            [only] => Ok(*only),
            [] => Err(not_found(format!("there is no memory {text}… here"))),
            _ => {
                let message = format!("several memories begin with {text}");
                Err(Problem::new("ambiguous_id", 2, message, "give more digits"))
            }
        }
    }

    fn local(&self, level: &str) -> Durable {
        let me = self.view().me.node();
        Durable {
            met: true,
            level: level.to_owned(),
            holders: vec![self.name_node(&me)],
            missing: vec![],
        }
    }

    fn durable(&self, durable: &aquifer_protocol::event::Durable, level: &str) -> Durable {
        let name = |nodes: &[NodeId]| nodes.iter().map(|node| self.name_node(node)).collect();
        Durable {
            met: durable.met,
            level: level.to_owned(),
            holders: name(&durable.holders),
            missing: name(&durable.missing),
        }
    }

    fn name_node(&self, node: &NodeId) -> NodeName {
        NodeName {
            node: names::node(node),
            region: self.view().region_of(node),
            last_seen: self.inner.observed.last_seen(node),
        }
    }
}

/// Reads a topic's name, or says what one looks like.
pub(crate) fn topic_name(text: &str) -> Result<TopicName, Problem> {
    text.parse()
        .map_err(|why: aquifer_protocol::topic::ParseTopicName| {
            Problem::new("bad_topic", 2, why.to_string(), "for example: -t acme/api")
        })
}

fn read_cursor(text: &str) -> Result<(u64, [u8; 32]), Problem> {
    let parts = text.split_once(':');
    let read = parts.and_then(|(at, id)| Some((at.parse().ok()?, RecordId::from_hex(id)?.0)));
    read.ok_or_else(|| {
        Problem::new(
            "bad_cursor",
            2,
            "this is not where a page ended",
            "give the next_cursor of the last page",
        )
    })
}

fn not_found(message: String) -> Problem {
    Problem::new(
        "not_found",
        3,
        message,
        "list what there is with `aquifer list`",
    )
}

fn no_memory(id: &RecordId) -> Problem {
    not_found(format!("there is no memory {id} here"))
}

fn unreadable(why: ReadRecord) -> Problem {
    let hint = "the node fetches damaged records again from its peers; try again, and see `aquifer doctor`";
    Problem::new(
        "unreadable",
        1,
        format!("a record could not be read: {why}"),
        hint,
    )
}

//! Memory: the one API. Every door is a thin translator over it.
//!
//! Writes go through the driver to the replica; reads take the published view and never wait for a
//! commit. What a reader may see, the law of that same view decides.
//!
//! Here: remember, forget, get, list, history, watch. In `memory/`: recall, and govern (topics,
//! policies, invitations, status).

mod govern;
mod recall;
mod refusal;

use crate::admission::Admission;
use crate::api::{
    DEFAULT_TOPIC, Durable, Forget, Forgotten, Happening, List, Listed, MemoryView, NodeName,
    PolicyView, Problem, Remember, Remembered, VersionView,
};
use crate::driver::Helm;
use crate::home::Home;
use crate::indexer::Indexer;
use crate::net::NetCommand;
use crate::observer::Observed;
use crate::recall::{Filter, Mode};
use crate::view::View;
use crate::{keys, names};
use aquifer_protocol::body::{Memory as Content, Revision};
use aquifer_protocol::limits::TEXT_BYTES_MAX;
use aquifer_protocol::log::ReadRecord;
use aquifer_protocol::{
    AgentId, Body, Command, Durability, NodeId, RecordId, Reply, TopicId, TopicName,
};
use refusal::{denied, refused, unexpected};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{broadcast, mpsc};

const PATIENCE_MS: u64 = 10_000;
/// How long a reader waits for the index to see what was committed before it asked.
const INDEX_PATIENCE: Duration = Duration::from_millis(500);
/// The most memories of one `remember_many`.
pub const BATCH_MAX: usize = 256;

/// The node's memory. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Memory {
    inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) helm: Helm,
    pub(crate) indexer: Arc<Indexer>,
    pub(crate) observed: Observed,
    pub(crate) home: Home,
    pub(crate) admission: Admission,
    pub(crate) net: mpsc::Sender<NetCommand>,
    pub(crate) api: Mutex<String>,
    pub(crate) up_since: u64,
}

impl Memory {
    pub(crate) fn new(inner: Inner) -> Self {
        Self {
            inner: Arc::new(inner),
        }
    }

    /// Remembers one text. The same text by the same agent under the same topic and tags is one
    /// memory, however often it is remembered.
    ///
    /// # Errors
    /// `oversize`, `policy_refused`, `not_found` (of a revised memory), and whatever keeps the node
    /// from writing.
    pub async fn remember(&self, asked: Remember) -> Result<Remembered, Problem> {
        let mut done = self.remember_many(vec![asked]).await?;
        done.pop().ok_or_else(unexpected)
    }

    /// Remembers up to 256 texts under one topic in one commit: all or none.
    ///
    /// # Errors
    /// As [`Memory::remember`]; `mixed_batch` if they name several topics, agents or durabilities.
    pub async fn remember_many(&self, asked: Vec<Remember>) -> Result<Vec<Remembered>, Problem> {
        let Some(first) = asked.first() else {
            return Ok(Vec::new());
        };
        let shared = |r: &Remember| {
            (
                r.topic.clone(),
                r.agent.clone(),
                r.durability.clone(),
                r.wait_ms,
            )
        };
        if asked.len() > BATCH_MAX || asked.iter().any(|r| shared(r) != shared(first)) {
            let message =
                format!("a batch is up to {BATCH_MAX} memories of one topic, agent and durability");
            return Err(Problem::new(
                "mixed_batch",
                2,
                message,
                "send several batches",
            ));
        }
        let topic = topic_name(first.topic.as_deref().unwrap_or(DEFAULT_TOPIC))?;
        let (durability, level) = durability(first.durability.as_deref(), first.wait_ms)?;
        let view = self.view();
        let author = keys::agent(&self.inner.home, first.agent.as_deref(), view.me.node())?;
        if let Some(region) = &first.region {
            self.expect_region(&view, &topic, region)?;
        }
        let founded = self.found_if_new(&view, &topic).await?;
        let view = self.view();
        let topic_id = topic.id(view.law.hive());
        let mut plans = Vec::with_capacity(asked.len());
        let mut bodies = Vec::new();
        for one in &asked {
            plans.push(self.plan(&view, topic_id, author, one, &mut bodies)?);
        }
        let (ids, durable) = if bodies.is_empty() {
            (Vec::new(), self.local(&level))
        } else {
            let command = Command::Write {
                topic: topic.clone(),
                author,
                bodies,
                durability,
            };
            match self.inner.helm.ask(command).await? {
                Reply::Written { ids, durable } => (ids, self.durable(&durable, &level)),
                Reply::Refused(why) => return Err(refused(&why)),
                _ => return Err(unexpected()),
            }
        };
        let region = view.me.region().to_string();
        plans
            .into_iter()
            .map(|plan| {
                let (id, deduplicated) = match plan {
                    Plan::Known(id) => (id, true),
                    Plan::Revise(of) => (of, false),
                    Plan::Write(place) => (*ids.get(place).ok_or_else(unexpected)?, false),
                    Plan::SameAs(place) => (*ids.get(place).ok_or_else(unexpected)?, true),
                };
                Ok(Remembered {
                    id: id.to_string(),
                    topic: topic.to_string(),
                    region: region.clone(),
                    deduplicated,
                    topic_founded: founded,
                    durable: durable.clone(),
                })
            })
            .collect()
    }

    /// Decides what one `remember` comes to, and adds its body if there is one to write.
    fn plan(
        &self,
        view: &View,
        topic: TopicId,
        author: AgentId,
        asked: &Remember,
        bodies: &mut Vec<Body>,
    ) -> Result<Plan, Problem> {
        let content = content(asked)?;
        if let Some(of) = &asked.revises {
            let of = self.find_id(view, of)?;
            let (in_topic, fold) = view
                .fold(&of)
                .map_err(unreadable)?
                .ok_or_else(|| no_memory(&of))?;
            if in_topic != topic {
                let name = view.topic_name(in_topic);
                let message = format!("memory {of} is in topic `{name}`");
                return Err(Problem::new(
                    "other_topic",
                    2,
                    message,
                    format!("revise it with -t {name}"),
                ));
            }
            let replaces = fold
                .heads()
                .iter()
                .map(|version| version.record.id())
                .collect();
            bodies.push(Body::Revision(Revision {
                of,
                replaces,
                memory: content,
            }));
            return Ok(Plan::Revise(of));
        }
        if let Some(known) = self.inner.indexer.same(topic, author, &content) {
            // The map is a hint: the memory may have been erased or revised since.
            let still = view.memory(&known, None).map_err(unreadable)?;
            if still.is_some_and(|memory| memory.text == content.text) {
                return Ok(Plan::Known(known));
            }
            self.inner.indexer.unlearn(topic, author, &content);
        }
        let body = Body::Memory(content);
        if let Some(twin) = bodies.iter().position(|other| *other == body) {
            return Ok(Plan::SameAs(twin));
        }
        bodies.push(body);
        Ok(Plan::Write(bodies.len() - 1))
    }

    /// Founds `topic` if it is not there: with its parent's law, or kept in this node's own
    /// top-level region. Where data may go is widened by a person, never by a default.
    async fn found_if_new(&self, view: &View, topic: &TopicName) -> Result<bool, Problem> {
        if view.law.named(topic).is_some() || topic.is_reserved() {
            return Ok(false);
        }
        let above = topic.ancestors().find_map(|name| view.law.named(&name));
        let policy = match above {
            Some(_) => PolicyView::default(),
            None => PolicyView {
                allowed_regions: Some(vec![view.me.region().top().to_string()]),
                ..PolicyView::default()
            },
        };
        match self.topic_create(topic.as_str(), policy).await {
            Ok(_) => Ok(true),
            Err(problem) if problem.code == "topic_exists" => Ok(false),
            Err(problem) => Err(problem),
        }
    }

    fn expect_region(&self, view: &View, topic: &TopicName, region: &str) -> Result<(), Problem> {
        let region = crate::config::parse_region(region)?;
        match view.law.named(topic) {
            Some(law) => {
                aquifer_protocol::decide::allowed_in(law.label(), &region).map_err(|d| denied(&d))
            }
            None => Ok(()),
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
            until_ms: cursor.map(|(at, _)| at),
            ..Filter::default()
        };
        // Several memories may share the cursor's millisecond, so a page is cut after its id.
        let hits = self
            .inner
            .indexer
            .search("", &filter, Mode::Hybrid, crate::recall::MAX_HITS);
        let past = |hit: &&crate::recall::Hit| {
            cursor
                .is_none_or(|(at, id)| hit.created_ms < at || (hit.created_ms == at && hit.id > id))
        };
        let mut hits = hits.iter().filter(past);
        let mut memories = Vec::new();
        let mut next_cursor = None;
        for hit in hits.by_ref().take(limit) {
            if let Some(memory) = view.memory(&RecordId(hit.id), None).map_err(unreadable)? {
                memories.push(memory);
            }
            next_cursor = Some(format!("{}:{}", hit.created_ms, RecordId(hit.id)));
        }
        let more = hits.next().is_some();
        Ok(Listed {
            memories,
            next_cursor: next_cursor.filter(|_| more),
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
        let filter = Filter {
            topics: [only.0].into(),
            ..Filter::default()
        };
        let hits = self
            .inner
            .indexer
            .search("", &filter, Mode::Hybrid, crate::recall::MAX_HITS);
        Ok(hits.iter().map(|hit| RecordId(hit.id)).collect())
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

/// What one `remember` comes to.
enum Plan {
    /// The body at this place of the batch is written.
    Write(usize),
    /// The same as the body at this place of the batch.
    SameAs(usize),
    /// A new version of this memory.
    Revise(RecordId),
    /// This memory says so already.
    Known(RecordId),
}

/// Reads a topic's name, or says what one looks like.
pub(crate) fn topic_name(text: &str) -> Result<TopicName, Problem> {
    text.parse()
        .map_err(|why: aquifer_protocol::topic::ParseTopicName| {
            Problem::new("bad_topic", 2, why.to_string(), "for example: -t acme/api")
        })
}

fn content(asked: &Remember) -> Result<Content, Problem> {
    let len = asked.text.len();
    if asked.text.trim().is_empty() {
        return Err(Problem::new(
            "empty_text",
            2,
            "there is no text to remember",
            "give a text, or - to read it from standard input",
        ));
    }
    if len > TEXT_BYTES_MAX {
        let message = format!("the text is {len} bytes long; the limit is {TEXT_BYTES_MAX}");
        return Err(Problem::new(
            "oversize",
            2,
            message,
            "split it, or remember a summary and where the whole is",
        ));
    }
    let importance = asked.importance.unwrap_or(0.5);
    if !(0.0..=1.0).contains(&importance) {
        return Err(Problem::new(
            "bad_importance",
            2,
            "importance is a number from 0 to 1",
            "",
        ));
    }
    Ok(Content {
        class: asked.kind.as_deref().map_or(Ok(2), names::parse_class)?,
        tags: asked.tags.clone(),
        metadata: asked.metadata.clone(),
        importance: (importance * 1_000.0) as u16,
        valid_from: asked.valid_from,
        valid_until: asked.valid_until,
        source: asked.source.clone(),
        created_at: asked.created_at,
        ..Content::of(asked.text.clone())
    })
}

fn durability(text: Option<&str>, wait_ms: Option<u64>) -> Result<(Durability, String), Problem> {
    let text = text.unwrap_or("local");
    let patience = Duration::from_millis(wait_ms.unwrap_or(PATIENCE_MS));
    let count = |text: &str| text.parse().ok().filter(|nodes| *nodes > 0);
    let durability = match text.split_once(':') {
        None if text == "local" => Some(Durability::Local),
        Some(("quorum", k)) => count(k).map(|nodes| Durability::Quorum { nodes, patience }),
        Some(("region", k)) => count(k).map(|nodes| Durability::Region { nodes, patience }),
        _ => None,
    };
    let durability = durability.ok_or_else(|| {
        let message = format!("`{text}` is not a durability");
        Problem::new(
            "bad_durability",
            2,
            message,
            "give local, quorum:K or region:K",
        )
    })?;
    Ok((durability, text.to_owned()))
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

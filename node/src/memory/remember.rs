//! Remember: from a request to records, all of a batch or none.
//!
//! The same text by the same agent under the same topic and tags is one memory. A topic that does
//! not exist yet is founded with the narrowest law that makes sense: its parent's, or this node's
//! own top-level region. Where data may go is widened by a person, never by a default.

use super::{Memory, PATIENCE_MS, denied, no_memory, refused, topic_name, unexpected, unreadable};
use crate::api::{DEFAULT_TOPIC, PolicyView, Problem, Remember, Remembered};
use crate::view::View;
use crate::{keys, names};
use aquifer_protocol::body::{Memory as Content, Revision};
use aquifer_protocol::decide::{Label, keepable};
use aquifer_protocol::limits::TEXT_BYTES_MAX;
use aquifer_protocol::{
    AgentId, Body, Command, Durability, Policy, RecordId, Regions, Reply, TopicId, TopicName,
};
use std::time::Duration;

/// The most memories of one `remember_many`.
pub const BATCH_MAX: usize = 256;

impl Memory {
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
    pub(super) async fn found_if_new(
        &self,
        view: &View,
        topic: &TopicName,
    ) -> Result<bool, Problem> {
        if view.law.named(topic).is_some() || topic.is_reserved() {
            return Ok(false);
        }
        let above = topic.ancestors().find_map(|name| view.law.named(&name));
        let home = Policy::within(Regions::only([view.me.region().top()]));
        let policy = match above {
            Some(_) => PolicyView::default(),
            None => PolicyView {
                allowed_regions: Some(vec![view.me.region().top().to_string()]),
                ..PolicyView::default()
            },
        };
        // What could not be kept here is not founded for the sake of it.
        let label = Label {
            topic,
            policy: above.map_or(&home, |law| law.policy()),
            epoch: 0,
            home: None,
        };
        keepable(label, view.snapshot.erases()).map_err(|denial| denied(&denial))?;
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

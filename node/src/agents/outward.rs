//! Outward: what steps say is to be done is done, once.
//!
//! Publications and what agents remember become memories, messages and answers become notes; each is
//! written for its agent and bears a tag with the agent, the step and the place among the step's
//! effects. By that tag a step that is handed out twice, after a crash, is done once.
//!
//! Not here: whether the law allows it, which was asked when the agent woke and is asked again when it
//! is written.

use super::note::Note;
use super::roster::Roster;
use super::said;
use crate::api::Problem;
use crate::memory::Memory;
use crate::recall::{Filter, Mode};
use aquifer_protocol::body::{Memory as Content, Revision};
use aquifer_protocol::identity::digest;
use aquifer_protocol::limits::LABEL_BYTES_MAX;
use aquifer_protocol::{AgentId, Body, RecordId, TopicId, TopicName};
use aquifer_wasm::desk::Effect;
use aquifer_wasm::sleepers::Owed;
use std::collections::{BTreeMap, BTreeSet};

/// How far to trust what an agent of WebAssembly says: as a guest.
const TIER: u8 = 3;
/// Episodic, as what was published is; semantic, as what is remembered is.
const EPISODIC: u8 = 1;
const SEMANTIC: u8 = 2;

/// Whose step it is.
#[derive(Clone, Debug)]
pub(super) struct Doer {
    /// What it is called.
    pub(super) name: String,
    /// Where it lives.
    pub(super) home: TopicName,
}

/// What is to be written, topic by topic, in order.
#[derive(Default)]
pub(super) struct Outward {
    writes: BTreeMap<(TopicName, AgentId), Vec<Body>>,
    /// What was told about messages that reach nobody.
    pub(super) lost: Vec<String>,
}

impl Outward {
    /// Adds what a step is to do. `again` if it may have been done before.
    pub(super) fn add(
        &mut self,
        memory: &Memory,
        roster: &Roster,
        doer: &Doer,
        owed: &Owed,
        again: bool,
    ) {
        let author = AgentId(owed.id);
        for (place, effect) in owed.effects.iter().enumerate() {
            let step = step_tag(&owed.id, owed.seq, place);
            if again && is_done(memory, &step) {
                continue;
            }
            let tags = vec![format!("agent:{}", doer.name), step];
            let home = &doer.home;
            match effect {
                Effect::Publish { topic, data } => {
                    let Ok(topic) = topic.parse::<TopicName>() else {
                        continue;
                    };
                    let (text, metadata) = said::kept(data);
                    let content = content(text, EPISODIC, tags);
                    self.push(
                        topic,
                        author,
                        Body::Memory(Content {
                            metadata,
                            ..content
                        }),
                    );
                }
                Effect::Remember { key, text } => {
                    let mut tags = tags;
                    tags.push(key_tag(key));
                    let content = content(text.clone(), SEMANTIC, tags);
                    let body = revised(memory, home, &doer.name, key, content);
                    self.push(home.clone(), author, body);
                }
                Effect::Send { agent, data } => match roster.owner(agent) {
                    Some((to, _)) => {
                        let Some(topic) = roster.order_of(to).map(|placed| placed.topic) else {
                            continue;
                        };
                        let Some(topic) = name_of(memory, topic) else {
                            continue;
                        };
                        let note = Note::Input {
                            agent: (*agent).into(),
                            id: message_id(&owed.id, owed.seq, place).into(),
                            invocation: false,
                            body: data.clone().into(),
                        };
                        self.push(topic, author, Body::Agent(note.to_bytes().into()));
                    }
                    None => self.lost.push(format!(
                        "agent {} wrote to an agent that is not known here",
                        doer.name
                    )),
                },
                Effect::Answer { data } => {
                    // The last one counts.
                    let later = &owed.effects[place + 1..];
                    if later
                        .iter()
                        .any(|other| matches!(other, Effect::Answer { .. }))
                    {
                        continue;
                    }
                    let note = Note::Answered {
                        input: owed.input.into(),
                        step: Some(owed.seq.into()),
                        said: Some(data.clone().into()),
                    };
                    self.push(home.clone(), author, Body::Agent(note.to_bytes().into()));
                }
                Effect::Keep { .. } | Effect::Wake { .. } => {}
                Effect::Log { .. } | Effect::Health { .. } => {}
            }
        }
    }

    /// Adds a note.
    pub(super) fn note(&mut self, topic: TopicName, author: AgentId, note: &Note) {
        self.push(topic, author, Body::Agent(note.to_bytes().into()));
    }

    fn push(&mut self, topic: TopicName, author: AgentId, body: Body) {
        self.writes.entry((topic, author)).or_default().push(body);
    }

    /// Whether there is nothing to write.
    pub(super) fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }

    /// Writes it all. What the law does not allow any more is not written, and said.
    ///
    /// # Errors
    /// If the node cannot write now: all of it is to be done again.
    pub(super) async fn write(self, memory: &Memory) -> Result<Vec<String>, Problem> {
        let mut refused = self.lost;
        for ((topic, author), bodies) in self.writes {
            let written = memory.write_for_agent(&topic, author, bodies).await;
            match written {
                Ok(()) => {}
                Err(problem) if problem.exit == 6 || problem.code == "oversize" => {
                    refused.push(problem.message);
                }
                Err(problem) => return Err(problem),
            }
        }
        Ok(refused)
    }
}

fn content(text: String, class: u8, tags: Vec<String>) -> Content {
    Content {
        class,
        tags,
        tier: TIER,
        ..Content::of(text)
    }
}

/// A new version of what the agent remembers under this key, or the first.
fn revised(memory: &Memory, home: &TopicName, name: &str, key: &str, content: Content) -> Body {
    let view = memory.view();
    let filter = Filter {
        topics: BTreeSet::from([home.id(view.law.hive()).0]),
        tags: vec![format!("agent:{name}"), key_tag(key)],
        ..Filter::default()
    };
    let hits = memory.parts().indexer.search("", &filter, Mode::Hybrid, 1);
    let of = hits.first().map(|hit| RecordId(hit.id));
    let known = of.and_then(|of| Some((of, view.fold(&of).ok()??.1)));
    match known {
        Some((of, fold)) => Body::Revision(Revision {
            of,
            replaces: fold.heads().iter().map(|head| head.record.id()).collect(),
            memory: content,
        }),
        None => Body::Memory(content),
    }
}

/// By which an effect is known: whose, of which step, at which place.
fn step_tag(agent: &[u8; 32], seq: u32, place: usize) -> String {
    let agent = data_encoding::HEXLOWER.encode(&agent[..8]);
    format!("step:{agent}.{seq}.{place}")
}

/// By which a message is known to whom it is for.
fn message_id(agent: &[u8; 32], seq: u32, place: usize) -> [u8; 16] {
    let place = (place as u64).to_be_bytes();
    let hash = digest(
        "aquifer/agent-message/1",
        &[agent, &seq.to_be_bytes(), &place],
    );
    *hash.first_chunk().expect("a hash has 32 bytes")
}

/// A label holds so much; a longer key is told by its hash.
fn key_tag(key: &str) -> String {
    let tag = format!("key:{key}");
    match tag.len() <= LABEL_BYTES_MAX {
        true => tag,
        false => format!("key:{}", blake3::hash(key.as_bytes()).to_hex()),
    }
}

/// Whether a memory with this tag is here: then that effect was done.
fn is_done(memory: &Memory, step: &str) -> bool {
    let view = memory.view();
    let filter = Filter {
        topics: view
            .readable(None)
            .into_iter()
            .map(|topic| topic.0)
            .collect(),
        tags: vec![step.to_owned()],
        ..Filter::default()
    };
    let hits = memory.parts().indexer.search("", &filter, Mode::Hybrid, 1);
    !hits.is_empty()
}

fn name_of(memory: &Memory, topic: TopicId) -> Option<TopicName> {
    let view = memory.view();
    view.law.topic(topic).map(|law| law.name.clone())
}

//! Ask: how a question reaches the nodes that hold what it is about, and what is made of their answers.
//!
//! In two rounds under one deadline: first every node that is asked tells its statistics; then each
//! finds its best by the union of them, and so all score alike. What comes back is checked: a hit
//! counts only as a record that its writer signed and was allowed to write, of a topic that was asked
//! about, that no tombstone known here names. Nothing of it is kept: it goes to whoever asked, and neither to the store nor to the index.
//!
//! A node that does not answer is missing from the answer, and said to be.

use super::Memory;
use crate::api::{MemoryView, Problem};
use crate::ask::{
    Answer, Best, Carried, Found, HITS_PER_ANSWER_MAX, Kept, Question, Sought,
    TOPICS_PER_QUESTION_MAX, Tally,
};
use crate::clock::Stopwatch;
use crate::names;
use crate::net::{CALL_PATIENCE_MAX, CALLS_MAX, CallPeer, NetCommand};
use crate::recall::{Hit, Mode, Statistics, Union};
use crate::view::View;
use aquifer_crdt::memory::Fold;
use aquifer_protocol::body::Body;
use aquifer_protocol::time::Time;
use aquifer_protocol::{Kind, NodeId, Record, RecordId, TopicId};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

/// The most nodes that one question goes to; half of what the network carries, so that two may ask.
const NODES_ASKED_MAX: usize = CALLS_MAX / 2;
/// The most answers that one node is asked for, where its hits do not fit one.
const PAGES_MAX: usize = 8;

/// Which topics each node is asked about.
pub(super) type Asking = BTreeMap<NodeId, Vec<TopicId>>;

/// What a question looks for.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    /// All but the topics.
    pub(super) sought: Sought,
    /// How to rank.
    pub(super) mode: Mode,
    /// How many.
    pub(super) k: usize,
}

/// What came of asking.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    /// Hits of all nodes, not yet ranked.
    pub(super) hits: Vec<Hit>,
    /// Their memories, by id and version.
    pub(super) shown: BTreeMap<([u8; 32], u64), MemoryView>,
    /// Who answered for which topic.
    pub(super) answered: BTreeSet<(NodeId, TopicId)>,
    /// Why somebody did not.
    pub(super) failed: BTreeMap<NodeId, String>,
}

impl Memory {
    /// Asks `to` one question and waits at most `patience`, and never longer than 5 s.
    ///
    /// # Errors
    /// `not_connected` (exit 4), `timeout` (124), `busy`, `peer_broke_off`, `peer_answered_badly`, and
    /// `peer_refused` if it refuses the whole question.
    pub async fn put(
        &self,
        to: NodeId,
        question: &Question,
        patience: Duration,
    ) -> Result<Answer, Problem> {
        let (reply, answer) = oneshot::channel();
        let call = NetCommand::Call {
            to: to.0,
            request: question.to_bytes(),
            patience: patience.min(CALL_PATIENCE_MAX),
            reply,
        };
        let stopping = || Problem::new("stopping", 1, "the node is stopping", "start it again");
        self.inner.net.send(call).await.map_err(|_| stopping())?;
        // The network ends the call in a beat after its time; this ends it on time.
        let answer = tokio::time::timeout(patience, answer).await;
        let answer = answer.map_or(Err(CallPeer::Late), |sent| {
            sent.unwrap_or(Err(CallPeer::NotUp))
        });
        let bytes = answer.map_err(|why| unanswered(&to, &why))?;
        match Answer::open(&bytes) {
            Ok(Answer::Refused(code, why)) => Err(peer(
                &to,
                "peer_refused",
                1,
                &format!("it refused: {why} ({code})"),
            )),
            Ok(answer) => Ok(answer),
            Err(why) => Err(peer(&to, "peer_answered_badly", 1, &why.to_string())),
        }
    }

    /// Gathers the statistics of the nodes in `asking` into `union`, then their best by it.
    ///
    /// `asking` loses the nodes that do not answer.
    pub(super) async fn gather(
        &self,
        view: &View,
        mut asking: Asking,
        wanted: &Wanted,
        union: &mut Union,
        patience: Duration,
    ) -> Gathered {
        let mut gathered = Gathered::default();
        let up: BTreeSet<NodeId> = self.inner.observed.up().into_iter().collect();
        let mut room = NODES_ASKED_MAX;
        asking.retain(|node, _| {
            let why = match (up.contains(node), room) {
                (false, _) => "it is not connected",
                (true, 0) => "there are too many nodes to ask",
                (true, _) => {
                    room -= 1;
                    return true;
                }
            };
            gathered.failed.insert(*node, why.to_owned());
            false
        });
        let watch = Stopwatch::start();
        // Whoever is slow to count is not waited for twice.
        if !wanted.sought.terms.is_empty() {
            let counted = self.count_all(&asking, &wanted.sought, patience / 2).await;
            for (node, told) in counted {
                match told {
                    Ok(counts) => counts.iter().for_each(|(topic, tally)| {
                        union.add(topic.0, &tally.about(&wanted.sought.terms));
                    }),
                    Err(why) => {
                        asking.remove(&node);
                        gathered.failed.insert(node, why);
                    }
                }
            }
        }
        let left = watch.left(patience);
        let total = union.total();
        self.search_all(view, &asking, wanted, &total, left, &mut gathered)
            .await;
        gathered
    }

    async fn count_all(
        &self,
        asking: &Asking,
        sought: &Sought,
        patience: Duration,
    ) -> BTreeMap<NodeId, Result<Vec<(TopicId, Tally)>, String>> {
        let mut calls = JoinSet::new();
        for (node, topics) in asking {
            for topics in topics.chunks(TOPICS_PER_QUESTION_MAX) {
                let (memory, node) = (self.clone(), *node);
                let question = Question::Count(about(sought, topics));
                calls.spawn(async move { (node, memory.put(node, &question, patience).await) });
            }
        }
        let mut told: BTreeMap<NodeId, Result<Vec<_>, String>> = BTreeMap::new();
        while let Some(Ok((node, answer))) = calls.join_next().await {
            let known = told.entry(node).or_insert_with(|| Ok(Vec::new()));
            match (answer, known.as_mut()) {
                (Ok(Answer::Counted(counts, _)), Ok(all)) => all.extend(counts),
                (Ok(Answer::Counted(..)), Err(_)) => {}
                (Ok(_), _) => *known = Err("its answer does not fit the question".to_owned()),
                (Err(problem), _) => *known = Err(why_of(&problem)),
            }
        }
        // Only what was asked about counts.
        for (node, counts) in &mut told {
            if let Ok(counts) = counts {
                counts.retain(|(topic, _)| asking[node].contains(topic));
            }
        }
        told
    }

    async fn search_all(
        &self,
        view: &View,
        asking: &Asking,
        wanted: &Wanted,
        total: &Statistics,
        patience: Duration,
        gathered: &mut Gathered,
    ) {
        let mut calls = JoinSet::new();
        let watch = Stopwatch::start();
        for (node, topics) in asking {
            for topics in topics.chunks(TOPICS_PER_QUESTION_MAX) {
                let sought = about(&wanted.sought, topics);
                let best = Best {
                    mode: Best::number(wanted.mode),
                    tally: Tally::of(total),
                    limit: wanted.k.min(HITS_PER_ANSWER_MAX) as u16,
                    skip: 0,
                };
                let (memory, node) = (self.clone(), *node);
                calls.spawn(async move {
                    memory
                        .search_one(node, sought, best, (watch, patience))
                        .await
                });
            }
        }
        while let Some(Ok((node, sought, pages))) = calls.join_next().await {
            let (hits, kept) = match pages {
                Ok(pages) => pages,
                Err(why) => {
                    gathered.failed.insert(node, why);
                    continue;
                }
            };
            let refused: BTreeSet<TopicId> = kept.iter().map(|kept| kept.topic).collect();
            let told = sought
                .topics
                .iter()
                .filter(|topic| !refused.contains(topic));
            gathered.answered.extend(told.map(|topic| (node, *topic)));
            if let Some(Kept { rule, reason, .. }) = kept.first() {
                let why = format!("it refused: {} ({rule})", reason.as_str());
                gathered.failed.insert(node, why);
            }
            for found in hits {
                let Some((hit, memory)) = checked(view, &sought, &found) else {
                    self.inner.observed.count("bad_hits", "");
                    continue;
                };
                gathered.shown.insert((hit.id, hit.version_ms), memory);
                gathered.hits.push(hit);
            }
        }
    }

    /// All that one node finds: more than one answer, where its hits do not fit one.
    async fn search_one(
        &self,
        node: NodeId,
        sought: Sought,
        mut best: Best,
        (watch, patience): (Stopwatch, Duration),
    ) -> (NodeId, Sought, Result<(Vec<Found>, Vec<Kept>), String>) {
        let mut hits: Vec<Found> = Vec::new();
        for _ in 0..PAGES_MAX {
            let question = Question::Search(sought.clone(), best.clone());
            let (found, more, kept) = match self.put(node, &question, watch.left(patience)).await {
                Ok(Answer::Found(found, more, kept)) => (found, more, kept),
                Ok(_) => {
                    let why = "its answer does not fit the question".to_owned();
                    return (node, sought, Err(why));
                }
                Err(problem) => return (node, sought, Err(why_of(&problem))),
            };
            let count = found.len() as u16;
            hits.extend(found);
            if !more || count == 0 || count >= best.limit {
                return (node, sought, Ok((hits, kept)));
            }
            (best.skip, best.limit) = (best.skip + count, best.limit - count);
        }
        (
            node,
            sought,
            Err("its answer was too long to take".to_owned()),
        )
    }
}

fn about(sought: &Sought, topics: &[TopicId]) -> Sought {
    Sought {
        topics: topics.to_vec(),
        ..sought.clone()
    }
}

/// A hit as this node believes it, with the memory it shows; none if it is not what it says it is.
fn checked(view: &View, sought: &Sought, found: &Found) -> Option<(Hit, MemoryView)> {
    let shown = opened(view, sought, found.id, &found.shown)?;
    let header = shown.header();
    let (topic, version_ms) = (header.topic, header.stamp.time().millis());
    let mut fold = Fold::new(found.id);
    fold.join(&shown);
    for other in &found.conflicts {
        fold.join(&opened(view, sought, found.id, other)?);
    }
    let made = Time::from_millis(found.created_ms);
    let memory = view.found(&found.id, topic, &fold, made)?;
    let fits = memory.updated_at == version_ms
        && sought.tags.iter().all(|tag| memory.tags.contains(tag))
        && sought
            .kind
            .is_none_or(|kind| names::class(kind) == memory.kind)
        && sought.author.is_none_or(|author| author == header.author.0);
    let hit = Hit {
        id: found.id.0,
        version_ms,
        created_ms: memory.created_at,
        importance: memory.importance,
        score: 0.0,
        lexical: 0.0,
        semantic: found.cosine,
        frequencies: found.frequencies.clone(),
        length: found.length,
    };
    fits.then_some((hit, memory))
}

/// The record, if it is a version of the memory `id` in a topic that was asked about, and its writer
/// signed it and was allowed to.
fn opened(view: &View, sought: &Sought, id: RecordId, carried: &Carried) -> Option<Record> {
    let envelope = Bytes::copy_from_slice(&carried.envelope);
    let body = Bytes::copy_from_slice(&carried.body);
    let record = Record::open(&envelope, Some(&body)).ok()?;
    let header = record.header();
    let is_version = match Body::open(header.kind, &record.body()?).ok()? {
        Body::Memory(_) => header.kind == Kind::MEMORY && record.id() == id,
        Body::Revision(revision) => revision.of == id,
        _ => false,
    };
    if !is_version || !sought.topics.contains(&header.topic) {
        return None;
    }
    // A holder that has not heard of an erasure yet brings nothing back.
    let buried = |id: &RecordId| view.is_buried(header.topic, id);
    if buried(&id) || buried(&record.id()) {
        return None;
    }
    let member = view.law.certificate(&header.cap_hash)?;
    let allowed = view.law.may_write(header, member).is_ok();
    (allowed && member.node() == header.writer).then_some(record)
}

fn unanswered(to: &NodeId, why: &CallPeer) -> Problem {
    let (code, exit) = match why {
        CallPeer::NotUp => ("not_connected", 4),
        CallPeer::Late => ("timeout", 124),
        CallPeer::Busy | CallPeer::PeerBusy => ("busy", 1),
        CallPeer::Unsupported | CallPeer::TooLong { .. } => ("peer_unsupported", 1),
        CallPeer::Broken { .. } => ("peer_broke_off", 4),
    };
    peer(to, code, exit, &why.to_string())
}

fn peer(to: &NodeId, code: &str, exit: u8, why: &str) -> Problem {
    let message = format!("node {}: {why}", names::node(to));
    Problem::new(code, exit, message, "see `aquifer peers`")
}

/// What a problem says of the node, without its name.
fn why_of(problem: &Problem) -> String {
    let said = problem.message.split_once(": ");
    said.map_or(&problem.message[..], |(_, why)| why).to_owned()
}

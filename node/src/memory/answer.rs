//! Answer: what this node tells other nodes that ask over `/aquifer/ask/1`.
//!
//! Answering is reading: it takes the published view and never the driver. The asker is judged for
//! every topic by the law of this node's own view, as sync judges it (`Op::Serve`), and this node must
//! be allowed to show the topic itself. What is kept from the asker is named with its rule, counted and
//! told to whoever watches; not one byte of it leaves.

use super::{INDEX_PATIENCE, Memory};
use crate::ask::{
    ANSWER_BYTES_FILL, Answer, Best, CONFLICTS_PER_HIT_MAX, Carried, Found, Kept, Neighbour,
    PEERS_PER_ANSWER_MAX, Question, REASONS_BYTES_FILL, Sought, Tally,
};
use crate::driver::{Passing, Tap};
use crate::net::Called;
use crate::recall::{EMBEDDER, Filter, Hit, Query};
use crate::view::View;
use aquifer_crdt::memory::Version;
use aquifer_protocol::time::{Stamp, Time};
use aquifer_protocol::{Denial, Member, NodeId, Op, RecordId, Subject, TopicId, decide};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

impl Memory {
    /// Answers peers' questions until the node stops. How many at a time, the network bounds.
    pub(crate) async fn answer_calls(
        self,
        mut calls: mpsc::Receiver<Called>,
        tap: Option<Tap>,
        stop: CancellationToken,
    ) {
        loop {
            let call = tokio::select! {
                () = stop.cancelled() => return,
                call = calls.recv() => call,
            };
            let Some(call) = call else { return };
            let (memory, tap) = (self.clone(), tap.clone());
            tokio::spawn(async move {
                let from = NodeId(call.from);
                let answer = memory.answer(from, &call.request).await.to_bytes();
                if let Some(tap) = &tap {
                    tap.see(Passing::Sent { to: &from }, &answer);
                }
                // The peer may have gone meanwhile.
                let _ = call.reply.send(answer);
            });
        }
    }

    /// What this node tells `from`.
    pub(super) async fn answer(&self, from: NodeId, request: &[u8]) -> Answer {
        let question = match Question::open(request) {
            Ok(question) => question,
            Err(why) => {
                self.inner.observed.count("bad_questions", why.code());
                return Answer::Refused(why.code().to_owned(), why.to_string());
            }
        };
        let now = self.inner.helm.now();
        let view = self.view();
        // The certificate it showed when it was admitted is its newest.
        let shown = self.inner.admission.admitted(&from);
        let asker = shown.or_else(|| Some(view.law.member(&from)?.member.clone()));
        let Some(asker) = asker.filter(|asker| asker.valid_at(now)) else {
            let why = "the certificate of the asking node is not in force";
            return Answer::Refused("expired".to_owned(), why.to_owned());
        };
        self.inner.observed.count("questions", kind_of(&question));
        match question {
            Question::Ping(nonce) => Answer::Pong(nonce),
            Question::Peers => self.neighbours().await,
            Question::Agents(part) => {
                let said = self
                    .inner
                    .agents
                    .with(move |host| host.hears(from, part))
                    .await;
                Answer::Agents(said.unwrap_or_default().into())
            }
            Question::Count(sought) => {
                self.inner.indexer.caught_up(INDEX_PATIENCE).await;
                let (filter, kept) = self.allowed(&view, &asker, now, &sought);
                let counts = self
                    .inner
                    .indexer
                    .statistics_by_topic(&query_of(&sought), &filter);
                let tallies = counts
                    .iter()
                    .map(|(topic, told)| (TopicId(*topic), Tally::of(told)));
                Answer::Counted(tallies.collect(), kept)
            }
            Question::Search(sought, best) => {
                self.inner.indexer.caught_up(INDEX_PATIENCE).await;
                // Not behind the index, and judged by its own law.
                let view = self.view();
                let (filter, kept) = self.allowed(&view, &asker, now, &sought);
                let (hits, more) = self.best(&view, &sought, &best, &filter);
                Answer::Found(hits, more, kept)
            }
        }
    }

    /// The filter of what the asker may be told, and what is kept from it.
    fn allowed(
        &self,
        view: &View,
        asker: &Member,
        at: Time,
        sought: &Sought,
    ) -> (Filter, Vec<Kept>) {
        let mut filter = Filter {
            tags: sought.tags.clone(),
            author: sought.author,
            kind: sought.kind,
            since_ms: sought.since_ms,
            until_ms: sought.until_ms,
            as_of_ms: sought.as_of_ms,
            valid_at_ms: sought.valid_at_ms,
            ..Filter::default()
        };
        let mut kept = Vec::new();
        let mut reasons = 0;
        for topic in &sought.topics {
            match may_tell(view, asker, at, *topic) {
                Ok(()) => {
                    filter.topics.insert(topic.0);
                }
                Err(denial) => {
                    let name = view.topic_name(*topic);
                    self.inner.observed.denied(&name, &asker.node(), &denial);
                    let mut reason = denial.to_string();
                    if reasons + reason.len() > REASONS_BYTES_FILL {
                        reason.clear();
                    }
                    reasons += reason.len();
                    kept.push(Kept {
                        topic: *topic,
                        rule: denial.code().to_owned(),
                        reason,
                    });
                }
            }
        }
        (filter, kept)
    }

    fn best(
        &self,
        view: &View,
        sought: &Sought,
        best: &Best,
        filter: &Filter,
    ) -> (Vec<Found>, bool) {
        let (limit, skip) = (usize::from(best.limit), usize::from(best.skip));
        let statistics = best.tally.about(&sought.terms);
        let found = self.inner.indexer.find(
            &query_of(sought),
            filter,
            best.mode(),
            Some(&statistics),
            limit + skip,
        );
        let mut hits = Vec::new();
        let mut bytes = 0;
        for hit in found.into_iter().skip(skip) {
            // One that went, or cannot be read, since it was found is left out.
            let Some(hit) = carried(view, hit, sought.as_of_ms) else {
                continue;
            };
            let len = |carried: &Carried| carried.envelope.len() + carried.body.len() + 16;
            let conflicts: usize = hit.conflicts.iter().map(len).sum();
            let size = len(&hit.shown) + conflicts + 5 * hit.frequencies.len() + 64;
            if bytes + size > ANSWER_BYTES_FILL && !hits.is_empty() {
                return (hits, true);
            }
            bytes += size;
            hits.push(hit);
        }
        (hits, false)
    }

    /// Who this node is connected to: members only, as far as the law it has knows them.
    async fn neighbours(&self) -> Answer {
        let view = self.view();
        let Ok(net) = self.net().await else {
            return Answer::Peers(Vec::new());
        };
        let admitted = net.peers.iter().filter(|line| line.admitted);
        let members = admitted.filter(|line| view.law.member(&NodeId(line.key)).is_some());
        let told = members.take(PEERS_PER_ANSWER_MAX).map(|line| Neighbour {
            node: NodeId(line.key),
            region: view.region_of(&NodeId(line.key)),
            rtt_us: line.rtt_ms.map(|ms| (ms * 1_000.0) as u64),
            relayed: line.relayed,
        });
        Answer::Peers(told.collect())
    }
}

/// Whether the asker may be told what this node holds of `topic`.
fn may_tell(view: &View, asker: &Member, at: Time, topic: TopicId) -> Result<(), Denial> {
    let label = view.law.label(topic)?;
    let subject = Subject { member: asker, at };
    decide(Op::Serve, label, subject, label.epoch)?;
    view.may_read(topic)
}

fn query_of(sought: &Sought) -> Query {
    let vector = sought.vector.as_ref();
    let ours = vector.filter(|vector| vector.embedder == EMBEDDER);
    Query::from_parts(sought.terms.clone(), ours.map(|vector| &vector.values[..]))
}

/// The hit with the signed record of the version that is shown.
fn carried(view: &View, hit: Hit, as_of_ms: Option<u64>) -> Option<Found> {
    let id = RecordId(hit.id);
    let (_, fold) = view.fold(&id).ok()??;
    let heads = fold.heads_at(as_of_ms.map_or(Stamp::from_bits(u64::MAX), View::until));
    let (shown, others) = heads.split_first()?;
    let others = others.iter().take(CONFLICTS_PER_HIT_MAX);
    Some(Found {
        id,
        shown: record(shown)?,
        conflicts: others.filter_map(|version| record(version)).collect(),
        created_ms: hit.created_ms,
        frequencies: hit.frequencies,
        length: hit.length,
        cosine: hit.semantic,
    })
}

fn record(version: &Version) -> Option<Carried> {
    Some(Carried {
        envelope: version.record.envelope().to_vec().into(),
        body: version.record.carried()?.to_vec().into(),
    })
}

fn kind_of(question: &Question) -> &'static str {
    match question {
        Question::Ping(_) => "ping",
        Question::Peers => "peers",
        Question::Agents(_) => "agents",
        Question::Count(_) => "count",
        Question::Search(..) => "search",
    }
}

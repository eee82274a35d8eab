//! The observer: what the node makes of events. Telemetry, the index's jobs, `watch`, tallies.
//!
//! Events are the core's one vocabulary of observation; this is where they become log lines,
//! counters and happenings. Logs carry ids and rules, never bodies.

use crate::api::Happening;
use crate::clock::Clock;
use crate::indexer::{Indexer, Job};
use crate::names;
use crate::net::NetEvent;
use crate::view::View;
use aquifer_protocol::{Denial, Event, Kind, NodeId, RecordId, Time, TopicId};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{broadcast, watch};
use tracing::{debug, error, info, warn};

const HAPPENINGS: usize = 1_024;

/// What has been seen, shared with readers. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Observed {
    tallies: Arc<Mutex<Tallies>>,
    happenings: broadcast::Sender<Happening>,
    agreed: watch::Sender<u64>,
    /// Counts changes of what is held and of the law.
    changes: watch::Sender<u64>,
    /// Counts what discovery and the choice of neighbours want to look at.
    stirs: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Tallies {
    /// Counters by Prometheus name and label.
    counts: BTreeMap<(&'static str, &'static str), u64>,
    /// When each peer last agreed with us on a topic, while it is up.
    agreements: BTreeMap<(TopicId, NodeId), Time>,
    up: BTreeMap<NodeId, Time>,
    last_seen: BTreeMap<NodeId, Time>,
    /// How far our clock is ahead of each peer's, where that is far, in milliseconds.
    skews: BTreeMap<NodeId, i64>,
    troubles: Vec<String>,
}

impl Default for Observed {
    fn default() -> Self {
        Self {
            tallies: Arc::default(),
            happenings: broadcast::Sender::new(HAPPENINGS),
            agreed: watch::Sender::new(0),
            changes: watch::Sender::new(0),
            stirs: watch::Sender::new(0),
        }
    }
}

impl Observed {
    /// What happens from now on.
    pub fn watch(&self) -> broadcast::Receiver<Happening> {
        self.happenings.subscribe()
    }

    /// Rises with every agreement.
    pub fn agreements(&self) -> watch::Receiver<u64> {
        self.agreed.subscribe()
    }

    /// Rises when records come or go, or the law changes.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Rises when peers come or go, members are learnt, or our addresses change.
    pub fn stirs(&self) -> watch::Receiver<u64> {
        self.stirs.subscribe()
    }

    fn stir(&self) {
        self.stirs.send_modify(|count| *count += 1);
    }

    /// When `peer` last agreed with us on `topic`, if it is up.
    pub fn agreed(&self, topic: TopicId, peer: &NodeId) -> Option<Time> {
        self.tallies().agreements.get(&(topic, *peer)).copied()
    }

    /// When `peer` was last connected; none if it is now, or never was.
    pub fn last_seen(&self, peer: &NodeId) -> Option<u64> {
        let tallies = self.tallies();
        let seen = tallies
            .last_seen
            .get(peer)
            .filter(|_| !tallies.up.contains_key(peer));
        seen.map(|time| time.millis())
    }

    /// Peers that are up.
    pub fn up(&self) -> Vec<NodeId> {
        self.tallies().up.keys().copied().collect()
    }

    /// Whether a peer is up.
    pub fn is_up(&self, peer: &NodeId) -> bool {
        self.tallies().up.contains_key(peer)
    }

    /// Peers whose clock is far from ours, and by how much ours is ahead, in milliseconds.
    pub fn skews(&self) -> BTreeMap<NodeId, i64> {
        self.tallies().skews.clone()
    }

    /// What an operator should look at, oldest first.
    pub fn troubles(&self) -> Vec<String> {
        self.tallies().troubles.clone()
    }

    /// Denials by rule.
    pub fn denials(&self) -> BTreeMap<String, u64> {
        let tallies = self.tallies();
        let denied = tallies
            .counts
            .iter()
            .filter(|((name, _), _)| *name == "denials");
        denied
            .map(|((_, rule), count)| ((*rule).to_owned(), *count))
            .collect()
    }

    /// All counters, in the Prometheus text format.
    pub fn metrics(&self) -> String {
        let tallies = self.tallies();
        let mut text = String::new();
        let mut last = "";
        for ((name, label), count) in &tallies.counts {
            if *name != last {
                let _ = writeln!(text, "# TYPE aquifer_{name}_total counter");
                last = name;
            }
            let labels = if label.is_empty() {
                String::new()
            } else {
                format!("{{kind=\"{label}\"}}")
            };
            let _ = writeln!(text, "aquifer_{name}_total{labels} {count}");
        }
        let _ = writeln!(
            text,
            "# TYPE aquifer_peers gauge\naquifer_peers {}",
            tallies.up.len()
        );
        text
    }

    /// Counts one more, and says how many there are now.
    pub fn count(&self, name: &'static str, label: &'static str) -> u64 {
        let mut tallies = self.tallies();
        let count = tallies.counts.entry((name, label)).or_default();
        *count += 1;
        *count
    }

    /// Notes that the law kept a topic from a node.
    pub fn denied(&self, topic: &str, subject: &NodeId, denial: &Denial) {
        let node = names::node(subject);
        // Whoever asks without right may ask often: the log gets the first and then fewer.
        if self.count("denials", denial.code()).is_power_of_two() {
            warn!(target: "aquifer::law::denied", %topic, %node, %denial);
        }
        if self.happenings.receiver_count() > 0 {
            let _ = self.happenings.send(Happening::Denied {
                topic: topic.to_owned(),
                node,
                reason: denial.to_string(),
            });
        }
    }

    /// Notes something an operator should look at.
    pub fn trouble(&self, what: String) {
        let mut tallies = self.tallies();
        if tallies.troubles.len() >= 100 {
            tallies.troubles.remove(0);
        }
        tallies.troubles.push(what.clone());
        drop(tallies);
        let _ = self.happenings.send(Happening::Trouble { what });
    }

    fn tallies(&self) -> MutexGuard<'_, Tallies> {
        self.tallies.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The driver's side: it turns events into what is observed.
#[derive(Debug)]
pub(crate) struct Observer {
    pub(crate) observed: Observed,
    pub(crate) indexer: Arc<Indexer>,
}

impl Observer {
    pub(crate) fn on_net(&self, event: &NetEvent, clock: &Clock) {
        if matches!(
            event,
            NetEvent::Up { .. } | NetEvent::Down { .. } | NetEvent::Listening { .. }
        ) {
            self.observed.stir();
        }
        match event {
            NetEvent::Up { peer, addr } => {
                let node = NodeId(*peer);
                info!(target: "aquifer::peer::up", node = %names::node(&node), %addr);
                let now = clock.now();
                let mut tallies = self.observed.tallies();
                tallies.up.insert(node, now);
                tallies.last_seen.insert(node, now);
                drop(tallies);
                self.tell(|| Happening::PeerUp {
                    node: names::node(&node),
                });
            }
            NetEvent::Down { peer } => {
                let node = NodeId(*peer);
                info!(target: "aquifer::peer::down", node = %names::node(&node));
                let mut tallies = self.observed.tallies();
                tallies.up.remove(&node);
                tallies.skews.remove(&node);
                tallies.last_seen.insert(node, clock.now());
                tallies.agreements.retain(|(_, peer), _| *peer != node);
                drop(tallies);
                self.tell(|| Happening::PeerDown {
                    node: names::node(&node),
                });
            }
            NetEvent::Refused { peer, why } => {
                warn!(target: "aquifer::peer::refused", node = %names::node(&NodeId(*peer)), %why);
                self.observed.count("refused_peers", "");
            }
            NetEvent::Trouble(trouble) => {
                warn!(target: "aquifer::net::trouble", %trouble);
                self.observed.count("net_troubles", "");
            }
            NetEvent::Listening { addr } => info!(target: "aquifer::net::listening", %addr),
            NetEvent::Frame { .. } | NetEvent::Gossip { .. } | NetEvent::Rtt { .. } => {}
        }
    }

    /// Takes an event in: what is left for the index to do is added to `jobs`, and promised.
    pub(crate) fn on_event(&self, event: Event, view: &Arc<View>, jobs: &mut Vec<Job>) {
        let (seen, before) = (&self.observed, jobs.len());
        let is_law = matches!(event, Event::LawChanged { .. });
        // The index has no use for what nodes tell each other of agents and tasks; who waits for it has.
        let is_note = match &event {
            Event::Accepted { record, .. } | Event::Repaired { record, .. } => {
                record.header().kind == Kind::AGENT
            }
            _ => false,
        };
        self.take(event, view, jobs, seen);
        if is_law || is_note || jobs.len() > before {
            seen.changes.send_modify(|count| *count += 1);
        }
        self.indexer.promise(jobs.len() - before);
    }

    fn take(&self, event: Event, view: &Arc<View>, jobs: &mut Vec<Job>, seen: &Observed) {
        match event {
            Event::Accepted { record, from } => {
                let header = record.header();
                debug!(target: "aquifer::record::accepted", topic = ?header.topic,
                    id = ?record.id(), writer = ?header.writer, seq = header.seq);
                seen.count(
                    "records",
                    if from.is_some() {
                        "received"
                    } else {
                        "written"
                    },
                );
                jobs.extend(self.index(record, from, view));
            }
            Event::Repaired { record, from } => {
                info!(target: "aquifer::record::repaired", id = ?record.id(), from = ?from);
                seen.count("repairs", "");
                jobs.extend(self.index(record, Some(from), view));
            }
            Event::Erased { topic, ids } => {
                seen.count("erasures", "");
                jobs.push(self.gone(topic, ids, view));
            }
            Event::Cut { key, fork, ids } => {
                error!(target: "aquifer::log::cut", ?key, fork);
                seen.count("forks", "");
                seen.trouble(format!(
                    "node {} signed two records at one place of its log in `{}`; the log is cut there, {} records are out",
                    names::node(&key.writer), view.topic_name(key.topic), ids.len()
                ));
                jobs.push(self.gone(key.topic, ids, view));
            }
            Event::Outlawed { key, from, ids } => {
                let (topic, writer) = (view.topic_name(key.topic), names::node(&key.writer));
                warn!(target: "aquifer::log::outlawed", ?key, from);
                seen.count("outlawed", "");
                seen.trouble(format!(
                    "a policy that arrived late forbids what node {writer} wrote in `{topic}`: {} records are out",
                    ids.len()
                ));
                jobs.push(self.gone(key.topic, ids, view));
            }
            Event::Withdrawn { topic, denial } => {
                let name = view.topic_name(topic);
                warn!(target: "aquifer::topic::withdrawn", topic = %name, %denial);
                seen.trouble(format!("`{name}` was removed from this node: {denial}"));
                jobs.push(Job::Withdrawn(topic));
            }
            Event::Rejected { from, id, why } => {
                debug!(target: "aquifer::record::rejected", from = ?from, id = ?id, %why);
                seen.count("rejections", "");
            }
            Event::Denied {
                op,
                topic,
                subject,
                denial,
            } => {
                // Whoever asks without right may ask often: the log gets the first and then fewer.
                if seen.count("denials", denial.code()).is_power_of_two() {
                    warn!(target: "aquifer::law::denied", ?op, topic = ?topic, subject = ?subject, %denial);
                }
                self.tell(|| Happening::Denied {
                    topic: view.topic_name(topic),
                    node: names::node(&subject),
                    reason: denial.to_string(),
                });
            }
            Event::BadFrame { from, why } => {
                if seen.count("bad_frames", "").is_power_of_two() {
                    warn!(target: "aquifer::peer::bad_frame", from = ?from, %why);
                }
            }
            Event::LawChanged { topics } => {
                for topic in topics {
                    let topic = view.topic_name(topic);
                    info!(target: "aquifer::law::changed", %topic);
                    self.tell(|| Happening::Law { topic });
                }
            }
            Event::MemberLearnt { node } => {
                info!(target: "aquifer::member::learnt", node = %names::node(&node));
                seen.stir();
            }
            Event::InSync { topic, peer } => {
                debug!(target: "aquifer::sync::agreed", topic = ?topic, peer = ?peer);
                seen.tallies().agreements.insert((topic, peer), view.now);
                seen.agreed.send_modify(|count| *count += 1);
            }
            Event::Corrupt { key, why } => {
                error!(target: "aquifer::store::corrupt", ?key, %why);
                seen.count("corrupt_records", "");
                seen.trouble(format!("{why}; it is fetched again from peers"));
            }
            Event::OwnLogAhead { key } => {
                warn!(target: "aquifer::log::own_ahead", ?key);
                let copied = "peers hold more of this node's own log than it does: its home was copied or restored; it writes to a new log now";
                seen.trouble(copied.to_owned());
            }
            Event::ClockSkew { peer, ahead_ms } => {
                warn!(target: "aquifer::clock::skew", peer = ?peer, ahead_ms);
                seen.tallies().skews.insert(peer, ahead_ms);
            }
        }
    }

    fn index(
        &self,
        record: aquifer_protocol::Record,
        from: Option<NodeId>,
        view: &Arc<View>,
    ) -> Option<Job> {
        let kind = record.header().kind;
        if record.carried().is_none() || !matches!(kind, Kind::MEMORY | Kind::REVISION) {
            return None;
        }
        if kind == Kind::MEMORY && from.is_none() {
            // Before its writer is answered, so that the same again is known.
            self.indexer.note(&record);
        }
        if self.observed.happenings.receiver_count() > 0 {
            self.tell_memory(&record, from, view);
        }
        Some(Job::Record(record))
    }

    fn tell_memory(&self, record: &aquifer_protocol::Record, from: Option<NodeId>, view: &View) {
        use aquifer_protocol::Body;
        let body = record
            .body()
            .map(|bytes| Body::open(record.header().kind, &bytes));
        let id = match body {
            Some(Ok(Body::Revision(revision))) => revision.of,
            _ => record.id(),
        };
        if let Ok(Some(memory)) = view.memory(&id, None) {
            let from = from.map(|node| names::node(&node));
            let _ = self.observed.happenings.send(Happening::Memory {
                memory: Box::new(memory),
                from,
            });
        }
    }

    fn gone(&self, topic: TopicId, ids: Vec<RecordId>, view: &Arc<View>) -> Job {
        info!(target: "aquifer::record::gone", topic = ?topic, count = ids.len());
        self.tell(|| Happening::Forgotten {
            topic: view.topic_name(topic),
            ids: ids.iter().map(ToString::to_string).collect(),
        });
        Job::Gone(ids)
    }

    fn tell(&self, happening: impl FnOnce() -> Happening) {
        if self.observed.happenings.receiver_count() > 0 {
            let _ = self.observed.happenings.send(happening());
        }
    }
}

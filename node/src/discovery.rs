//! Discovery: finding a node or the holders of a topic, and being found.
//!
//! The order is: who is connected or announced on the local network; what the hive's members say of
//! themselves in their manifests; the region's directory; the directory of the whole hive, which
//! other regions' seeds take part in. What any of these says is a hint: whoever it names is dialled
//! and must pass admission. If nothing is found, the answer names every step that was tried.
//!
//! `keep` puts this node's own record where others look, again whenever its addresses change and
//! well before the record expires, lists it as a holder of the topics that may be listed, looks for
//! members that cannot be dialled where they said, and walks the directories while it has too few
//! peers.

use crate::api::{Found, FoundNode, Problem, Tried};
use crate::clock::Clock;
use crate::driver::Helm;
use crate::memory::Memory;
use crate::neighbours::{is_lawful, snapshot};
use crate::net::{CheckEntry, Errand, GoodEntry, NetCommand, NetSnapshot, Shared};
use crate::observer::Observed;
use crate::view::View;
use crate::{member, names};
use aquifer_protocol::directory::{NodeRecord, may_list, node_key, topic_key};
use aquifer_protocol::{HiveId, Keys, NodeId, Subject, TopicId, TopicName};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

/// How often there is something to do, if nothing happens before.
const EVERY: Duration = Duration::from_secs(5);

/// Our record is signed anew after that: it is good for an hour.
const RENEW_MS: u64 = 20 * 60 * 1_000;

/// Addresses that come and go are announced to the whole hive at most this often.
const ANNOUNCE_MS: u64 = 20_000;

/// Members looked for at a time, and how often one is looked for.
const SOUGHT_MAX: usize = 4;
const SEEK_MS: u64 = 60_000;

/// Failed dials after which a member is looked for elsewhere.
const FAILURES: u32 = 2;

/// Peers below which the directories are walked, if the hive has more members than that.
const PEERS_WANTED: usize = 8;
const WALK_MS: u64 = 60_000;

/// The hive's part of the directories' names: the first eight bytes of its key.
pub(crate) fn short(hive: &HiveId) -> String {
    hive.to_string().chars().take(16).collect()
}

/// How the network judges what it finds in a directory, or is asked to keep there.
pub(crate) fn check(hive: HiveId, clock: Arc<Clock>) -> CheckEntry {
    Box::new(move |key, value| {
        let now = clock.now();
        let record = NodeRecord::open(value, key, &hive, now).ok()?;
        Some(GoodEntry {
            author: record.node.0,
            stamp: record.stamp,
            life: Duration::from_millis(record.expires.saturating_sub(now.millis())),
        })
    })
}

/// What this file works with.
pub(crate) struct Finder {
    pub(crate) keys: Keys,
    pub(crate) helm: Helm,
    pub(crate) observed: Observed,
    pub(crate) net: mpsc::Sender<NetCommand>,
    pub(crate) stop: CancellationToken,
}

/// What was last said, and when.
#[derive(Default)]
struct Said {
    entered: Option<(Vec<String>, u64, usize)>,
    announced: u64,
    provided: Option<u64>,
    sought: BTreeMap<NodeId, u64>,
    walked: u64,
}

/// Keeps this node findable, and finds others, until the node stops.
pub(crate) async fn keep(finder: Finder) {
    let mut said = Said::default();
    let mut stirs = finder.observed.stirs();
    loop {
        tokio::select! {
            () = finder.stop.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
            _ = stirs.changed() => tokio::time::sleep(Duration::from_secs(1)).await,
        }
        let Some(state) = snapshot(&finder.net).await else {
            return;
        };
        finder.announce(&mut said, &state).await;
        finder.enter(&mut said, &state).await;
        finder.provide(&mut said).await;
        finder.seek(&mut said, &state).await;
        finder.walk(&mut said, &state).await;
    }
}

impl Finder {
    /// Tells the hive where we listen, if that has changed.
    async fn announce(&self, said: &mut Said, state: &NetSnapshot) {
        let now = self.helm.now();
        if now.millis() >= said.announced + ANNOUNCE_MS && !state.listen.is_empty() {
            said.announced = now.millis();
            let me = self.helm.view().me.clone();
            // It says nothing if nothing has changed; that the node stops is no failure here.
            let _ = member::announce(&self.helm, &me, &state.listen, None, now).await;
        }
    }

    /// Puts our record into the directories: when our addresses have changed, when it is old, and
    /// when there are many more nodes than the last time.
    async fn enter(&self, said: &mut Said, state: &NetSnapshot) {
        let peers = state.peers.iter().filter(|line| line.admitted).count();
        let now = self.helm.now();
        let fresh = said.entered.as_ref().is_some_and(|(addrs, at, among)| {
            *addrs == state.listen && now.millis() < at + RENEW_MS && peers < 2 * among
        });
        if fresh || peers == 0 || state.listen.is_empty() {
            return;
        }
        let view = self.helm.view();
        let (me, hive) = (view.me.node(), *view.law.hive());
        let region = view.me.region().clone();
        let value = NodeRecord::new(me, hive, region, &state.listen, now).sign(&self.keys);
        let key = node_key(&me);
        let done = errand(&self.net, |reply| Errand::Enter { key, value, reply }).await;
        if done == Some(true) {
            said.entered = Some((state.listen.clone(), now.millis(), peers));
        }
    }

    /// Lists us as a holder of every topic that we hold and that may be listed.
    async fn provide(&self, said: &mut Said) {
        let view = self.helm.view();
        if said.provided == Some(view.law.revision()) {
            return;
        }
        said.provided = Some(view.law.revision());
        let me = view.me.node();
        let ours =
            |topic: &TopicId| may_be_listed(&view, *topic) && view.holders(*topic).contains(&me);
        let topics = view.law.topics().map(|(topic, _)| topic).filter(ours);
        let keys = topics
            .map(|topic| topic_key(view.law.hive(), &topic))
            .collect();
        let _ = self
            .net
            .send(NetCommand::Directory(Errand::Provide { keys }))
            .await;
    }

    /// Looks for members that cannot be dialled where they said they listen.
    async fn seek(&self, said: &mut Said, state: &NetSnapshot) {
        let now = self.helm.now().millis();
        said.sought.retain(|_, at| now < *at + SEEK_MS);
        let lost: Vec<NodeId> = state
            .failing
            .iter()
            .filter(|(key, failures)| {
                *failures >= FAILURES && !said.sought.contains_key(&NodeId(*key))
            })
            .map(|(key, _)| NodeId(*key))
            .take(SOUGHT_MAX)
            .collect();
        for node in lost {
            said.sought.insert(node, now);
            let view = self.helm.view();
            for shared in [Shared::Region, Shared::Hive] {
                let Some(record) = look_up(&self.net, &view, shared, &node).await else {
                    continue;
                };
                let lawful = |addr: &String| is_lawful(&view, &node, addr);
                for addr in record.addresses.into_iter().filter(lawful) {
                    let _ = self.net.send(NetCommand::Dial { addr }).await;
                }
                break;
            }
        }
    }

    /// Walks the directories while there are too few peers, the region's first.
    async fn walk(&self, said: &mut Said, state: &NetSnapshot) {
        let now = self.helm.now().millis();
        let peers = state.peers.iter().filter(|line| line.admitted).count();
        let others = self.helm.view().law.members().count().saturating_sub(1);
        if peers == 0 || peers >= PEERS_WANTED.min(others) || now < said.walked + WALK_MS {
            return;
        }
        said.walked = now;
        for shared in [Shared::Region, Shared::Hive] {
            let _ = self
                .net
                .send(NetCommand::Directory(Errand::Walk { shared }))
                .await;
        }
    }
}

fn may_be_listed(view: &View, topic: TopicId) -> bool {
    let subject = Subject {
        member: &view.me,
        at: view.now,
    };
    view.law
        .label(topic)
        .is_ok_and(|label| may_list(label, subject).is_ok())
}

async fn errand<T>(
    net: &mpsc::Sender<NetCommand>,
    errand: impl FnOnce(oneshot::Sender<T>) -> Errand,
) -> Option<T> {
    let (reply, answer) = oneshot::channel();
    net.send(NetCommand::Directory(errand(reply))).await.ok()?;
    answer.await.ok()
}

async fn look_up(
    net: &mpsc::Sender<NetCommand>,
    view: &View,
    shared: Shared,
    node: &NodeId,
) -> Option<NodeRecord> {
    let key = node_key(node);
    let value = errand(net, |reply| Errand::FindEntry { shared, key, reply }).await??;
    NodeRecord::open(&value, &key, view.law.hive(), view.now).ok()
}

impl Memory {
    /// Finds a node (by its id) or the holders of a topic (by its name), step by step.
    ///
    /// # Errors
    /// `not_found`, naming the steps that were tried; `bad_topic` for a name that is none.
    pub async fn find(&self, what: &str) -> Result<Found, Problem> {
        let found = match names::parse_node(what) {
            Some(node) => self.find_node(&node).await?,
            None => self.find_topic(&crate::memory::topic_name(what)?).await?,
        };
        if !found.nodes.is_empty() {
            return Ok(found);
        }
        let steps: Vec<String> = found
            .tried
            .iter()
            .map(|tried| format!("{} ({})", tried.step, tried.outcome))
            .collect();
        let message = format!("{what} was not found; tried: {}", steps.join(", "));
        let hint =
            "check the spelling, and that some peer of the hive is connected: `aquifer peers`";
        Err(Problem::new("not_found", 3, message, hint))
    }

    async fn find_node(&self, node: &NodeId) -> Result<Found, Problem> {
        let (view, state) = (self.view(), self.net().await?);
        let mut found = Found::of("node");
        let line = state
            .peers
            .iter()
            .find(|line| line.admitted && line.key == node.0);
        let here = (*node == view.me.node()).then(|| state.listen.clone());
        let connected = here.or_else(|| line.map(|line| vec![line.addr.clone()]));
        let known = view
            .law
            .member(node)
            .map(|known| known.manifest.addresses.clone());
        found.step("connected", node, &view, connected);
        if found.nodes.is_empty() {
            found.step("manifests of members", node, &view, known);
            for (step, shared) in [
                ("directory of the region", Shared::Region),
                ("directory of the hive", Shared::Hive),
            ] {
                let record = look_up(&self.parts().net, &view, shared, node).await;
                let hit = record.is_some();
                found.step(step, node, &view, record.map(|record| record.addresses));
                if hit {
                    break;
                }
            }
        }
        Ok(found)
    }

    async fn find_topic(&self, name: &TopicName) -> Result<Found, Problem> {
        let view = self.view();
        let topic = name.id(view.law.hive());
        let mut found = Found::of("topic");
        let holders = view.holders(topic);
        found.steps("members that the law lets hold it", &holders, &view);
        if !may_be_listed(&view, topic) {
            found.skip(
                "directory of the region",
                "not asked: the topic is restricted or unknown here",
            );
            return Ok(found);
        }
        let key = topic_key(view.law.hive(), &topic);
        let providers = errand(&self.parts().net, |reply| Errand::FindProviders {
            key,
            reply,
        })
        .await;
        let providers: Vec<NodeId> = providers
            .unwrap_or_default()
            .into_iter()
            .map(NodeId)
            .collect();
        found.steps("directory of the region", &providers, &view);
        Ok(found)
    }
}

impl Found {
    fn of(kind: &str) -> Self {
        Self {
            kind: kind.to_owned(),
            nodes: Vec::new(),
            tried: Vec::new(),
        }
    }

    fn skip(&mut self, step: &str, outcome: &str) {
        self.tried.push(Tried {
            step: step.to_owned(),
            outcome: outcome.to_owned(),
        });
    }

    /// A step that may have found the addresses of one node.
    fn step(&mut self, step: &str, node: &NodeId, view: &View, addresses: Option<Vec<String>>) {
        let outcome = addresses.as_ref().map_or("nothing", |_| "found");
        self.skip(step, outcome);
        self.nodes
            .extend(addresses.map(|addresses| found_node(view, node, step, addresses)));
    }

    /// A step that may have found several nodes; one is named once.
    fn steps(&mut self, step: &str, nodes: &[NodeId], view: &View) {
        self.skip(step, &format!("{} found", nodes.len()));
        for node in nodes {
            let name = names::node(node);
            if !self.nodes.iter().any(|found| found.node == name) {
                let known = view
                    .law
                    .member(node)
                    .map(|known| known.manifest.addresses.clone());
                self.nodes
                    .push(found_node(view, node, step, known.unwrap_or_default()));
            }
        }
    }
}

fn found_node(view: &View, node: &NodeId, via: &str, addresses: Vec<String>) -> FoundNode {
    FoundNode {
        node: names::node(node),
        region: view.region_of(node),
        via: via.to_owned(),
        addresses,
    }
}

//! The swarm as this node sees it: its peers, how far they are, and who is connected to whom.

use super::{Memory, not_found};
use crate::api::{Graph, GraphLink, GraphNode, PeerView, Ping, Pinged, Problem};
use crate::ask::{Answer, Neighbour, Question};
use crate::clock::{self, Stopwatch};
use crate::config::parse_region;
use crate::names;
use crate::net::{CALL_PATIENCE_MAX, NetSnapshot, PeerLine};
use crate::view::View;
use aquifer_protocol::certificate::role;
use aquifer_protocol::{Member, NodeId, TopicId};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::task::JoinSet;

const PINGS: usize = 4;
const PINGS_MAX: usize = 100;
/// The fewest characters that name a node by the end of its peer id.
const SUFFIX_MIN: usize = 4;
/// The most peers that are asked for theirs.
const GRAPH_ASKED_MAX: usize = 32;
/// How long they may take.
const GRAPH_PATIENCE: Duration = Duration::from_secs(2);

impl Memory {
    /// Asks a node, several times over, whether it is there.
    ///
    /// # Errors
    /// `not_found` (exit 3) if no member is called that, `ambiguous_node`, `not_connected` (4), and
    /// `timeout` (124) if not one question was answered.
    pub async fn ping(&self, asked: Ping) -> Result<Pinged, Problem> {
        let view = self.view();
        let node = self.named(&view, &asked.node)?;
        let net = self.net().await?;
        let line = net.peers.iter().find(|line| line.key == node.0);
        let count = asked.count.unwrap_or(PINGS).clamp(1, PINGS_MAX);
        let patience = asked
            .wait_ms
            .map_or(CALL_PATIENCE_MAX, Duration::from_millis);
        let mut rtts_ms: Vec<f64> = Vec::with_capacity(count);
        let mut last = None;
        for _ in 0..count {
            let nonce = u64::from_be_bytes(clock::entropy());
            let watch = Stopwatch::start();
            match self.put(node, &Question::Ping(nonce), patience).await {
                Ok(Answer::Pong(back)) if back == nonce => {
                    rtts_ms.push(watch.elapsed().as_secs_f64() * 1_000.0);
                }
                Ok(_) => {}
                Err(problem) if problem.exit == 4 => return Err(problem),
                Err(problem) => last = Some(problem),
            }
        }
        if rtts_ms.is_empty() {
            let silent = || Problem::new("timeout", 124, "no answer", "see `aquifer peers`");
            return Err(last.unwrap_or_else(silent));
        }
        let mut sorted = rtts_ms.clone();
        sorted.sort_by(f64::total_cmp);
        Ok(Pinged {
            node: names::node(&node),
            region: self.region_of_peer(&view, &node),
            path: path(line.is_some_and(|line| line.relayed)).to_owned(),
            addr: line.map(|line| line.addr.clone()).unwrap_or_default(),
            sent: count,
            answered: sorted.len(),
            min_ms: sorted[0],
            avg_ms: sorted.iter().sum::<f64>() / sorted.len() as f64,
            p99_ms: sorted[(sorted.len() * 99).div_ceil(100) - 1],
            rtts_ms,
        })
    }

    /// The nodes this one is connected to, nearest first, and then the members that it is not
    /// connected to.
    ///
    /// # Errors
    /// Only if the node is stopping.
    pub async fn peers(&self) -> Result<Vec<PeerView>, Problem> {
        let view = self.view();
        let mut peers = self.connected(&view, &self.net().await?);
        let rtt = |peer: &PeerView| peer.rtt_ms.unwrap_or(f64::MAX);
        peers.sort_by(|a, b| rtt(a).total_cmp(&rtt(b)).then_with(|| a.node.cmp(&b.node)));
        let up: BTreeSet<String> = peers.iter().map(|peer| peer.node.clone()).collect();
        let me = view.me.node();
        let away = view
            .law
            .members()
            .filter(|(node, _)| **node != me && !up.contains(&names::node(node)));
        peers.extend(away.map(|(node, known)| {
            PeerView {
                node: names::node(node),
                region: known.member.region().to_string(),
                domains: Vec::new(),
                addr: known
                    .manifest
                    .addresses
                    .first()
                    .cloned()
                    .unwrap_or_default(),
                rtt_ms: None,
                bytes_in: 0,
                bytes_out: 0,
                dropped: 0,
                up: false,
                roles: roles_of(&known.member),
                relayed: None,
                last_seen: self.inner.observed.last_seen(node),
                agrees: Vec::new(),
                differs: Vec::new(),
                gpu_bytes: known.manifest.gpu_bytes,
                models: self.name_models(&known.manifest),
                tasks: self.name_tasks(&view, &known.manifest),
            }
        }));
        Ok(peers)
    }

    /// Connected and admitted peers.
    pub(super) fn connected(&self, view: &View, net: &NetSnapshot) -> Vec<PeerView> {
        let me = view.me.node();
        let topics = view.law.topics().map(|(topic, _)| topic);
        let held: Vec<(TopicId, BTreeSet<NodeId>)> = topics
            .map(|topic| (topic, view.holders(topic).into_iter().collect()))
            .filter(|(_, holders): &(_, BTreeSet<NodeId>)| holders.contains(&me))
            .collect();
        let admitted = net.peers.iter().filter(|line| line.admitted);
        admitted
            .map(|line| self.show_peer(view, line, &held))
            .collect()
    }

    /// `held` are the topics that this node is to hold, and who else is.
    fn show_peer(
        &self,
        view: &View,
        line: &PeerLine,
        held: &[(TopicId, BTreeSet<NodeId>)],
    ) -> PeerView {
        let node = NodeId(line.key);
        let shared = held.iter().filter(|(_, holders)| holders.contains(&node));
        let (agrees, differs): (Vec<TopicId>, Vec<TopicId>) = shared
            .map(|(topic, _)| *topic)
            .partition(|topic| self.inner.observed.agreed(*topic, &node).is_some());
        let named = |topics: Vec<TopicId>| {
            let mut names: Vec<String> = topics.iter().map(|id| view.topic_name(*id)).collect();
            names.sort();
            names
        };
        let member = self.member_of(view, &node);
        let known = view.law.member(&node);
        PeerView {
            node: names::node(&node),
            region: self.region_of_peer(view, &node),
            domains: line.domains.clone(),
            addr: line.addr.clone(),
            rtt_ms: line.rtt_ms,
            bytes_in: line.bytes_in,
            bytes_out: line.bytes_out,
            dropped: line.dropped,
            up: true,
            roles: member.as_ref().map(roles_of).unwrap_or_default(),
            relayed: Some(line.relayed),
            last_seen: None,
            agrees: named(agrees),
            differs: named(differs),
            gpu_bytes: known.map_or(0, |known| known.manifest.gpu_bytes),
            models: known.map_or_else(Vec::new, |known| self.name_models(&known.manifest)),
            tasks: known.map_or_else(Vec::new, |known| self.name_tasks(view, &known.manifest)),
        }
    }

    /// The members of the hive and their connections, as this node and its peers see them.
    ///
    /// # Errors
    /// Only if the node is stopping.
    pub async fn graph(&self) -> Result<Graph, Problem> {
        let view = self.view();
        let net = self.net().await?;
        let me = view.me.node();
        let is_member = |node: &NodeId| *node == me || self.member_of(&view, node).is_some();
        let own = net.peers.iter().filter(|line| line.admitted);
        let own: Vec<Neighbour> = own
            .map(|line| Neighbour {
                node: NodeId(line.key),
                region: self.region_of_peer(&view, &NodeId(line.key)),
                rtt_us: line.rtt_ms.map(|ms| (ms * 1_000.0) as u64),
                relayed: line.relayed,
            })
            .collect();
        let mut calls = JoinSet::new();
        for peer in own.iter().take(GRAPH_ASKED_MAX).map(|peer| peer.node) {
            let memory = self.clone();
            let asked = async move { memory.put(peer, &Question::Peers, GRAPH_PATIENCE).await };
            calls.spawn(async move { (peer, asked.await) });
        }
        let asked = 1 + calls.len();
        let mut told = vec![(me, own)];
        while let Some(Ok((peer, answer))) = calls.join_next().await {
            if let Ok(Answer::Peers(peers)) = answer {
                told.push((peer, peers));
            }
        }
        let answered = told.len();
        let mut up = BTreeSet::from([me]);
        let mut links: BTreeMap<(NodeId, NodeId), GraphLink> = BTreeMap::new();
        for (from, peers) in &told {
            for peer in peers.iter().filter(|peer| is_member(&peer.node)) {
                if peer.node == *from {
                    continue;
                }
                up.extend([*from, peer.node]);
                let (a, b) = (*from.min(&peer.node), *from.max(&peer.node));
                let link = links
                    .entry((a, b))
                    .or_insert_with(|| link(&a, &b, peer.relayed));
                let rtt_ms = peer.rtt_us.map(|us| us as f64 / 1_000.0);
                link.rtt_ms = [link.rtt_ms, rtt_ms]
                    .into_iter()
                    .flatten()
                    .min_by(f64::total_cmp);
                link.relayed &= peer.relayed;
            }
        }
        let known = view.law.members().map(|(node, _)| *node);
        let all: BTreeSet<NodeId> = known.chain(up.iter().copied()).collect();
        let mut nodes: Vec<GraphNode> = all
            .iter()
            .map(|node| GraphNode {
                node: names::node(node),
                region: self.region_of_peer(&view, node),
                roles: self
                    .member_of(&view, node)
                    .as_ref()
                    .map(roles_of)
                    .unwrap_or_default(),
                up: up.contains(node),
                last_seen: self.inner.observed.last_seen(node),
            })
            .collect();
        nodes.sort_by(|a, b| (&a.region, &a.node).cmp(&(&b.region, &b.node)));
        Ok(Graph {
            here: names::node(&me),
            at: self.inner.helm.now().millis(),
            nodes,
            links: links.into_values().collect(),
            asked,
            answered,
        })
    }

    /// The member called `text`: a peer id, the end of one, or a region with one other node.
    pub(super) fn named(&self, view: &View, text: &str) -> Result<NodeId, Problem> {
        let me = view.me.node();
        let unknown = || not_found(format!("there is no node `{text}` in this hive"));
        if let Some(node) = names::parse_node(text) {
            let known = node == me || self.member_of(view, &node).is_some();
            return known.then_some(node).ok_or_else(unknown);
        }
        let up = self.inner.observed.up();
        let members = view.law.members().map(|(node, _)| *node);
        let all: BTreeSet<NodeId> = members.chain(up).filter(|node| *node != me).collect();
        let region = parse_region(text).ok();
        let is_called = |node: &&NodeId| {
            let by_end = text.len() >= SUFFIX_MIN && names::node(node).ends_with(text);
            let there = self
                .member_of(view, node)
                .map(|member| member.region().clone());
            by_end || (region.is_some() && there == region)
        };
        let found: Vec<&NodeId> = all.iter().filter(is_called).collect();
        match &found[..] {
            [one] => Ok(**one),
            [] => Err(Problem {
                hint: "list the nodes with `aquifer peers`".to_owned(),
                ..unknown()
            }),
            _ => {
                let message = format!("{} nodes are called `{text}`", found.len());
                let hint = "give more of the end of its peer id, as `aquifer peers` prints it";
                Err(Problem::new("ambiguous_node", 2, message, hint))
            }
        }
    }

    /// The certificate that a node showed, or the one in its manifest.
    fn member_of(&self, view: &View, node: &NodeId) -> Option<Member> {
        if *node == view.me.node() {
            return Some(view.me.clone());
        }
        let known = view.law.member(node).map(|known| known.member.clone());
        known.or_else(|| self.inner.admission.admitted(node))
    }

    /// A node's region by its manifest, or by the certificate it showed a moment ago.
    pub(super) fn region_of_peer(&self, view: &View, node: &NodeId) -> String {
        let member = self.member_of(view, node);
        member.map_or_else(|| "?".to_owned(), |member| member.region().to_string())
    }
}

fn path(relayed: bool) -> &'static str {
    if relayed { "relayed" } else { "direct" }
}

fn link(a: &NodeId, b: &NodeId, relayed: bool) -> GraphLink {
    let (a, b) = (names::node(a), names::node(b));
    let (a, b) = if a < b { (a, b) } else { (b, a) };
    GraphLink {
        a,
        b,
        rtt_ms: None,
        relayed,
    }
}

fn roles_of(member: &Member) -> Vec<String> {
    let names = role::names(member.grant().roles);
    names.into_iter().map(str::to_owned).collect()
}

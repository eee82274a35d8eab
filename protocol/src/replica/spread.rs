//! Spread: what leaves by itself once a beat is durable.
//!
//! Where a mesh carries the topic, news goes into it once: the records themselves if they are short,
//! else where their log stands, to be pulled. What came in the mesh needs no help. The bridges carry
//! what was written in their mesh to the other meshes of the topic: the first sends the records, the
//! second says a little later where the logs stand, so that they cross once, or all the same if the
//! first has failed. Where no mesh carries the topic, the writer sends to every holder it is connected
//! to, and others announce.
//!
//! Not here: which mesh and who bridges (`mesh`), what peers ask for (`converse`).

use super::{Grown, Replica};
use crate::Output;
use crate::certificate::Member;
use crate::identity::NodeId;
use crate::limits::{
    ANNOUNCED_MAX, BRIDGE_PATIENCE, GOSSIP_BYTES_MAX, GOSSIP_MESSAGES_MAX,
    RECORDS_BYTES_PER_MESSAGE, RECORDS_PER_MESSAGE_MAX,
};
use crate::log::LogKey;
use crate::mesh;
use crate::record::Record;
use crate::region::Region;
use crate::store::Store;
use crate::sync;
use crate::topic::TopicId;
use crate::wire::{Item, Message};
use std::collections::BTreeMap;

/// A log that grew in this beat.
struct News {
    key: LogKey,
    /// Who sent it; none if written here.
    from: Option<NodeId>,
    by_mesh: bool,
    records: Vec<Record>,
}

/// Where logs stand, for whom.
type Announcements = BTreeMap<(NodeId, TopicId), Vec<Item>>;

impl<S: Store> Replica<S> {
    /// Notes that a log grew by a record of another, or was cut.
    pub(super) fn grows(&mut self, key: LogKey, from: NodeId, record: Option<&Record>) {
        let grown = self.beat.grown.entry(key).or_insert_with(|| Grown {
            from,
            by_mesh: false,
            records: Vec::new(),
        });
        grown.from = from;
        grown.records.extend(record.cloned());
    }

    /// After the commit: tells whoever should know what is new here.
    pub(super) fn spread(&mut self) {
        let mut news: BTreeMap<TopicId, Vec<News>> = BTreeMap::new();
        let fresh = core::mem::take(&mut self.beat.fresh);
        let (peers, hurry) = (self.peers.len(), self.awaiting.topics());
        for (topic, records) in self.pace.turn(self.now, fresh, peers, &hurry) {
            let key = |record: &Record| LogKey::of(record);
            for records in records.chunk_by(|a, b| key(a) == key(b)) {
                news.entry(topic).or_default().push(News {
                    key: key(&records[0]),
                    from: None,
                    by_mesh: false,
                    records: records.to_vec(),
                });
            }
        }
        for (key, grown) in core::mem::take(&mut self.beat.grown) {
            news.entry(key.topic).or_default().push(News {
                key,
                from: Some(grown.from),
                by_mesh: grown.by_mesh,
                records: grown.records,
            });
        }
        let mut announcements = Announcements::new();
        for (topic, news) in news {
            match self.mesh_of(topic) {
                Some(mesh) => self.spread_by_mesh(topic, &mesh, &news, &mut announcements),
                None => self.spread_directly(topic, &news, &mut announcements, |_| true),
            }
        }
        for ((peer, topic), items) in announcements {
            self.tell(peer, topic, items, Vec::new());
        }
        self.release_verdicts();
        self.pay_receipts();
    }

    /// Own records to every peer that is to hold the topic and is `meant`; of others' logs, where
    /// they stand.
    fn spread_directly(
        &mut self,
        topic: TopicId,
        news: &[News],
        announcements: &mut Announcements,
        meant: impl Fn(&Member) -> bool,
    ) {
        let peers = self.peers.values().map(|peer| &peer.member);
        let peers: Vec<NodeId> = peers.filter(|m| meant(m)).map(Member::node).collect();
        let peers: Vec<NodeId> = peers
            .into_iter()
            .filter(|peer| self.may_serve(topic, peer).is_ok() && self.places(topic, *peer))
            .collect();
        for news in news {
            for peer in &peers {
                if news.from == Some(*peer) || news.key.writer == *peer {
                    continue;
                }
                if news.from.is_none() {
                    self.push(*peer, topic, &news.records);
                } else {
                    let item = self.item_of(&news.key);
                    announcements
                        .entry((*peer, topic))
                        .or_default()
                        .extend(item);
                }
            }
        }
    }

    fn spread_by_mesh(
        &mut self,
        topic: TopicId,
        mesh: &Region,
        news: &[News],
        announcements: &mut Announcements,
    ) {
        // A beat of catching up touches many logs: the others of the mesh do the same by themselves.
        let mut announced: Vec<Item> = Vec::new();
        for news in news.iter().filter(|news| !news.by_mesh) {
            let within = |node: NodeId| {
                self.peers
                    .get(&node)
                    .is_some_and(|p| in_mesh(&p.member, mesh))
            };
            let pulled = news.from.is_some_and(within);
            if self.is_announced(&news.key) {
                continue;
            }
            if pulled || !self.publish(mesh, topic, &news.records) {
                announced.extend(self.item_of(&news.key));
            }
        }
        if !announced.is_empty() && announced.len() <= ANNOUNCED_MAX {
            let message = Message::Items {
                topic,
                items: announced,
                whole: false,
            };
            self.beat.out.push(Output::Publish {
                mesh: mesh.clone(),
                topic,
                message,
            });
        }
        // Members of the region who take part in no mesh.
        let beside = |m: &Member| mesh.covers(m.region()) && !mesh::takes_part(m);
        self.spread_directly(topic, news, announcements, beside);
        let ours = |news: &&News| self.is_of(mesh, news);
        let crossing: Vec<&News> = news.iter().filter(ours).collect();
        if !crossing.is_empty() {
            self.carry_over(topic, mesh, &crossing, announcements);
        }
    }

    /// Whether the log's writer belongs to `mesh`: its bridges are the ones to carry it.
    fn is_of(&self, mesh: &Region, news: &News) -> bool {
        let writer = &news.key.writer;
        let by_record = news
            .records
            .first()
            .and_then(|record| self.law.certificate(&record.header().cap_hash));
        let known = by_record.or_else(|| self.law.member(writer).map(|known| &known.member));
        known.is_some_and(|member| mesh.covers(member.region()))
    }

    /// Says records to the mesh in a few messages, if they are short enough. True if it did.
    fn publish(&mut self, mesh: &Region, topic: TopicId, records: &[Record]) -> bool {
        let parts = parts_of(records, GOSSIP_BYTES_MAX);
        if parts.is_empty() || parts.len() > GOSSIP_MESSAGES_MAX {
            return false;
        }
        let parts: Vec<_> = parts.into_iter().map(runs_of).collect();
        if parts.iter().any(Vec::is_empty) {
            return false;
        }
        for runs in parts {
            let message = Message::Records { topic, runs };
            self.beat.out.push(Output::Publish {
                mesh: mesh.clone(),
                topic,
                message,
            });
        }
        true
    }

    /// What this node, as a bridge of `mesh`, does for the other meshes of `topic`.
    fn carry_over(
        &mut self,
        topic: TopicId,
        mesh: &Region,
        news: &[&News],
        announcements: &mut Announcements,
    ) {
        let me = self.keys.node();
        let near = self.bridges_of(topic, mesh);
        let Some(rank) = near.iter().position(|node| *node == me) else {
            return;
        };
        let (far, alone) = self.far_ends(topic, mesh);
        if far.is_empty() && alone.is_empty() {
            return;
        }
        if rank == 0 {
            for news in news {
                let item = self.item_of(&news.key);
                for ends in far.values() {
                    let Some(first) = ends.first() else { continue };
                    if news.records.is_empty() {
                        announcements
                            .entry((*first, topic))
                            .or_default()
                            .extend(item);
                    } else {
                        self.push(*first, topic, &news.records);
                    }
                }
                for peer in &alone {
                    announcements
                        .entry((*peer, topic))
                        .or_default()
                        .extend(item);
                }
            }
        }
        // The second bridge sees to it; the first does so itself if it is alone.
        if rank == 1 || near.len() == 1 {
            self.overseen.extend(news.iter().map(|news| news.key));
            self.deadlines.oversee(self.now + BRIDGE_PATIENCE);
        }
    }

    /// Tells the other meshes where the logs stand that the first bridge was to carry.
    pub(super) fn oversee(&mut self) {
        for key in core::mem::take(&mut self.overseen) {
            let (topic, item) = (key.topic, self.item_of(&key));
            let (Some(mesh), Some(item)) = (self.mesh_of(topic), item) else {
                continue;
            };
            for ends in self.far_ends(topic, &mesh).0.into_values() {
                if let Some(last) = ends.last() {
                    self.tell(*last, topic, vec![item], Vec::new());
                }
            }
        }
    }

    /// The bridges of our own side, as far as this node can see who is up.
    fn bridges_of(&self, topic: TopicId, mesh: &Region) -> Vec<NodeId> {
        let peers = self.peers.values().map(|peer| &peer.member);
        let up = peers.chain(&self.me).filter(|m| in_mesh(m, mesh));
        mesh::bridges(topic, up)
    }

    /// The bridges of every other mesh that carries `topic`, and peers outside all meshes.
    fn far_ends(
        &self,
        topic: TopicId,
        mesh: &Region,
    ) -> (BTreeMap<Region, Vec<NodeId>>, Vec<NodeId>) {
        let Ok(label) = self.law.label(topic) else {
            return Default::default();
        };
        let mut sides: BTreeMap<Region, Vec<&Member>> = BTreeMap::new();
        let mut alone = Vec::new();
        for (node, peer) in &self.peers {
            let region = peer.member.region();
            if mesh.covers(region) || self.may_serve(topic, node).is_err() {
                continue;
            }
            match mesh::carrying(label, region) {
                Some(side) if mesh::takes_part(&peer.member) => {
                    sides.entry(side).or_default().push(&peer.member);
                }
                // Its own region's nodes see to a member outside the meshes, where there are any.
                Some(_) => {}
                None => alone.push(*node),
            }
        }
        let ends = |up: Vec<&Member>| mesh::bridges(topic, up.into_iter());
        let far = sides.into_iter().map(|(side, up)| (side, ends(up)));
        (far.collect(), alone)
    }

    fn push(&mut self, peer: NodeId, topic: TopicId, records: &[Record]) {
        for run in runs_of(records) {
            let runs = vec![run];
            self.send(peer, Message::Records { topic, runs });
        }
    }

    fn item_of(&self, key: &LogKey) -> Option<Item> {
        self.logs.get(key).map(|state| sync::item(key, state))
    }
}

fn in_mesh(member: &Member, mesh: &Region) -> bool {
    mesh.covers(member.region()) && mesh::takes_part(member)
}

/// Cuts records into as few parts as are of at most `most` bytes each; none if one record is longer.
fn parts_of(records: &[Record], most: usize) -> Vec<&[Record]> {
    let mut parts = Vec::new();
    let (mut first, mut bytes) = (0, 0);
    for (at, record) in records.iter().enumerate() {
        let len = record.wire_len();
        if len > most {
            return Vec::new();
        }
        if bytes + len > most {
            parts.push(&records[first..at]);
            (first, bytes) = (at, 0);
        }
        bytes += len;
    }
    if first < records.len() {
        parts.push(&records[first..]);
    }
    parts
}

/// Cuts records into stretches of one log that fit a message each, each vouched for by its last
/// signature. What nothing vouches for is left out.
fn runs_of(records: &[Record]) -> Vec<Vec<Record>> {
    let mut runs: Vec<Vec<Record>> = Vec::new();
    let mut bytes = 0;
    for record in records {
        let follows = runs.last().and_then(|run| run.last()).is_some_and(|last| {
            LogKey::of(last) == LogKey::of(record) && last.id() == record.header().prev
        });
        let full = bytes >= RECORDS_BYTES_PER_MESSAGE
            || runs
                .last()
                .is_some_and(|run| run.len() >= RECORDS_PER_MESSAGE_MAX);
        if !follows || full {
            runs.push(Vec::new());
            bytes = 0;
        }
        bytes += record.wire_len();
        runs.last_mut().expect("just pushed").push(record.clone());
    }
    for run in &mut runs {
        while run
            .last()
            .is_some_and(|last| !last.is_signed() && !last.check_signature())
        {
            run.pop();
        }
    }
    runs.retain(|run| !run.is_empty());
    runs
}

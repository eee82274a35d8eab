//! Nodes: what the world keeps of each, its founding and its certificates.
//!
//! Not here: its beats (`world`), its crashes (`mishaps`).

use super::gossip::Ear;
use crate::chance::Dice;
use crate::disk::{Disk, Ending};
use crate::engine::Index;
use crate::scenario::{Scenario, Site};
use aquifer_protocol::certificate::role;
use aquifer_protocol::log::{self, ReadRecord};
use aquifer_protocol::{
    Chain, Grant, HiveId, Input, Keys, Member, NodeId, Record, RecordId, Region, Replica, Seed,
    Time, TopicId,
};
use bytes::Bytes;
use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

/// One node.
#[derive(Debug)]
pub struct Node {
    /// Its key.
    pub keys: Keys,
    /// Its certificate.
    pub member: Member,
    /// Where it is.
    pub site: Site,
    /// Its disk, which survives it.
    pub disk: Disk,
    /// Its protocol, while it is up.
    pub replica: Option<Replica<Disk>>,
    /// How its next beat ends, if a story wants it to end badly.
    pub doom: Option<Ending>,
    /// How often it was started.
    pub life: u64,
    /// The records in its state, by its own events.
    pub(crate) accepted: BTreeMap<RecordId, TopicId>,
    /// The revision of the law that was judged last.
    pub(crate) judged: u64,
    pub(super) inbox: VecDeque<Input>,
    pub(super) ear: Ear,
    pub(super) beat_planned: bool,
    pub(super) busy_until: Time,
    pub(super) wake_at: Option<Time>,
}

impl Node {
    /// The records of `topic` in its state, or why one cannot be read, in order of log and seq.
    pub fn records(&self, topic: TopicId) -> Vec<Result<Record, ReadRecord>> {
        let Some(replica) = &self.replica else {
            return Vec::new();
        };
        let logs = replica.logs().of_topic(topic);
        logs.flat_map(|(_, state)| {
            (0..state.height)
                .filter_map(|seq| log::record_at(&self.disk, state.number, seq).transpose())
        })
        .collect()
    }

    /// The records that were written to its disk since this was asked last, if they can be read.
    pub(crate) fn written(&self) -> Vec<Record> {
        let places = self.disk.take_written();
        let read = |place: Bytes| {
            let (number, seq) = log::split_place(&place)?;
            log::record_at(&self.disk, number, seq).ok()?
        };
        places.into_iter().filter_map(read).collect()
    }

    /// Whether its disk has `id`, in whatever state.
    pub fn has(&self, id: &RecordId) -> bool {
        matches!(log::place_of(&self.disk, id), Ok(Some(_)))
    }

    /// The text of every memory and revision of `topic` that it has a body of.
    pub fn texts(&self, topic: TopicId) -> Vec<String> {
        use aquifer_protocol::Body;
        let good = self.records(topic).into_iter().flatten();
        good.filter_map(
            |record| match Body::open(record.header().kind, &record.body()?).ok()? {
                Body::Memory(memory) => Some(memory.text),
                Body::Revision(revision) => Some(revision.memory.text),
                _ => None,
            },
        )
        .collect()
    }
}

/// `time` on a clock that is `skew_ms` ahead.
pub(super) fn shift(time: Time, skew_ms: i64) -> Time {
    let by = Duration::from_millis(skew_ms.unsigned_abs());
    if skew_ms >= 0 {
        time + by
    } else {
        Time::from_micros(time.micros() - by.as_micros() as u64)
    }
}

/// Founds the hive: its root, an authority for each top-level region, a node at each site.
pub(super) fn found(scenario: &Scenario, seed: &Seed) -> (HiveId, Vec<Node>) {
    let mut dice = Dice::new(seed, "keys");
    let root = Keys::from_secret(&dice.bytes32());
    let hive = HiveId(root.public());
    let mut authorities: BTreeMap<Region, (Keys, Chain)> = BTreeMap::new();
    let mut nodes = Vec::new();
    for site in &scenario.sites {
        let top = site.region.top();
        let (keys, chain) = authorities.entry(top.clone()).or_insert_with(|| {
            let keys = Keys::from_secret(&dice.bytes32());
            let grant = grant(hive, keys.node(), &top, true);
            let chain = Chain::rooted(&root, grant);
            (keys, chain)
        });
        let own = Keys::from_secret(&dice.bytes32());
        let leaf = grant(hive, own.node(), &site.region, false);
        let member = chain
            .extended(keys, leaf)
            .check(&hive)
            .expect("issued by the rules");
        nodes.push(Node {
            keys: own,
            member,
            site: site.clone(),
            disk: Disk::default(),
            replica: None,
            doom: None,
            life: 0,
            accepted: BTreeMap::new(),
            judged: 0,
            inbox: VecDeque::new(),
            ear: Ear::default(),
            beat_planned: false,
            busy_until: Time::ZERO,
            wake_at: None,
        });
    }
    (hive, nodes)
}

fn grant(hive: HiveId, subject: NodeId, region: &Region, may_issue: bool) -> Grant {
    Grant {
        hive,
        subject,
        region: Some(region.clone()),
        topics: None,
        roles: role::ALL,
        may_issue,
        not_before: 0,
        not_after: u64::MAX,
        serial: 1,
    }
}

/// The numbers in a set of nodes, as bits.
pub(super) fn bits(nodes: impl Iterator<Item = Index>) -> u64 {
    nodes.fold(0, |bits, node| bits | 1 << node)
}

//! Founding: a hive of as many members as there are agents, with its topics and its writers.
//!
//! The root certifies every agent. A founder, who is no agent, founds the topics; whoever will publish
//! announces itself; and all begin where these records have reached everybody, as they would have after
//! a while. Whoever only listens announces nothing: peers know each other by the certificates that they
//! show when they meet.

use super::shelf::Shelf;
use super::{Counts, Mind, Post, Reaction, Replicas, START, Topic};
use crate::swarm::draw::mix;
use crate::swarm::plan::ParseSwarm;
use aquifer_protocol::certificate::role;
use aquifer_protocol::event::{Expect, Refusal, Reply};
use aquifer_protocol::identity::digest;
use aquifer_protocol::{
    Batch, Chain, Command, CommandId, Grant, HiveId, Input, Keys, Label, MemStore, Member, Message,
    Output, Policy, Record, Region, Regions, Replica, Seed, Settings, Store, Table, Time, TopicId,
    TopicName, body, log, mesh,
};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Where an agent is, and what it is certified for.
#[derive(Clone, Debug)]
pub struct Site {
    /// The name of its region, as a certificate has it.
    pub region: String,
    /// The region's number.
    pub number: usize,
    /// Whether it is certified as a bridge.
    pub bridges: bool,
}

pub(super) fn found(
    seed: u64,
    sites: &[Site],
    topics: &[(String, Vec<bool>)],
    publishers: &[u32],
    links: usize,
) -> Result<Replicas, ParseSwarm> {
    let root = keys(seed, u64::MAX);
    let hive = HiveId(root.public());
    let mut regions: BTreeMap<usize, Region> = BTreeMap::new();
    for site in sites {
        if let Entry::Vacant(place) = regions.entry(site.number) {
            place.insert(site.region.parse().map_err(|why| fail("latency", why))?);
        }
    }
    let own: Vec<Keys> = (0..sites.len() as u64)
        .map(|agent| keys(seed, agent))
        .collect();
    let member = |(site, keys): (&Site, &Keys)| {
        let roles = if site.bridges {
            role::ALL
        } else {
            role::ALL & !role::BRIDGE
        };
        certified(&root, hive, keys, &regions[&site.number], roles)
    };
    let members: Vec<Member> = sites.iter().zip(&own).map(member).collect();

    // Who founds is a member somewhere, and keeps nothing but the law.
    let mut founder = Newcomer::of(&root, keys(seed, u64::MAX - 1), &regions[&sites[0].number]);
    let mut known = Vec::new();
    for (number, (name, allowed)) in topics.iter().enumerate() {
        let topic: TopicName = name.parse().map_err(|why| fail("workload", why))?;
        let inside = regions.iter().filter(|(region, _)| allowed[**region]);
        let inside: Vec<Region> = inside.map(|(_, region)| region.clone()).collect();
        let policy = match allowed.iter().all(|allowed| *allowed) {
            true => Policy::open(),
            false => Policy::within(Regions::only(inside)),
        };
        let carrying = |region: usize| {
            let label = Label {
                topic: &topic,
                policy: &policy,
                epoch: 1,
                home: None,
            };
            regions
                .get(&region)
                .and_then(|region| mesh::carrying(label, region))
        };
        known.push(Topic {
            id: topic.id(&hive),
            meshes: (0..allowed.len()).map(carrying).collect(),
            name: topic.clone(),
        });
        // Workloads may share a topic, as long as they share its law.
        match topics[..number].iter().find(|(other, _)| other == name) {
            Some((_, other)) if other == allowed => continue,
            Some(_) => return Err(fail("workload", format!("`{name}` has two laws"))),
            None => {}
        }
        let (id, expect) = (number as u64, Expect::New);
        let govern = Command::Govern {
            topic,
            policy,
            expect,
        };
        let refused = founder.commands(id, govern);
        refused.map_err(|why| fail("workload", format!("`{name}` cannot be founded: {why}")))?;
    }
    let messages = publishers.len();
    let publishers: BTreeSet<u32> = publishers.iter().copied().collect();
    let mut law = founder.law();
    let mut stores: BTreeMap<u32, MemStore> = BTreeMap::new();
    for publisher in publishers {
        let place = publisher as usize;
        let mut writer = Newcomer::with(own[place].clone(), members[place].clone(), hive);
        let chain = members[place].chain().to_vec().into();
        let manifest = body::Manifest { chain, ..nothing() };
        writer
            .commands(0, Command::Announce { manifest })
            .expect("a member may announce itself");
        law.extend(writer.law());
        stores.insert(publisher, writer.replica.into_store());
    }
    let shared = Arc::new(shared(&root, hive, seed, &regions[&sites[0].number], &law));
    let mut minds = Vec::with_capacity(sites.len());
    for ((agent, keys), member) in (0_u32..).zip(own).zip(&members) {
        let settings = Settings {
            member: Some(member.clone()),
            ..Settings::new(hive)
        };
        let number = Seed::from_number(mix(seed ^ u64::from(agent) << 20));
        let replica = match stores.remove(&agent) {
            // A writer goes on in its own log, and is told the rest.
            Some(store) => {
                let store = Shelf::holding(store);
                let mut replica = open(keys, settings, store, number);
                tell(
                    &mut replica,
                    &root,
                    hive,
                    seed,
                    &regions[&sites[0].number],
                    &law,
                );
                replica
            }
            None => open(keys, settings, Shelf::over(shared.clone()), number),
        };
        minds.push(Mind {
            replica,
            peers: vec![None; links],
            sent: vec![0; links],
            mail: Vec::new(),
            wake_at: u64::MAX,
            ahead: 0,
        });
    }
    Ok(Replicas {
        minds,
        post: Post::default(),
        members,
        topics: known,
        places: vec![None; messages],
        numbers: BTreeMap::new(),
        said: vec![None; messages],
        reaction: Reaction::default(),
        counts: Counts::default(),
    })
}

fn fail(key: &'static str, why: impl std::fmt::Display) -> ParseSwarm {
    let why = why.to_string();
    ParseSwarm::Impossible { key, why }
}

fn keys(seed: u64, agent: u64) -> Keys {
    let parts = [seed.to_be_bytes(), agent.to_be_bytes()];
    Keys::from_secret(&digest("aquifer/simulator/keys", &[&parts[0], &parts[1]]))
}

fn certified(root: &Keys, hive: HiveId, keys: &Keys, region: &Region, roles: u32) -> Member {
    let grant = Grant {
        hive,
        subject: keys.node(),
        region: Some(region.clone()),
        topics: None,
        roles,
        may_issue: false,
        not_before: 0,
        not_after: u64::MAX,
        serial: 1,
    };
    Chain::rooted(root, grant)
        .check(&hive)
        .expect("issued by the rules")
}

fn nothing() -> body::Manifest {
    body::Manifest {
        chain: Vec::new().into(),
        addresses: Vec::new(),
        agent: "aquifer-sim".to_owned(),
        storage_bytes: 0,
        gpu_bytes: 0,
        models: Vec::new(),
        up_since: 0,
    }
}

fn open<S: Store>(keys: Keys, settings: Settings, store: S, seed: Seed) -> Replica<S> {
    Replica::open(keys, settings, store, seed, BEGINNING).expect("a store of this hive")
}

/// Before the run begins.
const BEGINNING: Time = START;

/// A member who says something before the run begins.
struct Newcomer {
    replica: Replica<MemStore>,
    hive: TopicId,
}

impl Newcomer {
    fn of(root: &Keys, keys: Keys, region: &Region) -> Self {
        let hive = HiveId(root.public());
        let member = certified(root, hive, &keys, region, role::ALL);
        Self::with(keys, member, hive)
    }

    fn with(keys: Keys, member: Member, hive: HiveId) -> Self {
        let seed = Seed::from_number(u64::from(keys.node().0[0]));
        let settings = Settings {
            member: Some(member),
            ..Settings::new(hive)
        };
        Self {
            replica: open(keys, settings, MemStore::default(), seed),
            hive: TopicName::hive().id(&hive),
        }
    }

    fn commands(&mut self, id: u64, command: Command) -> Result<(), Refusal> {
        let id = CommandId(id);
        beat(&mut self.replica, Input::Command { id, command })
    }

    /// What it said in the hive's own topic.
    fn law(&self) -> Vec<Record> {
        let logs = self.replica.logs().of_topic(self.hive);
        let all = logs.flat_map(|(_, state)| {
            (0..state.height).map(|seq| log::record_at(self.replica.store(), state.number, seq))
        });
        all.map(|record| record.expect("memory").expect("it was written"))
            .collect()
    }
}

/// One beat. Returns why a command was refused, if it was.
fn beat<S: Store>(replica: &mut Replica<S>, input: Input) -> Result<(), Refusal> {
    let mut refused = Ok(());
    replica.handle(BEGINNING, input);
    replica.commit().expect("memory does not fail");
    while let Some(output) = replica.poll_output() {
        if let Output::Reply {
            reply: Reply::Refused(why),
            ..
        } = output
        {
            refused = Err(why);
        }
    }
    refused
}

/// Tells a replica the law, as a peer would.
fn tell<S: Store>(
    replica: &mut Replica<S>,
    root: &Keys,
    hive: HiveId,
    seed: u64,
    region: &Region,
    law: &[Record],
) {
    let teller = certified(root, hive, &keys(seed, u64::MAX - 1), region, role::ALL);
    let from = teller.node();
    let taught = |replica: &mut Replica<S>, input| beat(replica, input).expect("no command");
    taught(replica, Input::PeerUp { member: teller });
    let topic = TopicName::hive().id(&hive);
    // Certificates before what they let their members say.
    let (manifests, rest): (Vec<&Record>, Vec<&Record>) = law
        .iter()
        .partition(|record| record.header().kind == aquifer_protocol::Kind::MANIFEST);
    for record in manifests.into_iter().chain(rest) {
        let runs = vec![vec![record.clone()]];
        let message = Message::Records { topic, runs };
        taught(replica, Input::Message { from, message });
    }
    taught(replica, Input::PeerDown { peer: from });
}

/// What all begin with: the law, as one who heard all of it has it on its disk.
fn shared(root: &Keys, hive: HiveId, seed: u64, region: &Region, law: &[Record]) -> MemStore {
    let keys = keys(seed, u64::MAX - 2);
    let mut reader = Newcomer::of(root, keys, region);
    tell(&mut reader.replica, root, hive, seed, region, law);
    let mut store = reader.replica.into_store();
    let mut mine = Vec::new();
    let read = store.range(Table::Meta, &[], None, &mut |key, _| {
        mine.push(key.to_vec());
        true
    });
    read.expect("memory");
    // Whose store it is, and its own log, are the reader's alone.
    let mut batch = Batch::default();
    mine.into_iter()
        .for_each(|key| batch.remove(Table::Meta, key));
    store.apply(batch).expect("memory");
    store
}

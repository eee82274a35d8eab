//! A hive in a test's memory: real replicas, tied by hand, with time as an argument.
//!
//! Every output of one node becomes an input of another, as the bytes of a frame or as an open
//! message. A puppet is a member without a replica: a test moves its hands and reads what it hears.
//!
//! What nodes are asked is in `asking`, what liars sign in `forgery`. Not here: loss, crashes in the middle of a commit, chance (the simulator has them).

use aquifer_protocol::body::Manifest;
use aquifer_protocol::certificate::role;
use aquifer_protocol::{
    Chain, Command, CommandId, Event, Grant, HiveId, Input, MemStore, Member, Message, NodeId,
    Output, Policy, Region, Replica, Reply, Seed, Settings, Ticket, Time, TopicId, TopicName,
    Verdict,
};
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

pub(crate) use crate::forgery::*;
pub(crate) use aquifer_protocol::Keys;

pub(crate) const SECOND: Duration = Duration::from_secs(1);
/// More than a round of sync with its jitter.
pub(crate) const ROUND: Duration = Duration::from_secs(12);
/// Messages that go to and fro more often than this never end.
const TURNS_MAX: usize = 20_000;

/// A node's place in the hive.
pub(crate) type Index = usize;

pub(crate) struct Hive {
    pub(crate) root: Keys,
    pub(crate) now: Time,
    pub(crate) nodes: Vec<Node>,
    pub(crate) carried: Traffic,
    /// Whether messages travel as bytes; else they are handed over open.
    pub(crate) as_frames: bool,
    pub(crate) commands: u64,
    links: BTreeSet<(Index, Index)>,
}

pub(crate) struct Node {
    pub(crate) keys: Keys,
    pub(crate) member: Member,
    pub(crate) events: Vec<Event>,
    /// What a puppet was told.
    pub(crate) heard: Vec<Message>,
    /// By how much its clock is ahead of the hive's.
    pub(crate) ahead: Duration,
    pub(crate) replica: Option<Replica<MemStore>>,
    pub(crate) replies: BTreeMap<CommandId, Reply>,
    inbox: VecDeque<(NodeId, Said)>,
    /// What it has heard in meshes, so that it hears nothing twice.
    pub(crate) seen: BTreeSet<Vec<u8>>,
    /// What of that it has not judged yet.
    tickets: BTreeMap<Ticket, (NodeId, Region, Message)>,
}

/// What one node says to another.
enum Said {
    Plainly(Message),
    InMesh(Region, Message),
}

/// What went over the wire, counted in frames' bytes.
#[derive(Default, Debug)]
pub(crate) struct Traffic {
    /// By message: how many, and their bytes.
    pub(crate) by_name: BTreeMap<String, (usize, usize)>,
    /// What was said in meshes, by how many hops.
    pub(crate) gossip: usize,
    /// Bytes of records' envelopes and bodies among them.
    pub(crate) content: usize,
}

impl Traffic {
    pub(crate) fn bytes_of(&self, names: &[&str]) -> usize {
        let of = |name: &&str| self.by_name.get(*name).map_or(0, |(_, bytes)| *bytes);
        names.iter().map(of).sum()
    }

    pub(crate) fn count_of(&self, name: &str) -> usize {
        self.by_name.get(name).map_or(0, |(count, _)| *count)
    }

    /// All bytes but those of the records themselves.
    pub(crate) fn beside_records(&self) -> usize {
        let all: usize = self.by_name.values().map(|(_, bytes)| bytes).sum();
        all - self.content
    }

    /// All bytes that are not in messages of records.
    pub(crate) fn talk(&self) -> usize {
        let all: usize = self.by_name.values().map(|(_, bytes)| bytes).sum();
        all - self.bytes_of(&["Records"])
    }

    fn note(&mut self, message: &Message) {
        let slot = self.by_name.entry(name_of(message)).or_default();
        slot.0 += 1;
        slot.1 += message.to_bytes().len();
        if let Message::Records { runs, .. } = message {
            for record in runs.iter().flatten() {
                let body = record.carried().map_or(0, |body| body.len());
                self.content += record.envelope().len() + body;
            }
        }
    }
}

/// The name of a message's type.
pub(crate) fn name_of(message: &Message) -> String {
    let text = format!("{message:?}");
    text.chars()
        .take_while(char::is_ascii_alphanumeric)
        .collect()
}

/// A member of the hive of `root` in `region`, below an authority for that region. `edit` may
/// change what its own certificate grants.
pub(crate) fn certify(root: &Keys, keys: &Keys, region: &str, edit: impl Fn(&mut Grant)) -> Member {
    let secret = aquifer_protocol::identity::digest("authority", &[region.as_bytes()]);
    let authority = Keys::from_secret(&secret);
    let hive = HiveId(root.public());
    let grant = |subject: NodeId, may_issue| Grant {
        hive,
        subject,
        region: region.parse().ok(),
        topics: None,
        roles: role::ALL,
        may_issue,
        not_before: 0,
        not_after: u64::MAX,
        serial: 1,
    };
    let mut leaf = grant(keys.node(), false);
    edit(&mut leaf);
    let top = Chain::rooted(root, grant(authority.node(), true));
    top.extended(&authority, leaf)
        .check(&hive)
        .expect("a good chain")
}

pub(crate) fn name(topic: &str) -> TopicName {
    topic.parse().expect("a legal name")
}

/// Open to every member, resting only in `regions`.
pub(crate) fn within(regions: &[&str]) -> Policy {
    let parsed = regions.iter().map(|r| r.parse().expect("a legal region"));
    Policy::within(aquifer_protocol::Regions::only(parsed))
}

impl Default for Hive {
    fn default() -> Self {
        Self {
            root: Keys::from_secret(&[1; 32]),
            now: Time::from_millis(1_790_000_000_000),
            nodes: Vec::new(),
            carried: Traffic::default(),
            as_frames: true,
            links: BTreeSet::new(),
            commands: 0,
        }
    }
}

/// Building and tying.
impl Hive {
    /// A hive of nodes in `regions`, every one connected to every other, `topic` founded by the first.
    pub(crate) fn of(regions: &[&str], topic: &str, policy: Policy) -> Self {
        let mut hive = Self::default();
        for region in regions {
            hive.adds(region);
        }
        hive.founds(0, topic, policy);
        for a in 0..regions.len() {
            for b in a + 1..regions.len() {
                hive.connects(a, b);
            }
        }
        hive.rounds(2);
        hive
    }

    pub(crate) fn id(&self) -> HiveId {
        HiveId(self.root.public())
    }

    pub(crate) fn topic(&self, topic: &str) -> TopicId {
        name(topic).id(&self.id())
    }

    pub(crate) fn adds(&mut self, region: &str) -> Index {
        self.adds_with(region, |_| {})
    }

    pub(crate) fn adds_with(&mut self, region: &str, edit: impl Fn(&mut Grant)) -> Index {
        let i = self.puppet_with(region, edit);
        self.starts(i, MemStore::default(), i as u64);
        i
    }

    /// A member without a replica.
    pub(crate) fn puppet(&mut self, region: &str) -> Index {
        self.puppet_with(region, |_| {})
    }

    pub(crate) fn puppet_with(&mut self, region: &str, edit: impl Fn(&mut Grant)) -> Index {
        let secret = aquifer_protocol::identity::digest("node", &[&[self.nodes.len() as u8]]);
        let keys = Keys::from_secret(&secret);
        let member = certify(&self.root, &keys, region, edit);
        self.nodes.push(Node {
            keys,
            member,
            events: Vec::new(),
            heard: Vec::new(),
            ahead: Duration::ZERO,
            replica: None,
            replies: BTreeMap::new(),
            inbox: VecDeque::new(),
            seen: BTreeSet::new(),
            tickets: BTreeMap::new(),
        });
        self.nodes.len() - 1
    }

    /// A second machine with the keys and a copy of the store of `of`.
    pub(crate) fn clones(&mut self, of: Index) -> Index {
        let (keys, member) = (self.nodes[of].keys.clone(), self.nodes[of].member.clone());
        let store = self.replica(of).store().clone();
        let i = self.puppet("eu");
        (self.nodes[i].keys, self.nodes[i].member) = (keys, member);
        self.starts(i, store, 1_000 + i as u64);
        i
    }

    pub(crate) fn starts(&mut self, i: Index, store: MemStore, seed: u64) {
        self.starts_on(i, store, seed, true);
    }

    /// Starts it on a store that gives freed bytes back, or does not.
    pub(crate) fn starts_on(&mut self, i: Index, store: MemStore, seed: u64, erases: bool) {
        let node = &self.nodes[i];
        let settings = Settings {
            hive: self.id(),
            member: Some(node.member.clone()),
            erases,
        };
        let seed = Seed::from_number(seed);
        let replica = Replica::open(node.keys.clone(), settings, store, seed, self.time(i))
            .expect("a store of this node");
        let manifest = self.manifest(i);
        self.nodes[i].replica = Some(replica);
        self.commands(i, Command::Announce { manifest });
    }

    /// Stops a node; what it committed is all that is left.
    pub(crate) fn stops(&mut self, i: Index) -> MemStore {
        for j in self.neighbours(i) {
            self.disconnects(i, j);
        }
        self.nodes[i].inbox.clear();
        self.nodes[i].replica.take().expect("it runs").into_store()
    }

    /// Stops a node, changes its store, and starts it again where it was connected.
    pub(crate) fn restarts(&mut self, i: Index, change: impl FnOnce(&mut MemStore)) {
        let neighbours = self.neighbours(i);
        let mut store = self.stops(i);
        change(&mut store);
        self.starts(i, store, 2_000 + i as u64);
        for j in neighbours {
            self.connects(i, j);
        }
    }

    pub(crate) fn manifest(&self, i: Index) -> Manifest {
        Manifest {
            chain: self.nodes[i].member.chain().to_vec().into(),
            addresses: vec!["/ip4/127.0.0.1/udp/1/quic-v1".into()],
            agent: "aquifer/test".into(),
            storage_bytes: 0,
            gpu_bytes: 0,
            models: Vec::new(),
            up_since: 0,
        }
    }

    pub(crate) fn connects(&mut self, a: Index, b: Index) {
        self.links.insert((a.min(b), a.max(b)));
        for (at, other) in [(a, b), (b, a)] {
            let member = self.nodes[other].member.clone();
            self.beats(at, vec![Input::PeerUp { member }]);
        }
        self.settles();
    }

    pub(crate) fn disconnects(&mut self, a: Index, b: Index) {
        self.links.remove(&(a.min(b), a.max(b)));
        for (at, other) in [(a, b), (b, a)] {
            let peer = self.nodes[other].keys.node();
            self.beats(at, vec![Input::PeerDown { peer }]);
        }
        self.settles();
    }

    fn neighbours(&self, i: Index) -> Vec<Index> {
        let other = |(a, b): &(Index, Index)| match i {
            i if i == *a => Some(*b),
            i if i == *b => Some(*a),
            _ => None,
        };
        self.links.iter().filter_map(other).collect()
    }
}

/// Running.
impl Hive {
    fn time(&self, i: Index) -> Time {
        self.now + self.nodes[i].ahead
    }

    /// One beat of a node: handle, commit, let go.
    pub(crate) fn beats(&mut self, i: Index, inputs: Vec<Input>) {
        let now = self.time(i);
        let Some(mut replica) = self.nodes[i].replica.take() else {
            return;
        };
        for input in inputs {
            replica.handle(now, input);
        }
        replica.commit().expect("memory does not fail");
        while let Some(output) = replica.poll_output() {
            match output {
                Output::Send { to, message } => self.carries(i, to, message),
                Output::Publish { mesh, message, .. } => {
                    // As gossipsub does: what was heard or said before is not said again.
                    if self.nodes[i].seen.insert(heard(&mesh, &message)) {
                        self.passes_on(i, None, &mesh, &message);
                    }
                }
                Output::Verdict { ticket, verdict } => self.judges(i, ticket, verdict),
                Output::Reply { to, reply } => {
                    self.nodes[i].replies.insert(to, reply);
                }
                Output::Event(event) => self.nodes[i].events.push(event),
            }
        }
        self.nodes[i].replica = Some(replica);
    }

    fn carries(&mut self, from: Index, to: NodeId, message: Message) {
        let there = self.neighbours(from);
        if let Some(j) = there.into_iter().find(|j| self.nodes[*j].keys.node() == to) {
            self.carried.note(&message);
            let from = self.nodes[from].keys.node();
            self.nodes[j]
                .inbox
                .push_back((from, Said::Plainly(message)));
        }
    }

    /// A mesh with every link in it: who has not heard a message yet hears it.
    fn passes_on(&mut self, i: Index, source: Option<NodeId>, mesh: &Region, message: &Message) {
        for j in self.neighbours(i) {
            let node = &self.nodes[j];
            let both = aquifer_protocol::mesh::shared(&self.nodes[i].member, &node.member);
            if both.contains(mesh) && source != Some(node.keys.node()) {
                self.carried.gossip += 1;
                let said = Said::InMesh(mesh.clone(), message.clone());
                let from = self.nodes[i].keys.node();
                self.nodes[j].inbox.push_back((from, said));
            }
        }
    }

    fn judges(&mut self, i: Index, ticket: Ticket, verdict: Verdict) {
        let judged = self.nodes[i].tickets.remove(&ticket);
        let (source, mesh, message) = judged.expect("each message is judged once");
        if verdict == Verdict::Accept {
            self.passes_on(i, Some(source), &mesh, &message);
        }
    }

    /// Carries messages until no node has anything more to say.
    pub(crate) fn settles(&mut self) {
        for _ in 0..TURNS_MAX {
            if self.nodes.iter().all(|node| node.inbox.is_empty()) {
                return;
            }
            for i in 0..self.nodes.len() {
                let inbox = core::mem::take(&mut self.nodes[i].inbox);
                if self.nodes[i].replica.is_none() {
                    let heard = inbox.into_iter().map(|(_, said)| match said {
                        Said::Plainly(message) | Said::InMesh(_, message) => message,
                    });
                    self.nodes[i].heard.extend(heard);
                    continue;
                }
                let mut inputs = Vec::new();
                for (from, said) in inbox {
                    inputs.extend(self.input(i, from, said));
                }
                if !inputs.is_empty() {
                    self.beats(i, inputs);
                }
            }
        }
        panic!("the hive never settles: {:?}", self.carried);
    }

    fn input(&mut self, i: Index, from: NodeId, said: Said) -> Option<Input> {
        Some(match said {
            Said::Plainly(message) if self.as_frames => Input::Frame {
                from,
                bytes: message.to_bytes().into(),
            },
            Said::Plainly(message) => Input::Message { from, message },
            Said::InMesh(mesh, message) => {
                let bytes = message.to_bytes();
                assert_eq!(bytes.len(), message.encoded_len());
                let node = &mut self.nodes[i];
                if !node.seen.insert(heard(&mesh, &message)) {
                    return None;
                }
                let ticket = Ticket(node.seen.len() as u64);
                let waiting = (from, mesh.clone(), message);
                node.tickets.insert(ticket, waiting);
                Input::Gossip {
                    mesh,
                    from,
                    ticket,
                    bytes: bytes.into(),
                }
            }
        })
    }

    pub(crate) fn passes(&mut self, time: Duration) {
        self.now = self.now + time;
        for i in 0..self.nodes.len() {
            self.beats(i, vec![Input::Tick]);
        }
        self.settles();
    }

    /// So many rounds of sync between all that are connected.
    pub(crate) fn rounds(&mut self, count: usize) {
        for _ in 0..count {
            self.passes(ROUND);
        }
    }

    /// A puppet (or a node, lying) says something to a node.
    pub(crate) fn says(&mut self, from: Index, to: Index, message: Message) {
        let from = self.nodes[from].keys.node();
        let said = Said::Plainly(message);
        self.nodes[to].inbox.push_back((from, said));
        self.settles();
    }

    /// A puppet (or a node, lying) says something in a mesh, to one node.
    pub(crate) fn gossips(&mut self, from: Index, to: Index, mesh: &str, message: Message) {
        let from = self.nodes[from].keys.node();
        let said = Said::InMesh(mesh.parse().expect("a legal region"), message);
        self.nodes[to].inbox.push_back((from, said));
        self.settles();
    }

    /// The same in raw bytes.
    pub(crate) fn sends_bytes(&mut self, from: Index, to: Index, bytes: Vec<u8>) {
        let from = self.nodes[from].keys.node();
        self.beats(
            to,
            vec![Input::Frame {
                from,
                bytes: bytes.into(),
            }],
        );
        self.settles();
    }
}

fn heard(mesh: &Region, message: &Message) -> Vec<u8> {
    [mesh.as_str().as_bytes(), &message.to_bytes()].concat()
}

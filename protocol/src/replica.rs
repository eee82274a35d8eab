//! The replica: one node's whole protocol, as a value.
//!
//! This file is the router: it owns the parts, hands each input to the part that knows it, and keeps
//! the beat. The parts: `write` commands become records, `accept` what makes a record good, `fork`
//! what becomes of a log whose writer lied, `converse` what is said to peers, `spread` what leaves by
//! itself, `pace` how often, `gossip` what is heard in a mesh, `durability` who waits for receipts, `owing` who gets
//! them, `scrub` what the disk does, `upkeep` what time does.
//!
//! Not here: sockets, clocks, disks (the drivers), reading and searching (they go beside it).

mod accept;
mod converse;
mod durability;
mod fork;
mod gossip;
mod owing;
mod pace;
mod scrub;
mod spread;
mod upkeep;
mod write;

use crate::certificate::Member;
use crate::decide::{Denial, Op, Subject, decide, keepable};
use crate::event::{Command, CommandId, Event, Input, Output, Reply, Verdict};
use crate::identity::{HiveId, Keys, NodeId, Rng, Seed};
use crate::law::Law;
use crate::log::{LogKey, Logs};
use crate::placement;
use crate::record::{LogId, Record, Seq};
use crate::store::{Staged, Store, StoreFailure, Table};
use crate::time::{Stamp, Time};
use crate::topic::{TopicId, TopicName};
use crate::wire::Message;
use converse::Peer;
use durability::Awaiting;
use rand_chacha::rand_core::Rng as _;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use upkeep::Deadlines;

pub use upkeep::Wake;

/// The version of the disk format. A store of another version is not opened.
pub const SCHEMA: u32 = 1;

/// What a replica must be told when it is opened.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The hive's root.
    pub hive: HiveId,
    /// This node's certificate; without one it holds the hive's topic only and writes nothing.
    pub member: Option<Member>,
    /// Whether the store gives freed bytes back, so that what is erased leaves the disk. A node whose
    /// store does not holds no topic that restricts where its data may be.
    pub erases: bool,
}

impl Settings {
    /// For a node of `hive` that has no certificate yet, on a store that gives freed bytes back.
    pub fn new(hive: HiveId) -> Self {
        Self {
            hive,
            member: None,
            erases: true,
        }
    }
}

/// Why a replica could not be opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenReplica {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreFailure),
    /// The store was written by another version.
    #[error("the store has schema {found}; this version reads schema {SCHEMA}")]
    Schema {
        /// Its schema.
        found: u32,
    },
    /// The store belongs to another hive or node.
    #[error("the store belongs to another node or hive")]
    WrongOwner,
}

/// One node's whole protocol. See the [crate's front page](crate) for the beat.
#[derive(Debug)]
pub struct Replica<S> {
    keys: Keys,
    me: Option<Member>,
    /// Whether the store gives freed bytes back.
    erases: bool,
    /// Whether the disk has no room: only what the law and erasure are made of is written.
    full: bool,
    hive_topic: TopicId,
    now: Time,
    rng: Rng,
    store: Staged<S>,
    logs: Logs,
    law: Law,
    /// The log we write to, in every topic.
    own: LogId,
    clock: Stamp,
    peers: BTreeMap<NodeId, Peer>,
    summaries: BTreeMap<TopicId, ([u8; 16], u32)>,
    /// Topics coded for talks under way.
    codings: converse::Codings,
    /// Logs from which records are on their way, so that no second peer is asked for the same.
    wanted: BTreeMap<LogKey, converse::Wanted>,
    /// Records whose body is missing or corrupt here.
    repairs: BTreeSet<(LogKey, Seq)>,
    /// How far the scrub has come.
    scrubbed: Option<(LogKey, Seq)>,
    parked: Vec<(Time, NodeId, Record)>,
    /// Peers that said they have more of our own log than we do, and have not proved it yet.
    doubted: BTreeSet<NodeId>,
    awaiting: Awaiting,
    owing: owing::Owing,
    /// When own news may leave.
    pace: pace::Pace,
    /// Announcements of a mesh whose records are on their way.
    held: Vec<gossip::Held>,
    /// Logs that the first bridge carries, for the second to see to.
    overseen: BTreeSet<LogKey>,
    beat: Beat,
    deadlines: Deadlines,
    ready: VecDeque<Output>,
}

/// What this beat has decided and the commit will let go.
#[derive(Debug, Default)]
struct Beat {
    out: Vec<Output>,
    /// Our own new records, to push.
    fresh: BTreeMap<TopicId, Vec<Record>>,
    /// Logs that grew by others' records: to pass on.
    grown: BTreeMap<LogKey, Grown>,
    /// Topics that a law of this beat forbids here, unless a later one of it does not.
    denied: BTreeSet<TopicId>,
}

/// How a log grew in this beat.
#[derive(Debug)]
struct Grown {
    /// Who sent the last of it.
    from: NodeId,
    /// Whether it came in the mesh, which passes it on by itself.
    by_mesh: bool,
    /// What was appended, in order.
    records: Vec<Record>,
}

impl<S: Store> Replica<S> {
    /// Opens a replica over its store: reads where its logs stand and folds the law.
    pub fn open(
        keys: Keys,
        settings: Settings,
        store: S,
        seed: Seed,
        now: Time,
    ) -> Result<Self, OpenReplica> {
        let mut rng = seed.child("replica");
        let mut store = Staged::new(store);
        let owner = [&keys.public()[..], &settings.hive.0[..]].concat();
        match store.store().get(Table::Meta, b"schema")? {
            Some(found) => {
                let found = found.as_ref().try_into().map_or(0, u32::from_be_bytes);
                if found != SCHEMA {
                    return Err(OpenReplica::Schema { found });
                }
                if store
                    .store()
                    .get(Table::Meta, b"owner")?
                    .is_some_and(|o| o != owner)
                {
                    return Err(OpenReplica::WrongOwner);
                }
            }
            None => store.put(Table::Meta, &b"schema"[..], SCHEMA.to_be_bytes().to_vec()),
        }
        if store.store().get(Table::Meta, b"owner")?.is_none() {
            store.put(Table::Meta, &b"owner"[..], owner);
        }
        let own = match store
            .store()
            .get(Table::Meta, b"log")?
            .as_deref()
            .map(<[u8; 8]>::try_from)
        {
            Some(Ok(own)) => LogId(u64::from_be_bytes(own)),
            _ => draw_log(&mut store, &mut rng),
        };
        let logs = Logs::load(store.store())?;
        let mut law = Law::new(settings.hive);
        if let Some(member) = &settings.member {
            law.admit(member);
        }
        let mut replica = Self {
            hive_topic: TopicName::hive().id(&settings.hive),
            clock: Stamp::ZERO,
            deadlines: Deadlines::starting(now),
            me: settings.member,
            erases: settings.erases,
            full: false,
            keys,
            now,
            rng,
            store,
            logs,
            law,
            own,
            peers: BTreeMap::new(),
            summaries: BTreeMap::new(),
            codings: converse::Codings::default(),
            wanted: BTreeMap::new(),
            repairs: BTreeSet::new(),
            scrubbed: None,
            parked: Vec::new(),
            doubted: BTreeSet::new(),
            awaiting: Awaiting::default(),
            owing: owing::Owing::default(),
            pace: pace::Pace::default(),
            held: Vec::new(),
            overseen: BTreeSet::new(),
            beat: Beat::default(),
            ready: VecDeque::new(),
        };
        replica.fold_law()?;
        replica.wind_clock();
        Ok(replica)
    }

    /// Takes one input. Infallible: bad remote input becomes an [`Event`], never an error and never
    /// a panic.
    ///
    /// # Panics
    /// If `now` is before the last input's.
    pub fn handle(&mut self, now: Time, input: Input) {
        assert!(
            now >= self.now,
            "drivers must feed time that never decreases"
        );
        self.now = now;
        match input {
            Input::Tick => self.on_deadlines(),
            Input::PeerUp { member } => self.on_peer_up(member),
            Input::PeerDown { peer } => self.on_peer_down(peer),
            Input::Frame { from, bytes } => match Message::open(&bytes) {
                Ok(message) => self.on_message(from, message),
                Err(why) => self.event(Event::BadFrame { from, why }),
            },
            Input::Message { from, message } => self.on_message(from, message),
            Input::Gossip {
                mesh,
                from,
                ticket,
                bytes,
            } => match Message::open(&bytes) {
                Ok(message) => self.on_gossip(&mesh, from, ticket, message),
                Err(why) => {
                    self.event(Event::BadFrame { from, why });
                    self.beat.out.push(Output::Verdict {
                        ticket,
                        verdict: Verdict::Reject,
                    });
                }
            },
            Input::GossipMessage {
                mesh,
                from,
                ticket,
                message,
            } => self.on_gossip(&mesh, from, ticket, message),
            Input::Distance { peer, rtt } => self.on_distance(peer, rtt),
            Input::Command { id, command } => self.on_command(id, command),
            Input::Room { full } => self.on_room(full),
            Input::Commits { take } => self.pace.commits(take),
        }
    }

    /// Makes everything decided since the last commit durable, and lets it go. A failure is fatal:
    /// the driver must stop and open the store anew.
    pub fn commit(&mut self) -> Result<(), StoreFailure> {
        #[cfg(mutant)]
        if crate::mutant::planted(crate::mutant::Mutant::AckBeforeFsync) {
            return self.let_go_early();
        }
        self.obey();
        self.judge_again();
        self.store.flush()?;
        self.let_go();
        Ok(())
    }

    /// The next thing to do, if any.
    ///
    /// # Panics
    /// If inputs were handled and not committed.
    pub fn poll_output(&mut self) -> Option<Output> {
        #[cfg(not(mutant))]
        assert!(
            self.store.is_clean(),
            "commit before polling: nothing leaves before it is durable"
        );
        self.ready.pop_front()
    }

    /// When to hand in [`Input::Tick`] next, and what for.
    pub fn next_deadline(&self) -> Option<(Time, Wake)> {
        let parked = self
            .parked
            .iter()
            .map(|(until, ..)| (*until, Wake::Parked))
            .min();
        let waiting = self
            .awaiting
            .next_deadline()
            .map(|at| (at, Wake::Durability));
        let held = self.held.iter().map(|held| (held.until, Wake::Gossip));
        self.deadlines
            .next()
            .into_iter()
            .chain(parked)
            .chain(waiting)
            .chain(held.min())
            .chain(self.pace.next_deadline().map(|at| (at, Wake::Spread)))
            .min()
    }

    /// The law as this node knows it.
    pub fn law(&self) -> &Law {
        &self.law
    }

    /// Where this node's logs stand.
    pub fn logs(&self) -> &Logs {
        &self.logs
    }

    /// The store, as of the last commit.
    pub fn store(&self) -> &S {
        self.store.store()
    }

    /// Ends the replica and gives its store back.
    pub fn into_store(self) -> S {
        self.store.into_store()
    }

    /// This node.
    pub fn node(&self) -> NodeId {
        self.keys.node()
    }

    /// This node's certificate, if it has one.
    pub fn member(&self) -> Option<&Member> {
        self.me.as_ref()
    }

    /// Peers that are up.
    pub fn peers(&self) -> impl Iterator<Item = &Member> {
        self.peers.values().map(|peer| &peer.member)
    }

    /// The hash of where all logs of `topic` stand, and how many there are: equal on two nodes if
    /// and only if they hold the same records.
    pub fn summary(&mut self, topic: TopicId) -> ([u8; 16], u32) {
        let logs = &self.logs;
        *self
            .summaries
            .entry(topic)
            .or_insert_with(|| crate::sync::summary(logs, topic))
    }

    /// Whether this node may hold `topic`.
    pub fn may_hold(&self, topic: TopicId) -> Result<(), Denial> {
        let label = self.law.label(topic)?;
        let Some(member) = &self.me else {
            // The hive's own topic must reach a newcomer before it has a certificate.
            let newcomer = Denial::UnknownMember {
                node: self.keys.node(),
            };
            return if topic == self.hive_topic {
                Ok(())
            } else {
                Err(newcomer)
            };
        };
        // What it holds by right it may go on holding and reading when its certificate lapses
        // offline; writing and serving are judged at their own time.
        let grant = member.grant();
        let at = Time::from_millis(self.now.millis().clamp(grant.not_before, grant.not_after));
        decide(Op::Store, label, Subject { member, at }, label.epoch)?;
        keepable(label, self.erases)
    }

    /// Whether this node is to hold `topic`: it may, and placement names it or it has some of it.
    pub fn is_holder(&self, topic: TopicId) -> bool {
        let placed = || self.places(topic, self.keys.node());
        // Whoever writes to a topic, or was named before, keeps what it has and keeps it current:
        // erasures must reach every copy.
        self.may_hold(topic).is_ok() && (placed() || self.logs.of_topic(topic).next().is_some())
    }

    fn places(&self, topic: TopicId, node: NodeId) -> bool {
        let Ok(label) = self.law.label(topic) else {
            return false;
        };
        label.policy.copies.is_none() || self.holders(topic).contains(&node)
    }

    /// The members that are to hold `topic`, as far as this node knows.
    pub fn holders(&self, topic: TopicId) -> Vec<NodeId> {
        let Ok(label) = self.law.label(topic) else {
            return Vec::new();
        };
        placement::holders(
            topic,
            label,
            self.law.members().map(|(_, k)| &k.member),
            self.now,
        )
    }

    fn on_command(&mut self, id: CommandId, command: Command) {
        let done = match command {
            Command::Write {
                topic,
                author,
                bodies,
                durability,
            } => self.write(id, &topic, author, &bodies, durability),
            Command::Erase {
                ids,
                author,
                durability,
            } => self.erase(id, &ids, author, durability),
            Command::Govern {
                topic,
                policy,
                expect,
            } => self.govern(&topic, policy, expect).map(Some),
            Command::Refresh { topic } => Ok(Some(self.refresh(&topic))),
            Command::Announce { manifest } => self.announce(manifest).map(Some),
        };
        // `None` waits for receipts.
        if let Some(reply) = done.unwrap_or_else(|refusal| Some(Reply::Refused(refusal))) {
            self.beat.out.push(Output::Reply { to: id, reply });
        }
    }

    fn event(&mut self, event: Event) {
        self.beat.out.push(Output::Event(event));
    }

    fn send(&mut self, to: NodeId, message: Message) {
        self.beat.out.push(Output::Send { to, message });
    }

    fn let_go(&mut self) {
        self.spread();
        self.ready.extend(self.beat.out.drain(..));
    }

    #[cfg(mutant)]
    fn let_go_early(&mut self) -> Result<(), StoreFailure> {
        self.let_go();
        // The transaction of this beat becomes durable only now and then.
        if self.rng.next_u32().is_multiple_of(8) {
            self.store.flush()
        } else {
            Ok(())
        }
    }
}

fn draw_log<S: Store>(store: &mut Staged<S>, rng: &mut Rng) -> LogId {
    let log = rng.next_u64();
    store.put(Table::Meta, &b"log"[..], log.to_be_bytes().to_vec());
    LogId(log)
}

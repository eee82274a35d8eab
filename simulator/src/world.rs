//! The world: replicas, disks, links and the agents who use them, driven from one queue.
//!
//! One beat is: pop, handle, maybe crash, commit, route. The world keeps the driver's contract of the
//! core to the letter, because the node's driver must keep the same one. A run is a storm, in which
//! things go wrong and safety is checked after every beat; then everything heals, and the world is
//! given time to become well again; then what must hold at the end is checked.
//!
//! Not here: what goes wrong (`mishaps`), who wants what (`workload`), who lies (`traitor`), what
//! becomes of outputs (`observe`, `gossip`), what must hold (`check`).

mod gossip;
mod mishaps;
pub mod node;
mod observe;
mod traitor;
mod workload;

use crate::chance::Dice;
use crate::check::{self, Violation};
use crate::disk::Ending;
use crate::engine::{Engine, Happening, Index, Mishap};
use crate::ledger::Ledger;
use crate::network::{Network, Packet};
use crate::report::Report;
use crate::scenario::Scenario;
use aquifer_protocol::limits::INPUTS_PER_BEAT;
use aquifer_protocol::{HiveId, Input, Message, NodeId, Seed, Time, TopicId, TopicName};
use core::time::Duration;
use node::Node;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// When every world begins.
pub const START: Time = Time::from_millis(1_790_000_000_000);
/// A run that takes more happenings than this for each node has run away (I6).
const HAPPENINGS_PER_NODE: u64 = 20_000;
/// How often the world is asked whether all is well, once it has healed.
const ASK_EVERY: Duration = Duration::from_secs(5);

/// Takes each line of a trace.
pub type Trace = Box<dyn FnMut(&str)>;

/// Everything that is simulated.
pub struct World {
    /// What was decided beforehand.
    pub scenario: Scenario,
    /// The nodes.
    pub nodes: Vec<Node>,
    /// What is known of every write.
    pub ledger: Ledger,
    /// What happened so far.
    pub report: Report,
    pub(crate) evidence: check::Evidence,
    pub(crate) hive: HiveId,
    pub(crate) names: BTreeMap<TopicId, TopicName>,
    pub(crate) numbers: BTreeMap<NodeId, Index>,
    engine: Engine,
    network: Network,
    seed: Seed,
    chaos: Dice,
    agents: Dice,
    lies: Dice,
    dialing: BTreeSet<(Index, Index)>,
    /// What traitors have heard lately.
    heard: VecDeque<Message>,
    stormy: bool,
    next_command: u64,
    hasher: blake3::Hasher,
    trace: Option<Trace>,
}

impl World {
    /// The world as the scenario has it, just before the first beat.
    pub fn new(scenario: Scenario) -> Self {
        let seed = Seed::from_number(scenario.seed);
        let (hive, nodes) = node::found(&scenario, &seed);
        let regions = scenario
            .sites
            .iter()
            .map(|site| site.region.clone())
            .collect();
        let numbers = nodes
            .iter()
            .enumerate()
            .map(|(i, node)| (node.keys.node(), i))
            .collect();
        let mut names = BTreeMap::from([(TopicName::hive().id(&hive), TopicName::hive())]);
        names.extend(
            scenario
                .changes
                .iter()
                .map(|c| (c.topic.id(&hive), c.topic.clone())),
        );
        let report = Report {
            seed: scenario.seed,
            replicas: nodes.len(),
            calm: scenario.rates == Default::default(),
            ..Report::default()
        };
        let mut world = Self {
            network: Network::new(regions, scenario.rates, Dice::new(&seed, "network")),
            chaos: Dice::new(&seed, "chaos"),
            agents: Dice::new(&seed, "agents"),
            lies: Dice::new(&seed, "lies"),
            engine: Engine::starting(START),
            ledger: Ledger::default(),
            evidence: check::Evidence::default(),
            dialing: BTreeSet::new(),
            heard: VecDeque::new(),
            stormy: false,
            next_command: 0,
            hasher: blake3::Hasher::new(),
            trace: None,
            scenario,
            nodes,
            report,
            hive,
            names,
            numbers,
            seed,
        };
        for node in 0..world.nodes.len() {
            world.start(node);
        }
        for change in 0..world.scenario.changes.len() {
            let at = START + Duration::from_secs(1) + world.scenario.changes[change].at;
            world.engine.plan(at, Happening::Govern { change });
        }
        world
    }

    /// Hands every line of the run to `trace`.
    pub fn traced(&mut self, trace: Trace) {
        self.trace = Some(trace);
    }

    /// The whole run: storm, healing, and what must hold at the end.
    pub fn run(&mut self) {
        self.storm();
        self.heal();
        if self.settle() {
            self.outlast();
            self.finish();
        }
        self.close();
    }

    /// Checks what must hold at the end, once the world has settled.
    pub fn finish(&mut self) {
        check::finish(self);
    }

    /// Lets things go wrong for as long as the scenario says.
    pub fn storm(&mut self) {
        // A short peace first, in which nodes meet and most topics are founded.
        self.run_for(Duration::from_secs(2));
        self.stormy = true;
        let (storm, rates) = (self.scenario.storm, self.scenario.rates);
        let millis = storm.as_millis() as u64;
        let mut plan = |dice: &mut Dice, count: u32, happening: Happening| {
            for _ in 0..count {
                self.engine
                    .plan_in(dice.millis(0, millis), happening.clone());
            }
        };
        plan(
            &mut self.agents,
            self.scenario.operations,
            Happening::Operate,
        );
        let traitors = self
            .scenario
            .sites
            .iter()
            .filter(|site| site.traitor)
            .count() as u32;
        for (count, mishap) in [
            (rates.partitions, Mishap::Partition),
            (rates.one_way, Mishap::OneWay),
            (rates.clogs, Mishap::Clog),
            (rates.rots, Mishap::Rot),
            (rates.attacks * traitors, Mishap::Attack),
        ] {
            plan(&mut self.chaos, count, Happening::Mishap(mishap));
        }
        self.run_for(storm);
    }

    /// Nothing goes wrong any more: all nodes come up, all links too.
    pub fn heal(&mut self) {
        self.line(|| "-- heal".to_owned());
        self.stormy = false;
        self.network.heal();
        for node in 0..self.nodes.len() {
            if self.nodes[node].replica.is_none() {
                self.start(node);
            }
        }
        self.redial();
    }

    /// Runs until all is well, or patience ends: then that is a violation. True if all is well.
    pub fn settle(&mut self) -> bool {
        let healed = self.engine.now();
        let patience = self.scenario.patience;
        let mut last = Vec::new();
        while self.engine.now().since(healed) < patience && self.report.violations.is_empty() {
            self.run_for(ASK_EVERY);
            last = check::unsettled(self);
            if last.is_empty() {
                let took = self.engine.now().since(healed);
                self.report.settled_ms = Some(took.as_millis() as u64);
                return true;
            }
        }
        if self.report.violations.is_empty() {
            self.report.violations.append(&mut last);
        }
        false
    }

    /// Where bodies are kept for a time only, so long that some of them must be gone.
    fn outlast(&mut self) {
        let changes = self.scenario.changes.iter();
        if changes
            .filter_map(|change| change.rule.retention)
            .next()
            .is_some()
        {
            self.run_for(check::RETENTION_GRACE);
        }
    }

    /// Runs for a while.
    pub fn run_for(&mut self, duration: Duration) {
        self.run_until(self.engine.now() + duration);
    }

    /// The only loop: what happens, one after the other, until `until`.
    pub fn run_until(&mut self, until: Time) {
        while let Some(happening) = self.engine.pop(until) {
            self.report.happenings += 1;
            if self.report.happenings > HAPPENINGS_PER_NODE * (self.nodes.len() as u64 + 1) {
                let what = "messages breed messages: the run never ends".to_owned();
                self.report
                    .violations
                    .retain(|known| !matches!(known, Violation::Stuck { .. }));
                return self.violate(Violation::Stuck { what });
            }
            if !self.report.violations.is_empty() && self.stormy {
                return;
            }
            self.happen(happening);
        }
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Arrive {
                from,
                to,
                epoch,
                packet,
            } => self.arrive(from, to, epoch, packet),
            Happening::Beat { node, life } => self.beat(node, life),
            Happening::Wake { node, life } => self.wake(node, life),
            Happening::Notice { node, peer, epoch } => self.notice(node, peer, epoch),
            Happening::Dial { a, b } => self.dial(a, b),
            Happening::Break { a, b } => self.sever(a, b),
            Happening::Restart { node } => {
                if self.nodes[node].replica.is_none() {
                    self.start(node);
                }
            }
            Happening::Operate => self.operate(),
            Happening::Govern { change } => self.govern(change),
            Happening::Mishap(mishap) if self.stormy => self.mishap(mishap),
            Happening::Mishap(_) => {}
        }
    }

    fn arrive(&mut self, from: Index, to: Index, epoch: u64, packet: Packet) {
        if !self.network.is_current(from, to, epoch) {
            return;
        }
        let from_id = self.nodes[from].keys.node();
        let input = match packet {
            Packet::Message(message) => {
                if self.scenario.sites[to].traitor {
                    self.overhear(&message);
                }
                Input::Message {
                    from: from_id,
                    message,
                }
            }
            Packet::Frame(bytes) => Input::Frame {
                from: from_id,
                bytes,
            },
            Packet::Gossip(mesh, message) => {
                if self.scenario.sites[to].traitor {
                    self.overhear(&message);
                }
                return self.overhears(from, to, mesh, message);
            }
        };
        self.input(to, input);
    }

    /// Puts an input into a node's inbox, and sees to it that a beat takes it out.
    pub(crate) fn input(&mut self, node: Index, input: Input) {
        let now = self.engine.now();
        let it = &mut self.nodes[node];
        if it.replica.is_none() {
            return;
        }
        it.inbox.push_back(input);
        if !it.beat_planned {
            it.beat_planned = true;
            let (at, life) = (now.max(it.busy_until), it.life);
            self.engine.plan(at, Happening::Beat { node, life });
        }
    }

    fn wake(&mut self, node: Index, life: u64) {
        let now = self.engine.now();
        let it = &mut self.nodes[node];
        if it.life == life && it.wake_at == Some(now) {
            it.wake_at = None;
            self.input(node, Input::Tick);
        }
    }

    fn beat(&mut self, node: Index, life: u64) {
        let now = self.engine.now();
        let local = self.clock(node);
        let drawn = self.draw_ending();
        let it = &mut self.nodes[node];
        let ending = it.doom.take().or(drawn);
        let Some(replica) = it.replica.as_mut().filter(|_| it.life == life) else {
            return;
        };
        it.beat_planned = false;
        for input in it.inbox.drain(..INPUTS_PER_BEAT.min(it.inbox.len())) {
            replica.handle(local, input);
        }
        if let Some(ending) = ending {
            it.disk.arm(ending);
        }
        let committed = replica.commit();
        let unspent = it.disk.disarm();
        if committed.is_err() || unspent.is_some_and(|ending| ending != Ending::Refused) {
            let Some(ending) = ending else {
                let what = format!("node {node}: a commit failed on a good disk: {committed:?}");
                return self.violate(Violation::Panicked { what });
            };
            // With nothing to commit there is nothing that could have become durable.
            let ending = if unspent.is_some() {
                Ending::CutBefore
            } else {
                ending
            };
            return self.crash(node, ending);
        }
        let mut outputs = Vec::new();
        while let Some(output) = replica.poll_output() {
            outputs.push(output);
        }
        let synced = Duration::from_micros(self.chaos.between(50, it.site.sync_micros.max(50)));
        it.busy_until = now + synced;
        if !it.inbox.is_empty() {
            it.beat_planned = true;
            self.engine
                .plan(it.busy_until, Happening::Beat { node, life });
        }
        self.plan_wake(node);
        let departs = self.nodes[node].busy_until;
        self.observe(node, departs, outputs);
        check::after_beat(self, node);
    }

    fn plan_wake(&mut self, node: Index) {
        let now = self.engine.now();
        let it = &mut self.nodes[node];
        let Some((deadline, _)) = it.replica.as_ref().and_then(|r| r.next_deadline()) else {
            return;
        };
        let local = node::shift(now, it.site.skew_ms);
        // A deadline that is past is due at once, but time must move on between two beats.
        let wait = deadline.since(local).max(Duration::from_millis(1));
        let at = now + wait;
        if it.wake_at.is_none_or(|planned| at < planned) {
            it.wake_at = Some(at);
            self.engine.plan(
                at,
                Happening::Wake {
                    node,
                    life: it.life,
                },
            );
        }
    }

    /// What a node's clock shows.
    pub fn clock(&self, node: Index) -> Time {
        node::shift(self.engine.now(), self.nodes[node].site.skew_ms)
    }

    /// The world's own time.
    pub fn now(&self) -> Time {
        self.engine.now()
    }

    /// The nodes that do not lie.
    pub fn honest(&self) -> impl Iterator<Item = Index> + use<> {
        let honest: Vec<Index> = (0..self.nodes.len())
            .filter(|i| !self.scenario.sites[*i].traitor)
            .collect();
        honest.into_iter()
    }

    /// The id of the topic called `name`.
    ///
    /// # Panics
    /// If the name is not one.
    pub fn topic(&self, name: &str) -> TopicId {
        name.parse::<TopicName>()
            .expect("a topic's name")
            .id(&self.hive)
    }

    /// Notes what must not be.
    pub(crate) fn violate(&mut self, violation: Violation) {
        self.line(|| format!("VIOLATION {violation}"));
        if self.report.violations.len() < 20 {
            self.report.violations.push(violation);
        }
    }

    pub(crate) fn line(&mut self, line: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            let ms = self.engine.now().since(START).as_micros();
            trace(&format!("{:>10}.{:03} {}", ms / 1_000, ms % 1_000, line()));
        }
    }

    /// Ends the run: closes the report.
    pub fn close(&mut self) {
        self.report.seconds = self.engine.now().since(START).as_secs();
        self.report.unknown += self.ledger.forget_pending();
        self.report.digest = *self.hasher.finalize().as_bytes();
    }
}

//! A run: a plan put into practice, and what came of it.
//!
//! Everything that is drawn follows from the plan and the seed. How many threads and partitions, and
//! which engine: that changes how long it takes, and nothing else.
//!
//! Not here: the clock and the memory of the machine (the binary), words (`report`).

use super::draw::{Draws, Purpose};
use super::engine::epoch::Owners;
use super::engine::{Clockwork, Ran};
use super::geography::Geography;
use super::gossip::churn::{Churn, Cut};
use super::gossip::{self, FRAME_BYTES, Gossip, Mesh, Message, Shard};
use super::graph::Graph;
use super::kademlia::{Kademlia, Lookups, Settings};
use super::plan::{ChurnPlan, ParseSwarm, Partition, Plan, Workload, is_in};
use super::planet::{Planet, QUANTA, Said};
use super::sessions::Spans;
use super::tally::Tally;
use crate::parallel::crew::{self, Crew, Progress, Watch};
use crate::scenario::rule::Rule;
use aquifer_protocol::decide::{Label, allowed_in};
use aquifer_protocol::{Region, TopicName};
use std::time::Duration;

/// Which engine runs it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Engine {
    /// Epochs, partitions, threads.
    #[default]
    Epoch,
    /// One event at a time: the oracle.
    Heap,
}

/// How a run is done. Changes nothing of what happens.
#[derive(Clone, Copy, Debug, Default)]
pub struct How {
    /// Which engine.
    pub engine: Engine,
    /// How many threads; as many as there are regions at most.
    pub threads: usize,
    /// How many partitions each sorts an epoch into; chosen by size if 0.
    pub partitions: usize,
    /// Whether first arrivals are written down one by one: for small runs.
    pub records: bool,
}

/// What came of it.
#[derive(Debug)]
pub struct Outcome {
    /// What happened.
    pub ran: Ran,
    /// What was counted.
    pub tally: Tally,
    /// Of all that may have a message, all messages together, how many agents could be reached.
    pub reachable: u64,
}

/// The state of a partition fits into half of a cache of the second level.
const PARTITION_BYTES: usize = 512 * 1024;
const PARTITIONS_MAX: usize = 4_096;

/// A plan of the compact tier, ready to be run.
pub struct Prepared {
    model: Gossip,
    shards: Vec<Shard>,
    clockwork: Clockwork,
    engine: Engine,
    crew: Crew,
}

/// Places all agents and links them.
///
/// # Errors
/// If the plan asks for what cannot be.
pub fn prepare(plan: &Plan, seed: u64, how: How) -> Result<Prepared, ParseSwarm> {
    plan.check()?;
    let mut model = model(plan, seed)?;
    model.records = how.records;
    let least = micros(plan.latency.processing[0]);
    let own = [model.mesh.validate, model.mesh.heartbeat, model.sync];
    let own = own.into_iter().filter(|delay| *delay > 0);
    let lookahead = own.fold(model.geography.shortest() + least, u64::min);
    let clockwork = Clockwork::new(lookahead, micros(plan.horizon));
    let threads = match how.engine {
        Engine::Heap => 1,
        Engine::Epoch => how.threads.max(1),
    };
    let owners = model.geography.shared_out(threads);
    let shards = crew::shards(&model, &owners);
    let crew = Crew {
        partitions: match how.partitions {
            0 => partitions(&shards),
            count => count,
        },
        window: window(&model, &owners, clockwork, least),
        owners,
    };
    Ok(Prepared {
        model,
        shards,
        clockwork,
        engine: how.engine,
        crew,
    })
}

/// Runs a plan of the compact tier.
///
/// # Errors
/// If the plan asks for what cannot be.
pub fn run(plan: &Plan, seed: u64, how: How, watch: Watch<'_>) -> Result<Outcome, ParseSwarm> {
    Ok(prepare(plan, seed, how)?.run(watch))
}

impl Prepared {
    /// Who is where, linked to whom, and publishes what.
    pub fn model(&self) -> &Gossip {
        &self.model
    }

    /// Lets it happen.
    pub fn run(mut self, watch: Watch<'_>) -> Outcome {
        let (model, clockwork) = (&self.model, self.clockwork);
        let (ran, shards) = match self.engine {
            Engine::Heap => {
                let shard = self.shards.remove(0);
                let (ran, shard) = crew::heap(model, shard, clockwork, watch);
                (ran, vec![shard])
            }
            Engine::Epoch => crew::epochs(model, self.shards, clockwork, &self.crew, watch),
        };
        let mut tally = Tally::new(model.geography.regions(), model.messages.len());
        shards.iter().for_each(|shard| tally.add(&shard.tally));
        if model.churn.is_some() || !model.cuts.is_empty() {
            for shard in &shards {
                let (due, lacking) = model.lacking(shard, clockwork.horizon, &tally.unsaid);
                tally.due += due;
                tally.lacking += lacking;
            }
        }
        Outcome {
            reachable: tally.audience,
            ran,
            tally,
        }
    }
}

fn partitions(shards: &[Shard]) -> usize {
    let most = shards.iter().map(Shard::bytes).max().unwrap_or(0);
    (most / PARTITION_BYTES).clamp(1, PARTITIONS_MAX)
}

/// How many epochs pass until something of another worker can arrive.
fn window(model: &Gossip, owners: &Owners, clockwork: Clockwork, least: u64) -> u64 {
    let apart = model
        .geography
        .shortest_between(owners)
        .saturating_add(least);
    (apart.min(1 << 40) >> clockwork.epoch_log).max(1)
}

fn micros(span: Duration) -> u64 {
    span.as_micros() as u64
}

/// Runs a plan of the planet tier: its messages one after the other, each as if it were alone.
///
/// # Errors
/// If the plan asks for what cannot be, or a message takes longer than its quanta can tell.
pub fn planet(plan: &Plan, seed: u64, watch: Watch<'_>) -> Result<Outcome, ParseSwarm> {
    plan.check()?;
    let draws = Draws::new(seed);
    let geography = geography(plan, draws)?;
    let quantum = micros(plan.quantum);
    let mut planet = Planet::new(&geography, plan.links, quantum as u32, draws);
    let count = plan
        .workload
        .iter()
        .map(|workload| workload.count)
        .sum::<u32>();
    let mut tally = Tally::new(geography.regions(), count as usize);
    let (mut ran, mut reachable, mut number) = (Ran::default(), 0, 0);
    for (topic, workload) in (0_u64..).zip(&plan.workload) {
        let (allowed, lawful) = law(workload, &geography)?;
        for about in 0..u64::from(workload.count) {
            let bits = draws.bits(Purpose::Publish, topic << 32 | about, 0);
            let publisher = someone(&geography, allowed, bits);
            let said = Said {
                number,
                bytes: FRAME_BYTES + u64::from(workload.bytes),
                allowed,
                lawful,
            };
            let began = u64::from(number) * QUANTA;
            let mut done = |passed: u64| {
                watch(Progress {
                    at: (began + passed) * quantum,
                    held: 0,
                })
            };
            let spread = planet.publish(publisher, said, &mut tally, &mut done);
            ran.events += spread.map_err(|why| ParseSwarm::Impossible {
                key: "quantum",
                why: why.to_string(),
            })?;
            ran.digest.add(&planet.digest());
            reachable += crowd(&geography, allowed) - 1;
            number += 1;
        }
    }
    Ok(Outcome {
        ran,
        tally,
        reachable,
    })
}

/// The lookups of a plan, if it has any.
///
/// # Errors
/// If the plan asks for what cannot be.
pub fn lookups(plan: &Plan, seed: u64) -> Result<Option<Lookups>, ParseSwarm> {
    let draws = Draws::new(seed);
    let geography = geography(plan, draws)?;
    let settings = Settings {
        k: plan.dht.k,
        alpha: plan.dht.alpha,
        stalled: plan.dht.stalled,
        stale: plan.dht.stale,
        timeout: micros(plan.dht.timeout),
    };
    let kademlia = Kademlia::new(&geography, settings, draws);
    Ok((plan.dht.lookups > 0).then(|| kademlia.lookups(plan.dht.lookups)))
}

/// How many agents are in these regions.
fn crowd(geography: &Geography, allowed: u16) -> u64 {
    let regions = (0..geography.regions()).filter(|region| allowed >> region & 1 == 1);
    let size = |region: usize| geography.bounds[region + 1] - geography.bounds[region];
    regions.map(size).sum()
}

/// Where all agents are.
fn geography(plan: &Plan, draws: Draws) -> Result<Geography, ParseSwarm> {
    let matrix = plan.matrix()?;
    let shares = match plan.latency.shares.is_empty() {
        true => vec![1.0; matrix.0.len()],
        false => plan.latency.shares.clone(),
    };
    let [least, most] = plan.latency.processing.map(|span| micros(span) as u32);
    let jitter = plan.latency.jitter;
    Ok(Geography::new(
        plan.agents,
        &shares,
        matrix,
        jitter,
        (least, most),
        draws,
    ))
}

/// What all agents know.
fn model(plan: &Plan, seed: u64) -> Result<Gossip, ParseSwarm> {
    let draws = Draws::new(seed);
    let geography = geography(plan, draws)?;
    let graph = Graph::new(plan.shape, plan.links, &geography, draws);
    let honest = Honest::of(plan, &geography, draws);
    let messages = messages(plan, &geography, &honest, draws)?;
    let cuts = cuts(plan, &geography.names);
    let heartbeat = micros(plan.mesh.heartbeat);
    let most = match heartbeat {
        0 => messages.len(),
        _ => abreast(&messages, micros(plan.mesh.memory) + 2 * heartbeat),
    };
    Ok(Gossip {
        graph,
        geography,
        shape: plan.shape,
        links: plan.links,
        mesh: Mesh {
            degree: plan.mesh.degree,
            low: plan.mesh.low,
            high: plan.mesh.high,
            outbound: plan.mesh.outbound,
            lazy: plan.mesh.lazy,
            heartbeat,
            flood: plan.mesh.flood,
            scores: plan.mesh.scores,
            linking: micros(plan.mesh.linking) as u32,
            validate: micros(plan.mesh.validate),
            dont_want: plan.mesh.dont_want,
        },
        messages,
        words: most.div_ceil(64).next_power_of_two(),
        memory: micros(plan.mesh.memory),
        loss: plan.latency.loss,
        uplink: plan.latency.uplink,
        churn: churn(&plan.churn),
        cuts,
        sync: micros(plan.mesh.sync),
        censors: plan.adversary.censors,
        censors_from: micros(plan.adversary.from),
        violators: plan.adversary.violators,
        records: false,
        draws,
    })
}

/// The messages of all workloads, in the order in which they are published.
fn messages(
    plan: &Plan,
    geography: &Geography,
    honest: &Honest,
    draws: Draws,
) -> Result<Vec<Message>, ParseSwarm> {
    let mut messages = Vec::new();
    for (topic, workload) in (0_u64..).zip(&plan.workload) {
        let (allowed, lawful) = law(workload, geography)?;
        let apart = 1_000_000.0 / workload.rate;
        for count in 0..workload.count {
            let about = topic << 32 | u64::from(count);
            let drawn = |number| {
                let bits = draws.bits(Purpose::Publish, about, number);
                someone(geography, allowed, bits) as u32
            };
            let mut drawn = (0..PUBLISHERS_TRIED).map(drawn);
            let publisher = drawn.find(|agent| honest.has(*agent));
            messages.push(Message {
                at: micros(workload.from) + (f64::from(count) * apart) as u64,
                publisher: publisher.ok_or_else(|| ParseSwarm::Impossible {
                    key: "adversary",
                    why: format!("nobody honest was found to publish on `{}`", workload.topic),
                })?,
                audience: honest.count(allowed) - 1,
                bytes: workload.bytes,
                allowed,
                lawful,
            });
        }
    }
    messages.sort_by_key(|message| message.at);
    Ok(messages)
}

/// Draws until somebody honest is found: with one honest agent in a hundred, all but one in 10¹⁷ find one.
const PUBLISHERS_TRIED: u64 = 4_096;

/// Who publishes and is to be reached: all but the censors.
struct Honest {
    censors: u32,
    draws: Draws,
    /// How many, by region.
    counts: Vec<u64>,
}

impl Honest {
    fn of(plan: &Plan, geography: &Geography, draws: Draws) -> Self {
        let mut honest = Self {
            censors: plan.adversary.censors,
            draws,
            counts: Vec::new(),
        };
        let count = |pair: &[u64]| match honest.censors {
            0 => pair[1] - pair[0],
            _ => (pair[0]..pair[1])
                .filter(|agent| honest.has(*agent as u32))
                .count() as u64,
        };
        honest.counts = geography.bounds.windows(2).map(count).collect();
        honest
    }

    fn has(&self, agent: u32) -> bool {
        !gossip::is_one(self.draws, self.censors, Purpose::Censor, agent)
    }

    fn count(&self, allowed: u16) -> u64 {
        let counts = (0..).zip(&self.counts);
        let allowed = counts.filter(|(region, _)| allowed >> *region & 1 == 1);
        allowed.map(|(_, count)| count).sum()
    }
}

/// Agents that come and go, if the plan has any.
fn churn(plan: &ChurnPlan) -> Option<Churn> {
    let spans = |median: Duration| Spans {
        median: micros(median),
        spread: plan.spread,
    };
    (!plan.session.is_zero()).then(|| Churn {
        session: spans(plan.session),
        away: spans(plan.away),
        crashes: plan.crashes,
        notice: micros(plan.notice),
    })
}

fn cuts(plan: &Plan, names: &[String]) -> Vec<Cut> {
    let mask = |partition: &Partition| {
        let named = |region: &str| partition.regions.iter().any(|name| is_in(region, name));
        let bit = |(number, region): (usize, &String)| u16::from(named(region)) << number;
        names.iter().enumerate().map(bit).sum()
    };
    let cut = |partition: &Partition| Cut {
        regions: mask(partition),
        from: micros(partition.from),
        until: micros(partition.from + partition.lasts),
    };
    plan.partition.iter().map(cut).collect()
}

/// The regions that may have a workload's messages, as the product's policy has it and as the oracle.
fn law(workload: &Workload, geography: &Geography) -> Result<(u16, u16), ParseSwarm> {
    let fail = |why: String| ParseSwarm::Impossible {
        key: "workload",
        why,
    };
    let name = &workload.topic;
    let topic: TopicName = name.parse().map_err(|why| fail(format!("{why}")))?;
    let rule = match workload.law.is_empty() {
        true => Rule::open(),
        false => Rule::within(&workload.law.iter().map(String::as_str).collect::<Vec<_>>()),
    };
    let policy = rule.policy(&[]);
    let label = Label {
        topic: &topic,
        policy: &policy,
        epoch: 1,
        home: None,
    };
    let (mut allowed, mut lawful) = (0, 0);
    for (number, name) in geography.names.iter().enumerate() {
        let region: Region = name
            .parse()
            .map_err(|why| fail(format!("the matrix: {why}")))?;
        allowed |= u16::from(allowed_in(label, &region).is_ok()) << number;
        lawful |= u16::from(rule.permits(0, name)) << number;
    }
    let inhabited = |number: &usize| geography.bounds[*number] < geography.bounds[number + 1];
    let regions = 0..geography.regions();
    if !regions
        .filter(inhabited)
        .any(|number| allowed >> number & 1 == 1)
    {
        return Err(fail(format!(
            "nobody may have `{name}`: no region is inside its law"
        )));
    }
    Ok((allowed, lawful))
}

/// One of the agents that may have it, each as likely.
fn someone(geography: &Geography, allowed: u16, bits: u64) -> u64 {
    let regions = || (0..geography.regions()).filter(|region| allowed >> region & 1 == 1);
    let size = |region: usize| geography.bounds[region + 1] - geography.bounds[region];
    let all = u128::from(crowd(geography, allowed));
    let mut place = ((u128::from(bits) * all) >> 64) as u64;
    for region in regions() {
        if place < size(region) {
            return geography.bounds[region] + place;
        }
        place -= size(region);
    }
    unreachable!("the place is below the sum of all")
}

/// Most messages that are published within `span`.
fn abreast(messages: &[Message], span: u64) -> usize {
    let since = |number: usize| {
        let from = messages[number].at.saturating_sub(span);
        number + 1 - messages.partition_point(|message| message.at < from)
    };
    (0..messages.len()).map(since).max().unwrap_or(0)
}

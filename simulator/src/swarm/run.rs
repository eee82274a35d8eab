//! A run: a plan put into practice, and what came of it.
//!
//! Everything that is drawn follows from the plan and the seed. How many threads and partitions, and
//! which engine: that changes how long it takes, and nothing else.
//!
//! Not here: what follows from plan and seed (`scene`), the clock and the memory of the machine (the
//! binary), words (`report`).

mod scene;

use super::draw::{Draws, Purpose};
use super::engine::epoch::Owners;
use super::engine::watched::{Happened, Watched};
use super::engine::{Clockwork, Ran};
use super::gossip::{FRAME_BYTES, Gossip, Shard};
use super::kademlia::{Kademlia, Lookups, Provided, Settings};
use super::plan::{ParseSwarm, Plan, Tier};
use super::planet::{Planet, QUANTA, Said};
use super::replicas::Counts;
use super::tally::Tally;
use crate::parallel::crew::{self, Crew, Progress, Watch};
pub(super) use scene::{churn, cuts, geography};
use scene::{crowd, law, minds, model, someone};
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
    /// What replicas did, in the full tier.
    pub replicas: Option<Counts>,
}

/// The state of a partition fits into a quarter of a cache of the second level, beside its events.
const PARTITION_BYTES: usize = 256 * 1024;
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
        Engine::Epoch if plan.tier != Tier::Full => how.threads.max(1),
        _ => 1,
    };
    let owners = model.geography.shared_out(threads);
    let mut shards = crew::shards(&model, &owners);
    if plan.tier == Tier::Full {
        shards[0].minded(minds(plan, seed, &model)?);
    }
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

    /// The model, the agents, how time is cut and who does what: for whoever runs them in another way.
    pub fn into_parts(self) -> (Gossip, Vec<Shard>, Clockwork, Crew) {
        (self.model, self.shards, self.clockwork, self.crew)
    }

    /// Lets it happen, and says what happened in one epoch.
    pub fn watched(mut self, epoch: u64) -> Vec<Happened> {
        let watched = Watched::new(&self.model, self.clockwork, epoch);
        match self.engine {
            Engine::Heap => {
                let shard = self.shards.remove(0);
                crew::heap(&watched, shard, self.clockwork, &|_| true);
            }
            Engine::Epoch => {
                crew::epochs(&watched, self.shards, self.clockwork, &self.crew, &|_| true);
            }
        }
        watched.seen()
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
            replicas: shards[0].replicas().map(|replicas| replicas.counts),
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
        replicas: None,
    })
}

/// The lookups of a plan, and what is provided and found, if it has any.
///
/// # Errors
/// If the plan asks for what cannot be.
pub fn lookups(plan: &Plan, seed: u64) -> Result<(Option<Lookups>, Option<Provided>), ParseSwarm> {
    let draws = Draws::new(seed);
    let geography = geography(plan, draws)?;
    let dht = &plan.dht;
    let settings = Settings {
        k: dht.k,
        alpha: dht.alpha,
        stalled: dht.stalled,
        stale: dht.stale,
        unknown: dht.unknown,
        timeout: micros(dht.timeout),
    };
    let kademlia = Kademlia::new(&geography, settings, draws);
    Ok((
        (dht.lookups > 0).then(|| kademlia.lookups(dht.lookups)),
        (dht.provides > 0).then(|| kademlia.provides(dht.provides)),
    ))
}

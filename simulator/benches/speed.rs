//! How fast the swarm's engines are, beside what the machine allows, in one run.
//!
//! Nanoseconds of processor time for each event, the best of some runs. `push` is one message to all
//! over a mesh that stays as it is, and `push, 64 B` the same where each event also changes a line of 64
//! bytes that its agent has; `gossip` is GossipSub whole: heartbeats, IHAVE, IWANT, IDONTWANT, judging.
//! `full` is the product's own replica behind each agent, `planet` a byte. The limits are those of
//! memory: what one look at a random place costs if the next waits for it, and if it does not.
//!
//! `cargo bench -p aquifer-simulator --bench speed [-- LARGEST]`, ten million agents if not said.

use aquifer_simulator::parallel::crew;
use aquifer_simulator::swarm::column::Column;
use aquifer_simulator::swarm::engine::{Event, Model, Out, Ran};
use aquifer_simulator::swarm::gossip::{Gossip, Shard};
use aquifer_simulator::swarm::plan::{Plan, Tier};
use aquifer_simulator::swarm::run::{Engine, How, planet, prepare};
use rustix::time::{ClockId, clock_gettime};
use std::hint::black_box;

/// Agents of a column of the table.
const SIZES: [u64; 4] = [10_000, 100_000, 1_000_000, 10_000_000];

const PUSH: &str =
    "links = 8\nhorizon = \"3s\"\n[mesh]\nhigh = 8\nheartbeat = \"0s\"\ndont_want = 0";
const GOSSIP: &str = "horizon = \"5s\"\n[mesh]\nvalidate = \"1500us\"\n[[workload]]\ncount = 2";
const FULL: &str = "tier = \"full\"\nshape = \"regional\"\nhorizon = \"10s\"\n\
                    [[workload]]\nfrom = \"4s\"\ncount = 4\nbytes = 256";
const PLANET: &str = "tier = \"planet\"\nlinks = 8";

fn main() {
    let largest = std::env::args().filter_map(|arg| arg.parse().ok()).next();
    let largest: u64 = largest.unwrap_or(10_000_000);
    println!("memory of 1 GiB on huge pages, where there are any");
    limits();
    println!(
        "\nns of processor time for each event, best of three (one at the largest and of the heap)"
    );
    println!(
        "{:<28}{:>12}{:>12}{:>12}{:>12}",
        "", "10^4", "10^5", "10^6", "10^7"
    );
    let row = |name: &str, most: u64, cell: &dyn Fn(u64) -> f64| {
        print!("{name:<28}");
        for agents in SIZES {
            match agents > largest.min(most) {
                true => print!("{:>12}", "-"),
                false => print!("{:>12.1}", cell(agents)),
            }
        }
        println!();
    };
    for (name, text, hot) in [
        ("push", PUSH, false),
        ("push, 64 B", PUSH, true),
        ("gossip", GOSSIP, false),
    ] {
        for (engine, threads) in [(Engine::Heap, 1), (Engine::Epoch, 1), (Engine::Epoch, 2)] {
            let how = How {
                engine,
                threads,
                ..How::default()
            };
            let most = match engine == Engine::Heap || name == "gossip" {
                true => 1_000_000,
                false => u64::MAX,
            };
            let name = format!("{name}, {engine:?}, {threads} thread");
            row(&name, most, &|agents| event(text, agents, how, hot));
        }
    }
    row("full, Epoch, 1 thread", 100_000, &|agents| {
        event(FULL, agents, How::default(), false)
    });
    row("planet, 1 thread", u64::MAX, &relaxed);
    println!("\nbytes of an agent's own, without what is on its way");
    row("push", u64::MAX, &|agents| bytes(PUSH, agents));
    row("gossip", 1_000_000, &|agents| bytes(GOSSIP, agents));
}

/// Processor time of this process, in nanoseconds.
fn now() -> f64 {
    let spent = clock_gettime(ClockId::ProcessCPUTime);
    spent.tv_sec as f64 * 1e9 + spent.tv_nsec as f64
}

fn plan(text: &str, agents: u64) -> Plan {
    let mut plan = Plan::parse(text).expect("legal");
    plan.agents = agents;
    plan
}

fn event(text: &str, agents: u64, how: How, hot: bool) -> f64 {
    let plan = plan(text, agents);
    let seldom = agents > 1_000_000 || plan.tier == Tier::Full && agents > 10_000;
    let runs = if seldom || how.engine == Engine::Heap {
        1
    } else {
        3
    };
    let each = |seed: u64| {
        let prepared = prepare(&plan, seed, how).expect("legal");
        if !hot {
            let began = now();
            let outcome = prepared.run(&|_| true);
            return (now() - began) / outcome.ran.events as f64;
        }
        let (gossip, shards, clockwork, crew) = prepared.into_parts();
        let mut shards: Vec<_> = shards.into_iter().map(Lined::new).collect();
        let model = Hot(gossip);
        let began = now();
        let ran: Ran = match how.engine {
            Engine::Heap => crew::heap(&model, shards.remove(0), clockwork, &|_| true).0,
            Engine::Epoch => crew::epochs(&model, shards, clockwork, &crew, &|_| true).0,
        };
        (now() - began) / ran.events as f64
    };
    (0..runs).map(each).fold(f64::INFINITY, f64::min)
}

/// The model, with a line of the cache for each agent that every event changes: the hot state of a model
/// that keeps more than ours.
struct Hot(Gossip);

struct Lined {
    shard: Shard,
    first: u32,
    lines: Column<[u64; 8]>,
}

impl Lined {
    fn new(shard: Shard) -> Self {
        Self {
            first: shard.agents().start,
            lines: Column::zeroed(shard.agents().len()),
            shard,
        }
    }
}

impl Model for Hot {
    type Shard = Lined;

    fn begin(&self, lined: &mut Lined, out: &mut impl Out) {
        self.0.begin(&mut lined.shard, out);
    }

    fn foresee(&self, lined: &mut Lined, events: &[Event]) -> u64 {
        let first = lined.first;
        let line = |event: &Event| lined.lines[(event.agent() - first) as usize][0];
        events.iter().fold(0, |all, event| all ^ line(event))
            ^ self.0.foresee(&mut lined.shard, events)
    }

    fn handle(&self, lined: &mut Lined, at: u64, event: Event, out: &mut impl Out) -> u64 {
        let line = &mut lined.lines[(event.agent() - lined.first) as usize];
        line[usize::from(event.slot()) % 8] += at;
        self.0.handle(&mut lined.shard, at, event, out)
    }
}

fn relaxed(agents: u64) -> f64 {
    let plan = plan(PLANET, agents);
    let began = now();
    let outcome = planet(&plan, 1, &|_| true).expect("quick enough");
    (now() - began) / outcome.ran.events as f64
}

fn bytes(text: &str, agents: u64) -> f64 {
    let prepared = prepare(&plan(text, agents), 0, How::default()).expect("legal");
    let (_, shards, ..) = prepared.into_parts();
    shards.iter().map(Shard::bytes).sum::<usize>() as f64 / agents as f64
}

/// Looks at random places of 1 GiB: each waiting for the one before, and none.
fn limits() {
    const WORDS: usize = 1 << 27;
    const LOOKS: u64 = 5_000_000;
    let mut memory = Column::<u64>::zeroed(WORDS);
    // Sattolo's shuffle would make one cycle; a multiplier does, and no neighbour follows another.
    let next = |at: usize| (at.wrapping_mul(0x9e37_79b1) + 12_345) % WORDS;
    for at in 0..WORDS {
        memory[at] = next(at) as u64;
    }
    let began = now();
    let mut at = 0;
    for _ in 0..LOOKS {
        at = memory[at as usize % WORDS];
    }
    black_box(at);
    println!(
        "  one look after the other   {:>8.1} ns",
        (now() - began) / LOOKS as f64
    );
    let began = now();
    let mut state = 1_u64;
    for _ in 0..LOOKS {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let word = &mut memory[(state >> 33) as usize % WORDS];
        *word = word.wrapping_add(1);
    }
    println!(
        "  side by side, and changed  {:>8.1} ns",
        (now() - began) / LOOKS as f64
    );
    let began = now();
    black_box(
        memory
            .iter()
            .fold(0_u64, |sum, word| sum.wrapping_add(*word)),
    );
    let bytes = (WORDS * 8) as f64;
    println!(
        "  read from end to end       {:>8.1} GB/s",
        bytes / (now() - began)
    );
}

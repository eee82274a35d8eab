//! How fast the swarm's engines are, beside what the machine allows, in one run.
//!
//! Nanoseconds of processor time for each event, the best of some runs. `push` is one message to all
//! over a mesh that stays as it is; `gossip` is GossipSub whole: heartbeats, IHAVE, IWANT, IDONTWANT,
//! judging. `full` is the product's own replica behind each agent, `planet` a byte. The limits are those of memory: what one look at a random place costs if the next waits for
//! it, and if it does not.
//!
//! `cargo bench -p aquifer-simulator --bench speed [-- LARGEST]`, ten million agents if not said.

use aquifer_simulator::swarm::column::Column;
use aquifer_simulator::swarm::plan::{Plan, Tier};
use aquifer_simulator::swarm::run::{Engine, How, planet, prepare};
use rustix::time::{ClockId, clock_gettime};
use std::hint::black_box;

fn main() {
    let largest = std::env::args().filter_map(|arg| arg.parse().ok()).next();
    let largest: u64 = largest.unwrap_or(10_000_000);
    println!("memory of 1 GiB on huge pages, where there are any");
    limits();
    println!(
        "\nns of processor time for each event, best of three (one at the largest and of the heap)"
    );
    println!(
        "{:<24}{:>12}{:>12}{:>12}{:>12}",
        "", "10^4", "10^5", "10^6", "10^7"
    );
    let sizes = [10_000, 100_000, 1_000_000, 10_000_000];
    for (name, text) in [("push", PUSH), ("gossip", GOSSIP)] {
        for (engine, threads) in [(Engine::Heap, 1), (Engine::Epoch, 1), (Engine::Epoch, 2)] {
            let how = How {
                engine,
                threads,
                ..How::default()
            };
            print!("{:<24}", format!("{name}, {engine:?}, {threads} thread"));
            for agents in sizes {
                let skipped = agents > largest
                    || engine == Engine::Heap && agents > 1_000_000
                    || name == "gossip" && agents > 1_000_000;
                match skipped {
                    true => print!("{:>12}", "-"),
                    false => print!("{:>12.1}", event(text, agents, how)),
                }
            }
            println!();
        }
    }
    print!("{:<24}", "full, Epoch, 1 thread");
    for agents in sizes {
        match agents > largest.min(100_000) {
            true => print!("{:>12}", "-"),
            false => print!("{:>12.1}", event(FULL, agents, How::default())),
        }
    }
    println!();
    print!("{:<24}", "planet, 1 thread");
    for agents in sizes {
        match agents > largest {
            true => print!("{:>12}", "-"),
            false => print!("{:>12.1}", relaxed(agents)),
        }
    }
    println!();
}

const PUSH: &str =
    "links = 8\nhorizon = \"3s\"\n[mesh]\nhigh = 8\nheartbeat = \"0s\"\ndont_want = 0";
const GOSSIP: &str = "horizon = \"5s\"\n[mesh]\nvalidate = \"1500us\"\n[[workload]]\ncount = 2";
const FULL: &str = "tier = \"full\"\nshape = \"regional\"\nhorizon = \"10s\"\n\
                    [[workload]]\nfrom = \"4s\"\ncount = 4\nbytes = 256";
const PLANET: &str = "tier = \"planet\"\nlinks = 8";

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

fn event(text: &str, agents: u64, how: How) -> f64 {
    let plan = plan(text, agents);
    let seldom = agents > 1_000_000 || plan.tier == Tier::Full && agents > 10_000;
    let runs = if seldom || how.engine == Engine::Heap {
        1
    } else {
        3
    };
    let each = |seed: u64| {
        let prepared = prepare(&plan, seed, how).expect("legal");
        let began = now();
        let outcome = prepared.run(&|_| true);
        (now() - began) / outcome.ran.events as f64
    };
    (0..runs).map(each).fold(f64::INFINITY, f64::min)
}

fn relaxed(agents: u64) -> f64 {
    let plan = plan(PLANET, agents);
    let began = now();
    let outcome = planet(&plan, 1, &|_| true).expect("quick enough");
    (now() - began) / outcome.ran.events as f64
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

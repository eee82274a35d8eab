//! What a wake costs, beside what the engines need for it alone, in one run.
//!
//! A wake is a fresh instance, the state put in, one input handled, the state taken out, and its receipt;
//! durable, it is also written to the journal with its input, and synced with 1,023 others or alone. The
//! engines' own part is a store, an instance and one call of `handle` without a host. Times are processor
//! time; a sync waits for the disk besides.
//!
//! `cargo bench -p aquifer-wasm --bench wakes [-- AGENTS]`, a million if not said.

use aquifer_protocol::identity::Keys;
use aquifer_wasm::abi::{Cause, Imports, PAGE, Wakeup};
use aquifer_wasm::desk::Quiet;
use aquifer_wasm::engine::Engine;
use aquifer_wasm::engine::interpreter::Interpreter;
use aquifer_wasm::engine::jit::Jit;
use aquifer_wasm::kind::Kind;
use aquifer_wasm::ledger::{Checker, LEDGER_MIN, Ledger};
use aquifer_wasm::manifest::{Budget, Granted, Manifest, Rate};
use aquifer_wasm::profile::Profile;
use aquifer_wasm::receipt::{Batch, Receipt};
use aquifer_wasm::sleepers::Sleepers;
use aquifer_wasm::wake::{Agent, Step};
use rustix::time::{ClockId, clock_gettime};
use std::sync::Arc;
use std::time::Instant;

/// Counts, and writes 36 bytes of state: about what the examples keep.
const GUEST: &str = r#"(module
    (import "mva1" "log" (func $log (param i32 i32 i32) (result i32)))
    (memory (export "memory") 1 1)
    (global (export "MVA_STATE") i32 (i32.const 1024))
    (global (export "MVA_INBOX") i32 (i32.const 4096))
    (func (export "mva_abi") (result i32) (i32.const 1))
    (func (export "handle") (param i32 i32) (result i32)
        (i32.store (i32.const 1024) (i32.const 36))
        (i32.store (i32.const 1028) (i32.add (i32.load (i32.const 1028)) (i32.const 1)))
        (i32.const 0)))"#;

fn main() {
    let agents = std::env::args().filter_map(|arg| arg.parse().ok()).next();
    let agents: u32 = agents.unwrap_or(1_000_000);
    let module = wat::parse_str(GUEST).expect("good text");
    let profile = Profile::of(&module).expect("of the profile");
    let manifest = Manifest {
        name: "counter".into(),
        module: profile.hash,
        imports: Imports::USUAL,
        publishes: vec![],
        follows: vec![],
        remembers: vec![],
        budget: Budget::USUAL,
        rate: Rate {
            wakes: u32::MAX,
            ..Rate::USUAL
        },
        kv_bytes: 0,
        not_after: u64::MAX,
        attest: None,
    };
    println!("the engines alone: a store, an instance, one call; thousands a second on one core");
    println!("  wasmtime {:>8.0}", raw_wasmtime(&module, &profile));
    println!("  wasmi    {:>8.0}", raw_wasmi(&module, &profile));
    let jit = Jit::new().expect("room for a pool");
    let interpreter = Interpreter::new();
    for engine in [&jit as &dyn Engine, &interpreter] {
        println!("\n{}", engine.name());
        let agent = Agent {
            id: [1; 32],
            manifest: Arc::new(manifest.clone()),
            loaded: engine.load(&module, &profile).expect("loads"),
        };
        let (p50, p99) = spread(&agent);
        println!("  a wake, us               p50 {p50:.2}, p99 {p99:.2}");
        println!("  wakes, thousands/s       {:>8.0}", wakes(&agent, false));
        println!("  with receipts            {:>8.0}", wakes(&agent, true));
        println!("  run again                {:>8.0}", repeats(&agent));
    }
    let granted = Granted::sign(&Keys::from_secret(&[1; 32]), manifest);
    let kind = Kind::new(granted.clone(), module.clone()).expect("its own module");
    audited(&Arc::new(kind), &jit, &interpreter);
    sleeping(granted.as_bytes(), &module, agents, &jit);
}

/// Processor time of this process, in seconds.
fn now() -> f64 {
    let spent = clock_gettime(ClockId::ProcessCPUTime);
    spent.tv_sec as f64 + spent.tv_nsec as f64 / 1e9
}

/// How many thousands of `work` go into a second.
fn rate(count: u32, mut work: impl FnMut(u32)) -> f64 {
    (0..count / 10).for_each(&mut work);
    let began = now();
    (0..count).for_each(&mut work);
    f64::from(count) / (now() - began) / 1e3
}

fn wakeup(number: u32) -> Wakeup {
    Wakeup {
        cause: Cause::Message,
        from: Some([3; 32]),
        topic: String::new(),
        stamp: 1_700_000_000_000,
        body: number.to_be_bytes().to_vec(),
    }
}

fn wake(agent: &Agent, number: u32) -> Step {
    let woken = agent.wake(number.into(), vec![7; 36], wakeup(number), Box::new(Quiet));
    woken.expect("ends well")
}

fn spread(agent: &Agent) -> (f64, f64) {
    let each = |number| {
        let began = Instant::now();
        wake(agent, number);
        began.elapsed().as_secs_f64() * 1e6
    };
    let mut times: Vec<f64> = (0..100_000).map(each).collect();
    times.sort_by(f64::total_cmp);
    (times[times.len() / 2], times[times.len() * 99 / 100])
}

fn wakes(agent: &Agent, receipts: bool) -> f64 {
    let keys = Keys::from_secret(&[1; 32]);
    let mut batch = Vec::new();
    rate(200_000, |number| {
        let step = wake(agent, number);
        if receipts {
            batch.push(Receipt::of(&step, agent.manifest.module));
            if batch.len() == 1_024 {
                std::hint::black_box(Batch::sign(&keys, &batch));
                batch.clear();
            }
        }
    })
}

/// What it costs to keep steps for others, and to take one in twenty of others' steps again.
fn audited(kind: &Arc<Kind>, engine: &dyn Engine, auditor: &dyn Engine) {
    let profile = Profile::of(kind.module()).expect("an agent");
    let agent = Agent {
        id: [1; 32],
        manifest: Arc::new(kind.granted().manifest.clone()),
        loaded: engine.load(kind.module(), &profile).expect("loads"),
    };
    // Each kind of run comes three times in turn, so that what else the machine does falls on all alike.
    let runs = [
        ("wakes alone", false, 0),
        ("with receipts and ledger", true, 0),
        ("and 5 % taken again on the other engine", true, 51),
        ("and 5 % checked whole, signatures too", true, 52),
    ];
    let mut rates = runs.map(|_| 0.0);
    for _ in 0..3 {
        for (rate, (_, keeps, audits)) in rates.iter_mut().zip(runs) {
            *rate += keeping(kind, &agent, keeps, audits, auditor) / 3.0;
        }
    }
    println!(
        "\nthousands of wakes a second on one core, {}",
        engine.name()
    );
    for (rate, (what, ..)) in rates.iter().zip(runs) {
        println!(
            "  {what:<40} {rate:>8.0}, {:.3} of the first",
            rate / rates[0]
        );
    }
}

/// Wakes by batches; of each, so many steps are checked: only taken again, or with their signatures if 52.
fn keeping(
    kind: &Arc<Kind>,
    agent: &Agent,
    keeps: bool,
    audits: usize,
    auditor: &dyn Engine,
) -> f64 {
    let folder = tempfile::tempdir().expect("a folder");
    let keys = Keys::from_secret(&[9; 32]);
    let mut ledger = Ledger::open(folder.path(), keys, LEDGER_MIN).expect("room");
    let profile = Profile::of(kind.module()).expect("an agent");
    let again = Agent {
        loaded: auditor.load(kind.module(), &profile).expect("loads"),
        ..agent.clone()
    };
    let mut checker = Checker::new(auditor);
    // Entries as another node might send them.
    let steps: Vec<_> = (0..1_024).map(|n| (kind.clone(), wake(agent, n))).collect();
    ledger.append(&steps).expect("room");
    ledger.sync().expect("room");
    let entries = ledger.last(1_024, &|_| true).expect("it reads");
    let entries: Vec<Vec<u8>> = entries.iter().map(|entry| entry.to_bytes()).collect();
    let mut batch = Vec::with_capacity(1_024);
    rate(204_800, |number| {
        batch.push((kind.clone(), wake(agent, number)));
        if batch.len() == 1_024 {
            if keeps {
                ledger.append(&batch).expect("room");
                ledger.sync().expect("room");
            }
            match audits {
                52 => entries.iter().step_by(20).for_each(|bytes| {
                    let entry = checker.read(bytes).expect("an entry");
                    checker.check(&entry).expect("the same");
                }),
                _ => batch.iter().take(audits).for_each(|(_, step)| {
                    again.repeat(step).expect("the same");
                }),
            }
            batch.clear();
        }
    })
}

fn repeats(agent: &Agent) -> f64 {
    let step = wake(agent, 1);
    rate(200_000, |_| agent.repeat(&step).expect("the same"))
}

/// A million agents on one node, of which some wake.
fn sleeping(manifest: &[u8], module: &[u8], agents: u32, engine: &dyn Engine) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("agents");
    let before = resident();
    let mut sleepers = Sleepers::open(&path, engine).expect("a new journal");
    let hosted = sleepers.host((manifest, module), agents, 0, engine);
    hosted.expect("a good manifest");
    let (keys, mut number) = (Keys::from_secret(&[1; 32]), 0_u32);
    let mut receipts = Vec::with_capacity(1_024);
    let mut cycle = |sleepers: &mut Sleepers, agent: u32, signs: bool| {
        number += 1;
        let id = [number.to_be_bytes(), [0; 4], [0; 4], [1; 4]].concat();
        let id = id.try_into().expect("sixteen bytes");
        sleepers
            .deliver(agent, id, wakeup(number))
            .expect("it lives here");
        let woken = sleepers.wake(|_| Box::new(Quiet)).expect("an input");
        let step = woken.outcome.expect("ends well");
        if signs {
            receipts.push(Receipt::of(&step, [5; 32]));
            if receipts.len() == 1_024 {
                std::hint::black_box(Batch::sign(&keys, &receipts));
                receipts.clear();
            }
        }
    };
    for agent in 0..agents {
        cycle(&mut sleepers, agent, false);
        if agent % 1_024 == 0 {
            sleepers.sync().expect("room");
        }
    }
    sleepers.rewrite().expect("room");
    println!("\n{agents} agents on one node, all asleep with a state of 36 bytes");
    let each = |bytes: f64| bytes / f64::from(agents);
    println!(
        "  memory of each, bytes    {:>8.1}",
        each(resident() - before)
    );
    println!(
        "  journal of each, bytes   {:>8.1}",
        each(sleepers.journal_bytes() as f64)
    );
    let mut stride = 0_u32;
    let mut next = move || {
        stride = stride.wrapping_add(0x9e37_79b1);
        stride % agents
    };
    for (what, signs) in [("input and step", false), ("and receipts", true)] {
        let durable = rate(200_000, |count| {
            cycle(&mut sleepers, next(), signs);
            if count % 1_024 == 0 {
                sleepers.sync().expect("room");
            }
        });
        println!("  {what:<14}, thousands/s, durable by 1,024 {durable:>8.0}");
    }
    let began = Instant::now();
    for _ in 0..1_000 {
        cycle(&mut sleepers, next(), true);
        sleepers.sync().expect("room");
    }
    let alone = 1_000.0 / began.elapsed().as_secs_f64();
    println!("  one by one, a second by the clock             {alone:>8.0}");
    let began = Instant::now();
    drop(sleepers);
    Sleepers::open(&path, engine).expect("a good journal");
    println!("  opened again in {:.1} s", began.elapsed().as_secs_f64());
}

/// Bytes of memory that this process has.
fn resident() -> f64 {
    let status = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    let pages = status
        .split_whitespace()
        .nth(1)
        .and_then(|n| n.parse::<f64>().ok());
    pages.expect("a number") * 4_096.0
}

fn raw_wasmtime(module: &[u8], profile: &Profile) -> f64 {
    use wasmtime::{
        Config, Engine, InstanceAllocationStrategy, Linker, Module, PoolingAllocationConfig, Store,
    };
    let mut pool = PoolingAllocationConfig::new();
    pool.max_memory_size(PAGE).linear_memory_keep_resident(PAGE);
    let mut config = Config::new();
    config.consume_fuel(true).memory_init_cow(false);
    config
        .memory_reservation(PAGE as u64)
        .memory_guard_size(PAGE as u64);
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    let engine = Engine::new(&config).expect("room");
    let mut linker = Linker::<()>::new(&engine);
    let log = linker.func_wrap("mva1", "log", |_: u32, _: u32, _: u32| 0_i32);
    log.expect("links");
    let module = Module::new(&engine, module).expect("loads");
    let pre = linker.instantiate_pre(&module).expect("links");
    let inbox = profile.inbox as u32;
    rate(200_000, |_| {
        let mut store = Store::new(&engine, ());
        store.set_fuel(10_000_000).expect("fuel is on");
        let instance = pre.instantiate(&mut store).expect("a pool");
        let handle = instance.get_typed_func::<(u32, u32), i32>(&mut store, "handle");
        handle
            .expect("is there")
            .call(&mut store, (inbox, 9))
            .expect("ends well");
    })
}

fn raw_wasmi(module: &[u8], profile: &Profile) -> f64 {
    use wasmi::{Config, Engine, Linker, Module, Store};
    let mut config = Config::default();
    config.consume_fuel(true);
    let engine = Engine::new(&config);
    let mut linker = Linker::<()>::new(&engine);
    let log = linker.func_wrap("mva1", "log", |_: u32, _: u32, _: u32| 0_i32);
    log.expect("links");
    let module = Module::new(&engine, module).expect("loads");
    let inbox = profile.inbox as u32;
    rate(100_000, |_| {
        let mut store = Store::new(&engine, ());
        store.set_fuel(10_000_000).expect("fuel is on");
        let instance = linker.instantiate_and_start(&mut store, &module);
        let instance = instance.expect("instantiates");
        let handle = instance.get_typed_func::<(u32, u32), i32>(&store, "handle");
        handle
            .expect("is there")
            .call(&mut store, (inbox, 9))
            .expect("ends well");
    })
}

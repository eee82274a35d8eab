//! Attested: many steps of many agents, from the ledger, taken again on every engine.
//!
//! wasmtime takes the steps; a node signs for them; wasmtime, wasmi and the kernel take each of them again
//! and come to the same. One step in the middle is a lie that the node has signed for: each engine finds
//! that one, and no other.
//!
//! `AQUIFER_STEPS` sets how many, 3,000 if it does not.

use aquifer_protocol::identity::{Keys, digest};
use aquifer_wasm::abi::{Cause, Code, Imports, Wakeup};
use aquifer_wasm::desk::{Answer, Effect, World};
use aquifer_wasm::engine::Engine;
use aquifer_wasm::engine::interpreter::Interpreter;
use aquifer_wasm::engine::jit::Jit;
use aquifer_wasm::engine::kernel::Kernel;
use aquifer_wasm::kind::Kind;
use aquifer_wasm::ledger::{Checker, LEDGER_MIN, Ledger, Wrong};
use aquifer_wasm::manifest::{Budget, Granted, Manifest, Rate};
use aquifer_wasm::profile::Profile;
use aquifer_wasm::receipt::BATCH_MAX;
use aquifer_wasm::wake::{Agent, Differs, Failed, Step};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Instant;

const SENSOR: &[u8] = include_bytes!("../../guest/modules/sensor.wasm");
const WORKER: &[u8] = include_bytes!("../../guest/modules/worker.wasm");
const FORAGER: &[u8] = include_bytes!("../../guest/modules/forager.wasm");
const ECHO: &[u8] = include_bytes!("../../guest/modules/echo.wasm");

/// Asks for all there is to ask for, and lets its state and its values follow from it.
const ASKER: &str = r#"(module
    (import "mva1" "recall" (func $recall (param i32 i32 i32 i32) (result i32)))
    (import "mva1" "kv_get" (func $kv_get (param i32 i32 i32 i32) (result i32)))
    (import "mva1" "kv_put" (func $kv_put (param i32 i32 i32 i32) (result i32)))
    (import "mva1" "random" (func $random (param i32 i32) (result i32)))
    (import "mva1" "now" (func $now (result i64)))
    (import "mva1" "infer" (func $infer (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 1 1)
    (global (export "MVA_STATE") i32 (i32.const 1024))
    (global (export "MVA_INBOX") i32 (i32.const 4096))
    (data (i32.const 0) "kept")
    (func (export "mva_abi") (result i32) (i32.const 1))
    (func (export "handle") (param $at i32) (param $len i32) (result i32)
        (i32.store (i32.const 1024) (i32.const 64))
        (i64.store (i32.const 1028) (i64.xor (i64.load (i32.const 1028)) (call $now)))
        (drop (call $random (i32.const 1036) (i32.const 8)))
        (i32.store (i32.const 1044) (call $recall (local.get $at) (i32.const 1) (i32.const 1048) (i32.const 16)))
        (i32.store (i32.const 1064) (call $kv_get (i32.const 0) (i32.const 4) (i32.const 1068) (i32.const 12)))
        (i32.store (i32.const 1080) (call $infer (i32.const 0) (i32.const 4) (i32.const 1084) (i32.const 4)))
        (i32.add
            (call $kv_put (i32.const 0) (i32.const 4) (i32.const 1028) (i32.rem_u (local.get $len) (i32.const 24)))
            (i32.and (i32.load (i32.const 1036)) (i32.const 7)))))"#;

/// Agents of each kind.
const AGENTS: u64 = 8;

fn drawn(what: &str, number: u64) -> [u8; 32] {
    digest(what, &[&number.to_be_bytes()])
}

/// Remembers what agents keep, recalls what is drawn, and now and then has no answer.
struct Drawn {
    number: u64,
    asked: u64,
    kept: Arc<Mutex<BTreeMap<Vec<u8>, Vec<u8>>>>,
}

impl World for Drawn {
    fn may(&mut self, _: &Effect) -> Result<(), Code> {
        self.asked += 1;
        match drawn("may", self.number + (self.asked << 40))[0] {
            0..10 => Err(Code::Forbidden),
            _ => Ok(()),
        }
    }

    fn recall(&mut self, query: &str) -> Answer {
        let drawn = drawn(query, self.number);
        match drawn[0] {
            0..30 => Err(Code::Unavailable),
            len => Ok(drawn[..usize::from(len % 20)].to_vec()),
        }
    }

    fn kv_get(&mut self, key: &[u8]) -> Answer {
        let kept = self.kept.lock().expect("nobody has panicked");
        kept.get(key).cloned().ok_or(Code::NotFound)
    }

    fn infer(&mut self, _: &str) -> Answer {
        Err(Code::Unavailable)
    }
}

/// Agents of one kind, and what they wake to.
struct Folk {
    kind: Arc<Kind>,
    agents: Vec<Life>,
    input: fn(u64) -> (&'static str, Vec<u8>),
}

struct Life {
    agent: Agent,
    seq: u64,
    state: Vec<u8>,
    kept: Arc<Mutex<BTreeMap<Vec<u8>, Vec<u8>>>>,
}

impl Folk {
    fn of(module: &[u8], engine: &dyn Engine, input: fn(u64) -> (&'static str, Vec<u8>)) -> Self {
        let topics = ["alerts", "sensor", "results", "agreed", "signals", "echo"];
        let topics: Vec<String> = topics.iter().map(|&topic| topic.into()).collect();
        let profile = Profile::of(module).expect("an agent");
        let manifest = Manifest {
            name: "folk".into(),
            module: profile.hash,
            imports: Imports::USUAL,
            publishes: topics.clone(),
            follows: topics.clone(),
            remembers: topics,
            budget: Budget::USUAL,
            rate: Rate::USUAL,
            kv_bytes: 4_096,
            not_after: u64::MAX,
            attest: None,
        };
        let granted = Granted::sign(&Keys::from_secret(&[1; 32]), manifest.clone());
        let (manifest, loaded) = (Arc::new(manifest), engine.load(module, &profile));
        let loaded = loaded.expect("loads");
        let life = |number: u64| Life {
            agent: Agent {
                id: digest("attested", &[module, &number.to_be_bytes()]),
                manifest: manifest.clone(),
                loaded: loaded.clone(),
            },
            seq: 0,
            state: Vec::new(),
            kept: Arc::default(),
        };
        Self {
            kind: Arc::new(Kind::new(granted, module.to_vec()).expect("its own")),
            agents: (0..AGENTS).map(life).collect(),
            input,
        }
    }

    /// One of them wakes to something. `None` if it takes that back.
    fn step(&mut self, number: u64) -> Option<Step> {
        let drawn = drawn("wake", number);
        let (topic, mut body) = (self.input)(number);
        if drawn[2] < 8 {
            body = drawn[4..usize::from(4 + drawn[3] % 28)].to_vec();
        }
        let cause = match (drawn[0] % 16, topic.is_empty()) {
            (0, _) => Cause::Timer,
            (1, _) => Cause::Invocation,
            (_, true) => Cause::Message,
            (_, false) => Cause::Publication,
        };
        let wakeup = Wakeup {
            cause,
            from: (drawn[1] > 20).then_some([drawn[1] % 5; 32]),
            topic: topic.into(),
            stamp: 1_700_000_000_000 + number * 1_000,
            body,
        };
        let life = &mut self.agents[(number % AGENTS) as usize];
        let (asked, kept) = (0, life.kept.clone());
        let world = Box::new(Drawn {
            number,
            asked,
            kept,
        });
        let woken = life.agent.wake(life.seq, life.state.clone(), wakeup, world);
        let step = match woken {
            Ok(step) => step,
            Err(Failed::Refused { .. }) => return None,
            Err(why) => panic!("input {number}: {why}"),
        };
        life.state.clone_from(&step.after);
        life.seq += 1;
        let mut kept = life.kept.lock().expect("nobody has panicked");
        for effect in &step.effects {
            if let Effect::Keep { key, value } = effect {
                kept.insert(key.clone(), value.clone());
            }
        }
        Some(step)
    }
}

fn bytes(value: impl minicbor::Encode<()>) -> Vec<u8> {
    minicbor::to_vec(value).expect("a vector takes any encoding")
}

fn folks(engine: &dyn Engine) -> Vec<Folk> {
    let asker = wat::parse_str(ASKER).expect("good text");
    vec![
        Folk::of(SENSOR, engine, |number| {
            let drawn = drawn("reading", number);
            let reading = match drawn[2] {
                0..3 => 5_000,
                _ => 100 + i64::from(drawn[3] % 8),
            };
            ("", bytes(reading))
        }),
        Folk::of(WORKER, engine, |number| {
            let task = (number / 64).to_be_bytes().to_vec();
            let (task, drawn) = (minicbor::bytes::ByteVec::from(task), drawn("vote", number));
            match drawn[0] % 2 {
                0 => (
                    "tasks",
                    bytes((task, minicbor::bytes::ByteVec::from(bytes([9_u64, 4, 1])))),
                ),
                _ => ("results", bytes((task, 4 + u64::from(drawn[1] / 200)))),
            }
        }),
        Folk::of(FORAGER, engine, |number| {
            let drawn = drawn("signal", number);
            (
                "signals",
                bytes((u64::from(drawn[4] % 6), u32::from(drawn[5]))),
            )
        }),
        Folk::of(ECHO, engine, |number| {
            ("echo", vec![7; (number % 60) as usize])
        }),
        Folk::of(&asker, engine, |number| {
            ("", vec![b'a'; (number % 50) as usize])
        }),
    ]
}

#[test]
fn every_engine_comes_to_the_same_and_finds_the_one_lie() {
    let count = std::env::var("AQUIFER_STEPS").map_or(3_000, |n| n.parse().expect("a number"));
    let folder = tempfile::tempdir().expect("a folder");
    let keys = Keys::from_secret(&[9; 32]);
    let room = LEDGER_MIN.max(count * 4_096);
    let mut ledger = Ledger::open(folder.path(), keys.clone(), room).expect("new");
    let jit = Jit::new().expect("room for a pool");
    let mut folks = folks(&jit);
    let (began, mut number, mut taken, mut batch) = (Instant::now(), 0, 0, Vec::new());
    let mut lie = None;
    while taken < count {
        let folk = &mut folks[(number / AGENTS % 5) as usize];
        number += 1;
        let Some(mut step) = folk.step(number) else {
            continue;
        };
        if taken == count / 2 {
            lie = Some((step.agent, step.seq));
            let place = step.after.len();
            match step.after.last_mut() {
                Some(byte) => *byte ^= 1,
                None => step.after.push(place as u8),
            }
        }
        batch.push((folk.kind.clone(), step));
        taken += 1;
        if batch.len() == BATCH_MAX || taken == count {
            ledger.append(&batch).expect("room");
            ledger.sync().expect("room");
            batch.clear();
        }
    }
    println!(
        "{count} steps of {number} wakes on wasmtime, signed for and on disk in {:.2?}: {} bytes",
        began.elapsed(),
        ledger.bytes()
    );
    let lie = lie.expect("there is a middle");
    for engine in [&jit as &dyn Engine, &Interpreter::new(), &Kernel] {
        let (began, mut checked, mut found) = (Instant::now(), 0, Vec::new());
        let mut checker = Checker::new(engine);
        for folk in &folks {
            let ids: BTreeSet<[u8; 32]> = folk.agents.iter().map(|life| life.agent.id).collect();
            let entries = ledger.last(usize::MAX, &|id| ids.contains(id));
            let entries = entries.expect("it reads");
            assert!(entries.len() as u64 > count / 10, "all kinds take part");
            for entry in entries {
                assert_eq!(folk.kind, entry.kind);
                assert_eq!(keys.public(), entry.proof.node);
                if let Err(wrong) = checker.check(&entry) {
                    found.push(((entry.step.agent, entry.step.seq), wrong));
                }
                checked += 1;
            }
        }
        assert_eq!(count, checked);
        let wrong = Wrong::Differs(Differs::State);
        assert_eq!(vec![(lie, wrong)], found, "on {}", engine.name());
        println!(
            "{checked} steps again on {:<8} in {:.2?}: all alike but step {} of one agent, the lie",
            engine.name(),
            began.elapsed(),
            lie.1
        );
    }
}

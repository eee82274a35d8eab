//! A step that ended well somewhere is taken again with more fuel than it had, since engines count differently;
//! and one that is stopped all the same proves nothing against whoever signed for it.

use aquifer_protocol::identity::Keys;
use aquifer_wasm::abi::{Cause, Imports, Wakeup};
use aquifer_wasm::desk::Quiet;
use aquifer_wasm::engine::Engine;
use aquifer_wasm::engine::interpreter::Interpreter;
use aquifer_wasm::engine::jit::Jit;
use aquifer_wasm::engine::kernel::Kernel;
use aquifer_wasm::kind::Kind;
use aquifer_wasm::ledger::{Checker, LEDGER_MIN, Ledger, Wrong};
use aquifer_wasm::manifest::{Budget, Granted, Manifest, Rate};
use aquifer_wasm::profile::Profile;
use aquifer_wasm::wake::{Agent, Step};
use std::sync::Arc;

/// Counts down from a hundred thousand, and then leaves a state.
const COUNTER: &str = r#"(module
    (memory (export "memory") 1 1)
    (global (export "MVA_STATE") i32 (i32.const 1024))
    (global (export "MVA_INBOX") i32 (i32.const 4096))
    (func (export "mva_abi") (result i32) (i32.const 1))
    (func (export "handle") (param i32 i32) (result i32) (local $left i32)
        (local.set $left (i32.const 100000))
        (loop $again
            (local.set $left (i32.sub (local.get $left) (i32.const 1)))
            (br_if $again (local.get $left)))
        (i32.store (i32.const 1024) (i32.const 4))
        (i32.const 0)))"#;

fn kind(module: &[u8], fuel: u64) -> Arc<Kind> {
    let manifest = Manifest {
        name: "counter".into(),
        module: *blake3::hash(module).as_bytes(),
        imports: Imports::NONE,
        publishes: vec![],
        follows: vec![],
        remembers: vec![],
        budget: Budget {
            fuel,
            ..Budget::USUAL
        },
        rate: Rate::USUAL,
        kv_bytes: 0,
        not_after: u64::MAX,
        attest: None,
    };
    let granted = Granted::sign(&Keys::from_secret(&[1; 32]), manifest);
    Arc::new(Kind::new(granted, module.to_vec()).expect("its own module"))
}

/// The step of an agent that is given so much fuel, if it ends well.
fn step(engine: &dyn Engine, kind: &Kind) -> Option<Step> {
    let profile = Profile::of(kind.module()).expect("an agent");
    let agent = Agent {
        id: kind.granted().agent(0),
        manifest: Arc::new(kind.granted().manifest.clone()),
        loaded: engine.load(kind.module(), &profile).expect("loads"),
    };
    let wakeup = Wakeup {
        cause: Cause::Message,
        from: None,
        topic: String::new(),
        stamp: 5,
        body: vec![],
    };
    agent.wake(0, Vec::new(), wakeup, Box::new(Quiet)).ok()
}

#[test]
fn who_counts_less_fuel_is_not_accused_by_who_counts_more() {
    let module = wat::parse_str(COUNTER).expect("good text");
    let engines: [Box<dyn Engine>; 3] = [
        Box::new(Jit::new().expect("this machine compiles")),
        Box::new(Interpreter::new()),
        Box::new(Kernel),
    ];
    let folder = tempfile::tempdir().expect("a folder");
    let ledger = Ledger::open(folder.path(), Keys::from_secret(&[9; 32]), LEDGER_MIN);
    let ledger = ledger.expect("a new ledger");
    for wakes in &engines {
        // The least that this engine needs, to a hundredth.
        let needs = (1..).map(|times| times * 10_000);
        let ends = |fuel: &u64| step(&**wakes, &kind(&module, *fuel)).is_some();
        let least = needs.take(200).find(ends).expect("it ends");
        let own = kind(&module, least);
        let entry = ledger.testify(&own, step(&**wakes, &own).expect("it ends"));
        for checks in &engines {
            let checked = Checker::new(&**checks).check(&entry);
            assert_eq!(Ok(()), checked, "{} by {}", wakes.name(), checks.name());
        }
        // What nobody can check accuses nobody.
        let starved = kind(&module, least / 50);
        let entry = ledger.testify(&starved, entry.step);
        for checks in &engines {
            let stopped = Checker::new(&**checks)
                .check(&entry)
                .expect_err("it is stopped");
            assert!(!stopped.is_proof(), "{stopped}");
        }
    }
}

#[test]
fn what_comes_to_something_else_is_proof_and_what_nobody_signed_is_none() {
    let module = wat::parse_str(COUNTER).expect("good text");
    let (engine, own) = (Interpreter::new(), kind(&module, 1_000_000));
    let folder = tempfile::tempdir().expect("a folder");
    let ledger = Ledger::open(folder.path(), Keys::from_secret(&[9; 32]), LEDGER_MIN);
    let ledger = ledger.expect("a new ledger");
    let mut lie = step(&engine, &own).expect("it ends");
    lie.after[0] ^= 1;
    let mut entry = ledger.testify(&own, lie);
    let mut checker = Checker::new(&engine);
    let wrong = checker.check(&entry).expect_err("it is a lie");
    assert!(matches!(wrong, Wrong::Differs(_)) && wrong.is_proof());
    entry.proof.node = [7; 32];
    let wrong = checker.check(&entry).expect_err("nobody signed");
    assert!(matches!(wrong, Wrong::Proof) && !wrong.is_proof());
}

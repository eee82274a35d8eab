//! Guests on all engines: what they do, what they are refused, and how the bad ones are stopped.
//!
//! Each test runs on wasmtime, on wasmi and on the kernel, and expects one outcome of all; every step that
//! is taken is taken again on each.

use aquifer_wasm::abi::{ANSWERS_MAX, BYTES_MAX, Cause, Code, FUEL_MAX, Import, Imports, Wakeup};
use aquifer_wasm::desk::{Answer, Effect, World};
use aquifer_wasm::engine::interpreter::Interpreter;
use aquifer_wasm::engine::jit::Jit;
use aquifer_wasm::engine::kernel::Kernel;
use aquifer_wasm::engine::{Engine, Trap};
use aquifer_wasm::manifest::{Budget, Manifest, Rate};
use aquifer_wasm::profile::{Profile, RefuseModule};
use aquifer_wasm::receipt::Receipt;
use aquifer_wasm::wake::{Agent, Differs, Failed, Step};
use std::sync::Arc;

/// A world that knows one value and forbids one topic.
struct Small;

impl World for Small {
    fn may(&mut self, effect: &Effect) -> Result<(), Code> {
        match effect {
            Effect::Publish { topic, .. } if topic == "plant/secret" => Err(Code::Forbidden),
            _ => Ok(()),
        }
    }

    fn recall(&mut self, query: &str) -> Answer {
        Ok(minicbor::to_vec([query]).expect("vec"))
    }

    fn kv_get(&mut self, key: &[u8]) -> Answer {
        match key {
            b"k" => Ok(b"kept".to_vec()),
            [0] => Ok(vec![7; 57_344]),
            _ => Err(Code::NotFound),
        }
    }

    fn infer(&mut self, _: &str) -> Answer {
        Err(Code::Unavailable)
    }
}

fn engines() -> Vec<Box<dyn Engine>> {
    let jit = Jit::new().expect("this machine has room for a pool");
    vec![
        Box::new(jit),
        Box::new(Interpreter::new()),
        Box::new(Kernel),
    ]
}

/// A module of the profile whose `handle` is `body`. Its state lies at 1,024 and its inbox at 4,096.
fn guest(imports: &str, body: &str) -> Vec<u8> {
    let text = format!(
        r#"(module {imports}
            (memory (export "memory") 1 1)
            (global (export "MVA_STATE") i32 (i32.const 1024))
            (global (export "MVA_INBOX") i32 (i32.const 4096))
            (func (export "mva_abi") (result i32) (i32.const 1))
            (data (i32.const 0) "plant/a") (data (i32.const 16) "plant/secret") (data (i32.const 32) "k")
            {body})"#
    );
    wat::parse_str(text).expect("good text")
}

const IMPORTS: &str = r#"
    (import "mva1" "publish" (func $publish (param i32 i32 i32 i32) (result i32)))
    (import "mva1" "kv_get" (func $kv_get (param i32 i32 i32 i32) (result i32)))
    (import "mva1" "kv_put" (func $kv_put (param i32 i32 i32 i32) (result i32)))
    (import "mva1" "recall" (func $recall (param i32 i32 i32 i32) (result i32)))
    (import "mva1" "random" (func $random (param i32 i32) (result i32)))
    (import "mva1" "now" (func $now (result i64)))
    (import "mva1" "log" (func $log (param i32 i32 i32) (result i32)))
    (import "mva1" "wake_after" (func $wake_after (param i32) (result i32)))"#;

fn manifest(module: &[u8]) -> Manifest {
    Manifest {
        name: "guest".into(),
        module: *blake3::hash(module).as_bytes(),
        imports: Imports::USUAL,
        publishes: vec!["plant".into()],
        follows: vec![],
        remembers: vec![],
        budget: Budget {
            fuel: 1_000_000,
            ..Budget::USUAL
        },
        rate: Rate::USUAL,
        kv_bytes: 4_096,
        not_after: u64::MAX,
        attest: None,
    }
}

fn wakeup(body: &[u8]) -> Wakeup {
    Wakeup {
        cause: Cause::Message,
        from: Some([3; 32]),
        topic: String::new(),
        stamp: 1_700_000_000_000,
        body: body.to_vec(),
    }
}

fn agents(module: &[u8], manifest: &Manifest) -> Vec<Agent> {
    let profile = Profile::of(module).expect("of the profile");
    let agent = |engine: Box<dyn Engine>| Agent {
        id: [5; 32],
        manifest: Arc::new(manifest.clone()),
        loaded: engine.load(module, &profile).expect("loads"),
    };
    engines().into_iter().map(agent).collect()
}

/// Wakes a guest on all engines: one outcome, and each repeats what the others did.
fn wakes(module: &[u8], manifest: &Manifest, state: &[u8]) -> Result<Step, Failed> {
    let agents = agents(module, manifest);
    let wake = |agent: &Agent| agent.wake(7, state.to_vec(), wakeup(b"hello"), Box::new(Small));
    let outcomes: Vec<_> = agents.iter().map(wake).collect();
    for other in &outcomes {
        match (&outcomes[0], other) {
            // Each engine has its own words for what went wrong.
            (
                Err(Failed::Trapped(Trap::Wrong { .. })),
                Err(Failed::Trapped(Trap::Wrong { .. })),
            ) => {}
            (one, other) => assert_eq!(one, other),
        }
    }
    for (agent, step) in agents.iter().zip(outcomes.iter().flatten()) {
        assert_eq!(Ok(()), agent.repeat(step));
    }
    outcomes.into_iter().next().expect("three engines")
}

fn does(body: &str) -> Result<Step, Failed> {
    let module = guest(
        IMPORTS,
        &format!(r#"(func (export "handle") (param i32 i32) (result i32) {body})"#),
    );
    wakes(&module, &manifest(&module), b"")
}

#[test]
fn a_guest_counts_in_its_state_and_speaks() {
    let body = r#"
        ;; state: one byte, how many inputs there were
        (i32.store (i32.const 1024) (i32.const 1))
        (i32.store8 (i32.const 1028) (i32.add (i32.load8_u (i32.const 1028)) (i32.const 1)))
        (call $publish (i32.const 0) (i32.const 7) (i32.const 1028) (i32.const 1))"#;
    let module = guest(
        IMPORTS,
        &format!(r#"(func (export "handle") (param i32 i32) (result i32) {body})"#),
    );
    let manifest = manifest(&module);
    let mut state = Vec::new();
    for count in 1..=3 {
        let step = wakes(&module, &manifest, &state).expect("ends well");
        assert_eq!(vec![count], step.after);
        let (topic, data) = ("plant/a".to_owned(), vec![count]);
        assert_eq!(vec![Effect::Publish { topic, data }], step.effects);
        state = step.after;
    }
}

#[test]
fn what_is_not_granted_or_lawful_is_refused_and_the_wake_goes_on() {
    let secret = does(
        "(call $publish (i32.const 16) (i32.const 12) (i32.const 0) (i32.const 1)) (i32.const 0) (i32.sub) (i32.const -1) (i32.mul)",
    );
    let step = secret.expect("it goes on");
    assert_eq!((6, true), (step.code, step.effects.is_empty()));
    let module = guest(
        IMPORTS,
        r#"(func (export "handle") (param i32 i32) (result i32)
        (i32.mul (i32.const -1) (call $publish (i32.const 0) (i32.const 7) (i32.const 0) (i32.const 1))))"#,
    );
    let none = Manifest {
        imports: Imports::NONE.with(Import::Log),
        ..manifest(&module)
    };
    assert_eq!(7, wakes(&module, &none, b"").expect("goes on").code);
    let elsewhere = Manifest {
        publishes: vec!["plan".into()],
        ..manifest(&module)
    };
    assert_eq!(7, wakes(&module, &elsewhere, b"").expect("goes on").code);
}

#[test]
fn what_it_asks_is_answered_and_kept() {
    let step = does(
        "(drop (call $recall (i32.const 0) (i32.const 7) (i32.const 2000) (i32.const 100)))
         (drop (call $kv_put (i32.const 32) (i32.const 1) (i32.const 0) (i32.const 5)))
         (call $kv_get (i32.const 32) (i32.const 1) (i32.const 2000) (i32.const 5))",
    );
    let step = step.expect("ends well");
    // It reads what it wrote itself, not what the world has.
    assert_eq!((5, 2), (step.code, step.answers.len()));
    let short = does(
        "(i32.mul (i32.const -1) (call $kv_get (i32.const 32) (i32.const 1) (i32.const 2000) (i32.const 3)))",
    );
    assert_eq!(3, short.expect("goes on").code);
}

#[test]
fn chance_and_time_are_those_of_the_wake() {
    let body = "(drop (call $random (i32.const 1028) (i32.const 16)))
         (i64.store (i32.const 1044) (call $now))
         (i32.store (i32.const 1024) (i32.const 24)) (i32.const 0)";
    let (one, other) = (does(body).expect("well"), does(body).expect("well"));
    assert_eq!(one.after, other.after);
    assert_eq!(1_700_000_000_000_u64.to_le_bytes(), one.after[16..24]);
    assert!(one.after[..16].iter().any(|byte| *byte != 0));
}

#[test]
fn a_guest_that_takes_back_does_nothing() {
    let refused = does(
        "(drop (call $publish (i32.const 0) (i32.const 7) (i32.const 0) (i32.const 1))) (i32.const -4)",
    );
    assert_eq!(Err(Failed::Refused { code: -4 }), refused);
}

#[test]
fn hostile_guests_are_stopped() {
    let trapped = |body: &str| match does(body) {
        Err(Failed::Trapped(trap)) => trap,
        other => panic!("{other:?}"),
    };
    let fuel = 1_000_000;
    assert_eq!(
        Trap::OutOfFuel { fuel },
        trapped("(loop (br 0)) (i32.const 0)")
    );
    let flood =
        "(loop (drop (call $log (i32.const 0) (i32.const 0) (i32.const 0))) (br 0)) (i32.const 0)";
    assert_eq!(Trap::Overspent { calls: 256 }, trapped(flood));
    assert!(matches!(trapped("unreachable"), Trap::Wrong { .. }));
    assert!(matches!(
        trapped("(i32.load (i32.const 65536))"),
        Trap::Wrong { .. }
    ));
    assert!(matches!(
        trapped("(i32.div_s (i32.const 1) (i32.const 0))"),
        Trap::Wrong { .. }
    ));
    let long = "(i32.store (i32.const 1024) (i32.const 1025)) (i32.const 0)";
    assert_eq!(Trap::State { len: 1_025 }, trapped(long));
    // It does something and then goes wrong: nothing was done.
    let late = "(drop (call $publish (i32.const 0) (i32.const 7) (i32.const 0) (i32.const 1))) unreachable";
    assert!(matches!(trapped(late), Trap::Wrong { .. }));
    // Memory never grows: the page is all there is.
    assert_eq!(
        5,
        does("(i32.add (memory.grow (i32.const 1)) (i32.const 6))")
            .expect("well")
            .code
    );
}

#[test]
fn a_flood_of_output_is_cut_off_and_told() {
    let step = does(
        "(local $n i32) (local $code i32)
         (loop $more
           (local.set $code (call $publish (i32.const 0) (i32.const 7) (i32.const 0) (i32.const 60000)))
           (local.set $n (i32.add (local.get $n) (i32.const 1)))
           (br_if $more (i32.lt_u (local.get $n) (i32.const 200))))
         (i32.mul (local.get $code) (i32.const -1))",
    );
    let step = step.expect("it goes on");
    assert_eq!((4, 1), (step.code, step.effects.len()));
}

/// Whatever a manifest gives and the world says, a step has bounds, and so a frame of a journal.
#[test]
fn a_step_is_bounded_whatever_is_granted_and_answered() {
    let module = guest(
        IMPORTS,
        r#"(func (export "handle") (param i32 i32) (result i32) (local $n i32)
            (loop $more
                (drop (call $kv_get (i32.const 33) (i32.const 1) (i32.const 8192) (i32.const 57344)))
                (drop (call $publish (i32.const 0) (i32.const 7) (i32.const 8192) (i32.const 10000)))
                (local.set $n (i32.add (local.get $n) (i32.const 1)))
                (br_if $more (i32.lt_u (local.get $n) (i32.const 400))))
            (i32.const 0))"#,
    );
    let greedy = Manifest {
        budget: Budget {
            fuel: u64::MAX,
            calls: u32::MAX,
            bytes: u32::MAX,
        },
        ..manifest(&module)
    };
    let step = wakes(&module, &greedy, b"").expect("it goes on");
    let answered: usize = step.answers.iter().flatten().map(Vec::len).sum();
    assert!(
        (ANSWERS_MAX - 57_344..=ANSWERS_MAX).contains(&answered),
        "{answered}"
    );
    assert_eq!(Some(&Err(Code::TooLarge)), step.answers.last());
    assert_eq!(BYTES_MAX as usize / 10_040, step.effects.len());
    let forever = guest(
        IMPORTS,
        r#"(func (export "handle") (param i32 i32) (result i32) (loop (br 0)) (i32.const 0))"#,
    );
    let greedy = Manifest {
        module: *blake3::hash(&forever).as_bytes(),
        ..greedy
    };
    let fuel = FUEL_MAX;
    let stopped = Err(Failed::Trapped(Trap::OutOfFuel { fuel }));
    assert_eq!(stopped, wakes(&forever, &greedy, b""));
}

#[test]
fn one_that_calls_itself_is_stopped_before_it_hurts() {
    let module = guest(
        "",
        r#"(func $deep (param i32) (result i32) (i32.add (i32.const 1) (call $deep (local.get 0))))
           (func (export "handle") (param i32 i32) (result i32) (call $deep (i32.const 0)))"#,
    );
    for agent in agents(&module, &manifest(&module)) {
        let outcome = agent.wake(0, Vec::new(), wakeup(b""), Box::new(Small));
        let stopped = matches!(
            outcome,
            Err(Failed::Trapped(Trap::Stack | Trap::OutOfFuel { .. }))
        );
        assert!(stopped, "{outcome:?}");
    }
}

#[test]
fn what_is_no_agent_is_not_loaded() {
    let handle = r#"(func (export "handle") (param i32 i32) (result i32) (i32.const 0))"#;
    let why = |module: &[u8]| Profile::of(module).expect_err("no agent");
    let good = guest("", handle);
    assert_eq!(Imports::NONE, Profile::of(&good).expect("good").imports);
    for place in 0..good.len() {
        let _ = Profile::of(&good[..place]);
        let mut bad = good.clone();
        bad[place] ^= 0x55;
        let _ = Profile::of(&bad);
    }
    let floats = guest(
        "",
        r#"(func (export "handle") (param i32 i32) (result i32) (i32.trunc_f32_s (f32.const 1)))"#,
    );
    assert!(matches!(why(&floats), RefuseModule::Invalid { .. }));
    let starts = guest("", &format!("{handle} (func $s) (start $s)"));
    assert!(matches!(why(&starts), RefuseModule::Invalid { .. }));
    let fork = guest(r#"(import "mva1" "fork" (func (result i32)))"#, handle);
    assert!(matches!(why(&fork), RefuseModule::Import { .. }));
    let wrong = guest(r#"(import "mva1" "now" (func (result i32)))"#, handle);
    assert!(matches!(why(&wrong), RefuseModule::Import { .. }));
    let wasi = guest(
        r#"(import "wasi_snapshot_preview1" "fd_write" (func (result i32)))"#,
        handle,
    );
    assert!(matches!(why(&wasi), RefuseModule::Import { .. }));
    let tables = guest("", &format!("{handle} (table 100000000 funcref)"));
    assert!(matches!(
        why(&tables),
        RefuseModule::Limit {
            what: "entries of a table",
            ..
        }
    ));
    let most = "(func)".repeat(513);
    assert!(matches!(
        why(&guest("", &format!("{handle} {most}"))),
        RefuseModule::Limit { .. }
    ));
    let long = format!("(func {})", "(drop (i32.const 1000000))".repeat(4_000));
    assert!(matches!(
        why(&guest("", &format!("{handle} {long}"))),
        RefuseModule::Limit { .. }
    ));
    let locals = guest(
        "",
        &format!("{handle} (func (local {}))", "i32 ".repeat(256)),
    );
    assert!(matches!(
        why(&locals),
        RefuseModule::Limit {
            what: "locals in one function",
            found: 256,
            ..
        }
    ));
    assert!(matches!(
        why(&vec![0; 70_000]),
        RefuseModule::TooLong { len: 70_000 }
    ));
    assert!(matches!(why(&guest("", "")), RefuseModule::Export { .. }));
    let text = r#"(module (memory (export "memory") 1 1)
        (global (export "MVA_STATE") i32 (i32.const 1024)) (global (export "MVA_INBOX") i32 (i32.const 1500))
        (func (export "mva_abi") (result i32) (i32.const 1)) HANDLE)"#;
    let overlap = wat::parse_str(text.replace("HANDLE", handle)).expect("good text");
    assert!(matches!(why(&overlap), RefuseModule::Region { .. }));
}

#[test]
fn a_step_that_was_tampered_with_is_found() {
    let module = guest(
        IMPORTS,
        r#"(func (export "handle") (param i32 i32) (result i32)
        (i32.store (i32.const 1024) (i32.const 1))
        (drop (call $publish (i32.const 0) (i32.const 7) (i32.const 4096) (local.get 1)))
        (i32.const 3))"#,
    );
    let manifest = manifest(&module);
    let step = wakes(&module, &manifest, b"").expect("well");
    let agent = agents(&module, &manifest).pop().expect("three");
    let repeat = |change: fn(&mut Step)| {
        let mut bad = step.clone();
        change(&mut bad);
        assert_ne!(
            Receipt::of(&step, manifest.module),
            Receipt::of(&bad, manifest.module)
        );
        agent.repeat(&bad)
    };
    assert_eq!(Err(Differs::State), repeat(|step| step.after[0] ^= 1));
    assert_eq!(
        Err(Differs::Code { had: 4, found: 3 }),
        repeat(|step| step.code = 4)
    );
    assert_eq!(
        Err(Differs::Effects { place: 0 }),
        repeat(|step| step.wakeup.body.push(0))
    );
    assert_eq!(
        Err(Differs::Effects { place: 0 }),
        repeat(|step| step.effects.clear())
    );
    assert!(matches!(
        repeat(|step| step.answers.push(Ok(vec![]))),
        Err(Differs::Answers { .. })
    ));
}

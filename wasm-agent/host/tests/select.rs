//! A comparison before `select`, on all engines: what an interpreter once got wrong.
//!
//! wasmi 2.0.0 drops the comparison of `select` if it is `i32.eqz`, or `i32.eq` or `i32.ne` with zero, of a
//! local, and reads a result that nobody wrote. Fuzzing our kernel against it found that; it is why the
//! interpreter is an older one (decision 0010). This holds for whichever comes next.

use aquifer_protocol::identity::digest;
use aquifer_wasm::abi::{Cause, Imports, Wakeup};
use aquifer_wasm::desk::{Desk, Quiet};
use aquifer_wasm::engine::interpreter::Interpreter;
use aquifer_wasm::engine::jit::Jit;
use aquifer_wasm::engine::kernel::Kernel;
use aquifer_wasm::engine::{Engine, Ran};
use aquifer_wasm::manifest::{Budget, Manifest, Rate};
use aquifer_wasm::profile::Profile;
use std::sync::Arc;

/// Runs a guest whose `handle` selects 5 or 9 by a test of how long its input is.
fn selects(test: &str, engine: &dyn Engine) -> Ran {
    let text = format!(
        r#"(module (memory (export "memory") 1 1)
            (global (export "MVA_STATE") i32 (i32.const 1024))
            (global (export "MVA_INBOX") i32 (i32.const 4096))
            (func (export "mva_abi") (result i32) (i32.const 1))
            (func $select (param i32 i32 i32) (result i32)
                (select (local.get 0) (local.get 1) ({test})))
            (func (export "handle") (param i32 i32) (result i32)
                (i32.add
                    (call $select (i32.const 5) (i32.const 9) (local.get 1))
                    (i32.mul (i32.const 100) (call $select (i32.const 5) (i32.const 9) (i32.const 0))))))"#
    );
    let module = wat::parse_str(text).expect("good text");
    let profile = Profile::of(&module).expect("an agent");
    let manifest = Manifest {
        name: "select".into(),
        module: digest("select", &[&module]),
        imports: Imports::NONE,
        publishes: vec![],
        follows: vec![],
        remembers: vec![],
        budget: Budget::USUAL,
        rate: Rate::USUAL,
        kv_bytes: 0,
        not_after: u64::MAX,
        attest: None,
    };
    let wakeup = Wakeup {
        cause: Cause::Message,
        from: None,
        topic: String::new(),
        stamp: 0,
        body: vec![],
    };
    let desk = Desk::new(Arc::new(manifest), (&[0; 32], 0), &wakeup, Box::new(Quiet));
    let loaded = engine.load(&module, &profile).expect("loads");
    loaded
        .run(&[], &[1, 2, 3], 1_000, desk)
        .1
        .expect("ends well")
}

#[test]
fn a_comparison_before_select_counts() {
    let (jit, interpreter) = (Jit::new().expect("room for a pool"), Interpreter::new());
    for (test, code) in [
        ("i32.eqz (local.get 2)", 509),
        ("i32.eq (local.get 2) (i32.const 0)", 509),
        ("i32.ne (local.get 2) (i32.const 0)", 905),
        ("i32.eq (local.get 2) (i32.const 3)", 905),
        ("local.get 2", 905),
    ] {
        for engine in [&jit as &dyn Engine, &interpreter, &Kernel] {
            assert_eq!(
                code,
                selects(test, engine).code,
                "{test} on {}",
                engine.name()
            );
        }
    }
}

//! Hostile guests: modules and manifests that a stranger might bring to hurt a node.
//!
//! Not here: how long they hold it up (`main`).

use aquifer_protocol::identity::Keys;
use aquifer_wasm::abi::Imports;
use aquifer_wasm::manifest::{Budget, Granted, Manifest, Rate};
use aquifer_wasm::profile::Profile;

/// Something that a stranger brings.
pub(crate) struct Guest {
    /// What it tries.
    pub(crate) name: &'static str,
    /// Its manifest, as it travels.
    pub(crate) manifest: Vec<u8>,
    /// Its module.
    pub(crate) module: Vec<u8>,
}

/// All that are tried, some of them in the worst of several forms.
pub(crate) fn all() -> Vec<Guest> {
    let worst = "(loop (br 0)) (i32.const 0)";
    let mut all = vec![
        woken("loop", worst),
        woken(
            "memory growth",
            "(loop (drop (memory.grow (i32.const 1))) (br 0)) (i32.const 0)",
        ),
        woken(
            "bulk copies",
            "(loop (memory.copy (i32.const 0) (i32.const 1) (i32.const 65000)) (br 0)) (i32.const 0)",
        ),
        woken(
            "divisions",
            "(local $n i64) (local.set $n (i64.const -9))
             (loop (local.set $n (i64.div_s (i64.const 0x7fffffffffffff1) (i64.or (local.get $n) (i64.const 1)))) (br 0))
             (i32.const 0)",
        ),
        woken(
            "call flood",
            "(loop (drop (call $log (i32.const 0) (i32.const 0) (i32.const 0))) (br 0)) (i32.const 0)",
        ),
        woken(
            "output flood",
            "(loop (drop (call $publish (i32.const 0) (i32.const 6) (i32.const 0) (i32.const 60000))) (br 0)) (i32.const 0)",
        ),
        woken(
            "asking flood",
            "(loop (drop (call $recall (i32.const 4096) (i32.const 16000) (i32.const 0) (i32.const 65536)))
                   (drop (call $random (i32.const 0) (i32.const 65536))) (br 0)) (i32.const 0)",
        ),
        woken(
            "deep recursion",
            "(loop (drop (call $deep (local.get 0))) (br 0)) (i32.const 0)",
        ),
        woken(
            "state over limit",
            "(i32.store (i32.const 1024) (i32.const 60000)) (i32.const 0)",
        ),
        woken(
            "trap at the end",
            "(drop (call $publish (i32.const 0) (i32.const 6) (i32.const 0) (i32.const 60000))) unreachable",
        ),
        woken(
            "clock abuse",
            "(local $n i32)
             (loop (drop (call $now)) (local.set $n (i32.add (local.get $n) (i32.const 1)))
                   (br_if 0 (i32.lt_u (local.get $n) (i32.const 200))))
             (drop (call $wake_after (i32.const 0))) (i32.const 0)",
        ),
    ];
    let table = text("(table 100000000 funcref)", "(i32.const 0)");
    all.push(of("table bomb", wat::parse_str(table).expect("good text")));
    all.push(of("huge module", vec![0; 1 << 20]));
    let mut forged = woken("forged grant", worst);
    let end = forged.manifest.len() - 1;
    forged.manifest[end] ^= 1;
    all.push(forged);
    all.push(of("slow: a long chain", filled(chain)));
    all.push(of("slow: loops", filled(loops)));
    all.push(of("slow: branch tables", filled(tables)));
    all.push(of("slow: nested arms", filled(nested)));
    all.push(of("slow: calls", filled(calls)));
    all
}

/// One that reckons until its fuel is used up: loads, stores, shifts and multiplications, as a checksum.
pub(crate) fn honest() -> Guest {
    woken(
        "honest",
        "(local $n i64)
         (loop (local.set $n (i64.rotl (i64.mul (i64.xor (local.get $n)
                   (i64.load (i32.and (i32.wrap_i64 (local.get $n)) (i32.const 0xfff8))))
                   (i64.const 0x9e3779b97f4a7c15)) (i64.const 17)))
               (i64.store (i32.and (i32.wrap_i64 (local.get $n)) (i32.const 0xfff8)) (local.get $n))
               (br 0)) (i32.const 0)",
    )
}

/// One whose `handle` is `body`.
fn woken(name: &'static str, body: &str) -> Guest {
    of(name, wat::parse_str(text("", body)).expect("good text"))
}

fn of(name: &'static str, module: Vec<u8>) -> Guest {
    let manifest = manifest(name, *blake3::hash(&module).as_bytes(), "honest");
    Guest {
        name,
        manifest: manifest.as_bytes().to_vec(),
        module,
    }
}

/// A manifest that grants all that may be.
pub(crate) fn manifest(name: &str, module: [u8; 32], topic: &str) -> Granted {
    let manifest = Manifest {
        name: name.into(),
        module,
        imports: Imports::USUAL,
        publishes: vec![topic.into(), "sensor".into(), "alerts".into()],
        follows: vec![],
        remembers: vec![topic.into(), "sensor".into()],
        budget: Budget {
            fuel: u64::MAX,
            calls: u32::MAX,
            bytes: u32::MAX,
        },
        rate: Rate {
            wakes: u32::MAX,
            messages: u32::MAX,
            bytes: u32::MAX,
        },
        kv_bytes: 1 << 20,
        not_after: u64::MAX,
        attest: None,
    };
    Granted::sign(&Keys::from_secret(&[6; 32]), manifest)
}

fn text(more: &str, body: &str) -> String {
    format!(
        r#"(module
        (import "mva1" "publish" (func $publish (param i32 i32 i32 i32) (result i32)))
        (import "mva1" "recall" (func $recall (param i32 i32 i32 i32) (result i32)))
        (import "mva1" "random" (func $random (param i32 i32) (result i32)))
        (import "mva1" "now" (func $now (result i64)))
        (import "mva1" "log" (func $log (param i32 i32 i32) (result i32)))
        (import "mva1" "wake_after" (func $wake_after (param i32) (result i32)))
        (memory (export "memory") 1 1) {more}
        (global (export "MVA_STATE") i32 (i32.const 1024))
        (global (export "MVA_INBOX") i32 (i32.const 4096))
        (data (i32.const 0) "honest")
        (func (export "mva_abi") (result i32) (i32.const 1))
        (func $deep (param i32) (result i32) (local i64 i64 i64 i64)
            (i32.add (i32.const 1) (call $deep (local.get 0))))
        (func (export "handle") (param i32 i32) (result i32) {body}))"#
    )
}

/// The largest module of the profile of functions that `body` makes as long as is asked.
fn filled(body: fn(usize) -> String) -> Vec<u8> {
    let module = |len, count| {
        let function = format!("(func (local {}) {})", "i64 ".repeat(LIVE), body(len));
        let text = text(&function.repeat(count), "(i32.const 0)");
        let module = wat::parse_str(text).expect("good text");
        Profile::of(&module).is_ok().then_some(module)
    };
    let largest = |fits: &dyn Fn(usize) -> bool| {
        let bits = (0..12).rev().map(|bit| 1 << bit);
        bits.fold(0, |len, bit| len + bit * usize::from(fits(len + bit)))
    };
    let len = largest(&|len| module(len, 1).is_some());
    let count = largest(&|count| module(len, count).is_some());
    module(len, count).expect("it was found to fit")
}

/// Locals that are alive all the time.
const LIVE: usize = 250;

/// Each value is made of one before and of one far back.
fn chain(len: usize) -> String {
    let one = |nth: usize| {
        let (to, from, other) = (nth % LIVE, (nth * 7 + 1) % LIVE, (nth * 13 + 5) % LIVE);
        format!("(local.set {to} (i64.mul (local.get {from}) (local.get {other})))")
    };
    (0..len).map(one).collect()
}

/// Loops around loops, each of which changes many locals.
fn loops(len: usize) -> String {
    let one = |nth: usize| {
        let from = (nth + 7) % LIVE;
        format!("(local.set {nth} (i64.add (local.get {from}) (i64.const 1)))")
    };
    let sets: String = (0..20).map(one).collect();
    let (open, close) = (
        format!("(loop {sets}"),
        "(br_if 0 (i64.eqz (local.get 9))))",
    );
    open.repeat(len) + &close.repeat(len)
}

/// Branch tables to many blocks, after each of which a value changes.
fn tables(len: usize) -> String {
    let depth = 60;
    let labels: String = (0..depth).map(|nth| format!("{nth} ")).collect();
    let sets = ") (local.set 3 (i64.mul (local.get 3) (local.get 7)))";
    let one = format!(
        "{}(br_table {labels} (i32.wrap_i64 (local.get 3))){}",
        "(block ".repeat(depth),
        sets.repeat(depth)
    );
    one.repeat(len)
}

/// Arms in arms that give values on.
fn nested(len: usize) -> String {
    let depth = 60;
    let one = format!(
        "(drop {} (i32.const 1) {})",
        "(if (result i32) (i32.wrap_i64 (local.get 3)) (then".repeat(depth),
        ") (else (i32.const 2)))".repeat(depth)
    );
    one.repeat(len)
}

/// Calls around which all locals are alive.
fn calls(len: usize) -> String {
    let one = |nth: usize| format!("(local.set {} (call $now))", nth % LIVE);
    let end = |nth: usize| format!("(drop (i64.eqz (local.get {nth})))");
    (0..len).map(one).chain((0..LIVE).map(end)).collect()
}

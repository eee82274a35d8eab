//! The ledger: what was signed for is there, is bounded, survives, and cannot be changed unseen.

use aquifer_protocol::identity::Keys;
use aquifer_wasm::abi::{Cause, Code, Imports, Wakeup};
use aquifer_wasm::desk::{Answer, Effect, World};
use aquifer_wasm::engine::Engine;
use aquifer_wasm::engine::interpreter::Interpreter;
use aquifer_wasm::kind::Kind;
use aquifer_wasm::ledger::{Checker, Entry, LEDGER_MIN, Ledger, LedgerFailure, Wrong};
use aquifer_wasm::manifest::{Budget, Granted, Manifest, Rate};
use aquifer_wasm::profile::Profile;
use aquifer_wasm::receipt::{Batch, Receipt};
use aquifer_wasm::sleepers::Sleepers;
use aquifer_wasm::wake::{Agent, Differs, Step};
use std::path::Path;
use std::sync::Arc;

/// Adds up its inputs in its state, with what is recalled and what is drawn, and says so.
const GUEST: &str = r#"(module
    (import "mva1" "publish" (func $publish (param i32 i32 i32 i32) (result i32)))
    (import "mva1" "recall" (func $recall (param i32 i32 i32 i32) (result i32)))
    (import "mva1" "random" (func $random (param i32 i32) (result i32)))
    (memory (export "memory") 1 1)
    (global (export "MVA_STATE") i32 (i32.const 1024))
    (global (export "MVA_INBOX") i32 (i32.const 4096))
    (data (i32.const 0) "sums")
    (func (export "mva_abi") (result i32) (i32.const 1))
    (func (export "handle") (param $at i32) (param $len i32) (result i32)
        (i32.store (i32.const 1024) (i32.const 16))
        (i32.store (i32.const 1028) (i32.add (i32.load (i32.const 1028))
            (i32.load8_u (i32.sub (i32.add (local.get $at) (local.get $len)) (i32.const 1)))))
        (drop (call $random (i32.const 1032) (i32.const 4)))
        (i32.store (i32.const 1036) (call $recall (i32.const 0) (i32.const 4) (i32.const 1040) (i32.const 4)))
        (drop (call $publish (i32.const 0) (i32.const 4) (i32.const 1028) (i32.const 4)))
        (i32.const 3)))"#;

struct Told;

impl World for Told {
    fn may(&mut self, _: &Effect) -> Result<(), Code> {
        Ok(())
    }

    fn recall(&mut self, _: &str) -> Answer {
        Ok(b"\x81\x61a".to_vec())
    }

    fn kv_get(&mut self, _: &[u8]) -> Answer {
        Err(Code::NotFound)
    }

    fn infer(&mut self, _: &str) -> Answer {
        Err(Code::Unavailable)
    }
}

fn granted(module: &[u8], publisher: u8) -> Granted {
    let manifest = Manifest {
        name: "sums".into(),
        module: *blake3::hash(module).as_bytes(),
        imports: Imports::USUAL,
        publishes: vec!["sums".into()],
        follows: vec![],
        remembers: vec![],
        budget: Budget::USUAL,
        rate: Rate::USUAL,
        kv_bytes: 0,
        not_after: 10_000_000,
        attest: None,
    };
    Granted::sign(&Keys::from_secret(&[publisher; 32]), manifest)
}

fn kind(publisher: u8) -> Arc<Kind> {
    let module = wat::parse_str(GUEST).expect("good text");
    let granted = granted(&module, publisher);
    Arc::new(Kind::new(granted, module).expect("its own module"))
}

fn keys() -> Keys {
    Keys::from_secret(&[9; 32])
}

fn wakeup(body: &[u8]) -> Wakeup {
    Wakeup {
        cause: Cause::Message,
        from: Some([2; 32]),
        topic: String::new(),
        stamp: 5_000,
        body: body.to_vec(),
    }
}

/// One agent of a kind, and the steps that it takes.
struct Life {
    kind: Arc<Kind>,
    agent: Agent,
    seq: u64,
    state: Vec<u8>,
}

impl Life {
    fn of(kind: &Arc<Kind>, id: u8) -> Self {
        let profile = Profile::of(kind.module()).expect("an agent");
        let loaded = Interpreter::new().load(kind.module(), &profile);
        Self {
            kind: kind.clone(),
            agent: Agent {
                id: [id; 32],
                manifest: Arc::new(kind.granted().manifest.clone()),
                loaded: loaded.expect("loads"),
            },
            seq: 0,
            state: Vec::new(),
        }
    }

    fn step(&mut self, body: &[u8]) -> (Arc<Kind>, Step) {
        let woken = self
            .agent
            .wake(self.seq, self.state.clone(), wakeup(body), Box::new(Told));
        let step = woken.expect("ends well");
        self.seq += 1;
        self.state.clone_from(&step.after);
        (self.kind.clone(), step)
    }

    fn steps(&mut self, count: u8) -> Vec<(Arc<Kind>, Step)> {
        (0..count).map(|number| self.step(&[number])).collect()
    }
}

fn open(folder: &Path) -> Ledger {
    Ledger::open(folder, keys(), LEDGER_MIN).expect("a good ledger")
}

fn all(ledger: &Ledger) -> Vec<Entry> {
    ledger.last(usize::MAX, &|_| true).expect("it reads")
}

fn steps(entries: &[Entry]) -> Vec<Step> {
    entries.iter().map(|entry| entry.step.clone()).collect()
}

fn only(steps: &[(Arc<Kind>, Step)]) -> Vec<Step> {
    steps.iter().map(|(_, step)| step.clone()).collect()
}

#[track_caller]
fn assert_good(entries: &[Entry]) {
    let engine = Interpreter::new();
    let mut checker = Checker::new(&engine);
    for entry in entries {
        assert_eq!(Ok(()), checker.check(entry));
        assert_eq!(keys().public(), entry.proof.node);
        assert_eq!(Some(entry), Entry::read(&entry.to_bytes()).as_ref());
        assert_eq!(Some(entry), checker.read(&entry.to_bytes()).as_ref());
    }
}

#[test]
fn what_was_appended_is_there_when_it_is_durable_and_checks() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut one, mut two) = (Life::of(&kind(1), 1), Life::of(&kind(2), 2));
    let mut ledger = open(folder.path());
    let mut taken = one.steps(3);
    taken.extend(two.steps(4));
    ledger.append(&taken).expect("room");
    assert!(all(&ledger).is_empty(), "nothing is durable");
    ledger.sync().expect("room");
    let more = one.steps(5);
    ledger.append(&more).expect("room");
    ledger.append(&[]).expect("nothing is no batch");
    ledger.sync().expect("room");
    taken.extend(more);
    for ledger in [open(folder.path()), ledger] {
        assert_eq!(only(&taken), steps(&all(&ledger)));
        assert_good(&all(&ledger));
        let second = ledger.last(3, &|id| *id == [2; 32]).expect("it reads");
        assert_eq!(only(&taken[4..7]), steps(&second));
        assert_eq!(*kind(2), *second[0].kind);
        let last = ledger.last(2, &|_| true).expect("it reads");
        assert_eq!(only(&taken[10..]), steps(&last));
        assert!(ledger.last(9, &|_| false).expect("it reads").is_empty());
    }
}

/// What travels bare is an entry for whoever has its kind, and for nobody else.
#[test]
fn what_was_appended_is_an_entry_at_once_and_travels_without_its_module() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut ledger = open(folder.path());
    let mut taken = Life::of(&kind(1), 1).steps(3);
    taken.extend(Life::of(&kind(2), 2).steps(2));
    let signed = ledger.append(&taken).expect("room");
    ledger.sync().expect("room");
    let kept = all(&ledger);
    for (place, (entry, (own, step))) in kept.iter().zip(&taken).enumerate() {
        assert_eq!(Some(entry), signed.entry(place, own, step).as_ref());
        let (bare, full) = (entry.to_bytes_bare(), entry.to_bytes());
        assert!(bare.len() + own.module().len() <= full.len());
        for bytes in [&bare, &full] {
            assert_eq!(Some(entry), Entry::read_of(bytes, own).as_ref());
            assert_eq!(None, Entry::read_of(bytes, &kind(3)));
            assert_eq!(None, Entry::read_of(&bytes[1..], own));
        }
        assert_eq!(None, Entry::read(&bare));
        let module_of = |hash: &[u8; 32]| {
            let has = blake3::hash(own.module()) == *hash;
            has.then(|| own.module().to_vec())
        };
        assert_eq!(Some(entry), Entry::read_bare(&bare, module_of).as_ref());
        assert_eq!(None, Entry::read_bare(&bare, |_| None));
        assert_eq!(None, Entry::read_bare(&full, module_of));
    }
    let (own, step) = &taken[0];
    assert_eq!(None, signed.entry(taken.len(), own, step));
    let second = |other: &Kind| other.granted().publisher == kind(2).granted().publisher;
    let second = ledger.last_of_kinds(9, &second).expect("it reads");
    assert_eq!(only(&taken[3..]), steps(&second));
    assert_good(&[ledger.testify(own, step.clone())]);
    ledger.sync().expect("room");
    assert_eq!(kept, all(&ledger), "what is testified is not kept");
}

#[test]
fn the_oldest_go_when_there_is_no_more_room() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut life = Life::of(&kind(1), 1);
    let mut ledger = open(folder.path());
    let (body, mut most) = (vec![1; 16_000], 0);
    for _ in 0..40 {
        let steps: Vec<_> = (0..70).map(|_| life.step(&body)).collect();
        ledger.append(&steps).expect("room");
        ledger.sync().expect("room");
        let files = std::fs::read_dir(folder.path()).expect("it is there");
        let lens = files.map(|file| file.expect("there").metadata().expect("there").len());
        let len: u64 = lens.sum();
        assert_eq!(ledger.bytes(), len);
        assert!(len <= LEDGER_MIN, "{len} bytes");
        most = most.max(len);
    }
    assert!(most > LEDGER_MIN * 4 / 5, "it uses its room: {most}");
    for ledger in [open(folder.path()), ledger] {
        let entries = all(&ledger);
        let first = life.seq - entries.len() as u64;
        assert!(
            first > 0 && entries.len() > 700,
            "{} entries",
            entries.len()
        );
        let numbers: Vec<u64> = entries.iter().map(|entry| entry.step.seq).collect();
        assert_eq!((first..life.seq).collect::<Vec<_>>(), numbers);
        assert_good(&entries[..80]);
    }
}

#[test]
fn a_batch_too_long_for_one_signature_has_several() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut life = Life::of(&kind(1), 1);
    let mut ledger = open(folder.path());
    let long: Vec<_> = (0..600).map(|_| life.step(&[1; 16_000])).collect();
    ledger.append(&long).expect("room");
    ledger.sync().expect("room");
    let many: Vec<_> = (0..1_500).map(|_| life.step(&[1])).collect();
    ledger.append(&many).expect("room");
    ledger.sync().expect("room");
    let entries = all(&ledger);
    let proofs = entries.iter().map(|entry| &entry.proof);
    let mut batches: Vec<_> = proofs.map(|proof| (proof.signature, proof.count)).collect();
    batches.dedup();
    let counts: Vec<usize> = batches.iter().map(|(_, count)| *count).collect();
    assert_eq!((5, vec![1_024, 476]), (counts.len(), counts[3..].to_vec()));
    assert_eq!(2_100, entries.len());
    assert_good(&entries[..300]);
}

#[test]
fn the_power_may_go_at_any_byte() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut life = Life::of(&kind(1), 1);
    let mut ledger = open(folder.path());
    let (mut taken, mut ends) = (Vec::new(), vec![(0, 0)]);
    for count in [1, 3, 2] {
        taken.extend(life.steps(count));
        let from = taken.len() - usize::from(count);
        ledger.append(&taken[from..]).expect("room");
        ledger.sync().expect("room");
        ends.push((ledger.bytes(), taken.len()));
    }
    drop(ledger);
    let path = folder.path().join(format!("{:016}.steps", 0));
    let whole = std::fs::read(&path).expect("it is there");
    let next = life.step(b"x");
    for cut in 0..=whole.len() {
        std::fs::write(&path, &whole[..cut]).expect("room");
        let mut ledger = open(folder.path());
        let kept = ends.iter().rfind(|(end, _)| *end <= cut as u64);
        let (_, kept) = kept.expect("the first is before all cuts");
        assert_eq!(only(&taken[..*kept]), steps(&all(&ledger)), "cut at {cut}");
        ledger.append(std::slice::from_ref(&next)).expect("room");
        ledger.sync().expect("room");
        let entries = all(&open(folder.path()));
        assert_eq!(kept + 1, entries.len(), "cut at {cut}");
        assert_eq!(next.1, entries[*kept].step);
        if cut % 16 == 0 {
            assert_good(&entries);
        }
    }
}

/// The power goes after the journal has a step and before the ledger has it: the step stands, there is a
/// gap, and no number has two receipts.
#[test]
fn a_step_that_the_ledger_missed_is_a_gap_and_is_not_signed_for_twice() {
    let folder = tempfile::tempdir().expect("a folder");
    let (journal, kind) = (folder.path().join("agents"), kind(1));
    let engine = Interpreter::new();
    let mut sleepers = Sleepers::open(&journal, &engine).expect("new");
    let (manifest, module) = (kind.granted().as_bytes(), kind.module());
    let hosted = sleepers.host((manifest, module), 1, 0, &engine);
    hosted.expect("a good manifest");
    sleepers.sync().expect("room");
    drop(sleepers);
    for number in 0..3_u8 {
        let mut sleepers = Sleepers::open(&journal, &engine).expect("good");
        assert!(sleepers.wake(|_| Box::new(Told)).is_none(), "none is left");
        let taken_on = sleepers.deliver(0, [number; 16], wakeup(&[number]));
        assert!(taken_on.expect("it lives here"));
        let woken = sleepers.wake(|_| Box::new(Told)).expect("an input");
        sleepers.sync().expect("room");
        // The second time, the power goes here.
        if number != 1 {
            let step = woken.outcome.expect("ends well");
            let mut ledger = open(&folder.path().join("ledger"));
            ledger.append(&[(kind.clone(), step)]).expect("room");
            ledger.sync().expect("room");
        }
    }
    let entries = all(&open(&folder.path().join("ledger")));
    let numbers: Vec<u64> = entries.iter().map(|entry| entry.step.seq).collect();
    assert_eq!(vec![0, 2], numbers);
    assert_good(&entries);
}

/// An entry in the middle of a batch.
fn entry() -> Entry {
    let folder = tempfile::tempdir().expect("a folder");
    let mut ledger = open(folder.path());
    let mut life = Life::of(&kind(1), 1);
    ledger.append(&life.steps(7)).expect("room");
    ledger.sync().expect("room");
    all(&ledger).swap_remove(4)
}

#[test]
fn every_bit_of_an_entry_is_held() {
    let (engine, entry) = (Interpreter::new(), entry());
    let mut checker = Checker::new(&engine);
    let bytes = entry.to_bytes();
    let mut read = 0;
    for place in 0..bytes.len() {
        for bit in 0..8 {
            let mut bad = bytes.clone();
            bad[place] ^= 1 << bit;
            let known = checker.read(&bad);
            assert_eq!(Entry::read(&bad), known);
            if let Some(bad) = known {
                assert_ne!(Ok(()), checker.check(&bad), "{place}.{bit}");
                read += 1;
            }
        }
        assert_eq!(None, Entry::read(&bytes[..place]));
    }
    assert_eq!(None, Entry::read(&[&bytes[..], &[0]].concat()));
    assert!(read > 3_000, "{read} read, and were found by the checker");
}

#[test]
fn what_was_changed_is_named() {
    let (engine, entry) = (Interpreter::new(), entry());
    let found = |change: &dyn Fn(&mut Entry)| {
        let mut bad = entry.clone();
        change(&mut bad);
        Checker::new(&engine)
            .check(&bad)
            .expect_err("it was changed")
    };
    type Change = fn(&mut Step);
    let changes: [(&str, Change); 8] = [
        ("the agent", |step| step.agent[0] ^= 1),
        ("the number of the step", |step| step.seq += 1),
        ("the input", |step| step.wakeup.stamp += 1),
        ("the state before", |step| step.before.clear()),
        ("the answers", |step| step.answers[0] = Err(Code::Quota)),
        ("the effects", |step| step.effects.clear()),
        ("the state after", |step| step.after[0] ^= 1),
        ("the code", |step| step.code += 1),
    ];
    for (what, change) in changes {
        assert_eq!(Wrong::Receipt { what }, found(&|bad| change(&mut bad.step)));
        // With a receipt to match, nobody has signed for it.
        let matching = found(&|bad| {
            change(&mut bad.step);
            bad.receipt = Receipt::of(&bad.step, bad.kind.hash());
        });
        assert_eq!(Wrong::Proof, matching);
    }
    let what = "the kind";
    assert_eq!(Wrong::Receipt { what }, found(&|bad| bad.kind = kind(2)));
    let proofs: [fn(&mut Entry); 5] = [
        |bad| bad.proof.place ^= 1,
        |bad| bad.proof.count += 1,
        |bad| bad.proof.node = Keys::from_secret(&[8; 32]).public(),
        |bad| bad.proof.signature[0] ^= 1,
        |bad| bad.proof.path[0][0] ^= 1,
    ];
    for change in proofs {
        assert_eq!(Wrong::Proof, found(&change));
    }
}

/// A node signs for what its agent did not do, or not from what it says: whoever takes the step again
/// finds out.
#[test]
fn a_node_that_signs_for_a_lie_is_found_out() {
    let (engine, entry) = (Interpreter::new(), entry());
    let lies = |change: &dyn Fn(&mut Step)| {
        let mut step = entry.step.clone();
        change(&mut step);
        let receipt = Receipt::of(&step, entry.kind.hash());
        let batch = Batch::sign(&keys(), &[receipt]);
        let lie = Entry {
            kind: entry.kind.clone(),
            step,
            receipt,
            proof: batch.proof(0).expect("one"),
        };
        assert_eq!(Some(&lie), Entry::read(&lie.to_bytes()).as_ref());
        match Checker::new(&engine).check(&lie) {
            Err(Wrong::Differs(differs)) => Some(differs),
            other => panic!("{other:?}"),
        }
    };
    let effects = Some(Differs::Effects { place: 0 });
    assert_eq!(Some(Differs::State), lies(&|step| step.agent[0] ^= 1));
    assert_eq!(Some(Differs::State), lies(&|step| step.seq += 1));
    assert_eq!(effects, lies(&|step| step.wakeup.body.push(200)));
    assert_eq!(effects, lies(&|step| step.before[0] ^= 1));
    assert_eq!(effects, lies(&|step| step.effects.clear()));
    assert_eq!(Some(Differs::State), lies(&|step| step.after[5] ^= 1));
    let shorter = |step: &mut Step| step.answers[0] = Ok(vec![0x80]);
    assert_eq!(Some(Differs::State), lies(&shorter));
    assert!(matches!(
        lies(&|step| step.answers.push(Ok(vec![]))),
        Some(Differs::Answers { .. })
    ));
    assert_eq!(
        Some(Differs::Code { had: 4, found: 3 }),
        lies(&|step| step.code = 4)
    );
    // It was taken after its manifest had run out.
    assert!(matches!(
        lies(&|step| step.wakeup.stamp = 10_000_001),
        Some(Differs::Failed(_))
    ));
}

#[test]
fn a_ledger_says_what_it_cannot_do() {
    let folder = tempfile::tempdir().expect("a folder");
    let small = Ledger::open(folder.path(), keys(), LEDGER_MIN - 1);
    assert!(matches!(small, Err(LedgerFailure::Small { .. })));
    let mut ledger = open(folder.path());
    let mut life = Life::of(&kind(1), 1);
    let (kind, mut step) = life.step(b"x");
    step.after = vec![0; 2 << 20];
    let failed = ledger.append(&[(kind, step)]);
    assert!(matches!(failed, Err(LedgerFailure::Step { seq: 0, .. })));
    ledger.append(&[life.step(b"x")]).expect("room");
    ledger.sync().expect("room");
    drop(ledger);
    let file = folder.path().join(format!("{:016}.steps", 0));
    std::fs::write(file, b"something else").expect("room");
    let foreign = Ledger::open(folder.path(), keys(), LEDGER_MIN);
    assert!(matches!(foreign, Err(LedgerFailure::Segment(_))));
}

//! Sleepers: what is taken on is handled once, whenever the power goes.

use aquifer_protocol::identity::Keys;
use aquifer_wasm::abi::{Cause, Code, Import, Imports, Wakeup};
use aquifer_wasm::desk::{Effect, Quiet, World};
use aquifer_wasm::engine::interpreter::Interpreter;
use aquifer_wasm::manifest::{Budget, Granted, Manifest, Rate};
use aquifer_wasm::sleepers::{HostFailure, Owed, Sleepers};
use aquifer_wasm::wake::Failed;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Barrier};

/// Counts its inputs in its state, says how many there were, keeps the last one, and asks to be woken a
/// second later. It goes wrong at an input that begins with `!`, after it has done all that.
const COUNTER: &str = r#"(module
    (import "mva1" "publish" (func $publish (param i32 i32 i32 i32) (result i32)))
    (import "mva1" "kv_put" (func $kv_put (param i32 i32 i32 i32) (result i32)))
    (import "mva1" "wake_after" (func $wake_after (param i32) (result i32)))
    (memory (export "memory") 1 1)
    (global (export "MVA_STATE") i32 (i32.const 1024))
    (global (export "MVA_INBOX") i32 (i32.const 4096))
    (data (i32.const 0) "count") (data (i32.const 16) "last")
    (func (export "mva_abi") (result i32) (i32.const 1))
    (func (export "handle") (param $at i32) (param $len i32) (result i32)
        (i32.store (i32.const 1024) (i32.const 4))
        (i32.store (i32.const 1028) (i32.add (i32.load (i32.const 1028)) (i32.const 1)))
        (drop (call $publish (i32.const 0) (i32.const 5) (i32.const 1028) (i32.const 4)))
        (drop (call $kv_put (i32.const 16) (i32.const 4) (local.get $at) (local.get $len)))
        (drop (call $wake_after (i32.const 1000)))
        (if (i32.eq (i32.load8_u (i32.sub (i32.add (local.get $at) (local.get $len)) (i32.const 1))) (i32.const 33))
            (then unreachable))
        (i32.const 0)))"#;

fn counter(rate: Rate) -> (Vec<u8>, Vec<u8>) {
    let module = wat::parse_str(COUNTER).expect("good text");
    (manifest(&module, rate), module)
}

fn manifest(module: &[u8], rate: Rate) -> Vec<u8> {
    granting(module, Imports::USUAL, rate)
}

fn granting(module: &[u8], imports: Imports, rate: Rate) -> Vec<u8> {
    let manifest = Manifest {
        name: "counter".into(),
        module: *blake3::hash(module).as_bytes(),
        imports,
        publishes: vec!["count".into()],
        follows: vec![],
        remembers: vec![],
        budget: Budget::USUAL,
        rate,
        kv_bytes: 256,
        not_after: 10_000_000,
        attest: None,
    };
    let granted = Granted::sign(&Keys::from_secret(&[1; 32]), manifest);
    granted.as_bytes().to_vec()
}

fn input(stamp: u64, body: &[u8]) -> Wakeup {
    Wakeup {
        cause: Cause::Message,
        from: Some([2; 32]),
        topic: String::new(),
        stamp,
        body: body.to_vec(),
    }
}

fn id(number: u8) -> [u8; 16] {
    [number; 16]
}

fn open(path: &Path) -> Sleepers {
    Sleepers::open(path, &Interpreter::new()).expect("a good journal")
}

/// A journal with `copies` counters.
fn begun(path: &Path, copies: u32, rate: Rate) -> Sleepers {
    let mut sleepers = open(path);
    let (manifest, module) = counter(rate);
    let hosted = sleepers.host((&manifest, &module), copies, 0, &Interpreter::new());
    assert_eq!(0, hosted.expect("a good manifest"));
    sleepers
}

fn wakes_all(sleepers: &mut Sleepers) -> usize {
    std::iter::from_fn(|| sleepers.wake(|_| Box::new(Quiet))).count()
}

fn count(owed: &Owed) -> u32 {
    let [Effect::Publish { data, .. }] = &owed.effects[..] else {
        panic!("{owed:?}");
    };
    u32::from_le_bytes(data[..].try_into().expect("four bytes"))
}

#[test]
fn an_input_is_handled_once_and_told_when_it_is_durable() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("agents");
    let mut sleepers = begun(&path, 3, Rate::USUAL);
    assert!(
        sleepers
            .deliver(1, id(1), input(5, b"a"))
            .expect("it lives here")
    );
    assert!(
        !sleepers
            .deliver(1, id(1), input(5, b"a"))
            .expect("it lives here")
    );
    let nobody = sleepers.deliver(3, id(9), input(5, b"a"));
    assert!(matches!(nobody, Err(HostFailure::Nobody { agent: 3 })));
    assert_eq!(Some(&input(5, b"a")), sleepers.input(1, id(1)));
    assert_eq!(None, sleepers.input(0, id(1)), "it is not for that one");
    assert_eq!(1, wakes_all(&mut sleepers));
    assert_eq!(None, sleepers.input(1, id(1)), "it is handled");
    assert!(sleepers.owed().is_empty(), "nothing is durable");
    let owed = sleepers.sync().expect("room");
    assert_eq!((1, 1, 0), (owed.len(), owed[0].agent, owed[0].seq));
    assert_eq!(sleepers.id(1).expect("it lives here"), owed[0].id);
    drop(sleepers);
    // After a restart it is owed still, and the input is known.
    let mut sleepers = open(&path);
    assert_eq!(owed, sleepers.owed());
    assert!(
        !sleepers
            .deliver(1, id(1), input(5, b"a"))
            .expect("it lives here")
    );
    sleepers.done(1, 0);
    assert!(sleepers.sync().expect("room").is_empty() && sleepers.owed().is_empty());
    assert_eq!(0, wakes_all(&mut open(&path)));
}

#[test]
fn timers_wake_agents_and_what_goes_wrong_leaves_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("agents");
    let mut sleepers = begun(&path, 2, Rate::USUAL);
    sleepers
        .deliver(0, id(1), input(5_000, b"a"))
        .expect("it lives here");
    sleepers
        .deliver(1, id(2), input(5_000, b"oh!"))
        .expect("it lives here");
    let first = sleepers.wake(|_| Box::new(Quiet)).expect("an input");
    assert!(first.outcome.is_ok());
    let second = sleepers.wake(|_| Box::new(Quiet)).expect("an input");
    assert!(
        matches!(second.outcome, Err(Failed::Trapped(_))),
        "{second:?}"
    );
    assert_eq!(Some((&[][..], 0)), sleepers.state(1));
    assert_eq!(1, sleepers.sync().expect("room").len());
    for mut sleepers in [open(&path), sleepers] {
        assert_eq!((0, 1), (sleepers.tick(5_999), sleepers.tick(6_000)));
        assert_eq!((0, 1), (sleepers.tick(9_000), wakes_all(&mut sleepers)));
        assert_eq!(Some((&2_u32.to_le_bytes()[..], 2)), sleepers.state(0));
    }
}

#[test]
fn an_agent_over_its_rate_waits_for_another_minute_and_loses_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let rate = Rate {
        wakes: 2,
        ..Rate::USUAL
    };
    let mut sleepers = begun(&folder.path().join("agents"), 1, rate);
    for number in 0..5 {
        let stamp = 1_000 + u64::from(number);
        sleepers
            .deliver(0, id(number), input(stamp, b"a"))
            .expect("it lives here");
    }
    assert_eq!((2, 3), (wakes_all(&mut sleepers), sleepers.pending()));
    sleepers.tick(1_500);
    assert_eq!(0, wakes_all(&mut sleepers), "the same minute");
    // Two in each minute, the oldest first: three inputs and the timers that the agent asks for.
    for minute in 1..3 {
        sleepers.tick(minute * 60_000);
        assert_eq!(2, wakes_all(&mut sleepers), "minute {minute}");
    }
    assert_eq!(Some(6), sleepers.state(0).map(|(_, seq)| seq));
    for minute in 3..6 {
        sleepers.tick(minute * 60_000);
        wakes_all(&mut sleepers);
    }
    assert_eq!(0, sleepers.pending());
}

#[test]
fn a_journal_written_anew_says_the_same() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("agents");
    let mut sleepers = begun(&path, 50, Rate::USUAL);
    for number in 0..200 {
        sleepers
            .deliver(u32::from(number) % 40, id(number), input(5_000, b"abc"))
            .expect("here");
    }
    for _ in 0..150 {
        sleepers.wake(|_| Box::new(Quiet)).expect("an input");
    }
    sleepers.sync().expect("room");
    (0..10).for_each(|agent| sleepers.done(agent, 0));
    let (owed, before) = (sleepers.owed(), sleepers.journal_bytes());
    sleepers.rewrite().expect("room");
    assert!(sleepers.journal_bytes() < before);
    let mut again = open(&path);
    assert_eq!((owed, 50), (again.owed(), again.pending()));
    for agent in 0..50 {
        assert_eq!(sleepers.state(agent), again.state(agent));
    }
    assert!(
        !again.deliver(0, id(199), input(0, b"")).expect("here"),
        "it is known"
    );
    assert_eq!(wakes_all(&mut sleepers), wakes_all(&mut again));
    assert_eq!(sleepers.tick(7_000), again.tick(7_000));
}

#[test]
fn as_many_inputs_as_anybody_remembers_and_more_are_written_anew() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("agents");
    let mut sleepers = begun(&path, 1, Rate::USUAL);
    let id = |number: u64| u128::from(number).to_be_bytes();
    for number in 0..66_000 {
        sleepers
            .deliver(0, id(number), input(0, b""))
            .expect("here");
    }
    sleepers.rewrite().expect("room");
    let mut again = open(&path);
    assert_eq!(66_000, again.pending());
    assert!(
        !again.deliver(0, id(65_999), input(0, b"")).expect("here"),
        "it is known"
    );
    assert!(
        again.deliver(0, id(0), input(0, b"")).expect("here"),
        "it is forgotten"
    );
    assert!(
        again.deliver(0, id(66_000), input(0, b"")).expect("here"),
        "it is new"
    );
}

/// The power goes at every byte of the journal: whatever was cut off, what is left is whole. What was
/// durable before is there; no step is half; no input is lost or handled twice; and whoever goes on from
/// there comes to the same end.
#[test]
fn the_power_may_go_at_any_byte() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("agents");
    let mut sleepers = begun(&path, 3, Rate::USUAL);
    sleepers.sync().expect("room");
    // How long the journal was, and what had been acknowledged by then: inputs, and steps handed out.
    let mut promises = vec![(sleepers.journal_bytes(), 0_u8, BTreeSet::new())];
    let mut given = BTreeSet::new();
    for round in 0..3_u8 {
        for number in 0..3 {
            let number = round * 3 + number;
            let agent = u32::from(number) % 3;
            sleepers
                .deliver(agent, id(number), input(5_000, &[number]))
                .expect("here");
        }
        (0..2).for_each(|_| _ = sleepers.wake(|_| Box::new(Quiet)));
        given.extend(
            sleepers
                .sync()
                .expect("room")
                .iter()
                .map(|owed| (owed.agent, owed.seq)),
        );
        promises.push((sleepers.journal_bytes(), (round + 1) * 3, given.clone()));
    }
    drop(sleepers);
    let whole = std::fs::read(&path).expect("it is there");
    let from = promises[0].0 as usize;
    for cut in from..=whole.len() {
        std::fs::write(&path, &whole[..cut]).expect("room");
        let mut sleepers = open(&path);
        let kept = promises.iter().rfind(|(len, ..)| *len <= cut as u64);
        let (_, inputs, given) = kept.expect("the first is before all cuts");
        let owed: BTreeMap<_, _> = sleepers
            .owed()
            .into_iter()
            .map(|owed| ((owed.agent, owed.seq), owed))
            .collect();
        assert!(given.iter().all(|place| owed.contains_key(place)), "{cut}");
        // The sources say again what they do not know to be taken on, and more than that.
        for number in inputs.saturating_sub(4)..9 {
            let agent = u32::from(number) % 3;
            sleepers
                .deliver(agent, id(number), input(5_000, &[number]))
                .expect("here");
        }
        wakes_all(&mut sleepers);
        sleepers.sync().expect("room");
        let mut counts: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for owed in sleepers.owed() {
            counts.entry(owed.agent).or_default().push(count(&owed));
        }
        for agent in 0..3 {
            assert_eq!(vec![1, 2, 3], counts[&agent], "cut at {cut}");
            assert_eq!(Some((&3_u32.to_le_bytes()[..], 3)), sleepers.state(agent));
        }
    }
}

/// Loops as often as its input says.
const LOOPS: &str = r#"(module
    (memory (export "memory") 1 1)
    (global (export "MVA_STATE") i32 (i32.const 1024))
    (global (export "MVA_INBOX") i32 (i32.const 4096))
    (func (export "mva_abi") (result i32) (i32.const 1))
    (func (export "handle") (param $at i32) (param $len i32) (result i32) (local $n i32)
        (local.set $n (i32.load (i32.sub (i32.add (local.get $at) (local.get $len)) (i32.const 4))))
        (loop $more
            (local.set $n (i32.sub (local.get $n) (i32.const 1)))
            (br_if $more (local.get $n)))
        (i32.const 0)))"#;

#[test]
fn a_long_wake_holds_its_agent_and_nobody_once_it_is_over() {
    let folder = tempfile::tempdir().expect("a folder");
    let module = wat::parse_str(LOOPS).expect("good text");
    let manifest = manifest(&module, Rate::USUAL);
    let mut sleepers = open(&folder.path().join("agents"));
    let hosted = sleepers.host((&manifest, &module), 1, 0, &Interpreter::new());
    hosted.expect("a good manifest");
    let before = sleepers.whole(0).expect("it lives here");
    let deliver = |sleepers: &mut Sleepers, number: u8, times: u32| {
        let input = input(5, &times.to_le_bytes());
        let taken = sleepers.deliver(0, id(number), input);
        assert!(taken.expect("it lives here"));
    };
    let next = |sleepers: &mut Sleepers| loop {
        let woken = sleepers.wake(|_| Box::new(Quiet));
        if woken.is_some() || sleepers.slow() == 0 {
            return woken.map(|woken| (woken.input, woken.outcome.is_ok()));
        }
        std::thread::yield_now();
    };
    deliver(&mut sleepers, 1, 300_000);
    deliver(&mut sleepers, 2, 1);
    assert!(sleepers.wake(|_| Box::new(Quiet)).is_none());
    assert_eq!(1, sleepers.slow());
    assert_eq!(Some((id(1), true)), next(&mut sleepers));
    sleepers.tick(6);
    assert_eq!(Some((id(2), true)), next(&mut sleepers));
    // The agent is made anew while it is awake: what that wake comes to counts for nothing.
    deliver(&mut sleepers, 3, 300_000);
    assert!(sleepers.wake(|_| Box::new(Quiet)).is_none());
    sleepers.restore(0, &before).expect("its own bytes");
    assert_eq!(None, next(&mut sleepers));
    deliver(&mut sleepers, 4, 1);
    assert_eq!(Some((id(4), true)), next(&mut sleepers));
    assert_eq!(Some(1), sleepers.state(0).map(|(_, seq)| seq));
}

/// Asks a model about nothing, and keeps what it says as its state.
const ASKS: &str = r#"(module
    (import "mva1" "infer" (func $infer (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 1 1)
    (global (export "MVA_STATE") i32 (i32.const 1024))
    (global (export "MVA_INBOX") i32 (i32.const 4096))
    (func (export "mva_abi") (result i32) (i32.const 1))
    (func (export "handle") (param i32 i32) (result i32)
        (i32.store (i32.const 1024) (call $infer (i32.const 0) (i32.const 0) (i32.const 1028) (i32.const 64)))
        (i32.const 0)))"#;

/// A model that thinks until it is told to stop.
struct Thinks(Arc<Barrier>);

impl World for Thinks {
    fn may(&mut self, _: &Effect) -> Result<(), Code> {
        Ok(())
    }

    fn recall(&mut self, _: &str) -> Result<Vec<u8>, Code> {
        Err(Code::NotFound)
    }

    fn kv_get(&mut self, _: &[u8]) -> Result<Vec<u8>, Code> {
        Err(Code::NotFound)
    }

    fn infer(&mut self, _: &str) -> Result<Vec<u8>, Code> {
        self.0.wait();
        Ok(b"yes".to_vec())
    }

    fn deliberates(&self) -> bool {
        true
    }
}

#[test]
fn nobody_waits_for_an_agent_that_asks_a_model() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut sleepers = begun(&folder.path().join("agents"), 1, Rate::USUAL);
    let module = wat::parse_str(ASKS).expect("good text");
    let imports = Imports::NONE.with(Import::Infer);
    let manifest = granting(&module, imports, Rate::USUAL);
    let hosted = sleepers.host((&manifest, &module), 1, 0, &Interpreter::new());
    let asks = hosted.expect("a good manifest");
    let thought = Arc::new(Barrier::new(2));
    let taken = sleepers.deliver(asks, id(1), input(5, b""));
    assert!(taken.expect("it lives here"));
    let taken = sleepers.deliver(0, id(2), input(5, b"a"));
    assert!(taken.expect("it lives here"));
    let wakes = |sleepers: &mut Sleepers| sleepers.wake(|_| Box::new(Thinks(thought.clone())));
    let first = wakes(&mut sleepers).expect("the one that asks nobody");
    assert_eq!((0, 1), (first.agent, sleepers.slow()));
    thought.wait();
    let then = std::iter::repeat_with(|| wakes(&mut sleepers)).find_map(|woken| woken);
    let then = then.expect("it has heard the model");
    assert_eq!((asks, true), (then.agent, then.outcome.is_ok()));
    assert_eq!(Some((&b"yes"[..], 1)), sleepers.state(asks));
}

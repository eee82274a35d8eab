//! A host that may be killed at any moment: agents over a journal, an outbox for what they do, a ledger.
//!
//! It takes inputs as lines, acknowledges them when they are durable, wakes agents, does what durable
//! steps say, and signs for them, in this order. What is done is known by agent, step and place, so it is
//! done once however often it is asked for.
//!
//! Not here: who kills it and what must hold then (`main`).

use aquifer_protocol::identity::Keys;
use aquifer_wasm::abi::{Cause, Imports, Wakeup};
use aquifer_wasm::desk::{Effect, Quiet};
use aquifer_wasm::engine::interpreter::Interpreter;
use aquifer_wasm::kind::Kind;
use aquifer_wasm::ledger::{LEDGER_MIN, Ledger};
use aquifer_wasm::manifest::{Budget, Granted, Manifest, Rate};
use aquifer_wasm::sleepers::{Owed, Sleepers};
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};

/// Agents that live there.
pub(crate) const AGENTS: u32 = 8;

/// Counts its inputs and adds them up in its state; counts them as well in a value that it keeps; says all
/// three, and remembers something.
const GUEST: &str = r#"(module
    (import "mva1" "publish" (func $publish (param i32 i32 i32 i32) (result i32)))
    (import "mva1" "remember" (func $remember (param i32 i32 i32 i32) (result i32)))
    (import "mva1" "kv_get" (func $kv_get (param i32 i32 i32 i32) (result i32)))
    (import "mva1" "kv_put" (func $kv_put (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 1 1)
    (global (export "MVA_STATE") i32 (i32.const 1024))
    (global (export "MVA_INBOX") i32 (i32.const 4096))
    (data (i32.const 0) "count")
    (func (export "mva_abi") (result i32) (i32.const 1))
    (func (export "handle") (param $at i32) (param $len i32) (result i32)
        (i32.store (i32.const 1024) (i32.const 12))
        (i32.store (i32.const 1028) (i32.add (i32.load (i32.const 1028)) (i32.const 1)))
        (i64.store (i32.const 1032) (i64.add (i64.load (i32.const 1032))
            (i64.load32_u (i32.sub (i32.add (local.get $at) (local.get $len)) (i32.const 4)))))
        (drop (call $kv_get (i32.const 0) (i32.const 5) (i32.const 1040) (i32.const 4)))
        (i32.store (i32.const 1040) (i32.add (i32.load (i32.const 1040)) (i32.const 1)))
        (drop (call $kv_put (i32.const 0) (i32.const 5) (i32.const 1040) (i32.const 4)))
        (drop (call $publish (i32.const 0) (i32.const 5) (i32.const 1028) (i32.const 16)))
        (call $remember (i32.const 0) (i32.const 5) (i32.const 0) (i32.const 5))))"#;

/// What is known of something that was done: whose, by which step, and the how-manieth of that step.
pub(crate) type Place = (u32, u32, u32);

/// What was done: the 16 bytes that an agent said, or zeros for what it remembered.
pub(crate) type Done = [u8; 16];

/// One record of the outbox: a place and what was done.
const RECORD: usize = 28;

/// The kind of all agents here.
pub(crate) fn kind() -> Arc<Kind> {
    let module = wat::parse_str(GUEST).expect("good text");
    let manifest = Manifest {
        name: "count".into(),
        module: *blake3::hash(&module).as_bytes(),
        imports: Imports::USUAL,
        publishes: vec!["count".into()],
        follows: vec![],
        remembers: vec!["count".into()],
        budget: Budget::USUAL,
        rate: Rate {
            wakes: u32::MAX,
            messages: u32::MAX,
            bytes: u32::MAX,
        },
        kv_bytes: 256,
        not_after: u64::MAX,
        attest: None,
    };
    let granted = Granted::sign(&Keys::from_secret(&[1; 32]), manifest);
    Arc::new(Kind::new(granted, module).expect("its own module"))
}

/// The agents of a folder.
pub(crate) fn agents(folder: &Path) -> Sleepers {
    Sleepers::open(&folder.join("agents"), &Interpreter::new()).expect("a good journal")
}

/// The ledger of a folder.
pub(crate) fn ledger(folder: &Path) -> Ledger {
    let keys = Keys::from_secret(&[9; 32]);
    Ledger::open(&folder.join("ledger"), keys, LEDGER_MIN).expect("a good ledger")
}

/// What was done, once each: an outbox.
pub(crate) struct Outbox {
    file: File,
    /// All that is in it.
    pub(crate) done: BTreeMap<Place, Done>,
}

impl Outbox {
    /// The outbox of a folder. A record that was half written never was.
    pub(crate) fn open(folder: &Path) -> Self {
        let mut options = OpenOptions::new();
        let options = options.read(true).append(true).create(true);
        let mut file = options.open(folder.join("outbox")).expect("room");
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).expect("it reads");
        let (records, torn) = bytes.as_chunks::<RECORD>();
        file.set_len((bytes.len() - torn.len()) as u64)
            .expect("room");
        let mut done = BTreeMap::new();
        for record in records {
            let number = |at: usize| {
                let four = record[at..at + 4].try_into().expect("four bytes");
                u32::from_le_bytes(four)
            };
            let what = record[12..].try_into().expect("sixteen bytes");
            let twice = done.insert((number(0), number(4), number(8)), what);
            assert_eq!(None, twice, "an effect was written twice");
        }
        Self { file, done }
    }

    /// Does what a step says, as far as it is not done.
    fn does(&mut self, owed: &Owed) {
        for (nth, effect) in (0..).zip(&owed.effects) {
            let what = match effect {
                Effect::Publish { data, .. } => data[..].try_into().expect("sixteen bytes"),
                _ => [0; 16],
            };
            let place = (owed.agent, owed.seq, nth);
            match self.done.get(&place) {
                Some(before) => assert_eq!(what, *before, "one place, two effects"),
                None => {
                    let mut record = Vec::new();
                    for number in [owed.agent, owed.seq, nth] {
                        record.extend(number.to_le_bytes());
                    }
                    record.extend(what);
                    self.file.write_all(&record).expect("room");
                    self.done.insert(place, what);
                }
            }
        }
    }
}

/// Hosts the agents of a folder until there are no more lines.
pub(crate) fn hosts(folder: &Path) {
    let (mut sleepers, kind) = (agents(folder), kind());
    if sleepers.count() == 0 {
        let bytes = (kind.granted().as_bytes(), kind.module());
        let hosted = sleepers.host(bytes, AGENTS, 0, &Interpreter::new());
        hosted.expect("a good manifest");
    }
    let (mut outbox, mut ledger) = (Outbox::open(folder), ledger(folder));
    for owed in sleepers.owed() {
        outbox.does(&owed);
        sleepers.done(owed.agent, owed.seq);
    }
    let lines = lines();
    println!("up");
    loop {
        let mut last = None;
        // While there is nothing to do, it waits; then a few at once, as they come.
        let first = match sleepers.pending() {
            0 => lines.recv().ok(),
            _ => lines.try_recv().ok(),
        };
        for number in first.into_iter().chain(lines.try_iter().take(7)) {
            let id = u128::from(number).to_be_bytes();
            sleepers
                .deliver(number % AGENTS, id, input(number))
                .expect("it lives here");
            last = Some(number);
        }
        if last.is_none() && sleepers.pending() == 0 {
            break;
        }
        settles(&mut sleepers, &mut outbox);
        if let Some(last) = last {
            println!("ack {last}");
        }
        let woken = std::iter::from_fn(|| sleepers.wake(|_| Box::new(Quiet))).take(5);
        let woken: Vec<_> = woken
            .map(|woken| (kind.clone(), woken.outcome.expect("ends well")))
            .collect();
        settles(&mut sleepers, &mut outbox);
        // The journal has the steps; now they may be signed for.
        ledger.append(&woken).expect("room");
        ledger.sync().expect("room");
        if last.is_some_and(|last| last % 61 == 0) {
            sleepers.rewrite().expect("room");
        }
    }
    sleepers.sync().expect("room");
}

/// What happened is durable; what follows from it is done.
fn settles(sleepers: &mut Sleepers, outbox: &mut Outbox) {
    for owed in sleepers.sync().expect("room") {
        outbox.does(&owed);
        sleepers.done(owed.agent, owed.seq);
    }
}

/// The numbers that come in, as many as there is room for.
fn lines() -> Receiver<u32> {
    let (send, receive) = sync_channel(64);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            let number = line.parse().expect("a number");
            if send.send(number).is_err() {
                break;
            }
        }
    });
    receive
}

fn input(number: u32) -> Wakeup {
    Wakeup {
        cause: Cause::Message,
        from: None,
        topic: String::new(),
        stamp: 5_000 + u64::from(number),
        body: number.to_le_bytes().to_vec(),
    }
}

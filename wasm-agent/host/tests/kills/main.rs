//! A host of agents is killed at any moment, again and again, and goes on each time as if nothing had been.
//!
//! The host is a process, this program once more; it gets inputs, and is killed (SIGKILL) while it works.
//! After each kill, from what is on disk: every input that was acknowledged is there or was handled, in
//! order; no step is half; what was done follows from steps that are durable, once each; and what a node
//! has signed for is what its agents did. A kill that found nothing unfinished is void, and counted.
//!
//! `AQUIFER_KILLS` sets how many, 20 if it does not. The process's death is what is tried here, not the
//! machine's: what the system has written it has (`sleepers` and `ledger` cut files at every byte).

mod host;

use aquifer_protocol::identity::digest;
use aquifer_wasm::engine::interpreter::Interpreter;
use aquifer_wasm::ledger::{Checker, Entry};
use host::{AGENTS, Outbox};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

const TEST: &str = "a_host_that_is_killed_loses_nothing_and_does_nothing_twice";
const FOLDER: &str = "AQUIFER_KILLS_FOLDER";

/// Kills before a new folder is taken.
const LIVES: u64 = 50;
/// Inputs that are sent in one life at the most.
const INPUTS: u32 = 400;

/// How a process differs from the one before.
struct Drawn([u8; 32]);

impl Drawn {
    fn of(kill: u64) -> Self {
        Self(digest("kills", &[&kill.to_be_bytes()]))
    }

    fn below(&self, place: usize, most: u64) -> u64 {
        let bytes = self.0[place * 4..place * 4 + 4].try_into();
        u64::from(u32::from_be_bytes(bytes.expect("four bytes"))) % most
    }
}

/// What a source of inputs knows.
#[derive(Default)]
struct Source {
    /// All inputs below are acknowledged.
    acked: u32,
    /// Inputs below may have been sent.
    sent: u32,
}

#[test]
fn a_host_that_is_killed_loses_nothing_and_does_nothing_twice() {
    if let Some(folder) = std::env::var_os(FOLDER) {
        return host::hosts(Path::new(&folder));
    }
    let kills = std::env::var("AQUIFER_KILLS").map_or(20, |n| n.parse().expect("a number"));
    let (began, mut void, mut steps) = (Instant::now(), 0, 0);
    for first in (0..kills).step_by(LIVES as usize) {
        let folder = tempfile::tempdir().expect("a folder");
        let mut source = Source::default();
        for kill in first..kills.min(first + LIVES) {
            source.lives(folder.path(), &Drawn::of(kill));
            void += u64::from(!holds(folder.path(), &source, kill));
        }
        steps += source.ends(folder.path());
    }
    println!(
        "{kills} kills in {:.0?}, {void} of them void; {steps} steps, none half, none twice; no input lost",
        began.elapsed()
    );
    assert!(void * 2 < kills, "{void} of {kills} kills hit nothing");
}

impl Source {
    /// A host lives until it is killed.
    fn lives(&mut self, folder: &Path, drawn: &Drawn) {
        let mut host = started(folder);
        let lines = host.stdout.take().expect("it is piped");
        // One in eight is killed while it starts.
        if drawn.below(0, 8) == 0 {
            std::thread::sleep(Duration::from_micros(drawn.below(1, 40_000)));
            host.kill().expect("it is ours");
            host.wait().expect("it ends");
            return;
        }
        let (mut stdin, mut lines) = (host.stdin.take(), BufReader::new(lines));
        until_up(&mut lines);
        // What was not acknowledged is said again, and more.
        let numbers = self.acked..self.acked + INPUTS;
        self.sent = self.sent.max(numbers.end);
        let says = std::thread::spawn(move || {
            let stdin = stdin.as_mut().expect("it is piped");
            for number in numbers {
                if writeln!(stdin, "{number}").is_err() {
                    break;
                }
            }
        });
        let hears = std::thread::spawn(move || last_ack(&mut lines));
        std::thread::sleep(Duration::from_micros(drawn.below(2, 60_000)));
        host.kill().expect("it is ours");
        host.wait().expect("it ends");
        says.join().expect("it only writes");
        let acked = hears.join().expect("it only reads");
        self.acked = acked.map_or(self.acked, |last| last + 1);
    }

    /// The last host of a folder ends by itself. All is done then. Returns how many steps there were.
    fn ends(&mut self, folder: &Path) -> u64 {
        let mut host = started(folder);
        let lines = host.stdout.take().expect("it is piped");
        let mut lines = BufReader::new(lines);
        until_up(&mut lines);
        let mut stdin = host.stdin.take().expect("it is piped");
        let hears = std::thread::spawn(move || last_ack(&mut lines));
        for number in self.acked..self.sent {
            writeln!(stdin, "{number}").expect("it lives");
        }
        drop(stdin);
        assert!(host.wait().expect("it ends").success());
        let acked = hears.join().expect("it only reads");
        self.acked = acked.map_or(self.acked, |last| last + 1);
        assert_eq!(self.sent, self.acked, "all were acknowledged at last");
        assert!(!holds(folder, self, u64::MAX), "nothing is unfinished");
        let outbox = Outbox::open(folder);
        assert_eq!(2 * self.sent as usize, outbox.done.len());
        let entries = entries(folder, usize::MAX);
        let engine = Interpreter::new();
        let mut checker = Checker::new(&engine);
        for entry in &entries {
            assert_eq!(Ok(()), checker.check(entry));
        }
        u64::from(self.sent)
    }
}

fn started(folder: &Path) -> Child {
    let program = std::env::current_exe().expect("this program");
    let mut command = Command::new(program);
    command.args(["--exact", TEST, "--nocapture"]);
    command.env(FOLDER, folder);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    command.spawn().expect("it starts")
}

fn until_up(lines: &mut BufReader<ChildStdout>) {
    let mut line = String::new();
    while !line.ends_with("up\n") {
        line.clear();
        let read = lines.read_line(&mut line).expect("it reads");
        assert!(read > 0, "the host did not start");
    }
}

/// The last input that was acknowledged.
fn last_ack(lines: &mut BufReader<ChildStdout>) -> Option<u32> {
    let acks = lines.lines().map_while(Result::ok);
    let acks = acks.filter_map(|line| line.strip_prefix("ack ")?.parse().ok());
    acks.last()
}

/// All that must hold of a folder when its host is dead. Whether anything was unfinished.
fn holds(folder: &Path, source: &Source, kill: u64) -> bool {
    let (sleepers, outbox) = (host::agents(folder), Outbox::open(folder));
    let mut handled = 0;
    for agent in 0..AGENTS.min(sleepers.count() as u32) {
        let (state, seq) = sleepers.state(agent).expect("it lives here");
        assert_eq!(
            said(agent, seq)[..12],
            filled(state),
            "kill {kill}: a half step"
        );
        handled += seq;
    }
    let taken_on = handled + sleepers.pending() as u32;
    let known = source.acked..=source.sent;
    assert!(
        known.contains(&taken_on),
        "kill {kill}: {taken_on} inputs were taken on, of {known:?} that were acknowledged and sent"
    );
    // What was done and what is owed are all that durable steps say, each once.
    let owed: BTreeMap<_, _> = sleepers
        .owed()
        .into_iter()
        .map(|owed| ((owed.agent, owed.seq), owed.effects.len()))
        .collect();
    for ((agent, seq, nth), what) in &outbox.done {
        let steps = sleepers.state(*agent).expect("it lives here").1;
        assert!(*seq < steps, "kill {kill}: done for a step that is not");
        let should = [said(*agent, seq + 1), [0; 16]][*nth as usize];
        assert_eq!(should, *what, "kill {kill}");
    }
    for agent in 0..AGENTS.min(sleepers.count() as u32) {
        let steps = sleepers.state(agent).expect("it lives here").1;
        for seq in 0..steps {
            let done = [0, 1].map(|nth| outbox.done.contains_key(&(agent, seq, nth)));
            let is_owed = owed.get(&(agent, seq)) == Some(&2);
            assert!(
                done == [true; 2] || is_owed,
                "kill {kill}: an effect is lost"
            );
        }
    }
    attested(folder, kill);
    !owed.is_empty() || sleepers.pending() > 0 || taken_on < source.sent
}

/// What an agent says in its step before `count`: how many inputs there were, their sum, and how many its
/// own value knows of.
fn said(agent: u32, count: u32) -> [u8; 16] {
    let sum: u64 = (0..count).map(|nth| u64::from(nth * AGENTS + agent)).sum();
    let mut said = [0; 16];
    said[..4].copy_from_slice(&count.to_le_bytes());
    said[4..12].copy_from_slice(&sum.to_le_bytes());
    said[12..].copy_from_slice(&count.to_le_bytes());
    said
}

fn filled(state: &[u8]) -> [u8; 12] {
    let mut filled = [0; 12];
    filled[..state.len()].copy_from_slice(state);
    filled
}

fn entries(folder: &Path, n: usize) -> Vec<Entry> {
    let entries = host::ledger(folder).last(n, &|_| true);
    entries.expect("it reads")
}

/// The ledger has each step once, as it was.
fn attested(folder: &Path, kill: u64) {
    let sleepers = host::agents(folder);
    let numbers: BTreeMap<_, _> = (0..AGENTS.min(sleepers.count() as u32))
        .map(|agent| (sleepers.id(agent).expect("it lives here"), agent))
        .collect();
    let mut seen = BTreeMap::new();
    for entry in entries(folder, 2_000) {
        let agent = numbers[&entry.step.agent];
        let steps = sleepers.state(agent).expect("it lives here").1;
        let seq = entry.step.seq as u32;
        assert!(seq < steps, "kill {kill}: signed for a step that is not");
        assert_eq!(said(agent, seq + 1)[..12], filled(&entry.step.after));
        let twice = seen.insert((agent, seq), entry.receipt);
        assert_eq!(None, twice, "kill {kill}: signed twice for one step");
    }
}

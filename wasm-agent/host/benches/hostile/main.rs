//! What hostile guests can do to their neighbours.
//!
//! Ten thousand honest agents wake at a steady rate on one thread, over a journal on disk, as a node has
//! them. Beside them is one that a stranger brought. A second with it and a second without it take turns,
//! so that whatever else this machine does falls on both. For each: how it ended; how long past its
//! budget it was stopped, that is, how much longer its longest wake took than an honest loop of as much
//! fuel; and of 99 of 100 honest inputs, how much later they were durable than in the seconds without it.
//!
//! `cargo bench -p aquifer-wasm --bench hostile [-- SECONDS [NAME...]]`, 6 seconds for each if not said.

mod guests;

use aquifer_wasm::abi::{Cause, FUEL_MAX, Wakeup};
use aquifer_wasm::desk::Quiet;
use aquifer_wasm::engine::Engine;
use aquifer_wasm::engine::interpreter::Interpreter;
use aquifer_wasm::engine::jit::Jit;
use aquifer_wasm::sleepers::{HostFailure, Sleepers};
use guests::Guest;
use std::time::{Duration, Instant};

const SENSOR: &[u8] = include_bytes!("../../../guest/modules/sensor.wasm");
const HONEST: u32 = 10_000;
/// Between honest inputs.
const APART: Duration = Duration::from_micros(500);
/// Between inputs of the hostile one, and between attempts to load one that is not taken.
const BLOWS: Duration = Duration::from_millis(100);

fn main() {
    let args: Vec<String> = std::env::args()
        .skip(1)
        .filter(|arg| arg != "--bench")
        .collect();
    let seconds = args.iter().find_map(|arg| arg.parse().ok()).unwrap_or(6);
    let named: Vec<&String> = args
        .iter()
        .filter(|arg| arg.parse::<u32>().is_err())
        .collect();
    let jit = Jit::new().expect("room for a pool");
    for engine in [&jit as &dyn Engine, &Interpreter::new()] {
        let allowed = honest_loop(engine);
        println!(
            "\n{}: an honest loop of {FUEL_MAX} units of fuel takes {:.1} ms",
            engine.name(),
            millis(allowed)
        );
        println!(
            "{:<22} {:>9} {:>9} {:>11} {:>11} {:>7}  ends",
            "guest", "ms p50", "ms max", "ms past it", "p99 ms", "ratio"
        );
        for guest in guests::all() {
            if named.is_empty() || named.iter().any(|name| guest.name.contains(name.as_str())) {
                Trial::new(engine).tries(&guest, allowed, seconds);
            }
        }
    }
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Honest agents, and one other.
struct Trial<'a> {
    engine: &'a dyn Engine,
    sleepers: Sleepers,
    _folder: tempfile::TempDir,
    number: u32,
    hostile: Option<u32>,
    /// How long its wakes took, or the attempts to load it.
    blows: Vec<Duration>,
    ends: String,
}

impl<'a> Trial<'a> {
    fn new(engine: &'a dyn Engine) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut sleepers =
            Sleepers::open(&folder.path().join("agents"), engine).expect("a new journal");
        let granted = guests::manifest("honest", *blake3::hash(SENSOR).as_bytes(), "honest");
        let hosted = sleepers.host((granted.as_bytes(), SENSOR), HONEST, 0, engine);
        hosted.expect("a good manifest");
        Self {
            engine,
            sleepers,
            _folder: folder,
            number: 0,
            hostile: None,
            blows: Vec::new(),
            ends: String::new(),
        }
    }

    fn tries(&mut self, guest: &Guest, allowed: Duration, seconds: u32) {
        self.seconds(None, 1);
        let (mut with, mut without) = (Vec::new(), Vec::new());
        for _ in 0..seconds.div_ceil(2) {
            with.extend(self.seconds(Some(guest), 1));
            without.extend(self.seconds(None, 1));
        }
        self.blows.sort_unstable();
        let (p50, max) = (
            self.blows[self.blows.len() / 2],
            self.blows[self.blows.len() - 1],
        );
        let (with, without) = (p99(&mut with), p99(&mut without));
        // What is only loaded has no fuel.
        let allowed = self.hostile.map_or(Duration::ZERO, |_| allowed);
        println!(
            "{:<22} {:>9.2} {:>9.2} {:>11.1} {:>5.1}/{:>5.1} {:>7.2}  {}",
            guest.name,
            millis(p50),
            millis(max),
            millis(max.saturating_sub(allowed)),
            millis(with),
            millis(without),
            with.as_secs_f64() / without.as_secs_f64(),
            self.ends
        );
    }

    /// Honest agents wake for so many seconds; how long each took from when it was due.
    fn seconds(&mut self, guest: Option<&Guest>, seconds: u64) -> Vec<Duration> {
        let (mut due, mut waits) = (Vec::new(), Vec::new());
        let (began, mut count, mut blows) = (Instant::now(), 0, 0);
        while began.elapsed() < Duration::from_secs(seconds) {
            let now = began.elapsed();
            while APART * count <= now && due.len() < 1_024 {
                due.push(APART * count);
                count += 1;
                let agent = self.number.wrapping_mul(0x9e37_79b1) % HONEST;
                self.deliver(agent);
            }
            if let Some(guest) = guest
                && BLOWS * blows <= now
            {
                self.blow(guest);
                blows += 1;
            }
            self.sleepers.tick(u64::from(self.number));
            while let Some(woken) = {
                let began = Instant::now();
                let woken = self.sleepers.wake(|_| Box::new(Quiet));
                woken.inspect(|woken| {
                    if Some(woken.agent) == self.hostile {
                        self.blows.push(began.elapsed());
                        self.ends = match &woken.outcome {
                            Ok(_) => "well".into(),
                            Err(why) => why.to_string(),
                        };
                    }
                })
            } {
                drop(woken);
            }
            for owed in self.sleepers.sync().expect("room") {
                self.sleepers.done(owed.agent, owed.seq);
            }
            let now = began.elapsed();
            waits.extend(due.drain(..).map(|due| now - due));
            std::thread::sleep(APART / 2);
        }
        waits
    }

    fn deliver(&mut self, agent: u32) {
        self.number += 1;
        let mut id = [0; 16];
        id[..4].copy_from_slice(&self.number.to_be_bytes());
        let wakeup = Wakeup {
            cause: Cause::Message,
            from: Some([3; 32]),
            topic: String::new(),
            stamp: u64::from(self.number),
            body: minicbor::to_vec(self.number % 23).expect("a vector takes any encoding"),
        };
        self.sleepers
            .deliver(agent, id, wakeup)
            .expect("it lives here");
    }

    /// An input for the hostile one. It is loaded before the first; one that is not taken tries again.
    fn blow(&mut self, guest: &Guest) {
        if let Some(agent) = self.hostile {
            return self.deliver(agent);
        }
        let began = Instant::now();
        let bytes = (&guest.manifest[..], &guest.module[..]);
        let hosted = self.sleepers.host(bytes, 1, 0, self.engine);
        match hosted {
            // To be loaded is all that it wants.
            Ok(_) if guest.name.starts_with("slow") => {
                self.blows.push(began.elapsed());
                self.ends = "is loaded".into();
            }
            Ok(agent) => self.hostile = Some(agent),
            Err(why) => {
                self.blows.push(began.elapsed());
                self.ends = refusal(&why);
            }
        }
    }
}

fn refusal(why: &HostFailure) -> String {
    format!("refused: {why}")
}

fn p99(waits: &mut [Duration]) -> Duration {
    waits.sort_unstable();
    waits[waits.len() * 99 / 100]
}

/// How long an honest guest may take with all the fuel that there is: the slowest of some.
fn honest_loop(engine: &dyn Engine) -> Duration {
    let mut sleepers = Trial::new(engine);
    let guest = guests::honest();
    for _ in 0..5 {
        sleepers.blow(&guest);
        sleepers.blow(&guest);
        let began = Instant::now();
        let woken = sleepers.sleepers.wake(|_| Box::new(Quiet));
        assert!(woken.expect("an input").outcome.is_err());
        sleepers.blows.push(began.elapsed());
    }
    sleepers.blows.into_iter().max().expect("five")
}

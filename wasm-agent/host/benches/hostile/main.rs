//! What hostile guests can do to their neighbours.
//!
//! Ten thousand honest agents wake at a steady rate on one thread, over a journal, as a node has them.
//! Beside them is one that a stranger brought. Some seconds with it and some without it take turns. For
//! each: how it ended; how long past its budget it was stopped, that is, how much longer its longest wake
//! took than an honest loop of as much fuel; and within what time 99 of 100 honest inputs were handled,
//! with it and without it.
//!
//! Time is that of the thread's processor, and what it would wait for the next input is skipped: so the
//! figures are those of a core of its own beside a disk that takes no time, whatever else this machine
//! does. A real disk takes the same time from both and brings the ratio nearer to one.
//!
//! Wakes that take long have a thread of their own, as everywhere. It is tried with each engine alone, of
//! which one keeps everybody waiting while it compiles, and with both as a node has them: the interpreter
//! until the compiler is ready.
//!
//! `cargo bench -p aquifer-wasm --bench hostile [-- SECONDS [NAME...]]`, 6 seconds for each if not said.

mod guests;

use aquifer_wasm::abi::{Cause, FUEL_MAX, Wakeup};
use aquifer_wasm::desk::Quiet;
use aquifer_wasm::engine::Engine;
use aquifer_wasm::engine::interpreter::Interpreter;
use aquifer_wasm::engine::jit::Jit;
use aquifer_wasm::engine::tiered::Tiered;
use aquifer_wasm::sleepers::Sleepers;
use guests::Guest;
use rustix::time::{ClockId, clock_gettime};
use std::path::Path;
use std::time::{Duration, Instant};

const SENSOR: &[u8] = include_bytes!("../../../guest/modules/sensor.wasm");
const HONEST: u32 = 10_000;
/// Between honest inputs.
const APART: Duration = Duration::from_micros(500);
/// Between inputs of the hostile one: as often as a usual manifest lets it wake.
const BLOWS: Duration = Duration::from_millis(100);
/// Between attempts to load one that only wants that.
const LOADS: Duration = Duration::from_secs(1);
/// So long with it, so long without it.
const TURN: Duration = Duration::from_secs(2);

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let seconds: u32 = args.iter().find_map(|arg| arg.parse().ok()).unwrap_or(6);
    let is_name = |arg: &&String| arg.parse::<u32>().is_err() && *arg != "--bench";
    let named: Vec<&String> = args.iter().filter(is_name).collect();
    let is_named = |guest: &Guest| named.iter().any(|name| guest.name.contains(name.as_str()));
    let mut guests = guests::all();
    guests.retain(|guest| named.is_empty() || is_named(guest));
    let jit = || Jit::new().expect("room for a pool");
    let tiered = Tiered::new(Box::new(Interpreter::new()), Box::new(jit()));
    let (jit, interpreter) = (jit(), Interpreter::new());
    let tiered = tiered.expect("a thread");
    for (engine, by) in [
        (&tiered as &dyn Engine, &jit as &dyn Engine),
        (&jit, &jit),
        (&interpreter, &interpreter),
    ] {
        let allowed = honest_loop(by);
        println!(
            "\n{}: an honest loop of {FUEL_MAX} units of fuel takes {:.1} ms",
            engine.name(),
            millis(allowed)
        );
        println!(
            "{:<20} {:>8} {:>8} {:>10} {:>14} {:>7}  ends",
            "guest", "ms p50", "ms max", "ms past it", "p99 ms", "ratio"
        );
        for guest in &guests {
            Trial::new(engine).tries(guest, allowed, seconds);
        }
    }
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Processor time of this thread.
fn processor() -> Duration {
    let spent = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(spent.tv_sec as u64, spent.tv_nsec as u32)
}

/// A clock of processor time, of which some can be skipped.
struct Clock {
    began: Duration,
    skipped: Duration,
}

impl Clock {
    fn start() -> Self {
        let (began, skipped) = (processor(), Duration::ZERO);
        Self { began, skipped }
    }

    fn now(&self) -> Duration {
        processor() - self.began + self.skipped
    }

    fn skip_to(&mut self, moment: Duration) {
        self.skipped += moment.saturating_sub(self.now());
    }
}

/// Honest agents, and one other.
struct Trial<'a> {
    engine: &'a dyn Engine,
    sleepers: Sleepers,
    _folder: tempfile::TempDir,
    number: u32,
    /// The number of the other, once it lives here.
    hostile: Option<u32>,
    /// Whether it has an input,
    busy: bool,
    /// and since when that takes long, by the clock on the wall.
    entered: Option<Instant>,
    /// How long its wakes took, or the attempts to load it.
    blows: Vec<Duration>,
    ends: String,
}

impl<'a> Trial<'a> {
    fn new(engine: &'a dyn Engine) -> Self {
        let memory = Path::new("/dev/shm");
        let folder = match memory.exists() {
            true => tempfile::tempdir_in(memory),
            false => tempfile::tempdir(),
        };
        let folder = folder.expect("a folder");
        let path = folder.path().join("agents");
        let mut sleepers = Sleepers::open(&path, engine).expect("a new journal");
        let granted = guests::manifest("honest", *blake3::hash(SENSOR).as_bytes(), "honest");
        let hosted = sleepers.host((granted.as_bytes(), SENSOR), HONEST, 0, engine);
        hosted.expect("a good manifest");
        Self {
            engine,
            sleepers,
            _folder: folder,
            number: 0,
            hostile: None,
            busy: false,
            entered: None,
            blows: Vec::new(),
            ends: String::new(),
        }
    }

    fn tries(&mut self, guest: &Guest, allowed: Duration, seconds: u32) {
        self.turn(None);
        let (mut with, mut without) = (Vec::new(), Vec::new());
        for _ in 0..seconds {
            with.extend(self.turn(Some(guest)));
            without.extend(self.turn(None));
        }
        self.blows.sort_unstable();
        let count = self.blows.len();
        let (p50, max) = (self.blows[count / 2], self.blows[count - 1]);
        let (with, without) = (p99(&mut with), p99(&mut without));
        // What is only loaded has no fuel.
        let allowed = self.hostile.map_or(Duration::ZERO, |_| allowed);
        println!(
            "{:<20} {:>8.2} {:>8.2} {:>10.1} {:>6.3} /{:>6.3} {:>7.2}  {}",
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

    /// Honest agents wake for a while; how long each took from when it was due.
    fn turn(&mut self, guest: Option<&Guest>) -> Vec<Duration> {
        let (mut due, mut waits) = (Vec::new(), Vec::new());
        let (mut clock, mut count, mut next) = (Clock::start(), 0, BLOWS);
        while clock.now() < TURN {
            // Nothing is due before the next honest input.
            clock.skip_to(APART * count);
            let now = clock.now();
            while APART * count <= now && due.len() < 1_024 {
                due.push(APART * count);
                count += 1;
                self.deliver(self.number.wrapping_mul(0x9e37_79b1) % HONEST);
            }
            if let Some(guest) = guest
                && next <= now
            {
                self.blow(guest);
                next = now + self.hostile.map_or(LOADS, |_| BLOWS);
            }
            self.sleepers.tick(u64::from(self.number));
            while self.wakes_one() {}
            for owed in self.sleepers.sync().expect("room") {
                self.sleepers.done(owed.agent, owed.seq);
            }
            let now = clock.now();
            waits.extend(due.drain(..).map(|due| now - due));
        }
        waits
    }

    fn wakes_one(&mut self) -> bool {
        let began = processor();
        let woken = self.sleepers.wake(|_| Box::new(Quiet));
        if self.sleepers.slow() > 0 && self.entered.is_none() {
            self.entered = Some(Instant::now());
        }
        let Some(woken) = woken else {
            return false;
        };
        if self.hostile == Some(woken.agent) {
            let took = self.entered.take().map(|entered| entered.elapsed());
            self.blows.push(took.unwrap_or_else(|| processor() - began));
            self.busy = false;
            self.ends = match woken.outcome {
                Ok(_) => "well".into(),
                Err(why) => why.to_string(),
            };
        }
        true
    }

    fn deliver(&mut self, agent: u32) {
        self.number += 1;
        let mut id = [0; 16];
        id[..4].copy_from_slice(&self.number.to_be_bytes());
        let wakeup = self.wakeup();
        let taken_on = self.sleepers.deliver(agent, id, wakeup);
        taken_on.expect("it lives here");
    }

    fn wakeup(&self) -> Wakeup {
        Wakeup {
            cause: Cause::Message,
            from: Some([3; 32]),
            topic: String::new(),
            stamp: u64::from(self.number),
            body: minicbor::to_vec(self.number % 23).expect("a vector takes any encoding"),
        }
    }

    /// An input for the hostile one, when it is done with the last. It is loaded before the first; one that
    /// is not taken tries again.
    fn blow(&mut self, guest: &Guest) {
        match self.hostile {
            // One at a time, so that it is known how long each took.
            Some(agent) if !self.busy => {
                self.busy = true;
                self.deliver(agent);
            }
            Some(_) => {}
            None => {
                let began = processor();
                let bytes = (&guest.manifest[..], &guest.module[..]);
                let hosted = self.sleepers.host(bytes, 1, 0, self.engine);
                let took = processor() - began;
                match hosted {
                    // To be loaded is all that it wants.
                    Ok(first) if guest.name.starts_with("slow") => {
                        self.sleepers.stop(first).expect("it lives here");
                        self.blows.push(took);
                        self.ends = "is loaded".into();
                    }
                    Ok(first) => self.hostile = Some(first),
                    Err(why) => {
                        self.blows.push(took);
                        self.ends = format!("refused: {why}");
                    }
                }
            }
        }
    }
}

fn p99(waits: &mut [Duration]) -> Duration {
    waits.sort_unstable();
    waits[waits.len() * 99 / 100]
}

/// How long an honest guest may take with all the fuel that there is: the slowest of some.
fn honest_loop(engine: &dyn Engine) -> Duration {
    let mut trial = Trial::new(engine);
    let guest = guests::honest();
    trial.blow(&guest);
    for _ in 0..5 {
        trial.blow(&guest);
        while trial.busy {
            trial.wakes_one();
        }
    }
    trial.blows.into_iter().max().expect("five")
}

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
//! That is tried with all on one thread, and with what shields honest agents: a lane for wakes that take
//! long, and an interpreter until the compiler is ready.
//!
//! `cargo bench -p aquifer-wasm --bench hostile [-- SECONDS [NAME...]]`, 6 seconds for each if not said.

mod guests;

use aquifer_wasm::abi::{Cause, FUEL_MAX, Wakeup};
use aquifer_wasm::desk::Quiet;
use aquifer_wasm::engine::interpreter::Interpreter;
use aquifer_wasm::engine::jit::Jit;
use aquifer_wasm::engine::tiered::Tiered;
use aquifer_wasm::engine::{Engine, Trap};
use aquifer_wasm::kind::Kind;
use aquifer_wasm::lane::{Lane, Long, QUICK};
use aquifer_wasm::profile::Profile;
use aquifer_wasm::sleepers::{HostFailure, Sleepers};
use aquifer_wasm::wake::{Agent, Failed};
use guests::Guest;
use rustix::time::{ClockId, clock_gettime};
use std::path::Path;
use std::sync::Arc;
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
    for (how, engine, by, shields) in [
        (
            "all on one thread",
            &jit as &dyn Engine,
            &jit as &dyn Engine,
            false,
        ),
        ("all on one thread", &interpreter, &interpreter, false),
        ("a lane, compiled beside", &tiered, &jit, true),
        ("a lane", &interpreter, &interpreter, true),
    ] {
        let allowed = honest_loop(by);
        println!(
            "\n{}, {how}: an honest loop of {FUEL_MAX} units of fuel takes {:.1} ms",
            engine.name(),
            millis(allowed)
        );
        println!(
            "{:<20} {:>8} {:>8} {:>10} {:>14} {:>7}  ends",
            "guest", "ms p50", "ms max", "ms past it", "p99 ms", "ratio"
        );
        for guest in &guests {
            Trial::new(engine, shields).tries(guest, allowed, seconds);
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
    lane: Option<Lane>,
    _folder: tempfile::TempDir,
    number: u32,
    hostile: Option<Hostile>,
    /// When what is in the lane went there, by the clock on the wall.
    entered: Instant,
    /// How long its wakes took, or the attempts to load it.
    blows: Vec<Duration>,
    ends: String,
}

/// Where the hostile one lives.
enum Hostile {
    /// Among the others, under this number.
    Among(u32),
    /// Beside them: it wakes quickly here, or in the lane.
    Beside(Agent),
}

impl<'a> Trial<'a> {
    fn new(engine: &'a dyn Engine, shields: bool) -> Self {
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
            lane: shields.then(|| Lane::open().expect("a thread")),
            _folder: folder,
            number: 0,
            hostile: None,
            entered: Instant::now(),
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
        let allowed = self.hostile.as_ref().map_or(Duration::ZERO, |_| allowed);
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
                next = now + self.hostile.as_ref().map_or(LOADS, |_| BLOWS);
            }
            self.sleepers.tick(u64::from(self.number));
            while self.wakes_one() {}
            for owed in self.sleepers.sync().expect("room") {
                self.sleepers.done(owed.agent, owed.seq);
            }
            let ended = self.lane.as_mut().and_then(Lane::ended);
            if let Some(ended) = ended {
                self.ended(self.entered.elapsed(), &ended.outcome);
            }
            let now = clock.now();
            waits.extend(due.drain(..).map(|due| now - due));
        }
        waits
    }

    fn wakes_one(&mut self) -> bool {
        let began = processor();
        let Some(woken) = self.sleepers.wake(|_| Box::new(Quiet)) else {
            return false;
        };
        if matches!(self.hostile, Some(Hostile::Among(agent)) if agent == woken.agent) {
            self.ended(processor() - began, &woken.outcome);
        }
        true
    }

    fn ended<T>(&mut self, took: Duration, outcome: &Result<T, Failed>) {
        self.blows.push(took);
        self.ends = match outcome {
            Ok(_) => "well".into(),
            Err(why) => why.to_string(),
        };
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

    /// An input for the hostile one. It is loaded before the first; one that is not taken tries again.
    fn blow(&mut self, guest: &Guest) {
        match &self.hostile {
            Some(Hostile::Among(agent)) => self.deliver(*agent),
            Some(Hostile::Beside(agent)) => self.tries_quickly(agent.clone()),
            None => {
                let began = processor();
                let hosted = self.hosts(guest);
                let took = processor() - began;
                match hosted {
                    // To be loaded is all that it wants.
                    Ok(_) if guest.name.starts_with("slow") => {
                        self.blows.push(took);
                        self.ends = "is loaded".into();
                    }
                    Ok(hostile) => self.hostile = Some(hostile),
                    Err(why) => {
                        self.blows.push(took);
                        self.ends = format!("refused: {why}");
                    }
                }
            }
        }
    }

    fn hosts(&mut self, guest: &Guest) -> Result<Hostile, HostFailure> {
        let bytes = (&guest.manifest[..], &guest.module[..]);
        if self.lane.is_none() {
            let agent = self.sleepers.host(bytes, 1, 0, self.engine)?;
            return Ok(Hostile::Among(agent));
        }
        let profile = Profile::of(&guest.module)?;
        let kind = Kind::open(&guest.manifest, guest.module.clone(), 0)?;
        Ok(Hostile::Beside(Agent {
            id: [7; 32],
            manifest: Arc::new(kind.granted().manifest.clone()),
            loaded: self.engine.load(&guest.module, &profile)?,
        }))
    }

    fn tries_quickly(&mut self, agent: Agent) {
        let (began, seq) = (processor(), self.number.into());
        let wakeup = self.wakeup();
        let outcome = agent.handle(QUICK, (seq, &[], &wakeup), Box::new(Quiet));
        if outcome != Err(Failed::Trapped(Trap::OutOfFuel { fuel: QUICK })) {
            return self.ended(processor() - began, &outcome);
        }
        let wakeup = self.wakeup();
        let lane = self.lane.as_mut().expect("it lives beside the others");
        // One at a time, so that it is known how long each took.
        if lane.inside() == 0 {
            self.entered = Instant::now();
            let long = Long {
                ticket: seq,
                agent,
                seq,
                before: Vec::new(),
                wakeup,
                world: Box::new(Quiet),
            };
            assert!(lane.take(long).is_ok(), "nothing is inside");
        }
    }
}

fn p99(waits: &mut [Duration]) -> Duration {
    waits.sort_unstable();
    waits[waits.len() * 99 / 100]
}

/// How long an honest guest may take with all the fuel that there is: the slowest of some.
fn honest_loop(engine: &dyn Engine) -> Duration {
    let mut trial = Trial::new(engine, false);
    let guest = guests::honest();
    trial.blow(&guest);
    for _ in 0..5 {
        trial.blow(&guest);
        assert!(trial.wakes_one(), "an input");
    }
    trial.blows.into_iter().max().expect("five")
}

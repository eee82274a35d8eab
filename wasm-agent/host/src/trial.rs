//! A trial: how many agents this machine can host, and how quickly they wake.
//!
//! So many agents are hosted, and each takes a step, so that each has a state. Then one in a hundred is
//! woken each second, at random moments, and the time is taken from when an input is due until what came
//! of it is durable. At last as many are woken as one core can do. Every step has its receipt, and every
//! batch of them its signature.
//!
//! Not here: what the engines cost by themselves (`benches/wakes.rs`).

use crate::abi::{Cause, Imports, Wakeup};
use crate::desk::{Desk, Quiet};
use crate::engine::Engine;
use crate::kind::Kind;
use crate::manifest::{Budget, Granted, Manifest, Rate};
use crate::profile::Profile;
use crate::receipt::{BATCH_MAX, Batch, Receipt};
use crate::sleepers::{HostFailure, Sleepers};
use aquifer_protocol::identity::Keys;
use rustix::time::{ClockId, clock_gettime};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How a trial is to be.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// How many agents.
    pub agents: u32,
    /// For how long one in a hundred of them wakes each second.
    pub lasts: Duration,
    /// Whether each step is made durable alone; else up to 1,024 are together.
    pub each: bool,
}

/// For how long one core does what it can, in processor time.
const FLAT_OUT: Duration = Duration::from_secs(3);

/// What a trial found.
#[derive(Clone, Copy, Debug)]
pub struct Found {
    /// Inputs taken on, handled, with receipts, and durable, in a second of processor time.
    pub wakes_per_second_per_core: f64,
    /// Half of all fresh instances take no longer, in microseconds of the clock.
    pub instantiate_p50_us: f64,
    /// 99 of 100.
    pub instantiate_p99_us: f64,
    /// 99 of 100 inputs are handled and durable so long after they were due, in microseconds.
    pub wake_p99_us: f64,
    /// Wakes while one in a hundred was woken each second.
    pub wakes: u64,
    /// For each agent asleep, bytes of memory that the process took for all of them.
    pub bytes_per_idle_agent: f64,
    /// For each agent asleep, bytes of the journal.
    pub journal_bytes_per_agent: f64,
    /// The memory of the process at the end, in bytes.
    pub rss_bytes: u64,
}

/// What a trial is doing.
#[derive(Clone, Copy, Debug)]
pub enum Phase {
    /// Agents take their first steps: so many have.
    Settling(u32),
    /// Some wake, since so long.
    Waking(Duration),
    /// One core does what it can.
    FlatOut,
}

/// Tries `module` on `engine`, with a journal at `path`, which must be new.
///
/// # Errors
/// If the module is no agent, or the disk fails.
pub fn run(
    plan: Plan,
    module: &[u8],
    engine: &dyn Engine,
    path: &Path,
    watch: &mut dyn FnMut(Phase),
) -> Result<Found, HostFailure> {
    let profile = Profile::of(module)?;
    let granted = Granted::sign(&Keys::from_secret(&[1; 32]), manifest(profile.hash));
    let (p50, p99) = starts(module, &profile, &granted, engine, plan.agents)?;
    let before = resident();
    let mut sleepers = Sleepers::open(path, engine)?;
    let first = sleepers.host((granted.as_bytes(), module), plan.agents, 0, engine)?;
    let mut trial = Trial {
        sleepers,
        kind: Kind::new(granted, module.to_vec())?.hash(),
        keys: Keys::from_secret(&[2; 32]),
        receipts: Vec::new(),
        number: 0,
        each: plan.each,
    };
    for agent in first..first + plan.agents {
        trial.cycle(agent, false)?;
        if agent % BATCH_MAX as u32 == 0 {
            watch(Phase::Settling(agent - first));
        }
    }
    trial.sleepers.sync()?;
    trial.sleepers.rewrite()?;
    let each = |bytes: u64| bytes as f64 / f64::from(plan.agents);
    let (asleep, journal) = (resident() - before, trial.sleepers.journal_bytes());
    let (wakes, wake_p99_us) = trial.some(plan, watch)?;
    watch(Phase::FlatOut);
    let wakes_per_second_per_core = trial.flat_out(plan)?;
    Ok(Found {
        wakes_per_second_per_core,
        instantiate_p50_us: p50,
        instantiate_p99_us: p99,
        wake_p99_us,
        wakes,
        bytes_per_idle_agent: each(asleep),
        journal_bytes_per_agent: each(journal),
        rss_bytes: resident(),
    })
}

struct Trial {
    sleepers: Sleepers,
    kind: [u8; 32],
    keys: Keys,
    receipts: Vec<Receipt>,
    number: u32,
    each: bool,
}

impl Trial {
    /// One input, taken on and handled. Made durable if `alone`, or when enough are.
    fn cycle(&mut self, agent: u32, alone: bool) -> Result<bool, HostFailure> {
        self.number += 1;
        let mut id = [0; 16];
        id[..4].copy_from_slice(&self.number.to_be_bytes());
        self.sleepers.deliver(agent, id, wakeup(self.number))?;
        let woken = self.sleepers.wake(|_| Box::new(Quiet));
        if let Some(Ok(step)) = woken.map(|woken| woken.outcome) {
            self.receipts.push(Receipt::of(&step, self.kind));
        }
        let due = alone || self.receipts.len() == BATCH_MAX;
        if due {
            self.durable()?;
        }
        Ok(due)
    }

    fn durable(&mut self) -> Result<(), HostFailure> {
        if !self.receipts.is_empty() {
            std::hint::black_box(Batch::sign(&self.keys, &self.receipts));
            self.receipts.clear();
        }
        for owed in self.sleepers.sync()? {
            self.sleepers.done(owed.agent, owed.seq);
        }
        Ok(())
    }

    /// One in a hundred wakes each second. How many did, and how long 99 of 100 took at the most.
    fn some(
        &mut self,
        plan: Plan,
        watch: &mut dyn FnMut(Phase),
    ) -> Result<(u64, f64), HostFailure> {
        let apart = Duration::from_secs(1).div_f64(f64::from(plan.agents.max(100)) / 100.0);
        let (began, mut count, mut told) = (Instant::now(), 0_u32, Duration::ZERO);
        let (mut due, mut waits): (Vec<Duration>, Vec<Duration>) = (Vec::new(), Vec::new());
        loop {
            let now = began.elapsed();
            if now >= plan.lasts {
                break;
            }
            // All that are due by now, up to a batch; then they are durable together.
            while apart * count <= now && due.len() < BATCH_MAX {
                due.push(apart * count);
                count += 1;
                let agent = scattered(self.number, plan.agents);
                if self.cycle(agent, self.each)? {
                    let now = began.elapsed();
                    waits.extend(due.drain(..).map(|due| now - due));
                }
            }
            if due.is_empty() {
                std::thread::sleep(apart.min(Duration::from_micros(200)));
            } else {
                self.durable()?;
                let now = began.elapsed();
                waits.extend(due.drain(..).map(|due| now - due));
            }
            if now - told > Duration::from_millis(250) {
                told = now;
                watch(Phase::Waking(now));
            }
        }
        waits.sort_unstable();
        let p99 = waits.get(waits.len() * 99 / 100).copied();
        let p99 = p99.unwrap_or_default().as_secs_f64() * 1e6;
        Ok((waits.len() as u64, p99))
    }

    fn flat_out(&mut self, plan: Plan) -> Result<f64, HostFailure> {
        let most = plan.lasts.min(FLAT_OUT).as_secs_f64();
        let (began, mut count) = (processor(), 0.0);
        while processor() - began < most {
            for _ in 0..64 {
                let agent = scattered(self.number, plan.agents);
                self.cycle(agent, self.each)?;
            }
            count += 64.0;
        }
        self.durable()?;
        Ok(count / (processor() - began))
    }
}

/// How long fresh instances take: half of them, and 99 of 100, in microseconds.
fn starts(
    module: &[u8],
    profile: &Profile,
    granted: &Granted,
    engine: &dyn Engine,
    agents: u32,
) -> Result<(f64, f64), HostFailure> {
    let loaded = engine.load(module, profile)?;
    let manifest = Arc::new(granted.manifest.clone());
    let mut times = Vec::new();
    for number in 0..agents.clamp(100, 50_000) {
        let desk = Desk::new(
            manifest.clone(),
            (&[0; 32], 0),
            &wakeup(number),
            Box::new(Quiet),
        );
        let began = Instant::now();
        let started = loaded.start(desk);
        times.push(began.elapsed());
        started.map_err(|why| HostFailure::Start { why })?;
    }
    times.sort_unstable();
    let micros = |part: usize| times[times.len() * part / 100].as_secs_f64() * 1e6;
    Ok((micros(50), micros(99)))
}

fn manifest(module: [u8; 32]) -> Manifest {
    Manifest {
        name: "trial".into(),
        module,
        imports: Imports::USUAL,
        publishes: vec!["alerts".into()],
        follows: Vec::new(),
        remembers: vec!["sensor".into()],
        budget: Budget::USUAL,
        rate: Rate {
            wakes: u32::MAX,
            messages: u32::MAX,
            bytes: u32::MAX,
        },
        kv_bytes: 0,
        not_after: u64::MAX,
        attest: None,
    }
}

/// A reading, as the sensor takes them.
fn wakeup(number: u32) -> Wakeup {
    Wakeup {
        cause: Cause::Message,
        from: Some([3; 32]),
        topic: String::new(),
        stamp: 1_700_000_000_000 + u64::from(number),
        body: minicbor::to_vec(number % 23).expect("a vector takes any encoding"),
    }
}

/// One of so many, without order.
fn scattered(number: u32, of: u32) -> u32 {
    let mixed = u64::from(number.wrapping_mul(0x9e37_79b1));
    ((mixed * u64::from(of)) >> 32) as u32
}

/// Processor time of this process, in seconds.
fn processor() -> f64 {
    let spent = clock_gettime(ClockId::ProcessCPUTime);
    spent.tv_sec as f64 + spent.tv_nsec as f64 / 1e9
}

/// Bytes of memory that this process has; 0 where the system does not say.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = status
        .split_whitespace()
        .nth(1)
        .and_then(|n| n.parse::<u64>().ok());
    pages.unwrap_or(0) * rustix::param::page_size() as u64
}

#[cfg(all(test, feature = "jit"))]
mod tests {
    use super::*;
    use crate::engine::interpreter::Interpreter;
    use crate::engine::jit::Jit;

    #[test]
    fn a_small_trial_finds_figures_that_can_be() {
        let folder = tempfile::tempdir().expect("a folder");
        let module = include_bytes!("../../guest/modules/sensor.wasm");
        let jit = Jit::new().expect("room for a pool");
        let engines: [&dyn Engine; 2] = [&jit, &Interpreter::new()];
        for (engine, each) in engines.into_iter().zip([false, true]) {
            let plan = Plan {
                agents: 300,
                lasts: Duration::from_millis(500),
                each,
            };
            let path = folder.path().join(each.to_string());
            let mut phases = 0;
            let found = run(plan, module, engine, &path, &mut |_| phases += 1);
            let found = found.expect("an agent");
            assert!(phases > 1 && found.wakes > 0);
            assert!(found.instantiate_p50_us <= found.instantiate_p99_us);
            assert!(found.wakes_per_second_per_core > 0.0 && found.wake_p99_us > 0.0);
            assert!(found.journal_bytes_per_agent > 10.0);
        }
    }
}

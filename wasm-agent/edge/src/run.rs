//! The loop: lines and timers wake the guest, what it did waits in its queue, and the radio empties the
//! queue when it may.
//!
//! One thing at a time goes over the link, while inputs are taken on: the oldest steps first, then the way
//! down. Whatever was replied is made durable before it counts. While the gateway cannot be reached the
//! queue goes to a neighbour that reaches it.
//!
//! Not here: what is kept (`device`, `state`), when the radio is up (`radio`), how things are said to
//! people (`voice`).

mod exchange;
mod near;
mod voice;

use crate::clock;
use crate::device::Device;
use crate::gateway::Gateway;
use crate::home::Home;
use crate::input::{self, Line, Source};
use crate::link::Identity;
use crate::member::{self, Membership};
use crate::neighbours::Place;
use crate::problem::Problem;
use crate::radio::{Duty, Radio};
use crate::state::State;
use aquifer_protocol::identity::digest;
use aquifer_protocol::{Keys, NodeId};
use aquifer_wasm::abi::{Cause, Wakeup};
use aquifer_wasm::manifest::Manifest;
use exchange::{Done, Exchange};
use near::Near;
use std::future::pending;
use std::time::Duration;
use tokio::sync::mpsc;
use voice::Voice;

/// Inputs that may wait for another minute, by the agent's rate, before no more are taken.
const WAITING_MAX: usize = 1_024;
/// How often timers are looked at, in milliseconds.
const BEAT_MS: u64 = 1_000;
/// How often the way down is asked for while the radio is up, in milliseconds.
const DOWN_EVERY_MS: u64 = 5_000;
/// Counters alone are kept this often, in milliseconds: flash wears.
const KEEP_EVERY_MS: u64 = 60_000;

/// How a device is to run.
#[derive(Debug)]
pub struct Plan {
    /// Its home.
    pub home: Home,
    /// The module.
    pub module: Vec<u8>,
    /// A manifest, signed by whoever publishes the module.
    pub granted: Option<Vec<u8>>,
    /// What this device grants the module itself, if there is no manifest; its hash is filled in.
    pub manifest: Manifest,
    /// A ticket of the gateway, if the home has none.
    pub ticket: Option<String>,
    /// A timer, in milliseconds.
    pub every_ms: Option<u64>,
    /// Lines.
    pub input: Option<Source>,
    /// When the radio is up.
    pub duty: Duty,
    /// Where beats are said; nowhere if none.
    pub beat: Option<Place>,
    /// Ends when the lines have and everything is acknowledged.
    pub drain: bool,
    /// Tells what happens as JSON lines on standard output, not as text on standard error.
    pub json: bool,
    /// Tells nothing but what was asked for.
    pub quiet: bool,
}

/// A device that runs.
struct Run {
    home: Home,
    keys: Keys,
    device: Device,
    state: State,
    radio: Radio,
    identity: Identity,
    /// Here while nothing is under way.
    gateway: Option<Gateway>,
    /// To whom parcels are addressed.
    gateway_id: NodeId,
    exchange: Option<Exchange>,
    near: Option<Near>,
    voice: Voice,
    every_ms: Option<u64>,
    /// The period of the timer that was last taken on.
    period: Option<u64>,
    down_at: u64,
    kept_at: u64,
    /// When the time was last counted.
    looked_at: u64,
    refused_before: u64,
}

/// Runs a device until it fails, or has drained.
///
/// # Errors
/// Whatever keeps it from starting, or from writing to its home; each says what to do. `partly_refused` if
/// it has drained, and some of what the agent did was refused for good.
pub fn run(plan: Plan) -> Result<(), Problem> {
    plan.home.create()?;
    let _lock = plan.home.lock()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.map_err(|why| Problem::system("start the runtime", &why))?;
    runtime.block_on(async {
        let lines = plan.input.clone().map(input::lines).transpose()?;
        let drain = plan.drain;
        let mut run = Run::start(plan)?;
        let ended = run.goes(lines, drain).await;
        if let Some(mut gateway) = run.gateway.take() {
            gateway.hangs_up().await;
        }
        run.keep()?;
        ended
    })
}

impl Run {
    fn start(plan: Plan) -> Result<Self, Problem> {
        let keys = member::keys(&plan.home)?;
        let membership = Membership::open(&plan.home, &keys, plan.ticket.as_deref())?;
        let granted = plan.granted.as_deref();
        let device = Device::open(&plan.home, &plan.module, granted, |module| {
            let manifest = Manifest {
                module,
                ..plan.manifest
            };
            (keys.clone(), manifest)
        })?;
        let state = State::read(&plan.home)?;
        let identity = Identity::new(&keys, &clock::entropy());
        let voice = Voice::new(plan.json, plan.quiet);
        let near = plan.beat.and_then(|place| {
            // A device without neighbours still works.
            let near = Near::open(place, &membership, &keys);
            near.inspect_err(|problem| voice.trouble(problem)).ok()
        });
        let lot = u64::from_be_bytes(*keys.public().first_chunk().expect("32 bytes hold 8"));
        voice.started(&device, &membership, &keys);
        Ok(Self {
            gateway_id: membership.gateway,
            gateway: Some(Gateway::new(
                plan.home.clone(),
                keys.clone(),
                identity.clone(),
                membership,
            )),
            refused_before: state.refused,
            home: plan.home,
            keys,
            device,
            state,
            radio: Radio::new(plan.duty, lot),
            identity,
            exchange: None,
            near,
            voice,
            every_ms: plan.every_ms,
            period: None,
            down_at: 0,
            kept_at: clock::now_ms(),
            looked_at: clock::now_ms(),
        })
    }

    async fn goes(
        &mut self,
        mut lines: Option<mpsc::Receiver<Line>>,
        drain: bool,
    ) -> Result<(), Problem> {
        self.wakes(clock::now_ms())?;
        loop {
            let now = clock::now_ms();
            self.counts_time(now);
            self.begins(now);
            if drain && lines.is_none() && self.is_empty() {
                return self.drained();
            }
            let room = self.has_room();
            let sleep = Duration::from_millis(self.rest(now));
            tokio::select! {
                line = next_line(&mut lines), if room => match line {
                    Some(line) => self.takes(line)?,
                    None => lines = None,
                },
                done = under_way(&mut self.exchange) => {
                    self.exchange = None;
                    self.concludes(done)?;
                }
                heard = near::hears(&mut self.near) => self.hears(heard),
                () = tokio::time::sleep(sleep) => self.wakes(clock::now_ms())?,
            }
        }
    }

    /// A reading: written down, and handled.
    fn takes(&mut self, line: Line) -> Result<(), Problem> {
        let wakeup = Wakeup {
            cause: Cause::Message,
            from: Some(self.keys.public()),
            topic: String::new(),
            stamp: clock::now_ms(),
            body: line.body,
        };
        let taken = self.device.takes(line.id, wakeup);
        if let Err(problem) = taken {
            // It can never be taken: whoever feeds the device is told, and the next line comes.
            self.voice.trouble(&problem);
            return Ok(());
        }
        self.wakes(clock::now_ms())?;
        self.voice.taken(line.name.as_deref());
        Ok(())
    }

    /// Timers, and whatever waited for another minute.
    fn wakes(&mut self, now: u64) -> Result<(), Problem> {
        if let Some(every) = self.every_ms.filter(|_| self.has_room()) {
            let period = now / every;
            // Known by its period, so a device that restarts does not wake twice in one.
            if self.period.replace(period) != Some(period) {
                let id = digest(
                    "aquifer/edge-every/1",
                    &[&period.to_be_bytes(), &every.to_be_bytes()],
                );
                let wakeup = Wakeup {
                    cause: Cause::Timer,
                    from: None,
                    topic: String::new(),
                    stamp: now,
                    body: Vec::new(),
                };
                let id = *id.first_chunk().expect("32 bytes hold 16");
                self.device.takes(id, wakeup)?;
            }
        }
        let lived = self.device.lives(now)?;
        for why in lived.failed {
            self.state.failed += 1;
            self.voice.failed(&why);
            self.state.last_failure = Some(why);
        }
        Ok(())
    }

    /// How long there is nothing to do, in milliseconds.
    fn rest(&self, now: u64) -> u64 {
        let radio = match self.exchange {
            Some(_) => BEAT_MS,
            None => self.radio.next(now).saturating_sub(now).max(10),
        };
        let busy = self.device.queue().len() > 0 || self.down_at <= now;
        match busy {
            true => radio.min(BEAT_MS),
            false => BEAT_MS,
        }
    }

    /// Whether more inputs may be taken.
    fn has_room(&self) -> bool {
        self.device.has_room() && self.device.waiting() < WAITING_MAX
    }

    fn is_empty(&self) -> bool {
        self.device.queue().len() == 0 && self.device.waiting() == 0 && self.exchange.is_none()
    }

    fn drained(&self) -> Result<(), Problem> {
        let refused = self.state.refused - self.refused_before;
        if refused == 0 {
            return Ok(());
        }
        let message = format!("{refused} of the agent's deeds were refused for good");
        let hint = "`aquifer-edge queue` names the rules";
        Err(Problem::new("partly_refused", 7, message, hint))
    }

    fn counts_time(&mut self, now: u64) {
        let passed = now.saturating_sub(self.looked_at);
        self.looked_at = now;
        self.state.run_ms += passed;
        // While an exchange is under way the gateway is not here.
        if self.gateway.as_ref().is_none_or(Gateway::is_up) {
            self.state.radio_ms += passed;
        }
    }

    fn keep(&mut self) -> Result<(), Problem> {
        self.kept_at = clock::now_ms();
        self.state.keep(&self.home)
    }
}

async fn next_line(lines: &mut Option<mpsc::Receiver<Line>>) -> Option<Line> {
    match lines {
        Some(lines) => lines.recv().await,
        None => pending().await,
    }
}

async fn under_way(exchange: &mut Option<Exchange>) -> Done {
    match exchange {
        Some(exchange) => exchange.await,
        None => pending().await,
    }
}

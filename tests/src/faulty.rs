//! Memory that fails, as engines.
//!
//! A bit of the memory of guests is wrong from some wake on, for ever or for a while. The node on that machine
//! knows nothing of it: it signs for what came of it with its true key, and so it lies.
//!
//! Where agents wake, it is the highest bit of the last byte of the inbox: it reads 1. Where the steps of
//! others are taken again, it is the lowest of the last byte of the state: it reads what it is not.
//!
//! Not here: the machines (`troupe`).

use aquifer_node::agents::Engines;
use aquifer_node::cli;
use aquifer_wasm::desk::Desk;
use aquifer_wasm::engine::{Engine, LoadModule, Loaded, Ran, Trap};
use aquifer_wasm::profile::Profile;
use std::ffi::OsString;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tracing_subscriber::EnvFilter;

/// Where the bit is, and from which wake on until which: `wakes:12`, `checks:3-4`.
pub(crate) const FAULT: &str = "AQUIFER_TEST_FAULT";

/// What the bit is in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// The inbox of agents that wake.
    Inbox,
    /// The state of agents whose steps are taken again.
    State,
}

/// A fault, and how often it has done harm.
#[derive(Clone, Debug)]
pub struct Fault {
    place: Place,
    when: Range<u64>,
    wakes: Arc<AtomicU64>,
    harm: Arc<AtomicU64>,
}

impl Fault {
    /// A bit in `place` is wrong for the wakes of these numbers, counted from 0.
    #[must_use]
    pub fn new(place: Place, when: Range<u64>) -> Self {
        Self {
            place,
            when,
            wakes: Arc::default(),
            harm: Arc::default(),
        }
    }

    /// How often what a guest saw or left was wrong.
    #[must_use]
    pub fn harm(&self) -> u64 {
        self.harm.load(Ordering::Relaxed)
    }

    /// The engines that nodes usually have, on a machine with this fault.
    #[must_use]
    pub fn engines(&self) -> Engines {
        let Engines { wakes, checks } = Engines::default();
        let fails = |of: Arc<dyn Engine>| {
            Arc::new(Failing {
                of,
                fault: self.clone(),
            })
        };
        match self.place {
            Place::Inbox => Engines {
                wakes: fails(wakes),
                checks,
            },
            Place::State => Engines {
                wakes,
                checks: fails(checks),
            },
        }
    }

    fn read(text: &str) -> Option<Self> {
        let (place, when) = text.split_once(':')?;
        let place = match place {
            "wakes" => Place::Inbox,
            "checks" => Place::State,
            _ => return None,
        };
        let (from, until) = match when.split_once('-') {
            Some((from, until)) => (from, until.parse().ok()?),
            None => (when, u64::MAX),
        };
        Some(Self::new(place, from.parse().ok()?..until))
    }
}

/// An engine on a machine that fails.
struct Failing<T: ?Sized> {
    fault: Fault,
    of: Arc<T>,
}

impl Engine for Failing<dyn Engine> {
    fn name(&self) -> &'static str {
        self.of.name()
    }

    fn load(&self, module: &[u8], profile: &Profile) -> Result<Arc<dyn Loaded>, LoadModule> {
        Ok(Arc::new(Failing {
            of: self.of.load(module, profile)?,
            fault: self.fault.clone(),
        }))
    }
}

impl Loaded for Failing<dyn Loaded> {
    fn run(&self, state: &[u8], input: &[u8], fuel: u64, desk: Desk) -> (Desk, Result<Ran, Trap>) {
        let Fault {
            place,
            when,
            wakes,
            harm,
        } = &self.fault;
        let fails = when.contains(&wakes.fetch_add(1, Ordering::Relaxed));
        let mut input = input.to_vec();
        let last = input.last_mut().filter(|byte| **byte & 0x80 == 0);
        if let Some(last) = last
            && fails
            && *place == Place::Inbox
        {
            *last |= 0x80;
            harm.fetch_add(1, Ordering::Relaxed);
        }
        let (desk, mut ran) = self.of.run(state, &input, fuel, desk);
        if let Ok(Ran { state, .. }) = &mut ran
            && let Some(last) = state.last_mut()
            && fails
            && *place == Place::State
        {
            *last ^= 1;
            harm.fetch_add(1, Ordering::Relaxed);
        }
        (desk, ran)
    }

    fn start(&self, desk: Desk) -> Result<(), Trap> {
        self.of.start(desk)
    }
}

/// The command line of `aquifer` on this machine, whose fault the environment tells. Returns the exit code.
///
/// # Panics
/// If the environment tells no fault that there is.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> u8 {
    let filter = EnvFilter::try_from_env("AQUIFER_LOG").unwrap_or_else(|_| EnvFilter::new("off"));
    let logs = tracing_subscriber::fmt().with_env_filter(filter);
    logs.with_writer(std::io::stderr).init();
    let fault = std::env::var(FAULT).ok();
    let fault = fault.map(|text| Fault::read(&text).expect("for example wakes:12 or checks:3-4"));
    let runtime = tokio::runtime::Runtime::new().expect("threads");
    match cli::parse(arguments) {
        Ok(cli) => runtime.block_on(match fault {
            Some(fault) => cli.on(fault.engines()).run(),
            None => cli.run(),
        }),
        Err(code) => code,
    }
}

//! Machines whose memory fails, as nodes in processes of their own and as engines.
//!
//! A bit of the memory of guests is wrong from some wake on, for ever or for a while. The node on that machine
//! knows nothing of it: it signs for what came of it with its true key, and so it lies.
//!
//! Where agents wake, it is the highest bit of the last byte of the inbox: it reads 1. Where the steps of
//! others are taken again, it is the lowest of the last byte of the state: it reads what it is not.

use aquifer_node::agents::Engines;
use aquifer_node::cli;
use aquifer_node::client::Client;
use aquifer_node::home::Home;
use aquifer_wasm::desk::Desk;
use aquifer_wasm::engine::{Engine, LoadModule, Loaded, Ran, Trap};
use aquifer_wasm::profile::Profile;
use serde_json::Value;
use std::ffi::OsString;
use std::io::{BufRead as _, BufReader};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tracing_subscriber::EnvFilter;

/// Where the bit is, and from which wake on until which: `wakes:12`, `checks:3-4`.
const FAULT: &str = "AQUIFER_TEST_FAULT";

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

/// A node in a process of its own.
#[derive(Debug)]
pub struct Machine {
    /// The way to it.
    pub client: Client,
    /// Its peer id.
    pub node: String,
    program: PathBuf,
    home: PathBuf,
    child: Child,
}

/// How a verb of the command line ended.
#[derive(Debug)]
pub struct Ended {
    /// The exit code.
    pub exit: i32,
    /// What it said.
    pub said: String,
}

impl Ended {
    /// The data of its answer in JSON.
    ///
    /// # Panics
    /// If it is none.
    #[must_use]
    pub fn data(&self) -> Value {
        let envelope: Value = serde_json::from_str(&self.said).expect("an envelope");
        envelope["data"].clone()
    }
}

impl Machine {
    /// Starts a node with its home in `home`: `verb` is `up` or `join` with what belongs to it. Waits until it
    /// answers.
    ///
    /// # Panics
    /// If it does not come up.
    #[must_use]
    pub fn starts(program: &Path, home: &Path, fault: Option<&str>, verb: &[&str]) -> Self {
        let mut command = Command::new(program);
        command
            .args(verb)
            .arg("--home")
            .arg(home)
            .args(["--json", "--no-mdns", "--api", "127.0.0.1:0"])
            .args(["--listen", "/ip4/127.0.0.1/udp/0/quic-v1"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        if let Some(fault) = fault {
            command.env(FAULT, fault);
        }
        let mut child = command.spawn().expect("started");
        let mut said = String::new();
        let mut out = BufReader::new(child.stdout.take().expect("it is piped"));
        // Nothing more comes: what ends it closes its side too.
        let _ = out.read_line(&mut said);
        let status: Value = serde_json::from_str(&said).unwrap_or_default();
        let node = status["data"]["node_id"].as_str();
        Self {
            node: node.unwrap_or_else(|| panic!("it says: {said}")).into(),
            client: Client::over_tcp(&Home::at(Some(home.to_owned()))),
            program: program.into(),
            home: home.into(),
            child,
        }
    }

    /// What the command line says on this machine.
    ///
    /// # Panics
    /// If the system does not let it run.
    #[must_use]
    pub fn says(&self, words: &[&str]) -> Ended {
        let mut command = Command::new(&self.program);
        command.args(words).arg("--home").arg(&self.home);
        let output = command.env("NO_COLOR", "1").output().expect("it runs");
        Ended {
            exit: output.status.code().expect("it ends by itself"),
            said: String::from_utf8_lossy(&output.stdout).into_owned(),
        }
    }

    /// Stops it, and waits until it is gone.
    ///
    /// # Panics
    /// If it does not answer.
    pub async fn stops(mut self) {
        self.client.stop().await.expect("it answers");
        self.child.wait().expect("it ends");
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // One that has ended cannot be killed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

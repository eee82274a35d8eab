//! What `agent` and its verbs take.

use crate::api::{Grants, Problem};
use crate::{clock, moment};
use clap::{Args, Subcommand};
use std::path::PathBuf;

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum AgentVerb {
    /// Deploy an agent: a WebAssembly module, and what it may do
    Deploy(DeployFlags),
    /// List the agents that this node knows
    List,
    /// Show an agent: where it lives, what it may do, how it is
    Show {
        /// Its name
        name: String,
    },
    /// Show what an agent logged
    Logs {
        /// Its name
        name: String,
        /// How many lines
        #[arg(short = 'n', long, default_value_t = 50)]
        last: usize,
    },
    /// Say something to an agent and print its answer
    Invoke(InvokeFlags),
    /// Show the receipts of an agent's steps
    Receipts {
        /// Its name
        name: String,
        /// How many
        #[arg(short = 'n', long, default_value_t = 20)]
        last: usize,
    },
    /// Take an agent's last steps again on another engine (exit 1: one comes to something else)
    Verify {
        /// Its name
        name: String,
        /// How many steps
        #[arg(long, default_value_t = 1_000)]
        steps: usize,
        /// wasmtime, wasmi or kernel
        #[arg(long, default_value = "wasmi")]
        engine: String,
    },
    /// Give an agent another module; its state goes on with it, or nothing changes
    Upgrade(UpgradeFlags),
    /// Let another node host an agent, with the state it has
    Move {
        /// Its name
        name: String,
        /// The node: a peer id, or its last four characters or more
        #[arg(long)]
        to: String,
        /// Begin anew there, without the state: its host is gone for good
        #[arg(long)]
        force: bool,
    },
    /// Stop an agent for good
    Stop {
        /// Its name
        name: String,
    },
}

#[derive(Debug, Args)]
pub(in crate::cli) struct DeployFlags {
    /// The module
    pub(super) file: PathBuf,
    /// What it is called [default: the file's name]
    #[arg(long)]
    pub(super) name: Option<String>,
    /// The topic it lives in [default: agents]
    #[arg(short, long)]
    pub(super) topic: Option<String>,
    #[command(flatten)]
    pub(super) grants: GrantFlags,
    /// How many agents of this kind there are to be
    #[arg(long, value_name = "N")]
    pub(super) agents: Option<u32>,
    /// How many nodes host it [default: 1, or as many as are to attest]
    #[arg(long, value_name = "N")]
    pub(super) copies: Option<u8>,
    /// Only nodes of this region host it
    #[arg(long)]
    pub(super) region: Option<String>,
    /// GPU memory that its hosts must have, such as 8GiB
    #[arg(long, value_name = "BYTES")]
    pub(super) gpu: Option<String>,
    /// A model that its hosts must have, by its hash; repeat it
    #[arg(long = "model")]
    pub(super) models: Vec<String>,
    /// Which named agent of this node signs for it [default: the node]
    #[arg(long)]
    pub(super) publisher: Option<String>,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct UpgradeFlags {
    /// Its name
    pub(super) name: String,
    /// The new module
    pub(super) file: PathBuf,
    #[command(flatten)]
    pub(super) grants: GrantFlags,
}

#[derive(Debug, Args)]
pub(super) struct GrantFlags {
    /// Topics on which it may speak, and all below them: alerts,acme/alerts
    #[arg(long = "topics", value_delimiter = ',')]
    publishes: Option<Vec<String>>,
    /// Topics that wake it, and all below them
    #[arg(long = "follow", value_delimiter = ',')]
    follows: Option<Vec<String>>,
    /// What the keys begin with under which it may remember
    #[arg(long = "remember", value_delimiter = ',', value_name = "KEYS")]
    remembers: Option<Vec<String>>,
    /// What it may ask of its host: publish,log,… [default: all but infer]
    #[arg(long = "grant", value_delimiter = ',')]
    imports: Option<Vec<String>>,
    /// What one wake may use: fuel=1000000,calls=64,bytes=4096
    #[arg(long, value_delimiter = ',', value_parser = quota)]
    budget: Vec<(String, u64)>,
    /// What it may use in a minute: wakes=600,messages=60,bytes=65536
    #[arg(long, value_delimiter = ',', value_parser = quota)]
    rate: Vec<(String, u64)>,
    /// Bytes of keys and values of its own
    #[arg(long, value_name = "BYTES")]
    kv: Option<u32>,
    /// For how long it may be woken, such as 90d
    #[arg(long, value_name = "DURATION")]
    expires: Option<String>,
    /// How many of its hosts must agree on each step: 2of3
    #[arg(long, value_name = "NofM")]
    attest: Option<String>,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct InvokeFlags {
    /// Its name
    pub(super) name: String,
    /// What for: JSON with whole numbers, or else a text; `-` reads it from stdin
    pub(super) input: Option<String>,
    /// The input is bytes in hexadecimal
    #[arg(long)]
    pub(super) hex: bool,
    /// Which copy, counted from 0
    #[arg(long)]
    pub(super) copy: Option<u32>,
    /// Do not wait for an answer: it is a message
    #[arg(long)]
    pub(super) send: bool,
    /// How long to wait [default: 10s]
    #[arg(long, value_name = "DURATION")]
    pub(super) wait: Option<String>,
}

/// Reads `fuel=100`.
fn quota(text: &str) -> Result<(String, u64), String> {
    let parts = text.split_once('=');
    let read = parts.and_then(|(name, number)| Some((name.to_owned(), number.parse().ok()?)));
    read.ok_or_else(|| format!("`{text}` is not NAME=NUMBER"))
}

impl GrantFlags {
    pub(super) fn read(self) -> Result<Grants, Problem> {
        let expires = self
            .expires
            .as_deref()
            .map(moment::read_duration)
            .transpose()?;
        let now = clock::wall().millis();
        let mut grants = Grants {
            imports: self.imports,
            publishes: self.publishes,
            follows: self.follows,
            remembers: self.remembers,
            kv_bytes: self.kv,
            expires_at: expires.map(|life| now.saturating_add(life.as_millis() as u64)),
            attest: self.attest,
            ..Grants::default()
        };
        let small = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        for (name, number) in &self.budget {
            match name.as_str() {
                "fuel" => grants.fuel = Some(*number),
                "calls" => grants.calls = Some(small(*number)),
                "bytes" => grants.bytes = Some(small(*number)),
                _ => return Err(no_quota("--budget", name, "fuel, calls or bytes")),
            }
        }
        for (name, number) in &self.rate {
            match name.as_str() {
                "wakes" => grants.wakes_per_minute = Some(small(*number)),
                "messages" => grants.messages_per_minute = Some(small(*number)),
                "bytes" => grants.bytes_per_minute = Some(small(*number)),
                _ => return Err(no_quota("--rate", name, "wakes, messages or bytes")),
            }
        }
        Ok(grants)
    }
}

fn no_quota(flag: &str, name: &str, known: &str) -> Problem {
    Problem::new(
        "bad_grant",
        2,
        format!("{flag} has no `{name}`"),
        format!("give {known}"),
    )
}

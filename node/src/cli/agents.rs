//! `agent`: WASM agents are deployed, asked, looked at and stopped.

use super::Context;
use super::human::{self, Paint, ago, one_line, plural, safe, short};
use super::output::Answer;
use crate::agents::said;
use crate::api::{
    AgentView, Deploy, Grants, Invoke, Invoked, LogLine, MoveAgent, Problem, ReceiptView, Verified,
    VerifyAgent,
};
use crate::{clock, moment};
use clap::{Args, Subcommand};
use serde_json::Value;
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// The longest module, in bytes: more is not read.
const MODULE_MAX: u64 = 65_536;

#[derive(Debug, Subcommand)]
pub(super) enum AgentVerb {
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
pub(super) struct DeployFlags {
    /// The module
    file: PathBuf,
    /// What it is called [default: the file's name]
    #[arg(long)]
    name: Option<String>,
    /// The topic it lives in [default: agents]
    #[arg(short, long)]
    topic: Option<String>,
    #[command(flatten)]
    grants: GrantFlags,
    /// How many agents of this kind there are to be
    #[arg(long, value_name = "N")]
    agents: Option<u32>,
    /// How many nodes host it [default: 1, or as many as are to attest]
    #[arg(long, value_name = "N")]
    copies: Option<u8>,
    /// Only nodes of this region host it
    #[arg(long)]
    region: Option<String>,
    /// GPU memory that its hosts must have, such as 8GiB
    #[arg(long, value_name = "BYTES", value_parser = human::read_bytes)]
    gpu: Option<u64>,
    /// A model that its hosts must have; repeat it
    #[arg(long = "model")]
    models: Vec<String>,
    /// Which named agent of this node signs for it [default: the node]
    #[arg(long)]
    publisher: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct UpgradeFlags {
    /// Its name
    name: String,
    /// The new module
    file: PathBuf,
    #[command(flatten)]
    grants: GrantFlags,
}

#[derive(Debug, Args)]
struct GrantFlags {
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
pub(super) struct InvokeFlags {
    /// Its name
    name: String,
    /// What for: JSON with whole numbers, or else a text; `-` reads it from stdin
    input: Option<String>,
    /// The input is bytes in hexadecimal
    #[arg(long)]
    hex: bool,
    /// Which copy, counted from 0
    #[arg(long)]
    copy: Option<u32>,
    /// Do not wait for an answer: it is a message
    #[arg(long)]
    send: bool,
    /// How long to wait [default: 10s]
    #[arg(long, value_name = "DURATION")]
    wait: Option<String>,
}

impl AgentVerb {
    /// The command, as the envelope names it.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Deploy(_) => "agent deploy",
            Self::List => "agent list",
            Self::Show { .. } => "agent show",
            Self::Logs { .. } => "agent logs",
            Self::Invoke(_) => "agent invoke",
            Self::Receipts { .. } => "agent receipts",
            Self::Verify { .. } => "agent verify",
            Self::Upgrade(_) => "agent upgrade",
            Self::Move { .. } => "agent move",
            Self::Stop { .. } => "agent stop",
        }
    }
}

pub(super) async fn agent(context: &Context, verb: AgentVerb) -> Result<Answer, Problem> {
    let (client, paint) = (&context.client, context.output.paint());
    match verb {
        AgentVerb::Deploy(flags) => deploy(context, flags).await,
        AgentVerb::List => {
            let agents = client.agents().await?;
            let ids: Vec<String> = agents.iter().map(|agent| agent.name.clone()).collect();
            Ok(Answer::new(&agents, list(paint, &agents)).ids(ids))
        }
        AgentVerb::Show { name } => Ok(one(paint, &client.agent(&name).await?)),
        AgentVerb::Logs { name, last } => {
            let lines = client.agent_logs(&name, last).await?;
            Ok(Answer::new(&lines, logs(paint, &lines)))
        }
        AgentVerb::Invoke(flags) => invoke(context, flags).await,
        AgentVerb::Receipts { name, last } => {
            let receipts = client.agent_receipts(&name, last).await?;
            let ids: Vec<String> = receipts.iter().map(|one| one.receipt.clone()).collect();
            Ok(Answer::new(&receipts, receipts_table(paint, &receipts)).ids(ids))
        }
        AgentVerb::Verify {
            name,
            steps,
            engine,
        } => {
            let request = VerifyAgent {
                steps: Some(steps),
                engine: Some(engine),
            };
            let verified = client.agent_verify(&name, &request).await?;
            let exit = u8::from(verified.different > 0);
            Ok(Answer::new(&verified, verdict(paint, &verified)).exit(exit))
        }
        AgentVerb::Upgrade(flags) => {
            let request = Deploy {
                module: module(&flags.file)?,
                grants: flags.grants.read()?,
                ..Deploy::default()
            };
            Ok(one(
                paint,
                &client.agent_upgrade(&flags.name, &request).await?,
            ))
        }
        AgentVerb::Move { name, to, force } => {
            let request = MoveAgent {
                to,
                force,
                wait_ms: None,
            };
            Ok(one(paint, &client.agent_move(&name, &request).await?))
        }
        AgentVerb::Stop { name } => Ok(one(paint, &client.agent_stop(&name).await?)),
    }
}

async fn deploy(context: &Context, flags: DeployFlags) -> Result<Answer, Problem> {
    let stem = flags.file.file_stem().and_then(|stem| stem.to_str());
    let request = Deploy {
        name: flags
            .name
            .unwrap_or_else(|| stem.unwrap_or("agent").to_owned()),
        topic: flags.topic,
        module: module(&flags.file)?,
        grants: flags.grants.read()?,
        agents: flags.agents,
        copies: flags.copies,
        region: flags.region,
        gpu_bytes: flags.gpu,
        models: flags.models,
        publisher: flags.publisher,
        wait_ms: None,
    };
    let agent = context.client.agent_deploy(&request).await?;
    Ok(one(context.output.paint(), &agent))
}

async fn invoke(context: &Context, flags: InvokeFlags) -> Result<Answer, Problem> {
    let text = match flags.input.as_deref() {
        Some("-") => Some(super::text::given(flags.input)?),
        _ => flags.input,
    };
    let bytes = flags
        .hex
        .then(|| hex(text.as_deref().unwrap_or_default()))
        .transpose()?;
    let input = match &bytes {
        Some(_) => None,
        None => text.map(|text| serde_json::from_str(&text).unwrap_or(Value::String(text))),
    };
    let wait = flags
        .wait
        .as_deref()
        .map(moment::read_duration)
        .transpose()?;
    let request = Invoke {
        input,
        bytes,
        copy: flags.copy,
        send: flags.send,
        wait_ms: wait.map(|wait| wait.as_millis() as u64),
    };
    let invoked = context.client.agent_invoke(&flags.name, &request).await?;
    Ok(Answer::new(&invoked, said_of(&invoked)))
}

fn said_of(invoked: &Invoked) -> String {
    match (&invoked.said, &invoked.bytes) {
        (Some(Value::String(text)), _) => safe(text),
        (Some(said), _) => said.to_string(),
        (None, Some(bytes)) if !bytes.is_empty() => {
            let bytes = data_encoding::BASE64.decode(bytes.as_bytes());
            said::shown(&bytes.unwrap_or_default())
        }
        (None, None) if invoked.step.is_none() => "sent".to_owned(),
        _ => "it took the input and said nothing".to_owned(),
    }
}

fn module(path: &Path) -> Result<String, Problem> {
    let unreadable = |cause: std::io::Error| {
        let message = format!("cannot read {}: {cause}", path.display());
        Problem::new("no_such_file", 3, message, "give the path of a .wasm file")
    };
    let file = std::fs::File::open(path).map_err(unreadable)?;
    let mut bytes = Vec::new();
    file.take(MODULE_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    if bytes.len() as u64 > MODULE_MAX {
        let message = format!("{} has more than {MODULE_MAX} bytes", path.display());
        let hint = "agents are small: build with opt-level z, as wasm-agent/guest/README.md says";
        return Err(Problem::new("bad_module", 2, message, hint));
    }
    Ok(data_encoding::BASE64.encode(&bytes))
}

fn hex(text: &str) -> Result<String, Problem> {
    let bytes = data_encoding::HEXLOWER_PERMISSIVE.decode(text.trim().as_bytes());
    let bytes = bytes.map_err(|_| {
        Problem::new(
            "bad_input",
            2,
            "the input is not hexadecimal",
            "for example: --hex 8201",
        )
    })?;
    Ok(data_encoding::BASE64.encode(&bytes))
}

/// Reads `fuel=100`.
fn quota(text: &str) -> Result<(String, u64), String> {
    let parts = text.split_once('=');
    let read = parts.and_then(|(name, number)| Some((name.to_owned(), number.parse().ok()?)));
    read.ok_or_else(|| format!("`{text}` is not NAME=NUMBER"))
}

impl GrantFlags {
    fn read(self) -> Result<Grants, Problem> {
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

fn one(paint: Paint, agent: &AgentView) -> Answer {
    let state = state(paint, &agent.state);
    let mut human = format!("{} {state} in {}\n", paint.bold(&agent.name), agent.topic);
    let mut row = |what: &str, value: String| human += &format!("  {what:<11} {value}\n");
    row("id", agent.id.clone());
    row(
        "published",
        format!("by {}, version {}", short(&agent.publisher), agent.version),
    );
    let count = agent.agents as usize;
    row("agents", format!("{count} {}", plural(count, "agent")));
    for host in &agent.hosts {
        let name = format!("{} {}", host.node.region, short(&host.node.node));
        let what = match (&host.failed, host.settled, host.active) {
            _ if host.quarantined => paint.bad("quarantined: it signed for a step that is not so"),
            (Some(why), ..) => paint.bad(why),
            (None, false, _) => paint.dim("has not answered yet"),
            (None, true, true) => "wakes it".to_owned(),
            (None, true, false) => paint.dim("stands by"),
        };
        row("host", format!("{name}  {what}"));
    }
    let names = |names: &Option<Vec<String>>| names.clone().unwrap_or_default().join(", ");
    let grants = &agent.grants;
    let lists = [
        ("speaks on", &grants.publishes),
        ("follows", &grants.follows),
        ("remembers", &grants.remembers),
    ];
    for (what, list) in lists {
        if list.as_ref().is_some_and(|list| !list.is_empty()) {
            row(what, names(list));
        }
    }
    for dispute in &agent.disputes {
        let ours = dispute
            .ours
            .as_ref()
            .map_or("nothing", |ours| &ours.receipt[..12]);
        let theirs = &dispute.theirs;
        let (node, by) = (short(&theirs.node), short(&dispute.by));
        let receipt = &theirs.receipt[..12];
        let what = format!(
            "step {}: {node} signed {receipt}, {by} signed {ours}: {}",
            theirs.step, dispute.what
        );
        row("disputed", paint.warn(&what));
    }
    if let Some(here) = &agent.here {
        let woke = here.woke_at.map_or_else(|| "never".to_owned(), ago);
        row(
            "steps",
            format!(
                "{}, woke {woke}, {} came to nothing",
                here.steps, here.failures
            ),
        );
        if let Some(why) = &here.failed {
            row("last", paint.warn(&one_line(why, 70)));
        }
        if let Some(health) = &here.health {
            row(
                "health",
                format!("{} {}", health.code, one_line(&health.words, 60)),
            );
        }
    }
    Answer::new(agent, human).ids([agent.name.clone()])
}

fn state(paint: Paint, state: &str) -> String {
    match state {
        "running" => paint.good(state),
        "failed" => paint.bad(state),
        _ => paint.dim(state),
    }
}

fn list(paint: Paint, agents: &[AgentView]) -> String {
    if agents.is_empty() {
        return "no agents: deploy one with `aquifer agent deploy FILE.wasm`".to_owned();
    }
    let rows: Vec<Vec<String>> = agents
        .iter()
        .map(|agent| {
            let hosts = agent.hosts.iter().map(|host| short(&host.node.node));
            let steps = agent
                .here
                .as_ref()
                .map_or_else(String::new, |here| here.steps.to_string());
            let woke = agent
                .here
                .as_ref()
                .and_then(|here| here.woke_at)
                .map_or_else(String::new, ago);
            vec![
                agent.name.clone(),
                agent.state.clone(),
                agent.agents.to_string(),
                agent.topic.clone(),
                hosts.collect::<Vec<_>>().join(" "),
                steps,
                woke,
            ]
        })
        .collect();
    let heading = ["agent", "state", "count", "home", "hosts", "steps", "woke"];
    human::table(paint, &heading, &rows)
}

fn logs(paint: Paint, lines: &[LogLine]) -> String {
    let shown = lines.iter().map(|line| {
        let level = match line.level.as_str() {
            "error" => paint.bad("error"),
            "warn" => paint.warn("warn "),
            other => paint.dim(&format!("{other:<5}")),
        };
        format!(
            "{} {level} {}\n",
            paint.dim(&ago(line.at)),
            safe(&line.line)
        )
    });
    shown.collect()
}

fn receipts_table(paint: Paint, receipts: &[ReceiptView]) -> String {
    let rows: Vec<Vec<String>> = receipts
        .iter()
        .map(|one| {
            let state = format!("{} → {}", &one.before[..8], &one.after[..8]);
            vec![
                one.step.to_string(),
                one.cause.clone(),
                one.effects.to_string(),
                state,
                one.receipt[..12].to_owned(),
                short(&one.node),
                ago(one.at),
            ]
        })
        .collect();
    let heading = [
        "step",
        "woke to",
        "effects",
        "state",
        "receipt",
        "signed by",
        "when",
    ];
    human::table(paint, &heading, &rows)
}

fn verdict(paint: Paint, verified: &Verified) -> String {
    let Verified {
        engine,
        checked,
        equal,
        different,
        findings,
    } = verified;
    let steps = plural(*checked, "step");
    let mut human = format!("{checked} {steps} taken again on {engine}: {equal} equal");
    if *different > 0 {
        human += &format!(", {}", paint.bad(&format!("{different} different")));
    }
    for finding in findings {
        let node = short(&finding.node);
        human += &format!(
            "\n  step {} signed by {node}: {}",
            finding.step, finding.what
        );
    }
    human
}

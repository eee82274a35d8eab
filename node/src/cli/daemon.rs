//! `up`, `join`, `down`: the daemon's life.
//!
//! In the foreground, `up` starts the node, opens its doors, prints the status once it answers, and
//! ends on Ctrl-C, SIGTERM, `aquifer down`, or when the node fails. With `--detach` it starts itself
//! again in a process group of its own and reads one line from that child's stdout: the status, or
//! what went wrong. Nothing is polled and no log is searched.

use super::Context;
use super::output::Answer;
use super::swarm;
use crate::api::{Problem, Status};
use crate::config;
use crate::home::Home;
use crate::surface::{Doors, Place};
use crate::{Node, Up};
use clap::Args;
use serde_json::Value;
use std::ffi::OsString;
use std::fs::OpenOptions;
use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::Command;

/// How long a daemon may take to start, or to stop. Joining asks nodes far away.
const PATIENCE: Duration = Duration::from_secs(90);

/// How often it is looked whether a daemon has stopped.
const GLANCE: Duration = Duration::from_millis(50);

#[derive(Clone, Debug, Default, Args)]
pub(super) struct UpFlags {
    /// The region of this node, such as eu or eu/fr; needed once, when a hive is founded
    #[arg(long)]
    region: Option<String>,
    /// Where to serve the local API; port 0 takes any free one [default: 127.0.0.1:27470]
    #[arg(long, value_name = "ADDRESS:PORT")]
    api: Option<String>,
    /// A multiaddr to listen on for other nodes; repeat it
    #[arg(long, value_name = "MULTIADDR")]
    listen: Vec<String>,
    /// A multiaddr of a node to connect to; repeat it
    #[arg(long = "seed", value_name = "MULTIADDR")]
    seeds: Vec<String>,
    /// Roles: seed,bridge,…
    #[arg(long = "role", value_delimiter = ',')]
    roles: Vec<String>,
    /// The store engine, chosen once when the home is made: redb or sled [default: redb]
    #[arg(long, value_name = "ENGINE")]
    store: Option<String>,
    /// GPU memory to say that this node has, such as 8GiB: others place work by it
    #[arg(long, value_name = "AMOUNT")]
    gpu: Option<String>,
    /// A command that asks a model for agents: the prompt on its stdin, the answer on its stdout
    #[arg(long, value_name = "COMMAND")]
    infer: Option<String>,
    /// Topics whose tasks this node runs: programs of others, shut in and on a budget
    #[arg(long, value_name = "TOPIC", value_delimiter = ',')]
    tasks: Vec<String>,
    /// How many tasks it runs at once [default: 1]
    #[arg(long, value_name = "N")]
    tasks_at_once: Option<usize>,
    /// Run those that agents ask for, too
    #[arg(long, requires = "tasks")]
    tasks_from_agents: bool,
    /// Do not look for nodes on the local network
    #[arg(long)]
    no_mdns: bool,
    /// Let the API's address be one that other machines can reach
    #[arg(long)]
    insecure: bool,
    /// Go to the background once the node answers
    #[arg(long)]
    detach: bool,
}

#[derive(Debug, Args)]
pub(super) struct JoinFlags {
    /// What `aquifer invite` printed
    ticket: String,
    #[command(flatten)]
    up: UpFlags,
}

pub(super) async fn up(context: &Context, flags: UpFlags) -> Result<u8, Problem> {
    run(context, "up", flags, None).await
}

pub(super) async fn join(context: &Context, flags: JoinFlags) -> Result<u8, Problem> {
    run(context, "join", flags.up, Some(flags.ticket)).await
}

async fn run(
    context: &Context,
    command: &str,
    flags: UpFlags,
    ticket: Option<String>,
) -> Result<u8, Problem> {
    if let Some(region) = &flags.region {
        config::parse_region(region)?;
    }
    let output = &context.output;
    let ready = |status: &Status| {
        let human = swarm::shown(output.paint(), status);
        output.answer(
            command,
            Answer::new(status, human).ids([status.node_id.clone()]),
        )
    };
    if flags.detach {
        let status = detach(&context.home, &flags, ticket.as_deref()).await?;
        output.say(&format!("the log is {}", context.home.log_file().display()));
        return Ok(ready(&status));
    }
    let up = Up {
        engines: context.engines.clone(),
        ..flags.started_in(&context.home, ticket)
    };
    let node = crate::start(up).await?;
    let outcome = serve(&node, &flags, &ready).await;
    node.stop().await;
    outcome
}

/// Opens the doors of `node` and holds them open until it is to stop.
async fn serve(
    node: &Node,
    flags: &UpFlags,
    ready: &impl Fn(&Status) -> u8,
) -> Result<u8, Problem> {
    let doors = open(node, flags.insecure).await?;
    node.set_api(doors.api());
    node.home()
        .write("api.addr", doors.api().to_string().as_bytes())?;
    let stop = doors.stop();
    let memory = node.memory();
    let serving = tokio::spawn(doors.serve(memory.clone()));
    let status = memory.status().await?;
    ready(&status);
    let outcome = tokio::select! {
        () = asked_to_end() => Ok(0),
        () = stop.cancelled() => Ok(0),
        problem = node.failed() => Err(problem),
    };
    tracing::info!("stopping");
    stop.cancel();
    // The task has nothing to say but that it is over.
    let _ = serving.await;
    let _ = std::fs::remove_file(node.home().api_file());
    outcome
}

/// Opens the doors where they are wanted. A port that nobody asked for may be another one.
async fn open(node: &Node, insecure: bool) -> Result<Doors, Problem> {
    let place = |api: SocketAddr| Place {
        api,
        insecure,
        socket: node.home().socket(),
        token: node.token().to_owned(),
    };
    let wanted = node.api_wanted();
    match Doors::open(place(wanted)).await {
        Err(problem) if problem.code == "port_taken" && !node.api_chosen() => {
            Doors::open(place(SocketAddr::new(wanted.ip(), 0))).await
        }
        opened => opened,
    }
}

#[cfg(unix)]
async fn asked_to_end() {
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::terminate()) {
        Ok(mut terminated) => tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = terminated.recv() => {}
        },
        Err(_) => drop(tokio::signal::ctrl_c().await),
    }
}

#[cfg(not(unix))]
async fn asked_to_end() {
    drop(tokio::signal::ctrl_c().await);
}

impl UpFlags {
    fn started_in(&self, home: &Home, ticket: Option<String>) -> Up {
        Up {
            home: Some(home.clone()),
            region: self.region.clone(),
            api: self.api.clone(),
            listen: self.listen.clone(),
            seeds: self.seeds.clone(),
            roles: self.roles.clone(),
            no_mdns: self.no_mdns,
            store: self.store.clone(),
            gpu: self.gpu.clone(),
            infer: self.infer.clone(),
            tasks: self.tasks.clone(),
            tasks_at_once: self.tasks_at_once,
            tasks_from_agents: self.tasks_from_agents,
            ticket,
            ..Up::default()
        }
    }

    /// The arguments that say the same to another process.
    fn arguments(&self, home: &Home, ticket: Option<&str>) -> Vec<OsString> {
        let mut out: Vec<OsString> = vec!["--home".into(), home.path().into(), "--json".into()];
        match ticket {
            Some(ticket) => out.extend(["join".into(), ticket.into()]),
            None => out.push("up".into()),
        }
        let one = [
            ("--region", &self.region),
            ("--api", &self.api),
            ("--store", &self.store),
            ("--gpu", &self.gpu),
            ("--infer", &self.infer),
        ];
        let many = [
            ("--listen", &self.listen),
            ("--seed", &self.seeds),
            ("--role", &self.roles),
            ("--tasks", &self.tasks),
        ];
        let one = one
            .into_iter()
            .flat_map(|(flag, value)| value.iter().map(move |v| (flag, v)));
        let many = many
            .into_iter()
            .flat_map(|(flag, list)| list.iter().map(move |v| (flag, v)));
        for (flag, value) in one.chain(many) {
            out.extend([flag.into(), value.into()]);
        }
        if let Some(at_once) = self.tasks_at_once {
            out.extend(["--tasks-at-once".into(), at_once.to_string().into()]);
        }
        for (flag, set) in [
            ("--no-mdns", self.no_mdns),
            ("--insecure", self.insecure),
            ("--tasks-from-agents", self.tasks_from_agents),
        ] {
            out.extend(set.then(|| flag.into()));
        }
        out
    }
}

/// Starts a daemon that outlives this process, and gives its status once it answers.
///
/// # Errors
/// What kept it from starting; `timeout` after 90 seconds.
pub(super) async fn detach(
    home: &Home,
    flags: &UpFlags,
    ticket: Option<&str>,
) -> Result<Status, Problem> {
    let failed = |cause: std::io::Error| {
        Problem::new(
            "cannot_start",
            1,
            format!("cannot start a daemon: {cause}"),
            "",
        )
    };
    home.create()?;
    let mut log = OpenOptions::new();
    log.create(true).append(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut log, 0o600);
    let log = log.open(home.log_file()).map_err(failed)?;
    let mut command = Command::new(std::env::current_exe().map_err(failed)?);
    command.args(flags.arguments(home, ticket));
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log);
    // A group of its own, so that the Ctrl-C of this terminal is not for it.
    #[cfg(unix)]
    command.process_group(0);
    let mut child = command.spawn().map_err(failed)?;
    let out = child.stdout.take().expect("it is piped");
    let mut line = String::new();
    let mut first = BufReader::new(out.take(16 * 1024 * 1024));
    let told = tokio::time::timeout(PATIENCE, first.read_line(&mut line)).await;
    told.map_err(|_| late(home))?.map_err(failed)?;
    let envelope: Value = serde_json::from_str(&line).unwrap_or_default();
    if let Ok(status) = serde_json::from_value(envelope["data"].clone()) {
        return Ok(status);
    }
    let exit = tokio::time::timeout(PATIENCE, child.wait()).await;
    let code = exit
        .ok()
        .and_then(Result::ok)
        .and_then(|exit| exit.code())
        .unwrap_or(1);
    let text = |field: &str| {
        envelope["error"][field]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    let message = match text("message") {
        empty if empty.is_empty() => "the daemon ended before it answered".to_owned(),
        message => message,
    };
    let hint = match text("hint") {
        empty if empty.is_empty() => format!("its log is {}", home.log_file().display()),
        hint => hint,
    };
    let name = text("code");
    let name = if name.is_empty() {
        "cannot_start"
    } else {
        &name
    };
    Err(Problem::new(
        name,
        u8::try_from(code).unwrap_or(1),
        message,
        hint,
    ))
}

fn late(home: &Home) -> Problem {
    let message = format!("the daemon does not answer after {} s", PATIENCE.as_secs());
    Problem::new(
        "timeout",
        124,
        message,
        format!("its log is {}", home.log_file().display()),
    )
}

pub(super) async fn down(context: &Context) -> Result<Answer, Problem> {
    let node = context.client.status().await?.node_id;
    context.client.stop().await?;
    let gone = async {
        // The lock is the last thing that a node lets go of.
        while context.client.status().await.is_ok() || context.home.lock().is_err() {
            tokio::time::sleep(GLANCE).await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.map_err(|_| {
        let message = format!("the daemon still runs after {} s", PATIENCE.as_secs());
        Problem::new("timeout", 124, message, "it may be busy: look again")
    })?;
    let data = serde_json::json!({ "node_id": node, "stopped": true });
    Ok(Answer::new(&data, "stopped"))
}

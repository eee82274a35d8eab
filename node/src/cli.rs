//! The command line: `aquifer VERB`.
//!
//! A verb is parsed here, carried out by one function of a file below, and answered in one of four
//! forms by `output`. Data goes to stdout and everything else to stderr. The exit code says what
//! became of it: 0 done, 1 failure, 2 usage, 3 not found, 4 no daemon, 5 not authorised, 6 refused by
//! policy, 7 partial, 124 timeout.
//!
//! Not here: anything that decides. Verbs speak to the daemon through `client`.

mod agents;
mod bench;
mod daemon;
mod governing;
mod graph;
mod human;
mod import;
mod memories;
mod meta;
mod models;
mod output;
mod peers;
mod shim;
mod swarm;
mod task;
mod text;

use crate::agents::Engines;
use crate::api::Problem;
use crate::client::Client;
use crate::home::Home;
use clap::{ArgAction, Args, Parser, Subcommand};
use output::{Format, Output};
use std::ffi::OsString;
use std::path::PathBuf;

/// One memory under all your agents. No centre, no master.
#[derive(Debug, Parser)]
#[command(
    name = "aquifer",
    version,
    disable_help_subcommand = true,
    max_term_width = 100
)]
pub struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    verb: Verb,
    #[arg(skip)]
    engines: Option<Engines>,
}

/// Flags that every verb takes.
#[derive(Debug, Clone, Args)]
struct Global {
    /// The folder that holds everything the node owns
    #[arg(long, global = true, value_name = "DIR", help_heading = "Global")]
    home: Option<PathBuf>,
    /// How to answer
    #[arg(
        short = 'o',
        long = "output",
        global = true,
        value_enum,
        help_heading = "Global"
    )]
    format: Option<Format>,
    /// Short for -o json
    #[arg(long, global = true, help_heading = "Global")]
    json: bool,
    /// Say only what was asked for
    #[arg(short, long, global = true, help_heading = "Global")]
    quiet: bool,
    /// Log more; twice, everything (AQUIFER_LOG is finer)
    #[arg(short, long, global = true, action = ArgAction::Count, help_heading = "Global")]
    verbose: u8,
    /// How log lines look
    #[arg(
        long,
        global = true,
        value_enum,
        default_value = "text",
        help_heading = "Global"
    )]
    log_format: LogFormat,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Start this machine's node
    Up(daemon::UpFlags),
    /// Stop it
    Down,
    /// Join a hive with the ticket of one of its nodes, and start
    Join(daemon::JoinFlags),
    /// Make a ticket for one more machine
    Invite(swarm::InviteFlags),
    /// Remember a text
    #[command(visible_aliases = ["add", "store"])]
    Remember(memories::RememberFlags),
    /// Find memories
    #[command(visible_alias = "search")]
    Recall(memories::RecallFlags),
    /// Show memories by id
    Get(memories::GetFlags),
    /// List memories, newest first
    List(memories::ListFlags),
    /// Show the versions of a memory
    History(memories::HistoryFlags),
    /// Forget memories for good, everywhere
    #[command(visible_aliases = ["rm", "delete"])]
    Forget(memories::ForgetFlags),
    /// Show what happens, as it happens
    #[command(visible_alias = "tail")]
    Watch(swarm::WatchFlags),
    /// Create and show topics and their law
    #[command(subcommand)]
    Topic(governing::TopicVerb),
    /// Ask the law
    #[command(subcommand)]
    Policy(governing::PolicyVerb),
    /// Publish models, and keep them where policies place them
    #[command(subcommand)]
    Model(models::ModelVerb),
    /// Show this node
    Status(swarm::StatusFlags),
    /// Show the nodes it is connected to, and the members it is not
    Peers,
    /// Ask a node whether it is there, and how far it is
    Ping(peers::PingFlags),
    /// Show the swarm: who is connected to whom
    Graph(graph::GraphFlags),
    /// Find where a node listens, or who holds a topic
    Find(swarm::FindFlags),
    /// Look for what is wrong, and say what to do about it
    Doctor,
    /// Remember every line of a JSON lines file
    Import(import::ImportFlags),
    /// Print every memory, one JSON object a line
    Export(import::ExportFlags),
    /// Run WebAssembly agents on the swarm
    #[command(subcommand)]
    Agent(agents::AgentVerb),
    /// Try what this machine can do
    #[command(subcommand)]
    Bench(bench::BenchVerb),
    /// Run a program shut in and on a budget, here or on a node that can
    #[command(subcommand)]
    Task(task::TaskVerb),
    /// Speak the Model Context Protocol on stdin and stdout
    Mcp,
    /// Where things are
    #[command(subcommand)]
    Config(meta::ConfigVerb),
    /// Print the completions of a shell
    Completions(meta::CompletionsFlags),
    /// Print the version
    Version,
    /// Print this help, or that of a verb; with --json the whole tree of verbs
    Help(meta::HelpFlags),
}

/// What a verb works with.
struct Context {
    home: Home,
    client: Client,
    output: Output,
    /// On what agents run, if a daemon starts here.
    engines: Option<Engines>,
}

/// Parses the arguments of the process. What is wrong with them, and help, is printed here.
///
/// # Errors
/// The exit code to end with: 0 after help and version, else 2.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Cli, u8> {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    Cli::try_parse_from(&arguments).map_err(|error| {
        let is_json = arguments.iter().any(|argument| argument == "--json");
        if error.use_stderr() && is_json {
            let text = error.render().to_string();
            let first = text.split("\n\n").next().unwrap_or_default();
            let message = first.trim().trim_start_matches("error: ").to_owned();
            let problem = Problem::new("usage", 2, message, "see `aquifer help`");
            Output::of(Format::Json, false, 0).problem("", &problem);
        } else {
            // Nobody is left to tell when stderr is closed.
            let _ = error.print();
        }
        if error.use_stderr() { 2 } else { 0 }
    })
}

impl Cli {
    /// The log filter that the flags ask for; a daemon in the foreground says more than a verb.
    #[must_use]
    pub fn log_filter(&self) -> &'static str {
        let is_daemon = matches!(self.verb, Verb::Up(_) | Verb::Join(_));
        match (self.global.quiet, self.global.verbose, is_daemon) {
            (true, ..) => "error",
            (_, 0, false) => "warn,libp2p_kad=error",
            (_, 0, true) | (_, 1, false) => "warn,libp2p_kad=error,aquifer_node=info",
            (_, 1, true) | (_, 2, false) => "info,aquifer_node=debug",
            _ => "trace",
        }
    }

    /// How log lines look.
    #[must_use]
    pub fn log_format(&self) -> LogFormat {
        self.global.log_format
    }

    /// The same, and a node that it starts in this process lets agents run on `engines`.
    #[must_use]
    pub fn on(mut self, engines: Engines) -> Self {
        self.engines = Some(engines);
        self
    }

    /// Carries the verb out, prints what became of it, and gives the exit code.
    pub async fn run(self) -> u8 {
        let global = self.global;
        let format = match (global.format, global.json) {
            (Some(format), _) => format,
            (None, true) => Format::Json,
            (None, false) => Format::default_here(),
        };
        let home = Home::at(global.home);
        let context = Context {
            client: Client::of(&home),
            output: Output::of(format, global.quiet, crate::clock::wall().millis()),
            engines: self.engines,
            home,
        };
        let command = self.verb.name();
        match self.verb.run(&context).await {
            Ok(exit) => exit,
            Err(problem) => {
                context.output.problem(command, &problem);
                problem.exit
            }
        }
    }
}

impl Verb {
    fn name(&self) -> &'static str {
        match self {
            Self::Up(_) => "up",
            Self::Down => "down",
            Self::Join(_) => "join",
            Self::Invite(_) => "invite",
            Self::Remember(_) => "remember",
            Self::Recall(_) => "recall",
            Self::Get(_) => "get",
            Self::List(_) => "list",
            Self::History(_) => "history",
            Self::Forget(_) => "forget",
            Self::Watch(_) => "watch",
            Self::Topic(verb) => verb.name(),
            Self::Policy(_) => "policy explain",
            Self::Model(verb) => verb.name(),
            Self::Status(_) => "status",
            Self::Peers => "peers",
            Self::Ping(_) => "ping",
            Self::Graph(_) => "graph",
            Self::Find(_) => "find",
            Self::Doctor => "doctor",
            Self::Import(_) => "import",
            Self::Export(_) => "export",
            Self::Agent(verb) => verb.name(),
            Self::Bench(_) => "bench agents",
            Self::Task(verb) => verb.name(),
            Self::Mcp => "mcp",
            Self::Config(_) => "config path",
            Self::Completions(_) => "completions",
            Self::Version => "version",
            Self::Help(_) => "help",
        }
    }

    async fn run(self, context: &Context) -> Result<u8, Problem> {
        let command = self.name();
        let answer = match self {
            // These print for themselves, as they go.
            Self::Up(flags) => return daemon::up(context, flags).await,
            Self::Join(flags) => return daemon::join(context, flags).await,
            Self::Watch(flags) => return swarm::watch(context, flags).await,
            Self::Status(flags) if flags.watch => return swarm::status_watch(context, flags).await,
            Self::Export(flags) => return import::export(context, flags).await,
            Self::Task(verb) => return task::task(context, verb).await,
            Self::Mcp => return shim::mcp(context).await,
            Self::Completions(flags) => return Ok(meta::completions(flags)),
            Self::Help(flags) => meta::help(context, flags)?,
            Self::Down => daemon::down(context).await?,
            Self::Invite(flags) => swarm::invite(context, flags).await?,
            Self::Remember(flags) => memories::remember(context, flags).await?,
            Self::Recall(flags) => memories::recall(context, flags).await?,
            Self::Get(flags) => memories::get(context, flags).await?,
            Self::List(flags) => memories::list(context, flags).await?,
            Self::History(flags) => memories::history(context, flags).await?,
            Self::Forget(flags) => memories::forget(context, flags).await?,
            Self::Topic(verb) => governing::topic(context, verb).await?,
            Self::Policy(verb) => governing::policy(context, verb).await?,
            Self::Model(verb) => models::model(context, verb).await?,
            Self::Status(flags) => swarm::status(context, &flags).await?,
            Self::Peers => peers::peers(context).await?,
            Self::Ping(flags) => peers::ping(context, flags).await?,
            Self::Graph(flags) => graph::graph(context, flags).await?,
            Self::Find(flags) => swarm::find(context, flags).await?,
            Self::Doctor => swarm::doctor(context).await?,
            Self::Import(flags) => import::import(context, flags).await?,
            Self::Agent(verb) => agents::agent(context, verb).await?,
            Self::Bench(bench::BenchVerb::Agents(flags)) => bench::agents(context, flags).await?,
            Self::Config(_) => meta::paths(context),
            Self::Version => meta::version(),
        };
        Ok(context.output.answer(command, answer))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_tree_of_verbs_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_contract_for_scripts_parses() {
        for line in [
            "up --region eu --home /h --api 127.0.0.1:0 --listen /ip4/0.0.0.0/tcp/0 --detach",
            "up --region eu --store sled",
            "up --listen a --listen b --seed c --seed d --role seed,bridge --no-mdns",
            "join aqf1x --region eu --home /h --seed a",
            "invite --region eu --topic a --topic b --ttl 15m --json",
            "remember text -t topic --durability quorum:2 --tag a --tag b --meta k=v --json",
            "add -",
            "recall query -t topic -k 3 --as-of 7d --wait 2s --json",
            "recall query --swarm --require-all",
            "recall query --scope local",
            "ping abcd1234 -c 3 --json",
            "graph --dot",
            "graph --html f.html",
            "search query --since 2026-01-01 --mode lexical --budget 1200",
            "forget 00ff --receipts",
            "rm --topic t --dry-run --force",
            "topic create org/eu --regions eu,us --copies 3 --retention 30d",
            "topic policy show org/eu",
            "topic policy set org/eu --regions eu",
            "policy explain org/eu --to us",
            "model push f.gguf --name llama-3-8b:q4 -t acme/models --licence apache-2.0 --purpose chat --needs gpu=8GiB,ram=4GiB --regions eu,us",
            "model update f.gguf --name llama-3-8b:q4",
            "model pull llama-3-8b -t acme/models --json",
            "model list",
            "model show llama-3-8b",
            "model check llama-3-8b",
            "model rm llama-3-8b",
            "up --gpu 8GiB --infer cat",
            "status --check",
            "find org/eu --json",
            "doctor -o json",
            "agent deploy f.wasm --name a -t acme/agents --topics alerts --follow readings --grant log",
            "agent deploy f.wasm --budget fuel=1000,calls=8 --rate wakes=60 --copies 3 --region eu",
            "agent deploy f.wasm --attest 2of3 --agents 1000000 --gpu 8GiB --model m --json",
            "agent list --json",
            "agent show a",
            "agent logs a -n 5",
            "agent invoke a 7 --copy 3 --wait 2s --json",
            "agent receipts a --json",
            "agent verify a --steps 100000 --engine kernel --json",
            "agent upgrade a f.wasm",
            "agent move a --to abcd",
            "agent stop a",
            "bench agents --agents 1000000 --seconds 60 --engine wasmi --durable step --json",
            "task run --memory 256MiB --time 10s --cpu 1 --stdin f --file a --env LANG --json -- sh -c true",
            "task probe --json",
            "up --tasks acme/builds,acme/models --tasks-at-once 2 --tasks-from-agents",
            "task submit -t acme/builds --needs gpu=8GiB,ram=1GiB,model=m --time 1m --file f --wait 1m -- make -j2",
            "task list -t acme/builds --json",
            "task show 0011aabb --json",
            "task wait 0011aabb --for 10s --json",
            "task cancel 0011aabb",
            "mcp --home /h",
            "import f.jsonl -t topic --keep-going",
            "export -t topic",
            "config path",
            "completions bash",
            "help --json",
            "tail -t a",
        ] {
            let words = std::iter::once("aquifer")
                .chain(line.split(' '))
                .map(OsString::from);
            assert!(parse(words).is_ok(), "{line}");
        }
    }

    #[test]
    fn a_wrong_flag_is_exit_2() {
        let words = ["aquifer", "recall", "--nonsense"].map(OsString::from);
        assert_eq!(parse(words).expect_err("no such flag"), 2);
    }
}

//! `config path`, `completions`, `version`, `help`: the command line about itself.

use super::output::{Answer, Format};
use super::{Cli, Context};
use crate::api::Problem;
use clap::{Arg, Args, Command, CommandFactory, Subcommand};
use clap_complete::Shell;
use serde_json::{Value, json};

#[derive(Debug, Subcommand)]
pub(super) enum ConfigVerb {
    /// Print where this node keeps what it owns
    Path,
}

#[derive(Debug, Args)]
pub(super) struct CompletionsFlags {
    /// The shell
    shell: Shell,
}

#[derive(Debug, Args)]
pub(super) struct HelpFlags {
    /// The verb
    verb: Vec<String>,
}

pub(super) fn paths(context: &Context) -> Answer {
    let home = &context.home;
    let paths = [
        ("home", home.path().to_owned()),
        ("config", home.path().join("config.toml")),
        ("socket", home.socket()),
        ("token", home.token_file()),
        ("api", home.api_file()),
        ("log", home.log_file()),
    ];
    let mut data = serde_json::Map::new();
    let mut human = String::new();
    for (name, path) in paths {
        human += &format!("{name:<7} {}\n", path.display());
        data.insert(name.to_owned(), json!(path.display().to_string()));
    }
    Answer::new(&data, human).ids([home.path().display().to_string()])
}

pub(super) fn version() -> Answer {
    let version = env!("CARGO_PKG_VERSION");
    let data = json!({ "version": version });
    Answer::new(&data, format!("aquifer {version}")).ids([version.to_owned()])
}

pub(super) fn completions(flags: CompletionsFlags) -> u8 {
    clap_complete::generate(
        flags.shell,
        &mut Cli::command(),
        "aquifer",
        &mut std::io::stdout(),
    );
    0
}

pub(super) fn help(context: &Context, flags: HelpFlags) -> Result<Answer, Problem> {
    let mut root = Cli::command();
    root.build();
    let mut command = &mut root;
    for word in &flags.verb {
        command = command.find_subcommand_mut(word).ok_or_else(|| {
            Problem::new(
                "usage",
                2,
                format!("there is no verb `{word}`"),
                "see `aquifer help`",
            )
        })?;
    }
    let human = match context.output.format {
        Format::Human => command.render_long_help().to_string(),
        _ => String::new(),
    };
    Ok(Answer::new(&tree(command), human))
}

/// A command, what it takes, and the commands below it.
fn tree(command: &Command) -> Value {
    let flags: Vec<Value> = command
        .get_arguments()
        .filter(|argument| !argument.is_hide_set())
        .map(argument)
        .collect();
    let verbs: Vec<Value> = command.get_subcommands().map(tree).collect();
    let aliases: Vec<&str> = command.get_visible_aliases().collect();
    json!({
        "name": command.get_name(),
        "about": command.get_about().map(ToString::to_string),
        "aliases": aliases,
        "arguments": flags,
        "commands": verbs,
    })
}

fn argument(argument: &Arg) -> Value {
    let values: Vec<String> = argument
        .get_possible_values()
        .iter()
        .map(|value| value.get_name().to_owned())
        .collect();
    let defaults: Vec<String> = argument
        .get_default_values()
        .iter()
        .map(|value| value.to_string_lossy().into_owned())
        .collect();
    json!({
        "name": argument.get_id().as_str(),
        "long": argument.get_long(),
        "short": argument.get_short(),
        "about": argument.get_help().map(ToString::to_string),
        "required": argument.is_required_set(),
        "takes_value": argument.get_action().takes_values(),
        "values": values,
        "default": defaults,
    })
}

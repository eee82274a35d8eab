//! The command line: `aquifer-edge run`, `status`, `queue`.
//!
//! Data goes to standard output and everything else to standard error. Exit codes are those of `aquifer`:
//! 0 done, 1 failure, 2 usage, 3 not found, 5 not authorised, 6 refused by policy, 7 partial.

mod grants;

use crate::home::Home;
use crate::input::Source;
use crate::neighbours::Place;
use crate::problem::Problem;
use crate::radio::{Duty, duration_ms};
use crate::report;
use crate::run::{self, Plan};
use grants::Grants;
use lexopt::Arg::{Long, Short, Value};
use lexopt::ValueExt as _;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

const HELP: &str = "\
A small device with an intermittent network, as an agent of a hive.

  aquifer-edge run FILE.wasm --gateway TICKET [--home DIR]   run an agent
  aquifer-edge status [--home DIR]                           how the device is
  aquifer-edge queue [--home DIR]                            what waits, and what was refused

Everywhere:
  --home DIR         everything the device owns (AQUIFER_EDGE_HOME; ./aquifer-edge)
  --json             answer, and tell what happens, as JSON
  -q, --quiet        tell nothing but what was asked for

run:
  --gateway TICKET   what `aquifer invite` printed on the gateway; needed once
  --manifest FILE    a signed manifest; else this device grants by these:
    --name NAME        what the agent is called (the file's name)
    --topics A,B       where it may speak and remember, with all below
    --follow A,B       what wakes it, with all below
    --grant A,B        which calls it may make (all but infer)
  --input FIFO|-     lines of a sensor; `#NAME VALUE` is taken once
  --every TIME       wake it by a timer: 30s, 5m
  --duty TIME/TIME   the radio is up for the second of each first: 60s/5s
  --beat G:P[@ADDR]  where neighbours meet (239.255.71.71:27472); --no-beat
  --drain            end when the input has ended and all is acknowledged
";

/// Runs the command line `args`, without the program's name. Returns the exit code.
pub fn run(args: impl IntoIterator<Item = OsString>) -> u8 {
    let args: Vec<OsString> = args.into_iter().collect();
    let json = args.iter().any(|arg| arg == "--json");
    match carried_out(args) {
        Ok(text) => {
            if !text.is_empty() {
                println!("{text}");
            }
            0
        }
        Err(problem) if json => {
            println!("{}", problem.to_json());
            problem.exit
        }
        Err(problem) => {
            eprintln!("error: {problem}");
            problem.exit
        }
    }
}

/// What was written on the command line.
#[derive(Default)]
struct Flags {
    words: Vec<OsString>,
    home: Option<PathBuf>,
    json: bool,
    quiet: bool,
    gateway: Option<String>,
    manifest: Option<PathBuf>,
    grants: Grants,
    input: Option<OsString>,
    every: Option<String>,
    duty: Option<String>,
    beat: Option<String>,
    no_beat: bool,
    drain: bool,
}

fn carried_out(args: Vec<OsString>) -> Result<String, Problem> {
    let asked_help = args.iter().any(|arg| arg == "--help" || arg == "-h");
    if asked_help || args.is_empty() {
        return Ok(HELP.trim_end().to_owned());
    }
    if args.iter().any(|arg| arg == "--version" || arg == "-V") {
        return Ok(format!("aquifer-edge {}", env!("CARGO_PKG_VERSION")));
    }
    let flags = Flags::read(args).map_err(|why| usage(&why.to_string()))?;
    let home = flags.home();
    let words: Vec<&str> = flags
        .words
        .iter()
        .map(|word| word.to_str().unwrap_or("?"))
        .collect();
    match words[..] {
        ["run", _] => {
            let module = PathBuf::from(&flags.words[1]);
            run::run(flags.plan(home, &module)?).map(|()| String::new())
        }
        ["status"] => {
            let status = report::status(&home)?;
            Ok(match flags.json {
                true => status.to_string(),
                false => report::status_text(&status),
            })
        }
        ["queue"] => {
            let queue = report::queue(&home)?;
            Ok(match flags.json {
                true => queue.to_string(),
                false => report::queue_text(&queue),
            })
        }
        ["run"] => Err(usage("`run` needs the module: aquifer-edge run FILE.wasm")),
        [] => Err(usage("there is no verb")),
        [verb, ..] => Err(usage(&format!(
            "`{verb}` is no verb, or has words too many"
        ))),
    }
}

impl Flags {
    fn read(args: Vec<OsString>) -> Result<Self, lexopt::Error> {
        let mut flags = Self::default();
        let mut parser = lexopt::Parser::from_args(args);
        while let Some(arg) = parser.next()? {
            match arg {
                Value(word) => flags.words.push(word),
                Long("home") => flags.home = Some(parser.value()?.into()),
                Long("json") => flags.json = true,
                Long("quiet") | Short('q') => flags.quiet = true,
                Long("gateway") => flags.gateway = Some(parser.value()?.string()?),
                Long("manifest") => flags.manifest = Some(parser.value()?.into()),
                Long("name") => flags.grants.name = Some(parser.value()?.string()?),
                Long("topics") => flags.grants.topics = Some(parser.value()?.string()?),
                Long("follow") => flags.grants.follow = Some(parser.value()?.string()?),
                Long("grant") => flags.grants.imports = Some(parser.value()?.string()?),
                Long("input") => flags.input = Some(parser.value()?),
                Long("every") => flags.every = Some(parser.value()?.string()?),
                Long("duty") => flags.duty = Some(parser.value()?.string()?),
                Long("beat") => flags.beat = Some(parser.value()?.string()?),
                Long("no-beat") => flags.no_beat = true,
                Long("drain") => flags.drain = true,
                other => return Err(other.unexpected()),
            }
        }
        Ok(flags)
    }

    fn home(&self) -> Home {
        let set = || std::env::var_os("AQUIFER_EDGE_HOME").filter(|home| !home.is_empty());
        let home = self.home.clone().or_else(|| set().map(PathBuf::from));
        Home::at(home.unwrap_or_else(|| PathBuf::from("aquifer-edge")))
    }

    fn plan(self, home: Home, module: &Path) -> Result<Plan, Problem> {
        let file = |path: &Path| {
            std::fs::read(path).map_err(|why| {
                let message = format!("cannot read {}: {why}", path.display());
                Problem::new("not_found", 3, message, "check the path")
            })
        };
        let every_ms = self.every.as_deref().map(|text| {
            let read = duration_ms(text).filter(|every| *every >= 1_000);
            read.ok_or_else(|| {
                usage(&format!(
                    "`{text}` is no time of a second or more: 30s, 5m, 1h"
                ))
            })
        });
        let duty = self.duty.as_deref().map(Duty::parse).transpose()?;
        let beat = match (self.no_beat, &self.beat) {
            (true, _) => None,
            (false, Some(place)) => Some(Place::parse(place)?),
            (false, None) => Some(Place::USUAL),
        };
        if self.manifest.is_some() && self.grants.are_given() {
            return Err(usage(
                "--manifest says all that --name, --topics, --follow and --grant would",
            ));
        }
        let stem = module.file_stem().and_then(|stem| stem.to_str());
        Ok(Plan {
            manifest: self.grants.manifest(stem.unwrap_or("agent"))?,
            module: file(module)?,
            granted: self.manifest.as_deref().map(file).transpose()?,
            home,
            ticket: self.gateway,
            every_ms: every_ms.transpose()?,
            input: self.input.map(|source| match source == "-" {
                true => Source::Standard,
                false => Source::Path(source.into()),
            }),
            duty: duty.unwrap_or(Duty::ALWAYS),
            beat,
            drain: self.drain,
            json: self.json,
            quiet: self.quiet,
        })
    }
}

fn usage(message: &str) -> Problem {
    Problem::new(
        "usage",
        2,
        message,
        "`aquifer-edge --help` shows what there is",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exit(args: &[&str]) -> u8 {
        run(args.iter().map(OsString::from))
    }

    #[test]
    fn exit_codes_say_what_became_of_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let home = folder.path().to_str().expect("text");
        let module = concat!(env!("CARGO_MANIFEST_DIR"), "/../guest/modules/sensor.wasm");
        assert_eq!(0, exit(&["--help"]));
        assert_eq!(0, exit(&["--version"]));
        assert_eq!(2, exit(&["fly"]));
        assert_eq!(2, exit(&["run"]));
        assert_eq!(2, exit(&["run", "a.wasm", "--duty"]));
        assert_eq!(2, exit(&["run", module, "--duty", "5s/60s"]));
        assert_eq!(2, exit(&["run", module, "--every", "5ms"]));
        assert_eq!(2, exit(&["run", module, "--grant", "fork"]));
        assert_eq!(3, exit(&["run", "nowhere.wasm", "--home", home]));
        assert_eq!(3, exit(&["status", "--home", home, "--json"]));
        assert_eq!(3, exit(&["queue", "--home", home]));
        // No hive, and no ticket.
        assert_eq!(2, exit(&["run", module, "--home", home, "--no-beat"]));
        let bad = ["run", module, "--home", home, "--gateway", "aqf1", "--json"];
        assert_eq!(2, exit(&bad));
    }
}

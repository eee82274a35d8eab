//! The four forms of an answer: `human`, `json`, `jsonl`, `id`.
//!
//! `json` is one envelope for every verb, on success and on failure:
//! `{"ok":true,"command":"recall","duration_ms":12,"count":3,"data":…,"meta":{…}}` and
//! `{"ok":false,"command":"recall","error":{"code":…,"message":…,"hint":…}}`, both on stdout.
//! `jsonl` is the data alone, an object a line; `id` is ids alone, one a line. An agent that runs the
//! command line gets `json` unasked.

use super::human::Paint;
use crate::api::Problem;
use crate::clock;
use serde::Serialize;
use serde_json::{Map, Value};
use std::io::{self, IsTerminal, Write};

/// Variables that agents set in the shells they run.
const AGENTS: [&str; 5] = [
    "CLAUDECODE",
    "CURSOR_AGENT",
    "CODEX_CLI",
    "CODEX_SANDBOX",
    "GEMINI_CLI",
];

/// How to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Format {
    /// For people.
    Human,
    /// One envelope.
    Json,
    /// One object a line.
    Jsonl,
    /// Ids only, one a line.
    Id,
}

impl Format {
    /// What is meant when nothing was said: JSON if an agent asks, else for people.
    pub(super) fn default_here() -> Self {
        let is_agent = AGENTS.iter().any(|name| std::env::var_os(name).is_some());
        if is_agent { Self::Json } else { Self::Human }
    }
}

/// Where answers go, and how they look.
#[derive(Debug)]
pub(super) struct Output {
    /// The form.
    pub(super) format: Format,
    /// Whether to leave out what was not asked for.
    pub(super) quiet: bool,
    /// When the command began, in milliseconds since the Unix epoch.
    began: u64,
}

/// What a verb answers.
#[derive(Debug)]
pub(super) struct Answer {
    data: Value,
    meta: Map<String, Value>,
    human: String,
    ids: Vec<String>,
    exit: u8,
}

impl Answer {
    /// An answer of `data`, which people read as `human`.
    pub(super) fn new(data: &impl Serialize, human: impl Into<String>) -> Self {
        let meta = Map::new();
        Self {
            data: json_of(data),
            meta,
            human: human.into(),
            ids: Vec::new(),
            exit: 0,
        }
    }

    /// With one more entry of `meta`.
    pub(super) fn meta(mut self, name: &str, value: &impl Serialize) -> Self {
        self.meta.insert(name.to_owned(), json_of(value));
        self
    }

    /// With what `-o id` prints.
    pub(super) fn ids(mut self, ids: impl IntoIterator<Item = String>) -> Self {
        self.ids = ids.into_iter().collect();
        self
    }

    /// With the exit code to end with.
    pub(super) fn exit(mut self, exit: u8) -> Self {
        self.exit = exit;
        self
    }
}

/// `value` as JSON text says it: a score of 0.8 is 0.8, not the nearest `f64` to the nearest `f32`.
fn json_of(value: &impl Serialize) -> Value {
    let text = serde_json::to_string(value).expect("an answer is JSON");
    serde_json::from_str(&text).expect("it was written by us")
}

fn text_of(envelope: &impl Serialize) -> String {
    serde_json::to_string(envelope).expect("an envelope is JSON")
}

/// Success, as scripts read it, in this order.
#[derive(Serialize)]
struct Success<'a> {
    ok: bool,
    command: &'a str,
    duration_ms: u64,
    count: usize,
    data: &'a Value,
    meta: &'a Map<String, Value>,
}

/// Failure, as scripts read it, in this order.
#[derive(Serialize)]
struct Failure<'a> {
    ok: bool,
    command: &'a str,
    error: Fault<'a>,
}

#[derive(Serialize)]
struct Fault<'a> {
    code: &'a str,
    message: &'a str,
    hint: &'a str,
}

impl Output {
    pub(super) fn of(format: Format, quiet: bool, began: u64) -> Self {
        Self {
            format,
            quiet,
            began,
        }
    }

    /// How stdout is to be painted.
    pub(super) fn paint(&self) -> Paint {
        Paint::of(io::stdout().is_terminal())
    }

    /// Prints the answer of `command`, and gives the exit code.
    pub(super) fn answer(&self, command: &str, answer: Answer) -> u8 {
        match self.format {
            Format::Human => self.data(answer.human.trim_end_matches('\n')),
            Format::Json => {
                let envelope = Success {
                    ok: true,
                    command,
                    duration_ms: clock::wall().millis().saturating_sub(self.began),
                    count: answer.data.as_array().map_or(1, Vec::len),
                    data: &answer.data,
                    meta: &answer.meta,
                };
                self.data(&text_of(&envelope));
            }
            Format::Jsonl => match &answer.data {
                Value::Array(rows) => rows.iter().for_each(|row| self.data(&row.to_string())),
                other => self.data(&other.to_string()),
            },
            Format::Id => answer.ids.iter().for_each(|id| self.data(id)),
        }
        answer.exit
    }

    /// Prints what went wrong: in JSON on stdout, else on stderr.
    pub(super) fn problem(&self, command: &str, problem: &Problem) {
        if matches!(self.format, Format::Json | Format::Jsonl) {
            let Problem {
                code,
                message,
                hint,
                ..
            } = problem;
            let envelope = Failure {
                ok: false,
                command,
                error: Fault {
                    code,
                    message,
                    hint,
                },
            };
            return self.data(&text_of(&envelope));
        }
        let paint = Paint::of(io::stderr().is_terminal());
        let mut text = format!("{} {}", paint.bad("error:"), problem.message);
        if !problem.hint.is_empty() {
            text += &format!("\n {} {}", paint.dim("hint:"), problem.hint);
        }
        self.note(&text);
    }

    /// One line, or several, of data. A reader that has gone away ends the process, as it does `cat`.
    pub(super) fn data(&self, line: &str) {
        let mut out = io::stdout().lock();
        if !line.is_empty() && writeln!(out, "{line}").and_then(|()| out.flush()).is_err() {
            std::process::exit(1);
        }
    }

    /// Something beside the data, for a person who watches.
    pub(super) fn say(&self, line: &str) {
        if !self.quiet && self.format == Format::Human {
            self.note(line);
        }
    }

    fn note(&self, line: &str) {
        // Nobody is left to tell when stderr is closed.
        let _ = writeln!(io::stderr(), "{line}");
    }
}

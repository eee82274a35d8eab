//! `import` and `export`: memories as JSON lines.
//!
//! A line is `{"text":…,"tags":[…],"created_at":…}`; what `export` prints is what `import` reads.
//! Lines go to the daemon in batches. After each batch that it has acknowledged, the place in the
//! file is written to `imports/HASH.progress` in the home, so that an import that was killed goes on
//! there; a batch that was acknowledged but not noted is sent again, and the daemon knows it.

mod progress;

use super::Context;
use super::memories::time;
use super::output::Answer;
use super::text::oversize;
use crate::api::{BATCH_MAX, List, Problem, Remember, TEXT_BYTES_MAX};
use crate::{clock, moment};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use progress::Progress;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::PathBuf;

/// The longest line, in bytes: a text of 48 KiB can take six times that in JSON.
const LINE_BYTES_MAX: u64 = 1024 * 1024;

/// How many bytes of text a batch holds at most.
const BATCH_BYTES_MAX: usize = 512 * 1024;

#[derive(Debug, Args)]
pub(super) struct ImportFlags {
    /// A file of JSON lines
    file: PathBuf,
    /// The topic, whatever the lines say
    #[arg(short, long)]
    topic: Option<String>,
    /// Skip lines that cannot be read, and say which
    #[arg(long)]
    keep_going: bool,
}

#[derive(Debug, Args)]
pub(super) struct ExportFlags {
    /// Only this topic and those below it
    #[arg(short, long)]
    topic: Option<String>,
    /// All of these labels; repeat it
    #[arg(long = "tag")]
    tags: Vec<String>,
    /// Made at or after then
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
}

/// One line. What it says beside this, such as the author in an export, is not ours to write.
#[derive(Debug, Deserialize)]
struct Line {
    text: String,
    topic: Option<String>,
    #[serde(default)]
    tags: Vec<String>,
    #[serde(default)]
    metadata: BTreeMap<String, String>,
    kind: Option<String>,
    importance: Option<f32>,
    valid_from: Option<Value>,
    valid_until: Option<Value>,
    source: Option<String>,
    created_at: Option<Value>,
}

/// What an import has done.
#[derive(Debug, Default)]
struct Tally {
    lines: u64,
    stored: u64,
    known: u64,
    bad: Vec<String>,
    bad_count: u64,
}

pub(super) async fn import(context: &Context, flags: ImportFlags) -> Result<Answer, Problem> {
    let name = flags.file.display().to_string();
    let unreadable = |cause: std::io::Error| {
        Problem::new("unreadable", 1, format!("cannot read {name}: {cause}"), "")
    };
    let mut file = File::open(&flags.file).map_err(|cause| {
        Problem::new(
            "no_such_file",
            3,
            format!("cannot read {name}: {cause}"),
            "",
        )
    })?;
    let progress = Progress::of(&context.home, &mut file, flags.topic.as_deref())?;
    let size = file.metadata().map_err(unreadable)?.len();
    let start = progress.read();
    file.seek(SeekFrom::Start(start.bytes))
        .map_err(unreadable)?;
    if start.lines > 0 {
        context
            .output
            .say(&format!("going on after line {}", start.lines));
    }
    let bar = bar(context, size, start.bytes);
    let mut run = Run {
        context,
        flags: &flags,
        progress,
        at: start,
        batch: Vec::new(),
        batch_bytes: 0,
        tally: Tally::default(),
    };
    let mut reader = BufReader::with_capacity(256 * 1024, file);
    let outcome = loop {
        let mut line = Vec::new();
        let read = (&mut reader)
            .take(LINE_BYTES_MAX)
            .read_until(b'\n', &mut line);
        let read = read.map_err(unreadable)? as u64;
        if read == 0 {
            break run.flush().await;
        }
        run.at.bytes += read;
        run.at.lines += 1;
        if let Err(problem) = run.take(&line, read == LINE_BYTES_MAX).await {
            if problem.code == "bad_line" {
                // Everything before the line that stops us is kept, and noted.
                run.at = run.at.before(line.len());
                run.flush().await?;
            }
            break Err(problem);
        }
        bar.set_position(run.at.bytes);
    };
    bar.finish_and_clear();
    outcome?;
    run.progress.remove();
    Ok(told(context, &run.tally))
}

fn bar(context: &Context, size: u64, start: u64) -> ProgressBar {
    if context.output.quiet {
        return ProgressBar::hidden();
    }
    // indicatif draws on stderr, and only if that is a terminal.
    let style = "{bar:30} {percent:>3}%  {bytes}/{total_bytes}  {bytes_per_sec}  {eta} left";
    let style =
        ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar());
    let bar = ProgressBar::new(size)
        .with_style(style)
        .with_position(start);
    bar.reset_eta();
    bar
}

fn told(context: &Context, tally: &Tally) -> Answer {
    let Tally {
        lines,
        stored,
        known,
        bad,
        bad_count,
    } = tally;
    let data = json!({
        "lines": lines, "stored": stored, "known": known, "bad": bad_count, "problems": bad
    });
    let mut human = format!("{stored} remembered, {known} known already");
    if *bad_count > 0 {
        let line = format!(
            "{bad_count} lines could not be read:\n  {}",
            bad.join("\n  ")
        );
        human += &format!("\n{}", context.output.paint().warn(&line));
    }
    Answer::new(&data, human).exit(if *bad_count > 0 { 7 } else { 0 })
}

struct Run<'a> {
    context: &'a Context,
    flags: &'a ImportFlags,
    progress: Progress,
    at: progress::Place,
    batch: Vec<Remember>,
    batch_bytes: usize,
    tally: Tally,
}

impl Run<'_> {
    async fn take(&mut self, line: &[u8], cut: bool) -> Result<(), Problem> {
        if line.trim_ascii().is_empty() {
            return Ok(());
        }
        self.tally.lines += 1;
        let read = if cut {
            Err(format!("over {LINE_BYTES_MAX} bytes"))
        } else {
            self.read(line)
        };
        match read {
            Ok(memory) => {
                let full = self.batch.len() >= BATCH_MAX
                    || self.batch_bytes + memory.text.len() > BATCH_BYTES_MAX
                    || self
                        .batch
                        .first()
                        .is_some_and(|first| first.topic != memory.topic);
                if full {
                    // The line in hand is not in the batch: note the place before it.
                    let here = self.at;
                    self.at = here.before(line.len());
                    self.flush().await?;
                    self.at = here;
                }
                self.batch_bytes += memory.text.len();
                self.batch.push(memory);
                Ok(())
            }
            Err(why) => self.bad(&why),
        }
    }

    fn bad(&mut self, why: &str) -> Result<(), Problem> {
        const SHOWN: usize = 20;
        let what = format!("line {}: {why}", self.at.lines);
        if !self.flags.keep_going {
            let hint = "mend it, or skip such lines with --keep-going; what is before it is kept";
            return Err(Problem::new("bad_line", 1, what, hint));
        }
        self.tally.bad_count += 1;
        if self.tally.bad.len() < SHOWN {
            self.tally.bad.push(what);
        }
        Ok(())
    }

    fn read(&self, line: &[u8]) -> Result<Remember, String> {
        let text = std::str::from_utf8(line).map_err(|_| "no UTF-8".to_owned())?;
        let line: Line = serde_json::from_str(text).map_err(|fault| fault.to_string())?;
        if line.text.len() > TEXT_BYTES_MAX {
            return Err(oversize(&format!("the text has {} bytes", line.text.len())).message);
        }
        if line.text.trim().is_empty() {
            return Err("the text is empty".to_owned());
        }
        let topic = self.flags.topic.clone().or(line.topic);
        Ok(Remember {
            text: line.text,
            topic,
            tags: line.tags,
            metadata: line.metadata,
            kind: line.kind,
            importance: line.importance,
            valid_from: instant("valid_from", line.valid_from)?,
            valid_until: instant("valid_until", line.valid_until)?,
            source: line.source,
            created_at: instant("created_at", line.created_at)?,
            ..Remember::default()
        })
    }

    async fn flush(&mut self) -> Result<(), Problem> {
        if !self.batch.is_empty() {
            let stored = self.context.client.remember_many(&self.batch).await?;
            let known = stored.iter().filter(|one| one.deduplicated).count() as u64;
            self.tally.known += known;
            self.tally.stored += stored.len() as u64 - known;
            self.batch.clear();
            self.batch_bytes = 0;
        }
        self.progress.write(self.at)
    }
}

/// Milliseconds since the Unix epoch, or a text that [`moment::read`] reads.
fn instant(field: &str, value: Option<Value>) -> Result<Option<u64>, String> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => moment::read(&text, clock::wall().millis())
            .map(Some)
            .map_err(|problem| format!("{field}: {}", problem.message)),
        Some(value) => {
            let millis = value.as_u64();
            millis
                .map(Some)
                .ok_or_else(|| format!("{field}: {value} is no time"))
        }
    }
}

pub(super) async fn export(context: &Context, flags: ExportFlags) -> Result<u8, Problem> {
    let list = List {
        topic: flags.topic,
        tags: flags.tags,
        since: time(flags.since.as_ref())?,
        ..List::default()
    };
    let mut lines = context.client.export(&list).await?;
    let mut count = 0u64;
    while let Some(line) = lines.next().await? {
        context.output.data(&line);
        count += 1;
    }
    context.output.say(&format!("{count} exported"));
    Ok(0)
}

//! `remember`, `recall`, `get`, `list`, `history`, `forget`.

use super::Context;
use super::human::{self, Paint, ago, one_line, plural, safe, short};
use super::output::Answer;
use super::text;
use crate::api::{Forget, List, MemoryView, Problem, Recall, Remember};
use crate::{clock, config, moment};
use clap::Args;
use std::io::{IsTerminal, Write};

#[derive(Debug, Args)]
pub(super) struct RememberFlags {
    /// The text; `-` reads stdin, `@FILE` a file. Read from stdin when piped
    text: Option<String>,
    /// The topic [default: notes]
    #[arg(short, long)]
    topic: Option<String>,
    /// A label; repeat it
    #[arg(long = "tag")]
    tags: Vec<String>,
    /// A free entry KEY=VALUE; repeat it
    #[arg(long = "meta", value_parser = entry)]
    metadata: Vec<(String, String)>,
    /// semantic, episodic or procedural
    #[arg(long)]
    kind: Option<String>,
    /// 0 to 1
    #[arg(long)]
    importance: Option<f32>,
    /// How long it stays true, such as 30d
    #[arg(long, value_name = "DURATION")]
    ttl: Option<String>,
    /// Where it comes from: a URI or a word
    #[arg(long)]
    source: Option<String>,
    /// When it was made, if not now
    #[arg(long, value_name = "TIME")]
    created_at: Option<String>,
    /// Which named agent of this node writes it
    #[arg(long)]
    agent: Option<String>,
    /// local, quorum:K or region:K
    #[arg(long)]
    durability: Option<String>,
    /// How long to wait for that [default: 10s]
    #[arg(long, value_name = "DURATION")]
    wait: Option<String>,
    /// Refuse unless the topic may be kept in this region
    #[arg(long)]
    region: Option<String>,
    /// The memory this one is a new version of
    #[arg(long, value_name = "ID")]
    revises: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct RecallFlags {
    /// What to look for; without it, the newest
    #[arg(default_value = "")]
    query: String,
    /// Only in this topic and those below it
    #[arg(short, long)]
    topic: Option<String>,
    /// How many
    #[arg(short, long, default_value = "8")]
    k: usize,
    /// All of these labels; repeat it
    #[arg(long = "tag")]
    tags: Vec<String>,
    /// Only by this agent
    #[arg(long)]
    author: Option<String>,
    /// semantic, episodic or procedural
    #[arg(long)]
    kind: Option<String>,
    /// Made at or after then: 7d, 2026-11-20, RFC 3339
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Made before then
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// As it stood then
    #[arg(long, value_name = "TIME")]
    as_of: Option<String>,
    /// auto, lexical or semantic
    #[arg(long)]
    mode: Option<String>,
    /// Whom to ask: local, swarm, or auto: other nodes where this one does not hold a topic
    #[arg(long, value_parser = ["auto", "local", "swarm"])]
    scope: Option<String>,
    /// Short for --scope swarm: ask every node that is to hold what is asked about
    #[arg(long, conflicts_with = "scope")]
    swarm: bool,
    /// How long to wait for peers to agree or to answer, such as 2s
    #[arg(long, value_name = "DURATION")]
    wait: Option<String>,
    /// End with exit code 7 if a node's knowledge is missing from the answer
    #[arg(long)]
    require_all: bool,
    /// Stop before the texts exceed about this many tokens
    #[arg(long, value_name = "TOKENS")]
    budget: Option<usize>,
}

#[derive(Debug, Args)]
pub(super) struct GetFlags {
    /// Ids, or their first 8 digits or more
    #[arg(required = true)]
    ids: Vec<String>,
}

#[derive(Debug, Args)]
pub(super) struct ListFlags {
    /// Only in this topic and those below it
    #[arg(short, long)]
    topic: Option<String>,
    /// All of these labels; repeat it
    #[arg(long = "tag")]
    tags: Vec<String>,
    /// Made at or after then
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// How many, at most 1,000
    #[arg(short, long, default_value = "50")]
    limit: usize,
    /// Where the page before ended
    #[arg(long)]
    cursor: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct HistoryFlags {
    /// The memory's id, or its first 8 digits or more
    id: String,
}

#[derive(Debug, Args)]
pub(super) struct ForgetFlags {
    /// Ids, or their first 8 digits or more
    #[arg(required_unless_present = "topic", conflicts_with = "topic")]
    ids: Vec<String>,
    /// Instead: everything in this topic
    #[arg(short, long)]
    topic: Option<String>,
    /// Say what would be forgotten, and forget nothing
    #[arg(long)]
    dry_run: bool,
    /// Wait for a signed receipt of every node that holds it
    #[arg(long)]
    receipts: bool,
    /// How long to wait for them [default: 10s]
    #[arg(long, value_name = "DURATION")]
    wait: Option<String>,
    /// On behalf of which named agent
    #[arg(long)]
    agent: Option<String>,
    /// Do not ask; needed for a topic when nobody can be asked
    #[arg(long)]
    force: bool,
}

fn entry(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("write KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

/// A moment given by flag, in milliseconds.
pub(super) fn time(text: Option<&String>) -> Result<Option<u64>, Problem> {
    text.map(|text| moment::read(text, clock::wall().millis()))
        .transpose()
}

/// A duration given by flag, in milliseconds.
pub(super) fn millis(text: Option<&String>) -> Result<Option<u64>, Problem> {
    text.map(|text| moment::read_duration(text).map(moment::millis_of))
        .transpose()
}

pub(super) async fn remember(context: &Context, flags: RememberFlags) -> Result<Answer, Problem> {
    if let Some(region) = &flags.region {
        config::parse_region(region)?;
    }
    let ttl = millis(flags.ttl.as_ref())?;
    let request = Remember {
        text: text::given(flags.text)?,
        topic: flags.topic,
        tags: flags.tags,
        metadata: flags.metadata.into_iter().collect(),
        kind: flags.kind,
        importance: flags.importance,
        valid_from: None,
        valid_until: ttl.map(|ttl| clock::wall().millis().saturating_add(ttl)),
        source: flags.source,
        created_at: time(flags.created_at.as_ref())?,
        agent: flags.agent,
        durability: flags.durability,
        wait_ms: millis(flags.wait.as_ref())?,
        region: flags.region,
        revises: flags.revises,
    };
    let stored = context.client.remember(&request).await?;
    let paint = context.output.paint();
    let word = if stored.deduplicated {
        "already known as"
    } else {
        "remembered"
    };
    let mut human = format!(
        "{word} {} in {}",
        paint.bold(&short(&stored.id)),
        stored.topic
    );
    if stored.topic_founded {
        human += &paint.dim(&format!(" (new topic, kept in {})", stored.region));
    }
    let durable = human::durable(&stored.durable);
    let painted = if stored.durable.met {
        paint.dim(&durable)
    } else {
        paint.warn(&durable)
    };
    human += &format!("\n{painted}");
    let exit = if stored.durable.met { 0 } else { 7 };
    Ok(Answer::new(&stored, human)
        .ids([stored.id.clone()])
        .exit(exit))
}

pub(super) async fn recall(context: &Context, flags: RecallFlags) -> Result<Answer, Problem> {
    let request = Recall {
        query: flags.query,
        topic: flags.topic,
        k: Some(flags.k),
        tags: flags.tags,
        author: flags.author,
        kind: flags.kind,
        since: time(flags.since.as_ref())?,
        until: time(flags.until.as_ref())?,
        as_of: time(flags.as_of.as_ref())?,
        mode: flags.mode,
        scope: flags
            .scope
            .or_else(|| flags.swarm.then(|| "swarm".to_owned())),
        wait_ms: millis(flags.wait.as_ref())?,
        budget_tokens: flags.budget,
    };
    let found = context.client.recall(&request).await?;
    let paint = context.output.paint();
    let mut human = String::new();
    for hit in &found.results {
        human += &format!("{}  ", paint.good(&format!("{:.2}", hit.score)));
        human += &entry_of(paint, &hit.memory, "      ");
    }
    let count = found.results.len();
    let line = format!(
        "{count} {} · {}",
        plural(count, "result"),
        human::coverage(&found.coverage)
    );
    let whole = found.coverage.missing.is_empty();
    human += &if whole {
        paint.dim(&line)
    } else {
        paint.warn(&line)
    };
    let ids: Vec<String> = found
        .results
        .iter()
        .map(|hit| hit.memory.id.clone())
        .collect();
    Ok(Answer::new(&found.results, human)
        .meta("coverage", &found.coverage)
        .ids(ids)
        .exit(if flags.require_all && !whole { 7 } else { 0 }))
}

/// A memory: its text, and below it, dimmed, whose it is and from where.
fn entry_of(paint: Paint, memory: &MemoryView, indent: &str) -> String {
    let text = safe(&memory.text).replace('\n', &format!("\n{indent}"));
    let mut about = vec![
        memory.topic.clone(),
        memory.region.clone(),
        format!("by {} ({})", short(&memory.author), memory.trust),
        ago(memory.created_at),
        short(&memory.id),
    ];
    if !memory.tags.is_empty() {
        about.insert(1, format!("#{}", memory.tags.join(" #")));
    }
    let mut out = format!("{text}\n{indent}{}\n", paint.dim(&safe(&about.join(" · "))));
    for other in &memory.conflicts {
        let text = one_line(other.text.as_deref().unwrap_or("(erased)"), 70);
        let line = format!("in conflict with: {text} (by {})", short(&other.author));
        out += &format!("{indent}{}\n", paint.warn(&line));
    }
    out
}

pub(super) async fn get(context: &Context, flags: GetFlags) -> Result<Answer, Problem> {
    let mut memories = Vec::with_capacity(flags.ids.len());
    for id in &flags.ids {
        memories.push(context.client.get(id).await?);
    }
    let paint = context.output.paint();
    let human: String = memories
        .iter()
        .map(|memory| entry_of(paint, memory, ""))
        .collect();
    let ids: Vec<String> = memories.iter().map(|memory| memory.id.clone()).collect();
    Ok(Answer::new(&memories, human).ids(ids))
}

pub(super) async fn list(context: &Context, flags: ListFlags) -> Result<Answer, Problem> {
    let request = List {
        topic: flags.topic,
        tags: flags.tags,
        since: time(flags.since.as_ref())?,
        limit: Some(flags.limit),
        cursor: flags.cursor,
    };
    let page = context.client.list(&request).await?;
    let row = |memory: &MemoryView| {
        let about = [
            short(&memory.id),
            ago(memory.created_at),
            memory.topic.clone(),
        ];
        about
            .into_iter()
            .chain([one_line(&memory.text, 60)])
            .collect()
    };
    let rows: Vec<Vec<String>> = page.memories.iter().map(row).collect();
    let paint = context.output.paint();
    let mut human = human::table(paint, &["id", "made", "topic", "text"], &rows);
    if rows.is_empty() {
        human = paint.dim("no memories");
    }
    if let Some(cursor) = &page.next_cursor {
        human += &format!("\n{}", paint.dim(&format!("more: --cursor {cursor}")));
    }
    let ids: Vec<String> = page
        .memories
        .iter()
        .map(|memory| memory.id.clone())
        .collect();
    Ok(Answer::new(&page.memories, human)
        .meta("next_cursor", &page.next_cursor)
        .ids(ids))
}

pub(super) async fn history(context: &Context, flags: HistoryFlags) -> Result<Answer, Problem> {
    let versions = context.client.history(&flags.id).await?;
    let rows: Vec<Vec<String>> = versions
        .iter()
        .map(|version| {
            let text = version.text.as_deref().unwrap_or("(erased)");
            let who = short(&version.author);
            vec![
                short(&version.version),
                ago(version.written_at),
                who,
                one_line(text, 60),
            ]
        })
        .collect();
    let paint = context.output.paint();
    let human = human::table(paint, &["version", "written", "author", "text"], &rows);
    let ids: Vec<String> = versions
        .iter()
        .map(|version| version.version.clone())
        .collect();
    Ok(Answer::new(&versions, human).ids(ids))
}

pub(super) async fn forget(context: &Context, flags: ForgetFlags) -> Result<Answer, Problem> {
    let mut request = Forget {
        ids: flags.ids,
        topic: flags.topic,
        dry_run: flags.dry_run,
        receipts: flags.receipts,
        wait_ms: millis(flags.wait.as_ref())?,
        agent: flags.agent,
    };
    if let Some(topic) = request
        .topic
        .clone()
        .filter(|_| !request.dry_run && !flags.force)
    {
        request.dry_run = true;
        let count = context.client.forget(&request).await?.ids.len();
        agreed(&topic, count)?;
        request.dry_run = false;
    }
    let gone = context.client.forget(&request).await?;
    let count = gone.ids.len();
    let what = format!("{count} {}", if count == 1 { "memory" } else { "memories" });
    let paint = context.output.paint();
    let human = if gone.dry_run {
        format!("would forget {what}\n{}", gone.ids.join("\n"))
    } else {
        let held = gone.durable.holders.len();
        let asked = held + gone.durable.missing.len();
        let line = format!("{held} of {asked} {} confirmed", plural(asked, "node"));
        let all = gone.durable.missing.is_empty();
        format!(
            "forgot {what}\n{}",
            if all {
                paint.dim(&line)
            } else {
                paint.warn(&line)
            }
        )
    };
    let partial = request.receipts && !gone.dry_run && !gone.durable.met;
    Ok(Answer::new(&gone, human)
        .ids(gone.ids.clone())
        .exit(if partial { 7 } else { 0 }))
}

/// Asks whether all of a topic is to go. Who cannot be asked has to have said --force.
fn agreed(topic: &str, count: usize) -> Result<(), Problem> {
    let terminal = std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
    let hint = "see what would go with --dry-run; go ahead with --force";
    if !terminal {
        let message = format!("forgetting all {count} memories of `{topic}` needs --force here");
        return Err(Problem::new("needs_force", 2, message, hint));
    }
    let mut err = std::io::stderr();
    let _ = write!(
        err,
        "forget all {count} memories of `{topic}`, on every machine? [y/N] "
    );
    let mut line = String::new();
    let read = std::io::stdin().read_line(&mut line);
    if read.is_ok() && matches!(line.trim(), "y" | "Y" | "yes") {
        return Ok(());
    }
    Err(Problem::new("declined", 1, "nothing was forgotten", hint))
}

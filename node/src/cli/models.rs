//! `model push`, `pull`, `list`, `show`, `check`, `update`, `remove`.

use super::Context;
use super::human::{self, Paint, ago, one_line, plural, safe, short};
use super::output::{Answer, Format};
use crate::amount;
use crate::api::{AskModel, FetchView, ModelLine, ModelProgress, ModelView, Problem, PushModel};
use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use std::path::{Path, PathBuf};

#[derive(Debug, Subcommand)]
pub(super) enum ModelVerb {
    /// Publish a file as a model: its topic's policy says where it is kept
    Push(PushFlags),
    /// Publish a new version of a model
    Update(PushFlags),
    /// Fetch a model's content to this node, if the law lets it rest here
    Pull(NameFlags),
    /// List models
    List(ListFlags),
    /// Show a model, who published it and how its fetch goes
    Show(NameFlags),
    /// Prove every byte that is here, and ask the other holders what they have
    Check(NameFlags),
    /// Remove a model for good, everywhere
    #[command(visible_alias = "rm")]
    Remove(NameFlags),
}

#[derive(Debug, Args)]
pub(super) struct PushFlags {
    /// The file, on the node's machine
    file: PathBuf,
    /// NAME or NAME:TAG [default tag: latest]
    #[arg(long)]
    name: String,
    /// The topic [default: models]
    #[arg(short, long)]
    topic: Option<String>,
    /// The licence: an SPDX expression or a word
    #[arg(long, default_value = "", hide_default_value = true)]
    licence: String,
    /// What it is for
    #[arg(long, default_value = "", hide_default_value = true)]
    purpose: String,
    /// What it needs: gpu=8GiB,ram=16GiB
    #[arg(long, value_name = "KEY=AMOUNT", value_delimiter = ',')]
    needs: Vec<String>,
    /// Regions it may be in, fewer than its topic's
    #[arg(long, value_delimiter = ',')]
    regions: Vec<String>,
    /// On behalf of which named agent of this node
    #[arg(long)]
    agent: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct NameFlags {
    /// NAME or NAME:TAG
    name: String,
    /// The topic [default: models]
    #[arg(short, long)]
    topic: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct ListFlags {
    /// Only in this topic and those below it
    #[arg(short, long)]
    topic: Option<String>,
}

impl ModelVerb {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Push(_) => "model push",
            Self::Update(_) => "model update",
            Self::Pull(_) => "model pull",
            Self::List(_) => "model list",
            Self::Show(_) => "model show",
            Self::Check(_) => "model check",
            Self::Remove(_) => "model remove",
        }
    }
}

pub(super) async fn model(context: &Context, verb: ModelVerb) -> Result<Answer, Problem> {
    match verb {
        ModelVerb::Push(flags) => push(context, flags, false).await,
        ModelVerb::Update(flags) => push(context, flags, true).await,
        ModelVerb::Pull(flags) => pull(context, flags).await,
        ModelVerb::List(flags) => list(context, flags).await,
        ModelVerb::Show(flags) => show(context, flags).await,
        ModelVerb::Check(flags) => check(context, flags).await,
        ModelVerb::Remove(flags) => remove(context, flags).await,
    }
}

async fn push(context: &Context, flags: PushFlags, update: bool) -> Result<Answer, Problem> {
    let (gpu_bytes, ram_bytes) = needs(&flags.needs)?;
    let request = PushModel {
        path: absolute(&flags.file)?,
        name: flags.name,
        topic: flags.topic,
        licence: flags.licence,
        purpose: flags.purpose,
        gpu_bytes,
        ram_bytes,
        regions: flags.regions,
        update,
        agent: flags.agent,
    };
    let ModelLine::Pushed(pushed) = work(context, "/v1/models", &request).await? else {
        return Err(misfit());
    };
    let (paint, model) = (context.output.paint(), &pushed.model);
    let mut human = format!(
        "published {} in {} ({}, {} a second)",
        paint.bold(&model.name),
        model.topic,
        human::bytes(model.bytes),
        human::bytes(pushed.bytes_per_second)
    );
    if pushed.topic_founded {
        human += &paint.dim(" (new topic)");
    }
    human += &format!("\n{}", paint.dim(&format!("blake3 {}", model.blob)));
    Ok(Answer::new(&pushed, human).ids([model.id.clone()]))
}

async fn pull(context: &Context, flags: NameFlags) -> Result<Answer, Problem> {
    let ModelLine::Pulled(model) = work(context, "/v1/models:pull", &flags.asked()).await? else {
        return Err(misfit());
    };
    let path = model.path.clone().unwrap_or_default();
    let mut human = format!(
        "{} is here: {path}",
        context.output.paint().bold(&model.name)
    );
    if let Some(fetch) = &model.fetch {
        human += &format!("\n{}", told(context.output.paint(), fetch));
    }
    Ok(Answer::new(&model, human).ids([model.id.clone()]))
}

async fn list(context: &Context, flags: ListFlags) -> Result<Answer, Problem> {
    let models = context.client.models(flags.topic.as_deref()).await?;
    let paint = context.output.paint();
    let heading = [
        "model",
        "topic",
        "size",
        "here",
        "needs",
        "licence",
        "published",
    ];
    let rows: Vec<Vec<String>> = models.iter().map(row).collect();
    let human = match models.is_empty() {
        true => paint.dim("no models: publish one with `aquifer model push FILE --name NAME`"),
        false => human::table(paint, &heading, &rows),
    };
    let ids: Vec<String> = models.iter().map(|model| model.id.clone()).collect();
    Ok(Answer::new(&models, human).ids(ids))
}

fn row(model: &ModelView) -> Vec<String> {
    vec![
        safe(&model.name),
        model.topic.clone(),
        human::bytes(model.bytes),
        here(model),
        needed(model),
        safe(&model.licence),
        ago(model.published_at),
    ]
}

fn here(model: &ModelView) -> String {
    let fetched = model.fetch.as_ref().filter(|fetch| fetch.running);
    match (model.held, fetched, model.wanted) {
        (true, ..) => "yes".to_owned(),
        (false, Some(fetch), _) => {
            let percent = fetch.done_bytes * 100 / fetch.total_bytes.max(1);
            format!("{percent} %")
        }
        (false, None, true) => "waits".to_owned(),
        (false, None, false) => "no".to_owned(),
    }
}

fn needed(model: &ModelView) -> String {
    let needs = [("gpu", model.gpu_bytes), ("ram", model.ram_bytes)];
    let said = needs.iter().filter(|(_, bytes)| *bytes > 0);
    let said: Vec<String> = said
        .map(|(what, bytes)| format!("{what} {}", human::bytes(*bytes)))
        .collect();
    match said.is_empty() {
        true => "-".to_owned(),
        false => said.join(", "),
    }
}

async fn show(context: &Context, flags: NameFlags) -> Result<Answer, Problem> {
    let model = context.client.model(&flags.asked()).await?;
    let paint = context.output.paint();
    let mut lines = vec![
        format!("{} in {}", paint.bold(&model.name), model.topic),
        format!("size       {}", human::bytes(model.bytes)),
        format!("blake3     {}", model.blob),
        format!("here       {}", here(&model)),
        format!("needs      {}", needed(&model)),
        format!(
            "published  {} by {} on {}",
            ago(model.published_at),
            short(&model.publisher),
            short(&model.node)
        ),
    ];
    let mut add = |name: &str, text: &str| {
        if !text.is_empty() {
            lines.push(format!("{name:<9}  {}", one_line(&safe(text), 200)));
        }
    };
    add("licence", &model.licence);
    add("purpose", &model.purpose);
    add("regions", &model.regions.join(", "));
    add("file", model.path.as_deref().unwrap_or_default());
    if let Some(fetch) = &model.fetch {
        lines.push(told(paint, fetch));
    }
    if !model.conflicts.is_empty() {
        let line = format!(
            "published under this name too, and not reconciled: {}",
            model.conflicts.join(", ")
        );
        lines.push(paint.warn(&line));
    }
    Ok(Answer::new(&model, lines.join("\n")).ids([model.id.clone()]))
}

/// How a fetch goes or went, as people read it.
fn told(paint: Paint, fetch: &FetchView) -> String {
    let mut text = format!(
        "fetched    {} of {}, {} a second, from {} {}",
        human::bytes(fetch.done_bytes),
        human::bytes(fetch.total_bytes),
        human::bytes(fetch.bytes_per_second),
        fetch.from.len(),
        plural(fetch.from.len(), "node")
    );
    for node in &fetch.dropped {
        let line = format!("dropped    {}: {}", short(&node.node), safe(&node.why));
        text += &format!("\n{}", paint.warn(&line));
    }
    if let Some(why) = &fetch.failed {
        text += &format!("\n{}", paint.warn(&format!("waits      {}", safe(why))));
    }
    text
}

async fn check(context: &Context, flags: NameFlags) -> Result<Answer, Problem> {
    let ModelLine::Checked(checked) = work(context, "/v1/models:check", &flags.asked()).await?
    else {
        return Err(misfit());
    };
    let paint = context.output.paint();
    let mut human = match (checked.proved_bytes, checked.damaged_bytes) {
        (0, 0) if checked.model.bytes > 0 => paint.dim("nothing of it is on this node"),
        (proved, 0) => paint.good(&format!(
            "every byte here is its own: {}",
            human::bytes(proved)
        )),
        (_, damaged) => paint.bad(&format!(
            "{} here are damaged; they are fetched again if this node is to hold it",
            human::bytes(damaged)
        )),
    };
    for holder in &checked.holders {
        let said = match holder.holds {
            true => paint.good("holds it"),
            false => paint.warn(&safe(&holder.why)),
        };
        let node = &holder.node;
        human += &format!("\n{}  {}  {said}", short(&node.node), node.region);
    }
    let exit = if checked.damaged_bytes > 0 { 7 } else { 0 };
    Ok(Answer::new(&checked, human)
        .ids([checked.model.id.clone()])
        .exit(exit))
}

async fn remove(context: &Context, flags: NameFlags) -> Result<Answer, Problem> {
    let removed = context.client.model_remove(&flags.asked()).await?;
    let human = format!(
        "removed {}; {} are free here, and other holders follow",
        flags.name,
        human::bytes(removed.freed_bytes)
    );
    Ok(Answer::new(&removed, human).ids(removed.ids.clone()))
}

impl NameFlags {
    fn asked(&self) -> AskModel {
        AskModel {
            name: self.name.clone(),
            topic: self.topic.clone(),
        }
    }
}

/// Lets the daemon work, with a bar for a person who watches.
async fn work(
    context: &Context,
    path: &str,
    request: &(impl Serialize + Sync),
) -> Result<ModelLine, Problem> {
    let bar = bar(context);
    let seen = |now: &ModelProgress| {
        bar.set_length(now.total_bytes);
        bar.set_position(now.done_bytes);
        bar.set_message(now.stage.clone());
    };
    let done = context.client.model_work(path, request, seen).await;
    bar.finish_and_clear();
    done
}

fn bar(context: &Context) -> ProgressBar {
    if context.output.quiet || context.output.format != Format::Human {
        return ProgressBar::hidden();
    }
    // indicatif draws on stderr, and only if that is a terminal.
    let style = "{msg} {bar:30} {percent:>3}%  {bytes}/{total_bytes}  {bytes_per_sec}  {eta} left";
    let style =
        ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(0).with_style(style)
}

/// GPU memory and main memory, in bytes.
fn needs(given: &[String]) -> Result<(u64, u64), Problem> {
    let (mut gpu, mut ram) = (0, 0);
    for need in given {
        match need.split_once('=') {
            Some(("gpu", bytes)) => gpu = amount::read(bytes)?,
            Some(("ram", bytes)) => ram = amount::read(bytes)?,
            _ => {
                let message = format!("`{need}` is not a need");
                let hint = "for example: --needs gpu=8GiB,ram=16GiB";
                return Err(Problem::new("bad_need", 2, message, hint));
            }
        }
    }
    Ok((gpu, ram))
}

/// The daemon has a working folder of its own.
fn absolute(file: &Path) -> Result<String, Problem> {
    let path = std::path::absolute(file).ok();
    let text = path.as_ref().and_then(|path| path.to_str());
    text.map(str::to_owned).ok_or_else(|| {
        let message = format!("{} is no path that can be sent", file.display());
        Problem::new("unreadable_file", 2, message, "give it a name in UTF-8")
    })
}

fn misfit() -> Problem {
    let hint = "are `aquifer` and its daemon of one version? restart the daemon";
    let message = "the daemon gave an answer that does not fit the question";
    Problem::new("daemon_answered_badly", 1, message, hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn needs_are_amounts_by_name() {
        let given = |text: &str| text.split(',').map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(
            needs(&given("gpu=8GiB,ram=512MiB")),
            Ok((8 << 30, 512 << 20))
        );
        assert_eq!(needs(&[]), Ok((0, 0)));
        for bad in ["gpu", "gpu=much", "disk=1GiB"] {
            assert_eq!(needs(&given(bad)).expect_err(bad).exit, 2);
        }
    }
}

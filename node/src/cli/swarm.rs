//! `status`, `doctor`, `invite`, `watch`: this node and those around it.

use super::Context;
use super::human::{self, Paint, ago, one_line, plural, short};
use super::output::{Answer, Format};
use super::peers::table;
use crate::api::{Finding, Happening, Invite, Problem, Status};
use crate::{config, moment};
use clap::Args;
use std::time::Duration;

/// How often `status --watch` looks.
const EVERY: Duration = Duration::from_secs(2);

#[derive(Debug, Args)]
pub(super) struct StatusFlags {
    /// For monitors: exit 0 when all is well, 1 on a warning, 2 when critical
    #[arg(long)]
    check: bool,
    /// Look again every 2 seconds
    #[arg(long, conflicts_with = "check")]
    pub(super) watch: bool,
}

#[derive(Debug, Args)]
pub(super) struct InviteFlags {
    /// The region the newcomer will be in [default: this node's]
    #[arg(long)]
    region: Option<String>,
    /// A topic it may take part in, and those below it; repeat it [default: every topic]
    #[arg(short, long = "topic")]
    topics: Vec<String>,
    /// Roles it may have: seed,bridge
    #[arg(long = "role", value_delimiter = ',')]
    roles: Vec<String>,
    /// How long the ticket is good
    #[arg(long, default_value = "15m", value_name = "DURATION")]
    ttl: String,
}

#[derive(Debug, Args)]
pub(super) struct WatchFlags {
    /// Only of this topic and those below it
    #[arg(short, long)]
    topic: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct FindFlags {
    /// A node's peer id, or a topic
    what: String,
}

pub(super) async fn find(context: &Context, flags: FindFlags) -> Result<Answer, Problem> {
    let found = context.client.find(&flags.what).await?;
    let paint = context.output.paint();
    let mut human = String::new();
    for node in &found.nodes {
        let via = paint.dim(&format!("{} · {}", node.region, node.via));
        human += &format!("{} {via}\n", node.node);
        for addr in &node.addresses {
            human += &format!("  {addr}\n");
        }
    }
    let ids: Vec<String> = found.nodes.iter().map(|node| node.node.clone()).collect();
    Ok(Answer::new(&found, human).ids(ids))
}

pub(super) async fn status(context: &Context, flags: &StatusFlags) -> Result<Answer, Problem> {
    if flags.check {
        return doctor(context).await;
    }
    let status = context.client.status().await?;
    let human = shown(context.output.paint(), &status);
    Ok(Answer::new(&status, human).ids([status.node_id.clone()]))
}

pub(super) async fn status_watch(context: &Context, flags: StatusFlags) -> Result<u8, Problem> {
    loop {
        let answer = status(context, &flags).await?;
        if context.output.format == Format::Human {
            // Clears the screen and goes to its corner.
            context.output.data("\u{1b}[2J\u{1b}[H");
        }
        context.output.answer("status", answer);
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            _ = tokio::signal::ctrl_c() => return Ok(0),
        }
    }
}

/// The models of which there is something here; empty if there is none.
fn models(status: &Status) -> String {
    let told = status.models.iter().map(|model| {
        let (here, all) = (model.here_bytes, model.bytes);
        let size = match here == all {
            true => human::bytes(all),
            false => format!("{} of {}", human::bytes(here), human::bytes(all)),
        };
        format!("{}/{} ({size})", model.topic, human::safe(&model.name))
    });
    told.collect::<Vec<_>>().join("\n             ")
}

/// The status, as people read it.
pub(super) fn shown(paint: Paint, status: &Status) -> String {
    let mut rows = vec![
        ("node", format!("{} in {}", status.node_id, status.region)),
        ("roles", status.roles.join(", ")),
        ("api", format!("http://{}", status.api)),
        ("listen", status.listen.join("\n             ")),
        ("external", status.external.join("\n             ")),
        ("relays", status.relays.join("\n             ")),
        (
            "memories",
            format!("{} in {} topics", status.memories, status.topics.len()),
        ),
        ("models", models(status)),
        (
            "agents",
            match status.agents {
                0 => String::new(),
                agents => format!("{agents} live here"),
            },
        ),
        (
            "store",
            format!("{} in {}", human::bytes(status.store_bytes), status.home),
        ),
        (
            "version",
            format!("{}, started {}", status.version, ago(status.up_since)),
        ),
        (
            "certificate",
            format!("lapses {}", ago(status.certificate_until)),
        ),
    ];
    if !status.index_ready {
        rows.push(("recall", paint.warn("the index is catching up")));
    }
    if status.store.read_only {
        rows.push((
            "disk",
            paint.warn("full: reads and forgets, takes nothing new"),
        ));
    } else if status.store.slow {
        rows.push((
            "disk",
            paint.warn("slow: writes take long to become durable"),
        ));
    }
    let refused: u64 = status.denials.values().sum();
    if refused > 0 {
        let by: Vec<String> = status
            .denials
            .iter()
            .filter(|(_, count)| **count > 0)
            .map(|(rule, count)| format!("{rule} {count}"))
            .collect();
        rows.push(("refused", format!("{refused} by law ({})", by.join(", "))));
    }
    let mut out = String::new();
    for (name, value) in rows.into_iter().filter(|(_, value)| !value.is_empty()) {
        let pad = " ".repeat(13usize.saturating_sub(name.len()));
        out += &format!("{}{pad}{value}\n", paint.dim(name));
    }
    let count = status.peers.len();
    out += &format!("\n{count} {}\n", plural(count, "peer"));
    out += &table(paint, &status.peers);
    for away in &status.away {
        let seen = away.last_seen.map_or_else(
            || "not met since this node started".to_owned(),
            |at| format!("last seen {}", ago(at)),
        );
        let line = format!("{} in {}: away, {seen}", short(&away.node), away.region);
        out += &format!("{}\n", paint.dim(&line));
    }
    out
}

pub(super) async fn doctor(context: &Context) -> Result<Answer, Problem> {
    let findings = match context.client.doctor().await {
        Ok(findings) => findings,
        // A daemon that is not there is what a doctor is for.
        Err(problem) if problem.exit == 4 => vec![Finding {
            check: "daemon".to_owned(),
            level: "critical".to_owned(),
            found: problem.message,
            advice: problem.hint,
        }],
        Err(problem) => return Err(problem),
    };
    let worst = findings
        .iter()
        .map(|finding| severity(&finding.level))
        .max()
        .unwrap_or(0);
    let paint = context.output.paint();
    let mut human = String::new();
    for Finding {
        check,
        level,
        found,
        advice,
    } in &findings
    {
        let mark = match severity(level) {
            0 => paint.good("✓"),
            1 => paint.warn("!"),
            _ => paint.bad("✗"),
        };
        human += &format!("{mark} {check:<12} {found}\n");
        if !advice.is_empty() {
            human += &format!("  {:<12} {}\n", "", paint.dim(&format!("→ {advice}")));
        }
    }
    Ok(Answer::new(&findings, human).exit(worst))
}

fn severity(level: &str) -> u8 {
    match level {
        "ok" => 0,
        "warning" => 1,
        _ => 2,
    }
}

pub(super) async fn invite(context: &Context, flags: InviteFlags) -> Result<Answer, Problem> {
    if let Some(region) = &flags.region {
        config::parse_region(region)?;
    }
    let request = Invite {
        region: flags.region,
        topics: (!flags.topics.is_empty()).then_some(flags.topics),
        roles: flags.roles,
        ttl_seconds: Some(moment::read_duration(&flags.ttl)?.as_secs()),
    };
    let invited = context.client.invite(&request).await?;
    let paint = context.output.paint();
    let topics = invited
        .topics
        .as_ref()
        .map_or_else(|| "every topic".to_owned(), |list| list.join(", "));
    let human = format!(
        "{}\n{}",
        invited.ticket,
        paint.dim(&format!(
            "on the other machine: aquifer join TICKET · good once, {} · region {} · {topics}",
            ago(invited.expires_at),
            invited.region
        ))
    );
    Ok(Answer::new(&invited, human).ids([invited.ticket.clone()]))
}

pub(super) async fn watch(context: &Context, flags: WatchFlags) -> Result<u8, Problem> {
    let topic = flags.topic.as_deref().unwrap_or("every topic");
    let mut lines = context.client.events(flags.topic.as_deref()).await?;
    context
        .output
        .say(&format!("watching {topic}; Ctrl-C ends it"));
    let paint = context.output.paint();
    loop {
        let line = tokio::select! {
            line = lines.next() => line?,
            _ = tokio::signal::ctrl_c() => return Ok(0),
        };
        let Some(line) = line else {
            let hint = "start it again with `aquifer up`";
            return Err(Problem::new(
                "daemon_unreachable",
                4,
                "the daemon has stopped",
                hint,
            ));
        };
        // Of a server-sent event, the `data` line says all that the `event` line does.
        let Some(data) = line.strip_prefix("data:").map(str::trim_start) else {
            continue;
        };
        match context.output.format {
            Format::Human => context.output.data(&told(paint, data)),
            Format::Json | Format::Jsonl => context.output.data(data),
            Format::Id => id_of(data).iter().for_each(|id| context.output.data(id)),
        }
    }
}

fn told(paint: Paint, data: &str) -> String {
    let Ok(happening) = serde_json::from_str::<Happening>(data) else {
        return paint.warn(&one_line(data, 200));
    };
    match happening {
        Happening::Memory { memory, from } => {
            let from = from.map_or_else(|| "here".to_owned(), |node| short(&node));
            let about = format!("{} · {} · from {from}", short(&memory.id), memory.topic);
            format!(
                "{} {} {}",
                paint.good("+"),
                one_line(&memory.text, 80),
                paint.dim(&about)
            )
        }
        Happening::Forgotten { topic, ids } => {
            let ids: Vec<String> = ids.iter().map(|id| short(id)).collect();
            format!(
                "{} forgotten in {topic}: {}",
                paint.bad("-"),
                ids.join(", ")
            )
        }
        Happening::PeerUp { node } => format!("{} {} is connected", paint.good("↑"), short(&node)),
        Happening::PeerDown { node } => format!("{} {} is gone", paint.warn("↓"), short(&node)),
        Happening::Law { topic } => format!("§ the law of {topic} changed"),
        Happening::Denied {
            topic,
            node,
            reason,
        } => {
            let node = short(&node);
            format!("{} refused to {node} in {topic}: {reason}", paint.bad("§"))
        }
        Happening::Trouble { what } => format!("{} {}", paint.bad("!"), one_line(&what, 200)),
    }
}

fn id_of(data: &str) -> Vec<String> {
    match serde_json::from_str::<Happening>(data) {
        Ok(Happening::Memory { memory, .. }) => vec![memory.id],
        Ok(Happening::Forgotten { ids, .. }) => ids,
        _ => Vec::new(),
    }
}

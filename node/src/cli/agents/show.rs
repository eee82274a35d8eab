//! Agents, as people read them.

use crate::api::{AgentView, LogLine, ReceiptView, Verified};
use crate::cli::human::{self, Paint, ago, one_line, plural, safe, short};
use crate::cli::output::Answer;

pub(super) fn one(paint: Paint, agent: &AgentView) -> Answer {
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

pub(super) fn list(paint: Paint, agents: &[AgentView]) -> String {
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

pub(super) fn logs(paint: Paint, lines: &[LogLine]) -> String {
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

pub(super) fn receipts_table(paint: Paint, receipts: &[ReceiptView]) -> String {
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

pub(super) fn verdict(paint: Paint, verified: &Verified) -> String {
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

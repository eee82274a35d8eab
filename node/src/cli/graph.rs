//! `graph`: the swarm as text, as Graphviz reads it, or as a page.

use super::Context;
use super::human::{Paint, ago, plural, short};
use super::output::Answer;
use super::peers::millis;
use crate::api::{Graph, GraphNode, Problem};
use crate::graph;
use clap::Args;
use std::collections::BTreeMap;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub(super) struct GraphFlags {
    /// In the language of Graphviz: `aquifer graph --dot | dot -Tsvg`
    #[arg(long)]
    dot: bool,
    /// Write one page that needs nothing else; `-` for stdout
    #[arg(long, value_name = "FILE", conflicts_with = "dot")]
    html: Option<PathBuf>,
}

pub(super) async fn graph(context: &Context, flags: GraphFlags) -> Result<Answer, Problem> {
    let graph = context.client.graph().await?;
    let human = match &flags.html {
        Some(file) if file.as_os_str() == "-" => graph::page(&graph),
        Some(file) => {
            std::fs::write(file, graph::page(&graph)).map_err(|cause| {
                let message = format!("{} cannot be written: {cause}", file.display());
                Problem::new("not_written", 1, message, "give another file")
            })?;
            format!("wrote {}", file.display())
        }
        None if flags.dot => graph::dot(&graph),
        None => shown(context.output.paint(), &graph),
    };
    let ids: Vec<String> = graph.nodes.iter().map(|node| node.node.clone()).collect();
    let coverage = serde_json::json!({ "asked": graph.asked, "answered": graph.answered });
    Ok(Answer::new(&graph, human)
        .meta("coverage", &coverage)
        .ids(ids))
}

/// Each region, its nodes, and to whom each is connected.
fn shown(paint: Paint, graph: &Graph) -> String {
    let mut regions: BTreeMap<&str, Vec<&GraphNode>> = BTreeMap::new();
    for node in &graph.nodes {
        regions.entry(&node.region).or_default().push(node);
    }
    let mut out = String::new();
    for (region, nodes) in regions {
        let count = nodes.len();
        let about = format!("{count} {}", plural(count, "node"));
        out += &format!("{} {}\n", paint.bold(region), paint.dim(&about));
        for node in nodes {
            out += &line(paint, graph, node);
        }
    }
    let up = graph.nodes.iter().filter(|node| node.up).count();
    out += &paint.dim(&format!(
        "{up} of {} up · {} {} · {} of {} peers told theirs",
        graph.nodes.len(),
        graph.links.len(),
        plural(graph.links.len(), "link"),
        graph.answered,
        graph.asked,
    ));
    out
}

fn line(paint: Paint, graph: &Graph, node: &GraphNode) -> String {
    let links = graph.links.iter().filter_map(|link| {
        let other = match (link.a == node.node, link.b == node.node) {
            (true, _) => &link.b,
            (_, true) => &link.a,
            _ => return None,
        };
        let rtt = link.rtt_ms.map(|ms| format!(" {}", millis(ms)));
        let relayed = if link.relayed { " relayed" } else { "" };
        let rtt = rtt.unwrap_or_default();
        Some(format!("{}{}", short(other), paint.dim(&(rtt + relayed))))
    });
    let links: Vec<String> = links.collect();
    let mark = if node.up {
        paint.good("●")
    } else {
        paint.bad("○")
    };
    let about = match (node.node == graph.here, node.up, node.last_seen) {
        (true, ..) => " (this node)".to_owned(),
        (_, false, Some(at)) => format!(" last seen {}", ago(at)),
        (_, false, None) => " not seen".to_owned(),
        _ => String::new(),
    };
    let arrow = if links.is_empty() { "" } else { " ─ " };
    format!(
        "  {mark} {}{}{arrow}{}\n",
        short(&node.node),
        paint.dim(&about),
        links.join(", ")
    )
}

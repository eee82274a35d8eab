//! Graph: the swarm drawn. One page with an inline picture, or text for Graphviz.
//!
//! Pure: from the answer of `graph` to text. The page has no script and fetches nothing, so that it can
//! be kept, mailed, and opened without a network. Where nodes stand depends on nothing but the graph.
//!
//! Not here: how the graph is found (`memory`), how a terminal shows it (`cli`).

mod layout;
mod page;

use crate::api::Graph;
pub use page::page;
use std::collections::BTreeMap;
use std::fmt::Write;

/// The graph in the language of Graphviz, regions as clusters.
pub fn dot(graph: &Graph) -> String {
    let mut regions: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (at, node) in graph.nodes.iter().enumerate() {
        regions.entry(&node.region).or_default().push(at);
    }
    let mut out = String::from("graph aquifer {\n  node [shape=circle];\n");
    for (number, (region, nodes)) in regions.iter().enumerate() {
        let _ = writeln!(
            out,
            "  subgraph cluster_{number} {{ label={};",
            quoted(region)
        );
        for node in nodes.iter().map(|at| &graph.nodes[*at]) {
            let style = match (node.node == graph.here, node.up) {
                (true, _) => " style=bold",
                (_, false) => " style=dashed",
                _ => "",
            };
            let (id, label) = (quoted(&node.node), quoted(short(&node.node)));
            let _ = writeln!(out, "    {id} [label={label}{style}];");
        }
        out.push_str("  }\n");
    }
    for link in &graph.links {
        let label = rtt(link.rtt_ms);
        let style = if link.relayed { " style=dashed" } else { "" };
        let (a, b, label) = (quoted(&link.a), quoted(&link.b), quoted(&label));
        let _ = writeln!(out, "  {a} -- {b} [label={label}{style}];");
    }
    out.push_str("}\n");
    out
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// The end of a peer id: all begin alike.
fn short(node: &str) -> &str {
    node.char_indices()
        .rev()
        .nth(7)
        .map_or(node, |(at, _)| &node[at..])
}

/// A round trip as a label: short, and empty where none is known.
fn rtt(ms: Option<f64>) -> String {
    match ms {
        Some(ms) if ms < 1.0 => format!("{ms:.2} ms"),
        Some(ms) if ms < 10.0 => format!("{ms:.1} ms"),
        Some(ms) => format!("{ms:.0} ms"),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{GraphLink, GraphNode};

    /// Three regions of `of` nodes each; the last node is down.
    pub(super) fn graph(of: usize) -> Graph {
        let regions = ["eu", "eu/fr", "us"];
        let name = |number: usize| format!("12D3KooWexample{number:08}");
        let mut nodes: Vec<GraphNode> = (0..3 * of)
            .map(|number| GraphNode {
                node: name(number),
                region: regions[number / of].to_owned(),
                roles: vec!["pod-host".into()],
                up: true,
                last_seen: None,
            })
            .collect();
        nodes.last_mut().expect("not empty").up = false;
        let pairs = (0..3 * of).flat_map(|a| (a + 1..3 * of - 1).map(move |b| (a, b)));
        let links = pairs.map(|(a, b)| GraphLink {
            a: name(a),
            b: name(b),
            rtt_ms: Some(if a / of == b / of { 0.8 } else { 84.0 }),
            relayed: a == 0 && b / of == 2,
        });
        Graph {
            here: name(0),
            at: 1_764_000_000_000,
            links: links.collect(),
            nodes,
            asked: 3,
            answered: 3,
        }
    }

    #[test]
    fn graphviz_gets_every_node_and_link_once_and_no_text_escapes() {
        let mut graph = graph(2);
        graph.nodes[1].region = "eu\" ]; evil [".into();
        let dot = dot(&graph);
        assert_eq!(dot.matches(" -- ").count(), graph.links.len());
        assert_eq!(dot.matches("[label=").count(), graph.links.len() + 6);
        assert_eq!(dot.matches("subgraph").count(), 4);
        assert!(dot.contains(r#"label="eu\" ]; evil [";"#), "{dot}");
    }
}

//! The page: one file, one picture, and the same as tables for whoever cannot see it.
//!
//! A link is the thicker the nearer its ends are, and broken where it goes through a relay. Colours
//! come from the reader's own choice of light or dark. Every name is escaped: regions and peer ids are
//! bounded, but they are other machines' words.

use super::layout::{self, Layout, Point};
use super::{rtt, short};
use crate::api::{Graph, GraphLink};
use crate::moment;
use std::fmt::Write;

/// So many links are labelled; of more, only those of the node that was asked.
const LABELS_MAX: usize = 40;

const STYLE: &str = "\
:root{color-scheme:light dark;--page:#fbfbfd;--ink:#1d2330;--soft:#5d6678;--line:#8791a5;\
--fill:#fff;--edge:#dfe3ea}\
@media(prefers-color-scheme:dark){:root{--page:#12151c;--ink:#e8ebf2;--soft:#9aa4b8;--line:#6f7b93;\
--fill:#1b202b;--edge:#303848}}\
body{font:15px/1.5 system-ui,sans-serif;margin:2em auto;max-width:76em;padding:0 1em;\
background:var(--page);color:var(--ink)}\
h1{font-size:1.4em;margin:0}p{color:var(--soft);margin:.3em 0 1em}\
svg{display:block;margin:auto;width:100%;height:auto;max-height:80vh;background:var(--fill);border:1px solid var(--edge);\
border-radius:12px}\
text{font:12px system-ui,sans-serif;fill:var(--ink);text-anchor:middle}\
.region{fill-opacity:.1;stroke-opacity:.45;stroke-width:1.5}\
.name{font-size:15px;font-weight:600}\
.link{stroke:var(--line);stroke-opacity:.75;fill:none}.relayed{stroke-dasharray:7 5}\
.rtt{font-size:11px;fill:var(--soft);paint-order:stroke;stroke:var(--fill);stroke-width:4px}\
.node{stroke:var(--fill);stroke-width:2}.down{fill:var(--fill)!important;stroke:var(--soft)!important;\
stroke-dasharray:3 3}.here{stroke:var(--ink)!important;stroke-width:4}\
.label{font-size:11px;paint-order:stroke;stroke:var(--fill);stroke-width:4px}\
table{border-collapse:collapse;margin:1.5em 0;width:100%}\
td,th{text-align:left;padding:.25em 1em .25em 0;border-bottom:1px solid var(--edge);\
vertical-align:top}th{color:var(--soft);font-weight:500}code{font-size:.9em;word-break:break-all}";

/// The graph as one page.
pub fn page(graph: &Graph) -> String {
    let layout = layout::of(graph);
    let up = graph.nodes.iter().filter(|node| node.up).count();
    let mut out = format!(
        "<!doctype html><html lang=en><meta charset=utf-8>\
         <meta name=viewport content=\"width=device-width\">\
         <title>Aquifer: the swarm</title><style>{STYLE}{}</style>\
         <h1>The swarm, as seen from {}</h1>\
         <p>{up} of {} nodes up in {} regions · {} {} · {} of {} peers told theirs · {}</p>",
        hues(layout.clusters.len()),
        escaped(short(&graph.here)),
        graph.nodes.len(),
        layout.clusters.len(),
        graph.links.len(),
        if graph.links.len() == 1 {
            "link"
        } else {
            "links"
        },
        graph.answered,
        graph.asked,
        moment::rfc3339(graph.at),
    );
    picture(&mut out, graph, &layout);
    tables(&mut out, graph);
    out.push_str("</html>\n");
    out
}

/// A colour for each region, as far apart as they are many.
fn hues(regions: usize) -> String {
    let mut out = String::new();
    for number in 0..regions {
        let hue = (210 + 360 * number / regions.max(1)) % 360;
        let _ = write!(
            out,
            ".r{number}{{fill:hsl({hue} 62% 50%);stroke:hsl({hue} 62% 50%)}}"
        );
    }
    out
}

fn picture(out: &mut String, graph: &Graph, layout: &Layout<'_>) {
    let _ = write!(
        out,
        "<svg viewBox=\"0 0 {:.0} {:.0}\" style=\"max-width:{:.0}px\" role=img \
         aria-label=\"Nodes by region and their links\">",
        layout.width,
        layout.height,
        1.5 * layout.width
    );
    for (number, cluster) in layout.clusters.iter().enumerate() {
        let Point { x, y } = cluster.centre;
        let top = y - cluster.radius - 10.0;
        let _ = write!(
            out,
            "<circle class=\"region r{number}\" cx={x:.1} cy={y:.1} r={:.1} />\
             <text class=name x={x:.1} y={top:.1}>{}</text>",
            cluster.radius,
            escaped(cluster.region)
        );
    }
    // All links below all labels below all nodes.
    let links: Vec<(&GraphLink, Point, Point)> = graph
        .links
        .iter()
        .filter_map(|link| {
            let end = |node: &str| layout.nodes.get(node).map(|(place, _)| *place);
            Some((link, end(&link.a)?, end(&link.b)?))
        })
        .collect();
    for (link, a, b) in &links {
        let relayed = if link.relayed { " relayed" } else { "" };
        let _ = write!(
            out,
            "<line class=\"link{relayed}\" stroke-width={:.1} x1={:.1} y1={:.1} x2={:.1} y2={:.1}>\
             <title>{} – {}: {}</title></line>",
            width(link.rtt_ms),
            a.x,
            a.y,
            b.x,
            b.y,
            escaped(short(&link.a)),
            escaped(short(&link.b)),
            told(link)
        );
    }
    let all = links.len() <= LABELS_MAX;
    for (link, a, b) in &links {
        let own = link.a == graph.here || link.b == graph.here;
        let label = rtt(link.rtt_ms);
        if label.is_empty() || !(all || own) {
            continue;
        }
        // Not in the middle, where links that cross meet.
        let (x, y) = (a.x + 0.4 * (b.x - a.x), a.y + 0.4 * (b.y - a.y) + 4.0);
        let _ = write!(out, "<text class=rtt x={x:.1} y={y:.1}>{label}</text>");
    }
    for node in &graph.nodes {
        let Some((Point { x, y }, cluster)) = layout.nodes.get(node.node.as_str()) else {
            continue;
        };
        let here = if node.node == graph.here { " here" } else { "" };
        let down = if node.up { "" } else { " down" };
        // Names stand away from the links within the region.
        let centre = layout.clusters[*cluster].centre.y;
        let beside = if *y < centre - 1.0 {
            y - 19.0
        } else {
            y + 27.0
        };
        let _ = write!(
            out,
            "<circle class=\"node r{cluster}{here}{down}\" cx={x:.1} cy={y:.1} r=12>\
             <title>{}\n{}\n{}</title></circle><text class=label x={x:.1} y={beside:.1}>{}</text>",
            escaped(&node.node),
            escaped(&node.region),
            escaped(&node.roles.join(", ")),
            escaped(short(&node.node))
        );
    }
    out.push_str("</svg>");
}

/// From 1 for a slow or unknown link to 6 for one within a machine or a rack.
fn width(rtt_ms: Option<f64>) -> f64 {
    rtt_ms.map_or(1.0, |ms| 1.0 + 5.0 / (1.0 + ms.max(0.0) / 8.0))
}

fn told(link: &GraphLink) -> String {
    let path = if link.relayed { "relayed" } else { "direct" };
    match &rtt(link.rtt_ms)[..] {
        "" => path.to_owned(),
        label => format!("{label}, {path}"),
    }
}

fn tables(out: &mut String, graph: &Graph) {
    out.push_str("<table><tr><th>Node<th>Region<th>Roles<th>State</tr>");
    for node in &graph.nodes {
        let state = match (node.node == graph.here, node.up, node.last_seen) {
            (true, ..) => "this node".to_owned(),
            (_, true, _) => "up".to_owned(),
            (_, false, Some(at)) => format!("last seen {}", moment::rfc3339(at)),
            (_, false, None) => "not seen".to_owned(),
        };
        let _ = write!(
            out,
            "<tr><td><code>{}</code><td>{}<td>{}<td>{state}</tr>",
            escaped(&node.node),
            escaped(&node.region),
            escaped(&node.roles.join(", "))
        );
    }
    out.push_str("</table><table><tr><th>Link<th>Round trip and path</tr>");
    for link in &graph.links {
        let (a, b) = (escaped(short(&link.a)), escaped(short(&link.b)));
        let _ = write!(out, "<tr><td><code>{a} – {b}</code><td>{}</tr>", told(link));
    }
    out.push_str("</table>");
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::super::tests::graph;
    use super::*;

    #[test]
    fn the_page_draws_every_node_and_link_and_fetches_nothing() {
        let graph = graph(3);
        let page = page(&graph);
        assert_eq!(page.matches("<line ").count(), graph.links.len());
        assert_eq!(page.matches("<circle class=\"node").count(), 9);
        assert_eq!(page.matches("<circle class=\"region").count(), 3);
        assert!(
            page.contains(" down\"") && page.contains(" here\"") && page.contains(" relayed\"")
        );
        for foreign in ["<script", "src=", "href=", "@import", "url(", "http"] {
            assert!(!page.contains(foreign), "the page has {foreign}");
        }
    }

    #[test]
    fn names_cannot_write_the_page() {
        let mut graph = graph(1);
        graph.nodes[0].region = "<script>alert(1)</script>".into();
        graph.nodes[1].roles = vec!["\"><img>".into()];
        let page = page(&graph);
        assert!(!page.contains("<script") && !page.contains("<img"));
    }

    #[test]
    fn near_is_thick_and_unknown_is_thin() {
        let widths = [Some(0.1), Some(10.0), Some(200.0), None].map(width);
        assert!(widths.is_sorted_by(|a, b| a >= b), "{widths:?}");
        assert!(widths[0] <= 6.0 && widths[3] >= 1.0);
    }
}

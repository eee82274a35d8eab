//! Layout: where everything stands. Regions around a circle, each a smaller circle of its nodes.
//!
//! A region takes as much of the large circle as it is wide, so that none overlap.

use crate::api::Graph;
use std::collections::BTreeMap;
use std::f64::consts::{FRAC_PI_2, TAU};

/// Room for one node on its region's circle.
const NODE_ROOM: f64 = 84.0;
/// From the circle of nodes to the edge of the region.
const MARGIN: f64 = 52.0;
/// Between two regions: links and their labels are read there.
const GAP: f64 = 150.0;

/// A place.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Point {
    pub(super) x: f64,
    pub(super) y: f64,
}

/// A region.
#[derive(Debug)]
pub(super) struct Cluster<'a> {
    pub(super) region: &'a str,
    pub(super) centre: Point,
    pub(super) radius: f64,
}

/// Where everything stands.
#[derive(Debug)]
pub(super) struct Layout<'a> {
    pub(super) clusters: Vec<Cluster<'a>>,
    /// Each node's place and the number of its cluster.
    pub(super) nodes: BTreeMap<&'a str, (Point, usize)>,
    pub(super) width: f64,
    pub(super) height: f64,
}

/// Places a graph.
pub(super) fn of(graph: &Graph) -> Layout<'_> {
    let mut regions: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for node in &graph.nodes {
        regions.entry(&node.region).or_default().push(&node.node);
    }
    let inner = |count: usize| match count {
        1 => 0.0,
        count => (NODE_ROOM * count as f64 / TAU).max(NODE_ROOM / 2.0),
    };
    let radii: Vec<f64> = regions
        .values()
        .map(|nodes| inner(nodes.len()) + MARGIN)
        .collect();
    let around: f64 = radii.iter().map(|radius| 2.0 * radius + GAP).sum();
    let widest = radii.iter().copied().fold(0.0, f64::max);
    let large = match radii.len() {
        0 | 1 => 0.0,
        // A chord is shorter than its arc: of few regions the circle must be larger.
        count => {
            let stretch = 1.0 + 1.0 / count as f64;
            (around * stretch / TAU).max(widest + GAP / 2.0)
        }
    };
    let mut layout = Layout {
        clusters: Vec::new(),
        nodes: BTreeMap::new(),
        width: 0.0,
        height: 0.0,
    };
    // Two regions lie side by side; more begin at the top.
    let mut angle = if radii.len() == 2 {
        TAU / 2.0
    } else {
        -FRAC_PI_2
    };
    let mut before: Option<f64> = None;
    for ((number, (region, nodes)), radius) in regions.into_iter().enumerate().zip(&radii) {
        if let Some(before) = before {
            angle += TAU * (before + radius + GAP) / around;
        }
        before = Some(*radius);
        let centre = Point {
            x: large * angle.cos(),
            y: large * angle.sin(),
        };
        let ring = inner(nodes.len());
        for (at, node) in nodes.iter().enumerate() {
            // Half a step on, so that two nodes stand across the way to the other regions.
            let turn = angle + TAU * (at as f64 + 0.5) / nodes.len() as f64;
            let place = Point {
                x: centre.x + ring * turn.cos(),
                y: centre.y + ring * turn.sin(),
            };
            layout.nodes.insert(node, (place, number));
        }
        layout.clusters.push(Cluster {
            region,
            centre,
            radius: *radius,
        });
    }
    layout.fitted()
}

impl Layout<'_> {
    /// Moves everything to where no coordinate is negative.
    fn fitted(mut self) -> Self {
        let edge = |of: fn(&Cluster<'_>) -> f64| self.clusters.iter().map(of);
        let left = edge(|c| c.centre.x - c.radius).fold(0.0, f64::min) - 20.0;
        let top = edge(|c| c.centre.y - c.radius).fold(0.0, f64::min) - 40.0;
        let right = edge(|c| c.centre.x + c.radius).fold(0.0, f64::max) + 20.0;
        let bottom = edge(|c| c.centre.y + c.radius).fold(0.0, f64::max) + 20.0;
        (self.width, self.height) = (right - left, bottom - top);
        let places = self.nodes.values_mut().map(|(place, _)| place);
        for place in places.chain(self.clusters.iter_mut().map(|c| &mut c.centre)) {
            place.x -= left;
            place.y -= top;
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::graph;
    use super::*;

    fn apart(a: Point, b: Point) -> f64 {
        (a.x - b.x).hypot(a.y - b.y)
    }

    #[test]
    fn regions_do_not_overlap_nodes_are_inside_them_and_all_is_on_the_page() {
        for of_each in [1, 2, 5, 40] {
            let graph = graph(of_each);
            let layout = of(&graph);
            for (at, a) in layout.clusters.iter().enumerate() {
                for b in &layout.clusters[..at] {
                    assert!(apart(a.centre, b.centre) > a.radius + b.radius, "{of_each}");
                }
                assert!(a.centre.x >= a.radius && a.centre.x + a.radius <= layout.width);
                assert!(a.centre.y >= a.radius && a.centre.y + a.radius <= layout.height);
            }
            let places: Vec<_> = layout.nodes.values().collect();
            assert_eq!(places.len(), graph.nodes.len());
            for (at, (a, cluster)) in places.iter().enumerate() {
                let cluster = &layout.clusters[*cluster];
                assert!(apart(*a, cluster.centre) < cluster.radius);
                for (b, _) in &places[..at] {
                    assert!(apart(*a, *b) > 40.0, "{of_each}: nodes lie on each other");
                }
            }
        }
    }
}

//! The map: regions where they lie on earth, and what flowed between them.
//!
//! A plain cylindrical map with a grid and no coasts: what matters is who is near whom. Regions that
//! are not known here lie on a circle.

use super::chart::WHOLE;
use std::fmt::Write as _;

const HIGH: f64 = 400.0;

/// Longitude and latitude of the regions of the matrices that come with the simulator.
const PLACES: [(&str, f64, f64); 8] = [
    ("us/east", -77.0, 39.0),
    ("us/west", -121.0, 45.0),
    ("eu/west", -8.0, 53.0),
    ("eu/central", 9.0, 50.0),
    ("ap/south", 73.0, 19.0),
    ("ap/southeast", 104.0, 1.0),
    ("ap/northeast", 140.0, 36.0),
    ("sa/east", -47.0, -23.0),
];

/// One region: its name, and how many deliveries there were in it.
pub(super) struct Spot<'a> {
    pub(super) name: &'a str,
    pub(super) deliveries: u64,
}

/// The map of `spots`, with `flows` in bytes from each to each, row by row.
pub(super) fn map(spots: &[Spot<'_>], flows: &[u64]) -> String {
    let places = places(spots);
    let mut svg = format!(
        "<svg viewBox=\"0 0 {WHOLE} {HIGH}\" role=\"img\" aria-label=\"regions and what flowed between them\">"
    );
    for longitude in (-150..=150).step_by(30) {
        let (x, _) = at(f64::from(longitude), 0.0);
        let _ = write!(
            svg,
            "<line class=\"axis\" x1=\"{x:.0}\" x2=\"{x:.0}\" y1=\"0\" y2=\"{HIGH}\"/>"
        );
    }
    for latitude in (-30..=60).step_by(30) {
        let (_, y) = at(0.0, f64::from(latitude));
        let _ = write!(
            svg,
            "<line class=\"axis\" x1=\"0\" x2=\"{WHOLE}\" y1=\"{y:.0}\" y2=\"{y:.0}\"/>"
        );
    }
    let most = flows.iter().copied().max().unwrap_or(0).max(1) as f64;
    let pairs = (0..spots.len()).flat_map(|a| (0..spots.len()).map(move |b| (a, b)));
    for (a, b) in pairs.filter(|(a, b)| a != b) {
        let bytes = flows.get(a * spots.len() + b).copied().unwrap_or(0);
        if bytes == 0 {
            continue;
        }
        let ((x, y), (u, v)) = (places[a], places[b]);
        // Bent to one side, so that there and back are two lines.
        let (bend, run, rise) = (0.12, u - x, v - y);
        let (over, under) = ((x + u) / 2.0 + rise * bend, (y + v) / 2.0 - run * bend);
        let _ = write!(
            svg,
            "<path fill=\"none\" stroke=\"#0072b2\" stroke-opacity=\"0.45\" stroke-width=\"{:.2}\" \
             d=\"M{x:.1},{y:.1} Q{over:.1},{under:.1} {u:.1},{v:.1}\"><title>{} to {}: {}</title></path>",
            0.6 + 5.0 * bytes as f64 / most,
            spots[a].name,
            spots[b].name,
            size(bytes)
        );
    }
    let largest = spots
        .iter()
        .map(|spot| spot.deliveries)
        .max()
        .unwrap_or(0)
        .max(1) as f64;
    for (number, (spot, (x, y))) in spots.iter().zip(&places).enumerate() {
        let radius = 4.0 + 8.0 * (spot.deliveries as f64 / largest).sqrt();
        let _ = write!(
            svg,
            "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius:.1}\" fill=\"#d55e00\"><title>{}: {} deliveries</title></circle>\
             <text class=\"halo\" x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            spot.name,
            spot.deliveries,
            // Neighbours in the list are often neighbours on earth.
            if number % 2 == 0 {
                y - radius - 5.0
            } else {
                y + radius + 14.0
            },
            spot.name
        );
    }
    let all: u64 = flows.iter().sum();
    let _ = write!(
        svg,
        "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{} between regions; the widest line is {}</text></svg>",
        WHOLE - 8.0,
        HIGH - 8.0,
        size(all),
        size(most as u64)
    );
    svg
}

fn places(spots: &[Spot<'_>]) -> Vec<(f64, f64)> {
    let known = |spot: &Spot<'_>| PLACES.iter().find(|(name, ..)| *name == spot.name);
    let found: Option<Vec<(f64, f64)>> = spots
        .iter()
        .map(|spot| known(spot).map(|(_, longitude, latitude)| at(*longitude, *latitude)))
        .collect();
    found.unwrap_or_else(|| {
        let turn = std::f64::consts::TAU / spots.len().max(1) as f64;
        let spot = |number: usize| {
            let angle = turn * number as f64;
            (
                WHOLE / 2.0 + 300.0 * angle.sin(),
                HIGH / 2.0 - 20.0 - 140.0 * angle.cos(),
            )
        };
        (0..spots.len()).map(spot).collect()
    })
}

/// Where a place is drawn: from 150 degrees west to 165 east, from 75 degrees north to 45 south.
fn at(longitude: f64, latitude: f64) -> (f64, f64) {
    let x = (longitude + 150.0) / 315.0 * WHOLE;
    (x, (75.0 - latitude) / 120.0 * HIGH)
}

/// Bytes in words.
fn size(bytes: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let power = (bytes.max(1).ilog2() / 10).min(4);
    let value = bytes as f64 / (1_u64 << (10 * power)) as f64;
    format!("{value:.1} {}", units[power as usize])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_region_is_on_the_map_and_so_is_every_flow() {
        for names in [["us/east", "eu/west"], ["a", "b"]] {
            let spots = names.map(|name| Spot {
                name,
                deliveries: 5,
            });
            let svg = map(&spots, &[0, 7, 3, 0]);
            assert_eq!(2, svg.matches("<circle").count());
            assert_eq!(2, svg.matches("<path").count());
            assert!(svg.contains("10.0 B between regions"));
        }
        assert_eq!("1.5 MiB", size(3 << 19));
    }
}

//! Charts in SVG: lines that rise from 0 to 1, and bars.

use std::fmt::Write as _;

/// A chart as wide as the page, and one of two beside each other.
pub(super) const WHOLE: f64 = 980.0;
pub(super) const HALF: f64 = 480.0;

const HIGH: f64 = 300.0;
const LEFT: f64 = 56.0;
const BOTTOM: f64 = 44.0;
const TOP: f64 = 12.0;
const RIGHT: f64 = 16.0;

/// Told apart also by those who do not see colours well (Okabe and Ito 2008), and then again.
const COLOURS: [&str; 8] = [
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6d31", "#7f7f7f",
];

/// A named line of points, from 0 to 1 or to the top of its chart.
pub(super) struct Line {
    name: String,
    points: Vec<f64>,
}

impl Line {
    /// A line through these points.
    pub(super) fn through(name: &str, points: Vec<f64>) -> Self {
        Self {
            name: name.to_owned(),
            points,
        }
    }

    /// How many of all counts are at or below each of the first `until` places.
    pub(super) fn cumulative(name: &str, counts: &[u64], until: usize) -> Self {
        let all: u64 = counts.iter().sum();
        let mut sum = 0;
        let part = |count: &u64| {
            sum += count;
            sum as f64 / all.max(1) as f64
        };
        Self {
            name: name.to_owned(),
            points: counts[..until.min(counts.len())].iter().map(part).collect(),
        }
    }
}

/// A chart of lines.
pub(super) struct Lines {
    across: &'static str,
    wide: f64,
    top: f64,
}

impl Lines {
    pub(super) fn new(across: &'static str, wide: f64) -> Self {
        Self {
            across,
            wide,
            top: 1.0,
        }
    }

    /// One whose points go from 0 to `top`, or a little more to a round number.
    pub(super) fn up_to(self, top: f64) -> Self {
        // Four marks, each a round number from the one before.
        let mark = step((top.max(1.0) * 2.0) as usize) as f64;
        Self {
            top: 4.0 * (top / 4.0 / mark).ceil().max(1.0) * mark,
            ..self
        }
    }

    /// All lines; with their names if there are few.
    pub(super) fn draw(&self, lines: &[Line], named: bool) -> String {
        let most = lines
            .iter()
            .map(|line| line.points.len())
            .max()
            .unwrap_or(1);
        let x = |at: f64| LEFT + at / most.max(2) as f64 * (self.wide - LEFT - RIGHT);
        let y = |part: f64| HIGH - BOTTOM - part * (HIGH - BOTTOM - TOP);
        let mut svg = format!(
            "<svg viewBox=\"0 0 {} {HIGH}\" role=\"img\" aria-label=\"{}\">",
            self.wide, self.across
        );
        for part in [0.0, 0.25, 0.5, 0.75, 1.0] {
            let (at, left) = (y(part), LEFT - 8.0);
            let _ = write!(
                svg,
                "<line class=\"axis\" x1=\"{LEFT}\" x2=\"{}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>\
                 <text x=\"{left}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                self.wide - RIGHT,
                at + 4.0,
                if self.top > 1.0 {
                    (part * self.top).round()
                } else {
                    part
                }
            );
        }
        // In half the room, half the marks.
        let step = step((most as f64 * WHOLE / self.wide) as usize);
        for at in (0..most).step_by(step) {
            let _ = write!(
                svg,
                "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{at}</text>",
                x(at as f64),
                HIGH - BOTTOM + 18.0
            );
        }
        let _ = write!(
            svg,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>",
            self.wide - RIGHT,
            HIGH - 6.0,
            self.across
        );
        for (line, colour) in lines.iter().zip(COLOURS.iter().cycle()) {
            let points = line.points.iter().enumerate();
            let points: String = points
                .map(|(at, part)| format!("{:.1},{:.1} ", x(at as f64), y(*part / self.top)))
                .collect();
            let width = if named { 2.0 } else { 1.2 };
            let _ = write!(
                svg,
                "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"{width}\" points=\"{points}\"><title>{}</title></polyline>",
                line.name
            );
        }
        if named {
            for (row, (line, colour)) in lines.iter().zip(COLOURS.iter().cycle()).enumerate() {
                let at = TOP + 14.0 + row as f64 * 18.0;
                let (from, until) = (LEFT + 14.0, LEFT + 34.0);
                let _ = write!(
                    svg,
                    "<line x1=\"{from}\" x2=\"{until}\" y1=\"{at}\" y2=\"{at}\" stroke=\"{colour}\" stroke-width=\"3\"/>\
                     <text x=\"{}\" y=\"{}\">{}</text>",
                    until + 8.0,
                    at + 4.0,
                    line.name
                );
            }
        }
        svg.push_str("</svg>");
        svg
    }
}

/// A chart of bars.
pub(super) struct Bars {
    across: &'static str,
    wide: f64,
}

impl Bars {
    pub(super) fn new(across: &'static str, wide: f64) -> Self {
        Self { across, wide }
    }

    /// The part of each in the sum of all.
    pub(super) fn draw(&self, bars: &[(String, u64)]) -> String {
        let sum: u64 = bars.iter().map(|(_, count)| count).sum();
        let most = bars
            .iter()
            .map(|(_, count)| *count)
            .max()
            .unwrap_or(1)
            .max(1);
        let wide = (self.wide - LEFT - RIGHT) / bars.len().max(1) as f64;
        let mut svg = format!(
            "<svg viewBox=\"0 0 {} {HIGH}\" role=\"img\" aria-label=\"{}\">",
            self.wide, self.across
        );
        for (place, (name, count)) in bars.iter().enumerate() {
            let high = *count as f64 / most as f64 * (HIGH - BOTTOM - TOP - 20.0);
            let (left, top) = (LEFT + place as f64 * wide, HIGH - BOTTOM - high);
            let middle = left + wide / 2.0;
            let _ = write!(
                svg,
                "<rect x=\"{:.1}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{high:.1}\" rx=\"3\" fill=\"{}\"/>\
                 <text x=\"{middle:.1}\" y=\"{}\" text-anchor=\"middle\">{name}</text>",
                left + wide * 0.12,
                wide * 0.76,
                COLOURS[0],
                HIGH - BOTTOM + 18.0
            );
            let part = *count as f64 * 100.0 / sum.max(1) as f64;
            if part >= 0.05 {
                let _ = write!(
                    svg,
                    "<text x=\"{middle:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{part:.1} %</text>",
                    top - 6.0
                );
            }
        }
        let _ = write!(
            svg,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text></svg>",
            self.wide - RIGHT,
            HIGH - 6.0,
            self.across
        );
        svg
    }
}

/// A round distance between marks, for some eight to ten of them.
fn step(most: usize) -> usize {
    let rough = (most / 8).max(1);
    let power = 10_usize.pow(rough.ilog10());
    [1, 2, 5, 10]
        .map(|times| times * power)
        .into_iter()
        .find(|step| *step >= rough)
        .unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_counts_rises_to_all_of_them() {
        let line = Line::cumulative("a", &[1, 0, 3], 9);
        assert_eq!(vec![0.25, 0.25, 1.0], line.points);
        assert_eq!(vec![0.25], Line::cumulative("a", &[1, 0, 3], 1).points);
        assert!(
            Lines::new("x", HALF)
                .draw(&[line], true)
                .contains("polyline")
        );
    }

    #[test]
    fn marks_are_round() {
        assert_eq!(
            [1, 1, 20, 50, 100, 1_000],
            [1, 9, 100, 390, 800, 8_000].map(step)
        );
    }
}

//! The report as one page: no script, no font, no picture from elsewhere.
//!
//! Not here: how lines are drawn (`chart`), the same in numbers for scripts (`report`).

mod chart;
mod map;

use super::plan::Tier;
use super::report::Report;
use super::tally::{STEPS, Tally, quantile, step_ms};
use chart::{Bars, HALF, Line, Lines, WHOLE};
use map::{Spot, map};

const STYLE: &str = "
:root { color-scheme: light dark; --ink: #1b2430; --soft: #5b6776; --rule: #d8dee6; --paper: #fbfcfd; --card: #fff }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6ebf1; --soft: #98a4b3; --rule: #2c3642; --paper: #10151b; --card: #171e26 } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); margin: 0 }
main { max-width: 1080px; margin: 0 auto; padding: 32px 24px 64px }
h1 { font-size: 26px; margin: 0 0 4px } h2 { font-size: 16px; margin: 0 0 12px }
p { margin: 0 0 16px; color: var(--soft) }
.facts { display: grid; grid-template-columns: repeat(4, 1fr); gap: 12px; margin: 20px 0 }
@media (max-width: 720px) { .facts { grid-template-columns: repeat(2, 1fr) } }
.fact, section { background: var(--card); border: 1px solid var(--rule); border-radius: 10px }
.fact { padding: 12px 16px } .fact b { display: block; font-size: 22px; font-weight: 600; white-space: nowrap }
.fact span { color: var(--soft); font-size: 13px }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(440px, 1fr)); gap: 16px }
section { padding: 16px 20px; margin-bottom: 16px; overflow-x: auto }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums }
th { font-weight: 500; color: var(--soft) } td, th { padding: 5px 12px 5px 0; border-top: 1px solid var(--rule) }
tr:first-child th, tr:first-child td { border-top: 0 } td, th { text-align: right } td:first-child, th:first-child { text-align: left }
svg { width: 100%; height: auto; display: block } svg text { fill: var(--soft); font: 12px system-ui, sans-serif }
svg .halo { paint-order: stroke; stroke: var(--card); stroke-width: 4px; fill: var(--ink) } svg .axis { stroke: var(--rule); stroke-width: 1 } .bad { color: #c0392b; font-weight: 600 }
code { font: 13px ui-monospace, monospace; word-break: break-all }
pre { font: 13px/1.45 ui-monospace, monospace; margin: 0; white-space: pre-wrap }
";

/// The page of a run: what `report` says, the curves of `tally`, and the `plan` it was.
pub fn page(name: &str, plan: &str, report: &Report, tally: &Tally) -> String {
    let regions: Vec<&str> = report.region_names.iter().map(String::as_str).collect();
    let horizon = quantile(&tally.all_delays(), 0.9999).unwrap_or(1).max(1) as usize + 5;
    let reached: Vec<Line> = (regions.iter().zip(&tally.delays))
        .filter(|(_, delays)| delays.iter().any(|count| *count > 0))
        .map(|(name, delays)| Line::cumulative(name, delays, horizon))
        .collect();
    let each: Vec<Line> = (tally.followed.iter().enumerate())
        .filter(|(_, delays)| delays.iter().any(|count| *count > 0))
        .map(|(number, delays)| Line::cumulative(&format!("message {number}"), delays, horizon))
        .collect();
    let mut page = String::new();
    let mut add = |text: &str| page.push_str(text);
    add("<!doctype html><html lang=\"en\"><meta charset=\"utf-8\">");
    add("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">");
    add(&format!(
        "<title>{} · aquifer-sim</title><style>{STYLE}</style><main>",
        escaped(name)
    ));
    add(&format!(
        "<h1>{}</h1><p>{}</p>",
        escaped(name),
        escaped(&report.about)
    ));
    for violation in &report.violations {
        add(&format!("<p class=\"bad\">{}</p>", escaped(violation)));
    }
    add(&facts(report));
    add("<section><h2>Reached, by region</h2>");
    let across = "ms since publication";
    add(&Lines::new(across, WHOLE).draw(&reached, true));
    add("</section>");
    if tally.flows.iter().any(|bytes| *bytes > 0) {
        add("<section><h2>What flowed between regions</h2>");
        add(&flows(report, tally));
        add("</section>");
    }
    if tally.courses.len() > FEW_MESSAGES {
        add("<section><h2>Message after message: ms until half have it, and 99 %</h2>");
        add(&courses(tally));
        add("</section>");
    }
    add("<div class=\"pair\"><section><h2>Reached, message by message</h2>");
    add(&Lines::new(across, HALF).draw(&each, false));
    add("</section><section><h2>Links in the mesh, at all heartbeats</h2>");
    let degrees = report.degrees.iter().enumerate();
    let bars: Vec<(String, u64)> = degrees
        .filter(|(links, count)| **count > 0 || (4..=14).contains(links))
        .map(|(links, count)| (links.to_string(), *count))
        .collect();
    match report.degrees.iter().sum::<u64>() {
        0 => add("<p>This run had no heartbeats.</p>"),
        _ => add(&Bars::new("links", HALF).draw(&bars)),
    }
    add("</section></div><section><h2>What was sent</h2>");
    add(&traffic(report));
    add("</section><div class=\"pair\"><section><h2>The law</h2>");
    add(&law(report));
    add("</section><section><h2>What it cost</h2>");
    add(&cost(report));
    add("</section></div>");
    if let Some(lookups) = &report.lookups {
        add("<section><h2>Lookups, by the hops until all of the closest were known</h2>");
        let bars = lookups.all_hops.iter().enumerate().skip(1);
        let bars: Vec<(String, u64)> = bars.take(10).map(|(n, c)| (n.to_string(), *c)).collect();
        add(&Bars::new("hops", WHOLE).draw(&bars));
        add("</section>");
    }
    if !report.resources.is_empty() {
        add("<section><h2>What it needs, by arithmetic from what was measured</h2>");
        add(&needs(report));
        add("</section>");
    }
    for done in &report.behaviours {
        let (name, lines) = done.lines();
        add(&format!("<section><h2>What they did: {name}</h2><table>"));
        lines
            .iter()
            .for_each(|(what, said)| add(&row(what, std::slice::from_ref(said))));
        add("</table></section>");
    }
    if !report.agreement.is_empty() {
        add("<section><h2>Two tiers beside each other, where both can be run</h2>");
        add(&beside(report));
        add("</section>");
    }
    if let Some(coming) = coming_and_going(report) {
        add("<section><h2>Coming, going and falling silent</h2>");
        add(&coming);
        add("</section>");
    }
    add("<section><h2>By region</h2>");
    add(&by_region(report));
    add(&format!(
        "</section><section><h2>The plan</h2><pre>{}</pre></section>",
        escaped(plan)
    ));
    add("</main></html>\n");
    page
}

/// With more messages than this, how they fared one after the other is worth a chart.
const FEW_MESSAGES: usize = 12;

fn flows(report: &Report, tally: &Tally) -> String {
    let names = report.region_names.iter().zip(&tally.delays);
    let spots: Vec<Spot<'_>> = names
        .map(|(name, delays)| Spot {
            name,
            deliveries: delays.iter().sum(),
        })
        .collect();
    map(&spots, &tally.flows)
}

fn courses(tally: &Tally) -> String {
    let within = |part: f64| {
        let course =
            |steps: &[u32; STEPS]| quantile(steps, part).map_or(0.0, |step| step_ms(step as usize));
        tally.courses.iter().map(course).collect::<Vec<f64>>()
    };
    let (half, most) = (within(0.5), within(0.99));
    let top = most.iter().copied().fold(0.0, f64::max);
    let lines = [Line::through("half", half), Line::through("99 %", most)];
    let across = "messages, in the order of publication";
    Lines::new(across, WHOLE).up_to(top).draw(&lines, true)
}

fn facts(report: &Report) -> String {
    let ms = |time: Option<u64>| time.map_or_else(|| "–".to_owned(), |ms| format!("{ms} ms"));
    let facts = [
        (grouped(report.agents), "agents"),
        (grouped(report.events), "events"),
        (format!("{:.4} %", report.reached * 100.0), "reached"),
        (ms(report.p50_ms), "half have it within"),
        (ms(report.p99_ms), "99 % have it within"),
        (
            format!("{:.2}", report.duplicates_per_delivery),
            "duplicates for each delivery",
        ),
        (
            format!("{:.1} B", report.wan_bytes_per_delivery),
            "between regions, for each delivery",
        ),
        (
            report.policy.accepted.to_string(),
            "accepted against the law",
        ),
    ];
    let facts = facts.map(|(value, what)| {
        format!("<div class=\"fact\"><b>{value}</b><span>{what}</span></div>")
    });
    format!("<div class=\"facts\">{}</div>", facts.concat())
}

/// What came of churn, partitions, losses and silence, if there were any.
fn coming_and_going(report: &Report) -> Option<String> {
    let [again, cut] = report.lost;
    let counts = [
        ("departures", report.departures),
        ("things lost and sent again", again),
        ("things lost between regions that were cut off", cut),
        (
            "messages never published, since whoever was to was away",
            report.unsaid,
        ),
        (
            "times a mesh peer was put out for its silence",
            report.silenced,
        ),
    ];
    if counts.iter().all(|(_, count)| *count == 0) && report.settled.is_none() {
        return None;
    }
    let row = |what: &str, value: String| format!("<tr><td>{what}</td><td>{value}</td></tr>");
    let mut rows: Vec<String> = counts
        .iter()
        .map(|(what, count)| row(what, grouped(*count)))
        .collect();
    rows.push(row(
        "of all deliveries, those to agents that had been away",
        format!("{:.2} %", report.late * 100.0),
    ));
    for mended in &report.convergence {
        let last = mended.last_ms.map_or_else(String::new, |ms| {
            format!(", the last after {} ms", grouped(ms))
        });
        rows.push(row(
            &format!("what was missed, after {}", mended.after),
            format!(
                "half within {:.0} ms, 99 % within {:.0} ms{last}",
                mended.p50_ms, mended.p99_ms
            ),
        ));
    }
    if let Some(settled) = report.settled {
        let what = "of what those who are here at the end should have, they have";
        rows.push(row(what, format!("{:.4} %", settled * 100.0)));
    }
    Some(format!("<table>{}</table>", rows.concat()))
}

fn traffic(report: &Report) -> String {
    let rows = report
        .sent
        .iter()
        .filter(|(_, [home, away])| home.count + away.count > 0);
    let rows = rows.map(|(kind, [home, away])| {
        let cells = [home.count, home.bytes, away.count, away.bytes].map(grouped);
        row(kind, &cells)
    });
    let head = "<tr><th>kind</th><th>inside regions</th><th>bytes</th><th>between regions</th><th>bytes</th></tr>";
    format!("<table>{head}{}</table>", rows.collect::<String>())
}

fn law(report: &Report) -> String {
    let policy = &report.policy;
    let rows = [
        row("asked", &[grouped(policy.checked)]),
        row("forbidden", &[grouped(policy.denied)]),
        row("of it, sent all the same", &[grouped(policy.attempted)]),
        row(
            "accepted, though another judge forbids it",
            &[grouped(policy.accepted)],
        ),
        row(
            "wrong answers, with 95 % confidence below",
            &[format!("{:.1e}", policy.bound)],
        ),
    ];
    format!("<table>{}</table>", rows.concat())
}

fn cost(report: &Report) -> String {
    let cost = &report.cost;
    let rss = cost
        .rss_bytes
        .map_or_else(|| "–".to_owned(), |bytes| format!("{} MiB", bytes >> 20));
    let each = report
        .bytes_per_agent
        .map_or_else(|| "–".to_owned(), |b| format!("{b:.1} B"));
    let rows = [
        row("processor", &[format!("{:.2} s", cost.cpu_seconds)]),
        row(
            "of it, to get ready",
            &[format!("{:.2} s", cost.setup_seconds)],
        ),
        row("by the clock", &[format!("{:.2} s", cost.wall_seconds)]),
        row(
            "for each event",
            &[format!("{:.1} ns", report.ns_per_event)],
        ),
        row("memory, at most", &[rss]),
        row("for each agent", &[each]),
        format!(
            "<tr><td>digest</td><td><code>{}</code></td></tr>",
            report.digest
        ),
    ];
    format!("<table>{}</table>", rows.concat())
}

fn beside(report: &Report) -> String {
    let rows = report.agreement.iter().map(|both| {
        let ms = |[below, above]: [u64; 2]| format!("{below} and {above} ms");
        let [below, above] = both.duplicates;
        let duplicates = format!("{below:.2} and {above:.2}");
        let tiers = both.tiers.map(Tier::name).join(" and ");
        let cells = [tiers, ms(both.p50_ms), ms(both.p99_ms), duplicates];
        row(&grouped(both.agents), &cells)
    });
    let head = "<tr><th>agents</th><th>tiers</th><th>half within</th><th>99 % within</th><th>duplicates</th></tr>";
    format!("<table>{head}{}</table>", rows.collect::<String>())
}

fn needs(report: &Report) -> String {
    let rows = report.resources.iter().map(|need| {
        let enough = if need.is_met() {
            "enough"
        } else {
            "NOT ENOUGH"
        };
        let needed = format!("{:.2} {}", need.needed, need.unit);
        let stated = format!("{} {}", need.stated, need.unit);
        row(need.name, &[needed, stated, enough.to_owned()])
    });
    let head = "<tr><th></th><th>needed</th><th>there is</th><th></th></tr>";
    format!("<table>{head}{}</table>", rows.collect::<String>())
}

fn by_region(report: &Report) -> String {
    let ms = |time: &Option<u64>| time.map_or_else(|| "–".to_owned(), |ms| format!("{ms} ms"));
    let rows = report.region_names.iter().filter_map(|name| {
        let times = report.regions.get(name)?;
        Some(row(name, &[ms(&times[0]), ms(&times[1])]))
    });
    let head = "<tr><th>region</th><th>half within</th><th>99 % within</th></tr>";
    format!("<table>{head}{}</table>", rows.collect::<String>())
}

fn row(name: &str, cells: &[String]) -> String {
    let cells: String = cells
        .iter()
        .map(|cell| format!("<td>{cell}</td>"))
        .collect();
    format!("<tr><td>{}</td>{cells}</tr>", escaped(name))
}

/// A number with its thousands apart.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            grouped.push('\u{202f}');
        }
        grouped.push(digit);
    }
    grouped
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_and_text_cannot_be_markup() {
        assert_eq!("1\u{202f}234\u{202f}567", grouped(1_234_567));
        assert_eq!(("0", "999"), (grouped(0).as_str(), grouped(999).as_str()));
        assert_eq!("&lt;b a=&quot;&amp;&quot;&gt;", escaped("<b a=\"&\">"));
    }
}

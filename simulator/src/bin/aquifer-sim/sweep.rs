//! A sweep: one plan, one key of it at some values, each with some seeds.

use crate::storms;
use crate::swarms::{self, Found, RunSwarm};
use aquifer_simulator::Outcome;
use aquifer_simulator::swarm::plan::{ParseSwarm, Plan};
use aquifer_simulator::swarm::report::Report;
use aquifer_simulator::swarm::run::How;
use serde::Serialize;
use std::fmt::Write as _;

/// What is swept over.
pub(crate) struct Sweep<'a> {
    pub(crate) name: &'a str,
    pub(crate) text: &'a str,
    pub(crate) key: &'a str,
    pub(crate) values: &'a [String],
    pub(crate) seeds: u64,
    pub(crate) agents: Option<u64>,
}

/// What all seeds said of one value, on the average.
#[derive(Serialize)]
struct Row {
    value: String,
    reached: f64,
    p50_ms: f64,
    p99_ms: f64,
    duplicates_per_delivery: f64,
    wan_bytes_per_delivery: f64,
    answered: f64,
    events: f64,
    violations: Vec<String>,
}

/// Why a sweep cannot be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunSweep {
    /// The key leads nowhere.
    #[error("`{0}` is no key of a plan: `mesh.degree` and `workload.0.bytes` are")]
    Key(String),
    /// A value cannot be meant.
    #[error("{key} = {value}: {why}")]
    Value {
        key: String,
        value: String,
        why: Box<ParseSwarm>,
    },
    /// A run came to nothing.
    #[error(transparent)]
    Run(#[from] RunSwarm),
}

/// Runs all, and says what came of it, as a table or as JSON.
pub(crate) fn sweep(
    sweep: &Sweep<'_>,
    how: How,
    json: bool,
) -> Result<(String, Outcome), RunSweep> {
    // All values are read before the first is run.
    let plans: Vec<Plan> = sweep
        .values
        .iter()
        .map(|value| plan(sweep, value))
        .collect::<Result<_, _>>()?;
    let (mut rows, mut verdict) = (Vec::new(), Outcome::Green);
    for (value, plan) in sweep.values.iter().zip(plans) {
        let mut reports = Vec::new();
        for seed in 1..=sweep.seeds {
            let found = Found {
                name: sweep.name,
                text: sweep.text,
                plan: plan.clone(),
                alone: true,
            };
            let report = swarms::swarm(&found, seed, how, None)?;
            let worse = report.verdict();
            if verdict == Outcome::Green || worse == Outcome::Safety {
                verdict = worse;
            }
            let whole = report.whole;
            reports.push(report);
            if !whole {
                break;
            }
        }
        rows.push(row(value, &reports));
        if reports.iter().any(|report| !report.whole) {
            break;
        }
    }
    let text = match json {
        true => storms::pretty(&rows) + "\n",
        false => table(sweep, &rows),
    };
    Ok((text, verdict))
}

/// The plan with one key at one value.
fn plan(sweep: &Sweep<'_>, value: &str) -> Result<Plan, RunSweep> {
    let fail = |why| RunSweep::Value {
        key: sweep.key.to_owned(),
        value: value.to_owned(),
        why: Box::new(why),
    };
    let mut table: toml::Table = sweep
        .text
        .parse()
        .map_err(|why| fail(ParseSwarm::Malformed(why)))?;
    set(&mut table, sweep.key, read(value)).ok_or_else(|| RunSweep::Key(sweep.key.to_owned()))?;
    let mut plan = Plan::parse(&table.to_string()).map_err(fail)?;
    plan.agents = sweep
        .agents
        .filter(|_| sweep.key != "agents")
        .unwrap_or(plan.agents);
    plan.check().map_err(fail)?;
    Ok(plan)
}

/// A value as TOML has it; what is no number, truth or list is text.
fn read(text: &str) -> toml::Value {
    let line: Result<toml::Table, _> = format!("value = {text}").parse();
    let value = line.ok().and_then(|mut table| table.remove("value"));
    value.unwrap_or_else(|| toml::Value::String(text.to_owned()))
}

/// Puts a value where a key with dots leads; numbers count in lists.
fn set(table: &mut toml::Table, key: &str, value: toml::Value) -> Option<()> {
    let (path, last) = key.rsplit_once('.').unwrap_or(("", key));
    let mut whole = toml::Value::Table(std::mem::take(table));
    let mut at = &mut whole;
    for part in path.split('.').filter(|part| !part.is_empty()) {
        at = match at {
            toml::Value::Table(table) => table
                .entry(part)
                .or_insert_with(|| toml::Value::Table(toml::Table::new())),
            toml::Value::Array(list) => list.get_mut(part.parse::<usize>().ok()?)?,
            _ => return None,
        };
    }
    at.as_table_mut()?.insert(last.to_owned(), value);
    if let toml::Value::Table(changed) = whole {
        *table = changed;
    }
    Some(())
}

fn row(value: &str, reports: &[Report]) -> Row {
    let mean =
        |of: fn(&Report) -> f64| reports.iter().map(of).sum::<f64>() / reports.len().max(1) as f64;
    let violations = reports.iter().flat_map(|report| report.violations.clone());
    Row {
        value: value.to_owned(),
        reached: mean(|report| report.settled.unwrap_or(report.reached)),
        p50_ms: mean(|report| report.p50_ms.unwrap_or(0) as f64),
        p99_ms: mean(|report| report.p99_ms.unwrap_or(0) as f64),
        duplicates_per_delivery: mean(|report| report.duplicates_per_delivery),
        wan_bytes_per_delivery: mean(|report| report.wan_bytes_per_delivery),
        answered: mean(|report| report.answered),
        events: mean(|report| report.events as f64),
        violations: violations.collect(),
    }
}

fn table(sweep: &Sweep<'_>, rows: &[Row]) -> String {
    let widest = rows.iter().map(|row| row.value.len()).max().unwrap_or(0);
    let width = widest.max(sweep.key.len());
    let mut text = format!(
        "{:<width$}{:>12}{:>10}{:>10}{:>12}{:>12}{:>10}{:>14}\n",
        sweep.key, "reached %", "p50 ms", "p99 ms", "duplicates", "WAN B", "asked %", "events"
    );
    for row in rows {
        let _ = writeln!(
            text,
            "{:<width$}{:>12.4}{:>10.1}{:>10.1}{:>12.2}{:>12.2}{:>10.2}{:>14.0}{}",
            row.value,
            row.reached * 100.0,
            row.p50_ms,
            row.p99_ms,
            row.duplicates_per_delivery,
            row.wan_bytes_per_delivery,
            row.answered * 100.0,
            row.events,
            if row.violations.is_empty() {
                ""
            } else {
                "  VIOLATION"
            }
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sweeping<'a>(key: &'a str, text: &'a str) -> Sweep<'a> {
        Sweep {
            name: "test",
            text,
            key,
            values: &[],
            seeds: 1,
            agents: None,
        }
    }

    #[test]
    fn a_value_lands_where_the_key_leads() {
        let text = "agents = 100\n[[workload]]\ntopic = \"news\"\n";
        let degree = plan(&sweeping("mesh.degree", text), "9").expect("legal");
        assert_eq!((9, 100), (degree.mesh.degree, degree.agents));
        let bytes = plan(&sweeping("workload.0.bytes", text), "77").expect("legal");
        assert_eq!(77, bytes.workload[0].bytes);
        let beat = plan(&sweeping("mesh.heartbeat", text), "250ms").expect("legal");
        assert_eq!(250, beat.mesh.heartbeat.as_millis());
    }

    #[test]
    fn what_leads_nowhere_or_cannot_be_is_told() {
        let text = "agents = 100\n[[workload]]\n";
        let of = |key, value| plan(&sweeping(key, text), value).unwrap_err().to_string();
        assert!(of("workload.7.bytes", "1").contains("is no key"));
        assert!(of("mesh.degre", "1").contains("did you mean `degree`?"));
        assert!(of("mesh.degree", "99").contains("degree <= high"));
    }
}

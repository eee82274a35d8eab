//! What a scenario measured, what it found broken, and whether its faults bit.

use serde::Serialize;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

/// One measured distribution, in milliseconds.
#[derive(Clone, Debug, Serialize)]
pub struct Figure {
    /// What was measured.
    pub what: String,
    /// How many samples.
    pub count: usize,
    /// The least.
    pub min: f64,
    /// The median.
    pub p50: f64,
    /// The 99th percentile by nearest rank: the largest, where there are fewer than a hundred.
    pub p99: f64,
    /// The most.
    pub max: f64,
}

/// What became of one scenario.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Its name.
    pub scenario: String,
    /// Distributions.
    pub figures: Vec<Figure>,
    /// Anything else: a name and a value.
    pub facts: Vec<(String, String)>,
    /// Invariants that were broken. Empty in a green run.
    pub broken: Vec<String>,
    /// Faults that did not bite. Empty in a run that means anything.
    pub void: Vec<String>,
}

impl Report {
    /// A report of `scenario` with nothing in it.
    #[must_use]
    pub fn of(scenario: &str) -> Self {
        Self {
            scenario: scenario.into(),
            ..Self::default()
        }
    }

    /// Adds a distribution, if there are samples.
    pub fn figure(&mut self, what: &str, mut samples: Vec<Duration>) {
        samples.sort_unstable();
        let count = samples.len();
        let ms = |at: usize| samples[at.min(count - 1)].as_secs_f64() * 1_000.0;
        if count > 0 {
            self.figures.push(Figure {
                what: what.into(),
                count,
                min: ms(0),
                p50: ms(count.div_ceil(2) - 1),
                p99: ms((count * 99).div_ceil(100) - 1),
                max: ms(count),
            });
        }
    }

    /// Adds a fact.
    pub fn fact(&mut self, what: &str, value: impl ToString) {
        self.facts.push((what.into(), value.to_string()));
    }

    /// Notes that an invariant is broken, unless it `holds`.
    pub fn demand(&mut self, holds: bool, what: impl Into<String>) {
        if !holds {
            self.broken.push(what.into());
        }
    }

    /// Notes that the run is void, unless its fault bit.
    pub fn bit(&mut self, bit: bool, what: impl Into<String>) {
        if !bit {
            self.void.push(what.into());
        }
    }

    /// Panics if the run is not green.
    ///
    /// # Panics
    /// If an invariant is broken or a fault did not bite.
    #[track_caller]
    pub fn is_green(&self) {
        println!("{self}");
        assert!(self.broken.is_empty(), "broken: {:#?}", self.broken);
        assert!(
            self.void.is_empty(),
            "VOID, the fault did not bite: {:#?}",
            self.void
        );
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut text = format!("{}\n", self.scenario);
        if !self.figures.is_empty() {
            writeln!(
                text,
                "  {:48} {:>6} {:>9} {:>9} {:>9} {:>9}  ms",
                "", "n", "min", "p50", "p99", "max"
            )?;
        }
        for Figure {
            what,
            count,
            min,
            p50,
            p99,
            max,
        } in &self.figures
        {
            writeln!(
                text,
                "  {what:48} {count:>6} {min:>9.2} {p50:>9.2} {p99:>9.2} {max:>9.2}"
            )?;
        }
        for (what, value) in &self.facts {
            writeln!(text, "  {what:48} {value}")?;
        }
        for what in &self.broken {
            writeln!(text, "  BROKEN: {what}")?;
        }
        for what in &self.void {
            writeln!(text, "  VOID: {what}")?;
        }
        f.write_str(&text)
    }
}

/// How long `fdatasync` of 4 KiB takes in a file of `folder`, `count` times.
///
/// # Panics
/// If the disk fails.
#[must_use]
pub fn fdatasyncs(folder: &Path, count: usize) -> Vec<Duration> {
    let mut file = File::create(folder.join("fdatasync")).expect("a file can be made");
    let block = [7; 4_096];
    file.write_all(&block).expect("it can be written");
    file.sync_all().expect("it can be synced");
    let mut once = || {
        let began = Instant::now();
        file.seek(SeekFrom::Start(0)).expect("it is a file");
        file.write_all(&block).expect("it can be written");
        file.sync_data().expect("it can be synced");
        began.elapsed()
    };
    (0..count).map(|_| once()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_by_nearest_rank_and_a_run_that_did_not_bite_is_not_green() {
        let mut report = Report::of("a test");
        report.figure("nothing", Vec::new());
        report.figure("ten", (1..=10).rev().map(Duration::from_millis).collect());
        report.figure("hundred", (1..=100).map(Duration::from_millis).collect());
        let of = |figure: &Figure| (figure.min, figure.p50, figure.p99, figure.max);
        let all: Vec<_> = report.figures.iter().map(of).collect();
        assert_eq!(all, [(1.0, 5.0, 10.0, 10.0), (1.0, 50.0, 99.0, 100.0)]);
        report.demand(true, "fine");
        report.bit(true, "fine");
        report.is_green();
        for spoil in [
            Report::demand as fn(&mut Report, bool, &'static str),
            Report::bit,
        ] {
            let mut spoilt = report.clone();
            spoil(&mut spoilt, false, "not so");
            assert!(spoilt.to_string().contains("not so"));
            assert!(std::panic::catch_unwind(|| spoilt.is_green()).is_err());
        }
    }
}

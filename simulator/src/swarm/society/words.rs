//! Words: what behaviours came to, a line for each thing worth knowing.

use super::{Done, What};

impl Done {
    /// What it was, and lines of name and value.
    pub fn lines(&self) -> (&'static str, Vec<(&'static str, String)>) {
        let part =
            |part: u64, all: u64| format!("{:.2} %", part as f64 / all.max(1) as f64 * 100.0);
        let ms = |[half, most]: [Option<u64>; 2]| {
            let ms =
                |time: Option<u64>| time.map_or_else(|| "-".to_owned(), |ms| format!("{ms} ms"));
            format!("half within {}, 99 % within {}", ms(half), ms(most))
        };
        let (name, mut lines, sent) = match &self.what {
            What::Gather(it) => {
                let age = |[mean, most]: [f64; 2]| format!("{mean:.1} s ({most:.0})");
                let [clusters, meshes, all] = it.age_seconds.map(age);
                let covered = it.coverage.map_or_else(
                    || "no look at which it could be whole".to_owned(),
                    |[mean, least]| {
                        let (mean, least) = (mean * 100.0, least * 100.0);
                        format!("{mean:.2} % of those who are here, at the least {least:.2} %")
                    },
                );
                let lines = vec![
                    (
                        "groups",
                        format!("{} clusters in {} meshes", it.groups[0], it.groups[1]),
                    ),
                    (
                        "in the sum of all",
                        format!(
                            "{covered}; {} looks, {} checkpoints",
                            it.looks, it.checkpoints
                        ),
                    ),
                    (
                        "how old sums are",
                        format!(
                            "{clusters} in clusters, {meshes} in meshes, {all} for all (the oldest part)"
                        ),
                    ),
                    (
                        "heads",
                        format!(
                            "{} took over, {} reports fenced off",
                            it.takeovers, it.fenced
                        ),
                    ),
                ];
                ("gather", lines, it.sent)
            }
            What::Recall(it) => {
                let [cluster, mesh, all] = it.known_by;
                let lines = vec![
                    (
                        "answered",
                        format!(
                            "{} of {} questions, {} at the first try; {} were too fresh for any head",
                            part(it.answered[1], it.asked),
                            it.asked,
                            part(it.answered[0], it.asked),
                            it.too_fresh
                        ),
                    ),
                    (
                        "known by",
                        format!("the cluster {cluster}, the mesh {mesh}, all {all}"),
                    ),
                    ("answers", ms([it.p50_ms, it.p99_ms])),
                    (
                        "sent",
                        format!("{:.1} things for each question", it.sent_per_question),
                    ),
                ];
                ("recall", lines, it.sent)
            }
            What::Signals(it) => {
                let tenths: Vec<String> = it
                    .at_the_best
                    .iter()
                    .map(|part| format!("{:.0}", part * 100.0))
                    .collect();
                let found = it
                    .found_seconds
                    .map(|time| time.map_or_else(|| "never".to_owned(), |s| format!("{s:.0} s")));
                let lines = vec![
                    (
                        "at the best place",
                        format!("{} % of steps, tenth by tenth of the run", tenths.join(" ")),
                    ),
                    (
                        "found by nine in ten",
                        format!("after {}; when it moved, after {}", found[0], found[1]),
                    ),
                ];
                ("signals", lines, it.sent)
            }
            What::Tasks(it) => {
                let [right, wrong] = it.decided;
                let lines = vec![
                    (
                        "decided",
                        format!(
                            "{} of {} tasks rightly, {wrong} wrongly, {} open",
                            part(right, it.tasks),
                            it.tasks,
                            it.open
                        ),
                    ),
                    (
                        "handed on",
                        format!(
                            "{} times, {} times by another head; {} disputes",
                            it.handoffs, it.handovers, it.disputes
                        ),
                    ),
                    (
                        "results",
                        format!(
                            "{:.2} for each task; {}",
                            it.results_per_task,
                            ms([it.p50_ms, it.p99_ms])
                        ),
                    ),
                ];
                ("tasks", lines, it.sent)
            }
        };
        let bytes = |(_, bytes): (u64, u64)| match bytes {
            1_000_000_000.. => format!("{:.1} GB", bytes as f64 / 1e9),
            _ => format!("{:.1} MB", bytes as f64 / 1e6),
        };
        let [clusters, meshes, beyond] = sent.map(bytes);
        lines.push((
            "traffic",
            format!("{clusters} inside clusters, {meshes} inside meshes, {beyond} beyond"),
        ));
        (name, lines)
    }
}

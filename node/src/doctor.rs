//! The doctor: looks at what usually goes wrong, and says what to do.

use crate::api::{Finding, Problem, Status};
use crate::memory::Memory;
use crate::names;
use crate::store::{EngineKind, Pace};
use crate::view::View;

const DAY_MS: u64 = 86_400_000;

impl Memory {
    /// Findings, one for each thing looked at.
    ///
    /// # Errors
    /// Only if the node is stopping.
    pub async fn doctor(&self) -> Result<Vec<Finding>, Problem> {
        let view = self.view();
        let status = self.status().await?;
        let inner = self.parts();
        let mut findings = vec![certificate(&view), founders(&view)];
        let others = view.law.members().count().saturating_sub(1);
        findings.push(match (status.peers.len(), others) {
            (0, 0) => finding("peers", "ok", "this node is the only member of its hive", "add a machine with `aquifer invite`"),
            (0, n) => finding(
                "peers",
                "warning",
                &format!("none of the {n} other members is connected"),
                "check that they are up and that a port of one of them can be reached; give one with --seed",
            ),
            (up, n) => finding("peers", "ok", &format!("{up} of {n} other members connected"), ""),
        });
        findings.push(reach(&status));
        let skewed = inner.observed.skews();
        let far = skewed
            .values()
            .filter(|ahead| ahead.unsigned_abs() > 60_000)
            .count();
        findings.push(if far == 0 {
            finding(
                "clock",
                "ok",
                "no connected peer's clock is more than 60 s from ours",
                "",
            )
        } else {
            let found = format!("{far} peers' clocks are more than 60 s from this node's");
            finding(
                "clock",
                "critical",
                &found,
                "set the clocks (NTP): records from the future are parked",
            )
        });
        findings.push(if status.index_ready {
            finding(
                "recall",
                "ok",
                &format!("the index holds {} memories", status.memories),
                "",
            )
        } else {
            finding(
                "recall",
                "warning",
                "the index is still being filled",
                "wait: recall may miss memories until then",
            )
        });
        findings.push(secrets(inner.home.path()));
        findings.extend(disk(inner.engine, inner.health.pace()));
        let doubted = inner.agents.with(|host| host.doubts_itself()).await?;
        if !doubted.is_empty() {
            let found = format!(
                "this node signed for steps that are not so, of {}",
                doubted.join(", ")
            );
            let advice = "its memory may be failing: test it, and give its seat to another with `aquifer agent move`";
            findings.push(finding("agents", "critical", &found, advice));
        }
        for trouble in inner.observed.troubles() {
            findings.push(finding("event", "warning", &trouble, "see the log"));
        }
        if !status.denials.is_empty() {
            let total: u64 = status.denials.values().sum();
            let found = format!(
                "{total} operations were refused by the law: {:?}",
                status.denials
            );
            findings.push(finding("law", "ok", &found, ""));
        }
        Ok(findings)
    }
}

fn finding(check: &str, level: &str, found: &str, advice: &str) -> Finding {
    Finding {
        check: check.into(),
        level: level.into(),
        found: found.into(),
        advice: advice.into(),
    }
}

fn disk(engine: EngineKind, pace: Pace) -> Vec<Finding> {
    let name = engine.name();
    let kept = match engine.warning() {
        "" => finding("store", "ok", &format!("the store engine is {name}"), ""),
        why => finding(
            "store",
            "warning",
            why,
            "a home that is to hold more is made with --store redb",
        ),
    };
    let took = pace.commit.unwrap_or_default().as_millis();
    let speed = if pace.full {
        finding(
            "disk",
            "critical",
            "the disk is full: this node reads and forgets, and takes nothing new",
            "make room where the home is; the node goes on by itself",
        )
    } else if pace.slow {
        finding(
            "disk",
            "warning",
            &format!(
                "the disk is slow: half of the last writes took more than {took} ms to become durable"
            ),
            "look for what else uses it, and at its health; reading is not affected",
        )
    } else {
        finding(
            "disk",
            "ok",
            &format!("a write is durable in {took} ms"),
            "",
        )
    };
    vec![kept, speed]
}

fn reach(status: &Status) -> Finding {
    let (external, relays) = (status.external.len(), status.relays.len());
    if status.roles.iter().any(|role| role == "seed") && external == 0 {
        let advice = "newcomers and hidden nodes dial it: see that they can, or name an address with external";
        return finding("reach", "ok", "this node is a seed", advice);
    }
    let hidden = "nothing proves that others can dial this node";
    match (external, relays) {
        (0, 0) if status.peers.is_empty() => {
            finding("reach", "ok", "nobody is connected who could tell", "")
        }
        (0, 0) => finding(
            "reach",
            "ok",
            hidden,
            "on a LAN that is no matter; else open its port, or see relay and external in docs/operations.md",
        ),
        (0, n) => finding(
            "reach",
            "ok",
            &format!("reached through {n} relays"),
            "open its port for a direct way",
        ),
        (n, _) => finding("reach", "ok", &format!("{n} addresses proved or given"), ""),
    }
}

fn certificate(view: &View) -> Finding {
    let until = view.me.grant().not_after;
    let left = until.saturating_sub(view.now.millis());
    match left / DAY_MS {
        0 if left == 0 => finding(
            "certificate",
            "critical",
            "this node's certificate has lapsed: it reads, but others refuse it",
            "connect it to a node that may certify (the founder or a seed); it renews by itself",
        ),
        days if days < 5 => finding(
            "certificate",
            "warning",
            &format!("the certificate lapses in {days} days"),
            "connect to the founder or a seed of the region; it renews by itself",
        ),
        days => finding("certificate", "ok", &format!("good for {days} days"), ""),
    }
}

fn founders(view: &View) -> Finding {
    let shared: Vec<String> = view
        .law
        .topics()
        .filter(|(_, law)| law.founders.len() > 1)
        .map(|(_, law)| {
            let by: Vec<String> = law.founders.iter().map(names::node).collect();
            format!("`{}` by {}", law.name, by.join(" and "))
        })
        .collect();
    if shared.is_empty() {
        finding("topics", "ok", "every topic has one founder", "")
    } else {
        let found = format!(
            "founded by several nodes before they met: {}",
            shared.join("; ")
        );
        finding(
            "topics",
            "warning",
            &found,
            "the law in force is what all founders allow; agree on one policy and set it on each",
        )
    }
}

#[cfg(unix)]
fn secrets(home: &std::path::Path) -> Finding {
    use std::os::unix::fs::PermissionsExt as _;
    let open: Vec<String> = ["identity.key", "api.token", "hive/root.key"]
        .iter()
        .filter(|name| {
            let mode = std::fs::metadata(home.join(name)).map(|file| file.permissions().mode());
            mode.is_ok_and(|mode| mode & 0o077 != 0)
        })
        .map(|name| home.join(name).display().to_string())
        .collect();
    if open.is_empty() {
        finding("secrets", "ok", "only their owner may read the keys", "")
    } else {
        let advice = format!("chmod 600 {}", open.join(" "));
        finding(
            "secrets",
            "critical",
            &format!("others may read {}", open.join(", ")),
            &advice,
        )
    }
}

#[cfg(not(unix))]
fn secrets(_: &std::path::Path) -> Finding {
    finding("secrets", "ok", "not looked at on this platform", "")
}

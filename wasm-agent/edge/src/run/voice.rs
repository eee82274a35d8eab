//! The voice: what a running device tells, as text for people or as JSON lines for scripts.

use crate::device::Device;
use crate::member::Membership;
use crate::problem::Problem;
use crate::report;
use aquifer_protocol::{AgentId, Keys};
use aquifer_wasm::uplink::Refusal;
use serde_json::{Value, json};
use std::io::Write as _;

/// What a running device tells.
pub(super) struct Voice {
    json: bool,
    quiet: bool,
    /// Of the link: what was counted already.
    pub(super) link_bytes: (u64, u64),
    /// See `link_bytes`.
    pub(super) link_handshakes: u64,
}

impl Voice {
    pub(super) fn new(json: bool, quiet: bool) -> Self {
        Self {
            json,
            quiet,
            link_bytes: (0, 0),
            link_handshakes: 0,
        }
    }

    fn tells(&self, event: &Value, text: &str) {
        // Whoever listened may have gone: the device goes on.
        let _ = match (self.json, self.quiet) {
            (true, _) => {
                let mut out = std::io::stdout().lock();
                writeln!(out, "{event}").and_then(|()| out.flush())
            }
            (false, true) => Ok(()),
            (false, false) => writeln!(std::io::stderr(), "{text}"),
        };
    }

    pub(super) fn started(&self, device: &Device, membership: &Membership, keys: &Keys) {
        let (node, agent) = (keys.node(), AgentId(device.agent));
        let (name, waiting) = (&device.manifest.name, device.queue().len());
        let event = json!({
            "event": "started", "device": node.to_string(), "agent": agent.to_string(),
            "name": name, "region": membership.region.to_string(), "steps": device.steps(),
            "queue": waiting,
        });
        let region = &membership.region;
        let short = node.to_string().chars().take(8).collect::<String>();
        self.tells(
            &event,
            &format!(
                "device {short} in {region} runs {name}: {} steps, {waiting} wait",
                device.steps()
            ),
        );
    }

    /// A line is safe: its effects are in the journal.
    pub(super) fn taken(&self, name: Option<&str>) {
        if self.json {
            self.tells(&json!({"event": "taken", "line": name}), "");
        }
    }

    pub(super) fn failed(&self, why: &str) {
        let event = json!({"event": "failed", "why": why});
        self.tells(&event, &format!("an input came to nothing: {why}"));
    }

    pub(super) fn online(&self) {
        self.tells(&json!({"event": "online"}), "the gateway is there");
    }

    pub(super) fn offline(&self, why: &str, queue: usize) {
        let event = json!({"event": "offline", "why": why, "queue": queue});
        self.tells(&event, &format!("no gateway ({why}): {queue} steps wait"));
    }

    pub(super) fn up(&self, steps: usize, left: usize) {
        let event = json!({"event": "up", "steps": steps, "queue": left});
        self.tells(&event, &format!("{steps} steps are safe, {left} wait"));
    }

    pub(super) fn refused(&self, refusal: &Refusal) {
        let mut event = report::refused(refusal);
        event["event"] = "refused".into();
        let place = format!("{}.{}", refusal.seq, refusal.place);
        self.tells(
            &event,
            &format!("step {place} is refused: {}", refusal.reason),
        );
    }

    pub(super) fn news(&self, items: u64) {
        let event = json!({"event": "news", "items": items});
        self.tells(&event, &format!("{items} items of news"));
    }

    pub(super) fn neighbours(&self, count: usize) {
        let event = json!({"event": "neighbours", "count": count});
        self.tells(&event, &format!("{count} neighbours"));
    }

    pub(super) fn carried(&self) {
        self.tells(
            &json!({"event": "carried"}),
            "a neighbour's parcel was handed over",
        );
    }

    pub(super) fn not_carried(&self, why: &str) {
        let event = json!({"event": "not_carried", "why": why});
        self.tells(&event, &format!("no neighbour carries: {why}"));
    }

    pub(super) fn trouble(&self, problem: &Problem) {
        self.tells(&problem.to_json(), &problem.to_string());
    }
}

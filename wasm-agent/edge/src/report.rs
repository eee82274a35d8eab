//! Reports: what there is to say about a device, for people and for scripts.
//!
//! They are read from the home alone, whether or not a device runs on it: the queue from a copy of the
//! guest's journal, so it is exact; the contacts from the state, which is at most a minute old.

use crate::clock;
use crate::device::Device;
use crate::home::Home;
use crate::member::{self, Membership};
use crate::problem::Problem;
use crate::state::State;
use aquifer_protocol::AgentId;
use aquifer_wasm::uplink::{Refusal, Step, What};
use serde_json::{Value, json};

/// Steps that `queue` shows.
const SHOWN_MAX: usize = 1_000;

/// The guest of a home, from a copy of its journal that is removed again.
fn peek(home: &Home) -> Result<Device, Problem> {
    let scratch = home.file(&format!("peek-{}", std::process::id()));
    let device = Device::peek(home, &scratch);
    // Nothing rests on the copy.
    let _ = std::fs::remove_file(&scratch);
    device
}

/// The state of a device.
///
/// # Errors
/// `not_found` if no agent lives in this home; `io`.
pub fn status(home: &Home) -> Result<Value, Problem> {
    let device = peek(home)?;
    let state = State::read(home)?;
    let keys = member::keys(home)?;
    let membership = Membership::peek(home)?;
    let share = |part: u64, whole: u64| part.saturating_mul(1_000).checked_div(whole);
    let gateway = membership.as_ref().map(|membership| {
        json!({
            "node": membership.gateway.to_string(),
            "addresses": membership.addresses().iter().map(ToString::to_string).collect::<Vec<_>>(),
            "hive": membership.hive.to_string(),
            "region": membership.region.to_string(),
            "joined": membership.member().is_some(),
            "certificate_until": membership.member().map(|m| m.grant().not_after),
        })
    });
    Ok(json!({
        "running": home.is_locked(),
        "device": keys.node().to_string(),
        "agent": {
            "name": device.manifest.name,
            "id": AgentId(device.agent).to_string(),
            "steps": device.steps(),
            "inputs_waiting": device.waiting(),
            "inputs_failed": state.failed,
            "last_failure": state.last_failure,
            "journal_bytes": device.journal_bytes(),
        },
        "gateway": gateway,
        "queue": {
            "steps": device.queue().len(),
            "bytes": device.queue_bytes(),
            "oldest": device.queue().next().map(|step| step.stamp),
            "refused": state.refused,
        },
        "contact": {
            "last": state.last_contact,
            "last_try": state.last_try,
            "last_error": state.last_error,
            "words": state.words,
            "handshakes": state.handshakes,
            "bytes_up": state.bytes_up,
            "bytes_down": state.bytes_down,
            "parcels_raw": state.parcels_raw,
            "parcels_sent": state.parcels_sent,
            "news": state.news,
            "carried": state.carried,
            "carried_by_others": state.carried_by_others,
        },
        "radio": {
            "up_ms": state.radio_ms,
            "run_ms": state.run_ms,
            "per_mille": share(state.radio_ms, state.run_ms),
        },
    }))
}

/// What waits in the queue, and what was refused.
///
/// # Errors
/// As [`status`].
pub fn queue(home: &Home) -> Result<Value, Problem> {
    let device = peek(home)?;
    let state = State::read(home)?;
    let steps: Vec<Value> = device.queue().take(SHOWN_MAX).map(shown).collect();
    Ok(json!({
        "total": device.queue().len(),
        "steps": steps,
        "refused": state.refusals.iter().map(refused).collect::<Vec<_>>(),
    }))
}

/// A refusal, for scripts.
pub fn refused(refusal: &Refusal) -> Value {
    json!({
        "step": refusal.seq,
        "place": refusal.place,
        "topic": refusal.topic,
        "code": refusal.code,
        "reason": refusal.reason,
    })
}

fn shown(step: &Step) -> Value {
    let deeds = step.deeds.iter().map(|deed| {
        let (kind, bytes) = match &deed.what {
            What::Said(data) => ("said", data.len()),
            What::Remembered(_, text) => ("remembered", text.len()),
            What::Sent(_, data) => ("sent", data.len()),
            What::Health(_, words) => ("health", words.len()),
            What::Logged(_, line) => ("log", line.len()),
        };
        json!({"place": deed.place, "topic": deed.topic, "kind": kind, "bytes": bytes})
    });
    json!({
        "step": step.seq,
        "at": step.stamp,
        "deeds": deeds.collect::<Vec<_>>(),
    })
}

/// A status, for people.
pub fn status_text(status: &Value) -> String {
    let text = |pointer: &str| match status.pointer(pointer) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Null) | None => "-".to_owned(),
        Some(other) => other.to_string(),
    };
    let ago = |pointer: &str| match status.pointer(pointer).and_then(Value::as_u64) {
        Some(at) => format!("{} s ago", clock::now_ms().saturating_sub(at) / 1_000),
        None => "never".to_owned(),
    };
    let running = match status.pointer("/running") {
        Some(Value::Bool(true)) => "running",
        _ => "not running",
    };
    let mut lines = vec![
        format!("device     {}  {running}", text("/device")),
        format!(
            "agent      {}  {} steps, {} inputs failed",
            text("/agent/name"),
            text("/agent/steps"),
            text("/agent/inputs_failed")
        ),
        format!(
            "queue      {} steps, {} bytes, {} refused for good",
            text("/queue/steps"),
            text("/queue/bytes"),
            text("/queue/refused")
        ),
        format!(
            "gateway    {}  in {}, last contact {}",
            text("/gateway/addresses/0"),
            text("/gateway/region"),
            ago("/contact/last")
        ),
        format!(
            "radio      {} of 1000, {} handshakes, {} bytes up, {} down",
            text("/radio/per_mille"),
            text("/contact/handshakes"),
            text("/contact/bytes_up"),
            text("/contact/bytes_down")
        ),
    ];
    if let Some(Value::String(error)) = status.pointer("/contact/last_error") {
        lines.push(format!("trouble    {error}"));
    }
    lines.join("\n")
}

/// A queue, for people.
pub fn queue_text(queue: &Value) -> String {
    let list = |name: &str| queue[name].as_array().cloned().unwrap_or_default();
    let mut lines = Vec::new();
    for step in list("steps") {
        for deed in step["deeds"].as_array().into_iter().flatten() {
            lines.push(format!(
                "{}.{}  {}  {}  {} bytes",
                step["step"],
                deed["place"],
                deed["kind"].as_str().unwrap_or_default(),
                deed["topic"].as_str().unwrap_or_default(),
                deed["bytes"]
            ));
        }
    }
    for one in list("refused") {
        lines.push(format!(
            "{}.{}  refused  {}",
            one["step"],
            one["place"],
            one["reason"].as_str().unwrap_or_default()
        ));
    }
    lines.push(format!("{} steps wait", queue["total"]));
    lines.join("\n")
}

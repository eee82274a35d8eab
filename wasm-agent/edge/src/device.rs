//! The device: its guest, asleep but for what wakes it, and the queue of what the guest did.
//!
//! The queue is the guest's own journal: a step and what it is to do are one frame, so there is no moment
//! in which one is there without the other. What a gateway has signed for is taken out again; the journal
//! is written anew when most of it is past. A device that is offline for too long takes no more inputs
//! until there is room: whoever feeds it waits, and nothing is thrown away.
//!
//! Not here: where inputs come from (`input`, `run`), how steps travel (`gateway`).

use crate::clock;
use crate::deeds::step_of;
use crate::home::Home;
use crate::problem::Problem;
use aquifer_protocol::Keys;
use aquifer_wasm::abi::{Code, Wakeup};
use aquifer_wasm::desk::{Answer, Effect, World};
use aquifer_wasm::engine::interpreter::Interpreter;
use aquifer_wasm::manifest::{Granted, Manifest};
use aquifer_wasm::profile::Profile;
use aquifer_wasm::sleepers::{HostFailure, Owed, Sleepers};
use aquifer_wasm::uplink::{DEEDS_MAX, PARCEL_BYTES_FILL, Parcel, STEPS_MAX, Step};
use std::collections::VecDeque;
use std::path::Path;

/// The guest's journal.
pub const JOURNAL_FILE: &str = "agent.journal";
const MANIFEST_FILE: &str = "manifest.cbor";

/// Bytes of steps that may wait: some thirty thousand alerts.
pub const QUEUE_BYTES_MAX: usize = 4 << 20;

/// The journal is written anew when it is so long, and so many times what it was when it last was.
const JOURNAL_FLOOR: u64 = 1 << 20;
const JOURNAL_GROWTH: u64 = 4;

/// What one wake may do at most, so that its step fits a parcel.
const CALLS_MAX: u32 = 256;
const WAKE_BYTES_MAX: u32 = 65_536;

const _: () = assert!(CALLS_MAX as usize <= DEEDS_MAX);
// A deed takes its content, its topic and some bytes around them.
const _: () = assert!(
    WAKE_BYTES_MAX as usize + CALLS_MAX as usize * (128 + 16)
        <= aquifer_wasm::uplink::STEP_BYTES_MAX
);

/// The one guest of a device.
const GUEST: u32 = 0;

/// A guest and its queue.
pub struct Device {
    sleepers: Sleepers,
    /// What it may do,
    pub manifest: Manifest,
    /// and as that was signed.
    pub granted: Vec<u8>,
    /// Its key.
    pub agent: [u8; 32],
    queue: VecDeque<Queued>,
    queue_bytes: usize,
    rewritten: u64,
}

/// A step that waits for its receipt.
struct Queued {
    step: Step,
    bytes: usize,
}

/// What waking the guest came to.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Lived {
    /// Inputs that were handled.
    pub steps: u32,
    /// Inputs that came to nothing, and why.
    pub failed: Vec<String>,
}

/// The world of a guest without a network: what it does is judged by its gateway, later; what others know
/// is not to be had.
struct Offline;

impl World for Offline {
    fn may(&mut self, _: &Effect) -> Result<(), Code> {
        Ok(())
    }

    fn recall(&mut self, _: &str) -> Answer {
        Err(Code::Unavailable)
    }

    fn kv_get(&mut self, _: &[u8]) -> Answer {
        Err(Code::NotFound)
    }

    fn infer(&mut self, _: &str) -> Answer {
        Err(Code::Unavailable)
    }
}

impl Device {
    /// The guest of this home; settled there the first time, under `granted` or what `grants` makes for it.
    ///
    /// # Errors
    /// `other_agent` if another module or another manifest lives there, `bad_manifest`, `bad_module`,
    /// `journal_failed`, `io`.
    pub fn open(
        home: &Home,
        module: &[u8],
        granted: Option<&[u8]>,
        grants: impl FnOnce([u8; 32]) -> (Keys, Manifest),
    ) -> Result<Self, Problem> {
        let profile = Profile::of(module).map_err(|why| bad_module(&why.to_string()))?;
        let kept = home.read(MANIFEST_FILE, MAX_MANIFEST)?;
        let bytes = match (kept, granted) {
            (Some(kept), Some(given)) if kept != given => return Err(other_agent()),
            (Some(kept), _) => kept,
            (None, Some(given)) => given.to_vec(),
            (None, None) => {
                let (keys, manifest) = grants(profile.hash);
                Granted::sign(&keys, manifest).as_bytes().to_vec()
            }
        };
        let granted = Granted::open(&bytes, &profile.hash, 0).map_err(|why| {
            use aquifer_wasm::manifest::RefuseManifest as Refused;
            match why {
                Refused::OtherModule => other_agent(),
                why => bad_manifest(&why.to_string()),
            }
        })?;
        let budget = granted.manifest.budget;
        if budget.calls > CALLS_MAX || budget.bytes > WAKE_BYTES_MAX {
            return Err(bad_manifest(&format!(
                "it allows {} calls and {} bytes in one wake; on a device, {CALLS_MAX} and {WAKE_BYTES_MAX} may be",
                budget.calls, budget.bytes
            )));
        }
        home.write(MANIFEST_FILE, &bytes)?;
        let engine = Interpreter::new();
        let path = home.file(JOURNAL_FILE);
        let mut sleepers = Sleepers::open(&path, &engine).map_err(failed)?;
        if sleepers.count() == 0 {
            let now = clock::now_ms();
            let hosted = sleepers.host((&bytes, module), 1, now, &engine);
            hosted.map_err(failed)?;
            sleepers.sync().map_err(failed)?;
        }
        Self::with(sleepers, granted.manifest, bytes)
    }

    /// The guest of a home as its journal has it, from a copy: the home may be in use.
    ///
    /// # Errors
    /// `not_found` if none lives there; `journal_failed`, `io`.
    pub fn peek(home: &Home, scratch: &Path) -> Result<Self, Problem> {
        let bytes = home.read(MANIFEST_FILE, MAX_MANIFEST)?;
        let nobody = || {
            let message = format!("no agent lives in {}", home.path().display());
            Problem::new(
                "not_found",
                3,
                message,
                "start one: `aquifer-edge run FILE.wasm`",
            )
        };
        let bytes = bytes.ok_or_else(nobody)?;
        let copied = std::fs::copy(home.file(JOURNAL_FILE), scratch);
        copied.map_err(|why| Problem::system("copy the agent's journal", &why))?;
        let sleepers = Sleepers::open(scratch, &Interpreter::new()).map_err(failed)?;
        if sleepers.count() == 0 {
            return Err(nobody());
        }
        let manifest = manifest_of(&bytes)?;
        Self::with(sleepers, manifest, bytes)
    }

    fn with(sleepers: Sleepers, manifest: Manifest, granted: Vec<u8>) -> Result<Self, Problem> {
        let mut device = Self {
            agent: sleepers.id(GUEST).map_err(failed)?,
            rewritten: sleepers.journal_bytes(),
            sleepers,
            manifest,
            granted,
            queue: VecDeque::new(),
            queue_bytes: 0,
        };
        let owed = device.sleepers.owed();
        device.queues(owed);
        Ok(device)
    }

    /// Takes on an input that its source calls `id`. False if it was taken on before. It is safe once
    /// [`Device::lives`] has returned.
    ///
    /// # Errors
    /// `too_long` if it has no room in the guest's inbox.
    pub fn takes(&mut self, id: [u8; 16], wakeup: Wakeup) -> Result<bool, Problem> {
        self.sleepers.deliver(GUEST, id, wakeup).map_err(|why| {
            let hint = "send less at a time";
            Problem::new("too_long", 2, why.to_string(), hint)
        })
    }

    /// Wakes the guest for everything that is due at `now`, and makes all of it durable. Timers wait while
    /// the queue has no room.
    ///
    /// # Errors
    /// `journal_failed`: what was not durable before is not.
    pub fn lives(&mut self, now: u64) -> Result<Lived, Problem> {
        if self.has_room() {
            self.sleepers.tick(now);
        }
        let mut lived = Lived::default();
        while let Some(woken) = self.sleepers.wake(|_| Box::new(Offline)) {
            match woken.outcome {
                Ok(_) => lived.steps += 1,
                Err(why) => lived.failed.push(why.to_string()),
            }
        }
        let owed = self.sleepers.sync().map_err(failed)?;
        self.queues(owed);
        Ok(lived)
    }

    /// Whether there is room for more inputs.
    pub fn has_room(&self) -> bool {
        self.queue_bytes < QUEUE_BYTES_MAX
    }

    /// Inputs that wait for another minute, by the agent's rate.
    pub fn waiting(&self) -> usize {
        self.sleepers.pending()
    }

    /// Steps taken so far.
    pub fn steps(&self) -> u32 {
        self.sleepers.state(GUEST).map_or(0, |(_, steps)| steps)
    }

    /// Steps that wait for their receipts, in order.
    pub fn queue(&self) -> impl ExactSizeIterator<Item = &Step> {
        self.queue.iter().map(|queued| &queued.step)
    }

    /// Bytes of them.
    pub fn queue_bytes(&self) -> usize {
        self.queue_bytes
    }

    /// Bytes of the journal.
    pub fn journal_bytes(&self) -> u64 {
        self.sleepers.journal_bytes()
    }

    /// The beginning of the queue, as it goes to a gateway; none if it is empty.
    pub fn parcel(&self, device: [u8; 32], gateway: [u8; 32]) -> Option<Parcel> {
        let mut bytes = 0;
        let fits = |queued: &&Queued| {
            let is_first = bytes == 0;
            bytes += queued.bytes;
            is_first || bytes <= PARCEL_BYTES_FILL
        };
        let queued = self.queue.iter().take(STEPS_MAX).take_while(fits);
        let steps: Vec<Step> = queued.map(|queued| queued.step.clone()).collect();
        (!steps.is_empty()).then(|| Parcel {
            gateway,
            device,
            agent: self.agent,
            name: self.manifest.name.clone(),
            steps,
        })
    }

    /// Takes out of the queue what a gateway has signed for. Returns how many steps that were.
    ///
    /// # Errors
    /// `journal_failed`.
    pub fn settles(&mut self, through: u32) -> Result<usize, Problem> {
        let before = self.queue.len();
        while let Some(first) = self.queue.front().filter(|first| first.step.seq <= through) {
            self.sleepers.done(GUEST, first.step.seq);
            self.queue_bytes -= first.bytes;
            self.queue.pop_front();
        }
        self.sleepers.sync().map_err(failed)?;
        let len = self.sleepers.journal_bytes();
        if len > JOURNAL_FLOOR.max(self.rewritten.saturating_mul(JOURNAL_GROWTH)) {
            self.sleepers.rewrite().map_err(failed)?;
            self.rewritten = self.sleepers.journal_bytes();
        }
        Ok(before - self.queue.len())
    }

    fn queues(&mut self, owed: Vec<Owed>) {
        for owed in owed {
            match step_of(&owed, &self.manifest) {
                Some(step) => {
                    let bytes = step.bytes();
                    self.queue_bytes += bytes;
                    self.queue.push_back(Queued { step, bytes });
                }
                None => self.sleepers.done(GUEST, owed.seq),
            }
        }
    }
}

const MAX_MANIFEST: u64 = aquifer_wasm::manifest::MANIFEST_MAX as u64;

/// What a manifest of this home says; who signed it was looked at when it was kept.
fn manifest_of(bytes: &[u8]) -> Result<Manifest, Problem> {
    let mut d = minicbor::Decoder::new(bytes);
    let inner = d.array().and_then(|_| d.bytes());
    let manifest = inner.and_then(minicbor::decode);
    manifest.map_err(|why| bad_manifest(&why.to_string()))
}

fn failed(why: HostFailure) -> Problem {
    let hint = "check the disk; the journal is whole up to its last synced frame";
    Problem::new("journal_failed", 1, why.to_string(), hint)
}

fn bad_module(why: &str) -> Problem {
    let hint = "build it with `wasm-agent/guest`; the profile is in `wasm-agent/mva1.wit`";
    Problem::new("bad_module", 2, why, hint)
}

fn bad_manifest(why: &str) -> Problem {
    let hint =
        "leave --manifest out to let this device grant it itself: --topics, --follow, --grant";
    Problem::new(
        "bad_manifest",
        2,
        format!("the manifest does not count: {why}"),
        hint,
    )
}

fn other_agent() -> Problem {
    let message = "another agent lives in this home: its module or its manifest is not this one";
    let hint =
        "give this one a home of its own with --home, or run the same module with the same grants";
    Problem::new("other_agent", 2, message, hint)
}

#[cfg(test)]
mod tests;

//! Tasks: work that is not WASM, asked for on a topic and run by a node that can.
//!
//! A task is a job of the second tier (`aquifer-runner`) and what the node that runs it must have, written
//! to a topic and so under its law. Nodes that say they run the topic's tasks claim them in turns, run
//! them beside the agents, and write what came of it: work may be done twice, and ends once.
//!
//! In the order to read them: [`note`] what nodes tell each other, [`rules`] who runs what when and which
//! outcome counts, [`ledger`] all that was heard, `keeper` who does it, [`settings`] who is asked to, [`agents`]
//! how agents ask.
//!
//! Not here: how a job is shut in (`aquifer_runner`), how tasks are asked about (`memory::tasks`).

pub mod agents;
mod keeper;
pub mod ledger;
pub mod note;
pub mod rules;
pub mod settings;

use aquifer_protocol::{Record, Time};
pub(crate) use keeper::Keeper;
use ledger::Ledger;
use settings::TaskSettings;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// The tasks that this node knows of. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Tasks(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    settings: TaskSettings,
    /// How this node's manifest says that it runs tasks.
    entries: Vec<String>,
    ledger: Mutex<Ledger>,
    /// Whether all that was here when the node started is in the ledger.
    has_read: AtomicBool,
    changes: watch::Sender<u64>,
    /// Cancelled when no job runs here and none will.
    ended: CancellationToken,
}

impl Tasks {
    /// None known yet.
    pub(crate) fn new(settings: TaskSettings, entries: Vec<String>) -> Self {
        Self(Arc::new(Inner {
            settings,
            entries,
            ledger: Mutex::default(),
            has_read: AtomicBool::new(false),
            changes: watch::Sender::new(0),
            ended: CancellationToken::new(),
        }))
    }

    /// What the operator says.
    pub(crate) fn settings(&self) -> &TaskSettings {
        &self.0.settings
    }

    /// How this node's manifest says that it runs tasks; nothing if it does not.
    pub(crate) fn entries(&self) -> &[String] {
        &self.0.entries
    }

    /// A record that may say something about tasks. It may come twice.
    pub(crate) fn hears(&self, record: &Record) {
        if self.locked(|ledger| ledger.hear(record)) {
            self.0.changes.send_modify(|count| *count += 1);
        }
    }

    /// All that was here when the node started has been heard.
    pub(crate) fn has_read(&self) {
        if !self.0.has_read.swap(true, Ordering::Relaxed) {
            self.0.changes.send_modify(|count| *count += 1);
        }
    }

    /// Whether that is so. Before it, what seems to wait may have ended long ago.
    pub(crate) fn is_ready(&self) -> bool {
        self.0.has_read.load(Ordering::Relaxed)
    }

    /// What `ask` comes to, of all tasks that were heard of.
    pub(crate) fn with<T>(&self, ask: impl FnOnce(&Ledger) -> T) -> T {
        self.locked(|ledger| ask(ledger))
    }

    /// The time in milliseconds since 1970, by this node's hybrid clock: not behind what was heard.
    pub(crate) fn now(&self, clock: Time) -> u64 {
        let latest = self.with(Ledger::latest).time();
        clock.max(latest).millis()
    }

    /// Rises with every news about a task.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.0.changes.subscribe()
    }

    /// Waits until no job runs here any more.
    pub(crate) async fn ended(&self) {
        self.0.ended.cancelled().await;
    }

    /// No job runs here any more, and none will.
    pub(crate) fn have_ended(&self) {
        self.0.ended.cancel();
    }

    fn locked<T>(&self, ask: impl FnOnce(&mut Ledger) -> T) -> T {
        let mut ledger = self.0.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        ask(&mut ledger)
    }
}

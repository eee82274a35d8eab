//! The ledger: the steps of agents that live here, signed for, and kept while there is room.
//!
//! Who doubts a node asks it for steps and takes them again. So each step is kept whole, with its input,
//! the state before it and all that the world answered, under a signature that the node cannot take back.
//! A batch of steps has one signature, of the root of a tree over their receipts.
//!
//! A ledger is a folder of segments. A segment names the kinds of its steps itself, each once, so that the
//! oldest can be thrown away when there is no more room and nothing else is missing for it. In memory is
//! only which segments there are.
//!
//! **Order.** A step is appended after the journal of sleepers has been synced with it, never before. If
//! the power goes between the two, the step stands and its receipt is missing: a gap, which whoever audits
//! sees in the numbers and may ask about. Were it signed for first, its input would be handled again, with
//! other answers or at another time, and one number of one agent would have two receipts that differ:
//! what a liar has. Nothing may be told of a receipt before [`Ledger::sync`]; what the file's end lost
//! until then was told to nobody, and [`Ledger::last`] reads what is on disk and no more. (Who starts
//! from an old copy of a disk does sign twice; no ledger on that disk can know.)
//!
//! Not here: what a segment says (`segment`), an entry as it travels (`entry`), how it is checked
//! (`checker`).

mod checker;
mod entry;
mod segment;

pub use crate::kind::Kind;
pub use checker::{Checker, Wrong};
pub use entry::{ENTRY_MAX, Entry};

use crate::journal::{Journal, JournalFailure};
use crate::receipt::{BATCH_MAX, Batch, Receipt};
use crate::wake::Step;
use aquifer_protocol::identity::Keys;
use segment::{Frame, MAGIC, STEP_MAX, Segment};
use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Fewest bytes that a ledger may be given.
pub const LEDGER_MIN: u64 = 16 << 20;

/// Most bytes of steps and kinds under one signature.
const BATCH_BYTES: u64 = 4 << 20;

/// Bytes of a segment: a sixteenth of the room, between these. One batch may be longer.
const SEGMENT_MIN: u64 = 1 << 20;
const SEGMENT_MAX: u64 = 8 << 20;

const _: () = assert!(
    2 * (BATCH_BYTES + STEP_MAX as u64) <= LEDGER_MIN,
    "two batches of any steps have room"
);

/// Signatures for what was appended at once.
pub struct Appended(Vec<Batch>);

/// Steps that were signed for.
pub struct Ledger {
    folder: PathBuf,
    keys: Keys,
    bytes_max: u64,
    /// Segments that are not written to any more: number and bytes, the oldest first.
    past: VecDeque<(u64, u64)>,
    number: u64,
    current: Journal,
    /// Kinds that the current segment names, in its order.
    kinds: Vec<[u8; 32]>,
}

/// A ledger cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum LedgerFailure {
    /// It has too little room.
    #[error("a ledger of {bytes_max} bytes is too small: give it {LEDGER_MIN}")]
    Small {
        /// How much it was given.
        bytes_max: u64,
    },
    /// The system refused.
    #[error("cannot {operation} {}: {why}", path.display())]
    System {
        /// What was being done.
        operation: &'static str,
        /// To what.
        path: PathBuf,
        /// What the system says.
        why: io::Error,
    },
    /// A segment cannot be read or written.
    #[error(transparent)]
    Segment(#[from] JournalFailure),
    /// A segment says what cannot be.
    #[error("{} says what cannot be: {what}", path.display())]
    Nonsense {
        /// Which segment.
        path: PathBuf,
        /// What it says.
        what: &'static str,
    },
    /// No wake makes a step that is so long.
    #[error("step {seq} has {len} bytes; at most {STEP_MAX} may be")]
    Step {
        /// Which step.
        seq: u64,
        /// Its length.
        len: usize,
    },
}

impl Ledger {
    /// Those that are kept in `folder`, of at most `bytes_max` bytes. What is appended is signed with
    /// `keys`.
    ///
    /// # Errors
    /// If the folder or its last segment cannot be read, or `bytes_max` is below [`LEDGER_MIN`].
    pub fn open(folder: &Path, keys: Keys, bytes_max: u64) -> Result<Self, LedgerFailure> {
        if bytes_max < LEDGER_MIN {
            return Err(LedgerFailure::Small { bytes_max });
        }
        std::fs::create_dir_all(folder).map_err(failed("make", folder))?;
        let mut past = segments(folder)?;
        let number = past.pop_back().map_or(0, |(number, _)| number);
        let path = path(folder, number);
        let mut kinds = Some(Vec::new());
        let current = Journal::open_of(MAGIC, &path, |payload| match Frame::read(payload) {
            Some(frame) => frame
                .kind()
                .into_iter()
                .for_each(|hash| kinds.iter_mut().for_each(|kinds| kinds.push(hash))),
            None => kinds = None,
        })?;
        let kinds = kinds.ok_or_else(|| nonsense(&path, "a frame that is none"))?;
        let mut ledger = Self {
            folder: folder.into(),
            keys,
            bytes_max,
            past,
            number,
            current,
            kinds,
        };
        ledger.make_room(0)?;
        Ok(ledger)
    }

    /// Signs for some steps of any agents, and gathers them: by [`BATCH_MAX`] and a few megabytes under
    /// one signature. They are not durable before [`Ledger::sync`], and the journal of sleepers must
    /// have them already.
    ///
    /// # Errors
    /// If the disk fails: open the ledger anew.
    pub fn append(&mut self, steps: &[(Arc<Kind>, Step)]) -> Result<Appended, LedgerFailure> {
        let mut appended = Appended(Vec::new());
        let (mut batch, mut bytes) = (Vec::new(), 0);
        let mut kinds = BTreeSet::new();
        for (kind, step) in steps {
            let payload = entry::step_to_bytes(step);
            if payload.len() > STEP_MAX {
                let (seq, len) = (step.seq, payload.len());
                return Err(LedgerFailure::Step { seq, len });
            }
            let mut more = payload.len() as u64 + Frame::AROUND;
            if !kinds.contains(&kind.hash()) {
                more += Frame::kind_len(kind);
            }
            let full = batch.len() == BATCH_MAX || bytes + more > BATCH_BYTES;
            if full && !batch.is_empty() {
                appended
                    .0
                    .push(self.write(std::mem::take(&mut batch), bytes)?);
                kinds.clear();
                bytes = 0;
                more = payload.len() as u64 + Frame::AROUND + Frame::kind_len(kind);
            }
            kinds.insert(kind.hash());
            bytes += more;
            batch.push((kind, Receipt::of(step, kind.hash()), payload));
        }
        if !batch.is_empty() {
            appended.0.push(self.write(batch, bytes)?);
        }
        Ok(appended)
    }

    /// Signs for a step that is nobody's history and is not kept: it says what another's step comes to here.
    pub fn testify(&self, kind: &Arc<Kind>, step: Step) -> Entry {
        let receipt = Receipt::of(&step, kind.hash());
        let batch = Batch::sign(&self.keys, &[receipt]);
        Entry {
            kind: kind.clone(),
            step,
            receipt,
            proof: batch.proof(0).expect("it has one receipt"),
        }
    }

    /// Makes durable what was appended.
    ///
    /// # Errors
    /// If the disk fails: open the ledger anew.
    pub fn sync(&mut self) -> Result<(), LedgerFailure> {
        Ok(self.current.sync()?)
    }

    /// The last `n` entries of agents that `of` picks, the oldest first, as they are on disk.
    ///
    /// # Errors
    /// If a segment cannot be read, or is corrupt.
    pub fn last(
        &self,
        n: usize,
        of: &dyn Fn(&[u8; 32]) -> bool,
    ) -> Result<Vec<Entry>, LedgerFailure> {
        self.find(n, &|_, step| of(&step.agent))
    }

    /// The same of agents whose kinds `of` picks.
    ///
    /// # Errors
    /// As above.
    pub fn last_of_kinds(
        &self,
        n: usize,
        of: &dyn Fn(&Kind) -> bool,
    ) -> Result<Vec<Entry>, LedgerFailure> {
        self.find(n, &|kind, _| of(kind))
    }

    fn find(
        &self,
        n: usize,
        of: &dyn Fn(&Kind, &Step) -> bool,
    ) -> Result<Vec<Entry>, LedgerFailure> {
        let mut found = VecDeque::new();
        let past = self.past.iter().rev().map(|(number, _)| *number);
        for number in std::iter::once(self.number).chain(past) {
            if found.len() == n {
                break;
            }
            let path = path(&self.folder, number);
            let segment = Segment::read(&path)?;
            let collected = segment.last(n, of, &mut found);
            collected.map_err(|what| nonsense(&path, what))?;
        }
        Ok(found.into())
    }

    /// Bytes of all segments, with what is gathered.
    pub fn bytes(&self) -> u64 {
        let past: u64 = self.past.iter().map(|(_, bytes)| bytes).sum();
        past + self.current.len()
    }

    /// Writes a batch into the current segment, or a new one.
    fn write(
        &mut self,
        batch: Vec<(&Arc<Kind>, Receipt, Vec<u8>)>,
        bytes: u64,
    ) -> Result<Batch, LedgerFailure> {
        self.make_room(bytes + Frame::AROUND)?;
        let receipts: Vec<Receipt> = batch.iter().map(|(_, receipt, _)| *receipt).collect();
        let signed = Batch::sign(&self.keys, &receipts);
        for (kind, ..) in &batch {
            if !self.kinds.contains(&kind.hash()) {
                self.kinds.push(kind.hash());
                self.current.append(&Frame::of_kind(kind).to_bytes());
            }
        }
        self.current.append(&Frame::of_batch(&signed).to_bytes());
        for (kind, _, step) in batch {
            let place = self.kinds.iter().position(|hash| *hash == kind.hash());
            let kind = place.expect("it was named above") as u32;
            let step = step.into();
            self.current.append(&Frame::Step { kind, step }.to_bytes());
        }
        Ok(signed)
    }

    /// Sees to it that so many bytes more have room, in the current segment or after it.
    fn make_room(&mut self, more: u64) -> Result<(), LedgerFailure> {
        let segment = (self.bytes_max / 16).clamp(SEGMENT_MIN, SEGMENT_MAX);
        let starts = !self.kinds.is_empty() && self.current.len() + more > segment;
        if starts && more > 0 {
            self.sync()?;
            self.past.push_back((self.number, self.current.len()));
            self.number += 1;
            let path = path(&self.folder, self.number);
            self.current = Journal::open_of(MAGIC, &path, |_| {})?;
            self.kinds.clear();
        }
        while self.bytes() + more > self.bytes_max
            && let Some((number, _)) = self.past.pop_front()
        {
            let path = path(&self.folder, number);
            std::fs::remove_file(&path).map_err(failed("remove", &path))?;
        }
        Ok(())
    }
}

impl Appended {
    /// The entry of the step that was at `place` among those appended, given again with its kind.
    pub fn entry(&self, place: usize, kind: &Arc<Kind>, step: &Step) -> Option<Entry> {
        let mut place = place;
        for batch in &self.0 {
            if place < batch.count() {
                return Some(Entry {
                    receipt: Receipt::of(step, kind.hash()),
                    proof: batch.proof(place)?,
                    kind: kind.clone(),
                    step: step.clone(),
                });
            }
            place -= batch.count();
        }
        None
    }
}

/// The segments of a folder, the oldest first: number and bytes.
fn segments(folder: &Path) -> Result<VecDeque<(u64, u64)>, LedgerFailure> {
    let list = || {
        let mut all = Vec::new();
        for file in std::fs::read_dir(folder)? {
            let file = file?;
            let name = file.file_name();
            let number = name
                .to_str()
                .and_then(|name| name.strip_suffix(".steps")?.parse().ok());
            if let Some(number) = number {
                all.push((number, file.metadata()?.len()));
            }
        }
        all.sort_unstable();
        Ok(all.into())
    };
    list().map_err(failed("list", folder))
}

fn path(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{number:016}.steps"))
}

fn nonsense(path: &Path, what: &'static str) -> LedgerFailure {
    LedgerFailure::Nonsense {
        path: path.into(),
        what,
    }
}

fn failed(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> LedgerFailure {
    let path = path.to_owned();
    move |why| LedgerFailure::System {
        operation,
        path,
        why,
    }
}

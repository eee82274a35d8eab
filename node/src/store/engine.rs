//! What every store engine is to the node: it takes batches, and gives readers as of one commit.

use aquifer_protocol::{Batch, Store, StoreFailure, Table};
use bytes::Bytes;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// The store as of one commit, shared by readers. It cannot be written to.
pub(super) type Reader = Arc<dyn Store + Send + Sync>;

/// An open database.
///
/// After a failed `apply` an engine is not used again, but for being closed, unless it says otherwise.
pub(super) trait Engine: Send {
    /// The store as of the last commit. It does not move, and does not wait for one.
    fn reader(&self) -> Result<Reader, StoreFailure>;

    /// Applies all of `batch` or none of it, and returns once it would survive a power cut.
    fn apply(&mut self, batch: &Batch) -> Result<(), StoreFailure>;

    /// Whether its last failure left it as it was before.
    fn is_unharmed(&self) -> bool {
        false
    }

    /// Gives unused bytes back to the file system. False if there were none, or if the engine
    /// cannot.
    fn compact(&mut self) -> Result<bool, StoreFailure>;
}

/// Why a database could not be opened.
#[derive(Debug)]
pub(super) enum OpenEngine {
    /// Somebody has it open.
    Locked,
    /// It was written by another version of the engine.
    Version(String),
    /// The disk or its permissions.
    Io(io::Error),
    /// It is not what was written.
    Corrupt(String),
}

/// Stands in for an engine, and for its readers, while it is closed and opened again.
#[derive(Debug)]
pub(super) struct Closed;

impl Engine for Closed {
    fn reader(&self) -> Result<Reader, StoreFailure> {
        Ok(Arc::new(Self))
    }

    fn apply(&mut self, _: &Batch) -> Result<(), StoreFailure> {
        Err(closed())
    }

    fn compact(&mut self) -> Result<bool, StoreFailure> {
        Ok(false)
    }
}

impl Store for Closed {
    fn get(&self, _: Table, _: &[u8]) -> Result<Option<Bytes>, StoreFailure> {
        Err(closed())
    }

    fn range(
        &self,
        _: Table,
        _: &[u8],
        _: Option<&[u8]>,
        _: &mut dyn FnMut(&[u8], Bytes) -> bool,
    ) -> Result<(), StoreFailure> {
        Err(closed())
    }

    fn apply(&mut self, _: Batch) -> Result<(), StoreFailure> {
        Err(read_only())
    }
}

fn closed() -> StoreFailure {
    failure("read", "the store is being opened anew")
}

/// What `read` comes to. Engines assert on some corruptions; to whoever reads that is a failure.
pub(super) fn guarded<T>(
    read: impl FnOnce() -> Result<T, StoreFailure>,
) -> Result<T, StoreFailure> {
    let done = catch_unwind(AssertUnwindSafe(read));
    done.unwrap_or_else(|_| Err(failure("read", "the engine gave up on what it found")))
}

/// A snapshot was written to.
pub(super) fn read_only() -> StoreFailure {
    failure("write", "a snapshot cannot be written to")
}

/// A failure in which room on the disk played no part.
pub(super) fn failure(
    operation: &'static str,
    error: &(impl std::fmt::Display + ?Sized),
) -> StoreFailure {
    StoreFailure {
        operation,
        detail: error.to_string(),
        full: false,
    }
}

/// Whether a write failed because there was no room for it.
pub(super) fn no_room(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

//! The queue: what the index has yet to take in.
//!
//! A node that catches up or imports is faster than its index. The first jobs that wait keep their
//! records; behind them only ids wait, and the records are read back from the store when their turn
//! comes. So a writer waits for the index only when very much does, and memory stays bounded.
//!
//! Jobs carry no view of their own: the index works by the latest, and an old one would keep the store
//! from using its pages again.

use super::Job;
use crate::view::View;
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// So many jobs wait with their records.
const WHOLE_MAX: usize = 1_024;
/// The most jobs that wait: some 10 MB.
const JOBS_MAX: usize = 262_144;
/// So many are taken at a time.
const HANDFUL: usize = 256;

/// Jobs on their way from the driver to the index's thread.
#[derive(Debug, Default)]
pub(super) struct Queue {
    inner: Mutex<Inner>,
    work: Condvar,
    room: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    jobs: VecDeque<Job>,
    /// The view of the last jobs, while any wait.
    view: Option<Arc<View>>,
    closed: bool,
}

impl Queue {
    /// Adds jobs, and the view of the commit that left them. Waits while the queue is full.
    pub(super) async fn push(&self, jobs: Vec<Job>, view: &Arc<View>) {
        let mut jobs = jobs.into_iter().peekable();
        while jobs.peek().is_some() {
            // Asked for before the queue is looked at, so that no room goes unnoticed.
            let room = self.room.notified();
            let full = {
                let mut inner = self.inner();
                if inner.closed {
                    return;
                }
                while inner.jobs.len() < JOBS_MAX
                    && let Some(job) = jobs.next()
                {
                    let job = if inner.jobs.len() < WHOLE_MAX {
                        job
                    } else {
                        job.lightened()
                    };
                    inner.jobs.push_back(job);
                }
                inner.view = Some(view.clone());
                jobs.peek().is_some()
            };
            self.work.notify_one();
            if full {
                room.await;
            }
        }
    }

    /// Waits for jobs and takes some; none once the queue is closed.
    pub(super) fn wait(&self) -> Option<(Vec<Job>, Arc<View>)> {
        let mut inner = self.inner();
        loop {
            if inner.closed {
                return None;
            }
            if let Some(taken) = self.take(&mut inner) {
                return Some(taken);
            }
            inner = self
                .work
                .wait(inner)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Takes some jobs, if there are any.
    pub(super) fn try_take(&self) -> Option<(Vec<Job>, Arc<View>)> {
        self.take(&mut self.inner())
    }

    fn take(&self, inner: &mut Inner) -> Option<(Vec<Job>, Arc<View>)> {
        let view = inner.view.clone()?;
        let count = inner.jobs.len().min(HANDFUL);
        let jobs = inner.jobs.drain(..count).collect();
        if inner.jobs.is_empty() {
            inner.view = None;
            if inner.jobs.capacity() > WHOLE_MAX {
                inner.jobs = VecDeque::new();
            }
        }
        self.room.notify_waiters();
        Some((jobs, view))
    }

    /// Ends the thread that waits.
    pub(super) fn close(&self) {
        self.inner().closed = true;
        self.work.notify_all();
        self.room.notify_waiters();
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

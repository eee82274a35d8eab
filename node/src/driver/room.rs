//! What the driver does when the disk is slow or has no room: it stays up, reads on, and goes on by
//! itself.
//!
//! Low room is told to the replica, which then takes nothing new. A commit that found none at all
//! leaves the engine unusable: what was staged is dropped unseen, whoever asked is told, and the
//! store is opened again in place, as it durably is (T30).

use super::Driver;
use crate::api::Problem;
use crate::store::LOOK_EVERY;
use crate::view::View;
use aquifer_protocol::{CommandId, Input, Refusal, Reply, StoreFailure};
use std::sync::{Arc, PoisonError};

impl Driver {
    /// Looks whether there is room, now and then, and tells the replica of a change.
    pub(super) fn looks_for_room(&mut self) {
        let now = self.rigging.clock.now();
        if now.since(self.looked) >= LOOK_EVERY {
            self.looked = now;
            self.rigging.room.look();
        }
        let full = self.rigging.room.is_full();
        if full == self.full {
            return;
        }
        self.full = full;
        self.handle(Input::Room { full });
        let observed = &self.rigging.observer.observed;
        if full {
            tracing::error!(target: "aquifer::store::full", "the disk is full: no new records are taken");
            observed.count("disk_full", "");
            observed.trouble("the disk ran full: this node takes no new records until there is room, and reads and forgets on".into());
        } else {
            tracing::info!(target: "aquifer::store::room", "the disk has room again");
        }
    }

    /// Tells the replica when commits have become a fifth slower or faster than it was told.
    pub(super) fn tells_how_long_commits_take(&mut self) {
        let pace = self.rigging.replica.store().health().pace();
        if let Some(take) = pace.commit
            && take.abs_diff(self.commits) > self.commits / 5
        {
            self.commits = take;
            self.handle(Input::Commits { take });
        }
    }

    /// Drops what was staged, answers whoever waits, and opens the store and the replica again.
    pub(super) fn reopens(mut self, failure: &StoreFailure) -> Result<Self, Problem> {
        tracing::error!(target: "aquifer::store::full", %failure, "a write found no room; the store is opened again");
        self.closes_the_view();
        self.rigging.room.ran_out();
        let replica = self.rigging.replica;
        let peers: Vec<_> = replica.peers().cloned().collect();
        let me = replica.member().cloned();
        let me = me.expect("a driven replica has a certificate");
        let store = replica.into_store().reopened()?;
        self.rigging.replica = (self.rigging.open)(store, &me)?;
        self.law = Arc::new(self.rigging.replica.law().clone());
        self.publish();
        self.answers_for_the_lost();
        // It is told first that there is no room: nothing that peers say now may need any.
        self.full = false;
        self.looks_for_room();
        for member in peers {
            self.handle(Input::PeerUp { member });
        }
        Ok(self)
    }

    /// Commands of the lost beat were not carried out. Earlier ones are durable here, and waited for
    /// receipts that the new replica will not match to them.
    fn answers_for_the_lost(&mut self) {
        let fresh = self.waiting.split_off(&CommandId(self.beat_began));
        for (_, asked) in fresh {
            let _ = asked.send(Ok(Reply::Refused(Refusal::DiskFull)));
        }
        for (_, asked) in std::mem::take(&mut self.waiting) {
            let _ = asked.send(Err(Problem::new(
                "receipts_lost",
                7,
                "the write is durable on this node; who else has it is not known, since the disk ran full meanwhile",
                "it goes on spreading; make room on the disk",
            )));
        }
    }

    /// Lets go of the store's last snapshot, so that it can be closed.
    fn closes_the_view(&mut self) {
        let mut view = self.view.write().unwrap_or_else(PoisonError::into_inner);
        *view = Arc::new(View {
            snapshot: view.snapshot.closed(),
            ..View::clone(&view)
        });
    }
}

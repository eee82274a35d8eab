//! The engine: what happens next. The only queue, ordered by (time, sequence).
//!
//! Two things planned for one microsecond happen in the order in which they were planned, so a run
//! has one order and no other. The loop itself is [`World::run_until`](crate::world::World::run_until).
//!
//! Not here: what a happening does (`world`).

use crate::network::Packet;
use aquifer_protocol::Time;
use core::time::Duration;
use std::collections::BTreeMap;

/// A node's number in the world.
pub type Index = usize;

/// Something that is planned.
#[derive(Clone, Debug)]
pub enum Happening {
    /// A packet reaches a node.
    Arrive {
        /// Who sent it.
        from: Index,
        /// Whom it reaches.
        to: Index,
        /// Over which connection: if that broke since, the packet is lost.
        epoch: u64,
        /// The packet.
        packet: Packet,
    },
    /// A node handles what lies in its inbox, and commits.
    Beat {
        /// The node.
        node: Index,
        /// Which of its lives: a beat planned before a crash comes to nothing.
        life: u64,
    },
    /// A node asked to be woken.
    Wake {
        /// The node.
        node: Index,
        /// Which of its lives.
        life: u64,
    },
    /// A node notices that a connection broke.
    Notice {
        /// The node.
        node: Index,
        /// The peer that is gone.
        peer: Index,
        /// The connection.
        epoch: u64,
    },
    /// Two nodes try to connect.
    Dial {
        /// One.
        a: Index,
        /// The other.
        b: Index,
    },
    /// A connection breaks, for both sides to notice.
    Break {
        /// One.
        a: Index,
        /// The other.
        b: Index,
    },
    /// A node that is down comes up again.
    Restart {
        /// The node.
        node: Index,
    },
    /// Someone wants something of a node.
    Operate,
    /// A topic is founded, or its law changed.
    Govern {
        /// Which change, by its place in the scenario.
        change: usize,
    },
    /// Something goes wrong.
    Mishap(Mishap),
}

/// What is planned to go wrong, beside what goes wrong by itself at every packet and commit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mishap {
    /// The network falls apart in two.
    Partition,
    /// Packets in one direction vanish.
    OneWay,
    /// A link is slow for a while.
    Clog,
    /// A disk changes a stored record.
    Rot,
    /// A traitor does something.
    Attack,
}

/// What is planned, in order.
#[derive(Debug, Default)]
pub struct Engine {
    now: Time,
    sequence: u64,
    queue: BTreeMap<(Time, u64), Happening>,
}

impl Engine {
    /// Nothing planned, at `now`.
    pub fn starting(now: Time) -> Self {
        Self {
            now,
            ..Self::default()
        }
    }

    /// The time of the happening that was popped last.
    pub fn now(&self) -> Time {
        self.now
    }

    /// Plans `happening` for `at`, or for now if that is past.
    pub fn plan(&mut self, at: Time, happening: Happening) {
        self.sequence += 1;
        self.queue
            .insert((at.max(self.now), self.sequence), happening);
    }

    /// Plans `happening` for `delay` from now.
    pub fn plan_in(&mut self, delay: Duration, happening: Happening) {
        self.plan(self.now + delay, happening);
    }

    /// What happens next, unless that is after `until`: then time moves on to `until`.
    pub fn pop(&mut self, until: Time) -> Option<Happening> {
        let next = self
            .queue
            .first_entry()
            .filter(|entry| entry.key().0 <= until);
        match next {
            Some(entry) => {
                let ((at, _), happening) = entry.remove_entry();
                self.now = at;
                Some(happening)
            }
            None => {
                self.now = self.now.max(until);
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_planned_for_one_moment_happens_in_the_order_of_planning() {
        let mut engine = Engine::starting(Time::from_millis(5));
        let late = Time::from_millis(9);
        engine.plan(late, Happening::Restart { node: 1 });
        engine.plan(late, Happening::Restart { node: 2 });
        engine.plan(Time::from_millis(6), Happening::Restart { node: 3 });
        engine.plan(Time::ZERO, Happening::Restart { node: 4 });
        let mut order = Vec::new();
        while let Some(Happening::Restart { node }) = engine.pop(late) {
            order.push((engine.now().millis(), node));
        }
        assert_eq!(order, [(5, 4), (6, 3), (9, 1), (9, 2)]);
        assert!(engine.pop(Time::from_millis(20)).is_none());
        assert_eq!(
            engine.now().millis(),
            20,
            "time moves on without happenings"
        );
    }
}

//! The slow lane: wakes that take long, on a thread of their own.
//!
//! Agents are woken on one thread, in turn, and most take microseconds. One that uses all the fuel that
//! there is holds that thread a thousand times as long, and a stranger's agent may do so at every wake.
//! So a wake is first tried with little fuel ([`QUICK`]). One that needs more came to nothing, as any that
//! runs out does, and is taken again from its beginning here, with all that its manifest gives. Nothing
//! has to be kept of the first try, for a wake is one thing or nothing, and the longest that anybody waits
//! for a neighbour is what little fuel takes.
//!
//! While a wake is in the lane its agent is busy: whoever hosts it holds its next inputs back. The lane is
//! bounded; one that is full says so, and the input waits.
//!
//! Not here: whose turn it is, and what becomes of steps (whoever hosts agents).

use crate::abi::Wakeup;
use crate::desk::World;
use crate::wake::{Agent, Failed, Step};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

/// Fuel of a first try: twice what any wake of the examples uses on any engine, and a tenth of a
/// millisecond if it is used up.
pub const QUICK: u64 = 100_000;

/// Most wakes that wait or run.
pub const LANE_MAX: usize = 64;

/// A wake that takes long.
pub struct Long {
    /// By which whoever hosts the agent knows it again.
    pub ticket: u64,
    /// Who.
    pub agent: Agent,
    /// For the how-manieth time.
    pub seq: u64,
    /// Its state.
    pub before: Vec<u8>,
    /// What it wakes to.
    pub wakeup: Wakeup,
    /// What it may see and do.
    pub world: Box<dyn World>,
}

/// What came of it.
#[derive(Debug)]
pub struct Ended {
    /// Which.
    pub ticket: u64,
    /// The step, or why it came to nothing.
    pub outcome: Result<Step, Failed>,
}

/// A thread for wakes that take long.
pub struct Lane {
    /// None when it closes.
    into: Option<SyncSender<Long>>,
    out: Receiver<Ended>,
    thread: Option<JoinHandle<()>>,
    /// Wakes that wait or run, or that nobody has asked for since they ended.
    inside: usize,
}

impl Lane {
    /// A lane, and its thread.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn open() -> std::io::Result<Self> {
        let (into, jobs) = sync_channel::<Long>(LANE_MAX);
        let (done, out) = sync_channel(LANE_MAX);
        let thread = std::thread::Builder::new().name("agents-slow".into());
        let thread = thread.spawn(move || {
            for long in jobs {
                let Long {
                    agent,
                    seq,
                    before,
                    wakeup,
                    ..
                } = long;
                let outcome = agent.wake(seq, before, wakeup, long.world);
                let ticket = long.ticket;
                // Whoever has closed the lane does not listen any more.
                if done.send(Ended { ticket, outcome }).is_err() {
                    break;
                }
            }
        })?;
        Ok(Self {
            into: Some(into),
            out,
            thread: Some(thread),
            inside: 0,
        })
    }

    /// Takes a wake on.
    ///
    /// # Errors
    /// The wake itself, if the lane is full: try it later.
    pub fn take(&mut self, long: Long) -> Result<(), Box<Long>> {
        // No more than this are inside, so neither channel is ever full.
        if self.inside == LANE_MAX {
            return Err(Box::new(long));
        }
        let into = self.into.as_ref().expect("it closes when it is dropped");
        match into.try_send(long) {
            Ok(()) => {
                self.inside += 1;
                Ok(())
            }
            Err(TrySendError::Full(long) | TrySendError::Disconnected(long)) => Err(Box::new(long)),
        }
    }

    /// A wake that has ended, if one has. Does not wait.
    pub fn ended(&mut self) -> Option<Ended> {
        let ended = self.out.try_recv().ok()?;
        self.inside -= 1;
        Some(ended)
    }

    /// How many wakes wait or run, or have ended and were not asked for.
    pub fn inside(&self) -> usize {
        self.inside
    }
}

impl Drop for Lane {
    /// Waits for the wake that runs; those that wait come to nothing.
    fn drop(&mut self) {
        self.into = None;
        let (_, nowhere) = sync_channel(0);
        self.out = nowhere;
        if let Some(thread) = self.thread.take() {
            // One that panicked has said so.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::{Cause, FUEL_MAX, Imports};
    use crate::desk::Quiet;
    use crate::engine::Engine as _;
    use crate::engine::{Trap, interpreter::Interpreter};
    use crate::manifest::{Budget, Manifest, Rate};
    use crate::profile::Profile;
    use std::sync::Arc;

    /// Loops as often as its input says, and for ever if that is nothing.
    const GUEST: &str = r#"(module
        (memory (export "memory") 1 1)
        (global (export "MVA_STATE") i32 (i32.const 1024))
        (global (export "MVA_INBOX") i32 (i32.const 4096))
        (func (export "mva_abi") (result i32) (i32.const 1))
        (func (export "handle") (param $at i32) (param $len i32) (result i32) (local $n i32)
            (local.set $n (i32.load (i32.sub (i32.add (local.get $at) (local.get $len)) (i32.const 4))))
            (loop $more
                (local.set $n (i32.sub (local.get $n) (i32.const 1)))
                (br_if $more (local.get $n)))
            (i32.const 1)))"#;

    fn agent() -> Agent {
        let module = wat::parse_str(GUEST).expect("good text");
        let profile = Profile::of(&module).expect("an agent");
        Agent {
            id: [5; 32],
            manifest: Arc::new(Manifest {
                name: "loops".into(),
                module: profile.hash,
                imports: Imports::NONE,
                publishes: vec![],
                follows: vec![],
                remembers: vec![],
                budget: Budget::USUAL,
                rate: Rate::USUAL,
                kv_bytes: 0,
                not_after: u64::MAX,
                attest: None,
            }),
            loaded: Interpreter::new().load(&module, &profile).expect("loads"),
        }
    }

    fn wakeup(times: u32) -> Wakeup {
        Wakeup {
            cause: Cause::Message,
            from: None,
            topic: String::new(),
            stamp: 1,
            body: times.to_le_bytes().to_vec(),
        }
    }

    fn long(ticket: u64, times: u32) -> Long {
        Long {
            ticket,
            agent: agent(),
            seq: ticket,
            before: vec![],
            wakeup: wakeup(times),
            world: Box::new(Quiet),
        }
    }

    #[test]
    fn what_needs_more_than_little_fuel_comes_to_the_same_in_the_lane() {
        let agent = agent();
        let quick = |times| agent.handle(QUICK, (0, &[], &wakeup(times)), Box::new(Quiet));
        assert!(quick(100).is_ok());
        let (fuel, times) = (QUICK, QUICK as u32);
        assert_eq!(Err(Failed::Trapped(Trap::OutOfFuel { fuel })), quick(times));
        let mut lane = Lane::open().expect("a thread");
        lane.take(long(0, times)).map_err(|_| ()).expect("room");
        lane.take(long(1, 0)).map_err(|_| ()).expect("room");
        let mut ended = Vec::new();
        while lane.inside() > 0 {
            ended.extend(lane.ended());
            std::thread::yield_now();
        }
        let step = agent.wake(0, vec![], wakeup(times), Box::new(Quiet));
        assert_eq!((0, step), (ended[0].ticket, ended.remove(0).outcome));
        let fuel = FUEL_MAX;
        let stopped = Err(Failed::Trapped(Trap::OutOfFuel { fuel }));
        assert_eq!((1, stopped), (ended[0].ticket, ended.remove(0).outcome));
    }

    #[test]
    fn a_lane_that_is_full_gives_back_and_one_that_is_dropped_ends() {
        let mut lane = Lane::open().expect("a thread");
        for ticket in 0..LANE_MAX as u64 {
            lane.take(long(ticket, 0)).map_err(|_| ()).expect("room");
        }
        let back = lane.take(long(99, 0)).expect_err("it is full");
        assert_eq!((99, LANE_MAX), (back.ticket, lane.inside()));
        drop(lane);
    }
}

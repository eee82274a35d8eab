//! A wide area network on one machine, and a swarm of real nodes on it.
//!
//! Every node is a process in a network namespace of its own, with one TUN device. One thread, the
//! [`router`], carries packets between the devices with the delay, jitter, loss, reordering and
//! bandwidth of a matrix of [`roads`], and cuts them off where a test says so. The kernel needs no
//! `netem` for this, and the nodes have real sockets, real clocks and real disks. All namespaces
//! share one clock, so timestamps of different nodes compare.
//!
//! Reading order: [`roads`] (what becomes of a packet, a pure function of time and chance) ·
//! [`router`] (the thread) · [`namespaces`] and [`tun`] (what the system lends) · [`talk`] (what is
//! said to a node and by it) · [`node`] (the node's side) · [`process`] (the test's side) · [`swarm`]
//! (nodes in regions) · [`canary`] and [`tap`] (where forbidden bytes are looked for) ·
//! [`scenario`] (the stories) · [`report`] (what they measured).
//!
//! A run that may not do this (no root, no TUN, no `ip`) is [`void`], never green; so is one whose
//! fault did not bite.

pub mod canary;
pub mod namespaces;
pub mod node;
pub mod process;
pub mod report;
pub mod roads;
pub mod router;
pub mod scenario;
pub mod swarm;
pub mod talk;
pub mod tap;
pub mod tun;
pub mod void;

use std::time::{SystemTime, UNIX_EPOCH};

/// Microseconds since 1970 by the machine's wall clock, which all namespaces share.
#[must_use]
pub fn micros() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_micros()).expect("half a million years to go")
}

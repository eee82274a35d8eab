//! Jobs under the process runner, good and hostile: with control groups, without them, and as an
//! ordinary user.
//!
//! Each story is told once for every way that this machine can run jobs. Where it can make no namespaces
//! these tests are void: they say so, and `./check` says so in its summary. Times are printed; that a job is
//! stopped within 100 ms of its budget is asserted where the machine is otherwise idle
//! (`AQUIFER_LOAD=full`).

#![cfg(target_os = "linux")]

mod attacks;
mod bombs;
mod leavings;
mod ordinary;
mod orphans;
mod stand;

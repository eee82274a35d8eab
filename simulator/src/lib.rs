//! # simulator
//!
//! Aquifer's other driver: whole hives of real replicas on simulated disks and a simulated network,
//! in one thread, from one seed. It is how we look for bugs that need a crash here, a partition there
//! and a law that changes in between.
//!
//! **What is real:** the core, whole — records, signatures, law, sync, every byte it would store or
//! send. **What is simulated:** time, disks, links, agents, traitors. **What is not here:** libp2p,
//! store engines, WASM, surfaces; they have tests of their own.
//!
//! **The contract of determinism.** Everything a run does follows from its scenario, and a scenario
//! follows from its seed: one seed has one digest, in every process and build. No threads, files or
//! clocks but in the binary and in [`parallel`], which runs seeds beside each other and never looks
//! inside one.
//!
//! ## In reading order
//! [`scenario`] what a seed decides · [`engine`] what happens next · [`world`] the beat ·
//! [`network`] and [`disk`] what fails · [`ledger`] what the agents were told · [`check`] what must
//! hold · [`report`] what a run says.
#![forbid(unsafe_code)]

pub mod chance;
pub mod check;
pub mod disk;
pub mod engine;
pub mod keys;
pub mod ledger;
pub mod network;
pub mod parallel;
pub mod report;
pub mod scenario;
pub mod swarm;
pub mod trace;
pub mod world;

pub use check::Violation;
pub use report::{Outcome, Report, Summary};
pub use scenario::Scenario;
pub use scenario::plan::Plan;
pub use scenario::rule::Rule;
pub use world::World;

/// Runs a scenario from beginning to end.
pub fn run(scenario: Scenario) -> Report {
    let mut world = World::new(scenario);
    world.run();
    world.report
}

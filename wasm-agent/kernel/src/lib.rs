//! # kernel
//!
//! The smallest thing that makes a device an agent: a validator and an interpreter for integer-only
//! WebAssembly, in at most 10 KB of code, without allocation and without unsafe code. It runs the
//! agents that larger nodes run in larger engines, with the same results.
//!
//! 1. [`Module::parse`] takes the bytes of a module, or says why not, and where
//! 2. [`Instance::new`] gives it a page of memory
//! 3. [`Instance::invoke`] calls a function, with fuel, until it returns or traps
//!
//! Its profile, `mva1-int`, is WebAssembly 1.0 without floats and start functions, with mutable
//! globals, sign extension, `memory.copy` and `memory.fill`. A memory has one page at most; imports
//! are functions of the module `mva1`. All else is refused, not ignored.
//!
//! No bytes make it panic: what comes from outside ends as a [`Refused`] or as a [`Trap`].
//!
//! Not here: what the imports do, which guest may run, how much fuel it gets. That is the host's.
#![no_std]
#![forbid(unsafe_code)]

mod instance;
pub mod limits;
mod list;
mod module;
mod numeric;
mod opcode;
mod parser;
mod reader;
mod refused;
mod trap;
mod validator;

pub use instance::{Host, Import, Instance};
pub use module::{Export, Module};
pub use refused::{Limit, Refused, Why};
pub use trap::{HostTrap, Trap};

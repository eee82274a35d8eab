//! What small WASM agents are written with: the ABI `mva1` in safe Rust, without an allocator.
//!
//! An agent is one function. The node wakes it with an [`Input`], lends it the [`State`] that it left
//! behind last time, and offers it the calls of [`host`]. `Ok` commits the state and everything that
//! was published, sent or remembered, all at once; `Err` leaves the world as it was.
//!
//! ```
//! use aquifer_guest::cbor::{Reader, Writer};
//! use aquifer_guest::{agent, host, Error, Input, Keep, State};
//!
//! struct Count(u64);
//!
//! impl Keep for Count {
//!     const EMPTY: Self = Self(0);
//!     fn read(&mut self, from: &mut Reader<'_>) {
//!         self.0 = from.uint();
//!     }
//!     fn write(&self, to: &mut Writer<'_>) {
//!         to.uint(self.0);
//!     }
//! }
//!
//! fn wake(_: &Input<'_>, state: &mut State) -> Result<(), Error> {
//!     let mut count = Count::EMPTY;
//!     state.load(&mut count)?;
//!     count.0 += 1;
//!     state.store(&count)?;
//!     host::publish("count", Writer::new(&mut [0; 9]).uint(count.0).done()?)
//! }
//!
//! agent!(wake);
//! # fn main() {}
//! ```
//!
//! Two rules keep a module small and without a way to trap: slices are read by `get`, and numbers are
//! divided by constants. A panic ends the wake and nothing of it happened; its text is not kept.
//!
//! On any target but wasm32 the host is `mock`, and an agent is tested like any code.
//!
//! Not here: running agents, quotas and grants, which are the host's; what the numbers of the ABI
//! mean to other languages (`wasm-agent/mva1.wit`).

#![no_std]

#[cfg(not(target_arch = "wasm32"))]
extern crate std;

#[cfg(target_arch = "wasm32")]
#[doc(hidden)]
pub mod abi;
pub mod cbor;
mod error;
pub mod host;
mod input;
#[cfg(not(target_arch = "wasm32"))]
pub mod mock;
mod sink;
mod state;
pub mod text;

pub use error::Error;
pub use input::{Input, Kind};
pub use state::{Keep, STATE_BYTES_MAX, State};

/// The longest input, in bytes of CBOR: the size of the inbox.
pub const INPUT_BYTES_MAX: usize = 16 * 1024;

/// Who an agent is, to others.
pub type AgentId = [u8; 32];

/// An agent: what is done at each wake. `Ok` commits; an error refuses, and nothing happened.
pub type Handler = fn(&Input<'_>, &mut State) -> Result<(), Error>;

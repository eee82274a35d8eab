//! # protocol
//!
//! A [`Replica`] is one node's whole protocol, as a value. It owns no socket, no task, no clock.
//! Drivers give it a beat, always in this order:
//!
//! 1. [`handle`](Replica::handle)       any number of times: decide; stage writes and outputs
//! 2. [`commit`](Replica::commit)       one store transaction; only now may outputs leave
//! 3. [`poll_output`](Replica::poll_output)   until `None`
//! 4. [`next_deadline`](Replica::next_deadline)   wake me then, with [`Input::Tick`]
//!
//! Nothing observable leaves before it is durable. There are two drivers: `node` and `simulator`.
//!
//! ```
//! use aquifer_protocol::{Input, MemStore, Output, Replica, Seed, Settings, Time};
//! # use aquifer_protocol::{HiveId, Keys};
//! # let (keys, settings) = (Keys::from_secret(&[1; 32]), Settings::new(HiveId([2; 32])));
//! let now = Time::from_millis(1_790_000_000_000);
//! let mut replica = Replica::open(keys, settings, MemStore::default(), Seed::from_number(1), now)?;
//! replica.handle(now, Input::Tick);
//! replica.commit()?;
//! while let Some(output) = replica.poll_output() {
//!     match output {
//!         Output::Send { .. } | Output::Publish { .. } | Output::Verdict { .. } => {}
//!         Output::Reply { .. } | Output::Event(_) => {}
//!     }
//! }
//! let _wake_me_at = replica.next_deadline();
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! ## In reading order
//! [`event`] what goes in and comes out · [`replica`] the router · [`record`] and [`log`] what is
//! kept · [`law`] and [`mod@decide`] who may what · [`placement`] who holds what · [`mesh`] how news
//! travels · [`sync`] how two nodes become equal · [`wire`] what they say · [`store`] the only seam · [`limits`] every bound.
#![forbid(unsafe_code)]

pub mod admit;
pub mod body;
pub mod canonical;
pub mod certificate;
pub mod decide;
pub mod directory;
mod envelope;
pub mod event;
pub mod identity;
pub mod law;
pub mod limits;
pub mod log;
pub mod mesh;
#[cfg(mutant)]
pub mod mutant;
pub mod placement;
pub mod policy;
pub mod receipt;
pub mod record;
pub mod region;
pub mod replica;
pub mod riblt;
pub mod store;
pub mod sync;
pub mod time;
pub mod topic;
pub mod wire;

pub use body::{Body, Kind};
pub use certificate::{Chain, Grant, Member};
pub use decide::{Denial, Label, Op, Subject, decide};
pub use event::{
    Command, CommandId, Durability, Event, Expect, Input, Output, Refusal, Reply, Ticket, Verdict,
};
pub use identity::{AgentId, HiveId, Keys, NodeId, Seed};
pub use law::Law;
pub use log::LogKey;
pub use policy::{DataLocationPolicy, Policy};
pub use record::{LogId, Record, RecordId, Seq};
pub use region::{Region, Regions};
pub use replica::{OpenReplica, Replica, Settings, Wake};
pub use store::{Batch, MemStore, Store, StoreFailure, Table};
pub use time::{Stamp, Time};
pub use topic::{TopicId, TopicName};
pub use wire::Message;

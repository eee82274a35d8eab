//! Where WASM agents run.
//!
//! A **guest** is a small module without authority. A signed [`manifest`] grants it imports, topics and
//! budgets. It sleeps as a state of at most a kilobyte; to **wake** it is to run it once in a fresh
//! instance on some [`engine`], over one input. What it does is written down at its [`desk`] and done
//! only if it ends well; what came of it is a step, and a **receipt** of the step can be checked by
//! whoever runs the step again, on another engine.
//!
//! Six files in the order to read them: [`abi`], [`profile`], [`manifest`], [`desk`], [`engine`],
//! [`wake`]; then [`sleepers`] over a [`journal`], and the [`ledger`] of [`receipt`]s of agents of some
//! [`kind`]. Wakes that take long have a [`lane`] of their own. How a device at the edge tells its gateway
//! what an agent did is in [`uplink`]. What it all costs, a [`trial`] says.
//!
//! Not here: which inputs there are, and who does what steps say is to be done (the node).

pub mod abi;
pub mod desk;
pub mod engine;
pub mod journal;
pub mod kind;
pub mod lane;
pub mod ledger;
pub mod manifest;
pub mod profile;
pub mod receipt;
pub mod sleepers;
pub mod trial;
pub mod uplink;
pub mod wake;

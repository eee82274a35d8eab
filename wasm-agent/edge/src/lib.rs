//! The edge: a small device with an intermittent network, as an agent of a hive.
//!
//! A device runs one guest. What wakes it (a line of a sensor, a timer, news of the hive) is written down
//! first; what it does is a **step** in the journal, and stays there until a **gateway** has signed for it.
//! So the device may be offline for hours and lose its power at any moment: nothing is lost, and what is
//! said again is done once. The link is QUIC, used when there is something to say or in windows of a duty
//! cycle. Neighbours on the same link hear each other's beats, and one with a gateway carries for the others.
//!
//! In reading order: [`run`] the loop · [`device`] the guest and its queue · [`deeds`] what others are to do
//! · [`gateway`] what is said to a gateway · [`link`] how · [`radio`] when · [`member`] who this device is
//! · [`beat`], [`neighbours`] and [`carry`] the others on this link · [`state`] and [`report`] what is known
//! about it all · [`cli`] the door.
//!
//! Not here: how a guest is run (`aquifer-wasm`), what a gateway makes of a step (the node).

pub mod beat;
pub mod carry;
pub mod cli;
pub mod clock;
pub mod deeds;
pub mod device;
pub mod gateway;
pub mod home;
pub mod input;
pub mod link;
pub mod member;
pub mod neighbours;
pub mod problem;
pub mod radio;
pub mod report;
pub mod run;
pub mod state;

pub use problem::Problem;

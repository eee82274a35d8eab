//! The swarm: hundreds of thousands of agents to billions, in tiers that cost less the less they keep.
//!
//! Where [`world`](crate::world) runs whole replicas through storms, a swarm asks how news spreads: how
//! soon, how often twice, over which roads, and whether it ever goes where the law forbids. The full tier
//! ([`replicas`]) puts the product's core behind every agent; the compact
//! tier ([`gossip`]) keeps a row of columns for each agent and every single event; the planet tier keeps
//! a byte. Both take geography, graph, chance and law from the same place.
//!
//! In reading order: [`plan`] · [`run`] · [`event`] · [`engine`] · [`geography`] · [`graph`] ·
//! [`gossip`] · [`sessions`] · [`replicas`] · [`planet`] · [`kademlia`] · [`society`] · [`agreement`] · [`analytic`] · [`tally`] · [`report`] · [`page`].

pub mod agreement;
pub mod analytic;
pub mod column;
pub mod draw;
pub mod engine;
pub mod event;
pub mod geography;
pub mod gossip;
pub mod graph;
pub mod kademlia;
pub mod page;
pub mod plan;
pub mod planet;
pub mod replicas;
pub mod report;
pub mod resources;
pub mod run;
pub mod sessions;
pub mod society;
pub mod tally;

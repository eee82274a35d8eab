//! What is said to a node of the swarm and by it: lines of JSON on its stdin and stdout.
//!
//! The first line to it is [`Start`], the first from it [`Said::Up`] or [`Said::Refused`]. After that
//! every line to it is a [`Line`] of an [`Ask`], answered by lines with the same number: one, but for
//! [`Ask::Await`], which is armed first. Answers come in any order.
//!
//! Times are microseconds since 1970.

use super::tap::Passings;
use aquifer_node::api::{PolicyView, Problem, Remember, Remembered, Status};
use serde::{Deserialize, Serialize};
use std::net::Ipv4Addr;
use std::path::PathBuf;

/// How a node is to start.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Start {
    /// Its home.
    pub home: PathBuf,
    /// Its address, at which it listens with QUIC and TCP, and echoes what [`Ask::Ping`] sends.
    pub address: Ipv4Addr,
    /// The region, when it founds a hive.
    pub region: Option<String>,
    /// The ticket, when it joins one.
    pub ticket: Option<String>,
    /// Forms of a canary that the tap counts, masked.
    pub masked: Vec<String>,
}

/// Something with the number that its answers bear.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Line<T> {
    /// The number.
    pub number: u64,
    /// The something.
    pub body: T,
}

/// What a node can be asked.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ask {
    /// A ticket for a region: [`Said::Ticket`].
    Invite(String),
    /// To found a topic: [`Said::Done`].
    Create(String, PolicyView),
    /// To remember: [`Said::Remembered`].
    Remember(Remember),
    /// To find: [`Said::Found`].
    Recall {
        /// In this topic.
        topic: String,
        /// What to look for.
        query: String,
    },
    /// To say when a text can be recalled: [`Said::Armed`], then [`Said::Recallable`].
    Await {
        /// In this topic.
        topic: String,
        /// The whole text.
        text: String,
    },
    /// How it is: [`Said::Status`].
    Status,
    /// A digest of all memories of a topic as they stand: [`Said::Digest`].
    Digest(String),
    /// Which of these memories it does not have: [`Said::Missing`].
    Missing(Vec<String>),
    /// What its tap saw: [`Said::Tapped`].
    Tapped,
    /// Round trips to the echo of another node: [`Said::Pinged`].
    Ping {
        /// The other's address.
        to: Ipv4Addr,
        /// How many, one after the other.
        count: u32,
    },
    /// To stop in good order: [`Said::Done`].
    Stop,
}

/// What a node answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Said {
    /// It is up, under this peer id.
    Up(String),
    /// It is done.
    Done,
    /// It could not be done.
    Refused(Problem),
    /// A ticket.
    Ticket(String),
    /// It is remembered.
    Remembered {
        /// When it was begun.
        began: u64,
        /// When it was acknowledged.
        ended: u64,
        /// What became of it.
        remembered: Box<Remembered>,
    },
    /// The texts found, best first.
    Found(Vec<String>),
    /// From now on it will be noticed.
    Armed,
    /// When it was first recalled.
    Recallable(u64),
    /// How it is.
    Status(Box<Status>),
    /// A digest in hexadecimal, and of how many memories.
    Digest(String, usize),
    /// What is missing.
    Missing(Vec<String>),
    /// What passed.
    Tapped(Passings),
    /// Round trips in microseconds; those that are lost are left out.
    Pinged(Vec<u64>),
}

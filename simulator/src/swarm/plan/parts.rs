//! The parts of a plan: ways, mesh, directory, adversaries and workloads, and what each is if it is not
//! said.

use serde::{Deserialize, Serialize};
use std::time::Duration;

/// How long the ways are.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Latency {
    /// A matrix that comes with the simulator, or the text of one.
    pub matrix: String,
    /// The part of all agents in each region, in the order of the matrix; alike if none are given.
    pub shares: Vec<f64>,
    /// A link takes up to so many hundredths more than its regions say.
    pub jitter: u32,
    /// What an agent needs to handle a message, at least and at most.
    #[serde(deserialize_with = "two_spans", serialize_with = "say_two_spans")]
    pub processing: [Duration; 2],
    /// Of a million things sent, so many are lost and sent again.
    pub loss: u32,
}

impl Default for Latency {
    fn default() -> Self {
        Self {
            matrix: "cloud8".to_owned(),
            shares: Vec::new(),
            jitter: 37,
            processing: [Duration::from_micros(200), Duration::from_micros(1_200)],
            loss: 0,
        }
    }
}

/// How the mesh is set: defaults of the GossipSub specification.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct MeshPlan {
    /// Wanted links (D).
    pub degree: u32,
    /// Fewer are filled up (D_low).
    pub low: u32,
    /// More are cut down (D_high).
    pub high: u32,
    /// To how many outside the mesh a heartbeat announces (D_lazy).
    pub lazy: u32,
    /// Between two heartbeats; `0s` for none.
    #[serde(deserialize_with = "span", serialize_with = "say_span")]
    pub heartbeat: Duration,
    /// How long the application takes to judge a message.
    #[serde(deserialize_with = "span", serialize_with = "say_span")]
    pub validate: Duration,
    /// Messages of so many bytes and more are announced as not wanted again (IDONTWANT); 0 for none.
    pub dont_want: u32,
}

impl Default for MeshPlan {
    fn default() -> Self {
        Self {
            degree: 8,
            low: 6,
            high: 12,
            lazy: 6,
            heartbeat: Duration::from_secs(1),
            validate: Duration::ZERO,
            dont_want: 1_024,
        }
    }
}

/// Lookups in the directory of all agents.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Dht {
    /// How many.
    pub lookups: u64,
    /// Contacts of a bucket, and the closest that a lookup is for.
    pub k: usize,
    /// Asked at a time.
    pub alpha: usize,
    /// Of a million contacts, so many do not answer.
    pub stale: u32,
    /// How long they are waited for.
    #[serde(deserialize_with = "span", serialize_with = "say_span")]
    pub timeout: Duration,
}

impl Default for Dht {
    fn default() -> Self {
        Self {
            lookups: 0,
            k: 20,
            alpha: 3,
            stale: 0,
            timeout: Duration::from_secs(5),
        }
    }
}

/// Agents that do harm, drawn from all.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Adversary {
    /// Of a million agents, so many pass on nothing but their own.
    pub censors: u32,
    /// Of a million agents, so many send without asking the law.
    pub violators: u32,
}

/// Messages of one topic.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Workload {
    /// The topic's name.
    pub topic: String,
    /// The regions that may have it; all if none are named.
    pub law: Vec<String>,
    /// How many messages.
    pub count: u32,
    /// How many a second.
    pub rate: f64,
    /// When the first.
    #[serde(deserialize_with = "span", serialize_with = "say_span")]
    pub from: Duration,
    /// How long each is, in bytes.
    pub bytes: u32,
}

impl Default for Workload {
    fn default() -> Self {
        Self {
            topic: "news".to_owned(),
            law: Vec::new(),
            count: 1,
            rate: 1.0,
            from: Duration::from_secs(1),
            bytes: 2_048,
        }
    }
}

pub(super) fn span<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(from)?;
    humantime::parse_duration(&text).map_err(serde::de::Error::custom)
}

fn two_spans<'de, D: serde::Deserializer<'de>>(from: D) -> Result<[Duration; 2], D::Error> {
    let [least, most] = <[String; 2]>::deserialize(from)?;
    let parse = |text: String| humantime::parse_duration(&text).map_err(serde::de::Error::custom);
    Ok([parse(least)?, parse(most)?])
}

fn said(span: Duration) -> String {
    // The shortest form that is read back as the same.
    humantime::format_duration(span)
        .to_string()
        .replace(' ', "")
}

pub(super) fn say_span<S: serde::Serializer>(span: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&said(*span))
}

fn say_two_spans<S: serde::Serializer>(spans: &[Duration; 2], to: S) -> Result<S::Ok, S::Error> {
    spans.map(said).serialize(to)
}

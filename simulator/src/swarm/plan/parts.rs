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
    /// What an agent can send in a second, in kilobits: one thing after the other; 0 for no limit.
    pub uplink: u64,
}

impl Default for Latency {
    fn default() -> Self {
        Self {
            matrix: "cloud8".to_owned(),
            shares: Vec::new(),
            jitter: 37,
            processing: [Duration::from_micros(200), Duration::from_micros(1_200)],
            loss: 0,
            uplink: 0,
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
    /// From so many on they are cut down (D_high).
    pub high: u32,
    /// At least so many of them are links that the agent made itself (D_out).
    pub outbound: u32,
    /// To how many outside the mesh a heartbeat announces (D_lazy), or to a quarter of them.
    pub lazy: u32,
    /// Between two heartbeats; `0s` for none.
    #[serde(deserialize_with = "span", serialize_with = "say_span")]
    pub heartbeat: Duration,
    /// How long an agent remembers a message, offers it to whoever asks and knows it again.
    #[serde(deserialize_with = "span", serialize_with = "say_span")]
    pub memory: Duration,
    /// Between two times that an agent asks one of its peers for all that it missed; `0s` for never.
    #[serde(deserialize_with = "span", serialize_with = "say_span")]
    pub sync: Duration,
    /// Whether a publisher sends to all its peers and not to its mesh alone (flood publishing).
    pub flood: bool,
    /// Whether mesh peers that bring nothing lose their place.
    pub scores: bool,
    /// Within what time, before all else, links are made.
    #[serde(deserialize_with = "span", serialize_with = "say_span")]
    pub linking: Duration,
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
            outbound: 2,
            lazy: 6,
            heartbeat: Duration::from_secs(1),
            memory: Duration::from_secs(10),
            sync: Duration::ZERO,
            flood: false,
            scores: false,
            linking: Duration::from_secs(60),
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
    /// How many things are provided, and looked for by others.
    pub provides: u64,
    /// Contacts of a bucket, and the closest that a lookup is for.
    pub k: usize,
    /// Asked at a time.
    pub alpha: usize,
    /// Asked at a time once that many answers in a row have brought nothing nearer.
    pub stalled: usize,
    /// Of a million contacts, so many do not answer.
    pub stale: u32,
    /// Of a million contacts, so many are missing from a table in which they have a place.
    pub unknown: u32,
    /// How long they are waited for.
    #[serde(deserialize_with = "span", serialize_with = "say_span")]
    pub timeout: Duration,
}

impl Default for Dht {
    fn default() -> Self {
        Self {
            lookups: 0,
            provides: 0,
            k: 20,
            alpha: 3,
            stalled: 20,
            stale: 0,
            unknown: 0,
            timeout: Duration::from_secs(5),
        }
    }
}

/// Agents that come and go.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct ChurnPlan {
    /// Half of all sessions are no longer; `0s` for agents that never leave.
    #[serde(deserialize_with = "span", serialize_with = "say_span")]
    pub session: Duration,
    /// Half of all absences are no longer.
    #[serde(deserialize_with = "span", serialize_with = "say_span")]
    pub away: Duration,
    /// Four in five are no longer than so many times that.
    pub spread: u32,
    /// Of a million departures, so many are crashes.
    pub crashes: u32,
    /// After how long a crash is noticed.
    #[serde(deserialize_with = "span", serialize_with = "say_span")]
    pub notice: Duration,
}

impl Default for ChurnPlan {
    fn default() -> Self {
        Self {
            session: Duration::ZERO,
            away: Duration::from_secs(1_800),
            spread: 4,
            crashes: 200_000,
            notice: Duration::from_secs(20),
        }
    }
}

/// A time in which some regions are cut off from all others.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Partition {
    /// The regions on one side, or what their names begin with.
    pub regions: Vec<String>,
    /// From when.
    #[serde(deserialize_with = "span", serialize_with = "say_span")]
    pub from: Duration,
    /// For how long.
    #[serde(deserialize_with = "span", serialize_with = "say_span")]
    pub lasts: Duration,
}

/// Whether a region is the one that is named, or inside it.
pub(in crate::swarm) fn is_in(region: &str, name: &str) -> bool {
    let rest = region.strip_prefix(name);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Agents that do harm, drawn from all.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Adversary {
    /// Of a million agents, so many pass on nothing.
    pub censors: u32,
    /// From when on; until then they are like all others.
    #[serde(deserialize_with = "span", serialize_with = "say_span")]
    pub from: Duration,
    /// Of a million agents, so many send without asking the law.
    pub violators: u32,
    /// Of a million agents, so many are eclipsed: of their links all that others made are an attacker's,
    /// who takes and gives nothing.
    pub eclipsed: u32,
    /// Of a million agents, so many send what nobody asked for and nobody can use.
    pub spammers: u32,
    /// So many of it a second, each to all of its mesh.
    pub spam: f64,
    /// Of a million agents, so many say every message once more when meshes have forgotten it.
    pub replayers: u32,
}

impl Default for Adversary {
    fn default() -> Self {
        Self {
            censors: 0,
            from: Duration::ZERO,
            violators: 0,
            eclipsed: 0,
            spammers: 0,
            spam: 10.0,
            replayers: 0,
        }
    }
}

/// Agents that cannot be reached from outside.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Nat {
    /// Of a million agents, so many are behind a NAT.
    pub behind: u32,
    /// Of a million pairs that both are, so many get through all the same (hole punching); the others
    /// speak through a relay in the region of whoever listens.
    pub punched: u32,
}

impl Default for Nat {
    fn default() -> Self {
        Self {
            behind: 0,
            punched: 700_000,
        }
    }
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

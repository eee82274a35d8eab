//! Plans of swarms, in TOML: how many agents, where, linked how, and what they say to each other.
//!
//! What a plan leaves out has a default that is stated here; a key that means nothing is an error.
//!
//! Not here: reading files (the binary), putting the plan into practice (`run`).

mod acts;
mod keys;
mod parts;

use super::event::{AGENTS_MAX, MESSAGES_MAX, SLOTS_MAX};
use super::geography::{Matrix, ReadMatrix, read_matrix};
use super::gossip::Gossip;
use super::graph::Shape;
use super::resources::{self, Resources};
use crate::keys::unknown;
pub use acts::{Behaviour, Hierarchy, RecallPlan, SignalsPlan, TasksPlan};
use aquifer_protocol::limits::GOSSIP_BYTES_MAX;
use keys::{ADVERSARY, CHURN, DHT, KEYS, LATENCY, MESH, NAT, PARTITION, WORKLOAD};
pub(super) use parts::is_in;
pub use parts::{Adversary, ChurnPlan, Dht, Latency, MeshPlan, Nat, Partition, Workload};
use parts::{say_span, span};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The latency matrices that come with the simulator.
pub const MATRICES: [(&str, &str); 1] =
    [("cloud8", include_str!("../../plans/matrices/cloud8.csv"))];

/// The plans of swarms that come with the simulator: name and text.
pub const SHIPPED: [(&str, &str); 11] = [
    ("hierarchy", include_str!("../../plans/hierarchy.toml")),
    ("replicas", include_str!("../../plans/replicas.toml")),
    ("million", include_str!("../../plans/million.toml")),
    ("planet", include_str!("../../plans/planet.toml")),
    ("bridges", include_str!("../../plans/bridges.toml")),
    ("churn", include_str!("../../plans/churn.toml")),
    ("sybil", include_str!("../../plans/sybil.toml")),
    ("eclipse", include_str!("../../plans/eclipse.toml")),
    ("spam", include_str!("../../plans/spam.toml")),
    ("replay", include_str!("../../plans/replay.toml")),
    ("nat", include_str!("../../plans/nat.toml")),
];

/// How much is kept of each agent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Tier {
    /// The product's own replica, and every event.
    Full,
    /// A row of columns, and every event.
    #[default]
    Compact,
    /// A byte.
    Planet,
    /// Nothing: a law that was fitted to smaller runs.
    Analytic,
}

impl Tier {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Compact => "compact",
            Self::Planet => "planet",
            Self::Analytic => "analytic",
        }
    }
}

/// A plan of a swarm.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Plan {
    /// What it is for.
    pub about: String,
    /// How much is kept of each agent.
    pub tier: Tier,
    /// How many agents.
    pub agents: u64,
    /// How long is simulated.
    #[serde(deserialize_with = "span", serialize_with = "say_span")]
    pub horizon: Duration,
    /// Of the planet tier: what time is counted in.
    #[serde(deserialize_with = "span", serialize_with = "say_span")]
    pub quantum: Duration,
    /// Links of each agent, an even number; the mesh is made of them.
    pub links: u8,
    /// Who is linked to whom: `flat`, or `regional` with bridges.
    pub shape: Shape,
    /// How long the ways are.
    pub latency: Latency,
    /// How the mesh is set.
    pub mesh: MeshPlan,
    /// Lookups in the directory of all agents.
    pub dht: Dht,
    /// Agents that come and go.
    pub churn: ChurnPlan,
    /// When regions are cut off.
    pub partition: Vec<Partition>,
    /// Agents that cannot be reached from outside.
    pub nat: Nat,
    /// In the full tier: clocks are up to so much ahead or behind.
    #[serde(deserialize_with = "span", serialize_with = "say_span")]
    pub skew: Duration,
    /// How agents are grouped.
    pub hierarchy: Hierarchy,
    /// What they do together, one after the other.
    pub behaviour: Vec<Behaviour>,
    /// What machines there are, to be held against what is needed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// Agents that do harm.
    pub adversary: Adversary,
    /// The part of those that may have a message which must have it in the end.
    pub reach: f64,
    /// Who says what.
    pub workload: Vec<Workload>,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            about: String::new(),
            tier: Tier::Compact,
            agents: 10_000,
            horizon: Duration::from_secs(10),
            quantum: Duration::from_millis(3),
            links: 20,
            shape: Shape::Flat,
            latency: Latency::default(),
            mesh: MeshPlan::default(),
            dht: Dht::default(),
            churn: ChurnPlan::default(),
            partition: Vec::new(),
            nat: Nat::default(),
            skew: Duration::ZERO,
            hierarchy: Hierarchy::default(),
            behaviour: Vec::new(),
            resources: None,
            adversary: Adversary::default(),
            reach: 0.999,
            workload: vec![Workload::default()],
        }
    }
}

/// Why a text is not a plan of a swarm.
#[derive(Debug, thiserror::Error)]
pub enum ParseSwarm {
    /// It is not TOML, or a value is of the wrong type.
    #[error("the plan cannot be read: {0}")]
    Malformed(#[from] toml::de::Error),
    /// A key means nothing.
    #[error("the plan says `{key}`, which means nothing; did you mean `{nearest}`?")]
    UnknownKey {
        /// The key.
        key: String,
        /// The key that is most like it.
        nearest: &'static str,
    },
    /// The matrix cannot be used.
    #[error(transparent)]
    Matrix(#[from] ReadMatrix),
    /// What is asked cannot be.
    #[error("`{key}`: {why}")]
    Impossible {
        /// Where it is asked.
        key: &'static str,
        /// Why it cannot be.
        why: String,
    },
}

impl Plan {
    /// Whether a text means a swarm: it names agents, which a storm has none of.
    pub fn is_meant(text: &str) -> bool {
        let table: Result<toml::Table, _> = text.parse();
        table.is_ok_and(|table| table.contains_key("agents"))
    }

    /// Reads a plan.
    ///
    /// # Errors
    /// If it is no TOML, says what means nothing, or asks for what cannot be.
    pub fn parse(text: &str) -> Result<Self, ParseSwarm> {
        let table: toml::Table = text.parse()?;
        known(&table, &KEYS)?;
        let parts = [
            ("latency", &LATENCY[..]),
            ("mesh", &MESH[..]),
            ("dht", &DHT[..]),
            ("churn", &CHURN[..]),
            ("adversary", &ADVERSARY[..]),
            ("nat", &NAT[..]),
            ("hierarchy", &acts::HIERARCHY[..]),
            ("resources", &resources::KEYS[..]),
        ];
        for (key, keys) in parts {
            if let Some(part) = table.get(key).and_then(toml::Value::as_table) {
                known(part, keys)?;
            }
        }
        for (key, keys) in [("workload", &WORKLOAD[..]), ("partition", &PARTITION[..])] {
            let parts = table.get(key).and_then(toml::Value::as_array);
            for part in parts
                .into_iter()
                .flatten()
                .filter_map(toml::Value::as_table)
            {
                known(part, keys)?;
            }
        }
        let behaviours = table.get("behaviour").and_then(toml::Value::as_array);
        for behaviour in behaviours
            .into_iter()
            .flatten()
            .filter_map(toml::Value::as_table)
        {
            let kind = behaviour.get("kind").and_then(toml::Value::as_str);
            let keys = acts::KINDS.iter().find(|(name, _)| kind == Some(name));
            known(behaviour, keys.map_or(&["kind"], |(_, keys)| keys))?;
        }
        let plan: Self = table.try_into()?;
        plan.check()?;
        Ok(plan)
    }

    /// The matrix of ways.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn matrix(&self) -> Result<Matrix, ReadMatrix> {
        let shipped = MATRICES
            .iter()
            .find(|(name, _)| *name == self.latency.matrix);
        read_matrix(shipped.map_or(self.latency.matrix.as_str(), |(_, text)| text))
    }

    /// Whether what is asked can be.
    ///
    /// # Errors
    /// If not: where, and why.
    pub fn check(&self) -> Result<(), ParseSwarm> {
        let fail = |key, why: String| Err(ParseSwarm::Impossible { key, why });
        let (names, _) = self.matrix()?;
        let (mesh, latency) = (&self.mesh, &self.latency);
        let most = match self.tier {
            Tier::Full => 1 << 20,
            Tier::Compact => AGENTS_MAX,
            Tier::Planet => 1 << 34,
            Tier::Analytic => 1 << 60,
        };
        if !(2..=most).contains(&self.agents) {
            return fail("agents", format!("2 to {most} in this tier"));
        }
        let spare = if self.shape == Shape::Regional {
            names.len()
        } else {
            0
        };
        let links_max = SLOTS_MAX - spare;
        if self.links == 0 || !self.links.is_multiple_of(2) || usize::from(self.links) > links_max {
            return fail("links", format!("an even number, 2 to {links_max}"));
        }
        if !(mesh.low <= mesh.degree && mesh.degree <= mesh.high) || mesh.low == 0 {
            return fail("mesh", "0 < low <= degree <= high".to_owned());
        }
        for (key, span) in [
            ("mesh", mesh.heartbeat),
            ("mesh", mesh.validate),
            ("mesh", mesh.sync),
            ("churn", self.churn.session),
            ("churn", self.churn.away),
        ] {
            let micros = span.as_micros();
            if span > Duration::ZERO && (micros == 0 || micros > u128::from(u32::MAX) << 12) {
                return fail(key, format!("{span:?} is no time that can be simulated"));
            }
        }
        let longest = Duration::from_secs(10);
        if latency.processing.iter().any(|span| *span > longest) {
            return fail("latency", "`processing` is up to ten seconds".to_owned());
        }
        let shares = [
            latency.loss,
            self.nat.behind,
            self.nat.punched,
            self.churn.crashes,
            self.adversary.violators,
            self.adversary.eclipsed,
            self.adversary.spammers,
            self.adversary.replayers,
        ];
        if shares.iter().any(|share| *share > 1_000_000) {
            return fail(
                "adversary",
                "of a million there are a million at most".to_owned(),
            );
        }
        let churns = self.churn.session > Duration::ZERO;
        if churns
            && (mesh.heartbeat.is_zero() || self.churn.away.is_zero() || self.churn.spread == 0)
        {
            let why =
                "agents come back after `away`, by a `spread` above 0, and heartbeats mend meshes";
            return fail("churn", why.to_owned());
        }
        let simulates_all = matches!(self.tier, Tier::Full | Tier::Compact);
        if !simulates_all && (churns || !self.partition.is_empty()) {
            return fail(
                "churn",
                "only the full and the compact tier have churn and partitions".to_owned(),
            );
        }
        for partition in &self.partition {
            if let Some(name) = partition
                .regions
                .iter()
                .find(|name| !names.iter().any(|r| is_in(r, name)))
            {
                return fail("partition", format!("no region is called `{name}`"));
            }
        }
        if self.adversary.censors > 999_999 {
            return fail(
                "adversary",
                "`censors` leaves somebody: below 1000000".to_owned(),
            );
        }
        let adversary = &self.adversary;
        let harm = adversary.eclipsed + adversary.spammers + adversary.replayers;
        if !simulates_all && (harm > 0 || self.nat.behind > 0) {
            let why = "`eclipsed`, `spammers`, `replayers` and `nat` are of the full and the compact tier";
            return fail("adversary", why.to_owned());
        }
        let ignored = match self.tier {
            Tier::Full => adversary.violators,
            Tier::Planet => {
                let sent = latency.loss.max(u32::from(latency.uplink > 0));
                sent.max(adversary.censors).max(adversary.violators)
            }
            _ => 0,
        };
        if ignored > 0 {
            let why = "the full tier has no `violators`; the planet tier has neither those nor `censors`, `loss` and `uplink`";
            return fail("adversary", why.to_owned());
        }
        if adversary.spammers > 0 && !(0.001..=500.0).contains(&adversary.spam) {
            return fail("adversary", "`spam` is 0.001 to 500".to_owned());
        }
        if self.skew > Duration::ZERO && self.tier != Tier::Full {
            return fail(
                "skew",
                "only replicas look at clocks: `tier = \"full\"`".to_owned(),
            );
        }
        if self.skew > Duration::from_secs(86_400) {
            return fail("skew", "up to a day".to_owned());
        }
        if mesh.scores && mesh.heartbeat.is_zero() {
            return fail("mesh", "`scores` are looked at in heartbeats".to_owned());
        }
        if mesh.linking > Duration::from_secs(3_600) {
            return fail("mesh", "`linking` is up to an hour".to_owned());
        }
        if self.quantum.as_micros() == 0 || self.quantum > Duration::from_secs(1) {
            return fail("quantum", "above 0 and up to a second".to_owned());
        }
        if !simulates_all && self.shape == Shape::Regional {
            return fail("shape", "the planet tier has no bridges: `flat`".to_owned());
        }
        if simulates_all && mesh.high > u32::from(self.links) {
            return fail(
                "mesh",
                format!("`high` is more than the {} links", self.links),
            );
        }
        if !latency.shares.is_empty() && latency.shares.len() != names.len() {
            return fail(
                "latency",
                format!("`shares` for the {} regions", names.len()),
            );
        }
        if latency
            .shares
            .iter()
            .any(|share| !(*share >= 0.0 && share.is_finite()))
        {
            return fail("latency", "`shares` are numbers from 0 on".to_owned());
        }
        if latency.processing[0] > latency.processing[1] || latency.jitter > 1_000 {
            return fail(
                "latency",
                "`processing` is least, most; `jitter` up to 1000".to_owned(),
            );
        }
        let dht = &self.dht;
        if !(1..=64).contains(&dht.k)
            || !(1..=64).contains(&dht.alpha)
            || dht.stale.max(dht.unknown) > 900_000
        {
            let why =
                "`k` and `alpha` are 1 to 64, `stale` and `unknown` up to 900000 of a million";
            return fail("dht", why.to_owned());
        }
        let messages: u64 = self.workload.iter().map(|w| u64::from(w.count)).sum();
        let most = match self.tier {
            Tier::Full => Gossip::MINDED_MESSAGES_MAX as u64,
            _ => u64::from(MESSAGES_MAX) - 1,
        };
        if !(1..=most).contains(&messages) {
            return fail("workload", format!("1 to {most} messages in all"));
        }
        if self.tier == Tier::Full {
            // Longer ones are announced in meshes and pulled, which is not told apart here.
            let longest = GOSSIP_BYTES_MAX as u32 - 1_024;
            if self
                .workload
                .iter()
                .any(|w| w.bytes == 0 || w.bytes > longest)
            {
                return fail("workload", format!("a memory has 1 to {longest} `bytes`"));
            }
        }
        acts::check(&self.hierarchy, &self.behaviour, self.agents)?;
        for workload in &self.workload {
            if !(1e-6..=1e6).contains(&workload.rate) {
                return fail("workload", "`rate` is a millionth to a million".to_owned());
            }
            for region in &workload.law {
                if region.parse::<aquifer_protocol::Region>().is_err() {
                    return fail("workload", format!("`{region}` is no region"));
                }
            }
        }
        Ok(())
    }
}

fn known(table: &toml::Table, keys: &[&'static str]) -> Result<(), ParseSwarm> {
    match unknown(table.keys(), keys) {
        Some((key, nearest)) => Err(ParseSwarm::UnknownKey { key, nearest }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shipped_plan_can_be_read_and_says_what_it_is_for() {
        for (name, text) in SHIPPED {
            assert!(Plan::is_meant(text), "{name}");
            let plan = Plan::parse(text).unwrap_or_else(|why| panic!("{name}: {why}"));
            assert!(!plan.about.is_empty(), "{name}");
        }
    }

    #[test]
    fn a_plan_that_is_written_out_is_read_as_the_same() {
        for (name, text) in SHIPPED {
            let plan = Plan::parse(text).expect("legal");
            let written = toml::to_string(&plan).expect("it has text keys");
            let again = Plan::parse(&written).unwrap_or_else(|why| panic!("{name}: {why}"));
            assert_eq!(format!("{plan:?}"), format!("{again:?}"));
        }
    }

    #[test]
    fn an_empty_plan_is_the_default_and_can_be_run() {
        let plan = Plan::parse("").expect("legal");
        assert_eq!((10_000, 20, 8), (plan.agents, plan.links, plan.mesh.degree));
        assert_eq!(8, plan.matrix().expect("shipped").0.len());
    }

    #[test]
    fn what_means_nothing_or_cannot_be_is_an_error_that_says_where() {
        for (text, said) in [
            ("agent = 3", "did you mean `agents`?"),
            ("[mesh]\nlazzy = 3", "did you mean `lazy`?"),
            ("[[workload]]\nlow = []", "did you mean `law`?"),
            ("agents = 1", "`agents`"),
            ("links = 7", "`links`"),
            ("links = 8", "`high` is more than the 8 links"),
            ("horizon = \"soon\"", "cannot be read"),
            ("[latency]\nshares = [1.0]", "8 regions"),
            ("[latency]\nmatrix = \",a\\nb,1\"", "line 2"),
            ("[[workload]]\nlaw = [\"EU\"]", "`EU` is no region"),
        ] {
            let why = Plan::parse(text).expect_err(text).to_string();
            assert!(why.contains(said), "{text}: {why}");
        }
    }
}

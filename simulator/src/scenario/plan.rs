//! Plans: scenarios that are fixed in part by hand, in TOML. What a plan does not say is drawn.
//!
//! Not here: reading files (the binary).

use super::{Rates, Scenario, Site, changes};
use crate::chance::Dice;
use crate::keys;
use aquifer_protocol::{Region, Seed};
use core::time::Duration;
use serde::Deserialize;

/// The plans that come with the simulator: name and text.
pub const SHIPPED: [(&str, &str); 3] = [
    ("smoke", include_str!("../../plans/smoke.toml")),
    ("storm", include_str!("../../plans/storm.toml")),
    ("regions", include_str!("../../plans/regions.toml")),
];

/// What a plan may say.
const KEYS: [&str; 10] = [
    "about",
    "replicas",
    "regions",
    "topics",
    "operations",
    "storm_seconds",
    "patience_seconds",
    "traitors",
    "law_changes",
    "rates",
];

/// What a plan may say under `[rates]`.
const RATES: [&str; 12] = [
    "loss",
    "duplicate",
    "reorder",
    "frames",
    "crash",
    "disk_lost",
    "refused",
    "partitions",
    "one_way",
    "clogs",
    "rots",
    "attacks",
];

/// A scenario that is fixed in part.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// What it is for.
    #[serde(default)]
    pub about: String,
    replicas: Option<usize>,
    regions: Option<Vec<String>>,
    topics: Option<usize>,
    operations: Option<u32>,
    storm_seconds: Option<u64>,
    patience_seconds: Option<u64>,
    traitors: Option<usize>,
    law_changes: Option<bool>,
    rates: Option<Rates>,
}

/// Why a text is not a plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParsePlan {
    /// It is not TOML, or a value is of the wrong type.
    #[error("the plan cannot be read: {why}")]
    Malformed {
        /// What the parser says.
        why: String,
    },
    /// A key means nothing.
    #[error("the plan says `{key}`, which means nothing; did you mean `{nearest}`?")]
    UnknownKey {
        /// The key.
        key: String,
        /// The key that is most like it.
        nearest: &'static str,
    },
    /// A region's name is not one.
    #[error("{0}")]
    Region(#[from] aquifer_protocol::region::ParseRegion),
    /// A number is out of its bounds.
    #[error("`{key}` is {value}; it must be {low} to {high}")]
    OutOfBounds {
        /// Which.
        key: &'static str,
        /// What it is.
        value: u64,
        /// The least that is allowed.
        low: u64,
        /// The most that is allowed.
        high: u64,
    },
}

impl Plan {
    /// Reads a plan.
    pub fn parse(text: &str) -> Result<Self, ParsePlan> {
        let malformed = |why: toml::de::Error| ParsePlan::Malformed {
            why: why.to_string(),
        };
        let table: toml::Table = text.parse().map_err(malformed)?;
        known(table.keys(), &KEYS)?;
        if let Some(rates) = table.get("rates").and_then(toml::Value::as_table) {
            known(rates.keys(), &RATES)?;
        }
        let plan: Self = table.try_into().map_err(malformed)?;
        plan.check()?;
        Ok(plan)
    }

    fn check(&self) -> Result<(), ParsePlan> {
        for region in self.regions.iter().flatten() {
            region.parse::<Region>()?;
        }
        let bounded = |key, value: Option<u64>, low, high| match value {
            Some(value) if !(low..=high).contains(&value) => Err(ParsePlan::OutOfBounds {
                key,
                value,
                low,
                high,
            }),
            _ => Ok(()),
        };
        let replicas = self.replicas.map(|n| n as u64);
        bounded("replicas", replicas, 1, 64)?;
        bounded(
            "regions",
            self.regions.as_ref().map(|r| r.len() as u64),
            1,
            64,
        )?;
        bounded("topics", self.topics.map(|n| n as u64), 0, 64)?;
        bounded("operations", self.operations.map(u64::from), 0, 100_000)?;
        bounded("storm_seconds", self.storm_seconds, 1, 86_400)?;
        bounded("patience_seconds", self.patience_seconds, 1, 86_400)?;
        bounded(
            "traitors",
            self.traitors.map(|n| n as u64),
            0,
            replicas.unwrap_or(3).max(1) - 1,
        )
    }

    /// The scenario of this plan and `seed`.
    pub fn scenario(&self, seed: u64) -> Scenario {
        let mut scenario = Scenario::draw(seed);
        let mut dice = Dice::new(&Seed::from_number(seed), "plan");
        if let Some(count) = self.replicas {
            let drawn = scenario.sites.clone();
            let again = |i: usize| Site {
                traitor: false,
                ..drawn[i % drawn.len()].clone()
            };
            scenario.sites = (0..count).map(again).collect();
        }
        if let Some(regions) = &self.regions {
            for (i, site) in scenario.sites.iter_mut().enumerate() {
                let region = &regions[i % regions.len()];
                site.region = region.parse().expect("checked when the plan was read");
            }
        }
        if let Some(traitors) = self.traitors {
            let honest = scenario.sites.len().saturating_sub(traitors).max(1);
            for (i, site) in scenario.sites.iter_mut().enumerate() {
                site.traitor = i >= honest;
            }
        }
        let set = |seconds: Option<u64>, drawn| seconds.map_or(drawn, Duration::from_secs);
        scenario.storm = set(self.storm_seconds, scenario.storm);
        scenario.patience = set(self.patience_seconds, scenario.patience);
        scenario.operations = self.operations.unwrap_or(scenario.operations);
        scenario.rates = self.rates.unwrap_or(scenario.rates);
        let founded = scenario
            .changes
            .iter()
            .filter(|change| change.founds)
            .count();
        let topics = self.topics.unwrap_or(founded);
        let amend = self.law_changes.unwrap_or(true);
        scenario.changes = changes(&mut dice, &scenario, topics, amend);
        scenario
    }
}

fn known<'a>(
    keys: impl Iterator<Item = &'a String>,
    known: &[&'static str],
) -> Result<(), ParsePlan> {
    match keys::unknown(keys, known) {
        Some((key, nearest)) => Err(ParsePlan::UnknownKey { key, nearest }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shipped_plan_can_be_read_and_says_what_it_is_for() {
        for (name, text) in SHIPPED {
            let plan = Plan::parse(text).unwrap_or_else(|why| panic!("{name}: {why}"));
            assert!(!plan.about.is_empty(), "{name}");
            assert!(!plan.scenario(1).sites.is_empty());
        }
    }

    #[test]
    fn an_unknown_key_is_an_error_that_names_the_nearest() {
        let said = Plan::parse("replica = 3").unwrap_err();
        assert_eq!(
            said,
            ParsePlan::UnknownKey {
                key: "replica".into(),
                nearest: "replicas"
            }
        );
        let said = Plan::parse("[rates]\nlos = 3").unwrap_err().to_string();
        assert!(said.contains("`los`") && said.contains("`loss`"), "{said}");
    }

    #[test]
    fn numbers_and_names_that_cannot_be_meant_are_errors() {
        for bad in [
            "replicas = 65",
            "regions = [\"EU\"]",
            "traitors = 9",
            "topics = \"two\"",
        ] {
            assert!(Plan::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_plan_fixes_what_it_says_and_draws_the_rest() {
        let plan = Plan::parse("replicas = 5\nregions = [\"eu\", \"us\"]\ntraitors = 1").unwrap();
        let (one, two) = (plan.scenario(1), plan.scenario(2));
        for scenario in [&one, &two] {
            assert_eq!(scenario.sites.len(), 5);
            assert_eq!(scenario.regions(), ["eu", "us"]);
            assert_eq!(scenario.sites.iter().filter(|site| site.traitor).count(), 1);
        }
        assert_ne!(one.rates, two.rates);
    }
}

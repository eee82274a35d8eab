//! Rules: the laws of a scenario, and an oracle that judges by them.
//!
//! The oracle decides where data may be from the scenario's own words, by comparing the text of
//! paths. It shares nothing with the core's `decide`, so that the one can be wrong without the other.
//!
//! Not here: which rule a node knows of (`world`), the search for misplaced bodies (`check`).

use super::Scenario;
use crate::chance::Dice;
use crate::engine::Index;
use aquifer_protocol::identity::NodeId;
use aquifer_protocol::policy::Keyring;
use aquifer_protocol::{Policy, Regions};
use std::collections::BTreeSet;

/// The longest body under the rule with tag 0. A rule's tag is read back from the law in force by
/// how much smaller its limit is.
const BODY_BYTES: u32 = 60_000;

/// One law of one topic.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Rule {
    /// Names the rule among all of a scenario.
    pub tag: u32,
    /// Regions in which data may rest; anywhere if none are named.
    pub allowed: Option<Vec<String>>,
    /// The region that must have a copy.
    pub required: Option<String>,
    /// Whether data is bound to the top-level region of its home.
    pub bound: bool,
    /// Seconds for which bodies are kept.
    pub retention: Option<u64>,
    /// How many nodes hold it.
    pub copies: Option<u16>,
    /// Which nodes may hold and read it; all if none are named.
    pub readers: Option<BTreeSet<Index>>,
    /// The founder's region.
    pub home: String,
}

impl Rule {
    /// Everything is allowed.
    pub fn open() -> Self {
        Self::default()
    }

    /// Data may rest only in these regions.
    pub fn within(regions: &[&str]) -> Self {
        let allowed = regions.iter().map(|region| (*region).to_owned()).collect();
        Self {
            allowed: Some(allowed),
            ..Self::default()
        }
    }

    /// Bodies are kept for `seconds`.
    #[must_use]
    pub fn kept_for(self, seconds: u64) -> Self {
        Self {
            retention: Some(seconds),
            ..self
        }
    }

    /// Draws a rule for a world.
    pub fn draw(dice: &mut Dice, scenario: &Scenario) -> Self {
        let open = Self::open();
        let regions = scenario.regions();
        let mut rule = if dice.permille(600) {
            open.narrowed(dice, &regions)
        } else {
            open
        };
        rule.required = None;
        if dice.permille(150) {
            let region = *dice.pick(&regions);
            rule.required = Some(
                if dice.permille(500) {
                    top(region)
                } else {
                    region
                }
                .to_owned(),
            );
        }
        if dice.permille(100) {
            let readers = (0..scenario.sites.len())
                .filter(|_| dice.permille(700))
                .collect();
            rule.readers = Some(readers);
        }
        rule
    }

    /// A rule that allows less, or the same.
    #[must_use]
    pub fn narrowed(&self, dice: &mut Dice, regions: &[&str]) -> Self {
        let mut rule = self.clone();
        if dice.permille(600) {
            let path = *dice.pick(regions);
            let region = if dice.permille(500) { top(path) } else { path };
            let inside = |r: &str| {
                self.allowed
                    .as_ref()
                    .is_none_or(|all| all.iter().any(|root| covers(root, r)))
            };
            // Of a region that is not inside as a whole, the leaf may be.
            let region = if inside(region) { region } else { path };
            if inside(region) {
                rule.allowed = Some(vec![region.to_owned()]);
            }
        }
        rule.bound |= dice.permille(150);
        if dice.permille(250) {
            let seconds = dice.between(15, 60);
            rule.retention = Some(self.retention.map_or(seconds, |r| r.min(seconds)));
        }
        if dice.permille(200) {
            let copies = dice.between(1, 4) as u16;
            rule.copies = Some(self.copies.map_or(copies, |c| c.min(copies)));
        }
        rule
    }

    /// The policy that says the same to the core.
    ///
    /// # Panics
    /// If a region's name is not one.
    pub fn policy(&self, nodes: &[NodeId]) -> Policy {
        let region = |r: &String| r.parse().expect("a region's name");
        let mut policy = Policy::open();
        if let Some(allowed) = &self.allowed {
            policy.location.allowed_regions = Regions::only(allowed.iter().map(region));
        }
        policy.location.required_region = self.required.as_ref().map(region);
        policy.location.cross_border_allowed = !self.bound;
        policy.location.retention = self.retention;
        policy.copies = self.copies;
        if let Some(readers) = &self.readers {
            policy.readers = Keyring::Only(readers.iter().map(|i| nodes[*i].0).collect());
        }
        policy.body_bytes_max = BODY_BYTES - self.tag;
        policy
    }

    /// The tag of the rule that `policy` was made of.
    pub fn tag_of(policy: &Policy) -> Option<u32> {
        BODY_BYTES.checked_sub(policy.body_bytes_max)
    }

    /// The oracle: whether a node in `region` may have bodies under this rule.
    pub fn permits(&self, node: Index, region: &str) -> bool {
        let reader = self
            .readers
            .as_ref()
            .is_none_or(|readers| readers.contains(&node));
        self.permits_writing(region) && reader
    }

    /// The oracle: whether anybody in `region` may write under this rule.
    pub fn permits_writing(&self, region: &str) -> bool {
        let allowed = self
            .allowed
            .as_ref()
            .is_none_or(|all| all.iter().any(|root| covers(root, region)));
        let home = self.required.as_deref().unwrap_or(&self.home);
        let inside = !self.bound || top(home) == top(region);
        allowed && inside
    }
}

fn top(region: &str) -> &str {
    region.split('/').next().unwrap_or(region)
}

fn covers(root: &str, region: &str) -> bool {
    region == root || region.starts_with(&format!("{root}/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oracle_judges_by_paths_borders_and_readers() {
        let mut rule = Rule::within(&["eu/fr", "us"]);
        rule.home = "eu/fr".into();
        assert!(rule.permits(0, "eu/fr/paris-1") && rule.permits(0, "us"));
        assert!(!rule.permits(0, "eu/de") && !rule.permits(0, "eu/fra"));
        rule.bound = true;
        assert!(rule.permits(0, "eu/fr") && !rule.permits(0, "us"));
        rule.readers = Some(BTreeSet::from([3]));
        assert!(rule.permits(3, "eu/fr") && !rule.permits(0, "eu/fr"));
    }

    #[test]
    fn a_rule_is_told_by_the_limit_in_its_policy() {
        let rule = Rule {
            tag: 17,
            ..Rule::open()
        };
        assert_eq!(Rule::tag_of(&rule.policy(&[])), Some(17));
    }

    #[test]
    fn a_narrowed_rule_permits_nothing_new() {
        let mut dice = Dice::new(&aquifer_protocol::Seed::from_number(3), "test");
        let regions = ["eu/fr", "eu/de", "us"];
        for _ in 0..500 {
            let wide = Rule::open().narrowed(&mut dice, &regions);
            let narrow = wide.narrowed(&mut dice, &regions);
            for region in regions {
                assert!(wide.permits(0, region) || !narrow.permits(0, region));
            }
            assert!(
                narrow.policy(&[]).narrows(&wide.policy(&[])),
                "{wide:?} {narrow:?}"
            );
        }
    }
}

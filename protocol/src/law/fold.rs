//! The fold: what all foundings of a topic, and of those above it, come to.

use super::{Law, TopicLaw};
use crate::body::Founding;
use crate::identity::NodeId;
use crate::policy::Policy;
use crate::record::RecordId;
use crate::region::{Region, Regions};
use crate::topic::{TopicId, TopicName};
use std::collections::BTreeMap;

impl Law {
    /// Folds those topics anew. Returns which of them stand under another law than before.
    pub(super) fn refold(&mut self, concerns: impl Fn(&TopicLaw) -> bool) -> Vec<TopicId> {
        let concerned: Vec<TopicLaw> = self
            .topics
            .values()
            .filter(|law| concerns(law))
            .cloned()
            .collect();
        let mut changed = Vec::new();
        for before in concerned {
            let id = self.fold_topic(&before.name);
            let same = |law: &TopicLaw| law.versions == before.versions && law.home == before.home;
            if !self.topics.get(&id).is_some_and(same) {
                changed.push(id);
            }
        }
        changed
    }

    /// The region in which the data of a policy by `founder` is at home.
    fn home_of(&self, policy: &Policy, founder: NodeId) -> Option<Region> {
        let required = policy.location.required_region.as_ref();
        let own = self
            .members
            .get(&founder)
            .map(|known| known.member.region());
        required.or(own).map(Region::top)
    }

    /// A policy with its border drawn: data that may not leave its home is allowed nowhere else, also
    /// below in topics that others founded elsewhere. A home that is not known yet is nowhere.
    fn bounded(&self, policy: &Policy, founder: NodeId) -> Policy {
        let mut policy = policy.clone();
        if !policy.location.cross_border_allowed {
            let home = Regions::only(self.home_of(&policy, founder));
            let location = &mut policy.location;
            location.allowed_regions = location.allowed_regions.meet(&home);
        }
        policy
    }

    /// Folds all foundings of `name` and of the topics above it, in order of stamp and id.
    pub(super) fn fold_topic(&mut self, name: &TopicName) -> TopicId {
        let above: Vec<TopicName> = name.ancestors().collect();
        let lines = core::iter::once(name).chain(&above);
        let mut all: Vec<_> = lines
            .filter_map(|line| self.foundings.get(line))
            .flat_map(|of| {
                of.iter()
                    .map(|(place, (by, founding))| (*place, *by, founding))
            })
            .collect();
        all.sort_by_key(|(place, ..)| *place);
        let mut latest: BTreeMap<(&TopicName, NodeId), (RecordId, &Founding)> = BTreeMap::new();
        let mut founders = Vec::new();
        let mut versions = Vec::new();
        for (place, by, founding) in &all {
            let slot = latest
                .entry((&founding.topic, *by))
                .or_insert((place.1, founding));
            if founding.version >= slot.1.version {
                *slot = (place.1, founding);
            }
            if founding.topic == *name && !founders.contains(by) {
                founders.push(*by);
            }
            let policies = latest
                .iter()
                .map(|((_, by), (_, f))| self.bounded(&f.policy, *by));
            let law = policies.fold(Policy::open(), |law, policy| law.meet(&policy));
            versions.push(law);
        }
        let own = latest
            .iter()
            .filter(|((topic, _), _)| *topic == name)
            .map(|((_, by), (id, founding))| (*by, *id, (*founding).clone()))
            .collect();
        let mut homes = latest
            .iter()
            .filter(|(_, (_, f))| !f.policy.location.cross_border_allowed);
        let home = homes.find_map(|((_, by), (_, founding))| self.home_of(&founding.policy, *by));
        let governors = latest.keys().map(|(_, by)| *by).collect();
        let id = name.id(&self.hive);
        if !versions.is_empty() {
            let law = TopicLaw {
                name: name.clone(),
                founders,
                own,
                versions,
                home,
                governors,
            };
            // What some law allowed, must some law still allow; else what lies here is judged again.
            let before = self.topics.insert(id, law);
            let now = &self.topics[&id].versions;
            let kept = |old: &Policy| now.iter().any(|law| old == law || old.narrows(law));
            if before.is_none_or(|before| !before.versions.iter().all(kept)) {
                self.rewritten.insert(id);
            }
        }
        id
    }
}

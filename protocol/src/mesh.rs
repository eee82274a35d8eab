//! Mesh: which regional mesh carries a topic, and who carries it from one mesh to another.
//!
//! Gossip is regional. A node takes part in the mesh of its region and in those of the regions above
//! it, and a mesh has no members outside. So a topic may travel in a mesh if the law lets all of its
//! region have it, and it travels in the **widest** such mesh: a topic of `[eu]` in that of `eu`, one
//! of `[eu/fr, eu/de]` in that of `eu/fr` and in that of `eu/de`, one without any rule in that of
//! every top-level region. Between two meshes that carry a topic there are bridges.
//!
//! A mesh forwards to whoever is in it, so what not all of its members may read, or not all are to
//! hold, does not travel in it: such a topic goes from holder to holder.
//!
//! Not here: what is said in a mesh (`replica::spread`, `replica::gossip`), how it is formed (the
//! drivers).

use crate::certificate::{Member, role};
use crate::decide::{Label, allowed_in};
use crate::identity::{NodeId, digest};
use crate::limits::{BRIDGES, MESH_DEPTH_MAX};
use crate::policy::Keyring;
use crate::region::Region;
use crate::topic::TopicId;
use core::cmp::Reverse;

/// The mesh in which a node in `region` gossips the topic: the widest of its meshes that lies wholly
/// inside the law. `None` if the topic goes from holder to holder.
pub fn carrying(label: Label<'_>, region: &Region) -> Option<Region> {
    #[cfg(mutant)]
    if crate::mutant::planted(crate::mutant::Mutant::MeshTooWide) {
        return Some(region.top());
    }
    let for_all = label.policy.readers == Keyring::Members && label.policy.copies.is_none();
    let mut meshes = region.line().take(MESH_DEPTH_MAX);
    for_all
        .then(|| meshes.find(|mesh| allowed_in(label, mesh).is_ok()))
        .flatten()
}

/// The meshes in which both take part, widest first. A member whose certificate covers only some
/// topics takes part in none: a mesh asks nobody before it forwards.
pub fn shared(a: &Member, b: &Member) -> Vec<Region> {
    if !takes_part(a) || !takes_part(b) {
        return Vec::new();
    }
    let mut shared = a.region().shared(b.region());
    shared.truncate(MESH_DEPTH_MAX);
    shared
}

/// Whether a member takes part in the meshes of its region at all.
pub fn takes_part(member: &Member) -> bool {
    member.grant().topics.is_none()
}

/// Who carries `topic` out of a mesh, and takes it in, best first: of those who are up, the first
/// [`BRIDGES`] by rendezvous hashing that are certified as bridges, or of all if none is.
pub fn bridges<'a>(topic: TopicId, up: impl Iterator<Item = &'a Member>) -> Vec<NodeId> {
    let is_bridge = |m: &Member| m.grant().roles & role::BRIDGE != 0;
    let mut ranked: Vec<(bool, NodeId)> = up.map(|m| (is_bridge(m), m.node())).collect();
    let weight = |node: &NodeId| digest("aquifer/bridge/1", &[topic.as_bytes(), node.as_bytes()]);
    ranked.sort_by_cached_key(|(bridge, node)| (!bridge, Reverse(weight(node)), *node));
    let certified = ranked.first().is_some_and(|(bridge, _)| *bridge);
    ranked
        .into_iter()
        .take_while(|(bridge, _)| *bridge == certified)
        .take(BRIDGES)
        .map(|(_, node)| node)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certificate::tests::member;
    use crate::identity::Keys;
    use crate::policy::{Policy, tests::policy};
    use crate::region::tests::region;
    use crate::topic::TopicName;
    use proptest::prelude::*;

    fn ask(policy: &Policy, home: Option<&Region>, at: &Region) -> Option<Region> {
        let topic: TopicName = "t".parse().expect("legal");
        let label = Label {
            topic: &topic,
            policy,
            epoch: 1,
            home,
        };
        carrying(label, at)
    }

    fn within(regions: &[&str]) -> Policy {
        let parsed = regions.iter().map(|r| r.parse().expect("legal"));
        Policy::within(crate::region::Regions::only(parsed))
    }

    #[test]
    fn a_topic_travels_in_the_widest_mesh_that_the_law_allows() {
        let mesh = |policy: &Policy, at: &str| {
            ask(policy, None, &at.parse().expect("legal")).map(|mesh| mesh.to_string())
        };
        let cases = [
            (within(&["eu"]), "eu/fr/paris-1", Some("eu")),
            (within(&["eu/fr", "eu/de"]), "eu/fr/paris-1", Some("eu/fr")),
            (within(&["eu/fr", "eu/de"]), "eu/de", Some("eu/de")),
            (within(&["eu/fr", "eu/de"]), "eu", None),
            (within(&["eu"]), "us", None),
            (Policy::open(), "us/ca", Some("us")),
            (within(&["a/b/c/d"]), "a/b/c/d", None),
        ];
        for (policy, at, expected) in cases {
            assert_eq!(mesh(&policy, at).as_deref(), expected, "{policy:?} at {at}");
        }
        let mut copies = Policy::open();
        copies.copies = Some(3);
        assert_eq!(mesh(&copies, "eu"), None, "not all are to hold it");
        let mut few = Policy::open();
        few.readers = Keyring::Only([[1; 32]].into());
        assert_eq!(mesh(&few, "eu"), None, "not all may read it");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]
        /// I3: whatever the law and wherever two nodes are, a mesh that carries a topic at one of
        /// them reaches the other only if the law lets that one have it.
        #[test]
        fn no_mesh_that_carries_a_topic_reaches_outside_its_law(
            policy in policy(), here in region(), there in region(), home in region(),
        ) {
            if let Some(mesh) = ask(&policy, Some(&home), &here)
                && mesh.covers(&there)
            {
                let topic: TopicName = "t".parse().expect("legal");
                let label = Label { topic: &topic, policy: &policy, epoch: 1, home: Some(&home) };
                prop_assert!(allowed_in(label, &there).is_ok());
                prop_assert_eq!(ask(&policy, Some(&home), &there), Some(mesh), "and both say which");
            }
        }
    }

    #[test]
    fn bridges_are_two_known_to_all_and_stand_ins_are_found_when_none_is_up() {
        let root = Keys::from_secret(&[1; 32]);
        let all: Vec<Member> = (0..9u8)
            .map(|i| member(&root, &Keys::from_secret(&[i + 2; 32]), "eu"))
            .collect();
        let topic = TopicId([3; 32]);
        let chosen = bridges(topic, all.iter());
        assert_eq!(chosen.len(), BRIDGES);
        assert_eq!(chosen, bridges(topic, all.iter().rev()), "in any order");
        let left = all.iter().filter(|m| m.node() != chosen[0]);
        assert_eq!(bridges(topic, left)[0], chosen[1], "the next one steps in");
        let only = bridges(topic, all.iter().take(1));
        assert_eq!(only, [all[0].node()]);
    }
}

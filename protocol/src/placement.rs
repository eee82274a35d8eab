//! Placement: which nodes hold a topic.
//!
//! A pure function of the topic's law and our view of the members, by rendezvous hashing (Thaler &
//! Ravishankar 1998), so that every node computes the same answer from the same facts and few topics
//! move when members come and go.
//!
//! Not here: moving the data (`replica`), deciding who may hold it (`decide`).

use crate::body::Manifest;
use crate::certificate::Member;
use crate::decide::{Label, Op, Subject, decide};
use crate::identity::{NodeId, digest};
use crate::time::Time;
use crate::topic::TopicId;
use core::cmp::Reverse;

/// The nodes that are to hold the topic, best first: all that may, or as many of them as the policy
/// names copies. If the policy requires a region, one of them is there as long as any may be.
pub fn holders<'a>(
    topic: TopicId,
    label: Label<'_>,
    members: impl Iterator<Item = &'a Member>,
    at: Time,
) -> Vec<NodeId> {
    let may =
        |m: &&Member| decide(Op::Store, label, Subject { member: m, at }, label.epoch).is_ok();
    let mut ranked: Vec<&Member> = members.filter(may).collect();
    ranked.sort_by_cached_key(|m| (Reverse(weight(topic, m.node())), m.node()));
    let Some(copies) = label.policy.copies else {
        return ranked.into_iter().map(Member::node).collect();
    };
    if let Some(required) = &label.policy.location.required_region
        && let Some(best) = ranked.iter().position(|m| required.covers(m.region()))
    {
        let best = ranked.remove(best);
        ranked.insert(0, best);
    }
    ranked.truncate(copies.into());
    ranked.into_iter().map(Member::node).collect()
}

/// What a workload needs of the node that runs it, as far as manifests tell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Bytes of GPU memory.
    pub gpu_bytes: u64,
    /// Bytes of memory.
    pub ram_bytes: u64,
    /// BLAKE3 hashes of models that must be there, whole.
    pub models: Vec<[u8; 32]>,
}

/// Whether the node that `manifest` describes says that it has all that `needs` names. Its word is
/// signed, not proved, and may be old: who sends it work is told if it has not.
pub fn capable(manifest: &Manifest, needs: &Needs) -> bool {
    let has = |model: &[u8; 32]| manifest.models.contains(&model_entry(model));
    manifest.gpu_bytes >= needs.gpu_bytes
        && ram_bytes(manifest) >= needs.ram_bytes
        && needs.models.iter().all(has)
}

/// How a manifest says, among its models, that its node runs tasks of a topic: half of the topic's id. To
/// a reader that knows no tasks it is a model of which it never heard.
pub fn task_entry(topic: &TopicId) -> String {
    entry(TASKS, topic.as_bytes())
}

/// How a manifest says, among its models, how many bytes of memory its node has.
pub fn ram_entry(bytes: u64) -> String {
    format!("{RAM}{bytes}")
}

/// Bytes of memory that the node which `manifest` describes says it has; 0 if it does not say.
pub fn ram_bytes(manifest: &Manifest) -> u64 {
    let said = manifest.models.iter().find_map(|x| x.strip_prefix(RAM));
    said.and_then(|bytes| bytes.parse().ok()).unwrap_or(0)
}

/// Whether an entry of a manifest's models is one, and neither a topic's tasks nor memory.
pub fn is_model(entry: &str) -> bool {
    !entry.starts_with(TASKS) && !entry.starts_with(RAM)
}

const RAM: &str = "ram:";
const TASKS: &str = "tasks:";

/// How a manifest says that its node has a model: half of the hash of its content. Every member of a
/// hive reads manifests, and the name of a model is its topic's matter; of this entry nobody makes
/// anything who does not know the content, or the record that names it.
pub fn model_entry(hash: &[u8; 32]) -> String {
    entry("blake3:", hash)
}

fn entry(kind: &str, hash: &[u8; 32]) -> String {
    use core::fmt::Write as _;
    let mut entry = String::from(kind);
    for byte in &hash[..16] {
        write!(entry, "{byte:02x}").expect("a string takes any text");
    }
    entry
}

fn weight(topic: TopicId, node: NodeId) -> [u8; 32] {
    digest("aquifer/place/1", &[topic.as_bytes(), node.as_bytes()])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certificate::tests::member;
    use crate::identity::Keys;
    use crate::policy::Policy;
    use crate::region::Regions;
    use crate::topic::TopicName;

    fn world() -> Vec<Member> {
        let root = Keys::from_secret(&[1; 32]);
        let region = |i: u8| if i.is_multiple_of(2) { "eu" } else { "us" };
        (0..20)
            .map(|i| member(&root, &Keys::from_secret(&[i + 2; 32]), region(i)))
            .collect()
    }

    fn place(members: &[Member], policy: &Policy) -> Vec<NodeId> {
        let topic: TopicName = "t".parse().expect("legal");
        let label = Label {
            topic: &topic,
            policy,
            epoch: 1,
            home: None,
        };
        holders(TopicId([9; 32]), label, members.iter(), Time::ZERO)
    }

    #[test]
    fn holders_are_inside_the_law_and_stable_under_churn() {
        let members = world();
        let mut policy = Policy::within(Regions::only(["eu".parse().expect("legal")]));
        assert_eq!(
            place(&members, &policy).len(),
            10,
            "every member that may, if none is named"
        );
        policy.copies = Some(3);
        let chosen = place(&members, &policy);
        let find = |n: &NodeId| members.iter().find(|m| m.node() == *n).expect("a member");
        assert!(chosen.iter().all(|n| find(n).region().as_str() == "eu"));
        let without: Vec<_> = members
            .iter()
            .filter(|m| m.node() != chosen[1])
            .cloned()
            .collect();
        let moved = place(&without, &policy);
        assert_eq!(
            moved[..2],
            [chosen[0], chosen[2]],
            "only the lost copy moves"
        );
    }

    #[test]
    fn a_node_is_capable_of_what_its_manifest_says_it_has() {
        let models = [[1; 32], [2; 32]];
        let manifest = Manifest {
            chain: Vec::new().into(),
            addresses: Vec::new(),
            agent: String::new(),
            storage_bytes: 0,
            gpu_bytes: 8 << 30,
            models: models
                .iter()
                .map(model_entry)
                .chain([ram_entry(64 << 30), task_entry(&TopicId([9; 32]))])
                .collect(),
            up_since: 0,
        };
        let needs = |gpu_bytes, models: &[[u8; 32]]| Needs {
            gpu_bytes,
            models: models.to_vec(),
            ..Needs::default()
        };
        let ram = |ram_bytes| Needs {
            ram_bytes,
            ..Needs::default()
        };
        assert!(capable(&manifest, &ram(64 << 30)) && !capable(&manifest, &ram((64 << 30) + 1)));
        let silent = Manifest {
            models: vec!["ram:much".to_owned()],
            ..manifest.clone()
        };
        assert!(!capable(&silent, &ram(1)), "who says nothing has nothing");
        assert!(capable(&manifest, &Needs::default()));
        assert!(capable(&manifest, &needs(8 << 30, &models)));
        assert!(!capable(&manifest, &needs((8 << 30) + 1, &models)));
        assert!(!capable(&manifest, &needs(0, &[[1; 32], [3; 32]])));
        // Half of the hash is compared, and a manifest takes as many as it takes labels.
        assert_eq!(
            model_entry(&[0xab; 32]),
            format!("blake3:{}", "ab".repeat(16))
        );
    }

    #[test]
    fn a_required_region_gets_a_copy() {
        let members = world();
        for region in ["eu", "us"] {
            let mut policy = Policy::open();
            policy.copies = Some(1);
            policy.location.required_region = region.parse().ok();
            let chosen = place(&members, &policy);
            let at = members
                .iter()
                .find(|m| m.node() == chosen[0])
                .expect("a member");
            assert_eq!(at.region().as_str(), region);
        }
    }
}

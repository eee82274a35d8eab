//! Placement: which nodes hold a topic.
//!
//! A pure function of the topic's law and our view of the members, by rendezvous hashing (Thaler &
//! Ravishankar 1998), so that every node computes the same answer from the same facts and few topics
//! move when members come and go.
//!
//! Not here: moving the data (`replica`), deciding who may hold it (`decide`).

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

//! Decide: the one pure function that every use of a topic's data passes.
//!
//! It is asked at publish, admit, forward, store, provide, sync-serve and egress. What it does not
//! know it denies, and every denial says which rule of which topic it is, so that an operator can be
//! told and an auditor shown.
//!
//! Not here: where policies come from (`law`), what a denial does (`replica`, the surfaces).

use crate::certificate::Member;
use crate::identity::NodeId;
use crate::policy::Policy;
use crate::region::{Region, Regions};
use crate::time::Time;
use crate::topic::TopicName;

/// What is about to be done with a topic's data.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Op {
    /// The subject writes a record.
    Publish,
    /// The subject joins the topic's exchange.
    Admit,
    /// The subject is handed a record on its way to others.
    Forward,
    /// The subject keeps records on its disk.
    Store,
    /// The subject is announced as a holder.
    Provide,
    /// The subject is sent records that it asked for.
    Serve,
    /// Data leaves the hive through the subject: an answer, an export, a log.
    Egress,
}

/// What the law says of a topic.
#[derive(Clone, Copy, Debug)]
pub struct Label<'a> {
    /// The topic.
    pub topic: &'a TopicName,
    /// The policy in force.
    pub policy: &'a Policy,
    /// How many policies govern it so far.
    pub epoch: u64,
    /// The region data may not leave, where a policy says so.
    pub home: Option<&'a Region>,
}

/// Whose doing or receiving it is.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// The node.
    pub member: &'a Member,
    /// At what time its certificate must be in force.
    pub at: Time,
}

/// Why something may not be done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denial {
    /// No policy for the topic is known.
    #[error("no policy for this topic is known here, and what is not known is denied")]
    UnknownTopic,
    /// Part of the law cannot be read on this node, so all of it is in doubt.
    #[error(
        "{records} records of the law are damaged on this node, and what is not known is denied; they are fetched again from peers"
    )]
    LawDamaged {
        /// How many records.
        records: usize,
    },
    /// The node is no known member.
    #[error("node {node} has shown no certificate of this hive")]
    UnknownMember {
        /// The node.
        node: NodeId,
    },
    /// The region is not allowed.
    #[error("`{topic}` may rest only in {allowed}; {region} is not inside (rule: allowed_regions)")]
    Region {
        /// The topic.
        topic: TopicName,
        /// Where it may rest.
        allowed: Regions,
        /// Where the subject is.
        region: Region,
    },
    /// The data may not cross this border.
    #[error(
        "`{topic}` may not leave {home}; {region} lies across its border (rule: cross_border_allowed)"
    )]
    Border {
        /// The topic.
        topic: TopicName,
        /// Its home.
        home: Region,
        /// Where the subject is.
        region: Region,
    },
    /// The topic asks for encryption, which is not available.
    #[error(
        "`{topic}` requires encryption, which this version cannot do (rule: encryption_required)"
    )]
    Encryption {
        /// The topic.
        topic: TopicName,
    },
    /// The topic's location is restricted, and this node's store cannot give freed bytes back.
    #[error(
        "`{topic}` restricts where or how long its data may rest, and this node's store engine cannot remove it from the disk for good (rule: store_engine)"
    )]
    Engine {
        /// The topic.
        topic: TopicName,
    },
    /// The certificate does not cover the topic.
    #[error("the certificate of node {node} does not cover `{topic}`")]
    Scope {
        /// The topic.
        topic: TopicName,
        /// The subject.
        node: NodeId,
    },
    /// The certificate is not in force.
    #[error(
        "the certificate of node {node} is not in force (from {not_before} to {not_after}, in ms)"
    )]
    Expired {
        /// The subject.
        node: NodeId,
        /// In force from, in milliseconds since the Unix epoch.
        not_before: u64,
        /// In force until, in milliseconds since the Unix epoch.
        not_after: u64,
    },
    /// The node is not among those that may.
    #[error("node {node} is not among the {list} of `{topic}`")]
    Keyring {
        /// The topic.
        topic: TopicName,
        /// The subject.
        node: NodeId,
        /// `readers` or `writers`.
        list: &'static str,
    },
    /// The record was written under a law that is not known here yet.
    #[error(
        "`{topic}` is known here up to law {known}; the record was written under law {claimed}"
    )]
    Epoch {
        /// The topic.
        topic: TopicName,
        /// What we know.
        known: u64,
        /// What it claims.
        claimed: u64,
    },
    /// The body is longer than the topic takes.
    #[error("the body is {len} bytes long; `{topic}` takes {max}")]
    BodyLen {
        /// The topic.
        topic: TopicName,
        /// Its length.
        len: u32,
        /// The limit.
        max: u32,
    },
    /// Only the founder sets a topic's policy.
    #[error("`{topic}` was founded by node {founder}; its policy can be set only there")]
    NotFounder {
        /// The topic.
        topic: TopicName,
        /// The founder.
        founder: NodeId,
    },
    /// A child topic may not be wider than the topics above it.
    #[error("`{topic}` lies below `{above}` and may only narrow its policy")]
    Widens {
        /// The topic.
        topic: TopicName,
        /// The topic whose policy it would widen.
        above: TopicName,
    },
    /// The name belongs to the hive itself.
    #[error("`{topic}` is the hive's own topic")]
    Reserved {
        /// The topic.
        topic: TopicName,
    },
}

impl Denial {
    /// A stable name for scripts, logs and metrics.
    pub fn code(&self) -> &'static str {
        match self {
            Self::UnknownTopic => "unknown_topic",
            Self::LawDamaged { .. } => "law_damaged",
            Self::UnknownMember { .. } => "unknown_member",
            Self::Region { .. } => "region",
            Self::Border { .. } => "border",
            Self::Encryption { .. } => "encryption",
            Self::Engine { .. } => "store_engine",
            Self::Scope { .. } => "scope",
            Self::Expired { .. } => "expired",
            Self::Keyring { .. } => "keyring",
            Self::Epoch { .. } => "epoch",
            Self::BodyLen { .. } => "body_len",
            Self::NotFounder { .. } => "not_founder",
            Self::Widens { .. } => "widens",
            Self::Reserved { .. } => "reserved",
        }
    }
}

/// Whether `subject` may do `op` with data labelled `label` and written under law `epoch`.
///
/// Pure: the same arguments give the same answer on every node, in the simulator and in an audit.
pub fn decide(op: Op, label: Label<'_>, subject: Subject<'_>, epoch: u64) -> Result<(), Denial> {
    let Label { topic, policy, .. } = label;
    let member = subject.member;
    let grant = member.grant();
    if !member.valid_at(subject.at) {
        let (not_before, not_after) = (grant.not_before, grant.not_after);
        return Err(Denial::Expired {
            node: member.node(),
            not_before,
            not_after,
        });
    }
    if epoch > label.epoch {
        let (known, claimed) = (label.epoch, epoch);
        return Err(Denial::Epoch {
            topic: topic.clone(),
            known,
            claimed,
        });
    }
    if !member.covers(topic) {
        return Err(Denial::Scope {
            topic: topic.clone(),
            node: member.node(),
        });
    }
    allowed_in(label, member.region())?;
    let (keyring, list) = match op {
        Op::Publish => (&policy.writers, "writers"),
        _ => (&policy.readers, "readers"),
    };
    if keyring.contains(&member.node().0) {
        Ok(())
    } else {
        Err(Denial::Keyring {
            topic: topic.clone(),
            node: member.node(),
            list,
        })
    }
}

/// Whether data labelled `label` may be in `region` at all: the part of [`decide`] that needs no
/// subject, asked by `policy explain --to REGION`.
pub fn allowed_in(label: Label<'_>, region: &Region) -> Result<(), Denial> {
    let Label {
        topic,
        policy,
        home,
        ..
    } = label;
    let location = &policy.location;
    if !location.cross_border_allowed
        && let Some(home) = home
        && home.top() != region.top()
    {
        let home = home.top();
        return Err(Denial::Border {
            topic: topic.clone(),
            home,
            region: region.clone(),
        });
    }
    if !location.allowed_regions.contains(region) {
        let allowed = location.allowed_regions.clone();
        return Err(Denial::Region {
            topic: topic.clone(),
            allowed,
            region: region.clone(),
        });
    }
    if location.encryption_required {
        return Err(Denial::Encryption {
            topic: topic.clone(),
        });
    }
    Ok(())
}

/// Whether data labelled `label` may lie in a store that gives freed bytes back (`erases`), or does
/// not. Only the node itself knows its engine, so this is its own part of the decision to hold.
pub fn keepable(label: Label<'_>, erases: bool) -> Result<(), Denial> {
    if !erases && label.policy.location.is_restricted() {
        let topic = label.topic.clone();
        return Err(Denial::Engine { topic });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certificate::tests::member;
    use crate::identity::Keys;
    use crate::policy::tests::policy;
    use crate::region::tests::region;
    use proptest::prelude::*;

    const OPS: [Op; 7] = [
        Op::Publish,
        Op::Admit,
        Op::Forward,
        Op::Store,
        Op::Provide,
        Op::Serve,
        Op::Egress,
    ];

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// I3: whatever else a policy says, no operation is allowed outside its regions, and
        /// narrowing a policy never turns a denial into a permission.
        #[test]
        fn nothing_is_allowed_outside_and_narrowing_never_widens(
            wide in policy(), other in policy(), at in region(),
        ) {
            let (root, node) = (Keys::from_secret(&[1; 32]), Keys::from_secret(&[2; 32]));
            let member = member(&root, &node, at.as_str());
            let topic: TopicName = "t".parse().expect("legal");
            let subject = Subject { member: &member, at: Time::ZERO };
            let narrow = wide.meet(&other);
            for op in OPS {
                let ask = |policy| decide(op, Label { topic: &topic, policy, epoch: 1, home: None }, subject, 1);
                if !wide.location.allowed_regions.contains(&at) {
                    prop_assert!(ask(&wide).is_err());
                }
                if ask(&wide).is_err() {
                    prop_assert!(ask(&narrow).is_err());
                }
            }
        }
    }

    #[test]
    fn an_unknown_law_and_a_lapsed_certificate_are_denied() {
        let (root, node) = (Keys::from_secret(&[1; 32]), Keys::from_secret(&[2; 32]));
        let member = member(&root, &node, "eu");
        let (topic, policy) = ("t".parse().expect("legal"), Policy::open());
        let label = Label {
            topic: &topic,
            policy: &policy,
            epoch: 1,
            home: None,
        };
        let subject = Subject {
            member: &member,
            at: Time::from_millis(5),
        };
        assert_eq!(decide(Op::Store, label, subject, 1), Ok(()));
        assert!(matches!(
            decide(Op::Store, label, subject, 2),
            Err(Denial::Epoch { .. })
        ));
    }
}

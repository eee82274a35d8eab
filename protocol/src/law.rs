//! The law: members and policies, folded from the hive's own topic.
//!
//! Every node keeps the topic `aquifer/hive` whole. Its manifests say who is a member, its foundings
//! say under which policy each topic stands. The fold is a pure function of the set of records, so
//! every node that has the same records has the same law.
//!
//! A topic's policy in force is the meet of the latest policy of each founder of the topic and of
//! each topic above it. Until there is a council, two nodes that found one topic before they meet
//! are both its founders, and their policies narrow each other: safe, and shown by `doctor`.
//!
//! Not here: how it is folded (`fold`), asking the law (`decide`), spreading it (`replica`).

mod fold;

use crate::body::{Founding, Kind, Manifest};
use crate::certificate::{Member, OpenChain};
use crate::decide::{Denial, Label, Op, Subject, decide};
use crate::identity::{HiveId, NodeId};
use crate::limits::TOPICS_MAX;
use crate::log::LogKey;
use crate::policy::Policy;
use crate::record::{Header, Record, RecordId, Seq};
use crate::region::Region;
use crate::time::Stamp;
use crate::topic::{TopicId, TopicName};
use std::collections::{BTreeMap, BTreeSet};

/// What is known of members and topics.
#[derive(Clone, Debug)]
pub struct Law {
    hive: HiveId,
    hive_id: TopicId,
    hive_topic: TopicName,
    hive_policy: Policy,
    certificates: BTreeMap<[u8; 32], Member>,
    members: BTreeMap<NodeId, Known>,
    foundings: BTreeMap<TopicName, Foundings>,
    topics: BTreeMap<TopicId, TopicLaw>,
    names: BTreeMap<TopicName, TopicId>,
    /// Records of the hive's topic that this node has and cannot read: what they said is unknown.
    damaged: BTreeSet<(LogKey, Seq)>,
    /// Topics whose history turned out to be another than was known.
    rewritten: BTreeSet<TopicId>,
    revision: u64,
}

/// All policies of one topic, in the order in which they count.
type Foundings = BTreeMap<(Stamp, RecordId), (NodeId, Founding)>;

/// A member and what it last said of itself.
#[derive(Clone, Debug)]
pub struct Known {
    /// The member, by its latest certificate.
    pub member: Member,
    /// Its latest manifest.
    pub manifest: Manifest,
    /// When it said so.
    pub stamp: Stamp,
    /// In which record. Of two with one stamp (a copied disk) the higher id counts, everywhere.
    pub record: RecordId,
}

/// The law of one topic.
#[derive(Clone, Debug)]
pub struct TopicLaw {
    /// Its name.
    pub name: TopicName,
    /// Who founded it; more than one if founders had not met.
    pub founders: Vec<NodeId>,
    /// Its founders' own latest policies, before inheritance.
    pub own: Vec<(NodeId, RecordId, Founding)>,
    /// The policy in force after each change; the last is in force now.
    pub versions: Vec<Policy>,
    /// The region that data may not leave, where a policy of this topic or one above it says so.
    pub home: Option<Region>,
    /// Everyone whose policy counts here: founders of this topic and of those above it.
    pub governors: BTreeSet<NodeId>,
}

impl TopicLaw {
    /// The policy in force.
    pub fn policy(&self) -> &Policy {
        self.versions
            .last()
            .expect("a topic is known by its first version")
    }

    /// How many policies govern it so far.
    pub fn epoch(&self) -> u64 {
        self.versions.len() as u64
    }

    /// What `decide` is asked about, under the law now in force.
    pub fn label(&self) -> Label<'_> {
        Label {
            topic: &self.name,
            policy: self.policy(),
            epoch: self.epoch(),
            home: self.home.as_ref(),
        }
    }
}

/// Why a record of the hive's topic teaches nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LearnRecord {
    /// The manifest's chain is not good.
    #[error(transparent)]
    Chain(#[from] OpenChain),
    /// The manifest is about another node than its writer.
    #[error("the manifest is not its writer's own")]
    NotOwn,
    /// It would be a topic too many.
    #[error("there are {TOPICS_MAX} topics already")]
    TooManyTopics,
    /// It founds one of the hive's own topics.
    #[error("the topic is the hive's own")]
    Reserved,
}

impl Law {
    /// Nothing but the hive's root and its own topic.
    pub fn new(hive: HiveId) -> Self {
        Self {
            hive,
            hive_id: TopicName::hive().id(&hive),
            hive_topic: TopicName::hive(),
            hive_policy: Policy::open(),
            certificates: BTreeMap::new(),
            members: BTreeMap::new(),
            foundings: BTreeMap::new(),
            topics: BTreeMap::new(),
            names: BTreeMap::new(),
            damaged: BTreeSet::new(),
            rewritten: BTreeSet::new(),
            revision: 0,
        }
    }

    /// The hive's root.
    pub fn hive(&self) -> &HiveId {
        &self.hive
    }

    /// Rises with everything learnt: a cheap way to see that the law has changed.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// The label of `topic`, if its law is known.
    pub fn label(&self, topic: TopicId) -> Result<Label<'_>, Denial> {
        if topic == self.hive_id {
            let (topic, policy) = (&self.hive_topic, &self.hive_policy);
            return Ok(Label {
                topic,
                policy,
                epoch: 0,
                home: None,
            });
        }
        let law = self.topics.get(&topic).ok_or(Denial::UnknownTopic)?;
        if !self.damaged.is_empty() {
            return Err(Denial::LawDamaged {
                records: self.damaged.len(),
            });
        }
        Ok(law.label())
    }

    /// Whether a law that is or was in force lets `member` write this. By which of them it was written
    /// nobody can tell: a policy that comes to be known late may count before others, and then a
    /// header's epoch, which counts those that its writer knew, means another law to another node.
    ///
    /// # Errors
    /// What the law in force has against it.
    pub fn may_write(&self, header: &Header, member: &Member) -> Result<(), Denial> {
        let at = header.stamp.time();
        let under = |label: Label<'_>| {
            decide(
                Op::Publish,
                label,
                Subject { member, at },
                header.policy_epoch,
            )?;
            let (len, max) = (header.body_len, label.policy.body_bytes_max);
            if len > max && header.kind != Kind::ERASE {
                let topic = label.topic.clone();
                return Err(Denial::BodyLen { topic, len, max });
            }
            Ok(())
        };
        let label = self.label(header.topic)?;
        under(label).or_else(|why| {
            let law = self.topics.get(&header.topic);
            let mut former = law.iter().flat_map(|law| law.versions.iter().rev().skip(1));
            // Where a border was drawn, it is in the policy: its home is not that of today.
            let then = |policy| Label {
                policy,
                home: None,
                ..label
            };
            let lawful = former.any(|policy| under(then(policy)).is_ok());
            if lawful { Ok(()) } else { Err(why) }
        })
    }

    /// Whether every record of the hive's topic that this node has can be read. If not, every topic is
    /// closed here until it is mended.
    pub fn is_whole(&self) -> bool {
        self.damaged.is_empty()
    }

    /// A record of the hive's topic cannot be read: until it is mended, every topic is closed, since
    /// it might have narrowed any of them.
    pub(crate) fn damage(&mut self, place: (LogKey, Seq)) {
        self.damaged.insert(place);
        self.revision += 1;
    }

    /// A record of the hive's topic can be read again. True if that makes the law whole.
    pub(crate) fn mend(&mut self, place: &(LogKey, Seq)) -> bool {
        let mended = self.damaged.remove(place);
        self.revision += u64::from(mended);
        mended && self.damaged.is_empty()
    }

    /// The law of `topic`.
    pub fn topic(&self, topic: TopicId) -> Option<&TopicLaw> {
        self.topics.get(&topic)
    }

    /// The law of the topic called `name`.
    pub fn named(&self, name: &TopicName) -> Option<&TopicLaw> {
        self.topics.get(self.names.get(name)?)
    }

    /// All topics but the hive's own.
    pub fn topics(&self) -> impl Iterator<Item = (TopicId, &TopicLaw)> {
        self.topics.iter().map(|(id, law)| (*id, law))
    }

    /// The member whose certificate chain hashes to `cap_hash`.
    pub fn certificate(&self, cap_hash: &[u8; 32]) -> Option<&Member> {
        self.certificates.get(cap_hash)
    }

    /// What is known of `node`.
    pub fn member(&self, node: &NodeId) -> Option<&Known> {
        self.members.get(node)
    }

    /// All members.
    pub fn members(&self) -> impl Iterator<Item = (&NodeId, &Known)> {
        self.members.iter()
    }

    /// True if some member or rule names `region`, a region above it or one below it.
    pub fn knows_region(&self, region: &Region) -> bool {
        self.members.values().any(|known| {
            region.covers(known.member.region()) || known.member.region().covers(region)
        })
    }

    /// Remembers a certificate, whoever showed it.
    pub fn admit(&mut self, member: &Member) {
        self.certificates.insert(member.cap_hash(), member.clone());
    }

    /// The topics whose history was rewritten since this was asked last: a policy came to be known that
    /// counts before others that were known already, or one is no more. What was judged by what was
    /// known then is to be judged again.
    pub fn take_rewritten(&mut self) -> BTreeSet<TopicId> {
        core::mem::take(&mut self.rewritten)
    }

    /// Marks all topics as rewritten.
    pub(crate) fn suspect_all(&mut self) {
        self.rewritten = self.topics.keys().copied().collect();
    }

    /// Learns a manifest from `record`. Returns the topics whose law it changed, or `None` if it is
    /// no news.
    pub fn learn_manifest(
        &mut self,
        record: &Record,
        manifest: &Manifest,
    ) -> Result<Option<Vec<TopicId>>, LearnRecord> {
        let member = manifest.member(&self.hive)?;
        if member.node() != record.header().writer {
            return Err(LearnRecord::NotOwn);
        }
        self.admit(&member);
        let stamp = record.header().stamp;
        if self
            .members
            .get(&member.node())
            .is_some_and(|known| (known.stamp, known.record) >= (stamp, record.id()))
        {
            return Ok(None);
        }
        let node = member.node();
        self.members.insert(
            node,
            Known {
                member,
                manifest: manifest.clone(),
                stamp,
                record: record.id(),
            },
        );
        self.revision += 1;
        Ok(Some(self.refold(|law| law.governors.contains(&node))))
    }

    /// Learns a policy from `record`. Returns the topics whose law it changed.
    pub fn learn_founding(
        &mut self,
        record: &Record,
        founding: &Founding,
    ) -> Result<Vec<TopicId>, LearnRecord> {
        if founding.topic.is_reserved() {
            return Err(LearnRecord::Reserved);
        }
        if self.names.len() >= TOPICS_MAX && !self.names.contains_key(&founding.topic) {
            return Err(LearnRecord::TooManyTopics);
        }
        let header = record.header();
        let place = (header.stamp, record.id());
        let of_topic = self.foundings.entry(founding.topic.clone()).or_default();
        if of_topic
            .insert(place, (header.writer, founding.clone()))
            .is_some()
        {
            return Ok(Vec::new());
        }
        self.revision += 1;
        self.names
            .insert(founding.topic.clone(), founding.topic.id(&self.hive));
        let below: Vec<TopicName> = self
            .names
            .keys()
            .filter(|name| founding.topic.covers(name))
            .cloned()
            .collect();
        Ok(below.iter().map(|name| self.fold_topic(name)).collect())
    }

    /// Forgets what `record` taught: its log turned out to be forked before it. Returns the topics
    /// whose law it may have changed.
    pub fn unlearn_founding(&mut self, record: &Record, founding: &Founding) -> Vec<TopicId> {
        let place = (record.header().stamp, record.id());
        if let Some(of_topic) = self.foundings.get_mut(&founding.topic) {
            of_topic.remove(&place);
            if of_topic.is_empty() {
                self.foundings.remove(&founding.topic);
                if let Some(id) = self.names.remove(&founding.topic) {
                    self.topics.remove(&id);
                }
            }
            self.revision += 1;
            self.refold(|law| founding.topic.covers(&law.name));
        }
        let below = self
            .topics
            .iter()
            .filter(|(_, law)| founding.topic.covers(&law.name));
        below.map(|(id, _)| *id).collect()
    }

    /// Whether a policy for `topic` by `founder` would be law, and as which version.
    pub fn may_found(
        &self,
        topic: &TopicName,
        policy: &Policy,
        founder: NodeId,
    ) -> Result<u64, Denial> {
        if topic.is_reserved() {
            return Err(Denial::Reserved {
                topic: topic.clone(),
            });
        }
        if policy.location.encryption_required {
            return Err(Denial::Encryption {
                topic: topic.clone(),
            });
        }
        for above in topic.ancestors() {
            if let Some(law) = self.named(&above)
                && !policy.narrows(law.policy())
            {
                return Err(Denial::Widens {
                    topic: topic.clone(),
                    above,
                });
            }
        }
        let Some(law) = self.named(topic) else {
            return Ok(1);
        };
        match law.own.iter().find(|(by, ..)| *by == founder) {
            Some((_, _, founding)) => Ok(founding.version + 1),
            None => {
                let founder = *law.founders.first().expect("a topic has a founder");
                Err(Denial::NotFounder {
                    topic: topic.clone(),
                    founder,
                })
            }
        }
    }
}

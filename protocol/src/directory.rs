//! The directory: what a node may say of itself, and of topics, in a distributed hash table.
//!
//! A directory is a hint and nothing rests on it: whoever it names is dialled and must pass
//! admission. It holds two things. A **node record** says where a node listens, signed by that node,
//! good for an hour at most, under a key made of its id. A **provider record** says that a node
//! holds a topic, under a key made of the hive and the topic; its bytes are the transport's, its
//! rule is here: never for a topic that is restricted in any way, since the record itself would
//! tell others who holds it (S/Kademlia, 2007, on why what a table says is checked by its reader).
//!
//! Not here: the table (`node/src/net`), when records are put and looked up (`node/src/discovery`).

use crate::decide::{Denial, Label, Op, Subject, decide};
use crate::identity::{HiveId, Keys, NodeId, Signature, digest, verify};
use crate::limits::{
    ADDRESS_BYTES_MAX, ADDRESSES_MAX, FUTURE_MAX, NODE_RECORD_BYTES_MAX, NODE_RECORD_LIFE_MAX,
};
use crate::policy::{Keyring, Policy};
use crate::region::{Region, Regions};
use crate::time::Time;
use crate::topic::TopicId;
use minicbor::{Decode, Encode};

const NODE_DOMAIN: &str = "aquifer/kad/node/1";
const TOPIC_DOMAIN: &str = "aquifer/kad/topic/1";

/// The key of a node's record: `H("aquifer/kad/node/1", node)`.
pub fn node_key(node: &NodeId) -> [u8; 32] {
    digest(NODE_DOMAIN, &[node.as_bytes()])
}

/// The key of a topic's provider records: `H("aquifer/kad/topic/1", hive, topic)`.
pub fn topic_key(hive: &HiveId, topic: &TopicId) -> [u8; 32] {
    digest(TOPIC_DOMAIN, &[hive.as_bytes(), topic.as_bytes()])
}

/// Where a node listens, as it says itself.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct NodeRecord {
    #[n(0)]
    version: u8,
    /// The node.
    #[n(1)]
    pub node: NodeId,
    /// Its hive.
    #[n(2)]
    pub hive: HiveId,
    /// Its region. A claim: what counts is the certificate it shows when it is dialled.
    #[n(3)]
    pub region: Region,
    /// Multiaddrs at which it listens, at most 16.
    #[n(4)]
    pub addresses: Vec<String>,
    /// When it was signed, in milliseconds since the Unix epoch. Of two records the later counts.
    #[n(5)]
    pub stamp: u64,
    /// Not good after, in milliseconds since the Unix epoch: at most an hour after `stamp`.
    #[n(6)]
    pub expires: u64,
}

#[derive(Encode, Decode)]
struct Signed {
    #[n(0)]
    record: NodeRecord,
    #[cbor(n(1), with = "minicbor::bytes")]
    signature: Signature,
}

/// Why a node record was turned away.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenNodeRecord {
    /// It is longer than allowed, or not the canonical encoding of version 1.
    #[error("the node record is malformed")]
    Malformed,
    /// It lies under a key that is not its node's.
    #[error("the node record lies under another node's key")]
    Key,
    /// It is of another hive.
    #[error("the node record is of hive {theirs}")]
    Hive {
        /// The hive it names.
        theirs: HiveId,
    },
    /// It lists too much, or is good for too long.
    #[error("the node record lists too many addresses or is good for more than an hour")]
    Bounds,
    /// Its time is over, or has not come.
    #[error("the node record is not in force (from {stamp} to {expires}, in ms)")]
    Expired {
        /// Signed at.
        stamp: u64,
        /// Good until.
        expires: u64,
    },
    /// Its node did not sign it.
    #[error("the node record is not signed by its node")]
    Signature,
}

impl NodeRecord {
    /// What a node says of itself at `now`: the first 16 of `addresses` that are not too long, good
    /// for an hour.
    pub fn new(
        node: NodeId,
        hive: HiveId,
        region: Region,
        addresses: &[String],
        now: Time,
    ) -> Self {
        let short = |addr: &&String| addr.len() <= ADDRESS_BYTES_MAX;
        let life = u64::try_from(NODE_RECORD_LIFE_MAX.as_millis()).expect("an hour fits");
        Self {
            version: 1,
            node,
            hive,
            region,
            addresses: addresses
                .iter()
                .filter(short)
                .take(ADDRESSES_MAX)
                .cloned()
                .collect(),
            stamp: now.millis(),
            expires: now.millis() + life,
        }
    }

    /// The bytes to put under [`node_key`].
    pub fn sign(self, keys: &Keys) -> Vec<u8> {
        let signature = keys.sign(&signed_bytes(&self));
        let signed = Signed {
            record: self,
            signature,
        };
        minicbor::to_vec(&signed).expect("a vector takes any encoding")
    }

    /// Opens what was found under `key`. Cheap checks first: a signature is looked at last.
    ///
    /// # Errors
    /// [`OpenNodeRecord`], for whatever a stranger may have put there.
    pub fn open(
        bytes: &[u8],
        key: &[u8],
        hive: &HiveId,
        now: Time,
    ) -> Result<Self, OpenNodeRecord> {
        if bytes.len() > NODE_RECORD_BYTES_MAX {
            return Err(OpenNodeRecord::Malformed);
        }
        let signed: Signed = minicbor::decode(bytes).map_err(|_| OpenNodeRecord::Malformed)?;
        let again = minicbor::to_vec(&signed).expect("a vector takes any encoding");
        let Signed { record, signature } = signed;
        if record.version != 1 || again != bytes {
            return Err(OpenNodeRecord::Malformed);
        }
        if node_key(&record.node) != *key {
            return Err(OpenNodeRecord::Key);
        }
        if record.hive != *hive {
            return Err(OpenNodeRecord::Hive {
                theirs: record.hive,
            });
        }
        record.check_bounds()?;
        record.check_time(now)?;
        if verify(record.node.as_bytes(), &signed_bytes(&record), &signature) {
            Ok(record)
        } else {
            Err(OpenNodeRecord::Signature)
        }
    }

    fn check_bounds(&self) -> Result<(), OpenNodeRecord> {
        let short = self
            .addresses
            .iter()
            .all(|addr| addr.len() <= ADDRESS_BYTES_MAX);
        let life = u128::from(self.expires.saturating_sub(self.stamp));
        let brief = life <= NODE_RECORD_LIFE_MAX.as_millis();
        if self.addresses.len() <= ADDRESSES_MAX && short && brief {
            Ok(())
        } else {
            Err(OpenNodeRecord::Bounds)
        }
    }

    fn check_time(&self, now: Time) -> Result<(), OpenNodeRecord> {
        let ahead = u128::from(self.stamp.saturating_sub(now.millis()));
        if ahead <= FUTURE_MAX.as_millis() && now.millis() < self.expires {
            Ok(())
        } else {
            Err(OpenNodeRecord::Expired {
                stamp: self.stamp,
                expires: self.expires,
            })
        }
    }
}

fn signed_bytes(record: &NodeRecord) -> Vec<u8> {
    let mut bytes = NODE_DOMAIN.as_bytes().to_vec();
    bytes.push(0);
    minicbor::encode(record, &mut bytes).expect("a vector takes any encoding");
    bytes
}

/// Why a topic gets no provider record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unlisted {
    /// The law does not let this node be announced as a holder.
    #[error(transparent)]
    Denied(Denial),
    /// The topic is restricted, so who holds it is nobody else's business.
    #[error("the topic is restricted, and restricted topics are in no directory")]
    Restricted,
}

/// Whether `subject` may be listed in a directory as a holder of the topic: only where the law
/// lets it be announced, and the topic is open to every member everywhere without condition.
///
/// # Errors
/// [`Unlisted`]: what is not known to be open is not listed.
pub fn may_list(label: Label<'_>, subject: Subject<'_>) -> Result<(), Unlisted> {
    decide(Op::Provide, label, subject, label.epoch).map_err(Unlisted::Denied)?;
    if is_open(label.policy) && label.home.is_none() {
        Ok(())
    } else {
        Err(Unlisted::Restricted)
    }
}

fn is_open(policy: &Policy) -> bool {
    let location = &policy.location;
    location.allowed_regions == Regions::Anywhere
        && location.required_region.is_none()
        && location.cross_border_allowed
        && !location.encryption_required
        && policy.copies.is_none()
        && policy.readers == Keyring::Members
        && policy.writers == Keyring::Members
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certificate::{Chain, Grant, Member, role};
    use crate::topic::TopicName;

    const HIVE: HiveId = HiveId([9; 32]);
    const NOW: Time = Time::from_millis(1_790_000_000_000);

    fn keys() -> Keys {
        Keys::from_secret(&[1; 32])
    }

    fn record() -> NodeRecord {
        let addresses = vec!["/ip4/192.0.2.1/udp/27471/quic-v1".to_owned()];
        let region = "eu/fr".parse().expect("legal");
        NodeRecord::new(keys().node(), HIVE, region, &addresses, NOW)
    }

    fn open(bytes: &[u8]) -> Result<NodeRecord, OpenNodeRecord> {
        NodeRecord::open(bytes, &node_key(&keys().node()), &HIVE, NOW)
    }

    #[test]
    fn a_node_record_is_good_under_its_own_key_while_its_time_lasts() {
        let bytes = record().sign(&keys());
        assert_eq!(Ok(record()), open(&bytes));
        let key = node_key(&keys().node());
        let at = |ms: u64| NodeRecord::open(&bytes, &key, &HIVE, Time::from_millis(ms));
        let expired = |found| matches!(found, Err(OpenNodeRecord::Expired { .. }));
        assert!(
            at(NOW.millis() - 60_000).is_ok(),
            "clocks may differ by a minute"
        );
        assert!(expired(at(NOW.millis() - 60_001)));
        assert!(at(NOW.millis() + 3_599_999).is_ok());
        assert!(expired(at(NOW.millis() + 3_600_000)));
    }

    #[test]
    fn a_record_of_another_key_hive_or_signer_is_turned_away() {
        let bytes = record().sign(&keys());
        let elsewhere = NodeRecord::open(&bytes, &[0; 32], &HIVE, NOW);
        assert_eq!(Err(OpenNodeRecord::Key), elsewhere);
        let key = node_key(&keys().node());
        let foreign = NodeRecord::open(&bytes, &key, &HiveId([8; 32]), NOW);
        assert_eq!(Err(OpenNodeRecord::Hive { theirs: HIVE }), foreign);
        let forged = record().sign(&Keys::from_secret(&[2; 32]));
        assert_eq!(Err(OpenNodeRecord::Signature), open(&forged));
    }

    #[test]
    fn no_bit_of_a_record_can_be_flipped() {
        let bytes = record().sign(&keys());
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut flipped = bytes.clone();
                flipped[at] ^= 1 << bit;
                assert!(open(&flipped).is_err(), "byte {at}, bit {bit}");
            }
        }
        assert_eq!(Err(OpenNodeRecord::Malformed), open(&bytes[1..]));
        let longer = [&bytes[..], &[0]].concat();
        assert_eq!(Err(OpenNodeRecord::Malformed), open(&longer));
    }

    #[test]
    fn a_record_that_claims_too_much_is_turned_away() {
        let mut long = record();
        long.expires += 1;
        assert_eq!(Err(OpenNodeRecord::Bounds), open(&long.sign(&keys())));
        let mut many = record();
        many.addresses = vec!["/ip4/192.0.2.1/tcp/1".to_owned(); ADDRESSES_MAX + 1];
        assert_eq!(Err(OpenNodeRecord::Bounds), open(&many.sign(&keys())));
        let mut wide = record();
        wide.addresses = vec!["x".repeat(NODE_RECORD_BYTES_MAX)];
        assert_eq!(Err(OpenNodeRecord::Malformed), open(&wide.sign(&keys())));
        let all = vec!["x".repeat(ADDRESS_BYTES_MAX); 2 * ADDRESSES_MAX];
        let region = "a".repeat(64).parse().expect("legal");
        let largest = NodeRecord::new(keys().node(), HIVE, region, &all, NOW);
        assert!(
            open(&largest.sign(&keys())).is_ok(),
            "the largest legal record fits"
        );
    }

    fn member() -> Member {
        let root = Keys::from_secret(&[3; 32]);
        let grant = Grant {
            hive: HiveId(root.public()),
            subject: keys().node(),
            region: Some("eu".parse().expect("legal")),
            topics: None,
            roles: role::ALL,
            may_issue: false,
            not_before: 0,
            not_after: u64::MAX,
            serial: 1,
        };
        let chain = Chain::rooted(&root, grant);
        chain.check(&HiveId(root.public())).expect("good")
    }

    #[test]
    fn provider_records_never_for_restricted_topics() {
        let topic: TopicName = "acme/open".parse().expect("legal");
        let member = member();
        let subject = Subject {
            member: &member,
            at: NOW,
        };
        let list = |policy: &Policy, home: Option<&Region>| {
            let label = Label {
                topic: &topic,
                policy,
                epoch: 1,
                home,
            };
            may_list(label, subject)
        };
        assert_eq!(Ok(()), list(&Policy::open(), None));

        let eu: Region = "eu".parse().expect("legal");
        let restricted: [fn(&mut Policy); 6] = [
            |p| p.location.allowed_regions = Regions::only(["eu".parse().expect("legal")]),
            |p| p.location.required_region = Some("eu".parse().expect("legal")),
            |p| p.location.cross_border_allowed = false,
            |p| p.copies = Some(3),
            |p| p.readers = Keyring::Only([keys().public()].into()),
            |p| p.writers = Keyring::Only([keys().public()].into()),
        ];
        for (number, restrict) in restricted.into_iter().enumerate() {
            let mut policy = Policy::open();
            restrict(&mut policy);
            assert_eq!(
                Err(Unlisted::Restricted),
                list(&policy, None),
                "rule {number}"
            );
        }
        assert_eq!(Err(Unlisted::Restricted), list(&Policy::open(), Some(&eu)));
        let mut sealed = Policy::open();
        sealed.location.encryption_required = true;
        assert!(list(&sealed, None).is_err());
        let us = Policy::within(Regions::only(["us".parse().expect("legal")]));
        assert!(matches!(
            list(&us, None),
            Err(Unlisted::Denied(Denial::Region { .. }))
        ));
    }
}

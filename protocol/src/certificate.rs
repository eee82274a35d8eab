//! Certificates: who is a member, in which region, for which topics.
//!
//! A chain runs root → region authority (→ region authority …) → node. Each link is signed by the
//! key that the link before it certifies, and grants no more than that link had: region, topics,
//! roles, expiry and the right to issue only narrow on the way down. [`Chain::open`] is the only way
//! to a [`Member`], so whoever holds a `Member` holds a checked one.
//!
//! Not here: the handshake that carries chains (`node/src/admission.rs`), revocation (the Council).

use crate::identity::{HiveId, Keys, NodeId, Signature, digest, verify};
use crate::limits::{CHAIN_BYTES_MAX, CHAIN_DEPTH_MAX, PATH_SEGMENTS_MAX};
use crate::region::{Region, Regions};
use crate::time::Time;
use crate::topic::TopicName;
use minicbor::{Decode, Encode};
use std::sync::Arc;

const DOMAIN: &str = "aquifer/cert/1";

/// What a node may be to others, as bits of [`Grant::roles`].
pub mod role {
    /// Answers newcomers, relays and issues certificates in its region.
    pub const SEED: u32 = 1;
    /// Holds other people's topics.
    pub const POD_HOST: u32 = 1 << 1;
    /// Runs agents and models.
    pub const COMPUTE: u32 = 1 << 2;
    /// Serves edge devices.
    pub const GATEWAY: u32 = 1 << 3;
    /// Answers recall for topics it holds.
    pub const INDEX: u32 = 1 << 4;
    /// Carries records between regions.
    pub const BRIDGE: u32 = 1 << 5;
    /// All of them.
    pub const ALL: u32 = (1 << 6) - 1;
    /// Each role's name, in the order of its bit.
    pub const NAMES: [&str; 6] = ["seed", "pod-host", "compute", "gateway", "index", "bridge"];

    /// The bit of the role called `name`.
    pub fn from_name(name: &str) -> Option<u32> {
        NAMES.iter().position(|n| *n == name).map(|bit| 1 << bit)
    }

    /// The names of the roles in `roles`.
    pub fn names(roles: u32) -> Vec<&'static str> {
        NAMES
            .iter()
            .enumerate()
            .filter(|(bit, _)| roles & (1 << bit) != 0)
            .map(|(_, n)| *n)
            .collect()
    }
}

/// What one certificate grants to its subject.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct Grant {
    /// The hive it is valid in.
    #[n(0)]
    pub hive: HiveId,
    /// The key it is for.
    #[n(1)]
    pub subject: NodeId,
    /// The region it is for: where a node is, or the highest region an authority answers for.
    /// Absent only for an authority over all regions.
    #[n(2)]
    pub region: Option<Region>,
    /// Topics it is for: these and all below them; every topic if absent.
    #[n(3)]
    pub topics: Option<Vec<TopicName>>,
    /// Bits of [`role`].
    #[n(4)]
    pub roles: u32,
    /// Whether the subject may certify others.
    #[n(5)]
    pub may_issue: bool,
    /// Not valid before, in milliseconds since the Unix epoch.
    #[n(6)]
    pub not_before: u64,
    /// Not valid after, in milliseconds since the Unix epoch.
    #[n(7)]
    pub not_after: u64,
    /// Drawn at random, to name this certificate in a revocation.
    #[n(8)]
    pub serial: u64,
}

#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
struct Link {
    #[n(0)]
    grant: Grant,
    #[cbor(n(1), with = "minicbor::bytes")]
    signature: Signature,
}

#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
struct Links {
    #[n(0)]
    version: u8,
    #[n(1)]
    links: Vec<Link>,
}

/// Certificates from the root's first to a node's own, as bytes that travel.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Chain {
    links: Vec<Link>,
}

/// Why a chain was turned away.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenChain {
    /// It is not the canonical encoding of a chain.
    #[error("the certificate chain is malformed")]
    Malformed,
    /// It has no links, or more than eight.
    #[error("the certificate chain has {links} links; 1 to {CHAIN_DEPTH_MAX} are allowed")]
    Depth {
        /// How many it has.
        links: usize,
    },
    /// It belongs to another hive.
    #[error("the certificate is of hive {theirs}, not of {ours}")]
    WrongHive {
        /// Our hive.
        ours: HiveId,
        /// The hive it names.
        theirs: HiveId,
    },
    /// A signature in it is wrong.
    #[error("certificate {link} of the chain is not signed by the key before it")]
    Signature {
        /// Which link, counted from the root's.
        link: usize,
    },
    /// A link grants what the link before it did not have.
    #[error("certificate {link} of the chain grants more than the one before it")]
    Widened {
        /// Which link, counted from the root's.
        link: usize,
    },
    /// Its subject may not be a node: it names no region.
    #[error("the certificate names no region")]
    NoRegion,
}

/// A node whose chain has been checked against the hive's root.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Member(Arc<Checked>);

#[derive(PartialEq, Eq, Debug)]
struct Checked {
    grant: Grant,
    region: Region,
    regions: Regions,
    hash: [u8; 32],
    bytes: Vec<u8>,
}

impl Chain {
    /// The chain of an authority or node certified directly by the hive's root.
    pub fn rooted(root: &Keys, mut grant: Grant) -> Self {
        grant.hive = HiveId(root.public());
        Self {
            links: vec![Link::sign(root, grant)],
        }
    }

    /// This chain and one link more, signed by `issuer`, the key this chain certifies.
    #[must_use]
    pub fn extended(&self, issuer: &Keys, grant: Grant) -> Self {
        let mut links = self.links.clone();
        links.push(Link::sign(issuer, grant));
        Self { links }
    }

    /// The canonical bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let links = Links {
            version: 1,
            links: self.links.clone(),
        };
        minicbor::to_vec(&links).expect("a vector takes any encoding")
    }

    /// Parses bytes without judging them: [`Chain::check`] does.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, OpenChain> {
        if bytes.len() > CHAIN_BYTES_MAX {
            return Err(OpenChain::Malformed);
        }
        let parsed: Links = minicbor::decode(bytes).map_err(|_| OpenChain::Malformed)?;
        let chain = Self {
            links: parsed.links,
        };
        if parsed.version == 1 && chain.to_bytes() == bytes {
            Ok(chain)
        } else {
            Err(OpenChain::Malformed)
        }
    }

    /// What the last link grants.
    pub fn grant(&self) -> Option<&Grant> {
        self.links.last().map(|link| &link.grant)
    }

    /// Parses and checks a node's chain against the hive's root. Whether it is in force at some
    /// moment is asked of the [`Member`]: a record is judged at its stamp, a connection now.
    pub fn open(bytes: &[u8], hive: &HiveId) -> Result<Member, OpenChain> {
        Self::from_bytes(bytes)?.check(hive)
    }

    /// Checks every link against the one before it, the first against the hive's root.
    pub fn check(&self, hive: &HiveId) -> Result<Member, OpenChain> {
        if self.links.is_empty() || self.links.len() > CHAIN_DEPTH_MAX {
            return Err(OpenChain::Depth {
                links: self.links.len(),
            });
        }
        let mut issuer = hive.0;
        let mut above: Option<&Grant> = None;
        for (i, link) in self.links.iter().enumerate() {
            if link.grant.hive != *hive {
                return Err(OpenChain::WrongHive {
                    ours: *hive,
                    theirs: link.grant.hive,
                });
            }
            if !verify(&issuer, &signed_bytes(&link.grant), &link.signature) {
                return Err(OpenChain::Signature { link: i });
            }
            if !above.is_none_or(|above| link.grant.narrows(above)) {
                return Err(OpenChain::Widened { link: i });
            }
            issuer = link.grant.subject.0;
            above = Some(&link.grant);
        }
        let bytes = self.to_bytes();
        let grant = above.expect("not empty").clone();
        let region = grant.region.clone().ok_or(OpenChain::NoRegion)?;
        let regions = Regions::only([region.clone()]);
        let hash = digest("aquifer/chain/1", &[&bytes]);
        Ok(Member(Arc::new(Checked {
            grant,
            region,
            regions,
            hash,
            bytes,
        })))
    }
}

impl Link {
    fn sign(issuer: &Keys, grant: Grant) -> Self {
        let signature = issuer.sign(&signed_bytes(&grant));
        Self { grant, signature }
    }
}

fn signed_bytes(grant: &Grant) -> Vec<u8> {
    let mut bytes = DOMAIN.as_bytes().to_vec();
    bytes.push(0);
    minicbor::encode(grant, &mut bytes).expect("a vector takes any encoding");
    bytes
}

impl Grant {
    /// True if a holder of `above` could grant this: issuing right, region, topics, roles and time
    /// each inside.
    pub fn narrows(&self, above: &Self) -> bool {
        let region = match (&above.region, &self.region) {
            (None, _) => true,
            (Some(outer), Some(inner)) => outer.covers(inner),
            (Some(_), None) => false,
        };
        let topics = match (&above.topics, &self.topics) {
            (None, _) => true,
            (Some(outer), Some(inner)) => inner.iter().all(|t| outer.iter().any(|o| o.covers(t))),
            (Some(_), None) => false,
        };
        let short = self
            .topics
            .as_ref()
            .is_none_or(|t| t.len() <= 4 * PATH_SEGMENTS_MAX);
        above.may_issue
            && region
            && topics
            && short
            && self.roles & !above.roles == 0
            && self.not_before >= above.not_before
            && self.not_after <= above.not_after
    }
}

impl Member {
    /// The node.
    pub fn node(&self) -> NodeId {
        self.0.grant.subject
    }

    /// The region it is certified to be in.
    pub fn region(&self) -> &Region {
        &self.0.region
    }

    /// What its certificate grants.
    pub fn grant(&self) -> &Grant {
        &self.0.grant
    }

    /// BLAKE3 of its chain: the `cap_hash` of the records it writes.
    pub fn cap_hash(&self) -> [u8; 32] {
        self.0.hash
    }

    /// Its chain, as bytes.
    pub fn chain(&self) -> &[u8] {
        &self.0.bytes
    }

    /// True while the certificate is in force.
    pub fn valid_at(&self, time: Time) -> bool {
        (self.0.grant.not_before..=self.0.grant.not_after).contains(&time.millis())
    }

    /// True if the certificate covers `topic`. The hive's own topics are every member's.
    pub fn covers(&self, topic: &TopicName) -> bool {
        topic.is_reserved()
            || self
                .0
                .grant
                .topics
                .as_ref()
                .is_none_or(|ts| ts.iter().any(|t| t.covers(topic)))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    fn grant(subject: NodeId, region: &str, may_issue: bool) -> Grant {
        Grant {
            hive: HiveId([0; 32]),
            subject,
            region: Some(region.parse().expect("legal")),
            topics: None,
            roles: role::ALL,
            may_issue,
            not_before: 0,
            not_after: u64::MAX,
            serial: 1,
        }
    }

    /// A root, and a member of `region` below an authority for that region.
    pub(crate) fn member(root: &Keys, node: &Keys, region: &str) -> Member {
        let authority = Keys::from_secret(&digest("test", &[region.as_bytes()]));
        let hive = HiveId(root.public());
        let mut leaf = grant(node.node(), region, false);
        leaf.hive = hive;
        Chain::rooted(root, grant(authority.node(), region, true))
            .extended(&authority, leaf)
            .check(&hive)
            .expect("a good chain")
    }

    #[test]
    fn a_good_chain_opens_and_every_flipped_bit_closes_it() {
        let (root, node) = (Keys::from_secret(&[1; 32]), Keys::from_secret(&[2; 32]));
        let hive = HiveId(root.public());
        let good = member(&root, &node, "eu/fr");
        assert_eq!(good.region().as_str(), "eu/fr");
        let bytes = good.chain().to_vec();
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(Chain::open(&bad, &hive).is_err(), "bit {bit}");
        }
        let other = HiveId(Keys::from_secret(&[9; 32]).public());
        assert!(matches!(
            Chain::open(&bytes, &other),
            Err(OpenChain::WrongHive { .. })
        ));
    }

    /// I13: a chain whose links each look fine but grow in right is refused at the link that grows.
    #[test]
    fn a_chain_may_only_narrow() {
        let root = Keys::from_secret(&[1; 32]);
        let authority = Keys::from_secret(&[2; 32]);
        let node = Keys::from_secret(&[3; 32]);
        let hive = HiveId(root.public());
        let top = Chain::rooted(&root, grant(authority.node(), "eu", true));
        let cases: [fn(&mut Grant); 4] = [
            |g| g.region = "us".parse().ok(),
            |g| g.region = None,
            |g| g.roles = u32::MAX,
            |g| g.topics = Some(vec![]),
        ];
        for (i, widen) in cases.iter().enumerate() {
            let mut leaf = grant(node.node(), "eu/fr", false);
            leaf.hive = hive;
            widen(&mut leaf);
            let checked = top.extended(&authority, leaf).check(&hive);
            // The last case narrows (no topics at all): it must open, and cover nothing.
            if i == 3 {
                let member = checked.expect("narrower");
                assert!(!member.covers(&"notes".parse().expect("legal")));
            } else {
                assert_eq!(checked, Err(OpenChain::Widened { link: 1 }), "case {i}");
            }
        }
        let mut leaf = grant(node.node(), "eu", false);
        leaf.hive = hive;
        let below = grant(NodeId([7; 32]), "eu", false);
        let mut below = below;
        below.hive = hive;
        let chain = top.extended(&authority, leaf).extended(&node, below);
        assert_eq!(
            chain.check(&hive),
            Err(OpenChain::Widened { link: 2 }),
            "no right to issue"
        );
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Chain::open(&bytes, &HiveId([1; 32]));
        }
    }
}

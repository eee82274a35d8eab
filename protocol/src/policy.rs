//! Policy: a topic's law, as its founder wrote it.
//!
//! Policies form a meet-semilattice: [`Policy::meet`] of two is the widest policy that both allow.
//! The law in force on a topic is the meet of its own policy and all its ancestors', so a child can
//! only narrow, and two founders who never met can only narrow each other (`law`).
//!
//! Not here: deciding about an operation (`decide`), choosing holders (`placement`).

use crate::limits::KEYS_PER_RULE_MAX;
use crate::region::{Region, Regions};
use minicbor::{Decode, Decoder, Encode, Encoder, decode, encode};
use std::collections::BTreeSet;

/// Where a topic's data may live, and how long.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct DataLocationPolicy {
    /// The regions in which data may rest and to which it may travel.
    #[n(0)]
    pub allowed_regions: Regions,
    /// A region that must hold a copy. It also is the topic's home: see `cross_border_allowed`.
    #[n(1)]
    pub required_region: Option<Region>,
    /// Whether data may leave the top-level region of its home (`required_region`, else its
    /// founder's region).
    #[n(2)]
    pub cross_border_allowed: bool,
    /// Whether bodies must be encrypted to the topic's members.
    #[n(3)]
    pub encryption_required: bool,
    /// How many seconds a body is kept after its stamp; for ever if absent.
    #[n(4)]
    pub retention: Option<u64>,
}

/// Whose keys may do something.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Keyring {
    /// Every member of the hive whose certificate covers the topic.
    Members,
    /// Of those, only these keys (of nodes).
    Only(BTreeSet<[u8; 32]>),
}

/// A topic's whole law.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct Policy {
    /// Where its data may live.
    #[n(0)]
    pub location: DataLocationPolicy,
    /// How many nodes hold it; all that may, if absent.
    #[n(1)]
    pub copies: Option<u16>,
    /// Who may hold and read it.
    #[n(2)]
    pub readers: Keyring,
    /// Who may write to it.
    #[n(3)]
    pub writers: Keyring,
    /// The longest body in bytes.
    #[n(4)]
    pub body_bytes_max: u32,
}

impl Policy {
    /// The widest policy: every member, everywhere, for ever.
    pub fn open() -> Self {
        Self {
            location: DataLocationPolicy {
                allowed_regions: Regions::Anywhere,
                required_region: None,
                cross_border_allowed: true,
                encryption_required: false,
                retention: None,
            },
            copies: None,
            readers: Keyring::Members,
            writers: Keyring::Members,
            body_bytes_max: crate::limits::BODY_BYTES_MAX as u32,
        }
    }

    /// Open to every member, but resting only in `regions`.
    pub fn within(regions: Regions) -> Self {
        let mut policy = Self::open();
        policy.location.allowed_regions = regions;
        policy
    }

    /// The widest policy that both allow. Associative, commutative, idempotent.
    #[must_use]
    pub fn meet(&self, other: &Self) -> Self {
        Self {
            location: self.location.meet(&other.location),
            copies: least(self.copies, other.copies),
            readers: self.readers.meet(&other.readers),
            writers: self.writers.meet(&other.writers),
            body_bytes_max: self.body_bytes_max.min(other.body_bytes_max),
        }
    }

    /// True if `self` allows nothing that `other` does not.
    pub fn narrows(&self, other: &Self) -> bool {
        self.meet(other) == *self
    }
}

impl DataLocationPolicy {
    /// True if it restricts where data may rest, how, or for how long. What must not be somewhere, or
    /// must not be any more, has to be removable from the disk itself (`decide::keepable`).
    pub fn is_restricted(&self) -> bool {
        self.allowed_regions != Regions::Anywhere
            || !self.cross_border_allowed
            || self.encryption_required
            || self.retention.is_some()
    }

    fn meet(&self, other: &Self) -> Self {
        // Two different required regions are both honoured by requiring neither alone: the nested
        // one if they nest, else nothing may hold the topic at all, which is the only safe answer.
        let (required_region, conflict) = match (&self.required_region, &other.required_region) {
            (None, x) | (x, None) => (x.clone(), false),
            (Some(a), Some(b)) if a.covers(b) => (Some(b.clone()), false),
            (Some(a), Some(b)) if b.covers(a) => (Some(a.clone()), false),
            (Some(a), Some(b)) => (Some(a.min(b).clone()), true),
        };
        let nowhere = Regions::only([]);
        let regions = self.allowed_regions.meet(&other.allowed_regions);
        Self {
            allowed_regions: if conflict { nowhere } else { regions },
            required_region,
            cross_border_allowed: self.cross_border_allowed && other.cross_border_allowed,
            encryption_required: self.encryption_required || other.encryption_required,
            retention: least(self.retention, other.retention),
        }
    }
}

impl Keyring {
    /// True if `key` is in it.
    pub fn contains(&self, key: &[u8; 32]) -> bool {
        match self {
            Self::Members => true,
            Self::Only(keys) => keys.contains(key),
        }
    }

    fn meet(&self, other: &Self) -> Self {
        match (self, other) {
            (Self::Members, x) | (x, Self::Members) => x.clone(),
            (Self::Only(a), Self::Only(b)) => Self::Only(a.intersection(b).copied().collect()),
        }
    }
}

fn least<T: Ord + Copy>(a: Option<T>, b: Option<T>) -> Option<T> {
    match (a, b) {
        (None, x) | (x, None) => x,
        (Some(a), Some(b)) => Some(a.min(b)),
    }
}

impl<C> Encode<C> for Keyring {
    fn encode<W: encode::Write>(
        &self,
        e: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), encode::Error<W::Error>> {
        match self {
            Self::Members => e.null()?.ok(),
            Self::Only(keys) => {
                e.array(keys.len() as u64)?;
                keys.iter().try_for_each(|key| e.bytes(key)?.ok())
            }
        }
    }
}

impl<'b, C> Decode<'b, C> for Keyring {
    fn decode(d: &mut Decoder<'b>, _: &mut C) -> Result<Self, decode::Error> {
        if d.datatype()? == minicbor::data::Type::Null {
            d.null()?;
            return Ok(Self::Members);
        }
        let count = d
            .array()?
            .ok_or_else(|| decode::Error::message("indefinite length"))?;
        if count > KEYS_PER_RULE_MAX as u64 {
            return Err(decode::Error::message("too many keys"));
        }
        let mut keys = BTreeSet::new();
        for _ in 0..count {
            let key = d
                .bytes()?
                .try_into()
                .map_err(|_| decode::Error::message("not a key"))?;
            keys.insert(key);
        }
        Ok(Self::Only(keys))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::region::tests::{region, regions};
    use proptest::prelude::*;

    fn keyring() -> impl Strategy<Value = Keyring> {
        prop_oneof![
            Just(Keyring::Members),
            proptest::collection::btree_set(any::<bool>().prop_map(|b| [u8::from(b); 32]), 0..3)
                .prop_map(Keyring::Only),
        ]
    }

    pub(crate) fn policy() -> impl Strategy<Value = Policy> {
        let location = (
            regions(),
            proptest::option::of(region()),
            any::<bool>(),
            any::<bool>(),
            proptest::option::of(1u64..100),
        );
        let rest = (
            proptest::option::of(1u16..5),
            keyring(),
            keyring(),
            0u32..100,
        );
        (location, rest).prop_map(|(l, (copies, readers, writers, body_bytes_max))| Policy {
            location: DataLocationPolicy {
                allowed_regions: l.0,
                required_region: l.1,
                cross_border_allowed: l.2,
                encryption_required: l.3,
                retention: l.4,
            },
            copies,
            readers,
            writers,
            body_bytes_max,
        })
    }

    proptest! {
        /// A law inherited in any order is the same law, and never wider than any part of it.
        #[test]
        fn policies_only_narrow(a in policy(), b in policy(), c in policy()) {
            prop_assert_eq!(a.meet(&b), b.meet(&a));
            prop_assert_eq!(a.meet(&a), a.clone());
            let nested = |p: &Policy| p.location.required_region.clone();
            // `required_region` conflicts lose which region was required once nothing may hold the
            // topic, so associativity is claimed where the law can be obeyed at all.
            let left = a.meet(&b).meet(&c);
            let right = a.meet(&b.meet(&c));
            prop_assert_eq!(&left.location.allowed_regions, &right.location.allowed_regions);
            if left.location.allowed_regions != Regions::only([]) {
                prop_assert_eq!(nested(&left), nested(&right));
                prop_assert_eq!(&left, &right);
            }
            prop_assert!(a.meet(&b).location.allowed_regions.within(&a.location.allowed_regions));
        }

        #[test]
        fn the_encoding_is_canonical(p in policy()) {
            let bytes = minicbor::to_vec(&p).expect("vec");
            let back: Policy = Decoder::new(&bytes).decode().expect("own bytes");
            prop_assert_eq!(minicbor::to_vec(&back).expect("vec"), bytes);
            prop_assert_eq!(back, p);
        }
    }
}

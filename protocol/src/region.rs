//! Regions: jurisdictions named by paths that nest.
//!
//! `eu` covers `eu/fr`, which covers `eu/fr/paris-1`. A set of regions is a set of subtrees, and
//! intersection of two sets is again one: that is what makes a law only-narrowing.
//!
//! Not here: who says that a node is in a region (`certificate`), what follows from it (`decide`).

use crate::limits::{PATH_SEGMENTS_MAX, REGION_BYTES_MAX, REGIONS_PER_RULE_MAX};
use core::{fmt, str::FromStr};
use minicbor::{Decode, Decoder, Encode, Encoder, decode, encode};
use std::collections::BTreeSet;

/// A region's path, such as `eu/fr`: one to eight segments of `[a-z0-9-]`, 64 bytes in all.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Region(String);

/// Why a text is not a region.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is not a region: give a path such as `eu` or `eu/fr` of lower-case letters, digits and `-`"
)]
pub struct ParseRegion {
    text: String,
}

impl Region {
    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// True if `other` is this region or lies below it.
    pub fn covers(&self, other: &Self) -> bool {
        match other.0.strip_prefix(&self.0) {
            Some(rest) => rest.is_empty() || rest.starts_with('/'),
            None => false,
        }
    }

    /// The regions that both lie in, from the top down: `eu` for `eu/fr` and `eu/de`; none for `eu`
    /// and `us`.
    #[must_use]
    pub fn shared(&self, other: &Self) -> Vec<Self> {
        let ends = self.0.match_indices('/').map(|(at, _)| at);
        ends.chain([self.0.len()])
            .map(|end| Self(self.0[..end].to_owned()))
            .take_while(|region| region.covers(other))
            .collect()
    }

    /// The first segment: the jurisdiction at the top, `eu` of `eu/fr/paris-1`.
    #[must_use]
    pub fn top(&self) -> Self {
        Self(self.0.split('/').next().unwrap_or_default().to_owned())
    }
}

impl FromStr for Region {
    type Err = ParseRegion;

    fn from_str(text: &str) -> Result<Self, ParseRegion> {
        let legal = |segment: &str| {
            !segment.is_empty()
                && segment
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        };
        let short = text.len() <= REGION_BYTES_MAX && text.split('/').count() <= PATH_SEGMENTS_MAX;
        if short && text.split('/').all(legal) {
            Ok(Self(text.to_owned()))
        } else {
            Err(ParseRegion {
                text: text.chars().take(REGION_BYTES_MAX).collect(),
            })
        }
    }
}

impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<C> Encode<C> for Region {
    fn encode<W: encode::Write>(
        &self,
        e: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), encode::Error<W::Error>> {
        e.str(&self.0)?.ok()
    }
}

impl<'b, C> Decode<'b, C> for Region {
    fn decode(d: &mut Decoder<'b>, _: &mut C) -> Result<Self, decode::Error> {
        d.str()?
            .parse()
            .map_err(|_| decode::Error::message("not a region"))
    }
}

/// Where something may be: anywhere, or in any of some subtrees. `Only` of nothing is nowhere.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Regions {
    /// No restriction.
    Anywhere,
    /// These regions and all below them.
    Only(BTreeSet<Region>),
}

impl Regions {
    /// A set of subtrees in normal form: no member lies below another.
    pub fn only(regions: impl IntoIterator<Item = Region>) -> Self {
        let all: BTreeSet<Region> = regions.into_iter().collect();
        let roots = all
            .iter()
            .filter(|r| !all.iter().any(|other| other != *r && other.covers(r)))
            .cloned()
            .collect();
        Self::Only(roots)
    }

    /// True if `region` lies inside.
    pub fn contains(&self, region: &Region) -> bool {
        match self {
            Self::Anywhere => true,
            Self::Only(roots) => roots.iter().any(|root| root.covers(region)),
        }
    }

    /// What lies in both: the narrower of any two subtrees that overlap.
    #[must_use]
    pub fn meet(&self, other: &Self) -> Self {
        match (self, other) {
            (Self::Anywhere, x) | (x, Self::Anywhere) => x.clone(),
            (Self::Only(a), Self::Only(b)) => {
                let inside = |xs: &BTreeSet<Region>, ys: &BTreeSet<Region>| -> Vec<Region> {
                    xs.iter()
                        .filter(|x| ys.iter().any(|y| y.covers(x)))
                        .cloned()
                        .collect()
                };
                Self::only(inside(a, b).into_iter().chain(inside(b, a)))
            }
        }
    }

    /// True if everything inside `self` is inside `other`.
    pub fn within(&self, other: &Self) -> bool {
        self.meet(other) == *self
    }
}

impl fmt::Display for Regions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anywhere => f.write_str("anywhere"),
            Self::Only(roots) => {
                f.write_str("[")?;
                for (i, root) in roots.iter().enumerate() {
                    write!(f, "{}{root}", if i == 0 { "" } else { ", " })?;
                }
                f.write_str("]")
            }
        }
    }
}

impl<C> Encode<C> for Regions {
    fn encode<W: encode::Write>(
        &self,
        e: &mut Encoder<W>,
        ctx: &mut C,
    ) -> Result<(), encode::Error<W::Error>> {
        match self {
            Self::Anywhere => e.null()?.ok(),
            Self::Only(roots) => {
                e.array(roots.len() as u64)?;
                roots.iter().try_for_each(|root| root.encode(e, ctx))
            }
        }
    }
}

impl<'b, C> Decode<'b, C> for Regions {
    fn decode(d: &mut Decoder<'b>, ctx: &mut C) -> Result<Self, decode::Error> {
        if d.datatype()? == minicbor::data::Type::Null {
            d.null()?;
            return Ok(Self::Anywhere);
        }
        let count = d
            .array()?
            .ok_or_else(|| decode::Error::message("indefinite length"))?;
        if count > REGIONS_PER_RULE_MAX as u64 {
            return Err(decode::Error::message("too many regions"));
        }
        let mut roots = BTreeSet::new();
        for _ in 0..count {
            roots.insert(Region::decode(d, ctx)?);
        }
        Ok(Self::only(roots))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Any region of a small world, so that subtrees often overlap.
    pub(crate) fn region() -> impl Strategy<Value = Region> {
        proptest::collection::vec(prop_oneof!["a", "b", "a-b"], 1..4)
            .prop_map(|path| path.join("/").parse().expect("legal by construction"))
    }

    /// Any set of regions of that world.
    pub(crate) fn regions() -> impl Strategy<Value = Regions> {
        prop_oneof![
            1 => Just(Regions::Anywhere),
            4 => proptest::collection::vec(region(), 0..4).prop_map(Regions::only),
        ]
    }

    proptest! {
        #[test]
        fn meet_is_a_semilattice(a in regions(), b in regions(), c in regions()) {
            prop_assert_eq!(a.meet(&b), b.meet(&a));
            prop_assert_eq!(a.meet(&a), a.clone());
            prop_assert_eq!(a.meet(&b).meet(&c), a.meet(&b.meet(&c)));
            prop_assert!(a.meet(&b).within(&a));
        }

        #[test]
        fn meet_holds_exactly_what_both_hold(a in regions(), b in regions(), r in region()) {
            prop_assert_eq!(a.meet(&b).contains(&r), a.contains(&r) && b.contains(&r));
        }
    }

    #[test]
    fn a_region_covers_what_lies_below_it_and_not_its_namesakes() {
        let r = |s: &str| s.parse::<Region>().expect("legal");
        assert!(r("eu").covers(&r("eu/fr")));
        assert!(!r("eu").covers(&r("eu-west")));
        assert!(!r("eu/fr").covers(&r("eu")));
        assert_eq!(r("eu/fr/paris-1").top(), r("eu"));
        let shared = |a: &str, b: &str| -> Vec<String> {
            r(a).shared(&r(b)).iter().map(ToString::to_string).collect()
        };
        assert_eq!(shared("eu/fr", "eu/de"), ["eu"]);
        assert_eq!(shared("eu/fr/paris-1", "eu/fr"), ["eu", "eu/fr"]);
        assert_eq!(shared("eu", "eu"), ["eu"]);
        assert!(shared("eu", "eu-west").is_empty() && shared("eu/fr", "us/fr").is_empty());
        for bad in ["", "EU", "eu/", "/eu", "eu//fr", "e u", "a/b/c/d/e/f/g/h/i"] {
            assert!(bad.parse::<Region>().is_err(), "{bad}");
        }
    }
}

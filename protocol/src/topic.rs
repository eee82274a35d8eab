//! Topics: named spaces, the unit of replication and of law.
//!
//! A name is a path; a child inherits its parent's policy and may only narrow it. The id that
//! travels is a hash of the hive and the name, so one name means one topic on every node.
//!
//! Not here: what a policy says (`policy`), which policy is in force (`law`).

use crate::identity::{HiveId, digest, id32};
use crate::limits::{PATH_SEGMENTS_MAX, TOPIC_BYTES_MAX};
use core::{fmt, str::FromStr};
use minicbor::{Decode, Decoder, Encode, Encoder, decode, encode};

id32! {
    /// A topic's id: BLAKE3 of the hive and the name.
    TopicId
}

/// A topic's name, such as `org/eu/personal-data`: one to eight segments of `[a-z0-9._-]`,
/// 128 bytes in all. Names below `aquifer/` are the hive's own.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TopicName(String);

/// Why a text is not a topic's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is not a topic name: give a path of lower-case letters, digits, `.`, `_` and `-`, such as `acme/api`"
)]
pub struct ParseTopicName {
    text: String,
}

impl TopicName {
    /// The topic that every node of the hive keeps: members' manifests and topics' policies.
    pub fn hive() -> Self {
        Self("aquifer/hive".to_owned())
    }

    /// True for the hive's own topics, which no one may create, write to or restrict by hand.
    pub fn is_reserved(&self) -> bool {
        self.0 == "aquifer" || self.0.starts_with("aquifer/")
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The topic's id in `hive`.
    pub fn id(&self, hive: &HiveId) -> TopicId {
        TopicId(digest(
            "aquifer/topic/1",
            &[hive.as_bytes(), self.0.as_bytes()],
        ))
    }

    /// The topic one level up, whose policy this one inherits.
    pub fn parent(&self) -> Option<Self> {
        self.0
            .rsplit_once('/')
            .map(|(parent, _)| Self(parent.to_owned()))
    }

    /// The topics above, nearest first.
    pub fn ancestors(&self) -> impl Iterator<Item = Self> {
        core::iter::successors(self.parent(), Self::parent)
    }

    /// True if `other` is this topic or lies below it.
    pub fn covers(&self, other: &Self) -> bool {
        match other.0.strip_prefix(&self.0) {
            Some(rest) => rest.is_empty() || rest.starts_with('/'),
            None => false,
        }
    }
}

impl FromStr for TopicName {
    type Err = ParseTopicName;

    fn from_str(text: &str) -> Result<Self, ParseTopicName> {
        let legal = |segment: &str| {
            !segment.is_empty()
                && segment != "."
                && segment != ".."
                && segment.bytes().all(|b| {
                    b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-')
                })
        };
        let short = text.len() <= TOPIC_BYTES_MAX && text.split('/').count() <= PATH_SEGMENTS_MAX;
        if short && text.split('/').all(legal) {
            Ok(Self(text.to_owned()))
        } else {
            Err(ParseTopicName {
                text: text.chars().take(TOPIC_BYTES_MAX).collect(),
            })
        }
    }
}

impl fmt::Display for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<C> Encode<C> for TopicName {
    fn encode<W: encode::Write>(
        &self,
        e: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), encode::Error<W::Error>> {
        e.str(&self.0)?.ok()
    }
}

impl<'b, C> Decode<'b, C> for TopicName {
    fn decode(d: &mut Decoder<'b>, _: &mut C) -> Result<Self, decode::Error> {
        d.str()?
            .parse()
            .map_err(|_| decode::Error::message("not a topic name"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_ancestors_and_one_id_per_hive() {
        let name: TopicName = "org/eu/personal-data".parse().expect("legal");
        let above: Vec<_> = name.ancestors().map(|n| n.to_string()).collect();
        assert_eq!(above, ["org/eu", "org"]);
        assert_ne!(name.id(&HiveId([1; 32])), name.id(&HiveId([2; 32])));
        assert!(
            above[1]
                .parse::<TopicName>()
                .is_ok_and(|org| org.covers(&name))
        );
        for bad in ["", "A", "a//b", "a/", "a/../b", "a b", "ü"] {
            assert!(bad.parse::<TopicName>().is_err(), "{bad}");
        }
    }
}

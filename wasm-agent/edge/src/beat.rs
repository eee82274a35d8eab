//! Beats: what a device says of itself to all others on its link, every few seconds, in one datagram.
//!
//! How much waits in its queue, how far its agent has come, how long ago it heard its gateway, and how far
//! the agents of others have come as far as it knows. A beat is signed, and the certificates of who signed
//! it are beside it: members of one hive hear each other, and nobody else is heard. It is a hint in any
//! case: nothing is dropped, sent or believed for a beat alone.
//!
//! Not here: the table of neighbours (`neighbours`), handing over (`carry`).

use aquifer_protocol::identity::{SIGNATURE_BYTES, digest, verify};
use aquifer_protocol::{Chain, HiveId, Keys, Member, NodeId};
use minicbor::{Decode, Encode};

const DOMAIN: &str = "aquifer/edge-beat/1";

/// The longest beat: what fits a datagram on any link.
pub const BEAT_BYTES_MAX: usize = 1_400;
/// The most heads of one beat, its own among them.
pub const HEADS_MAX: usize = 8;

/// What a device says of itself.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(array)]
pub struct Beat {
    /// Which device.
    #[n(0)]
    pub device: NodeId,
    /// When, in milliseconds since 1970, by its own clock: later in each beat.
    #[n(1)]
    pub at: u64,
    /// Steps that wait in its queue.
    #[n(2)]
    pub queue: u32,
    /// The gateway it speaks to.
    #[n(3)]
    pub gateway: NodeId,
    /// Seconds since that last replied; none if it never has.
    #[n(4)]
    pub contact: Option<u32>,
    /// The port on which it takes what others want carried; 0 if it takes nothing.
    #[n(5)]
    pub port: u16,
    /// Its own agent's head, and then those it has heard of.
    #[n(6)]
    pub heads: Vec<Head>,
}

/// How far an agent has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(array)]
pub struct Head {
    /// The agent.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub agent: [u8; 32],
    /// How many steps it has taken.
    #[n(1)]
    pub steps: u32,
}

#[derive(Encode, Decode)]
#[cbor(array)]
struct Signed {
    #[cbor(n(0), with = "minicbor::bytes")]
    chain: Vec<u8>,
    #[cbor(n(1), with = "minicbor::bytes")]
    beat: Vec<u8>,
    #[cbor(n(2), with = "minicbor::bytes")]
    signature: [u8; SIGNATURE_BYTES],
}

impl Beat {
    /// As it is sent; none if the certificates leave no room for it in a datagram.
    pub fn seal(&self, keys: &Keys, me: &Member) -> Option<Vec<u8>> {
        let beat = encoded(self);
        let signed = Signed {
            chain: me.chain().to_vec(),
            signature: keys.sign(&digest(DOMAIN, &[&beat])),
            beat,
        };
        Some(encoded(&signed)).filter(|bytes| bytes.len() <= BEAT_BYTES_MAX)
    }

    /// What came, if a member of `hive` has said it. Anybody may have sent the bytes.
    pub fn open(bytes: &[u8], hive: &HiveId) -> Option<(Self, Member)> {
        if bytes.len() > BEAT_BYTES_MAX {
            return None;
        }
        let signed: Signed = canonical(bytes)?;
        let beat: Self = canonical(&signed.beat)?;
        let good = beat.heads.len() <= HEADS_MAX
            && verify(
                &beat.device.0,
                &digest(DOMAIN, &[&signed.beat]),
                &signed.signature,
            );
        // Certificates last: they are the most work.
        let member = good.then(|| Chain::open(&signed.chain, hive).ok())??;
        (member.node() == beat.device).then_some((beat, member))
    }
}

fn encoded<T: Encode<()>>(value: &T) -> Vec<u8> {
    minicbor::to_vec(value).expect("a vector takes any encoding")
}

fn canonical<T: Encode<()> + for<'b> Decode<'b, ()>>(bytes: &[u8]) -> Option<T> {
    let value: T = minicbor::decode(bytes).ok()?;
    (encoded(&value) == bytes).then_some(value)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use aquifer_protocol::Grant;

    /// A device in `region`, certified by a hive.
    pub(crate) fn member(hive: &Keys, device: &Keys, region: &str) -> Member {
        let grant = Grant {
            hive: HiveId(hive.public()),
            subject: device.node(),
            region: region.parse().ok(),
            topics: None,
            roles: 0,
            may_issue: false,
            not_before: 0,
            not_after: u64::MAX,
            serial: 1,
        };
        let chain = Chain::rooted(hive, grant);
        chain.check(&HiveId(hive.public())).expect("a good chain")
    }

    /// A beat of `device`.
    pub(crate) fn beat(device: &Keys, at: u64) -> Beat {
        Beat {
            device: device.node(),
            at,
            queue: 3,
            gateway: NodeId([9; 32]),
            contact: Some(4),
            port: 5_000,
            heads: vec![Head {
                agent: [7; 32],
                steps: 12,
            }],
        }
    }

    #[test]
    fn members_hear_each_other_and_every_flipped_bit_silences_a_beat() {
        let (hive, device) = (Keys::from_secret(&[1; 32]), Keys::from_secret(&[2; 32]));
        let (id, me) = (HiveId(hive.public()), member(&hive, &device, "eu"));
        let mut beat = beat(&device, 5);
        beat.heads = vec![beat.heads[0]; HEADS_MAX];
        let bytes = beat.seal(&device, &me).expect("it fits");
        assert_eq!(Some((beat, me.clone())), Beat::open(&bytes, &id));
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(Beat::open(&bad, &id).is_none(), "bit {bit}");
        }
        let stranger = HiveId(Keys::from_secret(&[8; 32]).public());
        assert!(Beat::open(&bytes, &stranger).is_none(), "another hive");
        let mut other = tests::beat(&device, 5);
        other.device = hive.node();
        let bytes = other.seal(&device, &me).expect("it fits");
        assert!(Beat::open(&bytes, &id).is_none(), "in another's name");
        for garbage in [&b""[..], b"\xff", &[0x83; 1_400], &[0; 1_401]] {
            assert!(Beat::open(garbage, &id).is_none());
        }
    }
}

//! Admit: the first words between two nodes, and the ticket that a newcomer brings.
//!
//! Three requests travel over `/aquifer/admit/1` before anything else does: a hello shows a certificate
//! chain, a redemption turns a ticket's secret into a chain, and a renewal turns a chain, lapsed or not,
//! into a fresh one. A device at the edge redeems as one: its certificate names no roles.
//!
//! A ticket is `aqf1` and the base32 (RFC 4648, lower case, no padding) of its bytes and four bytes of
//! checksum, so one that lost a letter is known before anything is dialled.
//!
//! Not here: who is let in (`node/src/admission.rs`), what carries the bytes.

use crate::identity::{HiveId, NodeId, digest};
use crate::region::Region;
use crate::topic::TopicName;
use minicbor::bytes::ByteVec;
use minicbor::{Decode, Encode};

const PREFIX: &str = "aqf1";
const DIGITS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// The longest ticket, in letters.
pub const TICKET_LENGTH_MAX: usize = 4_096;

/// What one asks who is not known yet.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub enum Request {
    /// This is my chain: let me in.
    #[n(1)]
    Hello(#[n(0)] ByteVec),
    /// This is a ticket's secret: certify me.
    #[n(2)]
    Redeem(#[cbor(n(0), with = "minicbor::bytes")] [u8; 16]),
    /// This is my chain: give me a fresh one.
    #[n(3)]
    Renew(#[n(0)] ByteVec),
    /// As a redemption, for a device at the edge: without roles, and without the right to certify.
    #[n(4)]
    RedeemDevice(#[cbor(n(0), with = "minicbor::bytes")] [u8; 16]),
}

/// What one is told.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub enum Answer {
    /// Come in.
    #[n(1)]
    Welcome,
    /// This is your chain.
    #[n(2)]
    Issued(#[n(0)] ByteVec),
    /// No: a stable code, and why.
    #[n(3)]
    Refused(#[n(0)] String, #[n(1)] String),
}

impl Request {
    /// As it travels.
    pub fn to_bytes(&self) -> Vec<u8> {
        minicbor::to_vec(self).expect("a vector takes any encoding")
    }
}

impl Answer {
    /// As it travels.
    pub fn to_bytes(&self) -> Vec<u8> {
        minicbor::to_vec(self).expect("a vector takes any encoding")
    }

    /// What came, if it is an answer.
    pub fn open(bytes: &[u8]) -> Option<Self> {
        minicbor::decode(bytes).ok()
    }
}

/// What a newcomer is handed: once, until it expires, for one region and some topics.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
pub struct Ticket {
    /// The hive.
    #[n(0)]
    pub hive: HiveId,
    /// The node that issued it and redeems it.
    #[n(1)]
    pub issuer: NodeId,
    /// Where the issuer listens: multiaddrs.
    #[n(2)]
    pub addresses: Vec<String>,
    /// Known to the bearer and the issuer only.
    #[cbor(n(3), with = "minicbor::bytes")]
    pub secret: [u8; 16],
    /// The region the newcomer will be in.
    #[n(4)]
    pub region: Region,
    /// Topics it may take part in; every topic if absent.
    #[n(5)]
    pub topics: Option<Vec<TopicName>>,
    /// Not redeemed after that, in milliseconds since the Unix epoch.
    #[n(6)]
    pub expires: u64,
}

/// The secret stays out of logs.
impl core::fmt::Debug for Ticket {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Ticket")
            .field("issuer", &self.issuer)
            .field("region", &self.region)
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}

impl Ticket {
    /// The string to hand over.
    pub fn to_text(&self) -> String {
        let mut bytes = minicbor::to_vec(self).expect("a vector takes any encoding");
        let check = checksum(&bytes);
        bytes.extend_from_slice(&check);
        format!("{PREFIX}{}", base32(&bytes))
    }

    /// Reads a ticket; none if it is not one, or part of it is missing.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        if text.len() > TICKET_LENGTH_MAX {
            return None;
        }
        let bytes = unbase32(text.strip_prefix(PREFIX)?)?;
        let (bytes, check) = bytes.split_last_chunk::<4>()?;
        if checksum(bytes) != *check {
            return None;
        }
        let mut decoder = minicbor::Decoder::new(bytes);
        let ticket = decoder.decode().ok()?;
        (decoder.position() == bytes.len()).then_some(ticket)
    }
}

fn checksum(bytes: &[u8]) -> [u8; 4] {
    *digest("aquifer/ticket/1", &[bytes])
        .first_chunk()
        .expect("32 bytes hold 4")
}

fn base32(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(5) * 8);
    for chunk in bytes.chunks(5) {
        let mut word = [0; 8];
        word[3..3 + chunk.len()].copy_from_slice(chunk);
        let word = u64::from_be_bytes(word);
        let digits = (chunk.len() * 8).div_ceil(5);
        let digit = |place: usize| DIGITS[(word >> (35 - 5 * place) & 31) as usize];
        text.extend((0..digits).map(|place| char::from(digit(place))));
    }
    text
}

/// Bits that are left over must be 0, so that a text has one meaning and a meaning one text.
fn unbase32(text: &str) -> Option<Vec<u8>> {
    let (mut bytes, mut word, mut bits) = (Vec::with_capacity(text.len() * 5 / 8), 0_u32, 0);
    for letter in text.bytes() {
        let digit = DIGITS.iter().position(|digit| *digit == letter)?;
        word = word << 5 | digit as u32;
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            bytes.push((word >> bits) as u8);
            word &= (1 << bits) - 1;
        }
    }
    (word == 0 && bits < 5).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base32_has_one_text_for_one_meaning() {
        // RFC 4648, section 10.
        for (bytes, text) in [
            ("", ""),
            ("f", "my"),
            ("fo", "mzxq"),
            ("foo", "mzxw6"),
            ("foob", "mzxw6yq"),
            ("fooba", "mzxw6ytb"),
            ("foobar", "mzxw6ytboi"),
        ] {
            assert_eq!(text, base32(bytes.as_bytes()));
            assert_eq!(Some(bytes.as_bytes().to_vec()), unbase32(text));
        }
        for bad in ["m", "mz", "MY", "my======", "mzx", "mzxw6yt", "mzxw6ytbo"] {
            assert_eq!(None, unbase32(bad), "{bad}");
        }
    }

    #[test]
    fn what_is_asked_and_told_reads_back() {
        for request in [
            Request::Hello(vec![1].into()),
            Request::Redeem([2; 16]),
            Request::Renew(vec![3].into()),
            Request::RedeemDevice([4; 16]),
        ] {
            let bytes = request.to_bytes();
            assert_eq!(Ok(request), minicbor::decode(&bytes).map_err(|_| ()));
        }
        let refused = Answer::Refused("lapsed".into(), "renew it".into());
        assert_eq!(Some(refused.clone()), Answer::open(&refused.to_bytes()));
        assert_eq!(None, Answer::open(b"\xff"));
    }
}

//! Tickets: one string that lets one newcomer in.
//!
//! A ticket names the hive, the node that issued it and where that node listens, and carries a
//! secret that only the issuer can redeem: once, until it expires, for one region and some topics.
//! It is `aqf1` and the base32 (RFC 4648, lower case, no padding) of its bytes and four bytes of
//! checksum, so a ticket that lost a letter is known before anything is dialled.
//!
//! Not here: redeeming (`admission`).

use crate::api::Problem;
use aquifer_protocol::identity::digest;
use aquifer_protocol::time::Time;
use aquifer_protocol::{HiveId, NodeId, Region, TopicName};
use data_encoding::{Encoding, Specification};
use minicbor::{Decode, Encode};
use std::sync::LazyLock;

const PREFIX: &str = "aqf1";
const LENGTH_MAX: usize = 4_096;

static BASE32: LazyLock<Encoding> = LazyLock::new(|| {
    let mut spec = Specification::new();
    spec.symbols.push_str("abcdefghijklmnopqrstuvwxyz234567");
    spec.encoding().expect("a good alphabet")
});

/// What a newcomer is handed.
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
impl std::fmt::Debug for Ticket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
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
        format!("{PREFIX}{}", BASE32.encode(&bytes))
    }

    /// Reads a ticket, and checks that it has not expired by our own clock.
    pub fn read(text: &str, now: Time) -> Result<Self, Problem> {
        let ticket = Self::parse(text.trim()).ok_or_else(|| {
            Problem::new(
                "ticket_malformed",
                2,
                "this is not a ticket, or part of it is missing",
                "copy the whole string that `aquifer invite` printed: it begins with aqf1",
            )
        })?;
        if ticket.expires < now.millis() {
            Err(expired())
        } else {
            Ok(ticket)
        }
    }

    fn parse(text: &str) -> Option<Self> {
        if text.len() > LENGTH_MAX {
            return None;
        }
        let bytes = BASE32.decode(text.strip_prefix(PREFIX)?.as_bytes()).ok()?;
        let (bytes, check) = bytes.split_last_chunk::<4>()?;
        if checksum(bytes) != *check {
            return None;
        }
        let mut decoder = minicbor::Decoder::new(bytes);
        let ticket = decoder.decode().ok()?;
        (decoder.position() == bytes.len()).then_some(ticket)
    }
}

/// The problem that a ticket's time is over.
pub fn expired() -> Problem {
    Problem::new(
        "ticket_expired",
        5,
        "the ticket has expired",
        "ask for a new one: `aquifer invite`",
    )
}

fn checksum(bytes: &[u8]) -> [u8; 4] {
    *digest("aquifer/ticket/1", &[bytes])
        .first_chunk()
        .expect("32 bytes hold 4")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticket() -> Ticket {
        Ticket {
            hive: HiveId([1; 32]),
            issuer: NodeId([2; 32]),
            addresses: vec!["/ip4/127.0.0.1/udp/27471/quic-v1".into()],
            secret: [3; 16],
            region: "eu/fr".parse().expect("legal"),
            topics: Some(vec!["org".parse().expect("legal")]),
            expires: 1_000,
        }
    }

    #[test]
    fn a_ticket_survives_copying_and_no_letter_less() {
        let text = ticket().to_text();
        assert_eq!(
            Ticket::read(&format!(" {text}\n"), Time::ZERO),
            Ok(ticket())
        );
        for cut in [
            &text[1..],
            &text[..text.len() - 1],
            &text.replacen('a', "b", 3),
            "",
            "aqf1",
        ] {
            assert_eq!(
                Ticket::read(cut, Time::ZERO).expect_err("bad").code,
                "ticket_malformed"
            );
        }
        let late = Time::from_millis(1_001);
        assert_eq!(
            Ticket::read(&text, late).expect_err("late").code,
            "ticket_expired"
        );
    }
}

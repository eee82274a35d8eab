//! Tickets: one string that lets one newcomer in.
//!
//! A ticket names the hive, the node that issued it and where that node listens, and carries a
//! secret that only the issuer can redeem: once, until it expires, for one region and some topics.
//!
//! Not here: its letters (`aquifer_protocol::admit`), redeeming (`admission`).

use crate::api::Problem;
pub use aquifer_protocol::admit::Ticket;
use aquifer_protocol::time::Time;

/// Reads a ticket, and checks that it has not expired by our own clock.
///
/// # Errors
/// `ticket_malformed`, `ticket_expired`.
pub fn read(text: &str, now: Time) -> Result<Ticket, Problem> {
    let ticket = Ticket::parse(text).ok_or_else(|| {
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

/// The problem that a ticket's time is over.
pub fn expired() -> Problem {
    Problem::new(
        "ticket_expired",
        5,
        "the ticket has expired",
        "ask for a new one: `aquifer invite`",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use aquifer_protocol::{HiveId, NodeId};

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
        assert_eq!(read(&format!(" {text}\n"), Time::ZERO), Ok(ticket()));
        for cut in [
            &text[1..],
            &text[..text.len() - 1],
            &text.replacen('a', "b", 3),
            "",
            "aqf1",
        ] {
            assert_eq!(
                read(cut, Time::ZERO).expect_err("bad").code,
                "ticket_malformed"
            );
        }
        let late = Time::from_millis(1_001);
        assert_eq!(read(&text, late).expect_err("late").code, "ticket_expired");
    }
}

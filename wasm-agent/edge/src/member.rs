//! Membership: who this device is, in which hive, and who its gateway is.
//!
//! A device has a key of its own and a certificate like any member, for a region and without roles. The
//! ticket names the gateway, which is the node that issued it; it is kept until it is redeemed, since a
//! device may be started long before it has a network. A certificate is renewed when a third of its time is
//! left, and even after it has lapsed.
//!
//! Not here: what is said to the gateway (`gateway`).

use crate::clock;
use crate::home::Home;
use crate::link::parse_address;
use crate::problem::Problem;
use aquifer_protocol::admit::{Answer, Request, Ticket};
use aquifer_protocol::{Chain, HiveId, Keys, Member, NodeId, Region};
use minicbor::bytes::ByteVec;
use minicbor::{Decode, Encode};
use std::net::SocketAddr;

const KEY_FILE: &str = "device.key";
const MEMBER_FILE: &str = "member.cbor";
const FILE_BYTES_MAX: u64 = 64 << 10;

/// A device's place in a hive.
#[derive(Clone, Debug)]
pub struct Membership {
    /// The hive.
    pub hive: HiveId,
    /// The node that this device speaks to.
    pub gateway: NodeId,
    /// The region it is, or will be, certified for.
    pub region: Region,
    kept: Kept,
    member: Option<Member>,
}

#[derive(Clone, Debug, Encode, Decode)]
#[cbor(array)]
struct Kept {
    #[n(0)]
    hive: HiveId,
    #[n(1)]
    gateway: NodeId,
    #[n(2)]
    addresses: Vec<String>,
    #[n(3)]
    region: Region,
    /// Until it is redeemed: the ticket, as it was given.
    #[n(4)]
    ticket: Option<String>,
    /// Then: certificates.
    #[n(5)]
    chain: Option<ByteVec>,
}

/// This device's key; drawn the first time.
///
/// # Errors
/// `io`; `key_unusable` if the file is no key.
pub fn keys(home: &Home) -> Result<Keys, Problem> {
    let Some(bytes) = home.read(KEY_FILE, 33)? else {
        let secret = clock::entropy();
        home.write(KEY_FILE, &secret)?;
        return Ok(Keys::from_secret(&secret));
    };
    let secret: [u8; 32] = bytes[..].try_into().map_err(|_| {
        let path = home.file(KEY_FILE);
        let message = format!("{} is not a key", path.display());
        let hint = "restore it from a backup, or give this device a new --home";
        Problem::new("key_unusable", 1, message, hint)
    })?;
    Ok(Keys::from_secret(&secret))
}

impl Membership {
    /// What this home and this ticket come to.
    ///
    /// # Errors
    /// `no_gateway` if there is neither; `ticket_*`, `wrong_hive`.
    pub fn open(home: &Home, keys: &Keys, ticket: Option<&str>) -> Result<Self, Problem> {
        let kept: Option<Kept> = match home.read(MEMBER_FILE, FILE_BYTES_MAX)? {
            Some(bytes) => Some(minicbor::decode(&bytes).map_err(|_| unusable(home))?),
            None => None,
        };
        let given = ticket.map(read).transpose()?;
        let kept = match (kept, given) {
            (None, None) => {
                let hint = "make a ticket on the gateway with `aquifer invite`, and give it with --gateway TICKET";
                let message = "this device belongs to no hive yet";
                return Err(Problem::new("no_gateway", 2, message, hint));
            }
            (Some(kept), Some((ticket, _))) if kept.hive != ticket.hive => {
                let message = format!(
                    "this home belongs to hive {}, the ticket is for hive {}",
                    kept.hive, ticket.hive
                );
                let hint = "give this device a home of its own: --home DIR";
                return Err(Problem::new("wrong_hive", 5, message, hint));
            }
            // A certificate is good at every gateway of the hive; what is on its way is for one.
            (Some(kept), Some((ticket, _)))
                if kept.chain.is_some() && kept.gateway != ticket.issuer =>
            {
                let message = "the ticket is of another node than this device's gateway";
                let hint = "leave --gateway out, or give a ticket of the same node if it has moved";
                return Err(Problem::new("other_gateway", 2, message, hint));
            }
            (Some(kept), None) => kept,
            // A new ticket of the same gateway says where that is now.
            (Some(kept), Some((ticket, _))) if kept.chain.is_some() => Kept {
                addresses: ticket.addresses,
                ..kept
            },
            (_, Some((ticket, text))) => {
                fresh(&ticket)?;
                Kept {
                    hive: ticket.hive,
                    gateway: ticket.issuer,
                    addresses: ticket.addresses,
                    region: ticket.region,
                    ticket: Some(text),
                    chain: None,
                }
            }
        };
        let member = kept.chain.as_ref().map(|chain| {
            let member = Chain::open(chain, &kept.hive).ok();
            member.filter(|member| member.node() == keys.node())
        });
        let membership = Self {
            hive: kept.hive,
            gateway: kept.gateway,
            region: kept.region.clone(),
            member: match member {
                Some(None) => return Err(unusable(home)),
                Some(member) => member,
                None => None,
            },
            kept,
        };
        membership.keep(home)?;
        Ok(membership)
    }

    /// What a home that is not running says of itself, if it belongs to a hive.
    ///
    /// # Errors
    /// `io`, `key_unusable`, `member_unusable`.
    pub fn peek(home: &Home) -> Result<Option<Self>, Problem> {
        match home.read(MEMBER_FILE, FILE_BYTES_MAX)? {
            Some(_) => Self::open(home, &keys(home)?, None).map(Some),
            None => Ok(None),
        }
    }

    /// This device as a member, once it is one.
    pub fn member(&self) -> Option<&Member> {
        self.member.as_ref()
    }

    /// Where the gateway may be dialled: other machines' addresses first, for a ticket usually crosses.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        let all = self.kept.addresses.iter();
        let mut all: Vec<SocketAddr> = all.filter_map(|text| parse_address(text)).collect();
        all.sort_by_key(|address| address.ip().is_loopback());
        all
    }

    /// What to ask the gateway for before anything else: a certificate, or a fresh one.
    ///
    /// # Errors
    /// `ticket_expired`, of a ticket that was not redeemed in time.
    pub fn wants(&self, now_ms: u64) -> Result<Option<Request>, Problem> {
        let Some(member) = &self.member else {
            let ticket = self.kept.ticket.as_deref();
            let (ticket, _) = read(ticket.unwrap_or_default())?;
            return Ok(Some(Request::RedeemDevice(ticket.secret)));
        };
        let grant = member.grant();
        let life = grant.not_after.saturating_sub(grant.not_before);
        let late = now_ms > grant.not_after.saturating_sub(life / 3);
        // Made while a clock was ahead, it is not in force yet.
        let renews = late || now_ms < grant.not_before;
        Ok(renews.then(|| Request::Renew(member.chain().to_vec().into())))
    }

    /// Takes the certificate in an answer, and keeps it.
    ///
    /// # Errors
    /// What the gateway says against it; `bad_answer`; `io`.
    pub fn takes(&mut self, home: &Home, keys: &Keys, answer: &[u8]) -> Result<(), Problem> {
        let chain = match Answer::open(answer) {
            Some(Answer::Issued(chain)) => chain,
            Some(Answer::Refused(code, why)) => {
                let hint = "ask for a new ticket on the gateway: `aquifer invite`, and give it with --gateway";
                return Err(Problem::new(&code, 5, why, hint));
            }
            _ => return Err(bad_answer("it is no certificate".to_owned())),
        };
        let member = Chain::open(&chain, &self.hive).map_err(|why| bad_answer(why.to_string()))?;
        if member.node() != keys.node() {
            return Err(bad_answer("it is for another device".to_owned()));
        }
        self.kept.region = member.region().clone();
        self.region = member.region().clone();
        self.kept.chain = Some(chain);
        self.kept.ticket = None;
        self.member = Some(member);
        self.keep(home)
    }

    fn keep(&self, home: &Home) -> Result<(), Problem> {
        let bytes = minicbor::to_vec(&self.kept).expect("a vector takes any encoding");
        if home.read(MEMBER_FILE, FILE_BYTES_MAX)?.as_ref() == Some(&bytes) {
            return Ok(());
        }
        home.write(MEMBER_FILE, &bytes)
    }
}

fn read(text: &str) -> Result<(Ticket, String), Problem> {
    let ticket = Ticket::parse(text).ok_or_else(|| {
        let hint = "copy the whole string that `aquifer invite` printed: it begins with aqf1";
        let message = "this is not a ticket, or part of it is missing";
        Problem::new("ticket_malformed", 2, message, hint)
    })?;
    Ok((ticket, text.trim().to_owned()))
}

fn fresh(ticket: &Ticket) -> Result<(), Problem> {
    if ticket.expires >= clock::now_ms() {
        return Ok(());
    }
    let hint =
        "ask for a new one: `aquifer invite --ttl 30d` makes one for a device that comes up later";
    Err(Problem::new(
        "ticket_expired",
        5,
        "the ticket has expired",
        hint,
    ))
}

fn unusable(home: &Home) -> Problem {
    let message = format!(
        "{} is not this device's membership",
        home.file(MEMBER_FILE).display()
    );
    let hint =
        "a home is not to be copied: restore it, or give this device a new --home and a new ticket";
    Problem::new("member_unusable", 5, message, hint)
}

fn bad_answer(why: String) -> Problem {
    let message = format!("the gateway's answer is no certificate for this device: {why}");
    Problem::new(
        "bad_answer",
        1,
        message,
        "ask for a new ticket on the gateway",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use aquifer_protocol::Grant;

    fn ticket(hive: &Keys, expires: u64) -> Ticket {
        Ticket {
            hive: HiveId(hive.public()),
            issuer: NodeId([2; 32]),
            addresses: vec![
                "/ip4/127.0.0.1/udp/1/quic-v1".into(),
                "/ip4/192.0.2.1/tcp/1".into(),
                "/ip4/192.0.2.1/udp/1/quic-v1".into(),
            ],
            secret: [3; 16],
            region: "eu/fr".parse().expect("legal"),
            topics: None,
            expires,
        }
    }

    fn issued(hive: &Keys, device: &Keys, until: u64) -> Vec<u8> {
        let grant = Grant {
            hive: HiveId(hive.public()),
            subject: device.node(),
            region: "eu/fr".parse().ok(),
            topics: None,
            roles: 0,
            may_issue: false,
            not_before: 0,
            not_after: until,
            serial: 1,
        };
        Answer::Issued(Chain::rooted(hive, grant).to_bytes().into()).to_bytes()
    }

    #[test]
    fn a_device_joins_once_and_renews_when_a_third_of_its_time_is_left() {
        let folder = tempfile::tempdir().expect("a folder");
        let home = Home::at(folder.path().to_owned());
        let (hive, keys) = (Keys::from_secret(&[1; 32]), keys(&home).expect("drawn"));
        let nothing = Membership::open(&home, &keys, None).expect_err("nothing");
        assert_eq!(("no_gateway", 2), (&*nothing.code, nothing.exit));
        let text = ticket(&hive, u64::MAX).to_text();
        let mut member = Membership::open(&home, &keys, Some(&text)).expect("a ticket");
        assert_eq!(2, member.addresses().len());
        assert!(!member.addresses()[0].ip().is_loopback());
        let wants = member.wants(5).expect("a ticket");
        assert_eq!(Some(Request::RedeemDevice([3; 16])), wants);
        let other = issued(&hive, &Keys::from_secret(&[9; 32]), 900);
        assert!(member.takes(&home, &keys, &other).is_err(), "another's");
        let answer = issued(&hive, &keys, 900);
        member.takes(&home, &keys, &answer).expect("a certificate");
        // It is kept, and the ticket is not needed again.
        let member = Membership::open(&home, &keys, None).expect("kept");
        assert_eq!(Ok(None), member.wants(599));
        assert!(matches!(member.wants(601), Ok(Some(Request::Renew(_)))));
        let stranger = ticket(&Keys::from_secret(&[7; 32]), u64::MAX).to_text();
        let refused = Membership::open(&home, &keys, Some(&stranger));
        assert_eq!("wrong_hive", refused.expect_err("another hive").code);
    }

    #[test]
    fn what_is_no_ticket_or_an_old_one_is_said_to_be() {
        let folder = tempfile::tempdir().expect("a folder");
        let home = Home::at(folder.path().to_owned());
        let (hive, keys) = (Keys::from_secret(&[1; 32]), keys(&home).expect("drawn"));
        let code = |text: &str| {
            Membership::open(&home, &keys, Some(text))
                .expect_err("bad")
                .code
        };
        assert_eq!("ticket_malformed", code("aqf1"));
        assert_eq!("ticket_expired", code(&ticket(&hive, 1).to_text()));
    }
}

//! Admission: who is let in, and how a newcomer becomes a member.
//!
//! Three requests travel over `/aquifer/admit/1`: a hello shows a certificate chain, a redemption
//! turns a ticket's secret into a chain, and a renewal turns a chain, lapsed or not, into a fresh
//! one. The transport has authenticated the key at the other end, so a chain proves itself.
//!
//! Not here: what stays closed until admission (`net::gated`), tickets as strings (`ticket`).

use crate::api::Problem;
use crate::clock::{self, Clock};
use crate::home::Home;
use crate::keys::{Ask, Issuer};
use crate::net::{Judge, Judgement, ReadAnswer};
use crate::ticket::Ticket;
use aquifer_protocol::admit::{Answer, Request};
use aquifer_protocol::certificate::{Chain, OpenChain, role};
use aquifer_protocol::identity::digest;
use aquifer_protocol::time::Time;
use aquifer_protocol::{HiveId, Member, NodeId, Region, TopicName, mesh};
use minicbor::{Decode, Encode, bytes::ByteVec};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

const INVITES_FILE: &str = "invites.cbor";
const INVITES_MAX: usize = 1_024;

/// A ticket that was given out, by the hash of its secret.
#[derive(Clone, Encode, Decode)]
struct Invite {
    #[n(0)]
    region: Region,
    #[n(1)]
    topics: Option<Vec<TopicName>>,
    #[n(2)]
    roles: u32,
    #[n(3)]
    may_issue: bool,
    #[n(4)]
    expires: u64,
    /// Who redeemed it.
    #[n(5)]
    redeemed: Option<NodeId>,
}

type Invites = BTreeMap<ByteVec, Invite>;

/// The node's doorkeeper. Cheap to clone; the network task and the node share it.
#[derive(Clone)]
pub struct Admission {
    hive: HiveId,
    region: Region,
    home: Home,
    issuer: Option<Issuer>,
    clock: Arc<Clock>,
    inner: Arc<Mutex<Inner>>,
}

struct Inner {
    invites: Invites,
    admitted: BTreeMap<NodeId, Member>,
}

impl std::fmt::Debug for Admission {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Admission")
            .field("hive", &self.hive)
            .finish_non_exhaustive()
    }
}

impl Admission {
    /// For a node of `hive` in `region` that certifies as `issuer`.
    pub fn open(
        hive: HiveId,
        region: Region,
        home: Home,
        issuer: Option<Issuer>,
        clock: Arc<Clock>,
    ) -> Result<Self, Problem> {
        let invites = match home.read(INVITES_FILE, 1 << 20)? {
            Some(bytes) => minicbor::decode(&bytes).unwrap_or_default(),
            None => Invites::new(),
        };
        let inner = Inner {
            invites,
            admitted: BTreeMap::new(),
        };
        Ok(Self {
            hive,
            region,
            home,
            issuer,
            clock,
            inner: Arc::new(Mutex::new(inner)),
        })
    }

    /// The hello that shows `chain`.
    pub fn hello(chain: &[u8]) -> Vec<u8> {
        Request::Hello(chain.to_vec().into()).to_bytes()
    }

    /// The request that redeems a ticket.
    pub fn redemption(ticket: &Ticket) -> Vec<u8> {
        Request::Redeem(ticket.secret).to_bytes()
    }

    /// The request for a fresh certificate.
    pub fn renewal(chain: &[u8]) -> Vec<u8> {
        Request::Renew(chain.to_vec().into()).to_bytes()
    }

    /// The chain in an answer to a redemption or a renewal.
    pub fn issued(answer: &[u8], hive: &HiveId) -> Result<Member, Problem> {
        match Answer::open(answer) {
            Some(Answer::Issued(chain)) => Chain::open(&chain, hive).map_err(|why| {
                let message =
                    format!("the node that issued the ticket sent a bad certificate: {why}");
                Problem::new("wrong_hive", 5, message, "ask for a new ticket")
            }),
            Some(Answer::Refused(code, message)) => Err(Problem::new(
                &code,
                5,
                message,
                "ask for a new ticket: `aquifer invite`",
            )),
            _ => Err(Problem::new(
                "bad_answer",
                1,
                "the node that issued the ticket answered nonsense",
                "",
            )),
        }
    }

    /// The member behind a key, if it has shown its certificate.
    pub fn admitted(&self, node: &NodeId) -> Option<Member> {
        self.inner().admitted.get(node).cloned()
    }

    /// The region this node may certify for; `Ok(None)` is every region.
    pub fn may_certify(&self) -> Result<Option<Region>, Problem> {
        let issuer = self.issuer.as_ref().ok_or_else(not_an_issuer)?;
        Ok(issuer.region())
    }

    /// Gives out a ticket. It is on disk before it is handed over.
    pub fn invite(
        &self,
        ask: &Ask,
        addresses: Vec<String>,
        expires: u64,
    ) -> Result<Ticket, Problem> {
        let issuer = self.issuer.as_ref().ok_or_else(not_an_issuer)?;
        let now = self.clock.now();
        // Refuse now what could not be issued later.
        issuer.issue(&self.home, ask.clone(), now)?;
        let ticket = Ticket {
            hive: self.hive,
            issuer: ask.subject,
            addresses,
            secret: clock::entropy(),
            region: ask.region.clone(),
            topics: ask.topics.clone(),
            expires,
        };
        let invite = Invite {
            region: ask.region.clone(),
            topics: ask.topics.clone(),
            roles: ask.roles,
            may_issue: ask.may_issue,
            expires,
            redeemed: None,
        };
        let mut inner = self.inner();
        let over = |invite: &Invite| invite.expires + 86_400_000 < now.millis();
        inner.invites.retain(|_, invite| !over(invite));
        if inner.invites.len() >= INVITES_MAX {
            let hint = "wait for some to expire";
            return Err(Problem::new(
                "too_many_invites",
                1,
                "too many tickets are open",
                hint,
            ));
        }
        inner.invites.insert(name_of(&ticket.secret), invite);
        self.keep(&inner.invites)?;
        Ok(ticket)
    }

    /// How the network judges strangers.
    pub fn judge(&self) -> Judge {
        let me = self.clone();
        Box::new(move |key, request| {
            let node = NodeId(key);
            let (mut domains, mut seed, mut device) = (Vec::new(), false, false);
            let (admit, answer) = match minicbor::decode(request) {
                Ok(Request::Hello(chain)) => match me.admit(node, &chain) {
                    Ok(member) => {
                        seed = member.grant().roles & role::SEED != 0;
                        device = member.grant().roles == 0;
                        domains = me.domains(&member);
                        (true, Answer::Welcome)
                    }
                    Err((code, message)) => (false, Answer::Refused(code.to_owned(), message)),
                },
                Ok(Request::Redeem(secret)) => (false, me.redeem(node, &secret, false)),
                Ok(Request::RedeemDevice(secret)) => (false, me.redeem(node, &secret, true)),
                Ok(Request::Renew(chain)) => (false, me.renew(node, &chain)),
                Err(_) => {
                    let message = "the request is malformed".to_owned();
                    (false, Answer::Refused("malformed".to_owned(), message))
                }
            };
            Judgement {
                admit,
                answer: answer.to_bytes(),
                domains,
                seed,
                device,
            }
        })
    }

    /// How the network reads answers to our hello.
    pub fn read_answer() -> ReadAnswer {
        Box::new(|_, answer| match Answer::open(answer) {
            Some(Answer::Welcome) => Ok(()),
            Some(Answer::Refused(_, message)) => Err(message),
            _ => Err("the peer answered nonsense".to_owned()),
        })
    }

    /// What this node and a peer are both inside of. A certificate for some topics only opens nothing
    /// that is for a whole region.
    fn domains(&self, peer: &Member) -> Vec<String> {
        if !mesh::takes_part(peer) {
            return Vec::new();
        }
        let shared = self.region.shared(peer.region());
        shared.iter().map(ToString::to_string).collect()
    }

    fn admit(&self, node: NodeId, chain: &[u8]) -> Result<Member, (&'static str, String)> {
        let member = Chain::open(chain, &self.hive).map_err(|why| {
            let code = if matches!(why, OpenChain::WrongHive { .. }) {
                "wrong_hive"
            } else {
                "bad_chain"
            };
            (code, why.to_string())
        })?;
        if member.node() != node {
            return Err(("not_yours", "the certificate is another node's".to_owned()));
        }
        if !member.valid_at(self.clock.now()) {
            return Err((
                "lapsed",
                "the certificate is not in force: renew it, or check both clocks".to_owned(),
            ));
        }
        self.inner().admitted.insert(node, member.clone());
        Ok(member)
    }

    /// Redeems a ticket. The same node may ask again and gets a chain again: its first answer may
    /// have been lost on the way. A device at the edge gets the region and the topics and no roles.
    fn redeem(&self, node: NodeId, secret: &[u8; 16], device: bool) -> Answer {
        let refuse =
            |code: &str, message: &str| Answer::Refused(code.to_owned(), message.to_owned());
        let Some(issuer) = &self.issuer else {
            return refuse("not_authorised", "this node does not certify");
        };
        let now = self.clock.now();
        let mut inner = self.inner();
        let Some(invite) = inner.invites.get_mut(&name_of(secret)) else {
            return refuse("ticket_unknown", "this node did not issue that ticket");
        };
        if invite.expires < now.millis() {
            return refuse("ticket_expired", "the ticket has expired");
        }
        if invite.redeemed.is_some_and(|by| by != node) {
            return refuse(
                "ticket_used",
                "the ticket was used by another node: a ticket is good once",
            );
        }
        invite.redeemed = Some(node);
        let ask = Ask {
            subject: node,
            region: invite.region.clone(),
            topics: invite.topics.clone(),
            roles: if device { 0 } else { invite.roles },
            may_issue: invite.may_issue && !device,
        };
        let kept = self.keep(&inner.invites);
        drop(inner);
        match kept.and_then(|()| issuer.issue(&self.home, ask, now)) {
            Ok(chain) => Answer::Issued(chain.to_bytes().into()),
            Err(problem) => refuse(&problem.code, &problem.message),
        }
    }

    /// Renews a certificate, lapsed or not, for the same node, region, topics and roles.
    fn renew(&self, node: NodeId, chain: &[u8]) -> Answer {
        let refuse = |message: String| Answer::Refused("not_renewed".to_owned(), message);
        let Some(issuer) = &self.issuer else {
            return refuse("this node does not certify".to_owned());
        };
        let member = match Chain::open(chain, &self.hive) {
            Ok(member) if member.node() == node => member,
            Ok(_) => return refuse("the certificate is another node's".to_owned()),
            Err(why) => return refuse(why.to_string()),
        };
        let grant = member.grant();
        let ask = Ask {
            subject: node,
            region: member.region().clone(),
            topics: grant.topics.clone(),
            roles: grant.roles,
            may_issue: grant.may_issue,
        };
        match issuer.issue(&self.home, ask, self.clock.now()) {
            Ok(chain) => Answer::Issued(chain.to_bytes().into()),
            Err(problem) => refuse(problem.message),
        }
    }

    fn keep(&self, invites: &Invites) -> Result<(), Problem> {
        let bytes = minicbor::to_vec(invites).expect("a vector takes any encoding");
        self.home.write(INVITES_FILE, &bytes)
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a certificate should be renewed: a third of its time is left, or it was made while a clock
/// was ahead and is not in force yet.
pub fn wants_renewal(member: &Member, now: Time) -> bool {
    let grant = member.grant();
    let life = grant.not_after.saturating_sub(grant.not_before);
    now.millis() > grant.not_after.saturating_sub(life / 3) || now.millis() < grant.not_before
}

fn name_of(secret: &[u8; 16]) -> ByteVec {
    digest("aquifer/invite/1", &[secret]).to_vec().into()
}

fn not_an_issuer() -> Problem {
    Problem::new(
        "not_authorised",
        5,
        "this node may not certify others",
        "run `aquifer invite` on the node that founded the hive, or on a seed of the region",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys;
    use aquifer_protocol::Keys;

    fn founder() -> (tempfile::TempDir, Admission, NodeId) {
        let folder = tempfile::tempdir().expect("a folder");
        let home = Home::at(Some(folder.path().to_owned()));
        home.create().expect("made");
        let clock = Arc::new(Clock::start());
        let node = keys::identity(&home).expect("drawn");
        let eu = "eu".parse().expect("legal");
        let chain = keys::found_hive(&home, &node, &eu, role::ALL, clock.now()).expect("founded");
        let hive = chain.grant().expect("one").hive;
        let issuer = Issuer::of(&home, &node).expect("read");
        (
            folder,
            Admission::open(hive, eu, home, issuer, clock).expect("open"),
            node.node(),
        )
    }

    fn ask(subject: NodeId) -> Ask {
        let region = "us".parse().expect("legal");
        Ask {
            subject,
            region,
            topics: None,
            roles: role::SEED,
            may_issue: false,
        }
    }

    #[test]
    fn a_ticket_is_good_once_even_over_a_restart() {
        let (_folder, door, issuer) = founder();
        let expires = clock::wall().millis() + 60_000;
        let ticket = door.invite(&ask(issuer), vec![], expires).expect("issued");
        let redeem = |door: &Admission, key: [u8; 32]| {
            let judgement = door.judge()(key, &Admission::redemption(&ticket));
            assert!(!judgement.admit, "a redemption admits nobody yet");
            Admission::issued(&judgement.answer, &door.hive)
        };
        let newcomer = Keys::from_secret(&[5; 32]).public();
        let member = redeem(&door, newcomer).expect("redeemed");
        assert_eq!(member.region().as_str(), "us");
        redeem(&door, newcomer).expect("the same node may ask again");
        let again = Admission::open(
            door.hive,
            door.region.clone(),
            door.home.clone(),
            door.issuer.clone(),
            door.clock.clone(),
        );
        let again = again.expect("open");
        assert_eq!(
            redeem(&again, [6; 32]).expect_err("used").code,
            "ticket_used"
        );
        let hello = again.judge()(newcomer, &Admission::hello(member.chain()));
        assert!(hello.admit);
        assert!(
            hello.domains.is_empty(),
            "us and eu have no region in common"
        );
        assert!(
            !again.judge()([6; 32], &Admission::hello(member.chain())).admit,
            "not its chain"
        );
    }

    #[test]
    fn an_expired_ticket_and_garbage_admit_nobody() {
        let (_folder, door, issuer) = founder();
        let ticket = door.invite(&ask(issuer), vec![], 1).expect("issued");
        let answer = door.judge()([5; 32], &Admission::redemption(&ticket)).answer;
        assert_eq!(
            Admission::issued(&answer, &door.hive)
                .expect_err("late")
                .code,
            "ticket_expired"
        );
        for garbage in [&b""[..], b"\x00", b"\x82\x01\x41\x00", &[0xff; 64]] {
            assert!(!door.judge()([5; 32], garbage).admit);
        }
    }
}

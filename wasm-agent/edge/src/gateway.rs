//! The gateway, as the device has it: connected when something is to be said, and introduced to first.
//!
//! Each connection begins with admission: a certificate if the device has none, a fresh one if it is time,
//! then the hello. After that one word at a time goes over, and its reply comes back.
//!
//! Not here: what is said when (`run`), what the replies change (`device`, `state`).

use crate::clock;
use crate::home::Home;
use crate::link::{ADMIT, ADMIT_BYTES_MAX, EDGE, Expected, Identity, Link, LinkFailure};
use crate::member::Membership;
use crate::problem::Problem;
use aquifer_protocol::Keys;
use aquifer_protocol::admit::{Answer, Request};
use aquifer_wasm::uplink::{Reply, WORD_BYTES_MAX, Word};
use std::time::Duration;

/// Behind its verdict the gateway opens its protocol: so often, and with such pauses, it is asked again.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(50);

/// Why a word has no reply.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Unheard {
    /// The link.
    #[error(transparent)]
    Link(#[from] LinkFailure),
    /// The gateway does not let this device in, or its home failed.
    #[error(transparent)]
    Problem(#[from] Problem),
    /// The ticket names no address that this program can dial.
    #[error(
        "the ticket names no QUIC address of the gateway: start it with --listen /ip4/…/udp/…/quic-v1 and make a new ticket"
    )]
    Nowhere,
    /// What it replied is not known here.
    #[error("the gateway replied what this version does not understand")]
    Nonsense,
}

/// The gateway of this device.
pub struct Gateway {
    /// Who this device is to it.
    pub membership: Membership,
    home: Home,
    keys: Keys,
    identity: Identity,
    link: Option<Link>,
    /// Bytes up and down, of connections that have ended.
    bytes: (u64, u64),
    handshakes: u64,
}

impl Gateway {
    /// Not connected yet.
    pub fn new(home: Home, keys: Keys, identity: Identity, membership: Membership) -> Self {
        Self {
            membership,
            home,
            keys,
            identity,
            link: None,
            bytes: (0, 0),
            handshakes: 0,
        }
    }

    /// Says one word and hears the reply. Connects first if it is not connected.
    ///
    /// # Errors
    /// [`Unheard`]; the connection is given up then.
    pub async fn says(&mut self, word: &Word) -> Result<Reply, Unheard> {
        let reply = self.tries(word).await;
        if reply.is_err() {
            self.hangs_up().await;
        }
        reply
    }

    async fn tries(&mut self, word: &Word) -> Result<Reply, Unheard> {
        let word = word.to_bytes();
        let link = self.linked().await?;
        for tried in 1.. {
            match link.exchange(EDGE, &word, WORD_BYTES_MAX).await {
                Err(LinkFailure::Unsupported { .. }) if tried < TRIES => {
                    tokio::time::sleep(PAUSE).await;
                }
                reply => return Reply::open(&reply?).map_err(|_| Unheard::Nonsense),
            }
        }
        Err(Unheard::Nonsense)
    }

    /// Whether a connection stands.
    pub fn is_up(&self) -> bool {
        self.link.as_ref().is_some_and(Link::is_up)
    }

    /// Bytes sent and received so far, in datagrams.
    pub fn bytes(&self) -> (u64, u64) {
        let (up, down) = self.link.as_ref().map_or((0, 0), Link::bytes);
        (self.bytes.0 + up, self.bytes.1 + down)
    }

    /// Connections made so far.
    pub fn handshakes(&self) -> u64 {
        self.handshakes
    }

    /// Ends the connection, if there is one.
    pub async fn hangs_up(&mut self) {
        if let Some(link) = self.link.take() {
            let (up, down) = link.bytes();
            self.bytes = (self.bytes.0 + up, self.bytes.1 + down);
            link.close().await;
        }
    }

    async fn linked(&mut self) -> Result<&Link, Unheard> {
        if !self.is_up() {
            self.hangs_up().await;
            let link = self.connects().await?;
            let introduced = self.introduces(&link).await;
            if let Err(why) = introduced {
                link.close().await;
                return Err(why);
            }
            self.link = Some(link);
        }
        Ok(self.link.as_ref().expect("it was made above"))
    }

    /// The first address that answers.
    async fn connects(&mut self) -> Result<Link, Unheard> {
        let expected = Expected {
            hive: self.membership.hive,
            node: self.membership.gateway,
        };
        let mut last = Unheard::Nowhere;
        for address in self.membership.addresses() {
            match Link::connect(&self.identity, address, expected).await {
                Ok(link) => {
                    self.handshakes += 1;
                    return Ok(link);
                }
                Err(why) => last = why.into(),
            }
        }
        Err(last)
    }

    /// A certificate if it is time for one, and then the hello.
    async fn introduces(&mut self, link: &Link) -> Result<(), Unheard> {
        if let Some(request) = self.membership.wants(clock::now_ms())? {
            let answer = link
                .exchange(ADMIT, &request.to_bytes(), ADMIT_BYTES_MAX)
                .await?;
            let taken = self.membership.takes(&self.home, &self.keys, &answer);
            match (taken, &request) {
                // A certificate that is good still need not be renewed just now.
                (Err(_), Request::Renew(_)) => {}
                (taken, _) => taken?,
            }
        }
        let member = self.membership.member().ok_or(Unheard::Nonsense)?;
        let hello = Request::Hello(member.chain().to_vec().into()).to_bytes();
        let answer = link.exchange(ADMIT, &hello, ADMIT_BYTES_MAX).await?;
        match Answer::open(&answer) {
            Some(Answer::Welcome) => Ok(()),
            Some(Answer::Refused(code, why)) => {
                let hint = "compare both clocks; if the certificate has lapsed for good, ask for a new ticket";
                Err(Problem::new(&code, 5, why, hint).into())
            }
            _ => Err(Unheard::Nonsense),
        }
    }
}

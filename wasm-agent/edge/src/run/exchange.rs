//! Exchanges: what is said over the link next, and what becomes of the reply.
//!
//! One is under way at a time. It has the gateway with it and gives it back at its end.

use super::{DOWN_EVERY_MS, KEEP_EVERY_MS, Run};
use crate::carry::{Errand, hand_over};
use crate::clock;
use crate::gateway::{Gateway, Unheard};
use crate::link::LinkFailure;
use crate::problem::Problem;
use aquifer_wasm::abi::{Cause, Wakeup};
use aquifer_wasm::uplink::{Item, Receipt, Reply, UNKNOWN_AGENT, Word};
use std::future::Future;
use std::pin::Pin;

/// After so many failures in a row a neighbour is asked to carry.
const FAILURES_BEFORE_CARRYING: u32 = 2;

/// Something on its way.
pub(super) type Exchange = Pin<Box<dyn Future<Output = Done>>>;

/// What came of it.
pub(super) enum Done {
    /// A word of this device, or one that it carries.
    Said {
        gateway: Gateway,
        what: Said,
        reply: Result<Reply, Unheard>,
    },
    /// A parcel of this device that a neighbour has carried, or has not.
    Carried(Result<Reply, LinkFailure>),
    /// The link was ended.
    HungUp(Gateway),
}

/// What was said.
pub(super) enum Said {
    /// A parcel of its own.
    Up,
    /// What is there?
    Down,
    /// Another's parcel.
    Errand(Errand),
}

impl Run {
    /// Begins what is to be done now, if anything is.
    pub(super) fn begins(&mut self, now: u64) {
        if self.exchange.is_some() {
            return;
        }
        let next = match self.radio.is_free(now) {
            true => self.next_word(now),
            false => None,
        };
        if let Some((word, what)) = next {
            self.says(now, word, what);
        } else if !self.radio.is_up(now) && self.gateway.as_ref().is_some_and(Gateway::is_up) {
            self.hangs_up();
        } else if self.radio.failures() >= FAILURES_BEFORE_CARRYING {
            self.asks_a_neighbour(now);
        }
    }

    fn next_word(&mut self, now: u64) -> Option<(Word, Said)> {
        if let Some(errand) = self.near.as_mut().and_then(|near| near.errand()) {
            return Some((errand.word.clone(), Said::Errand(errand)));
        }
        if let Some(word) = self.parcel(Vec::new()) {
            return Some((word, Said::Up));
        }
        (now >= self.down_at && self.has_room()).then(|| {
            let word = Word::Down {
                agent: self.device.agent,
                follows: self.device.manifest.follows.clone(),
                bookmark: self.state.bookmark.clone().into(),
            };
            (word, Said::Down)
        })
    }

    /// The beginning of the queue as a word; `chain` if another is to bring it.
    fn parcel(&mut self, chain: Vec<u8>) -> Option<Word> {
        let parcel = self.device.parcel(self.keys.public(), self.gateway_id.0)?;
        let (sealed, raw) = parcel.seal(&self.keys);
        self.state.parcels_raw += raw as u64;
        self.state.parcels_sent += sealed.len() as u64;
        Some(Word::Up {
            chain: chain.into(),
            parcel: sealed.into(),
            manifest: match self.state.introduced {
                true => Vec::new().into(),
                false => self.device.granted.clone().into(),
            },
        })
    }

    fn says(&mut self, now: u64, word: Word, what: Said) {
        let Some(mut gateway) = self.gateway.take() else {
            return;
        };
        self.state.last_try = Some(now);
        self.exchange = Some(Box::pin(async move {
            let reply = gateway.says(&word).await;
            Done::Said {
                gateway,
                what,
                reply,
            }
        }));
    }

    fn hangs_up(&mut self) {
        if let Some(mut gateway) = self.gateway.take() {
            self.exchange = Some(Box::pin(async move {
                gateway.hangs_up().await;
                Done::HungUp(gateway)
            }));
        }
    }

    fn asks_a_neighbour(&mut self, now: u64) {
        let Some(member) = self
            .gateway
            .as_ref()
            .and_then(|g| g.membership.member().cloned())
        else {
            return;
        };
        let carrier = self
            .near
            .as_mut()
            .and_then(|near| near.carrier(self.gateway_id, member.region(), now));
        let Some(carrier) = carrier else { return };
        let Some(word) = self.parcel(member.chain().to_vec()) else {
            return;
        };
        let (identity, hive) = (self.identity.clone(), member.grant().hive);
        self.exchange = Some(Box::pin(async move {
            Done::Carried(hand_over(identity, carrier, hive, word).await)
        }));
    }

    /// What came of it, made durable.
    pub(super) fn concludes(&mut self, done: Done) -> Result<(), Problem> {
        let now = clock::now_ms();
        self.counts_time(now);
        match done {
            Done::HungUp(gateway) => self.has(gateway),
            Done::Carried(Ok(reply)) => {
                let before = self.device.queue().len();
                let taken = self.replied_up(reply, true);
                if self.device.queue().len() < before {
                    self.state.carried_by_others += 1;
                    self.keep()?;
                }
                return taken;
            }
            Done::Carried(Err(why)) => self.voice.not_carried(&why.to_string()),
            Done::Said {
                gateway,
                what,
                reply,
            } => {
                self.has(gateway);
                match reply {
                    Ok(reply) => self.replied(now, what, reply)?,
                    Err(why) => self.unheard(now, &why)?,
                }
            }
        }
        if now >= self.kept_at + KEEP_EVERY_MS {
            self.keep()?;
        }
        Ok(())
    }

    fn has(&mut self, gateway: Gateway) {
        let (up, down) = gateway.bytes();
        let (had_up, had_down) = self.voice.link_bytes;
        self.state.bytes_up += up - had_up;
        self.state.bytes_down += down - had_down;
        self.voice.link_bytes = (up, down);
        self.state.handshakes += gateway.handshakes() - self.voice.link_handshakes;
        self.voice.link_handshakes = gateway.handshakes();
        if let Some(near) = &mut self.near {
            near.knows(gateway.membership.member());
        }
        self.gateway = Some(gateway);
    }

    fn unheard(&mut self, now: u64, why: &Unheard) -> Result<(), Problem> {
        self.radio.failed(now, clock::drawn(1 << 32));
        let why = why.to_string();
        if self.state.last_error.as_ref() == Some(&why) {
            return Ok(());
        }
        self.voice.offline(&why, self.device.queue().len());
        self.state.last_error = Some(why);
        // Whoever looks after the device sees it at once.
        self.keep()
    }

    fn replied(&mut self, now: u64, what: Said, reply: Reply) -> Result<(), Problem> {
        let was_away = self.state.last_error.take().is_some() || self.state.last_contact.is_none();
        self.radio.worked();
        self.state.words += 1;
        self.state.last_contact = Some(now);
        if was_away {
            self.voice.online();
            self.keep()?;
        }
        match what {
            Said::Up => self.replied_up(reply, false),
            Said::Down => self.replied_down(now, reply),
            Said::Errand(errand) => {
                self.state.carried += 1;
                self.voice.carried();
                // Whoever wanted it carried may have gone: it says it again.
                let _ = errand.reply.send(reply);
                Ok(())
            }
        }
    }

    /// The queue goes on behind what the gateway has signed for, whoever brought the receipt.
    fn replied_up(&mut self, reply: Reply, by_another: bool) -> Result<(), Problem> {
        match reply {
            Reply::Taken(bytes) => match Receipt::open(&bytes, &self.gateway_id.0) {
                Ok(receipt) if receipt.agent == self.device.agent => self.settles(receipt),
                _ => {
                    self.waits("the receipt is not the gateway's", by_another);
                    Ok(())
                }
            },
            Reply::Later(why) => {
                self.waits(&why, by_another);
                Ok(())
            }
            // A gateway that has lost its ledger: the next try brings the manifest.
            Reply::Refused(code, _) if code == UNKNOWN_AGENT && self.state.introduced => {
                self.state.introduced = false;
                Ok(())
            }
            Reply::Refused(code, why) => {
                self.waits(&format!("{why} ({code})"), by_another);
                Ok(())
            }
            Reply::News { .. } => Ok(()),
        }
    }

    fn settles(&mut self, receipt: Receipt) -> Result<(), Problem> {
        // Refusals are kept first: what is out of the queue is not told of again.
        let new = self.state.was_refused(receipt.refused);
        if !new.is_empty() {
            self.keep()?;
        }
        self.state.introduced = true;
        let settled = self.device.settles(receipt.through)?;
        self.voice.up(settled, self.device.queue().len());
        new.iter().for_each(|refusal| self.voice.refused(refusal));
        Ok(())
    }

    /// The gateway is there and has not taken it: as after a failure, later.
    fn waits(&mut self, why: &str, by_another: bool) {
        match by_another {
            true => self.voice.not_carried(why),
            false => {
                self.radio.failed(clock::now_ms(), clock::drawn(1 << 32));
                self.voice.offline(why, self.device.queue().len());
                self.state.last_error = Some(why.to_owned());
            }
        }
    }

    /// News: written to the guest's journal, then the bookmark behind them.
    fn replied_down(&mut self, now: u64, reply: Reply) -> Result<(), Problem> {
        let (items, bookmark, more) = match reply {
            Reply::News {
                items,
                bookmark,
                more,
            } => (items, bookmark, more),
            Reply::Refused(code, why) => {
                if code == "bad_bookmark" {
                    self.state.bookmark.clear();
                }
                self.down_at = now + KEEP_EVERY_MS;
                self.voice
                    .offline(&format!("{why} ({code})"), self.device.queue().len());
                return Ok(());
            }
            Reply::Later(_) | Reply::Taken(_) => {
                self.down_at = now + DOWN_EVERY_MS;
                return Ok(());
            }
        };
        let mut woken = 0;
        for item in items {
            match self.device.takes(item.id, wakeup(item)) {
                Ok(is_new) => woken += u64::from(is_new),
                // Longer than an inbox: it can never be taken.
                Err(problem) => self.voice.trouble(&problem),
            }
        }
        self.wakes(now)?;
        if woken > 0 {
            self.state.news += woken;
            self.voice.news(woken);
        }
        if self.state.bookmark[..] != bookmark[..] {
            self.state.bookmark = bookmark.into();
            self.keep()?;
        }
        self.down_at = if more { now } else { now + DOWN_EVERY_MS };
        Ok(())
    }
}

fn wakeup(item: Item) -> Wakeup {
    Wakeup {
        cause: match item.topic.is_empty() {
            true => Cause::Message,
            false => Cause::Publication,
        },
        from: Some(item.from),
        topic: item.topic,
        stamp: item.stamp,
        body: item.body.into(),
    }
}

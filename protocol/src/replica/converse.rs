//! Converse: what is said to peers, and what is answered.
//!
//! A summary opens the talk; if it differs, one side says by items (or coded cells of them) where its
//! logs stand; the other finds what differs, asks for what it lacks, and gives or tells what the first
//! lacks. Records are sent on request, by the node that has just written them, or, a few, to a peer
//! that has just shown that it lacks them; and never before the law was asked about the receiver.
//!
//! The hive's own topic is spoken of first. Of a topic whose law a node does not know yet it says
//! nothing, and once it learns it, it speaks up by itself.

use super::Replica;
use crate::certificate::Member;
use crate::decide::{Denial, Op, Subject, decide};
use crate::event::Event;
use crate::identity::NodeId;
use crate::limits::{
    FUTURE_MAX, ITEMS_PER_MESSAGE_MAX, LIST_ITEMS_MAX, PEERS_MAX, RECORDS_PER_MESSAGE_MAX,
    WANT_PATIENCE, WANT_PATIENCE_MAX,
};
use crate::record::Seq;
use crate::store::Store;
use crate::sync::{self};
use crate::time::{Stamp, Time};
use crate::topic::TopicId;
use crate::wire::{Item, Message, Proof, Want};
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

mod cells;
mod exchange;
mod fetch;
mod serve;

pub(super) use cells::Codings;

/// A peer that is up.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) member: Member,
    /// By how many milliseconds our clock is ahead of its clock.
    ahead_ms: Option<i64>,
    /// A smoothed round trip to it, once the driver has measured one.
    pub(super) rtt: Option<Duration>,
    /// How many stretches of logs it has promised since the last round of sync.
    promised: usize,
    /// When records came from it last.
    delivered: Option<Time>,
    /// Talks that we opened: our digest, its digest, when.
    opened: BTreeMap<TopicId, ([u8; 16], [u8; 16], Time)>,
    /// Reconciliations by coded cells in which it sends.
    receiving: BTreeMap<TopicId, cells::Receiving>,
    /// Logs unknown here that it was asked for.
    fetching: BTreeMap<TopicId, fetch::Fetching>,
    /// Topics of which it has logs that are unknown here, and are being fetched from another.
    deferred: BTreeSet<TopicId>,
    /// What it wants and has not been sent.
    serving: serve::Serving,
}

impl Peer {
    fn new(member: Member) -> Self {
        Self {
            member,
            ahead_ms: None,
            rtt: None,
            promised: 0,
            delivered: None,
            opened: BTreeMap::new(),
            receiving: BTreeMap::new(),
            fetching: BTreeMap::new(),
            deferred: BTreeSet::new(),
            serving: serve::Serving::default(),
        }
    }

    /// What it may promise between two rounds of sync is counted anew.
    pub(super) fn begin_round(&mut self) {
        self.promised = 0;
        self.deferred.clear();
    }

    /// Whether what it was asked for at `asked` may still come: it was asked just now, or goes on
    /// delivering.
    fn has_time(&self, asked: Time, now: Time) -> bool {
        let last = self.delivered.map_or(asked, |last| last.max(asked));
        now.since(last) < WANT_PATIENCE && now.since(asked) < WANT_PATIENCE_MAX
    }
}

/// Records of a log that a peer has promised.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    pub(super) peer: NodeId,
    until: Seq,
    /// Up to where it was asked for; the rest has turned up since.
    asked_until: Seq,
    asked: Time,
    /// How far below our height it is asked for, while a fork is looked for; 0 otherwise.
    back: u64,
}

impl Wanted {
    /// Whether the peer still has time to answer.
    pub(super) fn is_promised(&self, now: Time, peer: Option<&Peer>) -> bool {
        peer.is_some_and(|peer| peer.has_time(self.asked, now))
    }
}

impl<S: Store> Replica<S> {
    pub(super) fn on_peer_up(&mut self, member: Member) {
        let node = member.node();
        if node == self.keys.node() || self.peers.len() >= PEERS_MAX {
            return;
        }
        self.law.admit(&member);
        self.peers.insert(node, Peer::new(member));
        for topic in self.spoken_topics() {
            self.offer(topic, node);
        }
        self.ask_receipts();
    }

    pub(super) fn on_peer_down(&mut self, peer: NodeId) {
        self.peers.remove(&peer);
        self.wanted.retain(|_, wanted| wanted.peer != peer);
        self.owing.forget(&peer);
    }

    pub(super) fn on_distance(&mut self, peer: NodeId, rtt: Duration) {
        if let Some(peer) = self.peers.get_mut(&peer) {
            peer.rtt = Some(rtt);
        }
    }

    /// The hive's topic, then every topic we hold.
    pub(super) fn spoken_topics(&self) -> Vec<TopicId> {
        let held = self
            .law
            .topics()
            .map(|(id, _)| id)
            .filter(|id| self.is_holder(*id));
        core::iter::once(self.hive_topic).chain(held).collect()
    }

    /// Whether `peer` may be given what we hold of `topic`.
    pub(super) fn may_serve(&self, topic: TopicId, peer: &NodeId) -> Result<(), Denial> {
        let peer = self
            .peers
            .get(peer)
            .ok_or(Denial::UnknownMember { node: *peer })?;
        let label = self.law.label(topic)?;
        #[cfg(mutant)]
        if crate::mutant::planted(crate::mutant::Mutant::ServeWithoutPolicy) {
            return Ok(());
        }
        let subject = Subject {
            member: &peer.member,
            at: self.now,
        };
        decide(Op::Serve, label, subject, label.epoch)
    }

    /// Opens the talk about `topic` with a summary, if the law lets the peer hear of it.
    pub(super) fn offer(&mut self, topic: TopicId, to: NodeId) {
        if self.may_serve(topic, &to).is_ok() {
            let (digest, logs) = self.summary(topic);
            let clock = Stamp::at(self.now);
            self.send(
                to,
                Message::Summary {
                    topic,
                    digest,
                    logs,
                    clock,
                },
            );
        }
    }

    pub(super) fn on_message(&mut self, from: NodeId, message: Message) {
        if !self.peers.contains_key(&from) {
            return;
        }
        match message {
            Message::Summary {
                topic,
                digest,
                logs,
                clock,
            } => {
                self.on_clock(from, clock);
                if self.exchanges(topic, from) {
                    self.on_summary(from, topic, digest, logs);
                }
            }
            Message::Items {
                topic,
                items,
                whole,
            } => {
                if self.exchanges(topic, from) {
                    self.on_items(from, topic, &items, whole);
                }
            }
            Message::Cells {
                topic,
                nonce,
                start,
                gauge,
                cells,
            } => {
                if self.exchanges(topic, from) {
                    self.on_cells(from, topic, nonce, start, gauge, cells);
                }
            }
            Message::MoreCells {
                topic,
                nonce,
                start,
                count,
            } => {
                if self.serves(topic, from) {
                    self.send_cells(from, topic, nonce, start, count);
                }
            }
            Message::WantItems {
                topic,
                nonce,
                hashes,
            } => {
                if self.serves(topic, from) {
                    self.on_want_items(from, topic, nonce, &hashes);
                }
            }
            Message::Wants { topic, wants } => {
                if self.serves(topic, from) {
                    self.on_wants(from, topic, &wants);
                }
            }
            Message::Records { topic, runs } => {
                if self.exchanges(topic, from) {
                    self.on_records(from, topic, &runs);
                }
            }
            Message::Agreed { topic, digest } => {
                if self.exchanges(topic, from) && self.summary(topic).0 == digest {
                    self.event(Event::InSync { topic, peer: from });
                }
            }
            Message::Receipts(receipts) => self.on_receipts(from, &receipts),
            Message::WantReceipts { topic, reaches } => {
                self.on_want_receipts(from, topic, &reaches);
            }
            Message::Proofs { topic, proofs } => {
                if self.exchanges(topic, from) {
                    proofs.iter().for_each(|proof| self.on_proof(topic, proof));
                }
            }
            Message::WantCoded {
                topic,
                nonce,
                wants,
            } => {
                if self.serves(topic, from) {
                    self.on_coded_wants(from, topic, nonce, &wants);
                }
            }
            Message::Told { topic, nonce, told } => {
                if self.exchanges(topic, from) {
                    self.on_told(from, topic, nonce, &told);
                }
            }
            // Leaves after the commit, so it says that what came before is durable here.
            Message::MoreWaits => self.send(from, Message::GoOn),
            Message::GoOn => self.on_go_on(from),
            Message::Unknown { .. } => {}
        }
    }

    /// Whether the law lets `peer` be answered about `topic`; a denial is reported.
    fn serves(&mut self, topic: TopicId, peer: NodeId) -> bool {
        match self.may_serve(topic, &peer) {
            Ok(()) => true,
            Err(denial) => {
                self.event(Event::Denied {
                    op: Op::Serve,
                    topic,
                    subject: peer,
                    denial,
                });
                false
            }
        }
    }

    /// Whether both sides may hold `topic`, and we are to.
    pub(super) fn exchanges(&mut self, topic: TopicId, peer: NodeId) -> bool {
        if self.law.label(topic).is_err() {
            // A topic whose law has not reached us: the hive's topic will bring it.
            return false;
        }
        self.serves(topic, peer) && self.is_holder(topic)
    }

    fn on_clock(&mut self, from: NodeId, clock: Stamp) {
        let ahead = self.now.millis() as i64 - clock.time().millis() as i64;
        let Some(peer) = self.peers.get_mut(&from) else {
            return;
        };
        let before = peer.ahead_ms.replace(ahead);
        let far = |ms: i64| ms.unsigned_abs() > FUTURE_MAX.as_millis() as u64;
        if far(ahead) && !before.is_some_and(far) {
            self.event(Event::ClockSkew {
                peer: from,
                ahead_ms: ahead,
            });
        }
    }

    /// How far our clock is ahead, if most peers that told theirs are more than the limit behind us.
    pub(super) fn clock_ahead(&self) -> Option<Duration> {
        let mut ahead: Vec<i64> = self
            .peers
            .values()
            .filter_map(|peer| peer.ahead_ms)
            .collect();
        ahead.sort_unstable();
        let median = *ahead.get(ahead.len().checked_sub(1)? / 2)?;
        let by = Duration::from_millis(median.max(0).unsigned_abs());
        (by > FUTURE_MAX).then_some(by)
    }

    /// One side opens: it sends what it has, and the other finds out what follows. The one with more
    /// logs does, so that what the other lacks can be asked for as it is decoded.
    fn on_summary(&mut self, from: NodeId, topic: TopicId, digest: [u8; 16], logs: u32) {
        let (ours, count) = self.summary(topic);
        if ours == digest {
            self.event(Event::InSync { topic, peer: from });
            self.send(from, Message::Agreed { topic, digest });
            return;
        }
        if (count, self.keys.node()) < (logs, from) {
            // Theirs to open, once they know that we differ.
            return self.offer(topic, from);
        }
        let now = self.now;
        let Some(peer) = self.peers.get_mut(&from) else {
            return;
        };
        let again = peer.opened.get(&topic).is_some_and(|(mine, their, at)| {
            (*mine, *their) == (ours, digest) && now.since(*at) < WANT_PATIENCE
        });
        if again {
            return;
        }
        peer.opened.insert(topic, (ours, digest, now));
        if count as usize <= LIST_ITEMS_MAX {
            self.send_items(from, topic);
        } else {
            self.open_cells(from, topic, ours, count.abs_diff(logs));
        }
    }

    /// Sends all our items of `topic`, in as many messages as it takes.
    fn send_items(&mut self, to: NodeId, topic: TopicId) {
        let all: Vec<Item> = self
            .logs
            .of_topic(topic)
            .map(|(k, s)| sync::item(k, s))
            .collect();
        if all.len() <= ITEMS_PER_MESSAGE_MAX {
            self.send(
                to,
                Message::Items {
                    topic,
                    items: all,
                    whole: true,
                },
            );
        } else {
            for items in all.chunks(ITEMS_PER_MESSAGE_MAX) {
                self.send(
                    to,
                    Message::Items {
                        topic,
                        items: items.to_vec(),
                        whole: false,
                    },
                );
            }
        }
    }

    pub(super) fn ask(&mut self, to: NodeId, topic: TopicId, wants: Vec<Want>) {
        for wants in wants.chunks(ITEMS_PER_MESSAGE_MAX) {
            self.send(
                to,
                Message::Wants {
                    topic,
                    wants: wants.to_vec(),
                },
            );
        }
    }

    pub(super) fn tell(
        &mut self,
        to: NodeId,
        topic: TopicId,
        behind: Vec<Item>,
        proofs: Vec<Proof>,
    ) {
        for items in behind.chunks(ITEMS_PER_MESSAGE_MAX) {
            self.send(
                to,
                Message::Items {
                    topic,
                    items: items.to_vec(),
                    whole: false,
                },
            );
        }
        for proofs in proofs.chunks(RECORDS_PER_MESSAGE_MAX) {
            self.send(
                to,
                Message::Proofs {
                    topic,
                    proofs: proofs.to_vec(),
                },
            );
        }
    }
}

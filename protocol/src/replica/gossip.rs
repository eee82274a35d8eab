//! Gossip: what is heard in a mesh, and whether it goes farther.
//!
//! A mesh is a faster way, and nothing rests on it: what it loses, sync brings. It passes a message on
//! only after this node has judged it, so a record goes farther once it is durable here, and an
//! announcement once what it announces can be had here. `Reject` is for what no honest node would pass
//! on; a law that two nodes know differently is no lie, and ends in `Ignore`.

use super::{Replica, accept::Taken};
use crate::event::{Event, Output, RejectRecord, Ticket, Verdict};
use crate::identity::NodeId;
use crate::limits::{NEWS_FOR, VERDICT_PATIENCE, VERDICTS_HELD_MAX};
use crate::log::LogKey;
use crate::mesh;
use crate::record::{Record, Seq};
use crate::region::Region;
use crate::store::Store;
use crate::sync::{self, Verdict as Compared};
use crate::time::{Stamp, Time};
use crate::topic::TopicId;
use crate::wire::{Item, Message};

/// An announcement that goes farther once its records are here.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) ticket: Ticket,
    from: NodeId,
    topic: TopicId,
    items: Vec<Item>,
    pub(super) until: Time,
}

impl<S: Store> Replica<S> {
    /// The mesh in which this node gossips `topic`, if it does.
    pub(super) fn mesh_of(&self, topic: TopicId) -> Option<Region> {
        let me = self.me.as_ref().filter(|me| mesh::takes_part(me))?;
        mesh::carrying(self.law.label(topic).ok()?, me.region())
    }

    pub(super) fn on_gossip(
        &mut self,
        mesh: &Region,
        from: NodeId,
        ticket: Ticket,
        message: Message,
    ) {
        let verdict = match message {
            Message::Records { topic, runs } => Some(self.hear_records(mesh, from, topic, &runs)),
            Message::Items { topic, items, .. } => {
                self.hear_items(mesh, from, ticket, topic, items)
            }
            Message::Unknown { .. } => Some(Verdict::Ignore),
            _ => Some(Verdict::Reject),
        };
        if let Some(verdict) = verdict {
            self.judged(ticket, verdict);
        }
    }

    fn judged(&mut self, ticket: Ticket, verdict: Verdict) {
        self.beat.out.push(Output::Verdict { ticket, verdict });
    }

    /// Whether `topic` may be spoken of in `mesh`, by the law that this node knows.
    fn belongs(&mut self, mesh: &Region, from: NodeId, topic: TopicId) -> bool {
        self.mesh_of(topic).as_ref() == Some(mesh) && self.exchanges(topic, from)
    }

    fn hear_records(
        &mut self,
        mesh: &Region,
        from: NodeId,
        topic: TopicId,
        runs: &[Vec<Record>],
    ) -> Verdict {
        if !self.belongs(mesh, from, topic) {
            return Verdict::Ignore;
        }
        let (mut verdict, mut is_known) = (Verdict::Accept, true);
        for run in runs {
            verdict = worse(verdict, self.hear_run(from, run, &mut is_known));
        }
        let last = runs
            .iter()
            .flatten()
            .map(|record| record.header().stamp)
            .max();
        match verdict {
            Verdict::Accept if is_known && last.is_some_and(|stamp| self.is_old(stamp)) => {
                Verdict::Ignore
            }
            verdict => verdict,
        }
    }

    /// Whether what was written then is no news to anybody by now. A mesh forgets that it had a message,
    /// and takes it for a new one if somebody says it again: then it ends with those who know what it
    /// says.
    fn is_old(&self, stamp: Stamp) -> bool {
        stamp.time() + NEWS_FOR < self.now
    }

    /// Judges a stretch of a log. What is news here is not `known`.
    fn hear_run(&mut self, from: NodeId, run: &[Record], known: &mut bool) -> Verdict {
        let (Some(first), Some(last)) = (run.first(), run.last()) else {
            return Verdict::Reject;
        };
        let key = LogKey::of(first);
        let mut verdict = Verdict::Accept;
        for record in run {
            match self.accept(record, from) {
                Ok(Taken::Appended) => {
                    *known = false;
                    if let Some(grown) = self.beat.grown.get_mut(&key) {
                        grown.by_mesh = true;
                    }
                }
                Ok(Taken::Nothing) => {}
                // It is ahead of us, and may be good for others; what is between is fetched.
                Err(RejectRecord::Gap) => {
                    *known = false;
                    let until = last.header().seq.saturating_add(1);
                    self.fetch_gap(from, key, until);
                    if !run.iter().all(|record| self.is_lawful(record)) {
                        verdict = Verdict::Ignore;
                    }
                    break;
                }
                Err(why) => {
                    verdict = match why {
                        RejectRecord::Body(_) => Verdict::Reject,
                        _ => Verdict::Ignore,
                    };
                    let id = record.id();
                    self.event(Event::Rejected { from, id, why });
                    break;
                }
            }
        }
        verdict
    }

    /// Asks for what is missing before a record that was heard: its writer, if that is connected, for
    /// it has its own log; whoever passed the record on may be no further than we are.
    fn fetch_gap(&mut self, from: NodeId, key: LogKey, until: Seq) {
        let writer = key.writer;
        let holder = if self.may_serve(key.topic, &writer).is_ok() {
            writer
        } else {
            from
        };
        if let Some(want) = self.want(holder, key, until) {
            self.ask(holder, key.topic, vec![want]);
        }
    }

    fn hear_items(
        &mut self,
        mesh: &Region,
        from: NodeId,
        ticket: Ticket,
        topic: TopicId,
        items: Vec<Item>,
    ) -> Option<Verdict> {
        if !self.belongs(mesh, from, topic) {
            return Some(Verdict::Ignore);
        }
        self.pull(from, topic, &items);
        let held = Held {
            ticket,
            from,
            topic,
            items,
            until: self.now + VERDICT_PATIENCE,
        };
        if self.has_all(&held) {
            let stands = |item: &Item| self.logs.get(&item.key(topic)).map(|state| state.stamp);
            let last = held.items.iter().filter_map(stands).max();
            return Some(match last.is_some_and(|stamp| self.is_old(stamp)) {
                true => Verdict::Ignore,
                false => Verdict::Accept,
            });
        }
        if self.held.len() >= VERDICTS_HELD_MAX {
            return Some(Verdict::Ignore);
        }
        self.held.push(held);
        None
    }

    fn has_all(&self, held: &Held) -> bool {
        held.items.iter().all(|item| {
            matches!(
                sync::compare(self.logs.get(&item.key(held.topic)), item),
                Compared::Equal | Compared::Ahead | Compared::LacksTheirProof
            )
        })
    }

    fn want_held(&mut self, held: &Held) {
        let mut wants = Vec::new();
        for item in &held.items {
            let key = item.key(held.topic);
            wants.extend(self.want(held.from, key, item.height));
        }
        self.ask(held.from, held.topic, wants);
    }

    /// Whether an announcement that goes farther now says where the log stands.
    pub(super) fn is_announced(&self, key: &LogKey) -> bool {
        let names = |held: &Held| {
            let mut items = held.items.iter();
            held.topic == key.topic && items.any(|i| (i.writer, i.log) == (key.writer, key.log))
        };
        self.held
            .iter()
            .any(|held| names(held) && self.has_all(held))
    }

    /// Gives the verdicts that waited for what has come by now, or have waited too long. Whoever said
    /// what has not come is asked for it, unless another has promised it.
    pub(super) fn release_verdicts(&mut self) {
        for held in core::mem::take(&mut self.held) {
            if self.has_all(&held) {
                self.judged(held.ticket, Verdict::Accept);
            } else if held.until <= self.now {
                self.judged(held.ticket, Verdict::Ignore);
            } else {
                self.want_held(&held);
                self.held.push(held);
            }
        }
    }
}

fn worse(a: Verdict, b: Verdict) -> Verdict {
    match (a, b) {
        (Verdict::Reject, _) | (_, Verdict::Reject) => Verdict::Reject,
        (Verdict::Ignore, _) | (_, Verdict::Ignore) => Verdict::Ignore,
        _ => Verdict::Accept,
    }
}

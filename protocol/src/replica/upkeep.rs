//! Upkeep: what time does, and what a change of law does.
//!
//! Rounds of sync with a few peers, retention, repairs, parked records whose time has come; and when
//! the law changes, speaking of topics that became ours and removing those that no longer may be.

use super::Replica;
use crate::body::Body;
use crate::decide::Denial;
use crate::event::{Event, Output, Reply};
use crate::identity::NodeId;
use crate::limits::{ITEMS_PER_MESSAGE_MAX, RETENTION_EVERY, SCRUB_EVERY, SYNC_EVERY, SYNC_PEERS};
use crate::log::{self, LogKey, LogState};
use crate::record::RecordId;
use crate::store::{Store, StoreFailure, Table};
use crate::time::Time;
use crate::topic::{TopicId, TopicName};
use crate::wire::{Message, Want};
use core::time::Duration;
use rand_chacha::rand_core::Rng as _;
use std::collections::BTreeMap;

/// Why a replica wants to be woken.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Wake {
    /// Offer summaries to some peers.
    Sync,
    /// Remove bodies past their retention.
    Retention,
    /// Read a few records back, to find what the disk has changed.
    Scrub,
    /// A parked record's time has come.
    Parked,
    /// A command's patience for receipts ends, or it asks again.
    Durability,
    /// An announcement has waited long enough for its records.
    Gossip,
    /// Own news that were held back may leave.
    Spread,
    /// The second bridge sees to what the first was to carry.
    Oversee,
}

/// One slot per recurring reason (after quinn's timer table).
#[derive(Debug)]
pub(super) struct Deadlines {
    sync: Time,
    retention: Time,
    scrub: Time,
    oversee: Option<Time>,
}

impl Deadlines {
    pub(super) fn starting(now: Time) -> Self {
        Self {
            sync: now + SYNC_EVERY,
            retention: now + RETENTION_EVERY,
            scrub: now + SCRUB_EVERY,
            oversee: None,
        }
    }

    /// Sees to bridged logs at `at`, or before if that is planned already.
    pub(super) fn oversee(&mut self, at: Time) {
        self.oversee.get_or_insert(at);
    }

    pub(super) fn next(&self) -> Option<(Time, Wake)> {
        let oversee = self.oversee.map(|at| (at, Wake::Oversee));
        [(self.sync, Wake::Sync), (self.retention, Wake::Retention)]
            .into_iter()
            .chain(oversee)
            .min()
    }
}

impl<S: Store> Replica<S> {
    pub(super) fn on_deadlines(&mut self) {
        if self.deadlines.sync <= self.now {
            let jitter = Duration::from_millis(u64::from(self.rng.next_u32() % 2_000));
            self.deadlines.sync = self.now + SYNC_EVERY + jitter;
            self.sync_round();
        }
        if self.deadlines.retention <= self.now {
            self.deadlines.retention = self.now + RETENTION_EVERY;
            self.expire();
        }
        if self.deadlines.scrub <= self.now {
            self.deadlines.scrub = self.now + SCRUB_EVERY;
            self.scrub();
        }
        if self.deadlines.oversee.is_some_and(|at| at <= self.now) {
            self.deadlines.oversee = None;
            self.oversee();
        }
        self.unpark();
        self.on_impatience();
    }

    /// The disk has run full, or has room again: then what was turned away is asked for at once.
    pub(super) fn on_room(&mut self, full: bool) {
        if self.full && !full {
            self.deadlines.sync = self.now;
        }
        self.full = full;
    }

    /// Offers every topic to a few peers drawn at random, and asks one for what is missing here.
    fn sync_round(&mut self) {
        #[cfg(mutant)]
        if crate::mutant::planted(crate::mutant::Mutant::SyncSleeps) {
            return;
        }
        let (now, peers) = (self.now, &self.peers);
        self.wanted
            .retain(|_, wanted| wanted.is_promised(now, peers.get(&wanted.peer)));
        self.codings.forget(now);
        for topic in self.spoken_topics() {
            for peer in self.draw_partners(topic) {
                self.offer(topic, peer);
            }
        }
        self.peers.values_mut().for_each(|peer| peer.begin_round());
        self.ask_repairs();
    }

    /// Whom to compare `topic` with: peers drawn at random, the first of them from our own side of
    /// the sea, the second from another, as far as there are any. Within a region sync mends what
    /// gossip missed; between regions, what both bridges did.
    fn draw_partners(&mut self, topic: TopicId) -> Vec<NodeId> {
        let top = self.me.as_ref().map(|me| me.region().top());
        let may =
            |node: &&NodeId| self.may_serve(topic, node).is_ok() && self.places(topic, **node);
        let mut peers: Vec<NodeId> = self.peers.keys().filter(may).copied().collect();
        for i in (1..peers.len()).rev() {
            peers.swap(i, self.rng.next_u32() as usize % (i + 1));
        }
        let near = |node: &NodeId| {
            let at = self.peers.get(node).map(|peer| peer.member.region().top());
            at == top
        };
        let (near, far): (Vec<NodeId>, Vec<NodeId>) = peers.into_iter().partition(near);
        let pairs = near.len().max(far.len());
        let in_turn = (0..pairs).flat_map(|i| [near.get(i), far.get(i)]);
        in_turn.flatten().copied().take(SYNC_PEERS).collect()
    }

    /// Offers `topic` to every peer that may hear of it.
    pub(super) fn refresh(&mut self, topic: &TopicName) -> Reply {
        let topic = topic.id(self.law.hive());
        let peers: Vec<NodeId> = self.peers.keys().copied().collect();
        let peers: Vec<NodeId> = peers
            .into_iter()
            .filter(|peer| self.may_serve(topic, peer).is_ok() && self.places(topic, *peer))
            .collect();
        if self.is_holder(topic) {
            peers.iter().for_each(|peer| self.offer(topic, *peer));
        }
        Reply::Refreshing { peers }
    }

    /// Asks for what is missing or corrupt here: for each topic one peer that may hold it.
    fn ask_repairs(&mut self) {
        let mut by_topic: BTreeMap<TopicId, Vec<Want>> = BTreeMap::new();
        // The last of a log first: what vouches for a record is the one after it.
        for (key, seq) in self.repairs.iter().rev().take(ITEMS_PER_MESSAGE_MAX) {
            let want = Want {
                writer: key.writer,
                log: key.log,
                from: *seq,
                until: seq + 1,
            };
            by_topic.entry(key.topic).or_default().push(want);
        }
        for (topic, wants) in by_topic {
            let may = |peer: &&NodeId| self.may_serve(topic, peer).is_ok();
            let peers: Vec<NodeId> = self.peers.keys().filter(may).copied().collect();
            if !peers.is_empty() {
                let peer = peers[self.rng.next_u32() as usize % peers.len()];
                self.send(peer, Message::Wants { topic, wants });
            }
        }
    }

    fn unpark(&mut self) {
        let now = self.now;
        let (due, parked) = core::mem::take(&mut self.parked)
            .into_iter()
            .partition(|(until, ..)| *until <= now);
        self.parked = parked;
        let mut due: Vec<(Time, NodeId, crate::record::Record)> = due;
        due.sort_by_key(|(until, _, record)| (*until, record.header().seq));
        for (_, from, record) in due {
            // What is refused now comes back with the next sync, if it is any good.
            if let Err(why) = self.accept(&record, from) {
                self.event(Event::Rejected {
                    from,
                    id: record.id(),
                    why,
                });
            }
        }
    }

    /// Removes bodies past their topic's retention, log by log, from where it stopped last time.
    fn expire(&mut self) {
        #[cfg(mutant)]
        if crate::mutant::planted(crate::mutant::Mutant::RetentionIgnored) {
            return;
        }
        let limited: Vec<(TopicId, u64)> = self
            .law
            .topics()
            .filter_map(|(id, law)| Some((id, law.policy().location.retention?)))
            .collect();
        for (topic, _) in limited {
            let logs: Vec<(LogKey, LogState)> = self
                .logs
                .of_topic(topic)
                .map(|(key, state)| (*key, *state))
                .collect();
            let mut gone = Vec::new();
            for (key, state) in logs {
                self.expire_log(key, state, &mut gone);
            }
            if !gone.is_empty() {
                self.event(Event::Erased { topic, ids: gone });
            }
        }
    }

    fn expire_log(&mut self, key: LogKey, mut state: LogState, gone: &mut Vec<RecordId>) {
        let from = state.expired;
        while state.expired < state.height {
            let place = log::record_key(state.number, state.expired);
            let Some(bytes) = self.store.get(Table::Records, &place) else {
                state.expired += 1;
                continue;
            };
            let record = match log::read_stored(state.number, state.expired, &bytes) {
                Ok(record) => record,
                Err(why) => {
                    // Its time cannot be read, so it may be over: the bytes go, and what is still
                    // lawful of the record comes back from a peer.
                    self.note_corrupt(key, state.expired, why);
                    self.store.remove(Table::Records, place.to_vec());
                    state.expired += 1;
                    continue;
                }
            };
            if !record.header().kind.is_permanent() {
                if !self.is_expired(&record) {
                    break;
                }
                self.repairs.remove(&(key, state.expired));
                if record.carried().is_some() {
                    log::put_record(&mut self.store, state.number, &record.without_body());
                    gone.push(record.id());
                }
            }
            state.expired += 1;
        }
        if state.expired > from {
            self.logs.set(&mut self.store, key, state);
        }
    }

    /// The law of `topics` changed: remove what may no longer be here, and speak of the rest.
    pub(super) fn on_law(&mut self, topics: &[TopicId]) {
        self.event(Event::LawChanged {
            topics: topics.to_vec(),
        });
        self.takes_back(topics);
        let peers: Vec<NodeId> = self.peers.keys().copied().collect();
        for topic in topics {
            match self.may_hold(*topic) {
                Ok(()) => {
                    // A wider retention leaves what is gone gone; a narrower one is enforced next.
                    self.deadlines.retention = self.now;
                    for peer in peers
                        .iter()
                        .filter(|_| self.is_holder(*topic))
                        .copied()
                        .collect::<Vec<_>>()
                    {
                        self.offer(*topic, peer);
                    }
                }
                // In doubt nothing is said and nothing removed; this is asked again once it is mended.
                Err(Denial::LawDamaged { .. }) => {}
                Err(_) => _ = self.beat.denied.insert(*topic),
            }
        }
    }

    /// Removes what the law that the beat ends with forbids here: of two policies that came in it, the
    /// second may allow what the first does not.
    pub(super) fn obey(&mut self) {
        for topic in core::mem::take(&mut self.beat.denied) {
            match self.may_hold(topic) {
                Ok(()) | Err(Denial::LawDamaged { .. }) => {}
                Err(denial) => self.withdraw(topic, denial),
            }
        }
    }

    /// What this beat was about to send has not left yet: it goes by the law that the beat ends with.
    fn takes_back(&mut self, topics: &[TopicId]) {
        let mut out = core::mem::take(&mut self.beat.out);
        out.retain(|output| match output {
            Output::Send { to, message } => message
                .topic()
                .filter(|topic| topics.contains(topic))
                .is_none_or(|topic| self.may_serve(topic, to).is_ok()),
            _ => true,
        });
        self.beat.out = out;
    }

    /// Removes a topic from this node, body and header. Tombstones stay.
    fn withdraw(&mut self, topic: TopicId, denial: Denial) {
        #[cfg(mutant)]
        if crate::mutant::planted(crate::mutant::Mutant::LawForgotten) {
            return;
        }
        let logs: Vec<(LogKey, LogState)> = self
            .logs
            .of_topic(topic)
            .map(|(key, state)| (*key, *state))
            .collect();
        if logs.is_empty() {
            return;
        }
        let mut own = false;
        for (key, state) in logs {
            own |= key.writer == self.keys.node() && key.log == self.own;
            for seq in 0..state.height {
                let place = log::record_key(state.number, seq);
                let bytes = self.store.get(Table::Records, &place);
                let id =
                    bytes.and_then(|b| Some(log::read_stored(state.number, seq, &b).ok()?.id()));
                log::remove_record(&mut self.store, state.number, seq, id);
                if let Some(id) = id {
                    for related in self.related_to(&id) {
                        self.store
                            .remove(Table::Related, log::related_key(&id, &related));
                    }
                }
                self.repairs.remove(&(key, seq));
            }
            self.logs.remove(&mut self.store, &key);
            self.wanted.remove(&key);
            self.beat.grown.remove(&key);
        }
        self.summaries.remove(&topic);
        self.beat.fresh.remove(&topic);
        self.parked
            .retain(|(.., record)| record.header().topic != topic);
        if own {
            // Our log is gone here but not elsewhere: to write to it again would fork it.
            self.own = super::draw_log(&mut self.store, &mut self.rng);
        }
        self.event(Event::Withdrawn { topic, denial });
    }

    /// Folds the law from the stored records of the hive's topic.
    pub(super) fn fold_law(&mut self) -> Result<(), StoreFailure> {
        let logs: Vec<(LogKey, LogState)> = self
            .logs
            .of_topic(self.hive_topic)
            .map(|(key, state)| (*key, *state))
            .collect();
        let mut foundings = Vec::new();
        for (key, state) in logs {
            for seq in 0..state.height {
                let place = log::record_key(state.number, seq);
                let bytes = self.store.store().get(Table::Records, &place)?;
                let record = bytes.and_then(|b| log::read_stored(state.number, seq, &b).ok());
                let readable = record.and_then(|record| Some((record.body()?, record)));
                let Some((bytes, record)) = readable else {
                    // What it said is unknown, so all it may have governed is closed until it is
                    // back from a peer.
                    self.law.damage((key, seq));
                    self.repairs.insert((key, seq));
                    continue;
                };
                // Good when it was accepted; what cannot be learnt was reported then.
                match Body::open(record.header().kind, &bytes) {
                    Ok(Body::Founding(founding)) => foundings.push((record, founding)),
                    Ok(Body::Manifest(manifest)) => {
                        let _ = self.law.learn_manifest(&record, &manifest);
                    }
                    _ => {}
                }
            }
        }
        // Certificates first: they say what a founder had a say in.
        for (record, founding) in foundings {
            if self.founds_in_scope(&record, &founding).is_ok() {
                let _ = self.law.learn_founding(&record, &founding);
            }
        }
        // What lies here was judged when the law came, whatever the order it is read in now; unless some
        // of the law could not be read, then or now.
        match self.law.is_whole() {
            true => _ = self.law.take_rewritten(),
            false => self.law.suspect_all(),
        }
        Ok(())
    }
}

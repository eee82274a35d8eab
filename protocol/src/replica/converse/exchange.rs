//! Exchange: comparing items, asking for records, taking them in.
//!
//! A log is asked of one peer at a time; who has promised it and does not deliver loses it to the
//! next. What is asked for once follows in as many messages as it takes (`serve`).

use super::super::{Replica, accept::Taken};
use super::Wanted;
use crate::event::{Event, RejectRecord};
use crate::identity::NodeId;
use crate::limits::{PEERS_MAX, PROMISES_PER_ROUND};
use crate::log::{LogKey, LogState};
use crate::record::{Record, Seq};
use crate::store::Store;
use crate::sync::{self, Verdict};
use crate::topic::TopicId;
use crate::wire::{Item, Proof, Want};
use std::collections::BTreeSet;

impl<S: Store> Replica<S> {
    pub(super) fn on_items(&mut self, from: NodeId, topic: TopicId, items: &[Item], whole: bool) {
        let (mut behind, proofs) = self.pull(from, topic, items);
        if whole {
            // The peer has opened a talk by all it has: what it lacks it may be given at once.
            let told: BTreeSet<_> = items.iter().map(|i| (i.writer, i.log)).collect();
            let unheard = |key: &LogKey| !told.contains(&(key.writer, key.log));
            let more = self.logs.of_topic(topic).filter(|(key, _)| unheard(key));
            behind.extend(more.map(|(key, state)| (*key, *state, 0)));
            behind = self.give(from, topic, behind);
        }
        let behind = behind.iter().map(|(key, state, _)| sync::item(key, state));
        let behind = behind.collect();
        self.tell(from, topic, behind, proofs);
    }

    /// Asks for what these items have more of. Returns what they have less of, with how much, and
    /// proofs of forks that they do not know.
    pub(in crate::replica) fn pull(
        &mut self,
        from: NodeId,
        topic: TopicId,
        items: &[Item],
    ) -> (Vec<(LogKey, LogState, Seq)>, Vec<Proof>) {
        let (mut wants, mut behind, mut proofs) = (Vec::new(), Vec::new(), Vec::new());
        for item in items {
            let key = item.key(topic);
            let ours = self.logs.get(&key).copied();
            self.notice_own_log(from, key, ours, item);
            match sync::compare(ours.as_ref(), item) {
                Verdict::Equal => {}
                Verdict::Behind => wants.extend(self.want(from, key, item.height)),
                // The proof itself is asked for by wanting the record at the fork.
                Verdict::LacksOurProof => {
                    let fork = item.fork.unwrap_or(item.height);
                    wants.push(Want {
                        writer: key.writer,
                        log: key.log,
                        from: fork,
                        until: fork.saturating_add(1),
                    });
                }
                Verdict::Diverged => wants.extend(self.hunt(from, key, item.height)),
                Verdict::Ahead => {
                    behind.extend(ours.map(|state| (key, state, item.height)));
                }
                Verdict::LacksTheirProof => proofs.extend(self.proof_of(&key)),
            }
        }
        self.ask(from, topic, wants);
        (behind, proofs)
    }

    /// If a peer has more of our own log than we do, this store is a copy or was restored (T29).
    fn notice_own_log(&mut self, from: NodeId, key: LogKey, ours: Option<LogState>, item: &Item) {
        let own = key.writer == self.keys.node() && key.log == self.own;
        let height = ours.map_or(0, |state| state.height);
        let other = ours.is_some_and(|s| s.height == item.height && s.tip != item.tip);
        if own && (item.height > height || other) {
            self.leave_own_log_at_the_word_of(from, key);
        }
    }

    /// Leaves our own log because a peer says it has more of it. A peer is believed once; until one
    /// of our own records that we lacked has come to prove it right, its word counts no more, or a
    /// liar could make us open a log for every write.
    pub(super) fn leave_own_log_at_the_word_of(&mut self, from: NodeId, key: LogKey) {
        if self.doubted.len() < PEERS_MAX && self.doubted.insert(from) {
            self.leave_own_log(key);
        }
    }

    /// Asks for what a log lacks, unless somebody has promised it and still has time.
    pub(in crate::replica) fn want(
        &mut self,
        from: NodeId,
        key: LogKey,
        until: Seq,
    ) -> Option<Want> {
        let state = self.logs.get(&key).copied();
        let height = state.map_or(0, |state| state.height);
        let until = state
            .and_then(|s| s.fork)
            .map_or(until, |fork| until.min(fork));
        let no_room = self.full && key.topic != self.hive_topic;
        if until <= height || no_room || !self.is_holder(key.topic) {
            return None;
        }
        if let Some(wanted) = self.wanted.get_mut(&key)
            && wanted.is_promised(self.now, self.peers.get(&wanted.peer))
        {
            // On its way already. If the same peer has more by now, that is asked for next.
            if wanted.peer == from {
                wanted.until = wanted.until.max(until);
            }
            return None;
        }
        // What one peer may promise until the next round is bounded: a promise costs it nothing.
        let peer = self.peers.get_mut(&from)?;
        if peer.promised >= PROMISES_PER_ROUND {
            return None;
        }
        peer.promised += 1;
        self.wanted.insert(
            key,
            Wanted {
                peer: from,
                until,
                asked_until: until,
                asked: self.now,
                back: 0,
            },
        );
        Some(Want {
            writer: key.writer,
            log: key.log,
            from: height,
            until,
        })
    }

    /// Asks for records below our height, farther back each time, until the fork shows.
    fn hunt(&mut self, from: NodeId, key: LogKey, until: Seq) -> Option<Want> {
        let height = self.logs.get(&key)?.height;
        let back = match self.wanted.get(&key) {
            Some(last) if last.peer == from && last.back > 0 => {
                if last.back >= height && last.is_promised(self.now, self.peers.get(&from)) {
                    // The whole log was looked at: to ask again at once would show no more.
                    return None;
                }
                last.back.saturating_mul(4)
            }
            _ => 16,
        };
        let asked = self.now;
        let hunting = Wanted {
            peer: from,
            until,
            asked_until: until,
            asked,
            back,
        };
        self.wanted.insert(key, hunting);
        let first = height.saturating_sub(back);
        Some(Want {
            writer: key.writer,
            log: key.log,
            from: first,
            until,
        })
    }

    pub(super) fn on_records(&mut self, from: NodeId, topic: TopicId, runs: &[Vec<Record>]) {
        let (mut wants, mut proofs) = (Vec::new(), Vec::new());
        let mut caught_up = false;
        let now = self.now;
        if let Some(peer) = self.peers.get_mut(&from) {
            peer.delivered = Some(now);
        }
        for run in runs {
            let Some(first) = run.first() else { continue };
            let key = LogKey::of(first);
            let before = self.logs.get(&key).map_or(0, |state| state.height);
            let mut diverged = false;
            for record in run {
                match self.accept(record, from) {
                    Ok(Taken::Appended | Taken::Nothing) => {}
                    Err(why) => {
                        let (id, seq) = (record.id(), record.header().seq);
                        let height = self.logs.get(&key).map_or(0, |state| state.height);
                        diverged = why == RejectRecord::Gap && seq <= height;
                        if why == RejectRecord::Forked {
                            // Who goes on beyond a fork has not heard of it.
                            proofs.extend(self.proof_of(&key));
                        }
                        self.event(Event::Rejected { from, id, why });
                        break;
                    }
                }
            }
            let height = self.logs.get(&key).map_or(0, |state| state.height);
            let gap = first.header().seq > height;
            let promised = self.wanted.get(&key).copied().filter(|w| w.peer == from);
            let top = run
                .last()
                .map_or(0, |last| last.header().seq.saturating_add(1));
            if diverged {
                wants.extend(self.hunt(from, key, top));
            } else if gap {
                // A push that overtook its predecessors.
                wants.extend(self.want(from, key, top));
            } else if let Some(wanted) = promised {
                // A promise is kept once what was asked for is here, whoever brought it. Without
                // progress it stands until its patience is over: to ask again at once for what was
                // just refused would go round at the speed of the wire.
                let kept = height >= wanted.asked_until && wanted.back == 0;
                if kept || height > before {
                    self.wanted.remove(&key);
                    if height >= wanted.asked_until {
                        wants.extend(self.want(from, key, wanted.until));
                    } else {
                        let asked = now;
                        self.wanted.insert(key, Wanted { asked, ..wanted });
                    }
                    caught_up = true;
                }
            } else if before == 0 {
                caught_up |= self.fetched(from, key);
            }
        }
        self.ask(from, topic, wants);
        self.tell(from, topic, Vec::new(), proofs);
        let more = |(key, w): (&LogKey, &Wanted)| key.topic == topic && w.peer == from;
        if caught_up && !self.wanted.iter().any(more) && !self.is_fetching(topic, &from) {
            // What was asked for is here: find out whether that makes us equal.
            self.offer(topic, from);
            self.resume_deferred(topic);
        }
    }
}

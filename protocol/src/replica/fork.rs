//! Fork: what becomes of a log whose writer signed two records at one place (I8), or that turns out
//! to have been written against the law.
//!
//! Both headers are kept as proof, and the log is cut at the lowest proven fork, here and on every
//! node that hears of it. What lies below stays; what lies above is out of every view. A writer that
//! finds its own log cut (a restored disk, a cloned machine) writes its lost records anew.
//!
//! What the law forbids needs no proof but the law: every node that knows it cuts at the same place.

use super::Replica;
use crate::body::{Body, Kind};
use crate::decide::Denial;
use crate::event::Event;
use crate::limits::LOGS_PER_TOPIC_MAX;
use crate::log::{self, LogKey, LogState};
use crate::record::{NO_RECORD, Record, RecordId, Seq};
use crate::store::{Store, Table};
use crate::time::Stamp;
use crate::topic::TopicId;
use crate::wire::Proof;
use bytes::Bytes;
use minicbor::{Decode, Encode, bytes::ByteVec};

#[derive(Encode, Decode)]
struct StoredProof {
    #[n(0)]
    one: ByteVec,
    #[n(1)]
    other: ByteVec,
}

impl<S: Store> Replica<S> {
    /// Takes a proof that a peer sent. Its signatures were checked when it was opened.
    pub(super) fn on_proof(&mut self, topic: TopicId, proof: &Proof) {
        let key = LogKey::of(&proof.one);
        // One certificate that is known makes the writer a member; the other record may name any.
        let certified = |record: &Record| {
            let member = self.law.certificate(&record.header().cap_hash);
            member.is_some_and(|member| member.node() == key.writer)
        };
        let member = certified(&proof.one) || certified(&proof.other);
        let full = || self.logs.count(topic) > LOGS_PER_TOPIC_MAX;
        let room = self.logs.get(&key).is_some() || !full();
        if key.topic == topic && member && room && self.may_hold(topic).is_ok() {
            self.cut(key, proof.one.header().seq, proof);
        }
    }

    /// Cuts a log at `fork`, unless it is cut there or lower already.
    pub(super) fn cut(&mut self, key: LogKey, fork: Seq, proof: &Proof) {
        #[cfg(mutant)]
        if crate::mutant::planted(crate::mutant::Mutant::ForkUncut) {
            return;
        }
        let mut state = self.logs.get_or_new(&key);
        if state.fork.is_some_and(|lower| lower <= fork) {
            return;
        }
        let proven = proof.one.header().prev;
        let proven = (proven == proof.other.header().prev).then_some(proven);
        let lost = self.shorten(key, &mut state, fork, proven);
        state.fork = Some(fork);
        let stored = StoredProof {
            one: proof.one.envelope().to_vec().into(),
            other: proof.other.envelope().to_vec().into(),
        };
        let bytes = minicbor::to_vec(stored).expect("a vector takes any encoding");
        self.store
            .put(Table::Proofs, state.number.to_be_bytes().to_vec(), bytes);
        let ids = lost.iter().map(Record::id).collect();
        self.event(Event::Cut { key, fork, ids });
        self.is_cut(key, state, &lost);
        self.rescue(&[(key, lost)]);
    }

    /// What was judged by a history of the law that turned out to be another is judged again, once all
    /// that the beat brought is known. Where no law that ever was lets a log's writer write some
    /// record, the log ends before it, here as on every node that knows as much.
    pub(super) fn judge_again(&mut self) {
        if self.law.is_whole() {
            for topic in self.law.take_rewritten() {
                self.judge_topic_again(topic);
            }
        }
    }

    fn judge_topic_again(&mut self, topic: TopicId) {
        let keys: Vec<LogKey> = self.logs.of_topic(topic).map(|(key, _)| *key).collect();
        let mut cut = Vec::new();
        for key in keys {
            let mut state = self.logs.get_or_new(&key);
            if let Some(from) = self.unlawful_from(state) {
                let lost = self.shorten(key, &mut state, from, None);
                let ids = lost.iter().map(Record::id).collect();
                self.event(Event::Outlawed { key, from, ids });
                self.is_cut(key, state, &lost);
                cut.push((key, lost));
            }
        }
        self.rescue(&cut);
    }

    /// The first record of a log that no law lets its writer write, if there is one.
    fn unlawful_from(&self, state: LogState) -> Option<Seq> {
        let read = |seq: Seq| {
            let place = log::record_key(state.number, seq);
            let bytes = self.store.get(Table::Records, &place)?;
            log::read_stored(state.number, seq, &bytes).ok()
        };
        let is_unlawful = |record: Record| {
            let header = record.header();
            let member = self.law.certificate(&header.cap_hash);
            let denied = member.and_then(|member| self.law.may_write(header, member).err());
            // What is not known here for the moment is no verdict.
            denied.is_some_and(|why| {
                use Denial::{Epoch, LawDamaged, UnknownTopic};
                !matches!(why, UnknownTopic | LawDamaged { .. } | Epoch { .. })
            })
        };
        let first = (0..state.height).find(|seq| read(*seq).is_some_and(is_unlawful))?;
        // What cannot be read just below may be as unlawful; if it is not, it comes back from peers.
        let unread = (0..first).rev().take_while(|seq| read(*seq).is_none());
        Some(unread.last().unwrap_or(first))
    }

    /// Takes a log's records from `fork` on out of the store, and returns them. What the log goes back
    /// to is told by the record after it, since the one before may be unreadable, and a tip that is not
    /// told would differ from everybody's for ever; else it is what is `proven`.
    fn shorten(
        &mut self,
        key: LogKey,
        state: &mut LogState,
        fork: Seq,
        proven: Option<RecordId>,
    ) -> Vec<Record> {
        let back_to = fork.checked_sub(1).map(|seq| {
            let told = self.id_at(*state, seq);
            told.or(proven).unwrap_or(NO_RECORD)
        });
        let lost: Vec<Record> = (fork..state.height)
            .filter_map(|seq| {
                let bytes = self
                    .store
                    .get(Table::Records, &log::record_key(state.number, seq))?;
                log::read_stored(state.number, seq, &bytes).ok()
            })
            .collect();
        for seq in fork..state.height {
            log::remove_record(&mut self.store, state.number, seq, None);
            self.repairs.remove(&(key, seq));
        }
        for record in &lost {
            self.store
                .remove(Table::Ids, log::id_key(&record.id()).to_vec());
            self.undo(record);
        }
        if state.height >= fork {
            let below = fork.checked_sub(1).and_then(|seq| {
                let bytes = self
                    .store
                    .get(Table::Records, &log::record_key(state.number, seq))?;
                log::read_stored(state.number, seq, &bytes).ok()
            });
            state.height = fork;
            state.expired = state.expired.min(fork);
            state.tip = back_to.unwrap_or(NO_RECORD);
            state.stamp = below
                .as_ref()
                .map_or(Stamp::ZERO, |record| record.header().stamp);
        }
        lost
    }

    /// A log was shortened: what is out is not said any more, and others are told where it stands.
    fn is_cut(&mut self, key: LogKey, state: LogState, lost: &[Record]) {
        self.logs.set(&mut self.store, key, state);
        self.summaries.remove(&key.topic);
        self.wanted.remove(&key);
        let is_out = |record: &Record| lost.iter().any(|lost| lost.id() == record.id());
        if let Some(fresh) = self.beat.fresh.get_mut(&key.topic) {
            fresh.retain(|record| !is_out(record));
        }
        if let Some(grown) = self.beat.grown.get_mut(&key) {
            grown.records.retain(|record| !is_out(record));
        }
        self.pace.forget(key.topic, is_out);
        self.grows(key, key.writer, None);
    }

    /// Saves of logs that were cut what was not for their writers to lose. All are cut by now: what is
    /// written anew must not go to one that is about to be.
    fn rescue(&mut self, cut: &[(LogKey, Vec<Record>)]) {
        let me = self.keys.node();
        let own = cut
            .iter()
            .map(|(key, _)| *key)
            .find(|key| key.writer == me && key.log == self.own);
        if let Some(key) = own {
            self.leave_own_log(key);
        }
        for (key, lost) in cut {
            if key.writer == me {
                self.doubted.clear();
                self.write_anew(*key, lost);
            }
            self.erase_anew(lost);
        }
    }

    /// An erasure is never undone, whoever asked for it: its tombstone stays, and since its record is
    /// out, it is said again in a log of ours, for nodes that knew of the fork before they saw it.
    fn erase_anew(&mut self, lost: &[Record]) {
        for record in lost
            .iter()
            .filter(|record| record.header().kind == Kind::ERASE)
        {
            let header = record.header();
            if let Some(Ok(body)) = record.body().map(|bytes| Body::open(Kind::ERASE, &bytes)) {
                // Refused only if we may not write here; others who saw it say it then.
                let _ = self.author(header.topic, header.author, &[body]);
            }
        }
    }

    /// Takes back what a record that is cut off had said; but see `erase_anew`.
    fn undo(&mut self, record: &Record) {
        let Some(bytes) = record.body() else { return };
        match Body::open(record.header().kind, &bytes) {
            Ok(Body::Founding(founding)) if record.header().topic == self.hive_topic => {
                let mut topics = self.law.unlearn_founding(record, &founding);
                // What no policy is left for is denied, not deleted: its law may come again.
                topics.retain(|topic| self.law.label(*topic).is_ok());
                self.on_law(&topics);
            }
            Ok(Body::Revision(revision)) => {
                self.store
                    .remove(Table::Related, log::related_key(&revision.of, &record.id()));
            }
            Ok(Body::Link(link)) => {
                for id in [link.from, link.to] {
                    self.store
                        .remove(Table::Related, log::related_key(&id, &record.id()));
                }
            }
            _ => {}
        }
    }

    /// Our own log was cut: what we had acknowledged is written again, in a new log.
    fn write_anew(&mut self, key: LogKey, lost: &[Record]) {
        for record in lost {
            let header = record.header();
            if let Some(bytes) = record.body()
                && let Ok(body) = Body::open(header.kind, &bytes)
                && !matches!(body, Body::Unknown(_) | Body::Erase(_))
            {
                // A refusal here (a law that changed since) leaves the record where the law wants
                // it: nowhere. It has been reported as cut.
                let _ = self.author(key.topic, header.author, &[body]);
            }
        }
    }

    /// The proof by which a log is cut, to convince a peer.
    pub(super) fn proof_of(&self, key: &LogKey) -> Option<Proof> {
        let state = self.logs.get(key)?;
        let bytes = self.store.get(Table::Proofs, &state.number.to_be_bytes())?;
        let stored: StoredProof = minicbor::decode(&bytes).ok()?;
        let open = |envelope: ByteVec| Record::open(&Bytes::from(Vec::from(envelope)), None).ok();
        Proof::new(&open(stored.one)?, &open(stored.other)?)
    }
}

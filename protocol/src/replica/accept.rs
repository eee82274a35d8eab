//! Accept: what makes a received record good, and what follows once it is.
//!
//! A record enters if the law lets this node hold the topic, its writer was certified and allowed
//! when it wrote, its time has come and it continues its log. The same record again changes nothing
//! (I10). What is refused now may be offered again by the next sync, so nothing refused is lost.

use super::Replica;
use crate::body::{Body, Founding, Kind};
use crate::certificate::Member;
use crate::decide::Denial;
use crate::event::{Event, RejectRecord};
use crate::identity::NodeId;
use crate::limits::{FUTURE_MAX, LOGS_PER_TOPIC_MAX, PARKED_MAX};
use crate::log::{self, LogKey, LogState};
use crate::record::{Record, RecordId};
use crate::store::{Store, Table};
use crate::time::Stamp;
use crate::topic::TopicId;
use crate::wire::Proof;

/// What became of a record that was not turned away.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Taken {
    /// Its log is longer by it.
    Appended,
    /// It was here already, or waits for its time.
    Nothing,
}

impl<S: Store> Replica<S> {
    pub(super) fn accept(&mut self, record: &Record, from: NodeId) -> Result<Taken, RejectRecord> {
        let header = record.header();
        let key = LogKey::of(record);
        self.may_hold(header.topic).map_err(RejectRecord::Denied)?;
        let state = self.logs.get_or_new(&key);
        if state.fork.is_some_and(|fork| header.seq >= fork) {
            return Err(RejectRecord::Forked);
        }
        if header.seq < state.height {
            return self.seen_before(key, state, record, from);
        }
        if header.seq > state.height {
            return Err(RejectRecord::Gap);
        }
        if header.prev != state.tip {
            // It continues another history than ours: the writer signed two records somewhere
            // below. Looking further down will find both (`converse::hunt`).
            return Err(RejectRecord::Gap);
        }
        if self.full && !header.kind.is_permanent() {
            return Err(RejectRecord::NoRoom);
        }
        let body = self.judge(record, state)?;
        let until = self.now + FUTURE_MAX;
        #[cfg(mutant)]
        let until = match crate::mutant::planted(crate::mutant::Mutant::FutureTaken) {
            true => until + FUTURE_MAX * 1_000,
            false => until,
        };
        if header.stamp > Stamp::at(until) {
            return self.park(record, from);
        }
        self.clock = self.clock.max(header.stamp);
        self.append(key, state, record, body.as_ref(), Some(from));
        Ok(Taken::Appended)
    }

    /// Whether a record that cannot be appended yet may be passed on: this node and its writer may
    /// have and write it, and its time has come.
    pub(super) fn is_lawful(&mut self, record: &Record) -> bool {
        let state = self.logs.get_or_new(&LogKey::of(record));
        let ahead = record.header().stamp > Stamp::at(self.now + FUTURE_MAX);
        !ahead && self.may_hold(record.header().topic).is_ok() && self.judge(record, state).is_ok()
    }

    /// Whether the writer might write this, by the law and the certificate of its time.
    fn judge(&self, record: &Record, state: LogState) -> Result<Option<Body>, RejectRecord> {
        let header = record.header();
        let body = match record.body() {
            Some(bytes) => Some(Body::open(header.kind, &bytes).map_err(RejectRecord::Body)?),
            None => None,
        };
        // A manifest brings its writer's certificate along.
        let brought = match &body {
            Some(Body::Manifest(m)) if header.topic == self.hive_topic => m
                .member(self.law.hive())
                .map_err(|why| RejectRecord::Law(why.into()))
                .map(Some)?,
            _ => None,
        };
        let member = brought
            .as_ref()
            .filter(|member| member.cap_hash() == header.cap_hash)
            .or_else(|| self.law.certificate(&header.cap_hash))
            .ok_or(RejectRecord::UnknownWriter)?;
        if member.node() != header.writer {
            return Err(RejectRecord::UnknownWriter);
        }
        if header.stamp < state.stamp {
            return Err(RejectRecord::Backwards);
        }
        self.law
            .may_write(header, member)
            .map_err(RejectRecord::Denied)?;
        if let Some(Body::Founding(founding)) = &body {
            in_scope(member, founding)?;
        }
        if state.height == 0 && self.logs.count(header.topic) > LOGS_PER_TOPIC_MAX {
            return Err(RejectRecord::Full);
        }
        Ok(body)
    }

    /// A record below our height: the same again, a repair, or the proof of a fork.
    fn seen_before(
        &mut self,
        key: LogKey,
        state: LogState,
        record: &Record,
        from: NodeId,
    ) -> Result<Taken, RejectRecord> {
        let seq = record.header().seq;
        let bytes = self
            .store
            .get(Table::Records, &log::record_key(state.number, seq));
        let ours = bytes.map(|bytes| log::read_stored(state.number, seq, &bytes));
        match ours {
            Some(Ok(ours)) if ours.id() == record.id() => {
                let wanted = self.repairs.contains(&(key, seq));
                if wanted && ours.carried().is_none() && record.carried().is_some() {
                    self.repair(key, state, record, from);
                }
                Ok(Taken::Nothing)
            }
            Some(Ok(ours)) => {
                if let Some(proof) = Proof::new(&ours, record)
                    && ours.check_signature()
                    && record.check_signature()
                {
                    self.cut(key, seq, &proof);
                }
                Err(RejectRecord::Forked)
            }
            // Corrupt or gone here. What vouches for it is the record after it, or the tip.
            Some(Err(_)) | None => {
                if self.id_at(state, seq) == Some(record.id()) {
                    self.repair(key, state, record, from);
                }
                Ok(Taken::Nothing)
            }
        }
    }

    /// The id that the log itself says lies at `seq`: the tip, or what the next record follows.
    pub(super) fn id_at(&self, state: LogState, seq: u64) -> Option<RecordId> {
        if seq + 1 == state.height {
            return Some(state.tip);
        }
        let bytes = self
            .store
            .get(Table::Records, &log::record_key(state.number, seq + 1))?;
        let next = log::read_stored(state.number, seq + 1, &bytes).ok()?;
        Some(next.header().prev)
    }

    fn repair(&mut self, key: LogKey, state: LogState, record: &Record, from: NodeId) {
        self.repairs.remove(&(key, record.header().seq));
        let kept = if self.keeps_body(record) {
            record.clone()
        } else {
            record.without_body()
        };
        log::put_record(&mut self.store, state.number, &kept);
        let seq = kept.header().seq;
        if kept.carried().is_some() && seq < state.expired {
            // Retention had passed over it unread; its time may be yet to come.
            let state = LogState {
                expired: seq,
                ..state
            };
            self.logs.set(&mut self.store, key, state);
        }
        if let Some(Ok(body)) = kept.body().map(|b| Body::open(kept.header().kind, &b)) {
            self.apply(&kept, &body);
        }
        if key.topic == self.hive_topic && self.law.mend(&(key, record.header().seq)) {
            // The law is whole again, and everything it governs is open again.
            let topics: Vec<TopicId> = self.law.topics().map(|(id, _)| id).collect();
            self.on_law(&topics);
        }
        self.event(Event::Repaired { record: kept, from });
    }

    fn park(&mut self, record: &Record, from: NodeId) -> Result<Taken, RejectRecord> {
        let place = |r: &Record| (LogKey::of(r), r.header().seq);
        let again = self
            .parked
            .iter()
            .any(|(.., parked)| place(parked) == place(record));
        if again {
            return Ok(Taken::Nothing);
        }
        if self.parked.len() >= PARKED_MAX {
            return Err(RejectRecord::Full);
        }
        // It may be applied once its stamp is no further ahead than any stamp may be.
        let ahead = record
            .header()
            .stamp
            .time()
            .since(self.now)
            .saturating_sub(FUTURE_MAX);
        let until = self.now + ahead + core::time::Duration::from_millis(1);
        self.parked.push((until, from, record.clone()));
        Err(RejectRecord::Future { until })
    }

    /// Whether a body may be kept: it is not erased and not past its retention.
    pub(super) fn keeps_body(&self, record: &Record) -> bool {
        #[cfg(mutant)]
        if crate::mutant::planted(crate::mutant::Mutant::TombstoneIgnored) {
            return true;
        }
        let header = record.header();
        if header.kind.is_permanent() {
            return true;
        }
        if self.is_erased(header.topic, &record.id()) {
            return false;
        }
        if header.kind == Kind::REVISION
            && let Some(body) = record.body()
            && let Ok(Body::Revision(revision)) = Body::open(Kind::REVISION, &body)
            && self.is_erased(header.topic, &revision.of)
        {
            return false;
        }
        !self.is_expired(record)
    }

    pub(super) fn is_erased(&self, topic: TopicId, id: &RecordId) -> bool {
        self.store
            .get(Table::Tombstones, &log::tombstone_key(topic, id))
            .is_some()
    }

    pub(super) fn is_expired(&self, record: &Record) -> bool {
        #[cfg(mutant)]
        if crate::mutant::planted(crate::mutant::Mutant::RetentionIgnored) {
            return false;
        }
        let header = record.header();
        if header.kind.is_permanent() {
            return false;
        }
        let Ok(label) = self.law.label(header.topic) else {
            return false;
        };
        let Some(seconds) = label.policy.location.retention else {
            return false;
        };
        self.now.since(header.stamp.time()).as_secs() >= seconds
    }

    /// Stages a good record at the end of its log, and what it says.
    pub(super) fn append(
        &mut self,
        key: LogKey,
        mut state: LogState,
        record: &Record,
        body: Option<&Body>,
        from: Option<NodeId>,
    ) {
        let header = record.header();
        let keeps = self.keeps_body(record);
        let kept = if keeps {
            record.clone()
        } else {
            record.without_body()
        };
        if keeps && record.carried().is_none() {
            // The sender had no body, and we know of no reason yet. A tombstone may be on its way;
            // if not, somebody else has the body.
            self.repairs.insert((key, header.seq));
        }
        state.height = header.seq + 1;
        state.tip = record.id();
        state.stamp = header.stamp;
        log::put_record(&mut self.store, state.number, &kept);
        self.logs.set(&mut self.store, key, state);
        self.summaries.remove(&key.topic);
        if let Some(from) = from {
            self.grows(key, from, Some(&kept));
            if key.writer == self.keys.node() {
                self.doubted.remove(&from);
            }
        }
        self.event(Event::Accepted {
            record: kept.clone(),
            from,
        });
        if kept.carried().is_some()
            && let Some(body) = body
        {
            self.apply(&kept, body);
        }
    }

    /// What a record's body does to the state around it.
    fn apply(&mut self, record: &Record, body: &Body) {
        match body {
            Body::Erase(erase) => self.bury(record, &erase.ids),
            Body::Revision(revision) => self.relate(&revision.of, record),
            Body::Link(link) => {
                self.relate(&link.from, record);
                self.relate(&link.to, record);
            }
            Body::Founding(founding) if record.header().topic == self.hive_topic => {
                if let Err(why) = self.founds_in_scope(record, founding) {
                    return self.reject(record, why);
                }
                match self.law.learn_founding(record, founding) {
                    Ok(topics) if topics.is_empty() => {}
                    Ok(topics) => self.on_law(&topics),
                    Err(why) => self.reject(record, RejectRecord::Law(why)),
                }
            }
            Body::Manifest(manifest) if record.header().topic == self.hive_topic => {
                match self.law.learn_manifest(record, manifest) {
                    Ok(None) => {}
                    Ok(Some(topics)) => {
                        self.on_member(record.header().writer);
                        if !topics.is_empty() {
                            self.on_law(&topics);
                        }
                    }
                    Err(why) => self.reject(record, RejectRecord::Law(why)),
                }
            }
            Body::Memory(_) | Body::Founding(_) | Body::Manifest(_) => {}
            Body::Agent(_) | Body::Unknown(_) => {}
        }
    }

    /// A member is known better. A peer that renewed its certificate while connected is judged by
    /// the new one.
    fn on_member(&mut self, node: NodeId) {
        if let (Some(peer), Some(known)) = (self.peers.get_mut(&node), self.law.member(&node))
            && known.member.grant().not_after > peer.member.grant().not_after
        {
            peer.member = known.member.clone();
        }
        self.event(Event::MemberLearnt { node });
    }

    /// Whether the writer's certificate covers the topic that it founds or amends. A body that came
    /// after its header was not there to be judged at the door.
    pub(super) fn founds_in_scope(
        &self,
        record: &Record,
        founding: &Founding,
    ) -> Result<(), RejectRecord> {
        let member = self.law.certificate(&record.header().cap_hash);
        member.map_or(Ok(()), |member| in_scope(member, founding))
    }

    fn reject(&mut self, record: &Record, why: RejectRecord) {
        let (from, id) = (record.header().writer, record.id());
        self.event(Event::Rejected { from, id, why });
    }

    fn relate(&mut self, id: &RecordId, record: &Record) {
        self.store
            .put(Table::Related, log::related_key(id, &record.id()), &b""[..]);
    }

    /// Buries records: a permanent tombstone for each, and their bodies removed, here and now (I5).
    fn bury(&mut self, tomb: &Record, ids: &[RecordId]) {
        let topic = tomb.header().topic;
        let (mut gone, mut late) = (Vec::new(), Vec::new());
        for id in ids {
            self.store.put(
                Table::Tombstones,
                log::tombstone_key(topic, id),
                tomb.id().0.to_vec(),
            );
            let revisions = self.related_to(id);
            #[cfg(mutant)]
            let revisions = match crate::mutant::planted(crate::mutant::Mutant::RevisionsSurvive) {
                true => Vec::new(),
                false => revisions,
            };
            for version in core::iter::once(*id).chain(revisions) {
                let Some(header) = self.header_of(&version).filter(|h| h.topic == topic) else {
                    self.drop_unreadable(&version);
                    continue;
                };
                if version != *id && header.kind != Kind::REVISION {
                    continue;
                }
                if self.drop_body(&version) {
                    gone.push(version);
                }
                // A revision of ours that the eraser did not know: its body is gone by the rule
                // above, and a tombstone of our own tells nodes that have only its header why.
                let ours = header.writer == self.keys.node() && header.kind == Kind::REVISION;
                if ours && !ids.contains(&version) && !self.is_erased(topic, &version) {
                    late.push(version);
                }
            }
        }
        if !gone.is_empty() {
            self.event(Event::Erased { topic, ids: gone });
        }
        if !late.is_empty() {
            // Refused only if we may no longer write here; then the header stays unexplained.
            let author = tomb.header().author;
            let _ = self.author(
                topic,
                author,
                &[Body::Erase(crate::body::Erase { ids: late })],
            );
        }
    }

    /// Removes a record that is to lose its body but cannot be read any more: its header comes back
    /// from a peer.
    fn drop_unreadable(&mut self, id: &RecordId) {
        let Some(place) = self.store.get(Table::Ids, &log::id_key(id)) else {
            return;
        };
        let Some((number, seq)) = log::split_place(&place) else {
            return;
        };
        let Some(bytes) = self.store.get(Table::Records, &place) else {
            return;
        };
        if let Err(why) = log::read_stored(number, seq, &bytes) {
            self.store.remove(Table::Records, place);
            let key = self.logs.iter().find(|(_, s)| s.number == number);
            if let Some(key) = key.map(|(key, _)| *key) {
                self.note_corrupt(key, seq, why);
            }
        }
    }

    /// Removes the body of a memory's version; links stay. True if there was one.
    pub(super) fn drop_body(&mut self, id: &RecordId) -> bool {
        #[cfg(mutant)]
        if crate::mutant::planted(crate::mutant::Mutant::TombstoneIgnored) {
            return false;
        }
        let Some(place) = self.store.get(Table::Ids, &log::id_key(id)) else {
            return false;
        };
        let Some((number, seq)) = log::split_place(&place) else {
            return false;
        };
        let Some(bytes) = self.store.get(Table::Records, &place) else {
            return false;
        };
        let Ok(record) = log::read_stored(number, seq, &bytes) else {
            return false;
        };
        let key = LogKey::of(&record);
        if record.id() != *id || record.header().kind.is_permanent() {
            return false;
        }
        self.repairs.remove(&(key, seq));
        if record.carried().is_none() {
            return false;
        }
        log::put_record(&mut self.store, number, &record.without_body());
        true
    }
}

/// A certificate for some topics gives no power over the law of others (I13).
fn in_scope(member: &Member, founding: &Founding) -> Result<(), RejectRecord> {
    if member.covers(&founding.topic) {
        return Ok(());
    }
    let (topic, node) = (founding.topic.clone(), member.node());
    Err(RejectRecord::Denied(Denial::Scope { topic, node }))
}

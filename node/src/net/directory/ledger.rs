//! The ledger: lookups under way in the directories, and what others ask us to keep.
//!
//! Everything that comes from another node passes the node's own check here, twice: before it is
//! put on the shelf, and again when it is found, since whoever answers may not have checked. At most
//! `LOOKUPS_MAX` lookups run at a time; one more is answered at once with nothing.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use libp2p::PeerId;
use libp2p::kad::store::RecordStore;
use libp2p::kad::{
    Event, GetProvidersOk, GetRecordOk, InboundRequest, ProviderRecord, QueryId, QueryResult,
    Record, RecordKey,
};
use tokio::sync::oneshot;

use super::{ADDRESSES_LISTED_MAX, Directory, ENTRY_LIFE_MAX, Errand, Shared, enter};
use super::{CheckEntry, GoodEntry};
use crate::net::scope::Scope;
use crate::net::{NodeKey, translate};

/// Lookups and puts of ours under way at one time.
const LOOKUPS_MAX: usize = 16;

/// Good entries after which a lookup has heard enough.
const ENOUGH: usize = 3;

/// Providers named in one answer.
const PROVIDERS_MAX: usize = 20;

/// The length of every key that we keep anything under.
const KEY_BYTES: usize = 32;

/// One errand under way.
enum Pending {
    /// In both directories; the first that succeeds answers.
    Entering(Arc<Mutex<Option<oneshot::Sender<bool>>>>),
    Entry {
        reply: oneshot::Sender<Option<Vec<u8>>>,
        best: Option<(u64, Vec<u8>)>,
        heard: usize,
    },
    Providers {
        reply: oneshot::Sender<Vec<NodeKey>>,
        found: BTreeSet<NodeKey>,
    },
}

/// Errands under way, and the judge of entries.
pub(in crate::net) struct Ledger {
    local: PeerId,
    region: String,
    check: CheckEntry,
    scope: Scope,
    under_way: HashMap<(Shared, QueryId), Pending>,
    provided: BTreeSet<[u8; 32]>,
    /// What others wanted kept, and was not: bad, or too many.
    pub(in crate::net) refused: u64,
}

impl Ledger {
    /// For the node `local` of `region`.
    pub(in crate::net) fn new(
        local: PeerId,
        region: String,
        check: CheckEntry,
        scope: Scope,
    ) -> Self {
        Self {
            local,
            region,
            check,
            scope,
            under_way: HashMap::new(),
            provided: BTreeSet::new(),
            refused: 0,
        }
    }

    /// Whether a peer that shares `domains` with us is inside our region.
    pub(in crate::net) fn is_inside(&self, domains: &[String]) -> bool {
        domains.contains(&self.region)
    }

    /// Starts an errand, or answers it at once if it cannot be.
    pub(in crate::net) fn start(&mut self, directory: &mut Directory, errand: Errand) {
        let room = self.under_way.len() < LOOKUPS_MAX;
        match errand {
            Errand::Enter { key, value, reply } => self.enter(directory, &key, value, reply),
            Errand::Provide { keys } => self.provide(directory, keys.into_iter().collect()),
            Errand::FindEntry { shared, key, reply } => {
                let table = directory.table(shared).filter(|_| room);
                // One that nobody waits for any more drops its reply, which is an answer too.
                if let Some(table) = table {
                    let id = table.get_record(RecordKey::new(&key));
                    let (best, heard) = (None, 0);
                    self.under_way
                        .insert((shared, id), Pending::Entry { reply, best, heard });
                }
            }
            Errand::FindProviders { key, reply } => {
                if let Some(table) = directory.table(Shared::Region).filter(|_| room) {
                    let id = table.get_providers(RecordKey::new(&key));
                    let found = BTreeSet::new();
                    let pending = Pending::Providers { reply, found };
                    self.under_way.insert((Shared::Region, id), pending);
                }
            }
            Errand::Walk { shared } => {
                if let Some(table) = directory.table(shared) {
                    // Fails only where there is nobody to ask.
                    let _ = table.bootstrap();
                }
            }
        }
    }

    fn enter(
        &mut self,
        directory: &mut Directory,
        key: &[u8; 32],
        value: Vec<u8>,
        reply: oneshot::Sender<bool>,
    ) {
        let stamp = (self.check)(key, &value).map_or(0, |entry| entry.stamp);
        // Dropped with the last put that fails, which tells whoever waits.
        let reply = Arc::new(Mutex::new(Some(reply)));
        for shared in [Shared::Region, Shared::Hive] {
            let record = Record::new(RecordKey::new(key), value.clone());
            let table = directory.table(shared);
            if let Some(id) = table.and_then(|table| enter(table, self.local, record, stamp)) {
                let pending = Pending::Entering(reply.clone());
                self.under_way.insert((shared, id), pending);
            }
        }
    }

    fn provide(&mut self, directory: &mut Directory, keys: BTreeSet<[u8; 32]>) {
        let Some(table) = directory.table(Shared::Region) else {
            return;
        };
        for gone in self.provided.difference(&keys) {
            table.stop_providing(&RecordKey::new(gone));
        }
        for fresh in keys.difference(&self.provided) {
            // It fails only if the shelf has no room for our own listing; the next call tries again.
            let _ = table.start_providing(RecordKey::new(fresh));
        }
        self.provided = keys;
    }

    /// Takes in what a directory reports.
    pub(in crate::net) fn observe(
        &mut self,
        directory: &mut Directory,
        shared: Shared,
        event: Event,
    ) {
        match event {
            Event::InboundRequest { request } => self.asked(directory, shared, request),
            Event::OutboundQueryProgressed {
                id, result, step, ..
            } => {
                let enough = self.progressed((shared, id), result, step.last);
                if let Some(table) = directory.table(shared).filter(|_| enough)
                    && let Some(mut query) = table.query_mut(&id)
                {
                    query.finish();
                }
            }
            other => tracing::trace!(?other, ?shared, "directory"),
        }
    }

    /// Somebody wants something kept.
    fn asked(&mut self, directory: &mut Directory, shared: Shared, request: InboundRequest) {
        let Some(table) = directory.table(shared) else {
            return;
        };
        match request {
            InboundRequest::PutRecord {
                source,
                record: Some(record),
                ..
            } => {
                let good = self.good(&record);
                let kept = good.is_some_and(|entry| {
                    let record = bounded(record, &entry);
                    table.store_mut().keep(record, source, entry.stamp)
                });
                self.refused += u64::from(!kept);
            }
            InboundRequest::AddProvider {
                record: Some(record),
            } => {
                let kept = shared == Shared::Region
                    && record.key.as_ref().len() == KEY_BYTES
                    && table.store_mut().add_provider(self.trimmed(record)).is_ok();
                self.refused += u64::from(!kept);
            }
            _ => {}
        }
    }

    fn good(&self, record: &Record) -> Option<GoodEntry> {
        (self.check)(record.key.as_ref(), &record.value)
    }

    /// A provider's addresses as far as they are worth handing on.
    fn trimmed(&self, mut record: ProviderRecord) -> ProviderRecord {
        record.addresses.retain(|addr| self.scope.allows(addr));
        record.addresses.truncate(ADDRESSES_LISTED_MAX);
        let latest = Instant::now() + ENTRY_LIFE_MAX;
        record.expires = Some(record.expires.map_or(latest, |at| at.min(latest)));
        record
    }

    /// Notes what a lookup found; true asks to end it, since it has heard enough.
    fn progressed(&mut self, id: (Shared, QueryId), result: QueryResult, last: bool) -> bool {
        let checked = match &result {
            QueryResult::GetRecord(Ok(GetRecordOk::FoundRecord(found))) => self.good(&found.record),
            _ => None,
        };
        let Some(pending) = self.under_way.get_mut(&id) else {
            return false;
        };
        let mut enough = false;
        match (&mut *pending, result) {
            (
                Pending::Entry { best, heard, .. },
                QueryResult::GetRecord(Ok(GetRecordOk::FoundRecord(found))),
            ) => {
                if let Some(entry) = checked {
                    *heard += 1;
                    if best.as_ref().is_none_or(|(stamp, _)| *stamp < entry.stamp) {
                        *best = Some((entry.stamp, found.record.value));
                    }
                }
                enough = *heard >= ENOUGH;
            }
            (
                Pending::Providers { found, .. },
                QueryResult::GetProviders(Ok(GetProvidersOk::FoundProviders { providers, .. })),
            ) => {
                let room = PROVIDERS_MAX - found.len();
                found.extend(providers.iter().filter_map(translate::key_of).take(room));
                enough = found.len() >= PROVIDERS_MAX;
            }
            (Pending::Entering(reply), QueryResult::PutRecord(Ok(_))) => {
                let reply = reply.lock().unwrap_or_else(PoisonError::into_inner).take();
                if let Some(reply) = reply {
                    let _ = reply.send(true);
                }
            }
            _ => {}
        }
        if last {
            self.under_way
                .remove(&id)
                .into_iter()
                .for_each(Pending::end);
        }
        enough
    }
}

impl Pending {
    /// Tells whoever asked; one that no longer waits is no concern of ours.
    fn end(self) {
        match self {
            Self::Entry { reply, best, .. } => {
                let _ = reply.send(best.map(|(_, value)| value));
            }
            Self::Providers { reply, found } => {
                let _ = reply.send(found.into_iter().collect());
            }
            Self::Entering(_) => {}
        }
    }
}

/// An entry as it is kept: by its author, no longer than it is good, and never over an hour.
fn bounded(mut record: Record, entry: &GoodEntry) -> Record {
    record.publisher = translate::peer_of(&entry.author);
    let latest = Instant::now() + entry.life.min(ENTRY_LIFE_MAX);
    record.expires = Some(record.expires.map_or(latest, |at| at.min(latest)));
    record
}

//! The shelf: the part of a directory that this node keeps for others, in memory and bounded.
//!
//! The stock store counts records only in all, so one neighbour could fill it for everyone. Here
//! each giver of entries and each provider has its own allowance, an older entry never replaces a
//! newer one, and what has expired makes room. Nothing here is checked for truth: `ledger` asks the
//! node before it puts anything on the shelf.

use std::borrow::Cow;
use std::collections::HashMap;
use std::time::Instant;

use libp2p::PeerId;
use libp2p::kad::store::{Error, RecordStore, Result};
use libp2p::kad::{ProviderRecord, Record, RecordKey};

/// Entries kept, and of them from one giver. A giver also hands on the entries of others.
pub(super) const ENTRIES_MAX: usize = 4_096;
pub(super) const ENTRIES_PER_GIVER_MAX: usize = 512;

/// Keys with providers, providers of one key, and keys under which one provider is listed.
pub(super) const PROVIDED_KEYS_MAX: usize = 4_096;
pub(super) const PROVIDERS_PER_KEY_MAX: usize = 20;
pub(super) const KEYS_PER_PROVIDER_MAX: usize = 256;

/// Bytes of the longest entry.
pub(super) const ENTRY_BYTES_MAX: usize = 8 << 10;

/// An entry, who gave it to us, and when its author wrote it.
struct Kept {
    record: Record,
    giver: PeerId,
    stamp: u64,
}

/// What this node keeps of one directory.
pub(in crate::net) struct Shelf {
    local: PeerId,
    entries: HashMap<RecordKey, Kept>,
    providers: HashMap<RecordKey, Vec<ProviderRecord>>,
}

impl Shelf {
    /// An empty shelf of the node `local`.
    pub(super) fn new(local: PeerId) -> Self {
        Self {
            local,
            entries: HashMap::new(),
            providers: HashMap::new(),
        }
    }

    /// Keeps an entry that was found good. False if a newer one is there, or there is no room.
    pub(super) fn keep(&mut self, record: Record, giver: PeerId, stamp: u64) -> bool {
        if record.value.len() > ENTRY_BYTES_MAX {
            return false;
        }
        let known = self.entries.get(&record.key);
        if known.is_some_and(|known| known.stamp > stamp) {
            return false;
        }
        if known.is_none() && !self.has_room(&giver) {
            return false;
        }
        let kept = Kept {
            giver,
            stamp,
            record,
        };
        self.entries.insert(kept.record.key.clone(), kept);
        true
    }

    fn has_room(&mut self, giver: &PeerId) -> bool {
        if *giver == self.local {
            return true;
        }
        let of = |shelf: &Self| {
            shelf
                .entries
                .values()
                .filter(|kept| kept.giver == *giver)
                .count()
        };
        if self.entries.len() >= ENTRIES_MAX || of(self) >= ENTRIES_PER_GIVER_MAX {
            let now = Instant::now();
            self.entries.retain(|_, kept| !kept.record.is_expired(now));
        }
        self.entries.len() < ENTRIES_MAX && of(self) < ENTRIES_PER_GIVER_MAX
    }

    fn drop_expired_providers(&mut self) {
        let now = Instant::now();
        for listed in self.providers.values_mut() {
            listed.retain(|record| !record.is_expired(now));
        }
        self.providers.retain(|_, listed| !listed.is_empty());
    }

    fn keys_of(&self, provider: &PeerId) -> usize {
        let lists = |listed: &&Vec<ProviderRecord>| listed.iter().any(|r| r.provider == *provider);
        self.providers.values().filter(lists).count()
    }

    /// How many entries and provider records are kept.
    pub(super) fn size(&self) -> (usize, usize) {
        let provided = self.providers.values().map(Vec::len).sum();
        (self.entries.len(), provided)
    }
}

impl RecordStore for Shelf {
    type RecordsIter<'a> = std::vec::IntoIter<Cow<'a, Record>>;
    type ProvidedIter<'a> = std::vec::IntoIter<Cow<'a, ProviderRecord>>;

    fn get(&self, key: &RecordKey) -> Option<Cow<'_, Record>> {
        self.entries
            .get(key)
            .map(|kept| Cow::Borrowed(&kept.record))
    }

    /// libp2p puts here only what this node publishes itself.
    fn put(&mut self, record: Record) -> Result<()> {
        let stamp = self.entries.get(&record.key).map_or(0, |kept| kept.stamp);
        match self.keep(record, self.local, stamp) {
            true => Ok(()),
            false => Err(Error::ValueTooLarge),
        }
    }

    fn remove(&mut self, key: &RecordKey) {
        self.entries.remove(key);
    }

    fn records(&self) -> Self::RecordsIter<'_> {
        let all: Vec<_> = self
            .entries
            .values()
            .map(|kept| Cow::Borrowed(&kept.record))
            .collect();
        all.into_iter()
    }

    fn add_provider(&mut self, record: ProviderRecord) -> Result<()> {
        let listed = self.providers.get_mut(&record.key);
        if let Some(known) =
            listed.and_then(|l| l.iter_mut().find(|r| r.provider == record.provider))
        {
            *known = record;
            return Ok(());
        }
        let own = record.provider == self.local;
        let full = |shelf: &Self| {
            shelf.providers.len() >= PROVIDED_KEYS_MAX
                || shelf.keys_of(&record.provider) >= KEYS_PER_PROVIDER_MAX
        };
        if full(self) {
            self.drop_expired_providers();
        }
        if full(self) && !own {
            return Err(Error::MaxProvidedKeys);
        }
        let listed = self.providers.entry(record.key.clone()).or_default();
        if listed.len() < PROVIDERS_PER_KEY_MAX || own {
            listed.push(record);
        }
        Ok(())
    }

    fn providers(&self, key: &RecordKey) -> Vec<ProviderRecord> {
        self.providers.get(key).cloned().unwrap_or_default()
    }

    fn provided(&self) -> Self::ProvidedIter<'_> {
        let own = |record: &&ProviderRecord| record.provider == self.local;
        let all: Vec<_> = self
            .providers
            .values()
            .flatten()
            .filter(own)
            .map(Cow::Borrowed)
            .collect();
        all.into_iter()
    }

    fn remove_provider(&mut self, key: &RecordKey, provider: &PeerId) {
        if let Some(listed) = self.providers.get_mut(key) {
            listed.retain(|record| record.provider != *provider);
            if listed.is_empty() {
                self.providers.remove(key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::net::translate;

    fn peer(seed: u8) -> PeerId {
        translate::keypair([seed; 32]).public().to_peer_id()
    }

    fn key(number: usize) -> RecordKey {
        RecordKey::from(number.to_be_bytes().to_vec())
    }

    fn entry(number: usize, value: &[u8]) -> Record {
        Record::new(key(number), value.to_vec())
    }

    #[test]
    fn a_giver_fills_its_own_allowance_and_nobody_elses() {
        let mut shelf = Shelf::new(peer(1));
        let kept = (0..ENTRIES_MAX)
            .filter(|n| shelf.keep(entry(*n, b"x"), peer(2), 1))
            .count();
        assert_eq!(ENTRIES_PER_GIVER_MAX, kept);
        assert!(shelf.keep(entry(ENTRIES_MAX, b"x"), peer(3), 1));
        assert!(
            shelf.keep(entry(0, b"y"), peer(2), 2),
            "news of a known key is no new entry"
        );
    }

    #[test]
    fn what_has_expired_makes_room() {
        let mut shelf = Shelf::new(peer(1));
        for number in 0..ENTRIES_PER_GIVER_MAX {
            let mut old = entry(number, b"x");
            old.expires = Some(Instant::now());
            assert!(shelf.keep(old, peer(2), 1));
        }
        assert!(shelf.keep(entry(ENTRIES_MAX, b"x"), peer(2), 1));
        assert_eq!((1, 0), shelf.size());
    }

    #[test]
    fn an_older_entry_never_replaces_a_newer_one() {
        let mut shelf = Shelf::new(peer(1));
        assert!(shelf.keep(entry(1, b"new"), peer(2), 8));
        assert!(!shelf.keep(entry(1, b"old"), peer(3), 7));
        assert_eq!(b"new".to_vec(), shelf.get(&key(1)).expect("kept").value);
        assert!(
            !shelf.keep(entry(2, &[0; ENTRY_BYTES_MAX + 1]), peer(2), 1),
            "too long"
        );
    }

    #[test]
    fn a_flood_of_providers_stays_within_bounds() {
        let mut shelf = Shelf::new(peer(1));
        let listed = |n| ProviderRecord::new(key(n), peer(2), Vec::new());
        let taken = (0..2 * KEYS_PER_PROVIDER_MAX)
            .filter(|n| shelf.add_provider(listed(*n)).is_ok())
            .count();
        assert_eq!(KEYS_PER_PROVIDER_MAX, taken);
        for seed in 3..=60 {
            let record = ProviderRecord::new(key(0), peer(seed), Vec::new());
            assert!(
                shelf.add_provider(record).is_ok(),
                "the surplus is left out in silence"
            );
        }
        assert_eq!(PROVIDERS_PER_KEY_MAX, shelf.providers(&key(0)).len());
    }

    #[test]
    fn this_nodes_own_listings_are_kept_apart_and_found() {
        let mut shelf = Shelf::new(peer(1));
        let mut late = ProviderRecord::new(key(1), peer(2), Vec::new());
        late.expires = Some(Instant::now() + Duration::from_secs(1));
        shelf.add_provider(late).expect("room");
        shelf
            .add_provider(ProviderRecord::new(key(1), peer(1), Vec::new()))
            .expect("room");
        assert_eq!(1, shelf.provided().count());
        shelf.remove_provider(&key(1), &peer(1));
        assert_eq!(
            (0, 1),
            (shelf.provided().count(), shelf.providers(&key(1)).len())
        );
    }
}

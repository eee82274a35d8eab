//! The directories: two Kademlia tables, one for the hive and one for our own region.
//!
//! `/aquifer/HIVE/kad/global/1` is shared with every admitted peer and holds entries of nodes;
//! `/aquifer/HIVE/kad/REGION/1` is shared only with admitted peers inside our top-level region and
//! also lists providers. Both stand behind the gate: for a stranger they do not exist. What they
//! say is a hint. Entries are opaque here: the node's `CheckEntry` sees each before it is kept and
//! again when it is found. Stock defaults that would leak or swell are changed: nothing is stored
//! unasked, nothing is cached on the way, nothing lives longer than an hour, a packet is at most
//! 16 KiB, and a lookup takes disjoint paths, so that one liar cannot hide an entry (S/Kademlia).
//!
//! The shelf is in `directory/shelf.rs`; lookups under way are in `directory/ledger.rs`.

pub(super) mod ledger;
mod shelf;

use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use libp2p::kad::{self, BucketInserts, Caching, KBucketKey, Mode, Quorum, Record, StoreInserts};
use libp2p::swarm::NetworkBehaviour;
use libp2p::swarm::behaviour::toggle::Toggle;
use libp2p::{Multiaddr, PeerId, StreamProtocol};
use tokio::sync::oneshot;

use super::NodeKey;
use super::gated::Gated;
use super::scope::{ADDRESS_BYTES_MAX, Scope};
use shelf::Shelf;

/// Nothing is kept longer; what is still true is said again in good time.
pub const ENTRY_LIFE_MAX: Duration = Duration::from_secs(3_600);
const PROVIDE_EVERY: Duration = Duration::from_secs(20 * 60);
const REPLICATE_EVERY: Duration = Duration::from_secs(15 * 60);
const WALK_EVERY: Duration = Duration::from_secs(5 * 60);

/// A lookup that has not ended by then ends with what it has.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(10);

/// The longest packet, bytes.
const PACKET_BYTES_MAX: usize = 16 << 10;

/// On how many nodes an entry is kept, at most: Kademlia's k.
const COPIES_MAX: usize = 20;

/// Addresses of one peer that we hand on, so that an answer naming k peers always fits a packet.
pub(super) const ADDRESSES_LISTED_MAX: usize = 5;

const _: () =
    assert!(COPIES_MAX * (ADDRESSES_LISTED_MAX * (ADDRESS_BYTES_MAX + 4) + 64) < PACKET_BYTES_MAX);
const _: () = assert!(shelf::ENTRY_BYTES_MAX < PACKET_BYTES_MAX);

/// How a node takes part in the directories.
pub struct DirectorySettings {
    /// The hive, short: a part of the protocols' names.
    pub hive: String,
    /// Our own top-level region.
    pub region: String,
    /// Judges entries.
    pub check: CheckEntry,
}

/// Reads an entry found under a key: whose it is and how long it is good, if it is good at all.
/// Called on the network task, so it must be quick and must not block.
pub type CheckEntry = Box<dyn Fn(&[u8], &[u8]) -> Option<GoodEntry> + Send>;

/// What the node makes of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GoodEntry {
    /// Its author.
    pub author: NodeKey,
    /// When its author wrote it. Of two entries under one key the later counts.
    pub stamp: u64,
    /// How much longer it is good.
    pub life: Duration,
}

/// Which directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Shared {
    /// With admitted peers inside our region.
    Region,
    /// With all admitted peers.
    Hive,
}

/// Something to do in the directories. Without directories, the answers come at once and are empty.
pub enum Errand {
    /// Puts our own entry into both. True once another node has it.
    Enter {
        /// Its key.
        key: [u8; 32],
        /// The entry.
        value: Vec<u8>,
        /// Where the answer goes.
        reply: oneshot::Sender<bool>,
    },
    /// From now on lists us as a provider in the region's directory under these keys and no others.
    Provide {
        /// The keys.
        keys: Vec<[u8; 32]>,
    },
    /// Looks an entry up: the latest good one.
    FindEntry {
        /// In which directory.
        shared: Shared,
        /// Its key.
        key: [u8; 32],
        /// Where the answer goes.
        reply: oneshot::Sender<Option<Vec<u8>>>,
    },
    /// Looks up who is listed under a key in the region's directory.
    FindProviders {
        /// The key.
        key: [u8; 32],
        /// Where the answer goes.
        reply: oneshot::Sender<Vec<NodeKey>>,
    },
    /// Walks a directory, which meets nodes we are not connected to.
    Walk {
        /// Which one.
        shared: Shared,
    },
}

pub(super) type Table = kad::Behaviour<Shelf>;

/// Both directories as one behaviour.
#[derive(NetworkBehaviour)]
pub(super) struct Directory {
    hive: Toggle<Gated<Table>>,
    region: Toggle<Gated<Table>>,
}

impl Directory {
    /// The directories that `settings` asks for; none without.
    pub(super) fn new(local: PeerId, settings: Option<&DirectorySettings>, scope: Scope) -> Self {
        let table = |name: &str, hive: &str| {
            let protocol = StreamProtocol::try_from_owned(format!("/aquifer/{hive}/kad/{name}/1"));
            let protocol = protocol.expect("begins with a slash");
            Gated::new(table(local, protocol)).within(scope)
        };
        Self {
            hive: settings.map(|s| table("global", &s.hive)).into(),
            region: settings.map(|s| table(&s.region, &s.hive)).into(),
        }
    }

    fn gate(&mut self, shared: Shared) -> Option<&mut Gated<Table>> {
        match shared {
            Shared::Region => self.region.as_mut(),
            Shared::Hive => self.hive.as_mut(),
        }
    }

    fn table(&mut self, shared: Shared) -> Option<&mut Table> {
        self.gate(shared).map(Gated::inner)
    }

    /// Offers an admitted peer what it may see.
    pub(super) fn attach(&mut self, peer: PeerId, inside: bool) {
        self.hive
            .as_mut()
            .into_iter()
            .for_each(|gate| gate.attach(peer));
        if inside {
            self.region
                .as_mut()
                .into_iter()
                .for_each(|gate| gate.attach(peer));
        }
    }

    /// It admitted us too.
    pub(super) fn open(&mut self, peer: PeerId) {
        for shared in [Shared::Hive, Shared::Region] {
            self.gate(shared)
                .into_iter()
                .for_each(|gate| gate.open(peer));
        }
    }

    /// It is expelled: it sees nothing more and nobody is sent to it.
    pub(super) fn revoke(&mut self, peer: PeerId) {
        for shared in [Shared::Hive, Shared::Region] {
            if let Some(gate) = self.gate(shared) {
                gate.revoke(peer);
                gate.inner().remove_peer(&peer);
            }
        }
    }

    /// How many entries and provider records we keep for others, in both.
    pub(super) fn kept(&mut self) -> usize {
        let tables = [self.hive.as_mut(), self.region.as_mut()]
            .into_iter()
            .flatten();
        tables
            .map(|gate| {
                let (entries, provided) = gate.inner().store_mut().size();
                entries + provided
            })
            .sum()
    }

    /// Puts an admitted peer into the tables it may be in, at these addresses.
    pub(super) fn list(&mut self, peer: PeerId, inside: bool, addrs: &[Multiaddr]) {
        let tables = [Some(Shared::Hive), inside.then_some(Shared::Region)];
        for shared in tables.into_iter().flatten() {
            let Some(table) = self.table(shared) else {
                continue;
            };
            for addr in addrs.iter().take(ADDRESSES_LISTED_MAX) {
                table.add_address(&peer, addr.clone());
            }
        }
    }
}

fn table(local: PeerId, protocol: StreamProtocol) -> Table {
    let mut config = kad::Config::new(protocol);
    config
        .set_query_timeout(LOOKUP_TIMEOUT)
        .set_replication_factor(NonZeroUsize::new(COPIES_MAX).expect("not zero"))
        .disjoint_query_paths(true)
        .set_record_filtering(StoreInserts::FilterBoth)
        .set_kbucket_inserts(BucketInserts::Manual)
        .set_caching(Caching::Disabled)
        .set_record_ttl(Some(ENTRY_LIFE_MAX))
        // Our own entry is signed anew before it expires, which no machinery can do for us.
        .set_publication_interval(None)
        .set_replication_interval(Some(REPLICATE_EVERY))
        .set_provider_record_ttl(Some(ENTRY_LIFE_MAX))
        .set_provider_publication_interval(Some(PROVIDE_EVERY))
        .set_periodic_bootstrap_interval(Some(WALK_EVERY))
        .set_max_packet_size(PACKET_BYTES_MAX);
    let mut table = kad::Behaviour::with_config(local, Shelf::new(local), config);
    // Left to itself it serves only once an address is confirmed, and the table stays empty.
    table.set_mode(Some(Mode::Server));
    table
}

/// Puts an entry of ours on min(20, n/2) of the n nodes known here, the closest to its key. Where
/// those are too few to know that, the table finds the closest itself. `None` if there is nobody.
fn enter(table: &mut Table, local: PeerId, mut record: Record, stamp: u64) -> Option<kad::QueryId> {
    record.publisher = Some(local);
    record.expires = Some(Instant::now() + ENTRY_LIFE_MAX);
    table.store_mut().keep(record.clone(), local, stamp);
    let known: usize = table.kbuckets().map(|bucket| bucket.num_entries()).sum();
    if known >= 2 * COPIES_MAX {
        return table.put_record(record, Quorum::One).ok();
    }
    let target = KBucketKey::new(record.key.clone());
    let closest = table.get_closest_local_peers(&target);
    let copies = known.div_ceil(2);
    let holders: Vec<PeerId> = closest.take(copies).map(|peer| *peer.preimage()).collect();
    (!holders.is_empty()).then(|| table.put_record_to(record, holders.into_iter(), Quorum::One))
}

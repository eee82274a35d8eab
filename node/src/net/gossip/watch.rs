//! The watchdog: finds connections on which a peer has gone dumb, and has them made anew.
//!
//! A gossipsub stream can die in one direction while the sender sees no error. So each node says a
//! probe now and then. If a peer's probes reach us by others and nothing at all has come from the peer
//! itself for some minutes, its stream to us is taken for dead. A probe that travels faster by a
//! detour looks the same, so each next remedy waits twice as long: that costs a reconnection an hour.
//!
//! A probe is `0x00 "probe" origin counter`: no message of the node begins with a zero.

use std::collections::HashMap;
use std::time::Duration;

use libp2p::PeerId;
use tokio::time::Instant;

use crate::net::{NodeKey, translate};

const TAG: &[u8] = b"\0probe";
const PROBE_BYTES: usize = TAG.len() + 32 + 8;

/// Probes of a peer that others brought, with nothing from itself, before its connection is closed.
const MISSES_MAX: u32 = 3;

/// Over at least this time.
const SILENCE: Duration = Duration::from_secs(180);

/// The longest time between two remedies.
const REMEDY_LONGEST: Duration = Duration::from_secs(3_600);

/// About how often each shard of a mesh sees a probe, whoever says it.
const SHARD_PROBED: Duration = Duration::from_secs(30);

/// Probes of one origin are passed on at most this often.
const PROBE_APART: Duration = Duration::from_secs(1);

/// Origins remembered.
const ORIGINS_MAX: usize = 4096;

/// One node's sign of life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::net) struct Probe {
    pub(in crate::net) origin: NodeKey,
    pub(in crate::net) counter: u64,
}

impl Probe {
    /// Its bytes.
    pub(in crate::net) fn to_bytes(self) -> Vec<u8> {
        [TAG, &self.origin, &self.counter.to_be_bytes()].concat()
    }

    /// Reads a message that may be a probe: `None` if it is none, `Some(None)` if it is a bad one.
    pub(in crate::net) fn read(bytes: &[u8]) -> Option<Option<Self>> {
        if bytes.first() != Some(&0) {
            return None;
        }
        let parts = || {
            let rest = bytes.strip_prefix(TAG)?;
            let (origin, rest) = rest.split_first_chunk::<32>()?;
            let counter = u64::from_be_bytes(rest.try_into().ok()?);
            let origin = *origin;
            Some(Self { origin, counter })
        };
        Some((bytes.len() == PROBE_BYTES).then(parts).flatten())
    }
}

/// What is known of the peers of one mesh.
#[derive(Default)]
pub(in crate::net) struct Watch {
    peers: HashMap<PeerId, Line>,
    probed: Option<Instant>,
    counter: u64,
    origins: HashMap<NodeKey, Instant>,
}

/// One peer's line to us.
struct Line {
    heard: Instant,
    misses: u32,
    remedies: u32,
    remedied: Option<Instant>,
}

impl Line {
    fn new(now: Instant) -> Self {
        Self {
            heard: now,
            misses: 0,
            remedies: 0,
            remedied: None,
        }
    }
}

impl Watch {
    /// The probe that is due, and on which of `shards`, in a mesh of `members` nodes.
    pub(in crate::net) fn due(
        &mut self,
        now: Instant,
        origin: NodeKey,
        members: usize,
        shards: u8,
    ) -> Option<(u8, Probe)> {
        let apart = SHARD_PROBED * u32::try_from(members).unwrap_or(u32::MAX) / u32::from(shards);
        let apart = apart.max(2 * PROBE_APART);
        let is_due = self
            .probed
            .is_none_or(|last| now.duration_since(last) >= apart);
        is_due.then(|| {
            self.probed = Some(now);
            self.counter += 1;
            let counter = self.counter;
            // Every node begins at another shard, so that probes spread over all.
            let shard = counter.wrapping_add(u64::from(origin[0])) % u64::from(shards);
            let shard = u8::try_from(shard).expect("below a byte");
            (shard, Probe { origin, counter })
        })
    }

    /// Something came from `peer` itself.
    pub(in crate::net) fn heard(&mut self, peer: PeerId, now: Instant) {
        let line = self.peers.entry(peer).or_insert_with(|| Line::new(now));
        line.heard = now;
        line.misses = 0;
    }

    /// A probe came by way of `source`. True if it may go on; the second is true if the line from its
    /// origin is dead and should be made anew. `is_mesh_peer`: whether the origin should have sent it
    /// to us itself.
    pub(in crate::net) fn probed(
        &mut self,
        probe: Probe,
        source: PeerId,
        is_mesh_peer: impl Fn(&PeerId) -> bool,
        now: Instant,
    ) -> (bool, Option<PeerId>) {
        let often = self.origins.get(&probe.origin);
        if often.is_some_and(|last| now.duration_since(*last) < PROBE_APART)
            || (often.is_none() && self.origins.len() >= ORIGINS_MAX)
        {
            return (false, None);
        }
        self.origins.insert(probe.origin, now);
        let Some(origin) = translate::peer_of(&probe.origin) else {
            return (false, None);
        };
        if origin == source || !is_mesh_peer(&origin) {
            return (true, None);
        }
        let line = self.peers.entry(origin).or_insert_with(|| Line::new(now));
        line.misses += 1;
        let wait = REMEDY_LONGEST.min(SILENCE * 2u32.saturating_pow(line.remedies.min(8)));
        let since = |then: Instant| now.duration_since(then);
        let dead = line.misses >= MISSES_MAX
            && since(line.heard) >= SILENCE
            && line.remedied.is_none_or(|then| since(then) >= wait);
        if dead {
            line.remedies += 1;
            line.remedied = Some(now);
            line.misses = 0;
        }
        (true, dead.then_some(origin))
    }

    /// Forgets peers that are gone, but for how often they had to be remedied.
    pub(in crate::net) fn tidy(&mut self, now: Instant, connected: impl Fn(&PeerId) -> bool) {
        let since = |then: Instant| now.duration_since(then);
        self.origins.retain(|_, last| since(*last) < SILENCE);
        self.peers.retain(|peer, line| {
            connected(peer)
                || line
                    .remedied
                    .is_some_and(|then| since(then) < REMEDY_LONGEST)
        });
        for (peer, line) in &mut self.peers {
            if !connected(peer) {
                // Its silence counts from when it is back.
                line.heard = now;
                line.misses = 0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(seed: u8) -> (PeerId, NodeKey) {
        let peer = translate::keypair([seed; 32]).public().to_peer_id();
        (peer, translate::key_of(&peer).expect("ed25519"))
    }

    #[test]
    fn a_probe_is_read_and_nothing_else_is() {
        let probe = Probe {
            origin: key(1).1,
            counter: 7,
        };
        let bytes = probe.to_bytes();
        assert_eq!(Some(Some(probe)), Probe::read(&bytes));
        assert_eq!(Some(None), Probe::read(&bytes[..20]));
        assert_eq!(Some(None), Probe::read(&[0; 200]));
        assert_eq!(None, Probe::read(&[0x85, 1, 7]), "a message of the node");
        assert_eq!(None, Probe::read(&[]));
    }

    #[tokio::test]
    async fn a_dumb_line_is_remedied_ever_more_rarely_and_a_live_one_never() {
        let (peer, origin) = key(1);
        let (other, _) = key(2);
        let start = Instant::now();
        let mut watch = Watch::default();
        watch.heard(peer, start);
        let mut remedies = Vec::new();
        for minute in 1..240u32 {
            let now = start + Duration::from_secs(60) * minute;
            let probe = Probe {
                origin,
                counter: u64::from(minute),
            };
            let (goes_on, dead) = watch.probed(probe, other, |_| true, now);
            assert!(goes_on);
            if dead.is_some() {
                remedies.push(minute);
            }
        }
        assert_eq!([3, 9, 21, 45], remedies[..4], "each waits twice as long");
        let mut watch = Watch::default();
        for minute in 0..60u32 {
            let now = start + Duration::from_secs(60) * minute;
            let probe = Probe { origin, counter: 1 };
            watch.heard(peer, now);
            assert_eq!((true, None), watch.probed(probe, other, |_| true, now));
        }
    }

    #[tokio::test]
    async fn probes_of_one_origin_cannot_flood_and_all_shards_are_probed() {
        let (peer, origin) = key(1);
        let start = Instant::now();
        let mut watch = Watch::default();
        let probe = Probe { origin, counter: 1 };
        assert!(watch.probed(probe, peer, |_| true, start).0);
        assert!(!watch.probed(probe, peer, |_| true, start).0);
        let mut shards = std::collections::BTreeSet::new();
        let mut probes = 0;
        for second in 0..600u32 {
            let now = start + Duration::from_secs(1) * second;
            if let Some((shard, _)) = watch.due(now, origin, 3, 16) {
                shards.insert(shard);
                probes += 1;
            }
        }
        assert_eq!(16, shards.len());
        assert!((90..=120).contains(&probes), "{probes}");
    }
}

//! Whom to dial, and when to try again.
//!
//! Three kinds of target: seeds (addresses from the command line, with or without a peer id),
//! members (addresses the node was told to keep connected to) and neighbours (found by mDNS). Each
//! has one attempt counter with exponential backoff and jitter. For the first minute after it was
//! lost (or first tried) a target is dialled at least every five seconds, then ever more rarely, down
//! to once a minute. Only an admitted connection resets the counter: a peer that connects and then
//! refuses us is not hammered. But when the world around us has changed (an address of ours came or
//! went, or the first peer for long was admitted) everyone who is waited for is tried again at once,
//! spread over a few seconds, so that a healed partition needs no restart and no luck. A
//! connected peer is never dialled again; a seed whose name hides its peer id is matched by the
//! peer last met there. Time is an argument; nothing here touches a socket.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use libp2p::swarm::ConnectionId;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::{Multiaddr, PeerId};
use tokio::time::Instant;

use super::translate;

/// Addresses kept per peer, per source.
pub const ADDRESSES_PER_PEER_MAX: usize = 16;

/// Members and neighbours remembered.
const MEMBERS_MAX: usize = 4096;
const NEIGHBOURS_MAX: usize = 256;

/// Dials in flight at one time.
const DIALS_MAX: usize = 16;

/// The pause before attempt n is drawn from the upper half of `FIRST * 2^n`, up to `SHORT` while
/// the target has been sought for less than `HASTE`, up to `LONGEST` afterwards.
const PAUSE_FIRST: Duration = Duration::from_secs(2);
const PAUSE_SHORT: Duration = Duration::from_secs(5);
const PAUSE_LONGEST: Duration = Duration::from_secs(60);
const HASTE: Duration = Duration::from_secs(60);

/// After a change of the world, all are tried again within `SPREAD`, and that at most once in `CALM`.
const SPREAD: Duration = Duration::from_secs(3);
const CALM: Duration = Duration::from_secs(30);

/// Something to dial.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Target {
    Seed(usize),
    Peer(PeerId),
}

/// The state of one target.
#[derive(Debug)]
struct Attempt {
    failures: u32,
    /// Since when it is sought.
    since: Instant,
    not_before: Instant,
    in_flight: Option<ConnectionId>,
}

/// A configured address, and whom it was last found to lead to.
#[derive(Debug)]
struct Seed {
    addr: Multiaddr,
    peer: Option<PeerId>,
    is_self: bool,
}

/// All targets of a node.
#[derive(Debug)]
pub(super) struct Dialing {
    seeds: Vec<Seed>,
    members: HashMap<PeerId, Vec<Multiaddr>>,
    neighbours: HashMap<PeerId, Vec<Multiaddr>>,
    attempts: BTreeMap<Target, Attempt>,
    in_flight: HashMap<ConnectionId, Target>,
    chance: RandomState,
    draws: u64,
    /// When everyone was last tried again at once.
    stirred: Option<Instant>,
}

impl Dialing {
    /// Seeds are due at once.
    pub(super) fn new(seeds: Vec<Multiaddr>, now: Instant) -> Self {
        let attempts = (0..seeds.len())
            .map(|at| (Target::Seed(at), Attempt::due(now)))
            .collect();
        let seed = |addr| Seed {
            peer: translate::peer_in(&addr),
            addr,
            is_self: false,
        };
        Self {
            seeds: seeds.into_iter().map(seed).collect(),
            members: HashMap::new(),
            neighbours: HashMap::new(),
            attempts,
            in_flight: HashMap::new(),
            chance: RandomState::new(),
            draws: 0,
            stirred: None,
        }
    }

    /// Keep connected to `peer` at these addresses; an empty list forgets it.
    pub(super) fn know(&mut self, peer: PeerId, mut addrs: Vec<Multiaddr>, now: Instant) {
        addrs.truncate(ADDRESSES_PER_PEER_MAX);
        if addrs.is_empty() {
            self.members.remove(&peer);
            self.tidy(peer);
        } else if self.members.contains_key(&peer) || self.members.len() < MEMBERS_MAX {
            self.members.insert(peer, addrs);
            self.attempts
                .entry(Target::Peer(peer))
                .or_insert_with(|| Attempt::due(now));
        }
    }

    /// Where `peer` says it listens, if the node was told.
    pub(super) fn addresses_of(&self, peer: &PeerId) -> Vec<Multiaddr> {
        self.members.get(peer).cloned().unwrap_or_default()
    }

    /// mDNS saw `peer` at this address.
    pub(super) fn found(&mut self, peer: PeerId, addr: Multiaddr, now: Instant) {
        if !self.neighbours.contains_key(&peer) && self.neighbours.len() >= NEIGHBOURS_MAX {
            return;
        }
        let addrs = self.neighbours.entry(peer).or_default();
        if addrs.len() < ADDRESSES_PER_PEER_MAX && !addrs.contains(&addr) {
            addrs.push(addr);
        }
        self.attempts
            .entry(Target::Peer(peer))
            .or_insert_with(|| Attempt::due(now));
    }

    /// mDNS no longer sees `peer` at this address.
    pub(super) fn lost(&mut self, peer: PeerId, addr: &Multiaddr) {
        if let Some(addrs) = self.neighbours.get_mut(&peer) {
            addrs.retain(|known| known != addr);
            if addrs.is_empty() {
                self.neighbours.remove(&peer);
                self.tidy(peer);
            }
        }
    }

    /// Never dial `peer` for its own sake again, until it is made known again.
    pub(super) fn forget(&mut self, peer: PeerId) {
        self.members.remove(&peer);
        self.neighbours.remove(&peer);
        self.tidy(peer);
    }

    fn tidy(&mut self, peer: PeerId) {
        if !self.members.contains_key(&peer) && !self.neighbours.contains_key(&peer) {
            self.attempts.remove(&Target::Peer(peer));
        }
    }

    /// Whether `peer` is dialled for its own sake when it is not connected.
    pub(super) fn seeks(&self, peer: &PeerId) -> bool {
        self.attempts.contains_key(&Target::Peer(*peer))
            || self
                .seeds
                .iter()
                .any(|seed| seed.peer.as_ref() == Some(peer))
    }

    /// Peers we keep connected to or have found, seeds not counted.
    pub(super) fn peers_known(&self) -> usize {
        self.attempts
            .keys()
            .filter(|target| matches!(target, Target::Peer(_)))
            .count()
    }

    /// Peers whose dials have failed so far, and how often in a row.
    pub(super) fn failing(&self) -> Vec<(PeerId, u32)> {
        let failed = |(target, attempt): (&Target, &Attempt)| match target {
            // The dial under way is counted as failed until it succeeds.
            Target::Peer(peer) => {
                let under_way = u32::from(attempt.in_flight.is_some());
                Some((*peer, attempt.failures.saturating_sub(under_way)))
            }
            Target::Seed(_) => None,
        };
        self.attempts
            .iter()
            .filter_map(failed)
            .filter(|(_, failures)| *failures > 0)
            .collect()
    }

    /// The dials to make now. Each is counted as a failure until `admitted` says otherwise.
    pub(super) fn due(
        &mut self,
        now: Instant,
        connected: impl Fn(&PeerId) -> bool,
    ) -> Vec<DialOpts> {
        let room = DIALS_MAX.saturating_sub(self.in_flight.len());
        let ready = |(target, attempt): (&Target, &Attempt)| {
            let idle = attempt.in_flight.is_none() && attempt.not_before <= now;
            (idle && self.wants(target, &connected)).then_some(*target)
        };
        let targets: Vec<Target> = self.attempts.iter().filter_map(ready).take(room).collect();
        targets
            .into_iter()
            .map(|target| self.start(target, now))
            .collect()
    }

    fn wants(&self, target: &Target, connected: &impl Fn(&PeerId) -> bool) -> bool {
        match target {
            Target::Peer(peer) => !connected(peer),
            Target::Seed(at) => self
                .seeds
                .get(*at)
                .is_some_and(|seed| !seed.is_self && !seed.peer.as_ref().is_some_and(connected)),
        }
    }

    fn start(&mut self, target: Target, now: Instant) -> DialOpts {
        let opts = self.options(target);
        let (failures, since) = self
            .attempts
            .get(&target)
            .map_or((0, now), |attempt| (attempt.failures, attempt.since));
        let pause = self.pause(failures, now.duration_since(since));
        if let Some(attempt) = self.attempts.get_mut(&target) {
            attempt.failures = failures.saturating_add(1);
            attempt.not_before = now + pause;
            attempt.in_flight = Some(opts.connection_id());
        }
        self.in_flight.insert(opts.connection_id(), target);
        opts
    }

    fn options(&self, target: Target) -> DialOpts {
        let condition = PeerCondition::DisconnectedAndNotDialing;
        match target {
            Target::Seed(at) => {
                let addr = self.seeds[at].addr.clone();
                match translate::peer_in(&addr) {
                    Some(peer) => DialOpts::peer_id(peer)
                        .condition(condition)
                        .addresses(vec![addr])
                        .build(),
                    None => DialOpts::unknown_peer_id().address(addr).build(),
                }
            }
            Target::Peer(peer) => {
                let lists = [self.members.get(&peer), self.neighbours.get(&peer)];
                let addrs = lists.into_iter().flatten().flatten().cloned().collect();
                DialOpts::peer_id(peer)
                    .condition(condition)
                    .addresses(addrs)
                    .build()
            }
        }
    }

    /// From the upper half of the doubled pause, so that a crowd of nodes spreads out.
    fn pause(&mut self, failures: u32, sought: Duration) -> Duration {
        let longest = if sought < HASTE {
            PAUSE_SHORT
        } else {
            PAUSE_LONGEST
        };
        let whole = longest.min(PAUSE_FIRST * (1 << failures.min(5)));
        whole / 2 + self.draw(whole / 2)
    }

    /// Any time up to `most`.
    fn draw(&mut self, most: Duration) -> Duration {
        self.draws += 1;
        let millis = u64::try_from(most.as_millis()).expect("a minute fits");
        Duration::from_millis(self.chance.hash_one(self.draws) % (millis + 1))
    }

    /// The world around us has changed: whoever is waited for is tried again soon.
    pub(super) fn world_changed(&mut self, now: Instant) {
        if self.stirred.is_some_and(|at| now.duration_since(at) < CALM) {
            return;
        }
        self.stirred = Some(now);
        let targets: Vec<Target> = self.attempts.keys().copied().collect();
        for target in targets {
            let soon = now + self.draw(SPREAD);
            if let Some(attempt) = self.attempts.get_mut(&target) {
                attempt.failures = attempt.failures.min(1);
                attempt.since = now;
                attempt.not_before = attempt.not_before.min(soon);
            }
        }
    }

    /// `peer` was lost: from now on it is sought.
    pub(super) fn vanished(&mut self, peer: PeerId, now: Instant) {
        for (target, attempt) in &mut self.attempts {
            let leads_there = match target {
                Target::Peer(known) => *known == peer,
                Target::Seed(at) => self.seeds[*at].peer == Some(peer),
            };
            if leads_there {
                attempt.since = now;
            }
        }
    }

    /// A dial of ours failed.
    pub(super) fn failed(&mut self, id: ConnectionId, was_self: bool) {
        if let Some(target) = self.land(id)
            && was_self
        {
            match target {
                Target::Seed(at) => self.seeds[at].is_self = true,
                Target::Peer(peer) => self.forget(peer),
            }
        }
    }

    /// A dial of ours reached `peer`. It is not yet a success: see `admitted`.
    pub(super) fn reached(&mut self, id: ConnectionId, peer: PeerId) {
        if let Some(Target::Seed(at)) = self.land(id) {
            self.seeds[at].peer = Some(peer);
        }
    }

    fn land(&mut self, id: ConnectionId) -> Option<Target> {
        let target = self.in_flight.remove(&id)?;
        if let Some(attempt) = self.attempts.get_mut(&target) {
            attempt.in_flight = None;
        }
        Some(target)
    }

    /// `peer` and we admitted each other: when it is next lost, start over quickly.
    pub(super) fn admitted(&mut self, peer: PeerId) {
        for (target, attempt) in &mut self.attempts {
            let leads_there = match target {
                Target::Peer(known) => *known == peer,
                Target::Seed(at) => self.seeds[*at].peer == Some(peer),
            };
            if leads_there {
                attempt.failures = 0;
            }
        }
    }
}

impl Attempt {
    fn due(now: Instant) -> Self {
        Self {
            failures: 0,
            since: now,
            not_before: now,
            in_flight: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(seed: u8) -> PeerId {
        translate::keypair([seed; 32]).public().to_peer_id()
    }

    fn addr(port: u16) -> Multiaddr {
        format!("/ip4/127.0.0.1/tcp/{port}").parse().expect("legal")
    }

    fn nobody(_: &PeerId) -> bool {
        false
    }

    /// Dials once and fails, returning how long until the next dial is due.
    fn fail_once(dialing: &mut Dialing, now: &mut Instant) -> Duration {
        let dials = dialing.due(*now, nobody);
        assert_eq!(1, dials.len());
        dialing.failed(dials[0].connection_id(), false);
        let began = *now;
        while dialing.due_is_empty(*now) {
            *now += Duration::from_millis(100);
        }
        *now - began
    }

    impl Dialing {
        fn due_is_empty(&self, now: Instant) -> bool {
            self.attempts
                .values()
                .all(|attempt| attempt.not_before > now)
        }
    }

    #[tokio::test]
    async fn a_dead_seed_is_tried_every_few_seconds_for_a_minute_and_then_ever_more_rarely() {
        let began = Instant::now();
        let mut now = began;
        let mut dialing = Dialing::new(vec![addr(1)], now);
        let slack = Duration::from_millis(100);
        let mut pauses = Vec::new();
        while now < began + 6 * HASTE {
            let sought = now - began;
            let pause = fail_once(&mut dialing, &mut now);
            let longest = if sought < HASTE {
                PAUSE_SHORT
            } else {
                PAUSE_LONGEST
            };
            assert!(pause <= longest + slack, "after {sought:?}: {pause:?}");
            pauses.push(pause);
        }
        let last = pauses.last().expect("many");
        assert!(*last >= PAUSE_LONGEST / 2, "{last:?}");
    }

    #[tokio::test]
    async fn a_change_of_the_world_tries_everyone_again_soon_but_not_all_the_time() {
        let mut now = Instant::now();
        let mut dialing = Dialing::new(vec![addr(1)], now);
        for _ in 0..30 {
            fail_once(&mut dialing, &mut now);
        }
        let dials = dialing.due(now, nobody);
        dialing.failed(dials[0].connection_id(), false);
        dialing.world_changed(now);
        assert_eq!(1, dialing.due(now + SPREAD, nobody).len());
        let until = dialing.attempts[&Target::Seed(0)].not_before;
        dialing.world_changed(now + SPREAD);
        assert_eq!(
            until,
            dialing.attempts[&Target::Seed(0)].not_before,
            "it was just stirred"
        );
    }

    #[tokio::test]
    async fn only_admission_resets_the_pause() {
        let mut now = Instant::now();
        let mut dialing = Dialing::new(vec![addr(1)], now);
        for _ in 0..6 {
            fail_once(&mut dialing, &mut now);
        }
        let dials = dialing.due(now, nobody);
        dialing.reached(dials[0].connection_id(), peer(1));
        assert_eq!(
            7,
            dialing.attempts[&Target::Seed(0)].failures,
            "reached is not admitted"
        );
        dialing.admitted(peer(1));
        assert_eq!(0, dialing.attempts[&Target::Seed(0)].failures);
    }

    #[tokio::test]
    async fn a_connected_peer_is_not_dialled_and_a_lost_one_is() {
        let now = Instant::now();
        let mut dialing = Dialing::new(vec![addr(1)], now);
        dialing.know(peer(2), vec![addr(2)], now);
        let dials = dialing.due(now, |known| *known == peer(2));
        assert_eq!(1, dials.len(), "the seed only");
        dialing.reached(dials[0].connection_id(), peer(1));

        let later = now + PAUSE_LONGEST;
        assert_eq!(0, dialing.due(later, |_| true).len(), "all connected");
        assert_eq!(2, dialing.due(later, nobody).len(), "both lost");
    }

    #[tokio::test]
    async fn a_seed_that_is_ourselves_is_dialled_once() {
        let now = Instant::now();
        let mut dialing = Dialing::new(vec![addr(1)], now);
        let dials = dialing.due(now, nobody);
        dialing.failed(dials[0].connection_id(), true);
        assert_eq!(0, dialing.due(now + PAUSE_LONGEST, nobody).len());
    }

    #[tokio::test]
    async fn neighbours_come_and_go_and_an_expelled_peer_is_forgotten() {
        let now = Instant::now();
        let mut dialing = Dialing::new(Vec::new(), now);
        dialing.found(peer(3), addr(3), now);
        assert_eq!(Some(peer(3)), dialing.due(now, nobody)[0].get_peer_id());
        dialing.lost(peer(3), &addr(3));
        assert_eq!(0, dialing.peers_known());

        dialing.know(peer(4), (0..40).map(addr).collect(), now);
        assert_eq!(ADDRESSES_PER_PEER_MAX, dialing.members[&peer(4)].len());
        dialing.forget(peer(4));
        assert_eq!(0, dialing.due(now + PAUSE_LONGEST, nobody).len());
    }
}

//! Standing: at which addresses we can be dialled, and whether a relay must do.
//!
//! Left to itself (`RelayUse::Auto`) a node takes a place at up to two relays once it has known a
//! seed of its region for a while and no address of ours has been proved, and gives them up when one
//! has. A relay that refused, or was lost, rests before it is asked again. Time is an argument.

use std::collections::HashMap;
use std::time::Duration;

use libp2p::core::transport::ListenerId;
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};
use tokio::time::Instant;

use super::{ReachSettings, RelayUse};

/// Places kept at one time.
const RELAYS_MAX: usize = 2;

/// How long a seed has to prove that it can dial us, before we look for a relay.
const PROOF_WAIT: Duration = Duration::from_secs(12);

/// How long a relay rests that refused us or was lost.
const RELAY_REST: Duration = Duration::from_secs(10);

/// What is known of our own reach.
pub(in crate::net) struct Standing {
    internet: bool,
    serve: bool,
    relay: RelayUse,
    proved: Vec<Multiaddr>,
    /// Since when somebody is there who could prove an address.
    since: Option<Instant>,
    places: HashMap<ListenerId, PeerId>,
    resting: HashMap<PeerId, Instant>,
}

impl Standing {
    /// Nothing is known yet.
    pub(in crate::net) fn new(settings: &ReachSettings) -> Self {
        Self {
            internet: settings.internet,
            serve: settings.internet && settings.serve,
            relay: settings.relay,
            proved: Vec::new(),
            since: None,
            places: HashMap::new(),
            resting: HashMap::new(),
        }
    }

    /// Whether we relay for others, and so must know our own addresses.
    pub(in crate::net) fn serves(&self) -> bool {
        self.serve
    }

    /// We are a seed from now on.
    pub(in crate::net) fn serve(&mut self) {
        self.serve = self.internet;
    }

    /// An address of ours was proved, or given by the operator. False if that is no news.
    pub(in crate::net) fn proved(&mut self, addr: &Multiaddr) -> bool {
        let news = !self.proved.contains(addr);
        if news {
            self.proved.push(addr.clone());
        }
        news
    }

    /// It is not ours any more.
    pub(in crate::net) fn disproved(&mut self, addr: &Multiaddr) {
        self.proved.retain(|known| known != addr);
    }

    /// Addresses at which we are known to be reached.
    pub(in crate::net) fn addresses(&self) -> &[Multiaddr] {
        &self.proved
    }

    /// Relays at which we keep a place.
    pub(in crate::net) fn relays(&self) -> impl Iterator<Item = &PeerId> {
        self.places.values()
    }

    /// The relays to ask for a place now, of `seeds`: admitted, of our region, nearest first.
    pub(in crate::net) fn due(
        &mut self,
        now: Instant,
        seeds: &[(PeerId, Multiaddr)],
    ) -> Vec<(PeerId, Multiaddr)> {
        if seeds.is_empty() {
            self.since = None;
            return Vec::new();
        }
        let since = *self.since.get_or_insert(now);
        let wanted = match self.relay {
            RelayUse::Never => false,
            RelayUse::Always => true,
            RelayUse::Auto => self.proved.is_empty() && now >= since + PROOF_WAIT,
        };
        if !self.internet || self.serve || !wanted {
            return Vec::new();
        }
        self.resting.retain(|_, until| *until > now);
        let held: Vec<PeerId> = self.places.values().copied().collect();
        let free = |peer: &PeerId| !held.contains(peer) && !self.resting.contains_key(peer);
        seeds
            .iter()
            .filter(|(peer, _)| free(peer))
            .take(RELAYS_MAX.saturating_sub(held.len()))
            .map(|(peer, addr)| (*peer, circuit(*peer, addr)))
            .collect()
    }

    /// We asked `relay` for a place.
    pub(in crate::net) fn asked(&mut self, listener: ListenerId, relay: PeerId) {
        self.places.insert(listener, relay);
    }

    /// `relay` could not even be asked.
    pub(in crate::net) fn failed(&mut self, relay: PeerId, now: Instant) {
        self.resting.insert(relay, now + RELAY_REST);
    }

    /// A listener has ended. True if it was a place at a relay.
    pub(in crate::net) fn lost(&mut self, listener: ListenerId, now: Instant) -> bool {
        match self.places.remove(&listener) {
            Some(relay) => {
                self.failed(relay, now);
                true
            }
            None => false,
        }
    }

    /// Places that are not needed any more.
    pub(in crate::net) fn surplus(&self) -> Vec<ListenerId> {
        match self.relay {
            RelayUse::Auto if !self.proved.is_empty() => self.places.keys().copied().collect(),
            _ => Vec::new(),
        }
    }
}

/// The address to listen at for a place at `relay`.
fn circuit(relay: PeerId, addr: &Multiaddr) -> Multiaddr {
    let bare = addr.iter().filter(|part| !matches!(part, Protocol::P2p(_)));
    bare.collect::<Multiaddr>()
        .with(Protocol::P2p(relay))
        .with(Protocol::P2pCircuit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::translate;

    fn seed(number: u8) -> (PeerId, Multiaddr) {
        let peer = translate::keypair([number; 32]).public().to_peer_id();
        let addr = format!("/ip4/192.0.2.{number}/tcp/1/p2p/{peer}");
        (peer, addr.parse().expect("legal"))
    }

    fn standing(relay: RelayUse) -> Standing {
        Standing::new(&ReachSettings {
            internet: true,
            relay,
            ..ReachSettings::default()
        })
    }

    #[tokio::test]
    async fn a_node_nobody_can_dial_takes_two_places_and_gives_them_up_once_proved() {
        let (mut standing, now) = (standing(RelayUse::Auto), Instant::now());
        let seeds = [seed(1), seed(2), seed(3)];
        assert!(
            standing.due(now, &seeds).is_empty(),
            "first the seeds have time to dial back"
        );
        let due = standing.due(now + PROOF_WAIT, &seeds);
        assert_eq!(
            vec![seeds[0].0, seeds[1].0],
            due.iter().map(|d| d.0).collect::<Vec<_>>()
        );
        let text = format!("/ip4/192.0.2.1/tcp/1/p2p/{}/p2p-circuit", seeds[0].0);
        assert_eq!(text, due[0].1.to_string());

        let listener = ListenerId::next();
        standing.asked(listener, seeds[0].0);
        assert!(standing.surplus().is_empty());
        let addr = "/ip4/198.51.100.1/tcp/1".parse().expect("legal");
        assert!(standing.proved(&addr) && !standing.proved(&addr));
        assert_eq!(vec![listener], standing.surplus());
        assert!(standing.due(now + PROOF_WAIT, &seeds).is_empty());
    }

    #[tokio::test]
    async fn a_relay_that_was_lost_rests_and_another_takes_its_place() {
        let (mut standing, now) = (standing(RelayUse::Always), Instant::now());
        let seeds = [seed(1)];
        let listener = ListenerId::next();
        let due = standing.due(now, &seeds);
        standing.asked(listener, due[0].0);
        assert!(standing.due(now, &seeds).is_empty(), "it has a place");
        assert!(standing.lost(listener, now) && !standing.lost(listener, now));
        assert!(standing.due(now, &seeds).is_empty(), "it rests");
        assert_eq!(
            1,
            standing.due(now, &[seed(1), seed(2)]).len(),
            "another does not"
        );
        assert_eq!(1, standing.due(now + RELAY_REST, &seeds).len());
    }

    #[tokio::test]
    async fn never_means_never_and_a_seed_keeps_no_place() {
        let now = Instant::now();
        assert!(standing(RelayUse::Never).due(now, &[seed(1)]).is_empty());
        let mut serving = Standing::new(&ReachSettings {
            internet: true,
            serve: true,
            relay: RelayUse::Always,
            external: Vec::new(),
        });
        assert!(serving.due(now, &[seed(1)]).is_empty());
    }
}

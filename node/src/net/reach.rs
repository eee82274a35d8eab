//! Reach: being dialled where nobody can dial, without a stranger's help.
//!
//! A node that sits behind a translator or a firewall keeps a place at a relay, which is a seed of
//! its own top-level region and of no other: a relay reads nothing (both ends encrypt to each
//! other), but it sees who talks, when and how much. Over the relayed connection two nodes then try
//! to punch a direct one (DCUtR), and let the relayed one go. Whether we can be dialled is never
//! taken from what a peer claims to observe: a seed of the region dials back, to an address and with
//! a number that prove it (AutoNAT v2). All of it stands behind the gate, relayed connections too.
//!
//! When to keep a place, and where, is in `reach/standing.rs`.

pub(super) mod standing;

use std::num::NonZeroU32;
use std::time::Duration;

use libp2p::swarm::NetworkBehaviour;
use libp2p::swarm::behaviour::toggle::Toggle;
use libp2p::{PeerId, autonat, dcutr, relay};

use super::gated::Gated;

/// Places that others keep with us, in all and for one peer.
const RESERVATIONS_MAX: usize = 256;
const RESERVATIONS_PER_PEER_MAX: usize = 2;
const RESERVATION_LIFE: Duration = Duration::from_secs(3_600);

/// Circuits through us, in all and for one peer; how long one lasts and how many bytes it carries.
const CIRCUITS_MAX: usize = 256;
const CIRCUITS_PER_PEER_MAX: usize = 16;
const CIRCUIT_LIFE: Duration = Duration::from_secs(3_600);
const CIRCUIT_BYTES_MAX: u64 = 256 << 20;

/// Requests of one peer: this many at once, and then one in each interval.
const REQUESTS_BURST: NonZeroU32 = NonZeroU32::new(30).expect("not zero");
const REQUESTS_EVERY: Duration = Duration::from_secs(10);

/// How a node is reached from outside its own network.
#[derive(Clone, Debug, Default)]
pub struct ReachSettings {
    /// Whether to use relays, hole punching and dial-back at all; off on a LAN and in tests.
    pub internet: bool,
    /// Whether this node is a seed: it relays and dials back for others, and keeps no place itself.
    pub serve: bool,
    /// When to keep a place at a relay.
    pub relay: RelayUse,
    /// Multiaddrs at which the operator says this node is reached.
    pub external: Vec<String>,
}

/// When to keep a place at a relay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RelayUse {
    /// While no address of ours is known to be reachable.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// What binds us and an admitted peer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bonds {
    /// It is a seed.
    pub(super) seed: bool,
    /// It is of our own top-level region.
    pub(super) inside: bool,
    /// We are a seed.
    pub(super) serve: bool,
}

/// What we do for reach, and what we do for the reach of others.
#[derive(NetworkBehaviour)]
pub(super) struct Reach {
    /// We relay.
    service: Toggle<Gated<relay::Behaviour>>,
    /// We are relayed, or dial through a relay.
    client: Toggle<Gated<relay::client::Behaviour>>,
    punch: Toggle<Gated<dcutr::Behaviour>>,
    /// We ask to be dialled back.
    probe: Toggle<Gated<autonat::v2::client::Behaviour>>,
    /// We dial back.
    answer: Toggle<Gated<autonat::v2::server::Behaviour>>,
}

impl Reach {
    /// What `settings` asks for, and the transport of relayed connections, if there are to be any.
    pub(super) fn new(
        local: PeerId,
        settings: &ReachSettings,
    ) -> (Self, Option<relay::client::Transport>) {
        let (transport, client) = settings.internet.then(|| relay::client::new(local)).unzip();
        let mut reach = Self {
            service: settings.internet.then(|| Gated::new(service(local))).into(),
            client: client.map(Gated::new).into(),
            punch: settings
                .internet
                .then(|| Gated::new(dcutr::Behaviour::new(local)))
                .into(),
            probe: settings.internet.then(|| Gated::new(probe())).into(),
            answer: settings.internet.then(|| Gated::new(answer())).into(),
        };
        reach.serve(settings.serve);
        (reach, transport)
    }

    /// Whether we relay. Only seeds do: that others could dial us is no reason to.
    pub(super) fn serve(&mut self, serve: bool) {
        if let Some(gate) = self.service.as_mut() {
            // As a seed, once we know an address of ours to name.
            let status = (!serve).then_some(relay::Status::Disable);
            gate.inner().set_status(status);
        }
    }

    /// Offers an admitted peer what concerns it.
    pub(super) fn attach(&mut self, peer: PeerId, bonds: Bonds) {
        let Bonds {
            seed,
            inside,
            serve,
        } = bonds;
        attach(self.service.as_mut(), peer);
        attach(self.punch.as_mut(), peer);
        if seed {
            attach(self.client.as_mut(), peer);
        }
        if seed && inside {
            attach(self.probe.as_mut(), peer);
        }
        if serve && inside {
            attach(self.answer.as_mut(), peer);
        }
    }

    /// It admitted us too.
    pub(super) fn open(&mut self, peer: PeerId) {
        self.service
            .as_mut()
            .into_iter()
            .for_each(|gate| gate.open(peer));
        self.client
            .as_mut()
            .into_iter()
            .for_each(|gate| gate.open(peer));
        self.punch
            .as_mut()
            .into_iter()
            .for_each(|gate| gate.open(peer));
        self.probe
            .as_mut()
            .into_iter()
            .for_each(|gate| gate.open(peer));
        self.answer
            .as_mut()
            .into_iter()
            .for_each(|gate| gate.open(peer));
    }

    /// It is expelled.
    pub(super) fn revoke(&mut self, peer: PeerId) {
        self.service
            .as_mut()
            .into_iter()
            .for_each(|gate| gate.revoke(peer));
        self.client
            .as_mut()
            .into_iter()
            .for_each(|gate| gate.revoke(peer));
        self.punch
            .as_mut()
            .into_iter()
            .for_each(|gate| gate.revoke(peer));
        self.probe
            .as_mut()
            .into_iter()
            .for_each(|gate| gate.revoke(peer));
        self.answer
            .as_mut()
            .into_iter()
            .for_each(|gate| gate.revoke(peer));
    }
}

fn attach<B: NetworkBehaviour>(gate: Option<&mut Gated<B>>, peer: PeerId) {
    if let Some(gate) = gate {
        gate.attach(peer);
    }
}

fn service(local: PeerId) -> relay::Behaviour {
    let config = relay::Config {
        max_reservations: RESERVATIONS_MAX,
        max_reservations_per_peer: RESERVATIONS_PER_PEER_MAX,
        reservation_duration: RESERVATION_LIFE,
        reservation_rate_limiters: Vec::new(),
        max_circuits: CIRCUITS_MAX,
        max_circuits_per_peer: CIRCUITS_PER_PEER_MAX,
        max_circuit_duration: CIRCUIT_LIFE,
        max_circuit_bytes: CIRCUIT_BYTES_MAX,
        circuit_src_rate_limiters: Vec::new(),
    };
    // By peer only: everyone here is admitted, and a whole office may share one address.
    let config = config
        .reservation_rate_per_peer(REQUESTS_BURST, REQUESTS_EVERY)
        .circuit_src_per_peer(REQUESTS_BURST, REQUESTS_EVERY);
    relay::Behaviour::new(local, config)
}

fn answer() -> autonat::v2::server::Behaviour {
    autonat::v2::server::Behaviour::default()
}

fn probe() -> autonat::v2::client::Behaviour {
    autonat::v2::client::Behaviour::default()
}

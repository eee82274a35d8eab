//! What the node speaks and over what: the stock libp2p behaviours, composed and limited.
//!
//! Limits come first, because a behaviour refuses a connection in field order. Identify, ping and
//! admission are open to anyone who connects; everything else stands behind the gate. Transports
//! are QUIC, and TCP with Noise and Yamux beside it, both under DNS so that `/dns` and `/dnsaddr`
//! names work. Defaults that let one stranger hold much memory (QUIC receive windows of 15 MB,
//! 512 streams per connection) are lowered here. No decision is taken in this file.

use std::io;
use std::time::Duration;

use libp2p::connection_limits::{self, ConnectionLimits};
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::{Boxed, OrTransport};
use libp2p::core::upgrade::Version;
use libp2p::futures::future::Either;
use libp2p::identity::Keypair;
use libp2p::swarm::behaviour::toggle::Toggle;
use libp2p::swarm::{self, NetworkBehaviour};
use libp2p::{
    PeerId, Swarm, Transport, dns, identify, mdns, memory_connection_limits, noise, ping, quic,
    relay, tcp, yamux,
};

use super::directory::Directory;
use super::door::Door;
use super::gated::Gated;
use super::gossip::{self, Gossip, MESHES_MAX, Slot};
use super::reach::Reach;
use super::scope::Scope;
use super::{NetSettings, admit, calls};

/// Receive windows of one QUIC connection. A stream's window is smaller than the connection's, so
/// that a stream nobody reads cannot starve ping and admission beside it.
const CONNECTION_WINDOW_BYTES: u32 = 1 << 20;
const STREAM_WINDOW_BYTES: u32 = 512 * 1024;

/// Streams one peer may have open on one connection. An honest peer uses about a dozen, and one
/// for each circuit where we relay for it or it for us.
const STREAMS_MAX: usize = 64;

/// A silent QUIC connection ends after this time, and is kept from silence by this beat.
const IDLE_TIMEOUT_MS: u32 = 15_000;
const KEEP_ALIVE: Duration = Duration::from_secs(5);

/// Longer than the grace of `admission`, so that a stranger is closed by rule, not by accident.
const IDLE_CONNECTION_TIMEOUT: Duration = Duration::from_secs(20);

/// Time for TCP and its upgrades; QUIC has its own handshake timeout of 5 s.
const UPGRADE_TIMEOUT: Duration = Duration::from_secs(10);

/// With two misses allowed, a peer that has vanished is known dead within half a minute whatever
/// the transport; QUIC's own idle timeout is quicker.
const PING_EVERY: Duration = Duration::from_secs(5);
const PING_TIMEOUT: Duration = Duration::from_secs(6);

/// Handshakes in progress, per direction.
const PENDING_MAX: u32 = 128;

/// Fewest connections per peer: two honest peers that dial each other at once need both, for if
/// each refuses the second connection it sees, both may be lost.
const PER_PEER_MIN: u32 = 2;

/// All protocols of a node.
#[derive(NetworkBehaviour)]
pub(super) struct Behaviour {
    door: Door,
    limits: connection_limits::Behaviour,
    memory: Toggle<memory_connection_limits::Behaviour>,
    identify: identify::Behaviour,
    ping: ping::Behaviour,
    mdns: Toggle<mdns::tokio::Behaviour>,
    pub(super) admit: admit::Behaviour,
    pub(super) sync: Gated<libp2p_stream::Behaviour>,
    pub(super) ask: Gated<calls::Behaviour>,
    pub(super) edge: Gated<calls::Behaviour>,
    mesh_0: Slot,
    mesh_1: Slot,
    mesh_2: Slot,
    pub(super) directory: Directory,
    pub(super) reach: Reach,
}

impl Behaviour {
    /// Our verdict on the peer is yes: it may see what is for everyone admitted, and these meshes.
    pub(super) fn attach(&mut self, peer: PeerId, meshes: &[usize]) {
        self.sync.attach(peer);
        self.ask.attach(peer);
        for slot in meshes {
            if let Some(mesh) = self.slot(*slot) {
                mesh.attach(peer);
            }
        }
    }

    /// Our verdict on the peer is yes, and it is a device at the edge: it may see one protocol.
    pub(super) fn attach_device(&mut self, peer: PeerId) {
        self.edge.attach(peer);
    }

    /// Its verdict on us is yes too, and it is a device at the edge: that protocol may answer it.
    pub(super) fn open_device(&mut self, peer: PeerId) {
        self.edge.open(peer);
    }

    /// Its verdict on us is yes too: all that it may see may speak to it.
    pub(super) fn open(&mut self, peer: PeerId) {
        self.sync.open(peer);
        self.directory.open(peer);
        self.reach.open(peer);
        self.ask.open(peer);
        for slot in 0..MESHES_MAX {
            if let Some(mesh) = self.slot(slot) {
                mesh.open(peer);
            }
        }
    }

    /// Nothing that stands behind the gate is for this peer any more.
    pub(super) fn revoke(&mut self, peer: PeerId) {
        self.sync.revoke(peer);
        self.directory.revoke(peer);
        self.reach.revoke(peer);
        self.ask.revoke(peer);
        self.edge.revoke(peer);
        for slot in 0..MESHES_MAX {
            if let Some(mesh) = self.slot(slot) {
                mesh.revoke(peer);
            }
        }
    }

    /// The mesh in a slot.
    pub(super) fn mesh(&mut self, slot: usize) -> Option<&mut Gossip> {
        self.slot(slot).map(Gated::inner_mut)
    }

    fn slot(&mut self, slot: usize) -> Option<&mut Gated<Gossip>> {
        match slot {
            0 => self.mesh_0.as_mut(),
            1 => self.mesh_1.as_mut(),
            2 => self.mesh_2.as_mut(),
            _ => None,
        }
    }
}

const _: () = assert!(MESHES_MAX == 3, "one field for each mesh");

/// A swarm that listens nowhere yet, and the control of its frame streams.
///
/// # Errors
/// An OS error when mDNS cannot bind its socket, or the TLS or Noise identity cannot be made.
pub(super) fn swarm(
    keypair: &Keypair,
    settings: &NetSettings,
    scope: Scope,
) -> io::Result<(Swarm<Behaviour>, libp2p_stream::Control)> {
    let local = keypair.public().to_peer_id();
    let stream = libp2p_stream::Behaviour::new();
    let control = stream.new_control();
    let mut meshes = settings.meshes.iter().take(MESHES_MAX);
    let mut mesh = || -> io::Result<Slot> {
        let made = meshes.next().map(gossip::behaviour).transpose()?;
        Ok(made.map(Gated::new).into())
    };
    let (reach, circuits) = Reach::new(local, &settings.reach);
    let behaviour = Behaviour {
        door: Door::default(),
        limits: connection_limits::Behaviour::new(limits(settings)),
        memory: settings
            .memory_max_bytes
            .map(memory_connection_limits::Behaviour::with_max_bytes)
            .into(),
        identify: identify::Behaviour::new(
            // No cache: addresses a peer claims for itself are not dialled on its word.
            identify::Config::new("/aquifer/1".to_owned(), keypair.public())
                .with_agent_version(settings.agent_version.clone())
                .with_hide_listen_addrs(true)
                .with_cache_size(0),
        ),
        ping: ping::Behaviour::new(
            ping::Config::new()
                .with_interval(PING_EVERY)
                .with_timeout(PING_TIMEOUT),
        ),
        mdns: neighbours(settings.mdns, local)?.into(),
        admit: admit::behaviour(),
        sync: Gated::new(stream),
        ask: Gated::new(calls::behaviour()),
        edge: Gated::new(calls::edge_behaviour()),
        mesh_0: mesh()?,
        mesh_1: mesh()?,
        mesh_2: mesh()?,
        directory: Directory::new(local, settings.directory.as_ref(), scope),
        reach,
    };
    let config = swarm::Config::with_tokio_executor()
        .with_idle_connection_timeout(IDLE_CONNECTION_TIMEOUT)
        .with_max_negotiating_inbound_streams(STREAMS_MAX)
        .with_smart_dial();
    Ok((
        Swarm::new(transport(keypair, circuits)?, behaviour, local, config),
        control,
    ))
}

fn limits(settings: &NetSettings) -> ConnectionLimits {
    let most = settings.connections_max;
    ConnectionLimits::default()
        .with_max_pending_incoming(Some(PENDING_MAX))
        .with_max_pending_outgoing(Some(PENDING_MAX))
        .with_max_established(Some(most))
        // Some room is kept for connections that we make ourselves.
        .with_max_established_incoming(Some(most - most / 8))
        // And as many again for a peer that comes back while those of before it died still stand.
        .with_max_established_per_peer(Some(2 * settings.per_peer_max.max(PER_PEER_MIN)))
}

fn neighbours(wanted: bool, local: PeerId) -> io::Result<Option<mdns::tokio::Behaviour>> {
    wanted
        .then(|| mdns::tokio::Behaviour::new(mdns::Config::default(), local))
        .transpose()
}

fn transport(
    keypair: &Keypair,
    circuits: Option<relay::client::Transport>,
) -> io::Result<Boxed<(PeerId, StreamMuxerBox)>> {
    // A machine without a resolver still has addresses: names fail there, nothing else does.
    let named = match dns::tokio::Transport::system(wires(keypair)?) {
        Ok(transport) => transport,
        Err(error) => {
            tracing::warn!(%error, "no system resolver: DNS names will not resolve");
            let nobody = dns::ResolverConfig::default();
            dns::tokio::Transport::custom(wires(keypair)?, nobody, dns::ResolverOpts::default())
        }
    };
    // Unwrapped, so that the system's own error (an address in use) stays recognisable.
    let plain = |error| match error {
        dns::Error::Transport(error) => error,
        other => io::Error::other(other),
    };
    let direct = named.map_err(plain).boxed();
    let Some(circuits) = circuits else {
        return Ok(direct);
    };
    // A relay carries bytes: both ends authenticate and encrypt to each other through it.
    let relayed = circuits
        .upgrade(Version::V1Lazy)
        .authenticate(noise::Config::new(keypair).map_err(io::Error::other)?)
        .multiplex(muxer())
        .timeout(UPGRADE_TIMEOUT)
        .map_err(io::Error::other);
    // The relayed one first: it takes only addresses that name a relay.
    Ok(OrTransport::new(relayed, direct)
        .map(|either, _| match either {
            Either::Left((peer, connection)) => (peer, StreamMuxerBox::new(connection)),
            Either::Right((peer, connection)) => (peer, connection),
        })
        .map_err(|either| either.into_inner())
        .boxed())
}

fn muxer() -> yamux::Config {
    let mut muxer = yamux::Config::default();
    muxer.set_max_num_streams(STREAMS_MAX);
    muxer
}

/// QUIC, and TCP beside it.
fn wires(keypair: &Keypair) -> io::Result<Boxed<(PeerId, StreamMuxerBox)>> {
    let mut config = quic::Config::new(keypair);
    config.max_connection_data = CONNECTION_WINDOW_BYTES;
    config.max_stream_data = STREAM_WINDOW_BYTES;
    config.max_concurrent_stream_limit = STREAMS_MAX as u32;
    config.max_idle_timeout = IDLE_TIMEOUT_MS;
    config.keep_alive_interval = KEEP_ALIVE;
    let quic = quic::tokio::Transport::new(config).map_err(|error| match error {
        quic::Error::Io(error) => error,
        other => io::Error::other(other),
    });

    let tcp = tcp::tokio::Transport::new(tcp::Config::default().nodelay(true))
        .upgrade(Version::V1Lazy)
        .authenticate(noise::Config::new(keypair).map_err(io::Error::other)?)
        .multiplex(muxer())
        .timeout(UPGRADE_TIMEOUT)
        .map_err(io::Error::other);

    Ok(OrTransport::new(quic, tcp)
        .map(|either, _| match either {
            Either::Left((peer, connection)) => (peer, StreamMuxerBox::new(connection)),
            Either::Right((peer, connection)) => (peer, StreamMuxerBox::new(connection)),
        })
        .map_err(|either| either.into_inner())
        .boxed())
}

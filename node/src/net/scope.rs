//! Scope: which addresses of others are worth dialling from here.
//!
//! What a directory says may be anything, also "dial your own loopback". An address is in scope
//! only where it could be another machine's; on a loopback swarm (tests, one machine) loopback is
//! exactly where the others are. Nothing is looked up: only what the address itself says counts.

use std::net::IpAddr;

use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;

use super::{NodeKey, translate};

/// The longest address taken from a directory, bytes.
pub(super) const ADDRESS_BYTES_MAX: usize = 128;

/// Where we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// On this machine only: every address we listen on or start from is loopback.
    Loopback,
    /// On a network.
    Network,
}

impl Scope {
    /// The scope of a node that listens on and starts from `addrs`.
    pub(super) fn of<'a>(addrs: impl IntoIterator<Item = &'a Multiaddr>) -> Self {
        let mut addrs = addrs.into_iter().peekable();
        if addrs.peek().is_some()
            && addrs.all(|addr| ip_of(addr).is_some_and(|ip| ip.is_loopback()))
        {
            Self::Loopback
        } else {
            Self::Network
        }
    }

    /// Whether `addr` may be another node's, as seen from here.
    pub(super) fn allows(self, addr: &Multiaddr) -> bool {
        if addr.len() > ADDRESS_BYTES_MAX {
            return false;
        }
        match addr.iter().next() {
            Some(Protocol::Ip4(_) | Protocol::Ip6(_)) => {
                ip_of(addr).is_some_and(|ip| self.allows_ip(ip))
            }
            Some(Protocol::Dns(_) | Protocol::Dns4(_) | Protocol::Dns6(_)) => true,
            _ => false,
        }
    }

    fn allows_ip(self, ip: IpAddr) -> bool {
        let nowhere = ip.is_unspecified() || ip.is_multicast() || is_broadcast(&ip);
        !nowhere && (self == Self::Loopback || !ip.is_loopback())
    }
}

fn is_broadcast(ip: &IpAddr) -> bool {
    matches!(ip, IpAddr::V4(ip) if ip.is_broadcast())
}

/// The IP address an address begins with, an embedded IPv4 address as itself.
pub(super) fn ip_of(addr: &Multiaddr) -> Option<IpAddr> {
    match addr.iter().next()? {
        Protocol::Ip4(ip) => Some(ip.into()),
        Protocol::Ip6(ip) => Some(ip.to_canonical()),
        _ => None,
    }
}

/// Whether an address leads through a relay.
pub(super) fn is_circuit(addr: &Multiaddr) -> bool {
    addr.iter().any(|part| part == Protocol::P2pCircuit)
}

/// The relay an address leads through.
pub(super) fn relay_of(addr: &Multiaddr) -> Option<NodeKey> {
    let mut before = None;
    for part in addr {
        match part {
            Protocol::P2p(peer) => before = Some(peer),
            Protocol::P2pCircuit => return translate::key_of(&before?),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(text: &str) -> Multiaddr {
        text.parse().expect("legal")
    }

    #[test]
    fn loopback_is_in_scope_only_where_we_are_on_it_ourselves() {
        let (local, public) = (addr("/ip4/127.0.0.1/tcp/1"), addr("/ip4/192.0.2.1/tcp/1"));
        assert_eq!(Scope::Loopback, Scope::of([&local]));
        assert_eq!(Scope::Network, Scope::of([&local, &public]));
        assert_eq!(Scope::Network, Scope::of([]), "a node that listens nowhere");
        assert!(Scope::Loopback.allows(&local) && Scope::Loopback.allows(&public));
        assert!(Scope::Network.allows(&public) && !Scope::Network.allows(&local));
        assert!(
            !Scope::Network.allows(&addr("/ip6/::ffff:127.0.0.1/tcp/1")),
            "in disguise"
        );
    }

    #[test]
    fn what_is_nobodys_address_is_never_in_scope() {
        for nobody in [
            "/ip4/0.0.0.0/tcp/1",
            "/ip4/224.0.0.1/udp/1/quic-v1",
            "/ip4/255.255.255.255/udp/1/quic-v1",
            "/ip6/ff02::1/udp/1/quic-v1",
            "/unix/run",
            "/memory/7",
            "/dnsaddr/example.org",
        ] {
            assert!(!Scope::Loopback.allows(&addr(nobody)), "{nobody}");
        }
        assert!(Scope::Network.allows(&addr("/dns4/example.org/tcp/1")));
        let long = format!("/dns4/{}/tcp/1", "a".repeat(ADDRESS_BYTES_MAX));
        assert!(!Scope::Network.allows(&addr(&long)));
    }
}

//! Addresses: the multiaddrs that a device can dial, which are those of QUIC over IP or a name.

use std::fmt;
use std::net::IpAddr;

/// Where a node listens.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Address {
    /// On which machine.
    pub host: Host,
    /// At which port.
    pub port: u16,
}

/// A machine.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Host {
    /// By address.
    Ip(IpAddr),
    /// By name.
    Name(String),
}

impl Address {
    /// The address that `text` is, if this program can dial it: `/ip4/192.0.2.1/udp/27471/quic-v1`, or
    /// with `ip6`, `dns`, `dns4` or `dns6`, and perhaps with `/p2p/…` behind it.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.strip_prefix('/')?.split('/');
        let (kind, host) = (parts.next()?, parts.next()?);
        let host = match kind {
            "ip4" => Host::Ip(IpAddr::V4(host.parse().ok()?)),
            "ip6" => Host::Ip(IpAddr::V6(host.parse().ok()?)),
            "dns" | "dns4" | "dns6" => Host::Name(host.to_owned()),
            _ => return None,
        };
        let (transport, port, quic) = (parts.next()?, parts.next()?, parts.next()?);
        let rest: Vec<&str> = parts.collect();
        let direct = matches!(rest[..], [] | ["p2p", _]);
        let fits = transport == "udp" && quic == "quic-v1" && direct;
        let port = port.parse().ok().filter(|port| *port != 0)?;
        fits.then_some(Self { host, port })
    }

    /// Whether it leads to this machine itself.
    pub fn is_loopback(&self) -> bool {
        matches!(self.host, Host::Ip(ip) if ip.is_loopback())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]:{}", self.port),
            Host::Ip(ip) => write!(f, "{ip}:{}", self.port),
            Host::Name(name) => write!(f, "{name}:{}", self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_quic_are_read_and_others_are_not() {
        for (text, shown) in [
            ("/ip4/192.0.2.1/udp/27471/quic-v1", "192.0.2.1:27471"),
            ("/ip6/::1/udp/1/quic-v1/p2p/12D3Koo", "[::1]:1"),
            ("/dns4/gate.example/udp/443/quic-v1", "gate.example:443"),
        ] {
            assert_eq!(shown, Address::parse(text).expect(text).to_string());
        }
        for text in [
            "",
            "/ip4/192.0.2.1/tcp/27471",
            "/ip4/192.0.2.1/udp/0/quic-v1",
            "/ip4/192.0.2.1/udp/70000/quic-v1",
            "/ip4/192.0.2.1/udp/1/quic-v1/p2p/a/p2p-circuit/p2p/b",
            "/ip4/gate/udp/1/quic-v1",
            "ip4/192.0.2.1/udp/1/quic-v1",
        ] {
            assert_eq!(None, Address::parse(text), "{text}");
        }
        let own = Address::parse("/ip4/127.0.0.1/udp/1/quic-v1");
        assert!(own.expect("legal").is_loopback());
    }
}

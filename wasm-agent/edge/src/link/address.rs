//! Addresses: the multiaddrs that a device can dial, which are those of QUIC over IP.
//!
//! Not here: names. A static binary has no resolver that could be relied on, and a ticket names addresses.

use std::net::{IpAddr, SocketAddr};

/// The address that `text` is, if this program can dial it: `/ip4/192.0.2.1/udp/27471/quic-v1`, or with
/// `ip6`, and perhaps with `/p2p/…` behind it.
pub fn parse(text: &str) -> Option<SocketAddr> {
    let mut parts = text.strip_prefix('/')?.split('/');
    let (kind, host) = (parts.next()?, parts.next()?);
    let host = match kind {
        "ip4" => IpAddr::V4(host.parse().ok()?),
        "ip6" => IpAddr::V6(host.parse().ok()?),
        _ => return None,
    };
    let (transport, port, quic) = (parts.next()?, parts.next()?, parts.next()?);
    let rest: Vec<&str> = parts.collect();
    let direct = matches!(rest[..], [] | ["p2p", _]);
    let port = port.parse().ok().filter(|port| *port != 0)?;
    (transport == "udp" && quic == "quic-v1" && direct).then(|| (host, port).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_quic_are_read_and_others_are_not() {
        for (text, shown) in [
            ("/ip4/192.0.2.1/udp/27471/quic-v1", "192.0.2.1:27471"),
            ("/ip6/::1/udp/1/quic-v1/p2p/12D3Koo", "[::1]:1"),
        ] {
            assert_eq!(shown, parse(text).expect(text).to_string());
        }
        for text in [
            "",
            "/ip4/192.0.2.1/tcp/27471",
            "/ip4/192.0.2.1/udp/0/quic-v1",
            "/ip4/192.0.2.1/udp/70000/quic-v1",
            "/ip4/192.0.2.1/udp/1/quic-v1/p2p/a/p2p-circuit/p2p/b",
            "/ip4/gate/udp/1/quic-v1",
            "/dns4/gate.example/udp/443/quic-v1",
            "ip4/192.0.2.1/udp/1/quic-v1",
        ] {
            assert_eq!(None, parse(text), "{text}");
        }
    }
}

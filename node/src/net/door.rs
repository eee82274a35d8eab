//! How fast one address may knock by TCP.
//!
//! A handshake costs us signatures, and before its end everyone is nobody: a stranger who opens
//! connections without end, or names protocols without end on each, makes members wait. So one source (an IPv4 address, or an IPv6 network of 64 bits, which is what
//! one customer is given) may open a burst, and then so many a second; what is more is closed before
//! a byte of it is read. Honest nodes behind one address fit into the burst, and try again.
//!
//! Only TCP: there the address is proved before the connection shows. The first datagram of QUIC may
//! bear a stranger's address, so a door for it would be a way to lock others out.
//!
//! Not here: how many connections may stand (`behaviour`), who is let in to what (`admission`).

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::IpAddr;
use std::task::{Context, Poll};
use std::time::Duration;

use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent,
    THandlerOutEvent, ToSwarm, dummy,
};
use libp2p::{Multiaddr, PeerId};
use tokio::time::Instant;

use super::bucket::{Bucket, Rate};

/// A hundred machines behind one address come back at once; an attack is held to sixteen a second.
const KNOCKS: Rate = Rate {
    apart: Duration::from_micros(62_500),
    burst: 128,
};

/// Sources that are told apart. A source is forgotten after eight seconds of silence at most, so only
/// a crowd of as many attackers fills this; then all newcomers are one.
const SOURCES_MAX: usize = 4_096;

/// Refuses who knocks too fast.
#[derive(Default)]
pub(super) struct Door {
    sources: HashMap<u64, Bucket>,
    rest: Bucket,
}

/// One source opened more connections than it may.
#[derive(Debug, thiserror::Error)]
#[error("knocks too fast: {ip} opened more than {} connections at once, and then {} a second",
    KNOCKS.burst, Duration::from_secs(1).as_micros() / KNOCKS.apart.as_micros())]
pub(super) struct TooFast {
    ip: IpAddr,
}

impl Door {
    fn knock(&mut self, ip: IpAddr, now: Instant) -> Result<(), TooFast> {
        let source = source(ip);
        if !self.sources.contains_key(&source) && self.sources.len() >= SOURCES_MAX {
            self.sources.retain(|_, bucket| !bucket.is_idle(now));
        }
        let has_room = self.sources.len() < SOURCES_MAX;
        let bucket = match self.sources.entry(source) {
            std::collections::hash_map::Entry::Occupied(known) => known.into_mut(),
            std::collections::hash_map::Entry::Vacant(new) if has_room => {
                new.insert(Bucket::default())
            }
            std::collections::hash_map::Entry::Vacant(_) => &mut self.rest,
        };
        if bucket.due(KNOCKS, now).is_some() {
            return Err(TooFast { ip });
        }
        bucket.take(KNOCKS, now);
        Ok(())
    }
}

/// What is one source: an address of IPv4, or a network of IPv6.
fn source(ip: IpAddr) -> u64 {
    match ip.to_canonical() {
        // In the place of ::/64, which is nobody's.
        IpAddr::V4(ip) => u64::from(ip.to_bits()),
        IpAddr::V6(ip) => (ip.to_bits() >> 64) as u64,
    }
}

/// The address at the other end of a TCP connection that leads here directly.
fn tcp_source(remote: &Multiaddr) -> Option<IpAddr> {
    let mut parts = remote.iter();
    let ip = match parts.next()? {
        Protocol::Ip4(ip) => ip.into(),
        Protocol::Ip6(ip) => ip.into(),
        _ => return None,
    };
    matches!(parts.next(), Some(Protocol::Tcp(_))).then_some(ip)
}

impl NetworkBehaviour for Door {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = Infallible;

    fn handle_pending_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        match tcp_source(remote) {
            Some(ip) => self
                .knock(ip, Instant::now())
                .map_err(ConnectionDenied::new),
            None => Ok(()),
        }
    }

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(dummy::ConnectionHandler)
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(dummy::ConnectionHandler)
    }

    fn on_swarm_event(&mut self, _: FromSwarm<'_>) {}

    fn on_connection_handler_event(
        &mut self,
        _: PeerId,
        _: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn one_source_is_held_to_its_rate_and_others_are_not() {
        let (mut door, start) = (Door::default(), Instant::now());
        let enemy = ip("203.0.113.7");
        let let_in = |door: &mut Door, now| {
            (0..1_000)
                .filter(|_| door.knock(enemy, now).is_ok())
                .count()
        };
        assert_eq!(128, let_in(&mut door, start));
        assert_eq!(16, let_in(&mut door, start + Duration::from_secs(1)));
        let why = door.knock(enemy, start).expect_err("too fast").to_string();
        assert_eq!(
            "knocks too fast: 203.0.113.7 opened more than 128 connections at once, and then 16 a second",
            why
        );
        assert!(door.knock(ip("203.0.113.8"), start).is_ok());
        assert!(door.knock(ip("2001:db8::7"), start).is_ok());
    }

    #[test]
    fn a_network_of_ipv6_is_one_source_and_a_mapped_address_is_what_it_maps() {
        assert_eq!(
            source(ip("2001:db8:0:7::1")),
            source(ip("2001:db8:0:7:ffff::2"))
        );
        assert_ne!(source(ip("2001:db8:0:7::1")), source(ip("2001:db8:0:8::1")));
        assert_eq!(source(ip("::ffff:192.0.2.1")), source(ip("192.0.2.1")));
    }

    #[test]
    fn a_crowd_of_sources_is_told_apart_only_so_far_and_forgotten_in_time() {
        let (mut door, start) = (Door::default(), Instant::now());
        for number in 0..SOURCES_MAX as u32 {
            assert!(door.knock(IpAddr::V4(number.into()), start).is_ok());
        }
        let newcomers = (0..1_000_u32).filter(|number| {
            door.knock(IpAddr::V4((1 << 24 | number).into()), start)
                .is_ok()
        });
        assert_eq!(128, newcomers.count(), "they are one");
        assert_eq!(SOURCES_MAX, door.sources.len());
        let later = start + KNOCKS.apart * 2;
        assert!(door.knock(ip("203.0.113.7"), later).is_ok());
        assert_eq!(1, door.sources.len(), "silent ones made room");
    }

    #[test]
    fn only_who_proved_an_address_is_held_to_it() {
        let source = |text: &str| tcp_source(&text.parse().expect("legal"));
        assert_eq!(Some(ip("192.0.2.1")), source("/ip4/192.0.2.1/tcp/9"));
        assert_eq!(Some(ip("2001:db8::1")), source("/ip6/2001:db8::1/tcp/9"));
        assert_eq!(None, source("/ip4/192.0.2.1/udp/9/quic-v1"));
        let peer = PeerId::random();
        assert_eq!(None, source(&format!("/p2p/{peer}")), "by way of a relay");
    }
}

//! Binding the listen addresses, and saying plainly what stands in the way.
//!
//! Done once, before the loop runs, so that a node either listens where it was told or does not
//! start. Some refusals come at once from the bind, others later as events of the listener; both
//! become a `StartNet` that names the address.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, TcpListener};
use std::time::Duration;

use libp2p::core::transport::ListenerId;
use libp2p::futures::StreamExt;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::SwarmEvent;
use libp2p::{Multiaddr, TransportError};
use tokio::time::sleep;

use super::Task;
use crate::net::StartNet;
use crate::net::behaviour::BehaviourEvent;

/// How long a listener may take to report its first address. One on a wildcard may have none.
const LISTEN_WAIT: Duration = Duration::from_secs(3);

impl Task {
    /// Our dialable addresses.
    pub(in crate::net) fn listening(&self) -> &[String] {
        &self.listen
    }

    /// Binds every address and waits until each has reported where it really listens.
    pub(in crate::net) async fn listen(&mut self, addrs: &[Multiaddr]) -> Result<(), StartNet> {
        let mut silent = HashMap::new();
        for addr in addrs {
            probe_tcp(addr).map_err(|error| refused(addr, error))?;
            let id = self
                .swarm
                .listen_on(addr.clone())
                .map_err(|error| match error {
                    TransportError::MultiaddrNotSupported(_) => StartNet::MalformedAddr {
                        addr: addr.to_string(),
                    },
                    TransportError::Other(error) => refused(addr, error),
                })?;
            silent.insert(id, addr.clone());
        }
        let deadline = sleep(LISTEN_WAIT);
        tokio::pin!(deadline);
        while !silent.is_empty() {
            let event = tokio::select! {
                () = &mut deadline => return Ok(()),
                event = self.swarm.select_next_some() => event,
            };
            if let Some(event) = heard_listener(event, &mut silent)? {
                self.observe(event);
            }
        }
        Ok(())
    }
}

/// libp2p binds TCP with SO_REUSEPORT, which lets two processes of one user share a port and lose
/// each other's connections. A plain bind finds the other one.
fn probe_tcp(addr: &Multiaddr) -> io::Result<()> {
    let mut parts = addr.iter();
    let ip: IpAddr = match parts.next() {
        Some(Protocol::Ip4(ip)) => ip.into(),
        Some(Protocol::Ip6(ip)) => ip.into(),
        _ => return Ok(()),
    };
    match parts.next() {
        Some(Protocol::Tcp(port)) if port != 0 => TcpListener::bind((ip, port)).map(drop),
        _ => Ok(()),
    }
}

/// Crosses off a listener that reported; an event that is not about starting is handed back.
fn heard_listener(
    event: SwarmEvent<BehaviourEvent>,
    silent: &mut HashMap<ListenerId, Multiaddr>,
) -> Result<Option<SwarmEvent<BehaviourEvent>>, StartNet> {
    match event {
        SwarmEvent::NewListenAddr { listener_id, .. } => {
            silent.remove(&listener_id);
            Ok(Some(event))
        }
        SwarmEvent::ListenerClosed {
            listener_id,
            reason: Err(error),
            ..
        }
        | SwarmEvent::ListenerError { listener_id, error } => match silent.get(&listener_id) {
            Some(addr) => Err(refused(addr, error)),
            None => Ok(None),
        },
        other => Ok(Some(other)),
    }
}

fn refused(addr: &Multiaddr, error: io::Error) -> StartNet {
    let addr = addr.to_string();
    match says_in_use(&error) {
        true => StartNet::AddressInUse { addr },
        false => StartNet::Listen {
            addr,
            source: error,
        },
    }
}

/// Transports wrap the system's error, some in layers that `source` skips.
fn says_in_use(error: &(dyn std::error::Error + 'static)) -> bool {
    if let Some(error) = error.downcast_ref::<io::Error>() {
        if error.kind() == io::ErrorKind::AddrInUse {
            return true;
        }
        if let Some(inner) = error.get_ref() {
            return says_in_use(inner);
        }
    }
    error.source().is_some_and(says_in_use)
}

//! One connection of a peer: where it leads, how long it has stood, and whether it still lives.

use std::time::Duration;

use libp2p::core::ConnectedPoint;
use libp2p::swarm::ConnectionId;
use tokio::time::Instant;

/// A direct connection that has lasted this long makes a relayed one, and a second one that we made
/// later, superfluous; the second stays as long again, for what it was made for.
pub(super) const SETTLED: Duration = Duration::from_secs(5);

/// Two nodes that dial each other at once have both connections within this time.
const DIALS_MEET: Duration = Duration::from_secs(3);

/// A living connection has answered a ping by then: they go out every 5 s.
const OUTLIVED_AFTER: Duration = Duration::from_secs(6);

/// One connection of a peer.
pub(super) struct Link {
    pub(super) id: ConnectionId,
    pub(super) end: End,
    pub(super) surplus: bool,
    pub(super) since: Instant,
    pub(super) attached: bool,
    /// When it last answered a ping, or began.
    pub(super) answered: Instant,
    pub(super) pings_missed: u32,
}

/// The far end of a connection.
pub(in crate::net) struct End {
    pub(super) addr: String,
    pub(super) inbound: bool,
    pub(super) relayed: bool,
}

impl End {
    /// The far end of `point`.
    pub(in crate::net) fn of(point: &ConnectedPoint) -> Self {
        // Of a relayed connection that others made, only our own side names the relay.
        let addr = match point {
            ConnectedPoint::Listener { local_addr, .. } if point.is_relayed() => local_addr,
            _ => point.get_remote_address(),
        };
        Self {
            addr: addr.to_string(),
            inbound: point.is_listener(),
            relayed: point.is_relayed(),
        }
    }
}

impl Link {
    /// Admitted and direct, for long enough that a later one is not its twin.
    pub(super) fn is_settled(&self, now: Instant) -> bool {
        self.attached && !self.end.relayed && now.duration_since(self.since) >= SETTLED
    }
}

/// Connections that a newer one shows to be dead: the peer came in again, later than two dials can
/// meet, and the old one has answered no ping since. So a node that comes back from a crash is not
/// held up by what died with it; one that dials back to prove an address loses nothing.
pub(super) fn outlived(links: &[Link], now: Instant) -> Vec<ConnectionId> {
    let inbound = links.iter().filter(|link| link.end.inbound);
    let Some(newest) = inbound.map(|link| link.since).max() else {
        return Vec::new();
    };
    if now.duration_since(newest) <= OUTLIVED_AFTER {
        return Vec::new();
    }
    let is_dead =
        |link: &&Link| newest.duration_since(link.since) > DIALS_MEET && link.answered < newest;
    links.iter().filter(is_dead).map(|link| link.id).collect()
}

//! Who is connected, and who of them is admitted.
//!
//! One entry per connected peer: its connections, the two verdicts (ours on it, its on us), and,
//! once both are yes, the session through which frames flow. A session begins with the first
//! connection admitted on both sides and ends with the last, so two nodes that dial each other at
//! once are up once. Strangers are on a short lead: fifteen seconds, eight requests, and the oldest
//! makes room when too many wait. Verdicts themselves come from the node; libp2p is told by `task`.

#[cfg(test)]
mod tests;

mod link;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use libp2p::swarm::ConnectionId;
use libp2p::{Multiaddr, PeerId, Stream};
use tokio::time::Instant;

use super::streams::{Meter, Reader, Streams, Writer};
use super::{NodeKey, PeerLine};
pub(super) use link::End;
use link::Link;

/// A connection that is not admitted by then is closed.
pub(super) const GRACE: Duration = Duration::from_secs(15);

/// How long a connection stands that we made and have no lasting use for.
const UNSOUGHT_KEPT: Duration = Duration::from_secs(10);

/// Admission requests a peer may make before it is admitted.
pub(super) const STRANGER_REQUESTS_MAX: u32 = 8;

/// Admission requests an admitted peer may make in one `REQUESTS_WINDOW`.
const MEMBER_REQUESTS_MAX: u32 = 64;
const REQUESTS_WINDOW: Duration = Duration::from_secs(60);

/// Times a hello is sent again after a failure, until the next connection or the next `SetHello`.
const HELLO_RETRIES_MAX: u32 = 3;

/// Pings in a row that may fail before the connection is taken for dead.
const PINGS_MISSED_MAX: u32 = 2;

/// All connected peers.
#[derive(Default)]
pub(super) struct Peers {
    map: HashMap<PeerId, Peer>,
    sessions: u64,
}

/// One connected peer.
pub(super) struct Peer {
    /// Its name in our own terms.
    pub(super) key: NodeKey,
    links: Vec<Link>,
    /// Our verdict on it.
    ours: bool,
    /// Its verdict on us.
    theirs: bool,
    /// It was expelled: nothing it says counts until it has reconnected.
    expelled: bool,
    /// A hello is owed to it.
    pub(super) hello_due: bool,
    hello_retries: u32,
    requests: u32,
    window: Instant,
    session: Option<Session>,
    parked: Option<Stream>,
    meter: Arc<Meter>,
    rtt: Option<Duration>,
    rtt_told: Option<Duration>,
    domains: Vec<String>,
    seed: bool,
    device: bool,
}

/// Frames flow between us and the peer.
struct Session {
    id: u64,
    writer: Writer,
    reader: Option<Reader>,
}

/// What became of a closed connection's peer.
pub(super) enum Left {
    /// Others remain, or nobody had been told of it.
    Quietly,
    /// Its session ended with this connection.
    Down(NodeKey),
}

impl Peers {
    /// A connection stands.
    pub(super) fn join(
        &mut self,
        peer: PeerId,
        key: NodeKey,
        id: ConnectionId,
        end: End,
        now: Instant,
    ) {
        let entry = self.map.entry(peer).or_insert_with(|| Peer::new(key, now));
        entry.hello_due = true;
        entry.hello_retries = 0;
        // A dial back, mostly: whoever made it closes it.
        let surplus =
            !end.inbound && !end.relayed && entry.links.iter().any(|link| link.is_settled(now));
        entry.links.push(Link {
            id,
            end,
            surplus,
            since: now,
            attached: false,
            answered: now,
            pings_missed: 0,
        });
    }

    /// Connections that newer ones of the same peer show to be dead.
    pub(super) fn outlived(&self, now: Instant) -> Vec<ConnectionId> {
        let of_one = |peer: &Peer| link::outlived(&peer.links, now);
        self.map.values().flat_map(of_one).collect()
    }

    /// A connection is gone.
    pub(super) fn leave(&mut self, peer: &PeerId, id: ConnectionId) -> Left {
        let Some(entry) = self.map.get_mut(peer) else {
            return Left::Quietly;
        };
        entry.links.retain(|link| link.id != id);
        let ended = !entry.links.iter().any(|link| link.attached) && entry.session.take().is_some();
        let key = entry.key;
        if entry.links.is_empty() {
            self.map.remove(peer);
        }
        if ended {
            Left::Down(key)
        } else {
            Left::Quietly
        }
    }

    /// A connected peer.
    pub(super) fn get(&self, peer: &PeerId) -> Option<&Peer> {
        self.map.get(peer)
    }

    /// A connected peer, to change.
    pub(super) fn get_mut(&mut self, peer: &PeerId) -> Option<&mut Peer> {
        self.map.get_mut(peer)
    }

    /// The queues towards peers that are up and lie inside `region`.
    pub(super) fn writers_in(&self, region: &str) -> impl Iterator<Item = &Writer> {
        let inside = move |peer: &&Peer| peer.domains.iter().any(|domain| domain == region);
        self.map.values().filter(inside).filter_map(Peer::writer)
    }

    /// Every connected peer.
    pub(super) fn ids(&self) -> Vec<PeerId> {
        self.map.keys().copied().collect()
    }

    /// Every connected peer.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&PeerId, &Peer)> {
        self.map.iter()
    }

    /// Connections that a settled direct one has made superfluous.
    pub(super) fn spare(&self, now: Instant) -> Vec<ConnectionId> {
        let settled = |peer: &&Peer| peer.links.iter().any(|link| link.is_settled(now));
        let spare = |link: &&Link| {
            let old = now.duration_since(link.since) >= link::SETTLED;
            link.end.relayed || (link.surplus && old)
        };
        let peers = self.map.values().filter(settled);
        peers
            .flat_map(|peer| peer.links.iter().filter(spare).map(|link| link.id))
            .collect()
    }

    /// Connections that we made, to peers that we do not seek: for a lookup or a question, or when they
    /// were still sought. Who made a connection ends it; who seeks us makes another.
    pub(super) fn unsought(
        &self,
        now: Instant,
        seeks: impl Fn(&PeerId) -> bool,
    ) -> Vec<ConnectionId> {
        let peers = self.map.iter().filter(|(id, _)| !seeks(id));
        let links = peers.flat_map(|(_, peer)| &peer.links);
        links
            .filter(|link| !link.end.inbound && now.duration_since(link.since) >= UNSOUGHT_KEPT)
            .map(|link| link.id)
            .collect()
    }

    /// Every connected peer, to change.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (&PeerId, &mut Peer)> {
        self.map.iter_mut()
    }

    /// Begins the session of a peer that both verdicts now admit; the address it came up at, if it
    /// was not up before.
    pub(super) fn settle(&mut self, peer: PeerId, streams: &Streams) -> Option<(NodeKey, String)> {
        let entry = self.map.get_mut(&peer)?;
        if !(entry.ours && entry.theirs) || entry.session.is_some() || entry.expelled {
            return None;
        }
        let addr = entry
            .links
            .iter()
            .find(|link| link.attached)?
            .end
            .addr
            .clone();
        self.sessions += 1;
        let id = self.sessions;
        let writer = streams.writer(peer, entry.meter.clone());
        let reader = entry
            .parked
            .take()
            .map(|stream| streams.reader(peer, id, stream, entry.meter.clone()));
        entry.session = Some(Session { id, writer, reader });
        Some((entry.key, addr))
    }

    /// A peer opened a stream of frames: read it, or hold it until the session begins. A newer
    /// stream replaces an older one, whose end the sender has given up.
    pub(super) fn opened(&mut self, peer: PeerId, stream: Stream, streams: &Streams) {
        let Some(entry) = self.map.get_mut(&peer) else {
            return;
        };
        match &mut entry.session {
            Some(session) => {
                let reader = streams.reader(peer, session.id, stream, entry.meter.clone());
                session.reader = Some(reader);
            }
            None => entry.parked = Some(stream),
        }
    }

    /// Connections not admitted within the grace, with their peer.
    pub(super) fn overdue(&self, now: Instant) -> Vec<(PeerId, ConnectionId)> {
        self.strangers()
            .filter(|(_, _, link)| now.duration_since(link.since) >= GRACE)
            .map(|(peer, _, link)| (*peer, link.id))
            .collect()
    }

    /// Connections not admitted, and the one of them that others made longest ago.
    pub(super) fn waiting(&self) -> (usize, Option<ConnectionId>) {
        let oldest = self
            .strangers()
            .filter(|(_, _, link)| link.end.inbound)
            .min_by_key(|(_, _, link)| link.since)
            .map(|(_, _, link)| link.id);
        (self.strangers().count(), oldest)
    }

    fn strangers(&self) -> impl Iterator<Item = (&PeerId, &Peer, &Link)> {
        self.map.iter().flat_map(|(id, peer)| {
            peer.links
                .iter()
                .filter(|link| !peer.admits(link))
                .map(move |link| (id, peer, link))
        })
    }

    /// One line per connected peer, by key.
    pub(super) fn lines(&self) -> Vec<PeerLine> {
        let mut lines: Vec<PeerLine> = self.map.values().filter_map(Peer::line).collect();
        lines.sort_by_key(|line| line.key);
        lines
    }
}

impl Peer {
    fn new(key: NodeKey, now: Instant) -> Self {
        Self {
            key,
            links: Vec::new(),
            ours: false,
            theirs: false,
            expelled: false,
            hello_due: true,
            hello_retries: 0,
            requests: 0,
            window: now,
            session: None,
            parked: None,
            meter: Arc::default(),
            rtt: None,
            rtt_told: None,
            domains: Vec::new(),
            seed: false,
            device: false,
        }
    }

    fn admits(&self, link: &Link) -> bool {
        self.ours && self.theirs && link.attached
    }

    /// Whether the session runs.
    pub(super) fn is_up(&self) -> bool {
        self.session.is_some()
    }

    /// The number of the running session.
    pub(super) fn session(&self) -> Option<u64> {
        self.session.as_ref().map(|session| session.id)
    }

    /// The queue towards the peer, while the session runs.
    pub(super) fn writer(&self) -> Option<&Writer> {
        self.session.as_ref().map(|session| &session.writer)
    }

    /// Our verdict is yes, for every connection it has now, and this is what it is inside of.
    pub(super) fn admit(&mut self, domains: Vec<String>, seed: bool) {
        self.ours = true;
        self.domains = domains;
        self.seed = seed;
        self.device = false;
        for link in &mut self.links {
            link.attached = true;
        }
    }

    /// Our verdict is yes, and it is a device at the edge: no session begins with it.
    pub(super) fn admit_device(&mut self) {
        self.admit(Vec::new(), false);
        self.device = true;
    }

    /// The regions that it and we lie in, by our last yes.
    pub(super) fn domains(&self) -> &[String] {
        &self.domains
    }

    /// Whether it is a seed, by our last yes.
    pub(super) fn is_seed(&self) -> bool {
        self.seed
    }

    /// Whether an admitted connection leads to it without a relay.
    pub(super) fn is_direct(&self) -> bool {
        self.links
            .iter()
            .any(|link| self.admits(link) && !link.end.relayed)
    }

    /// The last measured round trip.
    pub(super) fn rtt(&self) -> Option<Duration> {
        self.rtt
    }

    /// Its verdict on us is yes.
    pub(super) fn admitted_us(&mut self) {
        self.theirs = true;
    }

    /// Where we reached it, on connections that we made.
    pub(super) fn dialled(&self) -> impl Iterator<Item = Multiaddr> {
        let ours = self.links.iter().filter(|link| !link.end.inbound);
        ours.filter_map(|link| link.end.addr.parse().ok())
    }

    /// Whether both verdicts are yes, between two nodes: a device at the edge is no peer.
    pub(super) fn is_mutual(&self) -> bool {
        self.ours && self.theirs && !self.device
    }

    /// Whether both verdicts are yes, and it is a device at the edge.
    pub(super) fn is_device_let_in(&self) -> bool {
        self.ours && self.theirs && self.device
    }

    /// Ends the session and takes back our verdict. True if it was up.
    pub(super) fn expel(&mut self) -> bool {
        self.ours = false;
        self.expelled = true;
        self.parked = None;
        self.session.take().is_some()
    }

    /// Counts one more request; false if the peer has used up its allowance.
    pub(super) fn may_ask(&mut self, now: Instant) -> bool {
        let known = self.is_up() || self.is_device_let_in();
        if known && now.duration_since(self.window) >= REQUESTS_WINDOW {
            self.window = now;
            self.requests = 0;
        }
        self.requests = self.requests.saturating_add(1);
        let most = if known {
            MEMBER_REQUESTS_MAX
        } else {
            STRANGER_REQUESTS_MAX
        };
        !self.expelled && self.requests <= most
    }

    /// A hello failed on `id`. If the peer has another connection, that one is probably dead, as
    /// after a crash: true asks to close it. The hello is owed again, a few times.
    pub(super) fn hello_failed(&mut self, id: ConnectionId) -> bool {
        if self.hello_retries < HELLO_RETRIES_MAX {
            self.hello_retries += 1;
            self.hello_due = true;
        }
        self.links.len() > 1 && self.links.iter().any(|link| link.id == id)
    }

    /// A ping came back, or not: true asks to close the connection.
    pub(super) fn pinged(&mut self, id: ConnectionId, rtt: Option<Duration>) -> bool {
        let Some(link) = self.links.iter_mut().find(|link| link.id == id) else {
            return false;
        };
        match rtt {
            Some(rtt) => {
                // Smoothed as TCP does (RFC 6298): an eighth of each new measurement.
                self.rtt = Some(self.rtt.map_or(rtt, |old| old - old / 8 + rtt / 8));
                link.pings_missed = 0;
                link.answered = Instant::now();
            }
            None => link.pings_missed += 1,
        }
        link.pings_missed >= PINGS_MISSED_MAX
    }

    /// The smoothed round trip of a peer that is up, if it is news: first known, or a fifth off what
    /// was last told.
    pub(super) fn rtt_news(&mut self) -> Option<Duration> {
        let rtt = self.rtt.filter(|_| self.is_up())?;
        let near = |told: Duration| rtt.abs_diff(told) <= told / 5;
        if self.rtt_told.is_some_and(near) {
            return None;
        }
        self.rtt_told = Some(rtt);
        self.rtt_told
    }

    /// Why a connection was not admitted in time.
    pub(super) fn why_not(&self) -> &'static str {
        match (self.ours, self.theirs) {
            (false, false) => "neither side admitted the other in time",
            (false, true) => "we did not admit it in time",
            (true, false) => "it did not admit us in time",
            (true, true) => "a second connection was not admitted in time",
        }
    }

    fn line(&self) -> Option<PeerLine> {
        let link = self
            .links
            .iter()
            .filter(|link| self.admits(link))
            .min_by_key(|link| link.end.relayed)
            .or_else(|| self.links.first())?;
        Some(PeerLine {
            key: self.key,
            addr: link.end.addr.clone(),
            rtt_ms: self.rtt.map(|rtt| rtt.as_secs_f64() * 1000.0),
            inbound: link.end.inbound,
            relayed: link.end.relayed,
            admitted: self.is_up(),
            domains: self.domains().to_vec(),
            queued: self.writer().map_or(0, Writer::queued),
            dropped: self.meter.dropped.load(Ordering::Relaxed),
            bytes_in: self.meter.bytes_in.load(Ordering::Relaxed),
            bytes_out: self.meter.bytes_out.load(Ordering::Relaxed),
        })
    }
}

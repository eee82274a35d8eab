//! Neighbours: the other devices on this link, by their beats, and what they know of each other.
//!
//! A neighbour is one for a minute after its last beat. Heads spread from beat to beat, so each device knows
//! how far every agent near it has come, though no gateway is there; and whose beat says that it has a
//! gateway, the same as one's own, is asked to carry.
//!
//! Not here: the bytes of a beat (`beat`), handing over (`carry`).

use crate::beat::{BEAT_BYTES_MAX, Beat, HEADS_MAX, Head};
use crate::problem::Problem;
use aquifer_protocol::{HiveId, Member, NodeId, Region};
use socket2::{Domain, Protocol, Socket, Type};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use tokio::net::UdpSocket;

/// How often a device beats, in milliseconds.
pub const BEAT_EVERY_MS: u64 = 5_000;
/// Whoever has not been heard for so long is no neighbour any more, in milliseconds.
pub const SILENT_MS: u64 = 60_000;
/// The most neighbours, and the most heads, that are remembered.
pub const NEIGHBOURS_MAX: usize = 64;
/// A gateway that replied so long ago is near, in seconds.
const NEAR_S: u32 = 120;

/// Where beats are said.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    /// A group of IP multicast, or an address of broadcast, and a port.
    pub to: SocketAddrV4,
    /// The address of the interface; unspecified lets the system choose.
    pub on: Ipv4Addr,
}

impl Place {
    /// Where devices meet if nothing else is said: a group that does not leave a site.
    pub const USUAL: Self = Self {
        to: SocketAddrV4::new(Ipv4Addr::new(239, 255, 71, 71), 27_472),
        on: Ipv4Addr::UNSPECIFIED,
    };

    /// Reads `239.255.71.71:27472`, or with `@` and the address of an interface.
    ///
    /// # Errors
    /// `bad_beat`.
    pub fn parse(text: &str) -> Result<Self, Problem> {
        let (to, on) = match text.split_once('@') {
            Some((to, on)) => (to.parse().ok(), on.parse().ok()),
            None => (text.parse().ok(), Some(Ipv4Addr::UNSPECIFIED)),
        };
        to.zip(on).map(|(to, on)| Self { to, on }).ok_or_else(|| {
            let message = format!("`{text}` is no place for beats");
            let hint = "for example: --beat 239.255.71.71:27472@192.0.2.7, or --no-beat";
            Problem::new("bad_beat", 2, message, hint)
        })
    }

    /// A socket that hears and says beats there. Several devices of one machine may have one each.
    ///
    /// # Errors
    /// `no_beat`.
    pub fn socket(&self) -> Result<UdpSocket, Problem> {
        let open = || -> std::io::Result<UdpSocket> {
            let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
            socket.set_reuse_address(true)?;
            socket.set_nonblocking(true)?;
            match self.to.ip().is_multicast() {
                true => {
                    socket.bind(&self.to.into())?;
                    socket.join_multicast_v4(self.to.ip(), &self.on)?;
                    socket.set_multicast_if_v4(&self.on)?;
                    socket.set_multicast_ttl_v4(1)?;
                    socket.set_multicast_loop_v4(true)?;
                }
                false => {
                    socket.set_broadcast(true)?;
                    socket
                        .bind(&SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, self.to.port()).into())?;
                }
            }
            UdpSocket::from_std(socket.into())
        };
        open().map_err(|why| {
            let message = format!("no beats at {}: {why}", self.to);
            let hint = "give the address of an interface: --beat GROUP:PORT@ADDRESS, or --no-beat";
            Problem::new("no_beat", 1, message, hint)
        })
    }
}

/// The others on this link.
pub struct Neighbours {
    hive: HiveId,
    me: NodeId,
    all: BTreeMap<NodeId, Neighbour>,
    /// How far agents have come, and when that was heard.
    heads: BTreeMap<[u8; 32], (u32, u64)>,
}

/// Another device.
#[derive(Clone, Debug)]
pub struct Neighbour {
    /// Where its beats come from.
    pub addr: SocketAddr,
    /// The last.
    pub beat: Beat,
    /// When that was heard, in milliseconds since 1970.
    pub heard: u64,
    /// Where it is certified to be.
    pub region: Region,
}

impl Neighbours {
    /// Nobody yet.
    pub fn new(hive: HiveId, me: NodeId) -> Self {
        Self {
            hive,
            me,
            all: BTreeMap::new(),
            heads: BTreeMap::new(),
        }
    }

    /// A datagram came. True if it is news of a neighbour that was none.
    pub fn hear(&mut self, bytes: &[u8], from: SocketAddr, now: u64) -> bool {
        match Beat::open(bytes, &self.hive) {
            Some((beat, member)) if beat.device != self.me => self.note(beat, &member, from, now),
            _ => false,
        }
    }

    fn note(&mut self, beat: Beat, member: &Member, addr: SocketAddr, now: u64) -> bool {
        self.forget(now);
        let known = self.all.get(&beat.device);
        // An old beat, said again by somebody else.
        if known.is_some_and(|known| known.beat.at >= beat.at) {
            return false;
        }
        let is_new = known.is_none();
        if is_new && self.all.len() >= NEIGHBOURS_MAX {
            return false;
        }
        for head in &beat.heads {
            let room = self.heads.len() < NEIGHBOURS_MAX;
            match self.heads.get_mut(&head.agent) {
                Some(known) if known.0 <= head.steps => *known = (head.steps, now),
                None if room => _ = self.heads.insert(head.agent, (head.steps, now)),
                _ => {}
            }
        }
        let neighbour = Neighbour {
            addr,
            region: member.region().clone(),
            heard: now,
            beat,
        };
        self.all.insert(neighbour.beat.device, neighbour);
        is_new
    }

    fn forget(&mut self, now: u64) {
        self.all
            .retain(|_, one| now.saturating_sub(one.heard) < SILENT_MS);
        self.heads
            .retain(|_, head| now.saturating_sub(head.1) < SILENT_MS);
    }

    /// The neighbours that there are at `now`.
    pub fn all(&mut self, now: u64) -> impl Iterator<Item = &Neighbour> {
        self.forget(now);
        self.all.values()
    }

    /// Heads for a beat of one's own: this one, and the newest that were heard.
    pub fn heads(&self, own: Head) -> Vec<Head> {
        let mut heard: Vec<_> = self
            .heads
            .iter()
            .filter(|(agent, _)| **agent != own.agent)
            .collect();
        heard.sort_by_key(|(_, (_, at))| std::cmp::Reverse(*at));
        let others = heard.into_iter().map(|(agent, (steps, _))| Head {
            agent: *agent,
            steps: *steps,
        });
        std::iter::once(own).chain(others).take(HEADS_MAX).collect()
    }

    /// Neighbours that may carry for a device of `region` to `gateway`, the one that heard it last first.
    pub fn carriers(
        &mut self,
        gateway: NodeId,
        region: &Region,
        now: u64,
    ) -> Vec<(NodeId, SocketAddr)> {
        self.forget(now);
        let near = |one: &&Neighbour| {
            let beat = &one.beat;
            beat.gateway == gateway
                && beat.port != 0
                && one.region == *region
                && beat.contact.is_some_and(|seconds| seconds < NEAR_S)
        };
        let mut near: Vec<&Neighbour> = self.all.values().filter(near).collect();
        near.sort_by_key(|one| one.beat.contact);
        let place = |one: &Neighbour| (one.beat.device, (one.addr.ip(), one.beat.port).into());
        near.into_iter().map(place).collect()
    }
}

/// A datagram of beats, and whose.
///
/// # Errors
/// What the system says.
pub async fn receive(socket: &UdpSocket) -> std::io::Result<(Vec<u8>, SocketAddr)> {
    // One more, so that what is too long is seen to be.
    let mut bytes = vec![0; BEAT_BYTES_MAX + 1];
    let (len, from) = socket.recv_from(&mut bytes).await?;
    bytes.truncate(len);
    Ok((bytes, from))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::beat::tests::{beat, member};
    use aquifer_protocol::Keys;

    struct World {
        hive: Keys,
        neighbours: Neighbours,
        from: SocketAddr,
    }

    fn world() -> World {
        let hive = Keys::from_secret(&[1; 32]);
        World {
            neighbours: Neighbours::new(HiveId(hive.public()), NodeId([200; 32])),
            hive,
            from: "192.0.2.1:27472".parse().expect("legal"),
        }
    }

    impl World {
        fn hears(&mut self, device: &Keys, change: impl FnOnce(&mut Beat), at: u64) -> bool {
            let me = member(&self.hive, device, "eu");
            let mut beat = beat(device, at);
            change(&mut beat);
            let bytes = beat.seal(device, &me).expect("it fits");
            self.neighbours.hear(&bytes, self.from, at)
        }
    }

    #[test]
    fn a_neighbour_is_one_until_it_is_silent_and_old_beats_are_not_heard_again() {
        let (mut world, device) = (world(), Keys::from_secret(&[2; 32]));
        assert!(world.hears(&device, |_| {}, 1_000));
        assert!(!world.hears(&device, |beat| beat.queue = 9, 2_000));
        assert!(
            !world.hears(&device, |beat| beat.queue = 5, 1_500),
            "replayed"
        );
        let queues = |world: &mut World, now| -> Vec<u32> {
            world
                .neighbours
                .all(now)
                .map(|one| one.beat.queue)
                .collect()
        };
        assert_eq!(vec![9], queues(&mut world, 3_000));
        assert!(queues(&mut world, 2_000 + SILENT_MS).is_empty());
    }

    #[test]
    fn heads_spread_from_beat_to_beat_and_do_not_go_back() {
        let mut world = world();
        let own = Head {
            agent: [1; 32],
            steps: 5,
        };
        let head = |agent, steps| Head {
            agent: [agent; 32],
            steps,
        };
        let (a, b) = (Keys::from_secret(&[2; 32]), Keys::from_secret(&[3; 32]));
        world.hears(&a, |beat| beat.heads = vec![head(8, 3), head(9, 10)], 1_000);
        world.hears(&b, |beat| beat.heads = vec![head(9, 7), own], 1_001);
        assert_eq!(vec![own, head(8, 3), head(9, 10)], {
            let mut heads = world.neighbours.heads(own);
            heads.sort_by_key(|head| head.agent);
            heads
        });
    }

    #[test]
    fn whoever_has_the_same_gateway_and_is_in_the_same_region_may_carry() {
        let mut world = world();
        let eu: Region = "eu".parse().expect("legal");
        let keys = |n: u8| Keys::from_secret(&[n; 32]);
        world.hears(&keys(2), |beat| beat.contact = Some(50), 1_000);
        world.hears(&keys(3), |beat| beat.contact = Some(2), 1_000);
        world.hears(&keys(4), |beat| beat.contact = None, 1_000);
        world.hears(&keys(5), |beat| beat.port = 0, 1_000);
        world.hears(&keys(6), |beat| beat.gateway = NodeId([8; 32]), 1_000);
        world.hears(&keys(7), |beat| beat.contact = Some(NEAR_S), 1_000);
        let gateway = NodeId([9; 32]);
        let found = world.neighbours.carriers(gateway, &eu, 2_000);
        let names: Vec<NodeId> = found.iter().map(|(node, _)| *node).collect();
        assert_eq!(vec![keys(3).node(), keys(2).node()], names);
        assert_eq!("192.0.2.1:5000", found[0].1.to_string());
        let us = "us".parse().expect("legal");
        assert!(world.neighbours.carriers(gateway, &us, 2_000).is_empty());
    }

    #[test]
    fn a_place_is_read_or_said_to_be_none() {
        let place = Place::parse("239.255.71.71:27472@127.0.0.1").expect("good");
        assert_eq!(Ipv4Addr::LOCALHOST, place.on);
        assert_eq!(Ok(Place::USUAL), Place::parse("239.255.71.71:27472"));
        for bad in ["", "239.255.71.71", "a:1", "239.255.71.71:1@lo"] {
            assert_eq!("bad_beat", Place::parse(bad).expect_err(bad).code);
        }
    }
}

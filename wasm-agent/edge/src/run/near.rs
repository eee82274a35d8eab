//! Near: this device among its neighbours: its beats, theirs, and what it carries for them.

use super::{Run, clock};
use crate::beat::{Beat, Head};
use crate::carry::{Carrier, ERRANDS_MAX, Errand, carries};
use crate::member::Membership;
use crate::neighbours::{BEAT_EVERY_MS, Neighbours, Place, receive};
use crate::problem::Problem;
use aquifer_protocol::{Keys, Member, NodeId, Region};
use std::future::pending;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;

/// How often a neighbour is asked to carry, in milliseconds.
const CARRY_EVERY_MS: u64 = 5_000;

/// The link that this device shares with others.
pub(super) struct Near {
    place: Place,
    socket: UdpSocket,
    neighbours: Neighbours,
    member: Option<Member>,
    errands: mpsc::Receiver<Errand>,
    /// An errand that is next.
    next: Option<Errand>,
    giving: mpsc::Sender<Errand>,
    /// The port on which it takes errands, once it does.
    port: u16,
    beat_at: u64,
    carry_at: u64,
}

/// Something of the neighbours.
pub(super) enum Heard {
    /// A datagram.
    Datagram(Vec<u8>, SocketAddr),
    /// Somebody wants something carried.
    Errand(Errand),
    /// It is time for a beat.
    Beat,
}

/// Waits for the next.
pub(super) async fn hears(near: &mut Option<Near>) -> Heard {
    let Some(near) = near else {
        return pending().await;
    };
    let wait = near.beat_at.saturating_sub(clock::now_ms());
    tokio::select! {
        Ok((bytes, from)) = receive(&near.socket) => Heard::Datagram(bytes, from),
        Some(errand) = near.errands.recv(), if near.next.is_none() => Heard::Errand(errand),
        () = tokio::time::sleep(Duration::from_millis(wait)) => Heard::Beat,
    }
}

impl Near {
    pub(super) fn open(
        place: Place,
        membership: &Membership,
        keys: &Keys,
    ) -> Result<Self, Problem> {
        let (giving, errands) = mpsc::channel(ERRANDS_MAX);
        Ok(Self {
            place,
            socket: place.socket()?,
            neighbours: Neighbours::new(membership.hive, keys.node()),
            member: membership.member().cloned(),
            errands,
            next: None,
            giving,
            port: 0,
            beat_at: 0,
            carry_at: 0,
        })
    }

    /// Who this device is now: it beats from when it is a member.
    pub(super) fn knows(&mut self, member: Option<&Member>) {
        if self.member.as_ref() != member {
            self.member = member.cloned();
        }
    }

    /// The errand that is next, if there is one.
    pub(super) fn errand(&mut self) -> Option<Errand> {
        self.next.take().filter(|errand| !errand.reply.is_closed())
    }

    /// A neighbour to ask, now and then.
    pub(super) fn carrier(
        &mut self,
        gateway: NodeId,
        region: &Region,
        now: u64,
    ) -> Option<(NodeId, SocketAddr)> {
        if now < self.carry_at {
            return None;
        }
        self.carry_at = now + CARRY_EVERY_MS;
        self.neighbours
            .carriers(gateway, region, now)
            .first()
            .copied()
    }
}

impl Run {
    /// A beat, theirs or this device's own, or an errand.
    pub(super) fn hears(&mut self, heard: Heard) {
        let now = clock::now_ms();
        let Some(near) = &mut self.near else { return };
        match heard {
            Heard::Datagram(bytes, from) => {
                if near.neighbours.hear(&bytes, from, now) {
                    self.voice.neighbours(near.neighbours.all(now).count());
                }
            }
            Heard::Errand(errand) => {
                // Without a gateway near it is dropped, which says so at once.
                let near_gateway = self.radio.failures() == 0 && self.state.last_contact.is_some();
                near.next = Some(errand).filter(|_| near_gateway);
            }
            Heard::Beat => self.beats(now),
        }
    }

    fn beats(&mut self, now: u64) {
        let Some(near) = &mut self.near else { return };
        // A little at random, so that two do not beat at one moment for ever.
        near.beat_at = now + BEAT_EVERY_MS + clock::drawn(BEAT_EVERY_MS / 8);
        let Some(member) = near.member.clone() else {
            return;
        };
        if near.port == 0 {
            let carrier = Carrier {
                hive: member.grant().hive,
                region: member.region().clone(),
            };
            let at = (near.place.on, 0).into();
            // Without a port it carries for nobody.
            let port = carries(&self.identity, at, carrier, near.giving.clone());
            near.port = port.unwrap_or_default();
        }
        let contact = match self.radio.failures() {
            0 => self.state.last_contact,
            _ => None,
        };
        let own = Head {
            agent: self.device.agent,
            steps: self.device.steps(),
        };
        let beat = Beat {
            device: member.node(),
            at: now,
            queue: u32::try_from(self.device.queue().len()).unwrap_or(u32::MAX),
            gateway: self.gateway_id,
            contact: contact.map(|at| (now.saturating_sub(at) / 1_000) as u32),
            port: near.port,
            heads: near.neighbours.heads(own),
        };
        if let Some(bytes) = beat.seal(&self.keys, &member) {
            // A beat that cannot be sent is lost, as any datagram may be.
            let _ = near.socket.try_send_to(&bytes, near.place.to.into());
        }
    }
}

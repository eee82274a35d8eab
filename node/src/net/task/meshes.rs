//! Carrying messages between the node and the meshes: out, in, and the verdicts back.
//!
//! Settings, scores and the watchdog are in `gossip`; whether a message is good, the node says.

use bytes::Bytes;
use libp2p::PeerId;
use libp2p::gossipsub::{Event, MessageAcceptance, PublishError};
use tokio::time::Instant;

use super::Task;
use crate::net::gossip::{DIRECT_MAX, PACE_SPAN, Probe, SHARDS, Unjudged};
use crate::net::{GossipVerdict, MeshLine, NetEvent, translate};

impl Task {
    /// Says a frame to all of a mesh.
    pub(super) fn publish(&mut self, region: &str, lane: u64, frame: Bytes) {
        let Some(slot) = self.meshes.slot_of(region) else {
            return;
        };
        let shard = lane % u64::from(SHARDS);
        let mesh = &mut self.meshes.all[slot];
        let topic = mesh.shards[usize::try_from(shard).expect("below 16")].clone();
        mesh.tally.said += 1;
        let Some(gossip) = self.swarm.behaviour_mut().mesh(slot) else {
            return;
        };
        match gossip.publish(topic, frame.clone()) {
            // Said or heard before: it is on its way already.
            Ok(_) | Err(PublishError::Duplicate) => {}
            Err(PublishError::NoPeersSubscribedToTopic) => self.say_directly(slot, &frame),
            // Every queue is full; sync brings what the mesh could not take.
            Err(error) => tracing::debug!(%error, region, "not said in the mesh"),
        }
    }

    /// Nobody listens in the mesh yet: some of its members are told directly.
    fn say_directly(&mut self, slot: usize, frame: &Bytes) {
        let mesh = &mut self.meshes.all[slot];
        let members = self.peers.writers_in(&mesh.region);
        for writer in members.take(DIRECT_MAX) {
            writer.send(frame.clone());
            mesh.tally.direct += 1;
        }
    }

    /// The node's verdict on a message.
    pub(super) fn judged(&mut self, ticket: u64, verdict: GossipVerdict) {
        let Some(unjudged) = self.meshes.leave(ticket) else {
            return;
        };
        let verdict = match verdict {
            GossipVerdict::Accept => MessageAcceptance::Accept,
            GossipVerdict::Ignore => MessageAcceptance::Ignore,
            GossipVerdict::Reject => MessageAcceptance::Reject,
        };
        self.report(unjudged, verdict);
    }

    fn report(&mut self, unjudged: Unjudged, verdict: MessageAcceptance) {
        if let Some(gossip) = self.swarm.behaviour_mut().mesh(unjudged.slot) {
            gossip.report_message_validation_result(&unjudged.id, &unjudged.source, verdict);
        }
    }

    /// What a mesh reports.
    pub(super) fn observe_mesh(&mut self, slot: usize, event: Event) {
        match event {
            Event::Message {
                propagation_source: source,
                message_id: id,
                message,
            } => {
                let now = Instant::now();
                let unjudged = Unjudged {
                    slot,
                    id,
                    source,
                    since: now,
                };
                let mesh = &mut self.meshes.all[slot];
                mesh.watch.heard(source, now);
                let Some(shard) = mesh.shard_of(&message.topic) else {
                    return self.report(unjudged, MessageAcceptance::Reject);
                };
                mesh.pace.note(shard);
                match Probe::read(&message.data) {
                    Some(Some(probe)) => self.probed(unjudged, shard, probe, now),
                    Some(None) => self.report(unjudged, MessageAcceptance::Reject),
                    None => self.hand_over(unjudged, message.data.into()),
                }
            }
            Event::SlowPeer {
                peer_id,
                failed_messages,
            } => tracing::debug!(%peer_id, ?failed_messages, "a peer takes messages slowly"),
            other => tracing::trace!(?other, "mesh"),
        }
    }

    /// Hands a message to the node, if the peer that brought it is up and there is room.
    fn hand_over(&mut self, unjudged: Unjudged, frame: Bytes) {
        let (slot, source) = (unjudged.slot, unjudged.source);
        let Some(from) = self.peers.get(&source).filter(|p| p.is_up()).map(|p| p.key) else {
            return self.report(unjudged, MessageAcceptance::Ignore);
        };
        let mesh = &mut self.meshes.all[slot];
        let region = mesh.region.clone();
        mesh.tally.heard += 1;
        if !self.meshes.has_room() {
            self.meshes.all[slot].tally.overflowed += 1;
            return self.report(unjudged, MessageAcceptance::Ignore);
        }
        let ticket = self.meshes.enter(unjudged);
        self.outbox.push(NetEvent::Gossip {
            mesh: region,
            from,
            ticket,
            frame,
        });
    }

    fn probed(&mut self, unjudged: Unjudged, shard: u8, probe: Probe, now: Instant) {
        let (slot, source) = (unjudged.slot, unjudged.source);
        let mesh = &mut self.meshes.all[slot];
        let topic = &mesh.shards[usize::from(shard)];
        let gossip = self.swarm.behaviour_mut().mesh(slot);
        let neighbours: Vec<PeerId> = gossip.map_or_else(Vec::new, |gossip| {
            gossip.mesh_peers(topic).copied().collect()
        });
        let near = |peer: &PeerId| neighbours.contains(peer);
        let (goes_on, dead) = mesh.watch.probed(probe, source, near, now);
        let verdict = if goes_on {
            MessageAcceptance::Accept
        } else {
            MessageAcceptance::Ignore
        };
        if let Some(peer) = dead {
            tracing::warn!(target: "aquifer::mesh::dumb", %peer, region = mesh.region,
                "a peer has gone dumb in the mesh; its connection is made anew");
            mesh.tally.remedies += 1;
            let _ = self.swarm.disconnect_peer_id(peer);
        }
        self.report(unjudged, verdict);
    }

    /// What is due by time alone: probes, and what is demanded of mesh peers.
    pub(super) fn watch_meshes(&mut self, now: Instant) {
        let local = *self.swarm.local_peer_id();
        let Some(origin) = translate::key_of(&local) else {
            return;
        };
        self.meshes.tidy(now);
        for slot in 0..self.meshes.all.len() {
            let mesh = &mut self.meshes.all[slot];
            let members = self.peers.writers_in(&mesh.region).count() + 1;
            if members > 1
                && let Some((shard, probe)) = mesh.watch.due(now, origin, members, SHARDS)
            {
                let topic = mesh.shards[usize::from(shard)].clone();
                if let Some(gossip) = self.swarm.behaviour_mut().mesh(slot) {
                    let _ = gossip.publish(topic, probe.to_bytes());
                }
            }
            if now.duration_since(mesh.turned) < PACE_SPAN {
                continue;
            }
            mesh.turned = now;
            let swarm = &self.swarm;
            mesh.watch.tidy(now, |peer| swarm.is_connected(peer));
            for (shard, params) in mesh.pace.turn() {
                let topic = mesh.topic(shard);
                if let Some(gossip) = self.swarm.behaviour_mut().mesh(slot)
                    && let Err(error) = gossip.set_topic_params(topic, params)
                {
                    tracing::warn!(error, "a mesh refused its parameters");
                }
            }
        }
    }

    /// One line per mesh.
    pub(super) fn mesh_lines(&mut self) -> Vec<MeshLine> {
        let mut lines = Vec::new();
        for (slot, mesh) in self.meshes.all.iter().enumerate() {
            let links = self.swarm.behaviour_mut().mesh(slot).map_or(0, |gossip| {
                let of = |shard| gossip.mesh_peers(shard).count();
                mesh.shards.iter().map(of).sum()
            });
            lines.push(MeshLine {
                region: mesh.region.clone(),
                peers: self.peers.writers_in(&mesh.region).count(),
                degree: links as f64 / f64::from(SHARDS),
                ..mesh.tally.clone()
            });
        }
        lines
    }
}

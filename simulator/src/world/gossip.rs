//! Gossip: the meshes of the regions, as far as replicas can tell.
//!
//! A message is said to a few peers of the mesh drawn at random, and whoever hears it for the first
//! time judges it; accepted, it goes on to a few more. That is what a replica sees of GossipSub, and
//! less than that keeps: nothing is offered again, so what a mesh loses, sync must bring.
//!
//! Not here: GossipSub itself (its own model), what a verdict means (the core).

use super::World;
use crate::check;
use crate::engine::Index;
use crate::network::Packet;
use aquifer_protocol::{Input, Member, Message, Region, Ticket, Time, Verdict, mesh};
use std::collections::{BTreeMap, BTreeSet};

/// To how many peers a message goes from each node.
const FANOUT: usize = 4;

/// What a node has heard in meshes in this life.
#[derive(Debug, Default)]
pub(super) struct Ear {
    seen: BTreeSet<[u8; 16]>,
    unjudged: BTreeMap<Ticket, (Index, Region, Message)>,
    tickets: u64,
}

impl World {
    /// A node says something to a mesh of its own.
    pub(super) fn publish(&mut self, node: Index, mesh: &Region, message: &Message, departs: Time) {
        if self.nodes[node].ear.seen.insert(name_of(mesh, message)) {
            self.fan_out(node, None, mesh, message, departs);
        }
    }

    /// Something said in a mesh reaches a node. Where the gate of the mesh is shut, nothing arrives.
    pub(super) fn overhears(&mut self, from: Index, to: Index, mesh: Region, message: Message) {
        let shared = mesh::shared(&self.nodes[from].member, &self.nodes[to].member);
        if !shared.contains(&mesh) || self.nodes[to].replica.is_none() {
            return;
        }
        let framed = self.chaos.permille(self.scenario.rates.frames);
        let from_id = self.nodes[from].keys.node();
        let ear = &mut self.nodes[to].ear;
        if !ear.seen.insert(name_of(&mesh, &message)) {
            return;
        }
        ear.tickets += 1;
        let ticket = Ticket(ear.tickets);
        let input = if framed {
            Input::Gossip {
                mesh: mesh.clone(),
                from: from_id,
                ticket,
                bytes: message.to_bytes().into(),
            }
        } else {
            Input::GossipMessage {
                mesh: mesh.clone(),
                from: from_id,
                ticket,
                message: message.clone(),
            }
        };
        ear.unjudged.insert(ticket, (from, mesh, message));
        self.input(to, input);
    }

    /// A node has judged what it heard.
    pub(super) fn judged(&mut self, node: Index, ticket: Ticket, verdict: Verdict, departs: Time) {
        let heard = self.nodes[node].ear.unjudged.remove(&ticket);
        let Some((source, mesh, message)) = heard else {
            let what = format!("node {node} judged gossip {} twice", ticket.0);
            return self.violate(check::Violation::Panicked { what });
        };
        self.report.saw(match verdict {
            Verdict::Accept => "gossip_accepted",
            Verdict::Ignore => "gossip_ignored",
            Verdict::Reject => "gossip_rejected",
        });
        if verdict == Verdict::Accept {
            self.fan_out(node, Some(source), &mesh, &message, departs);
        }
    }

    fn fan_out(
        &mut self,
        node: Index,
        source: Option<Index>,
        mesh: &Region,
        message: &Message,
        departs: Time,
    ) {
        let member = |i: Index| -> &Member { &self.nodes[i].member };
        let both = |peer: &Index| mesh::shared(member(node), member(*peer)).contains(mesh);
        let mut peers: Vec<Index> = (0..self.nodes.len())
            .filter(|peer| *peer != node && Some(*peer) != source)
            .filter(|peer| self.network.believes(node, *peer))
            .filter(both)
            .collect();
        for _ in 0..FANOUT.min(peers.len()) {
            let peer = peers.swap_remove(self.chaos.index(peers.len()));
            check::on_send(self, node, peer, message);
            let packet = Packet::Gossip(mesh.clone(), message.clone());
            self.post(node, peer, departs, packet);
        }
    }
}

fn name_of(mesh: &Region, message: &Message) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(mesh.as_str().as_bytes());
    hasher.update(&[0]);
    hasher.update(&message.to_bytes());
    *hasher
        .finalize()
        .as_bytes()
        .first_chunk()
        .expect("32 hold 16")
}

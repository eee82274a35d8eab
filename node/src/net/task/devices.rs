//! Devices at the edge, carried between the node and libp2p: `/aquifer/edge/1`.
//!
//! A device is admitted like any member and is no peer: no session begins with it, no frame flows, and
//! the core never hears of it. What it says goes to the node, and one reply goes back.

use libp2p::request_response::{Event, Message, ResponseChannel};

use super::Task;
use crate::net::calls::{self, Answered};

impl Task {
    /// What became of a device's word.
    pub(super) fn observe_device(&mut self, event: calls::Event) {
        match event {
            Event::Message {
                peer,
                message:
                    Message::Request {
                        request, channel, ..
                    },
                ..
            } => {
                let Some(key) = self.peers.get(&peer).map(|entry| entry.key) else {
                    return;
                };
                // No bytes at all say that this node is overloaded: the device comes again.
                if let Err(channel) = self.devices.take(key, request, channel) {
                    self.reply_to_device(channel, Vec::new());
                }
            }
            Event::InboundFailure { peer, error, .. } => {
                tracing::debug!(%peer, %error, "a device was not answered");
            }
            // This side asks devices nothing.
            Event::Message { .. } | Event::OutboundFailure { .. } | Event::ResponseSent { .. } => {}
        }
    }

    /// Sends what the node replied.
    pub(super) fn answer_device(&mut self, answered: Answered) {
        self.reply_to_device(answered.channel, answered.answer);
    }

    /// A reply that finds its device gone is dropped: the device asks again.
    fn reply_to_device(&mut self, channel: ResponseChannel<Vec<u8>>, reply: Vec<u8>) {
        let edge = self.swarm.behaviour_mut().edge.inner_mut();
        let _ = edge.send_response(channel, reply);
    }
}

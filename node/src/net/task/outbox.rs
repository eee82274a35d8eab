//! Events the node has yet to take, and how many of them are too many.
//!
//! The task never waits for the node; it looks here and stops reading frames, and at last stops
//! polling the swarm, until the node has caught up.

use std::collections::VecDeque;

use crate::net::{NetEvent, NodeKey};

/// Frames, and bytes of frames, the node has yet to take, before reading stops.
const OUTBOX_FRAMES_MAX: usize = 64;
const OUTBOX_BYTES_MAX: usize = 4 << 20;

/// Events of all kinds the node has yet to take, before the swarm itself waits.
const OUTBOX_EVENTS_MAX: usize = 1024;

/// Bytes of gossip the node has yet to take, before the swarm itself waits: gossip comes with it.
const OUTBOX_GOSSIP_BYTES_MAX: usize = 8 << 20;

/// Events the node has yet to take, in order.
#[derive(Default)]
pub(super) struct Outbox {
    events: VecDeque<NetEvent>,
    frames: usize,
    frame_bytes: usize,
    gossip_bytes: usize,
}

impl Outbox {
    pub(super) fn push(&mut self, event: NetEvent) {
        match &event {
            NetEvent::Frame { frame, .. } => {
                self.frames += 1;
                self.frame_bytes += frame.len();
            }
            NetEvent::Gossip { frame, .. } => self.gossip_bytes += frame.len(),
            _ => {}
        }
        self.events.push_back(event);
    }

    pub(super) fn pop(&mut self) -> Option<NetEvent> {
        let event = self.events.pop_front()?;
        match &event {
            NetEvent::Frame { frame, .. } => {
                self.frames -= 1;
                self.frame_bytes -= frame.len();
            }
            NetEvent::Gossip { frame, .. } => self.gossip_bytes -= frame.len(),
            _ => {}
        }
        Some(event)
    }

    pub(super) fn drop_frames_of(&mut self, key: &NodeKey) {
        let all = std::mem::take(self);
        let keep = |event: &NetEvent| !matches!(event, NetEvent::Frame { from, .. } if from == key);
        all.events
            .into_iter()
            .filter(keep)
            .for_each(|event| self.push(event));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// Whether another frame may be taken from the readers.
    pub(super) fn is_hungry(&self) -> bool {
        self.frames < OUTBOX_FRAMES_MAX && self.frame_bytes < OUTBOX_BYTES_MAX
    }

    /// Whether the swarm may be polled.
    pub(super) fn is_calm(&self) -> bool {
        self.events.len() < OUTBOX_EVENTS_MAX && self.gossip_bytes < OUTBOX_GOSSIP_BYTES_MAX
    }
}

//! Bridges: two agents of each region, with a way to those of every other region.
//!
//! The first passes on at once what its region has and others may have; the second stands in for it: it
//! only announces, and as much later as the product's does. What came over a bridge goes over no other.

use super::{Gossip, Out, Shard, Way};
use crate::swarm::event::Kind;
use crate::swarm::graph::Shape;
use aquifer_protocol::limits::BRIDGE_PATIENCE;

/// Bridges of one region: the second stands in for the first.
const BRIDGES: u32 = 2;

/// How long a stand-in waits, in microseconds: as long as the product's.
pub(super) const STAND_IN_AFTER: u64 = BRIDGE_PATIENCE.as_micros() as u64;

impl Gossip {
    pub(super) fn stands_in<O: Out>(
        &self,
        shard: &mut Shard,
        agent: u32,
        message: u32,
        way: &mut Way<'_, O>,
    ) -> u64 {
        self.crosses(shard, agent, message, Kind::IHave, way);
        4
    }

    /// To the bridges of all regions that may have it.
    pub(super) fn crosses<O: Out>(
        &self,
        shard: &mut Shard,
        agent: u32,
        message: u32,
        kind: Kind,
        way: &mut Way<'_, O>,
    ) {
        for region in 0..self.geography.regions() {
            if region != way.home && self.has_bridges(region) {
                way.send(shard, agent, self.links + region as u8, kind, message);
            }
        }
    }

    /// Which of its region's bridges an agent is, if one.
    #[inline]
    pub fn bridge(&self, agent: u32) -> Option<u32> {
        if self.shape == Shape::Flat {
            return None;
        }
        let region = self.geography.region(agent.into());
        let place = agent - self.geography.bounds[region] as u32;
        (place < BRIDGES && self.has_bridges(region)).then_some(place)
    }

    pub(super) fn has_bridges(&self, region: usize) -> bool {
        let bounds = &self.geography.bounds;
        bounds[region + 1] - bounds[region] >= u64::from(BRIDGES)
    }
}

//! Scores: what costs a peer its place in a mesh.
//!
//! Bad messages, and silence. Well-known parameters let a peer that never forwards keep a good score
//! for ever (CVE-2022-47547), because time spent in the mesh and first deliveries outweigh it; here
//! nothing a peer can earn outweighs it. Silence shows only where there is something to say: a shard
//! demands deliveries only while it has enough traffic, and then a small part of it, since an honest
//! peer at the edge of a mesh hears most things from us. Its place in the mesh is all that silence
//! costs: the peer is still offered messages and can ask for them.
//!
//! Terms P1–P7 after the GossipSub v1.1 specification.

use std::time::Duration;

use super::SHARDS;
use libp2p::gossipsub::{PeerScoreParams, PeerScoreThresholds, TopicHash, TopicScoreParams};

/// Score lost to silence on one shard, at most. It must outweigh what can be earned there.
const SILENCE: f64 = 4.0;

/// Most that a peer can earn on all shards together.
const EARNED_MAX: f64 = 1.0;

/// First deliveries that count.
const FIRSTS_MAX: f64 = 20.0;

/// Deliveries fade to a hundredth in this time.
const FADE: Duration = Duration::from_secs(30);

/// A peer is not judged by its deliveries before it was this long in the mesh.
const PROBATION: Duration = Duration::from_secs(15);

/// A copy counts if it comes within this time of the first.
const WINDOW: Duration = Duration::from_secs(2);

/// Messages on a shard in one `PACE_SPAN` from which on deliveries are demanded, and of how many
/// messages a mesh peer must deliver one.
const PACE_MIN: u32 = 60;
const ONE_OF: f64 = 50.0;

/// Over how long messages are counted.
pub(in crate::net) const PACE_SPAN: Duration = Duration::from_secs(10);

/// Parameters for a mesh of these shards, in peace: nothing is demanded yet.
pub(super) fn params(
    shards: impl Iterator<Item = TopicHash>,
) -> (PeerScoreParams, PeerScoreThresholds) {
    let params = PeerScoreParams {
        topics: shards.map(|shard| (shard, shard_params(0))).collect(),
        topic_score_cap: EARNED_MAX,
        app_specific_weight: 1.0,
        // Members show certificates; many of them may share an address.
        ip_colocation_factor_weight: 0.0,
        behaviour_penalty_weight: -1.0,
        behaviour_penalty_threshold: 6.0,
        behaviour_penalty_decay: decay(FADE),
        decay_interval: Duration::from_secs(1),
        retain_score: Duration::from_secs(600),
        ..PeerScoreParams::default()
    };
    let thresholds = PeerScoreThresholds {
        gossip_threshold: -80.0,
        publish_threshold: -120.0,
        graylist_threshold: -160.0,
        accept_px_threshold: 1_000.0,
        opportunistic_graft_threshold: 0.2,
    };
    (params, thresholds)
}

/// Parameters of one shard on which `heard` messages came in the last span.
pub(in crate::net) fn shard_params(heard: u32) -> TopicScoreParams {
    let demanded = demand(heard);
    TopicScoreParams {
        topic_weight: 1.0,
        // P1: to be there earns nothing.
        time_in_mesh_weight: 0.0,
        time_in_mesh_quantum: Duration::from_secs(1),
        time_in_mesh_cap: 1.0,
        // P2: to be first earns a little, however often.
        first_message_deliveries_weight: EARNED_MAX / (f64::from(SHARDS) * FIRSTS_MAX),
        first_message_deliveries_decay: decay(FADE),
        first_message_deliveries_cap: FIRSTS_MAX,
        // P3: silence. The penalty is the square of what is missing.
        mesh_message_deliveries_weight: demanded.map_or(0.0, |least| -SILENCE / (least * least)),
        mesh_message_deliveries_threshold: demanded.unwrap_or(1.0),
        mesh_message_deliveries_cap: demanded.map_or(10.0, |least| 10.0 * least),
        mesh_message_deliveries_decay: decay(FADE),
        mesh_message_deliveries_window: WINDOW,
        mesh_message_deliveries_activation: PROBATION,
        // P3b: whoever was pruned for silence does not come back at once.
        mesh_failure_penalty_weight: demanded.map_or(0.0, |least| -0.5 / (least * least)),
        mesh_failure_penalty_decay: decay(FADE),
        // P4: four bad messages are worth a place, twenty a hearing.
        invalid_message_deliveries_weight: -0.5,
        invalid_message_deliveries_decay: decay(PACE_SPAN * 30),
    }
}

/// The deliveries that a mesh peer's counter must hold, if any are demanded.
fn demand(heard: u32) -> Option<f64> {
    (heard >= PACE_MIN).then(|| {
        let per_second = f64::from(heard) / PACE_SPAN.as_secs_f64();
        // Where a counter that fades stands if it grows by so many a second.
        let standing = per_second / (1.0 - decay(FADE));
        (standing / ONE_OF).max(0.2)
    })
}

/// The factor per second that leaves a hundredth after `time`.
fn decay(time: Duration) -> f64 {
    0.01_f64.powf(1.0 / time.as_secs_f64())
}

/// How many messages came on each shard, span by span.
pub(in crate::net) struct Pace {
    heard: Vec<u32>,
    demanded: Vec<bool>,
}

impl Pace {
    /// Nothing heard yet on any of `shards`.
    pub(super) fn new(shards: usize) -> Self {
        Self {
            heard: vec![0; shards],
            demanded: vec![false; shards],
        }
    }

    /// A message came.
    pub(in crate::net) fn note(&mut self, shard: u8) {
        if let Some(heard) = self.heard.get_mut(usize::from(shard)) {
            *heard = heard.saturating_add(1);
        }
    }

    /// Ends a span: the shards whose parameters change, and to what.
    pub(in crate::net) fn turn(&mut self) -> Vec<(usize, TopicScoreParams)> {
        let mut changes = Vec::new();
        for (shard, heard) in self.heard.iter_mut().enumerate() {
            let heard = std::mem::take(heard);
            let demands = demand(heard).is_some();
            if demands || self.demanded[shard] {
                changes.push((shard, shard_params(heard)));
            }
            self.demanded[shard] = demands;
        }
        changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// CVE-2022-47547: a peer that earns all it can and forwards nothing must end below zero.
    #[test]
    fn nothing_that_can_be_earned_outweighs_silence() {
        for heard in [PACE_MIN, 600, 10_000, u32::MAX] {
            let shard = shard_params(heard);
            assert_eq!(Ok(()), shard.validate());
            let earned = shard.first_message_deliveries_weight * shard.first_message_deliveries_cap;
            let missing = shard.mesh_message_deliveries_threshold.powi(2);
            let silence = shard.mesh_message_deliveries_weight * missing;
            let everywhere = earned * f64::from(SHARDS);
            assert!(everywhere + silence < -1.0, "{everywhere} {silence}");
        }
    }

    /// It loses its place in the mesh, and nothing else, however many shards it is silent on.
    #[test]
    fn silence_alone_never_costs_the_hearing() {
        let (params, thresholds) = params(std::iter::empty());
        assert_eq!(Ok(()), params.validate());
        assert_eq!(Ok(()), thresholds.validate());
        let worst = -SILENCE * f64::from(SHARDS);
        assert!(worst > thresholds.gossip_threshold);
    }

    #[test]
    fn nothing_is_demanded_where_little_is_said() {
        let quiet = shard_params(PACE_MIN - 1);
        assert_eq!(Ok(()), quiet.validate());
        assert_eq!(0.0, quiet.mesh_message_deliveries_weight);
        let mut pace = Pace::new(2);
        (0..PACE_MIN).for_each(|_| pace.note(1));
        let changed: Vec<usize> = pace.turn().iter().map(|(shard, _)| *shard).collect();
        assert_eq!(vec![1], changed, "demanded");
        assert_eq!(1, pace.turn().len(), "and no more, once it is quiet again");
        assert!(pace.turn().is_empty());
    }
}

//! The meshes of the regions: gossipsub, set so that it neither falls silent nor tells strangers.
//!
//! One gossipsub for each region that this node lies in, under a protocol name of its own, behind the
//! gate: only peers inside the region see it. In it a fixed number of wide topics; which of them a
//! message takes is drawn from its lane, so that who watches a topic's name or a message's id learns
//! neither what it is about nor who wrote it (envelopes are anonymous, ids are keyed hashes).
//!
//! Stock settings that are changed, each for a reason that was met:
//! - messages are passed on only once the node has judged them, and are kept 12 s for it;
//! - one IHAVE names at most 600 ids, and 256 KiB of control messages are taken: with stock settings
//!   a sender's IHAVE outgrows what the receiver takes, which closes the stream without a word, and
//!   under load a node hears nothing any more;
//! - a message goes to the mesh, not to everyone who is connected;
//! - whoever is silent loses its place in the mesh (`score`), and a connection that has gone dumb is
//!   made anew (`watch`).
//!
//! Not here: what messages mean and whether they are good (the node), carrying them (`task/meshes`).

mod score;
mod watch;

use std::collections::{HashMap, HashSet};
use std::io;
use std::time::Duration;

use aquifer_protocol::limits::MESH_REMEMBERS;
use libp2p::PeerId;
use libp2p::gossipsub::{
    Behaviour, Config, ConfigBuilder, IdentTopic, IdentityTransform, MaxCountSubscriptionFilter,
    MessageAuthenticity, MessageId, TopicHash, ValidationMode, WhitelistSubscriptionFilter,
};
use tokio::time::Instant;

use super::gated::Gated;
use super::{MeshLine, MeshSettings};
pub(super) use score::{PACE_SPAN, Pace};
pub(super) use watch::{Probe, Watch};

/// Most meshes a node takes part in.
pub(super) const MESHES_MAX: usize = 3;

/// Wide topics of one mesh. A peer's subscriptions stay below gossipsub's limit of 100.
pub(super) const SHARDS: u8 = 16;

/// Longest message, bytes: a gossiped record and what surrounds it.
pub(super) const MESSAGE_BYTES_MAX: usize = 64 * 1024;

/// Messages that may wait for the node's verdict, all meshes together.
pub(super) const UNJUDGED_MAX: usize = 4096;

/// Peers that are sent a message directly while nobody listens in the mesh yet.
pub(super) const DIRECT_MAX: usize = 12;

/// Ids in one IHAVE, and bytes of control messages in one RPC: 600 ids of 20 bytes take 13 KiB, so
/// that even a peer with stock settings (16 KiB) takes them.
const IDS_PER_IHAVE: usize = 600;
const CONTROL_BYTES_MAX: usize = 256 * 1024;

const HEARTBEAT: Duration = Duration::from_secs(1);

/// Heartbeats for which a message waits for its verdict, and of which it is offered to others.
const HISTORY: usize = 12;
const HISTORY_OFFERED: usize = 4;

/// How long a message may wait for a slow peer.
const QUEUE_PATIENCE: Duration = Duration::from_secs(5);

const ID_BYTES: usize = 20;

type Filter = MaxCountSubscriptionFilter<WhitelistSubscriptionFilter>;

/// Gossipsub as a mesh uses it.
pub(super) type Gossip = Behaviour<IdentityTransform, Filter>;

/// A mesh's slot among the behaviours: `None` where this node has fewer meshes.
pub(super) type Slot = libp2p::swarm::behaviour::toggle::Toggle<Gated<Gossip>>;

/// The mesh in `settings`, subscribed to all of its topics.
///
/// # Errors
/// If the region's name cannot be a protocol name.
pub(super) fn behaviour(settings: &MeshSettings) -> io::Result<Gossip> {
    let filter = MaxCountSubscriptionFilter {
        filter: WhitelistSubscriptionFilter(shards(settings).collect::<HashSet<_>>()),
        max_subscribed_topics: SHARDS.into(),
        max_subscriptions_per_request: 2 * usize::from(SHARDS),
    };
    let config = config(settings.protocol.clone(), settings.key)?;
    let mut gossip =
        Behaviour::new_with_subscription_filter(MessageAuthenticity::Anonymous, config, filter)
            .map_err(io::Error::other)?;
    let (params, thresholds) = score::params(shards(settings));
    gossip
        .with_peer_score(params, thresholds)
        .map_err(io::Error::other)?;
    for shard in 0..SHARDS {
        gossip
            .subscribe(&IdentTopic::new(shard_name(settings, shard)))
            .map_err(io::Error::other)?;
    }
    Ok(gossip)
}

/// The settings of a mesh, but for its filter and scores. libp2p speaks GossipSub 1.2 under its own
/// protocol name only, so what has one of ours speaks 1.1: IDONTWANT is never sent.
pub(super) fn config(protocol: String, key: [u8; 32]) -> io::Result<Config> {
    settings(&mut ConfigBuilder::default(), key)
        .protocol_id_prefix(protocol)
        .build()
        .map_err(io::Error::other)
}

/// The same, but for the protocol's name.
pub(super) fn settings(builder: &mut ConfigBuilder, key: [u8; 32]) -> &mut ConfigBuilder {
    builder
        .validation_mode(ValidationMode::Anonymous)
        .validate_messages()
        .message_id_fn(move |message| {
            let parts = [message.topic.as_str().as_bytes(), &[0], &message.data].concat();
            let hash = blake3::keyed_hash(&key, &parts);
            MessageId::new(&hash.as_bytes()[..ID_BYTES])
        })
        .heartbeat_interval(HEARTBEAT)
        .heartbeat_initial_delay(HEARTBEAT)
        .history_length(HISTORY)
        .history_gossip(HISTORY_OFFERED)
        .duplicate_cache_time(MESH_REMEMBERS)
        .flood_publish(false)
        .max_transmit_size(MESSAGE_BYTES_MAX)
        .max_control_messages_sent(IDS_PER_IHAVE)
        .max_control_message_size(CONTROL_BYTES_MAX)
        .publish_queue_duration(QUEUE_PATIENCE)
        .forward_queue_duration(QUEUE_PATIENCE)
}

/// The gossipsub topic of a shard: a keyed hash, so that it names nothing.
pub(super) fn shard_name(settings: &MeshSettings, shard: u8) -> String {
    let hash = blake3::keyed_hash(&settings.key, &[b's', shard]);
    hash.to_hex()[..32].to_owned()
}

fn shards(settings: &MeshSettings) -> impl Iterator<Item = TopicHash> {
    (0..SHARDS).map(|shard| IdentTopic::new(shard_name(settings, shard)).hash())
}

/// The meshes of this node, and what they wait for.
pub(super) struct Meshes {
    /// In the order of their slots.
    pub(super) all: Vec<Mesh>,
    unjudged: HashMap<u64, Unjudged>,
    tickets: u64,
}

/// One mesh.
pub(super) struct Mesh {
    /// The region, as peers' domains name it.
    pub(super) region: String,
    /// The gossipsub topic of each shard.
    pub(super) shards: Vec<TopicHash>,
    /// What passed through it, counted.
    pub(super) tally: MeshLine,
    /// When its pace was last looked at.
    pub(super) turned: Instant,
    pub(super) watch: Watch,
    /// How many messages it has lately heard on each shard.
    pub(super) pace: Pace,
}

/// A message that the node has yet to judge.
pub(super) struct Unjudged {
    /// Its mesh's slot.
    pub(super) slot: usize,
    pub(super) id: MessageId,
    pub(super) source: PeerId,
    /// Since when it waits.
    pub(super) since: Instant,
}

impl Meshes {
    /// The meshes of `settings`.
    pub(super) fn new(settings: &[MeshSettings]) -> Self {
        let mesh = |settings: &MeshSettings| Mesh {
            region: settings.region.clone(),
            shards: shards(settings).collect(),
            tally: MeshLine::default(),
            turned: Instant::now(),
            watch: Watch::default(),
            pace: Pace::new(SHARDS.into()),
        };
        Self {
            all: settings.iter().map(mesh).collect(),
            unjudged: HashMap::new(),
            tickets: 0,
        }
    }

    /// The slot of the mesh of `region`.
    pub(super) fn slot_of(&self, region: &str) -> Option<usize> {
        self.all.iter().position(|mesh| mesh.region == region)
    }

    /// The slots of the meshes that a peer inside `domains` may see.
    pub(super) fn slots_in(&self, domains: &[String]) -> Vec<usize> {
        let inside = |(_, mesh): &(usize, &Mesh)| domains.contains(&mesh.region);
        let slots = self.all.iter().enumerate().filter(inside);
        slots.map(|(slot, _)| slot).collect()
    }

    /// Whether another message may wait for its verdict.
    pub(super) fn has_room(&self) -> bool {
        self.unjudged.len() < UNJUDGED_MAX
    }

    /// A ticket for a message.
    pub(super) fn enter(&mut self, unjudged: Unjudged) -> u64 {
        self.tickets += 1;
        self.unjudged.insert(self.tickets, unjudged);
        self.tickets
    }

    /// Lets go of messages that the node has not judged while they could be passed on.
    pub(super) fn tidy(&mut self, now: Instant) {
        let kept = HEARTBEAT * u32::try_from(HISTORY).expect("a dozen");
        self.unjudged
            .retain(|_, unjudged| now.duration_since(unjudged.since) < kept);
    }

    /// The message of a ticket.
    pub(super) fn leave(&mut self, ticket: u64) -> Option<Unjudged> {
        self.unjudged.remove(&ticket)
    }
}

impl Mesh {
    /// The gossipsub topic of a shard, as its parameters are set by.
    pub(super) fn topic(&self, shard: usize) -> IdentTopic {
        IdentTopic::new(self.shards[shard].as_str())
    }

    /// The number of a shard by its gossipsub topic.
    pub(super) fn shard_of(&self, topic: &TopicHash) -> Option<u8> {
        let at = self.shards.iter().position(|shard| shard == topic)?;
        u8::try_from(at).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(region: &str, key: u8) -> MeshSettings {
        MeshSettings {
            region: region.to_owned(),
            protocol: format!("/aquifer/test/mesh/{region}"),
            key: [key; 32],
        }
    }

    #[test]
    fn shards_of_two_meshes_have_no_name_in_common_and_name_nothing() {
        let (eu, us) = (settings("eu", 1), settings("us", 2));
        let names: HashSet<TopicHash> = shards(&eu).chain(shards(&us)).collect();
        assert_eq!(2 * usize::from(SHARDS), names.len());
        assert!(names.iter().all(|name| !name.as_str().contains("eu")));
        assert!(behaviour(&eu).is_ok());
    }

    #[test]
    fn a_peer_sees_the_meshes_of_the_regions_it_shares() {
        let meshes = Meshes::new(&[settings("eu", 1), settings("eu/fr", 2)]);
        let slots = |domains: &[&str]| {
            let domains: Vec<String> = domains.iter().map(|d| (*d).to_owned()).collect();
            meshes.slots_in(&domains)
        };
        assert_eq!(vec![0], slots(&["eu"]));
        assert_eq!(vec![0, 1], slots(&["eu", "eu/fr"]));
        assert!(slots(&[]).is_empty());
        assert_eq!(Some(1), meshes.slot_of("eu/fr"));
    }

    #[test]
    fn tickets_are_bounded_and_good_once() {
        let mut meshes = Meshes::new(&[settings("eu", 1)]);
        let unjudged = || Unjudged {
            slot: 0,
            id: MessageId::new(b"id"),
            source: PeerId::random(),
            since: Instant::now(),
        };
        let tickets: Vec<u64> = (0..UNJUDGED_MAX)
            .map(|_| meshes.enter(unjudged()))
            .collect();
        assert!(!meshes.has_room());
        assert!(meshes.leave(tickets[0]).is_some() && meshes.leave(tickets[0]).is_none());
        assert!(meshes.has_room());
    }
}

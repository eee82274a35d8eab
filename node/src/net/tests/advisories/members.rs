//! What an admitted peer inside the region can do: gossip, directories, reach, and our own protocols.

use super::raw::{Attacker, Pipe, field, framed, noise_bytes, number, varint};
use super::*;
use crate::net::{admit, calls, gossip, streams};

/// An RPC of gossipsub with so many control messages of one kind.
fn control(kind: u64, messages: impl IntoIterator<Item = Vec<u8>>) -> Vec<u8> {
    let inner: Vec<u8> = messages
        .into_iter()
        .flat_map(|message| field(kind, &message))
        .collect();
    framed(&field(3, &inner))
}

const IHAVE: u64 = 1;
const IWANT: u64 = 2;
const GRAFT: u64 = 3;
const PRUNE: u64 = 4;
const IDONTWANT: u64 = 5;

/// The topic of a shard that exists.
fn real_topic(shard: u8) -> String {
    gossip::shard_name(&settings(1, QUIC, &[]).meshes[0], shard)
}

/// Says legal messages, by hand, until the node has heard one: what follows is understood too. What is
/// said before both have admitted each other is not heard.
async fn is_heard(house: &House, enemy: &mut Attacker) {
    let before = house.node.snapshot().await.meshes[0].heard;
    for hello in 0.. {
        let text = format!("hello {hello}");
        let message = [
            field(2, text.as_bytes()),
            field(4, real_topic(0).as_bytes()),
        ]
        .concat();
        enemy.says(&MESH, &framed(&field(2, &message))).await;
        for _ in 0..20 {
            if house.node.snapshot().await.meshes[0].heard > before {
                return;
            }
            sleep(Duration::from_millis(10)).await;
        }
    }
}

/// GHSA-gc42-3jg7-rxr2, GHSA-xqmp-fxgv-xvq5: a backoff that no clock can hold. GHSA-vrx6-jcp8-vm7m:
/// topics that nobody knows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn prunes_with_endless_backoff_and_for_unknown_topics_harm_nobody() {
    let mut house = House::stands().await;
    let mut enemy = Attacker::member(&house.victim);
    is_heard(&house, &mut enemy).await;
    let backoffs = [
        u64::MAX,
        u64::MAX / 2,
        i64::MAX as u64,
        u64::MAX / 1_000,
        1 << 40,
        0,
    ];
    let attack = async move {
        for frame in 0..frames() {
            let topic = match frame % 3 {
                0 => format!("nobody knows {frame}"),
                _ => real_topic((frame % 16) as u8),
            };
            let backoff = number(3, backoffs[frame % backoffs.len()]);
            let stranger = field(2, &field(1, &noise_bytes(frame, 38)));
            let prune = [field(1, topic.as_bytes()), stranger, backoff].concat();
            let graft = control(GRAFT, [field(1, topic.as_bytes())]);
            enemy.says(&MESH, &graft).await;
            enemy.says(&MESH, &control(PRUNE, [prune])).await;
        }
        frames()
    };
    house.endures("gossip: prunes, by a member", attack).await;
}

/// GHSA-g3g5-x568-qvqx: state for each topic a peer can think of. And floods of all the rest.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn floods_of_topics_and_of_control_messages_harm_nobody() {
    let mut house = House::stands().await;
    let mut enemy = Attacker::member(&house.victim);
    is_heard(&house, &mut enemy).await;
    let attack = async move {
        for frame in 0..frames() {
            let topics = (0..200).map(|topic| format!("topic {frame} {topic}"));
            let ids = |count: usize| -> Vec<u8> {
                let id = |at| field(2, &noise_bytes(frame * 1_000 + at, 20));
                (0..count).flat_map(id).collect()
            };
            let bytes = match frame % 8 {
                0 => control(GRAFT, topics.map(|topic| field(1, topic.as_bytes()))),
                1 => {
                    let wish = |topic: String| [number(1, 1), field(2, topic.as_bytes())].concat();
                    let wishes: Vec<u8> = topics.flat_map(|t| field(1, &wish(t))).collect();
                    framed(&wishes)
                }
                2 => {
                    let topic = field(1, real_topic(3).as_bytes());
                    control(IHAVE, [[topic, ids(600)].concat()])
                }
                3 => {
                    let wanted = |at| field(1, &noise_bytes(frame * 1_000 + at, 20));
                    control(IWANT, [(0..600).flat_map(wanted).collect()])
                }
                4 => {
                    let unwanted = |at| field(1, &noise_bytes(frame * 1_000 + at, 20));
                    control(IDONTWANT, [(0..600).flat_map(unwanted).collect()])
                }
                // Longer than the node takes, and really sent.
                5 => control(IHAVE, [field(2, &noise_bytes(frame, 300 * 1024))]),
                // Longer than anybody takes, and only claimed.
                6 => [varint(u64::MAX), noise_bytes(frame, 64)].concat(),
                _ => framed(&noise_bytes(frame, 512)),
            };
            enemy.says(&MESH, &bytes).await;
        }
        frames()
    };
    house
        .endures("gossip: control floods, by members", attack)
        .await;
}

/// Entries that are no good, packets that are too long, and requests without end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn floods_of_the_directories_and_of_reach_harm_nobody() {
    let mut house = House::stands().await;
    let mut enemy = Attacker::member(&house.victim);
    let attack = async move {
        for frame in 0..frames() {
            let table = if frame % 2 == 0 {
                &REGION_TABLE
            } else {
                &HIVE_TABLE
            };
            let key = noise_bytes(frame, 32);
            let peer = [
                field(1, &noise_bytes(frame, 38)),
                field(2, &[4, 127, 0, 0, 1, 6, 0, 9]),
            ];
            let bytes = match frame / 2 % 6 {
                0 => {
                    let record = [field(1, &key), field(2, &noise_bytes(frame, 500))].concat();
                    framed(&[number(1, 0), field(2, &key), field(3, &record)].concat())
                }
                1 => framed(&[number(1, 2), field(2, &key), field(9, &peer.concat())].concat()),
                2 => framed(&[number(1, 0), field(3, &noise_bytes(frame, 20_000))].concat()),
                3 => framed(&noise_bytes(frame, 300)),
                4 => [varint(u64::MAX), noise_bytes(frame, 64)].concat(),
                _ => framed(&[number(1, 4), field(2, &key)].concat()),
            };
            enemy.says(table, &bytes).await;
        }
        frames()
    };
    let state = house
        .endures("directories: floods, by members", attack)
        .await;
    assert!(state.directory_refused > 0, "some of it was understood");
    let mut enemy = Attacker::member(&house.victim);
    let attack = async move {
        for frame in 0..frames() {
            match frame % 4 {
                0 => enemy.casts(&HOP, &framed(&number(1, 0))).await,
                1 => enemy.casts(&HOP, &framed(&noise_bytes(frame, 200))).await,
                2 => {
                    enemy
                        .casts(&DIAL_BACK, &framed(&noise_bytes(frame, 2_000)))
                        .await
                }
                _ => enemy.casts(&DIAL_BACK, &varint(u64::MAX)).await,
            }
        }
        frames()
    };
    house
        .endures("relay and autonat: floods, by members", attack)
        .await;
}

/// Lies about lengths, streams without end, and bytes that come one at a time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lies_on_our_own_protocols_harm_nobody() {
    let mut house = House::stands().await;
    let lie = |frame: usize| match frame % 4 {
        0 => u32::MAX.to_be_bytes().to_vec(),
        1 => [&(1_u32 << 20).to_be_bytes()[..], &[1; 4_000]].concat(),
        2 => [&16_384_u32.to_be_bytes()[..], &[1; 100]].concat(),
        _ => noise_bytes(frame, 2_000),
    };
    let mut enemy = Attacker::stranger(&house.victim);
    let attack = async move {
        for frame in 0..frames() {
            enemy.casts(&admit::ADMIT_PROTOCOL, &lie(frame)).await;
        }
        frames()
    };
    house.endures("admission: lies, by strangers", attack).await;
    let mut enemy = Attacker::member(&house.victim);
    let attack = async move {
        for frame in 0..frames() {
            match frame % 2 {
                0 => enemy.casts(&calls::ASK_PROTOCOL, &lie(frame / 2)).await,
                _ => enemy.says(&streams::SYNC_PROTOCOL, &lie(frame / 2)).await,
            }
        }
        frames()
    };
    house
        .endures("questions and frames: lies, by members", attack)
        .await;
    let mut enemy = Attacker::member(&house.victim);
    let attack = async move {
        let mut pipes: Vec<Pipe> = Vec::new();
        let slow = [
            admit::ADMIT_PROTOCOL,
            calls::ASK_PROTOCOL,
            streams::SYNC_PROTOCOL,
        ];
        let mut sent = 0;
        // One byte each, ten times a second.
        while sent < frames() {
            for protocol in &slow {
                if pipes.len() < 24 {
                    pipes.push(enemy.opens(protocol).await);
                }
            }
            for pipe in &mut pipes {
                let _ = pipe.write(&[0]).await;
                sent += 1;
            }
            sleep(Duration::from_millis(100)).await;
        }
        sent
    };
    house.endures("slow streams, by a member", attack).await;
}

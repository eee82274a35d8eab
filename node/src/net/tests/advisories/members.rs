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
async fn is_heard(enemy: &mut Attacker, flood: &Flood) {
    for hello in 0.. {
        if flood.is_understood() {
            return;
        }
        let text = format!("hello {hello} of {}", enemy.run);
        let message = [
            field(2, text.as_bytes()),
            field(4, real_topic(0).as_bytes()),
        ]
        .concat();
        enemy.says(&MESH, &framed(&field(2, &message))).await;
        sleep(Duration::from_millis(50)).await;
    }
}

/// GHSA-gc42-3jg7-rxr2, GHSA-xqmp-fxgv-xvq5: a backoff that no clock can hold. GHSA-vrx6-jcp8-vm7m:
/// topics that nobody knows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn prunes_with_endless_backoff_and_for_unknown_topics_harm_nobody() {
    let backoffs = [
        u64::MAX,
        u64::MAX / 2,
        i64::MAX as u64,
        u64::MAX / 1_000,
        1 << 40,
        0,
    ];
    let class = Class::gossip("gossip: prunes, by a member");
    endures(class, |victim, mut flood| async move {
        let mut enemy = Attacker::member(&victim);
        is_heard(&mut enemy, &flood).await;
        while let Some(frame) = flood.next().await {
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
        flood.sent()
    })
    .await;
}

/// GHSA-g3g5-x568-qvqx: state for each topic a peer can think of. And floods of all the rest.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn floods_of_topics_and_of_control_messages_harm_nobody() {
    let class = Class::gossip("gossip: control floods, by members");
    endures(class, |victim, mut flood| async move {
        let mut enemy = Attacker::member(&victim);
        is_heard(&mut enemy, &flood).await;
        while let Some(frame) = flood.next().await {
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
        flood.sent()
    })
    .await;
}

/// Entries that are no good, packets that are too long, and requests without end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn floods_of_the_directories_harm_nobody() {
    let class = Class::new("directories: floods, by members", Some(FRAMES_RATE));
    let ended = endures(class, |victim, mut flood| async move {
        let mut enemy = Attacker::member(&victim);
        while let Some(frame) = flood.next().await {
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
        flood.sent()
    })
    .await;
    if let Some((_, state)) = ended {
        assert!(state.directory_refused > 0, "some of it was understood");
    }
}

/// What a relay and a prover of addresses is asked: all of it wrong.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn floods_of_reach_harm_nobody() {
    let class = Class::new("relay and autonat: floods, by members", Some(FRAMES_RATE));
    endures(class, |victim, mut flood| async move {
        let mut enemy = Attacker::member(&victim);
        while let Some(frame) = flood.next().await {
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
        flood.sent()
    })
    .await;
}

/// Lengths that lie, and bytes that mean nothing, for a protocol of our own.
fn lie(frame: usize) -> Vec<u8> {
    match frame % 4 {
        0 => u32::MAX.to_be_bytes().to_vec(),
        1 => [&(1_u32 << 20).to_be_bytes()[..], &[1; 4_000]].concat(),
        2 => [&16_384_u32.to_be_bytes()[..], &[1; 100]].concat(),
        _ => noise_bytes(frame, 2_000),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lies_to_admission_harm_nobody() {
    let class = Class::new("admission: lies, by strangers", Some(FRAMES_RATE));
    endures(class, |victim, mut flood| async move {
        let mut enemy = Attacker::stranger(&victim);
        while let Some(frame) = flood.next().await {
            enemy.casts(&admit::ADMIT_PROTOCOL, &lie(frame)).await;
        }
        flood.sent()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lies_in_questions_and_frames_harm_nobody() {
    let class = Class::new("questions and frames: lies, by members", Some(FRAMES_RATE));
    endures(class, |victim, mut flood| async move {
        let mut enemy = Attacker::member(&victim);
        while let Some(frame) = flood.next().await {
            match frame % 2 {
                0 => enemy.casts(&calls::ASK_PROTOCOL, &lie(frame / 2)).await,
                _ => enemy.says(&streams::SYNC_PROTOCOL, &lie(frame / 2)).await,
            }
        }
        flood.sent()
    })
    .await;
}

/// Streams without end, whose bytes come one at a time, ten times a second.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_that_never_end_harm_nobody() {
    let class = Class::new("slow streams, by a member", None);
    endures(class, |victim, mut flood| async move {
        let mut enemy = Attacker::member(&victim);
        let mut pipes: Vec<Pipe> = Vec::new();
        let slow = [
            admit::ADMIT_PROTOCOL,
            calls::ASK_PROTOCOL,
            streams::SYNC_PROTOCOL,
        ];
        loop {
            for protocol in &slow {
                if pipes.len() < 24 {
                    pipes.push(enemy.opens(protocol).await);
                }
            }
            for pipe in &mut pipes {
                if flood.next().await.is_none() {
                    return flood.sent();
                }
                let _ = pipe.write(&[0]).await;
            }
            sleep(Duration::from_millis(100)).await;
        }
    })
    .await;
}

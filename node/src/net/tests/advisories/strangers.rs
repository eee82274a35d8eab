//! What needs no admission: the wires themselves, and what is open to anyone who connects.

use libp2p::futures::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;

use super::raw::{
    Attacker, Victim, field, framed, named, noise_bytes, secret, secured, varint, wire, yamux,
};
use super::*;
use crate::net::{calls, streams};

const SYN: u16 = 1;

/// Of the enemies that hold a connection each, so many at once.
const ABREAST: usize = 16;

const PUSH: StreamProtocol = StreamProtocol::new("/ipfs/id/push/1.0.0");
const PING: StreamProtocol = StreamProtocol::new("/ipfs/ping/1.0.0");

/// Does `one` for each frame of a flood, `ABREAST` at a time.
pub(super) async fn abreast<F>(mut flood: Flood, one: impl Fn(usize) -> F) -> (usize, Duration)
where
    F: Future<Output = ()> + Send + 'static,
{
    let mut running = JoinSet::new();
    while let Some(number) = flood.next().await {
        if running.len() >= ABREAST {
            let ended = running.join_next().await.expect("some run");
            ended.expect("it reached the node");
        }
        running.spawn(one(number));
    }
    running.join_all().await;
    flood.sent()
}

/// CVE-2026-32314, CVE-2026-31814: frames of yamux that break its arithmetic. The enemy needs to be
/// nobody for it: this comes before any admission.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_of_yamux_that_overflow_its_windows_harm_nobody() {
    let class = Class::new("yamux: overflows, by strangers", Some(CONNECTS_RATE));
    endures(class, |victim, flood| async move {
        is_answered(&victim).await;
        let addr = victim.tcp;
        abreast(flood, move |frame| overflow(addr.clone(), frame)).await
    })
    .await;
}

/// The wire is understood: an honest ping of yamux is answered.
async fn is_answered(victim: &Victim) {
    let mut io = secured(&victim.tcp, secret(0)).await.expect("agrees");
    io.write_all(&yamux(2, SYN, 0, 7)).await.expect("sent");
    io.flush().await.expect("sent");
    let mut heard = Vec::new();
    while !heard.windows(12).any(|bytes| bytes == yamux(2, 2, 0, 7)) {
        let mut some = [0; 512];
        let count = timeout(PATIENCE, io.read(&mut some))
            .await
            .expect("no hang");
        heard.extend_from_slice(&some[..count.expect("it lives")]);
    }
}

/// One connection that says what breaks a yamux.
async fn overflow(addr: String, frame: usize) {
    let too_long = 256 * 1024 + 1;
    let bytes = match frame % 6 {
        0 => [yamux(0, SYN, 1, too_long), vec![0; too_long as usize]].concat(),
        1 => {
            let most = yamux(1, 0, 1, u32::MAX);
            [yamux(1, SYN, 1, u32::MAX), most.clone(), most].concat()
        }
        2 => [yamux(0, SYN, 1, u32::MAX), vec![0; 64]].concat(),
        3 => noise_bytes(frame, 1024),
        4 => (0..500)
            .flat_map(|id| yamux(1, SYN, 2 * id + 1, 0))
            .collect(),
        _ => [
            (0..100).flat_map(|id| yamux(2, SYN, 0, id)).collect(),
            yamux(3, 9, 9, 9),
        ]
        .concat(),
    };
    // Refused for want of room, or cut off half way: both are answers.
    let Ok(mut io) = secured(&addr, secret(frame as u32)).await else {
        return;
    };
    let _ = io.write_all(&bytes).await;
    let _ = io.flush().await;
    let _ = io.close().await;
    let mut rest = Vec::new();
    let _ = timeout(Duration::from_secs(1), io.read_to_end(&mut rest)).await;
}

/// What is open to anyone who connects: identify, ping, and the choice of a protocol.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_for_identify_and_ping_harms_nobody() {
    let class = Class::new(
        "identify and ping: garbage, by strangers",
        Some(FRAMES_RATE),
    );
    endures(class, |victim, mut flood| async move {
        let mut enemy = Attacker::stranger(&victim);
        while let Some(frame) = flood.next().await {
            let addrs: Vec<u8> = (0..50)
                .flat_map(|at| field(2, &noise_bytes(at, 60)))
                .collect();
            match frame % 5 {
                0 => {
                    enemy
                        .casts(&PUSH, &framed(&noise_bytes(frame, 2_000)))
                        .await
                }
                1 => {
                    enemy
                        .casts(&PUSH, &framed(&[field(1, &[0; 36]), addrs].concat()))
                        .await
                }
                2 => enemy.casts(&PUSH, &varint(u64::from(u32::MAX))).await,
                3 => enemy.casts(&PING, &noise_bytes(frame, frame % 32)).await,
                _ => enemy.casts(&PING, &noise_bytes(frame, 1_000)).await,
            }
        }
        flood.sent()
    })
    .await;
}

/// Names without end, and what is no name.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_in_the_choice_of_a_protocol_harms_nobody() {
    let class = Class::new(
        "multistream-select: garbage, by strangers",
        Some(CONNECTS_RATE),
    );
    endures(class, |victim, flood| async move {
        let addr = victim.tcp;
        abreast(flood, move |frame| babble(addr.clone(), frame)).await
    })
    .await;
}

/// One connection that says what is no choice.
async fn babble(addr: String, frame: usize) {
    let mut io = wire(&addr).await.expect("it listens");
    let hello = named("/multistream/1.0.0");
    let bytes = match frame % 4 {
        0 => [hello, vec![0xff; 64]].concat(),
        1 => [hello, framed(&[b'a'; 16_000]), vec![b'a'; 60_000]].concat(),
        // Name after name, none of which the node speaks.
        2 => {
            let names = (0..1_000).flat_map(|at| named(&format!("/nothing/{at}")));
            hello.into_iter().chain(names).collect()
        }
        _ => b"GET / HTTP/1.1\r\n\r\n".to_vec(),
    };
    let _ = io.write_all(&bytes).await;
    let _ = io.close().await;
    let mut rest = Vec::new();
    let _ = timeout(Duration::from_secs(1), io.read_to_end(&mut rest)).await;
}

/// Connections by the hundred from as many names, half of which never finish a handshake; and then
/// one more member, which comes in.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_connections_leaves_members_up_and_lets_another_in() {
    let class = Class::new("connections, by strangers", Some(CONNECTS_RATE));
    let ended = endures(class, |victim, flood| async move {
        let addr = victim.tcp;
        abreast(flood, move |number| half_way(addr.clone(), number)).await
    })
    .await;
    let Some((house, state)) = ended else { return };
    assert!(state.incoming_failed > 0, "half of them ended half way");
    let mut late = Side::friend(3, QUIC, &[&house.victim.quic]).await;
    late.until_up(house.node.key).await;
}

/// The same in small, without a handshake: who it was is told, and what it had stays.
#[tokio::test]
async fn who_opens_too_many_connections_is_named_and_keeps_what_it_may_have() {
    let mut node = Side::friend(1, TCP, &[]).await;
    let mut first = wire(&node.addr).await.expect("it listens");
    let mut rest = Vec::new();
    for _ in 0..200 {
        rest.push(wire(&node.addr).await.expect("it listens"));
    }
    let told = |event: &NetEvent| match event {
        NetEvent::Trouble(Trouble::Accept { why }) => Some(why.clone()),
        _ => None,
    };
    let why = node.until(told).await;
    assert!(why.contains("knocks too fast: 127.0.0.1"), "{why}");
    let hello = named("/multistream/1.0.0");
    first.write_all(&hello).await.expect("it stands");
    let mut heard = vec![0; hello.len()];
    first.read_exact(&mut heard).await.expect("it answers");
    assert_eq!(hello, heard);
}

/// One connection that comes to nothing.
async fn half_way(addr: String, number: usize) {
    let half = async {
        match number % 4 {
            0 => drop(wire(&addr).await.expect("it listens")),
            1 => {
                let io = wire(&addr).await.expect("it listens");
                sleep(Duration::from_millis(100)).await;
                drop(io);
            }
            _ => {
                let io = secured(&addr, secret(number as u32)).await;
                sleep(Duration::from_millis(100)).await;
                drop(io);
            }
        }
    };
    let _ = timeout(Duration::from_secs(2), half).await;
}

/// For a stranger nothing that stands behind the gate exists.
#[tokio::test]
async fn a_stranger_is_offered_nothing_that_stands_behind_the_gate() {
    let house = House::stands().await;
    let mut enemy = Attacker::stranger(&house.victim);
    for protocol in [
        &MESH,
        &REGION_TABLE,
        &HIVE_TABLE,
        &HOP,
        &DIAL_BACK,
        &calls::ASK_PROTOCOL,
        &streams::SYNC_PROTOCOL,
    ] {
        assert!(enemy.is_refused(protocol.as_ref()).await, "{protocol}");
    }
    assert_eq!(
        1, enemy.names,
        "on one connection, which stood all the time"
    );
    // And for a member each of them does: the names above are right.
    let mut member = Attacker::member(&house.victim);
    for protocol in [&MESH, &REGION_TABLE, &HIVE_TABLE, &HOP, &DIAL_BACK] {
        let _pipe = member.opens(protocol).await;
    }
}

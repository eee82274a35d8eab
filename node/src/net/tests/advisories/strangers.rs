//! What needs no admission: the wires themselves, and what is open to anyone who connects.

use libp2p::futures::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UdpSocket;
use tokio::task::JoinSet;

use super::raw::{
    Attacker, field, framed, named, noise_bytes, secret, secured, varint, wire, yamux,
};
use super::*;
use crate::net::{calls, streams};

/// Connections of the flood in the gate.
const GATE_CONNECTIONS: usize = 300;

/// Of the enemies that hold a connection each, so many at once.
const ABREAST: usize = 16;

const PUSH: StreamProtocol = StreamProtocol::new("/ipfs/id/push/1.0.0");
const PING: StreamProtocol = StreamProtocol::new("/ipfs/ping/1.0.0");

/// Does `one` for each of so many numbers, `ABREAST` at a time.
async fn abreast<F>(count: usize, one: impl Fn(usize) -> F) -> usize
where
    F: Future<Output = ()> + Send + 'static,
{
    let mut running = JoinSet::new();
    for number in 0..count {
        if running.len() >= ABREAST {
            let ended = running.join_next().await.expect("some run");
            ended.expect("it reached the node");
        }
        running.spawn(one(number));
    }
    running.join_all().await;
    count
}

/// CVE-2026-32314, CVE-2026-31814: frames of yamux that break its arithmetic. The enemy needs to be
/// nobody for it: this comes before any admission.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_of_yamux_that_overflow_its_windows_harm_nobody() {
    const SYN: u16 = 1;
    let mut house = House::stands().await;
    // The wire is understood: an honest ping of yamux is answered.
    let mut io = secured(&house.victim.tcp, secret(0)).await.expect("agrees");
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
    drop(io);
    let addr = house.victim.tcp.clone();
    let attack = abreast(frames(), move |frame| {
        let addr = addr.clone();
        async move {
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
    });
    house
        .endures("yamux: overflows, by strangers", attack)
        .await;
}

/// GHSA-5hq8-qhww-jm7q and its kin, as far as they come before a certificate.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn datagrams_that_are_no_handshake_harm_nobody() {
    let mut house = House::stands().await;
    let addr: Multiaddr = house.victim.quic.parse().expect("legal");
    let port = addr.iter().find_map(|part| match part {
        libp2p::multiaddr::Protocol::Udp(port) => Some(port),
        _ => None,
    });
    let port = port.expect("QUIC is over UDP");
    let attack = async move {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
        for frame in 0..frames() {
            // A long header of version 1, with ids of 8 bytes and no token.
            let start = [0xc3, 0, 0, 0, 1, 8];
            let ids = [
                &noise_bytes(frame, 8)[..],
                &[8],
                &noise_bytes(frame + 1, 8),
                &[0],
            ]
            .concat();
            let initial = |length: usize| {
                let head = [&start[..], &ids, &[0x44, 0x96]].concat();
                [head, noise_bytes(frame, length)].concat()
            };
            let bytes = match frame % 5 {
                0 => noise_bytes(frame, 1 + frame % 1_400),
                1 => initial(1_174),
                2 => initial(frame % 200),
                // A version that does not exist calls for an answer.
                3 => [&[0xc3, 0xba, 0xba, 0xba, 0xba, 8], &ids[..], &[0; 1_180]].concat(),
                // A short header, for a connection that is none.
                _ => [vec![0x43], noise_bytes(frame, 60)].concat(),
            };
            socket
                .send_to(&bytes, ("127.0.0.1", port))
                .await
                .expect("sent");
            if frame % 16 == 0 {
                tokio::task::yield_now().await;
            }
        }
        frames()
    };
    house.endures("QUIC: garbage, by strangers", attack).await;
}

/// What is open to anyone who connects: identify, ping, and the choice of a protocol.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_on_what_is_open_to_all_harms_nobody() {
    let mut house = House::stands().await;
    let mut enemy = Attacker::stranger(&house.victim);
    let attack = async move {
        for frame in 0..frames() {
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
        frames()
    };
    house
        .endures("identify and ping: garbage, by strangers", attack)
        .await;
    let addr = house.victim.tcp.clone();
    let attack = abreast(frames(), move |frame| {
        let addr = addr.clone();
        async move {
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
    });
    house
        .endures("multistream-select: garbage, by strangers", attack)
        .await;
}

/// Connections by the hundred from as many names, half of which never finish a handshake; and then
/// one more member, which comes in.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_connections_leaves_members_up_and_lets_another_in() {
    let mut house = House::stands().await;
    let count = if is_full() { FULL } else { GATE_CONNECTIONS };
    let addr = house.victim.tcp.clone();
    let attack = abreast(count, move |number| {
        let addr = addr.clone();
        async move {
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
    });
    let state = house.endures("connections, by strangers", attack).await;
    assert!(state.incoming_failed > 0, "half of them ended half way");
    let mut late = Side::friend(3, QUIC, &[&house.victim.quic]).await;
    late.until_up(house.node.key).await;
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

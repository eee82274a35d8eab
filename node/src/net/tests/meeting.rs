//! Honest nodes: meeting, talking, asking, and starting at all.

use super::*;

#[tokio::test]
async fn two_nodes_admit_each_other_and_exchange_frames_over_quic() {
    let (mut one, mut two) = friends(QUIC).await;
    assert!(one.addr.contains("/quic-v1/p2p/"), "{}", one.addr);
    assert_they_talk(&mut one, &mut two).await;
}

#[tokio::test]
async fn two_nodes_admit_each_other_and_exchange_frames_over_tcp() {
    let (mut one, mut two) = friends(TCP).await;
    assert!(one.addr.contains("/tcp/"), "{}", one.addr);
    assert_they_talk(&mut one, &mut two).await;

    let line = one.snapshot().await.peers.remove(0);
    assert_eq!(
        (two.key, true, true),
        (line.key, line.inbound, line.admitted)
    );
    assert_eq!(b"still there?".len() as u64 + 4, line.bytes_out);
    assert_eq!(b"still here".len() as u64 + 4, line.bytes_in);
}

#[tokio::test]
async fn the_longest_frame_arrives_whole_and_in_order() {
    let (one, mut two) = friends(QUIC).await;
    for fill in 0..6u8 {
        let frame = Bytes::from(vec![fill; FRAME_BYTES_MAX]);
        one.tell(NetCommand::Send { to: two.key, frame }).await;
    }
    for fill in 0..6u8 {
        let (_, frame) = two.frame().await;
        assert!(frame.len() == FRAME_BYTES_MAX && frame.iter().all(|byte| *byte == fill));
    }
}

#[tokio::test]
async fn nodes_that_dial_each_other_at_once_are_up_once() {
    let mut one = Side::friend(1, TCP, &[]).await;
    let mut two = Side::friend(2, TCP, &[]).await;
    let (to_one, to_two) = (vec![one.addr.clone()], vec![two.addr.clone()]);
    one.tell(NetCommand::Know {
        peer: two.key,
        addrs: to_two,
    })
    .await;
    two.tell(NetCommand::Know {
        peer: one.key,
        addrs: to_one,
    })
    .await;
    one.until_up(two.key).await;
    two.until_up(one.key).await;
    for _ in 0..3 {
        one.send(&two, b"ping").await;
        match two.event().await {
            NetEvent::Frame { frame, .. } => assert_eq!(Bytes::from("ping"), frame),
            other => panic!("nothing but frames may follow: {other:?}"),
        }
        two.send(&one, b"pong").await;
        match one.event().await {
            NetEvent::Frame { frame, .. } => assert_eq!(Bytes::from("pong"), frame),
            other => panic!("nothing but frames may follow: {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_hello_set_late_is_sent_to_those_already_connected() {
    let mut one = Side::friend(1, QUIC, &[]).await;
    let mut two = Side::silent(settings(2, QUIC, &[&one.addr]), 256).await;
    while one.snapshot().await.peers.is_empty() {
        sleep(Duration::from_millis(20)).await;
    }
    assert!(
        !one.snapshot().await.peers[0].admitted,
        "nobody vouched for it yet"
    );
    two.tell(NetCommand::SetHello(b"friend".to_vec())).await;
    one.until_up(two.key).await;
    two.until_up(one.key).await;
    assert_they_talk(&mut one, &mut two).await;
}

#[tokio::test]
async fn a_frame_to_a_peer_that_is_not_up_is_counted_not_kept() {
    let one = Side::friend(1, QUIC, &[]).await;
    one.tell(NetCommand::Send {
        to: [3; 32],
        frame: Bytes::from("lost"),
    })
    .await;
    assert_eq!(1, one.snapshot().await.dropped_not_up);
}

#[tokio::test]
async fn a_question_is_answered_without_admission() {
    let host = Side::friend(1, QUIC, &[]).await;
    let guest = Side::silent(settings(2, TCP, &[]), 256).await;
    let answer = guest
        .ask(&host.addr, b"invite 42")
        .await
        .expect("an answer");
    assert_eq!(b"certificate for 42".to_vec(), answer);
    let again = guest
        .ask(&host.addr, b"invite 43")
        .await
        .expect("over the same connection");
    assert_eq!(b"certificate for 43".to_vec(), again);

    let bare = host.addr.split("/p2p/").next().expect("a prefix");
    let third = guest
        .ask(bare, b"invite 44")
        .await
        .expect("without naming the peer");
    assert_eq!(b"certificate for 44".to_vec(), third);
    assert!(
        host.snapshot()
            .await
            .peers
            .iter()
            .all(|peer| !peer.admitted)
    );
}

#[tokio::test]
async fn a_question_nobody_can_answer_says_why() {
    let guest = Side::silent(settings(2, TCP, &[]), 256).await;
    let closed = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = closed.local_addr().expect("bound").port();
    drop(closed);
    for addr in [
        format!("/ip4/127.0.0.1/tcp/{port}"),
        format!("/ip4/127.0.0.1/udp/{port}/quic-v1"),
        format!(
            "/ip4/127.0.0.1/tcp/{port}/p2p/{}",
            peer_name(&guest.key).expect("a key")
        ),
    ] {
        match guest.ask(&addr, b"invite 1").await {
            Err(AskPeer::Unreachable { addr: named, .. }) => assert_eq!(addr, named),
            other => panic!("{addr}: {other:?}"),
        }
    }
    let nonsense = guest.ask("example.org:80", b"invite 1").await;
    assert!(
        matches!(nonsense, Err(AskPeer::MalformedAddr { .. })),
        "{nonsense:?}"
    );
    let long = guest
        .ask("/ip4/127.0.0.1/tcp/1", &vec![0; ADMIT_BYTES_MAX + 1])
        .await;
    assert!(matches!(long, Err(AskPeer::TooLong { .. })), "{long:?}");
}

/// What starting on `listen` with `seeds` gives.
async fn try_start(listen: &str, seeds: &[&str]) -> Result<NetHandle, StartNet> {
    let (_orders, commands) = mpsc::channel(1);
    let (reports, _events) = mpsc::channel(1);
    let stop = CancellationToken::new();
    let judge = judge(Arc::default(), Arc::default());
    start(
        settings(9, listen, seeds),
        judge,
        read_answer(),
        commands,
        reports,
        stop,
    )
    .await
}

#[tokio::test]
async fn an_address_in_use_is_reported_by_name() {
    for transport in [QUIC, TCP] {
        let one = Side::friend(1, transport, &[]).await;
        let taken = one.addr.split("/p2p/").next().expect("a prefix");
        match try_start(taken, &[]).await {
            Err(StartNet::AddressInUse { addr }) => assert_eq!(taken, addr),
            other => panic!("{taken}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_malformed_address_is_reported_by_name() {
    for (listen, seeds, wrong) in [
        ("localhost:4001", vec![], "localhost:4001"),
        (QUIC, vec!["/ip4/300.0.0.1/tcp/1"], "/ip4/300.0.0.1/tcp/1"),
        ("/unix/run", vec![], "/unix/run"),
    ] {
        match try_start(listen, &seeds).await {
            Err(StartNet::MalformedAddr { addr }) => assert_eq!(wrong, addr),
            other => panic!("{wrong}: {other:?}"),
        }
    }
}

//! What lasts and what ends: restarts, expulsion, full queues.

use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

use super::*;

/// A wire to a node that can be cut without either end being told: datagrams, carried both ways.
struct Wire {
    addr: String,
    cut: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Wire {
    async fn to(side: &Side) -> Self {
        let port = side.addr.split('/').nth(4).expect("an address of QUIC");
        let (near, far) = (Self::socket().await, Self::socket().await);
        far.connect(format!("127.0.0.1:{port}"))
            .await
            .expect("loopback");
        let port = near.local_addr().expect("bound").port();
        let cut = Arc::new(AtomicBool::new(false));
        let is_cut = cut.clone();
        let task = tokio::spawn(async move {
            let (mut there, mut back) = ([0; 65_535], [0; 65_535]);
            let mut dialler = None;
            loop {
                tokio::select! {
                    Ok((length, from)) = near.recv_from(&mut there) => {
                        dialler = Some(from);
                        if !is_cut.load(Ordering::SeqCst) {
                            let _ = far.send(&there[..length]).await;
                        }
                    }
                    Ok(length) = far.recv(&mut back) => {
                        if let Some(to) = dialler.filter(|_| !is_cut.load(Ordering::SeqCst)) {
                            let _ = near.send_to(&back[..length], to).await;
                        }
                    }
                }
            }
        });
        Self {
            addr: format!("/ip4/127.0.0.1/udp/{port}/quic-v1"),
            cut,
            task,
        }
    }

    async fn socket() -> UdpSocket {
        UdpSocket::bind("127.0.0.1:0").await.expect("a port")
    }
}

/// I2: no restart, no word to either end; the wire is cut and mended, and they go on.
#[tokio::test]
async fn a_peer_that_falls_silent_is_noticed_and_met_again_when_the_wire_is_mended() {
    let mut one = Side::friend(1, QUIC, &[]).await;
    let wire = Wire::to(&one).await;
    let mut two = Side::friend(2, QUIC, &[&wire.addr]).await;
    one.until_up(two.key).await;
    two.until_up(one.key).await;
    wire.cut.store(true, Ordering::SeqCst);
    two.until_down(one.key).await;
    one.until_down(two.key).await;
    wire.cut.store(false, Ordering::SeqCst);
    one.until_up(two.key).await;
    two.until_up(one.key).await;
    assert_they_talk(&mut one, &mut two).await;
}

#[tokio::test]
async fn a_restarted_peer_is_dialled_again_and_comes_up_again() {
    for transport in [TCP, QUIC] {
        let seed = Side::friend(1, transport, &[]).await;
        let (addr, key) = (seed.addr.clone(), seed.key);
        let place = addr.split("/p2p/").next().expect("a prefix").to_owned();
        // The name of the seed is not known beforehand.
        let mut two = Side::friend(2, transport, &[&place]).await;
        two.until_up(key).await;
        seed.end().await;
        two.until_down(key).await;

        let mut seed = Side::heir(1, &place, &[]).await;
        assert_eq!(key, seed.key);
        two.until_up(key).await;
        seed.until_up(two.key).await;
        assert_they_talk(&mut seed, &mut two).await;
    }
}

#[tokio::test]
async fn a_node_that_is_its_own_seed_is_no_peer_of_itself() {
    let first = Side::friend(1, TCP, &[]).await;
    let place = first
        .addr
        .split("/p2p/")
        .next()
        .expect("a prefix")
        .to_owned();
    first.end().await;
    let mut one = Side::heir(1, &place, &[&place]).await;
    let mut two = Side::friend(2, TCP, &[&place]).await;
    one.until_up(two.key).await;
    two.until_up(one.key).await;
    assert_eq!(1, one.snapshot().await.peers.len());
}

#[tokio::test]
async fn an_expelled_peer_is_not_heard_again() {
    let (mut one, two) = friends(QUIC).await;
    let (flooder, target) = (two.commands.clone(), one.key);
    let flood = tokio::spawn(async move {
        let frame = Bytes::from_static(b"flood");
        let send = || NetCommand::Send {
            to: target,
            frame: frame.clone(),
        };
        while flooder.send(send()).await.is_ok() {
            tokio::task::yield_now().await;
        }
    });
    let _ = one.frame().await;
    one.strict.store(true, Ordering::SeqCst);
    one.tell(NetCommand::Expel { peer: two.key }).await;
    one.until_down(two.key).await;

    // The expelled peer dials again, is turned away, and keeps flooding.
    while one.turned_away.load(Ordering::SeqCst) == 0 {
        sleep(Duration::from_millis(20)).await;
    }
    one.strict.store(false, Ordering::SeqCst);
    let mut three = Side::friend(3, QUIC, &[&one.addr]).await;
    three.until_up(one.key).await;
    three.send(&one, b"a friend").await;
    assert_eq!(
        (three.key, Bytes::from("a friend")),
        one.frame().await,
        "the first one heard"
    );
    flood.abort();
}

#[tokio::test]
async fn a_full_queue_drops_the_newest_counts_them_and_loses_nothing_else() {
    let mut one = Side::friend(1, QUIC, &[]).await;
    // The reader has room for few events and takes none for now.
    let mut two = Side::silent(settings(2, QUIC, &[&one.addr]), 4).await;
    two.tell(NetCommand::SetHello(b"friend".to_vec())).await;
    one.until_up(two.key).await;
    two.until_up(one.key).await;

    let mut sent: u64 = 0;
    let dropped = loop {
        let frame = Bytes::from([&sent.to_be_bytes()[..], &vec![0; 256 * 1024]].concat());
        one.tell(NetCommand::Send { to: two.key, frame }).await;
        sent += 1;
        let line = one.snapshot().await.peers.remove(0);
        if line.dropped > 0 {
            assert!(
                line.queued > 0 && line.queued <= QUEUE_FRAMES_MAX,
                "{}",
                line.queued
            );
            break line.dropped;
        }
        sleep(Duration::from_millis(2)).await;
    };
    assert_eq!(1, dropped);
    for number in 0..sent - dropped {
        let (_, frame) = two.frame().await;
        assert_eq!(
            number.to_be_bytes(),
            frame[..8],
            "in order and without a gap"
        );
    }
    assert_they_talk(&mut one, &mut two).await;
}

//! Reach on loopback: nodes that nobody can dial meet through a seed, and part from it again.

use super::*;

/// A node whose reach is set so, that introduces itself with `hello`.
async fn reaching(
    name: u8,
    listen: &[&str],
    hello: &[u8],
    reach: ReachSettings,
    seeds: &[&str],
) -> Side {
    let settings = NetSettings {
        listen: listen.iter().map(|addr| (*addr).to_owned()).collect(),
        reach,
        ..settings(name, QUIC, seeds)
    };
    let side = Side::silent(settings, 1024).await;
    side.tell(NetCommand::SetHello(hello.to_vec())).await;
    side
}

fn internet(relay: RelayUse) -> ReachSettings {
    ReachSettings {
        internet: true,
        relay,
        ..ReachSettings::default()
    }
}

/// A seed that relays.
async fn relay(listen: &str) -> Side {
    let reach = ReachSettings {
        serve: true,
        ..internet(RelayUse::Never)
    };
    reaching(1, &[listen], b"seed", reach, &[]).await
}

impl Side {
    /// The address at which a relay takes connections for it.
    async fn place(&mut self) -> String {
        self.until(|event| match event {
            NetEvent::Listening { addr } if addr.contains("p2p-circuit") => Some(addr.clone()),
            _ => None,
        })
        .await
    }

    /// Waits until the line of `peer` is as `wanted`.
    async fn until_line(&self, peer: NodeKey, wanted: impl Fn(&PeerLine) -> bool) -> PeerLine {
        loop {
            let lines = self.snapshot().await.peers;
            if let Some(line) = lines
                .into_iter()
                .find(|line| line.key == peer && wanted(line))
            {
                return line;
            }
            sleep(Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test]
async fn two_nodes_that_listen_nowhere_meet_through_a_seed_over_quic() {
    meet_through_a_seed(QUIC).await;
}

#[tokio::test]
async fn two_nodes_that_listen_nowhere_meet_through_a_seed_over_tcp() {
    meet_through_a_seed(TCP).await;
}

async fn meet_through_a_seed(transport: &str) {
    let seed = relay(transport).await;
    let always = internet(RelayUse::Always);
    let mut hidden = reaching(2, &[], b"friend", always, &[&seed.addr]).await;
    let place = hidden.place().await;
    let never = internet(RelayUse::Never);
    let mut other = reaching(3, &[], b"friend", never, &[&seed.addr]).await;
    other.until_up(seed.key).await;
    let addrs = vec![place];
    other
        .tell(NetCommand::Know {
            peer: hidden.key,
            addrs,
        })
        .await;
    other.until_up(hidden.key).await;
    hidden.until_up(other.key).await;
    assert_they_talk(&mut other, &mut hidden).await;

    let line = other.until_line(hidden.key, |line| line.admitted).await;
    assert!(
        line.relayed && line.addr.contains("p2p-circuit"),
        "{line:?}"
    );
    assert_eq!(vec![seed.key], hidden.snapshot().await.relays);
    let line = seed.until_line(hidden.key, |line| line.admitted).await;
    assert!(
        !line.relayed && line.bytes_in == 0,
        "frames pass the seed unread: {line:?}"
    );
}

#[tokio::test]
async fn a_stranger_behind_a_relay_is_a_stranger() {
    let seed = relay(QUIC).await;
    let always = internet(RelayUse::Always);
    let mut hidden = reaching(2, &[], b"friend", always, &[&seed.addr]).await;
    let place = hidden.place().await;
    let never = internet(RelayUse::Never);
    let mut foe = reaching(3, &[], b"friend", never, &[&seed.addr]).await;
    foe.until_up(seed.key).await;
    // From now on it shows what the hidden node does not accept.
    hidden.strict.store(true, Ordering::SeqCst);
    let addrs = vec![place];
    foe.tell(NetCommand::Know {
        peer: hidden.key,
        addrs,
    })
    .await;
    assert_eq!((hidden.key, "go away".to_owned()), foe.refusal().await);
    hidden.send(&foe, b"secret").await;
    assert_eq!(1, hidden.snapshot().await.dropped_not_up);
}

#[tokio::test]
async fn a_node_that_is_no_member_gets_no_place_at_a_relay() {
    let seed = relay(QUIC).await;
    seed.strict.store(true, Ordering::SeqCst);
    let always = internet(RelayUse::Always);
    let mut hidden = reaching(2, &[], b"friend", always, &[&seed.addr]).await;
    assert_eq!(seed.key, hidden.refusal().await.0);
    assert_eq!(Vec::<NodeKey>::new(), hidden.snapshot().await.relays);
}

#[tokio::test]
async fn a_seed_of_another_region_relays_for_nobody_here() {
    let reach = ReachSettings {
        serve: true,
        ..internet(RelayUse::Never)
    };
    // It says that it is from elsewhere, and so is no seed of ours.
    let seed = reaching(1, &[QUIC], b"foreigner", reach, &[]).await;
    let always = internet(RelayUse::Always);
    let mut hidden = reaching(2, &[], b"friend", always, &[&seed.addr]).await;
    hidden.until_up(seed.key).await;
    for _ in 0..40 {
        assert_eq!(Vec::<NodeKey>::new(), hidden.snapshot().await.relays);
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn two_nodes_that_met_through_a_seed_go_on_without_it() {
    let seed = relay(QUIC).await;
    let always = internet(RelayUse::Always);
    let mut one = reaching(2, &[QUIC], b"friend", always, &[&seed.addr]).await;
    let place = one.place().await;
    let never = internet(RelayUse::Never);
    let mut two = reaching(3, &[QUIC], b"friend", never, &[&seed.addr]).await;
    two.until_up(seed.key).await;
    let addrs = vec![place];
    two.tell(NetCommand::Know {
        peer: one.key,
        addrs,
    })
    .await;
    two.until_up(one.key).await;
    one.until_up(two.key).await;
    let line = two
        .until_line(one.key, |line| line.admitted && !line.relayed)
        .await;
    assert!(!line.addr.contains("p2p-circuit"), "{line:?}");
    assert_they_talk(&mut one, &mut two).await;
    assert_they_talk(&mut two, &mut one).await;
}

#[tokio::test]
async fn an_address_counts_as_ours_once_a_seed_has_dialled_it() {
    let seed = relay(QUIC).await;
    let auto = internet(RelayUse::Auto);
    let one = reaching(2, &[QUIC], b"friend", auto, &[&seed.addr]).await;
    let bare = one.addr.split("/p2p/").next().expect("a prefix").to_owned();
    while !one
        .snapshot()
        .await
        .external
        .iter()
        .any(|addr| addr.starts_with(&bare))
    {
        sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(
        Vec::<NodeKey>::new(),
        one.snapshot().await.relays,
        "so it needs no relay"
    );
}

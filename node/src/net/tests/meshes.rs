//! Meshes between real nodes: what is said, who hears it, and that nothing goes on unjudged.

use super::*;

impl Side {
    /// A node that is admitted everywhere and lies inside of nothing.
    async fn foreigner(name: u8, seeds: &[&str]) -> Self {
        let side = Self::silent(settings(name, QUIC, seeds), 256).await;
        side.tell(NetCommand::SetHello(b"foreigner".to_vec())).await;
        side
    }

    async fn says(&self, text: &'static [u8]) {
        self.tell(NetCommand::Publish {
            mesh: "eu".to_owned(),
            lane: 7,
            frame: Bytes::from_static(text),
        })
        .await;
    }

    /// The next message of the mesh: its ticket, who passed it on, and what it says.
    async fn hears(&mut self) -> (u64, NodeKey, Bytes) {
        self.until(|event| match event {
            NetEvent::Gossip {
                ticket,
                from,
                frame,
                ..
            } => Some((*ticket, *from, frame.clone())),
            _ => None,
        })
        .await
    }

    async fn judges(&self, ticket: u64, verdict: GossipVerdict) {
        self.tell(NetCommand::Judged { ticket, verdict }).await;
    }

    /// Waits until it passes messages on to `count` peers on every shard.
    async fn is_linked(&self, count: usize) {
        while self.snapshot().await.meshes[0].degree < count as f64 {
            sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Three friends in a line.
async fn line() -> (Side, Side, Side) {
    let mut one = Side::friend(1, QUIC, &[]).await;
    let mut two = Side::friend(2, QUIC, &[&one.addr]).await;
    let three = Side::friend(3, QUIC, &[&two.addr]).await;
    one.until_up(two.key).await;
    two.until_up(three.key).await;
    two.is_linked(2).await;
    one.is_linked(1).await;
    (one, two, three)
}

#[tokio::test]
async fn a_message_goes_on_only_once_it_is_judged_good() {
    let (one, mut two, mut three) = line().await;
    one.says(b"let this end").await;
    let (ticket, from, said) = two.hears().await;
    assert_eq!((one.key, &said[..]), (from, &b"let this end"[..]));
    two.judges(ticket, GossipVerdict::Ignore).await;
    one.says(b"pass this on").await;
    let (ticket, ..) = two.hears().await;
    two.judges(ticket, GossipVerdict::Accept).await;
    let (_, from, said) = three.hears().await;
    assert_eq!((two.key, &said[..]), (from, &b"pass this on"[..]));
    // A verdict that comes twice, or for nothing, is no harm.
    two.judges(ticket, GossipVerdict::Reject).await;
    two.judges(u64::MAX, GossipVerdict::Accept).await;
    assert_eq!(1, two.snapshot().await.meshes[0].peers.min(1));
}

/// While the mesh is being formed a message goes directly, so that nobody waits for a heartbeat.
#[tokio::test]
async fn what_is_said_before_anybody_listens_is_heard_all_the_same() {
    let (one, mut two) = friends(QUIC).await;
    one.says(b"first words").await;
    let said = two
        .until(|event| match event {
            NetEvent::Gossip { frame, .. } | NetEvent::Frame { frame, .. } => Some(frame.clone()),
            _ => None,
        })
        .await;
    assert_eq!("first words", said);
}

/// I3: a peer outside the region, admitted and lying about what it is, subscribes to the mesh and
/// speaks in it. It is not told and not heard: for it, the protocol does not exist.
#[tokio::test]
async fn whoever_is_outside_the_region_neither_hears_nor_is_heard() {
    let (one, two, _three) = line().await;
    let mut liar = Side::foreigner(4, &[&one.addr, &two.addr]).await;
    liar.until_up(one.key).await;
    while liar
        .snapshot()
        .await
        .peers
        .iter()
        .filter(|p| p.admitted)
        .count()
        < 2
    {
        sleep(Duration::from_millis(20)).await;
    }
    for _ in 0..20 {
        one.says(b"a word between friends").await;
        liar.says(b"listen to me").await;
    }
    sleep(Duration::from_secs(2)).await;
    assert_eq!(0.0, liar.snapshot().await.meshes[0].degree);
    assert_eq!(0, liar.snapshot().await.meshes[0].heard);
    assert_eq!(0, one.snapshot().await.meshes[0].heard);
    one.send(&liar, b"the only thing it hears").await;
    let heard = liar.until(|event| match event {
        NetEvent::Gossip { frame, .. } | NetEvent::Frame { frame, .. } => Some(frame.clone()),
        _ => None,
    });
    assert_eq!("the only thing it hears", heard.await);
}

/// Expulsion takes the mesh away too.
#[tokio::test]
async fn an_expelled_peer_is_out_of_the_mesh_at_once() {
    let (one, two, mut three) = line().await;
    two.tell(NetCommand::Expel { peer: three.key }).await;
    three.until_down(two.key).await;
    while two.snapshot().await.meshes[0].peers > 1 {
        sleep(Duration::from_millis(20)).await;
    }
    one.says(b"not for the third").await;
    assert_eq!(0, three.snapshot().await.meshes[0].heard);
}

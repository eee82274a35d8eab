//! Strangers and enemies: a bare libp2p peer that speaks what it likes.

use libp2p::futures::{AsyncReadExt, AsyncWriteExt, StreamExt};
use libp2p::request_response::{self, Message};
use libp2p::swarm::{NetworkBehaviour, SwarmEvent};
use libp2p::{PeerId, Stream, StreamProtocol, SwarmBuilder, noise, tcp, yamux};
use libp2p_stream::{Control, OpenStreamError};
use tokio::task::JoinHandle;

use super::*;
use crate::net::{admit, calls, streams, translate};

#[derive(NetworkBehaviour)]
struct Bare {
    admit: admit::Behaviour,
    stream: libp2p_stream::Behaviour,
}

/// A peer without a gate. It answers every hello with "welcome".
pub(super) struct Enemy {
    key: NodeKey,
    control: Control,
    target: PeerId,
    task: JoinHandle<()>,
}

impl Drop for Enemy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Enemy {
    /// Connects to `side`; says `hello` if it has one, and waits for the answer.
    pub(super) async fn meet(side: &Side, hello: Option<&[u8]>) -> Self {
        Self::reach([66; 32], &side.addr, &side.key, hello).await
    }

    /// The same, under a name of its own choice.
    pub(super) async fn reach(
        secret: [u8; 32],
        addr: &str,
        key: &NodeKey,
        hello: Option<&[u8]>,
    ) -> Self {
        let pair = translate::keypair(secret);
        let stream = libp2p_stream::Behaviour::new();
        let control = stream.new_control();
        let mut swarm = SwarmBuilder::with_existing_identity(pair.clone())
            .with_tokio()
            .with_tcp(
                tcp::Config::default(),
                noise::Config::new,
                yamux::Config::default,
            )
            .expect("noise")
            .with_quic()
            .with_behaviour(|_| Bare {
                admit: admit::behaviour(),
                stream,
            })
            .expect("a behaviour")
            .with_swarm_config(|config| config.with_idle_connection_timeout(PATIENCE))
            .build();
        swarm
            .dial(addr.parse::<Multiaddr>().expect("legal"))
            .expect("dials");
        let target = translate::peer_of(key).expect("a key");
        let hello = hello.map(<[u8]>::to_vec);
        let waits = hello.is_some();
        let (met, meeting) = oneshot::channel();
        let task = tokio::spawn(async move {
            let mut met = Some(met);
            loop {
                match swarm.select_next_some().await {
                    SwarmEvent::ConnectionEstablished { .. } => {
                        if let Some(hello) = &hello {
                            swarm
                                .behaviour_mut()
                                .admit
                                .send_request(&target, hello.clone());
                        }
                        if !waits {
                            met.take().map(|met| met.send(()));
                        }
                    }
                    SwarmEvent::Behaviour(BareEvent::Admit(request_response::Event::Message {
                        message,
                        ..
                    })) => match message {
                        Message::Request { channel, .. } => {
                            let welcome = b"welcome".to_vec();
                            let _ = swarm.behaviour_mut().admit.send_response(channel, welcome);
                        }
                        Message::Response { .. } => {
                            met.take().map(|met| met.send(()));
                        }
                    },
                    _ => {}
                }
            }
        });
        timeout(PATIENCE, meeting)
            .await
            .expect("no hang")
            .expect("meets");
        let key = translate::key_of(&pair.public().to_peer_id()).expect("ed25519");
        Self {
            key,
            control,
            target,
            task,
        }
    }

    pub(super) async fn open(
        &mut self,
        protocol: StreamProtocol,
    ) -> Result<Stream, OpenStreamError> {
        let opened = self.control.open_stream(self.target, protocol);
        timeout(PATIENCE, opened).await.expect("no hang")
    }
}

#[tokio::test]
async fn a_stranger_the_judge_refuses_gets_no_frame_and_no_stream_over_quic() {
    refuse_a_stranger(QUIC).await;
}

#[tokio::test]
async fn a_stranger_the_judge_refuses_gets_no_frame_and_no_stream_over_tcp() {
    refuse_a_stranger(TCP).await;
}

async fn refuse_a_stranger(transport: &str) {
    let mut one = Side::friend(1, transport, &[]).await;
    let mut liar = Enemy::meet(&one, Some(b"let me in")).await;
    for protocol in [streams::SYNC_PROTOCOL, calls::ASK_PROTOCOL] {
        let refused = liar.open(protocol).await;
        assert!(
            matches!(&refused, Err(OpenStreamError::UnsupportedProtocol(_))),
            "{transport}: {refused:?}"
        );
    }
    one.tell(NetCommand::Send {
        to: liar.key,
        frame: Bytes::from("secret"),
    })
    .await;
    let state = one.snapshot().await;
    assert_eq!(1, state.dropped_not_up);
    assert!(
        state
            .peers
            .iter()
            .all(|peer| !peer.admitted && peer.bytes_out == 0)
    );
    // After its grace it is shown the door.
    let (who, _) = one.refusal().await;
    assert_eq!(liar.key, who);
}

#[tokio::test]
async fn a_peer_that_skips_admission_cannot_open_a_frame_stream() {
    let one = Side::friend(1, QUIC, &[]).await;
    let mut enemy = Enemy::meet(&one, None).await;
    for _ in 0..3 {
        let refused = enemy.open(streams::SYNC_PROTOCOL).await;
        assert!(
            matches!(&refused, Err(OpenStreamError::UnsupportedProtocol(_))),
            "{refused:?}"
        );
    }
}

#[tokio::test]
async fn a_node_that_another_refuses_is_told_why_and_hears_nothing() {
    let one = Side::friend(1, QUIC, &[]).await;
    let mut two = Side::silent(settings(2, QUIC, &[&one.addr]), 256).await;
    two.tell(NetCommand::SetHello(b"foe".to_vec())).await;
    assert_eq!((one.key, "go away".to_owned()), two.refusal().await);
    one.send(&two, b"secret").await;
    assert_eq!(
        0,
        two.snapshot()
            .await
            .peers
            .iter()
            .map(|peer| peer.bytes_in)
            .sum::<u64>()
    );
}

#[tokio::test]
async fn garbage_and_lies_on_the_admission_protocol_harm_nobody() {
    let (mut one, mut two) = friends(QUIC).await;
    let mut enemy = Enemy::meet(&one, None).await;
    let lies: [&[u8]; 4] = [
        &[0xff; 64],
        &[0, 0, 0x40, 1, 7],
        &[0, 0, 0, 9, 1],
        b"GET / HTTP/1.1",
    ];
    for lie in lies {
        let mut stream = enemy
            .open(admit::ADMIT_PROTOCOL)
            .await
            .expect("open to all");
        let _ = stream.write_all(lie).await;
        let _ = stream.close().await;
        let mut answer = Vec::new();
        let _ = timeout(PATIENCE, stream.read_to_end(&mut answer))
            .await
            .expect("no hang");
        assert_eq!(Vec::<u8>::new(), answer, "a lie gets no answer");
    }
    assert_they_talk(&mut one, &mut two).await;
}

#[tokio::test]
async fn the_ninth_request_of_a_stranger_ends_its_connection() {
    let mut one = Side::friend(1, TCP, &[]).await;
    let mut enemy = Enemy::meet(&one, None).await;
    for number in 1..=9 {
        let Ok(mut stream) = enemy.open(admit::ADMIT_PROTOCOL).await else {
            break;
        };
        let _ = stream.write_all(&[0, 0, 0, 2, b'h', b'i']).await;
        let mut answer = Vec::new();
        let _ = timeout(PATIENCE, stream.read_to_end(&mut answer))
            .await
            .expect("no hang");
        assert_eq!(number < 9, answer.ends_with(b"go away"), "request {number}");
    }
    let (who, why) = one.refusal().await;
    assert_eq!(
        (enemy.key, "too many admission requests"),
        (who, why.as_str())
    );
}

#[tokio::test]
async fn an_admitted_peer_that_lies_about_a_frame_is_cut_off_and_others_are_not() {
    let (mut one, mut two) = friends(QUIC).await;
    let mut enemy = Enemy::meet(&one, Some(b"friend")).await;
    one.until_up(enemy.key).await;
    let mut stream = enemy.open(streams::SYNC_PROTOCOL).await.expect("admitted");
    let mut ready = [0];
    stream.read_exact(&mut ready).await.expect("a reader");
    stream
        .write_all(&[0, 0, 0, 2, b'h', b'i'])
        .await
        .expect("sent");
    assert_eq!((enemy.key, Bytes::from("hi")), one.frame().await);

    stream
        .write_all(&[0x00, 0x10, 0x00, 0x01])
        .await
        .expect("sent");
    stream.flush().await.expect("sent");
    let claimed = one
        .until(|event| match event {
            NetEvent::Trouble(Trouble::BadFrame {
                source: ReadFrame::TooLong { claimed },
                ..
            }) => Some(*claimed),
            _ => None,
        })
        .await;
    assert_eq!(FRAME_BYTES_MAX + 1, claimed);
    one.until_down(enemy.key).await;
    assert_they_talk(&mut one, &mut two).await;
}

#[tokio::test]
async fn a_peer_admitted_on_one_side_only_is_not_heard() {
    // It is welcome here, but it never says that we are welcome there.
    let mut one = Side::silent(settings(1, QUIC, &[]), 256).await;
    let mut enemy = Enemy::meet(&one, Some(b"friend")).await;
    let mut stream = enemy
        .open(streams::SYNC_PROTOCOL)
        .await
        .expect("we listen to it");
    stream
        .write_all(&[0, 0, 0, 2, b'h', b'i'])
        .await
        .expect("sent");
    stream.flush().await.expect("sent");
    assert_eq!(1, one.snapshot().await.strangers);
    loop {
        match one.event().await {
            NetEvent::Listening { .. } => {}
            NetEvent::Refused { why, .. } => {
                assert_eq!("it did not admit us in time", why);
                break;
            }
            other => panic!("heard too early: {other:?}"),
        }
    }
}

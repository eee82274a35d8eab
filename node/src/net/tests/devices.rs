//! Devices at the edge: let in to one protocol, answered there, and never a peer.

use libp2p::StreamProtocol;
use libp2p::futures::{AsyncReadExt, AsyncWriteExt};
use libp2p_stream::OpenStreamError;

use super::hostile::Enemy;
use super::*;

const EDGE: StreamProtocol = StreamProtocol::new("/aquifer/edge/1");

/// The reply to one word, once the node has opened the protocol.
async fn reply(device: &mut Enemy, word: &[u8]) -> Vec<u8> {
    let mut stream = loop {
        match device.open(EDGE).await {
            Ok(stream) => break stream,
            Err(OpenStreamError::UnsupportedProtocol(_)) => {
                sleep(Duration::from_millis(20)).await;
            }
            Err(error) => panic!("{error}"),
        }
    };
    let length = u32::try_from(word.len()).expect("short").to_be_bytes();
    let exchange = async {
        stream.write_all(&[&length, word].concat()).await?;
        stream.flush().await?;
        let mut length = [0; 4];
        stream.read_exact(&mut length).await?;
        let mut bytes = vec![0; u32::from_be_bytes(length) as usize];
        stream.read_exact(&mut bytes).await?;
        Ok::<_, io::Error>(bytes)
    };
    let reply = timeout(PATIENCE, exchange).await.expect("no hang");
    reply.expect("it is answered")
}

#[tokio::test]
async fn a_device_is_answered_on_one_protocol_and_is_no_peer() {
    let mut node = Side::friend(1, QUIC, &[]).await;
    let mut device = Enemy::meet(&node, Some(b"device")).await;
    // Nobody hears devices yet: no bytes at all say so.
    assert_eq!(Vec::<u8>::new(), reply(&mut device, b"early").await);
    let (heard, mut words) = mpsc::channel(CALLS_MAX);
    node.tell(NetCommand::AnswerCalls {
        of: Callers::Devices,
        node: heard,
    })
    .await;
    let answering = tokio::spawn(async move {
        let word = words.recv().await.expect("one comes");
        word.reply.send(b"done".to_vec()).expect("it waits");
        (word.request, words)
    });
    assert_eq!(b"done".to_vec(), reply(&mut device, b"word").await);
    assert_eq!(b"word".to_vec(), answering.await.expect("it ends").0);
    for protocol in ["/aquifer/sync/1", "/aquifer/ask/1", "/aquifer/test/mesh/eu"] {
        let protocol = StreamProtocol::new(protocol);
        let opened = device.open(protocol.clone()).await;
        let refused = matches!(opened, Err(OpenStreamError::UnsupportedProtocol(_)));
        assert!(refused, "{protocol}");
    }
    assert!(
        node.snapshot()
            .await
            .peers
            .iter()
            .all(|line| !line.admitted)
    );
    while let Ok(event) = node.events.try_recv() {
        assert!(!matches!(event, NetEvent::Up { .. }), "{event:?}");
    }
}

#[tokio::test]
async fn whoever_is_no_device_does_not_find_their_protocol() {
    let node = Side::friend(1, QUIC, &[]).await;
    for hello in [None, Some(&b"friend"[..]), Some(b"stranger")] {
        let mut other = Enemy::meet(&node, hello).await;
        sleep(Duration::from_millis(200)).await;
        let opened = other.open(EDGE).await;
        assert!(matches!(
            opened,
            Err(OpenStreamError::UnsupportedProtocol(_))
        ));
    }
}

//! Calls between two nodes: answered, refused, late, too long, and taken back.

use super::*;

/// A call under way.
async fn calls(
    from: &Side,
    to: &Side,
    request: &[u8],
    patience: Duration,
) -> oneshot::Receiver<Result<Vec<u8>, CallPeer>> {
    let (reply, answer) = oneshot::channel();
    from.tell(NetCommand::Call {
        to: to.key,
        request: request.to_vec(),
        patience,
        reply,
    })
    .await;
    answer
}

async fn answer(of: oneshot::Receiver<Result<Vec<u8>, CallPeer>>) -> Result<Vec<u8>, CallPeer> {
    timeout(PATIENCE, of)
        .await
        .expect("bounded")
        .expect("the network runs")
}

/// From now on `side` hears questions here.
async fn hears(side: &Side) -> mpsc::Receiver<Called> {
    let (node, called) = mpsc::channel(CALLS_MAX);
    side.tell(NetCommand::AnswerCalls {
        of: Callers::Nodes,
        node,
    })
    .await;
    called
}

/// The next question.
async fn next(called: &mut mpsc::Receiver<Called>) -> Called {
    timeout(PATIENCE, called.recv())
        .await
        .expect("no hang")
        .expect("the network runs")
}

#[tokio::test]
async fn a_question_between_friends_is_answered_both_ways_and_names_who_asks() {
    for transport in [QUIC, TCP] {
        let (one, two) = friends(transport).await;
        for (asker, asked) in [(&one, &two), (&two, &one)] {
            let mut called = hears(asked).await;
            let longest = vec![7; QUESTION_BYTES_MAX];
            let waiting = calls(asker, asked, &longest, CALL_PATIENCE_MAX).await;
            let call = next(&mut called).await;
            assert_eq!((asker.key, &longest), (call.from, &call.request));
            let reply = vec![9; ANSWER_BYTES_MAX];
            call.reply.send(reply.clone()).expect("waits");
            assert_eq!(Ok(reply), answer(waiting).await, "{transport}");
        }
    }
}

#[tokio::test]
async fn who_cannot_answer_says_so_at_once() {
    let (one, two) = friends(QUIC).await;
    // Nobody there answers questions yet.
    let waiting = calls(&one, &two, b"?", CALL_PATIENCE_MAX).await;
    assert_eq!(Err(CallPeer::PeerBusy), answer(waiting).await);
    let mut called = hears(&two).await;
    // The node drops the question: that refuses it too.
    let waiting = calls(&one, &two, b"?", CALL_PATIENCE_MAX).await;
    drop(next(&mut called).await);
    assert_eq!(Err(CallPeer::PeerBusy), answer(waiting).await);
    let long = vec![0; QUESTION_BYTES_MAX + 1];
    let waiting = calls(&one, &two, &long, CALL_PATIENCE_MAX).await;
    let length = long.len();
    assert_eq!(Err(CallPeer::TooLong { length }), answer(waiting).await);
    let stranger = Side::friend(9, QUIC, &[]).await;
    let waiting = calls(&one, &stranger, b"?", CALL_PATIENCE_MAX).await;
    assert_eq!(Err(CallPeer::NotUp), answer(waiting).await);
}

#[tokio::test]
async fn a_silent_peer_is_late_and_one_call_too_many_does_not_start() {
    let (one, two) = friends(QUIC).await;
    let mut called = hears(&two).await;
    let mut waiting = Vec::new();
    for _ in 0..8 {
        waiting.push(calls(&one, &two, b"?", Duration::from_secs(1)).await);
    }
    let ninth = calls(&one, &two, b"?", CALL_PATIENCE_MAX).await;
    assert_eq!(Err(CallPeer::Busy), answer(ninth).await);
    let mut held = Vec::new();
    for _ in 0..8 {
        held.push(next(&mut called).await);
    }
    for call in waiting {
        assert_eq!(Err(CallPeer::Late), answer(call).await);
    }
    // Their time is over, so there is room again, here; there, as soon as they are let go.
    held.clear();
    let again = calls(&one, &two, b"again", CALL_PATIENCE_MAX).await;
    let call = next(&mut called).await;
    call.reply.send(b"yes".to_vec()).expect("waits");
    assert_eq!(Ok(b"yes".to_vec()), answer(again).await);
}

#[tokio::test]
async fn an_answer_too_long_breaks_its_own_call_only() {
    let (mut one, mut two) = friends(TCP).await;
    let mut called = hears(&two).await;
    let waiting = calls(&one, &two, b"?", CALL_PATIENCE_MAX).await;
    let call = next(&mut called).await;
    let long = vec![1; ANSWER_BYTES_MAX + 1];
    call.reply.send(long).expect("waits");
    let broken = answer(waiting).await;
    assert!(
        matches!(&broken, Err(CallPeer::Broken { .. })),
        "{broken:?}"
    );
    let waiting = calls(&one, &two, b"?", CALL_PATIENCE_MAX).await;
    let call = next(&mut called).await;
    call.reply.send(b"short".to_vec()).expect("waits");
    assert_eq!(Ok(b"short".to_vec()), answer(waiting).await);
    assert_they_talk(&mut one, &mut two).await;
}

#[tokio::test]
async fn an_expelled_peer_asks_no_more() {
    let (one, mut two) = friends(QUIC).await;
    let mut called = hears(&one).await;
    one.tell(NetCommand::Expel { peer: two.key }).await;
    let waiting = calls(&one, &two, b"?", CALL_PATIENCE_MAX).await;
    assert_eq!(Err(CallPeer::NotUp), answer(waiting).await);
    two.until_down(one.key).await;
    let waiting = calls(&two, &one, b"?", CALL_PATIENCE_MAX).await;
    assert_eq!(Err(CallPeer::NotUp), answer(waiting).await);
    assert!(called.try_recv().is_err(), "nothing was heard");
}

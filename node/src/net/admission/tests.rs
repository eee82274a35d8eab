//! Sessions, strangers on a short lead, round trips, and connections that are not needed.

use super::link::SETTLED;
use super::*;
use crate::net::translate;

fn peer() -> (PeerId, NodeKey) {
    let id = translate::keypair([1; 32]).public().to_peer_id();
    (id, translate::key_of(&id).expect("ed25519"))
}

fn link(number: usize) -> ConnectionId {
    ConnectionId::new_unchecked(number)
}

fn end() -> End {
    End {
        addr: "/ip4/127.0.0.1/tcp/1".to_owned(),
        inbound: true,
        relayed: false,
    }
}

#[tokio::test]
async fn a_session_begins_once_and_ends_with_the_last_admitted_connection() {
    let streams = Streams::new(libp2p_stream::Behaviour::new().new_control());
    let (id, key) = peer();
    let now = Instant::now();
    let mut peers = Peers::default();
    peers.join(id, key, link(1), end(), now);
    peers.join(id, key, link(2), end(), now);
    peers.get_mut(&id).expect("joined").admit(Vec::new(), false);
    assert!(
        peers.settle(id, &streams).is_none(),
        "one verdict is not enough"
    );
    peers.get_mut(&id).expect("joined").admitted_us();
    assert!(peers.settle(id, &streams).is_some());
    assert!(peers.settle(id, &streams).is_none(), "up once");

    peers.join(id, key, link(3), end(), now);
    assert!(matches!(peers.leave(&id, link(1)), Left::Quietly));
    assert!(
        matches!(peers.leave(&id, link(2)), Left::Down(_)),
        "the third is a stranger"
    );
    assert!(matches!(peers.leave(&id, link(3)), Left::Quietly));
    assert!(peers.get(&id).is_none());
}

#[tokio::test]
async fn a_stranger_has_eight_requests_and_fifteen_seconds() {
    let (id, key) = peer();
    let now = Instant::now();
    let mut peers = Peers::default();
    peers.join(id, key, link(1), end(), now);
    let stranger = peers.get_mut(&id).expect("joined");
    for _ in 0..STRANGER_REQUESTS_MAX {
        assert!(stranger.may_ask(now));
    }
    assert!(
        !stranger.may_ask(now + REQUESTS_WINDOW),
        "and time does not refill it"
    );
    assert!(
        peers
            .overdue(now + GRACE - Duration::from_millis(1))
            .is_empty()
    );
    assert_eq!(vec![(id, link(1))], peers.overdue(now + GRACE));
    assert_eq!((1, Some(link(1))), peers.waiting());
}

#[tokio::test]
async fn an_expelled_peer_is_not_heard_until_it_reconnects() {
    let streams = Streams::new(libp2p_stream::Behaviour::new().new_control());
    let (id, key) = peer();
    let now = Instant::now();
    let mut peers = Peers::default();
    peers.join(id, key, link(1), end(), now);
    let entry = peers.get_mut(&id).expect("joined");
    entry.admit(Vec::new(), false);
    entry.admitted_us();
    peers.settle(id, &streams);
    let entry = peers.get_mut(&id).expect("joined");
    assert!(entry.expel());
    assert!(!entry.may_ask(now));
    entry.admit(Vec::new(), false);
    assert!(peers.settle(id, &streams).is_none());
}

#[tokio::test]
async fn a_round_trip_is_told_when_it_is_first_known_and_when_it_has_changed_much() {
    let streams = Streams::new(libp2p_stream::Behaviour::new().new_control());
    let (id, key) = peer();
    let mut peers = Peers::default();
    peers.join(id, key, link(1), end(), Instant::now());
    let entry = peers.get_mut(&id).expect("joined");
    let ms = Duration::from_millis;
    entry.pinged(link(1), Some(ms(80)));
    assert_eq!(None, entry.rtt_news(), "it is not up yet");
    entry.admit(Vec::new(), false);
    entry.admitted_us();
    peers.settle(id, &streams);
    let entry = peers.get_mut(&id).expect("joined");
    assert_eq!(Some(ms(80)), entry.rtt_news());
    entry.pinged(link(1), Some(ms(160)));
    assert_eq!(None, entry.rtt_news(), "an eighth of the way is no news");
    entry.pinged(link(1), Some(ms(160)));
    assert!(
        entry.rtt_news().is_some_and(|rtt| rtt > ms(96)),
        "a fifth is"
    );
}

#[tokio::test]
async fn a_settled_direct_connection_makes_a_relayed_one_and_a_second_of_ours_superfluous() {
    let (id, key) = peer();
    let now = Instant::now();
    let mut peers = Peers::default();
    let relayed = End {
        relayed: true,
        ..end()
    };
    let second = || End {
        inbound: false,
        ..end()
    };
    peers.join(id, key, link(1), relayed, now);
    peers.join(id, key, link(2), end(), now);
    peers.join(id, key, link(3), second(), now);
    let entry = peers.get_mut(&id).expect("joined");
    entry.admit(Vec::new(), false);
    entry.admitted_us();
    assert!(peers.spare(now).is_empty(), "not settled yet");
    assert_eq!(
        vec![link(1)],
        peers.spare(now + SETTLED),
        "the third is the second's twin"
    );
    peers.join(id, key, link(4), second(), now + SETTLED);
    assert_eq!(vec![link(1)], peers.spare(now + SETTLED), "it has its time");
    assert_eq!(vec![link(1), link(4)], peers.spare(now + 2 * SETTLED));
}

#[tokio::test]
async fn a_peer_that_comes_in_again_outlives_connections_that_answer_no_more() {
    let (id, key) = peer();
    let second = Duration::from_secs(1);
    let start = Instant::now();
    let mut peers = Peers::default();
    peers.join(id, key, link(1), end(), start);
    peers.join(id, key, link(2), end(), start);
    let again = start + 4 * second;
    peers.join(id, key, link(3), end(), again);
    assert!(peers.outlived(again + 5 * second).is_empty(), "not yet");
    // The first answers a ping meanwhile: it was a dial back, not a crash.
    let links = &mut peers.get_mut(&id).expect("joined").links;
    links[0].answered = again + second;
    assert_eq!(vec![link(2)], peers.outlived(again + 7 * second));
    peers.join(id, key, link(4), end(), again + second);
    let later = again + 9 * second;
    assert_eq!(vec![link(2)], peers.outlived(later), "dials that met");
}

#[tokio::test]
async fn a_connection_we_made_to_nobody_we_seek_ends_and_theirs_stays() {
    let (id, key) = peer();
    let now = Instant::now();
    let mut peers = Peers::default();
    let ours = End {
        inbound: false,
        ..end()
    };
    peers.join(id, key, link(1), ours, now);
    peers.join(id, key, link(2), end(), now);
    let later = now + UNSOUGHT_KEPT;
    assert_eq!(vec![link(1)], peers.unsought(later, |_| false));
    assert!(peers.unsought(later, |_| true).is_empty(), "it is sought");
    let early = later - Duration::from_millis(1);
    assert!(peers.unsought(early, |_| false).is_empty());
}

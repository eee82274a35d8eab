//! The directories: entries and providers among honest nodes, and what liars can do to them.

use libp2p::futures::StreamExt;
use libp2p::kad::{self, Quorum, Record, RecordKey, store::MemoryStore};
use libp2p::request_response::Message;
use libp2p::swarm::{NetworkBehaviour, SwarmEvent};
use libp2p::{StreamProtocol, SwarmBuilder};
use libp2p_stream::OpenStreamError;
use tokio::task::JoinHandle;

use super::hostile::Enemy;
use super::*;
use crate::net::{admit, translate};

const HIVE_TABLE: StreamProtocol = StreamProtocol::new("/aquifer/h1/kad/global/1");
const REGION_TABLE: StreamProtocol = StreamProtocol::new("/aquifer/h1/kad/eu/1");

/// The rule of these tests: an entry is its author's key, a stamp, and anything, under that key.
fn directory() -> Option<DirectorySettings> {
    let check = |key: &[u8], value: &[u8]| {
        let (author, rest) = value.split_first_chunk::<32>()?;
        let (stamp, rest) = rest.split_first_chunk::<8>()?;
        let good = key == author && rest != b"bad";
        good.then_some(GoodEntry {
            author: *author,
            stamp: u64::from_be_bytes(*stamp),
            life: Duration::from_secs(60),
        })
    };
    Some(DirectorySettings {
        hive: "h1".to_owned(),
        region: "eu".to_owned(),
        check: Box::new(check),
    })
}

fn entry(author: &NodeKey, stamp: u64, text: &[u8]) -> Vec<u8> {
    [&author[..], &stamp.to_be_bytes(), text].concat()
}

/// A node with directories that introduces itself with `hello`.
async fn listed(name: u8, hello: &[u8], seeds: &[&str]) -> Side {
    let settings = NetSettings {
        directory: directory(),
        ..settings(name, QUIC, seeds)
    };
    let side = Side::silent(settings, 1024).await;
    side.tell(NetCommand::SetHello(hello.to_vec())).await;
    side
}

impl Side {
    /// Tells it where another node listens, as its node would from a manifest.
    async fn learns(&self, other: &Self) {
        let addrs = vec![other.addr.clone()];
        self.tell(NetCommand::Know {
            peer: other.key,
            addrs,
        })
        .await;
    }

    async fn errand<T>(&self, errand: impl FnOnce(oneshot::Sender<T>) -> Errand) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.tell(NetCommand::Directory(errand(reply))).await;
        timeout(PATIENCE, answer).await.expect("bounded").ok()
    }

    async fn enters(&self, stamp: u64, text: &[u8]) -> bool {
        let (key, value) = (self.key, entry(&self.key, stamp, text));
        let enter = |reply| Errand::Enter { key, value, reply };
        self.errand(enter).await.unwrap_or(false)
    }

    async fn finds(&self, shared: Shared, key: NodeKey) -> Option<Vec<u8>> {
        let find = |reply| Errand::FindEntry { shared, key, reply };
        self.errand(find).await.flatten()
    }

    async fn providers(&self, key: NodeKey) -> Vec<NodeKey> {
        let find = |reply| Errand::FindProviders { key, reply };
        self.errand(find).await.unwrap_or_default()
    }
}

/// A hub and two nodes that know only the hub.
async fn hub_and_two(hello: &[u8]) -> (Side, Side, Side) {
    let mut hub = listed(1, b"friend", &[]).await;
    let one = listed(2, hello, &[&hub.addr]).await;
    let two = listed(3, hello, &[&hub.addr]).await;
    for side in [&one, &two] {
        hub.until_up(side.key).await;
        hub.learns(side).await;
        side.learns(&hub).await;
    }
    (hub, one, two)
}

#[tokio::test]
async fn what_one_node_enters_another_finds_and_the_latest_counts() {
    let (_hub, mut one, mut two) = hub_and_two(b"friend").await;
    one.until_up(_hub.key).await;
    two.until_up(_hub.key).await;
    for (stamp, text) in [(1, &b"old"[..]), (2, b"new")] {
        while !one.enters(stamp, text).await {
            sleep(Duration::from_millis(20)).await;
        }
    }
    for shared in [Shared::Region, Shared::Hive] {
        let found = two.finds(shared, one.key).await;
        assert_eq!(Some(entry(&one.key, 2, b"new")), found, "{shared:?}");
    }
    assert_eq!(
        None,
        two.finds(Shared::Hive, [9; 32]).await,
        "nobody entered that"
    );
}

#[tokio::test]
async fn a_provider_is_found_in_its_region() {
    let (hub, mut one, mut two) = hub_and_two(b"friend").await;
    one.until_up(hub.key).await;
    two.until_up(hub.key).await;
    let keys = vec![[7; 32]];
    one.tell(NetCommand::Directory(Errand::Provide { keys }))
        .await;
    while !two.providers([7; 32]).await.contains(&one.key) {
        sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(Vec::<NodeKey>::new(), two.providers([8; 32]).await);
}

#[tokio::test]
async fn a_node_outside_the_region_sees_the_hives_directory_only() {
    let (hub, mut one, mut two) = hub_and_two(b"foreigner").await;
    one.until_up(hub.key).await;
    two.until_up(hub.key).await;
    while !one.enters(1, b"here").await {
        sleep(Duration::from_millis(20)).await;
    }
    let found = two.finds(Shared::Hive, one.key).await;
    assert_eq!(Some(entry(&one.key, 1, b"here")), found);

    let mut enemy = Enemy::meet(&hub, Some(b"foreigner")).await;
    assert!(enemy.open(HIVE_TABLE).await.is_ok());
    let refused = enemy.open(REGION_TABLE).await;
    assert!(matches!(
        refused,
        Err(OpenStreamError::UnsupportedProtocol(_))
    ));
}

#[tokio::test]
async fn for_a_stranger_there_is_no_directory() {
    let hub = listed(1, b"friend", &[]).await;
    let mut enemy = Enemy::meet(&hub, Some(b"let me in")).await;
    for table in [HIVE_TABLE, REGION_TABLE] {
        let refused = enemy.open(table).await;
        assert!(matches!(
            refused,
            Err(OpenStreamError::UnsupportedProtocol(_))
        ));
    }
}

#[derive(NetworkBehaviour)]
struct Lying {
    admit: admit::Behaviour,
    table: kad::Behaviour<MemoryStore>,
}

/// An admitted member with a stock table and no scruples.
struct Liar {
    key: NodeKey,
    task: JoinHandle<()>,
}

impl Drop for Liar {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Liar {
    /// Is admitted by `side`, then does `deeds` to its table.
    fn meet(
        side: &Side,
        deeds: impl Fn(&mut kad::Behaviour<MemoryStore>, libp2p::PeerId) + Send + 'static,
    ) -> Self {
        let pair = translate::keypair([77; 32]);
        let local = pair.public().to_peer_id();
        let target = translate::peer_of(&side.key).expect("a key");
        let addr: Multiaddr = side.addr.parse().expect("legal");
        let mut swarm = SwarmBuilder::with_existing_identity(pair)
            .with_tokio()
            .with_quic()
            .with_behaviour(|_| {
                let mut config = kad::Config::new(HIVE_TABLE);
                config.set_max_packet_size(1 << 20);
                let mut table = kad::Behaviour::with_config(local, MemoryStore::new(local), config);
                table.set_mode(Some(kad::Mode::Server));
                Lying {
                    admit: admit::behaviour(),
                    table,
                }
            })
            .expect("a behaviour")
            .with_swarm_config(|config| config.with_idle_connection_timeout(PATIENCE))
            .build();
        swarm.dial(addr.clone()).expect("dials");
        swarm.behaviour_mut().table.add_address(&target, addr);
        let task = tokio::spawn(async move {
            loop {
                match swarm.select_next_some().await {
                    SwarmEvent::ConnectionEstablished { .. } => {
                        let hello = b"friend".to_vec();
                        swarm.behaviour_mut().admit.send_request(&target, hello);
                    }
                    SwarmEvent::Behaviour(LyingEvent::Admit(
                        libp2p::request_response::Event::Message { message, .. },
                    )) => match message {
                        Message::Request { channel, .. } => {
                            let welcome = b"welcome".to_vec();
                            let _ = swarm.behaviour_mut().admit.send_response(channel, welcome);
                        }
                        Message::Response { .. } => {
                            deeds(&mut swarm.behaviour_mut().table, target);
                        }
                    },
                    _ => {}
                }
            }
        });
        let key = translate::key_of(&local).expect("ed25519");
        Self { key, task }
    }
}

fn put(
    table: &mut kad::Behaviour<MemoryStore>,
    target: libp2p::PeerId,
    key: &[u8],
    value: Vec<u8>,
) {
    let record = Record::new(RecordKey::new(&key), value);
    table.put_record_to(record, [target].into_iter(), Quorum::One);
}

#[tokio::test]
async fn a_members_lies_are_not_kept_and_not_found() {
    let mut hub = listed(1, b"friend", &[]).await;
    let victim = [5; 32];
    let liar = Liar::meet(&hub, move |table, target| {
        // Under another's key, marked bad by its rule, far too long, and nonsense.
        put(table, target, &victim, entry(&[77; 32], 9, b"poison"));
        put(table, target, &victim, entry(&victim, 9, b"bad"));
        put(table, target, &victim, vec![0; 12 << 10]);
        put(table, target, b"short", b"nonsense".to_vec());
    });
    hub.until_up(liar.key).await;
    while hub.snapshot().await.directory_refused < 4 {
        sleep(Duration::from_millis(20)).await;
    }
    let state = hub.snapshot().await;
    assert_eq!((4, 0), (state.directory_refused, state.directory_kept));
    assert_eq!(None, hub.finds(Shared::Hive, victim).await);
}

#[tokio::test]
async fn a_packet_longer_than_allowed_is_cut_off_and_the_node_lives() {
    let mut hub = listed(1, b"friend", &[]).await;
    let liar = Liar::meet(&hub, |table, target| {
        put(table, target, &[5; 32], entry(&[5; 32], 1, &[0; 64 << 10]));
        put(table, target, &[6; 32], entry(&[6; 32], 1, b"legal"));
    });
    hub.until_up(liar.key).await;
    while hub.snapshot().await.directory_kept == 0 {
        sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(None, hub.finds(Shared::Hive, [5; 32]).await);
    assert_eq!(
        Some(entry(&[6; 32], 1, b"legal")),
        hub.finds(Shared::Hive, [6; 32]).await
    );
}

#[tokio::test]
async fn a_member_that_lists_itself_in_the_hives_directory_is_refused_each_time() {
    let mut hub = listed(1, b"friend", &[]).await;
    let liar = Liar::meet(&hub, |table, _| {
        for number in 0..32u8 {
            table
                .start_providing(RecordKey::new(&[number; 32]))
                .expect("room");
        }
    });
    hub.until_up(liar.key).await;
    while hub.snapshot().await.directory_refused < 32 {
        sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(0, hub.snapshot().await.directory_kept);
}

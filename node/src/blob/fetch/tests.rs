//! Fetches from holders that are honest, lie, stop in the middle, trickle, or may not give.

use super::super::serve::{Giver, NotGiven, answer};
use super::super::tree::tests::noise;
use super::super::tree::{self, GROUP_BYTES, SLICE_GROUPS};
use super::*;
use crate::home::Home;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use tokio::io::DuplexStream;

const TOPIC: TopicId = TopicId([3; 32]);
const BYTES: u64 = 21 * SLICE_GROUPS * GROUP_BYTES + 5;

/// How a holder behaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Manner {
    Honest,
    /// Changes one byte of every slice.
    Lies,
    /// Hangs up after so many slices.
    Leaves(usize),
    /// Answers nothing once it has said that it has the blob.
    Stalls,
    /// Gives no byte: the law of its node forbids it.
    Denies,
    /// Sends what is no answer.
    Babbles,
}

struct Node {
    shelf: Arc<Shelf>,
    denies: bool,
    gave: AtomicU64,
}

impl Giver for Node {
    fn may_give(&self, _: &NodeId, topic: TopicId, _: &BlobHash) -> Result<(), NotGiven> {
        match (self.denies, topic == TOPIC) {
            (true, _) => Err(NotGiven::Denied("not there".to_owned())),
            (false, true) => Ok(()),
            (false, false) => Err(NotGiven::Unnamed),
        }
    }

    fn shelf(&self) -> &Arc<Shelf> {
        &self.shelf
    }

    fn gave(&self, _: &NodeId, bytes: &[u8]) {
        self.gave.fetch_add(bytes.len() as u64, Ordering::Relaxed);
    }
}

/// A world of holders, all with the same blob.
struct World {
    _folder: tempfile::TempDir,
    shelf: Arc<Shelf>,
    order: Order,
    holders: Mutex<Vec<(NodeId, Manner, Arc<Node>)>>,
    /// Holders that this node's own law forbids to ask.
    forbidden: BTreeSet<NodeId>,
    opened: AtomicUsize,
}

impl World {
    fn of(manners: &[Manner]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let open = |name: &str| {
            let home = Home::at(Some(folder.path().join(name)));
            Arc::new(Shelf::open(&home, 0).expect("a shelf"))
        };
        let source = open("source");
        let data = noise(BYTES);
        let blob = source
            .take_in(&data[..], BYTES, TOPIC, &mut |_| true)
            .expect("room")
            .name;
        let node = |(at, manner): (usize, &Manner)| {
            let node = Node {
                shelf: source.clone(),
                denies: *manner == Manner::Denies,
                gave: AtomicU64::new(0),
            };
            (NodeId([at as u8; 32]), *manner, Arc::new(node))
        };
        Self {
            shelf: open("here"),
            order: Order {
                topic: TOPIC,
                blob,
                bytes: BYTES,
                patience: PATIENCE,
            },
            holders: Mutex::new(manners.iter().enumerate().map(node).collect()),
            forbidden: BTreeSet::new(),
            opened: AtomicUsize::new(0),
            _folder: folder,
        }
    }

    async fn fetch(self: &Arc<Self>) -> (Result<(), FetchBlob>, Progress) {
        let tracker = Tracker::of(BYTES);
        let stop = CancellationToken::new();
        let done = fetch(
            self.shelf.clone(),
            self.order,
            self.clone(),
            tracker.clone(),
            stop,
        )
        .await;
        (done, tracker.now())
    }

    fn is_whole(&self) -> bool {
        let here = std::fs::read(self.shelf.path_of(&self.order.blob));
        here.is_ok_and(|bytes| bytes == noise(BYTES))
    }

    fn gave(&self) -> u64 {
        let gave = |node: &Arc<Node>| node.gave.load(Ordering::Relaxed);
        self.holders().iter().map(|(.., node)| gave(node)).sum()
    }

    fn holders(&self) -> MutexGuard<'_, Vec<(NodeId, Manner, Arc<Node>)>> {
        self.holders.lock().expect("no test panics with it")
    }
}

impl Holders for World {
    fn candidates(&self) -> Vec<NodeId> {
        self.holders().iter().map(|(node, ..)| *node).collect()
    }

    fn allowed(&self, node: &NodeId) -> Result<(), String> {
        match self.forbidden.contains(node) {
            true => Err("outside the law".to_owned()),
            false => Ok(()),
        }
    }

    fn open(&self, node: NodeId) -> Opening<'_> {
        self.opened.fetch_add(1, Ordering::Relaxed);
        let found = self
            .holders()
            .iter()
            .find(|(other, ..)| *other == node)
            .cloned();
        let (_, manner, giver) = found.expect("one of the candidates");
        let (ours, theirs) = tokio::io::duplex(64 << 10);
        tokio::spawn(async move {
            let to = NodeId([0xee; 32]);
            match manner {
                Manner::Honest | Manner::Denies => {
                    let _ = answer(&*giver, to, Box::new(theirs)).await;
                }
                other => misbehave(other, &giver, theirs).await,
            }
        });
        Box::pin(async move { Ok(Box::new(ours) as BlobStream) })
    }

    fn got(&self, _: &NodeId, _: &[u8]) {}
}

/// Answers as `answer` does, but for its manner.
async fn misbehave(manner: Manner, giver: &Node, mut stream: DuplexStream) {
    let mut slices = 0;
    while let Ok(Some(request)) = Request::read(&mut stream).await {
        let Ok((shape, files)) = giver.shelf.read(&request.blob) else {
            return;
        };
        if request.groups == 0 {
            let here = Reply::Here(shape.bytes());
            let _ = here.write(&mut stream).await;
            continue;
        }
        let groups = request.first..request.first + u64::from(request.groups);
        let mut bytes = tree::encode(shape, &groups, &files).expect("it is here");
        match manner {
            Manner::Lies => bytes[9_999] ^= 1,
            Manner::Leaves(after) if slices == after => return,
            Manner::Stalls => std::future::pending().await,
            Manner::Babbles => {
                let _ = stream.write_all(&[0xff; 200]).await;
                return;
            }
            _ => {}
        }
        slices += 1;
        giver.gave(&NodeId([0; 32]), &bytes);
        let _ = Reply::Slice(bytes).write(&mut stream).await;
    }
}

#[tokio::test]
async fn several_holders_give_different_parts_and_nothing_comes_twice() {
    let world = Arc::new(World::of(&[Manner::Honest; 3]));
    let (done, progress) = world.fetch().await;
    done.expect("fetched");
    assert!(world.is_whole());
    assert_eq!((progress.done_bytes, progress.again_bytes), (BYTES, 0));
    assert!(progress.from.len() > 1, "{:?}", progress.from);
    assert_eq!(progress.from.values().sum::<u64>(), BYTES);
    assert!(world.gave() < BYTES + BYTES / 50, "proofs are small");
    assert!(progress.dropped.is_empty());
}

#[tokio::test]
async fn a_holder_that_lies_is_named_and_the_blob_comes_from_the_others() {
    let world = Arc::new(World::of(&[Manner::Lies, Manner::Honest]));
    let (done, progress) = world.fetch().await;
    done.expect("fetched");
    assert!(world.is_whole());
    let [(liar, why)] = &progress.dropped[..] else {
        panic!("{:?}", progress.dropped);
    };
    assert_eq!(*liar, NodeId([0; 32]));
    assert!(why.contains("it lies"), "{why}");
    assert!(!progress.from.contains_key(liar), "not a byte of it counts");
}

#[tokio::test]
async fn with_nobody_but_liars_nothing_counts_and_all_are_named() {
    let world = Arc::new(World::of(&[Manner::Lies, Manner::Babbles, Manner::Denies]));
    let (done, progress) = world.fetch().await;
    let Err(FetchBlob::NoHolder { dropped }) = done else {
        panic!("{done:?}");
    };
    let whys: BTreeMap<NodeId, String> = dropped.into_iter().collect();
    assert!(whys[&NodeId([0; 32])].contains("it lies"));
    assert!(whys[&NodeId([1; 32])].contains("breaks the protocol"));
    assert!(whys[&NodeId([2; 32])].contains("not there"));
    assert_eq!(progress.done_bytes, 0);
    assert_eq!(world.shelf.bytes_of(&world.order.blob), None);
}

#[tokio::test]
async fn what_came_before_a_holder_left_is_not_fetched_again() {
    let world = Arc::new(World::of(&[Manner::Leaves(7)]));
    let (done, first) = world.fetch().await;
    assert!(matches!(done, Err(FetchBlob::NoHolder { .. })));
    let slice = SLICE_GROUPS * GROUP_BYTES;
    assert_eq!(first.done_bytes, 7 * slice);
    world.holders()[0].1 = Manner::Honest;
    let (done, second) = world.fetch().await;
    done.expect("fetched");
    assert!(world.is_whole());
    assert_eq!((second.had_bytes, second.again_bytes), (7 * slice, 0));
    assert_eq!(second.from.values().sum::<u64>(), BYTES - 7 * slice);
}

#[tokio::test]
async fn a_holder_that_stalls_is_dropped_and_named_as_slow() {
    let mut world = World::of(&[Manner::Stalls, Manner::Leaves(2), Manner::Honest]);
    // Nobody else reads from memory for so long.
    world.order.patience = Duration::from_secs(1);
    let world = Arc::new(world);
    let (done, progress) = world.fetch().await;
    done.expect("fetched");
    assert!(world.is_whole());
    let whys: BTreeMap<NodeId, String> = progress.dropped.into_iter().collect();
    assert!(whys[&NodeId([0; 32])].contains("slow"), "{whys:?}");
    assert!(whys[&NodeId([1; 32])].contains("broke"), "{whys:?}");
}

#[tokio::test]
async fn a_holder_that_our_own_law_forbids_is_not_even_opened() {
    let mut world = World::of(&[Manner::Honest]);
    world.forbidden.insert(NodeId([0; 32]));
    let world = Arc::new(world);
    let (done, _) = world.fetch().await;
    assert!(matches!(done, Err(FetchBlob::NoHolder { .. })));
    assert_eq!((world.opened.load(Ordering::Relaxed), world.gave()), (0, 0));
}

#[tokio::test]
async fn an_empty_blob_is_a_blob() {
    let folder = tempfile::tempdir().expect("a folder");
    let home = Home::at(Some(folder.path().to_owned()));
    let shelf = Arc::new(Shelf::open(&home, 0).expect("a shelf"));
    let taken = shelf.take_in(&[][..], 0, TOPIC, &mut |_| true);
    let blob = taken.expect("room").name;
    assert_eq!(&blob.0, blake3::hash(&[]).as_bytes());
    assert_eq!(shelf.bytes_of(&blob), Some(0));
}

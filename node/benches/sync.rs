//! What catching up costs: an empty node takes 100,000 records from a full one, first as two replicas
//! over stores on disk in one thread, then as two nodes over QUIC on loopback. Beside it, in the same
//! run, what redb alone takes for the same bytes in the same batches.
//!
//! Run with `cargo bench -p aquifer-node --bench sync [records]`. Nothing is asserted: a timing is not
//! a test.

#[path = "loopback/node.rs"]
mod loopback;

use aquifer_node::Node;
use aquifer_node::api::Remember;
use aquifer_node::home::Home;
use aquifer_node::store::NodeStore;
use aquifer_protocol::body::{Manifest, Memory};
use aquifer_protocol::certificate::role;
use aquifer_protocol::event::Expect;
use aquifer_protocol::{
    AgentId, Batch, Body, Chain, Command, CommandId, Durability, Grant, HiveId, Input, Keys,
    MemStore, Member, Message, Output, Policy, Replica, Seed, Settings, Store, StoreFailure, Table,
    Time,
};
use bytes::Bytes;
use loopback::{WORDS, node};
use std::path::Path;
use std::time::{Duration, Instant};

const RECORDS: usize = 100_000;
const BATCH: usize = 250;

fn main() {
    let asked = std::env::args().skip(1).find_map(|word| word.parse().ok());
    let records: usize = asked.unwrap_or(RECORDS);
    let folder = tempfile::tempdir().expect("a folder");
    replicas(folder.path(), records);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(nodes(folder.path(), records));
}

/// A store that is timed, or one that keeps what was written to it: keeping takes time.
struct Watched<S> {
    store: S,
    batches: Option<Vec<Batch>>,
    took: Duration,
}

impl<S> Watched<S> {
    fn timed(store: S) -> Self {
        Self {
            store,
            batches: None,
            took: Duration::ZERO,
        }
    }
}

fn on_disk(folder: &Path) -> NodeStore {
    let home = Home::at(Some(folder.to_owned()));
    home.create().expect("a folder");
    NodeStore::open(&home, None).expect("opens").store
}

fn keeping() -> Watched<MemStore> {
    let batches = Some(Vec::new());
    Watched {
        batches,
        ..Watched::timed(MemStore::default())
    }
}

impl<S: Store> Store for Watched<S> {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StoreFailure> {
        self.store.get(table, key)
    }

    fn range(
        &self,
        table: Table,
        from: &[u8],
        until: Option<&[u8]>,
        visit: &mut dyn FnMut(&[u8], Bytes) -> bool,
    ) -> Result<(), StoreFailure> {
        self.store.range(table, from, until, visit)
    }

    fn apply(&mut self, batch: Batch) -> Result<(), StoreFailure> {
        if let Some(batches) = &mut self.batches {
            batches.push(batch.clone());
        }
        let begun = Instant::now();
        let done = self.store.apply(batch);
        self.took += begun.elapsed();
        done
    }
}

/// One side of the talk: its replica, what waits for it, and what it has cost.
struct Side<S> {
    replica: Replica<Watched<S>>,
    member: Member,
    inbox: Vec<Vec<u8>>,
    took: Duration,
    /// Bytes it sent, and of those the records' own.
    sent: usize,
    content: usize,
}

impl<S: Store> Side<S> {
    fn beat(&mut self, now: Time, inputs: Vec<Input>) -> Vec<Vec<u8>> {
        let begun = Instant::now();
        for input in inputs {
            self.replica.handle(now, input);
        }
        self.replica.commit().expect("commits");
        let mut frames = Vec::new();
        while let Some(output) = self.replica.poll_output() {
            if let Output::Send { message, .. } = output {
                let frame = message.to_bytes();
                self.sent += frame.len();
                if let Message::Records { runs, .. } = &message {
                    let len = |r: &aquifer_protocol::Record| {
                        r.envelope().len() + r.carried().map_or(0, |body| body.len())
                    };
                    self.content += runs.iter().flatten().map(len).sum::<usize>();
                }
                frames.push(frame);
            }
        }
        self.took += begun.elapsed();
        frames
    }

    fn ask(&mut self, now: Time, command: Command) {
        let id = CommandId(0);
        self.beat(now, vec![Input::Command { id, command }]);
    }

    fn announce(&mut self, now: Time) {
        let manifest = Manifest {
            chain: self.member.chain().to_vec().into(),
            addresses: Vec::new(),
            agent: "aquifer/bench".into(),
            storage_bytes: 0,
            gpu_bytes: 0,
            models: Vec::new(),
            up_since: 0,
        };
        self.ask(now, Command::Announce { manifest });
    }
}

fn member(root: &Keys, keys: &Keys) -> Member {
    let hive = HiveId(root.public());
    let grant = Grant {
        hive,
        subject: keys.node(),
        region: "eu".parse().ok(),
        topics: None,
        roles: role::ALL,
        may_issue: false,
        not_before: 0,
        not_after: u64::MAX,
        serial: 1,
    };
    Chain::rooted(root, grant)
        .check(&hive)
        .expect("a good chain")
}

fn side<S: Store>(root: &Keys, n: u8, store: Watched<S>, now: Time) -> Side<S> {
    let keys = Keys::from_secret(&[n; 32]);
    let member = member(root, &keys);
    let settings = Settings {
        member: Some(member.clone()),
        ..Settings::new(HiveId(root.public()))
    };
    let seed = Seed::from_number(n.into());
    let mut replica = match Replica::open(keys, settings, store, seed, now) {
        Ok(replica) => replica,
        Err(why) => panic!("does not open: {why}"),
    };
    replica.commit().expect("commits");
    Side {
        replica,
        member,
        inbox: Vec::new(),
        took: Duration::ZERO,
        sent: 0,
        content: 0,
    }
}

fn text(i: usize) -> String {
    format!(
        "note {i}: the {} of service {} in cluster {} is {}, as agreed with the owner on day {}; \
         whoever changes it tells the others first",
        WORDS[i % 8],
        i % 50,
        i % 7,
        i * 7_919,
        i % 365
    )
}

fn replicas(folder: &Path, records: usize) {
    let store = |name: &str| on_disk(&folder.join(name));
    let timed = Talk::of(
        Watched::timed(store("full")),
        Watched::timed(store("empty")),
        records,
    );
    // The same talk once more, since keeping what is written takes time and room.
    let kept = Talk::of(keeping(), keeping(), records);
    let (a, b) = (&timed.full, &timed.empty);
    report("write in batches of 250", records, timed.written);
    report("  of which its store", records, timed.kept);
    let batches = |side: &Side<MemStore>, from| {
        let batches = side.replica.store().batches.as_ref().expect("kept");
        batches[from..].to_vec()
    };
    let raw = replay(store("raw-full"), batches(&kept.full, 0));
    ratio("  redb alone, same batches", records, raw, timed.written);
    report("catch-up, two replicas, one thread", records, timed.took);
    report("  of which the full one's part", records, a.took);
    report("  of which the empty one's part", records, b.took);
    report("    of which its store", records, timed.stored);
    let raw = replay(store("raw"), batches(&kept.empty, kept.batches_before));
    ratio("  redb alone, same batches", records, raw, timed.took);
    ratio("    against the empty one's part", records, raw, b.took);
    let (wire, content) = (a.sent + b.sent, a.content);
    println!(
        "  wire {wire} B in {} turns, {:.3} x the records' {content} B ({} B each)",
        timed.turns,
        wire as f64 / content as f64,
        content / records
    );
}

/// A full node writes, an empty one catches up.
struct Talk<S> {
    full: Side<S>,
    empty: Side<S>,
    written: Duration,
    /// The full one's store's part of that.
    kept: Duration,
    took: Duration,
    /// The empty one's store's part of that.
    stored: Duration,
    turns: usize,
    /// How many batches the empty one had written before.
    batches_before: usize,
}

impl<S: Store> Talk<S> {
    fn of(full: Watched<S>, empty: Watched<S>, records: usize) -> Self {
        let root = Keys::from_secret(&[9; 32]);
        let mut now = Time::from_millis(1_790_000_000_000);
        let mut a = side(&root, 1, full, now);
        a.announce(now);
        let topic: aquifer_protocol::TopicName = "notes".parse().expect("legal");
        let found = Command::Govern {
            topic: topic.clone(),
            policy: Policy::open(),
            expect: Expect::New,
        };
        a.ask(now, found);
        let write = |batch: usize| Command::Write {
            topic: topic.clone(),
            author: AgentId([7; 32]),
            bodies: (0..BATCH)
                .map(|i| Body::Memory(Memory::of(text(batch * BATCH + i))))
                .collect(),
            durability: Durability::Local,
        };
        let commands: Vec<Command> = (0..records / BATCH).map(write).collect();
        let kept_before = a.replica.store().took;
        let begun = Instant::now();
        for command in commands {
            a.ask(now, command);
        }
        let written = begun.elapsed();
        let kept = a.replica.store().took - kept_before;

        let mut b = side(&root, 2, empty, now);
        b.announce(now);
        (a.took, b.took, a.sent, a.content, b.sent) = (Duration::ZERO, Duration::ZERO, 0, 0, 0);
        let batches_before = b.replica.store().batches.as_ref().map_or(0, Vec::len);
        let stored_before = b.replica.store().took;
        let begun = Instant::now();
        let (peer_a, peer_b) = (a.member.clone(), b.member.clone());
        let up = |member: &Member| Input::PeerUp {
            member: member.clone(),
        };
        b.inbox.extend(a.beat(now, vec![up(&peer_b)]));
        a.inbox.extend(b.beat(now, vec![up(&peer_a)]));
        let (node_a, node_b) = (peer_a.node(), peer_b.node());
        let mut turns = 0;
        while !(a.inbox.is_empty() && b.inbox.is_empty()) {
            now = now + Duration::from_millis(1);
            let frame = |from| {
                move |bytes: Vec<u8>| Input::Frame {
                    from,
                    bytes: bytes.into(),
                }
            };
            let heard: Vec<Input> = b.inbox.drain(..).map(frame(node_a)).collect();
            a.inbox.extend(b.beat(now, heard));
            let heard: Vec<Input> = a.inbox.drain(..).map(frame(node_b)).collect();
            b.inbox.extend(a.beat(now, heard));
            turns += 1;
        }
        let took = begun.elapsed();
        let topic = topic.id(&HiveId(root.public()));
        let logs = b.replica.logs().of_topic(topic);
        let height: u64 = logs.map(|(_, state)| state.height).sum();
        assert_eq!(height, records as u64, "all of it is there");
        let stored = b.replica.store().took - stored_before;
        Self {
            full: a,
            empty: b,
            written,
            kept,
            took,
            stored,
            turns,
            batches_before,
        }
    }
}

fn replay(mut store: NodeStore, batches: Vec<Batch>) -> Duration {
    let begun = Instant::now();
    for batch in batches {
        store.apply(batch).expect("applies");
    }
    begun.elapsed()
}

fn report(what: &str, records: usize, took: Duration) {
    let rate = records as f64 / took.as_secs_f64();
    let each = took.as_secs_f64() * 1e6 / records as f64;
    println!("{what:38} {took:>10.2?} {rate:>10.0} /s {each:>8.2} us each");
}

fn ratio(what: &str, records: usize, raw: Duration, took: Duration) {
    report(what, records, raw);
    let rate = raw.as_secs_f64() / took.as_secs_f64();
    println!("{:38} {rate:.2} of its rate", "");
}

async fn nodes(folder: &Path, records: usize) {
    let a = node(folder.join("a"), None).await;
    let begun = Instant::now();
    for batch in 0..records / BATCH {
        let note = |i| Remember {
            text: text(batch * BATCH + i),
            topic: Some("notes".into()),
            ..Remember::default()
        };
        let notes = (0..BATCH).map(note).collect();
        a.memory().remember_many(notes).await.expect("remembers");
    }
    report("remember_many on a node", records, begun.elapsed());
    let invite = a
        .memory()
        .invite(Default::default())
        .await
        .expect("may invite");
    let begun = Instant::now();
    let b = node(folder.join("b"), Some(invite.ticket)).await;
    let joined = begun.elapsed();
    while received(&b) < records {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let took = begun.elapsed() - joined;
    report("catch-up, two nodes, QUIC on loopback", records, took);
    a.stop().await;
    b.stop().await;
}

/// How many records a node has taken from others.
fn received(node: &Node) -> usize {
    let metrics = node.memory().metrics();
    let line = metrics
        .lines()
        .find_map(|line| line.strip_prefix("aquifer_records_total{kind=\"received\"} "));
    line.and_then(|count| count.parse().ok()).unwrap_or(0)
}

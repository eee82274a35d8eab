//! What a memory costs, beside what the machine charges for the same bytes: one fdatasync, one
//! signature. Two nodes of one region on loopback; figures are minimum, median and 99th percentile.
//!
//! Run with `cargo bench -p aquifer-node --bench memory`. Nothing is asserted: a timing is not a test.

#[path = "loopback/node.rs"]
mod loopback;

use aquifer_node::api::{Recall, Remember};
use aquifer_node::home::Home;
use aquifer_node::store::NodeStore;
use aquifer_protocol::{Batch, Keys, Store as _, Table};
use loopback::{WORDS, node};
use std::fs::File;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::time::{Duration, Instant};

const WRITES: usize = 400;
const SEARCHES: usize = 400;
const CROSSINGS: usize = 100;
const BATCHES: usize = 40;

fn main() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(measure());
}

async fn measure() {
    let folder = tempfile::tempdir().expect("a folder");
    let a = node(folder.path().join("a"), None).await;
    println!(
        "{:34} {:>10} {:>10} {:>10}   per fdatasync",
        "", "min", "p50", "p99"
    );
    let fdatasync = line("one fdatasync of 4 KiB", syncs(folder.path(), 1), None);
    // So many pages of the file does redb change in one transaction, here and there.
    line(
        "one fdatasync of nine pages",
        syncs(folder.path(), 9),
        Some(fdatasync),
    );
    line("one signature", signatures(), Some(fdatasync));
    line(
        "one bare store transaction",
        transactions(folder.path()),
        Some(fdatasync),
    );
    let mut writes = Vec::new();
    for i in 0..WRITES {
        let text = format!(
            "note {i}: the {} of service {} is {}",
            WORDS[i % 8],
            i % 50,
            i * 7919
        );
        writes.push(timed(a.memory().remember(note(text))).await);
    }
    line("remember, durable here", writes, Some(fdatasync));
    let mut batches = Vec::new();
    for i in 0..BATCHES {
        let batch = (0..250).map(|j| note(format!("batch {i} entry {j} of the {}", WORDS[j % 8])));
        batches.push(timed(a.memory().remember_many(batch.collect())).await / 250);
    }
    line("remember in batches of 250, each", batches, Some(fdatasync));
    let mut searches = Vec::new();
    for i in 0..SEARCHES {
        let query = format!("{} of service {}", WORDS[i % 8], i % 50);
        searches.push(timed(a.memory().recall(find(query))).await);
    }
    line("recall, hybrid, 10,400 memories", searches, Some(fdatasync));
    let invite = a
        .memory()
        .invite(Default::default())
        .await
        .expect("may invite");
    let b = node(folder.path().join("b"), Some(invite.ticket)).await;
    let mut writes = Vec::new();
    for i in 0..WRITES {
        writes.push(
            timed(
                a.memory()
                    .remember(note(format!("shared note {i} of {}", i * 31))),
            )
            .await,
        );
    }
    line("remember, a peer on the same disk", writes, Some(fdatasync));
    let mut crossings = Vec::new();
    for i in 0..CROSSINGS {
        let word = format!("crossing{i}x{}", i * 104_729);
        let begun = Instant::now();
        a.memory()
            .remember(note(word.clone()))
            .await
            .expect("remembers");
        while b
            .memory()
            .recall(find(word.clone()))
            .await
            .expect("recalls")
            .results
            .first()
            .is_none_or(|hit| hit.memory.text != word)
        {
            tokio::time::sleep(Duration::from_micros(200)).await;
        }
        crossings.push(begun.elapsed());
    }
    line("write on A to recallable on B", crossings, Some(fdatasync));
    a.stop().await;
    b.stop().await;
}

fn note(text: String) -> Remember {
    Remember {
        text,
        topic: Some("notes".into()),
        ..Remember::default()
    }
}

fn find(query: String) -> Recall {
    Recall {
        query,
        topic: Some("notes".into()),
        k: Some(10),
        ..Recall::default()
    }
}

async fn timed<T, E: std::fmt::Debug>(work: impl Future<Output = Result<T, E>>) -> Duration {
    let begun = Instant::now();
    work.await.expect("works");
    begun.elapsed()
}

/// So many pages of a file that has them already, each apart from the others, and an fdatasync.
fn syncs(folder: &std::path::Path, pages: u64) -> Vec<Duration> {
    let mut file = File::create(folder.join("probe")).expect("a file");
    let block = [7; 4_096];
    for _ in 0..64 {
        file.write_all(&block).expect("writes");
    }
    file.sync_all().expect("syncs");
    let once = |i: usize| {
        let begun = Instant::now();
        for page in 0..pages {
            let place = (i as u64 + page * 5) % 64;
            file.seek(SeekFrom::Start(place * 4_096)).expect("seeks");
            file.write_all(&block).expect("writes");
        }
        file.sync_data().expect("syncs");
        begun.elapsed()
    };
    (0..WRITES).map(once).collect()
}

/// The store alone, with as many bytes and tables as one memory takes.
fn transactions(folder: &std::path::Path) -> Vec<Duration> {
    let home = Home::at(Some(folder.join("bare")));
    home.create().expect("a folder");
    let mut store = NodeStore::open(&home, None).expect("opens").store;
    let once = |i: usize| {
        let mut batch = Batch::default();
        let key = i.to_be_bytes().to_vec();
        batch.put(Table::Records, key.clone(), vec![7; 420]);
        batch.put(Table::Ids, key, vec![7; 16]);
        batch.put(Table::Logs, &b"log"[..], vec![7; 60]);
        let begun = Instant::now();
        store.apply(batch).expect("commits");
        begun.elapsed()
    };
    (0..WRITES).map(once).collect()
}

fn signatures() -> Vec<Duration> {
    let keys = Keys::from_secret(&[1; 32]);
    let once = |i: usize| {
        let begun = Instant::now();
        std::hint::black_box(keys.sign(&i.to_le_bytes()));
        begun.elapsed()
    };
    (0..WRITES).map(once).collect()
}

/// Prints a line and returns its median.
fn line(what: &str, mut times: Vec<Duration>, unit: Option<Duration>) -> Duration {
    times.sort_unstable();
    let (p50, p99) = (times[times.len() / 2], times[times.len() * 99 / 100]);
    let ratio = unit.map_or(1.0, |unit| p50.as_secs_f64() / unit.as_secs_f64());
    println!(
        "{what:34} {:>10.2?} {p50:>10.2?} {p99:>10.2?}   {ratio:.2}",
        times[0]
    );
    p50
}

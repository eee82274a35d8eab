//! The store engines side by side, beside what the machine charges for the same bytes: one fdatasync.
//! Keys and values are those of records: a log's number and a seq, about 400 bytes, 250 to a batch.
//!
//! Run with `cargo bench -p aquifer-node --bench store`. Nothing is asserted: a timing is not a test.

use aquifer_node::home::Home;
use aquifer_node::store::{EngineKind, NodeStore};
use aquifer_protocol::{Batch, Store as _, Table};
use std::fs::File;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

const BATCHES: u64 = 200;
const PER_BATCH: u64 = 250;
const RECORD_BYTES: usize = 400;
const LOGS: u64 = 50;
const SINGLE: usize = 300;
const READS: u64 = 20_000;
const SCANS: u64 = 40;

fn main() {
    let folder = tempfile::tempdir().expect("a folder");
    println!(
        "{} records of {RECORD_BYTES} B in batches of {PER_BATCH}; ratios are per fdatasync of 4 KiB, taken before and after",
        BATCHES * PER_BATCH
    );
    for kind in EngineKind::ALL {
        let sync = median(syncs(folder.path()));
        println!("\n{} (one fdatasync: {sync:.2?})", kind.name());
        measure(&folder.path().join(kind.name()), kind, sync);
        println!("  fdatasync after {:>24.2?}", median(syncs(folder.path())));
    }
}

fn measure(folder: &Path, kind: EngineKind, sync: Duration) {
    let home = Home::at(Some(folder.to_owned()));
    home.create().expect("a folder");
    let before = resident_bytes();
    let mut store = NodeStore::open(&home, Some(kind)).expect("opens").store;
    let begun = Instant::now();
    let mut batches = Vec::new();
    for n in 0..BATCHES {
        let batch = batch(n);
        let begun = Instant::now();
        store.apply(batch).expect("durable");
        batches.push(begun.elapsed());
    }
    let took = begun.elapsed().as_secs_f64();
    let count = BATCHES * PER_BATCH;
    println!(
        "  bulk insert {:>22.0} records/s, a batch {:.1} fdatasyncs",
        count as f64 / took,
        ratio(median(batches), sync)
    );
    let bytes = || NodeStore::bytes_on_disk(&home) as f64 / count as f64;
    println!("  on disk after it {:>17.0} B per record", bytes());
    let mut single = Vec::new();
    for i in 0..SINGLE {
        let mut batch = Batch::default();
        batch.put(Table::Meta, format!("single {i}"), vec![7; RECORD_BYTES]);
        let begun = Instant::now();
        store.apply(batch).expect("durable");
        single.push(begun.elapsed());
    }
    single.sort_unstable();
    let (p50, p99) = (single[SINGLE / 2], single[SINGLE * 99 / 100]);
    println!(
        "  single durable write {p50:>13.2?} p50, {p99:.2?} p99, {:.1} fdatasyncs",
        ratio(p50, sync)
    );
    let snapshot = store.snapshot();
    let begun = Instant::now();
    for i in 0..READS {
        let key = key(scattered(i) % count);
        assert!(
            snapshot
                .get(Table::Records, &key)
                .expect("readable")
                .is_some()
        );
    }
    println!("  get, there {:>23.2?}", begun.elapsed() / READS as u32);
    let begun = Instant::now();
    for i in 0..READS {
        let key = key(count + scattered(i) % count);
        assert!(
            snapshot
                .get(Table::Records, &key)
                .expect("readable")
                .is_none()
        );
    }
    println!("  get, not there {:>19.2?}", begun.elapsed() / READS as u32);
    let begun = Instant::now();
    for i in 0..SCANS {
        let mut left = 1_000;
        let from = key((scattered(i) % LOGS) + LOGS * (i % 8));
        let mut visit = |_: &[u8], _| {
            left -= 1;
            left > 0
        };
        snapshot
            .range(Table::Records, &from, None, &mut visit)
            .expect("readable");
    }
    println!("  scan of 1,000 {:>20.2?}", begun.elapsed() / SCANS as u32);
    drop(snapshot);
    println!(
        "  resident {:>25.1} MiB more",
        resident_bytes().saturating_sub(before) as f64 / 1_048_576.0
    );
    for n in 0..BATCHES {
        let mut batch = Batch::default();
        for i in (0..PER_BATCH).step_by(2) {
            batch.remove(Table::Records, key(n * PER_BATCH + i));
        }
        store.apply(batch).expect("durable");
    }
    println!(
        "  on disk, half deleted {:>12.0} B per record there was",
        bytes()
    );
    let begun = Instant::now();
    let moved = store.compact().expect("compacts");
    println!(
        "  compacted: {moved}, in {:.2?} {:>15.0} B per record there was",
        begun.elapsed(),
        bytes()
    );
    drop(store);
    println!(
        "  on disk when closed {:>14.0} B per record there was",
        bytes()
    );
    let begun = Instant::now();
    let store = NodeStore::open(&home, Some(kind)).expect("opens").store;
    println!("  reopen {:>27.2?}", begun.elapsed());
    assert!(
        store
            .get(Table::Records, &key(1))
            .expect("readable")
            .is_some()
    );
}

fn batch(n: u64) -> Batch {
    let mut batch = Batch::default();
    for i in n * PER_BATCH..(n + 1) * PER_BATCH {
        // Hashes do not compress.
        let value: Vec<u8> = (0..RECORD_BYTES as u64 / 8)
            .flat_map(|j| scattered(i * 64 + j).to_le_bytes())
            .collect();
        batch.put(Table::Records, key(i), value);
        batch.put(Table::Ids, scattered(i).to_be_bytes().repeat(2), key(i));
    }
    batch
}

/// Records of many logs, each appended to at its end.
fn key(i: u64) -> Vec<u8> {
    [(i % LOGS).to_be_bytes(), (i / LOGS).to_be_bytes()].concat()
}

/// Splitmix64.
fn scattered(i: u64) -> u64 {
    let mut z = i.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn syncs(folder: &Path) -> Vec<Duration> {
    let mut file = File::create(folder.join("probe")).expect("a file");
    let once = |_| {
        let begun = Instant::now();
        file.seek(SeekFrom::Start(0)).expect("seeks");
        file.write_all(&[7; 4_096]).expect("writes");
        file.sync_data().expect("syncs");
        begun.elapsed()
    };
    (0..SINGLE).map(once).collect()
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn ratio(time: Duration, unit: Duration) -> f64 {
    time.as_secs_f64() / unit.as_secs_f64()
}

fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) << 10
}

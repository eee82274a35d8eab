//! Engines killed in the middle of it, again and again.

use super::{open, range};
use aquifer_node::store::EngineKind;
use aquifer_protocol::{Batch, Store as _, Table};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

/// Set in the child that is to be killed: its folder and its engine.
const CHILD_FOLDER: &str = "AQUIFER_TEST_ENGINE_FOLDER";
const CHILD_ENGINE: &str = "AQUIFER_TEST_ENGINE";
const ROUNDS: u64 = 6;
const PER_BATCH: u64 = 20;

/// The child: batch after batch, each said once it is durable.
fn writes_until_killed(folder: &Path, kind: EngineKind) {
    let mut store = open(folder, kind);
    let first = range(&store, Table::Meta, b"batch", None).pop();
    let first = first.map_or(0, |(_, _, n)| 1 + number(&n));
    for n in first.. {
        let mut batch = Batch::default();
        batch.put(Table::Meta, &b"batch"[..], n.to_be_bytes().to_vec());
        for i in 0..PER_BATCH {
            let key = (n * PER_BATCH + i).to_be_bytes().to_vec();
            batch.put(Table::Records, key, vec![n as u8; 300]);
        }
        store.apply(batch).expect("durable");
        let mut out = std::io::stdout().lock();
        writeln!(out, "\ndurable {n}").expect("the parent listens");
        out.flush().expect("the parent listens");
    }
}

fn number(bytes: &[u8]) -> u64 {
    bytes
        .try_into()
        .map(u64::from_be_bytes)
        .expect("eight bytes")
}

/// I1: kill -9 at any moment: every batch that was acknowledged is there, and none in part.
fn an_engine_survives_being_killed(kind: EngineKind, test: &str) {
    if let Some(folder) = std::env::var_os(CHILD_FOLDER) {
        if std::env::var(CHILD_ENGINE).as_deref() == Ok(kind.name()) {
            writes_until_killed(Path::new(&folder), kind);
        }
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let mut acknowledged = 0;
    for round in 0..ROUNDS {
        let mut child = Command::new(std::env::current_exe().expect("this test"))
            .args(["--exact", test, "--nocapture"])
            .env(CHILD_FOLDER, folder.path())
            .env(CHILD_ENGINE, kind.name())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("started");
        let out = BufReader::new(child.stdout.take().expect("piped"));
        let said = |line: &str| line.strip_prefix("durable ").and_then(|n| n.parse().ok());
        let mut lines = out
            .lines()
            .map_while(Result::ok)
            .filter_map(|line| said(&line));
        let last: u64 = lines
            .by_ref()
            .nth(3 + 5 * round as usize)
            .expect("it writes until it is killed");
        std::thread::sleep(std::time::Duration::from_micros(round * 1_731));
        child.kill().expect("it runs");
        acknowledged = lines.last().unwrap_or(last).max(last);
        child.wait().expect("it died");
        let store = open(folder.path(), kind);
        let newest = range(&store, Table::Meta, b"batch", None)
            .pop()
            .expect("written");
        let newest = number(&newest.2);
        assert!(
            newest >= acknowledged,
            "batch {acknowledged} was acknowledged, {newest} is the last"
        );
        let records = range(&store, Table::Records, b"", None);
        assert_eq!(
            records.len() as u64,
            (newest + 1) * PER_BATCH,
            "no batch in part"
        );
        for (i, (_, key, value)) in records.iter().enumerate() {
            assert_eq!(number(key), i as u64);
            assert!(
                value
                    .iter()
                    .all(|byte| *byte == (i as u64 / PER_BATCH) as u8)
            );
        }
    }
    println!(
        "{}: {ROUNDS} kills, {} batches, none lost, none in part",
        kind.name(),
        acknowledged + 1
    );
}

#[test]
fn redb_survives_being_killed() {
    an_engine_survives_being_killed(EngineKind::Redb, "killed::redb_survives_being_killed");
}

#[test]
fn sled_survives_being_killed() {
    an_engine_survives_being_killed(EngineKind::Sled, "killed::sled_survives_being_killed");
}

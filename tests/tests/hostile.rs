//! Hostile machines: a process killed at any moment, a store of another version, a disk that lies.
//!
//! Not here: hostile peers (`node/src/net/tests/hostile.rs`, `protocol/tests/stories/liars.rs`),
//! hostile requests at the door (`node/src/surface/door`).

use aquifer_node::home::Home;
use aquifer_node::store::NodeStore;
use aquifer_node::{Node, Up, start};
use aquifer_protocol::{Batch, Store as _, Table};
use aquifer_tests::fleet::{Fleet, Runner, until};
use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, Hasher as _};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

/// Set in the child that is to be killed: its home, and what to put before each text.
const CHILD_HOME: &str = "AQUIFER_TEST_CHILD_HOME";
const CHILD_ROUND: &str = "AQUIFER_TEST_CHILD_ROUND";
const KILLS: usize = 10;

fn flags(home: &Path) -> Up {
    Up {
        home: Some(Home::at(Some(home.to_owned()))),
        api: Some("127.0.0.1:0".into()),
        listen: vec!["/ip4/127.0.0.1/tcp/0".into()],
        no_mdns: true,
        ..Up::default()
    }
}

/// Starts a node in `home`, founding a hive if there is none.
async fn wakes(home: &Path) -> Node {
    let fresh = !home.join("store.redb").exists();
    let region = fresh.then(|| "eu".to_owned());
    start(Up {
        region,
        ..flags(home)
    })
    .await
    .expect("it comes up")
}

/// A number that nobody chose.
fn chance() -> u64 {
    std::hash::RandomState::new().build_hasher().finish()
}

/// The child: remembers in a loop, four at once, and says each id once it is acknowledged.
async fn remembers_until_killed(home: &Path, round: &str) {
    let node = wakes(home).await;
    let node = Runner {
        name: "child".into(),
        node,
    };
    let lines = |worker: usize| {
        let (node, round) = (&node, round);
        async move {
            for n in 0.. {
                let text = format!("round {round}, worker {worker}, memory {n}");
                let id = node.remembers("notes", &text).await.id;
                let mut out = std::io::stdout().lock();
                writeln!(out, "\nacknowledged {id} {text}").expect("the parent listens");
                out.flush().expect("the parent listens");
            }
        }
    };
    tokio::join!(lines(0), lines(1), lines(2), lines(3));
}

/// Starts a child on `home`, lets it write for a while, and kills it in the middle of it. What it
/// said by then goes to `said`.
fn kills_a_writer(home: &Path, round: usize, said: &mut BTreeMap<String, String>) {
    let me = std::env::current_exe().expect("this test");
    let mut child = Command::new(me)
        .args([
            "--exact",
            "what_was_acknowledged_survives_being_killed",
            "--nocapture",
        ])
        .env(CHILD_HOME, home)
        .env(CHILD_ROUND, round.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("started");
    let out = BufReader::new(child.stdout.take().expect("piped"));
    let (mut left, nap) = (1 + chance() % 40, chance() % 20_000);
    let note = |line: &str, said: &mut BTreeMap<String, String>| {
        let words = line
            .strip_prefix("acknowledged ")
            .and_then(|rest| rest.split_once(' '));
        words
            .map(|(id, text)| said.insert(id.to_owned(), text.to_owned()))
            .is_some()
    };
    let mut lines = out.lines().map_while(Result::ok);
    while left > 0 {
        let line = lines.next().expect("the child writes until it is killed");
        left -= u64::from(note(&line, said));
    }
    std::thread::sleep(std::time::Duration::from_micros(nap));
    child.kill().expect("it runs");
    // What it had said before it died counts too; a last line that is torn does not.
    let rest: Vec<String> = lines.collect();
    let whole = rest.len().saturating_sub(1);
    rest[..whole].iter().for_each(|line| {
        note(line, said);
    });
    child.wait().expect("it died");
}

/// I1: kill -9 at any moment, again and again: every id that was given out is there.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_survives_being_killed() {
    if let (Some(home), Ok(round)) = (std::env::var_os(CHILD_HOME), std::env::var(CHILD_ROUND)) {
        return remembers_until_killed(Path::new(&home), &round).await;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let home = folder.path().join("home");
    let mut said = BTreeMap::new();
    for round in 0..KILLS {
        let before = said.len();
        kills_a_writer(&home, round, &mut said);
        assert!(
            said.len() > before,
            "a round in which nothing was written proves nothing"
        );
    }
    let node = wakes(&home).await;
    let memory = node.memory();
    for (id, text) in &said {
        let found = memory.get(std::slice::from_ref(id)).await;
        let found = found.unwrap_or_else(|why| panic!("{id} ({text}) is lost: {why:?}"));
        assert_eq!(&found[0].text, text);
    }
    println!(
        "{KILLS} kills, {} acknowledged memories, none lost",
        said.len()
    );
    node.stop().await;
}

/// A home whose node has remembered `text` and was stopped.
async fn stopped_home(fleet: &Fleet, text: &str) -> String {
    let node = fleet.founds("a", "eu").await;
    let id = node.remembers("notes", text).await.id;
    node.stops().await;
    id
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_of_a_later_version_is_refused_and_nothing_in_it_changes() {
    let fleet = Fleet::default();
    stopped_home(&fleet, "written by a later version").await;
    let home = Home::at(Some(fleet.home("a")));
    let mut opened = NodeStore::open(&home, None).expect("there");
    let mut later = Batch::default();
    later.put(Table::Meta, &b"schema"[..], 99u32.to_be_bytes().to_vec());
    opened.store.apply(later).expect("durable");
    drop(opened);
    let entries = || {
        let opened = NodeStore::open(&home, None).expect("there");
        assert_eq!(opened.put_aside, None);
        let mut all = Vec::new();
        for table in Table::ALL {
            opened
                .store
                .range(table, &[], None, &mut |key, value| {
                    all.push((table, key.to_vec(), value.to_vec()));
                    true
                })
                .expect("readable");
        }
        all
    };
    let before = entries();
    let refused = fleet
        .starts("a", fleet.flags("a"))
        .await
        .expect_err("refused");
    assert_eq!((refused.code.as_str(), refused.exit), ("store_newer", 1));
    assert_eq!(entries(), before);
}

/// Changes one letter of `text` wherever the file at `path` holds it. Returns how often that was.
fn rots(path: &Path, text: &str) -> usize {
    let mut bytes = std::fs::read(path).expect("there");
    let len = text.len();
    let holds = |at: &usize| &bytes[*at..*at + len] == text.as_bytes();
    let places: Vec<usize> = (0..bytes.len() - len).filter(holds).collect();
    for at in &places {
        bytes[at + len / 2] ^= 0x20;
    }
    std::fs::write(path, bytes).expect("written");
    places.len()
}

/// I18: bytes that the disk changed are never shown as if they had been remembered, and keep neither
/// the node from coming up nor anything else from being recalled.
#[tokio::test(flavor = "multi_thread")]
async fn a_memory_that_rots_on_disk_is_not_shown_and_the_node_comes_up() {
    let text = "the quick brown fox remembers where the acorns are";
    let fleet = Fleet::default();
    let a = fleet.founds("a", "eu").await;
    let id = a.remembers("notes", text).await.id;
    a.remembers("notes", "a second memory, far from the first")
        .await;
    let b = fleet.joins("b", &a, "eu").await;
    b.comes_to_recall("notes", "acorns", text).await;
    a.stops().await;
    assert!(
        rots(&fleet.home("a").join("store.redb"), text) > 0,
        "it lies on the disk as text"
    );
    let a = fleet.starts("a", fleet.flags("a")).await.expect("comes up");
    // Whole again from the peer, or an error that says so; never the changed text.
    match a.memory().get(std::slice::from_ref(&id)).await {
        Ok(found) => assert_eq!(found[0].text, text),
        Err(why) => assert!(why.exit != 0 && !why.code.is_empty(), "{why:?}"),
    }
    until("the second memory is recalled", || async {
        let found = a.recalls("notes", "second memory").await;
        found.iter().any(|text| text.starts_with("a second"))
    })
    .await;
    let shown = a.recalls("notes", "acorns fox").await;
    assert!(
        shown.iter().all(|t| t == text || t.starts_with("a second")),
        "{shown:?}"
    );
    a.remembers("notes", "and writes on").await;
    b.comes_to_recall("notes", "writes", "and writes on").await;
}

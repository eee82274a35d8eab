//! Homes that come back changed: bytes flipped on the disk, a home lost, a clock a year off.

use aquifer_node::Up;
use aquifer_node::api::Problem;
use aquifer_node::home::Home;
use aquifer_node::store::NodeStore;
use aquifer_protocol::log::{Logs, record_at};
use aquifer_protocol::{Stamp, StoreFailure};
use aquifer_tests::fleet::{Fleet, Runner, until};
use std::path::Path;
use std::time::Duration;

const YEAR_MS: i64 = 365 * 86_400_000;
/// So many rounds of sync, of ten seconds each, is a changed store given to become whole.
const ROUNDS_MAX: usize = 9;

/// A node that kept an old view of its store would keep every page that was overwritten since: some
/// 30 kB with each memory.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_takes_room_for_what_it_holds_and_not_for_what_it_held() {
    let fleet = Fleet::default();
    let a = fleet.founds("a", "eu").await;
    for n in 0..400 {
        a.remembers("notes", &text(n)).await;
    }
    let bytes = NodeStore::bytes_on_disk(&Home::at(Some(fleet.home("a"))));
    assert!(bytes < 6 << 20, "{bytes} bytes for 400 memories");
    a.stops().await;
}

/// T31: bits changed in the stores of stopped nodes, here in one, there in another, everywhere in the
/// last: each comes up, shows nothing that was not remembered, and is whole again from its peers.
#[tokio::test(flavor = "multi_thread")]
async fn stores_changed_on_the_disk_are_whole_again_from_a_peer() {
    let fleet = Fleet::default();
    let names = ["b", "c", "d"];
    let a = fleet.founds("a", "eu").await;
    for n in 0..30 {
        a.remembers("notes", &text(n)).await;
    }
    for name in names {
        let node = fleet.joins(name, &a, "eu").await;
        node.comes_to_recall("notes", "number 29", &text(29)).await;
        node.stops().await;
    }
    let mut nodes = Vec::new();
    for (i, name) in names.into_iter().enumerate() {
        let everywhere = i + 1 == names.len();
        flips(&fleet.home(name).join("store.redb"), 3 * i, everywhere);
        nodes.push(
            fleet
                .starts(name, fleet.flags(name))
                .await
                .expect("comes up"),
        );
    }
    let mut met = 0;
    for mut node in nodes {
        let mut starts = 1;
        // A node that meets a page it cannot read stops, and is started again: once, since the store
        // is then checked whole.
        while let Err(why) = comes_to_be_whole(&node).await {
            let name = node.name.clone();
            assert!(starts < 3, "{name}: {why:?}");
            node.stops().await;
            node = fleet
                .starts(&name, fleet.flags(&name))
                .await
                .expect("comes up again");
            starts += 1;
        }
        let findings = node.memory().doctor().await.expect("up");
        let troubles: Vec<_> = findings
            .into_iter()
            .filter(|f| f.check == "event")
            .collect();
        println!("{}: {starts} starts, {troubles:?}", node.name);
        met += starts - 1 + troubles.len();
        node.remembers("notes", &format!("{} writes on", node.name))
            .await;
    }
    assert!(met > 0, "no change was met: nothing was tested");
    a.comes_to_recall("notes", "d writes on", "d writes on")
        .await;
}

fn text(n: usize) -> String {
    format!("memory number {n}: {}", "some words ".repeat(20))
}

/// Changes one bit in each page of a file that holds memories, elsewhere each round; or one in each of
/// 200 places all over the file.
fn flips(path: &Path, round: usize, everywhere: bool) {
    let mut bytes = std::fs::read(path).expect("there");
    let len = bytes.len();
    let all_over = (0..200).map(|n| len / 2 + n * (len / 200) + 997 * n + 11);
    let in_memories = bytes.chunks(4_096).enumerate().filter_map(|(n, page)| {
        let holds = page.windows(6).any(|word| word == b"number");
        holds.then_some(n * 4_096 + (round * 811 + n * 97 + 11) % 4_096)
    });
    let places: Vec<usize> = if everywhere {
        all_over.collect()
    } else {
        in_memories.collect()
    };
    for at in places {
        bytes[at % len] ^= 1 << (at % 8);
    }
    std::fs::write(path, &bytes).expect("written");
}

/// Waits until a node lists all that was remembered, or has stopped.
async fn comes_to_be_whole(node: &Runner) -> Result<(), Problem> {
    let remembered =
        |shown: &String| shown.ends_with("writes on") || (0..30).any(|n| *shown == text(n));
    // A round of sync asks one peer, and that one may have lost the same: it can take some rounds.
    let whole = async {
        for _ in 0..ROUNDS_MAX * 200 {
            let listed = list(node).await;
            for shown in &listed {
                assert!(remembered(shown), "never remembered: {shown}");
            }
            if (0..30).all(|n| listed.contains(&text(n))) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{} never became whole", node.name);
    };
    tokio::select! {
        () = whole => Ok(()),
        why = node.node.failed() => Err(why),
    }
}

async fn list(node: &Runner) -> Vec<String> {
    let asked = aquifer_node::api::List {
        topic: Some("notes".into()),
        limit: Some(100),
        ..Default::default()
    };
    let listed = node.memory().list(asked).await.map(|page| page.memories);
    listed
        .unwrap_or_default()
        .into_iter()
        .map(|memory| memory.text)
        .collect()
}

/// A home that is lost with its key: its machine joins anew, under a new name, and has what the old
/// one wrote.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_home_is_made_anew_and_what_its_node_wrote_is_not_lost_with_it() {
    let fleet = Fleet::default();
    let a = fleet.founds("a", "eu").await;
    let b = fleet.joins("b", &a, "eu").await;
    let lost = b.memory().status().await.expect("up").node_id;
    b.remembers("notes", "written by the one that is lost")
        .await;
    a.comes_to_recall("notes", "written", "written by the one that is lost")
        .await;
    b.stops().await;
    std::fs::remove_dir_all(fleet.home("b")).expect("lost");
    let b = fleet.joins("b", &a, "eu").await;
    b.comes_to_recall("notes", "written", "written by the one that is lost")
        .await;
    assert_ne!(b.memory().status().await.expect("up").node_id, lost);
    b.remembers("notes", "written by the new one").await;
    a.comes_to_recall("notes", "new one", "written by the new one")
        .await;
}

/// The stamps of every log in a stopped node's store, in the order of the log.
fn stamps(home: &Path) -> Result<Vec<Vec<Stamp>>, StoreFailure> {
    let store = NodeStore::open(&Home::at(Some(home.to_owned())), None)
        .expect("there")
        .store;
    let snapshot = store.snapshot();
    let logs = Logs::load(&snapshot)?;
    let all = logs.iter().map(|(_, state)| {
        let read = |seq| record_at(&snapshot, state.number, seq).ok().flatten();
        (0..state.height)
            .filter_map(read)
            .map(|record| record.header().stamp)
            .collect()
    });
    Ok(all.collect())
}

/// I9, T34: a node whose clock jumped back a year never stamps before what it stamped last; one whose
/// clock jumped ahead cannot drag its peers along; and once the clock is right again, all go on.
#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_jumps_a_year_between_two_starts_does_no_harm() {
    let fleet = Fleet::default();
    let a = fleet.founds("a", "eu").await;
    let mut b = fleet.joins("b", &a, "eu").await;
    b.remembers("notes", "by the right clock").await;
    a.comes_to_recall("notes", "right clock", "by the right clock")
        .await;
    for years in [-1, 1] {
        b.stops().await;
        let wrong = Up {
            clock_shift_ms: years * YEAR_MS,
            ..fleet.flags("b")
        };
        b = fleet
            .starts("b", wrong)
            .await
            .expect("it comes up and reads");
        assert!(
            b.recalls("notes", "right clock")
                .await
                .contains(&"by the right clock".to_owned())
        );
        let text = format!("by a clock {years} years off");
        match b.tries_to_remember("notes", &text).await {
            // Its certificate is not in force then, or its peers' clocks say otherwise.
            Err(why) => assert!(
                ["certificate_expired", "clock_ahead"].contains(&why.code.as_str()),
                "{why:?}"
            ),
            Ok(_) => assert_eq!(years, -1, "a year ahead"),
        }
        b.stops().await;
        for log in stamps(&fleet.home("b")).expect("readable") {
            assert!(log.is_sorted(), "a log went back in time");
        }
        b = fleet.starts("b", fleet.flags("b")).await.expect("comes up");
        let text = format!("and right again after {years}");
        until("it writes by the right clock", || async {
            b.tries_to_remember("notes", &text).await.is_ok()
        })
        .await;
        a.comes_to_recall("notes", "right again", &text).await;
    }
    // A founder can certify itself for a year to come: alone it writes then, and nobody follows it.
    a.stops().await;
    let ahead = Up {
        clock_shift_ms: YEAR_MS,
        ..fleet.flags("a")
    };
    let a = fleet.starts("a", ahead).await.expect("comes up");
    let written = a.tries_to_remember("notes", "from the year to come").await;
    a.stops().await;
    let a = fleet
        .starts("a", fleet.flags("a"))
        .await
        .expect("comes up again");
    until("it writes by the right clock", || async {
        a.tries_to_remember("notes", "the founder is right again")
            .await
            .is_ok()
    })
    .await;
    b.comes_to_recall("notes", "founder", "the founder is right again")
        .await;
    assert!(
        !b.recalls("notes", "year to come")
            .await
            .contains(&"from the year to come".to_owned()),
        "{written:?}"
    );
}

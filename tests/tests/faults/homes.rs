//! Homes that come back changed: bytes flipped on the disk, a home lost, a clock a year off.

use aquifer_node::Up;
use aquifer_node::home::Home;
use aquifer_node::store::NodeStore;
use aquifer_protocol::log::{Logs, record_at};
use aquifer_protocol::{Stamp, StoreFailure};
use aquifer_tests::fleet::{Fleet, Runner, until};
use std::path::Path;

const YEAR_MS: i64 = 365 * 86_400_000;

/// T31: one bit changed in each of many places of a stopped node's store, on one node of two: it
/// comes up, shows nothing that was not remembered, and is whole again from its peer.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_changed_in_many_places_is_whole_again_from_a_peer() {
    let fleet = Fleet::default();
    let a = fleet.founds("a", "eu").await;
    let b = fleet.joins("b", &a, "eu").await;
    let text = |n: usize| format!("memory number {n}: {}", "some words ".repeat(20));
    for n in 0..30 {
        a.remembers("notes", &text(n)).await;
    }
    b.comes_to_recall("notes", "number 29", &text(29)).await;
    let mut b = b;
    let mut met = 0;
    // First here, then there, then everywhere at once.
    for round in 0..10 {
        b.stops().await;
        let path = fleet.home("b").join("store.redb");
        let mut bytes = std::fs::read(&path).expect("there");
        let len = bytes.len();
        let places = if round < 9 { 1 } else { 200 };
        for place in 0..places {
            let at = len / 10 * (round + 1) + place * (len / places) + 997 * place + 11;
            bytes[at % len] ^= 1 << (at % 8);
        }
        std::fs::write(&path, &bytes).expect("written");
        b = fleet.starts("b", fleet.flags("b")).await.expect("comes up");
        // A node that meets a page it cannot read stops, and is started again: once, since the store
        // is then checked whole.
        let mut starts = 1;
        loop {
            let whole = until("every memory is back and as it was", || async {
                let listed = list(&b).await;
                for shown in &listed {
                    assert!(
                        (0..30).any(|n| *shown == text(n)),
                        "never remembered: {shown}"
                    );
                }
                listed.len() == 30
            });
            tokio::select! {
                () = whole => break,
                why = b.node.failed() => assert!(starts < 3, "{places} places: {why:?}"),
            }
            b.stops().await;
            b = fleet
                .starts("b", fleet.flags("b"))
                .await
                .expect("comes up again");
            starts += 1;
        }
        let troubles = b.memory().doctor().await.expect("up");
        let troubles: Vec<_> = troubles
            .into_iter()
            .filter(|t| t.check == "event")
            .collect();
        println!("round {round}, {places} places: {starts} starts, {troubles:?}");
        met += starts - 1 + troubles.len();
    }
    assert!(met > 0, "no change was met: nothing was tested");
    b.remembers("notes", "and writes on").await;
    a.comes_to_recall("notes", "writes on", "and writes on")
        .await;
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

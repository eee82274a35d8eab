//! Disks and clocks that fail: a full disk, a failed fsync, a slow disk, changed bytes, a lost home,
//! a clock that jumps (T30–T34). The nodes are real processes where a system call must fail.
//!
//! Not here: kills (`hostile.rs`), what engines owe (`engines.rs`), faults by the thousand (the
//! simulator).

use aquifer_node::Up;
use aquifer_node::api::{Forget, Problem};
use aquifer_node::home::Home;
use aquifer_node::store::NodeStore;
use aquifer_protocol::log::{Logs, record_at};
use aquifer_protocol::{Stamp, StoreFailure};
use aquifer_tests::fleet::{Fleet, Runner, until};
use aquifer_tests::machine::{Machine, World, can_inject, can_mount, daemon, fills, pause, void};
use std::collections::BTreeMap;
use std::path::Path;

const YEAR_MS: i64 = 365 * 86_400_000;

/// Runs a story. In the child of a machine this is the node, and never returns.
fn story(tell: impl Future<Output = ()>) {
    daemon();
    let runtime = tokio::runtime::Runtime::new().expect("threads");
    runtime.block_on(tell);
}

/// What was acknowledged: id and text.
#[derive(Default)]
struct Acknowledged(BTreeMap<String, String>);

impl Acknowledged {
    async fn tries(&mut self, machine: &Machine, text: &str) -> Result<(), Problem> {
        let done = machine.remembers(text).await?;
        self.0.insert(done.id, text.to_owned());
        Ok(())
    }

    async fn all_there(&self, machine: &Machine) {
        for (id, text) in &self.0 {
            let found = machine.client.get(id).await;
            let found = found.unwrap_or_else(|why| panic!("{text} is lost: {why:?}"));
            assert_eq!(&found.text, text);
        }
    }
}

fn long(n: usize) -> String {
    format!("memory {n} {}", "fills the disk ".repeat(600))
}

fn forget(id: &str) -> Forget {
    Forget {
        ids: vec![id.to_owned()],
        ..Forget::default()
    }
}

/// T30, I18: writes that find no room at all are refused, whatever was acknowledged stays and is
/// shown, and when there is room the same process goes on. Nothing watches the disk beforehand here:
/// only the failed write tells.
#[test]
fn a_disk_with_no_room_at_all_leaves_a_reading_node_that_goes_on_by_itself() {
    story(async {
        if !can_mount() {
            return void("mounting a small disk needs a privilege");
        }
        for engine in ["redb", "sled"] {
            let folder = tempfile::tempdir().expect("a folder");
            let world = World {
                disk_mib: Some(48),
                config: format!("disk_reserve_mib = 0\nstore = '{engine}'\n"),
                ..World::default()
            };
            let test = "a_disk_with_no_room_at_all_leaves_a_reading_node_that_goes_on_by_itself";
            let mut machine = Machine::up(test, &folder, &world).expect("comes up");
            open_notes(&machine).await;
            let mut kept = Acknowledged::default();
            for n in 0..10 {
                kept.tries(&machine, &long(n)).await.expect("there is room");
            }
            // sled is not written to where there is little room; redb finds out.
            let spare = if engine == "sled" { 3 << 20 } else { 0 };
            let filler = fills(&machine.home, spare);
            let mut n = 100;
            let refused = loop {
                match kept.tries(&machine, &long(n)).await {
                    Ok(()) => n += 1,
                    Err(refused) => break refused,
                }
                assert!(n < 5_000, "{engine}: the disk never ran full");
            };
            assert_eq!(
                (refused.code.as_str(), refused.exit),
                ("disk_full", 1),
                "{engine}: {refused:?}"
            );
            // Again, and again: each refused, none fatal.
            for more in 0..3 {
                let again = kept.tries(&machine, &long(6_000 + more)).await;
                if let Err(again) = again {
                    assert_eq!(again.code, "disk_full", "{engine}: {again:?}");
                }
            }
            kept.all_there(&machine).await;
            assert!(
                !machine
                    .recalls("memory fills")
                    .await
                    .expect("reads")
                    .is_empty()
            );
            std::fs::remove_file(filler).expect("room is made");
            while let Err(why) = kept.tries(&machine, "there is room again").await {
                assert_eq!(why.code, "disk_full", "{engine}: {why:?}");
                assert!(machine.lives());
                pause().await;
            }
            kept.all_there(&machine).await;
            assert!(machine.lives(), "no restart was needed");
            machine.stops().await;
        }
    });
}

/// A topic that restricts nothing: every engine holds it.
async fn open_notes(machine: &Machine) {
    let made = aquifer_node::api::NewTopic {
        name: "notes".into(),
        ..Default::default()
    };
    machine.client.topic_create(&made).await.expect("created");
}

/// T30: with less room than the reserve the node takes nothing new, and still forgets, even when
/// others have taken the very last block: some was kept back for that.
#[test]
fn a_node_low_on_room_takes_nothing_new_and_still_forgets() {
    story(async {
        if !can_mount() {
            return void("mounting a small disk needs a privilege");
        }
        let folder = tempfile::tempdir().expect("a folder");
        let world = World {
            disk_mib: Some(48),
            config: "disk_reserve_mib = 8\n".into(),
            ..World::default()
        };
        let test = "a_node_low_on_room_takes_nothing_new_and_still_forgets";
        let mut machine = Machine::up(test, &folder, &world).expect("comes up");
        let mut ids = Vec::new();
        for n in 0..6 {
            ids.push(machine.remembers(&long(n)).await.expect("there is room").id);
        }
        let filler = fills(&machine.home, 2 << 20);
        let refused = loop {
            match machine.remembers("one more").await {
                Err(refused) => break refused,
                Ok(_) => pause().await,
            }
            let more = machine
                .remembers(&format!("{:?}", std::time::Instant::now()))
                .await;
            if let Err(refused) = more {
                break refused;
            }
        };
        assert_eq!(
            (refused.code.as_str(), refused.exit),
            ("disk_full", 1),
            "{refused:?}"
        );
        let status = machine.client.status().await.expect("reads");
        assert!(status.store.read_only, "{:?}", status.store);
        assert_eq!(machine.finds("disk").await.as_deref(), Ok("critical"));
        machine
            .client
            .forget(&forget(&ids[0]))
            .await
            .expect("forgets");
        let rest = fills(
            &machine
                .home
                .join("rest")
                .parent()
                .map(Path::to_owned)
                .expect("a home"),
            0,
        );
        // The first may find no room at all and be told so; the reserve is given up for the next.
        let mut tries = 0;
        while let Err(why) = machine.client.forget(&forget(&ids[1])).await {
            assert_eq!(why.code, "disk_full", "{why:?}");
            tries += 1;
            assert!(tries < 100, "what was kept back did not help");
            pause().await;
        }
        assert_eq!(machine.client.get(&ids[1]).await.expect_err("gone").exit, 3);
        assert_eq!(
            machine.client.get(&ids[2]).await.expect("kept").text,
            long(2)
        );
        for file in [filler, rest] {
            let _ = std::fs::remove_file(file);
        }
        while let Err(why) = machine.remembers("there is room again").await {
            assert_eq!(why.code, "disk_full", "{why:?}");
            pause().await;
        }
        assert!(machine.lives(), "no restart was needed");
        machine.stops().await;
    });
}

/// T30: a write that finds no room at any place of a commit, time after time.
#[test]
fn a_write_refused_at_any_place_of_a_commit_loses_nothing_acknowledged() {
    story(async {
        if !can_inject() {
            return void("failing system calls needs strace and the right to trace");
        }
        let folder = tempfile::tempdir().expect("a folder");
        let test = "a_write_refused_at_any_place_of_a_commit_loses_nothing_acknowledged";
        let world = World {
            inject: Some("pwrite64:error=ENOSPC:when=300+23".into()),
            ..World::default()
        };
        let machine = Machine::up(test, &folder, &world).expect("comes up");
        let (mut kept, mut refused) = (Acknowledged::default(), 0);
        let mut n = 0;
        while refused < 6 {
            match kept.tries(&machine, &long(n)).await {
                Ok(()) => {}
                Err(why) if why.code == "disk_full" => refused += 1,
                Err(why) => panic!("after {refused} refusals: {why:?}"),
            }
            n += 1;
            assert!(n < 3_000, "no fault was met: nothing was tested");
        }
        kept.all_there(&machine).await;
        assert!(
            !kept.0.is_empty(),
            "nothing was acknowledged: nothing was tested"
        );
        machine.stops().await;
        let machine = Machine::up(test, &folder, &World::default()).expect("comes up");
        kept.all_there(&machine).await;
        println!(
            "{refused} refusals, {} acknowledged, none lost",
            kept.0.len()
        );
        machine.stops().await;
    });
}

/// T32, I18: after a failed fsync nothing is acknowledged any more. The node ends with exit code 1
/// and says why; the next one has everything that was.
#[test]
fn after_a_failed_fsync_nothing_is_acknowledged_and_what_was_is_kept() {
    story(async {
        if !can_inject() {
            return void("failing system calls needs strace and the right to trace");
        }
        for error in ["EIO", "ENOSPC"] {
            let folder = tempfile::tempdir().expect("a folder");
            let test = "after_a_failed_fsync_nothing_is_acknowledged_and_what_was_is_kept";
            let world = World {
                inject: Some(format!("fdatasync:error={error}:when=30+")),
                ..World::default()
            };
            let machine = Machine::up(test, &folder, &world).expect("comes up");
            let mut kept = Acknowledged::default();
            let mut n = 0;
            while kept.tries(&machine, &format!("memory {n}")).await.is_ok() {
                n += 1;
                assert!(n < 300, "no fault was met: nothing was tested");
            }
            assert!(n > 0, "nothing was acknowledged: nothing was tested");
            let after = machine.remembers("after the failure").await;
            assert!(after.is_err(), "{error}: acknowledged after a failed fsync");
            let (status, said) = machine.ends();
            assert_eq!(status.code(), Some(1), "{error}: {said}");
            assert!(said.contains("store_failed"), "{error}: {said}");
            let machine = Machine::up(test, &folder, &World::default()).expect("comes up");
            kept.all_there(&machine).await;
            machine.remembers("and writes on").await.expect("writes on");
            machine.stops().await;
        }
    });
}

/// T35: while one write waits for a slow disk, readers do not, and the operator is told.
#[test]
fn a_slow_disk_delays_writers_and_no_reader() {
    story(async {
        if !can_inject() {
            return void("delaying system calls needs strace and the right to trace");
        }
        let folder = tempfile::tempdir().expect("a folder");
        let test = "a_slow_disk_delays_writers_and_no_reader";
        let world = World {
            inject: Some("fdatasync:delay_enter=300000:when=3+".into()),
            ..World::default()
        };
        let machine = Machine::up(test, &folder, &world).expect("comes up");
        machine.remembers("the first memory").await.expect("slowly");
        let mut overtook = 0;
        for n in 0..6 {
            let text = format!("slow memory {n}");
            let write = machine.remembers(&text);
            tokio::pin!(write);
            let mut reads = 0;
            loop {
                tokio::select! {
                    biased;
                    done = &mut write => break drop(done.expect("slowly")),
                    found = machine.recalls("first memory") => {
                        assert!(found.expect("reads").iter().any(|t| t == "the first memory"));
                        reads += 1;
                    }
                }
            }
            overtook += usize::from(reads > 1);
        }
        assert!(overtook > 3, "readers overtook only {overtook} of 6 writes");
        assert_eq!(machine.finds("disk").await.as_deref(), Ok("warning"));
        assert!(machine.client.status().await.expect("reads").store.slow);
        machine.stops().await;
    });
}

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
    for places in [7, 40, 400] {
        b.stops().await;
        let path = fleet.home("b").join("store.redb");
        let mut bytes = std::fs::read(&path).expect("there");
        let stride = bytes.len() / places;
        for place in 0..places {
            let at = (place * stride + 4_096 + place * 997) % bytes.len();
            bytes[at] ^= 1 << (place % 8);
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
        println!("{places} places: {starts} starts, {troubles:?}");
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

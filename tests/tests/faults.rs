//! Disks and clocks that fail: a full disk, a failed fsync, a slow disk, changed bytes, a lost home,
//! a clock that jumps (T30–T34). The nodes are real processes where a system call must fail.
//!
//! Not here: kills (`hostile.rs`), what engines owe (`engines.rs`), faults by the thousand (the
//! simulator).

#[path = "faults/homes.rs"]
mod homes;

use aquifer_node::api::{Forget, NewTopic, Problem};
use aquifer_tests::machine::{Machine, World, can_inject, can_mount, daemon, fills, pause, void};
use std::collections::BTreeMap;

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
        let test = "a_disk_with_no_room_at_all_leaves_a_reading_node_that_goes_on_by_itself";
        if !can_mount() {
            return void(test, "mounting a small disk needs a privilege");
        }
        for engine in ["redb", "sled"] {
            let folder = tempfile::tempdir().expect("a folder");
            let world = World {
                disk_mib: Some(48),
                config: format!("disk_reserve_mib = 0\nstore = '{engine}'\n"),
                ..World::default()
            };
            let mut machine = Machine::up(test, &folder, &world).expect("comes up");
            open_notes(&machine).await;
            let mut kept = Acknowledged::default();
            for n in 0..10 {
                kept.tries(&machine, &long(n)).await.expect("there is room");
            }
            // sled is not written to where there is little room; redb finds out.
            let spare = if engine == "sled" { 3 << 20 } else { 0 };
            let filler = fills(&machine.home, "filler", spare);
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
    let made = NewTopic {
        name: "notes".into(),
        ..NewTopic::default()
    };
    machine.client.topic_create(&made).await.expect("created");
}

/// T30: with less room than the reserve the node takes nothing new, and still forgets, even when
/// others have taken the very last block: some was kept back for that.
#[test]
fn a_node_low_on_room_takes_nothing_new_and_still_forgets() {
    story(async {
        let test = "a_node_low_on_room_takes_nothing_new_and_still_forgets";
        if !can_mount() {
            return void(test, "mounting a small disk needs a privilege");
        }
        let folder = tempfile::tempdir().expect("a folder");
        let world = World {
            disk_mib: Some(48),
            config: "disk_reserve_mib = 8\n".into(),
            ..World::default()
        };
        let mut machine = Machine::up(test, &folder, &world).expect("comes up");
        let mut ids = Vec::new();
        for n in 0..6 {
            ids.push(machine.remembers(&long(n)).await.expect("there is room").id);
        }
        let filler = fills(&machine.home, "filler", 2 << 20);
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
        let rest = fills(&machine.home, "rest", 0);
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
        let test = "a_write_refused_at_any_place_of_a_commit_loses_nothing_acknowledged";
        if !can_inject() {
            return void(
                test,
                "failing system calls needs strace and the right to trace",
            );
        }
        let folder = tempfile::tempdir().expect("a folder");
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
        let test = "after_a_failed_fsync_nothing_is_acknowledged_and_what_was_is_kept";
        if !can_inject() {
            return void(
                test,
                "failing system calls needs strace and the right to trace",
            );
        }
        for error in ["EIO", "ENOSPC"] {
            let folder = tempfile::tempdir().expect("a folder");
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
        let test = "a_slow_disk_delays_writers_and_no_reader";
        if !can_inject() {
            return void(
                test,
                "delaying system calls needs strace and the right to trace",
            );
        }
        let folder = tempfile::tempdir().expect("a folder");
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

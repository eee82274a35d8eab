//! Jobs that take without end: each is stopped by its budget, and says which part it was.

use crate::stand::{has_python, python, sh, stands, well, words};
use aquifer_runner::outcome::{Ended, Over};

#[test]
fn a_fork_bomb_is_held_and_ends_with_its_time() {
    let (stands, _turn) = stands("fork-bomb");
    if !has_python("fork-bomb") {
        return;
    }
    let script = "import os\nwhile True:\n try: os.fork()\n except OSError: pass";
    for stand in &stands {
        let mut request = python(script);
        request.budget.wall_ms = 1_500;
        let outcome = stand.run("fork bomb", request);
        assert_eq!(outcome.ended, Ended::Over(Over::Wall));
        if stand.is_grouped {
            assert!(outcome.usage.pids_refused > 0, "it was refused nothing");
        }
    }
}

#[test]
fn as_many_processes_as_the_budget_has_and_no_more() {
    let (stands, _turn) = stands("pids");
    if !has_python("pids") {
        return;
    }
    let script = "import os, time\nn = 1\ntry:\n while True:\n  \
        if os.fork() == 0: time.sleep(60); os._exit(0)\n  n += 1\n\
        except OSError as why: print(n, why.errno)";
    for stand in &stands {
        let said = well(&stand.run("as many as it may", python(script)));
        assert_eq!(said, "32 11\n", "{}", stand.name);
    }
}

#[test]
fn a_memory_bomb_is_stopped() {
    let (stands, _turn) = stands("memory-bomb");
    if !has_python("memory-bomb") {
        return;
    }
    let one = "x = []\nwhile True: x.append(bytearray(1 << 20))";
    let many = "import os, time\nfor _ in range(8):\n if os.fork() == 0: break\nx = bytearray(40 << 20)\ntime.sleep(60)";
    let shared = "import mmap\nx = mmap.mmap(-1, 1 << 29)\n\
        for i in range(0, 1 << 29, 4096): x[i] = 1";
    for stand in &stands {
        let outcome = stand.run("memory bomb of one", python(one));
        let is_stopped = match stand.is_grouped {
            true => outcome.ended == Ended::Over(Over::Memory),
            // Python is refused the memory by its own limit, and ends; or it is seen in time.
            false => matches!(outcome.ended, Ended::Exited(1) | Ended::Over(Over::Memory)),
        };
        assert!(is_stopped, "{:?}", outcome.ended);
        for (what, script) in [
            ("memory bomb of many", many),
            ("memory bomb, shared", shared),
        ] {
            let outcome = stand.run(what, python(script));
            assert_eq!(
                outcome.ended,
                Ended::Over(Over::Memory),
                "{what} {}",
                stand.name
            );
        }
    }
}

#[test]
fn a_disk_filler_finds_a_small_disk() {
    let (stands, _turn) = stands("disk");
    for stand in &stands {
        let mut request = sh("cat /dev/zero > /tmp/a; stat -c %s /tmp/a; i=0; \
             while [ $i -lt 200 ]; do echo more > /tmp/b$i || exit 0; i=$((i+1)); done; exit 1");
        request.budget.wall_ms = 10_000;
        let size: u64 = well(&stand.run("disk filler", request))
            .trim()
            .parse()
            .expect("a size");
        assert!((7 << 20..=8 << 20).contains(&size), "{size}");
        let said = well(&stand.run("files without end", {
            let mut request = sh(
                "mkdir /tmp/d && cd /tmp/d && seq 1 70000 | xargs -n 5000 touch 2>&1 | \
                 grep -c 'No space'; exit 0",
            );
            request.budget.wall_ms = 60_000;
            request.budget.cpu_ms = 60_000;
            request.budget.scratch_bytes = 256 << 20;
            request.budget.memory_bytes = 512 << 20;
            request
        }));
        assert_ne!(said.trim(), "0", "there is no end of files");
    }
}

#[test]
fn output_without_end_is_stopped() {
    let (stands, _turn) = stands("endless-output");
    for stand in &stands {
        let outcome = stand.run("endless output", words(&["yes"]));
        assert_eq!(outcome.ended, Ended::Over(Over::Output));
        assert!(outcome.stdout.is_cut);
        let outcome = stand.run("endless complaint", sh("yes >&2"));
        assert_eq!(outcome.ended, Ended::Over(Over::Output));
        assert!(outcome.stderr.is_cut);
    }
}

#[test]
fn sleep_without_end_and_work_without_end_are_stopped() {
    let (stands, _turn) = stands("endless");
    for stand in &stands {
        let mut request = words(&["sleep", "600"]);
        request.budget.wall_ms = 300;
        assert_eq!(
            stand.run("endless sleep", request).ended,
            Ended::Over(Over::Wall)
        );
        let mut request = sh("trap '' TERM INT HUP; exec >&- 2>&-; while :; do :; done");
        request.budget.wall_ms = 300;
        let deaf = stand.run("deaf, without streams", request);
        assert_eq!(deaf.ended, Ended::Over(Over::Wall));
        let mut request = sh("while :; do :; done & while :; do :; done");
        request.budget.wall_ms = 10_000;
        request.budget.cpu_ms = 400;
        let outcome = stand.run("endless work", request);
        assert_eq!(outcome.ended, Ended::Over(Over::Cpu));
        assert!(outcome.usage.cpu_us >= 400_000, "{:?}", outcome.usage);
    }
}

#[test]
fn half_a_processor_is_half_a_processor() {
    let (stands, _turn) = stands("cores");
    for stand in stands.iter().filter(|stand| stand.is_grouped) {
        let mut request = sh("while :; do :; done & while :; do :; done");
        request.budget.cores = 500;
        request.budget.wall_ms = 1_500;
        let outcome = stand.run("half a processor", request);
        assert_eq!(outcome.ended, Ended::Over(Over::Wall));
        // The stage is in the group as well, and a period may begin before it.
        let most = (outcome.usage.setup_us + outcome.usage.wall_us) / 2 + 100_000;
        assert!(outcome.usage.cpu_us <= most, "{:?}", outcome.usage);
    }
}

//! Jobs that mean no harm: what they get, what they see, what is told of them.

use crate::stand::{has_python, out, python, settings, sh, stands, well, words};
use aquifer_runner::job::{Job, Placed};
use aquifer_runner::outcome::{Ended, Over};
use aquifer_runner::process::{Process, Settings};
use aquifer_runner::serve::{Answer, serve};
use aquifer_runner::{RunFailure, Runner, Stop};
use std::time::Duration;

#[test]
fn a_job_gets_its_input_its_files_and_its_variables_and_nothing_else() {
    let (stands, _turn) = stands("input");
    for stand in &stands {
        let mut request = sh(
            "cat; cat /in/a; /in/tool; echo $COLOUR; pwd; env | sort | cut -d= -f1 | tr '\n' ' '",
        );
        request.stdin = b"stdin ".to_vec();
        request.files = vec![
            Placed::of("a", b"file ".as_slice(), false),
            Placed::of("tool", b"#!/bin/sh\necho tool".as_slice(), true),
        ];
        request.env = vec![("COLOUR".into(), "blue".into())];
        let said = well(&stand.run("input", request));
        assert_eq!(
            said,
            "stdin file tool\nblue\n/tmp\nAQUIFER_TEST_MARK COLOUR HOME PATH PWD "
        );
    }
}

#[test]
fn a_job_sees_an_empty_machine() {
    let (stands, _turn) = stands("sights");
    for stand in &stands {
        let request = sh(
            "id -u; hostname; ls /; ls /dev; ls /etc; ls /proc | grep -vc '^[0-9]*$'; \
             set -- /proc/[0-9]*; echo $#; grep CapEff /proc/self/status; \
             grep NoNewPrivs /proc/self/status; grep 'Seccomp:' /proc/self/status",
        );
        let said = well(&stand.run("sights", request));
        let mut lines: Vec<&str> = said.lines().collect();
        assert_eq!(lines[..2], ["1000", "job"]);
        for shown in [
            "bin", "lib", "lib32", "lib64", "libx32", "nix", "sbin", "usr",
        ] {
            lines.retain(|line| *line != shown);
        }
        assert_eq!(lines[2..7], ["dev", "etc", "in", "proc", "tmp"]);
        assert_eq!(
            lines[7..14],
            ["fd", "null", "stderr", "stdin", "stdout", "urandom", "zero"]
        );
        lines.retain(|line| !matches!(*line, "alternatives" | "ld.so.cache"));
        assert_eq!(lines[14..16], ["group", "passwd"]);
        // The links self and thread-self; the first process and the shell.
        assert_eq!(lines[16..18], ["2", "2"]);
        assert_eq!(lines[18], "CapEff:\t0000000000000000");
        assert_eq!(lines[19..21], ["NoNewPrivs:\t1", "Seccomp:\t2"]);
    }
}

#[test]
fn python_runs_with_threads_children_and_files() {
    let (stands, _turn) = stands("python");
    if !has_python("python") {
        return;
    }
    let script = "import json, subprocess, threading, tempfile, hashlib, os, time, asyncio\n\
        from concurrent.futures import ProcessPoolExecutor\n\
        found = []\n\
        t = threading.Thread(target=lambda: found.append(hashlib.sha256(b'x').hexdigest()[:8]))\n\
        t.start(); t.join()\n\
        found.append(subprocess.run(['echo', 'child'], capture_output=True, text=True).stdout.strip())\n\
        with tempfile.NamedTemporaryFile() as f: f.write(b'abc'); f.flush(); found.append(os.path.getsize(f.name))\n\
        async def two(): return (await asyncio.gather(asyncio.sleep(0, 1), asyncio.sleep(0, 2)))\n\
        found.append(asyncio.run(two()))\n\
        print(json.dumps(found))";
    for stand in &stands {
        let said = well(&stand.run("python", python(script)));
        assert_eq!(said, "[\"2d711642\", \"child\", 3, [1, 2]]\n");
    }
}

#[test]
fn how_a_job_ended_is_told() {
    let (stands, _turn) = stands("ends");
    for stand in &stands {
        assert_eq!(stand.run("exit 7", sh("exit 7")).ended, Ended::Exited(7));
        let killed = stand.run("kill", sh("kill -TERM $$"));
        assert_eq!(killed.ended, Ended::Signalled(15));
        let aborted = stand.run("abort", sh("kill -ABRT $$"));
        assert_eq!(aborted.ended, Ended::Signalled(6));
        let failure = stand.try_run("gone", words(&["/usr/bin/no-such-program"]));
        assert!(
            matches!(&failure, Err(RunFailure::NoStart { why, .. }) if why.contains("No such file")),
            "{failure:?}"
        );
    }
}

#[test]
fn what_is_left_running_ends_with_the_job() {
    let (stands, _turn) = stands("background");
    for stand in &stands {
        let outcome = stand.run(
            "background",
            sh("setsid sleep 600 & setsid sh -c 'sleep 600' & echo done"),
        );
        assert_eq!(well(&outcome), "done\n");
    }
}

#[test]
fn a_job_can_be_stopped_from_another_thread() {
    let (stands, _turn) = stands("stop");
    for stand in &stands {
        let stop = Stop::default();
        let job = Job::of(sh("echo begun; sleep 600")).expect("a job");
        let outcome = std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(300));
                stop.stop();
            });
            stand.process.run(&job, &stop).expect("an outcome")
        });
        assert_eq!(outcome.ended, Ended::Stopped);
    }
}

#[test]
fn many_jobs_run_at_once_and_one_job_makes_one_product() {
    let (stands, _turn) = stands("many");
    for stand in &stands {
        let job = Job::of(sh("seq 1 1000")).expect("a job");
        let other = Job::of(sh("seq 1 999")).expect("a job");
        let products: Vec<[u8; 32]> = std::thread::scope(|scope| {
            let runs: Vec<_> = (0..8)
                .map(|_| scope.spawn(|| stand.process.run(&job, &Stop::default())))
                .collect();
            runs.into_iter()
                .map(|run| run.join().expect("no panic").expect("an outcome").product())
                .collect()
        });
        assert!(products.iter().all(|product| *product == products[0]));
        let other = stand
            .process
            .run(&other, &Stop::default())
            .expect("an outcome");
        assert_ne!(other.product(), products[0]);
    }
}

#[test]
fn output_beyond_the_budget_is_cut_and_said_to_be() {
    let (stands, _turn) = stands("output");
    for stand in &stands {
        let mut request = sh("printf 12345; printf 678 >&2");
        request.budget.output_bytes = 8;
        let whole = stand.run("output fits", request.clone());
        assert_eq!(well(&whole), "12345");
        assert!(!whole.stdout.is_cut && !whole.stderr.is_cut);
        request.budget.output_bytes = 7;
        let cut = stand.run("output cut", request);
        assert_eq!(cut.ended, Ended::Over(Over::Output));
        assert!(cut.stdout.is_cut || cut.stderr.is_cut);
        assert_eq!(cut.stdout.bytes.len() + cut.stderr.bytes.len(), 7);
    }
}

#[test]
fn a_machine_shows_what_its_owner_says_and_gives_no_more_than_he_says() {
    let (stands, _turn) = stands("owner");
    let Some(stand) = stands.first() else { return };
    let mut request = sh("true");
    request.sees.push("/etc".into());
    let refused = stand.try_run("sees /etc", request);
    assert!(
        matches!(refused, Err(RunFailure::Refused(_))),
        "{refused:?}"
    );
    let mut request = sh("true");
    request.budget.memory_bytes = 1 << 39;
    let refused = stand.try_run("half a tebibyte", request);
    assert!(
        matches!(refused, Err(RunFailure::Refused(_))),
        "{refused:?}"
    );

    let shared = tempfile::tempdir().expect("a folder");
    std::os::unix::fs::chown(shared.path(), None, None).expect("it is ours");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(shared.path(), mode).expect("it is ours");
    std::fs::write(shared.path().join("model"), "weights").expect("it can be written");
    let path = shared.path().to_str().expect("it is text").to_owned();
    let mut settings: Settings = settings();
    settings.shows.push(path.clone());
    let process = Process::new(settings);
    let mut request = sh(&format!("cat {path}/model; echo more >> {path}/model"));
    request.sees.push(path);
    let outcome = process
        .run(&Job::of(request).expect("a job"), &Stop::default())
        .expect("an outcome");
    assert_eq!(out(&outcome), "weights");
    assert_ne!(outcome.ended, Ended::Exited(0), "it is read-only");
}

#[test]
fn bytes_of_a_job_are_served_with_bytes_of_its_outcome() {
    let (stands, _turn) = stands("serve");
    for stand in &stands {
        let job = Job::of(sh("echo served")).expect("a job");
        let answer = serve(&stand.process, job.bytes(), &Stop::default());
        match Answer::open(&answer) {
            Some(Answer::Ran(outcome)) => {
                assert_eq!(well(&outcome), "served\n");
                assert_eq!(outcome.job, job.hash());
            }
            other => panic!("{other:?}"),
        }
    }
}

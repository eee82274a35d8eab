//! Runners that are killed, and runners of an ordinary user: told by this test, started anew.

use crate::leavings;
use crate::stand::{self, STAGE, note, settings, stands};
use aquifer_runner::job::Job;
use aquifer_runner::process::Process;
use aquifer_runner::{Runner, Stop};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::{Duration, Instant};

/// The variable that holds the mark of a runner which is to be killed.
const DOOMED: &str = "AQUIFER_TEST_DOOMED";
/// An ordinary user: nobody that the tests' machine knows.
const ORDINARY: u32 = 54_321;

fn until(what: &str, is_so: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !is_so() {
        assert!(Instant::now() < end, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_runner_that_is_killed_takes_its_job_with_it() {
    if let Ok(mark) = std::env::var(DOOMED) {
        let mut request = stand::sh("trap '' TERM; sleep 600 & sleep 600");
        request.budget.wall_ms = 600_000;
        request.env = vec![(DOOMED.into(), mark)];
        let job = Job::of(request).expect("a job");
        let process = Process::new(settings());
        panic!(
            "it was not killed: {:?}",
            process.run(&job, &Stop::default())
        );
    }
    let (stands, _turn) = stands("killed");
    let Some(stand) = stands.first() else { return };
    let mark = (DOOMED.to_owned(), format!("{}", std::process::id()));
    let mut runner = Command::new(std::env::current_exe().expect("this test"))
        .args([
            "--exact",
            "orphans::a_runner_that_is_killed_takes_its_job_with_it",
        ])
        .env(&mark.0, &mark.1)
        .spawn()
        .expect("this test runs");
    // The runner itself has the mark, and so has every process of its job: a shell and two sleeps.
    until("the job runs", || leavings::marked(&mark).len() >= 4);
    let pid = i32::try_from(runner.id()).expect("a number of a process");
    let began = Instant::now();
    kill(Pid::from_raw(pid), Signal::SIGKILL).expect("it is ours");
    runner.wait().expect("it is ours");
    until("the job is gone", || leavings::marked(&mark).is_empty());
    eprintln!(
        "TIME gone {:.1} ms after its runner",
        began.elapsed().as_secs_f64() * 1e3
    );
    // Nobody was left to remove its groups. The next who makes one there does.
    stand.run("after a killed runner", stand::sh("true"));
    until("its groups are gone", || {
        stand.process.probe().expect("it could before");
        leavings::groups_of(runner.id()).is_empty()
    });
}

/// Every other story, told once more by an ordinary user.
#[test]
fn an_ordinary_user_runs_jobs_as_well() {
    if !geteuid().is_root() {
        return; // Then every story is an ordinary user's already.
    }
    let (stands, _turn) = stands("ordinary-user");
    if stands.is_empty() {
        return; // It was said why.
    }
    let folder = tempfile::tempdir().expect("a folder");
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).expect("it is ours");
    let (test, stage) = (folder.path().join("test"), folder.path().join("stage"));
    fs::copy(std::env::current_exe().expect("this test"), &test).expect("it can be copied");
    fs::copy(stand::stage(), &stage).expect("it can be copied");
    let target = folder.path().join("target");
    fs::create_dir(&target).expect("a folder");
    fs::set_permissions(&target, Permissions::from_mode(0o777)).expect("it is ours");
    let told = Command::new(&test)
        .args(["--nocapture", "--test-threads=1"])
        .env(STAGE, &stage)
        .env("CARGO_TARGET_DIR", &target)
        .uid(ORDINARY)
        .gid(ORDINARY)
        .current_dir("/")
        .output();
    let told = match told {
        Ok(told) => told,
        // Root of a user namespace without that user.
        Err(why) => return note("ordinary-user", &format!("cannot become one: {why}")),
    };
    let said = String::from_utf8_lossy(&told.stderr);
    let times = said.lines().filter(|line| line.starts_with("TIME"));
    let times = times.map(|line| line.replacen("TIME", "TIME as an ordinary user,", 1));
    eprintln!("{}", times.collect::<Vec<_>>().join("\n"));
    assert!(
        told.status.success(),
        "{}\n{said}",
        String::from_utf8_lossy(&told.stdout)
    );
    if target.join("void").exists() {
        note(
            "ordinary-user",
            "an ordinary user cannot make namespaces here",
        );
    }
}

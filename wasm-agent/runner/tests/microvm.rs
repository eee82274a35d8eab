//! The microVM runner tries `/dev/kvm` and tells what it found; it never says that it can run a job.

use aquifer_runner::job::{Budget, Job, Request};
use aquifer_runner::microvm::MicroVm;
use aquifer_runner::stage::Stage;
use aquifer_runner::{RunFailure, Runner, Stop};
use std::path::Path;

fn runner() -> MicroVm {
    MicroVm::new(Stage(env!("CARGO_BIN_EXE_aquifer-runner-stage").into()))
}

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
#[test]
fn the_trial_tells_the_truth_about_dev_kvm() {
    let found = runner().look();
    let opened = std::fs::File::options()
        .read(true)
        .write(true)
        .open("/dev/kvm");
    match (&found.trial, opened) {
        (Ok(trial), Ok(_)) => {
            assert_eq!(trial.api, 12);
            assert!(trial.best_us <= trial.first_us && trial.first_us > 0);
            eprintln!("TIME {found:?}");
        }
        (Err(refusal), Err(why)) => {
            assert!(refusal.why.contains("open /dev/kvm"), "{refusal:?} {why}");
        }
        // It opens, and something later in the trial does not work: that is said.
        (Err(refusal), Ok(_)) => assert!(!refusal.why.is_empty() && !refusal.hint.is_empty()),
        (Ok(trial), Err(why)) => panic!("{trial:?} without a /dev/kvm: {why}"),
    }
}

#[test]
fn a_job_is_refused_with_what_is_missing() {
    let job = Job::of(Request {
        argv: vec!["true".into()],
        env: vec![],
        files: vec![],
        stdin: vec![],
        sees: vec![],
        budget: Budget::USUAL,
    });
    let refused = runner().run(&job.expect("a job"), &Stop::default());
    let Err(RunFailure::Refused(refusal)) = refused else {
        panic!("{refused:?}");
    };
    assert!(!refusal.why.is_empty() && !refusal.hint.is_empty());
    if Path::new("/dev/kvm").exists() {
        eprintln!("{} ({})", refusal.why, refusal.hint);
    }
}

#[test]
fn a_stage_that_is_none_is_a_refusal() {
    for program in ["/usr/bin/no-such-stage", "/bin/false"] {
        let runner = MicroVm::new(Stage(program.into()));
        let refusal = runner.probe().expect_err("it runs no guest");
        assert!(!refusal.why.is_empty(), "{program}");
    }
}

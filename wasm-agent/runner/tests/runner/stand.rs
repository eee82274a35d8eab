//! Where the stories are played: runners of each kind that this machine has, and what must hold after
//! any run whatever it was.

use crate::leavings;
use aquifer_runner::job::{Budget, Job, Request, USUAL_SIGHTS};
use aquifer_runner::outcome::{Ended, Outcome, Over};
use aquifer_runner::process::{Process, Settings};
use aquifer_runner::stage::Stage;
use aquifer_runner::{RunFailure, Runner, Stop};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A variable with the stage's path, if it is not where it was built.
pub(crate) const STAGE: &str = "AQUIFER_TEST_STAGE";

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// One way to run jobs on this machine.
pub(crate) struct Stand {
    pub(crate) name: &'static str,
    pub(crate) process: Process,
    pub(crate) is_grouped: bool,
}

/// The stage's binary.
pub(crate) fn stage() -> PathBuf {
    std::env::var_os(STAGE).map_or_else(
        || PathBuf::from(env!("CARGO_BIN_EXE_aquifer-runner-stage")),
        PathBuf::from,
    )
}

/// The settings of a runner in the tests.
pub(crate) fn settings() -> Settings {
    Settings::usual(Stage(stage()))
}

/// The ways of this machine, for the story `what`; a visible note if there is none. Stories of one
/// process take turns, so that what is left can be told apart.
pub(crate) fn stands(what: &str) -> (Vec<Stand>, MutexGuard<'static, ()>) {
    let turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let mut stands: Vec<Stand> = Vec::new();
    for (name, groups) in [("groups", true), ("limits", false)] {
        let process = Process::new(Settings {
            groups,
            ..settings()
        });
        match process.probe() {
            Ok(ability) => {
                let is_grouped = ability
                    .limits
                    .iter()
                    .any(|limit| limit.by.contains("cgroup"));
                if is_grouped == groups {
                    stands.push(Stand {
                        name,
                        process,
                        is_grouped,
                    });
                }
            }
            Err(refusal) => note(what, &format!("{refusal} ({})", refusal.hint)),
        }
    }
    (stands, turn)
}

/// Says that a story could not be told, where `./check` finds it.
pub(crate) fn note(what: &str, why: &str) {
    let line = format!("VOID: {what}: {why}");
    eprintln!("{line}");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let target = std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
    let folder = root.join(target).join("void");
    std::fs::create_dir_all(&folder).expect("the target folder can be written");
    std::fs::write(folder.join(format!("runner-{what}")), line + "\n").expect("a note is written");
}

/// A small budget, with time for a slow machine.
pub(crate) const SMALL: Budget = Budget {
    wall_ms: 30_000,
    cpu_ms: 30_000,
    memory_bytes: 128 << 20,
    pids: 32,
    output_bytes: 64 << 10,
    scratch_bytes: 8 << 20,
    ..Budget::USUAL
};

/// A request to run these words.
pub(crate) fn words(argv: &[&str]) -> Request {
    Request {
        argv: argv.iter().map(|&word| word.to_owned()).collect(),
        env: vec![],
        files: vec![],
        stdin: vec![],
        sees: USUAL_SIGHTS.map(str::to_owned).to_vec(),
        budget: SMALL,
    }
}

/// A request to run a shell's script.
pub(crate) fn sh(script: &str) -> Request {
    words(&["sh", "-c", script])
}

/// A request to run a program in Python, which can make any call.
pub(crate) fn python(script: &str) -> Request {
    words(&["/usr/bin/python3", "-I", "-c", script])
}

/// Whether stories in Python can be told.
pub(crate) fn has_python(what: &str) -> bool {
    let has = Path::new("/usr/bin/python3").exists();
    if !has {
        note(what, "there is no /usr/bin/python3");
    }
    has
}

impl Stand {
    /// Runs `request`, prints how it went, and sees that nothing is left.
    pub(crate) fn run(&self, what: &str, request: Request) -> Outcome {
        self.try_run(what, request)
            .unwrap_or_else(|why| panic!("{what} ({}): {why}", self.name))
    }

    /// As `run`, of what may be refused.
    pub(crate) fn try_run(&self, what: &str, mut request: Request) -> Result<Outcome, RunFailure> {
        let mark = leavings::mark();
        request.env.push((mark.0.clone(), mark.1.clone()));
        let budget = request.budget;
        let job = Job::of(request).expect("a job");
        let before = leavings::mounts();
        let outcome = self.process.run(&job, &Stop::default());
        leavings::assert_none(&mark, &before);
        let outcome = outcome?;
        let usage = &outcome.usage;
        eprintln!(
            "TIME {:8} {what:32} {:24} budget {:5} ms, lasted {:7.1} ms, cpu {:7.1} ms, peak {:4} MiB, set up in {:5.1} ms",
            self.name,
            format!("{:?}", outcome.ended),
            budget.wall_ms,
            usage.wall_us as f64 / 1e3,
            usage.cpu_us as f64 / 1e3,
            usage.memory_peak_bytes >> 20,
            usage.setup_us as f64 / 1e3,
        );
        assert!(outcome.stdout.bytes.len() as u64 <= budget.output_bytes);
        let late_ms = match std::env::var("AQUIFER_LOAD").as_deref() {
            Ok("full") => 100,
            _ => 10_000,
        };
        if outcome.ended == Ended::Over(Over::Wall) {
            assert!(
                usage.wall_us >= budget.wall_ms * 1_000,
                "it had less than its budget"
            );
        }
        assert!(
            usage.wall_us <= (budget.wall_ms + late_ms) * 1_000,
            "{what} ({}) lasted {} us",
            self.name,
            usage.wall_us
        );
        Ok(outcome)
    }
}

/// What a job said on stdout, as text.
pub(crate) fn out(outcome: &Outcome) -> String {
    String::from_utf8_lossy(&outcome.stdout.bytes).into_owned()
}

/// What it said on stdout, of a job that ended well.
#[track_caller]
pub(crate) fn well(outcome: &Outcome) -> String {
    assert_eq!(
        outcome.ended,
        Ended::Exited(0),
        "stdout {:?} stderr {:?}",
        out(outcome),
        String::from_utf8_lossy(&outcome.stderr.bytes)
    );
    out(outcome)
}

//! The microVM runner: what virtual machines this machine could carry.
//!
//! A job in a virtual machine of its own would be held by a processor's rings rather than by a kernel's
//! promises. This runner finds out whether the machine could do that, by doing the least of it: it opens
//! `/dev/kvm`, makes a machine with a page of memory and a processor, and lets it run three instructions.
//! It does that in a process of its own, with a limit of time, since not every `/dev/kvm` is what it says.
//!
//! It runs no jobs: that needs a kernel, a root file system and a monitor, which are not part of Aquifer
//! yet. It refuses and says what of these is missing.
//!
//! Not here: the guest (`guest`).

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod guest;

use crate::ability::{Ability, Refusal};
use crate::job::Job;
use crate::limits::PROBE;
use crate::outcome::Outcome;
use crate::stage::{GUEST, NAME, Stage};
use crate::{RunFailure, Runner, Stop};
use minicbor::{Decode, Encode};
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Monitors that could boot a guest, by the names of their programs.
const MONITORS: [&str; 4] = [
    "firecracker",
    "cloud-hypervisor",
    "qemu-system-x86_64",
    "qemu-system-aarch64",
];
/// A guest that takes longer for three instructions is not run by hardware.
const SLOW: Duration = Duration::from_millis(20);

/// What the trial of `/dev/kvm` found.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(array)]
pub struct Trial {
    /// The version of the interface: 12 since 2007.
    #[n(0)]
    pub api: i32,
    /// How long it took to make a machine with a processor, in microseconds.
    #[n(1)]
    pub make_us: u64,
    /// How long the guest took, the first time, in microseconds.
    #[n(2)]
    pub first_us: u64,
    /// How long it took the fastest time of some, in microseconds.
    #[n(3)]
    pub best_us: u64,
}

/// What was found out about virtual machines here.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Found {
    /// The trial, or why it failed and what would help.
    pub trial: Result<Trial, Refusal>,
    /// The monitors on `PATH`.
    pub monitors: Vec<String>,
    /// `vmx` or `svm`, if the processor says that it has one.
    pub extension: Option<String>,
    /// Modules of the kernel that provide `/dev/kvm`, as far as they can be seen.
    pub modules: Vec<String>,
}

/// Would run jobs in virtual machines.
#[derive(Clone, Debug)]
pub struct MicroVm {
    stage: Stage,
}

impl MicroVm {
    /// A runner whose trials are played by `stage`.
    #[must_use]
    pub fn new(stage: Stage) -> Self {
        Self { stage }
    }

    /// Finds out what there is.
    #[must_use]
    pub fn look(&self) -> Found {
        let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let words = || cpuinfo.split_whitespace();
        let extension = ["vmx", "svm"]
            .into_iter()
            .find(|name| words().any(|word| word == *name));
        let modules = ["kvm_intel", "kvm_amd", "kvm_pvm"];
        let is_loaded = |name: &&str| Path::new("/sys/module").join(name).exists();
        Found {
            trial: self.trial(),
            monitors: MONITORS
                .into_iter()
                .filter(|name| is_on_path(name))
                .map(str::to_owned)
                .collect(),
            extension: extension.map(str::to_owned),
            modules: modules
                .into_iter()
                .filter(is_loaded)
                .map(str::to_owned)
                .collect(),
        }
    }

    /// Has a stage run the guest, and waits no longer than is sensible.
    fn trial(&self) -> Result<Trial, Refusal> {
        let failed =
            |why: String| Refusal::new(why, "see that /dev/kvm is there and open to this user");
        let mut command = Command::new(&self.stage.0);
        named(&mut command);
        let mut child = command
            .arg(GUEST)
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|why| failed(format!("cannot start {}: {why}", self.stage.0.display())))?;
        let until = Instant::now() + PROBE;
        let ended = loop {
            match child.try_wait() {
                Ok(Some(status)) => break Some(status),
                Ok(None) if Instant::now() < until => {
                    std::thread::sleep(Duration::from_millis(2));
                }
                _ => break None,
            }
        };
        let Some(status) = ended else {
            // It may have ended in this moment.
            let _ = child.kill();
            let _ = child.wait();
            let seconds = PROBE.as_secs();
            return Err(failed(format!(
                "a guest of three instructions did not end in {seconds} s"
            )));
        };
        // Both are shorter than a pipe is wide, so nothing was left unsaid.
        let (mut said, mut why) = (Vec::new(), String::new());
        let read = |from: Option<&mut dyn Read>, to: &mut Vec<u8>| {
            from.map(|from| from.take(4_096).read_to_end(to))
        };
        read(
            child.stdout.as_mut().map(|out| out as &mut dyn Read),
            &mut said,
        );
        let mut bytes = Vec::new();
        read(
            child.stderr.as_mut().map(|err| err as &mut dyn Read),
            &mut bytes,
        );
        why.push_str(String::from_utf8_lossy(&bytes).trim());
        match status.success() {
            true => minicbor::decode(&said).map_err(|_| failed("the trial said nothing".into())),
            false if why.is_empty() => Err(failed(format!("the trial ended with {status}"))),
            false => Err(failed(why)),
        }
    }
}

impl Runner for MicroVm {
    fn name(&self) -> &'static str {
        "microvm"
    }

    /// Refuses, and says how far it got.
    fn probe(&self) -> Result<Ability, Refusal> {
        let found = self.look();
        let trial = match &found.trial {
            Err(refusal) => return Err(refusal.clone()),
            Ok(trial) => trial,
        };
        let mut missing = Vec::new();
        if found.monitors.is_empty() {
            missing.push(format!("no monitor on PATH ({})", MONITORS.join(", ")));
        }
        missing.push("no kernel and root file system for guests come with Aquifer".to_owned());
        let mut seen = vec![format!(
            "/dev/kvm works: API {}, a machine in {} us, OUT and HLT in {} us, {} us at best",
            trial.api, trial.make_us, trial.first_us, trial.best_us
        )];
        if found.extension.is_none() {
            seen.push(match found.modules.is_empty() {
                true => "the processor shows neither vmx nor svm".to_owned(),
                false => format!(
                    "the processor shows neither vmx nor svm (module {}): guests are emulated at \
                     least in part, and slow",
                    found.modules.join(", ")
                ),
            });
        }
        if Duration::from_micros(trial.best_us) > SLOW {
            seen.push("the guest ran far slower than on hardware".to_owned());
        }
        Err(Refusal::new(
            missing.join("; "),
            format!("{}; use the process runner", seen.join("; ")),
        ))
    }

    fn run(&self, _: &Job, _: &Stop) -> Result<Outcome, RunFailure> {
        Err(self
            .probe()
            .expect_err("this runner has no ability yet")
            .into())
    }
}

#[cfg(unix)]
fn named(command: &mut Command) {
    use std::os::unix::process::CommandExt;
    command.arg0(NAME);
}

#[cfg(not(unix))]
fn named(command: &mut Command) {
    command.arg(NAME);
}

fn is_on_path(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(name).is_file())
}

/// Plays the part of a trial: runs the guest, and says what it found on stdout. Gives the code to end with.
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
pub(crate) fn play() -> u8 {
    use std::io::Write;
    let trial = match guest::run() {
        Ok(trial) => trial,
        Err(why) => {
            eprintln!("{why}");
            return 1;
        }
    };
    let bytes = minicbor::to_vec(&trial).expect("a vector takes any encoding");
    match std::io::stdout().write_all(&bytes) {
        Ok(()) => 0,
        Err(_) => 1,
    }
}

/// Plays the part of a trial where there is no guest for the processor.
#[cfg(all(target_os = "linux", not(target_arch = "x86_64")))]
pub(crate) fn play() -> u8 {
    eprintln!("the trial's guest is for x86-64");
    1
}

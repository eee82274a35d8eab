//! Attending a job: the runner's side of one run, from the start of its stage until nothing is left.
//!
//! One loop waits for output, for words of the stage and for time to pass, and decides when a job has
//! gone over its budget. To end a job is to close the socket: the stage kills the namespace's first
//! process, the kernel everything else in it. A stage that does not is killed itself, a little later.
//!
//! Not here: what the stage does (`stage`).

use super::group::{Group, Reading};
use super::{Settings, USER};
use crate::ability::Refusal;
use crate::job::Job;
use crate::limits::{GRACE, SETUP, TICK};
use crate::outcome::{Ended, Outcome, Over, Said, Usage};
use crate::stage::census;
use crate::stage::talk::{self, At, Broke, MAPPED, Part, Report, Word, Words};
use crate::stage::{JOB, NAME, Stage};
use crate::{RunFailure, Stop};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::{Pid, geteuid};
use std::fs;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

impl From<Broke> for RunFailure {
    fn from(broke: Broke) -> Self {
        Self::Stage {
            step: broke.step,
            why: broke.why,
        }
    }
}

/// Runs `job` and gives what came of it.
pub(super) fn run(settings: &Settings, job: &Job, stop: &Stop) -> Result<Outcome, RunFailure> {
    let began = Instant::now();
    let budget = &job.request().budget;
    let group = match settings.groups {
        true => Group::make(budget).ok(),
        false => None,
    };
    let mut attendant = Attendant::start(&settings.stage, group)?;
    let part = Part {
        request: job.request().clone(),
        is_watching: attendant.group.is_none(),
    };
    let limit = attendant.socket.set_write_timeout(Some(SETUP));
    limit.at("give the stage its part")?;
    talk::say(&mut attendant.socket, &part).at("give the stage its part")?;
    attendant.socket.set_nonblocking(true).at("listen")?;
    let told = attendant.attend(settings, job, stop)?;
    let running = attendant.running.unwrap_or(began);
    let setup = running.duration_since(began);
    let used = attendant.reading();
    let report = attendant.report;
    attendant.close();
    // Of a job that was stopped: until all of it was gone.
    let lasted = running.elapsed();
    let ended = match (told, report) {
        _ if used.is_out_of_memory => Ended::Over(Over::Memory),
        (Some(told), _) => told,
        (None, Some(report)) => report.ended,
        (None, None) => return Err(lost("it ended without a word")),
    };
    let us = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    let report = report.unwrap_or_else(|| Report {
        ended,
        wall_us: us(lasted),
        cpu_us: attendant.cpu_us,
        memory_peak_bytes: 0,
    });
    Ok(Outcome {
        job: job.hash(),
        runner: "process".to_owned(),
        ended,
        stdout: attendant.stdout.said(),
        stderr: attendant.stderr.said(),
        usage: Usage {
            wall_us: report.wall_us,
            setup_us: us(setup),
            cpu_us: used.cpu_us.max(report.cpu_us),
            memory_peak_bytes: used.memory_peak_bytes.max(report.memory_peak_bytes),
            pids_refused: used.pids_refused,
        },
    })
}

fn lost(why: &str) -> RunFailure {
    RunFailure::Stage {
        step: "keep its stage".to_owned(),
        why: why.to_owned(),
    }
}

/// What a run holds. Dropped, it ends the job and waits until it is gone.
struct Attendant {
    child: Child,
    socket: UnixStream,
    words: Words,
    stdout: Stream<ChildStdout>,
    stderr: Stream<ChildStderr>,
    group: Option<Group>,
    report: Option<Report>,
    running: Option<Instant>,
    /// Time of processors of the stage and all below it, once they are gone.
    cpu_us: u64,
    is_closed: bool,
}

impl Attendant {
    /// Starts a stage, in `group` if there is one.
    fn start(stage: &Stage, group: Option<Group>) -> Result<Self, RunFailure> {
        let (socket, theirs) = UnixStream::pair().at("make a socket")?;
        let mut child = Command::new(&stage.0)
            .arg0(NAME)
            .arg(JOB)
            .env_clear()
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .at(&format!("start {}", stage.0.display()))?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let attendant = Self {
            socket,
            words: Words::default(),
            stdout: Stream::of(stdout.expect("it was asked for")),
            stderr: Stream::of(stderr.expect("it was asked for")),
            group,
            report: None,
            running: None,
            cpu_us: 0,
            is_closed: false,
            child,
        };
        if let Some(group) = &attendant.group {
            group
                .add(attendant.child.id())
                .at("put the stage into its group")?;
        }
        Ok(attendant)
    }

    /// Waits for the job to end, or ends it; how it was ended, if it was.
    fn attend(
        &mut self,
        settings: &Settings,
        job: &Job,
        stop: &Stop,
    ) -> Result<Option<Ended>, RunFailure> {
        let setup = Instant::now() + SETUP;
        loop {
            self.wait()?;
            self.listen(settings, &job.request().argv[0])?;
            let room = job.request().budget.output_bytes;
            let beyond = self
                .stdout
                .take_in(room.saturating_sub(self.stderr.length()))
                + self
                    .stderr
                    .take_in(room.saturating_sub(self.stdout.length()));
            if self.stdout.length() + self.stderr.length() > 0 {
                self.runs();
            }
            if beyond > 0 {
                return Ok(Some(Ended::Over(Over::Output)));
            }
            if self.is_over() {
                return Ok(None);
            }
            if self.running.is_none() && Instant::now() > setup {
                return Err(lost("it took too long to start"));
            }
            if let Some(ended) = self.judge(job, stop) {
                return Ok(Some(ended));
            }
        }
    }

    /// Waits until something happens, for one tick at the most.
    fn wait(&self) -> Result<(), Broke> {
        let tick = PollTimeout::try_from(TICK).at("keep time")?;
        let mut files: Vec<PollFd<'_>> = [self.stdout.file(), self.stderr.file()]
            .into_iter()
            .flatten()
            .collect();
        if !self.is_closed {
            files.push(PollFd::new(self.socket.as_fd(), PollFlags::POLLIN));
        }
        match poll(&mut files, tick) {
            Ok(_) | Err(nix::Error::EINTR) => Ok(()),
            Err(why) => Err(why).at("wait"),
        }
    }

    /// Hears what the stage says.
    fn listen(&mut self, settings: &Settings, program: &str) -> Result<(), RunFailure> {
        let mut bytes = [0; 4_096];
        loop {
            match self.socket.read(&mut bytes) {
                Ok(0) => {
                    self.is_closed = true;
                    break;
                }
                Ok(count) => self.words.hear(&bytes[..count]),
                Err(why) if why.kind() == io::ErrorKind::Interrupted => {}
                Err(why) if why.kind() == io::ErrorKind::WouldBlock => break,
                // Who ends with something unread resets.
                Err(_) => {
                    self.is_closed = true;
                    break;
                }
            }
        }
        while let Some(word) = self.words.next()? {
            match word {
                Word::Apart => self.map(settings).map_err(|why| unmapped(&why))?,
                Word::Running => self.runs(),
                Word::NoStart(why) => {
                    let program = program.to_owned();
                    return Err(RunFailure::NoStart { program, why });
                }
                Word::Failed(step, why) => return Err(failed(step, why)),
                Word::Ended(report) => self.report = Some(report),
            }
        }
        Ok(())
    }

    /// Notes that the job runs: its stage says so, or it was itself heard before that.
    fn runs(&mut self) {
        self.running.get_or_insert_with(Instant::now);
    }

    /// Makes the stage's one user, inside, an ordinary user outside: nobody if this is root.
    fn map(&mut self, settings: &Settings) -> io::Result<()> {
        let proc = format!("/proc/{}", self.child.id());
        let (user, group) = match geteuid().is_root() {
            true => (settings.nobody, settings.nobody),
            false => {
                // Who maps without being root must forbid it to gain groups by dropping some.
                fs::write(format!("{proc}/setgroups"), "deny")?;
                (geteuid().as_raw(), nix::unistd::getegid().as_raw())
            }
        };
        fs::write(format!("{proc}/gid_map"), format!("{USER} {group} 1"))?;
        fs::write(format!("{proc}/uid_map"), format!("{USER} {user} 1"))?;
        self.socket.write_all(&[MAPPED])
    }

    /// Whether everybody is gone.
    fn is_over(&self) -> bool {
        self.is_closed && self.stdout.is_closed() && self.stderr.is_closed()
    }

    /// How the job is to be ended, if it is.
    fn judge(&self, job: &Job, stop: &Stop) -> Option<Ended> {
        if stop.is_stopped() {
            return Some(Ended::Stopped);
        }
        if self.report.is_some() {
            return None;
        }
        let budget = &job.request().budget;
        let lasts = self.running?.elapsed();
        let used = self.reading();
        match () {
            () if used.is_out_of_memory => Some(Ended::Over(Over::Memory)),
            () if used.cpu_us > budget.cpu_ms * 1_000 => Some(Ended::Over(Over::Cpu)),
            () if lasts >= Duration::from_millis(budget.wall_ms) => Some(Ended::Over(Over::Wall)),
            () => None,
        }
    }

    fn reading(&self) -> Reading {
        self.group.as_ref().map(Group::read).unwrap_or_default()
    }

    /// Ends the job if it has not ended, and waits until all of it is gone.
    fn close(&mut self) {
        // Fails if the stage is gone, which is as well.
        let _ = self.socket.shutdown(Shutdown::Both);
        let until = Instant::now() + GRACE;
        let mut is_killed = false;
        while !self.has_ended() {
            if Instant::now() > until && !is_killed {
                self.kill();
                is_killed = true;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        // Until it is waited for, it tells what all those took that it waited for.
        self.cpu_us = self.cpu_us.max(census::cpu_us(self.child.id()));
        // It has ended, so this does not wait.
        let _ = self.child.wait();
        if let Some(group) = self.group.take() {
            group.kill();
        }
    }

    /// Whether the stage has ended; it is not waited for.
    fn has_ended(&self) -> bool {
        let Ok(pid) = i32::try_from(self.child.id()) else {
            return true;
        };
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT | WaitPidFlag::WNOHANG;
        match waitid(Id::Pid(Pid::from_raw(pid)), flags) {
            Ok(WaitStatus::StillAlive) | Err(nix::Error::EINTR) => false,
            // Who is no longer there was waited for in an earlier call.
            Ok(_) | Err(_) => true,
        }
    }

    /// Kills the stage and all of its process group, which the namespace's first process belongs to.
    fn kill(&self) {
        if let Some(group) = &self.group {
            group.kill();
        }
        if let Ok(leader) = i32::try_from(self.child.id()) {
            // It has not been waited for, so its number is nobody else's.
            let _ = killpg(Pid::from_raw(leader), Signal::SIGKILL);
        }
    }
}

impl Drop for Attendant {
    fn drop(&mut self) {
        self.close();
    }
}

/// A step that a machine does not allow is a refusal; any other is a failure.
fn failed(step: String, why: String) -> RunFailure {
    match step.as_str() {
        "make namespaces" => Refusal::new(
            format!(
                "this machine does not let user {} make namespaces: {why}",
                geteuid()
            ),
            "as root: sysctl -w user.max_user_namespaces=65536, and where there are such settings \
             kernel.unprivileged_userns_clone=1 and kernel.apparmor_restrict_unprivileged_userns=0",
        )
        .into(),
        "mount its /proc" => Refusal::new(
            format!("no /proc can be mounted here: {why}"),
            "in a container its /proc is hidden in part: run the node outside, or unmask /proc",
        )
        .into(),
        _ => RunFailure::Stage { step, why },
    }
}

fn unmapped(why: &io::Error) -> Refusal {
    Refusal::new(
        format!("this machine does not let a job's user be mapped: {why}"),
        "root of a container must have the user that jobs are to be (65534) among its own, or run the \
         node as an ordinary user",
    )
}

/// One output of a job.
struct Stream<R> {
    from: Option<R>,
    said: Said,
}

impl<R: Read + AsFd> Stream<R> {
    fn of(from: R) -> Self {
        Self {
            from: Some(from),
            said: Said::default(),
        }
    }

    fn file(&self) -> Option<PollFd<'_>> {
        let from = self.from.as_ref()?;
        Some(PollFd::new(from.as_fd(), PollFlags::POLLIN))
    }

    fn is_closed(&self) -> bool {
        self.from.is_none()
    }

    fn length(&self) -> u64 {
        self.said.bytes.len() as u64
    }

    fn said(&mut self) -> Said {
        std::mem::take(&mut self.said)
    }

    /// Takes in what is there, without waiting, up to `most` bytes in all; how many there were beyond.
    fn take_in(&mut self, most: u64) -> u64 {
        let mut bytes = [0; 65_536];
        let has_more = self.file().is_some_and(|file| {
            let is_ready = poll(&mut [file], PollTimeout::ZERO);
            is_ready.is_ok_and(|count| count > 0)
        });
        let Some(from) = self.from.as_mut().filter(|_| has_more) else {
            return 0;
        };
        let count = match from.read(&mut bytes) {
            Ok(0) => {
                self.from = None;
                0
            }
            Ok(count) => count,
            Err(why) if why.kind() == io::ErrorKind::Interrupted => 0,
            Err(_) => {
                self.from = None;
                0
            }
        };
        let room = usize::try_from(most).unwrap_or(usize::MAX);
        let kept = count.min(room.saturating_sub(self.said.bytes.len()));
        self.said.bytes.extend_from_slice(&bytes[..kept]);
        self.said.is_cut |= kept < count;
        (count - kept) as u64
    }
}

//! The first process of a job's namespace: builds the room, starts the job, reaps, watches, reports.
//!
//! The kernel kills a process namespace with its first process. So the job ends when its own first
//! program does, and what that left running in the background ends with it. The job is the second
//! process and not the first, since the first is deaf to signals that it has no handler for.
//!
//! Not here: the new root (`room`), and giving up rights (`shed`).

use super::census;
use super::fork::fork;
use super::talk::{self, At, Broke, Part, Report, Word};
use super::{room, shed};
use crate::limits::{TICK, WHY_MAX};
use crate::outcome::{Ended, Over};
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::signal::Signal;
use nix::sys::signalfd::SignalFd;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, pipe2, sethostname};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::Instant;

/// Runs the job to its end.
pub(super) fn play(part: &Part, socket: &mut UnixStream, signals: &SignalFd) -> Result<(), Broke> {
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).at("be tied to its parent")?;
    sethostname("job").at("name the machine")?;
    let stdin = room::build(&part.request)?;
    let (reads, writes) = pipe2(OFlag::O_CLOEXEC).at("make a pipe")?;
    let Some(job) = fork()? else {
        let why = shed::become_job(part, &stdin);
        let text: String = why.to_string().chars().take(WHY_MAX).collect();
        // Nobody is left to tell when the parent is gone.
        let _ = File::from(writes).write_all(text.as_bytes());
        std::process::exit(127);
    };
    drop((writes, stdin));
    // The pipe closes by itself when the job's program starts.
    let mut why = String::new();
    let read = File::from(reads).read_to_string(&mut why);
    read.at("hear of the job")?;
    let word = match why.is_empty() {
        true => Word::Running,
        false => Word::NoStart(why),
    };
    let began = Instant::now();
    talk::say(socket, &word).at("speak to the runner")?;
    if word != Word::Running {
        return Ok(());
    }
    let mut report = attend(job, part, socket, signals)?;
    report.wall_us = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
    talk::say(socket, &Word::Ended(report)).at("speak to the runner")
}

/// Reaps whatever ends until the job does, or goes over a budget that is for the stage to watch.
fn attend(job: Pid, part: &Part, socket: &UnixStream, signals: &SignalFd) -> Result<Report, Broke> {
    let budget = &part.request.budget;
    let mut tick = PollTimeout::NONE;
    let mut peak = 0;
    loop {
        while signals.read_signal().at("hear of its children")?.is_some() {}
        if let Some(ended) = reap(job)? {
            return Ok(report(ended, peak));
        }
        if part.is_watching {
            let began = Instant::now();
            let seen = census::take();
            // Many processes take long to count: that is to stay a tenth of the time.
            tick = PollTimeout::try_from(TICK.max(began.elapsed() * 10)).at("keep time")?;
            peak = peak.max(seen.memory_bytes);
            let over = match () {
                () if seen.memory_bytes > budget.memory_bytes => Some(Over::Memory),
                () if seen.cpu_us > budget.cpu_ms * 1_000 => Some(Over::Cpu),
                () => None,
            };
            if let Some(over) = over {
                let mut report = report(Ended::Over(over), peak);
                report.cpu_us = report.cpu_us.max(seen.cpu_us);
                return Ok(report);
            }
        }
        let mut files = [
            PollFd::new(signals.as_fd(), PollFlags::POLLIN),
            PollFd::new(socket.as_fd(), PollFlags::empty()),
        ];
        match poll(&mut files, tick) {
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(why) => return Err(why).at("wait"),
        }
        if files[1].any() == Some(true) {
            return Err("the runner is gone").at("wait");
        }
    }
}

/// Takes in all who ended; how the job did, if it was among them.
fn reap(job: Pid) -> Result<Option<Ended>, Broke> {
    let mut ended = None;
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, code)) if pid == job => {
                ended = Some(Ended::Exited(code.to_le_bytes()[0]));
            }
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == job => {
                ended = Some(signalled(signal));
            }
            Ok(WaitStatus::StillAlive) | Err(nix::Error::ECHILD) => return Ok(ended),
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(why) => return Err(why).at("wait for the job"),
        }
    }
}

fn signalled(signal: Signal) -> Ended {
    match signal {
        Signal::SIGXCPU => Ended::Over(Over::Cpu),
        signal => Ended::Signalled((signal as i32).to_le_bytes()[0]),
    }
}

fn report(ended: Ended, peak: u64) -> Report {
    let mut report = Report {
        ended,
        wall_us: 0,
        cpu_us: 0,
        memory_peak_bytes: peak,
    };
    if let Ok(used) = getrusage(UsageWho::RUSAGE_CHILDREN) {
        let us = |time: nix::sys::time::TimeVal| {
            let us = time.tv_sec() * 1_000_000 + time.tv_usec();
            u64::try_from(us).unwrap_or(0)
        };
        report.cpu_us = us(used.user_time()) + us(used.system_time());
        let largest = u64::try_from(used.max_rss()).unwrap_or(0) * 1_024;
        report.memory_peak_bytes = peak.max(largest);
    }
    report
}

//! Going apart: the stage's first process leaves the namespaces of the machine.
//!
//! It is the only one that stays in the process namespace of the runner, and so the one that the runner
//! can wait for. It ends the job when the runner closes the socket, however the runner came to do so: a
//! runner that was killed leaves nothing behind.
//!
//! Not here: what is inside (`first`).

use super::first;
use super::fork::fork;
use super::talk::{self, At, Broke, MAPPED, Word};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::waitpid;
use nix::unistd::{Gid, Pid, Uid, setgroups, setresgid, setresuid};
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;

/// The user and group that a job sees itself as.
pub(super) const USER: u32 = crate::process::USER;

/// Plays the part of a stage, with the runner's socket as stdin, and gives the code to end with.
pub(super) fn play() -> u8 {
    let socket = std::io::stdin().as_fd().try_clone_to_owned();
    let Ok(mut socket) = socket.map(UnixStream::from) else {
        return 2;
    };
    match go(&mut socket) {
        Ok(()) => 0,
        Err(broke) => {
            // Nobody is left to tell when the runner is gone.
            let _ = talk::say(&mut socket, &broke.word());
            1
        }
    }
}

fn go(socket: &mut UnixStream) -> Result<(), Broke> {
    forget_files(socket)?;
    let part = talk::part(socket).at("hear its part")?;
    // Whoever runs short of memory takes the job before anything else. Some systems do not let it say so.
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
    leave()?;
    talk::say(socket, &Word::Apart).at("speak to the runner")?;
    let mut mapped = [0];
    socket.read_exact(&mut mapped).at("be mapped")?;
    if mapped != [MAPPED] {
        return Err("the runner said something else").at("be mapped");
    }
    become_user()?;
    // What these processes are is not for the job to read or to change.
    nix::sys::prctl::set_dumpable(false).at("keep to itself")?;
    let signals = children()?;
    match fork()? {
        Some(child) => tend(child, socket, &signals),
        None => first::play(&part, socket, &signals),
    }
}

/// Closes what was left open to it by mistake: everything but the three streams and the socket.
fn forget_files(socket: &UnixStream) -> Result<(), Broke> {
    let open = std::fs::read_dir("/proc/self/fd").at("see its open files")?;
    let numbers: Vec<i32> = open
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|&number| number > 2 && number != socket.as_raw_fd())
        .collect();
    for number in numbers {
        // The one that listed them is closed already.
        let _ = nix::unistd::close(number);
    }
    Ok(())
}

fn leave() -> Result<(), Broke> {
    let apart = CloneFlags::CLONE_NEWUSER
        | CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWCGROUP;
    unshare(apart).at("make namespaces")
}

/// Becomes the one user of the new user namespace. It keeps every right inside it, and has none outside.
fn become_user() -> Result<(), Broke> {
    let is_denied =
        || std::fs::read_to_string("/proc/self/setgroups").is_ok_and(|may| may.trim() == "deny");
    match setgroups(&[]) {
        // Where an ordinary user runs jobs, groups can no longer be given up: see the README.
        Err(nix::Error::EPERM) if is_denied() => {}
        given => given.at("give up its groups")?,
    }
    let (user, group) = (Uid::from_raw(USER), Gid::from_raw(USER));
    setresgid(group, group, group).at("become the job's group")?;
    setresuid(user, user, user).at("become the job's user")
}

/// A file that can be read when a child ended.
fn children() -> Result<SignalFd, Broke> {
    let mut ended = SigSet::empty();
    ended.add(Signal::SIGCHLD);
    ended.thread_block().at("hear of its children")?;
    SignalFd::with_flags(&ended, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
        .at("hear of its children")
}

/// Waits for the first process of the namespace to end, and ends it when the runner closes the socket.
/// While it has not been waited for, its number is nobody else's.
fn tend(child: Pid, socket: &mut UnixStream, signals: &SignalFd) -> Result<(), Broke> {
    let mut is_open = true;
    loop {
        let hears = match is_open {
            true => PollFlags::POLLIN,
            false => PollFlags::empty(),
        };
        let mut files = [
            PollFd::new(signals.as_fd(), PollFlags::POLLIN),
            PollFd::new(socket.as_fd(), hears),
        ];
        let files = if is_open {
            &mut files[..]
        } else {
            &mut files[..1]
        };
        match poll(files, PollTimeout::NONE) {
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(why) => return Err(why).at("wait"),
        }
        if files.get(1).is_some_and(|file| file.any() == Some(true)) {
            // The runner says nothing more: whatever is there to read is its end.
            kill(child, Signal::SIGKILL).at("end the job")?;
            is_open = false;
        }
        if files[0].any() == Some(true) {
            waitpid(child, None).at("wait for the job")?;
            return Ok(());
        }
    }
}

//! Jobs that want out: each call is refused, each way is closed, and the job lives to tell.

use crate::stand::{has_python, python, settings, sh, stands, well};
use aquifer_runner::job::Job;
use aquifer_runner::outcome::Ended;
use aquifer_runner::process::Process;
use aquifer_runner::{Runner, Stop};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

/// Python that makes calls by their C names, and says the name of the error of each.
const CALLS: &str = "import ctypes, errno, os, sys\n\
    C = ctypes.CDLL(None, use_errno=True)\n\
    def call(name, *a):\n\
    \x20ctypes.set_errno(0)\n\
    \x20r = getattr(C, name)(*a)\n\
    \x20print(name, 'DONE' if r >= 0 else errno.errorcode[ctypes.get_errno()])\n\
    def tried(name, f):\n\
    \x20try: f(); print(name, 'DONE')\n\
    \x20except OSError as why: print(name, errno.errorcode[why.errno])\n";

/// Runs the calls on every stand; what they said, line by line, with the name of the stand.
fn told(what: &str, calls: &str) -> Vec<(&'static str, Vec<String>)> {
    let (stands, _turn) = stands(what);
    if !has_python(what) {
        return vec![];
    }
    stands
        .iter()
        .map(|stand| {
            let said = well(&stand.run(what, python(&format!("{CALLS}{calls}"))));
            (stand.name, said.lines().map(str::to_owned).collect())
        })
        .collect()
}

#[test]
fn no_socket_can_be_opened() {
    let calls = "import socket\n\
        for family in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX, socket.AF_NETLINK, socket.AF_PACKET):\n\
        \x20call('socket', int(family), 1, 0)\n\
        tried('pair', socket.socketpair)\n\
        call('socketpair', 2, 1, 0, (ctypes.c_int * 2)())\n";
    for (_, lines) in told("socket", calls) {
        let refused = "socket ENOSYS".to_owned();
        assert!(lines[..5].iter().all(|line| *line == refused), "{lines:?}");
        assert_eq!(lines[5..], ["pair DONE", "socketpair ENOSYS"]);
    }
}

#[test]
fn nothing_can_be_mounted_traced_or_made_apart() {
    let calls = "call('mount', b'none', b'/tmp', b'tmpfs', 0, None)\n\
        call('umount2', b'/usr', 2)\n\
        call('pivot_root', b'/tmp', b'/tmp') if hasattr(C, 'pivot_root') else print('pivot_root ENOSYS')\n\
        call('chroot', b'/tmp')\n\
        call('unshare', 0x10000000)\n\
        call('setns', 0, 0)\n\
        call('ptrace', 16, 1, 0, 0)\n\
        call('process_vm_readv', 1, None, 0, None, 0, 0)\n\
        call('memfd_create', b'x', 0)\n\
        call('personality', 0x0040000)\n\
        call('setuid', 0)\n\
        call('setgroups', 0, None)\n\
        call('sethostname', b'x', 1)\n\
        call('mknod', b'/tmp/sda', 0o60666, 0x800)\n";
    for (stand, lines) in told("mount", calls) {
        for line in lines {
            assert!(line.ends_with(" ENOSYS"), "{stand}: {line}");
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[test]
fn the_kernels_wide_doors_are_not_there() {
    // clone3, bpf, keyctl, add_key, userfaultfd, io_uring_setup, perf_event_open, open_by_handle_at,
    // init_module, kexec_load, fsopen, open_tree, move_mount, mount_setattr, pidfd_open, pidfd_getfd,
    // process_madvise, landlock, shmget, msgget, vmsplice, quotactl, reboot, settimeofday, ptrace by the
    // x32 table, and clone with a new user namespace.
    let calls = "for n in (435, 321, 250, 248, 323, 425, 298, 304, 175, 246, 430, 428, 429, 442, 434, 438, \
         440, 444, 29, 68, 278, 179, 169, 164, 0x40000000 + 521):\n\
        \x20call('syscall', n, 0, 0, 0, 0, 0)\n\
        call('syscall', 56, 0x10000000 | 17, 0, 0, 0, 0)\n\
        call('syscall', 16, 0, 0x5412, 0)\n\
        call('syscall', 157, 36, 1, 0, 0)\n\
        call('syscall', 302, 1, 0, 0, 0)\n";
    for (stand, lines) in told("doors", calls) {
        assert_eq!(lines.len(), 29);
        for (at, line) in lines.iter().enumerate() {
            assert_eq!(line, "syscall ENOSYS", "{stand}: call {at}");
        }
    }
}

#[test]
fn the_machines_secrets_are_not_there() {
    let home = tempfile::tempdir().expect("a folder");
    fs::write(home.path().join("key"), "secret").expect("it can be written");
    let calls = format!(
        "for path in ('/etc/shadow', '/etc/hostname', '/root', '/home', '/sys', '/var', '/run', '/old', \
             '/stdin', {:?}, '/dev/kvm', '/dev/tty', '/dev/mem', '/dev/shm', '/proc/kallsyms', \
             '/proc/sys', '/proc/kcore', '/proc/cmdline', '/proc/self/root{}', '/proc/1/../../etc/shadow'):\n\
        \x20tried(path, lambda: os.stat(path))\n",
        home.path().join("key"),
        home.path().display(),
    );
    for (stand, lines) in told("secrets", &calls) {
        assert_eq!(lines.len(), 20);
        for line in lines {
            assert!(line.ends_with(" ENOENT"), "{stand}: {line}");
        }
    }
}

#[test]
fn the_first_process_keeps_its_things_to_itself() {
    let calls = "for name in ('root', 'cwd', 'exe', 'fd/0', 'fd/3'):\n\
        \x20tried('link', lambda: os.readlink('/proc/1/' + name))\n\
        for name in ('environ', 'maps', 'mem', 'auxv', 'io', 'syscall', 'stack', 'pagemap'):\n\
        \x20tried('file', lambda: open('/proc/1/' + name, 'rb').read(1))\n\
        for name in ('oom_score_adj', 'uid_map', 'setgroups', 'coredump_filter'):\n\
        \x20tried('write', lambda: os.write(os.open('/proc/1/' + name, os.O_WRONLY), b'0'))\n\
        tried('map', lambda: os.write(os.open('/proc/self/uid_map', os.O_WRONLY), b'0 0 1'))\n";
    for (stand, lines) in told("first", calls) {
        assert_eq!(lines.len(), 18);
        for line in lines {
            let is_refused =
                line.ends_with(" EACCES") || line.ends_with(" EPERM") || line.ends_with(" ENOENT");
            assert!(is_refused, "{stand}: {line}");
        }
    }
}

#[test]
fn a_signal_reaches_nobody_outside() {
    let outside = std::process::id();
    let calls = format!(
        "for signal in (0, 9):\n\
        \x20tried('out', lambda: os.kill({outside}, signal))\n\
        tried('group', lambda: os.killpg({outside}, 9))\n\
        os.kill(1, 9); os.kill(1, 15); os.kill(1, 19)\n\
        os.kill(os.getppid(), 9)\n\
        print(os.getpid(), os.getppid())\n"
    );
    for (stand, lines) in told("signals", &calls) {
        // This test lives, and so does the first process of the job, which is deaf to it.
        assert_eq!(
            lines,
            ["out ESRCH", "out ESRCH", "group ESRCH", "2 1"],
            "{stand}"
        );
    }
}

#[test]
fn what_is_shown_cannot_be_written() {
    let (stands, _turn) = stands("read-only");
    for stand in &stands {
        let mut request = sh(
            "for f in /usr/x /in/x /etc/x /x /dev/x /usr/bin/sh /in/a /proc/x; do \
               (echo x > $f) 2>/dev/null && echo wrote $f; done; \
             chmod 777 /in/a 2>/dev/null && echo chmod; rm -f /in/a 2>/dev/null && echo rm; \
             echo x > /dev/null && head -c 4 /dev/zero | wc -c && head -c 8 /dev/urandom | wc -c",
        );
        request.files = vec![aquifer_runner::job::Placed::of("a", b"x".as_slice(), false)];
        assert_eq!(well(&stand.run("read-only", request)), "4\n8\n");
    }
}

#[test]
fn a_setuid_program_has_no_more_rights_than_any_other() {
    let (stands, _turn) = stands("setuid");
    if !nix::unistd::geteuid().is_root() {
        return; // Only root can make a program that becomes root.
    }
    for stand in &stands {
        let folder = tempfile::tempdir().expect("a folder");
        let open = Permissions::from_mode(0o755);
        fs::set_permissions(folder.path(), open).expect("it is ours");
        let program = folder.path().join("id");
        fs::copy("/usr/bin/id", &program).expect("there is an id");
        fs::set_permissions(&program, Permissions::from_mode(0o6755)).expect("it is ours");
        let path = folder.path().to_str().expect("it is text").to_owned();
        let mut settings = settings();
        settings.shows.push(path.clone());
        settings.groups = stand.is_grouped;
        let mut request = sh(&format!(
            "{path}/id -u; {path}/id -g; ls -ln {path}/id | cut -c1-10"
        ));
        request.sees.push(path);
        let job = Job::of(request).expect("a job");
        let outcome = Process::new(settings).run(&job, &Stop::default());
        let said = well(&outcome.expect("an outcome"));
        assert_eq!(said, "1000\n1000\n-rwsr-sr-x\n");
    }
}

#[test]
fn a_job_of_root_has_nothing_of_root() {
    let (stands, _turn) = stands("root");
    if !nix::unistd::geteuid().is_root() {
        return; // An ordinary user has nothing of root to give.
    }
    for stand in &stands {
        let folder = tempfile::tempdir().expect("a folder");
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).expect("it is ours");
        let secret = folder.path().join("secret");
        fs::write(&secret, "root's").expect("it can be written");
        fs::set_permissions(&secret, Permissions::from_mode(0o640)).expect("it is ours");
        let path = folder.path().to_str().expect("it is text").to_owned();
        let mut settings = settings();
        settings.shows.push(path.clone());
        settings.groups = stand.is_grouped;
        let mut request = sh(&format!(
            "id -G; stat -c '%u %g' {path}/secret; cat {path}/secret"
        ));
        request.sees.push(path);
        let job = Job::of(request).expect("a job");
        let outcome = Process::new(settings).run(&job, &Stop::default());
        let outcome = outcome.expect("an outcome");
        assert_eq!(outcome.ended, Ended::Exited(1));
        // It is in no group but its own, and root is nobody that it knows.
        assert_eq!(crate::stand::out(&outcome), "1000\n65534 65534\n");
    }
}

#[test]
fn a_file_that_was_left_open_stays_outside() {
    let (stands, _turn) = stands("files");
    let secret = fs::File::open("/etc/hostname").expect("a file");
    fcntl(&secret, FcntlArg::F_SETFD(FdFlag::empty())).expect("a flag is set");
    for stand in &stands {
        let said = well(&stand.run("open files", sh("ls /proc/self/fd | tr '\n' ' '")));
        // The last is the folder itself.
        assert_eq!(said, "0 1 2 3 ");
    }
}

#[test]
fn limits_cannot_be_raised() {
    let (stands, _turn) = stands("raise");
    for stand in &stands {
        let outcome = stand.run("raise limits", sh("ulimit -c unlimited || exit 3"));
        assert_ne!(outcome.ended, Ended::Exited(0));
        let said = well(&stand.run("limits", sh("ulimit -c; ulimit -n; ulimit -l")));
        assert_eq!(said, "0\n1024\n0\n");
    }
}

//! A machine: a node in a process of its own, so that it can be killed, given a small disk, and have
//! its system calls fail, through `strace` and mount namespaces.
//!
//! The process is this test binary again: a test calls [`daemon`] first, which never returns in the
//! child. What a system lacks for a fault is said by [`void`], never passed over.

use aquifer_node::api::{Problem, Recall, Remember, Remembered};
use aquifer_node::cli;
use aquifer_node::client::Client;
use aquifer_node::home::Home;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::time::Duration;
use tempfile::TempDir;

const CHILD: &str = "AQUIFER_TEST_DAEMON";

/// What is wrong with the world of a process.
#[derive(Clone, Debug, Default)]
pub struct World {
    /// System calls that fail or are late, in the words of `strace -e inject=`.
    pub inject: Option<String>,
    /// The home's disk is as large as this and no larger, in MiB.
    pub disk_mib: Option<u32>,
    /// Lines of `config.toml`.
    pub config: String,
}

/// A running node.
#[derive(Debug)]
pub struct Machine {
    /// The way to it.
    pub client: Client,
    /// Its home, as this process can reach it.
    pub home: PathBuf,
    child: Child,
    out: BufReader<ChildStdout>,
}

/// In the child: runs `aquifer up` to its end, with its exit code. Elsewhere does nothing.
pub fn daemon() {
    let Some(line) = std::env::var_os(CHILD) else {
        return;
    };
    let line = line.into_string().expect("we wrote it");
    let code = match cli::parse(line.split('\n').map(Into::into)) {
        Ok(cli) => {
            let runtime = tokio::runtime::Runtime::new().expect("threads");
            runtime.block_on(cli.run())
        }
        Err(code) => code,
    };
    std::process::exit(code.into());
}

/// Says that the test called `test` proves nothing here, and why: on stderr, and in a note under the
/// target folder, which `./check` shows in its summary.
///
/// # Panics
/// If the note cannot be left.
pub fn void(test: &str, why: &str) {
    let line = format!("VOID: {test}: {why}");
    eprintln!("{line}");
    let target = std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
    let notes = crate::repository().join(target).join("void");
    std::fs::create_dir_all(&notes).expect("the target folder can be written");
    std::fs::write(notes.join(test), line + "\n").expect("a note can be written");
}

/// Whether a command can be run here and succeeds.
fn works(program: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Whether `strace` can make system calls fail here.
#[must_use]
pub fn can_inject() -> bool {
    works(
        "strace",
        &[
            "-f",
            "-qq",
            "-o",
            "/dev/null",
            "-e",
            "trace=fsync",
            "-e",
            "inject=fsync:error=EIO",
            "true",
        ],
    )
}

/// How a process gets a disk of its own here, if it can.
fn unshare() -> Option<&'static str> {
    let tries = |flags: &&str| {
        works(
            "unshare",
            &[flags, "sh", "-c", "mount -t tmpfs -o size=1m tmpfs /mnt"],
        )
    };
    ["-m", "-rm"].into_iter().find(tries)
}

/// Whether a process can be given a small disk here.
#[must_use]
pub fn can_mount() -> bool {
    unshare().is_some()
}

impl Machine {
    /// Starts a node for the test called `test`, which must begin with [`daemon`], and waits until it
    /// answers. Its home is in `folder`, unless the world gives it a disk of its own there.
    ///
    /// # Errors
    /// What it said, if it did not come up.
    ///
    /// # Panics
    /// If the process cannot be started at all.
    pub fn up(test: &str, folder: &TempDir, world: &World) -> Result<Self, String> {
        let home = folder.path().join("home");
        std::fs::create_dir_all(&home).expect("a folder");
        let me = std::env::current_exe().expect("this test");
        let me = me.to_str().expect("a plain path");
        let mut words: Vec<String> = Vec::new();
        let at = home.to_str().expect("a plain path");
        let config = format!("printf '%s' \"$AQUIFER_TEST_CONFIG\" > '{at}/config.toml'");
        match world.disk_mib {
            Some(mib) => {
                let flags = unshare().expect("asked before");
                let mount = format!(
                    "mount -t tmpfs -o mode=700,size={mib}m tmpfs '{at}' && {config} && exec \"$@\""
                );
                words.extend(["unshare", flags, "sh", "-c", &mount, "sh"].map(str::to_owned));
            }
            None => words
                .extend(["sh", "-c", &format!("{config} && exec \"$@\""), "sh"].map(str::to_owned)),
        }
        if let Some(inject) = &world.inject {
            let calls = inject.split(':').next().expect("names first");
            // The tracer is a grandchild, so that the child is the node itself.
            let strace = [
                "strace",
                "-D",
                "-f",
                "-qq",
                "--seccomp-bpf",
                "-o",
                "/dev/null",
                "-e",
            ];
            words.extend(strace.map(str::to_owned));
            words.extend([
                format!("trace={calls}"),
                "-e".into(),
                format!("inject={inject}"),
            ]);
        }
        words.extend([me, "--exact", test, "--nocapture"].map(str::to_owned));
        let line = [
            "aquifer", "up", "--json", "--quiet", "--region", "eu", "--home", at,
        ];
        let line = line.into_iter().chain([
            "--api",
            "127.0.0.1:0",
            "--listen",
            "/ip4/127.0.0.1/tcp/0",
            "--no-mdns",
        ]);
        let mut child = Command::new(&words[0])
            .args(&words[1..])
            .env(CHILD, line.collect::<Vec<_>>().join("\n"))
            .env("AQUIFER_TEST_CONFIG", &world.config)
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("started");
        let home = match world.disk_mib {
            Some(_) => PathBuf::from(format!("/proc/{}/root{at}", child.id())),
            None => home,
        };
        let mut out = BufReader::new(child.stdout.take().expect("piped"));
        match told(&mut out) {
            Some(line) if line.contains("\"ok\":true") => Ok(Self {
                client: Client::over_tcp(&Home::at(Some(home.clone()))),
                home,
                child,
                out,
            }),
            said => {
                let _ = child.kill();
                let _ = child.wait();
                Err(said.unwrap_or_default())
            }
        }
    }

    /// Remembers a text.
    ///
    /// # Errors
    /// As `Memory::remember`.
    pub async fn remembers(&self, text: &str) -> Result<Remembered, Problem> {
        let asked = Remember {
            text: text.into(),
            ..Remember::default()
        };
        self.client.remember(&asked).await
    }

    /// The texts found, best first.
    ///
    /// # Errors
    /// As `Memory::recall`.
    pub async fn recalls(&self, query: &str) -> Result<Vec<String>, Problem> {
        let asked = Recall {
            query: query.into(),
            ..Recall::default()
        };
        let found = self.client.recall(&asked).await?;
        Ok(found
            .results
            .into_iter()
            .map(|hit| hit.memory.text)
            .collect())
    }

    /// What `doctor` finds of one thing: its level.
    ///
    /// # Errors
    /// If the node is gone.
    pub async fn finds(&self, check: &str) -> Result<String, Problem> {
        let findings = self.client.doctor().await?;
        let found = findings.into_iter().find(|finding| finding.check == check);
        Ok(found.map(|finding| finding.level).unwrap_or_default())
    }

    /// Whether the same process still runs.
    pub fn lives(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits for its end: the exit code, and what it said last.
    ///
    /// # Panics
    /// If it has no end that can be waited for.
    pub fn ends(mut self) -> (ExitStatus, String) {
        let said = told(&mut self.out).unwrap_or_default();
        (self.child.wait().expect("it ends"), said)
    }

    /// Stops it.
    ///
    /// # Panics
    /// If it does not answer.
    pub async fn stops(self) {
        self.client.stop().await.expect("it answers");
        self.ends();
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The next line of JSON; the harness around the child says things too.
fn told(out: &mut BufReader<ChildStdout>) -> Option<String> {
    let lines = out.lines().map_while(Result::ok);
    let mut json = lines.filter_map(|line| line.find('{').map(|at| line[at..].to_owned()));
    json.next()
}

/// A file called `name` that takes what is left of a disk, but for `spare` bytes. Removing it gives that back.
///
/// # Panics
/// If the disk has no end.
pub fn fills(folder: &Path, name: &str, spare: usize) -> PathBuf {
    use std::io::Write as _;
    let path = folder.join(name);
    let mut file = std::fs::File::create(&path).expect("a file");
    let block = [0x5a; 4_096];
    let mut wrote = 0;
    while file.write_all(&block).is_ok() {
        wrote += block.len();
        assert!(wrote < 1 << 30, "the disk has no end");
    }
    if spare > 0 {
        file.set_len(wrote.saturating_sub(spare) as u64)
            .expect("cut");
    }
    path
}

/// Waits a little between two looks at something that is to come.
pub async fn pause() {
    tokio::time::sleep(Duration::from_millis(50)).await;
}

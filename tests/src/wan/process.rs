//! The test's side: one node as a process in a namespace.
//!
//! It can be asked, killed, stopped in its tracks and let go on. Dropped, it is killed. An ask whose
//! process dies before it answers comes back as `Gone`: what became of it is not known.

use super::talk::{Ask, Line, Said, Start};
use aquifer_node::api::{Problem, Remember, Remembered};
use rustix::process::{Pid, Signal, kill_process};
use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io;
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::mpsc;

/// Why an ask has no answer.
#[derive(Debug, thiserror::Error)]
pub enum Unanswered {
    /// The node said no.
    #[error("{}: {}", .0.code, .0.message)]
    Refused(Problem),
    /// The process ended first: whether it was done is not known.
    #[error("the node is gone")]
    Gone,
}

/// An acknowledged write and its times, in microseconds since 1970.
#[derive(Clone, Debug)]
pub struct Written {
    /// When it was begun.
    pub began: u64,
    /// When it was acknowledged.
    pub ended: u64,
    /// What became of it.
    pub remembered: Remembered,
}

type Waiting = Arc<Mutex<BTreeMap<u64, mpsc::Sender<Said>>>>;

/// A running node.
#[derive(Debug)]
pub struct Process {
    /// Its peer id.
    pub node: String,
    child: Mutex<Child>,
    pid: u32,
    stdin: tokio::sync::Mutex<ChildStdin>,
    waiting: Waiting,
    next: AtomicU64,
}

impl Process {
    /// Starts `program node` in `namespace`, its log in the file `log`, and waits until it is up.
    ///
    /// # Errors
    /// What the node said, or the system.
    pub async fn launch(
        program: &Path,
        namespace: &str,
        log: &Path,
        start: &Start,
    ) -> io::Result<Self> {
        let log = OpenOptions::new().create(true).append(true).open(log)?;
        // `ip` replaces itself by the program: the process is the node.
        let mut child = Command::new("ip")
            .args(["netns", "exec", namespace])
            .arg(program)
            .arg("node")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()?;
        let mut stdin = child.stdin.take().expect("it is piped");
        let stdout = child.stdout.take().expect("it is piped");
        let mut first = serde_json::to_vec(start)?;
        first.push(b'\n');
        stdin.write_all(&first).await?;
        let waiting = Waiting::default();
        let (say, mut said) = mpsc::channel(2);
        table(&waiting).insert(0, say);
        tokio::spawn(hear(BufReader::new(stdout), waiting.clone()));
        let node = match said.recv().await {
            Some(Said::Up(node)) => node,
            other => return Err(io::Error::other(format!("it did not start: {other:?}"))),
        };
        Ok(Self {
            node,
            pid: child.id().expect("it runs"),
            child: Mutex::new(child),
            stdin: tokio::sync::Mutex::new(stdin),
            waiting,
            next: AtomicU64::new(1),
        })
    }

    /// The process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Asks, and waits for the answer.
    ///
    /// # Errors
    /// [`Unanswered`].
    pub async fn ask(&self, ask: Ask) -> Result<Said, Unanswered> {
        answer(self.send(ask).await?.recv().await)
    }

    /// Asks, and returns the answers as they come.
    ///
    /// # Errors
    /// [`Unanswered::Gone`].
    pub async fn send(&self, ask: Ask) -> Result<mpsc::Receiver<Said>, Unanswered> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (say, said) = mpsc::channel(2);
        table(&self.waiting).insert(number, say);
        let mut line = serde_json::to_vec(&Line { number, body: ask }).expect("it is plain data");
        line.push(b'\n');
        let written = self.stdin.lock().await.write_all(&line).await;
        written.map_err(|_| Unanswered::Gone)?;
        Ok(said)
    }

    /// Remembers.
    ///
    /// # Errors
    /// [`Unanswered`].
    pub async fn remember(&self, asked: Remember) -> Result<Written, Unanswered> {
        match self.ask(Ask::Remember(asked)).await? {
            Said::Remembered {
                began,
                ended,
                remembered,
            } => Ok(Written {
                began,
                ended,
                remembered: *remembered,
            }),
            other => panic!("not an answer to that: {other:?}"),
        }
    }

    /// `kill -9`, and waits until it is dead.
    pub async fn kill(&self) {
        let _ = self.child().start_kill();
        while matches!(self.child().try_wait(), Ok(None)) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    fn child(&self) -> MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stops it in its tracks: SIGSTOP.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets it go on: SIGCONT.
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        kill_process(pid.expect("a process id"), signal).expect("it is our child");
    }
}

/// The answer, or why there is none.
///
/// # Errors
/// [`Unanswered`].
pub fn answer(said: Option<Said>) -> Result<Said, Unanswered> {
    match said {
        Some(Said::Refused(problem)) => Err(Unanswered::Refused(problem)),
        Some(said) => Ok(said),
        None => Err(Unanswered::Gone),
    }
}

/// Hands answers to who waits for them, until the process ends.
async fn hear(stdout: BufReader<tokio::process::ChildStdout>, waiting: Waiting) {
    let mut lines = stdout.lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let Ok(Line { number, body }) = serde_json::from_str::<Line<Said>>(&line) else {
            eprintln!("a node said what is not an answer: {line}");
            continue;
        };
        let mut table = table(&waiting);
        let is_last = !matches!(body, Said::Armed);
        if let Some(asker) = table.get(&number) {
            // There is room for two; who gave up waiting does not hear it.
            let _ = asker.try_send(body);
        }
        if is_last {
            table.remove(&number);
        }
    }
    table(&waiting).clear();
}

fn table(waiting: &Waiting) -> MutexGuard<'_, BTreeMap<u64, mpsc::Sender<Said>>> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

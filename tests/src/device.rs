//! Devices at the edge, as processes: fed with lines, killed, and started again.
//!
//! A device that is dropped is killed. What it tells is kept, line by line, and can be waited for.

use serde_json::Value;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// After so long what has not happened never will.
const PATIENCE: Duration = Duration::from_secs(60);

/// The home of a device and how it is started.
#[derive(Clone, Debug)]
pub struct Device {
    /// The program.
    pub program: PathBuf,
    /// Its home.
    pub home: PathBuf,
    /// The module it runs, of those that are committed.
    pub module: &'static str,
    /// Flags of `run`, but for its home.
    pub flags: Vec<String>,
}

/// A device that runs.
#[derive(Debug)]
pub struct Running {
    child: Child,
    stdin: Option<ChildStdin>,
    told: Arc<Mutex<Vec<Value>>>,
}

impl Device {
    /// Starts it, with `more` flags.
    pub fn runs(&self, more: &[&str]) -> Running {
        let module = crate::repository()
            .join("wasm-agent/guest/modules")
            .join(self.module);
        let mut child = Command::new(&self.program)
            .arg("run")
            .arg(module)
            .arg("--home")
            .arg(&self.home)
            .args(["--input", "-", "--json"])
            .args(&self.flags)
            .args(more)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the device starts");
        let out = BufReader::new(child.stdout.take().expect("piped"));
        let told = Arc::<Mutex<Vec<Value>>>::default();
        let telling = told.clone();
        std::thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                let event = serde_json::from_str(&line).unwrap_or(Value::String(line));
                telling
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(event);
            }
        });
        Running {
            stdin: child.stdin.take(),
            child,
            told,
        }
    }

    /// What `status` or `queue` says of its home.
    pub fn says(&self, verb: &str) -> Value {
        let output = Command::new(&self.program)
            .args([verb, "--json", "--home"])
            .arg(&self.home)
            .output()
            .expect("the device answers");
        serde_json::from_slice(&output.stdout).expect("it answers in JSON")
    }

    /// The same device with another home, which is a copy of this one as it is now.
    pub fn copied_to(&self, home: &Path) -> Self {
        std::fs::create_dir_all(home).expect("room");
        for entry in std::fs::read_dir(&self.home)
            .expect("it has a home")
            .flatten()
        {
            std::fs::copy(entry.path(), home.join(entry.file_name())).expect("room");
        }
        Self {
            home: home.to_owned(),
            ..self.clone()
        }
    }
}

impl Running {
    /// Feeds it a line.
    pub fn feed(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().expect("its input is open");
        // One that was killed does not read: the line is said again to the next.
        let _ = writeln!(stdin, "{line}").and_then(|()| stdin.flush());
    }

    /// No more lines come.
    pub fn input_ends(&mut self) {
        self.stdin = None;
    }

    /// What it has told so far.
    pub fn told(&self) -> Vec<Value> {
        self.told
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Waits until it has told of something.
    ///
    /// # Panics
    /// If it does not in time.
    pub fn tells(&self, what: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        let start = Instant::now();
        loop {
            let told = self.told();
            if let Some(event) = told.iter().find(|event| is_it(event)) {
                return event.clone();
            }
            assert!(start.elapsed() < PATIENCE, "it never told {what}: {told:?}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits until the line of this name is safe.
    pub fn has_taken(&self, line: &str) {
        self.tells(&format!("that it took {line}"), |event| {
            event["event"] == "taken" && event["line"] == line
        });
    }

    /// Its power is gone: SIGKILL.
    pub fn loses_power(mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it died");
    }

    /// Waits until it ends by itself. Returns its exit code.
    ///
    /// # Panics
    /// If it does not in time.
    pub fn ends(&mut self) -> i32 {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("it is ours") {
                return status.code().expect("it was not killed");
            }
            assert!(
                start.elapsed() < PATIENCE,
                "it never ended: {:?}",
                self.told()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // One that has ended cannot be killed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

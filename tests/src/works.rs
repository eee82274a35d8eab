//! Works: real nodes that run tasks, each a process, on loopback.
//!
//! Jobs are started from the node's own binary, so the nodes of these stories are processes of one that can
//! be a stage (`aquifer-works`), and can be killed. Everything waits for a condition, never for a time.

use crate::machine::void;
use aquifer_node::api::{Invite, NewTopic, PolicyView, Problem, SubmitTask, TaskView};
use aquifer_node::client::Client;
use aquifer_node::home::Home;
use aquifer_runner::Runner as _;
use aquifer_runner::process::{Process, Settings};
use aquifer_runner::stage::Stage;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use tempfile::TempDir;

/// Homes of nodes, deleted with the works.
#[derive(Debug)]
pub struct Works {
    program: PathBuf,
    folder: TempDir,
}

/// A running node, killed when it is dropped.
#[derive(Debug)]
pub struct Node {
    /// Its name, and its home's.
    pub name: String,
    /// Its peer id.
    pub id: String,
    /// The way to it.
    pub client: Client,
    child: Child,
    /// When it closes, the node ends at once: it is closed with this process, not before the node is waited for.
    _stdin: ChildStdin,
}

impl Works {
    /// Works whose nodes are processes of `program`; none where this machine runs no jobs, which is said.
    ///
    /// # Panics
    /// If there is no temporary folder.
    pub fn here(program: &str, test: &str) -> Option<Self> {
        let program = PathBuf::from(program);
        let process = Process::new(Settings::usual(Stage(program.clone())));
        match process.probe() {
            Ok(_) => Some(Self {
                program,
                folder: tempfile::tempdir().expect("a temporary folder"),
            }),
            Err(refusal) => {
                void(test, &format!("{refusal} ({})", refusal.hint));
                None
            }
        }
    }

    fn home(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Founds a hive in `region`.
    ///
    /// # Panics
    /// If it does not start.
    pub fn founds(&self, name: &str, region: &str, words: &[&str]) -> Node {
        let first = ["up", "--region", region].map(str::to_owned);
        self.launch(name, first.into(), words).expect("it founds")
    }

    /// Joins by a ticket of `issuer` for `region` and `roles`.
    ///
    /// # Errors
    /// What the newcomer says, if it does not start.
    ///
    /// # Panics
    /// If there is no ticket.
    pub async fn joins(
        &self,
        name: &str,
        (issuer, region, roles): (&Node, &str, &[&str]),
        words: &[&str],
    ) -> Result<Node, String> {
        let asked = Invite {
            region: Some(region.to_owned()),
            roles: roles.iter().map(|role| (*role).to_owned()).collect(),
            ..Invite::default()
        };
        let ticket = issuer
            .client
            .invite(&asked)
            .await
            .expect("may invite")
            .ticket;
        self.launch(name, vec!["join".to_owned(), ticket], words)
    }

    /// Starts a node again that has ended.
    ///
    /// # Panics
    /// If it does not start.
    pub fn again(&self, name: &str, words: &[&str]) -> Node {
        self.launch(name, vec!["up".to_owned()], words)
            .expect("it starts again")
    }

    fn launch(&self, name: &str, first: Vec<String>, words: &[&str]) -> Result<Node, String> {
        let home = self.home(name);
        let at = home.to_str().expect("a plain path");
        let log = File::create(home.with_extension("log")).expect("a file");
        let mut command = Command::new(&self.program);
        command.arg("node").args(first).args(words);
        command.args(["--home", at, "--json", "--api", "127.0.0.1:0", "--no-mdns"]);
        // The same port each time, so that the others find it again.
        let port = self.port(name);
        command.args(["--listen", &format!("/ip4/127.0.0.1/udp/{port}/quic-v1")]);
        let mut child = command
            .env("NO_COLOR", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("the program starts");
        let mut line = String::new();
        let out = child.stdout.take().expect("it is piped");
        let read = BufReader::new(out).read_line(&mut line);
        if read.is_err() || !line.contains("\"ok\":true") {
            let _ = child.kill();
            let _ = child.wait();
            return Err(line);
        }
        let id = line.split("\"node_id\":\"").nth(1);
        let id = id.and_then(|rest| rest.split('"').next());
        Ok(Node {
            name: name.to_owned(),
            id: id.expect("a status names the node").to_owned(),
            client: Client::of(&Home::at(Some(home))),
            _stdin: child.stdin.take().expect("it is piped"),
            child,
        })
    }

    fn port(&self, name: &str) -> u16 {
        let kept = self.folder.path().join(format!("{name}.port"));
        let known = std::fs::read_to_string(&kept).ok();
        known.and_then(|text| text.parse().ok()).unwrap_or_else(|| {
            let free = UdpSocket::bind("127.0.0.1:0").expect("a free port");
            let port = free.local_addr().expect("it is bound").port();
            std::fs::write(&kept, port.to_string()).expect("a file");
            port
        })
    }
}

impl Node {
    /// Creates a topic that may be in `regions`.
    ///
    /// # Panics
    /// If it may not.
    pub async fn creates(&self, topic: &str, regions: &[&str]) {
        let policy = PolicyView {
            allowed_regions: Some(regions.iter().map(|region| (*region).to_owned()).collect()),
            ..PolicyView::default()
        };
        let asked = NewTopic {
            name: topic.to_owned(),
            policy,
        };
        self.client.topic_create(&asked).await.expect("creates");
    }

    /// Asks for a task.
    ///
    /// # Panics
    /// If it may not.
    pub async fn submits(&self, asked: &SubmitTask) -> String {
        self.client.task_submit(asked).await.expect("submits").id
    }

    /// A task as this node knows it.
    ///
    /// # Errors
    /// As `Client::task`.
    pub async fn knows(&self, task: &str) -> Result<TaskView, Problem> {
        self.client.task(task).await
    }

    /// Kills its process, as `kill -9` does.
    ///
    /// # Panics
    /// If it has ended before.
    pub fn is_killed(mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it died");
    }

    /// Stops it and waits until it is gone.
    ///
    /// # Panics
    /// If it does not answer.
    pub async fn stops(mut self) {
        self.client.stop().await.expect("it answers");
        self.child.wait().expect("it ends");
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How many processes of this machine have `word` among their arguments.
pub fn processes_with(word: &str) -> usize {
    let all = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let has = |path: &Path| {
        let line = std::fs::read(path.join("cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0)
            .any(|part| part == word.as_bytes())
    };
    all.filter(|entry| has(&entry.path())).count()
}

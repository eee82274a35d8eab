//! A troupe: three machines, of which the memory of one fails, and what they are asked of an agent.
//!
//! Each is a node in a process of its own. One that is dropped is killed.

use crate::faulty::FAULT;
use crate::fleet::until;
use aquifer_node::api::{AgentView, Deploy, Invite, Invoke, NewTopic, PolicyView};
use aquifer_node::client::Client;
use aquifer_node::home::Home;
use serde_json::{Value, json};
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// A node in a process of its own.
#[derive(Debug)]
pub struct Machine {
    /// The way to it.
    pub client: Client,
    /// Its peer id.
    pub node: String,
    program: PathBuf,
    home: PathBuf,
    child: Child,
}

/// How a verb of the command line ended.
#[derive(Debug)]
pub struct Ended {
    /// The exit code.
    pub exit: i32,
    /// What it said.
    pub said: String,
}

impl Ended {
    /// The data of its answer in JSON.
    ///
    /// # Panics
    /// If it is none.
    #[must_use]
    pub fn data(&self) -> Value {
        let envelope: Value = serde_json::from_str(&self.said).expect("an envelope");
        envelope["data"].clone()
    }
}

impl Machine {
    /// Starts a node with its home in `home`: `verb` is `up` or `join` with what belongs to it. Waits until it
    /// answers.
    ///
    /// # Panics
    /// If it does not come up.
    #[must_use]
    pub fn starts(program: &Path, home: &Path, fault: Option<&str>, verb: &[&str]) -> Self {
        let mut command = Command::new(program);
        command
            .args(verb)
            .arg("--home")
            .arg(home)
            .args(["--json", "--no-mdns", "--api", "127.0.0.1:0"])
            .args(["--listen", "/ip4/127.0.0.1/udp/0/quic-v1"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        if let Some(fault) = fault {
            command.env(FAULT, fault);
        }
        let mut child = command.spawn().expect("started");
        let mut said = String::new();
        let mut out = BufReader::new(child.stdout.take().expect("it is piped"));
        // Nothing more comes: what ends it closes its side too.
        let _ = out.read_line(&mut said);
        let status: Value = serde_json::from_str(&said).unwrap_or_default();
        let node = status["data"]["node_id"].as_str();
        Self {
            node: node.unwrap_or_else(|| panic!("it says: {said}")).into(),
            client: Client::over_tcp(&Home::at(Some(home.to_owned()))),
            program: program.into(),
            home: home.into(),
            child,
        }
    }

    /// What the command line says on this machine.
    ///
    /// # Panics
    /// If the system does not let it run.
    #[must_use]
    pub fn says(&self, words: &[&str]) -> Ended {
        let mut command = Command::new(&self.program);
        command.args(words).arg("--home").arg(&self.home);
        let output = command.env("NO_COLOR", "1").output().expect("it runs");
        Ended {
            exit: output.status.code().expect("it ends by itself"),
            said: String::from_utf8_lossy(&output.stdout).into_owned(),
        }
    }

    /// An agent, as this machine knows it.
    pub async fn shown(&self, agent: &str) -> Option<AgentView> {
        self.client.agent(agent).await.ok()
    }

    /// How many steps an agent has taken here.
    pub async fn steps(&self, agent: &str) -> u64 {
        let here = self.shown(agent).await.and_then(|shown| shown.here);
        here.map_or(0, |here| here.steps)
    }

    /// The node that wakes an agent, as this machine knows.
    pub async fn active(&self, agent: &str) -> Option<String> {
        let hosts = self.shown(agent).await?.hosts;
        let host = hosts.into_iter().find(|host| host.active)?;
        Some(host.node.node)
    }

    /// The nodes in quarantine, as this machine sees it.
    pub async fn quarantined(&self, agent: &str) -> Vec<String> {
        let hosts = self.shown(agent).await.map(|shown| shown.hosts);
        let hosts = hosts.into_iter().flatten().filter(|host| host.quarantined);
        hosts.map(|host| host.node.node).collect()
    }

    /// Deploys an agent from here.
    pub async fn deploys(&self, asked: &Deploy) {
        // What others may host is on its way at first.
        until("they may host it", || async {
            self.client.agent_deploy(asked).await.is_ok()
        })
        .await;
    }

    /// Sends an agent a number.
    ///
    /// # Panics
    /// If it cannot.
    pub async fn measures(&self, agent: &str, reading: u64) {
        let asked = Invoke {
            input: Some(json!(reading)),
            send: true,
            ..Invoke::default()
        };
        let sent = self.client.agent_invoke(agent, &asked).await;
        sent.expect("sent");
    }

    /// What an agent answers to a number.
    ///
    /// # Panics
    /// If it does not.
    pub async fn asks(&self, agent: &str, input: u64) -> Value {
        let asked = Invoke {
            input: Some(json!(input)),
            ..Invoke::default()
        };
        let invoked = self.client.agent_invoke(agent, &asked).await;
        invoked.expect("answers").said.expect("it says something")
    }

    /// Stops it, and waits until it is gone.
    ///
    /// # Panics
    /// If it does not answer.
    pub async fn stops(mut self) {
        self.client.stop().await.expect("it answers");
        self.child.wait().expect("it ends");
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // One that has ended cannot be killed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Three machines: `a` and `b` are sound, `l` has the fault.
#[derive(Debug)]
pub struct Troupe {
    program: PathBuf,
    /// Sound, and the founder.
    pub a: Machine,
    /// Sound.
    pub b: Machine,
    /// The one that fails.
    pub l: Machine,
    folder: TempDir,
}

impl Troupe {
    /// Starts them; of `program`, which is `aquifer-faulty`.
    ///
    /// # Panics
    /// If one does not come up.
    pub async fn with(program: &Path, fault: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let home = |name: &str| folder.path().join(name);
        let a = Machine::starts(program, &home("a"), None, &["up", "--region", "eu"]);
        for topic in ["plant/agents", "alerts"] {
            let policy = PolicyView {
                allowed_regions: Some(vec!["eu".into()]),
                ..PolicyView::default()
            };
            let name = topic.into();
            let created = a.client.topic_create(&NewTopic { name, policy }).await;
            created.expect("creates");
        }
        let troupe = Self {
            b: joins(program, &a, &home("b"), None).await,
            l: joins(program, &a, &home("l"), Some(fault)).await,
            a,
            program: program.into(),
            folder,
        };
        until("all have met", || async {
            let mut met = 0;
            for machine in troupe.all() {
                let peers = machine.client.peers().await;
                met += usize::from(peers.is_ok_and(|peers| peers.len() == 2));
            }
            met == 3
        })
        .await;
        troupe
    }

    /// All three.
    #[must_use]
    pub fn all(&self) -> [&Machine; 3] {
        [&self.a, &self.b, &self.l]
    }

    /// Deploys an agent on `on` such that it wakes it: it is the first to ask for votes, but the first to be heard
    /// by the others may be another. Then it is stopped, and deployed once more.
    ///
    /// # Panics
    /// If it is never the first.
    pub async fn holds(&self, on: &Machine, asked: &Deploy) {
        let name = asked.name.as_str();
        for _ in 0..5 {
            on.deploys(asked).await;
            until("all know who wakes it", || async {
                let holder = on.active(name).await;
                let mut known = holder.is_some();
                for machine in self.all() {
                    known &= machine.active(name).await == holder;
                }
                known
            })
            .await;
            if on.active(name).await.as_ref() == Some(&on.node) {
                return;
            }
            on.client.agent_stop(name).await.expect("stops");
            until("it lives nowhere", || async {
                let mut gone = true;
                for machine in self.all() {
                    let shown = machine.shown(name).await;
                    gone &= shown.is_some_and(|shown| shown.agents == 0 && shown.here.is_none());
                }
                gone
            })
            .await;
        }
        panic!("another always came first");
    }

    /// One more sound machine.
    pub async fn grows(&self) -> Machine {
        joins(&self.program, &self.a, &self.folder.path().join("d"), None).await
    }

    /// Stops them.
    ///
    /// # Panics
    /// If one does not answer.
    pub async fn stops(self) {
        for machine in [self.l, self.b, self.a] {
            machine.stops().await;
        }
    }
}

/// Starts a machine that may host agents.
async fn joins(program: &Path, issuer: &Machine, home: &Path, fault: Option<&str>) -> Machine {
    let invited = issuer.client.invite(&hosts()).await.expect("may invite");
    Machine::starts(program, home, fault, &["join", &invited.ticket])
}

/// A ticket for a machine that may host agents.
#[must_use]
pub fn hosts() -> Invite {
    Invite {
        region: Some("eu".into()),
        roles: vec!["pod-host".into(), "compute".into()],
        ..Invite::default()
    }
}

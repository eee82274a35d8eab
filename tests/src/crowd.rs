//! A crowd: many real nodes on one machine, each a process of the product, on loopback.
//!
//! Every node runs `aquifer up` or `aquifer join` to its end, in a home of its own, on free ports, with
//! the settings that a user gets who says nothing. It is asked over its Unix socket, so what passes the
//! loopback device is the swarm's alone. Dropped, a crowd kills its nodes, waits for them and deletes
//! their homes; a node also ends when its stdin does, so none outlives a run that was itself killed.
//!
//! Reading order: this file (starting, meeting, asking) · [`spread`] (one writes, all are to have it) ·
//! [`usage`] (what the kernel says it cost).

pub mod spread;
pub mod usage;

use aquifer_node::api::{Invite, List, NewTopic, PolicyView, Problem, Status};
use aquifer_node::cli;
use aquifer_node::client::Client;
use aquifer_node::home::Home;
use aquifer_protocol::identity::digest;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::task::JoinSet;

/// The regions there are to choose from, in order.
pub const REGIONS: [&str; 4] = ["eu", "us", "ap", "sa"];

/// How many join at the same time.
const JOINING: usize = 8;

/// Memories in one page of a listing.
const PAGE: usize = 1_000;

/// A condition that is waited for is looked at this often.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Why a run has no result.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// A node could not be started.
    #[error("{node} does not start: {why}")]
    Start {
        /// Its name.
        node: String,
        /// What it or the system said.
        why: String,
    },
    /// A node's process ended.
    #[error("{node} ended by itself ({status}); the end of its log: {log}")]
    Ended {
        /// Its name.
        node: String,
        /// How.
        status: String,
        /// The last lines of its log.
        log: String,
    },
    /// A node refused what it was asked.
    #[error("{node} refuses to {what}: {}: {}", .problem.code, .problem.message)]
    Refused {
        /// Its name.
        node: String,
        /// What it was asked.
        what: &'static str,
        /// What it said.
        problem: Problem,
    },
    /// A condition did not come true in time.
    #[error("after {after:?} still not so that {what}, at: {nodes}")]
    Late {
        /// The condition.
        what: String,
        /// For how long it was waited.
        after: Duration,
        /// The nodes that lack.
        nodes: String,
    },
}

/// A running node.
#[derive(Debug)]
pub struct Node {
    /// Its name, and its home's.
    pub name: String,
    /// Its region.
    pub region: &'static str,
    /// Its process.
    pub pid: u32,
    /// The way to it.
    pub client: Client,
    log: PathBuf,
    child: Child,
}

/// Nodes that know each other, or are about to.
#[derive(Debug)]
pub struct Crowd {
    /// The nodes; the first founded the hive.
    pub nodes: Vec<Node>,
    program: PathBuf,
    // After the nodes: they are dead when their homes are deleted.
    folder: TempDir,
}

/// The other side: runs `aquifer WORDS…`, and ends when stdin does.
pub async fn node(words: Vec<String>) -> u8 {
    let filter = tracing_subscriber::EnvFilter::try_from_env("AQUIFER_LOG");
    tracing_subscriber::fmt()
        .with_env_filter(filter.unwrap_or_else(|_| "warn,libp2p_kad=error".into()))
        .with_ansi(false)
        .with_writer(std::io::stderr)
        .init();
    std::thread::spawn(|| {
        let mut byte = [0];
        while matches!(std::io::stdin().read(&mut byte), Ok(1)) {}
        std::process::exit(0);
    });
    let words = std::iter::once("aquifer".into()).chain(words);
    match cli::parse(words.map(Into::into)) {
        Ok(cli) => cli.run().await,
        Err(code) => code,
    }
}

impl Crowd {
    /// Founds a hive: one node, run as `program node …`.
    ///
    /// # Errors
    /// [`Broken::Start`].
    ///
    /// # Panics
    /// If there can be no temporary folder.
    pub async fn found(program: &Path) -> Result<Self, Broken> {
        let folder = tempfile::Builder::new().prefix("aquifer-fleet-").tempdir();
        let mut crowd = Self {
            nodes: Vec::new(),
            program: program.to_owned(),
            folder: folder.expect("a temporary folder"),
        };
        let words = vec!["up".into(), "--region".into(), REGIONS[0].into()];
        let first = launch(crowd.program.clone(), crowd.home(0), 0, REGIONS[0], words).await?;
        crowd.nodes.push(first);
        Ok(crowd)
    }

    /// Lets nodes join by tickets of the first, a few at a time, until there are `count`, spread evenly
    /// over `regions`.
    ///
    /// # Errors
    /// [`Broken::Start`], [`Broken::Refused`].
    ///
    /// # Panics
    /// If there are not so many [`REGIONS`].
    pub async fn grow(&mut self, count: usize, regions: usize) -> Result<(), Broken> {
        let mut joining = JoinSet::new();
        let mut number = self.nodes.len();
        let mut joined = Vec::new();
        loop {
            while number < count && joining.len() < JOINING {
                let region = REGIONS[number % regions];
                let asked = Invite {
                    region: Some(region.into()),
                    ..Invite::default()
                };
                let ticket = self.nodes[0].client.invite(&asked).await;
                let ticket = ticket.map_err(|p| self.nodes[0].refuses("invite", p))?;
                let words = vec!["join".into(), ticket.ticket];
                let program = self.program.clone();
                let home = self.home(number);
                joining.spawn(launch(program, home, number, region, words));
                number += 1;
            }
            let Some(node) = joining.join_next().await else {
                break;
            };
            joined.push(node.expect("no panic")?);
        }
        joined.sort_by(|a, b| a.name.cmp(&b.name));
        self.nodes.extend(joined);
        Ok(())
    }

    /// Kills the node at `number` with `kill -9`, if it still runs, and starts it again in its home.
    ///
    /// # Errors
    /// [`Broken::Start`].
    pub async fn restarts(&mut self, number: usize) -> Result<(), Broken> {
        self.nodes[number].kill();
        let region = self.nodes[number].region;
        let (program, home) = (self.program.clone(), self.home(number));
        self.nodes[number] = launch(program, home, number, region, vec!["up".into()]).await?;
        Ok(())
    }

    /// The home of the node at `number`.
    #[must_use]
    pub fn home(&self, number: usize) -> PathBuf {
        self.folder.path().join(name(number))
    }

    /// Where all homes are: the disk that acknowledged writes are on.
    #[must_use]
    pub fn disk(&self) -> &Path {
        self.folder.path()
    }

    /// Waits until `holds` of every node, asking in turn those of which it did not yet: when each did.
    ///
    /// # Errors
    /// [`Broken::Late`] after `patience`; [`Broken::Ended`] as soon as one of them has.
    pub async fn all<F: Future<Output = bool>>(
        &mut self,
        what: &str,
        patience: Duration,
        holds: impl Fn(Client) -> F,
    ) -> Result<Vec<Instant>, Broken> {
        let began = Instant::now();
        let mut when: Vec<Option<Instant>> = vec![None; self.nodes.len()];
        loop {
            for (node, when) in self.nodes.iter_mut().zip(&mut when) {
                node.runs()?;
                if when.is_none() && holds(node.client.clone()).await {
                    *when = Some(Instant::now());
                }
            }
            if when.iter().all(Option::is_some) {
                return Ok(when.into_iter().flatten().collect());
            }
            if began.elapsed() > patience {
                let lacking = self.nodes.iter().zip(&when).filter(|(_, w)| w.is_none());
                let nodes: Vec<&str> = lacking.map(|(node, _)| node.name.as_str()).collect();
                return Err(Broken::Late {
                    what: what.into(),
                    after: patience,
                    nodes: nodes.join(" "),
                });
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Waits until every node knows every other as a member and is connected to `peers` of them.
    ///
    /// # Errors
    /// As [`Crowd::all`].
    pub async fn meets(&mut self, peers: usize, patience: Duration) -> Result<(), Broken> {
        let others = self.nodes.len() - 1;
        let what = format!("it knows {others} others and is connected to {peers}");
        let met = |client: Client| async move {
            let met = |s: &Status| s.peers.len() >= peers && s.peers.len() + s.away.len() >= others;
            client.status().await.is_ok_and(|status| met(&status))
        };
        self.all(&what, patience, met).await.map(drop)
    }

    /// Founds `topic` at the first node, to be held everywhere in the first `regions`, and waits until
    /// every node holds it.
    ///
    /// # Errors
    /// As [`Crowd::all`]; [`Broken::Refused`].
    pub async fn opens(
        &mut self,
        topic: &str,
        regions: usize,
        patience: Duration,
    ) -> Result<(), Broken> {
        let names = REGIONS[..regions].iter().map(|r| (*r).to_owned());
        let asked = NewTopic {
            name: topic.into(),
            policy: PolicyView {
                allowed_regions: Some(names.collect()),
                ..PolicyView::default()
            },
        };
        let founded = self.nodes[0].client.topic_create(&asked).await;
        founded.map_err(|p| self.nodes[0].refuses("found a topic", p))?;
        let held = |client: Client| async move {
            let shown = client.topic(topic).await;
            shown.is_ok_and(|shown| shown.held)
        };
        let what = format!("it holds {topic}");
        self.all(&what, patience, held).await.map(drop)
    }
}

impl Node {
    pub(crate) fn refuses(&self, what: &'static str, problem: Problem) -> Broken {
        let node = self.name.clone();
        Broken::Refused {
            node,
            what,
            problem,
        }
    }

    /// An error unless its process runs.
    fn runs(&mut self) -> Result<(), Broken> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            ended => Err(Broken::Ended {
                node: self.name.clone(),
                status: ended.map_or_else(|e| e.to_string(), |s| format!("{s:?}")),
                log: tail(&self.log),
            }),
        }
    }

    /// `kill -9`, and waits until it is dead.
    pub fn kill(&mut self) {
        let _ = self.child.start_kill();
        while matches!(self.child.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// A digest of all memories of `topic` as they stand, and how many they are.
    ///
    /// # Errors
    /// [`Broken::Refused`].
    pub async fn digest(&self, topic: &str) -> Result<([u8; 32], usize), Broken> {
        let mut all = Vec::new();
        let mut cursor = None;
        loop {
            let asked = List {
                topic: Some(topic.into()),
                limit: Some(PAGE),
                cursor,
                ..List::default()
            };
            let page = self.client.list(&asked).await;
            let page = page.map_err(|p| self.refuses("list", p))?;
            let said = page.memories.into_iter();
            all.extend(said.map(|one| format!("{} {} {}\n", one.id, one.updated_at, one.text)));
            cursor = page.next_cursor;
            if cursor.is_none() {
                break;
            }
        }
        all.sort_unstable();
        let parts: Vec<&[u8]> = all.iter().map(String::as_bytes).collect();
        Ok((digest("aquifer/fleet-digest/1", &parts), all.len()))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}

fn name(number: usize) -> String {
    format!("n{number:03}")
}

/// Starts node `number` in `home` and waits until it answers.
async fn launch(
    program: PathBuf,
    home: PathBuf,
    number: usize,
    region: &'static str,
    mut words: Vec<String>,
) -> Result<Node, Broken> {
    let name = name(number);
    let refuse = |why: String| Broken::Start {
        node: name.clone(),
        why,
    };
    let log = home.with_extension("log");
    let file = File::create(&log).map_err(|e| refuse(e.to_string()))?;
    let at = home.to_str().expect("a plain path");
    let flags = [
        "--home",
        at,
        "--json",
        "--api",
        "127.0.0.1:0",
        "--no-mdns",
        "--listen",
        "/ip4/127.0.0.1/udp/0/quic-v1",
        "--listen",
        "/ip4/127.0.0.1/tcp/0",
    ];
    words.extend(flags.map(str::to_owned));
    let spawned = Command::new(program)
        .arg("node")
        .args(words)
        .env("NO_COLOR", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(file)
        .kill_on_drop(true)
        .spawn();
    let mut child = spawned.map_err(|e| refuse(e.to_string()))?;
    let stdout = child.stdout.take().expect("it is piped");
    let first = BufReader::new(stdout).lines().next_line().await;
    match first {
        Ok(Some(line)) if line.contains("\"ok\":true") => {}
        said => return Err(refuse(format!("{said:?}; {}", tail(&log)))),
    }
    Ok(Node {
        name,
        region,
        pid: child.id().expect("it runs"),
        client: Client::of(&Home::at(Some(home))),
        log,
        child,
    })
}

/// The last lines of a log.
fn tail(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(3)..].join(" | ")
}

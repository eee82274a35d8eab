//! A fleet: real nodes in this process, on loopback, each with a home of its own.
//!
//! The verbs are those of a story (`founds`, `joins`, `remembers`), so that tests read as one and
//! the API below can be reshaped. Everything waits for a condition, never for a time.

use aquifer_node::api::{Invite, PolicyView, Problem, Recall, Recalled, Remember, Remembered};
use aquifer_node::home::Home;
use aquifer_node::memory::Memory;
use aquifer_node::{Node, Up, start};
use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// After so long a condition that has not come true never will.
const PATIENCE: Duration = Duration::from_secs(30);

/// Homes of nodes, deleted with the fleet.
#[derive(Debug)]
pub struct Fleet {
    folder: TempDir,
}

/// A running node of a fleet.
#[derive(Debug)]
pub struct Runner {
    /// Its name in the fleet, and its home's.
    pub name: String,
    /// The node.
    pub node: Node,
}

impl Default for Fleet {
    fn default() -> Self {
        Self {
            folder: tempfile::tempdir().expect("a temporary folder"),
        }
    }
}

impl Fleet {
    /// The home of the node called `name`.
    pub fn home(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Flags for the node called `name`: loopback, free ports, no discovery beyond what is told.
    pub fn flags(&self, name: &str) -> Up {
        Up {
            home: Some(Home::at(Some(self.home(name)))),
            api: Some("127.0.0.1:0".into()),
            listen: vec![
                "/ip4/127.0.0.1/udp/0/quic-v1".into(),
                "/ip4/127.0.0.1/tcp/0".into(),
            ],
            no_mdns: true,
            ..Up::default()
        }
    }

    /// Starts a node that founds a hive in `region`, or carries on in its home.
    pub async fn founds(&self, name: &str, region: &str) -> Runner {
        let up = Up {
            region: Some(region.into()),
            ..self.flags(name)
        };
        self.starts(name, up).await.expect("founds")
    }

    /// Starts a node that joins by a ticket of `issuer` for `region`.
    pub async fn joins(&self, name: &str, issuer: &Runner, region: &str) -> Runner {
        let ticket = issuer.invites(region).await;
        let up = Up {
            ticket: Some(ticket),
            ..self.flags(name)
        };
        self.starts(name, up).await.expect("joins")
    }

    /// Starts a node with `up`.
    ///
    /// # Errors
    /// Whatever keeps it from starting.
    pub async fn starts(&self, name: &str, up: Up) -> Result<Runner, Problem> {
        Ok(Runner {
            name: name.into(),
            node: start(up).await?,
        })
    }
}

impl Runner {
    /// The node's memory.
    pub fn memory(&self) -> Memory {
        self.node.memory()
    }

    /// A ticket for `region`.
    pub async fn invites(&self, region: &str) -> String {
        let asked = Invite {
            region: Some(region.into()),
            ..Invite::default()
        };
        self.memory()
            .invite(asked)
            .await
            .expect("may invite")
            .ticket
    }

    /// Creates a topic that may be in `regions`.
    pub async fn creates(&self, topic: &str, regions: &[&str]) {
        let regions = regions.iter().map(|r| (*r).to_owned()).collect();
        let policy = PolicyView {
            allowed_regions: Some(regions),
            ..PolicyView::default()
        };
        self.memory()
            .topic_create(topic, policy)
            .await
            .expect("creates");
    }

    /// Remembers a text.
    pub async fn remembers(&self, topic: &str, text: &str) -> Remembered {
        self.tries_to_remember(topic, text)
            .await
            .expect("remembers")
    }

    /// Remembers a text, or says why not.
    ///
    /// # Errors
    /// As `Memory::remember`.
    pub async fn tries_to_remember(&self, topic: &str, text: &str) -> Result<Remembered, Problem> {
        let asked = Remember {
            text: text.into(),
            topic: Some(topic.into()),
            ..Remember::default()
        };
        self.memory().remember(asked).await
    }

    /// Recalls, or says why not.
    ///
    /// # Errors
    /// As `Memory::recall`.
    pub async fn tries_to_recall(&self, topic: &str, query: &str) -> Result<Recalled, Problem> {
        let asked = Recall {
            query: query.into(),
            topic: Some(topic.into()),
            ..Recall::default()
        };
        self.memory().recall(asked).await
    }

    /// The texts found, best first; nothing if the topic is not known yet.
    pub async fn recalls(&self, topic: &str, query: &str) -> Vec<String> {
        let found = self.tries_to_recall(topic, query).await;
        let results = found.map(|recalled| recalled.results).unwrap_or_default();
        results.into_iter().map(|hit| hit.memory.text).collect()
    }

    /// Waits until a query finds `text`.
    pub async fn comes_to_recall(&self, topic: &str, query: &str, text: &str) {
        let what = format!("{} recalls {text:?}", self.name);
        until(&what, || async {
            self.recalls(topic, query).await.iter().any(|t| t == text)
        })
        .await;
    }

    /// Waits until this node has `count` peers.
    pub async fn meets(&self, count: usize) {
        let what = format!("{} meets {count}", self.name);
        let met = || async {
            self.memory()
                .status()
                .await
                .is_ok_and(|s| s.peers.len() >= count)
        };
        until(&what, met).await;
    }

    /// Stops it and waits until it is gone.
    pub async fn stops(self) {
        self.node.stop().await;
    }
}

/// Waits until `condition` holds.
///
/// # Panics
/// If it does not within the fleet's patience.
pub async fn until<F: Future<Output = bool>>(what: &str, condition: impl Fn() -> F) {
    let start = Instant::now();
    while !condition().await {
        assert!(start.elapsed() < PATIENCE, "it never came true that {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// How many files below `folder` hold `needle`: raw, or as hexadecimal digits.
pub fn files_with(folder: &Path, needle: &str) -> usize {
    let hex: String = needle.bytes().map(|byte| format!("{byte:02x}")).collect();
    let mut found = 0;
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found += files_with(&path, needle);
        } else if let Ok(bytes) = std::fs::read(&path) {
            let holds = |n: &str| bytes.windows(n.len()).any(|window| window == n.as_bytes());
            found += usize::from(holds(needle) || holds(&hex));
        }
    }
    found
}

//! A model in a crowd: one node publishes a file, three more are to have it, and a fifth, outside the
//! regions of its topic, is to get nothing. One of the three is killed in the middle and started again.
//!
//! What is measured is measured beside what the machine can do, in the same run: a plain write and fsync
//! of the same bytes, and the hash alone. What was lost with the kill is what its holders had sent it and
//! it did not have when it came back.

use crate::crowd::usage;
use crate::crowd::{Broken, Crowd, Node};
use crate::fleet::files_with;
use aquifer_node::api::{
    AskModel, CheckedModel, FetchView, ModelLine, ModelView, NewTopic, PolicyView, Problem,
    PushModel,
};
use serde::Serialize;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

const TOPIC: &str = "acme/models";
const NAME: &str = "noise:1";
/// Stands at the beginning of the file, so that its bytes can be looked for.
const CANARY: &str = "canary-5b1f0c77a2e94d36";
/// Where the nodes are: the first publishes, the second is outside, the third is killed.
const OUTSIDE: usize = 1;
const KILLED: usize = 2;
const NODES: usize = 5;
const BLOCK: usize = 1 << 20;
const MIB: f64 = (1 << 20) as f64;

/// How large a run is.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// The model's length, in MiB.
    pub mib: u64,
    /// After so long a condition that has not come true never will.
    pub patience: Duration,
}

/// What was measured. Rates are in MiB a second.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The model's length, in bytes.
    pub bytes: u64,
    /// A plain write and fsync of the same bytes, before all else and after the last transfer: what
    /// a disk does depends on what it did before.
    pub disk_rates: [f64; 2],
    /// BLAKE3 of the same bytes, on one thread.
    pub hash_rate: f64,
    /// Hashing and storing on the node that publishes, with its fsyncs.
    pub store_rate: f64,
    /// From the end of that until all have all, in seconds: the kill and the restart are in it.
    pub spread_seconds: f64,
    /// Each node's transfer.
    pub transfers: Vec<Transfer>,
    /// Bytes that were at the killed node when it was last asked before the kill.
    pub killed_at_bytes: u64,
    /// Bytes that were proved there when it came back.
    pub resumed_from_bytes: u64,
    /// Bytes that were on their way to it and died with it.
    pub lost_bytes: u64,
    /// Bytes that it fetched though it had them.
    pub again_bytes: u64,
    /// The most memory that any of the five took, in MiB.
    pub peak_mib: f64,
    /// Files outside the regions in which the canary was found.
    pub leaked_files: usize,
    /// Bytes of blobs outside the regions.
    pub leaked_bytes: u64,
    /// What the node outside was told when it asked for the model.
    pub refusal: String,
}

/// How one node got the model.
#[derive(Clone, Debug, Serialize)]
pub struct Transfer {
    /// The node.
    pub node: String,
    /// New bytes of its last fetch, and how many a second, in MiB.
    pub bytes: u64,
    /// See `bytes`.
    pub rate: f64,
    /// From how many nodes.
    pub holders: usize,
    /// Bytes proved by a check afterwards.
    pub proved_bytes: u64,
}

/// Runs it with nodes of `program`.
///
/// # Errors
/// What keeps it from a result.
///
/// # Panics
/// If there is no room for the file.
pub async fn run(program: &Path, size: Size, say: impl Fn(&str) + Sync) -> Result<Report, Broken> {
    let mut crowd = Crowd::found(program).await?;
    crowd.grow(2, 2).await?;
    crowd.grow(NODES, 1).await?;
    crowd.meets(1, size.patience).await?;
    let file = crowd.disk().join("noise.gguf");
    let bytes = size.mib << 20;
    let limits = Limits::measure(&file, bytes).expect("there is room for two copies");
    say(&format!(
        "disk {:.0} MiB/s, blake3 {:.0} MiB/s",
        limits.disk, limits.hash
    ));
    found_topic(&crowd.nodes[0]).await?;
    let pushed = push(&crowd.nodes[0], &file).await?;
    say(&format!("stored at {:.0} MiB/s", pushed.1));
    let began = Instant::now();
    let killed_at = until_it_has_some(&crowd.nodes[KILLED], size.patience).await?;
    crowd.restarts(KILLED).await?;
    say(&format!("killed one at {killed_at} bytes"));
    let inside: Vec<usize> = (0..NODES).filter(|number| *number != OUTSIDE).collect();
    for number in &inside {
        until_it_has_all(&crowd.nodes[*number], size.patience).await?;
    }
    let spread = began.elapsed();
    say(&format!("all have all after {:.1} s", spread.as_secs_f64()));
    let mut report = Report {
        bytes,
        disk_rates: [
            limits.disk,
            copied(&file, bytes).expect("there is room for a copy"),
        ],
        hash_rate: limits.hash,
        store_rate: pushed.1,
        spread_seconds: spread.as_secs_f64(),
        transfers: Vec::new(),
        killed_at_bytes: killed_at,
        resumed_from_bytes: 0,
        lost_bytes: 0,
        again_bytes: 0,
        peak_mib: 0.0,
        leaked_files: files_with(&crowd.home(OUTSIDE), CANARY),
        leaked_bytes: bytes_in(&crowd.home(OUTSIDE).join("blobs")),
        refusal: refused(&crowd.nodes[OUTSIDE]).await,
    };
    report.look_at(&crowd, &inside).await?;
    Ok(report)
}

impl Report {
    async fn look_at(&mut self, crowd: &Crowd, inside: &[usize]) -> Result<(), Broken> {
        // What was sent, but for what is accounted for by those to whom it came.
        let mut sent = 0;
        for node in &crowd.nodes {
            let peak = usage::memory(node.pid).map_or(0, |memory| memory.peak);
            self.peak_mib = self.peak_mib.max(peak as f64 / 1_024.0);
        }
        for number in inside {
            let node = &crowd.nodes[*number];
            let model = model(node).await?;
            let checked = check(node).await?;
            let fetch = model.fetch.unwrap_or_default();
            sent += counter(node, "aquifer_blob_bytes_sent_total").await?;
            sent -= fetch.wire_bytes as i64;
            self.again_bytes += fetch.again_bytes;
            if *number == KILLED {
                self.resumed_from_bytes = fetch.had_bytes;
            }
            if *number != 0 {
                let transfer = transfer(node, &fetch, checked.proved_bytes);
                self.transfers.push(transfer);
            }
        }
        // The killed node may itself have given some to others before it died: then its count is lost,
        // and so is that part of this one.
        self.lost_bytes = u64::try_from(sent)
            .unwrap_or(0)
            .saturating_sub(self.resumed_from_bytes);
        Ok(())
    }
}

fn transfer(node: &Node, fetch: &FetchView, proved_bytes: u64) -> Transfer {
    Transfer {
        node: node.name.clone(),
        bytes: fetch.done_bytes - fetch.had_bytes,
        rate: fetch.bytes_per_second as f64 / MIB,
        holders: fetch.from.len(),
        proved_bytes,
    }
}

/// What this machine can do.
struct Limits {
    disk: f64,
    hash: f64,
}

impl Limits {
    /// Makes the file, and measures on the way.
    fn measure(file: &Path, bytes: u64) -> io::Result<Self> {
        let mut noise = blake3::Hasher::new_derive_key("noise").finalize_xof();
        let mut out = File::create(file)?;
        let mut block = vec![0; BLOCK];
        for at in (0..bytes).step_by(BLOCK) {
            noise.fill(&mut block);
            if at == 0 {
                block[..CANARY.len()].copy_from_slice(CANARY.as_bytes());
            }
            out.write_all(&block)?;
        }
        out.sync_all()?;
        let disk = copied(file, bytes)?;
        let hash = timed(bytes, || {
            let (mut from, mut hasher) = (File::open(file)?, blake3::Hasher::new());
            loop {
                match from.read(&mut block)? {
                    0 => return Ok(()),
                    count => hasher.update(&block[..count]),
                };
            }
        })?;
        Ok(Self { disk, hash })
    }
}

/// How fast a plain copy is written and made durable, in MiB a second.
fn copied(file: &Path, bytes: u64) -> io::Result<f64> {
    let (copy, mut block) = (file.with_extension("copy"), vec![0; BLOCK]);
    let rate = timed(bytes, || {
        let (mut from, mut to) = (File::open(file)?, File::create(&copy)?);
        loop {
            match from.read(&mut block)? {
                0 => return to.sync_all(),
                count => to.write_all(&block[..count])?,
            }
        }
    })?;
    std::fs::remove_file(&copy)?;
    Ok(rate)
}

fn timed(bytes: u64, work: impl FnOnce() -> io::Result<()>) -> io::Result<f64> {
    let began = Instant::now();
    work()?;
    Ok(bytes as f64 / MIB / began.elapsed().as_secs_f64())
}

async fn found_topic(node: &Node) -> Result<(), Broken> {
    let asked = NewTopic {
        name: TOPIC.into(),
        policy: PolicyView {
            allowed_regions: Some(vec!["eu".into()]),
            ..PolicyView::default()
        },
    };
    let founded = node.client.topic_create(&asked).await;
    founded
        .map(drop)
        .map_err(|p| node.refuses("found a topic", p))
}

async fn push(node: &Node, file: &Path) -> Result<(ModelView, f64), Broken> {
    let asked = PushModel {
        path: file.display().to_string(),
        name: NAME.into(),
        topic: Some(TOPIC.into()),
        licence: "CC0-1.0".into(),
        ..PushModel::default()
    };
    let done = node.client.model_work("/v1/models", &asked, |_| {}).await;
    match done {
        Ok(ModelLine::Pushed(pushed)) => {
            let rate = pushed.bytes_per_second as f64 / MIB;
            Ok((pushed.model, rate))
        }
        Ok(other) => unreachable!("a push is answered by what it pushed, not {other:?}"),
        Err(problem) => Err(node.refuses("push a model", problem)),
    }
}

fn asked() -> AskModel {
    AskModel {
        name: NAME.into(),
        topic: Some(TOPIC.into()),
    }
}

async fn model(node: &Node) -> Result<ModelView, Broken> {
    let shown = node.client.model(&asked()).await;
    shown.map_err(|p| node.refuses("show a model", p))
}

async fn check(node: &Node) -> Result<CheckedModel, Broken> {
    let asked = asked();
    let done = node.client.model_work("/v1/models:check", &asked, |_| {});
    match done.await {
        Ok(ModelLine::Checked(checked)) => Ok(*checked),
        Ok(other) => unreachable!("a check is answered by what it found, not {other:?}"),
        Err(problem) => Err(node.refuses("check a model", problem)),
    }
}

/// What a node says when it is asked to pull what the law keeps from it.
async fn refused(node: &Node) -> String {
    let asked = asked();
    let pulled = node.client.model_work("/v1/models:pull", &asked, |_| {});
    match pulled.await {
        Ok(_) => "it was given".to_owned(),
        Err(Problem { code, .. }) => code,
    }
}

async fn counter(node: &Node, name: &str) -> Result<i64, Broken> {
    let text = node.client.metrics().await;
    let text = text.map_err(|p| node.refuses("count", p))?;
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    Ok(line
        .and_then(|count| count.trim().parse().ok())
        .unwrap_or(0))
}

/// Waits until the node has some of the model, but looks often: how many bytes.
async fn until_it_has_some(node: &Node, patience: Duration) -> Result<u64, Broken> {
    let some = |model: &ModelView| {
        let fetch = model.fetch.as_ref()?;
        // A third, so that the kill is in the middle however fast it goes.
        (fetch.done_bytes >= fetch.total_bytes / 3).then_some(fetch.done_bytes)
    };
    wait(node, "it has some of the model", patience, some).await
}

async fn until_it_has_all(node: &Node, patience: Duration) -> Result<(), Broken> {
    let all = |model: &ModelView| model.held.then_some(());
    wait(node, "it has all of the model", patience, all).await
}

async fn wait<T>(
    node: &Node,
    what: &str,
    patience: Duration,
    holds: impl Fn(&ModelView) -> Option<T>,
) -> Result<T, Broken> {
    let began = Instant::now();
    loop {
        let found = node.client.model(&asked()).await.ok();
        if let Some(done) = found.as_ref().and_then(&holds) {
            return Ok(done);
        }
        if began.elapsed() > patience {
            return Err(Broken::Late {
                what: what.into(),
                after: patience,
                nodes: format!("{} ({:?})", node.name, found.and_then(|model| model.fetch)),
            });
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Bytes of all files in a folder.
fn bytes_in(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let lens = entries.filter_map(|entry| Some(entry.metadata().ok()?.len()));
    lens.sum()
}

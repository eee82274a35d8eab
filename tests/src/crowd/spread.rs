//! Spread: one node of a crowd writes, and all are to have what it wrote.
//!
//! Records are written one after the other, each once the one before is acknowledged as durable. A node
//! has them when as many can be recalled there; at the end all digests must be equal.

use super::usage::{self, Memory};
use super::{Broken, Crowd};
use crate::wan::report::{Report, fdatasyncs};
use aquifer_node::api::Remember;
use aquifer_node::client::Client;
use serde::Serialize;
use std::path::Path;
use std::time::{Duration, Instant};

/// Everyone is to be connected to everyone, up to this many: the product's own default.
const PEERS_MAX: usize = aquifer_node::config::MAX_PEERS;

/// How often the disk is tried.
const SYNCS: usize = 50;

const TOPIC: &str = "crowd";

/// How large a run is.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Size {
    /// Nodes.
    pub nodes: usize,
    /// Records written at the first.
    pub records: usize,
    /// Regions that the nodes are spread over.
    pub regions: usize,
    /// For how long the crowd is watched doing nothing, once all have all.
    #[serde(skip)]
    pub idle: Duration,
    /// After so long a condition that has not come true never will.
    #[serde(skip)]
    pub patience: Duration,
}

/// What a run measured. Times are in seconds, memory is in KiB.
#[derive(Clone, Debug, Serialize)]
pub struct Spread {
    /// How large it was.
    pub size: Size,
    /// Peers that a node is connected to at the end: median and most.
    pub peers: (u64, u64),
    /// From the first start until all had joined.
    pub joined: f64,
    /// From then until all knew all and were connected to all, or to as many as nodes keep.
    pub met: f64,
    /// Processor time of all nodes until then.
    pub met_processor: f64,
    /// Resident memory per node then: median and most.
    pub met_resident: (u64, u64),
    /// Acknowledged writes per second at the entry.
    pub writes_per_second: f64,
    /// From the first write until the last was acknowledged.
    pub written: f64,
    /// From the first write until every node had all.
    pub spread: f64,
    /// From the last acknowledgement until every node had all.
    pub lag: f64,
    /// Processor time of all nodes from the first write until every node had all.
    pub processor: f64,
    /// The same in milliseconds, per record and node.
    pub processor_ms_per_record_and_node: f64,
    /// Resident memory per node at the end: median and most.
    pub resident: (u64, u64),
    /// The most that was ever resident, per node: median and most.
    pub peak: (u64, u64),
    /// Of the memory at the end, what is not shared with a file: median and most.
    pub own: (u64, u64),
    /// Bytes over loopback from the first write until every node had all, per record and node; with
    /// headers, acknowledgements, and whatever else uses this namespace's loopback.
    pub loopback_per_record_and_node: Option<f64>,
    /// Bytes of whole frames that nodes sent each other directly, per record and node; the mesh is not
    /// in it.
    pub frames_per_record_and_node: f64,
    /// The part of one core that a node took, and bytes per second per node over loopback, while
    /// nothing was done.
    pub idle: Option<(f64, f64)>,
    /// Distributions, and what was broken.
    pub report: Report,
}

/// Raises a crowd of `size` and lets its first node write. Progress is told to `tell`.
///
/// # Errors
/// [`Broken`].
pub async fn run(program: &Path, size: Size, tell: fn(&str)) -> Result<Spread, Broken> {
    let began = Instant::now();
    let mut crowd = Crowd::found(program).await?;
    crowd.grow(size.nodes, size.regions).await?;
    let joined = began.elapsed();
    tell(&format!("{} nodes joined in {joined:.1?}", size.nodes));
    let peers = (size.nodes - 1).min(PEERS_MAX);
    // What nodes keep when they are more is for them to choose.
    let peers = if size.nodes > PEERS_MAX { 1 } else { peers };
    crowd.meets(peers, size.patience).await?;
    let met = began.elapsed() - joined;
    tell(&format!("all know all after {met:.1?} more"));
    crowd.opens(TOPIC, size.regions, size.patience).await?;
    let met_resident = middle_and_most(&memories(&crowd), |m| m.resident);
    let met_processor = processor(&crowd);
    let mut spread = writes(&mut crowd, size, tell).await?;
    spread.joined = joined.as_secs_f64();
    spread.met = met.as_secs_f64();
    spread.met_processor = met_processor.as_secs_f64();
    spread.met_resident = met_resident;
    Ok(spread)
}

/// Lets the first node of `crowd` write to a topic that all hold.
///
/// # Errors
/// [`Broken`].
pub async fn writes(crowd: &mut Crowd, size: Size, tell: fn(&str)) -> Result<Spread, Broken> {
    let mut report = Report::of("spread");
    report.figure("fdatasync of 4 KiB", fdatasyncs(crowd.disk(), SYNCS));
    let (frames, bytes) = (frames(crowd).await, usage::loopback());
    let processor_before = processor(crowd);
    let began = Instant::now();
    let mut took = Vec::with_capacity(size.records);
    for number in 0..size.records {
        let asked = Remember {
            text: text(number),
            topic: Some(TOPIC.into()),
            ..Remember::default()
        };
        let at = Instant::now();
        let written = crowd.nodes[0].client.remember(&asked).await;
        written.map_err(|p| crowd.nodes[0].refuses("remember", p))?;
        took.push(at.elapsed());
        if (number + 1) % 250 == 0 {
            tell(&format!(
                "{} written in {:.1?}",
                number + 1,
                began.elapsed()
            ));
        }
    }
    let written = began.elapsed();
    let has_all = |client: Client| async move {
        let shown = client.topic(TOPIC).await;
        shown.is_ok_and(|shown| shown.memories >= size.records)
    };
    let what = format!("it has {} records", size.records);
    let when = crowd.all(&what, size.patience, has_all).await?;
    let spread = when.iter().max().map_or(written, |last| *last - began);
    tell(&format!("all have all after {spread:.1?}"));
    let processor_spread = processor(crowd) - processor_before;
    let bytes_spread = usage::loopback().zip(bytes).map(|(now, then)| now - then);
    let frames_spread = self::frames(crowd).await.saturating_sub(frames);
    let each = (size.records * size.nodes) as f64;
    report.figure("write acknowledged at the entry", took);
    let since = |at: &Instant| *at - began;
    report.figure(
        "first write until a node has all",
        when.iter().map(since).collect(),
    );
    let idle = idle(crowd, size.idle).await;
    let first = crowd.nodes[0].digest(TOPIC).await?;
    report.demand(
        first.1 == size.records,
        format!("the entry lists {}", first.1),
    );
    for node in &crowd.nodes[1..] {
        let equal = node.digest(TOPIC).await? == first;
        report.demand(equal, format!("{} holds something else", node.name));
    }
    let memories = memories(crowd);
    let peers = peers(crowd).await;
    Ok(Spread {
        size,
        peers: middle_and_most(&peers, |count| *count),
        joined: 0.0,
        met: 0.0,
        met_processor: 0.0,
        met_resident: (0, 0),
        writes_per_second: size.records as f64 / written.as_secs_f64(),
        written: written.as_secs_f64(),
        spread: spread.as_secs_f64(),
        lag: spread.saturating_sub(written).as_secs_f64(),
        processor: processor_spread.as_secs_f64(),
        processor_ms_per_record_and_node: processor_spread.as_secs_f64() * 1_000.0 / each,
        resident: middle_and_most(&memories, |m| m.resident),
        peak: middle_and_most(&memories, |m| m.peak),
        own: middle_and_most(&memories, |m| m.own),
        loopback_per_record_and_node: bytes_spread.map(|bytes| bytes as f64 / each),
        frames_per_record_and_node: frames_spread as f64 / each,
        idle,
        report,
    })
}

fn text(number: usize) -> String {
    format!(
        "observation {number}: the gauge at well {} stood at {} millimetres when the pump was off",
        number % 37,
        number * 7_919 % 10_007
    )
}

async fn idle(crowd: &Crowd, time: Duration) -> Option<(f64, f64)> {
    let (began, before, bytes) = (Instant::now(), processor(crowd), usage::loopback()?);
    if time.is_zero() {
        return None;
    }
    tokio::time::sleep(time).await;
    let each = began.elapsed().as_secs_f64() * crowd.nodes.len() as f64;
    let share = (processor(crowd) - before).as_secs_f64() / each;
    Some((share, (usage::loopback()? - bytes) as f64 / each))
}

/// Bytes of frames that all nodes have received. A peer that is gone takes its count with it.
async fn frames(crowd: &Crowd) -> u64 {
    let mut sum = 0;
    for node in &crowd.nodes {
        let peers = node.client.peers().await.unwrap_or_default();
        sum += peers.iter().map(|peer| peer.bytes_in).sum::<u64>();
    }
    sum
}

/// How many peers each node is connected to.
async fn peers(crowd: &Crowd) -> Vec<u64> {
    let mut all = Vec::new();
    for node in &crowd.nodes {
        let peers = node.client.peers().await.unwrap_or_default();
        all.push(peers.iter().filter(|peer| peer.up).count() as u64);
    }
    all
}

fn processor(crowd: &Crowd) -> Duration {
    let pids = crowd.nodes.iter().map(|node| node.pid);
    pids.filter_map(usage::processor).sum()
}

fn memories(crowd: &Crowd) -> Vec<Memory> {
    let pids = crowd.nodes.iter().map(|node| node.pid);
    pids.filter_map(usage::memory).collect()
}

fn middle_and_most<T>(of: &[T], field: fn(&T) -> u64) -> (u64, u64) {
    let mut all: Vec<u64> = of.iter().map(field).collect();
    all.sort_unstable();
    let most = all.last().copied().unwrap_or_default();
    (all.get(all.len() / 2).copied().unwrap_or_default(), most)
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Size {
            nodes,
            records,
            regions,
            ..
        } = self.size;
        let mib = |(middle, most): (u64, u64)| {
            let mib = |kib: u64| kib as f64 / 1_024.0;
            format!("{:.1} / {:.1} MiB", mib(middle), mib(most))
        };
        writeln!(
            f,
            "{nodes} nodes in {regions} regions, {records} records at the first"
        )?;
        let mut rows = vec![
            ("all joined", format!("{:.1} s", self.joined)),
            ("all know all, after that", format!("{:.1} s", self.met)),
            (
                "processor until then",
                format!("{:.1} s", self.met_processor),
            ),
            ("resident then, median / most", mib(self.met_resident)),
            (
                "peers of a node, median / most",
                format!("{} / {}", self.peers.0, self.peers.1),
            ),
            (
                "writes at the entry",
                format!("{:.1} a second", self.writes_per_second),
            ),
            (
                "first write until all have all",
                format!("{:.2} s", self.spread),
            ),
            (
                "last acknowledged until all have all",
                format!("{:.2} s", self.lag),
            ),
            (
                "processor, all nodes",
                format!(
                    "{:.1} s, {:.3} ms per record and node",
                    self.processor, self.processor_ms_per_record_and_node
                ),
            ),
            ("resident, median / most", mib(self.resident)),
            ("of it not shared, median / most", mib(self.own)),
            ("ever resident, median / most", mib(self.peak)),
            (
                "direct frames, per record and node",
                format!("{:.0} B", self.frames_per_record_and_node),
            ),
        ];
        if let Some(bytes) = self.loopback_per_record_and_node {
            rows.push(("loopback, per record and node", format!("{bytes:.0} B")));
        }
        if let Some((share, bytes)) = self.idle {
            let text = format!("{:.2} % of a core, {bytes:.0} B a second", share * 100.0);
            rows.push(("doing nothing, per node", text));
        }
        for (what, value) in rows {
            writeln!(f, "  {what:48} {value}")?;
        }
        write!(f, "{}", self.report)
    }
}

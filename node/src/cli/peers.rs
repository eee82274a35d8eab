//! `peers` and `ping`: the other nodes, and how far they are.

use super::Context;
use super::human::{self, Paint, ago, plural, short};
use super::memories;
use super::output::Answer;
use crate::api::{PeerView, Ping, Pinged, Problem};
use clap::Args;

#[derive(Debug, Args)]
pub(super) struct PingFlags {
    /// A peer id, its last 4 characters or more, or a region with one other node
    node: String,
    /// How often
    #[arg(short, long, default_value = "4", value_parser = clap::value_parser!(u8).range(1..=100))]
    count: u8,
    /// How long to wait for each answer, at most 5s
    #[arg(long, value_name = "DURATION")]
    wait: Option<String>,
}

pub(super) async fn peers(context: &Context) -> Result<Answer, Problem> {
    let peers = context.client.peers().await?;
    let paint = context.output.paint();
    let mut human = table(paint, &peers);
    if peers.is_empty() {
        human = paint.dim("no peers: invite a machine with `aquifer invite`");
    }
    let ids: Vec<String> = peers.iter().map(|peer| peer.node.clone()).collect();
    Ok(Answer::new(&peers, human).ids(ids))
}

/// Peers as people read them.
pub(super) fn table(paint: Paint, peers: &[PeerView]) -> String {
    let rows: Vec<Vec<String>> = peers.iter().map(row).collect();
    let heading = [
        "peer", "region", "roles", "rtt", "path", "in", "out", "seen", "topics", "address",
    ];
    human::table(paint, &heading, &rows)
}

fn row(peer: &PeerView) -> Vec<String> {
    let rtt = peer.rtt_ms.map_or_else(|| "?".to_owned(), millis);
    let path = match peer.relayed {
        Some(true) => "relayed",
        Some(false) => "direct",
        None => "-",
    };
    let seen = match (peer.up, peer.last_seen) {
        (true, _) => "now".to_owned(),
        (false, Some(at)) => ago(at),
        (false, None) => "never".to_owned(),
    };
    let shared = peer.agrees.len() + peer.differs.len();
    let topics = match &peer.differs[..] {
        _ if !peer.up || shared == 0 => "-".to_owned(),
        [] => format!("{shared} agree"),
        [one] => format!("{}/{shared} agree, not {one}", peer.agrees.len()),
        [one, ..] => format!("{}/{shared} agree, not {one}, …", peer.agrees.len()),
    };
    vec![
        short(&peer.node),
        peer.region.clone(),
        peer.roles.join(","),
        rtt,
        path.to_owned(),
        human::bytes(peer.bytes_in),
        human::bytes(peer.bytes_out),
        seen,
        topics,
        peer.addr.clone(),
    ]
}

pub(super) async fn ping(context: &Context, flags: PingFlags) -> Result<Answer, Problem> {
    let request = Ping {
        node: flags.node,
        count: Some(flags.count.into()),
        wait_ms: memories::millis(flags.wait.as_ref())?,
    };
    let pinged = context.client.ping(&request).await?;
    let human = shown(context.output.paint(), &pinged);
    // Some answered, or it would have been a problem.
    let exit = if pinged.answered < pinged.sent { 7 } else { 0 };
    Ok(Answer::new(&pinged, human)
        .ids([pinged.node.clone()])
        .exit(exit))
}

fn shown(paint: Paint, pinged: &Pinged) -> String {
    let name = paint.bold(&short(&pinged.node));
    let mut out = String::new();
    for rtt in &pinged.rtts_ms {
        out += &format!(
            "answer from {name} in {}: {}\n",
            pinged.region,
            millis(*rtt)
        );
    }
    let (sent, answered) = (pinged.sent, pinged.answered);
    out += &format!(
        "{answered} of {sent} {} answered · min {} · avg {} · p99 {}\n",
        plural(sent, "question"),
        millis(pinged.min_ms),
        millis(pinged.avg_ms),
        millis(pinged.p99_ms),
    );
    out += &paint.dim(&format!("{}: {}", pinged.path, pinged.addr));
    out
}

/// Milliseconds as a person reads them.
pub(super) fn millis(ms: f64) -> String {
    if ms < 10.0 {
        format!("{ms:.2} ms")
    } else {
        format!("{ms:.1} ms")
    }
}

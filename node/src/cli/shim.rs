//! `aquifer mcp`: stdin and stdout, connected to the daemon's MCP door.
//!
//! A thin shim: it starts the daemon if there is none, asks it for a stream, and copies bytes both
//! ways. It knows nothing of MCP, writes nothing to stdout of its own, and keeps no state, so any
//! number of clients share one memory without a writer beside the daemon.

use super::Context;
use super::daemon::{self, UpFlags};
use crate::api::Problem;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use std::time::Duration;
use tokio::io::{AsyncWriteExt, copy, stdin, stdout};

/// How long a daemon that somebody else has just started may take to open its doors.
const OPENING: Duration = Duration::from_secs(30);

/// How long answers may still take once stdin has ended.
const CLOSING: Duration = Duration::from_secs(10);

pub(super) async fn mcp(context: &Context) -> Result<u8, Problem> {
    let stream = connect(context).await?;
    let (mut from_daemon, mut to_daemon) = tokio::io::split(stream);
    let upward = async {
        let copied = copy(&mut stdin(), &mut to_daemon).await;
        // The daemon sees the end, answers what it still has, and ends its side.
        let _ = to_daemon.shutdown().await;
        copied
    };
    let mut stdout = stdout();
    let downward = copy(&mut from_daemon, &mut stdout);
    tokio::pin!(downward);
    tokio::select! {
        // The daemon ended first: its client has to know.
        _ = &mut downward => {
            let hint = "start the client again: the daemon starts with it";
            return Err(Problem::new("daemon_unreachable", 4, "the daemon has stopped", hint));
        }
        _ = upward => {}
    }
    // Both ends are gone; whatever is missing can reach nobody.
    let _ = tokio::time::timeout(CLOSING, downward).await;
    Ok(0)
}

async fn connect(context: &Context) -> Result<TokioIo<Upgraded>, Problem> {
    match context.client.mcp().await {
        Err(absent) if absent.exit == 4 => {}
        stream => return stream,
    }
    tracing::info!("no daemon yet: starting one");
    match daemon::detach(&context.home, &UpFlags::default(), None).await {
        Ok(_) => context.client.mcp().await,
        // Another client has started it at the same moment.
        Err(locked) if locked.code == "home_locked" => {
            let opened = async {
                loop {
                    if let Ok(stream) = context.client.mcp().await {
                        return stream;
                    }
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            };
            tokio::time::timeout(OPENING, opened)
                .await
                .map_err(|_| locked)
        }
        Err(problem) => Err(problem),
    }
}

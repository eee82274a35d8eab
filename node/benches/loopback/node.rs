//! What the benches share: a node on loopback, and words to remember.

use aquifer_node::home::Home;
use aquifer_node::{Node, Up, start};
use std::path::PathBuf;

/// What the memories are about.
pub(crate) const WORDS: [&str; 8] = [
    "port",
    "owner",
    "region",
    "version",
    "password policy",
    "backup time",
    "timeout",
    "endpoint",
];

/// A node at `home`: it joins by `ticket`, or founds a hive.
pub(crate) async fn node(home: PathBuf, ticket: Option<String>) -> Node {
    let up = Up {
        home: Some(Home::at(Some(home))),
        region: ticket.is_none().then(|| "eu".into()),
        api: Some("127.0.0.1:0".into()),
        listen: vec!["/ip4/127.0.0.1/udp/0/quic-v1".into()],
        no_mdns: true,
        ticket,
        ..Up::default()
    };
    start(up).await.expect("starts")
}

//! The keys that a plan may have: any other is an error that names the nearest.

pub(super) const KEYS: [&str; 20] = [
    "about",
    "tier",
    "agents",
    "horizon",
    "links",
    "shape",
    "latency",
    "mesh",
    "dht",
    "churn",
    "partition",
    "nat",
    "skew",
    "hierarchy",
    "behaviour",
    "resources",
    "adversary",
    "reach",
    "workload",
    "quantum",
];
pub(super) const LATENCY: [&str; 6] =
    ["matrix", "shares", "jitter", "processing", "loss", "uplink"];
pub(super) const MESH: [&str; 13] = [
    "degree",
    "low",
    "high",
    "outbound",
    "lazy",
    "heartbeat",
    "linking",
    "memory",
    "sync",
    "flood",
    "scores",
    "validate",
    "dont_want",
];
pub(super) const DHT: [&str; 8] = [
    "lookups", "provides", "k", "alpha", "stalled", "stale", "unknown", "timeout",
];
pub(super) const CHURN: [&str; 5] = ["session", "away", "spread", "crashes", "notice"];
pub(super) const PARTITION: [&str; 3] = ["regions", "from", "lasts"];
pub(super) const ADVERSARY: [&str; 7] = [
    "censors",
    "from",
    "violators",
    "eclipsed",
    "spammers",
    "spam",
    "replayers",
];
pub(super) const NAT: [&str; 2] = ["behind", "punched"];
pub(super) const WORKLOAD: [&str; 6] = ["topic", "law", "count", "rate", "from", "bytes"];

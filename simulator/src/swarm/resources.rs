//! Resources: what a plan says that machines have, beside what its agents would need of it.
//!
//! Arithmetic, and said to be: from what the run has measured (copies for each delivery), what the benches of
//! the product have (what a record takes of a disk and of a processor), and what the plan says of how much
//! is written, for whom, and for how long. An edge node is one replica for all agents on it; a regional
//! cluster keeps what is written in its share of the planet, and carries it to the others.

use serde::{Deserialize, Serialize};

/// What there is, and what is done with it.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Resources {
    /// Machines at the edge, with agents on them.
    pub edge_nodes: u64,
    /// Regional clusters.
    pub clusters: u64,
    /// Of an edge node: cores.
    pub edge_cores: f64,
    /// Its memory and disk, in gigabytes.
    pub edge_memory_gb: f64,
    /// See above.
    pub edge_disk_gb: f64,
    /// What it can send, in megabits a second.
    pub edge_uplink_mbit: f64,
    /// Of a regional cluster: cores.
    pub cluster_cores: f64,
    /// Its disks, in terabytes.
    pub cluster_disk_tb: f64,
    /// Its part of the backbone, in gigabits a second.
    pub backbone_gbit: f64,
    /// What an agent writes in a day.
    pub writes_per_day: f64,
    /// How many agents keep each of it.
    pub audience: f64,
    /// Of a million records, so many are for other regions too.
    pub crossing: u32,
    /// For how many days it is kept.
    pub kept_days: f64,
    /// How many times more is written in the busiest hour than on average.
    pub peak: f64,
}

impl Default for Resources {
    fn default() -> Self {
        Self {
            edge_nodes: 8_000_000,
            clusters: 1_000,
            edge_cores: 4.0,
            edge_memory_gb: 8.0,
            edge_disk_gb: 64.0,
            edge_uplink_mbit: 20.0,
            cluster_cores: 512.0,
            cluster_disk_tb: 500.0,
            backbone_gbit: 100.0,
            writes_per_day: 50.0,
            audience: 4_096.0,
            crossing: 100_000,
            kept_days: 90.0,
            peak: 4.0,
        }
    }
}

/// The keys of the part.
pub(super) const KEYS: [&str; 14] = [
    "edge_nodes",
    "clusters",
    "edge_cores",
    "edge_memory_gb",
    "edge_disk_gb",
    "edge_uplink_mbit",
    "cluster_cores",
    "cluster_disk_tb",
    "backbone_gbit",
    "writes_per_day",
    "audience",
    "crossing",
    "kept_days",
    "peak",
];

/// One resource: what there is of it, and what is needed.
#[derive(Clone, Debug, Serialize)]
pub struct Need {
    /// Of what.
    pub name: &'static str,
    /// In which unit.
    pub unit: &'static str,
    /// What the plan states.
    pub stated: f64,
    /// What is needed.
    pub needed: f64,
}

/// What a record takes beyond its bytes: on the wire (`docs/protocol.md`, 477 of 256), and on the disk
/// (1,347 of 256, `benches/memory`).
const WIRE_BYTES: f64 = 221.0;
const DISK_BYTES: f64 = 1_091.0;
/// What a replica takes of a processor for a record that it is sent, in seconds (`benches/sync`: 47,000 a
/// second over a connection), and for a copy that it has already (a hash).
const RECORD_CPU: f64 = 21e-6;
const COPY_CPU: f64 = 2e-6;
/// A node's own memory (`aquifer-fleet`), and a thousand agents' asleep.
const NODE_GB: f64 = 0.045;
const DAY: f64 = 86_400.0;

impl Resources {
    /// What is needed for so many agents in so many regions, if each delivery comes with so many
    /// `duplicates` and a memory has so many `bytes`.
    pub fn needs(&self, agents: u64, regions: usize, duplicates: f64, bytes: u32) -> Vec<Need> {
        let (agents, bytes) = (agents as f64, f64::from(bytes));
        let nodes = (self.edge_nodes as f64).min(agents);
        // A node hears what is for any of its agents; they are of one neighbourhood, and share it.
        let heard = self.audience * self.writes_per_day / DAY;
        let busy = heard * self.peak;
        let copies = 1.0 + duplicates;
        let written = agents * self.writes_per_day / DAY / self.clusters as f64;
        let kept = self.kept_days * DAY * (bytes + DISK_BYTES);
        let crossing = f64::from(self.crossing) / 1e6 * (regions as f64 - 1.0);
        let wire = (bytes + WIRE_BYTES) * 8.0;
        let need = |name, unit, stated, needed| Need {
            name,
            unit,
            stated,
            needed,
        };
        vec![
            need("agents on an edge node", "", 1_000.0, agents / nodes),
            need(
                "edge: cores",
                "",
                self.edge_cores,
                busy * (RECORD_CPU + copies * COPY_CPU),
            ),
            need(
                "edge: memory",
                "GB",
                self.edge_memory_gb,
                NODE_GB + agents / nodes * 64e3 / 1e9,
            ),
            need("edge: disk", "GB", self.edge_disk_gb, heard * kept / 1e9),
            need(
                "edge: uplink",
                "Mbit/s",
                self.edge_uplink_mbit,
                busy * copies * wire / 1e6,
            ),
            need(
                "cluster: cores",
                "",
                self.cluster_cores,
                written * self.peak * (1.0 + crossing) * RECORD_CPU,
            ),
            need(
                "cluster: disks",
                "TB",
                self.cluster_disk_tb,
                written * kept / 1e12,
            ),
            need(
                "cluster: backbone",
                "Gbit/s",
                self.backbone_gbit,
                written * self.peak * crossing * wire / 1e9,
            ),
        ]
    }
}

impl Need {
    /// Whether there is enough.
    pub fn is_met(&self) -> bool {
        self.needed <= self.stated
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn needs_grow_with_what_is_written_and_what_is_short_is_said() {
        let plan = Resources::default();
        let needs = plan.needs(1_000_000_000, 8, 6.0, 2_048);
        assert!(needs.iter().all(Need::is_met), "{needs:?}");
        let disk = |needs: &[Need]| {
            needs
                .iter()
                .find(|need| need.name == "edge: disk")
                .map(|need| need.needed)
        };
        // 4,096 agents write 50 memories a day of 3,139 bytes on disk, for 90 days.
        let by_hand = 4_096.0 * 50.0 * 90.0 * 3_139.0 / 1e9;
        assert!((disk(&needs).expect("there") - by_hand).abs() < 0.01);
        let longer = Resources {
            kept_days: 365.0,
            ..plan
        }
        .needs(1_000_000_000, 8, 6.0, 2_048);
        let short: Vec<&str> = longer
            .iter()
            .filter(|need| !need.is_met())
            .map(|need| need.name)
            .collect();
        assert_eq!(["edge: disk"], *short);
    }
}

//! Lookups: Kademlia of live nodes beside the simulator's computed tables.
//!
//! Live tables hold whoever came by first, in an order that is drawn; the simulator draws as many from
//! each bucket. All ways are alike and short here: how many are asked and how far is no matter of geography.

use std::time::Duration;

use aquifer_node::net::live::lookups::{Tale, Took, lookups};
use aquifer_simulator::swarm::draw::{Draws, Purpose};
use aquifer_simulator::swarm::geography::{Geography, read_matrix};
use aquifer_simulator::swarm::kademlia::{Kademlia, Settings};

use super::score::{Row, tv};

/// Lookups of the model for each that is live: they cost next to nothing.
const MODEL_TIMES: u64 = 50;

/// How long each way is: a millisecond in the model's matrix too.
const WAY: Duration = Duration::from_millis(1);

/// Hops are counted up to here.
const HOPS: usize = 16;

/// What lookups took, live or not.
#[derive(Clone, Debug)]
pub struct Searches {
    count: u64,
    hops: Vec<u64>,
    all_hops: Vec<u64>,
    asked: f64,
}

impl Default for Searches {
    fn default() -> Self {
        Self {
            count: 0,
            hops: vec![0; HOPS],
            all_hops: vec![0; HOPS],
            asked: 0.0,
        }
    }
}

impl Searches {
    /// Adds another run's.
    pub fn add(&mut self, other: &Self) {
        let sum = |ours: &mut Vec<u64>, theirs: &[u64]| {
            ours.iter_mut().zip(theirs).for_each(|(a, b)| *a += b);
        };
        sum(&mut self.hops, &other.hops);
        sum(&mut self.all_hops, &other.all_hops);
        self.count += other.count;
        self.asked += other.asked;
    }

    fn mean_asked(&self) -> f64 {
        self.asked / self.count.max(1) as f64
    }
}

/// Makes so many live lookups among so many nodes.
pub async fn live(nodes: u32, count: u64, seed: u64, tale: &Tale) -> Searches {
    let draws = Draws::new(seed);
    let search = |number: u64| {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&draws.bits(Purpose::Key, number, 1).to_le_bytes());
        (draws.below(nodes, Purpose::Lookup, number, 0), key)
    };
    let callers: Vec<(u32, [u8; 32])> = (0..count).map(search).collect();
    let order = |node: u32| {
        let mut all: Vec<u32> = (0..nodes).collect();
        all.sort_unstable_by_key(|other| {
            draws.bits(Purpose::Contact, node.into(), (*other).into())
        });
        all
    };
    let took = lookups(nodes, &callers, order, |_, _| WAY, tale).await;
    let mut all = Searches::default();
    for Took {
        hops,
        all_hops,
        asked,
        ..
    } in took
    {
        all.count += 1;
        all.hops[hops.min(HOPS - 1)] += 1;
        all.all_hops[all_hops.min(HOPS - 1)] += 1;
        all.asked += asked as f64;
    }
    all
}

/// What the simulator says of many times as many.
///
/// # Panics
/// If the matrix in this file is none.
#[must_use]
pub fn model(nodes: u32, count: u64, seed: u64) -> Searches {
    let draws = Draws::new(seed);
    let matrix = read_matrix(",here\nhere,1\n").expect("a legal matrix");
    let geography = Geography::new(nodes.into(), &[1.0], matrix, 0, (100, 500), draws);
    let kademlia = Kademlia::new(&geography, Settings::default(), draws);
    let found = kademlia.lookups(MODEL_TIMES * count);
    Searches {
        count: found.count,
        hops: found.by_hops,
        all_hops: found.all_hops,
        asked: found.asked * found.count as f64,
    }
}

/// Compares both.
#[must_use]
pub fn compare(live: &Searches, model: &Searches) -> Vec<Row> {
    let mean = |counts: &[u64], all: u64| {
        let sum: u64 = (0..).zip(counts).map(|(hops, count)| hops * count).sum();
        sum as f64 / all.max(1) as f64
    };
    let hops = |measure, of: fn(&Searches) -> &Vec<u64>| Row {
        measure,
        live: Some(mean(of(live), live.count)),
        model: Some(mean(of(model), model.count)),
        apart: tv(of(live), of(model)),
        limit: 0.05,
    };
    let asked = [live.mean_asked(), model.mean_asked()];
    vec![
        hops("hops to the nearest: TV", |of| &of.hops),
        hops("hops until all k were told of: TV", |of| &of.all_hops),
        Row {
            measure: "questions of a lookup",
            live: Some(asked[0]),
            model: Some(asked[1]),
            apart: (asked[1] / asked[0] - 1.0).abs(),
            limit: 0.05,
        },
    ]
}

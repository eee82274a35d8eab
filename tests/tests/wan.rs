//! The swarm on an emulated WAN: six real nodes in three regions, each in a network namespace.
//!
//! Small sizes of what `aquifer-wan` shows. On a machine where no WAN can be made (no root, no TUN, no
//! `ip`) these tests are void: they say so, and `./check` says so in its summary.

use aquifer_tests::wan::report::Report;
use aquifer_tests::wan::scenario::{self, Size};
use aquifer_tests::wan::swarm::{Map, Swarm};
use aquifer_tests::wan::void::or_void;
use std::path::Path;
use std::sync::Arc;

const SEED: u64 = 20_260_101;

/// Runs scenarios on one swarm, one after the other; nothing if the run is void.
async fn run(what: &str, map: Map, scenarios: &[&str]) -> Option<()> {
    let program = Path::new(env!("CARGO_BIN_EXE_aquifer-wan"));
    let swarm = Arc::new(or_void(what, Swarm::raise(program, map, SEED).await)?);
    for name in scenarios {
        let report: Report = scenario::run(name, &swarm, &Size::gate())
            .await
            .expect("there is such a scenario");
        report.is_green();
    }
    Some(())
}

/// I16 in bad weather too: loss, reordering, little bandwidth, a road that leads one way only.
#[tokio::test(flavor = "multi_thread")]
async fn a_write_crosses_the_world_and_a_quorum_an_ocean_in_any_weather() {
    run(
        "world",
        Map::of_the_world(2),
        &["latency", "quorum", "weather"],
    )
    .await;
}

/// I2 and I16.
#[tokio::test(flavor = "multi_thread")]
async fn a_region_cut_off_and_a_node_that_stood_still_catch_up_by_themselves() {
    run("apart", Map::of_the_world(2), &["partition", "pause"]).await;
}

/// I3 and I1.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_leaves_its_region_and_nothing_acknowledged_dies_with_a_node() {
    run("law", Map::of_the_world(2), &["residency", "kills"]).await;
}

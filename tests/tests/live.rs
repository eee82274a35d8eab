//! The simulator beside a few live nodes: what they count, not how long it took them.
//!
//! Times are for `aquifer-live`, on a machine that has nothing else to do.

use aquifer_node::net::live::{lookups::Tale, play};
use aquifer_tests::live::{KINDS, lookups, of_live, of_model, plan, scene};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn live_nodes_and_the_simulator_count_the_same() {
    let plan = plan(24, 40, KINDS[0]);
    let seen = play(&scene(&plan, 5).expect("a legal plan")).await;
    let (live, model) = (of_live(&seen), of_model(&plan, 5).expect("a legal plan"));
    let reached: Vec<usize> = live.messages.iter().map(Vec::len).collect();
    assert_eq!(vec![23; 40], reached, "all nodes, live");
    let modelled: Vec<usize> = model.messages.iter().map(Vec::len).collect();
    assert_eq!(reached, modelled, "and in the model");
    let apart = live.duplicates() - model.duplicates();
    assert!(apart.abs() < 0.7, "{live:?}\n{model:?}");
    let within: u64 = live.degrees[4..=12].iter().sum();
    assert_eq!(
        within,
        live.degrees.iter().sum::<u64>(),
        "{:?}",
        live.degrees
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn live_lookups_ask_as_many_as_the_simulators() {
    let tale = Tale::default();
    tracing_subscriber::registry().with(tale.clone()).init();
    let live = lookups::live(40, 40, 3, &tale).await;
    let rows = lookups::compare(&live, &lookups::model(40, 40, 3));
    // Of 40 lookups the part with one hop is known to within a tenth or two.
    assert!(rows[0].apart < 0.3 && rows[1].apart < 0.3, "{rows:?}");
    assert!(rows[2].apart < 0.1, "{rows:?}");
}

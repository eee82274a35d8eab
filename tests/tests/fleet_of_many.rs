//! A crowd of real processes, at a small size of what `aquifer-fleet` measures.

use aquifer_tests::crowd::spread::{Size, run, writes};
use aquifer_tests::crowd::{Broken, Crowd};
use std::path::Path;
use std::time::Duration;

fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_aquifer-fleet"))
}

const SIZE: Size = Size {
    nodes: 5,
    records: 50,
    regions: 1,
    idle: Duration::ZERO,
    patience: Duration::from_secs(60),
};

/// I2, over processes.
#[tokio::test(flavor = "multi_thread")]
async fn five_processes_come_to_hold_the_same_fifty_records_and_it_is_measured() {
    let spread = run(program(), SIZE, |line| eprintln!("{line}")).await;
    let spread = spread.expect("it runs");
    spread.report.is_green();
    println!("{spread}");
    assert!(spread.writes_per_second > 0.0 && spread.spread >= spread.written);
    if cfg!(target_os = "linux") {
        let (middle, most) = spread.resident;
        assert!(0 < middle && middle <= most && spread.processor > 0.0);
        assert!(spread.loopback_per_record_and_node.is_some_and(|b| b > 0.0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_dies_is_named_at_once_and_nothing_is_left_of_a_crowd() {
    let mut crowd = Crowd::found(program()).await.expect("starts");
    crowd.grow(2, 2).await.expect("one joins");
    crowd.meets(1, SIZE.patience).await.expect("they meet");
    crowd.opens("crowd", 2, SIZE.patience).await.expect("opens");
    crowd.nodes[1].kill();
    let size = Size { nodes: 2, ..SIZE };
    let died = writes(&mut crowd, size, |_| {}).await;
    assert!(
        matches!(&died, Err(Broken::Ended { node, .. }) if node == "n001"),
        "{died:?}"
    );
    let (pid, disk) = (crowd.nodes[0].pid, crowd.disk().to_owned());
    assert!(disk.exists());
    drop(crowd);
    assert!(!disk.exists(), "its homes are gone");
    if cfg!(target_os = "linux") {
        assert!(!Path::new(&format!("/proc/{pid}")).exists(), "and dead");
    }
}

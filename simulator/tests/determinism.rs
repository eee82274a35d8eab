//! One seed, one digest: in two processes, and by whatever number of threads.

use std::process::Command;

fn storm(threads: &str) -> String {
    let out = Command::new(env!("CARGO_BIN_EXE_aquifer-sim"))
        .args([
            "storm",
            "--seeds",
            "4",
            "--from",
            "0x12",
            "--threads",
            threads,
            "--json",
        ])
        .output()
        .expect("the binary runs");
    let text = String::from_utf8(out.stdout).expect("JSON is text");
    let digest = text
        .lines()
        .find(|line| line.contains("\"digest\"") && line.starts_with("  \""));
    digest
        .unwrap_or_else(|| panic!("no digest: {text}"))
        .to_owned()
}

/// I20.
#[test]
fn two_processes_and_any_number_of_threads_find_one_digest() {
    assert_eq!(storm("1"), storm("2"));
}

#[test]
fn a_plan_that_is_not_there_is_a_mistake_of_usage() {
    let out = Command::new(env!("CARGO_BIN_EXE_aquifer-sim"))
        .args(["run", "smoky"])
        .output()
        .expect("the binary runs");
    assert_eq!(out.status.code(), Some(2));
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(said.contains("smoke"), "{said}");
}

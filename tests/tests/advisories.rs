//! No crate in `Cargo.lock` has a known hole, as far as the floors and the snapshot know.
//!
//! The check needs no network. Each way that it can fail is shown with a planted lock file.

use std::fs;

use aquifer_tests::advisories::{Floors, Hole, Lock, Snapshot, check};
use aquifer_tests::repository;

fn read(path: &str) -> String {
    let path = repository().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn floors() -> Floors {
    toml::from_str(&read("tests/floors.toml")).expect("tests/floors.toml is as Floors says")
}

fn snapshot() -> Snapshot {
    serde_json::from_str(&read("tests/advisories.json")).expect("the snapshot is as Snapshot says")
}

fn planted(name: &str, version: &str) -> Lock {
    let source = "registry+https://github.com/rust-lang/crates.io-index";
    let text = format!("[[package]]\nname = {name:?}\nversion = {version:?}\nsource = {source:?}");
    toml::from_str(&text).expect("a lock file of one package")
}

#[test]
fn no_locked_crate_has_a_known_hole() {
    let lock: Lock = toml::from_str(&read("Cargo.lock")).expect("Cargo.lock is as Lock says");
    let (floors, snapshot) = (floors(), snapshot());
    println!(
        "{} packages against {} floors of {} and {} crates of the snapshot of {}",
        lock.package.len(),
        floors.floor.len(),
        floors.as_of,
        snapshot.crates.len(),
        snapshot.as_of
    );
    let holes = check(&lock, &floors, &snapshot);
    let lines: Vec<String> = holes.iter().map(ToString::to_string).collect();
    assert!(
        lines.is_empty(),
        "{} holes:\n{}",
        lines.len(),
        lines.join("\n")
    );
}

#[test]
fn a_version_below_our_floor_is_named_with_its_advisory_and_the_floor() {
    let holes = check(
        &planted("libp2p-gossipsub", "0.50.0"),
        &floors(),
        &snapshot(),
    );
    let [hole @ Hole::BelowFloor { .. }] = holes.as_slice() else {
        panic!("{holes:?}")
    };
    let text = hole.to_string();
    for part in [
        "libp2p-gossipsub 0.50.0",
        ">=0.50.1",
        "CVE-2026-33040",
        "PRUNE",
    ] {
        assert!(text.contains(part), "{part} is not in: {text}");
    }
    assert!(
        check(
            &planted("libp2p-gossipsub", "0.50.1"),
            &floors(),
            &snapshot()
        )
        .is_empty()
    );
}

#[test]
fn every_floor_turns_away_version_zero() {
    for floor in floors().floor {
        let holes = check(&planted(&floor.name, "0.0.1"), &floors(), &snapshot());
        assert!(
            holes
                .iter()
                .any(|hole| matches!(hole, Hole::BelowFloor { name, .. } if *name == floor.name)),
            "{} 0.0.1 passes its floor",
            floor.name
        );
        assert!(
            !floor.ids.is_empty() && !floor.why.is_empty(),
            "{} gives no reason",
            floor.name
        );
    }
}

#[test]
fn a_version_that_the_snapshot_knows_is_named_with_its_advisory() {
    let holes = check(&planted("smallvec", "1.6.0"), &floors(), &snapshot());
    assert!(
        holes
            .iter()
            .any(|hole| matches!(hole, Hole::Vulnerable { id, .. } if id == "RUSTSEC-2021-0003")),
        "{holes:?}"
    );
}

#[test]
fn a_floor_with_two_lines_lets_both_lines_pass_and_nothing_between() {
    let is_below = |version: &str| {
        check(&planted("lz4_flex", version), &floors(), &snapshot())
            .iter()
            .any(|hole| matches!(hole, Hole::BelowFloor { .. }))
    };
    assert!(is_below("0.11.5"));
    assert!(!is_below("0.11.6"));
    assert!(is_below("0.12.0"));
    assert!(!is_below("0.12.1"));
}

#[test]
fn a_pre_release_is_ordered_among_releases() {
    let is_below =
        |version: &str| !check(&planted("libp2p-quic", version), &floors(), &snapshot()).is_empty();
    assert!(
        is_below("0.13.1-alpha"),
        "a pre-release of the fix is not the fix"
    );
    assert!(
        !is_below("0.14.0-alpha"),
        "a pre-release after the fix has it"
    );
}

#[test]
fn a_banned_crate_is_turned_away_at_any_version() {
    for name in ["serde_cbor", "bincode", "openssl"] {
        let holes = check(&planted(name, "999.0.0"), &floors(), &snapshot());
        assert!(
            matches!(holes.as_slice(), [Hole::Banned { .. }]),
            "{name}: {holes:?}"
        );
    }
}

#[test]
fn an_acceptance_excuses_its_advisory_and_fails_once_it_excuses_nothing() {
    let mut floors = floors();
    let vulnerable = planted("smallvec", "1.6.0");
    let before = check(&vulnerable, &floors, &snapshot()).len();
    floors.accepted = toml::from_str::<Floors>(
        "as_of = ''\n[[accepted]]\ncrate = 'smallvec'\nid = 'RUSTSEC-2021-0003'\nwhy = 'a test'",
    )
    .expect("one acceptance")
    .accepted;
    assert_eq!(check(&vulnerable, &floors, &snapshot()).len(), before - 1);
    let holes = check(&planted("smallvec", "1.16.0"), &floors, &snapshot());
    assert!(
        matches!(holes.as_slice(), [Hole::StaleAcceptance { .. }]),
        "{holes:?}"
    );
}

//! The architecture of Aquifer, executable: which package may see which, what no file may name,
//! how long a file may be.
//!
//! The first half holds the rules against this repository. The second plants one violation for each
//! rule and sees it caught: a test that cannot fail is worth nothing. The rules themselves are in
//! `aquifer_tests`: a new one is a row in a table there and a planted violation here.

use aquifer_tests::absences::{self, ABSENCES};
use aquifer_tests::manifests::{self, ARROWS, FOREIGN, Manifest};
use aquifer_tests::readable::{self, NAMES_BANNED, UNSAFE_FILES};
use aquifer_tests::sources::{self, Source};
use aquifer_tests::{Violation, assert_none, repository};

fn rust() -> Vec<Source> {
    sources::read(&repository(), "rs").expect("the repository's Rust files are readable")
}

fn packages() -> Vec<Manifest> {
    manifests::read(&repository()).expect("the workspace's manifests are readable")
}

// The repository.

#[test]
fn every_package_brings_files_to_the_check() {
    let rust = rust();
    for package in packages() {
        let folder = package.path.trim_end_matches("Cargo.toml");
        assert!(
            rust.iter().any(|source| source.path.starts_with(folder)),
            "no Rust file was found in {folder}: the check would be void"
        );
    }
}

#[test]
fn dependency_arrows_point_one_way() {
    assert_none(&manifests::arrows(ARROWS, &packages()));
}

#[test]
fn the_core_and_the_simulator_depend_on_no_foreign_world() {
    assert_none(&manifests::foreign(FOREIGN, &packages()));
}

#[test]
fn every_package_takes_licence_and_lints_from_the_workspace() {
    assert_none(&manifests::inherited(&packages()));
}

#[test]
fn what_is_promised_absent_is_absent() {
    assert_none(&absences::check(ABSENCES, &rust()).expect("every file lexes"));
}

#[test]
fn files_stay_readable() {
    assert_none(&readable::budgets(&rust()));
}

#[test]
fn unsafe_code_stands_in_named_files_and_says_why_it_is_sound() {
    assert_none(&readable::unsafety(&rust(), UNSAFE_FILES).expect("every file lexes"));
}

#[test]
fn links_of_the_documentation_lead_somewhere() {
    let root = repository();
    let pages = sources::read(&root, "md").expect("the repository's pages are readable");
    assert!(
        !pages.is_empty(),
        "no page was found: the check would be void"
    );
    assert_none(&readable::broken_links(&pages, |path| {
        root.join(path).exists()
    }));
}

// Planted violations.

/// The violations of the absences in one file of one text.
fn absent(path: &str, text: &str) -> Vec<Violation> {
    absences::check(ABSENCES, &[Source::new(path, text)]).expect("a planted file lexes")
}

#[track_caller]
fn assert_caught(path: &str, text: &str) {
    assert!(!absent(path, text).is_empty(), "{path} may say: {text}");
}

#[track_caller]
fn assert_allowed(path: &str, text: &str) {
    assert_none(&absent(path, text));
}

#[test]
fn the_core_is_caught_naming_a_runtime_a_network_or_a_store() {
    for package in ["protocol", "crdt"] {
        let path = format!("{package}/src/a.rs");
        for text in [
            "use tokio::sync::mpsc;",
            "fn f() { tokio_util::sync::x() }",
            "use futures::StreamExt;",
            "extern crate libp2p;",
            "use redb;",
            "fn f() { macro_call!(wasmtime::Engine::default()) }",
            "use std::net::IpAddr;",
            "use std::{io, fs};",
            "fn f() { std::thread::spawn(g); }",
        ] {
            assert_caught(&path, text);
        }
        assert_allowed(
            &path,
            "//! No tokio::spawn here.\nconst A: &str = \"std::fs::read\";",
        );
    }
}

#[test]
fn the_core_is_caught_reading_a_clock_drawing_a_lot_or_hashing_into_an_order() {
    for path in ["protocol/src/a.rs", "crdt/src/a/b.rs"] {
        for text in [
            "use std::time::Instant;",
            "fn f() { std::time::SystemTime::now(); }",
            "use std::collections::{BTreeMap, HashMap};",
            "type A = std::collections::HashSet<u8>;",
            "fn f() { rand::thread_rng(); }",
            "use rand_core::OsRng;",
            "fn f() { getrandom::fill(b); }",
            "#[cfg(test)] mod tests { use std::collections::HashMap; }",
        ] {
            assert_caught(path, text);
        }
        assert_allowed(path, "use std::{collections::BTreeMap, time::Duration};");
    }
}

#[test]
fn the_simulator_is_caught_naming_the_node_or_its_worlds() {
    for text in [
        "use tokio::time;",
        "use libp2p::PeerId;",
        "use redb::Database;",
        "use sled::Db;",
    ] {
        assert_caught("simulator/src/engine.rs", text);
        assert_caught("simulator/src/bin/aquifer-sim/main.rs", text);
    }
    assert_caught("simulator/tests/a.rs", "use aquifer_node::store::Disk;");
}

#[test]
fn the_simulators_engine_is_caught_with_threads_files_and_clocks_but_its_binary_is_not() {
    for text in [
        "fn f() { std::thread::spawn(g); }",
        "use std::fs;",
        "use std::time::Instant;",
        "use std::time::{Duration, SystemTime};",
    ] {
        assert_caught("simulator/src/engine.rs", text);
        for door in [
            "bin/aquifer-sim/main.rs",
            "parallel.rs",
            "parallel/seeds.rs",
        ] {
            assert_allowed(&format!("simulator/src/{door}"), text);
        }
    }
}

#[test]
fn a_foreign_world_is_caught_outside_its_door() {
    for (text, door) in [
        ("use libp2p::Swarm;", "node/src/net/behaviour.rs"),
        ("fn f(x: libp2p_stream::Control) {}", "node/src/net.rs"),
        ("use quinn::Endpoint;", "wasm-agent/edge/src/link.rs"),
        ("use redb::Database;", "node/src/store.rs"),
        ("use axum::Router;", "node/src/surface/http.rs"),
        ("use rmcp::tool;", "node/src/surface/mcp.rs"),
        ("use wasmtime::Engine;", "wasm-agent/host/src/lib.rs"),
        ("use anyhow::Context;", "node/src/main.rs"),
    ] {
        assert_allowed(door, text);
        assert_caught("node/src/driver.rs", text);
    }
    assert_caught("node/src/network.rs", "use libp2p::Swarm;");
    assert_allowed("node/tests/fleet.rs", "use anyhow::Result;");
}

#[test]
fn the_node_is_caught_reading_the_systems_clock_or_entropy_outside_one_file() {
    for text in [
        "fn f() { Instant::now(); }",
        "fn f() { std::time::Instant::now(); }",
        "use std::time::SystemTime;",
        "fn f() { getrandom::fill(b); }",
        "use rand_core::OsRng;",
    ] {
        assert_caught("node/src/driver.rs", text);
        for door in [
            "node/src/clock.rs",
            "node/src/net/swarm.rs",
            "node/tests/a.rs",
        ] {
            assert_allowed(door, text);
        }
    }
    assert_allowed(
        "node/src/driver.rs",
        "fn until(deadline: std::time::Instant) {}",
    );
    assert_allowed(
        "node/src/driver.rs",
        "#[cfg(test)]\nmod tests { fn f() { Instant::now(); } }",
    );
}

#[test]
fn a_device_is_caught_reading_the_clock_or_drawing_outside_one_file() {
    for text in [
        "fn f() { Instant::now(); }",
        "use std::time::SystemTime;",
        "use getrandom::fill;",
    ] {
        assert_caught("wasm-agent/edge/src/run.rs", text);
        assert_allowed("wasm-agent/edge/src/clock.rs", text);
    }
}

#[test]
fn an_unbounded_channel_is_caught_anywhere() {
    assert_caught(
        "node/src/net.rs",
        "fn f() { tokio::sync::mpsc::unbounded_channel::<u8>(); }",
    );
    assert_caught(
        "simulator/src/bin/aquifer-sim/main.rs",
        "use tokio::sync::mpsc::{channel, unbounded_channel};",
    );
}

#[test]
fn a_file_too_long_undocumented_or_badly_named_is_caught() {
    let caught = |path: &str, text: &str| readable::budgets(&[Source::new(path, text)]).len();
    let lines = |count: usize| format!("//! Long.\n{}", "\n".repeat(count - 1));
    assert_eq!(caught("a/src/a.rs", &lines(500)), 0);
    assert_eq!(caught("a/src/a.rs", &lines(501)), 1);
    assert_eq!(caught("a/src/a.rs", "// A comment.\n"), 1);
    for name in NAMES_BANNED {
        assert_eq!(
            caught(&format!("a/src/{name}.rs"), "//! A."),
            1,
            "{name}.rs"
        );
        assert_eq!(
            caught(&format!("a/src/{name}/b.rs"), "//! A."),
            1,
            "{name}/b.rs"
        );
    }
}

#[test]
fn unsafe_code_is_caught_in_an_unnamed_file_and_without_its_reason() {
    let bare = Source::new("a/src/a.rs", "fn f() {\n    unsafe { g() }\n}");
    let reasoned = Source::new(
        "a/src/a.rs",
        "fn f() {\n    // SAFETY: g has no precondition.\n    unsafe { g() }\n}",
    );
    let caught = |source: &Source, allowed: &[&str]| {
        readable::unsafety(std::slice::from_ref(source), allowed)
            .expect("a planted file lexes")
            .len()
    };
    assert_eq!(caught(&reasoned, &[]), 1);
    assert_eq!(caught(&bare, &["a/src/a.rs"]), 1);
    assert_eq!(caught(&reasoned, &["a/src/a.rs"]), 0);
    assert_eq!(
        caught(
            &Source::new("a.rs", "#![forbid(unsafe_code)] // unsafe"),
            &[]
        ),
        0
    );
}

fn manifest(name: &str, rest: &str) -> Manifest {
    let text = format!("[package]\nname = {name:?}\nlicense.workspace = true\n{rest}");
    Manifest::new(&format!("{name}/Cargo.toml"), &text).expect("a planted manifest is TOML")
}

#[test]
fn an_arrow_against_the_drawing_is_caught_in_any_section_and_under_any_name() {
    let drawn: &[(&str, &[&str])] = &[("low", &[]), ("high", &["low"])];
    let caught = |rest: &str| manifests::arrows(drawn, &[manifest("low", rest), high()]).len();
    fn high() -> Manifest {
        manifest("high", "[dependencies]\nlow = { path = '../low' }")
    }
    assert_eq!(caught(""), 0);
    assert_eq!(caught("[dependencies]\nhigh.workspace = true"), 1);
    assert_eq!(caught("[dev-dependencies]\nhigh.workspace = true"), 1);
    assert_eq!(
        caught("[build-dependencies]\nx = { package = 'high', path = '../high' }"),
        1
    );
    assert_eq!(caught("[target.'cfg(unix)'.dependencies]\nhigh = '*'"), 1);
}

#[test]
fn an_arrow_that_no_edge_follows_and_a_package_without_a_row_are_caught() {
    let drawn: &[(&str, &[&str])] = &[("low", &[]), ("high", &["low"])];
    let caught = |package: Manifest| manifests::arrows(drawn, &[package]).len();
    assert_eq!(caught(manifest("high", "")), 1);
    assert_eq!(caught(manifest("high", "[dev-dependencies]\nlow = '*'")), 1);
    assert_eq!(caught(manifest("new", "")), 1);
}

#[test]
fn a_package_that_sees_the_tests_is_caught() {
    let node = manifest(
        "aquifer-node",
        "[dependencies]\naquifer-protocol = '1'\naquifer-crdt = '1'\naquifer-runner = '1'\naquifer-wasm = '1'\n\
         [dev-dependencies]\naquifer-tests = { path = '../tests' }",
    );
    let tests = manifest(
        "aquifer-tests",
        "[dependencies]\naquifer-node = { path = '../node' }",
    );
    let found = manifests::arrows(ARROWS, &[node, tests]);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].rule.contains("aquifer-tests"), "{found:?}");
}

#[test]
fn a_foreign_dependency_of_the_core_is_caught_even_for_its_tests() {
    for (package, foreign) in [
        ("aquifer-protocol", "tokio"),
        ("aquifer-protocol", "futures-util"),
        ("aquifer-crdt", "redb"),
        ("aquifer-simulator", "libp2p-swarm"),
    ] {
        let planted = manifest(package, &format!("[dev-dependencies]\n{foreign} = '1'"));
        assert_eq!(
            manifests::foreign(FOREIGN, &[planted]).len(),
            1,
            "{package} sees {foreign}"
        );
    }
    let innocent = manifest("aquifer-protocol", "[dependencies]\nbytes = '1'");
    assert_none(&manifests::foreign(FOREIGN, &[innocent]));
}

#[test]
fn a_package_with_a_licence_or_lints_of_its_own_is_caught() {
    let own = Manifest::new(
        "a/Cargo.toml",
        "package.name = 'a'\npackage.license = 'MIT'",
    )
    .expect("a planted manifest is TOML");
    assert_eq!(manifests::inherited(&[own]).len(), 2);
    assert_none(&manifests::inherited(&[manifest(
        "a",
        "[lints]\nworkspace = true",
    )]));
}

#[test]
fn a_link_to_nowhere_is_caught() {
    let page = |text: &str| {
        let pages = [Source::new("docs/a.md", text)];
        readable::broken_links(&pages, |path| path == "docs/b.md" || path == "README.md")
    };
    assert_none(&page(
        "[b](b.md#part) [r](../README.md) [w](https://example.org) [here](#x)",
    ));
    assert_none(&page("`[code](gone.md)`"));
    let found = page("First.\n\nThen [gone](gone.md).");
    assert_eq!((found.len(), found[0].line), (1, 3), "{found:?}");
    assert_eq!(page("[outside](../../secret.md)").len(), 1);
    assert_eq!(page("![picture](picture.png)").len(), 1);
}

//! `import` and `export`: a round trip, a bad line, and going on after one.

use super::daemon::Daemon;
use serde_json::{Value, json};
use std::fmt::Write;

fn file(daemon: &Daemon, name: &str, text: &str) -> String {
    let path = daemon.home.path().join(name);
    std::fs::write(&path, text).expect("written");
    path.display().to_string()
}

#[test]
fn what_is_exported_can_be_imported_and_doing_it_twice_adds_nothing() {
    let daemon = Daemon::up();
    let mut lines = String::new();
    for n in 0..600 {
        let line = json!({
            "text": format!("memory {n}"), "tags": ["t"], "created_at": "2026-01-02T03:04:05Z"
        });
        let _ = writeln!(lines, "{line}");
    }
    let path = file(&daemon, "in.jsonl", &lines);
    let first = daemon.run(&["import", &path, "-t", "in", "--json"]).data();
    assert_eq!(
        (&first["stored"], &first["known"]),
        (&600.into(), &0.into())
    );
    let again = daemon.run(&["import", &path, "-t", "in", "--json"]).data();
    assert_eq!(
        (&again["stored"], &again["known"]),
        (&0.into(), &600.into())
    );

    let exported = daemon.run(&["export", "-t", "in"]);
    assert_eq!((exported.exit, exported.out.lines().count()), (0, 600));
    let line: Value =
        serde_json::from_str(exported.out.lines().next().expect("a line")).expect("JSON");
    assert_eq!(
        (&line["tags"], &line["created_at"]),
        (&json!(["t"]), &1_767_323_045_000_u64.into())
    );
    let path = file(&daemon, "out.jsonl", &exported.out);
    let back = daemon.run(&["import", &path, "--json"]).data();
    assert_eq!((&back["stored"], &back["known"]), (&0.into(), &600.into()));
}

#[test]
fn a_bad_line_is_named_what_is_before_it_is_kept_and_the_import_goes_on_there() {
    let daemon = Daemon::up();
    let lines = "{\"text\":\"one\"}\n\n{\"text\":\"two\"}\n{\"tags\":[]}\n{\"text\":\"five\"}\n";
    let path = file(&daemon, "in.jsonl", lines);
    let stopped = daemon.run(&["import", &path, "-t", "in", "--json"]);
    assert_eq!(stopped.exit, 1, "{stopped:?}");
    let message = stopped.json()["error"]["message"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    assert!(
        message.contains("line 4") && message.contains("text"),
        "{message}"
    );
    assert_eq!(
        daemon.run(&["list", "-t", "in", "--json"]).json()["count"],
        2
    );

    let on = daemon.run(&["import", &path, "-t", "in", "--keep-going", "--json"]);
    assert_eq!(on.exit, 7, "a part of the file was left out: {on:?}");
    let on = on.json()["data"].clone();
    assert_eq!(on["lines"], 2, "it went on after line 3: {on}");
    assert_eq!((&on["stored"], &on["bad"]), (&1.into(), &1.into()));
    assert!(
        on["problems"][0]
            .as_str()
            .is_some_and(|line| line.starts_with("line 4")),
        "{on}"
    );
    let left = std::fs::read_dir(daemon.home.path().join("imports"))
        .expect("the folder")
        .count();
    assert_eq!(left, 0, "a finished import leaves nothing behind");
}

//! The contract for scripts: what verbs print, and the exit codes they end with.

use super::daemon::{Daemon, HERE, aquifer, said};
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::process::Stdio;

#[test]
fn a_script_can_drive_a_node_by_json_alone() {
    let daemon = Daemon::up();
    let status = daemon.run(&["status", "--json"]).data();
    assert_eq!(status["region"], "eu");
    assert_eq!(status["node_id"], daemon.status["node_id"]);
    assert!(
        status["listen"][0]
            .as_str()
            .is_some_and(|addr| addr.starts_with('/')),
        "{status}"
    );
    assert!(
        status["api"]
            .as_str()
            .is_some_and(|api| !api.ends_with(":0")),
        "{status}"
    );
    assert!(status["peers"].is_array() && status["topics"].is_array());

    let remembered = daemon.run(&[
        "remember",
        "the port is 5433",
        "-t",
        "acme/api",
        "--tag",
        "db",
        "--json",
    ]);
    let id = remembered.data()["id"].as_str().expect("an id").to_owned();

    let found = daemon.run(&["recall", "port", "-t", "acme/api", "-k", "3", "--json"]);
    let first = found.data()[0].clone();
    assert_eq!(
        (&first["id"], &first["region"]),
        (&id.clone().into(), &"eu".into())
    );
    assert!(first["score"].is_number() && first["author"].is_string() && first["text"].is_string());
    let envelope = found.json();
    assert_eq!(
        (&envelope["ok"], &envelope["command"]),
        (&true.into(), &"recall".into())
    );
    assert_eq!(
        (&envelope["count"], &envelope["meta"]["coverage"]["asked"]),
        (&1.into(), &1.into())
    );
    assert!(
        found
            .out
            .starts_with("{\"ok\":true,\"command\":\"recall\",\"duration_ms\":")
    );

    assert_eq!(daemon.run(&["search", "port", "-o", "id"]).out.trim(), id);
    assert_eq!(
        daemon.run(&["get", &id[..12], "--json"]).data()[0]["id"],
        id
    );
    assert!(daemon.run(&["invite", "--region", "eu", "--json"]).data()["ticket"].is_string());
    let forgotten = daemon.run(&["forget", &id, "--receipts", "--json"]).data();
    assert_eq!(forgotten["ids"][0], id);
    assert_eq!(daemon.run(&["get", &id]).exit, 3);
}

#[test]
fn text_comes_from_an_argument_a_pipe_or_a_file() {
    let daemon = Daemon::up();
    let file = daemon.home.path().join("note.txt");
    std::fs::write(&file, "from a file\n").expect("written");
    let at = format!("@{}", file.display());
    assert_eq!(daemon.run(&["add", "from an argument"]).exit, 0);
    assert_eq!(daemon.run_with(&["remember"], b"from a pipe\n").exit, 0);
    assert_eq!(daemon.run_with(&["store", "-"], b"from a dash\n").exit, 0);
    assert_eq!(daemon.run(&["remember", &at]).exit, 0);
    let listed = daemon.run(&["list", "-o", "jsonl"]).out;
    let texts: Vec<String> = listed
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("a line"))
        .map(|memory| memory["text"].as_str().expect("a text").to_owned())
        .collect();
    assert_eq!(
        texts,
        [
            "from a file",
            "from a dash",
            "from a pipe",
            "from an argument"
        ]
    );
}

#[test]
fn a_refusal_of_the_law_is_exit_6_with_its_rule() {
    let daemon = Daemon::up();
    let made = daemon.run(&["topic", "create", "org/eu", "--regions", "eu", "--json"]);
    assert_eq!(
        made.data()["policy"]["allowed_regions"],
        serde_json::json!(["eu"])
    );
    let asked = daemon.run(&["policy", "explain", "org/eu", "--to", "us", "--json"]);
    assert_eq!(asked.exit, 6, "{asked:?}");
    assert_eq!(asked.json()["data"]["rule"], "region");
    assert_eq!(
        daemon
            .run(&["policy", "explain", "org/eu", "--to", "eu/fr"])
            .exit,
        0
    );
    let shown = daemon
        .run(&["topic", "policy", "show", "org/eu", "--json"])
        .data();
    assert_eq!(shown["allowed_regions"], serde_json::json!(["eu"]));
}

#[test]
fn every_bad_input_says_what_is_wrong_and_ends_with_its_code() {
    let daemon = Daemon::up();
    let large = "a".repeat(48 * 1024 + 1);
    assert_eq!(daemon.run(&["remember", "kept"]).exit, 0);
    for (arguments, exit, words) in [
        (&["recall", "--nonsense"][..], 2, "nonsense"),
        (&["recall", "x", "--since", "yesterday"], 2, "yesterday"),
        (&["recall", "x", "--wait", "5"], 2, "duration"),
        (&["remember", &large], 2, "48 KiB"),
        (&["remember", "  "], 2, "empty"),
        (&["remember", "@/nowhere"], 3, "/nowhere"),
        (&["remember", "x", "--region", "EU!"], 2, "EU!"),
        (&["get", "00000000000000000000"], 3, "0000000000"),
        (&["topic", "show", "none"], 3, "none"),
        (&["forget", "-t", "notes"], 2, "--force"),
        (&["up", "--json"], 1, "home_locked"),
        (&["help", "nonsense"], 2, "nonsense"),
    ] {
        let said = daemon.run(arguments);
        let arguments = &arguments[..arguments.len().min(2)];
        assert_eq!(said.exit, exit, "{arguments:?}: {said:?}");
        let told = said.err + &said.out;
        assert!(
            told.contains(words),
            "{arguments:?} does not mention {words}: {told}"
        );
    }
    assert_eq!(
        daemon.run(&["recall", "kept", "--json"]).json()["count"],
        1,
        "nothing was lost"
    );
    let piped = daemon.run_with(&["remember"], b"\xff\xfe");
    assert_eq!(piped.exit, 2);
    assert!(piped.err.contains("UTF-8"), "{piped:?}");
}

#[cfg(unix)]
#[test]
fn an_argument_that_is_no_utf8_is_exit_2() {
    use std::os::unix::ffi::OsStrExt;
    let mut command = aquifer();
    command
        .arg("remember")
        .arg(std::ffi::OsStr::from_bytes(b"\xff\xfe"))
        .arg("--json");
    let said = said(command, b"");
    assert_eq!(said.exit, 2, "{said:?}");
    assert_eq!(said.json()["error"]["code"], "usage");
    assert!(said.out.contains("UTF-8"), "{said:?}");
}

#[test]
fn without_a_daemon_verbs_are_exit_4_and_the_doctor_calls_it_critical() {
    let home = tempfile::tempdir().expect("a folder");
    let run = |arguments: &[&str]| {
        let mut command = aquifer();
        command.args(arguments).arg("--home").arg(home.path());
        said(command, b"")
    };
    let said = run(&["status", "--json"]);
    assert_eq!(
        (said.exit, said.json()["error"]["code"].as_str()),
        (4, Some("daemon_unreachable"))
    );
    assert_eq!(run(&["doctor"]).exit, 2);
    assert_eq!(run(&["status", "--check"]).exit, 2);
    assert_eq!(run(&["config", "path", "--json"]).exit, 0);
}

#[test]
fn a_port_that_is_taken_is_told_at_once() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let api = taken.local_addr().expect("bound").to_string();
    let home = tempfile::tempdir().expect("a folder");
    for detach in [false, true] {
        let mut command = aquifer();
        command
            .args(["up", "--json", "--home"])
            .arg(home.path())
            .args(&HERE[..2]);
        command.args(["--api", &api]).args(&HERE[4..]);
        if detach {
            command.arg("--detach");
        }
        let said = said(command, b"");
        assert_eq!(said.exit, 1, "{said:?}");
        assert_eq!(said.json()["error"]["code"], "port_taken", "{said:?}");
    }
    let mut command = aquifer();
    command
        .args(["up", "--json", "--api", "0.0.0.0:0", "--home"])
        .arg(home.path());
    let said = said(command, b"");
    assert_eq!(
        (said.exit, said.json()["error"]["code"].as_str()),
        (2, Some("insecure_api"))
    );
}

#[test]
fn a_detached_node_answers_when_up_returns_and_is_gone_when_down_returns() {
    let home = tempfile::tempdir().expect("a folder");
    let run = |arguments: &[&str]| {
        let mut command = aquifer();
        command.args(arguments).arg("--home").arg(home.path());
        said(command, b"")
    };
    let up: Vec<&str> = ["up", "--detach", "--json"]
        .into_iter()
        .chain(HERE)
        .collect();
    let started = run(&up).data();
    assert_eq!(
        run(&["status", "--json"]).data()["node_id"],
        started["node_id"]
    );
    assert_eq!(run(&["down"]).exit, 0);
    assert_eq!(run(&["status"]).exit, 4);
    let again = run(&up).data();
    assert_eq!(again["node_id"], started["node_id"], "the home is the node");
    assert_eq!(run(&["down"]).exit, 0);
}

#[test]
fn watching_shows_what_happens_as_it_happens() {
    let daemon = Daemon::up();
    let mut command = aquifer();
    command
        .args(["watch", "-t", "seen", "--home"])
        .arg(daemon.home.path());
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let mut told = BufReader::new(child.stderr.take().expect("piped")).lines();
    let ready = told.next().expect("a line").expect("text");
    assert!(ready.contains("watching seen"), "{ready}");
    assert_eq!(
        daemon.run(&["remember", "elsewhere", "-t", "unseen"]).exit,
        0
    );
    assert_eq!(
        daemon
            .run(&["remember", "happens now", "-t", "seen/below"])
            .exit,
        0
    );
    let shown = BufReader::new(child.stdout.take().expect("piped")).lines();
    let first = shown
        .map(|line| line.expect("text"))
        .find(|line| line.starts_with('+'))
        .expect("the memory is shown");
    assert!(
        first.contains("happens now") && first.contains("seen/below"),
        "{first}"
    );
    child.kill().expect("it runs");
    child.wait().expect("it ends");
}

#[test]
fn the_tree_of_verbs_is_data_for_agents() {
    let mut command = aquifer();
    command.args(["help", "--json"]);
    let tree = said(command, b"").data();
    let verbs: Vec<&str> = tree["commands"]
        .as_array()
        .expect("commands")
        .iter()
        .filter_map(|verb| verb["name"].as_str())
        .collect();
    for verb in [
        "up", "join", "remember", "recall", "forget", "policy", "doctor", "mcp",
    ] {
        assert!(verbs.contains(&verb), "{verb} is missing from {verbs:?}");
    }
    let mut command = aquifer();
    command.env("CLAUDECODE", "1").arg("version");
    assert!(
        said(command, b"").data()["version"].is_string(),
        "an agent gets JSON unasked"
    );
}

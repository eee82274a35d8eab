//! HTTP `/v1` over TCP: every route of the document, its guard, its errors.

use super::daemon::{Answer, Daemon};
use serde_json::{Value, json};

/// Every operation of a document, without the two that do not end by themselves.
fn operations(document: &Value) -> Vec<(String, String)> {
    let paths = document["paths"].as_object().expect("paths");
    let named = paths.iter().flat_map(|(path, item)| {
        let methods = item.as_object().expect("methods").keys();
        methods.map(move |method| (method.to_uppercase(), path.clone()))
    });
    named
        .filter(|(_, path)| path != "/v1/stop" && path != "/v1/events")
        .collect()
}

fn line(method: &str, path: &str) -> String {
    format!(
        "{method} {}",
        path.replace("{id}", &"0".repeat(64))
            .replace("{topic}", "none")
    )
}

fn body_of(method: &str) -> Option<&'static str> {
    ["POST", "PUT", "PATCH"].contains(&method).then_some("{}")
}

#[test]
fn every_route_of_the_document_is_in_the_router_and_none_answers_without_the_token() {
    let daemon = Daemon::up();
    let token = daemon.token();
    let document = daemon.ask("GET /openapi.json", Some(&token), None).json();
    let operations = operations(&document);
    assert!(
        operations.len() > 20,
        "only {} routes: the check would be void",
        operations.len()
    );
    for (method, path) in &operations {
        let line = line(method, path);
        let open = path == "/healthz";
        let bare = daemon.ask(&line, None, body_of(method));
        assert_eq!(
            bare.status,
            if open { 200 } else { 401 },
            "I17: {line}: {bare:?}"
        );
        let known = daemon.ask(&line, Some(&token), body_of(method));
        let code = serde_json::from_str::<Value>(&known.body).unwrap_or_default()["code"].clone();
        assert_ne!(code, "no_such_route", "{line} is documented and not routed");
        assert_ne!(
            code, "method_not_allowed",
            "{line} is documented and not routed"
        );
    }
    for line in [
        "GET /v1/nothing",
        "GET /",
        "DELETE /v1/status",
        "GET /mcp",
        "POST /healthz",
    ] {
        let answer = daemon.ask(line, Some(&token), line.starts_with("POST").then_some("{}"));
        let code = answer.json()["code"].clone();
        let known = ["no_such_route", "method_not_allowed"]
            .iter()
            .any(|known| code == *known);
        assert!(known, "{line} is routed and not documented: {answer:?}");
    }
}

#[test]
fn a_memory_lives_its_life_over_http() {
    let daemon = Daemon::up();
    let token = daemon.token();
    let ask = |line: &str, body: Option<Value>| -> Answer {
        let body = body.map(|body| body.to_string());
        daemon.ask(line, Some(&token), body.as_deref())
    };
    let text = json!({ "text": "the database listens on 5433", "topic": "acme/api" });
    let stored = ask("POST /v1/memories", Some(text.clone()));
    assert_eq!(stored.status, 201, "{stored:?}");
    let id = stored.json()["id"].as_str().expect("an id").to_owned();
    assert_eq!(
        ask("POST /v1/memories", Some(text)).json()["deduplicated"],
        true
    );

    let found = ask(
        "POST /v1/search",
        Some(json!({ "query": "database", "topic": "acme" })),
    );
    assert_eq!(found.json()["results"][0]["id"], id);
    assert!(
        found.head.contains("x-aquifer-coverage: 1/1"),
        "{}",
        found.head
    );

    let shown = ask(&format!("GET /v1/memories/{}", &id[..12]), None).json();
    assert_eq!(
        (&shown["topic"], &shown["region"]),
        (&json!("acme/api"), &json!("eu"))
    );
    let topic = ask("GET /v1/topics/acme%2Fapi/policy", None).json();
    assert_eq!(topic["name"], "acme/api");
    let exported = ask("GET /v1/export?topic=acme", None);
    assert_eq!(
        serde_json::from_str::<Value>(exported.body.trim()).expect("a line")["id"],
        id
    );
    assert_eq!(
        ask("GET /v1/memories?topic=acme&limit=1", None).json()["memories"][0]["id"],
        id
    );

    let patch = json!({ "text": "the database listens on 5434" });
    let revised = ask(&format!("PATCH /v1/memories/{id}"), Some(patch));
    assert_eq!(revised.status, 201, "{revised:?}");
    let gone = ask(&format!("DELETE /v1/memories/{id}"), None);
    assert_eq!(gone.status, 200, "{gone:?}");
    assert_eq!(ask(&format!("GET /v1/memories/{id}"), None).status, 404);
}

#[test]
fn every_error_is_a_problem_with_a_stable_code() {
    let daemon = Daemon::up();
    let token = daemon.token();
    let large = json!({ "text": "a".repeat(48 * 1024 + 1) }).to_string();
    let many = Value::from(vec![json!({ "text": "a" }); 257]).to_string();
    for (line, body, status) in [
        ("POST /v1/memories", "{\"text\":", 400),
        ("POST /v1/memories", "{\"txt\":\"a\"}", 400),
        ("POST /v1/memories", "{\"text\":\"\"}", 400),
        ("POST /v1/memories", large.as_str(), 413),
        ("POST /v1/memories:batch", many.as_str(), 413),
        ("GET /v1/memories?since=yesterday", "", 400),
        ("GET /v1/memories?colour=red", "", 400),
        ("GET /v1/memories/00000000000000000000", "", 404),
        ("GET /v1/topics/none/policy", "", 404),
        ("GET /v1/mcp/stream", "", 426),
    ] {
        let answer = daemon.ask(line, Some(&token), (!body.is_empty()).then_some(body));
        assert_eq!(answer.status, status, "{line}: {answer:?}");
        assert!(
            answer
                .head
                .contains("content-type: application/problem+json"),
            "{answer:?}"
        );
        let problem = answer.json();
        assert!(
            problem["code"]
                .as_str()
                .is_some_and(|code| !code.is_empty()),
            "{answer:?}"
        );
        assert_eq!(problem["status"], status, "{answer:?}");
    }
}

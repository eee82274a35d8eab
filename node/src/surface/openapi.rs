//! The routes, and the OpenAPI document of them: `/openapi.json`, `/docs`.
//!
//! `routes!` puts a handler into the router and its description into the document at once, and
//! [`routes()`] is the only place that adds either, so that the two cannot differ.

use super::{App, agents, mcp, memories, models, operations, tasks, topics};
use axum::Router;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{Html, IntoResponse};
use serde_json::Value;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// What the document says of the whole.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Aquifer",
        description = "One memory under all your agents. Requests over TCP bear the token of the \
                       node's home: `Authorization: Bearer TOKEN`. Errors are RFC 9457 problems \
                       with a stable `code`. Times are milliseconds since the Unix epoch.",
        license(name = "Apache-2.0")
    ),
    tags(
        (name = "memories", description = "Remember, recall, forget"),
        (name = "models", description = "Models: files of any size, kept where a topic's law places them"),
        (name = "topics", description = "Topics and their law"),
        (name = "node", description = "This node"),
        (name = "wasm", description = "WebAssembly agents"),
        (name = "tasks", description = "Programs that are run by nodes that can"),
        (name = "agents", description = "The Model Context Protocol")
    )
)]
struct Document;

/// The router without its guard, and the document of it as JSON text.
pub(super) fn routes() -> (Router<App>, String) {
    let (router, document) = OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(memories::remember, memories::list))
        .routes(routes!(memories::remember_many))
        .routes(routes!(memories::get, memories::revise, memories::delete))
        .routes(routes!(memories::history))
        .routes(routes!(memories::search))
        .routes(routes!(memories::forget))
        .routes(routes!(memories::export))
        .routes(routes!(models::list, models::push))
        .routes(routes!(models::show, models::put, models::remove))
        .routes(routes!(models::pull))
        .routes(routes!(models::check))
        .routes(routes!(topics::all, topics::create))
        .routes(routes!(topics::policy, topics::policy_set))
        .routes(routes!(topics::explain))
        .routes(routes!(agents::all, agents::deploy))
        .routes(routes!(agents::one, agents::upgrade, agents::stop))
        .routes(routes!(agents::moves))
        .routes(routes!(agents::invoke))
        .routes(routes!(agents::logs))
        .routes(routes!(agents::receipts))
        .routes(routes!(agents::verify))
        .routes(routes!(tasks::all, tasks::submit))
        .routes(routes!(tasks::one, tasks::cancel))
        .routes(routes!(tasks::wait))
        .routes(routes!(operations::status))
        .routes(routes!(operations::peers))
        .routes(routes!(operations::graph))
        .routes(routes!(operations::graph_page))
        .routes(routes!(operations::ping))
        .routes(routes!(operations::find))
        .routes(routes!(operations::doctor))
        .routes(routes!(operations::invite))
        .routes(routes!(operations::events))
        .routes(routes!(operations::stop))
        .routes(routes!(operations::healthz))
        .routes(routes!(operations::readyz))
        .routes(routes!(operations::metrics))
        .routes(routes!(mcp::transport::post))
        .routes(routes!(mcp::transport::stream))
        .routes(routes!(openapi))
        .routes(routes!(docs))
        .split_for_parts();
    (router, document.to_json().expect("the document is JSON"))
}

/// This document.
#[utoipa::path(get, path = "/openapi.json", tag = "node", responses(
    (status = 200, content_type = "application/json", description = "OpenAPI 3.1"),
))]
async fn openapi(State(app): State<App>) -> impl IntoResponse {
    (
        [(CONTENT_TYPE, "application/json")],
        app.document.to_string(),
    )
}

/// This document as a page.
#[utoipa::path(get, path = "/docs", tag = "node", responses(
    (status = 200, body = String, content_type = "text/html"),
))]
async fn docs(State(app): State<App>) -> Html<String> {
    let document = serde_json::from_str(&app.document).expect("it was written by us");
    Html(page(&document))
}

/// One page without scripts, fonts or anything of another origin.
fn page(document: &Value) -> String {
    let mut rows = String::new();
    let mut section = "";
    let mut operations = operations_of(document);
    operations.sort_by_key(|(tag, path, ..)| (*tag, *path));
    for (tag, path, method, operation) in operations {
        if tag != section {
            rows += &format!("<tr><th colspan=3>{}</th></tr>", escaped(tag));
            section = tag;
        }
        let summary = operation["summary"].as_str().unwrap_or_default();
        rows += &format!(
            "<tr><td><b>{}</b></td><td><code>{}</code></td><td>{}</td></tr>",
            method.to_uppercase(),
            escaped(path),
            escaped(summary)
        );
    }
    format!(
        "<!doctype html><html lang=en><meta charset=utf-8><title>Aquifer</title><style>\
         body{{font:15px/1.5 system-ui;margin:2em auto;max-width:60em;padding:0 1em}}\
         td,th{{text-align:left;padding:.2em 1em .2em 0;vertical-align:top}}\
         th{{padding-top:1em;text-transform:capitalize}}</style>\
         <h1>Aquifer</h1><p>{}</p><p>Fields and answers: <code>/openapi.json</code>.</p>\
         <table>{rows}</table></html>",
        escaped(document["info"]["description"].as_str().unwrap_or_default())
    )
}

fn operations_of(document: &Value) -> Vec<(&str, &str, &str, &Value)> {
    let paths = document["paths"].as_object().into_iter().flatten();
    paths
        .flat_map(|(path, item)| {
            item.as_object()
                .into_iter()
                .flatten()
                .map(move |(method, operation)| {
                    let tag = operation["tags"][0].as_str().unwrap_or_default();
                    (tag, path.as_str(), method.as_str(), operation)
                })
        })
        .collect()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document() -> Value {
        serde_json::from_str(&routes().1).expect("the document is JSON")
    }

    /// The routes of `surface.md` §6.4 that exist so far, and those of this node's own.
    const PROMISED: &[&str] = &[
        "delete /v1/agents/{name}",
        "delete /v1/memories/{id}",
        "delete /v1/models/{name}",
        "delete /v1/tasks/{id}",
        "get /docs",
        "get /graph",
        "get /healthz",
        "get /metrics",
        "get /openapi.json",
        "get /readyz",
        "get /v1/agents",
        "get /v1/agents/{name}",
        "get /v1/agents/{name}/logs",
        "get /v1/agents/{name}/receipts",
        "get /v1/doctor",
        "get /v1/events",
        "get /v1/export",
        "get /v1/find",
        "get /v1/graph",
        "get /v1/mcp/stream",
        "get /v1/memories",
        "get /v1/memories/{id}",
        "get /v1/memories/{id}/history",
        "get /v1/models",
        "get /v1/models/{name}",
        "get /v1/peers",
        "get /v1/status",
        "get /v1/tasks",
        "get /v1/tasks/{id}",
        "get /v1/topics",
        "get /v1/topics/{topic}/policy",
        "patch /v1/memories/{id}",
        "post /mcp",
        "post /v1/agents",
        "post /v1/agents/{name}/invoke",
        "post /v1/agents/{name}/move",
        "post /v1/agents/{name}/verify",
        "post /v1/forget",
        "post /v1/invites",
        "post /v1/memories",
        "post /v1/memories:batch",
        "post /v1/models",
        "post /v1/models:check",
        "post /v1/models:pull",
        "post /v1/ping",
        "post /v1/policy:explain",
        "post /v1/search",
        "post /v1/stop",
        "post /v1/tasks",
        "post /v1/tasks/{id}/wait",
        "post /v1/topics",
        "put /v1/agents/{name}",
        "put /v1/models/{name}",
        "put /v1/topics/{topic}/policy",
    ];

    #[test]
    fn the_document_names_exactly_the_promised_routes() {
        let document = document();
        let mut named: Vec<String> = operations_of(&document)
            .into_iter()
            .map(|(_, path, method, _)| format!("{method} {path}"))
            .collect();
        named.sort();
        assert_eq!(named, PROMISED);
    }

    #[test]
    fn every_reference_of_the_document_leads_somewhere_and_every_route_is_told_in_words() {
        let document = document();
        let mut open = vec![&document];
        let mut references = 0;
        while let Some(value) = open.pop() {
            if let Some(reference) = value.get("$ref").and_then(Value::as_str) {
                let pointer = reference.strip_prefix('#').expect("a reference within");
                assert!(
                    document.pointer(pointer).is_some(),
                    "{reference} leads nowhere"
                );
                references += 1;
            }
            open.extend(
                value
                    .as_object()
                    .into_iter()
                    .flatten()
                    .map(|(_, inner)| inner),
            );
            open.extend(value.as_array().into_iter().flatten());
        }
        assert!(
            references > 40,
            "only {references} references: the check would be void"
        );
        for (tag, path, method, operation) in operations_of(&document) {
            assert!(
                operation["summary"].is_string(),
                "{method} {path} has no summary"
            );
            assert!(!tag.is_empty(), "{method} {path} has no tag");
        }
    }

    #[test]
    fn the_page_shows_every_route_and_fetches_nothing() {
        let page = page(&document());
        for route in PROMISED {
            let path = route.split(' ').nth(1).expect("a method and a path");
            assert!(page.contains(path), "{path} is not shown");
        }
        for foreign in ["<script", "src=", "href=", "@import", "url("] {
            assert!(!page.contains(foreign), "the page has {foreign}");
        }
    }
}

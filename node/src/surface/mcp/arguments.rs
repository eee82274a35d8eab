//! What agents call our tools and their arguments, and what is meant.
//!
//! Models have learnt other memory servers by heart (mem0, Graphiti, basic-memory, Cognee). Their
//! names are taken on a call and never listed, so they cost no tokens. What stays unknown after
//! that is refused by name, with the names that are known: a model corrects itself by that.

use crate::api::Problem;
use crate::{clock, moment};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// Hidden names of tools.
const TOOLS: &[(&str, &str)] = &[
    ("add_memory", "memory_store"),
    ("memory_add", "memory_store"),
    ("remember", "memory_store"),
    ("search_memories", "memory_search"),
    ("search_memory", "memory_search"),
    ("recall", "memory_search"),
    ("memory_recall", "memory_search"),
    ("get_memory", "memory_get"),
    ("list_memories", "memory_list"),
    ("get_memories", "memory_list"),
    ("memory_delete", "memory_forget"),
    ("delete_memory", "memory_forget"),
    ("forget", "memory_forget"),
];

const LISTED: &[&str] = &[
    "memory_store",
    "memory_search",
    "memory_get",
    "memory_list",
    "memory_forget",
    "memory_status",
];

/// Hidden names of arguments: of which tool (all if empty), the name, what is meant.
const ARGUMENTS: &[(&str, &str, &str)] = &[
    ("memory_search", "q", "query"),
    ("memory_search", "text", "query"),
    ("memory_search", "search", "query"),
    ("memory_search", "context", "query"),
    ("memory_search", "limit", "k"),
    ("memory_search", "top_k", "k"),
    ("memory_search", "max_results", "k"),
    ("memory_list", "k", "limit"),
    ("memory_list", "top_k", "limit"),
    ("memory_store", "content", "text"),
    ("memory_store", "memory", "text"),
    ("memory_store", "data", "text"),
    ("memory_store", "context", "text"),
    ("memory_store", "source_uri", "source"),
    ("memory_get", "id", "ids"),
    ("memory_get", "memory_id", "ids"),
    ("memory_forget", "id", "ids"),
    ("memory_forget", "memory_id", "ids"),
    ("", "namespace", "topic"),
    ("", "project", "topic"),
    ("", "group_id", "topic"),
    ("", "container_tag", "topic"),
    ("", "dataset", "topic"),
    ("", "tag", "tags"),
];

/// Arguments that are moments, in any form of [`moment::read`].
const MOMENTS: &[&str] = &[
    "since",
    "until",
    "as_of",
    "valid_from",
    "valid_until",
    "created_at",
];

/// The listed name of the tool called `name`, if there is one.
pub(super) fn tool_named(name: &str) -> Option<&'static str> {
    let alias = TOOLS
        .iter()
        .find(|(alias, _)| *alias == name)
        .map(|(_, tool)| *tool);
    alias.or_else(|| LISTED.iter().copied().find(|listed| *listed == name))
}

/// Brings what was given for `tool` to the names and types of the request's fields.
///
/// # Errors
/// `bad_request` when an argument is given under two names; `bad_time`, `bad_duration`.
pub(super) fn settle(tool: &str, given: Map<String, Value>) -> Result<Map<String, Value>, Problem> {
    let mut settled = Map::new();
    for (name, value) in given {
        // Hosts fill what the model left out with null.
        if value.is_null() {
            continue;
        }
        let meant = ARGUMENTS
            .iter()
            .find(|(of, alias, _)| (of.is_empty() || *of == tool) && *alias == name)
            .map_or(name.as_str(), |(_, _, meant)| *meant);
        let (meant, value) = plain(meant, value)?;
        if settled.insert(meant.to_owned(), value).is_some() {
            let message = format!("`{meant}` is given twice, once as `{name}`");
            return Err(Problem::new(
                "bad_request",
                2,
                message,
                format!("give only `{meant}`"),
            ));
        }
    }
    Ok(settled)
}

fn plain(name: &str, value: Value) -> Result<(&str, Value), Problem> {
    Ok(match (name, value) {
        ("ttl", Value::String(text)) => {
            let until = clock::wall()
                .millis()
                .saturating_add(moment::millis_of(moment::read_duration(&text)?));
            ("valid_until", until.into())
        }
        (name, Value::String(text)) if MOMENTS.contains(&name) => {
            (name, moment::read(&text, clock::wall().millis())?.into())
        }
        ("tags" | "ids", one @ Value::String(_)) => (name, Value::Array(vec![one])),
        ("metadata", Value::Object(entries)) => {
            let spelt = entries.into_iter().map(|(key, value)| match value {
                Value::String(_) => (key, value),
                other => (key, Value::String(other.to_string())),
            });
            (name, Value::Object(spelt.collect()))
        }
        (name, value) => (name, value),
    })
}

/// Reads settled arguments as the request of `tool`.
///
/// # Errors
/// `bad_request`, with the fields that are known.
pub(super) fn read<T: DeserializeOwned>(
    tool: &str,
    settled: Map<String, Value>,
) -> Result<T, Problem> {
    serde_json::from_value(Value::Object(settled)).map_err(|fault| {
        let hint = format!("see the arguments of {tool} in tools/list");
        Problem::new(
            "bad_request",
            2,
            format!("the arguments of {tool}: {fault}"),
            hint,
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{Forget, List, Recall, Remember};
    use serde_json::json;

    fn settled<T: DeserializeOwned>(tool: &str, given: Value) -> Result<T, Problem> {
        let Value::Object(given) = given else {
            panic!("arguments are an object")
        };
        read(tool, settle(tool, given)?)
    }

    #[test]
    fn arguments_of_other_memory_servers_mean_what_they_meant_there() {
        for name in ["q", "text", "search", "query"] {
            let recall: Recall =
                settled("memory_search", json!({ name: "db port", "top_k": 3 })).expect(name);
            assert_eq!((recall.query.as_str(), recall.k), ("db port", Some(3)));
        }
        for name in ["content", "memory", "data", "context", "text"] {
            let given = json!({ name: "x", "namespace": "acme", "tag": "t" });
            let remember: Remember = settled("memory_store", given).expect(name);
            assert_eq!(remember.text, "x");
            assert_eq!(remember.topic.as_deref(), Some("acme"));
            assert_eq!(remember.tags, ["t"]);
        }
        for name in [
            "namespace",
            "project",
            "group_id",
            "container_tag",
            "dataset",
            "topic",
        ] {
            let list: List = settled("memory_list", json!({ name: "acme", "k": 2 })).expect(name);
            assert_eq!((list.topic.as_deref(), list.limit), (Some("acme"), Some(2)));
        }
        let forget: Forget = settled("memory_forget", json!({ "id": "00" })).expect("an id");
        assert_eq!(forget.ids, ["00"]);
    }

    #[test]
    fn times_are_read_in_the_forms_that_models_write() {
        let given = json!({ "query": "", "since": "1970-01-02", "until": 5, "as_of": null });
        let recall: Recall = settled("memory_search", given).expect("read");
        assert_eq!(
            (recall.since, recall.until, recall.as_of),
            (Some(86_400_000), Some(5), None)
        );
        let remember: Remember =
            settled("memory_store", json!({ "text": "x", "ttl": "30d" })).expect("read");
        assert!(remember.valid_until > Some(30 * 86_400_000));
        let metadata = json!({ "text": "x", "metadata": { "n": 5 } });
        let remember: Remember = settled("memory_store", metadata).expect("read");
        assert_eq!(remember.metadata["n"], "5");
    }

    #[test]
    fn what_stays_unknown_is_refused_by_name() {
        let problem = settled::<Recall>("memory_search", json!({ "query": "x", "colour": 1 }))
            .expect_err("unknown");
        assert!(problem.message.contains("colour"), "{}", problem.message);
        assert!(
            problem.message.contains("topic"),
            "it names what is known: {}",
            problem.message
        );
        let twice = settled::<Recall>("memory_search", json!({ "query": "x", "q": "y" }))
            .expect_err("twice");
        assert!(twice.message.contains("twice"));
    }

    #[test]
    fn every_hidden_tool_stands_for_a_listed_one() {
        for (alias, tool) in TOOLS {
            assert!(
                LISTED.contains(tool),
                "{alias} stands for {tool}, which is not listed"
            );
            assert_eq!(tool_named(alias), Some(*tool));
        }
        assert_eq!(tool_named("memory_store"), Some("memory_store"));
        assert_eq!(tool_named("rm_rf"), None);
        let tools = super::super::tools::all();
        let listed: Vec<&str> = tools.iter().map(|tool| tool.name.as_ref()).collect();
        assert_eq!(listed, LISTED);
    }
}

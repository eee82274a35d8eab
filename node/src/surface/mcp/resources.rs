//! What an agent's host may read beside the tools: `aquifer://status`, `aquifer://topics`,
//! `aquifer://memories/{id}`.

use super::answers::{NOTICE, element};
use crate::api::Problem;
use crate::memory::Memory;
use rmcp::ErrorData;
use rmcp::model::{ReadResourceResult, Resource, ResourceContents, ResourceTemplate};
use serde::Serialize;

const STATUS: &str = "aquifer://status";
const TOPICS: &str = "aquifer://topics";
const MEMORIES: &str = "aquifer://memories/";
const JSON: &str = "application/json";

pub(super) fn all() -> Vec<Resource> {
    vec![
        Resource::new(STATUS, "status")
            .with_description("This node, its peers and what it holds")
            .with_mime_type(JSON),
        Resource::new(TOPICS, "topics")
            .with_description("The topics and where their data may live")
            .with_mime_type(JSON),
    ]
}

pub(super) fn templates() -> Vec<ResourceTemplate> {
    vec![
        ResourceTemplate::new(format!("{MEMORIES}{{id}}"), "memory")
            .with_description("One memory, marked as data")
            .with_mime_type("text/plain"),
    ]
}

pub(super) async fn read(memory: &Memory, uri: &str) -> Result<ReadResourceResult, ErrorData> {
    let absent = |problem: Problem| {
        let data = serde_json::json!({ "uri": uri, "code": problem.code, "hint": problem.hint });
        if problem.exit == 3 {
            ErrorData::resource_not_found(problem.message, Some(data))
        } else {
            ErrorData::internal_error(problem.message, Some(data))
        }
    };
    let contents = match uri {
        STATUS => json(uri, &memory.status().await.map_err(absent)?),
        TOPICS => json(uri, &memory.topics().await.map_err(absent)?),
        _ => {
            let none = || Problem::new("not_found", 3, format!("there is no {uri}"), "");
            let id = uri
                .strip_prefix(MEMORIES)
                .ok_or_else(none)
                .map_err(absent)?;
            let views = memory.get(&[id.to_owned()]).await.map_err(absent)?;
            let mut text = format!("{NOTICE}\n");
            views.iter().for_each(|view| element(&mut text, view, None));
            ResourceContents::text(text, uri)
        }
    };
    Ok(ReadResourceResult::new(vec![contents]))
}

fn json(uri: &str, of: &impl Serialize) -> ResourceContents {
    let text = serde_json::to_string(of).expect("an answer is JSON");
    ResourceContents::text(text, uri).with_mime_type(JSON)
}

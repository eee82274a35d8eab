//! What can go wrong with models, and what to do next.

use crate::api::Problem;
use crate::blob::shelf::KeepBlob;
use crate::model::ModelName;
use std::fmt::Display;
use std::path::Path;

pub(super) fn no_model(name: &ModelName, topic: &str) -> Problem {
    let message = format!("there is no model `{name}` in `{topic}`");
    let hint = "list what there is with `aquifer model list`; -t names another topic";
    Problem::new("not_found", 3, message, hint)
}

pub(super) fn model_exists(name: &ModelName, topic: &str) -> Problem {
    let message = format!("there is a model `{name}` in `{topic}` already");
    let hint = "publish a new version with `aquifer model update`, or give it another name or tag";
    Problem::new("model_exists", 1, message, hint)
}

pub(super) fn unreadable_file(path: &Path, why: &dyn Display) -> Problem {
    let message = format!("{} cannot be read: {why}", path.display());
    let hint = "the path is one of the machine of the node, which must be allowed to read it";
    Problem::new("unreadable_file", 2, message, hint)
}

pub(super) fn not_kept(why: &KeepBlob) -> Problem {
    let problem = |code, exit, hint| Problem::new(code, exit, why.to_string(), hint);
    match why {
        KeepBlob::TooLong { .. } => problem("oversize", 2, "split it"),
        KeepBlob::NoRoom { .. } => problem(
            "disk_full",
            1,
            "make room on the disk of the node's home, or remove a model; a fetch goes on by itself",
        ),
        KeepBlob::Changed => problem("file_changed", 1, "push it again once it is complete"),
        KeepBlob::CalledOff => called_off(),
        KeepBlob::Io(error) => Problem::new(
            "home_unusable",
            1,
            format!("the content cannot be kept: {error}"),
            "check the disk and the folder `blobs` in the node's home",
        ),
    }
}

pub(super) fn called_off() -> Problem {
    Problem::new("called_off", 1, "it was called off", "")
}

/// `dropped` are those that were asked, and what came of it.
pub(super) fn no_holder(name: &ModelName, dropped: Vec<(String, String)>) -> Problem {
    let asked: Vec<String> = dropped
        .iter()
        .map(|(node, why)| format!("{node}: {why}"))
        .collect();
    let message = match asked.is_empty() {
        true => format!("no node within reach may give `{name}`"),
        false => format!("no node within reach gives `{name}`: {}", asked.join("; ")),
    };
    let hint =
        "what came of it stays: try again once a holder is up; `aquifer model check` asks them";
    Problem::new("no_holder", 1, message, hint)
}

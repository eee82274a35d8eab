//! The text to remember: an argument, stdin, or a file, held to its limit before anything is sent.

use crate::api::{Problem, TEXT_BYTES_MAX};
use std::io::{IsTerminal, Read};
use std::path::Path;

/// The text of the argument, of stdin or of a file, checked before anything is sent.
pub(super) fn given(given: Option<String>) -> Result<String, Problem> {
    let text = match given.as_deref() {
        Some("-") => read_all(std::io::stdin().lock(), "stdin")?,
        Some(text) => match text.strip_prefix('@') {
            Some(path) => read_file(Path::new(path))?,
            None => text.to_owned(),
        },
        None if !std::io::stdin().is_terminal() => read_all(std::io::stdin().lock(), "stdin")?,
        None => {
            let hint = "aquifer remember \"text\", or pipe it in, or @FILE";
            return Err(Problem::new(
                "usage",
                2,
                "there is no text to remember",
                hint,
            ));
        }
    };
    let text = text.trim_end_matches(['\n', '\r']);
    if text.len() > TEXT_BYTES_MAX {
        return Err(oversize(&format!("the text has {} bytes", text.len())));
    }
    if text.trim().is_empty() {
        return Err(Problem::new("empty_text", 2, "the text is empty", ""));
    }
    Ok(text.to_owned())
}

/// A text over the limit.
pub(super) fn oversize(what: &str) -> Problem {
    let limit = TEXT_BYTES_MAX / 1024;
    let message = format!("{what}; a memory holds at most {limit} KiB ({TEXT_BYTES_MAX} bytes)");
    let hint = "remember its parts, or a summary with --source pointing at the whole";
    Problem::new("oversize", 2, message, hint)
}

fn read_file(path: &Path) -> Result<String, Problem> {
    let name = path.display().to_string();
    let file = std::fs::File::open(path).map_err(|cause| {
        let hint = "`@` before a text means a file; write `-` and pipe a text that begins so";
        Problem::new(
            "no_such_file",
            3,
            format!("cannot read {name}: {cause}"),
            hint,
        )
    })?;
    read_all(file, &name)
}

fn read_all(from: impl Read, name: &str) -> Result<String, Problem> {
    let mut bytes = Vec::new();
    // Two more than fit, for a line end that is cut off.
    let most = u64::try_from(TEXT_BYTES_MAX + 3).unwrap_or(u64::MAX);
    from.take(most).read_to_end(&mut bytes).map_err(|cause| {
        Problem::new("unreadable", 1, format!("cannot read {name}: {cause}"), "")
    })?;
    if bytes.len() > TEXT_BYTES_MAX + 2 {
        return Err(oversize(&format!(
            "{name} has more than {TEXT_BYTES_MAX} bytes"
        )));
    }
    String::from_utf8(bytes).map_err(|fault| {
        let at = fault.utf8_error().valid_up_to();
        let message = format!("{name} is no UTF-8: the byte at {at} belongs to no character");
        Problem::new(
            "not_utf8",
            2,
            message,
            "memories are text; convert it with iconv",
        )
    })
}

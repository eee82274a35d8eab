//! File budgets: what keeps every file short enough to be read as an essay.
//!
//! Also what a page of documentation owes its reader: links that lead somewhere; and what an
//! `unsafe` block owes: to stand in a named file, under a `// SAFETY:` line.
//!
//! Not here: style that rustfmt and clippy hold.

use pulldown_cmark::{Event, Parser, Tag};

use crate::Violation;
use crate::sources::{ReadSources, Source};

/// The most lines that a Rust file may have.
pub const LINES_MAX: usize = 500;

/// Names that say nothing of what a file holds; `mod` hides it in a folder's name.
pub const NAMES_BANNED: &[&str] = &["util", "utils", "common", "helpers", "misc", "mod"];

/// The files that may hold `unsafe` code, each by a decision record.
pub const UNSAFE_FILES: &[&str] = &[
    "tests/src/wan/tun.rs",
    "wasm-agent/guest/src/abi.rs",
    "wasm-agent/kernel/size/src/lib.rs",
    "wasm-agent/runner/src/microvm/guest.rs",
    "wasm-agent/runner/src/stage/fork.rs",
];

/// How many lines above `unsafe` its `// SAFETY:` comment may start.
const SAFETY_LINES: usize = 6;

/// Files that are too long, do not open with `//!`, or have a banned name.
#[must_use]
pub fn budgets(sources: &[Source]) -> Vec<Violation> {
    let mut found = Vec::new();
    for source in sources {
        let mut broken = |rule: String| {
            found.push(Violation {
                path: source.path.clone(),
                line: 0,
                rule,
            });
        };
        let lines = source.text.lines().count();
        if lines > LINES_MAX {
            broken(format!(
                "has {lines} lines, over {LINES_MAX}: split it by nouns"
            ));
        }
        if !source.text.starts_with("//!") {
            broken("does not open with `//!`: say what, why, and what is not here".to_owned());
        }
        let parts = source.path.trim_end_matches(".rs").split('/');
        for part in parts.filter(|part| NAMES_BANNED.contains(part)) {
            broken(format!("is named {part}: name the noun"));
        }
    }
    found
}

/// `unsafe` outside `allowed` files, or inside them without a `// SAFETY:` comment.
///
/// # Errors
/// [`ReadSources::NotRust`] when a source does not lex.
pub fn unsafety(sources: &[Source], allowed: &[&str]) -> Result<Vec<Violation>, ReadSources> {
    let mut found = Vec::new();
    for source in sources {
        let lines: Vec<&str> = source.text.lines().collect();
        for name in source
            .names()?
            .iter()
            .filter(|name| name.segments == ["unsafe"])
        {
            let above = &lines[name.line.saturating_sub(SAFETY_LINES + 1)..name.line];
            let rule = if !allowed.contains(&source.path.as_str()) {
                "has unsafe code and is not in UNSAFE_FILES"
            } else if !above.iter().any(|line| line.contains("// SAFETY:")) {
                "has unsafe code without a `// SAFETY:` comment above it"
            } else {
                continue;
            };
            let path = source.path.clone();
            found.push(Violation {
                path,
                line: name.line,
                rule: rule.to_owned(),
            });
        }
    }
    Ok(found)
}

/// Links of Markdown `pages` to files for which `exists`, given a path relative to the root, says
/// no. Links to the web and within a page are not looked at.
pub fn broken_links(pages: &[Source], exists: impl Fn(&str) -> bool) -> Vec<Violation> {
    let mut found = Vec::new();
    for page in pages {
        let folder = page.path.rsplit_once('/').map_or("", |(folder, _)| folder);
        for (event, range) in Parser::new(&page.text).into_offset_iter() {
            let (Event::Start(Tag::Link { dest_url, .. })
            | Event::Start(Tag::Image { dest_url, .. })) = event
            else {
                continue;
            };
            let file = dest_url.split(['#', '?']).next().unwrap_or_default();
            if file.is_empty() || file.contains("://") || file.starts_with("mailto:") {
                continue;
            }
            let target = resolve(folder, file);
            if !target.as_ref().is_some_and(|target| exists(target)) {
                let line = page.text[..range.start].lines().count().max(1);
                let rule = format!("links to {dest_url}, which does not exist");
                found.push(Violation {
                    path: page.path.clone(),
                    line,
                    rule,
                });
            }
        }
    }
    found
}

/// `file`, as linked from `folder`, relative to the root; `None` when it leaves the repository.
fn resolve(folder: &str, file: &str) -> Option<String> {
    let from = if file.starts_with('/') { "" } else { folder };
    let mut parts: Vec<&str> = Vec::new();
    for part in from.split('/').chain(file.split('/')) {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

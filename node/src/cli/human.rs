//! How answers look to people: colours where they are wanted, columns that line up, short ids.
//!
//! `NO_COLOR` (no-color.org) wins over `CLICOLOR_FORCE`, which wins over what the terminal is.
//! Control characters of remembered text never reach the terminal: another agent wrote them.

use crate::api::{Coverage, Durable, Missing, NodeName};
use crate::moment;

/// Whether and how to paint.
#[derive(Clone, Copy, Debug)]
pub(super) struct Paint {
    on: bool,
}

impl Paint {
    /// For a stream that is a terminal, or is not.
    pub(super) fn of(is_terminal: bool) -> Self {
        let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let forced =
            set("CLICOLOR_FORCE") && std::env::var_os("CLICOLOR_FORCE") != Some("0".into());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self {
            on: !set("NO_COLOR") && (forced || (is_terminal && !dumb)),
        }
    }

    pub(super) fn dim(self, text: &str) -> String {
        self.wrap("2", text)
    }

    pub(super) fn bold(self, text: &str) -> String {
        self.wrap("1", text)
    }

    pub(super) fn good(self, text: &str) -> String {
        self.wrap("32", text)
    }

    pub(super) fn warn(self, text: &str) -> String {
        self.wrap("33", text)
    }

    pub(super) fn bad(self, text: &str) -> String {
        self.wrap("31", text)
    }

    fn wrap(self, code: &str, text: &str) -> String {
        if self.on {
            format!("\u{1b}[{code}m{text}\u{1b}[0m")
        } else {
            text.to_owned()
        }
    }
}

/// Rows under a heading, columns aligned; nothing for no rows.
pub(super) fn table(paint: Paint, heading: &[&str], rows: &[Vec<String>]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        let longest = cells.map(|cell| cell.chars().count()).max().unwrap_or(0);
        longest.max(heading[column].chars().count())
    };
    let widths: Vec<usize> = (0..heading.len()).map(width).collect();
    let line = |cells: &[String]| {
        let mut line = String::new();
        for (cell, width) in cells.iter().zip(&widths) {
            line += &format!("{cell:<width$}  ");
        }
        line.trim_end().to_owned()
    };
    let heading: Vec<String> = heading.iter().map(|name| name.to_uppercase()).collect();
    let mut out = paint.dim(&line(&heading));
    for row in rows {
        out.push('\n');
        out += &line(row);
    }
    out
}

/// The first characters of an id: enough to name it again. Of a peer id or a DID the last, since all
/// begin alike.
pub(super) fn short(id: &str) -> String {
    let count = id.chars().count();
    if id.starts_with("12D3") || id.starts_with("did:") || id.starts_with("Qm") {
        return id.chars().skip(count.saturating_sub(8)).collect();
    }
    id.chars().take(12).collect()
}

/// Text as a terminal may show it: no control characters but line ends and tabs.
pub(super) fn safe(text: &str) -> String {
    let shown = |c: char| {
        if c.is_control() && c != '\n' && c != '\t' {
            '\u{fffd}'
        } else {
            c
        }
    };
    text.chars().map(shown).collect()
}

/// Text as one line of at most `width` characters.
pub(super) fn one_line(text: &str, width: usize) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    let line = safe(&words.join(" "));
    if line.chars().count() <= width {
        return line;
    }
    let kept: String = line.chars().take(width.saturating_sub(1)).collect();
    format!("{kept}…")
}

/// `7/9 peers answered · 2 unreachable (us-west-1, …)`.
pub(super) fn coverage(coverage: &Coverage) -> String {
    let Coverage {
        asked,
        answered,
        missing,
    } = coverage;
    let mut text = format!("{answered}/{asked} nodes answered");
    if !missing.is_empty() {
        let silent =
            |one: &Missing| one.why.contains("not connected") || one.why.contains("in time");
        let word = if missing.iter().all(silent) {
            "unreachable"
        } else {
            "missing"
        };
        let names: Vec<NodeName> = missing.iter().map(|one| one.node.clone()).collect();
        text += &format!(" · {} {word} ({})", missing.len(), nodes(&names));
    }
    // A refusal is a rule, which whoever asks should read.
    for one in missing.iter().filter(|one| one.why.contains("refused")) {
        text += &format!(
            "\n{} {}: {}",
            one.node.region,
            short(&one.node.node),
            safe(&one.why)
        );
    }
    text
}

/// How durable a write is, or who is still to hold it.
pub(super) fn durable(durable: &Durable) -> String {
    let held = durable.holders.len();
    if durable.met {
        return format!(
            "durable: {} on {held} {}",
            durable.level,
            plural(held, "node")
        );
    }
    let nodes_held = plural(held, "node");
    let mut text = format!(
        "{} is not reached yet: on {held} {nodes_held}",
        durable.level
    );
    if !durable.missing.is_empty() {
        let count = durable.missing.len();
        text += &format!(", {count} to come ({})", nodes(&durable.missing));
    }
    text + "; it goes on spreading"
}

fn nodes(nodes: &[NodeName]) -> String {
    let shown = nodes
        .iter()
        .take(5)
        .map(|node| format!("{} {}", node.region, short(&node.node)));
    let mut names: Vec<String> = shown.collect();
    if nodes.len() > 5 {
        names.push("…".to_owned());
    }
    names.join(", ")
}

/// `word`, with an s unless it is one.
pub(super) fn plural(count: usize, word: &str) -> String {
    if count == 1 {
        word.to_owned()
    } else {
        format!("{word}s")
    }
}

/// Bytes in the largest binary unit of which there is one.
pub(super) fn bytes(count: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let mut size = count as f64 / 1024.0;
    let mut unit = 0;
    while size >= 1024.0 && unit + 1 < UNITS.len() {
        size /= 1024.0;
        unit += 1;
    }
    format!("{size:.1} {}", UNITS[unit])
}

/// How long ago, seen from now.
pub(super) fn ago(millis: u64) -> String {
    moment::relative(millis, crate::clock::wall().millis())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_end_without_blanks() {
        let rows = vec![
            vec!["a".into(), "x".into()],
            vec!["long".into(), "y".into()],
        ];
        let table = table(Paint { on: false }, &["n", "v"], &rows);
        assert_eq!(table, "N     V\na     x\nlong  y");
    }

    #[test]
    fn remembered_text_cannot_drive_the_terminal() {
        assert_eq!(safe("a\u{1b}[2Jb\nc\u{7}"), "a\u{fffd}[2Jb\nc\u{fffd}");
        assert_eq!(one_line("a\n  b\tc dddd", 7), "a b c …");
    }

    #[test]
    fn sizes_and_ids_are_short() {
        assert_eq!(bytes(512), "512 B");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(short("0123456789abcdef0123"), "0123456789ab");
        assert_eq!(short("12D3KooWabcdefgh12345678"), "12345678");
    }
}

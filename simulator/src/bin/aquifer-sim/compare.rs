//! Two reports beside each other: every number that differs, and by how much.

use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Why two reports cannot be compared.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Compare {
    /// There is none to read.
    #[error("read {}: {source}; give a folder that `run --out` wrote, or its summary.json", path.display())]
    Read {
        path: PathBuf,
        source: std::io::Error,
    },
    /// It is no report.
    #[error("{}: no report: {source}", path.display())]
    Parse {
        path: PathBuf,
        source: serde_json::Error,
    },
}

/// What differs between two reports: the number in each and what the second is of the first.
pub(crate) fn compare(a: &Path, b: &Path) -> Result<String, Compare> {
    let (a, b) = (read(a)?, read(b)?);
    let (mut first, mut second) = (BTreeMap::new(), BTreeMap::new());
    leaves("", &a, &mut first);
    leaves("", &b, &mut second);
    let mut text = String::new();
    let same = a["digest"] == b["digest"] && a["digest"].is_string();
    let said = if same {
        "the same run: one digest"
    } else {
        "two runs: their digests differ"
    };
    let _ = writeln!(text, "{said}");
    let mut keys: Vec<&String> = first.keys().chain(second.keys()).collect();
    keys.sort();
    keys.dedup();
    for key in keys {
        let (one, two) = (first.get(key), second.get(key));
        if one == two {
            continue;
        }
        let show = |number: Option<&f64>| number.map_or_else(|| "-".to_owned(), f64::to_string);
        let ratio = match (one, two) {
            (Some(one), Some(two)) if *one != 0.0 => format!("{:.3}", two / one),
            _ => "-".to_owned(),
        };
        let _ = writeln!(
            text,
            "{key:<34} {:>22} {:>22} {ratio:>9}",
            show(one),
            show(two)
        );
    }
    Ok(text)
}

fn read(path: &Path) -> Result<Value, Compare> {
    let path = match path.is_dir() {
        true => path.join("summary.json"),
        false => path.to_owned(),
    };
    let text = std::fs::read_to_string(&path).map_err(|source| Compare::Read {
        path: path.clone(),
        source,
    })?;
    serde_json::from_str(&text).map_err(|source| Compare::Parse { path, source })
}

/// All numbers of a value, by the way that leads to them.
fn leaves(way: &str, value: &Value, into: &mut BTreeMap<String, f64>) {
    let deeper = |key: &str| {
        if way.is_empty() {
            key.to_owned()
        } else {
            format!("{way}.{key}")
        }
    };
    match value {
        Value::Number(number) => {
            into.extend(number.as_f64().map(|number| (way.to_owned(), number)));
        }
        Value::Object(parts) => {
            parts
                .iter()
                .for_each(|(key, part)| leaves(&deeper(key), part, into));
        }
        Value::Array(parts) => {
            let parts = parts.iter().enumerate();
            parts.for_each(|(at, part)| leaves(&deeper(&at.to_string()), part, into));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_by_the_way_that_leads_to_them() {
        let value = serde_json::json!({ "a": 1, "b": { "c": [2.5, "x"] }, "d": null });
        let mut found = BTreeMap::new();
        leaves("", &value, &mut found);
        let expected = [("a".to_owned(), 1.0), ("b.c.0".to_owned(), 2.5)];
        assert_eq!(BTreeMap::from(expected), found);
    }
}

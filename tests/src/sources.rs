//! Rust files as text, and the names that their code mentions.
//!
//! Names are read from tokens, not from text: comments and strings are gone, `use a::{b, c::d}` is
//! spread into `a::b` and `a::c::d`, and the inside of a macro call is read like any code.
//!
//! Not here: name resolution. A renamed import (`use tokio as t`) is seen where it is imported, and
//! that is enough for a rule that asks whether a file names something at all.

use std::path::Path;
use std::str::FromStr;
use std::{fs, io};

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};

/// A text file of the repository.
#[derive(Clone, Debug)]
pub struct Source {
    /// Relative to the root of the repository, with `/` between folders.
    pub path: String,
    /// The whole file.
    pub text: String,
}

/// A path that code mentions, such as `std::fs::File`, or one identifier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// The identifiers of the path, in order; never empty.
    pub segments: Vec<String>,
    /// The line of the last identifier, counted from 1.
    pub line: usize,
    /// Whether it follows `use` or `extern crate`.
    pub imported: bool,
    /// Whether it stands in an item marked `#[cfg(test)]`.
    pub in_test: bool,
}

/// Why a repository's files could not be read as Rust.
#[derive(Debug, thiserror::Error)]
pub enum ReadSources {
    /// The file system refused.
    #[error("cannot read {path}")]
    Unreadable {
        /// The file or folder.
        path: String,
        /// What it said.
        #[source]
        source: io::Error,
    },
    /// The text is not made of Rust tokens.
    #[error("{path}:{line} is not Rust")]
    NotRust {
        /// The file.
        path: String,
        /// The line, counted from 1.
        line: usize,
    },
}

impl Source {
    /// A source from its path and text.
    #[must_use]
    pub fn new(path: &str, text: &str) -> Self {
        Self {
            path: path.to_owned(),
            text: text.to_owned(),
        }
    }

    /// Every name that the code mentions, in the order of the file.
    ///
    /// # Errors
    /// [`ReadSources::NotRust`] when the text does not lex.
    pub fn names(&self) -> Result<Vec<Name>, ReadSources> {
        let stream = TokenStream::from_str(&self.text).map_err(|error| ReadSources::NotRust {
            path: self.path.clone(),
            line: error.span().start().line,
        })?;
        let mut reader = Reader { names: Vec::new() };
        reader.code(stream, false);
        Ok(reader.names)
    }

    /// Whether this file is a test, a benchmark or an example as a whole.
    #[must_use]
    pub fn is_test(&self) -> bool {
        self.path
            .split('/')
            .any(|part| matches!(part, "tests" | "benches" | "examples"))
            || self.path.ends_with("/tests.rs")
    }
}

/// Every file of the repository at `root` whose name ends in `.` and `extension`, sorted by path.
/// Hidden folders and folders named `target` are passed over.
///
/// # Errors
/// [`ReadSources::Unreadable`] for the first folder or file that cannot be read as UTF-8 text.
pub fn read(root: &Path, extension: &str) -> Result<Vec<Source>, ReadSources> {
    let mut found = Vec::new();
    let mut folders = vec![String::new()];
    while let Some(folder) = folders.pop() {
        let unreadable = |source| ReadSources::Unreadable {
            path: folder.clone(),
            source,
        };
        for entry in fs::read_dir(root.join(&folder)).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = if folder.is_empty() {
                name.clone()
            } else {
                format!("{folder}/{name}")
            };
            let is_folder = entry.file_type().map_err(unreadable)?.is_dir();
            if is_folder && !name.starts_with('.') && name != "target" && name != "node_modules" {
                folders.push(path);
            } else if !is_folder
                && name
                    .rsplit_once('.')
                    .is_some_and(|(_, end)| end == extension)
            {
                let text = fs::read_to_string(root.join(&path)).map_err(|source| {
                    ReadSources::Unreadable {
                        path: path.clone(),
                        source,
                    }
                })?;
                found.push(Source { path, text });
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

struct Reader {
    names: Vec<Name>,
}

impl Reader {
    /// Reads ordinary code. An item after `#[cfg(test)]`, up to its body or its `;`, is test code.
    fn code(&mut self, stream: TokenStream, in_test: bool) {
        let tokens: Vec<TokenTree> = stream.into_iter().collect();
        let mut marked = false;
        let mut at = 0;
        while let Some(token) = tokens.get(at) {
            at = match token {
                TokenTree::Group(group) => {
                    if is_test_marker(group) {
                        marked = true;
                    }
                    self.code(group.stream(), in_test || marked);
                    marked &= group.delimiter() != Delimiter::Brace;
                    at + 1
                }
                TokenTree::Ident(_) => {
                    let imported = at.checked_sub(1).is_some_and(|before| {
                        is_ident(&tokens[before], "use") || is_ident(&tokens[before], "crate")
                    });
                    self.path(&tokens, at, &[], imported, in_test || marked)
                }
                TokenTree::Punct(punct) => {
                    marked &= punct.as_char() != ';';
                    at + 1
                }
                TokenTree::Literal(_) => at + 1,
            };
        }
    }

    /// Reads the path that starts at `at`, after `prefix`; returns where it ends.
    fn path(
        &mut self,
        tokens: &[TokenTree],
        mut at: usize,
        prefix: &[String],
        imported: bool,
        in_test: bool,
    ) -> usize {
        let mut segments = prefix.to_vec();
        let mut line = 0;
        while let Some(TokenTree::Ident(ident)) = tokens.get(at) {
            segments.push(ident.to_string());
            line = ident.span().end().line;
            at += 1;
            if !is_separator(tokens, at) {
                break;
            }
            if let Some(TokenTree::Group(group)) = tokens.get(at + 2)
                && group.delimiter() == Delimiter::Brace
            {
                self.import_list(group, &segments, in_test);
                at += 3;
                break;
            }
            at += 2;
        }
        self.names.push(Name {
            segments,
            line,
            imported,
            in_test,
        });
        at
    }

    /// Reads the inside of `prefix::{ … }`.
    fn import_list(&mut self, group: &Group, prefix: &[String], in_test: bool) {
        let tokens: Vec<TokenTree> = group.stream().into_iter().collect();
        let mut at = 0;
        while let Some(token) = tokens.get(at) {
            let renamed = at
                .checked_sub(1)
                .is_some_and(|before| is_ident(&tokens[before], "as"));
            at = match token {
                TokenTree::Ident(ident) if ident != "as" && !renamed => {
                    self.path(&tokens, at, prefix, true, in_test)
                }
                _ => at + 1,
            };
        }
    }
}

fn is_ident(token: &TokenTree, word: &str) -> bool {
    matches!(token, TokenTree::Ident(ident) if ident == word)
}

fn is_separator(tokens: &[TokenTree], at: usize) -> bool {
    [at, at + 1].iter().all(
        |&at| matches!(tokens.get(at), Some(TokenTree::Punct(punct)) if punct.as_char() == ':'),
    )
}

fn is_test_marker(group: &Group) -> bool {
    let inside = group.stream().to_string().replace(' ', "");
    group.delimiter() == Delimiter::Bracket
        && (inside == "cfg(test)" || inside.starts_with("cfg(all(test"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Vec<String> {
        let names = Source::new("a.rs", text).names().unwrap();
        names.iter().map(|name| name.segments.join("::")).collect()
    }

    #[test]
    fn comments_and_strings_name_nothing() {
        assert_eq!(
            names("// tokio::spawn\n/* libp2p */ const A: &str = \"redb::x\";"),
            ["const", "A", "str"]
        );
    }

    #[test]
    fn an_import_list_is_spread_into_whole_paths() {
        let names = names("use std::{fs::{self, File as F}, net};");
        for path in ["std::fs::self", "std::fs::File", "std::net"] {
            assert!(
                names.iter().any(|name| name == path),
                "{path} is not in {names:?}"
            );
        }
        assert!(!names.iter().any(|name| name.ends_with("::F")), "{names:?}");
    }

    #[test]
    fn the_inside_of_a_macro_is_read() {
        assert!(
            names("fn f() { select! { x = tokio::time::sleep(d) => {} } }")
                .contains(&"tokio::time::sleep".to_owned())
        );
    }

    #[test]
    fn only_the_item_under_the_test_marker_is_test_code() {
        let text = "#[cfg(test)]\nmod tests { fn f() { Inside } }\nfn g() { Outside }";
        let names = Source::new("a.rs", text).names().unwrap();
        let find = |word: &str| names.iter().find(|name| name.segments == [word]).unwrap();
        assert!(find("Inside").in_test);
        assert!(!find("Outside").in_test);
        assert_eq!(find("Outside").line, 3);
    }

    #[test]
    fn text_that_is_not_rust_is_an_error_with_its_line() {
        let error = Source::new("a.rs", "fn f() {\n").names().unwrap_err();
        assert!(matches!(error, ReadSources::NotRust { .. }), "{error}");
    }
}

//! What tests over the whole of Aquifer share: a reader of the repository as text.
//!
//! The rules of the architecture and of the supply chain are pure functions from sources,
//! manifests and a lock file to [`Violation`]s, so that each can be fed a planted violation and
//! be seen to catch it. The tests that apply them to this repository, and the planted violations,
//! are in `tests/architecture.rs` and `tests/advisories.rs`.
//!
//! Reading order: [`sources`] (files, and the names that their code mentions), [`absences`] (what
//! no file of some folder may name), [`readable`] (file budgets and links), [`manifests`]
//! (dependency arrows), [`advisories`] (the lock file against known holes).
//!
//! What runs Aquifer: [`fleet`] (real nodes in this process, on loopback), [`machine`] (a node in a
//! process of its own, so that it can be killed and its system calls made to fail), [`device`] (devices at
//! the edge, as processes), [`crowd`] (many processes on loopback, and what they cost), [`models`] (a
//! model in a crowd), [`works`] (nodes that run tasks, as processes), [`live`] (bare meshes of real nodes beside what the simulator says of them) and [`wan`] (real nodes in network namespaces, with an
//! emulated WAN between them).
//!
//! Nothing in the workspace depends on this package.

pub mod absences;
pub mod advisories;
pub mod crowd;
pub mod device;
pub mod faulty;
pub mod fleet;
pub mod live;
pub mod machine;
pub mod manifests;
pub mod models;
pub mod readable;
pub mod sources;
pub mod troupe;
pub mod wan;
pub mod works;

use std::fmt;
use std::path::PathBuf;

/// One place where the repository breaks one of its rules.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Violation {
    /// The file, relative to the root of the repository, with `/` between folders.
    pub path: String,
    /// The line, counted from 1; 0 where the violation is of the file as a whole.
    pub line: usize,
    /// The rule, in words, with what was found.
    pub rule: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.path, self.rule),
            line => write!(f, "{}:{line}: {}", self.path, self.rule),
        }
    }
}

/// The root of the repository that this package was built in.
#[must_use]
pub fn repository() -> PathBuf {
    let package = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    package
        .parent()
        .expect("this package is a folder of the repository")
        .to_path_buf()
}

/// Panics with every violation on its own line, if there are any.
///
/// # Panics
/// When `violations` is not empty.
#[track_caller]
pub fn assert_none(violations: &[Violation]) {
    let lines: Vec<String> = violations.iter().map(ToString::to_string).collect();
    assert!(
        lines.is_empty(),
        "{} violations:\n{}",
        lines.len(),
        lines.join("\n")
    );
}

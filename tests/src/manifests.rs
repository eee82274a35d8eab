//! The packages of the workspace, as their `Cargo.toml` files tell: which depends on which.
//!
//! Not here: features and versions, which Cargo and cargo-deny hold.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::{fs, io};

use toml::{Table, Value};

use crate::Violation;

/// One package's `Cargo.toml`.
#[derive(Clone, Debug)]
pub struct Manifest {
    /// Relative to the root of the repository: `protocol/Cargo.toml`.
    pub path: String,
    /// The file, parsed.
    pub table: Table,
}

/// Why the workspace's manifests could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadManifests {
    /// The file system refused.
    #[error("cannot read {path}")]
    Unreadable {
        /// The manifest.
        path: String,
        /// What it said.
        #[source]
        source: io::Error,
    },
    /// Not TOML.
    #[error("{path} is not TOML")]
    NotToml {
        /// The manifest.
        path: String,
        /// What the parser said.
        #[source]
        source: Box<toml::de::Error>,
    },
    /// The root manifest names no members.
    #[error("Cargo.toml names no workspace members")]
    NoMembers,
}

/// For each package of ours, the packages of ours that it depends on: no more, and no fewer.
pub const ARROWS: &[(&str, &[&str])] = &[
    ("aquifer-protocol", &[]),
    ("aquifer-crdt", &["aquifer-protocol"]),
    ("aquifer-simulator", &["aquifer-protocol"]),
    (
        "aquifer-node",
        &[
            "aquifer-crdt",
            "aquifer-protocol",
            "aquifer-runner",
            "aquifer-wasm",
        ],
    ),
    ("aquifer-guest", &[]),
    ("aquifer-kernel", &[]),
    ("aquifer-wasm", &["aquifer-kernel", "aquifer-protocol"]),
    ("aquifer-edge", &["aquifer-protocol", "aquifer-wasm"]),
    ("aquifer-runner", &["aquifer-protocol"]),
];

/// The package that may see every other, and that no other may see.
pub const SEES_ALL: &str = "aquifer-tests";

/// Packages, and the foreign crates (with all those named after them) that they never depend on,
/// not even in their tests.
pub const FOREIGN: &[(&str, &[&str])] = &[
    (
        "aquifer-protocol",
        &[
            "tokio",
            "futures",
            "libp2p",
            "redb",
            "sled",
            "wasmtime",
            "getrandom",
        ],
    ),
    (
        "aquifer-crdt",
        &[
            "tokio",
            "futures",
            "libp2p",
            "redb",
            "sled",
            "wasmtime",
            "getrandom",
        ],
    ),
    (
        "aquifer-simulator",
        &["tokio", "libp2p", "redb", "sled", "getrandom"],
    ),
];

/// The manifests of every member of the workspace at `root`, in the order of its list.
///
/// # Errors
/// [`ReadManifests`], naming the first manifest that cannot be read.
pub fn read(root: &Path) -> Result<Vec<Manifest>, ReadManifests> {
    let workspace = parse(root, "Cargo.toml")?;
    let members = workspace
        .table
        .get("workspace")
        .and_then(|table| table.get("members"));
    let members = members
        .and_then(Value::as_array)
        .ok_or(ReadManifests::NoMembers)?;
    members
        .iter()
        .filter_map(Value::as_str)
        .map(|member| parse(root, &format!("{member}/Cargo.toml")))
        .collect()
}

fn parse(root: &Path, path: &str) -> Result<Manifest, ReadManifests> {
    let text = fs::read_to_string(root.join(path)).map_err(|source| ReadManifests::Unreadable {
        path: path.to_owned(),
        source,
    })?;
    Manifest::new(path, &text)
}

impl Manifest {
    /// A manifest from its path and text.
    ///
    /// # Errors
    /// [`ReadManifests::NotToml`].
    pub fn new(path: &str, text: &str) -> Result<Self, ReadManifests> {
        let table = text.parse().map_err(|source| ReadManifests::NotToml {
            path: path.to_owned(),
            source: Box::new(source),
        })?;
        Ok(Self {
            path: path.to_owned(),
            table,
        })
    }

    /// The name of the package, or nothing where it has none.
    #[must_use]
    pub fn name(&self) -> &str {
        let package = self
            .table
            .get("package")
            .and_then(|table| table.get("name"));
        package.and_then(Value::as_str).unwrap_or_default()
    }

    /// The packages that it depends on, under their own names, in any section of any target;
    /// the flag says whether only its tests do.
    fn dependencies(&self) -> BTreeMap<String, bool> {
        let targets = self
            .table
            .get("target")
            .and_then(Value::as_table)
            .into_iter()
            .flatten();
        let tables = targets
            .filter_map(|(_, target)| target.as_table())
            .chain([&self.table]);
        let mut found = BTreeMap::new();
        for table in tables {
            for section in ["dependencies", "build-dependencies", "dev-dependencies"] {
                let listed = table
                    .get(section)
                    .and_then(Value::as_table)
                    .into_iter()
                    .flatten();
                for (key, value) in listed {
                    let renamed = value.get("package").and_then(Value::as_str);
                    let only_tests = found
                        .entry(renamed.unwrap_or(key).to_owned())
                        .or_insert(true);
                    *only_tests &= section == "dev-dependencies";
                }
            }
        }
        found
    }

    fn violation(&self, rule: String) -> Violation {
        Violation {
            path: self.path.clone(),
            line: 0,
            rule,
        }
    }
}

/// Edges between our packages that `arrows` does not draw, and arrows that no edge follows.
#[must_use]
pub fn arrows(arrows: &[(&str, &[&str])], manifests: &[Manifest]) -> Vec<Violation> {
    let ours: BTreeSet<&str> = manifests.iter().map(Manifest::name).collect();
    let mut found = Vec::new();
    for manifest in manifests
        .iter()
        .filter(|manifest| manifest.name() != SEES_ALL)
    {
        let Some((_, drawn)) = arrows.iter().find(|(name, _)| *name == manifest.name()) else {
            found.push(manifest.violation("has no row in the table of arrows".to_owned()));
            continue;
        };
        let dependencies = manifest.dependencies();
        for name in dependencies
            .keys()
            .filter(|name| ours.contains(name.as_str()))
        {
            if !drawn.contains(&name.as_str()) {
                found.push(manifest.violation(format!("depends on {name}: no arrow goes there")));
            }
        }
        for name in *drawn {
            if dependencies.get(*name).is_none_or(|only_tests| *only_tests) {
                found.push(manifest.violation(format!("does not depend on {name}: an arrow does")));
            }
        }
    }
    found
}

/// Dependencies on crates that `foreign` keeps out of a package.
#[must_use]
pub fn foreign(foreign: &[(&str, &[&str])], manifests: &[Manifest]) -> Vec<Violation> {
    let mut found = Vec::new();
    for manifest in manifests {
        let banned = foreign.iter().filter(|(name, _)| *name == manifest.name());
        for word in banned.flat_map(|(_, words)| *words) {
            let family = format!("{word}-");
            for name in manifest.dependencies().keys() {
                if name == word || name.starts_with(&family) {
                    found.push(manifest.violation(format!("depends on {name}")));
                }
            }
        }
    }
    found
}

/// Packages that do not take their licence and their lints from the workspace.
#[must_use]
pub fn inherited(manifests: &[Manifest]) -> Vec<Violation> {
    let inherits = |value: Option<&Value>| {
        value
            .and_then(|value| value.get("workspace"))
            .and_then(Value::as_bool)
            == Some(true)
    };
    let mut found = Vec::new();
    for manifest in manifests {
        let package = manifest.table.get("package").and_then(Value::as_table);
        if !inherits(package.and_then(|package| package.get("license"))) {
            found.push(manifest.violation("lacks `license.workspace = true`".to_owned()));
        }
        if !inherits(manifest.table.get("lints")) {
            found.push(manifest.violation("lacks `[lints] workspace = true`".to_owned()));
        }
    }
    found
}

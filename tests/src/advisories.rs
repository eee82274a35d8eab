//! The lock file against known holes, without a network.
//!
//! Three sources are laid over `Cargo.lock`: the floors of our own (`tests/floors.toml`), the crates
//! that we ban (same file), and a snapshot of the RustSec database (`tests/advisories.json`).
//! cargo-deny asks the live database where it can be reached; this check is what stands where it
//! cannot, and it is as old as the snapshot says.
//!
//! Not here: crates that are only unmaintained; the snapshot leaves them out.

use std::collections::BTreeMap;

use semver::{Version, VersionReq};
use serde::Deserialize;

/// `Cargo.lock`, as far as this check reads it.
#[derive(Clone, Debug, Deserialize)]
pub struct Lock {
    /// Every package that any build of the workspace can use.
    pub package: Vec<Locked>,
}

/// One package of the lock file.
#[derive(Clone, Debug, Deserialize)]
pub struct Locked {
    /// The crate.
    pub name: String,
    /// Its exact version.
    pub version: Version,
    /// Where it comes from; absent for the workspace's own.
    pub source: Option<String>,
}

/// `tests/floors.toml`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Floors {
    /// The day that the floors were looked up, as YYYY-MM-DD.
    pub as_of: String,
    /// Versions below which a crate is unsafe.
    #[serde(default)]
    pub floor: Vec<Floor>,
    /// Crates that are never used.
    #[serde(default)]
    pub banned: Vec<Banned>,
    /// Advisories that we live with, each for a reason.
    #[serde(default)]
    pub accepted: Vec<Accepted>,
}

/// One crate's floor.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Floor {
    /// The crate.
    #[serde(rename = "crate")]
    pub name: String,
    /// A version is safe when it matches one of these.
    pub safe: Vec<VersionReq>,
    /// The advisories behind the floor.
    pub ids: Vec<String>,
    /// What goes wrong below it.
    pub why: String,
}

/// A crate that is never used.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Banned {
    /// The crate.
    #[serde(rename = "crate")]
    pub name: String,
    /// Why, and what to use.
    pub why: String,
}

/// An advisory that we live with.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Accepted {
    /// The crate.
    #[serde(rename = "crate")]
    pub name: String,
    /// The advisory, as the snapshot names it.
    pub id: String,
    /// Why it cannot hurt us.
    pub why: String,
}

/// `tests/advisories.json`: the snapshot.
#[derive(Clone, Debug, Deserialize)]
pub struct Snapshot {
    /// The day of the snapshot, as YYYY-MM-DD.
    pub as_of: String,
    /// By crate.
    pub crates: BTreeMap<String, Vec<Advisory>>,
}

/// One advisory of the snapshot.
#[derive(Clone, Debug, Deserialize)]
pub struct Advisory {
    /// `RUSTSEC-YYYY-NNNN`.
    pub id: String,
    /// Versions with the fix.
    pub patched: Vec<VersionReq>,
    /// Versions that never had the hole.
    #[serde(default)]
    pub unaffected: Vec<VersionReq>,
}

/// A hole in what the lock file names, or an acceptance that excuses nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Hole {
    /// A locked version is below a floor of our own.
    #[error("{name} {version} is below the floor {safe}: {ids}: {why}")]
    BelowFloor {
        /// The crate.
        name: String,
        /// The locked version.
        version: Version,
        /// What would be safe.
        safe: String,
        /// The advisories.
        ids: String,
        /// What goes wrong.
        why: String,
    },
    /// An advisory of the snapshot names a locked version.
    #[error("{name} {version} has {id}: safe is {safe}")]
    Vulnerable {
        /// The crate.
        name: String,
        /// The locked version.
        version: Version,
        /// The advisory.
        id: String,
        /// What would be safe.
        safe: String,
    },
    /// A banned crate is in the tree.
    #[error("{name} {version} is banned: {why}")]
    Banned {
        /// The crate.
        name: String,
        /// The locked version.
        version: Version,
        /// Why, and what to use.
        why: String,
    },
    /// An acceptance matches no hole that the lock file has.
    #[error("{id} of {name} is accepted but excuses nothing: remove the entry")]
    StaleAcceptance {
        /// The crate.
        name: String,
        /// The advisory.
        id: String,
    },
}

/// Every hole that `floors` and `snapshot` know in `lock`.
#[must_use]
pub fn check(lock: &Lock, floors: &Floors, snapshot: &Snapshot) -> Vec<Hole> {
    let mut holes = Vec::new();
    let mut excused = Vec::new();
    for Locked { name, version, .. } in lock.package.iter().filter(|locked| locked.source.is_some())
    {
        for floor in floors.floor.iter().filter(|floor| floor.name == *name) {
            if !any_matches(&floor.safe, version) {
                holes.push(Hole::BelowFloor {
                    name: name.clone(),
                    version: version.clone(),
                    safe: spell(&floor.safe),
                    ids: floor.ids.join(", "),
                    why: floor.why.clone(),
                });
            }
        }
        for banned in floors.banned.iter().filter(|banned| banned.name == *name) {
            holes.push(Hole::Banned {
                name: name.clone(),
                version: version.clone(),
                why: banned.why.clone(),
            });
        }
        for advisory in snapshot.crates.get(name).into_iter().flatten() {
            if any_matches(&advisory.patched, version) || any_matches(&advisory.unaffected, version)
            {
                continue;
            }
            let accepts = |entry: &&Accepted| entry.name == *name && entry.id == advisory.id;
            if floors.accepted.iter().any(|entry| accepts(&entry)) {
                excused.push((name.as_str(), advisory.id.as_str()));
                continue;
            }
            holes.push(Hole::Vulnerable {
                name: name.clone(),
                version: version.clone(),
                id: advisory.id.clone(),
                safe: spell(&advisory.patched),
            });
        }
    }
    let is_stale = |entry: &&Accepted| !excused.contains(&(entry.name.as_str(), entry.id.as_str()));
    holes.extend(
        floors
            .accepted
            .iter()
            .filter(is_stale)
            .map(|entry| Hole::StaleAcceptance {
                name: entry.name.clone(),
                id: entry.id.clone(),
            }),
    );
    holes
}

fn spell(requirements: &[VersionReq]) -> String {
    if requirements.is_empty() {
        return "no version".to_owned();
    }
    requirements
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(" or ")
}

/// Whether `version` matches one of `requirements`, with pre-releases ordered among releases.
///
/// Cargo's matching shuts a pre-release out of `>= 0.3` altogether; an advisory means it.
fn any_matches(requirements: &[VersionReq], version: &Version) -> bool {
    let ordered = just_below(version);
    requirements.iter().any(|requirement| {
        requirement.matches(version)
            || ordered
                .as_ref()
                .is_some_and(|ordered| requirement.matches(ordered))
    })
}

/// For a pre-release, a release that stands in the same place among all releases.
fn just_below(version: &Version) -> Option<Version> {
    let Version {
        major,
        minor,
        patch,
        ..
    } = *version;
    match (version.pre.is_empty(), major, minor, patch) {
        (true, ..) | (false, 0, 0, 0) => None,
        (false, major, 0, 0) => Some(Version::new(major - 1, u64::MAX, u64::MAX)),
        (false, major, minor, 0) => Some(Version::new(major, minor - 1, u64::MAX)),
        (false, major, minor, patch) => Some(Version::new(major, minor, patch - 1)),
    }
}

//! What no file of some folder may name: the architecture, written as absences.
//!
//! An [`Absence`] says that a crate or a path is not mentioned in the code of some folders, but for
//! the files that are its one door. [`ABSENCES`] is the whole list; a new door is a new line there,
//! and a reviewer reads it.
//!
//! Not here: dependency arrows between packages, which are the manifests' matter.

use crate::Violation;
use crate::sources::{Name, ReadSources, Source};

/// Something that code can mention.
#[derive(Clone, Copy, Debug)]
pub enum What {
    /// A crate and the crates named after it: `Crate("libp2p")` is also `libp2p_stream`.
    Crate(&'static str),
    /// One identifier, or some in a row, anywhere in a path: `std::fs`, `Instant::now`, `HashMap`.
    Path(&'static str),
}

/// A rule: `what` is not named in `within`, except in the files of `except`.
#[derive(Clone, Copy, Debug)]
pub struct Absence {
    /// What is absent.
    pub what: &'static [What],
    /// Beginnings of paths that the rule holds for.
    pub within: &'static [&'static str],
    /// Beginnings of paths, or ends of paths after a `*`, where it does not hold.
    pub except: &'static [&'static str],
    /// Whether it holds in test code too.
    pub in_tests: bool,
    /// Why.
    pub why: &'static str,
}

use What::{Crate, Path};

const CORE: &[&str] = &["protocol/", "crdt/"];
const CORE_TESTS: &[&str] = &[
    "protocol/tests/",
    "protocol/benches/",
    "crdt/tests/",
    "crdt/benches/",
];

/// Every absence that this repository promises.
pub const ABSENCES: &[Absence] = &[
    Absence {
        what: &[
            Crate("tokio"),
            Crate("futures"),
            Crate("libp2p"),
            Crate("redb"),
            Crate("sled"),
            Crate("wasmtime"),
        ],
        within: CORE,
        except: &[],
        in_tests: true,
        why: "the core is sans-IO: a driver runs it",
    },
    Absence {
        what: &[Path("std::net"), Path("std::fs"), Path("std::thread")],
        within: CORE,
        except: CORE_TESTS,
        in_tests: true,
        why: "the core is sans-IO: a driver runs it",
    },
    Absence {
        what: &[Path("Instant"), Path("SystemTime")],
        within: CORE,
        except: CORE_TESTS,
        in_tests: true,
        why: "time is an argument",
    },
    Absence {
        what: &[
            Path("thread_rng"),
            Path("OsRng"),
            Path("SysRng"),
            Path("getrandom"),
            Path("rand::rng"),
            Path("rand::random"),
        ],
        within: &["protocol/", "crdt/", "simulator/"],
        except: &[],
        in_tests: true,
        why: "chance is an argument",
    },
    Absence {
        what: &[Path("HashMap"), Path("HashSet")],
        within: &["protocol/", "crdt/", "simulator/"],
        except: CORE_TESTS,
        in_tests: true,
        why: "iteration order must be reproducible: BTreeMap, BTreeSet",
    },
    Absence {
        what: &[
            Crate("tokio"),
            Crate("libp2p"),
            Crate("redb"),
            Crate("sled"),
            Crate("aquifer_node"),
        ],
        within: &["simulator/"],
        except: &[],
        in_tests: true,
        why: "the simulator is the other driver: it runs the core and nothing of the node",
    },
    Absence {
        what: &[
            Path("std::thread"),
            Path("std::fs"),
            Path("Instant"),
            Path("SystemTime"),
        ],
        within: &["simulator/src/"],
        except: &["simulator/src/bin", "simulator/src/parallel"],
        in_tests: true,
        why: "threads, files and the wall clock are for the binary and the parallel driver",
    },
    Absence {
        what: &[Crate("libp2p")],
        within: &[""],
        except: &["node/src/net.rs", "node/src/net/"],
        in_tests: true,
        why: "libp2p has one door: node/src/net",
    },
    Absence {
        what: &[Crate("quinn")],
        within: &[""],
        except: &[
            "wasm-agent/edge/src/link.rs",
            "wasm-agent/edge/src/link/",
            "node/src/net/tests/",
        ],
        in_tests: true,
        why: "a device's link has one door: wasm-agent/edge/src/link",
    },
    Absence {
        what: &[Path("Instant"), Path("SystemTime"), Path("getrandom")],
        within: &["wasm-agent/edge/src/"],
        except: &["wasm-agent/edge/src/clock.rs"],
        in_tests: true,
        why: "a device reads the clock and draws in one file",
    },
    Absence {
        what: &[Crate("redb"), Crate("sled")],
        within: &[""],
        except: &["node/src/store.rs", "node/src/store/"],
        in_tests: true,
        why: "the store engine has one door: node/src/store",
    },
    Absence {
        what: &[Crate("axum"), Crate("rmcp")],
        within: &[""],
        except: &["node/src/surface.rs", "node/src/surface/"],
        in_tests: true,
        why: "HTTP and MCP have one door: node/src/surface",
    },
    Absence {
        what: &[Crate("wasmtime")],
        within: &[""],
        except: &["wasm-agent/host/"],
        in_tests: true,
        why: "wasmtime has one door: wasm-agent/host",
    },
    Absence {
        what: &[Crate("anyhow")],
        within: &[""],
        except: &["*/main.rs"],
        in_tests: false,
        why: "an error names its operation; anyhow is for main.rs and tests",
    },
    Absence {
        what: &[
            Path("SystemTime"),
            Path("Instant::now"),
            Path("getrandom"),
            Path("OsRng"),
            Path("SysRng"),
            Path("thread_rng"),
        ],
        within: &["node/src/"],
        except: &["node/src/clock.rs", "node/src/net.rs", "node/src/net/"],
        in_tests: false,
        why: "the clock and the entropy of the system are read in node/src/clock.rs",
    },
    Absence {
        what: &[Path("unbounded_channel")],
        within: &[""],
        except: &[],
        in_tests: true,
        why: "every queue is bounded",
    },
];

/// Every mention in `sources` that one of `absences` forbids.
///
/// # Errors
/// [`ReadSources::NotRust`] when a source does not lex.
pub fn check(absences: &[Absence], sources: &[Source]) -> Result<Vec<Violation>, ReadSources> {
    let mut found = Vec::new();
    for source in sources {
        let rules: Vec<&Absence> = absences.iter().filter(|rule| rule.covers(source)).collect();
        if rules.is_empty() {
            continue;
        }
        for name in source.names()? {
            for rule in rules.iter().filter(|rule| rule.in_tests || !name.in_test) {
                found.extend(
                    rule.what
                        .iter()
                        .filter(|what| what.is(&name))
                        .map(|_| Violation {
                            path: source.path.clone(),
                            line: name.line,
                            rule: format!("names {}: {}", name.segments.join("::"), rule.why),
                        }),
                );
            }
        }
    }
    Ok(found)
}

impl Absence {
    fn covers(&self, source: &Source) -> bool {
        let is_under = |place: &&str| match place.strip_prefix('*') {
            Some(end) => source.path.ends_with(end),
            None => source.path.starts_with(*place),
        };
        self.within.iter().any(is_under)
            && !self.except.iter().any(is_under)
            && (self.in_tests || !source.is_test())
    }
}

impl What {
    fn is(&self, name: &Name) -> bool {
        match self {
            Crate(word) => {
                let first = &name.segments[0];
                let family = first
                    .strip_prefix(word)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('_'));
                family && (name.imported || name.segments.len() > 1)
            }
            Path(path) => {
                let words: Vec<&str> = path.split("::").collect();
                name.segments
                    .windows(words.len())
                    .any(|window| window == words)
            }
        }
    }
}

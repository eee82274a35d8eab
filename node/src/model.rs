//! A model's manifest: what a topic says of a blob that is a model.
//!
//! A manifest is a memory with the tag [`TAG`] and entries called `model.…`, and no record kind of its
//! own. So it is signed, revised, merged, erased, retained, found by search and asked of other nodes
//! exactly as any memory is, by every version of the software, and the law of its topic is asked
//! wherever it already was. It is read at this door and is a type inside.
//!
//! Not here: the blob (`blob`), where manifests are found (`memory/models`).

use crate::api::Problem;
use crate::blob::{BLOB_BYTES_MAX, BlobHash};
use aquifer_protocol::limits::{METADATA_VALUE_BYTES_MAX, REGIONS_PER_RULE_MAX};
use aquifer_protocol::{Region, Regions};
use std::collections::BTreeMap;
use std::fmt;

/// The tag of every manifest.
pub const TAG: &str = "aquifer:model";
/// The topic that models are in if none is named.
pub const DEFAULT_TOPIC: &str = "models";
/// The longest name, and the longest tag, in bytes.
pub const NAME_BYTES_MAX: usize = 64;
/// The longest purpose, in bytes.
pub const PURPOSE_BYTES_MAX: usize = 4 << 10;
const TAG_DEFAULT: &str = "latest";

/// What a model is called in its topic: `NAME:TAG`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ModelName {
    /// Which model.
    pub name: String,
    /// Which of its variants; `latest` if nothing is said.
    pub tag: String,
}

/// What a topic says of a blob that is a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// What it is called.
    pub name: ModelName,
    /// Its content.
    pub blob: BlobHash,
    /// Its length, in bytes.
    pub bytes: u64,
    /// Its licence: an SPDX expression or a word; empty if nothing is said.
    pub licence: String,
    /// What it is for; empty if nothing is said.
    pub purpose: String,
    /// Bytes of GPU memory it needs.
    pub gpu_bytes: u64,
    /// Bytes of main memory it needs.
    pub ram_bytes: u64,
    /// Regions its content may be in, where they are fewer than its topic's.
    pub regions: Regions,
}

/// Why a memory is no manifest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenManifest {
    /// An entry is missing or says nothing that can be read.
    #[error("its entry `{entry}` is missing or cannot be read")]
    Entry {
        /// Which.
        entry: &'static str,
    },
    /// An entry is longer than allowed.
    #[error("its {entry} is longer than {max} bytes")]
    TooLong {
        /// Which.
        entry: &'static str,
        /// The limit.
        max: usize,
    },
}

impl ModelName {
    /// Reads `NAME` or `NAME:TAG`.
    ///
    /// # Errors
    /// `bad_model_name` (exit 2) for what is none.
    pub fn read(text: &str) -> Result<Self, Problem> {
        let (name, tag) = text.split_once(':').unwrap_or((text, TAG_DEFAULT));
        if is_word(name) && is_word(tag) {
            return Ok(Self {
                name: name.to_owned(),
                tag: tag.to_owned(),
            });
        }
        let message = format!("`{text}` is not the name of a model");
        let hint = "write NAME or NAME:TAG with letters, digits, `.`, `_` and `-`: llama-3-8b:q4";
        Err(Problem::new("bad_model_name", 2, message, hint))
    }
}

impl fmt::Display for ModelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.name, self.tag)
    }
}

fn is_word(text: &str) -> bool {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    !text.is_empty() && text.len() <= NAME_BYTES_MAX && text.chars().all(legal)
}

impl Manifest {
    /// The text of the memory that it is: its name, and what it is for.
    pub fn text(&self) -> String {
        match self.purpose.as_str() {
            "" => self.name.to_string(),
            purpose => format!("{}\n{purpose}", self.name),
        }
    }

    /// The entries of the memory that it is.
    pub fn metadata(&self) -> BTreeMap<String, String> {
        let mut entries: BTreeMap<String, String> = [
            ("model.name", self.name.name.clone()),
            ("model.tag", self.name.tag.clone()),
            ("model.blob", self.blob.to_string()),
            ("model.bytes", self.bytes.to_string()),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .into();
        let mut add = |key: &str, value: String| entries.insert(key.to_owned(), value);
        if !self.licence.is_empty() {
            add("model.licence", self.licence.clone());
        }
        if self.gpu_bytes > 0 {
            add("model.gpu_bytes", self.gpu_bytes.to_string());
        }
        if self.ram_bytes > 0 {
            add("model.ram_bytes", self.ram_bytes.to_string());
        }
        if let Regions::Only(regions) = &self.regions {
            let names: Vec<&str> = regions.iter().map(Region::as_str).collect();
            add("model.regions", names.join(","));
        }
        entries
    }

    /// Reads the manifest that a memory is.
    ///
    /// # Errors
    /// [`OpenManifest`]. Regions that cannot be read refuse it: what is not known is denied.
    pub fn open(text: &str, entries: &BTreeMap<String, String>) -> Result<Self, OpenManifest> {
        let entry = |key: &str| entries.get(key).map(String::as_str);
        let word = |key: &'static str| {
            let found = entry(key).filter(|word| is_word(word));
            found
                .map(str::to_owned)
                .ok_or(OpenManifest::Entry { entry: key })
        };
        let number = |key: &'static str| match entry(key) {
            None => Ok(0),
            Some(digits) => digits
                .parse()
                .map_err(|_| OpenManifest::Entry { entry: key }),
        };
        let manifest = Self {
            name: ModelName {
                name: word("model.name")?,
                tag: word("model.tag")?,
            },
            blob: entry("model.blob")
                .and_then(BlobHash::parse)
                .ok_or(OpenManifest::Entry {
                    entry: "model.blob",
                })?,
            bytes: entry("model.bytes")
                .and_then(|digits| digits.parse().ok())
                .filter(|bytes| *bytes <= BLOB_BYTES_MAX)
                .ok_or(OpenManifest::Entry {
                    entry: "model.bytes",
                })?,
            licence: entry("model.licence").unwrap_or_default().to_owned(),
            purpose: text
                .split_once('\n')
                .map_or("", |(_, after)| after)
                .to_owned(),
            gpu_bytes: number("model.gpu_bytes")?,
            ram_bytes: number("model.ram_bytes")?,
            regions: regions_of(entry("model.regions"))?,
        };
        manifest.check()?;
        Ok(manifest)
    }

    /// Whether every part is within its limit, so that it can be written.
    ///
    /// # Errors
    /// [`OpenManifest::TooLong`].
    pub fn check(&self) -> Result<(), OpenManifest> {
        let regions = self.metadata().remove("model.regions").unwrap_or_default();
        let at_most = |entry, text: &str, max| match text.len() <= max {
            true => Ok(()),
            false => Err(OpenManifest::TooLong { entry, max }),
        };
        at_most("licence", &self.licence, METADATA_VALUE_BYTES_MAX)?;
        at_most("list of regions", &regions, METADATA_VALUE_BYTES_MAX)?;
        at_most("purpose", &self.purpose, PURPOSE_BYTES_MAX)
    }

    /// Whether its content may be in `region`, as far as it says itself: its topic's law is asked
    /// besides.
    pub fn allows(&self, region: &Region) -> bool {
        self.regions.contains(region)
    }
}

fn regions_of(entry: Option<&str>) -> Result<Regions, OpenManifest> {
    let bad = OpenManifest::Entry {
        entry: "model.regions",
    };
    let Some(entry) = entry else {
        return Ok(Regions::Anywhere);
    };
    let regions: Result<Vec<Region>, _> = entry.split(',').map(str::parse).collect();
    let regions = regions.map_err(|_| bad.clone())?;
    match regions.len() {
        1..=REGIONS_PER_RULE_MAX => Ok(Regions::only(regions)),
        _ => Err(bad),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn manifest() -> Manifest {
        Manifest {
            name: ModelName::read("llama-3-8b:q4").expect("legal"),
            blob: BlobHash([7; 32]),
            bytes: 4 << 30,
            licence: "Apache-2.0".to_owned(),
            purpose: "answers questions\nin French".to_owned(),
            gpu_bytes: 8 << 30,
            ram_bytes: 0,
            regions: Regions::only(["eu/fr".parse().expect("legal")]),
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let mut whole = manifest();
        let read = |m: &Manifest| Manifest::open(&m.text(), &m.metadata());
        assert_eq!(read(&whole), Ok(whole.clone()));
        whole.purpose.clear();
        whole.licence.clear();
        whole.regions = Regions::Anywhere;
        assert_eq!(read(&whole), Ok(whole));
    }

    #[test]
    fn regions_that_cannot_be_read_are_no_licence_to_go_anywhere() {
        let whole = manifest();
        for bad in ["", "Mars!", "eu,,us", ","] {
            let mut entries = whole.metadata();
            entries.insert("model.regions".to_owned(), bad.to_owned());
            let read = Manifest::open(&whole.text(), &entries);
            let why = read.expect_err(bad).to_string();
            assert!(why.contains("model.regions"), "{why}");
        }
        assert!(whole.allows(&"eu/fr/paris-1".parse().expect("legal")));
        assert!(!whole.allows(&"eu/de".parse().expect("legal")));
    }

    #[test]
    fn names_are_words_and_the_tag_may_be_left_out() {
        let read = |text| ModelName::read(text).map(|name| name.to_string());
        assert_eq!(read("gemma").as_deref(), Ok("gemma:latest"));
        assert_eq!(read("a.b_c-1:q4").as_deref(), Ok("a.b_c-1:q4"));
        for bad in [
            "",
            ":",
            "a:",
            ":a",
            "a b",
            "a:b:c",
            "a/b",
            "é",
            &"x".repeat(65),
        ] {
            assert_eq!(
                read(bad).expect_err("no name").code,
                "bad_model_name",
                "{bad}"
            );
        }
    }

    proptest! {
        /// I7: whatever a memory says, reading it as a manifest ends in an answer.
        #[test]
        fn any_memory_is_a_manifest_or_not(
            text in ".{0,80}",
            entries in proptest::collection::btree_map("model\\.(name|tag|blob|bytes|gpu_bytes|regions)", ".{0,70}", 0..6),
        ) {
            let _ = Manifest::open(&text, &entries);
        }
    }
}

//! The committed modules keep the ABI `mva1`, which is read from their bytes.
//!
//! Not here: what the agents do, which their own tests hold; that the modules are built from these
//! sources (`build.sh --check`).

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::{fs, str};

/// The most bytes that an example agent may have.
const MODULE_BYTES_MAX: usize = 4096;

/// What the host offers: each with its parameters and its result, in the letters of [`letter`].
const OFFERED: [(&str, &str); 12] = [
    ("publish", "iiii>i"),
    ("send", "iii>i"),
    ("remember", "iiii>i"),
    ("recall", "iiii>i"),
    ("kv_get", "iiii>i"),
    ("kv_put", "iiii>i"),
    ("now", ">l"),
    ("random", "ii>i"),
    ("wake_after", "i>i"),
    ("log", "iii>i"),
    ("health", "iii>i"),
    ("infer", "iiii>i"),
];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("modules")
}

fn modules() -> BTreeMap<String, Module> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder()).expect("the folder is there") {
        let path = entry.expect("readable").path();
        if path.extension().map_or(false, |end| end == "wasm") {
            let name = path
                .file_name()
                .expect("a file")
                .to_string_lossy()
                .into_owned();
            found.insert(name, Module::read(fs::read(&path).expect("readable")));
        }
    }
    assert!(found.len() >= 4, "a run that looked at no module is void");
    found
}

#[test]
fn a_module_imports_only_what_the_host_offers() {
    let offered: BTreeMap<&str, &str> = OFFERED.into_iter().collect();
    for (name, module) in modules() {
        assert!(!module.imports.is_empty(), "{name} does nothing");
        for (import, signature) in &module.imports {
            let call = import.strip_prefix("mva1.").unwrap_or("");
            assert_eq!(offered.get(call), Some(&&signature[..]), "{name}: {import}");
        }
    }
}

#[test]
fn a_module_exports_what_the_host_calls() {
    for (name, module) in modules() {
        let export = |export: &str| module.exports.get(export).map(|kind| &kind[..]);
        assert_eq!(export("handle"), Some("ii>i"), "{name}");
        assert_eq!(export("mva_abi"), Some(">i"), "{name}");
        assert_eq!(export("memory"), Some("memory"), "{name}");
        for region in ["MVA_STATE", "MVA_INBOX"] {
            assert_eq!(export(region), Some("constant"), "{name}: {region}");
        }
        assert_eq!(module.memory, [1, 1, 1], "{name}: one page, and never more");
    }
}

#[test]
fn a_module_is_small_and_holds_no_text_of_panics() {
    for (name, module) in modules() {
        assert!(
            module.bytes.len() <= MODULE_BYTES_MAX,
            "{name}: {}",
            module.bytes.len()
        );
        for text in [".rs", "panicked", "guest/", "/home", "/tmp"] {
            let found = module
                .bytes
                .windows(text.len())
                .any(|bytes| bytes == text.as_bytes());
            assert!(!found, "{name} holds {text}");
        }
    }
}

#[test]
fn every_module_has_its_hash() {
    let sums = fs::read_to_string(folder().join("SHA256SUMS")).unwrap();
    let named: BTreeSet<&str> = sums.lines().filter_map(|line| line.get(66..)).collect();
    let modules = modules();
    assert_eq!(named, modules.keys().map(|name| &name[..]).collect());
}

/// What a module says of itself.
struct Module {
    bytes: Vec<u8>,
    /// `module.name` and the signature.
    imports: Vec<(String, String)>,
    /// The name, and a signature, `memory` or `constant`.
    exports: BTreeMap<String, String>,
    /// The flags and the limits of its one memory.
    memory: Vec<u64>,
}

/// Reads the sections of the binary format that matter here; panics on anything unusual.
impl Module {
    fn read(bytes: Vec<u8>) -> Self {
        assert_eq!(&bytes[..8], b"\0asm\x01\0\0\0");
        let (mut types, mut functions, mut globals) = (Vec::new(), Vec::new(), Vec::new());
        let (mut imports, mut exports, mut memory) = (Vec::new(), BTreeMap::new(), Vec::new());
        let mut all = Cursor(&bytes[8..]);
        while !all.0.is_empty() {
            let section = all.byte();
            let mut at = Cursor(all.string());
            match section {
                1 => at.each(|at| {
                    assert_eq!(at.byte(), 0x60);
                    let mut letters = || at.string().iter().map(|kind| letter(*kind)).collect();
                    let (from, to): (String, String) = (letters(), letters());
                    types.push(format!("{from}>{to}"));
                }),
                2 => at.each(|at| {
                    let (module, name) = (at.text(), at.text());
                    assert_eq!(at.byte(), 0, "only functions are imported");
                    let signature = types[at.number() as usize].clone();
                    functions.push(signature.clone());
                    imports.push((format!("{module}.{name}"), signature));
                }),
                3 => at.each(|at| functions.push(types[at.number() as usize].clone())),
                4 => panic!("a table"),
                5 => at.each(|at| memory.extend([at.number(), at.number(), at.number()])),
                6 => at.each(|at| {
                    let (kind, mutable) = (at.byte(), at.byte());
                    assert_eq!((letter(kind), at.byte()), ('i', 0x41), "an i32.const");
                    at.number();
                    assert_eq!(at.byte(), 0x0b);
                    globals.push(if mutable == 0 { "constant" } else { "variable" });
                }),
                7 => at.each(|at| {
                    let name = at.text();
                    let kind = match (at.byte(), at.number() as usize) {
                        (0, function) => functions[function].clone(),
                        (3, global) => globals[global].to_owned(),
                        (2, 0) => "memory".to_owned(),
                        other => panic!("{name} is exported as {other:?}"),
                    };
                    exports.insert(name, kind);
                }),
                _ => {}
            }
        }
        Self {
            bytes,
            imports,
            exports,
            memory,
        }
    }
}

fn letter(kind: u8) -> char {
    match kind {
        0x7f => 'i',
        0x7e => 'l',
        other => panic!("{other:#x} is no integer"),
    }
}

struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn byte(&mut self) -> u8 {
        let first = self.0[0];
        self.0 = &self.0[1..];
        first
    }

    /// LEB128; a negative number comes out wrong, and is not looked at here.
    fn number(&mut self) -> u64 {
        let (mut number, mut shift) = (0, 0);
        loop {
            let byte = self.byte();
            number |= u64::from(byte & 0x7f) << shift;
            shift += 7;
            if byte < 0x80 {
                return number;
            }
        }
    }

    fn string(&mut self) -> &'a [u8] {
        let len = self.number() as usize;
        let (string, rest) = self.0.split_at(len);
        self.0 = rest;
        string
    }

    fn text(&mut self) -> String {
        str::from_utf8(self.string())
            .expect("a name is UTF-8")
            .to_owned()
    }

    fn each(&mut self, mut read: impl FnMut(&mut Self)) {
        for _ in 0..self.number() {
            read(self);
        }
    }
}

//! The profile `mva1-int`: which modules may be agents.
//!
//! Core WebAssembly 1.0 without floats, with mutable globals, sign extension and bulk copies: what any
//! engine computes alike, on any machine, so that a wake can be run again by whoever doubts it. One page
//! of memory, no start function, nothing imported but functions of `mva1` with the right types, and the
//! exports by which the host finds its way. Whoever keeps to this is loaded; whoever does not is told
//! what is wrong.
//!
//! Not here: what the bytes do (`engine`).

use crate::abi::{INBOX_MAX, Import, Imports, MODULE_MAX, PAGE, STATE_MAX};
use wasmparser::{
    ConstExpr, ExternalKind, FuncType, Operator, Parser, Payload, TypeRef, ValType, Validator,
    WasmFeatures,
};

/// Most functions of a module, its imports not among them.
pub const FUNCTIONS_MAX: usize = 512;

/// Most locals that one function declares. They cost nothing in a module, and much when it is compiled.
pub const LOCALS_MAX: usize = 255;

/// Most entries of a table.
pub const TABLE_MAX: usize = 256;

/// Most bytes of one function: what bounds how long a compiler takes.
pub const FUNCTION_BYTES_MAX: usize = 16_384;

/// Where things lie in a module that may be an agent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Profile {
    /// BLAKE3 of the module.
    pub hash: [u8; 32],
    /// Where the state lies: its length in four bytes, least first, and then the state.
    pub state: usize,
    /// Where inputs are put.
    pub inbox: usize,
    /// What it imports.
    pub imports: Imports,
}

/// Why a module may not be an agent.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RefuseModule {
    /// Too long.
    #[error("the module has {len} bytes; at most {MODULE_MAX} may be")]
    TooLong {
        /// Its length.
        len: usize,
    },
    /// Not a module, or one that uses what the profile leaves out.
    #[error("not a module of the profile mva1-int: {why}")]
    Invalid {
        /// What is wrong with it, and where.
        why: String,
    },
    /// It asks its host for what no host has.
    #[error("it imports `{module}.{name}`, which is no function of mva1 of that type")]
    Import {
        /// From which module.
        module: String,
        /// Which name.
        name: String,
    },
    /// It does not export what it must.
    #[error("it exports no {what}")]
    Export {
        /// What is missing, as in "function `handle(i32, i32) -> i32`".
        what: &'static str,
    },
    /// Its state or inbox does not lie inside its memory.
    #[error("its {what} does not lie inside of its memory, or not apart from the other")]
    Region {
        /// Which.
        what: &'static str,
    },
    /// It has more of something than may be.
    #[error("it has {found} {what}; at most {most} may be")]
    Limit {
        /// More of what.
        what: &'static str,
        /// How many it has.
        found: usize,
        /// How many may be.
        most: usize,
    },
}

impl Profile {
    /// Checks a module, all of it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn of(module: &[u8]) -> Result<Self, RefuseModule> {
        if module.len() > MODULE_MAX {
            return Err(RefuseModule::TooLong { len: module.len() });
        }
        let features = WasmFeatures::MUTABLE_GLOBAL
            | WasmFeatures::SIGN_EXTENSION
            | WasmFeatures::BULK_MEMORY
            | WasmFeatures::GC_TYPES;
        let mut validator = Validator::new_with_features(features);
        validator.validate_all(module).map_err(invalid)?;
        let found = Found::read(module)?;
        found.check()?;
        let state = found.constant("MVA_STATE").ok_or(RefuseModule::Export {
            what: "constant global `MVA_STATE: i32`",
        })?;
        let inbox = found.constant("MVA_INBOX").ok_or(RefuseModule::Export {
            what: "constant global `MVA_INBOX: i32`",
        })?;
        let (state_end, inbox_end) = (state + 4 + STATE_MAX, inbox + INBOX_MAX);
        let apart = state_end <= inbox || inbox_end <= state;
        for (what, end) in [("state", state_end), ("inbox", inbox_end)] {
            if end > PAGE || !apart {
                return Err(RefuseModule::Region { what });
            }
        }
        Ok(Self {
            hash: *blake3::hash(module).as_bytes(),
            state,
            inbox,
            imports: found.imports,
        })
    }
}

/// What a module has, as far as the profile asks.
#[derive(Default)]
struct Found {
    types: Vec<FuncType>,
    /// Types of functions, imported ones first.
    functions: Vec<u32>,
    imports: Imports,
    globals: Vec<Option<i32>>,
    exports: Vec<(String, ExternalKind, u32)>,
    memory: Option<(u64, Option<u64>)>,
    starts: bool,
    /// The entries of its largest table.
    entries: usize,
    bodies: usize,
    largest: usize,
    /// The locals of the function that declares most.
    locals: usize,
}

impl Found {
    fn read(module: &[u8]) -> Result<Self, RefuseModule> {
        let mut found = Self::default();
        for payload in Parser::new(0).parse_all(module) {
            match payload.map_err(invalid)? {
                Payload::TypeSection(types) => {
                    for group in types.into_iter_err_on_gc_types() {
                        found.types.push(group.map_err(invalid)?);
                    }
                }
                Payload::ImportSection(imports) => {
                    for import in imports.into_imports() {
                        let import = import.map_err(invalid)?;
                        found.import(import.module, import.name, import.ty)?;
                    }
                }
                Payload::FunctionSection(functions) => {
                    for function in functions {
                        found.functions.push(function.map_err(invalid)?);
                    }
                }
                Payload::TableSection(tables) => {
                    for table in tables {
                        let entries = table.map_err(invalid)?.ty.initial;
                        let entries = usize::try_from(entries).unwrap_or(usize::MAX);
                        found.entries = found.entries.max(entries);
                    }
                }
                Payload::MemorySection(memories) => {
                    for memory in memories {
                        let memory = memory.map_err(invalid)?;
                        found.memory = Some((memory.initial, memory.maximum));
                    }
                }
                Payload::GlobalSection(globals) => {
                    for global in globals {
                        let global = global.map_err(invalid)?;
                        let constant = constant(&global.init_expr);
                        found.globals.push(constant.filter(|_| !global.ty.mutable));
                    }
                }
                Payload::ExportSection(exports) => {
                    for export in exports {
                        let export = export.map_err(invalid)?;
                        let name = export.name.to_owned();
                        found.exports.push((name, export.kind, export.index));
                    }
                }
                Payload::StartSection { .. } => found.starts = true,
                Payload::CodeSectionEntry(body) => {
                    found.bodies += 1;
                    found.largest = found.largest.max(body.range().len());
                    let mut locals = 0;
                    for group in body.get_locals_reader().map_err(invalid)? {
                        locals += group.map_err(invalid)?.0 as usize;
                    }
                    found.locals = found.locals.max(locals);
                }
                _ => {}
            }
        }
        Ok(found)
    }

    fn import(&mut self, module: &str, name: &str, ty: TypeRef) -> Result<(), RefuseModule> {
        let refuse = || RefuseModule::Import {
            module: module.to_owned(),
            name: name.to_owned(),
        };
        let (TypeRef::Func(ty), "mva1") = (ty, module) else {
            return Err(refuse());
        };
        let import = Import::named(name).ok_or_else(refuse)?;
        let result = match import {
            Import::Now => ValType::I64,
            _ => ValType::I32,
        };
        if !self.is(ty, import.arity(), result) {
            return Err(refuse());
        }
        self.functions.push(ty);
        self.imports = self.imports.with(import);
        Ok(())
    }

    /// Whether a type is that of a function from so many `i32` to one result.
    fn is(&self, ty: u32, arity: usize, result: ValType) -> bool {
        self.types
            .get(ty as usize)
            .is_some_and(|ty| ty.params() == vec![ValType::I32; arity] && ty.results() == [result])
    }

    fn export(&self, name: &str, kind: ExternalKind) -> Option<u32> {
        let mut exports = self.exports.iter();
        let found = exports.find(|(found, of, _)| found == name && *of == kind);
        found.map(|(.., index)| *index)
    }

    fn constant(&self, name: &str) -> Option<usize> {
        let index = self.export(name, ExternalKind::Global)?;
        let value = self.globals.get(index as usize).copied().flatten()?;
        usize::try_from(value).ok()
    }

    fn check(&self) -> Result<(), RefuseModule> {
        let missing = |what| Err(RefuseModule::Export { what });
        if self.starts {
            let why = "it has a start function".to_owned();
            return Err(RefuseModule::Invalid { why });
        }
        for (what, found, most) in [
            ("functions", self.bodies, FUNCTIONS_MAX),
            ("bytes in one function", self.largest, FUNCTION_BYTES_MAX),
            ("locals in one function", self.locals, LOCALS_MAX),
            ("entries of a table", self.entries, TABLE_MAX),
        ] {
            if found > most {
                return Err(RefuseModule::Limit { what, found, most });
            }
        }
        let exports = self.export("memory", ExternalKind::Memory).is_some();
        if !exports || self.memory != Some((1, Some(1))) {
            return missing("`memory` of exactly one page");
        }
        let function = |name, arity| {
            let index = self.export(name, ExternalKind::Func);
            let ty = index.and_then(|index| self.functions.get(index as usize));
            ty.is_some_and(|ty| self.is(*ty, arity, ValType::I32))
        };
        if !function("mva_abi", 0) {
            return missing("function `mva_abi() -> i32`");
        }
        if !function("handle", 2) {
            return missing("function `handle(i32, i32) -> i32`");
        }
        Ok(())
    }
}

fn constant(init: &ConstExpr<'_>) -> Option<i32> {
    match init.get_operators_reader().read().ok()? {
        Operator::I32Const { value } => Some(value),
        _ => None,
    }
}

fn invalid(why: wasmparser::BinaryReaderError) -> RefuseModule {
    let why = why.to_string();
    RefuseModule::Invalid { why }
}

//! The parser: from bytes to a module, section by section (spec 5.5).
//!
//! Every section but a custom one is a vector, so one loop reads them all. What an entry refers to
//! is checked at once: the order of sections sees to it that it was read before.
//!
//! Not here: bodies (`validator`), numbers and names (`reader`).

use crate::limits::{
    EXPORTS_MAX, GLOBALS_MAX, LOCALS_MAX, MODULE_BYTES_MAX, PAGE_BYTES, TABLE_MAX,
};
use crate::module::{EXPORT, Function, MUTABLE, Map, Module, Type};
use crate::opcode::{I32, NONE};
use crate::reader::Reader;
use crate::refused::{Limit, Refused, Why};
use crate::validator::Validator;

/// A module that is being read.
// What is used most lies first, as in `Instance`.
#[repr(C)]
pub(crate) struct Parser<'a> {
    pub(crate) reader: Reader<'a>,
    /// How many of the functions have a body yet, or are imported.
    bodies: usize,
    pub(crate) validator: Validator,
    pub(crate) module: Module<'a>,
}

pub(crate) fn parse(bytes: &[u8]) -> Result<Module<'_>, Refused> {
    let mut parser = Parser {
        module: Module {
            bytes,
            map: Map::EMPTY,
        },
        reader: Reader::new(bytes, 0),
        validator: Validator::EMPTY,
        bodies: 0,
    };
    parser.sections();
    match parser.reader.refused {
        None => Ok(parser.module),
        Some(refused) => Err(refused),
    }
}

impl Parser<'_> {
    #[inline(always)]
    pub(crate) fn require(&mut self, holds: bool, why: Why) {
        self.reader.require(holds, why);
    }

    #[inline(never)]
    fn sections(&mut self) {
        let length = self.reader.bytes.len();
        self.require(length <= MODULE_BYTES_MAX, Why::Limit(Limit::ModuleBytes));
        let header = self.reader.take(8) == b"\0asm\x01\0\0\0";
        self.require(header, Why::Header);
        let mut last = 0;
        while self.reader.at < length {
            let id = self.reader.byte();
            let size = self.reader.number() as usize;
            let end = self.reader.at.wrapping_add(size);
            if id == CUSTOM {
                self.reader.name();
                self.reader.take(end.wrapping_sub(self.reader.at));
                continue;
            }
            self.require(id > last, Why::Section);
            self.require(id < 12 && id != START, Why::Unsupported);
            last = id;
            self.module.map.sections[usize::from(id % 16)] = self.reader.at as u16;
            let mut left = self.reader.number();
            // Before they are read: each is compared with all before it.
            let few = usize::from(id) != EXPORT || left as usize <= EXPORTS_MAX;
            self.require(few, Why::Limit(Limit::Exports));
            while self.reader.another(&mut left) {
                self.entry(id);
            }
            self.require(self.reader.at == end, Why::Section);
        }
        let complete = self.bodies == self.module.map.functions.len();
        self.require(complete, Why::Body);
    }

    /// An entry of section `id`.
    #[inline(never)]
    fn entry(&mut self, id: u8) {
        match id {
            1 => self.function_type(),
            2 => self.import(),
            3 => self.function(0),
            4 => self.table(),
            5 => self.memory(),
            6 => self.global(),
            7 => self.export(),
            9 => self.element(),
            10 => self.body(),
            _ => self.data(),
        }
    }

    fn function_type(&mut self) {
        let function = self.reader.byte() == 0x60;
        self.require(function, Why::Unsupported);
        let parameters = self.reader.number();
        let at = self.reader.at as u16;
        self.require(parameters as usize <= LOCALS_MAX, Why::Limit(Limit::Locals));
        let mut left = parameters;
        while self.reader.another(&mut left) {
            self.reader.value_type();
        }
        let results = self.reader.byte();
        self.require(results < 2, Why::Unsupported);
        let mut result = NONE;
        if results > 0 {
            result = self.reader.value_type();
        }
        let room = self.module.map.types.push(Type {
            at,
            parameters: parameters as u8,
            result,
        });
        self.require(room, Why::Limit(Limit::Types));
    }

    fn import(&mut self) {
        let known = self.reader.name() == b"mva1";
        self.require(known, Why::Unsupported);
        let at = self.reader.at as u16;
        self.reader.name();
        self.reader.zero();
        self.module.map.imports += 1;
        self.bodies += 1;
        self.function(at);
    }

    fn function(&mut self, at: u16) {
        let of = self.reader.number();
        let known = (of as usize) < self.module.map.types.len();
        self.require(known, Why::Index);
        let room = self.module.map.functions.push(Function {
            at,
            label: 0,
            values: 0,
            locals: 0,
            of: of as u8,
        });
        self.require(room, Why::Limit(Limit::Functions));
    }

    fn table(&mut self) {
        self.module.map.tables += 1;
        let fits = self.reader.byte() == 0x70 && self.module.map.tables == 1;
        self.require(fits, Why::Unsupported);
        let (low, _) = self.reader.range(u32::MAX);
        self.require(low as usize <= TABLE_MAX, Why::Limit(Limit::Table));
        // All are undefined, and that is zero.
        self.module.map.table.resize(low as usize);
    }

    fn memory(&mut self) {
        self.module.map.memories += 1;
        self.require(self.module.map.memories == 1, Why::Unsupported);
        let (low, high) = self.reader.range(1 << 16);
        self.require(low < 2, Why::Limit(Limit::Pages));
        let bytes = |pages: u32| pages.min(1) as usize * PAGE_BYTES;
        self.module.map.memory = (bytes(low), bytes(high));
    }

    fn global(&mut self) {
        let of = self.reader.value_type();
        let mutable = self.reader.byte();
        self.require(mutable < 2, Why::Unsupported);
        let index = self.module.map.globals.len();
        let room = self.module.map.globals.push(of | mutable << 2 & MUTABLE);
        self.require(room, Why::Limit(Limit::Globals));
        let value = self.reader.constant(of);
        self.module.map.values[index % GLOBALS_MAX] = value;
    }

    fn export(&mut self) {
        let at = self.reader.at;
        let name = self.reader.name();
        let kind = self.reader.byte();
        let index = self.reader.number();
        let count = match kind {
            0 => self.module.map.functions.len(),
            1 => self.module.map.tables,
            2 => self.module.map.memories,
            3 => self.module.map.globals.len(),
            _ => 0,
        };
        self.require((index as usize) < count, Why::Index);
        // The first of this name is this one.
        let first = self.module.exported(name).is_some_and(|e| e.at == at);
        self.require(first, Why::Duplicate);
    }

    /// An active segment of functions, in the first encoding or in the one that names its table.
    fn element(&mut self) {
        let named = self.reader.byte();
        self.require(named == 0 || named == 2, Why::Unsupported);
        if named > 0 {
            self.reader.zero();
        }
        self.require(self.module.map.tables > 0, Why::Index);
        let mut index = self.reader.constant(I32) as usize;
        if named > 0 {
            self.reader.zero();
        }
        let mut left = self.reader.number();
        let end = index.saturating_add(left as usize);
        self.require(end <= self.module.map.table.len(), Why::Segment);
        while self.reader.another(&mut left) {
            let function = self.reader.number();
            let known = (function as usize) < self.module.map.functions.len();
            self.require(known, Why::Index);
            *self.module.map.table.at(index) = function as u16 + 1;
            index += 1;
        }
    }

    fn body(&mut self) {
        let size = self.reader.number() as usize;
        let end = self.reader.at.wrapping_add(size);
        let index = self.bodies;
        self.require(index < self.module.map.functions.len(), Why::Body);
        self.validate(index);
        self.require(self.reader.at == end, Why::Body);
        self.bodies += 1;
    }

    /// A data segment is copied when an instance is made.
    fn data(&mut self) {
        let (first, bytes) = self.module.data(&mut self.reader);
        self.require(self.module.map.memories > 0, Why::Index);
        let end = first + bytes.len() as u64;
        self.require(end <= self.module.map.memory.0 as u64, Why::Segment);
    }
}

const CUSTOM: u8 = 0;
const START: u8 = 8;

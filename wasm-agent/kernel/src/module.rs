//! A module: the bytes of a program that was read once, checked whole, and may be run.
//!
//! It borrows its bytes and copies little but places: where a body starts, where a label is. What is
//! needed seldom (names, data) is read again from the bytes.
//!
//! Not here: how it is read (`parser`, `validator`), running it (`instance`).

use crate::limits::{FUNCTIONS_MAX, GLOBALS_MAX, LABELS_MAX, TABLE_MAX, TYPES_MAX};
use crate::list::List;
use crate::opcode::I32;
use crate::reader::Reader;
use crate::refused::Refused;

/// A module of the profile `mva1-int` that is valid by the specification's chapter 3.
pub struct Module<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) map: Map,
}

/// Where all parts of a module are. An empty one is nothing but zeros, so making one costs no code
/// and no second copy.
// What is used most lies first, as in `Instance`.
#[repr(C)]
pub(crate) struct Map {
    /// How many of the functions are imported: the first ones.
    pub(crate) imports: usize,
    /// How many there are: none or one.
    pub(crate) tables: usize,
    pub(crate) memories: usize,
    /// Bytes of memory at the start, and at most: nothing or a page.
    pub(crate) memory: (usize, usize),
    /// Where the content of each section is. Where there is none, it is zero, and the first byte of
    /// every module is a zero too: a section of no entries.
    pub(crate) sections: [u16; 16],
    /// The type of each global, and [`MUTABLE`].
    pub(crate) globals: List<u8, GLOBALS_MAX>,
    pub(crate) types: List<Type, TYPES_MAX>,
    /// The value of each global at the start.
    pub(crate) values: [u64; GLOBALS_MAX],
    /// The function of each element, plus one: zero is undefined.
    pub(crate) table: List<u16, TABLE_MAX>,
    pub(crate) functions: List<Function, FUNCTIONS_MAX>,
    pub(crate) labels: List<Label, LABELS_MAX>,
}

/// A function's type.
#[derive(Clone, Copy)]
pub(crate) struct Type {
    /// Where its parameters are: a byte for each.
    pub(crate) at: u16,
    pub(crate) parameters: u8,
    pub(crate) result: u8,
}

/// A function: of its own, or imported.
#[derive(Clone, Copy)]
pub(crate) struct Function {
    /// Where its instructions are, or its name if it is imported.
    pub(crate) at: u16,
    /// The label of its body.
    pub(crate) label: u16,
    /// Values of the stack that a call takes: locals, one for the caller's frame, operands.
    pub(crate) values: u16,
    /// Locals, parameters too.
    pub(crate) locals: u8,
    pub(crate) of: u8,
}

/// A label: where a branch to it goes on, and what is then on the stack.
#[derive(Clone, Copy)]
pub(crate) struct Label {
    /// Where: after a loop's start, or at the `end` of any other block.
    pub(crate) at: u16,
    /// The first label after that place.
    pub(crate) next: u16,
    /// The label around it, or [`OUTERMOST`].
    pub(crate) around: u16,
    /// Values on the stack, counted from the first local; and [`ONE_RESULT`].
    pub(crate) height: u16,
}

pub(crate) const OUTERMOST: u16 = u16::MAX;
pub(crate) const MUTABLE: u8 = 4;
pub(crate) const ONE_RESULT: u16 = 1 << 15;

pub(crate) const EXPORT: usize = 7;
pub(crate) const DATA: usize = 11;

/// What a name is exported for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Export {
    /// The function of this index.
    Function(u32),
    /// The table.
    Table,
    /// The memory.
    Memory,
    /// The global of this index.
    Global(u32),
}

/// An entry of the export section.
pub(crate) struct Exported {
    pub(crate) at: usize,
    pub(crate) kind: u8,
    pub(crate) index: u32,
}

impl Map {
    pub(crate) const EMPTY: Self = Self {
        types: List::new(Type {
            at: 0,
            parameters: 0,
            result: 0,
        }),
        functions: List::new(Function {
            at: 0,
            label: 0,
            values: 0,
            locals: 0,
            of: 0,
        }),
        imports: 0,
        table: List::new(0),
        tables: 0,
        memories: 0,
        memory: (0, 0),
        globals: List::new(0),
        values: [0; GLOBALS_MAX],
        labels: List::new(Label {
            at: 0,
            next: 0,
            around: 0,
            height: 0,
        }),
        sections: [0; 16],
    };
}

impl<'a> Module<'a> {
    /// Reads and validates a module.
    ///
    /// # Errors
    /// [`Refused`], if it is malformed or invalid (spec 5 and 3), outside the profile, or beyond one
    /// of the [`limits`](crate::limits).
    #[inline(never)]
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Refused> {
        crate::parser::parse(bytes)
    }

    /// What `name` is exported for.
    pub fn export(&self, name: &[u8]) -> Option<Export> {
        let Exported { kind, index, .. } = self.exported(name)?;
        Some(match kind {
            0 => Export::Function(index),
            1 => Export::Table,
            2 => Export::Memory,
            _ => Export::Global(index),
        })
    }

    /// The first export of this name.
    pub(crate) fn exported(&self, name: &[u8]) -> Option<Exported> {
        let mut exports = self.section(EXPORT);
        let mut left = exports.number();
        while exports.another(&mut left) {
            let at = exports.at;
            let found = exports.name();
            let kind = exports.byte();
            let index = exports.number();
            if found == name {
                return Some(Exported { at, kind, index });
            }
        }
        None
    }

    /// A data segment: where it goes, and what.
    pub(crate) fn data(&self, reader: &mut Reader<'a>) -> (u64, &'a [u8]) {
        reader.zero();
        let first = reader.constant(I32);
        (first, reader.vector())
    }

    /// A reader at the start of a section's content.
    pub(crate) fn section(&self, id: usize) -> Reader<'a> {
        Reader::new(self.bytes, self.map.sections[id % 16].into())
    }

    /// A byte for each parameter.
    pub(crate) fn parameters(&self, of: Type) -> &'a [u8] {
        Reader::new(self.bytes, of.at.into()).take(of.parameters.into())
    }
}

//! Refusal: why a module is not taken, and where in its bytes.
//!
//! Modules come from strangers, so everything that can be wrong with one ends here, and nothing
//! ends in a panic. The texts are linked only where a host prints them.
//!
//! Not here: what goes wrong while a module runs (`trap`).

use core::fmt::{Display, Formatter, Result};

/// A module that was not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Refused {
    /// What is wrong.
    pub why: Why,
    /// The byte of the module up to which it was read.
    pub at: u32,
}

/// What is wrong with a module.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Why {
    /// It ends too early.
    Truncated,
    /// It does not start with the magic number and version 1 (spec 5.5.16).
    Header,
    /// A LEB128 number is longer or wider than its type (spec 5.2.2).
    Number,
    /// A name is not ASCII. The specification asks for UTF-8 only.
    Name,
    /// A section is out of order, or is longer or shorter than its content.
    Section,
    /// A body is longer or shorter than its content, or there are more or fewer than functions.
    Body,
    /// A part of WebAssembly outside the profile `mva1-int`: floats, imports of another kind or
    /// from another module, several results, several memories, a start function, and so on.
    Unsupported,
    /// An instruction's operands, a block's results or a constant have the wrong type (spec 3.3).
    Type,
    /// There is no such type, function, table, memory, global, local or label.
    Index,
    /// A global that is set is constant.
    Constant,
    /// An alignment is larger than what is accessed (spec 3.3.7).
    Alignment,
    /// A name is exported twice.
    Duplicate,
    /// A minimum is above its maximum.
    Range,
    /// A segment does not fit its memory or table as they are at the start.
    Segment,
    /// One of the kernel's bounds.
    Limit(Limit),
}

/// The bound that a module is beyond: the constants of [`limits`](crate::limits).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Limit {
    /// `MODULE_BYTES_MAX`
    ModuleBytes,
    /// `TYPES_MAX`
    Types,
    /// `FUNCTIONS_MAX`
    Functions,
    /// `GLOBALS_MAX`
    Globals,
    /// `EXPORTS_MAX`
    Exports,
    /// `TABLE_MAX`
    Table,
    /// One page of memory.
    Pages,
    /// `LABELS_MAX`
    Labels,
    /// `LOCALS_MAX`
    Locals,
    /// `NESTING_MAX`
    Nesting,
    /// `OPERANDS_MAX`
    Operands,
}

impl Display for Refused {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let what = match self.why {
            Why::Truncated => "it ends too early",
            Why::Header => "it is no module of version 1",
            Why::Number => "a number is too long or too wide",
            Why::Name => "a name is not ASCII",
            Why::Section => "a section is out of order or of the wrong size",
            Why::Body => "a body is missing or of the wrong size",
            Why::Unsupported => "it is outside mva1-int",
            Why::Type => "a type does not match",
            Why::Index => "an index is out of range",
            Why::Constant => "a constant global is set",
            Why::Alignment => "an alignment is too large",
            Why::Duplicate => "a name is exported twice",
            Why::Range => "a minimum is above its maximum",
            Why::Segment => "a segment does not fit",
            Why::Limit(limit) => {
                return write!(f, "module beyond limit {limit:?} at byte {}", self.at);
            }
        };
        write!(f, "module refused at byte {}: {what}", self.at)
    }
}

impl core::error::Error for Refused {}

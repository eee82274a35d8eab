//! Limits: every bound of the kernel, and how they relate.
//!
//! A module beyond one of them is refused with the name of the limit. They are chosen so that a
//! module, an instance and its one page fit a device of 256 KB, and so that a place in a module is a
//! `u16`.
//!
//! Not here: fuel, which the host gives with each call.

/// Bytes of a module.
pub const MODULE_BYTES_MAX: usize = 1 << 16;
/// Bytes of the one page of memory (spec 4.2.8).
pub const PAGE_BYTES: usize = 1 << 16;
/// Function types.
pub const TYPES_MAX: usize = 128;
/// Functions, imported ones too.
pub const FUNCTIONS_MAX: usize = 512;
/// Globals.
pub const GLOBALS_MAX: usize = 64;
/// Exports. Their names are compared each with each.
pub const EXPORTS_MAX: usize = 256;
/// Elements of the table.
pub const TABLE_MAX: usize = 256;
/// Labels of a whole module: one per function, `block` and `loop`, two per `if`.
pub const LABELS_MAX: usize = 1024;
/// Locals of one function, parameters too.
pub const LOCALS_MAX: usize = 255;
/// Blocks open at one place of a function, the function's own too.
pub const NESTING_MAX: usize = 64;
/// Operands at one place of a function.
pub const OPERANDS_MAX: usize = 512;
/// Values that all active calls hold together: locals, operands, and one value per call. It is what
/// bounds the depth of calls: a call takes one value at least.
pub const STACK_MAX: usize = 1024;
/// Bytes that a bulk instruction moves for one unit of fuel.
pub const BULK_BYTES_PER_FUEL: u64 = 64;

const _: () = assert!(MODULE_BYTES_MAX <= 1 << 16, "a place is a u16");
const _: () = assert!(
    TYPES_MAX <= 1 << 8 && LOCALS_MAX < 1 << 8,
    "both are kept in a byte"
);
const _: () = assert!(
    LOCALS_MAX + OPERANDS_MAX < STACK_MAX,
    "any one function can run"
);
const _: () = assert!(
    STACK_MAX.is_power_of_two() && STACK_MAX <= 1 << 15,
    "a height is masked, and shares a u16 with one bit"
);
const _: () = assert!(
    LABELS_MAX < u16::MAX as usize,
    "the last u16 is no label, and a function plus one is an element"
);
const _: () = assert!(FUNCTIONS_MAX <= LABELS_MAX, "each function has a label");
const _: () = assert!(
    NESTING_MAX <= 1 << 7,
    "a depth in a branch table is one byte of LEB128"
);

//! Opcodes: what each plain instruction takes and gives, as a table.
//!
//! Nearly all of the instruction set is plain: it takes up to two operands and gives at most one.
//! For these one byte says it all, to the validator and to the running instance. Instructions on
//! `i32` and `i64` lie in the same order (spec 5.4), so they share their code by this table too.
//!
//! Not here: instructions with a rule of their own (`validator`), what they do (`instance`,
//! `numeric`).

/// No value. Types are two bits: the validator's operands, the results of blocks, the shapes below.
pub(crate) const NONE: u8 = 0;
/// `i32`, kept as a `u64` whose upper half is zero.
pub(crate) const I32: u8 = 1;
/// `i64`
pub(crate) const I64: u8 = 2;
/// A value of any type: an operand in code that is never reached.
pub(crate) const ANY: u8 = 3;

// Instructions with a rule of their own, by their names in the text format.
pub(crate) const UNREACHABLE: u8 = 0x00;
pub(crate) const NOP: u8 = 0x01;
pub(crate) const BLOCK: u8 = 0x02;
pub(crate) const LOOP: u8 = 0x03;
pub(crate) const IF: u8 = 0x04;
pub(crate) const ELSE: u8 = 0x05;
pub(crate) const END: u8 = 0x0b;
pub(crate) const BR: u8 = 0x0c;
pub(crate) const BR_IF: u8 = 0x0d;
pub(crate) const BR_TABLE: u8 = 0x0e;
pub(crate) const RETURN: u8 = 0x0f;
pub(crate) const CALL: u8 = 0x10;
pub(crate) const CALL_INDIRECT: u8 = 0x11;
pub(crate) const DROP: u8 = 0x1a;
pub(crate) const SELECT: u8 = 0x1b;
pub(crate) const LOCAL_GET: u8 = 0x20;
pub(crate) const LOCAL_SET: u8 = 0x21;
pub(crate) const LOCAL_TEE: u8 = 0x22;
pub(crate) const GLOBAL_GET: u8 = 0x23;
pub(crate) const GLOBAL_SET: u8 = 0x24;
pub(crate) const MEMORY_SIZE: u8 = 0x3f;
pub(crate) const MEMORY_GROW: u8 = 0x40;
pub(crate) const I32_CONST: u8 = 0x41;
pub(crate) const I64_CONST: u8 = 0x42;
/// The first byte of `memory.copy` and `memory.fill`; the second follows.
pub(crate) const BULK: u8 = 0xfc;
pub(crate) const COPY: u8 = 10;
pub(crate) const FILL: u8 = 11;
pub(crate) const FIRST_LOAD: u8 = 0x28;
pub(crate) const LAST_STORE: u8 = 0x3e;

/// The shape of each plain instruction: the type of what it gives in bits 0 and 1, of the upper
/// operand in 2 and 3, of the lower in 4 and 5. Zero for all that is not plain or not in the profile.
pub(crate) const SHAPES: [u8; 256] = shapes();

/// Each memory access, its opcode modulo 32: the logarithm of its bytes, and [`SIGNED`].
pub(crate) const ACCESSES: [u8; 32] = [
    0, 0, 0, 0, 0, 0, 0, 0, 2, 3, 0, 0, 4, 0, 5, 1, 4, 0, 5, 1, 6, 2, 2, 3, 0, 0, 0, 1, 0, 1, 2, 0,
];
/// What is loaded is sign-extended.
pub(crate) const SIGNED: u8 = 4;

const fn shapes() -> [u8; 256] {
    const fn shape(lower: u8, upper: u8, gives: u8) -> u8 {
        lower << 4 | upper << 2 | gives
    }
    const fn set(table: &mut [u8; 256], first: usize, last: usize, shape: u8) {
        let mut op = first;
        while op <= last {
            table[op] = shape;
            op += 1;
        }
    }
    let mut t = [0; 256];
    // Loads and stores.
    set(&mut t, 0x28, 0x28, shape(NONE, I32, I32));
    set(&mut t, 0x29, 0x29, shape(NONE, I32, I64));
    set(&mut t, 0x2c, 0x2f, shape(NONE, I32, I32));
    set(&mut t, 0x30, 0x35, shape(NONE, I32, I64));
    set(&mut t, 0x36, 0x36, shape(I32, I32, NONE));
    set(&mut t, 0x37, 0x37, shape(I32, I64, NONE));
    set(&mut t, 0x3a, 0x3b, shape(I32, I32, NONE));
    set(&mut t, 0x3c, 0x3e, shape(I32, I64, NONE));
    // Tests and comparisons.
    set(&mut t, 0x45, 0x45, shape(NONE, I32, I32));
    set(&mut t, 0x46, 0x4f, shape(I32, I32, I32));
    set(&mut t, 0x50, 0x50, shape(NONE, I64, I32));
    set(&mut t, 0x51, 0x5a, shape(I64, I64, I32));
    // Bit counts and arithmetic.
    set(&mut t, 0x67, 0x69, shape(NONE, I32, I32));
    set(&mut t, 0x6a, 0x78, shape(I32, I32, I32));
    set(&mut t, 0x79, 0x7b, shape(NONE, I64, I64));
    set(&mut t, 0x7c, 0x8a, shape(I64, I64, I64));
    // Wrap, extend, and the sign extensions.
    set(&mut t, 0xa7, 0xa7, shape(NONE, I64, I32));
    set(&mut t, 0xac, 0xad, shape(NONE, I32, I64));
    set(&mut t, 0xc0, 0xc1, shape(NONE, I32, I32));
    set(&mut t, 0xc2, 0xc4, shape(NONE, I64, I64));
    t
}

//! Traps: why a call ended without a result.
//!
//! A trap ends the call and nothing else: memory and globals keep what was written before it, and
//! the instance may be called again. A host that wants all or nothing discards the instance.
//!
//! Not here: what is wrong with a module before it runs (`refused`).

use core::fmt::{Display, Formatter, Result};

/// Why a call ended without a result. [`Instance::place`](crate::Instance::place) says where.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trap {
    /// The guest ran `unreachable`.
    Unreachable,
    /// A memory access, or part of it, is outside the memory.
    OutOfBounds,
    /// An integer was divided by zero.
    DivideByZero,
    /// The quotient of the least integer and minus one.
    Overflow,
    /// The fuel is used up.
    OutOfFuel,
    /// The active calls would hold more than `STACK_MAX` values.
    StackExhausted,
    /// `call_indirect` of an element that is absent, undefined or of another type.
    IndirectCall,
    /// The host named a function that is not there, or gave it too many or too few arguments.
    Invoke,
    /// The host ended the call, or did not give the result that an import's type promises.
    Host(HostTrap),
}

/// A host's own reason to end a call: a code that only it reads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HostTrap(pub u32);

impl HostTrap {
    /// The host gave no result where the import's type promises one, or gave one where not.
    pub const RESULT: Self = Self(u32::MAX);
}

impl Display for Trap {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.write_str(match self {
            Self::Unreachable => "unreachable code was reached",
            Self::OutOfBounds => "memory access out of bounds",
            Self::DivideByZero => "integer divided by zero",
            Self::Overflow => "integer overflow",
            Self::OutOfFuel => "fuel used up",
            Self::StackExhausted => "stack exhausted",
            Self::IndirectCall => "indirect call of no such function",
            Self::Invoke => "no such function, or wrong number of arguments",
            Self::Host(HostTrap(code)) => return write!(f, "ended by the host with code {code}"),
        })
    }
}

impl core::error::Error for Trap {}

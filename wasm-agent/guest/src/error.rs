//! Errors: why the host refused a call, or an agent its input. One enum, with the ABI's numbers.
//!
//! An agent that passes the host's error on with `?` refuses the wake with the same number, so the
//! owner sees in the host's log what it was.
//!
//! Not here: success, which is any number that is not negative.

/// Why not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(i32)]
pub enum Error {
    /// There is no such thing.
    NotFound = -1,
    /// An argument or an input is not what it must be: not UTF-8, not canonical CBOR.
    BadArgument = -2,
    /// More than may be, or than the buffer holds.
    TooLarge = -3,
    /// Over a quota or a rate; later may be better.
    OverQuota = -4,
    /// Not to be had now.
    Unavailable = -5,
    /// The law of the data forbids it.
    Forbidden = -6,
    /// The agent's manifest does not grant the call.
    NotGranted = -7,
    /// A number that this version of the SDK does not know.
    Unknown = -128,
}

impl Error {
    /// The ABI's number; always negative.
    pub const fn code(self) -> i32 {
        self as i32
    }

    /// A call's answer: a length or another number that is not negative, or why not.
    ///
    /// # Errors
    /// What a negative number stands for.
    pub const fn check(answer: i32) -> Result<usize, Self> {
        Err(match answer {
            0..=i32::MAX => return Ok(answer as usize),
            -1 => Self::NotFound,
            -2 => Self::BadArgument,
            -3 => Self::TooLarge,
            -4 => Self::OverQuota,
            -5 => Self::Unavailable,
            -6 => Self::Forbidden,
            -7 => Self::NotGranted,
            _ => Self::Unknown,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_of_the_abi_has_its_error_and_back() {
        for code in -7..0 {
            assert_eq!(Error::check(code).map_err(Error::code), Err(code));
        }
        assert_eq!(Error::check(-8), Err(Error::Unknown));
        assert_eq!(Error::check(i32::MIN), Err(Error::Unknown));
        assert_eq!(Error::check(0), Ok(0));
        assert_eq!(Error::check(i32::MAX), Ok(i32::MAX as usize));
    }
}

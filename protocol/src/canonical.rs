//! Canonical: a value has one form in bytes, and this is how it is told.
//!
//! All CBOR decoders take longer forms of a number and bytes left over, so what is hashed or signed is
//! checked against its own encoding. The encoding is compared as it is made and never kept.

use minicbor::{Encode, encode::Write};

/// True if `value` encodes to exactly `bytes`.
pub fn encodes_to<T: Encode<()>>(value: &T, bytes: &[u8]) -> bool {
    let mut rest = Rest(bytes);
    minicbor::encode(value, &mut rest).is_ok() && rest.0.is_empty()
}

/// What has not been matched yet.
struct Rest<'b>(&'b [u8]);

/// The encoding is another.
struct Differs;

impl Write for Rest<'_> {
    type Error = Differs;

    fn write_all(&mut self, bytes: &[u8]) -> Result<(), Differs> {
        self.0 = self.0.strip_prefix(bytes).ok_or(Differs)?;
        Ok(())
    }
}

/// Keeps nothing of an encoding but how long it is.
pub(crate) struct Counted(pub(crate) usize);

impl Write for Counted {
    type Error = core::convert::Infallible;

    fn write_all(&mut self, bytes: &[u8]) -> Result<(), Self::Error> {
        self.0 += bytes.len();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_one_form_is_canonical() {
        let value = (5u8, 300u32);
        let good = minicbor::to_vec(value).expect("vec");
        assert!(encodes_to(&value, &good));
        assert!(!encodes_to(&value, &good[..good.len() - 1]));
        let longer = [0x82, 0x18, 5, 0x19, 1, 44];
        assert_eq!(minicbor::decode::<(u8, u32)>(&longer).ok(), Some(value));
        assert!(!encodes_to(&value, &longer));
        assert!(!encodes_to(&value, &[good, vec![0]].concat()));
    }
}

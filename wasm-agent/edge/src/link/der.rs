//! DER: as much of it as a certificate of libp2p needs (ITU-T X.690, distinguished encoding).
//!
//! Not here: what the values mean (`tls`).

/// A sequence.
pub(super) const SEQUENCE: u8 = 0x30;
/// A string of bits.
pub(super) const BITS: u8 = 0x03;
/// A string of bytes.
pub(super) const BYTES: u8 = 0x04;
/// An integer.
pub(super) const INTEGER: u8 = 0x02;
/// True or false.
pub(super) const BOOLEAN: u8 = 0x01;
/// The name of something.
pub(super) const NAME: u8 = 0x06;
/// Extensions of a certificate.
pub(super) const EXTENSIONS: u8 = 0xa3;
/// The version of a certificate.
pub(super) const VERSION: u8 = 0xa0;

/// A value made of parts.
pub(super) fn value(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let len = content.len();
    let head = match len {
        0..=0x7f => vec![tag, len as u8],
        0x80..=0xff => vec![tag, 0x81, len as u8],
        _ => {
            let len = u16::try_from(len)
                .expect("nothing here is so long")
                .to_be_bytes();
            vec![tag, 0x82, len[0], len[1]]
        }
    };
    [head, content].concat()
}

/// What is read, value by value.
pub(super) struct Reader<'b>(pub(super) &'b [u8]);

/// One value.
#[derive(Clone, Copy)]
pub(super) struct Value<'b> {
    /// What it is.
    pub(super) tag: u8,
    /// What is in it.
    pub(super) content: &'b [u8],
    /// All of it.
    pub(super) whole: &'b [u8],
}

impl<'b> Reader<'b> {
    /// The next value, if there is one and it is whole.
    pub(super) fn next(&mut self) -> Option<Value<'b>> {
        let (&tag, rest) = self.0.split_first()?;
        let (&first, rest) = rest.split_first()?;
        let (len, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            0x81 | 0x82 => {
                let (len, rest) = rest.split_at_checked(usize::from(first - 0x80))?;
                let len = len
                    .iter()
                    .fold(0, |len, byte| len << 8 | usize::from(*byte));
                (len, rest)
            }
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(len)?;
        let whole = &self.0[..self.0.len() - rest.len()];
        self.0 = rest;
        Some(Value {
            tag,
            content,
            whole,
        })
    }

    /// The next value, which must be of this kind.
    pub(super) fn expect(&mut self, tag: u8) -> Option<Value<'b>> {
        self.next().filter(|value| value.tag == tag)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_any_length_read_back_and_cut_ones_do_not() {
        for len in [0, 1, 127, 128, 255, 256, 4_000] {
            let content = vec![7; len];
            let bytes = value(BYTES, &[&content]);
            let mut reader = Reader(&bytes);
            let read = reader.expect(BYTES).expect("whole");
            assert_eq!((&content[..], &bytes[..]), (read.content, read.whole));
            assert!(reader.next().is_none());
            for cut in 0..bytes.len() {
                assert!(Reader(&bytes[..cut]).next().is_none());
            }
        }
        assert!(
            Reader(&[4, 0x84, 0, 0, 0, 1, 1]).next().is_none(),
            "long forms"
        );
        assert!(Reader(&[4, 0x80]).next().is_none(), "an indefinite one");
    }
}

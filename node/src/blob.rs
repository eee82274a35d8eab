//! Blobs: files of any size, named by their BLAKE3 hash.
//!
//! A blob lies as a plain file in `HOME/blobs/`, with its hash tree beside it, so that every 16 KiB of
//! it can be proved to belong to its name before they count, on whichever machine they lie. In reading
//! order: `tree` the proof, without I/O · `part` a blob of which some is here · `shelf` the
//! folder · `wire` the bytes between nodes · `serve` and `fetch` its two ends.
//!
//! Not here: which blobs there are to be, and who may have them (`model`, `memory/models`).

pub(crate) mod bits;
pub(crate) mod fetch;
pub(crate) mod files;
pub(crate) mod part;
pub(crate) mod serve;
pub(crate) mod shelf;
pub(crate) mod tree;
pub(crate) mod wire;

use std::fmt;

/// The longest blob, in bytes: 4 TiB. Its map of what is here takes 32 MiB of memory.
pub const BLOB_BYTES_MAX: u64 = 4 << 40;

/// A blob's name: the BLAKE3 hash of its bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlobHash(pub [u8; 32]);

impl BlobHash {
    /// The hash that 64 hexadecimal digits say, if they say one.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = data_encoding::HEXLOWER.decode(text.as_bytes()).ok()?;
        bytes.try_into().ok().map(Self)
    }
}

impl fmt::Display for BlobHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&data_encoding::HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for BlobHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let short = self.0.first_chunk::<4>().expect("32 bytes hold 4");
        f.write_str(&data_encoding::HEXLOWER.encode(short))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_64_lower_case_digits_and_nothing_else() {
        let hash = BlobHash([0xab; 32]);
        assert_eq!(BlobHash::parse(&hash.to_string()), Some(hash));
        for bad in [
            "",
            "ab",
            &"AB".repeat(32),
            &"ab".repeat(33),
            &"zz".repeat(32),
        ] {
            assert_eq!(BlobHash::parse(bad), None, "{bad}");
        }
    }
}

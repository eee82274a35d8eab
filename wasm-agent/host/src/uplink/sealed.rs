//! Sealed: bytes that travel under a signature, perhaps made smaller.
//!
//! Not here: what they say (`uplink`).

use super::OpenUplink;
use aquifer_protocol::identity::{Keys, SIGNATURE_BYTES, digest, verify};
use minicbor::{Decode, Encode};
use std::borrow::Cow;

/// Bytes that somebody signed, perhaps made smaller.
#[derive(Encode, Decode)]
#[cbor(array)]
pub(super) struct Signed {
    /// How many bytes there are when it is unpacked; 0 if it is not packed.
    #[n(0)]
    unpacked: u32,
    #[cbor(n(1), with = "minicbor::bytes")]
    bytes: Vec<u8>,
    #[cbor(n(2), with = "minicbor::bytes")]
    signature: [u8; SIGNATURE_BYTES],
}

impl Signed {
    /// Signs bytes as they travel.
    pub(super) fn new(domain: &str, keys: &Keys, unpacked: u32, bytes: Vec<u8>) -> Self {
        Self {
            signature: keys.sign(&signed_bytes(domain, unpacked, &bytes)),
            unpacked,
            bytes,
        }
    }

    /// The bytes, unpacked, if `key` signed them and they are no longer than `most`.
    pub(super) fn open(
        &self,
        domain: &str,
        key: &[u8; 32],
        most: usize,
    ) -> Result<Cow<'_, [u8]>, OpenUplink> {
        let signed = signed_bytes(domain, self.unpacked, &self.bytes);
        if !verify(key, &signed, &self.signature) {
            return Err(OpenUplink::Unsigned);
        }
        let len = self.unpacked as usize;
        match len {
            0 => Ok(Cow::Borrowed(&self.bytes)),
            _ if len > most => Err(OpenUplink::TooLong { len }),
            _ => lz4_flex::block::decompress(&self.bytes, len)
                .ok()
                .filter(|raw| raw.len() == len)
                .map(Cow::Owned)
                .ok_or(OpenUplink::Malformed),
        }
    }
}

fn signed_bytes(domain: &str, unpacked: u32, bytes: &[u8]) -> [u8; 32] {
    digest(domain, &[&unpacked.to_be_bytes(), bytes])
}

/// In the one form.
pub(super) fn encoded<T: Encode<()>>(value: &T) -> Vec<u8> {
    minicbor::to_vec(value).expect("a vector takes any encoding")
}

/// What is encoded in the one form, in at most so many bytes.
pub(super) fn canonical<T: Encode<()> + for<'b> Decode<'b, ()>>(
    bytes: &[u8],
    most: usize,
) -> Result<T, OpenUplink> {
    if bytes.len() > most {
        return Err(OpenUplink::TooLong { len: bytes.len() });
    }
    let value: T = minicbor::decode(bytes).map_err(|_| OpenUplink::Malformed)?;
    match encoded(&value) == bytes {
        true => Ok(value),
        false => Err(OpenUplink::Malformed),
    }
}

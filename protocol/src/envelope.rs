//! Envelope: a COSE_Sign1 (RFC 9052) in the one form that records have.
//!
//! The protected header is `{1: -8}` (EdDSA), the unprotected one is empty, lengths are the shortest:
//! a payload and a signature have one envelope, so reading it is taking off what must be there, and
//! nothing travels in fields that nobody reads. That it is COSE is held by a test against `coset`.
//!
//! Not here: what the payload says (`record`).

use crate::identity::{SIGNATURE_BYTES, Signature};

/// What records are signed under (RFC 9052 §4.3).
const AAD: &[u8; 13] = b"aquifer/rec/1";
/// An array of four: the protected header in bytes, and the empty unprotected one.
const HEAD: [u8; 6] = [0x84, 0x43, 0xa1, 0x01, 0x27, 0xa0];
/// The start of what is signed: an array of four, `"Signature1"`, the protected header in bytes.
const SIGNED_HEAD: &[u8; 16] = b"\x84\x6aSignature1\x43\xa1\x01\x27";

/// The envelope of `payload`.
pub(crate) fn close(payload: &[u8], signature: &Signature) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEAD.len() + payload.len() + signature.len() + 5);
    bytes.extend_from_slice(&HEAD);
    put_bytes(&mut bytes, payload);
    put_bytes(&mut bytes, signature);
    bytes
}

/// The payload and the signature, if this is the one form of an envelope.
pub(crate) fn open(envelope: &[u8]) -> Option<(&[u8], &Signature)> {
    let (payload, rest) = take_bytes(envelope.strip_prefix(&HEAD)?)?;
    let (signature, rest) = take_bytes(rest)?;
    let signature: &[u8; SIGNATURE_BYTES] = signature.try_into().ok()?;
    rest.is_empty().then_some((payload, signature))
}

/// What the writer signs.
pub(crate) fn signed_bytes(payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(SIGNED_HEAD.len() + AAD.len() + payload.len() + 4);
    bytes.extend_from_slice(SIGNED_HEAD);
    put_bytes(&mut bytes, AAD);
    put_bytes(&mut bytes, payload);
    bytes
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    match bytes.len() {
        len @ 0..24 => out.push(0x40 | len as u8),
        len @ 24..=0xff => out.extend([0x58, len as u8]),
        len => {
            let len = u16::try_from(len).expect("an envelope is shorter");
            out.push(0x59);
            out.extend(len.to_be_bytes());
        }
    }
    out.extend_from_slice(bytes);
}

/// A byte string and what follows it; none if its length is not written in the shortest form.
fn take_bytes(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = match *bytes {
        [first @ 0x40..=0x57, ..] => (usize::from(first & 0x1f), &bytes[1..]),
        [0x58, len @ 24..=0xff, ..] => (usize::from(len), &bytes[2..]),
        [0x59, high @ 1..=0xff, low, ..] => {
            (usize::from(u16::from_be_bytes([high, low])), &bytes[3..])
        }
        _ => return None,
    };
    rest.split_at_checked(len)
}

#[cfg(test)]
mod tests {
    use super::*;
    use coset::{CborSerializable as _, CoseSign1, CoseSign1Builder, HeaderBuilder, iana};
    use proptest::prelude::*;

    fn cose(payload: &[u8], signature: &Signature) -> CoseSign1 {
        let protected = HeaderBuilder::new()
            .algorithm(iana::Algorithm::EdDSA)
            .build();
        CoseSign1Builder::new()
            .protected(protected)
            .payload(payload.to_vec())
            .signature(signature.to_vec())
            .build()
    }

    proptest! {
        /// RFC 9052, by another's hand.
        #[test]
        fn an_envelope_is_a_cose_sign1(
            payload in proptest::collection::vec(any::<u8>(), 0..500), byte in any::<u8>(),
        ) {
            let signature = [byte; SIGNATURE_BYTES];
            let (ours, theirs) = (close(&payload, &signature), cose(&payload, &signature));
            prop_assert_eq!(theirs.clone().to_vec().expect("vec"), ours.clone());
            prop_assert_eq!(theirs.tbs_data(AAD), signed_bytes(&payload));
            prop_assert_eq!(open(&ours), Some((&payload[..], &signature)));
        }

        /// What opens has one form, and is COSE.
        #[test]
        fn what_opens_closes_to_the_same_bytes(
            payload in proptest::collection::vec(any::<u8>(), 0..300),
            at in any::<proptest::sample::Index>(), to in any::<u8>(),
        ) {
            let mut bytes = close(&payload, &[7; SIGNATURE_BYTES]);
            let at = at.index(bytes.len());
            bytes[at] = to;
            if let Some((payload, signature)) = open(&bytes) {
                prop_assert_eq!(close(payload, signature), bytes.clone());
                prop_assert!(CoseSign1::from_slice(&bytes).is_ok());
            }
        }
    }
}

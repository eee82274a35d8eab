//! Identity: keys, the names derived from them, and reproducible randomness.
//!
//! A node and an agent are each an Ed25519 key (RFC 8032). Their ids are the public keys themselves,
//! so a signature needs nothing else to be checked. Verification is always `verify_strict`: batch
//! and lax verification may disagree on crafted inputs, and a disagreement splits a swarm.
//!
//! Not here: reading key files (`node/src/keys.rs`), what a key may do (`certificate`).

use core::fmt;
use ed25519_dalek::{Signer as _, SigningKey, VerifyingKey};
use rand_chacha::{ChaCha12Rng, rand_core::SeedableRng as _};

/// A generator of reproducible randomness.
pub type Rng = ChaCha12Rng;

macro_rules! id32 {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, minicbor::Encode, minicbor::Decode)]
        #[cbor(transparent)]
        pub struct $name(#[cbor(n(0), with = "minicbor::bytes")] pub [u8; 32]);

        impl $name {
            /// The 32 bytes.
            pub const fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }

            /// Parses 64 hexadecimal digits, as `Display` prints them.
            pub fn from_hex(text: &str) -> Option<Self> {
                let bytes = text.as_bytes();
                if bytes.len() != 64 || !bytes.iter().all(u8::is_ascii_hexdigit) {
                    return None;
                }
                let mut out = [0; 32];
                for (byte, pair) in out.iter_mut().zip(bytes.chunks_exact(2)) {
                    let digits = core::str::from_utf8(pair).ok()?;
                    *byte = u8::from_str_radix(digits, 16).ok()?;
                }
                Some(Self(out))
            }
        }

        impl core::fmt::Display for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        /// Short, for logs: the first four bytes.
        impl core::fmt::Debug for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                write!(f, stringify!($name))?;
                f.write_str(":")?;
                self.0.iter().take(4).try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }
    };
}
pub(crate) use id32;

id32! {
    /// A node: its Ed25519 public key, of which a libp2p PeerId is another view.
    NodeId
}
id32! {
    /// An agent, the author of memories: its Ed25519 public key, of which `did:key` is another view.
    AgentId
}
id32! {
    /// A hive: the public key of its root.
    HiveId
}

/// The length of a signature, in bytes.
pub const SIGNATURE_BYTES: usize = 64;
/// An Ed25519 signature.
pub type Signature = [u8; SIGNATURE_BYTES];

/// A signing key. Never printed; the bytes are wiped when dropped.
#[derive(Clone)]
pub struct Keys(SigningKey);

impl Keys {
    /// From the 32-byte secret of RFC 8032.
    pub fn from_secret(secret: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(secret))
    }

    /// The 32-byte secret, for the key file only.
    pub fn secret(&self) -> [u8; 32] {
        self.0.to_bytes()
    }

    /// The public key's bytes.
    pub fn public(&self) -> [u8; 32] {
        self.0.verifying_key().to_bytes()
    }

    /// The public key as a node's id.
    pub fn node(&self) -> NodeId {
        NodeId(self.public())
    }

    /// Signs `message`. Callers put a domain string first.
    pub fn sign(&self, message: &[u8]) -> Signature {
        self.0.sign(message).to_bytes()
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keys({:?})", self.node())
    }
}

/// True if `signature` over `message` was made by the holder of `public` (RFC 8032, strict: no
/// small-order keys, canonical scalars).
pub fn verify(public: &[u8; 32], message: &[u8], signature: &Signature) -> bool {
    let Ok(key) = VerifyingKey::from_bytes(public) else {
        return false;
    };
    key.verify_strict(message, &ed25519_dalek::Signature::from_bytes(signature))
        .is_ok()
}

/// What is no longer than this is hashed in one piece.
const SHORT: usize = 512;

/// BLAKE3 of `domain`, a zero byte and `parts`: one way to hash everything we name by hash.
pub fn digest(domain: &str, parts: &[&[u8]]) -> [u8; 32] {
    // For so few bytes, a hasher that takes parts costs more than the hash.
    let mut whole = [0; SHORT];
    let mut len = 0;
    let mut put = |part: &[u8]| {
        let place = whole.get_mut(len..len + part.len());
        let fits = place.map(|place| place.copy_from_slice(part)).is_some();
        len += part.len();
        fits
    };
    if put(domain.as_bytes()) && put(&[0]) && parts.iter().all(|part| put(part)) {
        return *blake3::hash(&whole[..len]).as_bytes();
    }
    let mut hasher = blake3::Hasher::new();
    hasher.update(domain.as_bytes());
    hasher.update(&[0]);
    for part in parts {
        hasher.update(part);
    }
    *hasher.finalize().as_bytes()
}

/// A root of reproducible randomness. Each part gets its own child, so that adding a draw in one
/// part never shifts the draws of another.
#[derive(Clone)]
pub struct Seed(pub [u8; 32]);

impl Seed {
    /// A seed from a small number, for tests and plans.
    pub fn from_number(number: u64) -> Self {
        Self(digest("aquifer/seed/1", &[&number.to_le_bytes()]))
    }

    /// The generator of the part named `label`.
    pub fn child(&self, label: &str) -> Rng {
        Rng::from_seed(*blake3::keyed_hash(&self.0, label.as_bytes()).as_bytes())
    }

    /// The seed of the part named `label`, to be split further.
    #[must_use]
    pub fn branch(&self, label: &str, number: u64) -> Self {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        hasher.update(label.as_bytes());
        hasher.update(&number.to_le_bytes());
        Self(*hasher.finalize().as_bytes())
    }
}

impl fmt::Debug for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seed(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc_8032_test_2_signs_as_published() {
        let secret =
            NodeId::from_hex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb");
        let keys = Keys::from_secret(&secret.expect("64 digits").0);
        assert_eq!(
            keys.node().to_string(),
            "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"
        );
        let signature = keys.sign(&[0x72]);
        assert_eq!(signature[..4], [0x92, 0xa0, 0x09, 0xa9]);
        assert!(verify(&keys.public(), &[0x72], &signature));
        assert!(!verify(&keys.public(), &[0x73], &signature));
    }

    /// I4: the key of small order that signs everything under lax rules signs nothing here.
    #[test]
    fn a_small_order_key_signs_nothing() {
        let mut identity = [0; 32];
        identity[0] = 1;
        let mut signature = [0; 64];
        signature[0] = 1;
        assert!(!verify(&identity, b"anything", &signature));
    }

    #[test]
    fn a_digest_is_of_domain_and_parts_however_long_they_are() {
        let bytes: Vec<u8> = (0..=255).cycle().take(2 * SHORT).collect();
        for len in (0..2 * SHORT).step_by(3) {
            let whole = [&b"d\0"[..], &bytes[..len]].concat();
            for cut in [0, len / 2, len] {
                let (left, right) = bytes[..len].split_at(cut);
                let expected = *blake3::hash(&whole).as_bytes();
                assert_eq!(expected, digest("d", &[left, right]), "{len}, cut at {cut}");
            }
        }
    }

    #[test]
    fn children_of_a_seed_do_not_depend_on_each_other() {
        use rand_chacha::rand_core::Rng as _;
        let seed = Seed::from_number(7);
        let alone = seed.child("b").next_u64();
        let mut first = seed.child("a");
        first.next_u64();
        assert_eq!(seed.child("b").next_u64(), alone);
        assert_ne!(seed.child("a").next_u64(), alone);
    }
}

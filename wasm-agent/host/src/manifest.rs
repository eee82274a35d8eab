//! Manifests: what an agent may do, under its publisher's signature.
//!
//! A module has no authority of its own. The manifest names it by its hash and grants imports, topics,
//! names to remember under, and budgets; what it does not grant is refused. Whoever hands a manifest on
//! may narrow it and no more.
//!
//! Not here: what the law of a topic says, which is asked at every call besides (`desk::World`).

use crate::abi::{BYTES_MAX, CALLS_MAX, FUEL_MAX, Imports};
use aquifer_protocol::canonical::encodes_to;
use aquifer_protocol::identity::{Keys, digest, verify};
use minicbor::{Decode, Encode};

const DOMAIN: &str = "aquifer/agent-manifest/1";

/// Most bytes of a manifest.
pub const MANIFEST_MAX: usize = 16_384;

/// What an agent may do.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(array)]
pub struct Manifest {
    /// What it is called.
    #[n(0)]
    pub name: String,
    /// BLAKE3 of the module.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub module: [u8; 32],
    /// What it may ask of its host.
    #[n(2)]
    pub imports: Imports,
    /// Topics on which it may speak: these and all below them.
    #[n(3)]
    pub publishes: Vec<String>,
    /// Topics that wake it: these and all below them.
    #[n(4)]
    pub follows: Vec<String>,
    /// What the keys begin with under which it may remember and recall.
    #[n(5)]
    pub remembers: Vec<String>,
    /// What one wake may use.
    #[n(6)]
    pub budget: Budget,
    /// What it may use in a minute.
    #[n(7)]
    pub rate: Rate,
    /// Most bytes of keys and values of its own.
    #[n(8)]
    pub kv_bytes: u32,
    /// It is not woken after this, in milliseconds since 1970.
    #[n(9)]
    pub not_after: u64,
    /// So many of so many holders must agree on each of its steps; none need be asked if there is none.
    #[n(10)]
    pub attest: Option<Attest>,
}

/// What one wake may use.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(array)]
pub struct Budget {
    /// Fuel: about one for an instruction. Engines count it differently, so no receipt names it.
    #[n(0)]
    pub fuel: u64,
    /// Calls of the host.
    #[n(1)]
    pub calls: u32,
    /// Bytes that it says, remembers, writes and logs, together.
    #[n(2)]
    pub bytes: u32,
}

/// What an agent may use in a minute.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(array)]
pub struct Rate {
    /// Wakes.
    #[n(0)]
    pub wakes: u32,
    /// Things said and remembered.
    #[n(1)]
    pub messages: u32,
    /// Their bytes.
    #[n(2)]
    pub bytes: u32,
}

/// How many must agree.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(array)]
pub struct Attest {
    /// So many,
    #[n(0)]
    pub agree: u8,
    /// of so many.
    #[n(1)]
    pub of: u8,
}

impl Budget {
    /// Enough for an agent that does something: a tenth of a second of an interpreter at the most.
    pub const USUAL: Self = Self {
        fuel: 10_000_000,
        calls: 256,
        bytes: 65_536,
    };

    /// The most that a wake can have.
    pub const MOST: Self = Self {
        fuel: FUEL_MAX,
        calls: CALLS_MAX,
        bytes: BYTES_MAX,
    };

    /// As much of it as can be had.
    #[must_use]
    pub fn cut(self) -> Self {
        Self {
            fuel: self.fuel.min(FUEL_MAX),
            calls: self.calls.min(CALLS_MAX),
            bytes: self.bytes.min(BYTES_MAX),
        }
    }

    /// Whether a wake can have so much: more is not to be had, whoever grants it.
    ///
    /// # Errors
    /// [`RefuseManifest::Budget`] of the first that is too much.
    pub fn can_be(&self) -> Result<(), RefuseManifest> {
        let all = [
            ("fuel", self.fuel, FUEL_MAX),
            ("calls", self.calls.into(), CALLS_MAX.into()),
            ("bytes", self.bytes.into(), BYTES_MAX.into()),
        ];
        let beyond = all.into_iter().find(|(_, granted, most)| granted > most);
        beyond.map_or(Ok(()), |(what, granted, most)| {
            Err(RefuseManifest::Budget {
                what,
                granted,
                most,
            })
        })
    }
}

impl Rate {
    /// An agent that wakes every second, and speaks.
    pub const USUAL: Self = Self {
        wakes: 600,
        messages: 600,
        bytes: 1 << 20,
    };
}

/// Why a manifest does not count.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RefuseManifest {
    /// Not the canonical encoding of a manifest and its signature.
    #[error("the manifest is malformed")]
    Malformed,
    /// Its publisher did not sign it.
    #[error("the manifest is not signed by its publisher")]
    Unsigned,
    /// It is for another module.
    #[error("the manifest is for another module")]
    OtherModule,
    /// It grants more than a wake can have anywhere.
    #[error("the manifest grants {granted} {what} for one wake; at most {most} can be had")]
    Budget {
        /// Of what: `fuel`, `calls` or `bytes`.
        what: &'static str,
        /// How much it grants.
        granted: u64,
        /// How much there is.
        most: u64,
    },
    /// It has run out.
    #[error("the manifest ran out at {not_after} ms since 1970")]
    Expired {
        /// When.
        not_after: u64,
    },
}

/// A manifest as it travels, and whose it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Granted {
    /// What it says.
    pub manifest: Manifest,
    /// The key that signed it.
    pub publisher: [u8; 32],
    bytes: Vec<u8>,
}

#[derive(Encode, Decode)]
#[cbor(array)]
struct Signed {
    #[cbor(n(0), with = "minicbor::bytes")]
    manifest: Vec<u8>,
    #[cbor(n(1), with = "minicbor::bytes")]
    publisher: [u8; 32],
    #[cbor(n(2), with = "minicbor::bytes")]
    signature: [u8; 64],
}

impl Granted {
    /// Signs a manifest.
    pub fn sign(keys: &Keys, manifest: Manifest) -> Self {
        let inner = encoded(&manifest);
        let signed = Signed {
            signature: keys.sign(&signed_bytes(&inner)),
            publisher: keys.public(),
            manifest: inner,
        };
        Self {
            manifest,
            publisher: signed.publisher,
            bytes: encoded(&signed),
        }
    }

    /// Opens what was signed elsewhere, for `module`, at `now` milliseconds since 1970. At 0 it is read as
    /// something that was granted before, in a journal or an entry: it has not run out, and a budget may be
    /// beyond what can be had, as it could be once (it is cut when the agent wakes).
    ///
    /// # Errors
    /// Why it does not count. A stranger may have made the bytes.
    pub fn open(bytes: &[u8], module: &[u8; 32], now: u64) -> Result<Self, RefuseManifest> {
        let granted = Self::read(bytes)?;
        let Manifest {
            module: of,
            not_after,
            budget,
            ..
        } = granted.manifest;
        if of != *module {
            return Err(RefuseManifest::OtherModule);
        }
        if not_after < now {
            return Err(RefuseManifest::Expired { not_after });
        }
        if now > 0 {
            budget.can_be()?;
        }
        Ok(granted)
    }

    /// Opens a manifest that was signed elsewhere, whatever module it is for and whether or not it has
    /// run out.
    ///
    /// # Errors
    /// Why it does not count. A stranger may have made the bytes.
    pub fn read(bytes: &[u8]) -> Result<Self, RefuseManifest> {
        if bytes.len() > MANIFEST_MAX {
            return Err(RefuseManifest::Malformed);
        }
        let signed: Signed = canonical(bytes).ok_or(RefuseManifest::Malformed)?;
        let manifest: Manifest = canonical(&signed.manifest).ok_or(RefuseManifest::Malformed)?;
        let message = signed_bytes(&signed.manifest);
        if !verify(&signed.publisher, &message, &signed.signature) {
            return Err(RefuseManifest::Unsigned);
        }
        Ok(Self {
            manifest,
            publisher: signed.publisher,
            bytes: bytes.to_vec(),
        })
    }

    /// The key of the agent that is this manifest's copy number `copy`. It stays when the publisher
    /// gives the agent another module.
    pub fn agent(&self, copy: u32) -> [u8; 32] {
        let name = self.manifest.name.as_bytes();
        digest(
            "aquifer/agent/1",
            &[&self.publisher, name, &copy.to_be_bytes()],
        )
    }

    /// As it travels.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl Manifest {
    /// Whether this one grants nothing that `other` does not.
    pub fn narrows(&self, other: &Self) -> bool {
        let within =
            |ours: &[String], theirs: &[String]| ours.iter().all(|name| covers(theirs, name));
        let (rate, wider) = (self.rate, other.rate);
        self.module == other.module
            && self.imports.iter().all(|import| other.imports.has(import))
            && within(&self.publishes, &other.publishes)
            && within(&self.follows, &other.follows)
            && within(&self.remembers, &other.remembers)
            && self.budget.fuel <= other.budget.fuel
            && self.budget.calls <= other.budget.calls
            && self.budget.bytes <= other.budget.bytes
            && rate.wakes <= wider.wakes
            && rate.messages <= wider.messages
            && rate.bytes <= wider.bytes
            && self.kv_bytes <= other.kv_bytes
            && self.not_after <= other.not_after
            && other.attest.is_none_or(|asked| {
                self.attest
                    .is_some_and(|ours| ours.agree >= asked.agree && ours.of >= asked.of)
            })
    }
}

/// Whether one of `names` is `name`, or a name above it.
pub fn covers(names: &[String], name: &str) -> bool {
    names.iter().any(|above| {
        let rest = name.strip_prefix(above.as_str());
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    })
}

fn signed_bytes(manifest: &[u8]) -> [u8; 32] {
    digest(DOMAIN, &[manifest])
}

fn encoded<T: Encode<()>>(value: &T) -> Vec<u8> {
    minicbor::to_vec(value).expect("a vector takes any encoding")
}

/// What `bytes` say, if they say it in the one way there is.
pub(crate) fn canonical<T: Encode<()> + for<'b> Decode<'b, ()>>(bytes: &[u8]) -> Option<T> {
    let value: T = minicbor::decode(bytes).ok()?;
    encodes_to(&value, bytes).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::Import;

    fn manifest() -> Manifest {
        Manifest {
            name: "sensor".into(),
            module: [7; 32],
            imports: Imports::USUAL,
            publishes: vec!["plant/alerts".into()],
            follows: vec!["plant/readings".into()],
            remembers: vec!["plant".into()],
            budget: Budget::USUAL,
            rate: Rate::USUAL,
            kv_bytes: 4_096,
            not_after: 1_000,
            attest: Some(Attest { agree: 2, of: 3 }),
        }
    }

    #[test]
    fn what_was_signed_opens_and_nothing_else_does() {
        let keys = Keys::from_secret(&[1; 32]);
        let granted = Granted::sign(&keys, manifest());
        let bytes = granted.as_bytes();
        assert_eq!(Ok(granted.clone()), Granted::open(bytes, &[7; 32], 1_000));
        let expired = RefuseManifest::Expired { not_after: 1_000 };
        assert_eq!(Err(expired), Granted::open(bytes, &[7; 32], 1_001));
        let other = Err(RefuseManifest::OtherModule);
        assert_eq!(other, Granted::open(bytes, &[8; 32], 0));
        for place in 0..bytes.len() {
            for bit in 0..8 {
                let mut bad = bytes.to_vec();
                bad[place] ^= 1 << bit;
                assert!(Granted::open(&bad, &[7; 32], 0).is_err(), "{place}.{bit}");
            }
            assert!(Granted::open(&bytes[..place], &[7; 32], 0).is_err());
        }
    }

    #[test]
    fn a_budget_beyond_what_there_is_is_refused_anew_and_read_where_it_was_granted() {
        let keys = Keys::from_secret(&[1; 32]);
        let most = Budget::MOST;
        let fuel = Budget {
            fuel: FUEL_MAX + 1,
            ..most
        };
        let calls = Budget {
            calls: CALLS_MAX + 1,
            ..most
        };
        let bytes = Budget {
            bytes: BYTES_MAX + 1,
            ..most
        };
        let beyond = [
            ("fuel", FUEL_MAX, fuel),
            ("calls", CALLS_MAX.into(), calls),
            ("bytes", BYTES_MAX.into(), bytes),
        ];
        for (what, most, budget) in beyond {
            let manifest = Manifest {
                budget,
                ..manifest()
            };
            let bytes = Granted::sign(&keys, manifest).as_bytes().to_vec();
            let granted = most + 1;
            let refused = RefuseManifest::Budget {
                what,
                granted,
                most,
            };
            assert_eq!(Err(refused), Granted::open(&bytes, &[7; 32], 1));
            assert!(Granted::open(&bytes, &[7; 32], 0).is_ok());
            assert!(Granted::read(&bytes).is_ok());
        }
        let mut most = manifest();
        most.budget = Budget::MOST;
        let bytes = Granted::sign(&keys, most).as_bytes().to_vec();
        assert!(Granted::open(&bytes, &[7; 32], 1).is_ok());
    }

    #[test]
    fn a_manifest_may_be_narrowed_and_no_more() {
        let whole = manifest();
        assert!(whole.narrows(&whole));
        let narrower = |change: fn(&mut Manifest)| {
            let mut other = manifest();
            change(&mut other);
            (other.narrows(&whole), whole.narrows(&other))
        };
        assert_eq!((true, false), narrower(|m| m.budget.fuel -= 1));
        assert_eq!(
            (true, false),
            narrower(|m| m.publishes = vec!["plant/alerts/a".into()])
        );
        assert_eq!(
            (true, false),
            narrower(|m| m.imports = Imports::NONE.with(Import::Log))
        );
        assert_eq!((false, true), narrower(|m| m.attest = None));
        assert_eq!(
            (false, true),
            narrower(|m| m.publishes = vec!["plant".into()])
        );
        assert_eq!(
            (false, false),
            narrower(|m| m.publishes = vec!["plant/alertsx".into()])
        );
        assert_eq!((false, false), narrower(|m| m.module = [8; 32]));
    }
}

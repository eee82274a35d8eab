//! The ABI `mva1`: what passes between a guest and its host.
//!
//! A guest is a core module with one page of memory. It exports where its state and its inbox lie; the
//! host writes the state and the input there, calls `handle`, and reads the state again. Everything else
//! goes through twelve imports, each of which a manifest grants or not. `wasm-agent/mva1.wit` documents
//! the same for whoever writes guests.
//!
//! Not here: what a call does (`desk`), whether a module keeps to the ABI (`profile`).

use minicbor::{Decode, Encode, Encoder};

/// What `mva_abi` of a guest returns.
pub const ABI: i32 = 1;
/// Bytes of a guest's memory.
pub const PAGE: usize = 65_536;
/// Most bytes of a state.
pub const STATE_MAX: usize = 1_024;
/// Most bytes of an input, as it lies in the inbox.
pub const INBOX_MAX: usize = 16_384;
/// Most bytes of a module.
pub const MODULE_MAX: usize = 65_536;
/// Most fuel of one wake: what a manifest gives beyond it is not to be had.
pub const FUEL_MAX: u64 = 10_000_000;
/// Most calls of the host in one wake, by the same rule.
pub const CALLS_MAX: u32 = 1_024;
/// Most bytes that one wake says, remembers, writes, logs, asks and draws, by the same rule.
pub const BYTES_MAX: u32 = 262_144;
/// Most bytes that the world answers in one wake. An answer that would be beyond them is too large.
pub const ANSWERS_MAX: usize = 524_288;

/// What a host does for a guest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum Import {
    /// Says something on a topic, or answers an invocation if the topic is empty.
    Publish = 0,
    /// Says something to another agent.
    Send = 1,
    /// Remembers a text under a key.
    Remember = 2,
    /// Asks what is remembered.
    Recall = 3,
    /// Reads a value of the agent's own.
    KvGet = 4,
    /// Writes a value of the agent's own.
    KvPut = 5,
    /// The time of this wake.
    Now = 6,
    /// Bytes as if drawn, which are the same when the wake is run again: no secret of the guest's.
    Random = 7,
    /// Asks to be woken later.
    WakeAfter = 8,
    /// A line for whoever reads logs.
    Log = 9,
    /// How the agent is.
    Health = 10,
    /// Asks a model, where the node has one.
    Infer = 11,
}

impl Import {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 12] = [
        Self::Publish,
        Self::Send,
        Self::Remember,
        Self::Recall,
        Self::KvGet,
        Self::KvPut,
        Self::Now,
        Self::Random,
        Self::WakeAfter,
        Self::Log,
        Self::Health,
        Self::Infer,
    ];

    /// What it is called in the module `mva1`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::Send => "send",
            Self::Remember => "remember",
            Self::Recall => "recall",
            Self::KvGet => "kv_get",
            Self::KvPut => "kv_put",
            Self::Now => "now",
            Self::Random => "random",
            Self::WakeAfter => "wake_after",
            Self::Log => "log",
            Self::Health => "health",
            Self::Infer => "infer",
        }
    }

    /// How many `i32` it takes. All return one, but `now`, which returns an `i64`.
    pub fn arity(self) -> usize {
        match self {
            Self::Now => 0,
            Self::WakeAfter => 1,
            Self::Random => 2,
            Self::Send | Self::Log | Self::Health => 3,
            Self::Publish | Self::Remember | Self::Recall => 4,
            Self::KvGet | Self::KvPut | Self::Infer => 4,
        }
    }

    /// The one of this name, if there is one.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|import| import.name() == name)
    }
}

/// Some imports.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Encode, Decode)]
#[cbor(transparent)]
pub struct Imports(#[n(0)] u16);

impl Imports {
    /// None.
    pub const NONE: Self = Self(0);
    /// All but `infer`, which a node has to have a model for.
    pub const USUAL: Self = Self((1 << Import::Infer as u8) - 1);

    /// These and one more.
    #[must_use]
    pub fn with(self, import: Import) -> Self {
        Self(self.0 | 1 << import as u8)
    }

    /// Whether one is among them.
    pub fn has(self, import: Import) -> bool {
        self.0 >> import as u8 & 1 == 1
    }

    /// All that are among them.
    pub fn iter(self) -> impl Iterator<Item = Import> {
        Import::ALL
            .into_iter()
            .filter(move |import| self.has(*import))
    }
}

/// Why a host did not do what a guest asked: the negative number that the guest gets.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[repr(i32)]
pub enum Code {
    /// There is no such thing.
    #[error("not found")]
    NotFound = -1,
    /// Outside of the guest's memory, or not what it should be.
    #[error("a bad argument")]
    Bad = -2,
    /// Larger than may be, or than the room for it.
    #[error("too large")]
    TooLarge = -3,
    /// More than the manifest gives.
    #[error("over its quota")]
    Quota = -4,
    /// Not now.
    #[error("not available")]
    Unavailable = -5,
    /// The law of the topic forbids it.
    #[error("forbidden by law")]
    Forbidden = -6,
    /// The manifest does not grant it.
    #[error("not granted")]
    NotGranted = -7,
}

impl Code {
    /// The one with this number, if there is one.
    pub fn from_number(number: i32) -> Option<Self> {
        [
            Self::NotFound,
            Self::Bad,
            Self::TooLarge,
            Self::Quota,
            Self::Unavailable,
            Self::Forbidden,
            Self::NotGranted,
        ]
        .into_iter()
        .find(|code| *code as i32 == number)
    }
}

/// Why an agent wakes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Cause {
    /// Another agent said something to it.
    Message = 0,
    /// Something was said on a topic that it follows.
    Publication = 1,
    /// The time has come that it asked for.
    Timer = 2,
    /// A person or a tool invokes it.
    Invocation = 3,
}

/// What an agent wakes to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Wakeup {
    /// Why.
    pub cause: Cause,
    /// The key of the agent that said it, if one did.
    pub from: Option<[u8; 32]>,
    /// On which topic, if on one.
    pub topic: String,
    /// When, in milliseconds since 1970: the time that the guest sees.
    pub stamp: u64,
    /// What.
    pub body: Vec<u8>,
}

impl Wakeup {
    /// As it lies in the inbox: canonical CBOR, an array of cause, sender, topic, stamp and body.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.encoded_len());
        minicbor::encode(self, &mut bytes).expect("a vector takes any encoding");
        bytes
    }

    /// How many bytes that are.
    pub fn encoded_len(&self) -> usize {
        let head = |number: u64| match number {
            0..=23 => 1,
            24..=0xff => 2,
            0x100..=0xffff => 3,
            0x1_0000..=0xffff_ffff => 5,
            _ => 9,
        };
        let counted = |len: usize| head(len as u64) + len;
        let from = self.from.map_or(0, |from| from.len());
        2 + counted(from) + counted(self.topic.len()) + head(self.stamp) + counted(self.body.len())
    }

    /// What lies in an inbox, if it is canonical.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let mut d = minicbor::Decoder::new(bytes);
        let wakeup = Self::decoded(&mut d)?;
        (wakeup.to_bytes() == bytes).then_some(wakeup)
    }

    fn decoded(d: &mut minicbor::Decoder<'_>) -> Option<Self> {
        let cause = match (d.array().ok()??, d.u8().ok()?) {
            (5, 0) => Cause::Message,
            (5, 1) => Cause::Publication,
            (5, 2) => Cause::Timer,
            (5, 3) => Cause::Invocation,
            _ => return None,
        };
        let from = match d.bytes().ok()? {
            [] => None,
            from => Some(from.try_into().ok()?),
        };
        Some(Self {
            cause,
            from,
            topic: d.str().ok()?.to_owned(),
            stamp: d.u64().ok()?,
            body: d.bytes().ok()?.to_vec(),
        })
    }
}

impl<C> Encode<C> for Wakeup {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        let from: &[u8] = self.from.as_ref().map_or(&[], |from| from);
        e.array(5)?.u8(self.cause as u8)?.bytes(from)?;
        e.str(&self.topic)?.u64(self.stamp)?.bytes(&self.body)?.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn imports_have_names_of_their_own_and_are_found_by_them() {
        for (number, import) in Import::ALL.into_iter().enumerate() {
            assert_eq!(number, import as usize);
            assert_eq!(Some(import), Import::named(import.name()));
        }
        assert_eq!(None, Import::named("fork"));
        let some = Imports::NONE.with(Import::Log).with(Import::Now);
        assert_eq!(
            vec![Import::Now, Import::Log],
            some.iter().collect::<Vec<_>>()
        );
        assert!(!Imports::USUAL.has(Import::Infer) && Imports::USUAL.has(Import::Health));
    }

    #[test]
    fn codes_are_negative_and_found_by_their_numbers() {
        for number in -7..0 {
            assert_eq!(
                Some(number),
                Code::from_number(number).map(|code| code as i32)
            );
        }
        assert_eq!(None, Code::from_number(0));
    }

    #[test]
    fn a_wakeup_is_canonical() {
        let wakeup = Wakeup {
            cause: Cause::Publication,
            from: None,
            topic: "a/b".into(),
            stamp: 500,
            body: vec![7],
        };
        let bytes = [0x85, 1, 0x40, 0x63, b'a', b'/', b'b', 0x19, 1, 244, 0x41, 7];
        assert_eq!(bytes.to_vec(), wakeup.to_bytes());
        assert_eq!(Some(wakeup), Wakeup::read(&bytes));
        for cut in 0..bytes.len() {
            assert_eq!(None, Wakeup::read(&bytes[..cut]));
        }
        assert_eq!(None, Wakeup::read(&[&bytes[..], &[0]].concat()));
    }

    #[test]
    fn a_wakeup_knows_how_long_it_is() {
        for bits in (0..64).step_by(3) {
            for len in [0, 1, 23, 24, 255, 256, 70_000] {
                let wakeup = Wakeup {
                    cause: Cause::Timer,
                    from: (bits % 2 == 0).then_some([0; 32]),
                    topic: "t".repeat(len % 300),
                    stamp: 1 << bits,
                    body: vec![0; len],
                };
                assert_eq!(wakeup.to_bytes().len(), wakeup.encoded_len());
            }
        }
    }
}

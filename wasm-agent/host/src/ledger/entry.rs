//! Entries: a step with all that it takes to check it, as it travels.
//!
//! In canonical CBOR: an array of the manifest, the module, the step, its receipt and the proof that a
//! node signed for it. A stranger may have made the bytes: they are bounded, the manifest opens, and
//! there is one encoding of each entry. To a node that is known to have the module it travels *bare*: with
//! no bytes where the module stands, which is a module for nobody else. Whether the step follows from what it says, only taking it again
//! shows.
//!
//! Not here: taking it again (`checker`).

use super::Kind;
use crate::abi::{Code, MODULE_MAX, Wakeup};
use crate::desk::Answer;
use crate::journal::PAYLOAD_MAX;
use crate::manifest::{Granted, MANIFEST_MAX};
use crate::receipt::{BATCH_MAX, Proof, Receipt};
use crate::wake::Step;
use minicbor::decode::Error as Malformed;
use minicbor::{Decoder, Encoder};
use std::sync::Arc;

/// Most bytes of an entry.
pub const ENTRY_MAX: usize = MANIFEST_MAX + MODULE_MAX + PAYLOAD_MAX + 2_048;

/// Hashes beside the way to the root of the largest batch.
const PATH_MAX: usize = BATCH_MAX.ilog2() as usize;

const _: () = assert!(BATCH_MAX.is_power_of_two(), "its tree is so deep");

/// A step that a node has signed for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// What the agent is and what it may do.
    pub kind: Arc<Kind>,
    /// What it did.
    pub step: Step,
    /// The same in hashes.
    pub receipt: Receipt,
    /// That a node answers for it.
    pub proof: Proof,
}

impl Entry {
    /// As it travels: at most [`ENTRY_MAX`] bytes, if it came from a ledger.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.with_module(self.kind.module())
    }

    /// As it travels to a node that has the module.
    pub fn to_bytes_bare(&self) -> Vec<u8> {
        self.with_module(&[])
    }

    fn with_module(&self, module: &[u8]) -> Vec<u8> {
        let mut e = Encoder::new(Vec::new());
        let written = (|| {
            e.array(5)?
                .bytes(self.kind.granted().as_bytes())?
                .bytes(module)?
                .bytes(&step_to_bytes(&self.step))?;
            receipt_into(&mut e, &self.receipt)?;
            proof_into(&mut e, &self.proof)
        })();
        written.expect("a vector takes any encoding");
        e.into_writer()
    }

    /// What travelled, if it is an entry, in its one encoding.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        Self::read_among(bytes, std::iter::empty())
    }

    /// The same; a kind that is among those `known` is not opened again.
    pub(super) fn read_among<'k>(
        bytes: &[u8],
        known: impl Iterator<Item = &'k Arc<Kind>>,
    ) -> Option<Self> {
        if bytes.len() > ENTRY_MAX {
            return None;
        }
        let mut d = Decoder::new(bytes);
        let entry = Self::decoded(&mut d, |manifest, module| {
            let mut known = known;
            let is_it = |kind: &&Arc<Kind>| {
                kind.granted().as_bytes() == manifest && kind.module() == module
            };
            match known.find(is_it) {
                Some(kind) => Some(kind.clone()),
                // What has run out since was granted when the step was taken; the step's time says when.
                None => Some(Arc::new(Kind::open(manifest, module.to_vec(), 0).ok()?)),
            }
        })?;
        (entry.to_bytes() == bytes).then_some(entry)
    }

    /// What travelled to a node that has `kind`, if it is an entry of that kind, bare or not.
    pub fn read_of(bytes: &[u8], kind: &Arc<Kind>) -> Option<Self> {
        if bytes.len() > ENTRY_MAX {
            return None;
        }
        let mut is_bare = false;
        let entry = Self::decoded(&mut Decoder::new(bytes), |manifest, module| {
            is_bare = module.is_empty();
            let fits = is_bare || module == kind.module();
            (manifest == kind.granted().as_bytes() && fits).then(|| kind.clone())
        })?;
        let again = match is_bare {
            true => entry.to_bytes_bare(),
            false => entry.to_bytes(),
        };
        (again == bytes).then_some(entry)
    }

    /// What travelled bare; `module_of` has the module of a hash, if anybody here has it.
    pub fn read_bare(
        bytes: &[u8],
        module_of: impl FnOnce(&[u8; 32]) -> Option<Vec<u8>>,
    ) -> Option<Self> {
        if bytes.len() > ENTRY_MAX {
            return None;
        }
        let entry = Self::decoded(&mut Decoder::new(bytes), |manifest, module| {
            let granted = Granted::read(manifest).ok()?;
            let module = module
                .is_empty()
                .then(|| module_of(&granted.manifest.module));
            Some(Arc::new(Kind::new(granted, module.flatten()?).ok()?))
        })?;
        (entry.to_bytes_bare() == bytes).then_some(entry)
    }

    fn decoded(
        d: &mut Decoder<'_>,
        kind_of: impl FnOnce(&[u8], &[u8]) -> Option<Arc<Kind>>,
    ) -> Option<Self> {
        let Ok(Some(5)) = d.array() else {
            return None;
        };
        let (manifest, module) = (d.bytes().ok()?, d.bytes().ok()?);
        if module.len() > MODULE_MAX {
            return None;
        }
        let step = step_from_bytes(d.bytes().ok()?)?;
        let receipt = receipt_from(d)?;
        let proof = proof_from(d)?;
        Some(Self {
            kind: kind_of(manifest, module)?,
            step,
            receipt,
            proof,
        })
    }
}

impl Step {
    /// As it travels: canonical CBOR, an array of agent, number, input, state before, answers, effects,
    /// state after and what `handle` returned.
    pub fn to_bytes(&self) -> Vec<u8> {
        step_to_bytes(self)
    }

    /// What travelled, if it is a step, in its one encoding. A stranger may have made the bytes.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        step_from_bytes(bytes)
    }
}

type Encoded = Result<(), minicbor::encode::Error<core::convert::Infallible>>;

/// A step in canonical CBOR: an array of agent, number, input, state before, answers (bytes, or the code
/// of a refusal), effects, state after and what `handle` returned.
pub(super) fn step_to_bytes(step: &Step) -> Vec<u8> {
    let mut e = Encoder::new(Vec::with_capacity(512));
    let mut write = || -> Encoded {
        e.array(8)?.bytes(&step.agent)?.u64(step.seq)?;
        e.bytes(&step.wakeup.to_bytes())?.bytes(&step.before)?;
        e.array(step.answers.len() as u64)?;
        for answer in &step.answers {
            match answer {
                Ok(bytes) => e.bytes(bytes)?,
                Err(code) => e.i32(*code as i32)?,
            };
        }
        e.encode(&step.effects)?
            .bytes(&step.after)?
            .i32(step.code)?;
        Ok(())
    };
    write().expect("a vector takes any encoding");
    e.into_writer()
}

/// What `bytes` say, if they are a step in its one encoding.
pub(super) fn step_from_bytes(bytes: &[u8]) -> Option<Step> {
    let mut d = Decoder::new(bytes);
    let Ok(Some(8)) = d.array() else {
        return None;
    };
    let agent = d.bytes().ok()?.try_into().ok()?;
    let seq = d.u64().ok()?;
    let wakeup = Wakeup::read(d.bytes().ok()?)?;
    let before = d.bytes().ok()?.to_vec();
    let count = d.array().ok()??;
    // Not all at once: the count is a stranger's.
    let mut answers = Vec::new();
    for _ in 0..count {
        answers.push(answer(&mut d).ok()??);
    }
    let step = Step {
        agent,
        seq,
        wakeup,
        before,
        answers,
        effects: d.decode().ok()?,
        after: d.bytes().ok()?.to_vec(),
        code: d.i32().ok()?,
    };
    (step_to_bytes(&step) == bytes).then_some(step)
}

fn answer(d: &mut Decoder<'_>) -> Result<Option<Answer>, Malformed> {
    Ok(match d.datatype()? {
        minicbor::data::Type::Bytes => Some(Ok(d.bytes()?.to_vec())),
        _ => Code::from_number(d.i32()?).map(Err),
    })
}

fn receipt_into(e: &mut Encoder<Vec<u8>>, receipt: &Receipt) -> Encoded {
    e.array(9)?
        .bytes(&receipt.kind)?
        .bytes(&receipt.agent)?
        .u64(receipt.seq)?
        .bytes(&receipt.input)?
        .bytes(&receipt.before)?
        .bytes(&receipt.answers)?
        .bytes(&receipt.effects)?
        .bytes(&receipt.after)?
        .i32(receipt.code)?
        .ok()
}

fn receipt_from(d: &mut Decoder<'_>) -> Option<Receipt> {
    let Ok(Some(9)) = d.array() else {
        return None;
    };
    Some(Receipt {
        kind: hash(d)?,
        agent: hash(d)?,
        seq: d.u64().ok()?,
        input: hash(d)?,
        before: hash(d)?,
        answers: hash(d)?,
        effects: hash(d)?,
        after: hash(d)?,
        code: d.i32().ok()?,
    })
}

fn hash(d: &mut Decoder<'_>) -> Option<[u8; 32]> {
    d.bytes().ok()?.try_into().ok()
}

fn proof_into(e: &mut Encoder<Vec<u8>>, proof: &Proof) -> Encoded {
    e.array(5)?
        .u64(proof.place as u64)?
        .u64(proof.count as u64)?
        .bytes(&proof.node)?
        .bytes(&proof.signature)?
        .bytes(proof.path.as_flattened())?
        .ok()
}

fn proof_from(d: &mut Decoder<'_>) -> Option<Proof> {
    let Ok(Some(5)) = d.array() else {
        return None;
    };
    let place = d.u16().ok()?.into();
    let count = d.u16().ok()?.into();
    let (node, signature) = (hash(d)?, d.bytes().ok()?.try_into().ok()?);
    let (path, rest) = d.bytes().ok()?.as_chunks();
    if path.len() > PATH_MAX || !rest.is_empty() {
        return None;
    }
    Some(Proof {
        place,
        node,
        signature,
        count,
        path: path.to_vec(),
    })
}

//! Records: the signed, content-addressed unit of memory.
//!
//! A record is an envelope and a body. The envelope is a COSE_Sign1 (RFC 9052) whose payload is the
//! [`Header`]; it names the body by hash, so the body can be erased while the chain of headers still
//! verifies. [`Record::author`] and [`Record::open`] are the only ways to hold one, and
//! [`open_run`] opens a stretch of one log for the price of one signature.
//!
//! Not here: what a body says (`body`), whether the writer may write (`law`, `decide`).

use crate::body::Kind;
use crate::canonical::encodes_to;
use crate::envelope;
use crate::identity::{AgentId, Keys, NodeId, digest, id32, verify};
use crate::limits::{BODY_BYTES_MAX, ENVELOPE_BYTES_MAX};
use crate::time::Stamp;
use crate::topic::TopicId;
use bytes::Bytes;
use minicbor::{Decode, Encode};
use std::sync::Arc;

const SALT_BYTES: usize = 16;

id32! {
    /// A record's id: BLAKE3 of a domain string and the header's bytes.
    RecordId
}

/// Which of a writer's logs of a topic: 64 random bits, drawn when a store is made or restored.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Encode, Decode)]
#[cbor(transparent)]
pub struct LogId(#[n(0)] pub u64);

/// A record's place in its log, from 0.
pub type Seq = u64;

/// What the writer signs.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct Header {
    /// The format: 1.
    #[n(0)]
    pub version: u8,
    /// The topic.
    #[n(1)]
    pub topic: TopicId,
    /// The node that signed it.
    #[n(2)]
    pub writer: NodeId,
    /// Which of its logs.
    #[n(3)]
    pub log: LogId,
    /// The place in that log.
    #[n(4)]
    pub seq: Seq,
    /// The record before it in the log; zeros for the first.
    #[n(5)]
    pub prev: RecordId,
    /// When, by the writer's hybrid clock.
    #[n(6)]
    pub stamp: Stamp,
    /// What the body is.
    #[n(7)]
    pub kind: Kind,
    /// The agent for whom it was written.
    #[n(8)]
    pub author: AgentId,
    /// How many policies governed the topic when it was written.
    #[n(9)]
    pub policy_epoch: u64,
    /// BLAKE3 of the certificate chain under which it was written.
    #[cbor(n(10), with = "minicbor::bytes")]
    pub cap_hash: [u8; 32],
    /// The body's length in bytes.
    #[n(11)]
    pub body_len: u32,
    /// BLAKE3 of the body's salt and bytes, as carried.
    #[cbor(n(12), with = "minicbor::bytes")]
    pub body_hash: [u8; 32],
}

/// The first record of a log follows this.
pub const NO_RECORD: RecordId = RecordId([0; 32]);

/// A record that has been checked: canonical, within its limits, signed by its writer or chained to
/// a record that is. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record(Arc<Inner>);

#[derive(Debug, PartialEq, Eq)]
struct Inner {
    id: RecordId,
    header: Header,
    envelope: Bytes,
    body: Option<Bytes>,
    signed: bool,
}

/// Why bytes are not a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenRecord {
    /// Longer than a record may be.
    #[error("the record is too long")]
    Oversized,
    /// Not the canonical encoding of an envelope and a header of version 1.
    #[error("the record is malformed")]
    Malformed,
    /// The writer did not sign it.
    #[error("the record is not signed by its writer")]
    Unsigned,
    /// The body is not the one its header names.
    #[error("the body does not match its header")]
    WrongBody,
    /// It does not follow the record before it.
    #[error("the record does not follow the one before it")]
    Unchained,
}

/// A body that is longer than a record may carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the body is {len} bytes long; the limit is {BODY_BYTES_MAX}")]
pub struct OversizedBody {
    /// Its length.
    pub len: usize,
}

impl Record {
    /// Signs a record. `body_len` and `body_hash` of `header` are filled in from `body` and `salt`.
    pub fn author(
        keys: &Keys,
        mut header: Header,
        salt: [u8; SALT_BYTES],
        body: &[u8],
    ) -> Result<Self, OversizedBody> {
        if body.len() > BODY_BYTES_MAX {
            return Err(OversizedBody { len: body.len() });
        }
        let carried: Bytes = [&salt[..], body].concat().into();
        header.version = 1;
        header.body_len = body.len() as u32;
        header.body_hash = digest("aquifer/body/1", &[&carried]);
        let mut payload = Vec::with_capacity(ENVELOPE_BYTES_MAX);
        minicbor::encode(&header, &mut payload).expect("a vector takes any encoding");
        let signature = keys.sign(&envelope::signed_bytes(&payload));
        let envelope = envelope::close(&payload, &signature);
        Ok(Self(Arc::new(Inner {
            id: RecordId(digest("aquifer/rec/1", &[&payload])),
            header,
            envelope: envelope.into(),
            body: Some(carried),
            signed: true,
        })))
    }

    /// Opens a record that came alone: everything is checked, the signature strictly.
    pub fn open(envelope: &Bytes, body: Option<&Bytes>) -> Result<Self, OpenRecord> {
        let record = Self::parse(envelope, body, true)?;
        if record.check_signature() {
            Ok(record)
        } else {
            Err(OpenRecord::Unsigned)
        }
    }

    /// Reads a record that this node stored after checking it. The id and the body's hash are
    /// checked again, since disks lie; the signature is not.
    pub fn from_store(
        envelope: &Bytes,
        body: Option<&Bytes>,
        signed: bool,
        id: Option<RecordId>,
    ) -> Result<Self, OpenRecord> {
        let record = Self::parse(envelope, body, signed)?;
        match id {
            Some(id) if id != record.id() => Err(OpenRecord::Malformed),
            _ => Ok(record),
        }
    }

    /// Checks all but the signature, of which `signed` is to be known.
    fn parse(envelope: &Bytes, body: Option<&Bytes>, signed: bool) -> Result<Self, OpenRecord> {
        if envelope.len() > ENVELOPE_BYTES_MAX
            || body.is_some_and(|b| b.len() > BODY_BYTES_MAX + SALT_BYTES)
        {
            return Err(OpenRecord::Oversized);
        }
        let (payload, _) = envelope::open(envelope).ok_or(OpenRecord::Malformed)?;
        let header: Header = minicbor::decode(payload).map_err(|_| OpenRecord::Malformed)?;
        // The last place of all has no next: no log gets there, and a height is a place more.
        if header.version != 1 || !encodes_to(&header, payload) || header.seq == Seq::MAX {
            return Err(OpenRecord::Malformed);
        }
        if let Some(body) = body {
            let len = body
                .len()
                .checked_sub(SALT_BYTES)
                .ok_or(OpenRecord::WrongBody)?;
            if len as u64 != u64::from(header.body_len)
                || digest("aquifer/body/1", &[body]) != header.body_hash
            {
                return Err(OpenRecord::WrongBody);
            }
        }
        Ok(Self(Arc::new(Inner {
            id: RecordId(digest("aquifer/rec/1", &[payload])),
            header,
            envelope: envelope.clone(),
            body: body.cloned(),
            signed,
        })))
    }

    /// Checks the writer's signature, whatever is known of it already.
    pub fn check_signature(&self) -> bool {
        let Some((payload, signature)) = envelope::open(&self.0.envelope) else {
            return false;
        };
        verify(
            self.header().writer.as_bytes(),
            &envelope::signed_bytes(payload),
            signature,
        )
    }

    /// The id.
    pub fn id(&self) -> RecordId {
        self.0.id
    }

    /// What the writer signed.
    pub fn header(&self) -> &Header {
        &self.0.header
    }

    /// The envelope's bytes.
    pub fn envelope(&self) -> &Bytes {
        &self.0.envelope
    }

    /// The body as carried: 16 bytes of salt, then the content. Absent once erased or expired.
    pub fn carried(&self) -> Option<&Bytes> {
        self.0.body.as_ref()
    }

    /// The body's content, of the kind the header names.
    pub fn body(&self) -> Option<Bytes> {
        self.0
            .body
            .as_ref()
            .map(|carried| carried.slice(SALT_BYTES..))
    }

    /// True if the signature itself was checked; false if a later record of the log vouches for it.
    pub fn is_signed(&self) -> bool {
        self.0.signed
    }

    /// The same record without its body.
    #[must_use]
    pub fn without_body(&self) -> Self {
        let (header, envelope) = (self.0.header.clone(), self.0.envelope.clone());
        Self(Arc::new(Inner {
            id: self.0.id,
            header,
            envelope,
            body: None,
            signed: self.0.signed,
        }))
    }

    /// How many bytes it takes on the wire, within a few.
    pub fn wire_len(&self) -> usize {
        self.0.envelope.len() + self.0.body.as_ref().map_or(1, Bytes::len) + 8
    }
}

/// Opens a stretch of one log, oldest first: checks that each record follows the one before it, and
/// the signature of the last only, since it vouches for the rest by their hashes.
pub fn open_run(parts: &[(Bytes, Option<Bytes>)]) -> Result<Vec<Record>, OpenRecord> {
    let mut run: Vec<Record> = Vec::with_capacity(parts.len());
    for (place, (envelope, body)) in parts.iter().enumerate() {
        let last = place + 1 == parts.len();
        let record = Record::parse(envelope, body.as_ref(), last)?;
        if let Some(before) = run.last() {
            let (a, b) = (before.header(), record.header());
            let same_log = (a.topic, a.writer, a.log) == (b.topic, b.writer, b.log);
            if !same_log || a.seq.checked_add(1) != Some(b.seq) || b.prev != before.id() {
                return Err(OpenRecord::Unchained);
            }
        }
        run.push(record);
    }
    match run.last() {
        Some(last) if !last.check_signature() => Err(OpenRecord::Unsigned),
        _ => Ok(run),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use coset::{CborSerializable as _, CoseSign1Builder, HeaderBuilder, iana};
    use proptest::prelude::*;

    pub(crate) fn header(keys: &Keys, seq: Seq, prev: RecordId) -> Header {
        Header {
            version: 1,
            topic: TopicId([3; 32]),
            writer: keys.node(),
            log: LogId(4),
            seq,
            prev,
            stamp: Stamp::from_bits(5),
            kind: Kind::MEMORY,
            author: AgentId([6; 32]),
            policy_epoch: 1,
            cap_hash: [7; 32],
            body_len: 0,
            body_hash: [0; 32],
        }
    }

    fn run(keys: &Keys, len: u64) -> Vec<(Bytes, Option<Bytes>)> {
        let mut prev = NO_RECORD;
        let mut parts = Vec::new();
        for seq in 0..len {
            let record =
                Record::author(keys, header(keys, seq, prev), [8; 16], b"hi").expect("short");
            prev = record.id();
            parts.push((record.envelope().clone(), record.carried().cloned()));
        }
        parts
    }

    #[test]
    fn an_authored_record_opens_to_itself() {
        let keys = Keys::from_secret(&[1; 32]);
        let record =
            Record::author(&keys, header(&keys, 0, NO_RECORD), [8; 16], b"hello").expect("short");
        let opened = Record::open(record.envelope(), record.carried()).expect("good");
        assert_eq!(opened, record);
        assert_eq!(opened.body().as_deref(), Some(&b"hello"[..]));
        let erased = Record::open(record.envelope(), None).expect("a header stands alone");
        assert_eq!((erased.id(), erased.body()), (record.id(), None));
    }

    /// I4: every flipped bit of an envelope or a body is caught.
    #[test]
    fn every_flipped_bit_is_refused() {
        let keys = Keys::from_secret(&[1; 32]);
        let record =
            Record::author(&keys, header(&keys, 0, NO_RECORD), [8; 16], b"hello").expect("short");
        let (envelope, body) = (record.envelope(), record.carried().expect("has one"));
        for bit in 0..envelope.len() * 8 {
            let mut bad = envelope.to_vec();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(Record::open(&bad.into(), Some(body)).is_err(), "bit {bit}");
        }
        for bit in 0..body.len() * 8 {
            let mut bad = body.to_vec();
            bad[bit / 8] ^= 1 << (bit % 8);
            let opened = Record::open(envelope, Some(&bad.into()));
            assert_eq!(opened.err(), Some(OpenRecord::WrongBody), "bit {bit}");
        }
    }

    #[test]
    fn a_run_is_vouched_for_by_its_last_signature() {
        let keys = Keys::from_secret(&[1; 32]);
        let parts = run(&keys, 4);
        let opened = open_run(&parts).expect("good");
        assert_eq!(
            opened.iter().map(Record::is_signed).collect::<Vec<_>>(),
            [false, false, false, true]
        );
        let mut gap = parts.clone();
        gap.remove(1);
        assert_eq!(open_run(&gap), Err(OpenRecord::Unchained));
        let mut forged = parts.clone();
        let forger = Keys::from_secret(&[2; 32]);
        let last = Record::parse(&parts[3].0, None, false)
            .expect("good")
            .header()
            .clone();
        let fake = Record::author(&forger, last, [8; 16], b"hi").expect("short");
        forged[3] = (fake.envelope().clone(), fake.carried().cloned());
        assert_eq!(open_run(&forged), Err(OpenRecord::Unsigned));
    }

    #[test]
    fn an_envelope_with_more_in_its_protected_header_is_refused() {
        let keys = Keys::from_secret(&[1; 32]);
        let payload = minicbor::to_vec(header(&keys, 0, NO_RECORD)).expect("vec");
        let protected = HeaderBuilder::new()
            .algorithm(iana::Algorithm::EdDSA)
            .key_id(vec![7])
            .build();
        let envelope = CoseSign1Builder::new()
            .protected(protected)
            .payload(payload)
            .create_signature(b"aquifer/rec/1", |message| keys.sign(message).to_vec())
            .build();
        let bytes = envelope.to_vec().expect("vec").into();
        assert_eq!(Record::open(&bytes, None), Err(OpenRecord::Malformed));
    }

    proptest! {
        #[test]
        fn hostile_envelopes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = Record::open(&bytes.into(), None);
        }
    }
}

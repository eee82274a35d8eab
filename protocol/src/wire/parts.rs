//! Parts: what a frame is read from, and checked for, on the way in.

use super::{OpenMessage, Parsed, Proof};
use crate::limits::{ITEMS_PER_MESSAGE_MAX, RECORDS_PER_MESSAGE_MAX};
use crate::receipt::Receipts;
use crate::record::{Record, open_run};
use crate::topic::TopicId;
use bytes::Bytes;
use minicbor::{Decoder, Encoder, bytes::ByteVec, encode::Write};

pub(super) fn list<'b, T>(
    d: &mut Decoder<'b>,
    max: usize,
    mut read: impl FnMut(&mut Decoder<'b>) -> Parsed<T>,
) -> Parsed<Vec<T>> {
    let len = d
        .array()?
        .and_then(|len| usize::try_from(len).ok())
        .ok_or(OpenMessage::Malformed)?;
    // Every element takes a byte at least, so a length that lies is caught before allocating.
    if len > max || len > d.input().len().saturating_sub(d.position()) {
        return Err(OpenMessage::Malformed);
    }
    let mut items = Vec::with_capacity(len);
    for _ in 0..len {
        items.push(read(d)?);
    }
    Ok(items)
}

pub(super) fn write_record<W: Write>(
    e: &mut Encoder<W>,
    record: &Record,
) -> Result<(), minicbor::encode::Error<W::Error>> {
    e.array(2)?.bytes(record.envelope())?;
    match record.carried() {
        Some(body) => e.bytes(body)?.ok(),
        None => e.null()?.ok(),
    }
}

fn read_parts(d: &mut Decoder<'_>) -> Parsed<(Bytes, Option<Bytes>)> {
    if d.array()? != Some(2) {
        return Err(OpenMessage::Malformed);
    }
    let envelope = Bytes::copy_from_slice(d.bytes()?);
    let body: Option<ByteVec> = d.decode()?;
    Ok((envelope, body.map(|body| Vec::from(body).into())))
}

pub(super) fn read_runs(d: &mut Decoder<'_>, topic: TopicId) -> Parsed<Vec<Vec<Record>>> {
    let mut records = 0;
    list(d, RECORDS_PER_MESSAGE_MAX, |d| {
        let parts = list(d, RECORDS_PER_MESSAGE_MAX, read_parts)?;
        records += parts.len();
        if records > RECORDS_PER_MESSAGE_MAX {
            return Err(OpenMessage::Malformed);
        }
        let run = open_run(&parts).map_err(|why| OpenMessage::Record { why })?;
        match run.first() {
            Some(first) if first.header().topic == topic => Ok(run),
            _ => Err(OpenMessage::Malformed),
        }
    })
}

pub(super) fn read_receipts(d: &mut Decoder<'_>) -> Parsed<Receipts> {
    let receipts: Receipts = d.decode()?;
    if receipts.held.len() > ITEMS_PER_MESSAGE_MAX {
        return Err(OpenMessage::Malformed);
    }
    if receipts.verify() {
        Ok(receipts)
    } else {
        Err(OpenMessage::Receipts)
    }
}

pub(super) fn read_proof(d: &mut Decoder<'_>) -> Parsed<Proof> {
    if d.array()? != Some(2) {
        return Err(OpenMessage::Malformed);
    }
    let mut read = || -> Parsed<Record> {
        let (envelope, body) = read_parts(d)?;
        Record::open(&envelope, body.as_ref()).map_err(|why| OpenMessage::Record { why })
    };
    let (one, other) = (read()?, read()?);
    Proof::new(&one, &other).ok_or(OpenMessage::Proof)
}

//! What agents say: CBOR, kept where people read.
//!
//! Between agents all bodies are CBOR. On a topic they are memories, so that whoever recalls can read
//! them: a CBOR text is kept as its text, anything else in diagnostic notation (RFC 8949 §8), with the
//! exact bytes beside it. What people and other tools remember reaches agents as CBOR text.

use aquifer_protocol::body::Memory;
use aquifer_protocol::limits::METADATA_VALUE_BYTES_MAX;
use data_encoding::BASE64;
use serde_json::{Map, Number, Value};
use std::collections::BTreeMap;

/// The entry with the exact bytes.
const EXACT: &str = "cbor";
/// What a text begins with that is bytes too long for an entry (RFC 2397).
const DATA: &str = "data:application/cbor;base64,";
/// How deep JSON may be nested.
const DEPTH_MAX: usize = 16;

/// The text and the entries that stand for what an agent said.
pub fn kept(said: &[u8]) -> (String, BTreeMap<String, String>) {
    let mut decoder = minicbor::Decoder::new(said);
    if let Ok(text) = decoder.str()
        && decoder.position() == said.len()
        && !text.trim().is_empty()
        && !text.starts_with(DATA)
    {
        return (text.to_owned(), BTreeMap::new());
    }
    let exact = BASE64.encode(said);
    if exact.len() <= METADATA_VALUE_BYTES_MAX {
        let entries = [(EXACT.to_owned(), exact)].into();
        return (shown(said), entries);
    }
    (format!("{DATA}{exact}"), BTreeMap::new())
}

/// What reaches an agent of a memory.
pub fn told(memory: &Memory) -> Vec<u8> {
    let exact = memory.metadata.get(EXACT).map(String::as_str);
    let exact = exact.or_else(|| memory.text.strip_prefix(DATA));
    let exact = exact.and_then(|text| BASE64.decode(text.as_bytes()).ok());
    exact.unwrap_or_else(|| minicbor::to_vec(&memory.text).expect("a vector takes any encoding"))
}

/// Bytes for people: diagnostic notation if they are CBOR.
pub fn shown(said: &[u8]) -> String {
    match minicbor::Decoder::new(said).skip() {
        Ok(()) if !said.is_empty() => minicbor::display(said).to_string(),
        _ => format!("h'{}'", data_encoding::HEXLOWER.encode(said)),
    }
}

/// JSON as CBOR. Numbers that are no integers, and what is nested too deep, have no form in it here:
/// agents know no floats.
pub fn of_json(value: &Value) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    put(&mut minicbor::Encoder::new(&mut bytes), value, DEPTH_MAX)?;
    Some(bytes)
}

fn put(e: &mut minicbor::Encoder<&mut Vec<u8>>, value: &Value, depth: usize) -> Option<()> {
    let depth = depth.checked_sub(1)?;
    match value {
        Value::Null => e.null().ok()?,
        Value::Bool(is) => e.bool(*is).ok()?,
        Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(number), _) => e.i64(number).ok()?,
            (None, Some(number)) => e.u64(number).ok()?,
            (None, None) => return None,
        },
        Value::String(text) => e.str(text).ok()?,
        Value::Array(items) => {
            e.array(items.len() as u64).ok()?;
            items.iter().try_for_each(|item| put(e, item, depth))?;
            e
        }
        Value::Object(entries) => {
            e.map(entries.len() as u64).ok()?;
            for (key, value) in entries {
                e.str(key).ok()?;
                put(e, value, depth)?;
            }
            e
        }
    };
    Some(())
}

/// CBOR as JSON, bytes in hexadecimal; none if it has no such form.
pub fn to_json(said: &[u8]) -> Option<Value> {
    let mut decoder = minicbor::Decoder::new(said);
    let value = take(&mut decoder, DEPTH_MAX)?;
    (decoder.position() == said.len()).then_some(value)
}

fn take(d: &mut minicbor::Decoder<'_>, depth: usize) -> Option<Value> {
    use minicbor::data::Type;
    let depth = depth.checked_sub(1)?;
    Some(match d.datatype().ok()? {
        Type::Null => {
            d.null().ok()?;
            Value::Null
        }
        Type::Bool => Value::Bool(d.bool().ok()?),
        Type::U8 | Type::U16 | Type::U32 | Type::U64 => Value::Number(d.u64().ok()?.into()),
        Type::I8 | Type::I16 | Type::I32 | Type::I64 => Value::Number(Number::from(d.i64().ok()?)),
        Type::String => Value::String(d.str().ok()?.to_owned()),
        Type::Bytes => Value::String(data_encoding::HEXLOWER.encode(d.bytes().ok()?)),
        Type::Array => {
            let len = d.array().ok()??;
            let items = (0..len).map(|_| take(d, depth));
            Value::Array(items.collect::<Option<_>>()?)
        }
        Type::Map => {
            let len = d.map().ok()??;
            let mut entries = Map::new();
            for _ in 0..len {
                let key = match take(d, depth)? {
                    Value::String(key) => key,
                    other => other.to_string(),
                };
                entries.insert(key, take(d, depth)?);
            }
            Value::Object(entries)
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Whatever an agent says on a topic reaches another byte for byte.
        #[test]
        fn what_is_said_is_told(said in proptest::collection::vec(any::<u8>(), 0..400), text in ".{0,40}") {
            for said in [said, minicbor::to_vec(&text).expect("vec")] {
                let (text, metadata) = kept(&said);
                let memory = Memory { metadata, ..Memory::of(text) };
                prop_assert_eq!(told(&memory), said);
            }
        }

        #[test]
        fn bytes_of_strangers_are_shown_without_a_panic(said in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = (shown(&said), to_json(&said));
        }
    }

    #[test]
    fn json_goes_there_and_back_and_floats_do_not() {
        let value = serde_json::json!([1, -7, "a", null, true, { "k": [u64::MAX] }]);
        let bytes = of_json(&value).expect("it has a form");
        assert_eq!(Some(value), to_json(&bytes));
        assert_eq!(None, of_json(&serde_json::json!(1.5)));
        let text = minicbor::to_vec("hello").expect("vec");
        assert_eq!(("hello".to_owned(), BTreeMap::new()), kept(&text));
        assert_eq!(b"\x65hello".to_vec(), told(&Memory::of("hello")));
        assert_eq!("[1, 2]", kept(&[0x82, 1, 2]).0);
    }
}

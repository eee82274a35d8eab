//! Content: what an agent at the edge did, as a memory, and a memory as what wakes an agent.
//!
//! An agent says bytes, which are CBOR by custom; people read text. A text in CBOR is that text. Anything
//! else short is shown in CBOR's diagnostic notation and kept as it was beside it; anything long is shown,
//! and kept, in hexadecimal. So whoever follows the topic gets the same bytes again.

use aquifer_protocol::body::Memory;
use aquifer_protocol::limits::{METADATA_VALUE_BYTES_MAX, TEXT_BYTES_MAX};
use aquifer_wasm::uplink::{Deed, Parcel, Step, What};
use data_encoding::HEXLOWER;

/// Of the metadata: the bytes that were said, where the text is not they.
const DATA: &str = "data";

/// The memory that a deed becomes.
///
/// # Errors
/// Why it cannot be one.
pub(super) fn of(parcel: &Parcel, step: &Step, deed: &Deed) -> Result<Memory, String> {
    let (kind, text, data) = match &deed.what {
        What::Said(data) => shown("said", data),
        What::Sent(_, data) => shown("sent", data),
        What::Remembered(_, text) => ("remembered", text.clone(), None),
        What::Health(code, words) => ("health", format!("{words} ({code})"), None),
        What::Logged(level, line) => ("log", format!("{} {line}", level_name(*level)), None),
    };
    if text.trim().is_empty() {
        return Err("there is nothing in it".to_owned());
    }
    if text.len() > TEXT_BYTES_MAX {
        let len = text.len();
        return Err(format!(
            "as text it has {len} bytes; a memory has at most {TEXT_BYTES_MAX}"
        ));
    }
    let mut memory = Memory::of(text);
    memory.class = 1;
    // The words of another member's agent, whose node this only writes for.
    memory.tier = 2;
    memory.created_at = Some(step.stamp);
    // Tags tell memories of one text apart, so these make a deed what it is known by.
    memory.tags = vec![kind.to_owned(), format!("step:{}.{}", step.seq, deed.place)];
    let mut note = |key: &str, value: String| {
        let value = value.chars().take(METADATA_VALUE_BYTES_MAX / 4).collect();
        memory.metadata.insert(key.to_owned(), value)
    };
    note("agent", parcel.name.clone());
    note("step", step.seq.to_string());
    note("place", deed.place.to_string());
    match &deed.what {
        What::Remembered(key, _) => note("key", key.clone()),
        What::Sent(to, _) => note("to", HEXLOWER.encode(to)),
        _ => None,
    };
    if let Some(data) = data {
        memory.metadata.insert(DATA.to_owned(), data);
    }
    let device = HEXLOWER.encode(&parcel.device);
    memory.source = Some(format!("edge:{device}"));
    Ok(memory)
}

/// The bytes that wake an agent: those that were said, or the text in CBOR.
pub(super) fn bytes(memory: &Memory) -> Vec<u8> {
    let kept = memory.metadata.get(DATA).map(String::as_str);
    let shown = memory
        .text
        .strip_prefix("h'")
        .and_then(|text| text.strip_suffix('\''))
        .filter(|_| memory.metadata.contains_key("agent"));
    let said = kept
        .or(shown)
        .and_then(|hex| HEXLOWER.decode(hex.as_bytes()).ok());
    said.unwrap_or_else(|| minicbor::to_vec(&memory.text).expect("a vector takes any encoding"))
}

/// Bytes as text, and as they are if the text is not they.
fn shown<'k>(kind: &'k str, data: &[u8]) -> (&'k str, String, Option<String>) {
    let hex = || HEXLOWER.encode(data);
    let mut d = minicbor::Decoder::new(data);
    if let Ok(text) = d.str()
        && minicbor::to_vec(text).is_ok_and(|bytes| bytes == data)
        && !text.starts_with("h'")
    {
        return (kind, text.to_owned(), None);
    }
    d.set_position(0);
    let whole = d.skip().is_ok() && d.position() == data.len();
    match whole && 2 * data.len() <= METADATA_VALUE_BYTES_MAX {
        true => (kind, minicbor::display(data).to_string(), Some(hex())),
        false => (kind, format!("h'{}'", hex()), None),
    }
}

fn level_name(level: u8) -> &'static str {
    match level {
        0 => "error:",
        1 => "warning:",
        2 => "information:",
        _ => "debugging:",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory(what: What) -> Result<Memory, String> {
        let deed = Deed {
            place: 2,
            topic: "plant".into(),
            what,
        };
        let step = Step {
            seq: 7,
            stamp: 5_000,
            deeds: vec![],
        };
        let parcel = Parcel {
            gateway: [1; 32],
            device: [2; 32],
            agent: [3; 32],
            name: "sensor".into(),
            steps: vec![],
        };
        of(&parcel, &step, &deed)
    }

    #[test]
    fn what_is_said_is_readable_and_comes_back_as_it_was() {
        let text = minicbor::to_vec("too hot").expect("a vector");
        let numbers = minicbor::to_vec((1, -20, "a")).expect("a vector");
        let quoted = minicbor::to_vec("h'00'").expect("a vector");
        let long = minicbor::to_vec(vec![1_000_u32; 200]).expect("a vector");
        for (data, shown) in [
            (text, "too hot"),
            (numbers, "[1, -20, \"a\"]"),
            (quoted, "\"h'00'\""),
            (vec![0xff, 0x00], "h'ff00'"),
            (vec![], "h''"),
            (long.clone(), &*format!("h'{}'", HEXLOWER.encode(&long))),
        ] {
            let memory = memory(What::Said(data.clone().into())).expect("a memory");
            assert_eq!(shown, memory.text);
            assert_eq!(data, bytes(&memory));
            assert_eq!(vec!["said", "step:7.2"], memory.tags);
            assert_eq!("7", memory.metadata["step"]);
        }
    }

    #[test]
    fn what_a_person_wrote_wakes_an_agent_as_text() {
        let written = Memory::of("h'00'");
        let expected = minicbor::to_vec("h'00'").expect("a vector");
        assert_eq!(expected, bytes(&written));
    }

    #[test]
    fn what_has_no_text_or_too_much_is_refused() {
        assert!(memory(What::Remembered("a".into(), " ".into())).is_err());
        let long = "a".repeat(TEXT_BYTES_MAX + 1);
        assert!(memory(What::Remembered("a".into(), long)).is_err());
        assert!(memory(What::Said(vec![7; TEXT_BYTES_MAX / 2].into())).is_err());
        let health = memory(What::Health(1, "0 readings".into()));
        assert_eq!("0 readings (1)", health.expect("a memory").text);
    }
}

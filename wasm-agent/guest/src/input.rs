//! An input: why an agent is awake.
//!
//! It is an array of five in canonical CBOR, `[kind, from, topic, stamp, body]`, which the host puts
//! into the inbox. The host made it and has checked it; it is read here with the same distrust as
//! anything else.
//!
//! Not here: what a body means, which is the agent's to say.

use crate::cbor::Reader;
use crate::{AgentId, Error};

/// What kind of thing happened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Kind {
    /// A message to this agent alone.
    Message = 0,
    /// A publication on a topic that it follows.
    Publication = 1,
    /// The time for which it asked to be woken.
    Timer = 2,
    /// A person or a tool asks it, and waits for [`answer`](crate::host::answer).
    Invocation = 3,
}

/// Why an agent is awake.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Input<'a> {
    /// What kind of thing happened.
    pub kind: Kind,
    /// Who did it; none for a timer, and where the host cannot tell.
    pub from: Option<&'a AgentId>,
    /// The topic of a publication, in UTF-8; empty for the other kinds.
    pub topic: &'a [u8],
    /// When, in milliseconds since 1970.
    pub stamp: u64,
    /// What they said.
    pub body: &'a [u8],
}

impl<'a> Input<'a> {
    /// Reads an input.
    ///
    /// # Errors
    /// [`Error::BadArgument`] if it is not one, or has bytes after it.
    pub fn read(bytes: &'a [u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(bytes);
        reader.array_of(5);
        let (kind, from) = (reader.uint(), reader.bytes());
        let (topic, stamp, body) = (reader.text_bytes(), reader.uint(), reader.bytes());
        reader.finish()?;
        Ok(Self {
            kind: match kind {
                0 => Kind::Message,
                1 => Kind::Publication,
                2 => Kind::Timer,
                3 => Kind::Invocation,
                _ => return Err(Error::BadArgument),
            },
            from: match from {
                [] => None,
                id => Some(id.try_into().map_err(|_| Error::BadArgument)?),
            },
            topic,
            stamp,
            body,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cbor::Writer;

    #[test]
    fn an_input_has_exactly_its_five_fields() {
        let mut room = [0; 64];
        let mut writer = Writer::new(&mut room);
        writer
            .array(5)
            .uint(1)
            .bytes(&[9; 32])
            .text("t")
            .uint(77)
            .bytes(&[1]);
        let good = writer.done().unwrap();
        let input = Input {
            kind: Kind::Publication,
            from: Some(&[9; 32]),
            topic: b"t",
            stamp: 77,
            body: &[1],
        };
        assert_eq!(Input::read(good), Ok(input));
        for cut in 0..good.len() {
            assert!(Input::read(&good[..cut]).is_err(), "cut at {cut}");
        }
        assert!(Input::read(&[good, &[0]].concat()).is_err());
    }

    #[test]
    fn an_unknown_kind_and_a_sender_of_another_length_are_refused() {
        assert!(Input::read(&[0x85, 2, 0x40, 0x60, 0, 0x40]).is_ok());
        assert!(Input::read(&[0x85, 4, 0x40, 0x60, 0, 0x40]).is_err());
        assert!(Input::read(&[0x85, 2, 0x41, 1, 0x60, 0, 0x40]).is_err());
    }
}

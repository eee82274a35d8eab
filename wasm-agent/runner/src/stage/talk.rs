//! What a runner and its stage say to each other: frames of a length and CBOR on a Unix socket.
//!
//! The runner says the [`Part`] and, once it has mapped the stage's user, [`MAPPED`]. Everything else is
//! [`Word`]s of the stage. When the runner closes its side, the stage ends the job.
//!
//! Not here: waiting with a limit; the runner reads as `process/attend` says, and a stage waits for the
//! runner for as long as there is one.

use crate::job::Request;
use crate::limits::{JOB_BYTES_MAX, SAID_MAX, WHY_MAX};
use crate::outcome::Ended;
use minicbor::{Decode, Encode};
use std::io::{self, Read, Write};

/// The byte that says: the stage's user is mapped.
pub(crate) const MAPPED: u8 = b'm';

/// What a stage is to do.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(array)]
pub(crate) struct Part {
    /// The job.
    #[n(0)]
    pub(crate) request: Request,
    /// Whether memory and processor time are for the stage to watch, there being no control group.
    #[n(1)]
    pub(crate) is_watching: bool,
}

/// What a stage says.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub(crate) enum Word {
    /// It is in its namespaces and waits for its user to be mapped.
    #[n(0)]
    Apart,
    /// The job runs.
    #[n(1)]
    Running,
    /// The job's program could not be started.
    #[n(2)]
    NoStart(#[n(0)] String),
    /// Something else went wrong.
    #[n(3)]
    Failed(#[n(0)] String, #[n(1)] String),
    /// The job ended.
    #[n(4)]
    Ended(#[n(0)] Report),
}

/// How a job ended, as the first process of its namespace saw it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(array)]
pub(crate) struct Report {
    /// How.
    #[n(0)]
    pub(crate) ended: Ended,
    /// How long it lasted, in microseconds.
    #[n(1)]
    pub(crate) wall_us: u64,
    /// Time of processors, in microseconds.
    #[n(2)]
    pub(crate) cpu_us: u64,
    /// Most memory that was seen, in bytes.
    #[n(3)]
    pub(crate) memory_peak_bytes: u64,
}

/// What a stage was at, and why it did not succeed.
#[derive(Debug, thiserror::Error)]
#[error("{step}: {why}")]
pub(crate) struct Broke {
    /// What it was at: `mount the new root`.
    pub(crate) step: String,
    /// What the system said.
    pub(crate) why: String,
}

impl Broke {
    pub(crate) fn word(&self) -> Word {
        let short = |text: &str| text.chars().take(WHY_MAX).collect();
        Word::Failed(short(&self.step), short(&self.why))
    }
}

/// Says what was being done when something failed.
pub(crate) trait At<T> {
    /// The value, or that `step` broke.
    fn at(self, step: &str) -> Result<T, Broke>;
}

impl<T, E: std::fmt::Display> At<T> for Result<T, E> {
    fn at(self, step: &str) -> Result<T, Broke> {
        self.map_err(|why| Broke {
            step: step.to_owned(),
            why: why.to_string(),
        })
    }
}

/// Writes `value` as a frame.
pub(crate) fn say<T: Encode<()>>(to: &mut impl Write, value: &T) -> io::Result<()> {
    let bytes = minicbor::to_vec(value).expect("a vector takes any encoding");
    let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
    to.write_all(&[&length.to_be_bytes()[..], &bytes].concat())
}

/// Reads the runner's part: blocks until it is there.
pub(crate) fn part(from: &mut impl Read) -> io::Result<Part> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let length = u32::from_be_bytes(length) as usize;
    if length > JOB_BYTES_MAX + SAID_MAX {
        return Err(io::Error::other("a part this long is none"));
    }
    let mut bytes = vec![0; length];
    from.read_exact(&mut bytes)?;
    minicbor::decode(&bytes).map_err(io::Error::other)
}

/// A stage's words, put together from the pieces in which they come.
#[derive(Debug, Default)]
pub(crate) struct Words(Vec<u8>);

impl Words {
    /// Takes in what has come.
    pub(crate) fn hear(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// The next whole word, if it is there.
    pub(crate) fn next(&mut self) -> Result<Option<Word>, Broke> {
        let Some((length, rest)) = self.0.split_first_chunk::<4>() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes(*length) as usize;
        if length > SAID_MAX {
            return Err("a word is too long").at("understand its stage");
        }
        let Some(bytes) = rest.get(..length) else {
            return Ok(None);
        };
        let word = minicbor::decode(bytes).at("understand its stage")?;
        self.0.drain(..4 + length);
        Ok(Some(word))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_come_whole_from_pieces() {
        let mut sent = Vec::new();
        let failed = Word::Failed("mount".into(), "EPERM".into());
        for word in [&Word::Apart, &failed] {
            say(&mut sent, word).expect("a vector takes it");
        }
        let mut words = Words::default();
        let mut heard = Vec::new();
        for byte in sent {
            words.hear(&[byte]);
            heard.extend(words.next().expect("these are words"));
        }
        assert_eq!(heard, [Word::Apart, failed]);
        words.hear(&[0xff; 4]);
        assert!(words.next().is_err(), "no stage says so much");
    }
}

//! The host: what an agent can ask of its node.
//!
//! All that changes something is kept back until the agent's handler returns `Ok`, and is dropped
//! otherwise: an agent cannot do half of what it meant to. A call that the agent's manifest does not
//! grant is [`Error::NotGranted`]; one that is granted may still be over a quota or against the law.
//!
//! Not here: the raw imports (`abi`), the host of native tests (`mock`).

#[cfg(target_arch = "wasm32")]
use crate::abi as imports;
use crate::cbor::Reader;
#[cfg(not(target_arch = "wasm32"))]
use crate::mock as imports;
use crate::{AgentId, Error};

/// How much a line of the log matters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(i32)]
pub enum Level {
    /// Something is broken.
    Error = 0,
    /// Something is odd.
    Warning = 1,
    /// What a person may want to know.
    Information = 2,
    /// What its author may want to know.
    Debugging = 3,
}

/// How an agent is, in its own judgement.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(i32)]
pub enum Health {
    /// It does its work.
    Well = 0,
    /// It does some of its work.
    Degraded = 1,
    /// It does not do its work.
    Failing = 2,
}

/// Publishes `data` on a topic, for all that follow it but the agent itself.
///
/// # Errors
/// [`Error::BadArgument`] if the topic is empty or not UTF-8, [`Error::NotGranted`],
/// [`Error::OverQuota`], [`Error::Forbidden`], [`Error::TooLarge`].
pub fn publish(topic: impl AsRef<[u8]>, data: &[u8]) -> Result<(), Error> {
    match topic.as_ref() {
        [] => Err(Error::BadArgument),
        topic => done(imports::publish(topic, data)),
    }
}

/// Answers the person or tool that invoked the agent; of several answers the last one counts.
///
/// # Errors
/// [`Error::BadArgument`] if the input is not an invocation, [`Error::TooLarge`].
pub fn answer(data: &[u8]) -> Result<(), Error> {
    done(imports::publish(&[], data))
}

/// Sends `data` to one agent.
///
/// # Errors
/// [`Error::NotGranted`], [`Error::OverQuota`], [`Error::Forbidden`], [`Error::TooLarge`].
pub fn send(agent: &AgentId, data: &[u8]) -> Result<(), Error> {
    done(imports::send(agent, data))
}

/// Puts text into the shared memory, where others may [`recall`] it.
///
/// # Errors
/// [`Error::BadArgument`] if the key is not UTF-8, [`Error::NotGranted`], [`Error::OverQuota`],
/// [`Error::Forbidden`], [`Error::TooLarge`].
pub fn remember(key: impl AsRef<[u8]>, value: &[u8]) -> Result<(), Error> {
    done(imports::remember(key.as_ref(), value))
}

/// What the shared memory says to a question: a reader at the start of an array of text strings,
/// the best first, which lies in `out`.
///
/// # Errors
/// [`Error::TooLarge`] if it does not fit, [`Error::BadArgument`] if the question is not UTF-8,
/// [`Error::Unavailable`], [`Error::NotGranted`], [`Error::OverQuota`].
pub fn recall(query: impl AsRef<[u8]>, out: &mut [u8]) -> Result<Reader<'_>, Error> {
    let answer = imports::recall(query.as_ref(), out);
    written(answer, out).map(Reader::new)
}

/// The value of a key of the agent's own store, which lies in `out`; none if there is none.
///
/// # Errors
/// [`Error::TooLarge`] if it does not fit, [`Error::NotGranted`].
pub fn kv_get(key: impl AsRef<[u8]>, out: &mut [u8]) -> Result<Option<&[u8]>, Error> {
    let answer = imports::kv_get(key.as_ref(), out);
    match written(answer, out) {
        Err(Error::NotFound) => Ok(None),
        found => found.map(Some),
    }
}

/// Gives a key of the agent's own store a value; an empty one removes the key.
///
/// # Errors
/// [`Error::TooLarge`], [`Error::OverQuota`], [`Error::NotGranted`].
pub fn kv_put(key: impl AsRef<[u8]>, value: &[u8]) -> Result<(), Error> {
    done(imports::kv_put(key.as_ref(), value))
}

/// The time, in milliseconds since 1970: the same during a wake, and in every repetition of it.
pub fn now() -> u64 {
    imports::now() as u64
}

/// Fills `out` with bytes as if drawn, the same in every repetition of a wake. They are no secret:
/// whoever knows the agent, its module and the number of the wake can compute them.
///
/// # Errors
/// [`Error::TooLarge`], [`Error::NotGranted`].
pub fn random(out: &mut [u8]) -> Result<(), Error> {
    done(imports::random(out))
}

/// Asks to be woken by a timer, `ms` milliseconds from now; a later call takes the place of an
/// earlier one. Longer than 24 days is cut to that.
///
/// # Errors
/// [`Error::OverQuota`] if that is too soon, [`Error::NotGranted`].
pub fn wake_after(ms: u32) -> Result<(), Error> {
    done(imports::wake_after(ms.min(i32::MAX as u32) as i32))
}

/// Writes a line to the node's log. A line that is refused is no reason to refuse a wake, so nothing
/// is told of it.
pub fn log(level: Level, text: &[u8]) {
    imports::log(level as i32, text);
}

/// Tells the node how the agent is.
///
/// # Errors
/// [`Error::BadArgument`] if the text is not UTF-8, [`Error::NotGranted`], [`Error::TooLarge`].
pub fn health(health: Health, text: &[u8]) -> Result<(), Error> {
    done(imports::health(health as i32, text))
}

/// What the node's language model says to a prompt, in UTF-8; it lies in `out`.
///
/// # Errors
/// [`Error::NotGranted`] where there is no model or no grant, [`Error::Unavailable`],
/// [`Error::TooLarge`] if it does not fit, [`Error::OverQuota`].
pub fn infer(prompt: impl AsRef<[u8]>, out: &mut [u8]) -> Result<&[u8], Error> {
    let answer = imports::infer(prompt.as_ref(), out);
    written(answer, out)
}

fn done(answer: i32) -> Result<(), Error> {
    Error::check(answer).map(|_| ())
}

/// What the host wrote to `out`. It cannot have written more than there is.
fn written(answer: i32, out: &[u8]) -> Result<&[u8], Error> {
    out.get(..Error::check(answer)?).ok_or(Error::Unknown)
}

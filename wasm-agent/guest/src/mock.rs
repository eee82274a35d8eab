//! A host for native tests: it keeps the ABI's promises in memory, and writes down every effect.
//!
//! A wake is a transaction here as on a node: where the handler refuses, the state and the store are
//! what they were, and there are no effects. Each thread has its own host, so tests run side by side.
//!
//! Not here: quotas, grants and the law. A test says which call is refused, and how, by
//! [`Host::refuse`].

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::string::String;
use std::vec::Vec;

use crate::cbor::Writer;
use crate::{AgentId, Error, Handler, INPUT_BYTES_MAX, Input, Kind, State};

/// Makes a [`Handler`] the agent of this module: on wasm32 this makes the exports of the ABI, here it
/// only holds the handler to its type.
#[macro_export]
macro_rules! agent {
    ($handler:path) => {
        const _: $crate::Handler = $handler;
    };
}

/// An agent under test, and its world.
#[derive(Debug)]
pub struct Agent {
    handler: Handler,
    state: State,
    /// What answers its calls; a test sets it up between wakes.
    pub host: Host,
}

/// What answers an agent's calls.
#[derive(Clone, Default, Debug)]
pub struct Host {
    /// The agent's own store.
    pub kv: BTreeMap<Vec<u8>, Vec<u8>>,
    /// What every `recall` finds.
    pub recalled: Vec<String>,
    /// What every `infer` says; none where there is no model.
    pub inferred: Option<String>,
    /// What `random` goes on from; every run from the same seed is the same.
    pub seed: u64,
    /// Calls that are refused, by their names in the ABI.
    pub refuse: BTreeMap<&'static str, Error>,
    now: u64,
    invoked: bool,
    effects: Vec<Effect>,
}

/// Something that an agent did to the world.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs)] // The fields are the arguments of the calls of the same names.
pub enum Effect {
    Publish { topic: String, data: Vec<u8> },
    Answer { data: Vec<u8> },
    Send { agent: AgentId, data: Vec<u8> },
    Remember { key: String, value: Vec<u8> },
    Put { key: Vec<u8>, value: Vec<u8> },
    WakeAfter { ms: u32 },
    Log { level: i32, text: String },
    Health { code: i32, text: String },
}

std::thread_local! {
    /// The host of the agent that runs on this thread.
    static RUNNING: RefCell<Option<Host>> = const { RefCell::new(None) };
}

impl Agent {
    /// An agent that never woke.
    pub fn new(handler: Handler) -> Self {
        Self {
            handler,
            state: State::EMPTY,
            host: Host::default(),
        }
    }

    /// Wakes it by a message of `from`.
    ///
    /// # Errors
    /// What it refused the wake with.
    pub fn message(
        &mut self,
        from: AgentId,
        stamp: u64,
        body: &[u8],
    ) -> Result<Vec<Effect>, Error> {
        self.wake(Kind::Message, Some(from), "", stamp, body)
    }

    /// Wakes it by a publication of `from`.
    ///
    /// # Errors
    /// What it refused the wake with.
    pub fn publication(
        &mut self,
        from: AgentId,
        topic: &str,
        stamp: u64,
        body: &[u8],
    ) -> Result<Vec<Effect>, Error> {
        self.wake(Kind::Publication, Some(from), topic, stamp, body)
    }

    /// Wakes it by its timer.
    ///
    /// # Errors
    /// What it refused the wake with.
    pub fn timer(&mut self, stamp: u64) -> Result<Vec<Effect>, Error> {
        self.wake(Kind::Timer, None, "", stamp, &[])
    }

    /// Wakes it by an invocation.
    ///
    /// # Errors
    /// What it refused the wake with.
    pub fn invocation(&mut self, stamp: u64, body: &[u8]) -> Result<Vec<Effect>, Error> {
        self.wake(Kind::Invocation, None, "", stamp, body)
    }

    /// The bytes of its state.
    pub fn state(&self) -> &[u8] {
        self.state.as_bytes()
    }

    fn wake(
        &mut self,
        kind: Kind,
        from: Option<AgentId>,
        topic: &str,
        stamp: u64,
        body: &[u8],
    ) -> Result<Vec<Effect>, Error> {
        let from: &[u8] = from.as_ref().map_or(&[], |from| &from[..]);
        let mut inbox = [0; INPUT_BYTES_MAX];
        let mut writer = Writer::new(&mut inbox);
        writer
            .array(5)
            .uint(kind as u64)
            .bytes(from)
            .text(topic)
            .uint(stamp)
            .bytes(body);
        let input = Input::read(writer.done()?)?;

        let mut host = self.host.clone();
        host.now = stamp;
        host.invoked = kind == Kind::Invocation;
        let mut state = self.state.clone();
        RUNNING.with(|running| running.replace(Some(host)));
        let outcome = (self.handler)(&input, &mut state);
        let host = RUNNING.with(RefCell::take).expect("it was put there above");
        outcome?;
        self.state = state;
        self.host = host;
        Ok(std::mem::take(&mut self.host.effects))
    }
}

/// Answers one call, unless the test has it refused. Outside of a wake there is no host.
fn call(name: &str, answer: impl FnOnce(&mut Host) -> Result<usize, Error>) -> i32 {
    let answer = RUNNING.with(|running| match running.borrow_mut().as_mut() {
        None => Err(Error::Unavailable),
        Some(host) => match host.refuse.get(name) {
            Some(error) => Err(*error),
            None => answer(host),
        },
    });
    match answer {
        Ok(number) => i32::try_from(number).expect("no length here is longer"),
        Err(error) => error.code(),
    }
}

fn effect(name: &str, make: impl FnOnce() -> Result<Effect, Error>) -> i32 {
    call(name, |host| {
        host.effects.push(make()?);
        Ok(0)
    })
}

fn utf8(bytes: &[u8]) -> Result<String, Error> {
    String::from_utf8(bytes.to_vec()).map_err(|_| Error::BadArgument)
}

fn fill(out: &mut [u8], bytes: &[u8]) -> Result<usize, Error> {
    out.get_mut(..bytes.len())
        .ok_or(Error::TooLarge)?
        .copy_from_slice(bytes);
    Ok(bytes.len())
}

pub(crate) fn publish(topic: &[u8], data: &[u8]) -> i32 {
    call("publish", |host| {
        let (topic, data) = (utf8(topic)?, data.to_vec());
        host.effects.push(match (topic.is_empty(), host.invoked) {
            (false, _) => Effect::Publish { topic, data },
            (true, true) => Effect::Answer { data },
            (true, false) => return Err(Error::BadArgument),
        });
        Ok(0)
    })
}

pub(crate) fn send(agent: &AgentId, data: &[u8]) -> i32 {
    let (agent, data) = (*agent, data.to_vec());
    effect("send", || Ok(Effect::Send { agent, data }))
}

pub(crate) fn remember(key: &[u8], value: &[u8]) -> i32 {
    let value = value.to_vec();
    effect("remember", || {
        Ok(Effect::Remember {
            key: utf8(key)?,
            value,
        })
    })
}

pub(crate) fn recall(query: &[u8], out: &mut [u8]) -> i32 {
    call("recall", |host| {
        utf8(query)?;
        let mut writer = Writer::new(out);
        writer.array(host.recalled.len());
        for text in &host.recalled {
            writer.text(text);
        }
        writer.done().map(<[u8]>::len)
    })
}

pub(crate) fn kv_get(key: &[u8], out: &mut [u8]) -> i32 {
    call("kv_get", |host| {
        fill(out, host.kv.get(key).ok_or(Error::NotFound)?)
    })
}

pub(crate) fn kv_put(key: &[u8], value: &[u8]) -> i32 {
    call("kv_put", |host| {
        let (key, value) = (key.to_vec(), value.to_vec());
        if value.is_empty() {
            host.kv.remove(&key);
        } else {
            host.kv.insert(key.clone(), value.clone());
        }
        host.effects.push(Effect::Put { key, value });
        Ok(0)
    })
}

pub(crate) fn now() -> i64 {
    RUNNING.with(|running| running.borrow().as_ref().map_or(0, |host| host.now as i64))
}

/// Knuth's linear congruential generator: chance enough for a test, and repeatable.
pub(crate) fn random(out: &mut [u8]) -> i32 {
    call("random", |host| {
        for byte in out.iter_mut() {
            host.seed = host
                .seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            *byte = (host.seed >> 56) as u8;
        }
        Ok(out.len())
    })
}

pub(crate) fn wake_after(ms: i32) -> i32 {
    let ms = u32::try_from(ms).map_err(|_| Error::BadArgument);
    effect("wake_after", || Ok(Effect::WakeAfter { ms: ms? }))
}

pub(crate) fn log(level: i32, text: &[u8]) -> i32 {
    effect("log", || {
        Ok(Effect::Log {
            level,
            text: utf8(text)?,
        })
    })
}

pub(crate) fn health(code: i32, text: &[u8]) -> i32 {
    effect("health", || {
        Ok(Effect::Health {
            code,
            text: utf8(text)?,
        })
    })
}

pub(crate) fn infer(prompt: &[u8], out: &mut [u8]) -> i32 {
    call("infer", |host| {
        utf8(prompt)?;
        fill(
            out,
            host.inferred.as_ref().ok_or(Error::NotGranted)?.as_bytes(),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host;

    fn every_call(input: &Input<'_>, _: &mut State) -> Result<(), Error> {
        let mut room = [0; 32];
        host::publish("news", b"1")?;
        host::send(&[7; 32], b"2")?;
        host::remember("key", b"3")?;
        let mut found = host::recall("what", &mut room)?;
        assert_eq!((found.array(), found.text()), (1, "this"));
        found.finish()?;
        assert_eq!(host::kv_get("k", &mut room), Ok(None));
        host::kv_put("k", b"value")?;
        assert_eq!(host::kv_get("k", &mut room), Ok(Some(&b"value"[..])));
        assert_eq!(host::kv_get("k", &mut [0; 4]), Err(Error::TooLarge));
        host::random(&mut room)?;
        host::wake_after(u32::MAX)?;
        host::log(host::Level::Warning, b"odd");
        host::health(host::Health::Well, b"fine")?;
        assert_eq!(host::infer("say", &mut room), Ok(&b"said"[..]));
        assert_eq!(host::now(), input.stamp);
        Ok(())
    }

    fn agent(handler: Handler) -> Agent {
        let mut agent = Agent::new(handler);
        agent.host.recalled.push("this".into());
        agent.host.inferred = Some("said".into());
        agent
    }

    #[test]
    fn every_call_has_its_effect() {
        let effects = agent(every_call).timer(5).unwrap();
        let expected = [
            Effect::Publish {
                topic: "news".into(),
                data: b"1".to_vec(),
            },
            Effect::Send {
                agent: [7; 32],
                data: b"2".to_vec(),
            },
            Effect::Remember {
                key: "key".into(),
                value: b"3".to_vec(),
            },
            Effect::Put {
                key: b"k".to_vec(),
                value: b"value".to_vec(),
            },
            Effect::WakeAfter {
                ms: i32::MAX as u32,
            },
            Effect::Log {
                level: 1,
                text: "odd".into(),
            },
            Effect::Health {
                code: 0,
                text: "fine".into(),
            },
        ];
        assert_eq!(effects, expected);
    }

    #[test]
    fn a_refused_wake_did_nothing() {
        let mut agent = agent(every_call);
        agent.host.refuse.insert("health", Error::NotGranted);
        assert_eq!(agent.timer(5), Err(Error::NotGranted));
        assert!(agent.host.kv.is_empty(), "the put before it is undone");
    }

    #[test]
    fn only_an_invocation_can_be_answered() {
        fn answers(_: &Input<'_>, _: &mut State) -> Result<(), Error> {
            host::answer(b"yes")
        }
        let answer = Effect::Answer {
            data: b"yes".to_vec(),
        };
        assert_eq!(agent(answers).invocation(1, &[]), Ok([answer].to_vec()));
        assert_eq!(
            agent(answers).message([1; 32], 1, &[]),
            Err(Error::BadArgument)
        );
    }

    #[test]
    fn outside_of_a_wake_there_is_no_host() {
        assert_eq!(host::kv_put("k", b"v"), Err(Error::Unavailable));
        assert_eq!(host::publish("", b"v"), Err(Error::BadArgument));
    }
}

//! The desk: where a guest's calls arrive, whichever engine runs it.
//!
//! What a guest does is written down and done by nobody until it has ended well: its effects are the
//! step's, or nothing is. What it asks is answered by its [`World`], and every answer is kept, so that
//! whoever doubts the step can run it again without that world.
//!
//! Each call is held against the manifest (was it granted, is there budget left, is the name within)
//! and against the world's law. A call that is refused returns a [`Code`]; only a guest that has used up
//! its calls is stopped. Whatever a manifest gives, a step has bounds: it must have room in a journal.
//!
//! Not here: how a call gets here (`engine`), what becomes of effects (whoever wakes agents).

use crate::abi::{ANSWERS_MAX, BYTES_MAX, CALLS_MAX, Cause, Code, Import, Wakeup};
use crate::manifest::{Manifest, covers};
use minicbor::{Decode, Encode};
use std::sync::Arc;

/// What a guest asks and its node knows.
pub trait World: Send {
    /// Whether the law, and what is left of the agent's rates, lets it do this.
    ///
    /// # Errors
    /// Why not.
    fn may(&mut self, effect: &Effect) -> Result<(), Code>;

    /// What is remembered about `query`: a CBOR array of texts.
    ///
    /// # Errors
    /// Why there is no answer.
    fn recall(&mut self, query: &str) -> Result<Vec<u8>, Code>;

    /// A value of the agent's own.
    ///
    /// # Errors
    /// [`Code::NotFound`] if there is none.
    fn kv_get(&mut self, key: &[u8]) -> Result<Vec<u8>, Code>;

    /// What a model says to `prompt`.
    ///
    /// # Errors
    /// [`Code::Unavailable`] if the node has none.
    fn infer(&mut self, prompt: &str) -> Result<Vec<u8>, Code>;

    /// Whether an answer of a model may be long in coming: nobody else should wait for it.
    fn deliberates(&self) -> bool {
        false
    }
}

/// A world that forbids nothing and knows nothing.
#[derive(Clone, Copy, Debug)]
pub struct Quiet;

impl World for Quiet {
    fn may(&mut self, _: &Effect) -> Result<(), Code> {
        Ok(())
    }

    fn recall(&mut self, _: &str) -> Answer {
        Err(Code::NotFound)
    }

    fn kv_get(&mut self, _: &[u8]) -> Answer {
        Err(Code::NotFound)
    }

    fn infer(&mut self, _: &str) -> Answer {
        Err(Code::Unavailable)
    }
}

/// What a wake does to the world, once it has ended well.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub enum Effect {
    /// Says something on a topic.
    #[n(0)]
    Publish {
        /// Which.
        #[n(0)]
        topic: String,
        /// What.
        #[cbor(n(1), with = "minicbor::bytes")]
        data: Vec<u8>,
    },
    /// Answers whoever invoked it.
    #[n(1)]
    Answer {
        /// What.
        #[cbor(n(0), with = "minicbor::bytes")]
        data: Vec<u8>,
    },
    /// Says something to another agent.
    #[n(2)]
    Send {
        /// Its key.
        #[cbor(n(0), with = "minicbor::bytes")]
        agent: [u8; 32],
        /// What.
        #[cbor(n(1), with = "minicbor::bytes")]
        data: Vec<u8>,
    },
    /// Remembers a text.
    #[n(3)]
    Remember {
        /// Under which key.
        #[n(0)]
        key: String,
        /// Which.
        #[n(1)]
        text: String,
    },
    /// Writes a value of its own, or removes it if it is empty.
    #[n(4)]
    Keep {
        /// Under which key.
        #[cbor(n(0), with = "minicbor::bytes")]
        key: Vec<u8>,
        /// Which.
        #[cbor(n(1), with = "minicbor::bytes")]
        value: Vec<u8>,
    },
    /// Asks to be woken.
    #[n(5)]
    Wake {
        /// In so many milliseconds.
        #[n(0)]
        after: u32,
    },
    /// Logs a line.
    #[n(6)]
    Log {
        /// How grave: 0 is an error, 4 a trace.
        #[n(0)]
        level: u8,
        /// The line.
        #[n(1)]
        line: String,
    },
    /// Says how it is.
    #[n(7)]
    Health {
        /// 0 is well.
        #[n(0)]
        code: i32,
        /// In words.
        #[n(1)]
        words: String,
    },
}

/// What the world answered, in the order in which it was asked.
pub type Answer = Result<Vec<u8>, Code>;

/// A guest has used up its calls: it is stopped, and nothing of the wake counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the guest has used up its {calls} calls of the host")]
pub struct Overspent {
    /// How many it had.
    pub calls: u32,
}

/// One wake's desk.
pub struct Desk {
    manifest: Arc<Manifest>,
    world: Box<dyn World>,
    cause: Cause,
    stamp: u64,
    agent: [u8; 32],
    seq: u64,
    /// What was drawn from, if the guest has drawn.
    chance: Option<Box<blake3::OutputReader>>,
    /// What is left of its calls,
    calls: u32,
    /// of the bytes that it may put out,
    bytes: u32,
    /// and of those that it may be answered.
    answerable: usize,
    /// What the guest did.
    pub effects: Vec<Effect>,
    /// What the world answered.
    pub answers: Vec<Answer>,
}

/// The arguments of a call.
type Args = [u32; 4];

/// What a call costs of the bytes, beside those that it says or asks.
const CALL_BYTES: u32 = 16;

impl Desk {
    /// A desk for wake `seq` of `agent`.
    pub fn new(
        manifest: Arc<Manifest>,
        (agent, seq): (&[u8; 32], u64),
        wakeup: &Wakeup,
        world: Box<dyn World>,
    ) -> Self {
        Self {
            calls: manifest.budget.calls.min(CALLS_MAX),
            bytes: manifest.budget.bytes.min(BYTES_MAX),
            answerable: ANSWERS_MAX,
            manifest,
            world,
            cause: wakeup.cause,
            stamp: wakeup.stamp,
            agent: *agent,
            seq,
            chance: None,
            effects: Vec::new(),
            answers: Vec::new(),
        }
    }

    /// A guest calls: what it gets back.
    ///
    /// # Errors
    /// If it has used up its calls.
    pub fn call(
        &mut self,
        import: Import,
        args: Args,
        memory: &mut [u8],
    ) -> Result<i64, Overspent> {
        let Some(left) = self.calls.checked_sub(1) else {
            let calls = self.manifest.budget.calls.min(CALLS_MAX);
            return Err(Overspent { calls });
        };
        self.calls = left;
        if import == Import::Now {
            return Ok(i64::try_from(self.stamp).unwrap_or(i64::MAX));
        }
        let done = match (self.manifest.imports.has(import), self.pays(import, args)) {
            (false, _) => Err(Code::NotGranted),
            (true, false) => Err(Code::Quota),
            (true, true) => self.does(import, args, memory),
        };
        Ok(match done {
            Ok(number) => i64::from(number),
            Err(code) => i64::from(code as i32),
        })
    }

    /// Takes what a call costs from the bytes that are left: what it says or asks, and something besides,
    /// whether it is then done or not. So nothing is looked at or copied that was not paid for.
    fn pays(&mut self, import: Import, [_, b, c, d]: Args) -> bool {
        let len = match import {
            Import::Publish | Import::Remember | Import::KvPut => b.saturating_add(d),
            Import::Send => c.saturating_add(32),
            Import::Recall | Import::KvGet | Import::Infer | Import::Random => b,
            Import::Log | Import::Health => c,
            Import::WakeAfter => 4,
            Import::Now => 0,
        };
        let left = self.bytes.checked_sub(len.saturating_add(CALL_BYTES));
        self.bytes = left.unwrap_or(self.bytes);
        left.is_some()
    }

    fn does(&mut self, import: Import, args: Args, memory: &mut [u8]) -> Result<u32, Code> {
        let [a, b, c, d] = args;
        match import {
            Import::Publish => {
                let (topic, data) = (text(memory, a, b)?, bytes(memory, c, d)?.to_vec());
                if topic.is_empty() {
                    return match self.cause {
                        Cause::Invocation => self.acts(Effect::Answer { data }),
                        _ => Err(Code::Bad),
                    };
                }
                match covers(&self.manifest.publishes, &topic) {
                    true => self.acts(Effect::Publish { topic, data }),
                    false => Err(Code::NotGranted),
                }
            }
            Import::Send => {
                let agent = bytes(memory, a, 32)?.try_into().map_err(|_| Code::Bad)?;
                let data = bytes(memory, b, c)?.to_vec();
                self.acts(Effect::Send { agent, data })
            }
            Import::Remember => {
                let (key, text) = (text(memory, a, b)?, text(memory, c, d)?);
                match covers(&self.manifest.remembers, &key) {
                    true => self.acts(Effect::Remember { key, text }),
                    false => Err(Code::NotGranted),
                }
            }
            Import::Recall => {
                let query = text(memory, a, b)?;
                place(memory, c, d)?;
                let answer = self.world.recall(&query);
                self.answers(answer, memory, (c, d))
            }
            Import::KvGet => {
                let key = bytes(memory, a, b)?.to_vec();
                let kept = self.effects.iter().rev().find_map(|effect| match effect {
                    Effect::Keep { key: of, value } if *of == key => Some(value.clone()),
                    _ => None,
                });
                // What this wake wrote it reads again; nobody else need answer.
                match kept {
                    Some(value) if value.is_empty() => Err(Code::NotFound),
                    Some(value) => fill(memory, (c, d), &value),
                    None => {
                        place(memory, c, d)?;
                        let answer = self.world.kv_get(&key);
                        self.answers(answer, memory, (c, d))
                    }
                }
            }
            Import::KvPut => {
                let (key, value) = (bytes(memory, a, b)?.to_vec(), bytes(memory, c, d)?.to_vec());
                self.acts(Effect::Keep { key, value })
            }
            Import::Random => {
                let out = place(memory, a, b)?;
                self.chance().fill(out);
                Ok(b)
            }
            Import::WakeAfter => {
                let after = a;
                if after > i32::MAX as u32 {
                    return Err(Code::Bad);
                }
                self.acts(Effect::Wake { after })
            }
            Import::Log => {
                let (level, line) = (u8::try_from(a.min(4)).unwrap_or(4), text(memory, b, c)?);
                self.acts(Effect::Log { level, line })
            }
            Import::Health => {
                let (code, words) = (a as i32, text(memory, b, c)?);
                self.acts(Effect::Health { code, words })
            }
            Import::Infer => {
                let prompt = text(memory, a, b)?;
                place(memory, c, d)?;
                let answer = self.world.infer(&prompt);
                self.answers(answer, memory, (c, d))
            }
            Import::Now => Ok(0),
        }
    }

    /// What the guest draws from: it follows from whose wake this is.
    fn chance(&mut self) -> &mut blake3::OutputReader {
        self.chance.get_or_insert_with(|| {
            let mut chance = blake3::Hasher::new_derive_key("aquifer agent random 1");
            chance.update(&self.agent);
            chance.update(&self.manifest.module);
            chance.update(&self.seq.to_be_bytes());
            Box::new(chance.finalize_xof())
        })
    }

    /// The guest wants something done: it will be, if the wake ends well.
    fn acts(&mut self, effect: Effect) -> Result<u32, Code> {
        // The law's word is an answer too: whoever runs the step again may live under another.
        let answer = self.world.may(&effect);
        self.answers.push(answer.map(|()| Vec::new()));
        answer?;
        self.effects.push(effect);
        Ok(0)
    }

    /// The world has answered: the guest gets it if it has room, and whoever runs the step again as well.
    fn answers(
        &mut self,
        answer: Answer,
        memory: &mut [u8],
        room: (u32, u32),
    ) -> Result<u32, Code> {
        let most = self.answerable.min(room.1 as usize);
        let answer = answer.and_then(|answer| match answer.len() <= most {
            true => Ok(answer),
            false => Err(Code::TooLarge),
        });
        self.answerable -= answer.as_ref().map_or(0, Vec::len);
        self.answers.push(answer);
        match self.answers.last() {
            Some(Ok(answer)) => fill(memory, room, answer),
            Some(Err(code)) => Err(*code),
            None => Err(Code::Unavailable),
        }
    }
}

fn bytes(memory: &[u8], at: u32, len: u32) -> Result<&[u8], Code> {
    let (at, len) = (at as usize, len as usize);
    let end = at.checked_add(len).ok_or(Code::Bad)?;
    memory.get(at..end).ok_or(Code::Bad)
}

fn place(memory: &mut [u8], at: u32, len: u32) -> Result<&mut [u8], Code> {
    let (at, len) = (at as usize, len as usize);
    let end = at.checked_add(len).ok_or(Code::Bad)?;
    memory.get_mut(at..end).ok_or(Code::Bad)
}

fn text(memory: &[u8], at: u32, len: u32) -> Result<String, Code> {
    let bytes = bytes(memory, at, len)?;
    let text = std::str::from_utf8(bytes).map_err(|_| Code::Bad)?;
    Ok(text.to_owned())
}

/// Puts `answer` where the guest has room for it. Returns its length.
fn fill(memory: &mut [u8], (at, room): (u32, u32), answer: &[u8]) -> Result<u32, Code> {
    let place = place(memory, at, room)?;
    let place = place.get_mut(..answer.len()).ok_or(Code::TooLarge)?;
    place.copy_from_slice(answer);
    u32::try_from(answer.len()).map_err(|_| Code::TooLarge)
}

//! Inside: what a wake may still do in this minute, and the values that its agent keeps.
//!
//! Not here: the law and what others know (the node's own `World`).

use crate::abi::Code;
use crate::desk::{Answer, Effect, World};
use crate::manifest::{Manifest, Rate};
use std::collections::BTreeMap;
use std::sync::Arc;

/// An agent's own values.
pub(super) type Kept = BTreeMap<Vec<u8>, Vec<u8>>;

/// What an agent used in one minute.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Used {
    /// Which minute since 1970.
    minute: u32,
    /// Of what it may use in a minute, so much.
    pub(super) wakes: u32,
    messages: u32,
    bytes: u32,
}

impl Used {
    /// The same, or nothing if that was in another minute.
    pub(super) fn at(self, now: u64) -> Self {
        let minute = (now / 60_000) as u32;
        match self.minute == minute {
            true => self,
            false => Self {
                minute,
                ..Self::default()
            },
        }
    }

    /// Counts what a step did.
    pub(super) fn adds(&mut self, effects: &[Effect]) {
        self.wakes += 1;
        for bytes in effects.iter().filter_map(said) {
            self.messages += 1;
            self.bytes = self.bytes.saturating_add(bytes);
        }
    }
}

/// How many bytes an effect says to others, if it does.
fn said(effect: &Effect) -> Option<u32> {
    let len = match effect {
        Effect::Publish { data, .. } | Effect::Send { data, .. } | Effect::Answer { data } => {
            data.len()
        }
        Effect::Remember { key, text } => key.len() + text.len(),
        _ => return None,
    };
    Some(u32::try_from(len).unwrap_or(u32::MAX))
}

/// The world as an agent here finds it.
pub(super) struct Inside {
    pub(super) manifest: Arc<Manifest>,
    pub(super) kept: Option<Arc<Kept>>,
    pub(super) used: Used,
    pub(super) bytes_kept: usize,
    pub(super) outside: Box<dyn World>,
}

impl Inside {
    fn value(&self, key: &[u8]) -> Option<&Vec<u8>> {
        self.kept.as_ref()?.get(key)
    }
}

impl World for Inside {
    fn may(&mut self, effect: &Effect) -> Result<(), Code> {
        if let Effect::Keep { key, value } = effect {
            let most = self.manifest.kv_bytes as usize;
            let old = self.value(key).map_or(0, |old| key.len() + old.len());
            let more = self.bytes_kept.saturating_sub(old) + key.len() + value.len();
            if !value.is_empty() && more > most {
                return Err(Code::Quota);
            }
            self.bytes_kept = more;
        }
        if let Some(bytes) = said(effect) {
            let Rate {
                messages,
                bytes: most,
                ..
            } = self.manifest.rate;
            let more = self.used.bytes.saturating_add(bytes);
            if self.used.messages >= messages || more > most {
                return Err(Code::Quota);
            }
        }
        self.outside.may(effect)?;
        if let Some(bytes) = said(effect) {
            self.used.messages += 1;
            self.used.bytes = self.used.bytes.saturating_add(bytes);
        }
        Ok(())
    }

    fn recall(&mut self, query: &str) -> Answer {
        self.outside.recall(query)
    }

    fn kv_get(&mut self, key: &[u8]) -> Answer {
        self.value(key).cloned().ok_or(Code::NotFound)
    }

    fn infer(&mut self, prompt: &str) -> Answer {
        self.outside.infer(prompt)
    }

    fn deliberates(&self) -> bool {
        self.outside.deliberates()
    }
}

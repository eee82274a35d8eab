//! Kinds: a module together with what its publisher grants it.
//!
//! Agents are of a kind. The two are held against each other once; afterwards one hash names both, since
//! a manifest names its module.
//!
//! Not here: whether the module keeps to the profile (`profile`), whether an engine takes it (`engine`).

use crate::manifest::{Granted, RefuseManifest};
use aquifer_protocol::identity::digest;

/// A module and its manifest.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Kind {
    granted: Granted,
    module: Vec<u8>,
    hash: [u8; 32],
}

impl Kind {
    /// A manifest that was opened, and its module.
    ///
    /// # Errors
    /// [`RefuseManifest::OtherModule`], if it is for another one.
    pub fn new(granted: Granted, module: Vec<u8>) -> Result<Self, RefuseManifest> {
        if granted.manifest.module != *blake3::hash(&module).as_bytes() {
            return Err(RefuseManifest::OtherModule);
        }
        Ok(Self {
            hash: digest("aquifer/agent-kind/1", &[granted.as_bytes()]),
            granted,
            module,
        })
    }

    /// Opens a manifest that was signed elsewhere, for `module`, at `now` milliseconds since 1970.
    ///
    /// # Errors
    /// Why it does not count. A stranger may have made the bytes.
    pub fn open(manifest: &[u8], module: Vec<u8>, now: u64) -> Result<Self, RefuseManifest> {
        let granted = Granted::open(manifest, blake3::hash(&module).as_bytes(), now)?;
        Self::new(granted, module)
    }

    /// What is granted, and by whom.
    pub fn granted(&self) -> &Granted {
        &self.granted
    }

    /// The module's bytes.
    pub fn module(&self) -> &[u8] {
        &self.module
    }

    /// Of the manifest as it travels, and so of the module: 32 bytes that name the kind.
    pub fn hash(&self) -> [u8; 32] {
        self.hash
    }
}

//! Engines: what runs a module.
//!
//! Three of them, of three makers: `jit` compiles (wasmtime), [`interpreter`] reads (wasmi), and
//! [`kernel`] is our own for small devices; [`tiered`] is two of them, one after the other. All know the
//! guest's memory and nothing else of the host: all calls go to one [`Desk`], so what a guest may do is
//! written once. A wake is a fresh instance; nothing of one is left for the next but the state.
//!
//! All stop a guest by fuel. They count it differently, and their stacks are not equally deep: that a
//! guest was stopped is never attested, only what it did when it ended well.
//!
//! Not here: what a wake comes to (`wake`), which modules may be loaded (`profile`).

pub mod interpreter;
#[cfg(feature = "jit")]
pub mod jit;
pub mod kernel;
pub mod tiered;

use crate::abi::STATE_MAX;
use crate::desk::Desk;
use crate::profile::Profile;
use std::sync::Arc;

/// Loads modules.
pub trait Engine: Send + Sync {
    /// What it is called: `wasmtime`, `wasmi` or `kernel`.
    fn name(&self) -> &'static str;

    /// Makes a module ready to be run. `profile` is that of the same bytes.
    ///
    /// # Errors
    /// What the engine has against it.
    fn load(&self, module: &[u8], profile: &Profile) -> Result<Arc<dyn Loaded>, LoadModule>;
}

/// A module that is ready.
pub trait Loaded: Send + Sync {
    /// One wake, in a fresh instance: `state` and `input` are put into the guest's memory, `handle` is
    /// called, and the state taken out again. All that the guest asks for goes to `desk`.
    ///
    /// # Errors
    /// Why the guest was stopped. What it did at the desk until then does not count.
    fn run(&self, state: &[u8], input: &[u8], fuel: u64, desk: Desk) -> (Desk, Result<Ran, Trap>);

    /// Makes a fresh instance and lets go of it: what a start costs, alone.
    ///
    /// # Errors
    /// Why it cannot.
    fn start(&self, desk: Desk) -> Result<(), Trap>;
}

/// A wake that ended by itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ran {
    /// What `handle` returned: below 0 if the guest takes all back.
    pub code: i32,
    /// The state it leaves.
    pub state: Vec<u8>,
}

/// An engine cannot load a module that keeps to the profile.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{engine} cannot load the module: {why}")]
pub struct LoadModule {
    /// Which engine.
    pub engine: &'static str,
    /// What it says.
    pub why: String,
}

/// Why a guest was stopped.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Trap {
    /// It used up its fuel.
    #[error("the guest used up its {fuel} units of fuel")]
    OutOfFuel {
        /// How much it had.
        fuel: u64,
    },
    /// It used up its calls of the host.
    #[error("the guest used up its {calls} calls of the host")]
    Overspent {
        /// How many it had.
        calls: u32,
    },
    /// It went too deep.
    #[error("the guest's stack is exhausted")]
    Stack,
    /// It did what is undefined: a division by zero, a look beyond its memory, `unreachable`.
    #[error("the guest went wrong: {why}")]
    Wrong {
        /// What it did, as the engine says it.
        why: String,
    },
    /// It was given more than there is room for.
    #[error("{what} of {len} bytes have no room")]
    Room {
        /// Of what.
        what: &'static str,
        /// How long it was.
        len: usize,
    },
    /// It left a state whose length cannot be.
    #[error("the guest says its state has {len} bytes; at most {STATE_MAX} may be")]
    State {
        /// The length it gave.
        len: u32,
    },
}

/// Puts the state and the input where the guest looks for them.
fn enter(profile: &Profile, memory: &mut [u8], state: &[u8], input: &[u8]) -> Result<(), Trap> {
    if state.len() > STATE_MAX {
        let (what, len) = ("a state", state.len());
        return Err(Trap::Room { what, len });
    }
    if input.len() > crate::abi::INBOX_MAX {
        let (what, len) = ("an input", input.len());
        return Err(Trap::Room { what, len });
    }
    let (at, len) = (profile.state, state.len());
    memory[at..at + 4].copy_from_slice(&(len as u32).to_le_bytes());
    memory[at + 4..at + 4 + len].copy_from_slice(state);
    memory[profile.inbox..profile.inbox + input.len()].copy_from_slice(input);
    Ok(())
}

/// Takes the state that the guest leaves.
fn leave(profile: &Profile, memory: &[u8]) -> Result<Vec<u8>, Trap> {
    let at = profile.state;
    let head = memory[at..at + 4].try_into().expect("four bytes");
    let len = u32::from_le_bytes(head);
    if len as usize > STATE_MAX {
        return Err(Trap::State { len });
    }
    Ok(memory[at + 4..at + 4 + len as usize].to_vec())
}

/// Links all imports of `mva1` to the desk: the same for wasmtime and wasmi, whose linkers are alike.
macro_rules! linked {
    ($linker:expr, $arrive:ident) => {{
        let linker = $linker;
        for import in crate::abi::Import::ALL {
            let name = import.name();
            match import.arity() {
                0 => linker.func_wrap("mva1", name, move |caller: Caller<'_, Guest>| {
                    $arrive(caller, import, [0; 4])
                })?,
                1 => linker.func_wrap("mva1", name, move |caller: Caller<'_, Guest>, a: u32| {
                    $arrive(caller, import, [a, 0, 0, 0]).map(|number| number as i32)
                })?,
                2 => linker.func_wrap(
                    "mva1",
                    name,
                    move |caller: Caller<'_, Guest>, a: u32, b: u32| {
                        $arrive(caller, import, [a, b, 0, 0]).map(|number| number as i32)
                    },
                )?,
                3 => linker.func_wrap(
                    "mva1",
                    name,
                    move |caller: Caller<'_, Guest>, a: u32, b: u32, c: u32| {
                        $arrive(caller, import, [a, b, c, 0]).map(|number| number as i32)
                    },
                )?,
                _ => linker.func_wrap(
                    "mva1",
                    name,
                    move |caller: Caller<'_, Guest>, a: u32, b: u32, c: u32, d: u32| {
                        $arrive(caller, import, [a, b, c, d]).map(|number| number as i32)
                    },
                )?,
            };
        }
    }};
}
pub(crate) use linked;

//! The ABI `mva1` as the module has it: imports, exports, and all the unsafe code there is.
//!
//! A module has one page of memory and one thread. The host calls `handle` and nothing else while the
//! agent runs, and reads or writes memory only where a call hands it a pointer and a length.
//!
//! Not here: what the calls mean (`host`).

#![allow(unsafe_code)]
#![deny(unsafe_op_in_unsafe_fn)]

use crate::{AgentId, Error, INPUT_BYTES_MAX, Input, State};
use core::ptr::addr_of_mut;

/// Makes a [`Handler`](crate::Handler) the agent of this module.
#[macro_export]
macro_rules! agent {
    ($handler:path) => {
        const _: () = {
            #[no_mangle]
            extern "C" fn handle(ptr: i32, len: i32) -> i32 {
                // SAFETY: only the host can name this function, and it does not call it while it runs.
                unsafe { $crate::abi::enter(ptr, len, $handler) }
            }
        };
    };
}

/// The version of the ABI.
#[no_mangle]
pub extern "C" fn mva_abi() -> i32 {
    1
}

/// The state, between wakes in the host's keeping.
#[no_mangle]
pub static mut MVA_STATE: State = State::EMPTY;

/// Where the host puts the input.
#[no_mangle]
pub static mut MVA_INBOX: [u8; INPUT_BYTES_MAX] = [0; INPUT_BYTES_MAX];

/// Runs one wake of an agent; its answer is the host's: not negative to commit.
///
/// # Safety
/// Not while another call of it runs.
// SAFETY: of its callers; it is public for the sake of the macro, in whose `handle` it is.
pub unsafe fn enter(
    ptr: i32,
    len: i32,
    handler: impl FnOnce(&Input<'_>, &mut State) -> Result<(), Error>,
) -> i32 {
    // SAFETY: the caller promises that nothing else in the module holds the two statics.
    let (inbox, state) = unsafe { (&*addr_of_mut!(MVA_INBOX), &mut *addr_of_mut!(MVA_STATE)) };
    let input = match inbox.get(..len as usize) {
        Some(input) if ptr as usize == inbox.as_ptr() as usize => input,
        _ => return Error::BadArgument.code(),
    };
    match Input::read(input).and_then(|input| handler(&input, state)) {
        Ok(()) => 0,
        Err(error) => error.code(),
    }
}

/// The calls as the host has them.
mod raw {
    #[link(wasm_import_module = "mva1")]
    extern "C" {
        pub(super) fn publish(
            topic: *const u8,
            topic_len: usize,
            data: *const u8,
            data_len: usize,
        ) -> i32;
        pub(super) fn send(agent: *const u8, data: *const u8, data_len: usize) -> i32;
        pub(super) fn remember(
            key: *const u8,
            key_len: usize,
            value: *const u8,
            value_len: usize,
        ) -> i32;
        pub(super) fn recall(
            query: *const u8,
            query_len: usize,
            out: *mut u8,
            out_cap: usize,
        ) -> i32;
        pub(super) fn kv_get(key: *const u8, key_len: usize, out: *mut u8, out_cap: usize) -> i32;
        pub(super) fn kv_put(
            key: *const u8,
            key_len: usize,
            value: *const u8,
            value_len: usize,
        ) -> i32;
        pub(super) fn now() -> i64;
        pub(super) fn random(out: *mut u8, len: usize) -> i32;
        pub(super) fn wake_after(ms: i32) -> i32;
        pub(super) fn log(level: i32, text: *const u8, text_len: usize) -> i32;
        pub(super) fn health(code: i32, text: *const u8, text_len: usize) -> i32;
        pub(super) fn infer(
            prompt: *const u8,
            prompt_len: usize,
            out: *mut u8,
            out_cap: usize,
        ) -> i32;
    }
}

pub(crate) fn publish(topic: &[u8], data: &[u8]) -> i32 {
    // SAFETY: the host only reads, and only within the two slices.
    unsafe { raw::publish(topic.as_ptr(), topic.len(), data.as_ptr(), data.len()) }
}

pub(crate) fn send(agent: &AgentId, data: &[u8]) -> i32 {
    // SAFETY: the host only reads: the 32 bytes of the name, and the slice.
    unsafe { raw::send(agent.as_ptr(), data.as_ptr(), data.len()) }
}

pub(crate) fn remember(key: &[u8], value: &[u8]) -> i32 {
    // SAFETY: the host only reads, and only within the two slices.
    unsafe { raw::remember(key.as_ptr(), key.len(), value.as_ptr(), value.len()) }
}

pub(crate) fn recall(query: &[u8], out: &mut [u8]) -> i32 {
    // SAFETY: the host reads within `query`, and writes within `out`, which is ours alone.
    unsafe { raw::recall(query.as_ptr(), query.len(), out.as_mut_ptr(), out.len()) }
}

pub(crate) fn kv_get(key: &[u8], out: &mut [u8]) -> i32 {
    // SAFETY: the host reads within `key`, and writes within `out`, which is ours alone.
    unsafe { raw::kv_get(key.as_ptr(), key.len(), out.as_mut_ptr(), out.len()) }
}

pub(crate) fn kv_put(key: &[u8], value: &[u8]) -> i32 {
    // SAFETY: the host only reads, and only within the two slices.
    unsafe { raw::kv_put(key.as_ptr(), key.len(), value.as_ptr(), value.len()) }
}

pub(crate) fn now() -> i64 {
    // SAFETY: the call takes nothing.
    unsafe { raw::now() }
}

pub(crate) fn random(out: &mut [u8]) -> i32 {
    // SAFETY: the host writes within `out`, which is ours alone.
    unsafe { raw::random(out.as_mut_ptr(), out.len()) }
}

pub(crate) fn wake_after(ms: i32) -> i32 {
    // SAFETY: the call takes a number only.
    unsafe { raw::wake_after(ms) }
}

pub(crate) fn log(level: i32, text: &[u8]) -> i32 {
    // SAFETY: the host only reads, and only within the slice.
    unsafe { raw::log(level, text.as_ptr(), text.len()) }
}

pub(crate) fn health(code: i32, text: &[u8]) -> i32 {
    // SAFETY: the host only reads, and only within the slice.
    unsafe { raw::health(code, text.as_ptr(), text.len()) }
}

pub(crate) fn infer(prompt: &[u8], out: &mut [u8]) -> i32 {
    // SAFETY: the host reads within `prompt`, and writes within `out`, which is ours alone.
    unsafe { raw::infer(prompt.as_ptr(), prompt.len(), out.as_mut_ptr(), out.len()) }
}

/// A panic ends the wake by a trap; nothing of it happened, and its text stays out of the module.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    core::arch::wasm32::unreachable()
}

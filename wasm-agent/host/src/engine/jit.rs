//! The compiler: wasmtime, for nodes.
//!
//! Instances come from a pool whose memory stays mapped: a fresh one takes a microsecond.
//!
//! Not here: what an engine is (`engine`).

use super::{Engine, LoadModule, Loaded, Ran, Trap, enter, leave, linked};
use crate::abi::{Import, PAGE};
use crate::desk::{Desk, Overspent};
use crate::profile::Profile;
use std::sync::Arc;
use wasmtime::{
    Caller, Config, Extern, InstanceAllocationStrategy, InstancePre, Linker, Memory, Module,
    ModuleExport, OperatorCost, PoolingAllocationConfig, Store, TypedFunc,
};

/// Guests that may run at once.
const AT_ONCE: u32 = 64;

/// Bytes of stack that a guest may use.
const STACK: usize = 256 * 1024;

/// What an instruction costs that calls the engine instead of being compiled: about as much fuel as other
/// instructions take in the same time. A guest that asks for memory without end would else hold its
/// thread twenty times as long as one that reckons.
const CALLS_ENGINE: u8 = 64;

/// wasmtime.
pub struct Jit {
    engine: wasmtime::Engine,
    linker: Linker<Guest>,
}

/// What a running guest's calls find.
struct Guest {
    desk: Desk,
    memory: Option<Memory>,
}

struct Ready {
    engine: wasmtime::Engine,
    pre: InstancePre<Guest>,
    /// Where the memory and `handle` are among the exports: found once, and not by name at each wake.
    memory: ModuleExport,
    handle: ModuleExport,
    profile: Profile,
}

impl Jit {
    /// A compiler.
    ///
    /// # Errors
    /// If this machine has no room for its pool of instances.
    pub fn new() -> Result<Self, LoadModule> {
        Self::built().map_err(|why| fail(&why))
    }

    fn built() -> wasmtime::Result<Self> {
        let mut pool = PoolingAllocationConfig::new();
        pool.total_core_instances(AT_ONCE)
            .total_memories(AT_ONCE)
            .total_tables(AT_ONCE)
            .max_memory_size(PAGE)
            .linear_memory_keep_resident(PAGE)
            .table_keep_resident(PAGE);
        let mut config = Config::new();
        let cost = OperatorCost {
            MemoryGrow: CALLS_ENGINE,
            MemoryInit: CALLS_ENGINE,
            MemoryCopy: CALLS_ENGINE,
            MemoryFill: CALLS_ENGINE,
            DataDrop: CALLS_ENGINE,
            TableInit: CALLS_ENGINE,
            TableCopy: CALLS_ENGINE,
            ElemDrop: CALLS_ENGINE,
            ..OperatorCost::default()
        };
        config
            .consume_fuel(true)
            .operator_cost(cost)
            .max_wasm_stack(STACK)
            .memory_reservation(PAGE as u64)
            .memory_guard_size(PAGE as u64)
            .memory_init_cow(false)
            .allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
        let engine = wasmtime::Engine::new(&config)?;
        let mut linker = Linker::new(&engine);
        linked!(&mut linker, arrive);
        Ok(Self { engine, linker })
    }
}

impl Engine for Jit {
    fn name(&self) -> &'static str {
        "wasmtime"
    }

    fn load(&self, module: &[u8], profile: &Profile) -> Result<Arc<dyn Loaded>, LoadModule> {
        let module = Module::new(&self.engine, module).map_err(|why| fail(&why))?;
        let pre = self.linker.instantiate_pre(&module);
        let export = |name| {
            module
                .get_export_index(name)
                .expect("the profile asks for it")
        };
        Ok(Arc::new(Ready {
            engine: self.engine.clone(),
            memory: export("memory"),
            handle: export("handle"),
            pre: pre.map_err(|why| fail(&why))?,
            profile: profile.clone(),
        }))
    }
}

impl Loaded for Ready {
    fn run(&self, state: &[u8], input: &[u8], fuel: u64, desk: Desk) -> (Desk, Result<Ran, Trap>) {
        let guest = Guest { desk, memory: None };
        let mut store = Store::new(&self.engine, guest);
        let ran = self.handle(&mut store, state, input, fuel);
        (store.into_data().desk, ran)
    }

    fn start(&self, desk: Desk) -> Result<(), Trap> {
        let mut store = Store::new(&self.engine, Guest { desk, memory: None });
        // Filling the memory takes fuel too.
        let filled = store.set_fuel(PAGE as u64);
        let instance = filled.and_then(|()| self.pre.instantiate(&mut store));
        instance.map(drop).map_err(|why| stopped(&why, PAGE as u64))
    }
}

impl Ready {
    fn handle(
        &self,
        store: &mut Store<Guest>,
        state: &[u8],
        input: &[u8],
        fuel: u64,
    ) -> Result<Ran, Trap> {
        let stopped = |why: wasmtime::Error| stopped(&why, fuel);
        store.set_fuel(fuel).map_err(stopped)?;
        let instance = self.pre.instantiate(&mut *store).map_err(stopped)?;
        let memory = instance.get_module_export(&mut *store, &self.memory);
        let memory = memory.and_then(Extern::into_memory);
        let memory = memory.expect("the profile asks for a memory");
        store.data_mut().memory = Some(memory);
        enter(&self.profile, memory.data_mut(&mut *store), state, input)?;
        let handle = instance.get_module_export(&mut *store, &self.handle);
        let handle = handle.and_then(Extern::into_func);
        let handle = handle.expect("the profile asks for a function");
        let handle: TypedFunc<(u32, u32), i32> = handle
            .typed(&*store)
            .expect("the profile asks for its type");
        let args = (self.profile.inbox as u32, input.len() as u32);
        let code = handle.call(&mut *store, args).map_err(stopped)?;
        let state = leave(&self.profile, memory.data(&*store))?;
        Ok(Ran { code, state })
    }
}

fn arrive(mut caller: Caller<'_, Guest>, import: Import, args: [u32; 4]) -> wasmtime::Result<i64> {
    let Some(memory) = caller.data().memory else {
        return Ok(0);
    };
    let (memory, guest) = memory.data_and_store_mut(&mut caller);
    Ok(guest.desk.call(import, args, memory)?)
}

fn fail(why: &wasmtime::Error) -> LoadModule {
    LoadModule {
        engine: "wasmtime",
        why: format!("{why:#}"),
    }
}

fn stopped(why: &wasmtime::Error, fuel: u64) -> Trap {
    if let Some(Overspent { calls }) = why.downcast_ref::<Overspent>() {
        return Trap::Overspent { calls: *calls };
    }
    match why.downcast_ref::<wasmtime::Trap>() {
        Some(wasmtime::Trap::OutOfFuel) => Trap::OutOfFuel { fuel },
        Some(wasmtime::Trap::StackOverflow) => Trap::Stack,
        Some(trap) => Trap::Wrong {
            why: trap.to_string(),
        },
        None => Trap::Wrong {
            why: why.to_string(),
        },
    }
}

//! The interpreter: wasmi, for devices without room for a compiler and for checking the other engine.
//!
//! Not here: what an engine is (`engine`).

use super::{Engine, LoadModule, Loaded, Ran, Trap, enter, leave, linked};
use crate::abi::Import;
use crate::desk::{Desk, Overspent};
use crate::profile::Profile;
use std::sync::Arc;
use wasmi::{Caller, Config, Linker, Memory, Module, Store, TrapCode, errors::HostError};

/// wasmi.
pub struct Interpreter {
    engine: wasmi::Engine,
    linker: Arc<Linker<Guest>>,
}

/// What a running guest's calls find.
struct Guest {
    desk: Desk,
    memory: Option<Memory>,
}

struct Ready {
    engine: wasmi::Engine,
    linker: Arc<Linker<Guest>>,
    module: Module,
    profile: Profile,
}

impl HostError for Overspent {}

impl Interpreter {
    /// An interpreter.
    pub fn new() -> Self {
        let mut config = Config::default();
        config.consume_fuel(true).floats(false);
        config.set_max_recursion_depth(512);
        let engine = wasmi::Engine::new(&config);
        let mut linker = Linker::new(&engine);
        let linked: Result<(), wasmi::errors::LinkerError> = (|| {
            linked!(&mut linker, arrive);
            Ok(())
        })();
        linked.expect("names differ");
        Self {
            engine,
            linker: Arc::new(linker),
        }
    }
}

impl Default for Interpreter {
    fn default() -> Self {
        Self::new()
    }
}

impl Engine for Interpreter {
    fn name(&self) -> &'static str {
        "wasmi"
    }

    fn load(&self, module: &[u8], profile: &Profile) -> Result<Arc<dyn Loaded>, LoadModule> {
        let fail = |why: wasmi::Error| LoadModule {
            engine: "wasmi",
            why: why.to_string(),
        };
        Ok(Arc::new(Ready {
            engine: self.engine.clone(),
            linker: self.linker.clone(),
            module: Module::new(&self.engine, module).map_err(fail)?,
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
        let fuel = crate::abi::PAGE as u64;
        let filled = store.set_fuel(fuel);
        let instance =
            filled.and_then(|()| self.linker.instantiate_and_start(&mut store, &self.module));
        instance.map(drop).map_err(|why| stopped(&why, fuel))
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
        let stopped = |why: wasmi::Error| stopped(&why, fuel);
        store.set_fuel(fuel).map_err(stopped)?;
        let linked = self.linker.instantiate_and_start(&mut *store, &self.module);
        let instance = linked.map_err(stopped)?;
        let memory = instance.get_memory(&*store, "memory");
        let memory = memory.expect("the profile asks for a memory");
        store.data_mut().memory = Some(memory);
        enter(&self.profile, memory.data_mut(&mut *store), state, input)?;
        let handle = instance.get_typed_func::<(u32, u32), i32>(&*store, "handle");
        let handle = handle.expect("the profile asks for it");
        let args = (self.profile.inbox as u32, input.len() as u32);
        let code = handle.call(&mut *store, args).map_err(stopped)?;
        let state = leave(&self.profile, memory.data(&*store))?;
        Ok(Ran { code, state })
    }
}

fn arrive(
    mut caller: Caller<'_, Guest>,
    import: Import,
    args: [u32; 4],
) -> Result<i64, wasmi::Error> {
    let Some(memory) = caller.data().memory else {
        return Ok(0);
    };
    let (memory, guest) = memory.data_and_store_mut(&mut caller);
    guest
        .desk
        .call(import, args, memory)
        .map_err(wasmi::Error::host)
}

fn stopped(why: &wasmi::Error, fuel: u64) -> Trap {
    if let Some(Overspent { calls }) = why.downcast_ref::<Overspent>() {
        return Trap::Overspent { calls: *calls };
    }
    match why.as_trap_code() {
        Some(TrapCode::OutOfFuel) => Trap::OutOfFuel { fuel },
        Some(TrapCode::StackOverflow) => Trap::Stack,
        _ => Trap::Wrong {
            why: why.to_string(),
        },
    }
}

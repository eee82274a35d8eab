//! The kernel: our own interpreter, which is all there is on a small device, as a third engine.
//!
//! It has another maker than the other two and shares no line with them, so what all three agree on is
//! likelier what the specification says. A device reads its module once; here it is read again for each
//! wake, since the kernel borrows a module's bytes: it is an engine to check with, not a quick one. Some
//! of its limits are below those of the profile; a module beyond them it does not load.
//!
//! Not here: what an engine is (`engine`), the interpreter itself (`aquifer_kernel`).

use super::{Engine, LoadModule, Loaded, Ran, Trap, enter, leave};
use crate::abi::{Import, PAGE};
use crate::desk::{Desk, Overspent};
use crate::profile::Profile;
use aquifer_kernel::{Export, Host, HostTrap, Instance, Module};
use std::sync::Arc;

const _: () = assert!(PAGE == aquifer_kernel::limits::PAGE_BYTES, "one page");

/// The kernel.
#[derive(Clone, Copy, Default, Debug)]
pub struct Kernel;

struct Ready {
    module: Vec<u8>,
    handle: u32,
    profile: Profile,
}

/// What a running guest's calls find.
struct Guest {
    desk: Desk,
    /// It was stopped for this.
    overspent: Option<Overspent>,
}

impl Engine for Kernel {
    fn name(&self) -> &'static str {
        "kernel"
    }

    fn load(&self, module: &[u8], profile: &Profile) -> Result<Arc<dyn Loaded>, LoadModule> {
        let fail = |why: String| LoadModule {
            engine: "kernel",
            why,
        };
        let parsed = Module::parse(module).map_err(|why| fail(why.to_string()))?;
        let Some(Export::Function(handle)) = parsed.export(b"handle") else {
            return Err(fail("it exports no function `handle`".into()));
        };
        Ok(Arc::new(Ready {
            module: module.to_vec(),
            handle,
            profile: profile.clone(),
        }))
    }
}

impl Loaded for Ready {
    fn run(&self, state: &[u8], input: &[u8], fuel: u64, desk: Desk) -> (Desk, Result<Ran, Trap>) {
        let overspent = None;
        let mut guest = Guest { desk, overspent };
        let ran = self.handle(&mut guest, state, input, fuel);
        (guest.desk, ran)
    }

    fn start(&self, _: Desk) -> Result<(), Trap> {
        let module = self.parsed();
        Instance::new(&module, &mut page());
        Ok(())
    }
}

impl Ready {
    fn parsed(&self) -> Module<'_> {
        Module::parse(&self.module).expect("it was read when it was loaded")
    }

    fn handle(
        &self,
        guest: &mut Guest,
        state: &[u8],
        input: &[u8],
        fuel: u64,
    ) -> Result<Ran, Trap> {
        let (module, mut page) = (self.parsed(), page());
        let mut instance = Instance::new(&module, &mut page);
        enter(&self.profile, instance.memory(), state, input)?;
        let args = [self.profile.inbox as u64, input.len() as u64];
        let mut left = fuel;
        let ended = instance.invoke(self.handle, &args, &mut left, guest);
        let code = ended.map_err(|why| match guest.overspent {
            Some(Overspent { calls }) => Trap::Overspent { calls },
            None => stopped(why, fuel),
        })?;
        let code = code.expect("the profile asks for a result") as u32 as i32;
        let state = leave(&self.profile, instance.memory())?;
        Ok(Ran { code, state })
    }
}

impl Host for Guest {
    fn call(
        &mut self,
        import: &aquifer_kernel::Import<'_>,
        arguments: &[u64],
        memory: &mut [u8],
    ) -> Result<Option<u64>, HostTrap> {
        let name = std::str::from_utf8(import.name).ok();
        let import = name.and_then(Import::named);
        let import = import.expect("the profile knows every import");
        let mut args = [0; 4];
        for (arg, argument) in args.iter_mut().zip(arguments) {
            *arg = *argument as u32;
        }
        match self.desk.call(import, args, memory) {
            Ok(number) => Ok(Some(number as u64)),
            Err(overspent) => {
                self.overspent = Some(overspent);
                Err(HostTrap(0))
            }
        }
    }
}

fn page() -> Box<[u8; PAGE]> {
    let page = vec![0; PAGE].into_boxed_slice().try_into();
    page.expect("it has the bytes of a page")
}

fn stopped(why: aquifer_kernel::Trap, fuel: u64) -> Trap {
    match why {
        aquifer_kernel::Trap::OutOfFuel => Trap::OutOfFuel { fuel },
        aquifer_kernel::Trap::StackExhausted => Trap::Stack,
        _ => Trap::Wrong {
            why: why.to_string(),
        },
    }
}

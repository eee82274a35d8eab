//! Two engines in one: a module runs at once on one that loads quickly, and on the quicker one as soon as
//! that has compiled it.
//!
//! To compile the worst module that may be takes a quarter of a second, and a stranger may bring one after
//! the other; nobody waits for that here. Engines agree on every step, so nothing changes at the moment
//! when one takes over but how long a wake takes. Modules are compiled one after the other on a thread;
//! when too many wait, a module stays with the first engine.
//!
//! Not here: what an engine is (`engine`).

use super::{Engine, LoadModule, Loaded, Ran, Trap};
use crate::desk::Desk;
use crate::profile::Profile;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, OnceLock, Weak};
use std::thread::JoinHandle;

/// Most modules that wait to be compiled.
const WAITING_MAX: usize = 64;

/// An engine that loads quickly, and one that runs quickly.
pub struct Tiered {
    first: Box<dyn Engine>,
    /// None when it closes.
    into: Option<SyncSender<Waiting>>,
    thread: Option<JoinHandle<()>>,
}

struct Waiting {
    module: Vec<u8>,
    /// Gone if nobody has the module loaded any more.
    ready: Weak<Ready>,
}

struct Ready {
    profile: Profile,
    first: Arc<dyn Loaded>,
    then: OnceLock<Arc<dyn Loaded>>,
}

/// What an agent holds: while it does, compiling is worth while.
struct Held(Arc<Ready>);

impl Tiered {
    /// Modules run on `first` until `then` has loaded them.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn new(first: Box<dyn Engine>, then: Box<dyn Engine>) -> std::io::Result<Self> {
        let (into, waiting) = sync_channel::<Waiting>(WAITING_MAX);
        let thread = std::thread::Builder::new().name("agents-compile".into());
        let thread = thread.spawn(move || {
            for Waiting { module, ready } in waiting {
                let Some(ready) = ready.upgrade() else {
                    continue;
                };
                // What this one does not load stays with the first.
                if let Ok(loaded) = then.load(&module, &ready.profile) {
                    let _ = ready.then.set(loaded);
                }
            }
        })?;
        Ok(Self {
            first,
            into: Some(into),
            thread: Some(thread),
        })
    }
}

impl Engine for Tiered {
    fn name(&self) -> &'static str {
        "tiered"
    }

    fn load(&self, module: &[u8], profile: &Profile) -> Result<Arc<dyn Loaded>, LoadModule> {
        let ready = Arc::new(Ready {
            profile: profile.clone(),
            first: self.first.load(module, profile)?,
            then: OnceLock::new(),
        });
        let waiting = Waiting {
            module: module.to_vec(),
            ready: Arc::downgrade(&ready),
        };
        // With no room it stays with the first.
        if let Some(into) = &self.into {
            let _ = into.try_send(waiting);
        }
        Ok(Arc::new(Held(ready)))
    }
}

impl Drop for Tiered {
    /// Waits for the module that is being compiled.
    fn drop(&mut self) {
        self.into = None;
        if let Some(thread) = self.thread.take() {
            // One that panicked has said so.
            let _ = thread.join();
        }
    }
}

impl Held {
    fn best(&self) -> &dyn Loaded {
        &**self.0.then.get().unwrap_or(&self.0.first)
    }
}

impl Loaded for Held {
    fn run(&self, state: &[u8], input: &[u8], fuel: u64, desk: Desk) -> (Desk, Result<Ran, Trap>) {
        self.best().run(state, input, fuel, desk)
    }

    fn start(&self, desk: Desk) -> Result<(), Trap> {
        self.best().start(desk)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::{Cause, Imports, Wakeup};
    use crate::desk::Quiet;
    use crate::engine::interpreter::Interpreter;
    use crate::manifest::{Budget, Manifest, Rate};
    use std::sync::Mutex;
    use std::sync::mpsc::Receiver;

    /// Loads what kernels load, when it is told to.
    struct Told(Mutex<Receiver<()>>);

    impl Engine for Told {
        fn name(&self) -> &'static str {
            "told"
        }

        fn load(&self, module: &[u8], profile: &Profile) -> Result<Arc<dyn Loaded>, LoadModule> {
            let told = self.0.lock().expect("nobody panicked");
            told.recv().expect("somebody tells it");
            crate::engine::kernel::Kernel.load(module, profile)
        }
    }

    fn desk() -> Desk {
        let manifest = Manifest {
            name: "tiered".into(),
            module: [0; 32],
            imports: Imports::USUAL,
            publishes: vec![],
            follows: vec![],
            remembers: vec![],
            budget: Budget::USUAL,
            rate: Rate::USUAL,
            kv_bytes: 0,
            not_after: 0,
            attest: None,
        };
        let wakeup = Wakeup {
            cause: Cause::Message,
            from: None,
            topic: String::new(),
            stamp: 0,
            body: vec![],
        };
        Desk::new(Arc::new(manifest), (&[0; 32], 0), &wakeup, Box::new(Quiet))
    }

    #[test]
    fn a_module_runs_before_it_is_compiled_and_the_same_after() {
        let (tell, told) = sync_channel(WAITING_MAX);
        let then = Box::new(Told(Mutex::new(told)));
        let tiered = Tiered::new(Box::new(Interpreter::new()), then).expect("a thread");
        let module = include_bytes!("../../../guest/modules/echo.wasm");
        let profile = Profile::of(module).expect("an agent");
        let input = [0x85, 0, 0x40, 0x60, 0, 0x41, 7];
        let run = |loaded: &dyn Loaded| loaded.run(&[], &input, 1_000_000, desk()).1;
        // Nobody waits for those that are let go of, nor for those that there is no room for.
        for _ in 0..3 * WAITING_MAX {
            tiered.load(module, &profile).expect("loads");
        }
        let interpreted = run(&*tiered.load(module, &profile).expect("loads"));
        assert!(interpreted.is_ok(), "{interpreted:?}");
        (0..WAITING_MAX).for_each(|_| tell.send(()).expect("it listens"));
        let ready = Arc::new(Ready {
            profile: profile.clone(),
            first: Interpreter::new().load(module, &profile).expect("loads"),
            then: OnceLock::new(),
        });
        let held = Held(ready.clone());
        let into = tiered.into.as_ref().expect("it is open");
        let waiting = Waiting {
            module: module.to_vec(),
            ready: Arc::downgrade(&ready),
        };
        into.send(waiting).expect("it listens");
        drop(tell);
        drop(tiered);
        assert!(ready.then.get().is_some(), "it was compiled before the end");
        assert_eq!(interpreted, run(&held));
    }
}
